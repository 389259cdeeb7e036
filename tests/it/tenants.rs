//! Tenants with outputs of their own: none gets another's records.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use testkit::collector::{Config, Input, Output};
use testkit::records::{Records, compare};
use testkit::relay::{self, Relay};
use testkit::report::{Aggregate, Report};
use testkit::service::{Backlog, Options, Service};

use crate::setting::{PATIENCE, Setting, log, stop};

/// A tenant with a service and a relay of its own.
pub(crate) struct Tenant {
    pub(crate) name: &'static str,
    pub(crate) service: Service,
    pub(crate) relay: Relay,
}

impl Tenant {
    /// With so many message traces between two instants.
    pub(crate) async fn new(
        setting: &Setting,
        name: &'static str,
        (from, to): (DateTime<Utc>, DateTime<Utc>),
        rows: u32,
    ) -> Self {
        let service = Service::start(Options::default()).await.unwrap();
        service.generate(&Backlog::new(Report::MessageTrace, from, to, rows));
        let relay = Relay::start_with(&relay::Options::new(&setting.pki)).unwrap();
        Tenant {
            name,
            service,
            relay,
        }
    }

    pub(crate) fn output(&self) -> Output {
        Output::relay(self.relay.port()).named(self.name)
    }

    /// The input, whose records go to its own output only.
    pub(crate) fn input(&self, from: DateTime<Utc>) -> Input {
        input(&self.service, self.name, from)
    }

    pub(crate) fn existing(&self, (from, to): (DateTime<Utc>, DateTime<Utc>)) -> Records {
        self.service
            .existing(Report::MessageTrace, Aggregate::Hour, from, to)
    }

    /// Waits until the relay has read all of `expected`.
    pub(crate) async fn until_read(
        &self,
        expected: &Records,
        collector: &testkit::collector::Collector,
    ) {
        let begun = Instant::now();
        while compare(expected, &self.relay.records()).missing > 0 {
            assert!(begun.elapsed() < PATIENCE, "{}", log(collector));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn input(service: &Service, name: &str, from: DateTime<Utc>) -> Input {
    let mut input = Input::for_service(service).service_from(Report::MessageTrace, from, &[]);
    name.clone_into(&mut input.name);
    input.option("outputs", &format!("[{name}]"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_tenants_records_go_to_its_own_output_and_to_no_other() {
    let setting = Setting::new().await;
    let time = (setting.ago(50), setting.ago(26));
    let a = Tenant::new(&setting, "a", time, 900).await;
    let b = Tenant::new(&setting, "b", time, 700).await;
    let mut config = Config::new(a.input(time.0), a.output()).output(b.output());
    config.inputs.push(b.input(time.0));
    setting.folder.configure(&config).unwrap();
    let mut collector = setting.start();
    for tenant in [&a, &b] {
        tenant.until_read(&tenant.existing(time), &collector).await;
    }
    stop(&mut collector).await;
    for tenant in [&a, &b] {
        let verdict = compare(&tenant.existing(time), &tenant.relay.records());
        assert!(verdict.is_exact(), "{}: {verdict}", tenant.name);
    }
}
