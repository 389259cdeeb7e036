//! The one spelling of each JSON value, so that equal values are equal texts and other values other texts.
//!
//! A canonical text is JSON itself and says the same as the text that it was made of: what has the same canonical text has the same value. The
//! other way round, the freedom that JSON leaves is taken away:
//!
//! - strings and names: no escapes but `\"`, `\\`, `\b`, `\f`, `\n`, `\r`, `\t` and `\u00xx` for other control characters. What cannot be
//!   decoded stays as it came and so apart from all that can: a lone surrogate (its digits in small letters), a byte that is not UTF-8, an unknown escape.
//! - numbers: exact decimals, digits without zeros at either end and a power of ten. Whole numbers of up to 20 digits are written out.
//! - objects: members by name ([`NameOrder`]), those that are null left out. A name that stands more than once counts as often, with
//!   its values in the order in which they came.
//! - no white space.
//!
//! An object nested deeper than [`DEPTH_MAX`], or with more members than [`MEMBERS_MAX`], keeps its members' order: that bounds time and
//! memory.

use super::members::{Items, Members, compact};
use super::number;

/// How deep values are nested of which the order of members does not count.
const DEPTH_MAX: usize = 32;
/// How many members an object has of which the order does not count.
pub(super) const MEMBERS_MAX: usize = 1024;

/// The names of a message trace as they come. Sorted by this order its rows need no sorting.
const USUAL_ORDER: [&[u8]; 11] = [
    b"\"Organization\"",
    b"\"MessageId\"",
    b"\"Received\"",
    b"\"SenderAddress\"",
    b"\"RecipientAddress\"",
    b"\"Subject\"",
    b"\"Status\"",
    b"\"ToIP\"",
    b"\"FromIP\"",
    b"\"Size\"",
    b"\"MessageTraceId\"",
];

/// Where a member belongs, by its canonical name: those of message traces first, as they come; then all others, by their bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NameOrder<'a>(usize, &'a [u8]);

impl<'a> NameOrder<'a> {
    /// That of a name with its quotes.
    pub(super) fn of(name: &'a [u8]) -> Self {
        let known = USUAL_ORDER.iter().position(|known| *known == name);
        NameOrder(known.unwrap_or(USUAL_ORDER.len()), name)
    }
}

/// Appends the members of an object with a comma between two.
///
/// `append` is handed a member's canonical name and its value as it came, and appends the value, or returns `false` to leave the member out.
pub(super) fn append_members<'a>(
    object: &'a [u8],
    out: &mut Vec<u8>,
    mut append: impl FnMut(&[u8], &'a [u8], &mut Vec<u8>) -> bool,
) {
    let start = out.len();
    let mut members: Vec<Member> = Vec::new();
    let (mut count, mut name_text) = (0_usize, Vec::new());
    for (name, value) in Members::of(object) {
        name_text.clear();
        append_string(name, &mut name_text);
        let before = out.len();
        if before > start {
            out.push(b',');
        }
        let member = out.len();
        out.extend_from_slice(&name_text);
        if name.is_empty() {
            out.extend_from_slice(value); // no JSON
            continue;
        }
        out.push(b':');
        if value == b"null" || !append(&name_text, value, out) {
            out.truncate(before);
            continue;
        }
        count += 1;
        if count <= MEMBERS_MAX {
            members.push(Member {
                start: member,
                name: name_text.len(),
                end: out.len(),
            });
        }
    }
    let order = |member: &Member| NameOrder::of(&out[member.start..][..member.name]);
    if count > MEMBERS_MAX || members.is_sorted_by_key(order) {
        return;
    }
    let text = out.split_off(start);
    members.sort_by_key(|member| NameOrder::of(&text[member.start - start..][..member.name]));
    for (place, member) in members.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        out.extend_from_slice(&text[member.start - start..member.end - start]);
    }
}

/// Where a member stands in the text, and how long its name is.
struct Member {
    start: usize,
    name: usize,
    end: usize,
}

/// Appends a value.
pub(super) fn append_value(value: &[u8], out: &mut Vec<u8>) {
    append_at_depth(value, 0, out);
}

fn append_at_depth(value: &[u8], depth: usize, out: &mut Vec<u8>) {
    match value.first() {
        Some(b'"') => append_string(value, out),
        Some(b'{' | b'[') if depth == DEPTH_MAX => compact(value, out),
        Some(b'{') => {
            out.push(b'{');
            append_members(value, out, |_, value, out| {
                append_at_depth(value, depth + 1, out);
                true
            });
            out.push(b'}');
        }
        Some(b'[') => {
            out.push(b'[');
            for (place, item) in Items::of(value).enumerate() {
                if place > 0 {
                    out.push(b',');
                }
                append_at_depth(item, depth + 1, out);
            }
            out.push(b']');
        }
        _ if number::append(value, out) => {}
        _ => out.extend_from_slice(value),
    }
}

/// Appends a string or a name, both with their quotes.
pub(super) fn append_string(quoted: &[u8], out: &mut Vec<u8>) {
    let mut rest = quoted;
    while let Some(place) = rest.iter().position(|byte| *byte == b'\\' || *byte < b' ') {
        out.extend_from_slice(&rest[..place]);
        rest = &rest[place..];
        let length = match rest {
            [control, ..] if *control < b' ' => {
                append_char(char::from(*control), out);
                1
            }
            [_, b'/', ..] => {
                out.push(b'/');
                2
            }
            [_, b'u', ..] => append_code(rest, out),
            // A usual escape is canonical already, and one that nobody knows stays.
            _ => {
                let length = rest.len().min(2);
                out.extend_from_slice(&rest[..length]);
                length
            }
        };
        rest = &rest[length..];
    }
    out.extend_from_slice(rest);
}

/// Whether a string, with its quotes, is canonical as it is.
pub(super) fn is_string(quoted: &[u8]) -> bool {
    let mut canonical = Vec::with_capacity(quoted.len());
    append_string(quoted, &mut canonical);
    canonical == quoted
}

/// Appends what `\uXXXX` at the beginning of `text` says, with a surrogate's other half; returns its length.
fn append_code(text: &[u8], out: &mut Vec<u8>) -> usize {
    let Some(first) = code(text) else {
        out.extend_from_slice(b"\\u");
        return 2;
    };
    let second = code(&text[6..]).unwrap_or_default();
    let mut characters = char::decode_utf16([first, second]);
    if let Some(Ok(character)) = characters.next() {
        append_char(character, out);
        return if character.len_utf16() == 2 { 12 } else { 6 };
    }
    out.extend_from_slice(format!("\\u{first:04x}").as_bytes());
    6
}

/// The code of the `\uXXXX` at the beginning of `text`.
fn code(text: &[u8]) -> Option<u16> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |code, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some(code << 4 | u16::try_from(digit).ok()?)
    })
}

/// Appends a character of a string.
pub(super) fn append_char(character: char, out: &mut Vec<u8>) {
    let short = match character {
        '"' | '\\' => character,
        '\u{8}' => 'b',
        '\u{c}' => 'f',
        '\n' => 'n',
        '\r' => 'r',
        '\t' => 't',
        '\0'..'\u{20}' => {
            out.extend_from_slice(format!("\\u{:04x}", u32::from(character)).as_bytes());
            return;
        }
        _ => {
            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short as u8]);
}

/// Whether the character after a backslash makes an escape that is canonical.
#[inline]
pub(super) fn is_canonical_escape(after: u8) -> bool {
    matches!(after, b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(value: &str) -> String {
        let mut out = Vec::new();
        append_value(value.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_value_has_one_spelling() {
        for (values, expected) in [
            (
                &[
                    r#""é/\"\\ a""#,
                    r#""\u00e9\/\u0022\u005C\u0020\u0061""#,
                    r#""\u00E9/\"\\ a""#,
                ][..],
                r#""é/\"\\ a""#,
            ),
            (
                &[
                    r#""\b\f\n\r\t\u0000\u001f""#,
                    r#""\u0008\u000C\u000a\u000d\u0009\u0000\u001F""#,
                    "\"\u{8}\u{c}\n\r\t\0\u{1f}\"",
                ],
                r#""\b\f\n\r\t\u0000\u001f""#,
            ),
            (
                &[r#""📅""#, r#""\ud83d\udcc5""#, r#""\uD83D\uDCC5""#],
                r#""📅""#,
            ),
            (
                &[r#""\uD800 \uDC00\ud83D\ud83d\udcc5\ud800""#],
                r#""\ud800 \udc00\ud83d📅\ud800""#,
            ),
            (&[r#""\x \u12 \uzzzz \""#], r#""\x \u12 \uzzzz \""#),
            (
                &[
                    r#"{"b":[1.0, "A" ],"a":null,"c":{"z":1,"y":null}}"#,
                    r#"{ "c" : {"z":1e0}, "\u0062":[10e-1,"\u0041"] }"#,
                ],
                r#"{"b":[1,"A"],"c":{"z":1}}"#,
            ),
            (&["[ null , [ ] ,{ }, true]"], "[null,[],{},true]"),
            (
                &[r#"{"b":1,"a":3,"b":2}"#, r#"{"b":1.0,"b":2,"a":3}"#],
                r#"{"a":3,"b":1,"b":2}"#,
            ),
            (&["NaN"], "NaN"),
            (&["-Infinity"], "-Infinity"),
        ] {
            for value in values {
                assert_eq!(canonical(value), expected, "{value}");
            }
            assert_eq!(canonical(expected), expected);
        }
    }

    #[test]
    fn other_values_have_other_spellings() {
        let values = [
            r#""""#,
            "null",
            "[]",
            "{}",
            "[null]",
            "[[]]",
            "0",
            r#""0""#,
            "false",
            r#""null""#,
            r#""\ud800""#,
            r#""\\ud800""#,
            r#""\ud801""#,
            "\"\u{fffd}\"",
            r#""\udc00\ud800""#,
            r#""a""#,
            r#""A""#,
            r#"{"a":""}"#,
            r#"{"a":1}"#,
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"a":2}"#,
            r#"{"a":2,"a":1}"#,
            r#"{"a":"1"}"#,
            r#"{"a":"1\",\"b\":\"2"}"#,
            r#"{"a":"1","b":"2"}"#,
            "[1,2]",
            "[2,1]",
            "[12]",
            r#"["1,2"]"#,
            r#"{"a":[{"b":1},2]}"#,
            r#"{"a":{"b":[1,2]}}"#,
        ];
        for (place, value) in values.iter().enumerate() {
            for other in &values[..place] {
                assert_ne!(canonical(value), canonical(other), "{value} {other}");
            }
        }
    }

    #[test]
    fn depth_and_width_are_bounded() {
        let deep = |open: &str, inner: &str, close: &str, times| {
            format!("{}{inner}{}", open.repeat(times), close.repeat(times))
        };
        let both = |times| {
            let [one, other] = [r#"{"b":1,"a":2}"#, r#"{"a":2,"b":1}"#]
                .map(|inner| canonical(&deep(r#"{"x":["#, inner, "]}", times)));
            one == other
        };
        assert!(both(DEPTH_MAX / 2 - 1) && !both(DEPTH_MAX));
        let million = deep("[", "", "]", 1_000_000);
        assert_eq!(canonical(&million), million);
        let million = deep(r#"{"b":1,"a":"#, "2", "}", 1_000_000);
        assert_eq!(canonical(&million).len(), million.len());
        let wide = |count: usize| {
            let members = (0..count).rev().map(|place| format!("\"{place:07}\":1"));
            canonical(&format!("{{{}}}", members.collect::<Vec<_>>().join(",")))
        };
        assert!(wide(MEMBERS_MAX).starts_with(r#"{"0000000":1,"0000001""#));
        assert!(wide(MEMBERS_MAX + 1).starts_with(r#"{"0001024":1,"0001023""#));
    }
}
