//! The tenant's directory, which gives the application its tokens.
//!
//! All services of an input share one token. It is renewed in the background while it still holds; only where there is none does anyone wait. One
//! request is made at a time, and all who wait for it share what comes of it. After a failure the directory is left alone for a growing time, or for
//! as long as it asks: whoever needs a token meanwhile waits, as for a turn of the limiter. Nothing is tried twice here: a failure goes to those who
//! asked.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use reqwest::StatusCode;
use reqwest::header::CONTENT_TYPE;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};
use url::{Url, form_urlencoded};
use zeroize::Zeroizing;

use super::answer;
use super::assertion::Certificate;
use super::authorization::{Authorization, Recent};
use super::clock::RemoteClock;
use super::error::{FetchError, Kind};
use super::grant::Grant;
use super::limiter::{LONGEST_PAUSE, Limiter};
use super::proxy::Proxies;
use super::refusal::{Refusal, refused};
use super::roles::Roles;
use crate::backoff::Backoff;

/// The longest that a token request may take, body included.
const TIMEOUT: Duration = Duration::from_mins(1);
/// The largest answer to a token request.
const BODY_MAX_BYTES: usize = 1024 * 1024;
/// No usual answer to one is larger: what a growing buffer leaves behind is not wiped.
const BODY_USUAL_BYTES: usize = 16 * 1024;
/// How long the directory is left alone after a failure, at first and at most.
const LEFT_ALONE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_mins(1));

/// What the application shows to get a token.
pub(super) enum Proof {
    Secret(SecretString),
    Certificate(Certificate),
}

/// The tenant's directory. It is made once for an input.
pub(super) struct Directory {
    http: reqwest::Client,
    proxies: Proxies,
    token_url: Url,
    client_id: String,
    scope: String,
    proof: Proof,
    /// The budget of the input: it pauses when the directory wants to be left alone and there is no token.
    limiter: Arc<Limiter>,
    /// The directory's clock as its tokens tell it.
    clock: RemoteClock,
    /// The directory's clock as its errors tell it too: a proof whose times are wrong gets nothing but errors.
    proof_clock: RemoteClock,
    /// Held while a token is asked for.
    attempts: tokio::sync::Mutex<Attempts>,
    current: Mutex<Option<Token>>,
    /// Until when the directory is left alone.
    pause: Mutex<Option<Pause>>,
}

struct Attempts {
    backoff: Backoff,
    /// The last one, if it failed, and when that was known.
    failed: Option<(Instant, FetchError)>,
    /// How many tokens there have been.
    tokens: u64,
    /// Tokens and proofs that the other side may still repeat.
    recent: Recent,
}

#[derive(Clone)]
struct Token {
    authorization: Authorization,
    renew_at: Instant,
    end: Instant,
    /// By our clock, for those who only look.
    expiry: DateTime<Utc>,
}

#[derive(Clone, Copy)]
struct Pause {
    end: Instant,
    /// The directory has asked for it.
    asked: bool,
}

impl Directory {
    pub(super) fn new(
        (http, proxies): (&reqwest::Client, &Proxies),
        token_url: Url,
        (client_id, scope): (String, String),
        proof: Proof,
        limiter: Arc<Limiter>,
    ) -> Self {
        Self {
            http: http.clone(),
            proxies: proxies.clone(),
            token_url,
            client_id,
            scope,
            proof,
            limiter,
            clock: RemoteClock::default(),
            proof_clock: RemoteClock::default(),
            attempts: tokio::sync::Mutex::new(Attempts {
                backoff: Backoff::new(LEFT_ALONE.0, LEFT_ALONE.1),
                failed: None,
                tokens: 0,
                recent: Recent::default(),
            }),
            current: Mutex::default(),
            pause: Mutex::default(),
        }
    }

    /// The directory's clock: the `Date` of its last token and the time since.
    pub(super) fn time(&self) -> Option<DateTime<Utc>> {
        self.clock.now()
    }

    /// When the token at hand ends, by our clock.
    pub(super) fn token_expiry(&self) -> Option<DateTime<Utc>> {
        self.current().as_ref().map(|token| token.expiry)
    }

    /// The permissions that the token at hand names.
    pub(super) fn roles(&self) -> Option<Roles> {
        let token = self.usable()?;
        token.authorization.token().map(Roles::of)
    }

    /// When the application's certificate ends, as its file says now.
    pub(super) fn certificate_expiry(&self) -> Option<DateTime<Utc>> {
        match &self.proof {
            Proof::Certificate(certificate) => certificate.expiry(),
            Proof::Secret(_) => None,
        }
    }

    /// The token at hand, while it holds.
    fn usable(&self) -> Option<Token> {
        self.current()
            .clone()
            .filter(|token| Instant::now() < token.end)
    }

    /// Whether the token at hand is to be renewed now.
    pub(super) fn wants_renewal(&self) -> bool {
        let now = Instant::now();
        let left_alone = self.pause().is_some_and(|pause| now < pause.end);
        !left_alone && self.usable().is_some_and(|token| token.renew_at <= now)
    }

    /// Renews the token at hand while it holds. A failure is logged: nobody waits for this.
    pub(super) async fn renew(&self) {
        let mut attempts = self.attempts.lock().await;
        if !self.wants_renewal() {
            return; // somebody else has
        }
        if let Err(error) = self.ask(&mut attempts).await
            && let Some(token) = self.usable()
        {
            warn!(
                error = crate::error::chain(&error),
                action = error.action(),
                holds_for = ?Duration::from_secs((token.end - Instant::now()).as_secs()),
                "token not renewed ahead of its end; the old one still holds"
            );
        }
    }

    /// A token that holds: the one at hand, or a new one.
    pub(super) async fn authorization(&self) -> Result<Authorization, FetchError> {
        if let Some(token) = self.usable() {
            return Ok(token.authorization);
        }
        let begun = Instant::now();
        let mut attempts = self.attempts.lock().await;
        match (self.usable(), &attempts.failed) {
            (Some(token), _) => Ok(token.authorization),
            // It was asked for meanwhile, and is not asked for again by everyone who waited.
            (None, Some((at, error))) if *at >= begun => Err(error.clone()),
            (None, _) => {
                self.wait().await;
                self.ask(&mut attempts).await
            }
        }
    }

    /// Uses `rejected` no more, whatever the next request for a token brings.
    pub(super) fn drop_token(&self, rejected: &Authorization) {
        let mut current = self.current();
        if current
            .as_ref()
            .is_some_and(|token| token.authorization.is(rejected))
        {
            *current = None;
        }
    }

    /// Waits as long as the directory is to be left alone.
    async fn wait(&self) {
        loop {
            let pause = *self.pause();
            let Some(pause) = pause.filter(|pause| Instant::now() < pause.end) else {
                return;
            };
            if pause.asked {
                // It may have begun while there was a token.
                self.limiter.pause(pause.end - Instant::now());
            }
            sleep_until(pause.end).await;
        }
    }

    /// Asks for a token, and notes what came of it.
    async fn ask(&self, attempts: &mut Attempts) -> Result<Authorization, FetchError> {
        let begun = Instant::now();
        let granted = match self.request(&mut attempts.recent).await {
            Ok(grant) => self.take(&grant, begun, attempts),
            Err(refusal) => Err(refusal),
        };
        let (pause, error) = match granted {
            Ok(authorization) => {
                attempts.backoff.reset();
                attempts.failed = None;
                *self.pause() = None;
                return Ok(authorization);
            }
            Err(Refusal { error, pause, .. }) => (pause, error),
        };
        let now = Instant::now();
        let alone = pause.unwrap_or_else(|| attempts.backoff.next(rand::random()));
        let end = now + alone.min(LONGEST_PAUSE);
        let asked = pause.is_some();
        *self.pause() = Some(Pause { end, asked });
        if asked && self.usable().is_none() {
            self.limiter.pause(alone);
        }
        attempts.failed = Some((now, error.clone()));
        Err(error)
    }

    fn take(
        &self,
        grant: &Grant,
        begun: Instant,
        attempts: &mut Attempts,
    ) -> Result<Authorization, Refusal> {
        let token = grant.access_token.expose_secret();
        attempts.recent.hide(token);
        let authorization = Authorization::bearer(token, attempts.tokens + 1).ok_or_else(|| {
            let message = "the directory's token holds characters that no header may hold";
            failed(FetchError::new(Kind::SignInFailed, message))
        })?;
        attempts.tokens += 1;
        let life = grant.life;
        *self.current() = Some(Token {
            authorization: authorization.clone(),
            renew_at: begun + grant.renewed_after(),
            end: begun + life,
            expiry: Utc::now() + life,
        });
        debug!(life_s = life.as_secs(), "token received");
        Ok(authorization)
    }

    async fn request(&self, recent: &mut Recent) -> Result<Grant, Refusal> {
        let form = self.form(recent).map_err(failed)?;
        let sent = self
            .http
            .post(self.token_url.clone())
            .timeout(TIMEOUT)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(encoded(&form))
            .send();
        let response = match sent.await {
            Ok(response) => response,
            Err(error) => {
                let error = answer::unanswered(error, &self.token_url, &self.proxies).await;
                return Err(failed(error.with_kind(Kind::SignInFailed)));
            }
        };
        let (status, headers) = (response.status(), response.headers().clone());
        let request_id = answer::request_id(&headers);
        let body = match answer::body(response, BODY_MAX_BYTES, BODY_USUAL_BYTES).await {
            Err(error) if status.is_success() => {
                let text = "the directory's token did not arrive";
                let error = FetchError::new(Kind::SignInFailed, text).with_source(error);
                return Err(failed(error.with_request_id(request_id)));
            }
            body => Zeroizing::new(body.map(|(body, _)| body).unwrap_or_default()),
        };
        if let Some(grant) = status.is_success().then(|| Grant::read(&body)).flatten() {
            if status == StatusCode::OK {
                self.clock.note(&headers);
            }
            self.proof_clock.note(&headers);
            return Ok(grant);
        }
        let refusal = refused(status, &headers, &body, &self.token_url);
        if refusal.by_the_directory {
            self.proof_clock.note(&headers);
        }
        Err(Refusal {
            error: refusal.error.with_request_id(request_id),
            ..refusal
        })
    }

    fn form(&self, recent: &mut Recent) -> Result<Vec<(&'static str, SecretString)>, FetchError> {
        let mut form = vec![
            ("grant_type", "client_credentials".into()),
            ("client_id", self.client_id.as_str().into()),
            ("scope", self.scope.as_str().into()),
        ];
        match &self.proof {
            Proof::Secret(secret) => form.push(("client_secret", secret.clone())),
            Proof::Certificate(certificate) => {
                // The one place here that needs the time of day. The directory's own, once it is known, is the one that
                // it checks the proof against.
                let now = self.proof_clock.now().unwrap_or_else(Utc::now);
                let assertion = certificate
                    .assertion(self.token_url.as_str(), &self.client_id, now)
                    .map_err(|source| {
                        FetchError::new(Kind::SignInRefused, "the proof for the sign-in cannot be made")
                            .with_action("make the files of `client_certificate` and `client_key` readable, and a pair")
                            .with_source(source)
                    })?;
                recent.hide(assertion.expose_secret());
                form.push((
                    "client_assertion_type",
                    "urn:ietf:params:oauth:client-assertion-type:jwt-bearer".into(),
                ));
                form.push(("client_assertion", assertion));
            }
        }
        Ok(form)
    }

    fn current(&self) -> MutexGuard<'_, Option<Token>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pause(&self) -> MutexGuard<'_, Option<Pause>> {
        self.pause.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A failure after which the directory has asked for nothing.
fn failed(error: FetchError) -> Refusal {
    Refusal {
        error,
        pause: None,
        by_the_directory: false,
    }
}

/// The form as a request's body, wiped once it has been sent.
fn encoded(form: &[(&'static str, SecretString)]) -> Bytes {
    let fields = form
        .iter()
        .map(|(name, value)| (*name, value.expose_secret()));
    // An escape takes three bytes; a growing buffer would leave pieces of itself behind.
    let most: usize = fields
        .clone()
        .map(|(name, value)| name.len() + 3 * value.len() + 2)
        .sum();
    let mut serializer = form_urlencoded::Serializer::new(String::with_capacity(most));
    serializer.extend_pairs(fields);
    Bytes::from_owner(Zeroizing::new(serializer.finish().into_bytes()))
}
