//! The secret under which fingerprints are made.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretBox};
use zeroize::Zeroizing;

use super::{LedgerError, file};
use crate::record::Fingerprinter;
use crate::report::Report;

pub(super) const FILE: &str = "fingerprint.key";
const HEAD: &str = "exchange-reports-collector key 1\n";

/// The secret, and a name for it that tells nothing of it.
#[derive(Clone)]
pub(super) struct Key {
    secret: Arc<SecretBox<[u8; 16]>>,
    id: String,
    /// The folder of a service that has a key of its own, since its state comes from another state folder.
    own: Option<PathBuf>,
}

impl Key {
    /// Where the key of a state folder is.
    pub(super) fn path(directory: &Path) -> PathBuf {
        directory.join(FILE)
    }

    /// The key of the service with this `folder` in the state folder at `directory`: its own, if it has one, or else the state folder's.
    pub(super) fn of(directory: &Path, folder: &Path) -> Result<Option<Self>, LedgerError> {
        match Key::own(folder)? {
            None => Key::load(directory),
            own => Ok(own),
        }
    }

    /// The key that the service with this `folder` has of its own, if it has one.
    pub(super) fn own(folder: &Path) -> Result<Option<Self>, LedgerError> {
        let key = Key::load(folder)?;
        Ok(key.map(|key| Key {
            own: Some(folder.to_owned()),
            ..key
        }))
    }

    /// Stores a service's own key again where its folder has gone.
    pub(super) fn keep(&self) -> Result<(), LedgerError> {
        match &self.own {
            Some(folder) if !Key::path(folder).exists() => {
                file::make_folder(folder)?;
                self.store(folder)
            }
            _ => Ok(()),
        }
    }

    /// Reads the key in a folder; `None` if there is none.
    pub(super) fn load(directory: &Path) -> Result<Option<Self>, LedgerError> {
        let path = Key::path(directory);
        let Some(text) = file::read(&path)?.map(Zeroizing::new) else {
            return Ok(None);
        };
        let secret = text.strip_prefix(HEAD.as_bytes()).and_then(|rest| {
            let (secret, check) = rest.split_at_checked(16)?;
            let sound = check == crc32fast::hash(secret).to_le_bytes();
            sound.then(|| secret.try_into().ok()).flatten()
        });
        let damaged = || LedgerError::Damaged {
            file: path.clone(),
            folder: directory.to_owned(),
            what: "it is not a key as it was written".to_owned(),
        };
        secret
            .ok_or_else(damaged)
            .map(|secret| Some(Key::new(secret)))
    }

    /// Makes a random key and stores it.
    pub(super) fn create(directory: &Path) -> Result<Self, LedgerError> {
        let key = Key::new(rand::random());
        key.store(directory)?;
        Ok(key)
    }

    /// The key's file, as it is stored.
    pub(super) fn bytes(&self) -> Zeroizing<Vec<u8>> {
        let secret = self.secret.expose_secret();
        let check = crc32fast::hash(secret).to_le_bytes();
        Zeroizing::new([HEAD.as_bytes(), secret, &check].concat())
    }

    /// Stores the key in a folder that has none.
    pub(super) fn store(&self, directory: &Path) -> Result<(), LedgerError> {
        file::replace(directory, FILE, &[&self.bytes()])
    }

    fn new(secret: [u8; 16]) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &secret);
        let (name, _) = digest
            .as_ref()
            .split_first_chunk()
            .unwrap_or((&[0; 8], &[]));
        let id = format!("{:016x}", u64::from_be_bytes(*name));
        Key {
            secret: Arc::new(SecretBox::new(Box::new(secret))),
            id,
            own: None,
        }
    }

    /// The key's name.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn fingerprinter(&self, report: &Report) -> Fingerprinter {
        Fingerprinter::of(self.secret.expose_secret(), report)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id)
    }
}
