//! Plans the windows of a service, and fetches them side by side.
//!
//! A window is meant to be one page: a single answer is atomic, so nothing shifts inside it. One that turns out to have more is cut into
//! halves; only what cannot be shorter waits for its turn to be walked page by page. The first window has a request of its own and
//! needs no memory of the budget while it is fetched; those behind it are fetched as far as concurrency and memory allow.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::{Instrument, info, warn};

use super::clock::Clock;
use super::collection::{Collection, REPEATED_PAUSE, Step};
use super::fetch::{Fetched, PageFetcher};
use super::pipeline::{Head, Pipeline, ToFetch};
use crate::backoff::Backoff;
use crate::budget::{Budget, Memory};
use crate::monitoring::ServiceMonitor;
use crate::report::Paging;
use crate::source::concurrency::{InFlight, Share};
use crate::source::{Page, Source};
use crate::stop::Stopped;
use crate::window::{Next, Schedule, Span, Window};

/// The memory that a page is expected to take before the first one has come.
const FIRST_PAGE_BYTES: usize = 1 << 20;

/// An empty window where its neighbours let expect so many rows is fetched once more.
const ROWS_EXPECTED: i64 = 20;

/// It is fetched again after so long.
const RECHECK_AFTER: Duration = Duration::from_mins(1);

/// Windows are fetched once more so often in an hour at most.
const RECHECKS_MAX: usize = 10;

/// What was fetched of a window.
pub(super) enum First {
    /// All of it is on one page.
    Whole(Page, Option<Memory>),
    /// It has several pages and cannot be shorter.
    Several,
    /// It cannot be shorter, and is no rows.
    Withheld,
}

/// How fetching a window ended.
enum Outcome {
    Here(First),
    /// It has several pages, which follow by a key: one walk of them is as good as a page.
    Several,
    /// It has to be shorter; the rows of a page, where pages turned out to be that small.
    TooMuch {
        page_rows: Option<u64>,
    },
    /// Its page has so many bytes, for which there is no memory now.
    NoRoom(usize),
    /// It has passed out of reach.
    Aged,
}

/// What there is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Windows are planned or being fetched.
    Busy,
    /// Nothing is due before this instant.
    Wait(DateTime<Utc>),
}

/// The windows of one service that are not handed over yet.
pub(super) struct Prefetch {
    source: Arc<dyn Source>,
    fetcher: PageFetcher,
    clock: Clock,
    share: Share,
    budget: Budget,
    span: Span,
    /// The end of the present pull.
    until: DateTime<Utc>,
    pipeline: Pipeline<First>,
    fetches: JoinSet<(u64, Result<Outcome, Stopped>)>,
    page_bytes: usize,
    rechecks: Vec<DateTime<Utc>>,
    recheck_after: Duration,
    monitor: Arc<ServiceMonitor>,
}

/// What it works with.
pub(super) struct Parts {
    pub(super) source: Arc<dyn Source>,
    pub(super) fetcher: PageFetcher,
    pub(super) clock: Clock,
    pub(super) share: Share,
    pub(super) budget: Budget,
    pub(super) monitor: Arc<ServiceMonitor>,
}

impl Prefetch {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts {
            source,
            fetcher,
            clock,
            share,
            budget,
            monitor,
        } = parts;
        Prefetch {
            span: fetcher.schedule.first_span(),
            source,
            fetcher,
            clock,
            share,
            budget,
            until: DateTime::UNIX_EPOCH,
            pipeline: Pipeline::new(),
            fetches: JoinSet::new(),
            page_bytes: FIRST_PAGE_BYTES,
            rechecks: vec![],
            recheck_after: RECHECK_AFTER,
            monitor,
        }
    }

    fn schedule(&self) -> &Schedule {
        &self.fetcher.schedule
    }

    /// Plans what is due behind `from`, which is where the last window that was handed over ends, and begins to fetch: with `ahead`
    /// more than the first window.
    pub(super) fn plan(&mut self, from: DateTime<Utc>, ahead: bool) -> Plan {
        self.pipeline.wake(Instant::now());
        let now = self.clock.now();
        let mut wait = None;
        while self.pipeline.has_room() {
            let from = self.pipeline.end().unwrap_or(from);
            let schedule = &self.fetcher.schedule;
            match schedule.next(from, &mut self.until, now, &self.span) {
                Next::Collect(window) => self.pipeline.push(window),
                Next::Wait(until) => {
                    wait = Some(until);
                    break;
                }
            }
            if !self.fetch_more(ahead) {
                break;
            }
        }
        self.fetch_more(ahead);
        match wait {
            Some(until) if self.pipeline.is_empty() => Plan::Wait(until),
            _ => Plan::Busy,
        }
    }

    /// Begins to fetch what is planned; `false` if something is left that may not be fetched yet.
    fn fetch_more(&mut self, ahead: bool) -> bool {
        while let Some(next) = self.pipeline.to_fetch() {
            let memory = if next.is_first {
                None
            } else if !ahead {
                return false;
            } else {
                let Some(memory) = self.budget.try_take(self.page_bytes) else {
                    return false;
                };
                Some(memory)
            };
            let Some(request) = self.share.request() else {
                return false;
            };
            self.fetch(next, request, memory);
        }
        true
    }

    fn fetch(&mut self, next: ToFetch, request: InFlight, memory: Option<Memory>) {
        self.pipeline.fetching(next.id);
        self.monitor.walks();
        let attempt = Attempt {
            source: Arc::clone(&self.source),
            fetcher: self.fetcher.clone(),
            clock: self.clock.clone(),
            window: next.window,
            span: self.span,
            budget: self.budget.clone(),
            request,
        };
        let fetch = async move { (next.id, attempt.fetch(memory).await) };
        self.fetches.spawn(fetch.in_current_span());
    }

    /// Waits until a window has arrived, had to be cut, or is to be fetched after a pause. Never resolves where there is none. Cancel safe.
    pub(super) async fn arrived(&mut self) -> Result<(), Stopped> {
        let wakes_at = self.pipeline.wakes_at();
        let done = tokio::select! {
            biased;
            Some(done) = self.fetches.join_next() => done,
            () = sleep_until(wakes_at.unwrap_or_else(Instant::now)), if wakes_at.is_some() => return Ok(()),
            else => return std::future::pending().await,
        };
        let (id, outcome) = match done {
            Ok(done) => done,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => return Ok(()),
        };
        match outcome? {
            Outcome::Here(first) => {
                if let First::Whole(page, _) = &first {
                    self.page_bytes = page.bytes().max(1 << 10);
                }
                self.pipeline.arrived(id, first);
            }
            Outcome::Several => {
                if let Some(window) = self.pipeline.window(id) {
                    self.span.narrow(window);
                }
                self.pipeline.arrived(id, First::Several);
            }
            Outcome::TooMuch { page_rows } => {
                if let Some(rows) = page_rows {
                    self.span.learn_page(rows);
                }
                self.cut(id);
            }
            Outcome::NoRoom(bytes) => {
                self.page_bytes = bytes;
                self.pipeline.planned(id);
            }
            // The service's loop sees it as well, and says what is lost.
            Outcome::Aged => self.pipeline.clear(),
        }
        Ok(())
    }

    /// Cuts a window into halves; one that cannot be shorter is walked.
    fn cut(&mut self, id: u64) {
        let schedule = self.fetcher.schedule.clone();
        if let Some(window) = self.pipeline.window(id) {
            self.span.narrow(window);
        }
        if !self.pipeline.split(id, &schedule) {
            self.pipeline.arrived(id, First::Several);
        }
    }

    /// Takes the first window, if it is here.
    pub(super) fn take_head(&mut self) -> Option<Head<First>> {
        self.pipeline.take_head()
    }

    /// The first window.
    pub(super) fn first(&self) -> Option<Window> {
        self.pipeline.first()
    }

    /// Learns from a window that is handed over.
    pub(super) fn handed_over(&mut self, window: Window, rows: u64) {
        self.span.walked(window, rows);
    }

    /// Learns that a window has to be shorter.
    pub(super) fn narrow(&mut self, window: Window) {
        self.span.narrow(window);
    }

    /// Whether an empty window is to be fetched once more, since the sparser of its known neighbours lets expect rows in it: `before` is
    /// what came of the window before it. Windows that follow and are empty too are fetched once more with it.
    pub(super) fn recheck(
        &mut self,
        head: &Head<First>,
        before: Option<(Window, u64)>,
        now: DateTime<Utc>,
    ) -> bool {
        let seconds = |window: Window| window.length().num_seconds().max(1);
        let expect = |(of, rows): (Window, u64)| {
            let rows = i64::try_from(rows).unwrap_or(i64::MAX);
            rows.saturating_mul(seconds(head.window)) / seconds(of)
        };
        let behind = self
            .pipeline
            .behind(is_empty)
            .and_then(|(window, first)| match first {
                First::Whole(page, _) => Some((window, page.len() as u64)),
                First::Several | First::Withheld => None,
            });
        let expected = [before, behind].into_iter().flatten().map(expect).min();
        if head.rechecked || expected.is_none_or(|rows| rows < ROWS_EXPECTED) {
            return false;
        }
        self.rechecks.retain(|at| now - *at < TimeDelta::hours(1));
        if self.rechecks.len() >= RECHECKS_MAX {
            return false;
        }
        self.rechecks.push(now);
        info!(window = %head.window, expected, pause = ?self.recheck_after, "an empty window between others with records: it is fetched once more after a pause");
        let at = Instant::now() + self.recheck_after;
        self.pipeline.recheck(head.window, at, is_empty);
        true
    }

    /// Whether the first window is empty, and one that follows it is still being fetched: how dense that is tells whether to believe it.
    pub(super) fn waits_for_a_neighbour(&self) -> bool {
        self.pipeline.waits_behind(is_empty)
    }

    /// Whether the first window is fetched once more, and not before a pause has passed.
    pub(super) fn is_paused(&self) -> bool {
        self.pipeline.is_paused()
    }

    /// Windows are fetched once more after so long at most.
    pub(super) fn recheck_within(&mut self, most: Duration) {
        self.recheck_after = RECHECK_AFTER.min(most);
    }

    /// Drops the pages behind the first window, whose memory others wait for.
    pub(super) fn drop_ahead(&mut self) {
        self.pipeline.drop_ahead(holds_memory);
    }

    /// Whether it holds memory that others may wait for.
    pub(super) fn holds_memory(&self) -> bool {
        self.pipeline.holds_ahead(holds_memory)
    }

    /// Drops all windows: they are planned again.
    pub(super) fn clear(&mut self) {
        self.fetches.abort_all();
        self.fetches = JoinSet::new();
        self.pipeline.clear();
        self.until = DateTime::UNIX_EPOCH;
    }

    /// The source's walk over `window`.
    pub(super) fn walk(&self, window: Window) -> Box<dyn crate::source::Pages> {
        let (first, last) = self.schedule().asked(window);
        self.source.walk(first, last)
    }

    /// Permission for the request of a window that is walked; it is the service's own.
    pub(super) fn request(&self) -> Option<InFlight> {
        self.share.request()
    }
}

fn is_empty(first: &First) -> bool {
    matches!(first, First::Whole(page, _) if page.is_empty())
}

fn holds_memory(first: &First) -> bool {
    matches!(first, First::Whole(_, Some(_)))
}

/// Fetches the first page of a window.
struct Attempt {
    source: Arc<dyn Source>,
    fetcher: PageFetcher,
    clock: Clock,
    window: Window,
    span: Span,
    budget: Budget,
    request: InFlight,
}

impl Attempt {
    async fn fetch(mut self, memory: Option<Memory>) -> Result<Outcome, Stopped> {
        let window = self.window;
        let may_shorten = self.fetcher.schedule.halve(window).is_some();
        let (first, last) = self.fetcher.schedule.asked(window);
        let mut collection = Collection::new(self.source.terms());
        let mut again = Backoff::new(REPEATED_PAUSE / 4, REPEATED_PAUSE * 2);
        loop {
            let mut walk = self.source.walk(first, last);
            collection.begin_walk();
            let page = match self.next(&mut *walk, may_shorten).await? {
                Fetched::Page(page) => page,
                Fetched::End => return Ok(Outcome::Here(First::Several)),
                Fetched::TooMuch => return Ok(Outcome::TooMuch { page_rows: None }),
                Fetched::Withheld => return Ok(Outcome::Here(First::Withheld)),
                Fetched::Aged => return Ok(Outcome::Aged),
                Fetched::WalkAgain => {
                    self.pause(&mut again).await?;
                    continue;
                }
            };
            let rows = page.len() as u64;
            if !walk.leads_on() {
                if self.source.terms().may_cut_off(rows) {
                    // A full page that leads nowhere may have been cut off there.
                    return Ok(if may_shorten {
                        Outcome::TooMuch { page_rows: None }
                    } else {
                        Outcome::Here(First::Several)
                    });
                }
                let mut memory = memory;
                if let Some(memory) = &mut memory {
                    if !memory.grow_to(page.bytes(), &self.budget) {
                        return Ok(Outcome::NoRoom(page.bytes()));
                    }
                    memory.shrink_to(page.bytes());
                }
                return Ok(Outcome::Here(First::Whole(page, memory)));
            }
            if self.source.terms().paging == Paging::ByKey {
                return Ok(Outcome::Several);
            }
            if !may_shorten {
                return Ok(Outcome::Here(First::Several));
            }
            if self.span.is_full_page(rows) {
                return Ok(Outcome::TooMuch { page_rows: None });
            }
            // A short page that leads on: to a page that shows the same, to an empty one, or are pages that small here?
            collection.page(page.digest(), rows, self.clock.ours());
            drop(page);
            let second = match self.next(&mut *walk, may_shorten).await? {
                Fetched::Page(page) => page,
                Fetched::End => return Ok(Outcome::Here(First::Several)),
                Fetched::TooMuch => return Ok(Outcome::TooMuch { page_rows: None }),
                Fetched::Withheld => return Ok(Outcome::Here(First::Withheld)),
                Fetched::Aged => return Ok(Outcome::Aged),
                Fetched::WalkAgain => {
                    self.pause(&mut again).await?;
                    continue;
                }
            };
            let now = self.clock.ours();
            match collection.page(second.digest(), second.len() as u64, now) {
                Step::Take if second.is_empty() => return Ok(Outcome::Here(First::Several)),
                Step::Take => {
                    let page_rows = Some(rows).filter(|rows| *rows > 0);
                    return Ok(Outcome::TooMuch { page_rows });
                }
                Step::Pass => return Ok(Outcome::TooMuch { page_rows: None }),
                Step::WalkAgain => {
                    warn!(%window, "a page led to one that shows the same: the window is fetched again; nothing is lost");
                    self.pause(&mut again).await?;
                }
            }
        }
    }

    async fn next(
        &mut self,
        walk: &mut dyn crate::source::Pages,
        may_shorten: bool,
    ) -> Result<Fetched, Stopped> {
        let request = &mut self.request;
        self.fetcher
            .next(walk, self.window, may_shorten, request)
            .await
    }

    async fn pause(&self, again: &mut Backoff) -> Result<(), Stopped> {
        self.fetcher.pause(again, self.window).await
    }
}
