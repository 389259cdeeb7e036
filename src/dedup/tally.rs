//! How often each row came in a walk, and how often an output has been given it: pure.
//!
//! One answer of the service is one look at its result, so rows that are equal within a page are as many records. Rows that
//! are equal across pages may be one row that the result's shifting has shown twice: only walks that agree tell.

use super::rows::Kind;

/// The rows of one walk, counted.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    rows: u64,
    /// Pages, empty ones too: what would have been on an empty one may have shifted onto the page before, which was read already.
    pages: u32,
    /// At each kind's number; those with higher numbers did not come.
    counts: Vec<Count>,
    repeated: bool,
}

/// How many records equal rows are that come on different pages.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Certainty<'a> {
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
    /// An empty one, with room for so many kinds of rows.
    pub(crate) fn with_room(kinds: usize) -> Self {
        Tally {
            counts: Vec::with_capacity(kinds),
            ..Tally::default()
        }
    }

    /// All rows.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Whether there was more than one page.
    pub(crate) fn is_of_several_pages(&self) -> bool {
        self.pages > 1
    }

    /// Whether a row of one page came on another one too.
    pub(crate) fn has_repeats(&self) -> bool {
        self.repeated
    }

    /// Goes on to the next page.
    pub(crate) fn turn_page(&mut self) {
        self.pages += 1;
    }

    /// Counts a row of the current page, and tells how many records of its kind there are for certain so far.
    pub(crate) fn count(&mut self, kind: Kind, certainty: Certainty<'_>) -> u32 {
        self.rows += 1;
        let count = at_number(&mut self.counts, kind);
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
            Certainty::Walk(tally) => tally.total(kind),
            Certainty::All => u32::MAX,
        };
        count.most.max(count.total.min(agreed))
    }

    /// How often rows of this kind came.
    pub(crate) fn total(&self, kind: Kind) -> u32 {
        self.counts.get(kind.place()).map_or(0, |count| count.total)
    }

    /// Whether any did.
    pub(crate) fn has(&self, kind: Kind) -> bool {
        self.total(kind) > 0
    }

    /// The kinds of rows that came.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = Kind> {
        (0..self.counts.len())
            .map(Kind::at)
            .filter(|kind| self.has(*kind))
    }

    /// Whether both walks brought the same rows, each as often.
    pub(crate) fn agrees_with(&self, other: &Tally) -> bool {
        let kinds = (0..self.counts.len().max(other.counts.len())).map(Kind::at);
        self.rows == other.rows && { kinds }.all(|kind| self.total(kind) == other.total(kind))
    }

    /// Takes in what an earlier walk of the same window saw.
    pub(crate) fn merge(&mut self, earlier: &Tally) {
        for kind in earlier.kinds() {
            let known = at_number(&mut self.counts, kind);
            known.total = known.total.max(earlier.total(kind));
        }
    }
}

/// What stands in a list at a kind's number, where it begins if nothing does.
#[inline]
fn at_number<T: Clone + Default>(list: &mut Vec<T>, kind: Kind) -> &mut T {
    if list.len() <= kind.place() {
        list.resize(kind.place() + 1, T::default());
    }
    &mut list[kind.place()]
}

/// How many records of each kind an output has been given.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    /// At each kind's number; of those with higher numbers none.
    counts: Vec<u32>,
}

impl Claims {
    /// Claims one more record of this kind, if there are `certain` and not all are claimed.
    pub(crate) fn claim(&mut self, kind: Kind, certain: u32) -> bool {
        let claimed = at_number(&mut self.counts, kind);
        let open = *claimed < certain;
        *claimed += u32::from(open);
        open
    }

    /// How many of this kind are claimed.
    pub(crate) fn of(&self, kind: Kind) -> u32 {
        self.counts.get(kind.place()).copied().unwrap_or(0)
    }

    /// Takes out all of this kind.
    pub(crate) fn forget(&mut self, kind: Kind) {
        if let Some(claimed) = self.counts.get_mut(kind.place()) {
            *claimed = 0;
        }
    }

    /// Takes out what a committed window accounts for: an equal row later on is another record.
    pub(crate) fn settle(&mut self, tally: &Tally) {
        for (claimed, place) in self.counts.iter_mut().zip(0..) {
            *claimed = claimed.saturating_sub(tally.total(Kind::at(place)));
        }
    }

    /// Takes out those kinds that are gone, which tells `kept` of them: the others have new numbers.
    pub(crate) fn retain(&mut self, kept: impl Fn(Kind) -> bool) {
        let mut place = 0;
        self.counts.retain(|_| {
            place += 1;
            kept(Kind::at(place - 1))
        });
        self.counts.shrink_to(3 * self.counts.len());
    }

    /// Each kind, as often as it is claimed.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = Kind> {
        self.counts
            .iter()
            .enumerate()
            .flat_map(|(place, claimed)| std::iter::repeat_n(Kind::at(place), *claimed as usize))
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
                let kind = Kind::at(row.into());
                let certain = tally.count(kind, certainty);
                if claims.claim(kind, certain) {
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
}
