//! Closes that cross on a slow link: the relay ends by itself while our end is on its way to it, and what it had not read is lost.
//!
//! Here the relay's side of the collector runs in this process, many deliveries at once. The relay reads the handshake and a little
//! more, and then nothing: its kernel acknowledges everything, and no receipt can ever be true.
//!
//! No more can be told from outside than that the relay's end left after ours had arrived. A relay that ends in order all the same, with
//! ours and records before it unread in its kernel, is believed; one that closes its socket then is not, since the kernel resets.

use std::net::IpAddr;
use std::sync::mpsc;
use std::time::Duration;

use exchange_reports_collector::config::{
    Compression, Globals, Output, OutputKind, ReceiptPolicy, RelayOutput,
};
use exchange_reports_collector::relay::knowledge::Terms;
use exchange_reports_collector::relay::{DeliveryError, Receipt, Relay as Peer};
use testkit::collector::Folder;
use testkit::link::Link;
use testkit::relay::{Behaviour, Relay};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::setting::{Hosts, ended_by_relay, misbehaved, relay_on};
use crate::setting::{log, stop};

/// One way.
const DELAY: Duration = Duration::from_millis(100);
/// Deliveries at once.
const DELIVERIES: usize = 100;
/// Longer than any answer takes on this link.
const PATIENCE: Duration = Duration::from_secs(20);

/// When the relay closes, and how.
#[derive(Clone, Copy, Debug)]
struct Crossing {
    /// Between the first half-close that leaves and the relay's close; none means that the relay does not close by itself.
    after: Option<Duration>,
    /// Between the relay's `close_notify` and its FIN.
    pause: Duration,
    /// For how long the collector gets no processor, from a little after the first half-close that leaves.
    asleep: Duration,
    /// Packets lost, in thousandths.
    loss: u32,
}

const AT_ONCE: Crossing = Crossing {
    after: Some(Duration::ZERO),
    pause: Duration::ZERO,
    asleep: Duration::ZERO,
    loss: 0,
};

/// What came of the deliveries.
#[derive(Debug, Default)]
struct Outcome {
    receipts: usize,
    crossed: usize,
    ended: usize,
    other: Vec<String>,
}

/// Lets closes cross, and counts what the deliveries take for a receipt.
fn cross(crossing: Crossing, behaviour: Behaviour) -> Option<Outcome> {
    let link = Link::new().unwrap()?;
    let (relay, output, _folder) = peers(&link);
    relay.always(behaviour);
    relay.pause_before_fin(crossing.pause);
    link.delay(DELAY);
    link.loss(crossing.loss);
    let (left, half_close_left) = mpsc::channel();
    let (to_sleep, sleeps) = mpsc::channel();
    link.on_near_end(move || {
        // Only the first is waited for.
        let _ = left.send(());
        let _ = to_sleep.send(());
    });
    let closer = relay.closer();
    let close = std::thread::spawn(move || {
        half_close_left.recv().unwrap();
        if let Some(after) = crossing.after {
            std::thread::sleep(after);
            closer();
        }
    });
    let deliver = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            if !crossing.asleep.is_zero() {
                tokio::spawn(sleep_with_all(sleeps, crossing.asleep));
            }
            deliver_all(&output).await
        })
    };
    let outcome = tokio::task::block_in_place(|| link.near().enter(deliver)).unwrap();
    close.join().unwrap();
    Some(outcome)
}

/// Keeps the whole runtime from running, as a host does that gives a container no more time.
async fn sleep_with_all(begin: mpsc::Receiver<()>, time: Duration) {
    while begin.try_recv().is_err() {
        sleep(Duration::from_millis(1)).await;
    }
    // Most of the others have half-closed too by then, and nothing has come back yet.
    sleep(DELAY / 2).await;
    std::thread::sleep(time);
}

async fn deliver_all(output: &Output) -> Outcome {
    let mut deliveries = JoinSet::new();
    for _ in 0..DELIVERIES {
        deliveries.spawn(deliver(output.clone()));
    }
    let mut outcome = Outcome::default();
    while let Some(done) = deliveries.join_next().await {
        match done.unwrap() {
            Ok(_) => outcome.receipts += 1,
            Err(DeliveryError::Crossed { .. }) => outcome.crossed += 1,
            Err(DeliveryError::Ended) => outcome.ended += 1,
            Err(error) => outcome.other.push(format!("{error:?}")),
        }
    }
    outcome
}

async fn deliver(output: Output) -> Result<Receipt, DeliveryError> {
    let mut delivery = Peer::new(&output).open().await?;
    // All half-close at about the same time, whichever was first to shake hands.
    let lines = line().repeat(20).into_bytes();
    delivery.write(&lines).await?;
    timeout(PATIENCE, delivery.finish(Terms::STRICT))
        .await
        .unwrap()
}

fn line() -> String {
    "<14>2026-11-22 14:40:52.290 host cloud.office365.reporting.messagetrace: {\"n\":1,\"@devo_pulling_id\":\"1\"}\n".to_owned()
}

fn peers(link: &Link) -> (Relay, Output, Folder) {
    let (relay, pki) = relay_on(link, link.far().address());
    let folder = Folder::new(&pki).unwrap();
    let output = output(&folder, link.far().address(), relay.port());
    (relay, output, folder)
}

fn output(folder: &Folder, address: IpAddr, port: u16) -> Output {
    let relay = RelayOutput {
        address: address.to_string(),
        port,
        chain: folder.certs().join("chain.crt"),
        cert: folder.certs().join("collector.crt"),
        key: folder.certs().join("collector.key"),
        verify_hostname: true,
        receipt: ReceiptPolicy::Required,
        compression: Compression::NEVER,
    };
    Output {
        name: "relay".to_owned(),
        statistics_period: Globals::STATISTICS_PERIOD,
        kind: OutputKind::Relay(relay),
    }
}

/// No receipt, and at least some deliveries that it depended on.
fn expect_no_receipt(crossing: Crossing) {
    let Some(outcome) = cross(crossing, Behaviour::Stall { after: 1 }) else {
        return;
    };
    assert_eq!(outcome.receipts, 0, "{crossing:?}: {outcome:?}");
    assert!(outcome.crossed > 0, "{crossing:?}: {outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_that_leaves_with_our_half_close_is_no_receipt() {
    expect_no_receipt(AT_ONCE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_that_leaves_while_our_half_close_is_under_way_is_no_receipt() {
    for milliseconds in [20, 50] {
        let after = Some(Duration::from_millis(milliseconds));
        expect_no_receipt(Crossing { after, ..AT_ONCE });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_notify_that_crosses_is_no_receipt_though_the_fin_comes_after_our_end() {
    let pause = Duration::from_millis(400);
    expect_no_receipt(Crossing { pause, ..AT_ONCE });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crossing_is_seen_though_we_look_long_after_it() {
    let asleep = Duration::from_millis(600);
    expect_no_receipt(Crossing { asleep, ..AT_ONCE });
    let pause = Duration::from_millis(400);
    let asleep = Duration::from_millis(1_200);
    expect_no_receipt(Crossing {
        pause,
        asleep,
        ..AT_ONCE
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_true_answer_on_a_slow_link_is_a_receipt() {
    let quiet = Crossing {
        after: None,
        ..AT_ONCE
    };
    let asleep = Duration::from_millis(600);
    for crossing in [
        quiet,
        Crossing { asleep, ..quiet },
        Crossing { loss: 30, ..quiet },
    ] {
        let Some(outcome) = cross(crossing, Behaviour::Normal) else {
            return;
        };
        assert_eq!(outcome.receipts, DELIVERIES, "{crossing:?}: {outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closes_that_cross_again_and_again_lose_nothing() {
    let Some(hosts) = Hosts::new() else {
        return;
    };
    let (from, to) = hosts.rows(1_500);
    hosts.link.delay(DELAY);
    // The first connection only shows that the relay answers; then two deliveries of three cross.
    let (closer, mut ends) = (hosts.setting.relay.closer(), 0_u32);
    hosts.link.on_near_end(move || {
        ends += 1;
        if ends < 9 && ends % 3 != 1 {
            closer();
        }
    });
    hosts.setting.relay.next(Behaviour::Normal);
    // What its kernel has acknowledged, it has not all read when the half-close leaves.
    let slow = Behaviour::Slow {
        bytes_per_second: 500_000,
    };
    for _ in 0..6 {
        hosts.setting.relay.next_times(2, slow.clone());
        hosts.setting.relay.next(Behaviour::Normal);
    }
    hosts.configure(from, |output| output);
    let mut collector = hosts.start();
    hosts.until_committed(&collector, to).await;
    stop(&mut collector).await;
    assert!(
        !collector.log_with("delivery failed").is_empty(),
        "{}",
        log(&collector)
    );
    // All that are open end at once, the next delivery's too.
    hosts.expect_all(&collector, from, to, ended_by_relay);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_ends_in_order_and_discards_the_rest_on_a_slow_link_loses_nothing() {
    let Some(hosts) = Hosts::new() else {
        return;
    };
    let (from, to) = hosts.rows(3_000);
    hosts.link.delay(DELAY);
    hosts.setting.relay.next(Behaviour::Normal);
    for bytes in [10_000, 60_000, 100_000] {
        hosts.setting.relay.next(Behaviour::CloseAfter(bytes));
    }
    hosts.configure(from, |output| output);
    let mut collector = hosts.start();
    hosts.until_committed(&collector, to).await;
    stop(&mut collector).await;
    assert!(
        collector.log_with("delivery failed").len() >= 2,
        "{}",
        log(&collector)
    );
    hosts.expect_all(&collector, from, to, misbehaved);
}
