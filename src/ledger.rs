//! What is confirmed, on disk: a cursor for each service, a journal for each of its outputs, and the lock on their folder.
//!
//! Guarantees: the cursor moves in one atomic step, and never back but by a reset that the operator asked for, or before anything
//! is collected; what a journal took is there after a crash; a file that is not as it was written stops its service with an error
//! that says so. Missing files are a first run. Only this module writes under the state folder; it keeps no time and asks nobody.
//!
//! ```text
//! state/lock                          held by the running collector
//! state/fingerprint.key               the secret that fingerprints are made with
//! state/addresses                     what is known of the relays' addresses
//! state/graph-requests                when requests to Microsoft Graph were made
//! state/INPUT.ID.moved                that the input's state was exported, or its import has begun: it does not start
//! state/INPUT.ID.SERVICE/fingerprint.key  the secret of a service whose state comes from another state folder
//! state/INPUT.ID.SERVICE/cursor       the cursor, the entries of what is before it, and the rows at its boundary
//! state/INPUT.ID.SERVICE/audit        what each hour before the cursor came to
//! state/INPUT.ID.SERVICE/looks        on how many days the reporting service was seen to be back, while Graph is asked
//! state/INPUT.ID.SERVICE/journal.OUT  what OUT has confirmed beyond the cursor
//! state/INPUT.ID.SERVICE/early/N.OUT  what early passes have delivered to OUT beyond the cursor
//! state/INPUT.ID.SERVICE/early/held   rows of messages under way, as early passes last saw them
//! state/INPUT.ID.SERVICE/early/pass.S  the frontier of the early pass with a delay of S seconds
//! state/32 hexadecimal digits         the original collector's, which are left alone
//! ```

mod addresses;
mod amending;
mod audit;
mod cursor;
mod delivered;
mod disk;
mod entry;
mod error;
mod export;
mod file;
mod folder;
mod journal;
mod key;
mod lock;
mod looks;
mod moved;
mod moving;
mod original;
mod reading;
mod requests;
mod system;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tracing::warn;

pub use self::addresses::AddressFile;
pub use self::audit::{
    Account, ByDelay, Found, Gap, HourOutcome, Lateness, Passed, Stretch, Summary, Within,
};
use self::audit::{AuditFile, Kept};
pub use self::cursor::Cursor;
pub use self::delivered::{COUNTED, Delivered, Filing, Held, HeldRow};
pub(crate) use self::disk::OnDisk;
#[cfg(test)]
pub(crate) use self::disk::script;
pub use self::entry::{Entry, Outcome};
pub use self::error::LedgerError;
pub use self::export::{ExportFile, Manifest};
#[cfg(test)]
pub(crate) use self::file::refuse_writes;
pub use self::folder::{MEMORY, StateFolder};
pub use self::journal::{Confirmed, Journal, Mark};
use self::key::Key;
use self::lock::Lock;
pub use self::looks::{LookFile, Looks};
pub use self::moved::{Moved, What, refuse as refuse_moved};
pub use self::original::Original;
pub use self::reading::{Reading, ServiceFolder, fingerprinter, probe, probe_service, services};
pub use self::requests::RequestFile;
pub use self::system::network_file_system;
use crate::record::{Fingerprint, Fingerprinter};
use crate::report::{Origin, Report};
use crate::window::Window;

/// The file that a running collector holds the lock of.
const LOCK: &str = "lock";

/// The state folder of a running collector, locked.
#[derive(Debug)]
pub struct StateDirectory {
    path: PathBuf,
    key: Option<Key>,
    /// Holds the lock for as long as the process lives.
    lock: Arc<Lock>,
    /// What the original collector has left, once somebody has looked: to look at the whole folder for each service would take time by the
    /// square of their number.
    original: OnceLock<Option<Original>>,
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
        let lock = Arc::new(Lock::take(path)?);
        // An earlier version may have left them wider.
        for kept in [Key::path(path), path.join(addresses::FILE)] {
            file::protect_at(&kept);
        }
        let key = Key::load(path)?;
        let key = match key {
            None if !has_ledgers(path)? => Some(Key::create(path)?),
            key => key,
        };
        if let Some(key) = &key {
            lock.keep_key(key);
        }
        Ok(StateDirectory {
            path: path.to_owned(),
            key,
            lock,
            original: OnceLock::new(),
        })
    }

    /// What the original collector had left in the folder when it was first looked for.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read.
    pub fn original(&self) -> Result<Option<Original>, LedgerError> {
        if let Some(known) = self.original.get() {
            return Ok(*known);
        }
        let found = Original::find(&self.path)?;
        Ok(*self.original.get_or_init(|| found))
    }

    /// The file of what is known of the relays' addresses.
    pub fn addresses(&self) -> AddressFile {
        let guard = { self.key.as_ref() }.map(|_| Arc::clone(&self.lock));
        AddressFile::of(&self.path, guard)
    }

    /// The file of when requests to Microsoft Graph were made.
    pub fn requests(&self) -> RequestFile {
        RequestFile::of(&self.path)
    }

    /// The ledger of one service, with a journal for each of `outputs`.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, is damaged, or lacks its counterpart: nothing is ever started over on its own account.
    pub fn ledger(
        &self,
        owner: Owner<'_>,
        outputs: &[&str],
    ) -> Result<(Ledger, Recovered), LedgerError> {
        let folder = owner.folder(&self.path);
        moved::refuse(&self.path, owner)?;
        let own = Key::own(&folder)?;
        let Some(key) = own.or_else(|| self.key.clone()) else {
            return Err(LedgerError::KeyMissing {
                file: Key::path(&self.path),
                folder,
            });
        };
        let audit = AuditFile::of(&folder, owner.service, key.id());
        Ledger::open(folder, &key, Arc::clone(&self.lock), Some(audit), outputs)
    }
}

/// A folder of a service without a key of its own tells that the state folder has had one.
fn has_ledgers(path: &Path) -> Result<bool, LedgerError> {
    let entries = fs::read_dir(path).map_err(|cause| LedgerError::io("read", path, cause))?;
    Ok(entries
        .flatten()
        .map(|entry| entry.path())
        .any(|folder| folder.join(cursor::FILE).exists() && !Key::path(&folder).exists()))
}

/// One service's ledger.
#[derive(Debug)]
pub struct Ledger {
    folder: PathBuf,
    key: Key,
    lock: Arc<Lock>,
    /// What each hour came to; `None` for an early pass, with which no hour settles.
    audit: Option<AuditFile>,
    cursor: Option<Cursor>,
}

/// What an earlier run has left.
#[derive(Debug)]
pub struct Recovered {
    /// A journal for each output, in the order in which they were asked for.
    pub journals: Vec<Journal>,
    /// What each output has confirmed beyond the cursor, in the same order.
    pub confirmed: Vec<Vec<Confirmed>>,
}

/// What moves the cursor forward.
#[derive(Debug)]
pub struct Commit {
    /// Everything before it is confirmed by every output, or accounted for by an entry.
    pub at: DateTime<Utc>,
    /// What became of the windows between the old cursor and the new one, in their order.
    pub passed: Vec<Passed>,
    /// When they have settled.
    pub settled: DateTime<Utc>,
    /// The rows of the last window that may come again with the next one.
    pub boundary: Vec<Fingerprint>,
    /// Up to where every output has been told what hours came to; `None` leaves it as it was.
    pub told: Option<DateTime<Utc>>,
}

impl Ledger {
    fn open(
        folder: PathBuf,
        key: &Key,
        lock: Arc<Lock>,
        audit: Option<AuditFile>,
        outputs: &[&str],
    ) -> Result<(Self, Recovered), LedgerError> {
        file::make_folder(&folder)?;
        let ledger = Ledger {
            cursor: Cursor::load(&folder, key.id())?,
            key: key.clone(),
            lock,
            audit,
            folder,
        };
        if let Some((cursor, audit)) = ledger.cursor.as_ref().zip(ledger.audit.as_ref()) {
            let last = cursor.audit.as_ref().and_then(Kept::last);
            audit.mend(cursor.at, last)?;
        }
        let (mut journals, mut confirmed) = (vec![], vec![]);
        for output in outputs {
            let mark = ledger.cursor.as_ref().map(Cursor::mark);
            let guard = (key, Arc::clone(&ledger.lock));
            let (journal, known) = Journal::open(&ledger.folder, output, guard, mark)?;
            journals.push(journal);
            confirmed.push(known);
        }
        let recovered = Recovered {
            journals,
            confirmed,
        };
        Ok((ledger, recovered))
    }

    /// The folder of the service's files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The cursor as it was last written; `None` on a first run.
    pub fn cursor(&self) -> Option<&Cursor> {
        self.cursor.as_ref()
    }

    /// What the last days came to; nothing on a first run.
    pub(crate) fn recent(&self) -> Account {
        let known = self.cursor.as_ref().zip(self.audit.as_ref());
        known.map_or_else(Account::default, |(cursor, audit)| {
            Account::recent(cursor, audit)
        })
    }

    /// Up to where every output has been told what hours came to; `None` on a first run, and where nothing is audited.
    pub(crate) fn told(&self) -> Option<DateTime<Utc>> {
        let cursor = self.cursor.as_ref().filter(|_| self.audit.is_some())?;
        let told = cursor.audit.as_ref().and_then(|kept| kept.told);
        Some(told.unwrap_or(cursor.at).min(cursor.at))
    }

    /// From where on hours are audited, and up to where they have settled; `None` if none has.
    pub(crate) fn audited(&self) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
        let kept = self.cursor.as_ref()?.audit.as_ref()?;
        Some((kept.since, kept.last()?.end))
    }

    /// What has settled after `oldest` and before the cursor; nothing where it cannot be read.
    pub(crate) fn settled_after(&self, oldest: DateTime<Utc>) -> Vec<Stretch> {
        let settled = { self.audit.as_ref() }.map(|audit| audit.settled_after(oldest));
        settled.and_then(Result::ok).unwrap_or_default()
    }

    /// Makes fingerprints of a report's rows with the secret of this state folder.
    pub fn fingerprinter(&self, report: &Report) -> Fingerprinter {
        self.key.fingerprinter(report)
    }

    /// The file of how often the reporting service was seen to be back.
    pub fn looks(&self) -> LookFile {
        LookFile::of(&self.folder, &self.lock, self.audit.clone())
    }

    /// What early passes of this service, which collects `report`, have delivered.
    ///
    /// # Errors
    ///
    /// If the files cannot be read.
    pub fn delivered(&self, report: &Report) -> Result<Delivered, LedgerError> {
        let epoch = self.cursor.as_ref().map_or(0, |cursor| cursor.epoch);
        let (folder, lock) = (self.folder.join(delivered::FOLDER), Arc::clone(&self.lock));
        Delivered::open(folder, lock, report, epoch)
    }

    /// The ledger of this service's early pass of this delay: its cursor is the pass's frontier, and loses nothing where it is lost. It has no
    /// journals.
    ///
    /// # Errors
    ///
    /// If the files cannot be read.
    pub fn of_pass(&self, delay: Duration) -> Result<Self, LedgerError> {
        let folder = self.folder.join(delivered::FOLDER);
        file::make_folder(&folder)?;
        let folder = folder.join(format!("{}{}", delivered::PASS, delay.as_secs()));
        let open = || Ledger::open(folder.clone(), &self.key, Arc::clone(&self.lock), None, &[]);
        let opened = match open() {
            Err(damaged @ LedgerError::Damaged { .. }) => {
                warn!(error = %damaged, "the frontier of an early pass cannot be read: it is found anew, and nothing is lost");
                file::remove_at(&folder.join(cursor::FILE))?;
                open()
            }
            opened => opened,
        };
        opened.map(|(ledger, _)| ledger)
    }

    /// Sets the cursor to where a service begins, and makes void what journals hold. At the time `now`, skipped time is recorded as never collected.
    ///
    /// # Errors
    ///
    /// If the disk refuses; the cursor is then where it was, and the call may be repeated.
    pub fn begin(&mut self, mut cursor: Cursor, now: DateTime<Utc>) -> Result<(), LedgerError> {
        let known = self.cursor.as_ref();
        let mut audit = Kept::begin(cursor.at);
        if let Some(known) = known.filter(|_| self.audit.is_some()) {
            audit = known.audit.clone().unwrap_or(Kept::begin(known.at));
            let skipped = audit.jump((known.at, cursor.at), now, known.source);
            self.write_lines(&skipped)?;
        }
        cursor.audit = self.audit.is_some().then_some(audit);
        cursor.generation = known.map_or(1, |known| known.generation + 1);
        cursor.epoch = known.map_or(1, |known| known.epoch + 1);
        self.store(cursor)
    }

    /// Notes that from the cursor on records go to `outputs`, that they are from `tenant`, and that `source` is asked for them.
    ///
    /// # Errors
    ///
    /// If the disk refuses; the state is then as it was, and the call may be repeated.
    pub fn note(
        &mut self,
        outputs: &[&str],
        tenant: &str,
        source: Origin,
    ) -> Result<(), LedgerError> {
        let Some(mut next) = self.cursor.clone() else {
            return Ok(());
        };
        let without = |these: &[String], those: &[String]| {
            let missing = these.iter().filter(|name| !those.contains(name));
            missing.cloned().collect::<Vec<_>>()
        };
        let outputs: Vec<String> = outputs.iter().map(|name| (*name).to_owned()).collect();
        let added = without(&outputs, &next.outputs);
        let removed = without(&next.outputs, &outputs);
        let changed = !(added.is_empty() && removed.is_empty());
        if !changed && next.tenant == tenant && next.source == source {
            return Ok(());
        }
        if changed && !next.outputs.is_empty() {
            let here = Window {
                start: next.at,
                end: next.at,
            };
            let entry = Entry::new(here, Outcome::Outputs { added, removed }, 0);
            entry::append(&mut next.entries, vec![entry]);
        }
        if next.source != source {
            let here = Window {
                start: next.at,
                end: next.at,
            };
            let entry = Entry::new(here, Outcome::Source { now: source }, 0);
            entry::append(&mut next.entries, vec![entry]);
        }
        next.source = source;
        next.outputs = outputs;
        tenant.clone_into(&mut next.tenant);
        next.generation += 1;
        self.store(next)
    }

    /// Moves the cursor in one atomic step, with what became of the windows that it passes. It never moves back. What journals hold of
    /// windows before the new cursor is void from then on. Returns what has settled with them.
    ///
    /// # Errors
    ///
    /// If the disk refuses; the cursor is then where it was, and the call may be repeated.
    pub fn commit(&mut self, commit: Commit) -> Result<Vec<Stretch>, LedgerError> {
        let Some(mut next) = self.cursor.clone() else {
            return Ok(vec![]);
        };
        let mut settled = vec![];
        if self.audit.is_some() {
            let mut audit = next.audit.take().unwrap_or(Kept::begin(next.at));
            settled = audit.pass(&commit.passed, commit.settled, next.source);
            audit.told = commit.told.or(audit.told);
            self.write_lines(&settled)?;
            next.audit = Some(audit);
        }
        next.generation += 1;
        next.at = next.at.max(commit.at);
        next.by_our_clock = false;
        let entries = commit.passed.into_iter().map(|passed| passed.entry);
        let entries: Vec<_> = entries.collect();
        let records = entries.iter().map(|entry| entry.records);
        next.records = records.fold(next.records, u64::saturating_add);
        entry::append(&mut next.entries, entries);
        next.boundary = commit.boundary;
        next.told_by = next.source;
        self.store(next)?;
        Ok(settled)
    }

    /// Writes what has settled, before the cursor passes it.
    fn write_lines(&self, settled: &[Stretch]) -> Result<(), LedgerError> {
        match &self.audit {
            Some(audit) if !settled.is_empty() => {
                self.hold()?;
                audit.append(settled)
            }
            _ => Ok(()),
        }
    }

    /// Makes sure that the folder is there, and locked.
    fn hold(&self) -> Result<(), LedgerError> {
        self.lock.hold()?;
        self.key.keep()?;
        let is_there = fs::symlink_metadata(&self.folder).is_ok_and(|known| known.is_dir());
        if !is_there {
            file::make_folder(&self.folder)?;
        }
        Ok(())
    }

    fn store(&mut self, next: Cursor) -> Result<(), LedgerError> {
        self.hold()?;
        next.store(&self.folder, self.key.id())?;
        self.cursor = Some(next);
        Ok(())
    }
}

/// From the cursor to the furthest end of what is confirmed beyond it; `None` if nothing is.
fn unfinished<'a>(
    cursor: DateTime<Utc>,
    confirmed: impl Iterator<Item = &'a Confirmed>,
) -> Option<Window> {
    let end = confirmed.map(|confirmed| confirmed.window.end).max()?;
    let start = cursor;
    (end > start).then_some(Window { start, end })
}

#[cfg(test)]
mod tests;
