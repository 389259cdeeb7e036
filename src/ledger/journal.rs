//! The journal of one output: what it has confirmed beyond the cursor, appended and synced after each receipt.
//!
//! The file is a head and frames, each padded to 16 bytes and under a checksum of its own. Its last frame may be torn by a crash: it is cut.
//! A frame that is not sound but is followed by a sound one has been damaged later: that is an error, never a guess.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};

use chrono::{DateTime, Utc};
use nix::fcntl::{FallocateFlags, fallocate};
use tracing::warn;

use super::cursor::{Cursor, fingerprints};
use super::key::Key;
use super::lock::Lock;
use super::{LedgerError, file};
use crate::record::Fingerprint;
use crate::report::Origin;
use crate::window::Window;

const HEAD: &[u8; 32] = b"exchange-reports journal 3     \n";
const MAGIC: [u8; 4] = *b"frm1";
const UNIT: usize = 16;

/// A journal that has grown beyond this many bytes, and to twice what it was last written anew with, is written anew with what counts.
const LENGTH_MAX: u64 = 1 << 20;

/// Space is reserved in steps of this many bytes.
const RESERVE: u64 = 64 << 10;

/// Where the cursor is while records are delivered: what a journal holds counts only beyond it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The cursor's generation.
    pub generation: u64,
    /// The cursor's epoch.
    pub epoch: u64,
    /// The cursor.
    pub cursor: DateTime<Utc>,
    /// Which service tells of the records.
    pub origin: Origin,
}

/// Records of one window that an output has confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// The window that they were delivered with.
    pub window: Window,
    /// Which service told of them.
    pub origin: Origin,
    /// A fingerprint for each record.
    pub fingerprints: Vec<Fingerprint>,
}

/// The journal of one output.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    name: String,
    file: File,
    /// Up to here the file is sound.
    length: u64,
    /// Up to here space is reserved.
    reserved: u64,
    /// What it had when it was last written anew.
    written_anew: u64,
    /// What the last frame is of.
    last: Option<Of>,
    key: Key,
    /// The lock on the state folder; `None` where it is only read.
    lock: Option<Arc<Lock>>,
}

/// The window of a frame, the epoch that it belongs to, and who told of it.
type Of = (Window, u64, Origin);

/// The kinds of frames.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// What follows belongs to this window: generation, epoch, start, end, origin, the key's name.
    Window = 1,
    /// These records are confirmed.
    Confirmed = 2,
}

/// What the names of journals begin with.
pub(super) const PREFIX: &str = "journal.";

/// The name of an output's journal.
pub(super) fn file_name(output: &str) -> String {
    format!("{PREFIX}{output}")
}

impl Journal {
    /// Opens the journal of `output`, or begins it, and tells what it holds beyond the cursor at `mark`; `None` if there is no cursor.
    pub(super) fn open(
        folder: &Path,
        output: &str,
        (key, lock): (&Key, Arc<Lock>),
        mark: Option<Mark>,
    ) -> Result<(Self, Vec<Confirmed>), LedgerError> {
        let name = file_name(output);
        let path = folder.join(&name);
        if file::read(&path)?.is_none() {
            file::replace(folder, &name, &[HEAD])?;
        }
        let (mut journal, bytes) = Journal::load(folder, name, key, Some(lock))?;
        let confirmed = journal.replay(&bytes, mark)?;
        journal.cut()?;
        Ok((journal, confirmed))
    }

    /// What the journal of `output` tells, which is left as it is.
    pub(super) fn read(
        folder: &Path,
        output: &str,
        key: &Key,
        mark: Option<Mark>,
    ) -> Result<Vec<Confirmed>, LedgerError> {
        let (mut journal, bytes) = Journal::load(folder, file_name(output), key, None)?;
        journal.replay(&bytes, mark)
    }

    /// What it holds beyond the cursor at `mark`, read from the file as after a restart.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or is not as it was written.
    pub fn confirmed_beyond(&mut self, mark: Mark) -> Result<Vec<Confirmed>, LedgerError> {
        let bytes = self.read_all()?;
        self.replay(&bytes, Some(mark))
    }

    fn load(
        folder: &Path,
        name: String,
        key: &Key,
        lock: Option<Arc<Lock>>,
    ) -> Result<(Self, Vec<u8>), LedgerError> {
        let path = folder.join(&name);
        let open = || -> std::io::Result<(File, Vec<u8>)> {
            let mut file = file::open(&path, File::options().read(true).write(lock.is_some()))?;
            let mut bytes = vec![];
            file.read_to_end(&mut bytes)?;
            Ok((file, bytes))
        };
        let (file, bytes) = open().map_err(|cause| LedgerError::io("open", &path, cause))?;
        let journal = Journal {
            folder: folder.to_owned(),
            name,
            file,
            length: 0,
            reserved: 0,
            written_anew: 0,
            last: None,
            key: key.clone(),
            lock,
        };
        Ok((journal, bytes))
    }

    /// Whether space is reserved for `records` records of at most `windows` windows.
    pub fn has_room(&self, records: usize, windows: usize) -> bool {
        !self.is_outgrown() && self.length + room(records, windows) <= self.reserved
    }

    /// Reserves space for what `records` records of at most `windows` windows take, so that a full disk is met before they are delivered. A
    /// journal that has grown long is written anew with what lies beyond the cursor at `mark`.
    ///
    /// # Errors
    ///
    /// If there is no room; what was confirmed is still there then, and the call may be repeated.
    pub fn reserve(
        &mut self,
        mark: Mark,
        records: usize,
        windows: usize,
    ) -> Result<(), LedgerError> {
        self.take_up_again(mark)?;
        if self.is_outgrown() {
            self.write_anew(mark)?;
        }
        if self.has_room(records, windows) {
            return Ok(());
        }
        let most = room(records, windows).next_multiple_of(RESERVE);
        self.allocate(most)
            .map_err(|cause| LedgerError::io("reserve space in", &self.path(), cause))?;
        self.reserved = self.length + most;
        Ok(())
    }

    /// Appends what is confirmed while the cursor is at `mark`, and syncs.
    ///
    /// # Errors
    ///
    /// If the disk refuses; what the file held before is still sound, and the call may be repeated.
    pub fn confirm(&mut self, mark: Mark, confirmed: &[Confirmed]) -> Result<(), LedgerError> {
        self.take_up_again(mark)?;
        let mut frames = vec![];
        let last = self.frames(mark, confirmed, &mut frames);
        self.append(&frames)?;
        self.last = last;
        Ok(())
    }

    /// Makes frames of what is confirmed; tells the window and epoch of the last one.
    fn frames(&self, mark: Mark, confirmed: &[Confirmed], frames: &mut Vec<u8>) -> Option<Of> {
        let mut last = self.last;
        for Confirmed {
            window,
            origin,
            fingerprints,
        } in confirmed
        {
            let of = Some((*window, mark.epoch, *origin));
            if last != of {
                let mut payload = mark.generation.to_le_bytes().to_vec();
                payload.extend(mark.epoch.to_le_bytes());
                payload.extend(window.start.timestamp().to_le_bytes());
                payload.extend(window.end.timestamp().to_le_bytes());
                payload.push(u8::from(*origin == Origin::Graph));
                payload.extend(self.key.id().as_bytes());
                frame(Kind::Window, &payload, frames);
                last = of;
            }
            let bytes: Vec<u8> = fingerprints.iter().flat_map(|print| print.0).collect();
            frame(Kind::Confirmed, &bytes, frames);
        }
        last
    }

    fn path(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    fn append(&mut self, frames: &[u8]) -> Result<(), LedgerError> {
        let mut write = || {
            #[cfg(test)]
            file::refused()?;
            self.file.seek(SeekFrom::Start(self.length))?;
            self.file.write_all(frames)?;
            self.file.sync_data()
        };
        write().map_err(|cause| LedgerError::io("write", &self.path(), cause))?;
        self.length += frames.len() as u64;
        Ok(())
    }

    /// Begins the file anew with what lies beyond the cursor at `mark` where it has gone, as when the folder is removed and made again.
    fn take_up_again(&mut self, mark: Mark) -> Result<(), LedgerError> {
        let Some(lock) = &self.lock else {
            return Ok(());
        };
        lock.hold()?;
        if file::is_at(&self.file, &self.path()) {
            return Ok(());
        }
        // It counts beside its cursor only. Until that is written again, the file that has gone takes what is confirmed.
        let cursor = Cursor::load(&self.folder, self.key.id()).ok().flatten();
        if cursor.is_none_or(|cursor| cursor.generation < mark.generation) {
            return Ok(());
        }
        self.write_anew(mark)
    }

    fn is_outgrown(&self) -> bool {
        self.length > LENGTH_MAX.max(2 * self.written_anew)
    }

    /// Puts a journal in its place that holds only what lies beyond the cursor at `mark`.
    fn write_anew(&mut self, mark: Mark) -> Result<(), LedgerError> {
        let confirmed = self.confirmed_beyond(mark)?;
        let mut bytes = HEAD.to_vec();
        self.last = None;
        let last = self.frames(mark, &confirmed, &mut bytes);
        file::replace(&self.folder, &self.name, &[&bytes])?;
        let path = self.path();
        let file = file::open(&path, File::options().read(true).write(true));
        self.file = file.map_err(|cause| LedgerError::io("open", &path, cause))?;
        (self.length, self.reserved, self.last) = (bytes.len() as u64, 0, last);
        self.written_anew = self.length;
        Ok(())
    }

    fn read_all(&mut self) -> Result<Vec<u8>, LedgerError> {
        let mut bytes = vec![];
        let mut read = || {
            self.file.seek(SeekFrom::Start(0))?;
            self.file.read_to_end(&mut bytes)
        };
        let read = read();
        read.map_err(|cause| LedgerError::io("read", &self.path(), cause))?;
        bytes.truncate(usize::try_from(self.length).unwrap_or(usize::MAX));
        Ok(bytes)
    }

    fn allocate(&mut self, bytes: u64) -> std::io::Result<()> {
        static UNABLE: Once = Once::new();
        let (from, length) = (self.length.cast_signed(), bytes.cast_signed());
        match fallocate(
            &self.file,
            FallocateFlags::FALLOC_FL_KEEP_SIZE,
            from,
            length,
        ) {
            Err(errno) if file::is_unable(&errno.into()) => {
                UNABLE.call_once(|| {
                    warn!(
                        folder = %self.folder.display(),
                        error = %std::io::Error::from(errno),
                        "the file system cannot reserve space, so zeros are written in its place: where that reserves none, a disk that fills \
                         up may have records come again; none is lost"
                    );
                });
                // Zeros behind the sound part read as nothing, so writing them reserves as well.
                self.file.seek(SeekFrom::Start(self.length))?;
                std::io::copy(&mut std::io::repeat(0).take(bytes), &mut self.file)?;
                self.file.sync_all()
            }
            result => result.map_err(std::io::Error::from),
        }
    }

    /// Takes in all sound frames, and sets `length` to their end; tells what they hold beyond the cursor at `mark`.
    fn replay(
        &mut self,
        bytes: &[u8],
        at_cursor: Option<Mark>,
    ) -> Result<Vec<Confirmed>, LedgerError> {
        if !bytes.starts_with(HEAD) {
            return Err(self.damaged("it does not begin as a journal of this version"));
        }
        let mut recovered: Vec<Confirmed> = vec![];
        let (mut at, mut counts) = (HEAD.len(), false);
        while let Some((kind, payload, end)) = sound_frame(bytes, at) {
            match kind {
                Kind::Window => {
                    let of = Head::of(payload)
                        .ok_or_else(|| self.damaged("a window's frame is malformed"))?;
                    if Some(of.generation) > at_cursor.map(|mark| mark.generation) {
                        return Err(
                            self.damaged("it belongs to a later cursor than the one beside it")
                        );
                    }
                    counts = at_cursor
                        .is_some_and(|mark| of.epoch == mark.epoch && of.window.end > mark.cursor);
                    if counts && of.key != self.key.id() {
                        let directory = self.folder.parent().unwrap_or(&self.folder);
                        return Err(LedgerError::KeyMissing {
                            file: Key::path(directory),
                            folder: self.folder.clone(),
                        });
                    }
                    self.last = Some((of.window, of.epoch, of.origin));
                    if counts {
                        recovered.push(Confirmed {
                            window: of.window,
                            origin: of.origin,
                            fingerprints: vec![],
                        });
                    }
                }
                Kind::Confirmed => {
                    if let Some(confirmed) = recovered.last_mut().filter(|_| counts) {
                        confirmed.fingerprints.extend(fingerprints(payload));
                    }
                }
            }
            at = end;
        }
        // A torn frame can only be the last one: a frame is synced before the next is written.
        let later = (at..bytes.len())
            .step_by(UNIT)
            .skip(1)
            .any(|later| sound_frame(bytes, later).is_some());
        if later {
            return Err(self.damaged("a frame in its middle is not as it was written"));
        }
        self.length = at as u64;
        Ok(recovered)
    }

    /// Cuts off what is behind the sound part.
    fn cut(&mut self) -> Result<(), LedgerError> {
        let cut = || -> std::io::Result<()> {
            if self.file.metadata()?.len() > self.length {
                self.file.set_len(self.length)?;
                self.file.sync_all()?;
            }
            Ok(())
        };
        match cut() {
            // A full or read-only disk is met where something is to be written.
            Err(cause) if cause.kind() != ErrorKind::ReadOnlyFilesystem => {
                Err(LedgerError::io("cut", &self.path(), cause))
            }
            _ => Ok(()),
        }
    }

    fn damaged(&self, what: &str) -> LedgerError {
        LedgerError::Damaged {
            file: self.path(),
            folder: self.folder.clone(),
            what: what.to_owned(),
        }
    }
}

/// What `records` records take, with the frames of their windows.
fn room(records: usize, windows: usize) -> u64 {
    (records * UNIT + windows.max(1) * 9 * UNIT) as u64
}

/// Appends a frame: magic, kind, length of the payload, checksum of all others, payload, padding.
fn frame(kind: Kind, payload: &[u8], out: &mut Vec<u8>) {
    let mut head = [0; UNIT];
    head[..4].copy_from_slice(&MAGIC);
    head[4] = kind as u8;
    // A delivery is bounded far below 4 GiB.
    head[8..12].copy_from_slice(
        &u32::try_from(payload.len())
            .unwrap_or(u32::MAX)
            .to_le_bytes(),
    );
    let check = checksum(&head, payload);
    head[12..].copy_from_slice(&check.to_le_bytes());
    out.extend(head);
    out.extend(payload);
    out.resize(out.len().next_multiple_of(UNIT), 0);
}

/// The frame at `at`, if it is sound: its kind, its payload, and where the next one begins.
fn sound_frame(bytes: &[u8], at: usize) -> Option<(Kind, &[u8], usize)> {
    let (head, rest) = bytes.get(at..)?.split_first_chunk::<UNIT>()?;
    let kind = [Kind::Window, Kind::Confirmed]
        .into_iter()
        .find(|kind| *kind as u8 == head[4])?;
    let length = u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize;
    let padded = length.next_multiple_of(UNIT);
    let payload = rest.get(..length)?;
    let padding = rest.get(length..padded)?;
    let check = u32::from_le_bytes([head[12], head[13], head[14], head[15]]);
    let sound = head[..4] == MAGIC
        && head[5..8] == [0; 3]
        && padding.iter().all(|byte| *byte == 0)
        && check == checksum(head, payload);
    sound.then_some((kind, payload, at + UNIT + padded))
}

fn checksum(head: &[u8; UNIT], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&head[..12]);
    hasher.update(payload);
    hasher.finalize()
}

/// What a window's frame says.
struct Head {
    generation: u64,
    epoch: u64,
    window: Window,
    origin: Origin,
    key: String,
}

impl Head {
    fn of(payload: &[u8]) -> Option<Self> {
        let (generation, rest) = payload.split_first_chunk::<8>()?;
        let (epoch, rest) = rest.split_first_chunk::<8>()?;
        let (start, rest) = rest.split_first_chunk::<8>()?;
        let (end, rest) = rest.split_first_chunk::<8>()?;
        let (origin, key) = rest.split_first()?;
        let instant = |bytes: &[u8; 8]| DateTime::from_timestamp(i64::from_le_bytes(*bytes), 0);
        Some(Head {
            generation: u64::from_le_bytes(*generation),
            epoch: u64::from_le_bytes(*epoch),
            window: Window {
                start: instant(start)?,
                end: instant(end)?,
            },
            origin: match origin {
                0 => Origin::ReportingService,
                1 => Origin::Graph,
                _ => return None,
            },
            key: String::from_utf8(key.to_vec()).ok()?,
        })
    }
}
