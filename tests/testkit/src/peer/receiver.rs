//! What stands behind a peer that ends TLS: reads plain lines into a file for each connection, and ends when its peer has.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context as _, Result};

/// A plain receiver; it ends when dropped.
pub(super) struct Receiver {
    folder: PathBuf,
    port: u16,
    ended: Arc<AtomicBool>,
}

impl Receiver {
    /// Starts on a free port of loopback, and keeps what comes in `folder`.
    pub(super) fn start(folder: &Path) -> Result<Receiver> {
        fs::create_dir(folder).context("no folder for what is received")?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let receiver = Receiver {
            folder: folder.to_owned(),
            port: listener.local_addr()?.port(),
            ended: Arc::default(),
        };
        let (folder, ended) = (receiver.folder.clone(), Arc::clone(&receiver.ended));
        thread::spawn(move || {
            for (number, connection) in listener.incoming().enumerate() {
                if ended.load(Ordering::Acquire) {
                    return;
                }
                let file = File::create(folder.join(format!("{number:06}")));
                if let (Ok(mut connection), Ok(mut file)) = (connection, file) {
                    // What came before a reset counts as far as lines are whole.
                    thread::spawn(move || io::copy(&mut connection, &mut file));
                }
            }
        });
        Ok(receiver)
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// A file for each connection so far.
    pub(super) fn files(&self) -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(&self.folder).context("what was received is gone")?;
        entries.map(|entry| Ok(entry?.path())).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        // Wakes the listener; if it is gone, so much the better.
        let _ = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}
