//! Microsoft Graph's message trace, simulated over the rows that the reporting service has.
//!
//! It knows `GET /v1.0/admin/exchange/tracing/messageTraces` and nothing else. Where Microsoft has documented nothing, it does what was seen, and
//! where nothing was seen there is an option.

mod budget;
mod error;
mod filter;
mod listing;
mod options;
mod query;
mod row;
mod time;
mod token;
mod walks;

use std::time::Instant;

use chrono::{DateTime, Utc};
use hyper::Method;
use hyper::http::request::Parts;

pub(crate) use budget::Spent;
pub use budget::{GraphBudget, RetryForm};
pub use options::{GraphOptions, Principal, Ties};
pub use token::DeadLink;

use super::Inner;
use super::faults::Fault;
use super::options::Options;
use super::reply::{Reply, replacement, retry_after};
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
    let url = asked.head.uri.path_and_query();
    let length = url.map_or(0, |url| url.as_str().len());
    if length > options.graph.url_bytes_max {
        return refuse(&Refusal::new(404, ""));
    }
    let grant = lock(&inner.tokens).grant(asked.authorization).cloned();
    let admitted = admit(grant.as_ref(), asked.origin, &options.graph);
    if let (Ok(()), Some(budget)) = (&admitted, &options.graph.budget) {
        let charged = lock(&inner.spent).charge(budget, Instant::now());
        if let Err(wait) = charged {
            let mut reply = refuse(&Refusal::budget());
            reply.retry_after = budget.retry_after.value(wait, now);
            return reply;
        }
    }
    if let Some(fault) = asked.fault {
        if let Some(refusal) = Refusal::ordered(fault) {
            let mut reply = refuse(&refusal);
            reply.retry_after = retry_after(fault, now);
            return reply;
        }
        if let Some(reply) = replacement(fault, now) {
            return reply;
        }
    }
    let query = admitted.and_then(|()| {
        if asked.head.method == Method::GET {
            asked.query.as_ref().map_err(Refusal::clone)
        } else {
            Err(Refusal::new(405, "The method is not allowed."))
        }
    });
    match query {
        Err(refusal) => refuse(&refusal),
        Ok(query) => {
            let prefer = asked.head.headers.get("prefer");
            let prefer = prefer.and_then(|value| value.to_str().ok());
            let all_statuses =
                prefer.is_some_and(|value| value.contains("include-unknown-enum-members"));
            let form = Form {
                options: &options.graph,
                all_statuses,
            };
            Listing::new(query, form, asked.fault, now, &inner.store).reply(asked, inner)
        }
    }
}

/// Whether a token lets a request in.
fn admit(grant: Option<&Grant>, origin: &str, options: &GraphOptions) -> Result<(), Refusal> {
    let grant = grant
        .filter(|grant| [origin, MICROSOFT].contains(&grant.audience.as_str()))
        .ok_or_else(Refusal::token)?;
    let permitted = grant.roles.iter().any(|role| role == PERMISSION);
    match options.principal {
        Principal::Missing => Err(Refusal::principal()),
        Principal::Present if permitted => Ok(()),
        Principal::Present | Principal::Forbidden => Err(Refusal::permission()),
    }
}
