//! A text read through the usual encodings, so that one secret is found in all its spellings.
//!
//! Percent-encoding, JSON's and C's escapes and the references of HTML are undone, up to three of them around one another. Letters lose their
//! case, base64 and its variant for URLs become one, and characters that are not seen are skipped. Each byte that is read knows where in the
//! text it comes from.

use std::ops::Range;

use super::steers;

/// So many encodings around one another are undone.
const DEPTH_MAX: usize = 3;

/// A text as it is read.
pub(super) struct Spelled {
    /// What is compared.
    pub(super) bytes: Vec<u8>,
    /// Where in the text each of these bytes comes from.
    places: Vec<Range<usize>>,
}

impl Spelled {
    /// Reads `text`.
    pub(super) fn read(text: &str) -> Self {
        let mut spelled = Self::plain(text);
        for _ in 0..DEPTH_MAX {
            match spelled.decoded() {
                Some(decoded) => spelled = decoded,
                None => break,
            }
        }
        spelled.folded()
    }

    /// Where in the text these bytes come from.
    pub(super) fn place(&self, bytes: Range<usize>) -> Range<usize> {
        self.places[bytes.start].start..self.places[bytes.end - 1].end
    }

    fn with_capacity(bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
            places: Vec::with_capacity(bytes),
        }
    }

    fn push(&mut self, character: char, place: &Range<usize>) {
        let mut buffer = [0; 4];
        for byte in character.encode_utf8(&mut buffer).bytes() {
            self.push_byte(byte, place.clone());
        }
    }

    fn push_byte(&mut self, byte: u8, place: Range<usize>) {
        self.bytes.push(byte);
        self.places.push(place);
    }

    fn plain(text: &str) -> Self {
        let mut plain = Self::with_capacity(text.len());
        for (start, character) in text.char_indices() {
            if !steers(character) {
                plain.push(character, &(start..start + character.len_utf8()));
            }
        }
        plain
    }

    /// The same with one layer of encodings undone; `None` if there is none.
    fn decoded(&self) -> Option<Self> {
        let first = self
            .bytes
            .iter()
            .position(|byte| matches!(byte, b'%' | b'\\' | b'&'))?;
        let mut decoded = Self::with_capacity(self.bytes.len());
        decoded.bytes.extend_from_slice(&self.bytes[..first]);
        decoded.places.extend_from_slice(&self.places[..first]);
        let (mut at, mut changed) = (first, false);
        while at < self.bytes.len() {
            let Some((unit, length)) = Unit::at(&self.bytes[at..]) else {
                decoded.push_byte(self.bytes[at], self.places[at].clone());
                at += 1;
                continue;
            };
            let place = self.place(at..at + length);
            match unit {
                Unit::Byte(byte) => decoded.push_byte(byte, place),
                Unit::Character(character) => decoded.push(character, &place),
            }
            (at, changed) = (at + length, true);
        }
        changed.then_some(decoded)
    }

    /// The same without what spellings differ in: case, what forms and base64 write for `+` and `/`, and control characters.
    fn folded(mut self) -> Self {
        let mut kept = 0;
        for at in 0..self.bytes.len() {
            let byte = match self.bytes[at].to_ascii_lowercase() {
                byte if byte.is_ascii_control() => continue,
                b' ' | b'+' => b'-',
                b'_' => b'/',
                byte => byte,
            };
            self.bytes[kept] = byte;
            self.places.swap(kept, at);
            kept += 1;
        }
        self.bytes.truncate(kept);
        self.places.truncate(kept);
        self
    }
}

/// What an encoding stands for.
enum Unit {
    Byte(u8),
    Character(char),
}

impl Unit {
    /// The encoding that `text` begins with, and its length.
    fn at(text: &[u8]) -> Option<(Self, usize)> {
        match text {
            [b'%', rest @ ..] => {
                Some((Self::Byte(hexadecimal(rest.get(..2)?)?.try_into().ok()?), 3))
            }
            [b'\\', b'u', rest @ ..] => Self::utf16(rest),
            [b'\\', b'x', rest @ ..] => {
                Some((Self::Byte(hexadecimal(rest.get(..2)?)?.try_into().ok()?), 4))
            }
            [b'\\', escaped @ (b'"' | b'\'' | b'\\' | b'/'), ..] => Some((Self::Byte(*escaped), 2)),
            [b'\\', b'n' | b'r' | b't' | b'b' | b'f', ..] => Some((Self::Byte(b'\n'), 2)),
            [b'&', rest @ ..] => Self::reference(rest),
            _ => None,
        }
    }

    /// Behind `\u`: four digits, or two times four around another `\u`.
    fn utf16(rest: &[u8]) -> Option<(Self, usize)> {
        let first = hexadecimal(rest.get(..4)?)?;
        if let Some(character) = char::from_u32(first) {
            return Some((Self::Character(character), 6));
        }
        let second = rest.get(4..10)?.strip_prefix(b"\\u")?;
        let pair =
            [first, hexadecimal(second)?].map(|unit| u16::try_from(unit).unwrap_or_default());
        let character = char::decode_utf16(pair).next()?.ok()?;
        Some((Self::Character(character), 12))
    }

    /// Behind `&`: a name or a number, and a semicolon.
    fn reference(rest: &[u8]) -> Option<(Self, usize)> {
        let end = rest.iter().take(10).position(|byte| *byte == b';')?;
        let character = match &rest[..end] {
            b"amp" => '&',
            b"lt" => '<',
            b"gt" => '>',
            b"quot" => '"',
            b"apos" => '\'',
            [b'#', b'x' | b'X', digits @ ..] => char::from_u32(hexadecimal(digits)?)?,
            [b'#', digits @ ..] => char::from_u32(std::str::from_utf8(digits).ok()?.parse().ok()?)?,
            _ => return None,
        };
        Some((Self::Character(character), end + 2))
    }
}

fn hexadecimal(digits: &[u8]) -> Option<u32> {
    let digits = std::str::from_utf8(digits).ok()?;
    let proper = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    u32::from_str_radix(digits, 16).ok().filter(|_| proper)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_reads_the_same() {
        let plain = Spelled::read("a/b+c\"d'e&f<ä😀").bytes;
        for spelling in [
            "A/B+C\"D'E&F<ä😀",
            "a%2Fb%2Bc%22d%27e%26f%3C%C3%A4%F0%9F%98%80",
            "a%2fb%2bc%22d%27e%26f%3c%c3%a4%f0%9f%98%80",
            "a%252Fb%252Bc%2522d%2527e%2526f%253C%25C3%25A4%25F0%259F%2598%2580",
            r#"a\/b\u002bc\"d\u0027e\u0026f\u003C\u00e4\ud83d\ude00"#,
            r"a\x2fb+c\x22d\'e&f<ä😀",
            "a&#47;b&#x2b;c&quot;d&apos;e&amp;f&lt;&#228;&#x1F600;",
            "a/b+c&amp;quot;d'e&amp;amp;f&amp;lt;ä😀",
            "a\u{200b}/b\r\n+c\"d'e&f<ä\u{feff}😀",
            "a_b-c\"d'e&f<ä😀",
            "a/b c\"d'e&f<ä😀",
        ] {
            assert_eq!(Spelled::read(spelling).bytes, plain, "{spelling}");
        }
    }

    #[test]
    fn each_byte_knows_its_place() {
        let text = "x%41y&lt;z\u{200b}\\u00e4";
        let spelled = Spelled::read(text);
        assert_eq!(spelled.bytes, "xay<zä".as_bytes());
        let places = [
            (0..1, "x"),
            (1..2, "%41"),
            (2..4, "y&lt;"),
            (4..5, "z"),
            (5..7, "\\u00e4"),
            (4..6, "z\u{200b}\\u00e4"),
        ];
        for (bytes, expected) in places {
            assert_eq!(&text[spelled.place(bytes)], expected);
        }
    }

    #[test]
    fn what_is_no_encoding_stays() {
        for text in [
            "100%",
            "%zz",
            "%+1x",
            "\\",
            "\\u12",
            "\\ud800x",
            "&",
            "&amp",
            "&#x110000;",
            "&#;",
            "a\\u+123",
        ] {
            let read = Spelled::read(text);
            let expected: Vec<u8> = text
                .bytes()
                .map(|byte| if byte == b'+' { b'-' } else { byte })
                .collect();
            assert_eq!(read.bytes, expected, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_and_its_places_are_within_it(text in ".{0,200}|[%\\\\&#;ux0-9a-f]{0,60}") {
            let spelled = Spelled::read(&text);
            for at in 0..spelled.bytes.len() {
                let place = spelled.place(at..at + 1);
                proptest::prop_assert!(text.get(place).is_some_and(|part| !part.is_empty()));
            }
        }
    }
}
