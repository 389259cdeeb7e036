//! The shapes in which files come: each is read as the plain one would be, or named.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use super::*;

/// A certificate and its key, as PEM.
fn pair() -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let parameters = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    let certificate = parameters.self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn utf16(text: &str, order: fn(u16) -> [u8; 2]) -> Vec<u8> {
    text.encode_utf16().flat_map(order).collect()
}

/// What is said of a file of these bytes, as a certificate and as a key.
fn told(bytes: &[u8]) -> [String; 2] {
    let path = Path::new("a file");
    let told = |parameter: &str, outcome: Result<(), Problem>| {
        outcome.map_or_else(
            |problem| format!("{problem}; {}", problem.action(parameter, path)),
            |()| "read".to_owned(),
        )
    };
    [
        told(
            "cert",
            Pem::parse(bytes).and_then(|pem| pem.certificates().map(drop)),
        ),
        told(
            "key",
            Pem::parse(bytes).and_then(|pem| pem.private_key().map(drop)),
        ),
    ]
}

#[test]
fn all_shapes_are_read_as_the_plain_one() {
    let (cert, key) = pair();
    let both = format!("{cert}{key}").replace("\r\n", "\n");
    let bare = |pem: &str| -> String {
        let lines = pem.lines().filter(|line| !line.starts_with('-'));
        lines.collect::<Vec<_>>().join("\n")
    };
    let expected = Pem::parse(both.as_bytes()).unwrap();
    let (certificates, private_key) = (
        expected.certificates().unwrap(),
        expected.private_key().unwrap(),
    );
    assert_eq!(certificates.len(), 1);
    let indented: Vec<_> = both.lines().map(|line| format!("    {line}  ")).collect();
    let quoted: Vec<_> = both
        .lines()
        .map(|line| format!("  \"{line}\\n\","))
        .collect();
    let shapes: Vec<(&str, Vec<u8>)> = vec![
        ("CRLF", both.replace('\n', "\r\n").into()),
        ("CR", both.replace('\n', "\r").into()),
        ("UTF-8 with a mark", format!("\u{feff}{both}").into()),
        ("UTF-16 with a mark", utf16(&format!("\u{feff}{both}"), u16::to_le_bytes)),
        ("UTF-16, big", utf16(&format!("\u{feff}{both}"), u16::to_be_bytes)),
        ("UTF-16 without a mark", utf16(&both, u16::to_le_bytes)),
        ("UTF-16 without a mark, big", utf16(&both.replace('\n', "\r\n"), u16::to_be_bytes)),
        ("indented", indented.join("\n").into()),
        ("quoted", format!("\"{both}\"").into()),
        ("an array of strings", quoted.join("\n").into()),
        ("line breaks written out", both.replace('\n', "\\n").into()),
        ("line breaks of Windows written out", both.replace('\n', "\\r\\n").into()),
        ("blanks for line breaks", both.replace('\n', " ").into()),
        ("no line breaks", both.replace('\n', "").into()),
        ("text before and between", format!("Bag Attributes\n  friendlyName: x\nsubject=/CN=a\n{cert}\nissuer=b\n{key}\nend").into()),
        ("mail", format!("> {}", both.replace('\n', "\n> ")).into()),
        ("other sections", format!("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n{both}").into()),
        ("the old label", both.replace(" CERTIFICATE", " X509 CERTIFICATE").into()),
        ("no padding", both.replace('=', "").into()),
    ];
    for (name, bytes) in shapes {
        let pem = Pem::parse(&bytes).unwrap_or_else(|problem| panic!("{name}: {problem}"));
        let read = pem
            .certificates()
            .unwrap_or_else(|problem| panic!("{name}: {problem}"));
        assert_eq!(read, certificates, "{name}");
        assert_eq!(pem.private_key().unwrap(), private_key, "{name}");
    }
    for (pem, is_cert) in [(&cert, true), (&key, false)] {
        let pem = Pem::parse(bare(pem).as_bytes()).unwrap();
        assert_eq!(pem.certificates().is_ok(), is_cert);
        assert_eq!(pem.private_key().is_ok(), !is_cert);
    }
    let again = written(&private_key);
    assert_eq!(
        Pem::parse(again.as_bytes()).unwrap().private_key().unwrap(),
        private_key
    );
}

/// Files that OpenSSL and OpenSSH write. Where a tool is missing, which the image for the tests is not, its shapes are skipped.
#[test]
fn what_other_tools_write_is_read_or_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (cert, key) = pair();
    fs::write(at("cert.pem"), cert).unwrap();
    fs::write(at("key.pem"), key).unwrap();
    let run = |arguments: &str| {
        let arguments: Vec<_> = arguments
            .split(' ')
            .map(|part| {
                if part.contains('.') {
                    at(part)
                } else {
                    part.to_owned()
                }
            })
            .collect();
        let output = Command::new("openssl").args(arguments).output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    if Command::new("openssl").arg("version").output().is_err() {
        assert_ne!(
            std::env::var("CI").as_deref(),
            Ok("true"),
            "openssl is missing"
        );
        return;
    }
    let check = |name: &str, expected: [&str; 2]| {
        let said = told(&fs::read(at(name)).unwrap());
        for (said, expected) in said.iter().zip(expected) {
            assert!(said.contains(expected), "{name}: {said}");
        }
    };
    run("x509 -in cert.pem -trustout -addtrust serverAuth -out trusted.pem");
    check("trusted.pem", ["read", "a certificate and no private key"]);
    run("crl2pkcs7 -nocrl -certfile cert.pem -out chain.p7b");
    check(
        "chain.p7b",
        ["openssl pkcs7 -in a file -print_certs", "never holds a key"],
    );
    run("crl2pkcs7 -nocrl -certfile cert.pem -outform DER -out chain.p7c");
    check(
        "chain.p7c",
        ["openssl pkcs7 -inform DER -in a file", "never holds a key"],
    );
    run("pkcs12 -export -in cert.pem -inkey key.pem -passout pass:a -out both.pfx");
    check(
        "both.pfx",
        [
            "openssl pkcs12 -in a file -nokeys",
            "openssl pkcs12 -in a file -nocerts -nodes",
        ],
    );
    run("base64 -in both.pfx -out both.b64");
    check("both.b64", ["PKCS#12", "PKCS#12"]);
    run("x509 -in cert.pem -outform DER -out cert.der");
    check("cert.der", ["openssl x509 -inform DER", "is DER"]);
    run("pkcs8 -topk8 -in key.pem -outform DER -passout pass:a -out locked.der");
    check(
        "locked.der",
        ["encrypted", "openssl pkey -inform DER -in a file"],
    );
    run("pkcs8 -topk8 -in key.pem -passout pass:a -out locked.pem");
    check(
        "locked.pem",
        ["private key and no certificate", "openssl pkey -in a file"],
    );
    run("ec -in key.pem -out sec1.pem");
    check("sec1.pem", ["private key and no certificate", "read"]);
    run("pkey -in key.pem -pubout -out public.pem");
    check(
        "public.pem",
        ["but a public key; correct `cert`", "but a public key"],
    );
    run("req -new -key key.pem -subj /CN=a -out request.pem");
    check(
        "request.pem",
        ["a request for a certificate", "a request for a certificate"],
    );
}

#[test]
fn what_cannot_be_read_is_named() {
    let check = |bytes: &[u8], expected: [&str; 2]| {
        for (said, expected) in told(bytes).iter().zip(expected) {
            assert!(said.contains(expected), "{said}");
        }
    };
    check(b"\n\r\n \xef\xbb\xbf", ["is empty", "is empty"]);
    check(
        b"see the wiki",
        ["holds no certificate", "holds no private key"],
    );
    let ssh =
        b"-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaA==\n-----END OPENSSH PRIVATE KEY-----\n";
    check(
        ssh,
        ["private key and no certificate", "ssh-keygen -p -m PKCS8"],
    );
    check(b"\xfe\xed\xfe\xed\0\0\0\x02", ["keytool", "keytool"]);
    let dashes = "\u{2014}\u{2013}BEGIN CERTIFICATE\u{2014}\u{2013}\nAAAA\n\u{2014}\u{2013}END CERTIFICATE\u{2014}\u{2013}";
    check(
        dashes.as_bytes(),
        ["not five plain ones", "not five plain ones"],
    );
    check(
        b"-----BEGIN CERTIFICATE-----\nAA%A\n-----END CERTIFICATE-----",
        ["not base64", "not base64"],
    );
}

#[test]
fn a_folder_or_a_pipe_is_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let problem = Pem::read(folder.path()).err().unwrap();
    let action = problem.action("chain", folder.path());
    assert!(
        problem.to_string().contains("a folder") && action.contains("Docker"),
        "{problem}; {action}"
    );
    let pipe = folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(matches!(Pem::read(&pipe), Err(Problem::Unreadable(_))));
}

/// What is said where a look at `path` is denied. (Asked directly: a test that runs as root is denied nothing.)
fn told_denied(path: &Path) -> String {
    let problem = denied(path).unwrap();
    format!("{problem}; {}", problem.action("key", path))
}

#[test]
fn a_denied_file_is_told_by_its_owner_and_mode() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("client.key");
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let owner = fs::metadata(&path).unwrap().uid();
    let uid = nix::unistd::geteuid();
    let told = told_denied(&path);
    assert!(told.contains(&format!("(owner {owner}, ")), "{told}");
    assert!(
        told.contains(&format!("mode 0600) to uid {uid}; `chown {uid} ")),
        "{told}"
    );
}

#[test]
fn of_a_denied_folder_it_is_the_folder_that_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let told = told_denied(&folder.path().join("client.key"));
    let at = folder.path().display();
    assert!(
        told.contains(&format!("permission denied on {at} (")),
        "{told}"
    );
    assert!(told.contains(&format!("`chmod a+x {at}`")), "{told}");
}
