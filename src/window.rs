//! Which range of time to collect next: pure, the present is an argument.
//!
//! Guarantees that windows of one service follow one another without a gap or an overlap, that none reaches past what has
//! settled (`now − delay`), and that reports which filter by hour or day get whole buckets. Knows nothing of rows or files.
#![deny(clippy::disallowed_methods)]

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use serde::{Serialize, Serializer};

use crate::report::{Resolution, Terms};

const SECOND: TimeDelta = TimeDelta::seconds(1);

/// So far from the end of what Microsoft keeps collecting goes on, so that a range is not refused while it is asked for; half of it is left
/// for asking.
const MARGIN: TimeDelta = TimeDelta::minutes(10);

/// A service that is behind by this more than it has to be is still in step: a window takes its time.
const IN_STEP: TimeDelta = TimeDelta::minutes(5);

/// A window aims at this share of a page's rows, so that one that is denser than the last still fits.
const AIM: (u64, u64) = (3, 4);

/// A window of which nothing is known yet: a tenant with 2000 mails in so much time is a large one.
const FIRST_SPAN: TimeDelta = TimeDelta::minutes(15);

const HOUR: TimeDelta = TimeDelta::hours(1);

/// A half-open interval of time, in whole seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

    /// The beginning of the hour in which it begins.
    pub fn hour(&self) -> DateTime<Utc> {
        floor(self.start, HOUR)
    }

    /// Whether the two have an instant in common.
    pub fn overlaps(&self, other: Window) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// The shortest window that both are part of.
    #[must_use]
    pub fn hull(&self, other: Window) -> Window {
        Window {
            start: self.start.min(other.start),
            end: self.end.max(other.end),
        }
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
    page_rows: u64,
    /// What is due is asked for so much later, so that not all tenants ask at once.
    offset: TimeDelta,
    /// Where another service has told of the rows before: its times may differ by a little.
    handed_over: Option<DateTime<Utc>>,
}

impl Schedule {
    /// The schedule of a report from a source with these terms that is due every `period` and stays `delay` behind the present.
    pub fn new(terms: &Terms, period: Duration, delay: Duration) -> Self {
        Schedule {
            period: delta(period),
            delay: delta(delay),
            reach: delta(terms.reach),
            bucket: match terms.resolution {
                Resolution::Instant => SECOND,
                Resolution::Hour => HOUR,
                Resolution::Day => TimeDelta::days(1),
            },
            inclusive: terms.resolution == Resolution::Instant,
            page_rows: terms.page_rows,
            offset: TimeDelta::zero(),
            handed_over: None,
        }
    }

    /// The same, where what is due is asked for so much later.
    #[must_use]
    pub fn put_off(self, offset: Duration) -> Self {
        Schedule {
            offset: delta(offset),
            ..self
        }
    }

    /// The same, where another service has told of what is before `at`: a row's time may be on the other side of it here.
    #[must_use]
    pub fn taking_over(self, at: Option<DateTime<Utc>>) -> Self {
        Schedule {
            handed_over: at,
            ..self
        }
    }

    /// Decides the next step from the end of the last window and the present.
    ///
    /// In step, a pull is due once a period; it takes everything that has settled by then, up to `until`, which the next pull moves on. A
    /// window never crosses a full hour; where a report filters by hour or day, a window is one bucket.
    pub fn next(
        &self,
        from: DateTime<Utc>,
        until: &mut DateTime<Utc>,
        now: DateTime<Utc>,
        span: &Span,
    ) -> Next {
        let settled = self.settled(now - self.offset);
        if from >= *until || *until > settled {
            let due = self.due(from);
            if settled < due {
                return Next::Wait(due + self.delay + self.offset);
            }
            *until = settled;
        }
        let whole = self.floor(from) + self.bucket;
        let end = (from + span.current()).min(self.next_hour(from)).max(whole);
        Next::Collect(Window {
            start: from,
            end: end.min(*until),
        })
    }

    /// The end of the hour, or of the longer bucket, in which `instant` lies.
    fn next_hour(&self, instant: DateTime<Utc>) -> DateTime<Utc> {
        let unit = self.bucket.max(HOUR);
        floor(instant, unit) + unit
    }

    /// Everything before this instant has had its delay, in whole buckets.
    pub fn settled(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        self.floor(now - self.delay)
    }

    /// Where a service without state starts: at `start_time` or at `now − delay`, at the beginning of a bucket.
    pub fn start(&self, start_time: Option<DateTime<Utc>>, now: DateTime<Utc>) -> DateTime<Utc> {
        self.floor(start_time.unwrap_or(now - self.delay))
    }

    /// Where collecting goes on when the cursor is out of reach: far enough from the end of what is kept to be in time for it.
    pub fn oldest(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        floor(now - self.reach + MARGIN, SECOND) + SECOND
    }

    /// Whether rows at `instant` are so old that they cannot be had any more, or not for long enough to be asked for.
    pub fn is_out_of_reach(&self, instant: DateTime<Utc>, now: DateTime<Utc>) -> bool {
        instant < now - self.reach + MARGIN / 2
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
    /// by buckets is asked to one second before, or the next whole bucket would come along. A window that begins where another service has
    /// left off is asked for from a second before.
    pub fn asked(&self, window: Window) -> (DateTime<Utc>, DateTime<Utc>) {
        let takes_over = self.handed_over == Some(window.start);
        (
            if takes_over {
                window.start - SECOND
            } else {
                window.start
            },
            if self.inclusive {
                window.end
            } else {
                window.end - SECOND
            },
        )
    }

    /// Whether a walk of the window may show rows of the hour before it, or of the one that follows.
    pub fn may_show_another_hour(&self, window: Window) -> bool {
        let begins = |instant: DateTime<Utc>| floor(instant, HOUR) == instant;
        let (first, last) = self.asked(window);
        (first < window.start && begins(window.start)) || (last == window.end && begins(window.end))
    }

    /// Whether neighbouring windows both return the rows at their common boundary.
    pub fn boundary_comes_twice(&self) -> bool {
        self.inclusive
    }

    /// How much further it is at any time than the same schedule with another delay.
    pub fn ahead_of(&self, other: &Schedule) -> TimeDelta {
        (other.delay - self.delay).max(TimeDelta::zero())
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

    /// How long the first window is; later ones adapt to what comes.
    pub fn first_span(&self) -> Span {
        Span {
            current: FIRST_SPAN.max(self.bucket),
            least: self.bucket,
            most: HOUR.max(self.bucket),
            page_rows: self.page_rows,
        }
    }

    /// Whether rows at `instant` are so old that an empty answer does not tell whether there were any.
    pub fn may_be_deleted(&self, instant: DateTime<Utc>, now: DateTime<Utc>) -> bool {
        instant < now - self.reach * 9 / 10
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

/// How long the next window may be: it follows the density of the rows, so that a window is about one page.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    current: TimeDelta,
    least: TimeDelta,
    most: TimeDelta,
    page_rows: u64,
}

impl Span {
    /// The span as it stands, in whole seconds.
    pub fn current(&self) -> TimeDelta {
        self.current
    }

    /// Whether a page with a link and so many rows is a full one. A shorter page need not have anything behind it.
    pub fn is_full_page(&self, rows: u64) -> bool {
        rows >= self.page_rows
    }

    /// Learns that a page with so many rows had a different one behind it: pages are that small here.
    pub fn learn_page(&mut self, rows: u64) {
        self.page_rows = self.page_rows.min(rows.max(1));
    }

    /// Learns from a window that brought `rows` on one page.
    pub fn walked(&mut self, window: Window, rows: u64) {
        let aim = (self.page_rows * AIM.0 / AIM.1).max(1);
        let length = window.length().num_seconds();
        let ideal = |rows: u64| {
            let seconds = i128::from(length) * i128::from(aim) / i128::from(rows.max(1));
            TimeDelta::seconds(i64::try_from(seconds).unwrap_or(i64::MAX / 1_000))
        };
        if rows > aim {
            self.set(ideal(rows).min(self.current));
        } else if window.length() >= self.current {
            self.set(ideal(rows).min(self.current * 2).max(self.current));
        }
    }

    /// Learns that `window` was too long.
    pub fn narrow(&mut self, window: Window) {
        self.set(self.current.min(window.length() / 2));
    }

    fn set(&mut self, span: TimeDelta) {
        let span = span.clamp(self.least, self.most);
        self.current = TimeDelta::seconds(span.num_seconds());
    }
}

/// Cuts an instant down to a multiple of `unit` since the epoch, which hours and days (UTC) begin at.
pub(crate) fn floor(instant: DateTime<Utc>, unit: TimeDelta) -> DateTime<Utc> {
    // Fails only outside the years 1677 to 2262, which no report and no clock of this century reaches.
    instant.duration_trunc(unit).unwrap_or(instant)
}

/// The same up to the next multiple, where it is none itself.
pub(crate) fn ceiling(instant: DateTime<Utc>, unit: TimeDelta) -> DateTime<Utc> {
    let whole = floor(instant, unit);
    if whole < instant { whole + unit } else { whole }
}

fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Paging;

    fn schedule(service: &str, period: u64, delay: u64) -> Schedule {
        let (reach, resolution) = match service {
            "MessageTrace" => (10, Resolution::Instant),
            "DlpDetail" => (7, Resolution::Hour),
            _ => (7, Resolution::Day),
        };
        let terms = Terms {
            origin: crate::report::Origin::ReportingService,
            reach: Duration::from_hours(24 * reach),
            resolution,
            paging: Paging::ByPosition,
            row_cap: None,
            pages_max: 1_000,
            page_rows: 2_000,
        };
        Schedule::new(
            &terms,
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

    /// The next step of a service that has collected up to `from`, `until` being the end of its last pull.
    fn step(schedule: &Schedule, from: &str, until: &str, now: &str, minutes: i64) -> String {
        let mut span = schedule.first_span();
        span.set(TimeDelta::minutes(minutes));
        let mut until = at(until);
        show(schedule.next(at(from), &mut until, at(now), &span))
    }

    #[test]
    fn what_is_put_off_is_due_later_and_is_the_same() {
        let offset = Duration::from_millis(12_500);
        for (service, from, now, expected) in [
            (
                "MessageTrace",
                "12:00:00",
                "12:11:12",
                "wait until 10T12:11:12",
            ),
            (
                "MessageTrace",
                "12:00:00",
                "12:11:13",
                "collect 10T12:00:00..10T12:01:00",
            ),
            (
                "DlpDetail",
                "11:00:00",
                "12:10:12",
                "wait until 10T12:10:12",
            ),
            (
                "DlpDetail",
                "11:00:00",
                "12:10:13",
                "collect 10T11:00:00..10T12:00:00",
            ),
        ] {
            let schedule = schedule(service, 60, 600).put_off(offset);
            assert_eq!(step(&schedule, from, from, now, 60), expected, "{service}");
        }
    }

    #[test]
    fn a_window_of_instants_is_due_once_a_period_and_never_reaches_past_the_delay() {
        let schedule = schedule("MessageTrace", 60, 600);
        let check = |from, now, expected: &str| {
            assert_eq!(step(&schedule, from, from, now, 60), expected);
        };
        check("12:00:00", "12:10:59", "wait until 10T12:11:00");
        check("12:00:00", "12:11:00", "collect 10T12:00:00..10T12:01:00");
        check("12:00:00", "12:11:30", "collect 10T12:00:00..10T12:01:30");
        check("09:00:00", "12:11:30", "collect 10T09:00:00..10T10:00:00");
        check("13:00:00", "12:00:00", "wait until 10T13:11:00");
    }

    #[test]
    fn no_window_crosses_a_full_hour_and_a_pull_goes_on_behind_it() {
        let schedule = schedule("MessageTrace", 3_600, 600);
        let check = |from, until, expected: &str| {
            assert_eq!(step(&schedule, from, until, "13:41:00", 60), expected);
        };
        check("12:30:00", "12:30:00", "collect 10T12:30:00..10T13:00:00");
        check("13:00:00", "13:31:00", "collect 10T13:00:00..10T13:31:00");
        check("13:31:00", "13:31:00", "wait until 10T14:41:00");
    }

    #[test]
    fn hours_and_days_are_collected_one_by_one_and_only_when_past_the_delay() {
        let hourly = schedule("DlpDetail", 60, 600);
        let check = |from, now, expected: &str| {
            assert_eq!(step(&hourly, from, from, now, 360), expected);
        };
        check("12:00:00", "13:09:59", "wait until 10T13:10:00");
        check("12:00:00", "13:10:00", "collect 10T12:00:00..10T13:00:00");
        check("12:00:00", "15:40:00", "collect 10T12:00:00..10T13:00:00");
        check("12:25:00", "15:40:00", "collect 10T12:25:00..10T13:00:00");
        let daily = schedule("SafelinksDetail", 60, 1);
        let check = |from, now, expected: &str| {
            assert_eq!(step(&daily, from, from, now, 1), expected);
        };
        check("00:00:00", "23:59:59", "wait until 11T00:00:01");
        check(
            "2026-03-01T00:00:00",
            "12:00:00",
            "collect 01T00:00:00..02T00:00:00",
        );
    }

    #[test]
    fn a_period_longer_than_a_bucket_holds() {
        let hourly = schedule("DlpDetail", 5_400, 600);
        let check = |from, until, now, expected: &str| {
            assert_eq!(step(&hourly, from, until, now, 60), expected);
        };
        let noon = "12:00:00";
        check(noon, noon, "13:30:00", "wait until 10T14:10:00");
        check(noon, noon, "14:10:00", "collect 10T12:00:00..10T13:00:00");
        check(
            "13:00:00",
            "14:00:00",
            "14:10:00",
            "collect 10T13:00:00..10T14:00:00",
        );
    }

    #[test]
    fn a_clock_that_has_gone_back_ends_a_pull() {
        let schedule = schedule("MessageTrace", 60, 600);
        let step = step(&schedule, "12:00:00", "13:00:00", "12:00:00", 60);
        assert_eq!(step, "wait until 10T12:11:00");
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
        let oldest = schedule.oldest(at("12:00:00"));
        assert_eq!(oldest, at("2026-02-28T12:10:01"));
        // There are some minutes to fetch it.
        assert!(!schedule.is_out_of_reach(oldest, at("12:05:00")));
        assert!(schedule.is_out_of_reach(oldest, at("12:05:02")));
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
        let mut span = schedule.first_span();
        let first = span.current();
        let full = |span: &Span| Window {
            start: at("00:00:00"),
            end: at("00:00:00") + span.current(),
        };
        span.walked(full(&span), 300);
        assert_eq!(span.current(), first * 2, "it at most doubles");
        span.walked(full(&span), 1_500);
        assert_eq!(span.current(), first * 2);
        span.walked(full(&span), 2_000);
        assert_eq!(span.current(), first * 3 / 2, "room is left on the page");
        let short = Window {
            start: at("00:00:00"),
            end: at("00:01:00"),
        };
        span.walked(short, 10);
        assert_eq!(
            span.current(),
            first * 3 / 2,
            "a short window in step says nothing about longer ones"
        );
        span.walked(full(&span), 0);
        span.walked(full(&span), 0);
        assert_eq!(span.current(), HOUR);
        for _ in 0..40 {
            span.narrow(full(&span));
        }
        assert_eq!(span.current(), TimeDelta::seconds(1));
    }

    proptest::proptest! {
        #[test]
        fn windows_follow_one_another_and_stay_behind_the_delay(
            start in 1_700_000_000_i64..1_700_400_000, steps in proptest::collection::vec(1_i64..200_000, 1..40),
            which in 0_usize..3, period in 1_u64..10_000, delay in 1_u64..=90_000, span in 1_i64..200_000,
        ) {
            let schedule = schedule(["MessageTrace", "DlpDetail", "SafelinksDetail"][which], period, delay);
            let mut length = schedule.first_span();
            length.set(TimeDelta::seconds(span));
            let mut now = DateTime::from_timestamp(start, 0).unwrap();
            let mut cursor = schedule.start(None, now);
            let mut until = cursor;
            for step in steps {
                now += TimeDelta::seconds(step);
                match schedule.next(cursor, &mut until, now, &length) {
                    Next::Collect(window) => {
                        proptest::prop_assert_eq!(window.start, cursor);
                        proptest::prop_assert!(window.end > cursor);
                        proptest::prop_assert!(window.end <= now - TimeDelta::seconds(delay.cast_signed()));
                        cursor = window.end;
                    }
                    Next::Wait(due) => {
                        proptest::prop_assert!(due > now);
                        let due = schedule.next(cursor, &mut cursor.clone(), due, &length);
                        proptest::prop_assert!(matches!(due, Next::Collect(_)));
                    }
                }
            }
        }
    }
}
