//! A day in a minute: four services, one of them live, and all faults at once: the service's, the relay's, and kills. The last third goes
//! without kills, to see that memory and open files stay flat.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use rand::RngExt;
use rand::rngs::StdRng;
use testkit::collector::Collector;
use testkit::records::{Records, compare};
use testkit::relay::{Behaviour, Connection, End};
use testkit::report::{Aggregate, Report};
use testkit::service::{Backlog, Fault, Options, RetryAfter, Target, When};

use super::effort::Effort;
use crate::figures::Figures;
use crate::setting::{PATIENCE, Setting, log, stop};

const SHORT: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_mins(10);

/// Live rows a second, in the short form and in the long one.
const RATE: [i64; 2] = [200, 300];

/// The reports, and the days of their backlog; the first is live.
const REPORTS: [(Report, i64); 4] = [
    (Report::MessageTrace, 0),
    (Report::MailDetailAtp, 9),
    (Report::DlpDetail, 6),
    (Report::MailTraffic, 30),
];

/// Rows in a backlog, each day, in the short form and in the long one.
const ROWS_A_DAY: [i64; 2] = [200, 2_000];

/// More than the collector ever holds, whatever is in its way (an unoptimised build's code included).
const RESIDENT_MAX_KIB: u64 = 128 << 10;

/// What memory may differ by between two halves of a life: a page or a delivery more is on its way.
const FLAT_KIB: u64 = 16 << 10;

const FILES_MAX: usize = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_in_a_minute_with_all_faults_at_once() {
    let effort = Effort::of_this_run("soak");
    let time = effort.time(SHORT, LONG);
    let mut soak = Soak::new(effort, time).await;
    let begun = Instant::now();
    while begun.elapsed() < time * 2 / 3 {
        let life = Duration::from_millis(soak.chance.random_range(500..8_000));
        let mut collector = soak.setting.start();
        soak.live(&collector, life, &mut vec![]).await;
        collector.kill().await.unwrap();
        soak.killed(&collector).await;
    }
    let mut collector = soak.setting.start();
    let mut samples = vec![];
    soak.live(
        &collector,
        time.saturating_sub(begun.elapsed()),
        &mut samples,
    )
    .await;
    soak.finish(&mut collector).await;
    expect_flat(&samples);
}

struct Soak {
    setting: Setting,
    chance: StdRng,
    seed: u64,
    /// Everything there was before the faults began.
    expected: Records,
    end: DateTime<Utc>,
    time: Duration,
    kills: u32,
    bound: u64,
    /// Connections that were accounted for.
    connections: usize,
    /// Connections when the relay was last told to misbehave.
    told_at: usize,
    cursors: Vec<Option<DateTime<Utc>>>,
}

#[derive(Clone, Copy)]
struct Sample {
    resident_kib: u64,
    files: usize,
}

impl Soak {
    async fn new(effort: Effort, time: Duration) -> Self {
        let options = Options {
            page_rows: 500,
            ..Options::default()
        };
        let setting = Setting::with(options, |relay| relay.keep_lines = false).await;
        let end = Utc::now() + TimeDelta::from_std(time).unwrap();
        let (rate, rows_a_day) = (
            RATE[usize::from(effort.is_long())],
            ROWS_A_DAY[usize::from(effort.is_long())],
        );
        let mut expected = Records::default();
        let mut input = setting.input();
        for (report, days) in REPORTS {
            let from = if days == 0 {
                setting.now - TimeDelta::minutes(2)
            } else {
                setting.ago(24 * days)
            };
            let seconds = (end - from).num_seconds();
            let rows = if days == 0 {
                seconds * rate
            } else {
                days * rows_a_day
            };
            // Rows of the time to come are asked for when it has come.
            let to = if days == 0 {
                end + TimeDelta::minutes(5)
            } else {
                setting.ago(1)
            };
            let rows = rows * (to - from).num_seconds() / seconds;
            setting.service.generate(&Backlog::new(
                report,
                from,
                to,
                u32::try_from(rows).unwrap(),
            ));
            let until = if days == 0 { end } else { to };
            expected.extend(
                &setting
                    .service
                    .existing(report, Aggregate::Hour, from, until),
            );
            input = input.service_from(report, from, &[("override_time_delay_in_seconds", "2")]);
        }
        setting.configure(input);
        let seed = effort.seed();
        for (number, fault) in faults().into_iter().enumerate() {
            let when = When::Random {
                probability: 0.01,
                seed: seed.wrapping_add(number as u64),
            };
            setting.service.fault(Target::Reports, when, fault);
        }
        let chance = effort.chance(0);
        Soak {
            setting,
            chance,
            seed,
            expected,
            end,
            time,
            kills: 0,
            bound: 0,
            connections: 0,
            told_at: 0,
            cursors: vec![None; REPORTS.len()],
        }
    }

    /// Lets the collector live, with a relay that changes its mind.
    async fn live(&mut self, collector: &Collector, time: Duration, samples: &mut Vec<Sample>) {
        let begun = Instant::now();
        while begun.elapsed() < time {
            // One at a time: what the relay has been told and not yet done would outlast the faults.
            let connections = self.setting.relay.connections().len();
            if connections > self.told_at && self.chance.random_bool(0.3) {
                self.told_at = connections;
                self.setting.relay.next(behaviour(&mut self.chance));
            }
            samples.push(Sample {
                resident_kib: collector.resident_kib().unwrap(),
                files: collector.open_files().unwrap(),
            });
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn killed(&mut self, collector: &Collector) {
        self.kills += 1;
        let begun = Instant::now();
        while self
            .setting
            .relay
            .connections()
            .iter()
            .any(|one| one.end == End::Open)
        {
            assert!(
                begun.elapsed() < PATIENCE,
                "a connection outlives the collector"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let connections = self.setting.relay.connections();
        let life = &connections[self.connections..];
        // What was confirmed on the wire and not yet on disk: at most one delivery of each service.
        let confirmed = life
            .iter()
            .filter(|one| one.end == End::ClientClosed)
            .map(|one| one.lines);
        self.bound += confirmed.max().unwrap_or(0) * REPORTS.len() as u64;
        self.connections = connections.len();
        for ((report, _), cursor) in REPORTS.iter().zip(&mut self.cursors) {
            let now = self.setting.cursor(*report);
            assert!(
                now >= *cursor,
                "{report}: the cursor went back\n{}",
                log(collector)
            );
            *cursor = now;
        }
    }

    /// Whether everything that was there when the faults began has been committed.
    fn is_done(&self) -> bool {
        REPORTS.iter().all(|(report, days)| {
            let end = if *days == 0 {
                self.end
            } else {
                self.setting.ago(1)
            };
            self.setting
                .cursor(*report)
                .is_some_and(|cursor| cursor >= end)
        })
    }

    /// Ends the faults, lets the collector come to the end of what there is, and compares.
    async fn finish(&mut self, collector: &mut Collector) {
        self.setting.service.heal();
        let healed = Utc::now();
        let begun = Instant::now();
        while !self.is_done() {
            let patience = PATIENCE + self.time;
            assert!(
                begun.elapsed() < patience,
                "it does not come to its end\n{}",
                log(collector)
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        stop(collector).await;
        let unconfirmed =
            |one: &&Connection| breaks(&one.behaviour) || one.end != End::ClientClosed;
        let connections = self.setting.relay.connections();
        self.bound += connections
            .iter()
            .filter(unconfirmed)
            .map(|one| one.lines)
            .sum::<u64>();
        let read = self.setting.relay.records();
        let because = format!(
            "CRASH_SEED={}, {} kills\n{}",
            self.seed,
            self.kills,
            log(collector)
        );
        let there = compare(&self.expected, &read);
        assert_eq!(there.missing, 0, "{there}\n{because}");
        let shown = compare(&self.setting.service.served_before(healed), &read);
        assert_eq!(shown.missing, 0, "{shown}\n{because}");
        let all = compare(&self.setting.service.served(), &read);
        assert_eq!(all.unknown, 0, "{all}\n{because}");
        assert!(
            all.twice <= self.bound,
            "{all}, {} may come twice\n{because}",
            self.bound
        );
        assert_eq!(self.setting.relay.violations(), Vec::<String>::new());
        let figures = Figures {
            runs: 1,
            kills: self.kills,
            records: all.served,
            lost: there.missing + shown.missing,
            repeated: all.twice,
            bound: self.bound,
        };
        figures.note();
    }
}

/// What the service does now and then.
fn faults() -> Vec<Fault> {
    vec![
        Fault::ServerError,
        Fault::Busy(None),
        Fault::Throttled(Some(RetryAfter::Seconds(1))),
        Fault::SignInPage,
        Fault::CannotProcess { status: 200 },
        Fault::ServiceFault { status: 500 },
        Fault::CutBody,
        Fault::CutChunked,
        Fault::CutGzip,
        Fault::EndsEarly,
        Fault::ResetBeforeHeaders,
        Fault::ResetAfterHeaders,
        Fault::Delay(Duration::from_millis(700)),
        Fault::RepeatedLink,
        Fault::RefusedLink,
        Fault::LateRow { position: 3 },
        Fault::LateRow { position: 700 },
        Fault::RevokeTokens,
        Fault::PrettyPrinted,
    ]
}

/// What a relay does with a connection now and then. Two things are not among it, since the promise ends there: `NeverAnswer`, where TCP's
/// word stands in; and `CloseAfter`, an orderly end of the relay's own that throws away what it has not read: in the instant after our
/// half-close has reached its system, it looks like the receipt.
fn behaviour(chance: &mut StdRng) -> Behaviour {
    let bytes = chance.random_range(1_000..400_000);
    let time = Duration::from_millis(chance.random_range(10..1_500));
    match chance.random_range(0..8) {
        0 => Behaviour::Refuse,
        1 => Behaviour::FailHandshake,
        2 => Behaviour::ResetAfter(bytes),
        3 => Behaviour::CloseUnread { after: bytes },
        4 => Behaviour::ResetOnEnd,
        5 => Behaviour::Pause { after: bytes, time },
        6 => Behaviour::AnswerLate(time),
        _ => Behaviour::Slow {
            bytes_per_second: 1_000_000,
        },
    }
}

/// Whether a connection that is treated so may end without a receipt.
fn breaks(behaviour: &Behaviour) -> bool {
    matches!(
        behaviour,
        Behaviour::ResetAfter(_) | Behaviour::CloseUnread { .. } | Behaviour::ResetOnEnd
    )
}

#[expect(
    clippy::print_stdout,
    reason = "the figures are what a long run is for"
)]
fn expect_flat(samples: &[Sample]) {
    let (first, second) = samples.split_at(samples.len() / 2);
    let most = |samples: &[Sample]| {
        let resident = samples.iter().map(|sample| sample.resident_kib).max();
        let files = samples.iter().map(|sample| sample.files).max();
        (resident.unwrap_or(0), files.unwrap_or(0))
    };
    let ((before, files_before), (after, files_after)) = (most(first), most(second));
    println!(
        "resident at most {before} KiB, then {after} KiB; open files {files_before}, then {files_after}"
    );
    assert!(
        after <= before + FLAT_KIB && after <= RESIDENT_MAX_KIB,
        "resident: {before} KiB, then {after} KiB"
    );
    assert!(files_after <= FILES_MAX, "{files_after} open files");
}
