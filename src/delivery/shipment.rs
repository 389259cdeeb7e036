//! One output's way to its relay: opens deliveries, probes the address where that is due, and ends deliveries with a receipt.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, debug, warn};

use super::addresses::Shared;
use super::telling;
use crate::config::{Output, ReceiptPolicy};
use crate::ledger::LedgerError;
use crate::monitoring::{Cause, OutletMonitor};
use crate::relay::knowledge::{Permit, Terms};
use crate::relay::{Delivery, DeliveryError, Ending, Receipt, Relay};

/// A delivery with nothing to write for so long is ended: relays close idle connections after 30 s, and a close that we did not
/// begin is no receipt.
const IDLE: Duration = Duration::from_secs(10);

/// A receipt that has not come for so long is told: the relay is slow, or hung.
const SLOW: Duration = Duration::from_mins(1);

/// So many deliveries in a row without a receipt are told with what to do.
const UNCONFIRMED: u32 = 3;

/// An open delivery, and how much of what waits is written to it: nothing yet, if it was opened while the one before was confirmed.
pub(super) struct OpenDelivery {
    pub(super) delivery: Delivery,
    pub(super) chunks: usize,
    pub(super) bytes: usize,
    pub(super) records: usize,
    pub(super) written: Instant,
    pub(super) begun: Instant,
}

impl OpenDelivery {
    fn new(delivery: Delivery) -> Self {
        let now = Instant::now();
        OpenDelivery {
            delivery,
            chunks: 0,
            bytes: 0,
            records: 0,
            written: now,
            begun: now,
        }
    }
}

/// The connection for the next delivery, while it is being opened. Dropping it cancels the attempt.
pub(super) struct Preconnect(AbortOnDropHandle<Option<OpenDelivery>>);

impl Preconnect {
    fn start(relay: &Relay) -> Self {
        let relay = relay.clone();
        let open = async move { relay.open().await.ok().map(OpenDelivery::new) };
        Preconnect(AbortOnDropHandle::new(tokio::spawn(open.in_current_span())))
    }

    /// The open delivery, unless connecting failed or the connection has waited so long that the relay would soon close it.
    /// Cancel safe.
    async fn delivery(&mut self) -> Option<OpenDelivery> {
        let open = (&mut self.0).await.ok().flatten()?;
        (open.written.elapsed() < IDLE).then_some(open)
    }
}

/// Why a delivery got no receipt.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The collector stops; nothing was sent.
    #[error("the collector stops")]
    Stopped,
}

/// Why a delivery with nothing to write is over.
pub(super) enum End {
    Broken(DeliveryError),
    Idle,
}

/// The deliveries of one output, one at a time.
pub(super) struct Shipments {
    pub(super) relay: Relay,
    pub(super) open: Option<OpenDelivery>,
    pub(super) preconnect: Option<Preconnect>,
    policy: ReceiptPolicy,
    /// What confirms the open delivery.
    terms: Terms,
    /// That the relay is silent was logged.
    silence_told: bool,
    shared: Shared,
    monitor: Arc<OutletMonitor>,
    stop: CancellationToken,
}

impl Shipments {
    pub(super) fn new(
        output: &Output,
        shared: &Shared,
        monitor: Arc<OutletMonitor>,
        stop: CancellationToken,
    ) -> Self {
        Shipments {
            relay: shared.relay(output),
            open: None,
            preconnect: None,
            policy: output.kind.receipt(),
            terms: Terms::STRICT,
            silence_told: false,
            shared: shared.clone(),
            monitor,
            stop,
        }
    }

    /// Opens a delivery if none is open. Probes the address first where that is due, for as long as it takes.
    pub(super) async fn open(&mut self) -> Result<(), Failure> {
        if self.open.is_some() {
            return Ok(());
        }
        self.terms = self.permission().await?;
        if let Some(preconnect) = &mut self.preconnect {
            let opened = preconnect.delivery().await;
            self.preconnect = None;
            // If connecting failed, the attempt below reports why.
            if let Some(open) = opened {
                self.monitor.opened();
                self.open = Some(open);
                return Ok(());
            }
        }
        let delivery = self.relay.open().await?;
        self.monitor.opened();
        self.open = Some(OpenDelivery::new(delivery));
        Ok(())
    }

    /// Starts to open the connection for the next delivery, if nothing has to come before it.
    pub(super) fn preconnect(&mut self) {
        let permit = self.relay.permit(self.policy);
        self.preconnect =
            matches!(permit, Permit::Deliver(_)).then(|| Preconnect::start(&self.relay));
    }

    /// Ends a delivery and waits for its receipt. Tells of one that is late, and what was learnt of the address.
    pub(super) async fn finish(&mut self, delivery: Delivery) -> Result<Receipt, Failure> {
        // What others have learnt meanwhile counts too.
        let terms = self.relay.terms(self.policy).unwrap_or(Terms {
            weakest: self.terms.weakest.min(Ending::Ended),
            ..self.terms
        });
        debug!(?terms, "delivery ends, and waits for its receipt");
        let mut finish = pin!(delivery.finish(terms));
        let mut late = false;
        let receipt = loop {
            tokio::select! {
                biased;
                receipt = &mut finish => break receipt,
                () = sleep(SLOW), if !late => {
                    late = true;
                    let (error, action) = telling::late(&self.relay, SLOW);
                    self.monitor.unanswered(&error, action);
                    warn!(relay = self.relay.address(), error, action, "no receipt yet; the collector waits for it");
                }
            }
        };
        self.monitor.closed();
        let changed = telling::changes(&self.relay);
        if receipt.is_err() {
            telling::unconfirmed(&self.relay, UNCONFIRMED);
        }
        if changed || receipt.is_err() {
            // The receipt stands, whether this can be kept or not: it would be learnt again.
            if let Err(error) = self.shared.save().await {
                telling::not_saved(&error);
            }
        }
        Ok(receipt?)
    }

    /// Waits and probes until records may be sent.
    async fn permission(&mut self) -> Result<Terms, Failure> {
        loop {
            match self.relay.permit(self.policy) {
                Permit::Deliver(terms) => {
                    self.silence_told = false;
                    return Ok(terms);
                }
                Permit::Wait(wait) => self.unless_stopped(sleep(wait)).await?,
                Permit::Probe(_) => self.probe().await?,
            }
        }
    }

    /// Makes an empty probe, unless somebody else has made it meanwhile; keeps and tells what it shows.
    async fn probe(&mut self) -> Result<(), Failure> {
        let relay = self.relay.clone();
        let policy = self.policy;
        let probe = async {
            let _turn = relay.turn_to_probe().await;
            match relay.permit(policy) {
                Permit::Probe(patience) => Some(relay.probe(patience).await),
                Permit::Deliver(_) | Permit::Wait(_) => None,
            }
        };
        let Some(ending) = self.unless_stopped(probe).await? else {
            return Ok(());
        };
        telling::changes(&self.relay);
        self.shared.save().await?;
        match ending? {
            Ending::Silent => self.silent(),
            _ => self.insufficient(),
        }
    }

    /// The relay has not answered a probe.
    fn silent(&mut self) -> Result<(), Failure> {
        let silence = telling::silence(&self.relay, self.policy);
        if self.relay.is_learnt(Receipt::StoodIn) && self.relay.terms(self.policy).is_none() {
            return Err(DeliveryError::Mute {
                silence: silence.error,
            }
            .into());
        }
        let (error, action) = (silence.error, silence.action);
        self.monitor
            .failed(Cause::Connection, &error, Some(action.as_str()));
        if !std::mem::replace(&mut self.silence_told, true) {
            warn!(
                relay = self.relay.address(),
                error, action, "records wait, unsent, until the relay answers an empty delivery"
            );
        }
        Ok(())
    }

    /// The relay has answered a probe: an error if that can never be enough.
    fn insufficient(&self) -> Result<(), Failure> {
        let weak =
            self.policy == ReceiptPolicy::CloseNotify && self.relay.is_learnt(Receipt::Ended);
        if weak {
            return Err(DeliveryError::NoCloseNotify.into());
        }
        Ok(())
    }

    async fn unless_stopped<T>(&self, future: impl Future<Output = T>) -> Result<T, Failure> {
        let done = self.stop.run_until_cancelled(future).await;
        done.ok_or(Failure::Stopped)
    }
}

/// Resolves when the connection for the next delivery is open, or cannot be.
pub(super) async fn opened(preconnect: Option<&mut Preconnect>) -> Option<OpenDelivery> {
    match preconnect {
        Some(preconnect) => preconnect.delivery().await,
        None => std::future::pending().await,
    }
}

/// Resolves when the open delivery breaks, or has had nothing to write for long.
pub(super) async fn end_of(open: Option<&mut OpenDelivery>) -> End {
    match open {
        Some(open) => tokio::select! {
            biased;
            failure = open.delivery.broken() => End::Broken(failure),
            () = tokio::time::sleep_until(open.written + IDLE) => End::Idle,
        },
        None => std::future::pending().await,
    }
}
