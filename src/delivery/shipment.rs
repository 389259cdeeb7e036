//! One output's way to its relay: opens deliveries, learns what receipts the relay gives, and ends deliveries with a receipt.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, error, info, warn};

use crate::config::{Output, ReceiptPolicy};
use crate::ledger::{Journal, LedgerError, OnDisk};
use crate::monitoring::OutletMonitor;
use crate::relay::{Answer, Delivery, DeliveryError, Receipt, Relay, Trust};

/// A delivery with nothing to write for so long is ended: relays close idle connections after 30 s, and a close that we did not
/// begin is no receipt.
const IDLE: Duration = Duration::from_secs(10);

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
    requires_receipts: bool,
    /// What is known of the relay's receipts; `None` before the first contact.
    trust: Option<Trust>,
    monitor: Arc<OutletMonitor>,
}

impl Shipments {
    pub(super) fn new(output: &Output, monitor: Arc<OutletMonitor>) -> Self {
        Shipments {
            relay: Relay::new(output),
            open: None,
            preconnect: None,
            requires_receipts: output.kind.receipt() == ReceiptPolicy::Required,
            trust: None,
            monitor,
        }
    }

    /// Opens a delivery if none is open.
    pub(super) async fn open(&mut self, journal: &mut OnDisk<Journal>) -> Result<(), Failure> {
        if self.open.is_some() {
            return Ok(());
        }
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
        self.probe_first(journal).await?;
        let delivery = self.relay.open().await?;
        self.monitor.opened();
        self.open = Some(OpenDelivery::new(delivery));
        Ok(())
    }

    /// Starts to open the connection for the next delivery.
    pub(super) fn preconnect(&mut self) {
        self.preconnect = Some(Preconnect::start(&self.relay));
    }

    /// Ends a delivery and waits for its receipt.
    pub(super) async fn finish(&mut self, delivery: Delivery) -> Result<Receipt, DeliveryError> {
        let trust = self.trust.unwrap_or(Trust::ReceiptOnly);
        let receipt = delivery.finish(trust).await;
        self.monitor.closed();
        receipt
    }

    /// Learns from a delivery's receipt, once its records are in the journal.
    pub(super) async fn learn(
        &mut self,
        receipt: Receipt,
        journal: &mut OnDisk<Journal>,
    ) -> Result<(), LedgerError> {
        if receipt == Receipt::Read && self.trust == Some(Trust::StandIn) {
            info!(
                relay = self.relay.address(),
                "the relay has given a receipt: from now on nothing stands in for it"
            );
            self.trust_receipts(journal).await?;
        }
        Ok(())
    }

    /// At the first contact, an empty delivery shows whether the relay answers a half-close at all, and with what words.
    async fn probe_first(&mut self, journal: &mut OnDisk<Journal>) -> Result<(), Failure> {
        if self.trust.is_some() {
            return Ok(());
        }
        let address = self.relay.address();
        let answer = self.relay.probe().await?;
        let known = journal.get().receipts_from() == Some(address.as_str());
        match answer {
            Answer::Answers if known => {}
            Answer::Answers => return Ok(self.trust_receipts(journal).await?),
            Answer::Silent if known => {
                warn!(
                    relay = address,
                    "the relay does not answer a half-close, and has done so before: nothing stands in for its receipts"
                );
            }
            Answer::Silent if self.requires_receipts => {
                error!(
                    relay = address,
                    "the relay does not answer a half-close, and `receipt: required` forbids to go by TCP's word: records will be \
                     sent again and again until it does; let the relay close when its peer has, or take the line out"
                );
            }
            Answer::Silent => {
                self.trust = Some(Trust::StandIn);
                warn!(
                    relay = address,
                    "the relay does not answer a half-close, so there is no receipt: TCP's acknowledgement stands in for it, which \
                     does not tell whether the relay has read the records; `receipt: required` forbids this"
                );
                return Ok(());
            }
        }
        self.trust = Some(Trust::ReceiptOnly);
        Ok(())
    }

    /// From now on, and after a restart, nothing stands in for this relay's receipts: it has shown that it gives them.
    async fn trust_receipts(&mut self, journal: &mut OnDisk<Journal>) -> Result<(), LedgerError> {
        self.trust = Some(Trust::ReceiptOnly);
        let address = self.relay.address();
        journal
            .run(move |journal| journal.remember_receipts(&address))
            .await
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
            failure = open.delivery.broken() => End::Broken(failure),
            () = tokio::time::sleep_until(open.written + IDLE) => End::Idle,
        },
        None => std::future::pending().await,
    }
}
