//! Two hosts: the collector and the reporting service on the near one, the relay on the far one.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};
use testkit::collector::{Collector, Config, Folder, Input, Output};
use testkit::link::Link;
use testkit::pki::{Pki, Wish};
use testkit::relay::{self, Behaviour, Relay};
use testkit::report::Report;
use testkit::service::{self, Service};
use tokio::runtime::Handle;
use tokio::task::block_in_place;

use crate::setting::{PATIENCE, Setting, log, program};

/// The name that certificates of the far host bear beside its address.
pub(super) const NAME: &str = "far.example.com";

/// A setting whose peers are on hosts of their own.
pub(super) struct Hosts {
    pub(super) setting: Setting,
    pub(super) link: Link,
}

/// A relay on the far host, at one of its addresses, and the certificates that go with it.
pub(super) fn relay_on(link: &Link, address: IpAddr) -> (Relay, Pki) {
    let mut pki = Pki::new().unwrap();
    let wish = Wish::server_for(&[NAME, &address.to_string(), "localhost", "127.0.0.1"]);
    pki.server = pki.authority.issue(&wish).unwrap();
    let mut options = relay::Options::new(&pki);
    options.bind = SocketAddr::from((address, 0));
    // Small, so that what the relay does not read stays with the collector.
    options.receive_buffer = Some(64 << 10);
    let relay = link.far().enter(|| Relay::start_with(&options));
    (relay.unwrap().unwrap(), pki)
}

impl Hosts {
    /// None if this machine cannot have them.
    pub(super) fn new() -> Option<Hosts> {
        Hosts::with_relay_at(|link| link.far().address())
    }

    /// The same, with the relay at another address.
    pub(super) fn with_relay_at(address: impl FnOnce(&Link) -> IpAddr) -> Option<Hosts> {
        let link = Link::new().unwrap()?;
        let (relay, pki) = relay_on(&link, address(&link));
        let runtime = Handle::current();
        let options = service::Options::default();
        let start = || runtime.block_on(Service::start(options));
        let service = block_in_place(|| link.near().enter(start))
            .unwrap()
            .unwrap();
        let setting = Setting {
            service,
            relay,
            folder: Folder::new(&pki).unwrap(),
            pki,
            now: Utc::now().duration_trunc(TimeDelta::minutes(1)).unwrap(),
        };
        Some(Hosts { setting, link })
    }

    /// Message traces of four hours that have long settled.
    pub(super) fn rows(&self, rows: u32) -> (DateTime<Utc>, DateTime<Utc>) {
        let (from, to) = (self.setting.ago(30), self.setting.ago(25));
        self.setting.rows(Report::MessageTrace, from, to, rows);
        (from, to)
    }

    /// The relay as an output.
    pub(super) fn output(&self) -> Output {
        let address = self.link.far().address().to_string();
        Output::relay(self.setting.relay.port()).option("address", &address)
    }

    /// An input with the one service.
    pub(super) fn input(&self, from: DateTime<Utc>) -> Input {
        self.setting
            .input()
            .service_from(Report::MessageTrace, from, &[])
    }

    pub(super) fn configure(&self, from: DateTime<Utc>, change: impl FnOnce(Output) -> Output) {
        let config = Config::new(self.input(from), change(self.output()));
        self.setting.folder.configure(&config).unwrap();
    }

    /// The collector, on the near host.
    pub(super) fn start(&self) -> Collector {
        let (ip, arguments) = self.link.near().wrapped(Path::new(program())).unwrap();
        Collector::start_with(&ip, &self.setting.folder, |command| {
            command.args(arguments);
        })
        .unwrap()
    }

    pub(super) async fn until_committed(&self, collector: &Collector, to: DateTime<Utc>) {
        let services = [Report::MessageTrace];
        self.setting.until_committed(collector, &services, to).await;
    }

    /// Another relay takes the place of the first: the same address, and no knowledge of its connections.
    pub(super) fn come_back(&mut self) {
        let mut options = relay::Options::new(&self.setting.pki);
        options.bind = self.setting.relay.address();
        // Only when the first listens no more can the second.
        let listening = self.link.far().enter(|| Relay::start(&self.setting.pki));
        self.setting.relay = listening.unwrap().unwrap();
        let begun = std::time::Instant::now();
        self.setting.relay = loop {
            match self
                .link
                .far()
                .enter(|| Relay::start_with(&options))
                .unwrap()
            {
                Ok(relay) => break relay,
                Err(error) => assert!(begun.elapsed() < PATIENCE, "{error:#}"),
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        };
    }

    /// Nothing is lost, and nothing comes twice but what was read on connections that stayed unconfirmed.
    pub(super) fn expect_all(
        &self,
        collector: &Collector,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        unconfirmed: impl Fn(&relay::Connection) -> bool,
    ) {
        let expected = self.setting.existing(Report::MessageTrace, from, to);
        let connections = self.setting.relay.connections();
        let all = connections.iter().filter(|one| unconfirmed(one));
        let most: u64 = all.map(|one| one.lines).sum();
        let verdict = self.setting.verdict_within(&expected, most);
        assert!(
            verdict.is_complete() && verdict.twice <= most,
            "{verdict}, {most} unconfirmed\n{}",
            log(collector)
        );
    }

    /// Each record once.
    pub(super) fn expect_exactly(
        &self,
        collector: &Collector,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) {
        self.expect_all(collector, from, to, |_| false);
    }
}

/// The relay has ended it by itself.
pub(super) fn ended_by_relay(connection: &relay::Connection) -> bool {
    matches!(connection.end, relay::End::RelayClosed)
}

/// The relay was told to misbehave on it.
pub(super) fn misbehaved(connection: &relay::Connection) -> bool {
    connection.behaviour != Behaviour::Normal
}
