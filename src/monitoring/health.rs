//! Whether the collector is as it should be, by its progress.

use std::borrow::Cow;

use serde::Serialize;

use super::Monitor;
use super::service::{Seen, ServiceMonitor};
use super::state::State;
use crate::config::LeftOut;

/// What is not as it should be, a line each; nothing where all is.
#[derive(Debug, Default, Serialize)]
pub struct Health {
    /// Loops that do not turn: a restart may help.
    pub live: Vec<String>,
    /// Files of inputs that are left out; services that have not signed in, cannot reach a relay, or cannot write their state.
    pub ready: Vec<String>,
    /// Services that have not advanced for long though a window was due, or that are not run; and what is not live.
    pub healthy: Vec<String>,
}

impl Monitor {
    /// What is not as it should be now.
    pub fn health(&self) -> Health {
        let watched = self.watched();
        Health::of(&watched.seen(), &watched.left_out)
    }
}

impl Health {
    pub(super) fn of(services: &[(&ServiceMonitor, Seen)], left_out: &[LeftOut]) -> Self {
        let mut health = Health::default();
        let mistakes = left_out.iter().flat_map(|file| file.mistakes.iter());
        let left_out = mistakes.map(|mistake| format!("left out: {mistake}"));
        health.ready.extend(left_out);
        for (service, seen) in services {
            let line = |what: &str| format!("{} {}: {what}", service.input.name, service.name);
            if seen.hangs {
                health.live.push(line("its loop has not turned for hours"));
            }
            if let Some(obstacle) = obstacle(seen) {
                health.ready.push(line(&obstacle));
            }
            if seen.state == State::NotRunning {
                health.healthy.push(line("not running"));
            } else if let Some(ahead) = seen.ahead {
                let minutes = ahead.num_minutes();
                health.healthy.push(line(&format!(
                    "the cursor is {minutes} min ahead of now, so nothing is collected: set it back by `state set {} --cursor TIME`",
                    service.name
                )));
            } else if seen.stalled {
                let minutes = seen.due.unwrap_or_default().as_secs() / 60;
                let state = seen.state.text();
                health.healthy.push(line(&format!(
                    "no progress for {minutes} min though a window is due ({state})"
                )));
            }
        }
        health.healthy.extend(health.live.iter().cloned());
        health
    }
}

/// What keeps a service from working at this instant.
fn obstacle(seen: &Seen) -> Option<Cow<'static, str>> {
    let obstacle = match seen.state {
        State::NotRunning => "not running",
        State::RelayDown => {
            let outputs = seen.down.join(", ");
            return Some(format!("a relay is not reached: {outputs}").into());
        }
        State::Refused => "refused by the reporting service or the tenant's directory",
        _ if seen.unwritable => "its state cannot be read or written",
        State::Starting => "starting",
        _ if seen.unheard => "not signed in, or not answered yet",
        _ => return None,
    };
    Some(obstacle.into())
}
