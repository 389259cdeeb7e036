//! What `/metrics` says, against what the reporting service has served and the relay has read.

use std::collections::{HashMap, HashSet};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testkit::collector::{Config, Output};
use testkit::relay::{Behaviour, End, Relay};
use testkit::report::Report;
use testkit::service::{Fault, When};

use super::Watched;
use crate::setting::{PATIENCE, Setting, skip};

const ROWS: u32 = 9_000;

/// The values of all series, by name with labels.
fn series(text: &str) -> HashMap<String, f64> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

/// The sum of a metric's series with all of these labels.
fn sum(series: &HashMap<String, f64>, name: &str, labels: &[&str]) -> f64 {
    let prefix = format!("exchange_collector_{name}{{");
    let wanted = series.iter().filter(|(name, _)| {
        name.starts_with(&prefix) && labels.iter().all(|label| name.contains(label))
    });
    let values: Vec<f64> = wanted.map(|(_, value)| *value).collect();
    assert!(!values.is_empty(), "no {name} with {labels:?}");
    values.iter().sum()
}

/// The same for a metric that counts whole things.
fn count(series: &HashMap<String, f64>, name: &str, labels: &[&str]) -> u64 {
    sum(series, name, labels).to_string().parse().unwrap()
}

/// Whether `promtool` finds nothing to say against these metrics.
fn check(metrics: &str) {
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        skip("the package prometheus is missing");
        return;
    };
    let mut input = promtool.stdin.take().unwrap();
    input.write_all(metrics.as_bytes()).unwrap();
    drop(input);
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success() && said.is_empty(),
        "{}",
        String::from_utf8_lossy(&said)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_agree_with_what_was_served_and_read_and_promtool_accepts_them() {
    let setting = Setting::new().await;
    let from = setting.ago(31);
    setting.rows(Report::MessageTrace, from, setting.ago(25), ROWS);
    let busy = When::After {
        passed: 2,
        times: 1,
    };
    let service = &setting.service;
    service.fault(Report::MessageTrace, busy, Fault::ServerError);
    let cut = When::After {
        passed: 4,
        times: 1,
    };
    service.fault(Report::MessageTrace, cut, Fault::CutBody);
    setting.relay.next(Behaviour::Normal); // the empty delivery
    setting.relay.next(Behaviour::ResetOnEnd);
    let start = from.format("%Y-%m-%dT%H:%M:%SZ").to_string();
    let input = setting
        .input()
        .service(Report::MessageTrace, &[("start_time", &start)]);
    let watched = Watched::start(&setting, input, "{listen: 0}").await;
    let done = |service: &serde_json::Value| service["windows"].as_u64() > Some(3);
    watched.until_it(done, "done with three windows").await;
    watched.until("up_to_date").await;

    let (status, text) = watched.get("/metrics").await;
    assert_eq!(status, 200);
    check(&text);
    let series = series(&text);
    let read = setting.relay.count();
    let connections = setting.relay.connections();
    let broken: u64 = connections
        .iter()
        .filter(|one| one.end != End::ClientClosed || one.behaviour == Behaviour::ResetOnEnd)
        .map(|one| one.lines)
        .sum();
    assert!(broken > 0);
    let to = setting.ago(25);
    let existing = setting.existing(Report::MessageTrace, from, to).total();
    let requests = setting.service.requests_for(Report::MessageTrace);
    let answered = |status: u16| requests.iter().filter(|one| one.status == status).count() as u64;

    assert_eq!(count(&series, "delivered_records_total", &[]), read);
    assert_eq!(count(&series, "resent_records_total", &[]), broken);
    let confirmed = count(&series, "confirmed_records_total", &["output=\"devo_1\""]);
    assert_eq!(confirmed, read - broken);
    assert_eq!(confirmed, existing);
    let fetched = count(&series, "fetched_records_total", &[]);
    let duplicates = count(&series, "duplicate_records_total", &[]);
    assert_eq!(fetched - duplicates, existing);
    let receipts = connections
        .iter()
        .filter(|one| one.lines > 0 && one.behaviour != Behaviour::ResetOnEnd)
        .count();
    assert_eq!(
        count(&series, "receipts_total", &["kind=\"read\""]),
        receipts as u64
    );
    let absent = |what: &str| !series.keys().any(|name| name.contains(what));
    assert!(absent("kind=\"stood_in\"") && absent("capped_windows_total"));
    assert_eq!(
        count(&series, "requests_total", &["status=\"2xx\""]),
        answered(200)
    );
    assert_eq!(count(&series, "requests_total", &["status=\"5xx\""]), 1);
    assert_eq!(count(&series, "retries_total", &["cause=\"busy\""]), 1);
    assert_eq!(
        count(&series, "retries_total", &["cause=\"connection\""]),
        1
    );
    let failed = count(
        &series,
        "delivery_failures_total",
        &["cause=\"connection\""],
    );
    assert_eq!(failed, 1);
    assert_eq!(count(&series, "unconfirmed_records", &[]), 0);
    assert_eq!(count(&series, "service_state", &[]), 0);
    assert_eq!(count(&series, "source", &[]), 0);
    let gzipped = watched.get_gzipped("/metrics").await;
    assert_eq!(names(&gzipped), names(&text));
    let bytes = count(&series, "fetched_bytes_total", &[]);
    assert!(bytes > 400 * existing, "{bytes}");
    assert!(sum(&series, "lag_seconds", &[]) < 70.0);
    let hours = sum(&series, "deletion_seconds", &[]) / 3_600.0;
    assert!(
        (hours - 215.0).abs() < 0.1,
        "ten days less 25 hours: {hours}"
    );
    assert!(sum(&series, "token_expiry_timestamp_seconds", &[]) > 1_700_000_000.0);
    assert!(sum(&series, "certificate_expiry_timestamp_seconds", &["devo_1"]) > 1_700_000_000.0);
    assert!(sum(&series, "clock_difference_seconds", &[]).abs() < 5.0);
    assert_eq!(count(&series, "build_info", &[]), 1);
}

/// The names and labels of all series.
fn names(text: &str) -> HashSet<String> {
    series(text).into_keys().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_rates_and_alerts_are_made_of_is_there_from_the_start_for_all_services_and_outputs() {
    let setting = Setting::new().await;
    let from = setting.ago(25);
    setting.rows(Report::MessageTrace, from, setting.ago(25), 10);
    let second = Relay::start(&setting.pki).unwrap();
    let input = setting.input().all_services_from(from, &[]);
    let config = Config::new(input, Output::relay(setting.relay.port()))
        .output(Output::relay(second.port()).named("devo_2"))
        .global("monitoring", "{listen: 0}");
    setting.folder.configure(&config).unwrap();
    let watched = Watched::of(setting.start()).await;
    let (_, first) = watched.get("/metrics").await;
    check(&first);
    let of_states = names(&first);
    let of_states = { of_states.iter() }.filter(|name| name.contains("service_state"));
    assert_eq!(of_states.count(), 8);
    for report in Report::ALL {
        let service = format!("service=\"{}\"", report.service());
        for name in [
            "windows_total",
            "fetched_records_total",
            "fetched_bytes_total",
            "state_write_failures_total",
            "lag_seconds",
            "cursor_timestamp_seconds",
            "deletion_seconds",
        ] {
            assert!(
                first.contains(&format!(
                    "{name}{{input=\"office365_reporting_message\",{service}}}"
                )),
                "{name}"
            );
        }
        for output in ["output=\"devo_1\"", "output=\"devo_2\""] {
            let labels = [service.as_str(), output];
            count(&series(&first), "confirmed_records_total", &labels);
            count(&series(&first), "delivered_records_total", &labels);
        }
    }
    let read = |status: &serde_json::Value| status["fetched_records"].as_u64() > Some(0);
    let traces = Report::MessageTrace.service();
    let begun = Instant::now();
    loop {
        let status = watched.status().await;
        let mut services = status["services"].as_array().unwrap().iter();
        if services.any(|service| service["service"] == traces && read(service)) {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{status:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (_, later) = watched.get("/metrics").await;
    check(&later);
    // What was there is there for good.
    let gone: Vec<_> = names(&first).difference(&names(&later)).cloned().collect();
    assert_eq!(gone, [""; 0]);
}
