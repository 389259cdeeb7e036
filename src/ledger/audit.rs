//! What each hour came to, for more than a year: how many records, what the walks showed, how complete it is, and when it settled.
//!
//! Windows are parts of an hour, or of a day where a report is by day, and never cross a full hour: an hour settles with the window that ends
//! it. What it has come to until then is kept in the cursor ([`Kept`]). When it settles, a line of it is appended to a file of its own
//! (`audit`), and synced, before the cursor is committed. So a crash in between leaves a line that the cursor does not know: it is cut at the
//! next start. Where the file lacks the last line that the cursor knows, that is written again.
//!
//! A line is believed only if its checksum holds and it ends before the cursor. What no line tells of is never complete: damage, deletion and
//! a file from a backup leave holes.

mod account;
mod file;
mod found;

use chrono::{DateTime, SubsecRound as _, Utc};
use serde::{Deserialize, Serialize};

pub use self::account::{Account, Gap, Summary};
pub(super) use self::file::AuditFile;
pub use self::found::{ByDelay, Found, Lateness, Within};
use super::entry::{Entry, Outcome};
use crate::record::Sums;
use crate::report::Origin;
use crate::window::Window;

const HOUR_SECONDS: i64 = 3_600;

/// What became of a window, with what its walk showed.
#[derive(Clone, Debug)]
pub struct Passed {
    /// What became of it.
    pub entry: Entry,
    /// So many of its records are of the hour that follows.
    pub beyond: u64,
    /// The rows of its hour that its last walk showed, and no window before it.
    pub shown: Sums,
    /// What early passes had found of it.
    pub found: Found,
}

impl From<Entry> for Passed {
    fn from(entry: Entry) -> Self {
        Passed {
            entry,
            beyond: 0,
            shown: Sums::default(),
            found: Found::default(),
        }
    }
}

/// How complete an hour is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HourOutcome {
    /// Every record that the service returned is confirmed by every output.
    Complete,
    /// The service has returned nothing.
    Empty,
    /// The service has returned nothing, and Microsoft Graph could not be asked whether there is something.
    Unconfirmed,
    /// The result kept changing; every row that was seen is delivered.
    Unsettled,
    /// The service cut the result off.
    Capped,
    /// The service returned bytes that cannot be read as rows.
    Withheld,
    /// It is not known what there was.
    Unknown,
    /// The service no longer kept what was there.
    Unreachable,
    /// Nobody has asked for it.
    NeverCollected,
}

impl HourOutcome {
    /// All of them, from the best to the worst.
    pub const ALL: [HourOutcome; 9] = [
        HourOutcome::Complete,
        HourOutcome::Empty,
        HourOutcome::Unconfirmed,
        HourOutcome::Unsettled,
        HourOutcome::Capped,
        HourOutcome::Withheld,
        HourOutcome::Unknown,
        HourOutcome::Unreachable,
        HourOutcome::NeverCollected,
    ];

    /// The word for it, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            HourOutcome::Complete => "complete",
            HourOutcome::Empty => "empty",
            HourOutcome::Unconfirmed => "unconfirmed",
            HourOutcome::Unsettled => "unsettled",
            HourOutcome::Capped => "capped",
            HourOutcome::Withheld => "withheld",
            HourOutcome::Unknown => "unknown",
            HourOutcome::Unreachable => "unreachable",
            HourOutcome::NeverCollected => "never_collected",
        }
    }

    /// Whether records may be missing, whatever its neighbours are.
    pub fn is_gap(self) -> bool {
        self > HourOutcome::Unconfirmed
    }

    /// Whether what is missing could be had by asking again.
    fn may_be_had(self) -> bool {
        !matches!(self, HourOutcome::Capped | HourOutcome::Unreachable)
    }

    /// That of a window; none where nothing was collected with it.
    fn of(outcome: &Outcome) -> Option<Self> {
        Some(match outcome {
            Outcome::Complete => HourOutcome::Complete,
            Outcome::EmptyUnconfirmed => HourOutcome::Unconfirmed,
            Outcome::Unsettled { .. } => HourOutcome::Unsettled,
            Outcome::Capped => HourOutcome::Capped,
            Outcome::Withheld => HourOutcome::Withheld,
            Outcome::Unknown => HourOutcome::Unknown,
            Outcome::Unreachable => HourOutcome::Unreachable,
            Outcome::Outputs { .. } | Outcome::Source { .. } => return None,
        })
    }
}

/// What a stretch of time came to: an hour, a day of a report by day, a part of one, or a longer gap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// The first instant.
    pub start: DateTime<Utc>,
    /// The first instant after it.
    pub end: DateTime<Utc>,
    /// How complete it is.
    pub outcome: HourOutcome,
    /// The records that were delivered, by their own time.
    pub records: u64,
    /// What the walks showed that settled it.
    pub shown: Sums,
    /// When it settled.
    pub settled: DateTime<Utc>,
    /// Who was asked last.
    pub source: Origin,
    /// What early passes had found of it.
    #[serde(default)]
    pub found: Found,
}

impl Stretch {
    /// The time that it is about.
    pub fn window(&self) -> Window {
        Window {
            start: self.start,
            end: self.end,
        }
    }

    fn gap(
        window: Window,
        outcome: HourOutcome,
        (settled, source): (DateTime<Utc>, Origin),
    ) -> Self {
        Stretch {
            start: window.start,
            end: window.end,
            outcome,
            records: 0,
            shown: Sums::default(),
            settled,
            source,
            found: Found::default(),
        }
    }
}

/// What the cursor keeps of the audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// From here on each hour before the cursor has a line.
    pub since: DateTime<Utc>,
    /// The hour that has not settled.
    open: Open,
    /// The last line that was written before the cursor.
    last: Option<Stretch>,
    /// Up to here every output has been told what the lines say; `None` where an earlier version has written it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) told: Option<DateTime<Utc>>,
}

/// What the hour under way has come to, up to the cursor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Open {
    start: DateTime<Utc>,
    outcome: HourOutcome,
    records: u64,
    shown: Sums,
    /// What early passes had found; `None` before the first window.
    #[serde(default)]
    found: Option<Found>,
}

impl Open {
    fn new(start: DateTime<Utc>, records: u64) -> Self {
        Open {
            start,
            outcome: HourOutcome::Empty,
            records,
            shown: Sums::default(),
            found: None,
        }
    }

    /// Takes in a window.
    fn add(&mut self, outcome: HourOutcome, passed: &Passed) {
        let records = passed.entry.records.saturating_sub(passed.beyond);
        self.records = self.records.saturating_add(records);
        self.shown.add_all(&passed.shown);
        match &mut self.found {
            Some(found) => found.and(&passed.found),
            None => self.found = Some(passed.found.clone()),
        }
        if outcome > HourOutcome::Complete {
            self.outcome = self.outcome.max(outcome);
        }
    }

    fn until(&self, end: DateTime<Utc>, (settled, source): (DateTime<Utc>, Origin)) -> Stretch {
        // The service tells of this hour, so where it shows nothing within it, nothing is there.
        let shows = self.shown.rows > 0 || self.records > 0;
        let outcome = match self.outcome {
            HourOutcome::Empty | HourOutcome::Unconfirmed if shows => HourOutcome::Complete,
            outcome => outcome,
        };
        Stretch {
            start: self.start,
            end,
            outcome,
            records: self.records,
            shown: self.shown,
            settled,
            source,
            found: self.found.clone().unwrap_or_default(),
        }
    }
}

impl Kept {
    /// Where nothing is audited before `at`.
    pub(super) fn begin(at: DateTime<Utc>) -> Self {
        Kept {
            since: at,
            open: Open::new(at, 0),
            last: None,
            told: Some(at),
        }
    }

    /// The last line that was written.
    pub(super) fn last(&self) -> Option<&Stretch> {
        self.last.as_ref()
    }

    /// Takes in the windows that a commit passes, at the time `now` by what `source` tells; returns what has settled with them.
    pub(super) fn pass(
        &mut self,
        passed: &[Passed],
        now: DateTime<Utc>,
        source: Origin,
    ) -> Vec<Stretch> {
        let by = (now.trunc_subsecs(0), source);
        let mut settled = vec![];
        for one in passed {
            let Some(outcome) = HourOutcome::of(&one.entry.outcome) else {
                continue;
            };
            let window = one.entry.window();
            if outcome == HourOutcome::Unreachable {
                self.flush(window.start, by, &mut settled);
                settled.push(Stretch::gap(window, outcome, by));
                self.open = Open::new(window.end, 0);
                continue;
            }
            self.open.add(outcome, one);
            if window.end.timestamp() % HOUR_SECONDS == 0 {
                self.flush(window.end, by, &mut settled);
                self.open = Open::new(window.end, one.beyond);
            }
        }
        self.note(&settled);
        settled
    }

    /// Moves from one place to another without collecting what is between; returns what has come to its end with that.
    pub(super) fn jump(
        &mut self,
        (from, to): (DateTime<Utc>, DateTime<Utc>),
        now: DateTime<Utc>,
        source: Origin,
    ) -> Vec<Stretch> {
        let by = (now.trunc_subsecs(0), source);
        let mut settled = vec![];
        if to > from {
            self.flush(from, by, &mut settled);
            let skipped = Window {
                start: from,
                end: to,
            };
            settled.push(Stretch::gap(skipped, HourOutcome::NeverCollected, by));
        }
        if to != from {
            self.open = Open::new(to, 0);
        }
        self.since = self.since.min(to);
        self.told = self.told.map(|told| told.min(to));
        self.last = self.last.take().filter(|last| last.end <= to);
        self.note(&settled);
        settled
    }

    fn flush(&self, end: DateTime<Utc>, by: (DateTime<Utc>, Origin), settled: &mut Vec<Stretch>) {
        if end > self.open.start {
            settled.push(self.open.until(end, by));
        }
    }

    fn note(&mut self, settled: &[Stretch]) {
        self.last = settled.last().cloned().or_else(|| self.last.take());
    }

    /// The hour under way, up to the cursor; `None` where it has not begun.
    fn under_way(&self, cursor: DateTime<Utc>, source: Origin) -> Option<Stretch> {
        (cursor > self.open.start).then(|| self.open.until(cursor, (cursor, source)))
    }
}

#[cfg(test)]
mod tests;
