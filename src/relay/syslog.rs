//! The lines of relays, each ended by a newline, both in UTC. Devo's own (reference: Devo's SDK):
//! `<14>2026-11-22 14:40:52.290 host tag: content`; that of plain syslog (its form is RFC 3164's, but for a day of two digits):
//! `<14>Nov 22 14:40:52 host.example.com tag: content`.

use std::fmt::Display;

use chrono::{DateTime, Utc};

use super::{Envelope, Host};

/// Priority 14: facility user, severity informational.
const PRIORITY: &str = "<14>";

/// What goes around a record for a Devo relay.
pub(super) fn devo_envelope(pulled: DateTime<Utc>, host: &Host, tag: &str) -> Envelope {
    enclose(timestamp(pulled), &host.name, tag)
}

/// What goes around a record for plain syslog.
pub(super) fn envelope(pulled: DateTime<Utc>, host: &Host, tag: &str) -> Envelope {
    enclose(pulled.format("%b %d %H:%M:%S"), &host.qualified, tag)
}

fn enclose(time: impl Display, host: &str, tag: &str) -> Envelope {
    let host = host_field(host);
    Envelope {
        prefix: format!("{PRIORITY}{time} {host} {tag}: ").into_bytes(),
        suffix: b"\n".to_vec(),
    }
}

/// UTC to the millisecond, as every output prints it.
pub(super) fn timestamp(pulled: DateTime<Utc>) -> impl Display {
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

    fn check(name: &str, devo: &str, plain: &str) {
        let pulled = "2026-11-02T14:40:52.2909Z".parse().unwrap();
        let host = Host {
            name: name.to_owned(),
            qualified: format!("{name}.example.com"),
        };
        for (envelope, line) in [
            (devo_envelope as fn(_, &_, &_) -> _, devo),
            (envelope, plain),
        ] {
            let envelope: Envelope = envelope(pulled, &host, "cloud.office365.reporting.dlp");
            let mut whole = envelope.prefix;
            whole.extend_from_slice(b"{}");
            whole.extend_from_slice(&envelope.suffix);
            assert_eq!(String::from_utf8(whole).unwrap(), line);
        }
    }

    #[test]
    fn a_line_has_priority_time_host_tag_and_content() {
        check(
            "collector-1",
            "<14>2026-11-02 14:40:52.290 collector-1 cloud.office365.reporting.dlp: {}\n",
            "<14>Nov 02 14:40:52 collector-1.example.com cloud.office365.reporting.dlp: {}\n",
        );
    }

    #[test]
    fn a_strange_host_name_stays_one_field() {
        check(
            "my höst\n2",
            "<14>2026-11-02 14:40:52.290 my-h-st-2 cloud.office365.reporting.dlp: {}\n",
            "<14>Nov 02 14:40:52 my-h-st-2.example.com cloud.office365.reporting.dlp: {}\n",
        );
        assert_eq!(host_field(""), "-");
    }
}
