//! Reads a tree by key, whatever it came from: each field knows its path and line, and reports its own mistakes.
//!
//! Readers go on after a mistake, so that one run finds them all; what they return after one is never used.

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::path::Path;

use super::finding::Findings;
use super::guard;
use super::scalar;
use super::tree::{Comment, Entry, Node, Place, Value};
use super::words::{joined, listed, nearest, quoted};

/// A map of the tree, whose keys are known beforehand or are names of the operator's choosing.
pub(super) struct Section<'a> {
    findings: &'a Findings,
    path: String,
    place: Place,
    entries: &'a [Entry],
    asked: RefCell<Vec<&'static str>>,
}

/// What stands under one key, if anything does.
pub(super) struct Field<'a> {
    findings: &'a Findings,
    path: String,
    place: Place,
    key: &'a str,
    present: bool,
    optional: bool,
    /// `None` if the key is absent, or blank, which is the same.
    value: Option<&'a Value>,
    quoted: bool,
    comment: Option<Comment>,
}

impl<'a> Section<'a> {
    /// The whole file.
    pub(super) fn root(node: &'a Node, findings: &'a Findings) -> Option<Self> {
        if let Value::Map(entries) = &node.value {
            return Some(Self::new(
                findings,
                String::new(),
                Place::whole(node.place.file),
                entries,
            ));
        }
        findings.mistake(
            node.place,
            "",
            format!(
                "the file does not begin with a map of keys: it needs {}",
                findings.needed
            ),
        );
        None
    }

    fn new(findings: &'a Findings, path: String, place: Place, entries: &'a [Entry]) -> Self {
        Self {
            findings,
            path,
            place,
            entries,
            asked: RefCell::default(),
        }
    }

    /// The field under a known key, which may be absent.
    pub(super) fn field(&self, key: &'static str) -> Field<'a> {
        #[cfg(test)]
        self.findings
            .asked
            .borrow_mut()
            .insert(joined(&self.path, key));
        let mut asked = self.asked.borrow_mut();
        if !asked.contains(&key) {
            asked.push(key);
        }
        match self.entries.iter().find(|entry| entry.key == key) {
            Some(entry) => self.at(entry),
            None => Field {
                findings: self.findings,
                path: joined(&self.path, key),
                place: self.place,
                key,
                present: false,
                optional: true,
                value: None,
                quoted: false,
                comment: None,
            },
        }
    }

    /// The field under a key if the key is there, which does not make it a known one.
    pub(super) fn entry(&self, key: &str) -> Option<Field<'a>> {
        self.entries
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| self.at(entry))
    }

    /// Every field, for a map whose keys are names.
    pub(super) fn fields(&self) -> impl Iterator<Item = Field<'a>> {
        self.entries.iter().map(|entry| self.at(entry))
    }

    fn at(&self, entry: &'a Entry) -> Field<'a> {
        Field {
            findings: self.findings,
            path: match &entry.written {
                Some(path) => path.clone(),
                None => joined(&self.path, &entry.key),
            },
            place: entry.place,
            key: &entry.key,
            present: entry.place.line.is_some(),
            optional: true,
            value: entry.node.given(),
            quoted: entry.node.quoted,
            comment: entry.node.comment,
        }
    }

    /// Notes the keys that the original knows, and that mean nothing here.
    pub(super) fn note_foreign(&self, keys: &[&'static str]) {
        for key in keys {
            let field = self.field(key);
            if field.present {
                self.findings.note(
                    field.place,
                    &field.path,
                    "a setting of the original that has no meaning here",
                );
            }
        }
    }

    /// Warns of each key that nobody has asked for. One that may be meant to protect something is a mistake: without it, data would be
    /// disclosed, or a limit missing.
    pub(super) fn warn_of_unknown(&self) {
        let asked = self.asked.borrow();
        let known = self.spelled(&asked);
        for field in self.unknown(&asked) {
            match guard::of(field.key, &asked) {
                None => field.warning(format!("unknown key, not used: {}", hint(&field, &known))),
                Some(guard) if asked.contains(&guard.key) => field.mistake(format!(
                    "unknown key, {}: did you mean {}?",
                    guard.without,
                    quoted(guard.key)
                )),
                Some(guard) => field.mistake(format!(
                    "unknown key, {}: {} belongs under {}",
                    guard.without,
                    quoted(guard.key),
                    guard.place
                )),
            }
        }
    }

    /// Refuses each key that nobody has asked for.
    pub(super) fn refuse_unknown(&self) {
        let asked = self.asked.borrow();
        let known = self.spelled(&asked);
        for field in self.unknown(&asked) {
            field.mistake(format!("unknown key: {}", hint(&field, &known)));
        }
    }

    /// As [`Self::warn_of_unknown`], for a section of secrets: a key that is no plain misspelling may be a piece of
    /// one, as in `{password: one, two}`, and is not shown.
    pub(super) fn warn_of_unknown_among_secrets(&self) {
        let asked = self.asked.borrow();
        for field in self.unknown(&asked) {
            let plain = field
                .key
                .chars()
                .all(|c| c.is_ascii_lowercase() || c == '_');
            match nearest(field.key, &asked).filter(|_| plain) {
                Some(name) => field.warning(format!("unknown key, not used: did you mean {}?", quoted(name))),
                None => self.findings.warning(
                    field.place,
                    &self.path,
                    format!(
                        "an unknown key, not used (known here: {}); if it is a piece of a secret, put the secret in \
                         single quotes",
                        listed(&asked, "and")
                    ),
                ),
            }
        }
    }

    /// Keys as this form of configuration spells them.
    fn spelled(&self, keys: &[&'static str]) -> Vec<&'a str> {
        let spelled = |key: &&'static str| {
            let entry = self.entries.iter().find(|entry| entry.key == **key);
            let written = entry.and_then(|entry| entry.written.as_deref());
            written.map_or(*key, last)
        };
        keys.iter().map(spelled).collect()
    }

    fn unknown(&self, asked: &[&str]) -> impl Iterator<Item = Field<'a>> {
        self.fields().filter(|field| !asked.contains(&field.key))
    }

    pub(super) fn mistake(&self, text: impl Into<String>) {
        self.findings.mistake(self.place, &self.path, text);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn findings(&self) -> &'a Findings {
        self.findings
    }
}

impl<'a> Field<'a> {
    /// The key, as written.
    pub(super) fn key(&self) -> &'a str {
        self.key
    }

    /// Where the key stands, or else what it belongs to.
    pub(super) fn line(&self) -> Option<usize> {
        self.place.line
    }

    /// Notes that a file of credentials is read, which this names.
    pub(super) fn reads(&self, path: &Path) {
        self.findings.reads(path);
    }

    /// Whether there is a value, right or wrong.
    pub(super) fn is_given(&self) -> bool {
        self.value.is_some()
    }

    /// Whether the value is a text by how it was written: in quotes, or as a block. An empty one in quotes is blank all the same.
    pub(super) fn is_quoted(&self) -> bool {
        self.quoted
    }

    /// The comment right behind the value.
    pub(super) fn comment(&self) -> Option<Comment> {
        self.comment
    }

    /// Whether a list stands here, empty or not.
    pub(super) fn is_given_as_list(&self) -> bool {
        matches!(self.value, Some(Value::List(_)))
    }

    /// Whether the key is there, with a value or without.
    pub(super) fn is_present(&self) -> bool {
        self.present
    }

    /// Whether the key is there but nothing stands behind it.
    pub(super) fn is_blank(&self) -> bool {
        self.present && self.value.is_none()
    }

    /// Reports the field if it is absent or blank; `needed` says what it should hold.
    pub(super) fn required(self, needed: &str) -> Self {
        if self.value.is_none() {
            let state = if self.present { "blank" } else { "missing" };
            self.mistake(format!("{state}: {needed}"));
        }
        self.without_default()
    }

    /// The same field, of which no message says that it may be left blank.
    pub(super) fn without_default(mut self) -> Self {
        self.optional = false;
        self
    }

    /// The text as written, less line ends at its end.
    pub(super) fn text(&self) -> Option<String> {
        let text = self.scalar()?;
        if has_placeholder(text) {
            let else_blank = if self.optional {
                ", or leave it blank for the default"
            } else {
                ""
            };
            self.mistake(format!(
                "{} is a placeholder left in: put your own value in its place{else_blank}",
                quoted(text)
            ));
            return None;
        }
        if let Some(Comment {
            column,
            spaced: false,
        }) = self.comment
        {
            self.warning(format!(
                "YAML cuts the value off before the `#`, character {column} of this line: if it belongs to the value, put the value in single \
                 quotes; else put a blank behind it"
            ));
        }
        Some(text.to_owned())
    }

    /// The text if `parse` accepts it; its error completes the sentence that the value begins.
    pub(super) fn parse<T>(&self, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let text = self.text()?;
        match parse(text.trim()) {
            Ok(value) => Some(value),
            Err(reason) => {
                self.mistake(format!("{} {reason}", quoted(&text)));
                None
            }
        }
    }

    /// A whole number in a range.
    pub(super) fn number(&self, range: RangeInclusive<u32>, unit: &str) -> Option<u32> {
        self.parse(|text| {
            let number = scalar::number(text).filter(|number| range.contains(number));
            number.ok_or_else(|| {
                let reason = if text.len() > 1
                    && text.starts_with('0')
                    && text.bytes().all(|b| b.is_ascii_digit())
                {
                    "begins with a zero, which some take for octal"
                } else {
                    "is not allowed"
                };
                format!(
                    "{reason}: give a whole number{unit} from {} to {}",
                    range.start(),
                    range.end()
                )
            })
        })
    }

    /// A truth value in any of the spellings of YAML 1.1.
    pub(super) fn boolean(&self) -> Option<bool> {
        self.parse(|text| {
            scalar::boolean(text).ok_or_else(|| "is neither `true` nor `false`".to_owned())
        })
    }

    /// The map under this key; `None` if there is none, or something else.
    pub(super) fn section(&self) -> Option<Section<'a>> {
        if let Value::Map(entries) = self.value? {
            return Some(self.section_of(entries));
        }
        self.mistake(
            "has to be a map of keys: indent the lines that belong to it, one `key: value` each",
        );
        None
    }

    /// The map under this key, if there is one; what else may be there is not reported.
    pub(super) fn peek(&self) -> Option<Section<'a>> {
        match self.value? {
            Value::Map(entries) => Some(self.section_of(entries)),
            _ => None,
        }
    }

    /// Whether a map stands here that has something under `key`.
    pub(super) fn holds(&self, key: &str) -> bool {
        matches!(self.value, Some(Value::Map(entries)) if self.section_of(entries).entry(key).is_some_and(|field| field.is_given()))
    }

    /// As [`Self::section`], but an empty one if the key is blank.
    pub(super) fn section_or_empty(&self) -> Option<Section<'a>> {
        if self.value.is_none() {
            Some(self.section_of(&[]))
        } else {
            self.section()
        }
    }

    /// The items of the list under this key, of which there may be none.
    pub(super) fn items(&self) -> Vec<Field<'a>> {
        match self.value {
            None => Vec::new(),
            Some(Value::List(items)) => items
                .iter()
                .enumerate()
                .map(|(position, node)| Field {
                    findings: self.findings,
                    path: format!("{}[{position}]", self.path),
                    place: node.place,
                    key: self.key,
                    present: true,
                    optional: true,
                    value: node.given(),
                    quoted: node.quoted,
                    comment: node.comment,
                })
                .collect(),
            Some(_) => {
                self.mistake(
                    "has to be a list: begin each of its items with `- ` on a line of its own",
                );
                Vec::new()
            }
        }
    }

    pub(super) fn mistake(&self, text: impl Into<String>) {
        self.findings.mistake(self.place, &self.path, text);
    }

    pub(super) fn warning(&self, text: impl Into<String>) {
        self.findings.warning(self.place, &self.path, text);
    }

    pub(super) fn note(&self, text: impl Into<String>) {
        self.findings.note(self.place, &self.path, text);
    }

    /// As [`Self::text`], but whatever it is, placeholders included.
    pub(super) fn scalar(&self) -> Option<&'a str> {
        match self.value? {
            Value::Text(text) => Some(text.trim_end_matches(['\r', '\n'])),
            Value::List(_) => {
                self.mistake("has to be a single value, not a list");
                None
            }
            Value::Map(_) => {
                self.mistake("has to be a single value, not a map of keys");
                None
            }
            Value::Blank => None,
        }
    }

    fn section_of(&self, entries: &'a [Entry]) -> Section<'a> {
        Section::new(self.findings, self.path.clone(), self.place, entries)
    }
}

/// The last key of a path.
fn last(path: &str) -> &str {
    path.rsplit_once('.').map_or(path, |(_, key)| key)
}

/// Whether one of the documentation's placeholders, such as `<collector_id>`, stands anywhere in the text.
fn has_placeholder(text: &str) -> bool {
    text.split('<').skip(1).any(|rest| {
        rest.split_once('>')
            .is_some_and(|(name, _)| is_placeholder_name(name))
    })
}

/// Whether the whole text is a placeholder: a secret may well hold `<` and `>`.
pub(super) fn is_placeholder(text: &str) -> bool {
    text.strip_prefix('<')
        .and_then(|rest| rest.strip_suffix('>'))
        .is_some_and(is_placeholder_name)
}

pub(super) fn is_placeholder_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || matches!(c, '_' | ' ' | '-'))
}

/// What an unknown key may be meant to be, where these are known.
fn hint(field: &Field<'_>, known: &[&str]) -> String {
    match nearest(field.key, known) {
        Some(name) => format!("did you mean {}?", quoted(name)),
        None if known.is_empty() => "no key is known here".to_owned(),
        None => format!("known here: {}", listed(known, "and")),
    }
}
