//! The TLS side of a connection, without its socket: bytes in, bytes out.
//!
//! The certificate files are looked at for each connection, and read again where they have changed: a new certificate needs no restart.
//!
//! TLS 1.2 and 1.3, our certificate always shown, the relay's verified against the chain file. Sessions are never resumed: rsyslog and
//! socat with client certificates refuse two of three that are.

mod files;
mod outdated;
mod stamps;
mod verdict;
mod verifier;

use std::fmt;
use std::io::{self, BufRead, Write};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use rustls_pki_types::{ServerName, UnixTime};

use super::error::DeliveryError;
use super::limits::{Ignored, OUTPUT_MAX};
use crate::config::RelayOutput;
pub use files::FileError;
use stamps::Stamps;

/// A relay, and what its certificate files have come to.
#[derive(Debug)]
pub(super) struct Party {
    pub(super) relay: RelayOutput,
    known: Mutex<Option<Known>>,
}

/// What the files came to when they were last read.
#[derive(Debug)]
struct Known {
    files: Stamps,
    /// While our certificate is valid.
    valid: RangeInclusive<u64>,
    configuration: Arc<ClientConfig>,
}

impl Party {
    pub(super) fn new(relay: RelayOutput) -> Self {
        Self {
            relay,
            known: Mutex::default(),
        }
    }

    /// Checks the certificate files as [`Session::prepare`] would.
    pub(super) fn check(&self) -> Result<(), DeliveryError> {
        self.configuration()?;
        server_name(&self.relay)?;
        Ok(())
    }

    /// When our certificate ends.
    pub(super) fn expiry(&self) -> Result<DateTime<Utc>, DeliveryError> {
        let provider = aws_lc_rs::default_provider();
        Ok(files::expiry(&self.relay, &provider, UnixTime::now())?)
    }

    /// As it is known, if the files are as they were and our certificate is still valid; else read anew. The clock that decides what has
    /// expired is the one that the TLS library judges the relay's certificate by.
    pub(super) fn configuration(&self) -> Result<Arc<ClientConfig>, DeliveryError> {
        let now = UnixTime::now();
        let files = Stamps::of(&self.relay);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(known), Some(files)) = (&*known, &files)
            && known.files == *files
            && known.valid.contains(&now.as_secs())
        {
            return Ok(Arc::clone(&known.configuration));
        }
        *known = None;
        let (configuration, valid) = read(&self.relay, now)?;
        let configuration = Arc::new(configuration);
        *known = files.filter(Stamps::are_settled).map(|files| Known {
            files,
            valid,
            configuration: Arc::clone(&configuration),
        });
        Ok(configuration)
    }
}

/// One TLS connection's state.
pub(super) struct Session {
    tls: ClientConnection,
    party: Arc<Party>,
    ignored: Ignored,
    peer_closed: bool,
}

impl Session {
    /// Looks at the certificate files and makes ready for a handshake. Blocks on the disk.
    ///
    /// # Errors
    /// A file cannot be used, or the address is no name.
    pub(super) fn prepare(party: Arc<Party>) -> Result<Self, DeliveryError> {
        let name = server_name(&party.relay)?;
        let mut tls = ClientConnection::new(party.configuration()?, name).map_err(protocol)?;
        tls.set_buffer_limit(Some(OUTPUT_MAX));
        Ok(Self {
            tls,
            party,
            ignored: Ignored::default(),
            peer_closed: false,
        })
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// Whether the peer has said `close_notify`.
    pub(super) fn peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// Whether encrypted bytes wait for the socket.
    pub(super) fn has_output(&self) -> bool {
        self.tls.wants_write()
    }

    /// Encrypts the beginning of `plain`; returns how much of it. Takes nothing while much waits for the socket.
    pub(super) fn encrypt(&mut self, plain: &[u8]) -> Result<usize, DeliveryError> {
        self.tls
            .writer()
            .write(plain)
            .map_err(|source| DeliveryError::Protocol {
                source: source.into(),
            })
    }

    /// Encrypts our `close_notify`.
    pub(super) fn close(&mut self) {
        self.tls.send_close_notify();
    }

    /// Gives encrypted bytes to the socket, in one write.
    pub(super) fn write_to(&mut self, socket: &mut dyn Write) -> io::Result<usize> {
        self.tls.write_tls(socket)
    }

    /// Takes in what came from the socket. Data is ignored, and so is all that follows the peer's `close_notify`.
    ///
    /// # Errors
    /// An alert; a certificate that is not to be trusted; a peer that breaks the protocol or talks too much.
    pub(super) fn receive(&mut self, mut bytes: &[u8]) -> Result<(), DeliveryError> {
        while !bytes.is_empty() && !self.peer_closed {
            self.tls.read_tls(&mut bytes).map_err(io_protocol)?;
            let relay = &self.party.relay;
            let state = self
                .tls
                .process_new_packets()
                .map_err(|error| verdict::verdict(error, &relay.chain, &relay.cert))?;
            self.peer_closed = state.peer_has_closed();
            let talk = state.plaintext_bytes_to_read();
            self.ignore(talk)?;
        }
        self.ignored.count(bytes.len())
    }

    fn ignore(&mut self, mut talk: usize) -> Result<(), DeliveryError> {
        self.ignored.count(talk)?;
        while talk > 0 {
            let mut reader = self.tls.reader();
            let length = reader.fill_buf().map_err(io_protocol)?.len();
            reader.consume(length);
            talk = talk.saturating_sub(length.max(1));
        }
        Ok(())
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("version", &self.tls.protocol_version())
            .field("peer_closed", &self.peer_closed)
            .finish_non_exhaustive()
    }
}

/// Reads the files; tells too while our certificate is valid, in seconds since 1970.
fn read(
    relay: &RelayOutput,
    now: UnixTime,
) -> Result<(ClientConfig, RangeInclusive<u64>), DeliveryError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let (identity, valid) = files::identity(relay, &provider, now)?;
    let mut roots = RootCertStore::empty();
    let anchors = files::anchors(relay)?;
    for anchor in &anchors {
        roots
            .add(anchor.clone())
            .map_err(|error| files::unusable_anchor(relay, &error))?;
    }
    let verifier = verifier::ChainFile {
        roots,
        anchors,
        verify_name: relay.verify_hostname,
        algorithms: provider.signature_verification_algorithms,
    };
    let mut configuration = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(protocol)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
    configuration.resumption = Resumption::disabled();
    Ok((configuration, valid))
}

/// The name that the relay's certificate has to bear, and the SNI unless it is an IP address.
fn server_name(relay: &RelayOutput) -> Result<ServerName<'static>, DeliveryError> {
    let address = relay.address.trim_end_matches('.');
    ServerName::try_from(address.to_owned()).map_err(|_| DeliveryError::Address {
        address: relay.address.clone(),
    })
}

fn protocol(error: rustls::Error) -> DeliveryError {
    DeliveryError::Protocol {
        source: error.into(),
    }
}

fn io_protocol(error: io::Error) -> DeliveryError {
    DeliveryError::Protocol {
        source: error.into(),
    }
}
