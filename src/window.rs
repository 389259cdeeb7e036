//! Which range of time to collect next: pure, the present is an argument.
//!
//! Guarantees that windows of one service follow one another without a gap or an overlap, that none reaches past what has
//! settled (`now − delay`), and that reports which filter by hour or day get whole buckets. Knows nothing of rows or files.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use serde::{Serialize, Serializer};

use crate::report::{AggregateBy, Report, Resolution};

const SECOND: TimeDelta = TimeDelta::seconds(1);

/// How far from the end of what Microsoft keeps a range still starts, so that it is not refused while it is asked for.
const MARGIN: TimeDelta = TimeDelta::minutes(10);

/// A service that is behind by this more than it has to be is still in step: a window takes its time.
const IN_STEP: TimeDelta = TimeDelta::minutes(5);

/// A walk of at most this many rows is aimed at: about ten pages of the service.
const AIM: u64 = 20_000;

/// No window is longer, except that a day's report may take several days at once.
const SPAN_MAX: TimeDelta = TimeDelta::days(1);
const SPAN_MAX_OF_DAYS: TimeDelta = TimeDelta::days(7);

/// A half-open interval of time, in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first instant of the window.
    pub start: DateTime<Utc>,
    /// The first instant after the window.
    pub end: DateTime<Utc>,
}

impl Window {
    /// How long the window is.
    pub fn length(&self) -> TimeDelta {
        self.end - self.start
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const FORMAT: &str = "%Y-%m-%dT%H:%M:%SZ";
        write!(
            f,
            "{}..{}",
            self.start.format(FORMAT),
            self.end.format(FORMAT)
        )
    }
}

/// As it is displayed.
impl Serialize for Window {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What a service does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing is due before this instant.
    Wait(DateTime<Utc>),
    /// This window is due.
    Collect(Window),
}

/// When windows are due and where they end.
#[derive(Clone, Debug)]
pub struct Schedule {
    period: TimeDelta,
    delay: TimeDelta,
    reach: TimeDelta,
    bucket: TimeDelta,
    inclusive: bool,
}

impl Schedule {
    /// The schedule of a report that is due every `period` and stays `delay` behind the present.
    pub fn new(
        report: &Report,
        aggregate_by: Option<AggregateBy>,
        period: Duration,
        delay: Duration,
    ) -> Self {
        let bucket = match (report.resolution, aggregate_by) {
            (Resolution::Instant, _) => SECOND,
            (Resolution::Day, _) | (Resolution::Aggregate, Some(AggregateBy::Day)) => {
                TimeDelta::days(1)
            }
            (Resolution::Hour | Resolution::Aggregate, _) => TimeDelta::hours(1),
        };
        Schedule {
            period: delta(period),
            delay: delta(delay),
            reach: delta(report.reach),
            bucket,
            inclusive: report.resolution == Resolution::Instant,
        }
    }

    /// Decides the next step from the cursor and the present.
    ///
    /// Far behind, windows follow one another without waiting; in step, one is due once a period.
    pub fn next(&self, cursor: DateTime<Utc>, now: DateTime<Utc>, span: TimeDelta) -> Next {
        let settled = self.settled(now);
        let due = self.due(cursor);
        if settled < due {
            return Next::Wait(due + self.delay);
        }
        let whole = self.floor(cursor) + self.bucket;
        let end = self.floor(cursor + span).max(whole).min(settled);
        Next::Collect(Window { start: cursor, end })
    }

    /// Everything before this instant has had its delay, in whole buckets.
    pub fn settled(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        self.floor(now - self.delay)
    }

    /// Where a service without state starts: at `start_time` or at `now − delay`, at the beginning of a bucket.
    pub fn start(&self, start_time: Option<DateTime<Utc>>, now: DateTime<Utc>) -> DateTime<Utc> {
        self.floor(start_time.unwrap_or(now - self.delay))
    }

    /// The oldest instant that may be asked for; what a cursor leaves before it cannot be had any more.
    pub fn oldest(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        floor(now - self.reach + MARGIN, SECOND) + SECOND
    }

    /// The shortest window that begins at `start`.
    pub fn shortest(&self, start: DateTime<Utc>) -> Window {
        Window {
            start,
            end: self.floor(start) + self.bucket,
        }
    }

    /// When the rows at `instant` are deleted by Microsoft.
    pub fn deleted(&self, instant: DateTime<Utc>) -> DateTime<Utc> {
        instant + self.reach
    }

    /// The first half of a window, in whole buckets; `None` if the window cannot be made shorter.
    pub fn halve(&self, window: Window) -> Option<Window> {
        let middle = self.floor(window.start + window.length() / 2);
        let end = if middle > window.start {
            middle
        } else {
            self.floor(window.start) + self.bucket
        };
        (end < window.end).then_some(Window {
            start: window.start,
            end,
        })
    }

    /// The range to ask for, both ends inclusive.
    ///
    /// A report that filters at the instant is asked to the window's end, whose rows then come twice; one that filters
    /// by buckets is asked to one second before, or the next whole bucket would come along.
    pub fn asked(&self, window: Window) -> (DateTime<Utc>, DateTime<Utc>) {
        (
            window.start,
            if self.inclusive {
                window.end
            } else {
                window.end - SECOND
            },
        )
    }

    /// Whether neighbouring windows both return the rows at their common boundary.
    pub fn boundary_comes_twice(&self) -> bool {
        self.inclusive
    }

    /// How much there is between the cursor and what has settled.
    pub fn lag(&self, cursor: DateTime<Utc>, now: DateTime<Utc>) -> TimeDelta {
        (now - self.delay - cursor).max(TimeDelta::zero())
    }

    /// What has settled and is not collected, where that is more than comes together in step; `None` in step.
    pub fn backlog(&self, cursor: DateTime<Utc>, now: DateTime<Utc>) -> Option<TimeDelta> {
        let behind = self.settled(now) - cursor;
        (behind > self.period.max(self.bucket) + IN_STEP).then_some(behind)
    }

    /// The first span of a report under this schedule; it adapts to what comes.
    pub fn first_span(&self, report: &Report) -> Span {
        let most = if self.bucket > TimeDelta::hours(1) {
            SPAN_MAX_OF_DAYS
        } else {
            SPAN_MAX
        };
        Span {
            current: delta(report.first_span).max(self.bucket),
            least: self.bucket,
            most,
        }
    }

    fn due(&self, cursor: DateTime<Utc>) -> DateTime<Utc> {
        (self.floor(cursor) + self.bucket).max(self.ceil(cursor + self.period))
    }

    fn floor(&self, instant: DateTime<Utc>) -> DateTime<Utc> {
        floor(instant, self.bucket)
    }

    fn ceil(&self, instant: DateTime<Utc>) -> DateTime<Utc> {
        let floor = self.floor(instant);
        if floor < instant {
            floor + self.bucket
        } else {
            floor
        }
    }
}

/// How long the next window may be; it follows the density of the rows.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    current: TimeDelta,
    least: TimeDelta,
    most: TimeDelta,
}

impl Span {
    /// The span as it stands.
    pub fn current(&self) -> TimeDelta {
        self.current
    }

    /// Learns from a walk that brought `rows` of `window`.
    pub fn walked(&mut self, window: Window, rows: u64) {
        if rows > AIM {
            self.narrow(window);
        } else if rows <= AIM / 2 && window.length() >= self.current {
            self.current = (self.current * 2).min(self.most);
        }
    }

    /// Learns that `window` was too long.
    pub fn narrow(&mut self, window: Window) {
        self.current = (window.length() / 2).max(self.least);
    }
}

/// Cuts an instant down to a multiple of `unit` since the epoch, which hours and days (UTC) begin at.
fn floor(instant: DateTime<Utc>, unit: TimeDelta) -> DateTime<Utc> {
    // Fails only outside the years 1677 to 2262, which no report and no clock of this century reaches.
    instant.duration_trunc(unit).unwrap_or(instant)
}

fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(service: &str, period: u64, delay: u64) -> Schedule {
        let report = Report::by_service(&format!("office365_reporting_{service}_service")).unwrap();
        Schedule::new(
            report,
            None,
            Duration::from_secs(period),
            Duration::from_secs(delay),
        )
    }

    fn at(time: &str) -> DateTime<Utc> {
        let text = if time.len() > 8 {
            format!("{time}Z")
        } else {
            format!("2026-03-10T{time}Z")
        };
        text.parse().unwrap()
    }

    fn show(next: Next) -> String {
        match next {
            Next::Wait(until) => format!("wait until {}", until.format("%dT%H:%M:%S")),
            Next::Collect(window) => {
                format!(
                    "collect {}..{}",
                    window.start.format("%dT%H:%M:%S"),
                    window.end.format("%dT%H:%M:%S")
                )
            }
        }
    }

    #[test]
    fn a_window_of_instants_is_due_once_a_period_and_never_reaches_past_the_delay() {
        let schedule = schedule("MessageTrace", 60, 600);
        let check = |cursor, now, expected: &str| {
            assert_eq!(
                show(schedule.next(at(cursor), at(now), TimeDelta::hours(1))),
                expected
            );
        };
        check("12:00:00", "12:10:59", "wait until 10T12:11:00");
        check("12:00:00", "12:11:00", "collect 10T12:00:00..10T12:01:00");
        check("12:00:00", "12:11:30", "collect 10T12:00:00..10T12:01:30");
        check("09:00:00", "12:11:30", "collect 10T09:00:00..10T10:00:00");
        check("13:00:00", "12:00:00", "wait until 10T13:11:00");
    }

    #[test]
    fn hours_and_days_are_collected_whole_and_only_when_past_the_delay() {
        let hourly = schedule("DlpDetail", 60, 600);
        let check = |cursor, now, expected: &str| {
            assert_eq!(
                show(hourly.next(at(cursor), at(now), TimeDelta::hours(6))),
                expected
            );
        };
        check("12:00:00", "13:09:59", "wait until 10T13:10:00");
        check("12:00:00", "13:10:00", "collect 10T12:00:00..10T13:00:00");
        check("12:00:00", "15:40:00", "collect 10T12:00:00..10T15:00:00");
        check("12:25:00", "15:40:00", "collect 10T12:25:00..10T15:00:00");
        let daily = schedule("SafelinksDetail", 60, 1);
        assert_eq!(
            show(daily.next(at("00:00:00"), at("23:59:59"), TimeDelta::days(1))),
            "wait until 11T00:00:01"
        );
        assert_eq!(
            show(daily.next(
                at("2026-03-01T00:00:00"),
                at("12:00:00"),
                TimeDelta::days(1)
            )),
            "collect 01T00:00:00..02T00:00:00"
        );
    }

    #[test]
    fn a_period_longer_than_a_bucket_holds() {
        let hourly = schedule("DlpDetail", 5_400, 600);
        let check = |now, expected: &str| {
            assert_eq!(
                show(hourly.next(at("12:00:00"), at(now), TimeDelta::hours(6))),
                expected
            );
        };
        check("13:30:00", "wait until 10T14:10:00");
        check("14:10:00", "collect 10T12:00:00..10T14:00:00");
    }

    #[test]
    fn buckets_are_asked_to_one_second_before_their_end_and_instants_to_the_end() {
        let window = Window {
            start: at("12:00:00"),
            end: at("13:00:00"),
        };
        assert_eq!(schedule("DlpDetail", 60, 1).asked(window).1, at("12:59:59"));
        assert_eq!(
            schedule("MessageTrace", 60, 1).asked(window).1,
            at("13:00:00")
        );
    }

    #[test]
    fn a_window_is_halved_down_to_the_resolution() {
        let instants = schedule("MessageTrace", 60, 1);
        let mut window = Window {
            start: at("12:00:00"),
            end: at("12:00:09"),
        };
        let mut seconds = vec![];
        while let Some(half) = instants.halve(window) {
            seconds.push(half.length().num_seconds());
            window = half;
        }
        assert_eq!(seconds, [4, 2, 1]);
        let hours = schedule("DlpDetail", 60, 1);
        let check = |start, end, expected: Option<&str>| {
            let half = hours.halve(Window {
                start: at(start),
                end: at(end),
            });
            assert_eq!(half.map(|half| half.end), expected.map(at));
        };
        check("12:00:00", "15:00:00", Some("13:00:00"));
        check("12:00:00", "13:00:00", None);
        check("12:20:00", "14:00:00", Some("13:00:00"));
        check("12:20:00", "13:00:00", None);
    }

    #[test]
    fn what_microsoft_no_longer_keeps_is_not_asked_for() {
        let schedule = schedule("MessageTrace", 60, 90_000);
        assert_eq!(schedule.oldest(at("12:00:00")), at("2026-02-28T12:10:01"));
        assert_eq!(
            schedule.start(None, at("12:00:00")),
            at("2026-03-09T11:00:00")
        );
        assert_eq!(
            schedule.start(Some(at("10:20:30")), at("12:00:00")),
            at("10:20:30")
        );
    }

    #[test]
    fn a_backlog_is_what_a_service_in_step_does_not_have() {
        let check = |service, cursor, expected: Option<i64>| {
            let backlog = schedule(service, 60, 600).backlog(at(cursor), at("13:20:30"));
            assert_eq!(
                backlog.map(|backlog| backlog.num_minutes()),
                expected,
                "{service} {cursor}"
            );
        };
        check("MessageTrace", "13:10:00", None);
        check("MessageTrace", "13:04:31", None);
        check("MessageTrace", "13:04:00", Some(6));
        check("MessageTrace", "14:00:00", None);
        check("DlpDetail", "12:00:00", None);
        check("DlpDetail", "11:00:00", Some(120));
        check("SafelinksDetail", "2026-03-09T00:00:00", None);
        check("SafelinksDetail", "2026-03-08T00:00:00", Some(2 * 24 * 60));
    }

    #[test]
    fn the_span_follows_the_density_of_the_rows() {
        let schedule = schedule("MessageTrace", 60, 1);
        let mut span = schedule.first_span(&crate::report::REPORTS[4]);
        let first = span.current();
        let full = |span: Span| Window {
            start: at("00:00:00"),
            end: at("00:00:00") + span.current(),
        };
        span.walked(full(span), 9_000);
        assert_eq!(span.current(), first * 2);
        span.walked(full(span), 15_000);
        assert_eq!(span.current(), first * 2);
        span.walked(full(span), 25_000);
        assert_eq!(span.current(), first);
        span.walked(
            Window {
                start: at("00:00:00"),
                end: at("00:01:00"),
            },
            10,
        );
        assert_eq!(
            span.current(),
            first,
            "a short window in step says nothing about longer ones"
        );
        for _ in 0..40 {
            span.narrow(full(span));
        }
        assert_eq!(span.current(), TimeDelta::seconds(1));
    }

    proptest::proptest! {
        #[test]
        fn windows_follow_one_another_and_stay_behind_the_delay(
            start in 1_700_000_000_i64..1_700_400_000, steps in proptest::collection::vec(1_i64..200_000, 1..40),
            which in 0_usize..8, period in 1_u64..10_000, delay in 1_u64..=90_000, span in 1_i64..200_000,
        ) {
            let report = &crate::report::REPORTS[which];
            let schedule = Schedule::new(report, None, Duration::from_secs(period), Duration::from_secs(delay));
            let mut now = DateTime::from_timestamp(start, 0).unwrap();
            let mut cursor = schedule.start(None, now);
            for step in steps {
                now += TimeDelta::seconds(step);
                match schedule.next(cursor, now, TimeDelta::seconds(span)) {
                    Next::Collect(window) => {
                        proptest::prop_assert_eq!(window.start, cursor);
                        proptest::prop_assert!(window.end > cursor);
                        proptest::prop_assert!(window.end <= now - TimeDelta::seconds(delay.cast_signed()));
                        cursor = window.end;
                    }
                    Next::Wait(until) => {
                        proptest::prop_assert!(until > now);
                        let due = schedule.next(cursor, until, TimeDelta::seconds(span));
                        proptest::prop_assert!(matches!(due, Next::Collect(_)));
                    }
                }
            }
        }
    }
}
