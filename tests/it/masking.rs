//! What `obfuscation_data` names leaves the collector masked, on every output; records that look alike then are still counted one by one.

use std::collections::BTreeSet;
use std::process::Stdio;

use serde_json::Value;
use testkit::collector::{Collector, Config, Output};
use testkit::relay::Behaviour;
use testkit::report::Report;

use crate::setting::{PATIENCE, Setting, log, printed_records, program};

const ROWS: u32 = 2_500;
const MASKED: &str = "\
[{name: [MessageTraceId]}, {name: [MessageId], value: ''}, {name: [SenderAddress]}, {name: [RecipientAddress], value: someone}, {name: [Subject]}, \
{name: [Received], value: 0}, {name: [Organization]}, {name: [FromIP], value: 'true'}, {name: [ToIP]}, {name: [Size]}]";

async fn setting() -> Setting {
    let setting = Setting::new().await;
    setting.rows(Report::MessageTrace, setting.ago(28), setting.ago(26), ROWS);
    setting
}

fn input(setting: &Setting) -> testkit::collector::Input {
    let options = [("obfuscation_data", MASKED)];
    setting
        .input()
        .service_from(Report::MessageTrace, setting.ago(28), &options)
}

/// Asserts that a record shows nothing of what is masked.
fn expect_masked(record: &str) {
    let record: Value = serde_json::from_str(record).unwrap();
    let expected = [
        ("MessageTraceId", Value::from("****SANITIZED****")),
        ("MessageId", Value::from("")),
        ("SenderAddress", Value::from("****SANITIZED****")),
        ("RecipientAddress", Value::from("someone")),
        ("Received", Value::from(0)),
        ("FromIP", Value::from("true")),
        ("Size", Value::from(-1)),
    ];
    for (name, value) in expected {
        assert_eq!(record[name], value, "{name}: {record}");
    }
    for name in ["Subject", "ToIP"] {
        let value = &record[name];
        assert!(
            value.is_null() || value == "****SANITIZED****",
            "{name}: {record}"
        );
    }
    assert!(
        record["Status"].is_string()
            && record["Index"].is_number()
            && record["@devo_pulling_id"].is_string()
    );
}

/// The content of a line.
fn content(line: &str) -> &str {
    line.split_once(": ").unwrap().1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_output_gets_each_record_masked() {
    let setting = setting().await;
    // A delivery that fails and is made again: lines are made of the rows anew.
    setting.relay.next_times(1, Behaviour::Normal);
    setting.relay.next_times(1, Behaviour::ResetOnEnd);
    let config = Config::new(input(&setting), Output::relay(setting.relay.port()));
    setting
        .folder
        .configure(&config.output(Output::console()))
        .unwrap();
    let mut collector = setting.start();
    setting.stop_at(&mut collector, setting.ago(26)).await;
    let lines = setting.relay.lines();
    assert!(
        lines.len() >= ROWS as usize,
        "{} lines\n{}",
        lines.len(),
        log(&collector)
    );
    for line in &lines {
        expect_masked(content(line));
    }
    let printed = printed_records(&collector);
    assert_eq!(printed.len(), ROWS as usize, "{}", log(&collector));
    for line in &printed {
        let line: Value = serde_json::from_str(line).unwrap();
        match &line["message_content"] {
            Value::String(content) => expect_masked(content),
            content => expect_masked(&content.to_string()),
        }
    }
    let senders: BTreeSet<_> = setting
        .service
        .served()
        .iter()
        .map(|(_, identity, _)| identity)
        .collect();
    assert!(
        senders.len() >= ROWS as usize,
        "the rows have to differ before they are masked"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_shows_what_would_go_out() {
    let setting = setting().await;
    setting.configure(input(&setting));
    let mut collector = Collector::start_with(program(), &setting.folder, |command| {
        command.arg("--dry-run").stdin(Stdio::null());
    })
    .unwrap();
    let ended = collector.wait(PATIENCE).await.unwrap();
    assert_eq!(ended.code, Some(0), "{}", log(&collector));
    let printed = collector.output();
    assert_eq!(printed.len(), ROWS as usize, "{}", log(&collector));
    for line in &printed {
        expect_masked(content(line));
    }
}
