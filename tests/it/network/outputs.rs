//! Two relays over the link, one of them down for a while.

use std::time::Duration;

use testkit::collector::Config;
use testkit::relay::{Options, Relay};
use testkit::report::Report;

use super::setting::Hosts;
use crate::figures::compared;
use crate::setting::{PATIENCE, log, stop};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_relays_over_a_slow_link_the_live_one_gets_nothing_twice_while_the_other_is_down() {
    let Some(mut hosts) = Hosts::new() else {
        return;
    };
    let (from, to) = hosts.rows(3_000);
    hosts.link.delay(Duration::from_millis(30));
    let mut options = Options::new(&hosts.setting.pki);
    options.bind = (hosts.link.far().address(), 0).into();
    let live = hosts.link.far().enter(|| Relay::start_with(&options));
    let live = live.unwrap().unwrap();
    let second = hosts
        .output()
        .named("second")
        .option("port", &live.port().to_string());
    let config = Config::new(hosts.input(from), hosts.output()).output(second);
    hosts.setting.folder.configure(&config).unwrap();
    hosts.setting.relay.shut().await;
    let mut collector = hosts.start();
    live.wait_for(500, PATIENCE).await.unwrap();
    collector
        .wait_for("delivery failed", PATIENCE)
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(
        hosts.setting.cursor(Report::MessageTrace),
        Some(from),
        "the cursor waits"
    );
    let (link, relay) = (&hosts.link, &mut hosts.setting.relay);
    link.far().enter(|| relay.open()).unwrap().unwrap();
    hosts.until_committed(&collector, to).await;
    stop(&mut collector).await;
    hosts.expect_exactly(&collector, from, to);
    let expected = hosts.setting.existing(Report::MessageTrace, from, to);
    let verdict = compared(&expected, &live.records(), 0);
    assert!(verdict.is_exact(), "{verdict}\n{}", log(&collector));
}
