//! YAML text into a tree: anchors, aliases and merge keys resolved, keys that come twice refused.
//!
//! The parser's events rather than a deserialiser, since they give the line of each value, and its text as written.

use std::collections::HashMap;
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};
use zeroize::Zeroizing;

use super::finding::Findings;
use super::odd::{self, Odd};
use super::tree::{Comment, Entry, Node, Place, Value};
use super::words::joined;

/// How deep values may be nested; a configuration needs seven levels.
const DEPTH_MAX: usize = 32;

/// How many entries merge keys may bring in: nested ones multiply.
const INHERITED_MAX: usize = 10_000;

/// A configuration in YAML is one file.
const FILE: usize = 0;

fn on(line: usize) -> Place {
    Place::on(FILE, line)
}

/// The tree that `text` describes; `None` if it describes none, and the findings say why.
pub(super) fn tree(text: &str, findings: &Findings) -> Option<Rc<Node>> {
    let mut builder = Builder::new(text, findings);
    for event in Parser::new_from_str(text) {
        match event {
            Ok((event, span)) => builder.take(event, span).ok()?,
            Err(error) => {
                let (line, explanation) = explain(&error, text);
                findings.mistake(on(line), "", explanation);
                return None;
            }
        }
    }
    if builder.root.is_none() {
        findings.mistake(
            Place::whole(FILE),
            "",
            format!("the file is empty: it needs {}", findings.needed),
        );
    }
    builder.root
}

/// The tree cannot be built any further; the findings have been told why.
struct Unusable;

struct Builder<'a> {
    findings: &'a Findings,
    lines: Vec<&'a str>,
    open: Vec<Open>,
    anchors: HashMap<usize, Rc<Node>>,
    documents: usize,
    inherited: usize,
    root: Option<Rc<Node>>,
}

/// A list or a map whose end has not come yet.
struct Open {
    line: usize,
    anchor: usize,
    collection: Collection,
}

enum Collection {
    List(Vec<Rc<Node>>),
    Map(OpenMap),
}

#[derive(Default)]
struct OpenMap {
    entries: Vec<Entry>,
    first_lines: HashMap<String, usize>,
    merged: Vec<(usize, Rc<Node>)>,
    key: Option<Key>,
}

struct Key {
    text: String,
    line: usize,
    merges: bool,
}

impl<'a> Builder<'a> {
    fn new(text: &'a str, findings: &'a Findings) -> Self {
        Self {
            findings,
            lines: text.split('\n').collect(),
            open: Vec::new(),
            anchors: HashMap::new(),
            documents: 0,
            inherited: 0,
            root: None,
        }
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Unusable> {
        let line = span.start.line();
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => self.begin_document(line),
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).map(Rc::clone) else {
                    return self
                        .refuse(line, "an alias (`*`) stands inside the value that it names");
                };
                self.place(node, line, false)
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.check_tag(tag.as_deref(), line)?;
                let plain = style == ScalarStyle::Plain;
                self.name_odd_character(span, plain);
                let node = Rc::new(Node {
                    place: on(line),
                    value: scalar(text.into_owned(), plain),
                    quoted: !plain,
                    comment: if plain {
                        self.comment_behind(span)
                    } else {
                        None
                    },
                });
                self.remember(anchor, &node);
                self.place(node, line, plain)
            }
            Event::SequenceStart(anchor, tag) => {
                self.check_tag(tag.as_deref(), line)?;
                self.begin(Open {
                    line,
                    anchor,
                    collection: Collection::List(Vec::new()),
                })
            }
            Event::MappingStart(anchor, tag) => {
                self.check_tag(tag.as_deref(), line)?;
                self.begin(Open {
                    line,
                    anchor,
                    collection: Collection::Map(OpenMap::default()),
                })
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
        }
    }

    /// Names the first odd character of a scalar, with its line and place: a value that was pasted may hold what nobody sees.
    fn name_odd_character(&self, span: Span, plain: bool) {
        for line in span.start.line()..=span.end.line() {
            let text = self.lines.get(line.wrapping_sub(1)).copied();
            let from = if line == span.start.line() {
                span.start.col()
            } else {
                0
            };
            let to = if line == span.end.line() {
                span.end.col()
            } else {
                usize::MAX
            };
            let said = odd_character(text.unwrap_or_default(), from, to, plain);
            if let Some(said) = said {
                if plain {
                    self.findings.mistake(on(line), &self.path(), said);
                } else {
                    self.findings.warning(on(line), &self.path(), said);
                }
                return;
            }
        }
    }

    /// The comment that follows a plain value on its line.
    fn comment_behind(&self, span: Span) -> Option<Comment> {
        let line = self.lines.get(span.end.line().checked_sub(1)?)?;
        let mut behind = line.chars().enumerate().skip(span.end.col());
        let (at, _) = behind.find(|(_, character)| *character != ' ' && *character != '\t')?;
        let mut comment = line.chars().skip(at);
        (comment.next() == Some('#')).then(|| Comment {
            column: at + 1,
            spaced: comment.next().is_none_or(char::is_whitespace),
        })
    }

    fn begin_document(&mut self, line: usize) -> Result<(), Unusable> {
        self.documents += 1;
        if self.documents > 1 {
            return self.refuse(
                line,
                "a second document begins here (`---`): put the whole configuration in one",
            );
        }
        Ok(())
    }

    fn begin(&mut self, open: Open) -> Result<(), Unusable> {
        if self.open.len() >= DEPTH_MAX {
            return self.refuse(
                open.line,
                &format!(
                    "values are nested more than {DEPTH_MAX} deep: look for a bracket too many"
                ),
            );
        }
        if let Some(Open {
            collection: Collection::Map(OpenMap { key: None, .. }),
            ..
        }) = self.open.last()
        {
            return self.refuse(
                open.line,
                "a list or a map stands where a key is expected: a text with `{` or `[` in it needs single quotes",
            );
        }
        self.open.push(open);
        Ok(())
    }

    fn end(&mut self) -> Result<(), Unusable> {
        let Some(Open {
            line,
            anchor,
            collection,
        }) = self.open.pop()
        else {
            return Ok(());
        };
        let value = match collection {
            Collection::List(items) => Value::List(items),
            Collection::Map(map) => Value::Map(self.merge(map)?),
        };
        let place = on(line);
        let quoted = false;
        let node = Rc::new(Node {
            place,
            value,
            quoted,
            comment: None,
        });
        self.remember(anchor, &node);
        self.place(node, line, false)
    }

    /// Puts a finished value where it belongs: under the open key, into the open list, or at the top.
    fn place(&mut self, node: Rc<Node>, line: usize, plain: bool) -> Result<(), Unusable> {
        let path = self.path();
        match self.open.last_mut().map(|open| &mut open.collection) {
            None => self.root = Some(node),
            Some(Collection::List(items)) => items.push(node),
            Some(Collection::Map(map)) => match map.key.take() {
                Some(Key {
                    merges: true, line, ..
                }) => map.merged.push((line, node)),
                Some(Key { text, line, .. }) => map.entries.push(Entry {
                    key: text,
                    place: on(line),
                    node,
                    written: None,
                }),
                None => {
                    let Value::Text(text) = &node.value else {
                        return self.refuse(line, "a key is blank: write a name before the colon");
                    };
                    let merges = plain && text.as_str() == "<<";
                    if !merges && let Some(first) = map.first_lines.insert(text.to_string(), line) {
                        self.findings.mistake(
                            on(line),
                            &joined(&path, text),
                            format!(
                                "this key is given twice, first on line {first}: keep one of them"
                            ),
                        );
                    }
                    map.key = Some(Key {
                        text: text.to_string(),
                        line,
                        merges,
                    });
                }
            },
        }
        Ok(())
    }

    /// A map's entries with those that its merge keys (`<<`) bring in: its own win, then the earlier ones.
    fn merge(&mut self, map: OpenMap) -> Result<Vec<Entry>, Unusable> {
        let OpenMap {
            mut entries,
            mut first_lines,
            merged,
            ..
        } = map;
        for (line, node) in merged {
            let sources = match &node.value {
                Value::List(items) => items.as_slice(),
                Value::Blank => &[],
                _ => std::slice::from_ref(&node),
            };
            for source in sources {
                let Value::Map(inherited) = &source.value else {
                    self.findings.mistake(
                        on(line),
                        &joined(&self.path(), "<<"),
                        "only a map, or a list of maps, can be merged: name one by its anchor, as in `<<: *defaults`",
                    );
                    continue;
                };
                self.inherited += inherited.len();
                if self.inherited > INHERITED_MAX {
                    return self.refuse(
                        line,
                        "merge keys (`<<`) bring in too many values: write fewer of them",
                    );
                }
                for entry in inherited {
                    if !first_lines.contains_key(&entry.key) {
                        first_lines.insert(entry.key.clone(), line);
                        entries.push(entry.clone());
                    }
                }
            }
        }
        Ok(entries)
    }

    fn remember(&mut self, anchor: usize, node: &Rc<Node>) {
        if anchor > 0 {
            self.anchors.insert(anchor, Rc::clone(node));
        }
    }

    /// Refuses tags other than YAML's own. A tag is not repeated: it may be the beginning of a password.
    fn check_tag(&self, tag: Option<&Tag>, line: usize) -> Result<(), Unusable> {
        match tag {
            Some(tag) if !tag.is_yaml_core_schema() && !tag.suffix.is_empty() => self.refuse(
                line,
                "a value begins with `!`, which YAML takes for a tag: put the value in single quotes",
            ),
            _ => Ok(()),
        }
    }

    fn refuse<T>(&self, line: usize, text: &str) -> Result<T, Unusable> {
        self.findings.mistake(on(line), &self.path(), text);
        Err(Unusable)
    }

    /// The path of the keys that are open.
    fn path(&self) -> String {
        self.open
            .iter()
            .fold(String::new(), |path, open| match &open.collection {
                Collection::List(items) => format!("{path}[{}]", items.len()),
                Collection::Map(OpenMap { key: Some(key), .. }) => joined(&path, &key.text),
                Collection::Map(_) => path,
            })
    }
}

fn scalar(text: String, plain: bool) -> Value {
    let null = plain && matches!(text.as_str(), "~" | "null" | "Null" | "NULL");
    if null || text.trim().is_empty() {
        Value::Blank
    } else {
        Value::Text(Zeroizing::new(text))
    }
}

/// What is to be said of the first odd character of a line between two columns.
fn odd_character(line: &str, from: usize, to: usize, plain: bool) -> Option<String> {
    let within = line.chars().enumerate().skip(from);
    let mut within = within.take(to.saturating_sub(from));
    within.find_map(|(at, character)| {
        let (name, action) = match odd::of(character)? {
            Odd::Blank(_) if character == '\t' && !plain => return None,
            Odd::Blank(name) => (name, "remove it, or type a plain one"),
            Odd::Quote if plain && at == from => (
                "a typographic quote",
                "YAML does not take it for a quote; type `'` in its place, and at the end of the value",
            ),
            Odd::Quote => return None,
        };
        let what = odd::described(name, character);
        Some(format!("character {} of this line is {what}: {action}", at + 1))
    })
}

/// What a syntax error means. Nothing of the text is shown: it may be part of a password.
fn explain(error: &ScanError, text: &str) -> (usize, String) {
    let line = error.marker().line();
    let around = text
        .lines()
        .enumerate()
        .skip(line.saturating_sub(2))
        .take(3);
    let tabbed = around
        .clone()
        .filter(|(_, line)| !line.trim().is_empty())
        .find(|(_, line)| {
            line.chars()
                .take_while(|c| c.is_whitespace())
                .any(|c| c == '\t')
        });
    if let Some((before, tabbed)) = tabbed {
        return (
            before + 1,
            format!(
                "the line is indented with a tab, its character {}: YAML takes only spaces",
                1 + tabbed.chars().take_while(|c| *c != '\t').count()
            ),
        );
    }
    let before_comment = |line: &str| line.split(" #").next().unwrap_or_default().chars().count();
    let odd = around.clone().find_map(|(before, line)| {
        let said = odd_character(line, 0, before_comment(line), false)?;
        Some((before + 1, said))
    });
    if let Some((line, said)) = odd {
        return (line, format!("not valid YAML here: {said}"));
    }
    let reason = error
        .info()
        .split(['`', '\''])
        .next()
        .unwrap_or_default()
        .trim_end_matches([' ', ':']);
    let reason = if reason.is_empty() {
        String::new()
    } else {
        format!(" ({reason})")
    };
    let explanation = format!(
        "not valid YAML here, or just above{reason}: check the indentation, and put values that hold special \
         characters such as `@ % & * ! # : {{ [` in single quotes"
    );
    (line, explanation)
}
