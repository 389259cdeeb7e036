//! What tells one record from another: a keyed hash of the values of all its members but those that tell of the query.
//!
//! Members are compared by value, whatever their order, spelling, white space or escapes ([`super::canonical`] has the details), those that a
//! report declares as times by their instant ([`super::time`]).
//!
//! Where two sources tell of the same records in different words, the first half of a fingerprint is a hash of the few members that both spell
//! alike, without case ([`Fingerprint::identity`]); the second half tells records of one source apart.
//!
//! The hash is one over all members, sorted, and no sum of a hash for each: in a sum two equal members would cancel each other out, and
//! what is known of the hash ([`super::hash`]) is known of one text.

use std::fmt;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use memchr::memmem::Finder;

use super::hash::Hash;
use super::usual::{self, Spans};
use super::{canonical, status, time};
use crate::report::Report;

/// How a member is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Its value tells records apart.
    Value,
    /// The instant that its value says tells records apart.
    Time,
    /// It tells of the query and not of the record: the echo of the range, the type.
    Volatile,
    /// The position in the result, which tells of the query as well.
    Index,
}

impl Role {
    /// That of the member with this canonical name, quotes included, in a report with these `times`.
    pub(super) fn of(name: &[u8], times: &[&str]) -> Self {
        match name {
            b"\"Index\"" => Role::Index,
            b"\"StartDate\"" | b"\"EndDate\"" | b"\"__metadata\"" => Role::Volatile,
            [b'"', name @ .., b'"'] if times.iter().any(|time| time.as_bytes() == name) => {
                Role::Time
            }
            _ => Role::Value,
        }
    }
}

/// The canonical text of a row's members that are not left out, and the value of its `Index`.
pub(super) fn canonical_text<'a>(row: &'a [u8], times: &[&str]) -> (Vec<u8>, Option<&'a [u8]>) {
    let (mut text, mut index) = (Vec::with_capacity(row.len()), None);
    canonical::append_members(row, &mut text, |name, value, out| {
        match Role::of(name, times) {
            Role::Value => canonical::append_value(value, out),
            Role::Time => append_time(value, out),
            Role::Volatile => return false,
            Role::Index => {
                index = Some(value);
                return false;
            }
        }
        true
    });
    (text, index)
}

/// Appends a time's value: its instant, or if it says none what any other member would have.
pub(super) fn append_time(value: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    let decoded;
    let quoted = if value.contains(&b'\\') {
        let mut text = Vec::new();
        canonical::append_value(value, &mut text);
        decoded = text;
        &decoded
    } else {
        value
    };
    if let [b'"', text @ .., b'"'] = quoted {
        out.push(b'"');
        if time::append(text, out) {
            out.push(b'"');
            return;
        }
        out.truncate(start);
    }
    canonical::append_value(value, out);
}

/// What tells one record from another: a keyed hash of all its fields but the volatile ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 16]);

impl Fingerprint {
    /// Its bytes as two numbers.
    pub(crate) fn halves(self) -> (u64, u64) {
        let half = |start: usize| {
            let bytes: [u8; 8] = std::array::from_fn(|place| self.0[start + place]);
            u64::from_le_bytes(bytes)
        };
        (half(0), half(8))
    }

    /// What is the same for a record whichever service tells of it, where a report has such an identity; no record has it for a fingerprint.
    #[must_use]
    pub(crate) fn identity(self) -> Self {
        let mut bytes = self.0;
        bytes[8..].fill(0);
        Fingerprint(bytes)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The hash hides its key only as long as nobody sees its outputs.
        f.write_str("Fingerprint(…)")
    }
}

/// A row with what is known of it.
#[derive(Clone, Debug)]
pub struct Found {
    /// Where it is in the text.
    pub range: Range<usize>,
    /// What tells it from others.
    pub fingerprint: Fingerprint,
    /// Its position in the result, if it says one; a hash of what it says if that is no small number.
    pub index: Option<u64>,
}

/// The secret under which fingerprints are made, so that nobody can craft a mail that hides another one, and what is looked at as a time.
#[derive(Clone)]
pub struct Fingerprinter {
    hash: Hash,
    times: &'static [&'static str],
    identity: Option<Arc<Identity>>,
    /// The identity without the status.
    subject: Option<Arc<Identity>>,
}

/// What finds the members that are a record's identity across sources.
struct Identity {
    /// The names with their quotes and colon.
    names: Vec<Finder<'static>>,
}

impl Identity {
    fn new(names: &[&str]) -> Self {
        let finder = |name: &&str| Finder::new(&format!("\"{name}\":")).into_owned();
        Identity {
            names: names.iter().map(finder).collect(),
        }
    }

    /// The values of the identity's members in a row's canonical text, without case.
    fn text(&self, canonical: &[u8], out: &mut Vec<u8>) {
        out.clear();
        for name in &self.names {
            if let Some(value) = value_of(name, canonical) {
                append_without_case(value, out);
            }
            out.push(b',');
        }
    }
}

/// The value of a member in canonical text: a quote within a text stands behind a backslash, so only a name has one before the colon.
fn value_of<'t>(name: &Finder<'_>, canonical: &'t [u8]) -> Option<&'t [u8]> {
    let value = &canonical[name.find(canonical)? + name.needle().len()..];
    let end = match value.first()? {
        b'"' => super::string_length(value),
        _ => value
            .iter()
            .position(|byte| *byte == b',')
            .unwrap_or(value.len()),
    };
    value.get(..end)
}

fn append_without_case(value: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    match str::from_utf8(value) {
        Ok(text) if !text.is_ascii() => out.extend(text.to_lowercase().as_bytes()),
        _ => out.extend(value.to_ascii_lowercase()),
    }
    // The reporting service's word for what has no status yet; Graph has only the other.
    if &out[start..] == b"\"none\"" {
        out.truncate(start);
        out.extend_from_slice(b"\"gettingstatus\"");
    }
}

impl Fingerprinter {
    /// A fingerprinter with a random key, which has to stay the same as long as its fingerprints are kept, for rows in which the members of these
    /// names are times.
    pub fn new(key: &[u8; 16], times: &'static [&'static str]) -> Self {
        Fingerprinter {
            hash: Hash::new(key),
            times,
            identity: None,
            subject: None,
        }
    }

    /// The fingerprinter of a report's rows.
    pub fn of(key: &[u8; 16], report: &Report) -> Self {
        let identity = report.has_two_services();
        let lasting: Vec<&str> = { report.identity.iter().copied() }
            .filter(|name| *name != status::NAME)
            .collect();
        Fingerprinter {
            identity: identity.then(|| Arc::new(Identity::new(report.identity))),
            subject: identity.then(|| Arc::new(Identity::new(&lasting))),
            ..Fingerprinter::new(key, report.times)
        }
    }

    /// The fingerprint of a canonical text; `scratch` is used up.
    #[inline]
    fn of_canonical(&self, canonical: &[u8], scratch: &mut Vec<u8>) -> Fingerprint {
        let all = self.hash.of(canonical);
        let Some(identity) = &self.identity else {
            return Fingerprint(all);
        };
        identity.text(canonical, scratch);
        let mut both = self.hash.of(scratch);
        both[8..].copy_from_slice(&all[8..]);
        Fingerprint(both)
    }

    /// The fingerprint of a row, an object in the light shape. It need not be sound JSON: what is none tells rows apart as it came.
    pub fn fingerprint(&self, row: &[u8]) -> Fingerprint {
        self.identify(row).fingerprint
    }

    /// What a row is about, whatever its status: the message and recipient of a message trace. `None` for the other reports.
    pub(crate) fn subject(&self, row: &[u8]) -> Option<u64> {
        let subject = self.subject.as_ref()?;
        let (text, _) = canonical_text(row, self.times);
        let mut members = vec![];
        subject.text(&text, &mut members);
        Some(Fingerprint(self.hash.of(&members)).halves().0)
    }

    /// A row's fingerprint and index.
    pub(crate) fn identify(&self, row: &[u8]) -> Found {
        let (text, index) = canonical_text(row, self.times);
        Found {
            range: 0..row.len(),
            fingerprint: self.of_canonical(&text, &mut vec![]),
            index: index.map(|value| self.index(value)),
        }
    }

    /// Finds the rows of a list in one pass, if all are of the usual kind: objects without white space between their tokens and without
    /// objects or lists within.
    ///
    /// `text` is what stands behind the bracket that opens the list. Each row is handed to `found`, which may end the search. Returns where the
    /// closing bracket is, or the text's length if that ends with a row. After `None` what was handed over means nothing: the rows are of
    /// another kind, or no JSON, or `found` has ended the search.
    pub fn rows(
        &self,
        text: &[u8],
        mut found: impl FnMut(Found) -> ControlFlow<()>,
    ) -> Option<usize> {
        let mut scratch = vec![];
        usual::rows(text, self.times, |spans: Spans<'_>| {
            found(Found {
                range: spans.row,
                fingerprint: self.of_canonical(spans.canonical, &mut scratch),
                index: spans.index.map(|value| self.index(value)),
            })
        })
    }

    /// The value of `Index` as a number.
    #[inline]
    fn index(&self, value: &[u8]) -> u64 {
        small_number(value).unwrap_or_else(|| {
            let mut text = Vec::new();
            canonical::append_value(value, &mut text);
            small_number(&text).unwrap_or_else(|| Fingerprint(self.hash.of(&text)).halves().0)
        })
    }
}

/// A whole number in its canonical spelling of up to 18 digits.
#[inline]
fn small_number(text: &[u8]) -> Option<u64> {
    const DIGITS_MAX: usize = 18;
    let is_canonical = matches!(text, [b'0'] | [b'1'..=b'9', ..]) && text.len() <= DIGITS_MAX;
    let mut number = 0;
    for digit in text.iter().take(DIGITS_MAX) {
        number = 10 * number + u64::from(digit.is_ascii_digit().then(|| digit - b'0')?);
    }
    is_canonical.then_some(number)
}

impl fmt::Debug for Fingerprinter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprinter(…)")
    }
}

#[cfg(test)]
mod tests;
