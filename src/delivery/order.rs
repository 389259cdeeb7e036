//! What a service asks of an output.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::oneshot;

use crate::ledger::Mark;
use crate::record::Splice;
use crate::source::Page;

/// Records of one page for one output.
pub(crate) struct Batch {
    /// The window that they belong to.
    pub(crate) mark: Mark,
    /// The page.
    pub(crate) page: Arc<Page>,
    /// The places in the page of the records to deliver.
    pub(crate) rows: Vec<usize>,
    /// What goes into each record of this pull.
    pub(crate) splice: Arc<Splice>,
    /// When the pull began.
    pub(crate) pulled: DateTime<Utc>,
    /// When Microsoft deletes the first of what waits.
    pub(crate) deleted: DateTime<Utc>,
}

impl Batch {
    /// Lets go of a page of which a quarter or more is not to be delivered: all of it would stay in memory until the rest is confirmed.
    pub(crate) fn release_page(&mut self) {
        let wanted: usize = self
            .rows
            .iter()
            .map(|place| self.page.row(*place).len())
            .sum();
        if wanted < self.page.bytes() / 4 * 3 {
            self.page = Arc::new(self.page.only(self.rows.iter().copied()));
            self.rows = (0..self.page.len()).collect();
        }
    }
}

/// What a service asks of an output.
pub(crate) enum Order {
    /// Deliver this.
    Deliver(Batch),
    /// Confirm everything, and say so; and what comes then.
    Confirm(Next, oneshot::Sender<()>),
}

/// What comes when a delivery is confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// More lines at once: the connection for them is opened meanwhile.
    More,
    /// Nothing that is known of.
    Nothing,
}
