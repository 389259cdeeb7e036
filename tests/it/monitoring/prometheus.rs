//! A real Prometheus, of Debian's packages, scrapes a collector.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::report::Report;
use tokio::process::Command;

use super::{Watched, free_port, get};
use crate::setting::{PATIENCE, Setting, skip};

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

    let folder = setting.folder.path().join("prometheus");
    fs::create_dir(&folder).unwrap();
    let targets = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: collector\n  static_configs:\n  - targets: ['{}']\n",
        watched.address
    );
    fs::write(folder.join("prometheus.yml"), targets).unwrap();
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
    let Ok(_prometheus) = prometheus else {
        skip("the package prometheus is missing");
        return;
    };
    let address = ([127, 0, 0, 1], port).into();
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
