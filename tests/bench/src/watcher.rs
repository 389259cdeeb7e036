//! Who watches a collector: asks for its metrics and its page.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

/// Where a collector listens that is watched.
pub const ADDRESS: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 18_516));

/// More often than any Prometheus asks.
const EVERY: Duration = Duration::from_secs(1);

const PATIENCE: Duration = Duration::from_secs(5);

/// Asks each second.
pub struct Watcher {
    stop: Sender<()>,
    thread: JoinHandle<u64>,
}

impl Watcher {
    /// Begins to ask; a collector that does not listen yet is asked again.
    pub fn start() -> Watcher {
        let (stop, stopped) = channel::<()>();
        let thread = thread::spawn(move || {
            let mut answers = 0;
            loop {
                answers += u64::from(ask("/metrics").is_ok() && ask("/").is_ok());
                let wait = if answers > 0 { EVERY } else { EVERY / 20 };
                let told = stopped.recv_timeout(wait);
                if told != Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                    return answers;
                }
            }
        });
        Watcher { stop, thread }
    }

    /// Ends; an error if there was no answer at all.
    pub fn end(self) -> Result<()> {
        drop(self.stop);
        let answers = self.thread.join();
        let answers = answers.ok().context("the watcher broke down")?;
        ensure!(answers > 0, "the collector was not seen at {ADDRESS}");
        Ok(())
    }
}

/// Reads what is at `path`, to its end.
pub fn ask(path: &str) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&ADDRESS, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {ADDRESS}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    ensure!(answer.starts_with(b"HTTP/1.1 200 "), "no {path}");
    Ok(())
}
