//! Ids, names and file names: what the documentation allows, and where a relative file name points to.

use std::env;
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use super::reader::Field;
use super::scalar;
use super::words::quoted;

/// The folder of certificates and keys.
pub(super) const CERTIFICATES: &str = "certs";

/// The lengths that the documentation allows for the name of a certificate or key file.
const FILE_NAME_LENGTHS: std::ops::RangeInclusive<usize> = 4..=20;

/// An id or name as a value; one longer than documented is kept, since the original keeps it.
pub(super) fn id(field: &Field<'_>, length_max: usize) -> Option<String> {
    let text = field.text()?;
    let name = checked(field, text.trim())?;
    if name.len() > length_max {
        field.warning(format!(
            "{} is longer than the {length_max} characters that the documentation allows; it is used as it is",
            quoted(&name)
        ));
    }
    Some(name)
}

/// A name of the operator's choosing that is the key itself.
pub(super) fn of_key(field: &Field<'_>) -> Option<String> {
    checked(field, field.key())
}

fn checked(field: &Field<'_>, text: &str) -> Option<String> {
    match scalar::name(text) {
        Ok((name, changed)) => {
            if changed {
                field.warning(format!(
                    "{} holds `.`, `#` or a space: it is known as {} in the state folder and in the log",
                    quoted(text),
                    quoted(&name)
                ));
            }
            Some(name)
        }
        Err(reason) => {
            field.mistake(format!("{} {reason}", quoted(text)));
            None
        }
    }
}

/// As [`file`], for those whose length the documentation limits.
pub(super) fn documented_file(field: &Field<'_>, folder: &str) -> Option<PathBuf> {
    let path = file(field, folder)?;
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    if !FILE_NAME_LENGTHS.contains(&name.chars().count()) {
        field.warning(format!(
            "{} is not of the {} to {} characters that the documentation allows; it is used as it is",
            quoted(name),
            FILE_NAME_LENGTHS.start(),
            FILE_NAME_LENGTHS.end()
        ));
    }
    Some(path)
}

/// A file; a relative name is looked up under `folder`, unless it begins with that folder already. Where systemd has loaded that folder as
/// credentials (`LoadCredential=certs:…`), the file that it has put there is used.
pub(super) fn file(field: &Field<'_>, folder: &str) -> Option<PathBuf> {
    let text = field.text()?;
    if text.trim().contains(char::is_control) {
        field.mistake("the name of a file is needed here, and this is of several lines: put what it holds into a file");
        return None;
    }
    let parts = Path::new(text.trim()).components();
    let path: PathBuf = parts.filter(|part| *part != Component::CurDir).collect();
    let path = if path.starts_with(folder) {
        path
    } else {
        Path::new(folder).join(path)
    };
    let loaded = env::var_os("CREDENTIALS_DIRECTORY").filter(|_| path.is_relative());
    let loaded = loaded.map(|directory| as_credential(Path::new(&directory), &path));
    Some(loaded.filter(|loaded| loaded.exists()).unwrap_or(path))
}

/// Where systemd puts a file of a folder that it loads as credentials: `certs/a/b.key` becomes `certs_a_b.key` (`systemd.exec(5)`).
fn as_credential(directory: &Path, path: &Path) -> PathBuf {
    let parts: Vec<_> = path.iter().collect();
    directory.join(parts.join(OsStr::new("_")))
}
