//! Where a report comes from: windows are walked page by page, each request signed and within the budget.
//!
//! A [`Source`] is what a service knows of it: its [`Terms`], its clocks, and walks over windows. [`ReportSource`] is Microsoft's reporting
//! service, one for each report over the input's [`Client`]; the tests of `service` have a scripted one.
//!
//! A [`Walk`] asks for one page at a time and keeps its position: a page that could not be had is asked for again by the
//! next call. Nothing here sleeps on an error, tries again in a loop, or looks at the stop signal: an error tells its
//! [`Remedy`], and the service's loop obeys. The one thing waited for is a turn of the [`limiter`].
//!
//! The one exception is a token that the service rejects: it is renewed once and the request is made again, since a
//! token may end in the middle of a walk.

mod answer;
mod assertion;
mod authorization;
mod challenge;
mod clock;
mod codes;
mod coding;
pub mod concurrency;
mod directory;
mod envelope;
mod error;
mod fault;
mod grant;
pub mod graph;
mod http;
pub mod limiter;
mod link;
mod meter;
mod page;
mod pem;
mod proxy;
mod refusal;
pub mod reporting;
mod roles;
mod route;
mod sign_in;
mod structure;
mod tls;
mod verbose;
mod walk;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::config::ServiceConfig;
use crate::report::{AggregateBy, Report, Terms};
use crate::window::Schedule;

pub use self::clock::DIFFERENCE_MAX;
pub use self::error::{FetchError, Kind, Remedy};
pub use self::graph::GraphSource;
pub use self::http::{Charge, Client};
pub use self::meter::Meter;
pub use self::page::Page;
pub use self::reporting::ReportSource;
pub use self::roles::Roles;
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

/// What is awaited of a source.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where the pages of one report come from.
pub trait Source: Send + Sync {
    /// What it is like for this report.
    fn terms(&self) -> &Terms;

    /// A walk of the query's pages, at its beginning. Nothing is asked yet.
    fn walk(&self, first: DateTime<Utc>, last: DateTime<Utc>) -> Box<dyn Pages>;

    /// What the other side's clocks say now.
    fn clocks(&self) -> RemoteTimes;

    /// What is left of a pause that it asked for; `None` when there is none.
    fn paused(&self) -> Option<Duration>;

    /// The same for windows whose rows may not all be there yet; `None` if it is the same.
    fn unsettled(&self) -> Option<Arc<dyn Source>> {
        None
    }
}

/// All pages of one query, one after the other.
pub trait Pages: Send {
    /// The next page; `None` after the last. After an error the next call asks for the same page again. Cancel safe: if the future is
    /// dropped, the next call asks for the same page.
    fn next_page(&mut self) -> Pending<'_, Result<Option<Page>, FetchError>>;

    /// Whether a link leads on from the last page.
    fn leads_on(&self) -> bool;

    /// Whether the source has left rows out, and is known to.
    fn was_cut_off(&self) -> bool {
        false
    }
}

/// What the clocks at the other side say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoteTimes {
    /// The service's clock, from the last answer that was a page. `None` before the first.
    pub service: Option<DateTime<Utc>>,
    /// How long ago the service told it.
    pub service_age: Option<Duration>,
    /// The directory's clock, from the last token. `None` where there is none.
    pub directory: Option<DateTime<Utc>>,
}

/// The time that the clocks agree on, and how many there are.
pub(crate) fn agreed(ours: DateTime<Utc>, theirs: RemoteTimes) -> (DateTime<Utc>, usize) {
    let mut clocks = vec![ours];
    clocks.extend(theirs.service);
    clocks.extend(theirs.directory);
    clocks.sort_unstable();
    // The middle one of three, the earlier of two.
    (clocks[(clocks.len() - 1) / 2], clocks.len())
}

/// When the windows of a service are due, and how long they are.
pub fn schedule(service: &ServiceConfig) -> Schedule {
    let terms = reporting::terms(service.report, service.aggregate_by);
    Schedule::new(&terms, service.period, service.delay)
}

#[cfg(test)]
mod tests;
