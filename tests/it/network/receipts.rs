//! What no receipt may be made of: something between us, or a relay, that ends a connection before the relay has read what is on it.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use exchange_reports_collector::ledger::StateDirectory;
use testkit::collector::{Collector, Output};
use testkit::peer::{Peer, Program};
use testkit::relay::{Behaviour, Process};
use testkit::report::Report;

use crate::figures::compared;
use crate::setting::{PATIENCE, Setting, installed, log, stop};

/// Some 2.4 MB of lines, in four windows.
const ROWS: u32 = 4_000;

/// How long a relay takes all and reads nothing before it is killed.
const BEHIND: Duration = Duration::from_secs(3);

/// A collector, a relay in a process of its own, and what stands between them.
struct Way {
    setting: Setting,
    relay: Process,
    _between: Option<Peer>,
    collector: Collector,
}

impl Way {
    /// None if something is not installed.
    async fn open(between: Option<Program>, arguments: &[&str]) -> Option<Way> {
        if !between.is_none_or(installed) {
            return None;
        }
        let setting = Setting::new().await;
        let relay = Process::start_with(&setting.pki, arguments).unwrap();
        let before = |program| Peer::start_before(program, relay.port(), &setting.pki).unwrap();
        let between = between.map(before);
        let port = between.as_ref().map_or(relay.port(), Peer::port);
        let (from, to) = window(&setting);
        setting.rows(Report::MessageTrace, from, to, ROWS);
        let input = setting
            .input()
            .service_from(Report::MessageTrace, from, &[]);
        setting.configure_with(input, Output::relay(port));
        let collector = setting.start();
        Some(Way {
            setting,
            relay,
            _between: between,
            collector,
        })
    }

    /// Waits until the relay has read so many lines.
    async fn until_read(&self, lines: u64) {
        let begun = std::time::Instant::now();
        while self.relay.read().unwrap().0.total() < lines {
            assert!(begun.elapsed() < PATIENCE, "{}", log(&self.collector));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until all is confirmed, stops, and asserts that nothing is lost, and that no more than so many came twice.
    async fn finish(mut self, most: u64) {
        let (from, to) = window(&self.setting);
        let services = [Report::MessageTrace];
        self.setting
            .until_committed(&self.collector, &services, to)
            .await;
        stop(&mut self.collector).await;
        let expected = self.setting.existing(Report::MessageTrace, from, to);
        let (read, _) = self.relay.read().unwrap();
        // A delivery carries many windows: all of them may have been under way.
        let most = most.max(expected.total());
        let verdict = compared(&expected, &read, most);
        assert!(
            verdict.missing == 0 && verdict.twice <= most,
            "{verdict}\n{}",
            log(&self.collector)
        );
    }
}

fn window(setting: &Setting) -> (DateTime<Utc>, DateTime<Utc>) {
    (setting.ago(30), setting.ago(25))
}

/// A relay gets behind while records flow to it, and is killed with what its system has taken.
async fn killed_behind(between: Option<Program>) {
    let Some(mut way) = Way::open(between, &[]).await else {
        return;
    };
    way.until_read(u64::from(ROWS) / 4).await;
    way.relay.pause().unwrap();
    tokio::time::sleep(BEHIND).await;
    way.relay.restart().unwrap();
    // What is under way is one delivery, and a window is no more than one.
    way.finish(u64::from(ROWS) / 4 + 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_is_killed_while_it_is_behind_loses_nothing() {
    killed_behind(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_nginx_with_its_defaults_a_relay_that_is_killed_while_it_is_behind_loses_nothing() {
    killed_behind(Some(Program::NginxPassing)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_nginx_that_half_closes_a_relay_that_is_killed_while_it_is_behind_loses_nothing() {
    killed_behind(Some(Program::NginxHalfClosing)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_haproxy_a_relay_that_is_killed_while_it_is_behind_loses_nothing() {
    killed_behind(Some(Program::HaproxyPassing)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_socat_a_relay_that_is_killed_while_it_is_behind_loses_nothing() {
    killed_behind(Some(Program::SocatPassing)).await;
}

/// A relay that reads nothing of its first connections, and is killed: it has been sent nothing but empty deliveries.
async fn killed_before_it_reads(between: Option<Program>) {
    let Some(mut way) = Way::open(between, &["--slow", "25"]).await else {
        return;
    };
    way.collector
        .wait_for("records wait, unsent", PATIENCE)
        .await
        .unwrap();
    assert_eq!(
        way.setting.cursor(Report::MessageTrace),
        Some(window(&way.setting).0)
    );
    way.relay.restart_as_normal().unwrap();
    way.finish(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_is_slow_at_first_and_then_killed_loses_nothing() {
    killed_before_it_reads(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_haproxy_a_relay_that_is_slow_at_first_and_then_killed_loses_nothing() {
    killed_before_it_reads(Some(Program::HaproxyPassing)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_nginx_a_relay_that_is_slow_to_answer_is_waited_for() {
    // Its answer comes later than the half-close of the first probe, which nginx answers by itself.
    let Some(way) = Way::open(Some(Program::NginxPassing), &["--slow", "14"]).await else {
        return;
    };
    way.collector
        .wait_for("the relay confirms deliveries", PATIENCE)
        .await
        .unwrap();
    let learnt = way.collector.log_with("the relay confirms deliveries");
    assert!(learnt[0].contains("receipt=read"), "{learnt:?}");
}

/// Collects into a relay that always behaves so, and asserts that each record came once; what the collector has said.
async fn collect(behaviour: Behaviour, between: Option<Program>, kind: &str) {
    if !between.is_none_or(installed) {
        return;
    }
    let setting = Setting::new().await;
    setting.relay.always(behaviour);
    let before = |program| Peer::start_before(program, setting.relay.port(), &setting.pki).unwrap();
    let between = between.map(before);
    let port = between.as_ref().map_or(setting.relay.port(), Peer::port);
    let (from, to) = window(&setting);
    setting.rows(Report::MessageTrace, from, to, ROWS);
    let input = setting
        .input()
        .service_from(Report::MessageTrace, from, &[]);
    setting.configure_with(input, Output::relay(port));
    let mut collector = setting.start();
    setting.stop_at(&mut collector, to).await;
    let expected = setting.existing(Report::MessageTrace, from, to);
    let verdict = compared(&expected, &setting.relay.records(), 0);
    assert!(verdict.is_exact(), "{verdict}\n{}", log(&collector));
    let receipts = collector.log_with("delivery confirmed");
    let kind = format!("receipt={kind}");
    assert!(!receipts.is_empty() && receipts.iter().all(|line| line.contains(&kind)));
    assert_eq!(collector.log_with("delivery failed"), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_resets_behind_its_close_notify_gets_everything_once() {
    collect(Behaviour::ResetAfterCloseNotify, None, "Ended").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_ends_without_close_notify_gets_everything_once() {
    collect(Behaviour::JustEnd, None, "Ended").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_socat_that_ends_both_sides_half_a_second_after_one_a_slower_relay_gets_everything_once()
 {
    let late = Behaviour::AnswerLate(Duration::from_secs(2));
    collect(late, Some(Program::SocatPassing), "Read").await;
}

/// Puts into the state what is known of the relay's address.
fn know(setting: &Setting, knowledge: &str) {
    let state = StateDirectory::open(&setting.folder.path().join("state")).unwrap();
    let address = format!("localhost:{}", setting.relay.port());
    let json = format!("{{\"{address}\": {knowledge}}}");
    state.addresses().write(&json).unwrap();
}

/// Four silent probes, the last of them a moment ago, and so many seconds over which they went.
fn silent(seconds: u64) -> String {
    let last = Utc::now() - TimeDelta::seconds(2);
    format!(
        "{{\"probes\": 4, \"silent\": {{\"count\": 4, \"seconds\": {seconds}, \"last\": \"{last:?}\"}}}}"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_killed_after_nearly_ten_silent_minutes_goes_on_from_there() {
    let setting = Setting::new().await;
    setting.relay.always(Behaviour::NeverAnswer);
    let (from, to) = window(&setting);
    setting.rows(Report::MessageTrace, from, to, ROWS);
    setting.configure_one(Report::MessageTrace, from, &[]);
    know(&setting, &silent(590));
    let mut collector = setting.start();
    setting.stop_at(&mut collector, to).await;
    setting.expect_exactly(
        &setting.existing(Report::MessageTrace, from, to),
        &collector,
    );
    let told = collector.log_with("the relay answers no empty delivery");
    assert_eq!(told.len(), 1, "{}", log(&collector));
    let receipts = collector.log_with("delivery confirmed");
    assert!(receipts.iter().all(|line| line.contains("receipt=StoodIn")));
    // After a restart it is known, and nothing is said again.
    let mut collector = setting.start();
    collector.wait_for("collecting", PATIENCE).await.unwrap();
    stop(&mut collector).await;
    assert!(
        collector
            .log_with("the relay answers no empty delivery")
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_true_receipt_ends_the_stand_in_for_good() {
    let setting = Setting::new().await;
    let (from, to) = window(&setting);
    setting.rows(Report::MessageTrace, from, to, ROWS);
    setting.configure_one(Report::MessageTrace, from, &[]);
    know(
        &setting,
        r#"{"learnt": {"receipt": "stood_in", "half_close": false, "resets": false}}"#,
    );
    let mut collector = setting.start();
    collector
        .wait_for("has given a receipt", PATIENCE)
        .await
        .unwrap();
    setting.stop_at(&mut collector, to).await;
    setting.expect_exactly(
        &setting.existing(Report::MessageTrace, from, to),
        &collector,
    );
}
