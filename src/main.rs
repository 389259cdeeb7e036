//! Arguments, configuration, log, runtime, exit status.

mod arguments;

use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow};
use chrono::Utc;
use clap::Parser;
use exchange_reports_collector::command::{BAD_CONFIGURATION, Command};
use exchange_reports_collector::config::{
    Config, Input, Listen, Loaded, Mistakes, Named, Persistence, Reading, Source,
};
use exchange_reports_collector::ledger::{LedgerError, Original, StateFolder};
use exchange_reports_collector::log::{DEBUG, INFO};
use exchange_reports_collector::memory::{self, Patient};
use exchange_reports_collector::messages::Messages;
use exchange_reports_collector::needs::Needs;
use exchange_reports_collector::privileges::{self, DeniedFiles};
use exchange_reports_collector::reload::Reload;
use exchange_reports_collector::signal::{self, Early, Held, Stop};
use exchange_reports_collector::version::VERSION;
use exchange_reports_collector::{Ends, blocking, log, prepare, process, run};
use tokio::runtime::{Builder, Runtime};
use tracing::{debug, error, info, warn};

use crate::arguments::Arguments;

#[global_allocator]
static ALLOCATOR: Patient = Patient;

fn main() -> ExitCode {
    let signals = signal::hold();
    process::forbid_core_dumps();
    let mut arguments = Arguments::parse();
    let validate = arguments.validate.then(Command::check);
    if let Some(command) = arguments.command.take().or(validate) {
        signals.release();
        log::start("error", None);
        let source = arguments.source();
        let loaded = arguments.load(&source);
        return command.carry_out(&source, loaded).unwrap_or_else(|error| {
            error!("{error:#}");
            ExitCode::FAILURE
        });
    }
    let status = run_collector(&arguments, signals);
    log::flush();
    status
}

impl Arguments {
    /// Where the configuration is.
    fn source(&self) -> Source {
        Source::locate(&Named {
            config: self.config.as_deref(),
            variable: std::env::var("CONFIG_FILE").ok().as_deref(),
            job: self.job.as_deref(),
            collector: self.collector.as_deref(),
        })
    }

    fn ends_by_itself(&self) -> bool {
        self.once || self.dry_run
    }

    /// The configuration, changed as the arguments want it.
    fn load(&self, source: &Source) -> Result<Loaded, Mistakes> {
        self.overrides().read(source, &[]).loaded
    }

    fn overrides(&self) -> Overrides {
        Overrides {
            no_save_state: self.no_save_state,
            ends_by_itself: self.ends_by_itself(),
        }
    }
}

/// What the arguments change of a configuration.
#[derive(Clone, Copy)]
struct Overrides {
    no_save_state: bool,
    ends_by_itself: bool,
}

impl Overrides {
    /// Reads the configuration beside the inputs that run, changed so.
    fn read(self, source: &Source, running: &[Arc<Input>]) -> Reading {
        let mut reading = Reading::of(source, Utc::now(), running);
        if let Ok(loaded) = &mut reading.loaded {
            let globals = &mut loaded.config.globals;
            if self.no_save_state {
                globals.state = globals.state.clone().in_memory();
            }
            if self.ends_by_itself {
                // Nobody watches a run that ends, and a collector may run beside it.
                globals.monitoring.listen = Listen::Off;
            }
        }
        reading
    }
}

/// Collects, until a signal or the end of a run that ends by itself.
fn run_collector(arguments: &Arguments, signals: Held) -> ExitCode {
    let signals = match signals.end_at_once() {
        Ok(signals) => signals,
        Err(error) => {
            log::start(INFO, None);
            error!(%error, "cannot catch signals");
            return ExitCode::FAILURE;
        }
    };
    let source = arguments.source();
    let reading = arguments.overrides().read(&source, &[]);
    let first = (reading.seen, reading.hash);
    let loaded = match reading.loaded {
        Ok(loaded) => loaded,
        Err(mistakes) => {
            log::start(INFO, None);
            error!("the configuration cannot be run; nothing was started\n{mistakes}");
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    let default = if loaded.config.globals.debug {
        DEBUG
    } else {
        INFO
    };
    let config = if arguments.dry_run {
        loaded.config.dry()
    } else {
        loaded.config
    };
    let (messages, listener) = Messages::of(&config);
    log::queue_lines();
    log::start(default, Some(listener));
    log::log_panics();
    info!(version = VERSION.as_str(), configuration = %source, "starting");
    if arguments.config.is_some() && matches!(source, Source::Hosted { .. }) {
        warn!("`--config` is not used: the files of a hosted instance are there, and they win");
    }
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    for note in &loaded.notes {
        debug!("{note}");
    }
    if arguments.ends_by_itself() {
        warn_of_services_without_a_start(&config);
    }
    let overrides = arguments.overrides();
    let read = move |running: &[Arc<Input>]| overrides.read(&source, running);
    let reload = |stop: &Stop| {
        let by_itself = overrides.ends_by_itself;
        (!by_itself).then(|| Reload::new(read, stop.hangup(), first))
    };
    match collect(config, arguments, messages, &signals, reload) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Configuration(error)) => {
            error!("{error:#}");
            ExitCode::from(BAD_CONFIGURATION)
        }
        Err(Failure::Running(error)) => {
            error!("{error:#}");
            ExitCode::FAILURE
        }
        Err(Failure::Told) => ExitCode::FAILURE,
    }
}

fn warn_of_services_without_a_start(config: &Config) {
    if let Persistence::Memory { beside } = &config.globals.state
        && matches!(Original::find(beside), Ok(None))
    {
        let mut services = config.inputs.iter().flat_map(|input| &input.services);
        if services.any(|service| service.start_time.is_none()) {
            warn!(
                "without state and without `start_time` a service begins where nothing is due yet, so that this run collects nothing of it: \
                 give `start_time`"
            );
        }
    }
}

/// Why the collector is not collecting.
enum Failure {
    /// What the configuration names cannot be used.
    Configuration(anyhow::Error),
    /// Anything else.
    Running(anyhow::Error),
    /// Anything else, of which the log tells already, so that the outputs hear of it too.
    Told,
}

fn collect(
    config: Config,
    arguments: &Arguments,
    messages: Messages,
    signals: &Early,
    reload: impl FnOnce(&Stop) -> Option<Reload>,
) -> Result<(), Failure> {
    let dry = arguments.dry_run;
    if dry {
        info!("dry run: what is due is printed, nothing is delivered, and nothing is kept");
    }
    let state = state_folder(&config.globals.state, dry);
    let state = state.map_err(|error| Failure::Running(error.into()))?;
    // Before any thread starts: they take over what the first one has given up.
    let outcome = privileges::drop_root(state.path(), &config.main_files(), &config.files());
    let outcome = outcome.map_err(|error| {
        if error.is::<DeniedFiles>() {
            Failure::Configuration(error)
        } else {
            Failure::Running(error)
        }
    });
    info!("{}", outcome?);
    let workers = if config.globals.multiprocessing {
        thread::available_parallelism().map_or(1, usize::from)
    } else {
        0
    };
    let stop = begin(workers, signals);
    let reload = reload(&stop);
    // A shortage passes and has been waited out; a limit that is too low for all of it does not pass.
    let allowed = process::open_files_allowed();
    if let Some(refusal) = allowed.and_then(|allowed| Needs::of(&config).refusal(allowed)) {
        return Err(Failure::Configuration(anyhow!(refusal)));
    }
    let prepared = prepare(config).map_err(Failure::Configuration)?;
    let runtime = runtime(workers).map_err(Failure::Running)?;
    let ends = if arguments.ends_by_itself() {
        let patience = Duration::from_secs(arguments.give_up_after);
        Ends::WhenDone { patience }
    } else {
        Ends::AtTheStop
    };
    let result = runtime.block_on(async {
        let stop = async {
            tokio::select! {
                () = stop.wait() => {}
                () = signal::nobody_reads(), if dry => {}
            }
        };
        let told = messages.told();
        let messengers = messages.deliver();
        let result = run(prepared, state.path(), ends, stop, reload, told).await;
        let result = result.map_err(|error| {
            error!("{error:#}");
            Failure::Told
        });
        messengers.close().await;
        result
    });
    // A disk or a name server that hangs must not hold up the end.
    runtime.shutdown_background();
    result
}

/// Takes from the system what nothing works without, and waits for it where there is a shortage: files, threads, memory.
fn begin(workers: usize, signals: &Early) -> Stop {
    // Becoming another user has allowed them again.
    process::forbid_core_dumps();
    process::raise_open_files();
    memory::take_stack();
    memory::keep();
    log::start_thread();
    let stop = process::wait_for_resources(workers, || signals.watch());
    blocking::start();
    stop
}

/// A runtime with so many further threads.
fn runtime(workers: usize) -> anyhow::Result<Runtime> {
    let mut builder = if workers > 0 {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(workers);
        builder
    } else {
        Builder::new_current_thread()
    };
    let runtime = builder.enable_all().build();
    runtime.context("cannot start the runtime")
}

/// Where state is kept: for a dry run in memory, on a copy of what there is.
fn state_folder(kept: &Persistence, dry: bool) -> Result<StateFolder, LedgerError> {
    match kept {
        Persistence::Directory(path) if dry => StateFolder::copy_of(path).or_else(|error| {
            let error = anyhow::Error::new(error);
            warn!("the state cannot be read, so this run begins as a first start would: {error:#}");
            StateFolder::of(&kept.clone().in_memory()).or_else(|_| StateFolder::empty())
        }),
        Persistence::Memory { .. } if !dry => {
            warn!(
                "state is kept in memory: the next start knows nothing of what was delivered until then"
            );
            StateFolder::of(kept)
        }
        kept => StateFolder::of(kept),
    }
}
