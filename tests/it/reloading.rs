//! Inputs in files of their own, and the configuration read again while the collector runs: only what has changed notices.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use nix::sys::signal::Signal;
use testkit::collector::{Config, Input, Output};
use testkit::records::compare;
use testkit::relay::{Behaviour, Connection, End, Relay};
use testkit::report::Report;

use crate::monitoring::Watched;
use crate::setting::{PATIENCE, Setting, log, program, stop};
use crate::tenants::Tenant;

/// A configuration without its `globals`, as an input file has it.
fn file(input: &Input, output: Output) -> String {
    let text = Config::new(input.clone(), output).yaml();
    let at = text.find("outputs:").unwrap();
    text[at..].to_owned()
}

fn path(setting: &Setting, name: &str) -> PathBuf {
    setting.folder.path().join("config/inputs.d").join(name)
}

/// Puts a file where it is read, in one step.
fn put(setting: &Setting, name: &str, text: &str) {
    fs::create_dir_all(path(setting, "")).unwrap();
    fs::write(path(setting, ".new"), text).unwrap();
    fs::rename(path(setting, ".new"), path(setting, name)).unwrap();
}

/// The main file, with a tenant of its own.
fn main(setting: &Setting, input: Input, output: Output) {
    let config = Config::new(input, output).global("monitoring", "{listen: '127.0.0.1:0'}");
    setting.folder.configure(&config).unwrap();
}

fn metric(metrics: &str, name: &str) -> f64 {
    let start = format!("exchange_collector_{name} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&start));
    line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
}

/// Waits for so many lines of the log with this.
async fn until_logged(watched: &Watched, what: &str, times: usize) {
    let begun = Instant::now();
    while watched.collector.log_with(what).len() < times {
        assert!(
            begun.elapsed() < PATIENCE,
            "{what}\n{}",
            log(&watched.collector)
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn check(setting: &Setting, options: &[&str]) -> (Option<i32>, String) {
    let told = Command::new(program())
        .arg("check")
        .args(options)
        .current_dir(setting.folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    (told.status.code(), text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_with_a_mistake_is_left_out_and_the_others_run() {
    let setting = Setting::new().await;
    let time = (setting.ago(40), setting.ago(26));
    let a = Tenant::new(&setting, "a", time, 300).await;
    let b = Tenant::new(&setting, "b", time, 200).await;
    main(&setting, a.input(time.0), a.output());
    put(&setting, "b.yaml", &file(&b.input(time.0), b.output()));
    put(&setting, "c.yaml", "inputs:\n  c: {id: 1}\n");
    let no_certificate = file(&b.input(time.0), b.output())
        .replace("  b:", "  d:")
        .replace("[b]", "[d]")
        .replace("chain.crt", "none.crt");
    put(&setting, "d.yaml", &no_certificate);

    let (code, text) = check(&setting, &["--offline"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("left out: config/inputs.d/c.yaml:2"),
        "{text}"
    );
    assert!(text.contains("none.crt"), "{text}");
    let (code, text) = check(&setting, &["--offline", "--input", "b"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        !text.contains("none.crt") && text.contains("input b"),
        "{text}"
    );

    let mut watched = Watched::of(setting.start()).await;
    for tenant in [&a, &b] {
        tenant
            .until_read(&tenant.existing(time), &watched.collector)
            .await;
    }
    assert_eq!(
        watched
            .collector
            .log_with("this file of inputs is left out")
            .len(),
        2
    );
    let (status, text) = watched.get("/readyz").await;
    assert_eq!(status, 503);
    assert!(
        text.contains("left out: config/inputs.d/c.yaml:2"),
        "{text}"
    );
    assert!(
        watched
            .get("/")
            .await
            .1
            .contains("config/inputs.d/c.yaml:2")
    );
    let metrics = watched.get("/metrics").await.1;
    assert!((metric(&metrics, "input_files_left_out") - 2.0).abs() < 0.1);
    assert!(metric(&metrics, "config_reload_success") < 0.5);

    // Once they are gone all is well.
    fs::remove_file(path(&setting, "c.yaml")).unwrap();
    fs::remove_file(path(&setting, "d.yaml")).unwrap();
    until_logged(&watched, "no input has changed", 1).await;
    let metrics = watched.get("/metrics").await.1;
    assert!(metric(&metrics, "input_files_left_out") < 0.5);
    assert!(metric(&metrics, "config_reload_success") > 0.5);
    stop(&mut watched.collector).await;
    for tenant in [&a, &b] {
        let verdict = compare(&tenant.existing(time), &tenant.relay.records());
        assert!(verdict.is_exact(), "{}: {verdict}", tenant.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_touches_what_has_changed_and_nothing_else() {
    let setting = Setting::new().await;
    let time = (setting.ago(40), setting.ago(26));
    let a = Tenant::new(&setting, "a", time, 300).await;
    let b = Tenant::new(&setting, "b", time, 200).await;
    let c = Tenant::new(&setting, "c", time, 100).await;
    main(&setting, a.input(time.0), a.output());
    let of_b = file(&b.input(time.0), b.output());
    put(&setting, "b.yaml", &of_b);
    let mut watched = Watched::of(setting.start()).await;
    for tenant in [&a, &b] {
        tenant
            .until_read(&tenant.existing(time), &watched.collector)
            .await;
    }
    let started = |of: &str| {
        let lines = watched.collector.log_with("-> started ");
        let service = format!("({of},");
        lines.iter().filter(|line| line.contains(&service)).count()
    };
    until_logged(&watched, "-> started ", 2).await;

    // A new one, which comes by itself once its file has settled.
    put(&setting, "c.yaml", &file(&c.input(time.0), c.output()));
    until_logged(&watched, "read again added=c", 1).await;
    c.until_read(&c.existing(time), &watched.collector).await;
    assert_eq!((started("a"), started("b"), started("c")), (1, 1, 1));

    // A mistake leaves everything as it is; so does one in the main file.
    put(&setting, "b.yaml", "inputs: [");
    watched.collector.signal(Signal::SIGHUP).unwrap();
    until_logged(
        &watched,
        "this file of inputs is left out: inputs of it that run go on",
        1,
    )
    .await;
    let status = watched.status().await;
    assert_eq!(status["inputs"].as_array().unwrap().len(), 3, "{status:#}");
    let main_file = setting.folder.path().join("config/config.yaml");
    let text = fs::read_to_string(&main_file).unwrap();
    fs::write(&main_file, "globals: {}").unwrap();
    watched.collector.signal(Signal::SIGHUP).unwrap();
    until_logged(&watched, "everything goes on as it was", 1).await;
    fs::write(&main_file, text.replace("name: testkit", "name: other")).unwrap();

    // One changes, and one goes.
    let changed = b.input(time.0).option("environment", "other");
    put(&setting, "b.yaml", &file(&changed, b.output()));
    fs::remove_file(path(&setting, "c.yaml")).unwrap();
    watched.collector.signal(Signal::SIGHUP).unwrap();
    until_logged(&watched, "read again changed=b removed=c", 1).await;
    until_logged(&watched, "keys=name", 1).await;
    until_logged(&watched, "no input of the configuration owns this state", 1).await;
    let begun = Instant::now();
    while started("b") < 2 {
        assert!(begun.elapsed() < PATIENCE, "{}", log(&watched.collector));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!((started("a"), started("c")), (1, 1));
    let metrics = watched.get("/metrics").await.1;
    assert!(!metrics.contains(r#"input="c""#), "{metrics}");
    assert!(metrics.contains(r#"input="a""#) && metrics.contains(r#"input="b""#));
    assert!(metric(&metrics, "config_reload_success") > 0.5);
    let state = setting.folder.state();
    let of_c = format!("c.12345.{}", Report::MessageTrace.service());
    assert!(state.join(of_c).join("cursor").exists());
    stop(&mut watched.collector).await;
    for tenant in [&a, &b, &c] {
        let verdict = compare(&tenant.existing(time), &tenant.relay.records());
        assert!(verdict.is_exact(), "{}: {verdict}", tenant.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_under_load_loses_and_repeats_nothing() {
    let setting = Setting::new().await;
    let time = (setting.ago(80), setting.ago(26));
    let a = Tenant::new(&setting, "a", time, 20_000).await;
    let b = Tenant::new(&setting, "b", time, 20_000).await;
    main(&setting, a.input(time.0), a.output());
    put(&setting, "b.yaml", &file(&b.input(time.0), b.output()));
    let mut watched = Watched::of(setting.start()).await;
    for nth in 0..4 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        let rate = format!("{}", 1_000 + nth);
        let changed = b.input(time.0).option("requests_per_second", &rate);
        put(&setting, "b.yaml", &file(&changed, b.output()));
        watched.collector.signal(Signal::SIGHUP).unwrap();
        until_logged(&watched, "read again changed=b", nth + 1).await;
    }
    for tenant in [&a, &b] {
        tenant
            .until_read(&tenant.existing(time), &watched.collector)
            .await;
    }
    stop(&mut watched.collector).await;
    for tenant in [&a, &b] {
        let verdict = compare(&tenant.existing(time), &tenant.relay.records());
        assert!(
            verdict.is_exact(),
            "{}: {verdict}\n{}",
            tenant.name,
            log(&watched.collector)
        );
    }
}

/// Series that are not there from the start are those of the one before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_output_that_was_down_is_not_so_in_the_metrics_once_a_reload_has_put_it_right() {
    let setting = Setting::new().await;
    let time = (setting.ago(40), setting.ago(26));
    let mut a = Tenant::new(&setting, "a", time, 300).await;
    a.relay.always(Behaviour::Refuse);
    main(&setting, a.input(time.0), a.output());
    let mut watched = Watched::of(setting.start()).await;
    let down = |metrics: &str| {
        let mut lines = metrics.lines();
        let line = lines.find(|line| line.starts_with("exchange_collector_output_down{"))?;
        line.rsplit(' ').next().map(str::to_owned)
    };
    let begun = Instant::now();
    while down(&watched.get("/metrics").await.1).as_deref() != Some("1") {
        assert!(begun.elapsed() < PATIENCE, "{}", log(&watched.collector));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    a.relay = Relay::start(&setting.pki).unwrap();
    main(&setting, a.input(time.0), a.output());
    watched.collector.signal(Signal::SIGHUP).unwrap();
    until_logged(&watched, "read again changed=a", 1).await;
    a.until_read(&a.existing(time), &watched.collector).await;
    let metrics = watched.get("/metrics").await.1;
    assert_eq!(down(&metrics).as_deref(), Some("0"), "{metrics}");
    stop(&mut watched.collector).await;
}

/// What a reload finds changed.
#[derive(Clone, Copy, Debug)]
enum Change {
    Added,
    Changed,
    Removed,
    CutShort,
    OtherOutput,
    NoCertificate,
}

const CHANGES: [Change; 6] = [
    Change::Added,
    Change::Changed,
    Change::Removed,
    Change::CutShort,
    Change::OtherOutput,
    Change::NoCertificate,
];

/// What is marked with the tenant in each record.
fn marked(tenant: &Tenant, from: DateTime<Utc>) -> Input {
    tenant.input(from).option("environment", tenant.name)
}

/// What a kill may have come twice where there were so many connections: the lines of the last delivery that the relay ended in order, if that was
/// not written down yet, and those on connections that were broken off.
fn unconfirmed(relay: &Relay, connections: usize) -> u64 {
    let all = relay.connections();
    let ended = |one: &&Connection| one.end == End::ClientClosed && one.lines > 0;
    let last = all[..connections].iter().rfind(ended);
    let broken = all.iter().filter(|one| one.end != End::ClientClosed);
    last.map_or(0, |one| one.lines) + broken.map(|one| one.lines).sum::<u64>()
}

/// Changes one tenant's file while all are loaded, kills the collector so long after, and goes on with all files as they should be.
async fn killed_in_a_reload(change: Change, after: Duration) {
    let setting = Setting::new().await;
    let time = (setting.ago(60), setting.ago(26));
    let [a, b, c] = [("a", 9_000), ("b", 8_500), ("c", 8_000)];
    let a = Tenant::new(&setting, a.0, time, a.1).await;
    let b = Tenant::new(&setting, b.0, time, b.1).await;
    let c = Tenant::new(&setting, c.0, time, c.1).await;
    let tenants = [&a, &b, &c];
    for tenant in tenants {
        let late = Behaviour::AnswerLate(Duration::from_millis(150));
        tenant.relay.always(late);
    }
    main(&setting, marked(&a, time.0), a.output());
    let files = [&b, &c].map(|tenant| file(&marked(tenant, time.0), tenant.output()));
    put(&setting, "b.yaml", &files[0]);
    if !matches!(change, Change::Added) {
        put(&setting, "c.yaml", &files[1]);
    }
    let mut collector = setting.start();
    let begun = Instant::now();
    while a.relay.count().min(b.relay.count()) < 1_000 {
        assert!(begun.elapsed() < PATIENCE, "{}", log(&collector));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    match change {
        Change::Added => put(&setting, "c.yaml", &files[1]),
        Change::Changed => {
            let input = marked(&b, time.0).option("requests_per_second", "900");
            put(&setting, "b.yaml", &file(&input, b.output()));
        }
        Change::Removed => fs::remove_file(path(&setting, "b.yaml")).unwrap(),
        Change::CutShort => put(&setting, "b.yaml", &files[0][..files[0].len() / 2]),
        // The output of another file is none that it may have.
        Change::OtherOutput => put(&setting, "b.yaml", &files[0].replace("[b]", "[a]")),
        Change::NoCertificate => put(&setting, "b.yaml", &files[0].replace("chain.crt", "no.crt")),
    }
    collector.signal(Signal::SIGHUP).unwrap();
    tokio::time::sleep(after).await;
    collector.kill().await.unwrap();
    let connections = tenants.map(|tenant| tenant.relay.connections().len());

    put(&setting, "b.yaml", &files[0]);
    put(&setting, "c.yaml", &files[1]);
    let mut collector = setting.start();
    for tenant in tenants {
        tenant.until_read(&tenant.existing(time), &collector).await;
    }
    stop(&mut collector).await;
    for (tenant, connections) in tenants.into_iter().zip(connections) {
        let verdict = compare(&tenant.existing(time), &tenant.relay.records());
        let bound = unconfirmed(&tenant.relay, connections);
        let told = format!(
            "{change:?} after {after:?}, {}: {verdict}, of {bound}",
            tenant.name
        );
        assert!(
            verdict.is_complete() && verdict.twice <= bound,
            "{told}\n{}",
            log(&collector)
        );
        let mark = format!(r#""@devo_environment": "{}""#, tenant.name);
        let lines = tenant.relay.lines();
        assert!(lines.iter().all(|line| line.contains(&mark)), "{told}");
        assert_eq!(tenant.relay.violations(), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_in_the_middle_of_a_reload_loses_nothing_and_mixes_no_tenants() {
    for (nth, change) in (0_u64..).zip(CHANGES) {
        // Before the files are read, while they are, and while a tenant stops with its last receipts.
        let after = [[0, 60 + 15 * nth], [60 + 15 * nth, 400]];
        for after in after[usize::from(nth % 2 == 1)] {
            killed_in_a_reload(change, Duration::from_millis(after)).await;
        }
    }
}
