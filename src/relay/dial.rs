//! From a name to a connected socket.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::error::DeliveryError;
use super::limits::Limits;

/// Ends a connection with nothing under way whose peer is gone: 30 s + 3 × 10 s after its last sign of life.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(30))
    .with_interval(Duration::from_secs(10))
    .with_retries(3);
/// The addresses of one name that are tried for one connection.
const ADDRESSES_MAX: usize = 8;

/// Connects to the first of the name's addresses that accepts. `label` names the peer in errors.
pub(super) async fn dial(
    host: &str,
    port: u16,
    label: &str,
    limits: &Limits,
) -> Result<TcpStream, DeliveryError> {
    let mut tried = String::new();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in resolve(host, port, label, limits).await? {
        match connect(address, limits).await {
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
    let addresses = timeout(limits.resolve, lookup_host((host, port)))
        .await
        .map_err(|_| failed(io::ErrorKind::TimedOut.into()))?
        .map_err(failed)?;
    let addresses: Vec<_> = addresses.take(ADDRESSES_MAX).collect();
    if addresses.is_empty() {
        return Err(failed(io::Error::other("the name has no address")));
    }
    Ok(addresses)
}

async fn connect(address: SocketAddr, limits: &Limits) -> io::Result<TcpStream> {
    let socket = timeout(limits.connect, TcpStream::connect(address))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    socket.set_nodelay(true)?;
    SockRef::from(&socket).set_tcp_keepalive(&KEEPALIVE)?;
    Ok(socket)
}
