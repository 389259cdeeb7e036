//! What stands behind a peer that ends TLS: reads plain lines into a file for each connection, and ends when its peer has.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use socket2::SockRef;

/// Small, so that what the receiver does not read stays with the peer in front of it.
const RECEIVE_BUFFER: usize = 64 << 10;
/// How often one that reads no more looks whether it is to go on.
const TURN: Duration = Duration::from_millis(5);

/// A plain receiver; it ends when dropped.
pub(super) struct Receiver {
    folder: PathBuf,
    port: u16,
    ended: Arc<AtomicBool>,
    hold: Arc<Hold>,
}

/// What keeps connections from being read.
#[derive(Default)]
struct Hold {
    on: AtomicBool,
    /// Those that are held are dropped, which resets them.
    drop: AtomicBool,
    held: AtomicUsize,
}

impl Receiver {
    /// Starts on a free port of loopback, and keeps what comes in `folder`.
    pub(super) fn start(folder: &Path) -> Result<Receiver> {
        fs::create_dir(folder).context("no folder for what is received")?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        SockRef::from(&listener).set_recv_buffer_size(RECEIVE_BUFFER)?;
        let receiver = Receiver {
            folder: folder.to_owned(),
            port: listener.local_addr()?.port(),
            ended: Arc::default(),
            hold: Arc::default(),
        };
        let (folder, ended) = (receiver.folder.clone(), Arc::clone(&receiver.ended));
        let hold = Arc::clone(&receiver.hold);
        thread::spawn(move || {
            for (number, connection) in listener.incoming().enumerate() {
                if ended.load(Ordering::Acquire) {
                    return;
                }
                let file = File::create(folder.join(format!("{number:06}")));
                if let (Ok(connection), Ok(file)) = (connection, file) {
                    let hold = Arc::clone(&hold);
                    // What came before a reset counts as far as lines are whole.
                    thread::spawn(move || receive(connection, file, &hold));
                }
            }
        });
        Ok(receiver)
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Reads no more from connections that something has come on, or goes on.
    pub(super) fn hold(&self, on: bool) {
        self.hold.on.store(on, Ordering::Release);
    }

    /// Drops the connections that are held, with what was not read, and goes on with new ones.
    pub(super) fn drop_held(&self) {
        self.hold.drop.store(true, Ordering::Release);
        while self.hold.held.load(Ordering::Acquire) > 0 {
            thread::sleep(TURN);
        }
        self.hold(false);
        self.hold.drop.store(false, Ordering::Release);
    }

    /// A file for each connection so far.
    pub(super) fn files(&self) -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(&self.folder).context("what was received is gone")?;
        entries.map(|entry| Ok(entry?.path())).collect()
    }
}

fn receive(mut connection: TcpStream, mut file: File, hold: &Hold) -> io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let length = connection.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        file.write_all(&buffer[..length])?;
        if hold.waits_and_is_dropped() {
            return Ok(());
        }
    }
}

impl Hold {
    /// Waits for as long as connections are held; whether this one is to be dropped.
    fn waits_and_is_dropped(&self) -> bool {
        if !self.on.load(Ordering::Acquire) {
            return false;
        }
        self.held.fetch_add(1, Ordering::AcqRel);
        while self.on.load(Ordering::Acquire) && !self.drop.load(Ordering::Acquire) {
            thread::sleep(TURN);
        }
        let dropped = self.drop.load(Ordering::Acquire);
        self.held.fetch_sub(1, Ordering::AcqRel);
        dropped
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        // Wakes the listener; if it is gone, so much the better.
        let _ = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}
