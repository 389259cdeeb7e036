//! The page, metrics, health, status and the last of the log over HTTP, for whoever can reach the address that is listened on.
//!
//! It answers what is asked by `GET`, without credentials, and takes nothing in; the log is shown on this machine only. Few connections at once, each with little time, small
//! requests only: whoever asks too much is refused, and collecting goes on. Each answer names the collector (see [`Identity`]).

mod identity;
pub mod page;
mod places;

use std::borrow::Cow;
use std::convert::Infallible;
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::header::{
    ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, HOST, HeaderValue, VARY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::http::uri::Authority;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use url::form_urlencoded;

pub use self::identity::Identity;
use self::page::{SERVED, page, page_of_input};
use self::places::{Place, Places, is_here};
use crate::config::Listen;
use crate::log;
use crate::monitoring::Monitor;

/// The longest that a request's head may take to come, and a whole connection to be served.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(15);

/// The largest head of a request; no reader's is larger, and hyper takes no smaller bound.
const HEAD_MAX_BYTES: usize = 8 * 1024;

/// A wait after a connection could not be taken, as where there are too many open files.
const PAUSE: Duration = Duration::from_millis(200);

/// Listens where the configuration says. A port that is taken is a warning: collecting does not depend on it.
pub async fn listen(listen: Listen) -> Option<TcpListener> {
    let Listen::At(address) = listen else {
        return None;
    };
    match bind(address).await {
        Ok((listener, address)) => {
            info!(%address, "status page, metrics and health are served");
            Some(listener)
        }
        Err(error) => {
            warn!(
                %address, error = %error,
                "status page, metrics and health are not served: give `globals.monitoring.listen` another address or port, or `off`; collecting \
                 goes on"
            );
            None
        }
    }
}

async fn bind(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// What is served, and to whom.
struct Server {
    monitor: Arc<Monitor>,
    identity: Identity,
    places: Places,
}

/// Serves until `stop` is cancelled; who is being answered then gets no answer.
pub async fn serve(
    listener: TcpListener,
    monitor: Arc<Monitor>,
    identity: Identity,
    stop: CancellationToken,
) {
    let server = Arc::new(Server {
        monitor,
        identity,
        places: Places::default(),
    });
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                debug!(%error, "a connection to the monitoring was not taken");
                sleep(PAUSE).await;
                continue;
            }
        };
        let Ok(at) = stream.local_addr() else {
            continue;
        };
        let Some(place) = server.places.take(peer, at) else {
            debug!(%peer, "too many connections to the monitoring: this one is closed");
            continue;
        };
        let (server, stop) = (Arc::clone(&server), stop.clone());
        tokio::spawn(async move {
            let gives_way = place.gives_way.clone();
            let talk = server.converse(stream, (at, peer), place);
            let talk = gives_way.run_until_cancelled(timeout(CONNECTION_TIMEOUT, talk));
            let _ = stop.run_until_cancelled(talk).await;
        });
    }
}

impl Server {
    /// One connection; what goes wrong on it is the other side's affair.
    async fn converse(
        &self,
        stream: TcpStream,
        (at, peer): (SocketAddr, SocketAddr),
        place: Place,
    ) {
        let answer = service_fn(|request| {
            place.answered();
            let mut response = answer(&request, (at, peer), &self.monitor);
            self.identity.put(response.headers_mut(), is_here(peer, at));
            async move { Ok::<_, Infallible>(response) }
        });
        let _ = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(HEAD_MAX_BYTES)
            // Whoever asks again comes again, and finds the others before him.
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), answer)
            .await;
    }
}

fn answer(
    request: &Request<Incoming>,
    (at, peer): (SocketAddr, SocketAddr),
    monitor: &Monitor,
) -> Response<Full<Bytes>> {
    if at.ip().is_loopback() && is_foreign(request) {
        return text(
            StatusCode::MISDIRECTED_REQUEST,
            "ask for localhost, or for the address\n",
        );
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "there is only GET here\n");
        let headers = response.headers_mut();
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        return response;
    }
    if !request.body().is_end_stream() {
        let mut response = text(StatusCode::PAYLOAD_TOO_LARGE, "nothing is taken in here\n");
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
        return response;
    }
    match request.uri().path() {
        "/metrics" => match monitor.metrics() {
            Ok(metrics) if takes_gzip(request) => compressed(METRICS, &metrics),
            Ok(metrics) => of(StatusCode::OK, METRICS, metrics),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}\n")),
        },
        "/" => front(request, monitor),
        "/status" => status(request, monitor),
        "/log" if peer.ip().to_canonical().is_loopback() => text(StatusCode::OK, log::recent()),
        "/log" => text(
            StatusCode::FORBIDDEN,
            "the log is shown on the collector's own machine only\n",
        ),
        "/livez" => health(&monitor.health().live),
        "/readyz" => health(&monitor.health().ready),
        "/healthz" => health(&monitor.health().healthy),
        _ => {
            let served = SERVED.join(", ");
            text(StatusCode::NOT_FOUND, format!("there are / and {served}\n"))
        }
    }
}

/// The input that `?input=NAME` asks for.
fn wanted_input(request: &Request<Incoming>) -> Option<Cow<'_, str>> {
    let query = request.uri().query().unwrap_or_default();
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find(|(key, _)| key == "input").map(|(_, name)| name)
}

fn no_input() -> Response<Full<Bytes>> {
    text(StatusCode::NOT_FOUND, "there is no input of that name\n")
}

/// The page, or with `?input=NAME` that of one input.
fn front(request: &Request<Incoming>, monitor: &Monitor) -> Response<Full<Bytes>> {
    let Some(name) = wanted_input(request) else {
        return of_page(page(&monitor.status()));
    };
    match monitor.status().of_input(&name) {
        Some(status) => of_page(page_of_input(&status, &name)),
        None => no_input(),
    }
}

/// All there is to know, or with `?input=NAME` what there is of one input.
fn status(request: &Request<Incoming>, monitor: &Monitor) -> Response<Full<Bytes>> {
    let Some(name) = wanted_input(request) else {
        return json(&monitor.status());
    };
    match monitor.status().of_input(&name) {
        Some(status) => json(&status),
        None => no_input(),
    }
}

/// Whether a browser may have been led here by somebody else's name for this machine, to read what only this machine may.
fn is_foreign(request: &Request<Incoming>) -> bool {
    let host = request.headers().get(HOST);
    let Some(authority) = host.and_then(|host| Authority::try_from(host.as_bytes()).ok()) else {
        return host.is_some();
    };
    let name = authority.host().trim_matches(['[', ']']);
    name.parse::<IpAddr>().is_err() && !name.eq_ignore_ascii_case("localhost")
}

/// Whether the client says that it understands gzip.
fn takes_gzip(request: &Request<Incoming>) -> bool {
    let headers = request.headers().get_all(ACCEPT_ENCODING).iter();
    let codings = headers.filter_map(|header| header.to_str().ok());
    codings
        .flat_map(|header| header.split(','))
        .any(accepts_gzip)
}

/// Whether one element of `Accept-Encoding` lets gzip through.
fn accepts_gzip(element: &str) -> bool {
    let (coding, weight) = element.split_once(';').unwrap_or((element, ""));
    let weight = weight.trim().strip_prefix("q=").unwrap_or("1");
    let is_refused = weight.parse().is_ok_and(|weight: f64| weight <= 0.0);
    coding.trim().eq_ignore_ascii_case("gzip") && !is_refused
}

/// The same text gzipped: quickly, since names repeat so much that it is a twentieth then.
fn compressed(kind: &'static str, text: &str) -> Response<Full<Bytes>> {
    let mut encoder = GzEncoder::new(vec![], Compression::fast());
    let gzipped = encoder
        .write_all(text.as_bytes())
        .and_then(|()| encoder.finish());
    let Ok(gzipped) = gzipped else {
        // Writing to memory does not fail.
        return of(StatusCode::OK, kind, text.to_owned());
    };
    let mut response = of(StatusCode::OK, kind, gzipped);
    let headers = response.headers_mut();
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    response
}

/// Prometheus's text format, as its own client libraries call it.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";

/// The page holds all that it shows. No text in it can become anything else, and this keeps a browser from believing one that had.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

fn of_page(page: String) -> Response<Full<Bytes>> {
    let mut response = of(StatusCode::OK, HTML, page);
    let policy = HeaderValue::from_static(PAGE_POLICY);
    response
        .headers_mut()
        .insert(CONTENT_SECURITY_POLICY, policy);
    response
}

fn health(obstacles: &[String]) -> Response<Full<Bytes>> {
    if obstacles.is_empty() {
        return text(StatusCode::OK, "ok\n");
    }
    let lines = obstacles.join("\n") + "\n";
    text(StatusCode::SERVICE_UNAVAILABLE, lines)
}

fn json(value: &impl Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_vec_pretty(value) {
        Ok(json) => of(StatusCode::OK, JSON, json),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    of(status, TEXT, text)
}

fn of(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_taken_where_it_is_offered_and_not_where_it_is_refused() {
        for (element, expected) in [
            ("gzip", true),
            (" GZip ; q=0.5", true),
            ("gzip;q=1.0", true),
            ("gzip;q=0", false),
            ("gzip; q=0.0", false),
            ("deflate", false),
            ("*", false),
            ("", false),
        ] {
            assert_eq!(accepts_gzip(element), expected, "{element:?}");
        }
    }
}
