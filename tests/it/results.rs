//! Results that lie: totals that end on a page, caps, and rows that come and go between any two pages of a walk.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use testkit::records::compare;
use testkit::relay::Behaviour;
use testkit::report::Report;
use testkit::service::{Fault, Options, Request, When};

use crate::setting::{PATIENCE, Setting, log, stop};

/// What cannot be shorter: an hour of details, a second of message traces. Its beginning and its end.
fn shortest(setting: &Setting, report: Report, age: i64) -> (DateTime<Utc>, DateTime<Utc>) {
    let hour = setting.hour_ago(age);
    match report {
        Report::MessageTrace => (hour, hour + TimeDelta::seconds(1)),
        _ => (hour, hour + TimeDelta::hours(1)),
    }
}

/// Collects what cannot be shorter, and whose rows fill so many pages of 2,000; `age` and `delay` tell whether rows may still come to it.
async fn full_pages(report: Report, pages: u32, age: i64, delay: &str) {
    let setting = Setting::new().await;
    let (from, to) = shortest(&setting, report, age);
    setting.rows(report, from, to, pages * 2_000);
    let delay = [("override_time_delay_in_seconds", delay)];
    setting.configure_one(report, from, &delay);
    let mut collector = setting.start();
    setting.until_committed(&collector, &[report], to).await;
    stop(&mut collector).await;
    setting.expect_exactly(&setting.existing(report, from, to), &collector);
    let requests = setting.service.requests_for(report);
    assert!(
        requests.iter().any(|request| {
            request.page == u64::from(pages) + 1 && request.rows == 0 && request.status == 200
        }),
        "{requests:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_total_that_is_a_multiple_of_the_page_ends_with_an_empty_page() {
    for pages in [1, 2, 3] {
        full_pages(Report::MailDetailAtp, pages, 28, "90000").await;
        full_pages(Report::MailDetailAtp, pages, 3, "60").await;
        full_pages(Report::MessageTrace, pages, 28, "90000").await;
    }
}

/// Asserts that the state has one entry of this outcome, for the time between the two.
fn expect_entry(
    setting: &Setting,
    report: Report,
    outcome: &str,
    times: (DateTime<Utc>, DateTime<Utc>),
) {
    assert_eq!(setting.entries(report, outcome), [times]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cap_is_an_error_of_its_hour_and_of_no_other() {
    let options = Options {
        detail_rows_max: 10_000,
        ..Options::default()
    };
    let setting = Setting::with(options, |_| {}).await;
    let report = Report::MailDetailAtp;
    let hour = |hours| setting.hour_ago(hours);
    // Four hours of 6,000 rows: any two of them are at the cap. Then one hour that is beyond it by itself.
    setting.rows(report, hour(40), hour(36), 24_000);
    setting.rows(report, hour(36), hour(35), 12_000);
    setting.rows(report, hour(35), hour(34), 10);
    setting.configure_one(report, hour(60), &[]);
    let mut collector = setting.start();
    let line = collector
        .wait_for("cannot be had from this report", PATIENCE)
        .await
        .unwrap();
    assert!(line.contains("ERROR") && line.contains("cap"), "{line}");
    setting
        .until_committed(&collector, &[report], hour(34))
        .await;
    stop(&mut collector).await;
    setting.expect_exactly(&setting.service.served(), &collector);
    let mut whole = setting.existing(report, hour(60), hour(36));
    whole.extend(&setting.existing(report, hour(35), hour(34)));
    assert_eq!(compare(&whole, &setting.relay.records()).missing, 0);
    expect_entry(&setting, report, "capped", (hour(36), hour(35)));
    assert_eq!(
        collector.log_with("at a cap").len(),
        1,
        "{}",
        log(&collector)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_that_are_small_shorten_the_windows() {
    let options = Options {
        page_rows: 4,
        ..Options::default()
    };
    let setting = Setting::with(options, |_| {}).await;
    // 1,500 pages: more than the service goes on for in one walk.
    let (from, to) = (setting.ago(30), setting.ago(29));
    setting.rows(Report::MessageTrace, from, to, 6_000);
    setting.configure_one(Report::MessageTrace, from, &[]);
    let mut collector = setting.start();
    setting.finish(&mut collector, from, to).await;
    assert_eq!(collector.log_with("ERROR"), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_walk_that_is_cut_off_after_a_thousand_pages_is_an_error_where_it_cannot_be_shorter() {
    let options = Options {
        page_rows: 4,
        ..Options::default()
    };
    let setting = Setting::with(options, |_| {}).await;
    // 1,500 pages in a second.
    let report = Report::MessageTrace;
    let (from, to) = shortest(&setting, report, 30);
    setting.rows(report, from, to, 6_000);
    setting.rows(report, to, to + TimeDelta::minutes(1), 10);
    setting.configure_one(report, from, &[]);
    let mut collector = setting.start();
    setting
        .until_committed(&collector, &[report], to + TimeDelta::minutes(1))
        .await;
    stop(&mut collector).await;
    setting.expect_exactly(&setting.service.served(), &collector);
    assert_eq!(setting.relay.count(), 4_010);
    let pages = setting.service.requests_for(report);
    assert!(pages.iter().any(|request| request.page == 1_000));
    expect_entry(&setting, report, "capped", (from, to));
    let said = collector.log_with("at a cap");
    assert!(said.len() == 1 && said[0].contains("ERROR"), "{said:?}");
}

/// Collects ten pages that cannot be shorter while rows come and go behind any of them, in a first walk and in a second.
#[expect(clippy::print_stderr, reason = "a test shows it where it fails")]
async fn restless(report: Report, seed: u64) {
    eprintln!("seed {seed}");
    let options = Options {
        page_rows: 100,
        ..Options::default()
    };
    let setting = Setting::with(options, |_| {}).await;
    let (from, to) = shortest(&setting, report, 3);
    setting.rows(report, from, to, 1_000);
    let mut chance = StdRng::seed_from_u64(seed);
    for _ in 0..2 {
        for page in 1..=10 {
            let position = chance.random_range(0..=1_000);
            let fault = match chance.random_range(0..4) {
                0 | 1 => Fault::LateRow { position },
                2 => Fault::VanishingRow { position },
                _ => Fault::Delay(std::time::Duration::ZERO),
            };
            let when = When::Page { page, times: 1 };
            setting.service.fault(report, when, fault);
        }
    }
    let delay = [("override_time_delay_in_seconds", "60")];
    setting.configure_one(report, from, &delay);
    let mut collector = setting.start();
    setting.until_committed(&collector, &[report], to).await;
    stop(&mut collector).await;
    let expected = setting.existing(report, from, to);
    let requests = setting.service.requests_for(report);
    let hit = |fault: &str| {
        let of_window = |request: &&Request| request.range.is_some_and(|range| range.0 == from);
        let requests = requests.iter().filter(of_window);
        requests
            .filter(|request| request.fault.as_deref() == Some(fault))
            .count() as u64
    };
    let (come, gone) = (hit("LateRow"), hit("VanishingRow"));
    assert!(come > 0 && gone > 0, "{come} have come, {gone} have gone");
    assert!(expected.total() >= 1_000 + come - gone, "rows have come");
    // A row that has gone may have been delivered before, and is none of what there is. Windows behind it were hit as well.
    let all = |fault: &str| {
        let hit = { requests.iter() }.filter(|request| request.fault.as_deref() == Some(fault));
        hit.count() as u64
    };
    let elsewhere = all("LateRow") - come + all("VanishingRow") - gone;
    setting.expect_once(&expected, gone + elsewhere, &collector);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_come_and_go_at_any_place_of_a_walk_hide_no_other() {
    for _ in 0..2 {
        restless(Report::MailDetailAtp, rand::random()).await;
        restless(Report::MessageTrace, rand::random()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_relay_is_away_each_window_is_asked_for_once() {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(30), setting.ago(28));
    setting.rows(Report::MessageTrace, from, to, 4_000);
    setting.relay.always(Behaviour::ResetOnEnd);
    setting.configure_one(Report::MessageTrace, from, &[]);
    let mut collector = setting.start();
    let requests = || {
        let mut requests = setting.service.requests_for(Report::MessageTrace);
        requests.retain(|request| request.range.is_some_and(|range| range.0 < to));
        requests
    };
    let begun = Instant::now();
    let is_all = |requests: &[_]| {
        let ends = requests
            .iter()
            .filter_map(|request: &Request| request.range);
        ends.map(|range| range.1).max() >= Some(to)
    };
    while !is_all(&requests()) {
        assert!(begun.elapsed() < PATIENCE, "{}", log(&collector));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Long enough for several deliveries that fail.
    let failed = || collector.log_with("delivery failed").len();
    let before = failed();
    while failed() < before + 3 {
        assert!(begun.elapsed() < PATIENCE, "{}", log(&collector));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut times = HashMap::new();
    for request in requests() {
        *times.entry(request.range).or_insert(0) += 1;
    }
    assert!(times.values().all(|times| *times == 1), "{times:?}");
    assert_eq!(setting.cursor(Report::MessageTrace), Some(from));
    setting.relay.always(Behaviour::Normal);
    setting.stop_at(&mut collector, to).await;
    let verdict = setting.verdict(&setting.existing(Report::MessageTrace, from, to));
    assert!(
        verdict.missing == 0 && verdict.twice <= setting.unconfirmed(),
        "{verdict}\n{}",
        log(&collector)
    );
}
