//! What the last days of a service came to, as a strip of days and hours, with a line of text for each gap.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::{DateTime, NaiveDate, TimeDelta, Timelike as _, Utc};
use maud::{Markup, html};

use super::{clock, grouped};
use crate::ledger::HourOutcome;
use crate::monitoring::status::{AuditStatus, GapStatus, StretchStatus};

/// So many gaps are told in words at most; the command `audit` tells all.
const GAPS_MAX: usize = 12;

/// Minutes of a day, the unit of the strip's width; a day is ten units high, and the one below it begins two further down.
const DAY: u32 = 24 * 60;
const HEIGHT: u32 = 10;
const STEP: u32 = 12;

/// A part of a day.
struct Part {
    day: NaiveDate,
    from: u32,
    to: u32,
    class: &'static str,
    told: String,
}

/// The strip of these days.
pub(super) fn of(audit: &AuditStatus) -> Markup {
    let parts = parts(audit);
    let mut days: BTreeMap<NaiveDate, Vec<&Part>> = BTreeMap::new();
    for part in &parts {
        days.entry(part.day).or_default().push(part);
    }
    let rows = u32::try_from(days.len()).unwrap_or(1).max(1);
    let verdict = if audit.complete {
        "complete"
    } else {
        "not complete"
    };
    let told = format!(
        "{verdict}, {} to {}: {} records",
        audit.from.format("%Y-%m-%d %H:%M"),
        audit.to.format("%Y-%m-%d %H:%M"),
        grouped(audit.records)
    );
    html! {
        figure.audit {
            figcaption { span { "Audit: " (told) } }
            @if !audit.late_text.is_empty() { p { "Late records: " (audit.late_text) } }
            svg.audit viewBox={ "0 0 " (DAY) " " (rows * STEP) } preserveAspectRatio="none" role="img" aria-label={ "Audit: " (told) } {
                @for (row, parts) in days.values().enumerate() {
                    @for part in parts {
                        rect.(part.class) x=(part.from) y=(u32::try_from(row).unwrap_or(0) * STEP) width=(part.to - part.from) height=(HEIGHT) {
                            title { (part.told) }
                        }
                    }
                }
            }
            div.scale aria-hidden="true" { span { "a day a row, 0:00" } span { "24:00" } }
            @if !audit.gaps.is_empty() {
                ul.gaps {
                    @for gap in audit.gaps.iter().take(GAPS_MAX) { li { (of_gap(gap)) } }
                    @if audit.gaps.len() > GAPS_MAX {
                        li { "and " (audit.gaps.len() - GAPS_MAX) " more: the command `audit` tells all" }
                    }
                }
            }
        }
    }
}

fn of_gap(gap: &GapStatus) -> Markup {
    html! {
        (clock(gap.from)) " to " (clock(gap.to)) ": " (word(gap.reason)) ", "
        @match gap.until {
            Some(until) => { "Microsoft has it until " (clock(until)) },
            None => "it cannot be had any more",
        }
    }
}

/// Stretches and gaps, cut at the days' ends. What a gap covers is drawn last.
fn parts(audit: &AuditStatus) -> Vec<Part> {
    let mut parts = vec![];
    for StretchStatus {
        from,
        to,
        outcome,
        records,
    } in &audit.stretches
    {
        let class = match outcome {
            HourOutcome::Complete => "complete",
            HourOutcome::Empty => "empty",
            _ => "unconfirmed",
        };
        let told = format!("{}, {} records", word(*outcome), grouped(*records));
        cut((*from, *to), class, &told, &mut parts);
    }
    for gap in &audit.gaps {
        cut((gap.from, gap.to), "gap", word(gap.reason), &mut parts);
    }
    parts
}

fn cut(
    (from, to): (DateTime<Utc>, DateTime<Utc>),
    class: &'static str,
    told: &str,
    parts: &mut Vec<Part>,
) {
    let mut at = from;
    while at < to {
        let day = at.date_naive();
        let next = day.and_time(chrono::NaiveTime::MIN).and_utc() + TimeDelta::days(1);
        let end = next.min(to);
        let minute = |time: DateTime<Utc>| time.hour() * 60 + time.minute();
        let mut title = at.format("%Y-%m-%d %H:%M to ").to_string();
        // Writing to a text does not fail.
        let _ = write!(title, "{}: {told}", end.format("%Y-%m-%d %H:%M"));
        let (left, right) = (minute(at), if end == next { DAY } else { minute(end) });
        parts.push(Part {
            day,
            from: left,
            to: right.max(left + 1),
            class,
            told: title,
        });
        at = end;
    }
}

/// An outcome in words.
fn word(outcome: HourOutcome) -> &'static str {
    match outcome {
        HourOutcome::NeverCollected => "never collected",
        other => other.name(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        format!("2026-03-{text}:00Z").parse().unwrap()
    }

    #[test]
    fn days_are_rows_and_each_gap_has_a_line_of_text() {
        let stretch = |from: &str, to: &str, outcome| StretchStatus {
            from: at(from),
            to: at(to),
            outcome,
            records: 1_234,
        };
        let audit = AuditStatus {
            from: at("10T10:00"),
            to: at("12T01:00"),
            complete: false,
            records: 2_468,
            unconfirmed: 0,
            late: vec![],
            late_text: "97.1 % of 1000 within 5 min".to_owned(),
            gaps: vec![GapStatus {
                from: at("10T22:00"),
                to: at("11T02:00"),
                reason: HourOutcome::NeverCollected,
                until: Some(at("20T22:00")),
            }],
            stretches: vec![
                stretch("10T10:00", "10T22:00", HourOutcome::Complete),
                stretch("11T02:00", "12T01:00", HourOutcome::Empty),
            ],
        };
        let drawn = parts(&audit);
        let parts: Vec<_> = { drawn.iter() }
            .map(|part| {
                format!(
                    "{} {}..{} {}",
                    part.day.format("%d"),
                    part.from,
                    part.to,
                    part.class
                )
            })
            .collect();
        let expected = [
            "10 600..1320 complete",
            "11 120..1440 empty",
            "12 0..60 empty",
            "10 1320..1440 gap",
            "11 0..120 gap",
        ];
        assert_eq!(parts, expected);
        let page = of(&audit).into_string();
        assert!(page.contains("viewBox=\"0 0 1440 36\""), "{page}");
        assert!(
            page.contains("not complete, 2026-03-10 10:00 to 2026-03-12 01:00: 2,468 records"),
            "{page}"
        );
        assert!(
            page.contains("Late records: 97.1 % of 1000 within 5 min"),
            "{page}"
        );
        let gap = "never collected, Microsoft has it until";
        assert_eq!(page.matches(gap).count(), 1, "{page}");
        assert!(
            page.contains(
                "<title>2026-03-10 10:00 to 2026-03-10 22:00: complete, 1,234 records</title>"
            ),
            "{page}"
        );
    }
}
