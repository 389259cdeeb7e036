//! A run: starts what is prepared, runs the configuration again where it has changed, and stops in order.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::blocking::DISK;
use crate::budget::{self, Budget};
use crate::command;
use crate::config::{Config, LeftOut, Persistence};
use crate::delivery::Shared;
use crate::error;
use crate::fleet::Fleet;
use crate::ledger::{LedgerError, RequestFile, StateDirectory};
use crate::log;
use crate::messages::Told;
use crate::monitoring::Monitor;
use crate::prepared::Prepared;
use crate::relay::Host;
use crate::reload::{Outcome, Reload};
use crate::stop::GRACE;
use crate::tenant::{Around, Ends};
use crate::web;

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
    let _watching = watch(&monitor, &config, &token).await;
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

/// Has others see what the monitor knows, for as long as what comes back is held.
async fn watch(monitor: &Arc<Monitor>, config: &Config, stop: &CancellationToken) -> JoinSet<()> {
    let listener = web::listen(config.globals.monitoring.listen).await;
    let mut watching = Arc::clone(monitor).start(listener.is_some());
    if let Some(listener) = listener {
        let identity = web::Identity::of(&config.globals);
        let monitor = Arc::clone(monitor);
        watching.spawn(web::serve(listener, monitor, identity, stop.clone()));
    }
    watching
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
