//! `requests_per_second` and `requests_limits`, of an input or of one service.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::reader::{Field, Section};
use super::{RequestsLimit, scalar};

/// More requests a second than there are nanoseconds is no limit that anything could keep.
pub(super) const REQUESTS: RangeInclusive<u32> = 1..=1_000_000_000;
/// What the original takes for no limit.
const NO_LIMIT: &str = "-1";
const SECOND: Duration = Duration::from_secs(1);

/// The most requests a second; `None` where there is no limit, or none is given.
pub(super) fn per_second(section: &Section<'_>) -> Option<NonZeroU32> {
    number(&section.field("requests_per_second"))
}

/// The budgets of the list.
pub(super) fn read(section: &Section<'_>) -> Vec<RequestsLimit> {
    let items = section.field("requests_limits").items();
    items.iter().filter_map(limit).collect()
}

/// All budgets of a service, that of a second among them.
pub(super) fn of_service(section: &Section<'_>) -> Vec<RequestsLimit> {
    let of_a_second = per_second(section).map(|number_of_requests| RequestsLimit {
        period: SECOND,
        number_of_requests,
    });
    of_a_second.into_iter().chain(read(section)).collect()
}

fn limit(field: &Field<'_>) -> Option<RequestsLimit> {
    let section = field.section_or_empty()?;
    let period = section
        .field("period")
        .required("such as `5m`")
        .parse(|text| {
            scalar::period(text).ok_or_else(|| {
                "is not a period: give a number and one of s, m, h, d, w, M (31 days), y, such as `5m`, up to 10 years".to_owned()
            })
        });
    let number = section
        .field("number_of_requests")
        .required("the most requests in that period, or -1 for no limit");
    let number_of_requests = self::number(&number);
    section.warn_of_unknown();
    Some(RequestsLimit {
        period: period?,
        number_of_requests: number_of_requests?,
    })
}

/// A number of requests; `None` where there is no limit, or a mistake.
fn number(field: &Field<'_>) -> Option<NonZeroU32> {
    let limit = field.parse(|text| {
        if text == NO_LIMIT {
            return Ok(None);
        }
        let number = scalar::number(text).filter(|number| REQUESTS.contains(number));
        number.and_then(NonZeroU32::new).map(Some).ok_or_else(|| {
            format!(
                "is not allowed: give a whole number of requests from {} to {}, or {NO_LIMIT} for no limit",
                REQUESTS.start(),
                REQUESTS.end()
            )
        })
    });
    limit.flatten()
}
