//! Results that are larger than any window should be: memory stays within its bounds, and what can be had is had.
//!
//! `BUCKET_ROWS` says how many rows a report by day has (150,000 if it is not set): the figure that counts is that of
//! `BUCKET_ROWS=1500000 COLLECTOR=target/release/exchange-reports-collector cargo test --release --test it buckets -- --nocapture`.

use std::time::Instant;

use chrono::{DurationRound, TimeDelta};
use testkit::collector::Collector;
use testkit::report::Report;
use testkit::service::{Fault, Options, Target, When};

use crate::setting::{Setting, log, stop};

/// What a bucket of 1.5 million rows may take beyond a small one.
const OF_A_LARGE_BUCKET_KIB: u64 = 64 << 10;

/// What the memory of two runs that do the same differs by.
const NOISE_KIB: u64 = 4 << 10;

/// The most of the process, whatever an answer holds: a body of 32 MiB that grows from 16, four more of 4 MiB that grow to 8 while they wait
/// for it, a request of the service's own, and what the process takes anyway.
const PEAK_MAX_KIB: u64 = 128 << 10;

/// Lines that wait for receipts, and pages: of few rows there are few.
const LINES_KIB: u64 = 12 << 10;

/// Collects a day of spoofed mail of so many rows; the most memory that it took, in KiB.
#[expect(clippy::print_stdout, reason = "the figures are what it is run for")]
async fn peak_of_a_day(rows: u32) -> u64 {
    let program = std::env::var_os("COLLECTOR").unwrap_or(crate::setting::program().into());
    let setting = Setting::with(Options::default(), |relay| relay.keep_lines = false).await;
    let from = setting.ago(80).duration_trunc(TimeDelta::days(1)).unwrap();
    let to = from + TimeDelta::days(1);
    setting.rows(Report::SpoofMail, from, to, rows);
    setting.configure_one(Report::SpoofMail, from, &[]);
    let begun = Instant::now();
    let mut collector = Collector::start(program.as_ref(), &setting.folder).unwrap();
    let mut last = (0, Instant::now());
    while setting
        .cursor(Report::SpoofMail)
        .is_none_or(|cursor| cursor < to)
    {
        // However many rows there are, they go on coming.
        let served = setting.service.requests().len();
        if served > last.0 {
            last = (served, Instant::now());
        }
        assert!(
            collector.is_running() && last.1.elapsed() < crate::setting::PATIENCE,
            "{}",
            log(&collector)
        );
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let peak = collector.resident_peak_kib().unwrap();
    println!(
        "{rows} rows of one day: {peak} KiB at most, {:?}",
        begun.elapsed()
    );
    stop(&mut collector).await;
    let expected = setting.existing(Report::SpoofMail, from, to);
    setting.expect_exactly(&expected, &collector);
    peak
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_by_day_with_very_many_rows_stays_within_its_memory() {
    let rows: u32 = std::env::var("BUCKET_ROWS").map_or(150_000, |rows| rows.parse().unwrap());
    let small = peak_of_a_day(6_000).await;
    let large = peak_of_a_day(rows).await;
    let share = OF_A_LARGE_BUCKET_KIB * u64::from(rows) / 1_500_000;
    assert!(
        large <= small + share + LINES_KIB + NOISE_KIB,
        "{large} KiB for {rows} rows, {small} KiB for few"
    );
}

/// Collects two hours of message traces while answers are far too large; the rest is delivered.
async fn check(options: Options, when: When, fault: Fault) {
    let setting = Setting::with(options, |_| {}).await;
    let (from, to) = (setting.ago(30), setting.ago(28));
    setting.rows(Report::MessageTrace, from, to, 1_000);
    setting.service.fault(Target::Reports, when, fault.clone());
    setting.configure_one(Report::MessageTrace, from, &[]);
    let mut collector = setting.start();
    setting
        .until_committed(&collector, &[Report::MessageTrace], to)
        .await;
    let peak = collector.resident_peak_kib().unwrap();
    stop(&mut collector).await;
    assert!(peak < PEAK_MAX_KIB, "{peak} KiB at most");
    let expected = setting.existing(Report::MessageTrace, from, to);
    setting.expect_exactly(&expected, &collector);
}

const MANY: u64 = 10_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_answer_of_ten_million_empty_objects_takes_no_memory_and_loses_nothing() {
    check(Options::default(), When::Next(1), Fault::EmptyObjects(MANY)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_million_empty_objects_for_each_long_window_lose_nothing() {
    let long = When::WiderThan(TimeDelta::minutes(20));
    check(Options::default(), long, Fault::EmptyObjects(MANY)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_million_empty_objects_that_are_not_compressed_take_no_memory() {
    let options = Options {
        gzip: false,
        ..Options::default()
    };
    check(options, When::Next(2), Fault::EmptyObjects(MANY)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_large_in_other_ways_take_no_memory() {
    let bodies = [
        format!(r#"{{"value":[{}1]}}"#, "1,".repeat(5_000_000)),
        format!(r#"{{"value":{}"#, "[".repeat(8_000_000)),
        format!(
            r#"{{"odata.nextLink":"{}","value":[]}}"#,
            "a".repeat(12_000_000)
        ),
    ];
    for body in bodies {
        let fault = Fault::Answer {
            status: 200,
            content_type: "application/json".to_owned(),
            body,
        };
        check(Options::default(), When::Next(1), fault).await;
    }
}
