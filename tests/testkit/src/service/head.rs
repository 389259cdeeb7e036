//! Header lines that no HTTP library would write, put into an answer's head on its way to the network.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::sync::lock;

/// The lines that a connection's next answer gets.
#[derive(Clone, Default)]
pub(crate) struct Head {
    lines: Arc<Mutex<String>>,
}

impl Head {
    /// The next answer has this text behind its status line.
    pub(crate) fn add(&self, lines: &str) {
        lock(&self.lines).push_str(lines);
    }
}

/// A connection whose answers get further lines.
pub(crate) struct Spliced<S> {
    stream: S,
    head: Head,
    /// The status line and the lines behind it, as far as they are not written yet.
    waiting: Vec<u8>,
}

impl<S> Spliced<S> {
    pub(crate) fn new(stream: S, head: Head) -> Spliced<S> {
        Spliced {
            stream,
            head,
            waiting: Vec::new(),
        }
    }
}

impl<S: AsyncWrite + Unpin> Spliced<S> {
    fn write_waiting(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, &self.waiting))?;
            self.waiting.drain(..written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Spliced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Spliced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.write_waiting(context))?;
        let status = bytes.windows(2).position(|end| end == b"\r\n");
        if let (Some(end), true) = (status, bytes.starts_with(b"HTTP/1.")) {
            let lines = std::mem::take(&mut *lock(&self.head.lines));
            if !lines.is_empty() {
                let end = end + 2;
                self.waiting = [&bytes[..end], lines.as_bytes()].concat();
                return Poll::Ready(Ok(end));
            }
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.write_waiting(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.write_waiting(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
