//! Runs that end by themselves: what is due is collected and confirmed, what does not get on is given up, and the exit status tells which.

use std::fs;
use std::time::Duration;

use chrono::{DateTime, Utc};
use testkit::collector::{Collector, Ended};
use testkit::records::Records;
use testkit::relay::Behaviour;
use testkit::report::Report;
use testkit::service::{Fault, When};

use crate::setting::{PATIENCE, Setting, log, program};

const ROWS: u32 = 3_000;

/// From thirty hours ago until what has settled when the setting was made: no window is empty that others let expect rows in.
fn times(setting: &Setting, report: Report) -> (DateTime<Utc>, DateTime<Utc>) {
    match report {
        Report::MessageTrace => (setting.ago(30), setting.ago(25)),
        _ => (setting.hour_ago(30), setting.hour_ago(25)),
    }
}

/// Message traces and mail details, all of which are due.
async fn setting() -> Setting {
    let setting = Setting::new().await;
    let mut input = setting.input();
    for report in [Report::MessageTrace, Report::MailDetailAtp] {
        let (from, to) = times(&setting, report);
        setting.rows(report, from, to, ROWS);
        input = input.service_from(report, from, &[]);
    }
    setting.configure(input);
    setting
}

fn start(setting: &Setting, arguments: &[&str]) -> Collector {
    Collector::start_with(program(), &setting.folder, |command| {
        command.arg("--once").args(arguments);
    })
    .unwrap()
}

/// Runs it to its own end.
async fn run(setting: &Setting, arguments: &[&str]) -> (Collector, Ended) {
    let mut collector = start(setting, arguments);
    let ended = collector.wait(PATIENCE).await.unwrap();
    (collector, ended)
}

/// Runs it, and expects that everything due has come, in this run or one before, and once.
async fn run_well(setting: &Setting) -> Collector {
    let (collector, ended) = run(setting, &[]).await;
    assert_eq!(ended.code, Some(0), "{}", log(&collector));
    let said = collector.log_with("everything that was due is collected and confirmed");
    assert_eq!(said.len(), 1, "{}", log(&collector));
    let mut expected = Records::default();
    for report in [Report::MessageTrace, Report::MailDetailAtp] {
        let (from, to) = times(setting, report);
        expected.extend(&setting.existing(report, from, to));
    }
    assert_eq!(expected.total(), u64::from(ROWS) * 2);
    setting.expect_exactly(&expected, &collector);
    collector
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_due_is_collected_and_the_next_run_goes_on() {
    let setting = setting().await;
    run_well(&setting).await;
    assert!(setting.cursor(Report::MessageTrace).unwrap() >= setting.ago(25));
    assert!(setting.cursor(Report::MailDetailAtp).unwrap() >= setting.hour_ago(25));
    run_well(&setting).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nothing_is_due_it_ends_well() {
    let setting = Setting::new().await;
    setting.configure(setting.input().service(Report::MessageTrace, &[]));
    let (collector, ended) = run(&setting, &[]).await;
    assert_eq!(ended.code, Some(0), "{}", log(&collector));
    assert!(setting.service.requests().is_empty());
    assert!(setting.cursor(Report::MessageTrace).is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_service_is_given_up_at_once_and_the_others_go_on() {
    let setting = setting().await;
    let target = Report::MailDetailAtp;
    setting
        .service
        .fault(target, When::Always, Fault::Forbidden);
    let (collector, ended) = run(&setting, &[]).await;
    assert_eq!(ended.code, Some(1), "{}", log(&collector));
    // Those that were in flight when the first was refused: one of the service's own, and four of the input's.
    let asked = setting.service.requests_for(target).len();
    assert!((1..=5).contains(&asked), "{asked} requests");
    let errors = collector.log_with("ERROR").join("\n");
    for part in [
        "action",
        "given up: what is due of this service is left for the next run",
        "services that the log tells why: 1",
    ] {
        assert!(errors.contains(part), "no {part:?} in {errors}");
    }
    assert!(setting.cursor(Report::MessageTrace).unwrap() >= setting.ago(25));
    setting.service.heal();
    run_well(&setting).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_to_give_up_after_is_refused_where_no_run_ends() {
    let setting = setting().await;
    let mut collector = Collector::start_with(program(), &setting.folder, |command| {
        command.args(["--give-up-after", "2"]);
    })
    .unwrap();
    let ended = collector.wait(PATIENCE).await.unwrap();
    assert_eq!(ended.code, Some(2), "{}", log(&collector));
    assert_eq!(collector.log_with("--once|--dry-run").len(), 2);
}

/// Expects the run to end with status 1 soon after `--give-up-after` seconds, and the next one to bring what is missing.
async fn given_up_in_time(setting: &Setting, mend: impl FnOnce()) {
    let (collector, ended) = run(setting, &["--give-up-after", "2"]).await;
    assert_eq!(ended.code, Some(1), "{}", log(&collector));
    assert!(
        (2..14).contains(&ended.took.as_secs()),
        "{ended:?}\n{}",
        log(&collector)
    );
    let said = collector.log_with("given up, since nothing has got on for so long");
    assert!(
        !said.is_empty() && said[0].contains("ERROR"),
        "{}",
        log(&collector)
    );
    mend();
    run_well(setting).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_says_nothing_is_given_up() {
    let setting = setting().await;
    setting
        .service
        .fault(Report::MessageTrace, When::Always, Fault::Stall);
    given_up_in_time(&setting, || setting.service.heal()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_fails_again_and_again_is_given_up() {
    let setting = setting().await;
    setting
        .service
        .fault(Report::MessageTrace, When::Always, Fault::ServerError);
    given_up_in_time(&setting, || setting.service.heal()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_is_down_is_given_up() {
    let setting = setting().await;
    setting.relay.always(Behaviour::Refuse);
    given_up_in_time(&setting, || setting.relay.always(Behaviour::Normal)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_stopped_has_not_collected_everything() {
    let setting = setting().await;
    setting
        .service
        .fault(Report::MessageTrace, When::Always, Fault::Stall);
    let mut collector = start(&setting, &[]);
    collector.wait_for("collecting", PATIENCE).await.unwrap();
    let ended = collector.stop(Duration::from_secs(8)).await.unwrap();
    assert_eq!(ended.code, Some(1), "{}", log(&collector));
    let said = collector.log_with("stopped before everything that was due was collected");
    assert_eq!(said.len(), 1, "{}", log(&collector));
    setting.service.heal();
    run_well(&setting).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_whose_state_is_damaged_counts_as_not_collected() {
    let setting = setting().await;
    run_well(&setting).await;
    let file = setting.state_of(Report::MessageTrace).join("cursor");
    let good = fs::read(&file).unwrap();
    fs::write(&file, &good[1..]).unwrap();
    let (collector, ended) = run(&setting, &[]).await;
    assert_eq!(ended.code, Some(1), "{}", log(&collector));
    let said = collector.log_with("this service does not run");
    assert_eq!(said.len(), 1, "{}", log(&collector));
    fs::write(&file, good).unwrap();
    run_well(&setting).await;
}
