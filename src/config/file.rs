//! The files themselves: where they are looked for, and their text.

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::finding::Findings;
use super::input_files;
use super::tree::Place;
use crate::privileges::explain_denied;

const FOLDER: &str = "config";
const DEFAULT: &str = "config.yaml";
const JOB: &str = "/etc/devo/job/job_config.json";
const COLLECTOR: &str = "/etc/devo/collector/collector_config.json";

/// A configuration of every service of a hundred inputs stays well below this.
const SIZE_MAX: u64 = 1024 * 1024;

/// Where the configuration is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// One file in YAML.
    File(PathBuf),
    /// The two files in JSON that a Devo Collector Server gives to a hosted instance.
    Hosted {
        /// The inputs, and what they change of the collector's settings.
        job: PathBuf,
        /// The collector's settings and outputs.
        collector: PathBuf,
    },
}

/// What the command line and the environment say about where the configuration is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Named<'a> {
    /// The option `--config`.
    pub config: Option<&'a str>,
    /// The variable `CONFIG_FILE`.
    pub variable: Option<&'a str>,
    /// The option `--job_config_loc`.
    pub job: Option<&'a str>,
    /// The option `--collector_config_loc`.
    pub collector: Option<&'a str>,
}

impl Source {
    /// Where the configuration is. The two files of a hosted instance win where both are there, or where an option names one;
    /// otherwise it is the file that `--config` names, or else `CONFIG_FILE`, or else `config.yaml`. A relative name of that is looked
    /// up under `config/`, and as it is if it is only there.
    pub fn locate(named: &Named<'_>) -> Self {
        Self::locate_where(named, Path::exists)
    }

    fn locate_where(named: &Named<'_>, exists: impl Fn(&Path) -> bool) -> Self {
        let job = PathBuf::from(named.job.unwrap_or(JOB));
        let collector = PathBuf::from(named.collector.unwrap_or(COLLECTOR));
        let asked = named.job.is_some() || named.collector.is_some();
        if asked || (exists(&job) && exists(&collector)) {
            return Self::Hosted { job, collector };
        }
        let given = [named.config, named.variable]
            .into_iter()
            .flatten()
            .find(|name| !name.trim().is_empty());
        let name = Path::new(given.unwrap_or(DEFAULT));
        let usual = Path::new(FOLDER).join(name);
        if name.is_absolute() || (!exists(&usual) && exists(name)) {
            return Self::File(name.to_path_buf());
        }
        if !exists(&usual) && (exists(&job) || exists(&collector)) {
            // One of two: what is missing is the other, not this one.
            return Self::Hosted { job, collector };
        }
        Self::File(usual)
    }

    /// The folder beside it whose files hold further inputs; the form of a hosted instance has none.
    pub(super) fn inputs_folder(&self) -> Option<PathBuf> {
        match self {
            Self::File(path) => Some(path.with_file_name(input_files::FOLDER)),
            Self::Hosted { .. } => None,
        }
    }

    /// The files that it is made of.
    pub fn files(&self) -> Vec<&Path> {
        match self {
            Self::File(path) => vec![path],
            Self::Hosted { job, collector } => vec![job, collector],
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(out, "{}", path.display()),
            Self::Hosted { job, collector } => {
                write!(out, "{} and {}", job.display(), collector.display())
            }
        }
    }
}

impl Source {
    /// The texts of its files, less byte-order marks; `None` after a mistake.
    pub(super) fn texts(&self, findings: &Findings) -> Option<Vec<Zeroizing<String>>> {
        let missing = match self {
            Self::File(_) => {
                "create it after the example config/config.yaml, or name another with `--config` or CONFIG_FILE (a relative name is \
                 looked up under config/)"
            }
            Self::Hosted { .. } => {
                "a hosted instance needs both job_config.json and collector_config.json; `--job_config_loc` and \
                 `--collector_config_loc` name other places for them"
            }
        };
        let files = self.files();
        let texts: Vec<_> = files
            .into_iter()
            .enumerate()
            .map(|(file, path)| text(file, path, missing, findings))
            .collect();
        texts.into_iter().collect()
    }
}

pub(super) fn text(
    file: usize,
    path: &Path,
    missing: &str,
    findings: &Findings,
) -> Option<Zeroizing<String>> {
    let place = Place::whole(file);
    let mut bytes = match bytes(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            findings.mistake(place, "", unreadable(path, &error, missing));
            return None;
        }
    };
    if bytes.len() as u64 > SIZE_MAX {
        findings.mistake(
            place,
            "",
            "the file is larger than 1 MiB: this is not a configuration",
        );
        return None;
    }
    if bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]) {
        findings.mistake(place, "", "the file is in UTF-16: save it as UTF-8");
        return None;
    }
    let mut text = match String::from_utf8(std::mem::take(&mut *bytes)) {
        Ok(text) => Zeroizing::new(text),
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let bytes = Zeroizing::new(error.into_bytes());
            let line = memchr::memchr_iter(b'\n', &bytes[..valid]).count() + 1;
            findings.mistake(
                Place::on(file, line),
                "",
                "a character here is not UTF-8: save the file as UTF-8",
            );
            return None;
        }
    };
    if text.starts_with('\u{FEFF}') {
        text.remove(0);
    }
    Some(text)
}

/// What is in the file, of which more than [`SIZE_MAX`] is not read. Room for all of it is made first: what a growing text leaves
/// behind is not wiped.
fn bytes(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path)?;
    let length = file.metadata()?.len().min(SIZE_MAX);
    let room = usize::try_from(length).unwrap_or_default() + 64;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(SIZE_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unreadable(path: &Path, error: &io::Error, missing: &str) -> String {
    match error.kind() {
        ErrorKind::NotFound => format!("there is no such file: {missing}"),
        ErrorKind::IsADirectory => {
            "this is a folder, and a file is needed: docker creates one where a mounted file does \
                                    not exist, so check the volume's left side"
                .to_owned()
        }
        ErrorKind::PermissionDenied => explain_denied(path),
        _ => format!("cannot be read: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn located(named: &Named<'_>, existing: &[&str]) -> Source {
        Source::locate_where(named, |path| {
            existing.iter().any(|name| Path::new(name) == path)
        })
    }

    #[test]
    fn a_relative_name_is_looked_up_under_config_first() {
        let check = |config, variable, existing: &[&str], expected: &str| {
            let named = Named {
                config,
                variable,
                ..Named::default()
            };
            assert_eq!(
                located(&named, existing),
                Source::File(PathBuf::from(expected))
            );
        };
        check(None, None, &[], "config/config.yaml");
        check(None, None, &["config.yaml"], "config.yaml");
        check(None, Some(""), &[], "config/config.yaml");
        check(None, Some("a.yaml"), &[], "config/a.yaml");
        check(
            Some("b.yaml"),
            Some("a.yaml"),
            &["b.yaml", "config/b.yaml"],
            "config/b.yaml",
        );
        check(
            Some("config/b.yaml"),
            None,
            &["config/b.yaml"],
            "config/b.yaml",
        );
        check(Some("/etc/b.yaml"), None, &[], "/etc/b.yaml");
    }

    #[test]
    fn the_two_files_of_a_hosted_instance_win_and_one_alone_does_only_where_nothing_else_is_there()
    {
        let check = |named: Named<'_>, existing: &[&str], expected: &str| {
            assert_eq!(located(&named, existing).to_string(), expected);
        };
        let nothing = Named::default();
        let config = Named {
            config: Some("a.yaml"),
            ..nothing
        };
        let both = format!("{JOB} and {COLLECTOR}");
        check(nothing, &[JOB, COLLECTOR, "config/config.yaml"], &both);
        check(config, &[JOB, COLLECTOR, "config/a.yaml"], &both);
        check(
            config,
            &[COLLECTOR, "config/a.yaml", "config/config.yaml"],
            "config/a.yaml",
        );
        check(nothing, &[JOB, "config/config.yaml"], "config/config.yaml");
        check(nothing, &[JOB], &both);
        let job = Named {
            job: Some("job.json"),
            ..config
        };
        check(
            job,
            &["config/a.yaml"],
            &format!("job.json and {COLLECTOR}"),
        );
        let collector = Named {
            collector: Some("c.json"),
            ..nothing
        };
        check(collector, &[], &format!("{JOB} and c.json"));
    }
}
