//! Rows made by rule: the same seed gives the same rows, none of them twice, and none is rendered before it is asked for.

use chrono::{DateTime, NaiveDateTime, Utc};

use super::content::Content;
use super::fields::Fields;
use super::store::TableKey;
use crate::report::{Aggregate, Report};

/// 100 nanoseconds since 1970, the service's own precision.
pub(crate) type Ticks = i64;

/// Ticks a second.
pub(crate) const SECOND: Ticks = 10_000_000;

/// The instant in ticks.
pub(crate) fn ticks(time: DateTime<Utc>) -> Ticks {
    time.timestamp() * SECOND + i64::from(time.timestamp_subsec_nanos() / 100)
}

/// The instant of an ISO date as the service writes it, if it is one.
pub(crate) fn iso(text: &str) -> Option<DateTime<Utc>> {
    let plain = text.trim_end_matches('Z');
    NaiveDateTime::parse_from_str(plain, "%Y-%m-%dT%H:%M:%S%.f")
        .ok()
        .map(|time| time.and_utc())
}

/// Rows to be made by rule.
#[derive(Clone, Debug)]
pub struct Backlog {
    /// The report.
    pub report: Report,
    /// For a traffic report: the bucket that the rows count.
    pub aggregate: Aggregate,
    /// The first instant.
    pub from: DateTime<Utc>,
    /// The instant after the last.
    pub to: DateTime<Utc>,
    /// How many, spread evenly.
    pub rows: u32,
    /// What makes the rows these and no others.
    pub seed: u64,
}

impl Backlog {
    /// Rows spread over `[from, to)`; traffic reports by the hour.
    pub fn new(report: Report, from: DateTime<Utc>, to: DateTime<Utc>, rows: u32) -> Backlog {
        Backlog {
            report,
            aggregate: Aggregate::Hour,
            from,
            to,
            rows,
            seed: 1,
        }
    }

    pub(crate) fn table(&self) -> TableKey {
        TableKey {
            report: self.report,
            aggregate: self.report.is_traffic().then_some(self.aggregate),
        }
    }
}

/// Makes the rows of one backlog.
pub(crate) struct Generator {
    report: Report,
    aggregate: Aggregate,
    from: Ticks,
    span: Ticks,
    rows: u32,
    seed: u64,
}

impl Generator {
    /// `salt` tells apart the generators of one table.
    pub(crate) fn new(backlog: &Backlog, salt: u64) -> Generator {
        let from = ticks(backlog.from);
        Generator {
            report: backlog.report,
            aggregate: backlog.aggregate,
            from,
            span: (ticks(backlog.to) - from).max(1),
            rows: backlog.rows.max(1),
            seed: mix(backlog.seed ^ mix(salt)),
        }
    }

    /// The row's time, which the service filters by.
    pub(crate) fn time(&self, index: u32) -> Ticks {
        let message = message(index);
        let at = |index: u32| {
            let share = i128::from(self.span) * i128::from(index) / i128::from(self.rows);
            self.from + i64::try_from(share).unwrap_or_default()
        };
        let step = at(message + 1) - at(message);
        let noise = self.noise(message);
        let jitter = if step > 0 {
            i64::try_from(noise >> 1).unwrap_or_default() % step
        } else {
            0
        };
        let time = at(message) + jitter;
        (time - time.rem_euclid(10_i64.pow(7 - decimals(noise)))).max(self.from)
    }

    fn noise(&self, index: u32) -> u64 {
        mix(self
            .seed
            .wrapping_add(u64::from(index).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    /// Appends the row's documented fields.
    pub(crate) fn write(&self, index: u32, fields: &mut Fields<'_>) {
        let (own, shared) = (self.noise(index), self.noise(message(index)));
        let content = Content {
            report: self.report,
            aggregate: self.aggregate,
            time: self.time(index),
            decimals: decimals(shared),
            shared,
            own,
        };
        content.write(fields);
    }
}

/// The row that shares its message with this one: every fourth row is another recipient of the one before.
fn message(index: u32) -> u32 {
    if index % 4 == 3 { index - 1 } else { index }
}

/// How many decimals a time has: 0 to 7.
fn decimals(noise: u64) -> u32 {
    u32::try_from(noise % 8).unwrap_or_default()
}

/// Spreads a number over all 64 bits, each number to another (the finaliser of splitmix64).
pub(crate) fn mix(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}
