//! The members of any row, found by its tokens.

use memchr::{memchr2, memchr2_iter};

/// The members of `row` whose names do not satisfy `left_out`, with a comma between two and without white space between their tokens.
///
/// `row` is one JSON object.
pub(super) fn kept(row: &[u8], left_out: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut kept = Vec::with_capacity(row.len());
    for (name, value) in Members::of(row) {
        if !left_out(name) {
            if !kept.is_empty() {
                kept.push(b',');
            }
            kept.extend_from_slice(name);
            kept.push(b':');
            append_compact(value, &mut kept);
        }
    }
    kept
}

/// Appends a value as it is, but for white space within a list or an object: a row says the same however it is laid out.
fn append_compact(value: &[u8], out: &mut Vec<u8>) {
    if matches!(value.first(), Some(b'{' | b'[')) {
        compact(value, out);
    } else {
        out.extend_from_slice(value);
    }
}

/// Appends JSON without the white space between its tokens.
pub(super) fn compact(json: &[u8], out: &mut Vec<u8>) {
    let mut rest = json;
    while let Some(first) = rest.first() {
        let length = if *first == b'"' {
            string_length(rest)
        } else {
            1
        };
        if !first.is_ascii_whitespace() {
            out.extend_from_slice(&rest[..length]);
        }
        rest = &rest[length..];
    }
}

/// The members of an object: the name with its quotes, and the value's text.
pub(super) struct Members<'a> {
    rest: &'a [u8],
}

impl<'a> Members<'a> {
    /// `row` has been seen to be one JSON object.
    pub(super) fn of(row: &'a [u8]) -> Self {
        Members {
            rest: row.strip_prefix(b"{").unwrap_or(row),
        }
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.rest = rest.trim_ascii_start();
        taken
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.rest = self.rest.trim_ascii_start();
        if self.rest.first() == Some(&b',') {
            self.take(1);
        }
        if self.rest.first() != Some(&b'"') {
            return None;
        }
        let quoted = self.take(string_length(self.rest));
        self.take(1);
        let value = self.take(value_length(self.rest));
        Some((quoted, value.trim_ascii_end()))
    }
}

/// The length of the value at the beginning of `text`, with white space behind it if it is a number or a word.
fn value_length(text: &[u8]) -> usize {
    match text.first() {
        Some(b'"') => string_length(text),
        Some(b'{' | b'[') => nested_length(text),
        _ => memchr2(b',', b'}', text).unwrap_or(text.len()),
    }
}

fn nested_length(text: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => at += string_length(&text[at..]) - 1,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length of the string at the beginning of `text`, both quotes included.
fn string_length(text: &[u8]) -> usize {
    let mut escaped_at = None;
    for place in memchr2_iter(b'"', b'\\', &text[1..]) {
        if escaped_at == Some(place) {
            continue;
        }
        if text[1 + place] == b'"' {
            return place + 2;
        }
        escaped_at = Some(place + 1);
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn members_are_found_as_serde_finds_them(
            names in proptest::collection::vec("[a-z\\\\\"{},: é]{0,8}", 0..6),
            texts in proptest::collection::vec("[a-z\\\\\"{},:\\[\\] \n]{0,8}", 6..7), pretty: bool,
        ) {
            let mut object = serde_json::Map::new();
            for (name, text) in names.iter().zip(&texts) {
                let value = match text.len() % 4 {
                    0 => serde_json::json!(text),
                    1 => serde_json::json!({"a": [text, 1.5, null], "b": {}}),
                    2 => serde_json::json!(text.len()),
                    _ => serde_json::json!([[], [text], {"}": text}]),
                };
                object.insert(name.clone(), value);
            }
            let row = if pretty { serde_json::to_string_pretty(&object) } else { serde_json::to_string(&object) }.unwrap();
            let line = super::super::on_one_line(row.as_bytes());
            let parsed: serde_json::Value = serde_json::from_slice(&line).unwrap();
            proptest::prop_assert_eq!(&parsed, &serde_json::Value::Object(object.clone()));
            let found: Vec<_> = Members::of(&line).map(|(name, value)| {
                (serde_json::from_slice::<String>(name).unwrap(), serde_json::from_slice(value).unwrap())
            }).collect();
            let expected: Vec<(String, serde_json::Value)> = object.into_iter().collect();
            proptest::prop_assert_eq!(found, expected);
        }
    }
}
