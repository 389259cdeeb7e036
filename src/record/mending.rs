//! What goes out for a row that JSON or UTF-8 does not allow: what Python's `json` would have sent, which the original collector used.

use super::canonical::append_char;
use super::usual::escape_length;

/// Appends `row` as text that can be sent on one line; `false` if `out` would get longer than `bytes_max`, and then it is not complete.
///
/// - Bytes that are not UTF-8 become U+FFFD, as many as Python's `errors="replace"` makes of them.
/// - Control characters in a string are escaped, and a backslash in front of what makes no escape.
/// - Everything else stays as it came: `NaN`, `Infinity`, lone surrogates, and what no JSON reader understands.
pub(crate) fn append_mended(row: &[u8], out: &mut Vec<u8>, bytes_max: usize) -> bool {
    let mut is_string = false;
    for chunk in row.utf8_chunks() {
        let mut rest = chunk.valid().as_bytes();
        while let Some(byte) = rest.first() {
            let length = match byte {
                b'"' => {
                    is_string = !is_string;
                    out.push(b'"');
                    1
                }
                b'\\' if is_string => {
                    if let Some(length) = escape_length(&rest[1..]) {
                        out.extend_from_slice(&rest[..length]);
                        length
                    } else {
                        out.extend_from_slice(br"\\");
                        1
                    }
                }
                control if *control < b' ' => {
                    if is_string {
                        append_char(char::from(*control), out);
                    } else {
                        out.push(b' ');
                    }
                    1
                }
                _ => {
                    let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..b' ');
                    let plain = rest[1..].iter().position(special);
                    let length = plain.map_or(rest.len(), |plain| plain + 1);
                    out.extend_from_slice(&rest[..length]);
                    length
                }
            };
            rest = &rest[length..];
            if out.len() > bytes_max {
                return false;
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    out.len() <= bytes_max
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    fn check(row: &[u8], expected: &str) {
        let mut out = Vec::new();
        assert!(append_mended(row, &mut out, 1_000));
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_row_goes_out_as_the_originals_json_would_have_sent_it() {
        check(b"{\"a\":\"x\xe9y\"}", "{\"a\":\"x\u{fffd}y\"}");
        check(b"{\"a\":\"\xe2\x82\"}", "{\"a\":\"\u{fffd}\"}");
        check(
            b"{\"a\":\"\xed\xa0\x80\",\"\xff\":1}",
            "{\"a\":\"\u{fffd}\u{fffd}\u{fffd}\",\"\u{fffd}\":1}",
        );
        check(b"{\"a\":\"1\t2\n3\0\"}", r#"{"a":"1\t2\n3\u0000"}"#);
        check(b"{\r\n\t\"a\":\x0b1}", "{   \"a\": 1}");
        check(
            br#"{"a":"\x41 \u12 \" \\ \/ \ud800 \u00e9"}"#,
            r#"{"a":"\\x41 \\u12 \" \\ \/ \ud800 \u00e9"}"#,
        );
        check(b"{\"a\":\"\\\xff\\\n\"}", "{\"a\":\"\\\\\u{fffd}\\\\\\n\"}");
        for row in [r#"{"a":NaN,"b":-Infinity}"#, r#"{"a":tru,"b":01,}"#, "{}"] {
            check(row.as_bytes(), row);
        }
    }

    #[test]
    fn what_grows_too_large_is_not_completed() {
        for row in [
            &b"\"\x01\x01\x01\x01\""[..],
            b"\xff\xff\xff\xff",
            b"aaaaaaaaaaaa",
            br#""\x\x\x\x""#,
        ] {
            let mut out = Vec::new();
            assert!(!append_mended(row, &mut out, 11));
            assert!(out.len() <= 11 + 12);
        }
    }

    proptest::proptest! {
        #[test]
        fn a_string_of_any_bytes_becomes_sound(bytes in proptest::collection::vec(0..=255_u8, 0..40), text in "([\\\\un\"a0\u{0}\u{1f}\té ]){0,30}") {
            for content in [bytes, text.into_bytes()] {
                let plain: Vec<u8> = content.into_iter().filter(|byte| *byte != b'"').collect();
                // A backslash at the end would escape the closing quote.
                let row = [b"{\"a\":\"", &plain[..], b" \"}"].concat();
                let mut out = Vec::new();
                assert!(append_mended(&row, &mut out, 1_000));
                serde_json::from_slice::<&RawValue>(&out).unwrap();
                let mut again = Vec::new();
                assert!(append_mended(&out, &mut again, 1_000));
                proptest::prop_assert_eq!(again, out);
            }
        }
    }
}
