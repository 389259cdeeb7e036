//! Every way in which a relay is known to fail: nothing is lost, and nothing that was confirmed comes twice.

use std::time::Duration;

use chrono::TimeDelta;
use testkit::collector::{Collector, Output};
use testkit::records::Verdict;
use testkit::relay::{Behaviour, End};
use testkit::report::Report;
use testkit::service::{Fault, When};

use crate::setting::{PATIENCE, Setting, log, stop};

/// Some 5.5 MB of lines, in three windows.
const ROWS: u32 = 9_000;

/// Collects message traces of four hours into a relay that misbehaves as `prepare` says.
async fn collect(prepare: impl AsyncFnOnce(&mut Setting)) -> (Verdict, Vec<String>, Setting) {
    let mut setting = Setting::with(testkit::service::Options::default(), |relay| {
        // Small, so that what a relay does not read stays with the collector.
        relay.receive_buffer = Some(64 << 10);
    })
    .await;
    let (from, to) = (setting.ago(30), setting.ago(25));
    setting.rows(Report::MessageTrace, from, to, ROWS);
    prepare(&mut setting).await;
    setting.configure_with(
        setting
            .input()
            .service_from(Report::MessageTrace, from, &[]),
        Output::relay(setting.relay.port()),
    );
    let mut collector = setting.start();
    setting.stop_at(&mut collector, to).await;
    let verdict = setting.verdict(&setting.existing(Report::MessageTrace, from, to));
    assert!(verdict.is_complete(), "{verdict}\n{}", log(&collector));
    (verdict, collector.log(), setting)
}

/// The records on connections that were made to misbehave, which may come twice.
fn unconfirmed(setting: &Setting) -> u64 {
    let misbehaved = |one: &&testkit::relay::Connection| one.behaviour != Behaviour::Normal;
    setting
        .relay
        .connections()
        .iter()
        .filter(misbehaved)
        .map(|one| one.lines)
        .sum()
}

/// The first connection, which is empty, behaves; the four after it do not.
async fn misbehave(behaviour: Behaviour) {
    misbehave_times(4, behaviour).await;
}

async fn misbehave_times(times: usize, behaviour: Behaviour) {
    let (verdict, log, setting) = collect(async |setting| {
        setting.relay.next(Behaviour::Normal);
        setting.relay.next_times(times, behaviour);
    })
    .await;
    assert!(
        log.iter().any(|line| line.contains("delivery failed")),
        "{}",
        log.join("\n")
    );
    assert!(
        verdict.twice <= unconfirmed(&setting),
        "{verdict}, {} unconfirmed",
        unconfirmed(&setting)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_refuses_connections_gets_everything_once_it_does_not() {
    misbehave(Behaviour::Refuse).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_fails_the_handshake_gets_everything_once_it_does_not() {
    misbehave(Behaviour::FailHandshake).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_in_the_middle_of_a_record_loses_nothing() {
    misbehave(Behaviour::ResetAfter(100_003)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_closes_without_reading_loses_nothing() {
    misbehave(Behaviour::CloseUnread { after: 50_000 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_ends_in_order_before_we_do_loses_nothing() {
    // Twice, while much more is under way than the relay's system could hold: see `crash/soak.rs`.
    misbehave_times(2, Behaviour::CloseAfter(200_000)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_in_answer_to_our_end_is_no_receipt() {
    misbehave(Behaviour::ResetOnEnd).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_never_holds_a_connection_for_long_still_gets_everything() {
    let (_, log, setting) =
        collect(async |setting| setting.relay.always(Behaviour::ResetAfter(400_000))).await;
    let confirmed =
        |one: &&testkit::relay::Connection| one.lines > 0 && matches!(one.end, End::ClientClosed);
    assert!(
        setting.relay.connections().iter().filter(confirmed).count() > 10,
        "{}",
        log.join("\n")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_stalls_and_goes_on_gets_nothing_twice() {
    let (verdict, log, _) = collect(async |setting| {
        setting.relay.next(Behaviour::Normal);
        setting.relay.next_times(
            2,
            Behaviour::Pause {
                after: 100_000,
                time: Duration::from_secs(4),
            },
        );
    })
    .await;
    assert!(verdict.is_exact(), "{verdict}\n{}", log.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_and_a_late_answer_get_nothing_twice() {
    let (verdict, log, _) = collect(async |setting| {
        setting
            .relay
            .next(Behaviour::AnswerLate(Duration::from_secs(3)));
        setting.relay.next(Behaviour::Slow {
            bytes_per_second: 500_000,
        });
        setting
            .relay
            .next(Behaviour::AnswerLate(Duration::from_secs(3)));
    })
    .await;
    assert!(verdict.is_exact(), "{verdict}\n{}", log.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_does_not_answer_at_first_gets_everything_once_and_what_it_does_is_known_for_good()
 {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(30), setting.ago(25));
    setting.rows(Report::MessageTrace, from, to, 4_000);
    setting.relay.next(Behaviour::NeverAnswer);
    setting.configure_one(Report::MessageTrace, from, &[]);
    let mut collector = setting.start();
    collector
        .wait_for("the relay confirms deliveries", PATIENCE)
        .await
        .unwrap();
    setting.stop_at(&mut collector, to).await;
    let waited = collector.log_with("records wait, unsent");
    assert_eq!(waited.len(), 1, "{}", log(&collector));
    // A shorter delay: there is more to collect. No empty delivery comes before it.
    let connections = setting.relay.connections().len();
    let delay = [("override_time_delay_in_seconds", "82800")];
    setting.configure_one(Report::MessageTrace, from, &delay);
    let (behind, to) = (setting.ago(25) + TimeDelta::minutes(20), setting.ago(24));
    setting.rows(Report::MessageTrace, behind, to, 500);
    let mut collector = setting.start();
    setting.stop_at(&mut collector, to).await;
    assert_eq!(setting.relay.count(), 4_500);
    let first = &setting.relay.connections()[connections];
    assert!(first.lines > 0, "{first:?}");
    setting.expect_exactly(&setting.service.served(), &collector);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_never_answers_is_sent_no_record() {
    let setting = Setting::new().await;
    let from = setting.ago(30);
    setting.rows(Report::MessageTrace, from, setting.ago(25), 500);
    setting.relay.always(Behaviour::NeverAnswer);
    let input = setting
        .input()
        .service_from(Report::MessageTrace, from, &[]);
    setting.configure_with(
        input,
        Output::relay(setting.relay.port()).option("receipt", "required"),
    );
    let mut collector = setting.start();
    collector
        .wait_for("records wait, unsent", PATIENCE)
        .await
        .unwrap();
    assert_eq!(setting.relay.count(), 0);
    assert_eq!(setting.cursor(Report::MessageTrace), Some(from));
    collector.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_choice_tcps_word_confirms_at_once() {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(30), setting.ago(25));
    setting.rows(Report::MessageTrace, from, to, 2_000);
    setting.relay.always(Behaviour::NeverAnswer);
    let input = setting
        .input()
        .service_from(Report::MessageTrace, from, &[]);
    let output = Output::relay(setting.relay.port()).option("receipt", "tcp");
    setting.configure_with(input, output);
    let mut collector = setting.start();
    setting.stop_at(&mut collector, to).await;
    setting.expect_exactly(
        &setting.existing(Report::MessageTrace, from, to),
        &collector,
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_only_close_notify_confirms_a_relay_without_it_is_sent_no_record() {
    let setting = Setting::new().await;
    let from = setting.ago(30);
    setting.rows(Report::MessageTrace, from, setting.ago(25), 500);
    setting.relay.always(Behaviour::JustEnd);
    let input = setting
        .input()
        .service_from(Report::MessageTrace, from, &[]);
    let output = Output::relay(setting.relay.port()).option("receipt", "close_notify");
    setting.configure_with(input, output);
    let mut collector = setting.start();
    collector
        .wait_for("the relay ends connections without close_notify", PATIENCE)
        .await
        .unwrap();
    assert_eq!(setting.relay.count(), 0);
    collector.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_delivery_is_ended_before_the_relay_does_it() {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(30), setting.ago(29));
    setting.rows(Report::MessageTrace, from, to, 3_000);
    let slow = Fault::Delay(Duration::from_secs(15));
    let second = When::After {
        passed: 1,
        times: 1,
    };
    setting.service.fault(Report::MessageTrace, second, slow);
    setting
        .relay
        .always(Behaviour::CloseIdle(Duration::from_secs(13)));
    setting.configure_one(Report::MessageTrace, from, &[]);
    let mut collector = setting.start();
    setting.stop_at(&mut collector, to).await;
    assert!(
        collector.log_with("delivery failed").is_empty(),
        "{}",
        log(&collector)
    );
    let full = |one: &&testkit::relay::Connection| one.lines > 0;
    let connections = setting.relay.connections();
    assert!(
        connections.iter().filter(full).count() > 1,
        "{connections:?}"
    );
    setting.expect_exactly(&setting.service.served(), &collector);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_relays_the_one_that_is_down_holds_the_cursor_and_the_other_gets_nothing_twice() {
    let mut setting = Setting::new().await;
    let other = testkit::relay::Relay::start(&setting.pki).unwrap();
    let (from, to) = (setting.ago(30), setting.ago(25));
    setting.rows(Report::MessageTrace, from, to, ROWS);
    let first = Output::relay(setting.relay.port());
    let second = Output::relay(other.port()).named("second");
    let config = testkit::collector::Config::new(
        setting
            .input()
            .service_from(Report::MessageTrace, from, &[]),
        first,
    );
    setting.folder.configure(&config.output(second)).unwrap();
    setting.relay.shut().await;
    let mut collector = setting.start();
    other.wait_for(100, PATIENCE).await.unwrap();
    collector
        .wait_for("hours_until_microsoft_deletes", PATIENCE)
        .await
        .unwrap();
    assert_eq!(
        setting.cursor(Report::MessageTrace),
        Some(from),
        "the cursor waits"
    );
    // A restart in the middle: what the live one has confirmed is not sent to it again.
    stop(&mut collector).await;
    let mut collector: Collector = setting.start();
    collector
        .wait_for("delivery failed", PATIENCE)
        .await
        .unwrap();
    setting.relay.open().unwrap();
    setting.stop_at(&mut collector, to).await;
    let expected = setting.existing(Report::MessageTrace, from, to);
    setting.expect_exactly(&expected, &collector);
    let verdict = crate::figures::compared(&expected, &other.records(), 0);
    assert!(verdict.is_exact(), "{verdict}\n{}", log(&collector));
}
