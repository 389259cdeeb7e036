//! Rows of the usual kind in one pass: objects one behind the other, without white space between their tokens and without objects or
//! lists within, looked at 64 bytes at a time. Whatever else there is, and all that is no JSON, is left to `serde_json` and to
//! [`super::members`], which find the same by tokens.
//!
//! What is looked for is the grammar of such rows, as what may stand before what: a name only behind `{` or a comma within a row, a colon
//! only behind a name, and so on.

use std::ops::Range;

use super::classes::{Classes, STEP, classify};

/// Finds the rows at the beginning of `text`, which is what stands behind the bracket that opens a list, or one row.
///
/// Hands each to `found`: where it is, and its members whose names do not satisfy `left_out`, as they came and each with a comma behind
/// it. Returns where the list's closing bracket is, or the length of the text if that ends with a row; `None` if not everything up to
/// there is of the usual kind, and what was handed over means nothing then.
pub(super) fn rows(
    text: &[u8],
    left_out: impl Fn(&[u8]) -> bool,
    members: &mut Vec<u8>,
    mut found: impl FnMut(Range<usize>, &[u8]),
) -> Option<usize> {
    let mut grammar = Grammar::default();
    let mut row = 0;
    // From `kept_from` on members are kept; `None` while one is left out.
    let mut kept_from = None;
    let mut other_than_ascii = false;
    for (step, chunk) in text.chunks(STEP).enumerate() {
        let signs = grammar.read(chunk, &text[step * STEP..])?;
        other_than_ascii |= signs.other_than_ascii;
        let mut marks = signs.marks;
        while marks != 0 {
            let at = step * STEP + marks.trailing_zeros() as usize;
            marks &= marks - 1;
            if text[at] == b'}' {
                if let Some(from) = kept_from {
                    members.extend_from_slice(&text[from..at]);
                    members.push(b',');
                }
                if other_than_ascii {
                    str::from_utf8(&text[row..at]).ok()?;
                }
                found(row..at + 1, members);
                other_than_ascii = signs.other_than_ascii;
                continue;
            }
            let member = at + 1;
            if text[at] == b'{' {
                row = at;
                members.clear();
                kept_from = None;
            }
            match (left_out(&text[member..]), kept_from) {
                (false, None) => kept_from = Some(member),
                (true, Some(from)) => {
                    members.extend_from_slice(&text[from..member]);
                    kept_from = None;
                }
                _ => {}
            }
        }
        if let Some(end) = signs.end {
            return Some(step * STEP + end);
        }
    }
    grammar.is_behind_row().then_some(text.len())
}

/// What one step has found.
struct Signs {
    /// A bit for each brace of a row, and for each comma between two members.
    marks: u64,
    /// The list's closing bracket.
    end: Option<usize>,
    other_than_ascii: bool,
}

/// What has been read so far, as far as it matters to what follows.
#[derive(Default)]
struct Grammar {
    strings: Strings,
    begun: bool,
    /// The last step ended within a member's name, or before its colon.
    within_name: bool,
    last: Kinds,
}

/// A bit for each byte, by what it is: outside of strings, or their quotes. Carried from step to step for its highest bit, the last byte.
#[derive(Clone, Copy, Default)]
struct Kinds {
    opening: u64,
    closing: u64,
    colon: u64,
    /// Between members.
    comma: u64,
    /// Between rows.
    separator: u64,
    open: u64,
    close: u64,
    /// Of a number or a word.
    scalar: u64,
}

impl Grammar {
    /// Reads the next step, of which `chunk` is the text and `rest` the text from there on; `None` at what cannot stand where it does.
    #[inline]
    fn read(&mut self, chunk: &[u8], rest: &[u8]) -> Option<Signs> {
        let classes = if let Some(whole) = chunk.first_chunk() {
            classify(whole)
        } else {
            // What follows means nothing.
            let mut padded = [b'0'; STEP];
            padded[..chunk.len()].copy_from_slice(chunk);
            classify(&padded)
        };
        let (inside, quotes) = self.strings.read(&classes, rest)?;
        let outside = !(inside | quotes);
        let (mut open, mut close, mut end) = (0, 0, 0);
        let mut brackets = classes.brackets & outside;
        while brackets != 0 {
            let bit = brackets & brackets.wrapping_neg();
            match chunk.get(bit.trailing_zeros() as usize) {
                Some(b'{') => open |= bit,
                Some(b'}') => close |= bit,
                Some(b']') => {
                    end = bit;
                    break;
                }
                _ => return None,
            }
            brackets ^= bit;
        }
        // What stands behind the list, or behind the text, is no concern here.
        let concern = match (end, chunk.len()) {
            (0, STEP) => u64::MAX,
            (0, length) => (1 << length) - 1,
            _ => end - 1,
        };
        let colon = classes.colons & outside;
        let commas = classes.commas & outside;
        let scalar = outside & !(colon | commas | open | close | end);
        let last = self.last;
        let behind = |mask: u64, last: u64| mask << 1 | last >> 63;
        let first = u64::from(!self.begun);
        let behind_close = behind(close, last.close);
        let kinds = Kinds {
            opening: quotes & inside,
            closing: quotes & !inside,
            colon,
            comma: commas & !behind_close,
            separator: commas & behind_close,
            open,
            close,
            scalar,
        };
        let behind_closing = behind(kinds.closing, last.closing);
        let behind_colon = behind(colon, last.colon);
        let behind_scalar = behind(scalar, last.scalar);
        let behind_value = behind_closing | behind_scalar;
        let behind_separator = behind(kinds.separator, last.separator) | first;
        let before_name = behind(open, last.open) | behind(kinds.comma, last.comma);

        // A sum carries each name's beginning up to the next sign, which has to be its colon; and no other sign may be one.
        let signs = colon | commas | open | close;
        let names = kinds.opening & before_name;
        let (sum, over) = (!signs).overflowing_add(names);
        let (sum, over_again) = sum.overflowing_add(u64::from(self.within_name));
        let wrong = (sum & signs) ^ colon
            | kinds.opening & !(before_name | behind_colon)
            | colon & !behind_closing
            | kinds.comma & !behind_value
            | close & !behind_value
            | open & !behind_separator
            | scalar & !(behind_colon | behind_scalar)
            | end & !(behind_close | first);
        if (wrong | classes.controls) & (concern | end) != 0 {
            return None;
        }
        let mut scalars = scalar & behind_colon & concern;
        while scalars != 0 {
            if !is_scalar(&rest[scalars.trailing_zeros() as usize..]) {
                return None;
            }
            scalars &= scalars - 1;
        }
        self.within_name = over | over_again;
        self.begun = true;
        self.last = kinds;
        // Where the text ends, that is its last byte.
        self.last.close <<= STEP - chunk.len();
        Some(Signs {
            marks: (open | close | kinds.comma) & concern,
            end: (end != 0).then(|| end.trailing_zeros() as usize),
            other_than_ascii: classes.others != 0,
        })
    }

    /// Whether what was read ends with a row.
    fn is_behind_row(&self) -> bool {
        self.last.close >> 63 == 1
    }
}

/// Each bit becomes the parity of the bits up to it.
fn parity(mut bits: u64) -> u64 {
    for distance in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << distance;
    }
    bits
}

/// Whether a number, `true`, `false` or `null` stands here, up to a comma or the row's end.
fn is_scalar(text: &[u8]) -> bool {
    let rest = match text.first() {
        Some(b't') => text.strip_prefix(b"true"),
        Some(b'f') => text.strip_prefix(b"false"),
        Some(b'n') => text.strip_prefix(b"null"),
        _ => behind_number(text),
    };
    matches!(rest.and_then(<[u8]>::first), Some(b',' | b'}'))
}

/// What stands behind the number at the beginning of `text`, if there is one (RFC 8259, section 6).
fn behind_number(text: &[u8]) -> Option<&[u8]> {
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let mut rest = match text.strip_prefix(b"0") {
        Some(rest) => rest,
        None => behind_digits(text)?,
    };
    if let Some(fraction) = rest.strip_prefix(b".") {
        rest = behind_digits(fraction)?;
    }
    if let Some(exponent) = rest.strip_prefix(b"e").or_else(|| rest.strip_prefix(b"E")) {
        let sign = exponent
            .strip_prefix(b"+")
            .or_else(|| exponent.strip_prefix(b"-"));
        rest = behind_digits(sign.unwrap_or(exponent))?;
    }
    Some(rest)
}

fn behind_digits(text: &[u8]) -> Option<&[u8]> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (digits > 0).then(|| &text[digits..])
}

/// Where strings are, carried from one step to the next.
#[derive(Default)]
struct Strings {
    /// The last step ended within a string: all ones.
    inside: u64,
    /// The last step ended with a backslash that makes the next byte a part of the string.
    escaped: bool,
}

impl Strings {
    /// A bit for each byte of a string, its opening quote included and the closing one not; and one for each of these quotes. `None` at a
    /// backslash before what it cannot stand before.
    fn read(&mut self, classes: &Classes, rest: &[u8]) -> Option<(u64, u64)> {
        let (mut quotes, mut backslashes) = (classes.quotes, classes.backslashes);
        if std::mem::take(&mut self.escaped) {
            quotes &= !1;
            backslashes &= !1;
        }
        while backslashes != 0 {
            let at = backslashes.trailing_zeros();
            if !is_escape(rest.get(at as usize + 1..)?) {
                return None;
            }
            let Some(next) = 2_u64.checked_shl(at).filter(|next| *next != 0) else {
                self.escaped = true;
                break;
            };
            quotes &= !next;
            backslashes &= !next & (backslashes - 1);
        }
        let inside = parity(quotes) ^ self.inside;
        self.inside = (inside >> 63).wrapping_neg();
        Some((inside, quotes))
    }
}

/// Whether a backslash may stand before this (RFC 8259, section 7).
fn is_escape(text: &[u8]) -> bool {
    match text.first() {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => true,
        Some(b'u') => text
            .get(1..5)
            .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::super::{is_volatile, members};
    use super::*;

    /// The rows that one pass finds in a list, each with its members.
    fn found(text: &str) -> Option<Vec<(String, String)>> {
        let mut all = vec![];
        let mut scratch = b"of the page before".to_vec();
        let end = rows(
            text.as_bytes(),
            is_volatile,
            &mut scratch,
            |row, members| {
                let members = str::from_utf8(members).unwrap().to_owned();
                all.push((text[row].to_owned(), members));
            },
        )?;
        assert!(text[end..].starts_with(']') || end == text.len(), "{text}");
        Some(all)
    }

    /// What is found has to be what `serde_json` and tokens show; tells whether it was found.
    fn check(text: &str) -> bool {
        let list = format!("[{text}]");
        let Some(found) = found(&list[1..]) else {
            return false;
        };
        let expected: Vec<&RawValue> = serde_json::from_str(&list).expect(text);
        let expected = expected.into_iter().map(|row| {
            let mut expected = vec![];
            members::append_members(row.get().as_bytes(), is_volatile, &mut expected);
            (row.get().to_owned(), String::from_utf8(expected).unwrap())
        });
        assert_eq!(found, expected.collect::<Vec<_>>(), "{text}");
        true
    }

    #[test]
    fn rows_without_white_space_and_objects_are_of_the_usual_kind() {
        for text in [
            "",
            r#"{"Index":1,"A":"x y","StartDate":"1","EndDate":"2","B":null}"#,
            r#"{"A":"[{,}]\"}","Indexes":-1.5e7,"EndDate":"2","Index":3}"#,
            r#"{"A":"x"},{"Index":2},{"__metadata":"x","B":true}"#,
            r#"{"A":0,"B":-0.0e+10,"C":120.5E-1,"D":false,"":"\u00e9é"}"#,
        ] {
            assert!(check(text), "{text}");
        }
    }

    #[test]
    fn all_else_is_left_to_others() {
        for text in [
            r#"{"A":"x","B":["y"]}"#,
            r#"{"A":"x","B":{}}"#,
            r#"{"A":"x", "B":1}"#,
            r#"{"A":"x"} "#,
            "{\"A\":\"x\",\n\"B\":1}",
            "{}",
            r#"{"A":"x"},{}"#,
            r#"{"A":"x"},"B""#,
            r#"{"A":"x"},1"#,
            "[]",
            "1",
        ] {
            let list = format!("[{text}]");
            serde_json::from_str::<Vec<&RawValue>>(&list).expect(text);
            assert_eq!(found(&list[1..]), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_json_is_not_found() {
        let texts = r#"{"A":"x",}  {,"A":1}  {"A"}  {"A":}  {"A"1}  {"A":1:2}  {"A":"x""B":1}  {A:1}  {"A","B"}  {1:2}  {"A":"x"}{"A":1}
            {"A":1},  ,{"A":1}  {"A":1},,{"A":1}  {"A":1}}  {{"A":1}  {"A":1  {"A":"1}  {"A":"\x"}  {"A":"\u00e"}  {"A":"\u00eg"}
            {"A":01}  {"A":1.}  {"A":.1}  {"A":-}  {"A":1e}  {"A":+1}  {"A":1.2.3}  {"A":tru}  {"A":truee}  {"A":nul}  {"A":NaN}
            {"A":"x"1}  {"A":1"x"}  {"A":"x"x}  {"A":\"x"}  {"A":1},"B":2  "A":1  {"A":1,{"B":1}}  {"A":1},:
            {"A":[1}  {"A":1]}  {"A":1};  {"A":é}"#;
        for text in texts.split_whitespace() {
            let list = format!("[{text}]");
            assert!(serde_json::from_str::<&RawValue>(&list).is_err(), "{text}");
            for length in 0..2 * STEP {
                let text = format!(r#"{{"Z":"{}"}},{text}]"#, "a".repeat(length));
                assert_eq!(found(&text), None, "{text}");
            }
        }
        for control in ["\t", "\r", "\u{1f}", "\0"] {
            assert_eq!(found(&format!("{{\"A\":\"{control}\"}}]")), None);
        }
        assert_eq!(found("{\"A\":\"\u{7f}\"}").unwrap().len(), 1);
    }

    #[test]
    fn what_is_no_utf_8_is_not_found() {
        let find = |text: &[u8]| rows(text, is_volatile, &mut vec![], |_, _| {});
        for length in 0..2 * STEP {
            let start = [br#"{"A":""#, vec![b'a'; length].as_slice()].concat();
            let text = [&start, "é\"}]".as_bytes()].concat();
            assert_eq!(find(&text), Some(text.len() - 1));
            for wrong in [
                &b"\xc3\"}]"[..],
                b"\xff\"}]",
                b"\xa9\"}]",
                b"\xed\xa0\x80\"}]",
            ] {
                assert_eq!(find(&[&start, wrong].concat()), None);
            }
        }
    }

    #[test]
    fn signs_are_seen_wherever_a_step_ends() {
        for length in 0..2 * STEP {
            for text in [
                r"\\",
                r#"\""#,
                r#"\\\""#,
                r#"\u0022,\"Index\":"#,
                "é",
                "}],[{",
            ] {
                let start = "a".repeat(length);
                let row = format!(r#"{{"A":"{start}{text}{text}","Index":1,"B":"x"}}"#);
                assert!(check(&row));
                assert!(check(&format!("{row},{row}")));
                assert_eq!(found(&row).map(|rows| rows.len()), Some(1));
                assert_eq!(found(&row[..row.len() - 1]), None);
                assert_eq!(found(&format!("{row},")), None);
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn it_finds_what_tokens_show(
            names in proptest::collection::vec("Index|StartDate|__metadata|[A-Z\\\\\"{}, ]{0,9}", 1..24),
            texts in proptest::collection::vec("[a-z\\\\\"{},:\\[\\] \u{7f}é]{0,90}", 24),
            members_of_a_row in 1..8_usize,
        ) {
            let members: Vec<String> = names.iter().zip(&texts).map(|(name, text)| {
                let value = if text.len() % 3 == 0 { serde_json::json!(text.len()) } else { serde_json::json!(text) };
                format!("{}:{value}", serde_json::json!(name))
            }).collect();
            let rows: Vec<_> = members.chunks(members_of_a_row).map(|row| format!("{{{}}}", row.join(","))).collect();
            assert!(check(&rows.join(",")));
        }

        #[test]
        fn what_it_finds_in_broken_lists_is_what_tokens_show(
            text in "(\\{|\\}|\\[|\\]|,|:|\"|\\\\|\"A\"|\"A\":|\"Index\":1|:1|null|-|0|e|.|,\\{\"|\"\\}| |é){0,40}",
        ) {
            let text = text.replace(']', "");
            check(&text);
        }

        #[test]
        fn what_it_finds_in_rows_with_one_byte_changed_is_what_tokens_show(
            place in 0..200_usize, byte in 0x20..0x7f_u8,
        ) {
            let mut text = br#"{"Index":1,"Subject":"a \\ \u00e9 b","Size":-10.5e3,"EndDate":"2"},{"A":null,"StartDate":"1","B":"[{,}]","Received":"2022-07-28T15:09:56","Index":20},{"C":"","D":true}"#.to_vec();
            let place = place % text.len();
            text[place] = byte;
            let text = String::from_utf8(text).unwrap();
            if !text.contains("}]") {
                check(&text);
            }
        }
    }
}
