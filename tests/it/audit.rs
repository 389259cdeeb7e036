//! The command `audit`: its hours are what the relay has read, in quiet runs, with kills and with resets; a gap is named; what has changed since
//! is found; and files that were lost, damaged or put back never claim that something is complete.

use std::collections::BTreeMap;
use std::fs;

use chrono::{DateTime, DurationRound as _, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};
use testkit::collector::Collector;
use testkit::relay::Behaviour;
use testkit::report::Report;
use testkit::service::{Mail, Row};

use crate::monitoring::Watched;
use crate::setting::{PATIENCE, Setting, log, program, stop};

const TRACE: Report = Report::MessageTrace;
const HOUR: TimeDelta = TimeDelta::hours(1);

/// What the command tells with these arguments, and its status.
async fn told(setting: &Setting, arguments: &[&str]) -> (i32, String) {
    let mut command = Collector::start_with(program(), &setting.folder, |command| {
        command.arg("audit").args(arguments);
    })
    .unwrap();
    let code = command.wait(PATIENCE).await.unwrap().code.unwrap();
    let text = command.output().join("\n") + &command.log().join("\n");
    (code, text)
}

/// The same of message traces in JSON.
async fn audit(setting: &Setting, arguments: &[&str]) -> (i32, Value) {
    let service = ["--json", "--service", "MessageTrace"];
    let (code, text) = told(setting, &[&service, arguments].concat()).await;
    let told: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
    (code, told["services"][0].clone())
}

pub(crate) fn text(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

async fn between(setting: &Setting, from: DateTime<Utc>, to: DateTime<Utc>) -> (i32, Value) {
    audit(setting, &["--from", &text(from), "--to", &text(to)]).await
}

/// How many different records of each hour the relay has read, by their own time.
pub(crate) fn read(setting: &Setting) -> BTreeMap<DateTime<Utc>, u64> {
    let mut hours = BTreeMap::new();
    for (_, _, count) in setting.relay.records().iter() {
        let line = count.example.clone().unwrap();
        let row: Value = serde_json::from_str(&line[line.find('{').unwrap()..]).unwrap();
        let received = row["Received"].as_str().unwrap().trim_end_matches('Z');
        let received: DateTime<Utc> = format!("{received}Z").parse().unwrap();
        *hours
            .entry(received.duration_trunc(HOUR).unwrap())
            .or_default() += 1;
    }
    hours
}

/// Expects each hour to be complete, with as many records as the relay has read.
async fn expect_hours(setting: &Setting, from: DateTime<Utc>, to: DateTime<Utc>) {
    let (read, mut at) = (read(setting), from);
    while at < to {
        let (code, hour) = between(setting, at, at + HOUR).await;
        let expected = read.get(&at).copied().unwrap_or_default();
        assert_eq!((code, &hour["complete"]), (0, &json!(true)), "{hour}");
        assert_eq!(hour["records"], json!(expected), "{hour}");
        at += HOUR;
    }
    assert!(read.values().sum::<u64>() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_hour_has_what_the_relay_has_read_beside_a_running_collector() {
    let setting = Setting::new().await;
    let (from, to) = (setting.hour_ago(32), setting.hour_ago(27));
    setting.rows(TRACE, from, to - HOUR, 5_000);
    for hour in 0..4 {
        // On the hour, and a moment before and after it: such rows come with two windows.
        for (nth, millis) in [-1, 0, 0, 1].into_iter().enumerate() {
            let at = from + HOUR * hour + TimeDelta::milliseconds(millis);
            let number = u64::try_from(hour).unwrap() * 10 + nth as u64;
            setting.service.deliver(&Mail::new(at, number));
        }
    }
    setting.configure_one(TRACE, from, &[]);
    let (code, nothing) = audit(&setting, &[]).await;
    assert_eq!(
        (code, &nothing["complete"], &nothing["from"]),
        (1, &json!(false), &Value::Null)
    );
    let mut collector = setting.start();
    setting.until_committed(&collector, &[TRACE], to).await;
    expect_hours(&setting, from, to).await;

    let (code, all) = audit(&setting, &[]).await;
    let records = read(&setting)
        .range(from..)
        .map(|(_, records)| records)
        .sum::<u64>();
    let expected = json!({
        "input": "office365_reporting_message",
        "service": TRACE.service(),
        "from": text(from),
        "to": all["to"],
        "complete": true,
        "records": records,
        "unconfirmed": 0,
        "gaps": [],
        "late": {},
    });
    assert_eq!((code, &all), (0, &expected));
    // Rounded outward, to what has not been collected.
    let (second, day) = (TimeDelta::seconds(1), TimeDelta::days(1));
    let (code, before) = between(&setting, from - second, from + second).await;
    assert_eq!(
        (code, &before["from"], &before["to"]),
        (1, &json!(text(from - HOUR)), &json!(text(from + HOUR)))
    );
    let gap = json!([{
        "from": text(from - HOUR), "to": text(from), "reason": "never_collected", "until": text(from - HOUR + day * 10)
    }]);
    assert_eq!(before["gaps"], gap);
    let (code, said) = told(&setting, &["--from", &text(from - HOUR), "--to", &text(to)]).await;
    assert!(
        code == 1 && said.contains("never collected; Microsoft has it until"),
        "{said}"
    );
    stop(&mut collector).await;
    // Equal traces of two mails at one time are as many records.
    assert_eq!(read(&setting).values().sum::<u64>(), setting.relay.count());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_and_the_status_tell_what_the_last_days_came_to() {
    let setting = Setting::new().await;
    let (from, to) = (setting.hour_ago(75), setting.hour_ago(27));
    setting.rows(TRACE, from, to, 4_800);
    let input = setting.input().service_from(TRACE, from, &[]);
    let watched = Watched::start(&setting, input, "{listen: 0}").await;
    setting
        .until_committed(&watched.collector, &[TRACE], to)
        .await;
    let status = watched.status().await;
    let told = &status["services"][0]["audit"];
    assert_eq!(
        (&told["complete"], &told["gaps"], &told["from"]),
        (&json!(true), &json!([]), &json!(text(from))),
        "{told}"
    );
    assert_eq!(told["records"], json!(4_800), "{told}");
    let (_, page) = watched.get("/").await;
    assert!(page.contains("Audit: complete"), "{page}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_and_resets_change_no_hour() {
    let setting = Setting::new().await;
    let (from, to) = (setting.hour_ago(32), setting.hour_ago(27));
    setting.rows(TRACE, from, to, 9_000);
    setting.configure_one(TRACE, from, &[]);
    setting.relay.next(Behaviour::Normal);
    setting.relay.next_times(3, Behaviour::ResetAfter(300_000));
    for hour in 1..4 {
        let mut collector = setting.start();
        setting
            .until_committed(&collector, &[TRACE], from + HOUR * hour)
            .await;
        setting.kill(&mut collector).await;
        setting.relay.next(Behaviour::Normal);
        setting.relay.next(Behaviour::ResetAfter(300_000));
    }
    let mut collector = setting.start();
    collector.wait_for("collecting", PATIENCE).await.unwrap();
    setting.stop_at(&mut collector, to).await;
    let verdict = setting.verdict(&setting.existing(TRACE, from, to));
    assert!(verdict.is_complete(), "{verdict}\n{}", log(&collector));
    expect_hours(&setting, from, to).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_out_of_reach_is_a_gap_that_cannot_be_had() {
    let setting = Setting::new().await;
    let from = setting.hour_ago(24 * 11);
    setting.rows(TRACE, setting.ago(30), setting.ago(29), 100);
    setting.configure_one(TRACE, from, &[]);
    let mut collector = setting.start();
    setting.stop_at(&mut collector, setting.ago(28)).await;
    let unreachable = setting.entries(TRACE, "unreachable");
    let (code, told) = between(&setting, from, setting.hour_ago(28)).await;
    let gap = json!({
        "from": text(from), "to": text(unreachable[0].1), "reason": "unreachable", "until": null
    });
    let gaps = told["gaps"].as_array().unwrap();
    assert_eq!(
        (code, &told["complete"], &gaps[0]),
        (1, &json!(false), &gap),
        "{told}"
    );
    // Nothing came from times that are nearly out of reach, which may have been deleted.
    assert!(
        gaps[1..].iter().all(|gap| gap["reason"] == "unknown"),
        "{told}"
    );
    assert_eq!(told["records"], 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_hour_that_the_service_cuts_off_is_named() {
    let setting = Setting::new().await;
    let report = Report::MailDetailAtp;
    let from = setting.hour_ago(34);
    setting.rows(report, from, from + HOUR, 10_500);
    setting.rows(report, from + HOUR, from + HOUR * 2, 10);
    setting.configure_one(report, from, &[]);
    let mut collector = setting.start();
    let to = from + HOUR * 2;
    setting.until_committed(&collector, &[report], to).await;
    stop(&mut collector).await;
    let range = ["--json", "--from", &text(from), "--to", &text(to)].map(str::to_owned);
    let range: Vec<&str> = range.iter().map(String::as_str).collect();
    let (code, told) = told(&setting, &range).await;
    let told: Value = serde_json::from_str(&told).unwrap();
    let told = &told["services"][0];
    let gap =
        json!([{"from": text(from), "to": text(from + HOUR), "reason": "capped", "until": null}]);
    assert_eq!((code, &told["gaps"]), (1, &gap), "{told}");
    assert_eq!(told["records"], setting.relay.count());
}

/// Collects some hours of message traces, and asserts that they verify. A mail is at the beginning of the second hour.
async fn verified() -> (Setting, DateTime<Utc>, DateTime<Utc>) {
    let setting = Setting::new().await;
    let (from, to) = (setting.hour_ago(32), setting.hour_ago(27));
    setting.rows(TRACE, from, to, 20_000);
    let graph = setting.service.graph_url();
    let input = setting.input().option("graph_url", &graph);
    setting.configure(input.service_from(TRACE, from, &[("source", "reporting_service")]));
    setting.service.deliver(&Mail::new(from + HOUR, 1));
    let mut collector = setting.start();
    setting.stop_at(&mut collector, to).await;
    let (code, told) = audit(&setting, &["--verify", "--to", &text(to)]).await;
    let expected = json!({"hours": 5, "differ": [], "not_verified": []});
    assert_eq!((code, &told["verified"]), (0, &expected), "{told}");
    (setting, from, to)
}

/// Expects `--verify` to name one hour, with the rows then and now.
async fn expect_one_difference(
    setting: &Setting,
    to: DateTime<Utc>,
    hour: DateTime<Utc>,
    more: i64,
) {
    let (code, told) = audit(setting, &["--verify", "--to", &text(to)]).await;
    assert_eq!((code, &told["complete"]), (1, &json!(true)), "{told}");
    let differ = told["verified"]["differ"].as_array().unwrap();
    assert_eq!(differ.len(), 1, "{told}");
    assert_eq!(differ[0]["from"], json!(text(hour)), "{told}");
    let rows = |name: &str| differ[0][name].as_i64().unwrap();
    assert_eq!(rows("now") - rows("then"), more, "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verifying_finds_one_late_row() {
    let (setting, from, to) = verified().await;
    let hour = from + HOUR * 2;
    // At the very beginning of its hour.
    setting.service.deliver(&Mail::new(hour, 7));
    expect_one_difference(&setting, to, hour, 1).await;
    assert_eq!(setting.relay.count(), 20_001);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verifying_finds_bytes_that_have_changed_where_the_count_has_not() {
    let (setting, from, to) = verified().await;
    let (hour, id) = (from + HOUR, Mail::new(from, 1).trace_id());
    let lines = setting.relay.records();
    let mut lines = lines
        .iter()
        .map(|(_, _, count)| count.example.clone().unwrap());
    let line = lines.find(|line| line.contains(&id)).unwrap();
    let mut row: Value = serde_json::from_str(&line[line.find('{').unwrap()..]).unwrap();
    let members = row.as_object_mut().unwrap();
    members.retain(|name, _| {
        !["StartDate", "EndDate", "Index"].contains(&name.as_str()) && !name.starts_with('@')
    });
    members.insert("Subject".to_owned(), json!("another one"));
    let old = setting
        .service
        .rows_between(TRACE, hour, hour + TimeDelta::milliseconds(1));
    assert_eq!(
        old.iter()
            .filter(|row| setting.service.remove(**row))
            .count(),
        1
    );
    setting
        .service
        .insert(TRACE, Row::new(hour, row.to_string()));
    expect_one_difference(&setting, to, hour, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_service_told_is_verified_by_the_other() {
    let (setting, from, to) = verified().await;
    let graph = setting.service.graph_url();
    let input = setting.input().option("graph_url", &graph);
    setting.configure(input.service_from(TRACE, from, &[("source", "graph")]));
    let mut collector = setting.start();
    collector.wait_for("collecting", PATIENCE).await.unwrap();
    stop(&mut collector).await;
    let before = setting.service.requests_for(TRACE).len();
    let (code, told) = audit(&setting, &["--verify", "--to", &text(to)]).await;
    assert_eq!((code, &told["verified"]["hours"]), (0, &json!(5)), "{told}");
    assert_eq!(setting.service.requests_for(TRACE).len(), before);
    let hour = from + HOUR * 4;
    let id = setting.service.rows_between(TRACE, hour, to).remove(0);
    assert!(setting.service.hide_from_graph(id));
    expect_one_difference(&setting, to, hour, -1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_were_lost_damaged_or_put_back_never_claim_that_all_is_complete() {
    let setting = Setting::new().await;
    let (from, to) = (setting.hour_ago(32), setting.hour_ago(26));
    setting.rows(TRACE, from, to, 600);
    setting.configure_one(TRACE, from, &[]);
    let run = async |until| {
        let mut collector = setting.start();
        collector.wait_for("collecting", PATIENCE).await.unwrap();
        setting.stop_at(&mut collector, until).await;
    };
    run(to).await;
    let folder = setting.state_of(TRACE);
    let (file, cursor) = (folder.join("audit"), folder.join("cursor"));
    let (whole, old_cursor) = (fs::read(&file).unwrap(), fs::read(&cursor).unwrap());
    let expect_unknown = async |hours: &[i64], what: &str| {
        let (code, told) = between(&setting, from, to).await;
        let unknown: TimeDelta = { told["gaps"].as_array().unwrap().iter() }
            .map(|gap| {
                assert_eq!(gap["reason"], "unknown", "{what}: {told}");
                let at = |name: &str| {
                    gap[name]
                        .as_str()
                        .unwrap()
                        .parse::<DateTime<Utc>>()
                        .unwrap()
                };
                at("to") - at("from")
            })
            .sum();
        assert_eq!(
            (code, unknown),
            (
                i32::from(!hours.is_empty()),
                HOUR * i32::try_from(hours.len()).unwrap()
            ),
            "{what}: {told}"
        );
    };
    expect_unknown(&[], "as it was written").await;
    let mut damaged = whole.clone();
    damaged[128 * 3 + 20] ^= 1;
    fs::write(&file, &damaged).unwrap();
    expect_unknown(&[2], "a bit flipped").await;
    fs::write(&file, &whole[..128 * 4]).unwrap();
    expect_unknown(&[3, 4, 5], "cut").await;
    fs::remove_file(&file).unwrap();
    expect_unknown(&[0, 1, 2, 3, 4, 5], "removed").await;
    // The collector goes on, and does not claim what it has lost.
    run(to).await;
    let (code, told) = between(&setting, from, to).await;
    assert_eq!(
        (code, &told["gaps"][0]["reason"]),
        (1, &json!("unknown")),
        "{told}"
    );
    fs::write(&file, &whole).unwrap();
    expect_unknown(&[], "put back").await;

    // A cursor from a backup beside a newer audit: what is behind it is collected again before it is complete.
    let (later, earlier) = (fs::read(&file).unwrap(), from + HOUR * 2);
    let mut command = Collector::start_with(program(), &setting.folder, |command| {
        command.args(["state", "set", TRACE.service(), "--cursor", &text(earlier)]);
    })
    .unwrap();
    assert_eq!(command.wait(PATIENCE).await.unwrap().code, Some(0));
    fs::write(&file, &later).unwrap();
    let (code, told) = between(&setting, from, to).await;
    let gap = json!([{
        "from": text(earlier), "to": text(to), "reason": "never_collected", "until": text(earlier + TimeDelta::days(10))
    }]);
    assert_eq!((code, &told["gaps"]), (1, &gap), "{told}");
    run(to).await;
    expect_unknown(&[], "collected again").await;
    assert_eq!(between(&setting, from, to).await.1["records"], 600);
    assert_ne!(fs::read(&cursor).unwrap(), old_cursor);
}
