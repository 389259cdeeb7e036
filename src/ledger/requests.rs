//! When requests to Microsoft Graph were made: `state/graph-requests`, a line for each with the milliseconds since 1970 and the tenant.
//!
//! Every command notes its requests here, under a lock, so that all keep one budget together, over restarts too. A line that is none counts for
//! nothing: at the worst a few requests too many are made, which Graph refuses and nothing is lost by.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::file;

const FILE: &str = "graph-requests";

/// The file of a state folder.
#[derive(Clone, Debug)]
pub struct RequestFile {
    path: PathBuf,
}

impl RequestFile {
    /// That of the state folder at `folder`, which need not be locked: every command writes it, also beside a running collector.
    pub fn of(folder: &Path) -> Self {
        RequestFile {
            path: folder.join(FILE),
        }
    }

    /// How many requests of `tenant` were made in the `period` before `now`. Where there is no file, none is known of.
    ///
    /// # Errors
    ///
    /// If the file cannot be locked or read.
    pub fn made(&self, tenant: &str, period: Duration, now: DateTime<Utc>) -> io::Result<usize> {
        let mut file = match file::open(&self.path, File::options().read(true)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(error),
        };
        file.lock_shared()?;
        let period = i64::try_from(period.as_millis()).unwrap_or(i64::MAX);
        let stamps = read(&mut file)?;
        let now = now.timestamp_millis();
        let counts = |(at, of): &&(i64, String)| of == tenant && now - (*at).min(now) < period;
        Ok(stamps.iter().filter(counts).count())
    }

    /// Notes a request of `tenant` at `now` and syncs, if fewer than `most` were made in the `period` before; else tells how long to wait.
    ///
    /// # Errors
    ///
    /// If the file cannot be locked, read or written.
    pub fn charge(
        &self,
        tenant: &str,
        most: u32,
        period: Duration,
        now: DateTime<Utc>,
    ) -> io::Result<Option<Duration>> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = file::open(&self.path, &mut options)?;
        file.lock()?;
        let now = now.timestamp_millis();
        let period = i64::try_from(period.as_millis()).unwrap_or(i64::MAX);
        let mut stamps = read(&mut file)?;
        // One of the future was made by a clock that was ahead: it counts from now on.
        for (at, _) in &mut stamps {
            *at = (*at).min(now);
        }
        stamps.retain(|(at, _)| now - *at < period);
        let own = || {
            { stamps.iter() }
                .filter(|(_, of)| of == tenant)
                .map(|(at, _)| *at)
        };
        let too_many = (own().count() + 1).saturating_sub(most.max(1) as usize);
        if let Some(nth) = too_many.checked_sub(1) {
            let frees = own().nth(nth).unwrap_or(now) + period - now;
            let wait = u64::try_from(frees).unwrap_or_default().max(1);
            return Ok(Some(Duration::from_millis(wait)));
        }
        stamps.push((now, tenant.to_owned()));
        write(&mut file, &stamps)?;
        Ok(None)
    }

    /// All requests of `tenant` that are noted, as [`Self::add`] takes them.
    pub(super) fn all_of(&self, tenant: &str) -> io::Result<Vec<(i64, String)>> {
        let mut file = match file::open(&self.path, File::options().read(true)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
            Err(error) => return Err(error),
        };
        file.lock_shared()?;
        let mut stamps = read(&mut file)?;
        stamps.retain(|(_, of)| of == tenant);
        Ok(stamps)
    }

    /// Notes requests that were made elsewhere, each once.
    pub(super) fn add(&self, made: &[(i64, String)]) -> io::Result<()> {
        if made.is_empty() {
            return Ok(());
        }
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = file::open(&self.path, &mut options)?;
        file.lock()?;
        let mut stamps = read(&mut file)?;
        let new = made.iter().filter(|stamp| !stamps.contains(stamp));
        let new: Vec<_> = new.cloned().collect();
        stamps.extend(new);
        stamps.sort();
        write(&mut file, &stamps)
    }
}

/// Writes all requests anew, and syncs.
fn write(file: &mut File, stamps: &[(i64, String)]) -> io::Result<()> {
    let mut text = String::new();
    for (at, of) in stamps {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{at} {of}");
    }
    file.rewind()?;
    file.write_all(text.as_bytes())?;
    file.set_len(text.len() as u64)?;
    file.sync_data()
}

/// The requests in the file, oldest first.
fn read(file: &mut File) -> io::Result<Vec<(i64, String)>> {
    let mut bytes = vec![];
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let stamp = |line: &str| {
        let (at, tenant) = line.split_once(' ')?;
        Some((at.parse().ok()?, tenant.to_owned()))
    };
    let mut stamps: Vec<_> = text.lines().filter_map(stamp).collect();
    stamps.sort();
    Ok(stamps)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_mins(5);

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_770_000_000 + second, 0).unwrap()
    }

    #[test]
    fn no_period_has_more_than_it_may_whoever_asks() {
        let folder = tempfile::tempdir().unwrap();
        let mut made = vec![];
        let mut now = 0;
        while made.len() < 500 {
            // Another process each time.
            let file = RequestFile::of(folder.path());
            match file.charge("t", 90, PERIOD, at(now)).unwrap() {
                None => made.push(now),
                Some(wait) => now += i64::try_from(wait.as_secs()).unwrap().max(1),
            }
        }
        for (nth, first) in made.iter().enumerate() {
            let within = made[nth..]
                .iter()
                .take_while(|at| **at < first + 300)
                .count();
            assert!(within <= 90, "{within} from {first}");
        }
        assert!(now <= 300 * 6, "{now}");
    }

    #[test]
    fn requests_that_were_made_elsewhere_count_once() {
        let folder = tempfile::tempdir().unwrap();
        let (here, there) = (folder.path().join("here"), folder.path().join("there"));
        let [here, there] = [&here, &there].map(|folder| {
            std::fs::create_dir(folder).unwrap();
            RequestFile::of(folder)
        });
        for (tenant, second) in [("a", 0), ("b", 1), ("a", 2)] {
            assert_eq!(there.charge(tenant, 90, PERIOD, at(second)).unwrap(), None);
        }
        here.charge("a", 90, PERIOD, at(3)).unwrap();
        for _ in 0..2 {
            here.add(&there.all_of("a").unwrap()).unwrap();
            let made = |tenant| here.made(tenant, PERIOD, at(4)).unwrap();
            assert_eq!((made("a"), made("b")), (3, 0));
        }
    }

    #[test]
    fn tenants_do_not_share_and_a_clock_that_was_ahead_passes() {
        let folder = tempfile::tempdir().unwrap();
        let file = RequestFile::of(folder.path());
        let charge = |tenant: &str, now| file.charge(tenant, 1, PERIOD, at(now)).unwrap();
        let made = |now| file.made("a", PERIOD, at(now)).unwrap();
        assert_eq!(made(0), 0);
        assert_eq!(charge("a", 86_400), None);
        assert_eq!(made(0), 1);
        assert_eq!(charge("b", 0), None);
        assert_eq!(charge("a", 0), Some(PERIOD));
        assert_eq!(made(300), 0);
        assert_eq!(charge("a", 300), None);
        assert_eq!(charge("a", 301), Some(Duration::from_secs(299)));
        std::fs::write(folder.path().join(FILE), "no stamp\n\u{1}").unwrap();
        assert_eq!(charge("a", 0), None);
    }
}
