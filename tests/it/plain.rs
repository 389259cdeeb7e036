//! Outputs of plain TCP: the same promise as with TLS, less what only TLS can show.

use std::time::Duration;

use testkit::collector::{Config, Output};
use testkit::records::Verdict;
use testkit::relay::{self, Behaviour, TlsVersions};
use testkit::report::Report;

use crate::figures::compared;
use crate::setting::{PATIENCE, Setting, log, printed_records, stop};

/// Some 5.5 MB of lines, in three windows.
const ROWS: u32 = 9_000;

async fn setting() -> Setting {
    Setting::with(testkit::service::Options::default(), |relay| {
        relay.tls = TlsVersions::Plain;
        // Small, so that what a relay does not read stays with the collector.
        relay.receive_buffer = Some(64 << 10);
    })
    .await
}

/// Collects message traces of four hours into a relay that misbehaves as `prepare` says.
async fn collect(prepare: impl FnOnce(&relay::Relay)) -> (Verdict, Vec<String>) {
    let setting = setting().await;
    let (from, to) = (setting.ago(30), setting.ago(25));
    setting.rows(Report::MessageTrace, from, to, ROWS);
    prepare(&setting.relay);
    let input = setting
        .input()
        .service_from(Report::MessageTrace, from, &[]);
    setting.configure_with(input, Output::plain("syslog", setting.relay.port()));
    let mut collector = setting.start();
    setting.stop_at(&mut collector, to).await;
    let verdict = setting.verdict(&setting.existing(Report::MessageTrace, from, to));
    assert!(verdict.is_complete(), "{verdict}\n{}", log(&collector));
    (verdict, collector.log())
}

/// The first connection, which is empty, behaves; the four after it do not. What they had read may come twice, and nothing is lost.
async fn misbehave(behaviour: Behaviour) {
    let (_, log) = collect(|relay| {
        relay.next(Behaviour::Normal);
        relay.next_times(4, behaviour);
    })
    .await;
    let failed = log.iter().any(|line| line.contains("delivery failed"));
    assert!(failed, "{}", log.join("\n"));
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
    misbehave(Behaviour::CloseAfter(200_000)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_in_answer_to_our_end_is_no_receipt() {
    misbehave(Behaviour::ResetOnEnd).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_and_a_late_answer_get_nothing_twice() {
    let (verdict, log) = collect(|relay| {
        relay.next(Behaviour::AnswerLate(Duration::from_secs(3)));
        relay.next(Behaviour::Slow {
            bytes_per_second: 500_000,
        });
        relay.next(Behaviour::Pause {
            after: 100_000,
            time: Duration::from_secs(4),
        });
    })
    .await;
    assert!(verdict.is_exact(), "{verdict}\n{}", log.join("\n"));
    assert!(!log.iter().any(|line| line.contains("delivery failed")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_does_not_answer_at_first_gets_everything_once() {
    let (verdict, log) = collect(|relay| relay.next(Behaviour::NeverAnswer)).await;
    assert!(verdict.is_exact(), "{verdict}\n{}", log.join("\n"));
    let waited = log
        .iter()
        .filter(|line| line.contains("records wait, unsent"));
    assert_eq!(waited.count(), 1, "{}", log.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_a_relay_with_tls_and_the_console_each_gets_everything_once() {
    let setting = setting().await;
    let with_tls = relay::Relay::start(&setting.pki).unwrap();
    let (from, to) = (setting.ago(30), setting.ago(29));
    setting.rows(Report::MessageTrace, from, to, 1_000);
    let input = setting
        .input()
        .service_from(Report::MessageTrace, from, &[]);
    let config = Config::new(input, Output::plain("sidecar", setting.relay.port()))
        .output(Output::relay(with_tls.port()))
        .output(Output::console());
    setting.folder.configure(&config).unwrap();
    let mut collector = setting.start();
    setting.stop_at(&mut collector, to).await;
    let expected = setting.existing(Report::MessageTrace, from, to);
    setting.expect_exactly(&expected, &collector);
    let verdict = compared(&expected, &with_tls.records(), 0);
    assert!(verdict.is_exact(), "{verdict}\n{}", log(&collector));
    let printed = printed_records(&collector);
    assert_eq!(printed.len() as u64, expected.total());
    assert!(printed[0].contains("message_content"), "{}", printed[0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_wants_tls_is_named_and_holds_the_cursor() {
    let setting = Setting::new().await;
    let from = setting.ago(30);
    setting.rows(Report::MessageTrace, from, setting.ago(29), 100);
    let input = setting
        .input()
        .service_from(Report::MessageTrace, from, &[]);
    setting.configure_with(input, Output::plain("syslog", setting.relay.port()));
    let mut collector = setting.start();
    let line = collector
        .wait_for("delivery waits", PATIENCE)
        .await
        .unwrap();
    assert!(
        line.contains("the peer speaks TLS") && line.contains("set the output's `type` to `relay`"),
        "{line}"
    );
    assert_eq!(setting.relay.count(), 0);
    assert_eq!(setting.cursor(Report::MessageTrace), Some(from));
    stop(&mut collector).await;
}
