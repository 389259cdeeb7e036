//! What hours came to, told in Devo: each hour once, each day when it is over, again what an output has not got, and little of a backlog.

use std::collections::BTreeMap;
use std::time::Instant;

use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};
use serde_json::{Value, json};
use testkit::collector::Collector;
use testkit::relay::Behaviour;
use testkit::report::Report;

use crate::audit::{read, text};
use crate::setting::{PATIENCE, Setting, log, stop};

const TRACE: Report = Report::MessageTrace;
const HOUR: TimeDelta = TimeDelta::hours(1);
const DAY: TimeDelta = TimeDelta::days(1);

/// What the relay has been told in messages that begin with `kind`.
fn told(setting: &Setting, kind: &str) -> Vec<Value> {
    let messages = setting.relay.messages();
    let of_kind = messages.iter().filter(|message| {
        let text = message.content["msg"].as_str().unwrap();
        text.starts_with(kind)
    });
    of_kind
        .map(|message| {
            assert_eq!(message.level, "info");
            assert_eq!(message.content["service_name"], TRACE.service());
            assert_eq!(message.content["input_name"], "office365_reporting_message");
            message.content["audit"].clone()
        })
        .collect()
}

/// The same by where it begins; each once.
fn once(setting: &Setting, kind: &str) -> BTreeMap<DateTime<Utc>, Value> {
    let told = told(setting, kind);
    let of: BTreeMap<_, _> = { told.iter() }
        .map(|one| (one["from"].as_str().unwrap().parse().unwrap(), one.clone()))
        .collect();
    assert_eq!(of.len(), told.len(), "{told:?}");
    of
}

/// Waits until what is told reaches to `to`.
async fn until_told(setting: &Setting, to: DateTime<Utc>, collector: &Collector) {
    let begun = Instant::now();
    let is_end = |one: &Value| one["to"] == json!(text(to));
    while ![
        told(setting, "hour settled"),
        told(setting, "hours settled"),
    ]
    .concat()
    .iter()
    .any(is_end)
    {
        assert!(begun.elapsed() < PATIENCE, "{to}\n{}", log(collector));
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// The beginning of the last day that has settled, and the last hour that has.
fn settled(setting: &Setting) -> (DateTime<Utc>, DateTime<Utc>) {
    let settled = setting.hour_ago(25);
    let day = settled.duration_trunc(DAY).unwrap();
    (day - DAY, settled)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_hour_is_told_once_with_its_count_and_each_day_that_is_over() {
    let setting = Setting::new().await;
    let (from, to) = settled(&setting);
    setting.rows(TRACE, from, to, 4_800);
    setting.configure_one(TRACE, from, &[]);
    let mut collector = setting.start();
    until_told(&setting, to, &collector).await;
    stop(&mut collector).await;
    let hours = once(&setting, "hour settled");
    assert_eq!(i64::try_from(hours.len()).unwrap(), (to - from).num_hours());
    let read = read(&setting);
    for (from, hour) in &hours {
        let records = read.get(from).copied().unwrap_or_default();
        let (to, outcome) = (text(*from + HOUR), "complete");
        let expected =
            json!({"from": text(*from), "to": to, "records": records, "outcome": outcome});
        assert_eq!(*hour, expected);
    }
    let records: u64 = read
        .range(from..from + DAY)
        .map(|(_, records)| records)
        .sum();
    let expected = json!({
        "from": text(from), "to": text(from + DAY), "records": records, "outcome": "complete"
    });
    let days = once(&setting, "day settled");
    assert_eq!(days.into_values().collect::<Vec<_>>(), [expected]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_delivered_is_told_after_a_restart() {
    let setting = Setting::new().await;
    let (from, to) = (setting.hour_ago(31), setting.hour_ago(25));
    setting.rows(TRACE, from, to, 600);
    setting.configure_one(TRACE, from, &[]);
    setting
        .relay
        .always_to_messages(Behaviour::Stall { after: 0 });
    let mut collector = setting.start();
    setting.until_committed(&collector, &[TRACE], to).await;
    collector.wait_for("hour settled", PATIENCE).await.unwrap();
    collector.kill().await.unwrap();
    assert_eq!(told(&setting, "hour settled"), Vec::<Value>::new());
    setting.relay.always_to_messages(Behaviour::Normal);
    let mut collector = setting.start();
    until_told(&setting, to, &collector).await;
    stop(&mut collector).await;
    let hours = once(&setting, "hour settled");
    let expected: Vec<_> = (0..6).map(|hour| from + HOUR * hour).collect();
    assert_eq!(hours.into_keys().collect::<Vec<_>>(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_known_to_have_come_is_not_told_again() {
    let setting = Setting::new().await;
    let (from, to) = (setting.hour_ago(31), setting.hour_ago(25));
    setting.rows(TRACE, from, to, 600);
    setting.configure_one(TRACE, from, &[]);
    let mut collector = setting.start();
    until_told(&setting, to, &collector).await;
    // A commit after the receipt keeps it.
    let begun = Instant::now();
    while setting.told(TRACE).is_none_or(|told| told < to) {
        assert!(begun.elapsed() < PATIENCE, "{}", log(&collector));
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    collector.kill().await.unwrap();
    let before = told(&setting, "hour").len();
    let mut collector = setting.start();
    collector.wait_for("collecting", PATIENCE).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    stop(&mut collector).await;
    let after = told(&setting, "hour");
    // Unless an hour has settled meanwhile.
    let of_before = after
        .iter()
        .filter(|one| one["to"].as_str() <= Some(&text(to)));
    assert_eq!(of_before.count(), before, "{after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_backlog_of_days_little_is_told_and_nothing_left_out() {
    let setting = Setting::new().await;
    let (from, to) = (setting.hour_ago(24 * 9), setting.hour_ago(25));
    setting.rows(TRACE, from, to, 5_000);
    setting.configure_one(TRACE, from, &[]);
    let mut collector = setting.start();
    until_told(&setting, to, &collector).await;
    stop(&mut collector).await;
    let mut all = once(&setting, "hours settled");
    all.append(&mut once(&setting, "hour settled"));
    let (mut at, mut records) = (from, 0);
    for (from, one) in &all {
        assert_eq!(*from, at, "{all:?}");
        at = one["to"].as_str().unwrap().parse().unwrap();
        records += one["records"].as_u64().unwrap();
        assert_eq!(one["outcome"], "complete");
    }
    assert_eq!((at, records), (to, setting.relay.count()));
    assert!(all.len() < 62, "{}", all.len());
}
