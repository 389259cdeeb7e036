//! What tells one record from another: a keyed hash of all its fields but those that tell of the query.

use std::fmt;
use std::ops::Range;

use super::hash::Hash;
use super::{members, usual};

/// Fields that tell of the query and not of the record: the echo of the range, the position in the result, the type.
const VOLATILE: [&[u8]; 4] = [
    b"\"StartDate\"",
    b"\"EndDate\"",
    b"\"Index\"",
    b"\"__metadata\"",
];

/// Whether a member of a row, of which `text` is the beginning, is one of the volatile ones.
pub(super) fn is_volatile(text: &[u8]) -> bool {
    // Most names differ from these in their first letter, behind the quote.
    let Some(letter) = text.get(1) else {
        return false;
    };
    VOLATILE
        .iter()
        .any(|name| *letter == name[1] && text.starts_with(name))
}

/// What tells one record from another: a keyed hash of all its fields but the volatile ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 16]);

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The hash hides its key only as long as nobody sees its outputs.
        f.write_str("Fingerprint(…)")
    }
}

/// The secret under which fingerprints are made: nobody may craft a mail that hides another one.
#[derive(Clone)]
pub struct Fingerprinter {
    hash: Hash,
}

impl Fingerprinter {
    /// A fingerprinter with a random key, which has to stay the same as long as its fingerprints are kept.
    pub fn new(key: &[u8; 16]) -> Self {
        Fingerprinter {
            hash: Hash::new(key),
        }
    }

    /// The fingerprint of a row, a JSON object in the light shape.
    pub fn fingerprint(&self, row: &[u8]) -> Fingerprint {
        let mut fingerprint = None;
        let usual = self.rows(row, |_, found| fingerprint = Some(found));
        usual
            .and(fingerprint)
            .unwrap_or_else(|| Fingerprint(self.hash.of(&members::kept(row, is_volatile))))
    }

    /// Finds the rows of a list in one pass, if all are of the usual kind: objects without white space between their tokens and without
    /// objects or lists within.
    ///
    /// `text` is what stands behind the bracket that opens the list. Each row is handed to `found`, with where it is in the text and
    /// with its fingerprint. Returns where the closing bracket is, or the text's length if that ends with a row. After `None` what was
    /// handed over means nothing: the rows are of another kind, or no JSON.
    pub fn rows(
        &self,
        text: &[u8],
        mut found: impl FnMut(Range<usize>, Fingerprint),
    ) -> Option<usize> {
        usual::rows(text, is_volatile, |row, members| {
            found(row, Fingerprint(self.hash.of(&members)));
        })
    }
}

impl fmt::Debug for Fingerprinter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprinter(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::super::on_one_line;
    use super::*;

    fn fingerprint(row: &str) -> Fingerprint {
        Fingerprinter::new(&[7; 16]).fingerprint(&on_one_line(row.as_bytes()))
    }

    #[test]
    fn the_echo_of_the_query_and_the_position_do_not_tell_records_apart() {
        let one = r#"{"A":"x","StartDate":"1","B":[1,{"Index":"}"}],"EndDate":"2","Index":0}"#;
        let same = [
            r#"{"A":"x","StartDate":"3","B":[1,{"Index":"}"}],"EndDate":"4","Index":17}"#,
            r#"{"__metadata":{"type":"T"},"A":"x","B":[1,{"Index":"}"}]}"#,
            "{ \"A\" : \"x\" ,\"B\":[1,{\"Index\":\"}\"}], \"Index\" : 9 }",
            "{\n  \"A\": \"x\",\r\n  \"B\": [\n1, {\"Index\": \"}\"}],\n  \"Index\": 9\n}",
            "{\"A\": \"x\", \"B\": [ 1, {\"Index\": \"}\"}\t]}",
        ];
        for row in same {
            assert_eq!(fingerprint(one), fingerprint(row), "{row}");
        }
    }

    #[test]
    fn every_other_field_tells_records_apart() {
        let one = r#"{"A":"x","B":null,"C":12}"#;
        let others = [
            r#"{"A":"x","B":null,"C":13}"#,
            r#"{"A":"x","B":"null","C":12}"#,
            r#"{"A":"x","C":12}"#,
            r#"{"A":"x","B":null,"C":12,"D":1}"#,
            r#"{"A":"\"x","B":null,"C":12}"#,
            r#"{"A":"x\\","B":null,"C":12}"#,
            r#"{"AB":"x","B":null,"C":12}"#,
        ];
        for row in others {
            assert_ne!(fingerprint(one), fingerprint(row), "{row}");
        }
    }
}
