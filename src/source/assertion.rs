//! The application's certificate as a proof of who asks for a token: a JWT, signed with the certificate's key.
//!
//! Both files are read anew for each proof, so replacing them needs no restart.

use std::path::PathBuf;

use anyhow::Context;
use aws_lc_rs::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rustls::SignatureAlgorithm;
use rustls_pki_types::CertificateDer;
use secrecy::SecretString;
use serde::Serialize;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::pem;
use crate::pem::written;

/// Valid from a little before now, as clocks differ, and for less than the ten minutes that the directory accepts.
const VALID_BEFORE: TimeDelta = TimeDelta::minutes(1);
const VALID_AFTER: TimeDelta = TimeDelta::minutes(8);

/// Where the application's certificate and its key are.
#[derive(Clone, Debug)]
pub(super) struct Certificate {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// The claims as Microsoft's identity platform documents them for a `client_assertion`.
#[derive(Serialize)]
struct Claims<'a> {
    aud: &'a str,
    iss: &'a str,
    sub: &'a str,
    jti: String,
    iat: i64,
    nbf: i64,
    exp: i64,
}

impl Certificate {
    /// Whether both files are there, can be used, and belong together.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        self.load().map(drop)
    }

    /// When the certificate ends; `None` if the files cannot be used.
    pub(super) fn expiry(&self) -> Option<DateTime<Utc>> {
        let (certificate, _) = self.load().ok()?;
        let (_, parsed) = X509Certificate::from_der(&certificate).ok()?;
        DateTime::from_timestamp(parsed.validity().not_after.timestamp(), 0)
    }

    /// A proof, made out to `audience` (the token's address), that `client_id` asks, at the time `now`.
    pub(super) fn assertion(
        &self,
        audience: &str,
        client_id: &str,
        now: DateTime<Utc>,
    ) -> anyhow::Result<SecretString> {
        let (certificate, key) = self.load()?;
        let thumbprint =
            |algorithm| BASE64_URL_SAFE_NO_PAD.encode(digest::digest(algorithm, &certificate));
        let header = Header {
            x5t: Some(thumbprint(&SHA1_FOR_LEGACY_USE_ONLY)),
            x5t_s256: Some(thumbprint(&SHA256)),
            ..Header::new(Algorithm::RS256)
        };
        let claims = Claims {
            aud: audience,
            iss: client_id,
            sub: client_id,
            jti: format!("{:032x}", rand::random::<u128>()),
            iat: now.timestamp(),
            nbf: (now - VALID_BEFORE).timestamp(),
            exp: (now + VALID_AFTER).timestamp(),
        };
        jsonwebtoken::encode(&header, &claims, &key)
            .map(SecretString::from)
            .with_context(|| format!("cannot sign with the key in {}", self.key.display()))
    }

    /// The certificate that belongs to the key, and the key.
    fn load(&self) -> anyhow::Result<(CertificateDer<'static>, EncodingKey)> {
        let path = self.key.display();
        let private = pem::read("client_key", &self.key)?
            .private_key()
            .map_err(|problem| pem::unusable("client_key", &self.key, &problem))?;
        let text = written(&private);
        let public_key = rustls::crypto::aws_lc_rs::default_provider()
            .key_provider
            .load_private_key(private)
            .ok()
            .filter(|key| key.algorithm() == SignatureAlgorithm::RSA)
            .and_then(|key| key.public_key().map(|key| key.to_vec()))
            .with_context(|| {
                format!("`client_key`: the key in {path} is no RSA key of 2048 bits or more, which Microsoft's sign-in needs")
            })?;
        let key = EncodingKey::from_rsa_pem(text.as_bytes())
            .with_context(|| format!("`client_key`: the key in {path} cannot be used"))?;
        Ok((self.certificate_of(&public_key)?, key))
    }

    fn certificate_of(&self, public_key: &[u8]) -> anyhow::Result<CertificateDer<'static>> {
        let path = self.certificate.display();
        let certificates = pem::read("client_certificate", &self.certificate)?
            .certificates()
            .map_err(|problem| pem::unusable("client_certificate", &self.certificate, &problem))?;
        certificates
            .into_iter()
            .find(|certificate| {
                X509Certificate::from_der(certificate)
                    .is_ok_and(|(_, certificate)| certificate.public_key().raw == public_key)
            })
            .with_context(|| {
                format!(
                    "`client_certificate` and `client_key` do not belong together: the certificate in {path} was made for \
                     another key than the one in {}",
                    self.key.display(),
                )
            })
    }
}
