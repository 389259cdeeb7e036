//! Rows in the verbose shape, brought to the light one: without `__metadata`, and with dates as the light shape writes them.
//!
//! All other bytes stay as they came. Dates are looked for in the date fields only: a mail's subject may read like one.

use std::borrow::Cow;

use chrono::{SecondsFormat, Timelike};

use crate::record::{Members, ticks};

/// The fields that hold an instant, and whether the light shape ends it in `Z`.
const DATE_FIELDS: [(&str, bool); 5] = [
    ("Received", false),
    ("Date", false),
    ("ClickTime", false),
    ("StartDate", true),
    ("EndDate", true),
];

/// `row`, an object, in the light shape.
pub(super) fn normalised(row: &[u8]) -> Cow<'_, [u8]> {
    let mut out = Vec::with_capacity(row.len());
    let offset = |part: &[u8]| part.as_ptr().addr() - row.as_ptr().addr();
    let mut end = None; // of the member before
    let mut kept_one = false;
    for (key, value) in Members::of(row) {
        // What is no JSON has a value and no key.
        let start = offset(if key.is_empty() { value } else { key });
        let value_start = offset(value);
        let name = name(key);
        if end.is_none() {
            out.extend_from_slice(&row[..start]);
        }
        if name != "__metadata" {
            if kept_one {
                out.extend_from_slice(&row[end.unwrap_or(start)..start]); // the comma, and white space
            }
            kept_one = true;
            out.extend_from_slice(&row[start..value_start]);
            match date(&name, value) {
                Some(date) => out.extend_from_slice(date.as_bytes()),
                None => out.extend_from_slice(value),
            }
        }
        end = Some(value_start + value.len());
    }
    out.extend_from_slice(&row[end.unwrap_or(0)..]);
    out.into()
}

/// What a key, as it is written, is called. One that cannot be decoded is none of those looked for.
fn name(key: &[u8]) -> Cow<'_, str> {
    serde_json::from_slice(key).unwrap_or_default()
}

/// The light form of a date field's value: `"2022-07-28T15:09:56.164"`, without the fraction if it is zero.
fn date(name: &str, value: &[u8]) -> Option<String> {
    let (_, zoned) = DATE_FIELDS.iter().find(|(field, _)| *field == name)?;
    // The slashes may be escaped.
    let text: Cow<'_, str> = serde_json::from_slice(value).ok()?;
    let instant = ticks(&text)?;
    let precision = if instant.nanosecond() == 0 {
        SecondsFormat::Secs
    } else {
        SecondsFormat::Millis
    };
    let written = instant.to_rfc3339_opts(precision, true);
    let written = if *zoned {
        &written
    } else {
        written.trim_end_matches('Z')
    };
    Some(format!("\"{written}\""))
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    fn check(verbose: &str, light: &str) {
        let out = normalised(verbose.as_bytes());
        assert_eq!(String::from_utf8_lossy(&out), light, "{verbose}");
    }

    #[test]
    fn drops_metadata_wherever_it_stands() {
        check("{}", "{}");
        check("{ }", "{ }");
        check(r#"{"__metadata":{"id":"x"}}"#, "{}");
        check(r#"{"__metadata":1,"a":2}"#, r#"{"a":2}"#);
        check(r#"{"a":2,"__metadata":1}"#, r#"{"a":2}"#);
        check(
            r#"{"a":1,"__metadata":{"b":[1,{}]},"c":3}"#,
            r#"{"a":1,"c":3}"#,
        );
        check(
            r#"{"__metadata":1,"__metadata":2,"a":1,"\u005f_metadata":3}"#,
            r#"{"a":1}"#,
        );
        check(
            "{\r\n  \"__metadata\" : {},\n  \"a\" : 1 ,\n  \"b\":2\n}",
            "{\r\n  \"a\" : 1 ,\n  \"b\":2\n}",
        );
    }

    #[test]
    fn writes_dates_as_the_light_shape_does() {
        check(
            r#"{"Received":"/Date(1659020996164)/"}"#,
            r#"{"Received":"2022-07-28T15:09:56.164"}"#,
        );
        check(
            r#"{"Received":"\/Date(1659020996164)\/"}"#,
            r#"{"Received":"2022-07-28T15:09:56.164"}"#,
        );
        check(
            r#"{"Date":"/Date(1659020996000)/"}"#,
            r#"{"Date":"2022-07-28T15:09:56"}"#,
        );
        check(
            r#"{"Date":"/Date(1659020996010+0060)/"}"#,
            r#"{"Date":"2022-07-28T15:09:56.010"}"#,
        );
        check(
            r#"{"ClickTime":"/Date(-1-0060)/"}"#,
            r#"{"ClickTime":"1969-12-31T23:59:59.999"}"#,
        );
        check(
            r#"{"StartDate":"/Date(0)/"}"#,
            r#"{"StartDate":"1970-01-01T00:00:00Z"}"#,
        );
        check(
            r#"{"EndDate":"/Date(-62135596800000)/"}"#,
            r#"{"EndDate":"0001-01-01T00:00:00Z"}"#,
        );
        check(
            r#"{"Dat\u0065":"/Date(0)/"}"#,
            r#"{"Dat\u0065":"1970-01-01T00:00:00"}"#,
        );
    }

    #[test]
    fn leaves_everything_else_as_it_came() {
        for row in [
            r#"{"Subject":"/Date(1659020996164)/"}"#,
            r#"{"a":{"Received":"/Date(1659020996164)/","__metadata":1}}"#,
            r#"{"Received":null,"Date":1659020996164,"EndDate":"2022-07-28T15:09:56Z"}"#,
            r#"{"Received":"/Date(x)/","Date":"/Date()/","EndDate":"/Date(1"}"#,
            r#"{"Received":"/Date(1+)/","Date":"/Date(--1)/","EndDate":"/Date(1)"}"#,
            r#"{"Received":"/Date(99999999999999999)/","Date":"/Date(9999999999999999999999)/"}"#,
            r#"{"Received":"\"","Date":"é/Date(1)/","EndDate":"/Date(é)/"}"#,
            r#"{"a":1,"a":2,"n":123456789012345678901234567890,"s":"\ud800\u0000"}"#,
            "{\"s\":\"\u{2028}\"}",
        ] {
            check(row, row);
        }
    }

    /// A row in both shapes: any fields, among them dates and metadata, in any order.
    fn both_shapes() -> impl Strategy<Value = (String, Value)> {
        let date = (
            prop::sample::select(DATE_FIELDS.to_vec()),
            0..4_102_444_800_000_i64,
        );
        let field = prop_oneof![
            3 => ("[A-Za-z_]{1,8}", any::<String>()).prop_map(|(name, text)| (name, json!(text), Some(json!(text)))),
            1 => ("[A-Za-z_]{1,8}", any::<i64>()).prop_map(|(name, n)| (name, json!(n), Some(json!(n)))),
            2 => date.prop_map(|((name, zoned), millis)| {
                let light = DateTime::from_timestamp_millis(millis).unwrap().format("%Y-%m-%dT%H:%M:%S%.f");
                let light = format!("{light}{}", if zoned { "Z" } else { "" });
                (name.to_owned(), json!(format!("/Date({millis})/")), Some(json!(light)))
            }),
            1 => any::<String>().prop_map(|id| ("__metadata".to_owned(), json!({"id": id}), None)),
        ];
        (prop::collection::vec(field, 0..12), any::<bool>()).prop_map(|(fields, pretty)| {
            let (mut members, mut light) = (Vec::new(), Map::new());
            for (name, verbose, value) in fields {
                if light.contains_key(&name) {
                    continue;
                }
                let mut member = format!("{}:{verbose}", json!(name));
                if pretty {
                    member = format!("\n  {} : {verbose} ", json!(name));
                }
                members.push(member);
                if let Some(value) = value {
                    light.insert(name, value);
                }
            }
            (format!("{{{}}}", members.join(",")), Value::Object(light))
        })
    }

    proptest! {
        #[test]
        fn equals_the_light_row((verbose, light) in both_shapes()) {
            let out = normalised(verbose.as_bytes());
            prop_assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), light, "{}", verbose);
        }
    }
}
