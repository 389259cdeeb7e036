//! The format of a line: `<14>YYYY-MM-DD HH:MM:SS.mmm host tag: {json}`, or `<14>Mon DD HH:MM:SS fqdn tag: {json}` for plain syslog; the last
//! key is `@devo_pulling_id` in both. The collector's own messages come in the same form, under a tag of their own.

use chrono::NaiveDateTime;

use crate::json;
use crate::records::Identity;
use crate::report::Report;

/// Which lines a relay is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Devo's own.
    Devo,
    /// Those of plain syslog.
    Syslog,
}

impl Format {
    /// What a date looks like, and how it is parsed; a year goes before one that has none.
    fn date(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Format::Devo => ("YYYY-MM-DD HH:MM:SS.mmm", "%Y-%m-%d %H:%M:%S.%3f", ""),
            Format::Syslog => ("Mon DD HH:MM:SS", "%Y %b %d %H:%M:%S", "2024 "),
        }
    }
}

/// What a line holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// A record of a report.
    Record(Report, Identity),
    /// A message of the collector's own.
    Message(Message),
}

/// A message of the collector's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The last part of its tag.
    pub level: String,
    /// Its content.
    pub content: serde_json::Value,
}

/// What the tags of the collector's own messages begin with; a level follows.
pub(super) const MESSAGES: &str = "devo.collectors.out.local.";

/// What a line holds (without its end).
///
/// # Errors
///
/// Says what is not as it should be.
pub fn check(format: Format, line: &[u8]) -> Result<Line, String> {
    let line = std::str::from_utf8(line).map_err(|error| format!("not UTF-8: {error}"))?;
    let rest = line
        .strip_prefix("<14>")
        .ok_or("does not begin with <14>")?;
    let (looks, parsed, year) = format.date();
    let (date, rest) = rest
        .split_at_checked(looks.len())
        .ok_or("ends within its date")?;
    NaiveDateTime::parse_from_str(&format!("{year}{date}"), parsed)
        .map_err(|error| format!("date `{date}`: {error}"))?;
    let rest = rest.strip_prefix(' ').ok_or("no space after the date")?;
    let (host, rest) = rest.split_once(' ').ok_or("no host name")?;
    if host.is_empty() || !host.chars().all(|c| c.is_ascii_graphic()) {
        return Err(format!("host name `{host}`"));
    }
    let (tag, content) = rest.split_once(": ").ok_or("no tag")?;
    if let Some(level) = tag.strip_prefix(MESSAGES) {
        return message(level, content).map(Line::Message);
    }
    let report = Report::by_tag(tag).ok_or_else(|| format!("unknown tag `{tag}`"))?;
    record(content).map(|identity| Line::Record(report, identity))
}

fn record(content: &str) -> Result<Identity, String> {
    if !content.starts_with('{') || !content.ends_with('}') {
        return Err("the content is not one JSON object, or has white space around it".to_owned());
    }
    let fields = json::fields(content)?;
    match fields.last() {
        Some((r#""@devo_pulling_id""#, id)) if is_digits(id) => {}
        _ => return Err("the last key is not @devo_pulling_id with a string of digits".to_owned()),
    }
    let own = |key: &str| key.starts_with("\"@devo_");
    let known = match &fields[..fields.len() - 1] {
        [front @ .., (r#""@devo_environment""#, value)] if value.starts_with('"') => front,
        front => front,
    };
    if let Some((key, _)) = known.iter().find(|(key, _)| own(key)) {
        return Err(format!("the key {key} out of place"));
    }
    Ok(Identity::of_fields(&fields))
}

/// A message of this level: all that is always known is there, and nothing that is not known of.
fn message(level: &str, content: &str) -> Result<Message, String> {
    const ALWAYS: [&str; 6] = [
        "msg",
        "time",
        "level",
        "collector_name",
        "collector_version",
        "module_name",
    ];
    const SOMETIMES: [&str; 4] = [
        "collector_image",
        "input_name",
        "service_name",
        "output_name",
    ];
    let value: serde_json::Value =
        serde_json::from_str(content).map_err(|error| format!("a message: {error}"))?;
    let object = value.as_object().ok_or("a message that is no object")?;
    if let Some(key) = ALWAYS.iter().find(|key| !object.contains_key(**key)) {
        return Err(format!("a message without `{key}`"));
    }
    for (key, value) in object {
        // What an hour came to.
        if key == "audit" && value.is_object() {
            continue;
        }
        let known = ALWAYS.iter().chain(&SOMETIMES).any(|known| known == key);
        if !known || value.as_str().is_none_or(str::is_empty) {
            return Err(format!("a message with {key}: {value}"));
        }
    }
    if !matches!(level, "error" | "warning" | "info" | "debug")
        || !object["level"]
            .as_str()
            .is_some_and(|own| own.eq_ignore_ascii_case(level))
    {
        return Err(format!(
            "a message of the level {} as {level}",
            object["level"]
        ));
    }
    Ok(Message {
        level: level.to_owned(),
        content: value,
    })
}

fn is_digits(value: &str) -> bool {
    let digits = value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or_default();
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"<14>2026-11-22 14:40:52.290 host-1 cloud.office365.reporting.dlp: {"A":1,"@devo_pulling_id":"1764"}"#;

    #[test]
    fn a_line_in_format_is_its_report_and_record() {
        let Line::Record(report, identity) = check(Format::Devo, GOOD.as_bytes()).unwrap() else {
            panic!("no record");
        };
        assert_eq!(report, Report::DlpDetections);
        assert_eq!(identity, Identity::of(r#"{"A":1,"Index":3}"#).unwrap());
        let environment = GOOD.replace("\"@devo_p", r#""@devo_environment":"prod","@devo_p"#);
        assert_eq!(
            check(Format::Devo, environment.as_bytes()).unwrap(),
            Line::Record(report, identity)
        );
    }

    #[test]
    fn a_message_is_told_from_a_record_by_its_tag_and_has_all_its_keys() {
        const MESSAGE: &str = r#"<14>2026-11-22 14:40:52.290 h devo.collectors.out.local.info: {"msg":"m","time":"t","level":"INFO","collector_name":"c","collector_version":"1","module_name":"x"}"#;
        let checked = check(Format::Devo, MESSAGE.as_bytes()).unwrap();
        assert!(matches!(checked, Line::Message(message) if message.level == "info"));
        for (from, to) in [
            ("local.info", "local.error"),
            ("local.info", "local.fatal"),
            (r#""msg":"m","#, ""),
            (r#""msg":"m","#, r#""msg":1,"#),
            (r#""msg":"m","#, r#""msg":"m","more":"x","#),
            (r#""msg":"m","#, r#""msg":"m","audit":"x","#),
        ] {
            let line = MESSAGE.replacen(from, to, 1);
            assert_ne!(line, MESSAGE);
            assert!(check(Format::Devo, line.as_bytes()).is_err(), "{line}");
        }
    }

    #[test]
    fn a_line_of_plain_syslog_has_another_date_and_the_same_record() {
        let plain = GOOD.replacen("2026-11-22 14:40:52.290", "Nov 22 14:40:52", 1);
        assert_ne!(plain, GOOD);
        let record = check(Format::Syslog, plain.as_bytes());
        assert_eq!(record, check(Format::Devo, GOOD.as_bytes()));
        assert!(record.is_ok());
        assert!(check(Format::Devo, plain.as_bytes()).is_err());
        assert!(check(Format::Syslog, GOOD.as_bytes()).is_err());
    }

    #[test]
    fn whatever_else_comes_is_a_violation() {
        for (from, to) in [
            ("<14>", "<13>"),
            ("<14>", "95 <14>"),
            ("2026-11-22 ", "2026-11-22T"),
            ("52.290", "52"),
            ("52.290", "52.2901"),
            ("-22 14", "-32 14"),
            ("host-1 ", ""),
            ("reporting.dlp", "reporting.other"),
            ("dlp: ", "dlp:"),
            ("dlp: ", "dlp "),
            ("{\"A\":1,", "[{\"A\":1,"),
            ("\"A\":1,", "\"A\":1"),
            (",\"@devo_pulling_id\":\"1764\"", ""),
            ("\"1764\"", "1764"),
            ("\"1764\"", "\"\""),
            ("\"1764\"", "\"17x4\""),
            ("\"1764\"}", "\"1764\",\"B\":1}"),
            ("\"1764\"}", "\"1764\"} "),
            ("\"A\":1", "\"@devo_environment\":\"x\",\"A\":1"),
            ("\"A\":1", "\"@devo_pulling_id\":\"1\""),
        ] {
            let line = GOOD.replacen(from, to, 1);
            assert_ne!(line, GOOD);
            assert!(check(Format::Devo, line.as_bytes()).is_err(), "{line}");
        }
        assert!(check(Format::Devo, b"<14>2026-11-22 14:40:52.290 h cloud.office365.reporting.dlp: {\"A\":\"\xff\",\"@devo_pulling_id\":\"1\"}").is_err());
    }
}
