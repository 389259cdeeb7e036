//! One service: wait → walk → deliver → confirm → commit. It alone knows all parts; it alone sleeps and retries.
//!
//! Guarantees: a window is committed only when every output has confirmed all its records, and only once it has settled by the
//! service's own clock; what cannot be had is said and counted, never skipped in silence; the records of a window go through once,
//! however often it is walked. It shares nothing with other services but its input's client.

mod asking;
mod disk;
mod outlet;
mod tally;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::asking::{Answer, Asking};
use self::disk::OnDisk;
use self::outlet::{Batch, Outlet};
use self::tally::{Claims, Tally};
use crate::backoff::Backoff;
use crate::client::{Client, Page, Query};
use crate::config::{Credentials, Input, Output, ServiceConfig};
use crate::ledger::{Carried, Cursor, Ledger, LedgerError, Owner, StateDirectory};
use crate::record::{Fingerprinter, Splice};
use crate::window::{Next, Schedule, Span, Window};

/// Waiting is cut into pieces of at most this, so that a clock that is set is noticed.
const NAP: Duration = Duration::from_secs(30);

/// A walk is cut off at this many rows if its window can be made shorter: memory does not grow with the window.
const WALK_ROWS_MAX: u64 = 40_000;

/// A window whose walks do not agree is walked this often at most.
const WALKS_MAX: u32 = 5;

/// Rows appear up to a day late: the result of a younger window may shift while it is walked.
const YOUNG: TimeDelta = TimeDelta::hours(24);

/// A difference between our clock and the service's that an operator should know of.
const CLOCK_DIFFERENCE: TimeDelta = TimeDelta::minutes(5);

/// Waits between attempts to write state, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// The collector is to stop: what is not confirmed is left for the next start.
#[derive(Debug)]
pub(crate) struct Stopped;

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
    scratch: Vec<u8>,
    outlets: Vec<Outlet>,
    claims: Vec<Claims>,
    /// The furthest end of a window begun since the cursor: some records before it are confirmed.
    horizon: DateTime<Utc>,
    /// The window that the run before this one had begun.
    unfinished: Option<Window>,
    clock_differs: bool,
    stop: CancellationToken,
}

/// How a walk ended.
enum Walked {
    Whole { tally: Tally, capped: bool },
    TooMuch,
    Again,
    Aged,
}

/// What one collection of a window came to, for the log.
#[derive(Default)]
struct Figures {
    requests: u32,
    received: u64,
    delivered: u64,
}

impl Service {
    /// Opens the service's state and starts the tasks of its outputs.
    ///
    /// # Errors
    ///
    /// If its state cannot be read or begun: the service does not run then, and nothing of it is changed.
    pub fn open(
        state: &StateDirectory,
        input: &Input,
        config: &ServiceConfig,
        client: Client,
        outputs: &[Output],
        host: &str,
        stop: CancellationToken,
    ) -> Result<Self, LedgerError> {
        let report = config.report;
        let owner = Owner {
            input: &input.name,
            id: &input.id,
            service: report.service,
        };
        let names: Vec<_> = outputs.iter().map(|output| output.name.as_str()).collect();
        let mut ledger = state.ledger(owner, &names)?;
        let schedule = Schedule::new(report, config.aggregate_by, config.period, config.delay);
        let tenant = tenant_of(&input.credentials);
        let cursor = begin(&mut ledger, &schedule, config, &tenant, Utc::now())?;
        let outlets = outputs
            .iter()
            .zip(ledger.take_journals())
            .map(|(output, journal)| {
                Outlet::start(output, report.tag, host, journal, stop.clone())
            });
        let unfinished = ledger.unfinished();
        Ok(Service {
            environment: input.environment.clone(),
            tenant,
            span: schedule.first_span(report),
            asking: Asking::new(stop.clone()),
            fingerprinter: ledger.fingerprinter(),
            scratch: vec![],
            outlets: outlets.collect(),
            claims: ledger
                .take_confirmed()
                .into_iter()
                .map(Claims::from_iter)
                .collect(),
            horizon: unfinished.map_or(cursor, |window| window.end),
            unfinished,
            ledger: OnDisk::new(ledger),
            clock_differs: false,
            config: config.clone(),
            schedule,
            client,
            stop,
        })
    }

    /// Collects until the collector stops, and then confirms what is written.
    pub async fn run(mut self) {
        let cursor = self.cursor();
        let lag = self.schedule.lag(cursor, Utc::now());
        info!(%cursor, lag_hours = lag.num_hours(), "started");
        let Err(Stopped) = self.collect_for_ever().await;
        for outlet in self.outlets {
            outlet.close().await;
        }
    }

    async fn collect_for_ever(&mut self) -> Result<std::convert::Infallible, Stopped> {
        loop {
            let (cursor, now) = (self.cursor(), self.now());
            let oldest = self.schedule.oldest(now);
            if cursor < oldest {
                self.give_up_before(oldest).await?;
                continue;
            }
            let next = match self.unfinished.take() {
                Some(window) if window.end <= self.schedule.settled(now) => Next::Collect(Window {
                    start: cursor,
                    ..window
                }),
                _ => self.schedule.next(cursor, now, self.span.current()),
            };
            match next {
                Next::Wait(until) => self.wait(until - now).await?,
                Next::Collect(window) => self.collect(window).await?,
            }
        }
    }

    /// Collects one window: walks it until it is settled what its records are, then commits it.
    async fn collect(&mut self, mut window: Window) -> Result<(), Stopped> {
        let begun = std::time::Instant::now();
        let pulled = Utc::now();
        let splice = Arc::new(Splice::new(self.environment.as_deref(), pulled));
        let mut figures = Figures::default();
        let mut earlier: Option<Tally> = None;
        let mut agreed = false;
        let mut walks = 0;
        self.horizon = self.horizon.max(window.end);
        let tally = loop {
            let last = walks + 1 == WALKS_MAX;
            let trusted = earlier.as_ref().filter(|_| agreed || last);
            match self
                .walk(window, trusted, &splice, pulled, &mut figures)
                .await?
            {
                Walked::Aged => return Ok(()),
                Walked::Again => self.asking.pause_before_walking_again(window).await?,
                Walked::TooMuch => {
                    self.span.narrow(window);
                    match self.schedule.halve(window) {
                        Some(half) => (window, earlier, agreed, walks) = (half, None, false, 0),
                        None => self.asking.pause_for_an_operator().await?,
                    }
                }
                Walked::Whole { tally, capped } => {
                    if capped && let Some(half) = self.schedule.halve(window) {
                        warn!(%window, "the service cut the result off at a cap: the window is halved");
                        self.span.narrow(window);
                        (window, earlier, agreed, walks) = (half, None, false, 0);
                        continue;
                    }
                    if capped {
                        error!(%window, rows = tally.rows(),
                            "the service cut the result off at a cap and the window cannot be shorter: what is beyond the cap \
                             cannot be had from this report");
                    }
                    walks += 1;
                    let unchanged = earlier
                        .as_ref()
                        .is_some_and(|earlier| earlier.agrees_with(&tally));
                    let young = window.end > self.now() - YOUNG && tally.is_of_several_pages();
                    let all_through = !tally.has_repeats() || (unchanged && trusted.is_some());
                    if !(young || tally.has_repeats()) || (unchanged && all_through) {
                        break merged(tally, earlier);
                    }
                    if last {
                        warn!(%window, walks, "the result kept changing while it was walked; every row that was seen is delivered");
                        break merged(tally, earlier);
                    }
                    agreed = unchanged;
                    earlier = Some(tally);
                }
            }
        };
        self.asking.walked();
        self.span.walked(window, tally.rows());
        for outlet in &self.outlets {
            self.stop
                .run_until_cancelled(outlet.confirm())
                .await
                .ok_or(Stopped)??;
        }
        self.check_clock();
        if window.end > self.schedule.settled(self.now()) {
            // The clock was ahead when the window was planned: more may come, so the cursor stays.
            return Ok(());
        }
        self.commit(window.end, figures.delivered, Some(&tally))
            .await?;
        info!(
            %window,
            requests = figures.requests,
            received = figures.received,
            filtered = figures.received - figures.delivered,
            delivered = figures.delivered,
            seconds = begun.elapsed().as_secs_f32(),
            "window delivered"
        );
        Ok(())
    }

    /// Walks the window once; the next page is fetched while this one is delivered.
    async fn walk(
        &mut self,
        window: Window,
        trusted: Option<&Tally>,
        splice: &Arc<Splice>,
        pulled: DateTime<Utc>,
        figures: &mut Figures,
    ) -> Result<Walked, Stopped> {
        let report = self.config.report;
        let (first, last) = self.schedule.asked(window);
        let mut walk = self.client.walk(Query {
            report,
            first,
            last,
            aggregate_by: self.config.aggregate_by,
        });
        let mut tally = Tally::default();
        let may_halve = self.schedule.halve(window).is_some();
        let mut answer = self
            .asking
            .next(&mut walk, &self.schedule, window, may_halve)
            .await?;
        let walked = loop {
            let page = match answer {
                Answer::Page(page) => Arc::new(page),
                Answer::End => {
                    let capped =
                        walk.capped() || report.row_cap.is_some_and(|cap| tally.rows() >= cap);
                    break Walked::Whole { tally, capped };
                }
                Answer::TooMuch => break Walked::TooMuch,
                Answer::Again => break Walked::Again,
                Answer::Aged => break Walked::Aged,
            };
            self.begin_by_the_services_clock().await?;
            figures.received += page.len() as u64;
            let batches = self.sort(&page, &mut tally, trusted, splice, pulled);
            // Outputs differ only in what they had confirmed before a restart.
            figures.delivered += batches
                .iter()
                .map(|batch| batch.rows.len() as u64)
                .max()
                .unwrap_or(0);
            if may_halve && tally.rows() > WALK_ROWS_MAX {
                hand_out(&self.outlets, batches, &self.stop).await?;
                break Walked::TooMuch;
            }
            let handed = hand_out(&self.outlets, batches, &self.stop);
            let (fetched, handed) = tokio::join!(
                self.asking
                    .next(&mut walk, &self.schedule, window, may_halve),
                handed
            );
            handed?;
            answer = fetched?;
        };
        figures.requests += walk.pages();
        Ok(walked)
    }

    /// Picks the rows of a page that are new to each output.
    fn sort(
        &mut self,
        page: &Arc<Page>,
        tally: &mut Tally,
        trusted: Option<&Tally>,
        splice: &Arc<Splice>,
        pulled: DateTime<Utc>,
    ) -> Vec<Batch> {
        let mark = self.ledger.get().mark(self.horizon);
        let deleted = self.schedule.deleted(mark.window.start);
        let empty = |_: &Outlet| Batch {
            mark,
            page: page.clone(),
            rows: Vec::with_capacity(page.len()),
            splice: splice.clone(),
            pulled,
            deleted,
        };
        let mut batches: Vec<_> = self.outlets.iter().map(empty).collect();
        tally.turn_page(page.len());
        for (place, row) in page.rows().enumerate() {
            let row = crate::record::on_one_line(row);
            let fingerprint = self.fingerprinter.fingerprint(&row, &mut self.scratch);
            let certain = tally.count(fingerprint, trusted);
            for (claims, batch) in self.claims.iter_mut().zip(&mut batches) {
                if claims.claim(fingerprint, certain) {
                    batch.rows.push((place, fingerprint));
                }
            }
        }
        batches
    }

    /// Commits the cursor at `end`, with what is confirmed at or after it.
    async fn commit(
        &mut self,
        end: DateTime<Utc>,
        records: u64,
        tally: Option<&Tally>,
    ) -> Result<(), Stopped> {
        let past = end >= self.horizon;
        for claims in &mut self.claims {
            match tally {
                Some(tally) if !self.schedule.boundary_comes_twice() && !past => {
                    claims.settle(tally);
                }
                Some(tally) if self.schedule.boundary_comes_twice() && past => {
                    claims.become_those_of(tally);
                }
                _ if past => claims.clear(),
                _ => {}
            }
        }
        let Some(mut next) = self.ledger.get().cursor().cloned() else {
            return Ok(());
        };
        next.at = end;
        next.tenant.clone_from(&self.tenant);
        next.until = (!past).then_some(self.horizon);
        next.records += records;
        let claims = self.outlets.iter().zip(&self.claims);
        next.carried = claims
            .map(|(outlet, claims)| Carried {
                output: outlet.name().to_owned(),
                fingerprints: claims.fingerprints(),
            })
            .collect();
        self.horizon = self.horizon.max(end);
        self.store(next).await
    }

    /// Commits, and tries again for ever: polling pauses while state cannot be written.
    async fn store(&mut self, cursor: Cursor) -> Result<(), Stopped> {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            let next = cursor.clone();
            let Err(failure) = self.ledger.run(move |ledger| ledger.commit(next)).await else {
                return Ok(());
            };
            let wait = backoff.next(rand::random());
            error!(error = chain(&failure), retry_in = ?wait, "the cursor cannot be written; nothing is collected until it is");
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
        self.commit(oldest, 0, None).await
    }

    /// Where the service began at its own clock's word, the first answer tells whether that clock was ahead.
    async fn begin_by_the_services_clock(&mut self) -> Result<(), Stopped> {
        let Some(cursor) = self.ledger.get().cursor() else {
            return Ok(());
        };
        if cursor.generation > 1 || self.config.start_time.is_some() {
            return Ok(());
        }
        let begin = self.schedule.start(None, self.now());
        if begin < cursor.at - CLOCK_DIFFERENCE {
            let mut next = cursor.clone();
            next.at = begin;
            self.store(next).await?;
        }
        Ok(())
    }

    fn check_clock(&mut self) {
        let Some(theirs) = self.client.service_time() else {
            return;
        };
        let ours = Utc::now();
        let differs = (ours - theirs).abs() > CLOCK_DIFFERENCE;
        if differs && !self.clock_differs {
            error!(
                %ours, %theirs, minutes = (ours - theirs).num_minutes(),
                "this machine's clock differs from the reporting service's: set it (NTP); until then the earlier one is gone by"
            );
        }
        self.clock_differs = differs;
    }

    fn cursor(&self) -> DateTime<Utc> {
        self.ledger
            .get()
            .cursor()
            .map_or_else(Utc::now, |cursor| cursor.at)
    }

    /// The earlier of our clock and the service's: a clock that is ahead must not commit empty windows of the future.
    fn now(&self) -> DateTime<Utc> {
        let ours = Utc::now();
        self.client
            .service_time()
            .map_or(ours, |theirs| theirs.min(ours))
    }

    async fn wait(&self, time: TimeDelta) -> Result<(), Stopped> {
        self.sleep(time.to_std().unwrap_or_default().min(NAP)).await
    }

    async fn sleep(&self, time: Duration) -> Result<(), Stopped> {
        self.stop
            .run_until_cancelled(tokio::time::sleep(time))
            .await
            .ok_or(Stopped)
    }
}

/// Makes the first cursor, or the one after a reset, and checks that the state is this tenant's.
fn begin(
    ledger: &mut Ledger,
    schedule: &Schedule,
    config: &ServiceConfig,
    tenant: &str,
    now: DateTime<Utc>,
) -> Result<DateTime<Utc>, LedgerError> {
    let reset = config.reset_persistence_auth.clone();
    let start = schedule.start(config.start_time, now);
    if let Some(known) = ledger.cursor().cloned() {
        if reset.is_none() || reset == known.reset_persistence_auth {
            if is_another_tenant(&known.tenant, tenant) {
                let (folder, now) = (ledger.folder().to_owned(), tenant.to_owned());
                return Err(LedgerError::OtherTenant {
                    folder,
                    known: known.tenant,
                    now,
                });
            }
            return Ok(known.at);
        }
        let skipped = (start > known.at).then(|| {
            Window {
                start: known.at,
                end: start,
            }
            .to_string()
        });
        let again = (start < known.at).then(|| {
            Window {
                start,
                end: known.at,
            }
            .to_string()
        });
        warn!(
            reset_persistence_auth = reset, cursor = %known.at, %start, skipped, again,
            "the state is cleared, since reset_persistence_auth has changed"
        );
    }
    ledger.commit(Cursor::begin(start, tenant.to_owned(), reset))?;
    Ok(start)
}

/// Who the records are from. One known by its users' domain may become known by its id, when Basic is given up.
fn tenant_of(credentials: &Credentials) -> String {
    match credentials {
        Credentials::Basic { username, .. } => {
            format!(
                "domain {}",
                username
                    .rsplit_once('@')
                    .map_or(username.as_str(), |(_, domain)| domain)
            )
        }
        Credentials::Secret { tenant_id, .. } | Credentials::Certificate { tenant_id, .. } => {
            format!("id {tenant_id}")
        }
    }
}

fn is_another_tenant(known: &str, now: &str) -> bool {
    let kind = |tenant: &str| tenant.split(' ').next().map(str::to_owned);
    kind(known) == kind(now) && !known.eq_ignore_ascii_case(now)
}

fn merged(mut tally: Tally, earlier: Option<Tally>) -> Tally {
    if let Some(earlier) = earlier {
        tally.merge(&earlier);
    }
    tally
}

async fn hand_out(
    outlets: &[Outlet],
    batches: Vec<Batch>,
    stop: &CancellationToken,
) -> Result<(), Stopped> {
    let hand = async {
        for (outlet, batch) in outlets.iter().zip(batches) {
            if !batch.rows.is_empty() {
                outlet.deliver(batch).await?;
            }
        }
        Ok(())
    };
    stop.run_until_cancelled(hand).await.ok_or(Stopped)?
}

/// The whole chain of an error's causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let next = source.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = source.source();
    }
    text
}
