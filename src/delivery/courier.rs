//! Delivers what one output of one service is given, confirms it, and journals what is confirmed.
//!
//! Guarantees: lines are kept until their receipt, and sent again whole if it does not come; a delivery begins only when the
//! journal has room for it, and the next one only when the last one's records are journalled. So after a crash what comes twice is at
//! most one delivery. It holds at most one delivery and one page, whatever the relay does.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::lines::{Chunk, Lines};
use super::order::{Batch, Next, Order};
use super::shipment::{End, Failure, OpenDelivery, Shipments, end_of, opened};
use crate::backoff::Backoff;
use crate::config::Output;
use crate::error::chain;
use crate::ledger::{Journal, LedgerError, Mark, OnDisk};
use crate::monitoring::{Cause, OutletMonitor};
use crate::record::Fingerprint;
use crate::relay::{Host, Receipt};
use crate::stop::{Progress, Stopped};

/// A delivery is ended, and the next connection takes over, at this many unconfirmed bytes.
const DELIVERY_MAX: usize = 8 << 20;

/// Deliveries that fail are halved down to this, a few hundred records.
const DELIVERY_MIN: usize = 128 << 10;

/// The most records of a delivery: they are journalled in one piece.
const RECORDS_MAX: usize = 32 << 10;

/// Waits between attempts, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_mins(1));

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
    journal: OnDisk<Journal>,
    /// What is not confirmed; the open delivery has the first chunks of it.
    waiting: Lines,
    /// The lines of the chunk that is being written, in memory that stays warm.
    rendered: Vec<u8>,
    delivery_most: usize,
    backoff: Backoff,
    failing: bool,
    last: Option<Last>,
    monitor: Arc<OutletMonitor>,
    stop: CancellationToken,
    progress: Progress,
}

impl Courier {
    /// Delivers to `output` under the Devo table `tag`, in the name of the machine `host`.
    pub(crate) fn new(
        output: &Output,
        tag: &'static str,
        host: &Host,
        journal: Journal,
        monitor: Arc<OutletMonitor>,
        stop: CancellationToken,
        progress: Progress,
    ) -> Self {
        Courier {
            tag,
            host: host.clone(),
            shipments: Shipments::new(output, Arc::clone(&monitor)),
            journal: OnDisk::new(journal),
            waiting: Lines::default(),
            rendered: Vec::new(),
            delivery_most: DELIVERY_MAX,
            backoff: Backoff::new(RETRY.0, RETRY.1),
            failing: false,
            last: None,
            monitor,
            stop,
            progress,
        }
    }

    /// Carries out orders until there are no more or the collector stops, and then confirms what is written.
    pub(crate) async fn run(mut self, mut queue: mpsc::Receiver<Order>) {
        loop {
            let order = tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                order = queue.recv() => order,
                open = opened(self.shipments.preconnect.as_mut()) => {
                    self.shipments.preconnect = None;
                    if let Some(open) = open {
                        self.monitor.opened();
                        self.shipments.open = Some(open);
                    }
                    continue;
                }
                end = end_of(self.shipments.open.as_mut()) => {
                    if let End::Broken(failure) = end {
                        self.failed(&failure.into());
                    }
                    if self.send(Some(Next::Nothing)).await.is_err() {
                        break;
                    }
                    continue;
                }
            };
            let done = match order {
                Some(Order::Deliver(batch)) => self.take(batch).await,
                Some(Order::Confirm(next, reply)) => {
                    let confirmed = self.send(Some(next)).await;
                    // Nobody waits for it any more only when the service has stopped.
                    confirmed.map(|()| reply.send(()).unwrap_or(()))
                }
                None => break,
            };
            if done.is_err() {
                break;
            }
        }
        self.finish_at_the_stop().await;
    }

    /// Takes a batch over, and writes it.
    async fn take(&mut self, batch: Batch) -> Result<(), Stopped> {
        let (mark, deleted) = (batch.mark, batch.deleted);
        let others = self.last.as_ref().is_some_and(|last| last.mark != mark);
        if others && self.waiting.records() > 0 {
            // What waits was claimed under the mark before, and is journalled under it.
            self.send(Some(Next::More)).await?;
        }
        self.last = Some(Last { mark, deleted });
        let envelope = self
            .shipments
            .relay
            .envelope(batch.pulled, &self.host, self.tag);
        self.waiting.add(batch, envelope);
        self.note_what_waits();
        self.send(None).await
    }

    /// Writes what waits, in as many deliveries as it takes; to the last receipt if `then` tells what comes after it. Tries for ever.
    async fn send(&mut self, then: Option<Next>) -> Result<(), Stopped> {
        loop {
            if self.stop.is_cancelled() {
                return Err(Stopped);
            }
            match self.try_to_send(then).await {
                Ok(()) => {
                    if std::mem::take(&mut self.failing) {
                        info!(relay = %self.shipments.relay.address(), "delivery works again");
                    }
                    return Ok(());
                }
                Err(failure) => {
                    let wait = self.failed(&failure);
                    tokio::select! {
                        () = self.stop.cancelled() => return Err(Stopped),
                        () = tokio::time::sleep(wait) => {}
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
            if let Err(full) = self.make_room().await {
                self.confirm(Next::Nothing).await?;
                return Err(full.into());
            }
            self.shipments.open(&mut self.journal).await?;
            let fullness = self.fullness();
            let (Some(open), Some(chunk)) =
                (self.shipments.open.as_mut(), self.waiting.get(written))
            else {
                break;
            };
            if open.chunks == 0 {
                open.begun = Instant::now();
                open.delivery.begin(fullness);
            }
            chunk.render(&mut self.rendered);
            let bytes = open.bytes + self.rendered.len();
            let records = open.records + chunk.records();
            let full = bytes >= self.delivery_most || records >= RECORDS_MAX;
            if full || self.waiting.get(written + 1).is_none() {
                open.delivery.write_last(&self.rendered).await?;
            } else {
                open.delivery.write(&self.rendered).await?;
            }
            (open.bytes, open.records) = (bytes, records);
            open.chunks += 1;
            open.written = Instant::now();
            self.monitor.delivered(chunk.records(), self.rendered.len());
            if full {
                // A walk mostly goes on.
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
        if self.journal.get().has_room(mark, needed) {
            return Ok(());
        }
        self.journal
            .run(move |journal| journal.reserve(mark, needed))
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
        let receipt = self.shipments.finish(open.delivery).await;
        let receipt = receipt.inspect_err(|_| self.halve(bytes, count))?;
        self.progress.made();
        self.backoff.reset();
        if chunks == 0 {
            return Ok(());
        }
        let took = (open.begun.elapsed(), asked.elapsed());
        let records = self.waiting.confirm(chunks);
        self.journal_for_certain(records).await;
        let stood_in = receipt == Receipt::StoodIn;
        self.monitor.confirmed((count, bytes), stood_in, took);
        self.note_what_waits();
        self.delivery_most = (self.delivery_most * 2).min(DELIVERY_MAX);
        debug!(records = count, bytes, ?receipt, "delivery confirmed");
        let learnt = self.shipments.learn(receipt, &mut self.journal).await;
        Ok(learnt?)
    }

    /// Journals what is confirmed. Tries for ever, since nothing else may be delivered before it is done.
    async fn journal_for_certain(&mut self, records: Vec<Fingerprint>) {
        let Some(mark) = self.last.as_ref().map(|last| last.mark) else {
            return;
        };
        let records: Arc<[Fingerprint]> = records.into();
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            let appended = records.clone();
            let Err(failure) = self
                .journal
                .run(move |journal| journal.confirm(mark, &appended))
                .await
            else {
                return;
            };
            let wait = backoff.next(rand::random());
            self.monitor.not_journalled(&chain(&failure));
            error!(
                error = chain(&failure),
                records = records.len(),
                retry_in = ?wait,
                action = failure.action(),
                "confirmed records cannot be journalled; nothing is collected until they are, and they come twice if the \
                 collector is stopped before"
            );
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
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
        let wait = self.backoff.next(rand::random());
        let waiting = self.waiting.records();
        let hours = self
            .last
            .as_ref()
            .map(|last| (last.deleted - Utc::now()).num_hours());
        let (cause, action) = match failure {
            Failure::Delivery(error) if error.is_setup() => (Cause::Setup, error.action()),
            Failure::Delivery(error) => (Cause::Connection, error.action()),
            Failure::Ledger(error) => (Cause::State, error.action().map(Into::into)),
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
