//! What a message says, in the words that Devo's people know from the original (reference: `devo.collectors.out.local.<level>`).

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use tracing::Level;

use super::told::Statement;
use crate::log::{Place, Said, levelname};

/// A longer text is cut: what says so much is in the log.
const TEXT_MAX: usize = 4 << 10;

/// Who says it.
#[derive(Clone, Debug)]
pub(super) struct Collector {
    /// The collector's name in the configuration.
    pub(super) name: String,
    /// This program's version.
    pub(super) version: &'static str,
    /// The container's image, if it is known.
    pub(super) image: Option<String>,
}

/// One message, ready to be put into any output's envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) time: DateTime<Utc>,
    pub(super) level: Level,
    /// The Devo table.
    pub(super) tag: &'static str,
    /// A JSON object on one line.
    pub(super) content: String,
    /// What it tells to be missing, if that is what it tells.
    pub(super) missing: Missing,
    /// What it states, if it does: it is told again where it is not delivered.
    pub(super) statement: Option<Statement>,
}

/// What is logged when an hour has settled, when it is more than an hour that is stated together, and when a day is over.
pub(crate) const HOUR_SETTLED: &str = "hour settled";
pub(crate) const HOURS_SETTLED: &str = "hours settled";
pub(crate) const DAY_SETTLED: &str = "day settled";

#[derive(Serialize)]
struct Content<'a> {
    msg: &'a str,
    time: String,
    level: &'static str,
    collector_name: &'a str,
    collector_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    collector_image: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_name: Option<&'a str>,
    module_name: &'a str,
    /// What is stated: `from`, `to`, `records`, `outcome`.
    #[serde(skip_serializing_if = "Option::is_none")]
    audit: Option<serde_json::Map<String, serde_json::Value>>,
}

impl Collector {
    /// What is logged, as a message.
    pub(super) fn message(&self, said: &Said) -> Message {
        let text = said.text();
        let stated = [HOUR_SETTLED, HOURS_SETTLED, DAY_SETTLED].contains(&said.message.as_str());
        let facts = said.facts.iter();
        let audit = stated.then(|| {
            let facts = facts.map(|(name, value)| ((*name).to_owned(), value.clone()));
            facts.collect()
        });
        let content = Content {
            msg: cut(&text),
            time: said.time.to_rfc3339_opts(SecondsFormat::Millis, true),
            level: levelname(said.level),
            collector_name: &self.name,
            collector_version: self.version,
            collector_image: self.image.as_deref(),
            input_name: said.place.input.as_deref(),
            service_name: said.place.service.as_deref(),
            output_name: said.place.output.as_deref(),
            module_name: &said.module,
            audit,
        };
        Message {
            time: said.time,
            level: said.level,
            tag: tag(said.level),
            // Texts only: there is nothing in it that has no JSON.
            content: serde_json::to_string(&content).unwrap_or_default(),
            missing: Missing::default(),
            statement: statement(said),
        }
    }

    /// That so many messages are missing from what this output gets, or may be.
    pub(super) fn missing(&self, output: &str, missing: Missing) -> Message {
        let message = self.message(&Said {
            time: Utc::now(),
            level: Level::WARN,
            module: "messages".to_owned(),
            place: Place {
                output: Some(output.to_owned()),
                ..Place::default()
            },
            message: "messages may be missing here: those that are dropped since too many waited, and those unconfirmed, which were sent \
                      twice without a receipt; the collector's log on standard error has them"
                .to_owned(),
            facts: vec![
                ("dropped", missing.dropped.into()),
                ("unconfirmed", missing.unconfirmed.into()),
            ],
        });
        Message { missing, ..message }
    }
}

/// What is stated. That of a day is made up of what its hours have stated.
fn statement(said: &Said) -> Option<Statement> {
    if ![HOUR_SETTLED, HOURS_SETTLED].contains(&said.message.as_str()) {
        return None;
    }
    let instant = |name: &str| {
        let (_, value) = { said.facts.iter() }.find(|(fact, _)| *fact == name)?;
        value.as_str()?.parse().ok()
    };
    Some(Statement {
        of: (said.place.input.clone()?, said.place.service.clone()?),
        from: instant("from")?,
        to: instant("to")?,
    })
}

fn tag(level: Level) -> &'static str {
    match level {
        Level::ERROR => "devo.collectors.out.local.error",
        Level::WARN => "devo.collectors.out.local.warning",
        Level::INFO => "devo.collectors.out.local.info",
        Level::DEBUG | Level::TRACE => "devo.collectors.out.local.debug",
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_MAX)]
}

/// How many messages an output has not been seen to get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Missing {
    /// Those that there was no room for.
    pub(super) dropped: u64,
    /// Those that were written and let go without a receipt: the output may have them or not.
    pub(super) unconfirmed: u64,
}

impl Missing {
    /// All of them together.
    pub(super) fn total(self) -> u64 {
        self.dropped + self.unconfirmed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(message: &str) -> Said {
        Said {
            time: "2026-11-22T14:40:52.2904Z".parse().unwrap(),
            level: Level::WARN,
            module: "service".to_owned(),
            place: Place {
                input: Some("tenant".to_owned()),
                service: Some("trace_service".to_owned()),
                output: None,
            },
            message: message.to_owned(),
            facts: vec![("attempts", 3.into()), ("error", "no way".into())],
        }
    }

    fn collector(image: Option<&str>) -> Collector {
        Collector {
            name: "collector-1".to_owned(),
            version: "1.2.3",
            image: image.map(str::to_owned),
        }
    }

    #[test]
    fn a_message_has_the_originals_keys_and_the_tag_of_its_level() {
        let message = collector(Some("registry/image:1")).message(&said("fetching failed"));
        assert_eq!(message.tag, "devo.collectors.out.local.warning");
        insta::assert_snapshot!(message.content, @r#"{"msg":"fetching failed attempts=3 error=\"no way\"","time":"2026-11-22T14:40:52.290Z","level":"WARNING","collector_name":"collector-1","collector_version":"1.2.3","collector_image":"registry/image:1","input_name":"tenant","service_name":"trace_service","module_name":"service"}"#);
        let message = collector(None).message(&said("fetching failed"));
        assert!(!message.content.contains("image"));
    }

    #[test]
    fn a_statement_has_its_facts_as_members() {
        let (from, to) = ("2026-11-21T14:00:00Z", "2026-11-21T15:00:00Z");
        let mut said = said(HOUR_SETTLED);
        said.facts = vec![
            ("from", from.into()),
            ("to", to.into()),
            ("records", 3.into()),
            ("outcome", "capped".into()),
        ];
        let message = collector(None).message(&said);
        let content: serde_json::Value = serde_json::from_str(&message.content).unwrap();
        let expected =
            serde_json::json!({"from": from, "to": to, "records": 3, "outcome": "capped"});
        assert_eq!(content["audit"], expected);
        let expected = Statement {
            of: ("tenant".to_owned(), "trace_service".to_owned()),
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
        };
        assert_eq!(message.statement, Some(expected));
    }

    #[test]
    fn a_message_is_one_line_of_bounded_length() {
        let message = collector(None).message(&said(&"é\n".repeat(TEXT_MAX)));
        assert!(!message.content.contains('\n') && message.content.len() < 2 * TEXT_MAX);
        let content: serde_json::Value = serde_json::from_str(&message.content).unwrap();
        assert!(content["msg"].as_str().unwrap().len() > TEXT_MAX - 3);
    }
}
