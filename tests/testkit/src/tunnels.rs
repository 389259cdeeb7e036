//! A web proxy on loopback: opens tunnels (CONNECT) to one target, whatever host is asked for, and asks for credentials if told to.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tokio::io::{
    AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::sync::lock;

/// The longest head of a request.
const HEAD_MAX_BYTES: u64 = 16 << 10;

/// A running proxy; it ends when dropped, its tunnels with it.
pub struct Tunnels {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

struct Shared {
    target: SocketAddr,
    /// What `Proxy-Authorization` has to be.
    authorization: Option<String>,
    opened: Mutex<Vec<String>>,
    refused: Mutex<Vec<String>>,
}

impl Tunnels {
    /// Listens on a free port of loopback; all tunnels lead to `target`, for who shows `credentials` if there are any.
    pub async fn start(target: SocketAddr, credentials: Option<(&str, &str)>) -> Result<Tunnels> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context("the proxy cannot listen")?;
        let (address, stop) = (listener.local_addr()?, CancellationToken::new());
        let authorization = credentials.map(|(user, password)| {
            format!(
                "Basic {}",
                BASE64_STANDARD.encode(format!("{user}:{password}"))
            )
        });
        let shared = Arc::new(Shared {
            target,
            authorization,
            opened: Mutex::default(),
            refused: Mutex::default(),
        });
        let (serving, ended) = (Arc::clone(&shared), stop.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            while let Ok((client, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                tokio::spawn(ended.clone().run_until_cancelled_owned(async move {
                    // An error is a peer that went away: the other one notices.
                    let _ = shared.serve(client).await;
                }));
            }
        }));
        Ok(Tunnels {
            address,
            shared,
            stop,
        })
    }

    /// The proxy's address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The hosts, with their ports, that tunnels were opened for.
    pub fn opened(&self) -> Vec<String> {
        lock(&self.shared.opened).clone()
    }

    /// The hosts, with their ports, that were asked for without the right credentials.
    pub fn refused(&self) -> Vec<String> {
        lock(&self.shared.refused).clone()
    }
}

impl Drop for Tunnels {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Shared {
    async fn serve(&self, client: TcpStream) -> Result<()> {
        let mut client = BufReader::new(client);
        let (host, authorization) = head(&mut client).await?;
        if self.authorization.is_some() && authorization != self.authorization {
            lock(&self.refused).push(host);
            let answer = "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"proxy\"\r\nContent-Length: 0\r\n\r\n";
            return Ok(client.write_all(answer.as_bytes()).await?);
        }
        lock(&self.opened).push(host);
        let mut target = TcpStream::connect(self.target).await?;
        client
            .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
            .await?;
        copy_bidirectional(&mut client, &mut target).await?;
        Ok(())
    }
}

/// The host that a request asks for a tunnel to, and its credentials.
async fn head(client: &mut BufReader<TcpStream>) -> Result<(String, Option<String>)> {
    let mut lines = client.take(HEAD_MAX_BYTES).lines();
    let request = lines.next_line().await?.unwrap_or_default();
    let Some(host) = request
        .strip_prefix("CONNECT ")
        .and_then(|rest| rest.strip_suffix(" HTTP/1.1"))
    else {
        bail!("no request for a tunnel: {request}");
    };
    let mut authorization = None;
    while let Some(line) = lines.next_line().await? {
        match line.split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("proxy-authorization") => {
                authorization = Some(value.trim().to_owned());
            }
            Some(_) => {}
            None => return Ok((host.to_owned(), authorization)),
        }
    }
    bail!("the request has no end")
}
