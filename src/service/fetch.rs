//! Asking for the next page until there is one, whatever the service answers: the only place that waits on its errors.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::clock::Clock;
use crate::backoff::Backoff;
use crate::error::chain;
use crate::monitoring::ServiceMonitor;
use crate::source::{FetchError, Page, Remedy, Walk};
use crate::stop::{Progress, Stopped};
use crate::window::{Schedule, Window};

/// Waits after an error that may pass, at first and at most.
const TRANSIENT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(5));

/// Waits between tries of what only a person can mend, at first and at most.
const REFUSED: (Duration, Duration) = (Duration::from_secs(10), Duration::from_mins(15));

/// After so many failures in a row that a shorter window may cure, the window is halved.
const FAILURES_BEFORE_HALVING: u32 = 2;

/// After so many failures in a row an operator is told: a retired report may fail for good.
const FAILURES_BEFORE_ERROR: u32 = 8;

/// What came of asking.
pub(super) enum Answer {
    /// The next page.
    Page(Page),
    /// The walk is at its end.
    End,
    /// A shorter window is to be asked for.
    TooMuch,
    /// The walk has to begin again.
    Again,
    /// The window has passed out of reach.
    Aged,
}

/// How patient the service is with what it asks: it remembers failures over pages and windows.
pub(super) struct Asking {
    transient: Backoff,
    again: Backoff,
    refused: Backoff,
    walks_again: u32,
    failures: u32,
    /// The refusal that an operator has been told of.
    told: Option<String>,
    /// What only a person can mend ends the service, since the next run will try again.
    gives_up: bool,
    progress: Progress,
    clock: Clock,
    monitor: Arc<ServiceMonitor>,
    stop: CancellationToken,
}

impl Asking {
    pub(super) fn new(
        clock: Clock,
        monitor: Arc<ServiceMonitor>,
        stop: CancellationToken,
        progress: Progress,
    ) -> Self {
        Asking {
            transient: Backoff::new(TRANSIENT.0, TRANSIENT.1),
            again: Backoff::new(TRANSIENT.0, TRANSIENT.1),
            refused: Backoff::new(REFUSED.0, REFUSED.1),
            walks_again: 0,
            failures: 0,
            told: None,
            gives_up: false,
            progress,
            clock,
            monitor,
            stop,
        }
    }

    /// From now on gives up what only a person can mend. Returns the progress that is made.
    pub(super) fn give_up_what_is_refused(&mut self) -> Progress {
        self.gives_up = true;
        self.progress.made();
        self.progress.clone()
    }

    /// The walk's next page, asked for until there is one or the walk cannot go on.
    pub(super) async fn next(
        &mut self,
        walk: &mut Walk,
        schedule: &Schedule,
        window: Window,
        may_halve: bool,
    ) -> Result<Answer, Stopped> {
        // The page before this one has been handed over.
        self.progress.made();
        loop {
            if schedule.deleted(window.start) < self.clock.theirs() {
                return Ok(Answer::Aged);
            }
            let stop = self.stop.clone();
            match stop.run_until_cancelled(walk.next()).await.ok_or(Stopped)? {
                Ok(page) => {
                    self.succeeded();
                    return Ok(page.map_or(Answer::End, Answer::Page));
                }
                Err(failure) => {
                    if let Some(answer) = self
                        .failed(&failure, walk.paused(), window, may_halve)
                        .await?
                    {
                        return Ok(answer);
                    }
                }
            }
        }
    }

    /// Waits before a walk that was refused half-way begins again.
    pub(super) async fn pause_before_walking_again(
        &mut self,
        window: Window,
    ) -> Result<(), Stopped> {
        self.walks_again += 1;
        if self.walks_again == FAILURES_BEFORE_ERROR {
            error!(
                %window, walks = self.walks_again,
                "no walk of this window comes to its end, it is tried again and nothing is lost; if it lasts, raise it with \
                 Microsoft's support, with the request-id of the warnings before"
            );
            if self.gives_up {
                return self.give_up();
            }
        }
        let wait = self.again.next(rand::random());
        self.sleep(wait).await
    }

    /// Ends the service before its time.
    fn give_up(&self) -> Result<(), Stopped> {
        error!("given up: what is due of this service is left for the next run, the others go on");
        self.stop.cancel();
        Err(Stopped)
    }

    /// A walk has come to its end.
    pub(super) fn walked(&mut self) {
        self.walks_again = 0;
        self.again.reset();
    }

    /// Waits before something is tried again that only a person can mend.
    async fn pause_for_an_operator(&mut self) -> Result<(), Stopped> {
        if self.gives_up {
            return self.give_up();
        }
        let wait = self.refused.next(rand::random());
        self.sleep(wait).await
    }

    /// Says what happened, and waits as the error asks; `None` means that the same page is asked for again.
    async fn failed(
        &mut self,
        failure: &FetchError,
        paused: Option<Duration>,
        window: Window,
        may_halve: bool,
    ) -> Result<Option<Answer>, Stopped> {
        let request_id = failure.request_id();
        let error = chain(failure);
        let refused = match failure.remedy() {
            Remedy::AskOperator => true,
            Remedy::Narrow => !may_halve,
            Remedy::BackOff | Remedy::Throttled | Remedy::WalkAgain => false,
        };
        let action = failure.action();
        self.monitor
            .failed(failure.kind(), refused, &error, action.as_deref());
        match failure.remedy() {
            Remedy::Throttled => {
                let pause = tracing::field::debug(paused.unwrap_or_default());
                warn!(error, request_id, %window, pause, "throttled: all services of this input wait; nothing is lost");
                Ok(None)
            }
            Remedy::WalkAgain => {
                warn!(error, request_id, %window, "the window is walked again from its beginning; nothing is lost");
                Ok(Some(Answer::Again))
            }
            Remedy::Narrow if may_halve => {
                warn!(error, request_id, %window, "the window is halved; nothing is lost");
                Ok(Some(Answer::TooMuch))
            }
            Remedy::Narrow => {
                self.tell(
                    &error,
                    request_id,
                    window,
                    "the window cannot be shorter: raise this with Microsoft's support",
                );
                self.pause_for_an_operator().await.map(|()| None)
            }
            Remedy::AskOperator => {
                let action = failure.action().unwrap_or_default();
                self.tell(&error, request_id, window, &action);
                self.pause_for_an_operator().await.map(|()| None)
            }
            Remedy::BackOff => {
                self.failures += 1;
                let wait = self.transient.next(rand::random());
                let action = failure.action();
                if self.failures == FAILURES_BEFORE_ERROR {
                    error!(error, request_id, %window, retry_in = ?wait, action, failures = self.failures,
                        "asking keeps failing; nothing is lost, it is tried again");
                } else {
                    warn!(error, request_id, %window, retry_in = ?wait, action, "asking failed; nothing is lost, it is tried again");
                }
                self.sleep(wait).await?;
                let halve = failure.shorter_window_may_help() && may_halve;
                Ok(
                    (halve && self.failures.is_multiple_of(FAILURES_BEFORE_HALVING))
                        .then_some(Answer::TooMuch),
                )
            }
        }
    }

    fn succeeded(&mut self) {
        self.progress.made();
        if self.told.take().is_some() || self.failures >= FAILURES_BEFORE_ERROR {
            info!("the reporting service answers again");
        }
        self.monitor.answered();
        self.failures = 0;
        self.transient.reset();
        self.refused.reset();
    }

    /// Tells an operator what to do, once for each refusal.
    fn tell(&mut self, refusal: &str, request_id: Option<&str>, window: Window, action: &str) {
        // A request's id differs each time; the text in front of it is what the refusal is known by.
        if self.told.as_deref() != Some(action) {
            error!(error = refusal, request_id, %window, action, "refused; it is tried again every so often, nothing is lost");
            self.told = Some(action.to_owned());
        }
    }

    async fn sleep(&self, time: Duration) -> Result<(), Stopped> {
        self.stop
            .run_until_cancelled(tokio::time::sleep(time))
            .await
            .ok_or(Stopped)
    }
}
