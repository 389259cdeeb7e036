//! Instants as the service writes them: ISO 8601 with or without a zone, and `/Date(1659020996164)/`.

use std::borrow::Cow;
use std::io::Write as _;

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, TimeDelta, Utc};
use memchr::memmem::Finder;

use super::members::{Members, string_length};

/// Bytes of `2022-07-28T15:09:56`.
const SECONDS: usize = 19;

/// The instant of `/Date(1659020996164)/`: milliseconds since 1970 in UTC.
///
/// An offset (`+0060`) tells where the time was written down and does not change it.
pub(crate) fn ticks(text: &str) -> Option<DateTime<Utc>> {
    let inner = text.strip_prefix("/Date(")?.strip_suffix(")/")?;
    let digits_from = usize::from(inner.starts_with('-'));
    let millis = match inner[digits_from..].find(['+', '-']) {
        Some(sign) => {
            let (millis, offset) = inner.split_at(digits_from + sign);
            offset[1..].parse::<u16>().ok()?;
            millis
        }
        None => inner,
    };
    let instant = DateTime::from_timestamp_millis(millis.parse().ok()?)?;
    (0..=9999).contains(&instant.year()).then_some(instant)
}

/// Whether a string, quotes included, needs no rewriting by [`append`]: an instant in the usual spelling, such as
/// `"2022-07-28T15:09:56.2652371"`.
///
/// It is not checked that the date exists: what is no instant is not rewritten either.
#[inline]
pub(super) fn is_usual(quoted: &[u8]) -> bool {
    let Some((text, fraction)) = quoted.split_at_checked(1 + SECONDS) else {
        return false;
    };
    let Some((b'"', fraction)) = fraction.split_last() else {
        return false;
    };
    let fraction_is_usual = match fraction {
        [] => true,
        [b'.', .., b'0'] | [b'.'] => false,
        [b'.', digits @ ..] => digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    text[11] == b'T' && fraction_is_usual
}

/// Appends the instant that `text` says, in UTC without `Z` and without trailing zeros; `false` and nothing if it says none.
///
/// The fraction may have any number of digits. A time without zone is in UTC.
pub(super) fn append(text: &[u8], out: &mut Vec<u8>) -> bool {
    let ticks = || ticks(str::from_utf8(text).ok()?);
    if let Some(iso) = Iso::read(text) {
        if iso.offset.is_zero() {
            // As most are: no need to take it apart.
            out.extend_from_slice(&text[..SECONDS]);
            let separator = out.len() - SECONDS + 10;
            out[separator] = b'T';
        } else {
            append_second(iso.utc, out);
        }
        append_fraction(iso.fraction, out);
    } else if let Some(instant) = ticks() {
        append_second(instant.naive_utc(), out);
        let millis = format!("{:03}", instant.timestamp_subsec_millis());
        append_fraction(millis.as_bytes(), out);
    } else {
        return false;
    }
    true
}

/// The instant that `text` says, if it says one.
pub(crate) fn instant(text: &str) -> Option<DateTime<Utc>> {
    let mut written = Vec::new();
    if !append(text.as_bytes(), &mut written) {
        return None;
    }
    written.push(b'Z');
    str::from_utf8(&written).ok()?.parse().ok()
}

/// The values of the member `name`, which is a time, of many rows.
pub(crate) struct TimeOf {
    name: &'static str,
    /// The member as it usually comes.
    usual: Finder<'static>,
}

impl TimeOf {
    pub(crate) fn new(name: &'static str) -> Self {
        TimeOf {
            name,
            usual: Finder::new(&format!("\"{name}\":\"")).into_owned(),
        }
    }

    /// The text of a row's member as it stands there, without quotes; `None` if it is not there, or no text.
    fn text<'r>(&self, row: &'r [u8]) -> Option<Cow<'r, str>> {
        // It stands in no text: there each quote has a backslash before it.
        let value = if let Some(place) = self.usual.find(row) {
            let value = &row[place + self.usual.needle().len() - 1..];
            &value[..string_length(value)]
        } else {
            let named = |(name, _): &(&[u8], &[u8])| {
                serde_json::from_slice::<String>(name).is_ok_and(|name| name == self.name)
            };
            Members::of(row).find(named)?.1
        };
        match value {
            [b'"', text @ .., b'"'] if !text.contains(&b'\\') => {
                Some(Cow::Borrowed(str::from_utf8(text).ok()?))
            }
            _ => Some(Cow::Owned(serde_json::from_slice(value).ok()?)),
        }
    }

    /// The instant that a row's member says, if it says one.
    pub(crate) fn instant(&self, row: &[u8]) -> Option<DateTime<Utc>> {
        instant(&self.text(row)?)
    }

    /// The places of the rows, counted from 0, whose time is before the hour that begins at `hour`, and of those that are behind it.
    pub(crate) fn outside<'r>(
        &self,
        rows: impl Iterator<Item = &'r [u8]>,
        hour: DateTime<Utc>,
    ) -> (Vec<u32>, Vec<u32>) {
        let (mut before, mut behind) = (vec![], vec![]);
        let (text, end) = (
            hour.format("%Y-%m-%dT%H").to_string(),
            hour + TimeDelta::hours(1),
        );
        for (place, row) in (0_u32..).zip(rows) {
            let Some(time) = self.text(row) else {
                continue;
            };
            if is_within(&time, &text) {
                continue;
            }
            match instant(&time) {
                Some(time) if time < hour => before.push(place),
                Some(time) if time >= end => behind.push(place),
                _ => {}
            }
        }
        (before, behind)
    }
}

/// Whether a time is in UTC and within the hour that begins with `hour`, such as `2026-11-20T10`, so that it need not be taken apart.
fn is_within(time: &str, hour: &str) -> bool {
    let Some((second, rest)) = time.split_at_checked(SECONDS) else {
        return false;
    };
    let fraction = rest.strip_suffix('Z').unwrap_or(rest);
    let is_fraction = |byte: u8| byte == b'.' || byte.is_ascii_digit();
    second.starts_with(hour) && fraction.bytes().all(is_fraction)
}

fn append_second(second: NaiveDateTime, out: &mut Vec<u8>) {
    // Writing to memory does not fail.
    let _ = write!(out, "{}", second.format("%Y-%m-%dT%H:%M:%S"));
}

fn append_fraction(digits: &[u8], out: &mut Vec<u8>) {
    if let Some(last) = digits.iter().rposition(|digit| *digit != b'0') {
        out.push(b'.');
        out.extend_from_slice(&digits[..=last]);
    }
}

/// An instant in ISO 8601.
struct Iso<'a> {
    utc: NaiveDateTime,
    offset: TimeDelta,
    fraction: &'a [u8],
}

impl<'a> Iso<'a> {
    fn read(text: &'a [u8]) -> Option<Self> {
        let (seconds, rest) = text.split_at_checked(SECONDS)?;
        let (fraction, zone) = match rest.strip_prefix(b".") {
            None => rest.split_at(0),
            Some(rest) => {
                let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
                (digits > 0).then(|| rest.split_at(digits))?
            }
        };
        let offset = offset(zone)?;
        let utc = second(seconds)?.checked_sub_signed(offset)?;
        Some(Iso {
            utc,
            offset,
            fraction,
        })
    }
}

/// `2022-07-28T15:09:56`.
fn second(text: &[u8]) -> Option<NaiveDateTime> {
    let separators = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    let is_laid_out = separators.iter().all(|(place, sign)| text[*place] == *sign);
    if !is_laid_out || !matches!(text[10], b'T' | b't' | b' ') {
        return None;
    }
    let date = NaiveDate::from_ymd_opt(
        number(&text[..4])?.cast_signed(),
        number(&text[5..7])?,
        number(&text[8..10])?,
    );
    date?.and_hms_opt(
        number(&text[11..13])?,
        number(&text[14..16])?,
        number(&text[17..])?,
    )
}

/// `Z`, `+01:30`, `+0130`, `+01`, or nothing.
fn offset(zone: &[u8]) -> Option<TimeDelta> {
    let (sign, digits) = match zone.split_first() {
        None | Some((b'Z' | b'z', [])) => return Some(TimeDelta::zero()),
        Some((b'+', digits)) => (1, digits),
        Some((b'-', digits)) => (-1, digits),
        Some(_) => return None,
    };
    let (hours, minutes) = match digits {
        [_, _] => (digits, &b"00"[..]),
        [_, _, b':', minutes @ ..] | [_, _, minutes @ ..] => (&digits[..2], minutes),
        _ => return None,
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let is_offset = minutes < 60 && hours < 24 && zone.len() > 2;
    is_offset.then(|| TimeDelta::minutes(sign * i64::from(60 * hours + minutes)))
}

/// Two or four digits as a number.
fn number(digits: &[u8]) -> Option<u32> {
    let is_number = matches!(digits.len(), 2 | 4) && digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| {
        digits
            .iter()
            .fold(0, |number, digit| 10 * number + u32::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        let mut out = Vec::new();
        let found = append(text.as_bytes(), &mut out);
        let got = String::from_utf8(out).unwrap();
        assert_eq!(found.then_some(got.as_str()), expected, "{text}");
        let is_usual = is_usual(format!("\"{text}\"").as_bytes());
        assert!(
            !is_usual || expected.is_none_or(|same| same == text),
            "{text}"
        );
    }

    #[test]
    fn an_instant_has_one_spelling() {
        const FIRST: &str = "2022-11-29T05:35:08.26";
        for text in [
            FIRST,
            "2022-11-29T05:35:08.26Z",
            "2022-11-29t05:35:08.260z",
            "2022-11-29 05:35:08.2600000",
            "2022-11-29T05:35:08.26000000000000000000000000",
            "2022-11-29T05:35:08.26+00:00",
            "2022-11-29T05:35:08.26-00:00",
            "2022-11-29T06:35:08.26+01:00",
            "2022-11-29T11:20:08.26+0545",
            "2022-11-28T17:35:08.26-12",
            "/Date(1669700108260)/",
            "/Date(1669700108260+0060)/",
        ] {
            check(text, Some(FIRST));
        }
        check("2022-11-29T05:35:08", Some("2022-11-29T05:35:08"));
        check("2022-11-29T05:35:08.000", Some("2022-11-29T05:35:08"));
        check(
            "2022-11-29T05:35:08.2652371",
            Some("2022-11-29T05:35:08.2652371"),
        );
        check("2022-12-31T23:30:00-01:00", Some("2023-01-01T00:30:00"));
        check("/Date(-1)/", Some("1969-12-31T23:59:59.999"));
        check("/Date(0)/", Some("1970-01-01T00:00:00"));
        check("0001-01-01T00:00:00", Some("0001-01-01T00:00:00"));
        assert!(is_usual(b"\"2022-11-29T05:35:08\"") && is_usual(b"\"2022-11-29T05:35:08.1\""));
    }

    #[test]
    fn what_is_no_instant_has_none() {
        for text in [
            "",
            "2022-11-29",
            "2022-11-29T05:35",
            "2022-02-30T05:35:08",
            "2022-11-29T24:00:00",
            "2022-11-29T05:35:60",
            "2022-11-29T05:35:08.",
            "2022-11-29T05:35:08.Z",
            "2022-11-29T05:35:08.1 Z",
            "2022-11-29T05:35:08ZZ",
            "2022-11-29T05:35:08+",
            "2022-11-29T05:35:08+1",
            "2022-11-29T05:35:08+24:00",
            "2022-11-29T05:35:08+01:60",
            "2022-11-29T05:35:08+01:",
            "2022-11-29T05:35:08+01:000",
            "2022-11-29T05:35:08.5+01:0",
            "+022-11-29T05:35:08",
            "2022-11-29T05:35:0é",
            "2022/11/29T05:35:08",
            "/Date()/",
            "/Date(1)",
            "/Date(x)/",
            "/Date(99999999999999999)/",
            "Delivered at 15:09T9",
        ] {
            check(text, None);
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_usual_is_not_rewritten(text in "(2022-1[0-9]-[0-3][0-9]|/Date\\(1|[0-9-]{10})[Tt ]05:[0-9]{2}:[0-9]{1,2}(\\.[0-9]{0,9})?(Z|[+-][0-9]{2}:?[0-9]{2})?") {
            let mut out = Vec::new();
            if is_usual(format!("\"{text}\"").as_bytes()) && append(text.as_bytes(), &mut out) {
                proptest::prop_assert_eq!(String::from_utf8(out).unwrap(), text);
            }
        }
    }

    #[test]
    fn rows_of_another_hour_are_found_by_their_time_in_any_spelling() {
        let hour = "2026-03-10T10:00:00Z".parse().unwrap();
        let rows = [
            r#"{"Subject":"\"Received\":\"2026-03-10T09:00:00\"","Received":"2026-03-10T10:59:59.9999999"}"#,
            r#"{"Received":"2026-03-10T11:00:00","Status":"None"}"#,
            r#"{ "Received" : "2026-03-10T11:00:00Z" }"#,
            r#"{"Received":"2026-03-10T10:30:00+01:00"}"#,
            r#"{"Rec\u0065ived":"2026-03-10T09:59:59.5Z"}"#,
            r#"{"Received":"2026-03-10T10:00:00\u005a"}"#,
            r#"{"Received":12}"#,
            r#"{"Received":}"#,
            "{}",
        ];
        let time = TimeOf::new("Received");
        let rows = rows.iter().map(|row| row.as_bytes());
        assert_eq!(time.outside(rows, hour), (vec![3, 4], vec![1, 2]));
    }
}
