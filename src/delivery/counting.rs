//! What stands in the place of an output where early passes only count: what it is handed is filed, and goes nowhere.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::book::Book;
use super::order::{Batch, Order, Reached, Rewound};
use crate::backoff::Backoff;
use crate::clock::Chance;
use crate::error::chain;
use crate::ledger::{Confirmed, Mark, OnDisk};
use crate::stop::Stopped;

/// Records are filed in pieces of about so many.
const PIECE: usize = 8 << 10;

/// Waits between attempts, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_mins(1));

/// Files what it is handed.
pub(super) struct Counting {
    book: OnDisk<Book>,
    waiting: Vec<Confirmed>,
    /// The last batch that waits, with where the cursor was.
    last: Option<(u64, Mark)>,
    reached: watch::Sender<Reached>,
    chance: Chance,
    stop: CancellationToken,
}

impl Counting {
    pub(super) fn new(
        book: Book,
        reached: watch::Sender<Reached>,
        chance: Chance,
        stop: CancellationToken,
    ) -> Self {
        // Nobody has to prove anything.
        reached.send_modify(|reached| reached.confirms = true);
        Counting {
            book: OnDisk::new(book),
            waiting: vec![],
            last: None,
            reached,
            chance,
            stop,
        }
    }

    /// Carries out orders until there are no more, or the collector stops.
    pub(super) async fn run(mut self, mut queue: mpsc::UnboundedReceiver<Order>) {
        let stop = self.stop.clone();
        while let Some(Some(order)) = stop.run_until_cancelled(queue.recv()).await {
            let done = match order {
                Order::Deliver(batch) => self.take(&batch).await,
                Order::Confirm(_) => self.file().await,
                Order::Rewind(_, reply) => {
                    // What waits comes again.
                    self.waiting.clear();
                    self.last = None;
                    let nothing = Rewound {
                        confirmed: vec![],
                        lost: vec![],
                    };
                    reply.send(nothing).map_err(|_| Stopped)
                }
            };
            if done.is_err() {
                return;
            }
        }
    }

    async fn take(&mut self, batch: &Batch) -> Result<(), Stopped> {
        let places = batch.places.iter();
        self.waiting.push(Confirmed {
            window: batch.window,
            origin: batch.mark.origin,
            fingerprints: places
                .map(|place| batch.page.fingerprint(*place as usize))
                .collect(),
        });
        self.last = Some((batch.number, batch.mark));
        let records = self.waiting.iter().map(|of| of.fingerprints.len());
        if records.sum::<usize>() < PIECE {
            return Ok(());
        }
        self.file().await
    }

    /// Files what waits. Tries until it has worked.
    async fn file(&mut self) -> Result<(), Stopped> {
        let Some((number, mark)) = self.last.take() else {
            return Ok(());
        };
        let records: Arc<[Confirmed]> = std::mem::take(&mut self.waiting).into();
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            let filed = records.clone();
            let filed = self.book.run(move |book| book.confirm(mark, &filed));
            let Err(failure) = filed.await else {
                self.reached.send_modify(|reached| reached.number = number);
                return Ok(());
            };
            let wait = backoff.next(self.chance.share());
            error!(
                error = chain(&failure),
                retry_in = ?wait,
                action = failure.action(),
                "what an early pass has counted cannot be written; it waits, and nothing else does"
            );
            let sleep = tokio::time::sleep(wait);
            self.stop.run_until_cancelled(sleep).await.ok_or(Stopped)?;
        }
    }
}
