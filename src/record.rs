//! A row as it came, byte for byte: its fingerprint, and the content that goes out.
//!
//! A row is never parsed into a tree and printed anew. What is done to it: white space between its tokens is removed if it
//! spans lines (a line must be one line), and Devo's own keys are spliced in before the closing brace.

mod classes;
mod members;
mod usual;

use std::borrow::Cow;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;

use chrono::{DateTime, Utc};
use memchr::memchr2;
use polyval::universal_hash::UniversalHash;
use polyval::{Block, Polyval};

/// Fields that tell of the query and not of the record: the echo of the range, the position in the result, the type.
const VOLATILE: [&[u8]; 4] = [
    b"\"StartDate\"",
    b"\"EndDate\"",
    b"\"Index\"",
    b"\"__metadata\"",
];

/// Whether a member of a row, of which `text` is the beginning, is one of the volatile ones.
fn is_volatile(text: &[u8]) -> bool {
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

/// The hash for maps of fingerprints, which are random already.
#[derive(Default)]
pub struct FingerprintHasher(u64);

impl Hasher for FingerprintHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for (place, byte) in bytes.iter().take(8).enumerate() {
            self.0 ^= u64::from(*byte) << (8 * place);
        }
    }

    fn write_usize(&mut self, _length: usize) {}
}

/// A map whose keys are fingerprints.
pub type FingerprintMap<V> =
    std::collections::HashMap<Fingerprint, V, BuildHasherDefault<FingerprintHasher>>;

/// The secret under which fingerprints are made: nobody may craft a mail that hides another one.
#[derive(Clone)]
pub struct Fingerprinter {
    hash: Polyval,
}

impl Fingerprinter {
    /// A fingerprinter with a random key, which has to stay the same as long as its fingerprints are kept.
    ///
    /// POLYVAL is a universal hash: under a secret key whose outputs nobody sees, two rows of a kibibyte have the same with a chance of
    /// less than one in 2^120, whoever chose them.
    pub fn new(key: &[u8; 16]) -> Self {
        Fingerprinter {
            hash: Polyval::new(key.into()),
        }
    }

    /// The fingerprint of a row, a JSON object in the light shape. `scratch` is reused between calls.
    pub fn fingerprint(&self, row: &[u8], scratch: &mut Vec<u8>) -> Fingerprint {
        let mut fingerprint = None;
        let usual = self.rows(row, scratch, |_, found| fingerprint = Some(found));
        usual.and(fingerprint).unwrap_or_else(|| {
            scratch.clear();
            members::append_members(row, is_volatile, scratch);
            self.hash(scratch)
        })
    }

    /// Finds the rows of a list in one pass, if all are of the usual kind: objects without white space between their tokens and without
    /// objects or lists within.
    ///
    /// `text` is what stands behind the bracket that opens the list. Each row is handed to `found`, with where it is in the text and
    /// with its fingerprint. Returns where the closing bracket is, or the text's length if that ends with a row. After `None` what was
    /// handed over means nothing: the rows are of another kind, or no JSON. `scratch` is reused between calls.
    pub fn rows(
        &self,
        text: &[u8],
        scratch: &mut Vec<u8>,
        mut found: impl FnMut(Range<usize>, Fingerprint),
    ) -> Option<usize> {
        usual::rows(text, is_volatile, scratch, |row, members| {
            found(row, self.hash(members));
        })
    }

    fn hash(&self, members: &[u8]) -> Fingerprint {
        let mut hash = self.hash.clone();
        hash.update_padded(members);
        // Zeros pad the last block, so the length has to tell them from zeros that are the row's.
        hash.update(&[Block::from((members.len() as u128).to_le_bytes())]);
        Fingerprint(hash.finalize().into())
    }
}

impl fmt::Debug for Fingerprinter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprinter(…)")
    }
}

/// What is put into each record of one pull.
#[derive(Clone, Debug)]
pub struct Splice {
    members: Vec<u8>,
}

impl Splice {
    /// The keys of Devo: the environment, if the input has one, and last the start of the pull in epoch milliseconds.
    pub fn new(environment: Option<&str>, pulled: DateTime<Utc>) -> Self {
        let mut members = String::new();
        if let Some(environment) = environment {
            members.push_str("\"@devo_environment\": ");
            members.push_str(&serde_json::Value::from(environment).to_string());
            members.push(',');
        }
        members += "\"@devo_pulling_id\": \"";
        members += &pulled.timestamp_millis().to_string();
        members += "\"}";
        Splice {
            members: members.into_bytes(),
        }
    }

    /// Appends the content that goes out for `row`, a JSON object on one line.
    pub fn append(&self, row: &[u8], out: &mut Vec<u8>) {
        let body = row.strip_suffix(b"}").unwrap_or(row).trim_ascii_end();
        out.extend_from_slice(body);
        if body != b"{" {
            out.push(b',');
        }
        out.extend_from_slice(&self.members);
    }
}

/// The row on one line: as it is, or without the white space between its tokens if it spans several.
pub fn on_one_line(row: &[u8]) -> Cow<'_, [u8]> {
    // A line break cannot stand inside a JSON string, so one that is found is between two tokens.
    if memchr2(b'\n', b'\r', row).is_none() {
        return Cow::Borrowed(row);
    }
    let mut line = Vec::with_capacity(row.len());
    members::compact(row, &mut line);
    Cow::Owned(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(row: &str) -> Fingerprint {
        Fingerprinter::new(&[7; 16]).fingerprint(&on_one_line(row.as_bytes()), &mut Vec::new())
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

    #[test]
    fn the_content_is_the_row_with_devos_keys_spliced_in() {
        let pulled = DateTime::from_timestamp_millis(1_770_000_000_123).unwrap();
        let check = |row: &str, environment, expected: &str| {
            let mut out = Vec::new();
            Splice::new(environment, pulled).append(&on_one_line(row.as_bytes()), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        check(
            r#"{"Subject":"\ud800 }","Size":123456789012345678901234567890}"#,
            None,
            r#"{"Subject":"\ud800 }","Size":123456789012345678901234567890,"@devo_pulling_id": "1770000000123"}"#,
        );
        check(
            r#"{"A":1}"#,
            Some("pro\"d"),
            r#"{"A":1,"@devo_environment": "pro\"d","@devo_pulling_id": "1770000000123"}"#,
        );
        check("{}", None, r#"{"@devo_pulling_id": "1770000000123"}"#);
        check(
            "{ \"A\": \"b c\" }",
            None,
            r#"{ "A": "b c","@devo_pulling_id": "1770000000123"}"#,
        );
        check(
            "{\n \"A\": \"b c\\n\"\n}",
            None,
            "{\"A\":\"b c\\n\",\"@devo_pulling_id\": \"1770000000123\"}",
        );
    }
}
