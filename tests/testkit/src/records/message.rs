//! Records of message trace by the message that they tell of, whichever service showed them and however it spells them.

use serde_json::Value;

use super::{Identity, Records};
use crate::report::Report;

impl Identity {
    /// What is the same in both services' rows of a message, in a collector's lines too: its trace id, its recipient and its status, without regard
    /// to case; `None` is `gettingStatus`.
    ///
    /// # Errors
    ///
    /// Says what is wrong where `text` is no JSON object or has none of the three.
    pub fn by_message(text: &str) -> Result<Identity, String> {
        let row: Value =
            serde_json::from_str(text).map_err(|error| format!("not a JSON object: {error}"))?;
        let member = |names: [&str; 2]| {
            let value = names.into_iter().find_map(|name| row[name].as_str());
            value
                .map(str::to_lowercase)
                .ok_or_else(|| format!("no {} in {text}", names[0]))
        };
        let id = member(["MessageTraceId", "id"])?;
        let recipient = member(["RecipientAddress", "recipientAddress"])?;
        let status = member(["Status", "status"])?;
        let status = if status == "none" {
            "gettingstatus"
        } else {
            &status
        };
        Ok(Identity::of_fields(&[
            ("\"id\"", &id),
            ("\"recipient\"", &recipient),
            ("\"status\"", status),
        ]))
    }
}

impl Records {
    /// The records of message trace by their messages, as far as their texts were kept.
    #[must_use]
    pub fn by_message(&self) -> Records {
        let mut records = Records::default();
        for (report, _, count) in self.iter() {
            let text = count.example.as_deref().unwrap_or_default();
            // A line that a relay has read has a head before its object.
            let text = &text[text.find('{').unwrap_or_default()..];
            if report != Report::MessageTrace {
                continue;
            }
            if let Ok(identity) = Identity::by_message(text) {
                for _ in 0..count.times {
                    records.add(report, identity, Some(text));
                }
            }
        }
        records
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_the_same_in_both_services_words() {
        let reported = r#"{"MessageTraceId":"AA","RecipientAddress":"R@x","Status":"FilteredAsSpam","Size":1}"#;
        let listed = r#"{"id":"aa","recipientAddress":"r@x","status":"filteredAsSpam","size":2}"#;
        let same = |one: &str, other: &str| {
            Identity::by_message(one).unwrap() == Identity::by_message(other).unwrap()
        };
        assert!(same(reported, listed));
        assert!(!same(reported, &listed.replace("r@x", "s@x")));
        assert!(!same(
            reported,
            &listed.replace("filteredAsSpam", "delivered")
        ));
        let (none, getting) = ("None", "gettingStatus");
        let status = |status: &str| listed.replace("filteredAsSpam", status);
        assert!(same(&status(none), &status(getting)));
        assert!(Identity::by_message("{}").is_err());
        let mut records = Records::default();
        for text in [reported, listed] {
            let line = format!("<14>Jan  1 host tag: {text}");
            let identity = Identity::of(text).unwrap();
            records.add(Report::MessageTrace, identity, Some(&line));
        }
        let messages = records.by_message();
        let identity = Identity::by_message(reported).unwrap();
        assert_eq!(messages.times(Report::MessageTrace, identity), 2);
    }
}
