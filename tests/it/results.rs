//! Results that lie: totals that end on a page, caps, and rows that come and go between any two pages of a walk.

use std::time::{Duration, Instant};

use chrono::{DurationRound, TimeDelta};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use testkit::records::compare;
use testkit::relay::Behaviour;
use testkit::report::Report;
use testkit::service::{Fault, Options, Request, Row, When};

use crate::setting::{PATIENCE, Setting, log, stop};

/// Collects an hour whose rows fill so many pages of 2,000; `age` and `delay` tell whether rows may still come to it.
async fn full_pages(pages: u32, age: i64, delay: &str) {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(age), setting.ago(age - 1));
    setting.rows(Report::MessageTrace, from, to, pages * 2_000);
    let delay = [("override_time_delay_in_seconds", delay)];
    setting.configure_one(Report::MessageTrace, from, &delay);
    let mut collector = setting.start();
    setting.finish(&mut collector, from, to).await;
    let requests = setting.service.requests_for(Report::MessageTrace);
    let beyond = |request: &&Request| {
        request.page == u64::from(pages) + 1 && request.rows == 0 && request.status == 200
    };
    assert!(
        requests.iter().any(|request| beyond(&request)),
        "{requests:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_total_that_is_a_multiple_of_the_page_ends_with_an_empty_page() {
    for pages in [1, 2, 3] {
        full_pages(pages, 28, "90000").await;
        full_pages(pages, 3, "60").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cap_halves_the_window_and_is_an_error_where_it_cannot_be_shorter() {
    let options = Options {
        detail_rows_max: 10_000,
        ..Options::default()
    };
    let setting = Setting::with(options, |_| {}).await;
    let hour = |hours| {
        setting
            .ago(hours)
            .duration_trunc(TimeDelta::hours(1))
            .unwrap()
    };
    // Four hours of 6,000 rows: any two of them are at the cap. Then one hour that is beyond it by itself.
    setting.rows(Report::MailDetailAtp, hour(40), hour(36), 24_000);
    setting.rows(Report::MailDetailAtp, hour(35), hour(34), 12_000);
    setting.configure_one(Report::MailDetailAtp, hour(60), &[]);
    let mut collector = setting.start();
    let line = collector
        .wait_for("cannot be had from this report", PATIENCE)
        .await
        .unwrap();
    assert!(line.contains("ERROR") && line.contains("cap"), "{line}");
    setting
        .until_committed(&collector, &[Report::MailDetailAtp], hour(34))
        .await;
    stop(&mut collector).await;
    setting.expect_exactly(&setting.service.served(), &collector);
    let whole = setting.existing(Report::MailDetailAtp, hour(60), hour(36));
    assert_eq!(compare(&whole, &setting.relay.records()).missing, 0);
    assert!(
        !collector.log_with("the window is halved").is_empty(),
        "{}",
        log(&collector)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_walk_that_is_cut_off_after_a_thousand_pages_halves_the_window() {
    let options = Options {
        page_rows: 4,
        ..Options::default()
    };
    let setting = Setting::with(options, |_| {}).await;
    // 1,500 pages in the first window.
    let (from, to) = (setting.ago(30), setting.ago(29));
    setting.rows(Report::MessageTrace, from, to, 6_000);
    setting.configure_one(Report::MessageTrace, from, &[]);
    let mut collector = setting.start();
    setting.finish(&mut collector, from, to).await;
    let pages = setting.service.requests_for(Report::MessageTrace);
    assert!(pages.iter().any(|request| request.page == 1_000));
    assert!(
        !collector
            .log_with("at a cap: the window is halved")
            .is_empty(),
        "{}",
        log(&collector)
    );
}

/// Collects a young hour of ten pages while rows come and go behind any of them, in a first walk and in a second.
#[expect(clippy::print_stderr, reason = "a test shows it where it fails")]
async fn restless(seed: u64) {
    eprintln!("seed {seed}");
    let options = Options {
        page_rows: 100,
        ..Options::default()
    };
    let setting = Setting::with(options, |_| {}).await;
    let (from, to) = (setting.ago(3), setting.ago(2));
    setting.rows(Report::MessageTrace, from, to, 1_000);
    let mut chance = StdRng::seed_from_u64(seed);
    let (mut come, mut gone) = (0, 0);
    for _ in 0..2 {
        for page in 1..=10 {
            let position = chance.random_range(0..=1_000);
            let fault = match chance.random_range(0..4) {
                0 | 1 => Fault::LateRow { position },
                2 => Fault::VanishingRow { position },
                _ => Fault::Delay(std::time::Duration::ZERO),
            };
            come += u64::from(matches!(fault, Fault::LateRow { .. }));
            gone += u64::from(matches!(fault, Fault::VanishingRow { .. }));
            let when = When::Page { page, times: 1 };
            setting.service.fault(Report::MessageTrace, when, fault);
        }
    }
    let delay = [("override_time_delay_in_seconds", "60")];
    setting.configure_one(Report::MessageTrace, from, &delay);
    let mut collector = setting.start();
    setting.stop_at(&mut collector, to).await;
    let expected = setting.existing(Report::MessageTrace, from, to);
    assert!(expected.total() >= 1_000 + come - gone, "rows have come");
    // A row that has gone may have been delivered before, and is none of what there is.
    setting.expect_once(&expected, gone, &collector);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_come_and_go_at_any_place_of_a_walk_hide_no_other() {
    for _ in 0..4 {
        restless(rand::random()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_was_asked_for_ahead_and_had_to_wait_is_asked_for_anew() {
    let setting = Setting::new().await;
    let (from, middle, to) = (setting.ago(30), setting.ago(29), setting.ago(28));
    setting.rows(Report::MessageTrace, from, to, 20);
    setting.relay.always(Behaviour::ResetOnEnd);
    setting.configure_one(Report::MessageTrace, from, &[]);
    let mut collector = setting.start();
    let of_the_second_hour = || {
        let requests = setting.service.requests_for(Report::MessageTrace);
        let second = |request: &&Request| request.range.is_some_and(|range| range.0 >= middle);
        requests.iter().filter(second).count()
    };
    let begun = Instant::now();
    while of_the_second_hour() == 0 {
        assert!(begun.elapsed() < PATIENCE, "{}", log(&collector));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let late = Row::sample(Report::MessageTrace, middle + TimeDelta::minutes(30), 1_000);
    setting.service.insert(Report::MessageTrace, late);
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(
        of_the_second_hour(),
        1,
        "it is asked for once while the relay is away"
    );
    setting.relay.always(Behaviour::Normal);
    setting.stop_at(&mut collector, to).await;
    let expected = setting.existing(Report::MessageTrace, from, to);
    assert_eq!(expected.total(), 21);
    let verdict = setting.verdict(&expected);
    assert_eq!(verdict.missing, 0, "{verdict}\n{}", log(&collector));
}
