//! What counts as a receipt, and all that does not.

use std::net::TcpStream;
use std::thread::sleep;
use std::time::Duration;

use rustls::version::{TLS12, TLS13};

use super::authority::Authority;
use super::impatient;
use super::peer::{Accepted, Peer, settings, wait_for_end};
use crate::relay::{Answer, Delivery, DeliveryError, Receipt, Trust};

const PAUSE: Duration = Duration::from_millis(200);
/// KiB that do not fit the receive buffer of a peer that has not read yet, but fit it and our send buffer together.
const UNREAD: usize = 1_000;

/// Some lines, `count` KiB of them.
fn lines(count: usize) -> Vec<u8> {
    [[b'x'; 1023].as_slice(), b"\n"].concat().repeat(count)
}

/// Opens a delivery to a peer that behaves as `script` says.
async fn deliver_to<T: Send + 'static>(
    script: impl FnOnce(Accepted) -> T + Send + 'static,
) -> (Delivery, Peer<T>) {
    let authority = Authority::new();
    let peer = Peer::tls(settings(&authority, &TLS13), script);
    let delivery = impatient(authority.output(peer.port)).open().await.unwrap();
    (delivery, peer)
}

/// Writes chunks until that fails, for as long as 40 MiB take.
async fn write_until_refused(delivery: &mut Delivery) -> DeliveryError {
    for _ in 0..640 {
        if let Err(error) = delivery.write(&lines(64)).await {
            return error;
        }
    }
    panic!("the peer is gone, and 40 MiB could be written");
}

#[tokio::test]
async fn a_peer_that_reads_everything_and_then_ends_gives_a_receipt() {
    for version in [&TLS12, &TLS13] {
        let authority = Authority::new();
        let peer = Peer::tls(settings(&authority, version), |mut tls| tls.read_to_end());
        let relay = impatient(authority.output(peer.port));
        let mut delivery = relay.open().await.unwrap();
        for _ in 0..50 {
            delivery.write(&lines(64)).await.unwrap();
        }
        // A chunk is not bounded by what TLS keeps at once.
        delivery.write(&lines(500)).await.unwrap();
        assert_eq!(
            delivery.finish(Trust::ReceiptOnly).await.unwrap(),
            Receipt::Read
        );
        assert!(peer.result() == lines(50 * 64 + 500));
    }
}

#[tokio::test]
async fn a_peer_that_ends_on_close_notify_gives_a_receipt_to_either_trust() {
    for trust in [Trust::ReceiptOnly, Trust::StandIn] {
        let (mut delivery, peer) = deliver_to(|mut tls| {
            let read = tls.read_to_end();
            tls.notify_close();
            read.len()
        })
        .await;
        delivery.write(&lines(3)).await.unwrap();
        assert_eq!(delivery.finish(trust).await.unwrap(), Receipt::Read);
        assert_eq!(peer.result(), 3 << 10);
    }
}

#[tokio::test]
async fn a_peer_that_pauses_is_waited_for() {
    let (mut delivery, peer) = deliver_to(|mut tls| {
        sleep(Duration::from_millis(800));
        let read = tls.read_to_end();
        sleep(Duration::from_millis(800));
        read.len()
    })
    .await;
    delivery.write(&lines(3_000)).await.unwrap();
    assert_eq!(
        delivery.finish(Trust::ReceiptOnly).await.unwrap(),
        Receipt::Read
    );
    assert_eq!(peer.result(), 3_000 << 10);
}

#[tokio::test]
async fn a_peer_that_never_reads_ends_the_write_as_stalled() {
    let (mut delivery, _peer) = deliver_to(|_tls| sleep(Duration::from_secs(5))).await;
    let error = write_until_refused(&mut delivery).await;
    assert!(
        matches!(
            error,
            DeliveryError::Stalled {
                outstanding: 1..,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_peer_that_ends_first_is_noticed_while_idle() {
    let (mut delivery, peer) = deliver_to(|tls| tls.end_stream()).await;
    let error = delivery.broken().await;
    assert!(matches!(error, DeliveryError::Ended), "{error}");
    peer.result();
}

#[tokio::test]
async fn a_peer_that_says_close_notify_first_is_noticed_though_its_stream_is_open() {
    let (mut delivery, _peer) = deliver_to(|mut tls| {
        tls.notify_close();
        wait_for_end(&mut tls.socket);
    })
    .await;
    let error = delivery.broken().await;
    assert!(matches!(error, DeliveryError::Ended), "{error}");
}

#[tokio::test]
async fn a_peer_that_ends_first_is_noticed_while_writing() {
    let (mut delivery, _peer) = deliver_to(|mut tls| {
        tls.end_stream();
        wait_for_end(&mut tls.socket);
    })
    .await;
    let error = write_until_refused(&mut delivery).await;
    assert!(matches!(error, DeliveryError::Ended), "{error}");
}

#[tokio::test]
async fn an_end_that_came_before_our_half_close_is_no_receipt_though_everything_was_read() {
    let (mut delivery, peer) = deliver_to(|mut tls| {
        tls.end_stream();
        tls.read_to_end().len()
    })
    .await;
    // Without a moment for the runtime to notice the end, it is the kernel that knows.
    std::thread::sleep(PAUSE);
    let error = match delivery.write(&lines(1)).await {
        Ok(()) => delivery.finish(Trust::StandIn).await.unwrap_err(),
        Err(error) => {
            drop(delivery);
            error
        }
    };
    assert!(matches!(error, DeliveryError::Ended), "{error}");
    peer.result();
}

#[tokio::test]
async fn a_reset_is_noticed_while_idle_while_writing_and_at_the_end() {
    let (mut delivery, _peer) = deliver_to(Accepted::reset).await;
    let error = delivery.broken().await;
    assert!(matches!(error, DeliveryError::Broken { .. }), "{error}");

    let (mut delivery, _peer) = deliver_to(|mut tls| {
        tls.read_wire(100_000);
        tls.reset();
    })
    .await;
    let error = write_until_refused(&mut delivery).await;
    assert!(matches!(error, DeliveryError::Broken { .. }), "{error}");

    for trust in [Trust::ReceiptOnly, Trust::StandIn] {
        let (mut delivery, _peer) = deliver_to(|mut tls| {
            tls.read_to_end();
            sleep(PAUSE);
            tls.reset();
        })
        .await;
        delivery.write(&lines(1)).await.unwrap();
        let error = delivery.finish(trust).await.unwrap_err();
        assert!(matches!(error, DeliveryError::Broken { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_peer_that_closes_without_reading_gives_no_receipt() {
    for trust in [Trust::ReceiptOnly, Trust::StandIn] {
        let (mut delivery, _peer) = deliver_to(|tls| {
            sleep(PAUSE);
            drop(tls);
        })
        .await;
        delivery.write(&lines(1)).await.unwrap();
        let error = delivery.finish(trust).await.unwrap_err();
        assert!(matches!(error, DeliveryError::Broken { .. }), "{error}");
    }
}

#[tokio::test]
async fn an_end_while_bytes_are_under_way_is_no_receipt() {
    for trust in [Trust::ReceiptOnly, Trust::StandIn] {
        let (mut delivery, _peer) = deliver_to(|tls| {
            sleep(PAUSE);
            tls.end_stream();
            sleep(PAUSE * 5);
        })
        .await;
        // More than the peer's receive buffer holds at first, and no more than ours to send takes.
        delivery.write(&lines(UNREAD)).await.unwrap();
        let error = delivery.finish(trust).await.unwrap_err();
        assert!(matches!(error, DeliveryError::Ended), "{error}");
    }
}

#[tokio::test]
async fn a_peer_that_never_ends_its_stream_gives_no_receipt_but_acknowledges() {
    let silent = |mut tls: Accepted| {
        tls.read_to_end();
        sleep(Duration::from_secs(3));
    };
    let (mut delivery, _peer) = deliver_to(silent).await;
    delivery.write(&lines(1)).await.unwrap();
    assert_eq!(
        delivery.finish(Trust::StandIn).await.unwrap(),
        Receipt::StoodIn
    );

    let (mut delivery, _peer) = deliver_to(silent).await;
    delivery.write(&lines(1)).await.unwrap();
    let error = delivery.finish(Trust::ReceiptOnly).await.unwrap_err();
    assert!(
        matches!(error, DeliveryError::Stalled { outstanding: 0, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn close_notify_alone_is_no_receipt() {
    let (mut delivery, _peer) = deliver_to(|mut tls| {
        tls.read_to_end();
        tls.notify_close();
        sleep(Duration::from_secs(3));
    })
    .await;
    delivery.write(&lines(1)).await.unwrap();
    let error = delivery.finish(Trust::ReceiptOnly).await.unwrap_err();
    assert!(matches!(error, DeliveryError::Stalled { .. }), "{error}");
}

#[tokio::test]
async fn nothing_stands_in_for_a_receipt_while_bytes_are_unread_by_tcp() {
    let (mut delivery, _peer) = deliver_to(|_tls| sleep(Duration::from_secs(3))).await;
    delivery.write(&lines(UNREAD)).await.unwrap();
    let error = delivery.finish(Trust::StandIn).await.unwrap_err();
    assert!(
        matches!(
            error,
            DeliveryError::Stalled {
                outstanding: 2..,
                ..
            }
        ),
        "{error}"
    );
}

/// Ends in order, and says `close_notify` before.
fn says_farewell(mut tls: Accepted) {
    tls.read_to_end();
    tls.notify_close();
}

/// Ends in order as a killed process does: the system ends its connections.
fn just_ends(mut tls: Accepted) {
    tls.read_to_end();
}

/// Delivers to a peer whose connections end so, one after the other; what came of each delivery.
async fn deliver_in_turn(ends: Vec<fn(Accepted)>, deliveries: usize) -> Vec<String> {
    let authority = Authority::new();
    let peer = Peer::tls_each(settings(&authority, &TLS13), ends);
    let relay = impatient(authority.output(peer.port));
    let mut outcomes = Vec::new();
    for _ in 0..deliveries {
        let mut delivery = relay.open().await.unwrap();
        delivery.write(&lines(1)).await.unwrap();
        outcomes.push(match delivery.finish(Trust::ReceiptOnly).await {
            Ok(receipt) => format!("{receipt:?}"),
            Err(error) => format!("{error:?}"),
        });
    }
    peer.result();
    outcomes
}

#[tokio::test]
async fn an_end_without_close_notify_is_no_receipt_of_a_peer_that_said_it_before() {
    // After the doubt an empty delivery shows that the peer still says it.
    let ends: Vec<fn(Accepted)> = vec![
        says_farewell,
        just_ends,
        says_farewell,
        just_ends,
        says_farewell,
        says_farewell,
    ];
    let outcomes = deliver_in_turn(ends, 4).await;
    assert_eq!(outcomes, ["Read", "Unsaid", "Unsaid", "Read"]);
}

#[tokio::test]
async fn a_peer_that_never_says_close_notify_gives_receipts_and_so_does_one_that_no_longer_does() {
    let outcomes = deliver_in_turn(vec![just_ends, just_ends], 2).await;
    assert_eq!(outcomes, ["Read", "Read"]);
    let ends: Vec<fn(Accepted)> = vec![says_farewell, just_ends, just_ends, just_ends, just_ends];
    let outcomes = deliver_in_turn(ends, 4).await;
    assert_eq!(outcomes, ["Read", "Unsaid", "Read", "Read"]);
}

#[tokio::test]
async fn an_empty_delivery_shows_whether_a_half_close_is_answered() {
    /// Probes a peer that behaves as `script` says.
    async fn probe(
        script: impl FnOnce(Accepted) + Send + 'static,
    ) -> Result<Answer, DeliveryError> {
        let authority = Authority::new();
        let peer = Peer::tls(settings(&authority, &TLS13), script);
        impatient(authority.output(peer.port)).probe().await
    }
    let answers = probe(|mut tls| drop(tls.read_to_end())).await;
    assert_eq!(answers.unwrap(), Answer::Answers);
    let silent = probe(|_tls| sleep(Duration::from_secs(1))).await;
    assert_eq!(silent.unwrap(), Answer::Silent);
    let reset = probe(|mut tls| {
        tls.read_to_end();
        tls.reset();
    })
    .await;
    assert!(
        matches!(reset, Err(DeliveryError::Broken { .. })),
        "{reset:?}"
    );
}

#[tokio::test]
async fn a_greeting_is_ignored_and_a_flood_is_not() {
    let (mut delivery, peer) = deliver_to(|mut tls| {
        tls.say(b"220 welcome\r\n");
        tls.read_to_end().len()
    })
    .await;
    delivery.write(&lines(1)).await.unwrap();
    assert_eq!(
        delivery.finish(Trust::ReceiptOnly).await.unwrap(),
        Receipt::Read
    );
    assert_eq!(peer.result(), 1 << 10);

    let (mut delivery, _peer) = deliver_to(|mut tls| tls.say(&vec![b'x'; 200_000])).await;
    let error = delivery.broken().await;
    assert!(matches!(error, DeliveryError::Talks { .. }), "{error}");
    assert!(error.is_setup());
}

#[tokio::test]
async fn a_peer_that_speaks_no_tls_or_nothing_is_named_as_that() {
    let authority = Authority::new();
    let plain = Peer::raw(|mut socket: TcpStream| {
        std::io::Write::write_all(&mut socket, b"220 smtp.example\r\n").unwrap();
        wait_for_end(&mut socket);
    });
    let error = impatient(authority.output(plain.port))
        .open()
        .await
        .unwrap_err();
    assert!(matches!(error, DeliveryError::NotTls), "{error}");

    let closed = Peer::raw(|mut socket: TcpStream| {
        let mut hello = [0; 5];
        std::io::Read::read_exact(&mut socket, &mut hello).unwrap();
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        wait_for_end(&mut socket);
    });
    let error = impatient(authority.output(closed.port))
        .open()
        .await
        .unwrap_err();
    assert!(matches!(error, DeliveryError::HandshakeEnded), "{error}");

    let mute = Peer::raw(|mut socket: TcpStream| wait_for_end(&mut socket));
    let mut relay = impatient(authority.output(mute.port));
    relay.limits.handshake = PAUSE;
    let error = relay.open().await.unwrap_err();
    assert!(
        matches!(error, DeliveryError::HandshakeTimeout { .. }),
        "{error}"
    );
}
