//! A service that takes its time: requests go side by side, within their bounds, and a report that hangs slows no other.

use std::time::{Duration, Instant};

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use testkit::collector::Input;
use testkit::report::Report;
use testkit::service::{Fault, Options, When, busiest_second, most_in_flight};

use crate::setting::{PATIENCE, Setting, log, stop};

/// What the service needs for a page.
const LATENCY: Duration = Duration::from_millis(300);

/// `concurrent_requests` where it is left out.
const CONCURRENT: usize = 4;

/// Rows of an hour of message traces: nearly a page.
const ROWS_OF_AN_HOUR: u32 = 60;

async fn slow_service(latency: Duration, page_rows: usize) -> Setting {
    let options = Options {
        latency,
        page_rows,
        ..Options::default()
    };
    Setting::with(options, |_| {}).await
}

/// Collects so many hours of message traces, a page each, and tells what it took from the first request on.
async fn collect(hours: u32, change: impl FnOnce(Input) -> Input) -> (Setting, Duration) {
    let setting = slow_service(LATENCY, ROWS_OF_AN_HOUR as usize + 10).await;
    let (from, to) = (setting.ago(26 + i64::from(hours)), setting.ago(25));
    setting.rows(Report::MessageTrace, from, to, hours * ROWS_OF_AN_HOUR);
    let input = setting.input();
    setting.configure(change(input.service_from(Report::MessageTrace, from, &[])));
    let mut collector = setting.start();
    setting
        .until_committed(&collector, &[Report::MessageTrace], to)
        .await;
    let end = Utc::now();
    stop(&mut collector).await;
    let expected = setting.existing(Report::MessageTrace, from, to);
    setting.expect_exactly(&expected, &collector);
    let requests = setting.service.requests_for(Report::MessageTrace);
    let pages = requests.len();
    assert!(pages >= hours as usize * 8 / 10, "{pages} pages");
    let took = (end - requests[0].time).to_std().unwrap();
    (setting, took)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_asked_for_side_by_side() {
    let hours = 80;
    let (setting, took) = collect(hours, |input| input).await;
    let one_by_one = LATENCY * hours;
    assert!(
        took <= one_by_one.mul_f64(0.4),
        "{took:?}, one by one {one_by_one:?}"
    );
    let most = most_in_flight(&setting.service.requests());
    assert!((2..=CONCURRENT + 1).contains(&most), "{most} at once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_number_of_requests_at_once_is_bounded() {
    for concurrent in [1, 8] {
        let bound = concurrent.to_string();
        let change = |input: Input| input.option("concurrent_requests", &bound);
        let (setting, _) = collect(30, change).await;
        let most = most_in_flight(&setting.service.requests());
        // One of the service's own, and so many beyond.
        assert!(most <= concurrent + 1, "{most} at once for {concurrent}");
        assert!(most > 1, "{most} at once for {concurrent}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limiter_stays_the_limit() {
    let change = |input: Input| input.option("requests_per_second", "10");
    let (setting, _) = collect(60, change).await;
    let requests = setting.service.requests_for(Report::MessageTrace);
    // A busy machine may take two in late.
    let busiest = busiest_second(&requests);
    assert!(busiest <= 12, "{busiest} in a second");
    let whole = requests[requests.len() - 1].time - requests[0].time;
    let most = 10.0 * whole.as_seconds_f64() + 3.0;
    let count = u32::try_from(requests.len()).unwrap();
    assert!(f64::from(count) <= most, "{count} requests in {whole}");
    let at_once = most_in_flight(&requests);
    assert!(at_once > 1, "as many as the limiter lets: {at_once}");
}

/// Collects four days of all eight reports; how long the others take, where one of them fails so.
async fn others(ill: Report, fault: Option<Fault>) -> Duration {
    let setting = slow_service(Duration::from_millis(100), 2_000).await;
    let midnight = |days| {
        let instant = setting.now - TimeDelta::days(days);
        instant.duration_trunc(TimeDelta::days(1)).unwrap()
    };
    let (from, to): (DateTime<Utc>, DateTime<Utc>) = (midnight(6), midnight(2));
    for report in Report::ALL {
        setting.rows(report, from, to, 2_000);
    }
    if let Some(fault) = fault {
        setting.service.fault(ill, When::Always, fault);
    }
    setting.configure(setting.input().all_services_from(from, &[]));
    let mut others = Report::ALL.to_vec();
    others.retain(|report| *report != ill);
    let begun = Instant::now();
    let mut collector = setting.start();
    setting.until_committed(&collector, &others, to).await;
    let took = begun.elapsed();
    let most = most_in_flight(&setting.service.requests());
    assert!(
        most <= CONCURRENT + Report::ALL.len(),
        "{most} at once\n{}",
        log(&collector)
    );
    // A request that hangs is given up at once.
    let ended = collector.stop(PATIENCE).await.unwrap();
    assert_eq!(ended.code, Some(0), "{}", log(&collector));
    for report in others {
        let verdict = setting.verdict(&setting.existing(report, from, to));
        assert_eq!(verdict.missing, 0, "{report}: {verdict}");
    }
    took
}

/// With one report ill the others take no longer than without it, but for what a busy machine makes of it.
async fn check(ill: Report, fault: Fault) {
    let well = others(ill, None).await;
    let took = others(ill, Some(fault.clone())).await;
    let most = well.mul_f64(1.4) + Duration::from_secs(1);
    assert!(took <= most, "{fault:?}: {took:?}, {well:?} with all well");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_hangs_slows_no_other() {
    check(Report::MessageTrace, Fault::Stall).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_whose_bodies_never_end_slows_no_other() {
    let slow = Fault::SlowBody {
        bytes_per_second: 10,
    };
    check(Report::MailDetailAtp, slow).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_is_retired_slows_no_other() {
    check(Report::MailTraffic, Fault::NotFound).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_fails_for_good_slows_no_other() {
    check(Report::DlpDetail, Fault::ServerError).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_is_busy_for_good_slows_no_other() {
    check(Report::DlpDetections, Fault::Busy(None)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_is_forbidden_slows_no_other() {
    check(Report::SpoofMail, Fault::Forbidden).await;
}
