//! Any row: one line goes out, which is the row and Devo's keys; and however it is laid out, its fingerprint is the same.
#![no_main]

use std::borrow::Cow;

use chrono::DateTime;
use exchange_reports_collector::record::{Fingerprint, Fingerprinter, Splice, on_one_line};
use fuzz::{Json, decoded};
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;

const PULLED: &str = r#""1770000000123""#;
const ENVIRONMENT: &str = "pro\"d\n\\\u{2028}";
const VOLATILE: [&str; 4] = [
    "\"StartDate\"",
    "\"EndDate\"",
    "\"Index\"",
    "\"__metadata\"",
];

fuzz_target!(|data: &[u8]| {
    let row = row(data);
    let json = Json::read(row.as_bytes());
    for environment in [None, Some(ENVIRONMENT)] {
        compare_line(&row, json.as_ref(), environment);
    }
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

fn compare_line(row: &str, json: Option<&Json<'_>>, environment: Option<&str>) {
    let pulled = DateTime::from_timestamp_millis(1_770_000_000_123).expect("an instant");
    let mut line = b"before".to_vec();
    Splice::new(environment, pulled).append(&on_one_line(row.as_bytes()), &mut line);
    let line = line
        .strip_prefix(b"before")
        .expect("what was there before stays");
    assert!(
        !line.contains(&b'\n') && !line.contains(&b'\r'),
        "a line is one line"
    );
    let whole: &RawValue = serde_json::from_slice(line).expect("a line is JSON");
    assert_eq!(whole.get().as_bytes(), line);
    assert!(line.ends_with(br#""@devo_pulling_id": "1770000000123"}"#));

    let environment = environment.map(|text| serde_json::to_string(text).expect("JSON"));
    let Some(row) = json else { return };
    let mut expected = row.members().expect("a row is an object").to_vec();
    if let Some(environment) = &environment {
        expected.push(("\"@devo_environment\"", Json::Token(environment)));
    }
    expected.push(("\"@devo_pulling_id\"", Json::Token(PULLED)));
    assert_eq!(Json::read(line), Some(Json::Object(expected)));
}

fn compare_fingerprints(row: &str, json: &Json<'_>) {
    let own = fingerprint(row);
    assert_eq!(own, fingerprint(&json.compact()));
    assert_eq!(own, fingerprint(&json.pretty("")));
    assert_eq!(own, fingerprint(&json.pretty(" \t\r")));

    let members = json.members().expect("a row is an object");
    let mut moved = members.to_vec();
    moved.retain(|(name, _)| !VOLATILE.contains(name));
    moved.insert(
        0,
        (
            "\"Index\"",
            Json::List(vec![Json::Token("\"}\""), Json::Token("7")]),
        ),
    );
    moved.push(("\"EndDate\"", Json::Token("0")));
    assert_eq!(own, fingerprint(&Json::Object(moved).compact()));

    for left_out in 0..members.len().min(8) {
        let mut fewer = members.to_vec();
        let (name, value) = fewer.remove(left_out);
        let same = own == fingerprint(&Json::Object(fewer.clone()).compact());
        assert_eq!(same, VOLATILE.contains(&name), "without {name}");
        let quoted = match &value {
            Json::Token(text) if decoded(text).is_none() => Json::List(vec![value.clone()]),
            _ => Json::Token("\"another\""),
        };
        if quoted != value {
            fewer.insert(left_out, (name, quoted));
            let same = own == fingerprint(&Json::Object(fewer).compact());
            assert_eq!(same, VOLATILE.contains(&name), "another {name}");
        }
    }
}

fn fingerprint(row: &str) -> Fingerprint {
    Fingerprinter::new(&[7; 16]).fingerprint(&on_one_line(row.as_bytes()), &mut Vec::new())
}
