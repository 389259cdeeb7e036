//! The commands beside collecting: what is given, and what is printed.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Subcommand;
use exchange_reports_collector::check::check;
use exchange_reports_collector::config::{Loaded, Mistakes};
use exchange_reports_collector::privileges;
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
}

impl Command {
    /// Carries the command out under the configuration that was looked for at `path`.
    pub(crate) fn carry_out(
        self,
        path: &Path,
        loaded: Result<Loaded, Mistakes>,
    ) -> Result<ExitCode> {
        match self {
            Self::Check { json } => inspect(json, path, loaded),
        }
    }
}

fn inspect(json: bool, path: &Path, loaded: Result<Loaded, Mistakes>) -> Result<ExitCode> {
    // Before any thread starts, as for collecting.
    let user = loaded.as_ref().ok().map(|loaded| {
        let config = &loaded.config;
        privileges::rehearse(&config.globals.state_directory, &config.files())
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let inspection = runtime.block_on(check(path, loaded, user));
    // A name server that hangs must not hold up the end.
    runtime.shutdown_background();
    if json {
        print_json(&inspection.json())?;
    } else {
        print(&inspection.to_string())?;
    }
    Ok(ExitCode::from(u8::from(!inspection.is_fine())))
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
