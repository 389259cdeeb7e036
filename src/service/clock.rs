//! The present, as the earlier of two clocks tells it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tracing::{error, info};

use crate::source::{Client, DIFFERENCE_MAX};

/// Our clock and the reporting service's.
#[derive(Clone)]
pub(super) struct Clock {
    client: Client,
    differs: bool,
    /// The instant that it does not go past.
    held: Option<DateTime<Utc>>,
}

impl Clock {
    pub(super) fn new(client: Client) -> Self {
        Clock {
            client,
            differs: false,
            held: None,
        }
    }

    /// From now on stays at this instant: what becomes due later is not.
    pub(super) fn hold(&mut self) {
        self.held = Some(Utc::now());
    }

    /// Whether it is held.
    pub(super) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// The earlier of the two, but no later than where it is held: a clock that is ahead must not commit empty windows of the future.
    pub(super) fn now(&self) -> DateTime<Utc> {
        let ours = Utc::now();
        let ours = self.held.map_or(ours, |held| held.min(ours));
        self.client
            .service_time()
            .map_or(ours, |theirs| theirs.min(ours))
    }

    /// The service's clock, by which it refuses what is too old; ours until the service has answered.
    pub(super) fn theirs(&self) -> DateTime<Utc> {
        self.client.service_time().unwrap_or_else(Utc::now)
    }

    /// Whether the service's clock holds us back, and has not been heard for as long as `patience`: it may be right again by now.
    pub(super) fn is_in_doubt(&self, patience: Duration) -> bool {
        let behind = Utc::now() - self.theirs() > DIFFERENCE_MAX;
        let heard = self.client.service_time_age();
        behind && heard.is_some_and(|age| age >= patience)
    }

    /// Tells an operator when the two have come to differ much, and when they no longer do.
    pub(super) fn compare(&mut self) {
        let Some(theirs) = self.client.service_time() else {
            return;
        };
        let ours = Utc::now();
        let differs = (ours - theirs).abs() > DIFFERENCE_MAX;
        if differs && !self.differs {
            error!(
                %ours, %theirs, minutes = (ours - theirs).num_minutes(),
                "this machine's clock differs from the reporting service's: set it (NTP); until then the earlier one is gone by"
            );
        } else if self.differs && !differs {
            info!("this machine's clock and the reporting service's agree again");
        }
        self.differs = differs;
    }
}
