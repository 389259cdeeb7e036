//! How fast a cursor moves, and when it will have caught up: pure.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

/// The pace is that since the mark before the last one, and a mark is set so often: it follows a change within minutes and does not
/// jump with each window.
const MARK_EVERY: Duration = Duration::from_mins(2);

/// A pace is believed once it has been watched for so long.
const WATCHED_MIN: Duration = Duration::from_secs(5);

/// Where a cursor has been while it caught up.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    earlier: Mark,
    last: Mark,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Instant,
    cursor: DateTime<Utc>,
}

impl Pace {
    /// A cursor that begins to move.
    pub fn begin(at: Instant, cursor: DateTime<Utc>) -> Self {
        let mark = Mark { at, cursor };
        Pace {
            earlier: mark,
            last: mark,
        }
    }

    /// The cursor has moved.
    pub fn note(&mut self, at: Instant, cursor: DateTime<Utc>) {
        if at.saturating_duration_since(self.last.at) >= MARK_EVERY {
            self.earlier = self.last;
            self.last = Mark { at, cursor };
        }
    }

    /// How long it takes from `now` until `cursor` has caught up with what has settled, which is `behind` ahead and moves on with the
    /// clock. `None` if that is not in sight.
    pub fn left(&self, now: Instant, cursor: DateTime<Utc>, behind: TimeDelta) -> Option<Duration> {
        let watched = now.saturating_duration_since(self.earlier.at);
        if watched < WATCHED_MIN {
            return None;
        }
        let advanced = (cursor - self.earlier.cursor).as_seconds_f64();
        let gained = advanced / watched.as_secs_f64() - 1.0;
        let seconds = behind.as_seconds_f64().max(0.0) / gained;
        (gained > 0.0)
            .then(|| Duration::try_from_secs_f64(seconds).ok())
            .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hour(hour: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_770_000_000, 0).unwrap() + TimeDelta::hours(hour)
    }

    /// A cursor that has been at each hour after so many seconds, and what is left if ten hours are, in seconds.
    fn check(moves: &[(u64, i64)], now: u64, expected: Option<u64>) {
        let begun = Instant::now();
        let mut pace = Pace::begin(begun, hour(0));
        for (second, at) in moves {
            pace.note(begun + Duration::from_secs(*second), hour(*at));
        }
        let cursor = moves.last().map_or(hour(0), |(_, at)| hour(*at));
        let now = begun + Duration::from_secs(now);
        let left = pace.left(now, cursor, TimeDelta::hours(10));
        assert_eq!(
            left.map(|left| left.as_secs_f64().round()),
            expected.map(|seconds| Duration::from_secs(seconds).as_secs_f64())
        );
    }

    #[test]
    fn the_end_follows_from_the_pace() {
        // An hour in ten seconds is 360 times as fast as the clock, which goes on meanwhile.
        check(&[(10, 1)], 10, Some(100));
        check(&[(10, 1), (20, 2)], 20, Some(100));
    }

    #[test]
    fn a_pace_that_is_not_known_or_too_slow_tells_no_end() {
        check(&[], 0, None);
        check(&[(1, 1)], 1, None);
        check(&[], 60, None);
        check(&[(3_600, 1)], 3_600, None);
    }

    #[test]
    fn what_was_long_ago_does_not_count() {
        let slow = [(600, 1), (1_200, 2), (1_210, 3), (1_220, 4)];
        check(&slow, 1_220, Some(2_193));
        let slow_then_fast: Vec<_> = [(600, 1)]
            .into_iter()
            .chain((0_u32..40).map(|step| (610 + 10 * u64::from(step), i64::from(step) + 2)))
            .map(|(second, at): (u64, i64)| (second, at))
            .collect();
        check(&slow_then_fast, 1_000, Some(100));
    }
}
