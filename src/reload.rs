//! Reading the configuration again while the collector runs: on SIGHUP, and when its files have changed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::sleep;
use tracing::info;

use crate::blocking::FILES;
use crate::config::{Finding, Globals, Input, Reading, Snapshot};
use crate::prepared::{Prepared, prepare_beside};
use crate::source::concurrency::Overall;
use crate::tenant::Tenant;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// A change counts once the files have been unchanged for so long: whoever writes them has finished.
const SETTLED: Duration = Duration::from_secs(2);

/// How the configuration is read, given the inputs that run.
type Reader = dyn Fn(&[Arc<Input>]) -> Reading + Send + Sync;

/// What tells that the configuration has to be read again, and reads it.
pub struct Reload {
    read: Arc<Reader>,
    hangup: Arc<Notify>,
    watch: Watch,
    /// The checksum of what was read last.
    pub(crate) hash: u32,
    /// What all inputs share, also those that come.
    pub(crate) overall: Overall,
}

/// The result of reading the configuration again.
pub(crate) struct Outcome {
    /// What can be run, or why the main file cannot be.
    pub(crate) prepared: Result<Prepared, String>,
    pub(crate) warnings: Vec<Finding>,
}

impl Reload {
    /// Reads by `read`, which has read `seen` with the checksum `hash`; also whenever `hangup` is notified.
    pub fn new(
        read: impl Fn(&[Arc<Input>]) -> Reading + Send + Sync + 'static,
        hangup: Arc<Notify>,
        (seen, hash): (Snapshot, u32),
    ) -> Self {
        Reload {
            read: Arc::new(read),
            hangup,
            watch: Watch::new(seen),
            hash,
            overall: Overall::default(),
        }
    }

    /// Resolves when the configuration has to be read again. Cancel safe.
    pub(crate) async fn wanted(&mut self) {
        loop {
            tokio::select! {
                () = self.hangup.notified() => {
                    info!("SIGHUP: the configuration is read again");
                    return;
                }
                () = sleep(LOOK) => {}
            }
            let seen = self.watch.read.clone();
            let seen = FILES.run(move || seen.again()).await;
            if self.watch.has_changed(seen, Instant::now()) {
                info!("files of the configuration have changed: it is read again");
                return;
            }
        }
    }

    /// Reads the configuration, and the files that it names.
    pub(crate) async fn read(&mut self, running: Vec<(Arc<Input>, Arc<Tenant>)>) -> Outcome {
        let (read, seen) = (Arc::clone(&self.read), self.watch.read.clone());
        let overall = self.overall.clone();
        let work = move || {
            if !seen.can_be_read_again() {
                let text = "it is no plain file, such as a pipe, and can be read once only: give the configuration in a file";
                return (seen, None, refused(text.to_owned()));
            }
            let inputs: Vec<_> = { running.iter() }
                .map(|(input, _)| Arc::clone(input))
                .collect();
            let reading = read(&inputs);
            let outcome = match reading.loaded {
                Ok(loaded) => Outcome {
                    prepared: prepare_beside(loaded.config, &running, &overall)
                        .map_err(|error| format!("{error:#}")),
                    warnings: loaded.warnings,
                },
                Err(mistakes) => refused(mistakes.to_string()),
            };
            (reading.seen, Some(reading.hash), outcome)
        };
        let (seen, hash, outcome) = FILES.run(work).await;
        self.watch = Watch::new(seen);
        self.hash = hash.unwrap_or(self.hash);
        outcome
    }
}

fn refused(why: String) -> Outcome {
    Outcome {
        prepared: Err(why),
        warnings: vec![],
    }
}

/// Notices that files have changed and have settled since: pure.
struct Watch {
    /// The files as they were when they were read.
    read: Snapshot,
    /// What they have become, and since when.
    changed: Option<(Snapshot, Instant)>,
}

impl Watch {
    fn new(read: Snapshot) -> Self {
        let changed = None;
        Watch { read, changed }
    }

    /// Whether the files, which are like this now, have to be read again.
    fn has_changed(&mut self, seen: Snapshot, now: Instant) -> bool {
        if seen == self.read {
            self.changed = None;
            return false;
        }
        match &self.changed {
            Some((known, since)) if *known == seen => {
                now.saturating_duration_since(*since) >= SETTLED
            }
            _ => {
                self.changed = Some((seen, now));
                false
            }
        }
    }
}

impl Globals {
    /// The keys of which a change takes effect when the process is started again.
    pub(crate) fn changed_for_good(&self, next: &Self) -> Vec<&'static str> {
        let keys = [
            ("id", self.id != next.id),
            ("name", self.name != next.name),
            (
                "multiprocessing",
                self.multiprocessing != next.multiprocessing,
            ),
            ("persistence", self.state != next.state),
            ("monitoring", self.monitoring != next.monitoring),
            (
                "concurrent_requests",
                self.concurrent_requests != next.concurrent_requests,
            ),
        ];
        let changed = keys.into_iter().filter(|(_, changed)| *changed);
        changed.map(|(key, _)| key).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_change_counts_once_it_has_been_there_for_two_seconds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        fs::write(&path, "").unwrap();
        let source = crate::config::Source::File(path.clone());
        let read = Reading::of(&source, chrono::Utc::now(), &[]).seen;
        let (mut watch, begun) = (Watch::new(read.clone()), Instant::now());
        let mut check = |seconds, expected| {
            let now = begun + Duration::from_secs(seconds);
            assert_eq!(
                watch.has_changed(read.again(), now),
                expected,
                "{seconds} s"
            );
        };
        check(1, false);
        check(10, false);
        fs::write(&path, "a").unwrap();
        check(11, false);
        check(12, false);
        fs::write(&path, "ab").unwrap();
        check(13, false);
        check(14, false);
        check(15, true);
        fs::rename(&path, folder.path().join("aside")).unwrap();
        check(16, false);
        fs::rename(folder.path().join("aside"), &path).unwrap();
        check(17, false);
        check(19, true);
    }
}
