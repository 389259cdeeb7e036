//! Tenants with outputs of their own: none gets another's records.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use testkit::collector::{Config, Input, Output};
use testkit::records::{Records, compare};
use testkit::relay::{self, Behaviour, Relay};
use testkit::report::{Aggregate, Report};
use testkit::service::{Backlog, Options, Service, most_in_flight};

use crate::monitoring::Watched;
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
        Tenant::with(setting, name, (from, to), rows, Options::default()).await
    }

    async fn with(
        setting: &Setting,
        name: &'static str,
        (from, to): (DateTime<Utc>, DateTime<Utc>),
        rows: u32,
        options: Options,
    ) -> Self {
        let service = Service::start(options).await.unwrap();
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

/// The status of a tenant's input names nothing of another's.
async fn expect_own_status(watched: &Watched, name: &str) {
    let (_, text) = watched.get(&format!("/status?input={name}")).await;
    let status: Value = serde_json::from_str(&text).unwrap();
    let names = |list: &str, key: &str| -> Vec<String> {
        let all = status[list].as_array().unwrap().iter();
        all.map(|one| one[key].as_str().unwrap().to_owned())
            .collect()
    };
    for (list, key) in [
        ("inputs", "name"),
        ("services", "input"),
        ("outputs", "name"),
    ] {
        assert_eq!(names(list, key), [name], "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_tenants_records_go_to_its_own_output_and_to_no_other() {
    let setting = Setting::new().await;
    let time = (setting.ago(50), setting.ago(26));
    let a = Tenant::new(&setting, "a", time, 900).await;
    let b = Tenant::new(&setting, "b", time, 700).await;
    let mut config = Config::new(a.input(time.0), a.output()).output(b.output());
    config.inputs.push(b.input(time.0));
    config = config.global("monitoring", "{listen: 0}");
    setting.folder.configure(&config).unwrap();
    let mut watched = Watched::of(setting.start()).await;
    for tenant in [&a, &b] {
        let expected = tenant.existing(time);
        tenant.until_read(&expected, &watched.collector).await;
        expect_own_status(&watched, tenant.name).await;
    }
    assert_eq!(watched.get("/status?input=c").await.0, 404);
    stop(&mut watched.collector).await;
    for tenant in [&a, &b] {
        let verdict = compare(&tenant.existing(time), &tenant.relay.records());
        assert!(verdict.is_exact(), "{}: {verdict}", tenant.name);
    }
}

/// How long a tenant's backlog takes beside two others whose relays behave so, or alone.
async fn beside(others: Option<[Behaviour; 2]>) -> Duration {
    let setting = Setting::new().await;
    let time = (setting.ago(46), setting.ago(26));
    let options = || Options {
        latency: Duration::from_millis(100),
        page_rows: 1_000,
        ..Options::default()
    };
    let third = Tenant::with(&setting, "third", time, 60_000, options()).await;
    let mut config = Config::new(third.input(time.0), third.output());
    let mut beside = vec![];
    for (name, behaviour) in ["one", "other"]
        .into_iter()
        .zip(others.into_iter().flatten())
    {
        let tenant = Tenant::with(&setting, name, time, 60_000, options()).await;
        tenant.relay.always(behaviour);
        config = config.output(tenant.output());
        config.inputs.push(tenant.input(time.0));
        beside.push(tenant);
    }
    setting.folder.configure(&config).unwrap();
    let mut collector = setting.start();
    collector.wait_for("collecting", PATIENCE).await.unwrap();
    let begun = Instant::now();
    while third.relay.count() < 60_000 {
        assert!(begun.elapsed() < PATIENCE, "{}", log(&collector));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = begun.elapsed();
    collector.kill().await.unwrap();
    let verdict = compare(&third.existing(time), &third.relay.records());
    assert!(verdict.is_exact(), "{verdict}");
    took
}

/// Those whose relays give no receipt keep no memory that others wait for: not at the start, and not once their relays have failed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_with_ill_relays_leave_a_third_its_rate() {
    let silent = Behaviour::AnswerLate(Duration::from_hours(1));
    let ill = [
        [Behaviour::Refuse, Behaviour::Stall { after: 0 }],
        [silent, Behaviour::ResetOnEnd],
        [
            Behaviour::ResetAfter(300_000),
            Behaviour::CloseUnread { after: 100_000 },
        ],
    ];
    let alone = beside(None).await;
    for others in ill {
        let took = beside(Some(others.clone())).await;
        println!("{others:?}: {took:?}, {alone:?} alone");
        // The goal of 0.95 is measured where nothing else runs.
        let bound = alone.mul_f64(1.4) + Duration::from_secs(1);
        assert!(took <= bound, "{others:?}: {took:?}, {alone:?} alone");
    }
}

/// An offset is told by the name: the checksum of the name as a share of 30 ms for each other tenant.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tenants_ask_for_the_first_time_each_at_its_own_instant() {
    const TENANTS: u32 = 100;
    let setting = Setting::new().await;
    let names: Vec<_> = (0..TENANTS).map(|nth| format!("tenant_{nth:03}")).collect();
    // What is asked for first tells who asks.
    let from = |nth: u32| setting.ago(26) + TimeDelta::seconds(i64::from(nth));
    let input = |nth: u32| {
        let start = from(nth).format("%Y-%m-%dT%H:%M:%SZ").to_string();
        let mut input = Input::for_service(&setting.service)
            .service(Report::MessageTrace, &[("start_time", start.as_str())]);
        names[nth as usize].clone_into(&mut input.name);
        input
    };
    let mut config = Config::new(input(0), Output::relay(setting.relay.port()));
    config.inputs = (0..TENANTS).map(input).collect();
    setting.folder.configure(&config).unwrap();
    let started = Utc::now();
    let mut collector = setting.start();
    let first_asked = |nth: u32| {
        let requests = setting.service.requests_for(Report::MessageTrace);
        let mut own = requests
            .iter()
            .filter(|one| one.range.is_some_and(|range| range.0 == from(nth)));
        own.next().map(|request| request.time)
    };
    let begun = Instant::now();
    while (0..TENANTS).any(|nth| first_asked(nth).is_none()) {
        assert!(begun.elapsed() < PATIENCE, "{}", log(&collector));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let within = i64::from(TENANTS - 1) * 30;
    for nth in 0..TENANTS {
        let place = crc32fast::hash(names[nth as usize].as_bytes());
        let offset = TimeDelta::milliseconds((within * i64::from(place)) >> 32);
        let waited = first_asked(nth).unwrap() - started;
        assert!(waited >= offset, "{nth} waited {waited}, of {offset}");
    }
    collector.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_in_flight_have_a_bound_over_all_tenants() {
    const ROWS: u32 = 10_000;
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(40), setting.ago(26));
    setting.rows(Report::MessageTrace, from, to, ROWS);
    let slow = |options: &mut Options| options.latency = Duration::from_millis(200);
    setting.service.adjust(slow);
    let input = |name: &str| {
        let mut input = setting
            .input()
            .service_from(Report::MessageTrace, from, &[]);
        name.clone_into(&mut input.name);
        input
    };
    let mut config = Config::new(input("a"), Output::relay(setting.relay.port()));
    config.inputs = ["a", "b", "c"].map(input).into();
    let config = config.global("concurrent_requests", "3");
    setting.folder.configure(&config).unwrap();
    let mut collector = setting.start();
    let all = u64::from(ROWS) * 3;
    setting.relay.wait_for(all, PATIENCE).await.unwrap();
    stop(&mut collector).await;
    // Without it each of the three would have four beside its own.
    let most = most_in_flight(&setting.service.requests());
    assert!(most > 3 && most <= 3 + 3, "{most} at once");
}
