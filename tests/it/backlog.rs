//! A large backlog: memory does not grow with it.
//!
//! `BACKLOG_ROWS` says how many rows (200,000 if it is not set), `COLLECTOR` which program (the one built with the tests if it is not set):
//! the figures of a release build are those of
//! `BACKLOG_ROWS=1000000 COLLECTOR=target/release/exchange-reports-collector cargo test --release --test it backlog -- --nocapture`.

use std::time::Instant;

use testkit::collector::Collector;
use testkit::report::Report;
use testkit::service;

use crate::setting::{Setting, log, stop};

/// What the process may hold for data, whatever the backlog: 20 MiB of pages and lines, and as much again for all else.
const DATA_MAX_KIB: u64 = 40 << 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_stays_flat_however_many_rows_wait() {
    drain(46, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_stays_flat_however_many_rows_are_of_one_hour() {
    drain(1, 2).await;
}

/// Collects rows spread over so many hours, a part of what `BACKLOG_ROWS` says.
#[expect(clippy::print_stdout, reason = "the figures are what it is run for")]
async fn drain(hours: i64, part: u32) {
    let rows: u32 = std::env::var("BACKLOG_ROWS").map_or(200_000, |rows| rows.parse().unwrap());
    let program = std::env::var_os("COLLECTOR").unwrap_or(crate::setting::program().into());
    let setting = Setting::with(service::Options::default(), |relay| {
        relay.keep_lines = false;
    })
    .await;
    let (from, to) = (setting.ago(26 + hours), setting.ago(25));
    let rows = rows / part;
    setting.rows(Report::MessageTrace, from, to, rows);
    setting.configure_one(Report::MessageTrace, from, &[]);
    let begun = Instant::now();
    let mut collector = Collector::start(program.as_ref(), &setting.folder).unwrap();
    let (mut early, mut most) = (None, 0);
    while setting
        .cursor(Report::MessageTrace)
        .is_none_or(|cursor| cursor < to)
    {
        most = collector.data_kib().unwrap().max(most);
        if early.is_none() && setting.relay.count() > u64::from(rows) / 2 {
            early = Some(most);
        }
        assert!(collector.is_running(), "{}", log(&collector));
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let (seconds, peak) = (
        begun.elapsed().as_secs_f64(),
        collector.resident_peak_kib().unwrap(),
    );
    let cpu = collector.cpu_seconds().unwrap();
    stop(&mut collector).await;
    assert_eq!(setting.relay.count(), u64::from(rows));
    setting.expect_exactly(&setting.service.served(), &collector);
    let early = early.unwrap();
    println!(
        "{rows} rows: {:.0} records/s, {:.2} CPU s per million, {peak} KiB at most, {most} KiB of it data, {early} KiB in the first half",
        f64::from(rows) / seconds,
        cpu * 1e6 / f64::from(rows)
    );
    assert!(most < DATA_MAX_KIB, "{most} KiB");
    // Of one dense hour more is remembered in the second half, as its window is halved and halved again.
    assert!(
        hours == 1 || most < early + (6 << 10),
        "{early} KiB in the first half, {most} KiB in all"
    );
}
