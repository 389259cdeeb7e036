//! The folder that ledgers are kept in: the operator's, or one in memory that goes with the process.
//!
//! In memory means `/dev/shm`, which Linux and every container keep there and never write to a disk (but for swap). So the ledger is
//! one and the same whether its state outlives the process or not, and confirms nothing on other terms.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{self, TMPFS_MAGIC};
use tempfile::TempDir;

use super::reading::{outputs, services};
use super::{LOCK, LedgerError, Original, cursor, file, journal, key::Key};
use crate::config::Persistence;

/// Where Linux keeps files in memory.
pub const MEMORY: &str = "/dev/shm";
const PREFIX: &str = "exchange-reports-collector.";

/// Where a collector's state is; what is in memory is gone when this is dropped.
#[derive(Debug)]
pub struct StateFolder {
    path: PathBuf,
    _in_memory: Option<TempDir>,
}

impl StateFolder {
    /// The folder that the configuration asks for. One on disk need not be there yet; one in memory is made, readable to nobody
    /// else, and what killed collectors have left of theirs is removed. It tells of the original collector's files beside it, as
    /// the one on disk would.
    ///
    /// # Errors
    ///
    /// If there is no memory that holds files, or the folder beside it is there and cannot be read.
    pub fn of(persistence: &Persistence) -> Result<Self, LedgerError> {
        match persistence {
            Persistence::Directory(path) => Ok(Self {
                path: path.clone(),
                _in_memory: None,
            }),
            Persistence::Memory { beside } => {
                let folder = Self::empty()?;
                Original::copy(beside, &folder.path)?;
                Ok(folder)
            }
        }
    }

    /// One in memory that tells of nothing.
    ///
    /// # Errors
    ///
    /// If there is no memory that holds files.
    pub fn empty() -> Result<Self, LedgerError> {
        Self::in_memory(Path::new(MEMORY))
    }

    fn in_memory(memory: &Path) -> Result<Self, LedgerError> {
        let refused = |source| LedgerError::NoMemory {
            folder: memory.to_owned(),
            source,
        };
        let kind = statfs::statfs(memory).map_err(|errno| refused(errno.into()))?;
        if kind.filesystem_type() != TMPFS_MAGIC {
            return Err(refused(std::io::Error::other("it is no tmpfs")));
        }
        remove_abandoned(memory);
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(memory);
        let folder = folder.map_err(refused)?;
        Ok(Self {
            path: folder.path().to_owned(),
            _in_memory: Some(folder),
        })
    }

    /// As [`StateFolder::empty`], with a copy of what is kept at `path`, as it stands and unchecked; nothing if that is missing. It
    /// is neither locked nor changed there, and a collector may be running on it.
    ///
    /// # Errors
    ///
    /// If there is no memory that holds files, or something cannot be read.
    pub fn copy_of(path: &Path) -> Result<Self, LedgerError> {
        let copy = Self::empty()?;
        if !path.exists() {
            return Ok(copy);
        }
        copy_file(&Key::path(path), &Key::path(&copy.path))?;
        for service in services(path)? {
            let folder = service.owner().folder(&copy.path);
            fs::create_dir(&folder).map_err(|cause| LedgerError::io("make", &folder, cause))?;
            copy_file(&Key::path(&service.folder), &Key::path(&folder))?;
            // The cursor last: what a journal of before it holds does not count, and what one of after it holds would be damage.
            let journals = outputs(&service.folder)?;
            let journals = journals.iter().map(|output| journal::file_name(output));
            for name in journals.chain([cursor::FILE.to_owned()]) {
                copy_file(&service.folder.join(&name), &folder.join(&name))?;
            }
        }
        Original::copy(path, &copy.path)?;
        Ok(copy)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Copies a file that may be missing.
fn copy_file(from: &Path, to: &Path) -> Result<(), LedgerError> {
    let Some(bytes) = file::read(from)? else {
        return Ok(());
    };
    let copy = file::open(to, File::options().write(true).create_new(true));
    copy.and_then(|mut copy| copy.write_all(&bytes))
        .map_err(|cause| LedgerError::io("write", to, cause))
}

/// Removes the folders that no running collector has locked. Those that are not ours to remove stay.
fn remove_abandoned(memory: &Path) {
    let Ok(entries) = fs::read_dir(memory) else {
        return;
    };
    for entry in entries.flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let abandoned = || {
            let lock = File::open(entry.path().join(LOCK)).ok()?;
            lock.try_lock().ok()?;
            Some(lock)
        };
        // Held until all is removed, so that nobody begins in it meanwhile.
        if ours && let Some(_lock) = abandoned() {
            fs::remove_dir_all(entry.path()).ok(); // somebody else's, perhaps
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::StateDirectory;

    #[test]
    fn a_folder_in_memory_goes_with_the_process_and_what_a_killed_one_left_with_the_next() {
        let memory = tempfile::tempdir_in(MEMORY).unwrap();
        let killed = memory.path().join(format!("{PREFIX}killed"));
        drop(StateDirectory::open(&killed).unwrap());
        let other = memory.path().join("other");
        drop(StateDirectory::open(&other).unwrap());

        let running = StateFolder::in_memory(memory.path()).unwrap();
        let held = StateDirectory::open(running.path()).unwrap();
        let next = StateFolder::in_memory(memory.path()).unwrap();
        assert!(!killed.exists());
        assert!(other.exists() && running.path().exists() && next.path().exists());

        let path = running.path().to_owned();
        drop((held, running));
        assert!(!path.exists());
    }

    #[test]
    fn what_may_be_a_disk_is_not_taken_for_memory() {
        let error = StateFolder::in_memory(Path::new("/proc")).unwrap_err();
        assert!(error.to_string().contains("/proc"), "{error}");
        assert!(StateFolder::in_memory(Path::new("/nowhere")).is_err());
    }
}
