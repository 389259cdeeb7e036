//! What a relay reads from: TLS, or TCP as it is.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// An accepted connection.
pub(super) enum Wire {
    Tls(Box<TlsStream<TcpStream>>),
    Plain(TcpStream),
}

impl Wire {
    pub(super) async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Wire::Tls(stream) => stream.read(buffer).await,
            Wire::Plain(stream) => stream.read(buffer).await,
        }
    }

    /// `close_notify` where there is TLS, and FIN.
    pub(super) async fn shutdown(&mut self) -> io::Result<()> {
        match self {
            Wire::Tls(stream) => stream.shutdown().await,
            Wire::Plain(stream) => stream.shutdown().await,
        }
    }

    /// `close_notify` where there is TLS, and nothing on the level of TCP.
    pub(super) async fn notify_close(&mut self) {
        if let Wire::Tls(stream) = self {
            let (_, session) = stream.get_mut();
            session.send_close_notify();
            // The client may be gone.
            let _ = stream.flush().await;
        }
    }

    pub(super) fn socket(&self) -> &TcpStream {
        match self {
            Wire::Tls(stream) => stream.get_ref().0,
            Wire::Plain(stream) => stream,
        }
    }

    /// Reads what comes below TLS, behind the client's `close_notify`.
    pub(super) async fn read_wire(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Wire::Tls(stream) => stream.get_mut().0.read(buffer).await,
            Wire::Plain(stream) => stream.read(buffer).await,
        }
    }

    /// The version of TLS and the name that the client asked for.
    pub(super) fn session(&self) -> (Option<&'static str>, Option<&str>) {
        match self {
            Wire::Tls(stream) => {
                let (_, session) = stream.get_ref();
                let version = session.protocol_version();
                (
                    version.and_then(|version| version.as_str()),
                    session.server_name(),
                )
            }
            Wire::Plain(_) => (None, None),
        }
    }
}
