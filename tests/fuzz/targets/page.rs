//! An answer's body, whatever it is. If it is JSON: a page exactly if it is one in `serde_json`'s reading, and then with the same rows and link,
//! and each row's fingerprint is that of its tokens. If it is not, and is read as a page all the same: rows that can be sent.
#![no_main]

use chrono::NaiveDateTime;
use exchange_reports_collector::source::Page;
use exchange_reports_collector::record::Fingerprinter;
use fuzz::{Json, decoded};
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;

const DATE_FIELDS: [&str; 5] = ["Received", "Date", "ClickTime", "StartDate", "EndDate"];

fuzz_target!(|body: &[u8]| {
    let fingerprinter = Fingerprinter::new(&[7; 16], &["Received", "Date"]);
    let page = Page::parse_fuzzed(body.to_vec(), &fingerprinter);
    let json = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    let sound = serde_json::from_slice::<&RawValue>(json).is_ok();
    if let Ok((page, _)) = &page {
        for (row, fingerprint) in page.rows().zip(page.fingerprints()) {
            let text = std::str::from_utf8(row).expect("a row is UTF-8");
            assert!(text.starts_with('{') && text.ends_with('}'), "{text}");
            assert!(!text.contains(['\n', '\r']), "{text}");
            assert!(!sound || fingerprint == fingerprinter.fingerprint(row), "{text}");
        }
    }
    if let Err(error) = &page {
        let shown = format!("{error} {error:?} {:?}", error.remedy());
        assert!(!shown.contains('\n'), "{shown}");
    }
    let text = std::str::from_utf8(json);
    let Some(text) = text.ok().filter(|_| sound) else {
        return;
    };
    match (page, Expected::of(text)) {
        (Ok((page, link)), Some(expected)) => {
            assert_eq!(link, expected.link);
            assert_eq!(page.len(), expected.rows.len());
            for (row, came) in page.rows().zip(expected.rows) {
                if !came.starts_with('{') {
                    compare_light(&format!("{{\"value\":{came}}}"), row);
                } else if expected.verbose {
                    compare_normalised(came, row);
                } else {
                    compare_light(came, row);
                }
            }
        }
        (Err(_), None) => {}
        (Ok(page), None) => panic!("a page that is none by serde_json: {page:?}"),
        (Err(error), Some(_)) => panic!("a page by serde_json is refused: {error}"),
    }
});

/// What a body says, put together from `serde_json`'s raw values.
struct Expected<'a> {
    rows: Vec<&'a str>,
    link: Option<String>,
    verbose: bool,
}

impl<'a> Expected<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let answer = Object::read(text)?;
        if answer
            .one("error")?
            .or(answer.one("odata.error")?)
            .is_some()
        {
            return None;
        }
        let (light, v4) = (
            answer.link("odata.nextLink")?,
            answer.link("@odata.nextLink")?,
        );
        let mut links = vec![light, v4];
        let (rows, verbose) = match (answer.one("value")?, answer.one("d")?) {
            (Some(rows), None) => (rows, false),
            (None, Some(d)) if d.starts_with('[') => (d, true),
            (None, Some(d)) => {
                let d = Object::read(d)?;
                links.push(d.link("__next")?);
                (d.one("results")?.or_else(|| d.null("results"))?, true)
            }
            _ => return None,
        };
        let rows: Vec<&RawValue> = serde_json::from_str(rows).ok()?;
        let rows: Vec<&str> = rows.into_iter().map(RawValue::get).collect();
        let mut links: Vec<String> = links.into_iter().flatten().collect();
        links.dedup();
        (links.len() < 2).then(|| Expected {
            rows,
            link: links.pop(),
            verbose,
        })
    }
}

/// An object's members, their names decoded.
struct Object<'a>(Vec<(String, &'a str)>);

impl<'a> Object<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let members = fuzz::members(text)?.into_iter();
        let named = |name: &str| decoded(name).unwrap_or_else(|| name.to_owned());
        Some(Object(members.map(|(name, value)| (named(name), value)).collect()))
    }

    /// What stands under a name, if it is not null; `None` outside if the name is there twice.
    fn one(&self, name: &str) -> Option<Option<&'a str>> {
        let mut found = self.0.iter().filter(|member| member.0 == name);
        let one = found.next().map(|member| member.1);
        found
            .next()
            .is_none()
            .then(|| one.filter(|value| *value != "null"))
    }

    fn null(&self, name: &str) -> Option<&'a str> {
        self.0
            .iter()
            .find(|member| member.0 == name)
            .map(|member| member.1)
    }

    fn link(&self, name: &str) -> Option<Option<String>> {
        match self.one(name)? {
            None => Some(None),
            Some(text) => {
                let link: String = serde_json::from_str(text).ok()?;
                Some(Some(link).filter(|link| !link.trim().is_empty()))
            }
        }
    }
}

/// A light row passes byte for byte; one that spans lines, without the white space between its tokens.
fn compare_light(came: &str, row: &[u8]) {
    if !came.contains(['\n', '\r']) {
        assert_eq!(row, came.as_bytes(), "a light row passes byte for byte");
    } else if let Some(came) = Json::read(came.as_bytes()) {
        assert_eq!(String::from_utf8_lossy(row), came.compact());
    } else {
        serde_json::from_slice::<&RawValue>(row).expect("a deep row is JSON");
    }
}

/// A row in the light shape is the one that came, less its metadata, with other dates.
fn compare_normalised(came: &str, row: &[u8]) {
    let Some(came) = Json::read(came.as_bytes()) else {
        serde_json::from_slice::<&RawValue>(row).expect("a deep row is JSON");
        return;
    };
    let row = Json::read(row).expect("a row is JSON");
    let (Some(came), Some(row)) = (came.members(), row.members()) else {
        panic!("a row is no object");
    };
    let kept = came
        .iter()
        .filter(|(name, _)| decoded(name).as_deref() != Some("__metadata"));
    let kept: Vec<_> = kept.collect();
    assert_eq!(kept.len(), row.len());
    for ((name, before), (same_name, after)) in kept.into_iter().zip(row) {
        assert_eq!(name, same_name);
        if before != after || is_plain_date(before) && is_date_field(name) {
            assert!(is_date_field(name), "{name} is no date");
            assert_eq!(
                milliseconds(before),
                instant(after, name),
                "{before:?} {after:?}"
            );
        }
    }
}

fn is_date_field(name: &str) -> bool {
    decoded(name).is_some_and(|name| DATE_FIELDS.contains(&name.as_str()))
}

/// Whether it is a date that has to be rewritten.
fn is_plain_date(value: &Json<'_>) -> bool {
    let Json::Token(text) = value else {
        return false;
    };
    let digits = text
        .strip_prefix("\"/Date(")
        .and_then(|rest| rest.strip_suffix(")/\""));
    digits.is_some_and(|digits| {
        (1..=13).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
    })
}

/// The milliseconds of `/Date(1659020996164+0060)/`.
fn milliseconds(value: &Json<'_>) -> i64 {
    let Json::Token(text) = value else {
        panic!("no date: {value:?}")
    };
    let text = decoded(text).expect("a date is a string");
    let inner = text.strip_prefix("/Date(").expect("a date");
    let end = inner[1..].find(['+', '-', ')']).expect("a date ends") + 1;
    inner[..end].parse().expect("a date is a number")
}

/// The milliseconds of `2022-07-28T15:09:56.164`, in UTC.
fn instant(value: &Json<'_>, name: &str) -> i64 {
    let Json::Token(text) = value else {
        panic!("no date: {value:?}")
    };
    let text = decoded(text).expect("a date is a string");
    let zoned = matches!(decoded(name).as_deref(), Some("StartDate" | "EndDate"));
    assert_eq!(text.ends_with('Z'), zoned);
    let date = NaiveDateTime::parse_from_str(text.trim_end_matches('Z'), "%Y-%m-%dT%H:%M:%S%.f");
    date.expect("a date is written as one")
        .and_utc()
        .timestamp_millis()
}
