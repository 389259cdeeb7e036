//! The other side: a TLS server on its own thread that takes one connection and then does what the test says.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion};
use socket2::Socket;

use super::authority::{Authority, Issued};

/// A server that has been started, and what its script returned.
pub(super) struct Peer<T> {
    pub(super) port: u16,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> Peer<T> {
    /// Takes one connection and hands it to `script` before a byte is read.
    pub(super) fn raw(script: impl FnOnce(TcpStream) -> T + Send + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let thread = thread::spawn(move || script(listener.accept().unwrap().0));
        Self { port, thread }
    }

    /// Takes one connection, shakes hands, and hands it to `script`.
    pub(super) fn tls(
        settings: Arc<ServerConfig>,
        script: impl FnOnce(Accepted) -> T + Send + 'static,
    ) -> Self {
        Self::raw(move |socket| script(Accepted::shake_hands(settings, socket)))
    }

    /// Takes one connection after the other, shakes hands, and hands each to its script.
    pub(super) fn tls_each(
        settings: Arc<ServerConfig>,
        scripts: Vec<fn(Accepted) -> T>,
    ) -> Peer<Vec<T>> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let take = move |script: fn(Accepted) -> T| {
            let socket = listener.accept().unwrap().0;
            script(Accepted::shake_hands(Arc::clone(&settings), socket))
        };
        let thread = thread::spawn(move || scripts.into_iter().map(take).collect());
        Peer { port, thread }
    }

    /// Waits for the script's end.
    pub(super) fn result(self) -> T {
        self.thread.join().unwrap()
    }
}

/// A server that asks for a certificate of `authority`'s and shows one of its own for 127.0.0.1.
pub(super) fn settings(
    authority: &Authority,
    version: &'static SupportedProtocolVersion,
) -> Arc<ServerConfig> {
    settings_for(
        authority,
        authority,
        &authority.issue(&["127.0.0.1"]),
        version,
    )
}

/// A server that asks for a certificate of `clients`' and shows `identity`.
pub(super) fn settings_for(
    clients: &Authority,
    servers: &Authority,
    identity: &Issued,
    version: &'static SupportedProtocolVersion,
) -> Arc<ServerConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(clients.issuer.der().clone()).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .unwrap();
    let mut chain = identity.server_chain();
    chain.push(servers.issuer.der().clone());
    let settings = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, identity.server_key())
        .unwrap();
    Arc::new(settings)
}

/// A connection after the handshake.
pub(super) struct Accepted {
    tls: ServerConnection,
    pub(super) socket: TcpStream,
}

impl Accepted {
    pub(super) fn shake_hands(settings: Arc<ServerConfig>, mut socket: TcpStream) -> Self {
        let mut tls = ServerConnection::new(settings).unwrap();
        while tls.is_handshaking() {
            if tls.complete_io(&mut socket).is_err() {
                break;
            }
        }
        // Tickets of TLS 1.3; or the alert, if the client's certificate was refused.
        while tls.wants_write() && tls.write_tls(&mut socket).is_ok() {}
        Self { tls, socket }
    }

    /// Reads to the client's `close_notify`, or the end of the stream; the plain text.
    pub(super) fn read_to_end(&mut self) -> Vec<u8> {
        self.read(true)
    }

    /// Reads to the end of the stream, as if there were no `close_notify`.
    pub(super) fn read_to_half_close(&mut self) -> Vec<u8> {
        self.read(false)
    }

    fn read(&mut self, minds_close_notify: bool) -> Vec<u8> {
        let mut plain = Vec::new();
        loop {
            let read = self.tls.read_tls(&mut self.socket).unwrap();
            let state = self.tls.process_new_packets().unwrap();
            let closed = minds_close_notify && state.peer_has_closed();
            match self.tls.reader().read_to_end(&mut plain) {
                Ok(_) => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::UnexpectedEof
                    ) => {}
                Err(error) => panic!("{error}"),
            }
            if read == 0 || closed {
                if !minds_close_notify {
                    // The library takes `close_notify` for the end.
                    wait_for_end(&mut self.socket);
                }
                return plain;
            }
        }
    }

    /// Reads at least `length` bytes as they are on the wire.
    pub(super) fn read_wire(&mut self, length: usize) {
        let mut buffer = vec![0; length];
        self.socket.read_exact(&mut buffer).unwrap();
    }

    pub(super) fn say(&mut self, plain: &[u8]) {
        for part in plain.chunks(16 << 10) {
            self.tls.writer().write_all(part).unwrap();
            // The collector may have gone by now.
            while self.tls.wants_write() && self.tls.write_tls(&mut self.socket).is_ok() {}
        }
    }

    /// Says `close_notify` and nothing on the level of TCP.
    pub(super) fn notify_close(&mut self) {
        self.tls.send_close_notify();
        while self.tls.wants_write() && self.tls.write_tls(&mut self.socket).is_ok() {}
    }

    pub(super) fn end_stream(&self) {
        self.socket.shutdown(Shutdown::Write).unwrap();
    }

    pub(super) fn reset(self) {
        let socket = Socket::from(self.socket);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// Waits for the other side to go, whatever it leaves behind.
pub(super) fn wait_for_end(socket: &mut TcpStream) {
    let mut buffer = [0; 4096];
    while matches!(socket.read(&mut buffer), Ok(1..)) {}
}
