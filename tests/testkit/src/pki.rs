//! Certificates and keys, made at run time: an authority, servers, clients, and what is wrong with them in real life.
//!
//! Keys come in the three PEM forms that are in use: PKCS#8, PKCS#1 (RSA) and SEC1 (EC).

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, RsaKeySize, date_time_ymd,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// The form of a private key's PEM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyForm {
    /// An EC key (P-256) as PKCS#8, `BEGIN PRIVATE KEY`.
    Pkcs8,
    /// An RSA key (2048 bits) as PKCS#8, `BEGIN PRIVATE KEY`.
    RsaPkcs8,
    /// An RSA key (2048 bits) as PKCS#1, `BEGIN RSA PRIVATE KEY`.
    Pkcs1,
    /// An EC key (P-256) as SEC1, `BEGIN EC PRIVATE KEY`.
    Sec1,
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A TLS server.
    Server,
    /// A TLS client, or an application that signs its assertions.
    Client,
}

/// What a certificate says and how its key is written.
#[derive(Clone, Debug)]
pub struct Wish {
    /// What it is for.
    pub role: Role,
    /// The subject's common name.
    pub common_name: String,
    /// Host names and IP addresses.
    pub names: Vec<String>,
    /// When it ends.
    pub ends: DateTime<Utc>,
    /// The key's form.
    pub form: KeyForm,
}

impl Wish {
    /// A server for `localhost`, `127.0.0.1` and `::1`.
    pub fn server() -> Wish {
        Wish::server_for(&["localhost", "127.0.0.1", "::1"])
    }

    /// A server for these host names and addresses.
    pub fn server_for(names: &[&str]) -> Wish {
        Wish {
            role: Role::Server,
            common_name: names.first().copied().unwrap_or("server").to_owned(),
            names: names.iter().map(|&name| name.to_owned()).collect(),
            ends: in_year(2049),
            form: KeyForm::Pkcs8,
        }
    }

    /// A client.
    pub fn client() -> Wish {
        Wish {
            role: Role::Client,
            common_name: "collector".to_owned(),
            names: Vec::new(),
            ends: in_year(2049),
            form: KeyForm::Pkcs8,
        }
    }

    /// The same with another form of key.
    #[must_use]
    pub fn form(self, form: KeyForm) -> Wish {
        Wish { form, ..self }
    }

    /// The same, but expired some years ago.
    #[must_use]
    pub fn expired(self) -> Wish {
        self.ending(in_year(2021))
    }

    /// The same with another end.
    #[must_use]
    pub fn ending(self, ends: DateTime<Utc>) -> Wish {
        Wish { ends, ..self }
    }
}

/// The beginning of a year.
fn in_year(year: i32) -> DateTime<Utc> {
    let begins = NaiveDate::from_yo_opt(year, 1).unwrap_or_default();
    begins.and_time(NaiveTime::MIN).and_utc()
}

/// A certificate with its key, both in PEM.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

impl Identity {
    /// This certificate with another one's key.
    #[must_use]
    pub fn with_key_of(&self, other: &Identity) -> Identity {
        Identity {
            certificate: self.certificate.clone(),
            key: other.key.clone(),
        }
    }

    /// Writes `NAME.crt` and `NAME.key` (readable by the owner only) into a folder.
    pub fn write(&self, folder: &Path, name: &str) -> Result<(PathBuf, PathBuf)> {
        let (certificate, key) = (
            folder.join(format!("{name}.crt")),
            folder.join(format!("{name}.key")),
        );
        write(&certificate, &self.certificate, 0o644)?;
        write(&key, &self.key, 0o600)?;
        Ok((certificate, key))
    }

    /// Reads `NAME.crt` and `NAME.key` from a folder.
    pub fn read(folder: &Path, name: &str) -> Result<Identity> {
        let read = |ending: &str| {
            let path = folder.join(format!("{name}.{ending}"));
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        Ok(Identity {
            certificate: read("crt")?,
            key: read("key")?,
        })
    }

    /// The certificate as rustls wants it.
    pub(crate) fn chain(&self) -> Result<Vec<CertificateDer<'static>>> {
        Ok(vec![
            CertificateDer::from_pem_slice(self.certificate.as_bytes())
                .context("no certificate in the PEM")?,
        ])
    }

    /// The key as rustls wants it.
    pub(crate) fn private_key(&self) -> Result<PrivateKeyDer<'static>> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).context("no private key in the PEM")
    }
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let open = || {
        fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(path)
    };
    open()
        .and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// A certificate authority.
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new one, with a key of its own.
    pub fn new(common_name: &str) -> Result<Authority> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named(common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2049, 1, 1);
        let certificate = params.self_signed(&key)?.pem();
        Ok(Authority {
            certificate,
            issuer: Issuer::new(params, key),
        })
    }

    /// The authority's certificate in PEM: what a chain file holds.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Issues a certificate.
    pub fn issue(&self, wish: &Wish) -> Result<Identity> {
        let key = match wish.form {
            KeyForm::Pkcs8 | KeyForm::Sec1 => KeyPair::generate()?,
            KeyForm::RsaPkcs8 | KeyForm::Pkcs1 => {
                KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048)?
            }
        };
        let mut params = CertificateParams::new(wish.names.clone())?;
        params.distinguished_name = named(&wish.common_name);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match wish.role {
            Role::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Role::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        params.not_before = date_time_ymd(2020, 1, 1);
        let seconds = wish.ends.timestamp().try_into()?;
        params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Identity {
            certificate,
            key: key_pem(&key, wish.form)?,
        })
    }

    /// Writes the certificate as `chain.crt` into a folder.
    pub fn write(&self, folder: &Path) -> Result<PathBuf> {
        let path = folder.join("chain.crt");
        write(&path, &self.certificate, 0o644)?;
        Ok(path)
    }
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn key_pem(key: &KeyPair, form: KeyForm) -> Result<String> {
    let pkcs8 = key.serialized_der();
    Ok(match form {
        KeyForm::Pkcs8 | KeyForm::RsaPkcs8 => key.serialize_pem(),
        KeyForm::Pkcs1 => pem("RSA PRIVATE KEY", inner_key(pkcs8)?),
        KeyForm::Sec1 => pem("EC PRIVATE KEY", &with_curve(inner_key(pkcs8)?)?),
    })
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = tail;
    }
    pem + "-----END " + label + "-----\n"
}

/// The key inside PKCS#8 (RFC 5208): the third element of the outer sequence, an octet string.
fn inner_key(pkcs8: &[u8]) -> Result<&[u8]> {
    let (_, content, _) = element(pkcs8)?;
    let (_, _, rest) = element(content)?;
    let (_, _, rest) = element(rest)?;
    let (tag, key, _) = element(rest)?;
    ensure!(tag == 0x04, "PKCS#8 without an octet string for its key");
    Ok(key)
}

/// A SEC1 key (RFC 5915) that names its curve, P-256: inside PKCS#8 it leaves that out, and OpenSSL would not read it.
fn with_curve(sec1: &[u8]) -> Result<Vec<u8>> {
    const CURVE: [u8; 12] = [
        0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07,
    ];
    let (_, content, _) = element(sec1)?;
    let (_, _, rest) = element(content)?;
    let (_, _, public) = element(rest)?;
    if public.first() == Some(&0xa0) {
        return Ok(sec1.to_vec());
    }
    let private = &content[..content.len() - public.len()];
    let body = [private, &CURVE[..], public].concat();
    let Ok(length) = u8::try_from(body.len()) else {
        bail!("an EC key of {} bytes", body.len())
    };
    ensure!(length < 0x80, "an EC key of {length} bytes");
    Ok([&[0x30, length][..], &body[..]].concat())
}

/// The first DER element: its tag, its content, what follows it.
fn element(der: &[u8]) -> Result<(u8, &[u8], &[u8])> {
    let (&[tag, first], mut rest) = der.split_first_chunk::<2>().context("DER ends early")?;
    let mut length = usize::from(first);
    if first >= 0x80 {
        let (digits, tail) = rest
            .split_at_checked(usize::from(first & 0x7f))
            .context("DER ends early")?;
        length = digits
            .iter()
            .fold(0, |length, &digit| length << 8 | usize::from(digit));
        rest = tail;
    }
    let (content, rest) = rest.split_at_checked(length).context("DER ends early")?;
    Ok((tag, content, rest))
}

/// What a server needs.
pub struct Shared {
    /// The authority's certificate in PEM.
    pub authority: String,
    /// The server's own.
    pub server: Identity,
}

impl Shared {
    /// Writes `chain.crt`, `server.crt` and `server.key` into a folder.
    pub fn write(&self, folder: &Path) -> Result<()> {
        write(&folder.join("chain.crt"), &self.authority, 0o644)?;
        self.server.write(folder, "server")?;
        Ok(())
    }
}

/// What most tests need: one authority, one server on loopback, one client.
pub struct Pki {
    /// The authority of both.
    pub authority: Authority,
    /// For the relay and the service.
    pub server: Identity,
    /// For the collector.
    pub client: Identity,
}

impl Pki {
    /// A new one.
    pub fn new() -> Result<Pki> {
        let authority = Authority::new("testkit authority")?;
        let (server, client) = (
            authority.issue(&Wish::server())?,
            authority.issue(&Wish::client())?,
        );
        Ok(Pki {
            authority,
            server,
            client,
        })
    }

    /// The one in a folder that a relay and a collector share; made there, for a server of these names, if there is none.
    ///
    /// Its authority cannot issue further certificates once it is read: the key is not kept.
    pub fn in_folder(folder: &Path, names: &[&str]) -> Result<Shared> {
        let chain = folder.join("chain.crt");
        if !chain.exists() {
            let authority = Authority::new("testkit authority")?;
            authority
                .issue(&Wish::server_for(names))?
                .write(folder, "server")?;
            authority
                .issue(&Wish::client())?
                .write(folder, "collector")?;
            // Last, since its presence says that all is there.
            authority.write(folder)?;
        }
        let authority = fs::read_to_string(&chain)
            .with_context(|| format!("cannot read {}", chain.display()))?;
        Ok(Shared {
            authority,
            server: Identity::read(folder, "server")?,
        })
    }

    /// Writes the files that a collector needs into its `certs` folder: `chain.crt`, `collector.crt`, `collector.key`.
    pub fn write_client(&self, folder: &Path) -> Result<()> {
        self.authority.write(folder)?;
        self.client.write(folder, "collector")?;
        Ok(())
    }

    /// What a relay or a service needs.
    pub fn shared(&self) -> Shared {
        Shared {
            authority: self.authority.certificate().to_owned(),
            server: self.server.clone(),
        }
    }

    /// Writes it into a folder.
    pub fn write_server(&self, folder: &Path) -> Result<()> {
        self.shared().write(folder)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn every_form_of_key_is_one_that_openssl_and_rustls_read() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new("authority").unwrap();
        for (form, label) in [
            (KeyForm::Pkcs8, "BEGIN PRIVATE KEY"),
            (KeyForm::RsaPkcs8, "BEGIN PRIVATE KEY"),
            (KeyForm::Pkcs1, "BEGIN RSA PRIVATE KEY"),
            (KeyForm::Sec1, "BEGIN EC PRIVATE KEY"),
        ] {
            let identity = authority.issue(&Wish::client().form(form)).unwrap();
            assert!(identity.key.contains(label), "{form:?}");
            rustls::crypto::aws_lc_rs::sign::any_supported_type(&identity.private_key().unwrap())
                .unwrap();
            let (_, key) = identity.write(folder.path(), "key").unwrap();
            // Where OpenSSL is not installed, rustls has read it all the same.
            if let Ok(output) = Command::new("openssl")
                .args(["pkey", "-noout", "-check", "-in"])
                .arg(&key)
                .output()
            {
                assert!(
                    output.status.success(),
                    "{form:?}: {}",
                    String::from_utf8_lossy(&output.stderr)
                );
            }
        }
    }
}
