//! Who trusts whom, and what is said when they do not.

use std::time::Duration;

use insta::assert_snapshot;
use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, SignatureAlgorithm};
use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};
use x509_parser::der_parser::parse_der;

use super::authority::Authority;
use super::peer::{Peer, settings, settings_for};
use super::{ENDED, impatient};
use crate::config::RelayOutput;
use crate::relay::{DeliveryError, Ending, Receipt, Relay};

/// Delivers a line; the receipt.
async fn deliver(relay: &Relay) -> Result<Receipt, DeliveryError> {
    let mut delivery = relay.open().await?;
    delivery.write(b"a line\n").await?;
    delivery.finish(ENDED).await
}

/// What an operator is told.
fn told(error: &DeliveryError, authority: &Authority) -> String {
    assert!(error.is_setup(), "{error:?}");
    let action = error.action().unwrap();
    let folder = authority.folder.path().display().to_string();
    format!("{error}\n{action}").replace(&folder, "certs")
}

/// The inner key of a PKCS#8 one: PKCS#1 for RSA, SEC1 for elliptic curves.
fn inner_key(pkcs8: &[u8], label: &str) -> String {
    let (_, outer) = parse_der(pkcs8).unwrap();
    let inner = outer.as_sequence().unwrap()[2].as_slice().unwrap();
    let body = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, inner);
    let lines: Vec<_> = body
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

#[tokio::test]
async fn every_key_format_works_with_both_versions() {
    async fn check(algorithm: &'static SignatureAlgorithm, label: &str) {
        let authority = Authority::new();
        let client = authority.issue_for(&["collector"], algorithm, 4096);
        authority.write("client.crt", client.certificate.pem());
        let key = match label {
            "PRIVATE KEY" => client.key.serialize_pem(),
            _ => inner_key(&client.key.serialize_der(), label),
        };
        authority.write("client.key", key);
        for version in [&TLS12, &TLS13] {
            let peer = Peer::tls(settings(&authority, version), |mut tls| tls.read_to_end());
            let receipt = deliver(&impatient(authority.output(peer.port))).await;
            assert_eq!(receipt.unwrap(), Receipt::Ended, "{label} {version:?}");
            assert_eq!(peer.result(), b"a line\n");
        }
    }
    check(&PKCS_RSA_SHA256, "PRIVATE KEY").await;
    check(&PKCS_RSA_SHA256, "RSA PRIVATE KEY").await;
    check(&PKCS_ECDSA_P256_SHA256, "PRIVATE KEY").await;
    check(&PKCS_ECDSA_P256_SHA256, "EC PRIVATE KEY").await;
    check(&PKCS_ECDSA_P384_SHA384, "EC PRIVATE KEY").await;
}

#[tokio::test]
async fn any_certificate_of_the_chain_file_is_an_anchor() {
    let authority = Authority::new();
    let another = Authority::new();
    authority.write(
        "chain.crt",
        format!("{}\n{}", another.issuer.pem(), authority.issuer.pem()),
    );
    let peer = Peer::tls(settings(&authority, &TLS13), |mut tls| tls.read_to_end());
    let receipt = deliver(&impatient(authority.output(peer.port))).await;
    assert_eq!(receipt.unwrap(), Receipt::Ended);
}

/// What is said of a relay whose certificate is not acceptable.
async fn refused_relay(
    authority: &Authority,
    server: &Authority,
    names: &[&str],
    until: i32,
) -> String {
    let identity = server.issue_for(names, &PKCS_ECDSA_P256_SHA256, until);
    let settings = settings_for(authority, server, &identity, &TLS13);
    let peer = Peer::tls(settings, drop);
    let error = deliver(&impatient(authority.output(peer.port)))
        .await
        .unwrap_err();
    told(&error, authority)
}

#[tokio::test]
async fn a_relay_of_another_authority_is_refused() {
    let authority = Authority::new();
    let another = Authority::new();
    assert_snapshot!(refused_relay(&authority, &another, &["127.0.0.1"], 4096).await, @r"
    the relay's certificate is not acceptable: none of the authorities in the chain file has issued it
    put the certificate of the authority that issued the relay's into certs/chain.crt, beside those in it
    ");
}

#[tokio::test]
async fn an_expired_relay_is_refused() {
    let authority = Authority::new();
    assert_snapshot!(refused_relay(&authority, &authority, &["127.0.0.1"], 2020).await, @r"
    the relay's certificate is not acceptable: it expired on 2020-01-01 00:00:00 UTC
    the relay's certificate has to be renewed there; or this machine's clock is wrong
    ");
}

#[tokio::test]
async fn a_relay_of_another_name_is_refused() {
    let authority = Authority::new();
    assert_snapshot!(refused_relay(&authority, &authority, &["relay.example"], 4096).await, @r"
    the relay's certificate is not acceptable: it is not for 127.0.0.1 but for relay.example
    set `address` to a name in the certificate; or, for a relay of your own, `verify_hostname: false`
    ");
}

#[tokio::test]
async fn a_relay_of_another_name_is_taken_if_the_name_does_not_matter() {
    let authority = Authority::new();
    let identity = authority.issue(&["relay.example"]);
    for version in [&TLS12, &TLS13] {
        let settings = settings_for(&authority, &authority, &identity, version);
        let peer = Peer::tls(settings, |mut tls| tls.read_to_end());
        let output = RelayOutput {
            verify_hostname: false,
            ..authority.output(peer.port)
        };
        assert_eq!(deliver(&impatient(output)).await.unwrap(), Receipt::Ended);
    }
}

#[tokio::test]
async fn without_the_name_the_authority_and_the_dates_still_count() {
    let authority = Authority::new();
    let another = Authority::new();
    for (server, until) in [(&another, 4096), (&authority, 2020)] {
        let identity = server.issue_for(&["127.0.0.1"], &PKCS_ECDSA_P256_SHA256, until);
        let peer = Peer::tls(settings_for(&authority, server, &identity, &TLS13), drop);
        let output = RelayOutput {
            verify_hostname: false,
            ..authority.output(peer.port)
        };
        let error = deliver(&impatient(output)).await.unwrap_err();
        assert!(matches!(error, DeliveryError::Untrusted { .. }), "{error}");
    }
}

#[tokio::test]
async fn the_address_may_be_a_name() {
    let authority = Authority::new();
    let identity = authority.issue(&["localhost"]);
    let settings = settings_for(&authority, &authority, &identity, &TLS13);
    let peer = Peer::tls(settings, |mut tls| tls.read_to_end());
    let output = RelayOutput {
        address: "localhost".to_owned(),
        ..authority.output(peer.port)
    };
    assert_eq!(deliver(&impatient(output)).await.unwrap(), Receipt::Ended);
}

/// A relay that trusts another authority's clients only.
fn refusing_peer(authority: &Authority, version: &'static SupportedProtocolVersion) -> Peer<()> {
    let another = Authority::new();
    let identity = authority.issue(&["127.0.0.1"]);
    let settings = settings_for(&another, authority, &identity, version);
    Peer::tls(settings, drop)
}

#[tokio::test]
async fn a_relay_that_refuses_our_certificate_is_understood_at_every_step() {
    let authority = Authority::new();
    let output = |version| authority.output(refusing_peer(&authority, version).port);
    for version in [&TLS12, &TLS13] {
        let error = deliver(&impatient(output(version))).await.unwrap_err();
        assert!(matches!(error, DeliveryError::Refused { .. }), "{error}");
        let error = impatient(output(version))
            .probe(Duration::from_secs(5))
            .await
            .unwrap_err();
        assert!(matches!(error, DeliveryError::Refused { .. }), "{error}");
    }
    let mut delivery = impatient(output(&TLS13)).open().await.unwrap();
    let error = delivery.broken().await;
    assert_snapshot!(told(&error, &authority), @r"
    the relay refused our certificate (alert unknown_ca)
    check that certs/client.crt is current, was issued by an authority that this relay trusts, and also holds the intermediate certificates if there are any; download certificate, key and chain anew if in doubt
    ");
}

#[tokio::test]
async fn certificates_are_read_anew_for_each_connection() {
    let authority = Authority::new();
    let peer = refusing_peer(&authority, &TLS12);
    let relay = impatient(authority.output(peer.port));
    assert!(relay.open().await.is_err());

    let another = Authority::new();
    let client = another.issue(&["collector"]);
    authority.write("client.crt", client.certificate.pem());
    authority.write("client.key", client.key.serialize_pem());
    let identity = authority.issue(&["127.0.0.1"]);
    let settings = settings_for(&another, &authority, &identity, &TLS12);
    let peer = Peer::tls(settings, |mut tls| drop(tls.read_to_end()));
    // The same relay, but for the port.
    let moved = Relay {
        peer: super::tls_peer(authority.output(peer.port)),
        ..relay
    };
    assert_eq!(
        moved.probe(Duration::from_secs(5)).await.unwrap(),
        Ending::Ended
    );
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_named() {
    let authority = Authority::new();
    let error = impatient(authority.output(1)).open().await.unwrap_err();
    assert!(!error.is_setup());
    assert_snapshot!(error, @"no connection to 127.0.0.1:1 (127.0.0.1:1: Connection refused (os error 111))");
}
