//! The cursor of a service, and the windows that are handed over but not committed.
//!
//! One commit moves the cursor over all windows that every output has confirmed, with what became of them. So commits do not grow with
//! the number of windows.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

use super::handover::UpTo;
use super::stating::Stating;
use crate::backoff::Backoff;
use crate::clock::Chance;
use crate::dedup::Finished;
use crate::error::chain;
use crate::ledger::{
    Commit, Cursor, Entry, Found, Ledger, LedgerError, Mark, OnDisk, Outcome, Passed, Stretch,
};
use crate::monitoring::ServiceMonitor;
use crate::stop::Stopped;
use crate::window::Window;

/// Waits between attempts to write state, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// So many windows may be handed over without being committed.
const HANDED_MAX: usize = 256;

/// A window whose records are handed over.
pub(super) struct Handed {
    pub(super) passed: Passed,
    /// The rows that may come again with the next window.
    pub(super) boundary: Vec<crate::record::Fingerprint>,
    pub(super) up_to: UpTo,
    /// The memory that its pages took.
    pub(super) bytes: usize,
    pub(super) requests: u64,
    pub(super) received: u64,
}

impl Handed {
    pub(super) fn new(window: Window, outcome: Outcome, finished: Finished, up_to: UpTo) -> Self {
        let mut entry = Entry::new(window, outcome, finished.records);
        entry.vanished = finished.vanished;
        Handed {
            passed: Passed {
                entry,
                beyond: finished.beyond,
                shown: finished.shown,
                found: Found::default(),
            },
            boundary: finished.boundary,
            up_to,
            bytes: 0,
            requests: 0,
            received: 0,
        }
    }

    /// What became of it.
    pub(super) fn entry(&self) -> &Entry {
        &self.passed.entry
    }
}

/// The cursor, and what is handed over beyond it.
pub(super) struct Books {
    ledger: OnDisk<Ledger>,
    handed: VecDeque<Handed>,
    /// When the last commit was, by which the speed is told.
    since: Instant,
    /// The delay of an early pass.
    pass: Option<Duration>,
    /// Where what hours came to is stated.
    stating: Option<Stating>,
    chance: Chance,
    monitor: Arc<ServiceMonitor>,
    stop: CancellationToken,
}

impl Books {
    pub(super) fn new(
        ledger: Ledger,
        chance: Chance,
        monitor: Arc<ServiceMonitor>,
        stop: CancellationToken,
    ) -> Self {
        Books {
            ledger: OnDisk::new(ledger),
            handed: VecDeque::new(),
            since: Instant::now(),
            pass: None,
            stating: None,
            chance,
            monitor,
            stop,
        }
    }

    /// The same for an early pass of this delay, whose cursor is its frontier.
    pub(super) fn of_pass(self, delay: Duration) -> Self {
        Books {
            pass: Some(delay),
            ..self
        }
    }

    /// The same, where what hours came to is stated.
    pub(super) fn stating(self, stating: Option<Stating>) -> Self {
        Books { stating, ..self }
    }

    /// States what hours have come to; while there is more to collect (`is_idle` is false), only now and then.
    pub(super) async fn state(&mut self, is_idle: bool) {
        let Some(stating) = &mut self.stating else {
            return;
        };
        let Some((since, settled)) = self.ledger.get().audited() else {
            return;
        };
        if let Some(after) = stating.due(settled, is_idle) {
            let day_before = after - TimeDelta::days(1);
            let read = move |ledger: &mut Ledger| ledger.settled_after(day_before);
            let lines = self.ledger.run(read).await;
            stating.state(&lines, after, since);
        }
    }

    /// The delay of an early pass, in seconds.
    pub(super) fn delay(&self) -> Option<u64> {
        self.pass.map(|delay| delay.as_secs())
    }

    pub(super) fn ledger(&self) -> &Ledger {
        self.ledger.get()
    }

    /// From the beginning of the first to the end of the last window that is handed over and not committed.
    pub(super) fn handed(&self) -> Option<Window> {
        let (first, last) = (self.handed.front()?, self.handed.back()?);
        Some(first.entry().window().hull(last.entry().window()))
    }

    /// The cursor. A service has begun before it has books.
    pub(super) fn cursor(&self) -> &Cursor {
        #[expect(clippy::expect_used, reason = "`start::begin` has written one")]
        self.ledger.get().cursor().expect("a service has a cursor")
    }

    pub(super) fn mark(&self) -> Mark {
        self.cursor().mark()
    }

    /// The end of the last window that was handed over.
    pub(super) fn position(&self) -> DateTime<Utc> {
        let last = self.handed.back();
        last.map_or(self.cursor().at, |handed| handed.entry().end)
    }

    /// Whether something is handed over and not committed.
    pub(super) fn is_behind(&self) -> bool {
        !self.handed.is_empty()
    }

    /// Whether so much is not committed that nothing more is to be handed over before it is. `most` is a bound on the memory of pages.
    pub(super) fn is_full(&self, most: usize) -> bool {
        let bytes: usize = self.handed.iter().map(|handed| handed.bytes).sum();
        bytes >= most || self.handed.len() >= HANDED_MAX
    }

    /// Notes a window whose records are handed over.
    pub(super) fn hand_over(&mut self, handed: Handed) {
        if self.handed.is_empty() {
            // What passed until now was waiting.
            self.since = Instant::now();
        }
        self.handed.push_back(handed);
    }

    /// Forgets what is handed over and not committed: it is fetched again.
    pub(super) fn forget(&mut self) {
        self.handed.clear();
    }

    /// Commits the windows at the beginning that `confirmed` is true of, at the time `now`. Returns whether there were any.
    pub(super) async fn commit(
        &mut self,
        confirmed: impl Fn(&UpTo) -> bool,
        now: DateTime<Utc>,
    ) -> Result<bool, Stopped> {
        let count = { self.handed.iter() }
            .take_while(|handed| confirmed(&handed.up_to))
            .count();
        let Some(last) = count.checked_sub(1).and_then(|at| self.handed.get(at)) else {
            return Ok(false);
        };
        let (at, boundary) = (last.entry().end, last.boundary.clone());
        let done: Vec<Handed> = self.handed.drain(..count).collect();
        let passed = done.iter().map(|handed| handed.passed.clone()).collect();
        self.store(at, passed, boundary, now).await?;
        self.tell(&done);
        Ok(true)
    }

    /// Moves the cursor over what cannot be had.
    pub(super) async fn pass_over(
        &mut self,
        entry: Entry,
        now: DateTime<Utc>,
    ) -> Result<(), Stopped> {
        self.store(entry.end, vec![entry.into()], vec![], now).await
    }

    /// Moves the frontier of an early pass to `at`, where nothing is handed over.
    pub(super) async fn go_on_from(
        &mut self,
        at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<(), Stopped> {
        let boundary = vec![];
        let cursor = self.cursor().clone();
        self.begin(
            Cursor {
                at,
                boundary,
                ..cursor
            },
            now,
        )
        .await
    }

    /// Moves the cursor back to an earlier beginning, before anything is collected.
    pub(super) async fn begin_earlier(
        &mut self,
        at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<(), Stopped> {
        let cursor = self.cursor().clone();
        self.begin(Cursor { at, ..cursor }, now).await
    }

    async fn begin(&mut self, cursor: Cursor, now: DateTime<Utc>) -> Result<(), Stopped> {
        let at = cursor.at;
        self.write(move |ledger| ledger.begin(cursor.clone(), now))
            .await?;
        self.monitor.moved(at);
        Ok(())
    }

    async fn store(
        &mut self,
        at: DateTime<Utc>,
        passed: Vec<Passed>,
        boundary: Vec<crate::record::Fingerprint>,
        settled: DateTime<Utc>,
    ) -> Result<(), Stopped> {
        let told = self.stating.as_ref().and_then(Stating::told);
        let write = move |ledger: &mut Ledger| {
            ledger.commit(Commit {
                told,
                at,
                passed: passed.clone(),
                settled,
                boundary: boundary.clone(),
            })
        };
        let settled: Vec<Stretch> = self.write(write).await?;
        self.monitor.moved(at);
        self.monitor.hours_settled(&settled);
        Ok(())
    }

    /// Writes, and retries until it has worked: nothing is handed over while state cannot be written.
    async fn write<T: Send + 'static>(
        &mut self,
        write: impl Fn(&mut Ledger) -> Result<T, LedgerError> + Clone + Send + 'static,
    ) -> Result<T, Stopped> {
        let mut backoff = Books::backoff();
        loop {
            let failure = match self.ledger.run(write.clone()).await {
                Ok(written) => return Ok(written),
                Err(failure) => failure,
            };
            let told = "the cursor cannot be written; nothing is collected until it is";
            self.wait_after(&failure, told, &mut backoff).await?;
        }
    }

    /// The waits between attempts to write state.
    pub(super) fn backoff() -> Backoff {
        Backoff::new(RETRY.0, RETRY.1)
    }

    /// Tells that state could not be written, and waits until the next attempt.
    pub(super) async fn wait_after(
        &self,
        failure: &LedgerError,
        told: &'static str,
        backoff: &mut Backoff,
    ) -> Result<(), Stopped> {
        self.monitor.not_written(&chain(failure));
        let wait = backoff.next(self.chance.share());
        error!(error = chain(failure), retry_in = ?wait, action = failure.action(), "{told}");
        let sleep = tokio::time::sleep(wait);
        self.stop.run_until_cancelled(sleep).await.ok_or(Stopped)
    }

    /// Tells what became of the windows that a commit has passed.
    fn tell(&mut self, done: &[Handed]) {
        let mut windows = done.iter().map(|handed| handed.entry().window());
        let Some(first) = windows.next() else {
            return;
        };
        let window = windows.fold(first, |one, other| one.hull(other));
        let sum = |of: fn(&Handed) -> u64| done.iter().map(of).sum::<u64>();
        let (received, delivered) = (sum(|one| one.received), sum(|one| one.entry().records));
        let seconds = self.since.elapsed().as_secs_f64();
        self.since = Instant::now();
        for handed in done {
            self.monitor.settled(handed.entry());
        }
        if let Some(pass) = self.pass {
            let delay_seconds = pass.as_secs();
            debug!(%window, delay_seconds, windows = done.len(), received, delivered, "window delivered early");
            return;
        }
        info!(
            %window,
            windows = done.len(),
            requests = sum(|one| one.requests),
            received,
            filtered = received.saturating_sub(delivered),
            delivered,
            vanished = Some(sum(|one| one.entry().vanished)).filter(|vanished| *vanished > 0),
            seconds = format_args!("{seconds:.3}"),
            per_second = format_args!("{:.1}", rate(delivered, seconds)),
            "window delivered"
        );
    }
}

/// So many a second; 0 where there was no time.
#[expect(
    clippy::cast_precision_loss,
    reason = "an average that is off by a billionth will do"
)]
fn rate(records: u64, seconds: f64) -> f64 {
    if seconds > 0.0 {
        records as f64 / seconds
    } else {
        0.0
    }
}
