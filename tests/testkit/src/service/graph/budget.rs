//! How many requests Graph answers in a span of time, for all of the tenant's tools together.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Requests in a span of time: 100 in any 5 minutes (documented by Microsoft).
#[derive(Clone, Copy, Debug)]
pub struct GraphBudget {
    /// So many are answered in any `span`. One more gets 429; it does not count itself, which is a guess.
    pub requests: usize,
    /// The span.
    pub span: Duration,
    /// What 429 says of the time to wait.
    pub retry_after: RetryForm,
}

/// The form of `Retry-After`. All of them have to be expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryForm {
    /// Seconds.
    Seconds,
    /// A date.
    Date,
    /// There is none.
    Absent,
}

impl Default for GraphBudget {
    fn default() -> Self {
        GraphBudget {
            requests: 100,
            span: Duration::from_mins(5),
            retry_after: RetryForm::Seconds,
        }
    }
}

/// When the requests came that count.
#[derive(Default)]
pub(crate) struct Spent {
    times: VecDeque<Instant>,
}

impl Spent {
    /// Counts a request, or tells how long to wait for the next one that is answered.
    pub(crate) fn charge(&mut self, budget: &GraphBudget, now: Instant) -> Result<(), Duration> {
        let left = |time: &Instant| (*time + budget.span).saturating_duration_since(now);
        while self.times.front().is_some_and(|time| left(time).is_zero()) {
            self.times.pop_front();
        }
        if self.times.len() < budget.requests {
            self.times.push_back(now);
            return Ok(());
        }
        // One is answered again when so many have ended that there is room.
        let last = self.times.get(self.times.len() - budget.requests);
        Err(last.map_or(budget.span, left))
    }

    /// Counts requests of the tenant's other tools.
    pub(crate) fn spend(&mut self, requests: usize, now: Instant) {
        self.times.extend((0..requests).map(|_| now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_slides() {
        let (mut spent, start) = (Spent::default(), Instant::now());
        let budget = GraphBudget {
            requests: 2,
            span: Duration::from_secs(10),
            ..GraphBudget::default()
        };
        let mut charge = |seconds| spent.charge(&budget, start + Duration::from_secs(seconds));
        assert_eq!(charge(0), Ok(()));
        assert_eq!(charge(4), Ok(()));
        assert_eq!(charge(5), Err(Duration::from_secs(5)));
        assert_eq!(charge(10), Ok(()));
        assert_eq!(charge(10), Err(Duration::from_secs(4)));
        spent.spend(3, start + Duration::from_secs(12));
        let wait = spent.charge(&budget, start + Duration::from_secs(20));
        assert_eq!(wait, Err(Duration::from_secs(2)));
    }
}
