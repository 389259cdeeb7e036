//! What an output has been sent by a service, told once a period, also while the output is away.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tracing::info;

/// What was confirmed since it was last told, and in all.
#[derive(Debug, Default)]
pub(super) struct Statistics {
    records: AtomicU64,
    bytes: AtomicU64,
    deliveries: AtomicU64,
}

impl Statistics {
    /// Adds a delivery that is confirmed; `bytes` are those of its lines.
    pub(super) fn confirmed(&self, records: usize, bytes: usize) {
        self.records.fetch_add(records as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.deliveries.fetch_add(1, Ordering::Relaxed);
    }

    /// Logs, once in each `period`, what was confirmed in it.
    pub(super) async fn tell_each(&self, period: Duration) -> Infallible {
        let mut total = 0;
        loop {
            tokio::time::sleep(period).await;
            let taken = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed);
            let records = taken(&self.records);
            total += records;
            info!(
                records,
                bytes = taken(&self.bytes),
                deliveries = taken(&self.deliveries),
                per_second = records / period.as_secs().max(1),
                records_since_start = total,
                period_s = period.as_secs(),
                "sender statistics"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_period_is_told_by_itself_and_one_of_nothing_too() {
        let heard = crate::log::heard(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .unwrap();
            runtime.block_on(async {
                let statistics = Statistics::default();
                statistics.confirmed(500, 300_000);
                statistics.confirmed(100, 60_000);
                let told = statistics.tell_each(Duration::from_mins(1));
                let _ = tokio::time::timeout(Duration::from_secs(125), told).await;
            });
        });
        let texts: Vec<_> = heard.iter().map(crate::log::Said::text).collect();
        assert_eq!(
            texts,
            [
                "sender statistics records=600 bytes=360000 deliveries=2 per_second=10 records_since_start=600 period_s=60",
                "sender statistics records=0 bytes=0 deliveries=0 per_second=0 records_since_start=600 period_s=60"
            ]
        );
    }
}
