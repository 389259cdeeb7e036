//! The configuration's schema, for editors: what each key is for, and which values it takes.
//!
//! `config/schema.json` is what [`schema`] makes of the description in `keys.rs`, and `config/inputs.schema.json` what [`schema_of_inputs`]
//! does; a test keeps them current. That the description
//! and the readers know the same keys is a test's as well, which runs the readers and looks at what they ask for. The schema is never
//! stricter than they are but in the case of a word's letters, and does not know everything that they do: they have the last word.

#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

use super::keys::{FILE, INPUT, INPUT_FILE, Key, Kind, SERVICE};
use crate::report::REPORTS;

/// The schema of `config.yaml`, as JSON Schema, draft 7.
pub fn schema() -> Value {
    whole(FILE, "Configuration of the collector of Exchange reports")
}

/// The schema of a file under `inputs.d/`.
pub fn schema_of_inputs() -> Value {
    whole(INPUT_FILE, "Inputs of the collector of Exchange reports")
}

fn whole(keys: &[Key], title: &str) -> Value {
    let mut schema = section(keys);
    schema["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    schema["title"] = json!(title);
    schema["definitions"] = json!({"services": services()});
    schema
}

/// A map of the keys that are described, and of no others: an editor shows misspelt ones.
fn section(keys: &[Key]) -> Value {
    let properties: Map<_, _> = keys
        .iter()
        .map(|key| (key.name.to_owned(), property(key)))
        .collect();
    let required: Vec<_> = keys
        .iter()
        .filter(|key| key.required)
        .map(|key| key.name)
        .collect();
    let mut section = json!({
        "type": ["object", "null"],
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        section["required"] = json!(required);
        section["type"] = json!("object");
    }
    section
}

fn property(key: &Key) -> Value {
    let mut property = match &key.kind {
        Kind::Text | Kind::Secret => json!({"type": ["string", "number", "boolean", "null"]}),
        Kind::Boolean => json!({"anyOf": [
            {"type": ["boolean", "null"]},
            {"type": "string", "pattern": "^\\s*([Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee]|[Yy][Ee][Ss]|[Nn][Oo]|[Oo][Nn]|[Oo][Ff][Ff])?\\s*$"},
        ]}),
        Kind::Number(least, most) => json!({"anyOf": [
            {"type": ["integer", "null"], "minimum": least, "maximum": most},
            {"type": "string", "pattern": "^\\s*([+]?[0-9][0-9_]*)?\\s*$"},
        ]}),
        Kind::Limit(least, most) => json!({"anyOf": [
            {"type": ["integer", "null"], "minimum": least, "maximum": most},
            {"const": -1},
            {"type": "string", "pattern": "^\\s*([+]?[0-9][0-9_]*|-1)?\\s*$"},
        ]}),
        Kind::Fraction(least, most) => json!({"anyOf": [
            {"type": ["number", "null"], "minimum": least, "maximum": most},
            {"type": "string", "pattern": "^\\s*([-+]?[0-9.]+([eE][-+]?[0-9]+)?)?\\s*$"},
        ]}),
        Kind::Choice(words) => {
            json!({"anyOf": [{"enum": words}, {"type": ["string", "null"], "pattern": "^\\s*$"}]})
        }
        Kind::Section(keys) => section(keys),
        Kind::Named(keys) => named(keys, &[]),
        Kind::List(keys) => json!({"type": ["array", "null"], "items": section(keys)}),
        Kind::Texts => {
            json!({"type": "array", "minItems": 1, "items": {"type": ["string", "number", "boolean"]}})
        }
        Kind::Numbers(least, most) => {
            json!({"type": ["array", "null"], "items": {"anyOf": [
                {"type": "integer", "minimum": least, "maximum": most},
                {"type": "string", "pattern": "^\\s*[+]?[0-9][0-9_]*\\s*$"},
            ]}})
        }
        Kind::Inputs => named(INPUT, &["services"]),
        Kind::Services => json!({"$ref": "#/definitions/services"}),
    };
    if matches!(key.kind, Kind::Services) {
        // Draft 7 ignores what stands beside a reference.
        property = json!({"allOf": [property]});
    }
    property["description"] = json!(key.about);
    property
}

/// A map whose keys are names of the operator's choosing; `beside` are keys that hold services.
fn named(keys: &[Key], beside: &[&str]) -> Value {
    let mut named = json!({"type": ["object", "null"], "additionalProperties": section(keys)});
    for key in beside {
        named["properties"][*key] = json!({"$ref": "#/definitions/services"});
    }
    named
}

fn services() -> Value {
    let services: Map<_, _> = REPORTS
        .iter()
        .map(|report| {
            let has_buckets = report.aggregates;
            let keys: Vec<_> = SERVICE
                .iter()
                .filter(|key| has_buckets || key.name != "aggregate_by")
                .filter(|key| report.has_two_services() || key.name != "source")
                .filter(|key| {
                    report.early_passes().is_ok() || !key.name.starts_with("early_passes_")
                })
                .copied()
                .collect();
            let mut service = section(&keys);
            service["description"] = json!(format!("The report {}", report.path));
            (report.service.to_owned(), service)
        })
        .collect();
    json!({"type": ["object", "null"], "properties": services, "additionalProperties": false})
}
