//! What a request for a report asks for, read exactly as strictly as it is documented.
//!
//! Only `field eq constant` joined by `and` is understood, dates are in UTC with `Z` and whole seconds, and what is not
//! known is an error rather than ignored: a client's slip is to be seen.

use chrono::{DateTime, NaiveDateTime, Utc};
use percent_encoding::percent_decode_str;

use super::generator::{SECOND, Ticks, ticks};
use crate::report::{Aggregate, Report, Resolution};

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) report: Report,
    pub(crate) start: DateTime<Utc>,
    pub(crate) end: DateTime<Utc>,
    pub(crate) aggregate: Option<Aggregate>,
    /// The token of the link that was followed.
    pub(crate) skip: Option<u64>,
    /// `$format` says that the verbose shape is wanted.
    pub(crate) verbose: bool,
}

impl Query {
    /// Reads a query as it stands in the URL.
    ///
    /// # Errors
    ///
    /// The message that the service puts into its answer with status 400.
    pub(crate) fn parse(report: Report, query: &str, now: DateTime<Utc>) -> Result<Query, String> {
        let default_days = if report == Report::MessageTrace {
            2
        } else {
            14
        };
        let mut filter = Filter::default();
        let (mut skip, mut verbose) = (None, false);
        for (name, value) in query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        {
            match decode(name)?.as_str() {
                "$filter" => filter = Filter::parse(&decode(value)?)?,
                "$skiptoken" => {
                    let token = decode(value)?;
                    // A link that loops has a number behind its token, so that each is new.
                    let row = token.split('_').next().unwrap_or_default().parse();
                    skip = Some(row.map_err(|_| format!("Invalid skip token '{value}'."))?);
                }
                "$format" => match decode(value)?.to_ascii_lowercase().as_str() {
                    "json" => verbose = true,
                    other => return Err(format!("The format '{other}' is not supported.")),
                },
                other if other.eq_ignore_ascii_case("X-RWS-Version") => {
                    return Err("The version is given in the header and in the query.".to_owned());
                }
                other => return Err(format!("The query parameter '{other}' is not supported.")),
            }
        }
        if report.is_traffic() && filter.aggregate.is_none() {
            return Err("AggregateBy is required for this report.".to_owned());
        }
        if !report.is_traffic() && filter.aggregate.is_some() {
            return Err("Could not find a property named 'AggregateBy'.".to_owned());
        }
        let end = filter.end.unwrap_or(now);
        let start = filter
            .start
            .unwrap_or(end - chrono::TimeDelta::days(default_days));
        if start > end {
            return Err("StartDate is later than EndDate.".to_owned());
        }
        Ok(Query {
            report,
            start,
            end,
            aggregate: filter.aggregate,
            skip,
            verbose,
        })
    }

    /// The rows that match, `[from, to)` in ticks.
    pub(crate) fn range(&self) -> (Ticks, Ticks) {
        let resolution = self.report.resolution(self.aggregate);
        let unit = resolution.seconds() * SECOND;
        let (start, end) = (ticks(self.start), ticks(self.end));
        match resolution {
            Resolution::Instant => (start, end + 1),
            Resolution::Hour | Resolution::Day => (
                start - start.rem_euclid(unit),
                end - end.rem_euclid(unit) + unit,
            ),
        }
    }

    /// The page that the token means, from 0. The division is the service's: an unaligned token repeats rows.
    pub(crate) fn page(&self, page_rows: usize) -> u64 {
        self.skip
            .map_or(0, |token| (token + 1) / page_rows.max(1) as u64)
    }
}

fn decode(text: &str) -> Result<String, String> {
    let decoded = percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| format!("'{text}' is not UTF-8."))?;
    Ok(decoded.into_owned())
}

#[derive(Default)]
struct Filter {
    start: Option<DateTime<Utc>>,
    end: Option<DateTime<Utc>>,
    aggregate: Option<Aggregate>,
}

impl Filter {
    fn parse(text: &str) -> Result<Filter, String> {
        let mut filter = Filter::default();
        for clause in text.split(" and ") {
            let [field, operator, constant] = clause.split(' ').collect::<Vec<_>>()[..] else {
                return Err(format!("Syntax error in '{clause}'."));
            };
            if operator != "eq" {
                return Err(format!("The operator '{operator}' is not supported."));
            }
            let repeated = match field {
                "StartDate" => filter.start.replace(date(constant)?).is_some(),
                "EndDate" => filter.end.replace(date(constant)?).is_some(),
                "AggregateBy" => filter.aggregate.replace(bucket(constant)?).is_some(),
                other => return Err(format!("Could not find a property named '{other}'.")),
            };
            if repeated {
                return Err(format!("'{field}' is given twice."));
            }
        }
        Ok(filter)
    }
}

fn date(constant: &str) -> Result<DateTime<Utc>, String> {
    constant
        .strip_prefix("datetime'")
        .and_then(|rest| rest.strip_suffix('\''))
        // chrono takes digits left out; the documented form has all of them.
        .filter(|date| date.len() == "2024-05-07T15:35:24Z".len())
        .and_then(|date| NaiveDateTime::parse_from_str(date, "%Y-%m-%dT%H:%M:%SZ").ok())
        .map(|date| date.and_utc())
        .ok_or_else(|| format!("Unrecognized literal '{constant}'."))
}

fn bucket(constant: &str) -> Result<Aggregate, String> {
    match constant {
        "'Hour'" => Ok(Aggregate::Hour),
        "'Day'" => Ok(Aggregate::Day),
        other => Err(format!("Unrecognized literal '{other}' for AggregateBy.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: &str =
        "StartDate eq datetime'2024-05-07T15:35:24Z' and EndDate eq datetime'2024-05-07T16:35:24Z'";

    fn parse(report: Report, filter: &str, more: &str) -> Result<Query, String> {
        let filter = filter.replace(' ', "%20").replace('\'', "%27");
        Query::parse(
            report,
            &format!("$filter={filter}{more}"),
            at("2024-05-08T00:00:00Z"),
        )
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn the_documented_filter_is_read() {
        let query = parse(Report::MessageTrace, RANGE, "").unwrap();
        assert_eq!(
            (query.start, query.end),
            (at("2024-05-07T15:35:24Z"), at("2024-05-07T16:35:24Z"))
        );
        assert_eq!((query.skip, query.verbose), (None, false));
        let query = parse(
            Report::MailTraffic,
            &format!("{RANGE} and AggregateBy eq 'Day'"),
            "&$format=json",
        )
        .unwrap();
        assert_eq!(
            (query.aggregate, query.verbose),
            (Some(Aggregate::Day), true)
        );
    }

    #[test]
    fn anything_else_is_an_error() {
        for filter in [
            "StartDate ge datetime'2024-05-07T15:35:24Z'",
            "StartDate eq datetime'2024-05-07T15:35:24'",
            "StartDate eq datetime'2024-05-07T15:35:24.5Z'",
            "StartDate eq '2024-05-07T15:35:24Z'",
            "StartDate eq 2024-05-07T15:35:24Z",
            "StartDate eq datetime'2024-05-07T15:35:24Z' or EndDate eq datetime'2024-05-07T15:35:24Z'",
            "StartDate  eq datetime'2024-05-07T15:35:24Z'",
            "StartDate+eq+datetime'2024-05-07T15:35:24Z'",
            "Received eq datetime'2024-05-07T15:35:24Z'",
            "AggregateBy eq 'Hour'",
            "StartDate eq datetime'2024-05-09T15:35:24Z'",
            "",
        ] {
            assert!(parse(Report::MessageTrace, filter, "").is_err(), "{filter}");
        }
        for more in [
            "&X-RWS-Version=2013-V1",
            "&$top=5",
            "&$skiptoken=-1",
            "&$skiptoken=refused",
            "&$format=atom",
        ] {
            assert!(parse(Report::MessageTrace, RANGE, more).is_err(), "{more}");
        }
        assert!(parse(Report::MailTraffic, RANGE, "").is_err());
        assert!(
            parse(
                Report::MailTraffic,
                &format!("{RANGE} and AggregateBy eq 'hour'"),
                ""
            )
            .is_err()
        );
    }

    #[test]
    fn a_token_is_turned_into_a_page_by_integer_division() {
        let page = |token: &str| {
            parse(Report::MessageTrace, RANGE, token)
                .unwrap()
                .page(2_000)
        };
        assert_eq!(page(""), 0);
        assert_eq!(page("&$skiptoken=1998"), 0);
        assert_eq!(page("&$skiptoken=1999"), 1);
        assert_eq!(page("&%24skiptoken=2500"), 1);
        assert_eq!(page("&$skiptoken=3999"), 2);
    }

    #[test]
    fn a_range_is_filtered_at_the_reports_own_resolution() {
        let range = |report, more: &str| {
            let (from, to) = parse(report, &format!("{RANGE}{more}"), "")
                .unwrap()
                .range();
            let text = |ticks: Ticks| {
                DateTime::from_timestamp_nanos(ticks * 100)
                    .format("%d %H:%M:%S%.f")
                    .to_string()
            };
            (text(from), text(to))
        };
        let own = |from: &str, to: &str| (from.to_owned(), to.to_owned());
        assert_eq!(
            range(Report::MessageTrace, ""),
            own("07 15:35:24", "07 16:35:24.000000100")
        );
        assert_eq!(
            range(Report::DlpDetail, ""),
            own("07 15:00:00", "07 17:00:00")
        );
        assert_eq!(
            range(Report::MailTraffic, " and AggregateBy eq 'Hour'"),
            own("07 15:00:00", "07 17:00:00")
        );
        assert_eq!(
            range(Report::MailTraffic, " and AggregateBy eq 'Day'"),
            own("07 00:00:00", "08 00:00:00")
        );
        assert_eq!(
            range(Report::SpoofMail, ""),
            own("07 00:00:00", "08 00:00:00")
        );
    }

    #[test]
    fn without_a_range_two_or_fourteen_days_are_meant() {
        let now = at("2024-05-08T00:00:00Z");
        let query = Query::parse(Report::MessageTrace, "", now).unwrap();
        assert_eq!((query.start, query.end), (at("2024-05-06T00:00:00Z"), now));
        let query = Query::parse(Report::SpoofMail, "", now).unwrap();
        assert_eq!(query.start, at("2024-04-24T00:00:00Z"));
    }
}
