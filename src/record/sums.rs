//! What a set of rows comes to, in any order: how many there are, and a checksum of them.

use serde::{Deserialize, Serialize};

use super::Fingerprint;

/// A count of rows, and two checksums that do not depend on their order: of the whole rows, and of what is the same whichever service
/// tells of them. Equal rows count as often as they come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    /// How many rows there are.
    pub rows: u64,
    /// The checksum of the whole rows.
    pub whole: u64,
    /// The checksum of their identities across sources; it means nothing where a report has none.
    pub identities: u64,
}

impl Sums {
    /// Adds a row.
    #[inline]
    pub fn add(&mut self, row: Fingerprint) {
        let (first, second) = row.halves();
        let identity = mixed(first);
        self.rows = self.rows.wrapping_add(1);
        self.identities = self.identities.wrapping_add(identity);
        self.whole = self
            .whole
            .wrapping_add(mixed(identity ^ second.rotate_left(32)));
    }

    /// Adds all rows of another set.
    pub fn add_all(&mut self, other: &Sums) {
        self.rows = self.rows.wrapping_add(other.rows);
        self.whole = self.whole.wrapping_add(other.whole);
        self.identities = self.identities.wrapping_add(other.identities);
    }
}

/// Spreads each bit over all others (the end of `MurmurHash3`). Fingerprints are linear: the bare sum of two may be that of two others whose
/// texts have exchanged a part.
#[inline]
fn mixed(mut number: u64) -> u64 {
    number ^= number >> 33;
    number = number.wrapping_mul(0xff51_afd7_ed55_8ccd);
    number ^= number >> 33;
    number = number.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    number ^ (number >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Fingerprinter;

    fn sums(rows: &[&str]) -> Sums {
        let fingerprinter = Fingerprinter::new(&[7; 16], &[]);
        let mut sums = Sums::default();
        for row in rows {
            sums.add(fingerprinter.fingerprint(row.as_bytes()));
        }
        sums
    }

    #[test]
    fn the_order_of_rows_makes_no_difference_and_all_else_does() {
        let (a, b) = (r#"{"A":"11111111"}"#, r#"{"A":"22222222"}"#);
        assert_eq!(sums(&[a, b]), sums(&[b, a]));
        assert_ne!(sums(&[a, b]), sums(&[a, a]));
        assert_ne!(sums(&[a, a]), sums(&[b, b]));
        assert_eq!(sums(&[a, a]).rows, 2);
        let mut both = sums(&[a]);
        both.add_all(&sums(&[b]));
        assert_eq!(both, sums(&[a, b]));
    }

    #[test]
    fn rows_that_exchange_a_value_are_told_from_what_they_were() {
        let row = |one: &str, other: &str| format!(r#"{{"A":"{one}","B":"{other}"}}"#);
        let (ten, two) = ("1".repeat(32), "2".repeat(32));
        let before = [row(&ten, "x"), row(&two, "y")];
        let after = [row(&two, "x"), row(&ten, "y")];
        let of = |rows: &[String; 2]| sums(&[&rows[0], &rows[1]]);
        assert_ne!(of(&before).whole, of(&after).whole);
    }

    #[test]
    fn another_word_of_the_same_message_changes_only_the_whole() {
        let report = crate::report::REPORTS.iter();
        let report = { report }
            .clone()
            .find(|report| report.has_two_services())
            .unwrap();
        let fingerprinter = Fingerprinter::of(&[7; 16], report);
        let sums = |subject: &str| {
            let row = format!(
                r#"{{"MessageTraceId":"1","RecipientAddress":"a@b","Status":"Delivered","Subject":"{subject}"}}"#
            );
            let mut sums = Sums::default();
            sums.add(fingerprinter.fingerprint(row.as_bytes()));
            sums
        };
        let (one, other) = (sums("one"), sums("other"));
        assert_eq!(one.identities, other.identities);
        assert_ne!(one.whole, other.whole);
    }
}
