//! Torn files: after a kill the journal is cut at any byte, or bits of a file are flipped. A torn tail is cut off; anything else stops that
//! service, which says so and leaves its files alone, while the other goes on; with the file put back, nothing is lost.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use testkit::relay::Behaviour;
use testkit::report::Report;
use testkit::service::{Fault, When};

use super::books;
use super::effort::Effort;
use super::scene::{Scene, Shape};
use crate::figures::Figures;
use crate::setting::{PATIENCE, log, stop};

/// The window of the first report is ten pages long, and cannot be shorter.
const SHAPE: Shape = Shape {
    reports: &[TORN, Report::DlpDetail],
    rows: 2_500,
    hours: 1,
    live: 0,
    page_rows: 250,
    latency: Duration::ZERO,
    two_relays: false,
};

/// Where the files are torn.
const TORN: Report = Report::MailDetailAtp;

/// Rounds of the short form.
const ROUNDS: u32 = 2;

/// The length of a journal's head, which is put in place whole.
const HEAD: usize = 32;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_cut_at_any_byte_loses_nothing() {
    let effort = Effort::of_this_run("a cut journal");
    let mut figures = Figures::default();
    for run in 0..effort.runs(ROUNDS) {
        let mut chance = effort.chance(run);
        let mut scene = killed_in_the_middle_of_a_window().await;
        let journal = scene.journal(TORN, 0);
        let bytes = fs::read(&journal).unwrap();
        let length = chance.random_range(HEAD..bytes.len());
        scene.told = format!(
            "CRASH_SEED={} run {run}: the journal of {} bytes is cut at {length}",
            effort.seed(),
            bytes.len()
        );
        let before = books::confirmed(&journal);
        fs::write(&journal, &bytes[..length]).unwrap();
        scene.may_come_again(TORN, before - books::confirmed(&journal));
        figures += scene.finish().await;
    }
    figures.note();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_the_last_receipt_is_a_torn_tail() {
    let effort = Effort::of_this_run("a flipped tail");
    let mut figures = Figures::default();
    for run in 0..effort.runs(ROUNDS) {
        let mut scene = killed_in_the_middle_of_a_window().await;
        let journal = scene.journal(TORN, 0);
        let mut bytes = fs::read(&journal).unwrap();
        let places = books::boundaries(&bytes);
        let [.., last, end] = places[..] else {
            panic!("no receipt")
        };
        let before = books::confirmed(&journal);
        fs::write(&journal, &bytes[..last]).unwrap();
        scene.may_come_again(TORN, before - books::confirmed(&journal));
        let place = flip(&mut bytes, last..end, &mut effort.chance(run));
        scene.told = format!(
            "CRASH_SEED={} run {run}: a bit of byte {place} in the journal is flipped",
            effort.seed()
        );
        fs::write(&journal, &bytes).unwrap();
        figures += scene.finish().await;
    }
    figures.note();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_other_damage_stops_that_service_and_no_other() {
    let effort = Effort::of_this_run("damage");
    let mut figures = Figures::default();
    for run in 0..effort.runs(1) {
        let mut chance = effort.chance(run);
        for name in ["journal.devo_1", "cursor"] {
            for cut in [false, true] {
                let mut scene = killed_in_the_middle_of_a_window().await;
                let path = scene.setting.state_of(TORN).join(name);
                let whole = fs::read(&path).unwrap();
                let (damaged, how) = damage(&whole, name, cut, &mut chance);
                scene.told = format!("CRASH_SEED={} run {run}: {name} {how}", effort.seed());
                fs::write(&path, &damaged).unwrap();
                expect_stopped(&scene, &path, &damaged).await;
                fs::write(&path, &whole).unwrap();
                figures += scene.finish().await;
            }
        }
    }
    figures.note();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_key_stops_the_collector() {
    let scene = killed_in_the_middle_of_a_window().await;
    let path = scene.setting.folder.state().join("fingerprint.key");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let read = scene.setting.relay.count();
    let mut collector = scene.setting.start();
    let ended = collector.wait(PATIENCE).await.unwrap();
    assert_eq!(ended.code, Some(1), "{}", log(&collector));
    assert!(
        !collector.log_with("fingerprint.key").is_empty(),
        "{}",
        log(&collector)
    );
    assert_eq!(scene.setting.relay.count(), read);
    fs::write(&path, &whole).unwrap();
    scene.finish().await.note();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_kill_left_beside_a_file_is_ignored() {
    let scene = killed_in_the_middle_of_a_window().await;
    for name in ["cursor.new", "journal.devo_1.new", "../fingerprint.key.new"] {
        fs::write(scene.setting.state_of(TORN).join(name), b"exchange-rep").unwrap();
    }
    scene.finish().await.note();
}

/// Killed when several receipts of an unfinished window are journalled.
async fn killed_in_the_middle_of_a_window() -> Scene {
    let mut scene = Scene::new(&SHAPE).await;
    // A relay that breaks connections gets small deliveries; the first connection only shows whether it answers.
    scene.setting.relay.next(Behaviour::Normal);
    let broken = Behaviour::ResetAfter(20_000);
    scene.setting.relay.next_times(2, broken);
    let service = &scene.setting.service;
    service.fault(Report::DlpDetail, When::Always, Fault::Stall);
    service.fault(TORN, When::Page { page: 8, times: 1 }, Fault::Stall);
    let mut collector = scene.setting.start();
    let begun = std::time::Instant::now();
    while books::receipts(&scene.journal(TORN, 0)) < 2 {
        assert!(begun.elapsed() < PATIENCE, "{}", log(&collector));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    collector.kill().await.unwrap();
    scene.killed(&collector).await;
    assert!(!scene.is_done_with(TORN), "in the middle of its window");
    scene.setting.service.heal();
    scene
}

/// A damage that no kill does, and a word for it.
fn damage(whole: &[u8], name: &str, cut: bool, chance: &mut StdRng) -> (Vec<u8>, String) {
    let mut bytes = whole.to_vec();
    let places = books::boundaries(whole);
    let most = if name == "cursor" {
        whole.len()
    } else if cut {
        HEAD
    } else {
        places[places.len() - 2]
    };
    if cut {
        bytes.truncate(chance.random_range(0..most));
        let how = format!("is cut at {}", bytes.len());
        (bytes, how)
    } else {
        let place = flip(&mut bytes, 0..most, chance);
        (bytes, format!("has a bit of byte {place} flipped"))
    }
}

fn flip(bytes: &mut [u8], within: std::ops::Range<usize>, chance: &mut StdRng) -> usize {
    let place = chance.random_range(within);
    bytes[place] ^= 1 << chance.random_range(0..8);
    place
}

/// The damaged service says so and touches nothing; the other one goes on.
async fn expect_stopped(scene: &Scene, damaged: &PathBuf, bytes: &[u8]) {
    let read = scene.setting.relay.count_of(TORN);
    let mut collector = scene.setting.start();
    let line = collector
        .wait_for("this service does not run", PATIENCE)
        .await
        .unwrap();
    assert!(
        line.contains("ERROR") && line.contains(&*damaged.file_name().unwrap().to_string_lossy()),
        "{}: {line}",
        scene.told
    );
    let begun = std::time::Instant::now();
    while !scene.is_done_with(Report::DlpDetail) {
        assert!(
            begun.elapsed() < PATIENCE,
            "{}: the other service waits\n{}",
            scene.told,
            log(&collector)
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop(&mut collector).await;
    assert_eq!(scene.setting.relay.count_of(TORN), read, "{}", scene.told);
    assert_eq!(
        fs::read(damaged).unwrap(),
        bytes,
        "{}: the evidence is kept",
        scene.told
    );
}
