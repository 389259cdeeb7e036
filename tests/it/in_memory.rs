//! State in memory: a run collects as any other, leaves nothing behind, and the next one begins anew.

use std::fs;
use std::path::PathBuf;

use testkit::collector::{Collector, Config, Output};
use testkit::records::compare;
use testkit::report::Report;

use crate::setting::{PATIENCE, Setting, log, program, stop};

/// The folders that a running collector holds open in memory.
fn folders(collector: &Collector) -> Vec<PathBuf> {
    let open = fs::read_dir(format!("/proc/{}/fd", collector.pid())).unwrap();
    let mut folders: Vec<_> = open
        .flatten()
        .filter_map(|fd| fs::read_link(fd.path()).ok())
        .filter(|path| path.starts_with("/dev/shm") && path.ends_with("lock"))
        .map(|path| path.parent().unwrap().to_owned())
        .collect();
    folders.dedup();
    folders
}

/// Runs the collector until the relay has all of an hour, `times` over, and tells which records came how often.
async fn run(setting: &Setting, options: &[&str], times: u64) {
    let expected = setting.existing(Report::MessageTrace, setting.ago(40), setting.ago(39));
    let mut collector = Collector::start_with(program(), &setting.folder, |command| {
        command.args(options);
    })
    .unwrap();
    collector
        .wait_for("state is kept in memory", PATIENCE)
        .await
        .unwrap();
    setting.until_read(&expected, &collector).await;
    while setting.relay.count() < times * 500 {
        assert!(collector.is_running(), "{}", log(&collector));
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let held = folders(&collector);
    assert_eq!(held.len(), 1, "{held:?}");
    stop(&mut collector).await;
    assert!(!held[0].exists(), "{held:?}");
    let verdict = compare(&expected, &setting.relay.records());
    assert_eq!((verdict.missing, verdict.twice), (0, (times - 1) * 500));
    assert_eq!(
        fs::read_dir(setting.folder.state()).unwrap().count(),
        0,
        "something is in the state folder"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_behind_and_the_next_run_begins_anew() {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(40), setting.ago(39));
    setting.rows(Report::MessageTrace, from, to, 500);
    setting.configure_one(Report::MessageTrace, from, &[]);
    run(&setting, &["--no-save-state"], 1).await;

    let input = setting
        .input()
        .service_from(Report::MessageTrace, from, &[]);
    let yaml = Config::new(input, Output::relay(setting.relay.port())).yaml();
    let memory = yaml.replace("type: filesystem", "type: memory");
    setting.folder.configure_raw(&memory).unwrap();
    run(&setting, &[], 2).await;
}
