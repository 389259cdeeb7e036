//! Resets in the middle of what TLS sends: of the handshake, of a record's header, of a record.

use std::time::Duration;

use testkit::collector::{Collector, Output};
use testkit::proxy::Proxy;
use testkit::relay::End;
use testkit::report::Report;

use crate::setting::{PATIENCE, Setting, log};

/// After so many bytes to the relay: within a record's header, the client's first flight, its certificate; then within records of lines.
const CUTS: [u64; 5] = [3, 200, 1_000, 20_011, 120_003];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resets_in_the_middle_of_tls_records_and_of_the_handshake_lose_nothing() {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(30), setting.ago(25));
    setting.rows(Report::MessageTrace, from, to, 3_000);
    let proxy = Proxy::start(setting.relay.address()).await.unwrap();
    proxy.cut_after(Some(CUTS[0]));
    let input = setting
        .input()
        .service_from(Report::MessageTrace, from, &[]);
    setting.configure_with(input, Output::relay(proxy.port()));
    let mut collector = setting.start();
    for (failures, next) in CUTS.into_iter().skip(1).map(Some).chain([None]).enumerate() {
        until_failed(&collector, failures + 1).await;
        proxy.cut_after(next);
    }
    setting.stop_at(&mut collector, to).await;
    let verdict = setting.verdict(&setting.existing(Report::MessageTrace, from, to));
    let connections = setting.relay.connections();
    let cut = connections
        .iter()
        .filter(|one| one.end != End::ClientClosed);
    let unconfirmed: u64 = cut.map(|one| one.lines).sum();
    assert!(
        verdict.is_complete() && verdict.twice <= unconfirmed,
        "{verdict}, {unconfirmed} unconfirmed\n{}",
        log(&collector)
    );
}

async fn until_failed(collector: &Collector, times: usize) {
    let begun = std::time::Instant::now();
    while collector.log_with("delivery failed").len() < times {
        assert!(begun.elapsed() < PATIENCE, "{}", log(collector));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
