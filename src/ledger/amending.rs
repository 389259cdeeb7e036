//! The state by hand: a cursor that is set, a service that is started over. Only where no collector holds the folder.

use std::fs;

use chrono::{DateTime, Utc};

use super::{LedgerError, Owner, StateDirectory, file, moved, reading};

impl StateDirectory {
    /// Sets a service's cursor, whose old place it returns; `None`, and nothing is changed, if it has none.
    ///
    /// What is confirmed beyond the cursor is forgotten in the same atomic step: a journal counts only in the epoch that it was written in.
    /// So at no moment does a cursor stand beside what belongs to another one.
    ///
    /// # Errors
    ///
    /// If the files cannot be trusted, or the disk refuses; the cursor is then where it was.
    pub fn set_cursor(
        &self,
        owner: Owner<'_>,
        at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<Option<DateTime<Utc>>, LedgerError> {
        let outputs = reading::outputs(&owner.folder(&self.path))?;
        let outputs: Vec<_> = outputs.iter().map(String::as_str).collect();
        let (mut ledger, _) = self.ledger(owner, &outputs)?;
        let Some(mut next) = ledger.cursor().cloned() else {
            return Ok(None);
        };
        let before = std::mem::replace(&mut next.at, at);
        next.boundary.clear();
        // What was said of a time that is collected again is said again.
        next.entries.retain(|entry| entry.end <= at);
        next.by_our_clock = false;
        ledger.begin(next, now)?;
        Ok(Some(before))
    }

    /// Hands the state of one service over to another name, in one atomic step. Nothing in it tells whose it is but the folder's name.
    ///
    /// # Errors
    ///
    /// If the state was exported, if the new owner has a folder with something in it, or the disk refuses; nothing is changed then.
    pub fn hand_over(&self, from: Owner<'_>, to: Owner<'_>) -> Result<(), LedgerError> {
        moved::refuse(&self.path, from)?;
        let (from, to) = (from.folder(&self.path), to.folder(&self.path));
        fs::rename(&from, &to).map_err(|cause| LedgerError::io("rename", &from, cause))?;
        file::sync_folder(&self.path)
    }

    /// Forgets a service, also one whose files cannot be trusted: with its next start it begins as if it had never run.
    ///
    /// Its folder is renamed, which is one atomic step, and removed then: a journal without its cursor would be taken for damage.
    ///
    /// # Errors
    ///
    /// If the disk refuses. What is left of a folder that could not be removed is removed by the next call.
    pub fn reset(&self, owner: Owner<'_>) -> Result<(), LedgerError> {
        let folder = owner.folder(&self.path);
        let Owner { input, id, service } = owner;
        let aside = self.path.join(format!(".reset.{input}.{id}.{service}"));
        let remove = || {
            if aside.exists() {
                fs::remove_dir_all(&aside)
                    .map_err(|cause| LedgerError::io("remove", &aside, cause))?;
            }
            Ok(())
        };
        remove()?;
        fs::rename(&folder, &aside).map_err(|cause| LedgerError::io("rename", &folder, cause))?;
        file::sync_folder(&self.path)?;
        remove()
    }
}
