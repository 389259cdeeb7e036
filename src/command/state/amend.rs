//! Changes to a service's state, each in one atomic step, and what they mean for its records.

use std::cmp::Ordering;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use chrono::{DateTime, Utc};

use super::{configured, find, instant, name_of, whole_name};
use crate::config::Config;
use crate::ledger::{LedgerError, Owner, Reading, ServiceFolder, StateDirectory};
use crate::report::AggregateBy;
use crate::source;
use crate::window::{Schedule, Window};

/// Sets the cursor of the service `name` to `cursor`, or to the beginning of the report's hour or day. Returns what that means.
///
/// # Errors
///
/// If the service cannot be told or has no cursor, if `cursor` lies in the future, if a collector holds the folder, or if its files
/// cannot be trusted or written. Nothing is changed then.
pub fn set(
    path: &Path,
    name: &str,
    cursor: DateTime<Utc>,
    config: Option<&Config>,
    now: DateTime<Utc>,
) -> Result<String> {
    if cursor > now {
        let (cursor, now) = (instant(cursor), instant(now));
        bail!("`--cursor`: {cursor} lies in the future: it is {now} now (UTC)");
    }
    let service = find(path, name)?;
    let state = hold(path)?;
    let at = schedule(config, &service).start(Some(cursor), now);
    let whole = whole_name(&service);
    let Some(before) = state.set_cursor(service.owner(), at, now)? else {
        bail!(
            "{whole} has not begun, so it has no cursor: give it a `start_time` in the configuration"
        );
    };
    let meaning = meaning(before, at);
    Ok(format!(
        "the cursor of {whole} was {}, and is {} now{meaning}",
        instant(before),
        instant(at)
    ))
}

/// Has the service `name` start over. Returns what that means.
///
/// # Errors
///
/// If the service cannot be told, if a collector holds the folder, or if the disk refuses.
pub fn reset(
    path: &Path,
    name: &str,
    config: Option<&Config>,
    now: DateTime<Utc>,
) -> Result<String> {
    let service = find(path, name)?;
    let state = hold(path)?;
    let original = state.original()?;
    // State that cannot be read is what a reset is for.
    let reading = Reading::of(path, service.owner()).ok();
    let before = reading.and_then(|reading| Some(reading.cursor?.at));
    state.reset(service.owner())?;
    let whole = whole_name(&service);
    let was = before.map_or_else(String::new, |before| {
        format!(" (its cursor was {})", instant(before))
    });
    let Some(configured) = configured(config, &service) else {
        return Ok(format!(
            "{whole}{was} begins anew with its next start: at `start_time`, or at that moment less the delay"
        ));
    };
    let original = original.map(|original| original.collected(configured.delay, now));
    let begin = schedule(config, &service).start(configured.start_time.or(original), now);
    let why = match (configured.start_time, original) {
        (Some(_), _) => "as `start_time` says",
        (None, Some(_)) => "as the original collector's files in the state folder say",
        (None, None) => "the present less the delay",
    };
    let meaning = before.map_or_else(String::new, |before| meaning(before, begin));
    let begin = instant(begin);
    Ok(format!(
        "{whole}{was} begins anew with its next start: at {begin}, {why}{meaning}"
    ))
}

/// Hands the state of the service `old` over to `new`, an `INPUT.ID.SERVICE` that has none. Returns what that means.
///
/// # Errors
///
/// If the service cannot be told, if `new` is no such name, is of another report, is not in the configuration or has state of its own, if a
/// collector holds the folder, or if the disk refuses. Nothing is changed then.
pub fn hand_over(path: &Path, old: &str, new: &str, config: Option<&Config>) -> Result<String> {
    let service = find(path, old)?;
    let old = whole_name(&service);
    let parts: Vec<_> = new.split('.').collect();
    let &[input, id, report] = parts.as_slice() else {
        bail!(
            "{new:?} is no name of a service's state: write it as INPUT.ID.SERVICE, as `state show` prints it"
        );
    };
    if report != service.report.service {
        bail!(
            "{old} is state of the service {}, which cannot go on as another one: write {new:?} as INPUT.ID.{}",
            service.report.service,
            service.report.service
        );
    }
    if let Some(config) = config {
        let known = config.inputs.iter().map(|input| (&input.name, &input.id));
        let disabled = config.disabled.iter().map(|(name, id)| (name, id));
        let known: Vec<_> = known.chain(disabled).collect();
        if !known
            .iter()
            .any(|known| *known == (&input.to_owned(), &id.to_owned()))
        {
            let known = known
                .iter()
                .map(|(input, id)| name_of(input, id, service.report));
            let known: Vec<_> = known.collect();
            bail!(
                "no input of the configuration is {input} with the id {id}: name one of\n{}",
                known.join("\n")
            );
        }
    }
    let heir = Owner {
        input,
        id,
        service: report,
    };
    let is_name = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    if !is_name(input) || !is_name(id) {
        bail!(
            "{new:?} holds characters that names and ids do not have: use letters, digits, `-` and `_`"
        );
    }
    let state = hold(path)?;
    let reading = Reading::of(path, heir)?;
    if let Some(cursor) = reading.cursor {
        bail!(
            "{new} has state of its own, with the cursor {}: remove that first with `state reset {new}`; nothing has been changed",
            instant(cursor.at)
        );
    }
    let cursor = Reading::of(path, service.owner())?.cursor;
    if heir.folder(path).exists() {
        // Nothing is in it that counts, but it would be in the way.
        state.reset(heir)?;
    }
    state.hand_over(service.owner(), heir)?;
    let from = cursor.map_or_else(
        || "has not begun".to_owned(),
        |cursor| format!("goes on from {}", instant(cursor.at)),
    );
    Ok(format!("{new} has the state of {old} now, and {from}"))
}

pub(super) fn hold(path: &Path) -> Result<StateDirectory> {
    StateDirectory::open(path).map_err(|error| match error {
        LedgerError::Locked { directory } => anyhow!(
            "a collector is running on the state folder {}: stop it first; nothing has been changed",
            directory.display()
        ),
        other => other.into(),
    })
}

/// The service's schedule. Where nobody says whether its buckets are hours or days they are taken for days: too early a cursor skips nothing.
fn schedule(config: Option<&Config>, service: &ServiceFolder) -> Schedule {
    let report = service.report;
    if let Some(configured) = configured(config, service) {
        return source::schedule(configured);
    }
    let by = report.aggregates.then_some(AggregateBy::Day);
    let terms = source::reporting::terms(report, by);
    Schedule::new(&terms, Duration::ZERO, Duration::ZERO)
}

/// What becomes of the records between two places of the cursor.
fn meaning(before: DateTime<Utc>, after: DateTime<Utc>) -> String {
    let between = Window {
        start: before.min(after),
        end: before.max(after),
    };
    match after.cmp(&before) {
        Ordering::Less => format!("; what lies in {between} comes again"),
        Ordering::Greater => format!("; what lies in {between} is skipped"),
        Ordering::Equal => String::new(),
    }
}
