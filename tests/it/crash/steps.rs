//! Every step of the ledger's and the delivery's I/O: the collector is killed as it enters the n-th call of each kind, and a restart
//! finishes the job.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::RngExt;

use super::effort::Effort;
use super::scene::{Scene, Shape};
use super::tracer::{self, FILE_CALLS, SOCKET_CALLS, Step, Traced};
use crate::figures::Figures;
use crate::setting::log;

/// Kills of the short form.
const SAMPLE: usize = 40;

/// How often everything is tried until each kind of step has been hit: a number does not always stand for the same step.
const ROUNDS_MAX: u32 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_every_step_nothing_is_lost() {
    if !tracer::is_there() {
        return;
    }
    let effort = Effort::of_this_run("every step");
    let all = unharmed().await;
    let (mut figures, mut hit) = (Figures::default(), BTreeSet::new());
    if effort.is_long() {
        for _ in 0..ROUNDS_MAX {
            for call in FILE_CALLS.into_iter().chain(SOCKET_CALLS) {
                let mut number = 0;
                loop {
                    number += 1;
                    let (step, one) = killed_at(call, number).await;
                    figures += one;
                    let Some(step) = step else { break };
                    hit.insert(step);
                }
            }
            if missed_kinds(&all, &hit).is_empty() {
                break;
            }
        }
    } else {
        let all: Vec<_> = all.iter().collect();
        let offset = effort.chance(0).random_range(0..all.len());
        for place in 0..SAMPLE {
            let (step, number) = all[(offset + place * all.len() / SAMPLE) % all.len()];
            let (step, one) = killed_at(&step.call, *number).await;
            figures += one;
            hit.extend(step);
        }
    }
    let (steps, hits) = (all.len(), hit.len());
    print(hits, steps);
    figures.note();
    if effort.is_long() {
        assert_eq!(missed_kinds(&all, &hit), BTreeSet::new());
    } else {
        assert!(
            hits >= SAMPLE / 3,
            "only {hits} different steps were hit of {steps}"
        );
    }
}

#[expect(
    clippy::print_stdout,
    reason = "the figures are what a long run is for"
)]
fn print(hits: usize, steps: usize) {
    println!("killed at {hits} different steps; a run has some {steps}");
}

/// Calls that no kill has hit on anything that they are made on.
fn missed_kinds<'a>(
    all: &'a BTreeMap<Step, usize>,
    hit: &BTreeSet<Step>,
) -> BTreeSet<(&'a str, &'a str)> {
    let hit: BTreeSet<_> = hit.iter().map(kind).collect();
    all.keys()
        .map(kind)
        .filter(|kind| !hit.contains(kind))
        .collect()
}

/// A call and what it is on, in whatever window.
fn kind(step: &Step) -> (&str, &str) {
    (&step.call, &step.place)
}

/// The steps of a run that nothing happens to, and the number of each.
async fn unharmed() -> BTreeMap<Step, usize> {
    let mut steps = BTreeMap::new();
    for calls in [&FILE_CALLS[..], &SOCKET_CALLS[..]] {
        let scene = Scene::new(&Shape::SMALL).await;
        let mut traced = Traced::start(&scene.setting, calls, None);
        assert!(
            scene.until_done(&mut traced.collector).await,
            "{}",
            log(&traced.collector)
        );
        // What comes after the backlog, and the stop, is not counted.
        steps.extend(traced.steps(&scene.setting));
        scene.stopped(traced.collector).await;
    }
    steps
}

/// Kills at the entry of the n-th such call, and lets a restart finish; the step that was hit, if the run came so far.
async fn killed_at(call: &str, number: usize) -> (Option<Step>, Figures) {
    let mut scene = Scene::new(&Shape::SMALL).await;
    scene.told = format!("killed at {call} number {number}");
    let mut traced = Traced::start(
        &scene.setting,
        &[call],
        Some(&format!("{call}:signal=SIGKILL:when={number}")),
    );
    if scene.until_done(&mut traced.collector).await && traced.collector.is_running() {
        let ended = traced
            .collector
            .stop(Duration::from_secs(30))
            .await
            .unwrap();
        if ended.code.is_some() {
            return (None, scene.stopped(traced.collector).await);
        }
    }
    let ended = traced
        .collector
        .wait(Duration::from_secs(30))
        .await
        .unwrap();
    assert_eq!(
        ended.code,
        None,
        "{}\n{}",
        scene.told,
        log(&traced.collector)
    );
    let step = traced.steps(&scene.setting).pop().map(|(step, _)| step);
    if let Some(step) = &step {
        scene.told = format!("{}, which is {step}", scene.told);
    }
    scene.killed(&traced.collector).await;
    (step, scene.finish().await)
}
