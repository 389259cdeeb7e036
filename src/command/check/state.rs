//! The state folder, and what is in it of each service.

use std::path::Path;

use super::{Line, Verdict};
use crate::command::state::orphans;
use crate::config::{Config, Input, Persistence, ServiceConfig};
use crate::error::chain;
use crate::ledger::{self, LedgerError, Original, Owner, Reading, StateFolder};
use crate::service::{is_another_tenant, tenant_of};

pub(super) fn lines(config: &Config) -> Vec<Line> {
    let part = "state folder";
    let path = match &config.globals.state {
        Persistence::Directory(path) => path,
        Persistence::Memory { beside } => return in_memory(config, beside),
    };
    let shown = path.display();
    let network = ledger::network_file_system(path)
        .map(|kind| Line::new(part, Verdict::Doubtful(on_network(kind, path))));
    match ledger::probe(path) {
        Ok(false) => {
            let text = format!("{shown} is not there yet, and can be made");
            let line = Line::new(part, Verdict::Fine(text));
            return [line].into_iter().chain(network).collect();
        }
        Err(error) => return vec![Line::new(part, failed(&error))],
        Ok(true) => {}
    }
    let mut damaged = vec![];
    let (mut known, mut without_start) = (0, 0);
    for input in &config.inputs {
        for service in &input.services {
            match of_service(path, input, service) {
                Ok(true) => known += 1,
                Ok(false) => without_start += usize::from(service.start_time.is_none()),
                Err(error) => {
                    let part = format!("state of {}: {}", input.name, service.report.service);
                    damaged.push(Line::new(part, failed(&error)));
                }
            }
        }
    }
    let text = format!(
        "{shown} can be written, and no collector holds it; services that go on from it: {known}"
    );
    let mut lines = vec![Line::new(part, Verdict::Fine(text))];
    lines.extend(network);
    if without_start > 0 {
        lines.extend(taken_over(path, without_start).map(|verdict| Line::new(part, verdict)));
    }
    lines.append(&mut damaged);
    let orphans = orphans(path, config).unwrap_or_default(); // a folder that cannot be read has been told above
    lines.extend(orphans.iter().map(|orphan| {
        let (name, cursor) = (&orphan.name, orphan.shown_cursor());
        let text = format!(
            "no input of the configuration owns it, so nothing goes on from its cursor {cursor}: {}",
            orphan.action
        );
        Line::new(format!("state {name}"), Verdict::Doubtful(text))
    }));
    lines
}

/// What a network file system means for what is promised.
fn on_network(kind: &str, path: &Path) -> String {
    let shown = path.display();
    format!(
        "{shown} is on {kind}, where locks and syncs hold only as far as its server keeps them: a second collector may be let in, and after a \
         crash of the server the state may be an older one; records come again then, and none is lost. A local disk is safer \
         (globals.persistence.config.directory_name)"
    )
}

/// As above, where nothing is kept.
fn in_memory(config: &Config, beside: &Path) -> Vec<Line> {
    let part = "state folder";
    if let Err(error) = StateFolder::empty() {
        return vec![Line::new(part, failed(&error))];
    }
    let text =
        "state is kept in memory: the next start knows nothing of what was delivered until then";
    let mut lines = vec![Line::new(part, Verdict::Doubtful(text.to_owned()))];
    let services = config.inputs.iter().flat_map(|input| &input.services);
    let without_start = services
        .filter(|service| service.start_time.is_none())
        .count();
    if without_start > 0 {
        lines.extend(taken_over(beside, without_start).map(|verdict| Line::new(part, verdict)));
    }
    lines
}

/// What so many services go by that have neither state nor a start, if the original has left its files.
fn taken_over(path: &Path, services: usize) -> Option<Verdict> {
    let original = match Original::find(path) {
        Ok(original) => original?,
        Err(error) => return Some(failed(&error)),
    };
    let format = "%Y-%m-%dT%H:%M:%SZ";
    Some(Verdict::Doubtful(format!(
        "the original collector's files lie there, written from {} to {}; services that begin at the first of these times, less the delay \
         and ten minutes: {services}; what it has delivered after that comes twice",
        original.oldest.format(format),
        original.newest.format(format),
    )))
}

/// Whether the service has state, which is sound and its own.
fn of_service(path: &Path, input: &Input, service: &ServiceConfig) -> Result<bool, LedgerError> {
    let owner = Owner {
        input: &input.name,
        id: &input.id,
        service: service.report.service,
    };
    ledger::refuse_moved(path, owner)?;
    let Some(cursor) = Reading::of(path, owner)?.cursor else {
        return Ok(false);
    };
    ledger::probe_service(path, owner)?;
    let reset = &service.reset_persistence_auth;
    let kept = reset.is_none() || *reset == cursor.reset_persistence_auth;
    let tenant = tenant_of(&input.credentials);
    if kept && is_another_tenant(&cursor.tenant, &tenant) {
        return Err(LedgerError::OtherTenant {
            folder: owner.folder(path),
            known: cursor.tenant,
            now: tenant,
        });
    }
    Ok(true)
}

/// The ledger's errors say what to do; those of the system in their midst, which is put last here.
fn failed(error: &LedgerError) -> Verdict {
    match (error, error.action()) {
        (
            LedgerError::Io {
                action,
                path,
                source,
                ..
            },
            Some(remedy),
        ) => Verdict::failed(
            format!("cannot {action} {}: {source}", path.display()),
            remedy,
        ),
        _ => Verdict::Failed(chain(error)),
    }
}
