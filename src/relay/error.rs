//! Why a delivery is unconfirmed, and what to do about it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

pub use super::tls::FileError;

/// The alerts by which a server says that it has no TLS in common with us (RFC 8446, 6.2); the first may have other reasons.
const NEGOTIATION: [&str; 3] = [
    "HandshakeFailure",
    "ProtocolVersion",
    "InsufficientSecurity",
];

/// What a relay has to offer.
const LET_IT_OFFER: &str = "let the relay offer TLS 1.3, or TLS 1.2 with ECDHE and AES-GCM or ChaCha20-Poly1305, on the curve P-256, P-384 or X25519; \
     and take the kind of key that our certificate has";

/// Why a delivery is unconfirmed. Whatever the reason, all that was written since the last receipt has to be sent again.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DeliveryError {
    /// One of the three certificate files cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The configured address can be no server's name.
    #[error("`address` {address:?} is neither a host name nor an IP address")]
    Address {
        /// As configured.
        address: String,
    },
    /// The relay's name could not be turned into an address.
    #[error("the name of {address} could not be resolved")]
    Resolve {
        /// Host and port.
        address: String,
        /// The resolver's answer.
        source: io::Error,
    },
    /// None of the name's addresses accepted a connection; the reason is the last one's.
    #[error("no connection to {address} ({tried})")]
    Connect {
        /// Host and port.
        address: String,
        /// The addresses tried, each with what came of it.
        tried: String,
        /// What came of the last one.
        source: io::Error,
    },
    /// The peer did not finish the handshake in time.
    #[error("no TLS handshake within {} s", .after.as_secs())]
    HandshakeTimeout {
        /// The time given to it.
        after: Duration,
    },
    /// The peer went away in the middle of the handshake, and did not say why.
    #[error("the relay closed the connection during the TLS handshake")]
    HandshakeEnded,
    /// The peer's first bytes were not TLS.
    #[error("the peer does not speak TLS")]
    NotTls,
    /// A peer that was to be spoken to in the clear has answered by TLS.
    #[error("the peer speaks TLS, and this output is plain TCP")]
    SpeaksTls,
    /// We do not accept the relay's certificate.
    #[error("the relay's certificate is not acceptable: {reason}")]
    Untrusted {
        /// What is wrong with it.
        reason: Untrusted,
        /// The file that says whom to trust.
        chain: PathBuf,
    },
    /// The relay does not accept our certificate. With TLS 1.3 this arrives after the handshake.
    #[error("the relay refused our certificate (alert {alert})")]
    Refused {
        /// The alert's name in RFC 8446.
        alert: String,
        /// The file that holds our certificate.
        cert: PathBuf,
    },
    /// The relay ended the connection by an alert that is not about our certificate.
    #[error("the relay broke the connection off with alert {alert}")]
    Alert {
        /// The alert's name.
        alert: String,
    },
    /// The two sides speak no TLS that both know.
    #[error("the relay's TLS and ours do not fit together: {what}")]
    Incompatible {
        /// What they have not in common.
        what: String,
    },
    /// The peer broke the protocol, or the library did not go on.
    #[error("the TLS connection failed")]
    Protocol {
        /// The TLS library's words.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The connection was reset, or timed out in the kernel.
    #[error("the connection broke")]
    Broken {
        /// The socket's words.
        source: io::Error,
    },
    /// The peer ended the connection before we did, so it says nothing about what it has read.
    #[error("the relay closed the connection before the delivery was ended")]
    Ended,
    /// The peer closed while bytes of ours were under way, so it may not have read the tail.
    #[error("closes crossed: the relay closed while {outstanding} bytes were on their way to it")]
    Crossed {
        /// Bytes without acknowledgement when the peer's end of stream was seen.
        outstanding: usize,
    },
    /// The connection ended in order, but without the `close_notify` that the address has given before: something between us may have gone
    /// away, with what it held.
    #[error(
        "the connection was ended without the relay's close_notify: not by the relay itself, as it seems"
    )]
    Unsaid,
    /// The peer said `close_notify` and then reset the connection: it may have died with what it had not read.
    #[error(
        "the relay reset the connection after its close_notify, so it may not have read everything"
    )]
    Voided,
    /// Empty probes get no answer, and the configuration forbids TCP's word in its place.
    #[error("{silence}, and `receipt` forbids TCP's acknowledgement in its place")]
    Mute {
        /// How long, and how often.
        silence: String,
    },
    /// Empty probes are answered without `close_notify`, and the configuration asks for it.
    #[error(
        "the relay ends connections without close_notify, and `receipt: close_notify` asks for it"
    )]
    NoCloseNotify,
    /// The peer acknowledges nothing of what is under way.
    #[error("the relay has not been heard for {} s, with {outstanding} bytes on their way to it", .after.as_secs())]
    Dead {
        /// The time since its last sign of life.
        after: Duration,
        /// Bytes without acknowledgement.
        outstanding: usize,
    },
    /// The peer's machine is there, but for long nothing has been read, or everything has been and no receipt came.
    #[error("the relay has made no progress for {} s ({})", .after.as_secs(), waited_for(*.outstanding))]
    Stalled {
        /// The time since the last progress.
        after: Duration,
        /// Bytes without acknowledgement.
        outstanding: usize,
    },
    /// The peer sends data where a relay is silent.
    #[error("the peer sends data, more than {bound} bytes, where a relay is silent")]
    Talks {
        /// What was tolerated.
        bound: usize,
    },
    /// Standard output took no more.
    #[error("standard output failed")]
    Console(#[source] io::Error),
}

/// What is wrong with a relay's certificate.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Untrusted {
    /// It does not lead to a certificate of the chain file.
    #[error("none of the authorities in the chain file has issued it")]
    UnknownIssuer,
    /// It, or an authority between it and the anchor, is out of date.
    #[error("it expired on {0}")]
    Expired(String),
    /// It, or an authority between it and the anchor, begins in the future.
    #[error("it is not valid before {0}")]
    NotYetValid(String),
    /// It is another host's.
    #[error("it is not for {expected} but for {presented}")]
    WrongName {
        /// The configured address.
        expected: String,
        /// The names in the certificate.
        presented: String,
    },
    /// It, or an authority on the way to the anchor, is of a kind that was usual once and is not secure.
    #[error("{0}, which is not accepted any more")]
    Outdated(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl DeliveryError {
    /// Whether a person has to change a file or the configuration, here or at the relay, before this can work. Worth trying again all the
    /// same: the files are read anew each time.
    pub fn is_setup(&self) -> bool {
        matches!(
            self,
            Self::File(_)
                | Self::Address { .. }
                | Self::NotTls
                | Self::SpeaksTls
                | Self::Untrusted { .. }
                | Self::Refused { .. }
                | Self::Talks { .. }
                | Self::Incompatible { .. }
                | Self::Mute { .. }
                | Self::NoCloseNotify
        )
    }

    /// What to do about it, where there is more to do than to try again.
    pub fn action(&self) -> Option<String> {
        Some(match self {
            Self::File(error) => error.action(),
            Self::Address { .. } => "correct `address`: a host name or an IP address, without scheme or port".to_owned(),
            Self::Resolve { .. } => "check `address`, and that this machine's name server answers".to_owned(),
            Self::Connect { .. } => "check `address` and `port`, and that no firewall is between here and the relay".to_owned(),
            Self::HandshakeTimeout { .. } => {
                "check that `port` is the relay's TLS port, and that no firewall holds TLS back".to_owned()
            }
            Self::HandshakeEnded => {
                "look into the relay's log for its reason; check that `port` is its TLS port, and that it knows our certificate's authority"
                    .to_owned()
            }
            Self::NotTls => "check `port`: it must be the relay's TLS port, not its plain one".to_owned(),
            Self::SpeaksTls => {
                "set the output's `type` to `relay`, with `chain`, `cert` and `key`; or set `port` to the relay's plain one".to_owned()
            }
            Self::Untrusted { reason, chain } => reason.action(&chain.display().to_string()),
            Self::Refused { cert, .. } => format!(
                "check that {} is current, was issued by an authority that this relay trusts, and also holds the intermediate \
                 certificates if there are any; download certificate, key and chain anew if in doubt",
                cert.display()
            ),
            Self::Talks { .. } => "check `address` and `port`: this does not look like a relay".to_owned(),
            Self::Console(_) => "check where standard output leads".to_owned(),
            Self::Unsaid => {
                "look for a relay that was replaced, or a balancer that gives the address to relays of different kinds; it is probed until \
                 it gives close_notify again, or for an hour"
                    .to_owned()
            }
            Self::Incompatible { .. } => LET_IT_OFFER.to_owned(),
            Self::Alert { alert } if NEGOTIATION.contains(&alert.as_str()) => LET_IT_OFFER.to_owned(),
            Self::Mute { .. } => {
                "let the relay's TLS endpoint (plain TCP: the relay) close a connection when its peer has closed it, or take the line \
                 `receipt` out"
                    .to_owned()
            }
            Self::NoCloseNotify => {
                "let the relay's TLS endpoint send close_notify before it closes a connection, or take the line `receipt` out".to_owned()
            }
            Self::Voided => {
                "let the relay's TLS endpoint close its connections in order, without a reset (SO_LINGER of 0, or unread data)".to_owned()
            }
            Self::Stalled { .. } => "check that the relay is not hung, and has room for what it receives".to_owned(),
            Self::Alert { .. }
            | Self::Protocol { .. }
            | Self::Broken { .. }
            | Self::Ended
            | Self::Crossed { .. }
            | Self::Dead { .. } => return None,
        })
    }
}

impl Untrusted {
    fn action(&self, chain: &str) -> String {
        match self {
            Self::UnknownIssuer => {
                format!("put the certificate of the authority that issued the relay's into {chain}, beside those in it")
            }
            Self::Expired(_) => "the relay's certificate has to be renewed there; or this machine's clock is wrong".to_owned(),
            Self::NotYetValid(_) => "check this machine's clock".to_owned(),
            Self::WrongName { .. } => {
                "set `address` to a name in the certificate; or, for a relay of your own, `verify_hostname: false`".to_owned()
            }
            Self::Outdated(_) => {
                "have that certificate issued anew, and what it has issued: version 3, signed with SHA-256, with an RSA key of 2048 bits or \
                 more or an ECDSA one; no setting lets it pass, but a relay on this machine that still accepts it can stand between \
                 (type `syslog`)"
                    .to_owned()
            }
            Self::Other(_) => format!("the relay needs another certificate, from an authority in {chain}"),
        }
    }
}

fn waited_for(outstanding: usize) -> String {
    match outstanding {
        0 => "it has all bytes and gives no receipt".to_owned(),
        more => format!("{more} bytes wait to be read"),
    }
}
