//! The line of a Devo relay: `<14>2026-11-22 14:40:52.290 host tag: content`, ended by a newline (reference: Devo's SDK).

use chrono::{DateTime, Utc};

use super::Envelope;

/// Priority 14: facility user, severity informational.
const PRIORITY: &str = "<14>";

/// What goes around a record for a relay.
pub(super) fn envelope(pulled: DateTime<Utc>, host: &str, tag: &str) -> Envelope {
    let time = timestamp(pulled);
    let host = host_field(host);
    Envelope {
        prefix: format!("{PRIORITY}{time} {host} {tag}: ").into_bytes(),
        suffix: b"\n".to_vec(),
    }
}

/// UTC to the millisecond, as every output prints it.
pub(super) fn timestamp(pulled: DateTime<Utc>) -> impl std::fmt::Display {
    pulled.format("%Y-%m-%d %H:%M:%S%.3f")
}

/// The host name as one field: a space or a control character in it would shift the fields behind it.
fn host_field(host: &str) -> String {
    if host.is_empty() {
        return "-".to_owned();
    }
    host.chars()
        .map(|c| if c.is_ascii_graphic() { c } else { '-' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: &str, line: &str) {
        let pulled = "2026-11-22T14:40:52.2909Z".parse().unwrap();
        let envelope = envelope(pulled, host, "cloud.office365.reporting.dlp");
        let mut whole = envelope.prefix;
        whole.extend_from_slice(b"{}");
        whole.extend_from_slice(&envelope.suffix);
        assert_eq!(String::from_utf8(whole).unwrap(), line);
    }

    #[test]
    fn a_line_has_priority_time_host_tag_and_content() {
        check(
            "collector-1",
            "<14>2026-11-22 14:40:52.290 collector-1 cloud.office365.reporting.dlp: {}\n",
        );
    }

    #[test]
    fn a_strange_host_name_stays_one_field() {
        check(
            "my höst\n2",
            "<14>2026-11-22 14:40:52.290 my-h-st-2 cloud.office365.reporting.dlp: {}\n",
        );
        check(
            "",
            "<14>2026-11-22 14:40:52.290 - cloud.office365.reporting.dlp: {}\n",
        );
    }
}
