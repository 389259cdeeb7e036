//! The reporting service and Graph's message trace over the same rows, simulated: paging, sign-in, faults on demand, and a ledger of what was
//! served.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use testkit::report::Report;
//! use testkit::service::{Backlog, Fault, Options, Service, When};
//!
//! let service = Service::start(Options::default()).await?;
//! let now = chrono::Utc::now();
//! service.generate(&Backlog::new(Report::MessageTrace, now - chrono::TimeDelta::days(3), now, 5_000));
//! service.fault(Report::MessageTrace, When::Page { page: 2, times: 1 }, Fault::ServerError);
//! // … a collector walks `service.base_url()` …
//! assert!(service.served().total() > 0);
//! # Ok(()) }
//! ```

mod answer;
mod body;
mod content;
mod faults;
mod fields;
mod gauge;
mod generator;
mod graph;
mod head;
mod ledger;
mod mail;
mod options;
mod page;
mod query;
mod reply;
mod retirement;
mod row;
mod script;
mod server;
mod signin;
mod spelling;
mod store;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::Result;
use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;
use url::Url;

pub use faults::{Fault, Loop, RetryAfter};
pub use generator::Backlog;
pub use graph::{DeadLink, GraphBudget, GraphOptions, Principal, RetryForm, Ties};
pub use ledger::{Endpoint, Request, busiest_second, most_in_flight, most_within};
pub use mail::Mail;
pub use options::{Access, App, LinkForm, Options, Shape, TooOld};
pub use retirement::{DEPRECATION, Retirement};
pub use row::Row;
pub use script::{Target, When};
pub use spelling::Spelling;
pub use store::RowId;

use crate::records::{Identity, Records};
use crate::report::{Aggregate, Report};
use crate::sync::lock;
use gauge::Gauge;
pub(crate) use generator::iso;
use generator::ticks;
use graph::{Spent, Walks};
use ledger::{Ledger, Source};
use script::Script;
use signin::Tokens;
use store::Store;

/// A running simulator of the reporting service; it ends when dropped.
pub struct Service {
    inner: Arc<Inner>,
    address: SocketAddr,
    authority_address: SocketAddr,
    https: bool,
    stop: CancellationToken,
}

/// What all connections share.
pub(crate) struct Inner {
    options: Mutex<Options>,
    store: Mutex<Store>,
    script: Mutex<Script>,
    ledger: Mutex<Ledger>,
    tokens: Mutex<Tokens>,
    in_flight: Gauge,
    graph_in_flight: Gauge,
    walks: Mutex<Walks>,
    spent: Mutex<Spent>,
}

impl Inner {
    fn options(&self) -> Options {
        lock(&self.options).clone()
    }

    /// The service's own idea of the time.
    fn now(&self) -> DateTime<Utc> {
        Utc::now() + lock(&self.options).clock_offset
    }
}

impl Service {
    /// Binds and starts to answer.
    pub async fn start(options: Options) -> Result<Service> {
        let (bind, tls) = (options.bind, options.tls()?);
        let authority_elsewhere = options.authority_elsewhere;
        let inner = Arc::new(Inner {
            options: Mutex::new(options),
            store: Mutex::default(),
            script: Mutex::default(),
            ledger: Mutex::default(),
            tokens: Mutex::default(),
            in_flight: Gauge::default(),
            graph_in_flight: Gauge::default(),
            walks: Mutex::default(),
            spent: Mutex::default(),
        });
        let (stop, https) = (CancellationToken::new(), tls.is_some());
        let address = server::listen(bind, tls.clone(), Arc::clone(&inner), stop.clone()).await?;
        let authority_address = if authority_elsewhere {
            server::listen(
                SocketAddr::new(bind.ip(), 0),
                tls,
                Arc::clone(&inner),
                stop.clone(),
            )
            .await?
        } else {
            address
        };
        Ok(Service {
            inner,
            address,
            authority_address,
            https,
            stop,
        })
    }

    /// The service's address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The root of the reports, as a collector's `base_url` wants it.
    pub fn base_url(&self) -> String {
        format!(
            "{}/ecp/reportingwebservice/reporting.svc/",
            self.origin(self.address)
        )
    }

    /// Graph's root, as a collector's `graph_url` wants it. The scope of its tokens is this with `/.default`.
    pub fn graph_url(&self) -> String {
        self.origin(self.address)
    }

    /// Where tokens are had, as a collector's `authority_url` wants it.
    pub fn authority_url(&self) -> String {
        self.origin(self.authority_address)
    }

    fn origin(&self, address: SocketAddr) -> String {
        format!("{}://{address}", if self.https { "https" } else { "http" })
    }

    /// The same as [`base_url`](Self::base_url) but through another port on loopback, a proxy's.
    pub fn base_url_through(&self, port: u16) -> Result<String> {
        let mut url = Url::parse(&self.base_url())?;
        url.set_port(Some(port))
            .map_err(|()| anyhow::anyhow!("no port in {url}"))?;
        Ok(url.into())
    }

    /// The same as [`graph_url`](Self::graph_url) but through another port on loopback, a proxy's.
    pub fn graph_url_through(&self, port: u16) -> String {
        let address = SocketAddr::new(self.address.ip(), port);
        self.origin(address)
    }

    /// How the service behaves now.
    pub fn options(&self) -> Options {
        self.inner.options()
    }

    /// Changes how the service behaves from now on; `bind` and `https` have had their effect already.
    pub fn adjust(&self, change: impl FnOnce(&mut Options)) {
        change(&mut lock(&self.inner.options));
    }

    /// Puts the service's clock, and the directory's with it, forwards or back, against the machine's.
    pub fn clock_offset(&self, offset: TimeDelta) {
        self.adjust(|options| options.clock_offset = offset);
    }

    /// From now on the reporting service has no message trace, or has it again.
    pub fn retire(&self, retirement: impl Into<Option<Retirement>>) {
        self.adjust(|options| options.retirement = retirement.into());
    }

    /// Adds rows made by rule; how many there were is what the backlog says.
    pub fn generate(&self, backlog: &Backlog) {
        lock(&self.inner.store).generate(backlog);
    }

    /// Adds a row as of now, wherever in time it lies.
    pub fn insert(&self, report: Report, row: Row) -> RowId {
        lock(&self.inner.store).insert(report, row, None)
    }

    /// Adds a row that appears at an instant of the service's clock, wherever in time it lies: a late one.
    pub fn insert_late(&self, report: Report, row: Row, appears: DateTime<Utc>) -> RowId {
        lock(&self.inner.store).insert(report, row, Some(ticks(appears)))
    }

    /// Adds a message to message trace: a row for each recipient.
    pub fn deliver(&self, mail: &Mail) -> Vec<RowId> {
        let mut store = lock(&self.inner.store);
        let insert = |row| store.insert(Report::MessageTrace, row, None);
        mail.rows().map(insert).collect()
    }

    /// Gives a row of message trace another status from an instant of the service's clock on, in both services; the status is spelt as the reporting
    /// service does. What comes back is the row as it is then, which may change again.
    ///
    /// # Panics
    ///
    /// Where there is no such row.
    pub fn change_status(&self, row: RowId, at: DateTime<Utc>, status: &str) -> RowId {
        let status = serde_json::Value::from(status).to_string();
        let changed = lock(&self.inner.store).change(row, ticks(at), "Status", &status);
        changed.unwrap_or_else(|| panic!("{row:?} is not there"))
    }

    /// The rows of a report other than traffic with a time in `[from, to)`, as they are now, oldest first.
    pub fn rows_between(
        &self,
        report: Report,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Vec<RowId> {
        let now = ticks(self.inner.now());
        lock(&self.inner.store).between(report, None, from, to, now)
    }

    /// Has Graph not show a row that the reporting service shows; whether it is there.
    pub fn hide_from_graph(&self, row: RowId) -> bool {
        lock(&self.inner.store).hide(row, Source::Graph)
    }

    /// Has the reporting service not show a row that Graph shows; whether it is there.
    pub fn hide_from_reports(&self, row: RowId) -> bool {
        lock(&self.inner.store).hide(row, Source::Reports)
    }

    /// Takes a row out; whether it was there.
    pub fn remove(&self, row: RowId) -> bool {
        lock(&self.inner.store).remove(row)
    }

    /// Orders a fault. The first rule that fits a request is used for it.
    pub fn fault(&self, target: impl Into<Target>, when: When, fault: Fault) {
        lock(&self.inner.script).add(target.into(), when, fault);
    }

    /// Counts so many requests of the tenant's other tools, now, on Graph's budget.
    pub fn spend_graph_budget(&self, requests: usize) {
        lock(&self.inner.spent).spend(requests, Instant::now());
    }

    /// Ends all orders of faults.
    pub fn heal(&self) {
        lock(&self.inner.script).clear();
    }

    /// Rejects all tokens issued so far.
    pub fn revoke_tokens(&self) {
        lock(&self.inner.tokens).revoke();
    }

    /// How many tokens were issued.
    pub fn tokens_issued(&self) -> u64 {
        lock(&self.inner.tokens).issued()
    }

    /// Every request so far, in the order of their coming.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.inner.ledger).requests()
    }

    /// The requests for one report so far.
    pub fn requests_for(&self, report: Report) -> Vec<Request> {
        self.requests()
            .into_iter()
            .filter(|request| request.report == Some(report))
            .collect()
    }

    /// The requests to Graph so far.
    pub fn requests_to_graph(&self) -> Vec<Request> {
        self.requests()
            .into_iter()
            .filter(|request| request.endpoint == Endpoint::Graph)
            .collect()
    }

    /// The records of all pages of Graph's that went out whole, as the reporting service would show them. A row that went out several times counts
    /// once.
    pub fn served_by_graph(&self) -> Records {
        let served = lock(&self.inner.ledger).rows_sent(Source::Graph, DateTime::<Utc>::MAX_UTC);
        lock(&self.inner.store).records(served)
    }

    /// The records of all pages of the reporting service's that went out whole. A row that went out several times counts once.
    pub fn served(&self) -> Records {
        let served = lock(&self.inner.ledger).rows_sent(Source::Reports, DateTime::<Utc>::MAX_UTC);
        lock(&self.inner.store).records(served)
    }

    /// The messages of message trace that went out whole from either service, by [`Identity::by_message`]. A row that both have shown counts once.
    pub fn served_messages(&self) -> Records {
        let ledger = lock(&self.inner.ledger);
        let mut rows = ledger.rows_sent(Source::Reports, DateTime::<Utc>::MAX_UTC);
        rows.extend(ledger.rows_sent(Source::Graph, DateTime::<Utc>::MAX_UTC));
        drop(ledger);
        rows.retain(|row, _| row.table == graph::TABLE);
        lock(&self.inner.store).records_by(rows, Identity::by_message)
    }

    /// The messages of message trace that there are now with a time in `[from, to)`, by [`Identity::by_message`].
    pub fn existing_messages(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> Records {
        let rows = self.rows_between(Report::MessageTrace, from, to);
        let rows = rows.into_iter().map(|row| (row, false)).collect();
        lock(&self.inner.store).records_by(rows, Identity::by_message)
    }

    /// How many rows of a report the reporting service sent whole; one that went out several times counts once.
    pub fn served_count(&self, report: Report) -> u64 {
        let rows = lock(&self.inner.ledger).rows_sent(Source::Reports, DateTime::<Utc>::MAX_UTC);
        rows.keys().filter(|row| row.table.report == report).count() as u64
    }

    /// The same as [`served`](Self::served), of the pages asked for before `end` only.
    pub fn served_before(&self, end: DateTime<Utc>) -> Records {
        let served = lock(&self.inner.ledger).rows_sent(Source::Reports, end);
        lock(&self.inner.store).records(served)
    }

    /// The records that there are, whether served or not, with a time in `[from, to)`; traffic reports by `aggregate`,
    /// which is ignored for the others.
    pub fn existing(
        &self,
        report: Report,
        aggregate: Aggregate,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Records {
        let aggregate = report.is_traffic().then_some(aggregate);
        let now = ticks(self.inner.now());
        let store = lock(&self.inner.store);
        let rows = store.between(report, aggregate, from, to, now);
        store.records(rows.into_iter().map(|row| (row, false)).collect())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
