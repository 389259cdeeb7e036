//! What the audit says of a range: complete or not, and if not, where and why.

use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};

use super::{AuditFile, HourOutcome, Kept, Lateness, Stretch};
use crate::ledger::cursor::Cursor;
use crate::ledger::entry::Entry;
use crate::ledger::key::Key;
use crate::ledger::{LedgerError, Owner};
use crate::report::Origin;
use crate::window::{Window, ceiling, floor};

/// Unconfirmed hours are a gap where so much of them comes in a row.
const UNCONFIRMED_MAX: TimeDelta = TimeDelta::hours(24);

/// So much of the time before the cursor is looked at while a collector runs.
const RECENT: TimeDelta = TimeDelta::days(14);

/// All that the audit of one service has.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// From here on each hour before the cursor has a line, where none is lost; `None` before the service has begun.
    pub since: Option<DateTime<Utc>>,
    /// The cursor.
    pub cursor: Option<DateTime<Utc>>,
    /// What stretches of time came to, in their order, up to the cursor.
    pub stretches: Vec<Stretch>,
    /// So many places of its file hold nothing that can be believed.
    pub damaged: u64,
    /// Who is asked.
    pub source: Origin,
    /// What the cursor knows of the time before it.
    entries: Vec<Entry>,
}

/// What a range came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The records by their own time.
    pub records: u64,
    /// Where records may be missing, in the order of time.
    pub gaps: Vec<Gap>,
    /// How many hours are unconfirmed and no gap.
    pub unconfirmed: u64,
    /// How late the records came, as far as early passes have read these hours.
    pub lateness: Lateness,
}

impl Summary {
    /// Whether nothing is missing.
    pub fn is_complete(&self) -> bool {
        self.gaps.is_empty()
    }
}

/// Time of which records may be missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The time.
    pub window: Window,
    /// Why.
    pub reason: HourOutcome,
    /// Until when what is missing can be had, or a part of it; `None` where it cannot be had.
    pub until: Option<DateTime<Utc>>,
}

impl Account {
    /// Reads what the service of `owner` has in the state folder at `path`. Changes nothing: a collector may be running on it.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, or the cursor is damaged.
    pub fn of(path: &Path, owner: Owner<'_>) -> Result<Self, LedgerError> {
        let folder = owner.folder(path);
        let Some(key) = Key::of(path, &folder)? else {
            return Ok(Account::default());
        };
        // The cursor first: lines that are written meanwhile are behind it.
        let Some(cursor) = Cursor::load(&folder, key.id())? else {
            return Ok(Account::default());
        };
        let lines = AuditFile::of(&folder, owner.service, key.id()).read()?;
        let mut account = Account::before(&cursor, lines.stretches);
        account.damaged = lines.damaged;
        Ok(account)
    }

    /// That of what lies before the cursor.
    fn before(cursor: &Cursor, mut stretches: Vec<Stretch>) -> Self {
        let kept = cursor.audit.clone();
        let kept = kept.unwrap_or_else(|| Kept::begin(cursor.at));
        stretches.retain(|line| line.end <= cursor.at);
        if let Some(open) = kept.under_way(cursor.at, cursor.source) {
            while stretches.pop_if(|last| last.end > open.start).is_some() {}
            stretches.push(open);
        }
        Account {
            since: Some(kept.since),
            cursor: Some(cursor.at),
            stretches,
            damaged: 0,
            source: cursor.source,
            entries: cursor.entries.clone(),
        }
    }

    /// That of the last days, by a cursor and the end of a file. Hours of a day are one stretch where the same became of them.
    pub(in crate::ledger) fn recent(cursor: &Cursor, file: &AuditFile) -> Self {
        let oldest = cursor.at.checked_sub_signed(RECENT).unwrap_or(cursor.at);
        // What cannot be read is unknown.
        let lines = file.read_after(oldest).unwrap_or_default();
        let mut account = Account::before(cursor, lines.stretches);
        // The hour under way comes with all of it when it settles.
        let open = cursor.audit.as_ref().map(|kept| kept.open.start);
        let lines = std::mem::take(&mut account.stretches);
        let lines = lines.into_iter().filter(|line| Some(line.start) != open);
        lines.for_each(|line| account.add(line));
        account
    }

    fn add(&mut self, line: Stretch) {
        let last = self.stretches.last_mut().filter(|last| {
            let is_same_day = last.start.date_naive() == line.start.date_naive();
            let is_alike = last.outcome == line.outcome && last.found.is_by_the_same(&line.found);
            is_same_day && last.end == line.start && is_alike
        });
        if let Some(last) = last {
            last.end = line.end;
            last.records = last.records.saturating_add(line.records);
            last.shown.add_all(&line.shown);
            last.found.and(&line.found);
        } else {
            self.stretches.push(line);
        }
    }

    /// Takes in what has settled with a commit, and forgets what is no longer recent.
    pub(crate) fn take(&mut self, settled: &[Stretch]) {
        for line in settled {
            self.add(line.clone());
        }
        let newest = self.stretches.last().map(|last| last.end);
        let oldest = newest.and_then(|newest| newest.checked_sub_signed(RECENT));
        if let Some(oldest) = oldest {
            self.stretches.retain(|line| line.end > oldest);
        }
    }

    /// The cursor is there now.
    pub(crate) fn moved(&mut self, cursor: DateTime<Utc>) {
        self.cursor = Some(cursor);
        self.since = self.since.map(|since| since.min(cursor));
    }

    /// The whole hours of the last days that have settled, from the beginning of a day on where that is known; `None` if there is none yet.
    pub(crate) fn settled_recently(&self) -> Option<Window> {
        let (hour, day) = (TimeDelta::hours(1), TimeDelta::days(1));
        let end = floor(self.cursor?, hour);
        let start = ceiling(self.since?, hour).max(ceiling(end.checked_sub_signed(RECENT)?, day));
        (start < end).then_some(Window { start, end })
    }

    /// What `range` came to. The service has what is at most `reach` old at the time `now`.
    pub fn summary(&self, range: Window, reach: TimeDelta, now: DateTime<Utc>) -> Summary {
        let mut summary = Summary::default();
        let mut gaps: Vec<(Window, HourOutcome)> = vec![];
        let mut at = range.start;
        let runs = self.unconfirmed_for_long();
        for stretch in { self.stretches.iter() }.filter(|one| one.window().overlaps(range)) {
            let part = Window {
                start: stretch.start.max(range.start),
                end: stretch.end.min(range.end),
            };
            self.holes(at, part.start, &mut gaps);
            at = part.end;
            summary.records = summary.records.saturating_add(stretch.records);
            summary.lateness.add(&stretch.found, stretch.records);
            if stretch.outcome.is_gap() || runs.iter().any(|run| run.overlaps(part)) {
                gaps.push((part, stretch.outcome));
            } else if stretch.outcome == HourOutcome::Unconfirmed {
                let hours = u64::try_from(part.length().num_hours()).unwrap_or_default();
                summary.unconfirmed += hours.max(1);
            }
        }
        self.holes(at, range.end, &mut gaps);
        for (window, reason) in gaps {
            let last = summary.gaps.last_mut();
            match last.filter(|last| last.window.end == window.start && last.reason == reason) {
                Some(last) => last.window = last.window.hull(window),
                None => summary.gaps.push(Gap {
                    window,
                    reason,
                    until: None,
                }),
            }
        }
        for gap in summary
            .gaps
            .iter_mut()
            .filter(|gap| gap.reason.may_be_had())
        {
            let deleted = [gap.window.start, gap.window.end].map(|at| at.checked_add_signed(reach));
            gap.until = deleted.into_iter().flatten().find(|deleted| *deleted > now);
        }
        summary
    }

    /// What no line tells of.
    fn holes(
        &self,
        start: DateTime<Utc>,
        end: DateTime<Utc>,
        gaps: &mut Vec<(Window, HourOutcome)>,
    ) {
        // The cursor knows that some of it was collected, though there is no line of it.
        let (since, cursor) = (self.since.unwrap_or(end), self.cursor.unwrap_or(end));
        let audited = Window {
            start: since,
            end: cursor,
        };
        let known = self.entries.iter().map(Entry::window);
        let known: Vec<_> = known.chain([audited]).collect();
        let mut at = start;
        while at < end {
            let is_known = |window: &&Window| window.start <= at && at < window.end;
            let collected = known.iter().filter(is_known).map(|known| known.end).max();
            let next = known.iter().map(|known| known.start);
            let next = next.filter(|start| *start > at).min();
            let window = Window {
                start: at,
                end: collected.or(next).unwrap_or(end).min(end),
            };
            let reason = if collected.is_some() {
                HourOutcome::Unknown
            } else {
                HourOutcome::NeverCollected
            };
            gaps.push((window, reason));
            at = window.end;
        }
    }

    /// Where hours in a row are unconfirmed for so long that it is a gap.
    fn unconfirmed_for_long(&self) -> Vec<Window> {
        let mut runs: Vec<Window> = vec![];
        let unconfirmed = { self.stretches.iter() };
        for stretch in unconfirmed.filter(|one| one.outcome == HourOutcome::Unconfirmed) {
            match runs.last_mut().filter(|run| run.end == stretch.start) {
                Some(run) => run.end = stretch.end,
                None => runs.push(stretch.window()),
            }
        }
        runs.retain(|run| run.length() >= UNCONFIRMED_MAX);
        runs
    }
}
