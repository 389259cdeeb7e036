//! The relay as a program: says as JSON lines what it reads, and can be stopped, continued and killed by its process id.
//!
//! Its certificates lie in a folder that a collector shares; they are made there if there are none.
#![expect(
    clippy::print_stdout,
    reason = "what was read is this program's output"
)]

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};
use serde_json::json;
use testkit::pki::Pki;
use testkit::relay::{Behaviour, Event, Options, Relay, TlsVersions};
use tokio::signal::unix::{SignalKind, signal};

/// Simulates a Devo relay.
#[derive(Parser)]
struct Arguments {
    /// Address and port to listen on; port 0 takes a free one.
    #[arg(long, env = "RELAY_LISTEN", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Folder of `chain.crt`, `server.crt`, `server.key`; made with `collector.crt` and `collector.key` if it has none.
    #[arg(long, env = "RELAY_PKI")]
    pki: PathBuf,
    /// Names of the certificate that is made.
    #[arg(
        long,
        env = "RELAY_NAMES",
        value_delimiter = ',',
        default_value = "localhost,127.0.0.1,relay"
    )]
    names: Vec<String>,
    /// Versions of TLS.
    #[arg(long, env = "RELAY_TLS", value_enum, default_value = "both")]
    tls: Tls,
    /// A file that gets every line read.
    #[arg(long, env = "RELAY_LEDGER")]
    ledger: Option<PathBuf>,
    /// Print each line.
    #[arg(long, env = "RELAY_LINES")]
    lines: bool,
    /// Never answer a half-close.
    #[arg(long)]
    never_answer: bool,
    /// Read nothing of any connection for so many seconds from its start; then answer as normal
    #[arg(long)]
    slow: Option<u64>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Tls {
    #[value(name = "1.2")]
    V12,
    #[value(name = "1.3")]
    V13,
    Both,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    fs::create_dir_all(&arguments.pki)
        .with_context(|| format!("cannot make {}", arguments.pki.display()))?;
    let names: Vec<&str> = arguments.names.iter().map(String::as_str).collect();
    let shared = Pki::in_folder(&arguments.pki, &names)?;
    let relay = Relay::start_with(&Options {
        bind: arguments.listen,
        identity: shared.server,
        clients: shared.authority,
        tls: match arguments.tls {
            Tls::V12 => TlsVersions::V12,
            Tls::V13 => TlsVersions::V13,
            Tls::Both => TlsVersions::Both,
        },
        keep_lines: false,
        receive_buffer: None,
        ledger: arguments.ledger,
    })?;
    if arguments.never_answer {
        relay.always(Behaviour::NeverAnswer);
    }
    if let Some(seconds) = arguments.slow {
        let time = Duration::from_secs(seconds);
        relay.always(Behaviour::Pause { after: 0, time });
    }
    let lines = arguments.lines;
    relay.on_event(move |event| match event {
        Event::Line { report, text } if lines => {
            println!(
                "{}",
                json!({"event": "line", "tag": report.tag(), "line": text})
            );
        }
        Event::Line { .. } => {}
        Event::Violation(violation) => {
            println!("{}", json!({"event": "violation", "what": violation}));
        }
        Event::Ended(connection) => println!(
            "{}",
            json!({
                "event": "ended",
                "lines": connection.lines,
                "partial": connection.partial,
                "end": format!("{:?}", connection.end),
            })
        ),
    });
    println!(
        "{}",
        json!({"event": "listening", "port": relay.port(), "address": relay.address().to_string()})
    );
    let mut stop = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = stop.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    println!(
        "{}",
        json!({"event": "stopped", "lines": relay.count(), "violations": relay.violations().len()})
    );
    Ok(())
}
