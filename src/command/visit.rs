//! Reads what a running collector serves, from another process on the same machine.

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
use crate::web::Identity;

/// The longest that an answer may take. A collector whose loops do not turn does not answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The largest answer that is read: the status of a hundred inputs with all their services.
const ANSWER_MAX_BYTES: usize = 32 * 1024 * 1024;

/// A running collector, as far as its configuration tells where it listens.
#[derive(Clone, Debug)]
pub struct Visit {
    address: SocketAddr,
    wanted: Option<Identity>,
}

impl Visit {
    /// To the collector that listens there; `wanted` is which one that has to be, `None` if any will do.
    ///
    /// # Errors
    ///
    /// It listens nowhere, or where only its log tells.
    pub fn to(listen: Listen, wanted: Option<Identity>) -> Result<Self> {
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
        Ok(Visit {
            address: reachable(address),
            wanted,
        })
    }

    /// The status and the text at `path`.
    ///
    /// # Errors
    ///
    /// There is no answer within 5 s, or it is not the wanted collector's.
    pub async fn read(&self, path: &str) -> Result<(StatusCode, String)> {
        let address = self.address;
        let Ok(answer) = timeout(TIMEOUT, ask(address, path)).await else {
            let seconds = TIMEOUT.as_secs();
            bail!("the collector has not answered at {address} within {seconds} s");
        };
        let context = || format!("the collector does not answer at {address}");
        let (identity, status, text) = answer.with_context(context)?;
        let Some(identity) = identity else {
            bail!(
                "what answers at {address} is no collector of this version: look at what has the port, or give \
                 `globals.monitoring.listen` another one"
            );
        };
        if let Some(wanted) = &self.wanted
            && !identity.is(wanted)
        {
            bail!(
                "another collector answers at {address}: {identity}; this configuration is of {wanted}: give each collector a port of \
                 its own by `globals.monitoring.listen`, and start it again after a change"
            );
        }
        Ok((status, text))
    }
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

async fn ask(address: SocketAddr, path: &str) -> Result<(Option<Identity>, StatusCode, String)> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the request; what goes wrong shows in the answer.
    tokio::spawn(connection);
    let request = Request::get(path)
        .header(HOST, address.to_string())
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let (identity, status) = (Identity::in_answer(response.headers()), response.status());
    let body = Limited::new(response.into_body(), ANSWER_MAX_BYTES);
    let body = body.collect().await.map_err(anyhow::Error::from_boxed)?;
    let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    Ok((identity, status, text))
}
