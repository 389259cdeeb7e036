//! One request at a time: signed, within the budget, and its answer read within bounds.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use chrono::{DateTime, Utc};
use reqwest::StatusCode;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue,
};
use url::Url;

use super::answer::{self, Refusal};
use super::authorization::Authorization;
use super::clock::{self, RemoteClock};
use super::concurrency::{Concurrency, Overall, Share};
use super::error::{FetchError, Kind};
use super::limiter::Limiter;
use super::meter::Meter;
use super::proxy::{self, Proxies};
use super::roles::Roles;
use super::sign_in::SignIn;
use super::{Pending, RemoteTimes, graph, tls};
use crate::blocking;
use crate::config::{Credentials, Input, is_loopback};
use crate::foreign::Hidden;

/// The longest that a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection that nothing is asked on is kept: its buffers are as large as a quarter of a page, and a service in step asks once
/// a minute.
const POOL_IDLE: Duration = Duration::from_secs(15);
/// The longest that a request may take, body included: the service computes for minutes.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(10);
/// The most header lines of an answer; the HTTP library's own limit is 100.
const HEADERS_MAX: usize = 400;
/// Requests to Graph in flight beyond one: more would only use its budget up sooner (seen).
const GRAPH_CONCURRENT: u32 = 2;
/// The largest body of an answer, decompressed.
pub(super) const BODY_MAX_BYTES: usize = 32 * 1024 * 1024;

/// An input's way to the reporting service. Clones share connections, sign-in, budget and the service's clock.
#[derive(Clone)]
pub struct Client(pub(super) Arc<Shared>);

/// Which of Microsoft's services a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Api {
    Reports,
    Graph,
}

/// A request budget that is shared with other programs.
pub trait Charge: Send + Sync {
    /// Waits until one request more may be made, and notes that it is made. Cancel safe.
    fn charge(&self) -> Pending<'_, ()>;
}

pub(super) struct Shared {
    api: Api,
    charge: Option<Arc<dyn Charge>>,
    pub(super) http: reqwest::Client,
    pub(super) base_url: Url,
    pub(super) sign_in: SignIn,
    pub(super) limiter: Arc<Limiter>,
    /// The services' own budgets, beside that of all.
    limiters: HashMap<&'static str, Limiter>,
    pub(super) proxies: Proxies,
    clock: RemoteClock,
    concurrency: Arc<Concurrency>,
    /// The passwords of proxies, which these may repeat.
    _hidden: Vec<Hidden>,
}

impl Client {
    /// Prepares to ask for an input's reports; nothing is sent yet.
    ///
    /// Fails if `ca_bundle`, the client's certificate or its key cannot be used, or there is nothing to trust for HTTPS.
    pub fn new(input: &Input) -> anyhow::Result<Self> {
        Client::within(input, &Overall::default())
    }

    /// The same for one of several inputs, which have no more requests in flight than `overall` allows.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn within(input: &Input, overall: &Overall) -> anyhow::Result<Self> {
        let context = || format!("input `{}`", input.name);
        let proxies = Proxies::from_environment().with_context(context)?;
        let reports = http(input, &input.base_url, Api::Reports, &proxies).with_context(context)?;
        let alike = is_loopback(&input.base_url) == is_loopback(&input.authority_url);
        let tokens = if alike {
            reports.clone()
        } else {
            http(input, &input.authority_url, Api::Reports, &proxies).with_context(context)?
        };
        let limiter = Limiter::new(input.requests_per_second, &input.requests_limits);
        let limiter = Arc::new(limiter);
        let sign_in =
            SignIn::new(input, &input.scope, &tokens, &limiter, &proxies).with_context(context)?;
        Ok(Self(Arc::new(Shared {
            api: Api::Reports,
            charge: None,
            http: reports,
            base_url: input.base_url.clone(),
            sign_in,
            limiter,
            limiters: limiters(input),
            proxies,
            clock: RemoteClock::default(),
            concurrency: Arc::new(Concurrency::new(input.concurrent_requests, overall)),
            _hidden: proxy::passwords(),
        })))
    }

    /// The way to Microsoft Graph, whose requests are charged to `charge`; `None` where the input has none. Nothing is sent yet.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn graph(
        input: &Input,
        charge: Arc<dyn Charge>,
        overall: &Overall,
    ) -> anyhow::Result<Option<Self>> {
        let has_application = !matches!(input.credentials, Credentials::Basic { .. });
        let Some(graph) = input.graph.as_ref().filter(|_| has_application) else {
            return Ok(None);
        };
        let context = || format!("input `{}`", input.name);
        let proxies = Proxies::from_environment().with_context(context)?;
        let http = http(input, &graph.url, Api::Graph, &proxies).with_context(context)?;
        let limiter = Arc::new(Limiter::new(input.requests_per_second, &[]));
        let sign_in =
            SignIn::new(input, &graph.scope, &http, &limiter, &proxies).with_context(context)?;
        Ok(Some(Self(Arc::new(Shared {
            api: Api::Graph,
            charge: Some(charge),
            http,
            base_url: graph.url.clone(),
            sign_in,
            limiter,
            limiters: limiters(input),
            proxies,
            clock: RemoteClock::default(),
            concurrency: Arc::new(Concurrency::new(
                input.concurrent_requests.min(GRAPH_CONCURRENT),
                overall,
            )),
            _hidden: proxy::passwords(),
        }))))
    }

    /// The service's root, ending in a slash.
    pub(super) fn base_url(&self) -> &Url {
        &self.0.base_url
    }

    /// A service's share of the requests that the input may have in flight.
    pub fn share(&self) -> Share {
        Share::new(&self.0.concurrency)
    }

    /// Gets a token, if the input signs in with one; the walks that follow use it.
    ///
    /// # Errors
    /// The tenant's directory gives none.
    pub async fn sign_in(&self) -> Result<(), FetchError> {
        self.0.sign_in.authorization().await.map(drop)
    }

    /// What is left of the pause that the service asked for; `None` when there is none.
    pub fn paused(&self) -> Option<Duration> {
        self.0.limiter.paused()
    }

    /// The service's clock now: the `Date` of its last answer and the time since. `None` before the first answer.
    pub fn service_time(&self) -> Option<DateTime<Utc>> {
        self.0.clock.now()
    }

    /// Takes the service's time from an answer that was a page.
    pub(super) fn hear(&self, date: Option<DateTime<Utc>>) {
        if let Some(date) = date {
            self.0.clock.set(date);
        }
    }

    /// Takes the time from a refusal, which may come from any gateway on the way, only where another clock says nearly the same.
    fn hear_refusal(&self, date: Option<DateTime<Utc>>) {
        let others = [Some(Utc::now()), self.directory_time()];
        let near = |other: DateTime<Utc>| {
            date.is_some_and(|date| (date - other).abs() <= clock::DIFFERENCE_MAX)
        };
        if others.into_iter().flatten().any(near) {
            self.hear(date);
        }
    }

    /// The clock of the tenant's directory now: the `Date` of its last token and the time since. `None` before the first token, and where there
    /// are none.
    pub fn directory_time(&self) -> Option<DateTime<Utc>> {
        self.0.sign_in.directory_time()
    }

    /// What the clocks at the other side say now.
    pub(crate) fn clocks(&self) -> RemoteTimes {
        RemoteTimes {
            service: self.service_time(),
            service_age: self.0.clock.age(),
            directory: self.directory_time(),
        }
    }

    /// When the token at hand ends; `None` where there is none.
    pub fn token_expiry(&self) -> Option<DateTime<Utc>> {
        self.0.sign_in.token_expiry()
    }

    /// The permissions that the token at hand names; `None` where there is none.
    pub fn roles(&self) -> Option<Roles> {
        self.0.sign_in.roles()
    }

    /// When the certificate ends that the application signs in with; `None` where there is none, or where it cannot be read. Blocks on
    /// the disk.
    pub fn certificate_expiry(&self) -> Option<DateTime<Utc>> {
        self.0.sign_in.certificate_expiry()
    }

    /// Asks for the page at `url` within the budget of `service`, with a new token if the reporting service rejects the one at hand.
    pub(super) async fn fetch(
        &self,
        service: &str,
        url: &Url,
        followed: bool,
        hint: usize,
        meter: Option<&dyn Meter>,
    ) -> Result<Body, FetchError> {
        let sign_in = &self.0.sign_in;
        // Before the turn: who waited for a token with a turn in hand would use it late, and others with it at once.
        sign_in.authorization().await?;
        self.turn(service, meter).await;
        // And after it, since a turn may be an hour away.
        let authorization = sign_in.authorization().await?;
        let error = match self.ask(url, &authorization, followed, hint, meter).await {
            Err(error) if error.kind() == Kind::Unauthorized => error,
            answered => return answered,
        };
        if !sign_in.drop_rejected(&authorization) {
            return Err(error);
        }
        // Again before and after the turn: the 401 may have come with a pause that is longer than a token lasts.
        sign_in.authorization().await?;
        self.turn(service, meter).await;
        let authorization = sign_in.authorization().await?;
        self.ask(url, &authorization, followed, hint, meter).await
    }

    async fn turn(&self, service: &str, meter: Option<&dyn Meter>) {
        // The budgets of others first: a turn of the tenant must not wait for them.
        let begun = tokio::time::Instant::now();
        if let Some(charge) = &self.0.charge {
            charge.charge().await;
        }
        let charged = begun.elapsed();
        let own = match self.0.limiters.get(service) {
            Some(limiter) => limiter.turn().await.budget,
            None => Duration::ZERO,
        };
        let mut waited = self.0.limiter.turn().await;
        waited.budget += own + charged;
        if let Some(meter) = meter {
            meter.waited(waited);
        }
    }

    /// Makes one request, and notes what came of it.
    async fn ask(
        &self,
        url: &Url,
        authorization: &Authorization,
        followed: bool,
        hint: usize,
        meter: Option<&dyn Meter>,
    ) -> Result<Body, FetchError> {
        let begun = Instant::now();
        let mut status = None;
        let answer = self.answer(url, authorization, followed, hint, &mut status);
        let answer = answer.await;
        if let Some(meter) = meter {
            meter.answered(status, begun.elapsed());
        }
        answer
    }

    async fn answer(
        &self,
        url: &Url,
        authorization: &Authorization,
        followed: bool,
        hint: usize,
        answered: &mut Option<StatusCode>,
    ) -> Result<Body, FetchError> {
        let request = self.0.http.get(url.clone());
        let sent = request.header(AUTHORIZATION, authorization.header()).send();
        let response = match sent.await {
            Ok(response) => response,
            Err(error) => return Err(answer::unanswered(error, url, &self.0.proxies).await),
        };
        let date = clock::date(response.headers());
        let status = response.status();
        *answered = Some(status);
        if let Some(pause) = answer::pause(status, response.headers()) {
            self.0.limiter.pause(pause);
        }
        let request_id = answer::request_id(response.headers());
        if status == StatusCode::OK {
            return match answer::body(response, BODY_MAX_BYTES, hint).await {
                Ok((json, turn)) => Ok(Body {
                    json,
                    turn,
                    request_id,
                    date,
                }),
                Err(error) => Err(error.with_request_id(request_id)),
            };
        }
        self.hear_refusal(date);
        let headers = response.headers().clone();
        let body = answer::fault_body(response).await;
        let basic = self.0.sign_in.is_basic();
        let refusal = Refusal {
            status,
            headers: &headers,
            followed,
            basic,
        };
        let error = answer::refused(refusal, &body).with_signs(status, &body);
        let error = match self.0.api {
            Api::Reports => error,
            Api::Graph => graph::advised(error, &body),
        };
        Err(error.with_request_id(request_id))
    }
}

/// A limiter for each service that has budgets of its own.
fn limiters(input: &Input) -> HashMap<&'static str, Limiter> {
    let services = input.services.iter();
    services
        .filter(|service| !service.requests_limits.is_empty())
        .map(|service| {
            let own = Limiter::new(NonZeroU32::MAX, &service.requests_limits);
            (service.report.service, own)
        })
        .collect()
}

/// What the service answered with status 200.
pub(super) struct Body {
    pub(super) json: Vec<u8>,
    /// Kept until the bytes are a page, which is smaller.
    pub(super) turn: answer::LargeTurn,
    pub(super) request_id: Option<String>,
    /// When the answer was made, as it says.
    pub(super) date: Option<DateTime<Utc>>,
}

/// The way to `url`'s host: HTTP/1.1 through the system's proxies, compressed, and never redirected: requests carry credentials.
fn http(input: &Input, url: &Url, api: Api, proxies: &Proxies) -> anyhow::Result<reqwest::Client> {
    let signs_in_elsewhere = !matches!(input.credentials, Credentials::Basic { .. });
    let https = input.base_url.scheme() == "https"
        || (signs_in_elsewhere && input.authority_url.scheme() == "https");
    let mut headers = HeaderMap::from_iter([
        // Without `$format` in the query this is the light shape.
        (ACCEPT, HeaderValue::from_static("application/json")),
        (ACCEPT_ENCODING, HeaderValue::from_static("gzip")),
        // What is true now, and not what a proxy remembers.
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        // In the header only: the same in the query as well is an error.
        (
            HeaderName::from_static("x-rws-version"),
            HeaderValue::from_static("2013-V1"),
        ),
    ]);
    if api == Api::Graph {
        headers.remove("x-rws-version");
    }
    let builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls::config(input.ca_bundle.as_deref(), https)?)
        .user_agent(concat!(
            env!("CARGO_PKG_NAME"),
            "/",
            env!("CARGO_PKG_VERSION")
        ))
        .default_headers(headers)
        .http1_only()
        .dns_resolver(Resolver)
        // `answer` decompresses: reqwest knows codings in small letters only, and passes on what it does not know.
        .no_gzip()
        .no_deflate()
        .no_brotli()
        .no_zstd()
        // A header that is malformed is ignored where the answer is whole without it.
        .http1_ignore_invalid_headers_in_responses(true)
        .http1_allow_spaces_after_header_name_in_responses(true)
        .http1_allow_obsolete_multiline_headers_in_responses(true)
        .http1_max_headers(HEADERS_MAX)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(POOL_IDLE)
        .timeout(REQUEST_TIMEOUT);
    let builder = proxies.apply(builder, url)?;
    builder.build().context("cannot set HTTP up")
}

/// The system's resolver, on threads of our own: reqwest's own panics where the system gives no thread.
struct Resolver;

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            // The port is the URL's, which reqwest fills in.
            let addresses = blocking::resolve(name.as_str(), 0).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
