//! Readers of the log and of printed records that stop.

use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::pty::openpty;
use testkit::collector::{Collector, Config, Output};
use testkit::records::{Identity, Records};
use testkit::report::Report;

use super::start;
use crate::figures::compared;
use crate::monitoring::get;
use crate::setting::{PATIENCE, Setting, log, printed_records};

/// Waits until the collector is well, as those who watch it see it.
async fn until_healthy(address: SocketAddr) {
    let begun = Instant::now();
    while !matches!(get(address, "/healthz").await, Ok((200, _))) {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until records wait for the output.
async fn until_held_up(address: SocketAddr) {
    let begun = Instant::now();
    loop {
        if let Ok((200, status)) = get(address, "/status").await {
            let status: serde_json::Value = serde_json::from_str(&status).unwrap();
            let waiting = &status["services"][0]["outputs"][0]["unconfirmed_records"];
            if waiting.as_u64().unwrap() > 0 {
                return;
            }
        }
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Stops the collector while its reader does not read.
async fn stop_unread(collector: &mut Collector) {
    let ended = collector.stop(Duration::from_secs(30)).await.unwrap();
    assert_eq!(ended.code, Some(0));
    assert!(ended.took < Duration::from_secs(8), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_of_the_log_that_stops_holds_up_neither_records_nor_health_nor_the_end() {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(60), setting.ago(28));
    setting.rows(Report::MessageTrace, from, to, 10_000);
    let input = setting
        .input()
        .service_from(Report::MessageTrace, from, &[]);
    let output = Output::relay(setting.relay.port());
    let (mut collector, address) = start(&setting, input, output, |command| {
        command.env("RUST_LOG", "trace");
    });
    collector.wait_for("starting", PATIENCE).await.unwrap();
    collector.pause_log(true);
    setting
        .until_committed(&collector, &[Report::MessageTrace], to)
        .await;
    until_healthy(address).await;
    let (status, recent) = get(address, "/log").await.unwrap();
    assert!(
        status == 200 && recent.contains("window delivered"),
        "{recent}"
    );
    stop_unread(&mut collector).await;
    setting.expect_exactly(
        &setting.existing(Report::MessageTrace, from, to),
        &collector,
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_log_has_dropped_is_told_once_its_reader_goes_on() {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(30), setting.ago(28));
    setting.rows(Report::MessageTrace, from, to, 500);
    let input = setting
        .input()
        .service_from(Report::MessageTrace, from, &[]);
    let yaml = Config::new(input, Output::relay(setting.relay.port())).yaml();
    // Each is a warning, and all of them are several times what a pipe and the queue hold.
    let unknown = (0..30_000).map(|number| format!("  unknown_{number}: 1"));
    let unknown: Vec<_> = unknown.collect();
    let yaml = yaml.replacen("globals:", &format!("globals:\n{}", unknown.join("\n")), 1);
    setting.folder.configure_raw(&yaml).unwrap();
    let mut collector = setting.start();
    collector.pause_log(true);
    setting
        .until_committed(&collector, &[Report::MessageTrace], to)
        .await;
    collector.pause_log(false);
    let told = collector.wait_for("are missing here", PATIENCE).await;
    let told = told.unwrap();
    let (_, missing) = told.split_once(" missing=").unwrap();
    let missing: usize = missing.parse().unwrap();
    assert!(told.contains(" WARNING "), "{told}");
    // What follows is there again.
    setting.finish(&mut collector, from, to).await;
    assert_eq!(collector.log_with("-> stopped").len(), 1);
    assert_eq!(collector.log_with("are missing here").len(), 1);
    let warned = collector.log_with("globals.unknown_").len();
    assert!(
        missing > 0 && warned > 0 && warned + missing >= 30_000,
        "{warned} + {missing}"
    );
}

/// Ctrl-S at the terminal of `docker run --interactive --tty`, where all three streams are the terminal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_s_at_a_terminal_holds_up_neither_records_nor_health_nor_the_end() {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(60), setting.ago(28));
    setting.rows(Report::MessageTrace, from, to, 10_000);
    let input = setting
        .input()
        .service_from(Report::MessageTrace, from, &[]);
    let output = Output::relay(setting.relay.port());
    let terminal = openpty(None, None).unwrap();
    let copy = |slave: &OwnedFd| slave.try_clone().unwrap();
    // As Ctrl-S, before anything is written.
    File::from(copy(&terminal.master))
        .write_all(b"\x13")
        .unwrap();
    let (mut collector, address) = start(&setting, input, output, |command| {
        command
            .env("RUST_LOG", "trace")
            .stdin(copy(&terminal.slave))
            .stdout(copy(&terminal.slave))
            .stderr(copy(&terminal.slave));
    });
    setting
        .until_committed(&collector, &[Report::MessageTrace], to)
        .await;
    until_healthy(address).await;
    stop_unread(&mut collector).await;
    setting.expect_exactly(
        &setting.existing(Report::MessageTrace, from, to),
        &collector,
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_on_a_full_disk_holds_up_nothing() {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(30), setting.ago(28));
    setting.rows(Report::MessageTrace, from, to, 500);
    let input = setting
        .input()
        .service_from(Report::MessageTrace, from, &[]);
    let output = Output::relay(setting.relay.port());
    let full = File::options().write(true).open("/dev/full").unwrap();
    let (mut collector, address) = start(&setting, input, output, |command| {
        command.stderr(full);
    });
    setting
        .until_committed(&collector, &[Report::MessageTrace], to)
        .await;
    until_healthy(address).await;
    stop_unread(&mut collector).await;
    setting.expect_exactly(
        &setting.existing(Report::MessageTrace, from, to),
        &collector,
    );
}

/// The records that a collector has printed, and how many of them. The last line may have been cut off.
fn printed(collector: &Collector, records: &mut Records) -> u64 {
    let lines = printed_records(collector);
    let whole = lines.iter().filter(|line| line.ends_with("}}"));
    let before = records.total();
    for line in whole {
        let (_, content) = line.split_once("\"message_content\": ").unwrap();
        let identity = Identity::of(&content[..content.len() - 1]).unwrap();
        records.add(Report::MessageTrace, identity, None);
    }
    records.total() - before
}

/// Records that nobody takes are kept back, as for any output; everything else goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn printed_records_that_nobody_reads_wait_and_nothing_else_does() {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(30), setting.ago(28));
    setting.rows(Report::MessageTrace, from, to, 2_000);
    let input = setting
        .input()
        .service_from(Report::MessageTrace, from, &[]);
    let (mut first, address) = start(&setting, input.clone(), Output::console(), |_| {});
    first.pause_output(true);
    first.wait_for("collecting", PATIENCE).await.unwrap();
    until_held_up(address).await;
    until_healthy(address).await;
    let ended = first.stop(Duration::from_secs(30)).await.unwrap();
    assert!(
        ended.code == Some(0) && ended.took < Duration::from_secs(8),
        "{ended:?}\n{}",
        log(&first)
    );
    assert!(
        setting
            .cursor(Report::MessageTrace)
            .is_none_or(|at| at < to)
    );
    // What the pipe has taken is delivered, and waits for its reader.
    first.pause_output(false);
    first.wait(PATIENCE).await.unwrap();

    let (mut second, _) = start(&setting, input, Output::console(), |_| {});
    second.pause_output(true);
    second.wait_for("collecting", PATIENCE).await.unwrap();
    second.pause_output(false);
    setting.stop_at(&mut second, to).await;
    let mut records = Records::default();
    let unconfirmed = printed(&first, &mut records);
    printed(&second, &mut records);
    let expected = setting.existing(Report::MessageTrace, from, to);
    let verdict = compared(&expected, &records, unconfirmed);
    assert!(
        verdict.missing == 0 && verdict.twice <= unconfirmed,
        "{verdict}\n{}",
        log(&second)
    );
}
