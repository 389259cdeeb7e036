//! A page of rows, taken from an answer's body in one scan, each with its fingerprint.
//!
//! Both shapes of the service's JSON are read: *light*, `{"value": […], "odata.nextLink": "…"}`, whose rows stay the
//! bytes that came, and *verbose*, `{"d": {"results": […], "__next": "…"}}` or `{"d": […]}`, whose rows are brought to
//! the light shape. Rows that span lines are brought onto one. Anything else is an error, and never "no rows".
//!
//! A row that is not what JSON or UTF-8 allow holds up no other, and goes out as the original's JSON library would have sent it. One that is
//! no object (`null`, a number) goes out as the only member, `value`, of one, since Devo's keys need one.
//!
//! A page takes its body's memory and 24 bytes a row, of which it has at most [`ROWS_MAX`]. Only rows that are rewritten (in the verbose shape,
//! mended, no objects) are copied, and for that long there are two bodies of at most [`BODY_MAX_BYTES`].

use std::borrow::Cow;
use std::ops::{ControlFlow, Range};

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use memchr::memmem;
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::envelope::{Envelope, not_a_page};
use super::error::{FetchError, Kind};
use super::graph::rows::{self as graph, Key};
use super::http::BODY_MAX_BYTES;
use super::structure::{self, Broken};
use super::{fault, verbose};
use crate::record::{Fingerprint, Fingerprinter, Found, Items, append_mended, on_one_line};

/// The most rows of a page. The reporting service has 2,000, Microsoft Graph 5,000.
pub(super) const ROWS_MAX: usize = 20_000;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// What stands before the rows of a page as it usually comes.
const VALUE: &[u8] = b"\"value\":[";
/// The most that stands around the rows of a page as it usually comes.
const AROUND_MAX: usize = 64 << 10;

/// The rows of one page, each a JSON object on one line in the service's own bytes.
#[derive(Clone)]
pub struct Page {
    body: Bytes,
    rows: Vec<Row>,
    digest: u64,
    is_unconfirmed: bool,
}

/// Where a row is in the body, and what tells it from others.
#[derive(Clone, Debug)]
struct Row {
    /// A body is shorter than 4 GiB.
    start: u32,
    length: u32,
    fingerprint: Fingerprint,
}

const _: () = assert!(BODY_MAX_BYTES < u32::MAX as usize && size_of::<Row>() == 24);

impl Row {
    fn range(&self) -> Range<usize> {
        let start = self.start as usize;
        start..start + self.length as usize
    }
}

impl Page {
    /// The rows in the order in which they came, each in UTF-8 between braces, without a line break.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.len()).map(|place| self.row(place))
    }

    /// The row at `place`, counted from 0; there has to be one.
    pub fn row(&self, place: usize) -> &[u8] {
        &self.body[self.rows[place].range()]
    }

    /// The fingerprint of the row at `place`, counted from 0; there has to be one.
    pub fn fingerprint(&self, place: usize) -> Fingerprint {
        self.rows[place].fingerprint
    }

    /// The rows' fingerprints, in the same order.
    pub fn fingerprints(&self) -> impl ExactSizeIterator<Item = Fingerprint> {
        self.rows.iter().map(|row| row.fingerprint)
    }

    /// What the page shows, as a number: the same for the same rows in the same order with the same `Index`, and another for all else.
    ///
    /// Two pages of a walk that show the same are one page twice. All pages without rows show the same. The number is made under the secret of
    /// the fingerprints: like them it is shown to nobody.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// A page of rows that did not come with an answer now, with their fingerprints. No two pages of this kind are told apart by their digests.
    pub(crate) fn of(rows: Vec<(Vec<u8>, Fingerprint)>) -> Page {
        let (mut body, mut places) = (vec![], vec![]);
        for (row, fingerprint) in rows {
            let row = on_one_line(&row);
            // Together they are far shorter than 4 GiB.
            let (start, length) = (u32::try_from(body.len()), u32::try_from(row.len()));
            places.push(Row {
                start: start.unwrap_or(u32::MAX),
                length: length.unwrap_or(u32::MAX),
                fingerprint,
            });
            body.extend_from_slice(&row);
        }
        Page {
            body: body.into(),
            rows: places,
            digest: 0,
            is_unconfirmed: false,
        }
    }

    /// A page of the rows at `places` alone, in memory of its own. Its digest stays that of the whole page.
    #[must_use]
    pub fn only(&self, places: impl Iterator<Item = usize>) -> Page {
        let mut body = Vec::new();
        let rows = places.map(|place| {
            let start = body.len();
            body.extend_from_slice(self.row(place));
            Row {
                // No longer than the body that it is from.
                start: u32::try_from(start).unwrap_or(u32::MAX),
                ..self.rows[place].clone()
            }
        });
        let rows = rows.collect();
        body.shrink_to_fit();
        Self {
            body: body.into(),
            rows,
            digest: self.digest,
            is_unconfirmed: false,
        }
    }

    /// The same empty page, marked as one that no other service could confirm to be empty.
    #[must_use]
    pub(super) fn unconfirmed(self) -> Page {
        Page {
            is_unconfirmed: true,
            ..self
        }
    }

    /// Whether it is an empty page that no other service could confirm to be empty.
    pub fn is_unconfirmed(&self) -> bool {
        self.is_unconfirmed
    }

    /// The memory that the rows take, in bytes, with what came between them.
    pub fn bytes(&self) -> usize {
        self.body.len()
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no rows; such a page may still be followed by others.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Reads the body of an answer, of at most [`BODY_MAX_BYTES`]: its rows, and the link to the next page.
    pub(crate) fn parse(
        mut body: Vec<u8>,
        fingerprinter: &Fingerprinter,
    ) -> Result<(Self, Option<String>), FetchError> {
        if let Some((rows, next)) = usual(&body, fingerprinter) {
            return Ok((rows.page(body), next));
        }
        // What stands in the place of a page may say why there is none; what a row says counts for nothing.
        let told = |error: FetchError| match error.kind() {
            Kind::NotAPage => error.with_signs(StatusCode::OK, &body),
            _ => error,
        };
        let json = object(&body).map_err(told)?;
        let is_sound = is_sound(json).map_err(told)?;
        let envelope = Envelope::read(json).map_err(told)?;
        let list = envelope.rows.as_ptr().addr() - body.as_ptr().addr();
        let list = list..list + envelope.rows.len();
        let (is_verbose, next) = (envelope.is_verbose, envelope.next);
        if is_sound
            && !is_verbose
            && let Some(rows) = in_place(&mut body, list.clone(), fingerprinter)?
        {
            return Ok((rows.page(body), next));
        }
        let (rows, body) = rewritten(&body[list], is_verbose, fingerprinter)?;
        Ok((rows.page(body), next))
    }

    /// Reads the body of an answer of Microsoft Graph: its rows in the reporting service's shape, where each belongs, and the link to the next
    /// page.
    pub(super) fn parse_graph(
        body: Vec<u8>,
        fingerprinter: &Fingerprinter,
        organization: Option<&str>,
    ) -> Result<(Self, Vec<Key>, Option<String>), FetchError> {
        if let Some((rows, keys, next)) = usual_of_graph(&body, organization) {
            drop(body);
            let (page, _) = Self::parse(rows, fingerprinter)?;
            return Ok((page, keys, next));
        }
        let json = object(&body)?;
        is_sound(json)?;
        let envelope = Envelope::read(json)?;
        let (rows, keys) = graph::translated(envelope.rows, organization);
        let next = envelope.next;
        drop(body);
        let (page, _) = Self::parse(rows, fingerprinter)?;
        Ok((page, keys, next))
    }

    /// [`Page::parse`] for the fuzz target `page` and the bench of the parts, which stand outside this crate; no ordinary build has it.
    #[cfg(fuzzing)]
    #[doc(hidden)]
    pub fn parse_fuzzed(
        body: Vec<u8>,
        fingerprinter: &Fingerprinter,
    ) -> Result<(Self, Option<String>), FetchError> {
        Self::parse(body, fingerprinter)
    }
}

impl std::fmt::Debug for Page {
    /// Without the rows, which belong in no log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Page")
            .field("rows", &self.rows.len())
            .finish_non_exhaustive()
    }
}

/// The rows that have been found so far.
#[derive(Default)]
struct Rows {
    rows: Vec<Row>,
    digest: u64,
}

impl Rows {
    /// Adds a row that begins at `start`; there must not be too many, see [`Rows::is_full`].
    #[inline]
    fn add(&mut self, start: usize, found: &Found) {
        let (low, high) = found.fingerprint.halves();
        let index = found.index.map_or(0, |index| {
            index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        });
        // Fingerprints are random, so that one multiplication mixes enough.
        let product = u128::from(self.digest ^ low) * u128::from(high ^ index);
        let [low, high] = [product, product >> 64].map(|half| half & u128::from(u64::MAX));
        self.digest = u64::try_from(low ^ high).unwrap_or_default();
        self.rows.push(Row {
            start: u32::try_from(start).unwrap_or(u32::MAX),
            length: u32::try_from(found.range.len()).unwrap_or(u32::MAX),
            fingerprint: found.fingerprint,
        });
    }

    fn is_full(&self) -> bool {
        self.rows.len() == ROWS_MAX
    }

    fn page(mut self, body: Vec<u8>) -> Page {
        self.rows.shrink_to_fit();
        Page {
            body: body.into(),
            rows: self.rows,
            digest: self.digest,
            is_unconfirmed: false,
        }
    }
}

/// The rows and the link of a page as it usually comes: in the light shape, with rows of the usual kind. Whatever else it may be is left
/// to the other readers.
///
/// What stands around the rows is read by `serde_json` as well, with an empty list in their place: so it is certain that they are what
/// `value` says, wherever these letters were found.
fn usual(body: &[u8], fingerprinter: &Fingerprinter) -> Option<(Rows, Option<String>)> {
    let start = memmem::find(body, VALUE)? + VALUE.len();
    let (rows, end) = usual_rows(body, start, fingerprinter)?;
    let around = around(body, start, end)?;
    let answer: Usual<'_> = serde_json::from_slice(&around).ok()?;
    stands_in(answer.value, &around, start)?;
    let next = answer.next_link.filter(|link| !link.trim().is_empty());
    Some((rows, next.map(Cow::into_owned)))
}

/// The same of Microsoft Graph: its rows in the reporting service's shape, which are looked at when that is read.
fn usual_of_graph(
    body: &[u8],
    organization: Option<&str>,
) -> Option<(Vec<u8>, Vec<Key>, Option<String>)> {
    let start = memmem::find(body, VALUE)? + VALUE.len();
    let (rows, keys, length) = graph::usual(&body[start..], organization)?;
    let around = around(body, start, start + length)?;
    let answer: UsualOfGraph<'_> = serde_json::from_slice(&around).ok()?;
    stands_in(answer.value, &around, start)?;
    let next = answer.next_link.filter(|link| !link.trim().is_empty());
    Some((rows, keys, next.map(Cow::into_owned)))
}

/// What stands around the rows from `start` to `end`; `None` if that is much.
fn around(body: &[u8], start: usize, end: usize) -> Option<Vec<u8>> {
    let is_little = start + body.len() - end <= AROUND_MAX;
    is_little.then(|| [&body[..start], &body[end..]].concat())
}

/// Whether `value` is the list that was found, whose rows were at `start`.
fn stands_in(value: &RawValue, around: &[u8], start: usize) -> Option<()> {
    let list = value.get();
    let is_there = list.as_ptr().addr() - around.as_ptr().addr() == start - 1;
    (list == "[]" && is_there).then_some(())
}

/// The rows of the usual kind from `start` on, which is behind an opening bracket, and where they end; `None` if there are others, or too many.
fn usual_rows(body: &[u8], start: usize, fingerprinter: &Fingerprinter) -> Option<(Rows, usize)> {
    let mut rows = Rows::default();
    let end = fingerprinter.rows(&body[start..], |found| {
        if rows.is_full() {
            return ControlFlow::Break(());
        }
        rows.add(start + found.range.start, &found);
        ControlFlow::Continue(())
    })?;
    Some((rows, start + end))
}

/// What stands around the rows of a page as it usually comes, and nothing else.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Usual<'a> {
    #[serde(borrow, rename = "odata.metadata")]
    _metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    value: &'a RawValue,
    #[serde(borrow, rename = "odata.nextLink")]
    next_link: Option<Cow<'a, str>>,
}

/// The same of Microsoft Graph.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UsualOfGraph<'a> {
    #[serde(borrow, rename = "@odata.context")]
    _context: Option<&'a RawValue>,
    #[serde(borrow)]
    value: &'a RawValue,
    #[serde(borrow, rename = "@odata.nextLink")]
    next_link: Option<Cow<'a, str>>,
}

/// An answer from the brace that it begins with.
fn object(body: &[u8]) -> Result<&[u8], FetchError> {
    let json = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    match json.trim_ascii_start().first() {
        None => Err(FetchError::new(Kind::CutShort, "the answer is empty")),
        Some(b'{') => Ok(json.trim_ascii_start()),
        Some(b'<') => Err(not_a_page(
            "a document instead of JSON",
            fault::message(json),
        )),
        Some(_) => Err(not_a_page("no JSON object", None)),
    }
}

/// Whether an answer is JSON in UTF-8. An error if it is not and its rows cannot be told apart either.
fn is_sound(json: &[u8]) -> Result<bool, FetchError> {
    // What is in the texts is not looked at, so that this takes no memory.
    if serde_json::from_slice::<&RawValue>(json).is_ok() {
        return Ok(true);
    }
    match structure::check(json) {
        Ok(()) => Ok(false),
        Err(Broken::At {
            byte,
            in_rows: false,
        }) => Err(not_a_page(&format!("broken JSON at byte {byte}"), None)),
        Err(Broken::At {
            byte,
            in_rows: true,
        }) => {
            let message = format!(
                "the rows of the answer cannot be told apart: its JSON is broken at byte {byte} of {}",
                json.len()
            );
            Err(FetchError::new(Kind::Unsplittable, message).with_digest(digest_of(json)))
        }
        Err(Broken::Early { in_rows }) => {
            let message = format!("the answer's JSON ends early, after {} bytes", json.len());
            let error = FetchError::new(Kind::CutShort, message);
            Err(if in_rows {
                error.with_digest(digest_of(json))
            } else {
                error
            })
        }
    }
}

/// A number for these bytes, by which they are known when they come again.
fn digest_of(json: &[u8]) -> u64 {
    let digest = digest(&SHA256, json);
    let bytes = digest.as_ref().first_chunk().copied();
    u64::from_be_bytes(bytes.unwrap_or_default())
}

/// The rows of a list within the body of sound JSON, each brought onto one line where it stands; `None` if one is no object.
fn in_place(
    body: &mut [u8],
    list: Range<usize>,
    fingerprinter: &Fingerprinter,
) -> Result<Option<Rows>, FetchError> {
    if let Some((rows, _)) = usual_rows(body, list.start + 1, fingerprinter) {
        return Ok(Some(rows));
    }
    let mut ranges = Vec::new();
    for item in Items::of(&body[list]) {
        if ranges.len() == ROWS_MAX {
            return Err(too_many_rows());
        }
        if item.first() != Some(&b'{') {
            return Ok(None);
        }
        let start = item.as_ptr().addr() - body.as_ptr().addr();
        ranges.push(start..start + item.len());
    }
    let mut rows = Rows::default();
    for range in ranges {
        let row = &mut body[range.clone()];
        let mut length = row.len();
        if let Cow::Owned(line) = on_one_line(row) {
            length = line.len();
            row[..length].copy_from_slice(&line);
        }
        rows.add(range.start, &fingerprinter.identify(&row[..length]));
    }
    Ok(Some(rows))
}

/// The rows of a list, each in the light shape, in a body of their own.
fn rewritten(
    list: &[u8],
    is_verbose: bool,
    fingerprinter: &Fingerprinter,
) -> Result<(Rows, Vec<u8>), FetchError> {
    let (mut rows, mut body) = (Rows::default(), Vec::with_capacity(list.len()));
    for item in Items::of(list) {
        if rows.is_full() {
            return Err(too_many_rows());
        }
        let row = match item.first() {
            Some(b'{') if is_verbose => verbose::normalised(item),
            Some(b'{') => Cow::Borrowed(item),
            _ => [b"{\"value\":", item, b"}"].concat().into(),
        };
        // Of what came, not of what goes out: mended rows look alike.
        let mut found = fingerprinter.identify(&row);
        let start = body.len();
        let is_whole = if serde_json::from_slice::<&RawValue>(&row).is_ok() {
            body.extend_from_slice(&on_one_line(&row));
            body.len() <= BODY_MAX_BYTES
        } else {
            append_mended(&row, &mut body, BODY_MAX_BYTES)
        };
        if !is_whole {
            let message = format!("the page's rows are longer than {BODY_MAX_BYTES} bytes");
            return Err(FetchError::new(Kind::TooLarge, message));
        }
        found.range = start..body.len();
        rows.add(start, &found);
    }
    Ok((rows, body))
}

fn too_many_rows() -> FetchError {
    let message = format!("the page has more than {ROWS_MAX} rows");
    FetchError::new(Kind::TooLarge, message)
}

#[cfg(test)]
mod tests;
