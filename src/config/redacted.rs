//! The configuration without what is secret, for whoever helps from afar.
//!
//! It goes by the keys that are known: a value is shown where its key says that it is no secret, and nowhere else. What stands under
//! any other key is hidden too, since that may be a secret's key misspelt.

use serde_json::{Map, Value as Json, json};

use super::credential::variable;
use super::keys::{FILE, INPUT, INPUT_FILE, Key, Kind, SERVICE};
use super::tree::{Entry, Node, Value};
use crate::report::REPORTS;

const SECRET: &str = "(hidden)";
const UNKNOWN: &str = "(hidden: this key is not known)";
/// Names of hosts, which are the longest of settings, are of 253 characters at most.
const LENGTH_MAX: usize = 300;
const UNKNOWN_KEY: &str = "(unknown key)";
const OUT_OF_PLACE: &str = "(hidden: this does not belong here)";

/// The tree as JSON, each value as it was written, under the keys of `config.yaml`.
pub(super) fn redacted(tree: &Node) -> Json {
    of(tree, Kind::Section(FILE))
}

/// The same for a file that holds inputs.
pub(super) fn of_inputs(tree: &Node) -> Json {
    of(tree, Kind::Section(INPUT_FILE))
}

fn of(node: &Node, kind: Kind) -> Json {
    match (&node.value, kind) {
        (Value::Blank, _) => Json::Null,
        (Value::Text(text), Kind::Secret) => {
            json!(variable(text).map_or(SECRET, |_| text.as_str()))
        }
        (
            Value::Text(text),
            Kind::Text
            | Kind::Boolean
            | Kind::Number(..)
            | Kind::Limit(..)
            | Kind::Fraction(..)
            | Kind::Choice(_),
        ) => json!(if is_plain(text) { text } else { SECRET }),
        (Value::List(nodes), Kind::List(keys)) => {
            let nodes = nodes.iter();
            nodes.map(|node| of(node, Kind::Section(keys))).collect()
        }
        (Value::List(nodes), Kind::Texts | Kind::Numbers(..)) => {
            let nodes = nodes.iter();
            nodes.map(|node| of(node, Kind::Text)).collect()
        }
        (Value::Map(entries), Kind::Section(keys)) => of_section(entries, keys),
        (Value::Map(entries), Kind::Named(keys)) => of_each(entries, |_| Some(Kind::Section(keys))),
        (Value::Map(entries), Kind::Inputs) => of_each(entries, |name| {
            Some(if name == "services" {
                Kind::Services
            } else {
                Kind::Section(INPUT)
            })
        }),
        (Value::Map(entries), Kind::Services) => of_each(entries, |name| {
            let known = REPORTS.iter().any(|report| report.service == name);
            known.then_some(Kind::Section(SERVICE))
        }),
        _ => json!(OUT_OF_PLACE),
    }
}

/// A key that nobody knows among secrets may be a piece of one, as in `{password: one, two}`.
fn of_section(entries: &[Entry], keys: &'static [Key]) -> Json {
    let known = |name: &str| keys.iter().find(|key| key.name == name);
    let among_secrets = keys.iter().any(|key| matches!(key.kind, Kind::Secret));
    let (entries, unknown): (Vec<_>, Vec<_>) = entries
        .iter()
        .cloned()
        .partition(|entry| !among_secrets || known(&entry.key).is_some());
    let mut section = of_each(&entries, |name| known(name).map(|key| key.kind));
    if !unknown.is_empty() {
        section[UNKNOWN_KEY] = json!(UNKNOWN);
    }
    section
}

fn of_each(entries: &[Entry], kind: impl Fn(&str) -> Option<Kind>) -> Json {
    let entries = entries.iter().map(|entry| {
        let value = match kind(&entry.key) {
            Some(kind) => of(&entry.node, kind),
            None => json!(UNKNOWN),
        };
        (entry.key.clone(), value)
    });
    Json::Object(entries.collect::<Map<_, _>>())
}

/// Whether a text can be nothing but a setting: no key that was pasted in, no address with a user or a signature.
fn is_plain(text: &str) -> bool {
    let odd = |c: char| c.is_control() || c == '@' || c == '?';
    text.len() <= LENGTH_MAX && !text.contains(odd) && !text.contains("-----")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::finding::Findings;
    use super::super::{hosted, yaml};
    use super::*;

    const FILE: &str = r#"
globals: {id: 1, name: it, passwort: hunter2}
outputs:
  devo: {type: relay, config: {address: a.example, port: [hunter2], cert: a.crt}}
  other: {type: relay, config: {address: 'user:hunter2@a.example', key: "-----BEGIN PRIVATE KEY-----\nhunter2", cert: "a\nhunter2"}}
inputs:
  tenant:
    id: 007
    base_url: https://user:hunter2@a.example/
    credentials: {username: hunter2, password: 'hunter2', client_id: hunter2, client_secret: hunter2, tenant_id: t, client_secret_file: f}
    requests_limits: [{period: 5m, number_of_requests: 3}]
    services:
      exchange_reports_MessageTraceReport_hunter: {start_time: hunter2}
  other:
    base_url: https://a.example/?sig=hunter2
    credentials: {client_secret: '${SECRET}', clientsecret: hunter2, password: one, hunter2, client_id:hunter2}
    token: hunter2
  third: hunter2
"#;

    #[test]
    fn what_is_secret_is_hidden_and_so_is_what_nobody_knows() {
        let findings = Findings::new(&[Path::new("config.yaml")]);
        let tree = yaml::tree(FILE, &findings).unwrap();
        let redacted = redacted(&tree);
        assert!(!redacted.to_string().contains("hunter2"), "{redacted:#}");
        let tenant = &redacted["inputs"]["tenant"];
        assert_eq!(tenant["id"], "007");
        assert_eq!(tenant["base_url"], SECRET);
        assert_eq!(tenant["credentials"]["tenant_id"], "t");
        assert_eq!(tenant["credentials"]["client_secret"], SECRET);
        assert_eq!(tenant["credentials"]["client_secret_file"], "f");
        assert_eq!(tenant["requests_limits"][0]["period"], "5m");
        assert_eq!(redacted["globals"]["passwort"], UNKNOWN);
        let credentials = redacted["inputs"]["other"]["credentials"]
            .as_object()
            .unwrap();
        assert_eq!(credentials.len(), 3, "{credentials:?}");
        assert_eq!(credentials[UNKNOWN_KEY], UNKNOWN);
        assert_eq!(redacted["outputs"]["devo"]["config"]["port"], OUT_OF_PLACE);
        assert_eq!(redacted["outputs"]["devo"]["config"]["cert"], "a.crt");
        assert_eq!(
            redacted["inputs"]["other"]["credentials"]["client_secret"],
            "${SECRET}"
        );
    }

    /// The two files of a hosted instance, in which credentials stand elsewhere and have other names.
    #[test]
    fn what_is_secret_is_hidden_in_the_hosted_form_too() {
        let files = [Path::new("job.json"), Path::new("collector.json")];
        let job = r#"{"instance": {"id": "1", "name": "it"}, "inputs": {"office365_reporting_message": {"id": "1", "credentials":
            {"client_secret": "hunter2", "tenant_id": "t", "other": "hunter2"}, "services": {}}}}"#;
        let collector = r#"{"globals": {"id": "1", "name": "it"}, "outputs": {"devo": {"type": "relay", "config":
            {"address": "a.example", "password": "hunter2"}}}}"#;
        let findings = Findings::new(&files);
        let tree = hosted::tree(job, collector, &findings).unwrap();
        let redacted = redacted(&tree);
        assert!(!redacted.to_string().contains("hunter2"), "{redacted:#}");
        assert!(redacted.to_string().contains("a.example"), "{redacted:#}");
    }
}
