//! Numbers as exact decimals: `1.0`, `1.00`, `1e0` and `10e-1` are one.

/// The most digits of a whole number that is written out, without an exponent.
pub(super) const WHOLE_MAX: usize = 20;

/// The most digits of an exponent that is computed with. A number with a longer one stays as it is written, unless it is zero.
const EXPONENT_MAX: usize = 36;

/// Appends the number that `text` is in its one spelling; `false` and nothing if it is none (RFC 8259, section 6).
///
/// It costs no more than reading the text: the exponent is never written out.
pub(super) fn append(text: &[u8], out: &mut Vec<u8>) -> bool {
    let Some(number) = Number::read(text) else {
        return false;
    };
    let digits = || number.whole.iter().chain(number.fraction);
    let Some(first) = digits().position(|digit| *digit != b'0') else {
        out.push(b'0');
        return true;
    };
    let zeros = digits().rev().take_while(|digit| **digit == b'0').count();
    let count = number.whole.len() + number.fraction.len() - first - zeros;
    // Lengths fit: memory holds them.
    let shift = zeros as i128 - number.fraction.len() as i128;
    let Some(exponent) = exponent(number.exponent).map(|exponent| exponent + shift) else {
        out.extend_from_slice(text);
        return true;
    };
    out.extend_from_slice(number.sign);
    out.extend(digits().skip(first).take(count));
    match usize::try_from(exponent) {
        Ok(more) if count.saturating_add(more) <= WHOLE_MAX => {
            out.resize(out.len() + more, b'0');
        }
        _ => {
            out.push(b'e');
            out.extend_from_slice(exponent.to_string().as_bytes());
        }
    }
    true
}

/// A number's parts as they are written, each empty if it is not there.
struct Number<'a> {
    sign: &'a [u8],
    whole: &'a [u8],
    fraction: &'a [u8],
    /// With its sign.
    exponent: &'a [u8],
}

impl<'a> Number<'a> {
    fn read(text: &'a [u8]) -> Option<Self> {
        let (sign, text) = text.split_at(usize::from(text.first() == Some(&b'-')));
        let (whole, mut rest) = digits(text)?;
        if whole.len() > 1 && whole[0] == b'0' {
            return None;
        }
        let mut fraction = &rest[..0];
        if let Some(text) = rest.strip_prefix(b".") {
            (fraction, rest) = digits(text)?;
        }
        let exponent = match rest.split_first() {
            None => rest,
            Some((b'e' | b'E', exponent)) => {
                let sign = usize::from(matches!(exponent.first(), Some(b'+' | b'-')));
                let (_, after) = digits(&exponent[sign..])?;
                after.is_empty().then_some(exponent)?
            }
            Some(_) => return None,
        };
        Some(Number {
            sign,
            whole,
            fraction,
            exponent,
        })
    }
}

/// One digit or more, and what follows.
fn digits(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (count > 0).then(|| text.split_at(count))
}

/// `None` for one that is too long to compute with.
fn exponent(text: &[u8]) -> Option<i128> {
    let (is_negative, digits) = match text.split_first() {
        None => return Some(0),
        Some((b'-', digits)) => (true, digits),
        Some((b'+', digits)) => (false, digits),
        Some(_) => (false, text),
    };
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    let digits = &digits[zeros..];
    if digits.len() > EXPONENT_MAX {
        return None;
    }
    let exponent = digits
        .iter()
        .fold(0, |number, digit| 10 * number + i128::from(digit - b'0'));
    Some(if is_negative { -exponent } else { exponent })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> Option<String> {
        let mut out = Vec::new();
        append(text.as_bytes(), &mut out).then(|| String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_number_has_one_spelling() {
        for (texts, expected) in [
            (
                "0 -0 0.0 -0.00 0e5 0E-999999999999999999999999999999999999999999999",
                "0",
            ),
            ("1 1.0 1.00 1e0 10e-1 0.1e1 0.001E+3 1000e-3", "1"),
            ("-12.5 -125e-1 -0.125e2 -1250.0e-2", "-125e-1"),
            ("1200 12e2 1.2e3 120000e-2 1200.000", "1200"),
            (
                "18446744073709551616 1844674407370955161.6e1",
                "18446744073709551616",
            ),
            ("100000000000000000000 1e20 10e19", "1e20"),
            (
                "1234567890123456789012345 12345678901234567890123450e-1",
                "1234567890123456789012345e0",
            ),
            (
                "1e400 10e399 0.1e401 1e0000000000000000000000000000000000000000000400",
                "1e400",
            ),
            ("1e-1000000000000 0.01e-999999999998", "1e-1000000000000"),
            (
                "1e100000000000000000000 10e99999999999999999999",
                "1e100000000000000000000",
            ),
        ] {
            for text in texts.split(' ') {
                assert_eq!(canonical(text).as_deref(), Some(expected), "{text}");
            }
            assert_eq!(canonical(expected).as_deref(), Some(expected));
        }
        let unreachable = format!("1e{}", "9".repeat(EXPONENT_MAX + 1));
        assert_eq!(canonical(&unreachable), Some(unreachable));
    }

    #[test]
    fn other_numbers_have_other_spellings() {
        let numbers = "0 1 -1 10 100 0.1 0.01 1.01 101 1e20 1e21 9007199254740992 9007199254740993 0.1000000000000000055 1e400 -1e400 1e-400 1e401";
        let numbers: Vec<_> = numbers.split(' ').map(canonical).collect();
        for (place, number) in numbers.iter().enumerate() {
            assert!(number.is_some() && !numbers[..place].contains(number));
        }
    }

    #[test]
    fn what_is_no_number_has_none() {
        for text in "- + +1 01 -01 1. .1 1e 1e+ 1.e1 1.2.3 0x1 NaN Infinity 1_0 true".split(' ') {
            assert_eq!(canonical(text), None, "{text}");
        }
        assert_eq!(canonical(""), None);
        assert_eq!(canonical("1 "), None);
    }

    proptest::proptest! {
        #[test]
        fn a_shift_of_the_point_changes_nothing(digits in "[1-9][0-9]{0,30}", shift in 0..40_usize, exponent in -60..60_i64) {
            let shifted = format!("{}{}e{exponent}", digits, "0".repeat(shift));
            let plain = format!("0.{digits}E{}", exponent + i64::try_from(shift + digits.len()).unwrap());
            proptest::prop_assert_eq!(canonical(&shifted), canonical(&plain));
            let other = format!("{shifted}1");
            proptest::prop_assert_ne!(canonical(&shifted), canonical(&other));
        }
    }
}
