//! The progress of a comparison: a line on standard error every ten seconds.

use std::cell::Cell;
use std::io::{self, Write as _};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::{Instant, sleep_until};

use super::findings::instant;

/// The time between two lines. A shorter comparison prints its result only.
const EVERY: Duration = Duration::from_secs(10);

/// What has been read so far.
pub(super) struct Progress {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    /// Everything before it is compared.
    compared: Cell<DateTime<Utc>>,
    /// The rows of the reporting service.
    here: Cell<usize>,
    /// The rows of Microsoft Graph.
    there: Cell<usize>,
    /// When the next line is due.
    next: Cell<Instant>,
}

impl Progress {
    /// The progress at the beginning of a range.
    pub(super) fn new(from: DateTime<Utc>, to: DateTime<Utc>) -> Self {
        Progress {
            from,
            to,
            compared: Cell::new(from),
            here: Cell::new(0),
            there: Cell::new(0),
            next: Cell::new(Instant::now() + EVERY),
        }
    }

    pub(super) fn compared(&self, until: DateTime<Utc>) {
        self.compared.set(until);
    }

    pub(super) fn came_from_reports(&self, rows: usize) {
        self.here.set(self.here.get() + rows);
    }

    pub(super) fn came_from_graph(&self, rows: usize) {
        self.there.set(self.there.get() + rows);
    }

    /// Awaits a part of the comparison, and tells meanwhile how far all of it is.
    pub(super) async fn beside<T>(&self, comparing: impl Future<Output = T>) -> T {
        tokio::pin!(comparing);
        loop {
            tokio::select! {
                biased;
                result = &mut comparing => return result,
                () = sleep_until(self.next.get()) => {
                    self.next.set(Instant::now() + EVERY);
                    self.tell();
                }
            }
        }
    }

    fn tell(&self) {
        let whole = (self.to - self.from).num_seconds().max(1);
        let percent = (self.compared.get() - self.from).num_seconds() * 100 / whole;
        let told = format!(
            "still comparing: done up to {}, the end is {} ({percent} %); {} rows of the reporting service and {} of Microsoft Graph so far, whose \
             budget of requests may make this wait for minutes\n",
            instant(self.compared.get()),
            instant(self.to),
            self.here.get(),
            self.there.get(),
        );
        // Nobody may be listening.
        let _ = io::stderr().write_all(told.as_bytes());
    }
}
