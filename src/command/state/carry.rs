//! One input's state, carried to another state folder: written to a file, and taken in from one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use chrono::{DateTime, Utc};
use nix::unistd::{AccessFlags, eaccess};

use super::amend::hold;
use super::{existing, instant};
use crate::config::Config;
use crate::ledger::{ExportFile, LedgerError, Moved, Reading, StateDirectory, What};

/// Where an export goes, and whether it may be written again.
#[derive(Clone, Debug, Default)]
pub struct ExportTo {
    /// The file; by default one in the current folder that is named by input and time.
    pub output: Option<PathBuf>,
    /// The input was exported before, and that file is lost or was never finished.
    pub again: bool,
}

/// Writes the state of the input `name` to a file, and keeps the input from starting here. Returns what that means.
///
/// # Errors
///
/// If the input cannot be told or has no state, if it was exported before, if a collector holds the folder, if state cannot be trusted, or if the
/// disk refuses.
pub fn export(path: &Path, name: &str, to: &ExportTo, now: DateTime<Utc>) -> Result<String> {
    let (input, id) = find(path, name)?;
    let whole = format!("{input}.{id}");
    let file = to.output.clone().unwrap_or_else(|| {
        let time = now.format("%Y%m%dT%H%M%SZ");
        PathBuf::from(format!("{whole}.{time}.export"))
    });
    may_be_made(&file)?;
    let state = hold(path)?;
    match Moved::of(path, &input, &id)? {
        None => {}
        Some(moved) if moved.what == What::Exported && to.again => {}
        Some(moved) if moved.what == What::Exported => bail!(
            "the state of {whole} was exported at {} to {}: import that; or, if that file is lost or was never finished, write it again with \
             `--again`, once it is certain that no other collector has it",
            instant(moved.at),
            moved.file.display()
        ),
        Some(moved) => bail!(
            "an import of the state of {whole} has not come to its end: carry it out again with `state import {}`",
            moved.file.display()
        ),
    }
    let services = state.services_of(&input, &id)?.len();
    let manifest = state.export((&input, &id), &file, now).with_context(|| {
        let marked = matches!(Moved::of(path, &input, &id), Ok(Some(_)));
        if marked {
            format!("{whole} was not exported, and does not start here until it is: repeat this with `--again`")
        } else {
            format!("{whole} was not exported, and nothing has been changed")
        }
    })?;
    let mark = Moved::path(path, &input, &id);
    Ok(format!(
        "{} has the state of {whole}: services {services}, export {}\nThe input does not start on {} any more: remove it from the configuration there. Import the file at one \
         place only, and remove it then. To go on here after all, import it here, or remove {}.",
        file.display(),
        manifest.export,
        path.display(),
        mark.display()
    ))
}

/// Takes an export in. With `replace` it takes the place of what the input has there. Returns what that means.
///
/// # Errors
///
/// If the input has state already, if a collector holds the folder, or if the disk refuses.
pub fn import(
    path: &Path,
    export: &mut ExportFile,
    replace: bool,
    config: Option<&Config>,
    now: DateTime<Utc>,
) -> Result<String> {
    let manifest = export.manifest().clone();
    let (input, id) = (manifest.input.as_str(), manifest.id.as_str());
    let whole = format!("{input}.{id}");
    let state = hold(path)?;
    if !replace {
        let moved = match Moved::of(path, input, id) {
            Ok(moved) => moved,
            Err(error @ LedgerError::DamagedMark { .. }) => {
                bail!("{error}; `--replace` imports it; nothing has been changed")
            }
            Err(error) => return Err(error.into()),
        };
        match moved {
            Some(moved) if moved.what == What::Importing => {}
            // What has left is not what counts any more, but for a file that had left before it.
            Some(moved) if moved.export == manifest.export || moved.at <= manifest.at => {}
            Some(moved) => bail!(
                "{} was exported at {}, and the state of {whole} here is newer: it was exported at {} to {}; `--replace` imports the older one, and records come \
                 again; nothing has been changed",
                export.path().display(),
                instant(manifest.at),
                instant(moved.at),
                moved.file.display()
            ),
            None => refuse_over_state(path, &state, (input, id))?,
        }
    }
    state.import(export, now).with_context(|| {
        if matches!(Moved::of(path, input, id), Ok(Some(moved)) if moved.what == What::Importing) {
            format!("the state of {whole} was not imported, and the input does not start here until it is: repeat this")
        } else {
            format!("the state of {whole} was not imported, and nothing has been changed")
        }
    })?;
    let services = state.services_of(input, id)?;
    let mut lines = vec![format!(
        "{} has the state of {whole}, exported at {}:",
        path.display(),
        instant(manifest.at)
    )];
    for service in &services {
        let cursor = Reading::of(path, service.owner())?.cursor;
        let from = cursor.map_or_else(
            || "has not begun".to_owned(),
            |cursor| format!("goes on from {}", instant(cursor.at)),
        );
        lines.push(format!("{} {from}", service.report.service));
    }
    if config.is_some_and(|config| !is_configured(config, input, id)) {
        lines.push(format!(
            "No input of the configuration is {input} with the id {id} yet: it goes on once there is one."
        ));
    }
    Ok(lines.join("\n"))
}

fn is_configured(config: &Config, input: &str, id: &str) -> bool {
    let enabled = config.inputs.iter().map(|input| (&input.name, &input.id));
    let disabled = config.disabled.iter().map(|(name, id)| (name, id));
    enabled
        .chain(disabled)
        .any(|(name, of)| name == input && of == id)
}

/// An import is never to take the place of state that nobody gave away.
fn refuse_over_state(path: &Path, state: &StateDirectory, (input, id): (&str, &str)) -> Result<()> {
    for service in state.services_of(input, id)? {
        // What cannot be read may be what counts.
        let cursor = Reading::of(path, service.owner()).map(|reading| reading.cursor);
        let has = match cursor {
            Ok(None) => continue,
            Ok(Some(cursor)) => format!("its cursor is {}", instant(cursor.at)),
            Err(error) => format!("it cannot be read: {error}"),
        };
        let service = service.report.service;
        bail!(
            "{input}.{id} has state of its own here ({service}: {has}): `--replace` puts the export in its place; nothing has been changed"
        );
    }
    Ok(())
}

/// The one input that `name` names: by its own name where only one has it, else by `INPUT.ID`.
fn find(path: &Path, name: &str) -> Result<(String, String)> {
    let services = existing(path)?;
    let inputs: BTreeSet<_> = { services.into_iter() }
        .map(|service| (service.input, service.id))
        .collect();
    let is_named =
        |(input, id): &&(String, String)| input == name || format!("{input}.{id}") == *name;
    let named: Vec<_> = inputs.iter().filter(is_named).cloned().collect();
    let list = |inputs: &mut dyn Iterator<Item = &(String, String)>| {
        let lines: Vec<_> = inputs.map(|(input, id)| format!("{input}.{id}")).collect();
        lines.join("\n")
    };
    match named.as_slice() {
        [one] => Ok(one.clone()),
        [] if inputs.is_empty() => {
            bail!("the state folder {} holds no input's state", path.display())
        }
        [] => bail!(
            "there is no state of an input {name:?} in {}: name one of\n{}",
            path.display(),
            list(&mut inputs.iter())
        ),
        several => bail!(
            "several ids have state of an input {name}: name one of\n{}",
            list(&mut several.iter())
        ),
    }
}

/// Whether a new file can be made there, by whom the state belongs to.
fn may_be_made(file: &Path) -> Result<()> {
    let shown = file.display();
    if file.symlink_metadata().is_ok() {
        bail!(
            "{shown} is there already: name another file by `--output`; nothing has been changed"
        );
    }
    let folder = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    eaccess(folder, AccessFlags::W_OK | AccessFlags::X_OK).with_context(|| {
        format!(
            "cannot make {shown} as the owner of the state, user {}: name a place by `--output` where that user may write; nothing has been changed",
            nix::unistd::geteuid()
        )
    })
}
