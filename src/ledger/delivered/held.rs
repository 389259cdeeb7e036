//! Message traces that early passes have seen under way, whole, until the settling pass comes to them.
//!
//! A file beside the others holds one row for each message and recipient, as it was last seen and masked. Rows are appended and synced before
//! a pass goes on; one that is done with has a mark appended. What cannot be read is told, and goes out only if the service still shows it.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use tracing::warn;

use crate::ledger::lock::Lock;
use crate::ledger::{LedgerError, file};
use crate::record::Fingerprint;
use crate::window::Window;

const FILE: &str = "held";
const HEAD: &[u8; 32] = b"exchange-reports held 1         ";
const MAGIC: [u8; 4] = *b"hld1";
/// Magic, length, checksum, 4 bytes of nothing, epoch, subject, time, fingerprint.
const FRAME_HEAD: usize = 56;
/// Frames begin at multiples of this.
const UNIT: usize = 8;

/// Rows take so many bytes at most.
const BYTES_MAX: u64 = 64 << 20;

/// A file is written anew when so much of it is done with, and that is half of it.
const GARBAGE_MAX: u64 = 1 << 20;

/// Rows under way of one service. Clones share them.
#[derive(Clone, Debug)]
pub struct Held(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    lock: Arc<Lock>,
    rows: Mutex<Rows>,
}

#[derive(Debug, Default)]
struct Rows {
    epoch: u64,
    /// By their subjects.
    places: HashMap<u64, Place>,
    /// The bytes of all of them.
    bytes: u64,
    /// Of the file; 0 where there is none.
    length: u64,
}

/// Where a row is.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Of the frame.
    at: u64,
    length: u32,
    epoch: u64,
    time: DateTime<Utc>,
    fingerprint: Fingerprint,
}

/// A row under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldRow {
    /// Which message and recipient it is about.
    pub subject: u64,
    /// Its own time.
    pub time: DateTime<Utc>,
    /// That of the row before it was masked.
    pub fingerprint: Fingerprint,
    /// The row, masked.
    pub row: Vec<u8>,
}

impl Held {
    /// Takes up the file in `folder`, which may be missing.
    pub(super) fn open(folder: &Path, lock: Arc<Lock>, epoch: u64) -> Result<Self, LedgerError> {
        let path = folder.join(FILE);
        let bytes = file::read(&path)?.unwrap_or_default();
        let (mut rows, damaged) = rows(&bytes);
        rows.epoch = epoch;
        rows.forget_other_epochs();
        if damaged > 0 {
            warn!(
                file = %path.display(), bytes = damaged,
                "rows of messages under way cannot be read from the state, as after a crash in the middle of a write: they go out when the service \
                 shows them again, and not if it no longer does"
            );
        }
        Ok(Held(Arc::new(Inner {
            folder: folder.to_owned(),
            lock,
            rows: Mutex::new(rows),
        })))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows().places.is_empty()
    }

    /// Whether a row of `bytes` bytes fits, beside `waiting` bytes that are not kept yet.
    pub fn has_room(&self, bytes: usize, waiting: usize) -> bool {
        self.rows().bytes + (bytes + waiting) as u64 <= BYTES_MAX
    }

    /// Whether a row of this message and recipient is held.
    pub fn has(&self, subject: u64) -> bool {
        self.rows().places.contains_key(&subject)
    }

    /// Whether this very row is held.
    pub fn has_row(&self, subject: u64, fingerprint: Fingerprint) -> bool {
        let rows = self.rows();
        let place = rows.places.get(&subject);
        place.is_some_and(|place| place.fingerprint == fingerprint)
    }

    /// Keeps rows, in the place of those of the same messages and recipients. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// If the disk refuses; the call may be repeated.
    pub fn keep(&self, more: &[HeldRow]) -> Result<(), LedgerError> {
        self.append(more, &[])
    }

    /// Forgets the rows of these messages and recipients. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// If the disk refuses; the call may be repeated.
    pub fn forget(&self, subjects: &[u64]) -> Result<(), LedgerError> {
        self.append(&[], subjects)
    }

    /// The rows whose own time is before the end of `window`. What cannot be read is told. Blocks on the disk.
    pub fn due(&self, window: Window) -> Vec<HeldRow> {
        let rows = self.rows();
        let due = rows.places.iter();
        let due = due.filter(|(_, place)| place.time < window.end);
        let mut due: Vec<(u64, Place)> = due.map(|(subject, place)| (*subject, *place)).collect();
        due.sort_unstable_by_key(|(_, place)| place.at);
        if due.is_empty() {
            return vec![];
        }
        let path = self.path();
        let file = file::open(&path, File::options().read(true));
        let read = |(subject, place): &(u64, Place)| {
            let mut bytes = vec![0; FRAME_HEAD + place.length as usize];
            let file = file.as_ref().ok()?;
            file.read_exact_at(&mut bytes, place.at).ok()?;
            let frame = sound(&bytes, 0)?;
            (frame.subject == *subject).then(|| HeldRow {
                subject: *subject,
                time: place.time,
                fingerprint: place.fingerprint,
                row: frame.row.to_vec(),
            })
        };
        let found: Vec<HeldRow> = due.iter().filter_map(read).collect();
        if found.len() < due.len() {
            warn!(
                file = %path.display(), rows = due.len() - found.len(),
                "rows of messages under way cannot be read from the state any more: they go out only if the service still shows them"
            );
        }
        found
    }

    /// From now on only what is kept from here on counts.
    pub(super) fn void_before(&self, epoch: u64) {
        let mut rows = self.rows();
        rows.epoch = epoch;
        rows.forget_other_epochs();
    }

    fn append(&self, more: &[HeldRow], gone: &[u64]) -> Result<(), LedgerError> {
        let inner = &self.0;
        inner.lock.hold()?;
        file::make_folder(&inner.folder)?;
        let (path, mut rows) = (self.path(), self.rows());
        if rows.length == 0 || !path.exists() {
            if !rows.places.is_empty() {
                warn!(
                    file = %path.display(), rows = rows.places.len(),
                    "rows of messages under way have gone from the state: they go out only if the service still shows them"
                );
            }
            file::replace(&inner.folder, FILE, &[HEAD])?;
            *rows = Rows {
                epoch: rows.epoch,
                length: HEAD.len() as u64,
                ..Rows::default()
            };
        }
        let (mut bytes, mut places) = (vec![], vec![]);
        for row in more {
            let place = Place {
                at: rows.length + bytes.len() as u64,
                length: u32::try_from(row.row.len()).unwrap_or(u32::MAX),
                epoch: rows.epoch,
                time: row.time,
                fingerprint: row.fingerprint,
            };
            append_frame(&place, row.subject, &row.row, &mut bytes);
            places.push((row.subject, place));
        }
        for subject in gone {
            let mark = Place {
                at: 0,
                length: 0,
                epoch: rows.epoch,
                time: DateTime::UNIX_EPOCH,
                fingerprint: Fingerprint([0; 16]),
            };
            append_frame(&mark, *subject, &[], &mut bytes);
        }
        let write = || {
            #[cfg(test)]
            file::refused()?;
            let file = file::open(&path, File::options().write(true))?;
            file.write_all_at(&bytes, rows.length)?;
            file.sync_data()
        };
        write().map_err(|cause| LedgerError::io("write", &path, cause))?;
        rows.length += bytes.len() as u64;
        for (subject, place) in places {
            rows.put(subject, place);
        }
        for subject in gone {
            rows.remove(*subject);
        }
        let garbage = rows.length - rows.bytes.min(rows.length);
        if garbage > GARBAGE_MAX && garbage > rows.bytes {
            return self.write_anew(&mut rows);
        }
        Ok(())
    }

    /// Writes the file anew without what is done with.
    fn write_anew(&self, rows: &mut Rows) -> Result<(), LedgerError> {
        let path = self.path();
        let old = file::read(&path)?.unwrap_or_default();
        let mut bytes = HEAD.to_vec();
        let mut kept: Vec<(u64, Place)> = vec![];
        for (subject, place) in &rows.places {
            let start = usize::try_from(place.at).unwrap_or(usize::MAX);
            let end = start.saturating_add(FRAME_HEAD + place.length as usize);
            // What can no longer be read is told when it is due.
            let Some(frame) = old.get(start..end) else {
                continue;
            };
            let at = bytes.len() as u64;
            kept.push((*subject, Place { at, ..*place }));
            bytes.extend_from_slice(frame);
            bytes.resize(bytes.len().next_multiple_of(UNIT), 0);
        }
        file::replace(&self.0.folder, FILE, &[&bytes])?;
        let epoch = rows.epoch;
        *rows = Rows {
            epoch,
            length: bytes.len() as u64,
            ..Rows::default()
        };
        for (subject, place) in kept {
            rows.put(subject, place);
        }
        Ok(())
    }

    fn path(&self) -> PathBuf {
        self.0.folder.join(FILE)
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.0.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rows {
    fn put(&mut self, subject: u64, place: Place) {
        self.remove(subject);
        self.bytes += frame_length(place.length as usize) as u64;
        self.places.insert(subject, place);
    }

    fn remove(&mut self, subject: u64) {
        if let Some(place) = self.places.remove(&subject) {
            self.bytes -= frame_length(place.length as usize) as u64;
        }
    }

    fn forget_other_epochs(&mut self) {
        let others = self.places.iter();
        let others = others.filter(|(_, place)| place.epoch != self.epoch);
        for subject in others.map(|(subject, _)| *subject).collect::<Vec<_>>() {
            self.remove(subject);
        }
    }
}

/// A sound frame.
struct Frame<'a> {
    subject: u64,
    place: Place,
    /// Empty for a mark that the row is done with.
    row: &'a [u8],
}

fn frame_length(row: usize) -> usize {
    (FRAME_HEAD + row).next_multiple_of(UNIT)
}

fn append_frame(place: &Place, subject: u64, row: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend(MAGIC);
    out.extend(place.length.to_le_bytes());
    out.extend([0; 8]);
    out.extend(place.epoch.to_le_bytes());
    out.extend(subject.to_le_bytes());
    out.extend(place.time.timestamp_micros().to_le_bytes());
    out.extend(place.fingerprint.0);
    out.extend_from_slice(row);
    let check = crc32fast::hash(&out[start..]);
    out[start + 8..start + 12].copy_from_slice(&check.to_le_bytes());
    out.resize(start + frame_length(row.len()), 0);
}

/// What a file's bytes hold, and how many of them are no part of a frame.
fn rows(bytes: &[u8]) -> (Rows, usize) {
    let mut rows = Rows::default();
    if !bytes.starts_with(HEAD) {
        return (rows, bytes.len());
    }
    let (mut at, mut damaged, mut end) = (HEAD.len(), 0, HEAD.len());
    while at < bytes.len() {
        let Some(frame) = sound(bytes, at) else {
            let next = bytes.len().min(at + UNIT);
            damaged += next - at;
            at = next;
            continue;
        };
        let length = frame_length(frame.row.len());
        if frame.row.is_empty() {
            rows.remove(frame.subject);
        } else {
            rows.put(frame.subject, frame.place);
        }
        at += length;
        end = at;
    }
    // What a write has left unfinished is written over.
    rows.length = end as u64;
    (rows, damaged)
}

/// The frame at `at`, if it is sound.
fn sound(bytes: &[u8], at: usize) -> Option<Frame<'_>> {
    let head = bytes.get(at..at.checked_add(FRAME_HEAD)?)?;
    let four = |at: usize| u32::from_le_bytes(std::array::from_fn(|nth| head[at + nth]));
    let eight = |at: usize| u64::from_le_bytes(std::array::from_fn(|nth| head[at + nth]));
    if head[..4] != MAGIC {
        return None;
    }
    let length = four(4);
    let all = bytes.get(at..at + FRAME_HEAD + length as usize)?;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&all[..8]);
    hasher.update(&[0; 4]);
    hasher.update(&all[12..]);
    (hasher.finalize() == four(8)).then_some(())?;
    Some(Frame {
        subject: eight(24),
        place: Place {
            at: at as u64,
            length,
            epoch: eight(16),
            time: DateTime::from_timestamp_micros(eight(32).cast_signed())?,
            fingerprint: Fingerprint(std::array::from_fn(|nth| head[40 + nth])),
        },
        row: &all[FRAME_HEAD..],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{StateDirectory, refuse_writes};

    fn open(state: &Path, epoch: u64) -> Held {
        let directory = StateDirectory::open(state).unwrap();
        let lock = Arc::clone(&directory.lock);
        Held::open(&state.join("early"), lock, epoch).unwrap()
    }

    fn row(subject: u64, second: i64, text: &str) -> HeldRow {
        HeldRow {
            subject,
            time: DateTime::from_timestamp(1_770_000_000 + second, 250_000_000).unwrap(),
            fingerprint: Fingerprint([text.len().to_le_bytes()[0]; 16]),
            row: text.as_bytes().to_vec(),
        }
    }

    fn due(held: &Held, end: i64) -> Vec<HeldRow> {
        let at = |second: i64| DateTime::from_timestamp(1_770_000_000 + second, 0).unwrap();
        held.due(Window {
            start: at(0),
            end: at(end),
        })
    }

    #[test]
    fn rows_are_there_after_a_restart_as_they_were_last_seen() {
        let state = tempfile::tempdir().unwrap();
        let held = open(state.path(), 1);
        assert!(held.is_empty());
        held.keep(&[row(1, 0, "one"), row(2, 5, "second")]).unwrap();
        held.keep(&[row(1, 0, "first"), row(3, 9, "third row")])
            .unwrap();
        drop(held);
        let held = open(state.path(), 1);
        assert_eq!(due(&held, 5), [row(1, 0, "first")]);
        assert_eq!(due(&held, 6), [row(2, 5, "second"), row(1, 0, "first")]);
        assert!(held.has(3) && held.has_row(3, row(3, 9, "third row").fingerprint));
        assert!(!held.has_row(3, Fingerprint([0; 16])));
        held.forget(&[1, 3]).unwrap();
        drop(held);
        let held = open(state.path(), 1);
        assert_eq!(due(&held, 99), [row(2, 5, "second")]);
        drop(held);
        assert!(open(state.path(), 2).is_empty(), "of before a reset");
    }

    #[test]
    fn a_kill_at_any_byte_leaves_the_rows_before_it_and_room_for_others() {
        let state = tempfile::tempdir().unwrap();
        let held = open(state.path(), 1);
        held.keep(&[row(1, 0, "one")]).unwrap();
        let file = state.path().join("early").join(FILE);
        let before = std::fs::read(&file).unwrap().len();
        held.keep(&[row(2, 1, "another")]).unwrap();
        drop(held);
        let all = std::fs::read(&file).unwrap();
        for length in before..all.len() {
            std::fs::write(&file, &all[..length]).unwrap();
            let held = open(state.path(), 1);
            let is_whole = length >= before + FRAME_HEAD + "another".len();
            let expected = if is_whole { 2 } else { 1 };
            assert_eq!(due(&held, 9).len(), expected, "{length} bytes");
            held.keep(&[row(3, 2, "third")]).unwrap();
            drop(held);
            assert_eq!(
                due(&open(state.path(), 1), 9).len(),
                expected + 1,
                "{length} bytes"
            );
        }
    }

    #[test]
    fn a_full_disk_changes_nothing_and_the_file_stays_small() {
        let state = tempfile::tempdir().unwrap();
        let held = open(state.path(), 1);
        let long = "x".repeat(10_000);
        held.keep(&[row(1, 0, "one")]).unwrap();
        refuse_writes(1);
        held.keep(&[row(2, 0, "two")]).unwrap_err();
        assert!(!held.has(2));
        for nth in 2..1_000 {
            held.keep(&[row(nth, 1, &long)]).unwrap();
            held.forget(&[nth]).unwrap();
        }
        let length = std::fs::metadata(state.path().join("early").join(FILE))
            .unwrap()
            .len();
        assert!(length < 2 * GARBAGE_MAX, "{length}");
        assert_eq!(due(&held, 99), [row(1, 0, "one")]);
        assert!(held.has_room(60 << 20, 1 << 20) && !held.has_room(60 << 20, 5 << 20));
    }
}
