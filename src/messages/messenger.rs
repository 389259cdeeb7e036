//! Delivers one output's messages. It sleeps and tries again by itself, and nobody waits for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::message::{Collector, Message};
use super::queue::Outlet;
use crate::backoff::Backoff;
use crate::config::Output;
use crate::error::chain;
use crate::relay::knowledge::Terms;
use crate::relay::{Delivery, DeliveryError, Host, Relay};

/// A connection is opened so long after the first message: more will come, and one connection serves them all.
const GATHERING: Duration = Duration::from_secs(1);

/// A connection with nothing to write for so long is ended: relays close idle connections after 30 s.
const IDLE: Duration = Duration::from_secs(5);

/// The most messages on one connection, but for one that tells how many are missing: they are kept until its end, to be sent once more if that is no receipt.
const MESSAGES_MAX: usize = 250;

/// Each step of a delivery is given up after this; a relay that does not read messages is no better off with more patience.
const STEP_MAX: Duration = Duration::from_secs(30);

/// Waits between failures, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(1));

/// The task of one output.
pub(super) struct Messenger {
    output: Output,
    host: Host,
    collector: Arc<Collector>,
    queue: Outlet,
    /// Taken from the queue and not confirmed, oldest first.
    unconfirmed: Vec<Arc<Message>>,
    /// How many of these are on the connection that there is.
    written: usize,
    /// How many of these were on one before.
    tried: usize,
    backoff: Backoff,
    failing: bool,
    ending: CancellationToken,
}

/// Why messages were not delivered.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
    #[error("the relay has taken no message for {} s", STEP_MAX.as_secs())]
    Slow,
}

impl Messenger {
    /// Delivers to `output` what `queue` has, until `ending`.
    pub(super) fn new(
        output: &Output,
        host: Host,
        collector: Arc<Collector>,
        queue: Outlet,
        ending: CancellationToken,
    ) -> Self {
        Self {
            output: output.clone(),
            host,
            collector,
            queue,
            unconfirmed: Vec::new(),
            written: 0,
            tried: 0,
            backoff: Backoff::new(RETRY.0, RETRY.1),
            failing: false,
            ending,
        }
    }

    /// Delivers until the collector ends, and then what there still is, unless the output is away.
    pub(super) async fn run(mut self) {
        loop {
            if self.unconfirmed.is_empty() {
                let first = self.ending.run_until_cancelled(self.queue.next()).await;
                self.unconfirmed.extend(first.flatten());
                self.wait(GATHERING).await;
            }
            self.take_what_waits();
            if self.unconfirmed.is_empty() {
                return;
            }
            let outcome = self.deliver().await;
            if outcome.is_err() && self.ending.is_cancelled() {
                return;
            }
            match outcome {
                Ok(()) => self.delivered(),
                Err(failure) => self.failed(&failure).await,
            }
        }
    }

    /// Puts on one connection what waits, and what comes while it is open, and waits for the receipt.
    async fn deliver(&mut self) -> Result<(), Failure> {
        // A peer of its own each time: what is known of the relay's receipts is the couriers' affair, and nothing is probed here.
        let relay = Relay::new(&self.output);
        let mut delivery = step(relay.open()).await?;
        while self.written < self.unconfirmed.len() {
            let lines = self.render(&relay);
            self.written = self.unconfirmed.len();
            step(delivery.write(&lines)).await?;
            if self.written < MESSAGES_MAX {
                self.hear_more(&mut delivery).await?;
            }
        }
        step(delivery.finish(Terms::ANY)).await?;
        Ok(())
    }

    /// Waits for messages behind those that are written, as long as the connection may stay open.
    async fn hear_more(&mut self, delivery: &mut Delivery) -> Result<(), Failure> {
        let next = tokio::select! {
            biased;
            () = self.ending.cancelled() => None,
            next = timeout(IDLE, self.queue.next()) => next.ok().flatten(),
            failure = delivery.broken() => return Err(failure.into()),
        };
        self.unconfirmed.extend(next);
        self.take_what_waits();
        Ok(())
    }

    /// Takes from the queue what the connection may carry; behind that, how many are missing or may be: in a flood that goes on, the
    /// queue is never empty.
    fn take_what_waits(&mut self) {
        if self.unconfirmed.len() >= MESSAGES_MAX {
            return;
        }
        while self.unconfirmed.len() < MESSAGES_MAX
            && let Some(message) = self.queue.waiting()
        {
            self.unconfirmed.push(message);
        }
        let missing = self.queue.missing();
        if missing.total() > 0 {
            let message = self.collector.missing(&self.output.name, missing);
            self.unconfirmed.push(Arc::new(message));
        }
    }

    /// The lines of the messages that are not written.
    fn render(&self, relay: &Relay) -> Vec<u8> {
        let mut lines = Vec::new();
        for message in &self.unconfirmed[self.written..] {
            let envelope = relay.envelope(message.time, &self.host, message.tag);
            lines.extend_from_slice(&envelope.prefix);
            lines.extend_from_slice(message.content.as_bytes());
            lines.extend_from_slice(&envelope.suffix);
        }
        lines
    }

    fn delivered(&mut self) {
        for message in self.unconfirmed.drain(..) {
            self.queue.delivered(&message);
        }
        (self.written, self.tried) = (0, 0);
        self.backoff.reset();
        if std::mem::take(&mut self.failing) {
            debug!("the collector's own messages are delivered again");
        }
    }

    /// Lets go of what was on two connections and counts it, keeps the rest, and waits.
    async fn failed(&mut self, failure: &Failure) {
        let written = std::mem::take(&mut self.written);
        let twice = self.tried.min(written);
        for message in self.unconfirmed.drain(..twice) {
            self.queue.let_go(&message);
        }
        self.tried = self.tried.max(written) - twice;
        let (wait, error) = (self.backoff.next(rand::random()), chain(failure));
        if std::mem::replace(&mut self.failing, true) {
            debug!(error, retry_in = ?wait, "the collector's own messages still cannot be delivered");
        } else {
            warn!(error, retry_in = ?wait, "the collector's own messages cannot be delivered; records do not wait for them");
        }
        self.wait(wait).await;
    }

    async fn wait(&self, time: Duration) {
        let sleep = tokio::time::sleep(time);
        self.ending.run_until_cancelled(sleep).await;
    }
}

/// One step of a delivery, which must not take for ever.
async fn step<T>(step: impl Future<Output = Result<T, DeliveryError>>) -> Result<T, Failure> {
    Ok(timeout(STEP_MAX, step).await.map_err(|_| Failure::Slow)??)
}
