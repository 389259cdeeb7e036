//! A line of the log as a JSON object, for machines.

use chrono::SecondsFormat;
use serde::Serialize;
use serde_json::{Map, Value};

use super::Said;
use super::line::levelname;

/// What a line holds. Names are those of the collector's own messages to Devo.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    level: &'static str,
    msg: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_name: Option<&'a str>,
    module_name: &'a str,
    #[serde(skip_serializing_if = "Map::is_empty")]
    facts: Map<String, Value>,
}

/// The object, on one line.
pub(super) fn print(said: &Said) -> String {
    let facts = said.facts.iter();
    let line = Line {
        time: said.time.to_rfc3339_opts(SecondsFormat::Millis, true),
        level: levelname(said.level),
        msg: &said.message,
        input_name: said.place.input.as_deref(),
        service_name: said.place.service.as_deref(),
        output_name: said.place.output.as_deref(),
        module_name: &said.module,
        facts: facts
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect(),
    };
    // Texts, numbers and truths: there is nothing in it that has no JSON.
    serde_json::to_string(&line).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::said::tests::{heard, say};
    use super::*;

    #[test]
    fn a_line_is_one_object_whatever_is_said() {
        let lines: Vec<_> = heard(say).iter().map(print).collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
        {"time":"2026-11-22T14:40:52.290Z","level":"INFO","msg":"collecting","module_name":"log::said::tests","facts":{"services":2}}
        {"time":"2026-11-22T14:40:52.290Z","level":"INFO","msg":"window delivered","input_name":"tenant","service_name":"trace_service","module_name":"log::said::tests","facts":{"per_second":1.5,"whole":true,"window":"10:00..11:00"}}
        {"time":"2026-11-22T14:40:52.290Z","level":"ERROR","msg":"delivery waits","input_name":"tenant","service_name":"trace_service","output_name":"devo_1","module_name":"log::said::tests","facts":{"error":"it \"broke\"\nat once","retry_in":"1s"}}
        "#);
        for line in lines {
            let value: Value = serde_json::from_str(&line).unwrap();
            assert!(value.is_object() && !line.contains('\n'));
        }
    }
}
