//! The other side's clock, as its `Date` headers tell it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::header::{DATE, HeaderMap};
use tokio::time::Instant;

/// A difference that an operator should know of.
pub const DIFFERENCE_MAX: TimeDelta = TimeDelta::minutes(5);

/// The time at the other side: its last `Date`, and the time that has passed here since.
#[derive(Debug, Default)]
pub(super) struct RemoteClock(Mutex<Option<(DateTime<Utc>, Instant)>>);

impl RemoteClock {
    /// Takes the time from an answer that has just come; one without a `Date` that can be read changes nothing.
    pub(super) fn note(&self, headers: &HeaderMap) {
        if let Some(date) = date(headers) {
            self.set(date);
        }
    }

    /// Takes the time from an answer that has just come.
    pub(super) fn set(&self, date: DateTime<Utc>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((date, Instant::now()));
    }

    /// The time there now; never ahead of it, since a `Date` is cut to the second. `None` before the first answer.
    pub(super) fn now(&self) -> Option<DateTime<Utc>> {
        let (date, since) = self.last()?;
        date.checked_add_signed(chrono::Duration::from_std(since.elapsed()).ok()?)
    }

    /// How long ago the last `Date` came.
    pub(super) fn age(&self) -> Option<Duration> {
        Some(self.last()?.1.elapsed())
    }

    fn last(&self) -> Option<(DateTime<Utc>, Instant)> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When an answer was made, as it says.
pub(super) fn date(headers: &HeaderMap) -> Option<DateTime<Utc>> {
    parse(headers.get(DATE)?.to_str().ok()?)
}

/// A date as HTTP writes it.
pub(super) fn parse(date: &str) -> Option<DateTime<Utc>> {
    httpdate::parse_http_date(date).ok().map(DateTime::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn goes_on_from_the_last_date() {
        let at = |date: &str| parse(date).unwrap();
        let clock = RemoteClock::default();
        assert_eq!(clock.now(), None);
        clock.set(at("Tue, 07 May 2024 15:35:24 GMT"));
        tokio::time::advance(Duration::from_secs(40)).await;
        assert_eq!(clock.now(), "2024-05-07T15:36:04Z".parse().ok());
        assert_eq!(clock.age(), Some(Duration::from_secs(40)));
        clock.set(at("Tue, 07 May 2024 12:00:00 GMT"));
        assert_eq!(clock.now(), "2024-05-07T12:00:00Z".parse().ok());
    }

    #[test]
    fn a_header_that_is_no_date_is_none() {
        let headers = |date: &str| HeaderMap::from_iter([(DATE, date.parse().unwrap())]);
        assert_eq!(date(&HeaderMap::new()), None);
        assert_eq!(date(&headers("yesterday")), None);
        assert!(date(&headers("Tue, 07 May 2024 15:35:24 GMT")).is_some());
    }
}
