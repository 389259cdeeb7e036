//! The state folder: a full disk, a read-only one, damaged files, resets, and where a service begins.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use testkit::collector::{Collector, Config, Credentials, Output};
use testkit::disk::Disk;
use testkit::records::compare;
use testkit::relay::Behaviour;
use testkit::report::Report;
use testkit::service::{Fault, When};

use crate::figures::kill;
use crate::setting::{PATIENCE, Setting, log, may_mount, stop};

const ROWS: u32 = 2_000;

/// More records than a journal reserves space for at once.
const MANY_ROWS: u32 = 20_000;

/// Waits until everything before `to` is committed, and stops the collector.
async fn run_until(setting: &Setting, report: Report, to: DateTime<Utc>) -> Collector {
    let mut collector = setting.start();
    // Before that, SIGTERM would end it as it ends any process.
    collector.wait_for("collecting", PATIENCE).await.unwrap();
    setting.until_committed(&collector, &[report], to).await;
    stop(&mut collector).await;
    collector
}

/// Starts the collector and expects it to end by itself, with status 1; returns its errors.
async fn refused_at_start(setting: &Setting) -> String {
    let mut collector = setting.start();
    let ended = collector.wait(PATIENCE).await.unwrap();
    assert_eq!(ended.code, Some(1), "{}", log(&collector));
    let errors = collector.log_with("ERROR").join("\n");
    errors.replace(&setting.folder.path().display().to_string(), "")
}

/// A setting on a small disk, that collects four hours of message traces and meets the disk full in the second.
async fn fill_up() -> (Setting, Disk, Collector) {
    let setting = Setting::new().await;
    let disk = Disk::mount(&setting.folder.state(), 1_024).unwrap();
    let (from, to) = (setting.ago(30), setting.ago(25));
    setting.rows(Report::MessageTrace, from, to, MANY_ROWS);
    setting.configure_one(Report::MessageTrace, from, &[]);
    // So late that what was fetched before it is delivered and committed by itself, and that there is time to fill the disk.
    let second = When::After {
        passed: 1,
        times: 1,
    };
    let late = Fault::Delay(Duration::from_secs(20));
    setting.service.fault(Report::MessageTrace, second, late);
    let collector = setting.start();
    setting
        .until_committed(
            &collector,
            &[Report::MessageTrace],
            from + TimeDelta::seconds(1),
        )
        .await;
    disk.fill().unwrap();
    let line = collector.wait_for("make room on the disk", PATIENCE).await;
    let line = line.unwrap();
    assert!(line.contains("ERROR") && line.contains("state/"), "{line}");
    // Polling pauses, once the relay has read what was on its way.
    let looks = || (setting.service.requests().len(), setting.relay.count());
    let (begun, mut before) = (Instant::now(), looks());
    let (requests, read) = loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = looks();
        if std::mem::replace(&mut before, now) == now {
            break now;
        }
        assert!(begun.elapsed() < PATIENCE, "{}", log(&collector));
    };
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(setting.service.requests().len(), requests);
    assert_eq!(setting.relay.count(), read);
    assert!(read < u64::from(MANY_ROWS), "{}", log(&collector));
    (setting, disk, collector)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_pauses_and_collecting_goes_on_by_itself() {
    if !may_mount() {
        return;
    }
    let (setting, disk, mut collector) = fill_up().await;
    disk.empty().unwrap();
    let to = setting.ago(25);
    setting.stop_at(&mut collector, to).await;
    let expected = setting.existing(Report::MessageTrace, setting.ago(30), to);
    setting.expect_exactly(&expected, &collector);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_nothing_is_delivered_that_could_not_be_journalled() {
    if !may_mount() {
        return;
    }
    let (setting, disk, mut collector) = fill_up().await;
    kill(&mut collector).await;
    disk.empty().unwrap();
    let to = setting.ago(25);
    let collector = run_until(&setting, Report::MessageTrace, to).await;
    let expected = setting.existing(Report::MessageTrace, setting.ago(30), to);
    setting.expect_exactly(&expected, &collector);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_state_folder_ends_the_start() {
    if !may_mount() {
        return;
    }
    let setting = Setting::new().await;
    let mut disk = Disk::mount(&setting.folder.state(), 1_024).unwrap();
    disk.make_read_only().unwrap();
    setting.configure_one(Report::MessageTrace, setting.ago(30), &[]);
    let told = refused_at_start(&setting).await;
    assert!(
        told.contains("the folder state, which") && told.contains("mount it writable"),
        "{told}"
    );
    assert!(setting.service.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_folder_that_becomes_read_only_is_waited_for() {
    if !may_mount() {
        return;
    }
    let setting = Setting::new().await;
    let mut disk = Disk::mount(&setting.folder.state(), 1_024).unwrap();
    let (from, to) = (setting.ago(30), setting.ago(25));
    setting.rows(Report::MessageTrace, from, to, ROWS);
    setting.configure_one(Report::MessageTrace, from, &[]);
    setting
        .relay
        .always(Behaviour::AnswerLate(Duration::from_millis(300)));
    let mut collector = setting.start();
    collector
        .wait_for("window delivered", PATIENCE)
        .await
        .unwrap();
    disk.make_read_only().unwrap();
    let line = collector
        .wait_for("mount the state folder writable", PATIENCE)
        .await;
    let line = line.unwrap();
    assert!(
        line.contains("ERROR") && line.contains("retry_in="),
        "{line}"
    );
    let requests = setting.service.requests().len();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(setting.service.requests().len(), requests, "polling pauses");
    disk.make_writable().unwrap();
    setting.finish(&mut collector, from, to).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_collector_on_the_same_folder_refuses_to_start() {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(30), setting.ago(29));
    setting.rows(Report::MessageTrace, from, to, ROWS);
    setting.configure_one(Report::MessageTrace, from, &[]);
    let mut first = setting.start();
    first.wait_for("collecting", PATIENCE).await.unwrap();
    let told = refused_at_start(&setting).await;
    assert!(
        told.contains("another collector is running on the state folder state")
            && told.contains("directory_name"),
        "{told}"
    );
    setting.stop_at(&mut first, to).await;
    setting.expect_exactly(&setting.existing(Report::MessageTrace, from, to), &first);
}

/// Inverts a byte of a file.
fn damage(file: &Path, place: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[place] ^= 0xff;
    fs::write(file, bytes).unwrap();
}

/// Damages a file of one service between two runs: that service stops and says which file and what to do, the other one
/// goes on, and with the file put back nothing is lost or repeated.
async fn damaged(name: &str, place: usize) {
    let setting = Setting::new().await;
    let (from, middle, to) = (setting.ago(32), setting.ago(30), setting.ago(28));
    let reports = [Report::MessageTrace, Report::MailDetailAtp];
    let hours = |instant: DateTime<Utc>| instant.duration_trunc(TimeDelta::hours(1)).unwrap();
    for report in reports {
        setting.rows(report, from, middle, ROWS);
    }
    let input = reports.iter().fold(setting.input(), |input, report| {
        input.service_from(*report, from, &[])
    });
    setting.configure(input);
    let mut collector = setting.start();
    setting
        .until_committed(&collector, &reports, hours(middle))
        .await;
    stop(&mut collector).await;

    let file = setting.state_of(Report::MessageTrace).join(name);
    let good = fs::read(&file).unwrap();
    damage(&file, place);
    let mut collector = setting.start();
    let line = collector
        .wait_for("this service does not run", PATIENCE)
        .await
        .unwrap();
    let path = format!(
        "state/office365_reporting_message.12345.{}",
        Report::MessageTrace.service()
    );
    for part in [
        "ERROR",
        &format!("{path}/{name} "),
        "put it back from a backup",
        &format!("remove the folder {path} "),
    ] {
        assert!(line.contains(part), "no {part:?} in {line}");
    }
    collector
        .wait_for("collecting services=1", PATIENCE)
        .await
        .unwrap();
    stop(&mut collector).await;
    assert!(
        fs::read(&file).unwrap() != good,
        "nothing is mended by guessing"
    );

    fs::write(&file, good).unwrap();
    let mut collector = setting.start();
    collector
        .wait_for("collecting services=2", PATIENCE)
        .await
        .unwrap();
    setting
        .until_committed(&collector, &reports, hours(to))
        .await;
    stop(&mut collector).await;
    setting.expect_exactly(&setting.service.served(), &collector);
    assert!(setting.service.served().total() >= u64::from(ROWS) * 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_cursor_stops_its_service_only() {
    damaged("cursor", 60).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_damaged_in_its_middle_stops_its_service_only() {
    // In the first frame, behind which others follow.
    damaged("journal.devo_1", 40).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_key_no_state_is_trusted() {
    let setting = Setting::new().await;
    let (from, middle, to) = (setting.ago(30), setting.ago(29), setting.ago(28));
    setting.rows(Report::MessageTrace, from, to, ROWS);
    setting.configure_one(Report::MessageTrace, from, &[]);
    run_until(&setting, Report::MessageTrace, middle).await;
    let file = setting.folder.state().join("fingerprint.key");
    let good = fs::read(&file).unwrap();

    damage(&file, 40);
    let told = refused_at_start(&setting).await;
    for part in [
        "state/fingerprint.key ",
        "put it back from a backup",
        "remove the folder state ",
    ] {
        assert!(told.contains(part), "no {part:?} in {told}");
    }
    fs::remove_file(&file).unwrap();
    let told = refused_at_start(&setting).await;
    for part in [
        "the key state/fingerprint.key is missing",
        "put the key back",
        "remove that folder",
        "no service can run",
    ] {
        assert!(told.contains(part), "no {part:?} in {told}");
    }
    assert!(!file.exists(), "no new key in the place of the old one");

    fs::write(&file, good).unwrap();
    let collector = run_until(&setting, Report::MessageTrace, to).await;
    setting.expect_exactly(
        &setting.existing(Report::MessageTrace, from, to),
        &collector,
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_tail_of_a_journal_is_cut_and_what_stands_before_it_is_not_delivered_again() {
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
    // The one that stalls has been opened, and hangs on to no later one.
    while setting.relay.connections().len() < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    kill(&mut collector).await;
    assert_eq!(
        setting.cursor(report),
        Some(from),
        "in the middle of the window"
    );
    let journal = setting.state_of(report).join("journal.devo_1");
    let mut bytes = fs::read(&journal).unwrap();
    let sound = bytes.len();
    // The head of a frame with less behind it than it says, as a crash leaves it.
    bytes.extend(b"frm1\x02\0\0\0\x40\x06\0\0\x12\x34\x56\x78torn");
    fs::write(&journal, bytes).unwrap();
    let collector = run_until(&setting, report, to).await;
    assert!(fs::metadata(&journal).unwrap().len() >= sound as u64);
    setting.expect_exactly(&setting.existing(report, from, to), &collector);
}

/// Configures message traces with a value of `reset_persistence_auth`, or without the line.
fn configure_reset(setting: &Setting, start: DateTime<Utc>, reset: Option<&str>) {
    let reset = reset.map(|value| ("reset_persistence_auth", value));
    setting.configure_one(Report::MessageTrace, start, reset.as_slice());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_new_value_of_reset_persistence_auth_clears_the_state() {
    let setting = Setting::new().await;
    let (from, middle) = (setting.ago(30), setting.ago(29));
    setting.rows(Report::MessageTrace, from, middle, 300);
    let expected = setting.existing(Report::MessageTrace, from, middle);
    // Absent, first, the same, blank, absent, the same again.
    for reset in [
        None,
        Some("2026-01-01"),
        Some("2026-01-01"),
        Some(""),
        None,
        Some("2026-01-01"),
    ]
    .into_iter()
    .enumerate()
    {
        let (run, reset) = reset;
        configure_reset(&setting, from, reset);
        let collector = run_until(&setting, Report::MessageTrace, middle).await;
        let cleared = !collector.log_with("the state is cleared").is_empty();
        assert_eq!(
            cleared,
            run == 1,
            "{reset:?} in run {run}:\n{}",
            log(&collector)
        );
    }
    let verdict = compare(&expected, &setting.relay.records());
    assert_eq!(
        (verdict.missing, verdict.twice),
        (0, expected.total()),
        "{verdict}"
    );

    // What is skipped is said.
    let start = setting.ago(20);
    configure_reset(&setting, start, Some("2026-01-02"));
    let cursor = setting.cursor(Report::MessageTrace).unwrap();
    let mut collector = setting.start();
    let line = collector.wait_for("the state is cleared", PATIENCE).await;
    let line = line.unwrap();
    collector.wait_for("collecting", PATIENCE).await.unwrap();
    stop(&mut collector).await;
    let form = |instant: DateTime<Utc>| instant.format("%Y-%m-%dT%H:%M:%SZ").to_string();
    let skipped = format!("skipped={}..{}", form(cursor), form(start));
    assert!(line.contains("WARN") && line.contains(&skipped), "{line}");
    assert_eq!(setting.cursor(Report::MessageTrace), Some(start));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_of_another_tenant_is_not_gone_on_with() {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(30), setting.ago(29));
    setting.rows(Report::MessageTrace, from, to, 300);
    setting.configure_one(Report::MessageTrace, from, &[]);
    run_until(&setting, Report::MessageTrace, to).await;
    let requests = setting.service.requests().len();
    let known = setting.service.options().access;
    let other = "99999999-2222-3333-4444-555555555555";
    let credentials = Credentials::Secret {
        tenant_id: other.to_owned(),
        client_id: known.app.client_id,
        client_secret: "secret".to_owned(),
    };
    let input = setting.input().credentials(credentials);
    setting.configure(input.service(Report::MessageTrace, &[]));
    let told = refused_at_start(&setting).await;
    for part in [
        known.tenant.as_str(),
        other,
        "an id of its own",
        "reset_persistence_auth",
    ] {
        assert!(told.contains(part), "no {part:?} in {told}");
    }
    assert_eq!(setting.service.requests().len(), requests);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_time_older_than_microsoft_keeps_is_clamped_and_what_is_gone_is_said() {
    let setting = Setting::new().await;
    let (kept, to) = (setting.ago(9 * 24), setting.ago(8 * 24));
    setting.rows(Report::MessageTrace, kept, to, 300);
    setting.configure_one(Report::MessageTrace, setting.ago(15 * 24), &[]);
    let collector = run_until(&setting, Report::MessageTrace, to).await;
    let lines = collector.log_with("records older than Microsoft keeps cannot be had");
    let gone = format!(
        "unreachable={}..",
        setting.ago(15 * 24).format("%Y-%m-%dT%H:%M:%SZ")
    );
    assert!(
        lines.len() == 1 && lines[0].contains("ERROR") && lines[0].contains(&gone),
        "{}",
        lines.join("\n")
    );
    // What is on its way before a second clock is heard is asked for once.
    let requests = setting.service.requests_for(Report::MessageTrace);
    let mut heard = requests.iter().skip_while(|request| request.status != 200);
    assert!(heard.all(|request| request.status == 200));
    let refused = requests.iter().filter(|request| request.status != 200);
    assert!(refused.count() <= 5);
    setting.expect_exactly(
        &setting.existing(Report::MessageTrace, kept, to),
        &collector,
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn start_time_is_taken_in_every_form() {
    let setting = Setting::new().await;
    let forms = [
        "%Y-%m-%dT%H:%M:%S%.6f",
        "%Y-%m-%dT%H:%M:%S",
        "%Y-%m-%dT%H:%M:%SZ",
        "%Y-%m-%dT%H:%M:%S%.3fZ",
    ];
    let mut config: Option<Config> = None;
    let mut starts = vec![];
    for (number, form) in (0..).zip(forms) {
        let start = setting.ago(40) + TimeDelta::seconds(number);
        let text = (start + TimeDelta::milliseconds(133))
            .format(form)
            .to_string();
        let mut input = setting
            .input()
            .service(Report::MessageTrace, &[("start_time", &text)]);
        (input.name, input.id) = (format!("input_{number}"), number.to_string());
        match &mut config {
            Some(config) => config.inputs.push(input),
            None => config = Some(Config::new(input, Output::relay(setting.relay.port()))),
        }
        starts.push(start);
    }
    setting.folder.configure(&config.unwrap()).unwrap();
    let mut collector = setting.start();
    for start in starts {
        let window = format!(
            "window delivered window={}..",
            start.format("%Y-%m-%dT%H:%M:%SZ")
        );
        collector.wait_for(&window, PATIENCE).await.unwrap();
    }
    stop(&mut collector).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_input_that_is_not_enabled_is_left_alone() {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(30), setting.ago(29));
    let enabled = setting
        .input()
        .service_from(Report::MessageTrace, from, &[]);
    let mut other = setting
        .input()
        .service_from(Report::MailDetailAtp, from, &[]);
    (other.name, other.id) = ("other".to_owned(), "2".to_owned());
    let mut config = Config::new(enabled, Output::relay(setting.relay.port()));
    config.inputs.push(other);
    let yaml = config.yaml();
    let (first, second) = yaml.rsplit_once("enabled: true").unwrap();
    setting
        .folder
        .configure_raw(&format!("{first}enabled: false{second}"))
        .unwrap();
    run_until(&setting, Report::MessageTrace, to).await;
    assert!(
        setting
            .service
            .requests_for(Report::MailDetailAtp)
            .is_empty()
    );
    assert!(
        !setting
            .service
            .requests_for(Report::MessageTrace)
            .is_empty()
    );
}

/// Puts the cursor of a service elsewhere, as if it had been stopped then.
fn turn_back(file: &Path, from: DateTime<Utc>, to: DateTime<Utc>) {
    let bytes = fs::read(file).unwrap();
    let text =
        |instant: DateTime<Utc>| format!("\"cursor\":\"{}\"", instant.format("%Y-%m-%dT%H:%M:%SZ"));
    let (old, new) = (text(from), text(to));
    let place = bytes
        .windows(old.len())
        .position(|window| window == old.as_bytes())
        .unwrap();
    let mut body = [
        &bytes[..place],
        new.as_bytes(),
        &bytes[place + old.len()..bytes.len() - 4],
    ]
    .concat();
    let check = crc32fast::hash(&body);
    body.extend(check.to_le_bytes());
    fs::write(file, body).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_on_day_twelve_goes_on_with_what_there_still_is() {
    let setting = Setting::new().await;
    let (kept, middle, to) = (
        setting.ago(9 * 24),
        setting.ago(9 * 24 - 1),
        setting.ago(8 * 24),
    );
    setting.rows(Report::MessageTrace, middle, to, 300);
    setting.configure_one(Report::MessageTrace, kept, &[]);
    // Stopped before it has seen a record ...
    setting
        .service
        .adjust(|options| options.latency = Duration::from_millis(300));
    let mut collector = setting.start();
    setting
        .until_committed(&collector, &[Report::MessageTrace], kept)
        .await;
    kill(&mut collector).await;
    let cursor = setting.cursor(Report::MessageTrace).unwrap();
    let file = setting.state_of(Report::MessageTrace).join("cursor");
    // ... twelve days ago, and with the start_time of that day still in the configuration.
    turn_back(&file, cursor, setting.ago(12 * 24));
    setting.configure_one(Report::MessageTrace, setting.ago(13 * 24), &[]);
    setting
        .service
        .adjust(|options| options.latency = Duration::ZERO);
    let collector = run_until(&setting, Report::MessageTrace, to).await;
    let gone = format!(
        "unreachable={}..",
        setting.ago(12 * 24).format("%Y-%m-%dT%H:%M:%SZ")
    );
    let lines = collector.log_with("cannot be had");
    assert!(
        lines.len() == 1 && lines[0].contains(&gone),
        "{}",
        log(&collector)
    );
    setting.expect_exactly(
        &setting.existing(Report::MessageTrace, kept, to),
        &collector,
    );
}
