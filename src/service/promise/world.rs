//! What a simulated service and its clocks are: rows that come late and go, two relays, and faults, all drawn from one seed.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::report::{Origin, Paging, Resolution, Terms};
use crate::window::Window;

/// How a case is drawn.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) seed: u64,
    pub(super) resolution: Resolution,
    pub(super) paging: Paging,
    pub(super) delay: Duration,
    pub(super) days: i64,
    pub(super) rows_a_day: u32,
    /// From 0, nothing fails, to 1.
    pub(super) trouble: f64,
    /// Each life may be with another of two services, which tell of the same rows in their own words.
    pub(super) changes: bool,
    /// The early passes, of which each life has all or some.
    pub(super) passes: &'static [u32],
}

/// A row of the service.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) time: DateTime<Utc>,
    /// Equal rows have the same number.
    pub(super) number: u64,
    pub(super) appears: DateTime<Utc>,
    pub(super) vanishes: Option<DateTime<Utc>>,
}

/// What one relay has read.
#[derive(Debug, Default)]
pub(super) struct RelayLog {
    /// How often each record was read, by its number.
    pub(super) read: BTreeMap<u64, u32>,
    /// How often each was read on a connection without a receipt.
    pub(super) unconfirmed: BTreeMap<u64, u32>,
    /// When each was first read.
    pub(super) first_read: BTreeMap<u64, DateTime<Utc>>,
    /// The records of the last deliveries that were confirmed, one for each pass: a process that is killed may not have kept that.
    pub(super) last: VecDeque<Vec<u64>>,
}

impl RelayLog {
    /// Notes records that may come again.
    pub(super) fn may_come_again(&mut self, records: &[u64]) {
        for number in records {
            *self.unconfirmed.entry(*number).or_default() += 1;
        }
    }
}

/// Everything outside the service.
#[derive(Debug)]
pub(super) struct World {
    pub(super) case: Case,
    pub(super) chance: StdRng,
    /// The service that is asked now.
    pub(super) origin: Origin,
    pub(super) rows: Vec<Row>,
    pub(super) relays: Vec<RelayLog>,
    /// Until then the service throttles.
    pub(super) paused_until: Option<DateTime<Utc>>,
    /// Set where the process is killed.
    pub(super) killed: bool,
    /// The service's clock less the true time.
    pub(super) service_skew: TimeDelta,
    pub(super) directory_skew: TimeDelta,
    /// When a page last told the service's clock, and what it told.
    pub(super) heard: Option<(DateTime<Utc>, DateTime<Utc>)>,
    /// What happened, for a trace that has to be the same each time.
    pub(super) trace: Vec<String>,
    pub(super) requests: u64,
    /// From then on nothing fails any more.
    pub(super) calm_from: DateTime<Utc>,
    /// Loops: until then every link leads to the same page.
    pub(super) looping_until: DateTime<Utc>,
    /// Until then an output's relay is away.
    pub(super) away_until: Vec<DateTime<Utc>>,
}

/// The true time at which a case begins.
pub(super) fn beginning() -> DateTime<Utc> {
    DateTime::from_timestamp(1_770_000_000 / 86_400 * 86_400, 0).unwrap()
}

impl Case {
    pub(super) fn terms(&self, origin: Origin) -> Terms {
        let days = match self.resolution {
            Resolution::Instant => 10,
            Resolution::Hour | Resolution::Day => 7,
        };
        Terms {
            origin,
            reach: Duration::from_hours(24 * days),
            resolution: self.resolution,
            paging: match origin {
                Origin::ReportingService => self.paging,
                Origin::Graph => Paging::ByKey,
            },
            row_cap: None,
            pages_max: 1_000,
            page_rows: PAGE as u64,
        }
    }
}

/// Rows of a full page.
pub(super) const PAGE: usize = 8;

impl World {
    pub(super) fn new(case: &Case, outputs: usize) -> Self {
        let mut chance = StdRng::seed_from_u64(case.seed);
        let mut rows = vec![];
        let span = case.days * 86_400;
        let mut number = 0;
        for _ in 0..case.rows_a_day * u32::try_from(case.days).unwrap() {
            number += 1;
            let time = if case.changes && chance.random_bool(0.5) {
                // Just behind a full second, which another service may see just before it.
                let second = TimeDelta::seconds(chance.random_range(0..span));
                beginning() + second + TimeDelta::microseconds(300)
            } else {
                beginning() + TimeDelta::milliseconds(chance.random_range(0..span * 1_000))
            };
            // Bursts: many rows of one second now and then, more than a page.
            let many = if chance.random_bool(0.002) {
                3 * PAGE
            } else {
                1
            };
            for _ in 0..many {
                let delay = TimeDelta::from_std(case.delay).unwrap().num_seconds();
                let late = if chance.random_bool(0.2) {
                    chance.random_range(0..delay.max(2) - 1)
                } else {
                    0
                };
                let appears = time + TimeDelta::seconds(late);
                let vanishes = chance.random_bool(0.01 * case.trouble).then(|| {
                    appears + TimeDelta::seconds(chance.random_range(1..2 * delay.max(600)))
                });
                rows.push(Row {
                    time,
                    number,
                    appears,
                    vanishes,
                });
                // Some are equal to others in everything.
                if !chance.random_bool(0.02) {
                    number += 1;
                }
            }
        }
        World {
            chance,
            origin: Origin::ReportingService,
            rows,
            relays: (0..outputs).map(|_| RelayLog::default()).collect(),
            paused_until: None,
            killed: false,
            service_skew: TimeDelta::zero(),
            directory_skew: TimeDelta::zero(),
            heard: None,
            trace: vec![],
            requests: 0,
            calm_from: beginning() + TimeDelta::days(case.days),
            looping_until: beginning(),
            away_until: vec![beginning(); outputs],
            case: case.clone(),
        }
    }

    /// The result of a query at `now`, newest first.
    pub(super) fn result(
        &self,
        first: DateTime<Utc>,
        last: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Vec<&Row> {
        let unit = match self.case.resolution {
            Resolution::Instant => 0,
            Resolution::Hour => 3_600,
            Resolution::Day => 86_400,
        };
        let bucket = |time: DateTime<Utc>| time.timestamp() / unit.max(1);
        let reach = TimeDelta::from_std(self.case.terms(self.origin).reach).unwrap();
        let mut rows: Vec<&Row> = { self.rows.iter() }
            .filter(|row| {
                let asked = if unit == 0 {
                    let time = row.told(self.origin);
                    time >= first && time <= last
                } else {
                    bucket(row.time) >= bucket(first) && bucket(row.time) <= bucket(last)
                };
                asked && row.is_there(now) && row.time >= now - reach
            })
            .collect();
        rows.sort_by_key(|row| (std::cmp::Reverse(row.told(self.origin)), row.number));
        rows
    }

    /// Whether something of this probability happens, as long as there is trouble.
    pub(super) fn happens(&mut self, probability: f64, now: DateTime<Utc>) -> bool {
        let likely = probability * self.case.trouble;
        now < self.calm_from && self.chance.random_bool(likely.clamp(0.0, 1.0))
    }

    pub(super) fn note(&mut self, now: DateTime<Utc>, what: impl std::fmt::Display) {
        self.trace
            .push(format!("{} {what}", now.format("%d %T%.3f")));
    }

    /// How often each record of `passed` has to be read: those that were there from their delay on.
    pub(super) fn due(&self, passed: &[Window]) -> BTreeMap<u64, u32> {
        let mut due = BTreeMap::new();
        let delay = TimeDelta::from_std(self.case.delay).unwrap();
        for row in &self.rows {
            let second = DateTime::from_timestamp(row.time.timestamp(), 0).unwrap();
            let passed = passed
                .iter()
                .any(|window| window.start <= second && second < window.end);
            let in_time = row.appears <= row.time + delay;
            if passed && in_time && row.vanishes.is_none() {
                *due.entry(row.number).or_default() += 1;
            }
        }
        due
    }

    /// How many records an hour has at least, and at most: rows may vanish, and two services may see one in two hours.
    pub(super) fn records_of(&self, hour: Window) -> (u64, u64) {
        let delay = TimeDelta::from_std(self.case.delay).unwrap();
        let (mut least, mut most) = (0, 0);
        for row in &self.rows {
            let seen = [row.told(Origin::Graph), row.told(Origin::ReportingService)];
            let told = if self.case.changes {
                &seen[..]
            } else {
                &seen[1..]
            };
            let within = |time: &DateTime<Utc>| hour.start <= *time && *time < hour.end;
            let in_time = row.appears <= row.time + delay && row.vanishes.is_none();
            least += u64::from(in_time && told.iter().all(within));
            most += u64::from(told.iter().any(within));
        }
        (least, most)
    }

    /// How many rows with this number there ever were.
    pub(super) fn ever(&self) -> BTreeMap<u64, u32> {
        let mut ever = BTreeMap::new();
        for row in &self.rows {
            *ever.entry(row.number).or_default() += 1;
        }
        ever
    }
}

impl Row {
    fn is_there(&self, now: DateTime<Utc>) -> bool {
        self.appears <= now && self.vanishes.is_none_or(|vanishes| now < vanishes)
    }

    /// When it was received, as `origin` says: the two differ by less than a millisecond.
    pub(super) fn told(&self, origin: Origin) -> DateTime<Utc> {
        let micros = i64::try_from(self.number % 1_998).unwrap_or_default() - 999;
        match origin {
            Origin::ReportingService => self.time,
            Origin::Graph => self.time + TimeDelta::microseconds(micros),
        }
    }

    /// The row as a service writes it. Equal rows are equal to the letter but for `Index`.
    pub(super) fn json(&self, index: usize, origin: Origin) -> String {
        format!(
            r#"{{"Received":"{}","MessageTraceId":"{}","Index":{index}}}"#,
            self.told(origin).format("%Y-%m-%dT%H:%M:%S%.6f"),
            self.number
        )
    }
}
