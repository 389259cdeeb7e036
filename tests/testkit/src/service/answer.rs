//! From a request to its answer: the ledger's note, the fault if one is ordered, the access, the page.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HOST, HeaderMap};
use hyper::{Method, Response};

use super::body::{Body, End};
use super::faults::{Fault, Occasion, RetryAfter};
use super::generator::{SECOND, mix};
use super::ledger::{Page, Request};
use super::options::{LinkForm, Options, Shape, TooOld};
use super::query::Query;
use super::server::Reset;
use super::store::{Echo, Row, TableKey};
use super::{Inner, signin};
use crate::json;
use crate::report::Report;
use crate::sync::lock;

/// Where reports lie; the case of a path does not matter.
const ROOT: &str = "/ecp/reportingwebservice/reporting.svc/";
const LIGHT: &str = "application/json;odata=minimalmetadata;streaming=true;charset=utf-8";
const VERBOSE: &str = "application/json;odata=verbose;charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
/// A token that the service refuses, for links that lead nowhere.
const REFUSED_TOKEN: &str = "refused";

/// What is going to be sent.
struct Reply {
    status: u16,
    content_type: String,
    body: Vec<u8>,
    retry_after: Option<String>,
    location: Option<String>,
    last: bool,
    page: Option<Page>,
}

impl Reply {
    fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Reply {
        Reply {
            status,
            content_type: content_type.to_owned(),
            body: body.into(),
            retry_after: None,
            location: None,
            last: false,
            page: None,
        }
    }

    /// An error as OData writes it.
    fn odata(status: u16, message: &str) -> Reply {
        let body = serde_json::json!({"error": {"code": "", "message": {"lang": "en-US", "value": message}}});
        Reply::new(status, LIGHT, body.to_string())
    }

    /// An error page as the web server before the service writes it.
    fn iis(status: u16, title: &str) -> Reply {
        let body = format!(
            "<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Strict//EN\">\r\n<html><head><title>{status} - {title}</title></head>\r\n\
             <body><div id=\"header\"><h1>Server Error</h1></div><h2>{status} - {title}</h2></body></html>\r\n"
        );
        Reply::new(status, HTML, body)
    }

    fn unauthorized() -> Reply {
        Reply::iis(
            401,
            "Unauthorized: Access is denied due to invalid credentials.",
        )
    }

    /// An error from before OData.
    fn service_fault(status: u16) -> Reply {
        let body = "<ServiceFault xmlns=\"http://schemas.microsoft.com/2012/reporting\" \
                    xmlns:i=\"http://www.w3.org/2001/XMLSchema-instance\"><Message>Invalid data has been detected in the \
                    request.</Message><StackTrace i:nil=\"true\"/></ServiceFault>";
        Reply::new(status, "application/xml; charset=utf-8", body)
    }
}

/// Answers a request.
pub(crate) async fn answer(
    request: hyper::Request<Incoming>,
    scheme: &str,
    inner: &Arc<Inner>,
    reset: Reset,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let (path, query) = (
        head.uri.path().to_owned(),
        head.uri.query().unwrap_or_default().to_owned(),
    );
    let header = |name: &str| {
        head.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    let (options, now, request_id) = (inner.options(), inner.now(), request_id());
    let tenant = path
        .strip_prefix('/')
        .and_then(|path| path.strip_suffix("/oauth2/v2.0/token"));
    let report = report_at(&path);
    let asked = report.map(|report| Query::parse(report, &query, now));
    let asked_well = asked.as_ref().and_then(|asked| asked.as_ref().ok());
    let mut note = Request {
        time: Utc::now(),
        report,
        path: path.clone(),
        query: query.clone(),
        range: asked_well.map(|query| (query.start, query.end)),
        aggregate: asked_well.and_then(|query| query.aggregate),
        page: asked_well.map_or(1, |query| query.page(options.page_rows) + 1),
        status: 0,
        request_id: request_id.clone(),
        fault: None,
        rows: 0,
        last: false,
        version: header("x-rws-version"),
        encoding: header(ACCEPT_ENCODING.as_str()),
        scheme: header(AUTHORIZATION.as_str())
            .and_then(|value| value.split(' ').next().map(str::to_owned)),
        sent: false,
    };
    let span = note
        .range
        .map_or(TimeDelta::zero(), |(start, end)| end - start);
    let occasion = Occasion {
        report,
        page: note.page,
        span,
    };
    let fault = (report.is_some() || tenant.is_some())
        .then(|| lock(&inner.script).take(occasion))
        .flatten();
    note.fault = fault.as_ref().map(Fault::name);
    let page_number = note.page;
    let number = lock(&inner.ledger).begin(note);

    match &fault {
        Some(Fault::ResetBeforeHeaders) => {
            reset.now();
            std::future::pending::<()>().await;
        }
        Some(Fault::Stall) => std::future::pending().await,
        Some(Fault::Delay(time)) => tokio::time::sleep(*time).await,
        Some(Fault::RevokeTokens) => lock(&inner.tokens).revoke(),
        _ => {}
    }
    if report.is_some() && !options.latency.is_zero() {
        tokio::time::sleep(options.latency).await;
    }
    let host = header(HOST.as_str()).unwrap_or_default();
    let mut reply = if let Some(reply) = fault.as_ref().and_then(|fault| replacement(fault, now)) {
        reply
    } else if let Some(tenant) = tenant.filter(|_| head.method == Method::POST) {
        let form = body
            .collect()
            .await
            .map(http_body_util::Collected::to_bytes)
            .unwrap_or_default();
        let url = format!("{scheme}://{host}{path}");
        token(
            tenant,
            &String::from_utf8_lossy(&form),
            &url,
            &request_id,
            inner,
            &options,
        )
    } else if let Some(asked) = asked.filter(|_| head.method == Method::GET) {
        if lock(&inner.tokens).admit(header(AUTHORIZATION.as_str()).as_deref(), &options.access) {
            asked.map_or_else(
                |message| Reply::odata(400, &message),
                |asked| {
                    let verbose = is_verbose(&asked, &head.headers, options.shape);
                    let link = Link {
                        query: &query,
                        origin: format!("{scheme}://{host}"),
                        fault: fault.as_ref(),
                    };
                    page(&asked, verbose, &link, now, inner, &options)
                },
            )
        } else {
            Reply::unauthorized()
        }
    } else {
        Reply::iis(404, "File or directory not found.")
    };
    if let (Some(fault), Some(asked)) = (
        &fault,
        report.and_then(|report| Query::parse(report, &query, now).ok()),
    ) {
        shift(fault, &asked, page_number, number, inner);
    }
    if reply.status == 200 && reply.page.is_some() {
        alter(&mut reply, fault.as_ref());
    }
    let accepts_gzip = head
        .headers
        .get(ACCEPT_ENCODING)
        .is_some_and(|value| value.as_bytes().windows(4).any(|w| w == b"gzip"));
    let gzip = matches!(fault, Some(Fault::GzipBomb { .. } | Fault::CutGzip))
        || (accepts_gzip && options.gzip);
    let sent = lock(&inner.ledger).answer(number, reply.status, reply.last, reply.page.take());
    let (body, gzip) = framed(std::mem::take(&mut reply.body), fault.as_ref(), gzip, reset);
    respond(reply, body.notes(sent), gzip, &request_id, now)
}

fn report_at(path: &str) -> Option<Report> {
    let (root, name) = path.split_at_checked(ROOT.len())?;
    root.eq_ignore_ascii_case(ROOT)
        .then(|| Report::by_path(name))
        .flatten()
}

fn request_id() -> String {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed);
    let noise = mix(number.wrapping_add(77));
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{number:012x}",
        noise >> 32,
        noise >> 16 & 0xffff,
        noise >> 4 & 0xfff,
        noise & 0xfff
    )
}

/// The answer that stands instead of the right one, where the fault is that.
fn replacement(fault: &Fault, now: DateTime<Utc>) -> Option<Reply> {
    let mut reply = match fault {
        Fault::BadRequest => Reply::odata(400, "The query specified in the URI is not valid."),
        Fault::Unauthorized => Reply::unauthorized(),
        Fault::Forbidden => Reply::new(
            403,
            LIGHT,
            r#"{"ErrorCode":"","Message":"No permission to access the report for the organization ."}"#,
        ),
        Fault::NotFound => Reply::iis(404, "File or directory not found."),
        Fault::ServerError => Reply::odata(500, "An unknown error occurred."),
        Fault::Throttled(_) => Reply::odata(429, "Too many requests."),
        Fault::Busy(_) => Reply::odata(503, "The data mart timed out. Please try again later."),
        Fault::SignInPage => Reply::new(
            200,
            HTML,
            "<!DOCTYPE html>\r\n<html dir=\"ltr\" lang=\"en\"><head><title>Sign in to your account</title></head>\
             <body><form method=\"post\">Sign in</form></body></html>",
        ),
        Fault::ServiceFault { status } => Reply::service_fault(*status),
        Fault::CannotProcess { status } => Reply::odata(
            *status,
            "We cannot currently process your request, please wait a few minutes and try again.",
        ),
        Fault::Answer {
            status,
            content_type,
            body,
        } => Reply::new(*status, content_type, body.as_str()),
        Fault::Redirect(location) => {
            let mut reply = Reply::new(302, HTML, "<html><body>Object moved</body></html>");
            reply.location = Some(location.clone());
            reply
        }
        _ => return None,
    };
    if let Fault::Throttled(Some(after)) | Fault::Busy(Some(after)) = fault {
        reply.retry_after = Some(match after {
            RetryAfter::Seconds(seconds) => seconds.to_string(),
            RetryAfter::Date(time) => {
                http_date(now + TimeDelta::from_std(*time).unwrap_or_default())
            }
        });
    }
    Some(reply)
}

fn http_date(time: DateTime<Utc>) -> String {
    time.format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

fn token(
    tenant: &str,
    form: &str,
    url: &str,
    request_id: &str,
    inner: &Inner,
    options: &Options,
) -> Reply {
    const JSON: &str = "application/json; charset=utf-8";
    match signin::token(tenant, form, url, &options.access, &mut lock(&inner.tokens)) {
        Ok(body) => Reply::new(200, JSON, body),
        Err(refusal) => Reply::new(refusal.status, JSON, refusal.body(request_id)),
    }
}

fn is_verbose(asked: &Query, headers: &HeaderMap, shape: Shape) -> bool {
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
struct Link<'a> {
    query: &'a str,
    origin: String,
    fault: Option<&'a Fault>,
}

impl Link<'_> {
    /// The link that leads on after `rows_so_far` rows of the result; `page` is this page, from 0.
    fn next(&self, report: Report, page: u64, rows_so_far: u64, options: &Options) -> String {
        let token = match self.fault {
            Some(Fault::RefusedLink) => Some(REFUSED_TOKEN.to_owned()),
            Some(Fault::RepeatedLink) => {
                (page > 0).then(|| (page * options.page_rows as u64 - 1).to_string())
            }
            _ => Some((rows_so_far - 1).to_string()),
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

/// One page of a result.
fn page(
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
    let rows_max = if report == Report::MailDetailAtp {
        options.detail_rows_max as u64
    } else {
        u64::MAX
    };
    let first = page.saturating_mul(options.page_rows as u64);
    let length = rows_max.saturating_sub(first).min(options.page_rows as u64);
    let length = if too_old || page >= options.pages_max {
        0
    } else {
        usize::try_from(length).unwrap_or(usize::MAX)
    };
    let slice = lock(&inner.store).slice(key, visible(asked, now), first, length);

    let echo =
        (report == Report::MessageTrace).then(|| (asked.start.timestamp(), asked.end.timestamp()));
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
    for (index, (_, content)) in (slice.first..).zip(&slice.rows) {
        if index > slice.first {
            out.push(b',');
        }
        content.write(report, &Echo { range: echo, index }, verbose, &mut out);
    }
    out.push(b']');
    // A full page links on, also where nothing follows; only the cap on pages ends the walk without a word.
    let last = slice.rows.len() < options.page_rows || page + 1 >= options.pages_max;
    if !last {
        let link = link.next(report, page, first + slice.rows.len() as u64, options);
        let name = if verbose { "__next" } else { "odata.nextLink" };
        let text = serde_json::Value::from(link).to_string();
        out.extend_from_slice(format!(",\"{name}\":{text}").as_bytes());
    }
    out.extend_from_slice(if verbose { b"}}" } else { b"}" });

    let mut reply = Reply::new(200, if verbose { VERBOSE } else { LIGHT }, out);
    reply.last = last;
    reply.page = Some(Page {
        table: key,
        numbers: slice.rows.iter().map(|(number, _)| *number).collect(),
        verbose,
    });
    reply
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

/// Lets rows come and go behind a page that was just made.
fn shift(fault: &Fault, asked: &Query, page: u64, request: usize, inner: &Inner) {
    let key = TableKey {
        report: asked.report,
        aggregate: asked.aggregate,
    };
    let mut store = lock(&inner.store);
    match fault {
        Fault::InsertRow(row) => {
            store.insert(asked.report, row.clone());
        }
        Fault::LateRow { position } => {
            let Some((_, time)) = store.at(key, asked.range(), *position) else {
                return;
            };
            let time = DateTime::from_timestamp_nanos(time * 100);
            let mut row = Row::sample(asked.report, time, mix(request as u64) ^ page);
            if let Some(aggregate) = asked.aggregate {
                row = row.aggregate(aggregate);
            }
            store.insert(asked.report, row);
        }
        Fault::VanishingRow { position } => {
            if let Some((row, _)) = store.at(key, asked.range(), *position) {
                store.remove(row);
            }
        }
        _ => {}
    }
}

/// Changes how a page is written.
fn alter(reply: &mut Reply, fault: Option<&Fault>) {
    match fault {
        Some(Fault::PrettyPrinted) => {
            reply.body = json::pretty(&String::from_utf8_lossy(&reply.body)).into_bytes()
        }
        Some(Fault::ByteOrderMark) => reply.body.splice(..0, *b"\xef\xbb\xbf").for_each(drop),
        Some(Fault::ContentType(kind)) => reply.content_type.clone_from(kind),
        Some(Fault::EndsEarly) => reply.body.truncate(reply.body.len() / 2),
        _ => {}
    }
    // What cannot be read has not been served.
    if matches!(fault, Some(Fault::EndsEarly | Fault::CutGzip)) {
        reply.page = None;
    }
}

/// The body as it goes out, and whether it is compressed.
fn framed(bytes: Vec<u8>, fault: Option<&Fault>, gzip: bool, reset: Reset) -> (Body, bool) {
    let padding = match fault {
        Some(Fault::BigBody { bytes } | Fault::GzipBomb { bytes }) => *bytes,
        _ => 0,
    };
    let body = if gzip {
        let mut packed = compressed(&bytes, padding);
        if matches!(fault, Some(Fault::CutGzip)) {
            packed.truncate(packed.len() / 2);
        }
        Body::whole([Bytes::from(packed)])
    } else {
        Body::whole(padded(bytes, padding))
    };
    let body = match fault {
        Some(Fault::CutBody) => body.cut(true, End::Cut),
        Some(Fault::CutChunked) => body.cut(false, End::Cut),
        Some(Fault::ResetAfterHeaders) => body.cut(true, End::Reset(reset)),
        Some(Fault::SlowBody { bytes_per_second }) => body.slow(*bytes_per_second),
        _ => body,
    };
    (body, gzip)
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

fn respond(
    reply: Reply,
    body: Body,
    gzip: bool,
    request_id: &str,
    now: DateTime<Utc>,
) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = hyper::StatusCode::from_u16(reply.status).unwrap_or_default();
    let mut set = |name: &'static str, value: String| {
        if let Ok(value) = value.try_into() {
            response.headers_mut().insert(name, value);
        }
    };
    set("content-type", reply.content_type);
    set("request-id", request_id.to_owned());
    set("date", http_date(now));
    set("server", "Microsoft-IIS/10.0".to_owned());
    if gzip {
        set("content-encoding", "gzip".to_owned());
    }
    if let Some(value) = reply.retry_after {
        set("retry-after", value);
    }
    if let Some(value) = reply.location {
        set("location", value);
    }
    if reply.status == 401 {
        set("www-authenticate", "Basic Realm=\"\"".to_owned());
    }
    response
}
