//! What every source of configuration becomes first: a tree of values, each with the place where it stands.
//!
//! A value keeps the text that was written, whatever type a YAML reader would give it: a password `1e5`, an id `007` and a
//! date `2024-05-07` arrive as they are, and it is the key's reader that says what the text must be. Any of them may be a secret: they
//! are wiped when the tree goes.

use std::rc::Rc;

use zeroize::Zeroizing;

/// Where something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// Which of the files that make up the configuration; the first is 0.
    pub(super) file: usize,
    /// The line, counted from 1; none for what the files do not hold.
    pub(super) line: Option<usize>,
}

impl Place {
    /// A line of one of the files.
    pub(super) fn on(file: usize, line: usize) -> Self {
        let line = Some(line);
        Self { file, line }
    }

    /// One of the files as a whole.
    pub(super) fn whole(file: usize) -> Self {
        Self { file, line: None }
    }
}

/// A value and where it begins.
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
    /// Whether it is a text by how it was written: in quotes, or as a block.
    pub(super) quoted: bool,
    /// Where on its line a comment begins that stands right behind the value, and may have been meant as a part of it.
    pub(super) comment: Option<Comment>,
}

/// A comment behind a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Comment {
    /// Its first character on the line, counted from 1.
    pub(super) column: usize,
    /// Whether a blank follows its `#`, as people write comments.
    pub(super) spaced: bool,
}

impl Node {
    /// The value, unless it is blank.
    pub(super) fn given(&self) -> Option<&Value> {
        match &self.value {
            Value::Blank => None,
            value => Some(value),
        }
    }
}

/// What stands in one place of the tree.
pub(super) enum Value {
    /// Nothing: left empty, `~`, `null`, or a text of nothing but white space.
    Blank,
    /// Any scalar, as it was written (quotes and escapes resolved).
    Text(Zeroizing<String>),
    /// A list.
    List(Vec<Rc<Node>>),
    /// A map, in the order of the file; no key comes twice.
    Map(Vec<Entry>),
}

/// One key of a map and what stands under it.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) node: Rc<Node>,
    /// The path of keys as the file has it, where it is not that of the tree.
    pub(super) written: Option<String>,
}
