//! What the outputs of a list are called, since a list has no names: by what they are, so that each keeps its name, and with it the journal
//! of what it has confirmed, wherever in the list it stands.

use std::collections::HashMap;

use super::scalar;
use super::tree::{Entry, Value};

/// The port of a relay behind mutual TLS that is given none.
const PORT: &str = "443";

/// The names of these outputs, the values of a list by the keys of `config.yaml`. All are safe in a file name and no two are equal.
pub(super) fn names<'o>(outputs: impl Iterator<Item = &'o Value>) -> Vec<String> {
    let described: Vec<_> = outputs
        .map(|output| (description(output), output))
        .collect();
    let mut used: HashMap<String, u32> = HashMap::new();
    let names = described.iter().map(|(description, output)| {
        let alike = described.iter().filter(|(other, _)| other == description);
        let mut name = safe(description);
        // A certificate is a domain of Devo's: two at one relay are two places.
        if alike.count() > 1
            && let Some(cert) = config(output, "cert")
        {
            name = safe(&format!("{description} {cert}"));
        }
        let count = used.entry(name.clone()).or_default();
        *count += 1;
        match *count {
            1 => name,
            count => format!("{name}_{count}"),
        }
    });
    names.collect()
}

/// Type, address and port, in lower case, as far as they are given.
fn description(output: &Value) -> String {
    let kind = text(output, "type").unwrap_or("logger").to_lowercase();
    let Some(address) = config(output, "address") else {
        return kind;
    };
    let address = address.trim_matches(['[', ']']).trim_end_matches('.');
    let port = config(output, "port").unwrap_or(PORT);
    format!("{kind} {} {port}", address.to_lowercase())
}

/// The description as a name. Where that would leave something out which tells it from others, a checksum stands for it.
fn safe(description: &str) -> String {
    const CHECKED_MAX: usize = 48;
    let plain = scalar::name(description).ok().map(|(name, _)| name);
    // A `_` of the address cannot be told from a `.` of it.
    let (_, rest) = description.split_once(' ').unwrap_or_default();
    if let Some(name) = plain.filter(|_| !rest.contains(['_', '#'])) {
        return name;
    }
    let kept = description.chars().take(CHECKED_MAX).map(|c| {
        let safe = c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if safe { c } else { '_' }
    });
    let sum = crc32fast::hash(description.as_bytes());
    format!("{}_{sum:08x}", kept.collect::<String>())
}

fn config<'o>(output: &'o Value, key: &str) -> Option<&'o str> {
    text(&entry(output, "config")?.node.value, key)
}

fn text<'o>(map: &'o Value, key: &str) -> Option<&'o str> {
    match &entry(map, key)?.node.value {
        Value::Text(text) => Some(text.trim()),
        _ => None,
    }
}

fn entry<'o>(map: &'o Value, key: &str) -> Option<&'o Entry> {
    let Value::Map(entries) = map else {
        return None;
    };
    entries.iter().find(|entry| entry.key == key)
}
