//! The present, as the clocks that are known agree on it.
//!
//! Three are known: this machine's, the service's (from answers that were pages) and the directory's (from tokens). The time is their
//! median, or the earlier of two: a clock that is wrong by itself moves nothing.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tracing::{error, info};

use crate::clock::WallClock;
use crate::source::{DIFFERENCE_MAX, Source, agreed};

/// What this machine's clock is called.
const OURS: &str = "this machine's";

/// All clocks. Clones are held together.
#[derive(Clone)]
pub(super) struct Clock {
    source: Arc<dyn Source>,
    wall: WallClock,
    /// The clock that an operator has been told of.
    told: Option<&'static str>,
    /// The instant that it does not go past.
    held: Arc<OnceLock<DateTime<Utc>>>,
}

impl Clock {
    pub(super) fn new(source: Arc<dyn Source>, wall: WallClock) -> Self {
        Clock {
            source,
            wall,
            told: None,
            held: Arc::default(),
        }
    }

    /// From now on stays at this instant: what becomes due later is not.
    pub(super) fn hold(&self) {
        self.held.get_or_init(|| self.unheld());
    }

    /// Whether it is held.
    pub(super) fn is_held(&self) -> bool {
        self.held.get().is_some()
    }

    /// This machine's clock alone.
    pub(super) fn ours(&self) -> DateTime<Utc> {
        self.wall.now()
    }

    /// The time: the median of three clocks, or the earlier of two, but no later than where it is held.
    pub(super) fn now(&self) -> DateTime<Utc> {
        let time = self.unheld();
        self.held.get().map_or(time, |held| *held.min(&time))
    }

    fn unheld(&self) -> DateTime<Utc> {
        let (time, _) = agreed(self.ours(), self.source.clocks());
        time
    }

    /// The time that at least two clocks have reached; `None` while one alone is known. By it the cursor passes what the service no longer
    /// keeps.
    pub(super) fn certain(&self) -> Option<DateTime<Utc>> {
        let (time, clocks) = agreed(self.ours(), self.source.clocks());
        (clocks > 1).then_some(time)
    }

    /// Whether the service has not told its time.
    pub(super) fn is_unheard(&self) -> bool {
        self.source.clocks().service.is_none()
    }

    /// Whether the service's clock holds us back, and has not been heard for as long as `patience`: it may be right again by now.
    pub(super) fn is_in_doubt(&self, patience: Duration) -> bool {
        let clocks = self.source.clocks();
        let behind = |theirs: DateTime<Utc>| self.ours() - theirs > DIFFERENCE_MAX;
        let heard = clocks.service_age.is_some_and(|age| age >= patience);
        clocks.service.is_some_and(behind) && heard
    }

    /// Tells an operator when a clock differs much from the time, and when none does any more.
    pub(super) fn compare(&mut self) {
        let (ours, clocks) = (self.ours(), self.source.clocks());
        let (time, known) = agreed(ours, clocks);
        let named = [
            (OURS, Some(ours)),
            ("the reporting service's", clocks.service),
            ("the directory's", clocks.directory),
        ];
        let differs = |clock: &&(&'static str, Option<DateTime<Utc>>)| {
            clock
                .1
                .is_some_and(|clock| (clock - time).abs() > DIFFERENCE_MAX)
        };
        let wrong = named.iter().find(differs);
        if let Some((which, Some(says))) = wrong
            && self.told != Some(which)
        {
            let minutes = (*says - time).num_minutes();
            match (known, *which) {
                (3.., OURS) => {
                    error!(clock = OURS, %says, %time, minutes, "this machine's clock is wrong and is not used: set it (NTP)");
                }
                (3.., which) => {
                    error!(clock = which, %says, %time, minutes, "one of three clocks is wrong and is not used: set it (NTP), or wait until it is right");
                }
                _ => {
                    error!(clock = which, %says, %time, minutes, "this machine's clock and the reporting service's differ: set this machine's (NTP); until then the earlier one is used");
                }
            }
        } else if self.told.is_some() && wrong.is_none() {
            info!("all clocks agree again");
        }
        self.told = wrong.map(|(which, _)| *which);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::RemoteTimes;

    fn at(hour: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_770_000_000 + 3_600 * hour, 0).unwrap()
    }

    fn check(ours: i64, service: Option<i64>, directory: Option<i64>, expected: i64) {
        let theirs = RemoteTimes {
            service: service.map(at),
            service_age: None,
            directory: directory.map(at),
        };
        assert_eq!(agreed(at(ours), theirs).0, at(expected));
    }

    #[test]
    fn one_wrong_clock_of_three_moves_nothing() {
        for wrong in [-500, 500] {
            check(wrong, Some(0), Some(0), 0);
            check(0, Some(wrong), Some(0), 0);
            check(0, Some(0), Some(wrong), 0);
        }
    }

    #[test]
    fn the_earlier_of_two_clocks_is_used() {
        check(0, Some(5), None, 0);
        check(5, Some(0), None, 0);
        check(5, None, Some(0), 0);
        check(7, None, None, 7);
    }
}
