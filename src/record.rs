//! A row as it came, byte for byte: its fingerprint, and the content that goes out.
//!
//! A row is never parsed into a tree and printed anew. What is done to it: white space between its tokens is removed if it
//! spans lines (a line must be one line), what the configuration names is masked, and Devo's own keys are spliced in before the closing
//! brace. Fingerprints are of the row before it is masked.

mod canonical;
mod fingerprint;
mod hash;
pub mod mask;
mod members;
mod mending;
mod number;
mod status;
mod sums;
mod time;
mod usual;

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use memchr::memchr2;

pub use fingerprint::{Fingerprint, Fingerprinter, Found};
pub use mask::Mask;
pub(crate) use members::{Items, Members, string_length};
pub(crate) use mending::append_mended;
pub(crate) use status::is_under_way;
pub use sums::Sums;
pub(crate) use time::{TimeOf, instant, ticks};

/// What is done to each record of one pull on its way out.
#[derive(Clone, Debug)]
pub struct Splice {
    mask: Mask,
    members: Vec<u8>,
}

impl Splice {
    /// Masks what `mask` names and puts in the keys of Devo: the environment, if the input has one, and last the start of the pull in
    /// epoch milliseconds.
    pub fn new(environment: Option<&str>, mask: &Mask, pulled: DateTime<Utc>) -> Self {
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
            mask: mask.clone(),
            members: members.into_bytes(),
        }
    }

    /// Appends the content that goes out for `row`, a JSON object on one line.
    pub fn append(&self, row: &[u8], out: &mut Vec<u8>) {
        // Copied before its end is looked at: a row comes from far memory, faster from its beginning on than by its end first.
        let start = out.len();
        self.mask.append(row, out);
        let copy = &out[start..];
        let body = copy.strip_suffix(b"}").unwrap_or(copy).trim_ascii_end();
        let (end, is_empty) = (start + body.len(), body == b"{");
        out.truncate(end);
        if !is_empty {
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

    #[test]
    fn the_content_is_the_row_with_devos_keys_spliced_in() {
        let pulled = DateTime::from_timestamp_millis(1_770_000_000_123).unwrap();
        let check = |row: &str, environment, expected: &str| {
            let mut out = Vec::new();
            Splice::new(environment, &Mask::default(), pulled)
                .append(&on_one_line(row.as_bytes()), &mut out);
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
