//! Fetches a page, and retries until there is one or the window has to be treated differently: the only place that waits on a source's
//! errors.
//!
//! A failed request is retried by itself, and its walk stays where it is. Only what a shorter window can cure shortens it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::clock::Clock;
use crate::backoff::Backoff;
use crate::clock::Chance;
use crate::error::chain;
use crate::monitoring::ServiceMonitor;
use crate::source::concurrency::InFlight;
use crate::source::{FetchError, Kind, Page, Pages, Remedy};
use crate::stop::{Progress, Stopped};
use crate::window::{Schedule, Window};

/// Waits after an error that may pass, at first and at most.
const TRANSIENT: (Duration, Duration) = (Duration::from_millis(400), Duration::from_mins(5));

/// So many failures in a row are waited for alike: where a share of all requests fails, two in a row are nothing unusual.
const FAILURES_BEFORE_GROWTH: u32 = 2;

/// A request for which there is no place is looked at again after so long.
const PLACE_PAUSE: Duration = Duration::from_millis(50);

/// Waits between tries of what only a person can mend, at first and at most.
const REFUSED: (Duration, Duration) = (Duration::from_secs(10), Duration::from_mins(15));

/// After so many failures in a row of one page, while other pages came, the window is shortened: something in it may be too much.
const FAILURES_BEFORE_SHORTER: u32 = 10;

/// After so many time-outs in a row the window is shortened: the service computes for longer than anything on the way waits.
const TIMEOUTS_BEFORE_SHORTER: u32 = 3;

/// After so many failures in a row an operator is told: a retired report may fail for good.
const FAILURES_BEFORE_ERROR: u32 = 8;

/// Bytes that cannot be read as rows are passed when they have come so often, over so long.
const UNREADABLE_TIMES: u32 = 3;
const UNREADABLE_TIME: TimeDelta = TimeDelta::minutes(30);

/// What came of fetching.
pub(super) enum Fetched {
    /// The next page.
    Page(Page),
    /// The walk is at its end.
    End,
    /// The window has to be shorter.
    TooMuch,
    /// The walk has to begin again.
    WalkAgain,
    /// For half an hour the page has been the same bytes, which cannot be read as rows.
    Withheld,
    /// The window has passed out of reach.
    Aged,
}

/// Fetches the pages of one service. Clones share what is known of its failures.
#[derive(Clone)]
pub(super) struct PageFetcher {
    shared: Arc<Shared>,
    pub(super) schedule: Schedule,
    clock: Clock,
    chance: Chance,
    monitor: Arc<ServiceMonitor>,
    stop: CancellationToken,
    progress: Progress,
}

#[derive(Default)]
struct Shared {
    /// Pages that came.
    pages: AtomicU64,
    /// What only a person can mend ends the service, since the next run will try again.
    fail_on_refusal: AtomicBool,
    /// Walks in a row that did not come to their end.
    broken_walks: AtomicU64,
    told: Mutex<Told>,
}

/// What an operator has been told.
#[derive(Default)]
struct Told {
    /// The refusal's advice.
    refusal: Option<String>,
    /// That fetching keeps failing.
    failing: bool,
}

/// The failures of one page.
struct Failures {
    transient: Backoff,
    refused: Backoff,
    in_a_row: u32,
    timeouts: u32,
    /// The pages that had come when the first failure did.
    pages: u64,
    /// Bytes that cannot be read as rows: what they are known by, since when they have come, and how often.
    unreadable: Option<(u64, DateTime<Utc>, u32)>,
}

impl Failures {
    /// Whether the same bytes have come so often, over so long, that others will not come.
    fn keeps_unreadable(&mut self, failure: &FetchError, now: DateTime<Utc>) -> bool {
        let Some(digest) = failure.digest() else {
            return false;
        };
        let (_, since, times) = match self.unreadable {
            Some((known, since, times)) if known == digest => (digest, since, times + 1),
            _ => (digest, now, 1),
        };
        self.unreadable = Some((digest, since, times));
        times >= UNREADABLE_TIMES && now - since >= UNREADABLE_TIME
    }
}

impl PageFetcher {
    pub(super) fn new(
        schedule: Schedule,
        clock: Clock,
        chance: Chance,
        monitor: Arc<ServiceMonitor>,
        stop: CancellationToken,
        progress: Progress,
    ) -> Self {
        PageFetcher {
            shared: Arc::default(),
            schedule,
            clock,
            chance,
            monitor,
            stop,
            progress,
        }
    }

    /// The same for an early pass, which tells an operator nothing twice.
    pub(super) fn of_pass(&self, schedule: Schedule, monitor: Arc<ServiceMonitor>) -> Self {
        PageFetcher {
            schedule,
            monitor,
            ..self.clone()
        }
    }

    /// From now on gives up what only a person can mend. Returns the progress that is made.
    pub(super) fn fail_on_refusal(&self) -> Progress {
        self.shared.fail_on_refusal.store(true, Ordering::Relaxed);
        self.progress.made();
        self.progress.clone()
    }

    /// The walk's next page, retried until there is one or the walk cannot go on. `may_shorten` if the window can be.
    pub(super) async fn next(
        &self,
        walk: &mut dyn Pages,
        window: Window,
        may_shorten: bool,
        request: &mut InFlight,
    ) -> Result<Fetched, Stopped> {
        let mut failures = Failures {
            transient: Backoff::new(TRANSIENT.0, TRANSIENT.1),
            refused: Backoff::new(REFUSED.0, REFUSED.1),
            in_a_row: 0,
            timeouts: 0,
            pages: self.shared.pages.load(Ordering::Relaxed),
            unreadable: None,
        };
        loop {
            let aged = |now| self.schedule.is_out_of_reach(window.start, now);
            if self.clock.certain().is_some_and(aged) {
                return Ok(Fetched::Aged);
            }
            let fetched = self.stop.run_until_cancelled(walk.next_page()).await;
            match fetched.ok_or(Stopped)? {
                Ok(page) => {
                    self.succeeded(request);
                    return Ok(page.map_or(Fetched::End, Fetched::Page));
                }
                Err(failure) => {
                    let next = self.failed(&failure, &mut failures, window, may_shorten, request);
                    if let Some(instead) = next.await? {
                        return Ok(instead);
                    }
                }
            }
        }
    }

    /// Logs the failure and waits as its remedy says; `None` to fetch the same page again.
    async fn failed(
        &self,
        failure: &FetchError,
        failures: &mut Failures,
        window: Window,
        may_shorten: bool,
        request: &mut InFlight,
    ) -> Result<Option<Fetched>, Stopped> {
        let remedy = failure.remedy();
        let error = chain(failure);
        let request_id = failure.request_id();
        let action = failure.action();
        let refused = remedy == Remedy::AskOperator || (remedy == Remedy::Narrow && !may_shorten);
        self.monitor
            .failed(failure.kind(), refused, &error, action.as_deref());
        match remedy {
            Remedy::Throttled => {
                request.throttled();
                warn!(error, request_id, %window, "throttled: all services of this input wait; nothing is lost");
                Ok(None)
            }
            Remedy::WalkAgain => {
                warn!(error, request_id, %window, "the window is walked again from its beginning; nothing is lost");
                Ok(Some(Fetched::WalkAgain))
            }
            Remedy::Narrow if may_shorten => {
                warn!(error, request_id, %window, "the window is shortened; nothing is lost");
                Ok(Some(Fetched::TooMuch))
            }
            Remedy::Narrow if failures.keeps_unreadable(failure, self.clock.ours()) => Ok(Some(
                Self::pass_unreadable(&error, request_id, window, may_shorten),
            )),
            Remedy::Narrow | Remedy::AskOperator => {
                let action = action.unwrap_or_else(|| {
                    "the window cannot be shorter: raise this with Microsoft's support".to_owned()
                });
                self.tell_refusal(&error, request_id, window, &action);
                if self.shared.fail_on_refusal.load(Ordering::Relaxed) {
                    return self.give_up();
                }
                let wait = failures.refused.next(self.chance.share());
                self.rest(wait, request).await.map(|()| None)
            }
            Remedy::BackOff => {
                if matches!(failure.kind(), Kind::Busy | Kind::TimedOut) {
                    request.overloaded();
                }
                if failures.keeps_unreadable(failure, self.clock.ours()) {
                    // A row that is always cut at the same place looks like an answer that was cut short.
                    return Ok(Some(Self::pass_unreadable(
                        &error,
                        request_id,
                        window,
                        may_shorten,
                    )));
                }
                failures.in_a_row += 1;
                failures.timeouts += u32::from(failure.kind() == Kind::TimedOut);
                if may_shorten && self.should_shorten(failure, failures) {
                    warn!(error, request_id, %window, "the window is shortened, since this page keeps failing; nothing is lost");
                    return Ok(Some(Fetched::TooMuch));
                }
                if failures.in_a_row <= FAILURES_BEFORE_GROWTH {
                    failures.transient.reset();
                }
                let wait = failures.transient.next(self.chance.share());
                let failures = failures.in_a_row;
                if failures == FAILURES_BEFORE_ERROR
                    && !std::mem::replace(&mut self.told().failing, true)
                {
                    error!(error, request_id, %window, retry_in = ?wait, action, failures, "fetching keeps failing; nothing is lost, it is retried");
                } else {
                    warn!(error, request_id, %window, retry_in = ?wait, action, "fetching failed; nothing is lost, it is retried");
                }
                self.rest(wait, request).await.map(|()| None)
            }
        }
    }

    /// Waits before a request is made again. Meanwhile it takes no place of those that may be in flight.
    async fn rest(&self, wait: Duration, request: &mut InFlight) -> Result<(), Stopped> {
        request.rest();
        self.sleep(wait).await?;
        while !request.resume() {
            self.sleep(PLACE_PAUSE).await?;
        }
        Ok(())
    }

    /// What becomes of a window of which a page has come as the same unreadable bytes for long.
    fn pass_unreadable(
        error: &str,
        request_id: Option<&str>,
        window: Window,
        may_shorten: bool,
    ) -> Fetched {
        if may_shorten {
            return Fetched::TooMuch;
        }
        error!(error, request_id, %window,
            "a page of this window cannot be read as rows, and has come as the same bytes for half an hour: the window is passed without \
             it; take the request-id to Microsoft's support");
        Fetched::Withheld
    }

    /// Whether a shorter window may cure what keeps failing.
    fn should_shorten(&self, failure: &FetchError, failures: &Failures) -> bool {
        let others_come = self.shared.pages.load(Ordering::Relaxed) > failures.pages;
        failures.timeouts >= TIMEOUTS_BEFORE_SHORTER
            || (failure.shorter_window_may_help()
                && others_come
                && failures.in_a_row >= FAILURES_BEFORE_SHORTER)
    }

    fn succeeded(&self, request: &mut InFlight) {
        request.succeeded();
        self.progress.made();
        self.shared.pages.fetch_add(1, Ordering::Relaxed);
        let told = std::mem::take(&mut *self.told());
        if told.refusal.is_some() || told.failing {
            info!("the reporting service answers again");
        }
        self.monitor.answered();
    }

    /// Tells an operator what to do, once for each refusal.
    fn tell_refusal(&self, refusal: &str, request_id: Option<&str>, window: Window, action: &str) {
        // A request's id differs each time; the advice is what the refusal is known by.
        let mut told = self.told();
        if told.refusal.as_deref() != Some(action) {
            error!(error = refusal, request_id, %window, action, "refused; it is tried again every so often, nothing is lost");
            told.refusal = Some(action.to_owned());
        }
    }

    /// Waits before a walk that could not go on begins again.
    pub(super) async fn pause(&self, again: &mut Backoff, window: Window) -> Result<(), Stopped> {
        let walks = self.shared.broken_walks.fetch_add(1, Ordering::Relaxed) + 1;
        if walks == u64::from(FAILURES_BEFORE_ERROR) {
            error!(
                %window, walks,
                "no walk of this window comes to its end; it is walked again and nothing is lost; if it lasts, raise it with Microsoft's \
                 support, with the request-id of the warnings before"
            );
            if self.gives_up() {
                return self.give_up();
            }
        }
        self.sleep(again.next(self.chance.share())).await
    }

    /// A walk has come to its end.
    pub(super) fn walked(&self) {
        self.shared.broken_walks.store(0, Ordering::Relaxed);
    }

    /// Ends the service before its time.
    fn give_up<T>(&self) -> Result<T, Stopped> {
        error!("given up: what is due of this service is left for the next run, the others go on");
        self.stop.cancel();
        Err(Stopped)
    }

    fn gives_up(&self) -> bool {
        self.shared.fail_on_refusal.load(Ordering::Relaxed)
    }

    pub(super) async fn sleep(&self, time: Duration) -> Result<(), Stopped> {
        let sleep = tokio::time::sleep(time);
        self.stop.run_until_cancelled(sleep).await.ok_or(Stopped)
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.shared
            .told
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
