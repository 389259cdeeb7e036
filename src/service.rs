//! One service: wait → walk → deliver → confirm → commit. It alone knows all parts; it alone sleeps and retries.
//!
//! Guarantees: a window is committed only when every output has confirmed all its records, and only once it has settled by the
//! service's own clock; what cannot be had is said and counted, never skipped in silence; the records of a window go through once,
//! however often it is walked. It shares nothing with other services but its input's client.

mod clock;
mod fetch;
mod once;
mod start;
mod walk;

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::clock::Clock;
use self::fetch::Asking;
use self::start::begin;
pub(crate) use self::start::{is_another_tenant, tenant_of};
use self::walk::{Pull, Walked};
use crate::backoff::Backoff;
use crate::config::{Input, Output, ServiceConfig};
use crate::dedup::{Accounts, Agreement, Tally, Verdict, WALKS_MAX};
use crate::delivery::{Next as Then, Outlet};
use crate::error::chain;
use crate::ledger::{Carried, Cursor, Ledger, LedgerError, OnDisk, Owner, StateDirectory};
use crate::memory;
use crate::monitoring::ServiceMonitor;
use crate::record::Fingerprinter;
use crate::relay::Host;
use crate::source::{Client, Walk};
use crate::stop::{Progress, Stopped};
use crate::window::{Next, Schedule, Span, Window};

/// Waiting is cut into pieces of at most this, so that a clock that is set, ours or the service's, is noticed.
const NAP: Duration = Duration::from_secs(30);

/// Rows appear up to a day late: the result of a younger window may shift while it is walked.
const YOUNG: TimeDelta = TimeDelta::hours(24);

/// A page that was asked for ahead is not used if it has waited for so long: rows may have come meanwhile.
const AHEAD_MAX: TimeDelta = TimeDelta::seconds(10);

/// Waits between attempts to write state, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// The window that comes next, and a walk of it whose first page is on its way.
struct Ahead {
    window: Window,
    walk: Walk,
    asked: Instant,
}

impl Ahead {
    fn is_for(&self, window: Window) -> bool {
        let age = TimeDelta::from_std(self.asked.elapsed());
        self.window == window && age.is_ok_and(|age| age <= AHEAD_MAX)
    }
}

/// One report of one tenant, collected until the collector stops.
pub struct Service {
    config: ServiceConfig,
    environment: Option<String>,
    tenant: String,
    schedule: Schedule,
    span: Span,
    client: Client,
    asking: Asking,
    ledger: OnDisk<Ledger>,
    fingerprinter: Fingerprinter,
    outlets: Vec<Outlet>,
    accounts: Accounts,
    clock: Clock,
    /// The service has answered, and its clock is known if it tells it.
    heard: bool,
    ahead: Option<Ahead>,
    /// Something was collected since there was last nothing to do.
    collected: bool,
    monitor: Arc<ServiceMonitor>,
    stop: CancellationToken,
}

impl Service {
    /// Opens the service's state and starts the tasks of its outputs.
    ///
    /// # Errors
    ///
    /// If its state cannot be read or begun: the service does not run then, and nothing of it is changed.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is of another origin, and there is one caller"
    )]
    pub fn open(
        state: &StateDirectory,
        input: &Input,
        config: &ServiceConfig,
        client: Client,
        outputs: &[Output],
        host: &Host,
        monitor: Arc<ServiceMonitor>,
        stop: CancellationToken,
    ) -> Result<Self, LedgerError> {
        let report = config.report;
        let owner = Owner {
            input: &input.name,
            id: &input.id,
            service: report.service,
        };
        let names: Vec<_> = outputs.iter().map(|output| output.name.as_str()).collect();
        let original = state.original()?;
        let mut ledger = state.ledger(owner, &names)?;
        let schedule = config.schedule();
        let tenant = tenant_of(&input.credentials);
        let cursor = begin(
            &mut ledger,
            &schedule,
            config,
            &tenant,
            original,
            Utc::now(),
        )?;
        monitor.opened(cursor);
        let progress = Progress::default();
        let outlets = outputs
            .iter()
            .zip(ledger.take_journals())
            .zip(monitor.outlets())
            .map(|((output, journal), monitor)| {
                let monitor = Arc::clone(monitor);
                let (stop, progress) = (stop.clone(), progress.clone());
                Outlet::start(output, report.tag, host, journal, monitor, stop, progress)
            });
        let unfinished = ledger.unfinished();
        let clock = Clock::new(client.clone());
        Ok(Service {
            environment: input.environment.clone(),
            tenant,
            span: schedule.first_span(report),
            fingerprinter: ledger.fingerprinter(),
            outlets: outlets.collect(),
            asking: Asking::new(clock.clone(), Arc::clone(&monitor), stop.clone(), progress),
            accounts: Accounts::open(ledger.take_confirmed(), unfinished, cursor),
            ledger: OnDisk::new(ledger),
            clock,
            heard: false,
            ahead: None,
            collected: false,
            config: config.clone(),
            schedule,
            client,
            monitor,
            stop,
        })
    }

    /// Collects until the collector stops, and then confirms what is written.
    pub async fn run(mut self) {
        self.say_where_it_starts();
        // It returns at the stop only.
        self.collect_what_comes().await.ok();
        self.close().await;
    }

    fn say_where_it_starts(&self) {
        let cursor = self.cursor();
        let lag = self.schedule.lag(cursor, Utc::now());
        info!(%cursor, lag_hours = lag.num_hours(), "started");
    }

    /// What is written is confirmed.
    async fn close(self) {
        for outlet in self.outlets {
            outlet.close().await;
        }
    }

    /// Collects until the collector stops; where the clock is held, until everything that is due by it is committed.
    async fn collect_what_comes(&mut self) -> Result<(), Stopped> {
        loop {
            let (cursor, now) = (self.cursor(), self.clock.now());
            let oldest = self.schedule.oldest(self.clock.theirs());
            if cursor < oldest && self.heard {
                self.give_up_before(oldest).await?;
                continue;
            }
            if cursor < oldest {
                // By our clock's word only: the service's answer to anything tells its own, and this is not committed.
                self.collect(self.schedule.shortest(oldest)).await?;
                continue;
            }
            let next = match &self.ahead {
                Some(ahead) if ahead.window.start == cursor => Next::Collect(ahead.window),
                _ => self.plan(cursor, now),
            };
            match next {
                Next::Wait(_) if self.clock.is_held() => return Ok(()),
                Next::Wait(until) => {
                    self.monitor.waits();
                    if std::mem::take(&mut self.collected) {
                        memory::give_back();
                    }
                    self.wait(until - now).await?;
                }
                Next::Collect(window) => {
                    self.collected = true;
                    self.collect(window).await?;
                }
            }
        }
    }

    /// Collects one window: walks it until it is settled what its records are, then commits it.
    async fn collect(&mut self, mut window: Window) -> Result<(), Stopped> {
        let mut pull = Pull::begin(self.environment.as_deref(), Utc::now());
        let mut agreement = Agreement::default();
        self.accounts.begin(window);
        self.monitor.collects(window);
        let tally = loop {
            // By its beginning: a walk may take hours where the service or a relay is away.
            let young = window.end > self.clock.now() - YOUNG - AHEAD_MAX;
            pull.again = agreement.is_begun();
            let tally = match self.walk(window, agreement.certainty(), &mut pull).await? {
                Walked::Aged => return Ok(()),
                Walked::Again => {
                    self.asking.pause_before_walking_again(window).await?;
                    continue;
                }
                Walked::TooMuch => {
                    self.span.narrow(window);
                    if let Some(half) = self.schedule.halve(window) {
                        (window, agreement) = (half, Agreement::default());
                    }
                    continue;
                }
                Walked::Capped(tally) => {
                    self.monitor.capped();
                    error!(%window, rows = tally.rows(),
                        "the service cut the result off at a cap and the window cannot be shorter: what is beyond the cap cannot be had \
                         from this report");
                    tally
                }
                Walked::Whole(tally) => tally,
            };
            match agreement.take(tally, young) {
                Verdict::WalkAgain => {}
                Verdict::Settled(tally) => break tally,
                Verdict::Unsettled(tally) => {
                    warn!(%window, walks = WALKS_MAX,
                        "the result kept changing while it was walked; every row that was seen is delivered");
                    break tally;
                }
            }
        };
        self.asking.walked();
        self.span.walked(window, tally.rows());
        self.look_ahead(window);
        self.confirm().await?;
        self.clock.compare();
        let settled = window.end <= self.schedule.settled(self.clock.now());
        let reached = self.schedule.deleted(window.start) >= self.clock.theirs();
        if !settled || !reached || window.start > self.cursor() {
            // A clock was wrong when the window was planned: more may come, or what is too old came as an empty result. The cursor stays.
            return Ok(());
        }
        self.commit(window.end, pull.delivered, Some(&tally))
            .await?;
        self.monitor.committed();
        pull.log(window);
        Ok(())
    }

    /// The next step from `cursor` at the time `now`.
    fn plan(&mut self, cursor: DateTime<Utc>, now: DateTime<Utc>) -> Next {
        let span = self.span.current();
        self.accounts.next(&self.schedule, cursor, now, span)
    }

    /// Asks for the first page of what comes behind `window`, if that is due: it comes while the window is confirmed and committed.
    fn look_ahead(&mut self, window: Window) {
        let within_reach = self.schedule.deleted(window.end) >= self.clock.theirs();
        // In this order: to plan takes the window that was left unfinished out of the accounts.
        if window.start <= self.cursor()
            && within_reach
            && let Next::Collect(next) = self.plan(window.end, self.clock.now())
        {
            let mut walk = self.ask(next);
            walk.begin();
            self.ahead = Some(Ahead {
                window: next,
                walk,
                asked: Instant::now(),
            });
        }
    }

    /// Waits until every output has confirmed all that it was given.
    async fn confirm(&self) -> Result<(), Stopped> {
        let next = match self.ahead {
            Some(_) => Then::More,
            None => Then::Nothing,
        };
        for outlet in &self.outlets {
            let confirmed = self.stop.run_until_cancelled(outlet.confirm(next)).await;
            confirmed.ok_or(Stopped)??;
        }
        Ok(())
    }

    /// Commits the cursor at `end`, with what is confirmed at or after it.
    async fn commit(
        &mut self,
        end: DateTime<Utc>,
        records: u64,
        tally: Option<&Tally>,
    ) -> Result<(), Stopped> {
        let twice = self.schedule.boundary_comes_twice();
        let until = self.accounts.settle(end, tally, twice);
        let Some(mut next) = self.ledger.get().cursor().cloned() else {
            return Ok(());
        };
        next.at = end;
        next.by_our_clock = false;
        next.tenant.clone_from(&self.tenant);
        next.until = until;
        next.records = next.records.saturating_add(records);
        let claims = self.outlets.iter().zip(self.accounts.fingerprints());
        next.carried = claims
            .map(|(outlet, fingerprints)| Carried {
                output: outlet.name().to_owned(),
                fingerprints,
            })
            .collect();
        self.store(next).await
    }

    /// Commits, and tries again for ever: polling pauses while state cannot be written.
    async fn store(&mut self, cursor: Cursor) -> Result<(), Stopped> {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            let next = cursor.clone();
            let Err(failure) = self.ledger.run(move |ledger| ledger.commit(next)).await else {
                self.monitor.moved(cursor.at);
                return Ok(());
            };
            self.monitor.not_written(&chain(&failure));
            let wait = backoff.next(rand::random());
            error!(error = chain(&failure), retry_in = ?wait, action = failure.action(), "the cursor cannot be written; nothing is collected until it is");
            self.sleep(wait).await?;
        }
    }

    /// Says what has passed out of reach, and goes on from what has not.
    async fn give_up_before(&mut self, oldest: DateTime<Utc>) -> Result<(), Stopped> {
        let cursor = self.cursor();
        error!(
            unreachable = %Window { start: cursor, end: oldest },
            hours = (oldest - cursor).num_hours(),
            reach_days = self.config.report.reach.as_secs() / 86_400,
            "records older than Microsoft keeps cannot be had from this report any more; collecting goes on after them"
        );
        // What is claimed is committed as confirmed, also if the window was given up half-way.
        self.confirm().await?;
        self.commit(oldest, 0, None).await?;
        self.monitor.gave_up(oldest - cursor);
        Ok(())
    }

    /// Where the service began at its own clock's word, the first answer tells whether that clock was ahead.
    async fn begin_by_the_services_clock(&mut self) -> Result<(), Stopped> {
        let Some(cursor) = self.ledger.get().cursor() else {
            return Ok(());
        };
        if !cursor.by_our_clock || !self.accounts.are_empty() {
            return Ok(());
        }
        let begin = self.schedule.start(None, self.clock.now());
        if begin < cursor.at {
            let mut next = cursor.clone();
            next.at = begin;
            self.store(next).await?;
        }
        Ok(())
    }

    fn cursor(&self) -> DateTime<Utc> {
        self.ledger
            .get()
            .cursor()
            .map_or_else(Utc::now, |cursor| cursor.at)
    }

    /// Waits for so long at most, since either clock may be set meanwhile.
    async fn wait(&mut self, time: TimeDelta) -> Result<(), Stopped> {
        self.sleep(time.to_std().unwrap_or_default().min(NAP))
            .await?;
        if self.clock.is_in_doubt(NAP) {
            self.hear_again().await?;
        }
        Ok(())
    }

    /// Asks for the last second that is committed and leaves what comes: only an answer tells the service's clock, and no window is due
    /// by the one that it told before.
    async fn hear_again(&mut self) -> Result<(), Stopped> {
        let window = self
            .schedule
            .shortest(self.cursor() - TimeDelta::seconds(1));
        let mut walk = self.ask(window);
        let heard = self.stop.run_until_cancelled(walk.next()).await;
        if let Err(error) = heard.ok_or(Stopped)? {
            warn!(
                error = chain(&error),
                "the reporting service's clock could not be asked for; nothing is lost, it is tried again"
            );
        }
        self.clock.compare();
        Ok(())
    }

    async fn sleep(&self, time: Duration) -> Result<(), Stopped> {
        self.stop
            .run_until_cancelled(tokio::time::sleep(time))
            .await
            .ok_or(Stopped)
    }
}

#[cfg(test)]
mod model;
