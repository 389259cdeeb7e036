//! Where it listens, and where it does not.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use exchange_reports_collector::web::page::SERVED;
use testkit::collector::Collector;
use testkit::report::Report;

use super::{Watched, healthcheck};
use crate::setting::{PATIENCE, Setting, log, program, stop};

/// A collector under `monitoring` that has delivered everything.
async fn collect(monitoring: &str) -> (Setting, Collector) {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(30), setting.ago(28));
    setting.rows(Report::MessageTrace, from, to, 50);
    let input = setting
        .input()
        .service_from(Report::MessageTrace, from, &[]);
    setting.configure_watched(input, monitoring);
    let mut collector = setting.start();
    setting.finish(&mut collector, from, to).await;
    (setting, collector)
}

#[tokio::test]
async fn a_port_that_is_taken_is_a_warning_and_collecting_goes_on() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = taken.local_addr().unwrap();
    let (_, collector) = collect(&format!("{{listen: '{address}'}}")).await;
    let line = collector
        .wait_for("are not served", PATIENCE)
        .await
        .unwrap();
    assert!(
        line.contains("WARN") && line.contains(&address.to_string()),
        "{line}"
    );
    assert!(line.contains("globals.monitoring.listen"), "{line}");
}

#[tokio::test]
async fn switched_off_it_listens_nowhere_and_the_health_check_says_so() {
    let (setting, collector) = collect("{listen: off}").await;
    assert_eq!(collector.log_with("served"), Vec::<String>::new());
    let (well, said) = healthcheck(&setting);
    assert!(
        !well && said.contains("globals.monitoring.listen"),
        "{said}"
    );
}

#[tokio::test]
async fn where_no_configuration_is_found_the_default_address_is_asked() {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(30), setting.ago(28));
    setting.rows(Report::MessageTrace, from, to, 50);
    let input = setting
        .input()
        .service_from(Report::MessageTrace, from, &[]);
    setting.configure_watched(input, "{listen: 18514}");
    let folder = setting.folder.path().join("config");
    std::fs::rename(folder.join("config.yaml"), folder.join("other.yaml")).unwrap();
    // Another test, or a collector of this machine, may have the address for a while.
    let begun = Instant::now();
    let mut collector = loop {
        let mut collector = Collector::start_with(program(), &setting.folder, |command| {
            command.args(["--config", "other.yaml"]);
        })
        .unwrap();
        collector.wait_for("collecting", PATIENCE).await.unwrap();
        if collector.log_with("are not served").is_empty() {
            break collector;
        }
        assert!(begun.elapsed() < PATIENCE, "{}", log(&collector));
        stop(&mut collector).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    setting
        .until_committed(&collector, &[Report::MessageTrace], to)
        .await;
    assert_eq!(healthcheck(&setting), (true, "ok\n".to_owned()));
    setting.finish(&mut collector, from, to).await;
    let (well, said) = healthcheck(&setting);
    let told =
        "config/config.yaml cannot be read, so the collector is asked at the default address";
    // Somebody else's collector may be there by now, and well.
    let asked = said.contains(told) && !said.contains("listen");
    assert!(well || asked, "{said}");
}

#[tokio::test]
async fn nothing_secret_is_served() {
    let setting = Setting::new().await;
    setting.rows(Report::MessageTrace, setting.ago(30), setting.ago(28), 50);
    let from = setting.ago(30);
    let input = setting
        .input()
        .service_from(Report::MessageTrace, from, &[]);
    let watched = Watched::start(&setting, input, "{listen: 0}").await;
    watched.until("up_to_date").await;
    let access = setting.service.options().access;
    let secret = access.app.secret.unwrap();
    let record = setting.relay.lines()[0].clone();
    let recipient = record.split("\"RecipientAddress\":\"").nth(1).unwrap();
    let recipient = recipient.split('"').next().unwrap();
    for path in ["/"].iter().chain(&SERVED) {
        let (status, text) = watched.get(path).await;
        assert_eq!(status, 200, "{path}");
        for hidden in [secret.as_str(), recipient, "Bearer"] {
            assert!(!text.contains(hidden), "{hidden} at {path}");
        }
    }
}

/// By another's name for this machine a page of theirs could read what is only meant for whoever is on it.
#[tokio::test]
async fn a_browser_that_was_led_astray_is_refused() {
    let setting = Setting::new().await;
    let input = setting.input().service(Report::SafelinksDetail, &[]);
    let watched = Watched::start(&setting, input, "{listen: 0}").await;
    for (host, expected) in [
        ("rebound.example", "421"),
        ("rebound.example:18514", "421"),
        ("127.0.0.1.rebound.example", "421"),
        ("", "421"),
        ("localhost:8080", "404"),
        ("127.0.0.1:18514", "404"),
        ("[::1]:18514", "404"),
    ] {
        let request = format!("GET /nowhere HTTP/1.1\r\nhost: {host}\r\n\r\n");
        let answer = watched.ask(request.as_bytes()).await;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert_eq!(status, expected, "{host}");
    }
}
