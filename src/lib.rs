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
//! Early passes (`service::passes`) do the same at shorter delays, by `agenda`, each with a frontier in the place of the cursor, and with
//! `ledger::Delivered` in the place of the journal: what they deliver there is known to the deduplication of every other pass.
//!
//! - [`config`]: the file as a model that can be run · [`report`]: the eight reports as data
//! - [`service`]: one task a report; it alone knows all parts, sleeps and retries · `delivery`: the outputs of one service
//! - `fleet`: the inputs that run, each with its services · [`reload`]: the configuration read again while they do
//! - [`window`], `agenda`, [`backoff`], [`record`], `dedup`: pure decisions on time, passes, waits and rows · `budget`: the memory for pages and lines
//! - `spread`: a tenant's place among others in time · [`needs`]: how many files and sockets a configuration needs
//! - [`clock`]: this machine's clock, and chance, which tests replace
//! - [`source`]: Microsoft's side: sign-in, walks, pages, errors with their remedy and the tenant's budget of requests
//! - [`relay`]: Devo's side: deliveries and receipts
//! - [`ledger`]: what is confirmed, on disk
//! - [`monitoring`]: what each service and output is doing, as a page, metrics, health and status
//! - [`command`]: what is done instead of collecting: `check`, `audit`, `compare`, `state`, `support-bundle`, `healthcheck`
//! - [`web`]: what `monitoring` knows, over HTTP and as a page
//! - [`log`]: what is said, on standard error · [`messages`]: the same, to Devo · [`length`]: a length of time as people read it · [`version`]: which build this is
//! - `foreign`: what somebody else wrote, without secrets and without what steers a terminal
//! - [`privileges`]: giving up root · [`process`]: limits, and shortages at the start · [`signal`]: what stops the collector
//! - [`memory`]: what a backlog has taken, kept and given back; shortages of it · [`blocking`]: threads for work that blocks
//!
//! # The invariants
//!
//! 1. `source`, `relay` and `ledger` do not know one another; only `service`, `check` and `monitoring`, which only looks, know several.
//! 2. `window`, `agenda`, `backoff`, `spread`, `needs`, `record`, `report` and `dedup` do no I/O, read no clock and log nothing; so do `service::collection` and
//!    `service::pipeline`.
//! 3. Nothing below `service` and `messages` sleeps on an error or looks at the stop signal, but for `ledger`, which tries for the
//!    state folder's lock for a second, and for what waits for a thread or for memory (`blocking`, `memory`).
//! 4. Nothing but an input's source (sign-in, limiter, connections, clock), the process's budgets of memory and of requests in flight and what is known of the relays'
//!    addresses is shared between services.
//! 5. Only `config` knows that it is YAML or JSON; only `relay::tls` and `source` name TLS types; only `ledger` writes under `state/`.
//! 6. A secret's type cannot be printed. Text that somebody else wrote is shown only as `foreign` lets it through.
//! 7. The cursor passes a window only when every output has confirmed all its records, and never moves back
//!    but by an operator's hand.

mod agenda;
pub mod backoff;
pub mod blocking;
mod budget;
pub mod clock;
pub mod command;
pub mod config;
mod dedup;
mod delivery;
mod error;
mod fleet;
mod foreign;
pub mod ledger;
pub mod length;
pub mod log;
pub mod memory;
pub mod messages;
pub mod monitoring;
pub mod needs;
mod pem;
pub mod privileges;
pub mod process;
pub mod record;
pub mod relay;
pub mod reload;
pub mod report;
pub mod service;
pub mod signal;
pub mod source;
mod spread;
mod stop;
mod stream;
mod tenant;
pub mod version;
pub mod web;
pub mod window;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::blocking::DISK;
use crate::budget::Budget;
use crate::config::{Config, Finding, Input, LeftOut, Persistence};
use crate::delivery::Shared;
use crate::fleet::{Around, Fleet};
use crate::ledger::{LedgerError, RequestFile, StateDirectory};
use crate::messages::Told;
use crate::monitoring::Monitor;
use crate::relay::{Host, Relay};
use crate::reload::{Outcome, Reload};
use crate::source::concurrency::Overall;
use crate::stop::GRACE;
use crate::tenant::Tenant;

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
    tenants: Vec<Arc<Tenant>>,
    /// What all of them share, also those that come.
    overall: Overall,
}

/// Reads all files that the configuration names. Asks and sends nothing. An input file is left out where a file that it alone names cannot be
/// used; the log tells of all that are.
///
/// # Errors
///
/// If a file that the main file names cannot be used: a line for each output and input with one, and what to do.
pub fn prepare(config: Config) -> anyhow::Result<Prepared> {
    let overall = Overall::new(config.globals.concurrent_requests);
    let prepared = prepare_beside(config, &[], &overall)?;
    for LeftOut { file, mistakes } in &prepared.config.left_out {
        error!(
            file = %file.display(),
            "this file of inputs is left out, and its inputs do not run until it is put right\n{mistakes}"
        );
    }
    Ok(prepared)
}

/// The same beside inputs that run. Those that have not changed are used as they are, and those of a file that cannot be used go on.
fn prepare_beside(
    mut config: Config,
    running: &[(Arc<Input>, Arc<Tenant>)],
    overall: &Overall,
) -> anyhow::Result<Prepared> {
    let mut mistakes = vec![];
    let mut unusable: BTreeMap<PathBuf, Vec<Finding>> = BTreeMap::new();
    let main: HashSet<_> = { config.outputs.iter() }
        .map(|output| output.name.as_str())
        .collect();
    for output in config.all_outputs() {
        let Err(error) = Relay::new(output).check() else {
            continue;
        };
        let action = error.action().unwrap_or_default();
        let text = format!("{}: {action}", error::chain(&error));
        if main.contains(output.name.as_str()) {
            mistakes.push(format!("output `{}`: {text}", output.name));
            continue;
        }
        let mut inputs = config.inputs.iter();
        let owner = inputs.find(|input| input.outputs.iter().any(|of| of.name == output.name));
        if let Some(file) = owner.and_then(|input| input.file.clone()) {
            let key = format!("outputs.{}", output.name);
            let mistake = Finding::of_file(file.clone(), key, text);
            unusable.entry(file).or_default().push(mistake);
        }
    }
    let mut tenants = HashMap::new();
    for input in &config.inputs {
        let known = running.iter().find(|(known, _)| known.runs_as(input));
        let tenant = known.map_or_else(
            || Tenant::new(input, overall).map(Arc::new),
            |(_, tenant)| Ok(Arc::clone(tenant)),
        );
        match (tenant, &input.file) {
            (Ok(tenant), _) => drop(tenants.insert(input.name.clone(), tenant)),
            (Err(error), None) => mistakes.push(format!("{error:#}")),
            (Err(error), Some(file)) => {
                let key = format!("inputs.{}", input.name);
                let mistake = Finding::of_file(file.clone(), key, format!("{error:#}"));
                unusable.entry(file.clone()).or_default().push(mistake);
            }
        }
    }
    if !mistakes.is_empty() {
        bail!("{}", mistakes.join("\n"));
    }
    let inputs: Vec<_> = running.iter().map(|(input, _)| Arc::clone(input)).collect();
    for (file, mistakes) in unusable {
        config.leave_out(&file, mistakes, &inputs);
    }
    let tenants = config.inputs.iter().map(|input| {
        let kept = running.iter().find(|(known, _)| known.runs_as(input));
        let kept = kept.map(|(_, tenant)| tenant);
        kept.or_else(|| tenants.get(&input.name)).cloned()
    });
    let tenants = tenants.collect::<Option<Vec<_>>>();
    Ok(Prepared {
        tenants: tenants.context("an input is not prepared")?,
        overall: overall.clone(),
        config,
    })
}

/// Collects until `stop` resolves or the run ends by itself, then confirms what is written. What is confirmed is kept in the state folder.
/// `reload` tells of changes of the configuration meanwhile, `told` what the outputs know of what hours came to.
///
/// # Errors
///
/// If the state folder cannot be used, no service can be started, or a service ends uninvited; where the run ends when it is done, also
/// if anything that was due is not collected.
pub async fn run(
    prepared: Prepared,
    folder: &Path,
    ends: Ends,
    stop: impl Future<Output = ()>,
    mut reload: Option<Reload>,
    told: Told,
) -> anyhow::Result<()> {
    let Prepared {
        config,
        tenants,
        overall,
    } = prepared;
    let clients = tenants.iter().map(|tenant| tenant.reports().clone());
    let clients: Vec<_> = clients.collect();
    let monitor = Arc::new(Monitor::new(&config, &clients)?);
    if let Some(reload) = &mut reload {
        reload.overall = overall;
        monitor.read(reload.hash, config.left_out.is_empty());
    }
    let token = CancellationToken::new();
    let listener = web::listen(config.globals.monitoring.listen).await;
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
    let path = folder.to_owned();
    let state = Arc::new(DISK.run(move || StateDirectory::open(&path)).await?);
    let config = Arc::new(config);
    name_orphans(folder, &config).await?;
    let host = Host::of_this_machine().context("cannot read this machine's host name")?;
    let around = Around {
        shared: Shared::open(host, &state)?,
        requests: requests_to_graph(&config.globals.state, &state),
        state,
        budget: Budget::new(budget::BYTES),
        monitor,
        told,
    };
    // What a file that is left out would have had is due as well.
    let left_out = config.left_out.len();
    let mut fleet = Fleet::new(around.clone(), ends, token.clone(), left_out);
    fleet.start_all(&config.inputs, tenants);
    if fleet.is_empty() && (reload.is_none() || !config.inputs.is_empty()) {
        bail!("no service can run; the log says why");
    }
    let outputs = config.all_outputs().len();
    let opened = fleet.opening();
    let mut opening = true;
    let mut running = Loaded {
        config,
        folder,
        around,
    };
    tokio::pin!(stop, opened);
    loop {
        let wanted = async {
            match &mut reload {
                Some(reload) => reload.wanted().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = &mut stop => break,
            ended = fleet.end() => {
                token.cancel();
                return conclude(ended?);
            }
            services = &mut opened, if opening => {
                opening = false;
                info!(services, outputs, "collecting");
                continue;
            }
            () = wanted => {}
        }
        if let Some(reload) = &mut reload {
            tokio::select! {
                biased;
                () = &mut stop => break,
                () = running.reload(reload, &mut fleet) => {}
            }
        }
    }
    info!("stopping: what is written is confirmed");
    token.cancel();
    if tokio::time::timeout(GRACE, fleet.all_stopped())
        .await
        .is_ok()
    {
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

/// Where the times of requests to Graph are kept: a dry run goes on from a copy of the state, and its requests count all the same.
fn requests_to_graph(kept: &Persistence, state: &StateDirectory) -> RequestFile {
    match kept {
        Persistence::Directory(folder) => RequestFile::of(folder),
        Persistence::Memory { .. } => state.requests(),
    }
}

/// The configuration that runs.
struct Loaded<'a> {
    config: Arc<Config>,
    /// The state folder.
    folder: &'a Path,
    around: Around,
}

impl Loaded<'_> {
    /// Reads the configuration again and runs it, as far as it can be run.
    async fn reload(&mut self, reload: &mut Reload, fleet: &mut Fleet) {
        let Outcome { prepared, warnings } = reload.read(fleet.running()).await;
        let monitor = Arc::clone(&self.around.monitor);
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(mistakes) => {
                monitor.read(reload.hash, false);
                error!(
                    "the configuration cannot be run as it is now: everything goes on as it was until it is put right\n{mistakes}"
                );
                return;
            }
        };
        for warning in warnings {
            warn!("{warning}");
        }
        for LeftOut { file, mistakes } in &prepared.config.left_out {
            error!(
                file = %file.display(),
                "this file of inputs is left out: inputs of it that run go on as they were, others do not run until it is put right\n{mistakes}"
            );
        }
        let config = Arc::new(prepared.config.clone());
        monitor.leave_out(&config.left_out);
        self.say_what_needs_a_restart(&config);
        let difference = fleet.apply(prepared).await;
        monitor.read(reload.hash, config.left_out.is_empty());
        let listed = |names: &[String]| (!names.is_empty()).then(|| names.join(", "));
        if difference.is_empty() {
            info!("the configuration was read again: no input has changed");
        } else {
            info!(
                added = listed(&difference.added),
                changed = listed(&difference.changed),
                removed = listed(&difference.removed),
                "the configuration was read again"
            );
        }
        self.config = config;
        if !difference.removed.is_empty()
            && let Err(error) = name_orphans(self.folder, &self.config).await
        {
            warn!(
                error = error::chain(&error),
                "the state folder cannot be read"
            );
        }
    }

    fn say_what_needs_a_restart(&self, next: &Config) {
        let keys = self.config.globals.changed_for_good(&next.globals);
        if !keys.is_empty() {
            warn!(
                keys = keys.join(", "),
                "these keys of `globals` have changed, which takes effect when the collector is started again"
            );
        }
        if self.config.globals.debug != next.globals.debug {
            log::set_debug(next.globals.debug);
        }
        if self.config.outputs != next.outputs {
            warn!(
                "outputs have changed: records go to them as they are now, the collector's own messages to them as they were until it is started again"
            );
        }
    }
}

/// Warns of state that nothing goes on from.
async fn name_orphans(state: &Path, config: &Arc<Config>) -> Result<(), LedgerError> {
    let (state, config) = (state.to_owned(), Arc::clone(config));
    let orphans = DISK.run(move || command::state::orphans(&state, &config));
    for orphan in orphans.await? {
        warn!(
            state = orphan.name,
            cursor = orphan.shown_cursor(),
            action = orphan.action,
            "no input of the configuration owns this state, so nothing goes on from it"
        );
    }
    Ok(())
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
