//! The command `compare`: what one of Microsoft's services shows and the other does not, and nothing else.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};
use testkit::collector::Collector;
use testkit::report::Report;
use testkit::service::{Mail, Retirement, RowId};

use crate::setting::{PATIENCE, Setting, log, program, stop};

const TRACE: Report = Report::MessageTrace;

/// Configures message traces, with Graph at hand.
fn configure(setting: &Setting, requests: &str, options: &[(&str, &str)]) {
    let graph = setting.service.graph_url();
    let input = setting.input().option("graph_url", &graph);
    let input = input.option("graph_requests_per_5_minutes", requests);
    setting.configure(input.service(TRACE, options));
}

/// What the command tells, and its status.
async fn compare(setting: &Setting, from: DateTime<Utc>, to: DateTime<Utc>) -> (i32, Value) {
    let (code, text) = run(setting, from, to, &["--json"]).await;
    // A busy machine may take so long that it tells how far it is.
    let lines: Vec<_> = { text.lines() }
        .filter(|line| !line.starts_with("still comparing"))
        .collect();
    let told = serde_json::from_str(&lines.join("\n"));
    (code, told.unwrap_or_else(|_| panic!("{text}")))
}

async fn run(
    setting: &Setting,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    more: &[&str],
) -> (i32, String) {
    let [from, to] = [from, to].map(|time| time.to_rfc3339_opts(SecondsFormat::Secs, true));
    let mut command = Collector::start_with(program(), &setting.folder, |command| {
        command.args(["compare", "--from", &from, "--to", &to]);
        command.args(more);
    })
    .unwrap();
    let code = command.wait(PATIENCE).await.unwrap().code.unwrap();
    let text = [command.output(), command.log()].concat().join("\n");
    (code, text)
}

/// A message that was received `seconds` after `from`.
fn deliver(setting: &Setting, from: DateTime<Utc>, seconds: i64, number: u64) -> RowId {
    let at = from + TimeDelta::seconds(seconds) + TimeDelta::nanoseconds(123_456_700);
    setting.service.deliver(&Mail::new(at, number))[0]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn among_a_hundred_thousand_it_names_what_is_only_here_only_there_and_different() {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(34), setting.ago(28));
    setting.rows(TRACE, from, to, 100_000);
    configure(&setting, "90", &[]);
    let (code, alike) = compare(&setting, from, to).await;
    assert_eq!((code, &alike["alike"]), (0, &json!(true)), "{alike}");
    let hours = alike["hours"].as_array().unwrap();
    let sum = |name: &str| {
        let counts = hours.iter().map(|hour| hour[name].as_u64().unwrap());
        counts.sum::<u64>()
    };
    assert_eq!((sum("reporting_service"), sum("graph")), (100_000, 100_000));
    assert!((6..=7).contains(&hours.len()), "{alike}");

    let service = &setting.service;
    assert!(service.hide_from_graph(deliver(&setting, from, 5_000, 1)));
    assert!(service.hide_from_reports(deliver(&setting, from, 9_000, 2)));
    // Two rows of one message: each service shows one of them.
    assert!(service.hide_from_graph(deliver(&setting, from, 13_000, 3)));
    let at = from + TimeDelta::seconds(13_000) + TimeDelta::milliseconds(623);
    assert!(service.hide_from_reports(service.deliver(&Mail::new(at, 3))[0]));

    let (code, told) = compare(&setting, from, to).await;
    assert_eq!((code, &told["alike"]), (1, &json!(false)), "{told}");
    for (kind, number) in [
        ("only_reporting_service", 1),
        ("only_graph", 2),
        ("different", 3),
    ] {
        assert_eq!(told[kind]["count"], 1, "{kind}: {told}");
        let message = &told[kind]["messages"][0];
        let message = message.get("message").unwrap_or(message);
        let id = Mail::new(from, number).trace_id();
        assert_eq!(message["MessageTraceId"], json!(id), "{kind}");
    }
    assert_eq!(told["fields"]["Received"], 1, "{told}");
    let (code, text) = run(&setting, from, to, &[]).await;
    assert_eq!(code, 1);
    for line in [
        "only in the reporting service: 1",
        "only in Microsoft Graph: 1",
        "the services do not show the same",
    ] {
        assert!(text.lines().any(|told| told == line), "{line}\n{text}");
    }
    // Nothing was delivered, and nothing kept but the requests.
    assert_eq!(setting.relay.count(), 0);
    let kept: Vec<_> = std::fs::read_dir(setting.folder.state())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(kept, ["graph-requests"]);
    assert!(service.requests_to_graph().len() <= 90);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_at_full_hours_and_many_of_one_second_are_alike() {
    let setting = Setting::new().await;
    let (from, to) = (setting.hour_ago(34), setting.hour_ago(30));
    for hour in 0..=4 {
        let at = from + TimeDelta::hours(hour);
        // Just before the hour, just behind it, and on it: Graph knows milliseconds.
        for (number, nanoseconds) in [-100, 0, 100, 999_999_900, -999_999_900]
            .into_iter()
            .enumerate()
        {
            let at = at + TimeDelta::nanoseconds(nanoseconds);
            let number = u64::try_from(hour).unwrap() * 10 + number as u64;
            setting.service.deliver(&Mail::new(at, number));
        }
    }
    // More than a page of the reporting service within a second.
    let at = from + TimeDelta::minutes(90);
    setting
        .service
        .deliver(&Mail::new(at, 1_000).to_many(5_000));
    configure(&setting, "90", &[]);
    let (code, told) = compare(&setting, from, to).await;
    assert_eq!(code, 0, "{told}");
    let hours = told["hours"].as_array().unwrap();
    let counts: Vec<_> = hours.iter().map(|hour| hour["graph"].as_u64()).collect();
    assert_eq!(counts, [Some(5), Some(5_005), Some(5), Some(5)], "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_runs_beside_a_collector_and_keeps_the_budget_with_it() {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(34), setting.ago(28));
    setting.rows(TRACE, from, to, 3_000);
    configure(&setting, "90", &[("source", "graph")]);
    let mut collector = setting.start();
    collector.wait_for("collecting", PATIENCE).await.unwrap();
    let (code, told) = compare(&setting, from, to).await;
    assert_eq!(code, 0, "{told}\n{}", log(&collector));
    stop(&mut collector).await;
    let noted = std::fs::read_to_string(setting.folder.state().join("graph-requests")).unwrap();
    let made = setting.service.requests_to_graph().len();
    assert_eq!(noted.lines().count(), made, "{noted}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_keeps_the_budget_too_though_it_keeps_nothing_else() {
    let setting = Setting::new().await;
    let from = setting.ago(30);
    setting.rows(TRACE, from, setting.ago(24), 300);
    let start = from.to_rfc3339_opts(SecondsFormat::Secs, true);
    configure(
        &setting,
        "90",
        &[("source", "graph"), ("start_time", &start)],
    );
    let mut command = Collector::start_with(program(), &setting.folder, |command| {
        command.arg("--dry-run");
    })
    .unwrap();
    let code = command.wait(PATIENCE).await.unwrap().code;
    assert_eq!(code, Some(0), "{}", log(&command));
    let noted = std::fs::read_to_string(setting.folder.state().join("graph-requests")).unwrap();
    let made = setting.service.requests_to_graph().len();
    assert!(made > 0 && noted.lines().count() == made, "{made}: {noted}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_requests_cannot_be_noted_it_makes_three_and_tells_what_is_missing() {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(34), setting.ago(28));
    setting.rows(TRACE, from, to, 1_000);
    configure(&setting, "90", &[]);
    std::fs::create_dir_all(setting.folder.state().join("graph-requests")).unwrap();
    let (code, told) = compare(&setting, from, to).await;
    assert_eq!((code, &told["alike"]), (0, &json!(true)), "{told}");
    let note = told["notes"][0].as_str().unwrap();
    assert!(note.contains("cannot be noted"), "{note}");
    let before = setting.service.requests_to_graph().len();
    setting
        .service
        .adjust(|options| options.graph.page_rows = 100);
    let (code, told) = compare(&setting, from, to).await;
    assert_eq!((code, &told["alike"]), (1, &json!(false)), "{told}");
    let missing = told["not_compared"][0].as_str().unwrap();
    assert!(missing.contains("more than 3 requests"), "{missing}");
    assert_eq!(setting.service.requests_to_graph().len(), before + 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_long_tells_how_far_it_is() {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(76), setting.ago(28));
    setting.rows(TRACE, from, to, 960);
    configure(&setting, "90", &[]);
    let latency = std::time::Duration::from_secs(8);
    setting
        .service
        .adjust(|options| options.graph.latency = latency);
    let (code, text) = run(&setting, from, to, &[]).await;
    assert_eq!(code, 0, "{text}");
    let told = text
        .lines()
        .find(|line| line.starts_with("still comparing"));
    let told = told.unwrap_or_else(|| panic!("{text}"));
    let (_, rest) = told.split_once(" (").unwrap();
    let percent: u32 = rest[..rest.find(" %").unwrap()].parse().unwrap();
    assert!(percent < 100, "{told}");
    for part in [
        " rows of the reporting service and ",
        " of Microsoft Graph so far",
    ] {
        assert!(told.contains(part), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_compared_says_what_to_do() {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(34), setting.ago(28));
    configure(&setting, "90", &[]);
    let check = async |from, to, more: &[&str], expected: &str| {
        let (code, text) = run(&setting, from, to, more).await;
        assert!(code == 1 && text.contains(expected), "{code}: {text}");
    };
    check(to, from, &[], "`--from` has to be the earlier one").await;
    check(from, setting.ago(-2), &[], "in the future").await;
    check(setting.ago(24 * 11), to, &[], "more than 10 days ago").await;
    check(
        from,
        to,
        &["--input", "other"],
        "there is no input \"other\"",
    )
    .await;
    setting.service.retire(Retirement::Text { status: 404 });
    check(from, to, &[], "the reporting service does not answer").await;
    setting.service.retire(None);
    setting
        .service
        .adjust(|options| options.access.graph_roles.clear());
    check(from, to, &[], "ExchangeMessageTrace.Read.All").await;
    let input = setting.input().option("graph_requests_per_5_minutes", "90");
    setting.configure(input.service(TRACE, &[]));
    check(from, to, &[], "give `graph_url`").await;
    setting.folder.configure_raw("inputs:\n").unwrap();
    let (code, text) = run(&setting, from, to, &[]).await;
    assert_eq!(code, 78, "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_masked_is_not_shown() {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(34), setting.ago(28));
    let row = deliver(&setting, from, 5_000, 1);
    setting.service.hide_from_graph(row);
    let mask = "[{name: [RecipientAddress]}]";
    configure(&setting, "90", &[("obfuscation_data", mask)]);
    let (code, told) = compare(&setting, from, to).await;
    assert_eq!(code, 1, "{told}");
    let message = &told["only_reporting_service"]["messages"][0];
    assert_eq!(message["RecipientAddress"], "****SANITIZED****", "{told}");
}
