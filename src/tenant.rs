//! One input's ways to Microsoft, and its services' lives: which source a service is opened with, and what happens when that changes.
//!
//! Where Graph is asked, `looking` tells when the reporting service is back. A change of source is a stop of the service, in order, and a start from its state: so it repeats and skips as little as a restart.

mod around;
mod looking;

use std::io;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use chrono::Utc;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::{Span, warn};

pub use self::around::Ends;
pub(crate) use self::around::{Around, Opening};
use self::looking::Looking;
use crate::backoff::Backoff;
use crate::blocking::DISK;
use crate::clock::{Chance, WallClock};
use crate::config::{Input, Persistence, ServiceConfig, SourceChoice};
use crate::error;
use crate::ledger::{Ledger, LedgerError, RequestFile};
use crate::monitoring::ServiceMonitor;
use crate::report::{Origin, Report};
use crate::service::{Service, Surround, tenant_of};
use crate::source::concurrency::{Overall, Share};
use crate::source::graph::budget::{self, Budget as Charges, Stamps};
use crate::source::graph::{Retiring, Returning};
use crate::source::{Charge, Client, GraphSource, ReportSource, Source};
use crate::spread::Spread;

/// Waits before a service's state is opened again, at first and at most.
const REOPEN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// An input's ways to Microsoft's services.
pub(crate) struct Tenant {
    reports: Client,
    graph: Option<Client>,
    stamps: Arc<StampsOf>,
    charges: Arc<Charges>,
}

/// The requests of one tenant to Graph, in the state.
struct StampsOf {
    tenant: String,
    file: OnceLock<RequestFile>,
}

impl Stamps for StampsOf {
    fn charge(&self, most: u32) -> io::Result<Option<Duration>> {
        match self.file.get() {
            Some(file) => file.charge(&self.tenant, most, budget::PERIOD, Utc::now()),
            None => Err(no_folder()),
        }
    }
}

fn no_folder() -> io::Error {
    io::Error::other("state is kept in memory")
}

impl Tenant {
    /// Prepares the ways; nothing is sent yet.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub(crate) fn new(input: &Input, overall: &Overall) -> anyhow::Result<Self> {
        Tenant::with(input, overall, |charges| charges)
    }

    /// The same for a command, whose requests to Graph are noted in the state that is kept there. Its folder is not locked: a collector may be
    /// running on it.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub(crate) fn of_command(input: &Input, state: &Persistence) -> anyhow::Result<Self> {
        let tenant = Tenant::with(input, &Overall::default(), Charges::of_command)?;
        if let Persistence::Directory(folder) = state {
            tenant.keep_budget_in(&RequestFile::of(folder));
        }
        Ok(tenant)
    }

    fn with(
        input: &Input,
        overall: &Overall,
        charges: impl FnOnce(Charges) -> Charges,
    ) -> anyhow::Result<Self> {
        let stamps = Arc::new(StampsOf {
            tenant: tenant_of(&input.credentials).replace(' ', ":"),
            file: OnceLock::new(),
        });
        let most = input.graph_requests.get();
        let new = Charges::new(Arc::clone(&stamps) as Arc<dyn Stamps>, most);
        let charges = Arc::new(charges(new));
        Ok(Tenant {
            reports: Client::within(input, overall)?,
            graph: Client::graph(input, Arc::clone(&charges) as Arc<dyn Charge>, overall)?,
            stamps,
            charges,
        })
    }

    /// The way to the reporting service.
    pub(crate) fn reports(&self) -> &Client {
        &self.reports
    }

    /// The way to Microsoft Graph, where the input has one.
    pub(crate) fn graph(&self) -> Option<&Client> {
        self.graph.as_ref()
    }

    /// What the requests to Graph are charged to.
    pub(crate) fn charges(&self) -> &Charges {
        &self.charges
    }

    /// How many requests to Graph were made in the last five minutes, by all who note them. Blocks on the disk.
    ///
    /// # Errors
    /// If there is no state folder, or its file cannot be read.
    pub(crate) fn requests_to_graph(&self) -> io::Result<usize> {
        let file = self.stamps.file.get().ok_or_else(no_folder)?;
        file.made(&self.stamps.tenant, budget::PERIOD, Utc::now())
    }

    /// From here on the budget of Graph is kept in this file.
    pub(crate) fn keep_budget_in(&self, requests: &RequestFile) {
        // It is set once.
        self.stamps.file.set(requests.clone()).ok();
    }

    /// The source of a service: the one that the configuration names, or else that its state was left with, or `now`.
    fn source(
        &self,
        input: &Input,
        service: &ServiceConfig,
        ledger: &Ledger,
        switch: Switch<'_>,
    ) -> Sourced {
        let known = ledger
            .cursor()
            .map_or(Origin::default(), |cursor| cursor.source);
        let origin = match service.source {
            SourceChoice::Only(origin) => origin,
            SourceChoice::Auto => switch.now.unwrap_or(known),
        };
        let is_auto = service.source == SourceChoice::Auto;
        let fingerprinter = ledger.fingerprinter(service.report);
        let meter = || Arc::clone(switch.monitor) as Arc<dyn crate::source::Meter>;
        let report = service.report;
        let graph = self.graph.as_ref().filter(|_| report.has_two_services());
        let graph = graph.map(|client| {
            let share = client.share();
            let source = || GraphSource::new(client.clone(), input, fingerprinter.clone(), meter());
            (source, share)
        });
        let reports = || {
            let (client, by) = (self.reports.clone(), service.aggregate_by);
            ReportSource::new(client, report, by, fingerprinter.clone(), meter())
        };
        let (source, share, looks): (Arc<dyn Source>, _, _) = match (origin, graph) {
            (Origin::Graph, Some((graph, share))) => {
                let looks = is_auto.then(|| Returning::new(reports(), graph()));
                (Arc::new(graph()), share, looks)
            }
            (_, Some((graph, _))) if is_auto => {
                let takes_over = switch.takes_over.clone();
                let source = Retiring::new(reports(), graph(), service.delay, takes_over);
                (Arc::new(source), self.reports.share(), None)
            }
            _ => (Arc::new(reports()), self.reports.share(), None),
        };
        if looks.is_none() {
            forget_looks(ledger, report);
        }
        let looking = looks.map(|looks| Looking::new(looks, ledger.looks()));
        Sourced {
            source,
            share,
            looking,
        }
    }
}

/// What was counted does not count where Graph takes over anew.
fn forget_looks(ledger: &Ledger, report: &Report) {
    if report.has_two_services()
        && let Err(error) = ledger.looks().remove()
    {
        warn!(
            error = error::chain(&error),
            "on how many days the reporting service was seen to be back cannot be forgotten"
        );
    }
}

/// A service's source.
struct Sourced {
    source: Arc<dyn Source>,
    share: Share,
    /// Looks whether another is to be asked again.
    looking: Option<Looking>,
}

/// What a source is made with, so that it can be changed.
#[derive(Clone, Copy)]
struct Switch<'a> {
    /// The source to go on with, where that has been decided.
    now: Option<Origin>,
    takes_over: &'a CancellationToken,
    monitor: &'a Arc<ServiceMonitor>,
}

/// All that one service is opened with, as often as it has to be.
pub(crate) struct Running {
    pub(crate) around: Around,
    pub(crate) input: Arc<Input>,
    /// Which of the input's services it is.
    pub(crate) nth: usize,
    pub(crate) tenant: Arc<Tenant>,
    pub(crate) monitor: Arc<ServiceMonitor>,
    pub(crate) begins: Begins,
    pub(crate) stop: CancellationToken,
}

/// When a service asks for the first time, and later on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begins {
    /// Its input's place among others.
    pub(crate) spread: Spread,
    /// Others begin at the same time.
    pub(crate) with_others: bool,
}

/// What became of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lived {
    /// Its state cannot be used: it has not run.
    NotOpened,
    /// It has run to its end.
    ToTheEnd {
        /// It has left nothing that was due.
        done: bool,
    },
}

/// A service, and what tells that it has to go on with another source.
pub(crate) struct Opened {
    service: Service,
    /// Cancelled once Graph has to take over.
    takes_over: CancellationToken,
    /// Tells when the reporting service is to be asked again.
    looking: Option<Looking>,
    /// Stops this service alone.
    stop: CancellationToken,
}

impl Running {
    /// Runs the service from the opening of its state to its end.
    pub(crate) async fn live(self: Arc<Self>, ends: Ends, opening: Opening) -> Lived {
        let opened = self.opened(None).await;
        if let Err(failure) = &opened
            && !(failure.may_pass() && ends == Ends::AtTheStop)
        {
            opening.refused();
        }
        drop(opening);
        let done = match opened {
            // Large: on the heap, and not within every future around it.
            Ok(opened) => {
                self.wait_for_its_turn().await;
                Box::pin(self.run(opened, ends)).await
            }
            Err(failure) if failure.may_pass() && ends == Ends::AtTheStop => {
                self.run_later(failure).await
            }
            Err(failure) => {
                self.monitor.not_opened(&error::chain(&failure), true);
                tracing::error!(
                    input = self.input.name,
                    service = self.input.services[self.nth].report.service,
                    error = error::chain(&failure),
                    "this service does not run"
                );
                return Lived::NotOpened;
            }
        };
        Lived::ToTheEnd { done }
    }

    /// Where others begin at the same time, waits for its own place among them, or for the stop.
    async fn wait_for_its_turn(&self) {
        if self.begins.with_others {
            let wait = tokio::time::sleep(self.offset());
            self.stop.run_until_cancelled(wait).await;
        }
    }

    fn offset(&self) -> Duration {
        let period = self.input.services[self.nth].period;
        self.begins.spread.offset(period)
    }

    /// The same as [`Self::open`] beside the runtime's threads, which others need meanwhile.
    async fn opened(self: &Arc<Self>, now: Option<Origin>) -> Result<Opened, LedgerError> {
        let (running, runtime, span) = (Arc::clone(self), Handle::current(), Span::current());
        let open = move || {
            // The outputs' tasks are started there.
            let _runtime = runtime.enter();
            span.in_scope(|| running.open(now))
        };
        DISK.run(open).await
    }

    /// Opens the service's state, with the source that has been decided for, if one has.
    ///
    /// # Errors
    /// As [`Service::open`].
    fn open(&self, now: Option<Origin>) -> Result<Opened, LedgerError> {
        let Around {
            state,
            shared,
            budget,
            ..
        } = &self.around;
        let input = &*self.input;
        let service = &input.services[self.nth];
        let takes_over = CancellationToken::new();
        let stop = self.stop.child_token();
        let surround = Surround {
            budget: budget.clone(),
            wall: WallClock::default(),
            chance: Chance::default(),
            monitor: self.monitor.clone(),
            told: self.around.told.clone(),
            offset: self.offset(),
            stop: stop.clone(),
        };
        let mut looking = None;
        let source = |ledger: &Ledger| {
            let switch = Switch {
                now,
                takes_over: &takes_over,
                monitor: &self.monitor,
            };
            let sourced = self.tenant.source(input, service, ledger, switch);
            looking = sourced.looking;
            (sourced.source, sourced.share)
        };
        let outputs = (&input.outputs[..], shared);
        let service = Service::open(state, input, service, outputs, source, surround)?;
        Ok(Opened {
            service,
            takes_over,
            looking,
            stop,
        })
    }

    /// Runs a service to the end; `false` if it has left something that was due.
    async fn run(self: &Arc<Self>, mut opened: Opened, ends: Ends) -> bool {
        loop {
            let Opened {
                service,
                takes_over,
                looking,
                stop,
            } = opened;
            let is_back = async {
                match looking.filter(|_| ends == Ends::AtTheStop) {
                    Some(looking) => looking.until_back(&self.monitor).await,
                    None => std::future::pending().await,
                }
            };
            let (origin, done) = {
                let running = live(service, ends);
                tokio::pin!(running);
                let origin = tokio::select! {
                    biased;
                    done = &mut running => return done,
                    () = takes_over.cancelled() => Origin::Graph,
                    () = is_back => Origin::ReportingService,
                };
                stop.cancel();
                (origin, running.await)
            };
            if self.stop.is_cancelled() {
                return done;
            }
            match self.opened(Some(origin)).await {
                Ok(next) => opened = next,
                Err(failure) => match self.reopened(failure, Some(origin)).await {
                    Some(next) => opened = next,
                    None => return done,
                },
            }
        }
    }

    /// Runs a service once its state can be opened: what the system refuses now it may grant later.
    async fn run_later(self: &Arc<Self>, failure: LedgerError) -> bool {
        match self.reopened(failure, None).await {
            Some(opened) => Box::pin(self.run(opened, Ends::AtTheStop)).await,
            None => true,
        }
    }

    /// The service, as soon as its state can be opened; `None` if the collector stops before.
    async fn reopened(
        self: &Arc<Self>,
        mut failure: LedgerError,
        now: Option<Origin>,
    ) -> Option<Opened> {
        let mut backoff = Backoff::new(REOPEN.0, REOPEN.1);
        loop {
            let wait = backoff.next(rand::random());
            self.monitor.not_opened(&error::chain(&failure), false);
            tracing::error!(error = error::chain(&failure), retry_in = ?wait, action = failure.action(), "this service waits for its state");
            let sleep = tokio::time::sleep(wait);
            self.stop.run_until_cancelled(sleep).await?;
            match self.opened(now).await {
                Ok(opened) => return Some(opened),
                Err(again) => failure = again,
            }
        }
    }
}

async fn live(service: Service, ends: Ends) -> bool {
    match ends {
        Ends::AtTheStop => {
            service.run().await;
            true
        }
        Ends::WhenDone { patience } => Box::pin(service.run_once(patience)).await,
    }
}
