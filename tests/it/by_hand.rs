//! The state by hand, each change between two real runs: what comes again comes, what is skipped does not, and nothing else is lost or repeated.

use std::fs;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use testkit::collector::{Collector, Config, Input, Output};
use testkit::records::compare;
use testkit::relay::Behaviour;
use testkit::report::Report;

use crate::figures::kill;
use crate::setting::{PATIENCE, Setting, log, program, stop};

const ROWS: u32 = 300;
const MESSAGES: &str = "office365_reporting_MessageTrace_service";
const DETAILS: &str = "office365_reporting_MailDetailATP_service";

/// What a command on the state came to.
pub(crate) struct Told {
    code: i32,
    text: String,
}

impl Told {
    /// What was printed, where the command had to succeed.
    pub(crate) fn fine(self) -> String {
        assert_eq!(self.code, 0, "{}", self.text);
        self.text
    }

    /// The error, where the command had to fail.
    pub(crate) fn error(self) -> String {
        assert_eq!(self.code, 1, "{}", self.text);
        let (_, error) = self
            .text
            .split_once("ERROR MainProcess::MainThread -> ")
            .unwrap();
        error.to_owned()
    }
}

pub(crate) async fn state(setting: &Setting, arguments: &[&str]) -> Told {
    let mut command = Collector::start_with(program(), &setting.folder, |command| {
        command.arg("state").args(arguments);
    })
    .unwrap();
    let code = command.wait(PATIENCE).await.unwrap().code.unwrap();
    let text = [command.output(), command.log()].concat().join("\n");
    Told { code, text }
}

/// Two hours of message traces, the first of them collected.
async fn half_collected() -> (Setting, [DateTime<Utc>; 3]) {
    let setting = Setting::new().await;
    let times = [setting.ago(30), setting.ago(29), setting.ago(28)];
    setting.rows(Report::MessageTrace, times[0], times[1], ROWS);
    setting.configure_one(Report::MessageTrace, times[0], &[]);
    run(&setting, times[1]).await;
    setting.rows(Report::MessageTrace, times[1], times[2], ROWS);
    (setting, times)
}

/// Runs the collector until everything before `to` is committed.
async fn run(setting: &Setting, to: DateTime<Utc>) -> Collector {
    let mut collector = setting.start();
    collector.wait_for("collecting", PATIENCE).await.unwrap();
    setting.stop_at(&mut collector, to).await;
    collector
}

fn text(instant: DateTime<Utc>) -> String {
    instant.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn in_words(instant: DateTime<Utc>, told: &str, word: &str) -> String {
    told.replace(&text(instant), word)
}

/// Expects all message traces once, and those in a span one more time.
fn expect_again(
    setting: &Setting,
    all: [DateTime<Utc>; 2],
    again: [DateTime<Utc>; 2],
    collector: &Collector,
) {
    let expected = setting.existing(Report::MessageTrace, all[0], all[1]);
    let verdict = compare(&expected, &setting.relay.records());
    let repeated = setting
        .existing(Report::MessageTrace, again[0], again[1])
        .total();
    assert_eq!(
        (verdict.missing, verdict.twice, verdict.unknown),
        (0, repeated, 0),
        "{verdict}\n{}",
        log(collector)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_that_is_set_back_brings_records_again() {
    let (setting, [from, middle, to]) = half_collected().await;
    // Not at its place by a little: the run has gone on past the hour's end.
    let cursor = setting.cursor(Report::MessageTrace).unwrap();
    let back = from + TimeDelta::minutes(30);
    let told = state(&setting, &["set", MESSAGES, "--cursor", &text(back)])
        .await
        .fine();
    let told = in_words(back, &in_words(cursor, &told, "CURSOR"), "BACK");
    insta::assert_snapshot!(told, @"the cursor of office365_reporting_message.12345.office365_reporting_MessageTrace_service was CURSOR, and is BACK now; what lies in BACK..CURSOR comes again");
    assert_eq!(setting.cursor(Report::MessageTrace), Some(back));
    let collector = run(&setting, to).await;
    // The rows of the second hour that were committed before they came are among what comes now.
    expect_again(&setting, [from, to], [back, middle], &collector);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_that_is_set_forward_skips_records() {
    let setting = Setting::new().await;
    let (from, middle, to) = (setting.ago(30), setting.ago(29), setting.ago(28));
    setting.configure_one(Report::MessageTrace, from, &[]);
    setting
        .service
        .adjust(|options| options.latency = std::time::Duration::from_secs(1));
    let mut collector = setting.start();
    collector.wait_for("collecting", PATIENCE).await.unwrap();
    kill(&mut collector).await;
    assert_eq!(setting.cursor(Report::MessageTrace), Some(from));
    setting.rows(Report::MessageTrace, from, to, ROWS);
    let told = state(&setting, &["set", MESSAGES, "--cursor", &text(middle)])
        .await
        .fine();
    assert!(
        told.contains(&format!("{}..{} is skipped", text(from), text(middle))),
        "{told}"
    );
    setting
        .service
        .adjust(|options| options.latency = std::time::Duration::ZERO);
    let collector = run(&setting, to).await;
    setting.expect_exactly(
        &setting.existing(Report::MessageTrace, middle, to),
        &collector,
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_confirmed_of_an_unfinished_window_is_shown_and_does_not_outlive_a_set() {
    let setting = Setting::new().await;
    let report = Report::DlpDetail;
    let (from, to) = (setting.hour_ago(26), setting.hour_ago(25));
    // More than one delivery of 8 MiB, in a window that cannot be shorter.
    setting.rows(report, from, to, 16_000);
    setting.configure_one(report, from, &[]);
    setting.relay.next_times(2, Behaviour::Normal);
    setting.relay.next(Behaviour::Stall { after: 0 });
    let mut collector = setting.start();
    collector
        .wait_for("delivery confirmed", PATIENCE)
        .await
        .unwrap();
    kill(&mut collector).await;
    let confirmed = setting.relay.count();
    assert!((1..16_000).contains(&confirmed));
    let told = state(&setting, &["show"]).await.fine();
    let window = format!(
        "unfinished: {}..{}; devo_1 has confirmed {confirmed} of it",
        text(from),
        text(to)
    );
    assert!(told.contains(&window), "{told}");

    state(
        &setting,
        &["set", report.service(), "--cursor", &text(from)],
    )
    .await
    .fine();
    let told = state(&setting, &["show"]).await.fine();
    assert!(!told.contains("unfinished"), "{told}");
    let mut collector = setting.start();
    setting.until_committed(&collector, &[report], to).await;
    stop(&mut collector).await;
    let verdict = compare(
        &setting.existing(report, from, to),
        &setting.relay.records(),
    );
    assert_eq!(
        (verdict.missing, verdict.twice),
        (0, confirmed),
        "{verdict}\n{}",
        log(&collector)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_within_a_reports_hour_is_set_to_its_beginning() {
    let setting = Setting::new().await;
    let hour = setting.ago(30).duration_trunc(TimeDelta::hours(1)).unwrap();
    setting.configure_one(Report::MailDetailAtp, hour, &[]);
    let mut collector = setting.start();
    let committed = hour + TimeDelta::hours(2);
    setting
        .until_committed(&collector, &[Report::MailDetailAtp], committed)
        .await;
    stop(&mut collector).await;
    let within = hour + TimeDelta::minutes(59);
    state(&setting, &["set", DETAILS, "--cursor", &text(within)])
        .await
        .fine();
    assert_eq!(setting.cursor(Report::MailDetailAtp), Some(hour));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_reset_starts_over() {
    let (setting, [from, middle, to]) = half_collected().await;
    let cursor = setting.cursor(Report::MessageTrace).unwrap();
    let told = state(&setting, &["reset", MESSAGES]).await.fine();
    let told = in_words(from, &in_words(cursor, &told, "CURSOR"), "START");
    insta::assert_snapshot!(told, @"office365_reporting_message.12345.office365_reporting_MessageTrace_service (its cursor was CURSOR) begins anew with its next start: at START, as `start_time` says; what lies in START..CURSOR comes again");
    assert!(!setting.state_of(Report::MessageTrace).exists());
    assert_eq!(state(&setting, &["show"]).await.fine().lines().count(), 1);
    let collector = run(&setting, to).await;
    expect_again(&setting, [from, to], [from, middle], &collector);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_that_cannot_be_trusted_is_shown_as_such_not_set_and_reset() {
    let (setting, [from, middle, to]) = half_collected().await;
    let file = setting.state_of(Report::MessageTrace).join("cursor");
    let mut bytes = fs::read(&file).unwrap();
    bytes[60] ^= 0xff;
    fs::write(&file, bytes).unwrap();
    let shown = state(&setting, &["show"]).await.fine();
    assert!(
        shown.contains("cannot be trusted") && shown.contains("unknown"),
        "{shown}"
    );
    let refused = state(&setting, &["set", MESSAGES, "--cursor", &text(from)])
        .await
        .error();
    assert!(refused.contains("cannot be trusted"), "{refused}");
    state(&setting, &["reset", MESSAGES]).await.fine();
    let collector = run(&setting, to).await;
    expect_again(&setting, [from, to], [from, middle], &collector);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_that_was_killed_half_way_has_happened_and_is_cleaned_up_by_the_next() {
    let (setting, [from, middle, to]) = half_collected().await;
    let folder = setting.state_of(Report::MessageTrace);
    let name = folder.file_name().unwrap().to_str().unwrap();
    let aside = setting.folder.state().join(format!(".reset.{name}"));
    fs::rename(&folder, &aside).unwrap();
    let collector = run(&setting, to).await;
    expect_again(&setting, [from, to], [from, middle], &collector);
    assert_eq!(state(&setting, &["show"]).await.fine().lines().count(), 2);
    state(&setting, &["reset", MESSAGES]).await.fine();
    assert!(!aside.exists() && !folder.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_collector_runs_state_is_shown_and_not_changed() {
    let (setting, [from, ..]) = half_collected().await;
    let mut collector = setting.start();
    collector.wait_for("collecting", PATIENCE).await.unwrap();
    for change in [
        &["set", MESSAGES, "--cursor", &text(from)][..],
        &["reset", MESSAGES],
    ] {
        let refused = state(&setting, change).await.error();
        insta::allow_duplicates! {
            insta::assert_snapshot!(refused, @"a collector is running on the state folder state: stop it first; nothing has been changed");
        }
    }
    assert!(setting.cursor(Report::MessageTrace).unwrap() > from);
    // Again and again, since it writes meanwhile.
    let committing = Utc::now() + TimeDelta::seconds(3);
    while Utc::now() < committing {
        let told = state(&setting, &["show", "--json"]).await.fine();
        let shown: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert!(
            shown[0]["error"].is_null() && shown[0]["cursor"].is_string(),
            "{told}"
        );
    }
    stop(&mut collector).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn show_tells_a_person_and_a_machine_the_same_also_where_the_configuration_is_of_no_use() {
    let (setting, [from, middle, _]) = half_collected().await;
    let cursor = setting.cursor(Report::MessageTrace).unwrap();
    let json = || async {
        let told = state(&setting, &["show", "--json"]).await.fine();
        serde_json::from_str::<serde_json::Value>(&told).unwrap()[0].clone()
    };
    let known = json().await;
    assert_eq!(
        known["service"],
        format!("office365_reporting_message.12345.{MESSAGES}")
    );
    assert_eq!(known["cursor"], text(cursor));
    assert_eq!(known["records"], ROWS);
    assert_eq!(known["tenant"], "id 11111111-2222-3333-4444-555555555555");
    let behind = known["behind_seconds"].as_i64().unwrap();
    assert!(
        (behind - (Utc::now() - cursor).num_seconds()).abs() < 60,
        "{behind}"
    );
    // Less the delay of 25 hours.
    assert!((behind - 90_000 - known["lag_seconds"].as_i64().unwrap()).abs() <= 1);
    let told = state(&setting, &["show"]).await.fine();
    let line = told.lines().nth(1).unwrap();
    let cells: Vec<_> = line.split("  ").filter(|cell| !cell.is_empty()).collect();
    assert_eq!(cells[1], text(cursor));
    assert_eq!(cells[4].trim(), ROWS.to_string());

    // The state lies elsewhere, and no credentials are at hand.
    fs::rename(setting.folder.state(), setting.folder.path().join("kept")).unwrap();
    let yaml = "globals:\n  id: 1\n  name: x\n  persistence:\n    config:\n      directory_name: kept\ninputs:\n  office365_reporting_message:\n    id: 12345\n";
    setting.folder.configure_raw(yaml).unwrap();
    let unknown = json().await;
    assert_eq!(unknown["cursor"], known["cursor"]);
    assert!(unknown["lag_seconds"].is_null());
    fs::remove_file(setting.folder.path().join("config/config.yaml")).unwrap();
    let refused = state(&setting, &["show"]).await.error();
    assert!(
        refused.contains("config/config.yaml") && refused.contains("`--directory`"),
        "{refused}"
    );
    let told = state(&setting, &["show", "--directory", "kept"])
        .await
        .fine();
    assert!(told.contains(&text(cursor)), "{told}");
    assert!(cursor >= middle && from < middle);
}

/// Two inputs that have the same service.
fn two_inputs(setting: &Setting, start: DateTime<Utc>) -> Config {
    let input = |name: &str, id: &str| Input {
        name: name.to_owned(),
        id: id.to_owned(),
        ..setting
            .input()
            .service_from(Report::MessageTrace, start, &[])
    };
    let mut config = Config::new(input("first", "1"), Output::relay(setting.relay.port()));
    config.inputs.push(input("second", "2"));
    config
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_has_to_be_named_so_that_it_is_clear_which() {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(30), setting.ago(29));
    setting
        .folder
        .configure(&two_inputs(&setting, from))
        .unwrap();
    let mut collector = setting.start();
    collector.wait_for("collecting", PATIENCE).await.unwrap();
    stop(&mut collector).await;
    let time = text(to);
    let set = |service| {
        let (setting, time) = (&setting, &time);
        async move { state(setting, &["set", service, "--cursor", time]).await }
    };
    insta::assert_snapshot!(set(MESSAGES).await.error(), @r"
    several inputs have the service office365_reporting_MessageTrace_service: name one of
    first.1.office365_reporting_MessageTrace_service
    second.2.office365_reporting_MessageTrace_service
    ");
    insta::assert_snapshot!(set("MessageTrace").await.error(), @r#"
    there is no state of a service "MessageTrace" in state: name one of
    first.1.office365_reporting_MessageTrace_service
    second.2.office365_reporting_MessageTrace_service
    "#);
    let whole = format!("second.2.{MESSAGES}");
    set(&whole).await.fine();
    let shown = state(&setting, &["show", "--json"]).await.fine();
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_ne!(shown[0]["cursor"], time);
    assert_eq!(shown[1]["cursor"], time);

    let tomorrow = text(Utc::now() + TimeDelta::days(1));
    let refused = state(&setting, &["set", &whole, "--cursor", &tomorrow])
        .await
        .error();
    assert!(refused.contains("lies in the future"), "{refused}");
    let malformed = state(&setting, &["set", &whole, "--cursor", "yesterday"]).await;
    assert_eq!(malformed.code, 2);
    assert!(
        malformed.text.contains("2024-05-07T15:35:24Z"),
        "{}",
        malformed.text
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_state_of_a_renamed_input_is_named_and_handed_over() {
    let (setting, [from, _, to]) = half_collected().await;
    let (old, new) = (
        format!("office365_reporting_message.12345.{MESSAGES}"),
        format!("renamed.12345.{MESSAGES}"),
    );
    let cursor = text(setting.cursor(Report::MessageTrace).unwrap());
    let file = setting.folder.path().join("config/config.yaml");
    let yaml = fs::read_to_string(&file).unwrap();
    let renamed = yaml.replace("  office365_reporting_message:", "  renamed:");
    assert_ne!(yaml, renamed);

    // The input is not enabled, but it is still there.
    let disabled = format!("{}    enabled: false\n", yaml.trim_end_matches(' '));
    let disabled = disabled.replace(
        "inputs:\n",
        "inputs:\n  other: {id: 9, credentials: {username: a@b.com, password: a}, services: {office365_reporting_Dlp_service: }}\n",
    );
    setting.folder.configure_raw(&disabled).unwrap();
    let collector = Collector::start_with(program(), &setting.folder, |command| {
        command.args(["check", "--json"]);
    });
    let mut collector = collector.unwrap();
    collector.wait(PATIENCE).await.unwrap();
    assert!(
        !collector
            .output()
            .concat()
            .contains("no input of the configuration owns"),
        "{:?}",
        collector.output()
    );

    setting.folder.configure_raw(&renamed).unwrap();
    let mut collector = setting.start();
    let line = collector
        .wait_for("no input of the configuration owns this state", PATIENCE)
        .await
        .unwrap();
    let action = format!("state move {old} {new}");
    assert!(
        line.contains("WARN") && line.contains(&cursor) && line.contains(&action),
        "{line}"
    );
    collector.wait_for("started", PATIENCE).await.unwrap();
    let told = state(&setting, &["move", &old, &new]).await.error();
    assert!(told.contains("a collector is running"), "{told}");
    stop(&mut collector).await;

    // The renamed one has begun by then: what it has is removed first.
    let told = state(&setting, &["move", &old, &new]).await.error();
    assert!(told.contains(&format!("state reset {new}")), "{told}");
    state(&setting, &["reset", &new]).await.fine();
    for (wrong, part) in [
        ("renamed", "write it as INPUT.ID.SERVICE"),
        (
            "renamed.12345.office365_reporting_Dlp_service",
            "cannot go on as another one",
        ),
        (
            &*format!("renmaed.12345.{MESSAGES}"),
            "no input of the configuration is renmaed",
        ),
    ] {
        let told = state(&setting, &["move", &old, wrong]).await.error();
        assert!(told.contains(part), "{told}");
    }
    let told = state(&setting, &["move", &old, &new]).await.fine();
    assert_eq!(
        told.trim(),
        format!("{new} has the state of {old} now, and goes on from {cursor}")
    );
    let gone = state(&setting, &["move", &old, &new]).await.error();
    assert!(gone.contains(&new), "{gone}");

    let mut collector = setting.start();
    let line = collector.wait_for("started", PATIENCE).await.unwrap();
    let at: DateTime<Utc> = cursor.parse().unwrap();
    let at = at.format("%Y-%m-%d %H:%M:%S").to_string();
    assert!(line.contains(&at), "{line}");
    setting
        .until_read(
            &setting.existing(Report::MessageTrace, from, to),
            &collector,
        )
        .await;
    stop(&mut collector).await;
    assert!(
        collector.log_with("owns this state").is_empty(),
        "{}",
        log(&collector)
    );
}
