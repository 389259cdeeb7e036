//! The log on standard error: the original's lines, or JSON.

use testkit::collector::Collector;
use testkit::relay::Behaviour;
use testkit::report::Report;

use crate::setting::{PATIENCE, Setting, program, stop};

/// All that a collector logs at the highest level while its relay fails and comes back.
async fn logged(format: Option<&str>) -> Vec<String> {
    let setting = Setting::new().await;
    setting.rows(Report::MessageTrace, setting.ago(30), setting.ago(29), 500);
    setting.relay.next_times(2, Behaviour::Refuse);
    setting.configure_one(Report::MessageTrace, setting.ago(30), &[]);
    let mut collector = Collector::start_with(program(), &setting.folder, |command| {
        command.env("RUST_LOG", "trace").env_remove("LOG_FORMAT");
        if let Some(format) = format {
            command.env("LOG_FORMAT", format);
        }
    })
    .unwrap();
    for told in ["delivery failed", "window delivered"] {
        collector.wait_for(told, PATIENCE).await.unwrap();
    }
    stop(&mut collector).await;
    collector.log()
}

/// Whether a line is the original's: `2026-11-22T14:40:52.290    INFO Process::Thread -> message`.
fn is_original(line: &str) -> bool {
    let parts = line.split_at_checked(23).and_then(|(time, rest)| {
        let (level, rest) = rest.split_at_checked(8)?;
        let (thread, message) = rest.strip_prefix(' ')?.split_once(" -> ")?;
        Some((time, level.trim_start(), thread, message))
    });
    parts.is_some_and(|(time, level, thread, message)| {
        chrono::NaiveDateTime::parse_from_str(time, "%Y-%m-%dT%H:%M:%S%.3f").is_ok()
            && matches!(level, "ERROR" | "WARNING" | "INFO" | "DEBUG" | "TRACE")
            && thread.contains("Process::")
            && !message.is_empty()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_line_is_the_originals() {
    let lines = logged(None).await;
    let odd = lines.iter().find(|line| !is_original(line));
    assert_eq!(odd, None);
    let from = |process: &str, said: &str| {
        let begun = format!(" {process}");
        lines
            .iter()
            .any(|line| line.contains(&begun) && line.contains(said))
    };
    let service = format!(
        "office365_reporting_message,{}",
        Report::MessageTrace.service()
    );
    assert!(from("MainProcess::MainThread ", "-> collecting services=1"));
    assert!(from(
        &format!("InputProcess::Service({service}) "),
        "-> window delivered"
    ));
    assert!(from(
        &format!("OutputProcess::Output(devo_1,{service}) "),
        "-> delivery failed"
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_line_is_an_object_where_json_is_asked_for() {
    let lines = logged(Some("json")).await;
    let mut levels = vec![];
    for line in &lines {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(
            value["time"].is_string() && value["msg"].is_string(),
            "{line}"
        );
        levels.push(value["level"].as_str().unwrap().to_owned());
        if value["msg"] == "window delivered" {
            assert_eq!(value["service_name"], Report::MessageTrace.service());
            assert!(value["facts"]["received"].is_u64(), "{line}");
        }
    }
    for level in ["TRACE", "DEBUG", "INFO", "WARNING"] {
        assert!(levels.iter().any(|one| one == level), "no {level}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn variables_that_are_not_understood_are_named() {
    let setting = Setting::new().await;
    setting.configure_one(Report::MessageTrace, setting.ago(30), &[]);
    let mut collector = Collector::start_with(program(), &setting.folder, |command| {
        command
            .env("RUST_LOG", "info,hyper=loud")
            .env("LOG_FORMAT", "xml");
    })
    .unwrap();
    collector.wait_for("collecting", PATIENCE).await.unwrap();
    stop(&mut collector).await;
    for said in ["RUST_LOG=\"info,hyper=loud\" used=", "LOG_FORMAT=xml"] {
        let lines = collector.log_with(said);
        assert!(
            lines.len() == 1 && lines[0].contains("WARNING"),
            "no {said} in {:#?}",
            collector.log()
        );
    }
}
