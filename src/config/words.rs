//! How values, names and key paths are shown in a message.

/// The longest value that a message repeats whole, in characters.
const SHOWN_MAX: usize = 80;

/// A value as given, between backticks, on one line and not too long.
pub(super) fn quoted(value: &str) -> String {
    format!("`{}`", printable(value))
}

/// Text that cannot break out of its line.
pub(super) fn printable(text: &str) -> String {
    let mut shown = String::new();
    for (position, character) in text.chars().enumerate() {
        if position == SHOWN_MAX {
            shown.push('…');
            break;
        }
        if character.is_control() || matches!(character, '\u{2028}' | '\u{2029}') {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// A key path with one more key.
pub(super) fn joined(path: &str, key: &str) -> String {
    let key = printable(key);
    if path.is_empty() {
        key
    } else {
        format!("{path}.{key}")
    }
}

/// `a`, `b` and `c`.
pub(super) fn listed(names: &[&str], last: &str) -> String {
    match names {
        [] => String::new(),
        [name] => quoted(name),
        [names @ .., end] => {
            let names: Vec<_> = names.iter().map(|name| quoted(name)).collect();
            format!("{} {last} {}", names.join(", "), quoted(end))
        }
    }
}

/// The known name that `given` was probably meant to be.
pub(super) fn nearest<'n>(given: &str, known: &[&'n str]) -> Option<&'n str> {
    let given = given.to_lowercase();
    known
        .iter()
        .map(|name| (strsim::jaro_winkler(&given, &name.to_lowercase()), *name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}
