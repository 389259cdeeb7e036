//! The file itself: where it is looked for, and its text.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::finding::Findings;
use crate::privileges::explain_denied;

const FOLDER: &str = "config";
const DEFAULT: &str = "config.yaml";

/// A configuration of every service of a hundred inputs stays well below this.
const SIZE_MAX: u64 = 1024 * 1024;

/// Where the configuration is: the option's value, or else the variable's, or else `config.yaml`. A relative name is
/// looked up under `config/`, and as it is if it is only there.
pub fn locate(option: Option<&str>, variable: Option<&str>) -> PathBuf {
    locate_where(option, variable, Path::exists)
}

fn locate_where(
    option: Option<&str>,
    variable: Option<&str>,
    exists: impl Fn(&Path) -> bool,
) -> PathBuf {
    let given = [option, variable]
        .into_iter()
        .flatten()
        .find(|name| !name.trim().is_empty());
    let name = Path::new(given.unwrap_or(DEFAULT));
    let usual = Path::new(FOLDER).join(name);
    if name.is_absolute() || (!exists(&usual) && exists(name)) {
        name.to_path_buf()
    } else {
        usual
    }
}

/// The file's text, less a byte-order mark; `None` after a mistake.
pub(super) fn text(path: &Path, findings: &Findings) -> Option<String> {
    let bytes = match bytes(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            findings.mistake(None, "", unreadable(path, &error));
            return None;
        }
    };
    if bytes.len() as u64 > SIZE_MAX {
        findings.mistake(
            None,
            "",
            "the file is larger than 1 MiB: this is not a configuration",
        );
        return None;
    }
    if bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]) {
        findings.mistake(None, "", "the file is in UTF-16: save it as UTF-8");
        return None;
    }
    match String::from_utf8(bytes) {
        Ok(text) => Some(
            text.strip_prefix('\u{FEFF}')
                .map(str::to_owned)
                .unwrap_or(text),
        ),
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let before = &error.as_bytes()[..valid];
            let line = memchr::memchr_iter(b'\n', before).count() + 1;
            findings.mistake(
                Some(line),
                "",
                "a character here is not UTF-8: save the file as UTF-8",
            );
            None
        }
    }
}

fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(SIZE_MAX + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unreadable(path: &Path, error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => format!(
            "there is no such file: create it after the example config/config.yaml, or name another with `--config` or \
             CONFIG_FILE (a relative name is looked up under {FOLDER}/)"
        ),
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

    #[test]
    fn a_relative_name_is_looked_up_under_config_first() {
        let check = |option, variable, existing: &[&str], expected: &str| {
            let path = locate_where(option, variable, |path| {
                existing.iter().any(|name| Path::new(name) == path)
            });
            assert_eq!(path, Path::new(expected));
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
}
