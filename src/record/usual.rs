//! Rows of the usual kind in one pass: objects one behind the other, without white space between their tokens and without objects or
//! lists within, each laid out as the one before it. Whatever else there is, and all that is no JSON, is left to `serde_json` and to
//! [`super::members`], which find the same by tokens.
//!
//! All rows of a report have the same names in the same order. So the first row tells what has to stand between the values of the others,
//! and where each member belongs in the canonical text ([`super::canonical`]). Only the ends of the values are looked for, and whether they
//! are spelled as the canonical text spells them. Most are, and stand in order as well: then the canonical text is a part of the row.

use std::ops::{ControlFlow, Range};

use serde_json::Deserializer;
use serde_json::value::RawValue;
use wide::u8x16;

use super::canonical::{self, NameOrder};
use super::fingerprint::{Role, append_time};
use super::members::Members;
use super::{number, time};

/// The most members of a row of the usual kind: there is a bit for each.
const MEMBERS_MAX: usize = 64;
const _: () = assert!(MEMBERS_MAX <= canonical::MEMBERS_MAX);

/// A row, and what is looked at of it.
pub(super) struct Spans<'t> {
    /// Where it is in the text.
    pub(super) row: Range<usize>,
    /// The canonical text of its members that are not left out.
    pub(super) canonical: &'t [u8],
    /// The value of `Index`.
    pub(super) index: Option<&'t [u8]>,
}

/// Finds the rows at the beginning of `text`, which is what stands behind the bracket that opens a list, or one row.
///
/// Hands each to `found`, which may end the search. Returns where the list's closing bracket is, or the length of the text if that ends with
/// a row; `None` if not everything up to there is of the usual kind or if `found` has ended the search, and what was handed over means
/// nothing then.
pub(super) fn rows(
    text: &[u8],
    times: &[&str],
    mut found: impl FnMut(Spans<'_>) -> ControlFlow<()>,
) -> Option<usize> {
    if text.first() == Some(&b']') {
        return Some(0);
    }
    let (mut shape, mut values, mut scratch) = (Shape::default(), vec![], vec![]);
    let mut row = 0;
    loop {
        let mut read = shape.read(text, row, &mut values);
        if read.is_none() {
            shape = Shape::of(text.get(row..)?, times)?;
            values.resize(shape.names.len(), Value::default());
            read = shape.read(text, row, &mut values);
        }
        let (end, others) = read?;
        let spans = Spans {
            row: row..end,
            canonical: shape.canonical(text, &values, others, &mut scratch),
            index: shape.index(text, &values),
        };
        if found(spans).is_break() {
            return None;
        }
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
    /// The members that are not left out, by their places in the row, in the order of the canonical text: ranges of those that stand
    /// side by side in both.
    runs: Vec<Range<usize>>,
    /// The place of `Index`.
    index: Option<usize>,
}

impl Shape {
    /// That of the row at the beginning of `text`; `None` if there is none, or one of another kind.
    fn of(text: &[u8], times: &[&str]) -> Option<Self> {
        let mut values = Deserializer::from_slice(text).into_iter::<&RawValue>();
        let row = values.next()?.ok()?.get().as_bytes();
        let members: Vec<_> = Members::of(row).take(MEMBERS_MAX + 1).collect();
        let is_usual = |(name, value): &(&[u8], &[u8])| {
            canonical::is_string(name) && !matches!(value.first(), Some(b'{' | b'['))
        };
        if members.len() > MEMBERS_MAX || !members.iter().all(is_usual) {
            return None;
        }
        let role = |place: &usize| Role::of(members[*place].0, times);
        let is_kept = |place: &usize| matches!(role(place), Role::Value | Role::Time);
        let mut order: Vec<_> = (0..members.len()).filter(is_kept).collect();
        order.sort_by_key(|place| NameOrder::of(members[*place].0));
        let names = members.iter().enumerate().map(|(place, (name, _))| {
            let before = if place == 0 { b"{" } else { b"," };
            Name::new(&[before, *name, b":"].concat(), role(&place) == Role::Time)
        });
        let mut runs: Vec<Range<usize>> = vec![];
        for place in order {
            match runs.last_mut() {
                Some(run) if run.end == place => run.end += 1,
                _ => runs.push(place..place + 1),
            }
        }
        Some(Shape {
            names: names.collect(),
            runs,
            index: (0..members.len()).rfind(|place| role(place) == Role::Index),
        })
    }

    /// Reads the row at `row`: where its values are, where it ends, and a bit for each value that the canonical text does not have as it
    /// is. `None` if it is laid out in another way, or no JSON.
    #[inline]
    fn read(&self, text: &[u8], row: usize, values: &mut [Value]) -> Option<(usize, u64)> {
        let (mut at, mut others) = (row, 0);
        for (place, (name, value)) in self.names.iter().zip(values).enumerate() {
            if !name.is_at(text, at) {
                return None;
            }
            let start = at + name.length;
            let (end, mut spelling) = value_end(text, start)?;
            if name.is_time && spelling == Spelling::Canonical && !time::is_usual(&text[start..end])
            {
                spelling = Spelling::Other;
            }
            *value = Value {
                member: at + 1,
                start,
                end,
                spelling,
            };
            others |= u64::from(spelling != Spelling::Canonical) << place;
            at = end;
        }
        let is_end = text.get(at) == Some(&b'}') && !self.names.is_empty();
        is_end.then_some((at + 1, others))
    }

    /// The canonical text of a row that has been read, in which the values of `others` are not as they came: a part of it where that is
    /// possible, else put together in `scratch`.
    #[inline]
    fn canonical<'t>(
        &self,
        text: &'t [u8],
        values: &[Value],
        others: u64,
        scratch: &'t mut Vec<u8>,
    ) -> &'t [u8] {
        scratch.clear();
        let mut only: &[u8] = &[];
        for run in &self.runs {
            let mut start = run.start;
            loop {
                // The next value of the run that is not as it came.
                let next = start + (others >> start).trailing_zeros() as usize;
                let end = next.min(run.end);
                if start < end {
                    append(only, scratch);
                    only = &text[values[start].member..values[end - 1].end];
                }
                if next >= run.end {
                    break;
                }
                if values[next].spelling == Spelling::Other {
                    append(only, scratch);
                    only = &[];
                    self.append_other(text, next, values[next], scratch);
                }
                start = next + 1;
                if start == run.end {
                    break;
                }
            }
        }
        if scratch.is_empty() {
            return only;
        }
        append(only, scratch);
        scratch
    }

    fn append_other(&self, text: &[u8], place: usize, value: Value, out: &mut Vec<u8>) {
        append(&text[value.member..value.start], out);
        let written = &text[value.start..value.end];
        if self.names[place].is_time {
            append_time(written, out);
        } else {
            canonical::append_value(written, out);
        }
    }

    /// The value of `Index` in a row that has been read.
    #[inline]
    fn index<'t>(&self, text: &'t [u8], values: &[Value]) -> Option<&'t [u8]> {
        let value = values[self.index?];
        (value.spelling != Spelling::Null).then(|| &text[value.start..value.end])
    }
}

/// Appends members, behind a comma if there are others before.
#[inline]
fn append(members: &[u8], out: &mut Vec<u8>) {
    if !members.is_empty() {
        if !out.is_empty() {
            out.push(b',');
        }
        out.extend_from_slice(members);
    }
}

/// A member of a row that has been read.
#[derive(Clone, Copy, Default)]
struct Value {
    /// Where its name begins.
    member: usize,
    start: usize,
    end: usize,
    spelling: Spelling,
}

/// How a value is spelled.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Spelling {
    /// As the canonical text spells it.
    #[default]
    Canonical,
    /// In another way, or perhaps so.
    Other,
    /// `null`, which is the same as no member.
    Null,
}

/// A member's name with its quotes, what stands before it, and its colon.
struct Name {
    /// Its beginning, and filled up where it is shorter.
    beginning: u8x16,
    /// A bit for each byte that is not there to fill up.
    mask: u32,
    rest: Vec<u8>,
    length: usize,
    is_time: bool,
}

impl Name {
    fn new(text: &[u8], is_time: bool) -> Self {
        let beginning = text.len().min(STEP);
        Name {
            beginning: step(text, 0),
            mask: (1 << beginning) - 1,
            rest: text[beginning..].to_vec(),
            length: text.len(),
            is_time,
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

/// Where the value at `at` ends, a string, a number or a word, and how it is spelled.
#[inline]
fn value_end(text: &[u8], at: usize) -> Option<(usize, Spelling)> {
    let rest = text.get(at..)?;
    let (length, spelling) = match rest.first()? {
        b'"' => return string_end(text, at + 1),
        b't' if rest.starts_with(b"true") => (4, Spelling::Canonical),
        b'f' if rest.starts_with(b"false") => (5, Spelling::Canonical),
        b'n' if rest.starts_with(b"null") => (4, Spelling::Null),
        _ => number_length(rest)?,
    };
    Some((at + length, spelling))
}

/// Where the string ends of which the opening quote is before `at` (RFC 8259, section 7); its closing quote is the last byte before.
#[inline]
fn string_end(text: &[u8], mut at: usize) -> Option<(usize, Spelling)> {
    const CONTROL_MAX: u8 = b' ' - 1;
    let start = at;
    let mut spelling = Spelling::Canonical;
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
            b'\\' => {
                let after = text.get(at + 1..)?;
                at += escape_length(after)?;
                if !canonical::is_canonical_escape(after[0]) {
                    spelling = Spelling::Other;
                }
            }
            _ => return None,
        }
    }
    if other_than_ascii != 0 {
        str::from_utf8(&text[start..at]).ok()?;
    }
    Some((at + 1, spelling))
}

/// The length of the number at the beginning of `text`, if there is one, and how it is spelled.
#[inline]
fn number_length(text: &[u8]) -> Option<(usize, Spelling)> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let is_plain = match text.get(digits)? {
        b',' | b'}' => {
            digits > 0 && digits <= number::WHOLE_MAX && (text[0] != b'0' || digits == 1)
        }
        _ => false,
    };
    if is_plain {
        return Some((digits, Spelling::Canonical));
    }
    let length = text.iter().position(|byte| matches!(byte, b',' | b'}'))?;
    number::append(&text[..length], &mut vec![]).then_some((length, Spelling::Other))
}

/// The length of an escape whose backslash stands before `text`; `None` if it may not stand there.
pub(super) fn escape_length(text: &[u8]) -> Option<usize> {
    match text.first()? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(2),
        b'u' if text.get(1..5)?.iter().all(u8::is_ascii_hexdigit) => Some(6),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::super::fingerprint::canonical_text;
    use super::*;

    const TIMES: &[&str] = &["Received"];

    /// The rows that one pass finds in a list, each with its canonical text and its index.
    fn found(text: &str) -> Option<Vec<(String, String, Option<String>)>> {
        let mut all = vec![];
        let owned = |text: &[u8]| str::from_utf8(text).unwrap().to_owned();
        let end = rows(text.as_bytes(), TIMES, |spans| {
            let row = text[spans.row].to_owned();
            all.push((row, owned(spans.canonical), spans.index.map(owned)));
            ControlFlow::Continue(())
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
        let owned = |text: &[u8]| str::from_utf8(text).unwrap().to_owned();
        let expected: Vec<&RawValue> = serde_json::from_str(&list).expect(text);
        let expected = expected.into_iter().map(|row| {
            let (canonical, index) = canonical_text(row.get().as_bytes(), TIMES);
            let index = index.map(owned).filter(|index| index != "null");
            (row.get().to_owned(), owned(&canonical), index)
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
            r#"{"B":"1","A":"2","Received":"2022-11-29T05:35:08.260Z","A":3,"C":null},{"B":"1","A":"\u0032","Received":"2022-11-29T05:35:08.26","A":null,"C":0}"#,
            r#"{"Size":100000000000000000000,"Subject":"\/","Organization":"\u0022","Index":null},{"Size":10000000000000000000,"Subject":"/","Organization":"\"","Index":1e1}"#,
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
        let find = |text: &[u8]| rows(text, TIMES, |_| ControlFlow::Continue(()));
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
