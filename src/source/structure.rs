//! Whether the rows of an answer that is no sound JSON can be told apart all the same: by its brackets and strings alone.
//!
//! What stands between them does not matter here: an unknown word, a byte that is not UTF-8 or a control character does not keep rows from
//! being told apart. A quote or a bracket too many or too few would join rows or split them in the wrong place, and is an error.

use crate::record::string_length;

/// Why the structure cannot be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// The text ends early; whether in the midst of its rows.
    Early {
        /// Whether a row had begun.
        in_rows: bool,
    },
    /// It is broken at this byte.
    At {
        /// Counted from 0.
        byte: usize,
        /// Whether that is in the midst of its rows.
        in_rows: bool,
    },
}

/// Checks that each bracket and each string of an answer is closed, and that values stand where values can stand.
///
/// `json` begins with a brace, behind white space.
pub(super) fn check(json: &[u8]) -> Result<(), Broken> {
    let mut structure = Structure::default();
    let mut at = 0;
    while let Some(byte) = json.get(at) {
        let length = match byte {
            b'"' => string_length(&json[at..]),
            _ => 1,
        };
        let token = &json[at..at + length];
        if structure.is_complete() && !byte.is_ascii_whitespace() || !structure.takes(token) {
            let in_rows = structure.in_rows();
            return Err(Broken::At { byte: at, in_rows });
        }
        at += length;
    }
    if structure.is_complete() {
        Ok(())
    } else {
        let in_rows = structure.in_rows();
        Err(Broken::Early { in_rows })
    }
}

/// What is open at a place of the text.
#[derive(Default)]
struct Structure<'a> {
    /// Opening brackets.
    open: Vec<u8>,
    /// The last byte that is no white space; a quote for a string.
    before: u8,
    /// The last string, and the names of the members at the two outer levels.
    string: &'a [u8],
    names: [&'a [u8]; 2],
    /// How many brackets are open within the list of rows, if it is open.
    rows: Option<usize>,
    has_row: bool,
}

impl<'a> Structure<'a> {
    fn is_complete(&self) -> bool {
        self.open.is_empty() && self.before == b'}'
    }

    fn in_rows(&self) -> bool {
        self.rows.is_some() && self.has_row
    }

    /// Takes the next token; `false` if it cannot stand there.
    fn takes(&mut self, token: &'a [u8]) -> bool {
        let byte = token[0];
        let is_possible = match byte {
            b'"' => {
                self.string = token;
                matches!(self.before, b'{' | b'[' | b',' | b':')
            }
            b'{' | b'[' => {
                let is_possible = matches!(
                    (self.open.last(), self.before),
                    (None, _) | (Some(b'{'), b':') | (Some(b'['), b'[' | b',' | b'}' | b']')
                );
                self.opens(byte);
                is_possible
            }
            b'}' => self.closes(b'{'),
            b']' => self.closes(b'['),
            b':' => {
                if let Some(name) = self.names.get_mut(self.open.len().wrapping_sub(1)) {
                    *name = self.string;
                }
                true
            }
            b',' => true,
            _ if byte.is_ascii_whitespace() => return true,
            _ => self.before != b'"',
        };
        self.before = byte;
        is_possible
    }

    fn opens(&mut self, bracket: u8) {
        let is_list = bracket == b'[';
        let is_rows_list = match (&self.open[..], self.names) {
            (b"{", [b"\"value\"" | b"\"d\"", _]) | (b"{{", [b"\"d\"", b"\"results\""]) => is_list,
            _ => false,
        };
        self.has_row |= self.rows == Some(self.open.len()) && !is_list;
        self.open.push(bracket);
        if is_rows_list {
            self.rows = Some(self.open.len());
        }
    }

    fn closes(&mut self, bracket: u8) -> bool {
        if self.open.last() != Some(&bracket) {
            return false;
        }
        if self.rows == Some(self.open.len()) {
            self.rows = None;
        }
        self.open.pop();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_told_apart_whatever_stands_in_them() {
        for json in [
            &br#"{"value":[{"a":"x"},{"a":[1,{"b":{}}]}],"odata.nextLink":"y"}"#[..],
            br#" { "value" : [ { "a" : NaN } , { "a":tru e, "b":01,, } {} , null, [ ] {} , "x" ] } "#,
            b"{\"value\":[{\"a\":\"\xff\n\\x\\\"}],[\"},{}]}",
            br#"{"d":{"results":[{a:1}]}}"#,
            b"{}",
        ] {
            assert_eq!(check(json), Ok(()), "{}", String::from_utf8_lossy(json));
        }
    }

    #[test]
    fn a_quote_or_a_bracket_too_many_or_too_few_is_seen() {
        for (row, byte) in [
            (r#"{"a":"5" disk"}"#, 19),
            (r#"{"a":"5"","b":"x"}"#, 18),
            (r#"{"a":""x"}"#, 17),
            (r#"{"a":x"}"#, 16),
            (r#"{"a":1}}"#, 17),
            (r#"{"a":1]"#, 16),
            (r#"{"a":[1}"#, 17),
            (r#"{"a":1,{"b":2}"#, 17),
            (r#"{{"a":1}"#, 11),
            (r#"{"a":"b"{}}"#, 18),
            (r#"{"a":1{}}"#, 16),
        ] {
            for (place, more) in [r#"{"a":1},"#, ""].into_iter().enumerate() {
                let start = if place == 0 { "" } else { more };
                let json = format!(r#"{{"value":[{start}{row},{{"a":"x"}}]}}"#);
                let broken = Broken::At {
                    byte: byte + start.len(),
                    in_rows: true,
                };
                assert_eq!(check(json.as_bytes()), Err(broken), "{json}");
            }
        }
        let d = br#"{"d":{"results":[{"a":"5" disk"}]}}"#;
        assert!(matches!(check(d), Err(Broken::At { in_rows: true, .. })));
    }

    #[test]
    fn what_is_broken_elsewhere_is_not_in_the_rows() {
        for json in [
            r#"{"value":[{"a":1}]} {"value":[]}"#,
            r#"{"value":[{"a":1}],"odata.nextLink":"x"y"}"#,
            r#"{"error":{"message":"x"y"}}"#,
            r#"{"value":["x"y"]}"#,
            r#"{"a":{"value":[{"a":"x"y"}]}}"#,
            "{oops}]",
            "{\"a\" \"b\"}",
        ] {
            assert!(
                matches!(
                    check(json.as_bytes()),
                    Err(Broken::At { in_rows: false, .. })
                ),
                "{json}"
            );
        }
    }

    #[test]
    fn what_ends_early_is_seen() {
        let whole = r#"{"value":[{"a":NaN},{"b":["x"]}]}"#;
        for end in 1..whole.len() {
            let in_rows = (11..whole.len() - 1).contains(&end);
            assert_eq!(
                check(&whole.as_bytes()[..end]),
                Err(Broken::Early { in_rows }),
                "{end}"
            );
        }
    }
}
