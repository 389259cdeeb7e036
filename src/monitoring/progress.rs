//! How far each service is, in the log, while there is much to catch up on.

use std::sync::Arc;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use tokio::time::sleep;
use tracing::info;

use super::Monitor;
use super::state::State;
use crate::length::Length;

/// A backlog that is gone by then is not spoken of.
const FIRST: Duration = Duration::from_secs(10);

/// How often is told, in the first minutes and after them: a backlog may take days.
const OFTEN: Duration = Duration::from_secs(30);
const SELDOM: Duration = Duration::from_mins(5);
const OFTEN_TIMES: u32 = 20;

/// Tells it for as long as it is polled.
pub async fn tell(monitor: Arc<Monitor>) {
    let mut times = 0;
    sleep(FIRST).await;
    loop {
        let told = tell_once(&monitor);
        times = if told { times + 1 } else { 0 };
        sleep(if times > OFTEN_TIMES { SELDOM } else { OFTEN }).await;
    }
}

/// Whether there was anything to tell.
fn tell_once(monitor: &Monitor) -> bool {
    let mut told = false;
    let watched = monitor.watched();
    for (service, seen) in watched.seen() {
        if seen.state != State::CatchingUp {
            continue;
        }
        let left = seen.left.and_then(|left| TimeDelta::from_std(left).ok());
        let end = left.and_then(|left| Utc::now().checked_add_signed(left));
        let end = end.map(|end| end.format("%Y-%m-%dT%H:%M:%SZ").to_string());
        let behind = seen.lag.map(|lag| Length(lag).to_string());
        info!(
            input = service.input.name,
            service = service.name,
            cursor = seen.cursor.map(tracing::field::display),
            behind,
            left = left.map(|left| Length(left).to_string()),
            caught_up_at = end,
            "catching up"
        );
        told = true;
    }
    told
}
