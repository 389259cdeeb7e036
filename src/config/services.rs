//! `services`: the reports to collect, and how.

use std::ops::RangeInclusive;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};

use super::reader::{Field, Section};
use super::words::{listed, nearest, quoted};
use super::{ServiceConfig, SourceChoice, limits, masking, scalar};
use crate::report::{AggregateBy, Origin, REPORTS, Report};

const PERIOD: Duration = Duration::from_mins(1);
const DELAY_MAX_SECONDS: u32 = 90_000;
pub(super) const DELAYS_SECONDS: RangeInclusive<u32> = 1..=DELAY_MAX_SECONDS;
pub(super) const PERIODS_SECONDS: RangeInclusive<u32> = 1..=u32::MAX;
pub(super) const EARLY_SECONDS: RangeInclusive<u32> = 1..=DELAY_MAX_SECONDS - 1;
const DELAY: Duration = Duration::from_secs(DELAY_MAX_SECONDS as u64);

/// How late the reporting service may still come out with a row.
const LATENESS: Duration = Duration::from_hours(24);

/// What the input says for all its services.
pub(super) struct Context {
    pub(super) start_time: Option<DateTime<Utc>>,
    pub(super) now: DateTime<Utc>,
    /// Why Graph cannot be asked.
    pub(super) no_graph: Option<&'static str>,
}

/// Reads the services of one input.
pub(super) fn read(section: &Section<'_>, context: &Context) -> Vec<ServiceConfig> {
    section
        .fields()
        .filter_map(|field| {
            let Some(report) = Report::by_service(field.key()) else {
                field.mistake(unknown(field.key()));
                return None;
            };
            service(&field, report, context)
        })
        .collect()
}

/// A time that has passed, as `start_time` has to be.
pub(super) fn start_time(field: &Field<'_>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    field.parse(|text| {
        let time = scalar::time(text).ok_or(
            "is not a time: write it as `2024-05-07T15:35:24.133642` (UTC; fraction and time of day may be left out)",
        )?;
        if time > now {
            let now = now.to_rfc3339_opts(SecondsFormat::Secs, true);
            return Err(format!("lies in the future: it is {now} now (UTC)"));
        }
        Ok(time)
    })
}

fn service(field: &Field<'_>, report: &'static Report, context: &Context) -> Option<ServiceConfig> {
    let section = field.section_or_empty()?;
    let period = section
        .field("request_period_in_seconds")
        .number(PERIODS_SECONDS, " of seconds");
    let start_time = start_time(&section.field("start_time"), context.now);
    let delay = delay(&section.field("override_time_delay_in_seconds"));
    let config = ServiceConfig {
        report,
        period: period.map_or(PERIOD, |seconds| Duration::from_secs(seconds.into())),
        delay,
        early_passes: early_passes(&section, report, delay),
        early_passes_deliver: early_passes_deliver(&section, report),
        start_time: start_time.or(context.start_time),
        reset_persistence_auth: reset(&section.field("reset_persistence_auth")),
        aggregate_by: aggregate_by(&section, report),
        mask: masking::read(&section.field("obfuscation_data"), report),
        requests_limits: limits::of_service(&section),
        source: source(&section, report, context.no_graph),
    };
    section.warn_of_unknown();
    Some(config)
}

fn delay(field: &Field<'_>) -> Duration {
    let Some(seconds) = field.number(DELAYS_SECONDS, " of seconds") else {
        return DELAY;
    };
    let delay = Duration::from_secs(seconds.into());
    if delay < LATENESS {
        field.warning(format!(
            "{} is less than a day: rows that the reporting service brings out later than that are never collected",
            quoted(&seconds.to_string())
        ));
    }
    delay
}

fn early_passes(section: &Section<'_>, report: &Report, delay: Duration) -> Vec<Duration> {
    let field = section.field("early_passes_in_seconds");
    if is_refused(&field, report) {
        return vec![];
    }
    let mut passes: Vec<Duration> = vec![];
    for item in field.items() {
        let Some(seconds) = item.number(EARLY_SECONDS, " of seconds") else {
            continue;
        };
        let pass = Duration::from_secs(seconds.into());
        let given = quoted(&seconds.to_string());
        if pass >= delay {
            let delay = delay.as_secs();
            item.mistake(format!(
                "{given} is not below `override_time_delay_in_seconds`, which is {delay}: give a shorter delay, or leave it out"
            ));
        } else if passes.last().is_some_and(|last| *last >= pass) {
            item.mistake(format!(
                "{given} is not more than the one before it: give the shortest delay first, and each once"
            ));
        }
        passes.push(pass);
    }
    passes
}

fn early_passes_deliver(section: &Section<'_>, report: &Report) -> bool {
    let field = section.field("early_passes_deliver");
    if is_refused(&field, report) {
        return true;
    }
    field.boolean().unwrap_or(true)
}

/// Whether the report cannot be had early, which is a mistake where the field is given.
fn is_refused(field: &Field<'_>, report: &Report) -> bool {
    let refused = report.early_passes().err();
    if let (Some(reason), true) = (refused, field.is_given()) {
        field.mistake(format!(
            "this report cannot be had early, since {reason}: remove it here"
        ));
    }
    refused.is_some()
}

fn reset(field: &Field<'_>) -> Option<String> {
    let value = field.text()?;
    if !value.chars().all(|c| c.is_ascii_digit() || c == '-') {
        field.warning(format!(
            "{} is not of the form YYYY-MM-DD; any value that differs from the last one clears the service's state",
            quoted(&value)
        ));
    }
    Some(value)
}

fn aggregate_by(section: &Section<'_>, report: &Report) -> Option<AggregateBy> {
    if !report.aggregates {
        if section.entry("aggregate_by")?.is_given() {
            section.field("aggregate_by").mistake("only the services MailTraffic and AdvancedThreatProtectionTraffic have it: remove it here");
        }
        return None;
    }
    let given = section
        .field("aggregate_by")
        .parse(|text| match text.to_lowercase().as_str() {
            "hour" => Ok(AggregateBy::Hour),
            "day" => Ok(AggregateBy::Day),
            _ => Err("is not allowed: give `hour` or `day`".to_owned()),
        });
    Some(given.unwrap_or(AggregateBy::Hour))
}

/// The names of the choice.
pub(super) const SOURCES: &[&str] = &["auto", "reporting_service", "graph"];

fn source(section: &Section<'_>, report: &Report, no_graph: Option<&str>) -> SourceChoice {
    let field = section.field("source");
    if !report.has_two_services() {
        if section
            .entry("source")
            .is_some_and(|entry| entry.is_given())
        {
            field.mistake("only the service MessageTrace can be had elsewhere: remove it here");
        }
        return SourceChoice::Auto;
    }
    let choice = field.parse(|text| match text.to_ascii_lowercase().as_str() {
        "auto" => Ok(SourceChoice::Auto),
        "reporting_service" => Ok(SourceChoice::Only(Origin::ReportingService)),
        "graph" => Ok(SourceChoice::Only(Origin::Graph)),
        _ => Err(format!("is not allowed: give {}", listed(SOURCES, "or"))),
    });
    if choice == Some(SourceChoice::Only(Origin::Graph))
        && let Some(reason) = no_graph
    {
        field.mistake(format!("`graph` is not possible here: {reason}"));
    }
    choice.unwrap_or_default()
}

fn unknown(name: &str) -> String {
    let stems = REPORTS.each_ref().map(|report| stem(report.service));
    match nearest(stem(name), &stems) {
        Some(stem) => {
            format!("there is no such service: did you mean `office365_reporting_{stem}_service`?")
        }
        None => format!(
            "there is no such service: they are called office365_reporting_…_service, with one of {} for the dots",
            stems.join(", ")
        ),
    }
}

/// What tells a service's name from the others'.
fn stem(service: &str) -> &str {
    let stem = service
        .strip_prefix("office365_reporting_")
        .unwrap_or(service);
    stem.strip_suffix("_service").unwrap_or(stem)
}
