//! How many records of a stretch of time early passes have found: by it anyone can tell how late records come.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The audit's file keeps the counts of so many early passes, those with the shortest delays.
pub(super) const KEPT: usize = 8;

/// What one early pass has found, together with those of shorter delays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByDelay {
    /// Its delay in seconds; never 0.
    pub delay: u32,
    /// So many records were there by then.
    pub records: u64,
}

/// What those early passes have found that have read all of a stretch of time, the shortest delay first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found(Vec<ByDelay>);

impl Found {
    /// What these have found, the shortest delay first.
    pub fn new(passes: Vec<ByDelay>) -> Self {
        Found(passes)
    }

    /// Each pass that has read all of the stretch.
    pub fn passes(&self) -> &[ByDelay] {
        &self.0
    }

    /// Takes in what was found in the stretch that follows: of a pass that has not read all of both nothing is told.
    pub(super) fn and(&mut self, next: &Found) {
        self.0.retain_mut(|one| {
            let other = next.0.iter().find(|other| other.delay == one.delay);
            one.records = one
                .records
                .saturating_add(other.map_or(0, |other| other.records));
            other.is_some()
        });
    }

    /// Whether the same passes have read both.
    pub(super) fn is_by_the_same(&self, other: &Found) -> bool {
        let delays = |found: &Found| found.0.iter().map(|one| one.delay).collect::<Vec<_>>();
        delays(self) == delays(other)
    }
}

/// How late the records of some hours came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lateness {
    /// How many were there by which delay, the shortest first.
    pub within: Vec<Within>,
}

/// How many records were there by one delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Within {
    /// The delay in seconds.
    pub delay: u32,
    /// So many were there by then.
    pub records: u64,
    /// So many were there when their hours settled.
    pub of: u64,
}

impl Lateness {
    /// Takes in a stretch of so many records.
    pub(super) fn add(&mut self, found: &Found, records: u64) {
        for ByDelay { delay, records: by } in &found.0 {
            let place = self.within.binary_search_by_key(delay, |one| one.delay);
            let place = place.unwrap_or_else(|place| {
                let none = Within {
                    delay: *delay,
                    records: 0,
                    of: 0,
                };
                self.within.insert(place, none);
                place
            });
            let within = &mut self.within[place];
            // A record that has another state when its hour settles is one more.
            within.records = within.records.saturating_add((*by).min(records));
            within.of = within.of.saturating_add(records);
        }
    }

    /// Whether no early pass has read any of these hours, or nothing was there.
    pub fn is_empty(&self) -> bool {
        self.within.iter().all(|one| one.of == 0)
    }
}

/// As `97.1 % of 8200000 within 5 min, 99.98 % of 8200000 within 1 h`.
impl fmt::Display for Lateness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let there = self.within.iter().filter(|one| one.of > 0);
        for (nth, one) in there.enumerate() {
            let separator = if nth > 0 { ", " } else { "" };
            let (share, delay) = (Share(one.records, one.of), Interval(one.delay));
            write!(f, "{separator}{share} of {} within {delay}", one.of)?;
        }
        Ok(())
    }
}

/// A share in percent: what is not all never reads as all.
struct Share(u64, u64);

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == self.1 {
            return f.write_str("all");
        }
        let thousandths = u128::from(self.0) * 100_000 / u128::from(self.1.max(1));
        let (whole, rest) = (thousandths / 1_000, thousandths % 1_000);
        let digits = format!("{whole}.{rest:03}");
        let digits = digits.trim_end_matches('0').trim_end_matches('.');
        write!(f, "{digits} %")
    }
}

/// A delay in the largest unit that it is a multiple of.
struct Interval(u32);

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            seconds if seconds.is_multiple_of(3_600) => write!(f, "{} h", seconds / 3_600),
            seconds if seconds.is_multiple_of(60) => write!(f, "{} min", seconds / 60),
            seconds => write!(f, "{seconds} s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(passes: &[(u32, u64)]) -> Found {
        let by = |(delay, records): &(u32, u64)| ByDelay {
            delay: *delay,
            records: *records,
        };
        Found::new(passes.iter().map(by).collect())
    }

    #[test]
    fn a_pass_that_has_not_read_all_of_a_stretch_tells_nothing_of_it() {
        let mut hour = found(&[(300, 5), (3_600, 9)]);
        hour.and(&found(&[(300, 1), (3_600, 3)]));
        assert_eq!(hour, found(&[(300, 6), (3_600, 12)]));
        hour.and(&found(&[(3_600, 1)]));
        assert_eq!(hour, found(&[(3_600, 13)]));
        hour.and(&Found::default());
        assert_eq!(hour, Found::default());
    }

    #[test]
    fn lateness_reads_as_people_would_say_it() {
        let mut lateness = Lateness::default();
        assert!(lateness.is_empty());
        lateness.add(
            &found(&[(300, 971), (3_600, 9_998), (5_401, 10_000)]),
            10_000,
        );
        lateness.add(&found(&[]), 77);
        assert_eq!(
            lateness.to_string(),
            "9.71 % of 10000 within 5 min, 99.98 % of 10000 within 1 h, all of 10000 within 5401 s"
        );
        let mut nearly = Lateness::default();
        nearly.add(&found(&[(60, 9_999_999)]), 10_000_000);
        nearly.add(&found(&[(120, 3)]), 2);
        assert_eq!(
            nearly.to_string(),
            "99.999 % of 10000000 within 1 min, all of 2 within 2 min"
        );
    }
}
