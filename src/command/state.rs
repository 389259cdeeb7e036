//! The state by hand: what each service has, a cursor that is set, a service that is started over, state that changes its owner, and state that moves
//! to another folder.
//!
//! Looking works beside a running collector and changes nothing; changing is refused while one holds the folder. Neither asks anybody, and
//! no credential is needed.

mod amend;
mod carry;
mod orphans;
mod show;

use std::path::Path;

use anyhow::{Result, bail};

pub use amend::{hand_over, reset, set};
pub use carry::{ExportTo, export, import};
pub use orphans::{Orphan, orphans};
use show::instant;
pub use show::{Shown, show, table};

use crate::config::{Config, ServiceConfig};
use crate::ledger::{self, ServiceFolder};
use crate::report::Report;

/// The one service that `name` names: by its own name where only one input has it, else by the whole name, `INPUT.ID.SERVICE`.
fn find(path: &Path, name: &str) -> Result<ServiceFolder> {
    let services = existing(path)?;
    let (mut named, others): (Vec<_>, Vec<_>) = services
        .into_iter()
        .partition(|service| service.report.service == name || whole_name(service) == name);
    match named.len() {
        1 => Ok(named.remove(0)),
        0 if others.is_empty() => bail!(
            "the state folder {} holds no service's state",
            path.display()
        ),
        0 => bail!(
            "there is no state of a service {name:?} in {}: name one of\n{}",
            path.display(),
            whole_names(&others)
        ),
        _ => bail!(
            "several inputs have the service {name}: name one of\n{}",
            whole_names(&named)
        ),
    }
}

fn existing(path: &Path) -> Result<Vec<ServiceFolder>> {
    if !path.exists() {
        bail!(
            "there is no state folder {}: start this command where the collector is started, or name the folder by `--directory`",
            path.display()
        );
    }
    Ok(ledger::services(path)?)
}

fn whole_name(service: &ServiceFolder) -> String {
    name_of(&service.input, &service.id, service.report)
}

fn name_of(input: &str, id: &str, report: &Report) -> String {
    format!("{input}.{id}.{}", report.service)
}

fn whole_names(services: &[ServiceFolder]) -> String {
    let names: Vec<_> = services.iter().map(whole_name).collect();
    names.join("\n")
}

/// How the configuration runs a service that has state, if it does.
fn configured<'a>(
    config: Option<&'a Config>,
    service: &ServiceFolder,
) -> Option<&'a ServiceConfig> {
    let inputs = &config?.inputs;
    let input = inputs
        .iter()
        .find(|input| input.name == service.input && input.id == service.id)?;
    let mut services = input.services.iter();
    services.find(|configured| configured.report == service.report)
}
