//! Equal values have equal fingerprints and others do not, however they are spelled, by the layout of the row before and by tokens.

use std::fmt::Write as _;

use chrono::DateTime;
use proptest::prelude::*;

use super::super::on_one_line;
use super::*;

const TIMES: &[&str] = &["Received", "Date"];

fn fingerprinter() -> Fingerprinter {
    Fingerprinter::new(&[7; 16], TIMES)
}

fn fingerprint(row: &str) -> Fingerprint {
    fingerprinter().fingerprint(&on_one_line(row.as_bytes()))
}

/// What one pass finds in a list of these rows: fingerprints and indices.
fn found(rows: &[String]) -> Option<Vec<(Fingerprint, Option<u64>)>> {
    let list = format!("{}]", rows.join(","));
    let mut all = vec![];
    let end = fingerprinter().rows(list.as_bytes(), |row| {
        assert_eq!(&list[row.range], rows[all.len()]);
        all.push((row.fingerprint, row.index));
        ControlFlow::Continue(())
    })?;
    assert_eq!((end, all.len()), (list.len() - 1, rows.len()));
    Some(all)
}

fn identified(row: &str) -> (Fingerprint, Option<u64>) {
    let found = fingerprinter().identify(row.as_bytes());
    (found.fingerprint, found.index)
}

#[test]
fn the_spelling_of_a_row_does_not_tell_records_apart() {
    let one = r#"{"Organization":"o","Received":"2022-11-29T05:35:08.26","Subject":"é \"x\"","Size":1200,"ToIP":null,"B":[1,{"Index":"}","c":2}],"StartDate":"1","EndDate":"2","Index":0}"#;
    let same = [
        r#"{"Organization":"o","Received":"2022-11-29T05:35:08.26","Subject":"é \"x\"","Size":1200,"B":[1,{"Index":"}","c":2}],"StartDate":"3","EndDate":"4","Index":17}"#,
        r#"{"__metadata":{"type":"T"},"Size":12e2,"Received":"/Date(1669700108260)/","B":[1.0,{"c":2,"Index":"}","d":null}],"Subject":"\u00e9 \u0022x\u0022","Organization":"\u006F"}"#,
        "{ \"Organization\" : \"o\" ,\"Received\":\"2022-11-29T05:35:08.2600000Z\", \"Index\" : 9, \"Subj\\u0065ct\":\"é \\\"x\\\"\",\"Size\":1200.0,\"B\":[1,{\"Index\":\"}\",\"c\":2}], \"Ind\\u0065x\":1,\"New\":null }",
        "{\r\n  \"B\": [\n1, {\"Index\": \"}\",\t\"c\":2}],\n  \"Size\": 1200,\n  \"Subject\": \"é \\\"x\\\"\", \"Received\":\"2022-11-29T06:35:08.26+01:00\",\n  \"Organization\": \"o\"\n}",
    ];
    for row in same {
        assert_eq!(fingerprint(one), fingerprint(row), "{row}");
    }
}

#[test]
fn every_other_value_tells_records_apart() {
    let one =
        r#"{"A":"x","B":"","C":12,"Received":"2022-11-29T05:35:08","D":"2022-11-29T05:35:08"}"#;
    let others = [
        r#"{"A":"x","B":"","C":13,"Received":"2022-11-29T05:35:08","D":"2022-11-29T05:35:08"}"#,
        r#"{"A":"x","B":"","C":"12","Received":"2022-11-29T05:35:08","D":"2022-11-29T05:35:08"}"#,
        r#"{"A":"x","B":null,"C":12,"Received":"2022-11-29T05:35:08","D":"2022-11-29T05:35:08"}"#,
        r#"{"A":"x","C":12,"Received":"2022-11-29T05:35:08","D":"2022-11-29T05:35:08"}"#,
        r#"{"A":"x","B":"","C":12,"E":1,"Received":"2022-11-29T05:35:08","D":"2022-11-29T05:35:08"}"#,
        r#"{"A":"\"x","B":"","C":12,"Received":"2022-11-29T05:35:08","D":"2022-11-29T05:35:08"}"#,
        r#"{"A":"x\\","B":"","C":12,"Received":"2022-11-29T05:35:08","D":"2022-11-29T05:35:08"}"#,
        r#"{"AB":"x","B":"","C":12,"Received":"2022-11-29T05:35:08","D":"2022-11-29T05:35:08"}"#,
        r#"{"A":"x","A":"x","B":"","C":12,"Received":"2022-11-29T05:35:08","D":"2022-11-29T05:35:08"}"#,
        r#"{"A":"x","B":"","C":12,"Received":"2022-11-29T05:35:08.0000001","D":"2022-11-29T05:35:08"}"#,
        r#"{"A":"x","B":"","C":12,"Received":"2022-11-29T05:35:08","D":"2022-11-29T05:35:08Z"}"#,
    ];
    for row in others {
        assert_ne!(fingerprint(one), fingerprint(row), "{row}");
    }
}

#[test]
fn what_cannot_be_decoded_stays_apart() {
    let rows: [&[u8]; 9] = [
        br#"{"A":"\ud800"}"#,
        br#"{"A":"\udc00"}"#,
        br#"{"A":"\\ud800"}"#,
        "{\"A\":\"\u{fffd}\"}".as_bytes(),
        b"{\"A\":\"\xff\"}",
        b"{\"A\":\"\xfe\"}",
        br#"{"A":"\x"}"#,
        br#"{"A":"\\x"}"#,
        br#"{"A":NaN}"#,
    ];
    let fingerprints = rows.map(|row| fingerprinter().fingerprint(row));
    for (place, fingerprint) in fingerprints.iter().enumerate() {
        assert!(!fingerprints[..place].contains(fingerprint), "{place}");
    }
    let raw = fingerprinter().fingerprint(b"{\"A\":\"a\tb\"}");
    assert_eq!(raw, fingerprint(r#"{"A":"a\tb"}"#));
}

#[test]
fn an_index_is_a_number_however_it_is_spelled() {
    let index = |value: &str| identified(&format!(r#"{{"Index":{value}}}"#)).1;
    for value in ["17", "17.0", "170e-1", "1.7E1"] {
        assert_eq!(index(value), Some(17), "{value}");
    }
    assert_eq!(index("0"), Some(0));
    assert_eq!(index("null"), None);
    assert_eq!(identified("{}").1, None);
    assert_ne!(index("1e300"), index("1e301"));
    assert_ne!(index(r#""17""#), index("17"));
}

/// A value as it is meant.
#[derive(Clone, Debug)]
enum Meant {
    Null,
    Word(&'static str),
    /// Digits, and a power of ten.
    Number(bool, String, i32),
    /// Units of UTF-16, among them lone surrogates.
    Text(Vec<u16>),
    /// A second since 1970, and digits of its fraction.
    Instant(i64, String),
    List(Vec<Meant>),
    Object(Vec<(String, Meant)>),
}

fn text() -> impl Strategy<Value = Vec<u16>> {
    let unit = prop_oneof![
        6 => 0x20..0x7f_u16,
        1 => 0..0x20_u16,
        1 => prop::sample::select(vec![0x22, 0x2f, 0x5c, 0x2c, 0x7d]),
        2 => any::<u16>(),
        1 => 0xd800..0xe000_u16,
    ];
    prop::collection::vec(unit, 0..24)
}

fn meant() -> impl Strategy<Value = Meant> {
    let leaf = prop_oneof![
        1 => Just(Meant::Null),
        1 => prop::sample::select(vec!["true", "false"]).prop_map(Meant::Word),
        2 => (any::<bool>(), "[1-9][0-9]{0,24}", -8..30_i32).prop_map(|(sign, digits, exponent)| Meant::Number(sign, digits, exponent)),
        1 => Just(Meant::Number(false, "0".to_owned(), 0)),
        4 => text().prop_map(Meant::Text),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let name = "[A-Za-z\"é\\\\]{0,3}";
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Meant::List),
            prop::collection::vec((name, inner), 0..3).prop_map(Meant::Object),
        ]
    })
}

fn row() -> impl Strategy<Value = Vec<(String, Meant)>> {
    let time = prop_oneof![
        (-2_000_000_000..4_000_000_000_i64, "[0-9]{0,9}")
            .prop_map(|(second, digits)| Meant::Instant(second, digits)),
        text().prop_map(Meant::Text),
    ];
    let time = (prop::sample::select(TIMES.to_vec()), time);
    let name = "Organization|Subject|ToIP|MessageId|Size|[A-Z]{1,20}|[a-z\"\\\\é,:}]{0,3}";
    let member = prop_oneof![
        5 => (name, meant()),
        1 => time.prop_map(|(name, value)| (name.to_owned(), value)),
    ];
    prop::collection::vec(member, 0..12)
}

/// Spells values, each time in another way.
struct Speller {
    state: u64,
    /// Whether there is white space.
    spaced: bool,
}

impl Speller {
    fn below(&mut self, end: u64) -> u64 {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.state >> 33) % end
    }

    fn space(&mut self, out: &mut String) {
        if self.spaced {
            out.push_str(["", " ", "\t ", "\r\n"][usize::try_from(self.below(4)).unwrap()]);
        }
    }

    fn row(&mut self, members: &[(String, Meant)]) -> String {
        let mut members = members.to_vec();
        for _ in 0..self.below(3) {
            members.push((format!("null {}", self.below(9)), Meant::Null));
        }
        for name in ["Index", "StartDate", "EndDate", "__metadata"] {
            if self.below(2) == 0 {
                let value = self.below(99).to_string();
                members.push((name.to_owned(), Meant::Number(false, value, 0)));
            }
        }
        let mut out = String::new();
        self.object(&members, &mut out);
        out
    }

    /// In any order, but for members of the same name.
    fn object(&mut self, members: &[(String, Meant)], out: &mut String) {
        let mut members: Vec<_> = members
            .iter()
            .filter(|(_, value)| !matches!(value, Meant::Null) || self.below(2) == 0)
            .collect();
        for _ in 0..members.len() * 2 {
            let place = usize::try_from(self.below(members.len() as u64)).unwrap();
            if place > 0 && members[place - 1].0 != members[place].0 {
                members.swap(place - 1, place);
            }
        }
        out.push('{');
        for (place, (name, value)) in members.into_iter().enumerate() {
            out.push_str(if place > 0 { "," } else { "" });
            self.space(out);
            self.string(&name.encode_utf16().collect::<Vec<_>>(), out);
            self.space(out);
            out.push(':');
            self.space(out);
            self.value(value, out);
            self.space(out);
        }
        out.push('}');
    }

    fn value(&mut self, value: &Meant, out: &mut String) {
        match value {
            Meant::Null => out.push_str("null"),
            Meant::Word(word) => out.push_str(word),
            Meant::Number(is_negative, digits, exponent) => {
                self.number(*is_negative, digits, *exponent, out);
            }
            Meant::Text(units) => self.string(units, out),
            Meant::Instant(second, digits) => self.instant(*second, digits, out),
            Meant::List(items) => {
                out.push('[');
                for (place, item) in items.iter().enumerate() {
                    out.push_str(if place > 0 { "," } else { "" });
                    self.space(out);
                    self.value(item, out);
                    self.space(out);
                }
                out.push(']');
            }
            Meant::Object(members) => self.object(members, out),
        }
    }

    fn number(&mut self, is_negative: bool, digits: &str, exponent: i32, out: &mut String) {
        out.push_str(if is_negative { "-" } else { "" });
        let zeros = i32::try_from(self.below(4)).unwrap();
        let whole = usize::try_from(exponent)
            .ok()
            .filter(|more| digits.len() + more < 40);
        match (self.below(3), whole) {
            (0, Some(_)) if digits == "0" => out.push('0'),
            (0, Some(more)) => out.extend([digits, &"0".repeat(more)]),
            (1, _) => {
                let zeros = "0".repeat(usize::try_from(zeros).unwrap());
                let exponent = exponent + i32::try_from(digits.len()).unwrap();
                let _ = write!(out, "0.{digits}{zeros}E{exponent}");
            }
            _ => {
                let zeros = "0".repeat(usize::try_from(zeros + 1).unwrap());
                let _ = write!(out, "{digits}.{zeros}e{exponent}");
            }
        }
    }

    fn string(&mut self, units: &[u16], out: &mut String) {
        out.push('"');
        for unit in char::decode_utf16(units.iter().copied()) {
            match unit {
                Ok(character) => self.character(character, out),
                Err(lone) if self.below(2) == 0 => {
                    let _ = write!(out, "\\u{:04x}", lone.unpaired_surrogate());
                }
                Err(lone) => {
                    let _ = write!(out, "\\u{:04X}", lone.unpaired_surrogate());
                }
            }
        }
        out.push('"');
    }

    fn character(&mut self, character: char, out: &mut String) {
        if self.below(4) == 0 {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04X}");
            }
        } else if character == '/' && self.below(2) == 0 {
            out.push_str("\\/");
        } else {
            let json = serde_json::to_string(&character).unwrap();
            out.push_str(&json[1..json.len() - 1]);
        }
    }

    fn instant(&mut self, second: i64, digits: &str, out: &mut String) {
        let digits = digits.trim_end_matches('0');
        let zone = i64::try_from(self.below(3)).unwrap() - 1;
        let hours = i64::try_from(self.below(15)).unwrap() * zone;
        let moved = DateTime::from_timestamp(second + 3_600 * hours, 0)
            .unwrap()
            .naive_utc();
        let milliseconds = format!("{digits:0<3}");
        let spelled = match self.below(4) {
            0 if digits.len() <= 3 => format!(
                "/Date({})/",
                1_000 * second + milliseconds.parse::<i64>().unwrap()
            ),
            _ => {
                let zeros = "0".repeat(usize::try_from(self.below(3)).unwrap());
                let fraction = match format!("{digits}{zeros}") {
                    digits if digits.is_empty() => digits,
                    digits => format!(".{digits}"),
                };
                let zone = match zone {
                    0 => ["", "Z"][usize::try_from(self.below(2)).unwrap()].to_owned(),
                    _ => format!("{}{:02}:00", if hours < 0 { '-' } else { '+' }, hours.abs()),
                };
                format!("{}{fraction}{zone}", moved.format("%Y-%m-%dT%H:%M:%S"))
            }
        };
        self.string(&spelled.encode_utf16().collect::<Vec<_>>(), out);
    }
}

proptest! {
    #[test]
    fn equal_values_have_equal_fingerprints_however_they_are_spelled(
        rows in prop::collection::vec(row(), 1..4), seed: u64, spaced: bool,
    ) {
        let mut speller = Speller { state: seed, spaced };
        for row in &rows {
            let first = speller.row(row);
            for _ in 0..6 {
                let other = speller.row(row);
                prop_assert_eq!(fingerprint(&first), fingerprint(&other), "{}\n{}", first, other);
            }
        }
        // The same by the layout of the row before, where one is found.
        let spelled: Vec<String> = rows.iter().flat_map(|row| [speller.row(row), speller.row(row)]).collect();
        if let Some(found) = found(&spelled) {
            let expected: Vec<_> = spelled.iter().map(|row| identified(row)).collect();
            prop_assert_eq!(found, expected, "{:?}", spelled);
        }
    }

    #[test]
    fn another_value_has_another_fingerprint(row in row(), seed: u64, place: prop::sample::Index) {
        let mut speller = Speller { state: seed, spaced: false };
        let members: Vec<_> = row.iter().filter(|(_, value)| !matches!(value, Meant::Null)).cloned().collect();
        if let [_, ..] = &members[..] {
            let whole = fingerprint(&speller.row(&members));
            let place = place.index(members.len());
            let mut less = members.clone();
            less.remove(place);
            prop_assert_ne!(whole, fingerprint(&speller.row(&less)));
            let mut changed = members.clone();
            changed[place].1 = Meant::List(vec![members[place].1.clone()]);
            prop_assert_ne!(whole, fingerprint(&speller.row(&changed)));
            let mut renamed = members;
            renamed[place].0.push('x');
            prop_assert_ne!(whole, fingerprint(&speller.row(&renamed)));
        }
    }
}
