//! A balancer in front of the relay that goes away with what it holds: all of a delivery, our end of it included, of which the relay
//! behind has read little.
//!
//! Killed, it confirms nothing, though its system ends the connection in order: the relay's `close_notify` is missing. What a balancer
//! that ends TLS confirms in order, and then does not pass on, is outside the promise.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use testkit::collector::{Collector, Output};
use testkit::peer::{Peer, Program};
use testkit::records::compare;
use testkit::relay::Behaviour;
use testkit::report::Report;

use crate::setting::{PATIENCE, Setting, installed, log, stop};

/// Of each of two windows: more than the relay and the two systems' buffers hold, and less than the balancer holds beside.
const ROWS: u32 = 900;

/// What the collector says of an end in order that was not the relay's.
const FORGED: &str = "without the relay's close_notify";

struct Windows {
    from: DateTime<Utc>,
    middle: DateTime<Utc>,
    to: DateTime<Utc>,
}

async fn setting() -> (Setting, Windows) {
    let setting = Setting::with(testkit::service::Options::default(), |relay| {
        relay.receive_buffer = Some(64 << 10);
    })
    .await;
    let windows = Windows {
        from: setting.ago(30),
        middle: setting.ago(29),
        to: setting.ago(28),
    };
    setting.rows(Report::MessageTrace, windows.from, windows.middle, ROWS);
    setting.rows(Report::MessageTrace, windows.middle, windows.to, ROWS);
    (setting, windows)
}

/// Starts a collector that delivers through the balancer, and waits until that has all of the first window, our end included. `begun`
/// tells whether the empty delivery before it is over.
async fn start(
    setting: &Setting,
    windows: &Windows,
    balancer: &Peer,
    begun: impl Fn() -> bool,
) -> Collector {
    let input = setting
        .input()
        .service_from(Report::MessageTrace, windows.from, &[]);
    let output = Output::relay(balancer.port()).option("receipt", "required");
    setting.configure_with(input, output);
    let collector = setting.start();
    let started = Instant::now();
    let ended = || !collector.log_with("waits for its receipt").is_empty();
    while !(begun() && ended() && has_read_all(balancer.port())) {
        assert!(started.elapsed() < PATIENCE, "{}", log(&collector));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(setting.cursor(Report::MessageTrace), Some(windows.from));
    collector
}

/// Whether nothing is on its way to somebody who listens on this port, or unread there: the queues of proc(5)'s list, on both sides.
fn has_read_all(port: u16) -> bool {
    let text = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let own = format!(":{port:04X}");
    let mut queues = text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, local, remote, state, queues, ..] = fields[..] else {
            return None;
        };
        let (unsent, unread) = queues.split_once(':')?;
        let empty = |queue: &str| queue == "00000000";
        // What the collector has not read is no matter: the next connection waits.
        let of_balancer = local
            .ends_with(&own)
            .then(|| empty(unsent) && empty(unread));
        let of_client = remote.ends_with(&own).then(|| empty(unsent));
        of_balancer.or(of_client).filter(|_| state == "01")
    });
    queues.next() == Some(true) && queues.all(|empty| empty)
}

async fn finish(setting: &Setting, windows: &Windows, collector: &mut Collector) {
    setting
        .until_committed(collector, &[Report::MessageTrace], windows.to)
        .await;
    stop(collector).await;
}

/// How many records there are in the first window: so many may come twice.
fn first_window(setting: &Setting, windows: &Windows) -> u64 {
    let records = setting.existing(Report::MessageTrace, windows.from, windows.middle);
    records.total()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_balancer_that_passes_tls_on_and_is_killed_loses_nothing() {
    if !installed(Program::HaproxyPassing) {
        return;
    }
    let (setting, windows) = setting().await;
    let mut balancer =
        Peer::start_before(Program::HaproxyPassing, setting.relay.port(), &setting.pki).unwrap();
    // The first connection only shows that the relay answers.
    setting.relay.next(Behaviour::Normal);
    setting.relay.next(Behaviour::Stall { after: 1 });
    let begun = || setting.relay.connections().len() > 1;
    let mut collector = start(&setting, &windows, &balancer, begun).await;
    balancer.kill_and_restart(Duration::ZERO).await.unwrap();
    setting.relay.release();
    finish(&setting, &windows, &mut collector).await;
    let expected = setting.existing(Report::MessageTrace, windows.from, windows.to);
    let verdict = setting.verdict(&expected);
    assert!(
        verdict.is_complete() && verdict.twice <= first_window(&setting, &windows),
        "{verdict}\n{}",
        log(&collector)
    );
    assert_eq!(collector.log_with(FORGED).len(), 1, "{}", log(&collector));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_balancer_that_ends_tls_and_is_killed_loses_nothing_that_it_had_not_confirmed() {
    if !installed(Program::Haproxy) {
        return;
    }
    let (setting, windows) = setting().await;
    let mut balancer = Peer::start(Program::Haproxy, &setting.pki).unwrap();
    balancer.hold(true);
    let begun = || balancer.bytes().unwrap() > 0;
    let mut collector = start(&setting, &windows, &balancer, begun).await;
    balancer.kill_and_restart(Duration::ZERO).await.unwrap();
    balancer.hold(false);
    finish(&setting, &windows, &mut collector).await;
    let expected = setting.existing(Report::MessageTrace, windows.from, windows.to);
    let (read, violations) = balancer.read().unwrap();
    assert_eq!(violations, Vec::<String>::new());
    let verdict = compare(&expected, &read);
    assert!(
        verdict.is_complete() && verdict.twice <= first_window(&setting, &windows),
        "{verdict}\n{}",
        log(&collector)
    );
    assert_eq!(collector.log_with(FORGED).len(), 1, "{}", log(&collector));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_balancer_confirms_and_does_not_pass_on_is_lost_and_nothing_else_is() {
    if !installed(Program::Haproxy) {
        return;
    }
    let (setting, windows) = setting().await;
    let balancer = Peer::start(Program::Haproxy, &setting.pki).unwrap();
    balancer.hold(true);
    let begun = || balancer.bytes().unwrap() > 0;
    let mut collector = start(&setting, &windows, &balancer, begun).await;
    // HAProxy ends our side in order, with `close_notify`, when it has lost the relay behind it.
    balancer.drop_held();
    finish(&setting, &windows, &mut collector).await;
    let (read, violations) = balancer.read().unwrap();
    assert_eq!(violations, Vec::<String>::new());
    let all = compare(
        &setting.existing(Report::MessageTrace, windows.from, windows.to),
        &read,
    );
    // At most one delivery, which may carry all windows.
    assert!(all.missing > 0, "{all}\n{}", log(&collector));
    assert_eq!((all.twice, all.unknown), (0, 0), "{all}");
}
