//! The same row, spelt in another way: what two builds of one service behind one address may send by turns.

use std::fmt::Write as _;

use super::generator::iso;
use crate::json;

/// Another way to spell a row. The row's members keep their values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// Characters beyond ASCII as `\u00e9`.
    Escaped,
    /// The same with capital letters, `\u00E9`.
    EscapedInCapitals,
    /// No character is escaped that need not be.
    Plain,
    /// Slashes as `\/`.
    Slashes,
    /// The first letter of each member's name as an escape.
    Names,
    /// The members in the opposite order.
    Reordered,
    /// White space between all tokens.
    Spaced,
    /// Numbers with decimals: `1.00` for 1.
    Decimals,
    /// Numbers with an exponent: `1e0` for 1.
    Exponents,
    /// Times with all seven decimals.
    LongTimes,
    /// Times without zeros at the end of their decimals.
    ShortTimes,
    /// Times with `Z`.
    ZuluTimes,
    /// Members that are null are absent.
    NullsAbsent,
}

impl Spelling {
    /// All of them.
    pub const ALL: [Spelling; 13] = [
        Spelling::Escaped,
        Spelling::EscapedInCapitals,
        Spelling::Plain,
        Spelling::Slashes,
        Spelling::Names,
        Spelling::Reordered,
        Spelling::Spaced,
        Spelling::Decimals,
        Spelling::Exponents,
        Spelling::LongTimes,
        Spelling::ShortTimes,
        Spelling::ZuluTimes,
        Spelling::NullsAbsent,
    ];

    /// The row in this spelling; what is no JSON object stays as it is.
    pub(crate) fn of(self, row: &str) -> String {
        let Ok(mut fields) = json::fields(row) else {
            return row.to_owned();
        };
        let (comma, colon) = match self {
            Spelling::Spaced => (" , ", "\t:\r\n"),
            _ => (",", ":"),
        };
        match self {
            Spelling::Reordered => fields.reverse(),
            Spelling::NullsAbsent => fields.retain(|(_, value)| *value != "null"),
            _ => {}
        }
        let members: Vec<String> = fields
            .into_iter()
            .map(|(name, value)| format!("{}{colon}{}", self.name(name), self.value(name, value)))
            .collect();
        format!("{{{}}}", members.join(comma))
    }

    /// A member's name, with its quotes.
    fn name(self, name: &str) -> String {
        match (self, name.chars().nth(1)) {
            (Spelling::Names, Some(first)) if first.is_ascii_alphanumeric() => {
                format!("\"\\u{:04x}{}", u32::from(first), &name[2..])
            }
            _ => name.to_owned(),
        }
    }

    fn value(self, name: &str, value: &str) -> String {
        let is_text = value.starts_with('"');
        let is_number = value.parse::<f64>().is_ok();
        let is_time = matches!(name, "\"Received\"" | "\"Date\"" | "\"ClickTime\"");
        match self {
            Spelling::Escaped if is_text => escaped(value, false),
            Spelling::EscapedInCapitals if is_text => escaped(value, true),
            Spelling::Plain if is_text => plain(value),
            Spelling::Slashes if is_text => plain(value).replace('/', "\\/"),
            Spelling::Decimals if is_number && !value.contains(['.', 'e', 'E']) => {
                format!("{value}.00")
            }
            Spelling::Exponents if is_number && !value.contains(['.', 'e', 'E']) => {
                match value.strip_suffix('0') {
                    Some(tens) if !matches!(tens, "" | "-") => format!("{tens}E+1"),
                    _ => format!("{value}e0"),
                }
            }
            Spelling::LongTimes | Spelling::ShortTimes | Spelling::ZuluTimes if is_time => {
                self.time(value).unwrap_or_else(|| value.to_owned())
            }
            _ => value.to_owned(),
        }
    }

    /// An ISO time without an offset, with its quotes.
    fn time(self, value: &str) -> Option<String> {
        let text = value.trim_matches('"').trim_end_matches('Z');
        iso(text)?;
        let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
        let short = decimals.trim_end_matches('0');
        let dot = if short.is_empty() { "" } else { "." };
        Some(match self {
            Spelling::LongTimes => format!("\"{whole}.{decimals:0<7}\""),
            Spelling::ShortTimes => format!("\"{whole}{dot}{short}\""),
            _ => format!("\"{text}Z\""),
        })
    }
}

fn escaped(text: &str, capitals: bool) -> String {
    let mut escaped = String::with_capacity(text.len() * 2);
    let mut units = [0; 2];
    for character in text.chars() {
        if character.is_ascii() {
            escaped.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut units) {
            // Writing to memory does not fail.
            let _ = if capitals {
                write!(escaped, "\\u{unit:04X}")
            } else {
                write!(escaped, "\\u{unit:04x}")
            };
        }
    }
    escaped
}

/// The string without escapes of characters that may stand for themselves.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(position) = rest.find('\\') {
        plain.push_str(&rest[..position]);
        rest = &rest[position..];
        let (length, character) = unescaped(rest);
        match character {
            Some(character) => plain.push(character),
            None => plain.push_str(&rest[..length]),
        }
        rest = &rest[length..];
    }
    plain.push_str(rest);
    plain
}

/// The length of the escape at the beginning of `text`, and its character if that may stand for itself.
fn unescaped(text: &str) -> (usize, Option<char>) {
    let unit = |at: usize| {
        let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    match (text.as_bytes().get(1), unit(0)) {
        (Some(b'/'), _) => (2, Some('/')),
        (_, Some(first)) => {
            let pair = [first, unit(6).unwrap_or_default()];
            let mut decoded = char::decode_utf16(pair);
            match decoded.next() {
                Some(Ok(character)) if character.len_utf16() == 2 => (12, Some(character)),
                Some(Ok(character)) if character >= ' ' && !matches!(character, '"' | '\\') => {
                    (6, Some(character))
                }
                _ => (6, None),
            }
        }
        _ => (2, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &str = r#"{"A":"é\u00e9 \ud83d\ude00/\/","Size":120,"Received":"2022-11-29T05:35:08.260","N":null}"#;

    #[test]
    fn each_spelling_is_what_it_says() {
        for (spelling, changed) in [
            (Spelling::Escaped, r#""A":"\u00e9\u00e9 "#),
            (Spelling::Plain, r#""A":"éé 😀//","#),
            (Spelling::Slashes, r#""A":"éé 😀\/\/","#),
            (Spelling::Names, r#""\u0053ize":120"#),
            (Spelling::Reordered, r#"{"N":null,"Received""#),
            (Spelling::Spaced, "\"Size\"\t:\r\n120 , "),
            (Spelling::Decimals, r#""Size":120.00"#),
            (Spelling::Exponents, r#""Size":12E+1"#),
            (Spelling::LongTimes, r#"08.2600000""#),
            (Spelling::ShortTimes, r#"08.26""#),
            (Spelling::ZuluTimes, r#"08.260Z""#),
            (Spelling::NullsAbsent, r#"08.260"}"#),
        ] {
            let spelt = spelling.of(ROW);
            assert!(spelt.contains(changed), "{spelling:?}: {spelt}");
        }
        assert_eq!(
            Spelling::EscapedInCapitals.of(r#"{"a":"ý"}"#),
            r#"{"a":"\u00FD"}"#
        );
    }

    #[test]
    fn values_stay_what_they_are() {
        let value = |text: &str| -> serde_json::Value { serde_json::from_str(text).unwrap() };
        for spelling in [
            Spelling::Escaped,
            Spelling::Plain,
            Spelling::Slashes,
            Spelling::Names,
            Spelling::Reordered,
            Spelling::Spaced,
        ] {
            assert_eq!(value(&spelling.of(ROW)), value(ROW), "{spelling:?}");
        }
    }

    #[test]
    fn what_has_to_be_escaped_stays_so() {
        let row = r#"{"a":"\"\\\n\u0000\u001f\ud800 \udc00\u0022\u005c"}"#;
        assert_eq!(Spelling::Plain.of(row), row);
    }
}
