//! How old records are when they have their receipt.

use chrono::{DateTime, Utc};
use prometheus::Histogram;
use prometheus::core::Metric as _;

use super::families::Families;
use crate::config::ServiceConfig;
use crate::record::TimeOf;

/// From a record's own time to its receipt.
pub(super) struct Freshness {
    time: TimeOf,
    histogram: Histogram,
}

/// How old records were, since the start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Ages {
    pub(super) records: u64,
    /// Half of them were at most so old, in seconds; `None` where they were older than the histogram tells.
    pub(super) half: Option<f64>,
    /// 95 of 100 were.
    pub(super) most: Option<f64>,
}

impl Freshness {
    /// That of a service; `None` where no early pass delivers.
    pub(super) fn of(families: &Families, input: &str, config: &ServiceConfig) -> Option<Self> {
        let delivers = config.early_passes_deliver && !config.early_passes.is_empty();
        let labels = [input, config.report.service];
        let time = config.report.times.first().filter(|_| delivers)?;
        Some(Freshness {
            time: TimeOf::new(time),
            histogram: families.freshness.with_label_values(&labels),
        })
    }

    /// These have their receipt now.
    pub(super) fn confirmed<'r>(&self, rows: impl Iterator<Item = &'r [u8]>, now: DateTime<Utc>) {
        let local = self.histogram.local();
        for time in rows.filter_map(|row| self.time.instant(row)) {
            local.observe((now - time).as_seconds_f64());
        }
        local.flush();
    }

    pub(super) fn ages(&self) -> Ages {
        let metric = self.histogram.metric();
        let histogram = metric.get_histogram();
        let records = histogram.get_sample_count();
        let by = |hundredths: u64| {
            let mut buckets = histogram.get_bucket().iter();
            let bucket = buckets.find(|bucket| {
                u128::from(bucket.cumulative_count()) * 100
                    >= u128::from(records) * u128::from(hundredths)
            });
            bucket
                .filter(|_| records > 0)
                .map(prometheus::proto::Bucket::upper_bound)
        };
        Ages {
            records,
            half: by(50),
            most: by(95),
        }
    }
}
