//! What the process has for each of its tenants.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::budget::Budget;
use crate::delivery::Shared;
use crate::ledger::{RequestFile, StateDirectory};
use crate::messages::Told;
use crate::monitoring::Monitor;

/// When a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// When it is told to.
    AtTheStop,
    /// When everything is collected that was due at its start; a service that has not got on for so long is given up.
    WhenDone {
        /// How long a service may take over a page, a receipt, or a write to its state. A request may take ten minutes.
        patience: Duration,
    },
}

/// What all services share.
#[derive(Clone)]
pub(crate) struct Around {
    pub(crate) state: Arc<StateDirectory>,
    /// The times of the requests to Graph.
    pub(crate) requests: RequestFile,
    pub(crate) shared: Shared,
    pub(crate) budget: Budget,
    pub(crate) monitor: Arc<Monitor>,
    /// What the outputs know of what hours came to.
    pub(crate) told: Told,
}

/// That a service's state is being opened, for as long as this is held.
pub(crate) struct Opening {
    refused: Arc<AtomicUsize>,
    _held: TaskTrackerToken,
}

impl Opening {
    /// Counts in `refused` what does not run.
    pub(crate) fn new(refused: &Arc<AtomicUsize>, held: TaskTrackerToken) -> Self {
        Opening {
            refused: Arc::clone(refused),
            _held: held,
        }
    }

    /// The service does not run.
    pub(crate) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::SeqCst);
    }
}
