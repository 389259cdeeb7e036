//! Delivers what one output of one service is given, confirms it, and journals what is confirmed.
//!
//! Guarantees: lines are kept until their receipt, and sent again whole if it does not come; a delivery begins only when the
//! journal has room for it, and the next one only when the last one's records are journalled. So after a crash what comes twice is at
//! most one delivery. A delivery carries the records of many windows. Where others wait for memory it is ended at once; lines that have
//! had no receipt for a minute, or whose relay has just failed, are then given back, and the service fetches them again.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::addresses::Shared;
use super::book::Book;
use super::lines::{Chunk, Lines};
use super::order::{Batch, Next, Order, Reached, Rewound};
use super::outlet::Surroundings;
use super::shipment::{End, Failure, OpenDelivery, Shipments, end_of, opened};
use crate::backoff::Backoff;
use crate::budget::Budget;
use crate::clock::{Chance, WallClock};
use crate::config::Output;
use crate::error::chain;
use crate::ledger::{Confirmed, LedgerError, Mark, OnDisk};
use crate::monitoring::{Cause, OutletMonitor};
use crate::relay::Host;
use crate::stop::{GRACE, Progress, Stopped};

/// A delivery is ended, and the next connection takes over, at this many unconfirmed bytes.
const DELIVERY_MAX: usize = 8 << 20;

/// Deliveries that fail are halved down to this, a few hundred records.
const DELIVERY_MIN: usize = 128 << 10;

/// The most records of a delivery: they are journalled in one piece.
const RECORDS_MAX: usize = 32 << 10;

/// Waits between attempts, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_mins(1));

/// A delivery is ended when it is this old, so that the cursor follows also where little comes.
const AGE_MAX: Duration = Duration::from_secs(30);

/// How long the last receipt is waited for. Where the whole collector stops, it is gone before; where one input does, its state must be free
/// for what comes after it, whatever its relay does.
const LAST: Duration = GRACE.saturating_add(Duration::from_secs(1));

/// Where others wait for memory, lines without a receipt for so long are given back.
const PATIENCE: Duration = Duration::from_mins(1);

/// The same in an attempt at a relay that has given no receipt since the start, or since it failed.
const PATIENCE_UNPROVEN: Duration = Duration::from_secs(5);

/// What the last batch told.
struct Last {
    mark: Mark,
    deleted: DateTime<Utc>,
}

/// The task of one output.
pub(crate) struct Courier {
    tag: &'static str,
    host: Host,
    shipments: Shipments,
    journal: OnDisk<Book>,
    /// What is not confirmed; the open delivery has the first chunks of it.
    waiting: Lines,
    /// The lines of the chunk that is being written, in memory that stays warm.
    rendered: Vec<u8>,
    delivery_most: usize,
    backoff: Backoff,
    failing: bool,
    last: Option<Last>,
    /// Until when lines without a receipt are kept though others wait for memory.
    kept_until: Instant,
    reached: watch::Sender<Reached>,
    /// Whether what is not confirmed is to be given up, without waiting for the relay.
    given_up: watch::Receiver<bool>,
    budget: Budget,
    wall: WallClock,
    chance: Chance,
    monitor: Arc<OutletMonitor>,
    stop: CancellationToken,
    progress: Progress,
}

impl Courier {
    /// Delivers to `output` under the Devo table `tag`, in the name of this machine.
    pub(crate) fn new(
        output: &Output,
        tag: &'static str,
        shared: &Shared,
        book: Book,
        (reached, given_up): (watch::Sender<Reached>, watch::Receiver<bool>),
        surroundings: Surroundings,
    ) -> Self {
        let Surroundings {
            budget,
            wall,
            chance,
            monitor,
            stop,
            progress,
        } = surroundings;
        Courier {
            tag,
            host: shared.host.clone(),
            shipments: Shipments::new(output, shared, Arc::clone(&monitor), stop.clone()),
            journal: OnDisk::new(book),
            waiting: Lines::default(),
            rendered: Vec::new(),
            delivery_most: DELIVERY_MAX,
            backoff: Backoff::new(RETRY.0, RETRY.1),
            failing: false,
            last: None,
            kept_until: Instant::now() + PATIENCE,
            reached,
            given_up,
            budget,
            wall,
            chance,
            monitor,
            stop,
            progress,
        }
    }

    /// Carries out orders until there are no more or the collector stops, and then confirms what is written.
    pub(crate) async fn run(mut self, mut queue: mpsc::UnboundedReceiver<Order>) {
        loop {
            let open = self.shipments.open.as_ref();
            let begun = open.filter(|open| open.chunks > 0).map(|open| open.begun);
            let too_old = begun.unwrap_or_else(Instant::now) + AGE_MAX;
            let done = tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                order = queue.recv() => match order {
                    Some(order) => self.carry_out(order).await,
                    None => break,
                },
                open = opened(self.shipments.preconnect.as_mut()) => {
                    self.shipments.preconnect = None;
                    if let Some(open) = open {
                        self.monitor.opened();
                        self.shipments.open = Some(open);
                    }
                    Ok(())
                }
                () = self.budget.is_wanted(), if begun.is_some() => self.send(Some(Next::Nothing)).await,
                () = sleep_until(too_old), if begun.is_some() => self.send(Some(Next::Nothing)).await,
                end = end_of(self.shipments.open.as_mut()) => {
                    if let End::Broken(failure) = end {
                        self.failed(&failure.into());
                    }
                    self.send(Some(Next::Nothing)).await
                }
            };
            if done.is_err() {
                break;
            }
        }
        self.finish_at_the_stop().await;
    }

    async fn carry_out(&mut self, order: Order) -> Result<(), Stopped> {
        match order {
            Order::Deliver(batch) => self.take(batch).await,
            Order::Confirm(next) => self.send(Some(next)).await,
            Order::Rewind(mark, reply) => {
                let rewound = self.rewind(mark).await?;
                // Nobody waits for it any more only when the service has stopped.
                reply.send(rewound).map_err(|_| Stopped)
            }
        }
    }

    /// Takes a batch over, and writes it.
    async fn take(&mut self, batch: Batch) -> Result<(), Stopped> {
        self.last = Some(Last {
            mark: batch.mark,
            deleted: batch.deleted,
        });
        let envelope = self
            .shipments
            .relay
            .envelope(batch.pulled, &self.host, self.tag);
        if self.waiting.is_empty() {
            self.kept_until = Instant::now() + PATIENCE;
        }
        self.waiting.add(batch, envelope);
        if self.reached.borrow().lost {
            self.waiting.give_back();
        }
        self.note_what_waits();
        self.send(None).await
    }

    /// Confirms what is written, and drops the rest.
    async fn rewind(&mut self, mark: Mark) -> Result<Rewound, Stopped> {
        if let Err(failure) = self.confirm(Next::Nothing).await {
            self.failed(&failure);
        }
        let lost = self.waiting.drain();
        self.note_what_waits();
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let confirmed = loop {
            let read = self
                .journal
                .run(move |journal| journal.confirmed_beyond(mark));
            let failure = match read.await {
                Ok(confirmed) => break confirmed,
                Err(failure) => failure,
            };
            let wait = backoff.next(self.chance.share());
            self.monitor.not_journalled(&chain(&failure));
            error!(error = chain(&failure), retry_in = ?wait, action = failure.action(),
                "the journal cannot be read; nothing is collected until it can, and nothing is lost");
            self.sleep(wait).await?;
        };
        self.reached.send_modify(|reached| reached.lost = false);
        Ok(Rewound { confirmed, lost })
    }

    async fn sleep(&self, wait: Duration) -> Result<(), Stopped> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Stopped),
            () = tokio::time::sleep(wait) => Ok(()),
        }
    }

    /// Writes what waits, in as many deliveries as it takes; to the last receipt if `then` tells what comes after it. Tries until that has
    /// worked, or the lines have been given back.
    async fn send(&mut self, then: Option<Next>) -> Result<(), Stopped> {
        loop {
            if self.stop.is_cancelled() {
                return Err(Stopped);
            }
            if !self.reached.borrow().confirms {
                self.kept_until = Instant::now() + PATIENCE_UNPROVEN;
            }
            match self.try_to_send(then).await {
                Ok(()) if self.waiting.are_given_back() => {
                    self.reached.send_modify(|reached| reached.lost = true);
                    return Ok(());
                }
                Ok(()) => {
                    if std::mem::take(&mut self.failing) {
                        info!(relay = %self.shipments.relay.address(), "delivery works again");
                    }
                    return Ok(());
                }
                Err(Failure::Stopped) => return Err(Stopped),
                Err(failure) => {
                    let wait = self.failed(&failure);
                    let sleep = tokio::time::sleep(wait);
                    let now = Instant::now();
                    tokio::select! {
                        biased;
                        () = self.stop.cancelled() => return Err(Stopped),
                        () = holding(sleep, &mut self.waiting, (&self.budget, &self.given_up), now) => {}
                    }
                }
            }
        }
    }

    async fn try_to_send(&mut self, then: Option<Next>) -> Result<(), Failure> {
        loop {
            let written = self.shipments.open.as_ref().map_or(0, |open| open.chunks);
            if self.waiting.get(written).is_none() || self.stop.is_cancelled() {
                break;
            }
            if self.waiting.are_given_back() {
                return self.confirm(Next::Nothing).await;
            }
            if let Err(full) = self.make_room().await {
                self.confirm(Next::Nothing).await?;
                return Err(full.into());
            }
            let opening = self.shipments.open();
            holding(
                opening,
                &mut self.waiting,
                (&self.budget, &self.given_up),
                self.kept_until,
            )
            .await?;
            let fullness = self.fullness();
            let (Some(open), Some(chunk)) =
                (self.shipments.open.as_mut(), self.waiting.get(written))
            else {
                break;
            };
            if !chunk.render(&mut self.rendered) {
                continue;
            }
            if open.chunks == 0 {
                open.begun = Instant::now();
                open.delivery.begin(fullness);
            }
            let count = chunk.records();
            let bytes = open.bytes + self.rendered.len();
            let records = open.records + count;
            let full = bytes >= self.delivery_most || records >= RECORDS_MAX;
            let is_last = full || self.waiting.get(written + 1).is_none();
            let write = async {
                if is_last {
                    open.delivery.write_last(&self.rendered).await
                } else {
                    open.delivery.write(&self.rendered).await
                }
            };
            holding(
                write,
                &mut self.waiting,
                (&self.budget, &self.given_up),
                self.kept_until,
            )
            .await?;
            (open.bytes, open.records) = (bytes, records);
            open.chunks += 1;
            open.written = Instant::now();
            self.monitor.delivered(count, self.rendered.len());
            if full {
                // A backlog mostly goes on.
                self.confirm(Next::More).await?;
            }
        }
        match then {
            Some(next) => self.confirm(next).await,
            None => Ok(()),
        }
    }

    /// Has the journal reserve space for the delivery with its next chunk: a full disk is met before that is delivered.
    async fn make_room(&mut self) -> Result<(), LedgerError> {
        let Some(mark) = self.last.as_ref().map(|last| last.mark) else {
            return Ok(());
        };
        let (written, records) = self
            .shipments
            .open
            .as_ref()
            .map_or((0, 0), |open| (open.chunks, open.records));
        let needed = records + self.waiting.get(written).map_or(0, Chunk::records);
        // A chunk is of one window.
        let windows = written + 1;
        if self.journal.get().has_room(needed, windows) {
            return Ok(());
        }
        self.journal
            .run(move |journal| journal.reserve(mark, needed, windows))
            .await
    }

    /// The share of a full delivery that waits.
    fn fullness(&self) -> f64 {
        let number = |bytes: usize| f64::from(u32::try_from(bytes).unwrap_or(u32::MAX));
        number(self.waiting.bytes()) / number(DELIVERY_MAX)
    }

    /// Ends the open delivery, waits for its receipt, and journals what it confirms; opens the connection for the next one meanwhile.
    async fn confirm(&mut self, next: Next) -> Result<(), Failure> {
        let more = next == Next::More;
        let open = &mut self.shipments.open;
        let Some(open) = open.take_if(|open| open.chunks > 0 || !more) else {
            return Ok(());
        };
        if more {
            self.shipments.preconnect();
        }
        self.conclude(open).await
    }

    async fn conclude(&mut self, open: OpenDelivery) -> Result<(), Failure> {
        let (chunks, bytes, count) = (open.chunks, open.bytes, open.records);
        let asked = Instant::now();
        let finish = self.shipments.finish(open.delivery);
        let receipt = holding(
            finish,
            &mut self.waiting,
            (&self.budget, &self.given_up),
            self.kept_until,
        );
        let stop = self.stop.clone();
        let too_late = async {
            stop.cancelled().await;
            sleep(LAST).await;
        };
        let receipt = tokio::select! {
            biased;
            receipt = receipt => receipt,
            () = too_late => Err(Failure::Stopped),
        };
        let receipt = receipt.inspect_err(|_| self.halve(bytes, count))?;
        self.progress.made();
        self.backoff.reset();
        self.kept_until = Instant::now() + PATIENCE;
        self.reached
            .send_if_modified(|reached| !std::mem::replace(&mut reached.confirms, true));
        if chunks == 0 {
            return Ok(());
        }
        let took = (open.begun.elapsed(), asked.elapsed());
        self.monitor
            .fresh(self.waiting.rows(chunks), self.wall.now());
        let receipted = self.waiting.confirm(chunks);
        if !self.journal_for_certain(receipted.records).await {
            return Ok(());
        }
        if let Some(number) = receipted.number {
            self.reached.send_modify(|reached| reached.number = number);
        }
        self.monitor.confirmed((count, bytes), receipt, took);
        self.note_what_waits();
        self.delivery_most = (self.delivery_most * 2).min(DELIVERY_MAX);
        debug!(records = count, bytes, ?receipt, "delivery confirmed");
        Ok(())
    }

    /// Journals what is confirmed. Tries until the collector stops, since nothing else may be delivered before it is done; `false` at the
    /// stop.
    async fn journal_for_certain(&mut self, records: Vec<Confirmed>) -> bool {
        let Some(mark) = self.last.as_ref().map(|last| last.mark) else {
            return true;
        };
        let records: Arc<[Confirmed]> = records.into();
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            let appended = records.clone();
            let Err(failure) = self
                .journal
                .run(move |journal| journal.confirm(mark, &appended))
                .await
            else {
                return true;
            };
            let wait = backoff.next(self.chance.share());
            self.monitor.not_journalled(&chain(&failure));
            error!(
                error = chain(&failure),
                records = records.iter().map(|of| of.fingerprints.len()).sum::<usize>(),
                retry_in = ?wait,
                action = failure.action(),
                "confirmed records cannot be journalled; nothing is collected until they are, and they come twice if the \
                 collector is stopped before"
            );
            if self.sleep(wait).await.is_err() {
                return false;
            }
        }
    }

    /// Gives up the open delivery, says so, and tells how long to wait.
    fn failed(&mut self, failure: &Failure) -> Duration {
        self.shipments.preconnect = None;
        if let Some(open) = self.shipments.open.take() {
            self.monitor.closed();
            self.halve(open.bytes, open.records);
        }
        self.failing = true;
        self.reached.send_modify(|reached| reached.confirms = false);
        let wait = self.backoff.next(self.chance.share());
        let waiting = self.waiting.records();
        let hours = self
            .last
            .as_ref()
            .map(|last| (last.deleted - self.wall.now()).num_hours());
        let (cause, action) = match failure {
            Failure::Delivery(error) if error.is_setup() => (Cause::Setup, error.action()),
            Failure::Delivery(error) => (Cause::Connection, error.action()),
            Failure::Ledger(error) => (Cause::State, error.action().map(Into::into)),
            Failure::Stopped => (Cause::Connection, None),
        };
        let needs_operator = cause != Cause::Connection;
        let (relay, error) = (self.shipments.relay.address(), chain(failure));
        self.monitor.failed(cause, &error, action.as_deref());
        if needs_operator {
            error!(relay, error, unconfirmed = waiting, retry_in = ?wait, action, hours_until_microsoft_deletes = hours, "delivery waits");
        } else {
            warn!(relay, error, unconfirmed = waiting, retry_in = ?wait, action, hours_until_microsoft_deletes = hours,
                "delivery failed; nothing is lost, it is tried again");
        }
        wait
    }

    /// So much was written on a connection that gave no receipt. A relay that never holds one for long still gets everything, in smaller
    /// deliveries.
    fn halve(&mut self, bytes: usize, records: usize) {
        self.monitor.broken_off(records);
        if bytes > 0 {
            self.delivery_most = (bytes.min(self.delivery_most) / 2).max(DELIVERY_MIN);
        }
    }

    fn note_what_waits(&self) {
        let (records, oldest) = (self.waiting.records(), self.waiting.oldest());
        self.monitor.waits(records, oldest);
    }

    /// What is written is confirmed and journalled; what is not will be fetched again.
    async fn finish_at_the_stop(mut self) {
        let unconfirmed = self.waiting.records();
        if let Err(failure) = self.confirm(Next::Nothing).await
            && unconfirmed > 0
        {
            warn!(
                error = chain(&failure),
                unconfirmed,
                "stopped without a receipt: these records are delivered again after the next start"
            );
        }
    }
}

/// Awaits `future`. Meanwhile gives the lines' pages back: from `kept_until` on where others wait for memory, or at once where they are given up.
async fn holding<T>(
    future: impl Future<Output = T>,
    lines: &mut Lines,
    (budget, given_up): (&Budget, &watch::Receiver<bool>),
    kept_until: Instant,
) -> T {
    tokio::pin!(future);
    let mut given_up = given_up.clone();
    let out_of_patience = async {
        let is_wanted = async {
            sleep_until(kept_until).await;
            budget.is_wanted().await;
        };
        // The sender lives as long as the service hands something over.
        let given_up = async {
            if given_up.wait_for(|given_up| *given_up).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            () = is_wanted => {}
            () = given_up => {}
        }
    };
    tokio::select! {
        biased;
        done = &mut future => return done,
        () = out_of_patience => lines.give_back(),
    }
    future.await
}
