//! The cursor's file: a line that names the format, a line of JSON for people, the boundary's fingerprints, a checksum.

use std::path::Path;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::audit::Kept;
use super::entry::Entry;
use super::journal::Mark;
use super::{LedgerError, file, key::Key};
use crate::record::Fingerprint;
use crate::report::Origin;

pub(super) const FILE: &str = "cursor";
const HEAD: &[u8] = b"exchange-reports-collector cursor 2\n";

/// Everything before the cursor is delivered and confirmed, or accounted for by an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Counts the commits.
    pub generation: u64,
    /// Counts how often the cursor was set by hand or begun anew: what a journal holds from before then is void.
    pub epoch: u64,
    /// The cursor.
    #[serde(rename = "cursor")]
    pub at: DateTime<Utc>,
    /// The tenant that the records are from.
    pub tenant: String,
    /// The last value of `reset_persistence_auth`.
    pub reset_persistence_auth: Option<String>,
    /// Nothing but our own clock says where the cursor is: nothing has been committed since it was begun.
    #[serde(default)]
    pub by_our_clock: bool,
    /// Which service is asked for records from here on.
    #[serde(default)]
    pub source: Origin,
    /// Which service told of the rows at the boundary.
    #[serde(default)]
    pub told_by: Origin,
    /// All records delivered since the state was begun.
    pub records: u64,
    /// The outputs that have confirmed everything before the cursor.
    pub outputs: Vec<String>,
    /// What became of the windows before the cursor.
    pub entries: Vec<Entry>,
    /// What has come to the audit; `None` where an earlier version has written it.
    #[serde(default)]
    pub audit: Option<Kept>,
    /// The rows of the last window, where they may come again with the next one: both ends of a range are inclusive.
    #[serde(skip)]
    pub boundary: Vec<Fingerprint>,
}

/// The line of JSON.
#[derive(Serialize, Deserialize)]
struct Line<C> {
    key: String,
    boundary: usize,
    state: C,
}

impl Cursor {
    /// A cursor from which nothing has been collected.
    pub fn begin(
        at: DateTime<Utc>,
        tenant: String,
        reset_persistence_auth: Option<String>,
    ) -> Self {
        Cursor {
            generation: 0,
            epoch: 0,
            at,
            tenant,
            reset_persistence_auth,
            by_our_clock: false,
            source: Origin::default(),
            told_by: Origin::default(),
            records: 0,
            outputs: vec![],
            entries: vec![],
            audit: None,
            boundary: vec![],
        }
    }

    /// The rows that may come again, and who told of them.
    pub fn known_at_boundary(&self) -> (&[Fingerprint], Origin) {
        (&self.boundary, self.told_by)
    }

    /// Where it is, if another service than `origin` has told of what is before it.
    pub fn taken_over_by(&self, origin: Origin) -> Option<DateTime<Utc>> {
        let is_fresh = !self.entries.iter().any(|entry| entry.start < entry.end);
        (self.told_by != origin && !is_fresh).then_some(self.at)
    }

    /// Where it is, as journals have it.
    pub fn mark(&self) -> Mark {
        Mark {
            generation: self.generation,
            epoch: self.epoch,
            cursor: self.at,
            origin: self.source,
        }
    }

    pub(super) fn load(folder: &Path, key: &str) -> Result<Option<Self>, LedgerError> {
        let path = folder.join(FILE);
        let Some(bytes) = file::read(&path)? else {
            return Ok(None);
        };
        let damaged = |what: &str| LedgerError::Damaged {
            file: path.clone(),
            folder: folder.to_owned(),
            what: what.to_owned(),
        };
        let (body, check) = bytes
            .split_last_chunk::<4>()
            .ok_or_else(|| damaged("it is cut short"))?;
        let rest = body
            .strip_prefix(HEAD)
            .ok_or_else(|| damaged("it does not begin as a cursor of this version"))?;
        if crc32fast::hash(body).to_le_bytes() != *check {
            return Err(damaged("its checksum does not match"));
        }
        let end =
            memchr::memchr(b'\n', rest).ok_or_else(|| damaged("its second line does not end"))?;
        let (text, rest) = (&rest[..end], &rest[end + 1..]);
        let line: Line<Cursor> = serde_json::from_slice(text)
            .map_err(|cause| damaged(&format!("its second line: {cause}")))?;
        if line.key != key {
            let directory = folder.parent().unwrap_or(folder);
            return Err(LedgerError::KeyMissing {
                file: Key::path(directory),
                folder: folder.to_owned(),
            });
        }
        let mut cursor = line.state;
        // A commit after it would count anew, and what journals hold from long ago would be taken for its own.
        if cursor.generation == u64::MAX {
            return Err(damaged("it counts more commits than there can have been"));
        }
        if Some(rest.len()) != line.boundary.checked_mul(16) {
            return Err(damaged(
                "it holds another number of fingerprints than it says",
            ));
        }
        cursor.boundary = fingerprints(rest);
        Ok(Some(cursor))
    }

    pub(super) fn store(&self, folder: &Path, key: &str) -> Result<(), LedgerError> {
        let line = Line {
            key: key.to_owned(),
            boundary: self.boundary.len(),
            state: self,
        };
        let mut body = HEAD.to_vec();
        // Only maps with keys that are no strings cannot be written as JSON.
        body.extend(serde_json::to_vec(&line).unwrap_or_default());
        body.push(b'\n');
        body.extend(self.boundary.iter().flat_map(|fingerprint| fingerprint.0));
        let check = crc32fast::hash(&body).to_le_bytes();
        file::replace(folder, FILE, &[&body, &check])
    }
}

/// Reads fingerprints that stand side by side.
pub(super) fn fingerprints(bytes: &[u8]) -> Vec<Fingerprint> {
    bytes
        .as_chunks::<16>()
        .0
        .iter()
        .map(|chunk| Fingerprint(*chunk))
        .collect()
}
