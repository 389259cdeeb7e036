//! The addresses of a walk: the first page's, built from the range, and the following ones', given by the service.

use url::Url;

use super::Query;
use super::error::{FetchError, Kind, shown};
use crate::report::AggregateBy;

/// A link longer than this is no address.
const LINK_MAX_BYTES: usize = 16 * 1024;

/// The address of a query's first page under the service's root, which ends in a slash.
///
/// The range is given by equality, in UTC and whole seconds; both ends of it are inclusive. `Url` encodes spaces and quotes.
pub(super) fn first_page(base: &Url, query: &Query) -> Url {
    let instant = |time: chrono::DateTime<chrono::Utc>| time.format("%Y-%m-%dT%H:%M:%SZ");
    let mut filter = format!(
        "$filter=StartDate eq datetime'{}' and EndDate eq datetime'{}'",
        instant(query.first),
        instant(query.last),
    );
    match query.aggregate_by {
        Some(AggregateBy::Hour) => filter.push_str(" and AggregateBy eq 'Hour'"),
        Some(AggregateBy::Day) => filter.push_str(" and AggregateBy eq 'Day'"),
        None => {}
    }
    let mut url = base.clone();
    url.set_path(&format!("{}{}", base.path(), query.report.path));
    url.set_query(Some(&filter));
    url
}

/// The address that `link` names, seen from the page at `page`: relative, absolute or bare, as RFC 3986 has it.
///
/// The next request carries the credentials, so a link to another origin is an error, as is one with credentials of its own.
pub(super) fn next_page(page: &Url, link: &str) -> Result<Url, FetchError> {
    if link.len() > LINK_MAX_BYTES {
        let message = format!("the service gave a link of {} bytes", link.len());
        return Err(FetchError::new(Kind::LinkRefused, message));
    }
    let mut url = page.join(link).map_err(|source| {
        let message = format!(
            "the service's link to the next page is no address: {}",
            shown(link)
        );
        FetchError::new(Kind::LinkRefused, message).with_source(source)
    })?;
    url.set_fragment(None);
    if url.origin() != page.origin() || !url.username().is_empty() || url.password().is_some() {
        let message = format!(
            "the service's link to the next page leaves {} for {}",
            page.origin().ascii_serialization(),
            shown(&url.origin().ascii_serialization()),
        );
        return Err(FetchError::new(Kind::LinkRefused, message));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Report;

    const PAGE: &str =
        "https://reports.example/ecp/reportingwebservice/reporting.svc/MessageTrace?$filter=x";

    fn check(link: &str, expected: &str) {
        let page = Url::parse(PAGE).unwrap();
        assert_eq!(next_page(&page, link).unwrap().as_str(), expected);
    }

    #[test]
    fn follows_all_three_forms_of_link() {
        let root = "https://reports.example/ecp/reportingwebservice/reporting.svc/";
        let next = format!("{root}MessageTrace?$filter=x&$skiptoken=1999");
        check(
            "../../reportingwebservice/reporting.svc/MessageTrace?$filter=x&$skiptoken=1999",
            &next,
        );
        check(&next, &next);
        check("MessageTrace?$filter=x&$skiptoken=1999", &next);
        check("?$filter=x&$skiptoken=1999", &next);
        check(
            "/ecp/reportingwebservice/reporting.svc/MessageTrace?$filter=x&$skiptoken=1999",
            &next,
        );
        check(
            "//reports.example/ecp/reportingwebservice/reporting.svc/MessageTrace?$filter=x&$skiptoken=1999#top",
            &next,
        );
    }

    #[test]
    fn encodes_what_a_link_leaves_plain_and_nothing_twice() {
        let root = "https://reports.example/ecp/reportingwebservice/reporting.svc/";
        check(
            "MessageTrace?$filter=StartDate eq datetime'2024'&$skiptoken=1",
            &format!("{root}MessageTrace?$filter=StartDate%20eq%20datetime%272024%27&$skiptoken=1"),
        );
        check(
            "MessageTrace?$filter=StartDate%20eq%20datetime%272024%27&$skiptoken=a%2Bb+c",
            &format!(
                "{root}MessageTrace?$filter=StartDate%20eq%20datetime%272024%27&$skiptoken=a%2Bb+c"
            ),
        );
    }

    #[test]
    fn refuses_to_leave_the_origin() {
        let page = Url::parse(PAGE).unwrap();
        for link in [
            "https://elsewhere.example/ecp/reportingwebservice/reporting.svc/MessageTrace?$skiptoken=1999",
            "//elsewhere.example/x",
            "\\\\elsewhere.example/x",
            "http://reports.example/ecp/x",
            "https://reports.example:8443/ecp/x",
            "https://reports.example.evil/ecp/x",
            "https://reports.example@evil.example/ecp/x",
            "https://user:word@reports.example/ecp/x",
            "https://user@reports.example/ecp/x",
            "javascript:alert(1)",
            "data:,x",
            "https://[::1/x",
            &"x".repeat(LINK_MAX_BYTES + 1),
        ] {
            let error = next_page(&page, link).unwrap_err();
            assert_eq!(error.kind(), Kind::LinkRefused, "{link}: {error}");
            assert!(!error.to_string().contains("word"), "{error}");
        }
    }

    #[test]
    fn asks_for_the_range_by_equality() {
        let query = Query {
            report: Report::by_service("office365_reporting_MailTraffic_service").unwrap(),
            first: "2024-05-07T15:35:24Z".parse().unwrap(),
            last: "2024-05-07T16:35:24.999Z".parse().unwrap(),
            aggregate_by: Some(AggregateBy::Hour),
        };
        let base =
            Url::parse("https://reports.example/ecp/ReportingWebService/Reporting.svc/").unwrap();
        assert_eq!(
            first_page(&base, &query).as_str(),
            "https://reports.example/ecp/ReportingWebService/Reporting.svc/MailTraffic?\
             $filter=StartDate%20eq%20datetime%272024-05-07T15:35:24Z%27\
             %20and%20EndDate%20eq%20datetime%272024-05-07T16:35:24Z%27\
             %20and%20AggregateBy%20eq%20%27Hour%27"
        );
    }
}
