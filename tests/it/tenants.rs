//! Tenants with outputs of their own: a relay that is dead and one that is silent cost a third tenant nothing.

use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use testkit::collector::{Config, Input, Output};
use testkit::report::Report;
use testkit::service::Service;

use crate::setting::{Setting, stop};

/// How often a busy machine may get between the two runs.
const TRIES: u32 = 4;

/// Hours of backlog of the third tenant.
const HOURS: i64 = 40;

/// What the service needs for a page: the rate is the service's and not this machine's.
const LATENCY: Duration = Duration::from_millis(100);

/// A relay that accepts connections and never says a word.
struct Silent {
    listener: TcpListener,
}

impl Silent {
    /// The system accepts; nobody takes the connections up.
    fn new() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        Silent { listener }
    }

    fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }
}

/// A port that nobody listens at.
fn dead_port() -> u16 {
    Silent::new().port()
}

/// A tenant whose records go to this output only.
fn tenant(setting: &Setting, service: &Service, name: &str) -> Input {
    let from = setting.ago(26 + HOURS);
    let mut input = Input::for_service(service).service_from(Report::MessageTrace, from, &[]);
    name.clone_into(&mut input.name);
    input.option("outputs", &format!("[{name}]"))
}

/// How long the third tenant takes for its backlog, alone or beside two whose relays are ill.
async fn third(beside_others: bool) -> Duration {
    let options = testkit::service::Options {
        latency: LATENCY,
        ..testkit::service::Options::default()
    };
    let setting = Setting::with(options.clone(), |_| {}).await;
    let (from, to) = (setting.ago(26 + HOURS), setting.ago(26));
    setting.rows(Report::MessageTrace, from, to, 8_000);
    let silent = Silent::new();
    let well = Output::relay(setting.relay.port()).named("well");
    let mut config = Config::new(tenant(&setting, &setting.service, "well"), well);
    let mut services = Vec::new();
    if beside_others {
        for (name, port) in [("dead", dead_port()), ("silent", silent.port())] {
            let service = Service::start(options.clone()).await.unwrap();
            let backlog = testkit::service::Backlog::new(Report::MessageTrace, from, to, 100_000);
            service.generate(&backlog);
            config = config.output(Output::relay(port).named(name));
            config.inputs.push(tenant(&setting, &service, name));
            services.push(service);
        }
    }
    setting.folder.configure(&config).unwrap();
    let expected = setting.existing(Report::MessageTrace, from, to);
    let begun = Instant::now();
    let mut collector = setting.start();
    setting.until_read(&expected, &collector).await;
    let took = begun.elapsed();
    stop(&mut collector).await;
    setting.expect_exactly(&expected, &collector);
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_and_a_silent_relay_of_others_cost_a_tenant_nothing() {
    let mut seen = Vec::new();
    for _ in 0..TRIES {
        let (alone, beside) = (third(false).await, third(true).await);
        if beside.as_secs_f64() * 0.95 <= alone.as_secs_f64() {
            return;
        }
        seen.push((alone, beside));
    }
    panic!("alone and beside others: {seen:?}");
}
