//! How much `/metrics` says of many tenants: the real configuration, monitor and encoder.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::StatusCode;

use super::*;
use crate::ledger::Account;
use crate::relay::Receipt;
use crate::report::{Origin, REPORTS, Report};
use crate::source::Meter as _;
use crate::source::limiter::Waited;
use crate::window::Window;

const TENANTS: usize = 500;

/// So many tenants with an output each, and these services.
fn config(services: &[&Report]) -> Config {
    let (mut inputs, mut outputs) = (String::new(), String::new());
    let names = services
        .iter()
        .map(|report| format!("{}: {{}}", report.service));
    let names = names.collect::<Vec<_>>().join(", ");
    for tenant in 0..TENANTS {
        let _ = writeln!(
            inputs,
            "  tenant_{tenant:04}: {{id: {tenant}, outputs: [devo_{tenant:04}], \
             credentials: {{tenant_id: t.example, client_id: 11111111-2222-3333-4444-555555555555, client_secret: secret-{tenant}}}, \
             services: {{{names}}}}}"
        );
        let _ = writeln!(
            outputs,
            "  devo_{tenant:04}: {{type: syslog, config: {{address: 127.0.0.1, port: {}}}}}",
            10_000 + tenant
        );
    }
    let text = format!("globals: {{id: 1, name: c}}\noutputs:\n{outputs}inputs:\n{inputs}");
    let loaded = crate::config::read(Path::new("config.yaml"), &text, Utc::now());
    loaded
        .unwrap_or_else(|mistakes| panic!("{mistakes}"))
        .config
}

/// What happens to a service that is in step, within some hours.
fn gets_on(monitor: &ServiceMonitor) {
    let now = Utc::now();
    let window = Window {
        start: now - chrono::TimeDelta::minutes(5),
        end: now,
    };
    monitor.opened(window.start, Account::default());
    monitor.comes_from(Origin::ReportingService, &[]);
    monitor.collects(window);
    monitor.walks();
    let took = Duration::from_millis(1_234);
    monitor.waited(Waited {
        budget: took,
        pause: Duration::ZERO,
    });
    crate::source::Meter::answered(monitor, Some(StatusCode::OK), took);
    crate::source::Meter::answered(monitor, Some(StatusCode::SERVICE_UNAVAILABLE), took);
    monitor.received(123_456);
    monitor.sorted(1_234, 1_000, false);
    monitor.answered();
    for outlet in monitor.outlets() {
        outlet.opened();
        outlet.waits(1_000, Some(now));
        outlet.delivered(1_000, 660_000);
        outlet.confirmed((1_000, 660_000), Receipt::Read, (took, took));
        outlet.closed();
        outlet.waits(0, None);
    }
}

/// The metrics once all have got on: their bytes, as they are and gzipped, and how long it took to make them.
fn measured(services: &[&Report]) -> (usize, usize, Duration) {
    let config = config(services);
    // Ways to Microsoft are told nothing here: one does for all.
    let client = Client::new(&config.inputs[0]).unwrap();
    let clients = vec![client; TENANTS];
    let monitor = Monitor::new(&config, &clients).unwrap();
    for input in &config.inputs {
        for service in monitor.services_of(&input.name) {
            gets_on(&service);
        }
    }
    let begun = Instant::now();
    let text = monitor.metrics().unwrap();
    let took = begun.elapsed();
    let mut gzip = GzEncoder::new(vec![], Compression::fast());
    gzip.write_all(text.as_bytes()).unwrap();
    (text.len(), gzip.finish().unwrap().len(), took)
}

#[test]
fn five_hundred_tenants_are_five_megabytes_at_most() {
    let all: Vec<_> = REPORTS.iter().collect();
    let traces = all.iter().filter(|report| report.has_two_services());
    let traces: Vec<_> = traces.copied().collect();
    for (services, most, most_gzipped) in [
        (&traces[..], 5_000_000, 500_000),
        // By name and by content this is a bound for what goes over the network only.
        (&all[..], 20_000_000, 2_000_000),
    ] {
        let (bytes, gzipped, took) = measured(services);
        println!(
            "{TENANTS} tenants, services each {}: {bytes} bytes, {gzipped} gzipped, in {took:?}",
            services.len()
        );
        assert!(
            bytes <= most && gzipped <= most_gzipped,
            "{bytes}, {gzipped} gzipped"
        );
    }
}
