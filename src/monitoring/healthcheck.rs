//! Asks a running collector how it is: for Docker's HEALTHCHECK, in an image without a shell.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::Listen;

/// The longest that the answer may take. A collector whose loops do not turn does not answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The largest answer that is read.
const ANSWER_MAX_BYTES: usize = 256 * 1024;

/// Asks the collector that listens there whether it makes progress.
///
/// # Errors
///
/// It does not, or does not answer: the error says why, a line for each service concerned.
pub async fn healthcheck(listen: Listen) -> Result<()> {
    let Listen::At(address) = listen else {
        bail!(
            "the collector cannot be asked: `globals.monitoring.listen` is `off`; give it an address and a port"
        );
    };
    if address.port() == 0 {
        bail!(
            "the collector cannot be asked: `globals.monitoring.listen` leaves the port to the system; give it one"
        );
    }
    let address = reachable(address);
    let (status, answer) = match timeout(TIMEOUT, ask(address)).await {
        Ok(answer) => answer?,
        Err(_) => bail!(
            "the collector has not answered at {address} within {} s",
            TIMEOUT.as_secs()
        ),
    };
    if status != StatusCode::OK {
        bail!("{}", answer.trim_end());
    }
    Ok(())
}

/// Where one that listens there can be asked from this machine: all of its addresses include the loopback one.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

async fn ask(address: SocketAddr) -> Result<(StatusCode, String)> {
    let context = || format!("the collector does not answer at {address}");
    let stream = TcpStream::connect(address).await.with_context(context)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .with_context(context)?;
    // It ends with the request; what goes wrong shows in the answer.
    tokio::spawn(connection);
    let request = Request::get("/healthz")
        .header(HOST, address.to_string())
        .body(Empty::<Bytes>::new())
        .with_context(context)?;
    let response = sender.send_request(request).await.with_context(context)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_MAX_BYTES);
    let body = body.collect().await;
    let body = body
        .map_err(anyhow::Error::from_boxed)
        .with_context(context)?;
    Ok((
        status,
        String::from_utf8_lossy(&body.to_bytes()).into_owned(),
    ))
}
