//! Whether a peer says `close_notify` when it ends its stream, as most do and some do not.
//!
//! One that does can be told from what stands between us. A balancer that is killed has its connections ended by its system, in order if
//! it has read all that came, whatever it still held; and no system says `close_notify`. Where the balancer passes TLS on, only the relay
//! itself can say it.

use std::sync::atomic::{AtomicBool, Ordering};

/// What is known of a peer's last words. Nothing after a start, so that any end in order will do until the peer has said `close_notify`.
#[derive(Debug, Default)]
pub(super) struct Farewell {
    expected: AtomicBool,
    doubted: AtomicBool,
}

impl Farewell {
    /// Takes note of how a stream ended; whether that can have been the peer's own doing.
    pub(super) fn is_credible(&self, said: bool) -> bool {
        if said {
            self.expected.store(true, Ordering::Relaxed);
        }
        let credible = said || !self.expected.load(Ordering::Relaxed);
        if !credible {
            self.doubt();
        }
        credible
    }

    /// What the peer says has to be seen anew.
    pub(super) fn doubt(&self) {
        self.doubted.store(true, Ordering::Relaxed);
    }

    /// An end was not credible, and nothing has shown since what the peer says now: another one may have taken its place.
    pub(super) fn is_doubted(&self) -> bool {
        self.doubted.load(Ordering::Relaxed)
    }

    /// Starts anew: what the peer says at the end of an empty delivery is what it says.
    pub(super) fn forget(&self) {
        self.expected.store(false, Ordering::Relaxed);
        self.doubted.store(false, Ordering::Relaxed);
    }
}
