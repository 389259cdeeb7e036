//! What operators are told of an address: what its relay confirms with, and what to do where that is not enough.

use std::time::Duration;

use tracing::{error, info, warn};

use crate::config::ReceiptPolicy;
use crate::error::chain;
use crate::ledger::LedgerError;
use crate::length::Length;
use crate::relay::knowledge::{Change, Learnt};
use crate::relay::{Receipt, Relay};

/// What to do about a relay that answers nothing.
const LET_IT_ANSWER: &str = "check that the relay is not hung, and that nothing between here and it keeps connections open in its place; let its \
     TLS endpoint (plain TCP: the relay) close a connection when its peer has closed it; or accept TCP's acknowledgement with `receipt: tcp`";

/// What is wrong, and what to do.
pub(super) struct Told {
    pub(super) error: String,
    pub(super) action: String,
}

/// Logs what was learnt of the relay's address since the last call, by whatever output; whether that was anything.
pub(super) fn changes(relay: &Relay) -> bool {
    let changes = relay.changes();
    for change in &changes {
        change_of(&relay.address(), *change);
    }
    !changes.is_empty()
}

fn change_of(relay: &str, change: Change) {
    let Some(after) = change.after else {
        info!(
            relay,
            "the relay has given a receipt: TCP's acknowledgement does not stand in for it any more"
        );
        return;
    };
    let (receipt, means) = (after.receipt.name(), meaning(after));
    if after.receipt == Receipt::StoodIn {
        error!(
            relay,
            receipt,
            action = LET_IT_ANSWER,
            "the relay answers no empty delivery, so there are no receipts: TCP's acknowledgement stands in for them, and records that are \
             lost between the two are not noticed; `receipt: required` forbids this"
        );
    } else if change.is_worse() {
        error!(
            relay,
            receipt,
            means,
            action = "if the relay was replaced on purpose, nothing; else look for what has come between here and it; `receipt: close_notify` \
                      accepts nothing less than the relay's own close_notify",
            "for an hour the relay has given weaker receipts than before: they are accepted from now on"
        );
    } else if change
        .before
        .is_some_and(|before| before.receipt == Receipt::StoodIn)
    {
        info!(
            relay,
            receipt,
            means,
            "the relay has given a receipt: nothing less confirms records from now on"
        );
    } else {
        info!(relay, receipt, means, "the relay confirms deliveries");
    }
}

/// What a way of confirming is worth.
fn meaning(learnt: Learnt) -> &'static str {
    match (learnt.receipt, learnt.half_close, learnt.resets) {
        (Receipt::Read, false, _) => "its close_notify, which nobody else can send",
        (Receipt::Read, true, _) => "its close_notify, in answer to a half-close",
        (Receipt::Ended, true, _) => {
            "an end of the connection in answer to a half-close, which whatever stands between can fake"
        }
        (Receipt::Ended, _, true) => {
            "its close_notify with a reset behind it, which it may also send with records unread"
        }
        (Receipt::Ended, ..) => "an end of the connection, which whatever stands between can fake",
        (Receipt::StoodIn, ..) => "TCP's acknowledgement",
    }
}

/// A relay that has not answered probes.
pub(super) fn silence(relay: &Relay, policy: ReceiptPolicy) -> Told {
    let (probes, time) = relay.silence();
    let later = match policy {
        ReceiptPolicy::Required | ReceiptPolicy::CloseNotify => "",
        _ if relay.learnt().is_some() => {
            "; after an hour of this TCP's acknowledgement stands in for its receipts"
        }
        _ => "; after ten minutes of this TCP's acknowledgement stands in for receipts",
    };
    Told {
        error: format!(
            "the relay has not answered an empty delivery ({probes} in {}){later}",
            length(time)
        ),
        action: LET_IT_ANSWER.to_owned(),
    }
}

/// A receipt that is late.
pub(super) fn late(relay: &Relay, after: Duration) -> (String, &'static str) {
    let kind = relay
        .learnt()
        .map_or("receipt", |learnt| match learnt.receipt {
            Receipt::Read => "close_notify",
            Receipt::Ended | Receipt::StoodIn => "end of the connection",
        });
    (
        format!(
            "the relay has not confirmed a delivery for {}: its {kind} is awaited",
            length(after)
        ),
        "check that the relay is not hung, and has room for what it receives",
    )
}

/// Logs that deliveries get no receipt, once they are so many in a row.
pub(super) fn unconfirmed(relay: &Relay, many: u32) {
    let deliveries = relay.unconfirmed();
    if deliveries >= many && deliveries.is_power_of_two() || deliveries == many {
        error!(
            relay = relay.address(),
            deliveries,
            action = "look into what stands between this machine and the relay: something that ends or resets connections before the relay has \
                      answered (a time-out for half-open connections, a limit of their age), or gives one address to relays of different kinds",
            "deliveries get no receipt, one after the other: they are made smaller and rarer, and each is sent again whole"
        );
    }
}

/// Logs that what was learnt could not be kept.
pub(super) fn not_saved(failure: &LedgerError) {
    warn!(
        error = chain(failure),
        action = failure.action(),
        "what is known of the relay cannot be written to the state; it is learnt again after a restart"
    );
}

fn length(time: Duration) -> String {
    let time = chrono::TimeDelta::from_std(time).unwrap_or_default();
    Length(time).to_string()
}
