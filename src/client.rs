//! The reporting service's client: windows are walked page by page, each request signed and within the budget.
//!
//! A [`Walk`] asks for one page at a time and keeps its position: a page that could not be had is asked for again by the
//! next call. Nothing here sleeps on an error, tries again in a loop, or looks at the stop signal: an error tells its
//! [`Remedy`], and the service's loop obeys. The one thing waited for is a turn of the [`Limiter`].
//!
//! The one exception is a token that the service rejects: it is renewed once and the request is made again at once, since a
//! token may end in the middle of a walk.

mod answer;
mod assertion;
mod auth;
mod clock;
mod error;
mod fault;
mod link;
mod meter;
mod page;
mod pem;
mod refusal;
mod route;
mod tls;
mod verbose;

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use chrono::{DateTime, Utc};
use reqwest::StatusCode;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use tokio_util::task::AbortOnDropHandle;
use url::Url;

pub use self::error::{FetchError, Kind, Remedy};
pub use self::meter::Meter;
pub use self::page::Page;
pub use self::route::Route;

use self::answer::Refusal;
use self::auth::{Authorization, SignIn};
use self::clock::RemoteClock;
use crate::config::{AggregateBy, Credentials, Input, is_loopback};
use crate::limiter::Limiter;
use crate::record::Fingerprinter;
use crate::report::Report;

/// The longest that a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection that nothing is asked on is kept: its buffers are as large as a quarter of a page, and a service in step asks once
/// a minute.
const POOL_IDLE: Duration = Duration::from_secs(15);
/// The longest that a request may take, body included: the service computes for minutes.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(10);
/// The largest body of an answer, decompressed.
const BODY_MAX_BYTES: usize = 32 * 1024 * 1024;
/// The most pages that a query has; the service cuts off what is beyond.
const PAGES_MAX: u32 = 1_000;

/// An input's way to the reporting service. Clones share connections, sign-in, budget and the service's clock.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

struct Shared {
    http: reqwest::Client,
    base_url: Url,
    sign_in: SignIn,
    limiter: Limiter,
    clock: RemoteClock,
}

/// What is asked for: a report's rows from `first` to `last`, both inclusive and in whole seconds.
#[derive(Clone, Copy, Debug)]
pub struct Query {
    /// The report.
    pub report: &'static Report,
    /// The first second of the range.
    pub first: DateTime<Utc>,
    /// The last second of the range.
    pub last: DateTime<Utc>,
    /// The buckets of a traffic report, which has to be asked for them.
    pub aggregate_by: Option<AggregateBy>,
}

impl Client {
    /// Prepares to ask for an input's reports; nothing is sent yet.
    ///
    /// Fails if `ca_bundle`, the client's certificate or its key cannot be used, or there is nothing to trust for HTTPS.
    pub fn new(input: &Input) -> anyhow::Result<Self> {
        let context = || format!("input `{}`", input.name);
        let reports = http(input, &input.base_url).with_context(context)?;
        let alike = is_loopback(&input.base_url) == is_loopback(&input.authority_url);
        let tokens = if alike {
            reports.clone()
        } else {
            http(input, &input.authority_url).with_context(context)?
        };
        let sign_in = SignIn::new(input, &tokens).with_context(context)?;
        Ok(Self(Arc::new(Shared {
            http: reports,
            base_url: input.base_url.clone(),
            sign_in,
            limiter: Limiter::new(input.requests_per_second, &input.requests_limits),
            clock: RemoteClock::default(),
        })))
    }

    /// Walks the pages of `query`, from the first one; `fingerprinter` makes the fingerprints of their rows.
    pub fn walk(&self, query: Query, fingerprinter: &Fingerprinter) -> Walk {
        let first = link::first_page(&self.0.base_url, &query);
        let hasher = RandomState::new();
        Walk {
            client: self.clone(),
            fingerprinter: fingerprinter.clone(),
            meter: None,
            asked: HashSet::from([hasher.hash_one(&first)]),
            hasher,
            next: Next::Page(first),
            row_cap: query.report.row_cap,
            pages: 0,
            rows: 0,
            body_hint: 0,
            ahead: None,
        }
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

    /// How long ago the service last told its clock. `None` before the first answer.
    pub fn service_time_age(&self) -> Option<Duration> {
        self.0.clock.age()
    }

    /// When the token at hand ends; `None` where there is none.
    pub fn token_expiry(&self) -> Option<DateTime<Utc>> {
        self.0.sign_in.token_expiry()
    }

    /// When the certificate ends that the application signs in with; `None` where there is none, or where it cannot be read. Blocks on
    /// the disk.
    pub fn certificate_expiry(&self) -> Option<DateTime<Utc>> {
        self.0.sign_in.certificate_expiry()
    }

    /// Asks for the page at `url`, with a new token if the service rejects the one at hand.
    async fn fetch(
        &self,
        url: &Url,
        followed: bool,
        hint: usize,
        meter: Option<&dyn Meter>,
    ) -> Result<Body, FetchError> {
        let sign_in = &self.0.sign_in;
        // Before the turn: who waited for a token with a turn in hand would use it late, and others with it at once.
        sign_in.authorization().await?;
        self.turn(meter).await;
        // And after it, since a turn may be an hour away.
        let authorization = sign_in.authorization().await?;
        let error = match self.ask(url, &authorization, followed, hint, meter).await {
            Err(error) if error.kind() == Kind::Unauthorized => error,
            answered => return answered,
        };
        let Some(other) = sign_in.instead_of(&authorization).await? else {
            return Err(error);
        };
        self.turn(meter).await;
        self.ask(url, &other, followed, hint, meter).await
    }

    async fn turn(&self, meter: Option<&dyn Meter>) {
        let waited = self.0.limiter.turn().await;
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
        let response = request
            .header(AUTHORIZATION, authorization.header())
            .send()
            .await
            .map_err(|error| answer::unanswered(error, url))?;
        self.0.clock.note(response.headers());
        let status = response.status();
        *answered = Some(status);
        if let Some(pause) = answer::pause(status, response.headers()) {
            self.0.limiter.pause(pause);
        }
        let request_id = answer::request_id(response.headers());
        if status == StatusCode::OK {
            return match answer::body(response, BODY_MAX_BYTES, hint).await {
                Ok(json) => Ok(Body { json, request_id }),
                Err(error) => Err(error.with_request_id(request_id)),
            };
        }
        let headers = response.headers().clone();
        let body = authorization.removed_from(&answer::fault_body(response).await);
        let basic = self.0.sign_in.is_basic();
        let refusal = Refusal {
            status,
            headers: &headers,
            followed,
            basic,
        };
        Err(answer::refused(refusal, &body).with_request_id(request_id))
    }
}

/// What the service answered with status 200.
struct Body {
    json: Vec<u8>,
    request_id: Option<String>,
}

/// The way to `url`'s host: HTTP/1.1 through the system's proxies, compressed, and never redirected: requests carry credentials.
fn http(input: &Input, url: &Url) -> anyhow::Result<reqwest::Client> {
    let signs_in_elsewhere = !matches!(input.credentials, Credentials::Basic { .. });
    let https = input.base_url.scheme() == "https"
        || (signs_in_elsewhere && input.authority_url.scheme() == "https");
    let headers = HeaderMap::from_iter([
        // Without `$format` in the query this is the light shape.
        (ACCEPT, HeaderValue::from_static("application/json")),
        // In the header only: the same in the query as well is an error.
        (
            HeaderName::from_static("x-rws-version"),
            HeaderValue::from_static("2013-V1"),
        ),
    ]);
    let builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls::config(input.ca_bundle.as_deref(), https)?)
        .user_agent(concat!(
            env!("CARGO_PKG_NAME"),
            "/",
            env!("CARGO_PKG_VERSION")
        ))
        .default_headers(headers)
        .http1_only()
        .gzip(true)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(POOL_IDLE)
        .timeout(REQUEST_TIMEOUT);
    let builder = if is_loopback(url) {
        builder.no_proxy() // a proxy's loopback is another one
    } else {
        builder
    };
    builder.build().context("cannot set HTTP up")
}

/// All pages of one query, one after the other. It knows its position: after an error, the next call asks again for the
/// page that failed.
pub struct Walk {
    client: Client,
    fingerprinter: Fingerprinter,
    meter: Option<Arc<dyn Meter>>,
    next: Next,
    /// Hashes of all addresses of this walk; a false match would cost a walk, and one in 10^13 walks.
    asked: HashSet<u64>,
    hasher: RandomState,
    row_cap: Option<u64>,
    pages: u32,
    rows: u64,
    /// The last body's size.
    body_hint: usize,
    /// The next page, on its way already; dropped, it is given up.
    ahead: Option<AbortOnDropHandle<Result<Body, FetchError>>>,
}

/// What the next call does.
enum Next {
    /// Asks for a page.
    Page(Url),
    /// Says that the last page linked to one of this walk; the walk cannot go on.
    Repeated { request_id: Option<String> },
    /// Ends the walk.
    End,
}

impl Walk {
    /// The same walk, whose requests `meter` takes note of.
    #[must_use]
    pub fn metered(self, meter: Arc<dyn Meter>) -> Self {
        Self {
            meter: Some(meter),
            ..self
        }
    }

    /// Begins to fetch the next page, which [`Walk::next`] then waits for.
    pub fn begin(&mut self) {
        if let (Next::Page(url), None) = (&self.next, &self.ahead) {
            let (client, url, meter) = (self.client.clone(), url.clone(), self.meter.clone());
            let (followed, hint) = (self.pages > 0, self.body_hint);
            let fetch = async move { client.fetch(&url, followed, hint, meter.as_deref()).await };
            self.ahead = Some(AbortOnDropHandle::new(tokio::spawn(fetch)));
        }
    }

    /// The next page; `None` after the last. Cancel safe: if the future is dropped, the next call asks for the same page.
    ///
    /// A page whose link to the next one cannot be followed is an error, and asked for again. One that links back into the
    /// walk is handed out, and the next call is the error.
    pub async fn next(&mut self) -> Result<Option<Page>, FetchError> {
        let url = match &self.next {
            Next::Page(url) => url,
            Next::Repeated { request_id } => {
                let message = format!("page {} links back to an earlier one", self.pages);
                let error = FetchError::new(Kind::LinkRepeated, message);
                return Err(error.with_request_id(request_id.clone()));
            }
            Next::End => return Ok(None),
        };
        let meter = self.meter.as_deref();
        let answer = if let Some(ahead) = &mut self.ahead {
            let answer = ahead.await;
            self.ahead = None;
            answer.unwrap_or_else(|lost| Err(FetchError::new(Kind::CutShort, lost.to_string())))
        } else {
            let fetch = self
                .client
                .fetch(url, self.pages > 0, self.body_hint, meter);
            fetch.await
        };
        let Body { json, request_id } = answer?;
        if let Some(meter) = meter {
            meter.received(json.len());
        }
        // From here on nothing waits, so that page and position change together.
        let size = json.len();
        let parsed = Page::parse(json, &self.fingerprinter).and_then(|(page, link)| match link {
            Some(link) if self.pages + 1 < PAGES_MAX => {
                Ok((page, Some(link::next_page(url, &link)?)))
            }
            _ => Ok((page, None)),
        });
        let (page, next) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => return Err(error.with_request_id(request_id)),
        };
        self.next = match next {
            None => Next::End,
            Some(url) if self.asked.insert(self.hasher.hash_one(&url)) => Next::Page(url),
            Some(_) => Next::Repeated { request_id },
        };
        self.pages += 1;
        self.rows += page.len() as u64;
        self.body_hint = size;
        Ok(Some(page))
    }

    /// What is left of the pause that the service asked for; `None` when there is none.
    pub fn paused(&self) -> Option<Duration> {
        self.client.0.limiter.paused()
    }

    /// The number of pages that have been had.
    pub fn pages(&self) -> u32 {
        self.pages
    }

    /// The number of rows that have been had.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Whether the result has reached a size at which the service is known to cut results off: it may not be complete.
    pub fn capped(&self) -> bool {
        self.pages >= PAGES_MAX || self.row_cap.is_some_and(|cap| self.rows >= cap)
    }
}

#[cfg(test)]
mod tests;
