//! Graph's rows in the reporting service's shape and words: its names in its order, `Status` as it spells it, `Received` without `Z`, null
//! where an address is unknown. All other values keep the bytes in which they came.

use std::borrow::Cow;

use chrono::{DateTime, NaiveDate, Utc};
use memchr::{memchr2, memmem};

use crate::record::{Items, Members, string_length};

/// Graph's names, and the reporting service's in its order as they stand before a value.
const NAMES: [(&str, &str); 10] = [
    ("messageId", "\"MessageId\":"),
    ("receivedDateTime", "\"Received\":"),
    ("senderAddress", "\"SenderAddress\":"),
    ("recipientAddress", "\"RecipientAddress\":"),
    ("subject", "\"Subject\":"),
    ("status", "\"Status\":"),
    ("toIP", "\"ToIP\":"),
    ("fromIP", "\"FromIP\":"),
    ("size", "\"Size\":"),
    ("id", ID),
];
/// The last member of a row.
const ID: &str = "\"MessageTraceId\":";
const RECEIVED: usize = 1;
const STATUS: usize = 5;
const ADDRESSES: [usize; 2] = [6, 7];

/// The reporting service's words with their quotes (documented); Graph has the same with a small first letter.
const STATUSES: [&str; 7] = [
    "\"GettingStatus\"",
    "\"Pending\"",
    "\"Failed\"",
    "\"Delivered\"",
    "\"Expanded\"",
    "\"Quarantined\"",
    "\"FilteredAsSpam\"",
];

/// Bytes of `2026-01-21T14:12:34`.
const SECONDS: usize = 19;

/// Graph's words for them.
pub(super) const GRAPH_STATUSES: [&str; 8] = [
    "gettingStatus",
    "pending",
    "failed",
    "delivered",
    "expanded",
    "quarantined",
    "filteredAsSpam",
    "unknownFutureValue",
];

/// Where a row belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::source) struct Key {
    /// When the message was received, if the row says it.
    pub(in crate::source) received: Option<DateTime<Utc>>,
    /// The decimals of its seconds that the row shows.
    pub(in crate::source) decimals: usize,
}

impl Key {
    const NONE: Key = Key {
        received: None,
        decimals: 0,
    };
}

/// The values of a row, in the reporting service's order.
type Values<'a> = [Option<&'a [u8]>; NAMES.len()];

/// The rows of the usual kind at the beginning of `text`, which is what stands behind the bracket that opens a list, as [`translated`] gives them,
/// and where the bracket is that closes it: objects without white space between their tokens, and without objects or lists within.
///
/// `None` if there is anything else. What the values are is not looked at, so that the reader of the result has to.
pub(in crate::source) fn usual(
    text: &[u8],
    organization: Option<&str>,
) -> Option<(Vec<u8>, Vec<Key>, usize)> {
    let (mut body, mut keys) = begun(text.len());
    let organization = member_of(organization);
    let mut order = Order::default();
    let mut at = 0;
    if text.first() != Some(&b']') {
        loop {
            let (values, end) = order.read(text, at)?;
            if !keys.is_empty() {
                body.push(b',');
            }
            keys.push(append_values(&values, organization.as_deref(), &mut body));
            match text.get(end)? {
                b',' => at = end + 1,
                b']' => {
                    at = end;
                    break;
                }
                _ => return None,
            }
        }
    }
    body.extend_from_slice(b"]}");
    Some((body, keys, at))
}

/// The beginning of the body for a list of this length.
fn begun(length: usize) -> (Vec<u8>, Vec<Key>) {
    let mut body = Vec::with_capacity(length + length / 8);
    body.extend_from_slice(b"{\"value\":[");
    (body, Vec::new())
}

fn member_of(organization: Option<&str>) -> Option<Vec<u8>> {
    organization.map(|name| format!("\"Organization\":\"{name}\"").into_bytes())
}

/// The names of the row before, by which those of the next one are known at a glance.
#[derive(Default)]
struct Order(Vec<(Vec<u8>, Option<usize>)>);

impl Order {
    /// The values of the row at `at`, and where it ends; `None` if it is none of the usual kind.
    fn read<'a>(&mut self, text: &'a [u8], at: usize) -> Option<(Values<'a>, usize)> {
        let mut values: Values<'a> = [None; NAMES.len()];
        let mut at = (text.get(at)? == &b'{').then_some(at + 1)?;
        for nth in 0.. {
            let place = match self.0.get(nth) {
                Some((name, place)) if text[at..].starts_with(name) => {
                    at += name.len();
                    *place
                }
                _ => {
                    let length = string_at(text, at)?;
                    let name = &text[at..at + length];
                    at += length;
                    at = (text.get(at)? == &b':').then_some(at + 1)?;
                    self.0.truncate(nth);
                    self.0.push(([name, b":"].concat(), place(name)));
                    place(name)
                }
            };
            let length = match text.get(at)? {
                b'"' => string_at(text, at)?,
                b'{' | b'[' => return None,
                _ => {
                    let length = memchr2(b',', b'}', &text[at..])?;
                    let is_word = |byte: &u8| {
                        byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')
                    };
                    text[at..at + length]
                        .iter()
                        .all(is_word)
                        .then_some(length)?
                }
            };
            if let Some(place) = place {
                values[place] = Some(&text[at..at + length]);
            }
            at += length;
            match text.get(at)? {
                b',' => at += 1,
                b'}' => return Some((values, at + 1)),
                _ => return None,
            }
        }
        None
    }
}

/// The length of the string at `at`, with its quotes; `None` if there is none that ends.
fn string_at(text: &[u8], at: usize) -> Option<usize> {
    let rest = text.get(at..).filter(|rest| rest.first() == Some(&b'"'))?;
    let length = string_length(rest);
    (length > 1 && rest[length - 1] == b'"').then_some(length)
}

/// The id of the message that a row in the reporting service's shape tells of.
pub(super) fn id_of(row: &[u8]) -> Option<Cow<'_, str>> {
    let place = memmem::rfind(row, ID.as_bytes())? + ID.len();
    text(row[place..].strip_suffix(b"}")?)
}

/// Rows in the reporting service's shape, as the body of one of its answers, and where each belongs.
pub(in crate::source) fn translated(
    list: &[u8],
    organization: Option<&str>,
) -> (Vec<u8>, Vec<Key>) {
    let (mut body, mut keys) = begun(list.len());
    let organization = member_of(organization);
    for item in Items::of(list) {
        if !keys.is_empty() {
            body.push(b',');
        }
        keys.push(if item.first() == Some(&b'{') {
            let mut values: Values<'_> = [None; NAMES.len()];
            for (name, value) in Members::of(item) {
                // The members come in Graph's own order, whatever that is.
                if let Some(place) = place(name) {
                    values[place] = Some(value);
                }
            }
            append_values(&values, organization.as_deref(), &mut body)
        } else {
            body.extend_from_slice(item);
            Key::NONE
        });
    }
    body.extend_from_slice(b"]}");
    (body, keys)
}

fn append_values(values: &Values<'_>, organization: Option<&[u8]>, out: &mut Vec<u8>) -> Key {
    out.push(b'{');
    out.extend_from_slice(organization.unwrap_or_default());
    let mut is_first = organization.is_none();
    let mut key = Key::NONE;
    for (place, value) in values.iter().enumerate() {
        let Some(value) = *value else {
            continue;
        };
        if !std::mem::take(&mut is_first) {
            out.push(b',');
        }
        out.extend_from_slice(NAMES[place].1.as_bytes());
        match place {
            RECEIVED => key = append_received(value, out),
            STATUS => out.extend_from_slice(&status(value)),
            _ if ADDRESSES.contains(&place) && value == b"\"\"" => out.extend_from_slice(b"null"),
            _ => out.extend_from_slice(value),
        }
    }
    out.push(b'}');
    key
}

/// Appends a time as the reporting service writes it, with the digits that came.
fn append_received(value: &[u8], out: &mut Vec<u8>) -> Key {
    if let Some(instant) = usual_instant(value) {
        // Without `Z` and the quote behind it.
        let written = &value[..value.len() - 2];
        out.extend_from_slice(written);
        out.push(b'"');
        return Key {
            received: Some(instant),
            decimals: written.len().saturating_sub(SECONDS + 2),
        };
    }
    // What is no time goes out as it came.
    let Some(received) = Received::read(value) else {
        out.extend_from_slice(value);
        return Key::NONE;
    };
    out.extend_from_slice(received.written.as_bytes());
    Key {
        decimals: received.decimals(),
        received: Some(received.instant),
    }
}

/// A time in the usual spelling, `"2026-01-21T14:12:34.058Z"`.
fn usual_instant(value: &[u8]) -> Option<DateTime<Utc>> {
    let [b'"', text @ .., b'Z', b'"'] = value else {
        return None;
    };
    let (seconds, fraction) = text.split_at_checked(SECONDS)?;
    let number = |from: usize, to: usize| {
        let digits = seconds.get(from..to)?;
        let all = digits.iter().all(u8::is_ascii_digit);
        all.then(|| { digits.iter() }.fold(0, |sum, digit| 10 * sum + u32::from(digit - b'0')))
    };
    let is_laid_out = { [4, 7, 10, 13, 16].iter() }
        .zip(b"--T::")
        .all(|(place, sign)| seconds[*place] == *sign);
    let nanos = match fraction {
        [] => 0,
        [b'.', digits @ ..]
            if (1..=9).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit) =>
        {
            let digits = str::from_utf8(digits).ok()?;
            let places = u32::try_from(digits.len()).ok()?;
            digits.parse::<u32>().ok()? * 10_u32.pow(9 - places)
        }
        _ => return None,
    };
    let year = i32::try_from(number(0, 4)?).ok()?;
    let date = NaiveDate::from_ymd_opt(year, number(5, 7)?, number(8, 10)?)?;
    let time = date.and_hms_nano_opt(number(11, 13)?, number(14, 16)?, number(17, 19)?, nanos)?;
    is_laid_out.then(|| time.and_utc())
}

/// The place of a member among the names; a name may be spelled with escapes.
fn place(name: &[u8]) -> Option<usize> {
    let known = |name: &str| NAMES.iter().position(|(graph, _)| *graph == name);
    match name {
        [b'"', plain @ .., b'"'] if !plain.contains(&b'\\') => known(str::from_utf8(plain).ok()?),
        other => known(&text(other)?),
    }
}

fn text(value: &[u8]) -> Option<Cow<'_, str>> {
    match value {
        [b'"', plain @ .., b'"'] if !plain.contains(&b'\\') => {
            str::from_utf8(plain).ok().map(Cow::Borrowed)
        }
        other => serde_json::from_slice::<String>(other).ok().map(Cow::Owned),
    }
}

struct Received {
    /// As the reporting service writes it, with the digits that came.
    written: String,
    instant: DateTime<Utc>,
}

impl Received {
    fn decimals(&self) -> usize {
        let fraction = self.written.rsplit_once('.');
        // A quote stands behind them.
        fraction.map_or(0, |(_, digits)| digits.len() - 1)
    }

    /// `None` for what is no time: it goes out as it came.
    fn read(value: &[u8]) -> Option<Self> {
        let text = text(value)?;
        let text = text.trim();
        let instant: DateTime<Utc> = match text.parse::<DateTime<Utc>>() {
            Ok(instant) => instant,
            // Without a zone it is UTC, as all times here.
            Err(_) => format!("{text}Z").parse().ok()?,
        };
        let is_utc = text.ends_with(['Z', 'z']) || text.parse::<DateTime<Utc>>().is_err();
        let written = if is_utc {
            text.trim_end_matches(['Z', 'z']).to_owned()
        } else {
            instant.format("%Y-%m-%dT%H:%M:%S%.f").to_string()
        };
        Some(Received {
            written: format!("\"{written}\""),
            instant,
        })
    }
}

/// A status as the reporting service spells it; one that it does not have goes out as it came.
fn status(value: &[u8]) -> Cow<'_, [u8]> {
    let known = |quoted: &[u8]| {
        let known = { STATUSES.iter() }.find(|known| known.as_bytes().eq_ignore_ascii_case(quoted));
        known.map(|known| known.as_bytes().into())
    };
    let decoded = || text(value).and_then(|text| known(format!("\"{text}\"").as_bytes()));
    known(value).or_else(decoded).unwrap_or(value.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(row: &str, expected: &str) {
        let list = format!("[{row}]");
        let (body, keys) = translated(list.as_bytes(), Some("org.onmicrosoft.com"));
        let expected = format!("{{\"value\":[{expected}]}}");
        assert_eq!(String::from_utf8(body).unwrap(), expected);
        let twice = format!("{row},{row}]");
        let (body, both, end) = usual(twice.as_bytes(), Some("org.onmicrosoft.com")).unwrap();
        let row = &expected["{\"value\":[".len()..expected.len() - 2];
        let expected = format!("{{\"value\":[{row},{row}]}}");
        assert_eq!(String::from_utf8(body).unwrap(), expected);
        assert_eq!(
            (end, &both[..1], &both[1..]),
            (twice.len() - 1, &keys[..], &keys[..])
        );
    }

    proptest::proptest! {
        #[test]
        fn rows_of_the_usual_kind_are_read_as_all_others(
            texts in proptest::collection::vec("[a-z\\\\\"{},:é]{0,6}", 1..12), pretty: bool,
            names in proptest::collection::vec(0_usize..12, 1..12), changes: bool,
        ) {
            let names = names.iter().zip(&texts);
            let row = |turn: usize| {
                let mut row = serde_json::Map::new();
                for (nth, (name, text)) in names.clone().enumerate() {
                    let name = NAMES.get(name + usize::from(changes) * turn).map_or("@odata.type", |name| name.0);
                    let value = match (nth + turn) % 3 {
                        0 => serde_json::json!(text),
                        1 => serde_json::json!(text.len()),
                        _ => serde_json::json!("2026-01-21T14:12:34.058Z"),
                    };
                    row.insert(name.to_owned(), value);
                }
                serde_json::Value::Object(row)
            };
            let list = serde_json::Value::Array((0..3).map(row).collect());
            let text = if pretty { serde_json::to_string_pretty(&list) } else { serde_json::to_string(&list) }.unwrap();
            let expected = translated(text.as_bytes(), None);
            match usual(&text.as_bytes()[1..], None) {
                Some((body, keys, end)) => {
                    proptest::prop_assert_eq!((body, keys), expected);
                    proptest::prop_assert_eq!(end, text.len() - 2);
                }
                None => proptest::prop_assert!(pretty),
            }
        }
    }

    #[test]
    fn what_is_not_of_the_usual_kind_is_left_to_the_other_reader() {
        for text in [
            "",
            "{}]",
            "{\"id\":\"x\"}",
            "{\"id\":\"x\"},]",
            "{\"id\":\"x]",
            "{\"id\":\"x\\\"}]",
            "{\"id\" :\"x\"}]",
            "{\"id\":{}}]",
            "{\"id\":\"x\" }]",
            "{\"id\":1 2}]",
            "null]",
            " {\"id\":\"x\"}]",
        ] {
            let read = usual(text.as_bytes(), None);
            assert!(read.is_none(), "{text}");
        }
        let (body, keys, end) = usual(b"]", None).unwrap();
        assert_eq!((&body[..], keys.len(), end), (&b"{\"value\":[]}"[..], 0, 0));
    }

    #[test]
    fn the_id_of_a_row_is_its_last_member() {
        let row = br#"{"Subject":"\"MessageTraceId\":\"y","MessageTraceId":"x-1"}"#;
        assert_eq!(id_of(row).as_deref(), Some("x-1"));
        assert_eq!(id_of(b"{\"Size\":1}"), None);
    }

    #[test]
    fn a_row_goes_out_as_the_reporting_service_would_have_sent_it() {
        check(
            r#"{"id":"aa1a3e28-8967-4bfb-06d3-08dad1cb7a0e","senderAddress":"a@example.com","recipientAddress":"b@org.example","messageId":"<1@x>","receivedDateTime":"2026-01-21T14:12:34.058Z","subject":"Q\u00e9","size":45678,"fromIP":"203.0.113.25","toIP":"","status":"filteredAsSpam"}"#,
            r#"{"Organization":"org.onmicrosoft.com","MessageId":"<1@x>","Received":"2026-01-21T14:12:34.058","SenderAddress":"a@example.com","RecipientAddress":"b@org.example","Subject":"Q\u00e9","Status":"FilteredAsSpam","ToIP":null,"FromIP":"203.0.113.25","Size":45678,"MessageTraceId":"aa1a3e28-8967-4bfb-06d3-08dad1cb7a0e"}"#,
        );
    }

    #[test]
    fn odd_spellings_and_values_keep_what_they_say() {
        let organization = r#"{"Organization":"org.onmicrosoft.com""#;
        for (row, expected) in [
            (r#"{"\u0069d":"x"}"#, r#","MessageTraceId":"x"}"#),
            (r#"{"status":"Delivered"}"#, r#","Status":"Delivered"}"#),
            (
                r#"{"status":"\u0064elivered"}"#,
                r#","Status":"Delivered"}"#,
            ),
            (
                r#"{"status":"unknownFutureValue"}"#,
                r#","Status":"unknownFutureValue"}"#,
            ),
            (
                r#"{"toIP":null,"fromIP":""}"#,
                r#","ToIP":null,"FromIP":null}"#,
            ),
            (r##"{"@odata.type":"#x"}"##, "}"),
            (
                r#"{"receivedDateTime":"2026-01-21T14:12:34Z"}"#,
                r#","Received":"2026-01-21T14:12:34"}"#,
            ),
            (
                r#"{"receivedDateTime":"2026-01-21T15:12:34.5+01:00"}"#,
                r#","Received":"2026-01-21T14:12:34.500"}"#,
            ),
            (
                r#"{"receivedDateTime":"2026-01-21T14:12:34.1234567"}"#,
                r#","Received":"2026-01-21T14:12:34.1234567"}"#,
            ),
            (r#"{"receivedDateTime":"soon"}"#, r#","Received":"soon"}"#),
        ] {
            check(row, &format!("{organization}{expected}"));
        }
    }
}
