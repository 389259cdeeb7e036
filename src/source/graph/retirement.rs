//! Message traces from the reporting service while it has them, and the signs that it no longer does.
//!
//! Where it refuses or fails in a way that looks like its end, Graph is asked for the same window. Only a page from Graph is taken for a proof:
//! then the service is asked to go on with Graph. The same where the reporting service shows nothing, twice, and Graph shows rows.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::super::error::{FetchError, Kind, Remedy};
use super::super::page::Page;
use super::super::{Pages, Pending, RemoteTimes, ReportSource, Source};
use super::GraphSource;
use crate::report::Terms;

/// A failure that may pass is a sign of retirement once it has come so often in a row, over at least so long.
const IN_A_ROW: u32 = 5;
const OVER: Duration = Duration::from_secs(30);

/// After Graph has refused, it is not asked about empty windows for this long.
const REFUSED_FOR: Duration = Duration::from_mins(10);

/// Windows that are empty are shown to be so together, up to so much time at once.
const TOGETHER: TimeDelta = TimeDelta::hours(6);

/// The reporting service for message traces, and Graph, which may have to take over.
pub struct Retiring(Arc<Shared>);

struct Shared {
    reports: ReportSource,
    graph: GraphSource,
    /// What is younger may still get rows.
    delay: TimeDelta,
    /// Cancelled once Graph is to take over.
    takes_over: CancellationToken,
    signs: Mutex<Signs>,
    /// Held while Graph is asked whether windows are empty: what it says of one may be true of the next.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Signs {
    /// Failures in a row that may be a sign.
    failures: u32,
    since: Option<Instant>,
    /// What Graph has shown to be empty.
    empty: Option<(DateTime<Utc>, DateTime<Utc>)>,
    /// The beginnings of windows that the reporting service showed to be empty, and Graph did not.
    in_doubt: HashSet<DateTime<Utc>>,
    /// When Graph refused to be asked.
    refused: Option<Instant>,
}

impl Retiring {
    /// Rows are complete `delay` after their time. `takes_over` is cancelled once Graph has shown that it is needed.
    pub fn new(
        reports: ReportSource,
        graph: GraphSource,
        delay: Duration,
        takes_over: CancellationToken,
    ) -> Self {
        Retiring(Arc::new(Shared {
            reports,
            graph,
            delay: TimeDelta::from_std(delay).unwrap_or(TimeDelta::MAX),
            takes_over,
            signs: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
        }))
    }
}

impl Source for Retiring {
    fn terms(&self) -> &Terms {
        self.0.reports.terms()
    }

    fn walk(&self, first: DateTime<Utc>, last: DateTime<Utc>) -> Box<dyn Pages> {
        Box::new(Walk {
            pages: self.0.reports.walk(first, last),
            range: (first, last),
            is_begun: false,
            shared: Arc::clone(&self.0),
        })
    }

    fn clocks(&self) -> RemoteTimes {
        self.0.reports.clocks()
    }

    fn paused(&self) -> Option<Duration> {
        self.0.reports.paused()
    }

    fn unsettled(&self) -> Option<Arc<dyn Source>> {
        Some(Arc::new(Unsettled(Arc::clone(&self.0))))
    }
}

/// The reporting service for windows whose rows may not all be there yet: that it shows nothing, or less than Graph, is no sign of anything.
struct Unsettled(Arc<Shared>);

impl Source for Unsettled {
    fn terms(&self) -> &Terms {
        self.0.reports.terms()
    }

    fn walk(&self, first: DateTime<Utc>, last: DateTime<Utc>) -> Box<dyn Pages> {
        self.0.reports.walk(first, last)
    }

    fn clocks(&self) -> RemoteTimes {
        self.0.reports.clocks()
    }

    fn paused(&self) -> Option<Duration> {
        self.0.reports.paused()
    }
}

struct Walk {
    pages: Box<dyn Pages>,
    range: (DateTime<Utc>, DateTime<Utc>),
    is_begun: bool,
    shared: Arc<Shared>,
}

impl Pages for Walk {
    fn next_page(&mut self) -> Pending<'_, Result<Option<Page>, FetchError>> {
        Box::pin(self.next())
    }

    fn leads_on(&self) -> bool {
        self.pages.leads_on()
    }
}

impl Walk {
    async fn next(&mut self) -> Result<Option<Page>, FetchError> {
        match self.pages.next_page().await {
            Ok(Some(page)) => {
                self.shared.signs().failures = 0;
                let is_first = !std::mem::replace(&mut self.is_begun, true);
                if is_first && page.is_empty() && !self.pages.leads_on() {
                    return match self.shared.confirm_empty(self.range, self.now()).await {
                        Ok(Confirmed::Empty) => Ok(Some(page)),
                        Ok(Confirmed::NotAsked) => Ok(Some(page.unconfirmed())),
                        Err(error) => {
                            self.begin_again();
                            Err(error)
                        }
                    };
                }
                Ok(Some(page))
            }
            Err(error) => {
                let now = self.now();
                if self.shared.is_a_sign(&error, self.range, now) {
                    self.shared.ask_instead(self.range, &error).await;
                }
                // A 400 that says nothing tells an operator nothing either: it is tried again soon, until it is clear what it means.
                Err(if error.is_bare() {
                    error.with_kind(Kind::ServerError)
                } else {
                    error
                })
            }
            end => end,
        }
    }

    fn begin_again(&mut self) {
        let (first, last) = self.range;
        self.pages = self.shared.reports.walk(first, last);
        self.is_begun = false;
    }

    fn now(&self) -> DateTime<Utc> {
        let clocks = self.shared.reports.clocks();
        clocks.service.or(clocks.directory).unwrap_or_else(Utc::now)
    }
}

/// What Graph said of a window that the reporting service showed to be empty.
enum Confirmed {
    Empty,
    /// It may not be asked.
    NotAsked,
}

impl Shared {
    fn signs(&self) -> MutexGuard<'_, Signs> {
        self.signs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a failure looks as if the reporting service had no message traces any more.
    fn is_a_sign(
        &self,
        error: &FetchError,
        (first, last): (DateTime<Utc>, DateTime<Utc>),
        now: DateTime<Utc>,
    ) -> bool {
        if error.tells_of_retirement() || matches!(error.kind(), Kind::NotFound | Kind::Forbidden) {
            return true;
        }
        // Too old a range is refused in the same way.
        let is_good = last <= now && now - first < TimeDelta::days(9);
        let may_be =
            error.is_bare() || matches!(error.kind(), Kind::Unauthorized | Kind::SignInRefused);
        let mut signs = self.signs();
        if !may_be || !is_good {
            signs.failures = 0;
            return false;
        }
        let now = Instant::now();
        if signs.failures == 0 {
            signs.since = Some(now);
        }
        signs.failures += 1;
        signs.failures >= IN_A_ROW && signs.since.is_some_and(|since| now - since >= OVER)
    }

    /// Asks Graph for a window that the reporting service refuses.
    async fn ask_instead(&self, (first, last): (DateTime<Utc>, DateTime<Utc>), error: &FetchError) {
        match self.graph.walk(first, last).next_page().await {
            Ok(Some(_)) => self.take_over(&error.to_string()),
            Ok(None) => {}
            Err(graph) => {
                warn!(
                    reporting_service = %error, graph = %graph, action = graph.action(),
                    "message traces can be had neither from the reporting service nor from Microsoft Graph; nothing is lost, both are tried again"
                );
            }
        }
    }

    fn take_over(&self, reason: &str) {
        if self.takes_over.is_cancelled() {
            return;
        }
        error!(
            reason,
            action =
                "nothing has to be done; to go back, set `source: reporting_service` for one start",
            "the reporting service no longer has message traces: from here on they are collected from Microsoft Graph"
        );
        self.takes_over.cancel();
    }

    /// Asks Graph whether a window is empty, and what follows it with it.
    async fn confirm_empty(
        &self,
        (first, last): (DateTime<Utc>, DateTime<Utc>),
        now: DateTime<Utc>,
    ) -> Result<Confirmed, FetchError> {
        let _asking = self.asking.lock().await;
        {
            let signs = self.signs();
            if signs
                .empty
                .is_some_and(|(from, to)| from <= first && last <= to)
            {
                return Ok(Confirmed::Empty);
            }
            if signs
                .refused
                .is_some_and(|since| since.elapsed() < REFUSED_FOR)
            {
                return Ok(Confirmed::NotAsked);
            }
        }
        let settled = now.checked_sub_signed(self.delay).unwrap_or(last);
        let together = last.max((first + TOGETHER).min(settled));
        for to in [together, last] {
            match self.is_empty(first, to).await {
                Ok(true) => {
                    let mut signs = self.signs();
                    signs.empty = Some((first, to));
                    signs.in_doubt.remove(&first);
                    return Ok(Confirmed::Empty);
                }
                Ok(false) => {}
                Err(error) if error.remedy() == Remedy::AskOperator => {
                    warn!(
                        error = %error, action = error.action(),
                        "Microsoft Graph cannot be asked whether empty windows of message traces are empty: they are taken for empty, unconfirmed"
                    );
                    self.signs().refused = Some(Instant::now());
                    return Ok(Confirmed::NotAsked);
                }
                Err(error) => return Err(error),
            }
            if to == last {
                break;
            }
        }
        let text = "the reporting service shows no message trace where Microsoft Graph has some";
        debug!(%first, %last, "{text}");
        let is_again = !self.signs().in_doubt.insert(first);
        if is_again {
            self.take_over(text);
        }
        Err(FetchError::new(Kind::ServerError, text))
    }

    async fn is_empty(
        &self,
        first: DateTime<Utc>,
        last: DateTime<Utc>,
    ) -> Result<bool, FetchError> {
        let page = self.graph.walk(first, last).next_page().await?;
        Ok(page.is_none_or(|page| page.is_empty()))
    }
}
