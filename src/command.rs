//! The commands beside collecting: what is given, and what is printed.

pub mod audit;
pub mod bundle;
pub mod check;
pub mod compare;
pub mod healthcheck;
mod side;
pub mod state;
pub mod visit;

use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use self::audit::{Question, audit};
use self::bundle::Setup;
use self::check::{Scope, check};
use self::compare::{Range, compare};
use self::healthcheck::healthcheck;
use self::state::ExportTo;
use crate::config::{self, Config, Loaded, Mistakes, Persistence, Source};
use crate::ledger::{ExportFile, MEMORY};
use crate::privileges::{self, Outcome};
use crate::web::Identity;
use anyhow::{Context, Result, bail};
use chrono::{DateTime, Utc};
use clap::Subcommand;
use serde_json::Value;
use tokio::runtime::Runtime;
use tracing::error;

/// The exit status for a configuration that cannot be run (`EX_CONFIG` of sysexits).
pub const BAD_CONFIGURATION: u8 = 78;

/// What is done instead of collecting.
#[derive(Subcommand)]
pub enum Command {
    /// Tells for which time the records are complete, and where not, why; status 0 if they are, else 1
    ///
    /// It reads the state and changes nothing: a collector may be running. With `--verify` Microsoft is asked again, within the budget of
    /// requests.
    Audit {
        /// Only this input
        #[arg(long, value_name = "NAME")]
        input: Option<String>,
        /// Only this service
        #[arg(long, value_name = "SERVICE")]
        service: Option<String>,
        /// The first instant, such as 2026-11-20T10:00:00Z; rounded down to a full hour, or to a day for a report by day [default: since
        /// when each service is audited]
        #[arg(long, value_name = "TIME", value_parser = time)]
        from: Option<DateTime<Utc>>,
        /// The first instant that is not asked about any more; rounded up [default: the last full hour before each service's cursor]
        #[arg(long, value_name = "TIME", value_parser = time)]
        to: Option<DateTime<Utc>>,
        /// JSON instead of text
        #[arg(long)]
        json: bool,
        /// Ask Microsoft again for all of it that is within reach, and name the hours that differ now
        #[arg(long)]
        verify: bool,
    },
    /// Tells whether all will work; changes nothing and sends no record. Status 0 if nothing has failed, else 1
    Check {
        /// JSON instead of a table
        #[arg(long)]
        json: bool,
        /// Look at files only: ask no service, no relay and no name server, and leave the state folder alone
        #[arg(long)]
        offline: bool,
        /// Only this input, and its outputs
        #[arg(long, value_name = "INPUT")]
        input: Option<String>,
    },
    /// Asks the running collector whether it makes progress; status 0 if it does, else 1
    Healthcheck,
    /// Compares the message traces of the reporting service with those of Microsoft Graph, for a range that is over; delivers and keeps
    /// nothing. Status 0 if they are alike, else 1
    ///
    /// For before the switch from one to the other. It may run beside a collector. Its requests to Graph count against the tenant's budget.
    Compare {
        /// The first instant, such as 2026-11-20T10:00:00Z
        #[arg(long, value_name = "TIME", value_parser = time)]
        from: DateTime<Utc>,
        /// The first instant that is not compared any more
        #[arg(long, value_name = "TIME", value_parser = time)]
        to: DateTime<Utc>,
        /// The input whose tenant is asked [default: the only one that collects message traces]
        #[arg(long, value_name = "NAME")]
        input: Option<String>,
        /// JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Writes one archive for whoever helps from afar: version, configuration without its secrets, state, metrics and last log lines of the
    /// running collector, and what `check` says
    SupportBundle {
        /// Where to write it; `-` is standard output [default: a file in the current folder that is named by the time]
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Shows or changes what is kept of the services
    State {
        /// The state folder [default: the one that the configuration names]
        #[arg(long, value_name = "FOLDER", global = true)]
        directory: Option<PathBuf>,
        /// What is done with it.
        #[command(subcommand)]
        action: Action,
    },
}

/// What is done with the state.
#[derive(Subcommand)]
pub enum Action {
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
    /// Hands the state of one service over to another name, where an input was renamed or given another id; not while a collector runs
    Move {
        /// Whose state it is: INPUT.ID.SERVICE as `state show` prints it
        old: String,
        /// Whose state it becomes: INPUT.ID.SERVICE, by the names in the configuration
        new: String,
    },
    /// Writes all state of one input to a file, for another collector to go on with: from then on the input does not start here; not while a
    /// collector runs
    Export {
        /// The input, or INPUT.ID where several ids have state
        input: String,
        /// Where to write it [default: a file in the current folder that is named by input and time]
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Write it again, where the file of an earlier export is lost or was never finished
        #[arg(long)]
        again: bool,
    },
    /// Takes in what `export` has written, so that the input goes on from there; not while a collector runs
    Import {
        /// The file
        file: PathBuf,
        /// Put it in the place of state that the input has here
        #[arg(long)]
        replace: bool,
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
    /// The command `check` without options.
    pub fn check() -> Self {
        Self::Check {
            json: false,
            offline: false,
            input: None,
        }
    }

    /// Carries the command out under the configuration that was looked for at `source`.
    pub fn carry_out(self, source: &Source, loaded: Result<Loaded, Mistakes>) -> Result<ExitCode> {
        match self {
            Self::Check {
                json,
                offline,
                input,
            } => {
                let scope = Scope { offline, input };
                inspect(json, &scope, source, loaded)
            }
            Self::Audit {
                input,
                service,
                from,
                to,
                json,
                verify,
            } => {
                let question = Question {
                    input,
                    service,
                    from,
                    to,
                    verify,
                };
                tell_what_is_complete(&question, json, loaded)
            }
            Self::Compare {
                from,
                to,
                input,
                json,
            } => compare_services((from, to), input.as_deref(), json, loaded),
            Self::Healthcheck => ask_how_it_is(source),
            Self::SupportBundle { output } => make_bundle(output, source, loaded),
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

fn inspect(
    json: bool,
    scope: &Scope,
    source: &Source,
    loaded: Result<Loaded, Mistakes>,
) -> Result<ExitCode> {
    let user = become_user(loaded.as_ref().ok().map(|loaded| &loaded.config));
    let runtime = runtime()?;
    let inspection = runtime.block_on(check(source, loaded, user, scope));
    // A name server that hangs must not hold up the end.
    runtime.shutdown_background();
    if json {
        print_json(&inspection.json())?;
    } else {
        print(&inspection.to_string())?;
    }
    Ok(ExitCode::from(u8::from(!inspection.is_fine())))
}

fn compare_services(
    (from, to): (DateTime<Utc>, DateTime<Utc>),
    input: Option<&str>,
    json: bool,
    loaded: Result<Loaded, Mistakes>,
) -> Result<ExitCode> {
    let range = Range::new(from, to, Utc::now())?;
    let config = match loaded {
        Ok(loaded) => loaded.config,
        Err(mistakes) => {
            error!("the configuration cannot be run; nothing was compared\n{mistakes}");
            return Ok(ExitCode::from(BAD_CONFIGURATION));
        }
    };
    if let Some(user) = become_user(Some(&config)) {
        user?;
    }
    let runtime = runtime()?;
    let findings = runtime.block_on(compare(&config, input, range));
    // A name server that hangs must not hold up the end.
    runtime.shutdown_background();
    let findings = findings?;
    if json {
        print_json(&findings.json())?;
    } else {
        print(&findings.to_string())?;
    }
    Ok(ExitCode::from(u8::from(!findings.are_alike())))
}

fn tell_what_is_complete(
    question: &Question,
    json: bool,
    loaded: Result<Loaded, Mistakes>,
) -> Result<ExitCode> {
    let config = match loaded {
        Ok(loaded) => loaded.config,
        Err(mistakes) => {
            error!("the configuration cannot be run; nothing was audited\n{mistakes}");
            return Ok(ExitCode::from(BAD_CONFIGURATION));
        }
    };
    if let Some(user) = become_user(Some(&config)) {
        user?;
    }
    let runtime = runtime()?;
    let told = runtime.block_on(audit(&config, question, Utc::now()));
    // A name server that hangs must not hold up the end.
    runtime.shutdown_background();
    let told = told?;
    if json {
        print_json(&told.json())?;
    } else {
        print(&told.to_string())?;
    }
    Ok(ExitCode::from(u8::from(!told.is_complete())))
}

/// Becomes who collecting would be, before any thread starts.
fn become_user(config: Option<&Config>) -> Option<Result<Outcome>> {
    let config = config?;
    let state = match &config.globals.state {
        Persistence::Directory(directory) => directory,
        Persistence::Memory { .. } => Path::new(MEMORY),
    };
    Some(privileges::rehearse(state, &config.files()))
}

fn make_bundle(
    output: Option<PathBuf>,
    source: &Source,
    loaded: Result<Loaded, Mistakes>,
) -> Result<ExitCode> {
    let path = output.unwrap_or_else(|| {
        let name = bundle::name(Utc::now());
        PathBuf::from(format!("{name}.tar.gz"))
    });
    let printed = path == Path::new("-");
    // Opened by whoever has started this, who may have rights that collecting does without.
    let mut file: Box<dyn Write> = if printed {
        if io::stdout().is_terminal() {
            bail!(
                "an archive is not for a terminal: send standard output to a file, or name one by `--output`"
            );
        }
        Box::new(io::stdout())
    } else {
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        let context = || {
            format!(
                "cannot make {}: name another place by `--output`, or `-` for standard output",
                path.display()
            )
        };
        Box::new(file.with_context(context)?)
    };
    let setup = Setup::read(source, loaded);
    let user = become_user(setup.config());
    let runtime = runtime()?;
    let bundle = runtime.block_on(bundle::bundle(setup, user));
    // A name server that hangs must not hold up the end.
    runtime.shutdown_background();
    let written = bundle.write(&mut file);
    if printed {
        written.context("cannot write to standard output")?;
        return Ok(ExitCode::SUCCESS);
    }
    let shown = path.display();
    if let Err(error) = written {
        // Whoever tries again is not to find half of one in the way.
        let _ = fs::remove_file(&path);
        return Err(error).with_context(|| format!("cannot write {shown}"));
    }
    print(&format!(
        "{shown}: nothing secret is in it as far as the collector knows; look through it before you give it away\n"
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn on_state(action: Action, directory: &Path, config: Option<&Config>) -> Result<ExitCode> {
    let now = Utc::now();
    // As the user that started the command, who may have rights that the state's owner has not.
    let export = match &action {
        Action::Import { file, .. } => Some(ExportFile::open(file)?),
        _ => None,
    };
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
        Action::Move { old, new } => {
            let told = state::hand_over(directory, &old, &new, config)?;
            print(&format!("{told}\n"))?;
        }
        Action::Export {
            input,
            output,
            again,
        } => {
            let to = ExportTo { output, again };
            let told = state::export(directory, &input, &to, now)?;
            print(&format!("{told}\n"))?;
        }
        Action::Import { replace, .. } => {
            if let Some(mut export) = export {
                let told = state::import(directory, &mut export, replace, config, now)?;
                print(&format!("{told}\n"))?;
            }
        }
        Action::Reset { service } => {
            let told = state::reset(directory, &service, config, now)?;
            print(&format!("{told}\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn ask_how_it_is(source: &Source) -> Result<ExitCode> {
    let known = config::globals(source);
    let wanted = known.as_ref().map(Identity::of);
    let assumed = wanted.is_none();
    // The collector may have been started with another configuration, by arguments that are not known here.
    let monitoring = known.map(|globals| globals.monitoring).unwrap_or_default();
    let runtime = runtime()?;
    let asked = runtime.block_on(healthcheck(monitoring.listen, wanted));
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

fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
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
