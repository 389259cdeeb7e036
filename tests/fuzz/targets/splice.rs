//! Any row: one line goes out, which is the row and Devo's keys; and however it is laid out, its fingerprint is the same.
#![no_main]

use std::borrow::Cow;

use chrono::DateTime;
use exchange_reports_collector::record::{Fingerprint, Fingerprinter, Mask, Splice, on_one_line};
use fuzz::{Json, decoded};
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;

const PULLED: &str = r#""1770000000123""#;
const ENVIRONMENT: &str = "pro\"d\n\\\u{2028}";
/// White space behind tokens, and at the ends of lines if there are lines.
const LAYOUTS: [(&str, &str); 3] = [("", "\n"), (" \t\r", "\n"), (" \t", "")];
/// How many members of a row are left out, changed and renamed, beside the last one.
const MEMBERS_MAX: usize = 8;
const VOLATILE: [&str; 4] = ["StartDate", "EndDate", "Index", "__metadata"];
/// The most members of an object of which the order does not count.
const UNORDERED_MAX: usize = 1024;

fuzz_target!(|data: &[u8]| {
    let row = row(data);
    let json = Json::read(row.as_bytes());
    compare_line(&row, json.as_ref());
    if let Some(json) = json {
        compare_fingerprints(&row, &json);
    }
});

/// The object that the bytes are, or one made of them.
fn row(data: &[u8]) -> Cow<'_, str> {
    match serde_json::from_slice::<&RawValue>(data) {
        Ok(row) if row.get().starts_with('{') => return row.get().into(),
        _ => {}
    }
    let text = String::from_utf8_lossy(data);
    let members = text.split('\n').enumerate().map(|(position, text)| {
        let text = serde_json::to_string(text).expect("a string is JSON");
        match position % 3 {
            0 => format!(r#"{text}:{position}"#),
            1 => format!("\"Subject{position}\" : {text}\r"),
            _ => format!(r#""List":[{{{text}:null}}, [ ],{text}]"#),
        }
    });
    format!("{{{}}}", members.collect::<Vec<_>>().join(",")).into()
}

fn compare_line(row: &str, json: Option<&Json<'_>>) {
    let plain = line(row, None);
    let own = br#""@devo_pulling_id": "1770000000123"}"#;
    let before = plain.strip_suffix(own).expect("Devo's key is the last");
    match json {
        Some(row) => {
            let read = Json::read(&plain).expect("a line is JSON");
            let (last, before) = read.members().and_then(<[_]>::split_last).expect("members");
            assert_eq!(Some(before), row.members());
            assert_eq!(*last, ("\"@devo_pulling_id\"", Json::Token(PULLED)));
            assert!(plain.starts_with(b"{"));
        }
        None => {
            let whole: &RawValue = serde_json::from_slice(&plain).expect("a line is JSON");
            assert_eq!(whole.get().as_bytes(), plain);
        }
    }

    // What holds for the line without the environment holds for this one, if this is all that is added.
    let environment = serde_json::to_string(ENVIRONMENT).expect("JSON");
    let environment = format!("\"@devo_environment\": {environment},");
    let expected = [before, environment.as_bytes(), own].concat();
    assert_eq!(line(row, Some(ENVIRONMENT)), expected);
}

/// What goes out for a row.
fn line(row: &str, environment: Option<&str>) -> Vec<u8> {
    let pulled = DateTime::from_timestamp_millis(1_770_000_000_123).expect("an instant");
    let mut line = b"before".to_vec();
    Splice::new(environment, &Mask::default(), pulled).append(&on_one_line(row.as_bytes()), &mut line);
    let line = line
        .strip_prefix(b"before")
        .expect("what was there before stays");
    assert!(
        !line.contains(&b'\n') && !line.contains(&b'\r'),
        "a line is one line"
    );
    line.to_vec()
}

fn compare_fingerprints(row: &str, json: &Json<'_>) {
    let own = fingerprint(row);
    let (space, line_end) = LAYOUTS[row.len() % LAYOUTS.len()];
    assert_eq!(own, fingerprint(&json.laid_out(space, line_end)));

    let members = json.members().expect("a row is an object");
    let texts = members
        .iter()
        .map(|(name, value)| format!("{name}:{}", value.compact()));
    let texts: Vec<String> = texts.collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    assert_eq!(own, fingerprint(&object(&texts)));

    let mut names: Vec<_> = members.iter().map(|(name, _)| decoded(name)).collect();
    names.sort();
    names.dedup();
    if names.len() == members.len() && !names.contains(&None) && names.len() <= UNORDERED_MAX {
        let reversed: Vec<&str> = texts.iter().rev().copied().collect();
        assert_eq!(own, fingerprint(&object(&reversed)));
    }

    let is_volatile =
        |name: &str| decoded(name).is_some_and(|name| VOLATILE.contains(&name.as_str()));
    let mut moved = vec![r#""Index":["}",7]"#];
    let kept = members
        .iter()
        .zip(&texts)
        .filter(|((name, value), _)| !is_volatile(name) && *value != Json::Token("null"));
    moved.extend(kept.map(|(_, text)| text));
    // The last one is found only if all before it have been read as what they are.
    if moved.len() > 1 {
        assert_ne!(own, fingerprint(&object(&moved[..moved.len() - 1])));
    }
    moved.push("\"EndDate\":0");
    assert_eq!(own, fingerprint(&object(&moved)));

    // A member is hidden, if at all, by the one before it: two side by side tell as much as the whole row,
    // at a fraction of its price.
    for (position, (name, value)) in members.iter().enumerate().take(MEMBERS_MAX) {
        let before = &texts[position.saturating_sub(1)..position];
        let another = match value {
            Json::Token(text) if decoded(text).as_deref() == Some("another") => "null",
            _ => "\"another\"",
        };
        let another = format!("{name}:{another}");
        let with = |text| fingerprint(&object(&[before, &[text]].concat()));
        let whole = with(texts[position]);
        let (volatile, null) = (is_volatile(name), *value == Json::Token("null"));
        assert_eq!(
            whole == fingerprint(&object(before)),
            volatile || null,
            "without {name}"
        );
        assert_eq!(whole == with(&another), volatile, "another {name}");
        let renamed = format!("\"x{}", &texts[position][1..]);
        assert_eq!(whole == with(&renamed), null, "{name} by another name");
    }
}

/// An object of these members.
fn object(members: &[&str]) -> String {
    format!("{{{}}}", members.join(","))
}

fn fingerprint(row: &str) -> Fingerprint {
    Fingerprinter::new(&[7; 16], &["Received"]).fingerprint(&on_one_line(row.as_bytes()))
}
