//! The page at `/`, in a real browser: in every state, wide and narrow, light and dark.

use std::fs;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use exchange_reports_collector::ledger::HourOutcome;
use exchange_reports_collector::monitoring::health::Health;
use exchange_reports_collector::monitoring::state::{Grade, State};
use exchange_reports_collector::monitoring::status::{
    AuditStatus, GapStatus, InputStatus, OutletStatus, OutputStatus, PassStatus, ServiceStatus,
    StretchStatus,
};
use exchange_reports_collector::monitoring::{Point, Status, Trouble};
use exchange_reports_collector::web::page::{page, page_of_input};
use exchange_reports_collector::window::Window;
use serde_json::{Value, json};
use testkit::relay::Behaviour;
use testkit::report::Report;
use testkit::service::{Fault, RetryAfter, Target, When};

use super::browser::Browser;
use super::{Watched, damage, get};
use crate::setting::Setting;

/// A collector whose first service is, or soon will be, in this state, by its cause.
async fn in_state(state: State) -> (Setting, Watched) {
    let setting = Setting::new().await;
    let traces = Report::MessageTrace;
    let from = setting.ago(if state == State::CatchingUp { 200 } else { 40 });
    setting.rows(traces, from, setting.ago(25), 3_000);
    let input = || setting.input().service_from(traces, from, &[]);
    let mut with_another = input();
    let fault = |target: Target, fault| setting.service.fault(target, When::Always, fault);
    let mut monitoring = "{listen: 0}";
    match state {
        State::NotRunning => {
            damage(&setting, input()).await;
            with_another = with_another.service_from(Report::DlpDetail, from, &[]);
        }
        State::Refused => fault(traces.into(), Fault::Forbidden),
        State::RelayDown => setting.relay.always(Behaviour::Refuse),
        State::Throttled => {
            let pause = RetryAfter::Seconds(600);
            fault(traces.into(), Fault::Throttled(Some(pause)));
        }
        State::Stalled => {
            monitoring = "{listen: 0, stalled_after_in_seconds: 2}";
            fault(traces.into(), Fault::Busy(None));
        }
        State::Starting => fs::write(setting.state_of(traces), "in the way").unwrap(),
        State::SigningIn => fault(Target::Token, Fault::Busy(None)),
        State::CatchingUp => fault(traces.into(), Fault::Delay(Duration::from_secs(2))),
        State::UpToDate => {}
    }
    let watched = Watched::start(&setting, with_another, monitoring).await;
    (setting, watched)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_shows_each_state_and_what_to_do() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    for state in State::ALL {
        let (setting, watched) = in_state(state).await;
        watched.until(state.name()).await;
        let troubled = state.grade() == Grade::Bad || state == State::Throttled;
        if troubled {
            let known = |service: &Value| service["trouble"].is_object();
            watched.until_it(known, "in trouble").await;
        }
        if state == State::CatchingUp {
            let in_sight = |service: &Value| service["caught_up_at"].is_string();
            watched.until_it(in_sight, "about to be done").await;
            // It stays like that from the next request on.
            let slow = Fault::Delay(Duration::from_mins(9));
            setting
                .service
                .fault(Report::MessageTrace, When::Always, slow);
        }
        let service = open_settled(&browser, &watched).await;
        let shown = browser.text(".card .badge").await;
        assert!(shown.ends_with(state.text()), "{shown}");
        let card = browser.text(".card").await;
        assert!(card.contains(state.meaning()), "{card}");
        let verdict = browser.text(".verdict strong").await;
        let unwritable = state == State::Starting;
        let expected = match state.grade() {
            Grade::Bad => "Needs attention",
            Grade::Waiting if unwritable => "Needs attention",
            Grade::Waiting => "To be looked at",
            Grade::Good => "All is well",
        };
        assert_eq!(verdict, expected, "{}", state.name());
        let notices = browser.text(".summary").await;
        let expected = match state {
            State::RelayDown => Some("devo_1: does not confirm"),
            _ if state.grade() > Grade::Good => Some(Report::MessageTrace.service()),
            _ => None,
        };
        match expected {
            Some(named) => assert!(notices.contains(named), "{notices}"),
            None => assert!(!notices.contains(": "), "{notices}"),
        }
        if troubled {
            let error = service["trouble"]["error"].as_str().unwrap();
            assert!(card.contains(error), "{error}: {card}");
            if let Some(action) = service["trouble"]["action"].as_str() {
                assert!(card.contains(action), "{action}: {card}");
            }
        }
        browser.look(state.name()).await;
    }
}

/// Opens the page at a moment at which nothing changes; what the status says of the first service then.
async fn open_settled(browser: &Browser, watched: &Watched) -> Value {
    let state_and_trouble = |service: &Value| {
        let trouble = &service["trouble"];
        [&service["state"], &trouble["error"], &trouble["over"]].map(Value::to_string)
    };
    let mut before = watched.status().await["services"][0].take();
    for _ in 0..50 {
        browser.open(&format!("http://{}/", watched.address)).await;
        let after = watched.status().await["services"][0].take();
        if state_and_trouble(&before) == state_and_trouble(&after) {
            return after;
        }
        before = after;
    }
    panic!("it does not come to rest: {before:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_full_is_not_well_though_the_service_is_up_to_date() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    let (setting, watched) = in_state(State::UpToDate).await;
    watched.until("up_to_date").await;
    // The cursor is written aside first, and something else is there.
    let folder = setting.state_of(Report::MessageTrace);
    fs::create_dir(folder.join("cursor.new")).unwrap();
    let unwritable = |service: &Value| service["unwritable"] == true;
    watched.until_it(unwritable, "unwritable").await;
    open_settled(&browser, &watched).await;
    assert_eq!(browser.text(".verdict strong").await, "Needs attention");
    let notices = browser.text(".summary").await;
    assert!(
        notices.contains("its state cannot be read or written"),
        "{notices}"
    );
    browser.look("unwritable").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_shows_the_figures_of_the_status() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    let (_setting, watched) = in_state(State::UpToDate).await;
    watched.until("up_to_date").await;
    browser.open(&format!("http://{}/", watched.address)).await;
    let status = watched.status().await;
    let service = &status["services"][0];
    let confirmed = service["outputs"][0]["confirmed_records"].as_u64().unwrap();
    assert!(confirmed > 2_000, "{service:#}");
    let grouped = format!("{},{:03}", confirmed / 1_000, confirmed % 1_000);
    let row = browser.text("#outputs ~ .card tbody tr").await;
    assert!(row.contains(&grouped), "{grouped}: {row}");
    let picture = browser
        .ask("return document.querySelector('svg').ariaLabel")
        .await;
    let told = picture.as_str().unwrap();
    assert!(told.contains(&grouped), "{grouped}: {told}");
    let title = browser.ask("return document.title").await;
    assert_eq!(title, "All is well · testkit");
    // All that is asked for when it is opened is the page itself, and it is asked for again by itself.
    let refresh = "return document.querySelector('meta[http-equiv=refresh]').content";
    assert_eq!(browser.ask(refresh).await, "30");
    let (status, html) = get(watched.address, "/").await.unwrap();
    assert_eq!(status, 200);
    assert!(html.len() < 32 * 1024, "{} bytes", html.len());
}

#[tokio::test]
async fn a_browser_is_told_to_fetch_nothing_and_to_run_nothing() {
    let (_setting, watched) = in_state(State::UpToDate).await;
    let answer = watched
        .ask(b"GET / HTTP/1.1\r\nhost: localhost:1\r\nconnection: close\r\n\r\n")
        .await;
    let head = answer.split("\r\n\r\n").next().unwrap().to_lowercase();
    for header in [
        "content-type: text/html; charset=utf-8",
        "content-security-policy: default-src 'none'; style-src 'unsafe-inline'; img-src data:;",
        "x-content-type-options: nosniff",
        "cache-control: no-store",
    ] {
        assert!(head.contains(header), "{header}: {head}");
    }
    assert!(!answer.contains("<script"), "{answer}");
}

/// What nobody means well with, and nothing can be broken in.
const UGLY: &str = "<script>alert('x')</script> & \"quoted\" ";

/// Two weeks of a service that has collected up to `end`, all of them complete or with a gap.
fn audit(end: DateTime<Utc>, complete: bool) -> AuditStatus {
    let from = end - TimeDelta::days(14);
    let gap = GapStatus {
        from: end - TimeDelta::hours(60),
        to: end - TimeDelta::hours(30),
        reason: HourOutcome::Unreachable,
        until: None,
    };
    let stretches = (0..14).map(|day| StretchStatus {
        from: from + TimeDelta::days(day),
        to: from + TimeDelta::days(day + 1),
        outcome: [
            HourOutcome::Complete,
            HourOutcome::Empty,
            HourOutcome::Unconfirmed,
        ][usize::from(day % 5 == 0) + usize::from(day % 10 == 0)],
        records: 123_456,
    });
    AuditStatus {
        from,
        to: end,
        complete,
        records: 1_728_384,
        unconfirmed: 24,
        late: vec![],
        late_text: "97.1 % of 1728384 within 5 min, all of 1728384 within 1 h".to_owned(),
        gaps: if complete { vec![] } else { vec![gap] },
        stretches: stretches.collect(),
    }
}

/// Two early passes, which may not be known yet.
fn passes(now: DateTime<Utc>, are_known: bool) -> Vec<PassStatus> {
    let pass = |delay_seconds| PassStatus {
        delay_seconds,
        frontier: are_known.then_some(now - TimeDelta::hours(1)),
        lag_seconds: are_known.then_some(90),
        trouble: None,
    };
    [300, 3_600].map(pass).into()
}

/// Eight services of two tenants and two outputs, in all states at once, with a whole day behind them.
fn crowded() -> Status {
    let now: DateTime<Utc> = "2026-11-22T14:40:52Z".parse().unwrap();
    let trouble = |over| Trouble {
        at: now - TimeDelta::minutes(7),
        error: format!("{UGLY}{}", "a".repeat(300)),
        action: Some(format!("{UGLY}grant the right")),
        over,
    };
    let services = (0_u32..).zip(State::ALL).map(|(at, state)| {
        let input = if at % 2 == 0 && at < 8 {
            "contoso"
        } else {
            "fabrikam"
        };
        let report = Report::ALL[at as usize % Report::ALL.len()];
        let history = (0..=288).map(|point| Point {
            at: now - TimeDelta::minutes(5 * (288 - point)),
            records: (point.unsigned_abs() * 7_919 * u64::from(at + 1)) % 1_543,
            lag_seconds: (point % 50 > 3).then_some(point % 12 * 300),
        });
        ServiceStatus {
            input: input.to_owned(),
            service: report.service(),
            report: report.path(),
            state,
            state_text: state.text(),
            stalled: state == State::Throttled,
            unwritable: state == State::Starting,
            due_seconds: Some(u64::from(at) * 1_000),
            cursor: Some(now - TimeDelta::hours(26)),
            lag_seconds: Some(3_600 * i64::from(at)),
            caught_up_at: (state == State::CatchingUp).then_some(now + TimeDelta::hours(3)),
            window: Some(Window {
                start: now - TimeDelta::hours(26),
                end: now - TimeDelta::hours(25),
            }),
            last_window: Some(now - TimeDelta::seconds(40)),
            deletion_seconds: Some(if at == 1 { 90_000 } else { 770_000 }),
            trouble: (state != State::UpToDate).then(|| trouble(state.grade() == Grade::Good)),
            records_per_second: 0.3 * f64::from(at * at * at),
            fetched_records: 123_456_789 * u64::from(at),
            duplicate_records: 12_345,
            late_records: 17,
            windows: 1_440,
            requests: 98_765,
            source: None,
            source_since: None,
            empty_unconfirmed_seconds: 0,
            last_empty_unconfirmed: None,
            unreachable_seconds: if at == 2 { 172_800 } else { 0 },
            capped_windows: u64::from(at == 3),
            withheld_windows: u64::from(at == 3),
            last_loss: (at == 2 || at == 3).then_some(now - TimeDelta::hours(3)),
            audit: Some(audit(now - TimeDelta::hours(26), at != 3)),
            passes: passes(now, at != 4),
            freshness: None,
            outputs: ["devo", "archive"]
                .map(|output| OutletStatus {
                    output: output.to_owned(),
                    down: state == State::RelayDown,
                    unwritable: state == State::Starting,
                    confirmed_records: 123_456_789 * u64::from(at),
                    resent_records: 2_000,
                    receipts: 4_321,
                    ended: 7,
                    stood_in: 5,
                    unconfirmed_records: 2_048,
                    oldest_unconfirmed: Some(now - TimeDelta::minutes(3)),
                    last_receipt: Some(now - TimeDelta::seconds(90)),
                    trouble: (state == State::RelayDown).then(|| trouble(false)),
                })
                .into(),
            history: history.collect(),
        }
    });
    Status {
        name: format!("eu {UGLY}"),
        version: "1.2.3",
        started: now - TimeDelta::days(40),
        now,
        health: Health::default(),
        left_out: vec![],
        inputs: ["contoso", "fabrikam"]
            .map(|name| InputStatus {
                name: name.to_owned(),
                token_expiry: Some(now + TimeDelta::minutes(50)),
                certificate_expiry: Some(now + TimeDelta::days(3)),
                clock_difference_seconds: Some(-400),
                pause_seconds: Some(290),
            })
            .into(),
        services: services.collect(),
        outputs: ["devo", "archive"]
            .map(|name| OutputStatus {
                name: name.to_owned(),
                address: "collector-eu.devo.io:443".to_owned(),
                certificate_expiry: Some(now - TimeDelta::days(1)),
            })
            .into(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowded_page_with_a_whole_day_holds_together_and_nothing_in_it_becomes_markup() {
    let of_input = |name| page_of_input(&crowded().of_input(name).unwrap(), name);
    let (all, contoso, fabrikam) = (page(&crowded()), of_input("contoso"), of_input("fabrikam"));
    for html in [&all, &contoso, &fabrikam] {
        assert!(!html.contains("<script"), "{html}");
        // Up to five services with 289 points each.
        assert!(html.len() < 120 * 1024, "{} bytes", html.len());
    }
    // The worst first: one that does not run, and one that is refused.
    let place = |name: &str| all.find(&format!("<a href=\"/?input={name}\">")).unwrap();
    assert!(place("contoso") < place("fabrikam"), "{all}");
    assert!(
        all.contains("not running") && all.contains("/?input=contoso#output-devo"),
        "{all}"
    );
    let Some(browser) = Browser::start().await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("page.html");
    fs::write(&path, all).unwrap();
    browser.open(&format!("file://{}", path.display())).await;
    assert!(
        browser
            .text("h1")
            .await
            .contains("<script>alert('x')</script> & \"quoted\"")
    );
    browser.look("tenants").await;
    fs::write(&path, contoso).unwrap();
    browser.open(&format!("file://{}", path.display())).await;
    assert_eq!(browser.text("h1").await, "contoso");
    let ends = "return [...document.querySelectorAll('path')].map(path => path.getBBox()).every(box => box.x >= 0 && box.x + box.width <= 1441 && box.y >= 0 && box.y + box.height <= 100)";
    assert_eq!(browser.ask(ends).await, true);
    let links = "return [...document.querySelectorAll('.summary a, tbody a')].every(link => document.querySelectorAll('[id=\"' + link.hash.slice(1) + '\"]').length === 1)";
    assert_eq!(browser.ask(links).await, json!(true));
    browser.look("crowded").await;
}
