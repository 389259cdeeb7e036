//! From a request to its answer: the ledger's note, the fault if one is ordered, the access, the page.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use http_body_util::{BodyExt as _, Collected};
use hyper::body::Incoming;
use hyper::header::{ACCEPT_ENCODING, AUTHORIZATION, HOST};
use hyper::http::request::Parts;
use hyper::{Method, Response};

use super::body::Body;
use super::faults::Fault;
use super::gauge::Gauge;
use super::generator::{Ticks, mix, ticks};
use super::graph;
use super::head::Head;
use super::ledger::{Endpoint, Request};
use super::options::Options;
use super::page::{Link, alter, coding, framed, is_verbose, page};
use super::query::Query;
use super::reply::{Reply, repeating, replacement, respond};
use super::retirement::Retirement;
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
    let asked = Asked::read(head, scheme, inner.now(), &options);
    let now = inner.now() + asked.clock_offset(&options);
    let gauge = match asked.endpoint {
        Endpoint::Reports => Some(&inner.in_flight),
        Endpoint::Graph => Some(&inner.graph_in_flight),
        Endpoint::Token | Endpoint::Elsewhere => None,
    };
    let (in_flight, count) = gauge.map(Gauge::enter).unzip();
    let mut note = asked.note(&id, inner, &options);
    note.in_flight = count.unwrap_or_default();
    let fault = asked.fault(&note, inner);
    note.fault = fault.as_ref().map(Fault::name);
    let number = lock(&inner.ledger).begin(note);
    let (date_offset, fault) = fault.map_or_else(Default::default, Fault::undated);

    hold(fault.as_ref(), inner, &reset).await;
    let latency = match asked.endpoint {
        Endpoint::Reports => options.latency,
        Endpoint::Graph => options.graph.latency,
        Endpoint::Token | Endpoint::Elsewhere => Duration::ZERO,
    };
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let mut reply = match asked.replacement(fault.as_ref(), now) {
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
            None => match &asked.graph {
                Some(query) => asked.graph_page(query, fault.as_ref(), &id, now, inner, &options),
                None => asked.page(fault.as_ref(), now, inner, &options),
            },
        },
    };
    if let (Some(fault), Some(rows), Some(_)) = (&fault, asked.rows(&options), &reply.page) {
        shift(fault, rows, number, inner);
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
    endpoint: Endpoint,
    report: Option<Report>,
    query: Option<Result<Query, String>>,
    /// What a request to Graph asks for.
    graph: Option<Result<graph::Query, graph::Refusal>>,
}

impl Asked {
    fn read(head: Parts, scheme: &str, now: DateTime<Utc>, options: &Options) -> Asked {
        let report = report_at(head.uri.path());
        let is_graph = head.uri.path() == graph::PATH;
        let endpoint = match report {
            Some(_) => Endpoint::Reports,
            None if is_graph => Endpoint::Graph,
            None if tenant(&head).is_some() => Endpoint::Token,
            None => Endpoint::Elsewhere,
        };
        let text = head.uri.query().unwrap_or_default();
        let query = report.map(|report| Query::parse(report, text, now));
        let graph = is_graph.then(|| graph::Query::parse(text, now, &options.graph));
        let host = head.headers.get(HOST).and_then(|host| host.to_str().ok());
        let origin = format!("{scheme}://{}", host.unwrap_or_default());
        Asked {
            head,
            origin,
            endpoint,
            report,
            query,
            graph,
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

    fn tenant(&self) -> Option<&str> {
        tenant(&self.head)
    }

    /// The rows that the request chooses from: their table, and a range of ticks.
    fn rows(&self, options: &Options) -> Option<(TableKey, (Ticks, Ticks))> {
        match (&self.query, &self.graph) {
            (Some(Ok(query)), _) => {
                let (report, aggregate) = (query.report, query.aggregate);
                Some((TableKey { report, aggregate }, query.range()))
            }
            (_, Some(Ok(query))) => Some((graph::TABLE, query.range(&options.graph))),
            _ => None,
        }
    }

    fn note(&self, request_id: &str, inner: &Inner, options: &Options) -> Request {
        let query = self.query.as_ref().and_then(|query| query.as_ref().ok());
        let graph = self.graph.as_ref().and_then(|query| query.as_ref().ok());
        let some = |name| {
            Some(self.header(name))
                .filter(|value| !value.is_empty())
                .map(str::to_owned)
        };
        let scheme = some(AUTHORIZATION.as_str());
        Request {
            time: Utc::now(),
            endpoint: self.endpoint,
            report: self.report,
            path: self.head.uri.path().to_owned(),
            query: self.head.uri.query().unwrap_or_default().to_owned(),
            range: query
                .map(|query| (query.start, query.end))
                .or_else(|| graph.map(graph::Query::bounds)),
            aggregate: query.and_then(|query| query.aggregate),
            page: match (query, graph) {
                (Some(query), _) => query.page(options.page_rows) + 1,
                (None, Some(query)) => lock(&inner.walks).page(query),
                (None, None) => 1,
            },
            status: 0,
            request_id: request_id.to_owned(),
            fault: None,
            rows: 0,
            last: false,
            version: some("x-rws-version"),
            encoding: some(ACCEPT_ENCODING.as_str()),
            scheme: scheme.and_then(|value| value.split(' ').next().map(str::to_owned)),
            top: graph.map(|query| query.token.size),
            in_flight: 0,
            sent: false,
        }
    }

    fn fault(&self, note: &Request, inner: &Inner) -> Option<Fault> {
        if self.endpoint == Endpoint::Elsewhere {
            return None;
        }
        let span = note
            .range
            .map_or(TimeDelta::zero(), |(start, end)| end - start);
        lock(&inner.script).take(Occasion {
            endpoint: self.endpoint,
            report: self.report,
            page: note.page,
            span,
        })
    }

    /// The answer that a fault puts in the place of the right one. Graph has words of its own for most of them, and a budget before all.
    fn replacement(&self, fault: Option<&Fault>, now: DateTime<Utc>) -> Option<Reply> {
        let fault = fault.filter(|_| self.endpoint != Endpoint::Graph)?;
        replacement(fault, now)
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

    fn graph_page(
        &self,
        query: &Result<graph::Query, graph::Refusal>,
        fault: Option<&Fault>,
        request_id: &str,
        now: DateTime<Utc>,
        inner: &Inner,
        options: &Options,
    ) -> Reply {
        let asked = graph::Asked {
            head: &self.head,
            origin: &self.origin,
            query,
            authorization: self.header(AUTHORIZATION.as_str()),
            request_id,
            fault,
        };
        graph::answer(&asked, now, inner, options)
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
        let retirement = options
            .retirement
            .filter(|_| self.report == Some(Report::MessageTrace));
        if let Some(reply) = retirement.and_then(Retirement::reply) {
            return reply;
        }
        let fault = match retirement {
            Some(_) => Some(&Fault::NoRows),
            None => fault,
        };
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

/// The directory that a token is asked for, if one is.
fn tenant(head: &Parts) -> Option<&str> {
    let path = head.uri.path().strip_prefix('/')?;
    let tenant = path.strip_suffix("/oauth2/v2.0/token")?;
    (head.method == Method::POST).then_some(tenant)
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
fn shift(fault: &Fault, (key, range): (TableKey, (Ticks, Ticks)), request: usize, inner: &Inner) {
    let TableKey { report, aggregate } = key;
    let now = ticks(inner.now());
    let mut store = lock(&inner.store);
    match fault {
        Fault::InsertRow(row) => {
            store.insert(report, row.clone(), None);
        }
        Fault::LateRow { position } => {
            // A position beyond the last row is the end of the result.
            let time = store
                .at(key, range, *position, now)
                .map_or(range.0, |(_, time)| time);
            let time = DateTime::from_timestamp_nanos(time * 100);
            store.insert(
                report,
                Row::sample_by(report, aggregate, time, mix(request as u64)),
                None,
            );
        }
        Fault::VanishingRow { position } => {
            if let Some((row, _)) = store.at(key, range, *position, now) {
                store.remove(row);
            }
        }
        _ => {}
    }
}
