//! What became of a stretch of time: the facts that the cursor leaves behind it.
//!
//! An entry is written in the commit that moves the cursor over its window, so a restart forgets none. The log, the metrics, the page and
//! `state show` all read entries; nothing else tells what became of a window.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::report::Origin;
use crate::window::Window;

/// The most entries that a cursor keeps; the oldest complete ones are dropped first, then the oldest.
pub(super) const ENTRIES_MAX: usize = 512;

/// What became of a window, or of several that follow one another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The first instant.
    pub start: DateTime<Utc>,
    /// The first instant after it.
    pub end: DateTime<Utc>,
    /// How complete it is.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// The records that were delivered.
    pub records: u64,
    /// Records that the service showed once and no longer when they had to be fetched again for an output.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub vanished: u64,
}

/// How complete a window is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// Every record that the service returned is confirmed by every output.
    Complete,
    /// The service no longer keeps what was there.
    Unreachable,
    /// The service cut the result off, or showed the same pages again and again; what is beyond cannot be had.
    Capped,
    /// The result kept changing over this many walks; every row that was seen is delivered.
    Unsettled {
        /// The number of walks.
        walks: u32,
    },
    /// The service returned bytes that cannot be read as rows; everything else is delivered.
    Withheld,
    /// The service returned nothing for a time so old that it may have deleted it.
    Unknown,
    /// From here on the outputs are others.
    Outputs {
        /// The outputs that get records from here on.
        added: Vec<String>,
        /// The outputs that no longer do.
        removed: Vec<String>,
    },
    /// From here on another service is asked.
    Source {
        /// The one that is asked from here on.
        now: Origin,
    },
    /// The service returned nothing, and Microsoft Graph could not be asked whether there is something.
    EmptyUnconfirmed,
}

impl Outcome {
    /// The word for it, as in metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Outcome::Complete => "complete",
            Outcome::Unreachable => "unreachable",
            Outcome::Capped => "capped",
            Outcome::Unsettled { .. } => "unsettled",
            Outcome::Withheld => "withheld",
            Outcome::Unknown => "unknown",
            Outcome::Outputs { .. } => "outputs",
            Outcome::Source { .. } => "source",
            Outcome::EmptyUnconfirmed => "empty_unconfirmed",
        }
    }

    /// Whether records may be missing.
    pub fn is_gap(&self) -> bool {
        !matches!(
            self,
            Outcome::Complete
                | Outcome::Outputs { .. }
                | Outcome::Source { .. }
                | Outcome::EmptyUnconfirmed
        )
    }
}

impl Entry {
    /// An entry for `window` with so many records.
    pub fn new(window: Window, outcome: Outcome, records: u64) -> Self {
        Entry {
            start: window.start,
            end: window.end,
            outcome,
            records,
            vanished: 0,
        }
    }

    /// The time that it is about.
    pub fn window(&self) -> Window {
        Window {
            start: self.start,
            end: self.end,
        }
    }

    /// Takes in the entry that follows, if both say the same of adjacent windows.
    fn fold(&mut self, next: &Entry) -> bool {
        let folds = self.end == next.start && self.outcome == next.outcome;
        if folds {
            self.end = next.end;
            self.records = self.records.saturating_add(next.records);
            self.vanished = self.vanished.saturating_add(next.vanished);
        }
        folds
    }
}

/// Appends entries in their order, folds adjacent ones that say the same, and keeps the list within its bound.
pub(super) fn append(entries: &mut Vec<Entry>, more: Vec<Entry>) {
    for entry in more {
        let folded = entries.last_mut().is_some_and(|last| last.fold(&entry));
        if !folded {
            entries.push(entry);
        }
    }
    while entries.len() > ENTRIES_MAX {
        let complete = |entry: &Entry| entry.outcome == Outcome::Complete;
        let oldest = entries[..entries.len() - 1].iter().position(complete);
        entries.remove(oldest.unwrap_or_default());
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(start: i64, end: i64, outcome: Outcome, records: u64) -> Entry {
        let at = |minute: i64| DateTime::from_timestamp(1_770_000_000 + 60 * minute, 0).unwrap();
        let window = Window {
            start: at(start),
            end: at(end),
        };
        Entry::new(window, outcome, records)
    }

    #[test]
    fn adjacent_complete_windows_fold_and_gaps_stay() {
        let mut entries = vec![];
        let unsettled = || Outcome::Unsettled { walks: 5 };
        append(
            &mut entries,
            vec![
                entry(0, 1, Outcome::Complete, 3),
                entry(1, 2, Outcome::Complete, 0),
                entry(2, 3, unsettled(), 7),
                entry(3, 4, Outcome::Complete, 1),
                entry(5, 6, Outcome::Complete, 1),
            ],
        );
        assert_eq!(
            entries,
            [
                entry(0, 2, Outcome::Complete, 3),
                entry(2, 3, unsettled(), 7),
                entry(3, 4, Outcome::Complete, 1),
                entry(5, 6, Outcome::Complete, 1),
            ]
        );
    }

    #[test]
    fn the_list_is_bounded_and_gaps_are_kept_longest() {
        let mut entries = vec![];
        for minute in 0..i64::try_from(ENTRIES_MAX).unwrap() {
            let pair = vec![
                entry(2 * minute, 2 * minute + 1, Outcome::Complete, 1),
                entry(2 * minute + 1, 2 * minute + 2, Outcome::Capped, 1),
            ];
            append(&mut entries, pair);
        }
        assert_eq!(entries.len(), ENTRIES_MAX);
        assert!(entries.iter().all(|entry| entry.outcome == Outcome::Capped));
    }

    #[test]
    fn an_entry_reads_as_it_was_written() {
        let outputs = Outcome::Outputs {
            added: vec!["a".to_owned()],
            removed: vec![],
        };
        for outcome in [Outcome::Complete, Outcome::Unsettled { walks: 5 }, outputs] {
            let entry = entry(0, 1, outcome, 9);
            let text = serde_json::to_string(&entry).unwrap();
            assert_eq!(
                serde_json::from_str::<Entry>(&text).unwrap(),
                entry,
                "{text}"
            );
        }
    }
}
