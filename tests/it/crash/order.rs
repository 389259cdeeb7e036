//! The order of the steps, which no kill shows, since what a process wrote outlives it, synced or not: a loss of power does not spare it.

use super::scene::{Scene, Shape};
use super::tracer::{self, Step, Traced};
use crate::setting::log;

const CALLS: [&str; 9] = [
    "mkdir",
    "write",
    "fsync",
    "fdatasync",
    "rename",
    "connect",
    "shutdown",
    "close",
    "fallocate",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_counts_is_synced_before_anything_is_built_on_it() {
    if !tracer::is_there() {
        return;
    }
    let scene = Scene::new(&Shape::SMALL).await;
    let mut traced = Traced::start(&scene.setting, &CALLS, None);
    assert!(
        scene.until_done(&mut traced.collector).await,
        "{}",
        log(&traced.collector)
    );
    let steps: Vec<_> = traced
        .steps(&scene.setting)
        .into_iter()
        .map(|(step, _)| step)
        // That a file is closed says nothing.
        .filter(|step| step.call != "close" || step.place == "relay")
        .collect();
    scene.stopped(traced.collector).await;
    let mut commits = 0;
    for (place, step) in steps.iter().enumerate() {
        let (before, after) = (&steps[..place], &steps[place + 1..]);
        match (step.call.as_str(), step.place.as_str()) {
            ("rename", aside) => {
                commits += usize::from(aside == "cursor.new");
                let last = before.iter().rfind(|step| step.place == aside);
                assert_eq!(
                    last.map(|step| step.call.as_str()),
                    Some("fsync"),
                    "{step}: what is put in place is synced"
                );
                let of_all = ["fingerprint.key.new", "addresses.new"];
                let folder = if of_all.contains(&aside) {
                    "state"
                } else {
                    "its folder"
                };
                expect_next(after, step, &["fsync"], folder);
            }
            ("mkdir", "its folder") => expect_next(after, step, &["fsync"], "state"),
            ("write", "journal.devo_1") => {
                expect_next(after, step, &["fdatasync", "fsync"], "journal.devo_1");
                let reserved = before.iter().any(|step| step.call == "fallocate");
                assert!(reserved, "{step}: its space is reserved before");
                // The next delivery's connection may be open by then, but nothing is ended on it.
                let earlier = |step: &&Step| {
                    let ended = ["shutdown", "close"].contains(&step.call.as_str());
                    let journalled = step.place == "journal.devo_1" && step.call == "write";
                    (step.place == "relay" && ended) || journalled
                };
                let last = before.iter().rfind(earlier);
                assert!(
                    last.is_some_and(|last| last.place == "relay"),
                    "{step}: only what was ended is journalled"
                );
            }
            _ => {}
        }
    }
    assert!(commits >= 4, "{commits} commits: {steps:?}");
}

/// The next thing done to a file or to the relay has to be this.
fn expect_next(after: &[Step], step: &Step, calls: &[&str], place: &str) {
    // Opening the next delivery's connection builds on nothing.
    let next = after.iter().find(|next| {
        let builds = !["connect", "close"].contains(&next.call.as_str());
        builds && next.place != "service" && !next.place.ends_with("lock")
    });
    // The trace is read while the collector runs: what comes after its last step is not written yet.
    let Some(next) = next else { return };
    assert!(
        calls.contains(&next.call.as_str()) && next.place == place,
        "after {step} comes {next}, and not the {} of {place}",
        calls[0]
    );
}
