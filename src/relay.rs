//! The relay: one delivery on one connection, ended by a receipt.
//!
//! A [`Relay`] is a peer that takes lines: a relay behind mutual TLS or plain TCP, or standard output. A [`Delivery`] is one connection to it.
//! What was written is *confirmed* by [`Delivery::finish`] and nothing else: written is not delivered, since TCP accepts bytes for a peer
//! that is already gone.
//!
//! We send `close_notify` and wait for the peer's own, which only the holder of the relay's key can send: [`Receipt::Read`]. It must come
//! later than a round trip after ours, with nothing of ours unacknowledged, and without a reset behind it. What else confirms at an address
//! depends on what empty probes have shown there: [`knowledge`]. On anything else the whole delivery is unconfirmed and has to be sent again,
//! from the start of a line.
//!
//! Nothing here tries again, sleeps on an error, looks at the stop signal, or knows what a record is.

mod addresses;
mod connection;
mod console;
mod dial;
mod error;
mod gzip;
mod host;
pub mod knowledge;
mod limits;
mod plain;
#[cfg(test)]
pub(crate) mod scripted;
mod session;
mod socket;
mod syslog;
#[cfg(test)]
mod tests;
mod tls;
mod vigil;

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio::sync::MutexGuard;

use crate::config::{Compression, Output, OutputKind, ReceiptPolicy, SyslogOutput};
use addresses::Address;
pub use addresses::Addresses;
use connection::{Answer, Connection};
use console::Console;
pub use error::{DeliveryError, FileError, Untrusted};
use gzip::Packer;
pub use host::Host;
use knowledge::{Change, Learnt, Permit, Terms};
use limits::Limits;
use session::Session;

/// An output as a peer, which opens connections. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Relay {
    peer: Peer,
    address: Arc<Address>,
    limits: Limits,
}

#[derive(Clone, Debug)]
enum Peer {
    Tls(Arc<tls::Party>),
    Plain(Arc<SyslogOutput>),
    Console,
    /// Standard output in the place of another one.
    Printed(Box<Peer>),
    /// A peer of the tests, which no network leads to.
    #[cfg(test)]
    Scripted(Arc<dyn scripted::Dial>),
}

/// What makes a record a line: prefix, record and suffix together are one line with its newline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Before the record.
    pub prefix: Vec<u8>,
    /// After the record; ends in a newline.
    pub suffix: Vec<u8>,
}

/// How a connection ended after our own end, or that it did not; what is worth most as a receipt first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// The peer's `close_notify`, and then its end of stream, or nothing for a second.
    Read,
    /// The end of the stream without `close_notify`.
    Ended,
    /// The peer's `close_notify`, and then a reset.
    Reset,
    /// Nothing.
    Silent,
}

/// The confirmation of a delivery, the weakest kind first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Receipt {
    /// The peer's TCP has acknowledged everything, which may have been lost all the same.
    StoodIn,
    /// The connection was ended after our end, by the peer or by something between us.
    Ended,
    /// The peer has read everything. With TLS, only the holder of its key can say so.
    Read,
}

impl Receipt {
    /// The kind's name in metrics and configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::StoodIn => "stood_in",
            Self::Ended => "ended",
            Self::Read => "read",
        }
    }
}

impl Relay {
    /// The peer that the configuration describes, of which nothing is known. Opens nothing, reads no file.
    pub fn new(output: &Output) -> Self {
        Self::at(output, &Addresses::default())
    }

    /// The same, with what is known of its address, and what others there learn.
    pub fn at(output: &Output, addresses: &Addresses) -> Self {
        let peer = Peer::of(&output.kind);
        Self {
            address: addresses.get(&peer.address()),
            peer,
            limits: Limits::STANDARD,
        }
    }

    /// A peer of the tests.
    #[cfg(test)]
    pub(crate) fn scripted(dial: Arc<dyn scripted::Dial>, addresses: &Addresses) -> Self {
        Self {
            address: addresses.get(&dial.address()),
            peer: Peer::Scripted(dial),
            limits: Limits::STANDARD,
        }
    }

    /// The peer's host and port, or `stdout`.
    pub fn address(&self) -> String {
        self.peer.address()
    }

    /// What may be done under a policy now.
    pub fn permit(&self, policy: ReceiptPolicy) -> Permit {
        match self.peer {
            Peer::Console | Peer::Printed(_) => Permit::Deliver(Terms::STRICT),
            _ => self.address.permit(policy),
        }
    }

    /// What was learnt of the peer's address.
    pub fn learnt(&self) -> Option<Learnt> {
        self.address.learnt()
    }

    /// Whether the kind of the address's receipts is this one.
    pub fn is_learnt(&self, receipt: Receipt) -> bool {
        self.learnt()
            .is_some_and(|learnt| learnt.receipt == receipt)
    }

    /// What confirms records under a policy, if what is known suffices for it.
    pub fn terms(&self, policy: ReceiptPolicy) -> Option<Terms> {
        match self.peer {
            Peer::Console | Peer::Printed(_) => Some(Terms::STRICT),
            _ => self.address.terms(policy),
        }
    }

    /// How many deliveries in a row got no receipt.
    pub fn unconfirmed(&self) -> u32 {
        self.address.unconfirmed_in_a_row()
    }

    /// How many empty probes were silent, and over which time.
    pub fn silence(&self) -> (u32, Duration) {
        self.address.silence()
    }

    /// Takes what was learnt since the last call, by any output at this address.
    pub fn changes(&self) -> Vec<Change> {
        self.address.changes()
    }

    /// Waits for its turn to probe the address. What is permitted may be something else then.
    pub async fn turn_to_probe(&self) -> MutexGuard<'_, ()> {
        self.address.turn().await
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
            _ => Ok(()),
        }
    }

    /// When our certificate ends; `None` for a peer that is shown none.
    ///
    /// # Errors
    /// The certificate's file cannot be used.
    pub fn certificate_expiry(&self) -> Result<Option<DateTime<Utc>>, DeliveryError> {
        match &self.peer {
            Peer::Tls(party) => party.expiry().map(Some),
            _ => Ok(None),
        }
    }

    /// Opens a connection: reads the certificate files again if there are any and they have changed, tries the addresses of the name, shakes hands.
    ///
    /// With TLS 1.3 a relay that refuses our certificate says so only after this: any of the delivery's methods may report it.
    pub async fn open(&self) -> Result<Delivery, DeliveryError> {
        #[cfg(test)]
        if let Peer::Scripted(dial) = &self.peer {
            return Ok(Delivery {
                stream: Stream::Scripted(dial.connect().await?),
                compression: None,
                packer: None,
                address: Arc::clone(&self.address),
                begun: self.address.now(),
            });
        }
        let stream = match self.connect().await? {
            Some(connection) => Stream::Network(Box::new(connection)),
            None => Stream::Console(Console::open()),
        };
        let compression = match &self.peer {
            Peer::Tls(party) => Some(party.relay.compression),
            Peer::Plain(_) | Peer::Console | Peer::Printed(_) => None,
            #[cfg(test)]
            Peer::Scripted(_) => None,
        };
        Ok(Delivery {
            stream,
            compression,
            packer: None,
            address: Arc::clone(&self.address),
            begun: self.address.now(),
        })
    }

    /// An empty delivery, which shows how the peer ends a connection after our own end. With a peer that does not it takes `patience` and
    /// some seconds. What it shows is noted; a second one should not be under way at the same address.
    ///
    /// # Errors
    /// As [`Relay::open`] and [`Delivery::finish`]: a reset, or an end that came first, shows nothing.
    pub async fn probe(&self, patience: Duration) -> Result<Ending, DeliveryError> {
        let probe = async {
            #[cfg(test)]
            if let Peer::Scripted(dial) = &self.peer {
                let begun = Instant::now();
                let end = dial.connect().await?.end();
                let answered = tokio::time::timeout(patience, end).await;
                let ending = answered.unwrap_or(Ok(Ending::Silent))?;
                let half_closed = false;
                return Ok(Some((
                    Answer {
                        ending,
                        half_closed,
                    },
                    begun.elapsed(),
                )));
            }
            let Some(connection) = self.connect().await? else {
                return Ok(None);
            };
            let begun = Instant::now();
            let answer = connection.probe(patience).await?;
            Ok(Some((answer, begun.elapsed())))
        };
        match probe.await {
            Ok(Some((answer, took))) => {
                self.address.probed(answer.ending, answer.half_closed, took);
                Ok(answer.ending)
            }
            Ok(None) => Ok(Ending::Read),
            Err(error) => {
                self.address.probe_failed();
                Err(error)
            }
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
            #[cfg(test)]
            Peer::Scripted(_) => return Ok(None),
        };
        let label = self.address();
        let connection = Connection::open(session, place, &label, self.limits);
        connection.await.map(Some)
    }
}

impl Peer {
    fn address(&self) -> String {
        match self {
            Self::Tls(party) => label(&party.relay.address, party.relay.port),
            Self::Plain(relay) => label(&relay.address, relay.port),
            Self::Console | Self::Printed(_) => "stdout".to_owned(),
            #[cfg(test)]
            Self::Scripted(dial) => dial.address(),
        }
    }

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
            #[cfg(test)]
            Self::Scripted(_) => syslog::devo_envelope(pulled, host, tag),
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
    address: Arc<Address>,
    begun: DateTime<Utc>,
}

#[derive(Debug)]
enum Stream {
    Network(Box<Connection>),
    Console(Console),
    #[cfg(test)]
    Scripted(Box<dyn scripted::Conversation>),
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
            #[cfg(test)]
            Stream::Scripted(conversation) => conversation.broken().await,
        }
    }

    /// Ends the delivery, by `close_notify` where there is TLS, and by a half-close where there is none or `terms` ask for it; and waits for
    /// the peer's receipt. What comes of it is noted for the next delivery.
    ///
    /// A peer that has acknowledged everything may take up to 15 minutes for it: it is slow, not gone, and to send all again would
    /// not make it faster.
    ///
    /// # Errors
    /// All that was written is unconfirmed.
    pub async fn finish(mut self, terms: Terms) -> Result<Receipt, DeliveryError> {
        if let Some(packer) = &mut self.packer {
            self.stream.write(packer.end().map_err(broken)?).await?;
        }
        let connection = match self.stream {
            Stream::Network(connection) => connection,
            // What is written is not kept anywhere on the way.
            Stream::Console(_) => return Ok(Receipt::Read),
            #[cfg(test)]
            Stream::Scripted(conversation) => {
                let half_closed = false;
                let answer = conversation.end().await.map(|ending| Answer {
                    ending,
                    half_closed,
                });
                return Self::conclude(&self.address, self.begun, answer, terms);
            }
        };
        let answer = connection.finish(&terms).await;
        Self::conclude(&self.address, self.begun, answer, terms)
    }

    /// Notes what came of a delivery's end.
    fn conclude(
        address: &Address,
        begun: DateTime<Utc>,
        answer: Result<Answer, DeliveryError>,
        terms: Terms,
    ) -> Result<Receipt, DeliveryError> {
        let receipt = answer.and_then(Answer::receipt_on(&terms));
        match &receipt {
            Ok(receipt) => address.confirmed(*receipt, terms.half_close),
            Err(_) => address.unconfirmed(begun),
        }
        receipt
    }
}

impl Stream {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), DeliveryError> {
        match self {
            Self::Network(connection) => connection.write(bytes).await,
            Self::Console(console) => console.write(bytes).await,
            #[cfg(test)]
            Self::Scripted(conversation) => conversation.write(bytes).await,
        }
    }
}

/// Packing into memory does not fail; if it did, the delivery would be broken.
fn broken(source: std::io::Error) -> DeliveryError {
    DeliveryError::Broken { source }
}
