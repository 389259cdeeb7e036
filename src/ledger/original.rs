//! What the original collector has left in the state folder: files that it wrote at each pull, so that their time of change tells when
//! it last collected. They are looked at and never read, written or removed, so that the way back to the original stays open.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::LedgerError;

/// A pull may have begun so long before its file was written.
const MARGIN: TimeDelta = TimeDelta::minutes(10);

/// The original's files, one for each of its services; which file is whose cannot be told from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Original {
    /// How many files there are.
    pub files: usize,
    /// When the first of them was last written.
    pub oldest: DateTime<Utc>,
    /// When the last of them was last written.
    pub newest: DateTime<Utc>,
}

impl Original {
    /// The original's files in the state folder at `path`; `None` if there are none.
    ///
    /// # Errors
    ///
    /// If the folder is there and cannot be read.
    pub fn find(path: &Path) -> Result<Option<Self>, LedgerError> {
        let written = files(path)?.into_iter().map(|(_, written)| written);
        Ok(written.fold(None, |found: Option<Self>, written| {
            let first = Self {
                files: 0,
                oldest: written,
                newest: written,
            };
            let found = found.unwrap_or(first);
            Some(Self {
                files: found.files + 1,
                oldest: found.oldest.min(written),
                newest: found.newest.max(written),
            })
        }))
    }

    /// Puts empty files of the same names and times into the folder `to`, where they tell the same.
    ///
    /// # Errors
    ///
    /// If a folder cannot be read or written.
    pub(super) fn copy(from: &Path, to: &Path) -> Result<(), LedgerError> {
        for (name, written) in files(from)? {
            let path = to.join(name);
            let copy = || File::create(&path)?.set_modified(written.into());
            copy().map_err(|cause| LedgerError::io("write", &path, cause))?;
        }
        Ok(())
    }

    /// What any of its services has collected for certain, if they stayed `delay` behind the present: everything before this instant.
    ///
    /// By the oldest file, since it may be that of any service. What lies after it comes twice from those that had got further.
    pub fn collected(&self, delay: Duration, now: DateTime<Utc>) -> DateTime<Utc> {
        let delay = TimeDelta::from_std(delay).unwrap_or_default();
        self.oldest.min(now) - delay - MARGIN
    }
}

/// The files that have its names, and when they were written.
fn files(path: &Path) -> Result<Vec<(OsString, DateTime<Utc>)>, LedgerError> {
    let read = |cause| LedgerError::io("read", path, cause);
    let mut files = vec![];
    if !path.exists() {
        return Ok(files);
    }
    for entry in fs::read_dir(path).map_err(read)? {
        let entry = entry.map_err(read)?;
        if !is_its_name(&entry.file_name().to_string_lossy()) {
            continue;
        }
        let metadata = entry.metadata().map_err(read)?;
        if metadata.is_file() {
            let written = metadata.modified().map_err(read)?;
            files.push((entry.file_name(), written.into()));
        }
    }
    Ok(files)
}

/// 32 hexadecimal digits, and no extension.
fn is_its_name(name: &str) -> bool {
    name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "0123456789abcdef0123456789abcdef";

    fn at(time: &str) -> DateTime<Utc> {
        format!("2026-03-10T{time}Z").parse().unwrap()
    }

    fn write(folder: &Path, name: &str, time: &str) {
        let file = File::create(folder.join(name)).unwrap();
        file.set_modified(at(time).into()).unwrap();
    }

    #[test]
    fn only_files_of_its_names_are_its_files() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(
            Original::find(&folder.path().join("missing")).unwrap(),
            None
        );
        for name in ["lock", &NAME[1..], &format!("{NAME}.json"), &"g".repeat(32)] {
            write(folder.path(), name, "12:00:00");
        }
        fs::create_dir(folder.path().join("f".repeat(32))).unwrap();
        assert_eq!(Original::find(folder.path()).unwrap(), None);

        write(folder.path(), NAME, "12:00:01");
        write(folder.path(), &NAME.replace('0', "A"), "11:00:00");
        write(folder.path(), &NAME.replace('0', "1"), "12:00:00");
        let expected = Original {
            files: 3,
            oldest: at("11:00:00"),
            newest: at("12:00:01"),
        };
        assert_eq!(Original::find(folder.path()).unwrap(), Some(expected));
    }

    #[test]
    fn the_oldest_file_tells_what_is_collected_and_one_of_the_future_tells_nothing() {
        let original = Original {
            files: 2,
            oldest: at("12:00:00"),
            newest: at("13:00:00"),
        };
        let check = |delay, now, expected| {
            let collected = original.collected(Duration::from_secs(delay), at(now));
            assert_eq!(collected, at(expected));
        };
        check(3_600, "14:00:00", "10:50:00");
        check(3_600, "11:00:00", "09:50:00");
    }
}
