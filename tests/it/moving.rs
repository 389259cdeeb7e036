//! A tenant's state that moves to another machine: each record once, one writer at any moment, and an import that a kill interrupts never counts.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use testkit::collector::{Config, Folder, Output};
use testkit::relay::Behaviour;
use testkit::report::Report;

use crate::by_hand::state;
use crate::crash::tracer;
use crate::figures::kill;
use crate::setting::{PATIENCE, Setting, log, program, stop};

const INPUT: &str = "office365_reporting_message";

/// All files below a folder that begin with the name, and what is in them.
fn files(folder: &Path, name: &str) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let inner = entry.file_name().into_string().unwrap();
        if !inner.starts_with(name) {
            continue;
        }
        if entry.path().is_dir() {
            let below = self::files(&entry.path(), "").into_iter();
            files.extend(below.map(|(path, bytes)| (format!("{inner}/{path}"), bytes)));
        } else {
            files.insert(inner, fs::read(entry.path()).unwrap());
        }
    }
    files
}

/// Starts the collector, which has nothing to run; returns what it says.
async fn refused(setting: &Setting) -> String {
    let mut collector = setting.start();
    let ended = collector.wait(PATIENCE).await.unwrap();
    assert_eq!(ended.code, Some(1), "{}", log(&collector));
    collector.log_with("ERROR").join("\n")
}

/// Records of an hour that cannot be shorter, of which two deliveries are confirmed beyond the cursor when the collector is killed.
async fn half_collected(report: Report, rows: u32) -> Setting {
    let setting = Setting::new().await;
    let (from, to) = (setting.hour_ago(26), setting.hour_ago(25));
    setting.rows(report, from, to, rows);
    setting.configure_one(report, from, &[]);
    setting.relay.next_times(2, Behaviour::Normal);
    setting.relay.next(Behaviour::Stall { after: 0 });
    let mut collector = setting.start();
    let confirmed = collector.wait_for("delivery confirmed", PATIENCE).await;
    confirmed.unwrap();
    while setting.relay.connections().len() < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    kill(&mut collector).await;
    assert_eq!(setting.cursor(report), Some(from), "in the middle of it");
    setting
}

/// The input whose state was exported does not start, and whoever looks is told.
async fn expect_not_to_run_here(setting: &Setting, report: Report) {
    let told = state(setting, &["export", INPUT]).await.error();
    assert!(
        told.contains("was exported at") && told.contains("--again"),
        "{told}"
    );
    let told = refused(setting).await;
    assert!(told.contains("no service can run"), "{told}");
    assert!(
        told.contains("for another collector to go on with"),
        "{told}"
    );
    let told = state(setting, &["show"]).await.fine();
    assert!(told.contains("exported to "), "{told}");
    let told = state(
        setting,
        &["set", report.service(), "--cursor", "2024-05-07T15:35:24Z"],
    )
    .await;
    assert!(told.error().contains("was exported at"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_moves_in_the_middle_of_a_window_and_each_record_comes_once() {
    let report = Report::DlpDetail;
    let mut setting = half_collected(report, 16_000).await;
    let file = setting.folder.path().join("moving.export");
    let file = file.to_str().unwrap();

    // A running collector has to be stopped first.
    setting.relay.always(Behaviour::Stall { after: 0 });
    let mut running = setting.start();
    running.wait_for("collecting", PATIENCE).await.unwrap();
    let told = state(&setting, &["export", INPUT, "--output", file]).await;
    assert!(told.error().contains("stop it first"));
    kill(&mut running).await;
    setting.relay.always(Behaviour::Normal);

    let told = state(&setting, &["export", INPUT, "--output", file]).await;
    let told = told.fine();
    assert!(told.contains("does not start on state any more"), "{told}");
    expect_not_to_run_here(&setting, report).await;

    // The other machine has a tenant of its own already, and with it another key.
    let here = std::mem::replace(&mut setting.folder, Folder::new(&setting.pki).unwrap());
    let other = Report::MailDetailAtp;
    let (from, to) = (setting.hour_ago(28), setting.hour_ago(25));
    setting.rows(other, from, to, 900);
    let mut of_other = setting.input().service_from(other, from, &[]);
    "other".clone_into(&mut of_other.name);
    let output = || Output::relay(setting.relay.port());
    let folder = &setting.folder;
    folder
        .configure(&Config::new(of_other.clone(), output()))
        .unwrap();
    let mut collector = setting.start();
    collector
        .wait_for("window delivered", PATIENCE)
        .await
        .unwrap();
    let told = state(&setting, &["import", file]).await.error();
    assert!(told.contains("stop it first"), "{told}");
    stop(&mut collector).await;

    let mut damaged = fs::read(file).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    let path = setting.folder.path().join("damaged.export");
    fs::write(&path, damaged).unwrap();
    let told = state(&setting, &["import", path.to_str().unwrap()]).await;
    assert!(told.error().contains("its checksum does not match"));
    assert_eq!(files(&setting.folder.state(), INPUT).len(), 0);

    let told = state(&setting, &["import", file]).await.fine();
    assert!(
        told.contains("goes on from") && told.contains("No input of the configuration"),
        "{told}"
    );
    let mut config = Config::new(of_other, output());
    let from = setting.hour_ago(26);
    config
        .inputs
        .push(setting.input().service_from(report, from, &[]));
    setting.folder.configure(&config).unwrap();
    let mut collector = setting.start();
    setting
        .until_committed(&collector, &[report], setting.hour_ago(25))
        .await;
    let everything = setting.service.served();
    setting.until_read(&everything, &collector).await;
    stop(&mut collector).await;
    setting.expect_exactly(&everything, &collector);
    assert_eq!(everything.total(), 16_900);

    // What is there is replaced only when told.
    let told = state(&setting, &["import", file]).await.error();
    assert!(
        told.contains("has state of its own here") && told.contains("--replace"),
        "{told}"
    );
    let back = setting.folder.path().join("back.export");
    let back = back.to_str().unwrap();
    state(&setting, &["export", INPUT, "--output", back])
        .await
        .fine();

    // Back at the first machine it goes on, and the older export does not take its place.
    let _there = std::mem::replace(&mut setting.folder, here);
    state(&setting, &["import", back]).await.fine();
    let mut collector = setting.start();
    collector
        .wait_for("collecting services=1", PATIENCE)
        .await
        .unwrap();
    stop(&mut collector).await;
    assert_eq!(setting.relay.count(), 16_900 + setting.unconfirmed());
    let told = state(&setting, &["import", file]).await.error();
    assert!(told.contains("has state of its own here"), "{told}");
}

/// What `state show` tells, without the mark.
async fn shown(setting: &Setting) -> Value {
    let text = state(setting, &["show", "--json"]).await.fine();
    let mut shown: Value = serde_json::from_str(&text).unwrap();
    for service in shown.as_array_mut().unwrap() {
        service.as_object_mut().unwrap().remove("moved");
        for clock in ["behind_seconds", "lag_seconds"] {
            service.as_object_mut().unwrap().remove(clock);
        }
    }
    shown
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_is_killed_at_any_step_does_not_count_and_can_be_repeated() {
    if !tracer::is_there() {
        return;
    }
    let report = Report::DlpDetail;
    let mut setting = half_collected(report, 16_000).await;
    let before = shown(&setting).await;
    let file = setting.folder.path().join("moving.export");
    let file = file.to_str().unwrap();
    state(&setting, &["export", INPUT, "--output", file])
        .await
        .fine();
    let _here = std::mem::replace(&mut setting.folder, Folder::new(&setting.pki).unwrap());
    setting.configure_one(report, setting.hour_ago(26), &[]);
    let of_service = format!("{INPUT}.12345.{}/", report.service());
    let mark = setting.folder.state().join(format!("{INPUT}.12345.moved"));
    let (mut interrupted, mut refused_to_start) = (0, false);
    for call in ["mkdir", "write", "fsync", "rename", "unlink", "rmdir"] {
        for number in 1.. {
            fs::remove_dir_all(setting.folder.state()).unwrap();
            fs::create_dir(setting.folder.state()).unwrap();
            let ended = Command::new(tracer::strace())
                .args([
                    "-f",
                    "-qq",
                    "-o",
                    "/dev/null",
                    "-e",
                    &format!("trace={call}"),
                ])
                .args(["-e", &format!("inject={call}:signal=SIGKILL:when={number}")])
                .arg(program())
                .args(["state", "import", file])
                .current_dir(setting.folder.path())
                .output()
                .unwrap();
            if ended.status.success() {
                assert!(!mark.exists());
                break;
            }
            assert!(number < 200, "{}", String::from_utf8_lossy(&ended.stderr));
            let place = format!("{call} number {number}");
            let there = files(&setting.folder.state(), INPUT);
            let begun = there.keys().any(|path| path.starts_with(&of_service));
            if mark.exists() {
                interrupted += 1;
                if begun && !std::mem::replace(&mut refused_to_start, true) {
                    let told = refused(&setting).await;
                    assert!(told.contains("has not come to its end"), "{place}: {told}");
                }
            } else if begun {
                // Nothing but the end of the command was left.
                assert_eq!(shown(&setting).await, before, "{place}");
            }
            let told = state(&setting, &["import", file, "--replace"]).await;
            told.fine();
            assert_eq!(shown(&setting).await, before, "{place}");
        }
    }
    assert!(interrupted > 10 && refused_to_start, "{interrupted}");
    let mut collector = setting.start();
    setting
        .until_committed(&collector, &[report], setting.hour_ago(25))
        .await;
    stop(&mut collector).await;
    let expected = setting.existing(report, setting.hour_ago(26), setting.hour_ago(25));
    setting.expect_exactly(&expected, &collector);
}
