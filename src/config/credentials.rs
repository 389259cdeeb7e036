//! `credentials`: exactly one of the three ways to sign in, whole.

use super::credential::{Credential, FOLDER};
use super::reader::{Field, Section};
use super::words::{listed, quoted};
use super::{Credentials, names};

const BASIC: [&str; 2] = ["username", "password"];
const SECRET: [&str; 3] = ["tenant_id", "client_id", "client_secret"];
const CERTIFICATE: [&str; 4] = ["tenant_id", "client_id", "client_certificate", "client_key"];
const KEYS: [&str; 7] = [
    "username",
    "password",
    "tenant_id",
    "client_id",
    "client_secret",
    "client_certificate",
    "client_key",
];
/// Those that may be kept elsewhere, and the keys that name a file.
const KEPT_ELSEWHERE: [(&str, &str); 5] = [
    ("username", "username_file"),
    ("password", "password_file"),
    ("tenant_id", "tenant_id_file"),
    ("client_id", "client_id_file"),
    ("client_secret", "client_secret_file"),
];
const SETS: &str = "give either `username` and `password`, or `tenant_id`, `client_id` and `client_secret`, or \
                    `tenant_id`, `client_id`, `client_certificate` and `client_key`";

pub(super) fn read(field: Field<'_>) -> Option<Credentials> {
    let section = field.required(SETS).section()?;
    let given: Vec<&str> = KEYS
        .into_iter()
        .filter(|key| match kept_elsewhere(&section, key) {
            Some(credential) => credential.is_given(),
            None => section.field(key).is_given(),
        })
        .collect();
    section.warn_of_unknown_among_secrets();
    if given == BASIC {
        basic(&section)
    } else if given == SECRET {
        secret(&section)
    } else if given == CERTIFICATE {
        certificate(&section)
    } else {
        section.mistake(explanation(&section, &given));
        None
    }
}

/// A credential that may stand in a file or a variable; `None` for those that are files anyway.
fn kept_elsewhere<'a>(section: &Section<'a>, key: &str) -> Option<Credential<'a>> {
    let (key, file_key) = KEPT_ELSEWHERE.iter().find(|(known, _)| *known == key)?;
    Some(Credential::of(section, key, file_key))
}

fn basic(section: &Section<'_>) -> Option<Credentials> {
    let username = kept_elsewhere(section, "username")?.parse(|text| {
        if text.contains(|c: char| c == ':' || c.is_control()) {
            Err("holds a colon or a control character, which signing in cannot transmit".to_owned())
        } else {
            Ok(text.to_owned())
        }
    });
    let password = kept_elsewhere(section, "password")?.password();
    let username = username?;
    if !username
        .split_once('@')
        .is_some_and(|(user, domain)| !user.is_empty() && domain.contains('.'))
    {
        let field = section.field("username");
        let shown = if field.scalar() == Some(&username) {
            quoted(&username)
        } else {
            "the user name".to_owned()
        };
        field.warning(format!("{shown} is not of the form `username@domain.com`"));
    }
    Some(Credentials::Basic {
        username,
        password: password?,
    })
}

fn secret(section: &Section<'_>) -> Option<Credentials> {
    let tenant_id = kept_elsewhere(section, "tenant_id")?.parse(identifier);
    let client_id = kept_elsewhere(section, "client_id")?.parse(identifier);
    let client_secret = kept_elsewhere(section, "client_secret")?.application_secret();
    Some(Credentials::Secret {
        tenant_id: tenant_id?,
        client_id: client_id?,
        client_secret: client_secret?,
    })
}

fn certificate(section: &Section<'_>) -> Option<Credentials> {
    let tenant_id = kept_elsewhere(section, "tenant_id")?.parse(identifier);
    let client_id = kept_elsewhere(section, "client_id")?.parse(identifier);
    let client_certificate = names::file(
        &section.field("client_certificate").without_default(),
        FOLDER,
    );
    let client_key = names::file(&section.field("client_key").without_default(), FOLDER);
    Some(Credentials::Certificate {
        tenant_id: tenant_id?,
        client_id: client_id?,
        client_certificate: client_certificate?,
        client_key: client_key?,
    })
}

/// A GUID or a domain name: it becomes part of a URL's path.
fn identifier(text: &str) -> Result<String, String> {
    let part = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    if text.split('.').all(part) {
        Ok(text.to_owned())
    } else {
        Err(
            "is neither an id such as `11111111-2222-3333-4444-555555555555` nor a domain name"
                .to_owned(),
        )
    }
}

/// Why what is given is none of the sets.
fn explanation(section: &Section<'_>, given: &[&'static str]) -> String {
    let within = |set: &[&str]| given.iter().all(|key| set.contains(key));
    let missing = |set: &[&'static str]| -> Vec<&'static str> {
        set.iter()
            .filter(|key| !given.contains(key))
            .copied()
            .collect()
    };
    let lack = if given.is_empty() {
        "nothing is given".to_owned()
    } else if within(&BASIC) {
        lacks(&missing(&BASIC))
    } else if within(&SECRET) && given.contains(&"client_secret") {
        lacks(&missing(&SECRET))
    } else if within(&CERTIFICATE) && given.iter().any(|key| !SECRET.contains(key)) {
        lacks(&missing(&CERTIFICATE))
    } else if within(&SECRET) {
        let mut lacking = missing(&SECRET);
        lacking.retain(|key| *key != "client_secret");
        let tail = "`client_secret`, or `client_certificate` and `client_key`";
        if lacking.is_empty() {
            format!("missing: {tail}")
        } else {
            format!("{}, and {tail}", lacks(&lacking))
        }
    } else {
        format!("{} do not belong together", listed(given, "and"))
    };
    let blank: Vec<&str> = KEYS
        .into_iter()
        .filter(|key| section.field(key).is_blank())
        .collect();
    let hint = if blank.is_empty() {
        String::new()
    } else {
        format!(
            " ({} blank: a value that begins with `#`, `&` or `!` has to stand in single quotes)",
            match blank.as_slice() {
                [key] => format!("{} is", quoted(key)),
                keys => format!("{} are", listed(keys, "and")),
            }
        )
    };
    format!("{lack}{hint}: {SETS}")
}

fn lacks(keys: &[&'static str]) -> String {
    format!("missing: {}", listed(keys, "and"))
}
