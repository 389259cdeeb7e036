//! This machine's clock, and chance: the two things that tests replace to run a service in simulated time.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::Instant;

/// This machine's clock. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct WallClock(Option<Arc<Mutex<Simulated>>>);

/// A clock that goes as Tokio's does.
#[derive(Debug)]
struct Simulated {
    base: DateTime<Utc>,
    since: Instant,
}

impl WallClock {
    /// One that stands at `base` now and goes as Tokio's clock does.
    pub fn simulated(base: DateTime<Utc>) -> Self {
        let since = Instant::now();
        WallClock(Some(Arc::new(Mutex::new(Simulated { base, since }))))
    }

    /// The present.
    pub fn now(&self) -> DateTime<Utc> {
        let Some(simulated) = &self.0 else {
            return Utc::now();
        };
        let simulated = simulated.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = TimeDelta::from_std(simulated.since.elapsed()).unwrap_or_default();
        simulated.base + passed
    }

    /// Sets a simulated clock forward or back.
    pub fn set(&self, by: TimeDelta) {
        if let Some(simulated) = &self.0 {
            let mut simulated = simulated.lock().unwrap_or_else(PoisonError::into_inner);
            simulated.base += by;
        }
    }
}

/// Random numbers, as for the jitter of waits. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Chance(Option<Arc<Mutex<StdRng>>>);

impl Chance {
    /// The same numbers each time for the same seed.
    pub fn seeded(seed: u64) -> Self {
        Chance(Some(Arc::new(Mutex::new(StdRng::seed_from_u64(seed)))))
    }

    /// A number from 0 to 1.
    pub fn share(&self) -> f64 {
        match &self.0 {
            Some(seeded) => seeded
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .random(),
            None => rand::random(),
        }
    }
}
