//! The service's connections: accepted for ever, each served by its own task, any of them reset on demand.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::head::{Head, Spliced};
use super::{Inner, answer};
use crate::socket::Handle;

/// Takes a connection down with RST.
#[derive(Clone)]
pub(crate) struct Reset {
    now: CancellationToken,
}

impl Reset {
    /// Asks the connection's task to do it.
    pub(crate) fn now(&self) {
        self.now.cancel();
    }
}

/// Listens and serves until `stop`; the address is the one that was bound.
pub(crate) async fn listen(
    bind: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    inner: Arc<Inner>,
    stop: CancellationToken,
) -> Result<SocketAddr> {
    let listener = TcpListener::bind(bind)
        .await
        .with_context(|| format!("the service cannot listen on {bind}"))?;
    let address = listener.local_addr()?;
    tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                // Out of file descriptors, most likely: some will be free again.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let (inner, tls) = (Arc::clone(&inner), tls.clone());
            tokio::spawn(
                stop.clone()
                    .run_until_cancelled_owned(serve(stream, tls, inner)),
            );
        }
    }));
    Ok(address)
}

async fn serve(stream: TcpStream, tls: Option<Arc<ServerConfig>>, inner: Arc<Inner>) {
    let Ok((stream, handle)) = Handle::of(stream) else {
        return;
    };
    match tls {
        None => serve_http(stream, handle, "http", inner).await,
        Some(config) => {
            if let Ok(stream) = TlsAcceptor::from(config).accept(stream).await {
                serve_http(stream, handle, "https", inner).await;
            }
        }
    }
}

async fn serve_http<S>(stream: S, handle: Handle, scheme: &'static str, inner: Arc<Inner>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let reset = Reset {
        now: CancellationToken::new(),
    };
    let head = Head::default();
    let stream = Spliced::new(stream, head.clone());
    let answer = service_fn(|request| {
        let (inner, reset, head) = (Arc::clone(&inner), reset.clone(), head.clone());
        async move {
            let answer = answer::answer(request, scheme, &inner, reset, &head).await;
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), answer);
    tokio::select! {
        // An error here is a client that went away, or a fault that was ordered.
        _ = connection => {}
        () = reset.now.cancelled() => handle.reset_on_close(),
    }
}
