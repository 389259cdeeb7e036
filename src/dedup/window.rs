//! What is new of the window that is being handed over, for each output.

use chrono::TimeDelta;

use super::before::{Before, known_by};
use super::rows::Rows;
use crate::ledger::Confirmed;
use crate::record::{Fingerprint, Sums};
use crate::report::{Origin, Paging, Resolution, Terms};
use crate::window::Window;

/// A window is walked this often at most.
const WALKS_MAX: u32 = 5;

/// How a report's windows and walks relate to one another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// Neighbouring windows both return the rows at their common boundary.
    pub(crate) inclusive: bool,
    /// Pages are parts of a list that may shift while it is walked, so only walks that agree are believed.
    pub(crate) by_position: bool,
    /// Which service tells of the rows.
    pub(crate) origin: Origin,
}

impl Kind {
    pub(crate) fn of(terms: &Terms) -> Self {
        Kind {
            inclusive: terms.resolution == Resolution::Instant,
            by_position: terms.paging == Paging::ByPosition,
            origin: terms.origin,
        }
    }
}

/// Tells new rows from known ones, window by window in their order.
#[derive(Debug)]
pub(crate) struct Deduplicator {
    kind: Kind,
    window: Window,
    /// The rows of the window before, where they may come again.
    boundary: Rows,
    /// Another service has told of them.
    told_by_another: bool,
    rows: Rows,
    walk: Walk,
    walks: u32,
    /// The last two walks brought the same.
    agreed: bool,
    records: u64,
    /// The window begins an hour: rows at its beginning are of this hour, also those that came with the window before.
    opens_hour: bool,
    /// Records of the hour that follows.
    beyond: u64,
    /// The rows of this walk that are of the window's hour and did not come with the window before.
    shown: Sums,
    outputs: Vec<Output>,
}

/// Rows of a page whose own time is not within the window's hour, by their places, in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Elsewhere {
    /// Before it: a walk that takes over from another service begins a second early.
    pub(crate) before: Vec<u32>,
    /// Behind it: a walk includes its last instant, which may be the first of the next hour.
    pub(crate) beyond: Vec<u32>,
}

#[derive(Debug, Default)]
struct Output {
    confirmed: Before,
    /// Handed over before, and given back without a receipt.
    lost: Before,
    /// Delivered by early passes.
    early: Before,
}

/// The walk under way.
#[derive(Clone, Copy, Debug, Default)]
struct Walk {
    pages: u16,
    rows: u64,
    /// A row of one page came on another one too.
    repeats: bool,
}

/// The places of a page's new rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct New {
    /// Of each output; the same for all but after a restart.
    pub(crate) places: Vec<Vec<u32>>,
    /// How many are new to any output.
    pub(crate) records: u64,
}

/// The places that are among those of any output, in ascending order, each once.
pub(crate) fn in_any(places: &[Vec<u32>]) -> Vec<u32> {
    let mut all: Vec<u32> = places.iter().flatten().copied().collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// What the walks of a window so far come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The window's records are known, and all are handed over.
    Settled,
    /// The window has to be walked again.
    WalkAgain,
    /// The result kept changing; every row that was seen is handed over.
    Unsettled {
        /// The number of walks.
        walks: u32,
    },
}

/// What is known of a window that is handed over.
#[derive(Debug, Default)]
pub(crate) struct Finished {
    /// Its records.
    pub(crate) records: u64,
    /// Records that had been handed over to an output, were given back, and are gone.
    pub(crate) vanished: u64,
    /// The rows that may come again with the next window.
    pub(crate) boundary: Vec<Fingerprint>,
    /// So many of the records are of the hour that follows the window's.
    pub(crate) beyond: u64,
    /// The rows of the window's hour that its last walk showed and the window before did not.
    pub(crate) shown: Sums,
}

impl Deduplicator {
    /// Goes on behind a cursor with the rows at its `boundary`, and who told of them; `confirmed` is what each output has confirmed beyond it.
    pub(crate) fn new(
        kind: Kind,
        boundary: (&[Fingerprint], Origin),
        confirmed: Vec<Vec<Confirmed>>,
    ) -> Self {
        let lost = confirmed.iter().map(|_| vec![]).collect();
        let mut this = Deduplicator {
            kind,
            window: Window::default(),
            boundary: Rows::default(),
            told_by_another: false,
            rows: Rows::default(),
            walk: Walk::default(),
            walks: 0,
            agreed: false,
            records: 0,
            opens_hour: false,
            beyond: 0,
            shown: Sums::default(),
            outputs: vec![],
        };
        this.rewind(boundary, confirmed, lost);
        this
    }

    /// Goes back to the cursor: `confirmed` is what each output has confirmed beyond it, `lost` what it was handed over in vain.
    pub(crate) fn rewind(
        &mut self,
        (boundary, told_by): (&[Fingerprint], Origin),
        confirmed: Vec<Vec<Confirmed>>,
        lost: Vec<Vec<Confirmed>>,
    ) {
        let apart = !self.kind.inclusive;
        let origin = self.kind.origin;
        let known = boundary.iter().map(|row| known_by(*row, told_by == origin));
        self.boundary = Rows::of(known);
        self.told_by_another = told_by != origin;
        self.outputs = { confirmed.into_iter().zip(lost) }
            .map(|(confirmed, lost)| Output {
                confirmed: Before::new(confirmed, apart, origin),
                lost: Before::new(lost, apart, origin),
                early: Before::default(),
            })
            .collect();
    }

    /// Begins a window: the one that follows the last one finished.
    pub(crate) fn begin(&mut self, window: Window) {
        self.window = window;
        self.rows.clear();
        self.walk = Walk::default();
        (self.walks, self.agreed, self.records) = (0, false, 0);
        self.opens_hour = window.start.timestamp() % 3_600 == 0;
        (self.beyond, self.shown) = (0, Sums::default());
    }

    /// Takes in what early passes have delivered to each output with windows that touch the one that begins, and were not taken in before. A row may
    /// belong to a window that is `slack` away.
    pub(crate) fn know_early(&mut self, delivered: Vec<Vec<Confirmed>>, slack: TimeDelta) {
        let apart = !self.kind.inclusive;
        for (output, delivered) in self.outputs.iter_mut().zip(delivered) {
            output.early.add_early(delivered, apart, slack);
        }
    }

    /// So many records that were new are not handed over.
    pub(crate) fn leave_out(&mut self, records: u64) {
        self.records = self.records.saturating_sub(records);
    }

    /// Begins a walk, also where the one before did not come to its end.
    pub(crate) fn begin_walk(&mut self) {
        if self.walk.pages > 0 {
            for row in self.rows.iter_mut() {
                (row.total, row.page, row.on_page, row.most) = (0, 0, 0, 0);
            }
            self.walk = Walk::default();
            self.shown = Sums::default();
        }
    }

    /// Whether a walk of the window has come to its end before.
    pub(crate) fn is_walked_again(&self) -> bool {
        self.walks > 0
    }

    /// Finds the new rows of the walk's next page; `elsewhere` lists its rows outside the window's hour.
    pub(crate) fn page(
        &mut self,
        rows: impl ExactSizeIterator<Item = Fingerprint>,
        elsewhere: &Elsewhere,
    ) -> New {
        self.walk.pages = self.walk.pages.saturating_add(1);
        self.walk.rows += rows.len() as u64;
        let mut new = New {
            places: vec![Vec::with_capacity(rows.len()); self.outputs.len()],
            records: 0,
        };
        let window = self.window;
        let mut before = elsewhere.before.iter().peekable();
        let mut beyond = elsewhere.beyond.iter().peekable();
        for (place, fingerprint) in (0_u32..).zip(rows) {
            let is_before = before.next_if_eq(&&place).is_some();
            let is_beyond = beyond.next_if_eq(&&place).is_some();
            if !self.claim(fingerprint, !is_before && !is_beyond) {
                continue;
            }
            new.records += 1;
            self.beyond += u64::from(is_beyond);
            for (output, places) in self.outputs.iter_mut().zip(&mut new.places) {
                let confirmed = &mut output.confirmed;
                let known = (!confirmed.is_empty() && confirmed.take(window, fingerprint))
                    || (!output.early.is_empty() && output.early.take(window, fingerprint));
                if !output.lost.is_empty() {
                    output.lost.take(window, fingerprint);
                }
                if !known {
                    places.push(place);
                }
            }
        }
        self.records += new.records;
        new
    }

    /// Counts a row of the current page, which may be of the window's hour; tells whether it is a record that was not handed over yet.
    #[inline]
    fn claim(&mut self, fingerprint: Fingerprint, is_of_hour: bool) -> bool {
        let last_walk = self.walks + 1 >= WALKS_MAX;
        let page = self.walk.pages;
        let row = self.rows.row(fingerprint);
        if row.page == page {
            row.on_page = row.on_page.saturating_add(1);
        } else {
            self.walk.repeats |= row.total > 0;
            (row.page, row.on_page) = (page, 1);
        }
        row.total = row.total.saturating_add(1);
        row.most = row.most.max(row.on_page);
        // Equal rows of one page are as many records. Equal rows of several pages may be one row that has shifted: as many as two
        // walks agree on, and in the last walk as many as come, once too often rather than never.
        let agreed = match (last_walk, self.agreed) {
            (true, _) => row.total,
            (false, true) => row.total.min(row.earlier),
            (false, false) => 0,
        };
        let certain = row.most.max(agreed);
        let at_boundary = self.boundary.get_mut(fingerprint);
        let mut before = at_boundary.map_or(0, |known| known.total);
        let mut new = row.is_uncountable() || before.saturating_add(row.claimed) < certain;
        // One that another service has told of: each of those is found once, and is known by all of it from then on.
        if new
            && self.told_by_another
            && let Some(told) = self.boundary.get_mut(fingerprint.identity())
            && told.total > 0
        {
            told.total -= 1;
            before = before.saturating_add(1);
            self.boundary.row(fingerprint).total = before;
            new = false;
        }
        if new {
            row.claimed = row.claimed.saturating_add(1);
        }
        let counted = if self.opens_hour { 0 } else { before };
        if is_of_hour && row.total > counted {
            self.shown.add(fingerprint);
        }
        new
    }

    /// Ends a walk.
    pub(crate) fn end_walk(&mut self) -> Verdict {
        let trusted = self.agreed || self.walks + 1 >= WALKS_MAX;
        self.walks += 1;
        let unchanged = self.walks > 1 && self.rows.iter().all(|row| row.total == row.earlier);
        let in_doubt = self.kind.by_position && self.walk.pages > 1;
        let all_through = !self.walk.repeats || trusted;
        if !in_doubt || (unchanged && all_through) {
            return Verdict::Settled;
        }
        if self.walks >= WALKS_MAX {
            return Verdict::Unsettled { walks: self.walks };
        }
        self.agreed = unchanged;
        for row in self.rows.iter_mut() {
            row.earlier = row.total;
        }
        Verdict::WalkAgain
    }

    /// Ends the window; its rows are known at the boundary of the next one.
    pub(crate) fn finish(&mut self) -> Finished {
        let window = self.window;
        let mut vanished = 0;
        for output in &mut self.outputs {
            output.confirmed.pass(window);
            output.early.pass(window);
            vanished = output.lost.pass(window).max(vanished);
        }
        let mut finished = Finished {
            records: self.records,
            vanished,
            boundary: vec![],
            beyond: self.beyond,
            shown: self.shown,
        };
        if self.kind.inclusive {
            finished.boundary = self.rows.fingerprints();
            for row in self.rows.iter_mut() {
                row.total = row.seen();
            }
            std::mem::swap(&mut self.boundary, &mut self.rows);
            self.told_by_another = false;
        }
        self.rows.clear();
        finished
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    const POSITION: Kind = Kind {
        inclusive: true,
        by_position: true,
        origin: Origin::ReportingService,
    };
    const BUCKETS: Kind = Kind {
        inclusive: false,
        by_position: true,
        origin: Origin::ReportingService,
    };
    const KEY: Kind = Kind {
        inclusive: true,
        by_position: false,
        origin: Origin::ReportingService,
    };

    fn window(start: i64) -> Window {
        let at = |second: i64| DateTime::from_timestamp(1_770_000_000 + second, 0).unwrap();
        Window {
            start: at(start),
            end: at(start + 1),
        }
    }

    fn prints(rows: &str) -> Vec<Fingerprint> {
        rows.bytes().map(|row| Fingerprint([row; 16])).collect()
    }

    fn confirmed(start: i64, rows: &str) -> Confirmed {
        Confirmed {
            window: window(start),
            origin: Origin::ReportingService,
            fingerprints: prints(rows),
        }
    }

    /// Walks pages whose rows are letters; tells what was new to each output, and the verdict.
    fn walk(dedup: &mut Deduplicator, pages: &str) -> String {
        dedup.begin_walk();
        let mut through = vec![String::new(); dedup.outputs.len()];
        for page in pages.split('|') {
            let new = dedup.page(prints(page).into_iter(), &Elsewhere::default());
            for (places, through) in new.places.iter().zip(&mut through) {
                let rows = places.iter().map(|place| page.as_bytes()[*place as usize]);
                through.extend(rows.map(char::from));
            }
        }
        let verdict = match dedup.end_walk() {
            Verdict::Settled => "settled",
            Verdict::WalkAgain => "again",
            Verdict::Unsettled { .. } => "unsettled",
        };
        format!("{} {verdict}", through.join("/"))
    }

    fn check(kind: Kind, walks: &[(&str, &str)]) {
        let mut dedup = Deduplicator::new(kind, (&[], Origin::ReportingService), vec![vec![]]);
        dedup.begin(window(0));
        for (pages, expected) in walks {
            assert_eq!(walk(&mut dedup, pages), *expected, "{pages} of {walks:?}");
        }
    }

    #[test]
    fn one_page_is_believed_at_once() {
        check(POSITION, &[("abcd", "abcd settled")]);
        check(BUCKETS, &[("aab", "aab settled")]);
        check(BUCKETS, &[("", " settled")]);
    }

    #[test]
    fn several_pages_are_walked_until_two_walks_agree() {
        check(POSITION, &[("ab|cd", "abcd again"), ("ab|cd", " settled")]);
        let shifted = [
            ("ab|d", "abd again"),
            ("ab|cd", "c again"),
            ("ab|cd", " settled"),
        ];
        check(POSITION, &shifted);
        let vanished = [
            ("ab|de", "abde again"),
            ("bc|de", "c again"),
            ("bc|de", " settled"),
        ];
        check(BUCKETS, &vanished);
    }

    #[test]
    fn pages_by_key_do_not_shift() {
        check(KEY, &[("ab|cd", "abcd settled")]);
    }

    #[test]
    fn an_empty_page_counts_since_its_rows_may_have_shifted_onto_the_page_before() {
        check(POSITION, &[("ab|", "ab again"), ("b", " settled")]);
    }

    #[test]
    fn a_row_on_two_pages_is_one_record_unless_two_walks_agree_that_it_is_two() {
        check(
            POSITION,
            &[
                ("ab|bc", "abc again"),
                ("xa|bc", "x again"),
                ("xa|bc", " settled"),
            ],
        );
        check(
            POSITION,
            &[
                ("ab|bc", "abc again"),
                ("ab|bc", " again"),
                ("ab|bc", "b settled"),
            ],
        );
    }

    #[test]
    fn a_result_that_never_settles_is_let_through_in_the_end() {
        check(
            POSITION,
            &[
                ("ab|bc", "abc again"),
                ("db|bc", "d again"),
                ("eb|bc", "e again"),
                ("fb|bc", "f again"),
                ("gb|bc", "gb unsettled"),
            ],
        );
    }

    #[test]
    fn a_walk_that_broke_off_is_begun_again_and_repeats_nothing() {
        let mut dedup = Deduplicator::new(POSITION, (&[], Origin::ReportingService), vec![vec![]]);
        dedup.begin(window(0));
        dedup.begin_walk();
        dedup.page(prints("aab").into_iter(), &Elsewhere::default());
        assert_eq!(walk(&mut dedup, "aab|c"), "c again");
        assert_eq!(walk(&mut dedup, "aab|c"), " settled");
    }

    #[test]
    fn the_rows_at_a_boundary_come_twice_and_are_delivered_once() {
        let mut dedup = Deduplicator::new(
            POSITION,
            (&prints("a"), Origin::ReportingService),
            vec![vec![]],
        );
        for (start, rows, expected) in [
            (0, "aab", "ab settled"),
            (1, "bbc", "bc settled"),
            (2, "a", "a settled"),
        ] {
            dedup.begin(window(start));
            assert_eq!(walk(&mut dedup, rows), expected, "{rows}");
            let finished = dedup.finish();
            assert_eq!(finished.boundary.len(), rows.len(), "{rows}");
        }
    }

    #[test]
    fn equal_rows_of_two_buckets_are_two_records() {
        let mut dedup = Deduplicator::new(BUCKETS, (&[], Origin::ReportingService), vec![vec![]]);
        for start in 0..2 {
            dedup.begin(window(start));
            assert_eq!(walk(&mut dedup, "ab"), "ab settled");
            assert!(dedup.finish().boundary.is_empty());
        }
    }

    #[test]
    fn what_an_output_confirmed_before_a_restart_is_not_new_to_it() {
        let before = vec![
            vec![confirmed(0, "aab"), confirmed(1, "c")],
            vec![confirmed(0, "a")],
        ];
        let mut dedup = Deduplicator::new(POSITION, (&[], Origin::ReportingService), before);
        dedup.begin(window(0));
        assert_eq!(walk(&mut dedup, "aabbd"), "bd/abbd settled");
        assert_eq!(dedup.finish().records, 5);
        dedup.begin(window(1));
        assert_eq!(walk(&mut dedup, "dce"), "e/ce settled");
    }

    #[test]
    fn what_was_confirmed_of_one_bucket_does_not_hide_an_equal_row_of_the_next() {
        let before = vec![vec![confirmed(0, "ab")]];
        let mut dedup = Deduplicator::new(BUCKETS, (&[], Origin::ReportingService), before);
        dedup.begin(window(0));
        // Row b has vanished meanwhile.
        assert_eq!(walk(&mut dedup, "a"), " settled");
        dedup.finish();
        dedup.begin(window(1));
        assert_eq!(walk(&mut dedup, "ab"), "ab settled");
    }

    #[test]
    fn what_was_given_back_and_is_gone_is_counted() {
        let mut dedup = Deduplicator::new(
            POSITION,
            (&[], Origin::ReportingService),
            vec![vec![], vec![]],
        );
        let lost = vec![vec![confirmed(0, "abc")], vec![]];
        dedup.rewind(
            (&[], Origin::ReportingService),
            vec![vec![], vec![confirmed(0, "abc")]],
            lost,
        );
        dedup.begin(window(0));
        assert_eq!(walk(&mut dedup, "ac"), "ac/ settled");
        assert_eq!(dedup.finish().vanished, 1);
    }

    #[test]
    fn rows_without_number_are_repeated_rather_than_lost() {
        let mut dedup = Deduplicator::new(BUCKETS, (&[], Origin::ReportingService), vec![vec![]]);
        dedup.begin(window(0));
        let many = vec![Fingerprint([1; 16]); 70_000];
        assert_eq!(
            dedup.page(many.into_iter(), &Elsewhere::default()).records,
            70_000
        );
    }

    /// Rows are two letters: the record's identity, and what one service says of it.
    fn told(rows: &str) -> Vec<Fingerprint> {
        let row = |row: &str| {
            let (identity, own) = row.split_at(1);
            let half = |text: &str| [text.as_bytes()[0]; 8];
            let bytes = [half(identity), half(own)].concat();
            Fingerprint(bytes.try_into().unwrap())
        };
        rows.split_whitespace().map(row).collect()
    }

    /// How many of these rows of one page are new behind a boundary and what is confirmed, both told by the reporting service.
    fn new_to(origin: Origin, boundary: &str, known: &str, rows: &str) -> String {
        let by = Origin::ReportingService;
        let before = vec![vec![Confirmed {
            window: window(0),
            origin: by,
            fingerprints: told(known),
        }]];
        let kind = Kind { origin, ..KEY };
        let mut dedup = Deduplicator::new(kind, (&told(boundary), by), before);
        dedup.begin(window(0));
        dedup.begin_walk();
        let new = dedup.page(told(rows).into_iter(), &Elsewhere::default());
        let rows: Vec<&str> = rows.split_whitespace().collect();
        let through = new.places[0].iter().map(|place| rows[*place as usize]);
        through.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_another_service_has_told_of_is_known_by_its_identity_as_often_as_it_was_told() {
        let graph = |boundary, known, rows| new_to(Origin::Graph, boundary, known, rows);
        assert_eq!(graph("a1 b1", "", "a2 b2 c2"), "c2");
        assert_eq!(graph("", "a1 b1", "a2 b2 c2"), "c2");
        assert_eq!(graph("a1", "a3", "a2 a4 a5"), "a5");
        assert_eq!(graph("a1 a1", "", "a2 a2 a2"), "a2");
        assert_eq!(graph("", "", "a2 a3"), "a2 a3");
    }

    #[test]
    fn within_one_service_the_whole_row_counts() {
        let same = |boundary, known, rows| new_to(Origin::ReportingService, boundary, known, rows);
        assert_eq!(same("a1 b1", "", "a2 b1"), "a2");
        assert_eq!(same("", "a1 b1", "a2 b1"), "a2");
    }

    /// The records of windows of a second, how many of them are of the next hour, and what is shown. In the last window of an hour rows in
    /// capitals are of the next one.
    fn shown(start: i64, windows: &[&[&str]]) -> Vec<(u64, u64, u64)> {
        let mut dedup = Deduplicator::new(POSITION, (&[], Origin::ReportingService), vec![vec![]]);
        let windows = (start..).zip(windows).map(|(second, walks)| {
            dedup.begin(window(second));
            let is_last = window(second).end.timestamp() % 3_600 == 0;
            for rows in *walks {
                dedup.begin_walk();
                let beyond = (0..).zip(rows.bytes());
                let beyond = beyond.filter(|(_, row)| is_last && row.is_ascii_uppercase());
                let elsewhere = Elsewhere {
                    before: vec![],
                    beyond: beyond.map(|(place, _)| place).collect(),
                };
                dedup.page(prints(rows).into_iter(), &elsewhere);
                dedup.end_walk();
            }
            let finished = dedup.finish();
            (finished.records, finished.beyond, finished.shown.rows)
        });
        windows.collect()
    }

    #[test]
    fn a_row_at_a_boundary_is_shown_once_in_its_own_hour() {
        // 1_770_000_000 is 40 minutes past an hour.
        let end = 20 * 60;
        assert_eq!(shown(0, &[&["abb"], &["bbc"]]), [(3, 0, 3), (1, 0, 1)]);
        assert_eq!(
            shown(end - 1, &[&["abC"], &["Cd"], &["de"]]),
            [(3, 1, 2), (1, 0, 2), (1, 0, 1)]
        );
    }

    #[test]
    fn the_last_walk_of_a_window_is_what_was_shown() {
        assert_eq!(shown(0, &[&["ab", "bcd"]]), [(4, 0, 3)]);
    }

    #[test]
    fn what_another_service_has_told_of_stays_known_when_its_page_comes_again() {
        let by = Origin::ReportingService;
        let kind = Kind {
            origin: Origin::Graph,
            ..KEY
        };
        let mut dedup = Deduplicator::new(kind, (&told("a1"), by), vec![vec![]]);
        dedup.begin(window(0));
        for _ in 0..3 {
            dedup.begin_walk();
            assert_eq!(
                dedup
                    .page(told("a2").into_iter(), &Elsewhere::default())
                    .records,
                0
            );
        }
    }
}
