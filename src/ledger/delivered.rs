//! What early passes have delivered between the cursor and their frontiers, filed for each output by the window that it came with.
//!
//! A record takes 8 bytes for each output that has it where its identity is enough to know it by, and 16 where all of it counts; a window of
//! a delivery takes 48. Files are small, each of one output and about an hour, and removed once the cursor has passed them. What is added is
//! synced after its receipt and before any cursor moves over it. What is not as it was written counts as not delivered, and is told: it may
//! come twice, and is never lost. Only what touches a window is read, when that window begins.

mod held;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use nix::fcntl::{FallocateFlags, fallocate};
use tracing::warn;

use super::lock::Lock;
use super::{ByDelay, Found};
use super::{Confirmed, LedgerError, file};
use crate::record::Fingerprint;
use crate::report::{Origin, Report};
use crate::window::Window;
pub use held::{Held, HeldRow};

/// The folder of these files in that of a service.
pub(super) const FOLDER: &str = "early";

/// What stands in the place of an output's name where early passes only count; no output has this name.
pub const COUNTED: &str = ".counted";

/// What the folders of frontiers begin with, in that folder.
pub(super) const PASS: &str = "pass.";

const HEAD: &[u8; 32] = b"exchange-reports delivered 1   \n";
const MAGIC: [u8; 4] = *b"dlv1";
/// Frames begin at multiples of this.
const UNIT: usize = 8;
const FRAME_HEAD: usize = 48;

/// A file that has grown to so many bytes is followed by another.
const LENGTH_MAX: u64 = 1 << 20;
/// Space is reserved in steps of this many bytes.
const RESERVE: u64 = 64 << 10;
/// A file is removed when the cursor has passed its end by so much.
const KEPT: TimeDelta = TimeDelta::minutes(2);

/// What early passes of one service have delivered. Clones share it.
#[derive(Clone, Debug)]
pub struct Delivered(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// `early` in the service's folder.
    folder: PathBuf,
    lock: Arc<Lock>,
    held: Held,
    /// The bytes of a record.
    width: usize,
    index: Mutex<Index>,
}

#[derive(Debug, Default)]
struct Index {
    /// What was filed in another one is void.
    epoch: u64,
    /// By their numbers.
    files: BTreeMap<u64, Filed>,
    next: u64,
}

/// One file.
#[derive(Debug)]
struct Filed {
    output: String,
    frames: Vec<Frame>,
    /// It is being written.
    is_open: bool,
}

/// Records of one window, and where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    window: Window,
    epoch: u64,
    /// Of the first record.
    at: u64,
    count: u32,
    check: u32,
    /// That of the early pass, in seconds.
    delay: u32,
}

impl Delivered {
    /// Takes up the files in `folder`, of which there may be none; they are those of a service with this report.
    pub(super) fn open(
        folder: PathBuf,
        lock: Arc<Lock>,
        report: &Report,
        epoch: u64,
    ) -> Result<Self, LedgerError> {
        let held = Held::open(&folder, Arc::clone(&lock), epoch)?;
        let width = if report.has_two_services() { 8 } else { 16 };
        let mut index = Index {
            epoch,
            ..Index::default()
        };
        for (number, output, path) in files(&folder)? {
            index.next = index.next.max(number + 1);
            let Some(bytes) = file::read(&path)? else {
                continue;
            };
            let (frames, damaged) = frames(&bytes, width);
            if damaged > 0 {
                warn!(
                    file = %path.display(), bytes = damaged,
                    "a part of what was delivered early cannot be read, as after a crash in the middle of a write: it counts as not delivered, so that \
                     its records may come twice; none is lost"
                );
            }
            let filed = Filed {
                output,
                frames,
                is_open: false,
            };
            index.files.insert(number, filed);
        }
        Ok(Delivered(Arc::new(Inner {
            folder,
            lock,
            held,
            width,
            index: Mutex::new(index),
        })))
    }

    /// What `output` confirms to the early pass of this delay is filed by this; what that only counts is filed for [`COUNTED`].
    pub fn filing(&self, output: &str, delay: Duration) -> Filing {
        Filing {
            delivered: self.clone(),
            output: output.to_owned(),
            delay: u32::try_from(delay.as_secs()).unwrap_or(u32::MAX),
            open: None,
        }
    }

    /// How many records of windows that begin in `window` each of the early passes with these delays in seconds had found, with the shorter
    /// ones. Where outputs are not alike, those of the one that has most.
    pub fn found(&self, window: Window, delays: &[u32]) -> Found {
        let index = self.index();
        let mut outputs: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for filed in index.files.values() {
            let frames = filed.frames.iter().filter(|frame| {
                let begins = window.start <= frame.window.start && frame.window.start < window.end;
                frame.epoch == index.epoch && begins
            });
            for frame in frames {
                let counts = outputs.entry(&filed.output);
                let counts = counts.or_insert_with(|| vec![0; delays.len()]);
                for (count, delay) in counts.iter_mut().zip(delays) {
                    if frame.delay <= *delay {
                        *count += u64::from(frame.count);
                    }
                }
            }
        }
        let most = |nth: usize| outputs.values().map(|counts| counts[nth]).max();
        let passes = delays.iter().enumerate().map(|(nth, delay)| ByDelay {
            delay: *delay,
            records: most(nth).unwrap_or_default(),
        });
        Found::new(passes.collect())
    }

    /// Whether nothing is filed that counts.
    pub fn is_empty(&self) -> bool {
        let index = self.index();
        let counts = |filed: &Filed| filed.end(index.epoch).is_some();
        !index.files.values().any(counts) && self.0.held.is_empty()
    }

    /// What early passes have seen under way.
    pub fn held(&self) -> &Held {
        &self.0.held
    }

    /// From now on only what is filed from here on counts.
    pub fn void_before(&self, epoch: u64) {
        self.index().epoch = epoch;
        self.0.held.void_before(epoch);
    }

    /// What each of `outputs` has of windows that begin at `from` or later, if that is given, and have an instant in common with `window` or are
    /// less than `slack` apart from it. Blocks on the disk.
    pub fn touching(
        &self,
        outputs: &[String],
        window: Window,
        from: Option<DateTime<Utc>>,
        slack: TimeDelta,
    ) -> Vec<Vec<Confirmed>> {
        let touches = |of: Window| {
            let near = if slack.is_zero() {
                of.overlaps(window)
            } else {
                of.start <= window.end + slack && window.start <= of.end + slack
            };
            near && from.is_none_or(|from| of.start >= from)
        };
        let of_output = |output: &String| {
            let wanted: Vec<(u64, Vec<Frame>)> = {
                let index = self.index();
                let files = { index.files.iter() }.filter(|(_, filed)| filed.output == *output);
                let wanted = files.map(|(number, filed)| {
                    let frames = filed.frames.iter().copied();
                    let counts =
                        |frame: &Frame| frame.epoch == index.epoch && touches(frame.window);
                    (*number, frames.filter(counts).collect::<Vec<_>>())
                });
                wanted.filter(|(_, frames)| !frames.is_empty()).collect()
            };
            let mut all = vec![];
            for (number, frames) in wanted {
                self.read(number, output, &frames, &mut all);
            }
            all
        };
        outputs.iter().map(of_output).collect()
    }

    /// Reads the records of some frames of a file.
    fn read(&self, number: u64, output: &str, frames: &[Frame], all: &mut Vec<Confirmed>) {
        let path = self.0.folder.join(name(number, output));
        let file = file::open(&path, File::options().read(true));
        let mut lost = 0;
        for frame in frames {
            let mut bytes = vec![0; frame.count as usize * self.0.width];
            let read = file.as_ref().ok();
            let read = read.and_then(|file| file.read_exact_at(&mut bytes, frame.at).ok());
            if read.is_none() || crc32fast::hash(&bytes) != frame.check {
                lost += frame.count;
                continue;
            }
            let fingerprint = |bytes: &[u8]| {
                let mut whole = [0; 16];
                whole[..bytes.len()].copy_from_slice(bytes);
                Fingerprint(whole)
            };
            all.push(Confirmed {
                window: frame.window,
                origin: Origin::default(),
                fingerprints: bytes.chunks_exact(self.0.width).map(fingerprint).collect(),
            });
        }
        if lost > 0 {
            warn!(
                file = %path.display(), records = lost,
                "records that were delivered early cannot be read from the state any more: they count as not delivered, and may come twice; none \
                 is lost"
            );
        }
    }

    /// Removes what the cursor has passed, and what does not count any more. Blocks on the disk.
    pub fn remove_before(&self, cursor: DateTime<Utc>) {
        let mut gone = vec![];
        {
            let mut index = self.index();
            let epoch = index.epoch;
            index.files.retain(|number, filed| {
                let counts = filed.end(epoch).is_some_and(|end| end + KEPT >= cursor);
                let stays = filed.is_open || counts;
                if !stays {
                    gone.push(name(*number, &filed.output));
                }
                stays
            });
        }
        for name in gone {
            let path = self.0.folder.join(name);
            if let Err(error) = fs::remove_file(&path) {
                // It is looked for again at the next start.
                warn!(file = %path.display(), %error, "a file of what was delivered early cannot be removed; it is not needed any more");
            }
        }
    }

    /// Whether [`Self::remove_before`] would remove anything.
    pub fn has_passed(&self, cursor: DateTime<Utc>) -> bool {
        let index = self.index();
        let counts = |filed: &Filed| {
            let end = filed.end(index.epoch);
            end.is_some_and(|end| end + KEPT >= cursor)
        };
        let mut files = index.files.values();
        files.any(|filed| !filed.is_open && !counts(filed))
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.0.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Filed {
    /// The last end of a window of this epoch.
    fn end(&self, epoch: u64) -> Option<DateTime<Utc>> {
        let frames = self.frames.iter().filter(|frame| frame.epoch == epoch);
        frames.map(|frame| frame.window.end).max()
    }
}

/// Files what one output confirms to one pass.
#[derive(Debug)]
pub struct Filing {
    delivered: Delivered,
    output: String,
    /// That of the pass, in seconds.
    delay: u32,
    open: Option<Open>,
}

/// The file that is being written.
#[derive(Debug)]
struct Open {
    number: u64,
    file: File,
    /// Up to here it is sound.
    length: u64,
    /// Up to here space is reserved.
    reserved: u64,
    /// The hour of its first window.
    hour: Option<i64>,
    /// Its windows are of more than one hour.
    is_long: bool,
}

impl Filing {
    /// Whether space is reserved for `records` records of at most `windows` windows.
    pub fn has_room(&self, records: usize, windows: usize) -> bool {
        let room = self.room(records, windows);
        let fits = |open: &Open| !open.is_over() && open.length + room <= open.reserved;
        self.open.as_ref().is_some_and(fits)
    }

    /// Reserves space for what `records` records of at most `windows` windows take, so that a full disk is met before they are delivered.
    ///
    /// # Errors
    ///
    /// If there is no room; what was filed is still there then, and the call may be repeated.
    pub fn reserve(&mut self, records: usize, windows: usize) -> Result<(), LedgerError> {
        self.take_up()?;
        if self.has_room(records, windows) {
            return Ok(());
        }
        let most = self.room(records, windows).next_multiple_of(RESERVE);
        let path = self.path();
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        let (from, length) = (open.length.cast_signed(), most.cast_signed());
        let flags = FallocateFlags::FALLOC_FL_KEEP_SIZE;
        match fallocate(&open.file, flags, from, length).map_err(std::io::Error::from) {
            // Where none can be reserved, a disk that fills up may have records come again.
            Err(error) if file::is_unable(&error) => {}
            Err(error) => return Err(LedgerError::io("reserve space in", &path, error)),
            Ok(()) => {}
        }
        open.reserved = open.length + most;
        Ok(())
    }

    /// Files what is confirmed, and syncs.
    ///
    /// # Errors
    ///
    /// If the disk refuses; the call may be repeated.
    pub fn confirm(&mut self, confirmed: &[Confirmed]) -> Result<(), LedgerError> {
        self.take_up()?;
        let path = self.path();
        let width = self.delivered.0.width;
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        let epoch = self.delivered.index().epoch;
        let (mut bytes, mut frames) = (vec![], vec![]);
        for of in confirmed {
            // A delivery is bounded far below this.
            let count = u32::try_from(of.fingerprints.len()).unwrap_or(u32::MAX);
            let records = of.fingerprints.iter().take(count as usize);
            let payload: Vec<u8> = records
                .flat_map(|record| record.0[..width].to_vec())
                .collect();
            let frame = Frame {
                window: of.window,
                epoch,
                at: open.length + (bytes.len() + FRAME_HEAD) as u64,
                count,
                check: crc32fast::hash(&payload),
                delay: self.delay,
            };
            bytes.extend(head(&frame, width));
            bytes.extend(payload);
            frames.push(frame);
        }
        let write = || {
            #[cfg(test)]
            file::refused()?;
            open.file.write_all_at(&bytes, open.length)?;
            open.file.sync_data()
        };
        write().map_err(|cause| LedgerError::io("write", &path, cause))?;
        open.length += bytes.len() as u64;
        for frame in &frames {
            let hour = frame.window.start.timestamp() / 3_600;
            open.is_long |= *open.hour.get_or_insert(hour) != hour;
        }
        let mut index = self.delivered.index();
        if let Some(filed) = index.files.get_mut(&open.number) {
            filed.frames.extend(frames);
        }
        Ok(())
    }

    /// Has a file to write to: the one that is open, or another where that has grown long or has gone.
    fn take_up(&mut self) -> Result<(), LedgerError> {
        let inner = Arc::clone(&self.delivered.0);
        inner.lock.hold()?;
        let path = self.path();
        let is_good = |open: &Open| !open.is_over() && file::is_at(&open.file, &path);
        if self.open.as_ref().is_some_and(is_good) {
            return Ok(());
        }
        self.close();
        file::make_folder(&inner.folder)?;
        let number = {
            let mut index = self.delivered.index();
            index.next += 1;
            index.next - 1
        };
        let path = inner.folder.join(name(number, &self.output));
        let create = || {
            #[cfg(test)]
            file::refused()?;
            let file = file::open(
                &path,
                File::options().read(true).write(true).create_new(true),
            )?;
            file.write_all_at(HEAD, 0)?;
            file.sync_all()?;
            Ok(file)
        };
        let file = create().map_err(|cause| LedgerError::io("make", &path, cause))?;
        file::sync_folder(&inner.folder)?;
        let filed = Filed {
            output: self.output.clone(),
            frames: vec![],
            is_open: true,
        };
        self.delivered.index().files.insert(number, filed);
        self.open = Some(Open {
            number,
            file,
            length: HEAD.len() as u64,
            reserved: 0,
            hour: None,
            is_long: false,
        });
        Ok(())
    }

    fn path(&self) -> PathBuf {
        let number = self.open.as_ref().map_or(0, |open| open.number);
        self.delivered.0.folder.join(name(number, &self.output))
    }

    fn room(&self, records: usize, windows: usize) -> u64 {
        (records * self.delivered.0.width + windows.max(1) * FRAME_HEAD) as u64
    }

    fn close(&mut self) {
        if let Some(open) = self.open.take()
            && let Some(filed) = self.delivered.index().files.get_mut(&open.number)
        {
            filed.is_open = false;
        }
    }
}

impl Drop for Filing {
    fn drop(&mut self) {
        self.close();
    }
}

impl Open {
    /// Whether another is to follow it.
    fn is_over(&self) -> bool {
        self.is_long || self.length >= LENGTH_MAX
    }
}

/// The name of a file.
fn name(number: u64, output: &str) -> String {
    format!("{number:012}.{output}")
}

/// All files in `folder`, with their numbers and outputs.
fn files(folder: &std::path::Path) -> Result<Vec<(u64, String, PathBuf)>, LedgerError> {
    let read = |cause| LedgerError::io("read", folder, cause);
    let entries = match fs::read_dir(folder) {
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        entries => entries.map_err(read)?,
    };
    let mut found = vec![];
    for entry in entries {
        let entry = entry.map_err(read)?;
        let name = entry.file_name();
        let parts = name.to_str().and_then(|name| name.split_once('.'));
        if let Some((number, output)) = parts
            && let Ok(number) = number.parse()
        {
            found.push((number, output.to_owned(), entry.path()));
        }
    }
    Ok(found)
}

/// The head of a frame: magic, count, width, the records' checksum, epoch, start, end, the pass's delay, its own checksum.
fn head(frame: &Frame, width: usize) -> [u8; FRAME_HEAD] {
    let mut head = [0; FRAME_HEAD];
    let mut put = |at: usize, bytes: &[u8]| head[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &MAGIC);
    put(4, &frame.count.to_le_bytes());
    put(8, &u32::try_from(width).unwrap_or_default().to_le_bytes());
    put(12, &frame.check.to_le_bytes());
    put(16, &frame.epoch.to_le_bytes());
    put(24, &frame.window.start.timestamp().to_le_bytes());
    put(32, &frame.window.end.timestamp().to_le_bytes());
    put(40, &frame.delay.to_le_bytes());
    let check = crc32fast::hash(&head[..44]);
    head[44..].copy_from_slice(&check.to_le_bytes());
    head
}

/// The sound frames of a file, and how many bytes of it are no part of one. Space that was reserved and not used is zeros.
fn frames(bytes: &[u8], width: usize) -> (Vec<Frame>, usize) {
    let mut frames = vec![];
    if !bytes.starts_with(HEAD) {
        return (frames, bytes.len());
    }
    let (mut at, mut damaged) = (HEAD.len(), 0);
    while at < bytes.len() {
        if let Some(frame) = sound(bytes, at, width) {
            at += FRAME_HEAD + frame.count as usize * width;
            frames.push(frame);
        } else {
            let end = bytes.len().min(at + UNIT);
            let is_blank = bytes[at..end].iter().all(|byte| *byte == 0);
            damaged += if is_blank { 0 } else { end - at };
            at = end;
        }
    }
    (frames, damaged)
}

/// The frame at `at`, if it is sound.
fn sound(bytes: &[u8], at: usize, width: usize) -> Option<Frame> {
    let head = bytes.get(at..at + FRAME_HEAD)?;
    let four = |at: usize| u32::from_le_bytes(std::array::from_fn(|nth| head[at + nth]));
    let eight = |at: usize| u64::from_le_bytes(std::array::from_fn(|nth| head[at + nth]));
    let instant = |at: usize| DateTime::from_timestamp(eight(at).cast_signed(), 0);
    let is_head = head[..4] == MAGIC && four(44) == crc32fast::hash(&head[..44]);
    if !is_head || four(8) as usize != width {
        return None;
    }
    let (count, check) = (four(4), four(12));
    let from = at + FRAME_HEAD;
    let records = bytes.get(from..from.checked_add(count as usize * width)?)?;
    (crc32fast::hash(records) == check).then_some(Frame {
        window: Window {
            start: instant(24)?,
            end: instant(32)?,
        },
        epoch: eight(16),
        at: from as u64,
        count,
        check,
        delay: four(40),
    })
}

#[cfg(test)]
mod tests;
