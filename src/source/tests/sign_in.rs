//! Signing in: tokens shared, renewed and rejected; the certificate's proof.

use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};
use serde_json::Value;

use super::*;

#[tokio::test]
async fn eight_services_share_one_token() {
    let server = Server::start(|request, _| {
        if request.contains(TOKEN_PATH) {
            token(1, "3599")
        } else {
            page("{}", None)
        }
    })
    .await;
    let client = server.client(secret());
    let walks: Vec<_> = (0..8)
        .map(|_| {
            let mut walk = client.walk(query(), &fingerprinter());
            tokio::spawn(async move { row(&mut walk).await })
        })
        .collect();
    for walk in walks {
        assert_eq!(walk.await.unwrap(), "{}");
    }
    assert_eq!(server.count(TOKEN_PATH), 1);
    assert_eq!(server.count("authorization: Bearer token1\r\n"), 8);
    let asked = &server.requests()[0];
    assert!(
        asked.ends_with(
            "grant_type=client_credentials&client_id=client&scope=https%3A%2F%2Foutlook.office365.com%2F.default&client_secret=hush"
        ),
        "{asked}"
    );
}

#[tokio::test]
async fn an_answer_that_repeats_the_request_shows_no_token() {
    let server = Server::start(|request, _| {
        if request.contains(TOKEN_PATH) {
            return token(1, "3599");
        }
        let header = request
            .lines()
            .find(|line| line.starts_with("authorization"));
        let title = format!(
            "<title>denied: {} / {}</title>",
            header.unwrap(),
            header.unwrap()
        );
        answer(403, "", title)
    })
    .await;
    for (credentials, shown) in [
        (
            secret(),
            "authorization: Bearer (removed) / authorization: Bearer (removed)",
        ),
        (
            basic(),
            "authorization: Basic (removed) / authorization: Basic (removed)",
        ),
    ] {
        let error = error(&mut server.client(credentials).walk(query(), &fingerprinter())).await;
        assert!(error.to_string().contains(shown), "{error}");
    }
}

#[tokio::test]
async fn a_rejected_token_is_renewed_once_for_all() {
    let issued = std::sync::atomic::AtomicUsize::new(0);
    let server = Server::start(move |request, _| {
        if request.contains(TOKEN_PATH) {
            token(
                issued.fetch_add(1, std::sync::atomic::Ordering::Relaxed),
                "3599",
            )
        } else if request.contains("token0") {
            answer(401, "", "<html><title>401</title></html>")
        } else {
            page(
                "{}",
                Some(&format!("?$skiptoken={}", request.contains("skiptoken"))),
            )
        }
    })
    .await;
    let client = server.client(secret());
    let walks: Vec<_> = (0..8)
        .map(|_| {
            let mut walk = client.walk(query(), &fingerprinter());
            tokio::spawn(async move { row(&mut walk).await })
        })
        .collect();
    for walk in walks {
        assert_eq!(walk.await.unwrap(), "{}");
    }
    assert_eq!(server.count(TOKEN_PATH), 2);
}

#[tokio::test]
async fn a_fresh_token_that_is_rejected_asks_for_the_role() {
    let server = Server::start(|request, n| {
        if request.contains(TOKEN_PATH) {
            token(n + 2, "3599")
        } else {
            answer(401, "", "")
        }
    })
    .await;
    let mut walk = server.client(secret()).walk(query(), &fingerprinter());
    for tries in 1..3 {
        let error = error(&mut walk).await;
        assert_eq!(
            (error.kind(), error.remedy()),
            (Kind::Unauthorized, Remedy::AskOperator)
        );
        assert!(error.action().unwrap().contains("Global Reader"));
        // Each try comes with a fresh token at last, since a new role needs one.
        assert_eq!(server.count(TOKEN_PATH), 1 + tries);
    }
}

#[tokio::test]
async fn basic_has_nothing_to_renew() {
    let server = Server::start(|_, _| answer(401, "", "")).await;
    let error = error(&mut server.client(basic()).walk(query(), &fingerprinter())).await;
    assert!(
        error
            .action()
            .unwrap()
            .contains("turned Basic authentication off")
    );
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn what_the_directory_says_is_shown_without_our_secret() {
    let server = Server::start(|_, n| match n {
        0 => answer(
            401,
            "",
            r#"{"error":"invalid_client","error_description":"AADSTS7000215: hush is no secret of ours."}"#,
        ),
        1 => answer(503, "", "hush"),
        2 => answer(200, "", r#"{"access_token":"to\nken1"}"#),
        3 => answer(200, "", " ".repeat(1024 * 1024 + 1)),
        _ => answer(200, "", "<html><title>Sign in</title></html>"),
    })
    .await;
    let mut walk = server.client(secret()).walk(query(), &fingerprinter());
    let refused = error(&mut walk).await;
    assert_eq!(refused.remedy(), Remedy::AskOperator);
    assert!(
        refused
            .to_string()
            .ends_with("AADSTS7000215: (removed) is no secret of ours."),
        "{refused}"
    );
    assert_eq!(refused.request_id(), Some("id-401"));
    for _ in 0..4 {
        pass(Duration::from_mins(1)).await;
        let error = error(&mut walk).await;
        assert_eq!(
            (error.kind(), error.shorter_window_may_help()),
            (Kind::SignInFailed, false)
        );
    }
    assert_eq!(server.count("MessageTrace"), 0);
}

struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn write(&self, name: &str, text: &str) -> std::path::PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

fn pair(algorithm: &'static rcgen::SignatureAlgorithm) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate_for(algorithm).unwrap();
    (
        CertificateParams::new(Vec::new())
            .unwrap()
            .self_signed(&key)
            .unwrap(),
        key,
    )
}

fn certificate(certificate: &Path, key: &Path) -> Credentials {
    Credentials::Certificate {
        tenant_id: "tenant".to_owned(),
        client_id: "client".to_owned(),
        client_certificate: certificate.to_owned(),
        client_key: key.to_owned(),
    }
}

#[tokio::test]
async fn signs_in_with_a_certificate() {
    let files = Files::new();
    let (cert, key) = pair(&PKCS_RSA_SHA256);
    let (other, _) = pair(&PKCS_RSA_SHA256);
    // One file for both, with a byte order mark, and another certificate first.
    let both = format!(
        "\u{feff}{}{}{}",
        other.pem(),
        cert.pem(),
        key.serialize_pem()
    );
    let both = files.write("both.pem", &both);

    let server = Server::start(|request, n| match (request.contains(TOKEN_PATH), n) {
        (true, 0) => answer(
            401,
            "",
            r#"{"error":"invalid_client","error_description":"AADSTS700024: not within its valid time range"}"#,
        ),
        (true, _) => token(2, "3599"),
        (false, _) => page("{}", None),
    })
    .await;
    let client = server.client(certificate(&both, &both));
    let mut walk = client.walk(query(), &fingerprinter());
    assert_eq!(error(&mut walk).await.remedy(), Remedy::BackOff);
    assert_eq!(client.directory_time(), None);
    assert_eq!(row(&mut walk).await, "{}");
    assert!(client.directory_time().is_some());

    // The second proof goes by the directory's clock, which the first answer told.
    let request = server.requests()[1].clone();
    let body = request.split("\r\n\r\n").nth(1).unwrap();
    let form: std::collections::HashMap<_, _> = url::form_urlencoded::parse(body.as_bytes())
        .into_owned()
        .collect();
    assert_eq!(
        form["client_assertion_type"],
        "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    );
    assert!(!form.contains_key("client_secret"));
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_audience(&[server.url(TOKEN_PATH)]);
    validation.validate_exp = false; // it ended in 2024
    let der = key.public_key_raw();
    let token = jsonwebtoken::decode::<Value>(
        &form["client_assertion"],
        &DecodingKey::from_rsa_der(der),
        &validation,
    )
    .unwrap();
    let claims = &token.claims;
    assert_eq!(
        (&claims["iss"], &claims["sub"]),
        (&"client".into(), &"client".into())
    );
    let asked = "2024-05-07T15:35:24Z"
        .parse::<DateTime<Utc>>()
        .unwrap()
        .timestamp();
    let (nbf, exp) = (
        claims["nbf"].as_i64().unwrap(),
        claims["exp"].as_i64().unwrap(),
    );
    assert!(
        (asked - 60..asked).contains(&nbf) && exp - nbf <= 600,
        "{claims}"
    );
    assert_eq!(claims["jti"].as_str().unwrap().len(), 32);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, cert.der());
    assert_eq!(
        token.header.x5t_s256.unwrap(),
        BASE64_URL_SAFE_NO_PAD.encode(digest)
    );
    assert_eq!(
        BASE64_URL_SAFE_NO_PAD
            .decode(token.header.x5t.unwrap())
            .unwrap()
            .len(),
        20
    );
}

#[tokio::test]
async fn unusable_certificates_and_keys_are_named() {
    let files = Files::new();
    let (cert, key) = pair(&PKCS_RSA_SHA256);
    let (ec_cert, ec_key) = pair(&PKCS_ECDSA_P256_SHA256);
    let good_cert = files.write("cert.pem", &cert.pem());
    let good_key = files.write("key.pem", &key.serialize_pem());
    let missing = files.folder.path().join("missing.pem");
    let text = files.write("text.pem", "no PEM at all");
    let other = files.write("other.pem", &ec_cert.pem());
    let ec = files.write("ec.pem", &ec_key.serialize_pem());
    let locked = files.write(
        "locked.pem",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let der = files.folder.path().join("cert.der");
    std::fs::write(&der, cert.der()).unwrap();

    let server = Server::start(|_, _| token(2, "3599")).await;
    let check = |cert: &Path, key: &Path, parts: &[&str]| {
        let result = Client::new(&server.input(certificate(cert, key)));
        let Err(error) = result else {
            panic!("{parts:?}")
        };
        let error = format!("{error:#}");
        for part in parts {
            assert!(error.contains(part), "{part} in {error}");
        }
    };
    Client::new(&server.input(certificate(&good_cert, &good_key))).unwrap();
    check(
        &missing,
        &good_key,
        &["`client_certificate`", "missing.pem", "no such file"],
    );
    check(
        &good_cert,
        &missing,
        &["`client_key`", "missing.pem", "no such file"],
    );
    check(
        &text,
        &good_key,
        &["`client_certificate`", "text.pem", "no certificate"],
    );
    check(
        &good_cert,
        &text,
        &["`client_key`", "text.pem", "no private key"],
    );
    check(&good_cert, &ec, &["`client_key`", "RSA"]);
    check(
        &good_cert,
        &locked,
        &["`client_key`", "encrypted", "openssl pkey"],
    );
    check(
        &other,
        &good_key,
        &["do not belong together", "other.pem", "key.pem"],
    );
    check(
        &der,
        &good_key,
        &["`client_certificate`", "openssl x509 -inform DER"],
    );

    // One that breaks later is an error of the walk, and asks the operator.
    let mut walk = server
        .client(certificate(&good_cert, &good_key))
        .walk(query(), &fingerprinter());
    std::fs::remove_file(&good_key).unwrap();
    let error = error(&mut walk).await;
    assert_eq!(
        (error.kind(), error.remedy()),
        (Kind::SignInRefused, Remedy::AskOperator)
    );
    assert!(format!("{:#}", anyhow::Error::from(error)).contains("key.pem"));
}
