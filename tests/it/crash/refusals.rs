//! A disk that refuses: the n-th call of a kind on the state folder fails. The collector says so, goes on once it passes (or ends, and a
//! restart goes on), and nothing is lost and nothing comes twice.

use std::time::Duration;

use rand::RngExt;
use testkit::collector::Collector;

use super::effort::Effort;
use super::scene::{Scene, Shape};
use super::tracer::{self, Traced};
use crate::figures::Figures;
use crate::setting::log;

const CALLS: [&str; 8] = [
    "mkdir",
    "openat",
    "read",
    "write",
    "fsync",
    "fdatasync",
    "rename",
    "fallocate",
];

const ERRORS: [&str; 3] = ["EIO", "ENOSPC", "EROFS"];

/// Runs of the short form.
const SAMPLE: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_refuses_any_call_loses_and_repeats_nothing() {
    if !tracer::is_there() {
        return;
    }
    let effort = Effort::of_this_run("refusals");
    let mut figures = Figures::default();
    if effort.is_long() {
        for (call, error) in CALLS
            .into_iter()
            .flat_map(|call| ERRORS.map(|error| (call, error)))
        {
            for number in 1.. {
                let (hit, one) = refused_at(call, error, number).await;
                figures += one;
                if !hit {
                    break;
                }
            }
        }
    } else {
        let mut chance = effort.chance(0);
        for run in 0..SAMPLE {
            let error = ERRORS[chance.random_range(0..ERRORS.len())];
            let (_, one) =
                refused_at(CALLS[run % CALLS.len()], error, chance.random_range(1..7)).await;
            figures += one;
        }
    }
    figures.note();
    assert_eq!(figures.repeated, 0);
}

/// Has the n-th such call fail; whether the run came so far.
async fn refused_at(call: &str, error: &str, number: usize) -> (bool, Figures) {
    let mut scene = Scene::new(&Shape::SMALL).await;
    scene.told = format!("{error} at {call} number {number}");
    let injection = format!("{call}:error={error}:when={number}");
    let mut traced = Traced::start(&scene.setting, &[call], Some(&injection));
    let done = scene.until_done(&mut traced.collector).await;
    let hit = traced.has_injected();
    if done {
        assert!(
            !hit || says_so(&traced.collector),
            "{}: nobody was told\n{}",
            scene.told,
            log(&traced.collector)
        );
        return (hit, scene.stopped(traced.collector).await);
    }
    // At the start, without the state folder there is nothing to go on with.
    let ended = traced
        .collector
        .wait(Duration::from_secs(30))
        .await
        .unwrap();
    assert_eq!(
        ended.code,
        Some(1),
        "{}\n{}",
        scene.told,
        log(&traced.collector)
    );
    assert!(
        hit && says_so(&traced.collector),
        "{}\n{}",
        scene.told,
        log(&traced.collector)
    );
    (hit, scene.finish().await)
}

/// Whether an error names the state folder.
fn says_so(collector: &Collector) -> bool {
    collector
        .log_with("ERROR")
        .iter()
        .any(|line| line.contains("state"))
}
