//! What the audit says of each service, for people and for machines.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use super::is_ahead;
use super::verify::Verified;
use crate::ledger::{Gap, HourOutcome, Summary, Within};
use crate::window::Window;

/// What the audit says.
#[derive(Debug)]
pub struct Told {
    /// Of each service that was asked about.
    pub services: Vec<Audited>,
}

/// What it says of one service.
#[derive(Debug)]
pub struct Audited {
    /// The input's name.
    pub input: String,
    /// The service's name.
    pub service: &'static str,
    /// The whole hours or days; `None` if nothing has settled, and no time was named.
    pub range: Option<Window>,
    /// The cursor.
    pub cursor: Option<DateTime<Utc>>,
    /// The result for the range.
    pub summary: Summary,
    /// So many places of the audit's file hold nothing that can be believed.
    pub damaged: u64,
    /// What Microsoft shows now.
    pub verified: Option<Verified>,
}

impl Told {
    /// Whether nothing is missing of any service, and nothing differs.
    pub fn is_complete(&self) -> bool {
        self.services.iter().all(Audited::is_fine)
    }

    /// `{"services": [{"input", "service", "from", "to", "complete", "records", "unconfirmed", "gaps": [{"from", "to", "reason", "until"}],
    /// "late": {DELAY: {"records", "of"}}}]}`; with `--verify` also `"verified": {"hours", "differ": [{"from", "to", "then", "now"}], "not_verified": [text]}`.
    pub fn json(&self) -> Value {
        let services: Vec<_> = self.services.iter().map(Audited::json).collect();
        json!({"services": services})
    }
}

impl Audited {
    /// Whether nothing of the range is missing. Where nothing has settled, nothing is complete.
    pub fn is_complete(&self) -> bool {
        self.range.is_some() && self.summary.is_complete()
    }

    fn is_fine(&self) -> bool {
        self.is_complete() && self.verified.as_ref().is_none_or(Verified::is_same)
    }

    fn json(&self) -> Value {
        let gap = |gap: &Gap| {
            json!({
                "from": instant(gap.window.start),
                "to": instant(gap.window.end),
                "reason": gap.reason.name(),
                "until": gap.until.map(instant),
            })
        };
        let late = self.summary.lateness.within.iter().map(|within: &Within| {
            let found = json!({"records": within.records, "of": within.of});
            (within.delay.to_string(), found)
        });
        let mut told = json!({
            "input": self.input,
            "service": self.service,
            "from": self.range.map(|range| instant(range.start)),
            "to": self.range.map(|range| instant(range.end)),
            "complete": self.is_complete(),
            "records": self.summary.records,
            "unconfirmed": self.summary.unconfirmed,
            "gaps": self.summary.gaps.iter().map(gap).collect::<Vec<_>>(),
            "late": Value::Object(late.collect()),
        });
        if let Some(verified) = &self.verified {
            let differs = verified.differ.iter().map(|differs| {
                json!({
                    "from": instant(differs.window.start),
                    "to": instant(differs.window.end),
                    "then": differs.then,
                    "now": differs.now,
                })
            });
            told["verified"] = json!({
                "hours": verified.hours,
                "differ": differs.collect::<Vec<_>>(),
                "not_verified": verified.missing,
            });
        }
        told
    }
}

/// A line for each service, and below it one for each gap.
impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.services.iter().try_for_each(|one| one.fmt(f))
    }
}

impl fmt::Display for Audited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: ", self.input, self.service)?;
        let Some(range) = self.range else {
            return writeln!(f, "nothing has settled yet");
        };
        let verdict = if self.is_complete() {
            "complete"
        } else {
            "not complete"
        };
        writeln!(f, "{verdict}, {range}, {} records", self.summary.records)?;
        if !self.summary.lateness.is_empty() {
            writeln!(f, "  late: {}", self.summary.lateness)?;
        }
        if self.summary.unconfirmed > 0 {
            writeln!(
                f,
                "  unconfirmed: {} hours without records, for which Microsoft Graph could not be asked whether there are some; not missing unless \
                 it is 24 hours in a row",
                self.summary.unconfirmed
            )?;
        }
        for gap in &self.summary.gaps {
            let until = match gap.until {
                _ if is_ahead(gap, self.cursor) => "it is collected when it is due".to_owned(),
                Some(until) => format!("Microsoft has it until {}", instant(until)),
                None => "it cannot be had any more".to_owned(),
            };
            writeln!(
                f,
                "  gap: {}: {}; {until}",
                gap.window,
                reason(gap, self.cursor)
            )?;
        }
        if self.damaged > 0 {
            writeln!(
                f,
                "  the audit's file is damaged in {} places; the hours that it has lost are told as unknown",
                self.damaged
            )?;
        }
        match &self.verified {
            Some(verified) => verified.fmt(f),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for differs in &self.differ {
            let what = if differs.then == differs.now {
                "as many rows now as then, and they are not the same".to_owned()
            } else {
                format!("{} rows then, {} now", differs.then, differs.now)
            };
            writeln!(f, "  differs: {}: {what}", differs.window)?;
        }
        for missing in &self.missing {
            writeln!(f, "  not verified: {missing}")?;
        }
        writeln!(
            f,
            "  verified: {} hours or days, of which {} differ",
            self.hours,
            self.differ.len()
        )
    }
}

fn reason(gap: &Gap, cursor: Option<DateTime<Utc>>) -> &'static str {
    match gap.reason {
        HourOutcome::NeverCollected if is_ahead(gap, cursor) => "not collected yet",
        HourOutcome::NeverCollected => "never collected",
        HourOutcome::Unknown => {
            "unknown (the audit has nothing of it, or the service may have deleted what was there)"
        }
        HourOutcome::Unreachable => {
            "unreachable (older than Microsoft keeps when it was asked for)"
        }
        HourOutcome::Withheld => {
            "withheld (the service returned bytes that cannot be read as rows)"
        }
        HourOutcome::Capped => "capped (the service cut the result off)",
        HourOutcome::Unsettled => {
            "unsettled (the result kept changing; every row that was seen is delivered)"
        }
        HourOutcome::Unconfirmed => {
            "unconfirmed (no records for 24 hours or more, and Microsoft Graph could not be asked)"
        }
        HourOutcome::Complete | HourOutcome::Empty => "nothing is missing",
    }
}

/// An instant in whole seconds, in UTC.
pub(super) fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}
