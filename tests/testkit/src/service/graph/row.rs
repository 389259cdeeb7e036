//! A row of the store as Graph shows it: other names, other words, some members less.

use serde_json::Value;

use super::GraphOptions;
use super::time::{cut, instant};
use crate::json;
use crate::service::generator::Ticks;

/// The members of a row in their order, and the reporting service's names of them.
const MEMBERS: [(&str, &str); 10] = [
    ("id", "MessageTraceId"),
    ("senderAddress", "SenderAddress"),
    ("recipientAddress", "RecipientAddress"),
    ("messageId", "MessageId"),
    ("receivedDateTime", "Received"),
    ("subject", "Subject"),
    ("size", "Size"),
    ("fromIP", "FromIP"),
    ("toIP", "ToIP"),
    ("status", "Status"),
];

/// The statuses that Graph has words for (documented by Microsoft).
const STATUSES: [&str; 7] = [
    "gettingStatus",
    "pending",
    "failed",
    "delivered",
    "expanded",
    "quarantined",
    "filteredAsSpam",
];

/// How rows are to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form<'a> {
    pub(crate) options: &'a GraphOptions,
    /// `Prefer: include-unknown-enum-members`, without which a status beyond the documented ones is `unknownFutureValue`.
    pub(crate) all_statuses: bool,
}

/// One row.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// Its number in the store; a made-up row has none.
    pub(crate) number: Option<u32>,
    /// As much of its time as Graph knows.
    pub(crate) time: Ticks,
    pub(crate) recipient: String,
    /// Names and values, the values as JSON.
    members: Vec<(&'static str, String)>,
    /// No status finds it.
    is_hidden_from_status: bool,
    /// What stands before them.
    kind: &'static str,
}

impl Row {
    /// The row whose text in the store is `text`; none where that is no JSON object.
    pub(crate) fn read(
        number: Option<u32>,
        time: Ticks,
        text: &str,
        form: Form<'_>,
    ) -> Option<Row> {
        let fields = json::fields(text).ok()?;
        let field = |name: &str| {
            let found = fields.iter().find(|(key, _)| key.trim_matches('"') == name);
            found.map_or("null", |(_, value)| *value)
        };
        let time = cut(time, form.options.known_decimals);
        let members: Vec<_> = MEMBERS
            .into_iter()
            .map(|(name, theirs)| (name, form.value(name, field(theirs), time)))
            .collect();
        let recipient = plain(&members[2].1);
        let is_unknown = plain(&members[9].1) == "unknownFutureValue";
        Some(Row {
            number,
            time,
            recipient,
            members,
            is_hidden_from_status: is_unknown && !form.options.finds_unknown_statuses,
            kind: if form.options.odata_types {
                "\"@odata.type\":\"#microsoft.graph.exchangeMessageTrace\","
            } else {
                ""
            },
        })
    }

    /// A member's value as text.
    pub(crate) fn value(&self, name: &str) -> String {
        let member = self.members.iter().find(|(own, _)| *own == name);
        member.map_or_else(String::new, |(_, value)| plain(value))
    }

    /// Whether a status that is asked for may be its own.
    pub(crate) fn has_a_status(&self) -> bool {
        !self.is_hidden_from_status
    }

    /// What orders rows: newest first, equal times by recipient, ascending (documented by Microsoft for the cmdlet underneath).
    pub(crate) fn key(&self) -> (std::cmp::Reverse<Ticks>, &str) {
        (std::cmp::Reverse(self.time), &self.recipient)
    }

    /// Appends the row as one JSON object.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        out.extend_from_slice(self.kind.as_bytes());
        for (index, (name, value)) in self.members.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            out.extend_from_slice(format!("{comma}\"{name}\":{value}").as_bytes());
        }
        out.push(b'}');
    }
}

impl Form<'_> {
    /// A member's value, from the reporting service's value of it.
    fn value(&self, name: &str, theirs: &str, time: Ticks) -> String {
        let text = match (name, theirs) {
            ("receivedDateTime", _) => instant(time, self.options.shown_decimals),
            ("status", _) => self.status(&plain(theirs)),
            ("size", "null") => return "0".to_owned(),
            ("id" | "fromIP" | "toIP", "null") if name == "id" || !self.options.null_addresses => {
                String::new()
            }
            _ => return theirs.to_owned(),
        };
        Value::from(text).to_string()
    }

    /// The same word with a small first letter. `None` has no counterpart: that nothing is known yet is what comes nearest.
    fn status(&self, theirs: &str) -> String {
        let mut letters = theirs.chars();
        let first = letters.next().map(|letter| letter.to_ascii_lowercase());
        let word: String = first.into_iter().chain(letters).collect();
        let word = match word.as_str() {
            "none" => "gettingStatus",
            word if STATUSES.contains(&word) || (self.all_statuses && !word.is_empty()) => word,
            _ => "unknownFutureValue",
        };
        if !self.options.capital_statuses {
            return word.to_owned();
        }
        let (first, rest) = word.split_at(1);
        first.to_uppercase() + rest
    }
}

/// A JSON value as text: a string's content, nothing for null. A string that is none (a lone surrogate) stays as it stands.
fn plain(value: &str) -> String {
    match serde_json::from_str(value) {
        Ok(Value::String(text)) => text,
        Ok(Value::Null) => String::new(),
        _ => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::graph::time::ticks_of;

    #[test]
    fn a_row_has_graphs_names_and_words() {
        let text = r#"{"Organization":"o","MessageId":"<m>","Received":"x","SenderAddress":"a\u00e9@b","RecipientAddress":"R@b",
            "Subject":null,"Status":"FilteredAsSpam","ToIP":null,"FromIP":"192.0.2.1","Size":5,"MessageTraceId":"i"}"#;
        let options = GraphOptions::default();
        let form = Form {
            options: &options,
            all_statuses: false,
        };
        let time = ticks_of("2026-01-21T14:12:34.0581234Z").unwrap();
        let row = Row::read(Some(1), time, text, form).unwrap();
        let mut out = Vec::new();
        row.write(&mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"{"id":"i","senderAddress":"a\u00e9@b","recipientAddress":"R@b","messageId":"<m>","receivedDateTime":"2026-01-21T14:12:34.058Z","subject":null,"size":5,"fromIP":"192.0.2.1","toIP":"","status":"filteredAsSpam"}"#
        );
        assert_eq!(row.value("senderAddress"), "aé@b");
    }

    #[test]
    fn statuses_are_the_same_words_with_a_small_first_letter() {
        let mut options = GraphOptions::default();
        let status = |options: &GraphOptions, all_statuses, theirs: &str| {
            let form = Form {
                options,
                all_statuses,
            };
            form.status(theirs)
        };
        for (theirs, own) in [
            ("Delivered", "delivered"),
            ("GettingStatus", "gettingStatus"),
            ("FilteredAsSpam", "filteredAsSpam"),
            ("Recalled", "unknownFutureValue"),
            ("", "unknownFutureValue"),
        ] {
            assert_eq!(status(&options, false, theirs), own);
        }
        assert_eq!(status(&options, true, "Recalled"), "recalled");
        options.capital_statuses = true;
        assert_eq!(status(&options, false, "FilteredAsSpam"), "FilteredAsSpam");
    }
}
