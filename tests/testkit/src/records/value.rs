//! Records by the values of their members, however these are spelt.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Identity, Records};
use crate::service::iso;

impl Identity {
    /// The identity of a row by its values: the order and the escapes of its members, the spelling of numbers and of times do not matter,
    /// and a member that is null might as well be absent.
    ///
    /// # Errors
    ///
    /// Says what is wrong where `text` is not one JSON object.
    pub fn by_value(text: &str) -> Result<Identity, String> {
        let members: BTreeMap<String, Value> =
            serde_json::from_str(text).map_err(|error| format!("not a JSON object: {error}"))?;
        let fields: Vec<(String, String)> = members
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (format!("\"{name}\""), plain(&value)))
            .collect();
        let fields: Vec<(&str, &str)> = fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        Ok(Identity::of_fields(&fields))
    }
}

impl Records {
    /// The same records by their values, as far as their texts were kept.
    #[must_use]
    pub fn by_value(&self) -> Records {
        let mut records = Records::default();
        for (report, _, count) in self.iter() {
            let text = count.example.as_deref().unwrap_or_default();
            // A line that a relay has read has a head before its object.
            let text = &text[text.find('{').unwrap_or_default()..];
            if let Ok(identity) = Identity::by_value(text) {
                for _ in 0..count.times {
                    records.add(report, identity, Some(text));
                }
            }
        }
        records
    }
}

/// One text for all spellings of a value.
fn plain(value: &Value) -> String {
    match value {
        Value::Number(number) => number
            .as_f64()
            .map_or_else(|| number.to_string(), |number| number.to_string()),
        Value::String(text) => match iso(text) {
            Some(time) => time.timestamp_nanos_opt().unwrap_or_default().to_string(),
            None => value.to_string(),
        },
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_a_row_are_one_and_other_values_are_others() {
        let row = r#"{"A":"é/","N":10,"T":"2022-11-29T05:35:08.26","X":null}"#;
        let identity = Identity::by_value(row).unwrap();
        for same in [
            r#"{"T":"2022-11-29T05:35:08.2600000Z","N":1.0E+1,"A":"\u00e9\/","Index":4}"#,
            r#"{ "\u0041" : "é/" , "N" : 10.00 , "T" : "2022-11-29T05:35:08.260" , "@devo_pulling_id" : "1" }"#,
        ] {
            assert_eq!(Identity::by_value(same).unwrap(), identity, "{same}");
        }
        for other in [
            r#"{"A":"e/","N":10,"T":"2022-11-29T05:35:08.26"}"#,
            r#"{"A":"é/","N":"10","T":"2022-11-29T05:35:08.26"}"#,
            r#"{"A":"é/","N":10,"T":"2022-11-29T05:35:08.261"}"#,
            r#"{"A":"é/","N":10,"T":"2022-11-29T05:35:08.26","X":""}"#,
        ] {
            assert_ne!(Identity::by_value(other).unwrap(), identity, "{other}");
        }
    }
}
