//! Signals that people and systems send to a daemon.

use std::time::Duration;

use nix::sys::signal::Signal;
use testkit::report::Report;

use crate::setting::{PATIENCE, Setting, log};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_signal_that_ends_a_daemon_stops_it_in_order() {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(30), setting.ago(28));
    setting.rows(Report::MessageTrace, from, to, 200);
    setting.configure_one(Report::MessageTrace, from, &[]);
    for signal in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGALRM,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGVTALRM,
        Signal::SIGPROF,
        Signal::SIGIO,
        Signal::SIGXCPU,
        Signal::SIGPWR,
    ] {
        let mut collector = setting.start();
        collector.wait_for("collecting", PATIENCE).await.unwrap();
        collector.signal(signal).unwrap();
        let ended = collector.wait(PATIENCE).await.unwrap();
        assert_eq!(ended.code, Some(0), "{signal}\n{}", log(&collector));
        assert!(ended.took < Duration::from_secs(8), "{signal} {ended:?}");
        for said in ["told to stop signal=", "-> stopped"] {
            assert_eq!(collector.log_with(said).len(), 1, "{}", log(&collector));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signals_that_mean_something_else_stop_nothing() {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(30), setting.ago(28));
    setting.rows(Report::MessageTrace, from, to, 500);
    setting.configure_one(Report::MessageTrace, from, &[]);
    let mut collector = setting.start();
    collector.wait_for("collecting", PATIENCE).await.unwrap();
    for signal in [
        Signal::SIGHUP,
        Signal::SIGPIPE,
        Signal::SIGCHLD,
        Signal::SIGWINCH,
        Signal::SIGURG,
        Signal::SIGCONT,
        Signal::SIGXFSZ,
        Signal::SIGTTOU,
        Signal::SIGTTIN,
    ] {
        collector.signal(signal).unwrap();
    }
    collector.wait_for("SIGHUP", PATIENCE).await.unwrap();
    setting.finish(&mut collector, from, to).await;
    assert_eq!(collector.log_with("SIGHUP").len(), 1);
}

/// Before the program's own first step the system's default holds, of which the exit status tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_in_the_first_milliseconds_ends_it_in_order() {
    let setting = Setting::new().await;
    setting.configure_one(Report::MessageTrace, setting.ago(30), &[]);
    let mut in_order = 0;
    for step in 0..60_u64 {
        let mut collector = setting.start();
        tokio::time::sleep(Duration::from_micros(step * 500)).await;
        let ended = collector.stop(Duration::from_secs(8)).await.unwrap();
        let log = log(&collector);
        assert!(!log.contains("panicked"), "{log}");
        match ended.code {
            Some(0) => in_order += 1,
            other => assert!(other.is_none() && log.is_empty(), "{ended:?}\n{log}"),
        }
    }
    assert!(in_order > 0);
}
