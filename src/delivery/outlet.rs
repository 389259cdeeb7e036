//! One output of one service, as the service sees it: what it hands over is delivered and confirmed by a task of its own.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::addresses::Shared;
use super::book::Book;
use super::counting::Counting;
use super::courier::Courier;
use super::order::{Batch, Next, Order, Reached, Rewound};
use super::statistics;
use crate::budget::Budget;
use crate::clock::{Chance, WallClock};
use crate::config::Output;
use crate::ledger::Mark;
use crate::monitoring::OutletMonitor;
use crate::stop::{Progress, Stopped};

/// The service's end of an output.
pub(crate) struct Outlet {
    /// The bound on what waits here is the budget.
    orders: mpsc::UnboundedSender<Order>,
    reached: watch::Receiver<Reached>,
    /// Whether what is not confirmed is to be given up, without waiting for the relay.
    given_up: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// What an output's task needs of its service.
pub(crate) struct Surroundings {
    pub(crate) budget: Budget,
    pub(crate) wall: WallClock,
    pub(crate) chance: Chance,
    pub(crate) monitor: Arc<OutletMonitor>,
    pub(crate) stop: CancellationToken,
    pub(crate) progress: Progress,
}

impl Outlet {
    /// Starts the task that delivers to `output` until the outlet is closed or the collector stops.
    pub(crate) fn start(
        output: &Output,
        tag: &'static str,
        shared: &Shared,
        book: Book,
        surroundings: Surroundings,
    ) -> Self {
        let (orders, queue) = mpsc::unbounded_channel();
        let (reached, hears) = watch::channel(Reached::default());
        let monitor = Arc::clone(&surroundings.monitor);
        let period = output.statistics_period;
        let (given_up, order_to_give_up) = watch::channel(false);
        // What an early pass delivers is told with the rest.
        let tells = matches!(book, Book::Journal(_));
        let channels = (reached, order_to_give_up);
        let courier = Courier::new(output, tag, shared, book, channels, surroundings);
        let span = tracing::info_span!("output", name = output.name);
        let deliver = async move {
            tokio::select! {
                biased;
                () = courier.run(queue) => {}
                never = statistics::tell_each(period, &monitor), if tells => match never {},
            }
        };
        let task = tokio::spawn(deliver.instrument(span));
        Outlet {
            orders,
            reached: hears,
            given_up,
            task,
        }
    }

    /// Starts a task that files in `book` what it is handed, and delivers nothing.
    pub(crate) fn counting(book: Book, chance: Chance, stop: CancellationToken) -> Self {
        let (orders, queue) = mpsc::unbounded_channel();
        let (reached, hears) = watch::channel(Reached::default());
        let (given_up, _) = watch::channel(false);
        let counting = Counting::new(book, reached, chance, stop);
        let task = tokio::spawn(counting.run(queue).in_current_span());
        Outlet {
            orders,
            reached: hears,
            given_up,
            task,
        }
    }

    /// Hands over a batch.
    pub(crate) fn deliver(&self, batch: Batch) -> Result<(), Stopped> {
        let order = Order::Deliver(batch);
        self.orders.send(order).map_err(|_| Stopped)
    }

    /// Has everything confirmed that was handed over. `next` tells whether more comes at once.
    pub(crate) fn confirm(&self, next: Next) -> Result<(), Stopped> {
        let order = Order::Confirm(next);
        self.orders.send(order).map_err(|_| Stopped)
    }

    /// How far it is.
    pub(crate) fn reached(&self) -> Reached {
        *self.reached.borrow()
    }

    /// Resolves when it is further than it was at the last call. Cancel safe.
    pub(crate) async fn changed(&mut self) -> Result<(), Stopped> {
        self.reached.changed().await.map_err(|_| Stopped)
    }

    /// Has it confirm what is written and drop the rest.
    pub(crate) async fn rewind(&self, mark: Mark) -> Result<Rewound, Stopped> {
        let (reply, rewound) = oneshot::channel();
        let order = Order::Rewind(mark, reply);
        self.orders.send(order).map_err(|_| Stopped)?;
        rewound.await.map_err(|_| Stopped)
    }

    /// Has it give its unconfirmed lines back, whatever it waits for, or no longer.
    pub(crate) fn give_up(&self, now: bool) {
        self.given_up.send_replace(now);
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
