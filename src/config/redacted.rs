//! The configuration without what is secret, for whoever helps from afar.
//!
//! It goes by the keys that are known: a value is shown where its key says that it is no secret, and nowhere else. What stands under
//! any other key is hidden too, since that may be a secret's key misspelt.

use serde_json::{Map, Value as Json, json};

use super::credential::variable;
use super::keys::{FILE, INPUT, Key, Kind, SERVICE};
use super::tree::{Entry, Node, Value};
use crate::report::REPORTS;

const SECRET: &str = "(hidden)";
const UNKNOWN: &str = "(hidden: this key is not known)";
const OUT_OF_PLACE: &str = "(hidden: this does not belong here)";

/// The tree as JSON, each value as it was written.
pub(super) fn redacted(tree: &Node) -> Json {
    of(tree, Kind::Section(FILE))
}

fn of(node: &Node, kind: Kind) -> Json {
    match (&node.value, kind) {
        (Value::Blank, _) => Json::Null,
        (Value::Text(text), Kind::Secret) => json!(if variable(text).is_some() {
            text
        } else {
            SECRET
        }),
        (
            Value::Text(text),
            Kind::Text | Kind::Boolean | Kind::Number(..) | Kind::Fraction(..) | Kind::Choice(_),
        ) => json!(if has_user(text) { SECRET } else { text }),
        (Value::List(nodes), Kind::List(keys)) => {
            let nodes = nodes.iter();
            nodes.map(|node| of(node, Kind::Section(keys))).collect()
        }
        (Value::Map(entries), Kind::Section(keys)) => of_each(entries, |name| {
            let key = keys.iter().find(|key| key.name == name);
            key.map(|key: &Key| key.kind)
        }),
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

/// Whether a text is an address with a user in it, who may bring a password.
fn has_user(text: &str) -> bool {
    text.contains("://") && text.contains('@')
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::finding::Findings;
    use super::super::yaml;
    use super::*;

    const FILE: &str = "
globals: {id: 1, name: it, passwort: hunter2}
outputs:
  devo: {type: relay, config: {address: a.example, port: [hunter2], cert: a.crt}}
inputs:
  tenant:
    id: 007
    base_url: https://user:hunter2@a.example/
    credentials: {username: hunter2, password: 'hunter2', client_id: hunter2, client_secret: hunter2, tenant_id: t, client_secret_file: f}
    requests_limits: [{period: 5m, number_of_requests: 3}]
    services:
      exchange_reports_MessageTraceReport_hunter: {start_time: hunter2}
  other:
    credentials: {client_secret: '${SECRET}', clientsecret: hunter2}
    token: hunter2
  third: hunter2
";

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
        assert_eq!(redacted["outputs"]["devo"]["config"]["port"], OUT_OF_PLACE);
        assert_eq!(redacted["outputs"]["devo"]["config"]["cert"], "a.crt");
        assert_eq!(
            redacted["inputs"]["other"]["credentials"]["client_secret"],
            "${SECRET}"
        );
    }
}
