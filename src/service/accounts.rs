//! What each output has been given since the cursor, and up to where: pure.
//!
//! Decides what is new to an output, which window to go on with, and which claims outlive a commit.

use chrono::{DateTime, TimeDelta, Utc};

use super::tally::{Claims, Tally};
use crate::record::Fingerprint;
use crate::window::{Next, Schedule, Window};

/// The claims of all outputs, in the ledger's order.
#[derive(Debug)]
pub(super) struct Accounts {
    claims: Vec<Claims>,
    /// What the last committed window has seen, if a longer one that it is part of is not done with.
    last_seen: Vec<Fingerprint>,
    /// The furthest end of a window begun since the cursor: some records before it are confirmed.
    horizon: DateTime<Utc>,
    /// The window that the run before this one had begun.
    unfinished: Option<Window>,
}

impl Accounts {
    /// Goes on from what each output has `confirmed` at or after `cursor`, and from the window left `unfinished`.
    pub(super) fn open(
        confirmed: Vec<Vec<Fingerprint>>,
        unfinished: Option<Window>,
        cursor: DateTime<Utc>,
    ) -> Self {
        Accounts {
            claims: confirmed.into_iter().map(Claims::from_iter).collect(),
            last_seen: vec![],
            horizon: unfinished.map_or(cursor, |window| window.end),
            unfinished,
        }
    }

    /// The furthest end of a window begun since the cursor.
    pub(super) fn horizon(&self) -> DateTime<Utc> {
        self.horizon
    }

    /// What to do next: the unfinished window first, then what the schedule says.
    pub(super) fn next(
        &mut self,
        schedule: &Schedule,
        cursor: DateTime<Utc>,
        now: DateTime<Utc>,
        span: TimeDelta,
    ) -> Next {
        match self.unfinished.take() {
            // All of it may have passed out of reach meanwhile, and the cursor with it.
            Some(window) if window.end > cursor && window.end <= schedule.settled(now) => {
                Next::Collect(Window {
                    start: cursor,
                    ..window
                })
            }
            _ => schedule.next(cursor, now, span),
        }
    }

    /// How many kinds of records are claimed: about those of the last window.
    pub(super) fn kinds(&self) -> usize {
        self.claims.iter().map(Claims::kinds).max().unwrap_or(0)
    }

    /// Whether nothing is claimed.
    pub(super) fn are_empty(&self) -> bool {
        self.claims.iter().all(Claims::is_empty)
    }

    /// Begins a window: from now on some of its records may be confirmed.
    pub(super) fn begin(&mut self, window: Window) {
        self.horizon = self.horizon.max(window.end);
    }

    /// Claims a row for each output; tells for each whether it is new to it.
    pub(super) fn claim(
        &mut self,
        fingerprint: Fingerprint,
        certain: u32,
    ) -> impl Iterator<Item = bool> {
        self.claims
            .iter_mut()
            .map(move |claims| claims.claim(fingerprint, certain))
    }

    /// Closes the accounts at `end`, the new cursor, for a window of which `tally` was seen, or for one given up; tells the end
    /// of a longer window that is not done with.
    pub(super) fn settle(
        &mut self,
        end: DateTime<Utc>,
        tally: Option<&Tally>,
        boundary_comes_twice: bool,
    ) -> Option<DateTime<Utc>> {
        let past = end >= self.horizon;
        for claims in &mut self.claims {
            match tally {
                Some(tally) if boundary_comes_twice && past => claims.keep_those_of(tally),
                // Only the boundary of the window just committed can come again, and what is behind it.
                Some(tally) if boundary_comes_twice => claims.forget(&self.last_seen, tally),
                Some(_) if past => claims.clear(),
                Some(tally) => claims.settle(tally),
                None if end > self.horizon => claims.clear(),
                None => {}
            }
        }
        self.last_seen = match tally {
            Some(tally) if boundary_comes_twice && !past => tally.fingerprints().collect(),
            _ => vec![],
        };
        let until = (!past).then_some(self.horizon);
        self.horizon = self.horizon.max(end);
        until
    }

    /// A fingerprint for each record claimed, for each output.
    pub(super) fn fingerprints(&self) -> impl Iterator<Item = Vec<Fingerprint>> {
        self.claims.iter().map(Claims::fingerprints)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tally::Certainty;
    use super::*;
    use crate::report::Report;

    /// The step after a start at `cursor` with a window left unfinished, in hours; the present is hour 100.
    fn check(unfinished: (i64, i64), cursor: i64, expected: (i64, i64)) {
        let hour = |hour: i64| {
            DateTime::from_timestamp(1_770_000_000 / 3_600 * 3_600 + hour * 3_600, 0).unwrap()
        };
        let window = |(start, end)| Window {
            start: hour(start),
            end: hour(end),
        };
        let report = Report::by_service("office365_reporting_DlpDetail_service").unwrap();
        let schedule = Schedule::new(report, None, Duration::from_mins(1), Duration::from_secs(1));
        let mut accounts = Accounts::open(vec![], Some(window(unfinished)), hour(unfinished.0));
        let next = accounts.next(
            &schedule,
            hour(cursor),
            hour(100) + TimeDelta::seconds(1),
            TimeDelta::hours(6),
        );
        assert_eq!(next, Next::Collect(window(expected)));
    }

    #[test]
    fn an_unfinished_window_is_gone_on_with_as_far_as_it_is_within_reach() {
        check((10, 12), 10, (10, 12));
        check((10, 12), 11, (11, 12));
    }

    #[test]
    fn an_unfinished_window_that_has_passed_out_of_reach_does_not_move_the_cursor_back() {
        check((10, 12), 12, (12, 18));
        check((10, 12), 50, (50, 56));
    }

    #[test]
    fn of_a_window_cut_short_only_the_boundary_and_what_is_behind_it_stay_claimed() {
        let at = |second: i64| DateTime::from_timestamp(1_770_000_000 + second, 0).unwrap();
        let prints = |rows: &str| {
            let mut prints: Vec<_> = rows.bytes().map(|row| Fingerprint([row; 16])).collect();
            prints.sort();
            prints
        };
        let mut accounts = Accounts::open(vec![vec![]], None, at(0));
        accounts.begin(Window {
            start: at(0),
            end: at(8),
        });
        // The newest rows of the whole window, then its first and second quarter, which share a boundary row.
        for row in prints("yz") {
            assert!(accounts.claim(row, 1).all(|new| new));
        }
        let mut collect = |end, rows: &str, new: usize| {
            let mut tally = Tally::default();
            tally.turn_page();
            let claimed = prints(rows).into_iter().filter(|row| {
                let certain = tally.count(*row, Certainty::Page);
                accounts.claim(*row, certain).all(|new| new)
            });
            assert_eq!(claimed.count(), new, "{rows}");
            accounts.settle(end, Some(&tally), true);
            let mut left: Vec<_> = accounts.fingerprints().flatten().collect();
            left.sort();
            left
        };
        assert_eq!(collect(at(2), "ab", 2), prints("abyz"));
        assert_eq!(collect(at(4), "bcd", 2), prints("bcdyz"));
        assert_eq!(collect(at(8), "dyz", 0), prints("dyz"));
    }
}
