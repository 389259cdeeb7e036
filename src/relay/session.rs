//! What goes over a connection's socket: TLS, or the lines as they are.
//!
//! A connection treats both alike. What a plain one lacks is `close_notify`, so that its peer's end of stream is all there is to a receipt.

use std::io::{self, Write};
use std::sync::Arc;

use super::error::DeliveryError;
use super::plain;
use super::tls;
use crate::blocking::FILES;

/// One connection's state above its socket.
#[derive(Debug)]
pub(super) enum Session {
    Tls(Box<tls::Session>),
    Plain(plain::Session),
}

impl Session {
    /// Mutual TLS: looks at the certificate files, on a thread that may block.
    pub(super) async fn tls(party: Arc<tls::Party>) -> Result<Self, DeliveryError> {
        let session = FILES.run(move || tls::Session::prepare(party)).await?;
        Ok(Self::Tls(Box::new(session)))
    }

    /// Plain TCP.
    pub(super) fn plain() -> Self {
        Self::Plain(plain::Session::default())
    }

    pub(super) fn is_handshaking(&self) -> bool {
        match self {
            Self::Tls(session) => session.is_handshaking(),
            Self::Plain(_) => false,
        }
    }

    /// Whether there is a `close_notify` to say.
    pub(super) fn has_close_notify(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Whether the peer has said `close_notify`.
    pub(super) fn peer_closed(&self) -> bool {
        match self {
            Self::Tls(session) => session.peer_closed(),
            Self::Plain(_) => false,
        }
    }

    /// Whether bytes wait for the socket.
    pub(super) fn has_output(&self) -> bool {
        match self {
            Self::Tls(session) => session.has_output(),
            Self::Plain(session) => session.has_output(),
        }
    }

    /// Takes the beginning of `lines`; returns how much of it. Takes nothing while much waits for the socket.
    pub(super) fn take(&mut self, lines: &[u8]) -> Result<usize, DeliveryError> {
        match self {
            Self::Tls(session) => session.encrypt(lines),
            Self::Plain(session) => Ok(session.take(lines)),
        }
    }

    /// Makes ready what has to be said before the half-close.
    pub(super) fn close(&mut self) {
        match self {
            Self::Tls(session) => session.close(),
            Self::Plain(_) => {}
        }
    }

    /// Gives bytes to the socket, in one write.
    pub(super) fn write_to(&mut self, socket: &mut dyn Write) -> io::Result<usize> {
        match self {
            Self::Tls(session) => session.write_to(socket),
            Self::Plain(session) => session.write_to(socket),
        }
    }

    /// Takes in what came from the socket.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> Result<(), DeliveryError> {
        match self {
            Self::Tls(session) => session.receive(bytes),
            Self::Plain(session) => session.receive(bytes),
        }
    }
}
