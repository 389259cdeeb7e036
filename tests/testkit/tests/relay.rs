//! The simulated relay, spoken to as a collector would.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where its own preparation fails"
)]

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use testkit::pki::{Authority, KeyForm, Pki, Wish};
use testkit::proxy::Proxy;
use testkit::records::Identity;
use testkit::relay::{Behaviour, End, Options, Process, Relay, TlsVersions};
use testkit::report::Report;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

type Client = TlsStream<TcpStream>;

async fn connect_as(pki: &Pki, identity: &testkit::pki::Identity, port: u16) -> io::Result<Client> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(pki.authority.certificate().as_bytes()).unwrap())
        .unwrap();
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap(),
        )
        .map_err(io::Error::other)?;
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

async fn connect(pki: &Pki, port: u16) -> io::Result<Client> {
    connect_as(pki, &pki.client, port).await
}

fn line(number: usize) -> String {
    format!(
        "<14>2026-11-22 14:40:52.290 host cloud.office365.reporting.messagetrace: {{\"n\":{number},\"@devo_pulling_id\":\"1\"}}\n"
    )
}

fn lines(count: usize) -> String {
    (0..count).map(line).collect()
}

/// Half-closes and waits for the end of the relay's side.
async fn end(client: &mut Client) -> io::Result<usize> {
    client.shutdown().await?;
    timeout(Duration::from_secs(5), client.read(&mut [0; 1])).await?
}

async fn ended(relay: &Relay) -> End {
    for _ in 0..300 {
        if let Some(connection) = relay
            .connections()
            .last()
            .filter(|connection| connection.end != End::Open)
        {
            return connection.end.clone();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    End::Open
}

#[tokio::test]
async fn lines_are_counted_and_a_half_close_is_answered_in_both_versions() {
    let pki = Pki::new().unwrap();
    for (tls, version) in [
        (TlsVersions::V12, "TLSv1_2"),
        (TlsVersions::V13, "TLSv1_3"),
        (TlsVersions::Both, "TLSv1_3"),
    ] {
        let relay = Relay::start_with(&Options {
            tls,
            ..Options::new(&pki)
        })
        .unwrap();
        let mut client = connect(&pki, relay.port()).await.unwrap();
        client
            .write_all(format!("{}nonsense\n{}", lines(100), line(3).trim_end()).as_bytes())
            .await
            .unwrap();
        assert_eq!(end(&mut client).await.unwrap(), 0);
        assert_eq!(ended(&relay).await, End::ClientClosed);
        let connection = &relay.connections()[0];
        assert_eq!(
            (connection.tls, connection.server_name.as_deref()),
            (Some(version), Some("localhost"))
        );
        assert_eq!(
            (
                connection.lines,
                relay.records().total(),
                relay.violations().len()
            ),
            (101, 100, 1)
        );
        assert_eq!(connection.partial, line(3).len() as u64 - 1);
        assert_eq!(
            relay
                .records()
                .times(Report::MessageTrace, Identity::of("{\"n\":3}").unwrap()),
            1
        );
    }
}

#[tokio::test]
async fn only_clients_of_the_authority_get_in_whatever_the_form_of_their_key() {
    let pki = Pki::new().unwrap();
    let relay = Relay::start_with(&Options {
        tls: TlsVersions::V12,
        ..Options::new(&pki)
    })
    .unwrap();
    for form in [
        KeyForm::Pkcs8,
        KeyForm::RsaPkcs8,
        KeyForm::Pkcs1,
        KeyForm::Sec1,
    ] {
        let identity = pki.authority.issue(&Wish::client().form(form)).unwrap();
        let mut client = connect_as(&pki, &identity, relay.port()).await.unwrap();
        assert_eq!(end(&mut client).await.unwrap(), 0, "{form:?}");
    }
    let foreign = Authority::new("other")
        .unwrap()
        .issue(&Wish::client())
        .unwrap();
    assert!(connect_as(&pki, &foreign, relay.port()).await.is_err());
    let expired = pki.authority.issue(&Wish::client().expired()).unwrap();
    assert!(connect_as(&pki, &expired, relay.port()).await.is_err());
    let mismatched = pki.client.with_key_of(&pki.server);
    assert!(connect_as(&pki, &mismatched, relay.port()).await.is_err());
}

#[tokio::test]
async fn a_reset_comes_after_so_many_bytes_and_counts_whole_lines_only() {
    let pki = Pki::new().unwrap();
    let relay = Relay::start(&pki).unwrap();
    relay.next(Behaviour::ResetAfter(line(0).len() as u64 * 3 + 10));
    let mut client = connect(&pki, relay.port()).await.unwrap();
    let _ = client.write_all(lines(9).as_bytes()).await;
    assert!(end(&mut client).await.is_err());
    assert_eq!(ended(&relay).await, End::RelayClosed);
    assert_eq!((relay.count(), relay.connections()[0].partial), (3, 10));
    let mut client = connect(&pki, relay.port()).await.unwrap();
    assert_eq!(end(&mut client).await.unwrap(), 0);
}

#[tokio::test]
async fn refusals_are_refusals() {
    let pki = Pki::new().unwrap();
    let relay = Relay::start(&pki).unwrap();
    relay.next(Behaviour::Refuse);
    relay.next(Behaviour::FailHandshake);
    for _ in 0..2 {
        assert!(connect(&pki, relay.port()).await.is_err());
    }
    let mut relay = relay;
    relay.shut().await;
    assert_eq!(
        connect(&pki, relay.port()).await.unwrap_err().kind(),
        io::ErrorKind::ConnectionRefused
    );
    relay.open().unwrap();
    assert!(connect(&pki, relay.port()).await.is_ok());
}

#[tokio::test]
async fn what_was_not_read_is_not_counted_and_resets() {
    let pki = Pki::new().unwrap();
    let relay = Relay::start(&pki).unwrap();
    relay.next(Behaviour::CloseUnread {
        after: line(0).len() as u64,
    });
    let mut client = connect(&pki, relay.port()).await.unwrap();
    client.write_all(line(0).as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    client.write_all(lines(5).as_bytes()).await.unwrap();
    assert!(
        timeout(Duration::from_secs(5), client.read(&mut [0; 1]))
            .await
            .unwrap()
            .is_err()
    );
    assert_eq!(relay.count(), 1);
}

#[tokio::test]
async fn a_stalled_relay_goes_on_when_released_and_a_paused_one_by_itself() {
    let pki = Pki::new().unwrap();
    let relay = Relay::start(&pki).unwrap();
    relay.next(Behaviour::Stall {
        after: line(0).len() as u64,
    });
    relay.next(Behaviour::Pause {
        after: 0,
        time: Duration::from_millis(200),
    });
    let mut client = connect(&pki, relay.port()).await.unwrap();
    client.write_all(lines(5).as_bytes()).await.unwrap();
    relay.wait_for(1, Duration::from_secs(5)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(relay.count(), 1);
    relay.release();
    assert_eq!(end(&mut client).await.unwrap(), 0);
    assert_eq!(relay.count(), 5);
    let (mut client, start) = (connect(&pki, relay.port()).await.unwrap(), Instant::now());
    assert_eq!(end(&mut client).await.unwrap(), 0);
    assert!(start.elapsed() >= Duration::from_millis(150));
}

#[tokio::test]
async fn the_relay_can_end_first_or_never() {
    let pki = Pki::new().unwrap();
    let relay = Relay::start(&pki).unwrap();
    relay.next(Behaviour::CloseAfter(line(0).len() as u64));
    relay.next(Behaviour::CloseIdle(Duration::from_millis(50)));
    for _ in 0..2 {
        let mut client = connect(&pki, relay.port()).await.unwrap();
        client.write_all(line(0).as_bytes()).await.unwrap();
        assert_eq!(
            timeout(Duration::from_secs(5), client.read(&mut [0; 1]))
                .await
                .unwrap()
                .unwrap(),
            0
        );
    }
    assert_eq!(relay.count(), 2);
    relay.next(Behaviour::NeverAnswer);
    let mut client = connect(&pki, relay.port()).await.unwrap();
    client.write_all(line(0).as_bytes()).await.unwrap();
    client.shutdown().await.unwrap();
    assert!(
        timeout(Duration::from_millis(300), client.read(&mut [0; 1]))
            .await
            .is_err()
    );
    assert_eq!(relay.count(), 3);
}

#[tokio::test]
async fn closes_that_cross_behind_a_slow_link_lose_what_is_under_way() {
    let pki = Pki::new().unwrap();
    let relay = Relay::start(&pki).unwrap();
    let proxy = Proxy::start(relay.address()).await.unwrap();
    let mut client = connect(&pki, proxy.port()).await.unwrap();
    client.write_all(lines(2).as_bytes()).await.unwrap();
    relay.wait_for(2, Duration::from_secs(5)).await.unwrap();
    proxy.delay(Duration::from_millis(100));
    proxy.on_client_end(relay.closer());
    client.write_all(lines(3).as_bytes()).await.unwrap();
    assert_eq!(
        end(&mut client).await.unwrap(),
        0,
        "an orderly end, and yet"
    );
    assert_eq!(relay.count(), 2);
}

#[tokio::test]
async fn a_relay_of_its_own_process_tells_what_it_read_after_a_pause_and_a_kill() {
    let pki = Pki::new().unwrap();
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_relay"));
    let mut relay = Process::start_program(program, &pki).unwrap();
    let mut client = connect(&pki, relay.port()).await.unwrap();
    relay.pause().unwrap();
    client.write_all(lines(3).as_bytes()).await.unwrap();
    client.shutdown().await.unwrap();
    let early = timeout(Duration::from_millis(200), client.read(&mut [0; 1])).await;
    assert!(early.is_err());
    relay.resume().unwrap();
    let answer = timeout(Duration::from_secs(5), client.read(&mut [0; 1])).await;
    assert_eq!(answer.unwrap().unwrap(), 0);
    assert_eq!(relay.read().unwrap().0.total(), 3);
    relay.restart().unwrap();
    let mut client = connect(&pki, relay.port()).await.unwrap();
    client.write_all(line(0).as_bytes()).await.unwrap();
    assert_eq!(end(&mut client).await.unwrap(), 0);
    relay.kill().unwrap();
    let (records, violations) = relay.read().unwrap();
    assert_eq!((records.total(), violations.len()), (4, 0));
    assert_eq!(
        records.times(Report::MessageTrace, Identity::of("{\"n\":0}").unwrap()),
        2
    );
}
