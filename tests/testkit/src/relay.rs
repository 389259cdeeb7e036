//! The relay, simulated: mutual TLS or plain TCP, strict about the format, faults on demand, and a count of what it has read.
//!
//! A line counts once the relay's application has read it to its end; what the kernel or TLS still held when a connection
//! ended does not count, nor does the beginning of a line.
//!
//! The collector's own messages come on connections of their own, which are told apart by their first line and kept apart: they are not
//! among the records, lines and connections, and the behaviours that are asked for are for the others.

mod behaviour;
mod connection;
mod line;
mod opening;
mod process;
mod reading;
mod unpacking;
mod wire;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

pub use behaviour::Behaviour;
pub use line::{Format, Line, Message, check};
pub use process::Process;
pub use reading::{Connection, End, Event, Listener, read_ledger};

use crate::pki::{Identity, Pki};
use crate::records::Records;
use crate::report::Report;
use crate::sync::lock;
use reading::Reading;

/// Which versions of TLS a relay speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersions {
    /// 1.2 only.
    V12,
    /// 1.3 only.
    V13,
    /// Both.
    Both,
    /// None: plain TCP, and the lines of plain syslog.
    Plain,
}

/// How a relay is set up.
#[derive(Clone)]
pub struct Options {
    /// Where it listens; port 0 takes a free one.
    pub bind: SocketAddr,
    /// Its certificate.
    pub identity: Identity,
    /// The authority of its clients, in PEM.
    pub clients: String,
    /// What it speaks.
    pub tls: TlsVersions,
    /// Keep the lines themselves, not only their hashes: for up to some 100,000 of them.
    pub keep_lines: bool,
    /// The socket's receive buffer in bytes, where the system's default is too large to stall a sender soon.
    pub receive_buffer: Option<u32>,
    /// A file that gets each line as soon as it is read, for a relay that will be killed.
    pub ledger: Option<PathBuf>,
}

impl Options {
    /// A relay on loopback that keeps lines and speaks both versions.
    pub fn new(pki: &Pki) -> Options {
        Options {
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            identity: pki.server.clone(),
            clients: pki.authority.certificate().to_owned(),
            tls: TlsVersions::Both,
            keep_lines: true,
            receive_buffer: None,
            ledger: None,
        }
    }

    /// Which lines it is sent.
    fn format(&self) -> Format {
        match self.tls {
            TlsVersions::Plain => Format::Syslog,
            TlsVersions::V12 | TlsVersions::V13 | TlsVersions::Both => Format::Devo,
        }
    }

    /// What ends TLS, if there is any.
    fn acceptor(&self) -> Result<Option<TlsAcceptor>> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(self.clients.as_bytes()) {
            roots.add(certificate.context("the clients' authority is no PEM")?)?;
        }
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()?;
        let versions: &[_] = match self.tls {
            TlsVersions::V12 => &[&rustls::version::TLS12],
            TlsVersions::V13 => &[&rustls::version::TLS13],
            TlsVersions::Both => rustls::ALL_VERSIONS,
            TlsVersions::Plain => return Ok(None),
        };
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.identity.chain()?, self.identity.private_key()?)?;
        Ok(Some(TlsAcceptor::from(Arc::new(config))))
    }
}

/// A running relay; it ends when dropped, its connections with it.
pub struct Relay {
    shared: Arc<Shared>,
    address: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    receive_buffer: Option<u32>,
    listening: CancellationToken,
    stop: CancellationToken,
}

/// What all connections share.
pub(crate) struct Shared {
    reading: Mutex<Reading>,
    always: Mutex<Behaviour>,
    next: Mutex<VecDeque<Behaviour>>,
    /// On the connections of the collector's own messages.
    to_messages: Mutex<Behaviour>,
    /// Counts the calls of [`Relay::release`].
    released: watch::Sender<u64>,
    /// Cancelled and replaced by [`Relay::close_all`].
    close: Mutex<CancellationToken>,
    /// Between `close_notify` and FIN, when all are closed.
    close_pause: Mutex<Duration>,
}

impl Shared {
    fn behaviour(&self) -> Behaviour {
        lock(&self.next)
            .pop_front()
            .unwrap_or_else(|| lock(&self.always).clone())
    }

    /// What the next connection meets before it can show what it is for.
    fn rebuff(&self) -> Option<Behaviour> {
        let mut next = lock(&self.next);
        match next.front() {
            Some(first) if first.is_rebuff() => next.pop_front(),
            Some(_) => None,
            None => Some(lock(&self.always).clone()).filter(Behaviour::is_rebuff),
        }
    }
}

impl Relay {
    /// Starts on a free port of loopback, within a Tokio runtime.
    pub fn start(pki: &Pki) -> Result<Relay> {
        Relay::start_with(&Options::new(pki))
    }

    /// Starts as told, within a Tokio runtime.
    pub fn start_with(options: &Options) -> Result<Relay> {
        let acceptor = options.acceptor()?;
        let shared = Arc::new(Shared {
            reading: Mutex::new(Reading::new(
                options.format(),
                options.keep_lines,
                options.ledger.as_deref(),
            )?),
            always: Mutex::new(Behaviour::Normal),
            next: Mutex::default(),
            to_messages: Mutex::new(Behaviour::Normal),
            released: watch::Sender::new(0),
            close: Mutex::default(),
            close_pause: Mutex::default(),
        });
        let listener = bind(options.bind, options.receive_buffer)?;
        let mut relay = Relay {
            shared,
            address: listener.local_addr()?,
            acceptor,
            receive_buffer: options.receive_buffer,
            listening: CancellationToken::new(),
            stop: CancellationToken::new(),
        };
        relay.accept(listener);
        Ok(relay)
    }

    fn accept(&mut self, listener: TcpListener) {
        self.listening = self.stop.child_token();
        let (shared, acceptor, stop) = (
            Arc::clone(&self.shared),
            self.acceptor.clone(),
            self.stop.clone(),
        );
        tokio::spawn(
            self.listening
                .clone()
                .run_until_cancelled_owned(async move {
                    loop {
                        let Ok((stream, _)) = listener.accept().await else {
                            // Out of file descriptors, most likely: some will be free again.
                            tokio::time::sleep(Duration::from_millis(50)).await;
                            continue;
                        };
                        let serve =
                            connection::serve(stream, acceptor.clone(), Arc::clone(&shared));
                        tokio::spawn(stop.clone().run_until_cancelled_owned(serve));
                    }
                }),
        );
    }

    /// The relay's address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The relay's port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The next connection behaves so; calls queue up.
    pub fn next(&self, behaviour: Behaviour) {
        self.next_times(1, behaviour);
    }

    /// The next so many connections behave so; calls queue up.
    pub fn next_times(&self, times: usize, behaviour: Behaviour) {
        lock(&self.shared.next).extend(std::iter::repeat_n(behaviour, times));
    }

    /// Connections behave so from now on, where [`next`](Self::next) says nothing else.
    pub fn always(&self, behaviour: Behaviour) {
        *lock(&self.shared.always) = behaviour;
    }

    /// Connections with the collector's own messages behave so from now on. Those that are refused, or fail the handshake, do so by
    /// what the others are told: nobody can know yet what they are for.
    pub fn always_to_messages(&self, behaviour: Behaviour) {
        *lock(&self.shared.to_messages) = behaviour;
    }

    /// Lets connections that stall go on.
    pub fn release(&self) {
        self.shared.released.send_modify(|count| *count += 1);
    }

    /// Ends all present connections with `close_notify` and FIN, but without reading any further: what the client has
    /// under way is lost, however politely it is told.
    pub fn close_all(&self) {
        close_all(&self.shared);
    }

    /// From now on [`close_all`](Self::close_all) says `close_notify` and only so much later FIN, as a peer does that waits for the other
    /// side's `close_notify` in between.
    pub fn pause_before_fin(&self, pause: Duration) {
        *lock(&self.shared.close_pause) = pause;
    }

    /// What [`close_all`](Self::close_all) does, as a value for [`Proxy::on_client_end`](crate::proxy::Proxy::on_client_end): closes
    /// that cross.
    pub fn closer(&self) -> impl Fn() + Send + 'static {
        let shared = Arc::clone(&self.shared);
        move || close_all(&shared)
    }

    /// Stops listening: connections are refused by the system. Those that there are go on.
    pub async fn shut(&self) {
        self.listening.cancel();
        // The listener goes with its task, at the next turn of the runtime.
        while std::net::TcpStream::connect_timeout(&self.address, Duration::from_millis(100))
            .is_ok()
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Listens again, on the same port.
    pub fn open(&mut self) -> Result<()> {
        if !self.listening.is_cancelled() {
            bail!("the relay listens already");
        }
        let listener = bind(self.address, self.receive_buffer)?;
        self.accept(listener);
        Ok(())
    }

    /// The records of all lines read.
    pub fn records(&self) -> Records {
        lock(&self.shared.reading).records().clone()
    }

    /// How many lines were read.
    pub fn count(&self) -> u64 {
        lock(&self.shared.reading).count()
    }

    /// How many lines of a report were read.
    pub fn count_of(&self, report: Report) -> u64 {
        lock(&self.shared.reading).records().total_of(report)
    }

    /// The lines read, where they are kept; those that violate the format are not among them.
    pub fn lines(&self) -> Vec<String> {
        lock(&self.shared.reading).lines().to_vec()
    }

    /// The collector's own messages, as far as they were read to their end.
    pub fn messages(&self) -> Vec<Message> {
        lock(&self.shared.reading).messages().to_vec()
    }

    /// What was not as it should be, with the beginning of the line.
    pub fn violations(&self) -> Vec<String> {
        lock(&self.shared.reading).violations().to_vec()
    }

    /// The connections so far, in the order of their coming.
    pub fn connections(&self) -> Vec<Connection> {
        lock(&self.shared.reading).connections(false)
    }

    /// The connections so far with the collector's own messages, in the order of their coming.
    pub fn message_connections(&self) -> Vec<Connection> {
        lock(&self.shared.reading).connections(true)
    }

    /// Calls this for each line and each connection's end, from now on.
    pub fn on_event(&self, listener: impl FnMut(&Event<'_>) + Send + 'static) {
        lock(&self.shared.reading).on_event(Box::new(listener));
    }

    /// Waits until so many lines have been read.
    ///
    /// # Errors
    ///
    /// The time is over; the message says how many there are.
    pub async fn wait_for(&self, count: u64, patience: Duration) -> Result<()> {
        let end = tokio::time::Instant::now() + patience;
        while self.count() < count {
            if tokio::time::Instant::now() > end {
                bail!(
                    "the relay has read {} lines of {count} after {patience:?}",
                    self.count()
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

fn close_all(shared: &Shared) {
    std::mem::take(&mut *lock(&shared.close)).cancel();
}

fn bind(address: SocketAddr, receive_buffer: Option<u32>) -> Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket
        .bind(address)
        .with_context(|| format!("the relay cannot listen on {address}"))?;
    Ok(socket.listen(1_024)?)
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
