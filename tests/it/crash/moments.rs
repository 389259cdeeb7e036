//! Random moments: four services and two relays, of which one or the other breaks a connection now and then; the collector is killed
//! again and again, and at last allowed to finish.

use std::time::Duration;

use rand::RngExt;
use testkit::relay::Behaviour;
use testkit::report::Report;

use super::effort::Effort;
use super::scene::{Scene, Shape};
use crate::figures::Figures;

const SHAPE: Shape = Shape {
    reports: &[
        Report::MessageTrace,
        Report::MailDetailAtp,
        Report::MailTraffic,
        Report::DlpDetail,
    ],
    rows: 3_000,
    hours: 4,
    live: 0,
    page_rows: 250,
    latency: Duration::from_millis(20),
    two_relays: true,
};

/// Runs of the short form.
const RUNS: u32 = 2;

/// A life ends this many milliseconds after its start, at most.
const LIFE_MAX: u64 = 700;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_moments_nothing_is_lost() {
    let effort = Effort::of_this_run("random moments");
    let mut figures = Figures::default();
    for run in 0..effort.runs(RUNS) {
        figures += killed_often(effort, run).await;
    }
    figures.note();
}

async fn killed_often(effort: Effort, run: u32) -> Figures {
    let mut chance = effort.chance(run);
    let mut scene = Scene::new(&SHAPE).await;
    for life in 0..chance.random_range(4..14) {
        for relay in scene.relays() {
            let times = chance.random_range(0..2);
            relay.next_times(
                times,
                Behaviour::ResetAfter(chance.random_range(5_000..300_000)),
            );
        }
        let time = Duration::from_millis(chance.random_range(0..LIFE_MAX));
        scene.told = format!(
            "CRASH_SEED={} run {run}, life {life} of {time:?}",
            effort.seed()
        );
        let mut collector = scene.setting.start();
        tokio::time::sleep(time).await;
        collector.kill().await.unwrap();
        scene.killed(&collector).await;
    }
    scene.finish().await
}
