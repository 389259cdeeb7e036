//! What the files of the configuration looked like when they were read, by which a change is noticed without reading them again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The files of a configuration at one instant: those that it consists of, those with credentials that it names, and what the folder of
/// input files holds. Two are equal where nothing has changed. Links are followed, since Kubernetes replaces the folder behind them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    files: BTreeMap<PathBuf, Option<Stamp>>,
    folder: Option<PathBuf>,
    listed: BTreeMap<PathBuf, Option<Stamp>>,
}

/// One file; a change of what it holds, of who owns it or of who may read it changes this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    place: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// `None` if it cannot be looked at.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Stamp {
            place: (metadata.dev(), metadata.ino()),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

impl Snapshot {
    /// Of a configuration without a folder of input files, or with one that may not be there yet.
    pub(super) fn new(folder: Option<PathBuf>) -> Self {
        Snapshot {
            folder,
            ..Snapshot::default()
        }
    }

    /// Adds a file that is about to be read.
    pub(super) fn add(&mut self, path: &Path) {
        self.files.insert(path.to_owned(), Stamp::of(path));
    }

    /// Adds what somebody has looked at.
    pub(super) fn extend(&mut self, files: BTreeMap<PathBuf, Option<Stamp>>) {
        self.files.extend(files);
    }

    /// Lists the input files, which are about to be read. A folder that is missing holds none.
    pub(super) fn list(&mut self) -> io::Result<Vec<PathBuf>> {
        let Some(folder) = &self.folder else {
            return Ok(vec![]);
        };
        let files = list(folder)?;
        self.listed = stamps(&files);
        Ok(files)
    }

    /// The same files as they are now. Blocks on the disk.
    #[must_use]
    pub fn again(&self) -> Self {
        let listed = self.folder.as_deref().map(list);
        let listed = listed.and_then(Result::ok).unwrap_or_default();
        Snapshot {
            files: stamps(self.files.keys()),
            folder: self.folder.clone(),
            listed: stamps(&listed),
        }
    }

    /// Whether each of the files that are always read is a plain one: another, such as a pipe, can be read once only.
    pub fn can_be_read_again(&self) -> bool {
        let mut files = self.files.keys();
        !files.any(|path| fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()))
    }
}

fn stamps<'a>(files: impl IntoIterator<Item = &'a PathBuf>) -> BTreeMap<PathBuf, Option<Stamp>> {
    let stamped = |path: &PathBuf| (path.clone(), Stamp::of(path));
    files.into_iter().map(stamped).collect()
}

/// The files in the folder that are read, in the order of their names: `*.yaml`, but for hidden ones, which editors and Kubernetes make.
fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(vec![]),
        entries => entries?,
    };
    let mut files = BTreeSet::new();
    for entry in entries {
        let name = entry?.file_name();
        let path = folder.join(&name);
        let hidden = name.as_encoded_bytes().starts_with(b".");
        if !hidden && path.extension().is_some_and(|kind| kind == "yaml") {
            files.insert(path);
        }
    }
    Ok(files.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_change_of_the_files_makes_another_snapshot() {
        let root = tempfile::tempdir().unwrap();
        let (main, folder) = (
            root.path().join("config.yaml"),
            root.path().join("inputs.d"),
        );
        fs::write(&main, "a").unwrap();
        let mut snapshot = Snapshot::new(Some(folder.clone()));
        snapshot.add(&main);
        assert_eq!(snapshot.list().unwrap(), Vec::<PathBuf>::new());
        let mut changed = |expected: bool, change: &dyn Fn()| {
            change();
            let next = snapshot.again();
            assert_eq!(next != snapshot, expected);
            snapshot = next;
        };
        changed(false, &|| {});
        changed(true, &|| fs::write(&main, "ab").unwrap());
        changed(true, &|| fs::remove_file(&main).unwrap());
        changed(true, &|| fs::write(&main, "ab").unwrap());
        changed(false, &|| fs::create_dir(&folder).unwrap());
        changed(false, &|| fs::write(folder.join(".a.yaml"), "").unwrap());
        changed(false, &|| fs::write(folder.join("a.yml"), "").unwrap());
        changed(true, &|| fs::write(folder.join("a.yaml"), "").unwrap());
        changed(true, &|| {
            fs::rename(folder.join("a.yaml"), folder.join("b.yaml")).unwrap();
        });
    }

    #[test]
    fn the_swap_of_a_link_is_a_change_of_each_file_behind_it() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path();
        for (version, text) in [("..1", "old"), ("..2", "new")] {
            fs::create_dir(folder.join(version)).unwrap();
            fs::write(folder.join(version).join("a.yaml"), text).unwrap();
        }
        symlink("..1", folder.join("..data")).unwrap();
        symlink("..data/a.yaml", folder.join("a.yaml")).unwrap();
        let mut snapshot = Snapshot::new(Some(folder.to_owned()));
        assert_eq!(snapshot.list().unwrap(), [folder.join("a.yaml")]);
        symlink("..2", folder.join("..data_tmp")).unwrap();
        assert_eq!(snapshot.again(), snapshot);
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
        assert_ne!(snapshot.again(), snapshot);
    }
}
