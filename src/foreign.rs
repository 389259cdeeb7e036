//! The one door for text that somebody else wrote: bodies, headers, links, names in certificates, errors of libraries that quote them.
//!
//! [`shown`] is for text that comes in: it removes this process's secrets, also pieces of them and in other spellings, removes the characters
//! that steer a terminal or a text's direction, and shortens what is left. The order matters: a secret that is cut first is found no more.
//!
//! [`printable`] is for everything that goes out, our own words included: the log, the messages to Devo, the page, the status, `check` and the
//! support bundle. It is the second line: it removes whole secrets and the same characters, and shortens nothing.
//!
//! A secret is known here from [`hide`] on, until what that returned is dropped.

mod secrets;
mod spelling;

use std::borrow::Cow;

pub(crate) use secrets::{Hidden, hide};

/// The most characters of a foreign text that are shown, unless the caller says otherwise.
const SHOWN_MAX: usize = 300;

/// No more of a foreign text is looked at.
const READ_MAX_BYTES: usize = 16 * 1024;

/// What stands for a character that is not printed.
const REPLACEMENT: char = char::REPLACEMENT_CHARACTER;

/// A foreign text as it may be shown: on one line, without secrets, at most 300 characters.
pub(crate) fn shown(text: &str) -> String {
    shown_up_to(SHOWN_MAX, text)
}

/// The same, of at most `max` characters.
pub(crate) fn shown_up_to(max: usize, text: &str) -> String {
    let text = &text[..text.floor_char_boundary(READ_MAX_BYTES)];
    let text = secrets::without_pieces(text);
    let visible = text.chars().filter_map(|character| match character {
        _ if !steers(character) => Some(character),
        _ if separates(character) => Some(' '),
        _ => None,
    });
    let visible: String = visible.collect();
    let words: Vec<&str> = visible.split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(max) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// A text that is about to be printed, without whole secrets and without characters that steer a terminal. Its lines stay lines.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains('\n') {
        return printable_line(text);
    }
    // Line by line, so that a long log takes little memory beside it.
    let lines = text.split_inclusive('\n').map(printable_line);
    lines.collect::<String>().into()
}

fn printable_line(text: &str) -> Cow<'_, str> {
    let text = secrets::without_whole(text);
    let odd = |character: char| steers(character) && !matches!(character, '\n' | '\t');
    if !text.contains(odd) {
        return text;
    }
    let characters = text.chars();
    let characters = characters.map(|one| if odd(one) { REPLACEMENT } else { one });
    characters.collect()
}

/// Whether a character moves a terminal's cursor, changes the direction of a text, or is not seen at all: it makes a text look other than it
/// is.
pub(crate) fn steers(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' // soft hyphen
            | '\u{61c}' // Arabic letter mark
            | '\u{180e}' // Mongolian vowel separator
            | '\u{200b}'..='\u{200f}' // zero width, left-to-right and right-to-left mark
            | '\u{2028}'..='\u{202e}' // line and paragraph separator, embeddings and overrides
            | '\u{2060}'..='\u{206f}' // word joiner, invisible operators, isolates
            | '\u{feff}' // byte order mark
            | '\u{fff9}'..='\u{fffb}' // interlinear annotation
            | '\u{e0000}'..='\u{e007f}' // tags
        )
}

/// Whether a character that steers stands between words, so that a space takes its place.
fn separates(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_short_and_on_one_line() {
        assert_eq!(shown(" a\r\n\tb\u{1b}[31m "), "a b [31m");
        assert_eq!(
            shown("one\u{2028}two\u{2029}three\u{85}four"),
            "one two three four"
        );
        assert_eq!(shown(&"é ".repeat(1_000)).chars().count(), 301);
        assert_eq!(shown(&"é".repeat(300)).chars().count(), 300);
        assert_eq!(shown_up_to(3, "abcd"), "abc…");
        assert!(shown(&"é".repeat(READ_MAX_BYTES)).ends_with("é…"));
    }

    #[test]
    fn no_character_that_steers_comes_through() {
        let steering = [
            '\0',
            '\u{7}',
            '\u{8}',
            '\u{1b}',
            '\u{7f}',
            '\u{80}',
            '\u{9b}',
            '\u{ad}',
            '\u{61c}',
            '\u{180e}',
            '\u{200b}',
            '\u{200d}',
            '\u{200e}',
            '\u{200f}',
            '\u{2028}',
            '\u{2029}',
            '\u{202a}',
            '\u{202b}',
            '\u{202c}',
            '\u{202d}',
            '\u{202e}',
            '\u{2060}',
            '\u{2066}',
            '\u{2067}',
            '\u{2068}',
            '\u{2069}',
            '\u{206f}',
            '\u{feff}',
            '\u{fffa}',
            '\u{e0041}',
        ];
        for character in steering {
            let text = format!("a{character}b\nc");
            let shown = shown(&text);
            assert!(shown == "a b c" || shown == "ab c", "{shown:?}");
            assert_eq!(printable(&text), "a\u{fffd}b\nc");
        }
        for usual in ["naïve", "日本語", "עברית", "👍", "a\tb\nc", "“…”", ""] {
            assert_eq!(printable(usual), usual);
        }
    }

    #[test]
    fn a_secret_is_removed_before_the_text_is_shortened() {
        let secret = "cutting-Edge~8Q1!";
        let _hidden = hide(secret);
        for room in 0..=secret.len() + 10 {
            let text = format!("{}{secret} and more of it", "x".repeat(SHOWN_MAX - room));
            let shown = shown(&text);
            assert!(!shown.contains("cutti"), "{shown}");
        }
    }

    #[test]
    fn a_character_that_is_removed_does_not_put_a_secret_together() {
        let _hidden = hide("zero-Width~77");
        for text in [
            "zero-\u{200b}Width~77",
            "z\u{202e}e\u{202c}r\u{feff}o-Width~77",
            "zero-Wid\u{0}th~77",
            "zero-Wid\r\nth~77",
        ] {
            assert_eq!(
                shown(&format!("it is {text}.")),
                "it is (removed).",
                "{text:?}"
            );
        }
    }
}
