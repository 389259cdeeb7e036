//! The mark of an input whose state has left or is on its way in: `state/INPUT.ID.moved`, a line of JSON for people.
//!
//! While it is there the input does not start, so that no two collectors ever write the same tenant's state. An export leaves it for good; an
//! import leaves it only where it was interrupted.

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{LedgerError, Owner, file};

/// Why an input does not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Its state was exported, for another collector to go on with.
    Exported,
    /// An import of its state has begun and has not ended.
    Importing,
}

/// The mark.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// Why the input does not start.
    pub what: What,
    /// The export's file, as it was named.
    pub file: PathBuf,
    /// The export's name, which no other has.
    pub export: String,
    /// When it was exported, or when its import began.
    pub at: DateTime<Utc>,
}

impl Moved {
    /// Where the mark of an input is in the state folder at `folder`.
    pub fn path(folder: &Path, input: &str, id: &str) -> PathBuf {
        folder.join(name(input, id))
    }

    /// Reads the mark of an input in the state folder at `folder`; `None` if there is none.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is not as it was written.
    pub fn of(folder: &Path, input: &str, id: &str) -> Result<Option<Self>, LedgerError> {
        let path = Moved::path(folder, input, id);
        let Some(bytes) = file::read(&path)? else {
            return Ok(None);
        };
        match serde_json::from_slice(&bytes) {
            Ok(mark) => Ok(Some(mark)),
            Err(_) => Err(LedgerError::DamagedMark { mark: path }),
        }
    }

    pub(super) fn store(&self, folder: &Path, input: &str, id: &str) -> Result<(), LedgerError> {
        // Text and instants can always be written as JSON.
        let mut json = serde_json::to_vec(self).unwrap_or_default();
        json.push(b'\n');
        file::replace(folder, &name(input, id), &[&json])
    }

    /// Puts back what was there before another mark.
    pub(super) fn restore(
        folder: &Path,
        (input, id): (&str, &str),
        before: &[u8],
    ) -> Result<(), LedgerError> {
        file::replace(folder, &name(input, id), &[before])
    }

    pub(super) fn remove(folder: &Path, input: &str, id: &str) -> Result<(), LedgerError> {
        file::remove_at(&Moved::path(folder, input, id))?;
        file::sync_folder(folder)
    }
}

fn name(input: &str, id: &str) -> String {
    format!("{input}.{id}.moved")
}

/// Refuses a service of an input that has the mark in the state folder at `folder`.
///
/// # Errors
///
/// If there is one.
pub fn refuse(folder: &Path, owner: Owner<'_>) -> Result<(), LedgerError> {
    let Owner { input, id, .. } = owner;
    let Some(moved) = Moved::of(folder, input, id)? else {
        return Ok(());
    };
    let mark = Moved::path(folder, input, id);
    Err(match moved.what {
        What::Exported => LedgerError::Exported { moved, mark },
        What::Importing => LedgerError::HalfImported { moved, mark },
    })
}
