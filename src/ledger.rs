//! What is confirmed, on disk: a cursor for each service, a journal for each of its outputs, and the lock on their folder.
//!
//! Guarantees: the cursor moves in one atomic step, and never back but by a reset that the operator asked for, or before anything
//! is collected; what a journal took is there after a crash; a file that is not as it was written stops its service with an error
//! that says so. Missing files are a first run. Only this module writes under the state folder; it keeps no time and asks nobody.
//!
//! ```text
//! state/lock                          held by the running collector
//! state/fingerprint.key               the secret that fingerprints are made with
//! state/INPUT.ID.SERVICE/cursor       the cursor and what the last committed window saw
//! state/INPUT.ID.SERVICE/journal.OUT  what OUT has confirmed of the unfinished window
//! state/32 hexadecimal digits         the original collector's, which are left alone
//! ```

mod amending;
mod cursor;
mod disk;
mod error;
mod file;
mod folder;
mod journal;
mod key;
mod original;
mod reading;

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use chrono::{DateTime, Utc};

pub use self::cursor::{Carried, Cursor};
pub(crate) use self::disk::OnDisk;
pub use self::error::LedgerError;
pub use self::folder::{MEMORY, StateFolder};
pub use self::journal::{Journal, Mark};
use self::key::Key;
pub use self::original::Original;
pub use self::reading::{Reading, ServiceFolder, probe, probe_service, services};
use crate::record::{Fingerprint, Fingerprinter};
use crate::window::Window;

/// The file that a running collector holds the lock of.
const LOCK: &str = "lock";

/// How often the lock is tried for, and the time between: about a second before another collector is said to hold it.
const LOCK_TRIES: u32 = 50;
const LOCK_WAIT: Duration = Duration::from_millis(20);

/// The state folder of a running collector, locked.
#[derive(Debug)]
pub struct StateDirectory {
    path: PathBuf,
    key: Option<Key>,
    /// Holds the lock for as long as the process lives.
    _lock: File,
}

/// Whose ledger it is. All three are safe in a file name.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// The input's name.
    pub input: &'a str,
    /// The input's id.
    pub id: &'a str,
    /// The service's name.
    pub service: &'a str,
}

impl Owner<'_> {
    /// The folder of its files in the state folder at `path`.
    pub fn folder(&self, path: &Path) -> PathBuf {
        let Owner { input, id, service } = self;
        path.join(format!("{input}.{id}.{service}"))
    }
}

impl StateDirectory {
    /// Opens and locks the state folder, and makes it if it is missing. Blocks for about a second where somebody holds it.
    ///
    /// # Errors
    ///
    /// If it cannot be made or written, if another collector holds it, or if its key is damaged.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        let lock = lock(path)?;
        let key = Key::load(path)?;
        let key = match key {
            None if !has_ledgers(path)? => Some(Key::create(path)?),
            key => key,
        };
        Ok(StateDirectory {
            path: path.to_owned(),
            key,
            _lock: lock,
        })
    }

    /// What the original collector has left in the folder.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read.
    pub fn original(&self) -> Result<Option<Original>, LedgerError> {
        Original::find(&self.path)
    }

    /// The ledger of one service, with a journal for each of `outputs`.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, is damaged, or lacks its counterpart: nothing is ever started over on its own account.
    pub fn ledger(&self, owner: Owner<'_>, outputs: &[&str]) -> Result<Ledger, LedgerError> {
        let folder = owner.folder(&self.path);
        let Some(key) = &self.key else {
            return Err(LedgerError::KeyMissing {
                file: Key::path(&self.path),
                folder,
            });
        };
        Ledger::open(folder, key, outputs)
    }
}

/// Makes the folder where it is missing, and locks it. Its lock is tried for again, since [`probe`] holds it for an instant.
fn lock(path: &Path) -> Result<File, LedgerError> {
    let lock_path = path.join(LOCK);
    for attempt in 0..LOCK_TRIES {
        if attempt > 0 {
            thread::sleep(LOCK_WAIT);
        }
        file::make_folder(path)?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path);
        let lock = lock.map_err(|cause| LedgerError::io("open", &lock_path, cause))?;
        match lock.try_lock() {
            Ok(()) if is_at(&lock, &lock_path) => return Ok(lock),
            Ok(()) | Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(cause)) => {
                return Err(LedgerError::io("lock", &lock_path, cause));
            }
        }
    }
    Err(LedgerError::Locked {
        directory: path.to_owned(),
    })
}

/// Whether the file is still the one at `path`: whoever held it before may have removed it.
fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(ours), Ok(there)) = (file.metadata(), fs::metadata(path)) else {
        return false;
    };
    (ours.dev(), ours.ino()) == (there.dev(), there.ino())
}

/// A folder of a service in the state folder tells that there has been a key.
fn has_ledgers(path: &Path) -> Result<bool, LedgerError> {
    let entries = fs::read_dir(path).map_err(|cause| LedgerError::io("read", path, cause))?;
    Ok(entries
        .flatten()
        .any(|entry| entry.path().join(cursor::FILE).exists()))
}

/// One service's ledger.
#[derive(Debug)]
pub struct Ledger {
    folder: PathBuf,
    key: Key,
    cursor: Option<Cursor>,
    journals: Vec<Journal>,
    unfinished: Option<Window>,
    confirmed: Vec<Vec<Fingerprint>>,
    /// Records that all outputs had confirmed since the last commit when the ledger was opened.
    recovered: u64,
}

impl Ledger {
    fn open(folder: PathBuf, key: &Key, outputs: &[&str]) -> Result<Self, LedgerError> {
        file::make_folder(&folder)?;
        let mut cursor = Cursor::load(&folder, key.id())?;
        // From here on they are what is confirmed; the cursor in memory goes without them.
        let mut carried = cursor
            .as_mut()
            .map(|cursor| std::mem::take(&mut cursor.carried))
            .unwrap_or_default();
        let generation = cursor.as_ref().map(|cursor| cursor.generation);
        let mut ledger = Ledger {
            folder,
            key: key.clone(),
            cursor,
            journals: vec![],
            unfinished: None,
            confirmed: vec![],
            recovered: 0,
        };
        let mut recovered_records = vec![];
        ledger.unfinished = ledger.cursor.as_ref().and_then(Cursor::unfinished);
        for output in outputs {
            let (journal, recovered) = Journal::open(&ledger.folder, output, key.id(), generation)?;
            let of_output = carried.iter_mut().find(|carried| carried.output == *output);
            let mut confirmed = of_output
                .map(|carried| std::mem::take(&mut carried.fingerprints))
                .unwrap_or_default();
            recovered_records.push(recovered.confirmed.len() as u64);
            confirmed.extend(recovered.confirmed);
            ledger.unfinished = furthest(ledger.unfinished, recovered.window);
            ledger.confirmed.push(confirmed);
            ledger.journals.push(journal);
        }
        ledger.recovered = recovered_records.into_iter().min().unwrap_or_default();
        Ok(ledger)
    }

    /// The folder of the service's files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The cursor as it was last committed; `None` on a first run.
    pub fn cursor(&self) -> Option<&Cursor> {
        self.cursor.as_ref()
    }

    /// The window that an earlier run had begun.
    pub fn unfinished(&self) -> Option<Window> {
        self.unfinished
    }

    /// Hands out what is confirmed at or after the cursor, for each output in the order in which they were asked for.
    pub fn take_confirmed(&mut self) -> Vec<Vec<Fingerprint>> {
        std::mem::take(&mut self.confirmed)
    }

    /// Makes fingerprints with the secret of this state folder.
    pub fn fingerprinter(&self) -> Fingerprinter {
        self.key.fingerprinter()
    }

    /// Hands out the journals, which their outputs write to from now on.
    pub fn take_journals(&mut self) -> Vec<Journal> {
        std::mem::take(&mut self.journals)
    }

    /// The mark under which records of a window are journalled until the next commit.
    pub fn mark(&self, end: DateTime<Utc>) -> Mark {
        let (generation, start) = self
            .cursor
            .as_ref()
            .map_or((0, end), |cursor| (cursor.generation, cursor.at));
        Mark {
            generation,
            window: Window { start, end },
        }
    }

    /// Moves the cursor in one atomic step. All journals written under an earlier mark are void from then on. To `next`'s records those
    /// are added that an earlier run had confirmed of the window.
    ///
    /// # Errors
    ///
    /// If the disk refuses; the cursor is then where it was, and the call may be repeated.
    pub fn commit(&mut self, mut next: Cursor) -> Result<(), LedgerError> {
        next.generation = self
            .cursor
            .as_ref()
            .map_or(1, |cursor| cursor.generation + 1);
        next.records = next.records.saturating_add(self.recovered);
        next.store(&self.folder, self.key.id())?;
        self.recovered = 0;
        // What these held is the service's own by now, and stale here.
        self.unfinished = None;
        self.confirmed.iter_mut().for_each(Vec::clear);
        next.carried.clear();
        self.cursor = Some(next);
        Ok(())
    }
}

fn furthest(one: Option<Window>, other: Option<Window>) -> Option<Window> {
    match (one, other) {
        (Some(one), Some(other)) => Some(Window {
            start: one.start.min(other.start),
            end: one.end.max(other.end),
        }),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests;
