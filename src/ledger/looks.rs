//! How often the reporting service was seen to have everything again, while Microsoft Graph is asked in its place: `looks`, a line that names
//! the format and a line of JSON with its checksum.
//!
//! A file that cannot be read counts as none: the days are counted anew, and nothing else depends on it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::audit::{AuditFile, Stretch};
use super::lock::Lock;
use super::{LedgerError, file};

const FILE: &str = "looks";
const HEAD: &str = "exchange-reports-collector looks 1\n";

/// What looking whether the reporting service is back has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looks {
    /// When it was last looked, or when the days began to be counted.
    pub last: DateTime<Utc>,
    /// On so many days in a row it had everything.
    pub days: u32,
}

/// The file of one service, and what it needs to know of the past.
#[derive(Clone, Debug)]
pub struct LookFile {
    folder: PathBuf,
    lock: Arc<Lock>,
    audit: Option<AuditFile>,
}

impl LookFile {
    pub(super) fn of(folder: &Path, lock: &Arc<Lock>, audit: Option<AuditFile>) -> Self {
        LookFile {
            folder: folder.to_owned(),
            lock: Arc::clone(lock),
            audit,
        }
    }

    /// What was written last; `None` if nothing was, or it cannot be read.
    pub fn read(&self) -> Option<Looks> {
        match read(&self.folder) {
            Ok(looks) => looks,
            Err(error) => {
                warn!(%error, "how often the reporting service was seen to be back cannot be read: it is counted anew");
                None
            }
        }
    }

    /// Replaces the file in one atomic step.
    ///
    /// # Errors
    ///
    /// If the disk refuses; the file is then as it was.
    pub fn write(&self, looks: Looks) -> Result<(), LedgerError> {
        self.lock.hold()?;
        // Two plain members: there is nothing in it that has no JSON.
        let json = serde_json::to_string(&looks).unwrap_or_default();
        let line = format!("{json} {:08x}\n", crc32fast::hash(json.as_bytes()));
        file::replace(&self.folder, FILE, &[HEAD.as_bytes(), line.as_bytes()])
    }

    /// Removes the file, if there is one.
    ///
    /// # Errors
    ///
    /// If the disk refuses.
    pub fn remove(&self) -> Result<(), LedgerError> {
        file::remove_at(&self.folder.join(FILE))
    }

    /// What has settled from `oldest` on, by the audit; nothing where it cannot be read.
    pub fn settled(&self, oldest: DateTime<Utc>) -> Vec<Stretch> {
        let settled = self.audit.as_ref().map(|audit| audit.settled_after(oldest));
        settled.and_then(Result::ok).unwrap_or_default()
    }
}

/// What the file in a service's folder tells; `None` if there is none.
///
/// # Errors
///
/// If it cannot be read, or is not as it was written.
pub(super) fn read(folder: &Path) -> Result<Option<Looks>, LedgerError> {
    let path = folder.join(FILE);
    let Some(bytes) = file::read(&path)? else {
        return Ok(None);
    };
    let sound = str::from_utf8(&bytes).ok().and_then(|text| {
        let (json, check) = text.strip_prefix(HEAD)?.trim_end().rsplit_once(' ')?;
        let is_sound = check == format!("{:08x}", crc32fast::hash(json.as_bytes()));
        is_sound.then(|| serde_json::from_str(json).ok())?
    });
    let damaged = || LedgerError::Damaged {
        file: path.clone(),
        folder: folder.to_owned(),
        what: "it is not as it was written, or of another version".to_owned(),
    };
    sound.map(Some).ok_or_else(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_outlive_the_process_and_damage_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let lock = Arc::new(Lock::take(folder.path()).unwrap());
        let looks = LookFile::of(folder.path(), &lock, None);
        assert_eq!(looks.read(), None);
        let known = Looks {
            last: "2026-11-20T10:00:00.5Z".parse().unwrap(),
            days: 2,
        };
        looks.write(known).unwrap();
        assert_eq!(looks.read(), Some(known));
        let path = folder.path().join(FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("\"days\":2", "\"days\":3")).unwrap();
        assert_eq!(looks.read(), None);
        looks.remove().unwrap();
        looks.remove().unwrap();
        assert!(!path.exists());
    }
}
