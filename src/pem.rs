//! Certificates and keys in PEM files, in the shapes that other tools and systems write: one reader for both sides.
//!
//! What can be read for certain is read: UTF-16 as PowerShell writes it, any line ends or none, blanks, quotes and text around, `\n` written
//! out, OpenSSL's trusted certificates, base64 without its first and last line. Anything else is named for what it is, with the command that
//! converts it. No message quotes a file: it may hold a key.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer,
};
use thiserror::Error;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

/// No certificate file is near this size; a wrong path may lead to something far larger.
const SIZE_MAX: u64 = 4 << 20;
const BEGIN: &str = "-----BEGIN ";
const DASHES: &str = "-----";
/// Files without padding, or with odd bits behind the last byte, are read as well.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// How a kind of DER is known: by an object identifier among its first bytes.
const SIGNED_DATA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02";
const DATA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01";
const PBES: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x05";
const JAVA: &[u8] = b"\xfe\xed\xfe\xed";

/// What is wrong with a PEM file.
#[derive(Debug, Error)]
pub(crate) enum Problem {
    #[error("there is no such file")]
    Missing,
    #[error("is a folder")]
    Folder,
    #[error("permission denied on {} (owner {owner}, group {group}, mode {mode:04o}) to uid {uid}", .at.display())]
    Denied {
        at: PathBuf,
        owner: u32,
        group: u32,
        mode: u32,
        uid: u32,
    },
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    #[error("is larger than {} MiB", SIZE_MAX >> 20)]
    TooLarge,
    #[error("is empty")]
    Empty,
    #[error("is DER (binary), not PEM")]
    Der,
    #[error("is a PKCS#12 file (.p12, .pfx), not PEM")]
    Pkcs12,
    #[error("is a PKCS#7 file (.p7b)")]
    Pkcs7 { der: bool },
    #[error("is a Java key store, not PEM")]
    JavaKeyStore,
    #[error("holds a key of OpenSSH")]
    OpenSsh,
    #[error("holds no {wanted} in PEM form{}", .other.as_ref().map(|other| format!(", but {other}")).unwrap_or_default())]
    Nothing {
        wanted: &'static str,
        other: Option<&'static str>,
    },
    #[error("is damaged: {0}")]
    Damaged(&'static str),
    #[error("holds a private key and no certificate")]
    KeyForCertificate,
    #[error("holds a certificate and no private key")]
    CertificateForKey,
    #[error("the private key is encrypted")]
    Encrypted { der: bool },
}

impl Problem {
    /// What to do about it, where `parameter` names the file at `path`.
    pub(crate) fn action(&self, parameter: &str, path: &Path) -> String {
        let is_key = parameter.ends_with("key");
        let shown = path.display();
        let set = format!("and set `{parameter}` to the new file");
        match self {
            Problem::Missing => format!("put the file there, or correct `{parameter}`"),
            Problem::Folder => format!(
                "put the file in its place, or correct `{parameter}`; Docker makes a folder where a file that is mounted is missing on the host: \
                 remove it there, put the file there, and start the container again"
            ),
            Problem::Denied { at, uid, .. } if at == path => {
                format!(
                    "`chown {uid} {shown}` (mode 0400 is enough), or run the collector as the file's owner"
                )
            }
            Problem::Denied { at, uid, .. } => {
                let at = at.display();
                format!(
                    "let uid {uid} pass through the folder: `chmod a+x {at}`, or `chown {uid} {at}`"
                )
            }
            Problem::Unreadable(_) => format!("make `{parameter}` a readable file"),
            Problem::TooLarge => format!("correct `{parameter}`: this is no certificate file"),
            Problem::Der if is_key => format!(
                "convert it: `openssl pkey -inform DER -in {shown} -out {shown}.pem`, {set} \
                 (a .p12 or .pfx file: `openssl pkcs12 -in {shown} -nocerts -nodes -out {shown}.pem`)"
            ),
            Problem::Der => format!(
                "convert it: `openssl x509 -inform DER -in {shown} -out {shown}.pem`, {set} \
                 (a .p12 or .pfx file: `openssl pkcs12 -in {shown} -nokeys -out {shown}.pem`)"
            ),
            Problem::Pkcs12 => {
                let part = if is_key { "-nocerts -nodes" } else { "-nokeys" };
                format!("convert it: `openssl pkcs12 -in {shown} {part} -out {shown}.pem`, {set}")
            }
            Problem::Pkcs7 { .. } if is_key => {
                format!("such a file never holds a key: correct `{parameter}`")
            }
            Problem::Pkcs7 { der } => {
                let form = if *der { "-inform DER " } else { "" };
                format!(
                    "convert it: `openssl pkcs7 {form}-in {shown} -print_certs -out {shown}.pem`, {set}"
                )
            }
            Problem::JavaKeyStore => format!(
                "convert it: `keytool -importkeystore -srckeystore {shown} -destkeystore {shown}.p12 -deststoretype PKCS12`, then `openssl \
                 pkcs12 -in {shown}.p12 {} -out {shown}.pem`, {set}",
                if is_key { "-nocerts -nodes" } else { "-nokeys" }
            ),
            Problem::OpenSsh if is_key => {
                format!("convert it in its place: `ssh-keygen -p -m PKCS8 -N '' -f {shown}`")
            }
            Problem::Encrypted { der } => {
                let form = if *der { "-inform DER " } else { "" };
                format!(
                    "decrypt it: `openssl pkey {form}-in {shown} -out {shown}.plain`, protect the new file (mode 0400), {set}"
                )
            }
            Problem::KeyForCertificate | Problem::CertificateForKey => match parameter {
                "cert" | "key" => {
                    "`cert` and `key` seem to be swapped: correct the two names".to_owned()
                }
                _ => format!("correct `{parameter}`"),
            },
            Problem::Nothing { other: Some(_), .. } | Problem::OpenSsh => {
                format!("correct `{parameter}`: this is another file")
            }
            Problem::Empty | Problem::Nothing { .. } | Problem::Damaged(_) => match parameter {
                "chain" | "cert" | "key" => {
                    format!("download the {parameter} file again, or correct `{parameter}`")
                }
                _ => format!("export the file again, or correct `{parameter}`"),
            },
        }
    }
}

/// A file that has been read. It is wiped when it goes: it may hold a key.
pub(crate) struct Pem {
    sections: Vec<Section>,
    /// What is wrong with a section.
    damage: Option<&'static str>,
}

struct Section {
    label: String,
    der: Zeroizing<Vec<u8>>,
    /// By its headers, as OpenSSL wrote keys before PKCS#8.
    is_encrypted: bool,
}

impl Pem {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self, Problem> {
        let bytes = Zeroizing::new(read_bounded(path)?);
        Self::parse(&bytes)
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        if let Some(problem) = binary(bytes) {
            return Err(problem);
        }
        let text = Zeroizing::new(decoded(bytes));
        let text = Zeroizing::new(with_line_breaks(&text).into_owned());
        if text.trim_matches(is_around).is_empty() {
            return Err(Problem::Empty);
        }
        if !text.contains(BEGIN) {
            return Self::without_armour(&text);
        }
        let mut sections = vec![];
        let mut rest = text.as_str();
        while let Some(at) = rest.find(BEGIN) {
            rest = &rest[at + BEGIN.len()..];
            match Section::take(&mut rest) {
                Ok(section) => sections.push(section),
                Err(damage) => {
                    let damage = Some(damage);
                    return Ok(Self { sections, damage });
                }
            }
        }
        let damage = None;
        Ok(Self { sections, damage })
    }

    /// Base64 without its first and last line, which is what is left where somebody copied "only the certificate".
    fn without_armour(text: &str) -> Result<Self, Problem> {
        const NO_DASHES: &str =
            "the dashes around BEGIN and END are not five plain ones (pasted from a document?)";
        if text.contains("BEGIN ") && text.contains("END ") {
            return Err(Problem::Damaged(NO_DASHES));
        }
        let mut sections = vec![];
        if let Some(der) = base64(text).filter(|der| der.first() == Some(&0x30)) {
            if let Some(problem) = binary(&der).filter(|problem| !matches!(problem, Problem::Der)) {
                return Err(problem);
            }
            let label = if X509Certificate::from_der(&der).is_ok() {
                "CERTIFICATE"
            } else {
                match PrivateKeyDer::try_from(der.as_slice()) {
                    Ok(PrivateKeyDer::Pkcs1(_)) => "RSA PRIVATE KEY",
                    Ok(PrivateKeyDer::Sec1(_)) => "EC PRIVATE KEY",
                    _ => "PRIVATE KEY",
                }
            };
            sections.push(Section {
                label: label.to_owned(),
                der,
                is_encrypted: false,
            });
        }
        let damage = None;
        Ok(Self { sections, damage })
    }

    /// All certificates, at least one.
    pub(crate) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, Problem> {
        self.check()?;
        let certificates = self
            .sections
            .iter()
            .filter(|section| section.is_certificate());
        let certificates: Vec<_> = certificates.map(Section::certificate).collect();
        if !certificates.is_empty() {
            return Ok(certificates);
        }
        if self.sections.iter().any(Section::is_key) {
            return Err(Problem::KeyForCertificate);
        }
        Err(self.nothing("certificate"))
    }

    /// The first private key.
    pub(crate) fn private_key(&self) -> Result<PrivateKeyDer<'static>, Problem> {
        let is_encrypted =
            |section: &Section| section.is_encrypted || section.label == "ENCRYPTED PRIVATE KEY";
        if self.sections.iter().any(is_encrypted) {
            return Err(Problem::Encrypted { der: false });
        }
        self.check()?;
        if let Some(key) = self.sections.iter().find_map(Section::private_key) {
            return Ok(key);
        }
        if self.sections.iter().any(Section::is_certificate) {
            return Err(Problem::CertificateForKey);
        }
        Err(self.nothing("private key"))
    }

    fn check(&self) -> Result<(), Problem> {
        self.damage
            .map_or(Ok(()), |damage| Err(Problem::Damaged(damage)))
    }

    /// What there is where `wanted` is missing.
    fn nothing(&self, wanted: &'static str) -> Problem {
        let labels = || self.sections.iter().map(|section| section.label.as_str());
        if labels().any(|label| label == "OPENSSH PRIVATE KEY") {
            return Problem::OpenSsh;
        }
        if labels().any(|label| matches!(label, "PKCS7" | "PKCS #7 SIGNED DATA" | "CMS")) {
            return Problem::Pkcs7 { der: false };
        }
        let other = labels().find_map(|label| {
            Some(match label {
                "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => {
                    "a request for a certificate, which the authority answers with one"
                }
                "PUBLIC KEY" | "RSA PUBLIC KEY" => "a public key",
                "X509 CRL" => "a list of revoked certificates",
                "DSA PRIVATE KEY" => "a DSA key, which TLS does not take any more",
                "PGP PUBLIC KEY BLOCK" | "PGP PRIVATE KEY BLOCK" => "a key of PGP",
                _ => return None,
            })
        });
        Problem::Nothing { wanted, other }
    }
}

impl Section {
    /// Takes the section whose label `rest` begins with.
    fn take(rest: &mut &str) -> Result<Self, &'static str> {
        let is_of_label =
            |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || " #".contains(c);
        let length = rest.find(|c| !is_of_label(c)).unwrap_or(rest.len());
        let (label, behind) = rest.split_at(length);
        let Some(behind) = behind.strip_prefix(DASHES) else {
            return Err(
                "a BEGIN line that does not end in dashes (have the line breaks been lost?)",
            );
        };
        let end = format!("{DASHES}END {label}{DASHES}");
        let Some((body, behind)) = behind.split_once(&end) else {
            return Err("a BEGIN line without its END line");
        };
        *rest = behind;
        // Headers, as in a key that OpenSSL encrypted before PKCS#8.
        let is_header = |line: &&str| line.contains(": ");
        let is_encrypted = body
            .lines()
            .any(|line| line.contains("Proc-Type: 4,ENCRYPTED"));
        let lines: Vec<_> = body.lines().filter(|line| !is_header(line)).collect();
        let body = Zeroizing::new(lines.concat());
        let der = base64(&body).ok_or("something between BEGIN and END is not base64")?;
        Ok(Self {
            label: label.to_owned(),
            der,
            is_encrypted,
        })
    }

    fn is_certificate(&self) -> bool {
        matches!(
            &*self.label,
            "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE"
        )
    }

    /// The certificate; OpenSSL's trusted ones have what they are trusted for behind them.
    fn certificate(&self) -> CertificateDer<'static> {
        let behind = X509Certificate::from_der(&self.der).map_or(0, |(behind, _)| behind.len());
        let length = self.der.len() - behind;
        CertificateDer::from(self.der[..length].to_vec())
    }

    fn is_key(&self) -> bool {
        self.label.ends_with("PRIVATE KEY")
    }

    fn private_key(&self) -> Option<PrivateKeyDer<'static>> {
        let der = self.der.to_vec();
        Some(match &*self.label {
            "PRIVATE KEY" => PrivatePkcs8KeyDer::from(der).into(),
            "RSA PRIVATE KEY" => PrivatePkcs1KeyDer::from(der).into(),
            "EC PRIVATE KEY" => PrivateSec1KeyDer::from(der).into(),
            _ => return None,
        })
    }
}

/// The key as PEM, in the one shape that every library takes.
pub(crate) fn written(key: &PrivateKeyDer<'_>) -> Zeroizing<String> {
    let label = match key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    let body = Zeroizing::new(BASE64.encode(key.secret_der()));
    let lines: Vec<_> = body
        .as_bytes()
        .chunks(64)
        .filter_map(|line| std::str::from_utf8(line).ok())
        .collect();
    let body = Zeroizing::new(lines.join("\n"));
    Zeroizing::new(format!(
        "{BEGIN}{label}{DASHES}\n{}\n{DASHES}END {label}{DASHES}\n",
        *body
    ))
}

/// What the file is if it is binary.
fn binary(bytes: &[u8]) -> Option<Problem> {
    if bytes.starts_with(JAVA) {
        return Some(Problem::JavaKeyStore);
    }
    // A SEQUENCE whose length takes several bytes.
    if !matches!(bytes, [0x30, 0x80..=0x84, ..]) {
        return None;
    }
    let beginning = &bytes[..bytes.len().min(48)];
    let has = |identifier| memchr::memmem::find(beginning, identifier).is_some();
    Some(if has(SIGNED_DATA) {
        Problem::Pkcs7 { der: true }
    } else if has(DATA) {
        Problem::Pkcs12
    } else if has(PBES) {
        Problem::Encrypted { der: true }
    } else {
        Problem::Der
    })
}

/// The text of a file in UTF-8 or UTF-16, with or without a byte order mark.
fn decoded(bytes: &[u8]) -> String {
    let big = |pair: [u8; 2]| u16::from_be_bytes(pair);
    let little = |pair: [u8; 2]| u16::from_le_bytes(pair);
    let utf16 = |bytes: &[u8], order: fn([u8; 2]) -> u16| {
        let units: Vec<_> = bytes
            .chunks_exact(2)
            .map(|pair| order([pair[0], pair[1]]))
            .collect();
        String::from_utf16_lossy(&units)
    };
    match bytes {
        [0xFF, 0xFE, rest @ ..] => utf16(rest, little),
        [0xFE, 0xFF, rest @ ..] => utf16(rest, big),
        [0xEF, 0xBB, 0xBF, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
        // Without a mark: half of the bytes of plain letters are zeros.
        [first, 0, _, 0, ..] if *first != 0 => utf16(bytes, little),
        [0, first, 0, _, ..] if *first != 0 => utf16(bytes, big),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// The text with real line breaks where they are written out, as in a value of JSON or of a file of variables.
fn with_line_breaks(text: &str) -> Cow<'_, str> {
    if text.contains("\\n") || text.contains("\\r") {
        text.replace("\\r", "\n").replace("\\n", "\n").into()
    } else if text.contains('\r') {
        text.replace('\r', "\n").into()
    } else {
        text.into()
    }
}

/// Whether a character may stand around base64 without being a part of it.
fn is_around(character: char) -> bool {
    character.is_whitespace()
        || matches!(
            character,
            '"' | '\'' | ',' | '\\' | '>' | '|' | '\u{FEFF}' | '\u{200B}'
        )
}

/// The bytes; `None` if the text holds anything else than base64 and what may stand around it.
fn base64(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut bare = Zeroizing::new(String::with_capacity(text.len()));
    bare.extend(text.chars().filter(|character| !is_around(*character)));
    if bare.is_empty() {
        return None;
    }
    BASE64.decode(bare.as_bytes()).ok().map(Zeroizing::new)
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, Problem> {
    let metadata = fs::metadata(path).map_err(|error| why(path, error))?;
    if metadata.is_dir() {
        return Err(Problem::Folder);
    }
    if !metadata.is_file() {
        // To open a pipe would wait for its other end.
        return Err(Problem::Unreadable(io::Error::other(
            "it is no regular file",
        )));
    }
    if metadata.len() > SIZE_MAX {
        return Err(Problem::TooLarge);
    }
    fs::read(path).map_err(|error| why(path, error))
}

fn why(path: &Path, error: io::Error) -> Problem {
    match error.kind() {
        io::ErrorKind::NotFound => Problem::Missing,
        io::ErrorKind::PermissionDenied => denied(path).unwrap_or(Problem::Unreadable(error)),
        _ => Problem::Unreadable(error),
    }
}

/// Which of the path's parts is closed to us: the last one that can still be looked at.
fn denied(path: &Path) -> Option<Problem> {
    let (at, metadata) = path
        .ancestors()
        .find_map(|at| fs::metadata(at).ok().map(|metadata| (at, metadata)))?;
    Some(Problem::Denied {
        at: at.to_owned(),
        owner: metadata.uid(),
        group: metadata.gid(),
        mode: metadata.mode() & 0o7777,
        uid: nix::unistd::geteuid().as_raw(),
    })
}

#[cfg(test)]
mod tests;
