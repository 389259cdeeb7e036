//! Signing in: every kind of credentials, what is wrong with them in real life, and tokens that end.

use std::time::Duration;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use testkit::collector::{Collector, Credentials, Input};
use testkit::pki::{KeyForm, Wish};
use testkit::report::Report;
use testkit::service::{Fault, Request, RetryAfter, Target, When};

use crate::setting::{PATIENCE, Setting, log, stop};

const ROWS: u32 = 500;

/// Message traces of an hour, to be had by `credentials`.
async fn setting(credentials: impl FnOnce(&Setting) -> Option<Credentials>) -> Setting {
    let setting = Setting::new().await;
    setting.rows(Report::MessageTrace, setting.ago(30), setting.ago(29), ROWS);
    let input = setting.input();
    let input = match credentials(&setting) {
        Some(credentials) => input.credentials(credentials),
        None => input,
    };
    configure(&setting, input, setting.ago(30));
    setting
}

fn configure(setting: &Setting, input: Input, start: DateTime<Utc>) {
    setting.configure(input.service_from(Report::MessageTrace, start, &[]));
}

/// Waits until the hour is committed, stops the collector, and expects each record once.
async fn expect_all(setting: &Setting, mut collector: Collector) -> Vec<String> {
    let (from, to) = (setting.ago(30), setting.ago(29));
    setting.stop_at(&mut collector, to).await;
    let expected = setting.existing(Report::MessageTrace, from, to);
    setting.expect_exactly(&expected, &collector);
    collector.log()
}

/// Waits for a refusal, which names what to do and shows no secret, and expects that nothing has been committed.
async fn refused(setting: &Setting, collector: &Collector, told: &[&str]) {
    let line = collector.wait_for("refused;", PATIENCE).await.unwrap();
    for part in ["ERROR", "action=", "request_id="].iter().chain(told) {
        assert!(line.contains(part), "no {part:?} in {line}");
    }
    assert_eq!(setting.cursor(Report::MessageTrace), Some(setting.ago(30)));
    let shown = collector.log().join("\n");
    assert!(!shown.contains(SECRET), "{shown}");
}

const SECRET: &str = "open-sesame";

fn basic() -> Credentials {
    Credentials::Basic {
        username: "reports@contoso.onmicrosoft.com".to_owned(),
        password: SECRET.to_owned(),
    }
}

/// The application's secret credentials, in another tenant or with another secret.
fn secret(setting: &Setting, tenant: Option<&str>, secret: Option<&str>) -> Credentials {
    let access = setting.service.options().access;
    Credentials::Secret {
        tenant_id: tenant.map_or(access.tenant, str::to_owned),
        client_id: access.app.client_id,
        client_secret: secret.map_or(access.app.secret.unwrap(), str::to_owned),
    }
}

/// The failures in the log: one of the directory is told for each window that is being fetched.
fn failures(log: &[String]) -> Vec<&String> {
    let error = |line: &str| {
        let (_, error) = line.split_once(" error=")?;
        Some(error.split_once(" window=")?.0.to_owned())
    };
    let mut failed: Vec<_> = { log.iter() }
        .filter(|line| line.contains("fetching failed"))
        .collect();
    failed.dedup_by_key(|line| error(line));
    failed
}

fn reports_of(setting: &Setting) -> Vec<Request> {
    let mut requests = setting.service.requests();
    requests.retain(|request| request.report.is_some());
    requests
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_token_serves_all_eight_services() {
    let setting = Setting::new().await;
    let from = setting.ago(96);
    let days = from.duration_trunc(TimeDelta::days(1)).unwrap() + TimeDelta::days(2);
    for report in Report::ALL {
        setting.rows(report, from, days, 200);
    }
    setting.configure(setting.input().all_services_from(from, &[]));
    let mut collector = setting.start();
    setting
        .until_committed(&collector, &Report::ALL, days)
        .await;
    stop(&mut collector).await;
    setting.expect_exactly(&setting.service.served(), &collector);
    assert_eq!(setting.service.tokens_issued(), 1);
    let signed = |request: &Request| request.scheme.as_deref() == Some("Bearer");
    assert!(reports_of(&setting).iter().all(signed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_signs_in_with_either_form_of_its_key() {
    for form in [KeyForm::RsaPkcs8, KeyForm::Pkcs1] {
        let setting = setting(|setting| {
            let identity = setting.pki.authority.issue(&Wish::client().form(form));
            let identity = identity.unwrap();
            let folder = setting.folder.path().join("credentials");
            identity.write(&folder, "app").unwrap();
            setting.service.adjust(|options| {
                options.access.app.secret = None;
                options.access.app.certificate = Some(identity.certificate);
            });
            let access = setting.service.options().access;
            Some(Credentials::Certificate {
                tenant_id: access.tenant,
                client_id: access.app.client_id,
                client_certificate: "app.crt".to_owned(),
                client_key: "app.key".to_owned(),
            })
        });
        let setting = setting.await;
        expect_all(&setting, setting.start()).await;
        assert_eq!(setting.service.tokens_issued(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_missing_or_no_pair_is_named_at_the_start() {
    for missing in [true, false] {
        let setting = setting(|setting| {
            let [one, other] = [(), ()].map(|()| {
                let wish = Wish::client().form(KeyForm::Pkcs1);
                setting.pki.authority.issue(&wish).unwrap()
            });
            let folder = setting.folder.path().join("credentials");
            if !missing {
                one.with_key_of(&other).write(&folder, "app").unwrap();
            }
            let access = setting.service.options().access;
            Some(Credentials::Certificate {
                tenant_id: access.tenant,
                client_id: access.app.client_id,
                client_certificate: "app.crt".to_owned(),
                client_key: "app.key".to_owned(),
            })
        });
        let setting = setting.await;
        let mut collector = setting.start();
        let ended = collector.wait(PATIENCE).await.unwrap();
        assert_eq!(ended.code, Some(78), "{}", log(&collector));
        let told = collector.log_with("ERROR").join("\n");
        let parts = if missing {
            ["`client_key`", "cannot read credentials/app.key"]
        } else {
            ["do not belong together", "credentials/app.crt"]
        };
        assert!(parts.iter().all(|part| told.contains(part)), "{told}");
        assert!(setting.service.requests().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn username_and_password_serve_where_they_are_accepted() {
    let setting = setting(|setting| {
        let pair = (
            "reports@contoso.onmicrosoft.com".to_owned(),
            SECRET.to_owned(),
        );
        setting
            .service
            .adjust(|options| options.access.basic = Some(pair));
        Some(basic())
    });
    let setting = setting.await;
    let log = expect_all(&setting, setting.start()).await;
    assert!(!log.join("\n").contains(SECRET));
    assert_eq!(setting.service.tokens_issued(), 0);
    let signed = |request: &Request| request.scheme.as_deref() == Some("Basic");
    assert!(reports_of(&setting).iter().all(signed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn username_and_password_refused_tell_that_microsoft_has_turned_them_off() {
    let setting = setting(|_| Some(basic())).await;
    let mut collector = setting.start();
    let told = ["401", "turned Basic", "tenant_id", "client_secret"];
    refused(&setting, &collector, &told).await;
    stop(&mut collector).await;
    // As told: the application takes over, and the state with it.
    configure(&setting, setting.input(), setting.ago(30));
    expect_all(&setting, setting.start()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_secret_is_named_and_not_shown() {
    let setting = setting(|setting| Some(secret(setting, None, Some(SECRET)))).await;
    let collector = setting.start();
    let told = ["AADSTS7000215", "`client_secret` is wrong"];
    refused(&setting, &collector, &told).await;
    let begun = setting.service.requests().len();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(
        setting.service.requests().len() <= begun + 1,
        "not asked in a hurry"
    );
    // It becomes the right one without a restart: the directory may take a while to know a new secret.
    setting
        .service
        .adjust(|options| options.access.app.secret = Some(SECRET.to_owned()));
    let log = expect_all(&setting, collector).await;
    assert!(log.iter().any(|line| line.contains("answers again")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_tenant_is_named() {
    let tenant = "99999999-2222-3333-4444-555555555555";
    let setting = setting(|setting| Some(secret(setting, Some(tenant), None))).await;
    let mut collector = setting.start();
    let told = ["AADSTS90002", "check `tenant_id`", "`authority_url`"];
    refused(&setting, &collector, &told).await;
    stop(&mut collector).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_renewed_ahead_of_its_end_while_the_collector_runs() {
    let setting = Setting::new().await;
    setting
        .service
        .adjust(|options| options.access.token_lifetime = Duration::from_secs(4));
    let present = Utc::now().duration_trunc(TimeDelta::seconds(1)).unwrap();
    let from = present - TimeDelta::hours(25);
    let to = from + TimeDelta::seconds(9);
    setting.rows(Report::MessageTrace, from, to, ROWS);
    configure(&setting, setting.input(), from);
    let mut collector = setting.start();
    setting.finish(&mut collector, from, to).await;
    // After three quarters of their life: at 0, 3, 6 and 9 s.
    let tokens = setting.service.tokens_issued();
    assert!((3..=5).contains(&tokens), "{tokens} tokens");
    assert!(
        reports_of(&setting)
            .iter()
            .all(|request| request.status == 200)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_ends_in_the_middle_of_a_walk_is_renewed() {
    let setting = Setting::new().await;
    setting.service.adjust(|options| {
        options.access.token_lifetime = Duration::from_secs(2);
        options.page_rows = 50;
        options.latency = Duration::from_millis(500);
    });
    // An hour is one window, however many pages it has.
    let report = Report::MailDetailAtp;
    let (from, to) = (setting.hour_ago(26), setting.hour_ago(25));
    setting.rows(report, from, to, ROWS);
    setting.configure_one(report, from, &[]);
    let mut collector = setting.start();
    setting.until_committed(&collector, &[report], to).await;
    stop(&mut collector).await;
    setting.expect_exactly(&setting.existing(report, from, to), &collector);
    let asked = reports_of(&setting);
    let first = asked.iter().find(|request| request.page == 1).unwrap();
    let last = asked.iter().find(|request| request.page == 10).unwrap();
    assert!(last.time - first.time > TimeDelta::seconds(2), "{asked:?}");
    assert!(setting.service.tokens_issued() > 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_is_down_is_asked_again_until_it_is_up() {
    let setting = setting(|setting| {
        for fault in [
            Fault::ServerError,
            Fault::Busy(None),
            Fault::ResetBeforeHeaders,
        ] {
            setting.service.fault(Target::Token, When::Next(1), fault);
        }
        None
    });
    let setting = setting.await;
    let log = expect_all(&setting, setting.start()).await;
    let failed = failures(&log);
    assert!(
        failed.len() == 3 && failed.iter().all(|line| line.contains("WARN")),
        "{}",
        log.join("\n")
    );
    assert!(
        !log.iter().any(|line| line.contains("ERROR")),
        "{}",
        log.join("\n")
    );
    assert_eq!(setting.service.tokens_issued(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_still_holds_is_used_while_the_directory_is_down() {
    let setting = Setting::new().await;
    setting
        .service
        .adjust(|options| options.access.token_lifetime = Duration::from_secs(8));
    let present = Utc::now().duration_trunc(TimeDelta::seconds(1)).unwrap();
    let from = present - TimeDelta::hours(25);
    // The token is to be renewed after 6 s; it ends after 8.
    let to = from + TimeDelta::seconds(7);
    let end = from + TimeDelta::minutes(3);
    setting.rows(Report::MessageTrace, from, end, 25 * ROWS);
    configure(&setting, setting.input(), from);
    setting.service.fault(
        Target::Token,
        When::After {
            passed: 1,
            times: 50,
        },
        Fault::ServerError,
    );
    let mut collector = setting.start();
    setting
        .until_committed(&collector, &[Report::MessageTrace], to)
        .await;
    let line = collector
        .wait_for("the old one still holds", PATIENCE)
        .await;
    assert!(line.unwrap().contains("WARN"));
    setting.service.heal();
    // Past its end there has to be a new one.
    let later = from + TimeDelta::seconds(11);
    setting.stop_at(&mut collector, later).await;
    let expected = setting.existing(Report::MessageTrace, from, later);
    // Some of what comes after it has been read as well.
    setting.expect_once(&expected, u64::MAX, &collector);
    assert_eq!(setting.service.tokens_issued(), 2, "{}", log(&collector));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_throttles_is_asked_once_for_all_services_in_its_pause() {
    for after in [
        RetryAfter::Seconds(4),
        RetryAfter::Date(Duration::from_secs(5)),
    ] {
        let setting = Setting::new().await;
        let from = setting.ago(30);
        setting.rows(Report::MessageTrace, from, setting.ago(29), ROWS);
        for fault in [Fault::Throttled(Some(after)), Fault::Busy(Some(after))] {
            setting.service.fault(Target::Token, When::Next(1), fault);
        }
        setting.configure(setting.input().all_services_from(from, &[]));
        let collector = setting.start();
        let log = expect_all(&setting, collector).await;
        let throttled = log
            .iter()
            .filter(|line| line.contains("throttled: all services"));
        assert!(throttled.count() >= 2, "{}", log.join("\n"));
        let tokens: Vec<_> = setting
            .service
            .requests()
            .into_iter()
            .filter(|one| one.report.is_none())
            .collect();
        assert_eq!(
            tokens.iter().map(|one| one.status).collect::<Vec<_>>(),
            [429, 503, 200]
        );
        for pair in tokens.windows(2) {
            assert!(
                pair[1].time - pair[0].time >= TimeDelta::seconds(4),
                "{tokens:?}"
            );
        }
        assert!(
            reports_of(&setting)
                .iter()
                .all(|one| one.time >= tokens[2].time)
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_directory_holds_no_page_up_while_the_token_holds() {
    let setting = Setting::new().await;
    setting
        .service
        .adjust(|options| options.access.token_lifetime = Duration::from_secs(12));
    let present = Utc::now().duration_trunc(TimeDelta::seconds(1)).unwrap();
    let from = present - TimeDelta::hours(25);
    // The token is to be renewed after 9 s, and its renewal takes 2.
    let to = from + TimeDelta::seconds(14);
    setting.rows(Report::MessageTrace, from, to, ROWS);
    let slow = Fault::Delay(Duration::from_secs(2));
    let second = When::After {
        passed: 1,
        times: 1,
    };
    setting.service.fault(Target::Token, second, slow);
    configure(&setting, setting.input(), from);
    let mut collector = setting.start();
    setting.finish(&mut collector, from, to).await;
    let asked = reports_of(&setting);
    assert!(
        asked.iter().all(|request| request.status == 200),
        "{asked:?}"
    );
    let renewal = setting
        .service
        .requests()
        .into_iter()
        .filter(|one| one.report.is_none())
        .nth(1)
        .unwrap()
        .time;
    let meanwhile = asked
        .iter()
        .filter(|one| (renewal..renewal + TimeDelta::seconds(2)).contains(&one.time));
    assert!(meanwhile.count() > 0, "{renewal} {asked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxys_page_in_the_place_of_a_token_is_not_taken_for_a_refusal() {
    let setting = setting(|setting| {
        let page = Fault::Answer {
            status: 403,
            content_type: "text/html".to_owned(),
            body: "<html><title>Blocked by policy</title></html>".to_owned(),
        };
        setting.service.fault(Target::Token, When::Next(1), page);
        None
    });
    let setting = setting.await;
    let log = expect_all(&setting, setting.start()).await;
    let failed = failures(&log);
    assert_eq!(failed.len(), 1, "{}", log.join("\n"));
    for part in [
        "WARN",
        "403 Forbidden",
        "Blocked by policy",
        "captive portal",
        "`authority_url`",
    ] {
        assert!(failed[0].contains(part), "{}", failed[0]);
    }
}
