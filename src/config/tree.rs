//! What every source of configuration becomes first: a tree of values, each with the line on which it stands.
//!
//! A value keeps the text that was written, whatever type a YAML reader would give it: a password `1e5`, an id `007` and a
//! date `2024-05-07` arrive as they are, and it is the key's reader that says what the text must be.

use std::rc::Rc;

/// A value and the line, counted from 1, on which it begins.
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Value,
}

/// What stands in one place of the tree.
pub(super) enum Value {
    /// Nothing: left empty, `~`, `null`, or a text of nothing but white space.
    Blank,
    /// Any scalar, as it was written (quotes and escapes resolved).
    Text(String),
    /// A list.
    List(Vec<Rc<Node>>),
    /// A map, in the order of the file; no key comes twice.
    Map(Vec<Entry>),
}

/// One key of a map and what stands under it.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) line: usize,
    pub(super) node: Rc<Node>,
}
