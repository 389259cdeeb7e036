//! One row: a test's own or made by rule, and how it is written.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::content::sample;
use super::fields::Fields;
use super::generator::{Generator, iso};
use crate::json;
use crate::report::{Aggregate, Report};

/// A row of a test's own making.
#[derive(Clone, Debug)]
pub struct Row {
    pub(crate) time: DateTime<Utc>,
    pub(crate) aggregate: Aggregate,
    text: Vec<u8>,
    verbatim: bool,
}

impl Row {
    /// A row whose JSON object is `text`, filtered by `time`. `StartDate`, `EndDate` and `Index` are added to it.
    pub fn new(time: DateTime<Utc>, text: impl Into<String>) -> Row {
        Row {
            time,
            aggregate: Aggregate::Hour,
            text: text.into().into_bytes(),
            verbatim: false,
        }
    }

    /// A row of any bytes, which go out as they stand.
    pub fn raw(time: DateTime<Utc>, bytes: impl Into<Vec<u8>>) -> Row {
        Row {
            time,
            aggregate: Aggregate::Hour,
            text: bytes.into(),
            verbatim: true,
        }
    }

    /// A row with all documented fields of a report; `number` tells it from others at the same time.
    pub fn sample(report: Report, time: DateTime<Utc>, number: u64) -> Row {
        Row::sample_by(report, None, time, number)
    }

    /// The same, counting this bucket where the report is one of traffic.
    pub(crate) fn sample_by(
        report: Report,
        aggregate: Option<Aggregate>,
        time: DateTime<Utc>,
        number: u64,
    ) -> Row {
        let aggregate = aggregate.unwrap_or(Aggregate::Hour);
        Row::new(time, sample(report, aggregate, time, number)).aggregate(aggregate)
    }

    /// The row as it stands, with nothing added, in either JSON shape.
    #[must_use]
    pub fn verbatim(self) -> Row {
        Row {
            verbatim: true,
            ..self
        }
    }

    /// The same row with another value of a member; `value` is JSON.
    pub(crate) fn member(self, name: &str, value: &str) -> Row {
        let text = with_member(&String::from_utf8_lossy(&self.text), name, value);
        Row {
            text: text.into_bytes(),
            ..self
        }
    }

    /// For a traffic report: answers queries by this bucket; by hour, if nothing is said.
    #[must_use]
    pub fn aggregate(self, aggregate: Aggregate) -> Row {
        Row { aggregate, ..self }
    }
}

/// A JSON object with this value of a member, which is added where it is not there; what is no JSON object stays as it is.
pub(crate) fn with_member(text: &str, name: &str, value: &str) -> String {
    let Ok(mut fields) = json::fields(text) else {
        return text.to_owned();
    };
    let name = format!("\"{name}\"");
    match fields.iter_mut().find(|(own, _)| *own == name) {
        Some((_, own)) => *own = value,
        None => fields.push((&name, value)),
    }
    let members = fields.iter().map(|(name, value)| format!("{name}:{value}"));
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

/// What a row says.
#[derive(Clone)]
pub(crate) enum Content {
    /// Made by rule.
    Generated(Arc<Generator>, u32),
    /// A test's own.
    Own(Arc<Row>),
}

/// What is added to a row by the query that returns it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Echo {
    /// `StartDate` and `EndDate` in seconds since 1970, for reports that repeat them.
    pub(crate) range: Option<(i64, i64)>,
    /// The row's position in the result.
    pub(crate) index: u64,
}

impl Content {
    /// Appends the row as one JSON object.
    pub(crate) fn write(&self, report: Report, echo: &Echo, verbose: bool, out: &mut Vec<u8>) {
        let own = match self {
            Content::Own(row) if row.verbatim => return out.extend_from_slice(&row.text),
            Content::Own(row) => Some(row),
            Content::Generated(..) => None,
        };
        let mut fields = Fields::open(out, verbose);
        if verbose {
            let kind = format!(r#"{{"type":"TenantReporting.{}"}}"#, report.path());
            fields.raw("__metadata", &kind);
        }
        match (self, own) {
            (Content::Generated(generator, number), _) => generator.write(*number, &mut fields),
            (_, Some(row)) => fields.splice(&String::from_utf8_lossy(&row.text)),
            (Content::Own(_), None) => {}
        }
        let (start, end) = echo.range.unwrap_or((BEFORE_TIME, BEFORE_TIME));
        fields.moment("StartDate", start, echo.range.is_some());
        fields.moment("EndDate", end, echo.range.is_some());
        fields.number("Index", echo.index);
        fields.close();
    }

    /// The row as light JSON, without what a query adds to it.
    pub(crate) fn bare(&self) -> String {
        match self {
            Content::Own(row) => String::from_utf8_lossy(&row.text).into_owned(),
            Content::Generated(generator, number) => {
                let mut out = Vec::with_capacity(1_024);
                let mut fields = Fields::open(&mut out, false);
                generator.write(*number, &mut fields);
                fields.close();
                String::from_utf8_lossy(&out).into_owned()
            }
        }
    }

    /// The row as light JSON, for its identity.
    pub(crate) fn text(&self, report: Report, verbose: bool) -> String {
        let mut out = Vec::with_capacity(1_024);
        self.write(report, &Echo::default(), false, &mut out);
        let text = String::from_utf8_lossy(&out).into_owned();
        if verbose { milliseconds(&text) } else { text }
    }
}

/// `0001-01-01T00:00:00` in seconds since 1970: what seven of the reports say instead of the range.
const BEFORE_TIME: i64 = -62_135_596_800;

/// The row with its dates cut to milliseconds, which is all that the verbose shape tells.
fn milliseconds(text: &str) -> String {
    let Ok(fields) = json::fields(text) else {
        return text.to_owned();
    };
    let cut = |(key, value): &(&str, &str)| match iso(value.trim_matches('"')) {
        Some(_) if value.contains('.') => {
            let keep = value.find('.').map_or(value.len(), |dot| {
                (dot + 4).min(value.trim_end_matches('"').len())
            });
            format!("{key}:{}\"", &value[..keep])
        }
        _ => format!("{key}:{value}"),
    };
    format!(
        "{{{}}}",
        fields.iter().map(cut).collect::<Vec<_>>().join(",")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_verbose_shape_tells_of_a_row_is_known() {
        let row = r#"{"Received":"2022-11-29T05:35:08.2652371","A":"x"}"#;
        assert_eq!(
            milliseconds(row),
            r#"{"Received":"2022-11-29T05:35:08.265","A":"x"}"#
        );
        let row = r#"{"Received":"2022-11-29T05:35:08.2","Size":1.25}"#;
        assert_eq!(milliseconds(row), row);
    }
}
