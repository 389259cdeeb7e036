//! A relay whose process is stopped (SIGSTOP) and goes on: its system takes what is sent, and nobody reads it. Slow is not gone.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use testkit::collector::Output;
use testkit::relay::Process;
use testkit::report::Report;
use testkit::service::{Fault, When};

use crate::figures::compared;
use crate::setting::{PATIENCE, Setting, log, stop};

/// How long the relay stands still.
const PAUSE: Duration = Duration::from_secs(20);

fn configure(setting: &Setting, relay: &Process, report: Report, from: DateTime<Utc>) {
    let input = setting.input().service_from(report, from, &[]);
    setting.configure_with(input, Output::relay(relay.port()));
}

/// Waits until the relay has read so much, stops it for a while, and lets it go on; then each record has come once. `ended` tells
/// whether the collector has ended the delivery in between; `None` where the relay's system may take all of it or not.
async fn pause(
    setting: &Setting,
    relay: &Process,
    lines: u64,
    (report, from, to): (Report, DateTime<Utc>, DateTime<Utc>),
    ended: Option<bool>,
) {
    let mut collector = setting.start();
    let begun = Instant::now();
    while relay.read().unwrap().0.total() < lines {
        assert!(begun.elapsed() < PATIENCE, "{}", log(&collector));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    relay.pause().unwrap();
    // A receipt that came before may still be on its way to the disk.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = setting.cursor(report);
    tokio::time::sleep(PAUSE).await;
    assert_eq!(setting.cursor(report), before, "no receipt, no commit");
    let lines = collector.log();
    let last = |what: &str| lines.iter().rposition(|line| line.contains(what));
    let waits = last("waits for its receipt") > last("delivery confirmed");
    assert!(
        ended.is_none_or(|ended| ended == waits),
        "{}",
        log(&collector)
    );
    relay.resume().unwrap();
    setting.until_committed(&collector, &[report], to).await;
    stop(&mut collector).await;
    let (read, violations) = relay.read().unwrap();
    assert_eq!(violations, Vec::<String>::new());
    let verdict = compared(&setting.existing(report, from, to), &read, 0);
    assert!(verdict.is_exact(), "{verdict}\n{}", log(&collector));
    assert!(
        collector.log_with("delivery failed").is_empty(),
        "{}",
        log(&collector)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_is_stopped_in_the_middle_of_a_delivery_gets_nothing_twice() {
    let setting = Setting::new().await;
    let relay = Process::start(&setting.pki).unwrap();
    let report = Report::MessageTrace;
    let (from, to) = (setting.ago(30), setting.ago(29));
    setting.rows(report, from, to, 60_000);
    configure(&setting, &relay, report, from);
    // The first delivery is small, the second is not.
    pause(&setting, &relay, 6_000, (report, from, to), None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_is_stopped_while_its_receipt_is_waited_for_gets_nothing_twice() {
    let setting = Setting::new().await;
    let relay = Process::start(&setting.pki).unwrap();
    // An hour is one window, whatever the number of its pages.
    let report = Report::MailDetailAtp;
    let (from, to) = (setting.hour_ago(26), setting.hour_ago(25));
    // The second page is late and small: it is written while the relay stands still, its system takes it, and the delivery ends.
    setting.rows(report, from, to, 2_030);
    let late = Fault::Delay(Duration::from_secs(6));
    let page = When::Page { page: 2, times: 1 };
    setting.service.fault(report, page, late);
    configure(&setting, &relay, report, from);
    pause(&setting, &relay, 1_900, (report, from, to), Some(true)).await;
}
