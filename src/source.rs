//! The reporting service's client: windows are walked page by page, each request signed and within the budget.
//!
//! A [`Walk`] asks for one page at a time and keeps its position: a page that could not be had is asked for again by the
//! next call. Nothing here sleeps on an error, tries again in a loop, or looks at the stop signal: an error tells its
//! [`Remedy`], and the service's loop obeys. The one thing waited for is a turn of the [`limiter`].
//!
//! The one exception is a token that the service rejects: it is renewed once and the request is made again at once, since a
//! token may end in the middle of a walk.

mod answer;
mod assertion;
mod clock;
mod error;
mod fault;
mod http;
pub mod limiter;
mod link;
mod meter;
mod page;
mod pem;
mod refusal;
mod route;
mod sign_in;
mod tls;
mod verbose;
mod walk;

use chrono::{DateTime, Utc};

use crate::report::{AggregateBy, Report};

pub use self::clock::DIFFERENCE_MAX;
pub use self::error::{FetchError, Kind, Remedy};
pub use self::http::Client;
pub use self::meter::Meter;
pub use self::page::Page;
pub use self::route::Route;
pub use self::walk::Walk;

/// What is asked for: a report's rows from `first` to `last`, both inclusive and in whole seconds.
#[derive(Clone, Copy, Debug)]
pub struct Query {
    /// The report.
    pub report: &'static Report,
    /// The first second of the range.
    pub first: DateTime<Utc>,
    /// The last second of the range.
    pub last: DateTime<Utc>,
    /// The buckets of a traffic report, which has to be asked for them.
    pub aggregate_by: Option<AggregateBy>,
}

#[cfg(test)]
mod tests;
