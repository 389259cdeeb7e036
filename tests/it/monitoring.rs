//! What an operator sees while the collector runs: page, metrics, health and status over HTTP, and the command `healthcheck`.

mod browser;
mod cost;
mod health;
mod limits;
mod metrics;
mod page;
mod prometheus;
mod shipped;
mod states;

use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::collector::{Collector, Input};
use testkit::report::Report;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::setting::{PATIENCE, Setting, log, program, stop};

/// A collector that is watched.
pub(crate) struct Watched {
    pub(crate) collector: Collector,
    pub(super) address: SocketAddr,
}

impl Watched {
    /// Starts a collector with this input, and `monitoring` as YAML.
    pub(crate) async fn start(setting: &Setting, input: Input, monitoring: &str) -> Self {
        setting.configure_watched(input, monitoring);
        Watched::of(setting.start()).await
    }

    /// A collector whose log tells where it listens.
    pub(crate) async fn of(collector: Collector) -> Self {
        let line = collector.wait_for("are served", PATIENCE).await.unwrap();
        let address = line.split("address=").nth(1).unwrap();
        Watched {
            address: address.split(' ').next().unwrap().parse().unwrap(),
            collector,
        }
    }

    /// The status and the body of what is at `path`.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        get(self.address, path).await.unwrap()
    }

    /// What is at `path` for a client that takes gzip, decompressed.
    pub(super) async fn get_gzipped(&self, path: &str) -> String {
        let request = format!(
            "GET {path} HTTP/1.0\r\nhost: 127.0.0.1\r\naccept-encoding: deflate, gzip;q=0.8\r\n\r\n"
        );
        let answer = ask_bytes(self.address, request.as_bytes()).await.unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        let (head, body) = answer.split_at(end.unwrap() + 4);
        let head = String::from_utf8_lossy(head).to_lowercase();
        assert!(head.contains("content-encoding: gzip"), "{head}");
        let mut text = String::new();
        flate2::read::GzDecoder::new(body)
            .read_to_string(&mut text)
            .unwrap();
        text
    }

    /// What comes back until the connection's end.
    pub(super) async fn ask(&self, request: &[u8]) -> String {
        ask(self.address, request).await.unwrap()
    }

    pub(crate) async fn status(&self) -> Value {
        let (status, text) = self.get("/status").await;
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// The first service's part of the status, once it is in this state.
    pub(super) async fn until(&self, state: &str) -> Value {
        self.until_it(|service| service["state"] == state, state)
            .await
    }

    /// The first service's part of the status, once it is as wanted.
    pub(crate) async fn until_it(&self, wanted: impl Fn(&Value) -> bool, what: &str) -> Value {
        let begun = Instant::now();
        loop {
            let mut status = self.status().await;
            let service = status["services"][0].take();
            if wanted(&service) {
                return service;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "never {what}: {service:#}\n{}",
                log(&self.collector)
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Has a first collector with this input of message traces make its state, and damages it.
pub(super) async fn damage(setting: &Setting, input: Input) {
    let mut first = Watched::start(setting, input, "{listen: 0}").await;
    first.until("up_to_date").await;
    stop(&mut first.collector).await;
    let cursor = setting.state_of(Report::MessageTrace).join("cursor");
    std::fs::write(cursor, "?").unwrap();
}

/// The status and the body of what is at `path` of this server, in one piece, as of old.
pub(crate) async fn get(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let request = format!("GET {path} HTTP/1.0\r\nhost: 127.0.0.1\r\n\r\n");
    let answer = ask(address, request.as_bytes()).await?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    let status = head.split(' ').nth(1).unwrap_or_default();
    Ok((status.parse().unwrap_or_default(), body.to_owned()))
}

async fn ask(address: SocketAddr, request: &[u8]) -> io::Result<String> {
    let answer = ask_bytes(address, request).await?;
    Ok(String::from_utf8(answer).unwrap())
}

async fn ask_bytes(address: SocketAddr, request: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request).await?;
    let mut answer = Vec::new();
    // One that is refused may end in a reset, with the answer before it.
    let _ = stream.read_to_end(&mut answer).await;
    Ok(answer)
}

/// What the command `healthcheck` says in the collector's folder, and whether its status is 0.
pub(crate) fn healthcheck(setting: &Setting) -> (bool, String) {
    let output = Command::new(program())
        .arg("healthcheck")
        .current_dir(setting.folder.path())
        .env_remove("CONFIG_FILE")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

/// A port that is free now.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}
