//! One output of one service, as the service sees it: what it hands over is delivered and confirmed by a task of its own.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::courier::{Courier, Next};
use super::once::Progress;
use super::{Stopped, statistics};
use crate::client::Page;
use crate::config::Output;
use crate::ledger::{Journal, Mark};
use crate::monitoring::OutletMonitor;
use crate::record::Splice;
use crate::relay::Host;

/// Records of one page for one output.
pub(super) struct Batch {
    /// The window that they belong to.
    pub(super) mark: Mark,
    /// The page.
    pub(super) page: Arc<Page>,
    /// The places in the page of the records to deliver.
    pub(super) rows: Vec<usize>,
    /// What goes into each record of this pull.
    pub(super) splice: Arc<Splice>,
    /// When the pull began.
    pub(super) pulled: DateTime<Utc>,
    /// When Microsoft deletes the first of what waits.
    pub(super) deleted: DateTime<Utc>,
}

impl Batch {
    /// Lets go of a page of which a quarter or more is not to be delivered: all of it would stay in memory until the rest is confirmed.
    pub(super) fn release_page(&mut self) {
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
pub(super) enum Order {
    /// Deliver this.
    Deliver(Batch),
    /// Confirm everything, and say so; and what comes then.
    Confirm(Next, oneshot::Sender<()>),
}

/// The service's end of an output.
pub(super) struct Outlet {
    name: String,
    orders: mpsc::Sender<Order>,
    task: JoinHandle<()>,
}

impl Outlet {
    /// Starts the task that delivers to `output` until the outlet is closed or `stop` is cancelled.
    pub(super) fn start(
        output: &Output,
        tag: &'static str,
        host: &Host,
        journal: Journal,
        monitor: Arc<OutletMonitor>,
        stop: CancellationToken,
        progress: Progress,
    ) -> Self {
        // One batch waits while another one is delivered and a third one is fetched.
        let (orders, queue) = mpsc::channel(1);
        let period = output.statistics_period;
        let courier = Courier::new(
            output,
            tag,
            host,
            journal,
            Arc::clone(&monitor),
            stop,
            progress,
        );
        let span = tracing::info_span!("output", name = output.name);
        let deliver = async move {
            tokio::select! {
                () = courier.run(queue) => {}
                never = statistics::tell_each(period, &monitor) => match never {},
            }
        };
        let task = tokio::spawn(deliver.instrument(span));
        Outlet {
            name: output.name.clone(),
            orders,
            task,
        }
    }

    /// The output's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Hands over a batch; waits while the one before it is still waiting.
    pub(super) async fn deliver(&self, batch: Batch) -> Result<(), Stopped> {
        self.orders
            .send(Order::Deliver(batch))
            .await
            .map_err(|_| Stopped)
    }

    /// Waits until everything handed over is confirmed and journalled. `next` tells whether more comes at once.
    pub(super) async fn confirm(&self, next: Next) -> Result<(), Stopped> {
        let (done, confirmed) = oneshot::channel();
        self.orders
            .send(Order::Confirm(next, done))
            .await
            .map_err(|_| Stopped)?;
        confirmed.await.map_err(|_| Stopped)
    }

    /// Ends the task, after it has confirmed what is written.
    pub(super) async fn close(self) {
        drop(self.orders);
        if let Err(error) = self.task.await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}
