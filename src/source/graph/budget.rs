//! Graph's budget of requests, which the tenant's tools share: so many in any five minutes, over restarts and over all commands.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::super::Pending;
use super::super::http::Charge;
use crate::blocking::DISK;

/// The budget is so many requests in any period of this length (documented).
pub const PERIOD: Duration = Duration::from_mins(5);

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
}

impl Budget {
    /// At most `most` requests in any five minutes, whose times `stamps` keeps.
    pub fn new(stamps: Arc<dyn Stamps>, most: u32) -> Self {
        Budget {
            stamps,
            most,
            unnoted: Mutex::default(),
        }
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
