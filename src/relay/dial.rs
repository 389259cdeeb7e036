//! From a name to a connected socket.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::error::DeliveryError;
use super::limits::Limits;
use crate::blocking;

/// Ends a connection with nothing under way whose peer is gone: 30 s + 3 × 10 s after its last sign of life.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(30))
    .with_interval(Duration::from_secs(10))
    .with_retries(3);
/// The addresses of one name that are tried for one connection.
const ADDRESSES_MAX: usize = 8;

/// Connects to one of the name's addresses, in the resolver's order; the next one is tried as soon as one has failed, or has not answered
/// for a moment, and the first that accepts is taken (after RFC 8305). So an address that is dead costs each connection that moment, and
/// nothing has to be remembered of it. `label` names the peer in errors.
pub(super) async fn dial(
    host: &str,
    port: u16,
    label: &str,
    limits: &Limits,
) -> Result<TcpStream, DeliveryError> {
    let mut addresses = resolve(host, port, label, limits).await?.into_iter();
    let mut attempts = JoinSet::new();
    let mut tried = String::new();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        if let Some(address) = addresses.next() {
            attempts.spawn(attempt(address, limits.connect));
        }
        let ended = tokio::select! {
            ended = attempts.join_next() => ended,
            () = sleep(limits.head_start), if addresses.len() > 0 => continue,
        };
        let (address, result) = match ended {
            Some(Ok(ended)) => ended,
            Some(Err(panic)) => resume_unwind(panic.into_panic()),
            None => break,
        };
        match result {
            Ok(socket) => return Ok(socket),
            Err(error) => {
                let separator = if tried.is_empty() { "" } else { "; " };
                // Writing to a string cannot fail.
                let _ = write!(tried, "{separator}{address}: {error}");
                last = error;
            }
        }
    }
    Err(DeliveryError::Connect {
        address: label.to_owned(),
        tried,
        source: last,
    })
}

async fn resolve(
    host: &str,
    port: u16,
    label: &str,
    limits: &Limits,
) -> Result<Vec<SocketAddr>, DeliveryError> {
    let failed = |source| DeliveryError::Resolve {
        address: label.to_owned(),
        source,
    };
    let mut addresses = timeout(limits.resolve, blocking::resolve(host, port))
        .await
        .map_err(|_| failed(io::ErrorKind::TimedOut.into()))?
        .map_err(failed)?;
    addresses.truncate(ADDRESSES_MAX);
    if addresses.is_empty() {
        return Err(failed(io::Error::other("the name has no address")));
    }
    Ok(addresses)
}

async fn attempt(address: SocketAddr, bound: Duration) -> (SocketAddr, io::Result<TcpStream>) {
    let timed_out = |_| Err(io::ErrorKind::TimedOut.into());
    let result = timeout(bound, connect(address))
        .await
        .unwrap_or_else(timed_out);
    (address, result)
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    SockRef::from(&socket).set_tcp_keepalive(&KEEPALIVE)?;
    Ok(socket)
}
