//! What reading a configuration brings to light, in the words that the operator gets to see.
//!
//! Nothing here may hold a secret: whoever reports a finding about a secret leaves its value out.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};

use super::snapshot::Stamp;
use super::tree::Place;

/// One thing to say about a configuration. Printed, it is one line: file, line, key and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file, as it was looked for.
    pub file: PathBuf,
    /// The line, counted from 1, where one is to blame.
    pub line: Option<usize>,
    /// The path of keys from the top of the file, joined by dots; empty for the file as a whole.
    pub key: String,
    /// What is the matter, and what to do about it.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(out, "")
    }
}

impl Finding {
    /// What is the matter with what stands under `key` somewhere in a file.
    pub(crate) fn of_file(file: PathBuf, key: String, text: String) -> Self {
        let line = None;
        Self {
            file,
            line,
            key,
            text,
        }
    }

    fn write(&self, out: &mut fmt::Formatter<'_>, label: &str) -> fmt::Result {
        write!(out, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(out, ":{line}")?;
        }
        write!(out, ": {label}")?;
        if !self.key.is_empty() {
            write!(out, "{}: ", self.key)?;
        }
        write!(out, "{}", self.text)
    }
}

/// Every mistake of a configuration that cannot be used.
///
/// Printed, it is a line for each mistake, and then one for each warning: a misspelt key often explains the one missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes {
    mistakes: Vec<Finding>,
    warnings: Vec<Finding>,
}

impl Mistakes {
    /// These mistakes, in their order.
    pub(crate) fn of(mistakes: Vec<Finding>) -> Self {
        let warnings = vec![];
        Self { mistakes, warnings }
    }

    /// The mistakes, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.mistakes.iter()
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, mistake) in self.mistakes.iter().enumerate() {
            if position > 0 {
                out.write_str("\n")?;
            }
            mistake.write(out, "")?;
        }
        for warning in &self.warnings {
            out.write_str("\n")?;
            warning.write(out, "warning: ")?;
        }
        Ok(())
    }
}

impl Error for Mistakes {}

/// Where the readers of a file put what they find, so that one run finds everything.
pub(super) struct Findings {
    files: Vec<PathBuf>,
    /// What a file has to hold.
    pub(super) needed: &'static str,
    /// The files of credentials that have been read, as they were before.
    credentials: RefCell<BTreeMap<PathBuf, Option<Stamp>>>,
    mistakes: RefCell<Vec<Found>>,
    warnings: RefCell<Vec<Found>>,
    notes: RefCell<Vec<Found>>,
    lenient: Cell<bool>,
    /// The paths of all keys that the readers have asked for.
    #[cfg(test)]
    pub(super) asked: RefCell<std::collections::BTreeSet<String>>,
}

struct Found {
    place: Place,
    key: String,
    text: String,
}

impl Findings {
    /// Nothing found yet in `files`, which places name by their position here.
    pub(super) fn new(files: &[&Path]) -> Self {
        Self {
            files: files.iter().map(|file| file.to_path_buf()).collect(),
            needed: "`globals`, `inputs` and `outputs`, as in the example config/config.yaml",
            credentials: RefCell::default(),
            mistakes: RefCell::default(),
            warnings: RefCell::default(),
            notes: RefCell::default(),
            lenient: Cell::new(false),
            #[cfg(test)]
            asked: RefCell::default(),
        }
    }

    /// The same for a file that holds inputs.
    pub(super) fn of_inputs(file: &Path) -> Self {
        Self {
            needed: "`inputs`, as in the example config/config.yaml, and `outputs` if it has some of its own",
            ..Self::new(&[file])
        }
    }

    /// Notes a file of credentials that is about to be read.
    pub(super) fn reads(&self, path: &Path) {
        let stamp = Stamp::of(path);
        self.credentials.borrow_mut().insert(path.to_owned(), stamp);
    }

    /// The files of credentials that have been read.
    pub(super) fn credentials(&self) -> BTreeMap<PathBuf, Option<Stamp>> {
        self.credentials.borrow().clone()
    }

    /// Reports what keeps the configuration from being used.
    pub(super) fn mistake(&self, place: Place, key: &str, text: impl Into<String>) {
        if self.lenient.get() {
            let text = format!("{} (no harm while the input is not enabled)", text.into());
            return self.warning(place, key, text);
        }
        add(&self.mistakes, place, key, text.into());
    }

    /// Reports what the operator should know of, though the configuration can be used.
    pub(super) fn warning(&self, place: Place, key: &str, text: impl Into<String>) {
        add(&self.warnings, place, key, text.into());
    }

    /// Reports what is only of interest to somebody who debugs.
    pub(super) fn note(&self, place: Place, key: &str, text: impl Into<String>) {
        add(&self.notes, place, key, text.into());
    }

    /// Runs `read`; the mistakes that it reports become warnings.
    pub(super) fn leniently<T>(&self, read: impl FnOnce() -> T) -> T {
        let before = self.lenient.replace(true);
        let result = read();
        self.lenient.set(before);
        result
    }

    /// What was read, with the warnings and notes, if there was no mistake.
    pub(super) fn conclude<T>(
        self,
        config: Option<T>,
    ) -> Result<(T, Vec<Finding>, Vec<Finding>), Mistakes> {
        if config.is_none() && self.mistakes.borrow().is_empty() {
            self.mistake(
                Place::whole(0),
                "",
                "this is not a configuration of the collector",
            );
        }
        let files = &self.files;
        let mistakes = in_order(files, self.mistakes.into_inner());
        let warnings = in_order(files, self.warnings.into_inner());
        let notes = in_order(files, self.notes.into_inner());
        match config {
            Some(config) if mistakes.is_empty() => Ok((config, warnings, notes)),
            _ => Err(Mistakes { mistakes, warnings }),
        }
    }
}

fn add(to: &RefCell<Vec<Found>>, place: Place, key: &str, text: String) {
    let key = key.to_owned();
    to.borrow_mut().push(Found { place, key, text });
}

/// In the order of the files; what concerns one line stays in the order in which it was found.
fn in_order(files: &[PathBuf], mut found: Vec<Found>) -> Vec<Finding> {
    found.sort_by_key(|found| found.place);
    let findings = found.into_iter().map(|Found { place, key, text }| Finding {
        file: files.get(place.file).cloned().unwrap_or_default(),
        line: place.line,
        key,
        text,
    });
    let mut findings: Vec<_> = findings.collect();
    findings.dedup();
    findings
}
