//! Whether the certificate files are still what was read.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::config::RelayOutput;

/// A file that was changed more recently may be changed again without a trace: the times of some file systems are whole seconds.
const SETTLED: Duration = Duration::from_secs(2);

/// What the system tells of the three files.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stamps([Stamp; 3]);

#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// Of its content or its rights, in seconds and nanoseconds.
    changed: (i64, i64),
}

impl Stamps {
    /// Those of a relay's files; `None` if one cannot be seen.
    pub(super) fn of(relay: &RelayOutput) -> Option<Self> {
        let [chain, cert, key] = [&relay.chain, &relay.cert, &relay.key].map(|path| stamp(path));
        Some(Self([chain?, cert?, key?]))
    }

    /// Whether a change since they were taken would show.
    pub(super) fn are_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let settled = now.unwrap_or_default().saturating_sub(SETTLED).as_secs();
        let Stamps(files) = self;
        let changed = |file: &Stamp| u64::try_from(file.changed.0).unwrap_or_default();
        files.iter().all(|file| changed(file) < settled)
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let file = fs::metadata(path).ok()?;
    Some(Stamp {
        device: file.dev(),
        inode: file.ino(),
        size: file.size(),
        changed: (file.ctime(), file.ctime_nsec()),
    })
}
