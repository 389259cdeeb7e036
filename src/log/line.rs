//! The original's line: `2026-11-22T14:40:52.290    INFO Process::Thread -> message`, in UTC.
//!
//! We have one process and no thread for each task. What stands there are the original's names of the parts that do the same work
//! (reference: the logs in Devo's documentation of collectors): `InputProcess` pulls, `OutputProcess` delivers, `MainProcess` does the rest.

use tracing::Level;

use super::{Place, Said};

/// The line, without its end.
pub(super) fn print(said: &Said) -> String {
    let time = said.time.format("%Y-%m-%dT%H:%M:%S%.3f");
    let (level, place) = (levelname(said.level), place(&said.place));
    format!("{time}{level:>8} {place} -> {}", said.text())
}

/// The level's name as the original says it, in capitals.
pub(crate) fn levelname(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARNING",
        Level::INFO => "INFO",
        Level::DEBUG => "DEBUG",
        Level::TRACE => "TRACE",
    }
}

/// Process and thread.
fn place(place: &Place) -> String {
    let name = |part: &Option<String>| part.clone().unwrap_or_default();
    let (input, service) = (name(&place.input), name(&place.service));
    match &place.output {
        Some(output) if place.service.is_some() => {
            format!("OutputProcess::Output({output},{input},{service})")
        }
        Some(output) => format!("OutputProcess::Output({output})"),
        None if place.service.is_some() => format!("InputProcess::Service({input},{service})"),
        None => "MainProcess::MainThread".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::said::tests::{heard, say};
    use super::*;

    #[test]
    fn a_line_is_the_originals() {
        let lines: Vec<_> = heard(say).iter().map(print).collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
        2026-11-22T14:40:52.290    INFO MainProcess::MainThread -> collecting services=2
        2026-11-22T14:40:52.290    INFO InputProcess::Service(tenant,trace_service) -> window delivered window=10:00..11:00 per_second=1.5 whole=true
        2026-11-22T14:40:52.290   ERROR OutputProcess::Output(devo_1,tenant,trace_service) -> delivery waits error="it \"broke\"\nat once" retry_in=1s
        "#);
    }
}
