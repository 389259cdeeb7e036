//! What counts as a receipt without TLS, and what is said of a peer that wants TLS.

use std::io::Read;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use insta::assert_snapshot;
use rustls::version::TLS13;
use socket2::Socket;

use super::ENDED;
use super::authority::Authority;
use super::peer::{Peer, settings, wait_for_end};
use crate::config::{ReceiptPolicy, SyslogOutput};
use crate::relay::knowledge::Terms;
use crate::relay::{Delivery, DeliveryError, Ending, Receipt, Relay};

const PAUSE: Duration = Duration::from_millis(200);
/// KiB that do not fit the receive buffer of a peer that has not read yet, but fit it and our send buffer together.
const UNREAD: usize = 1_000;

fn lines(count: usize) -> Vec<u8> {
    [[b'x'; 1023].as_slice(), b"\n"].concat().repeat(count)
}

fn relay(port: u16) -> Relay {
    super::impatient_with(crate::relay::Peer::Plain(Arc::new(SyslogOutput {
        address: "127.0.0.1".to_owned(),
        port,
        receipt: ReceiptPolicy::StandIn,
    })))
}

/// Opens a delivery to a peer that behaves as `script` says.
async fn deliver_to<T: Send + 'static>(
    script: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (Delivery, Peer<T>) {
    let peer = Peer::raw(script);
    (relay(peer.port).open().await.unwrap(), peer)
}

fn read_to_end(socket: &mut TcpStream) -> Vec<u8> {
    let mut read = Vec::new();
    socket.read_to_end(&mut read).unwrap();
    read
}

fn reset(socket: TcpStream) {
    let socket = Socket::from(socket);
    socket.set_linger(Some(Duration::ZERO)).unwrap();
}

#[tokio::test]
async fn a_peer_that_reads_everything_and_then_ends_gives_a_receipt() {
    for terms in [ENDED, Terms::ANY] {
        let (mut delivery, peer) = deliver_to(|mut socket| {
            sleep(PAUSE);
            read_to_end(&mut socket)
        })
        .await;
        for _ in 0..50 {
            delivery.write(&lines(64)).await.unwrap();
        }
        delivery.write(&lines(500)).await.unwrap();
        assert_eq!(delivery.finish(terms).await.unwrap(), Receipt::Ended);
        assert!(peer.result() == lines(50 * 64 + 500));
    }
}

#[tokio::test]
async fn an_end_that_came_before_ours_is_no_receipt_though_everything_was_read() {
    let (mut delivery, peer) = deliver_to(|mut socket| {
        socket.shutdown(Shutdown::Write).unwrap();
        read_to_end(&mut socket).len()
    })
    .await;
    // Without a moment for the runtime to notice the end, it is the kernel that knows.
    sleep(PAUSE);
    let error = match delivery.write(&lines(1)).await {
        Ok(()) => delivery.finish(Terms::ANY).await.unwrap_err(),
        Err(error) => {
            drop(delivery);
            error
        }
    };
    assert!(matches!(error, DeliveryError::Ended), "{error}");
    peer.result();

    let (mut delivery, _peer) = deliver_to(|socket| {
        socket.shutdown(Shutdown::Write).unwrap();
        sleep(PAUSE * 5);
    })
    .await;
    let error = delivery.broken().await;
    assert!(matches!(error, DeliveryError::Ended), "{error}");
}

#[tokio::test]
async fn an_end_while_bytes_are_under_way_is_no_receipt() {
    for terms in [ENDED, Terms::ANY] {
        let (mut delivery, _peer) = deliver_to(|socket| {
            sleep(PAUSE);
            socket.shutdown(Shutdown::Write).unwrap();
            sleep(PAUSE * 5);
        })
        .await;
        delivery.write(&lines(UNREAD)).await.unwrap();
        let error = delivery.finish(terms).await.unwrap_err();
        assert!(matches!(error, DeliveryError::Ended), "{error}");
    }
}

#[tokio::test]
async fn a_peer_that_closes_without_reading_or_answers_by_a_reset_gives_no_receipt() {
    for terms in [ENDED, Terms::ANY] {
        let (mut delivery, _peer) = deliver_to(|socket| {
            sleep(PAUSE);
            drop(socket);
        })
        .await;
        delivery.write(&lines(1)).await.unwrap();
        let error = delivery.finish(terms).await.unwrap_err();
        assert!(matches!(error, DeliveryError::Broken { .. }), "{error}");

        let (mut delivery, _peer) = deliver_to(|mut socket| {
            read_to_end(&mut socket);
            reset(socket);
        })
        .await;
        delivery.write(&lines(1)).await.unwrap();
        let error = delivery.finish(terms).await.unwrap_err();
        assert!(matches!(error, DeliveryError::Broken { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_peer_that_never_ends_its_stream_gives_no_receipt_but_acknowledges() {
    let silent = |mut socket: TcpStream| {
        read_to_end(&mut socket);
        sleep(Duration::from_secs(3));
    };
    let (mut delivery, _peer) = deliver_to(silent).await;
    delivery.write(&lines(1)).await.unwrap();
    let receipt = delivery.finish(Terms::ANY).await.unwrap();
    assert_eq!(receipt, Receipt::StoodIn);

    let (mut delivery, _peer) = deliver_to(silent).await;
    delivery.write(&lines(1)).await.unwrap();
    let error = delivery.finish(ENDED).await.unwrap_err();
    let stalled = matches!(error, DeliveryError::Stalled { outstanding: 0, .. });
    assert!(stalled, "{error}");
}

#[tokio::test]
async fn a_peer_that_never_reads_ends_the_write_as_stalled() {
    let (mut delivery, _peer) = deliver_to(|_socket| sleep(Duration::from_secs(5))).await;
    let error = loop {
        if let Err(error) = delivery.write(&lines(64)).await {
            break error;
        }
    };
    let stalled = matches!(
        error,
        DeliveryError::Stalled {
            outstanding: 1..,
            ..
        }
    );
    assert!(stalled, "{error}");
}

#[tokio::test]
async fn an_empty_delivery_shows_whether_a_half_close_is_answered() {
    let peer = Peer::raw(|mut socket| read_to_end(&mut socket).len());
    let answer = relay(peer.port).probe(Duration::from_mins(1)).await;
    assert_eq!(answer.unwrap(), Ending::Ended);
    assert_eq!(peer.result(), 0);
    let peer = Peer::raw(|_socket| sleep(Duration::from_secs(1)));
    let answer = relay(peer.port).probe(Duration::from_mins(1)).await;
    assert_eq!(answer.unwrap(), Ending::Silent);
}

#[tokio::test]
async fn a_peer_that_speaks_tls_is_named_as_that() {
    let authority = Authority::new();
    let peer = Peer::tls(settings(&authority, &TLS13), |mut tls| {
        wait_for_end(&mut tls.socket);
    });
    let mut delivery = relay(peer.port).open().await.unwrap();
    delivery
        .write(b"<14>a line that is no handshake\n")
        .await
        .unwrap();
    let error = delivery.broken().await;
    assert!(error.is_setup(), "{error}");
    assert_snapshot!(format!("{error}\n{}", error.action().unwrap()), @r"
    the peer speaks TLS, and this output is plain TCP
    set the output's `type` to `relay`, with `chain`, `cert` and `key`; or set `port` to the relay's plain one
    ");
}
