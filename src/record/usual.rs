//! Rows of the usual kind in one pass: objects one behind the other, without white space between their tokens and without objects or
//! lists within, each laid out as the one before it. Whatever else there is, and all that is no JSON, is left to `serde_json` and to
//! [`super::members`], which find the same by tokens.
//!
//! All rows of a report have the same names in the same order. So the first row tells what has to stand between the values of the others,
//! and only the ends of the values are looked for.

use std::borrow::Cow;
use std::ops::Range;

use serde_json::Deserializer;
use serde_json::value::RawValue;
use wide::u8x16;

use super::members::Members;

/// Finds the rows at the beginning of `text`, which is what stands behind the bracket that opens a list, or one row.
///
/// Hands each to `found`: where it is, and its members whose names do not satisfy `left_out`, as they came and with a comma between two.
/// Returns where the list's closing bracket is, or the length of the text if that ends with a row; `None` if not everything up to
/// there is of the usual kind, and what was handed over means nothing then.
pub(super) fn rows<'t>(
    text: &'t [u8],
    left_out: impl Fn(&[u8]) -> bool,
    mut found: impl FnMut(Range<usize>, Cow<'t, [u8]>),
) -> Option<usize> {
    if text.first() == Some(&b']') {
        return Some(0);
    }
    let mut shape = Shape::default();
    let mut row = 0;
    loop {
        let mut read = shape.read(text, row);
        if read.is_none() {
            shape = Shape::of(text.get(row..)?, &left_out)?;
            read = shape.read(text, row);
        }
        let (end, members) = read?;
        found(row..end, members);
        match text.get(end) {
            Some(b',') => row = end + 1,
            Some(b']') | None => return Some(end),
            Some(_) => return None,
        }
    }
}

/// How a row is laid out.
#[derive(Default)]
struct Shape {
    /// What stands before each value.
    names: Vec<Name>,
}

impl Shape {
    /// That of the row at the beginning of `text`; `None` if there is none, or one of another kind.
    fn of(text: &[u8], left_out: impl Fn(&[u8]) -> bool) -> Option<Self> {
        let mut values = Deserializer::from_slice(text).into_iter::<&RawValue>();
        let row = values.next()?.ok()?.get().as_bytes();
        let names = Members::of(row).enumerate().map(|(place, (name, value))| {
            let before = if place == 0 { b"{" } else { b"," };
            let is_usual = !matches!(value.first(), Some(b'{' | b'['));
            is_usual.then(|| Name::new(&[before, name, b":"].concat(), !left_out(name)))
        });
        Some(Shape {
            names: names.collect::<Option<_>>()?,
        })
    }

    /// Reads the row at `row`: where it ends, and its members. `None` if it is laid out in another way, or no JSON.
    #[inline]
    fn read<'t>(&self, text: &'t [u8], row: usize) -> Option<(usize, Cow<'t, [u8]>)> {
        let mut kept = Kept::default();
        let mut at = row;
        for name in &self.names {
            if !name.is_at(text, at) {
                return None;
            }
            if name.kept {
                kept.begin(at + 1);
            } else {
                kept.end(text, at);
            }
            at = value_end(text, at + name.length)?;
        }
        let is_end = text.get(at) == Some(&b'}') && !self.names.is_empty();
        is_end.then(|| (at + 1, kept.take(text, at)))
    }
}

/// A member's name with its quotes, what stands before it, and its colon.
struct Name {
    /// Its beginning, and filled up where it is shorter.
    beginning: u8x16,
    /// A bit for each byte that is not there to fill up.
    mask: u32,
    rest: Vec<u8>,
    length: usize,
    /// Whether the member is not left out.
    kept: bool,
}

impl Name {
    fn new(text: &[u8], kept: bool) -> Self {
        let beginning = text.len().min(STEP);
        Name {
            beginning: step(text, 0),
            mask: (1 << beginning) - 1,
            rest: text[beginning..].to_vec(),
            length: text.len(),
            kept,
        }
    }

    /// Whether it stands at `at`.
    #[inline]
    fn is_at(&self, text: &[u8], at: usize) -> bool {
        let equal = step(text, at).simd_eq(self.beginning).to_bitmask();
        let begins = equal & self.mask == self.mask;
        begins && (self.rest.is_empty() || text[at + STEP..].starts_with(&self.rest))
    }
}

/// Bytes looked at at once.
const STEP: usize = 16;

/// The bytes from `at` on, filled up with zeros where the text ends.
#[inline]
fn step(text: &[u8], at: usize) -> u8x16 {
    match text.get(at..).and_then(<[u8]>::first_chunk) {
        Some(bytes) => u8x16::from(*bytes),
        None => u8x16::from(last_step(text, at).to_ne_bytes()),
    }
}

/// As a number, which is handed over in registers: a vector would go through memory, and all others with it.
#[cold]
fn last_step(text: &[u8], at: usize) -> u128 {
    let rest = text.get(at..).unwrap_or_default();
    let mut bytes = [0; STEP];
    bytes[..rest.len()].copy_from_slice(rest);
    u128::from_ne_bytes(bytes)
}

/// Where the value at `at` ends, a string, a number or a word.
#[inline]
fn value_end(text: &[u8], at: usize) -> Option<usize> {
    let rest = text.get(at..)?;
    let behind = match rest.first()? {
        b'"' => return string_end(text, at + 1),
        b't' => rest.strip_prefix(b"true"),
        b'f' => rest.strip_prefix(b"false"),
        b'n' => rest.strip_prefix(b"null"),
        _ => behind_number(rest),
    };
    Some(text.len() - behind?.len())
}

/// Where the string ends of which the opening quote is before `at` (RFC 8259, section 7); its closing quote is the last byte before.
#[inline]
fn string_end(text: &[u8], mut at: usize) -> Option<usize> {
    const CONTROL_MAX: u8 = b' ' - 1;
    let start = at;
    // Of what stands behind the string too: that costs a look at it and nothing else.
    let mut other_than_ascii = 0;
    loop {
        let bytes = step(text, at);
        let equal = |byte| bytes.simd_eq(u8x16::splat(byte));
        let control = bytes.min(u8x16::splat(CONTROL_MAX)).simd_eq(bytes);
        let signs = (equal(b'"') | equal(b'\\') | control).to_bitmask();
        other_than_ascii |= bytes.to_bitmask();
        if signs == 0 {
            at += STEP;
            continue;
        }
        at += signs.trailing_zeros() as usize;
        match text.get(at)? {
            b'"' => break,
            b'\\' => at += escape_length(&text[at + 1..])?,
            _ => return None,
        }
    }
    if other_than_ascii != 0 {
        str::from_utf8(&text[start..at]).ok()?;
    }
    Some(at + 1)
}

/// The members of a row that are not left out, as far as it has been read.
#[derive(Default)]
struct Kept {
    /// Where those begin that are being read, if any are.
    from: Option<usize>,
    /// Those before, if they follow one another: mostly all that there are.
    first: Option<Range<usize>>,
    /// Those before, if others stand between them.
    several: Vec<u8>,
}

impl Kept {
    /// A member that is kept begins.
    #[inline]
    fn begin(&mut self, member: usize) {
        self.from.get_or_insert(member);
    }

    /// Nothing is kept from here on, where a comma or the row's end is.
    #[inline]
    fn end(&mut self, text: &[u8], at: usize) {
        let Some(from) = self.from.take() else {
            return;
        };
        match self.first.take() {
            None if self.several.is_empty() => self.first = Some(from..at),
            first => {
                self.several
                    .extend_from_slice(&text[first.unwrap_or_default()]);
                self.several.push(b',');
                self.several.extend_from_slice(&text[from..at]);
            }
        }
    }

    /// All of the row that ends at `at`.
    #[inline]
    fn take<'t>(&mut self, text: &'t [u8], at: usize) -> Cow<'t, [u8]> {
        self.end(text, at);
        match self.first.take() {
            Some(only) => Cow::Borrowed(&text[only]),
            None => Cow::Owned(std::mem::take(&mut self.several)),
        }
    }
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

/// The length of an escape whose backslash stands before `text`; `None` if it may not stand there.
fn escape_length(text: &[u8]) -> Option<usize> {
    match text.first()? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(2),
        b'u' if text.get(1..5)?.iter().all(u8::is_ascii_hexdigit) => Some(6),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::super::fingerprint::is_volatile;
    use super::super::members;
    use super::*;

    /// The rows that one pass finds in a list, each with its members.
    fn found(text: &str) -> Option<Vec<(String, String)>> {
        let mut all = vec![];
        let end = rows(text.as_bytes(), is_volatile, |row, members| {
            let members = str::from_utf8(&members).unwrap().to_owned();
            all.push((text[row].to_owned(), members));
        })?;
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
            let expected = members::kept(row.get().as_bytes(), is_volatile);
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
        let find = |text: &[u8]| rows(text, is_volatile, |_, _| {});
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
