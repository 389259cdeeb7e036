//! What a comparison has found, for people and for machines.

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::foreign::printable;
use crate::window::floor;

/// So many messages of a kind are named; more are only counted.
const LISTED_MAX: usize = 1_000;

/// What both services tell of a range.
#[derive(Debug)]
pub struct Findings {
    /// The input's name.
    pub input: String,
    /// The first instant of the range.
    pub from: DateTime<Utc>,
    /// The first instant behind it.
    pub to: DateTime<Utc>,
    /// By the hour in which messages were received.
    pub hours: BTreeMap<DateTime<Utc>, Hour>,
    /// What only the reporting service shows.
    pub only_here: Listed<Message>,
    /// What only Microsoft Graph shows.
    pub only_there: Listed<Message>,
    /// What both show, in different words.
    pub different: Listed<Different>,
    /// The fields that differ, and in how many messages.
    pub fields: BTreeMap<String, u64>,
    /// What could not be compared, and why.
    pub missing: Vec<String>,
    /// What else there is to know.
    pub notes: Vec<String>,
}

/// How many messages there are in an hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hour {
    /// In the reporting service.
    pub here: u64,
    /// In Microsoft Graph.
    pub there: u64,
    /// In the reporting service alone.
    pub only_here: u64,
    /// In Microsoft Graph alone.
    pub only_there: u64,
    /// In both, in different words.
    pub different: u64,
}

/// Some of many, and how many there are.
#[derive(Debug)]
pub struct Listed<T> {
    /// How many there are.
    pub count: u64,
    /// The first of them.
    pub first: Vec<T>,
}

/// A message for one recipient in one status. What the configuration masks is masked here too.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    /// The fields that tell it from others, with their values.
    pub identity: Vec<(&'static str, String)>,
    /// When it was received, as the service writes it.
    pub received: String,
}

/// A message that the services show in different words.
#[derive(Debug)]
pub struct Different {
    /// The message, as the reporting service shows it.
    pub message: Message,
    /// The fields that differ.
    pub fields: Vec<Field>,
}

/// A field that differs.
#[derive(Debug)]
pub struct Field {
    /// Its name in the reporting service.
    pub name: String,
    /// Its value there; `None` where there is no such field.
    pub here: Option<Value>,
    /// Its value in Microsoft Graph.
    pub there: Option<Value>,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Listed {
            count: 0,
            first: vec![],
        }
    }
}

impl<T> Listed<T> {
    /// Counts one more.
    pub(super) fn push(&mut self, one: T) {
        self.count += 1;
        if self.first.len() < LISTED_MAX {
            self.first.push(one);
        }
    }

    fn json(&self, of: impl Fn(&T) -> Value) -> Value {
        let first: Vec<_> = self.first.iter().map(of).collect();
        json!({"count": self.count, "messages": first})
    }

    fn write(
        &self,
        f: &mut fmt::Formatter<'_>,
        what: &str,
        of: impl Fn(&T) -> String,
    ) -> fmt::Result {
        writeln!(f, "{what}: {}", self.count)?;
        for one in &self.first {
            writeln!(f, "  {}", printable(&of(one)))?;
        }
        let more = self.count - self.first.len() as u64;
        if more > 0 {
            writeln!(f, "  and {more} more")?;
        }
        Ok(())
    }
}

impl Message {
    fn json(&self) -> Value {
        let mut message: serde_json::Map<_, _> = { self.identity.iter() }
            .map(|(name, value)| ((*name).to_owned(), shown(value)))
            .collect();
        message.insert("Received".to_owned(), shown(&self.received));
        Value::Object(message)
    }

    fn text(&self) -> String {
        let values: Vec<_> = self
            .identity
            .iter()
            .map(|(_, value)| value.as_str())
            .collect();
        format!("{}, received {}", values.join(" "), self.received)
    }
}

fn shown(text: &str) -> Value {
    printable(text).into_owned().into()
}

impl Field {
    fn json(&self) -> Value {
        let shown = |value: &Option<Value>| match value {
            Some(Value::String(text)) => shown(text),
            other => json!(other),
        };
        json!({"reporting_service": shown(&self.here), "graph": shown(&self.there)})
    }

    fn text(&self) -> String {
        let value = |value: &Option<Value>| {
            value
                .as_ref()
                .map_or_else(|| "absent".to_owned(), Value::to_string)
        };
        format!(
            "{} {} and {}",
            self.name,
            value(&self.here),
            value(&self.there)
        )
    }
}

impl Findings {
    /// Whether all of the range could be compared, and both services tell the same.
    pub fn are_alike(&self) -> bool {
        let differ = self.only_here.count + self.only_there.count + self.different.count;
        differ == 0 && self.missing.is_empty()
    }

    /// `{"alike", "input", "from", "to", "hours": [{"hour", "reporting_service", "graph", "only_reporting_service", "only_graph", "different"}],
    /// "only_reporting_service" and "only_graph": {"count", "messages": [{FIELD: value}]}, "different": {"count", "messages": [{"message",
    /// "fields": {FIELD: {"reporting_service", "graph"}}}]}, "fields": {FIELD: messages}, "not_compared": [text], "notes": [text]}`. At most a
    /// thousand messages of a kind are listed.
    pub fn json(&self) -> Value {
        let hour = |(at, hour): (&DateTime<Utc>, &Hour)| {
            json!({
                "hour": instant(*at),
                "reporting_service": hour.here,
                "graph": hour.there,
                "only_reporting_service": hour.only_here,
                "only_graph": hour.only_there,
                "different": hour.different,
            })
        };
        let hours: Vec<_> = self.hours.iter().map(hour).collect();
        let different = self.different.json(|one| {
            let fields = one.fields.iter();
            let fields: serde_json::Map<_, _> = fields
                .map(|field| (field.name.clone(), field.json()))
                .collect();
            json!({"message": one.message.json(), "fields": fields})
        });
        json!({
            "alike": self.are_alike(),
            "input": self.input,
            "from": instant(self.from),
            "to": instant(self.to),
            "hours": hours,
            "only_reporting_service": self.only_here.json(Message::json),
            "only_graph": self.only_there.json(Message::json),
            "different": different,
            "fields": self.fields,
            "not_compared": self.missing,
            "notes": self.notes,
        })
    }
}

/// A table of the hours, what differs, and a line that sums up.
impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:20}  reporting service  Microsoft Graph", "hour")?;
        for (at, hour) in &self.hours {
            writeln!(f, "{}  {:>17}  {:>15}", instant(*at), hour.here, hour.there)?;
        }
        let sum = |of: fn(&Hour) -> u64| self.hours.values().map(of).sum::<u64>();
        let (here, there) = (sum(|hour| hour.here), sum(|hour| hour.there));
        writeln!(f, "{:20}  {here:>17}  {there:>15}", "all")?;
        self.only_here
            .write(f, "only in the reporting service", Message::text)?;
        self.only_there
            .write(f, "only in Microsoft Graph", Message::text)?;
        self.different.write(
            f,
            "different (reporting service and Microsoft Graph)",
            |one| {
                let fields: Vec<_> = one.fields.iter().map(Field::text).collect();
                format!("{}: {}", one.message.text(), fields.join(", "))
            },
        )?;
        if !self.fields.is_empty() {
            let fields = self.fields.iter();
            let fields: Vec<_> = fields
                .map(|(name, count)| format!("{name} {count}"))
                .collect();
            writeln!(f, "fields that differ: {}", printable(&fields.join(", ")))?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        for missing in &self.missing {
            writeln!(f, "not compared: {missing}")?;
        }
        let verdict = if self.are_alike() {
            "both services show the same"
        } else if self.missing.is_empty() {
            "the services do not show the same"
        } else {
            "not all of it could be compared"
        };
        writeln!(f, "{verdict}")
    }
}

/// The full hour in which an instant lies.
pub(super) fn hour(at: DateTime<Utc>) -> DateTime<Utc> {
    floor(at, TimeDelta::hours(1))
}

/// An instant in whole seconds, in UTC.
pub(super) fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}
