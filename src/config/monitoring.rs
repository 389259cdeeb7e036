//! `globals.monitoring`: where the status page, metrics and health are served, and when a service counts as stalled.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::reader::Field;
use super::scalar;
use super::{Listen, Monitoring};

/// Of the ports that nobody has registered, and below those that Linux gives to connections.
const PORT: u16 = 18_514;
const STALLED_AFTER: Duration = Duration::from_mins(30);
pub(super) const STALLED_AFTER_SECONDS: RangeInclusive<u32> = 1..=30 * 86_400;

pub(super) fn read(field: &Field<'_>) -> Monitoring {
    let section = field.section();
    let given = section.map(|section| {
        let listen = section.field("listen").parse(listen);
        let stalled_after = section
            .field("stalled_after_in_seconds")
            .number(STALLED_AFTER_SECONDS, " of seconds");
        section.warn_of_unknown();
        (listen, stalled_after)
    });
    let (listen, stalled_after) = given.unwrap_or_default();
    let default = Monitoring::default();
    Monitoring {
        listen: listen.unwrap_or(default.listen),
        stalled_after: stalled_after.map_or(default.stalled_after, |seconds| {
            Duration::from_secs(u64::from(seconds))
        }),
    }
}

impl Default for Monitoring {
    fn default() -> Self {
        Self {
            listen: Listen::At(loopback(PORT)),
            stalled_after: STALLED_AFTER,
        }
    }
}

fn listen(text: &str) -> Result<Listen, String> {
    if text.eq_ignore_ascii_case("off") || scalar::boolean(text) == Some(false) {
        return Ok(Listen::Off);
    }
    if let Ok(port) = text.parse() {
        return Ok(Listen::At(loopback(port)));
    }
    let address = text.parse().map(Listen::At);
    address.map_err(|_| {
        format!(
            "is no address to listen on: give an IP address and a port (127.0.0.1:{PORT}, or 0.0.0.0:{PORT} for all of this \
             machine's addresses), a port of the loopback address, or `off`"
        )
    })
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        let read = match listen(text) {
            Ok(Listen::Off) => Some("off".to_owned()),
            Ok(Listen::At(address)) => Some(address.to_string()),
            Err(_) => None,
        };
        assert_eq!(read.as_deref(), expected, "{text}");
    }

    #[test]
    fn an_address_a_port_or_nothing_is_listened_on() {
        check("0.0.0.0:80", Some("0.0.0.0:80"));
        check("[::1]:18514", Some("[::1]:18514"));
        check("9000", Some("127.0.0.1:9000"));
        check("off", Some("off"));
        check("False", Some("off"));
        for wrong in [
            "on",
            "localhost:80",
            "70000",
            "127.0.0.1",
            ":80",
            "1.2.3.4:",
        ] {
            check(wrong, None);
        }
    }
}
