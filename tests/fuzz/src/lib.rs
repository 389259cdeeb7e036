//! What a JSON text says, token by token, in `serde_json`'s reading: the measure for what the collector makes of it.
//!
//! Names, strings and numbers stay the text that they are, so that repeated names, lone surrogates and numbers of any
//! size compare as well as everything else. White space between tokens is no part of it.

use std::fmt;

use serde::de::{Deserialize, MapAccess, Visitor};
use serde_json::value::RawValue;

/// How deep a text may be nested: each level is read anew.
const DEPTH_MAX: usize = 40;

/// A JSON value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Json<'a> {
    /// A string, a number or a word, as it is written.
    Token(&'a str),
    /// A list.
    List(Vec<Json<'a>>),
    /// An object: its names as they are written, quotes included, in their order.
    Object(Vec<(&'a str, Json<'a>)>),
}

impl<'a> Json<'a> {
    /// Reads one JSON text; `None` if it is none, or is nested too deep to be compared.
    pub fn read(text: &'a [u8]) -> Option<Self> {
        Self::at_depth(serde_json::from_slice(text).ok()?, 0)
    }

    fn at_depth(text: &'a RawValue, depth: usize) -> Option<Self> {
        if depth == DEPTH_MAX {
            return None;
        }
        match text.get().as_bytes()[0] {
            b'[' => {
                let items: Vec<&RawValue> = serde_json::from_str(text.get()).ok()?;
                let items = items
                    .into_iter()
                    .map(|item| Self::at_depth(item, depth + 1));
                items.collect::<Option<_>>().map(Json::List)
            }
            b'{' => {
                let members: Members<'a> = serde_json::from_str(text.get()).ok()?;
                let members = members
                    .0
                    .into_iter()
                    .map(|(name, value)| Some((name.get(), Self::at_depth(value, depth + 1)?)));
                members.collect::<Option<_>>().map(Json::Object)
            }
            _ => Some(Json::Token(text.get())),
        }
    }

    /// The members if it is an object.
    pub fn members(&self) -> Option<&[(&'a str, Json<'a>)]> {
        match self {
            Json::Object(members) => Some(members),
            _ => None,
        }
    }

    /// Writes it without white space.
    pub fn compact(&self) -> String {
        let mut out = String::with_capacity(128);
        self.write("", "", &mut out);
        out
    }

    /// Writes it with `space` behind each token and `line_end` behind each member and item.
    pub fn laid_out(&self, space: &str, line_end: &str) -> String {
        let mut out = String::with_capacity(1024);
        self.write(space, line_end, &mut out);
        out
    }

    fn write(&self, space: &str, line_end: &str, out: &mut String) {
        match self {
            Json::Token(text) => *out += text,
            Json::List(items) => {
                *out += "[";
                for (position, item) in items.iter().enumerate() {
                    *out += if position > 0 { "," } else { "" };
                    *out += space;
                    item.write(space, line_end, out);
                    *out += line_end;
                }
                *out += "]";
            }
            Json::Object(members) => {
                *out += "{";
                *out += line_end;
                for (position, (name, value)) in members.iter().enumerate() {
                    *out += if position > 0 { "," } else { "" };
                    *out += space;
                    *out += name;
                    *out += space;
                    *out += ":";
                    *out += space;
                    value.write(space, line_end, out);
                    *out += line_end;
                }
                *out += "}";
            }
        }
    }
}

/// What a name or a string, written in quotes, says; `None` for a lone surrogate.
pub fn decoded(written: &str) -> Option<String> {
    serde_json::from_str(written).ok()
}

struct Members<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Vec<(&'de RawValue, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                std::iter::from_fn(|| map.next_entry().transpose()).collect()
            }
        }
        from.deserialize_map(Each).map(Members)
    }
}

/// The members of an object, their names and values as they are written.
pub fn members(text: &str) -> Option<Vec<(&str, &str)>> {
    let members: Members<'_> = serde_json::from_str(text).ok()?;
    let members = members.0.into_iter();
    Some(
        members
            .map(|(name, value)| (name.get(), value.get()))
            .collect(),
    )
}
