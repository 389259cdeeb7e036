//! Black holes: no answer, no reset, no end. The collector gives up by itself, and delivers again once there is a way.

use std::time::{Duration, Instant};

use testkit::collector::Collector;
use testkit::relay::{Behaviour, End};
use testkit::report::Report;

use super::setting::Hosts;
use crate::figures::compared;
use crate::setting::{log, stop};

/// A peer is taken for dead after a minute; the rest is for a busy machine.
const GIVEN_UP: Duration = Duration::from_secs(100);

/// Collects in two hosts between which a black hole opens as `open` says, and heals once the collector has said `given_up`.
async fn heal_after(
    open: impl FnOnce(&Hosts),
    given_up: &str,
) -> Option<(Hosts, Collector, Duration)> {
    let hosts = Hosts::new()?;
    let (from, to) = hosts.rows(3_000);
    open(&hosts);
    hosts.configure(from, |output| output);
    let mut collector = hosts.start();
    let begun = Instant::now();
    collector.wait_for(given_up, GIVEN_UP).await.unwrap();
    let took = begun.elapsed();
    assert_eq!(hosts.setting.cursor(Report::MessageTrace), Some(from));
    hosts.link.on_near_end(|| {});
    hosts.link.black_hole(false);
    hosts.until_committed(&collector, to).await;
    stop(&mut collector).await;
    // Nothing but the one delivery that was cut off may come twice: its lines are the first that the relay has read.
    let connections = hosts.setting.relay.connections();
    let cut_off = connections
        .iter()
        .map(|one| one.lines)
        .find(|lines| *lines > 0);
    let expected = hosts.setting.existing(Report::MessageTrace, from, to);
    let most = cut_off.unwrap_or(0);
    let verdict = hosts.setting.verdict_within(&expected, most);
    assert!(
        verdict.is_complete() && verdict.twice <= most,
        "{verdict}, {most} unconfirmed\n{}",
        log(&collector)
    );
    Some((hosts, collector, took))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_black_hole_in_the_middle_of_a_delivery_is_given_up_after_a_minute() {
    let open = |hosts: &Hosts| hosts.link.black_hole_after(200_000);
    let Some((_, collector, took)) = heal_after(open, "has not been heard for 6").await else {
        return;
    };
    assert!(took >= Duration::from_mins(1), "{}", log(&collector));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_black_hole_behind_a_closed_window_is_given_up_after_a_minute() {
    let Some(hosts) = Hosts::new() else {
        return;
    };
    let (from, to) = hosts.rows(3_000);
    hosts.setting.relay.next(Behaviour::Normal);
    hosts.setting.relay.next(Behaviour::Stall { after: 50_000 });
    hosts.configure(from, |output| output);
    let mut collector = hosts.start();
    let begun = Instant::now();
    while !window_is_closed(&hosts) {
        assert!(begun.elapsed() < GIVEN_UP, "{}", log(&collector));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    hosts.link.black_hole(true);
    let given_up = "has not been heard for";
    collector.wait_for(given_up, GIVEN_UP).await.unwrap();
    assert_eq!(hosts.setting.cursor(Report::MessageTrace), Some(from));
    hosts.link.black_hole(false);
    hosts.until_committed(&collector, to).await;
    stop(&mut collector).await;
    hosts.expect_all(&collector, from, to, super::setting::misbehaved);
}

/// Whether a connection of the near host's asks after a closed window: timer 4 in proc(5)'s list.
fn window_is_closed(hosts: &Hosts) -> bool {
    let read = || std::fs::read_to_string("/proc/thread-self/net/tcp");
    let text = hosts.link.near().enter(read).unwrap().unwrap();
    text.lines().any(|line| {
        let timer = line.split_whitespace().nth(5);
        timer.is_some_and(|timer| timer.starts_with("04:"))
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_black_hole_that_swallows_our_end_is_given_up_after_a_minute() {
    let open = |hosts: &Hosts| {
        let (link, mut ends) = (hosts.link.valve(), 0);
        hosts.link.on_near_end(move || {
            // The first end is the empty delivery's.
            ends += 1;
            if ends == 2 {
                link.black_hole(true);
            }
        });
    };
    heal_after(open, "has not been heard for 6").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_that_a_black_hole_swallows_is_given_up_and_what_was_read_comes_again() {
    let open = |hosts: &Hosts| {
        let relay = &hosts.setting.relay;
        relay.next(Behaviour::Normal);
        relay.next(Behaviour::AnswerLate(Duration::from_secs(2)));
        let (link, mut ends) = (hosts.link.valve(), 0);
        hosts.link.on_near_end(move || {
            ends += 1;
            if ends == 2 {
                let link = link.clone();
                std::thread::spawn(move || {
                    // Our end has been acknowledged by then, so that nothing is under way.
                    std::thread::sleep(Duration::from_secs(1));
                    link.black_hole(true);
                });
            }
        });
    };
    heal_after(open, "delivery failed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_black_hole_in_the_handshake_is_given_up_after_half_a_minute() {
    let open = |hosts: &Hosts| hosts.link.black_hole_after(100);
    heal_after(open, "no TLS handshake within 30 s").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_whose_host_has_gone_and_come_back_gets_what_it_has_forgotten() {
    let Some(mut hosts) = Hosts::new() else {
        return;
    };
    let (from, to) = hosts.rows(3_000);
    hosts.setting.relay.next(Behaviour::Normal);
    hosts.setting.relay.next(Behaviour::Stall { after: 50_000 });
    hosts.configure(from, |output| output);
    let mut collector = hosts.start();
    hosts.setting.relay.wait_for(30, GIVEN_UP).await.unwrap();
    hosts.link.black_hole(true);
    let before = hosts.setting.relay.records();
    let forgotten = before.total();
    hosts.come_back();
    hosts.link.black_hole(false);
    let begun = Instant::now();
    collector
        .wait_for("the connection broke", GIVEN_UP)
        .await
        .unwrap();
    assert!(
        begun.elapsed() < Duration::from_secs(50),
        "{}",
        log(&collector)
    );
    hosts.until_committed(&collector, to).await;
    stop(&mut collector).await;
    let mut read = hosts.setting.relay.records();
    read.extend(&before);
    let expected = hosts.setting.existing(Report::MessageTrace, from, to);
    let verdict = compared(&expected, &read, forgotten);
    assert!(
        verdict.is_complete() && verdict.twice <= forgotten,
        "{verdict}, {forgotten} unconfirmed\n{}",
        log(&collector)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_loses_packets_loses_no_record_and_repeats_none() {
    let Some(hosts) = Hosts::new() else {
        return;
    };
    let (from, to) = hosts.rows(3_000);
    hosts.link.delay(Duration::from_millis(10));
    hosts.link.loss(30);
    hosts.configure(from, |output| output);
    let mut collector = hosts.start();
    hosts.until_committed(&collector, to).await;
    stop(&mut collector).await;
    let (there, back) = hosts.link.dropped();
    assert!(there + back > 10, "{there} and {back} dropped");
    hosts.expect_exactly(&collector, from, to);
    let ended = |one: &testkit::relay::Connection| one.end == End::ClientClosed;
    assert!(hosts.setting.relay.connections().iter().all(ended));
}
