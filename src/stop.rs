//! Stopping: what a task that is told to stop returns, how long it has, and whether it still makes progress.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// How long services have to confirm what is written after the stop signal; the process is gone within 8 s.
pub(crate) const GRACE: Duration = Duration::from_millis(6500);

/// The collector is to stop: what is not confirmed is left for the next start.
#[derive(Debug)]
pub(crate) struct Stopped;

/// When a service last got on: a page came, or a delivery was confirmed. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Progress(Arc<watch::Sender<Instant>>);

impl Default for Progress {
    fn default() -> Self {
        Progress(Arc::new(watch::Sender::new(Instant::now())))
    }
}

impl Progress {
    pub(crate) fn made(&self) {
        self.0.send_replace(Instant::now());
    }

    /// Resolves when there has been none for so long.
    pub(crate) async fn stalled(&self, patience: Duration) {
        loop {
            let end = *self.0.borrow() + patience;
            if end <= Instant::now() {
                return;
            }
            sleep_until(end).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_gets_on_now_and_then_is_not_given_up() {
        let (progress, begun) = (Progress::default(), Instant::now());
        let patience = Duration::from_mins(15);
        let made = progress.clone();
        tokio::spawn(async move {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_mins(10)).await;
                made.made();
            }
        });
        progress.stalled(patience).await;
        assert_eq!(begun.elapsed().as_secs(), 45 * 60);
    }
}
