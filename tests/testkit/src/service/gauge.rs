//! How many requests for reports are being answered at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts the requests that are being answered.
#[derive(Default)]
pub(crate) struct Gauge {
    count: Arc<AtomicUsize>,
}

/// One request, until all of its answer has been handed to the network or its connection has ended.
pub(crate) struct InFlight {
    count: Arc<AtomicUsize>,
}

impl Gauge {
    /// Counts one more, and tells how many there are with it.
    pub(crate) fn enter(&self) -> (InFlight, usize) {
        let count = Arc::clone(&self.count);
        let now = count.fetch_add(1, Ordering::AcqRel) + 1;
        (InFlight { count }, now)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::AcqRel);
    }
}
