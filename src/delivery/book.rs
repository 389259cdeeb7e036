//! Where an output's receipts are kept: in the journal of the settling pass, or among what early passes have delivered.

use crate::ledger::{Confirmed, Filing, Journal, LedgerError, Mark};

/// Keeps what one output has confirmed.
#[derive(Debug)]
pub(crate) enum Book {
    /// Of the settling pass.
    Journal(Journal),
    /// Of an early pass.
    Early(Filing),
}

impl Book {
    /// Whether space is reserved for `records` records of at most `windows` windows.
    pub(super) fn has_room(&self, records: usize, windows: usize) -> bool {
        match self {
            Book::Journal(journal) => journal.has_room(records, windows),
            Book::Early(filing) => filing.has_room(records, windows),
        }
    }

    /// Reserves space for so much, so that a full disk is met before it is delivered.
    ///
    /// # Errors
    ///
    /// If there is none; the call may be repeated.
    pub(super) fn reserve(
        &mut self,
        mark: Mark,
        records: usize,
        windows: usize,
    ) -> Result<(), LedgerError> {
        match self {
            Book::Journal(journal) => journal.reserve(mark, records, windows),
            Book::Early(filing) => filing.reserve(records, windows),
        }
    }

    /// Keeps what is confirmed, and syncs.
    ///
    /// # Errors
    ///
    /// If the disk refuses; the call may be repeated.
    pub(super) fn confirm(
        &mut self,
        mark: Mark,
        confirmed: &[Confirmed],
    ) -> Result<(), LedgerError> {
        match self {
            Book::Journal(journal) => journal.confirm(mark, confirmed),
            Book::Early(filing) => filing.confirm(confirmed),
        }
    }

    /// What it holds beyond the cursor at `mark`, as far as the service does not know that from elsewhere.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is not as it was written.
    pub(super) fn confirmed_beyond(&mut self, mark: Mark) -> Result<Vec<Confirmed>, LedgerError> {
        match self {
            Book::Journal(journal) => journal.confirmed_beyond(mark),
            // Each window begins with what was delivered early.
            Book::Early(_) => Ok(vec![]),
        }
    }
}
