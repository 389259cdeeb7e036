//! What Microsoft shows now of hours that have settled, against what it showed then.
//!
//! Only sums are kept of what comes. Where another service was asked then, rows are compared by their identities.

use std::path::{Path, PathBuf};

use anyhow::Result;
use chrono::{DateTime, TimeDelta, Utc};

use super::{terms, told::instant};
use crate::command::side::{Came, Failure, GraphSide, ReportSide, Taken};
use crate::config::{Input, ServiceConfig};
use crate::ledger::{self, Account, HourOutcome, Owner, Stretch};
use crate::record::{Fingerprinter, Sums, TimeOf};
use crate::report::{Origin, Resolution};
use crate::source::Page;
use crate::source::graph::budget::UNNOTED_MAX;
use crate::tenant::Tenant;
use crate::window::Window;

/// What is so near to the end of what Microsoft keeps is not asked for.
const MARGIN: TimeDelta = TimeDelta::minutes(10);
const HOUR_SECONDS: i64 = 3_600;

/// What has come of asking again.
#[derive(Debug, Default)]
pub struct Verified {
    /// How many hours, or days of reports by day, were asked for.
    pub hours: u64,
    /// Those that are not as they were.
    pub differ: Vec<Differs>,
    /// What could not be asked for, and why.
    pub missing: Vec<String>,
}

/// An hour that is not as it was.
#[derive(Debug)]
pub struct Differs {
    /// The hour.
    pub window: Window,
    /// How many rows there were when it settled.
    pub then: u64,
    /// How many there are now.
    pub now: u64,
}

impl Verified {
    /// Whether all that could be asked for is as it was.
    pub fn is_same(&self) -> bool {
        self.differ.is_empty() && self.missing.is_empty()
    }
}

/// Asks Microsoft's services for one input.
pub(super) struct Verifier<'a> {
    input: &'a Input,
    tenant: Tenant,
    folder: PathBuf,
    now: DateTime<Utc>,
}

impl<'a> Verifier<'a> {
    pub(super) fn new(input: &'a Input, tenant: Tenant, folder: &Path, now: DateTime<Utc>) -> Self {
        Verifier {
            input,
            tenant,
            folder: folder.to_owned(),
            now,
        }
    }

    /// Asks again for what the audit has of the range, and is still within reach.
    pub(super) async fn verify(
        &self,
        service: &ServiceConfig,
        account: &Account,
        range: Window,
    ) -> Result<Verified> {
        let mut verified = Verified::default();
        let owner = Owner {
            input: &self.input.name,
            id: &self.input.id,
            service: service.report.service,
        };
        let Some(fingerprinter) = ledger::fingerprinter(&self.folder, owner, service.report)?
        else {
            return Ok(verified);
        };
        let reach = TimeDelta::from_std(terms(service, account.source).reach).unwrap_or_default();
        let oldest = self.now - reach + MARGIN;
        let mut side = Side::new(self, service, account.source, fingerprinter);
        let settled = account.stretches.iter().filter(|stretch| {
            // Rows at the end of one that does not end an hour may be in it.
            let is_whole = stretch.end.timestamp() % HOUR_SECONDS == 0;
            let was_collected = !matches!(
                stretch.outcome,
                HourOutcome::NeverCollected | HourOutcome::Unreachable
            );
            stretch.window().overlaps(range) && is_whole && was_collected
        });
        for stretch in settled.filter(|stretch| stretch.start >= oldest) {
            match side.sums(stretch.window()).await {
                Ok((sums, is_whole)) => {
                    verified.hours += 1;
                    if !is_whole {
                        verified.missing.push(format!(
                            "{}: what the service shows kept changing, or rows were left out",
                            stretch.window()
                        ));
                    } else if !is_same(stretch, sums, account.source) {
                        verified.differ.push(Differs {
                            window: stretch.window(),
                            then: stretch.shown.rows,
                            now: sums.rows,
                        });
                    }
                }
                Err(Failure::BudgetSpent) => {
                    verified.missing.push(format!(
                        "from {} on: more than {UNNOTED_MAX} requests to Microsoft Graph would be needed, and no more are made that cannot be \
                         noted in the state",
                        instant(stretch.start)
                    ));
                    break;
                }
                Err(Failure::Other(error)) => {
                    return Err(error.context("what has settled cannot be verified"));
                }
            }
        }
        Ok(verified)
    }
}

/// Whether an hour is as it was when it settled, by what `source` tells now.
fn is_same(stretch: &Stretch, now: Sums, source: Origin) -> bool {
    let then = stretch.shown;
    if stretch.source == source {
        then == now
    } else {
        (then.rows, then.identities) == (now.rows, now.identities)
    }
}

/// The service that is asked for one report.
enum Side<'a> {
    Reports(Box<ReportSide>, Option<TimeOf>),
    Graph(Box<GraphSide<'a>>, Option<TimeOf>),
}

impl<'a> Side<'a> {
    fn new(
        verifier: &'a Verifier<'_>,
        service: &ServiceConfig,
        source: Origin,
        fingerprinter: Fingerprinter,
    ) -> Self {
        let tenant = &verifier.tenant;
        // Whole hours and days are asked for as such.
        let by_instant = terms(service, source).resolution == Resolution::Instant;
        let time = service.report.times.first().filter(|_| by_instant);
        let time = time.map(|name| TimeOf::new(name));
        if let Some(graph) = tenant.graph().filter(|_| source == Origin::Graph) {
            let side = GraphSide::new(graph, verifier.input, fingerprinter, tenant.charges());
            Side::Graph(Box::new(side), time)
        } else {
            let by = service.aggregate_by;
            let side = ReportSide::new(tenant.reports(), service.report, by, fingerprinter);
            Side::Reports(Box::new(side), time)
        }
    }

    /// What is shown of a window, and whether that can be relied on.
    async fn sums(&mut self, window: Window) -> Result<(Sums, bool), Failure> {
        let range = (window.start, window.end);
        match self {
            Side::Graph(graph, time) => {
                let mut of = OfWindow::new(window, time.as_ref());
                let is_whole = graph.read(range, |page| of.page(page)).await?;
                Ok((of.sums, is_whole))
            }
            Side::Reports(reports, time) => {
                let (mut sums, mut is_whole) = (Sums::default(), true);
                let time = time.as_ref();
                let begin = |part: &std::ops::Range<_>| {
                    let part = Window {
                        start: part.start,
                        end: part.end,
                    };
                    OfWindow::new(part, time)
                };
                let came = |came: Came<OfWindow<'_>>| {
                    sums.add_all(&came.taken.sums);
                    is_whole &= !came.is_unsettled;
                };
                reports.read(range, begin, came).await?;
                Ok((sums, is_whole))
            }
        }
    }
}

/// The sums of the rows of a window, by their own time.
struct OfWindow<'t> {
    window: Window,
    time: Option<&'t TimeOf>,
    sums: Sums,
}

impl<'t> OfWindow<'t> {
    fn new(window: Window, time: Option<&'t TimeOf>) -> Self {
        OfWindow {
            window,
            time,
            sums: Sums::default(),
        }
    }
}

impl Taken for OfWindow<'_> {
    fn page(&mut self, page: Page) {
        for (row, fingerprint) in page.rows().zip(page.fingerprints()) {
            let time = self.time.and_then(|time| time.instant(row));
            let within = |time| self.window.start <= time && time < self.window.end;
            if time.is_none_or(within) {
                self.sums.add(fingerprint);
            }
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        self.sums == other.sums
    }
}
