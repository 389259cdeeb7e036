//! The lock on a state folder: one collector at a time.
//!
//! The folder may be removed and made again while the collector runs: by hand, or by a volume that is mounted anew. What is locked then is
//! a file that nobody else can see, so the lock is taken again before anything is written to the new folder.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use tracing::warn;

use super::key::Key;
use super::{LOCK, LedgerError, file};

/// How often the lock is tried for, and the time between: about a second before another collector is said to hold it.
const TRIES: u32 = 50;
const WAIT: Duration = Duration::from_millis(20);

/// The lock, held for as long as this lives.
#[derive(Debug)]
pub(super) struct Lock {
    directory: PathBuf,
    file: Mutex<File>,
    /// The state folder's key, once it is known.
    key: OnceLock<Key>,
}

impl Lock {
    /// Makes the folder where it is missing, and locks it. Blocks for about a second where somebody holds it.
    pub(super) fn take(directory: &Path) -> Result<Self, LedgerError> {
        Ok(Self {
            directory: directory.to_owned(),
            file: Mutex::new(take(directory)?),
            key: OnceLock::new(),
        })
    }

    /// A folder that takes the place of this one is to have this key.
    pub(super) fn keep_key(&self, key: &Key) {
        // It is set once.
        self.key.set(key.clone()).ok();
    }

    /// Returns once the folder that is there now is locked; one without a key gets the one of before.
    ///
    /// # Errors
    ///
    /// If it cannot be made or written, if another collector holds it by now, or if it has another key.
    pub(super) fn hold(&self) -> Result<(), LedgerError> {
        let mut held = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if file::is_at(&held, &self.directory.join(LOCK)) {
            return Ok(());
        }
        let taken = take(&self.directory)?;
        match (self.key.get(), Key::load(&self.directory)?) {
            (None, _) => {}
            (Some(key), None) => key.store(&self.directory)?,
            (Some(key), Some(other)) if other.id() == key.id() => {}
            (Some(_), Some(_)) => {
                return Err(LedgerError::KeyMissing {
                    file: Key::path(&self.directory),
                    folder: self.directory.clone(),
                });
            }
        }
        *held = taken;
        warn!(
            folder = %self.directory.display(),
            "the state folder has been removed or replaced while the collector runs; it is taken up again, and nothing is lost"
        );
        Ok(())
    }
}

/// The lock is tried for again, since [`super::probe`] holds it for an instant.
fn take(directory: &Path) -> Result<File, LedgerError> {
    for attempt in 0..TRIES {
        if attempt > 0 {
            thread::sleep(WAIT);
        }
        let path = file::make_state_folder(directory)?.join(LOCK);
        let mut options = File::options();
        let lock = file::open(&path, options.create(true).truncate(false).write(true));
        let lock = lock.map_err(|cause| LedgerError::io("open", &path, cause))?;
        match lock.try_lock() {
            Ok(()) if file::is_at(&lock, &path) => {
                file::protect(&lock, &path);
                if let Some(directory) = path.parent() {
                    file::protect_state_folder(directory);
                }
                return Ok(lock);
            }
            Ok(()) | Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(cause)) => return Err(refused(directory, cause)),
        }
    }
    Err(LedgerError::Locked {
        directory: directory.to_owned(),
    })
}

/// Why a lock could be neither taken nor refused.
pub(super) fn refused(directory: &Path, cause: io::Error) -> LedgerError {
    match cause.raw_os_error() {
        Some(libc::ENOLCK | libc::ENOSYS | libc::EOPNOTSUPP | libc::EINVAL) => {
            LedgerError::NoLocks {
                directory: directory.to_owned(),
                source: cause,
            }
        }
        _ => LedgerError::io("lock", &directory.join(LOCK), cause),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_folder_that_is_made_again_is_locked_again_with_the_same_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let lock = Lock::take(&path).unwrap();
        let key = Key::create(&path).unwrap();
        lock.keep_key(&key);
        lock.hold().unwrap();
        for aside in [false, true] {
            if aside {
                fs::rename(&path, folder.path().join("aside")).unwrap();
                fs::create_dir(&path).unwrap();
            } else {
                fs::remove_dir_all(&path).unwrap();
            }
            lock.hold().unwrap();
            assert_eq!(Key::load(&path).unwrap().unwrap().id(), key.id());
            assert!(matches!(Lock::take(&path), Err(LedgerError::Locked { .. })));
        }
    }

    #[test]
    fn a_folder_that_another_has_taken_meanwhile_is_left_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let lock = Lock::take(&path).unwrap();
        lock.keep_key(&Key::create(&path).unwrap());
        fs::remove_dir_all(&path).unwrap();
        let other = Lock::take(&path).unwrap();
        assert!(matches!(lock.hold(), Err(LedgerError::Locked { .. })));
        let others = Key::create(&path).unwrap();
        drop(other);
        assert!(matches!(lock.hold(), Err(LedgerError::KeyMissing { .. })));
        assert_eq!(Key::load(&path).unwrap().unwrap().id(), others.id());
    }

    #[test]
    fn a_lock_that_is_held_for_an_instant_is_waited_for_and_one_that_is_kept_is_told() {
        let folder = tempfile::tempdir().unwrap();
        drop(Lock::take(folder.path()).unwrap());
        let looking = File::open(folder.path().join(LOCK)).unwrap();
        looking.lock_shared().unwrap();
        let opened = thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(WAIT * 5);
                looking.unlock().unwrap();
            });
            Lock::take(folder.path())
        });
        let _held = opened.unwrap();
        let error = Lock::take(folder.path()).unwrap_err();
        assert!(matches!(error, LedgerError::Locked { .. }), "{error}");
    }

    #[test]
    fn a_lock_whose_file_was_removed_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(LOCK);
        let lock = File::create(&path).unwrap();
        assert!(file::is_at(&lock, &path));
        fs::remove_file(&path).unwrap();
        assert!(!file::is_at(&lock, &path));
        File::create(&path).unwrap();
        assert!(!file::is_at(&lock, &path));
    }
}
