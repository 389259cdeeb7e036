//! Empty answers: one between dense windows is doubted, one at the end of what Microsoft keeps is no proof, any other is believed.

use std::process::{Command, Stdio};

use chrono::{DurationRound, TimeDelta};
use testkit::report::Report;
use testkit::service::{Fault, TooOld, When};

use crate::setting::{Setting, log, program, stop};

/// Collects eight hours of a report, 600 rows each, of which some answers are empty though there are rows.
async fn check(report: Report, when: When) {
    let setting = Setting::new().await;
    let hour = |hours| {
        let instant = setting.ago(hours);
        instant.duration_trunc(TimeDelta::hours(1)).unwrap()
    };
    let (from, to) = (hour(40), hour(32));
    setting.rows(report, from, to, 4_800);
    setting.service.fault(report, when, Fault::NoRows);
    setting.configure_one(report, from, &[]);
    let mut collector = setting.start();
    setting.until_committed(&collector, &[report], to).await;
    stop(&mut collector).await;
    let hit = |request: &testkit::service::Request| request.fault.is_some();
    assert!(setting.service.requests().iter().any(hit));
    let expected = setting.existing(report, from, to);
    setting.expect_exactly(&expected, &collector);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_answer_between_dense_windows_is_doubted() {
    let middle = When::After {
        passed: 3,
        times: 1,
    };
    check(Report::MessageTrace, middle).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_answer_before_dense_windows_is_doubted() {
    check(Report::MessageTrace, When::Next(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_answer_between_dense_hours_is_doubted() {
    let middle = When::After {
        passed: 2,
        times: 1,
    };
    check(Report::MailDetailAtp, middle).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_hour_that_is_really_quiet_is_passed() {
    let setting = Setting::new().await;
    let hour = |hours| {
        let instant = setting.ago(hours);
        instant.duration_trunc(TimeDelta::hours(1)).unwrap()
    };
    let (from, to) = (hour(36), hour(33));
    setting.rows(Report::MessageTrace, from, hour(35), 600);
    setting.rows(Report::MessageTrace, hour(34), to, 600);
    setting.configure_one(Report::MessageTrace, from, &[]);
    let mut collector = setting.start();
    setting.finish(&mut collector, from, to).await;
    let quiet = setting.service.requests_for(Report::MessageTrace);
    let quiet = quiet.iter().filter(|request| request.rows == 0).count();
    assert!(quiet < 40, "asked {quiet} times\n{}", log(&collector));
}

/// What `state show --json` says; the place to adapt to how entries are shown there.
fn entries(setting: &Setting) -> String {
    let output = Command::new(program())
        .args(["state", "show", "--json"])
        .current_dir(setting.folder.path())
        .env_remove("CONFIG_FILE")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    text
}

/// Whether an entry says that nobody knows what a window held.
fn knows_of_unknown(setting: &Setting) -> bool {
    entries(setting).contains("unknown")
}

/// Collects message traces of a day, of whose beginning there is nothing; what becomes of that.
async fn nothing_at(days: i64, too_old: TooOld) -> (Setting, bool) {
    let setting = Setting::new().await;
    setting.service.adjust(|options| options.too_old = too_old);
    let from = setting.ago(days * 24 + 12);
    let (middle, to) = (from + TimeDelta::hours(6), from + TimeDelta::hours(24));
    setting.rows(Report::MessageTrace, middle, to, 300);
    setting.configure_one(Report::MessageTrace, from, &[]);
    let mut collector = setting.start();
    setting.finish(&mut collector, middle, to).await;
    let unknown = knows_of_unknown(&setting);
    (setting, unknown)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_answer_near_the_end_of_the_reach_is_not_counted_as_complete() {
    for too_old in [TooOld::Empty, TooOld::ServerError] {
        let (setting, unknown) = nothing_at(9, too_old).await;
        assert!(unknown, "{}", entries(&setting));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_answer_within_the_reach_is_believed() {
    let (setting, unknown) = nothing_at(5, TooOld::Empty).await;
    assert!(!unknown, "{}", entries(&setting));
}
