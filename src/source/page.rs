//! A page of rows, taken from an answer's body in one scan and without a copy, each with its fingerprint.
//!
//! Both shapes of the service's JSON are read: *light*, `{"value": […], "odata.nextLink": "…"}`, whose rows stay the
//! bytes that came, and *verbose*, `{"d": {"results": […], "__next": "…"}}` or `{"d": […]}`, whose rows are brought to
//! the light shape. Rows that span lines are brought onto one. Anything else is an error, and never "no rows".

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use memchr::memmem;
use serde::Deserialize;
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::error::{FetchError, Kind};
use super::{fault, verbose};
use crate::record::{Fingerprint, Fingerprinter, on_one_line};

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// What stands before the rows of a page as it usually comes.
const VALUE: &[u8] = b"\"value\":[";

/// The rows of one page, each a JSON object on one line in the service's own bytes.
#[derive(Clone)]
pub struct Page {
    body: Bytes,
    rows: Vec<Row>,
}

/// Where a row is in the body, and what tells it from others.
#[derive(Clone, Debug)]
struct Row {
    range: Range<usize>,
    fingerprint: Fingerprint,
}

impl Page {
    /// The rows in the order in which they came, each one JSON object in UTF-8, without a line break.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.len()).map(|place| self.row(place))
    }

    /// The row at `place`, counted from 0; there has to be one.
    pub fn row(&self, place: usize) -> &[u8] {
        &self.body[self.rows[place].range.clone()]
    }

    /// The fingerprint of the row at `place`, counted from 0; there has to be one.
    pub fn fingerprint(&self, place: usize) -> Fingerprint {
        self.rows[place].fingerprint
    }

    /// The rows' fingerprints, in the same order.
    pub fn fingerprints(&self) -> impl ExactSizeIterator<Item = Fingerprint> {
        self.rows.iter().map(|row| row.fingerprint)
    }

    /// A page of the rows at `places` alone, in memory of its own.
    #[must_use]
    pub fn only(&self, places: impl Iterator<Item = usize>) -> Page {
        let mut body = Vec::new();
        let rows = places.map(|place| {
            let start = body.len();
            body.extend_from_slice(self.row(place));
            Row {
                range: start..body.len(),
                fingerprint: self.rows[place].fingerprint,
            }
        });
        let rows = rows.collect();
        body.shrink_to_fit();
        Self {
            body: body.into(),
            rows,
        }
    }

    /// The memory that the rows take, in bytes, with what came between them.
    pub fn bytes(&self) -> usize {
        self.body.len()
    }

    /// What the page shows: its rows, in their order.
    pub fn digest(&self) -> u64 {
        let mut digest = self.rows.len() as u64;
        for row in &self.rows {
            let [first, ..] = row.fingerprint.0.as_chunks::<8>().0 else {
                continue;
            };
            digest = digest.rotate_left(5).wrapping_mul(0x9e37_79b9_7f4a_7c15)
                ^ u64::from_ne_bytes(*first);
        }
        digest
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no rows; such a page may still be followed by others.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Reads the body of an answer: its rows, and the link to the next page.
    pub(crate) fn parse(
        body: Vec<u8>,
        fingerprinter: &Fingerprinter,
    ) -> Result<(Self, Option<String>), FetchError> {
        if let Some((rows, next)) = usual(&body, fingerprinter) {
            let body = Bytes::from(body);
            return Ok((Self { body, rows }, next));
        }
        let json = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&body);
        match json.trim_ascii_start().first() {
            None => return Err(FetchError::new(Kind::CutShort, "the answer is empty")),
            Some(b'{') => {}
            Some(b'<') => {
                return Err(not_a_page(
                    "a document instead of JSON",
                    fault::message(json),
                ));
            }
            Some(_) => return Err(not_a_page("no JSON object", None)),
        }
        let answer: Answer<'_> =
            serde_json::from_slice(json).map_err(|error| unreadable(&error))?;
        if let Some(error) = answer.error.or(answer.odata_error) {
            return Err(not_a_page(
                "an error message",
                fault::error_object(error.get()),
            ));
        }
        let links = [answer.next_link, answer.v4_next_link];
        match (answer.value, answer.d) {
            (Some(rows), None) => {
                let page = Self::of_copies(rows, json.len(), fingerprinter, |row, body| {
                    body.extend_from_slice(&on_one_line(row.as_bytes()));
                    Ok(())
                })?;
                Ok((page, one_link(links)?))
            }
            (None, Some(d)) => Self::from_verbose(d, links, fingerprinter),
            (None, None) => Err(not_a_page("JSON without rows", fault::message(json))),
            (Some(_), Some(_)) => Err(not_a_page("JSON with rows in two shapes", None)),
        }
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

    fn from_verbose(
        d: &RawValue,
        [light, v4]: [Option<Cow<'_, str>>; 2],
        fingerprinter: &Fingerprinter,
    ) -> Result<(Self, Option<String>), FetchError> {
        let results = if d.get().starts_with('[') {
            Results {
                results: serde_json::from_str(d.get()).map_err(|error| unreadable(&error))?,
                next: None,
            }
        } else if d.get().starts_with('{') {
            serde_json::from_str(d.get()).map_err(|error| unreadable(&error))?
        } else {
            return Err(not_a_page("JSON without rows", None));
        };
        let outer = one_link([light, v4])?.map(Cow::Owned);
        let next = one_link([results.next, outer])?;
        let mut light = Vec::new();
        let bytes = d.get().len();
        let page = Self::of_copies(results.results, bytes, fingerprinter, |row, body| {
            light.clear();
            verbose::normalise(row, &mut light).map_err(|error| unreadable(&error))?;
            body.extend_from_slice(&on_one_line(&light));
            Ok(())
        })?;
        Ok((page, next))
    }

    /// A page of rows in memory of its own, about so many bytes: `append` writes each as it goes out.
    fn of_copies(
        rows: Vec<&RawValue>,
        bytes: usize,
        fingerprinter: &Fingerprinter,
        mut append: impl FnMut(&str, &mut Vec<u8>) -> Result<(), FetchError>,
    ) -> Result<Self, FetchError> {
        let mut body = Vec::with_capacity(bytes);
        let rows = rows.into_iter().map(|row| {
            let start = body.len();
            append(object(row)?, &mut body)?;
            Ok(Row {
                range: start..body.len(),
                fingerprint: fingerprinter.fingerprint(&body[start..]),
            })
        });
        let rows = rows.collect::<Result<_, FetchError>>()?;
        Ok(Self {
            body: body.into(),
            rows,
        })
    }
}

/// The rows and the link of a page as it usually comes: in the light shape, with rows of the usual kind. Whatever else it may be is left
/// to `serde_json`.
///
/// What stands around the rows is read by `serde_json` as well, with an empty list in their place: so it is certain that they are what
/// `value` says, wherever these letters were found.
fn usual(body: &[u8], fingerprinter: &Fingerprinter) -> Option<(Vec<Row>, Option<String>)> {
    let start = memmem::find(body, VALUE)? + VALUE.len();
    let mut rows = Vec::new();
    let found = |range: Range<usize>, fingerprint| {
        rows.push(Row {
            range: start + range.start..start + range.end,
            fingerprint,
        });
    };
    let end = start + fingerprinter.rows(&body[start..], found)?;
    let around = [&body[..start], &body[end..]].concat();
    let answer: Usual<'_> = serde_json::from_slice(&around).ok()?;
    let list = answer.value.get();
    if list != "[]" || list.as_ptr().addr() - around.as_ptr().addr() != start - 1 {
        return None;
    }
    let next = answer.next_link.map(Cow::into_owned);
    Some((rows, next))
}

impl std::fmt::Debug for Page {
    /// Without the rows, which belong in no log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Page")
            .field("rows", &self.rows.len())
            .finish_non_exhaustive()
    }
}

/// What is looked at of an answer. A repeated member is refused (by the derived code), an unknown one ignored.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    value: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    d: Option<&'a RawValue>,
    #[serde(borrow, rename = "odata.nextLink")]
    next_link: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "@odata.nextLink")]
    v4_next_link: Option<Cow<'a, str>>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow, rename = "odata.error")]
    odata_error: Option<&'a RawValue>,
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

#[derive(Deserialize)]
struct Results<'a> {
    #[serde(borrow)]
    results: Vec<&'a RawValue>,
    #[serde(borrow, rename = "__next")]
    next: Option<Cow<'a, str>>,
}

/// The one link that was given, under whichever name.
fn one_link(links: [Option<Cow<'_, str>>; 2]) -> Result<Option<String>, FetchError> {
    match links {
        [Some(one), Some(other)] if one != other => Err(not_a_page(
            "JSON with two different links to the next page",
            None,
        )),
        [one, other] => Ok(one.or(other).map(Cow::into_owned)),
    }
}

fn object(row: &RawValue) -> Result<&str, FetchError> {
    let row = row.get();
    if row.starts_with('{') {
        Ok(row)
    } else {
        Err(not_a_page("JSON with a row that is no object", None))
    }
}

/// Serde's own message is not used: it may quote the body.
fn unreadable(error: &serde_json::Error) -> FetchError {
    let place = format!("line {}, column {}", error.line(), error.column());
    match error.classify() {
        Category::Eof | Category::Io => FetchError::new(
            Kind::CutShort,
            format!("the answer's JSON ends early, at {place}"),
        ),
        Category::Syntax => not_a_page(&format!("broken JSON at {place}"), None),
        Category::Data => not_a_page(&format!("JSON of another shape at {place}"), None),
    }
}

fn not_a_page(what: &str, message: Option<String>) -> FetchError {
    let kind = match &message {
        Some(message) if fault::asks_to_wait(message) => Kind::Busy,
        _ => Kind::NotAPage,
    };
    let message = message.map(|message| format!(": {message}"));
    FetchError::new(
        kind,
        format!(
            "the service answered 200 with {what}{}",
            message.unwrap_or_default()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::error::Remedy;

    fn fingerprinter() -> Fingerprinter {
        Fingerprinter::new(&[7; 16])
    }

    fn check(body: &str, rows: &[&str], next: Option<&str>) {
        let (page, link) =
            Page::parse(body.into(), &fingerprinter()).unwrap_or_else(|e| panic!("{body}: {e}"));
        let got: Vec<&[u8]> = page.rows().collect();
        let expected: Vec<&[u8]> = rows.iter().map(|row| row.as_bytes()).collect();
        assert_eq!(got, expected, "{body}");
        assert_eq!(link.as_deref(), next, "{body}");
        assert_eq!((page.len(), page.is_empty()), (rows.len(), rows.is_empty()));
        let fingerprint = |row: &[u8]| fingerprinter().fingerprint(row);
        let expected: Vec<_> = expected.into_iter().map(fingerprint).collect();
        assert_eq!(page.fingerprints().collect::<Vec<_>>(), expected, "{body}");
    }

    fn check_error(body: impl Into<Vec<u8>>, kind: Kind, expected: &str) {
        let body = body.into();
        let text = String::from_utf8_lossy(&body).into_owned();
        let error = Page::parse(body, &fingerprinter()).expect_err(&text);
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (kind, expected),
            "{text}"
        );
        assert_eq!(error.remedy(), Remedy::BackOff, "{text}");
    }

    #[test]
    fn brings_rows_that_span_lines_onto_one() {
        check(
            "{\r\n \"value\": [\r\n {\r\n \"A\": \"b  c\\n\",\r\n \"B\": [ 1 ]\r\n }, {} ]\r\n}",
            &[r#"{"A":"b  c\n","B":[1]}"#, "{}"],
            None,
        );
        check(
            "{\"d\":[{\n\"__metadata\" : {}, \"Date\" : \"/Date(0)/\", \"A\" : \" \" }]}",
            &[r#"{"Date":"1970-01-01T00:00:00","A":" "}"#],
            None,
        );
    }

    #[test]
    fn reads_the_light_shape() {
        check(
            r#"{"odata.metadata":"https://x/$metadata#MessageTrace","value":[{"Index":0},{"Index":1}],"odata.nextLink":"../../a?b"}"#,
            &[r#"{"Index":0}"#, r#"{"Index":1}"#],
            Some("../../a?b"),
        );
        check(r#"{"value":[]}"#, &[], None);
        check(r#"{"value":[],"odata.nextLink":null}"#, &[], None);
        check(
            r#"{"@odata.nextLink":"a\/b\u003fc","value":[ {"a" : 1} , {} ]}"#,
            &[r#"{"a" : 1}"#, "{}"],
            Some("a/b?c"),
        );
        check(
            r#"{"odata.nextLink":"a","@odata.nextLink":"a","value":[],"x":{"value":[1],"error":2},"x":3}"#,
            &[],
            Some("a"),
        );
        check(
            "\u{feff}\r\n {\"value\":[{\"a\":1}], \"error\": null}\n",
            &[r#"{"a":1}"#],
            None,
        );
    }

    #[test]
    fn reads_the_verbose_shape() {
        check(
            r#"{"d":{"__count":"2","results":[{"__metadata":{"id":"x"},"a":1},{"b":2}],"__next":"https://x/y"}}"#,
            &[r#"{"a":1}"#, r#"{"b":2}"#],
            Some("https://x/y"),
        );
        check(r#"{"d":{"results":[]}}"#, &[], None);
        check(
            r#"{"d":[{"Received":"\/Date(1659020996164)\/"}]}"#,
            &[r#"{"Received":"2022-07-28T15:09:56.164"}"#],
            None,
        );
    }

    #[test]
    fn light_rows_pass_byte_for_byte() {
        let subject = "x".repeat(1 << 20);
        let rows = [
            r#"{"Subject":"\ud800 lone"}"#.to_owned(),
            r#"{"Size":123456789012345678901234567890.5e400}"#.to_owned(),
            r#"{"a":1,"a":2}"#.to_owned(),
            "{\"Subject\":\"\u{2028}\u{0}\"}".replace('\u{0}', "\\u0000"),
            format!(r#"{{"Subject":"{subject}"}}"#),
            r#"{"__metadata":{"kept":true},"Received":"/Date(1)/"}"#.to_owned(),
            format!("{{\"deep\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000)),
        ];
        let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
        check(
            &format!(r#"{{"value":[{}]}}"#, rows.join(",\n")),
            &rows,
            None,
        );
    }

    #[test]
    fn what_is_no_page_is_an_error_and_not_an_empty_page() {
        let refused = |body: &str, what: &str| {
            check_error(
                body,
                Kind::NotAPage,
                &format!("the service answered 200 with {what}"),
            );
        };
        refused("[]", "no JSON object");
        refused("null", "no JSON object");
        refused("{}", "JSON without rows");
        refused(r#"{"value":null}"#, "JSON without rows");
        refused(r#"{"d":1}"#, "JSON without rows");
        refused(r#"{"d":null}"#, "JSON without rows");
        refused(r#"{"d":{}}"#, "JSON of another shape at line 1, column 2");
        refused(
            r#"{"value":"secret subject"}"#,
            "JSON of another shape at line 1, column 25",
        );
        refused(
            r#"{"value":[{},null]}"#,
            "JSON with a row that is no object",
        );
        refused(r#"{"d":["a"]}"#, "JSON with a row that is no object");
        refused(
            r#"{"value":[],"value":[]}"#,
            "JSON of another shape at line 1, column 19",
        );
        refused(r#"{"d":[],"value":[]}"#, "JSON with rows in two shapes");
        refused(
            r#"{"value":[],"odata.nextLink":"a","@odata.nextLink":"b"}"#,
            "JSON with two different links to the next page",
        );
        refused(
            r#"{"d":[],"odata.nextLink":"a","@odata.nextLink":"b"}"#,
            "JSON with two different links to the next page",
        );
        refused(
            r#"{"value":[],"odata.nextLink":7}"#,
            "JSON of another shape at line 1, column 30",
        );
        refused(
            r#"{"value":[{}]} {"value":[]}"#,
            "broken JSON at line 1, column 16",
        );
        refused(
            r#"{"value":[{"a":tru}]}"#,
            "broken JSON at line 1, column 19",
        );
        check_error(
            *b"{\"value\":[{\"a\":\"\xff\"}]}",
            Kind::NotAPage,
            "the service answered 200 with broken JSON at line 1, column 17",
        );
    }

    #[test]
    fn what_ends_early_is_cut_short() {
        check_error("", Kind::CutShort, "the answer is empty");
        check_error("\u{feff} ", Kind::CutShort, "the answer is empty");
        let whole = r#"{"value":[{"a":"b"}],"odata.nextLink":"c"}"#;
        for end in 1..whole.len() {
            let error = Page::parse(whole[..end].into(), &fingerprinter()).expect_err(whole);
            assert_eq!(error.kind(), Kind::CutShort, "{}: {error}", &whole[..end]);
        }
    }

    #[test]
    fn shows_the_message_of_an_error_that_came_with_200() {
        check_error(
            r#"{"odata.error":{"code":"x","message":{"lang":"en-US","value":"It\r\nbroke."}}}"#,
            Kind::NotAPage,
            "the service answered 200 with an error message: It broke.",
        );
        check_error(
            r#"{"value":[{"a":1}],"error":{"code":"x","message":"Half way."}}"#,
            Kind::NotAPage,
            "the service answered 200 with an error message: Half way.",
        );
        check_error(
            r#"{"ErrorCode":"","Message":"No permission."}"#,
            Kind::NotAPage,
            "the service answered 200 with JSON without rows: No permission.",
        );
        check_error(
            "<!DOCTYPE html><html><head><title>Sign in to your account</title></head></html>",
            Kind::NotAPage,
            "the service answered 200 with a document instead of JSON: Sign in to your account",
        );
        check_error(
            "<ServiceFault xmlns='x'><Message>We cannot currently process your request, please wait a few minutes</Message></ServiceFault>",
            Kind::Busy,
            "the service answered 200 with a document instead of JSON: We cannot currently process your request, please wait a few minutes",
        );
    }
}
