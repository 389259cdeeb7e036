//! Certificates as they are in use out there: each either serves, or is refused with what to do.

use std::io::Write as _;
use std::sync::Arc;

use insta::assert_snapshot;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use testkit::outdated::{self, Form, Issued};

use super::authority::Authority;
use super::peer::Peer;
use super::{ENDED, impatient};
use crate::config::RelayOutput;
use crate::relay::knowledge::Terms;
use crate::relay::{DeliveryError, Receipt};

type Issuer = CertifiedIssuer<'static, KeyPair>;

/// A chain of authorities: one that signs itself, and one that it has signed.
struct Chain {
    root: Issuer,
    middle: Issuer,
}

impl Chain {
    /// The root is valid until the first of January of a year.
    fn until(year: i32) -> Self {
        let parameters = |name: &str| {
            let mut parameters = CertificateParams::new(Vec::new()).unwrap();
            parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            parameters.distinguished_name.push(DnType::CommonName, name);
            parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
            parameters
        };
        let mut of_root = parameters("the root");
        of_root.not_after = date_time_ymd(year, 1, 1);
        let root = CertifiedIssuer::self_signed(of_root, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let middle = CertifiedIssuer::signed_by(parameters("the middle"), key, &root).unwrap();
        Self { root, middle }
    }

    /// A certificate of the middle's, and its key in PEM.
    fn issue(&self, names: &[&str]) -> (rcgen::Certificate, String) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new(names).unwrap();
        let certificate = parameters.signed_by(&key, &self.middle).unwrap();
        (certificate, key.serialize_pem())
    }
}

/// A relay that shows these certificates, whatever they are worth, and takes clients of this authority.
fn settings(
    shown: Vec<CertificateDer<'static>>,
    key: &str,
    clients: CertificateDer<'static>,
    version: &'static SupportedProtocolVersion,
) -> Arc<ServerConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(clients).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let key = provider.key_provider.load_private_key(key).unwrap();
    let shown = SingleCertAndKey::from(CertifiedKey::new(shown, key));
    let settings = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(shown));
    Arc::new(settings)
}

/// Delivers a line to a relay with these settings.
async fn deliver(
    settings: Arc<ServerConfig>,
    output: RelayOutput,
) -> Result<Receipt, DeliveryError> {
    // A relay that is refused reads nothing, and resets nothing.
    let peer = Peer::raw(move |socket| {
        let mut accepted = super::peer::Accepted::shake_hands(settings, socket);
        super::peer::wait_for_end(&mut accepted.socket);
    });
    let output = RelayOutput {
        port: peer.port,
        ..output
    };
    let mut delivery = impatient(output).open().await?;
    delivery.write(b"a line\n").await?;
    let terms = Terms {
        half_close: true,
        ..ENDED
    };
    delivery.finish(terms).await
}

fn told(error: &DeliveryError, authority: &Authority) -> String {
    assert!(error.is_setup(), "{error:?}");
    let folder = authority.folder.path().display().to_string();
    format!("{error}\n{}", error.action().unwrap()).replace(&folder, "certs")
}

/// Whether a relay that shows `shown` serves where the chain file holds `anchors`.
async fn serves(chain: &Chain, anchors: &[&Issuer], shown: &[&Issuer]) {
    let authority = Authority::new();
    let file: String = anchors.iter().map(|anchor| anchor.pem()).collect();
    authority.write("chain.crt", file);
    let (leaf, key) = chain.issue(&["127.0.0.1"]);
    let shown = shown.iter().map(|one| one.der().clone());
    let shown: Vec<_> = std::iter::once(leaf.der().clone()).chain(shown).collect();
    for version in [&TLS12, &TLS13] {
        let clients = authority.issuer.der().clone();
        let settings = settings(shown.clone(), &key, clients, version);
        let receipt = deliver(settings, authority.output(0)).await;
        assert_eq!(receipt.unwrap(), Receipt::Ended);
    }
}

#[tokio::test]
async fn the_chain_file_may_be_in_any_order_and_so_may_what_the_relay_shows() {
    let chain = Chain::until(4096);
    let (root, middle) = (&chain.root, &chain.middle);
    serves(&chain, &[root, middle], &[]).await;
    serves(&chain, &[middle, root], &[]).await;
    serves(&chain, &[root], &[root, middle]).await;
    serves(&chain, &[root], &[middle, root]).await;
}

#[tokio::test]
async fn the_chain_file_may_leave_the_root_out() {
    let chain = Chain::until(4096);
    serves(&chain, &[&chain.middle], &[]).await;
    serves(&chain, &[&chain.middle], &[&chain.middle]).await;
}

#[tokio::test]
async fn an_authority_in_the_chain_file_may_have_expired() {
    let chain = Chain::until(2020);
    serves(&chain, &[&chain.root], &[&chain.middle]).await;
}

#[tokio::test]
async fn our_certificate_may_stand_anywhere_in_its_file() {
    let chain = Chain::until(4096);
    let authority = Authority::new();
    let (leaf, key) = chain.issue(&["collector"]);
    authority.write("client.key", key);
    let server = authority.issue(&["127.0.0.1"]);
    let (own, middle, root) = (leaf.pem(), chain.middle.pem(), chain.root.pem());
    for file in [
        [&own, &middle, &root],
        [&middle, &own, &root],
        [&root, &middle, &own],
    ] {
        authority.write("client.crt", file.map(String::as_str).concat());
        for version in [&TLS12, &TLS13] {
            let clients = chain.root.der().clone();
            let settings = settings(
                server.server_chain(),
                &server.key.serialize_pem(),
                clients,
                version,
            );
            let receipt = deliver(settings, authority.output(0)).await;
            assert_eq!(receipt.unwrap(), Receipt::Ended);
        }
    }
}

#[tokio::test]
async fn a_relay_with_its_name_in_cn_only_is_taken_where_names_do_not_count() {
    let authority = Authority::new();
    let key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters
        .distinguished_name
        .push(DnType::CommonName, "127.0.0.1");
    let certificate = parameters.signed_by(&key, &authority.issuer).unwrap();
    let clients = authority.issuer.der().clone();
    let settings = settings(
        vec![certificate.der().clone()],
        &key.serialize_pem(),
        clients,
        &TLS13,
    );
    let error = deliver(settings.clone(), authority.output(0))
        .await
        .unwrap_err();
    assert_snapshot!(told(&error, &authority), @r"
    the relay's certificate is not acceptable: it is not for 127.0.0.1 but for no name at all (a name in CN alone does not count)
    set `address` to a name in the certificate; or, for a relay of your own, `verify_hostname: false`
    ");
    let output = RelayOutput {
        verify_hostname: false,
        ..authority.output(0)
    };
    assert_eq!(deliver(settings, output).await.unwrap(), Receipt::Ended);
}

/// Says it past the capture of a test's output where the certificates cannot be made; with `CI=true` nothing may be skipped.
/// What comes of a relay that shows a certificate that it has signed itself, as an authority (`openssl req -x509`) or not.
async fn self_signed(ca: bool, expired: bool, in_chain: bool) -> Result<Receipt, DeliveryError> {
    let authority = Authority::new();
    let mut parameters = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    if ca {
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    if expired {
        parameters.not_after = date_time_ymd(2020, 1, 1);
    }
    let key = KeyPair::generate().unwrap();
    let certificate = parameters.self_signed(&key).unwrap();
    if in_chain {
        authority.write("chain.crt", certificate.pem());
    }
    let shown = vec![certificate.der().clone()];
    let clients = authority.issuer.der().clone();
    let settings = settings(shown, &key.serialize_pem(), clients, &TLS13);
    deliver(settings, authority.output(0)).await
}

#[tokio::test]
async fn a_certificate_that_stands_in_the_chain_file_serves_as_an_authority_too() {
    for ca in [true, false] {
        let receipt = self_signed(ca, false, true).await;
        assert_eq!(receipt.unwrap(), Receipt::Ended, "CA:{ca}");
        let error = self_signed(ca, true, true).await.unwrap_err();
        assert!(error.to_string().contains("it expired on"), "{error}");
        let error = self_signed(ca, false, false).await.unwrap_err();
        assert!(error.is_setup() && error.action().is_some(), "{error}");
    }
}

#[tokio::test]
async fn a_relay_without_a_version_or_a_cipher_in_common_is_told_what_to_offer() {
    use std::io::{Read as _, Write as _};
    // Alerts of a server that finds nothing in common: handshake_failure, protocol_version, insufficient_security.
    for alert in [40, 70, 71] {
        let authority = Authority::new();
        let peer = Peer::raw(move |mut socket| {
            let mut hello = [0; 4096];
            assert!(socket.read(&mut hello).unwrap() > 0);
            socket.write_all(&[0x15, 3, 3, 0, 2, 2, alert]).unwrap();
            super::peer::wait_for_end(&mut socket);
        });
        let error = impatient(authority.output(peer.port))
            .open()
            .await
            .unwrap_err();
        let action = error.action().unwrap();
        assert!(
            action.contains("let the relay offer TLS 1.3, or TLS 1.2"),
            "{error}: {action}"
        );
    }
}

fn is_possible() -> bool {
    let is_possible = outdated::is_possible();
    if !is_possible {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"));
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: outdated certificates: the package openssl is missing"
        );
    }
    is_possible
}

/// What comes of a relay whose certificate and authority are of these forms, names or no names.
async fn outcome(of_authority: Form, of_relay: Form) -> String {
    let authority = Authority::new();
    let Issued {
        authority: anchor,
        identity,
    } = outdated::issue(of_authority, of_relay).unwrap();
    authority.write("chain.crt", anchor);
    let shown = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
    let mut outcomes = Vec::new();
    for version in [&TLS12, &TLS13] {
        let clients = authority.issuer.der().clone();
        let settings = settings(vec![shown.clone()], &identity.key, clients, version);
        let output = RelayOutput {
            verify_hostname: !of_relay.version_1,
            ..authority.output(0)
        };
        outcomes.push(match deliver(settings, output).await {
            Ok(receipt) => format!("{receipt:?}"),
            Err(error) => told(&error, &authority),
        });
    }
    assert_eq!(outcomes[0], outcomes[1]);
    outcomes.remove(0)
}

#[tokio::test]
async fn an_authority_of_version_1_serves() {
    if is_possible() {
        assert_eq!(outcome(Form::VERSION_1, Form::GOOD).await, "Ended");
    }
}

#[tokio::test]
async fn an_authority_that_is_signed_with_sha_1_serves() {
    if is_possible() {
        assert_eq!(outcome(Form::SHA_1, Form::GOOD).await, "Ended");
    }
}

#[tokio::test]
async fn a_relay_that_is_signed_with_sha_1_is_refused_with_what_to_do() {
    if is_possible() {
        assert_snapshot!(outcome(Form::GOOD, Form::SHA_1).await, @r"
    the relay's certificate is not acceptable: CN=localhost is signed with SHA-1, which is not accepted any more
    have that certificate issued anew, and what it has issued: version 3, signed with SHA-256, with an RSA key of 2048 bits or more or an ECDSA one; no setting lets it pass, but a relay on this machine that still accepts it can stand between (type `syslog`)
    ");
    }
}

#[tokio::test]
async fn an_authority_with_a_key_of_1024_bits_is_refused_with_what_to_do() {
    if is_possible() {
        assert_snapshot!(outcome(Form::SHORT, Form::GOOD).await, @r"
    the relay's certificate is not acceptable: CN=old authority has an RSA key of 1024 bits, which is not accepted any more
    have that certificate issued anew, and what it has issued: version 3, signed with SHA-256, with an RSA key of 2048 bits or more or an ECDSA one; no setting lets it pass, but a relay on this machine that still accepts it can stand between (type `syslog`)
    ");
    }
}

#[tokio::test]
async fn a_relay_of_version_1_is_refused_with_what_to_do() {
    if is_possible() {
        assert_snapshot!(outcome(Form::GOOD, Form::VERSION_1).await, @r"
    the relay's certificate is not acceptable: CN=localhost is of X.509 version 1, which is not accepted any more
    have that certificate issued anew, and what it has issued: version 3, signed with SHA-256, with an RSA key of 2048 bits or more or an ECDSA one; no setting lets it pass, but a relay on this machine that still accepts it can stand between (type `syslog`)
    ");
    }
}

/// What is said of our own certificate and key of this form, before any connection.
fn own(form: Form) -> Result<(), String> {
    let authority = Authority::new();
    let issued = outdated::issue(Form::GOOD, form).unwrap();
    authority.write("client.crt", issued.identity.certificate);
    authority.write("client.key", issued.identity.key);
    let checked = impatient(authority.output(1)).check();
    checked.map_err(|error| told(&error, &authority))
}

#[test]
fn our_key_of_1024_bits_is_refused_with_what_to_do() {
    if is_possible() {
        assert_snapshot!(own(Form::SHORT).unwrap_err(), @r"
    `key` file certs/client.key: the private key is an RSA key of 1024 bits, which is not accepted any more
    download a new certificate and its key, or have them issued anew, with an RSA key of 2048 bits or more or an ECDSA one; no setting lets it pass, but a relay on this machine that still accepts it can stand between (type `syslog`)
    ");
    }
}

#[test]
fn our_certificate_signed_with_sha_1_or_of_version_1_is_for_the_relay_to_judge() {
    if is_possible() {
        assert_eq!(own(Form::SHA_1), Ok(()));
        assert_eq!(own(Form::VERSION_1), Ok(()));
    }
}
