//! What Microsoft Graph's message trace is like: reference, its documentation and what has been seen of it.
//!
//! Its rows are brought to the reporting service's shape and words (`rows`), so that nothing behind this module knows which of the two told
//! of them. Pages are asked for by time rather than by the links (`walk`).

pub mod budget;
mod retirement;
mod returning;
pub(super) mod rows;
mod walk;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

pub use self::retirement::Retiring;
pub use self::returning::{Returning, Shown};
use self::walk::GraphWalk;
use super::error::{FetchError, Kind};
use super::fault;
use super::http::Client;
use super::meter::Meter;
use super::{Pages, RemoteTimes, Source};
use crate::config::{Credentials, Input};
use crate::record::Fingerprinter;
use crate::report::{Origin, Paging, Resolution, Terms};

/// Rows of the largest page (documented).
const PAGE_ROWS: u64 = 5_000;

/// How far back it has rows: the 90th day before today, by UTC date, is still served (documented, seen).
const REACH: Duration = Duration::from_hours(24 * 90);

/// The service whose budgets its requests are on.
const SERVICE: &str = "office365_reporting_MessageTrace_service";

/// Where message traces are, under Graph's root.
const PATH: &str = "v1.0/admin/exchange/tracing/messageTraces";

/// A refusal of Graph's, with what can be done about it there.
pub(super) fn advised(error: FetchError, body: &[u8]) -> FetchError {
    let message = fault::message(body).unwrap_or_default();
    if message.contains("Service principal-less Authentication failed") {
        return error.with_action(PRINCIPAL);
    }
    match error.kind() {
        Kind::Unauthorized | Kind::Forbidden => error.with_action(PERMISSION),
        Kind::NotFound => error.with_action(
            "check `graph_url`: Graph's message trace is not there; not every cloud of Microsoft's has it",
        ),
        _ => error,
    }
}

/// The application permission that Graph's message trace takes.
pub const ROLE: &str = "ExchangeMessageTrace.Read.All";

const PRINCIPAL: &str = "the tenant lacks the service principal of Microsoft's \"Transport Data Platform\": create it with `New-MgServicePrincipal -AppId \
     8bd644d1-64a1-4d4b-ae52-2e0cbf64e373`; it takes effect hours later, and is tried again by itself";

/// What to do where the application may not ask Graph.
pub const PERMISSION: &str = "give the application the permission ExchangeMessageTrace.Read.All of Microsoft Graph (application permission, with admin \
     consent), and the tenant the service principal of 8bd644d1-64a1-4d4b-ae52-2e0cbf64e373 (`New-MgServicePrincipal -AppId` with this id); each \
     may take hours to have an effect";

/// Graph's terms for message traces.
pub fn terms() -> Terms {
    Terms {
        origin: Origin::Graph,
        reach: REACH,
        resolution: Resolution::Instant,
        paging: Paging::ByKey,
        row_cap: None,
        pages_max: u32::MAX,
        page_rows: PAGE_ROWS,
    }
}

/// Microsoft Graph's message trace, for one input.
pub struct GraphSource {
    client: Client,
    terms: Terms,
    fingerprinter: Fingerprinter,
    organization: Option<String>,
    meter: Arc<dyn Meter>,
}

impl GraphSource {
    /// `client` is the input's way to Graph. `fingerprinter` makes the fingerprints of the rows in the reporting service's shape, `meter` takes
    /// note of the requests.
    pub fn new(
        client: Client,
        input: &Input,
        fingerprinter: Fingerprinter,
        meter: Arc<dyn Meter>,
    ) -> Self {
        GraphSource {
            client,
            terms: terms(),
            fingerprinter,
            organization: organization(&input.credentials),
            meter,
        }
    }
}

/// The tenant's name as the reporting service's rows have it, where the configuration tells it.
fn organization(credentials: &Credentials) -> Option<String> {
    let (Credentials::Secret { tenant_id, .. } | Credentials::Certificate { tenant_id, .. }) =
        credentials
    else {
        return None;
    };
    let tenant = tenant_id.to_ascii_lowercase();
    tenant.ends_with(".onmicrosoft.com").then_some(tenant)
}

impl Source for GraphSource {
    fn terms(&self) -> &Terms {
        &self.terms
    }

    fn walk(&self, first: DateTime<Utc>, last: DateTime<Utc>) -> Box<dyn Pages> {
        Box::new(GraphWalk::new(
            self.client.clone(),
            self.fingerprinter.clone(),
            self.organization.clone(),
            Arc::clone(&self.meter),
            (first, last),
        ))
    }

    fn clocks(&self) -> RemoteTimes {
        self.client.clocks()
    }

    fn paused(&self) -> Option<Duration> {
        self.client.paused()
    }
}
