//! What is known of one address: pure. Endings of connections go in; out comes what may be done there now.
//!
//! An address is a configured name and port, not an IP. A connection to an unknown address carries no records: an empty probe comes first.
//!
//! - A probe that ends as **read** is learnt at once, and from then on nothing weaker confirms records there.
//! - Weaker endings are counted until there are enough of them. A stronger one discards the count.
//! - At an address that has given receipts, a weaker way is learnt only after ten probes over an hour.
//! - After a delivery without a receipt, a probe comes before the next records; the wait before it doubles, up to five minutes.
//!
//! Three rules are about a relay or a balancer that dies at the wrong moment. A probe that cannot connect discards the count of weak
//! endings: a relay that is killed again and again ends its connections just so, but it also refuses the one after. Every third probe is
//! more patient, up to a minute and a half: a relay that is slow at first is not taken for one that answers only a half-close. And after
//! every second delivery without a receipt an extra probe is made, whatever the last one gave: a balancer that gives connections to two
//! relays by turns would else give all probes to one of them and all records to the other.
//!
//! The time between two probes counts up to a limit only, so neither a pause of the collector nor a clock that jumps makes up hours.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::{Ending, Receipt};
use crate::config::ReceiptPolicy;

/// What a probe waits for an answer to our `close_notify`: usually, and every third time.
const PATIENCE: Duration = Duration::from_secs(12);
const LONGER_PATIENCE: [Duration; 2] = [Duration::from_secs(30), Duration::from_secs(90)];

/// How many probes must have ended alike, and over which time, before that is learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Enough(u32, Duration);

const ENDED: Enough = Enough(2, Duration::ZERO);
const RESET: Enough = Enough(2, Duration::from_secs(2));
const HALF_CLOSED: Enough = Enough(3, Duration::from_mins(2));
const SILENT: Enough = Enough(5, Duration::from_mins(10));
/// The same for a way that is weaker than what was learnt.
const WEAKER: Enough = Enough(10, Duration::from_hours(1));

/// The most that the time between two probes counts; more has passed while the collector was down, or the clock has jumped.
const GAP_MAX: Duration = Duration::from_mins(8);
/// The pause after a probe that ended in a reset: such endings count only if they are seconds apart.
const AFTER_RESET: Duration = Duration::from_secs(3);
/// The pause after a silent probe, at first and after ten.
const AFTER_SILENCE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];
/// The longest pause between probes that do not help, and before a delivery where the last ones got no receipt.
const PAUSE_MAX: Duration = Duration::from_mins(5);
/// So many probes of an unknown address follow each other without a pause.
const AT_ONCE: u32 = 6;

/// What is known of one address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Knowledge {
    /// What was learnt last.
    learnt: Option<Learnt>,
    /// Probes since then, or since a probe has last ended as well as that.
    probes: u32,
    /// Such probes by their ending.
    ended: Tally,
    reset: Tally,
    half_closed: Tally,
    /// How many of these gave `close_notify` after the half-close.
    half_closed_read: u32,
    silent: Tally,
    /// Deliveries in a row that got no receipt.
    unconfirmed: u32,
    /// When the last of these failed.
    failed: Option<DateTime<Utc>>,
    /// A probe must come before the next records.
    doubted: bool,
    /// And another one after it.
    extra: bool,
    /// Neither a probe nor records before this instant.
    not_before: Option<DateTime<Utc>>,
}

/// How the relay at an address confirms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Learnt {
    /// The kind of its receipts.
    pub receipt: Receipt,
    /// It answers only a half-close.
    pub half_close: bool,
    /// It resets after its `close_notify`.
    pub resets: bool,
}

/// Probes that ended alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Tally {
    count: u32,
    /// Seconds from the begin of the first to the end of the last.
    seconds: u64,
    last: Option<DateTime<Utc>>,
}

/// What may be done at an address now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// Deliver records, which these terms confirm.
    Deliver(Terms),
    /// Make an empty probe, which waits so long for an answer to our `close_notify`.
    Probe(Duration),
    /// Neither, for so long.
    Wait(Duration),
}

/// How a delivery ends, and what confirms it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Half-close together with our `close_notify`.
    pub half_close: bool,
    /// The weakest ending that confirms; [`Ending::Silent`] stands for TCP's acknowledgement.
    pub weakest: Ending,
}

/// Something was learnt that an operator has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// What was known before.
    pub before: Option<Learnt>,
    /// What is known now: nothing, where TCP's acknowledgement stood in and the relay has now answered.
    pub after: Option<Learnt>,
}

impl Change {
    /// Whether the relay's receipts are weaker than before.
    pub fn is_worse(&self) -> bool {
        match (self.before, self.after) {
            (Some(before), Some(after)) => after.receipt < before.receipt,
            _ => false,
        }
    }
}

impl Terms {
    /// Nothing confirms but the peer's `close_notify`.
    pub const STRICT: Terms = Terms {
        half_close: false,
        weakest: Ending::Read,
    };

    /// Anything confirms: what the relay sends, or TCP's acknowledgement.
    pub const ANY: Terms = Terms {
        half_close: false,
        weakest: Ending::Silent,
    };

    /// The receipt that an ending is on these terms.
    pub fn receipt(&self, ending: Ending) -> Option<Receipt> {
        (ending <= self.weakest).then_some(match ending {
            Ending::Read => Receipt::Read,
            Ending::Ended | Ending::Reset => Receipt::Ended,
            Ending::Silent => Receipt::StoodIn,
        })
    }
}

impl Knowledge {
    /// What was learnt; `None` while that is open.
    pub fn learnt(&self) -> Option<Learnt> {
        self.learnt
    }

    /// How many deliveries in a row got no receipt.
    pub fn unconfirmed_in_a_row(&self) -> u32 {
        self.unconfirmed
    }

    /// The probes that were silent, and over which time; for messages.
    pub fn silence(&self) -> (u32, Duration) {
        (self.silent.count, Duration::from_secs(self.silent.seconds))
    }

    /// What may be done under a policy.
    pub fn permit(&self, policy: ReceiptPolicy, now: DateTime<Utc>) -> Permit {
        if policy == ReceiptPolicy::Tcp {
            return Permit::Deliver(self.terms(policy).unwrap_or(Terms::ANY));
        }
        let wait = self.not_before.map_or(TimeDelta::zero(), |at| at - now);
        let wait = wait.to_std().unwrap_or_default();
        match self.terms(policy) {
            // A longer one is none of ours: the clock was set back.
            _ if !wait.is_zero() && wait <= PAUSE_MAX => Permit::Wait(wait),
            Some(terms) if !self.doubted && !self.extra => Permit::Deliver(terms),
            _ => Permit::Probe(self.patience()),
        }
    }

    /// What confirms under a policy, if what is known suffices for it.
    pub fn terms(&self, policy: ReceiptPolicy) -> Option<Terms> {
        if policy == ReceiptPolicy::Tcp {
            let half_close = self.learnt.is_some_and(|learnt| learnt.half_close);
            return Some(Terms {
                half_close,
                ..Terms::ANY
            });
        }
        let Some(learnt) = self.learnt else {
            // By choice, one probe shows how the relay ends.
            let seen = [self.reset, self.ended, self.half_closed].map(|tally| tally.count > 0);
            let weakest = match seen {
                [true, ..] => Ending::Reset,
                [false, ..] => Ending::Ended,
            };
            return (policy == ReceiptPolicy::Ended && seen != [false; 3]).then_some(Terms {
                half_close: seen == [false, false, true],
                weakest,
            });
        };
        let half_close = learnt.half_close;
        let (allowed, weakest) = match learnt.receipt {
            Receipt::Read => (true, Ending::Read),
            Receipt::Ended if learnt.resets => {
                (policy != ReceiptPolicy::CloseNotify, Ending::Reset)
            }
            Receipt::Ended => (policy != ReceiptPolicy::CloseNotify, Ending::Ended),
            Receipt::StoodIn => (
                matches!(policy, ReceiptPolicy::StandIn | ReceiptPolicy::Ended),
                Ending::Silent,
            ),
        };
        allowed.then_some(Terms {
            half_close,
            weakest,
        })
    }

    fn patience(&self) -> Duration {
        match (self.probes % 3, self.probes / 3) {
            (2, 0) => LONGER_PATIENCE[0],
            (2, _) => LONGER_PATIENCE[1],
            _ => PATIENCE,
        }
    }

    /// A probe has ended, after so long; its TLS handshake was complete. `half_closed` tells whether the answer came only after we had
    /// half-closed a stream of which `close_notify` should have been enough.
    pub fn probed(
        &mut self,
        ending: Ending,
        half_closed: bool,
        took: Duration,
        now: DateTime<Utc>,
    ) -> Option<Change> {
        self.extra = false;
        self.probes = self.probes.saturating_add(1);
        if ending != Ending::Silent {
            self.silent = Tally::default();
        }
        match (ending, half_closed) {
            (Ending::Read, false) => return self.learn(Some(Learnt::READ)),
            (Ending::Silent, _) => self.silent.add(took, now),
            (Ending::Reset, _) => self.reset.add(took, now),
            (Ending::Ended, false) => self.ended.add(took, now),
            (Ending::Ended | Ending::Read, true) => {
                self.half_closed.add(took, now);
                self.half_closed_read += u32::from(ending == Ending::Read);
            }
        }
        self.not_before = Some(now + self.pause(ending));
        let stood_in = self
            .learnt
            .is_some_and(|known| known.receipt == Receipt::StoodIn);
        if stood_in && ending != Ending::Silent {
            // It answers after all: what it gives is learnt as at a new address.
            let change = self.change(None);
            self.learnt = None;
            return change;
        }
        let learnt = self.candidates().find_map(|(learnt, tally, own)| {
            let needed = match self.learnt {
                Some(known) if known == learnt && !self.doubted => return None,
                Some(known) if known == learnt => Enough(1, Duration::ZERO),
                Some(known) if learnt.receipt < known.receipt => WEAKER,
                _ => own,
            };
            tally.is_enough(needed).then_some(learnt)
        });
        learnt.and_then(|learnt| self.learn(Some(learnt)))
    }

    /// What the counted endings would mean, the strongest first, and how many of them that takes.
    fn candidates(&self) -> impl Iterator<Item = (Learnt, Tally, Enough)> {
        let ended = Learnt {
            receipt: Receipt::Ended,
            half_close: false,
            resets: false,
        };
        let all_read = self.half_closed_read == self.half_closed.count;
        let half_closed = Learnt {
            receipt: if all_read {
                Receipt::Read
            } else {
                Receipt::Ended
            },
            half_close: true,
            resets: false,
        };
        let reset = Learnt {
            resets: true,
            ..ended
        };
        let silent = Learnt {
            receipt: Receipt::StoodIn,
            ..ended
        };
        [
            (ended, self.ended, ENDED),
            (reset, self.reset, RESET),
            (half_closed, self.half_closed, HALF_CLOSED),
            (silent, self.silent, SILENT),
        ]
        .into_iter()
    }

    /// A probe could not connect, or its connection broke without an answer.
    pub fn probe_failed(&mut self) {
        if self.learnt.is_none() {
            (self.ended, self.reset) = Default::default();
        }
    }

    /// A delivery has got its receipt.
    pub fn confirmed(&mut self, receipt: Receipt, half_closed: bool) -> Option<Change> {
        (self.unconfirmed, self.failed) = (0, None);
        match (receipt, self.learnt) {
            (Receipt::Read, Some(known)) if known.receipt == Receipt::Read => None,
            // Whether it needs the half-close, probes show.
            (Receipt::Read, None) if half_closed => None,
            (Receipt::Read, _) => self.learn(Some(Learnt {
                half_close: half_closed,
                ..Learnt::READ
            })),
            (Receipt::Ended, Some(known)) if known.receipt == Receipt::StoodIn => {
                let change = self.change(None);
                self.learnt = None;
                change
            }
            _ => None,
        }
    }

    /// A delivery that began at `begun` was ended by us, and got no receipt. Those that failed at the same moment count once.
    pub fn unconfirmed(&mut self, begun: DateTime<Utc>, now: DateTime<Utc>) {
        self.doubted = true;
        if self.failed.is_some_and(|failed| begun <= failed) {
            return;
        }
        self.unconfirmed = self.unconfirmed.saturating_add(1);
        self.failed = Some(now);
        self.not_before = Some(now + doubling(self.unconfirmed - 1));
    }

    fn learn(&mut self, learnt: Option<Learnt>) -> Option<Change> {
        let change = self.change(learnt);
        *self = Knowledge {
            learnt,
            unconfirmed: self.unconfirmed,
            failed: self.failed,
            extra: self.doubted && self.unconfirmed > 0 && self.unconfirmed.is_multiple_of(2),
            ..Knowledge::default()
        };
        change
    }

    fn change(&self, after: Option<Learnt>) -> Option<Change> {
        let before = self.learnt;
        (before != after).then_some(Change { before, after })
    }

    /// The pause after a probe that has not settled anything yet.
    fn pause(&self, ending: Ending) -> Duration {
        let answered = self.ended.count + self.reset.count + self.half_closed.count;
        match ending {
            Ending::Silent => AFTER_SILENCE[usize::from(self.silent.count > 10)],
            _ if self.learnt.is_none() && answered <= AT_ONCE => match ending {
                Ending::Reset => AFTER_RESET,
                _ => Duration::ZERO,
            },
            _ => doubling(answered).max(AFTER_RESET),
        }
    }
}

impl Learnt {
    /// The strongest.
    pub const READ: Learnt = Learnt {
        receipt: Receipt::Read,
        half_close: false,
        resets: false,
    };
}

impl Tally {
    fn add(&mut self, took: Duration, now: DateTime<Utc>) {
        let gap = self
            .last
            .map_or(took, |last| (now - last).to_std().unwrap_or_default());
        self.count = self.count.saturating_add(1);
        self.seconds += gap.min(GAP_MAX).as_secs();
        self.last = Some(now);
    }

    fn is_enough(&self, Enough(count, time): Enough) -> bool {
        self.count >= count && self.seconds >= time.as_secs()
    }
}

/// Nothing, 1 s, 3 s, 7 s, … up to five minutes.
fn doubling(times: u32) -> Duration {
    let seconds = (1_u64 << times.min(16)) - 1;
    Duration::from_secs(seconds).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests;
