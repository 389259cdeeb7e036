//! A TCP proxy on loopback: delay, cut after so many bytes, black hole, reset.
//!
//! It takes what is sent to it at once, as a balancer does: the sender's kernel sees its bytes acknowledged before they
//! have arrived. Closes that cross here look to the sender as they do behind a balancer.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::socket::Handle;
use crate::sync::lock;

/// Chunks under way in one direction; a sender that is faster waits.
const CHUNKS_MAX: usize = 4_096;

/// A running proxy; it ends when dropped, its connections with it.
pub struct Proxy {
    control: Arc<Control>,
    address: SocketAddr,
    stop: CancellationToken,
}

struct Control {
    target: Mutex<SocketAddr>,
    delay_milliseconds: AtomicU64,
    /// `u64::MAX` means never.
    cut_after: AtomicU64,
    hole: watch::Sender<bool>,
    reset: Mutex<CancellationToken>,
    client_ended: Mutex<Box<dyn Fn() + Send>>,
    connections: AtomicU64,
}

impl Proxy {
    /// Listens on a free port of loopback and forwards to `target`.
    pub async fn start(target: SocketAddr) -> Result<Proxy> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context("the proxy cannot listen")?;
        let (address, stop) = (listener.local_addr()?, CancellationToken::new());
        let control = Arc::new(Control {
            target: Mutex::new(target),
            delay_milliseconds: AtomicU64::new(0),
            cut_after: AtomicU64::new(u64::MAX),
            hole: watch::Sender::new(false),
            reset: Mutex::default(),
            client_ended: Mutex::new(Box::new(|| {})),
            connections: AtomicU64::new(0),
        });
        let (shared, ended) = (Arc::clone(&control), stop.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            while let Ok((client, _)) = listener.accept().await {
                let control = Arc::clone(&shared);
                tokio::spawn(ended.clone().run_until_cancelled_owned(async move {
                    // An error is a peer that went away: the other one notices.
                    let _ = forward(client, control).await;
                }));
            }
        }));
        Ok(Proxy {
            control,
            address,
            stop,
        })
    }

    /// The proxy's address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The proxy's port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Connections that came so far.
    pub fn connections(&self) -> u64 {
        self.control.connections.load(Ordering::Relaxed)
    }

    /// New connections go there from now on.
    pub fn target(&self, target: SocketAddr) {
        *lock(&self.control.target) = target;
    }

    /// Everything takes so long, each way, connections that exist included.
    pub fn delay(&self, delay: Duration) {
        let milliseconds = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.control
            .delay_milliseconds
            .store(milliseconds, Ordering::Relaxed);
    }

    /// Resets both sides of each new connection once so many bytes went to the target; none means never.
    pub fn cut_after(&self, bytes: Option<u64>) {
        self.control
            .cut_after
            .store(bytes.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Stops to forward anything, or goes on with it; sockets stay open all the while.
    pub fn black_hole(&self, on: bool) {
        self.control.hole.send_replace(on);
    }

    /// Resets both sides of all connections that there are.
    pub fn reset(&self) {
        std::mem::take(&mut *lock(&self.control.reset)).cancel();
    }

    /// Calls this as soon as a client half-closes, before the target hears of it (by the proxy's delay).
    pub fn on_client_end(&self, call: impl Fn() + Send + 'static) {
        *lock(&self.control.client_ended) = Box::new(call);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Control {
    fn delay(&self) -> Duration {
        Duration::from_millis(self.delay_milliseconds.load(Ordering::Relaxed))
    }
}

async fn forward(client: TcpStream, control: Arc<Control>) -> Result<()> {
    control.connections.fetch_add(1, Ordering::Relaxed);
    let reset = lock(&control.reset).clone();
    let (cut_after, target) = (
        control.cut_after.load(Ordering::Relaxed),
        *lock(&control.target),
    );
    let (mut client, client_handle) = Handle::of(client)?;
    let (mut server, server_handle) = Handle::of(TcpStream::connect(target).await?)?;
    let ((client_in, client_out), (server_in, server_out)) = (client.split(), server.split());
    let there = pump(client_in, server_out, &control, cut_after, true);
    let back = pump(server_in, client_out, &control, u64::MAX, false);
    let both = async { tokio::try_join!(there, back).map(drop) };
    let ended = tokio::select! {
        ended = both => ended,
        () = reset.cancelled() => Err(Broken),
    };
    if ended.is_err() {
        client_handle.reset_on_close();
        server_handle.reset_on_close();
    }
    Ok(())
}

/// One side is gone, or is to be: the other has to see a reset.
struct Broken;

/// Moves one direction until its end, which is passed on as a half-close.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    control: &Control,
    cut_after: u64,
    from_client: bool,
) -> Result<(), Broken> {
    let (sender, mut receiver) = mpsc::channel::<(Instant, Bytes)>(CHUNKS_MAX);
    let mut hole = control.hole.subscribe();
    let read = async move {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let length = from.read(&mut buffer).await.map_err(|_| Broken)?;
            if length == 0 && from_client {
                lock(&control.client_ended)();
            }
            let chunk = Bytes::copy_from_slice(&buffer[..length]);
            sender
                .send((Instant::now() + control.delay(), chunk))
                .await
                .map_err(|_| Broken)?;
            if length == 0 {
                return Ok(());
            }
        }
    };
    let write = async move {
        let mut left = cut_after;
        while let Some((time, chunk)) = receiver.recv().await {
            sleep_until(time).await;
            hole.wait_for(|on| !on).await.map_err(|_| Broken)?;
            if chunk.is_empty() {
                to.shutdown().await.map_err(|_| Broken)?;
                break;
            }
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
            to.write_all(&chunk[..length]).await.map_err(|_| Broken)?;
            left -= length as u64;
            if left == 0 {
                return Err(Broken);
            }
        }
        Ok(())
    };
    tokio::try_join!(read, write).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn pair() -> (Proxy, TcpListener) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        (
            Proxy::start(listener.local_addr().unwrap()).await.unwrap(),
            listener,
        )
    }

    #[tokio::test]
    async fn bytes_and_half_closes_pass_after_the_delay() {
        let (proxy, listener) = pair().await;
        proxy.delay(Duration::from_millis(80));
        let start = Instant::now();
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        client.write_all(b"there").await.unwrap();
        client.shutdown().await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let mut text = String::new();
        server.read_to_string(&mut text).await.unwrap();
        assert!(start.elapsed() >= Duration::from_millis(80));
        assert_eq!(text, "there");
        server.write_all(b"back").await.unwrap();
        drop(server);
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        assert!(start.elapsed() >= Duration::from_millis(160));
        assert_eq!(text, "back");
    }

    #[tokio::test]
    async fn a_cut_forwards_so_many_bytes_and_resets_both_sides() {
        let (proxy, listener) = pair().await;
        proxy.cut_after(Some(3));
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        client.write_all(b"there").await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let mut bytes = [0; 3];
        server.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"the");
        assert!(server.read(&mut bytes).await.is_err());
        assert!(client.read(&mut bytes).await.is_err());
    }

    #[tokio::test]
    async fn a_black_hole_holds_everything_until_it_is_gone() {
        let (proxy, listener) = pair().await;
        proxy.black_hole(true);
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        client.write_all(b"there").await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let mut bytes = [0; 5];
        let early =
            tokio::time::timeout(Duration::from_millis(100), server.read_exact(&mut bytes)).await;
        assert!(early.is_err());
        proxy.black_hole(false);
        server.read_exact(&mut bytes).await.unwrap();
        proxy.reset();
        assert!(client.read(&mut bytes).await.is_err());
    }
}
