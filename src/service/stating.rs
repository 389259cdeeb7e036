//! What hours have come to is stated, in the log and so to Devo, where an analyst holds Devo's own count against it.
//!
//! Usually an hour settles an hour after the one before it, and is stated at once; a day, when it is over. Of a backlog less is stated: once it
//! is caught up with, and every ten minutes until then, and by days or months where there is much. So one service states some fifty times in ten minutes
//! at the most, and 14 times of a year.

use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use tracing::info;

use crate::ledger::{HourOutcome, Ledger, Owner, Stretch};
use crate::messages::{DAY_SETTLED, HOUR_SETTLED, HOURS_SETTLED, Told};
use crate::window::floor;

/// While there is a backlog, it is stated so often.
const EVERY: Duration = Duration::from_mins(10);

/// So many hours are stated one by one.
const HOURS_MAX: usize = 50;
/// So much is stated by days, and what is more by months.
const BY_DAYS_MAX: TimeDelta = TimeDelta::days(31);

/// What a stretch of time came to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Statement {
    kind: &'static str,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    records: u64,
    outcome: HourOutcome,
}

/// What of one service has been stated.
pub(super) struct Stating {
    told: Told,
    input: String,
    service: String,
    /// Everything before has been stated once.
    stated: DateTime<Utc>,
    last: Option<Instant>,
}

impl Stating {
    /// Goes on from what the state keeps; `None` where nothing is audited.
    pub(super) fn begin(told: Told, owner: Owner<'_>, ledger: &Ledger) -> Option<Self> {
        let until = ledger.told()?;
        told.begin(owner.input, owner.service, until);
        Some(Stating {
            told,
            input: owner.input.to_owned(),
            service: owner.service.to_owned(),
            stated: until,
            last: None,
        })
    }

    /// Up to where every output has been told; `None` if there is none to tell.
    pub(super) fn told(&self) -> Option<DateTime<Utc>> {
        self.told.until(&self.input, &self.service)
    }

    /// From where on something is to be stated now, where hours have settled up to `settled`.
    pub(super) fn due(&self, settled: DateTime<Utc>, is_idle: bool) -> Option<DateTime<Utc>> {
        let is_time = is_idle || self.last.is_none_or(|last| last.elapsed() >= EVERY);
        if settled <= self.stated || !is_time {
            return None;
        }
        self.told.resume(&self.input, &self.service, self.stated)
    }

    /// States what has settled from `after` on. `lines` are of the day before as well, and `since` is where the service has begun.
    pub(super) fn state(&mut self, lines: &[Stretch], after: DateTime<Utc>, since: DateTime<Utc>) {
        for statement in statements(lines, after, since) {
            statement.say();
        }
        let end = lines.last().map_or(after, |last| last.end);
        self.stated = self.stated.max(end);
        self.last = Some(Instant::now());
    }
}

impl Statement {
    /// All of these lines, which follow one another.
    fn of(kind: &'static str, lines: &[&Stretch]) -> Option<Self> {
        let (first, last) = (lines.first()?, lines.last()?);
        let records = lines.iter().map(|line| line.records).sum();
        let is_whole = lines.windows(2).all(|two| two[0].end == two[1].start);
        let worst = lines.iter().map(|line| line.outcome).max()?;
        Some(Statement {
            kind,
            from: first.start,
            to: last.end,
            records,
            outcome: if !is_whole && !worst.is_gap() {
                HourOutcome::Unknown
            } else if worst.is_gap() || records == 0 {
                worst
            } else {
                HourOutcome::Complete
            },
        })
    }

    fn say(&self) {
        let instant = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
        info!(
            from = instant(self.from),
            to = instant(self.to),
            records = self.records,
            outcome = self.outcome.name(),
            "{}",
            self.kind
        );
    }
}

fn statements(lines: &[Stretch], after: DateTime<Utc>, since: DateTime<Utc>) -> Vec<Statement> {
    let new: Vec<_> = lines.iter().filter(|line| line.end > after).collect();
    let (Some(first), Some(last)) = (new.first(), new.last()) else {
        return vec![];
    };
    let (hour, day) = (TimeDelta::hours(1), TimeDelta::days(1));
    if new.len() > HOURS_MAX {
        let unit = if last.end - first.start <= BY_DAYS_MAX {
            day
        } else {
            BY_DAYS_MAX
        };
        let together =
            new.chunk_by(|one, other| floor(one.start, unit) == floor(other.start, unit));
        return { together }
            .filter_map(|lines| Statement::of(HOURS_SETTLED, lines))
            .collect();
    }
    let mut statements = vec![];
    for line in new {
        let is_hour = line.window().length() <= hour;
        let kind = if is_hour { HOUR_SETTLED } else { HOURS_SETTLED };
        statements.extend(Statement::of(kind, &[line]));
        // A report by day has no hours.
        if is_hour && floor(line.end, day) == line.end && since <= line.end - day {
            let of_day = lines
                .iter()
                .filter(|of| of.start >= line.end - day && of.end <= line.end);
            let of_day: Vec<_> = of_day.collect();
            let stated = Statement::of(DAY_SETTLED, &of_day);
            statements.extend(stated.filter(|stated| stated.from == line.end - day));
        }
    }
    statements
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Found;
    use crate::record::Sums;
    use crate::report::Origin;

    /// Hours from the beginning of a day.
    fn at(hour: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(20_000 * 86_400 + 3_600 * hour, 0).unwrap()
    }

    fn line(from: i64, to: i64, records: u64, outcome: HourOutcome) -> Stretch {
        Stretch {
            start: at(from),
            end: at(to),
            outcome,
            records,
            shown: Sums::default(),
            settled: at(to + 25),
            source: Origin::ReportingService,
            found: Found::default(),
        }
    }

    fn hours(from: i64, to: i64) -> Vec<Stretch> {
        let complete = |hour| line(hour, hour + 1, 2, HourOutcome::Complete);
        (from..to).map(complete).collect()
    }

    fn check(lines: &[Stretch], after: i64, since: i64, expected: &[&str]) {
        let hour = |time: DateTime<Utc>| (time - at(0)).num_hours();
        let stated = statements(lines, at(after), at(since));
        let told: Vec<_> = { stated.iter() }
            .map(|one| {
                let (from, to, outcome) = (hour(one.from), hour(one.to), one.outcome.name());
                format!("{}: {from}-{to} {} {outcome}", one.kind, one.records)
            })
            .collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn each_hour_is_stated_and_each_day_that_ends() {
        check(&[], 0, 0, &[]);
        check(&hours(0, 3), 2, 0, &["hour settled: 2-3 2 complete"]);
        check(
            &hours(0, 24),
            23,
            0,
            &[
                "hour settled: 23-24 2 complete",
                "day settled: 0-24 48 complete",
            ],
        );
        // Not of a day in the middle of which it has begun.
        check(&hours(5, 24), 23, 5, &["hour settled: 23-24 2 complete"]);
        let day = [line(0, 24, 7, HourOutcome::Capped)];
        check(&day, 0, 0, &["hours settled: 0-24 7 capped"]);
    }

    #[test]
    fn a_day_is_no_better_than_its_hours_and_a_hole_is_unknown() {
        let mut lines = hours(0, 24);
        lines[3].outcome = HourOutcome::Withheld;
        lines[4].outcome = HourOutcome::Unconfirmed;
        let last = "hour settled: 23-24 2 complete";
        check(&lines, 23, 0, &[last, "day settled: 0-24 48 withheld"]);
        lines[3].outcome = HourOutcome::Empty;
        check(&lines, 23, 0, &[last, "day settled: 0-24 48 complete"]);
        lines.remove(7);
        check(&lines, 23, 0, &[last, "day settled: 0-24 46 unknown"]);
    }

    #[test]
    fn of_a_backlog_days_and_months_are_stated() {
        check(
            &hours(0, 75),
            20,
            0,
            &[
                "hours settled: 20-24 8 complete",
                "hours settled: 24-48 48 complete",
                "hours settled: 48-72 48 complete",
                "hours settled: 72-75 6 complete",
            ],
        );
        let year = hours(0, 24 * 400);
        let stated = statements(&year, at(0), at(0));
        assert!(stated.len() <= 14, "{}", stated.len());
        assert_eq!(
            stated.iter().map(|one| one.records).sum::<u64>(),
            2 * 24 * 400
        );
        for two in stated.windows(2) {
            assert_eq!(two[0].to, two[1].from);
        }
    }
}
