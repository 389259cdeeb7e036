//! The commands beside collecting: what is given, and what is printed.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use chrono::{DateTime, Utc};
use clap::Subcommand;
use exchange_reports_collector::check::check;
use exchange_reports_collector::config::{self, Config, Loaded, Mistakes, Persistence, Source};
use exchange_reports_collector::ledger::MEMORY;
use exchange_reports_collector::monitoring::healthcheck::healthcheck;
use exchange_reports_collector::{privileges, state};
use serde_json::Value;

/// What is done instead of collecting.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Tells whether all will work; changes nothing and sends no record. Status 0 if nothing has failed, else 1
    Check {
        /// JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Asks the running collector whether it makes progress; status 0 if it does, else 1
    Healthcheck,
    /// Shows or changes what is kept of the services
    State {
        /// The state folder [default: the one that the configuration names]
        #[arg(long, value_name = "FOLDER", global = true)]
        directory: Option<PathBuf>,
        #[command(subcommand)]
        action: Action,
    },
}

/// What is done with the state.
#[derive(Subcommand)]
pub(crate) enum Action {
    /// Cursor, lag, unfinished window and counts of each service; also while a collector runs
    Show {
        /// JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Sets a service's cursor; not while a collector runs
    Set {
        /// The service, or INPUT.ID.SERVICE as `state show` prints it
        service: String,
        /// Everything before it counts as delivered, everything after it is collected; such as 2024-05-07T15:35:24Z
        #[arg(long, value_name = "TIME", value_parser = time)]
        cursor: DateTime<Utc>,
    },
    /// Has a service start over, as if it had never run; not while a collector runs
    Reset {
        /// The service, or INPUT.ID.SERVICE as `state show` prints it
        service: String,
    },
}

fn time(text: &str) -> Result<DateTime<Utc>, String> {
    config::time(text.trim()).ok_or_else(|| "write it as 2024-05-07T15:35:24Z (UTC)".to_owned())
}

impl Command {
    /// Carries the command out under the configuration that was looked for at `source`.
    pub(crate) fn carry_out(
        self,
        source: &Source,
        loaded: Result<Loaded, Mistakes>,
    ) -> Result<ExitCode> {
        match self {
            Self::Check { json } => inspect(json, source, loaded),
            Self::Healthcheck => ask_how_it_is(source),
            Self::State { directory, action } => {
                let config = loaded.ok().map(|loaded| loaded.config);
                let kept = || {
                    let known = config.as_ref().map(|config| config.globals.state.clone());
                    known.or_else(|| config::persistence(source))
                };
                let directory = match directory.map(Persistence::Directory).or_else(kept) {
                    Some(Persistence::Directory(directory)) => directory,
                    Some(Persistence::Memory { .. }) => {
                        bail!(
                            "{source} keeps state in memory, where it ends with the collector: name another folder by `--directory`"
                        )
                    }
                    None => {
                        bail!(
                            "{source} cannot be read, so it does not tell where the state is: name its folder by `--directory`"
                        )
                    }
                };
                on_state(action, &directory, config.as_ref())
            }
        }
    }
}

fn inspect(json: bool, source: &Source, loaded: Result<Loaded, Mistakes>) -> Result<ExitCode> {
    // Before any thread starts, as for collecting.
    let user = loaded.as_ref().ok().map(|loaded| {
        let config = &loaded.config;
        let state = match &config.globals.state {
            Persistence::Directory(directory) => directory,
            Persistence::Memory { .. } => Path::new(MEMORY),
        };
        privileges::rehearse(state, &config.files())
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let inspection = runtime.block_on(check(source, loaded, user));
    // A name server that hangs must not hold up the end.
    runtime.shutdown_background();
    if json {
        print_json(&inspection.json())?;
    } else {
        print(&inspection.to_string())?;
    }
    Ok(ExitCode::from(u8::from(!inspection.is_fine())))
}

fn on_state(action: Action, directory: &Path, config: Option<&Config>) -> Result<ExitCode> {
    let now = Utc::now();
    if directory.exists() {
        // What is written is to belong to whom the state belongs to.
        privileges::rehearse(directory, &[])?;
    }
    match action {
        Action::Show { json } => {
            let shown = state::show(directory, config, now)?;
            if json {
                print_json(&shown.iter().map(state::Shown::json).collect())?;
            } else {
                print(&state::table(&shown))?;
            }
        }
        Action::Set { service, cursor } => {
            let told = state::set(directory, &service, cursor, config, now)?;
            print(&format!("{told}\n"))?;
        }
        Action::Reset { service } => {
            let told = state::reset(directory, &service, config, now)?;
            print(&format!("{told}\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn ask_how_it_is(source: &Source) -> Result<ExitCode> {
    let known = config::monitoring(source);
    let assumed = known.is_none();
    // The collector may have been started with another configuration, by arguments that are not known here.
    let listen = known.unwrap_or_default().listen;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let asked = runtime.block_on(healthcheck(listen));
    if assumed {
        asked.with_context(|| {
            format!("{source} cannot be read, so the collector is asked at the default address; name the file by CONFIG_FILE")
        })?;
    } else {
        asked?;
    }
    print("ok\n")?;
    Ok(ExitCode::SUCCESS)
}

fn print_json(value: &Value) -> Result<()> {
    print(&format!("{value:#}\n"))
}

fn print(text: &str) -> Result<()> {
    let mut output = io::stdout().lock();
    let printed = output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush());
    printed.context("cannot print to standard output")
}
