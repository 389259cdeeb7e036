//! Deliveries over loopback to real servers, of TLS and of plain TCP, that behave well or badly.

mod addresses;
mod authority;
mod files;
mod in_use;
mod peer;
mod plain;
mod receipts;
mod trust;

use std::sync::Arc;
use std::time::Duration;

use super::knowledge::Terms;
use super::limits::Limits;
use super::tls::Party;
use super::{Ending, Peer, Relay};
use crate::config::RelayOutput;

const STRICT: Terms = Terms::STRICT;

/// An end of stream confirms too.
const ENDED: Terms = Terms {
    weakest: Ending::Ended,
    ..STRICT
};

/// A relay that gives up in time for a test.
fn impatient(output: RelayOutput) -> Relay {
    impatient_with(tls_peer(output))
}

fn tls_peer(output: RelayOutput) -> Peer {
    Peer::Tls(Arc::new(Party::new(output)))
}

fn impatient_with(peer: Peer) -> Relay {
    Relay {
        peer,
        address: Arc::default(),
        limits: Limits {
            slow: Duration::from_millis(1_500),
            probe: Duration::from_millis(300),
            half_close: Duration::from_millis(200),
            after_close_notify: Duration::from_millis(300),
            stand_in: Duration::from_millis(300),
            handshake: Duration::from_secs(5),
            dead: Duration::from_millis(600),
            ..Limits::STANDARD
        },
    }
}
