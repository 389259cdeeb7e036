//! The three PEM files, and every way of getting them wrong told apart.

use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rustls::Error;
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject, SectionKind};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer, UnixTime};
use thiserror::Error;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::outdated;
use crate::config::RelayOutput;

/// A byte order mark, which editors on Windows leave in front.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// No certificate file is near this size; a wrong path may lead to something far larger.
const SIZE_MAX: u64 = 4 << 20;

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
    #[error("there is no such file")]
    Missing,
    #[error("permission denied on {} (owner {owner}, group {group}, mode {mode:04o}) to uid {uid}", .at.display())]
    Denied {
        at: PathBuf,
        owner: u32,
        group: u32,
        mode: u32,
        uid: u32,
    },
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    #[error("is larger than {} MiB", SIZE_MAX >> 20)]
    TooLarge,
    #[error("is empty")]
    Empty,
    #[error("is DER (binary), not PEM")]
    Der,
    #[error("holds no {0} in PEM form")]
    Nothing(&'static str),
    #[error("is damaged: {0}")]
    Damaged(&'static str),
    #[error("holds a private key and no certificate")]
    KeyForCertificate,
    #[error("holds a certificate and no private key")]
    CertificateForKey,
    #[error("the private key is encrypted")]
    Encrypted,
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
        let path = self.path.display();
        match &self.problem {
            Problem::Missing => format!("put the file there, or correct `{}`", self.role),
            Problem::Denied { at, uid, .. } if *at == self.path => {
                format!("`chown {uid} {path}` (mode 0400 is enough), or run the collector as the file's owner")
            }
            Problem::Denied { at, uid, .. } => {
                let at = at.display();
                format!("let uid {uid} pass through the folder: `chmod a+x {at}`, or `chown {uid} {at}`")
            }
            Problem::Unreadable(_) => format!("make `{}` a readable file", self.role),
            Problem::TooLarge => format!("correct `{}`: this is no certificate file", self.role),
            Problem::Der if self.role == "key" => format!(
                "convert it: `openssl pkey -inform DER -in {path} -out {path}.pem`, and set `key` to the new file \
                 (a .p12 or .pfx file: `openssl pkcs12 -in {path} -nocerts -nodes -out {path}.pem`)"
            ),
            Problem::Der => format!(
                "convert it: `openssl x509 -inform DER -in {path} -out {path}.pem`, and set `{}` to the new file \
                 (a .p12 or .pfx file: `openssl pkcs12 -in {path} -nokeys -out {path}.pem`)",
                self.role
            ),
            Problem::Encrypted => format!(
                "decrypt it: `openssl pkey -in {path} -out {path}.plain`, protect the new file (mode 0400), and set `key` to it"
            ),
            Problem::KeyForCertificate | Problem::CertificateForKey => {
                "`cert` and `key` seem to be swapped: correct the two names".to_owned()
            }
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
            Problem::Empty | Problem::Nothing(_) | Problem::Damaged(_) | Problem::UnusableCertificate(_) => {
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
    text: Vec<u8>,
}

impl<'a> PemFile<'a> {
    fn read(role: &'static str, path: &'a Path) -> Result<Self, FileError> {
        let mut file = Self {
            role,
            path,
            text: Vec::new(),
        };
        file.text = read_bounded(path).map_err(|problem| file.error(problem))?;
        if file.text.starts_with(BYTE_ORDER_MARK) {
            file.text.drain(..BYTE_ORDER_MARK.len());
        }
        if file.text.trim_ascii().is_empty() {
            return Err(file.error(Problem::Empty));
        }
        Ok(file)
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, FileError> {
        let certificates = CertificateDer::pem_slice_iter(&self.text)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| self.error(damage(&error)))?;
        if !certificates.is_empty() {
            return Ok(certificates);
        }
        Err(self.error(if self.holds("PRIVATE KEY-----") {
            Problem::KeyForCertificate
        } else if self.is_der() {
            Problem::Der
        } else {
            Problem::Nothing("certificate")
        }))
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, FileError> {
        // PKCS#8, or PKCS#1 and SEC1 with the headers of an encrypted one, which would pass for damage.
        if self.holds("BEGIN ENCRYPTED PRIVATE KEY") || self.holds("Proc-Type: 4,ENCRYPTED") {
            return Err(self.error(Problem::Encrypted));
        }
        let key = <(SectionKind, Vec<u8>)>::pem_slice_iter(&self.text)
            .find_map(|section| match section {
                Ok((kind, der)) => PrivateKeyDer::from_pem(kind, der).map(Ok),
                Err(error) => Some(Err(error)),
            })
            .transpose()
            .map_err(|error| self.error(damage(&error)))?;
        key.ok_or_else(|| {
            self.error(if self.holds("BEGIN CERTIFICATE-----") {
                Problem::CertificateForKey
            } else if self.is_der() {
                Problem::Der
            } else {
                Problem::Nothing("private key")
            })
        })
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

    fn holds(&self, text: &str) -> bool {
        memchr::memmem::find(&self.text, text.as_bytes()).is_some()
    }

    /// DER begins with a SEQUENCE whose length takes several bytes.
    fn is_der(&self) -> bool {
        matches!(self.text.as_slice(), [0x30, 0x80..=0x84, ..])
    }

    fn error(&self, problem: Problem) -> FileError {
        FileError {
            role: self.role,
            path: self.path.to_owned(),
            problem,
        }
    }
}

/// What is wrong with a PEM file, without the library's words: they quote the line, which may be the key.
fn damage(error: &pem::Error) -> Problem {
    Problem::Damaged(match error {
        pem::Error::MissingSectionEnd { .. } => "a BEGIN line without its END line",
        pem::Error::IllegalSectionStart { .. } => {
            "a BEGIN line that does not end in dashes (have the line breaks been lost?)"
        }
        pem::Error::Base64Decode(_) => "something between BEGIN and END is not base64",
        _ => "it is not well-formed PEM",
    })
}

/// A moment as an operator reads it.
pub(super) fn date(seconds: i64) -> String {
    DateTime::from_timestamp(seconds, 0).map_or_else(
        || format!("{seconds} s after 1970"),
        |time| time.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
    )
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, Problem> {
    let metadata = fs::metadata(path).map_err(|error| why(path, error))?;
    if metadata.len() > SIZE_MAX {
        return Err(Problem::TooLarge);
    }
    fs::read(path).map_err(|error| why(path, error))
}

fn why(path: &Path, error: io::Error) -> Problem {
    match error.kind() {
        io::ErrorKind::NotFound => Problem::Missing,
        io::ErrorKind::PermissionDenied => denied(path).unwrap_or(Problem::Unreadable(error)),
        _ => Problem::Unreadable(error),
    }
}

/// Which of the path's parts is closed to us: the last one that can still be looked at.
fn denied(path: &Path) -> Option<Problem> {
    let (at, metadata) = path
        .ancestors()
        .find_map(|at| fs::metadata(at).ok().map(|metadata| (at, metadata)))?;
    Some(Problem::Denied {
        at: at.to_owned(),
        owner: metadata.uid(),
        group: metadata.gid(),
        mode: metadata.mode() & 0o7777,
        uid: nix::unistd::geteuid().as_raw(),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// What is said where a look at `path` is denied. (Asked directly: a test that runs as root is denied nothing.)
    fn told(path: &Path) -> String {
        let file = PemFile {
            role: "key",
            path,
            text: Vec::new(),
        };
        let error = file.error(denied(path).unwrap());
        format!("{error}; {}", error.action())
    }

    #[test]
    fn a_denied_file_is_told_by_its_owner_and_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("client.key");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let owner = fs::metadata(&path).unwrap().uid();
        let uid = nix::unistd::geteuid();
        let told = told(&path);
        assert!(told.contains(&format!("(owner {owner}, ")), "{told}");
        assert!(
            told.contains(&format!("mode 0600) to uid {uid}; `chown {uid} ")),
            "{told}"
        );
    }

    #[test]
    fn of_a_denied_folder_it_is_the_folder_that_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let told = told(&folder.path().join("client.key"));
        let at = folder.path().display();
        assert!(
            told.contains(&format!("permission denied on {at} (")),
            "{told}"
        );
        assert!(told.contains(&format!("`chmod a+x {at}`")), "{told}");
    }
}
