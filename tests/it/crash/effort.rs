//! How long to try, and the seed that all chance comes from.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rand::SeedableRng;
use rand::rngs::StdRng;

/// How long to try.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    /// Runs to make; `None` in the short form.
    runs: Option<u32>,
    seed: u64,
}

impl Effort {
    /// As the variables `CRASH_RUNS` and `CRASH_SEED` say; without a seed it is the present. Prints the seed, to run it again.
    #[expect(clippy::print_stderr, reason = "a test shows it where it fails")]
    pub(super) fn of_this_run(test: &str) -> Self {
        let number = |name: &str| {
            let value = std::env::var(name).ok()?;
            Some(
                value
                    .parse::<u64>()
                    .unwrap_or_else(|_| panic!("{name} is no number: {value}")),
            )
        };
        let present = || {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            u64::from(since.subsec_nanos()) ^ since.as_secs()
        };
        let effort = Effort {
            runs: number("CRASH_RUNS").map(|runs| u32::try_from(runs).unwrap()),
            seed: number("CRASH_SEED").unwrap_or_else(present),
        };
        eprintln!("{test}: CRASH_SEED={}", effort.seed);
        effort
    }

    /// Whether everything is to be tried, and not a sample.
    pub(super) fn is_long(self) -> bool {
        self.runs.is_some()
    }

    /// The runs to make, `short` of them in the short form.
    pub(super) fn runs(self, short: u32) -> u32 {
        self.runs.unwrap_or(short)
    }

    /// `short`, or `long` in the long form.
    pub(super) fn time(self, short: Duration, long: Duration) -> Duration {
        if self.is_long() { long } else { short }
    }

    /// The chance of one run: the same for the same seed, whatever the runs before it drew.
    pub(super) fn chance(self, run: u32) -> StdRng {
        StdRng::seed_from_u64(self.seed ^ u64::from(run) << 40)
    }

    /// The seed of the whole.
    pub(super) fn seed(self) -> u64 {
        self.seed
    }
}
