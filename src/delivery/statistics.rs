//! What an output has been sent by a service, told once a period, also while the output is away.

use std::convert::Infallible;
use std::time::Duration;

use tracing::info;

use crate::monitoring::OutletMonitor;

/// Logs, once in each `period`, what was confirmed in it.
pub(crate) async fn tell_each(period: Duration, monitor: &OutletMonitor) -> Infallible {
    let mut told = monitor.confirmed_so_far();
    loop {
        tokio::time::sleep(period).await;
        let so_far = monitor.confirmed_so_far();
        let records = so_far.records - told.records;
        info!(
            records,
            bytes = so_far.bytes - told.bytes,
            deliveries = so_far.deliveries - told.deliveries,
            per_second = records / period.as_secs().max(1),
            records_since_start = so_far.records,
            period_s = period.as_secs(),
            "sender statistics"
        );
        told = so_far;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::Receipt;

    #[test]
    fn each_period_is_told_by_itself_and_one_of_nothing_too() {
        let heard = crate::log::heard(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .unwrap();
            runtime.block_on(async {
                let monitor = OutletMonitor::alone();
                let took = (Duration::ZERO, Duration::ZERO);
                monitor.confirmed((50, 30_000), Receipt::Read, took);
                let told = tell_each(Duration::from_mins(1), &monitor);
                let confirm = async {
                    tokio::time::sleep(Duration::from_secs(5)).await;
                    monitor.confirmed((450, 270_000), Receipt::Ended, took);
                    monitor.confirmed((150, 90_000), Receipt::StoodIn, took);
                };
                let both = async { tokio::join!(told, confirm) };
                let _ = tokio::time::timeout(Duration::from_secs(125), both).await;
            });
        });
        let texts: Vec<_> = heard.iter().map(crate::log::Said::text).collect();
        assert_eq!(
            texts,
            [
                "sender statistics records=600 bytes=360000 deliveries=2 per_second=10 records_since_start=650 period_s=60",
                "sender statistics records=0 bytes=0 deliveries=0 per_second=0 records_since_start=650 period_s=60"
            ]
        );
    }
}
