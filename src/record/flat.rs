//! The usual row in one pass: an object on one line without white space between its tokens and without objects or lists within,
//! looked at 64 bytes at a time. Any other row is left to [`super::members`], which finds the same by tokens.

use wide::u8x64;

/// Bytes looked at in one step.
const STEP: usize = 64;

/// Appends the members of `row` whose names do not satisfy `left_out`, each as it came and with a comma behind it.
///
/// `row` is one JSON object. Returns whether it is of the usual kind; if not, what was appended means nothing.
pub(super) fn append_members(
    row: &[u8],
    left_out: impl Fn(&[u8]) -> bool,
    out: &mut Vec<u8>,
) -> bool {
    if row.len() <= 2 {
        return false;
    }
    // From `kept_from` on members are kept; `None` while one is left out.
    let mut kept_from = (!left_out(&row[1..])).then_some(1);
    let mut state = Strings::default();
    // The brace that opens the row is no sign of an object within.
    let mut opening = 1;
    for (step, chunk) in row.chunks(STEP).enumerate() {
        let bytes = Bytes::load(chunk);
        let outside = !state.inside(bytes.equal(b'"'), bytes.equal(b'\\'));
        if bytes.blank_or_bracket() & outside & !opening != 0 {
            return false;
        }
        opening = 0;
        let mut commas = bytes.equal(b',') & outside;
        while commas != 0 {
            let member = step * STEP + commas.trailing_zeros() as usize + 1;
            commas &= commas - 1;
            match (left_out(&row[member..]), kept_from) {
                (false, None) => kept_from = Some(member),
                (true, Some(from)) => {
                    out.extend_from_slice(&row[from..member]);
                    kept_from = None;
                }
                _ => {}
            }
        }
    }
    if let Some(from) = kept_from {
        out.extend_from_slice(&row[from..row.len() - 1]);
        out.push(b',');
    }
    true
}

/// 64 bytes; where a row ends early, some that mean nothing follow.
struct Bytes(u8x64);

impl Bytes {
    fn load(chunk: &[u8]) -> Self {
        let mut bytes = [b'0'; STEP];
        match chunk.first_chunk::<STEP>() {
            Some(whole) => bytes = *whole,
            None => bytes[..chunk.len()].copy_from_slice(chunk),
        }
        Bytes(bytes.into())
    }

    /// A bit for each byte that is `byte`.
    fn equal(&self, byte: u8) -> u64 {
        self.0.simd_eq(u8x64::splat(byte)).to_bitmask()
    }

    /// A bit for each byte that is no more than a space, or opens an object or a list.
    fn blank_or_bracket(&self) -> u64 {
        let blank = self.0.min(u8x64::splat(b' ')).simd_eq(self.0);
        // The two brackets differ in one bit only, the space's.
        let bracket = (self.0 | u8x64::splat(b' ')).simd_eq(u8x64::splat(b'{'));
        (blank | bracket).to_bitmask()
    }
}

/// Where strings are, carried from one step to the next.
#[derive(Default)]
struct Strings {
    /// The last step ended within a string: all ones.
    inside: u64,
    /// The last step ended with a backslash that makes the next byte a part of the string.
    escaped: bool,
}

impl Strings {
    /// A bit for each byte of a string, its opening quote included and the closing one not.
    fn inside(&mut self, mut quotes: u64, mut backslashes: u64) -> u64 {
        if std::mem::take(&mut self.escaped) {
            quotes &= !1;
            backslashes &= !1;
        }
        while backslashes != 0 {
            let at = backslashes.trailing_zeros();
            let Some(next) = 2_u64.checked_shl(at).filter(|next| *next != 0) else {
                self.escaped = true;
                break;
            };
            quotes &= !next;
            backslashes &= !next & (backslashes - 1);
        }
        // Each bit becomes the parity of the quotes up to it.
        let mut inside = quotes;
        for distance in [1, 2, 4, 8, 16, 32] {
            inside ^= inside << distance;
        }
        inside ^= self.inside;
        self.inside = (inside >> 63) * u64::MAX;
        inside
    }
}

#[cfg(test)]
mod tests {
    use super::super::{is_volatile, members};
    use super::*;

    /// The members as this pass finds them, if the row is of the usual kind, which must be those that tokens show.
    fn check(row: &str, usual: bool) {
        let (mut found, mut expected) = (b"x".to_vec(), b"x".to_vec());
        assert_eq!(
            append_members(row.as_bytes(), is_volatile, &mut found),
            usual,
            "{row}"
        );
        members::append_members(row.as_bytes(), is_volatile, &mut expected);
        if usual {
            assert_eq!(
                String::from_utf8(found),
                String::from_utf8(expected),
                "{row}"
            );
        }
    }

    #[test]
    fn a_row_without_white_space_and_objects_is_of_the_usual_kind() {
        check(
            r#"{"Index":1,"A":"x y","StartDate":"1","EndDate":"2","B":null}"#,
            true,
        );
        check(
            r#"{"A":"[{,}]\"}","Indexes":-1.5e7,"EndDate":"2","Index":3}"#,
            true,
        );
        check(r#"{"A":"x","B":["y"]}"#, false);
        check(r#"{"A":"x","B":{}}"#, false);
        check(r#"{"A":"x", "B":1}"#, false);
        check("{\"A\":\"x\",\n\"B\":1}", false);
        check("{}", false);
    }

    #[test]
    fn what_ends_a_string_is_seen_wherever_a_step_ends() {
        for length in 0..2 * STEP {
            for text in [r"\\", r#"\""#, r#"\\\""#, r#"\u0022,\"Index\":"#, "é"] {
                let start = "a".repeat(length);
                check(
                    &format!(r#"{{"A":"{start}{text}{text}","Index":1,"B":"x"}}"#),
                    true,
                );
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn it_finds_what_tokens_show(
            names in proptest::collection::vec("Index|StartDate|__metadata|[A-Z\\\\\"{}, ]{0,9}", 1..12),
            texts in proptest::collection::vec("[a-z\\\\\"{},:\\[\\] \u{7f}é]{0,90}", 12),
        ) {
            let members = names.iter().zip(&texts).map(|(name, text)| {
                let value = if text.len() % 3 == 0 { serde_json::json!(text.len()) } else { serde_json::json!(text) };
                format!("{}:{value}", serde_json::json!(name))
            });
            let row = format!("{{{}}}", members.collect::<Vec<_>>().join(","));
            check(&row, true);
        }
    }
}
