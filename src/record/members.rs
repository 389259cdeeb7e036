//! The members of any object and the items of any list, found by their tokens: sound JSON or not.

use memchr::{memchr2, memchr2_iter};

/// Appends JSON without the white space between its tokens.
pub(crate) fn compact(json: &[u8], out: &mut Vec<u8>) {
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
///
/// Of what is no JSON nothing is left out: from where a member should begin and none does, all that follows is one more value, whose name is empty.
pub(crate) struct Members<'a> {
    rest: &'a [u8],
}

impl<'a> Members<'a> {
    /// Those of `object`, which begins with its brace.
    pub(crate) fn of(object: &'a [u8]) -> Self {
        Members {
            rest: object.strip_prefix(b"{").unwrap_or(object),
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
        let (name, all) = match self.rest.first() {
            None | Some(b'}') => return None,
            Some(b'"') => {
                let all = self.rest;
                (self.take(string_length(self.rest)), all)
            }
            Some(_) => (&self.rest[..0], self.rest),
        };
        if name.is_empty() || self.rest.first() != Some(&b':') {
            self.rest = &[];
            let all = all.trim_ascii_end();
            return Some((&[], all.strip_suffix(b"}").unwrap_or(all)));
        }
        self.take(1);
        let value = self.take(value_length(self.rest, b'}'));
        Some((name, value.trim_ascii_end()))
    }
}

/// The items of a list, without the white space around them.
pub(crate) struct Items<'a> {
    rest: &'a [u8],
}

impl<'a> Items<'a> {
    /// Those of `list`, which begins with its bracket.
    pub(crate) fn of(list: &'a [u8]) -> Self {
        Items {
            rest: list.strip_prefix(b"[").unwrap_or(list),
        }
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let is_between = |byte: &u8| *byte == b',' || byte.is_ascii_whitespace();
        let start = self.rest.iter().position(|byte| !is_between(byte))?;
        let rest = &self.rest[start..];
        if rest[0] == b']' {
            return None;
        }
        let (item, rest) = rest.split_at(value_length(rest, b']'));
        self.rest = rest;
        Some(item.trim_ascii_end())
    }
}

/// The length of the value at the beginning of `text`, with white space behind it if it is a number or a word, which ends where what it stands in is
/// closed.
fn value_length(text: &[u8], close: u8) -> usize {
    match text.first() {
        Some(b'"') => string_length(text),
        Some(b'{' | b'[') => nested_length(text),
        _ => memchr2(b',', close, text).unwrap_or(text.len()),
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
pub(crate) fn string_length(text: &[u8]) -> usize {
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

        #[test]
        fn items_are_found_as_serde_finds_them(
            texts in proptest::collection::vec("[a-z\\\\\"{},:\\[\\] \n]{0,8}", 0..7), pretty: bool,
        ) {
            let items = texts.iter().map(|text| match text.len() % 4 {
                0 => serde_json::json!(text),
                1 => serde_json::json!({"a": [text, 1.5, null], "b": {}}),
                2 => serde_json::json!(text.len()),
                _ => serde_json::json!([[], [text], {"}": text}]),
            });
            let list = serde_json::Value::Array(items.collect());
            let text = if pretty { serde_json::to_string_pretty(&list) } else { serde_json::to_string(&list) }.unwrap();
            let found = Items::of(text.as_bytes()).map(|item| serde_json::from_slice::<serde_json::Value>(item).unwrap());
            proptest::prop_assert_eq!(serde_json::Value::Array(found.collect()), list);
        }
    }

    #[test]
    fn of_what_is_no_json_nothing_is_left_out() {
        for (object, expected) in [
            (r#"{"a":1,}"#, &[(r#""a""#, "1")][..]),
            (
                r#"{"a":1 2,"b" 3,"c":4}"#,
                &[(r#""a""#, "1 2"), ("", r#""b" 3,"c":4"#)],
            ),
            (
                r#"{"a":"x" y,"b":1} "#,
                &[(r#""a""#, r#""x""#), ("", r#"y,"b":1"#)],
            ),
            (r#"{a:1,"b":{"c":2}}"#, &[("", r#"a:1,"b":{"c":2}"#)]),
            (r#"{,,"a":1}"#, &[("", r#","a":1"#)]),
            (r#"{"a""#, &[("", r#""a""#)]),
            (r#"{"a":"#, &[(r#""a""#, "")]),
            (r#"{"a":[1"#, &[(r#""a""#, "[1")]),
        ] {
            let found = Members::of(object.as_bytes())
                .map(|(name, value)| [name, value].map(|text| str::from_utf8(text).unwrap()));
            let expected: Vec<_> = expected
                .iter()
                .map(|(name, value)| [*name, *value])
                .collect();
            assert_eq!(found.collect::<Vec<_>>(), expected, "{object}");
        }
        for (list, expected) in [
            ("[1,2 3,]", &["1", "2 3"][..]),
            (
                r#"[{} {"a":1}[2]"x" y,,NaN"#,
                &["{}", r#"{"a":1}"#, "[2]", r#""x""#, "y", "NaN"],
            ),
            ("[}]", &["}"]),
            ("[", &[]),
        ] {
            let found = Items::of(list.as_bytes()).map(|item| str::from_utf8(item).unwrap());
            assert_eq!(found.collect::<Vec<_>>(), expected, "{list}");
        }
    }
}
