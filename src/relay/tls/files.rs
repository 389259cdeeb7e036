//! The three PEM files, and every way of getting them wrong told apart.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rustls::Error;
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer, UnixTime};
use thiserror::Error;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::outdated;
use crate::config::RelayOutput;
use crate::pem::{self, Pem};

/// One of the three certificate files cannot be used.
#[derive(Debug, Error)]
#[error("`{role}` file {}: {problem}", .path.display())]
pub struct FileError {
    role: &'static str,
    path: PathBuf,
    problem: Problem,
}

#[derive(Debug, Error)]
enum Problem {
    #[error(transparent)]
    File(#[from] pem::Problem),
    #[error("the private key is of a kind that cannot be used: {0}")]
    UnusableKey(Error),
    #[error("the private key is an RSA key of {0} bits, which is not accepted any more")]
    ShortKey(usize),
    #[error("the private key does not belong to the certificate in {}", .cert.display())]
    Mismatch { cert: PathBuf },
    #[error("the certificate cannot be used: {0}")]
    UnusableCertificate(String),
    #[error("the certificate expired on {0}")]
    Expired(String),
    #[error("the certificate is not valid before {0}")]
    NotYetValid(String),
}

impl FileError {
    /// What to do about it.
    pub fn action(&self) -> String {
        match &self.problem {
            Problem::File(problem) => problem.action(self.role, &self.path),
            Problem::Mismatch { .. } => {
                "set `cert` and `key` to the two files that were downloaded together".to_owned()
            }
            Problem::ShortKey(_) => {
                "download a new certificate and its key, or have them issued anew, with an RSA key of 2048 bits or more or an ECDSA one; no \
                 setting lets it pass, but a relay on this machine that still accepts it can stand between (type `syslog`)"
                    .to_owned()
            }
            Problem::UnusableKey(_) => "use an RSA key of 2048 bits or more, or an ECDSA key (P-256, P-384, P-521)".to_owned(),
            Problem::Expired(_) => {
                "download a new certificate and its key, and replace `cert` and `key`; no restart is needed. If the date is \
                 not past, this machine's clock is wrong"
                    .to_owned()
            }
            Problem::NotYetValid(_) => "check this machine's clock".to_owned(),
            Problem::UnusableCertificate(_) => {
                format!("download the {} file again, or correct `{0}`", self.role)
            }
        }
    }
}

/// The certificates of the chain file, at least one.
pub(super) fn anchors(relay: &RelayOutput) -> Result<Vec<CertificateDer<'static>>, FileError> {
    PemFile::read("chain", &relay.chain)?.certificates()
}

/// A certificate of the chain file that can be nobody's anchor.
pub(super) fn unusable_anchor(relay: &RelayOutput, error: &Error) -> FileError {
    FileError {
        role: "chain",
        path: relay.chain.clone(),
        problem: Problem::UnusableCertificate(error.to_string()),
    }
}

/// Our certificate with what leads to its authority, and its key, which belong together and are valid at `now`; and while they are, in
/// seconds since 1970.
pub(super) fn identity(
    relay: &RelayOutput,
    provider: &CryptoProvider,
    now: UnixTime,
) -> Result<(Arc<CertifiedKey>, RangeInclusive<u64>), FileError> {
    let cert = PemFile::read("cert", &relay.cert)?;
    let mut certificates = cert.certificates()?;
    let key = PemFile::read("key", &relay.key)?;
    let private_key = key.private_key()?;
    let signing_key = provider
        .key_provider
        .load_private_key(private_key)
        .map_err(|error| {
            let short = certificates.first().and_then(outdated::short_key);
            key.error(short.map_or(Problem::UnusableKey(error), Problem::ShortKey))
        })?;
    // A key whose public half the library does not tell is for the relay to judge.
    if let Some(public) = signing_key.public_key() {
        let own = cert.position_of(&public, &certificates)?;
        let own = own.ok_or_else(|| {
            key.error(Problem::Mismatch {
                cert: relay.cert.clone(),
            })
        })?;
        // Ours is first on the wire (RFC 8446, 4.4.2), wherever it stands in the file.
        certificates[..=own].rotate_right(1);
    }
    let valid = cert.check_validity(&certificates[0], now)?;
    Ok((
        Arc::new(CertifiedKey::new(certificates, signing_key)),
        valid,
    ))
}

/// When our certificate ends.
pub(super) fn expiry(
    relay: &RelayOutput,
    provider: &CryptoProvider,
    now: UnixTime,
) -> Result<DateTime<Utc>, FileError> {
    let (_, valid) = identity(relay, provider, now)?;
    let end = i64::try_from(*valid.end()).ok();
    let end = end.and_then(|end| DateTime::from_timestamp(end, 0));
    Ok(end.unwrap_or(DateTime::<Utc>::MAX_UTC))
}

/// A PEM file that has been read.
struct PemFile<'a> {
    role: &'static str,
    path: &'a Path,
    pem: Pem,
}

impl<'a> PemFile<'a> {
    fn read(role: &'static str, path: &'a Path) -> Result<Self, FileError> {
        match Pem::read(path) {
            Ok(pem) => Ok(Self { role, path, pem }),
            Err(problem) => Err(FileError {
                role,
                path: path.to_owned(),
                problem: problem.into(),
            }),
        }
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, FileError> {
        let certificates = self.pem.certificates();
        certificates.map_err(|problem| self.error(problem.into()))
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, FileError> {
        let key = self.pem.private_key();
        key.map_err(|problem| self.error(problem.into()))
    }

    /// Where the certificate of this public key stands.
    fn position_of(
        &self,
        public: &SubjectPublicKeyInfoDer<'_>,
        certificates: &[CertificateDer<'_>],
    ) -> Result<Option<usize>, FileError> {
        for (position, certificate) in certificates.iter().enumerate() {
            if self.parse(certificate)?.public_key().raw == &**public {
                return Ok(Some(position));
            }
        }
        Ok(None)
    }

    fn parse<'d>(
        &self,
        certificate: &'d CertificateDer<'_>,
    ) -> Result<X509Certificate<'d>, FileError> {
        match X509Certificate::from_der(certificate) {
            Ok((_, parsed)) => Ok(parsed),
            Err(error) => Err(self.error(Problem::UnusableCertificate(error.to_string()))),
        }
    }

    /// While it is valid, which is now.
    fn check_validity(
        &self,
        certificate: &CertificateDer<'_>,
        now: UnixTime,
    ) -> Result<RangeInclusive<u64>, FileError> {
        let parsed = self.parse(certificate)?;
        let validity = parsed.validity();
        let [start, end] = [validity.not_before, validity.not_after].map(|time| time.timestamp());
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if now > end {
            return Err(self.error(Problem::Expired(date(end))));
        }
        if now < start {
            return Err(self.error(Problem::NotYetValid(date(start))));
        }
        let [start, end] = [start, end].map(|time| u64::try_from(time).unwrap_or_default());
        Ok(start..=end)
    }

    fn error(&self, problem: Problem) -> FileError {
        FileError {
            role: self.role,
            path: self.path.to_owned(),
            problem,
        }
    }
}

/// A moment as an operator reads it.
pub(super) fn date(seconds: i64) -> String {
    DateTime::from_timestamp(seconds, 0).map_or_else(
        || format!("{seconds} s after 1970"),
        |time| time.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
    )
}
