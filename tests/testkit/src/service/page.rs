//! One page of a result: which rows, the link that leads on, how it is written and framed.

use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::header::{ACCEPT, HeaderMap};

use super::Inner;
use super::answer::ROOT;
use super::body::{Body, End};
use super::faults::Fault;
use super::generator::{SECOND, ticks};
use super::ledger::{Page, Source};
use super::options::{LinkForm, Options, Shape, TooOld};
use super::query::Query;
use super::reply::{LIGHT, Reply};
use super::row::Echo;
use super::server::Reset;
use super::store::{Slice, TableKey};
use crate::json;
use crate::report::Report;
use crate::sync::lock;

const VERBOSE: &str = "application/json;odata=verbose;charset=utf-8";
/// A token that the service refuses, for links that lead nowhere.
const REFUSED_TOKEN: &str = "refused";

pub(crate) fn is_verbose(asked: &Query, headers: &HeaderMap, shape: Shape) -> bool {
    let accept = headers
        .get(ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    match shape {
        Shape::AsAsked => asked.verbose || accept.replace(' ', "").contains("odata=verbose"),
        Shape::Light => false,
        Shape::Verbose => true,
    }
}

/// What a link to the next page is made of.
pub(crate) struct Link<'a> {
    pub(crate) query: &'a str,
    pub(crate) origin: &'a str,
    pub(crate) fault: Option<&'a Fault>,
}

impl Link<'_> {
    /// The link of a page, as a value of JSON; `page` is this page, from 0.
    fn value(
        &self,
        report: Report,
        page: u64,
        rows_so_far: u64,
        last: bool,
        options: &Options,
    ) -> Option<String> {
        let none = match self.fault {
            Some(Fault::LinkText(text)) => return Some(text.clone()),
            Some(Fault::NoRows | Fault::EmptyObjects(_)) => true,
            Some(Fault::EmptyPage) => false,
            Some(Fault::Loop { last_too, .. }) => last && !last_too,
            _ => last,
        };
        (!none).then(|| {
            let link = self.next(report, page, rows_so_far, options);
            serde_json::Value::from(link).to_string()
        })
    }

    /// The link that leads on after `rows_so_far` rows of the result.
    fn next(&self, report: Report, page: u64, rows_so_far: u64, options: &Options) -> String {
        let token = match self.fault {
            Some(Fault::RefusedLink) => Some(REFUSED_TOKEN.to_owned()),
            Some(Fault::RepeatedLink) => {
                (page > 0).then(|| (page * options.page_rows as u64 - 1).to_string())
            }
            Some(Fault::EmptyPage) => Some(new_token(page, options)),
            Some(Fault::Loop { to, .. }) => Some(new_token(to.target(page), options)),
            _ => Some(rows_so_far.saturating_sub(1).to_string()),
        };
        let kept = self
            .query
            .split('&')
            .filter(|pair| !pair.starts_with("$skiptoken") && !pair.starts_with("%24skiptoken"));
        let token = token.map(|token| format!("$skiptoken={token}"));
        let query = kept
            .map(str::to_owned)
            .chain(token)
            .collect::<Vec<_>>()
            .join("&");
        let local = format!("{}?{query}", report.path());
        match (self.fault, options.link) {
            (Some(Fault::ForeignLink(origin)), _) => format!("{origin}{ROOT}{local}"),
            (_, LinkForm::Relative) => format!("../../reportingwebservice/reporting.svc/{local}"),
            (_, LinkForm::Absolute) => format!("{}{ROOT}{local}", self.origin),
            (_, LinkForm::Bare) => local,
        }
    }
}

/// A token for this page (from 0) that was never issued before.
fn new_token(page: u64, options: &Options) -> String {
    static ISSUED: AtomicU64 = AtomicU64::new(0);
    let number = ISSUED.fetch_add(1, Ordering::Relaxed);
    let row = (page * options.page_rows as u64).saturating_sub(1);
    format!("{row}_{number}")
}

/// One page of a result.
pub(crate) fn page(
    asked: &Query,
    verbose: bool,
    link: &Link<'_>,
    now: DateTime<Utc>,
    inner: &Inner,
    options: &Options,
) -> Reply {
    let report = asked.report;
    let too_old = (now - asked.start).num_days() > report.accepted_days();
    if too_old && options.too_old == TooOld::ServerError {
        return Reply::odata(500, "An unknown error occurred.");
    }
    let key = TableKey {
        report,
        aggregate: asked.aggregate,
    };
    let page = asked.page(options.page_rows);
    let first = page.saturating_mul(options.page_rows as u64);
    let length = if too_old {
        0
    } else {
        rows_of_page(report, page, options)
    };
    let mut slice = lock(&inner.store).slice(key, visible(asked, now), first, length, ticks(now));
    // A full page links on, also where nothing follows; only the cap on pages ends the walk without a word.
    let last = slice.rows.len() < options.page_rows || page + 1 >= options.pages_max;
    let rows_so_far = first + slice.rows.len() as u64;
    if matches!(
        link.fault,
        Some(Fault::NoRows | Fault::EmptyPage | Fault::EmptyObjects(_))
    ) {
        slice.rows.clear();
    }

    let mut out = Vec::with_capacity(1_000 + slice.rows.len() * 800);
    out.extend_from_slice(if verbose {
        b"{\"d\":{\"results\":["
    } else {
        b"{\"odata.metadata\":\""
    });
    if !verbose {
        let head = format!(
            "{}{ROOT}$metadata#{}\",\"value\":[",
            link.origin,
            report.path()
        );
        out.extend_from_slice(head.as_bytes());
    }
    write_rows(&slice, asked, verbose, link.fault, &mut out);
    out.push(b']');
    let link = link.value(report, page, rows_so_far, last, options);
    if let Some(link) = &link {
        let name = if verbose { "__next" } else { "odata.nextLink" };
        out.extend_from_slice(format!(",\"{name}\":{link}").as_bytes());
    }
    out.extend_from_slice(if verbose { b"}}" } else { b"}" });

    let mut reply = Reply::new(200, if verbose { VERBOSE } else { LIGHT }, out);
    reply.last = link.is_none();
    reply.page = Some(Page {
        table: key,
        numbers: slice.rows.iter().map(|(number, _)| *number).collect(),
        verbose,
        source: Source::Reports,
    });
    reply
}

/// How many rows a page (from 0) may have.
fn rows_of_page(report: Report, page: u64, options: &Options) -> usize {
    if page >= options.pages_max {
        return 0;
    }
    if report != Report::MailDetailAtp {
        return options.page_rows;
    }
    let before = page.saturating_mul(options.page_rows as u64);
    let rest = (options.detail_rows_max as u64).saturating_sub(before);
    usize::try_from(rest).map_or(options.page_rows, |rest| rest.min(options.page_rows))
}

/// Appends the rows, with commas between them.
fn write_rows(
    slice: &Slice,
    asked: &Query,
    verbose: bool,
    fault: Option<&Fault>,
    out: &mut Vec<u8>,
) {
    let report = asked.report;
    let range =
        (report == Report::MessageTrace).then(|| (asked.start.timestamp(), asked.end.timestamp()));
    for (index, (_, content)) in (slice.first..).zip(&slice.rows) {
        if index > slice.first {
            out.push(b',');
        }
        let echo = Echo { range, index };
        match fault {
            Some(Fault::Respelled(spelling)) => {
                let mut row = Vec::new();
                content.write(report, &echo, verbose, &mut row);
                let spelt = spelling.of(&String::from_utf8_lossy(&row));
                out.extend_from_slice(spelt.as_bytes());
            }
            _ => content.write(report, &echo, verbose, out),
        }
    }
    if let Some(Fault::EmptyObjects(rows)) = fault {
        for number in 0..*rows {
            out.extend_from_slice(if number == 0 { b"{}" } else { b",{}" });
        }
    }
}

/// The range asked for, less what the service no longer keeps and what it does not tell yet.
fn visible(asked: &Query, now: DateTime<Utc>) -> (i64, i64) {
    let (from, to) = asked.range();
    // The whole days of an age are counted, so rows last until the day after is full.
    let oldest = (now.timestamp() - (asked.report.kept_days() + 1) * 86_400) * SECOND;
    let today = now.timestamp() - now.timestamp().rem_euclid(86_400);
    let newest = if asked.report == Report::SafelinksDetail {
        today * SECOND
    } else {
        i64::MAX
    };
    (from.max(oldest), to.min(newest))
}

/// Changes how a page is written.
pub(crate) fn alter(reply: &mut Reply, fault: &Fault) {
    match fault {
        Fault::PrettyPrinted => {
            reply.body = json::pretty(&String::from_utf8_lossy(&reply.body)).into_bytes();
        }
        Fault::ByteOrderMark => reply.body.splice(..0, *b"\xef\xbb\xbf").for_each(drop),
        Fault::ContentType(kind) => reply.content_type.clone_from(kind),
        Fault::EndsEarly => reply.body.truncate(reply.body.len() / 2),
        _ => {}
    }
    // What cannot be read has not been served.
    if matches!(fault, Fault::EndsEarly | Fault::CutGzip) {
        reply.page = None;
    }
}

/// A body's `Content-Encoding`, and how often it is compressed by gzip; `allowed` tells whether the request lets it.
pub(crate) fn coding(fault: Option<&Fault>, allowed: bool) -> (Option<String>, u8) {
    let gzip = match fault {
        Some(Fault::Coded { name, layers }) => return (Some(name.clone()), *layers),
        Some(Fault::GzipBomb { .. } | Fault::CutGzip) => true,
        Some(Fault::BigBody { .. }) => false,
        _ => allowed,
    };
    (gzip.then(|| "gzip".to_owned()), u8::from(gzip))
}

/// The body as it goes out, compressed so many times.
pub(crate) fn framed(bytes: Vec<u8>, fault: Option<&Fault>, layers: u8, reset: Reset) -> Body {
    let padding = match fault {
        Some(Fault::BigBody { bytes, .. } | Fault::GzipBomb { bytes }) => *bytes,
        _ => 0,
    };
    let body = if layers > 0 {
        let mut packed = compressed(&bytes, padding);
        for _ in 1..layers {
            packed = compressed(&packed, 0);
        }
        if matches!(fault, Some(Fault::CutGzip)) {
            packed.truncate(packed.len() / 2);
        }
        Body::whole([Bytes::from(packed)])
    } else {
        Body::whole(padded(bytes, padding))
    };
    match fault {
        Some(Fault::CutBody) => body.cut(true, End::Cut),
        Some(Fault::CutChunked) => body.cut(false, End::Cut),
        Some(Fault::ResetAfterHeaders) => body.cut(true, End::Reset(reset)),
        Some(Fault::BigBody {
            announced: false, ..
        }) => body.unannounced(),
        Some(Fault::SlowBody { bytes_per_second }) => body.slow(*bytes_per_second),
        _ => body,
    }
}

const SPACES: &[u8] = &[b' '; 64 * 1024];

/// The body with white space before its last brace.
fn padded(mut bytes: Vec<u8>, padding: u64) -> Vec<Bytes> {
    if padding == 0 {
        return vec![Bytes::from(bytes)];
    }
    let tail = bytes.split_off(bytes.len().saturating_sub(1));
    let spaces = (0..padding.div_ceil(SPACES.len() as u64)).map(|_| Bytes::from_static(SPACES));
    [Bytes::from(bytes)]
        .into_iter()
        .chain(spaces)
        .chain([Bytes::from(tail)])
        .collect()
}

fn compressed(bytes: &[u8], padding: u64) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    let (front, tail) = bytes.split_at(bytes.len().saturating_sub(1));
    // Writing to memory does not fail.
    let _ = encoder.write_all(front);
    for _ in 0..padding.div_ceil(SPACES.len() as u64) {
        let _ = encoder.write_all(SPACES);
    }
    let _ = encoder.write_all(tail);
    encoder.finish().unwrap_or_default()
}
