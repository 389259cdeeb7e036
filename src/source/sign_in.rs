//! Signing in: username and password as they are, or a token from the tenant's [`Directory`] that all services share.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::anyhow;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, Utc};
use secrecy::ExposeSecret;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;
use zeroize::Zeroizing;

use super::assertion::Certificate;
use super::authorization::Authorization;
use super::directory::{Directory, Proof};
use super::error::FetchError;
use super::limiter::Limiter;
use super::proxy::Proxies;
use super::roles::Roles;
use crate::config::{Credentials, Input};
use crate::foreign::{Hidden, hide};

/// How the requests of an input are signed.
pub(super) struct SignIn {
    method: Method,
    /// What is never shown, whoever repeats it.
    _hidden: Vec<Hidden>,
}

enum Method {
    /// With username and password.
    Basic(Authorization),
    /// With a token, and what renews it ahead of its end.
    Token(Arc<Directory>, Mutex<Option<AbortOnDropHandle<()>>>),
}

impl SignIn {
    /// Signs in with the input's credentials, for `scope`. Tokens are asked for through `http`; `limiter` pauses when the directory asks for it.
    pub(super) fn new(
        input: &Input,
        scope: &str,
        http: &reqwest::Client,
        limiter: &Arc<Limiter>,
        proxies: &Proxies,
    ) -> anyhow::Result<Self> {
        let (tenant_id, client_id, proof, hidden) = match &input.credentials {
            Credentials::Basic { username, password } => {
                let password = password.expose_secret();
                let pair = Zeroizing::new([username, ":", password].concat());
                let pair = Zeroizing::new(BASE64_STANDARD.encode(pair.as_bytes()));
                let authorization = Authorization::basic(&pair)
                    .ok_or_else(|| anyhow!("`username` and `password` make no header"))?;
                return Ok(Self {
                    method: Method::Basic(authorization),
                    _hidden: vec![hide(password), hide(&pair)],
                });
            }
            Credentials::Secret {
                tenant_id,
                client_id,
                client_secret,
            } => {
                let hidden = vec![hide(client_secret.expose_secret())];
                let proof = Proof::Secret(client_secret.clone());
                (tenant_id, client_id, proof, hidden)
            }
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
                let proof = Proof::Certificate(certificate);
                (tenant_id, client_id, proof, Vec::new())
            }
        };
        let mut token_url = input.authority_url.clone();
        token_url
            .path_segments_mut()
            .map_err(|()| anyhow!("`authority_url` is no base address"))?
            .pop_if_empty()
            .extend([tenant_id.as_str(), "oauth2", "v2.0", "token"]);
        let application = (client_id.clone(), scope.to_owned());
        let limiter = Arc::clone(limiter);
        let way = (http, proxies);
        let directory = Directory::new(way, token_url, application, proof, limiter);
        Ok(Self {
            method: Method::Token(Arc::new(directory), Mutex::default()),
            _hidden: hidden,
        })
    }

    /// Whether the credentials are username and password.
    pub(super) fn is_basic(&self) -> bool {
        self.directory().is_none()
    }

    /// When the token at hand ends.
    pub(super) fn token_expiry(&self) -> Option<DateTime<Utc>> {
        self.directory()?.token_expiry()
    }

    /// The permissions that the token at hand names.
    pub(super) fn roles(&self) -> Option<Roles> {
        self.directory()?.roles()
    }

    /// When the application's certificate ends, as its file says now.
    pub(super) fn certificate_expiry(&self) -> Option<DateTime<Utc>> {
        self.directory()?.certificate_expiry()
    }

    /// The directory's clock, as its tokens tell it.
    pub(super) fn directory_time(&self) -> Option<DateTime<Utc>> {
        self.directory()?.time()
    }

    /// What signs the next request. A token that is near its end is renewed meanwhile.
    pub(super) async fn authorization(&self) -> Result<Authorization, FetchError> {
        match &self.method {
            Method::Basic(authorization) => Ok(authorization.clone()),
            Method::Token(directory, renewal) => {
                let authorization = directory.authorization().await?;
                if directory.wants_renewal() {
                    renew(directory, renewal);
                }
                Ok(authorization)
            }
        }
    }

    /// Uses `rejected` no more: the next [`SignIn::authorization`] is another one. `false` if there is none but this.
    pub(super) fn drop_rejected(&self, rejected: &Authorization) -> bool {
        let directory = self.directory();
        directory
            .inspect(|directory| directory.drop_token(rejected))
            .is_some()
    }

    fn directory(&self) -> Option<&Directory> {
        match &self.method {
            Method::Basic(_) => None,
            Method::Token(directory, _) => Some(directory),
        }
    }
}

/// Renews the token in the background, unless that is under way.
fn renew(directory: &Arc<Directory>, renewal: &Mutex<Option<AbortOnDropHandle<()>>>) {
    let mut renewal = renewal.lock().unwrap_or_else(PoisonError::into_inner);
    if renewal.as_ref().is_none_or(AbortOnDropHandle::is_finished) {
        let directory = Arc::clone(directory);
        let task = async move { directory.renew().await };
        *renewal = Some(AbortOnDropHandle::new(tokio::spawn(task.in_current_span())));
    }
}
