//! Collects the eight Microsoft 365 Exchange reports and delivers them to Devo over mutual-TLS syslog: every record arrives, the
//! collector knows that it did, and an operator can see it.
//!
//! # The map
//!
//! ```text
//! config ─▶ Config ─▶ one Service for each enabled report          (Client: sign-in, limiter, connections, clock; shared by an input's services)
//! ledger.cursor ─▶ window::Schedule::next ─▶ windows, each of about one page ─▶ several are fetched side by side (service::prefetch)
//!    window in its turn ─▶ its rows and their fingerprints (record) ─▶ what is new (dedup) ─▶ lines ─▶ relay::Delivery of many windows
//!    delivery full, or nothing more to deliver ─▶ Receipt ─▶ ledger: journal ─▶ ledger: commit(cursor, entries)
//! ```
//!
//! - [`config`]: the file as a model that can be run · [`report`]: the eight reports as data
//! - [`service`]: one task a report; it alone knows all parts, sleeps and retries · `delivery`: the outputs of one service
//! - [`window`], [`backoff`], [`record`], `dedup`: pure decisions on time, waits and rows · `budget`: the memory for pages and lines
//! - [`clock`]: this machine's clock, and chance, which tests replace
//! - [`source`]: Microsoft's side: sign-in, walks, pages, errors with their remedy and the tenant's budget of requests
//! - [`relay`]: Devo's side: deliveries and receipts
//! - [`ledger`]: what is confirmed, on disk
//! - [`monitoring`]: what each service and output is doing, as a page, metrics, health and status
//! - [`command`]: what is done instead of collecting: `check`, `compare`, `state`, `support-bundle`, `healthcheck`
//! - [`web`]: what `monitoring` knows, over HTTP and as a page
//! - [`log`]: what is said, on standard error · [`messages`]: the same, to Devo · [`length`]: a length of time as people read it
//! - `foreign`: what somebody else wrote, without secrets and without what steers a terminal
//! - [`privileges`]: giving up root · [`process`]: limits, and shortages at the start · [`signal`]: what stops the collector
//! - [`memory`]: what a backlog has taken, kept and given back; shortages of it · [`blocking`]: threads for work that blocks
//!
//! # The invariants
//!
//! 1. `source`, `relay` and `ledger` do not know one another; only `service`, `check` and `monitoring`, which only looks, know several.
//! 2. `window`, `backoff`, `record`, `report` and `dedup` do no I/O, read no clock and log nothing; so do `service::collection` and
//!    `service::pipeline`.
//! 3. Nothing below `service` and `messages` sleeps on an error or looks at the stop signal, but for `ledger`, which tries for the
//!    state folder's lock for a second, and for what waits for a thread or for memory (`blocking`, `memory`).
//! 4. Nothing but an input's source (sign-in, limiter, connections, clock), the process's budget of memory and what is known of the relays'
//!    addresses is shared between services.
//! 5. Only `config` knows that it is YAML or JSON; only `relay::tls` and `source` name TLS types; only `ledger` writes under `state/`.
//! 6. A secret's type cannot be printed. Text that somebody else wrote is shown only as `foreign` lets it through.
//! 7. The cursor passes a window only when every output has confirmed all its records, and never moves back
//!    but by an operator's hand.

pub mod backoff;
pub mod blocking;
mod budget;
pub mod clock;
pub mod command;
pub mod config;
mod dedup;
mod delivery;
mod error;
mod foreign;
pub mod ledger;
pub mod length;
pub mod log;
pub mod memory;
pub mod messages;
pub mod monitoring;
mod pem;
pub mod privileges;
pub mod process;
pub mod record;
pub mod relay;
pub mod report;
pub mod service;
pub mod signal;
pub mod source;
mod stop;
mod stream;
mod tenant;
pub mod web;
pub mod window;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info, warn};

use crate::budget::Budget;
use crate::config::{Config, Persistence};
use crate::delivery::Shared;
use crate::ledger::{LedgerError, RequestFile, StateDirectory};
use crate::monitoring::Monitor;
use crate::relay::{Host, Relay};
use crate::stop::GRACE;
use crate::tenant::{Running, Tenant};

/// When a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// When it is told to.
    AtTheStop,
    /// When everything is collected that was due at its start; a service that has not got on for so long is given up.
    WhenDone {
        /// How long a service may take over a page, a receipt, or a write to its state. A request may take ten minutes.
        patience: Duration,
    },
}

/// A configuration that can be run as far as that can be known before anything is started.
pub struct Prepared {
    config: Config,
    /// One for each input.
    tenants: Vec<Tenant>,
}

/// Reads all files that the configuration names. Asks and sends nothing.
///
/// # Errors
///
/// If a file cannot be used: a line for each output and input with one, and what to do.
pub fn prepare(config: Config) -> anyhow::Result<Prepared> {
    let mut mistakes = vec![];
    for output in config.all_outputs() {
        if let Err(error) = Relay::new(output).check() {
            let action = error.action().unwrap_or_default();
            let error = error::chain(&error);
            mistakes.push(format!("output `{}`: {error}: {action}", output.name));
        }
    }
    let mut tenants = vec![];
    for input in &config.inputs {
        match Tenant::new(input) {
            Ok(tenant) => tenants.push(tenant),
            Err(error) => mistakes.push(format!("{error:#}")),
        }
    }
    if !mistakes.is_empty() {
        bail!("{}", mistakes.join("\n"));
    }
    Ok(Prepared { config, tenants })
}

/// Collects until `stop` resolves or the run ends by itself, then confirms what is written. What is confirmed is kept in the folder `state`.
///
/// # Errors
///
/// If the state folder cannot be used, no service can be started, or a service ends uninvited; where the run ends when it is done, also
/// if anything that was due is not collected.
pub async fn run(
    prepared: Prepared,
    state: &Path,
    ends: Ends,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let Prepared { config, tenants } = prepared;
    let folder = state;
    let state = Arc::new(StateDirectory::open(folder)?);
    name_orphans(folder, &config)?;
    let host = Host::of_this_machine().context("cannot read this machine's host name")?;
    let shared = Shared::open(host, &state)?;
    let config = Arc::new(config);
    let token = CancellationToken::new();
    let clients: Vec<_> = tenants
        .iter()
        .map(|tenant| tenant.reports().clone())
        .collect();
    let monitor = Arc::new(Monitor::new(&config, &clients)?);
    // A dry run goes on from a copy, and its requests count all the same.
    let requests = match &config.globals.state {
        Persistence::Directory(kept) => RequestFile::of(kept),
        Persistence::Memory { .. } => state.requests(),
    };
    for tenant in &tenants {
        tenant.keep_budget_in(&requests);
    }
    let listen = config.globals.monitoring.listen;
    let listener = web::listen(listen).await;
    let mut watching = Arc::clone(&monitor).start(listener.is_some());
    if let Some(listener) = listener {
        let identity = web::Identity::of(&config.globals);
        watching.spawn(web::serve(
            listener,
            Arc::clone(&monitor),
            identity,
            token.clone(),
        ));
    }
    let budget = Budget::new(budget::BYTES);
    let mut services = JoinSet::new();
    let mut left_out = 0;
    for (at, (input, tenant)) in config.inputs.iter().zip(tenants).enumerate() {
        let monitors = monitor.services_of(&input.name);
        let tenant = Arc::new(tenant);
        for (nth, (service, monitor)) in input.services.iter().zip(monitors).enumerate() {
            let name = service.report.service;
            let running = Running {
                state: state.clone(),
                config: config.clone(),
                at: (at, nth),
                tenant: tenant.clone(),
                shared: shared.clone(),
                budget: budget.clone(),
                monitor: monitor.clone(),
                // Its own, since one that is given up stops alone.
                stop: token.child_token(),
            };
            let span = tracing::info_span!("service", input = input.name, name);
            match span.in_scope(|| running.open(None)) {
                Ok(opened) => {
                    services.spawn(running.run(opened, ends).instrument(span));
                }
                Err(failure) if failure.may_pass() && ends == Ends::AtTheStop => {
                    services.spawn(running.run_later(failure).instrument(span));
                }
                Err(failure) => {
                    left_out += 1;
                    monitor.not_opened(&error::chain(&failure), true);
                    tracing::error!(
                        input = input.name,
                        service = name,
                        error = error::chain(&failure),
                        "this service does not run"
                    );
                }
            }
        }
    }
    if services.is_empty() {
        bail!("no service can run; the log says why");
    }
    info!(
        services = services.len(),
        outputs = config.all_outputs().len(),
        "collecting"
    );
    until_the_end(services, ends, stop, &token, left_out).await
}

/// Waits until the services end or `stop` resolves, and has them confirm what is written. `left_out` services have not begun.
async fn until_the_end(
    mut services: JoinSet<bool>,
    ends: Ends,
    stop: impl Future<Output = ()>,
    token: &CancellationToken,
    left_out: usize,
) -> anyhow::Result<()> {
    tokio::select! {
        () = stop => {}
        ended = end_of(&mut services, ends) => {
            token.cancel();
            return conclude(ended? + left_out);
        }
    }
    info!("stopping: what is written is confirmed");
    token.cancel();
    let all_stopped = async { while services.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, all_stopped).await.is_ok() {
        info!("stopped");
    } else {
        warn!(
            "stopped without the last receipts: what they would have confirmed is delivered again after the next start"
        );
    }
    if ends != Ends::AtTheStop {
        bail!(
            "stopped before everything that was due was collected; the next run goes on from there"
        );
    }
    Ok(())
}

/// Warns of state that nothing goes on from.
fn name_orphans(state: &Path, config: &Config) -> Result<(), LedgerError> {
    for orphan in command::state::orphans(state, config)? {
        warn!(
            state = orphan.name,
            cursor = orphan.shown_cursor(),
            action = orphan.action,
            "no input of the configuration owns this state, so nothing goes on from it"
        );
    }
    Ok(())
}

/// Waits until all services have ended, as they do by themselves only where the run does; returns how many have left something that was due.
async fn end_of(services: &mut JoinSet<bool>, ends: Ends) -> anyhow::Result<usize> {
    let mut behind = 0;
    while let Some(ended) = services.join_next().await {
        if ends == Ends::AtTheStop {
            bail!("a service has ended uninvited: {ended:?}");
        }
        behind += usize::from(!ended.unwrap_or(false));
    }
    Ok(behind)
}

fn conclude(behind: usize) -> anyhow::Result<()> {
    if behind > 0 {
        bail!(
            "not everything that was due is collected; services that the log tells why: {behind}"
        );
    }
    info!("everything that was due is collected and confirmed");
    Ok(())
}
