//! Graph's rows in the reporting service's shape and words: its names in its order, `Status` as it spells it, `Received` without `Z`, null
//! where an address is unknown. All other values keep the bytes in which they came.

use std::borrow::Cow;

use chrono::{DateTime, NaiveDate, Utc};

use crate::record::{Items, Members};

/// Graph's names, and the reporting service's in its order.
const NAMES: [(&str, &str); 10] = [
    ("messageId", "MessageId"),
    ("receivedDateTime", "Received"),
    ("senderAddress", "SenderAddress"),
    ("recipientAddress", "RecipientAddress"),
    ("subject", "Subject"),
    ("status", "Status"),
    ("toIP", "ToIP"),
    ("fromIP", "FromIP"),
    ("size", "Size"),
    ("id", "MessageTraceId"),
];
const RECEIVED: usize = 1;
const STATUS: usize = 5;
const ADDRESSES: [usize; 2] = [6, 7];
const ID: usize = 9;

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
    /// The message's id.
    pub(in crate::source) id: Option<String>,
}

/// Rows in the reporting service's shape, as the body of one of its answers, and where each belongs.
pub(in crate::source) fn translated(
    list: &[u8],
    organization: Option<&str>,
) -> (Vec<u8>, Vec<Key>) {
    let mut body = Vec::with_capacity(list.len() + list.len() / 8);
    body.extend_from_slice(b"{\"value\":[");
    let mut keys = Vec::new();
    let organization = organization.map(|name| format!("\"Organization\":\"{name}\""));
    let organization = organization.as_deref().map(str::as_bytes);
    for item in Items::of(list) {
        if !keys.is_empty() {
            body.push(b',');
        }
        keys.push(if item.first() == Some(&b'{') {
            append_row(item, organization, &mut body)
        } else {
            body.extend_from_slice(item);
            Key {
                received: None,
                decimals: 0,
                id: None,
            }
        });
    }
    body.extend_from_slice(b"]}");
    (body, keys)
}

fn append_row(row: &[u8], organization: Option<&[u8]>, out: &mut Vec<u8>) -> Key {
    let mut values: [Option<&[u8]>; NAMES.len()] = [None; NAMES.len()];
    for (name, value) in Members::of(row) {
        // The members come in Graph's own order, whatever that is.
        if let Some(place) = place(name) {
            values[place] = Some(value);
        }
    }
    out.push(b'{');
    out.extend_from_slice(organization.unwrap_or_default());
    let mut is_first = organization.is_none();
    let mut member = |name: &str, value: &[u8], out: &mut Vec<u8>| {
        if !std::mem::take(&mut is_first) {
            out.push(b',');
        }
        out.push(b'"');
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        out.extend_from_slice(value);
    };
    let received = values[RECEIVED].and_then(Received::read);
    for (place, value) in values.into_iter().enumerate() {
        let Some(value) = value else {
            continue;
        };
        let value = match place {
            RECEIVED => received.as_ref().map_or(Cow::Borrowed(value), |received| {
                received.written.as_bytes().into()
            }),
            STATUS => status(value),
            _ if ADDRESSES.contains(&place) && value == b"\"\"" => Cow::Borrowed(&b"null"[..]),
            _ => Cow::Borrowed(value),
        };
        member(NAMES[place].1, &value, out);
    }
    out.push(b'}');
    Key {
        decimals: received.as_ref().map_or(0, Received::decimals),
        received: received.map(|received| received.instant),
        id: values[ID].and_then(text).map(Cow::into_owned),
    }
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

    /// A time in the usual spelling, `"2026-01-21T14:12:34.058Z"`.
    fn usual(value: &[u8]) -> Option<Self> {
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
            [b'.', digits @ ..] if (1..=9).contains(&digits.len()) => {
                let digits = str::from_utf8(digits).ok()?;
                let places = u32::try_from(digits.len()).ok()?;
                digits.parse::<u32>().ok()? * 10_u32.pow(9 - places)
            }
            _ => return None,
        };
        let year = i32::try_from(number(0, 4)?).ok()?;
        let date = NaiveDate::from_ymd_opt(year, number(5, 7)?, number(8, 10)?)?;
        let time =
            date.and_hms_nano_opt(number(11, 13)?, number(14, 16)?, number(17, 19)?, nanos)?;
        is_laid_out.then(|| {
            let mut written = Vec::with_capacity(value.len() - 1);
            written.extend_from_slice(&value[..value.len() - 2]);
            written.push(b'"');
            Received {
                written: String::from_utf8_lossy(&written).into_owned(),
                instant: time.and_utc(),
            }
        })
    }

    /// `None` for what is no time: it goes out as it came.
    fn read(value: &[u8]) -> Option<Self> {
        if let Some(received) = Self::usual(value) {
            return Some(received);
        }
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
        let (body, _) = translated(list.as_bytes(), Some("org.onmicrosoft.com"));
        let expected = format!("{{\"value\":[{expected}]}}");
        assert_eq!(String::from_utf8(body).unwrap(), expected);
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
