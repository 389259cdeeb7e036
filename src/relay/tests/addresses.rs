//! What an address is learnt to do, with real connections: probes and deliveries of several relays of one process.

use std::thread::sleep;
use std::time::Duration;

use rustls::version::TLS13;

use super::authority::Authority;
use super::peer::{Accepted, Peer, settings};
use super::{impatient, tls_peer};
use crate::config::ReceiptPolicy::{self, CloseNotify, Ended, Required, StandIn, Tcp};
use crate::relay::knowledge::{Permit, Terms};
use crate::relay::{Addresses, DeliveryError, Receipt, Relay};

/// Answers with `close_notify`, and ends.
fn says(mut tls: Accepted) {
    tls.read_to_end();
    tls.notify_close();
}

/// Ends in order as a killed process does: the system ends its connections.
fn just_ends(mut tls: Accepted) {
    tls.read_to_end();
}

/// A relay whose connections end so, one after the other, and what else is under way to it.
struct Scene {
    _authority: Authority,
    relay: Relay,
    peer: Peer<Vec<()>>,
}

impl Scene {
    fn new(ends: Vec<fn(Accepted)>) -> Self {
        let authority = Authority::new();
        let peer = Peer::tls_each(settings(&authority, &TLS13), ends);
        let relay = impatient(authority.output(peer.port));
        Scene {
            _authority: authority,
            relay,
            peer,
        }
    }

    /// Probes as often as is due, and delivers a line; what came of that.
    async fn deliver(&self, policy: ReceiptPolicy) -> String {
        let terms = loop {
            match self.relay.permit(policy) {
                Permit::Deliver(terms) => break terms,
                Permit::Probe(patience) => drop(self.relay.probe(patience).await),
                Permit::Wait(wait) => tokio::time::sleep(wait).await,
            }
        };
        match self.deliver_on(terms).await {
            Ok(receipt) => format!("{receipt:?}"),
            Err(error) => format!("{error:?}"),
        }
    }

    async fn deliver_on(&self, terms: Terms) -> Result<Receipt, DeliveryError> {
        let mut delivery = self.relay.open().await?;
        delivery.write(b"a line\n").await?;
        delivery.finish(terms).await
    }
}

#[tokio::test]
async fn an_end_without_close_notify_is_no_receipt_of_an_address_that_gave_it_before() {
    // After each doubt an empty probe shows that the peer still says it.
    let ends: Vec<fn(Accepted)> = vec![
        says, says, just_ends, says, says, just_ends, just_ends, says, says,
    ];
    let scene = Scene::new(ends);
    let mut outcomes = vec![];
    for _ in 0..3 {
        outcomes.push(scene.deliver(StandIn).await);
    }
    assert_eq!(outcomes, ["Read", "Unsaid", "Read"]);
    assert_eq!(scene.deliver(Ended).await, "Unsaid");
    assert_eq!(scene.deliver(Required).await, "Read");
    scene.peer.result();
}

#[tokio::test]
async fn two_probes_show_an_end_of_stream_and_one_does_by_choice() {
    for (policy, connections) in [(StandIn, 3), (Required, 3), (Ended, 2), (Tcp, 1)] {
        let scene = Scene::new(vec![just_ends as fn(Accepted); connections]);
        assert_eq!(scene.deliver(policy).await, "Ended", "{policy:?}");
        scene.peer.result();
    }
}

#[tokio::test]
async fn resets_behind_close_notify_confirm_once_two_probes_have_shown_them() {
    fn resets(mut tls: Accepted) {
        tls.read_to_end();
        tls.notify_close();
        tls.reset();
    }
    let scene = Scene::new(vec![resets as fn(Accepted); 3]);
    assert_eq!(scene.deliver(StandIn).await, "Ended");
    assert!(scene.relay.learnt().unwrap().resets);
    scene.peer.result();
}

#[tokio::test]
async fn what_one_output_learns_the_others_know_also_in_the_next_process() {
    let authority = Authority::new();
    let peer = Peer::tls_each(settings(&authority, &TLS13), vec![says as fn(Accepted)]);
    let addresses = Addresses::default();
    let at = |addresses: &Addresses| {
        let peer = tls_peer(authority.output(peer.port));
        let address = addresses.get(&peer.address());
        Relay {
            address,
            ..super::impatient_with(peer)
        }
    };
    let (one, other) = (at(&addresses), at(&addresses));
    assert!(matches!(other.permit(CloseNotify), Permit::Probe(_)));
    one.probe(Duration::from_secs(5)).await.unwrap();
    assert!(matches!(other.permit(CloseNotify), Permit::Deliver(_)));
    // What was learnt is told once.
    assert_eq!((other.changes().len(), one.changes().len()), (1, 0));
    let next = Addresses::from_json(&addresses.to_json()).unwrap();
    assert!(matches!(at(&next).permit(CloseNotify), Permit::Deliver(_)));
    let unknown = at(&Addresses::default()).permit(CloseNotify);
    assert!(matches!(unknown, Permit::Probe(_)));
}

#[tokio::test]
async fn a_silent_peer_is_not_delivered_to() {
    fn silent(_tls: Accepted) {
        sleep(Duration::from_secs(1));
    }
    let scene = Scene::new(vec![silent as fn(Accepted); 2]);
    for probes in 1..=2 {
        scene.relay.probe(Duration::from_secs(5)).await.unwrap();
        assert_eq!(scene.relay.silence().0, probes);
        for policy in [StandIn, Required, Ended, CloseNotify] {
            assert!(!matches!(scene.relay.permit(policy), Permit::Deliver(_)));
        }
    }
}
