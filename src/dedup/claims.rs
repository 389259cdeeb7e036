//! What each output has been given since the cursor, and up to where: pure.
//!
//! Decides what is new to an output, which window to go on with, and which claims outlive a commit.

use chrono::{DateTime, TimeDelta, Utc};

use super::rows::{Kind, Kinds};
use super::tally::{Claims, Tally};
use crate::record::Fingerprint;
use crate::window::{Next, Schedule, Window};

/// The claims of all outputs, in the ledger's order.
#[derive(Debug)]
pub(crate) struct Accounts {
    kinds: Kinds,
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
    pub(crate) fn open(
        confirmed: Vec<Vec<Fingerprint>>,
        unfinished: Option<Window>,
        cursor: DateTime<Utc>,
    ) -> Self {
        let mut kinds = Kinds::default();
        let claims = confirmed.into_iter().map(|confirmed| {
            let mut claims = Claims::default();
            for fingerprint in confirmed {
                claims.claim(kinds.of(fingerprint), u32::MAX);
            }
            claims
        });
        Accounts {
            claims: claims.collect(),
            kinds,
            last_seen: vec![],
            horizon: unfinished.map_or(cursor, |window| window.end),
            unfinished,
        }
    }

    /// The furthest end of a window begun since the cursor.
    pub(crate) fn horizon(&self) -> DateTime<Utc> {
        self.horizon
    }

    /// What to do next: the unfinished window first, then what the schedule says.
    pub(crate) fn next(
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
    pub(crate) fn kinds(&self) -> usize {
        self.kinds.len()
    }

    /// Whether nothing is claimed.
    pub(crate) fn are_empty(&self) -> bool {
        self.kinds.len() == 0
    }

    /// The kind of a row, by which it is counted and claimed; until the accounts are settled.
    pub(crate) fn kind(&mut self, fingerprint: Fingerprint) -> Kind {
        self.kinds.of(fingerprint)
    }

    /// Begins a window: from now on some of its records may be confirmed.
    pub(crate) fn begin(&mut self, window: Window) {
        self.horizon = self.horizon.max(window.end);
    }

    /// Claims a row for each output; tells for each whether it is new to it.
    pub(crate) fn claim(&mut self, kind: Kind, certain: u32) -> impl Iterator<Item = bool> {
        self.claims
            .iter_mut()
            .map(move |claims| claims.claim(kind, certain))
    }

    /// Closes the accounts at `end`, the new cursor, for a window of which `tally` was seen, or for one given up; tells the end
    /// of a longer window that is not done with.
    pub(crate) fn settle(
        &mut self,
        end: DateTime<Utc>,
        tally: Option<&Tally>,
        boundary_comes_twice: bool,
    ) -> Option<DateTime<Utc>> {
        let past = end >= self.horizon;
        let last_seen = std::mem::take(&mut self.last_seen);
        match tally {
            // What the window has seen may come again at its boundary.
            Some(tally) if boundary_comes_twice && past => self.keep(|_, kind| tally.has(kind)),
            // Only the boundary of the window just committed can come again, and what is behind it.
            Some(tally) if boundary_comes_twice => {
                for fingerprint in last_seen {
                    let kind = self.kinds.of(fingerprint);
                    if !tally.has(kind) {
                        self.claims
                            .iter_mut()
                            .for_each(|claims| claims.forget(kind));
                    }
                }
                let seen = tally.kinds();
                self.last_seen = seen.map(|kind| self.kinds.fingerprint(kind)).collect();
                self.keep(is_claimed);
            }
            Some(tally) if !past => {
                self.claims
                    .iter_mut()
                    .for_each(|claims| claims.settle(tally));
                self.keep(is_claimed);
            }
            None if end <= self.horizon => {}
            _ => self.keep(|_, _| false),
        }
        let until = (!past).then_some(self.horizon);
        self.horizon = self.horizon.max(end);
        until
    }

    /// A fingerprint for each record claimed, for each output.
    pub(crate) fn fingerprints(&self) -> impl Iterator<Item = Vec<Fingerprint>> {
        self.claims.iter().map(|claims| {
            let kinds = claims.kinds();
            kinds.map(|kind| self.kinds.fingerprint(kind)).collect()
        })
    }

    /// How often each row came in a walk.
    #[cfg(test)]
    pub(crate) fn totals(&self, tally: &Tally) -> std::collections::HashMap<Fingerprint, u32> {
        let kinds = tally.kinds();
        kinds
            .map(|kind| (self.kinds.fingerprint(kind), tally.total(kind)))
            .collect()
    }

    /// Forgets all kinds but those that satisfy `kept`; the others have new numbers.
    fn keep(&mut self, kept: impl Fn(&[Claims], Kind) -> bool) {
        let kinds = (0..self.kinds.len()).map(Kind::at);
        let kept: Vec<bool> = kinds.map(|kind| kept(&self.claims, kind)).collect();
        self.kinds.retain(|kind| kept[kind.place()]);
        for claims in &mut self.claims {
            claims.retain(|kind| kept[kind.place()]);
        }
    }
}

/// Whether any output has been given records of this kind.
fn is_claimed(claims: &[Claims], kind: Kind) -> bool {
    claims.iter().any(|claims| claims.of(kind) > 0)
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

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_770_000_000 + second, 0).unwrap()
    }

    fn prints(rows: &str) -> Vec<Fingerprint> {
        let mut prints: Vec<_> = rows.bytes().map(|row| Fingerprint([row; 16])).collect();
        prints.sort();
        prints
    }

    /// Walks one page, whose rows are letters; returns the tally and how many of them were new.
    fn walk(accounts: &mut Accounts, rows: &str) -> (Tally, usize) {
        let mut tally = Tally::default();
        tally.turn_page();
        let claimed = prints(rows).into_iter().filter(|row| {
            let kind = accounts.kind(*row);
            let certain = tally.count(kind, Certainty::Page);
            accounts.claim(kind, certain).all(|new| new)
        });
        let claimed = claimed.count();
        (tally, claimed)
    }

    /// What is claimed after the window up to `end` is committed, of which `tally` was seen.
    fn settle(
        accounts: &mut Accounts,
        end: i64,
        tally: &Tally,
        boundary_comes_twice: bool,
    ) -> Vec<Fingerprint> {
        accounts.settle(at(end), Some(tally), boundary_comes_twice);
        let mut left: Vec<_> = accounts.fingerprints().flatten().collect();
        left.sort();
        left
    }

    fn begun(end: i64) -> Accounts {
        let mut accounts = Accounts::open(vec![vec![]], None, at(0));
        accounts.begin(Window {
            start: at(0),
            end: at(end),
        });
        accounts
    }

    #[test]
    fn what_a_window_has_seen_stays_claimed_since_its_boundary_comes_again() {
        let mut accounts = begun(2);
        let (tally, _) = walk(&mut accounts, "aab");
        assert_eq!(settle(&mut accounts, 2, &tally, true), prints("aab"));
        let (tally, new) = walk(&mut accounts, "aaac");
        assert_eq!(new, 2);
        assert_eq!(settle(&mut accounts, 4, &tally, true), prints("aaac"));
    }

    #[test]
    fn of_buckets_cut_short_what_is_not_accounted_for_stays_claimed() {
        let mut accounts = begun(8);
        walk(&mut accounts, "aab");
        let (tally, new) = walk(&mut accounts, "a");
        assert_eq!(new, 0);
        assert_eq!(settle(&mut accounts, 4, &tally, false), prints("ab"));
        let (tally, new) = walk(&mut accounts, "aab");
        assert_eq!(new, 1);
        assert_eq!(settle(&mut accounts, 8, &tally, false), []);
    }

    #[test]
    fn of_a_window_cut_short_only_the_boundary_and_what_is_behind_it_stay_claimed() {
        let mut accounts = begun(8);
        // The newest rows of the whole window, then its first and second quarter, which share a boundary row.
        assert_eq!(walk(&mut accounts, "yz").1, 2);
        let mut collect = |end, rows: &str, new: usize| {
            let (tally, claimed) = walk(&mut accounts, rows);
            assert_eq!(claimed, new, "{rows}");
            settle(&mut accounts, end, &tally, true)
        };
        assert_eq!(collect(2, "ab", 2), prints("abyz"));
        assert_eq!(collect(4, "bcd", 2), prints("bcdyz"));
        assert_eq!(collect(8, "dyz", 0), prints("dyz"));
    }
}
