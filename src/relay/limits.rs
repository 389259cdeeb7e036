//! The bounds of a delivery in one place: how long each step may take, how many bytes may wait, how much a peer may say.

use std::time::Duration;

use super::error::DeliveryError;

/// A relay says nothing. What it says all the same is ignored up to this many bytes.
const IGNORED_MAX: usize = 64 << 10;
/// The bytes that may wait for the socket: one chunk as the service writes them.
pub(super) const OUTPUT_MAX: usize = 64 << 10;

/// How long each step of a delivery may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Turning the relay's name into addresses.
    pub(super) resolve: Duration,
    /// Connecting to one of the addresses; each has its own time.
    pub(super) connect: Duration,
    /// What each address of a name is given before the next one is tried beside it.
    pub(super) head_start: Duration,
    /// The TLS handshake.
    pub(super) handshake: Duration,
    /// With bytes under way: the time without any acknowledgement after which the peer is taken for dead.
    pub(super) dead: Duration,
    /// The time without any progress, though the peer's machine is alive: a reader that does not read, or a receipt that does not come.
    pub(super) slow: Duration,
    /// The most that an empty probe waits for an answer to our `close_notify`.
    pub(super) probe: Duration,
    /// The time that an empty probe then waits for an answer to its half-close.
    pub(super) half_close: Duration,
    /// The time after the peer's `close_notify` in which a reset still makes it void.
    pub(super) after_close_notify: Duration,
    /// The time that a true receipt still has once TCP's acknowledgement could stand in.
    pub(super) stand_in: Duration,
}

impl Limits {
    /// The limits of the daemon.
    pub(super) const STANDARD: Self = Self {
        resolve: Duration::from_secs(30),
        connect: Duration::from_secs(10),
        head_start: Duration::from_millis(250),
        handshake: Duration::from_secs(30),
        dead: Duration::from_mins(1),
        slow: Duration::from_mins(15),
        probe: Duration::from_mins(2),
        half_close: Duration::from_secs(3),
        after_close_notify: Duration::from_secs(1),
        stand_in: Duration::from_secs(1),
    };
}

/// Counts what a peer says where a relay is silent.
#[derive(Debug, Default)]
pub(super) struct Ignored(usize);

impl Ignored {
    pub(super) fn count(&mut self, bytes: usize) -> Result<(), DeliveryError> {
        self.0 += bytes;
        if self.0 > IGNORED_MAX {
            return Err(DeliveryError::Talks { bound: IGNORED_MAX });
        }
        Ok(())
    }
}
