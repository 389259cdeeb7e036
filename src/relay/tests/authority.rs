//! A certificate authority of one test, and the folder with the three files that it issued to the collector.

use std::fs;
use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SignatureAlgorithm, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;

use crate::config::{Compression, ReceiptPolicy, RelayOutput};

pub(super) struct Authority {
    pub(super) issuer: CertifiedIssuer<'static, KeyPair>,
    pub(super) folder: TempDir,
}

/// A certificate and its key.
pub(super) struct Issued {
    pub(super) certificate: rcgen::Certificate,
    pub(super) key: KeyPair,
}

impl Authority {
    /// An authority, and a folder with `chain.crt`, `client.crt` and `client.key`.
    pub(super) fn new() -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Two authorities of one name would be mistaken for each other, down to the signature.
        let name = format!("authority {:032x}", rand::random::<u128>());
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let authority = Self {
            issuer: CertifiedIssuer::self_signed(parameters, key).unwrap(),
            folder: tempfile::tempdir().unwrap(),
        };
        let client = authority.issue(&["collector"]);
        authority.write("chain.crt", authority.issuer.pem());
        authority.write("client.crt", client.certificate.pem());
        authority.write("client.key", client.key.serialize_pem());
        authority
    }

    pub(super) fn issue(&self, names: &[&str]) -> Issued {
        self.issue_for(names, &PKCS_ECDSA_P256_SHA256, 4096)
    }

    /// A certificate for `names` that is valid until the first of January of a year.
    pub(super) fn issue_for(
        &self,
        names: &[&str],
        algorithm: &'static SignatureAlgorithm,
        until: i32,
    ) -> Issued {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut parameters = CertificateParams::new(names).unwrap();
        parameters.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        Issued { certificate, key }
    }

    pub(super) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The output that the folder's files are for.
    pub(super) fn output(&self, port: u16) -> RelayOutput {
        RelayOutput {
            address: "127.0.0.1".to_owned(),
            port,
            chain: self.path("chain.crt"),
            cert: self.path("client.crt"),
            key: self.path("client.key"),
            verify_hostname: true,
            receipt: ReceiptPolicy::StandIn,
            compression: Compression::NEVER,
        }
    }
}

impl Issued {
    pub(super) fn server_chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.der().clone()]
    }

    pub(super) fn server_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).unwrap()
    }
}
