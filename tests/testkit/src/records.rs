//! What identifies a record, multisets of records, and the comparison of what was served with what was read.
//!
//! A record's identity is all of its fields as they stand but `StartDate`, `EndDate`, `Index`, `__metadata` and those that
//! the collector adds (`@devo_…`). Dates (`Received`, `Date`, `ClickTime`) count without a trailing `Z` or trailing zeros,
//! since the verbose shape has to be printed anew. Everything else counts byte for byte, white space between tokens aside.

mod message;
mod value;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::{DefaultHasher, Hasher};

use crate::json;
use crate::report::Report;

/// What makes two rows the same record: a 128-bit hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity(pub u128);

impl Identity {
    /// The identity of a row, given as the service sends it or as a line carries it.
    ///
    /// # Errors
    ///
    /// Says what is wrong where `text` is not one JSON object.
    pub fn of(text: &str) -> Result<Identity, String> {
        Ok(Identity::of_fields(&json::fields(text)?))
    }

    /// The identity of a row whose fields are known already.
    pub(crate) fn of_fields(fields: &[(&str, &str)]) -> Identity {
        let mut kept: Vec<(&str, &str)> = fields
            .iter()
            .copied()
            .filter(|(key, _)| counts(key))
            .collect();
        // Stable, so that repeated keys keep their order.
        kept.sort_by_key(|(key, _)| *key);
        let (mut low, mut high) = (DefaultHasher::new(), DefaultHasher::new());
        high.write_u8(1);
        for (key, value) in kept {
            let value = if is_date(key) {
                plain_date(value)
            } else {
                spaceless(value)
            };
            for hasher in [&mut low, &mut high] {
                hasher.write(key.as_bytes());
                hasher.write_u8(0xff);
                hasher.write(value.as_bytes());
                hasher.write_u8(0xfe);
            }
        }
        Identity(u128::from(high.finish()) << 64 | u128::from(low.finish()))
    }
}

/// Whether a field (its key with quotes) belongs to a record's identity.
fn counts(key: &str) -> bool {
    !matches!(
        key,
        "\"StartDate\"" | "\"EndDate\"" | "\"Index\"" | "\"__metadata\""
    ) && !key.starts_with("\"@devo_")
}

fn is_date(key: &str) -> bool {
    matches!(key, "\"Received\"" | "\"Date\"" | "\"ClickTime\"")
}

fn plain_date(value: &str) -> std::borrow::Cow<'_, str> {
    let plain = value.trim_matches('"').trim_end_matches('Z');
    if plain.contains('.') {
        plain.trim_end_matches('0').trim_end_matches('.').into()
    } else {
        plain.into()
    }
}

fn spaceless(value: &str) -> std::borrow::Cow<'_, str> {
    if value.starts_with(['{', '[']) {
        json::compact(value).into()
    } else {
        value.into()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// How often a record was met, and its text where texts are kept.
#[derive(Clone, Debug, Default)]
pub struct Count {
    /// How often.
    pub times: u64,
    /// The row or the line of the first time.
    pub example: Option<String>,
}

/// A multiset of records, report by report.
#[derive(Clone, Debug, Default)]
pub struct Records {
    reports: BTreeMap<Report, HashMap<Identity, Count>>,
}

impl Records {
    /// Adds one record.
    pub fn add(&mut self, report: Report, identity: Identity, example: Option<&str>) {
        let count = self
            .reports
            .entry(report)
            .or_default()
            .entry(identity)
            .or_default();
        count.times += 1;
        if count.example.is_none() {
            count.example = example.map(str::to_owned);
        }
    }

    /// Adds all records of another multiset.
    pub fn extend(&mut self, other: &Records) {
        for (report, identity, count) in other.iter() {
            let own = self.reports.entry(report).or_default();
            let own = own.entry(identity).or_default();
            own.times += count.times;
            if own.example.is_none() {
                own.example.clone_from(&count.example);
            }
        }
    }

    /// How many records there are, repeated ones included.
    pub fn total(&self) -> u64 {
        Report::ALL
            .into_iter()
            .map(|report| self.total_of(report))
            .sum()
    }

    /// How many records of a report there are, repeated ones included.
    pub fn total_of(&self, report: Report) -> u64 {
        self.reports
            .get(&report)
            .map_or(0, |records| records.values().map(|count| count.times).sum())
    }

    /// How often a record is there.
    pub fn times(&self, report: Report, identity: Identity) -> u64 {
        self.reports
            .get(&report)
            .and_then(|records| records.get(&identity))
            .map_or(0, |count| count.times)
    }

    /// Every record with its count, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (Report, Identity, &Count)> {
        self.reports.iter().flat_map(|(report, records)| {
            records
                .iter()
                .map(|(identity, count)| (*report, *identity, count))
        })
    }

    /// Only what belongs to one report.
    #[must_use]
    pub fn only(&self, report: Report) -> Records {
        Records {
            reports: self
                .reports
                .get(&report)
                .map(|of| (report, of.clone()))
                .into_iter()
                .collect(),
        }
    }
}

/// What the comparison of two multisets shows.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Records served.
    pub served: u64,
    /// Records read, repeated and unknown ones included.
    pub delivered: u64,
    /// Records served and not read.
    pub missing: u64,
    /// Records read more often than served; each repetition counts.
    pub twice: u64,
    /// Records read that were never served.
    pub unknown: u64,
    /// A few of each kind, for a person.
    pub examples: Vec<String>,
}

/// The most examples that a verdict carries.
const EXAMPLES_MAX: usize = 12;

impl Verdict {
    /// Nothing missing, nothing twice, nothing unknown.
    pub fn is_exact(&self) -> bool {
        self.is_complete() && self.twice == 0
    }

    /// Nothing missing and nothing unknown; repetitions may be.
    pub fn is_complete(&self) -> bool {
        self.missing == 0 && self.unknown == 0
    }

    fn note(
        &mut self,
        what: &str,
        times: u64,
        report: Report,
        identity: Identity,
        example: Option<&str>,
    ) {
        if self.examples.len() < EXAMPLES_MAX {
            let text = example.map_or_else(
                || format!("{identity:?}"),
                |text| text.chars().take(400).collect(),
            );
            self.examples
                .push(format!("{what} ({times}) in {report}: {text}"));
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "served {}, delivered {}, missing {}, twice {}, unknown {}",
            self.served, self.delivered, self.missing, self.twice, self.unknown
        )?;
        self.examples
            .iter()
            .try_for_each(|example| write!(f, "\n  {example}"))
    }
}

/// Compares what was served with what a relay has read.
pub fn compare(served: &Records, read: &Records) -> Verdict {
    let mut verdict = Verdict {
        served: served.total(),
        delivered: read.total(),
        ..Verdict::default()
    };
    for (report, identity, count) in served.iter() {
        let times = read.times(report, identity);
        if times < count.times {
            verdict.missing += count.times - times;
            verdict.note(
                "missing",
                count.times - times,
                report,
                identity,
                count.example.as_deref(),
            );
        } else if times > count.times {
            verdict.twice += times - count.times;
            verdict.note(
                "twice",
                times - count.times,
                report,
                identity,
                count.example.as_deref(),
            );
        }
    }
    for (report, identity, count) in read
        .iter()
        .filter(|(report, identity, _)| served.times(*report, *identity) == 0)
    {
        verdict.unknown += count.times;
        verdict.note(
            "unknown",
            count.times,
            report,
            identity,
            count.example.as_deref(),
        );
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(rows: &[&str]) -> Records {
        let mut records = Records::default();
        for row in rows {
            records.add(Report::MessageTrace, Identity::of(row).unwrap(), Some(row));
        }
        records
    }

    #[test]
    fn a_record_is_the_same_whatever_query_returned_it_and_whatever_the_collector_added() {
        let served = r#"{"A":"x","StartDate":"2024","EndDate":"2025","Index":7,"B":{"c": 1}}"#;
        let read =
            r#"{"A":"x","B":{"c":1},"Index":0,"@devo_environment":"e","@devo_pulling_id":"1"}"#;
        assert_eq!(Identity::of(served).unwrap(), Identity::of(read).unwrap());
    }

    #[test]
    fn a_date_counts_without_its_trailing_zeros() {
        let full = Identity::of(r#"{"Received":"2022-11-29T05:35:08.2600000"}"#).unwrap();
        assert_eq!(
            full,
            Identity::of(r#"{"Received":"2022-11-29T05:35:08.26Z"}"#).unwrap()
        );
        assert_ne!(
            full,
            Identity::of(r#"{"Received":"2022-11-29T05:35:08.261"}"#).unwrap()
        );
    }

    #[test]
    fn any_other_difference_makes_another_record() {
        let one = Identity::of(r#"{"A":"é","B":1}"#).unwrap();
        for other in [
            r#"{"A":"\u00e9","B":1}"#,
            r#"{"A":"é","B":1.0}"#,
            r#"{"A":"é"}"#,
            r#"{"A":"é","B":"1"}"#,
        ] {
            assert_ne!(one, Identity::of(other).unwrap(), "{other}");
        }
    }

    #[test]
    fn the_verdict_counts_missing_twice_and_unknown() {
        let served = records(&[r#"{"a":1}"#, r#"{"a":2}"#, r#"{"a":3}"#, r#"{"a":3}"#]);
        let verdict = compare(
            &served,
            &records(&[r#"{"a":1}"#, r#"{"a":1}"#, r#"{"a":3}"#, r#"{"a":9}"#]),
        );
        assert_eq!((verdict.served, verdict.delivered), (4, 4));
        assert_eq!((verdict.missing, verdict.twice, verdict.unknown), (2, 1, 1));
        assert!(!verdict.is_complete());
        assert!(compare(&served, &served).is_exact());
    }
}
