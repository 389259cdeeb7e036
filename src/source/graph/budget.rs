//! Graph's budget of requests, which the tenant's tools share: so many in any five minutes, over restarts and over all commands.

use std::io;
use std::sync::{Arc, Mutex as SyncMutex, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::super::Pending;
use super::super::http::Charge;
use crate::blocking::DISK;

/// The budget is so many requests in any period of this length (documented).
pub const PERIOD: Duration = Duration::from_mins(5);

/// A command whose requests cannot be noted makes so many at most.
pub const UNNOTED_MAX: usize = 3;

/// Where the times of requests are kept for all who make them. Its calls block on the disk.
pub trait Stamps: Send + Sync {
    /// Notes a request now, if fewer than `most` were made in the [`PERIOD`] before; else tells how long to wait.
    ///
    /// # Errors
    /// If the times cannot be kept.
    fn charge(&self, most: u32) -> io::Result<Option<Duration>>;
}

/// The budget of one tenant.
pub struct Budget {
    stamps: Arc<dyn Stamps>,
    most: u32,
    /// The requests that could not be noted.
    unnoted: Mutex<Vec<Instant>>,
    /// Whether it is a command's, which makes [`UNNOTED_MAX`] requests at most that cannot be noted.
    of_command: bool,
    /// Why the last of them could not be noted.
    trouble: SyncMutex<Option<String>>,
    /// Cancelled once a command may make no more.
    spent: CancellationToken,
}

impl Budget {
    /// At most `most` requests in any five minutes, whose times `stamps` keeps.
    pub fn new(stamps: Arc<dyn Stamps>, most: u32) -> Self {
        Budget {
            stamps,
            most,
            unnoted: Mutex::default(),
            of_command: false,
            trouble: SyncMutex::default(),
            spent: CancellationToken::new(),
        }
    }

    /// The same for a command: of requests that cannot be noted it makes [`UNNOTED_MAX`] at most, and waits for ever before the next one.
    #[must_use]
    pub fn of_command(self) -> Self {
        Budget {
            of_command: true,
            ..self
        }
    }

    /// Why requests could not be noted, if one could not.
    pub fn trouble(&self) -> Option<String> {
        let trouble = self.trouble.lock();
        trouble.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Resolves once a command waits for ever.
    pub async fn spent(&self) {
        self.spent.cancelled().await;
    }

    async fn wait(&self) {
        // One at a time, in the order in which they came.
        let mut unnoted = self.unnoted.lock().await;
        loop {
            let (stamps, most) = (Arc::clone(&self.stamps), self.most);
            let charged = DISK.run(move || stamps.charge(most)).await;
            let wait = match charged {
                Ok(None) => return,
                Ok(Some(wait)) => wait,
                Err(error) if self.of_command => {
                    let trouble = self.trouble.lock();
                    *trouble.unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
                    if unnoted.len() < UNNOTED_MAX {
                        unnoted.push(Instant::now());
                        return;
                    }
                    self.spent.cancel();
                    std::future::pending().await
                }
                Err(error) => {
                    warn!(%error, "the request to Microsoft Graph cannot be noted in the state; others do not know of it");
                    unnoted.retain(|at| at.elapsed() < PERIOD);
                    match unnoted.first() {
                        Some(oldest) if unnoted.len() >= most as usize => {
                            PERIOD.saturating_sub(oldest.elapsed())
                        }
                        _ => {
                            unnoted.push(Instant::now());
                            return;
                        }
                    }
                }
            };
            sleep(wait.max(Duration::from_millis(10))).await;
        }
    }
}

impl Charge for Budget {
    fn charge(&self) -> Pending<'_, ()> {
        Box::pin(self.wait())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Unwritable;

    impl Stamps for Unwritable {
        fn charge(&self, _: u32) -> io::Result<Option<Duration>> {
            Err(io::Error::other("read-only"))
        }
    }

    #[tokio::test]
    async fn a_command_makes_three_requests_that_cannot_be_noted() {
        let budget = Budget::new(Arc::new(Unwritable), 90).of_command();
        for _ in 0..UNNOTED_MAX {
            budget.wait().await;
        }
        tokio::select! {
            () = budget.wait() => panic!("a fourth request"),
            () = budget.spent() => {}
        }
        assert_eq!(budget.trouble().as_deref(), Some("read-only"));
    }
}
