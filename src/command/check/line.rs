//! What was found, a line for each part, for people and for machines.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::foreign::printable;

/// Everything that was found.
#[derive(Debug)]
pub struct Inspection {
    /// A line for each part, in the order of the configuration.
    pub lines: Vec<Line>,
}

/// What was found of one part.
#[derive(Debug)]
pub struct Line {
    /// What was looked at, such as `output devo_1: relay`.
    pub part: String,
    /// What came of it.
    pub verdict: Verdict,
    /// How long it took, where that tells something.
    pub took: Option<Duration>,
}

/// What came of looking at one part; the text says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It will work.
    Fine(String),
    /// It will work, but an operator should look at it.
    Doubtful(String),
    /// It will not work. The text ends with what to do.
    Failed(String),
    /// Nobody knows: what has to come before it has failed.
    NotTried(String),
}

/// A certificate that ends within this time is to be renewed now.
const RENEW_WITHIN: TimeDelta = TimeDelta::days(30);

impl Verdict {
    /// On a certificate that can be used until `end`: `usable` says so, `renew` what to do when that is soon.
    pub(super) fn until(end: DateTime<Utc>, now: DateTime<Utc>, usable: &str, renew: &str) -> Self {
        let text = format!("{usable}; valid until {}", end.format("%Y-%m-%d"));
        if end - now < RENEW_WITHIN {
            Self::Doubtful(format!("{text}: {renew}"))
        } else {
            Self::Fine(text)
        }
    }

    /// What has failed, and what to do about it.
    pub(super) fn failed(what: impl fmt::Display, action: impl fmt::Display) -> Self {
        Self::Failed(format!("{what}: {action}"))
    }

    fn printable(self) -> Self {
        let printable = |text: String| printable(&text).into_owned();
        match self {
            Self::Fine(text) => Self::Fine(printable(text)),
            Self::Doubtful(text) => Self::Doubtful(printable(text)),
            Self::Failed(text) => Self::Failed(printable(text)),
            Self::NotTried(text) => Self::NotTried(printable(text)),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Fine(_) => "ok",
            Self::Doubtful(_) => "warning",
            Self::Failed(_) => "FAILED",
            Self::NotTried(_) => "not tried",
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Fine(text) | Self::Doubtful(text) | Self::Failed(text) | Self::NotTried(text) => {
                text
            }
        }
    }
}

impl Line {
    pub(super) fn new(part: impl Into<String>, verdict: Verdict) -> Self {
        Self {
            part: printable(&part.into()).into_owned(),
            verdict: verdict.printable(),
            took: None,
        }
    }

    /// The same, with the time that it took.
    pub(super) fn after(self, took: Duration) -> Self {
        Self {
            took: Some(took),
            ..self
        }
    }
}

impl Inspection {
    /// Whether nothing has failed.
    pub fn is_fine(&self) -> bool {
        self.count("FAILED") == 0
    }

    /// `{"ok", "checks": [{"part", "verdict": "ok" | "warning" | "failed" | "not tried", "text", "milliseconds"}]}`.
    pub fn json(&self) -> Value {
        let check = |line: &Line| {
            json!({
                "part": line.part,
                "verdict": line.verdict.name().to_ascii_lowercase(),
                "text": line.verdict.text(),
                "milliseconds": line.took.map(milliseconds),
            })
        };
        let checks: Vec<_> = self.lines.iter().map(check).collect();
        json!({"ok": self.is_fine(), "checks": checks})
    }

    fn count(&self, name: &str) -> usize {
        let named = |line: &&Line| line.verdict.name() == name;
        self.lines.iter().filter(named).count()
    }
}

/// A table: part, verdict and what there is to say, and a line that sums up.
impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.lines.iter().map(|line| line.part.chars().count());
        let width = parts.max().unwrap_or_default();
        for Line {
            part,
            verdict,
            took,
        } in &self.lines
        {
            write!(f, "{part:width$}  {}: {}", verdict.name(), verdict.text())?;
            match took {
                // What has failed ends with what to do.
                Some(took) if matches!(verdict, Verdict::Fine(_) | Verdict::Doubtful(_)) => {
                    writeln!(f, " ({} ms)", milliseconds(*took))?;
                }
                _ => writeln!(f)?,
            }
        }
        let [failed, not_tried, warnings] =
            ["FAILED", "not tried", "warning"].map(|name| self.count(name));
        match (failed, not_tried, warnings) {
            (0, 0, 0) => writeln!(f, "all of it will work"),
            (0, 0, _) => writeln!(f, "all of it will work; to be looked at: {warnings}"),
            (0, _, 0) => writeln!(f, "nothing has failed; not tried: {not_tried}"),
            (0, _, _) => writeln!(
                f,
                "nothing has failed; not tried: {not_tried}, to be looked at: {warnings}"
            ),
            _ => writeln!(f, "failed: {failed}, not tried: {not_tried}"),
        }
    }
}

fn milliseconds(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_and_the_json_tell_the_same() {
        let inspection = Inspection {
            lines: vec![
                Line::new("a", Verdict::Fine("good".to_owned())).after(Duration::from_millis(7)),
                Line::new("a longer part", Verdict::failed("it is bad", "mend it"))
                    .after(Duration::from_millis(8)),
                Line::new("b", Verdict::NotTried("it is bad".to_owned())),
            ],
        };
        insta::assert_snapshot!(inspection, @r"
        a              ok: good (7 ms)
        a longer part  FAILED: it is bad: mend it
        b              not tried: it is bad
        failed: 1, not tried: 1
        ");
        insta::assert_snapshot!(inspection.json(), @r#"{"checks":[{"milliseconds":7,"part":"a","text":"good","verdict":"ok"},{"milliseconds":8,"part":"a longer part","text":"it is bad: mend it","verdict":"failed"},{"milliseconds":null,"part":"b","text":"it is bad","verdict":"not tried"}],"ok":false}"#);
        assert!(!inspection.is_fine());
    }

    #[test]
    fn what_is_not_tried_is_not_said_to_work() {
        let check = |verdicts: &[Verdict], expected: &str| {
            let lines = verdicts.iter().cloned();
            let lines = lines.map(|verdict| Line::new("a", verdict).after(Duration::ZERO));
            let told = Inspection {
                lines: lines.collect(),
            };
            assert_eq!(told.to_string().lines().last(), Some(expected));
        };
        let text = || "text".to_owned();
        let (fine, doubtful) = (Verdict::Fine(text()), Verdict::Doubtful(text()));
        let not_tried = Verdict::NotTried(text());
        check(std::slice::from_ref(&fine), "all of it will work");
        check(
            &[fine.clone(), doubtful.clone()],
            "all of it will work; to be looked at: 1",
        );
        check(
            &[fine, not_tried.clone()],
            "nothing has failed; not tried: 1",
        );
        check(
            &[doubtful.clone(), not_tried],
            "nothing has failed; not tried: 1, to be looked at: 1",
        );
        let timed = Inspection {
            lines: vec![Line::new("a", doubtful).after(Duration::from_millis(7))],
        };
        assert!(timed.to_string().starts_with("a  warning: text (7 ms)\n"));
    }

    #[test]
    fn a_certificate_that_ends_within_thirty_days_is_to_be_renewed() {
        let now: DateTime<Utc> = "2026-11-23T00:00:00Z".parse().unwrap();
        let told = |days| Verdict::until(now + TimeDelta::days(days), now, "usable", "renew it");
        let text = "usable; valid until 2026-12-23".to_owned();
        assert_eq!(told(30), Verdict::Fine(text));
        let text = "usable; valid until 2026-12-22: renew it".to_owned();
        assert_eq!(told(29), Verdict::Doubtful(text));
    }
}
