//! Taking over from the original: its state files in the folder tell where the services begin that have no state of ours.

use std::fs::{self, File};
use std::path::PathBuf;

use chrono::{DateTime, TimeDelta, Utc};
use testkit::collector::{Collector, Config, Output};
use testkit::report::Report;

use crate::setting::{PATIENCE, Setting, log, program, stop};

const DELAY: (&str, &str) = ("override_time_delay_in_seconds", "86400");
const PERIOD: (&str, &str) = ("request_period_in_seconds", "1");
const SAID: &str = "the original collector's files lie in the state folder";

/// What the original leaves: a pickle for each service, by the hash of its name.
fn leave(setting: &Setting, number: u8, written: DateTime<Utc>) -> PathBuf {
    let file = setting
        .folder
        .state()
        .join(format!("d41d8cd98f00b204e9800998ecf84{number:03}"));
    fs::write(&file, b"\x80\x04}\x94.").unwrap();
    let opened = File::options().append(true).open(&file).unwrap();
    opened.set_modified(written.into()).unwrap();
    file
}

/// Message traces of six hours, of which the original has collected a part; two of its services stopped an hour apart.
async fn setting() -> (Setting, [PathBuf; 2], DateTime<Utc>) {
    let setting = Setting::new().await;
    setting.rows(Report::MessageTrace, setting.ago(30), setting.ago(24), 600);
    let files = [
        leave(&setting, 1, setting.ago(2)),
        leave(&setting, 2, setting.ago(3)),
    ];
    let begin = setting.ago(3) - TimeDelta::hours(24) - TimeDelta::minutes(10);
    (setting, files, begin)
}

async fn run_to_the_end(setting: &Setting) -> Collector {
    let mut collector = setting.start();
    collector.wait_for("collecting", PATIENCE).await.unwrap();
    setting.stop_at(&mut collector, setting.ago(24)).await;
    collector
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_begin_where_the_original_stopped_and_say_so_once() {
    let (setting, files, begin) = setting().await;
    setting.configure(
        setting
            .input()
            .service(Report::MessageTrace, &[DELAY, PERIOD]),
    );
    let collector = run_to_the_end(&setting).await;
    let said = collector.log_with(SAID);
    let start = begin.format("start=\"%Y-%m-%d %H:%M:%S UTC\"").to_string();
    assert!(
        said.len() == 1 && said[0].contains("WARN") && said[0].contains(&start),
        "no {start} in\n{}",
        log(&collector)
    );
    assert!(said[0].contains("files=2"), "{}", said[0]);

    let collector = run_to_the_end(&setting).await;
    assert!(collector.log_with(SAID).is_empty(), "{}", log(&collector));
    let expected = setting.existing(Report::MessageTrace, begin, setting.ago(24));
    setting.expect_exactly(&expected, &collector);
    // The way back to the original stays open.
    for (file, written) in files.iter().zip([setting.ago(2), setting.ago(3)]) {
        assert_eq!(fs::read(file).unwrap(), b"\x80\x04}\x94.");
        let modified = fs::metadata(file).unwrap().modified().unwrap();
        assert_eq!(DateTime::<Utc>::from(modified), written);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_time_goes_before_what_the_original_left() {
    let (setting, _, _) = setting().await;
    let start = setting.ago(29);
    setting.configure_one(Report::MessageTrace, start, &[DELAY]);
    let collector = run_to_the_end(&setting).await;
    assert!(collector.log_with(SAID).is_empty(), "{}", log(&collector));
    let expected = setting.existing(Report::MessageTrace, start, setting.ago(24));
    setting.expect_exactly(&expected, &collector);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_in_memory_begins_there_and_check_says_so() {
    let (setting, _, begin) = setting().await;
    let input = setting
        .input()
        .service(Report::MessageTrace, &[DELAY, PERIOD]);
    let yaml = Config::new(input, Output::relay(setting.relay.port())).yaml();
    let check = |collector: &Collector| {
        let said = collector.log_with(SAID);
        let start = begin.format("start=\"%Y-%m-%d %H:%M:%S UTC\"").to_string();
        assert!(
            said.len() == 1 && said[0].contains(&start),
            "no {start} in\n{}",
            log(collector)
        );
    };
    let memory = yaml.replace("type: filesystem", "type: memory");
    for (yaml, options) in [(&yaml, &["--no-save-state"][..]), (&memory, &[])] {
        setting.folder.configure_raw(yaml).unwrap();
        let mut collector = Collector::start_with(program(), &setting.folder, |command| {
            command.args(options);
        })
        .unwrap();
        let expected = setting.existing(Report::MessageTrace, begin, setting.ago(24));
        collector.wait_for(SAID, PATIENCE).await.unwrap();
        setting.until_read(&expected, &collector).await;
        stop(&mut collector).await;
        check(&collector);

        let mut command = Collector::start_with(program(), &setting.folder, |command| {
            command.args(options).arg("check");
        })
        .unwrap();
        command.wait(PATIENCE).await.unwrap();
        let told = command.output().join("\n");
        for expected in ["is kept in memory", "less the delay and ten minutes: 1;"] {
            assert!(told.contains(expected), "no {expected} in\n{told}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_reset_begins_there_again() {
    let (setting, _, begin) = setting().await;
    let service = |options: &[(&str, &str)]| setting.input().service(Report::MessageTrace, options);
    setting.configure(service(&[DELAY, PERIOD]));
    run_to_the_end(&setting).await;

    setting.configure(service(&[DELAY, PERIOD, ("reset_persistence_auth", "1")]));
    let mut collector = setting.start();
    collector.wait_for(SAID, PATIENCE).await.unwrap();
    stop(&mut collector).await;
    let start = begin.format("start=\"%Y-%m-%d %H:%M:%S UTC\"").to_string();
    for said in ["the state is cleared", SAID] {
        let said = collector.log_with(said);
        assert!(
            said.len() == 1 && said[0].contains(&start),
            "no {start} in\n{}",
            log(&collector)
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_and_a_reset_tell_where_services_begin() {
    let (setting, _, begin) = setting().await;
    let service = |options: &[(&str, &str)]| {
        let start = setting.ago(1).format("%Y-%m-%dT%H:%M:%SZ").to_string();
        let other = [("start_time", start.as_str())];
        let input = setting.input().service(Report::MessageTrace, options);
        input.service(Report::MailDetailAtp, &other)
    };
    let config = Config::new(service(&[DELAY]), Output::relay(setting.relay.port()));
    setting.folder.configure(&config).unwrap();
    let told = async |arguments: &[&str]| {
        let mut command = Collector::start_with(program(), &setting.folder, |command| {
            command.args(arguments);
        })
        .unwrap();
        let ended = command.wait(PATIENCE).await.unwrap();
        let told = command.output().join("\n");
        assert_eq!(ended.code, Some(0), "{told}\n{}", log(&command));
        told
    };
    let text = |instant: DateTime<Utc>| instant.format("%Y-%m-%dT%H:%M:%SZ").to_string();
    let checked = told(&["check"]).await;
    let expected = format!(
        "warning: the original collector's files lie there, written from {} to {}; services that begin at the first of these times, less \
         the delay and ten minutes: 1;",
        text(setting.ago(3)),
        text(setting.ago(2))
    );
    assert!(checked.contains(&expected), "no {expected} in\n{checked}");

    let mut collector = setting.start();
    collector.wait_for("collecting", PATIENCE).await.unwrap();
    stop(&mut collector).await;
    let reset = told(&["state", "reset", Report::MessageTrace.service()]).await;
    let expected = format!(
        "at {}, as the original collector's files in the state folder say",
        text(begin)
    );
    assert!(reset.contains(&expected), "no {expected} in\n{reset}");
}
