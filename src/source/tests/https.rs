//! HTTPS: whom the client trusts, and what it says when it does not.

use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;

use super::*;

/// A server with a certificate for `name`, and the PEM of its authority.
async fn server(name: &str) -> (Server, String) {
    let key = KeyPair::generate().unwrap();
    let cert = CertificateParams::new([name.to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![cert.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server {
        address: listener.local_addr().unwrap(),
        requests: Arc::default(),
    };
    let seen = Arc::clone(&server.requests);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                exchange(stream, &seen, &|_, _| page("{}", None)).await;
            }
        }
    });
    (server, cert.pem())
}

fn input(server: &Server, bundle: Option<&str>) -> (Input, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut input = server.input(basic());
    input.base_url.set_scheme("https").unwrap();
    input.ca_bundle = bundle.map(|text| {
        let path = folder.path().join("bundle.pem");
        std::fs::write(&path, text).unwrap();
        path
    });
    (input, folder)
}

#[tokio::test]
async fn trusts_the_bundle() {
    let (server, authority) = server("127.0.0.1").await;
    let (_, unrelated) = super::https::server("unrelated").await;
    let (input, _folder) = input(&server, Some(&format!("{unrelated}\r\n{authority}")));
    assert_eq!(
        row(&mut Client::new(&input).unwrap().walk(query(), &fingerprinter())).await,
        "{}"
    );
}

#[tokio::test]
async fn says_what_to_do_about_a_certificate() {
    let (known, authority) = server("127.0.0.1").await;
    let (misnamed, misnamed_authority) = server("elsewhere.example").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plain = Server {
        address: listener.local_addr().unwrap(),
        requests: Arc::default(),
    };
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
    });
    for (server, bundle, advice) in [
        (&known, &misnamed_authority, "`ca_bundle`"),
        (&misnamed, &misnamed_authority, "names another host"),
        (&plain, &authority, "does not speak TLS"),
    ] {
        let (input, _folder) = input(server, Some(bundle));
        let error = error(&mut Client::new(&input).unwrap().walk(query(), &fingerprinter())).await;
        assert_eq!(
            (error.kind(), error.remedy()),
            (Kind::Unreachable, Remedy::BackOff)
        );
        assert!(
            error.action().is_some_and(|action| action.contains(advice)),
            "{error:?}"
        );
    }
    assert!(known.requests().is_empty() && misnamed.requests().is_empty());
}

#[tokio::test]
async fn the_names_in_a_certificate_do_not_steer_a_terminal() {
    let (server, authority) = server("else\u{1b}[2Jwhere\u{7f}.example").await;
    let (input, _folder) = input(&server, Some(&authority));
    let error = error(&mut Client::new(&input).unwrap().walk(query(), &fingerprinter())).await;
    let chain = crate::error::chain(&error);
    assert!(!chain.contains(crate::foreign::steers), "{chain:?}");
    assert!(chain.contains("where"), "{chain:?}");
}

#[tokio::test]
async fn an_unusable_bundle_is_named() {
    let (server, authority) = server("127.0.0.1").await;
    let broken = authority.replace("BEGIN CERTIFICATE-----\n", "BEGIN CERTIFICATE-----\nAAAA");
    for (bundle, advice) in [
        ("", "is empty"),
        ("see the wiki", "holds no certificate"),
        (broken.as_str(), "certificate 1 in"),
    ] {
        let (input, _folder) = input(&server, Some(bundle));
        let Err(error) = Client::new(&input) else {
            panic!("{bundle}")
        };
        let error = format!("{error:#}");
        assert!(
            error.contains("`ca_bundle`") && error.contains(advice),
            "{error}"
        );
    }
    let (mut input, _folder) = input(&server, None);
    input.ca_bundle = Some("/nowhere/bundle.pem".into());
    let Err(error) = Client::new(&input) else {
        panic!()
    };
    assert!(format!("{error:#}").contains("no such file"), "{error:#}");
}
