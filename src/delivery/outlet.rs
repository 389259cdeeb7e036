//! One output of one service, as the service sees it: what it hands over is delivered and confirmed by a task of its own.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::courier::Courier;
use super::order::{Batch, Next, Order};
use super::statistics;
use crate::config::Output;
use crate::ledger::Journal;
use crate::monitoring::OutletMonitor;
use crate::relay::Host;
use crate::stop::{Progress, Stopped};

/// The service's end of an output.
pub(crate) struct Outlet {
    name: String,
    orders: mpsc::Sender<Order>,
    task: JoinHandle<()>,
}

impl Outlet {
    /// Starts the task that delivers to `output` until the outlet is closed or `stop` is cancelled.
    pub(crate) fn start(
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
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Hands over a batch; waits while the one before it is still waiting.
    pub(crate) async fn deliver(&self, batch: Batch) -> Result<(), Stopped> {
        self.orders
            .send(Order::Deliver(batch))
            .await
            .map_err(|_| Stopped)
    }

    /// Waits until everything handed over is confirmed and journalled. `next` tells whether more comes at once.
    pub(crate) async fn confirm(&self, next: Next) -> Result<(), Stopped> {
        let (done, confirmed) = oneshot::channel();
        self.orders
            .send(Order::Confirm(next, done))
            .await
            .map_err(|_| Stopped)?;
        confirmed.await.map_err(|_| Stopped)
    }

    /// Ends the task, after it has confirmed what is written.
    pub(crate) async fn close(self) {
        drop(self.orders);
        if let Err(error) = self.task.await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}
