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
        Error::PeerIncompatible(reason) => DeliveryError::Incompatible {
            what: incompatible(&reason),
        },
        other => DeliveryError::Protocol {
            source: other.into(),
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
            None => Untrusted::Other(in_words(&other.to_string())),
        },
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            Untrusted::Other(
                "it is not made for servers (its extended key usage lacks serverAuth)".to_owned(),
            )
        }
        CertificateError::UnhandledCriticalExtension => Untrusted::Other(
            "it has a critical extension that TLS libraries do not know".to_owned(),
        ),
        CertificateError::BadEncoding => {
            Untrusted::Other("it is not encoded as X.509 asks for (DER, RFC 5280)".to_owned())
        }
        other => Untrusted::Other(in_words(&other.to_string())),
    }
}

/// What the library has only a name for.
fn in_words(name: &str) -> String {
    let words = match name {
        "CaUsedAsEndEntity" => {
            "it is an authority's (CA:TRUE) and stands not in the chain file itself"
        }
        "EndEntityUsedAsCa" => "what has issued it is no authority (CA:FALSE)",
        "PathLenConstraintViolated" => {
            "an authority between it and the chain file may issue no further authorities (pathlen)"
        }
        "NameConstraintViolation" => {
            "an authority between it and the chain file may not issue certificates for this name"
        }
        other => return shown(other),
    };
    words.to_owned()
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

/// What the relay and we have not in common.
fn incompatible(reason: &PeerIncompatible) -> String {
    match reason {
        PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
        | PeerIncompatible::ServerDoesNotSupportTls12Or13 => {
            "the relay offers neither TLS 1.2 nor TLS 1.3".to_owned()
        }
        PeerIncompatible::NoCipherSuitesInCommon => "no cipher suite in common".to_owned(),
        PeerIncompatible::NoKxGroupsInCommon => {
            "no group for the key exchange in common".to_owned()
        }
        PeerIncompatible::NoSignatureSchemesInCommon => "no signature scheme in common".to_owned(),
        PeerIncompatible::ExtendedMasterSecretExtensionRequired => {
            "the relay's TLS 1.2 lacks the extended master secret".to_owned()
        }
        other => format!("{other:?}"),
    }
}
