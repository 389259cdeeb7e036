//! What stands on the command line. A file of its own, from which `examples/manual.rs` makes completions and manual pages.

use clap::{ArgGroup, Parser};
use exchange_reports_collector::command::Command;
use exchange_reports_collector::version::VERSION;

/// The options with which a run ends by itself.
const ENDS: &str = "ends";

/// Collects the Microsoft 365 Exchange reports and delivers them to Devo, every record confirmed.
///
/// Works in the current folder, with config/, certs/, credentials/ and state/ beside each other.
#[derive(Parser)]
#[command(version = VERSION.as_str(), about, long_about, group(ArgGroup::new(ENDS).multiple(true)))]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own"
)]
pub(crate) struct Arguments {
    /// The configuration; a relative name is looked up under config/ [default: the variable `CONFIG_FILE`, else config.yaml]
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) config: Option<String>,
    /// The inputs of a hosted instance, in JSON [default: `/etc/devo/job/job_config.json`, if the next is there too]
    #[arg(long = "job_config_loc", value_name = "FILE", global = true)]
    pub(crate) job: Option<String>,
    /// The settings and outputs of a hosted instance, in JSON [default: `/etc/devo/collector/collector_config.json`]
    #[arg(long = "collector_config_loc", value_name = "FILE", global = true)]
    pub(crate) collector: Option<String>,
    /// Keep state in memory, whatever the configuration says: the next start knows nothing of what was delivered
    #[arg(long)]
    pub(crate) no_save_state: bool,
    /// Collect what is due now, confirm it, and end: with status 0 if all of it is delivered, else 1
    ///
    /// For cron and the like. A service that only a person can help (refused credentials, a missing right) is given up at once, and one that
    /// gets no page and no receipt for the time of `--give-up-after` is too; what is due of it is left for the next run. The others go on.
    #[arg(long, group = ENDS)]
    pub(crate) once: bool,
    /// Print what is due now, in the form in which the first output would get it, and end as `--once` does
    ///
    /// Nothing is delivered and nothing is kept. It goes on from the state as it is, and neither locks nor changes it, so that a collector may
    /// run on it meanwhile; where it cannot be read, from where a first start would begin. The reports are asked for as always.
    #[arg(long, group = ENDS)]
    pub(crate) dry_run: bool,
    /// How long a run that ends by itself waits for a service that does not get on; a single request may take 600
    #[arg(long, value_name = "SECONDS", default_value_t = 900, requires = ENDS, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) give_up_after: u64,
    /// The same as the command `check`
    #[arg(long)]
    pub(crate) validate: bool,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}
