//! The last hours of each service: records and lag, a point every few minutes.

use std::collections::VecDeque;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

/// How often a point is set.
pub(super) const EVERY: Duration = Duration::from_mins(5);

/// The points of a day.
const POINTS_MAX: usize = 288;

/// What a service did in the minutes before an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Point {
    /// The instant.
    pub at: DateTime<Utc>,
    /// Records that were new since the point before.
    pub records: u64,
    /// How far the cursor was behind the present less the delay, in seconds; `None` if that was not known.
    pub lag_seconds: Option<i64>,
}

/// The points of one service, oldest first.
#[derive(Debug, Default)]
pub(super) struct History {
    points: VecDeque<Point>,
    /// All records at the last point.
    records: u64,
}

impl History {
    /// Sets a point; `records` is the number of all so far.
    pub(super) fn note(&mut self, at: DateTime<Utc>, records: u64, lag: Option<TimeDelta>) {
        if self.points.len() == POINTS_MAX {
            self.points.pop_front();
        }
        self.points.push_back(Point {
            at,
            records: records.saturating_sub(self.records),
            lag_seconds: lag.map(|lag| lag.num_seconds()),
        });
        self.records = records;
    }

    /// The points of a day at most.
    pub(super) fn points(&self) -> impl Iterator<Item = Point> {
        self.points.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_kept_and_each_point_has_the_records_since_the_one_before() {
        let mut history = History::default();
        let at = |minute| DateTime::from_timestamp(1_770_000_000 + minute * 300, 0).unwrap();
        for point in 0..300_u64 {
            history.note(
                at(point.cast_signed()),
                point * point,
                Some(TimeDelta::seconds(9)),
            );
        }
        let points: Vec<_> = history.points().collect();
        assert_eq!(points.len(), POINTS_MAX);
        assert_eq!(points[0].at, at(12));
        assert_eq!(points[287].records, 299 * 299 - 298 * 298);
        assert_eq!(points[287].lag_seconds, Some(9));
    }
}
