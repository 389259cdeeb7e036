//! What the text of a single value means: numbers, truth values, times, periods, names. Pure.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};

/// The longest name or id: three of them and a service's name have to fit into a file name.
const NAME_MAX: usize = 64;
/// In seconds.
const DAY: u64 = 86_400;

/// A whole number, also as `1_000`. Not one with a leading zero, which YAML 1.1 takes for octal and YAML 1.2 does not.
pub(super) fn number(text: &str) -> Option<u32> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let ambiguous = digits.len() > 1 && digits.starts_with('0');
    let starts_well = digits.starts_with(|c: char| c.is_ascii_digit());
    if ambiguous || !starts_well {
        return None;
    }
    digits.replace('_', "").parse().ok()
}

/// A truth value in any of the spellings of YAML 1.1.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text.to_lowercase().as_str() {
        "true" | "yes" | "on" => Some(true),
        "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// A name that is safe in a file name, and whether characters had to be replaced for that, as the original's SDK does.
pub(super) fn name(text: &str) -> Result<(String, bool), String> {
    let replaced: String = text
        .chars()
        .map(|c| if matches!(c, '.' | '#' | ' ') { '_' } else { c })
        .collect();
    if !replaced
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    {
        return Err(
            "holds characters that are not allowed: use letters, digits, `-` and `_`".to_owned(),
        );
    }
    if replaced.len() > NAME_MAX {
        return Err(format!("is too long: use at most {NAME_MAX} characters"));
    }
    let changed = replaced != text;
    Ok((replaced, changed))
}

/// A time as the documentation writes it (`2024-05-07T15:35:24.133642`), with or without fraction and offset, with a
/// space for the `T`, or the date alone. Without an offset it is UTC.
pub fn time(text: &str) -> Option<DateTime<Utc>> {
    let year = text.get(..4)?;
    if !year.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Some(date.and_time(chrono::NaiveTime::MIN).and_utc());
    }
    let text = text.to_ascii_uppercase().replacen(' ', "T", 1);
    if let Ok(time) =
        DateTime::parse_from_str(&text.replace('Z', "+00:00"), "%Y-%m-%dT%H:%M:%S%.f%:z")
    {
        return Some(time.to_utc());
    }
    let time = NaiveDateTime::parse_from_str(&text, "%Y-%m-%dT%H:%M:%S%.f");
    Some(time.ok()?.and_utc())
}

/// A period such as `5m`: a whole number and one of s, m, h, d, w, M, y; at most ten years. Where their lengths vary, a month and a year
/// are long ones, so that a budget for one is never exceeded.
pub(super) fn period(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back()?;
    let seconds = match unit {
        's' | 'S' => 1,
        'm' => 60,
        'h' | 'H' => 3_600,
        'd' | 'D' => DAY,
        'w' | 'W' => 7 * DAY,
        'M' => 31 * DAY,
        'y' | 'Y' => 366 * DAY,
        _ => return None,
    };
    let count = number(text.strip_suffix(unit)?.trim_end())?;
    let period = Duration::from_secs(u64::from(count) * seconds);
    (Duration::from_secs(1)..=Duration::from_secs(10 * 366 * DAY))
        .contains(&period)
        .then_some(period)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_decimal_and_unambiguous() {
        let check =
            |text: &str, expected: Option<u32>| assert_eq!(number(text), expected, "{text}");
        check("0", Some(0));
        check("60", Some(60));
        check("+60", Some(60));
        check("1_000", Some(1000));
        check("4294967295", Some(u32::MAX));
        for text in [
            "",
            "+",
            "_1",
            "+-1",
            "-1",
            "0443",
            "0x10",
            "60.0",
            "1e3",
            "60s",
            "4294967296",
            "1:00",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn a_time_may_be_written_in_all_documented_ways() {
        let check = |text: &str, expected: &str| {
            let time =
                time(text).map(|time| time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true));
            assert_eq!(time.as_deref().unwrap_or("refused"), expected, "{text}");
        };
        check("2024-05-07T15:35:24.133642", "2024-05-07T15:35:24.133642Z");
        check("2024-05-07T15:35:24", "2024-05-07T15:35:24Z");
        check("2024-05-07T15:35:24Z", "2024-05-07T15:35:24Z");
        check("2024-05-07t15:35:24.5z", "2024-05-07T15:35:24.500Z");
        check("2024-05-07 15:35:24+00:00", "2024-05-07T15:35:24Z");
        check("2024-05-07T15:35:24.1+02:00", "2024-05-07T13:35:24.100Z");
        check("2024-05-07", "2024-05-07T00:00:00Z");
        check("1024-05-07", "1024-05-07T00:00:00Z");
        for text in [
            "",
            "20240507",
            "7.5.2024",
            "2024-13-01",
            "2024-05-07T25:00:00",
            "+2024-05-07",
            "ä024-05-07",
        ] {
            check(text, "refused");
        }
    }

    #[test]
    fn a_period_has_a_unit() {
        let check = |text: &str, seconds: Option<u64>| {
            assert_eq!(period(text), seconds.map(Duration::from_secs), "{text}");
        };
        check("5m", Some(300));
        check("1 h", Some(3600));
        check("31D", Some(2_678_400));
        check("2w", Some(1_209_600));
        check("1M", Some(2_678_400));
        check("10y", Some(316_224_000));
        for text in [
            "",
            "m",
            "5",
            "0s",
            "0M",
            "11y",
            "5 weeks",
            "4294967295d",
            "5ä",
            "-1d",
            "1mo",
        ] {
            check(text, None);
        }
    }
}
