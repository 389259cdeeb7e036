//! A message as a test wants it: one trace id, a row for each recipient.

use chrono::{DateTime, Utc};

use super::content::sample;
use super::generator::mix;
use super::row::{Row, with_member};
use crate::report::{Aggregate, Report};

/// A message, to be put into message trace.
#[derive(Clone, Debug)]
pub struct Mail {
    time: DateTime<Utc>,
    number: u64,
    recipients: Vec<String>,
    status: String,
}

impl Mail {
    /// A message delivered to one recipient; `number` tells it from others.
    pub fn new(time: DateTime<Utc>, number: u64) -> Mail {
        Mail {
            time,
            number,
            recipients: vec![recipient(number, 0)],
            status: "Delivered".to_owned(),
        }
    }

    /// The same to these recipients.
    #[must_use]
    pub fn to(self, recipients: impl IntoIterator<Item = impl Into<String>>) -> Mail {
        let recipients = recipients.into_iter().map(Into::into).collect();
        Mail { recipients, ..self }
    }

    /// The same to so many recipients, each with an address of its own.
    #[must_use]
    pub fn to_many(self, count: u32) -> Mail {
        let number = self.number;
        self.to((0..count).map(|index| recipient(number, index)))
    }

    /// The same in this status, spelt as the reporting service does.
    #[must_use]
    pub fn status(self, status: &str) -> Mail {
        let status = status.to_owned();
        Mail { status, ..self }
    }

    /// The id that all its rows share.
    pub fn trace_id(&self) -> String {
        let noise = mix(self.number);
        let (more, rest) = (mix(noise), noise & 0xffff_ffff);
        format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            noise >> 32,
            rest >> 16,
            rest & 0xffff,
            more >> 48,
            more & 0xffff_ffff_ffff
        )
    }

    /// A row for each recipient. Their sizes differ, as seen.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Row> {
        let id = serde_json::Value::from(self.trace_id()).to_string();
        let status = serde_json::Value::from(self.status.as_str()).to_string();
        self.recipients.iter().enumerate().map(move |(index, to)| {
            let number = self.number.wrapping_shl(24).wrapping_add(index as u64);
            let text = sample(Report::MessageTrace, Aggregate::Hour, self.time, number);
            let to = serde_json::Value::from(to.as_str()).to_string();
            let members = [
                ("MessageTraceId", &id),
                ("RecipientAddress", &to),
                ("Status", &status),
            ];
            let text = members
                .into_iter()
                .fold(text, |text, (name, value)| with_member(&text, name, value));
            Row::new(self.time, text)
        })
    }
}

/// An address; those of one message are in ascending order.
fn recipient(number: u64, index: u32) -> String {
    format!("user{index:06}.{number}@contoso.onmicrosoft.com")
}
