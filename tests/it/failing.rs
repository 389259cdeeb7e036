//! A third of all requests fails: all is delivered once, and the failures cost their own retries and nothing else.

use std::time::{Duration, Instant};

use testkit::report::Report;
use testkit::service::{Fault, Options, RetryAfter, When};

use crate::setting::{Setting, stop};

/// Hours of backlog, a page each.
const PAGES: u32 = 120;

/// Few, so that a busy machine is not what is measured.
const ROWS_OF_AN_HOUR: u32 = 60;

/// What a run took, and how many requests failed in it.
struct Run {
    time: Duration,
    failed: u32,
}

/// Collects 120 hours of message traces, a page each; a fault hits when it is told to.
async fn run(fault: Option<(When, Fault)>) -> Run {
    let options = Options {
        page_rows: ROWS_OF_AN_HOUR as usize + 20,
        ..Options::default()
    };
    let setting = Setting::with(options, |_| {}).await;
    let (from, to) = (setting.ago(26 + i64::from(PAGES)), setting.ago(25));
    setting.rows(Report::MessageTrace, from, to, PAGES * ROWS_OF_AN_HOUR);
    if let Some((when, fault)) = fault {
        setting.service.fault(Report::MessageTrace, when, fault);
    }
    setting.configure_one(Report::MessageTrace, from, &[]);
    let begun = Instant::now();
    let mut collector = setting.start();
    setting
        .until_committed(&collector, &[Report::MessageTrace], to)
        .await;
    let time = begun.elapsed();
    stop(&mut collector).await;
    let expected = setting.existing(Report::MessageTrace, from, to);
    setting.expect_exactly(&expected, &collector);
    let requests = setting.service.requests_for(Report::MessageTrace);
    assert!(
        requests.len() >= PAGES as usize * 7 / 10,
        "{}",
        requests.len()
    );
    let failed = requests.iter().filter(|request| request.fault.is_some());
    Run {
        time,
        failed: u32::try_from(failed.count()).unwrap(),
    }
}

/// At most three times the time without failures, and half a second for each failed request.
async fn check_when(when: When, fault: Fault) {
    let quiet = run(None).await;
    let failing = run(Some((when, fault.clone()))).await;
    assert!(failing.failed >= PAGES / 4, "{} failed", failing.failed);
    let most = quiet.time * 3 + Duration::from_millis(500) * failing.failed;
    assert!(
        failing.time <= most,
        "{fault:?}: {:?} with {} failures, {:?} without",
        failing.time,
        failing.failed,
        quiet.time
    );
}

/// A third of all requests fails, by chance: two in a row as well, and three.
async fn check(fault: Fault) {
    let chance = When::Random {
        probability: 0.33,
        seed: 6,
    };
    check_when(chance, fault).await;
}

/// The failures that the service and the way to it are known for.
fn known() -> Fault {
    Fault::Cycle(vec![
        Fault::Busy(None),
        Fault::SignInPage,
        Fault::CutBody,
        Fault::ServerError,
        throttled(),
    ])
}

fn throttled() -> Fault {
    Fault::Throttled(Some(RetryAfter::Seconds(1)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_third_request_failing_costs_its_retries_only() {
    check_when(When::Every(3), known()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_third_of_all_requests_failing_costs_its_retries_only() {
    check(known()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_third_of_all_requests_busy_costs_its_retries_only() {
    check(Fault::Busy(None)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_third_of_all_answers_a_sign_in_page_costs_its_retries_only() {
    check(Fault::SignInPage).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_third_of_all_bodies_cut_short_costs_its_retries_only() {
    check(Fault::CutBody).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_third_of_all_answers_a_500_costs_its_retries_only() {
    check(Fault::ServerError).await;
}

/// A failure here is a pause of a second that the service has asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_tenth_request_throttled_costs_its_pauses_only() {
    let quiet = run(None).await;
    let failing = run(Some((When::Every(10), throttled()))).await;
    assert!(failing.failed >= PAGES / 12, "{} failed", failing.failed);
    let most = quiet.time * 3 + Duration::from_millis(1_500) * failing.failed;
    assert!(
        failing.time <= most,
        "{:?}, {:?} without",
        failing.time,
        quiet.time
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_third_of_all_requests_failing_in_further_ways_costs_its_retries_only() {
    let gateway = Fault::Answer {
        status: 502,
        content_type: "text/html".to_owned(),
        body: "<html>Bad Gateway</html>".to_owned(),
    };
    let faults = vec![
        Fault::EndsEarly,
        Fault::ResetAfterHeaders,
        Fault::ServiceFault { status: 200 },
        Fault::CutGzip,
        Fault::ResetBeforeHeaders,
        gateway,
        Fault::CannotProcess { status: 500 },
    ];
    check(Fault::Cycle(faults)).await;
}
