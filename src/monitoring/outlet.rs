//! What is known of one output of one service, told by the task that delivers to it.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use prometheus::{GaugeVec, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec};

use super::families::Families;
use super::freshness::{Ages, Freshness};
use super::late::{Late, Target};
use super::lock;
use super::trouble::Trouble;
use crate::config::ServiceConfig;
use crate::relay::Receipt;

/// A relay that breaks one connection is not down.
const FAILURES_WHEN_DOWN: u32 = 2;

/// Why a try to deliver failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The connection: it may work the next time.
    Connection,
    /// A file, an address, or the relay's own set-up: a person has to mend it.
    Setup,
    /// The state folder: what would be confirmed could not be journalled.
    State,
}

impl Cause {
    const ALL: [Cause; 3] = [Cause::Connection, Cause::Setup, Cause::State];

    fn name(self) -> &'static str {
        match self {
            Cause::Connection => "connection",
            Cause::Setup => "setup",
            Cause::State => "state",
        }
    }
}

/// What has been confirmed since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Confirmed {
    /// Records.
    pub records: u64,
    /// Bytes of their lines.
    pub bytes: u64,
    /// Deliveries.
    pub deliveries: u64,
}

/// The kinds of receipts, in the order of their counters.
const RECEIPTS: [Receipt; 3] = [Receipt::Read, Receipt::Ended, Receipt::StoodIn];

/// One output of one service.
pub struct OutletMonitor {
    pub(super) output: String,
    counters: Counters,
    oldest: Late<GaugeVec>,
    down: Late<IntGaugeVec>,
    /// Where early passes deliver.
    freshness: Option<Freshness>,
    live: Mutex<Live>,
}

struct Counters {
    delivered_records: IntCounter,
    delivered_bytes: IntCounter,
    confirmed_records: IntCounter,
    confirmed_bytes: IntCounter,
    resent: Late<IntCounterVec>,
    /// By kind: `read`, `ended`, `stood_in`.
    receipts: [Late<IntCounterVec>; 3],
    failures: [Late<IntCounterVec>; 3],
    state_failures: IntCounter,
    durations: Durations,
    connections: Late<IntGaugeVec>,
    opened: Late<IntCounterVec>,
    unconfirmed: Late<IntGaugeVec>,
}

/// How long deliveries took, and their receipts.
struct Durations {
    delivery: Late<HistogramVec>,
    receipt: Late<HistogramVec>,
}

#[derive(Default)]
struct Live {
    /// Tries that have failed one after the other for the sake of the relay.
    failures: u32,
    /// The relay cannot be reached before a person has acted.
    needs_operator: bool,
    /// A receipt is late.
    unanswered: bool,
    /// The state folder cannot be written.
    unwritable: bool,
    trouble: Option<Trouble>,
    /// When the oldest record was fetched that is not confirmed.
    oldest: Option<DateTime<Utc>>,
    last_receipt: Option<DateTime<Utc>>,
    turned: Option<Instant>,
}

/// What an output is doing, as others see it.
pub(super) struct Seen {
    /// It cannot deliver.
    pub(super) down: bool,
    pub(super) unwritable: bool,
    pub(super) trouble: Option<Trouble>,
    pub(super) oldest: Option<DateTime<Utc>>,
    pub(super) last_receipt: Option<DateTime<Utc>>,
    pub(super) turned: Option<Instant>,
}

impl OutletMonitor {
    pub(super) fn new(
        families: &Families,
        input: &str,
        config: &ServiceConfig,
        output: &str,
    ) -> Arc<Self> {
        Self::of(families, (input, config, output), false)
    }

    /// The same for an early pass: what it delivers is counted with the rest, how it stands is not shown.
    pub(super) fn of_pass(
        families: &Families,
        input: &str,
        config: &ServiceConfig,
        output: &str,
    ) -> Arc<Self> {
        Self::of(families, (input, config, output), true)
    }

    fn of(
        families: &Families,
        (input, config, output): (&str, &ServiceConfig, &str),
        is_early: bool,
    ) -> Arc<Self> {
        let freshness = Freshness::of(families, input, config);
        let labels = [input, config.report.service, output];
        Self::with(families, labels, freshness, is_early)
    }

    fn with(
        families: &Families,
        values: [&str; 3],
        freshness: Option<Freshness>,
        is_early: bool,
    ) -> Arc<Self> {
        let [input, service, output] = values;
        let target = |values: &[&str]| Target::new(&families.shown, values);
        let (labels, of_input) = (target(&values), target(&[input]));
        let whole = |of: &IntGaugeVec| {
            if is_early {
                Late::never()
            } else {
                Late::of(of, &labels)
            }
        };
        let counters = Counters {
            delivered_records: families.delivered_records.with_label_values(&values),
            delivered_bytes: families.delivered_bytes.with_label_values(&values),
            confirmed_records: families.confirmed_records.with_label_values(&values),
            confirmed_bytes: families.confirmed_bytes.with_label_values(&values),
            resent: Late::of(&families.resent, &labels),
            receipts: RECEIPTS.map(|kind| Late::of_word(&families.receipts, &labels, kind.name())),
            failures: Cause::ALL
                .map(|cause| Late::of_word(&families.delivery_failures, &labels, cause.name())),
            state_failures: families.state_failures.with_label_values(&[input, service]),
            durations: Durations {
                delivery: Late::of(&families.delivery_duration, &of_input),
                receipt: Late::of(&families.receipt_duration, &of_input),
            },
            connections: whole(&families.connections),
            opened: Late::of(&families.opened, &labels),
            unconfirmed: whole(&families.unconfirmed),
        };
        Arc::new(OutletMonitor {
            output: output.to_owned(),
            counters,
            oldest: if is_early {
                Late::never()
            } else {
                Late::of(&families.oldest, &labels)
            },
            down: whole(&families.down),
            freshness,
            live: Mutex::default(),
        })
    }

    /// What waits for its receipt: so many records, the oldest of which was fetched then.
    pub fn waits(&self, records: usize, oldest: Option<DateTime<Utc>>) {
        let records = i64::try_from(records).unwrap_or(i64::MAX);
        self.counters.unconfirmed.set(records);
        let mut live = self.live();
        live.oldest = oldest;
        live.turned = Some(Instant::now());
    }

    /// A connection has been opened.
    pub fn opened(&self) {
        self.counters.opened.inc();
        self.counters.connections.set(1);
    }

    /// The connection is no more.
    pub fn closed(&self) {
        self.counters.connections.set(0);
    }

    /// So much has been written.
    pub fn delivered(&self, records: usize, bytes: usize) {
        self.counters.delivered_records.inc_by(records as u64);
        self.counters.delivered_bytes.inc_by(bytes as u64);
    }

    /// A delivery of so much has its receipt, of this kind; it took so long in all, and so long for the receipt.
    pub fn confirmed(
        &self,
        (records, bytes): (usize, usize),
        receipt: Receipt,
        (all, waited): (Duration, Duration),
    ) {
        let counters = &self.counters;
        counters.confirmed_records.inc_by(records as u64);
        counters.confirmed_bytes.inc_by(bytes as u64);
        for (kind, counter) in RECEIPTS.iter().zip(&counters.receipts) {
            counter.inc_by(u64::from(*kind == receipt));
        }
        counters.durations.delivery.observe(all.as_secs_f64());
        counters.durations.receipt.observe(waited.as_secs_f64());
        let mut live = self.live();
        live.failures = 0;
        live.needs_operator = false;
        live.unwritable = false;
        live.unanswered = false;
        live.last_receipt = Some(Utc::now());
        if let Some(trouble) = &mut live.trouble {
            trouble.over = true;
        }
    }

    /// These rows have their receipt at the time `now`.
    pub(crate) fn fresh<'r>(&self, rows: impl Iterator<Item = &'r [u8]>, now: DateTime<Utc>) {
        if let Some(freshness) = &self.freshness {
            freshness.confirmed(rows, now);
        }
    }

    /// How old records were when they had their receipt; `None` where no early pass delivers.
    pub(super) fn ages(&self) -> Option<Ages> {
        self.freshness.as_ref().map(Freshness::ages)
    }

    /// What has been confirmed until now.
    pub fn confirmed_so_far(&self) -> Confirmed {
        let counters = &self.counters;
        Confirmed {
            records: counters.confirmed_records.get(),
            bytes: counters.confirmed_bytes.get(),
            deliveries: counters
                .receipts
                .iter()
                .map(Late::<IntCounterVec>::get)
                .sum(),
        }
    }

    /// A connection has ended without a receipt, with so many records on it.
    pub fn broken_off(&self, records: usize) {
        self.counters.resent.inc_by(records as u64);
    }

    /// A try to deliver has failed.
    pub fn failed(&self, cause: Cause, error: &str, action: Option<&str>) {
        self.counters.failures[cause as usize].inc();
        let mut live = self.live();
        live.unanswered = false;
        if cause == Cause::State {
            self.counters.state_failures.inc();
            live.unwritable = true;
        } else {
            live.failures += 1;
            live.needs_operator = cause == Cause::Setup;
        }
        live.trouble = Some(Trouble::new(error, action));
        live.turned = Some(Instant::now());
    }

    /// The relay keeps a delivery waiting for its receipt.
    pub fn unanswered(&self, error: &str, action: &str) {
        let mut live = self.live();
        live.unanswered = true;
        live.trouble = Some(Trouble::new(error, Some(action)));
        live.turned = Some(Instant::now());
    }

    /// What has been confirmed could not be journalled.
    pub fn not_journalled(&self, error: &str) {
        self.counters.state_failures.inc();
        let mut live = self.live();
        live.unwritable = true;
        live.trouble = Some(Trouble::new(error, None));
        live.turned = Some(Instant::now());
    }

    /// One that nobody looks at.
    #[cfg(test)]
    pub(crate) fn alone() -> Arc<Self> {
        let families = Families::register(&prometheus::Registry::new()).unwrap();
        Self::with(&families, ["input", "service", "output"], None, false)
    }

    pub(super) fn seen(&self) -> Seen {
        let live = self.live();
        Seen {
            down: live.needs_operator || live.unanswered || live.failures >= FAILURES_WHEN_DOWN,
            unwritable: live.unwritable,
            trouble: live.trouble.clone(),
            oldest: live.oldest,
            last_receipt: live.last_receipt,
            turned: live.turned,
        }
    }

    /// Brings the metrics up to the present.
    pub(super) fn refresh(&self) {
        let Seen { oldest, down, .. } = self.seen();
        let age = oldest.map_or(0.0, |oldest| (Utc::now() - oldest).as_seconds_f64());
        self.oldest.set(age.max(0.0));
        self.down.set(i64::from(down));
    }

    /// Records confirmed, records sent again, receipts of each kind (read, ended, stood in), records unconfirmed.
    pub(super) fn figures(&self) -> [u64; 6] {
        let counters = &self.counters;
        let [read, ended, stood_in] = &counters.receipts;
        [
            counters.confirmed_records.get(),
            counters.resent.get(),
            read.get(),
            ended.get(),
            stood_in.get(),
            counters.unconfirmed.get().try_into().unwrap_or_default(),
        ]
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        lock(&self.live)
    }
}
