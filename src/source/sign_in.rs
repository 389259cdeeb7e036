//! Signing in: username and password as they are, or a token from the tenant's directory that all services share.
//!
//! A token is asked for by one service at a time while the others wait for it; it is renewed ahead of its end, and once when
//! the service has rejected it. Nothing is tried twice here: a failure goes to whoever asked.

use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::anyhow;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use reqwest::header::{CONTENT_TYPE, HeaderValue, InvalidHeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::{debug, warn};
use url::{Url, form_urlencoded};
use zeroize::Zeroizing;

use super::answer;
use super::assertion::Certificate;
use super::clock::RemoteClock;
use super::error::{FetchError, Kind};
use super::refusal::refused;
use crate::config::{Credentials, Input};

/// The longest that a token request may take, body included.
const TIMEOUT: Duration = Duration::from_mins(1);
/// The largest answer to a token request.
const BODY_MAX_BYTES: usize = 1024 * 1024;
/// No usual answer to one is larger: what a growing buffer leaves behind is not wiped.
const BODY_USUAL_BYTES: usize = 16 * 1024;
/// How long before its end a token is renewed, if it lives long enough.
const RENEW_AHEAD: Duration = Duration::from_mins(5);
/// How long a failed renewal ahead of time is let be, while the token still holds.
const RENEW_AGAIN: Duration = Duration::from_mins(1);
/// How long a token is believed to live that does not say it, and the longest that is believed.
const LIFE_UNSAID: Duration = Duration::from_mins(10);
const LIFE_MAX: Duration = Duration::from_hours(24);

/// How the requests of an input are signed.
pub(super) enum SignIn {
    /// With username and password.
    Basic(Authorization),
    /// With a token.
    OAuth(Box<Directory>),
}

/// The value of an `Authorization` header. It cannot be printed, and is wiped with its last copy.
#[derive(Clone)]
pub(super) struct Authorization {
    header: HeaderValue,
    /// Tells the tokens of a directory apart.
    serial: u64,
}

impl Authorization {
    /// Made of a scheme and what goes with it; fails if a header cannot hold that.
    fn new(scheme: &str, proof: &str, serial: u64) -> Result<Self, InvalidHeaderValue> {
        let value = Zeroizing::new([scheme, " ", proof].concat().into_bytes());
        let mut header = HeaderValue::from_maybe_shared(Bytes::from_owner(value))?;
        header.set_sensitive(true);
        Ok(Self { header, serial })
    }

    /// The header, marked as sensitive. All copies share one memory.
    pub(super) fn header(&self) -> HeaderValue {
        self.header.clone()
    }

    /// `body` without the token or password, should the other side have sent it back to us, as some proxies' error pages do.
    pub(super) fn removed_from(&self, body: &[u8]) -> Vec<u8> {
        let value = self.header.as_bytes();
        let proof = memchr::memchr(b' ', value).map_or(value, |space| &value[space + 1..]);
        let (mut rest, mut cleaned) = (body, Vec::with_capacity(body.len()));
        while let Some(at) = memchr::memmem::find(rest, proof).filter(|_| !proof.is_empty()) {
            cleaned.extend_from_slice(&rest[..at]);
            cleaned.extend_from_slice(b"(removed)");
            rest = &rest[at + proof.len()..];
        }
        cleaned.extend_from_slice(rest);
        cleaned
    }
}

impl SignIn {
    /// Signs in with the input's credentials. Tokens are asked for through `http`.
    pub(super) fn new(input: &Input, http: &reqwest::Client) -> anyhow::Result<Self> {
        let (tenant_id, client_id, proof) = match &input.credentials {
            Credentials::Basic { username, password } => {
                let pair = Zeroizing::new([username, ":", password.expose_secret()].concat());
                let pair = Zeroizing::new(BASE64_STANDARD.encode(pair.as_bytes()));
                return Ok(Self::Basic(Authorization::new("Basic", &pair, 0)?));
            }
            Credentials::Secret {
                tenant_id,
                client_id,
                client_secret,
            } => (tenant_id, client_id, Proof::Secret(client_secret.clone())),
            Credentials::Certificate {
                tenant_id,
                client_id,
                client_certificate,
                client_key,
            } => {
                let certificate = Certificate {
                    certificate: client_certificate.clone(),
                    key: client_key.clone(),
                };
                certificate.check()?;
                (tenant_id, client_id, Proof::Certificate(certificate))
            }
        };
        let mut token_url = input.authority_url.clone();
        token_url
            .path_segments_mut()
            .map_err(|()| anyhow!("`authority_url` is no base address"))?
            .pop_if_empty()
            .extend([tenant_id.as_str(), "oauth2", "v2.0", "token"]);
        Ok(Self::OAuth(Box::new(Directory {
            http: http.clone(),
            token_url,
            client_id: client_id.clone(),
            scope: input.scope.clone(),
            proof,
            clock: RemoteClock::default(),
            tokens: Mutex::default(),
            token_end: std::sync::Mutex::default(),
        })))
    }

    /// Whether the credentials are username and password.
    pub(super) fn is_basic(&self) -> bool {
        matches!(self, Self::Basic(_))
    }

    /// When the token at hand ends.
    pub(super) fn token_expiry(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::Basic(_) => None,
            Self::OAuth(directory) => *directory.token_end(),
        }
    }

    /// When the application's certificate ends, as its file says now.
    pub(super) fn certificate_expiry(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::OAuth(directory) => match &directory.proof {
                Proof::Certificate(certificate) => certificate.expiry(),
                Proof::Secret(_) => None,
            },
            Self::Basic(_) => None,
        }
    }

    /// What signs the next request.
    pub(super) async fn authorization(&self) -> Result<Authorization, FetchError> {
        match self {
            Self::Basic(authorization) => Ok(authorization.clone()),
            Self::OAuth(directory) => directory.authorization().await,
        }
    }

    /// What to use instead of `rejected`: a token that another service has got by now, or a new one. `None` if there is
    /// nothing else to be had.
    pub(super) async fn instead_of(
        &self,
        rejected: &Authorization,
    ) -> Result<Option<Authorization>, FetchError> {
        match self {
            Self::Basic(_) => Ok(None),
            Self::OAuth(directory) => directory.instead_of(rejected).await.map(Some),
        }
    }
}

/// The tenant's directory, which gives tokens to the application.
pub(super) struct Directory {
    http: reqwest::Client,
    token_url: Url,
    client_id: String,
    scope: String,
    proof: Proof,
    clock: RemoteClock,
    /// Held while a token is asked for.
    tokens: Mutex<Tokens>,
    /// By our clock, for those who only look.
    token_end: std::sync::Mutex<Option<DateTime<Utc>>>,
}

/// What the application shows to get a token.
enum Proof {
    Secret(SecretString),
    Certificate(Certificate),
}

#[derive(Default)]
struct Tokens {
    current: Option<Token>,
    /// How many there have been.
    count: u64,
}

struct Token {
    authorization: Authorization,
    renew_at: Instant,
    end: Instant,
}

impl Directory {
    async fn authorization(&self) -> Result<Authorization, FetchError> {
        let mut tokens = self.tokens.lock().await;
        let now = Instant::now();
        match &tokens.current {
            Some(token) if now < token.renew_at => return Ok(token.authorization.clone()),
            _ => {}
        }
        match (self.renew(&mut tokens).await, &mut tokens.current) {
            (Err(error), Some(token)) if Instant::now() < token.end => {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "token not renewed ahead of its end; the old one still holds"
                );
                token.renew_at = (Instant::now() + RENEW_AGAIN).min(token.end);
                Ok(token.authorization.clone())
            }
            (renewed, _) => renewed,
        }
    }

    async fn instead_of(&self, rejected: &Authorization) -> Result<Authorization, FetchError> {
        let mut tokens = self.tokens.lock().await;
        match &tokens.current {
            Some(token) if token.authorization.serial != rejected.serial => {
                Ok(token.authorization.clone())
            }
            _ => {
                *self.token_end() = None;
                tokens.current = None; // whatever comes of this, it is of no use any more
                self.renew(&mut tokens).await
            }
        }
    }

    async fn renew(&self, tokens: &mut Tokens) -> Result<Authorization, FetchError> {
        let asked = Instant::now();
        let Grant {
            access_token,
            expires_in,
        } = self.ask().await?;
        let life = expires_in.unwrap_or(LIFE_UNSAID).min(LIFE_MAX);
        tokens.count += 1;
        let authorization =
            Authorization::new("Bearer", access_token.expose_secret(), tokens.count).map_err(
                |_| {
                    let message = "the directory's token holds characters that no header may hold";
                    FetchError::new(Kind::SignInFailed, message)
                },
            )?;
        tokens.current = Some(Token {
            authorization: authorization.clone(),
            renew_at: asked + renewed_after(life),
            end: asked + life,
        });
        *self.token_end() = Some(Utc::now() + life);
        debug!(life_s = life.as_secs(), "token received");
        Ok(authorization)
    }

    fn token_end(&self) -> MutexGuard<'_, Option<DateTime<Utc>>> {
        self.token_end
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self) -> Result<Grant, FetchError> {
        let form = self.form()?;
        let response = self
            .http
            .post(self.token_url.clone())
            .timeout(TIMEOUT)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(encoded(&form))
            .send()
            .await
            .map_err(|error| {
                answer::unanswered(error, &self.token_url).with_kind(Kind::SignInFailed)
            })?;
        self.clock.note(response.headers());
        let (status, request_id) = (response.status(), answer::request_id(response.headers()));
        let body = match answer::body(response, BODY_MAX_BYTES, BODY_USUAL_BYTES).await {
            Err(error) if status.is_success() => {
                return Err(FetchError::new(
                    Kind::SignInFailed,
                    "the directory's token did not arrive",
                )
                .with_request_id(request_id)
                .with_source(error));
            }
            body => Zeroizing::new(body.unwrap_or_default()),
        };
        let granted = status
            .is_success()
            .then(|| serde_json::from_slice(&body).ok());
        granted.flatten().ok_or_else(|| {
            refused(status, &body, |text| without_proof(text, &form)).with_request_id(request_id)
        })
    }

    fn form(&self) -> Result<Vec<(&'static str, SecretString)>, FetchError> {
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
                let now = self.clock.now().unwrap_or_else(Utc::now);
                let assertion = certificate
                    .assertion(self.token_url.as_str(), &self.client_id, now)
                    .map_err(|source| {
                        FetchError::new(Kind::SignInRefused, "the proof for the sign-in cannot be made")
                            .with_action("make the files of `client_certificate` and `client_key` readable, and a pair")
                            .with_source(source)
                    })?;
                form.push((
                    "client_assertion_type",
                    "urn:ietf:params:oauth:client-assertion-type:jwt-bearer".into(),
                ));
                form.push(("client_assertion", assertion));
            }
        }
        Ok(form)
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

/// `text` without our secret or proof, should the other side have sent it back to us.
fn without_proof(text: &str, form: &[(&'static str, SecretString)]) -> String {
    form.iter()
        .filter(|(name, _)| matches!(*name, "client_secret" | "client_assertion"))
        .fold(text.to_owned(), |text, (name, secret)| {
            text.replace(secret.expose_secret(), &format!("<{name}>"))
        })
}

/// When a token is renewed: five minutes before its end, but not before three quarters of its life have passed.
fn renewed_after(life: Duration) -> Duration {
    life.saturating_sub(RENEW_AHEAD).max(life * 3 / 4)
}

/// The directory's answer to a token request.
#[derive(Deserialize)]
struct Grant {
    #[serde(deserialize_with = "secret")]
    access_token: SecretString,
    #[serde(default, deserialize_with = "seconds")]
    expires_in: Option<Duration>,
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}

/// A number of seconds, which some directories write as a string. What is neither tells nothing.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    let seconds = value
        .as_u64()
        .or_else(|| value.as_str()?.trim().parse().ok());
    Ok(seconds.map(Duration::from_secs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_five_minutes_ahead_or_after_three_quarters_of_a_short_life() {
        for (life, after) in [(3_600, 3_300), (1_200, 900), (600, 450), (4, 3), (0, 0)] {
            let renewed = renewed_after(Duration::from_secs(life));
            assert_eq!(renewed, Duration::from_secs(after), "{life}");
        }
    }

    #[test]
    fn a_life_may_be_written_in_any_way() {
        for (written, life) in [
            ("3599", Some(3_599)),
            ("\"3599\"", Some(3_599)),
            ("\"soon\"", None),
            ("-1", None),
            ("null", None),
        ] {
            let body = format!(r#"{{"access_token":"x","expires_in":{written}}}"#);
            let grant: Grant = serde_json::from_str(&body).unwrap();
            assert_eq!(grant.expires_in, life.map(Duration::from_secs), "{written}");
        }
        let grant: Grant = serde_json::from_str(r#"{"access_token":"x"}"#).unwrap();
        assert_eq!(grant.expires_in, None);
    }
}
