//! Asks both of Microsoft's services for the message traces of a past range, and tells where they differ.
//!
//! Nothing is delivered and nothing is stored but the times of the requests to Microsoft Graph, which count against the tenant's budget. The state
//! folder is not locked: a collector may be running on it.
//!
//! The range is compared in steps of full hours, so that memory holds the rows of one service for an hour, or for several hours that have
//! few. What the times of a row say differs between the services below the millisecond (seen). So each step asks for a second more at both of
//! its ends, and a message belongs to the hour that the reporting service names for it.

mod comparison;
mod findings;
mod progress;

use anyhow::{Context as _, Result, bail};
use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};

use self::comparison::{Comparison, Step};
pub use self::findings::{Different, Findings, Hour, Listed, Message};
use self::progress::Progress;
use super::side::{Came, Failure, GraphSide, ReportSide, Taken};
use crate::config::{Config, Credentials, Input, Persistence};
use crate::record::{Fingerprint, Fingerprinter, Mask};
use crate::report::{REPORTS, Report};
use crate::source::graph::budget::UNNOTED_MAX;
use crate::source::{Page, graph, reporting};
use crate::tenant::Tenant;

/// A step ends with the first full hour at which it has so many rows.
const STEP_ROWS: usize = 20_000;
/// A step is never longer.
const STEP_MAX: TimeDelta = TimeDelta::hours(24);
/// So much more is asked for at both ends of a step.
const MARGIN: TimeDelta = TimeDelta::seconds(1);
/// Rows that are younger may still change, and others may come.
const SETTLED_AFTER: TimeDelta = TimeDelta::hours(25);

/// The range that is compared: from its first instant to the one that is the first behind it, both whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
}

impl Range {
    /// # Errors
    ///
    /// If it is empty, not over by `now`, or further back than one of the services has message traces.
    pub fn new(from: DateTime<Utc>, to: DateTime<Utc>, now: DateTime<Utc>) -> Result<Self> {
        let whole = |time: DateTime<Utc>| time.duration_trunc(TimeDelta::seconds(1));
        let (from, to) = (whole(from)?, whole(to)?);
        if from >= to {
            bail!("nothing lies from {from} to {to}: `--from` has to be the earlier one");
        }
        if to > now {
            bail!("`--to` is in the future: only a range that is over can be compared");
        }
        let report = message_trace()?;
        let reach = reporting::terms(report, None).reach;
        let reach = reach.min(graph::terms().reach);
        if TimeDelta::from_std(reach).is_ok_and(|reach| from - MARGIN < now - reach) {
            bail!(
                "`--from` is more than {} days ago: further back the reporting service has no message traces",
                reach.as_secs() / 86_400
            );
        }
        Ok(Range { from, to })
    }
}

fn message_trace() -> Result<&'static Report> {
    let mut reports = REPORTS.iter();
    let report = reports.find(|report| report.has_two_services());
    report.context("no report comes from two services")
}

/// Compares what both services tell of the range for the input that is called `name`, or for the only one.
///
/// # Errors
///
/// If it is not clear which input is meant, the input has no way to Microsoft Graph, or a service refuses or fails lastingly: the error
/// says what to do.
pub async fn compare(config: &Config, name: Option<&str>, range: Range) -> Result<Findings> {
    let input = chosen(config, name)?;
    let report = message_trace()?;
    let tenant = Tenant::of_command(input, &config.globals.state)?;
    let Some(graph) = tenant.graph() else {
        bail!("{}", without_graph(input));
    };
    let service = { input.services.iter() }.find(|service| service.report == report);
    let mask = service.map_or_else(Mask::default, |service| service.mask.clone());
    let fingerprinter = Fingerprinter::of(&rand::random(), report);
    let mut reports = ReportSide::new(tenant.reports(), report, None, fingerprinter.clone());
    let graph = GraphSide::new(graph, input, fingerprinter, tenant.charges());
    let mut comparison = Comparison::new(report, mask);
    let mut start = range.from;
    let mut missing = vec![];
    let progress = Progress::new(range.from, range.to);
    while start < range.to {
        let step = step(&mut reports, &graph, (start, range.to), &progress);
        match progress.beside(step).await {
            Ok(step) => {
                start = step.end();
                progress.compared(start);
                missing.extend(step.doubts().map(str::to_owned));
                comparison.take(step);
            }
            Err(Failure::BudgetSpent) => {
                missing.push(format!(
                    "{} to {}: more than {UNNOTED_MAX} requests to Microsoft Graph would be needed, and no more are made that cannot be noted",
                    findings::instant(start),
                    findings::instant(range.to)
                ));
                break;
            }
            Err(Failure::Other(error)) => {
                return Err(error.context("the services cannot be compared"));
            }
        }
    }
    let mut notes = vec![];
    if let Some(trouble) = tenant.charges().trouble() {
        notes.push(format!(
            "requests to Microsoft Graph cannot be noted in the state ({trouble}), so {UNNOTED_MAX} are made at most: {}",
            how_to_note(&config.globals.state)
        ));
    }
    if Utc::now() - range.to < SETTLED_AFTER {
        notes.push(
            "the range ended less than 25 hours ago: messages may still come, and others change their status"
                .to_owned(),
        );
    }
    Ok(comparison.findings(input.name.clone(), (range.from, range.to), missing, notes))
}

fn how_to_note(state: &Persistence) -> String {
    match state {
        Persistence::Directory(folder) => format!(
            "run this as the user that the folder {} belongs to; where it is missing, make it or start the collector once",
            folder.display()
        ),
        Persistence::Memory { .. } => {
            "give the collector a state folder (globals.persistence.type: filesystem)".to_owned()
        }
    }
}

/// The input that is meant.
fn chosen<'c>(config: &'c Config, name: Option<&str>) -> Result<&'c Input> {
    let names = |inputs: &[&Input]| {
        let names: Vec<_> = inputs.iter().map(|input| input.name.as_str()).collect();
        names.join(", ")
    };
    let all: Vec<&Input> = config.inputs.iter().map(|input| &**input).collect();
    if let Some(name) = name {
        let found = all.iter().find(|input| input.name == name);
        let unknown = || format!("there is no input {name:?}: name one of {}", names(&all));
        return found.copied().with_context(unknown);
    }
    let has_traces = |input: &&Input| {
        let mut services = input.services.iter();
        services.any(|service| service.report.has_two_services())
    };
    let with_traces: Vec<&Input> = all.iter().copied().filter(has_traces).collect();
    match (&with_traces[..], &all[..]) {
        ([only], _) | ([], [only]) => Ok(only),
        ([], _) => bail!("name an input by `--input`: one of {}", names(&all)),
        (several, _) => bail!(
            "several inputs collect message traces: name one by `--input`: {}",
            names(several)
        ),
    }
}

fn without_graph(input: &Input) -> String {
    let name = &input.name;
    if matches!(input.credentials, Credentials::Basic { .. }) {
        format!(
            "input `{name}` signs in with `username` and `password`, which Microsoft Graph does not take: give `tenant_id`, `client_id` and \
             `client_secret`, or a certificate"
        )
    } else {
        format!(
            "input `{name}` has no way to Microsoft Graph: give `graph_url`; the clouds `gcc_high`, `dod` and `china` have no message trace there"
        )
    }
}

/// Asks both services for the hours from `start` on, until there are many rows.
async fn step(
    reports: &mut ReportSide,
    graph: &GraphSide<'_>,
    (start, to): (DateTime<Utc>, DateTime<Utc>),
    progress: &Progress,
) -> Result<Step, Failure> {
    let now = Utc::now().duration_trunc(MARGIN);
    let now = now.map_err(|error| Failure::Other(error.into()))?;
    let mut step = Step::new(start);
    let mut read = start - MARGIN;
    loop {
        let hour = findings::hour(step.end()) + TimeDelta::hours(1);
        let end = hour.min(to);
        let until = (end + MARGIN).min(now.max(end));
        read_reports(reports, (read, until), &mut step, progress).await?;
        read = until;
        step.extend(end);
        if end == to || step.rows() >= STEP_ROWS || end - start >= STEP_MAX {
            break;
        }
    }
    let range = (start - MARGIN, read);
    let is_whole = graph.read(range, |page| {
        progress.came_from_graph(page.len());
        for (row, fingerprint) in page.rows().zip(page.fingerprints()) {
            step.add_there(row, fingerprint);
        }
    });
    if !is_whole.await? {
        step.doubt(format!(
            "{} to {}: Microsoft Graph has left rows out",
            findings::instant(range.0),
            findings::instant(range.1)
        ));
    }
    Ok(step)
}

/// The pages of one walk of the reporting service.
#[derive(Default)]
struct Pages(Vec<Page>);

impl Pages {
    /// All rows' fingerprints in one order.
    fn sorted(&self) -> Vec<Fingerprint> {
        let mut all: Vec<_> = self.0.iter().flat_map(Page::fingerprints).collect();
        all.sort_unstable();
        all
    }
}

impl Taken for Pages {
    fn page(&mut self, page: Page) {
        self.0.push(page);
    }

    fn is_same(&self, other: &Self) -> bool {
        self.sorted() == other.sorted()
    }
}

/// Adds the rows of the reporting service to a step.
async fn read_reports(
    reports: &mut ReportSide,
    range: (DateTime<Utc>, DateTime<Utc>),
    step: &mut Step,
    progress: &Progress,
) -> Result<(), Failure> {
    let came = |came: Came<Pages>| {
        let Came { range, taken, .. } = &came;
        if came.is_unsettled {
            step.doubt(format!(
                "{} to {}: what the reporting service shows kept changing",
                findings::instant(range.start),
                findings::instant(range.end)
            ));
        }
        for page in &taken.0 {
            progress.came_from_reports(page.len());
            for (row, fingerprint) in page.rows().zip(page.fingerprints()) {
                step.add_here(row, fingerprint, range.clone());
            }
        }
    };
    reports.read(range, |_| Pages::default(), came).await
}
