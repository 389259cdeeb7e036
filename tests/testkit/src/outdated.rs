//! Certificates that nobody should issue any more and that are in use all the same, made with the `openssl` command: RSA keys of 1024 bits,
//! signatures with SHA-1, version 1.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::pki::Identity;

/// How a certificate is made.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// The RSA key's length in bits.
    pub bits: u32,
    /// The digest that its issuer signs it with, as `openssl` calls it.
    pub digest: &'static str,
    /// X.509 version 1, which knows no extensions.
    pub version_1: bool,
}

impl Form {
    /// As it should be.
    pub const GOOD: Form = Form {
        bits: 2048,
        digest: "sha256",
        version_1: false,
    };
    /// With a key that is too short.
    pub const SHORT: Form = Form {
        bits: 1024,
        ..Form::GOOD
    };
    /// Signed with SHA-1.
    pub const SHA_1: Form = Form {
        digest: "sha1",
        ..Form::GOOD
    };
    /// Of version 1.
    pub const VERSION_1: Form = Form {
        version_1: true,
        ..Form::GOOD
    };
}

/// An authority's certificate, and what it has issued.
pub struct Issued {
    /// The authority's certificate in PEM.
    pub authority: String,
    /// A certificate for `localhost` and `127.0.0.1`, server's and client's alike, with its key.
    pub identity: Identity,
}

/// Whether the `openssl` command is there.
pub fn is_possible() -> bool {
    Command::new("openssl").arg("version").output().is_ok()
}

/// Makes an authority and a certificate.
pub fn issue(authority: Form, certificate: Form) -> Result<Issued> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    fs::write(
        folder.join("ca.ext"),
        "basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign\n",
    )?;
    let extensions =
        "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n";
    fs::write(folder.join("own.ext"), extensions)?;
    request(folder, "ca", "old authority", authority)?;
    sign(folder, "ca", authority, &["-signkey", "ca.key"])?;
    request(folder, "own", "localhost", certificate)?;
    let issuer = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"];
    sign(folder, "own", certificate, &issuer)?;
    Ok(Issued {
        authority: fs::read_to_string(folder.join("ca.crt"))?,
        identity: Identity::read(folder, "own")?,
    })
}

/// A key and what asks for its certificate.
fn request(folder: &Path, name: &str, subject: &str, form: Form) -> Result<()> {
    let (key, request) = (format!("{name}.key"), format!("{name}.csr"));
    let (length, subject) = (format!("rsa:{}", form.bits), format!("/CN={subject}"));
    openssl(
        folder,
        &[
            "req", "-new", "-nodes", "-newkey", &length, "-keyout", &key, "-out", &request,
            "-subj", &subject,
        ],
    )
    .map(drop)
}

fn sign(folder: &Path, name: &str, form: Form, issuer: &[&str]) -> Result<()> {
    let (request, certificate) = (format!("{name}.csr"), format!("{name}.crt"));
    let (digest, extensions) = (format!("-{}", form.digest), format!("{name}.ext"));
    let mut arguments = vec![
        "x509",
        "-req",
        "-in",
        &request,
        "-out",
        &certificate,
        "-days",
        "3650",
        &digest,
    ];
    arguments.extend(issuer);
    if !form.version_1 {
        arguments.extend(["-extfile", &extensions]);
    }
    openssl(folder, &arguments)?;
    let text = openssl(folder, &["x509", "-in", &certificate, "-noout", "-text"])?;
    let version = if form.version_1 {
        "Version: 1 "
    } else {
        "Version: 3 "
    };
    ensure!(text.contains(version), "not of {version}:\n{text}");
    Ok(())
}

fn openssl(folder: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new("openssl")
        .args(arguments)
        .current_dir(folder)
        .output()
        .context("cannot start openssl")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "openssl {arguments:?}: {said}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
