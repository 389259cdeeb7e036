//! A connection without TLS: the lines go out as they are, and what comes in is ignored.

use std::io::{self, Write};

use super::error::DeliveryError;
use super::limits::{Ignored, OUTPUT_MAX};

/// How a fatal or warning alert of TLS begins (RFC 8446, 5.1 and 6): with it a TLS server answers what is no handshake.
const TLS_ALERT: [u8; 2] = [0x15, 0x03];

/// One plain connection's state.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// What waits for the socket, from `written` on.
    output: Vec<u8>,
    written: usize,
    ignored: Ignored,
    has_heard: bool,
}

impl Session {
    pub(super) fn has_output(&self) -> bool {
        self.written < self.output.len()
    }

    /// Takes the beginning of `lines`; returns how much of it.
    pub(super) fn take(&mut self, lines: &[u8]) -> usize {
        self.output.drain(..self.written);
        self.written = 0;
        let room = OUTPUT_MAX.saturating_sub(self.output.len());
        let taken = lines.len().min(room);
        self.output.extend_from_slice(&lines[..taken]);
        taken
    }

    pub(super) fn write_to(&mut self, socket: &mut dyn Write) -> io::Result<usize> {
        let written = socket.write(&self.output[self.written..])?;
        self.written += written;
        Ok(written)
    }

    /// # Errors
    /// The peer speaks TLS, or talks too much.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> Result<(), DeliveryError> {
        if !self.has_heard && bytes.starts_with(&TLS_ALERT) {
            return Err(DeliveryError::SpeaksTls);
        }
        self.has_heard = true;
        self.ignored.count(bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_socket_does_not_take_at_once_waits_in_order_and_within_bounds() {
        let lines: Vec<u8> = (0..=u8::MAX).cycle().take(3 * OUTPUT_MAX).collect();
        let (mut session, mut rest, mut sent) = (Session::default(), &lines[..], Vec::new());
        while sent.len() < lines.len() {
            let taken = session.take(rest);
            rest = &rest[taken..];
            assert!(session.output.len() <= OUTPUT_MAX);
            assert!(session.has_output());
            // A socket with little room.
            let mut room = [0; 10_007];
            let written = session.write_to(&mut room.as_mut_slice()).unwrap();
            sent.extend_from_slice(&room[..written]);
        }
        assert!(sent == lines && !session.has_output());
    }
}
