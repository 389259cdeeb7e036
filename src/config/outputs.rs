//! `outputs`: the places where records go, and those of them that an input's records go to.

use std::collections::HashSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::reader::{Field, Section};
use super::words::{listed, quoted};
use super::{
    Compression, Output, OutputKind, ReceiptPolicy, RelayOutput, SyslogOutput, names, scalar,
};

const PORT: u16 = 443;
pub(super) const PORTS: RangeInclusive<u32> = 1..=u16::MAX as u32;
const ADDRESS_MAX: usize = 253;
const TYPES: &str = "use `devo_platform` or `relay` (mutual TLS), `syslog`, `in_house_relay` or `sidecar` (plain TCP), or `console`";

/// The addresses of Devo's own clouds.
const CLOUDS: [&str; 4] = [
    "collector-us.devo.io",
    "collector-eu.devo.io",
    "collector-ca.devo.io",
    "collector-ap.devo.io",
];

enum Type {
    Platform,
    Relay,
    Syslog,
    Console,
}

/// The outputs that the records of an input may go to.
#[derive(Default)]
pub(super) struct Offered {
    /// Those that an input has which names none.
    pub(super) default: Vec<Output>,
    /// Those that it may name beside.
    pub(super) further: Vec<Output>,
    /// The names of all of them, those with a mistake included.
    pub(super) names: Vec<String>,
}

impl Offered {
    /// The outputs that are named under `field`, or the default ones where the key is absent. A key that is there and names none is a
    /// mistake: it must not send a tenant's records everywhere.
    pub(super) fn chosen(&self, field: &Field<'_>) -> Vec<Output> {
        if !field.is_present() {
            return self.default.clone();
        }
        let items = field.items();
        if items.is_empty() && (field.is_blank() || field.is_given_as_list()) {
            field.mistake("no output is named: name those that this input's records go to, or remove the key for the default");
        }
        let mut chosen: Vec<Output> = Vec::new();
        for item in items {
            let item = item.required("the name of an output");
            let Some(name) = item.parse(|text| scalar::name(text).map(|(name, _)| name)) else {
                continue;
            };
            if chosen.iter().any(|output| output.name == name) {
                item.mistake(format!("{} is named twice: remove one", quoted(&name)));
                continue;
            }
            let mut known = self.default.iter().chain(&self.further);
            match known.find(|output| output.name == name) {
                Some(output) => chosen.push(output.clone()),
                // One with a mistake has been reported.
                None if self.names.contains(&name) => {}
                None => {
                    let names: Vec<_> = self.names.iter().map(String::as_str).collect();
                    item.mistake(format!(
                        "there is no output {}: name one of {}",
                        quoted(&name),
                        listed(&names, "and")
                    ));
                }
            }
        }
        chosen
    }
}

/// The names of the outputs under `field`, right or wrong.
pub(super) fn names(field: &Field<'_>) -> Vec<String> {
    let section = field.peek();
    let names = section.iter().flat_map(Section::fields);
    names
        .filter_map(|field| scalar::name(field.key()).ok())
        .map(|(name, _)| name)
        .collect()
}

/// `compression` is what `globals` ask of those outputs that the original's Devo sender serves; `statistics_period` is for all.
pub(super) fn read(
    field: &Field<'_>,
    compression: Compression,
    statistics_period: Duration,
) -> Vec<Output> {
    let Some(section) = field.section_or_empty() else {
        return Vec::new();
    };
    if section.is_empty() {
        section.mistake("no output: name a place where the records go, such as `devo_1` of type `devo_platform`");
    }
    let mut names = HashSet::new();
    let mut outputs = Vec::new();
    for field in section.fields() {
        let Some(output) = output(&field, compression, statistics_period) else {
            continue;
        };
        if !names.insert(output.name.clone()) {
            field.mistake(format!(
                "two outputs are called {}: rename one of them",
                quoted(&output.name)
            ));
        }
        outputs.push(output);
    }
    outputs
}

fn output(
    field: &Field<'_>,
    compression: Compression,
    statistics_period: Duration,
) -> Option<Output> {
    let name = names::of_key(field);
    let section = field.section_or_empty()?;
    let kind = section.field("type").required(TYPES).parse(kind_of);
    let config = section.field("config");
    section.warn_of_unknown();
    let kind = match kind? {
        Type::Console => OutputKind::Console,
        Type::Relay => OutputKind::Relay(relay(config, false, compression)?),
        Type::Platform => OutputKind::Relay(relay(config, true, compression)?),
        Type::Syslog => OutputKind::Syslog(syslog(config)?),
    };
    Some(Output {
        name: name?,
        kind,
        statistics_period,
    })
}

fn kind_of(text: &str) -> Result<Type, String> {
    match text.to_lowercase().as_str() {
        "devo_platform" => Ok(Type::Platform),
        "relay" => Ok(Type::Relay),
        "syslog" | "in_house_relay" | "sidecar" => Ok(Type::Syslog),
        "console" | "stdout" => Ok(Type::Console),
        _ => Err(format!("is not a type of output: {TYPES}")),
    }
}

fn relay(field: Field<'_>, platform: bool, compression: Compression) -> Option<RelayOutput> {
    let section = field
        .required("`address`, `chain`, `cert` and `key` go here")
        .section()?;
    let address = address(&section, platform);
    let port = port(&section.field("port"));
    section.field("type").parse(over_tls);
    let file = |key, needed| {
        names::documented_file(&section.field(key).required(needed), names::CERTIFICATES)
    };
    let chain = file(
        "chain",
        "the file under certs/ with the authorities to trust, such as `chain.crt`",
    );
    let cert = file(
        "cert",
        "the file under certs/ with your certificate, such as `your_domain.crt`",
    );
    let key = file(
        "key",
        "the file under certs/ with your private key, such as `your_domain.key`",
    );
    let verify_hostname = section.field("verify_hostname").boolean().unwrap_or(true);
    let receipt = receipt(&section, true);
    section.warn_of_unknown();
    Some(RelayOutput {
        address: address?,
        port: port.unwrap_or(PORT),
        chain: chain?,
        cert: cert?,
        key: key?,
        verify_hostname,
        receipt,
        compression,
    })
}

fn syslog(field: Field<'_>) -> Option<SyslogOutput> {
    let section = field.required("`address` and `port` go here").section()?;
    let address = address(&section, false);
    let port = port(
        &section
            .field("port")
            .required("the relay's TCP port, for which this type of output has no default"),
    );
    section.field("type").parse(over_tcp);
    let receipt = receipt(&section, false);
    for key in ["chain", "cert", "key"] {
        let field = section.field(key);
        if field.is_given() {
            field.warning(
                "not used: this type of output is plain TCP, which everybody on the way can read; for mutual TLS use \
                 the type `relay`",
            );
        }
    }
    section.warn_of_unknown();
    Some(SyslogOutput {
        address: address?,
        port: port?,
        receipt,
    })
}

fn port(field: &Field<'_>) -> Option<u16> {
    let port = field.number(PORTS, "")?;
    u16::try_from(port).ok()
}

fn address(section: &Section<'_>, platform: bool) -> Option<String> {
    let field = section
        .field("address")
        .required("the relay's host name, such as `collector-eu.devo.io`");
    let address = field.parse(host)?;
    if platform && !CLOUDS.contains(&address.to_lowercase().as_str()) {
        field.warning(format!(
            "{} is none of Devo's addresses: {}",
            quoted(&address),
            CLOUDS.join(", ")
        ));
    }
    Some(address)
}

/// A host name or an IP address, which may stand in brackets.
fn host(text: &str) -> Result<String, String> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    if bare.parse::<IpAddr>().is_ok() {
        return Ok(bare.to_owned());
    }
    if text.contains("://") || text.contains('/') {
        return Err(
            "is not a host name: give the name alone, without `https://` and path".to_owned(),
        );
    }
    if text.contains(':') {
        return Err("is not a host name: give the name alone, and the port in `port`".to_owned());
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.len() > ADDRESS_MAX || !name.split('.').all(label) {
        return Err(
            "is not a host name: give one such as `collector-eu.devo.io`, or an IP address"
                .to_owned(),
        );
    }
    Ok(name.to_owned())
}

fn over_tls(text: &str) -> Result<(), String> {
    match text.to_lowercase().as_str() {
        "ssl" | "tls" => Ok(()),
        _ => Err(
            "is not allowed: certificates are mandatory for this type of output, use `SSL`"
                .to_owned(),
        ),
    }
}

fn over_tcp(text: &str) -> Result<(), String> {
    match text.to_lowercase().as_str() {
        "tcp" => Ok(()),
        _ => Err(
            "is not allowed: this type of output is plain TCP, use `TCP`; for mutual TLS use the type `relay`"
                .to_owned(),
        ),
    }
}

/// Without TLS there is no `close_notify`.
fn receipt(section: &Section<'_>, tls: bool) -> ReceiptPolicy {
    let policy = section
        .field("receipt")
        .parse(|text| match text.to_lowercase().as_str() {
            "required" => Ok(ReceiptPolicy::Required),
            "close_notify" if tls => Ok(ReceiptPolicy::CloseNotify),
            "close_notify" => Err(
                "is not possible: only TLS has a close_notify, and this type of output is plain TCP; use the type `relay`, or `required`"
                    .to_owned(),
            ),
            "ended" => Ok(ReceiptPolicy::Ended),
            "tcp" => Ok(ReceiptPolicy::Tcp),
            _ => Err(
                "is not allowed: give `required`, `close_notify`, `ended` or `tcp`, or leave it blank"
                    .to_owned(),
            ),
        });
    policy.unwrap_or(ReceiptPolicy::StandIn)
}
