//! Files and folders of the state: for their owner alone, never reached through a link, and replaced in one atomic step or not at all.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::sync::Once;

use nix::unistd::geteuid;
use tracing::{error, info, warn};

use super::LedgerError;

const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;
/// What a mode gives to the group and to all others.
const OTHERS: u32 = 0o077;
/// The right to write in it: of all others, and of the group.
const OTHERS_WRITE: u32 = 0o002;
const GROUP_WRITES: u32 = 0o020;
/// Marks a folder that many use, such as `/tmp`.
const SHARED: u32 = 0o1000;

/// Opens a file that must not be a link; one that is made is its owner's alone.
pub(super) fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    options
        .mode(FILE_MODE)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

/// Writes `parts` aside, syncs, puts the file in the place of `folder/name`, and syncs the folder.
pub(super) fn replace(folder: &Path, name: &str, parts: &[&[u8]]) -> Result<(), LedgerError> {
    let aside = folder.join(format!("{name}.new"));
    let path = folder.join(name);
    let write = || {
        #[cfg(test)]
        refused()?;
        // What an earlier run has left there may have another mode, or be a link.
        remove(&aside)?;
        let mut file = open(&aside, File::options().write(true).create_new(true))?;
        for part in parts {
            file.write_all(part)?;
        }
        file.sync_all()
    };
    write().map_err(|cause| LedgerError::io("write", &aside, cause))?;
    fs::rename(&aside, &path).map_err(|cause| LedgerError::io("replace", &path, cause))?;
    sync_folder(folder)
}

/// Whether a name is one that [`replace`] writes to first.
pub(super) fn is_aside(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, end)| end == "new")
}

/// Removes a file that may be missing.
pub(super) fn remove_at(path: &Path) -> Result<(), LedgerError> {
    remove(path).map_err(|cause| LedgerError::io("remove", path, cause))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes a folder of a service where there is none, and takes from others what they may do with it and its files. Its name is durable
/// then: without it, what is synced inside is lost.
pub(super) fn make_folder(path: &Path) -> Result<(), LedgerError> {
    make(path)?;
    let protect = || {
        let folder = open(path, File::options().read(true))?;
        withdraw(&folder, &folder.metadata()?, FOLDER_MODE)?;
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                let file = open(&entry.path(), File::options().read(true))?;
                withdraw(&file, &file.metadata()?, FILE_MODE)?;
            }
        }
        Ok(())
    };
    told_where_refused(path, protect());
    Ok(())
}

/// Makes the state folder where there is none, and returns where it is. Only root must not reach it through a link.
pub(super) fn make_state_folder(path: &Path) -> Result<PathBuf, LedgerError> {
    let is_link = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink());
    let path = if is_link && !geteuid().is_root() {
        fs::canonicalize(path).map_err(|cause| LedgerError::io("find", path, cause))?
    } else {
        path.to_owned()
    };
    make(&path)?;
    Ok(path)
}

fn make(path: &Path) -> Result<(), LedgerError> {
    let failed = |cause| LedgerError::io("make", path, cause);
    let existed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_symlink() => {
            return Err(failed(io::Error::from_raw_os_error(libc::ELOOP)));
        }
        known => known.is_ok(),
    };
    DirBuilder::new()
        .recursive(true)
        .mode(FOLDER_MODE)
        .create(path)
        .map_err(failed)?;
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    match sync_folder(above.unwrap_or(Path::new("."))) {
        // An earlier run may have made it and ended before this; but the folder above it need not be ours.
        Err(_) if existed => Ok(()),
        synced => synced,
    }
}

/// Corrects a state folder in which others may write, or warns where that is impossible.
pub(super) fn protect_state_folder(path: &Path) {
    let Ok(folder) = open(path, File::options().read(true)) else {
        return; // reading and writing it fails as well, and says so
    };
    let Ok(metadata) = folder.metadata() else {
        return;
    };
    let is_ours = is_ours(&metadata);
    // Where the folder is another's, this process may be in it by its group alone, as with `fsGroup` of Kubernetes.
    let excessive = if is_ours {
        GROUP_WRITES | OTHERS_WRITE
    } else {
        OTHERS_WRITE
    };
    let mode = metadata.mode() & 0o7777;
    if mode & excessive == 0 {
        return;
    }
    let before = format!("{mode:04o}");
    let is_shared = mode & SHARED != 0;
    if is_ours && !is_shared && withdraw(&folder, &metadata, FOLDER_MODE).is_ok() {
        info!(folder = %path.display(), before, "others could write in the state folder; it is its owner's alone now");
    } else {
        let action = if is_shared {
            "give the collector a folder of its own (globals.persistence.config.directory_name)"
        } else {
            "take the right to write from others (`chmod o-w`), or give the collector a folder of its own"
        };
        warn!(folder = %path.display(), mode = before, action, "others may write in the state folder, and could forge or remove the state");
    }
}

fn is_ours(metadata: &Metadata) -> bool {
    metadata.uid() == geteuid().as_raw()
}

/// Takes from others what they may do with the open file at `path`.
pub(super) fn protect(file: &File, path: &Path) {
    let protected = file
        .metadata()
        .and_then(|metadata| withdraw(file, &metadata, FILE_MODE));
    told_where_refused(path, protected);
}

/// The same for the file at `path`, if it is there.
pub(super) fn protect_at(path: &Path) {
    match open(path, File::options().read(true)) {
        Ok(file) => protect(&file, path),
        Err(cause) if cause.kind() == ErrorKind::NotFound => {}
        Err(cause) => told_where_refused(path, Err(cause)),
    }
}

/// Says once that others may still do with a file or folder of the state what they could. It holds nothing up: what cannot be opened at all
/// is met again where it is read and written.
fn told_where_refused(path: &Path, protected: io::Result<()>) {
    static TOLD: Once = Once::new();
    if let Err(cause) = protected {
        TOLD.call_once(|| {
            error!(
                state = %path.display(),
                error = %cause,
                action = "see who may read it, and take from others what they need not (`chmod -R go= state`)",
                "it cannot be made sure that others have no access to the state"
            );
        });
    }
}

/// Leaves a file or folder of ours at most the rights of `mode`.
fn withdraw(file: &File, metadata: &Metadata, mode: u32) -> io::Result<()> {
    let given = metadata.mode() & 0o7777;
    if !is_ours(metadata) || given & OTHERS == 0 {
        return Ok(());
    }
    file.set_permissions(Permissions::from_mode(given & mode))
}

/// Makes the names in a folder durable, as far as its file system can.
pub(super) fn sync_folder(folder: &Path) -> Result<(), LedgerError> {
    static UNABLE: Once = Once::new();
    let sync = || File::open(folder)?.sync_all();
    match sync() {
        Err(cause) if is_unable(&cause) => {
            UNABLE.call_once(|| {
                warn!(
                    folder = %folder.display(),
                    error = %cause,
                    "the file system cannot sync a folder: after a crash of the machine the state may be an older one, and records may come \
                     again; none is lost"
                );
            });
            Ok(())
        }
        synced => synced.map_err(|cause| LedgerError::io("sync", folder, cause)),
    }
}

/// Whether the file system has no such operation at all.
pub(super) fn is_unable(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP)
    )
}

/// Whether the file is the one at `path`: it may have been removed, or another put in its place.
pub(super) fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(ours), Ok(there)) = (file.metadata(), fs::symlink_metadata(path)) else {
        return false;
    };
    (ours.dev(), ours.ino()) == (there.dev(), there.ino())
}

/// Reads a file that may be missing.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, LedgerError> {
    let mut bytes = vec![];
    let read = open(path, File::options().read(true)).and_then(|mut file| {
        file.read_to_end(&mut bytes)?;
        Ok(())
    });
    match read {
        Ok(()) => Ok(Some(bytes)),
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(LedgerError::io("read", path, cause)),
    }
}

#[cfg(test)]
thread_local! {
    static REFUSED: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

/// Has the disk refuse so many writes on this thread, as a full one does.
#[cfg(test)]
pub(crate) fn refuse_writes(count: u32) {
    REFUSED.set(count);
}

#[cfg(test)]
pub(super) fn refused() -> std::io::Result<()> {
    let left = REFUSED.get();
    REFUSED.set(left.saturating_sub(1));
    if left > 0 {
        return Err(std::io::ErrorKind::StorageFull.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_is_made_is_its_owners_alone_also_where_it_was_not() {
        let folder = tempfile::tempdir().unwrap();
        let service = folder.path().join("a/service");
        make_folder(&service).unwrap();
        assert_eq!(
            (mode(&service), mode(&folder.path().join("a"))),
            (0o700, 0o700)
        );
        replace(&service, "cursor", &[b"1"]).unwrap();
        assert_eq!(mode(&service.join("cursor")), 0o600);

        // As an earlier version left it.
        set_mode(&service, 0o755);
        set_mode(&service.join("cursor"), 0o644);
        fs::write(service.join("cursor.new"), "a longer one").unwrap();
        make_folder(&service).unwrap();
        assert_eq!(
            (mode(&service), mode(&service.join("cursor"))),
            (0o700, 0o600)
        );
        replace(&service, "cursor", &[b"2"]).unwrap();
        assert_eq!(read(&service.join("cursor")).unwrap().unwrap(), b"2");
        assert_eq!(mode(&service.join("cursor")), 0o600);
    }

    #[test]
    fn no_link_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (service, secret) = (folder.path().join("service"), folder.path().join("secret"));
        make_folder(&service).unwrap();
        fs::write(&secret, "secret").unwrap();
        set_mode(&secret, 0o644);
        for name in ["cursor", "cursor.new"] {
            symlink(&secret, service.join(name)).unwrap();
        }
        let error = read(&service.join("cursor")).unwrap_err();
        assert!(error.action().unwrap().contains("link"), "{error:?}");
        replace(&service, "cursor", &[b"1"]).unwrap();
        assert_eq!(fs::read(&secret).unwrap(), b"secret");
        make_folder(&service).unwrap();
        assert_eq!(mode(&secret), 0o644);

        let link = folder.path().join("link");
        symlink(&service, &link).unwrap();
        let error = make_folder(&link).unwrap_err();
        assert!(error.action().unwrap().contains("link"), "{error:?}");
    }

    #[test]
    fn a_state_folder_that_others_may_write_is_corrected_and_a_shared_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let check = |before, after| {
            set_mode(folder.path(), before);
            protect_state_folder(folder.path());
            assert_eq!(mode(folder.path()), after, "{before:o}");
        };
        check(0o777, 0o700);
        check(0o702, 0o700);
        check(0o2770, 0o700);
        check(0o755, 0o755);
        check(0o500, 0o500);
        check(0o1777, 0o1777);
    }

    #[test]
    fn a_state_folder_may_be_a_link_for_all_but_root() {
        let folder = tempfile::tempdir().unwrap();
        let (there, link) = (folder.path().join("there"), folder.path().join("state"));
        make_folder(&there).unwrap();
        symlink(&there, &link).unwrap();
        let made = make_state_folder(&link);
        if geteuid().is_root() {
            assert!(made.unwrap_err().action().unwrap().contains("link"));
        } else {
            assert_eq!(made.unwrap(), fs::canonicalize(there).unwrap());
        }
    }
}
