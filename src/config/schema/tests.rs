//! The schema against the readers, the configurations that are shipped and documented, and its own file.

use std::collections::BTreeSet;
use std::path::Path;

use boon::{Compiler, SchemaIndex, Schemas};

use super::super::finding::Findings;
use super::super::inputs::Needed;
use super::super::tree::{self, Node};
use super::super::{config, yaml};
use super::*;

const SHIPPED: &str = include_str!("../../../config/config.yaml");
const DOCUMENTED: &str = include_str!("../../../tests/it/configuration/documentation.yaml");

/// Every key there is, with one that each reader takes.
const FULL: &str = "
globals:
  id: 1
  name: a
  debug: false
  multiprocessing: false
  persistence:
    type: filesystem
    config:
      directory_name: state
  devo_sender_threshold_for_using_gzip_in_transport_layer: 1.1
  devo_sender_compression_level: 6
  devo_sender_compression_buffer_in_bytes: 51200
  sender_stats_period_in_sec: 300
  concurrent_requests: 64
  monitoring:
    listen: 127.0.0.1:18514
    stalled_after_in_seconds: 1800
  queue_max_size_in_mb: 5
outputs:
  a:
    type: relay
    config:
      address: localhost
      port: 443
      type: SSL
      chain: chain.crt
      cert: a.crt
      key: a.key
      verify_hostname: true
      receipt: required
  b:
    type: console
inputs:
  a:
    id: 2
    enabled: true
    requests_per_second: 5
    requests_limits:
      - period: 5m
        number_of_requests: 100
    environment: a
    outputs: [a, b]
    base_url: https://localhost/
    authority_url: https://localhost/
    scope: a
    ca_bundle: a.crt
    start_time: 2024-05-07
    credentials:
      tenant_id: a
      client_id: a
      client_secret: a
    services:
      office365_reporting_MailTraffic_service:
        request_period_in_seconds: 60
        override_time_delay_in_seconds: 90000
        reset_persistence_auth: 2024-05-07
        start_time: 2024-05-07
        aggregate_by: hour
        obfuscation_data:
          - name: [Domain, '*']
            value: hidden
        requests_per_second: 5
        requests_limits:
          - period: 1M
            number_of_requests: -1
      office365_reporting_Dlp_service:
";

/// What is written where nothing may keep a value from being what it is: nothing, words, numbers, and the like.
const VALUES: [&str; 16] = [
    "",
    "~",
    "''",
    "true",
    "YES",
    "off",
    "0",
    "1",
    "'1'",
    "1_000",
    "+5",
    "-1",
    "1.5",
    "70000",
    "a word",
    "2024-05-07",
];

struct Validator(Schemas, SchemaIndex);

impl Validator {
    fn new() -> Self {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.add_resource("schema.json", schema()).unwrap();
        let index = compiler.compile("schema.json", &mut schemas).unwrap();
        Validator(schemas, index)
    }

    fn check(&self, yaml: &str) -> Result<(), String> {
        let findings = Findings::new(&[Path::new("config.yaml")]);
        let tree = yaml::tree(yaml, &findings).unwrap();
        let Validator(schemas, index) = self;
        let value = as_json(&tree);
        let outcome = schemas.validate(&value, *index);
        outcome.map_err(|error| format!("{error:#}"))
    }
}

/// The tree as an editor has it, which gives plain values the types of YAML's core schema.
fn as_json(node: &Node) -> Value {
    match &node.value {
        tree::Value::Blank => Value::Null,
        tree::Value::Text(text) => match text.as_str() {
            "true" => json!(true),
            "false" => json!(false),
            text => match serde_json::from_str::<serde_json::Number>(text) {
                Ok(number) => json!(number),
                Err(_) => json!(text),
            },
        },
        tree::Value::List(items) => items.iter().map(|item| as_json(item)).collect(),
        tree::Value::Map(entries) => {
            let members = entries
                .iter()
                .map(|entry| (entry.key.clone(), as_json(&entry.node)));
            Value::Object(members.collect())
        }
    }
}

/// Whether the readers take it, and what they asked for.
fn read(text: &str) -> (bool, BTreeSet<String>) {
    let findings = Findings::new(&[Path::new("config.yaml")]);
    let now = "2026-11-22T12:00:00Z".parse().unwrap();
    let tree = yaml::tree(text, &findings);
    let config = tree.and_then(|tree| config(&tree, now, &findings, Needed::Enabled));
    let asked = findings.asked.borrow().clone();
    (findings.conclude(config).is_ok(), asked)
}

/// The description's path for one of a file, with `*` for each name; `None` if it has no such key.
fn described(path: &str) -> Option<String> {
    let mut keys = FILE;
    let mut names = false;
    let mut found = vec![];
    for part in path.split('.') {
        let part = part.split('[').next()?;
        if names {
            names = false;
            found.push("*");
            continue;
        }
        let key = keys.iter().find(|key| key.name == part)?;
        found.push(key.name);
        (keys, names) = match key.kind {
            Kind::Section(keys) | Kind::List(keys) => (keys, false),
            Kind::Named(keys) => (keys, true),
            Kind::Inputs => (INPUT, true),
            Kind::Services => (SERVICE, true),
            Kind::Text
            | Kind::Secret
            | Kind::Boolean
            | Kind::Number(..)
            | Kind::Limit(..)
            | Kind::Texts
            | Kind::Numbers(..)
            | Kind::Fraction(..)
            | Kind::Choice(_) => (&[][..], false),
        };
    }
    Some(found.join("."))
}

/// All paths of the description.
fn paths(keys: &[Key], above: &str) -> BTreeSet<String> {
    let within = |key: &Key| {
        let path = format!("{above}{}", key.name);
        let below = match key.kind {
            Kind::Section(keys) | Kind::List(keys) => paths(keys, &format!("{path}.")),
            Kind::Named(keys) => paths(keys, &format!("{path}.*.")),
            Kind::Inputs => paths(INPUT, &format!("{path}.*.")),
            Kind::Services => paths(SERVICE, &format!("{path}.*.")),
            _ => BTreeSet::new(),
        };
        std::iter::once(path).chain(below)
    };
    keys.iter().flat_map(within).collect()
}

#[test]
fn the_schema_and_the_readers_know_the_same_keys() {
    let (taken, asked) = read(FULL);
    assert!(taken);
    let known: BTreeSet<_> = asked
        .iter()
        .map(|path| {
            described(path).unwrap_or_else(|| panic!("`{path}` is not described in config/keys.rs"))
        })
        .collect();
    let all = paths(FILE, "");
    let unasked: Vec<_> = all.difference(&known).collect();
    assert!(unasked.is_empty(), "no reader asks for {unasked:?}");
}

#[test]
fn the_schema_that_is_shipped_is_current() {
    for (name, schema) in [
        ("schema.json", schema()),
        ("inputs.schema.json", schema_of_inputs()),
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("config")
            .join(name);
        let text = format!("{schema:#}\n");
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        assert!(
            std::fs::read_to_string(&path).unwrap_or_default() == text,
            "config/{name} is not what src/config/schema makes of it: run this test with UPDATE_SCHEMA=1"
        );
    }
    let first = SHIPPED.lines().next().unwrap();
    assert_eq!(first, "# yaml-language-server: $schema=schema.json");
}

#[test]
fn the_shipped_configuration_and_the_documentations_are_valid() {
    let validator = Validator::new();
    validator.check(SHIPPED).unwrap();
    // With what is commented out, as far as it is no alternative to what is there.
    let uncommented = SHIPPED
        .replace("#environment", "environment")
        .replace("#start_time", "start_time")
        .replace("#monitoring", "monitoring")
        .replace("#  listen", "  listen")
        .replace("#  stalled", "  stalled")
        .replace("#devo_sender", "devo_sender")
        .replace("#sender_stats", "sender_stats");
    assert_eq!(uncommented.len() + 10, SHIPPED.len());
    validator.check(&uncommented).unwrap();
    validator.check(FULL).unwrap();
    let documented = DOCUMENTED
        .replace("<input_status>", "true")
        .replace("<multiprocessing_mode>", "false");
    let numbers = [
        "<request_per_seconds>",
        "<period_in_seconds>",
        "<delay_in_seconds>",
    ];
    let documented = numbers
        .iter()
        .fold(documented, |text, number| text.replace(number, "5"));
    validator.check(&documented).unwrap();
}

#[test]
fn what_the_readers_take_is_valid_in_every_place() {
    let validator = Validator::new();
    let (mut taken, mut refused) = (0, 0);
    for (number, line) in FULL.lines().enumerate() {
        let Some((key, value)) = line.split_once(": ") else {
            continue;
        };
        for other in VALUES {
            let text: Vec<_> = FULL
                .lines()
                .enumerate()
                .map(|(at, line)| {
                    if at == number {
                        format!("{key}: {other}")
                    } else {
                        line.to_owned()
                    }
                })
                .collect();
            let text = text.join("\n");
            let valid = validator.check(&text);
            if read(&text).0 {
                taken += 1;
                assert_eq!(valid, Ok(()), "{key}: {other} instead of {value}");
            } else if valid.is_err() {
                refused += 1;
            }
        }
    }
    assert!(
        taken > 200 && refused > 50,
        "{taken} taken, {refused} refused"
    );
}

#[test]
fn what_is_misspelt_or_of_the_wrong_kind_is_not_valid() {
    let validator = Validator::new();
    for (from, to) in [
        ("debug:", "debgu:"),
        ("type: relay", "type: kafka"),
        ("port: 443", "port: 70000"),
        ("    id: 2\n", ""),
        (
            "      - period: 5m\n        number",
            "      period: 5m\n      number",
        ),
        ("MailTraffic", "MailTrafic"),
        ("Dlp_service:", "Dlp_service: {aggregate_by: hour}"),
        ("client_secret:", "client_secert:"),
        ("directory_name: state", "directory_name: [state]"),
        ("name: [Domain, '*']", "name: Domain"),
        ("name: [Domain, '*']", "name: []"),
        ("outputs: [a, b]", "outputs: []"),
        ("number_of_requests: -1", "number_of_requests: -2"),
        ("obfuscation_data", "obfuscation"),
    ] {
        let text = FULL.replace(from, to);
        assert_ne!(text, FULL, "{from}");
        assert!(validator.check(&text).is_err(), "{to}");
    }
}
