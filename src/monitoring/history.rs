//! The last hours of each service: records and lag, a point every few minutes.

use std::collections::VecDeque;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

/// How often a point is set.
pub(crate) const EVERY: Duration = Duration::from_mins(5);

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
#[derive(Debug)]
pub(super) struct History {
    begun: DateTime<Utc>,
    points: VecDeque<Point>,
    /// All records at the last point.
    records: u64,
}

impl History {
    /// One without a point yet.
    pub(super) fn begin(at: DateTime<Utc>) -> Self {
        History {
            begun: at,
            points: VecDeque::new(),
            records: 0,
        }
    }

    /// Sets a point; `records` is the number of all so far.
    pub(super) fn note(&mut self, at: DateTime<Utc>, records: u64, lag: Option<TimeDelta>) {
        if self.points.len() == POINTS_MAX {
            self.points.pop_front();
        }
        self.points.push_back(self.point(at, records, lag));
        self.records = records;
    }

    /// The points of a day at most, and one for the minutes since the last.
    pub(super) fn until(
        &self,
        now: DateTime<Utc>,
        records: u64,
        lag: Option<TimeDelta>,
    ) -> Vec<Point> {
        let present = self.point(now, records, lag);
        self.points.iter().copied().chain([present]).collect()
    }

    /// Records a second since the last point but one: over the last five to ten minutes, where there are so many.
    pub(super) fn rate(&self, now: DateTime<Utc>, records: u64) -> f64 {
        let before = self.points.iter().rev().nth(1);
        let since = before.map_or(self.begun, |before| before.at);
        let last = self.points.back().map_or(0, |last| last.records);
        let new = records.saturating_sub(self.records) + last;
        let seconds = (now - since).as_seconds_f64().max(1.0);
        // Exact up to 2^53 records in ten minutes.
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let new = new as f64;
        new / seconds
    }

    fn point(&self, at: DateTime<Utc>, records: u64, lag: Option<TimeDelta>) -> Point {
        Point {
            at,
            records: records.saturating_sub(self.records),
            lag_seconds: lag.map(|lag| lag.num_seconds()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_kept_and_each_point_has_the_records_since_the_one_before() {
        let mut history = History::begin(at(-1));
        assert_eq!(history.until(at(0), 7, None).len(), 1);
        for point in 0..300_u64 {
            history.note(
                at(point.cast_signed()),
                point * point,
                Some(TimeDelta::seconds(9)),
            );
        }
        let points = history.until(at(300), 299 * 299 + 5, None);
        assert_eq!(points.len(), POINTS_MAX + 1);
        assert_eq!(points[0].at, at(12));
        assert_eq!(points[287].records, 299 * 299 - 298 * 298);
        assert_eq!(points[287].lag_seconds, Some(9));
        assert_eq!((points[288].records, points[288].lag_seconds), (5, None));
    }

    #[test]
    fn the_rate_is_that_of_the_last_minutes() {
        let check = |history: &History, second, records, expected: f64| {
            let now = at(0) + TimeDelta::seconds(second);
            let rate = history.rate(now, records);
            assert!((rate - expected).abs() < 1e-9, "{rate}");
        };
        let mut history = History::begin(at(0));
        check(&history, 0, 5, 5.0);
        check(&history, 10, 50, 5.0);
        history.note(at(1), 3_000, None);
        check(&history, 400, 3_000, 7.5);
        history.note(at(2), 3_000, None);
        check(&history, 600, 3_000, 0.0);
        check(&history, 900, 3_600, 1.0);
    }

    fn at(point: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_770_000_000 + point * 300, 0).unwrap()
    }
}
