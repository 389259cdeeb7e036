//! What is known of an input: its token, its certificate, the reporting service's clock and pause.

use std::sync::Mutex;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use prometheus::GaugeVec;

use super::families::Families;
use super::late::{Late, Target};
use super::lock;
use crate::source::{Client, agreed};

/// An input, looked at from outside: it is told nothing, its client is asked.
pub(super) struct InputMonitor {
    pub(super) name: String,
    client: Client,
    certificate: Mutex<Option<DateTime<Utc>>>,
    pause: Late<GaugeVec>,
}

impl InputMonitor {
    pub(super) fn new(families: &Families, name: &str, client: Client) -> Self {
        InputMonitor {
            name: name.to_owned(),
            client,
            certificate: Mutex::default(),
            pause: Late::of(&families.pause, &Target::new(&families.shown, &[name])),
        }
    }

    /// Reads the certificate's end anew; one that cannot be read leaves what was known. Blocks on the disk.
    pub(super) fn read_certificate(&self) {
        if let Some(expiry) = self.client.certificate_expiry() {
            *lock(&self.certificate) = Some(expiry);
        }
    }

    pub(super) fn certificate_expiry(&self) -> Option<DateTime<Utc>> {
        *lock(&self.certificate)
    }

    pub(super) fn token_expiry(&self) -> Option<DateTime<Utc>> {
        self.client.token_expiry()
    }

    /// Our clock less the reporting service's.
    pub(super) fn clock_difference(&self) -> Option<TimeDelta> {
        self.client.service_time().map(|theirs| Utc::now() - theirs)
    }

    /// The time that the clocks agree on, by which windows are planned.
    pub(super) fn now(&self) -> DateTime<Utc> {
        agreed(Utc::now(), self.client.clocks()).0
    }

    /// The service's clock, by which it deletes.
    pub(super) fn theirs(&self) -> DateTime<Utc> {
        self.client.service_time().unwrap_or_else(Utc::now)
    }

    /// What is left of the pause that the service has asked for.
    pub(super) fn paused(&self) -> Option<Duration> {
        self.client.paused()
    }

    /// Brings the metrics up to the present.
    pub(super) fn refresh(&self, families: &Families) {
        let label = [self.name.as_str()];
        let pause = self.paused().unwrap_or_default();
        self.pause.set(pause.as_secs_f64());
        let difference = self.clock_difference();
        let values = [
            (&families.token, self.token_expiry().map(timestamp)),
            (
                &families.client_certificate,
                self.certificate_expiry().map(timestamp),
            ),
            (&families.clock, difference.map(TimeDelta::as_seconds_f64)),
        ];
        for (family, value) in values {
            match value {
                Some(value) => family.with_label_values(&label).set(value),
                // It may never have been there.
                None => drop(family.remove_label_values(&label)),
            }
        }
    }
}

/// An instant in seconds since 1970.
pub(super) fn timestamp(instant: DateTime<Utc>) -> f64 {
    (instant - DateTime::UNIX_EPOCH).as_seconds_f64()
}
