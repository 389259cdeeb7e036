//! Dry runs: the lines that a relay would get are printed, nothing is delivered, and the state folder stays as it is.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use chrono::TimeDelta;
use testkit::collector::{Collector, Config, Output};
use testkit::records::{Records, compare};
use testkit::relay::{Behaviour, Format, Line, check};
use testkit::report::Report;
use testkit::service::{Fault, When};

use crate::setting::{PATIENCE, Setting, log, program, skip, stop};

const ROWS: u32 = 3_000;

/// Message traces of five hours, all of which are due; none of what is due behind them is expected to have rows.
async fn setting() -> Setting {
    let setting = Setting::new().await;
    setting.rows(Report::MessageTrace, setting.ago(30), setting.ago(25), ROWS);
    setting.configure_one(Report::MessageTrace, setting.ago(30), &[]);
    setting
}

/// All files below a folder: their bytes and their times of change.
fn files(folder: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        let bytes = if metadata.is_dir() {
            files.extend(self::files(&entry.path()));
            vec![]
        } else {
            fs::read(entry.path()).unwrap()
        };
        files.insert(entry.path(), (bytes, metadata.modified().unwrap()));
    }
    files
}

/// Runs it to its own end, and expects that it is a dry one.
async fn run(setting: &Setting, arguments: &[&str]) -> Collector {
    let state = setting.folder.state();
    let (before, connections) = (files(&state), setting.relay.connections().len());
    let mut collector = Collector::start_with(program(), &setting.folder, |command| {
        command.arg("--dry-run").args(arguments);
    })
    .unwrap();
    let ended = collector.wait(PATIENCE).await.unwrap();
    assert_eq!(ended.code, Some(0), "{}", log(&collector));
    assert_eq!(setting.relay.connections().len(), connections);
    assert_eq!(files(&state), before, "the state folder has changed");
    collector
}

/// The records of the lines, each of which has to be of that format.
fn printed(collector: &Collector, format: Format) -> Records {
    let mut records = Records::default();
    for text in collector.output() {
        match check(format, text.as_bytes()).unwrap() {
            Line::Record(report, identity) => records.add(report, identity, None),
            Line::Message(message) => panic!("a message among the records: {message:?}"),
        }
    }
    records
}

fn expect_exactly(expected: &Records, collector: &Collector, format: Format) {
    let verdict = compare(expected, &printed(collector, format));
    assert!(verdict.is_exact(), "{verdict}\n{}", log(collector));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_run_prints_what_the_relay_would_get_and_the_next_one_does_too() {
    let setting = setting().await;
    // A relay is not even needed, nor are its files.
    fs::remove_file(setting.folder.certs().join("collector.key")).unwrap();
    let expected = setting.existing(Report::MessageTrace, setting.ago(30), setting.ago(25));
    for _ in 0..2 {
        let collector = run(&setting, &[]).await;
        expect_exactly(&expected, &collector, Format::Devo);
    }
    let plain = Output::plain("syslog", 1);
    let input = setting
        .input()
        .service_from(Report::MessageTrace, setting.ago(30), &[]);
    let config = Config::new(input, plain).output(Output::console());
    setting.folder.configure(&config).unwrap();
    let collector = run(&setting, &["--no-save-state"]).await;
    expect_exactly(&expected, &collector, Format::Syslog);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_a_running_collector_it_prints_what_is_not_yet_confirmed() {
    // An hour of two pages, the second of which comes so late that the first one is delivered and confirmed by itself.
    let setting = Setting::new().await;
    let report = Report::MailDetailAtp;
    let (from, to) = (setting.hour_ago(26), setting.hour_ago(25));
    setting.rows(report, from, to, ROWS);
    let page = When::Page { page: 2, times: 1 };
    let late = Fault::Delay(Duration::from_secs(15));
    setting.service.fault(report, page, late);
    setting.configure_one(report, from, &[]);
    // The empty delivery, the first one, and then nothing more: the window stays unfinished.
    setting.relay.next_times(2, Behaviour::Normal);
    setting.relay.always(Behaviour::Stall { after: 0 });
    let mut running = setting.start();
    running
        .wait_for("delivery confirmed", PATIENCE)
        .await
        .unwrap();
    while setting.relay.connections().len() < 3 {
        assert!(running.is_running(), "{}", log(&running));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let confirmed = setting.relay.records();
    let all = setting.existing(report, from, to);
    assert!((1..all.total()).contains(&confirmed.total()));
    let collector = run(&setting, &[]).await;
    let mut both = printed(&collector, Format::Devo);
    both.extend(&confirmed);
    let verdict = compare(&all, &both);
    assert!(verdict.is_exact(), "{verdict}\n{}", log(&collector));
    setting.relay.always(Behaviour::Normal);
    setting.relay.release();
    setting.until_committed(&running, &[report], to).await;
    stop(&mut running).await;
    setting.expect_exactly(&all, &running);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_begins_where_the_original_stopped() {
    let setting = setting().await;
    setting.rows(Report::MessageTrace, setting.ago(25), setting.ago(24), 600);
    setting.configure(setting.input().service(
        Report::MessageTrace,
        &[("override_time_delay_in_seconds", "86400")],
    ));
    let file = setting.folder.state().join("0123456789abcdef".repeat(2));
    let written = setting.ago(3);
    File::create(&file)
        .unwrap()
        .set_modified(written.into())
        .unwrap();
    let collector = run(&setting, &[]).await;
    let begin = written - TimeDelta::hours(24) - TimeDelta::minutes(10);
    let expected = setting.existing(Report::MessageTrace, begin, setting.ago(24));
    expect_exactly(&expected, &collector, Format::Devo);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_that_may_not_be_read_is_said_and_a_first_start_is_shown() {
    if !nix::unistd::geteuid().is_root() {
        skip("only root can run the collector as somebody else");
        return;
    }
    let setting = setting().await;
    let mut collector = setting.start();
    setting
        .until_committed(&collector, &[Report::MessageTrace], setting.ago(25))
        .await;
    stop(&mut collector).await;
    fs::set_permissions(setting.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(setting.folder.state(), fs::Permissions::from_mode(0o700)).unwrap();
    let mut collector = Collector::start_with(program(), &setting.folder, |command| {
        command.arg("--dry-run").uid(1000).gid(1000);
    })
    .unwrap();
    let ended = collector.wait(PATIENCE).await.unwrap();
    assert_eq!(ended.code, Some(0), "{}", log(&collector));
    let said = collector.log_with("the state cannot be read");
    assert!(
        said.len() == 1 && said[0].contains("WARN") && said[0].contains("state"),
        "{}",
        log(&collector)
    );
    let expected = setting.existing(Report::MessageTrace, setting.ago(30), setting.ago(25));
    expect_exactly(&expected, &collector, Format::Devo);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_ends_when_nobody_reads_any_more() {
    let setting = setting().await;
    let mut collector = Command::new(program())
        .arg("--dry-run")
        .current_dir(setting.folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    drop(collector.stdout.take());
    let ended = tokio::task::spawn_blocking(move || collector.wait().unwrap());
    let ended = tokio::time::timeout(PATIENCE, ended)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(ended.code(), Some(1));
}
