//! How often each row came in a walk, and how often an output has been given it: pure.
//!
//! One answer of the service is one look at its result, so rows that are equal within a page are as many records. Rows that
//! are equal across pages may be one row that the result's shifting has shown twice: only walks that agree tell.

use std::hash::BuildHasherDefault;

use crate::record::{Fingerprint, FingerprintMap};

/// The rows of one walk, counted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    rows: u64,
    /// Pages, empty ones too: what would have been on an empty one may have shifted onto the page before, which was read already.
    pages: u32,
    counts: FingerprintMap<Count>,
    repeated: bool,
}

/// How many records equal rows are that come on different pages.
#[derive(Clone, Copy, Debug)]
pub(super) enum Certainty<'a> {
    /// As many as one page has shown: the others may have shifted there.
    Page,
    /// As many as there were in this walk, which agreed with the one before it.
    Walk(&'a Tally),
    /// As many as come.
    All,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    /// In the whole walk.
    total: u32,
    /// The last page with it.
    page: u32,
    /// On that page.
    on_page: u32,
    /// On the page that had most.
    most: u32,
}

impl Tally {
    /// An empty one, with room for so many kinds of rows: a map that grows is slow.
    pub(super) fn with_room(kinds: usize) -> Self {
        Tally {
            counts: FingerprintMap::with_capacity_and_hasher(kinds, BuildHasherDefault::default()),
            ..Tally::default()
        }
    }

    /// All rows.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Whether there was more than one page.
    pub(super) fn is_of_several_pages(&self) -> bool {
        self.pages > 1
    }

    /// Whether a row of one page came on another one too.
    pub(super) fn has_repeats(&self) -> bool {
        self.repeated
    }

    /// Goes on to the next page.
    pub(super) fn turn_page(&mut self) {
        self.pages += 1;
    }

    /// Counts a row of the current page, and tells how many records of its kind there are for certain so far.
    pub(super) fn count(&mut self, fingerprint: Fingerprint, certainty: Certainty<'_>) -> u32 {
        self.rows += 1;
        let count = self.counts.entry(fingerprint).or_default();
        if count.page == self.pages {
            count.on_page += 1;
        } else {
            self.repeated |= count.total > 0;
            (count.page, count.on_page) = (self.pages, 1);
        }
        count.total += 1;
        count.most = count.most.max(count.on_page);
        let agreed = match certainty {
            Certainty::Page => 0,
            Certainty::Walk(tally) => tally
                .counts
                .get(&fingerprint)
                .map_or(0, |count| count.total),
            Certainty::All => u32::MAX,
        };
        count.most.max(count.total.min(agreed))
    }

    /// The kinds of rows that came.
    pub(super) fn fingerprints(&self) -> impl Iterator<Item = Fingerprint> {
        self.counts.keys().copied()
    }

    /// Whether both walks brought the same rows, each as often.
    pub(super) fn agrees_with(&self, other: &Tally) -> bool {
        self.rows == other.rows
            && self.counts.len() == other.counts.len()
            && self.counts.iter().all(|(fingerprint, count)| {
                other
                    .counts
                    .get(fingerprint)
                    .is_some_and(|other| other.total == count.total)
            })
    }

    /// How often each row came.
    #[cfg(test)]
    pub(super) fn totals(&self) -> std::collections::HashMap<Fingerprint, u32> {
        let totals = self.counts.iter();
        totals.map(|(row, count)| (*row, count.total)).collect()
    }

    /// Takes in what an earlier walk of the same window saw.
    pub(super) fn merge(&mut self, earlier: &Tally) {
        for (fingerprint, count) in &earlier.counts {
            let known = self.counts.entry(*fingerprint).or_default();
            known.total = known.total.max(count.total);
        }
    }
}

/// How many records of each kind an output has been given.
#[derive(Debug, Default)]
pub(super) struct Claims {
    counts: FingerprintMap<u32>,
}

impl Claims {
    /// Claims one more record of this kind, if there are `certain` and not all are claimed.
    pub(super) fn claim(&mut self, fingerprint: Fingerprint, certain: u32) -> bool {
        let claimed = self.counts.entry(fingerprint).or_default();
        let open = *claimed < certain;
        *claimed += u32::from(open);
        open
    }

    /// Keeps the claims of what a window just committed has seen: it may come again at the window's boundary.
    pub(super) fn keep_those_of(&mut self, tally: &Tally) {
        self.counts
            .retain(|fingerprint, _| tally.counts.contains_key(fingerprint));
        // Room for as many again is kept: the next window brings them.
        self.counts.shrink_to(3 * self.counts.len());
    }

    /// Takes out what was `seen` by the window before the one just committed, and not by that one: it cannot come again.
    pub(super) fn forget(&mut self, seen: &[Fingerprint], tally: &Tally) {
        for fingerprint in seen {
            if !tally.counts.contains_key(fingerprint) {
                self.counts.remove(fingerprint);
            }
        }
    }

    /// How many kinds of records are claimed.
    pub(super) fn kinds(&self) -> usize {
        self.counts.len()
    }

    /// Whether nothing is claimed.
    pub(super) fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Takes out what a committed window accounts for: an equal row later on is another record.
    pub(super) fn settle(&mut self, tally: &Tally) {
        for (fingerprint, count) in &tally.counts {
            if let Some(claimed) = self.counts.get_mut(fingerprint) {
                *claimed = claimed.saturating_sub(count.total);
            }
        }
        self.counts.retain(|_, claimed| *claimed > 0);
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.counts = FingerprintMap::default();
    }

    /// A fingerprint for each record claimed.
    pub(super) fn fingerprints(&self) -> Vec<Fingerprint> {
        self.counts
            .iter()
            .flat_map(|(fingerprint, claimed)| std::iter::repeat_n(*fingerprint, *claimed as usize))
            .collect()
    }
}

impl FromIterator<Fingerprint> for Claims {
    fn from_iter<I: IntoIterator<Item = Fingerprint>>(fingerprints: I) -> Self {
        let mut claims = Claims::default();
        for fingerprint in fingerprints {
            *claims.counts.entry(fingerprint).or_default() += 1;
        }
        claims
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Walks pages whose rows are letters; returns the tally and the letters that were let through.
    fn walk(pages: &str, certainty: Certainty<'_>, claims: &mut Claims) -> (Tally, String) {
        let (mut tally, mut through) = (Tally::default(), String::new());
        for page in pages.split('|') {
            tally.turn_page();
            for row in page.bytes() {
                let fingerprint = Fingerprint([row; 16]);
                let certain = tally.count(fingerprint, certainty);
                if claims.claim(fingerprint, certain) {
                    through.push(char::from(row));
                }
            }
        }
        (tally, through)
    }

    #[test]
    fn equal_rows_of_one_page_are_as_many_records() {
        let (tally, through) = walk("abb|cb", Certainty::Page, &mut Claims::default());
        assert_eq!(through, "abbc");
        assert!(tally.has_repeats());
        assert!(
            !walk("abb|cc", Certainty::Page, &mut Claims::default())
                .0
                .has_repeats()
        );
    }

    #[test]
    fn a_row_that_shifted_onto_the_next_page_is_one_record() {
        let mut claims = Claims::default();
        let (first, through) = walk("ab|bc", Certainty::Page, &mut claims);
        assert_eq!(through, "abc");
        let (second, through) = walk("xa|bc", Certainty::Page, &mut claims);
        assert_eq!(through, "x");
        assert!(!second.agrees_with(&first) && !second.has_repeats());
    }

    #[test]
    fn equal_rows_of_two_pages_are_two_records_once_two_walks_agree() {
        let mut claims = Claims::default();
        let (first, _) = walk("ab|bc", Certainty::Page, &mut claims);
        let (second, through) = walk("ab|bc", Certainty::Page, &mut claims);
        assert_eq!(through, "");
        assert!(second.agrees_with(&first));
        let (_, through) = walk("ab|bc", Certainty::Walk(&second), &mut claims);
        assert_eq!(through, "b");
    }

    #[test]
    fn claims_outlast_a_boundary_but_not_a_settled_window() {
        let mut claims = Claims::default();
        let (tally, _) = walk("aab", Certainty::Page, &mut claims);
        let mut boundary = Claims::from_iter(claims.fingerprints());
        boundary.keep_those_of(&tally);
        assert_eq!(walk("acaa", Certainty::Page, &mut boundary).1, "ca");
        claims.settle(&walk("a", Certainty::Page, &mut Claims::default()).0);
        assert_eq!(walk("aab", Certainty::Page, &mut claims).1, "a");
    }
}
