//! State that no input of the configuration owns: an input was renamed, given another id, or removed.

use std::path::Path;

use chrono::{DateTime, Utc};

use super::{instant, name_of, whole_name};
use crate::config::Config;
use crate::ledger::{self, LedgerError, Moved, Reading, ServiceFolder};

/// The state of a service that no input owns.
#[derive(Debug)]
pub struct Orphan {
    /// `INPUT.ID.SERVICE`, as `state show` prints it.
    pub name: String,
    /// Everything before it was delivered and confirmed; `None` if it cannot be read.
    pub cursor: Option<DateTime<Utc>>,
    /// What to do with it.
    pub action: String,
}

/// The state in the folder at `path` that no input of the configuration owns, enabled or not. None is named while a file of inputs is left
/// out, which may own it.
///
/// # Errors
///
/// If the folder cannot be read.
pub fn orphans(path: &Path, config: &Config) -> Result<Vec<Orphan>, LedgerError> {
    if !config.left_out.is_empty() {
        return Ok(vec![]);
    }
    let services = ledger::services(path)?;
    let unowned = services.iter().filter(|service| !is_owned(service, config));
    let orphans = unowned.filter_map(|service| {
        let moved = Moved::of(path, &service.input, &service.id);
        let cursor = match Reading::of(path, service.owner()) {
            // Without a cursor nothing was collected, and nothing can be lost.
            Ok(reading) => Some(reading.cursor?.at),
            Err(_) => None,
        };
        let name = whole_name(service);
        let action = match moved {
            Ok(Some(moved)) => format!(
                "it was exported to {}: once that has been imported elsewhere, remove it with `state reset {name}`",
                moved.file.display()
            ),
            _ => action(&name, service, config),
        };
        Some(Orphan {
            name,
            cursor,
            action,
        })
    });
    Ok(orphans.collect())
}

fn is_owned(service: &ServiceFolder, config: &Config) -> bool {
    let ServiceFolder { input, id, .. } = service;
    let enabled = config.inputs.iter().map(|input| (&input.name, &input.id));
    let disabled = config.disabled.iter().map(|(name, id)| (name, id));
    enabled
        .chain(disabled)
        .any(|(known, known_id)| known == input && known_id == id)
}

fn action(name: &str, orphan: &ServiceFolder, config: &Config) -> String {
    let heirs = config.inputs.iter().filter_map(|input| {
        let mut services = input.services.iter();
        let service = services.find(|service| service.report == orphan.report)?;
        Some(name_of(&input.name, &input.id, service.report))
    });
    let heirs: Vec<_> = heirs.collect();
    let heir = match heirs.as_slice() {
        [heir] => heir,
        _ => "INPUT.ID.SERVICE",
    };
    format!(
        "if its input was renamed or given another id, stop the collector and hand the state over with `state move {name} {heir}`; if it is not needed \
         any more, remove it with `state reset {name}`"
    )
}

impl Orphan {
    /// The cursor as the files have it.
    pub fn shown_cursor(&self) -> String {
        self.cursor.map_or_else(|| "unknown".to_owned(), instant)
    }
}
