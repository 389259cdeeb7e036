//! Growing waits between tries of what failed. Pure: the wait is computed here, and slept by who asked for it.

use std::time::Duration;

/// Waits that double from `first` to `most`, each shortened at random so that services which failed together do not
/// come back together.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    step: Duration,
}

impl Backoff {
    /// Starts at `first`; no wait is ever longer than `most`.
    pub fn new(first: Duration, most: Duration) -> Self {
        let first = first.min(most);
        Self {
            first,
            most,
            step: first,
        }
    }

    /// The next wait: between half of this step and the whole of it, as `random` says (0 to 1).
    pub fn next(&mut self, random: f64) -> Duration {
        let step = self.step;
        self.step = step.saturating_mul(2).min(self.most);
        let random = if random.is_nan() {
            0.0
        } else {
            random.clamp(0.0, 1.0)
        };
        let share = 1.0 - random / 2.0;
        Duration::try_from_secs_f64(step.as_secs_f64() * share).map_or(step, |wait| wait.min(step))
    }

    /// Back to the first step, after something has worked.
    pub fn reset(&mut self) {
        self.step = self.first;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(first: u64, most: u64, random: f64, expected_ms: &[u64]) {
        let mut backoff = Backoff::new(Duration::from_secs(first), Duration::from_secs(most));
        let waits: Vec<u64> = expected_ms
            .iter()
            .map(|_| u64::try_from(backoff.next(random).as_millis()).unwrap())
            .collect();
        assert_eq!(waits, expected_ms);
    }

    #[test]
    fn doubles_up_to_the_most() {
        check(1, 10, 0.0, &[1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
    }

    #[test]
    fn jitter_takes_away_at_most_a_half() {
        check(1, 10, 1.0, &[500, 1_000, 2_000, 4_000, 5_000]);
        check(4, 10, 0.5, &[3_000, 6_000, 7_500]);
    }

    #[test]
    fn a_first_step_over_the_most_is_clamped() {
        check(60, 10, 0.0, &[10_000, 10_000]);
    }

    #[test]
    fn starts_again_after_a_reset() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_mins(1));
        backoff.next(0.0);
        backoff.next(0.0);
        backoff.reset();
        assert_eq!(backoff.next(0.0), Duration::from_secs(1));
    }

    proptest! {
        #[test]
        fn never_longer_than_the_most_and_never_a_panic(
            first in any::<u64>(), most in any::<u64>(), random in any::<f64>(), tries in 1..100_u32,
        ) {
            let most = Duration::from_secs(most);
            let mut backoff = Backoff::new(Duration::from_secs(first), most);
            for _ in 0..tries {
                prop_assert!(backoff.next(random) <= most);
            }
        }
    }
}
