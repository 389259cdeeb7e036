//! One window that has several pages and cannot be shorter: what its pages mean. Pure: the time is an argument.
//!
//! A page that shows what an earlier page of the walk showed is a repeated page: the walk has not come to its end and agrees with nothing.
//! Only what several walks over half an hour show alike is passed.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::report::Terms;

/// A walk that met a repeated page is made again after so long.
pub(super) const REPEATED_PAUSE: Duration = Duration::from_secs(5);

/// A walk that only ever repeats itself is believed after so many times, over so long.
const STUCK_WALKS: usize = 3;
const STUCK_TIME: TimeDelta = TimeDelta::minutes(30);

/// So many empty pages in a row may each lead on.
const EMPTY_PAGES_MAX: u32 = 10;

/// The walks of one window.
#[derive(Debug)]
pub(super) struct Collection {
    row_cap: Option<u64>,
    pages_max: u32,
    walk: Walk,
    stuck: Vec<Stuck>,
}

#[derive(Debug, Default)]
struct Walk {
    pages: u32,
    rows: u64,
    empty_in_a_row: u32,
    seen: HashSet<u64>,
    /// What all pages showed, in their order.
    digest: u64,
}

/// A walk that met a repeated page.
#[derive(Clone, Copy, Debug)]
struct Stuck {
    digest: u64,
    at: DateTime<Utc>,
}

/// What to do with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Take its rows, and fetch the next one.
    Take,
    /// Drop it, and walk the window again after a pause.
    WalkAgain,
    /// Drop it: what has been seen is all that can be had.
    Pass,
}

impl Collection {
    pub(super) fn new(terms: &Terms) -> Self {
        Collection {
            row_cap: terms.row_cap,
            pages_max: terms.pages_max,
            walk: Walk::default(),
            stuck: vec![],
        }
    }

    /// Begins a walk.
    pub(super) fn begin_walk(&mut self) {
        self.walk = Walk::default();
    }

    /// What to do with the walk's next page, which shows `digest` in so many rows.
    pub(super) fn page(&mut self, digest: u64, rows: u64, now: DateTime<Utc>) -> Step {
        let walk = &mut self.walk;
        walk.digest = walk.digest.rotate_left(7) ^ digest;
        let repeated = if rows == 0 {
            walk.empty_in_a_row += 1;
            walk.empty_in_a_row > EMPTY_PAGES_MAX
        } else {
            walk.empty_in_a_row = 0;
            !walk.seen.insert(digest)
        };
        if !repeated {
            walk.pages += 1;
            walk.rows += rows;
            return Step::Take;
        }
        self.stuck(now)
    }

    /// What to do where the walk's last page was a full one that leads nowhere: it may have been cut off there.
    pub(super) fn cut_off(&mut self, now: DateTime<Utc>) -> Step {
        self.stuck(now)
    }

    /// Walks again, unless several walks over half an hour have come to the same.
    fn stuck(&mut self, now: DateTime<Utc>) -> Step {
        let digest = self.walk.digest;
        self.stuck.retain(|stuck| stuck.digest == digest);
        self.stuck.push(Stuck { digest, at: now });
        let since = self.stuck.first().map_or(now, |first| first.at);
        if self.stuck.len() >= STUCK_WALKS && now - since >= STUCK_TIME {
            Step::Pass
        } else {
            Step::WalkAgain
        }
    }

    /// Whether the walk has reached a size at which the source is known to cut results off.
    pub(super) fn is_capped(&self) -> bool {
        let rows = self.row_cap.is_some_and(|cap| self.walk.rows >= cap);
        rows || self.walk.pages >= self.pages_max
    }

    /// The rows of the walk so far.
    pub(super) fn rows(&self) -> u64 {
        self.walk.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Paging, Resolution};

    fn collection() -> Collection {
        Collection::new(&Terms {
            origin: crate::report::Origin::ReportingService,
            reach: Duration::from_hours(240),
            resolution: Resolution::Instant,
            paging: Paging::ByPosition,
            row_cap: Some(10),
            pages_max: 4,
            page_rows: 3,
        })
    }

    fn at(minute: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_770_000_000 + 60 * minute, 0).unwrap()
    }

    fn walk(collection: &mut Collection, pages: &[(u64, u64)], minute: i64) -> Vec<Step> {
        collection.begin_walk();
        let steps = pages.iter();
        steps
            .map(|(digest, rows)| collection.page(*digest, *rows, at(minute)))
            .collect()
    }

    #[test]
    fn a_page_that_shows_what_an_earlier_one_did_ends_the_walk() {
        let mut collection = collection();
        let steps = walk(&mut collection, &[(1, 3), (2, 3), (1, 3)], 0);
        assert_eq!(steps, [Step::Take, Step::Take, Step::WalkAgain]);
        let steps = walk(&mut collection, &[(1, 3), (2, 3), (3, 3)], 0);
        assert_eq!(steps, [Step::Take; 3]);
    }

    #[test]
    fn only_what_three_walks_over_half_an_hour_show_alike_is_passed() {
        let mut collection = collection();
        let pages = [(1, 3), (1, 3)];
        for (minute, expected) in [
            (0, Step::WalkAgain),
            (20, Step::WalkAgain),
            (29, Step::WalkAgain),
            (30, Step::Pass),
        ] {
            assert_eq!(
                walk(&mut collection, &pages, minute)[1],
                expected,
                "{minute}"
            );
        }
        walk(&mut collection, &[(2, 3), (2, 3)], 31);
        assert_eq!(walk(&mut collection, &pages, 90)[1], Step::WalkAgain);
    }

    #[test]
    fn a_few_empty_pages_may_lead_on() {
        let mut collection = collection();
        let steps = walk(&mut collection, &[(0, 0); 11], 0);
        assert_eq!(steps[9..], [Step::Take, Step::WalkAgain]);
    }

    #[test]
    fn only_different_pages_count_towards_a_cap() {
        let mut collection = collection();
        walk(
            &mut collection,
            &[(1, 3), (2, 3), (3, 3), (3, 3), (3, 3)],
            0,
        );
        assert!(!collection.is_capped());
        walk(&mut collection, &[(1, 3), (2, 3), (3, 4)], 0);
        assert!(collection.is_capped());
        walk(&mut collection, &[(1, 1), (2, 1), (3, 1), (4, 1)], 0);
        assert!(collection.is_capped());
    }
}
