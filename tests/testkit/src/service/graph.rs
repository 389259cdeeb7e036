//! Microsoft Graph's message trace, simulated over the rows that the reporting service has.
//!
//! It knows `GET /v1.0/admin/exchange/tracing/messageTraces` and nothing else. Where Microsoft has documented nothing, it does what was seen, and
//! where nothing was seen there is an option.

mod error;
mod filter;
mod listing;
mod options;
mod query;
mod row;
mod time;
mod token;
mod walks;

use chrono::{DateTime, Utc};
use hyper::Method;
use hyper::http::request::Parts;

pub use options::{GraphOptions, Ties};
pub use token::DeadLink;

use super::Inner;
use super::faults::Fault;
use super::options::Options;
use super::reply::{Reply, retry_after};
use super::signin::Grant;
use super::store::TableKey;
use crate::report::Report;
use crate::sync::lock;
pub(crate) use error::Refusal;
use listing::Listing;
pub(crate) use query::Query;
use row::Form;
pub(crate) use walks::Walks;

/// Where message trace lies (documented by Microsoft).
pub(crate) const PATH: &str = "/v1.0/admin/exchange/tracing/messageTraces";

/// The application permission that it takes (documented by Microsoft).
const PERMISSION: &str = "ExchangeMessageTrace.Read.All";

/// Graph's root in Microsoft's cloud; a token for it is as good as one for the simulator's own root.
const MICROSOFT: &str = "https://graph.microsoft.com";

/// The rows that Graph lists: those of the reporting service's message trace.
pub(crate) const TABLE: TableKey = TableKey {
    report: Report::MessageTrace,
    aggregate: None,
};

/// A request to Graph, and what its answer takes.
pub(crate) struct Asked<'a> {
    pub(crate) head: &'a Parts,
    /// The root of Graph as the client knows it.
    pub(crate) origin: &'a str,
    pub(crate) query: &'a Result<Query, Refusal>,
    pub(crate) authorization: &'a str,
    pub(crate) request_id: &'a str,
    pub(crate) fault: Option<&'a Fault>,
}

/// Answers a request.
pub(crate) fn answer(
    asked: &Asked<'_>,
    now: DateTime<Utc>,
    inner: &Inner,
    options: &Options,
) -> Reply {
    let refuse = |refusal: &Refusal| refusal.reply(asked.request_id, now, &options.graph);
    if let Some(refusal) = asked.fault.and_then(Refusal::ordered) {
        let mut reply = refuse(&refusal);
        reply.retry_after = asked.fault.and_then(|fault| retry_after(fault, now));
        return reply;
    }
    let length = asked
        .head
        .uri
        .path_and_query()
        .map_or(0, |url| url.as_str().len());
    if length > options.graph.url_bytes_max {
        return refuse(&Refusal::new(404, ""));
    }
    let grant = lock(&inner.tokens).grant(asked.authorization).cloned();
    if let Err(refusal) = admit(grant.as_ref(), asked.origin) {
        return refuse(&refusal);
    }
    if asked.head.method != Method::GET {
        return refuse(&Refusal::new(405, "The method is not allowed."));
    }
    match asked.query {
        Err(refusal) => refuse(refusal),
        Ok(query) => {
            let prefer = asked.head.headers.get("prefer");
            let prefer = prefer
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default();
            let form = Form {
                options: &options.graph,
                all_statuses: prefer.contains("include-unknown-enum-members"),
            };
            let listing = Listing::new(query, form, asked.fault, now, &inner.store);
            listing.reply(asked, inner)
        }
    }
}

/// Whether a token lets a request in.
fn admit(grant: Option<&Grant>, origin: &str) -> Result<(), Refusal> {
    let grant = grant
        .filter(|grant| [origin, MICROSOFT].contains(&grant.audience.as_str()))
        .ok_or_else(Refusal::token)?;
    let permitted = grant.roles.iter().any(|role| role == PERMISSION);
    permitted.then_some(()).ok_or_else(Refusal::permission)
}
