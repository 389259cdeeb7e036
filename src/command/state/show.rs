//! What each service's state tells, for people and for machines.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};

use super::{configured, existing, whole_name};
use crate::config::Config;
use crate::error::chain;
use crate::ledger::{Cursor, LedgerError, Moved, Outcome, Reading, ServiceFolder, What};
use crate::length::Length;
use crate::source::schedule;

/// A collector may write while the files are read: they are read again so often before what they seem to tell is believed.
const READINGS_MAX: u32 = 5;
const PAUSE: Duration = Duration::from_millis(50);

/// The state of one service.
#[derive(Debug)]
pub struct Shown {
    /// `INPUT.ID.SERVICE`.
    pub name: String,
    /// What its files tell.
    pub reading: Result<Reading, LedgerError>,
    /// How far the cursor is behind the present.
    pub behind: Option<TimeDelta>,
    /// How far it is behind what has settled; only if the configuration runs the service.
    pub lag: Option<TimeDelta>,
}

/// All services that have state in the folder at `path`.
///
/// # Errors
///
/// If the folder cannot be read. A file that cannot be trusted is in what is shown of its service.
pub fn show(path: &Path, config: Option<&Config>, now: DateTime<Utc>) -> Result<Vec<Shown>> {
    let services = existing(path)?;
    let shown = services.iter().map(|service| {
        let reading = read(path, service);
        let cursor = reading
            .as_ref()
            .ok()
            .and_then(|reading| reading.cursor.as_ref());
        let cursor = cursor.map(|cursor| cursor.at);
        let schedule = configured(config, service).map(schedule);
        let lag = cursor
            .zip(schedule)
            .map(|(cursor, schedule)| schedule.lag(cursor, now));
        Shown {
            name: whole_name(service),
            behind: cursor.map(|cursor| now - cursor),
            reading,
            lag,
        }
    });
    Ok(shown.collect())
}

/// Reads until two readings in a row are of the same commit.
fn read(path: &Path, service: &ServiceFolder) -> Result<Reading, LedgerError> {
    let generation = |reading: &Result<Reading, LedgerError>| {
        let reading = reading.as_ref().ok()?;
        Some(reading.cursor.as_ref().map(|cursor| cursor.generation))
    };
    let mut last = Reading::of(path, service.owner());
    for _ in 1..READINGS_MAX {
        if last.is_err() {
            sleep(PAUSE);
        }
        let again = Reading::of(path, service.owner());
        let agreed = generation(&again).is_some() && generation(&again) == generation(&last);
        last = again;
        if agreed {
            break;
        }
    }
    last
}

impl Shown {
    /// `{"service", "cursor", "behind_seconds", "lag_seconds", "unfinished": {"start", "end"}, "confirmed": {OUTPUT: records}, "passes": [{"delay_seconds", "frontier"}], "records",
    /// "entries": [what became of the windows before the cursor], "source", "source_since", "looks": {"days", "last"}, "moved", "tenant",
    /// "error"}`; `confirmed` counts what lies at or after the cursor.
    pub fn json(&self) -> Value {
        let seconds = |time: Option<TimeDelta>| time.map(|time| time.num_seconds());
        let (reading, error) = match &self.reading {
            Ok(reading) => (Some(reading), None),
            Err(error) => (None, Some(chain(error))),
        };
        let cursor = reading.and_then(|reading| reading.cursor.as_ref());
        let unfinished = reading.and_then(|reading| reading.unfinished);
        let unfinished = unfinished
            .map(|window| json!({"start": instant(window.start), "end": instant(window.end)}));
        let confirmed = reading.into_iter().flat_map(|reading| &reading.confirmed);
        let confirmed: serde_json::Map<_, _> = confirmed
            .map(|(output, records)| (output.clone(), (*records).into()))
            .collect();
        json!({
            "service": self.name,
            "cursor": cursor.map(|cursor| instant(cursor.at)),
            "behind_seconds": seconds(self.behind),
            "lag_seconds": seconds(self.lag),
            "unfinished": unfinished,
            "confirmed": confirmed,
            "passes": reading.map(|reading| {
                let passes = reading.passes.iter();
                let passes = passes.map(|(delay, frontier)| {
                    json!({"delay_seconds": delay, "frontier": instant(*frontier)})
                });
                passes.collect::<Vec<_>>()
            }),
            "records": cursor.map(|cursor| cursor.records),
            "entries": cursor.map(|cursor| json!(cursor.entries)),
            "source": cursor.map(|cursor| cursor.source.name()),
            "source_since": cursor.and_then(switched).map(instant),
            "looks": reading.and_then(|reading| reading.looks).map(|looks| {
                json!({"days": looks.days, "last": instant(looks.last)})
            }),
            "moved": reading.and_then(|reading| reading.moved.as_ref()),
            "tenant": cursor.map(|cursor| cursor.tenant.as_str()),
            "error": error,
        })
    }

    /// Its cells in the table, and what gets a line of its own below.
    fn cells(&self) -> ([String; 5], Option<String>) {
        let or_unknown = |time: Option<TimeDelta>| {
            time.map_or_else(|| "unknown".to_owned(), |time| Length(time).to_string())
        };
        let (name, behind, lag) = (
            self.name.clone(),
            or_unknown(self.behind),
            or_unknown(self.lag),
        );
        let reading = match &self.reading {
            Ok(reading) => reading,
            Err(error) => {
                let [cursor, records] = ["unknown"; 2].map(str::to_owned);
                return ([name, cursor, behind, lag, records], Some(chain(error)));
            }
        };
        let cursor = reading.cursor.as_ref();
        let at = cursor.map_or_else(|| "none".to_owned(), |cursor| instant(cursor.at));
        let records = cursor.map_or(0, |cursor| cursor.records).to_string();
        let unfinished = reading.unfinished.map(|window| {
            let confirmed = reading.confirmed.iter();
            let confirmed: Vec<_> = confirmed
                .map(|(output, records)| format!("{output} has confirmed {records} of it"))
                .collect();
            format!("unfinished: {window}; {}", confirmed.join(", "))
        });
        let gaps = cursor.into_iter().flat_map(|cursor| &cursor.entries);
        let gaps = gaps.filter(|entry| entry.outcome.is_gap()).map(|entry| {
            let (window, outcome) = (entry.window(), entry.outcome.name());
            format!("{outcome}: {window}")
        });
        let sources = cursor.into_iter().filter_map(|cursor| {
            let since = switched(cursor)?;
            let source = cursor.source.title();
            Some(format!("source: {source}, from {} on", instant(since)))
        });
        let below = unfinished
            .into_iter()
            .chain(sources)
            .chain(unconfirmed(cursor));
        let passes = { reading.passes.iter() }.map(|(delay, frontier)| {
            format!("early pass after {delay} s: up to {}", instant(*frontier))
        });
        let looks = reading.looks.map(|looks| {
            let (days, last) = (looks.days, instant(looks.last));
            format!("the reporting service had everything on {days} days in a row, as of {last}; after three it is asked again")
        });
        let moved = reading.moved.iter().map(moved);
        let below = moved.chain(below).chain(looks);
        let below: Vec<_> = below.chain(passes).chain(gaps).collect();
        let below = (!below.is_empty()).then(|| below.join("\n  "));
        ([name, at, behind, lag, records], below)
    }
}

/// Why the input does not start.
fn moved(moved: &Moved) -> String {
    let (file, at) = (moved.file.display(), instant(moved.at));
    match moved.what {
        What::Exported => format!("exported to {file} at {at}: it does not start here"),
        What::Importing => {
            format!("an import of {file}, begun at {at}, has not come to its end: repeat it")
        }
    }
}

/// From which instant on the records come from where they do now; `None` if they always have.
fn switched(cursor: &Cursor) -> Option<DateTime<Utc>> {
    let mut latest = cursor.entries.iter().rev();
    let switch = latest.find(|entry| matches!(entry.outcome, Outcome::Source { .. }))?;
    Some(switch.start)
}

/// The windows that were empty and could not be confirmed to be: the last one of them, and how many there are.
fn unconfirmed(cursor: Option<&Cursor>) -> Option<String> {
    let entries = cursor.into_iter().flat_map(|cursor| &cursor.entries);
    let unconfirmed = entries.filter(|entry| entry.outcome == Outcome::EmptyUnconfirmed);
    let unconfirmed: Vec<_> = unconfirmed.collect();
    let last = unconfirmed.last()?;
    let (name, window) = (last.outcome.name(), last.window());
    Some(match unconfirmed.len() - 1 {
        0 => format!("{name}: {window}"),
        before => format!("{name}: {window}, and {before} before it"),
    })
}

/// The table for people.
pub fn table(shown: &[Shown]) -> String {
    let head = ["service", "cursor", "behind now", "lag", "records"].map(str::to_owned);
    let rows = shown.iter().map(Shown::cells);
    let rows: Vec<_> = [(head, None)].into_iter().chain(rows).collect();
    let widths: [usize; 5] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|(cells, _)| cells[column].chars().count());
        cells.max().unwrap_or_default()
    });
    let mut table = String::new();
    for (cells, below) in rows {
        let cells = cells.iter().zip(widths);
        let cells: Vec<_> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        let below = below
            .map(|below| format!("\n  {below}"))
            .unwrap_or_default();
        table.push_str(cells.join("  ").trim_end());
        table.push_str(&below);
        table.push('\n');
    }
    table
}

/// An instant as the files have it, in UTC.
pub(super) fn instant(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}
