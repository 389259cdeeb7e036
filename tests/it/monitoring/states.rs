//! Each state of a service, made by its cause, and what else is told of it.

use std::time::Duration;

use chrono::TimeDelta;
use serde_json::Value;
use testkit::collector::Input;
use testkit::relay::Behaviour;
use testkit::report::Report;
use testkit::service::{Fault, RetryAfter, Target, When};

use super::{Watched, damage, free_port, healthcheck};
use crate::setting::{Setting, stop};

/// Message traces of some hours, and an input that collects them.
async fn setting() -> (Setting, Input) {
    let setting = Setting::new().await;
    let from = setting.ago(40);
    setting.rows(Report::MessageTrace, from, setting.ago(25), 3_000);
    let input = setting
        .input()
        .service_from(Report::MessageTrace, from, &[]);
    (setting, input)
}

/// The fault makes this state of a service whose backlog is not collected; the state's part of the status.
async fn faulty(target: impl Into<Target>, fault: Fault, state: &str) -> Value {
    let (setting, input) = setting().await;
    setting.service.fault(target, When::Always, fault);
    let watched = Watched::start(&setting, input, "{listen: 0}").await;
    let service = watched.until(state).await;
    let (status, text) = watched.get("/readyz").await;
    assert!(
        status == 503 || state == "throttled",
        "{state}: {status} {text}"
    );
    assert_eq!(watched.get("/livez").await.0, 200);
    setting.service.heal();
    service
}

#[tokio::test]
async fn a_backlog_is_being_caught_up_with_and_then_all_is_up_to_date() {
    let (setting, _) = setting().await;
    let from = setting.ago(200);
    let input = setting
        .input()
        .service_from(Report::MessageTrace, from, &[]);
    let slow = Fault::Delay(Duration::from_secs(2));
    let service = &setting.service;
    service.fault(Report::MessageTrace, When::Always, slow);
    let watched = Watched::start(&setting, input, "{listen: 0}").await;
    let behind = watched
        .until_it(|service| !service["caught_up_at"].is_null(), "catching up")
        .await;
    assert_eq!(behind["state"], "catching_up");
    assert_eq!(behind["state_text"], "catching up");
    assert!(behind["lag_seconds"].as_i64() > Some(3_600), "{behind:#}");
    let told = watched
        .collector
        .wait_for("catching up", crate::setting::PATIENCE);
    let told = told.await.unwrap();
    assert!(
        told.contains("INFO") && told.contains("cursor=") && told.contains("behind="),
        "{told}"
    );
    setting.service.heal();
    let done = watched.until("up_to_date").await;
    assert!(done["lag_seconds"].as_i64() < Some(70), "{done:#}");
    assert!(done["caught_up_at"].is_null() && done["last_window"].is_string());
    assert_eq!(watched.get("/readyz").await, (200, "ok\n".to_owned()));
}

#[tokio::test]
async fn a_pause_that_the_service_asks_for_is_throttling() {
    let pause = Fault::Throttled(Some(RetryAfter::Seconds(600)));
    let service = faulty(Report::MessageTrace, pause, "throttled").await;
    assert!(service["trouble"]["error"].is_string(), "{service:#}");
}

#[tokio::test]
async fn a_missing_right_is_a_refusal_and_the_status_says_what_to_do() {
    let service = faulty(Report::MessageTrace, Fault::Forbidden, "refused").await;
    let action = service["trouble"]["action"].as_str().unwrap();
    assert!(action.contains("Global Reader"), "{action}");
    assert_eq!(service["trouble"]["over"], false);
}

#[tokio::test]
async fn a_directory_that_does_not_answer_keeps_a_service_signing_in() {
    faulty(Target::Token, Fault::Busy(None), "signing_in").await;
}

#[tokio::test]
async fn a_relay_that_refuses_is_down_and_comes_back() {
    let (setting, input) = setting().await;
    setting.relay.always(Behaviour::Refuse);
    let watched = Watched::start(&setting, input, "{listen: 0}").await;
    let service = watched.until("relay_down").await;
    let outlet = &service["outputs"][0];
    assert_eq!(
        (&outlet["output"], &outlet["down"]),
        (&"devo_1".into(), &true.into())
    );
    assert!(
        outlet["unconfirmed_records"].as_u64() > Some(0),
        "{outlet:#}"
    );
    assert!(outlet["oldest_unconfirmed"].is_string() && outlet["last_receipt"].is_null());
    let (status, text) = watched.get("/readyz").await;
    assert!(
        status == 503 && text.contains("a relay is not reached: devo_1"),
        "{text}"
    );
    setting.relay.always(Behaviour::Normal);
    let service = watched.until("up_to_date").await;
    assert_eq!(service["trouble"]["over"], true, "{service:#}");
    assert_eq!(service["outputs"][0]["down"], false);
    assert_eq!(
        service["outputs"][0]["confirmed_records"],
        service["fetched_records"].as_u64().unwrap()
            - service["duplicate_records"].as_u64().unwrap()
    );
}

#[tokio::test]
async fn no_progress_though_a_window_is_due_is_stalled_and_not_healthy() {
    let (setting, input) = setting().await;
    let busy = Fault::Busy(None);
    setting
        .service
        .fault(Report::MessageTrace, When::Always, busy);
    let port = free_port();
    let monitoring = format!("{{listen: {port}, stalled_after_in_seconds: 2}}");
    let mut watched = Watched::start(&setting, input, &monitoring).await;
    assert_eq!(watched.address.port(), port);
    assert!(healthcheck(&setting).0, "not stalled yet");
    let service = watched.until("stalled").await;
    assert_eq!(service["stalled"], true);
    let (status, text) = watched.get("/healthz").await;
    assert!(status == 503 && text.contains("no progress"), "{text}");
    assert_eq!(watched.get("/livez").await.0, 200);
    let (well, said) = healthcheck(&setting);
    assert!(
        !well && said.contains("MessageTrace") && said.contains("no progress"),
        "{said}"
    );
    setting.service.heal();
    watched.until("up_to_date").await;
    assert_eq!(healthcheck(&setting), (true, "ok\n".to_owned()));
    stop(&mut watched.collector).await;
    let (well, said) = healthcheck(&setting);
    assert!(!well && said.contains("does not answer"), "{said}");
}

#[tokio::test]
async fn a_damaged_state_is_a_service_that_does_not_run() {
    let (setting, input) = setting().await;
    damage(&setting, input).await;
    let from = setting.ago(40);
    let input = setting
        .input()
        .service_from(Report::MessageTrace, from, &[])
        .service_from(Report::DlpDetail, from, &[]);
    let watched = Watched::start(&setting, input, "{listen: 0}").await;
    let service = watched.until("not_running").await;
    let error = service["trouble"]["error"].as_str().unwrap();
    assert!(error.contains("cannot be trusted"), "{error}");
    for path in ["/healthz", "/readyz"] {
        let (status, text) = watched.get(path).await;
        assert!(
            status == 503 && text.contains("not running"),
            "{path}: {text}"
        );
    }
}

#[tokio::test]
async fn a_state_that_cannot_be_opened_keeps_a_service_starting() {
    let (setting, input) = setting().await;
    let folder = setting.state_of(Report::MessageTrace);
    std::fs::write(&folder, "in the way").unwrap();
    let watched = Watched::start(&setting, input, "{listen: 0}").await;
    let service = watched.until("starting").await;
    assert!(service["cursor"].is_null());
    watched
        .until_it(|service| service["trouble"].is_object(), "in trouble")
        .await;
    assert_eq!(watched.get("/readyz").await.0, 503);
    std::fs::remove_file(&folder).unwrap();
    watched.until("up_to_date").await;
}

#[tokio::test]
async fn what_has_passed_out_of_reach_is_counted() {
    let setting = Setting::new().await;
    let from = setting.now - TimeDelta::days(12);
    let input = setting
        .input()
        .service_from(Report::MessageTrace, from, &[]);
    let watched = Watched::start(&setting, input, "{listen: 0}").await;
    let service = watched.until("up_to_date").await;
    let hours = service["unreachable_seconds"].as_u64().unwrap() / 3_600;
    assert_eq!(
        hours, 48,
        "two days and the margin of ten minutes: {service:#}"
    );
}
