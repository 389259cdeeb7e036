//! Every metric that there is, as data: name, kind, labels, help. The README's table is made of this.
//!
//! Labels are inputs, services and outputs of the configuration, and words from lists that are fixed here: how many series there are at most
//! is known from the configuration. Histograms are by input, and most of what is zero from the start is not there (`late`), so that 500
//! tenants can be scraped.

use prometheus::core::Collector;
use prometheus::proto::LabelPair;
use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, Result,
};

use super::late::Shown;

/// What all names begin with.
pub(super) const PREFIX: &str = "exchange_collector";

const INPUT: &[&str] = &["input"];
const SERVICE: &[&str] = &["input", "service"];
const PASS: &[&str] = &["input", "service", "delay"];
const OUTLET: &[&str] = &["input", "service", "output"];

/// Requests to the reporting service take up to ten minutes, receipts up to fifteen.
const SECONDS: &[f64] = &[
    0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
];

/// A record waits for the shortest early pass at least, and for the settling one at most.
const FRESHNESS: &[f64] = &[
    60.0, 120.0, 300.0, 400.0, 600.0, 900.0, 1_800.0, 3_600.0, 5_400.0, 7_200.0, 14_400.0,
    43_200.0, 90_000.0, 97_200.0,
];

/// What kind of metric it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts what took how long.
    Histogram,
}

impl Kind {
    /// What Prometheus calls it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// A metric, with a series for each combination of its labels.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Without the prefix.
    name: &'static str,
    /// What kind of metric it is.
    pub kind: Kind,
    /// What tells its series apart.
    pub labels: &'static [&'static str],
    /// What it tells.
    pub help: &'static str,
}

impl Family {
    /// The metric's name as it is exposed.
    pub fn name(&self) -> String {
        format!("{PREFIX}_{}", self.name)
    }
}

/// Declares the families and what holds them, so that none is forgotten in either.
macro_rules! families {
    ($($field:ident: $holder:ty = $kind:ident $name:literal $labels:expr, $help:literal;)*) => {
        /// Every metric.
        pub static FAMILIES: &[Family] = &[$(Family { name: $name, kind: Kind::$kind, labels: $labels, help: $help }),*];

        /// The metrics themselves.
        pub(super) struct Families {
            $(pub(super) $field: $holder,)*
            /// The series that are there of those that are not from the start.
            pub(super) shown: Shown,
        }

        impl Families {
            /// All metrics, without a series yet.
            pub(super) fn register(registry: &Registry) -> Result<Self> {
                Ok(Families {
                    $($field: {
                        let family = <$holder as Holder>::new($name, $help, $labels)?;
                        registry.register(Box::new(family.clone()))?;
                        family
                    },)*
                    shown: Shown::default(),
                })
            }

            /// Removes the series whose labels `keep` does not want.
            pub(super) fn retain(&self, keep: impl Fn(&Labels<'_>) -> bool) {
                $(retain(&self.$field, $labels, &self.shown, &keep);)*
            }
        }
    };
}

families! {
    build_info: IntGaugeVec = Gauge "build_info" &["version"], "Always 1; the label is the collector's version.";
    start_time: GaugeVec = Gauge "start_time_seconds" &[], "When the collector was started, in seconds since 1970.";

    config_success: IntGaugeVec = Gauge "config_reload_success" &[], "1 where all of the configuration as it was last read is what runs, 0 where a part of it cannot be used.";
    config_time: GaugeVec = Gauge "config_reload_time_seconds" &[], "When the configuration was last read, in seconds since 1970.";
    config_hash: IntGaugeVec = Gauge "config_hash" &[], "A checksum of the configuration as it was last read, without its secrets.";
    left_out: IntGaugeVec = Gauge "input_files_left_out" &[], "Files of inputs that cannot be used; the log and `/readyz` say which, and why.";

    state: IntGaugeVec = Gauge "service_state" SERVICE, "What the service is doing, the worse the higher: 0 up to date, 1 catching up, 2 signing in, 3 starting, 4 throttled, 5 stalled, 6 relay down, 7 refused, 8 not running.";
    stalled: IntGaugeVec = Gauge "service_stalled" SERVICE, "1 where the service has not advanced for long though a window was due, whatever its state.";
    source: IntGaugeVec = Gauge "source" SERVICE, "Which service of Microsoft's the records come from: 0 the reporting service, 1 Graph; absent where there is only one.";
    lag: GaugeVec = Gauge "lag_seconds" SERVICE, "How far the cursor is behind the present less the delay.";
    cursor: GaugeVec = Gauge "cursor_timestamp_seconds" SERVICE, "The cursor, in seconds since 1970: everything before it is delivered and confirmed.";
    pass_frontier: GaugeVec = Gauge "pass_frontier_timestamp_seconds" PASS, "How far an early pass has read and delivered, in seconds since 1970; `delay` is the pass's, in seconds.";
    pass_lag: GaugeVec = Gauge "pass_lag_seconds" PASS, "How far an early pass is behind the present less its delay.";
    pass_records: IntCounterVec = Counter "pass_records_total" PASS, "Records that were there when an early pass with this delay had read them, of hours that have settled.";
    pass_settled: IntCounterVec = Counter "pass_settled_records_total" PASS, "Records of the same hours when they settled: what is more than `pass_records_total` came later.";
    freshness: HistogramVec = Histogram "freshness_seconds" SERVICE, "From a record's own time to its receipt, of services with early passes that deliver.";
    deletion: GaugeVec = Gauge "deletion_seconds" SERVICE, "How long until Microsoft deletes the first of what is not confirmed yet.";
    incomplete: IntGaugeVec = Gauge "incomplete_seconds" SERVICE, "Seconds of the last fourteen days before the cursor for which records may be missing, according to the audit.";
    unreachable: IntCounterVec = Counter "unreachable_seconds_total" SERVICE, "Length of the time whose records Microsoft had deleted before they were collected.";
    windows: IntCounterVec = Counter "windows_total" SERVICE, "Windows committed.";
    walks: IntCounterVec = Counter "walks_total" SERVICE, "Walks of windows, ended or broken off.";
    capped: IntCounterVec = Counter "capped_windows_total" SERVICE, "Windows that could not be shorter and were cut off at one of the service's caps.";
    withheld: IntCounterVec = Counter "withheld_windows_total" SERVICE, "Windows that were passed though the service had returned bytes in them that cannot be read as rows.";
    fetched_records: IntCounterVec = Counter "fetched_records_total" SERVICE, "Rows that the reporting service has returned.";
    fetched_bytes: IntCounterVec = Counter "fetched_bytes_total" SERVICE, "Bytes of pages that the reporting service has returned, decompressed.";
    duplicates: IntCounterVec = Counter "duplicate_records_total" SERVICE, "Rows filtered out because they were delivered before.";
    late: IntCounterVec = Counter "late_records_total" SERVICE, "Records that only a later walk of the same window brought.";
    requests: IntCounterVec = Counter "requests_total" &["input", "service", "status"], "Requests to the reporting service by class of status; `none` where there was no answer.";
    retries: IntCounterVec = Counter "retries_total" &["input", "service", "cause"], "Requests that had to be made again, or walks that had to begin again.";
    fetch_duration: HistogramVec = Histogram "fetch_duration_seconds" INPUT, "How long requests to the reporting service took, body included.";
    turn_wait: SecondsVec = Counter "turn_wait_seconds_total" SERVICE, "Time spent waiting for a turn within the budget of requests.";
    throttled: SecondsVec = Counter "throttled_seconds_total" SERVICE, "Time spent waiting because the reporting service had asked for a pause.";
    state_failures: IntCounterVec = Counter "state_write_failures_total" SERVICE, "Writes to the state folder that failed and were tried again.";

    delivered_records: IntCounterVec = Counter "delivered_records_total" OUTLET, "Records written to the output, those that are sent again included.";
    delivered_bytes: IntCounterVec = Counter "delivered_bytes_total" OUTLET, "Bytes of lines written to the output, before TLS and gzip.";
    confirmed_records: IntCounterVec = Counter "confirmed_records_total" OUTLET, "Records that the output has confirmed.";
    confirmed_bytes: IntCounterVec = Counter "confirmed_bytes_total" OUTLET, "Bytes of lines that the output has confirmed.";
    resent: IntCounterVec = Counter "resent_records_total" OUTLET, "Records written on a connection that gave no receipt: they are sent again.";
    receipts: IntCounterVec = Counter "receipts_total" &["input", "service", "output", "kind"], "Deliveries confirmed: by the relay's close_notify (`read`), by an end of the connection (`ended`), or by TCP's word (`stood_in`).";
    delivery_failures: IntCounterVec = Counter "delivery_failures_total" &["input", "service", "output", "cause"], "Tries to deliver that failed: the `connection`, a matter of `setup` that a person has to mend, or the `state` folder.";
    delivery_duration: HistogramVec = Histogram "delivery_duration_seconds" INPUT, "How long deliveries took, from opening the connection to the receipt.";
    receipt_duration: HistogramVec = Histogram "receipt_duration_seconds" INPUT, "How long receipts took, from our end of the connection to the peer's.";
    down: IntGaugeVec = Gauge "output_down" OUTLET, "1 where the output does not confirm what the service gives it.";
    connections: IntGaugeVec = Gauge "relay_connections" OUTLET, "Connections to the relay that are open: one or none.";
    opened: IntCounterVec = Counter "relay_connections_total" OUTLET, "Connections to the relay that were opened to deliver.";
    unconfirmed: IntGaugeVec = Gauge "unconfirmed_records" OUTLET, "Records handed to the output and not confirmed.";
    oldest: GaugeVec = Gauge "oldest_unconfirmed_seconds" OUTLET, "How long ago the oldest record was fetched that is not confirmed; 0 where there is none.";
    certificate: GaugeVec = Gauge "certificate_expiry_timestamp_seconds" &["output"], "When our certificate for the output's relay ends, in seconds since 1970; absent where there is none.";

    client_certificate: GaugeVec = Gauge "client_certificate_expiry_timestamp_seconds" INPUT, "When the certificate ends that the input signs in with, in seconds since 1970; absent where there is none.";
    token: GaugeVec = Gauge "token_expiry_timestamp_seconds" INPUT, "When the input's token ends, in seconds since 1970; absent where there is none.";
    clock: GaugeVec = Gauge "clock_difference_seconds" INPUT, "This machine's clock less the reporting service's; absent before the first answer.";
    pause: GaugeVec = Gauge "throttle_pause_seconds" INPUT, "What is left of the pause that the reporting service has asked for.";
}

/// Seconds that only grow, in fractions.
pub(super) type SecondsVec = prometheus::CounterVec;

/// What holds the series of a family.
trait Holder: Collector + Clone + Sized + 'static {
    fn new(name: &str, help: &str, labels: &[&str]) -> Result<Self>;
    fn remove(&self, values: &[&str]) -> Result<()>;
}

/// The labels of a series.
pub(super) struct Labels<'a>(&'a [LabelPair]);

impl Labels<'_> {
    /// The value of this label.
    pub(super) fn of(&self, name: &str) -> Option<&str> {
        let pair = self.0.iter().find(|pair| pair.name() == name)?;
        Some(pair.value())
    }
}

fn retain<H: Holder>(
    holder: &H,
    names: &[&str],
    shown: &Shown,
    keep: &impl Fn(&Labels<'_>) -> bool,
) {
    for family in holder.collect() {
        for metric in family.get_metric() {
            let labels = Labels(metric.get_label());
            if !keep(&labels) {
                let values = names.iter().map(|name| labels.of(name).unwrap_or_default());
                let values: Vec<_> = values.collect();
                // It was there a moment ago.
                let _ = holder.remove(&values);
                shown.forget(holder, &values);
            }
        }
    }
}

macro_rules! holder {
    ($($holder:ty),*) => {$(
        impl Holder for $holder {
            fn new(name: &str, help: &str, labels: &[&str]) -> Result<Self> {
                <$holder>::new(Opts::new(name, help), labels)
            }

            fn remove(&self, values: &[&str]) -> Result<()> {
                self.remove_label_values(values)
            }
        }
    )*};
}

holder!(IntCounterVec, SecondsVec, IntGaugeVec, GaugeVec);

impl Holder for HistogramVec {
    fn new(name: &str, help: &str, labels: &[&str]) -> Result<Self> {
        let buckets = match name {
            "freshness_seconds" => FRESHNESS,
            _ => SECONDS,
        };
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        HistogramVec::new(options, labels)
    }

    fn remove(&self, values: &[&str]) -> Result<()> {
        self.remove_label_values(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const README: &str = include_str!("../../README.md");

    /// The metrics as the README lists them.
    fn table() -> String {
        let rows = FAMILIES.iter().map(|family| {
            let labels = family.labels.join(", ");
            let (name, kind, help) = (family.name, family.kind.name(), family.help);
            format!(
                "| `{name}` | {kind} | {labels} | {} |\n",
                help.trim_end_matches('.')
            )
        });
        rows.collect()
    }

    #[test]
    fn the_readme_lists_every_metric() {
        let table = table();
        assert!(
            README.contains(&table),
            "put this into the README:\n{table}"
        );
    }
}
