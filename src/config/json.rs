//! JSON text into a tree: keys that come twice refused, each value with its line and the text as written.
//!
//! Not by way of the YAML reader, although JSON is said to be YAML: a character beyond the 16-bit plane is written as two escapes
//! there, and a tab between tokens is nothing to complain of.

use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::finding::Findings;
use super::reader::is_placeholder_name;
use super::tree::{Entry, Node, Place, Value};
use super::words::joined;

/// How deep values may be nested; a configuration needs eight levels, and each is read once more than the one above it.
const DEPTH_MAX: usize = 32;

/// The tree that `text`, that of the file at the position `file`, describes; `None` after a mistake.
pub(super) fn tree(text: &str, file: usize, findings: &Findings) -> Option<Rc<Node>> {
    let reader = Reader {
        text,
        file,
        findings,
    };
    match serde_json::from_str::<&RawValue>(text) {
        Ok(raw) => reader.node(raw, "", 0),
        Err(error) => {
            reader.explain(&error);
            None
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    file: usize,
    findings: &'a Findings,
}

impl<'a> Reader<'a> {
    fn node(&self, raw: &'a RawValue, path: &str, depth: usize) -> Option<Rc<Node>> {
        let place = self.place(raw);
        if depth > DEPTH_MAX {
            let text = format!(
                "values are nested more than {DEPTH_MAX} deep: look for a bracket too many"
            );
            self.findings.mistake(place, path, text);
            return None;
        }
        let text = raw.get();
        let value = match text.as_bytes().first() {
            Some(b'{') => self.map(text, path, depth)?,
            Some(b'[') => {
                let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
                let item =
                    |(position, item)| self.node(item, &format!("{path}[{position}]"), depth + 1);
                let items: Option<_> = items.into_iter().enumerate().map(item).collect();
                Value::List(items?)
            }
            Some(b'"') => scalar(Zeroizing::new(self.string(raw, path)?)),
            _ if text == "null" => Value::Blank,
            _ => scalar(Zeroizing::new(text.to_owned())),
        };
        let quoted = text.starts_with('"');
        Some(Rc::new(Node {
            place,
            value,
            quoted,
            comment: None,
        }))
    }

    fn map(&self, text: &'a str, path: &str, depth: usize) -> Option<Value> {
        let Members(members) = serde_json::from_str(text).ok()?;
        let mut entries = Vec::with_capacity(members.len());
        let mut first_lines = HashMap::new();
        for (key, value) in members {
            let place = self.place(key);
            let key = self.string(key, path)?;
            let path = joined(path, &key);
            if let Some(Some(first)) = first_lines.insert(key.clone(), place.line) {
                let text =
                    format!("this key is given twice, first on line {first}: keep one of them");
                self.findings.mistake(place, &path, text);
                continue;
            }
            let node = self.node(value, &path, depth + 1)?;
            entries.push(Entry {
                key,
                place,
                node,
                written: None,
            });
        }
        Some(Value::Map(entries))
    }

    /// A string, its escapes resolved. They are not looked at before: half of a pair is found only here.
    fn string(&self, raw: &RawValue, path: &str) -> Option<String> {
        let string = serde_json::from_str(raw.get());
        if string.is_err() {
            let text = "a text here holds an escape that stands for no character: check what follows `\\u`";
            self.findings.mistake(self.place(raw), path, text);
        }
        string.ok()
    }

    /// Where a part of the text begins.
    fn place(&self, part: &RawValue) -> Place {
        let offset = part.get().as_ptr().addr() - self.text.as_ptr().addr();
        let before = self.text.get(..offset).unwrap_or_default();
        Place::on(self.file, 1 + before.matches('\n').count())
    }

    /// Tells what a syntax error means. Nothing of the text is shown but placeholders: it may be part of a password.
    fn explain(&self, error: &serde_json::Error) {
        if self.text.trim().is_empty() {
            let place = Place::whole(self.file);
            self.findings.mistake(place, "", "the file is empty");
            return;
        }
        let placeholders = self.bare_placeholders();
        for (line, name) in &placeholders {
            let text =
                format!("`<{name}>` is a placeholder left in: put your own value in its place");
            self.findings.mistake(Place::on(self.file, *line), "", text);
        }
        if placeholders.is_empty() {
            let text = "not valid JSON here, or just above: check that each text stands in double quotes, that commas stand between \
                        the members of `{ }` and `[ ]` and none after the last, and that each bracket is closed";
            let place = Place::on(self.file, error.line().max(1));
            self.findings.mistake(place, "", text);
        }
    }

    /// The documentation's placeholders that stand without quotes, where JSON knows only numbers and the like.
    fn bare_placeholders(&self) -> Vec<(usize, &'a str)> {
        let mut found = Vec::new();
        for (line, text) in self.text.lines().enumerate() {
            for (before, rest) in text.match_indices('<').map(|(at, _)| text.split_at(at)) {
                let name = rest[1..].split('>').next().unwrap_or_default();
                if before.trim_end().ends_with(':')
                    && rest.len() > name.len() + 1
                    && is_placeholder_name(name)
                {
                    found.push((line + 1, name));
                }
            }
        }
        found
    }
}

/// A map's members as they stand, none dropped.
struct Members<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Gather;
        impl<'de> Visitor<'de> for Gather {
            type Value = Members<'de>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Gather)
    }
}

fn scalar(text: Zeroizing<String>) -> Value {
    if text.trim().is_empty() {
        Value::Blank
    } else {
        Value::Text(text)
    }
}
