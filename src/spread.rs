//! Where a tenant stands among many, so that not all of them ask at the same instant: pure.
//!
//! At the start, at full hours and at midnight something is due for every tenant at once. Each waits for an offset of its own, which its name
//! tells: the same with each start, and another than its neighbours'.
#![deny(clippy::disallowed_methods)]

use std::time::Duration;

/// No tenant waits longer.
const MOST: Duration = Duration::from_secs(30);

/// The time that is left between two tenants on average, until there are too many for it.
const EACH: Duration = Duration::from_millis(30);

/// A tenant's place among others; by default it has none, and nothing waits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spread {
    /// The share of `within` that it waits for, as a part of 2³².
    place: u32,
    within: Duration,
}

impl Spread {
    /// The place of the input `name` among so many.
    pub(crate) fn of(name: &str, inputs: usize) -> Self {
        let others = u32::try_from(inputs.saturating_sub(1)).unwrap_or(u32::MAX);
        Spread {
            // Names that differ in a digit only are far apart so.
            place: crc32fast::hash(name.as_bytes()),
            within: EACH.saturating_mul(others).min(MOST),
        }
    }

    /// What a service waits for that has something to do every `period`.
    pub(crate) fn offset(self, period: Duration) -> Duration {
        let within = self.within.min(period).as_millis();
        let millis = (within * u128::from(self.place)) >> u32::BITS;
        Duration::from_millis(u64::try_from(millis).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    fn offset(nth: usize, of: usize) -> Duration {
        Spread::of(&format!("tenant_{nth:04}"), of).offset(MINUTE)
    }

    #[test]
    fn one_tenant_alone_waits_for_nothing() {
        assert_eq!(offset(7, 1), Duration::ZERO);
        assert_eq!(Spread::default().offset(MINUTE), Duration::ZERO);
    }

    #[test]
    fn none_waits_longer_than_its_period_or_half_a_minute() {
        for (inputs, period, most) in [
            (2, 60, Duration::from_millis(30)),
            (500, 60, Duration::from_millis(14_970)),
            (10_000, 60, Duration::from_secs(30)),
            (10_000, 1, Duration::from_secs(1)),
        ] {
            let period = Duration::from_secs(period);
            let spread = |nth| Spread::of(&format!("tenant_{nth:04}"), inputs).offset(period);
            assert!(
                (0..500).all(|nth| spread(nth) < most),
                "{inputs}, {period:?}"
            );
        }
    }

    #[test]
    fn many_tenants_are_spread_evenly_and_the_same_each_time() {
        let mut tenths = [0; 10];
        for nth in 0..500 {
            let (one, again) = (offset(nth, 500), offset(nth, 500));
            assert_eq!(one, again);
            tenths[usize::try_from(one.as_millis() / 1_500).unwrap().min(9)] += 1;
        }
        assert!(
            tenths.iter().all(|tenth| (25..=75).contains(tenth)),
            "{tenths:?}"
        );
    }
}
