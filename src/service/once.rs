//! A run that ends by itself: what is due is collected, what does not get on is given up.

use std::time::Duration;

use tokio::time::timeout;
use tracing::error;

use super::Service;
use crate::stop::GRACE;

impl Service {
    /// Collects what is due now, and confirms it. Gives up where it is refused, or has not got on for as long as `patience`; what is
    /// written is confirmed all the same. Returns whether everything that was due is collected.
    pub async fn run_once(mut self, patience: Duration) -> bool {
        // A pause of our own is not what is given up.
        self.prefetch.recheck_within(patience / 2);
        // What is due is what has settled.
        for pass in std::mem::take(&mut self.early) {
            pass.close().await;
        }
        let progress = self.fetcher.fail_on_refusal();
        let stop = self.stop.clone();
        // Large: on the heap, and not within every future around it.
        let mut collecting = Box::pin(self.collect_what_is_due());
        tokio::select! {
            biased;
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
