//! Which messages one service shows and the other does not, and which they show in different words: pure.
//!
//! A message is one message for one recipient in one status ([`Fingerprint::identity`]). Where a service shows it several times, each counts.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value};

use super::findings::{Different, Field, Findings, Hour, Listed, Message, hour};
use crate::record::{Fingerprint, Mask, instant};
use crate::report::Report;

/// Members that only the reporting service has.
const ONLY_HERE: [&str; 4] = ["Organization", "StartDate", "EndDate", "Index"];
/// Members that are null in one service where they are an empty text in the other.
const BLANK: [&str; 2] = ["ToIP", "FromIP"];
const RECEIVED: &str = "Received";
const STATUS: &str = "Status";
/// Times that are closer are one: Graph knows milliseconds, the reporting service more.
const ONE_TIME: TimeDelta = TimeDelta::milliseconds(1);

/// A row of one of the services.
struct Row {
    received: Option<DateTime<Utc>>,
    text: Box<[u8]>,
}

/// Some hours of both services.
pub(super) struct Step {
    start: DateTime<Utc>,
    end: DateTime<Utc>,
    /// What the reporting service shows and Graph has not shown yet.
    here: HashMap<Fingerprint, Vec<Row>>,
    rows: usize,
    /// Rows of Graph that differ from all of their message that are in `here`.
    aside: Vec<(Fingerprint, Row)>,
    /// Rows of Graph whose message the reporting service does not show.
    only_there: Vec<Row>,
    /// When the messages were received that both show alike.
    alike: HashMap<DateTime<Utc>, u64>,
    doubts: Vec<String>,
}

impl Step {
    /// No hour yet, from `start` on.
    pub(super) fn new(start: DateTime<Utc>) -> Self {
        Step {
            start,
            end: start,
            here: HashMap::new(),
            rows: 0,
            aside: vec![],
            only_there: vec![],
            alike: HashMap::new(),
            doubts: vec![],
        }
    }

    /// The first instant behind it.
    pub(super) fn end(&self) -> DateTime<Utc> {
        self.end
    }

    /// Takes in what lies before `end`.
    pub(super) fn extend(&mut self, end: DateTime<Utc>) {
        self.end = end;
    }

    /// How many rows of the reporting service it has.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Something that keeps the comparison from being complete.
    pub(super) fn doubt(&mut self, doubt: String) {
        self.doubts.push(doubt);
    }

    /// All of these.
    pub(super) fn doubts(&self) -> impl Iterator<Item = &str> {
        self.doubts.iter().map(String::as_str)
    }

    /// A row of the reporting service, if it is of this part of what is read: the row at a common end of two parts comes with both.
    pub(super) fn add_here(
        &mut self,
        text: &[u8],
        fingerprint: Fingerprint,
        part: Range<DateTime<Utc>>,
    ) {
        let received = received(text);
        if received.is_some_and(|received| !part.contains(&received)) {
            return;
        }
        self.rows += 1;
        let rows = self.here.entry(fingerprint.identity()).or_default();
        rows.push(Row {
            received,
            text: text.into(),
        });
    }

    /// A row of Graph, after all of the reporting service.
    pub(super) fn add_there(&mut self, text: &[u8], fingerprint: Fingerprint) {
        let identity = fingerprint.identity();
        let rows = self.here.get_mut(&identity).filter(|rows| !rows.is_empty());
        let Some(rows) = rows else {
            let row = Row {
                received: received(text),
                text: text.into(),
            };
            if self.has(&row) {
                self.only_there.push(row);
            }
            return;
        };
        let same = { rows.iter() }.position(|row| differences(&row.text, text).is_empty());
        match same {
            Some(place) => {
                let row = rows.swap_remove(place);
                if self.has(&row) {
                    *self.alike.entry(self.hour_of(&row)).or_default() += 1;
                }
            }
            None => self.aside.push((
                identity,
                Row {
                    received: received(text),
                    text: text.into(),
                },
            )),
        }
    }

    /// Whether a message belongs here, and not to what is read beyond the ends.
    fn has(&self, row: &Row) -> bool {
        let received = row.received;
        received.is_none_or(|received| (self.start..self.end).contains(&received))
    }

    fn hour_of(&self, row: &Row) -> DateTime<Utc> {
        hour(row.received.unwrap_or(self.start))
    }
}

/// What has been found so far.
pub(super) struct Comparison {
    report: &'static Report,
    mask: Mask,
    hours: BTreeMap<DateTime<Utc>, Hour>,
    only_here: Listed<Message>,
    only_there: Listed<Message>,
    different: Listed<Different>,
    fields: BTreeMap<String, u64>,
}

impl Comparison {
    /// Nothing yet; what `mask` names is not shown.
    pub(super) fn new(report: &'static Report, mask: Mask) -> Self {
        Comparison {
            report,
            mask,
            hours: BTreeMap::new(),
            only_here: Listed::default(),
            only_there: Listed::default(),
            different: Listed::default(),
            fields: BTreeMap::new(),
        }
    }

    /// Adds the result of a step to the comparison. All rows of the step have to be in it by then.
    pub(super) fn take(&mut self, mut step: Step) {
        let mut at = hour(step.start);
        while at < step.end {
            self.hours.entry(at).or_default();
            at += TimeDelta::hours(1);
        }
        for (at, count) in &step.alike {
            let hour = self.hours.entry(*at).or_default();
            hour.here += count;
            hour.there += count;
        }
        for (identity, there) in std::mem::take(&mut step.aside) {
            let here = step.here.get_mut(&identity).and_then(Vec::pop);
            match here {
                Some(here) if step.has(&here) => self.differ(step.hour_of(&here), &here, &there),
                None if step.has(&there) => step.only_there.push(there),
                // It belongs to a neighbouring step.
                _ => {}
            }
        }
        for here in step.here.values().flatten().filter(|row| step.has(row)) {
            let hour = self.hours.entry(step.hour_of(here)).or_default();
            hour.here += 1;
            hour.only_here += 1;
            let message = self.message(here);
            self.only_here.push(message);
        }
        for there in &step.only_there {
            let hour = self.hours.entry(step.hour_of(there)).or_default();
            hour.there += 1;
            hour.only_there += 1;
            let message = self.message(there);
            self.only_there.push(message);
        }
    }

    fn differ(&mut self, hour: DateTime<Utc>, here: &Row, there: &Row) {
        let names = differences(&here.text, &there.text);
        let hour = self.hours.entry(hour).or_default();
        hour.here += 1;
        hour.there += 1;
        hour.different += 1;
        let shown = [here, there].map(|row| self.shown(row));
        let fields = names.into_iter().map(|name| {
            *self.fields.entry(name.clone()).or_default() += 1;
            let [here, there] = [0, 1].map(|side: usize| shown[side].get(&name).cloned());
            Field { name, here, there }
        });
        let fields = fields.collect();
        let message = self.message(here);
        self.different.push(Different { message, fields });
    }

    /// A row as it may be shown.
    fn shown(&self, row: &Row) -> Map<String, Value> {
        let mut masked = vec![];
        self.mask.append(&row.text, &mut masked);
        members(&masked)
    }

    fn message(&self, row: &Row) -> Message {
        let row = self.shown(row);
        let text = |name: &str| match row.get(name) {
            Some(Value::String(text)) => text.clone(),
            other => other.map(Value::to_string).unwrap_or_default(),
        };
        let identity = self.report.identity;
        Message {
            identity: identity.iter().map(|name| (*name, text(name))).collect(),
            received: text(RECEIVED),
        }
    }

    /// What both services tell of the range for an input. `missing` is what could not be compared, `notes` what else there is to know.
    pub(super) fn findings(
        self,
        input: String,
        (from, to): (DateTime<Utc>, DateTime<Utc>),
        missing: Vec<String>,
        notes: Vec<String>,
    ) -> Findings {
        Findings {
            input,
            from,
            to,
            hours: self.hours,
            only_here: self.only_here,
            only_there: self.only_there,
            different: self.different,
            fields: self.fields,
            missing,
            notes,
        }
    }
}

fn members(row: &[u8]) -> Map<String, Value> {
    serde_json::from_slice(row).unwrap_or_default()
}

fn received(row: &[u8]) -> Option<DateTime<Utc>> {
    instant(members(row).get(RECEIVED)?.as_str()?)
}

/// The names of the members in which two rows of a message differ; what cannot be read as JSON differs as a whole.
fn differences(here: &[u8], there: &[u8]) -> Vec<String> {
    let read = |row| serde_json::from_slice::<Map<String, Value>>(row);
    let (Ok(here), Ok(there)) = (read(here), read(there)) else {
        return if here == there {
            vec![]
        } else {
            vec!["(the row)".to_owned()]
        };
    };
    let only_there = there.keys().filter(|name| !here.contains_key(*name));
    let names = here.keys().chain(only_there);
    names
        .filter(|name| !ONLY_HERE.contains(&name.as_str()))
        .filter(|name| !is_same(name, here.get(*name), there.get(*name)))
        .cloned()
        .collect()
}

fn is_same(name: &str, here: Option<&Value>, there: Option<&Value>) -> bool {
    if here == there {
        return true;
    }
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    match name {
        RECEIVED => {
            let time = |value| text(value).and_then(|text| instant(&text));
            let times = time(here).zip(time(there));
            // As Microsoft's documentation prints Graph's times: cut to the second.
            let is_whole = text(there).is_some_and(|text| !text.contains('.'));
            let one_time = if is_whole {
                TimeDelta::seconds(1)
            } else {
                ONE_TIME
            };
            times.is_some_and(|(here, there)| (here - there).abs() < one_time)
        }
        STATUS => {
            let word = |value| {
                let word = text(value)?.to_ascii_lowercase();
                // The reporting service's word for what has no status yet.
                Some(if word == "none" {
                    "gettingstatus".to_owned()
                } else {
                    word
                })
            };
            let words = word(here).zip(word(there));
            words.is_some_and(|(here, there)| here == there)
        }
        _ if BLANK.contains(&name) => {
            let is_blank = |value: Option<&Value>| {
                value.is_none_or(|value| value.is_null() || value.as_str() == Some(""))
            };
            is_blank(here) && is_blank(there)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Fingerprinter;
    use crate::report::REPORTS;

    fn report() -> &'static Report {
        { REPORTS.iter() }
            .find(|report| report.has_two_services())
            .unwrap()
    }

    fn at(text: &str) -> DateTime<Utc> {
        format!("2026-11-20T{text}Z").parse().unwrap()
    }

    fn row(id: &str, time: &str, more: &str) -> String {
        format!(
            r#"{{"MessageTraceId":"{id}","RecipientAddress":"a@x","Status":"Delivered","Received":"2026-11-20T{time}"{more}}}"#
        )
    }

    /// One step from 10:00 to 12:00 with these rows: hours as `here/there`, then how many are only here, only there, different.
    fn check(here: &[String], there: &[String], expected: &str) {
        let fingerprinter = Fingerprinter::of(&[7; 16], report());
        let mut step = Step::new(at("10:00:00"));
        step.extend(at("12:00:00"));
        for row in here {
            let fingerprint = fingerprinter.fingerprint(row.as_bytes());
            step.add_here(row.as_bytes(), fingerprint, at("09:59:59")..at("12:00:01"));
        }
        for row in there {
            step.add_there(row.as_bytes(), fingerprinter.fingerprint(row.as_bytes()));
        }
        let mut comparison = Comparison::new(report(), Mask::default());
        comparison.take(step);
        let hours: Vec<_> = { comparison.hours.values() }
            .map(|hour| format!("{}/{}", hour.here, hour.there))
            .collect();
        let told = format!(
            "{} {} {} {}",
            hours.join(" "),
            comparison.only_here.count,
            comparison.only_there.count,
            comparison.different.count
        );
        assert_eq!(told, expected, "{here:?} {there:?}");
    }

    #[test]
    fn a_message_is_known_by_its_identity_and_compared_field_by_field() {
        let one = |time| vec![row("1", time, "")];
        check(
            &one("10:30:00.1234567"),
            &one("10:30:00.123"),
            "1/1 0/0 0 0 0",
        );
        check(
            &one("10:30:00.1239999"),
            &one("10:30:00.124"),
            "1/1 0/0 0 0 0",
        );
        check(&one("10:30:00.123"), &one("10:30:00.125"), "1/1 0/0 0 0 1");
        check(&one("10:30:00"), &[], "1/0 0/0 1 0 0");
        check(&[], &one("10:30:00"), "0/1 0/0 0 1 0");
        let with = |more: &str| vec![row("1", "10:30:00", more)];
        check(
            &with(r#","Size":1"#),
            &with(r#","Size":2"#),
            "1/1 0/0 0 0 1",
        );
        check(
            &with(r#","ToIP":"""#),
            &with(r#","ToIP":null"#),
            "1/1 0/0 0 0 0",
        );
        check(
            &with(r#","Organization":"o","Index":3"#),
            &with(""),
            "1/1 0/0 0 0 0",
        );
        let status = |status: &str| vec![row("1", "10:30:00", "").replace("Delivered", status)];
        check(&status("None"), &status("gettingStatus"), "1/1 0/0 0 0 0");
        check(&status("Failed"), &status("Pending"), "1/1 0/0 1 1 0");
        let case = vec![row("1", "10:30:00", "").replace("a@x", "A@x")];
        check(&with(""), &case, "1/1 0/0 0 0 1");
    }

    #[test]
    fn what_lies_at_an_edge_is_told_once_and_in_the_hour_of_the_reporting_service() {
        let one = |time| vec![row("1", time, "")];
        // Between the hours, before the first and behind the last one.
        check(&one("10:59:59.9999999"), &one("11:00:00"), "1/1 0/0 0 0 0");
        check(&one("09:59:59.9999999"), &one("10:00:00"), "0/0 0/0 0 0 0");
        check(&one("11:59:59.9999999"), &one("12:00:00"), "0/0 1/1 0 0 0");
        check(&one("12:00:00"), &one("11:59:59.999"), "0/0 0/0 0 0 0");
        check(&one("09:59:59.5"), &[], "0/0 0/0 0 0 0");
        check(&[], &one("12:00:00.5"), "0/0 0/0 0 0 0");
    }

    #[test]
    fn each_time_that_a_message_is_shown_counts() {
        let twice = |size: u32, other: u32| {
            vec![
                row("1", "10:30:00", &format!(r#","Size":{size}"#)),
                row("1", "10:30:00", &format!(r#","Size":{other}"#)),
            ]
        };
        check(&twice(1, 2), &twice(2, 1), "2/2 0/0 0 0 0");
        check(&twice(1, 2), &twice(1, 3), "2/2 0/0 0 0 1");
        check(&twice(1, 2), &twice(2, 1)[..1], "2/1 0/0 1 0 0");
        check(&twice(1, 2)[1..], &twice(1, 2), "1/2 0/0 0 1 0");
    }
}
