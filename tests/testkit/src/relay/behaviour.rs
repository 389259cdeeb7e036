//! What a relay does with a connection.

use std::time::Duration;

/// What a relay does with a connection. Bytes are those read after decryption: the lines, or the gzip that they come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Reads everything and answers a half-close (`close_notify`, FIN or both) with `close_notify` and FIN.
    Normal,
    /// Resets at once.
    Refuse,
    /// Answers the handshake with a fatal alert.
    FailHandshake,
    /// Stops reading after so many bytes, until [`Relay::release`](super::Relay::release); then as normal.
    Stall {
        /// Bytes read before.
        after: u64,
    },
    /// Stops reading after so many bytes, for so long; then as normal.
    Pause {
        /// Bytes read before.
        after: u64,
        /// How long.
        time: Duration,
    },
    /// Resets after so many bytes, wherever in a line that is.
    ResetAfter(u64),
    /// Reads so many bytes, waits until more are there, and closes: the system resets, since data were not read.
    CloseUnread {
        /// Bytes read before.
        after: u64,
    },
    /// Ends in order (`close_notify`, FIN) after so many bytes, and discards what still comes.
    CloseAfter(u64),
    /// Ends in order after so long without data.
    CloseIdle(Duration),
    /// Reads everything and never answers a half-close; the socket stays open.
    NeverAnswer,
    /// Answers a half-close this much later.
    AnswerLate(Duration),
    /// Answers a half-close with a reset.
    ResetOnEnd,
    /// Answers with `close_notify` and then a reset.
    ResetAfterCloseNotify,
    /// Answers with FIN and without `close_notify`.
    JustEnd,
    /// Minds no `close_notify`, only a half-close, and answers with FIN.
    MindHalfClose,
    /// Reads at this rate; otherwise as normal.
    Slow {
        /// The rate.
        bytes_per_second: u32,
    },
}

impl Behaviour {
    /// Whether it comes before anything can be read.
    pub(super) fn is_rebuff(&self) -> bool {
        matches!(self, Behaviour::Refuse | Behaviour::FailHandshake)
    }

    /// The bytes after which something other than reading happens.
    pub(super) fn turning_point(&self) -> u64 {
        match self {
            Behaviour::Stall { after }
            | Behaviour::Pause { after, .. }
            | Behaviour::CloseUnread { after } => *after,
            Behaviour::ResetAfter(bytes) | Behaviour::CloseAfter(bytes) => *bytes,
            _ => u64::MAX,
        }
    }
}
