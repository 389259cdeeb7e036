//! What is known of the relays' addresses: `state/addresses`, a line that names the format, JSON for people, a line with a checksum.
//!
//! The JSON is not looked into: what it means, its owner knows.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::lock::Lock;
use super::{LedgerError, file};

pub(super) const FILE: &str = "addresses";
const HEAD: &str = "exchange-reports-collector addresses 1\n";
const CHECK: &str = "\nchecksum ";

/// The file of a state folder.
#[derive(Debug)]
pub struct AddressFile {
    folder: PathBuf,
    /// What is held while it is written; `None` where nobody holds the folder.
    guard: Option<Arc<Lock>>,
}

impl AddressFile {
    pub(super) fn of(folder: &Path, guard: Option<Arc<Lock>>) -> Self {
        AddressFile {
            folder: folder.to_owned(),
            guard,
        }
    }

    /// The JSON that was written last; `None` if nothing was.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or is not as it was written.
    pub fn read(&self) -> Result<Option<String>, LedgerError> {
        let Some(bytes) = file::read(&self.path())? else {
            return Ok(None);
        };
        let json = String::from_utf8(bytes).ok().and_then(|text| {
            let (body, check) = text.rsplit_once(CHECK)?;
            let sound = check.trim_end() == checksum(body);
            sound.then(|| body.strip_prefix(HEAD).map(str::to_owned))?
        });
        match json {
            Some(json) => Ok(Some(json)),
            None => Err(self.damaged("it is not as it was written, or of another version")),
        }
    }

    /// Replaces the file in one atomic step.
    ///
    /// # Errors
    ///
    /// If the disk refuses, or the folder is another collector's by now; the file is then as it was.
    pub fn write(&self, json: &str) -> Result<(), LedgerError> {
        if let Some(lock) = &self.guard {
            lock.hold()?;
        }
        let body = format!("{HEAD}{json}");
        let check = format!("{CHECK}{}\n", checksum(&body));
        file::replace(&self.folder, FILE, &[body.as_bytes(), check.as_bytes()])
    }

    /// The error of a file whose JSON does not mean anything.
    pub fn damaged(&self, what: &str) -> LedgerError {
        LedgerError::DamagedAddresses {
            file: self.path(),
            what: what.to_owned(),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.join(FILE)
    }
}

fn checksum(body: &str) -> String {
    format!("{:08x}", crc32fast::hash(body.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_was_written_is_read_and_nobody_else_may() {
        let folder = tempfile::tempdir().unwrap();
        let file = AddressFile::of(folder.path(), None);
        assert_eq!(file.read().unwrap(), None);
        for json in ["{}", "{\n  \"relay:443\": {}\n}"] {
            file.write(json).unwrap();
            assert_eq!(file.read().unwrap().as_deref(), Some(json));
        }
        let mode = fs::metadata(file.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn every_change_of_a_byte_and_every_cut_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let file = AddressFile::of(folder.path(), None);
        file.write("{\"relay:443\": 1}").unwrap();
        let sound = fs::read(file.path()).unwrap();
        for at in 0..sound.len() - 1 {
            let mut bytes = sound.clone();
            bytes[at] ^= 4;
            fs::write(file.path(), &bytes).unwrap();
            assert!(file.read().is_err(), "byte {at}");
            fs::write(file.path(), &sound[..at]).unwrap();
            assert!(file.read().is_err(), "cut at {at}");
        }
        let error = file.read().unwrap_err().to_string();
        assert!(error.contains("remove it"), "{error}");
    }
}
