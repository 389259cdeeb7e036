//! What older TLS libraries took and today's do not: weak keys, weak signatures, certificates of version 1.
//!
//! The TLS library refuses them in words that do not name the reason; here the reason is looked for in the certificates themselves.

use std::sync::Arc;

use rustls::{CertificateError, Error, OtherError};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;

use crate::foreign::shown;
use crate::relay::error::Untrusted;

/// The least that today's libraries take, in bits.
const RSA_LEAST: usize = 2048;

/// Signature algorithms that are broken: their object identifiers (RFC 3279, 2.2) and names.
const BROKEN: [(&str, &str); 3] = [
    ("1.2.840.113549.1.1.4", "MD5"),
    ("1.2.840.113549.1.1.5", "SHA-1"),
    ("1.2.840.10045.4.1", "SHA-1"),
];

/// The same error, or a better one where a certificate shown by the relay, or the anchor that has issued one of them, is outdated.
pub(super) fn explain(
    error: Error,
    presented: &[&CertificateDer<'_>],
    anchors: &[CertificateDer<'_>],
) -> Error {
    let Error::InvalidCertificate(reason) = &error else {
        return error;
    };
    let is_clear = matches!(
        reason,
        CertificateError::UnknownIssuer
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYetContext { .. }
            | CertificateError::NotValidForNameContext { .. }
            | CertificateError::InvalidPurposeContext { .. }
    );
    match find(presented, anchors).filter(|_| !is_clear) {
        Some(outdated) => {
            let outdated = OtherError(Arc::new(Untrusted::Outdated(outdated)));
            Error::InvalidCertificate(CertificateError::Other(outdated))
        }
        None => error,
    }
}

/// What is outdated, as the end of a sentence on the relay's certificate.
fn find(presented: &[&CertificateDer<'_>], anchors: &[CertificateDer<'_>]) -> Option<String> {
    let presented: Vec<_> = presented.iter().filter_map(|one| parsed(one)).collect();
    let anchors: Vec<_> = anchors.iter().filter_map(parsed).collect();
    let issuers = anchors.iter().filter(|anchor| {
        let subject = anchor.subject().as_raw();
        presented.iter().any(|one| one.issuer().as_raw() == subject)
    });
    // An anchor may be of any version, and nobody looks at its signature.
    let of_presented = presented
        .iter()
        .find_map(|one| version(one).or_else(|| signature(one)));
    of_presented.or_else(|| presented.iter().chain(issuers).find_map(key))
}

fn parsed<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    X509Certificate::from_der(der)
        .ok()
        .map(|(_, certificate)| certificate)
}

fn version(certificate: &X509Certificate<'_>) -> Option<String> {
    let version = certificate.version().0 + 1;
    (version < 3).then(|| format!("{} is of X.509 version {version}", subject(certificate)))
}

fn signature(certificate: &X509Certificate<'_>) -> Option<String> {
    let algorithm = certificate.signature_algorithm.algorithm.to_id_string();
    let (_, name) = BROKEN.iter().find(|(id, _)| *id == algorithm)?;
    Some(format!("{} is signed with {name}", subject(certificate)))
}

fn key(certificate: &X509Certificate<'_>) -> Option<String> {
    let bits = short(certificate)?;
    Some(format!(
        "{} has an RSA key of {bits} bits",
        subject(certificate)
    ))
}

/// Whose certificate it is, as it calls itself.
fn subject(certificate: &X509Certificate<'_>) -> String {
    shown(&certificate.subject().to_string())
}

/// The bits of a certificate's RSA key, if they are too few.
pub(super) fn short_key(certificate: &CertificateDer<'_>) -> Option<usize> {
    short(&parsed(certificate)?)
}

fn short(certificate: &X509Certificate<'_>) -> Option<usize> {
    match certificate.public_key().parsed() {
        Ok(PublicKey::RSA(key)) => Some(key.key_size()).filter(|bits| *bits < RSA_LEAST),
        _ => None,
    }
}
