//! What a connection brings first, which tells whether it is for records or for the collector's own messages.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::line::MESSAGES;
use super::wire::Wire;

/// By so many bytes a line has shown its tag.
const TAG_WITHIN: usize = 400;
/// A connection for messages brings them at once; one that is silent for so long is another one.
const SILENCE: Duration = Duration::from_secs(2);

/// The first bytes of a connection, read ahead of what the relay is told to do with it.
#[derive(Default)]
pub(super) struct Opening {
    bytes: Vec<u8>,
    /// Bytes of it that have been given out.
    given: usize,
    /// How the stream ended after them.
    end: Option<io::Result<usize>>,
}

impl Opening {
    /// Reads until the tag of the first line is there, the connection ends or is to be closed, or nothing comes.
    pub(super) async fn read(stream: &mut Wire, close: &CancellationToken) -> Opening {
        let mut opening = Opening::default();
        let patience = Instant::now() + SILENCE;
        while !opening.is_told() {
            let mut buffer = [0; TAG_WITHIN];
            let read = close.run_until_cancelled(timeout_at(patience, stream.read(&mut buffer)));
            match read.await {
                Some(Ok(Ok(length @ 1..))) => opening.bytes.extend_from_slice(&buffer[..length]),
                Some(Ok(end)) => opening.end = Some(end),
                None | Some(Err(_)) => break,
            }
        }
        opening
    }

    /// Whether all is known that will be: gzip is not for messages.
    fn is_told(&self) -> bool {
        self.end.is_some()
            || self.bytes.len() >= TAG_WITHIN
            || self.bytes.first().is_some_and(|first| *first != b'<')
            || self.bytes.windows(2).any(|two| two == b": ")
    }

    pub(super) fn is_of_messages(&self) -> bool {
        let line = String::from_utf8_lossy(&self.bytes);
        let head = line.split_once(": ").map_or("", |(head, _)| head);
        let tag = head.rsplit(' ').next().unwrap_or_default();
        tag.starts_with(MESSAGES)
    }

    /// Whether all of it has been given out.
    pub(super) fn is_done(&self) -> bool {
        self.given == self.bytes.len()
    }

    /// Goes on reading: first what was read before, then the stream.
    pub(super) async fn then(&mut self, stream: &mut Wire, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = &self.bytes[self.given..];
        if !rest.is_empty() {
            let length = rest.len().min(buffer.len());
            buffer[..length].copy_from_slice(&rest[..length]);
            self.given += length;
            return Ok(length);
        }
        match self.end.take() {
            Some(end) => end,
            None => stream.read(buffer).await,
        }
    }
}
