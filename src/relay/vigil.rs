//! Whether a peer that keeps us waiting is slow, which is its right, or gone.
//!
//! `TCP_USER_TIMEOUT` cannot tell: since Linux 5.11 it also ends a connection whose peer is alive and only does not read
//! for a while (zero window), and it takes the place of the keepalive count on an idle one. So this watches instead what the
//! peer acknowledges. Keepalive covers the connection with nothing under way.

use std::time::Duration;

use tokio::time::Instant;

use super::error::DeliveryError;
use super::limits::Limits;
use super::socket::Condition;

/// With a closed window, the peer has missed so many questions that it is not there any more (the last may still be on its way).
const PROBES_MISSED: u8 = 3;

/// Watches the progress of what was written.
#[derive(Debug)]
pub(super) struct Vigil {
    acknowledged: u64,
    since: Instant,
}

impl Vigil {
    /// A vigil that starts with `acknowledged` bytes, in all of the connection's life.
    pub(super) fn start(acknowledged: u64, now: Instant) -> Self {
        Self {
            acknowledged,
            since: now,
        }
    }

    /// Takes note of how far the peer is.
    ///
    /// # Errors
    /// The peer is dead (nothing of what is under way gets acknowledged), or has read nothing for too long.
    pub(super) fn note(
        &mut self,
        acknowledged: u64,
        outstanding: usize,
        condition: &Condition,
        now: Instant,
        limits: &Limits,
    ) -> Result<(), DeliveryError> {
        if acknowledged != self.acknowledged {
            *self = Self::start(acknowledged, now);
        }
        let stalled = now - self.since;
        let unheard = condition.in_flight || condition.unanswered_probes >= PROBES_MISSED;
        if unheard && stalled >= limits.dead && condition.silence >= limits.dead {
            return Err(DeliveryError::Dead {
                after: condition.silence,
                outstanding,
            });
        }
        if stalled >= limits.slow {
            return Err(DeliveryError::Stalled {
                after: stalled,
                outstanding,
            });
        }
        Ok(())
    }

    /// How long to wait before the next look.
    pub(super) fn interval(limits: &Limits) -> Duration {
        (limits.dead / 60).max(Duration::from_millis(10))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Looks once, `stalled` seconds after the last progress, at a peer last heard `silence` seconds ago.
    fn verdict(stalled: u32, silence: u32, in_flight: bool, unanswered_probes: u8) -> String {
        let start = Instant::now();
        let condition = Condition {
            in_flight,
            unanswered_probes,
            silence: SECOND * silence,
            since_data: Duration::ZERO,
            round_trip: Duration::ZERO,
            ended_by_peer: false,
        };
        let mut vigil = Vigil::start(7, start);
        match vigil.note(
            7,
            5,
            &condition,
            start + SECOND * stalled,
            &Limits::STANDARD,
        ) {
            Ok(()) => "wait".to_owned(),
            Err(DeliveryError::Dead { .. }) => "dead".to_owned(),
            Err(DeliveryError::Stalled { .. }) => "stalled".to_owned(),
            Err(other) => other.to_string(),
        }
    }

    #[test]
    fn bytes_under_way_that_nobody_acknowledges_mean_a_dead_peer() {
        assert_eq!(verdict(59, 59, true, 0), "wait");
        assert_eq!(verdict(60, 60, true, 0), "dead");
    }

    #[test]
    fn a_connection_that_was_idle_before_is_given_the_same_time() {
        assert_eq!(verdict(1, 300, true, 0), "wait");
    }

    #[test]
    fn a_peer_that_answers_but_does_not_read_is_slow_for_a_quarter_of_an_hour() {
        assert_eq!(verdict(600, 119, false, 1), "wait");
        assert_eq!(verdict(600, 5, true, 0), "wait");
        assert_eq!(verdict(900, 5, false, 0), "stalled");
    }

    #[test]
    fn a_peer_that_dies_with_its_window_closed_is_noticed() {
        assert_eq!(verdict(300, 90, false, 3), "dead");
    }

    #[test]
    fn progress_starts_the_time_anew() {
        let start = Instant::now();
        let quiet = Condition {
            in_flight: false,
            unanswered_probes: 0,
            silence: Duration::ZERO,
            since_data: Duration::ZERO,
            round_trip: Duration::ZERO,
            ended_by_peer: false,
        };
        let mut vigil = Vigil::start(0, start);
        for minute in 1..60_u64 {
            let now = start + SECOND * 60 * u32::try_from(minute).unwrap();
            vigil
                .note(minute, 1, &quiet, now, &Limits::STANDARD)
                .unwrap();
        }
    }
}
