//! Early passes: what is there early goes out at once, and not again when it settles, whatever happens in between.
//!
//! A test runs with a long delay and early passes first, so that only these can deliver what is young; and then with a short delay, so that the
//! settling pass reads all of it again.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use testkit::collector::{Collector, Config, Output};
use testkit::records::{Records, compare};
use testkit::relay::{self, Relay};
use testkit::report::Report;
use testkit::service::{Mail, RowId};

use crate::setting::{PATIENCE, Setting, log, stop};

const TRACE: Report = Report::MessageTrace;

/// With a delay of an hour.
const EARLY: &[(&str, &str)] = &[
    ("override_time_delay_in_seconds", "3600"),
    ("early_passes_in_seconds", "[2, 30]"),
];

/// What is twenty seconds old has settled.
const SETTLED: &[(&str, &str)] = &[("override_time_delay_in_seconds", "20")];

fn configure(setting: &Setting, from: DateTime<Utc>, options: &[(&str, &str)], source: &str) {
    let graph = setting.service.graph_url();
    let input = setting.input().option("graph_url", &graph);
    let input = input.option("graph_requests_per_5_minutes", "10000");
    let mut options = options.to_vec();
    options.push(("source", source));
    let input = input.service_from(TRACE, from, &options);
    let output = Output::relay(setting.relay.port());
    let config = Config::new(input, output);
    setting.folder.configure(&config).unwrap();
    setting
        .service
        .adjust(|options| options.graph.budget = None);
}

/// Messages, one every so many seconds, of the last so many minutes.
fn deliver(setting: &Setting, minutes: i64, every: usize, first: u64) -> Vec<RowId> {
    let seconds = (0..60 * minutes).step_by(every);
    let mails = seconds.zip(first..).map(|(second, number)| {
        let time = setting.now - TimeDelta::minutes(minutes) + TimeDelta::seconds(second);
        Mail::new(time, number)
    });
    let rows = mails.flat_map(|mail| setting.service.deliver(&mail));
    rows.collect()
}

/// The messages of the last fifty minutes before the setting was made: no settling pass of an hour has read them.
fn young(setting: &Setting) -> Records {
    let from = setting.now - TimeDelta::minutes(50);
    setting.service.existing_messages(from, setting.now)
}

/// The lines of the last so many connections with any.
fn last_lines(setting: &Setting, connections: usize) -> u64 {
    let all = setting.relay.connections();
    let last = all.iter().rev().filter(|one| one.lines > 0);
    last.take(connections).map(|one| one.lines).sum()
}

async fn until_read(relay: &Relay, expected: &Records, collector: &Collector) {
    let begun = std::time::Instant::now();
    loop {
        let verdict = compare(expected, &relay.records().by_message());
        if verdict.missing == 0 {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{verdict}\n{}", log(collector));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Has the settling pass read all that there is until `to`, and expects each message once.
async fn settle(setting: &Setting, from: DateTime<Utc>, to: DateTime<Utc>, source: &str) {
    configure(setting, from, SETTLED, source);
    let mut collector = setting.start();
    setting.stop_at(&mut collector, to).await;
    let all = setting.service.existing_messages(from, to);
    let verdict = compare(&all, &setting.relay.records().by_message());
    assert!(verdict.is_exact(), "{verdict}\n{}", log(&collector));
    assert_eq!(setting.relay.violations(), Vec::<String>::new());
}

async fn early_then_settled(early: &str, settled: &str) {
    let setting = Setting::new().await;
    let from = setting.ago(2);
    deliver(&setting, 115, 3, 1);
    configure(&setting, from, EARLY, early);
    let mut collector = setting.start();
    until_read(&setting.relay, &young(&setting), &collector).await;
    let cursor = setting.cursor(TRACE).unwrap();
    assert!(cursor < setting.now - TimeDelta::minutes(50), "{cursor}");
    // Where the shortest pass has been: the longer one finds it.
    let late = Utc::now();
    let number = 1 << 30;
    setting
        .service
        .deliver(&Mail::new(late - TimeDelta::seconds(12), number));
    let expected = setting
        .service
        .existing_messages(late - TimeDelta::seconds(15), late);
    until_read(&setting.relay, &expected, &collector).await;
    stop(&mut collector).await;
    // Where all early passes have been: the settling one finds it.
    let time = setting.now - TimeDelta::minutes(30);
    setting.service.deliver(&Mail::new(time, number + 1));
    settle(&setting, from, late, settled).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_early_goes_out_at_once_and_not_again_when_it_settles() {
    early_then_settled("reporting_service", "reporting_service").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_with_graph() {
    early_then_settled("graph", "graph").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_service_has_told_early_the_other_does_not_tell_again() {
    early_then_settled("auto", "graph").await;
    early_then_settled("graph", "reporting_service").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_under_way_waits_for_a_pass_that_shows_it_final_or_settled() {
    let setting = Setting::new().await;
    let from = setting.ago(2);
    deliver(&setting, 50, 31, 1);
    let at = setting.now - TimeDelta::minutes(20);
    let becomes_final = setting
        .service
        .deliver(&Mail::new(at, 1 << 30).status("Pending"));
    let stays = Mail::new(at, 2 << 30).status("GettingStatus");
    setting.service.deliver(&stays);
    let done = setting
        .service
        .existing_messages(setting.now - TimeDelta::minutes(50), at);
    configure(&setting, from, EARLY, "reporting_service");
    let mut collector = setting.start();
    until_read(&setting.relay, &done, &collector).await;
    stop(&mut collector).await;
    let under_way = setting
        .service
        .existing_messages(at, at + TimeDelta::seconds(1));
    let verdict = compare(&under_way, &setting.relay.records().by_message());
    assert_eq!(verdict.missing, 2, "{verdict}");
    setting
        .service
        .change_status(becomes_final[0], Utc::now(), "Delivered");
    settle(&setting, from, setting.now, "reporting_service").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_no_longer_shown_goes_out_as_it_was_last_seen_under_way() {
    let setting = Setting::new().await;
    let from = setting.ago(2);
    deliver(&setting, 50, 31, 1);
    let at = setting.now - TimeDelta::minutes(20);
    let mut gone = vec![];
    for (nth, status) in (1..).zip(["Pending", "GettingStatus", "None"]) {
        let mail = Mail::new(at + TimeDelta::seconds(nth), 1 << (29 + nth)).status(status);
        gone.extend(setting.service.deliver(&mail));
    }
    let all = young(&setting);
    let masked = ("obfuscation_data", "[{name: [Subject]}]");
    let with = |options: &[(&'static str, &'static str)]| [options, &[masked]].concat();
    configure(&setting, from, &with(EARLY), "reporting_service");
    let mut collector = setting.start();
    let held = setting.state_of(TRACE).join("early").join("held");
    let begun = std::time::Instant::now();
    let rows = |held: &std::path::Path| {
        let bytes = std::fs::read(held).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    while rows(&held).matches("MessageTraceId").count() < gone.len() {
        assert!(begun.elapsed() < PATIENCE, "{}", log(&collector));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let kept = rows(&held);
    assert!(kept.contains("\"Subject\":\"****SANITIZED****\""), "{kept}");
    collector.kill().await.unwrap();
    let may_come_again = setting.unconfirmed() + last_lines(&setting, 3);
    for row in gone {
        assert!(setting.service.remove(row));
    }
    configure(&setting, from, &with(SETTLED), "reporting_service");
    let mut collector = setting.start();
    setting.stop_at(&mut collector, setting.now).await;
    let verdict = compare(&all, &setting.relay.records().by_message());
    assert_eq!(
        (verdict.missing, verdict.unknown),
        (0, 0),
        "{verdict}\n{}",
        log(&collector)
    );
    assert!(verdict.twice <= may_come_again, "{verdict}");
    collector
        .wait_for("go out as they were last seen", PATIENCE)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_output_that_is_away_holds_up_no_other_and_misses_nothing() {
    let setting = Setting::new().await;
    let from = setting.ago(2);
    deliver(&setting, 100, 5, 1);
    // Nobody listens there for now.
    let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = port.local_addr().unwrap().port();
    let configure = |options: &[(&str, &str)], port: u16| {
        let input = setting.input().service_from(TRACE, from, options);
        let config = Config::new(input, Output::relay(setting.relay.port()));
        let other = Output::relay(port).named("devo_2");
        setting.folder.configure(&config.output(other)).unwrap();
    };
    configure(EARLY, port);
    let mut collector = setting.start();
    let young = setting
        .service
        .existing_messages(setting.now - TimeDelta::minutes(50), setting.now);
    until_read(&setting.relay, &young, &collector).await;
    collector.kill().await.unwrap();
    let other = Relay::start_with(&relay::Options::new(&setting.pki)).unwrap();
    configure(SETTLED, other.port());
    let mut collector = setting.start();
    setting.stop_at(&mut collector, setting.now).await;
    let all = setting.service.existing_messages(from, setting.now);
    let verdict = compare(&all, &other.records().by_message());
    assert!(verdict.is_exact(), "{verdict}\n{}", log(&collector));
    let verdict = compare(&all, &setting.relay.records().by_message());
    assert_eq!(verdict.missing, 0, "{verdict}\n{}", log(&collector));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_lose_nothing_and_repeat_a_delivery_of_each_pass_at_most() {
    let setting = Setting::new().await;
    let from = setting.ago(2);
    deliver(&setting, 115, 1, 1);
    configure(&setting, from, EARLY, "reporting_service");
    let latency = Duration::from_millis(60);
    setting.service.adjust(|options| options.latency = latency);
    let mut may_come_again = 0;
    for kill in 1..7 {
        let mut collector = setting.start();
        collector
            .wait_for("early pass started", PATIENCE)
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(170 * kill)).await;
        collector.kill().await.unwrap();
        // The last delivery of each pass may not have been kept.
        may_come_again += last_lines(&setting, 3);
    }
    configure(&setting, from, SETTLED, "reporting_service");
    let mut collector = setting.start();
    setting.stop_at(&mut collector, setting.now).await;
    let all = setting.service.existing_messages(from, setting.now);
    let verdict = compare(&all, &setting.relay.records().by_message());
    assert_eq!(
        (verdict.missing, verdict.unknown),
        (0, 0),
        "{verdict}\n{}",
        log(&collector)
    );
    let bound = may_come_again + setting.unconfirmed();
    assert!(verdict.twice <= bound, "{verdict}, {bound} may come again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_hours_of_other_events_go_out_early_and_once() {
    const REPORT: Report = Report::MailDetailAtp;
    let setting = Setting::new().await;
    let (from, to) = (setting.hour_ago(30), setting.hour_ago(2));
    setting.rows(REPORT, from, to, 3_000);
    let expected = setting.existing(REPORT, from, to);
    let early = [("early_passes_in_seconds", "[600, 7200]")];
    setting.configure_one(REPORT, from, &early);
    let mut collector = setting.start();
    setting.until_read(&expected, &collector).await;
    stop(&mut collector).await;
    setting.configure_one(REPORT, from, &[("override_time_delay_in_seconds", "3600")]);
    let mut collector = setting.start();
    setting.until_committed(&collector, &[REPORT], to).await;
    stop(&mut collector).await;
    setting.expect_exactly(&expected, &collector);
}
