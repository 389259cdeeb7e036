//! How late records come, as early passes see it, and how old they are when they have their receipt.

use chrono::TimeDelta;
use serde_json::{Value, json};
use testkit::collector::Collector;
use testkit::records::compare;
use testkit::report::Report;
use testkit::service::Mail;

use crate::monitoring::Watched;
use crate::setting::{PATIENCE, Setting, log, program, stop};

const TRACE: Report = Report::MessageTrace;

fn configure(setting: &Setting, options: &[(&str, &str)]) {
    let input = setting.input();
    let input = input.service_from(TRACE, setting.hour_ago(3), options);
    setting.configure_watched(input, "{listen: 0}");
}

/// What the command `audit` tells in words and in JSON of the hour that began two whole hours ago.
async fn audit(setting: &Setting) -> (String, Value) {
    let hour = setting.hour_ago(2);
    let from = hour.to_rfc3339();
    let to = (hour + TimeDelta::hours(1)).to_rfc3339();
    let told = async |more: &[&str]| {
        let mut command = Collector::start_with(program(), &setting.folder, |command| {
            command
                .args(["audit", "--from", &from, "--to", &to])
                .args(more);
        })
        .unwrap();
        command.wait(PATIENCE).await.unwrap();
        command.output().join("\n")
    };
    let json = told(&["--json"]).await;
    (told(&[]).await, serde_json::from_str(&json).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_that_only_count_deliver_nothing_and_tell_how_late_records_came() {
    let setting = Setting::new().await;
    let hour = setting.hour_ago(2);
    // No window is empty: such a one would be looked at again a minute later.
    let in_time = 360;
    let until_now = (setting.now - setting.hour_ago(3)).num_seconds() / 10 - 12;
    for nth in 0..until_now {
        let time = setting.hour_ago(3) + TimeDelta::seconds(5 + 10 * nth);
        let nth = nth.unsigned_abs();
        setting.service.deliver(&Mail::new(time, nth));
    }
    let passes = ("early_passes_in_seconds", "[2, 30]");
    let counting = ("early_passes_deliver", "false");
    let unsettled = ("override_time_delay_in_seconds", "14400");
    configure(&setting, &[unsettled, passes, counting]);
    let mut watched = Watched::of(setting.start()).await;
    let over = (hour + TimeDelta::hours(1)).to_rfc3339();
    let has_read = |service: &Value| {
        let mut passes = service["passes"].as_array().unwrap().iter();
        passes.all(|pass| pass["frontier"].as_str().unwrap_or_default() > over.as_str())
    };
    let service = watched.until_it(has_read, "counted").await;
    assert_eq!(setting.relay.count(), 0, "{service:#}");
    assert_eq!(service["freshness"], Value::Null);
    stop(&mut watched.collector).await;

    let late = hour + TimeDelta::minutes(30);
    setting.service.deliver(&Mail::new(late, 1 << 30));
    let settled = ("override_time_delay_in_seconds", "60");
    configure(&setting, &[settled, passes, counting]);
    let mut watched = Watched::of(setting.start()).await;
    let to = setting.now - TimeDelta::minutes(2);
    setting
        .until_committed(&watched.collector, &[TRACE], to)
        .await;
    let all = setting.service.existing_messages(setting.hour_ago(3), to);
    let verdict = compare(&all, &setting.relay.records().by_message());
    assert!(verdict.is_exact(), "{verdict}\n{}", log(&watched.collector));

    let (text, json) = audit(&setting).await;
    // The shorter pass has read what was young when it began, and not this hour.
    let by = json!({"records": in_time, "of": in_time + 1});
    assert_eq!(json["services"][0]["late"], json!({"30": by}));
    let words = "late: 99.722 % of 361 within 30 s";
    assert!(text.contains(words), "{text}");
    let status = watched.status().await;
    let told = &status["services"][0]["audit"]["late"];
    let (delay, records) = (&told[0]["delay_seconds"], &told[0]["records"]);
    assert_eq!(delay, &json!(30), "{told}");
    let of = records.as_u64().map(|records| records + 1);
    assert_eq!(told[0]["of"].as_u64(), of, "{told}");
    let (_, metrics) = watched.get("/metrics").await;
    let counted = |name: &str| {
        let is_meant = |line: &&str| line.contains(name) && line.contains("delay=\"30\"");
        let line = metrics.lines().find(is_meant).unwrap_or(&metrics);
        line.split(' ').next_back().unwrap().parse::<u64>().unwrap()
    };
    let records = counted("pass_records_total{");
    assert!(records >= in_time, "{metrics}");
    assert_eq!(counted("pass_settled_records_total{"), records + 1);
    stop(&mut watched.collector).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passes_that_deliver_tell_how_old_records_were_at_their_receipt() {
    let setting = Setting::new().await;
    // From ninety minutes to sixteen.
    for nth in 0..222 {
        let time = setting.now - TimeDelta::seconds(90 * 60 - 20 * nth);
        setting
            .service
            .deliver(&Mail::new(time, nth.unsigned_abs()));
    }
    let passes = ("early_passes_in_seconds", "[2, 30]");
    let unsettled = ("override_time_delay_in_seconds", "14400");
    configure(&setting, &[unsettled, passes]);
    let mut watched = Watched::of(setting.start()).await;
    let is_told = |service: &Value| service["freshness"]["records"] == json!(222);
    let service = watched.until_it(is_told, "told").await;
    let expected =
        json!({"records": 222, "half_within_seconds": 3600.0, "most_within_seconds": 5400.0});
    assert_eq!(service["freshness"], expected);
    let (_, metrics) = watched.get("/metrics").await;
    assert!(metrics.contains("freshness_seconds_count"), "{metrics}");
    stop(&mut watched.collector).await;
}
