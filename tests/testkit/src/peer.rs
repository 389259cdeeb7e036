//! Real relays from Debian's packages, each in a process of its own on loopback, and what they have received.
//!
//! rsyslog, syslog-ng, `openssl s_server` and the small relays in `peers/`, one for each usual TLS library, keep what they read themselves;
//! stunnel and `HAProxy` end TLS in front of a plain receiver. A start's lines go to files of their own, since a killed peer may end within a line.

mod receiver;
mod setup;

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::pki::{Pki, Shared};
use crate::records::Records;
use crate::relay::read_ledger;
use receiver::Receiver;

/// How long a peer may take to start, or to end in order.
const PATIENCE: Duration = Duration::from_secs(20);

/// Which program is the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// rsyslog with `GnuTLS`. Its queue is `Direct`: it writes a record to its file before it reads the next one.
    RsyslogGnutls,
    /// rsyslog with OpenSSL. Its queue is the usual one in memory, which a kill empties and SIGTERM does not.
    RsyslogOpenssl,
    /// rsyslog without TLS. Its queue is `Direct` too.
    RsyslogPlain,
    /// syslog-ng, unpacked by `.ci/run`: Debian's package cannot be installed beside rsyslog. Its queue is in memory too.
    SyslogNg,
    /// The same without TLS.
    SyslogNgPlain,
    /// stunnel in front of a plain receiver.
    Stunnel,
    /// `HAProxy` in front of a plain receiver.
    Haproxy,
    /// `HAProxy` that passes TLS on to a relay of the test's: [`Peer::start_before`].
    HaproxyPassing,
    /// nginx in front of a plain receiver. It ends connections without `close_notify`.
    Nginx,
    /// nginx that passes TLS on, with its defaults: what has ended on one side, it ends on both.
    NginxPassing,
    /// nginx that passes TLS on, and half-closes.
    NginxHalfClosing,
    /// socat that passes TLS on, and half a second after one side has ended it ends the other.
    SocatPassing,
    /// `openssl s_server`, which takes one connection at a time, and here also what is too weak by today's standards.
    Openssl,
    /// Python's `ssl`, by `peers/relay.py`. It ends connections without `close_notify`.
    Python,
    /// Java's JSSE, by `peers/Relay.java`.
    Java,
    /// Go's `crypto/tls`, by `peers/relay.go`.
    Go,
}

impl Program {
    /// The one of Debian's packages that is needed and not installed; none if all is there.
    pub fn missing(self) -> Option<&'static str> {
        let is_missing = |(path, _): &&(&str, &str)| !setup::is_there(path);
        self.needs()
            .iter()
            .find(is_missing)
            .map(|(_, package)| *package)
    }
}

/// A running peer; killed when dropped.
pub struct Peer {
    program: Program,
    folder: TempDir,
    port: u16,
    /// Where the plain lines go, behind a peer that only ends TLS.
    receiver: Option<Receiver>,
    /// The port of what stands behind it.
    behind: Option<u16>,
    starts: u32,
    child: Child,
}

impl Peer {
    /// Starts it on a free port. It asks its clients for a certificate.
    pub fn start(program: Program, pki: &Pki) -> Result<Peer> {
        Peer::start_as(program, &pki.shared())
    }

    /// Starts it with any certificate and any authority of its clients.
    pub fn start_as(program: Program, shared: &Shared) -> Result<Peer> {
        let folder = tempfile::tempdir()?;
        let receiver = program
            .only_ends_tls()
            .then(|| Receiver::start(&folder.path().join("plain")))
            .transpose()?;
        let behind = receiver.as_ref().map(Receiver::port);
        Peer::start_in(program, shared, folder, receiver, behind)
    }

    /// Starts a balancer, one of those that pass TLS on, before a relay on this port of loopback.
    pub fn start_before(program: Program, relay: u16, pki: &Pki) -> Result<Peer> {
        let folder = tempfile::tempdir()?;
        Peer::start_in(program, &pki.shared(), folder, None, Some(relay))
    }

    fn start_in(
        program: Program,
        shared: &Shared,
        folder: TempDir,
        receiver: Option<Receiver>,
        behind: Option<u16>,
    ) -> Result<Peer> {
        shared.write(folder.path())?;
        let port = free_port()?;
        let child = spawn(program, folder.path(), port, behind, 0)?;
        Ok(Peer {
            program,
            folder,
            port,
            receiver,
            behind,
            starts: 1,
            child,
        })
    }

    /// The peer's port, which stays the same.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends it in order by SIGTERM and starts it again.
    pub fn restart(&mut self) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        let begun = Instant::now();
        while self.child.try_wait()?.is_none() {
            if begun.elapsed() > PATIENCE {
                bail!("{:?} does not end after SIGTERM", self.program);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.start_again()
    }

    /// Stops it for `pause`, so that some of what it was sent is unread for certain, then kills it and starts it again.
    pub async fn kill_and_restart(&mut self, pause: Duration) -> Result<()> {
        self.signal(Signal::SIGSTOP)?;
        tokio::time::sleep(pause).await;
        self.child.kill()?;
        self.child.wait()?;
        self.start_again()
    }

    fn start_again(&mut self) -> Result<()> {
        let folder = self.folder.path();
        self.child = spawn(self.program, folder, self.port, self.behind, self.starts)?;
        self.starts += 1;
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?);
        kill(pid, signal).with_context(|| format!("cannot send {signal} to {:?}", self.program))
    }

    /// What stands behind a peer that ends TLS reads no more once something has come, or goes on; elsewhere this does nothing.
    pub fn hold(&self, on: bool) {
        if let Some(receiver) = &self.receiver {
            receiver.hold(on);
        }
    }

    /// What stands behind a peer that ends TLS drops its connections that are held, as if it had died, and is there again.
    pub fn drop_held(&self) {
        if let Some(receiver) = &self.receiver {
            receiver.drop_held();
        }
    }

    /// How many bytes have come out of it so far.
    pub fn bytes(&self) -> Result<u64> {
        let files = self.files()?;
        files.iter().map(|file| Ok(fs::metadata(file)?.len())).sum()
    }

    /// What has come out of it so far, all starts together, and what violates the format.
    pub fn read(&self) -> Result<(Records, Vec<String>)> {
        let (mut all, mut all_violations) = (Records::default(), Vec::new());
        for file in self.files()? {
            let (records, violations) = read_ledger(self.program.format(), &file)?;
            all.extend(&records);
            all_violations.extend(violations);
        }
        Ok((all, all_violations))
    }

    /// What it said itself, for a test that fails.
    pub fn said(&self) -> String {
        let said = |start| fs::read(self.folder.path().join(format!("said-{start}")));
        let said: Vec<u8> = (0..self.starts)
            .filter_map(|start| said(start).ok())
            .flatten()
            .collect();
        String::from_utf8_lossy(&said).into_owned()
    }

    fn files(&self) -> Result<Vec<PathBuf>> {
        if let Some(receiver) = &self.receiver {
            return receiver.files();
        }
        let lines = (0..self.starts).map(|start| lines(self.folder.path(), start));
        Ok(lines.filter(|file| file.exists()).collect())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(folder: &Path, start: u32) -> PathBuf {
    folder.join(format!("lines-{start}"))
}

fn spawn(
    program: Program,
    folder: &Path,
    port: u16,
    behind: Option<u16>,
    start: u32,
) -> Result<Child> {
    let lines = lines(folder, start);
    let said = File::create(folder.join(format!("said-{start}")))?;
    let mut command = program.command(folder, port, behind, &lines)?;
    command
        .current_dir(folder)
        // Open and silent for as long as the child lives: `s_server` minds its end.
        .stdin(Stdio::piped())
        .stderr(said.try_clone()?);
    match program {
        Program::Openssl => command.stdout(File::create(&lines)?),
        _ => command.stdout(said),
    };
    let child = command
        .spawn()
        .with_context(|| format!("cannot start {program:?}"))?;
    until_it_listens(program, child, folder, port, start)
}

fn until_it_listens(
    program: Program,
    mut child: Child,
    folder: &Path,
    port: u16,
    start: u32,
) -> Result<Child> {
    let begun = Instant::now();
    loop {
        if listens(port)? {
            return Ok(child);
        }
        let ended = child.try_wait()?;
        if ended.is_some() || begun.elapsed() > PATIENCE {
            // What is there is enough to say.
            let _ = child.kill();
            let said = fs::read_to_string(folder.join(format!("said-{start}")))?;
            bail!("{program:?} does not listen on {port} ({ended:?}):\n{said}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether somebody listens on a port of loopback, seen without a connection, which a peer would take for a client.
fn listens(port: u16) -> Result<bool> {
    const LISTEN: &str = "0A";
    let port = format!(":{port:04X}");
    let table = fs::read_to_string("/proc/net/tcp").context("cannot see who listens")?;
    Ok(table.lines().any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let local = fields.next().is_some_and(|local| local.ends_with(&port));
        local && fields.nth(1) == Some(LISTEN)
    }))
}

/// A free port below those that the system gives to outgoing connections, which could take it while the peer is down.
fn free_port() -> Result<u16> {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Tests of another process begin elsewhere.
    let own = u16::try_from(std::process::id() * 37 % u32::from(COUNT))?;
    for _ in 0..COUNT {
        let port = FIRST + (own + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT;
        let address = (Ipv4Addr::LOCALHOST, port);
        if TcpListener::bind(address).is_ok() && TcpStream::connect(address).is_err() {
            return Ok(port);
        }
    }
    bail!("no free port")
}
