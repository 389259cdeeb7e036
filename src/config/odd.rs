//! Characters that no one types, and that come along when a value is pasted from a document, a chat or a web page.

/// What an odd character is called, and what makes it one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Odd {
    /// Looks like a blank, or like nothing.
    Blank(&'static str),
    /// Looks like a quote.
    Quote,
}

/// What is odd about a character, if anything is.
pub(super) fn of(character: char) -> Option<Odd> {
    Some(match character {
        '\u{A0}' | '\u{2007}' | '\u{202F}' => Odd::Blank("a non-breaking space"),
        '\u{1680}'
        | '\u{2000}'..='\u{2006}'
        | '\u{2008}'..='\u{200A}'
        | '\u{205F}'
        | '\u{3000}' => Odd::Blank("a special space"),
        '\u{AD}' | '\u{200B}'..='\u{200F}' | '\u{2060}'..='\u{2064}' | '\u{FEFF}' => {
            Odd::Blank("an invisible character")
        }
        '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => {
            Odd::Blank("a character that turns the direction of the text")
        }
        '\u{85}' | '\u{2028}' | '\u{2029}' => Odd::Blank("a special line break"),
        '\t' => Odd::Blank("a tab"),
        '\u{2018}'..='\u{201F}'
        | '\u{AB}'
        | '\u{BB}'
        | '\u{2032}'
        | '\u{2033}'
        | '\u{FF02}'
        | '\u{FF07}' => Odd::Quote,
        _ => return None,
    })
}

/// The first odd blank of a text: which character it is, counted from 1, and what it is.
pub(super) fn blank(text: &str) -> Option<(usize, String)> {
    text.chars()
        .zip(1..)
        .find_map(|(character, position)| match of(character) {
            Some(Odd::Blank(name)) => Some((position, described(name, character))),
            _ => None,
        })
}

/// Such as `a tab (U+0009)`.
pub(super) fn described(name: &str, character: char) -> String {
    format!("{name} (U+{:04X})", u32::from(character))
}

/// The text without the blanks and one pair of quotes around it, as files of variables often have them.
pub(crate) fn unquoted(text: &str) -> &str {
    let is_blank =
        |character: char| character.is_whitespace() || matches!(of(character), Some(Odd::Blank(_)));
    let bare = text.trim_matches(is_blank);
    let pairs = [
        ('"', '"'),
        ('\'', '\''),
        ('\u{201C}', '\u{201D}'),
        ('\u{2018}', '\u{2019}'),
    ];
    let within = pairs.into_iter().find_map(|(open, close)| {
        let within = bare.strip_prefix(open)?.strip_suffix(close)?;
        Some(within.trim_matches(is_blank))
    });
    within.unwrap_or(bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_blanks_around_a_text_are_found() {
        let check = |text, expected| assert_eq!(unquoted(text), expected, "{text:?}");
        check("a", "a");
        check("a 'b' \"c\"", "a 'b' \"c\"");
        check("\"a b\"", "a b");
        check("'a'\r", "a");
        check(" \" a \" ", "a");
        check("\u{201C}a\u{201D}", "a");
        check("\u{A0}a\u{200B}", "a");
        check("'a\"", "'a\"");
        check("'", "'");
        check("''", "");
    }

    #[test]
    fn the_first_odd_blank_is_counted_in_characters() {
        assert_eq!(
            blank("üb\u{A0}er"),
            Some((3, "a non-breaking space (U+00A0)".to_owned()))
        );
        assert_eq!(blank("O\u{2019}Brien – 1"), None);
    }
}
