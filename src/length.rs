//! A length of time as people read it.

use std::fmt;

use chrono::TimeDelta;

/// Displayed in its two largest units, from days to seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length(pub TimeDelta);

impl fmt::Display for Length {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = self.0;
        if time < TimeDelta::zero() {
            return write!(out, "-{}", Length(-time));
        }
        let (days, hours) = (time.num_days(), time.num_hours() % 24);
        let (minutes, seconds) = (time.num_minutes() % 60, time.num_seconds() % 60);
        match (days, hours, minutes) {
            (0, 0, 0) => write!(out, "{seconds} s"),
            (0, 0, _) => write!(out, "{minutes} min {seconds} s"),
            (0, _, _) => write!(out, "{hours} h {minutes} min"),
            _ => write!(out, "{days} d {hours} h"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_shown_in_its_two_largest_units() {
        for (seconds, shown) in [
            (0, "0 s"),
            (61, "1 min 1 s"),
            (3_599, "59 min 59 s"),
            (3_600, "1 h 0 min"),
            (180_000, "2 d 2 h"),
            (-61, "-1 min 1 s"),
        ] {
            assert_eq!(Length(TimeDelta::seconds(seconds)).to_string(), shown);
        }
    }
}
