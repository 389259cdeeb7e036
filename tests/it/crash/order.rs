//! The order of the steps, which no kill shows, since what a process wrote outlives it, synced or not: a loss of power does not spare it.

use super::scene::{Scene, Shape};
use super::tracer::{self, Step, Traced};
use crate::setting::log;

const CALLS: [&str; 8] = [
    "mkdir",
    "write",
    "fsync",
    "fdatasync",
    "rename",
    "connect",
    "shutdown",
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
                let folder = match aside {
                    "fingerprint.key.new" | "addresses.new" => "state",
                    _ => "its folder",
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
                    let ended = step.place == "relay" && step.call == "shutdown";
                    ended || (step.place == "journal.devo_1" && step.call == "write")
                };
                assert_eq!(
                    before.iter().rfind(earlier).map(|step| step.call.as_str()),
                    Some("shutdown"),
                    "{step}: only what was half-closed is journalled"
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
        next.place != "service" && !next.place.ends_with("lock") && next.call != "connect"
    });
    // The trace is read while the collector runs: what comes after its last step is not written yet.
    let Some(next) = next else { return };
    assert!(
        calls.contains(&next.call.as_str()) && next.place == place,
        "after {step} comes {next}, and not the {} of {place}",
        calls[0]
    );
}
