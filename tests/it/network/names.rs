//! Names: several addresses of which the first is dead, and a name server that says nothing for a while.

use std::net::{IpAddr, SocketAddr};

use chrono::{DateTime, TimeDelta, Utc};
use testkit::collector::{Collector, Config};
use testkit::link::{Link, Names};
use testkit::pki::Wish;
use testkit::report::Report;
use testkit::service::{self, Service};
use tokio::runtime::Handle;
use tokio::task::block_in_place;

use super::setting::{Hosts, NAME};
use crate::setting::{PATIENCE, log, stop};

/// The name of the reporting service.
const SERVICE: &str = "reports.example.com";

/// A few records of half an hour.
fn few(hosts: &Hosts) -> (DateTime<Utc>, DateTime<Utc>) {
    let from = hosts.setting.ago(30);
    let to = from + TimeDelta::minutes(30);
    hosts.setting.rows(Report::MessageTrace, from, to, 300);
    (from, to)
}

async fn finish(hosts: &Hosts, mut collector: Collector, from: DateTime<Utc>, to: DateTime<Utc>) {
    hosts.until_committed(&collector, to).await;
    stop(&mut collector).await;
    hosts.expect_exactly(&collector, from, to);
}

/// Delivers to a name whose first address is dead and whose second one is the relay's.
async fn deliver_past(dead: fn(&Link) -> IpAddr, relay: fn(&Link) -> IpAddr) {
    let Some(hosts) = Hosts::with_relay_at(relay) else {
        return;
    };
    let (from, to) = hosts.rows(3_000);
    let (dead, relay) = (dead(&hosts.link), relay(&hosts.link));
    let names = Names::start(hosts.link.near(), &[dead, relay]).unwrap();
    hosts.configure(from, |output| output.option("address", NAME));
    let collector = hosts.start();
    finish(&hosts, collector, from, to).await;
    assert!(names.questions() > 0);
    let dead = SocketAddr::new(dead, hosts.setting.relay.port());
    let attempts = hosts.link.attempts(dead);
    assert!(attempts > 0, "the dead address was tried");
    // Linux asks again after a second, and then again and again: nobody may have waited for that.
    let connections = hosts.setting.relay.connections().len() as u64;
    assert!(
        attempts <= 2 * connections,
        "{attempts} attempts for {connections} connections"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_address_that_refuses_is_followed_by_the_next() {
    deliver_past(Link::refusing, |link| link.far().address()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_address_that_does_not_answer_is_followed_by_the_next() {
    deliver_past(Link::nowhere, |link| link.far().address()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_of_ipv6_that_does_not_answer_is_followed_by_one_of_ipv4() {
    deliver_past(Link::nowhere_of_ipv6, |link| link.far().address()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_of_ipv6_that_does_not_answer_is_followed_by_another_one() {
    deliver_past(Link::nowhere_of_ipv6, |link| link.far().address_of_ipv6()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_that_are_all_dead_are_named_each_with_its_reason() {
    let Some(hosts) = Hosts::new() else {
        return;
    };
    let (from, to) = few(&hosts);
    let (refusing, nowhere) = (hosts.link.refusing(), hosts.link.nowhere());
    let names = Names::start(hosts.link.near(), &[refusing, nowhere]).unwrap();
    hosts.configure(from, |output| output.option("address", NAME));
    let collector = hosts.start();
    let line = collector
        .wait_for("no connection to", PATIENCE)
        .await
        .unwrap();
    assert!(line.contains(&format!("{refusing}:")), "{line}");
    assert!(line.contains(&format!("{nowhere}:")), "{line}");
    names.addresses(&[hosts.link.far().address()]);
    finish(&hosts, collector, from, to).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_server_that_says_nothing_for_a_while_holds_deliveries_up_and_loses_nothing() {
    let Some(hosts) = Hosts::new() else {
        return;
    };
    let (from, to) = few(&hosts);
    let names = Names::start(hosts.link.near(), &[hosts.link.far().address()]).unwrap();
    names.silent(true);
    hosts.configure(from, |output| output.option("address", NAME));
    let collector = hosts.start();
    let line = collector
        .wait_for("could not be resolved", PATIENCE)
        .await
        .unwrap();
    assert!(
        line.contains(NAME) && line.contains("name server"),
        "{line}"
    );
    assert_eq!(hosts.setting.cursor(Report::MessageTrace), Some(from));
    names.silent(false);
    finish(&hosts, collector, from, to).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_server_that_says_nothing_for_a_while_holds_asking_up_and_loses_nothing() {
    let Some(mut hosts) = Hosts::new() else {
        return;
    };
    hosts.setting.service = service_on_the_far_host(&hosts);
    let (from, to) = few(&hosts);
    let names = Names::start(hosts.link.near(), &[hosts.link.far().address()]).unwrap();
    names.silent(true);
    let port = hosts.setting.service.address().port();
    let root = format!("https://{SERVICE}:{port}");
    let anchors = hosts.setting.folder.certs().join("chain.crt");
    let input = hosts
        .input(from)
        .option(
            "base_url",
            &format!("{root}/ecp/reportingwebservice/reporting.svc/"),
        )
        .option("authority_url", &root)
        .option("ca_bundle", &anchors.display().to_string());
    let config = Config::new(input, hosts.output());
    hosts.setting.folder.configure(&config).unwrap();
    let collector = hosts.start();
    let line = collector
        .wait_for("fetching failed", PATIENCE)
        .await
        .unwrap();
    assert!(
        line.contains("dns") || line.contains("resol"),
        "{line}\n{}",
        log(&collector)
    );
    names.silent(false);
    finish(&hosts, collector, from, to).await;
}

fn service_on_the_far_host(hosts: &Hosts) -> Service {
    let wish = Wish::server_for(&[SERVICE]);
    let options = service::Options {
        bind: SocketAddr::from((hosts.link.far().address(), 0)),
        https: Some(hosts.setting.pki.authority.issue(&wish).unwrap()),
        ..service::Options::default()
    };
    let runtime = Handle::current();
    let start = || runtime.block_on(Service::start(options));
    block_in_place(|| hosts.link.far().enter(start))
        .unwrap()
        .unwrap()
}
