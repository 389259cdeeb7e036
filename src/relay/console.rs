//! Standard output as a peer: one JSON object a line. What it has taken is delivered.

use std::io::stdout;

use chrono::{DateTime, Utc};
use nix::poll::PollTimeout;

use super::error::DeliveryError;
use super::{Envelope, syslog};
use crate::blocking::OUTPUT;
use crate::stream::write;

/// What goes around a record on the console.
pub(super) fn envelope(pulled: DateTime<Utc>, tag: &str) -> Envelope {
    let time = syslog::timestamp(pulled);
    let tag = serde_json::Value::from(tag);
    Envelope {
        prefix: format!(
            r#"{{"message_timestamp": "{time}", "message_tag": {tag}, "message_content": "#
        )
        .into_bytes(),
        suffix: b"}\n".to_vec(),
    }
}

/// A delivery to standard output.
///
/// Its reader may stop for as long as it likes: the delivery waits, on a thread that nothing else needs.
#[derive(Debug)]
pub(super) struct Console;

impl Console {
    pub(super) fn open() -> Self {
        Self
    }

    /// Writes whole lines. Chunks of several services do not mix: one thread writes them all.
    pub(super) async fn write(&mut self, chunk: &[u8]) -> Result<(), DeliveryError> {
        let chunk = chunk.to_vec();
        let written = OUTPUT.run(move || write(&stdout(), &chunk, PollTimeout::NONE));
        written
            .await
            .map_err(|refused| DeliveryError::Console(refused.source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_json_object_that_holds_the_record() {
        let pulled = "2026-11-22T14:40:52.290Z".parse().unwrap();
        let envelope = envelope(pulled, "cloud.office365.reporting.dlp");
        let mut line = envelope.prefix;
        line.extend_from_slice(br#"{"a": 1}"#);
        line.extend_from_slice(&envelope.suffix);
        assert_eq!(line.pop(), Some(b'\n'));
        let object: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(object["message_timestamp"], "2026-11-22 14:40:52.290");
        assert_eq!(object["message_tag"], "cloud.office365.reporting.dlp");
        assert_eq!(object["message_content"]["a"], 1);
    }
}
