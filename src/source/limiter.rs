//! The tenant's shared budget of requests: so many turns a second, and none while the service has asked for a pause.
//!
//! One [`Limiter`] is shared by all services of an input, and is the only part of the client that waits: for a turn,
//! never because something failed. Turns are evenly spaced (a burst of one), so that no second, nor any longer period with
//! a budget of its own, ever sees more requests than it may. They are given in the order in which they were asked for.
//!
//! All waiting is on Tokio's clock, whose timers count milliseconds: budgets of more than about a thousand a second are
//! kept, and not always used up.

use std::num::NonZeroU32;
use std::ops::Add;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::{Instant, sleep, sleep_until};

use crate::config::RequestsLimit;

/// The longest pause that is obeyed: a `Retry-After` beyond it is taken for a mistake.
pub const LONGEST_PAUSE: Duration = Duration::from_hours(1);

/// A budget of requests, and the pause that the service asked for.
#[derive(Debug)]
pub struct Limiter {
    /// Held by the one that is next, so that turns come in order.
    queue: tokio::sync::Mutex<()>,
    turns: RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Moment>>,
    pause: Mutex<Option<Pause>>,
}

/// A pause that the service asked for, over or not.
#[derive(Clone, Copy, Debug)]
struct Pause {
    begun: Instant,
    end: Instant,
}

/// How long a turn was waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waited {
    /// Because of the budget, and of those who came before.
    pub budget: Duration,
    /// Because the service had asked for a pause.
    pub pause: Duration,
}

impl Limiter {
    /// A budget of `per_second` requests a second that also keeps within each of `limits`.
    pub fn new(per_second: NonZeroU32, limits: &[RequestsLimit]) -> Self {
        // Turns are evenly spaced, so the widest of the spaces keeps all the budgets at once.
        let space = limits
            .iter()
            .map(|limit| space(limit.period, limit.number_of_requests))
            .fold(space(Duration::from_secs(1), per_second), Duration::max);
        let quota = Quota::with_period(space)
            .unwrap_or_else(|| Quota::per_second(per_second).allow_burst(NonZeroU32::MIN));
        Self {
            queue: tokio::sync::Mutex::default(),
            turns: RateLimiter::direct_with_clock(quota, TokioClock),
            pause: Mutex::default(),
        }
    }

    /// Waits for a turn: one request may be sent now. Cancel safe; who stops waiting loses the place in the queue.
    pub async fn turn(&self) -> Waited {
        let begun = Instant::now();
        let _place = self.queue.lock().await;
        loop {
            let pause = *self.pause_asked();
            if let Some(pause) = pause.filter(|pause| pause.end > Instant::now()) {
                sleep_until(pause.end).await; // and look again: the pause may have grown
                continue;
            }
            match self.turns.check() {
                Ok(()) => return self.waited_since(begun),
                Err(not_until) => sleep(not_until.wait_time_from(TokioClock.now())).await,
            }
        }
    }

    /// Gives no turn for `duration` from now (at most [`LONGEST_PAUSE`]); a longer pause that is under way stays as it is.
    pub fn pause(&self, duration: Duration) {
        let now = Instant::now();
        let end = now + duration.min(LONGEST_PAUSE);
        let mut pause = self.pause_asked();
        *pause = Some(match *pause {
            Some(pause) if pause.end > now => Pause {
                end: pause.end.max(end),
                ..pause
            },
            _ => Pause { begun: now, end },
        });
    }

    /// What is left of the pause; `None` when there is none.
    pub fn paused(&self) -> Option<Duration> {
        let pause = *self.pause_asked();
        let left = pause?.end.duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    /// Of the pauses there were since `begun`, the last is known; an earlier one counts as the budget's.
    fn waited_since(&self, begun: Instant) -> Waited {
        let now = Instant::now();
        let pause = self.pause_asked().map_or(Duration::ZERO, |pause| {
            pause.end.min(now).duration_since(pause.begun.max(begun))
        });
        Waited {
            budget: (now - begun).saturating_sub(pause),
            pause,
        }
    }

    fn pause_asked(&self) -> std::sync::MutexGuard<'_, Option<Pause>> {
        self.pause.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time between two turns, rounded up: rounded down, one turn too many would fit into the period.
fn space(period: Duration, turns: NonZeroU32) -> Duration {
    let nanos = period.as_nanos().div_ceil(u128::from(turns.get()));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX / 4))
}

/// Tokio's clock in governor's terms, so that the budget and the waiting for it go by the same clock.
#[derive(Clone, Copy, Debug)]
struct TokioClock;

impl Clock for TokioClock {
    type Instant = Moment;

    fn now(&self) -> Moment {
        Moment(Instant::now())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Moment(Instant);

impl Add<Nanos> for Moment {
    type Output = Self;

    fn add(self, nanos: Nanos) -> Self {
        Self(self.0 + Duration::from(nanos))
    }
}

impl Reference for Moment {
    fn duration_since(&self, earlier: Self) -> Nanos {
        self.0.saturating_duration_since(earlier.0).into()
    }

    fn saturating_sub(&self, nanos: Nanos) -> Self {
        Self(self.0.checked_sub(nanos.into()).unwrap_or(self.0))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn limiter(per_second: u32, limits: &[(u64, u32)]) -> Limiter {
        let limits: Vec<_> = limits
            .iter()
            .map(|&(seconds, requests)| RequestsLimit {
                period: Duration::from_secs(seconds),
                number_of_requests: NonZeroU32::new(requests).unwrap(),
            })
            .collect();
        Limiter::new(NonZeroU32::new(per_second).unwrap(), &limits)
    }

    async fn turns(limiter: &Limiter, count: usize) -> Vec<Duration> {
        let start = Instant::now();
        let mut turns = Vec::new();
        for _ in 0..count {
            limiter.turn().await;
            turns.push(start.elapsed());
        }
        turns
    }

    #[tokio::test(start_paused = true)]
    async fn no_second_sees_more_than_its_turns() {
        for per_second in [1, 3, 7, 250] {
            let limiter = limiter(per_second, &[]);
            let turns = turns(&limiter, 600).await;
            for window in turns.windows(per_second as usize + 1) {
                let spread = window[per_second as usize].saturating_sub(window[0]);
                assert!(spread >= Duration::from_secs(1), "{per_second}: {spread:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_tightest_of_several_budgets_holds() {
        let limiter = limiter(100, &[(300, 100), (60, 60)]);
        let turns = turns(&limiter, 201).await;
        assert!(turns[0].is_zero());
        assert!(turns[100] >= Duration::from_mins(5), "{:?}", turns[100]);
        assert!(turns[200] < Duration::from_secs(601), "{:?}", turns[200]);
    }

    #[tokio::test(start_paused = true)]
    async fn time_without_requests_is_not_saved_up() {
        let limiter = limiter(1, &[]);
        limiter.turn().await;
        sleep(Duration::from_hours(1)).await;
        let turns = turns(&limiter, 3).await;
        assert!(turns[2] >= Duration::from_secs(2), "{turns:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_holds_back_who_already_waits() {
        let limiter = Arc::new(limiter(1, &[]));
        limiter.turn().await;
        let start = Instant::now();
        let waiting = tokio::spawn({
            let limiter = Arc::clone(&limiter);
            async move { limiter.turn().await }
        });
        tokio::task::yield_now().await;
        limiter.pause(Duration::from_secs(30));
        limiter.pause(Duration::from_secs(5));
        assert_eq!(limiter.paused(), Some(Duration::from_secs(30)));
        sleep(Duration::from_secs(20)).await;
        limiter.pause(Duration::from_secs(20));
        let waited = waiting.await.unwrap();
        assert!(start.elapsed() >= Duration::from_secs(40));
        assert_eq!(waited.pause, Duration::from_secs(40));
        assert!(waited.budget < Duration::from_secs(1), "{waited:?}");
        assert_eq!(limiter.paused(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_absurd_pause_is_cut_to_an_hour() {
        let limiter = limiter(100, &[]);
        limiter.pause(Duration::MAX);
        assert_eq!(limiter.paused(), Some(LONGEST_PAUSE));
        assert!(turns(&limiter, 1).await[0] >= LONGEST_PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn turns_are_given_in_order_and_survive_who_gives_up() {
        let limiter = Arc::new(limiter(1, &[]));
        limiter.turn().await;
        let (order, mut given) = tokio::sync::mpsc::unbounded_channel();
        let mut waiting = Vec::new();
        for service in 0..4 {
            let (limiter, order) = (Arc::clone(&limiter), order.clone());
            waiting.push(tokio::spawn(async move {
                limiter.turn().await;
                order.send(service).unwrap();
            }));
            tokio::task::yield_now().await;
        }
        waiting[0].abort();
        waiting[2].abort();
        drop(order);
        let mut got = Vec::new();
        while let Some(service) = given.recv().await {
            got.push(service);
        }
        assert_eq!(got, [1, 3]);
    }
}
