//! Deliveries over loopback to real TLS servers that behave well or badly.

mod authority;
mod files;
mod peer;
mod receipts;
mod trust;

use std::sync::Arc;
use std::time::Duration;

use super::limits::Limits;
use super::{Peer, Relay};
use crate::config::RelayOutput;

/// A relay that gives up in time for a test.
fn impatient(output: RelayOutput) -> Relay {
    Relay {
        peer: Peer::Tls(Arc::new(output)),
        farewell: Arc::default(),
        limits: Limits {
            slow: Duration::from_millis(1_500),
            probe: Duration::from_millis(300),
            stand_in: Duration::from_millis(300),
            handshake: Duration::from_secs(5),
            dead: Duration::from_millis(600),
            ..Limits::STANDARD
        },
    }
}
