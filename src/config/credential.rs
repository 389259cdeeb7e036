//! One credential: written where it belongs, or kept in a file (`client_secret_file: …`) or a variable of the environment
//! (`client_secret: ${NAME}`), both of which are read once, at the start.
//!
//! What comes from a file or a variable is never repeated in a message, whatever key it is for: it may be the wrong file.

use std::env::{self, VarError};
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::Path;

use secrecy::SecretString;
use zeroize::Zeroizing;

use super::reader::{Field, Section, is_placeholder};
use super::tree::Comment;
use super::words::quoted;
use super::{names, odd};
use crate::privileges::explain_denied;

/// Where files of credentials are looked for.
pub(super) const FOLDER: &str = "credentials";

/// No secret is longer: a file that is, is another one.
const FILE_MAX_BYTES: u64 = 64 * 1024;

/// A credential and where it may come from.
pub(super) struct Credential<'a> {
    place: Field<'a>,
    file: Field<'a>,
}

/// A value, and where it stood.
struct Value {
    text: Zeroizing<String>,
    origin: Origin,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// In the configuration, so that messages may repeat it.
    Place,
    File,
    Variable,
}

impl<'a> Credential<'a> {
    /// The one under `key`, or in the file that `file_key` names.
    pub(super) fn of(section: &Section<'a>, key: &'static str, file_key: &'static str) -> Self {
        Self {
            place: section.field(key).without_default(),
            file: section.field(file_key).without_default(),
        }
    }

    /// Whether there is a value, right or wrong.
    pub(super) fn is_given(&self) -> bool {
        self.place.is_given() || self.file.is_given()
    }

    /// The text if `parse` accepts it; its error completes the sentence that the value begins. `None` after a mistake.
    pub(super) fn parse<T>(&self, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let value = self.value()?;
        if value.origin == Origin::Place {
            return self.place.parse(parse);
        }
        parse(odd::unquoted(&value.text))
            .map_err(|reason| self.indirect().mistake(format!("its value {reason}")))
            .ok()
    }

    /// A person's password, which no message repeats. Nearly any text may be one. `None` after a mistake.
    pub(super) fn password(&self) -> Option<SecretString> {
        let value = self.value()?;
        // In a file or in the configuration, what stands there is meant; a file of variables often has quotes and blanks around its values.
        if value.origin == Origin::Variable && odd::unquoted(&value.text) != value.text.as_str() {
            self.place.mistake(
                "the variable's value has quotes or blanks around it, which `docker run --env-file` passes on as they are: remove them, or, if \
                 they belong to the password, put it in a file and name that in `password_file`",
            );
            return None;
        }
        self.secret(&value, &value.text)
    }

    /// An application's secret, which no message repeats. It has no quotes and no blanks around it. `None` after a mistake.
    pub(super) fn application_secret(&self) -> Option<SecretString> {
        let value = self.value()?;
        self.secret(&value, odd::unquoted(&value.text))
    }

    fn secret(&self, value: &Value, text: &str) -> Option<SecretString> {
        let field = if value.origin == Origin::Place {
            &self.place
        } else {
            self.indirect()
        };
        if is_placeholder(text) {
            field.mistake("a placeholder is left in: put your own value in its place");
            return None;
        }
        if value.origin == Origin::Place
            && let Some(Comment { column, spaced }) = self.place.comment()
        {
            let cut =
                format!("YAML cuts the value off before the `#`, character {column} of this line");
            let action = "if it belongs to the secret, put the secret in single quotes; else put the comment on a line of its own";
            if spaced {
                self.place.warning(format!("{cut}: {action}"));
            } else {
                self.place.mistake(format!("{cut}: {action}"));
                return None;
            }
        }
        // Of a value in the configuration without quotes it has been said already, with its line.
        let unsaid = value.origin != Origin::Place || self.place.is_quoted();
        if unsaid && let Some((at, what)) = odd::blank(text.trim_matches([' ', '\t'])) {
            field.mistake(format!(
                "character {at} of the value is {what}, which was probably pasted along: type the value anew"
            ));
            return None;
        }
        Some(SecretString::from(text))
    }

    /// What names the file or the variable.
    fn indirect(&self) -> &Field<'a> {
        if self.file.is_given() {
            &self.file
        } else {
            &self.place
        }
    }

    fn value(&self) -> Option<Value> {
        if self.file.is_given() {
            if self.place.is_given() {
                self.file.mistake(format!(
                    "{} is given as well: keep one of them",
                    quoted(self.place.key())
                ));
                return None;
            }
            let path = names::file(&self.file, FOLDER)?;
            self.file.reads(&path);
            return self.checked(read(&path), Origin::File);
        }
        let text = self.place.scalar()?;
        match variable(text) {
            Some(name) => self.checked(self.environment(name), Origin::Variable),
            None => Some(Value {
                text: Zeroizing::new(text.to_owned()),
                origin: Origin::Place,
            }),
        }
    }

    fn environment(&self, name: &str) -> Result<Zeroizing<String>, String> {
        match env::var(name) {
            Ok(text) => Ok(Zeroizing::new(text)),
            Err(VarError::NotPresent) => Err(format!(
                "the variable {} is not set: set it where the collector is started (`docker run --env {name}`), or, if this is the value \
                 itself, put it in a file and name that in {}",
                quoted(name),
                quoted(self.file.key())
            )),
            Err(VarError::NotUnicode(_)) => {
                Err(format!("the variable {} is not UTF-8", quoted(name)))
            }
        }
    }

    /// A text of one line, or the mistake that it is none.
    fn checked(&self, text: Result<Zeroizing<String>, String>, origin: Origin) -> Option<Value> {
        let text = text.and_then(|text| match text.trim_end_matches(['\r', '\n']) {
            "" => Err("it is empty: put the value into it".to_owned()),
            line if line.contains('\n') => {
                Err("it holds more than one line: put nothing but the value into it".to_owned())
            }
            line => Ok(Zeroizing::new(line.to_owned())),
        });
        match text {
            Ok(text) => Some(Value { text, origin }),
            Err(text) => {
                self.indirect().mistake(text);
                None
            }
        }
    }
}

/// The name in `${NAME}`, if that is the whole text.
pub(super) fn variable(text: &str) -> Option<&str> {
    let name = text.trim().strip_prefix("${")?.strip_suffix('}')?;
    let named = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !name.starts_with(|c: char| c.is_ascii_digit());
    (named && !name.is_empty()).then_some(name)
}

/// The text of a file, less a byte-order mark.
fn read(path: &Path) -> Result<Zeroizing<String>, String> {
    let shown = quoted(&path.display().to_string());
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => format!(
            "there is no file {shown}: a relative name is looked up under {FOLDER}/ (in a container, that folder has to be mounted)"
        ),
        ErrorKind::PermissionDenied => explain_denied(path),
        _ => format!("{shown} cannot be read: {error}"),
    };
    // Looked at before it is opened: to open a pipe would wait for its other end.
    let length = match fs::metadata(path).map_err(failed)? {
        metadata if metadata.is_file() => metadata.len(),
        metadata if metadata.is_dir() => {
            return Err(format!(
                "{shown} is a folder: put the file in its place (Docker makes a folder where a file that is mounted is missing on the host)"
            ));
        }
        _ => return Err(format!("{shown} is no file")),
    };
    if length > FILE_MAX_BYTES {
        return Err(format!(
            "{shown} is larger than 64 KiB: this is not a credential"
        ));
    }
    // Large enough from the start: what a growing one leaves behind is not wiped.
    let room = usize::try_from(length).unwrap_or_default() + 64;
    let mut text = Zeroizing::new(String::with_capacity(room));
    let file = File::open(path).map_err(failed)?;
    match file.take(FILE_MAX_BYTES).read_to_string(&mut text) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            return Err(format!("{shown} is not UTF-8: save it as UTF-8"));
        }
        Err(error) => return Err(failed(error)),
    }
    if text.starts_with('\u{FEFF}') {
        text.remove(0);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_value_names_a_variable() {
        assert_eq!(variable("${A_1}"), Some("A_1"));
        assert_eq!(variable(" ${a} "), Some("a"));
        for text in [
            "${}", "${1A}", "${A", "$A", "x${A}", "${A}x", "${A B}", "${A}${B}",
        ] {
            assert_eq!(variable(text), None, "{text}");
        }
    }
}
