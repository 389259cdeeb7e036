//! What a request to Graph's message trace asks for.

use chrono::{DateTime, Utc};
use url::form_urlencoded;

use super::GraphOptions;
use super::error::Refusal;
use super::filter::Filter;
use super::time::{cut, date_time, day, unit};
use super::token::Token;
use crate::service::generator::{SECOND, Ticks, ticks};

/// The most rows a page that may be asked for (documented by Microsoft).
const ROWS_MAX: usize = 5_000;
/// The rows of a page if nothing is said (documented by Microsoft).
const ROWS: usize = 1_000;
/// The longest range, in days (documented by Microsoft).
const RANGE_DAYS_MAX: i64 = 10;
/// The oldest start, in days before today's UTC date (documented by Microsoft; by date, as seen).
const AGE_DAYS_MAX: i64 = 90;
/// Hours before now that are meant without a range (documented by Microsoft).
const HOURS: i64 = 48;

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) filter: Filter,
    /// The filter as it was given.
    pub(crate) filter_text: Option<String>,
    /// Where the page begins: a link's token, or the start of a walk.
    pub(crate) token: Token,
    /// The link's token as it was given.
    pub(crate) token_text: Option<String>,
}

impl Query {
    /// Reads a query as it stands in the URL. Options that are not known, `$select`, `$orderby` and `$count` are ignored, as seen.
    pub(crate) fn parse(
        query: &str,
        now: DateTime<Utc>,
        options: &GraphOptions,
    ) -> Result<Query, Refusal> {
        let (mut filter, mut size) = (Filter::default(), ROWS);
        let (mut filter_text, mut token_text) = (None, None);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "$filter" => {
                    filter = Filter::parse(&value)?;
                    filter_text = Some(value.into_owned());
                }
                "$top" => size = rows(&value)?,
                "$skiptoken" => token_text = Some(value.into_owned()),
                _ => {}
            }
        }
        let token = if let Some(text) = &token_text {
            // The token's range counts; whether it ever expires is not known.
            Token::read(text)?
        } else {
            let (start, end) = range(&filter, ticks(now), options)?;
            Token {
                start,
                end,
                recipient: String::new(),
                size,
            }
        };
        Ok(Query {
            filter,
            filter_text,
            token,
            token_text,
        })
    }

    /// The walk's first instant, and the one where the page begins.
    pub(crate) fn bounds(&self) -> (DateTime<Utc>, DateTime<Utc>) {
        (date_time(self.token.start), date_time(self.token.end))
    }

    /// The rows that can be on this page or a later one, `[from, to)` in ticks: those of the range up to and with the instant where the page
    /// begins.
    pub(crate) fn range(&self, options: &GraphOptions) -> (Ticks, Ticks) {
        let unit = unit(options.known_decimals);
        // Graph knows of an instant only so much: a bound inside of it leaves it out at the start and lets it in at the end.
        let from = cut(self.token.start + unit - 1, options.known_decimals);
        let to = cut(self.token.end, options.known_decimals) + unit;
        (from, to)
    }
}

fn rows(text: &str) -> Result<usize, Refusal> {
    let rows = text.parse().ok();
    rows.filter(|rows| (1..=ROWS_MAX).contains(rows))
        .ok_or_else(Refusal::size)
}

/// The bounds of a walk, both inclusive.
fn range(filter: &Filter, now: Ticks, options: &GraphOptions) -> Result<(Ticks, Ticks), Refusal> {
    let refuse = |message| Err(Refusal::new(400, message));
    let (start, end) = match (filter.start, filter.end) {
        (None, None) => return Ok((now - HOURS * 3_600 * SECOND, now)),
        (Some(_), None) => return refuse("EndDate is required when a StartDate is entered."),
        (None, Some(_)) => return refuse("StartDate is required when an EndDate is entered."),
        (Some(start), Some(end)) => (start, end),
    };
    if start > end {
        return refuse("Invalid StartDate value. The StartDate can't be later than the EndDate.");
    }
    if end > now {
        return refuse("Invalid EndDate value. The EndDate can't be in the future.");
    }
    if end - start > RANGE_DAYS_MAX * 86_400 * SECOND {
        return refuse(
            "Invalid EndDate value. The interval between StartDate and EndDate can't be longer than 10 days.",
        );
    }
    if day(now) - day(start) > AGE_DAYS_MAX {
        let message =
            "Invalid StartDate value. The StartDate can't be older than 90 days from today.";
        return Err(Refusal::new(options.too_old_status, message));
    }
    Ok((start, end))
}
