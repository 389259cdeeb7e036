//! When walks of a window agree on what its records are: pure.
//!
//! A walk of one page, or of a window whose rows have long come, is believed at once. Where the result may have shifted while it was
//! walked (a row came twice, or rows still come), it is walked until two walks agree; and once more if rows that are equal across pages
//! are yet to be let through, since only the agreement has shown that they are as many records.

use super::tally::{Certainty, Tally};

/// A window is walked this often at most.
pub(crate) const WALKS_MAX: u32 = 5;

/// The walks of one window so far.
#[derive(Debug, Default)]
pub(crate) struct Agreement {
    walks: u32,
    earlier: Option<Tally>,
    agreed: bool,
}

/// What the walks so far come to.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// These are the window's records, and all are let through.
    Settled(Tally),
    /// The window has to be walked again.
    WalkAgain,
    /// These rows were seen, and all are let through, but the result kept changing.
    Unsettled(Tally),
}

impl Agreement {
    /// Whether the window has been walked to its end before.
    pub(crate) fn is_begun(&self) -> bool {
        self.walks > 0
    }

    /// What is to be believed of equal rows while the next walk goes on.
    pub(crate) fn certainty(&self) -> Certainty<'_> {
        match &self.earlier {
            // The last walk lets everything through: once too often rather than never.
            _ if self.walks + 1 >= WALKS_MAX => Certainty::All,
            Some(earlier) if self.agreed => Certainty::Walk(earlier),
            _ => Certainty::Page,
        }
    }

    /// Takes in a walk; `young` if rows may still come to its window.
    pub(crate) fn take(&mut self, tally: Tally, young: bool) -> Verdict {
        let trusted = !matches!(self.certainty(), Certainty::Page);
        self.walks += 1;
        let unchanged = self
            .earlier
            .as_ref()
            .is_some_and(|earlier| earlier.agrees_with(&tally));
        let in_doubt = tally.has_repeats() || (young && tally.is_of_several_pages());
        let all_through = !tally.has_repeats() || trusted;
        if !in_doubt || (unchanged && all_through) {
            return Verdict::Settled(self.conclude(tally));
        }
        if self.walks >= WALKS_MAX {
            return Verdict::Unsettled(self.conclude(tally));
        }
        self.agreed = unchanged;
        self.earlier = Some(tally);
        Verdict::WalkAgain
    }

    /// What the last walk saw, and the one before it: either may come again at the window's boundary.
    fn conclude(&mut self, mut tally: Tally) -> Tally {
        if let Some(earlier) = self.earlier.take() {
            tally.merge(&earlier);
        }
        tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dedup::rows::Kind;
    use crate::dedup::tally::Claims;

    /// Walks one result after the other, whose pages are of letters; tells what was let through in each and how it ended.
    fn check(young: bool, results: &[&str], expected: &str) {
        let (mut agreement, mut claims, mut told) =
            (Agreement::default(), Claims::default(), vec![]);
        for result in results {
            let mut tally = Tally::default();
            let mut through = String::new();
            for page in result.split('|') {
                tally.turn_page();
                for row in page.bytes() {
                    let kind = Kind::at(row.into());
                    let certain = tally.count(kind, agreement.certainty());
                    if claims.claim(kind, certain) {
                        through.push(char::from(row));
                    }
                }
            }
            told.push(through);
            match agreement.take(tally, young) {
                Verdict::WalkAgain => {}
                Verdict::Settled(_) => told.push("settled".to_owned()),
                Verdict::Unsettled(_) => told.push("unsettled".to_owned()),
            }
        }
        assert_eq!(told.join(" "), expected, "{results:?}");
    }

    #[test]
    fn an_old_window_is_believed_at_once() {
        check(false, &["ab|cd"], "abcd settled");
        check(false, &["aab|cc"], "aabcc settled");
    }

    #[test]
    fn a_young_window_of_several_pages_is_walked_until_two_walks_agree() {
        check(true, &["abcd"], "abcd settled");
        check(true, &["ab|cd", "ab|cd"], "abcd  settled");
        check(true, &["ab|cd", "xa|bc|d", "xa|bc|d"], "abcd x  settled");
        check(true, &["ab|d", "ab|cd", "ab|cd"], "abd c  settled");
    }

    #[test]
    fn an_empty_page_counts_since_its_rows_may_have_shifted_onto_the_page_before() {
        check(true, &["ab|", "b"], "ab  settled");
        check(true, &["abc|", "acd"], "abc d settled");
    }

    #[test]
    fn a_repeated_row_is_one_record_unless_two_walks_agree_that_it_is_two() {
        check(false, &["ab|bc", "xa|bc"], "abc x settled");
        check(false, &["ab|bc", "ab|bc", "ab|bc"], "abc  b settled");
    }

    #[test]
    fn a_result_that_never_settles_is_let_through_in_the_end() {
        let restless = ["ab|bc", "db|bc", "eb|bc", "fb|bc", "gb|bc"];
        check(false, &restless, "abc d e f gb unsettled");
        let at_last = ["ab|bc", "db|bc", "eb|bc", "eb|bc", "ebb|bc|b"];
        check(false, &at_last, "abc d e  bbb unsettled");
    }
}
