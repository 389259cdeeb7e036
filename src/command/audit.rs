//! For which time the records of each service are complete, and where not, why: told from the state, and checked with Microsoft where that is
//! asked for.
//!
//! Nothing is changed, and the state folder is not locked: a collector may be running on it.

mod told;
mod verify;

use std::path::Path;

use anyhow::{Result, bail};
use chrono::{DateTime, TimeDelta, Utc};
use tracing::error;

pub use self::told::{Audited, Told};
use self::verify::Verifier;
pub use self::verify::{Differs, Verified};
use crate::config::{Config, Input, Persistence, ServiceConfig};
use crate::error::chain;
use crate::ledger::{Account, Gap, HourOutcome, Owner, Summary};
use crate::report::{Origin, Resolution, Terms};
use crate::source::{graph, reporting};
use crate::tenant::Tenant;
use crate::window::{Window, ceiling, floor};

/// What is asked about.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// Only the input of this name.
    pub input: Option<String>,
    /// Only the service of this name.
    pub service: Option<String>,
    /// The first instant; by default since when a service is audited.
    pub from: Option<DateTime<Utc>>,
    /// The first instant after it; by default what has settled.
    pub to: Option<DateTime<Utc>>,
    /// Whether Microsoft is asked again.
    pub verify: bool,
}

/// Tells what the state says at the time `now`.
///
/// # Errors
///
/// If the question names nothing that the configuration has, state is kept in memory, or Microsoft does not answer.
pub async fn audit(config: &Config, question: &Question, now: DateTime<Utc>) -> Result<Told> {
    let Persistence::Directory(folder) = &config.globals.state else {
        bail!("the state is kept in memory and ends with the collector, so there is no audit");
    };
    if let (Some(from), Some(to)) = (question.from, question.to)
        && from >= to
    {
        bail!("nothing lies from {from} to {to}: `--from` has to be the earlier one");
    }
    let mut services = vec![];
    for input in chosen(config, question)? {
        let mut verifier = None;
        if question.verify {
            let tenant = Tenant::of_command(input, &config.globals.state)?;
            verifier = Some(Verifier::new(input, tenant, folder, now));
        }
        for service in { input.services.iter() }.filter(|one| is_meant(question, one)) {
            let (mut audited, account) = of_service(folder, input, service, question, now);
            if let (Some(verifier), Some(range)) = (&verifier, audited.range) {
                audited.verified = Some(verifier.verify(service, &account, range).await?);
            }
            services.push(audited);
        }
    }
    Ok(Told { services })
}

/// The inputs that are meant. There is at least one service of them that is meant too.
fn chosen<'c>(config: &'c Config, question: &Question) -> Result<Vec<&'c Input>> {
    let inputs: Vec<&Input> = config.inputs.iter().map(|input| &**input).collect();
    let names = inputs.iter().map(|input| input.name.clone());
    let names: Vec<_> = names.collect();
    let meant = |input: &&Input| {
        let name = question.input.as_ref();
        name.is_none_or(|name| *name == input.name)
    };
    let inputs: Vec<_> = inputs.into_iter().filter(meant).collect();
    if let (Some(name), true) = (&question.input, inputs.is_empty()) {
        bail!(
            "there is no input {name:?}: name one of {}",
            names.join(", ")
        );
    }
    let all: Vec<_> = inputs.iter().flat_map(|input| &input.services).collect();
    if !all.iter().any(|service| is_meant(question, service)) {
        let names: Vec<_> = all.iter().map(|service| service.report.service).collect();
        let name = question.service.as_deref().unwrap_or_default();
        bail!(
            "there is no service {name:?}: name one of {}",
            names.join(", ")
        );
    }
    Ok(inputs)
}

/// A service is named by its whole name, or by what is between `office365_reporting_` and `_service`.
fn is_meant(question: &Question, service: &ServiceConfig) -> bool {
    let whole = service.report.service;
    let short = whole.strip_prefix("office365_reporting_");
    let short = short.and_then(|short| short.strip_suffix("_service"));
    let asked = question.service.as_deref();
    asked.is_none_or(|name| name == whole || Some(name) == short)
}

/// What the state of one service says.
fn of_service(
    folder: &Path,
    input: &Input,
    service: &ServiceConfig,
    question: &Question,
    now: DateTime<Utc>,
) -> (Audited, Account) {
    let owner = Owner {
        input: &input.name,
        id: &input.id,
        service: service.report.service,
    };
    let (account, is_readable) = match Account::of(folder, owner) {
        Ok(account) => (account, true),
        Err(failure) => {
            error!(
                input = input.name,
                service = service.report.service,
                error = chain(&failure),
                "the state of this service cannot be read, so nothing is known of it"
            );
            (Account::default(), false)
        }
    };
    let terms = terms(service, account.source);
    let unit = match terms.resolution {
        Resolution::Instant | Resolution::Hour => TimeDelta::hours(1),
        Resolution::Day => TimeDelta::days(1),
    };
    let range = range(question, &account, unit);
    let reach = TimeDelta::from_std(terms.reach).unwrap_or_default();
    let mut summary = match range {
        Some(range) => account.summary(range, reach, now),
        None => Summary::default(),
    };
    if !is_readable {
        for gap in &mut summary.gaps {
            gap.reason = HourOutcome::Unknown;
        }
    }
    let audited = Audited {
        input: input.name.clone(),
        service: service.report.service,
        range,
        cursor: account.cursor,
        summary,
        damaged: account.damaged,
        verified: None,
    };
    (audited, account)
}

/// What the source of a service is like.
fn terms(service: &ServiceConfig, source: Origin) -> Terms {
    if source == Origin::Graph && service.report.has_two_services() {
        graph::terms()
    } else {
        reporting::terms(service.report, service.aggregate_by)
    }
}

/// The whole hours or days that are asked about; `None` if nothing has settled, and no time is named.
fn range(question: &Question, account: &Account, unit: TimeDelta) -> Option<Window> {
    let down = |time| floor(time, unit);
    let up = |time| ceiling(time, unit);
    let from = question.from.map(down);
    let to = question.to.map(up);
    let (start, end) = match (from, to) {
        (Some(from), Some(to)) => (from, to),
        (Some(from), None) => {
            let settled = account.cursor.map_or(from, down);
            (from, settled.max(from + unit))
        }
        (None, Some(to)) => {
            let since = account.since.map_or(to, up);
            (since.min(to - unit), to)
        }
        (None, None) => (up(account.since?), down(account.cursor?)),
    };
    (start < end).then_some(Window { start, end })
}

/// Whether a gap is of time that will be collected.
fn is_ahead(gap: &Gap, cursor: Option<DateTime<Utc>>) -> bool {
    cursor.is_some_and(|cursor| gap.window.start >= cursor)
}
