//! One input's state that leaves a state folder, or comes into one. Only where no collector holds the folder.

use std::fs;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use super::export::{Content, From};
use super::reading::{Reading, ServiceFolder, services};
use super::{ExportFile, Key, LedgerError, Manifest, Moved, StateDirectory, What, file};
use crate::version::VERSION;

/// How deep files of a service lie in its folder: `early/pass.S/cursor`.
const DEPTH_MAX: usize = 3;

impl StateDirectory {
    /// Writes the state of an input to a new file at `path`, and marks the input, so that it does not start here any more. The file is there
    /// whole, or not at all; it is never there without the mark.
    ///
    /// # Errors
    ///
    /// If state of the input is damaged or the disk refuses. The mark may be there then, and the call may be repeated.
    pub fn export(
        &self,
        (input, id): (&str, &str),
        path: &Path,
        now: DateTime<Utc>,
    ) -> Result<Manifest, LedgerError> {
        let (mut files, mut contents, mut requests) = (vec![], vec![], vec![]);
        for service in self.services_of(input, id)? {
            let reading = Reading::of(&self.path, service.owner())?;
            if let Some(cursor) = reading.cursor {
                let tenant = cursor.tenant.replace(' ', ":");
                let of_tenant = self.requests().all_of(&tenant);
                let read = |cause| LedgerError::io("read", &self.path, cause);
                requests.extend(of_tenant.map_err(read)?);
            }
            let name = service.report.service;
            if let Some(key) = Key::of(&self.path, &service.folder)? {
                let bytes = key.bytes();
                files.push(Content {
                    path: format!("{name}/{}", super::key::FILE),
                    length: bytes.len() as u64,
                });
                contents.push(From::Bytes(bytes));
            }
            for (inner, from, length) in files_in(&service.folder, DEPTH_MAX)? {
                files.push(Content {
                    path: format!("{name}/{inner}"),
                    length,
                });
                contents.push(From::File(from));
            }
        }
        requests.sort();
        requests.dedup();
        let manifest = Manifest {
            export: format!("{:016x}", rand::random::<u64>()),
            input: input.to_owned(),
            id: id.to_owned(),
            at: now,
            version: VERSION.clone(),
            requests,
            files,
        };
        let aside = aside(path);
        file::remove_at(&aside)?;
        let written = manifest.write(&contents, &aside);
        let mark = Moved {
            what: What::Exported,
            file: path.to_owned(),
            export: manifest.export.clone(),
            at: now,
        };
        let finish = || {
            written.map_err(|cause| LedgerError::io("write", &aside, cause))?;
            // Before the file is there: nobody can go on with it while this input still starts here.
            mark.store(&self.path, input, id)?;
            let renamed = fs::rename(&aside, path);
            renamed.map_err(|cause| LedgerError::io("rename", &aside, cause))?;
            file::sync_folder(super::reading::here_if_empty(
                path.parent().unwrap_or(Path::new(".")),
            ))
        };
        let finished = finish();
        if finished.is_err() {
            // What is left of it would be in nobody's way but a reader's.
            file::remove_at(&aside).ok();
        }
        finished.map(|()| manifest)
    }

    /// Takes an export in, in the place of what the input has here. Until all of it is there the input does not start, also where this was
    /// interrupted; then it may be repeated.
    ///
    /// # Errors
    ///
    /// If the disk refuses. Before anything of the input's is replaced, it is left as it was.
    pub fn import(&self, export: &mut ExportFile, now: DateTime<Utc>) -> Result<(), LedgerError> {
        let (input, id) = (
            export.manifest().input.clone(),
            export.manifest().id.clone(),
        );
        let before = file::read(&Moved::path(&self.path, &input, &id))?;
        let mark = Moved {
            what: What::Importing,
            file: export.path().to_owned(),
            export: export.manifest().export.clone(),
            at: now,
        };
        mark.store(&self.path, &input, &id)?;
        let aside = self.path.join(format!(".import.{input}.{id}"));
        if let Err(error) = unpack(export, &aside) {
            remove_folder(&aside).ok();
            match before {
                Some(before) => Moved::restore(&self.path, (&input, &id), &before)?,
                None => Moved::remove(&self.path, &input, &id)?,
            }
            return Err(error);
        }
        for service in self.services_of(&input, &id)? {
            self.reset(service.owner())?;
        }
        for service in services(&aside)? {
            let to = service.owner().folder(&self.path);
            fs::rename(&service.folder, &to)
                .map_err(|cause| LedgerError::io("rename", &service.folder, cause))?;
        }
        file::sync_folder(&self.path)?;
        remove_folder(&aside)?;
        let added = self.requests().add(&export.manifest().requests);
        added.map_err(|cause| LedgerError::io("write", &self.path, cause))?;
        Moved::remove(&self.path, &input, &id)
    }

    /// The services that an input has state of, in the order of their names.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read.
    pub fn services_of(&self, input: &str, id: &str) -> Result<Vec<ServiceFolder>, LedgerError> {
        let mut services = services(&self.path)?;
        services.retain(|service| service.input == input && service.id == id);
        Ok(services)
    }
}

/// Where an export is written until it is whole.
fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// Unpacks an export into a state folder of its own at `aside`, and reads what it tells as a start would.
fn unpack(export: &mut ExportFile, aside: &Path) -> Result<(), LedgerError> {
    remove_folder(aside)?;
    file::make_folder(aside)?;
    let Manifest { input, id, .. } = export.manifest().clone();
    export.unpack(|path| aside.join(format!("{input}.{id}.{path}")))?;
    for service in services(aside)? {
        Reading::of(aside, service.owner())?;
    }
    file::sync_folder(aside)
}

fn remove_folder(folder: &Path) -> Result<(), LedgerError> {
    match fs::remove_dir_all(folder) {
        Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
            Err(LedgerError::io("remove", folder, cause))
        }
        _ => Ok(()),
    }
}

/// The files of a service: their paths in its folder, where they are, and their lengths. What a write has left aside is none, nor is the key.
fn files_in(folder: &Path, depth: usize) -> Result<Vec<(String, PathBuf, u64)>, LedgerError> {
    let read = |cause| LedgerError::io("read", folder, cause);
    let mut files = vec![];
    for entry in fs::read_dir(folder).map_err(read)? {
        let entry = entry.map_err(read)?;
        let kind = entry.file_type().map_err(read)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if kind.is_dir() && depth > 1 {
            let inner = files_in(&entry.path(), depth - 1)?.into_iter();
            files
                .extend(inner.map(|(path, from, length)| (format!("{name}/{path}"), from, length)));
        } else if kind.is_file() && !file::is_aside(&name) && name != super::key::FILE {
            let length = entry.metadata().map_err(read)?.len();
            files.push((name, entry.path(), length));
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests;
