//! What counts as a receipt, and all that does not.

use std::net::TcpStream;
use std::thread::sleep;
use std::time::Duration;

use rustls::version::{TLS12, TLS13};

use super::authority::Authority;
use super::peer::{Accepted, Peer, settings, wait_for_end};
use super::{ENDED, STRICT, impatient};
use crate::relay::knowledge::Terms;
use crate::relay::{Delivery, DeliveryError, Ending, Receipt};

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
        assert_eq!(delivery.finish(ENDED).await.unwrap(), Receipt::Ended);
        assert!(peer.result() == lines(50 * 64 + 500));
    }
}

#[tokio::test]
async fn a_peer_that_answers_close_notify_gives_a_receipt_on_all_terms() {
    for terms in [STRICT, ENDED, Terms::ANY] {
        let (mut delivery, peer) = deliver_to(|mut tls| {
            let read = tls.read_to_end();
            tls.notify_close();
            read.len()
        })
        .await;
        delivery.write(&lines(3)).await.unwrap();
        assert_eq!(delivery.finish(terms).await.unwrap(), Receipt::Read);
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
    assert_eq!(delivery.finish(ENDED).await.unwrap(), Receipt::Ended);
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
        Ok(()) => delivery.finish(Terms::ANY).await.unwrap_err(),
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

    for terms in [STRICT, ENDED, Terms::ANY] {
        let (mut delivery, _peer) = deliver_to(|mut tls| {
            tls.read_to_end();
            sleep(PAUSE);
            tls.reset();
        })
        .await;
        delivery.write(&lines(1)).await.unwrap();
        let error = delivery.finish(terms).await.unwrap_err();
        assert!(matches!(error, DeliveryError::Broken { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_peer_that_closes_without_reading_gives_no_receipt() {
    for terms in [STRICT, ENDED, Terms::ANY] {
        let (mut delivery, _peer) = deliver_to(|tls| {
            sleep(PAUSE);
            drop(tls);
        })
        .await;
        delivery.write(&lines(1)).await.unwrap();
        let error = delivery.finish(terms).await.unwrap_err();
        assert!(matches!(error, DeliveryError::Broken { .. }), "{error}");
    }
}

#[tokio::test]
async fn an_end_while_bytes_are_under_way_is_no_receipt() {
    for terms in [STRICT, ENDED, Terms::ANY] {
        let (mut delivery, _peer) = deliver_to(|tls| {
            sleep(PAUSE);
            tls.end_stream();
            sleep(PAUSE * 5);
        })
        .await;
        // More than the peer's receive buffer holds at first, and no more than ours to send takes.
        delivery.write(&lines(UNREAD)).await.unwrap();
        let error = delivery.finish(terms).await.unwrap_err();
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
    assert_eq!(delivery.finish(Terms::ANY).await.unwrap(), Receipt::StoodIn);

    let (mut delivery, _peer) = deliver_to(silent).await;
    delivery.write(&lines(1)).await.unwrap();
    let error = delivery.finish(ENDED).await.unwrap_err();
    assert!(
        matches!(error, DeliveryError::Stalled { outstanding: 0, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn close_notify_with_nothing_behind_it_is_a_receipt_and_with_a_reset_it_is_none() {
    let (mut delivery, _peer) = deliver_to(|mut tls| {
        tls.read_to_end();
        tls.notify_close();
        sleep(Duration::from_secs(3));
    })
    .await;
    delivery.write(&lines(1)).await.unwrap();
    assert_eq!(delivery.finish(STRICT).await.unwrap(), Receipt::Read);

    let resets = Terms {
        weakest: Ending::Reset,
        ..STRICT
    };
    for (terms, expected) in [
        (STRICT, None),
        (ENDED, None),
        (resets, Some(Receipt::Ended)),
    ] {
        for pause in [Duration::ZERO, PAUSE] {
            let (mut delivery, _peer) = deliver_to(move |mut tls| {
                tls.read_to_end();
                tls.notify_close();
                sleep(pause);
                tls.reset();
            })
            .await;
            delivery.write(&lines(1)).await.unwrap();
            match (delivery.finish(terms).await, expected) {
                (Ok(receipt), Some(expected)) => assert_eq!(receipt, expected),
                (Err(DeliveryError::Voided), None) => {}
                // A reset at once may drop the answer before it is read: then there was none.
                (Err(DeliveryError::Broken { .. }), _) if pause.is_zero() => {}
                (other, _) => panic!("{terms:?}, {pause:?}: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_relay_that_dies_with_lines_unread_behind_its_close_notify_gives_no_receipt() {
    let (mut delivery, _peer) = deliver_to(|mut tls| {
        // It ends by itself, later than a round trip after our end, and its system still holds all that it was sent.
        sleep(PAUSE * 2);
        tls.notify_close();
    })
    .await;
    delivery.write(&lines(20)).await.unwrap();
    let error = delivery.finish(STRICT).await.unwrap_err();
    assert!(matches!(error, DeliveryError::Voided), "{error}");
}

#[tokio::test]
async fn the_relay_sees_no_half_close_before_it_has_answered() {
    let (mut delivery, peer) = deliver_to(|mut tls| {
        tls.read_to_end();
        let timeout = Some(PAUSE);
        tls.socket.set_read_timeout(timeout).unwrap();
        let early = std::io::Read::read(&mut tls.socket, &mut [0; 1]);
        tls.notify_close();
        tls.socket.set_read_timeout(None).unwrap();
        let late = std::io::Read::read(&mut tls.socket, &mut [0; 1]);
        (early.is_err(), late.is_ok_and(|read| read == 0))
    })
    .await;
    delivery.write(&lines(1)).await.unwrap();
    assert_eq!(delivery.finish(STRICT).await.unwrap(), Receipt::Read);
    assert_eq!(peer.result(), (true, true));
}

#[tokio::test]
async fn a_peer_that_minds_only_a_half_close_gives_a_receipt_where_that_is_asked_for() {
    let minds_fin = |mut tls: Accepted| tls.read_to_half_close().len();
    let (mut delivery, peer) = deliver_to(minds_fin).await;
    delivery.write(&lines(3)).await.unwrap();
    let half_close = Terms {
        half_close: true,
        ..ENDED
    };
    assert_eq!(delivery.finish(half_close).await.unwrap(), Receipt::Ended);
    assert_eq!(peer.result(), 3 << 10);

    let (mut delivery, _peer) = deliver_to(minds_fin).await;
    delivery.write(&lines(3)).await.unwrap();
    let error = delivery.finish(ENDED).await.unwrap_err();
    let stalled = matches!(error, DeliveryError::Stalled { outstanding: 0, .. });
    assert!(stalled, "{error}");
}

#[tokio::test]
async fn nothing_stands_in_for_a_receipt_while_bytes_are_unread_by_tcp() {
    let (mut delivery, _peer) = deliver_to(|_tls| sleep(Duration::from_secs(3))).await;
    delivery.write(&lines(UNREAD)).await.unwrap();
    let error = delivery.finish(Terms::ANY).await.unwrap_err();
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

#[tokio::test]
async fn an_end_of_stream_confirms_only_on_terms_that_say_so() {
    for (terms, expected) in [
        (STRICT, None),
        (ENDED, Some(Receipt::Ended)),
        (Terms::ANY, Some(Receipt::Ended)),
    ] {
        let (mut delivery, _peer) = deliver_to(|mut tls| drop(tls.read_to_end())).await;
        delivery.write(&lines(1)).await.unwrap();
        match (delivery.finish(terms).await, expected) {
            (Ok(receipt), Some(expected)) => assert_eq!(receipt, expected),
            (Err(DeliveryError::Unsaid), None) => {}
            (other, _) => panic!("{terms:?}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn an_empty_delivery_shows_how_a_peer_ends() {
    /// Probes a peer that behaves as `script` says.
    async fn probe(
        script: impl FnOnce(Accepted) + Send + 'static,
    ) -> Result<Ending, DeliveryError> {
        let authority = Authority::new();
        let peer = Peer::tls(settings(&authority, &TLS13), script);
        let relay = impatient(authority.output(peer.port));
        relay.probe(Duration::from_mins(1)).await
    }
    let says = |mut tls: Accepted| {
        tls.read_to_end();
        tls.notify_close();
    };
    assert_eq!(probe(says).await.unwrap(), Ending::Read);
    let ends = |mut tls: Accepted| drop(tls.read_to_end());
    assert_eq!(probe(ends).await.unwrap(), Ending::Ended);
    let minds_fin = |mut tls: Accepted| drop(tls.read_to_half_close());
    assert_eq!(probe(minds_fin).await.unwrap(), Ending::Ended);
    let silent = |_tls| sleep(Duration::from_secs(1));
    assert_eq!(probe(silent).await.unwrap(), Ending::Silent);
    let resets = |mut tls: Accepted| {
        tls.read_to_end();
        tls.notify_close();
        tls.reset();
    };
    assert_eq!(probe(resets).await.unwrap(), Ending::Reset);
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
    assert_eq!(delivery.finish(ENDED).await.unwrap(), Receipt::Ended);
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
