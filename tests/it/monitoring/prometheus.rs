//! A real Prometheus, of Debian's packages, scrapes a collector and raises the alerts that ship.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use serde_json::Value;
use tempfile::TempDir;
use testkit::collector::{Credentials, Input};
use testkit::pki::{KeyForm, Wish};
use testkit::relay::Behaviour;
use testkit::report::Report;
use testkit::service::{Fault, When};
use tokio::process::{Child, Command};

use super::shipped::alerts;
use super::{Watched, damage, free_port, get};
use crate::setting::{PATIENCE, Setting, skip, stop};

/// The alerts that ship, for whoever cannot wait: they fire at once, and what is foreseen from an hour is foreseen from half a minute.
fn impatient() -> String {
    let rules = include_str!("../../../config/monitoring/alerts.yaml");
    assert!(rules.contains("[1h:1m]"));
    let lines = rules
        .lines()
        .filter(|line| !line.starts_with("        for: "));
    let rules: Vec<&str> = lines.collect();
    rules.join("\n").replace("[1h:1m]", "[30s:1s]")
}

/// A Prometheus that scrapes collectors once a second, each under a name, and goes by `rules`.
struct Prometheus {
    address: SocketAddr,
    _process: Child,
    // Goes last: the process writes into it.
    _folder: TempDir,
}

/// `None` where there is none on this machine.
fn prometheus(collectors: &[(&str, SocketAddr)], rules: &str) -> Option<Prometheus> {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    fs::write(folder.join("alerts.yaml"), rules).unwrap();
    let targets = collectors.iter().map(|(name, address)| {
        format!("  - {{targets: ['{address}'], labels: {{collector: {name}}}}}\n")
    });
    let configuration = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [alerts.yaml]\nscrape_configs:\n- job_name: collector\n  static_configs:\n{}",
        targets.collect::<String>()
    );
    fs::write(folder.join("prometheus.yml"), configuration).unwrap();
    let port = free_port();
    let prometheus = Command::new("prometheus")
        .current_dir(folder)
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
    Some(Prometheus {
        address: ([127, 0, 0, 1], port).into(),
        _process: prometheus,
        _folder: root,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prometheus_scrapes_it_and_knows_the_records() {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(30), setting.ago(25));
    setting.rows(Report::MessageTrace, from, to, 700);
    let input = setting
        .input()
        .service_from(Report::MessageTrace, from, &[]);
    let watched = Watched::start(&setting, input, "{listen: 0}").await;
    watched.until("up_to_date").await;

    let Some(prometheus) = prometheus(&[("one", watched.address)], "") else {
        return;
    };
    let query = "/api/v1/query?query=sum(exchange_collector_confirmed_records_total)";
    let expected = setting.existing(Report::MessageTrace, from, to).total();
    let begun = Instant::now();
    loop {
        let answer = get(prometheus.address, query).await.unwrap_or_default().1;
        let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
        let value = &answer["data"]["result"][0]["value"][1];
        if value == &expected.to_string() {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{answer:#}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// How often alerts are looked at, and how often in a row they have to be as expected: they are evaluated each second.
const EVERY: Duration = Duration::from_millis(200);
const STEADY: u32 = 15;

/// An alert: which, of which collector, of which service, output or input.
type Alert = (&'static str, &'static str, String);

impl Prometheus {
    /// Waits until these alerts fire and no other, and do so for some evaluations.
    async fn until_firing(&self, expected: &[Alert]) {
        let expected: BTreeSet<(&str, &str, &str)> = expected
            .iter()
            .map(|(alert, collector, whose)| (*alert, *collector, whose.as_str()))
            .collect();
        let (begun, mut times) = (Instant::now(), 0);
        loop {
            let answer = get(self.address, "/api/v1/query?query=ALERTS").await;
            let answer: Value =
                serde_json::from_str(&answer.unwrap_or_default().1).unwrap_or_default();
            let alerts = answer["data"]["result"].as_array();
            let firing = alerts.into_iter().flatten().map(|alert| {
                let label = |name: &str| alert["metric"][name].as_str().unwrap_or_default();
                let whose = ["service", "output", "input"].map(label);
                let whose = whose.into_iter().find(|whose| !whose.is_empty());
                let whose = whose.unwrap_or_default();
                (label("alertname"), label("collector"), whose)
            });
            let firing: BTreeSet<_> = firing.collect();
            times = if alerts.is_some() && firing == expected {
                times + 1
            } else {
                0
            };
            if times == STEADY {
                return;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "expected, and does not fire: {:?}\nfires, and is not expected: {:?}",
                expected.difference(&firing).collect::<Vec<_>>(),
                firing.difference(&expected).collect::<Vec<_>>()
            );
            tokio::time::sleep(EVERY).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prometheus_raises_the_alerts_that_ship_by_their_causes_and_no_others() {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(30), setting.ago(25));
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
    let collectors = [("one", watched.address)];
    let Some(prometheus) = prometheus(&collectors, &impatient()) else {
        return;
    };
    let alert = |alert, whose: &str| (alert, "one", whose.to_owned());
    let refused = alert("ExchangeCollectorRefused", detail.service());
    let down = alert("ExchangeCollectorRelayDown", "devo_1");
    prometheus.until_firing(&[refused.clone(), down]).await;
    setting.relay.always(Behaviour::Normal);
    prometheus.until_firing(&[refused]).await;
    stop(&mut watched.collector).await;
    prometheus
        .until_firing(&[alert("ExchangeCollectorDown", "")])
        .await;
}

/// A collector with a cause for alerts, by the cause's name.
struct Troubled {
    cause: &'static str,
    watched: Watched,
    expected: Vec<Alert>,
    _setting: Setting,
}

impl Troubled {
    async fn start(
        cause: &'static str,
        setting: Setting,
        input: Input,
        monitoring: &str,
        expected: &[(&'static str, &str)],
    ) -> Self {
        let watched = Watched::start(&setting, input, monitoring).await;
        let expected = expected.iter();
        Self {
            cause,
            watched,
            expected: expected
                .map(|(alert, whose)| (*alert, cause, (*whose).to_owned()))
                .collect(),
            _setting: setting,
        }
    }
}

const WATCHED: &str = "{listen: 0}";

/// An input with message traces from so many hours ago, with rows until 26 hours ago.
fn traces(setting: &Setting, hours: i64) -> Input {
    let from = setting.ago(hours);
    setting.rows(Report::MessageTrace, from, setting.ago(25), 700);
    setting
        .input()
        .service_from(Report::MessageTrace, from, &[])
}

async fn nothing() -> Troubled {
    let setting = Setting::new().await;
    let input = traces(&setting, 28);
    Troubled::start("nothing", setting, input, WATCHED, &[]).await
}

async fn no_progress() -> Troubled {
    let setting = Setting::new().await;
    let input = traces(&setting, 27);
    let busy = Fault::Busy(None);
    setting
        .service
        .fault(Report::MessageTrace, When::Always, busy);
    let expected = [("ExchangeCollectorStalled", Report::MessageTrace.service())];
    let soon = "{listen: 0, stalled_after_in_seconds: 2}";
    Troubled::start("no-progress", setting, input, soon, &expected).await
}

async fn a_slow_service() -> Troubled {
    let setting = Setting::new().await;
    let input = traces(&setting, 60);
    let slow = Fault::Delay(Duration::from_mins(9));
    let service = &setting.service;
    service.fault(Report::MessageTrace, When::Always, slow);
    let expected = [("ExchangeCollectorLag", Report::MessageTrace.service())];
    Troubled::start("slow-service", setting, input, WATCHED, &expected).await
}

async fn a_damaged_state() -> Troubled {
    let setting = Setting::new().await;
    damage(&setting, traces(&setting, 28)).await;
    // A collector without any service that can run does not stay.
    let from = setting.ago(25);
    let input = setting
        .input()
        .service_from(Report::MessageTrace, from, &[])
        .service_from(Report::DlpDetail, from, &[]);
    let expected = [(
        "ExchangeCollectorNotRunning",
        Report::MessageTrace.service(),
    )];
    Troubled::start("damaged-state", setting, input, WATCHED, &expected).await
}

/// Almost a fortnight.
fn soon() -> DateTime<Utc> {
    Utc::now() + TimeDelta::days(13)
}

async fn a_relay_certificate_that_ends() -> Troubled {
    let setting = Setting::new().await;
    let wish = Wish::client().ending(soon());
    let identity = setting.pki.authority.issue(&wish).unwrap();
    identity
        .write(&setting.folder.certs(), "collector")
        .unwrap();
    let input = traces(&setting, 28);
    let expected = [("ExchangeCollectorRelayCertificateEnds", "devo_1")];
    Troubled::start("relay-certificate", setting, input, WATCHED, &expected).await
}

async fn an_application_certificate_that_ends() -> Troubled {
    let setting = Setting::new().await;
    let wish = Wish::client().form(KeyForm::Pkcs1).ending(soon());
    let identity = setting.pki.authority.issue(&wish).unwrap();
    let folder = setting.folder.path().join("credentials");
    identity.write(&folder, "app").unwrap();
    setting.service.adjust(|options| {
        options.access.app.certificate = Some(identity.certificate.clone());
    });
    let access = setting.service.options().access;
    let input = traces(&setting, 28).credentials(Credentials::Certificate {
        tenant_id: access.tenant,
        client_id: access.app.client_id,
        client_certificate: "app.crt".to_owned(),
        client_key: "app.key".to_owned(),
    });
    let name = input.name.clone();
    let expected = [("ExchangeCollectorSignInCertificateEnds", name.as_str())];
    Troubled::start("app-certificate", setting, input, WATCHED, &expected).await
}

async fn a_relay_that_is_down_for_nine_days() -> Troubled {
    let setting = Setting::new().await;
    setting.relay.always(Behaviour::Refuse);
    let input = traces(&setting, 230);
    let service = Report::MessageTrace.service();
    let expected = [
        ("ExchangeCollectorDataLossNear", service),
        ("ExchangeCollectorLag", service),
        ("ExchangeCollectorRelayDown", "devo_1"),
    ];
    Troubled::start("relay-down", setting, input, WATCHED, &expected).await
}

async fn a_start_twelve_days_ago() -> Troubled {
    let setting = Setting::new().await;
    let from = setting.now - TimeDelta::days(12);
    let input = setting
        .input()
        .service_from(Report::MessageTrace, from, &[]);
    let service = Report::MessageTrace.service();
    let expected = [
        ("ExchangeCollectorRecordsUnreachable", service),
        ("ExchangeCollectorIncompleteHours", service),
    ];
    Troubled::start("late-start", setting, input, WATCHED, &expected).await
}

async fn an_hour_beyond_the_cap() -> Troubled {
    let setting = Setting::new().await;
    let report = Report::MailDetailAtp;
    let hours = setting.ago(28).duration_trunc(TimeDelta::hours(1)).unwrap();
    setting.rows(report, hours, hours + TimeDelta::hours(1), 12_000);
    let input = setting.input().service_from(report, hours, &[]);
    let expected = [
        ("ExchangeCollectorResultCutOff", report.service()),
        ("ExchangeCollectorIncompleteHours", report.service()),
    ];
    Troubled::start("beyond-the-cap", setting, input, WATCHED, &expected).await
}

async fn a_state_that_cannot_be_written() -> Troubled {
    let setting = Setting::new().await;
    fs::write(setting.state_of(Report::MessageTrace), "in the way").unwrap();
    let input = traces(&setting, 28);
    let service = Report::MessageTrace.service();
    let expected = [("ExchangeCollectorStateUnwritable", service)];
    Troubled::start("state", setting, input, WATCHED, &expected).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_cause_raises_its_alert_on_its_collector_and_no_other() {
    let troubled = [
        nothing().await,
        no_progress().await,
        a_slow_service().await,
        a_damaged_state().await,
        a_relay_certificate_that_ends().await,
        an_application_certificate_that_ends().await,
        a_relay_that_is_down_for_nine_days().await,
        a_start_twelve_days_ago().await,
        an_hour_beyond_the_cap().await,
        a_state_that_cannot_be_written().await,
    ];
    let collectors: Vec<_> = troubled
        .iter()
        .map(|one| (one.cause, one.watched.address))
        .collect();
    let Some(prometheus) = prometheus(&collectors, &impatient()) else {
        return;
    };
    let expected: Vec<_> = troubled
        .iter()
        .flat_map(|one| one.expected.iter().cloned())
        .collect();
    // Those of the other tests here.
    let elsewhere = ["Refused", "Down", "Absent"].map(|name| format!("ExchangeCollector{name}"));
    let raised = expected.iter().map(|(alert, ..)| (*alert).to_owned());
    let raised: BTreeSet<_> = raised.chain(elsewhere).collect();
    let shipped: BTreeSet<_> = alerts()
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .collect();
    assert_eq!(raised, shipped);
    prometheus.until_firing(&expected).await;
}

#[tokio::test]
async fn a_prometheus_that_has_never_seen_a_collector_raises_an_alert() {
    let nobody = [("gone", SocketAddr::from(([127, 0, 0, 1], free_port())))];
    let Some(prometheus) = prometheus(&nobody, &impatient()) else {
        return;
    };
    let absent = ("ExchangeCollectorAbsent", "", String::new());
    prometheus.until_firing(&[absent]).await;
}
