//! The audit's file: a head, and lines of one length in the order of time, each under a checksum of its own.
//!
//! A start reads it from its end back to the first sound line before the cursor. What is behind that is cut: a crash has left it there.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use chrono::{DateTime, TimeDelta, Utc};
use tracing::warn;

use super::found::{self, ByDelay, Found};
use super::{HourOutcome, Stretch};
use crate::ledger::{LedgerError, file};
use crate::record::Sums;
use crate::report::Origin;

pub(in crate::ledger) const FILE: &str = "audit";
const HEAD: &[u8; LINE] = b"exchange-reports-collector audit 1                                                                                             \n";
/// The length of the head and of each line.
const LINE: usize = 128;
/// Where the counts of early passes begin: a delay and records in four bytes each, the shortest delay first; a delay of 0 ends them.
const FOUND: usize = 56;
/// What a line of this version begins with.
const VERSION: u8 = 1;

/// Lines are kept for so long.
const KEPT: TimeDelta = TimeDelta::days(400);
/// A file with more lines is written anew with those that are kept: ten days more than an hour each.
const LINES_MAX: u64 = 410 * 24;

/// So many lines are read at once from the end.
const TAIL: u64 = 192;

/// The audit's file of one service.
#[derive(Clone, Debug)]
pub(in crate::ledger) struct AuditFile {
    path: PathBuf,
    /// What checksums begin with, so that no line of another service or state folder is taken for one of this.
    seal: u32,
}

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Sound lines in the order of time, none of which overlaps another.
    pub(super) stretches: Vec<Stretch>,
    /// How many places hold no sound line.
    pub(super) damaged: u64,
}

impl AuditFile {
    /// That of the service of this name in its `folder`, in a state folder with the key of this name.
    pub(in crate::ledger) fn of(folder: &Path, service: &str, key: &str) -> Self {
        AuditFile {
            path: folder.join(FILE),
            seal: crc32fast::hash(format!("{service} {key}").as_bytes()),
        }
    }

    /// Cuts what lies beyond the cursor, which is at `cursor`, and writes the `last` line before it again where that is missing.
    pub(in crate::ledger) fn mend(
        &self,
        cursor: DateTime<Utc>,
        last: Option<&Stretch>,
    ) -> Result<(), LedgerError> {
        let failed = |cause| LedgerError::io("mend", &self.path, cause);
        if let Some(file) = self.open()? {
            let end = self.cut_beyond(&file, cursor).map_err(failed)?;
            if last.is_none_or(|last| end.is_some_and(|end| end >= last.end)) {
                return Ok(());
            }
        } else if last.is_none() {
            return Ok(());
        }
        warn!(
            file = %self.path.display(),
            "the audit's file ends before the cursor does: it was removed, cut, damaged or put back; hours that it has lost are told as unknown"
        );
        self.append(last.map(std::slice::from_ref).unwrap_or_default())
    }

    /// Appends lines, in the place of what has come after the first of them before.
    pub(in crate::ledger) fn append(&self, lines: &[Stretch]) -> Result<(), LedgerError> {
        let Some(first) = lines.first() else {
            return Ok(());
        };
        #[cfg(test)]
        file::refused().map_err(|cause| LedgerError::io("write", &self.path, cause))?;
        let file = match self.open()? {
            Some(file) => file,
            None => self.create()?,
        };
        let bytes: Vec<u8> = lines.iter().flat_map(|line| self.encode(line)).collect();
        let write = || {
            self.cut_beyond(&file, first.start)?;
            let end = file.metadata()?.len();
            file.write_all_at(&bytes, end)?;
            file.sync_data()?;
            Ok(end + bytes.len() as u64)
        };
        let length = write().map_err(|cause| LedgerError::io("write", &self.path, cause))?;
        if length / LINE as u64 > LINES_MAX {
            self.write_anew()?;
        }
        Ok(())
    }

    /// All that the file holds; nothing if there is none.
    pub(super) fn read(&self) -> Result<Lines, LedgerError> {
        let bytes = file::read(&self.path)?.unwrap_or_default();
        Ok(self.lines(bytes.get(LINE..).unwrap_or_default()))
    }

    /// What has settled after `oldest`, in the order of time.
    pub(in crate::ledger) fn settled_after(
        &self,
        oldest: DateTime<Utc>,
    ) -> Result<Vec<Stretch>, LedgerError> {
        Ok(self.read_after(oldest)?.stretches)
    }

    /// What it holds of the time after `oldest`, read from its end.
    pub(super) fn read_after(&self, oldest: DateTime<Utc>) -> Result<Lines, LedgerError> {
        let Some(file) = self.open()? else {
            return Ok(Lines::default());
        };
        let read = || {
            let (mut first, mut bytes) = (file.metadata()?.len() / LINE as u64, vec![]);
            while first > 1 {
                let before = first.saturating_sub(TAIL).max(1);
                let length = usize::try_from(first - before).unwrap_or_default() * LINE;
                let mut more = vec![0; length];
                file.read_exact_at(&mut more, before * LINE as u64)?;
                more.append(&mut bytes);
                (first, bytes) = (before, more);
                let oldest_line = bytes.first_chunk().and_then(|line| self.decode(line));
                if oldest_line.is_some_and(|line| line.end <= oldest) {
                    break;
                }
            }
            Ok(bytes)
        };
        let bytes = read().map_err(|cause| LedgerError::io("read", &self.path, cause))?;
        let mut lines = self.lines(&bytes);
        lines.stretches.retain(|line| line.end > oldest);
        Ok(lines)
    }

    fn lines(&self, bytes: &[u8]) -> Lines {
        let mut lines = Lines::default();
        let (all, torn) = bytes.as_chunks::<LINE>();
        lines.damaged += u64::from(!torn.is_empty());
        for line in all {
            let Some(line) = self.decode(line) else {
                lines.damaged += 1;
                continue;
            };
            // What was written later counts.
            while lines
                .stretches
                .pop_if(|last| last.end > line.start)
                .is_some()
            {}
            lines.stretches.push(line);
        }
        lines
    }

    /// Opens the file; `None` if there is none.
    fn open(&self) -> Result<Option<File>, LedgerError> {
        match file::open(&self.path, File::options().read(true).write(true)) {
            Ok(file) => Ok(Some(file)),
            Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(LedgerError::io("open", &self.path, cause)),
        }
    }

    fn create(&self) -> Result<File, LedgerError> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        file::replace(folder, FILE, &[HEAD])?;
        let gone = || LedgerError::io("open", &self.path, ErrorKind::NotFound.into());
        self.open()?.ok_or_else(gone)
    }

    /// Cuts the file behind its last sound line that ends by `at`, whose end it returns.
    fn cut_beyond(&self, file: &File, at: DateTime<Utc>) -> std::io::Result<Option<DateTime<Utc>>> {
        let length = file.metadata()?.len();
        if length < LINE as u64 {
            file.write_all_at(HEAD, 0)?;
        }
        let mut lines = (length / LINE as u64).max(1);
        let mut last = None;
        while lines > 1 {
            let mut bytes = [0; LINE];
            file.read_exact_at(&mut bytes, (lines - 1) * LINE as u64)?;
            let line = self.decode(&bytes).filter(|line| line.end <= at);
            if let Some(line) = line {
                last = Some(line.end);
                break;
            }
            lines -= 1;
        }
        if length != lines * LINE as u64 {
            file.set_len(lines * LINE as u64)?;
            file.sync_data()?;
        }
        Ok(last)
    }

    /// Writes the file anew with the lines that are kept.
    fn write_anew(&self) -> Result<(), LedgerError> {
        let lines = self.read()?.stretches;
        let Some(newest) = lines.last().map(|last| last.end) else {
            return Ok(());
        };
        let oldest = newest.checked_sub_signed(KEPT).unwrap_or(newest);
        let kept = lines.iter().filter(|line| line.end > oldest);
        let bytes: Vec<u8> = kept.flat_map(|line| self.encode(line)).collect();
        let folder = self.path.parent().unwrap_or(Path::new("."));
        file::replace(folder, FILE, &[HEAD, &bytes])
    }

    fn encode(&self, line: &Stretch) -> [u8; LINE] {
        let length = u32::try_from((line.end - line.start).num_seconds()).unwrap_or(u32::MAX);
        let outcome = HourOutcome::ALL.iter().position(|one| *one == line.outcome);
        let mut bytes = [0; LINE];
        bytes[0] = VERSION;
        bytes[1] = outcome
            .and_then(|outcome| u8::try_from(outcome).ok())
            .unwrap_or(u8::MAX);
        bytes[2] = u8::from(line.source == Origin::Graph);
        bytes[4..8].copy_from_slice(&length.to_le_bytes());
        let numbers = [
            line.start.timestamp().cast_unsigned(),
            line.records,
            line.shown.rows,
            line.shown.whole,
            line.shown.identities,
            line.settled.timestamp().cast_unsigned(),
        ];
        for (place, number) in numbers.into_iter().enumerate() {
            bytes[8 + 8 * place..16 + 8 * place].copy_from_slice(&number.to_le_bytes());
        }
        let places = bytes[FOUND..FOUND + 8 * found::KEPT].chunks_exact_mut(8);
        for (place, one) in places.zip(line.found.passes()) {
            let records = u32::try_from(one.records).unwrap_or(u32::MAX);
            place[..4].copy_from_slice(&one.delay.to_le_bytes());
            place[4..].copy_from_slice(&records.to_le_bytes());
        }
        // Four bytes are left.
        let check = self.check(&bytes);
        bytes[LINE - 4..].copy_from_slice(&check);
        bytes
    }

    fn decode(&self, bytes: &[u8; LINE]) -> Option<Stretch> {
        let number = |place: usize| {
            let bytes = bytes.get(8 + 8 * place..16 + 8 * place)?;
            Some(u64::from_le_bytes(bytes.try_into().ok()?))
        };
        let instant = |place| DateTime::from_timestamp(number(place)?.cast_signed(), 0);
        if bytes[0] != VERSION || self.check(bytes) != bytes[LINE - 4..] {
            return None;
        }
        let start: DateTime<Utc> = instant(0)?;
        let length = u32::from_le_bytes(bytes[4..8].try_into().ok()?);
        let four = |at: usize| u32::from_le_bytes(std::array::from_fn(|nth| bytes[at + nth]));
        let passes = (0..found::KEPT).map(|nth| FOUND + 8 * nth);
        let passes = passes.map(|at| ByDelay {
            delay: four(at),
            records: four(at + 4).into(),
        });
        let passes = passes.take_while(|one| one.delay > 0);
        Some(Stretch {
            start,
            end: start.checked_add_signed(TimeDelta::seconds(length.into()))?,
            outcome: *HourOutcome::ALL.get(usize::from(bytes[1]))?,
            records: number(1)?,
            shown: Sums {
                rows: number(2)?,
                whole: number(3)?,
                identities: number(4)?,
            },
            settled: instant(5)?,
            source: match bytes[2] {
                0 => Origin::ReportingService,
                _ => Origin::Graph,
            },
            found: Found::new(passes.collect()),
        })
    }

    fn check(&self, line: &[u8; LINE]) -> [u8; 4] {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.seal);
        hasher.update(&line[..LINE - 4]);
        hasher.finalize().to_le_bytes()
    }
}
