//! The little of JSON that is needed without losing a byte: the fields of an object as they stand, and white space out.
//!
//! A tree would change numbers beyond 64 bits, drop repeated keys and refuse lone surrogates, and rows may have all of these.

use serde::de::IgnoredAny;

/// The fields of a JSON object, key (with its quotes) and value as they stand, white space around them removed.
///
/// # Errors
///
/// Says what is wrong where `text` is not one JSON object.
pub(crate) fn fields(text: &str) -> Result<Vec<(&str, &str)>, String> {
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| format!("not JSON: {error}"))?;
    let text = text.trim();
    let inner = text
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
        .ok_or("not a JSON object")?;
    let bytes = inner.as_bytes();
    let mut fields = Vec::with_capacity(20);
    let mut position = 0;
    while position < bytes.len() {
        let colon = end_of_value(bytes, position, b':');
        let comma = end_of_value(bytes, colon + 1, b',');
        if colon < bytes.len() {
            fields.push((
                inner[position..colon].trim(),
                inner[colon + 1..comma].trim(),
            ));
        }
        position = comma + 1;
    }
    Ok(fields)
}

/// The position of `stop` at the level where `start` is, or the end; the text is known to be JSON.
fn end_of_value(bytes: &[u8], start: usize, stop: u8) -> usize {
    let mut depth = 0_usize;
    let mut position = start;
    while position < bytes.len() {
        match bytes[position] {
            b'"' => position = end_of_string(bytes, position),
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            byte if byte == stop && depth == 0 => return position,
            _ => {}
        }
        position += 1;
    }
    bytes.len()
}

/// The position of the quote that closes the string opened at `start`.
fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut position = start + 1;
    while position < bytes.len() && bytes[position] != b'"' {
        position += if bytes[position] == b'\\' { 2 } else { 1 };
    }
    position
}

/// The same JSON without white space between its tokens.
pub(crate) fn compact(text: &str) -> String {
    let mut compact = String::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut position = 0;
    while position < bytes.len() {
        let start = position;
        match bytes[position] {
            b'"' => {
                position = (end_of_string(bytes, position) + 1).min(bytes.len());
                compact.push_str(&text[start..position]);
            }
            byte => {
                position += 1;
                if !byte.is_ascii_whitespace() {
                    // Outside of strings JSON is ASCII.
                    compact.push(char::from(byte));
                }
            }
        }
    }
    compact
}

/// The same JSON with a token a line, as a service that pretty-prints would send it.
pub(crate) fn pretty(text: &str) -> String {
    let mut pretty = String::with_capacity(text.len() * 2);
    let bytes = text.as_bytes();
    let mut depth = 0_usize;
    let mut position = 0;
    while position < bytes.len() {
        let byte = bytes[position];
        if byte == b'"' {
            let end = (end_of_string(bytes, position) + 1).min(bytes.len());
            pretty.push_str(&text[position..end]);
            position = end;
            continue;
        }
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if matches!(byte, b'}' | b']') {
            pretty.push_str("\r\n");
            pretty.push_str(&"  ".repeat(depth));
        }
        pretty.push(char::from(byte));
        match byte {
            b'{' | b'[' | b',' => {
                pretty.push_str("\r\n");
                pretty.push_str(&"  ".repeat(depth));
            }
            b':' => pretty.push(' '),
            _ => {}
        }
        position += 1;
    }
    pretty
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_as_they_stand() {
        let text = r#" { "a" : 1e999 , "b":{"c":[1,{"d":"},\"{"}]}, "a":"\ud800" } "#;
        assert_eq!(
            fields(text).unwrap(),
            [
                (r#""a""#, "1e999"),
                (r#""b""#, r#"{"c":[1,{"d":"},\"{"}]}"#),
                (r#""a""#, r#""\ud800""#)
            ]
        );
        assert_eq!(fields("{}").unwrap(), []);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["[1]", "{\"a\":1", "{\"a\":1} x", "{'a':1}", ""] {
            assert!(fields(text).is_err(), "{text}");
        }
    }

    #[test]
    fn compact_undoes_pretty() {
        let text = r#"{"a":[1,2,{"é b":" : , "}],"c":null,"d":"\"x\\"}"#;
        assert_ne!(pretty(text), text);
        assert_eq!(compact(&pretty(text)), text);
    }
}
