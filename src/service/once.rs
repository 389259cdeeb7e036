//! A run that ends by itself: what is due is collected, what does not get on is given up.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::error;

use super::Service;
use crate::GRACE;

/// When a service last got on: a page came, or a delivery was confirmed. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Progress(Arc<watch::Sender<Instant>>);

impl Default for Progress {
    fn default() -> Self {
        Progress(Arc::new(watch::Sender::new(Instant::now())))
    }
}

impl Progress {
    pub(super) fn made(&self) {
        self.0.send_replace(Instant::now());
    }

    /// Resolves when there has been none for so long.
    async fn stalled(&self, patience: Duration) {
        loop {
            let end = *self.0.borrow() + patience;
            if end <= Instant::now() {
                return;
            }
            sleep_until(end).await;
        }
    }
}

impl Service {
    /// Collects what is due now, and confirms it. Gives up where it is refused, or has not got on for as long as `patience`; what is
    /// written is confirmed all the same. Returns whether everything that was due is collected.
    pub async fn run_once(mut self, patience: Duration) -> bool {
        let progress = self.asking.give_up_what_is_refused();
        let stop = self.stop.clone();
        let collecting = self.collect_what_is_due();
        tokio::pin!(collecting);
        tokio::select! {
            collected = &mut collecting => return collected,
            () = progress.stalled(patience) => {}
        }
        error!(
            ?patience,
            "given up, since nothing has got on for so long: what is due of this service is left for the next run"
        );
        stop.cancel();
        // A disk that hangs is not waited for.
        timeout(GRACE, collecting).await.ok();
        false
    }

    async fn collect_what_is_due(mut self) -> bool {
        self.say_where_it_starts();
        self.clock.hold();
        let collected = self.collect_what_comes().await;
        self.close().await;
        collected.is_ok()
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
