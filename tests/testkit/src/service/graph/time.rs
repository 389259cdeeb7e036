//! Times as Graph reads and writes them: UTC with `Z`, with up to 7 decimals of a second.

use chrono::{DateTime, NaiveDateTime, Utc};

use crate::service::generator::{SECOND, Ticks, ticks};

/// Decimals of a second in a tick.
pub(crate) const TICK_DECIMALS: u32 = 7;

/// Ticks of one unit of the last decimal.
pub(crate) fn unit(decimals: u32) -> Ticks {
    10_i64.pow(TICK_DECIMALS - decimals.min(TICK_DECIMALS))
}

/// The time without what lies behind so many decimals.
pub(crate) fn cut(time: Ticks, decimals: u32) -> Ticks {
    time - time.rem_euclid(unit(decimals))
}

/// The instant with so many decimals.
pub(crate) fn instant(time: Ticks, decimals: u32) -> String {
    let seconds = DateTime::from_timestamp(time.div_euclid(SECOND), 0).unwrap_or_default();
    let whole = seconds.format("%Y-%m-%dT%H:%M:%S");
    if decimals == 0 {
        return format!("{whole}Z");
    }
    let fraction = time.rem_euclid(SECOND) / unit(decimals);
    let width = decimals as usize;
    format!("{whole}.{fraction:0width$}Z")
}

/// The instant that a text means: `2026-01-20T00:00:00Z`, or the same with 1 to 7 decimals.
pub(crate) fn ticks_of(text: &str) -> Option<Ticks> {
    let plain = text.strip_suffix('Z')?;
    let (whole, decimals) = plain.split_once('.').unwrap_or((plain, "0"));
    let digits = decimals.bytes().all(|byte| byte.is_ascii_digit());
    // chrono takes digits left out; the documented form has all of them.
    if whole.len() != "2026-01-20T00:00:00".len() || !digits || !(1..=7).contains(&decimals.len()) {
        return None;
    }
    let whole = NaiveDateTime::parse_from_str(whole, "%Y-%m-%dT%H:%M:%S").ok()?;
    let fraction: Ticks = decimals.parse().ok()?;
    let places = unit(u32::try_from(decimals.len()).ok()?);
    Some(ticks(whole.and_utc()) + fraction * places)
}

/// The UTC date of an instant, in days since 1970.
pub(crate) fn day(time: Ticks) -> i64 {
    time.div_euclid(86_400 * SECOND)
}

/// The instant, to the tick.
pub(crate) fn date_time(time: Ticks) -> DateTime<Utc> {
    DateTime::from_timestamp_nanos(time * 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_seconds_and_up_to_seven_decimals_are_read() {
        let time = ticks_of("2026-01-20T00:00:00.1234567Z").unwrap();
        assert_eq!(instant(time, 7), "2026-01-20T00:00:00.1234567Z");
        assert_eq!(instant(time, 3), "2026-01-20T00:00:00.123Z");
        assert_eq!(instant(time, 0), "2026-01-20T00:00:00Z");
        assert_eq!(
            ticks_of("2026-01-20T00:00:00.5Z"),
            ticks_of("2026-01-20T00:00:00.500Z")
        );
        for text in [
            "2026-01-20T00:00:00",
            "2026-01-20",
            "2026-01-20T00:00:00.Z",
            "2026-01-20T00:00:00.12345678Z",
            "2026-01-20T0:00:00Z",
            "2026-01-20T00:00:00+00:00",
            "'2026-01-20T00:00:00Z'",
        ] {
            assert_eq!(ticks_of(text), None, "{text}");
        }
    }
}
