//! A real Prometheus, of Debian's packages, scrapes a collector and raises the alerts that ship.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::relay::Behaviour;
use testkit::report::Report;
use testkit::service::{Fault, When};
use tokio::process::{Child, Command};

use super::{Watched, free_port, get};
use crate::setting::{PATIENCE, Setting, skip, stop};

/// A Prometheus that scrapes the collector once a second and goes by `rules`; `None` where there is none.
fn prometheus(setting: &Setting, watched: &Watched, rules: &str) -> Option<(Child, SocketAddr)> {
    let folder = setting.folder.path().join("prometheus");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("alerts.yaml"), rules).unwrap();
    let configuration = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [alerts.yaml]\nscrape_configs:\n- job_name: collector\n  static_configs:\n  - targets: ['{}']\n",
        watched.address
    );
    fs::write(folder.join("prometheus.yml"), configuration).unwrap();
    let port = free_port();
    let prometheus = Command::new("prometheus")
        .current_dir(&folder)
        .arg("--config.file=prometheus.yml")
        .arg("--storage.tsdb.path=data")
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    let Ok(prometheus) = prometheus else {
        skip("the package prometheus is missing");
        return None;
    };
    Some((prometheus, ([127, 0, 0, 1], port).into()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prometheus_scrapes_it_and_knows_the_records() {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(30), setting.ago(26));
    setting.rows(Report::MessageTrace, from, to, 700);
    let input = setting
        .input()
        .service_from(Report::MessageTrace, from, &[]);
    let watched = Watched::start(&setting, input, "{listen: 0}").await;
    watched.until("up_to_date").await;

    let Some((_prometheus, address)) = prometheus(&setting, &watched, "") else {
        return;
    };
    let query = "/api/v1/query?query=sum(exchange_collector_confirmed_records_total)";
    let expected = setting.existing(Report::MessageTrace, from, to).total();
    let begun = Instant::now();
    loop {
        let answer = get(address, query).await.unwrap_or_default().1;
        let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
        let value = &answer["data"]["result"][0]["value"][1];
        if value == &expected.to_string() {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{answer:#}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Waits until these alerts fire and no other: each by its name and its service.
async fn until_firing(address: SocketAddr, expected: &[(&str, &str)]) {
    let expected: BTreeSet<(&str, &str)> = expected.iter().copied().collect();
    let begun = Instant::now();
    loop {
        let answer = get(address, "/api/v1/query?query=ALERTS").await;
        let answer: Value = serde_json::from_str(&answer.unwrap_or_default().1).unwrap_or_default();
        let alerts = answer["data"]["result"].as_array();
        let firing = alerts.into_iter().flatten().map(|alert| {
            let label = |name: &str| alert["metric"][name].as_str().unwrap_or_default();
            (label("alertname"), label("service"))
        });
        if alerts.is_some() && firing.collect::<BTreeSet<_>>() == expected {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{answer:#}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prometheus_raises_the_alerts_that_ship_by_their_causes_and_no_others() {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(30), setting.ago(26));
    setting.rows(Report::MessageTrace, from, to, 700);
    let (trace, detail) = (Report::MessageTrace, Report::DlpDetail);
    setting
        .service
        .fault(detail, When::Always, Fault::Forbidden);
    setting.relay.always(Behaviour::Refuse);
    let input = setting
        .input()
        .service_from(trace, from, &[])
        .service_from(detail, from, &[]);
    let mut watched = Watched::start(&setting, input, "{listen: 0}").await;

    // Nobody waits for minutes here.
    let lines = include_str!("../../../config/monitoring/alerts.yaml").lines();
    let rules: Vec<&str> = lines
        .filter(|line| !line.starts_with("        for: "))
        .collect();
    let Some((_prometheus, address)) = prometheus(&setting, &watched, &rules.join("\n")) else {
        return;
    };
    let refused = ("ExchangeCollectorRefused", detail.service());
    let down = ("ExchangeCollectorRelayDown", trace.service());
    until_firing(address, &[refused, down]).await;
    setting.relay.always(Behaviour::Normal);
    until_firing(address, &[refused]).await;
    stop(&mut watched.collector).await;
    until_firing(address, &[("ExchangeCollectorDown", "")]).await;
}
