//! Every way in which the reporting service is known to fail: nothing is lost, nothing comes twice, and the log says what to do.

use std::time::Duration;

use chrono::TimeDelta;
use testkit::report::Report;
use testkit::service::{Fault, RetryAfter, When};

use crate::setting::{PATIENCE, Setting, log, stop};

/// Five pages of 2,000 and a bit, where they are of one hour; below the cap of `MailDetailATP`.
const ROWS: u32 = 9_000;

/// More than the collector ever holds, whatever comes (an unoptimised build's code included).
const MEMORY_MAX_KIB: u64 = 128 << 10;

/// A report whose windows are as long as they have to be for one page, fetched side by side.
const WINDOWS: Report = Report::MessageTrace;

/// A report by the hour: what there is of one hour is one window, which has several pages.
const PAGES: Report = Report::MailDetailAtp;

/// Collects four hours of windows of one page, and one hour of several pages, while faults hit; returns the log.
async fn collect(faults: &[(Report, When, Fault)]) -> Vec<String> {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(30), setting.ago(25));
    // The last hour that is due, so that faults hit no window behind it.
    let hour = setting.hour_ago(26);
    let next_hour = hour + TimeDelta::hours(1);
    setting.rows(WINDOWS, from, to, ROWS);
    setting.rows(PAGES, hour, next_hour, ROWS);
    for (report, when, fault) in faults {
        setting.service.fault(*report, *when, fault.clone());
    }
    let input = setting.input().service_from(WINDOWS, from, &[]);
    setting.configure(input.service_from(PAGES, hour, &[]));
    let mut collector = setting.start();
    setting.until_committed(&collector, &[WINDOWS], to).await;
    setting
        .until_committed(&collector, &[PAGES], next_hour)
        .await;
    let peak = collector.resident_peak_kib().unwrap();
    stop(&mut collector).await;
    assert!(peak < MEMORY_MAX_KIB, "{peak} KiB at most");
    let mut expected = setting.existing(WINDOWS, from, to);
    expected.extend(&setting.existing(PAGES, hour, next_hour));
    assert!(
        expected.total() >= u64::from(ROWS) * 2,
        "late rows count as well"
    );
    setting.expect_exactly(&expected, &collector);
    let requests = setting.service.requests();
    let hit = requests.iter().filter(|request| request.fault.is_some());
    let hit = hit.count();
    assert!(hit >= faults.len(), "only {hit} requests were hit");
    collector.log()
}

/// The fault hits the first request of each report; then two windows, and in an hour a page in the middle and the one after it.
async fn survive(fault: Fault) -> Vec<String> {
    let after = |passed| When::After { passed, times: 1 };
    let page = |page| When::Page { page, times: 1 };
    let faults = [
        (WINDOWS, When::Next(1)),
        (WINDOWS, after(2)),
        (WINDOWS, after(5)),
        (PAGES, When::Next(1)),
        (PAGES, page(2)),
        (PAGES, page(3)),
    ];
    collect(&faults.map(|(report, when)| (report, when, fault.clone()))).await
}

fn expect(log: &[String], text: &str) {
    assert!(
        log.iter().any(|line| line.contains(text)),
        "no {text:?} in\n{}",
        log.join("\n")
    );
}

macro_rules! survived {
    ($survive:ident, $words:literal; $($name:ident: $fault:expr;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let log = $survive($fault).await;
            expect(&log, $words);
        }
    )*};
}

survived! { survive, "WARN";
    a_bare_503_backs_off: Fault::Busy(None);
    a_500_is_asked_again: Fault::ServerError;
    a_429_with_seconds_waits: Fault::Throttled(Some(RetryAfter::Seconds(1)));
    a_429_with_a_date_waits: Fault::Throttled(Some(RetryAfter::Date(Duration::from_secs(2))));
    a_503_with_retry_after_waits: Fault::Busy(Some(RetryAfter::Seconds(1)));
    an_html_page_with_status_200_is_no_empty_result: Fault::SignInPage;
    a_service_fault_with_status_500_is_asked_again: Fault::ServiceFault { status: 500 };
    a_service_fault_with_status_200_is_no_empty_result: Fault::ServiceFault { status: 200 };
    a_body_cut_short_is_asked_again: Fault::CutBody;
    a_chunked_body_cut_short_is_asked_again: Fault::CutChunked;
    json_that_ends_early_is_asked_again: Fault::EndsEarly;
    a_gzip_stream_cut_short_is_asked_again: Fault::CutGzip;
    a_reset_before_the_headers_is_asked_again: Fault::ResetBeforeHeaders;
    a_reset_in_the_body_is_asked_again: Fault::ResetAfterHeaders;
    please_wait_a_few_minutes_is_asked_again: Fault::CannotProcess { status: 500 };
    please_wait_with_status_200_is_no_empty_result: Fault::CannotProcess { status: 200 };
    a_redirect_elsewhere_is_not_followed: Fault::Redirect("https://login.example.invalid/".to_owned());
    a_json_null_with_status_200_is_no_empty_result: Fault::Answer {
        status: 200, content_type: "application/json".to_owned(), body: "null".to_owned(),
    };
    an_error_object_with_status_200_is_no_empty_result: Fault::Answer {
        status: 200, content_type: "application/json".to_owned(),
        body: r#"{"odata.error":{"code":"","message":{"lang":"en-US","value":"data mart"}}}"#.to_owned(),
    };
}

/// As much is sent only a few times: it takes a while to make.
async fn survive_much(fault: Fault) -> Vec<String> {
    let after = When::After {
        passed: 5,
        times: 1,
    };
    let page = When::Page { page: 2, times: 1 };
    let faults = [(WINDOWS, When::Next(1)), (WINDOWS, after), (PAGES, page)];
    collect(&faults.map(|(report, when)| (report, when, fault.clone()))).await
}

survived! { survive_much, "the window is shortened";
    a_body_that_is_too_large_halves_the_window: Fault::BigBody { bytes: 260 << 20, announced: true };
    a_body_without_a_length_that_is_too_large_halves_the_window: Fault::BigBody { bytes: 260 << 20, announced: false };
    a_gzip_bomb_halves_the_window: Fault::GzipBomb { bytes: 300 << 20 };
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_but_right_answers_are_taken_as_they_are() {
    for fault in [
        Fault::PrettyPrinted,
        Fault::ContentType("text/plain".to_owned()),
        Fault::ByteOrderMark,
    ] {
        let faults = [WINDOWS, PAGES].map(|report| (report, When::Always, fault.clone()));
        let log = collect(&faults).await;
        assert!(
            !log.iter().any(|line| line.contains("fetching failed")),
            "{}",
            log.join("\n")
        );
    }
}

/// The first request finds out that an hour has several pages; further ones of its first page are of its walks.
fn first_page_of_the_walk(fault: Fault) -> [(Report, When, Fault); 1] {
    [(PAGES, When::Page { page: 1, times: 3 }, fault)]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_repeats_restarts_the_walk() {
    let log = collect(&first_page_of_the_walk(Fault::RepeatedLink)).await;
    expect(&log, "walked again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_refused_for_ever_restarts_the_walk() {
    let log = collect(&first_page_of_the_walk(Fault::RefusedLink)).await;
    expect(&log, "walked again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_to_another_origin_is_refused() {
    let link = Fault::ForeignLink("http://127.0.0.1:1".to_owned());
    let log = collect(&[(PAGES, When::Page { page: 1, times: 1 }, link)]).await;
    expect(&log, "origin");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_rejected_in_mid_walk_is_renewed_once() {
    let page = When::Page { page: 2, times: 1 };
    let window = When::After {
        passed: 2,
        times: 1,
    };
    let faults = [(PAGES, page), (WINDOWS, window)];
    let log = collect(&faults.map(|(report, when)| (report, when, Fault::RevokeTokens))).await;
    assert!(
        !log.iter().any(|line| line.contains("ERROR")),
        "{}",
        log.join("\n")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_rows_between_pages_are_collected_and_shifted_ones_do_not_come_twice() {
    for position in [0, 1, 1_999, 2_000, 2_500] {
        collect(&first_page_of_the_walk(Fault::LateRow { position })).await;
    }
}

/// A refusal is an error with an action, is tried again, and stops no other service.
async fn refused(fault: Fault, action: &str) {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(30), setting.ago(28));
    let rows = 3_000;
    setting.rows(Report::MessageTrace, from, to, rows);
    setting.rows(Report::MailDetailAtp, from, to, rows);
    setting
        .service
        .fault(Report::MessageTrace, When::Always, fault);
    setting.configure(
        setting
            .input()
            .service_from(Report::MessageTrace, from, &[])
            .service_from(Report::MailDetailAtp, from, &[]),
    );
    let mut collector = setting.start();
    let line = collector.wait_for("refused", PATIENCE).await.unwrap();
    assert!(
        line.contains("ERROR") && line.contains(action) && line.contains("request_id"),
        "{line}"
    );
    let hours = setting.existing(Report::MailDetailAtp, from, setting.ago(29));
    setting.until_read(&hours, &collector).await;
    assert_eq!(
        setting.relay.records().total_of(Report::MessageTrace),
        0,
        "{}",
        log(&collector)
    );
    setting.service.heal();
    setting.stop_at(&mut collector, to).await;
    assert_eq!(
        collector.log_with("refused;").len(),
        1,
        "an operator is told once"
    );
    setting.expect_exactly(&setting.service.served(), &collector);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_400_is_for_an_operator() {
    refused(Fault::BadRequest, "action").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_403_names_the_missing_right_and_the_others_go_on() {
    refused(Fault::Forbidden, "action").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_404_tells_of_a_retired_report_and_the_others_go_on() {
    refused(Fault::NotFound, "retired").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_directory_role_is_named_and_found_once_granted() {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(30), setting.ago(28));
    setting.rows(Report::MessageTrace, from, to, 1_000);
    setting
        .service
        .adjust(|options| options.access.has_role = false);
    setting.configure_one(Report::MessageTrace, from, &[]);
    let mut collector = setting.start();
    let line = collector.wait_for("refused", PATIENCE).await.unwrap();
    assert!(line.contains("role"), "{line}");
    setting
        .service
        .adjust(|options| options.access.has_role = true);
    setting.stop_at(&mut collector, to).await;
    setting.expect_exactly(&setting.service.served(), &collector);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn throttling_pauses_all_services_of_the_tenant() {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(30), setting.ago(25));
    for report in [Report::MessageTrace, Report::MailDetailAtp] {
        setting.rows(report, from, to, 4_000);
    }
    let pause = Fault::Throttled(Some(RetryAfter::Seconds(4)));
    setting.service.fault(
        Report::MessageTrace,
        When::After {
            passed: 1,
            times: 1,
        },
        pause,
    );
    let input = setting
        .input()
        .service_from(Report::MessageTrace, from, &[])
        .service_from(Report::MailDetailAtp, from, &[]);
    // Slow enough that both are at it when the pause comes.
    setting.configure(input.option("requests_per_second", "4"));
    let mut collector = setting.start();
    setting
        .until_committed(
            &collector,
            &[Report::MessageTrace, Report::MailDetailAtp],
            to - TimeDelta::hours(1),
        )
        .await;
    stop(&mut collector).await;
    // What was asked for when it was stopped need not have arrived.
    for report in [Report::MessageTrace, Report::MailDetailAtp] {
        let verdict = setting.verdict(&setting.existing(report, from, to - TimeDelta::hours(2)));
        assert_eq!((verdict.missing, verdict.twice), (0, 0), "{verdict}");
    }
    let requests: Vec<_> = setting
        .service
        .requests()
        .into_iter()
        .filter(|request| request.report.is_some())
        .collect();
    let throttled = requests
        .iter()
        .position(|request| request.status == 429)
        .unwrap();
    // One request may have been on its way already; the machine may be slow to take the answer in.
    let after: Vec<_> = requests[throttled..]
        .iter()
        .take(4)
        .map(|request| request.time)
        .collect();
    let gaps = after.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(
        gaps.max() >= Some(TimeDelta::milliseconds(2_500)),
        "{after:?}"
    );
    let whole = requests[requests.len() - 1].time - requests[0].time;
    let most = 4.0 * whole.as_seconds_f64() + 3.0;
    let count = u32::try_from(requests.len()).unwrap();
    assert!(f64::from(count) <= most, "{count} requests in {whole}");
}
