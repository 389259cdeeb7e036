//! While Microsoft Graph is asked under `source: auto`, looks once a day whether the reporting service has everything again.
//!
//! It looks at one settled hour of which Graph has shown rows, and only while there is nothing to collect. The service is asked again once it has
//! shown every message of Graph's on three days in a row: one that comes and goes does not make the collector change between them. An error, a
//! refusal and a message that is missing each set the count back. The count is kept in the state.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::sleep;
use tracing::{info, warn};

use crate::blocking::DISK;
use crate::clock::WallClock;
use crate::error::chain;
use crate::ledger::{HourOutcome, LookFile, Looks, Stretch};
use crate::monitoring::ServiceMonitor;
use crate::source::agreed;
use crate::source::graph::{Returning, Shown};
use crate::window::Window;

/// The time between two looks.
const EVERY: TimeDelta = TimeDelta::days(1);
/// Two looks that are further apart are not of two days in a row.
const IN_A_ROW: TimeDelta = TimeDelta::days(2);
/// So many days in a row are enough.
const DAYS: u32 = 3;

/// Hours are looked at that are at most so old; the reporting service keeps them for ten days.
const OLDEST: TimeDelta = TimeDelta::days(7);
/// Of the last hours with rows, one of these is looked at.
const HOURS: usize = 24;
/// The hour with the most rows is looked at that has no more than this, so that a look takes few requests.
const ROWS_MAX: u64 = 10_000;

/// Waiting is cut into pieces of this, so that a clock that is set is noticed.
const NAP: Duration = Duration::from_secs(10);

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Wait,
    Look,
    /// The reporting service is back.
    Return,
}

impl Looks {
    /// Where the days begin to be counted.
    fn begin(now: DateTime<Utc>) -> Self {
        Looks { last: now, days: 0 }
    }

    fn next(self, now: DateTime<Utc>) -> Next {
        if self.days >= DAYS && now - self.last < IN_A_ROW {
            Next::Return
        } else if now - self.last >= EVERY {
            Next::Look
        } else {
            Next::Wait
        }
    }

    /// After a look, by which the reporting service has everything or not.
    fn after(self, has_everything: bool, now: DateTime<Utc>) -> Self {
        let before = if now - self.last < IN_A_ROW {
            self.days
        } else {
            0
        };
        let days = if has_everything { before + 1 } else { 0 };
        Looks { last: now, days }
    }
}

/// The hour to look at: of the last ones with rows that Graph has told of, the one with the most that are not too many, or else with the fewest.
fn hour_to_look_at(settled: &[Stretch], now: DateTime<Utc>) -> Option<Window> {
    let has_rows = |one: &&Stretch| {
        one.outcome == HourOutcome::Complete
            && one.source == crate::report::Origin::Graph
            && one.shown.rows > 0
            && one.window().length() <= TimeDelta::hours(1)
            && now - one.start < OLDEST
    };
    let last: Vec<_> = { settled.iter().rev().filter(has_rows) }
        .take(HOURS)
        .collect();
    let few = last.iter().filter(|one| one.shown.rows <= ROWS_MAX);
    let fullest = few.max_by_key(|one| (one.shown.rows, one.start));
    let hour = fullest.or_else(|| last.iter().min_by_key(|one| one.shown.rows));
    hour.map(|one| one.window())
}

/// Looks for one service.
pub(super) struct Looking {
    returning: Returning,
    file: LookFile,
    wall: WallClock,
}

impl Looking {
    pub(super) fn new(returning: Returning, file: LookFile) -> Self {
        Looking {
            returning,
            file,
            wall: WallClock::default(),
        }
    }

    /// Resolves once the reporting service is to be asked again. It looks while `monitor` knows of nothing to collect.
    pub(super) async fn until_back(self, monitor: &ServiceMonitor) {
        let file = self.file.clone();
        let known = DISK.run(move || file.read()).await;
        let now = self.now();
        // One of the future was written by a clock that was ahead.
        let known = known.filter(|known| known.last <= now);
        let mut looks = known.unwrap_or(Looks::begin(now));
        if known.is_none() {
            self.keep(looks).await;
        }
        loop {
            let now = self.now();
            match looks.next(now) {
                Next::Return => break,
                Next::Look if monitor.is_idle() => {
                    if let Some(has_everything) = self.look(looks.days, now).await {
                        looks = looks.after(has_everything, now);
                        self.keep(looks).await;
                        continue;
                    }
                }
                Next::Look | Next::Wait => {}
            }
            sleep(NAP).await;
        }
        warn!(
            days = DAYS,
            action = "nothing has to be done; to stay with Microsoft Graph, set `source: graph`",
            "the reporting service has all message traces again: from here on they are collected from it"
        );
    }

    /// Whether the reporting service has all of an hour; `None` if there is no hour to look at.
    async fn look(&self, days: u32, now: DateTime<Utc>) -> Option<bool> {
        let file = self.file.clone();
        let settled = DISK.run(move || file.settled(now - OLDEST)).await;
        let hour = hour_to_look_at(&settled, now)?;
        match self.returning.look((hour.start, hour.end)).await {
            Ok(Shown::All) => {
                info!(
                    %hour, days = days + 1, of = DAYS,
                    "the reporting service shows all message traces of this hour that Microsoft Graph shows; once it does so on {DAYS} days in a row, it is asked again"
                );
                return Some(true);
            }
            Ok(Shown::Missing { messages }) => {
                info!(%hour, messages, "the reporting service still lacks message traces that Microsoft Graph has");
            }
            Ok(Shown::Nothing) => {
                info!(%hour, "Microsoft Graph no longer has the message traces by which the reporting service could be judged");
            }
            Err(error) => {
                info!(%hour, error = chain(&error), "the reporting service still cannot be asked for message traces in the place of Microsoft Graph");
            }
        }
        Some(false)
    }

    /// By the clocks as they agree: one that jumps must not make three days of one.
    fn now(&self) -> DateTime<Utc> {
        agreed(self.wall.now(), self.returning.clocks()).0
    }

    async fn keep(&self, looks: Looks) {
        let file = self.file.clone();
        if let Err(error) = DISK.run(move || file.write(looks)).await {
            warn!(
                error = chain(&error),
                "on how many days the reporting service was seen to be back cannot be written; a restart counts them anew"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Found;
    use crate::record::Sums;
    use crate::report::Origin;

    fn at(hour: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_770_000_000 / 3_600 * 3_600 + 3_600 * hour, 0).unwrap()
    }

    /// Looks from hour 0 on, at every hour: `+` while the reporting service has everything, `-` while it has not, ` ` while there is no time to
    /// look; `.` is a day. Expects the hour at which it is asked again.
    fn check(script: &str, expected: Option<i64>) {
        let mut looks = Looks::begin(at(0));
        let hours = i64::try_from(script.len()).unwrap() * 24;
        let mut returned = None;
        for hour in 0..hours {
            // A restart at any time changes nothing.
            let json = serde_json::to_string(&looks).unwrap();
            looks = serde_json::from_str(&json).unwrap();
            let day = usize::try_from(hour / 24).unwrap();
            match (looks.next(at(hour)), script.as_bytes()[day]) {
                (Next::Look, b'+') => looks = looks.after(true, at(hour)),
                (Next::Look, b'-') => looks = looks.after(false, at(hour)),
                (Next::Return, _) => {
                    returned = Some(hour);
                    break;
                }
                _ => {}
            }
        }
        assert_eq!(returned, expected, "{script:?}");
    }

    #[test]
    fn three_days_in_a_row_are_enough_and_any_failure_begins_anew() {
        check(".+++.", Some(73));
        check("++++.", Some(73));
        check(".-+++.", Some(97));
        check(".+-+++.", Some(121));
        check(".++-++-++-.", None);
        check(".------.", None);
        // A day on which nobody could look is one between.
        check(".++ +++.", Some(145));
        check(".+ + + + .", None);
    }

    #[test]
    fn a_count_of_long_ago_is_none() {
        let looks = Looks {
            last: at(0),
            days: DAYS,
        };
        assert_eq!(looks.next(at(1)), Next::Return);
        assert_eq!(looks.next(at(72)), Next::Look);
        assert_eq!(looks.after(true, at(72)).days, 1);
    }

    #[test]
    fn the_fullest_hour_of_the_last_ones_is_looked_at_that_takes_few_requests() {
        let hour = |start: i64, rows: u64| Stretch {
            start: at(start),
            end: at(start + 1),
            outcome: HourOutcome::Complete,
            records: rows,
            shown: Sums {
                rows,
                ..Sums::default()
            },
            settled: at(start + 26),
            source: Origin::Graph,
            found: Found::default(),
        };
        let check = |settled: &[Stretch], expected: Option<i64>| {
            let hour = hour_to_look_at(settled, at(100));
            assert_eq!(hour.map(|hour| hour.start), expected.map(at));
        };
        check(&[], None);
        check(&[hour(70, 0)], None);
        check(&[hour(70, 5), hour(71, 9_999), hour(72, 10_001)], Some(71));
        check(&[hour(70, 20_000), hour(71, 10_001)], Some(71));
        // Not by what the reporting service told, nor by what it no longer has.
        let told = Stretch {
            source: Origin::ReportingService,
            ..hour(72, 8)
        };
        check(&[hour(70, 5), told], Some(70));
        check(&[hour(-90, 5)], None);
        // Nor by what is not of the last day that has rows.
        let mut day: Vec<_> = (0..24).map(|nth| hour(50 + nth, 1)).collect();
        day.insert(0, hour(49, 5_000));
        check(&day, Some(73));
    }
}
