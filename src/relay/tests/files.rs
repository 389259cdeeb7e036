//! Every way of getting the three files wrong.

use std::fs;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use insta::assert_snapshot;
use rcgen::PKCS_ECDSA_P256_SHA256;

use super::super::tls::Party;
use super::authority::Authority;
use super::impatient;
use crate::config::RelayOutput;

/// What an operator is told once `change` has been made to good files.
fn told(change: impl FnOnce(&Authority, &mut RelayOutput)) -> String {
    let authority = Authority::new();
    let mut output = authority.output(1);
    impatient(output.clone()).check().unwrap();
    change(&authority, &mut output);
    let error = impatient(output).check().unwrap_err();
    assert!(error.is_setup());
    let folder = authority.folder.path().display().to_string();
    format!("{error}\n{}", error.action().unwrap()).replace(&folder, "certs")
}

#[test]
fn missing() {
    assert_snapshot!(told(|_, output| output.key.set_file_name("typo.key")), @r"
    `key` file certs/typo.key: there is no such file
    put the file there, or correct `key`
    ");
}

#[test]
fn a_folder() {
    assert_snapshot!(told(|authority, output| output.cert = authority.folder.path().to_owned()), @r"
    `cert` file certs: is a folder
    put the file in its place, or correct `cert`; Docker makes a folder where a file that is mounted is missing on the host: remove it there, put the file there, and start the container again
    ");
}

#[test]
fn empty() {
    assert_snapshot!(told(|authority, _| authority.write("chain.crt", "\n")), @r"
    `chain` file certs/chain.crt: is empty
    download the chain file again, or correct `chain`
    ");
}

#[test]
fn no_certificate_in_the_chain() {
    assert_snapshot!(told(|authority, _| authority.write("chain.crt", "see the wiki")), @r"
    `chain` file certs/chain.crt: holds no certificate in PEM form
    download the chain file again, or correct `chain`
    ");
}

#[test]
fn damaged() {
    assert_snapshot!(told(|authority, _| {
        let whole = fs::read_to_string(authority.path("client.crt")).unwrap();
        authority.write("client.crt", &whole[..whole.len() / 2]);
    }), @r"
    `cert` file certs/client.crt: is damaged: a BEGIN line without its END line
    download the cert file again, or correct `cert`
    ");
}

#[test]
fn a_key_on_one_line_is_not_quoted() {
    assert_snapshot!(told(|authority, _| {
        let key = fs::read_to_string(authority.path("client.key")).unwrap();
        authority.write("client.key", key.replace("-----\r\n", "----").replace("-----\n", "----"));
    }), @r"
    `key` file certs/client.key: is damaged: a BEGIN line that does not end in dashes (have the line breaks been lost?)
    download the key file again, or correct `key`
    ");
}

#[test]
fn certificate_and_key_swapped() {
    let swap = |_: &Authority, output: &mut RelayOutput| {
        std::mem::swap(&mut output.cert, &mut output.key);
    };
    assert_snapshot!(told(swap), @r"
    `cert` file certs/client.key: holds a private key and no certificate
    `cert` and `key` seem to be swapped: correct the two names
    ");
    assert_snapshot!(told(|_, output| output.key = output.cert.clone()), @r"
    `key` file certs/client.crt: holds a certificate and no private key
    `cert` and `key` seem to be swapped: correct the two names
    ");
}

#[test]
fn binary_instead_of_text() {
    assert_snapshot!(told(|authority, _| {
        authority.write("client.crt", authority.issue(&["collector"]).certificate.der());
    }), @r"
    `cert` file certs/client.crt: is DER (binary), not PEM
    convert it: `openssl x509 -inform DER -in certs/client.crt -out certs/client.crt.pem`, and set `cert` to the new file (a .p12 or .pfx file: `openssl pkcs12 -in certs/client.crt -nokeys -out certs/client.crt.pem`)
    ");
    assert_snapshot!(told(|authority, _| {
        authority.write("client.key", authority.issue(&["collector"]).key.serialize_der());
    }), @r"
    `key` file certs/client.key: is DER (binary), not PEM
    convert it: `openssl pkey -inform DER -in certs/client.key -out certs/client.key.pem`, and set `key` to the new file (a .p12 or .pfx file: `openssl pkcs12 -in certs/client.key -nocerts -nodes -out certs/client.key.pem`)
    ");
}

#[test]
fn encrypted_key() {
    let pkcs8 =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIF\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let pkcs1 = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nMIIF\n-----END RSA PRIVATE KEY-----\n";
    assert_snapshot!(told(|authority, _| authority.write("client.key", pkcs8)), @r"
    `key` file certs/client.key: the private key is encrypted
    decrypt it: `openssl pkey -in certs/client.key -out certs/client.key.plain`, protect the new file (mode 0400), and set `key` to the new file
    ");
    assert_snapshot!(told(|authority, _| authority.write("client.key", pkcs1)), @r"
    `key` file certs/client.key: the private key is encrypted
    decrypt it: `openssl pkey -in certs/client.key -out certs/client.key.plain`, protect the new file (mode 0400), and set `key` to the new file
    ");
}

#[test]
fn key_of_another_certificate() {
    assert_snapshot!(told(|authority, _| {
        authority.write("client.key", authority.issue(&["collector"]).key.serialize_pem());
    }), @r"
    `key` file certs/client.key: the private key does not belong to the certificate in certs/client.crt
    set `cert` and `key` to the two files that were downloaded together
    ");
}

#[test]
fn expired() {
    assert_snapshot!(told(|authority, _| {
        let old = authority.issue_for(&["collector"], &PKCS_ECDSA_P256_SHA256, 2020);
        authority.write("client.crt", old.certificate.pem());
        authority.write("client.key", old.key.serialize_pem());
    }), @r"
    `cert` file certs/client.crt: the certificate expired on 2020-01-01 00:00:00 UTC
    download a new certificate and its key, and replace `cert` and `key`; no restart is needed. If the date is not past, this machine's clock is wrong
    ");
}

#[test]
fn an_address_that_is_none() {
    assert_snapshot!(told(|_, output| output.address = "https://relay".to_owned()), @r#"
    `address` "https://relay" is neither a host name nor an IP address
    correct `address`: a host name or an IP address, without scheme or port
    "#);
}

#[test]
fn windows_line_ends_and_a_byte_order_mark_are_no_mistake() {
    let authority = Authority::new();
    for name in ["chain.crt", "client.crt", "client.key"] {
        let text = fs::read_to_string(authority.path(name)).unwrap();
        authority.write(
            name,
            format!(
                "\u{feff}{}",
                text.replace("\r\n", "\n").replace('\n', "\r\n")
            ),
        );
    }
    impatient(authority.output(1)).check().unwrap();
}

#[test]
fn curve_parameters_before_the_key_are_no_mistake() {
    let authority = Authority::new();
    let key = fs::read_to_string(authority.path("client.key")).unwrap();
    let parameters =
        "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    authority.write("client.key", format!("{parameters}{key}"));
    impatient(authority.output(1)).check().unwrap();
}

#[test]
fn files_are_read_again_when_they_have_changed_and_only_then() {
    let authority = Authority::new();
    let party = Party::new(authority.output(1));
    let same = |one: &Arc<_>| Arc::ptr_eq(one, &party.configuration().unwrap());
    // What was only just written may change again without a trace.
    let fresh = party.configuration().unwrap();
    assert!(!same(&fresh));
    thread::sleep(Duration::from_millis(3_100));
    let read = party.configuration().unwrap();
    assert!(same(&read) && same(&read));
    let another = authority.issue(&["collector"]);
    authority.write("client.key", another.key.serialize_pem());
    let error = party.configuration().unwrap_err().to_string();
    assert!(
        error.contains("does not belong to the certificate"),
        "{error}"
    );
    authority.write("client.crt", another.certificate.pem());
    assert!(!same(&read));
}
