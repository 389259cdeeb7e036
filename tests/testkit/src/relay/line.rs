//! The format of a line: `<14>YYYY-MM-DD HH:MM:SS.mmm host tag: {json}`, or `<14>Mon DD HH:MM:SS fqdn tag: {json}` for plain syslog; the last
//! key is `@devo_pulling_id` in both.

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

/// The report and the record of a line (without its end of line).
///
/// # Errors
///
/// Says what is not as it should be.
pub fn check(format: Format, line: &[u8]) -> Result<(Report, Identity), String> {
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
    let report = Report::by_tag(tag).ok_or_else(|| format!("unknown tag `{tag}`"))?;
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
    Ok((report, Identity::of_fields(&fields)))
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
        let (report, identity) = check(Format::Devo, GOOD.as_bytes()).unwrap();
        assert_eq!(report, Report::DlpDetections);
        assert_eq!(identity, Identity::of(r#"{"A":1,"Index":3}"#).unwrap());
        let environment = GOOD.replace("\"@devo_p", r#""@devo_environment":"prod","@devo_p"#);
        assert_eq!(
            check(Format::Devo, environment.as_bytes()).unwrap(),
            (report, identity)
        );
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
