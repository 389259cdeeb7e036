//! Shortages that pass: threads, files, memory.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use testkit::collector::Collector;
use testkit::report::Report;

use crate::setting::{PATIENCE, Setting, log, program, skip};

/// A user who has no other process: limits of processes count per user.
const USER: u32 = 61_723;

/// How long a shortage lasts.
const SHORTAGE: Duration = Duration::from_secs(5);

fn is_root() -> bool {
    nix::unistd::geteuid().is_root() || skip("only root can run the collector as somebody else")
}

/// Sets a soft limit of a process, as `name=soft:`, as its own user.
fn limit(collector: &Collector, limit: &str) {
    let owner = fs::metadata(format!("/proc/{}", collector.pid())).unwrap();
    let set = Command::new("prlimit")
        .args(["--pid", &collector.pid().to_string()])
        .arg(format!("--{limit}:"))
        .uid(owner.uid())
        .gid(owner.gid())
        .output()
        .unwrap();
    assert!(set.status.success(), "{set:?}");
}

/// Has the collector that is started as root become this user, the owner of its state folder, as in the image.
fn give_to(setting: &Setting, user: u32) {
    fs::set_permissions(setting.folder.path(), Permissions::from_mode(0o755)).unwrap();
    chown(setting.folder.state(), Some(user), Some(user)).unwrap();
}

/// Starts the collector under limits.
fn start_limited(setting: &Setting, limits: &[&str]) -> Collector {
    Collector::start_with("/usr/bin/prlimit".as_ref(), &setting.folder, |command| {
        command.args(limits).arg(program());
    })
    .unwrap()
}

/// The soft and the hard limit of this name in `/proc/PID/limits`.
fn limits(collector: &Collector, name: &str) -> [String; 2] {
    let all = fs::read_to_string(format!("/proc/{}/limits", collector.pid())).unwrap();
    let line = all.lines().find(|line| line.starts_with(name)).unwrap();
    let mut values = line[name.len()..].split_whitespace().map(str::to_owned);
    [values.next().unwrap(), values.next().unwrap()]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_files_may_be_open_and_no_core_is_dumped() {
    let setting = Setting::new().await;
    setting.configure_one(Report::MessageTrace, setting.ago(30), &[]);
    if !is_root() {
        return;
    }
    give_to(&setting, USER + 1);
    let collector = start_limited(&setting, &["--nofile=64:5000", "--core=1000000"]);
    collector.wait_for("collecting", PATIENCE).await.unwrap();
    assert_eq!(limits(&collector, "Max open files"), ["5000", "5000"]);
    assert_eq!(limits(&collector, "Max core file size"), ["0", "0"]);
    // What belongs to root in a process of another user may not be dumped.
    let memory = fs::metadata(format!("/proc/{}/mem", collector.pid())).unwrap();
    let own = fs::metadata(format!("/proc/{}", collector.pid())).unwrap();
    assert_eq!((own.uid(), memory.uid()), (USER + 1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_without_threads_waits_for_them() {
    if !is_root() {
        return;
    }
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(30), setting.ago(28));
    setting.rows(Report::MessageTrace, from, to, 1_000);
    setting.configure_one(Report::MessageTrace, from, &[]);
    give_to(&setting, USER + 2);
    let mut collector = start_limited(&setting, &["--nproc=1:1000"]);
    let told = collector.wait_for("refuses files or threads", PATIENCE);
    assert!(told.await.unwrap().contains("ulimit -u"));
    tokio::time::sleep(SHORTAGE).await;
    assert_eq!(collector.log_with("collecting"), Vec::<String>::new());
    limit(&collector, "nproc=1000");
    collector.wait_for("collecting", PATIENCE).await.unwrap();
    setting.finish(&mut collector, from, to).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_is_told_to_stop_while_it_waits_does() {
    if !is_root() {
        return;
    }
    let setting = Setting::new().await;
    setting.configure_one(Report::MessageTrace, setting.ago(30), &[]);
    give_to(&setting, USER + 3);
    let mut collector = start_limited(&setting, &["--nproc=1:1000"]);
    let told = collector.wait_for("refuses files or threads", PATIENCE);
    told.await.unwrap();
    let ended = collector.stop(Duration::from_secs(8)).await.unwrap();
    assert_eq!(ended.code, Some(0), "{}", log(&collector));
}

/// In both forms of the runtime.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shortage_of_threads_while_it_runs_loses_nothing() {
    if !is_root() {
        return;
    }
    for (number, multiprocessing) in [(4, "false"), (5, "true")] {
        let setting = Setting::new().await;
        let (from, to) = (setting.ago(60), setting.ago(28));
        setting.rows(Report::MessageTrace, from, to, 3_000);
        let input = setting
            .input()
            .service_from(Report::MessageTrace, from, &[]);
        let config = testkit::collector::Config::new(
            input,
            testkit::collector::Output::relay(setting.relay.port()),
        );
        let config = config.global("multiprocessing", multiprocessing);
        setting.folder.configure(&config).unwrap();
        give_to(&setting, USER + number);
        let mut collector = start_limited(&setting, &[]);
        collector.wait_for("collecting", PATIENCE).await.unwrap();
        limit(&collector, "nproc=1");
        setting.finish(&mut collector, from, to).await;
        assert_eq!(collector.log_with("panicked"), Vec::<String>::new());
    }
}

/// Only the system's administrator could end this one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_without_files_waits_for_them() {
    let setting = Setting::new().await;
    setting.configure_one(Report::MessageTrace, setting.ago(30), &[]);
    let mut collector = start_limited(&setting, &["--nofile=10:10"]);
    let told = collector.wait_for("refuses files or threads", PATIENCE);
    assert!(told.await.unwrap().contains("ulimit -n"));
    let ended = collector.stop(Duration::from_secs(8)).await.unwrap();
    assert_eq!(ended.code, Some(0), "{}", log(&collector));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shortage_of_files_while_it_runs_loses_nothing() {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(60), setting.ago(28));
    setting.rows(Report::MessageTrace, from, to, 30_000);
    setting
        .service
        .adjust(|options| options.latency = Duration::from_secs(1));
    setting.configure_one(Report::MessageTrace, from, &[]);
    let mut collector = setting.start();
    collector.wait_for("collecting", PATIENCE).await.unwrap();
    // Nothing new can be opened: no connection of either side, and no file of the state.
    limit(&collector, "nofile=5");
    collector
        .wait_for("Too many open files", PATIENCE)
        .await
        .unwrap();
    tokio::time::sleep(SHORTAGE).await;
    let hard = &limits(&collector, "Max open files")[1];
    limit(&collector, &format!("nofile={hard}"));
    setting
        .service
        .adjust(|options| options.latency = Duration::ZERO);
    setting.finish(&mut collector, from, to).await;
    assert_eq!(collector.log_with("panicked"), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shortage_of_memory_loses_nothing() {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(60), setting.ago(28));
    setting.rows(Report::MessageTrace, from, to, 60_000);
    setting
        .service
        .adjust(|options| options.latency = Duration::from_secs(1));
    setting.configure_one(Report::MessageTrace, from, &[]);
    let mut collector = setting.start();
    collector.wait_for("collecting", PATIENCE).await.unwrap();
    limit(&collector, "as=1000000");
    collector
        .wait_for("the system gives no memory", PATIENCE)
        .await
        .unwrap();
    tokio::time::sleep(SHORTAGE).await;
    limit(&collector, "as=unlimited");
    collector
        .wait_for("the system gives memory again", PATIENCE)
        .await
        .unwrap();
    setting
        .service
        .adjust(|options| options.latency = Duration::ZERO);
    setting.finish(&mut collector, from, to).await;
}

/// A process that waits for memory in the middle of anything ends all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_told_to_stop_in_a_shortage_of_memory_ends() {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(60), setting.ago(28));
    setting.rows(Report::MessageTrace, from, to, 60_000);
    setting
        .service
        .adjust(|options| options.latency = Duration::from_secs(1));
    setting.configure_one(Report::MessageTrace, from, &[]);
    let mut collector = setting.start();
    collector.wait_for("collecting", PATIENCE).await.unwrap();
    limit(&collector, "as=1000000");
    collector
        .wait_for("the system gives no memory", PATIENCE)
        .await
        .unwrap();
    let ended = collector.stop(Duration::from_secs(10)).await.unwrap();
    assert_eq!(ended.code, Some(1), "{}", log(&collector));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_of_the_size_of_files_is_a_disk_that_refuses() {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(30), setting.ago(28));
    setting.rows(Report::MessageTrace, from, to, 1_000);
    setting.configure_one(Report::MessageTrace, from, &[]);
    let mut collector = setting.start();
    collector.wait_for("collecting", PATIENCE).await.unwrap();
    limit(&collector, "fsize=10");
    collector
        .wait_for("File too large", PATIENCE)
        .await
        .unwrap();
    limit(&collector, "fsize=unlimited");
    setting.stop_at(&mut collector, to).await;
    setting.expect_once(
        &setting.existing(Report::MessageTrace, from, to),
        0,
        &collector,
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_of_files_that_cannot_hold_all_tenants_is_a_mistake_of_the_configuration() {
    let setting = Setting::new().await;
    let mut config = testkit::collector::Config::new(
        setting.input(),
        testkit::collector::Output::relay(setting.relay.port()),
    );
    config.inputs = (0..100)
        .map(|nth| {
            let mut input = setting.input().service(Report::MessageTrace, &[]);
            input.name = format!("tenant_{nth}");
            input
        })
        .collect();
    setting.folder.configure(&config).unwrap();
    let mut collector = start_limited(&setting, &["--nofile=64:400"]);
    let ended = collector.wait(PATIENCE).await.unwrap();
    assert_eq!(ended.code, Some(78), "{}", log(&collector));
    let told = collector.log_with("ERROR").join("\n");
    for part in [
        "at least 432 files and sockets",
        "inputs 100, services 100",
        "the system allows 400",
        "LimitNOFILE",
    ] {
        assert!(told.contains(part), "no {part:?} in {told}");
    }
    assert!(setting.service.requests().is_empty());
    let mut collector = start_limited(&setting, &["--nofile=64:432"]);
    collector
        .wait_for("collecting services=100", PATIENCE)
        .await
        .unwrap();
    collector.kill().await.unwrap();
}
