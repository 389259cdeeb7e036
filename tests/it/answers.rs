//! Every way in which the reporting service is known to fail: nothing is lost, nothing comes twice, and the log says what to do.

use std::time::Duration;

use testkit::report::Report;
use testkit::service::{Fault, RetryAfter, When};

use crate::setting::{PATIENCE, Setting, log, stop};

/// Five pages and a bit, so that a walk has a middle.
const ROWS: u32 = 9_000;

/// More than the collector ever holds, whatever comes (an unoptimised build's code included).
const MEMORY_MAX_KIB: u64 = 128 << 10;

/// Collects message traces of four hours while faults hit; returns the log.
async fn collect(faults: &[(When, Fault)]) -> Vec<String> {
    let setting = Setting::new().await;
    let from = setting.ago(30);
    let to = setting.ago(26);
    setting.rows(Report::MessageTrace, from, to, ROWS);
    for (when, fault) in faults {
        setting
            .service
            .fault(Report::MessageTrace, *when, fault.clone());
    }
    setting.configure_one(Report::MessageTrace, from, &[]);
    let mut collector = setting.start();
    setting
        .until_committed(&collector, &[Report::MessageTrace], to)
        .await;
    let peak = collector.resident_peak_kib().unwrap();
    stop(&mut collector).await;
    assert!(peak < MEMORY_MAX_KIB, "{peak} KiB at most");
    let expected = setting.existing(Report::MessageTrace, from, to);
    assert!(
        expected.total() >= u64::from(ROWS),
        "late rows count as well"
    );
    setting.expect_exactly(&expected, &collector);
    let hit = setting
        .service
        .requests()
        .iter()
        .filter(|request| request.fault.is_some())
        .count();
    assert!(hit >= faults.len(), "only {hit} requests were hit");
    collector.log()
}

/// The fault hits the first request, a page in the middle of a walk, and the page after that.
async fn survive(fault: Fault) -> Vec<String> {
    let middle = When::Page { page: 2, times: 1 };
    let after = When::Page { page: 3, times: 1 };
    collect(&[
        (When::Next(1), fault.clone()),
        (middle, fault.clone()),
        (after, fault),
    ])
    .await
}

fn expect(log: &[String], text: &str) {
    assert!(
        log.iter().any(|line| line.contains(text)),
        "no {text:?} in\n{}",
        log.join("\n")
    );
}

macro_rules! survived {
    ($($name:ident: $fault:expr;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let log = survive($fault).await;
            expect(&log, "WARN");
        }
    )*};
}

survived! {
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
    a_body_that_is_too_large_halves_the_window: Fault::BigBody { bytes: 260 << 20, announced: true };
    a_body_without_a_length_that_is_too_large_halves_the_window: Fault::BigBody { bytes: 260 << 20, announced: false };
    a_gzip_bomb_halves_the_window: Fault::GzipBomb { bytes: 300 << 20 };
    a_json_null_with_status_200_is_no_empty_result: Fault::Answer {
        status: 200, content_type: "application/json".to_owned(), body: "null".to_owned(),
    };
    an_error_object_with_status_200_is_no_empty_result: Fault::Answer {
        status: 200, content_type: "application/json".to_owned(),
        body: r#"{"odata.error":{"code":"","message":{"lang":"en-US","value":"data mart"}}}"#.to_owned(),
    };
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_but_right_answers_are_taken_as_they_are() {
    for fault in [
        Fault::PrettyPrinted,
        Fault::ContentType("text/plain".to_owned()),
        Fault::ByteOrderMark,
    ] {
        let log = collect(&[(When::Always, fault)]).await;
        assert!(
            !log.iter().any(|line| line.contains("asking failed")),
            "{}",
            log.join("\n")
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_repeats_restarts_the_walk() {
    let log = collect(&[(When::Page { page: 1, times: 1 }, Fault::RepeatedLink)]).await;
    expect(&log, "walked again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_refused_for_ever_restarts_the_walk() {
    let log = collect(&[(When::Page { page: 1, times: 1 }, Fault::RefusedLink)]).await;
    expect(&log, "walked again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_to_another_origin_is_refused() {
    let link = Fault::ForeignLink("http://127.0.0.1:1".to_owned());
    let log = collect(&[(When::Page { page: 1, times: 1 }, link)]).await;
    expect(&log, "origin");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_rejected_in_mid_walk_is_renewed_once() {
    let log = collect(&[(When::Page { page: 2, times: 1 }, Fault::RevokeTokens)]).await;
    assert!(
        !log.iter().any(|line| line.contains("ERROR")),
        "{}",
        log.join("\n")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_rows_between_pages_are_collected_and_shifted_ones_do_not_come_twice() {
    for position in [0, 1, 1_999, 2_000, 2_500] {
        collect(&[(
            When::Page { page: 1, times: 1 },
            Fault::LateRow { position },
        )])
        .await;
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
        .fault(Report::MessageTrace, When::Next(1), fault);
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
    let (from, to) = (setting.ago(30), setting.ago(26));
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
            to - chrono::TimeDelta::hours(1),
        )
        .await;
    stop(&mut collector).await;
    // What was asked for when it was stopped need not have arrived.
    for report in [Report::MessageTrace, Report::MailDetailAtp] {
        let verdict =
            setting.verdict(&setting.existing(report, from, to - chrono::TimeDelta::hours(2)));
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
        gaps.max() >= Some(chrono::TimeDelta::milliseconds(2_500)),
        "{after:?}"
    );
    let whole = requests[requests.len() - 1].time - requests[0].time;
    let most = 4.0 * whole.as_seconds_f64() + 3.0;
    let count = u32::try_from(requests.len()).unwrap();
    assert!(f64::from(count) <= most, "{count} requests in {whole}");
}
