//! What an error of the TLS library means: whose certificate, which file, or neither.

use std::path::Path;

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};
use rustls_pki_types::UnixTime;

use super::files::date;
use crate::foreign::shown;
use crate::relay::error::{DeliveryError, Untrusted};

/// Turns an error of the TLS library into one that an operator can act on.
pub(super) fn verdict(error: Error, chain: &Path, cert: &Path) -> DeliveryError {
    match error {
        Error::AlertReceived(alert) => match refusal(alert) {
            Some(name) => DeliveryError::Refused {
                alert: name.to_owned(),
                cert: cert.to_owned(),
            },
            None => DeliveryError::Alert {
                alert: format!("{alert:?}"),
            },
        },
        Error::InvalidCertificate(error) => DeliveryError::Untrusted {
            reason: untrusted(error),
            chain: chain.to_owned(),
        },
        // Where the first byte is no TLS record's.
        Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => DeliveryError::NotTls,
        other => DeliveryError::Protocol {
            source: explained(other),
        },
    }
}

/// The names of the alerts by which a server refuses a client's certificate (RFC 8446, 6.2). OpenSSL answers a certificate that fits none of
/// its signature schemes, and with TLS 1.2 a missing one, by `handshake_failure`; that may have other reasons and is not among these.
fn refusal(alert: AlertDescription) -> Option<&'static str> {
    Some(match alert {
        AlertDescription::NoCertificate => "no_certificate",
        AlertDescription::BadCertificate => "bad_certificate",
        AlertDescription::UnsupportedCertificate => "unsupported_certificate",
        AlertDescription::CertificateRevoked => "certificate_revoked",
        AlertDescription::CertificateExpired => "certificate_expired",
        AlertDescription::CertificateUnknown => "certificate_unknown",
        AlertDescription::UnknownCA => "unknown_ca",
        AlertDescription::AccessDenied => "access_denied",
        AlertDescription::CertificateRequired => "certificate_required",
        _ => return None,
    })
}

fn untrusted(error: CertificateError) -> Untrusted {
    match error {
        CertificateError::UnknownIssuer => Untrusted::UnknownIssuer,
        CertificateError::ExpiredContext { not_after, .. } => Untrusted::Expired(moment(not_after)),
        CertificateError::NotValidYetContext { not_before, .. } => {
            Untrusted::NotYetValid(moment(not_before))
        }
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => Untrusted::WrongName {
            expected: expected.to_str().into_owned(),
            // What the relay, or whoever answers in its place, calls itself.
            presented: if presented.is_empty() {
                "no name at all (a name in CN alone does not count)".to_owned()
            } else {
                let names: Vec<_> = presented.iter().map(|name| bare(name)).collect();
                shown(&names.join(", "))
            },
        },
        CertificateError::Other(other) => match other.0.downcast_ref::<Untrusted>() {
            Some(known) => known.clone(),
            None => Untrusted::Other(shown(&other.to_string())),
        },
        other => Untrusted::Other(shown(&other.to_string())),
    }
}

/// A name without what the library puts around it: `DnsName("relay.example")`, `IpAddress(192.0.2.1)`.
fn bare(name: &str) -> &str {
    name.split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')'))
        .map_or(name, |inner| inner.trim_matches('"'))
}

fn moment(time: UnixTime) -> String {
    date(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}

/// Adds what the library's words leave out.
fn explained(error: Error) -> Box<dyn std::error::Error + Send + Sync> {
    match error {
        Error::PeerIncompatible(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig) => {
            "the relay offers neither TLS 1.2 nor TLS 1.3".into()
        }
        other => shown(&other.to_string()).into(),
    }
}
