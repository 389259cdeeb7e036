//! What a service asks of an output, and what it hears of it.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::oneshot;

use crate::budget::Memory;
use crate::ledger::{Confirmed, Mark};
use crate::record::Splice;
use crate::source::Page;
use crate::window::Window;

/// A page with the memory that it takes of the budget.
pub(crate) struct Held {
    page: Page,
    _memory: Memory,
}

impl Held {
    /// Holds a page as long as any output has not confirmed it.
    pub(crate) fn new(page: Page, memory: Memory) -> Self {
        Held {
            page,
            _memory: memory,
        }
    }
}

impl std::ops::Deref for Held {
    type Target = Page;

    fn deref(&self) -> &Page {
        &self.page
    }
}

/// Records of one page for one output.
pub(crate) struct Batch {
    /// Counts the batches of a service.
    pub(crate) number: u64,
    /// The window that they belong to.
    pub(crate) window: Window,
    /// Where the cursor was when they were handed over.
    pub(crate) mark: Mark,
    /// The page.
    pub(crate) page: Arc<Held>,
    /// The places in the page of the records to deliver.
    pub(crate) places: Vec<u32>,
    /// What goes into each record of this pull.
    pub(crate) splice: Arc<Splice>,
    /// When the pull began.
    pub(crate) pulled: DateTime<Utc>,
    /// When Microsoft deletes the first of what waits.
    pub(crate) deleted: DateTime<Utc>,
}

/// What a service asks of an output.
pub(crate) enum Order {
    /// Deliver this.
    Deliver(Batch),
    /// Confirm everything; and what comes then.
    Confirm(Next),
    /// Confirm what is written, drop the rest, and tell what is confirmed beyond the cursor.
    Rewind(Mark, oneshot::Sender<Rewound>),
}

/// What comes when a delivery is confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// More lines at once: the connection for them is opened meanwhile.
    More,
    /// Nothing that is known of.
    Nothing,
}

/// How far an output is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reached {
    /// Every batch up to this number is confirmed and journalled.
    pub(crate) number: u64,
    /// It has given lines back that were not confirmed: the service has to rewind.
    pub(crate) lost: bool,
    /// There has been a receipt since the start, and since anything failed.
    pub(crate) confirms: bool,
}

/// An output that has nothing unconfirmed.
#[derive(Debug)]
pub(crate) struct Rewound {
    /// What it has confirmed beyond the cursor.
    pub(crate) confirmed: Vec<Confirmed>,
    /// What it was handed in vain.
    pub(crate) lost: Vec<Confirmed>,
}
