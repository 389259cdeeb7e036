//! The directory's token, and how long it is believed to last.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// How long a token is believed to last that does not say it, or says nothing that can be.
const LIFE_UNSAID: Duration = Duration::from_mins(10);

/// No token lasts for less: one that is said to would be asked for before each page. The service's 401 tells when it has really ended.
const LIFE_MIN_SECONDS: f64 = 2.0;

/// The longest life that is believed; Entra's tokens last for an hour or a day.
const LIFE_MAX: Duration = Duration::from_hours(24);

/// How long before its end a token is renewed, if it lives long enough.
const RENEW_AHEAD: Duration = Duration::from_mins(5);

/// The directory's answer to a token request.
pub(super) struct Grant {
    pub(super) access_token: SecretString,
    /// From the request on.
    pub(super) life: Duration,
}

impl Grant {
    /// `None` where `body` holds no token.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let answer: Answer<'_> = serde_json::from_slice(without_mark(body)).ok()?;
        (!answer.access_token.expose_secret().is_empty()).then(|| Self {
            life: answer
                .expires_in
                .map_or(LIFE_UNSAID, |life| believed(life.get())),
            access_token: answer.access_token,
        })
    }

    /// When the token is renewed: five minutes before its end, but not before three quarters of its life have passed.
    pub(super) fn renewed_after(&self) -> Duration {
        self.life.saturating_sub(RENEW_AHEAD).max(self.life * 3 / 4)
    }
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(deserialize_with = "secret")]
    access_token: SecretString,
    /// As it is written: serde refuses a number that is too large with all of the answer.
    #[serde(borrow, default)]
    expires_in: Option<&'a RawValue>,
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}

/// How long a token lasts that says `written`: a number of seconds, which some directories write as a string.
fn believed(written: &str) -> Duration {
    let seconds = written.trim_matches(['"', ' ']).parse::<f64>();
    let seconds = seconds
        .ok()
        .filter(|seconds| *seconds >= LIFE_MIN_SECONDS && seconds.is_finite());
    seconds.map_or(LIFE_UNSAID, |seconds| {
        Duration::from_secs_f64(seconds.min(LIFE_MAX.as_secs_f64()))
    })
}

/// A JSON document without the byte order mark that something on the way may have put before it.
pub(super) fn without_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(written: &str) -> Duration {
        let body = format!(r#"{{"access_token":"x"{written}}}"#);
        Grant::read(body.as_bytes())
            .unwrap_or_else(|| panic!("{written}"))
            .life
    }

    #[test]
    fn a_token_is_renewed_five_minutes_ahead_or_after_three_quarters_of_a_short_life() {
        for (life, after) in [(3_600, 3_300), (1_200, 900), (600, 450), (4, 3)] {
            let grant = Grant {
                access_token: "x".into(),
                life: Duration::from_secs(life),
            };
            assert_eq!(grant.renewed_after(), Duration::from_secs(after), "{life}");
        }
    }

    #[test]
    fn no_written_life_makes_a_token_last_for_no_time_or_for_ever() {
        for (written, seconds) in [
            ("3599", 3_599),
            ("\"3599\"", 3_599),
            ("\" 3599 \"", 3_599),
            ("3599.0", 3_599),
            ("3.599e3", 3_599),
            ("0", 600),
            ("\"0\"", 600),
            ("-1", 600),
            ("-3599", 600),
            ("null", 600),
            ("\"soon\"", 600),
            ("\"\"", 600),
            ("\"NaN\"", 600),
            ("\"inf\"", 600),
            ("true", 600),
            ("[3599]", 600),
            ("{}", 600),
            ("1e999", 600),
            ("1", 600),
            ("0.5", 600),
            ("2", 2),
            ("86401", 86_400),
            ("18446744073709551616", 86_400),
            ("999999999999999999999999999999", 86_400),
        ] {
            let got = life(&format!(r#","expires_in":{written}"#));
            assert_eq!(got, Duration::from_secs(seconds), "{written}");
        }
        assert_eq!(life(""), LIFE_UNSAID);
    }

    #[test]
    fn what_holds_no_token_is_no_grant() {
        for body in [
            "",
            "<html>",
            "{}",
            "[]",
            r#"{"access_token":""}"#,
            r#"{"access_token":7}"#,
            r#"{"access_token":["x"]}"#,
            r#"{"access_token":"x""#,
            r#"{"access_token":"x","access_token":"y"}"#,
        ] {
            assert!(Grant::read(body.as_bytes()).is_none(), "{body}");
        }
        assert!(Grant::read("\u{feff} {\"access_token\":\"x\"}".as_bytes()).is_some());
    }
}
