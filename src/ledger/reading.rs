//! The state folder as it can be read without changing it, also beside a collector that writes it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, eaccess};

use super::cursor::Cursor;
use super::journal::Journal;
use super::key::Key;
use super::{LOCK, LedgerError, Looks, Moved, Owner, delivered, journal, lock, looks};
use crate::record::Fingerprinter;
use crate::report::Report;
use crate::window::Window;

/// Whether [`super::StateDirectory::open`] would succeed now; `false` if it would have to make the folder.
///
/// The lock is held for an instant, shared, to find out whether somebody holds it.
///
/// # Errors
///
/// What `open` would say.
pub fn probe(path: &Path) -> Result<bool, LedgerError> {
    let Ok(metadata) = fs::metadata(path) else {
        let mut above = path.ancestors().skip(1).map(here_if_empty);
        let above = above.find(|above| above.exists());
        let above = above.unwrap_or(Path::new("."));
        allowed(above, AccessFlags::W_OK | AccessFlags::X_OK)
            .map_err(|cause| LedgerError::io("make the state folder in", above, cause))?;
        return Ok(false);
    };
    if !metadata.is_dir() {
        return Err(LedgerError::io(
            "use",
            path,
            io::ErrorKind::NotADirectory.into(),
        ));
    }
    allowed(path, AccessFlags::all()).map_err(|cause| LedgerError::io("write in", path, cause))?;
    // A system that does not tell has as much room as it may have.
    if statvfs(path).is_ok_and(|disk| disk.blocks() > 0 && disk.blocks_available() == 0) {
        let full = io::ErrorKind::StorageFull.into();
        return Err(LedgerError::io("write in", path, full));
    }
    let file = path.join(LOCK);
    if file.exists() {
        let open = allowed(&file, AccessFlags::W_OK).and_then(|()| File::open(&file));
        let open = open.map_err(|cause| LedgerError::io("open", &file, cause))?;
        match open.try_lock_shared() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LedgerError::Locked {
                    directory: path.to_owned(),
                });
            }
            Err(TryLockError::Error(cause)) => return Err(lock::refused(path, cause)),
        }
    }
    Key::load(path)?;
    Ok(true)
}

pub(super) fn here_if_empty(path: &Path) -> &Path {
    if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    }
}

fn allowed(path: &Path, how: AccessFlags) -> io::Result<()> {
    Ok(eaccess(path, how)?)
}

/// Makes fingerprints of a service's rows with the secret that its state in the folder at `path` was made with; `None` if there is none yet.
///
/// # Errors
///
/// If it cannot be read, or is damaged.
pub fn fingerprinter(
    path: &Path,
    owner: Owner<'_>,
    report: &Report,
) -> Result<Option<Fingerprinter>, LedgerError> {
    let key = Key::of(path, &owner.folder(path))?;
    Ok(key.map(|key| key.fingerprinter(report)))
}

/// A service that has a folder in a state folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceFolder {
    /// The folder.
    pub folder: PathBuf,
    /// The input's name.
    pub input: String,
    /// The input's id.
    pub id: String,
    /// The service's report.
    pub report: &'static Report,
}

/// All services that have a folder in the state folder at `path`, in the order of their names.
///
/// # Errors
///
/// If the folder cannot be read.
pub fn services(path: &Path) -> Result<Vec<ServiceFolder>, LedgerError> {
    let read = |cause| LedgerError::io("read", path, cause);
    let mut services = vec![];
    for entry in fs::read_dir(path).map_err(read)? {
        let folder = entry.map_err(read)?.path();
        let name = folder.file_name().and_then(|name| name.to_str());
        // None of the three holds a dot.
        let parts: Vec<_> = name.unwrap_or_default().split('.').collect();
        let [input, id, service] = parts[..] else {
            continue;
        };
        if let Some(report) = Report::by_service(service).filter(|_| folder.is_dir()) {
            let (input, id) = (input.to_owned(), id.to_owned());
            services.push(ServiceFolder {
                folder,
                input,
                id,
                report,
            });
        }
    }
    services.sort_by(|one, other| one.folder.cmp(&other.folder));
    Ok(services)
}

/// What a service's files tell.
#[derive(Debug)]
pub struct Reading {
    /// The cursor as it was last committed; `None` if there is none.
    pub cursor: Option<Cursor>,
    /// The window that was begun, and is not committed.
    pub unfinished: Option<Window>,
    /// Each output that has a journal, and how many records beyond the cursor it has confirmed.
    pub confirmed: Vec<(String, u64)>,
    /// The early passes that have run, by their delays in seconds, and their frontiers.
    pub passes: Vec<(u64, DateTime<Utc>)>,
    /// How often the reporting service was seen to be back; `None` where it is not looked for, or that cannot be read.
    pub looks: Option<Looks>,
    /// Why the input does not start, where its state was exported or its import was interrupted.
    pub moved: Option<Moved>,
}

impl ServiceFolder {
    /// Whose ledger it is.
    pub fn owner(&self) -> Owner<'_> {
        Owner {
            input: &self.input,
            id: &self.id,
            service: self.report.service,
        }
    }
}

impl Reading {
    /// Reads the files of one service in the state folder at `path`; one without files is at its beginning.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or is damaged; or has changed meanwhile, where a collector runs: then the call may be repeated.
    pub fn of(path: &Path, owner: Owner<'_>) -> Result<Self, LedgerError> {
        let folder = owner.folder(path);
        let outputs = outputs(&folder)?;
        let moved = Moved::of(path, owner.input, owner.id)?;
        let Some(key) = Key::of(path, &folder)? else {
            if outputs.is_empty() && !folder.join(super::cursor::FILE).exists() {
                return Ok(Self {
                    cursor: None,
                    unfinished: None,
                    confirmed: vec![],
                    passes: vec![],
                    looks: None,
                    moved,
                });
            }
            return Err(LedgerError::KeyMissing {
                file: Key::path(path),
                folder,
            });
        };
        let cursor = Cursor::load(&folder, key.id())?;
        let mark = cursor.as_ref().map(Cursor::mark);
        let (mut all, mut confirmed) = (vec![], vec![]);
        for output in outputs {
            let recovered = Journal::read(&folder, &output, &key, mark)?;
            let records = recovered.iter().map(|window| window.fingerprints.len());
            confirmed.push((output, records.sum::<usize>() as u64));
            all.extend(recovered);
        }
        let unfinished = mark.and_then(|mark| super::unfinished(mark.cursor, all.iter()));
        Ok(Self {
            cursor,
            unfinished,
            confirmed,
            passes: passes(&folder, &key),
            looks: looks::read(&folder).unwrap_or_default(),
            moved,
        })
    }
}

/// The frontiers of early passes, as far as they can be read: they lose nothing where they cannot.
fn passes(folder: &Path, key: &Key) -> Vec<(u64, DateTime<Utc>)> {
    let entries = fs::read_dir(folder.join(delivered::FOLDER));
    let entries = entries.into_iter().flatten().flatten();
    let pass = |entry: fs::DirEntry| {
        let name = entry.file_name();
        let delay = name.to_str()?.strip_prefix(delivered::PASS)?;
        let cursor = Cursor::load(&entry.path(), key.id()).ok()??;
        Some((delay.parse().ok()?, cursor.at))
    };
    let mut passes: Vec<_> = entries.filter_map(pass).collect();
    passes.sort_unstable();
    passes
}

/// The outputs that have a journal in a service's folder.
pub(super) fn outputs(folder: &Path) -> Result<Vec<String>, LedgerError> {
    let read = |cause| LedgerError::io("read", folder, cause);
    let entries = match fs::read_dir(folder) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        entries => entries.map_err(read)?,
    };
    let mut outputs = vec![];
    for entry in entries {
        let name = entry.map_err(read)?.file_name();
        let output = name
            .to_str()
            .and_then(|name| name.strip_prefix(journal::PREFIX));
        // An output's name holds no dot; what is put in a journal's place does.
        outputs.extend(output.filter(|name| !name.contains('.')).map(str::to_owned));
    }
    outputs.sort();
    Ok(outputs)
}

/// Whether this process may write the files of one service in the state folder at `path`.
///
/// # Errors
///
/// The first that cannot.
pub fn probe_service(path: &Path, owner: Owner<'_>) -> Result<(), LedgerError> {
    let folder = &owner.folder(path);
    if !folder.exists() {
        return Ok(());
    }
    let check = |path: &Path, how| {
        allowed(path, how).map_err(|cause| LedgerError::io("write", path, cause))
    };
    check(folder, AccessFlags::all())?;
    for output in outputs(folder)? {
        check(&folder.join(journal::file_name(&output)), AccessFlags::W_OK)?;
    }
    Ok(())
}
