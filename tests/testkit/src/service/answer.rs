//! From a request to its answer: the ledger's note, the fault if one is ordered, the access, the page.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use http_body_util::{BodyExt as _, Collected};
use hyper::body::Incoming;
use hyper::header::{ACCEPT_ENCODING, AUTHORIZATION, HOST};
use hyper::http::request::Parts;
use hyper::{Method, Response};

use super::body::Body;
use super::faults::Fault;
use super::generator::mix;
use super::head::Head;
use super::ledger::Request;
use super::options::Options;
use super::page::{Link, alter, coding, framed, is_verbose, page};
use super::query::Query;
use super::reply::{Reply, repeating, replacement, respond};
use super::row::Row;
use super::script::Occasion;
use super::server::Reset;
use super::store::TableKey;
use super::{Inner, signin};
use crate::report::Report;
use crate::sync::lock;

/// Where reports lie; the case of a path does not matter.
pub(crate) const ROOT: &str = "/ecp/reportingwebservice/reporting.svc/";

/// Answers a request.
pub(crate) async fn answer(
    request: hyper::Request<Incoming>,
    scheme: &str,
    inner: &Arc<Inner>,
    reset: Reset,
    head_lines: &Head,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let (options, id) = (inner.options(), request_id());
    let asked = Asked::read(head, scheme, inner.now());
    let now = inner.now() + asked.clock_offset(&options);
    let (in_flight, count) = asked.report.map(|_| inner.in_flight.enter()).unzip();
    let mut note = asked.note(&id, options.page_rows);
    note.in_flight = count.unwrap_or_default();
    let fault = asked.fault(&note, inner);
    note.fault = fault.as_ref().map(Fault::name);
    let number = lock(&inner.ledger).begin(note);
    let (date_offset, fault) = fault.map_or_else(Default::default, Fault::undated);

    hold(fault.as_ref(), inner, &reset).await;
    if asked.report.is_some() && !options.latency.is_zero() {
        tokio::time::sleep(options.latency).await;
    }
    let mut reply = match fault.as_ref().and_then(|fault| replacement(fault, now)) {
        Some(reply) => reply,
        None if asked.tenant().is_some() => {
            let form = body.collect().await.map(Collected::to_bytes);
            let form = String::from_utf8_lossy(&form.unwrap_or_default()).into_owned();
            match Asked::repeated(fault.as_ref(), &form) {
                Some(reply) => reply,
                None => asked.token(&form, &id, now, inner, &options),
            }
        }
        None => match Asked::repeated(fault.as_ref(), asked.header(AUTHORIZATION.as_str())) {
            Some(reply) => reply,
            None => asked.page(fault.as_ref(), now, inner, &options),
        },
    };
    if let (Some(fault), Some(Ok(query)), Some(_)) = (&fault, &asked.query, &reply.page) {
        shift(fault, query, number, inner);
        alter(&mut reply, fault);
    }
    if let Some(Fault::HeadLines(lines)) = &fault {
        head_lines.add(lines);
    }
    let (coding, layers) = coding(fault.as_ref(), asked.allows_gzip(&options));
    let sent = lock(&inner.ledger).answer(number, reply.status, reply.last, reply.page.take());
    let bytes = std::mem::take(&mut reply.body);
    let body = framed(bytes, fault.as_ref(), layers, reset);
    let body = body.notes(sent).holds(in_flight);
    respond(reply, body, coding, &id, now + date_offset)
}

/// Does what a fault does before there is any answer.
async fn hold(fault: Option<&Fault>, inner: &Inner, reset: &Reset) {
    match fault {
        Some(Fault::ResetBeforeHeaders) => {
            reset.now();
            std::future::pending::<()>().await;
        }
        Some(Fault::Stall) => std::future::pending().await,
        Some(Fault::Delay(time)) => tokio::time::sleep(*time).await,
        Some(Fault::RevokeTokens) => lock(&inner.tokens).revoke(),
        _ => {}
    }
}

/// A request, as far as it has been understood.
struct Asked {
    head: Parts,
    origin: String,
    report: Option<Report>,
    query: Option<Result<Query, String>>,
}

impl Asked {
    fn read(head: Parts, scheme: &str, now: DateTime<Utc>) -> Asked {
        let report = report_at(head.uri.path());
        let text = head.uri.query().unwrap_or_default();
        let query = report.map(|report| Query::parse(report, text, now));
        let host = head.headers.get(HOST).and_then(|host| host.to_str().ok());
        let origin = format!("{scheme}://{}", host.unwrap_or_default());
        Asked {
            head,
            origin,
            report,
            query,
        }
    }

    /// A header's value, or nothing.
    fn header(&self, name: &str) -> &str {
        let value = self.head.headers.get(name);
        value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// What the clock of whoever answers differs by from the service's.
    fn clock_offset(&self, options: &Options) -> TimeDelta {
        match self.tenant() {
            Some(_) => options.directory_clock_offset,
            None => TimeDelta::zero(),
        }
    }

    fn allows_gzip(&self, options: &Options) -> bool {
        options.gzip && self.header(ACCEPT_ENCODING.as_str()).contains("gzip")
    }

    /// The directory that a token is asked for, if one is.
    fn tenant(&self) -> Option<&str> {
        let path = self.head.uri.path().strip_prefix('/')?;
        let tenant = path.strip_suffix("/oauth2/v2.0/token")?;
        (self.head.method == Method::POST).then_some(tenant)
    }

    fn note(&self, request_id: &str, page_rows: usize) -> Request {
        let query = self.query.as_ref().and_then(|query| query.as_ref().ok());
        let some = |name| {
            Some(self.header(name))
                .filter(|value| !value.is_empty())
                .map(str::to_owned)
        };
        let scheme = some(AUTHORIZATION.as_str());
        Request {
            time: Utc::now(),
            report: self.report,
            path: self.head.uri.path().to_owned(),
            query: self.head.uri.query().unwrap_or_default().to_owned(),
            range: query.map(|query| (query.start, query.end)),
            aggregate: query.and_then(|query| query.aggregate),
            page: query.map_or(1, |query| query.page(page_rows) + 1),
            status: 0,
            request_id: request_id.to_owned(),
            fault: None,
            rows: 0,
            last: false,
            version: some("x-rws-version"),
            encoding: some(ACCEPT_ENCODING.as_str()),
            scheme: scheme.and_then(|value| value.split(' ').next().map(str::to_owned)),
            in_flight: 0,
            sent: false,
        }
    }

    fn fault(&self, note: &Request, inner: &Inner) -> Option<Fault> {
        if self.report.is_none() && self.tenant().is_none() {
            return None;
        }
        let span = note
            .range
            .map_or(TimeDelta::zero(), |(start, end)| end - start);
        lock(&inner.script).take(Occasion {
            report: self.report,
            page: note.page,
            span,
        })
    }

    fn repeated(fault: Option<&Fault>, asked: &str) -> Option<Reply> {
        match fault? {
            Fault::Repeats {
                status,
                headers,
                body,
            } => Some(repeating(*status, headers, body, asked)),
            _ => None,
        }
    }

    fn token(
        &self,
        form: &str,
        request_id: &str,
        now: DateTime<Utc>,
        inner: &Inner,
        options: &Options,
    ) -> Reply {
        const JSON: &str = "application/json; charset=utf-8";
        let tenant = self.tenant().unwrap_or_default();
        let url = format!("{}{}", self.origin, self.head.uri.path());
        match signin::token(
            tenant,
            form,
            &url,
            &options.access,
            now,
            &mut lock(&inner.tokens),
        ) {
            Ok(body) => Reply::new(200, JSON, body),
            Err(refusal) => Reply::new(refusal.status, JSON, refusal.body(request_id)),
        }
    }

    fn page(
        &self,
        fault: Option<&Fault>,
        now: DateTime<Utc>,
        inner: &Inner,
        options: &Options,
    ) -> Reply {
        let Some(query) = self
            .query
            .as_ref()
            .filter(|_| self.head.method == Method::GET)
        else {
            return Reply::iis(404, "File or directory not found.");
        };
        let authorization = self.header(AUTHORIZATION.as_str());
        if !lock(&inner.tokens).admit(authorization, &options.access) {
            return Reply::unauthorized();
        }
        match query {
            Err(message) => Reply::odata(400, message),
            Ok(query) => {
                let link = Link {
                    query: self.head.uri.query().unwrap_or_default(),
                    origin: &self.origin,
                    fault,
                };
                let shape = match fault {
                    Some(Fault::Shaped(shape)) => *shape,
                    _ => options.shape,
                };
                let verbose = is_verbose(query, &self.head.headers, shape);
                page(query, verbose, &link, now, inner, options)
            }
        }
    }
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
    let (second, third, fourth) = (noise >> 16 & 0xffff, noise >> 4 & 0xfff, noise & 0xfff);
    format!(
        "{:08x}-{second:04x}-4{third:03x}-8{fourth:03x}-{number:012x}",
        noise >> 32
    )
}

/// Lets rows come and go behind a page that was just made.
fn shift(fault: &Fault, query: &Query, request: usize, inner: &Inner) {
    let (report, aggregate) = (query.report, query.aggregate);
    let key = TableKey { report, aggregate };
    let mut store = lock(&inner.store);
    match fault {
        Fault::InsertRow(row) => {
            store.insert(report, row.clone());
        }
        Fault::LateRow { position } => {
            // A position beyond the last row is the end of the result.
            let time = store
                .at(key, query.range(), *position)
                .map_or(query.range().0, |(_, time)| time);
            let time = DateTime::from_timestamp_nanos(time * 100);
            store.insert(
                report,
                Row::sample_by(report, aggregate, time, mix(request as u64)),
            );
        }
        Fault::VanishingRow { position } => {
            if let Some((row, _)) = store.at(key, query.range(), *position) {
                store.remove(row);
            }
        }
        _ => {}
    }
}
