//! The relay: one delivery on one connection, ended by a receipt.
//!
//! A [`Relay`] is a peer that takes lines: a relay behind mutual TLS or plain TCP, or standard output. A [`Delivery`] is one connection to it.
//! What was written is *confirmed* by [`Delivery::finish`] and nothing else: written is not delivered, since TCP accepts bytes for a peer
//! that is already gone.
//!
//! A [`Receipt`] is the peer's end of stream, if it came after our half-close, without a reset or an alert, with nothing of ours
//! unacknowledged at that instant, and with the peer's `close_notify` if it said that before. On anything else the whole delivery is
//! unconfirmed and has to be sent again, from the start of a line.
//!
//! Nothing here tries again, sleeps on an error, looks at the stop signal, or knows what a record is.

mod connection;
mod console;
mod dial;
mod error;
mod farewell;
mod gzip;
mod host;
mod limits;
mod plain;
mod session;
mod socket;
mod syslog;
#[cfg(test)]
mod tests;
mod tls;
mod vigil;

use std::future::pending;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::config::{Compression, Output, OutputKind, SyslogOutput};
use connection::Connection;
use console::Console;
pub use error::{DeliveryError, FileError, Untrusted};
use farewell::Farewell;
use gzip::Packer;
pub use host::Host;
use limits::Limits;
use session::Session;

/// An output as a peer, which opens connections. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Relay {
    peer: Peer,
    farewell: Arc<Farewell>,
    limits: Limits,
}

#[derive(Clone, Debug)]
enum Peer {
    Tls(Arc<tls::Party>),
    Plain(Arc<SyslogOutput>),
    Console,
    /// Standard output in the place of another one.
    Printed(Box<Peer>),
}

/// What makes a record a line: prefix, record and suffix together are one line with its newline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Before the record.
    pub prefix: Vec<u8>,
    /// After the record; ends in a newline.
    pub suffix: Vec<u8>,
}

/// Whether a peer answers a half-close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It ends its stream too: it gives receipts.
    Answers,
    /// It keeps the connection open and says nothing.
    Silent,
}

/// What may confirm a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// A receipt only.
    ReceiptOnly,
    /// A receipt; or, for a peer that never gave one, TCP's acknowledgement of every byte.
    StandIn,
}

/// The confirmation of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// The peer, or its TLS endpoint where there is TLS, has read everything.
    Read,
    /// The peer's TCP has acknowledged everything, which may have been lost all the same.
    StoodIn,
}

impl Relay {
    /// The peer that the configuration describes. Opens nothing, reads no file.
    pub fn new(output: &Output) -> Self {
        Self {
            peer: Peer::of(&output.kind),
            farewell: Arc::default(),
            limits: Limits::STANDARD,
        }
    }

    /// The peer's host and port, or `stdout`.
    pub fn address(&self) -> String {
        match &self.peer {
            Peer::Tls(party) => label(&party.relay.address, party.relay.port),
            Peer::Plain(relay) => label(&relay.address, relay.port),
            Peer::Console | Peer::Printed(_) => "stdout".to_owned(),
        }
    }

    /// How a record that was pulled at `pulled`, by the machine `host`, is wrapped for this peer. `tag` is the Devo table.
    pub fn envelope(&self, pulled: DateTime<Utc>, host: &Host, tag: &str) -> Envelope {
        self.peer.envelope(pulled, host, tag)
    }

    /// Checks all that can be checked without a connection: that the certificate files are there, can be read, belong together, and
    /// have not expired. Blocks on the disk.
    pub fn check(&self) -> Result<(), DeliveryError> {
        match &self.peer {
            Peer::Tls(party) => party.check(),
            Peer::Plain(_) | Peer::Console | Peer::Printed(_) => Ok(()),
        }
    }

    /// When our certificate ends; `None` for a peer that is shown none.
    ///
    /// # Errors
    /// The certificate's file cannot be used.
    pub fn certificate_expiry(&self) -> Result<Option<DateTime<Utc>>, DeliveryError> {
        match &self.peer {
            Peer::Tls(party) => party.expiry().map(Some),
            Peer::Plain(_) | Peer::Console | Peer::Printed(_) => Ok(None),
        }
    }

    /// Opens a connection: reads the certificate files again if there are any and they have changed, tries the addresses of the name, shakes hands.
    ///
    /// With TLS 1.3 a relay that refuses our certificate says so only after this: any of the delivery's methods may report it.
    ///
    /// After a delivery whose end was not the peer's own (see [`DeliveryError::Unsaid`]), an empty one comes first.
    pub async fn open(&self) -> Result<Delivery, DeliveryError> {
        if self.farewell.is_doubted() {
            self.probe().await?;
        }
        let stream = match self.connect().await? {
            Some(connection) => Stream::Network(Box::new(connection)),
            None => Stream::Console(Console::open()),
        };
        let compression = match &self.peer {
            Peer::Tls(party) => Some(party.relay.compression),
            Peer::Plain(_) | Peer::Console | Peer::Printed(_) => None,
        };
        Ok(Delivery {
            stream,
            compression,
            packer: None,
        })
    }

    /// An empty delivery, which shows whether the peer answers a half-close at all. Takes up to 15 s with one that does not.
    ///
    /// # Errors
    /// As [`Relay::open`] and [`Delivery::finish`]: a reset, or an end that came first, is no answer either way.
    pub async fn probe(&self) -> Result<Answer, DeliveryError> {
        match self.connect().await? {
            Some(connection) => connection.probe().await,
            None => Ok(Answer::Answers),
        }
    }

    /// A connection, to a peer that is reached by one.
    async fn connect(&self) -> Result<Option<Connection>, DeliveryError> {
        let (session, place) = match &self.peer {
            Peer::Tls(party) => {
                let session = Session::tls(Arc::clone(party)).await?;
                (session, (party.relay.address.as_str(), party.relay.port))
            }
            Peer::Plain(relay) => (Session::plain(), (relay.address.as_str(), relay.port)),
            Peer::Console | Peer::Printed(_) => return Ok(None),
        };
        let (label, farewell) = (self.address(), Arc::clone(&self.farewell));
        let connection = Connection::open(session, place, &label, farewell, self.limits);
        connection.await.map(Some)
    }
}

impl Peer {
    fn of(kind: &OutputKind) -> Self {
        match kind {
            OutputKind::Relay(relay) => Self::Tls(Arc::new(tls::Party::new(relay.clone()))),
            OutputKind::Syslog(relay) => Self::Plain(Arc::new(relay.clone())),
            OutputKind::Console => Self::Console,
            OutputKind::Printed(other) => Self::Printed(Box::new(Self::of(other))),
        }
    }

    fn envelope(&self, pulled: DateTime<Utc>, host: &Host, tag: &str) -> Envelope {
        match self {
            Self::Tls(_) => syslog::devo_envelope(pulled, host, tag),
            Self::Plain(_) => syslog::envelope(pulled, host, tag),
            Self::Console => console::envelope(pulled, tag),
            Self::Printed(other) => other.envelope(pulled, host, tag),
        }
    }
}

/// Host and port as they are written.
fn label(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Lines on one connection. Dropped without [`Delivery::finish`], it breaks the connection off.
#[derive(Debug)]
pub struct Delivery {
    stream: Stream,
    compression: Option<Compression>,
    packer: Option<Packer>,
}

#[derive(Debug)]
enum Stream {
    Network(Box<Connection>),
    Console(Console),
}

impl Delivery {
    /// Tells, before the first lines, what share of all that may wait does wait: where the configuration wants gzip for that, the whole
    /// delivery is gzipped.
    pub fn begin(&mut self, fullness: f64) {
        let compression = self.compression.filter(|wanted| wanted.applies(fullness));
        self.packer = compression.as_ref().map(Packer::new);
    }

    /// Writes whole lines, best 32–64 KiB at once. Returns when the kernel has them, which confirms nothing.
    ///
    /// A peer that reads slowly may make this take long. Not cancel safe: a delivery whose write was given up has to be dropped.
    ///
    /// # Errors
    /// The peer has ended or broken the connection, is dead, or has read nothing for 15 minutes.
    pub async fn write(&mut self, chunk: &[u8]) -> Result<(), DeliveryError> {
        match &mut self.packer {
            Some(packer) => self.stream.write(packer.pack(chunk).map_err(broken)?).await,
            None => self.stream.write(chunk).await,
        }
    }

    /// As [`Delivery::write`], for lines that none will follow at once: it gets them acknowledged without delay.
    ///
    /// # Errors
    /// As [`Delivery::write`].
    pub async fn write_last(&mut self, chunk: &[u8]) -> Result<(), DeliveryError> {
        match (&mut self.stream, &self.packer) {
            (Stream::Network(connection), None) => connection.write_last(chunk).await,
            _ => self.write(chunk).await,
        }
    }

    /// Resolves when the peer ends or breaks the connection uninvited, while there is nothing to write. Cancel safe.
    pub async fn broken(&mut self) -> DeliveryError {
        match &mut self.stream {
            Stream::Network(connection) => connection.broken().await,
            Stream::Console(_) => pending().await,
        }
    }

    /// Ends the delivery, by `close_notify` where there is TLS and a half-close, and waits for the peer's receipt.
    ///
    /// A peer that has acknowledged everything may take up to 15 minutes for it: it is slow, not gone, and to send all again would
    /// not make it faster.
    ///
    /// # Errors
    /// All that was written is unconfirmed.
    pub async fn finish(mut self, trust: Trust) -> Result<Receipt, DeliveryError> {
        if let Some(packer) = &mut self.packer {
            self.stream.write(packer.end().map_err(broken)?).await?;
        }
        match self.stream {
            Stream::Network(connection) => connection.finish(trust).await,
            Stream::Console(console) => console.finish().await,
        }
    }
}

impl Stream {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), DeliveryError> {
        match self {
            Self::Network(connection) => connection.write(bytes).await,
            Self::Console(console) => console.write(bytes).await,
        }
    }
}

/// Packing into memory does not fail; if it did, the delivery would be broken.
fn broken(source: std::io::Error) -> DeliveryError {
    DeliveryError::Broken { source }
}
