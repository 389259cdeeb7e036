//! One service: plans windows, fetches them side by side, hands their new rows over in order, and commits what every output has confirmed.
//!
//! Guarantees: a window is committed only when every output has confirmed all its records, and only once it has settled by the clocks that
//! agree; what cannot be had has an entry that says so; a record goes out once, however often it is fetched. It shares nothing with other
//! services but its input's source and the process's budget of memory.
#![deny(clippy::disallowed_methods)]

mod books;
mod clock;
mod collection;
mod fetch;
mod handover;
mod holding;
mod once;
mod passes;
mod passing;
mod pipeline;
mod prefetch;
mod start;
mod stating;
mod walk;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::books::{Books, Handed};
use self::clock::Clock;
use self::fetch::PageFetcher;
use self::handover::{Handover, Pull};
use self::passes::Ground;
use self::passing::Passing;
use self::pipeline::Head;
use self::prefetch::{First, Parts, Plan, Prefetch};
use self::start::begin;
pub(crate) use self::start::{is_another_tenant, tenant_of};
use self::stating::Stating;
use crate::budget::{Budget, Memory};
use crate::clock::{Chance, WallClock};
use crate::config::{Input, Output, ServiceConfig};
use crate::dedup::{self, Deduplicator, Elsewhere, New, in_any};
use crate::delivery::{Book, Next, Outlet, Shared, Surroundings};
use crate::ledger::{Cursor, Entry, Ledger, LedgerError, Outcome, Owner, StateDirectory};
use crate::memory;
use crate::messages::Told;
use crate::monitoring::ServiceMonitor;
use crate::record::{Mask, Splice};
use crate::report::Origin;
use crate::source::concurrency::Share;
use crate::source::{Page, Source};
use crate::stop::{Progress, Stopped};
use crate::window::{Schedule, Window};

/// Waiting is cut into pieces of at most this, so that a clock that is set is noticed.
const NAP: Duration = Duration::from_secs(30);

/// So much of a service's pages may wait for receipts: a delivery, and the next one's beginning.
const UNCONFIRMED_MAX: usize = 12 << 20;

/// The same while a relay has given no receipt, since the start or since it failed: others could use the memory.
const UNPROVEN_MAX: usize = 2 << 20;

/// One report of one tenant, collected until the collector stops.
pub struct Service {
    environment: Option<String>,
    mask: Mask,
    schedule: Schedule,
    source: Arc<dyn Source>,
    fetcher: PageFetcher,
    prefetch: Prefetch,
    dedup: Deduplicator,
    handover: Handover,
    books: Books,
    budget: Budget,
    clock: Clock,
    /// What became of the last window, by which an empty one is judged.
    last: Option<(Window, u64)>,
    /// The outputs have been asked to confirm what they were handed last.
    confirming: bool,
    /// The service has been asked for its time, where nothing was due when it began.
    asked_for_time: bool,
    /// Something was collected since there was last nothing to do.
    collected: bool,
    /// Where there are early passes, or were: what this one has to know of the others.
    passing: Option<Passing>,
    /// The early passes, until they run.
    early: Vec<Service>,
    monitor: Arc<ServiceMonitor>,
    stop: CancellationToken,
}

/// What interrupts handing a window over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// An output has given unconfirmed lines back.
    Lost,
}

/// What a service needs of the process.
#[derive(Clone)]
pub struct Surround {
    pub(crate) budget: Budget,
    pub(crate) wall: WallClock,
    pub(crate) chance: Chance,
    pub(crate) monitor: Arc<ServiceMonitor>,
    pub(crate) told: Told,
    /// What is due is asked for so much later.
    pub(crate) offset: Duration,
    pub(crate) stop: CancellationToken,
}

impl Service {
    /// Opens the service's state and starts the tasks of its outputs. `source` makes the source from the state as it was left.
    ///
    /// # Errors
    ///
    /// If its state cannot be read or begun: the service does not run then, and nothing of it is changed.
    pub(crate) fn open(
        state: &StateDirectory,
        input: &Input,
        config: &ServiceConfig,
        outputs: (&[Output], &Shared),
        source: impl FnOnce(&Ledger) -> (Arc<dyn Source>, Share),
        surround: Surround,
    ) -> Result<Self, LedgerError> {
        let (outputs, shared) = outputs;
        let owner = Owner {
            input: &input.name,
            id: &input.id,
            service: config.report.service,
        };
        let names: Vec<_> = outputs.iter().map(|output| output.name.as_str()).collect();
        let original = state.original()?;
        let (mut ledger, recovered) = state.ledger(owner, &names)?;
        let (journals, confirmed) = (recovered.journals, recovered.confirmed);
        let (source, share) = source(&ledger);
        let origin = source.terms().origin;
        let schedule =
            Schedule::new(source.terms(), config.period, config.delay).put_off(surround.offset);
        let tenant = tenant_of(&input.credentials);
        let begun = begin(
            &mut ledger,
            &schedule,
            config,
            &tenant,
            original,
            surround.wall.now(),
        )?;
        ledger.note(&names, &tenant, origin)?;
        let delivered = passes::delivered(&ledger, config)?;
        let taken_over = { ledger.cursor() }.and_then(|known| known.taken_over_by(origin));
        let schedule = schedule.put_off(surround.offset).taking_over(taken_over);
        show(&surround.monitor, &ledger, begun.cursor, origin);
        let progress = Progress::default();
        let books = journals.into_iter().map(Book::Journal);
        let (to, tag) = ((outputs, shared), config.report.tag);
        let outlets = outlets(to, tag, books, &surround, &progress);
        let handover = Handover::new(outlets, config.report, None);
        let ground = Ground {
            config,
            outputs,
            shared,
            share: share.clone(),
            surround: surround.clone(),
        };
        let Surround { budget, wall, .. } = surround;
        let (chance, monitor, stop) = (surround.chance, surround.monitor, surround.stop);
        let stating = Stating::begin(surround.told, owner, &ledger);
        let cursor = ledger.cursor();
        let boundary = cursor.map_or((&[][..], origin), Cursor::known_at_boundary);
        // What journals held from before a reset is void.
        let void = |of| if begun.anew { vec![] } else { of };
        let confirmed = confirmed.into_iter().map(void).collect();
        let dedup = Deduplicator::new(dedup::Kind::of(source.terms()), boundary, confirmed);
        let clock = Clock::new(Arc::clone(&source), wall);
        let fetcher = PageFetcher::new(
            schedule.clone(),
            clock.clone(),
            chance.clone(),
            Arc::clone(&monitor),
            stop.clone(),
            progress,
        );
        let prefetch = Prefetch::new(Parts {
            source: Arc::clone(&source),
            fetcher: fetcher.clone(),
            clock: clock.clone(),
            share,
            budget: budget.clone(),
            monitor: Arc::clone(&monitor),
        });
        let mut service = Service {
            environment: input.environment.clone(),
            mask: config.mask.clone(),
            books: Books::new(ledger, chance, Arc::clone(&monitor), stop.clone()).stating(stating),
            schedule,
            source,
            fetcher,
            prefetch,
            dedup,
            handover,
            budget,
            clock,
            last: None,
            confirming: false,
            asked_for_time: false,
            collected: false,
            passing: None,
            early: vec![],
            monitor,
            stop,
        };
        if let Some(delivered) = delivered {
            service.with_passes(&delivered, &ground)?;
        }
        Ok(service)
    }

    /// Collects until the collector stops, and then confirms what is written.
    pub async fn run(mut self) {
        let early = std::mem::take(&mut self.early);
        self.say_where_it_starts();
        // Large: on the heap, and not within every future around it.
        let settling = Box::pin(async {
            // It returns at the stop only.
            self.collect_what_comes().await.ok();
            self.close().await;
        });
        passes::beside(settling, early).await;
    }

    fn say_where_it_starts(&self) {
        let cursor = self.cursor();
        let lag = self.schedule.lag(cursor, self.clock.ours());
        info!(%cursor, lag_hours = lag.num_hours(), "started");
    }

    /// Confirms what is written, and ends.
    async fn close(self) {
        self.handover.close().await;
    }

    /// Collects until the collector stops; where the clock is held, until everything that is due by it is committed.
    async fn collect_what_comes(&mut self) -> Result<(), Stopped> {
        loop {
            if self.stop.is_cancelled() {
                return Err(Stopped);
            }
            if self.settle().await? == Some(Event::Lost) {
                self.rewind().await?;
                continue;
            }
            if !self.is_in_its_place().await? {
                continue;
            }
            if self.is_out_of_reach(self.cursor()) {
                if self.books.is_behind() {
                    self.confirm(Next::Nothing)?;
                    self.something().await?;
                } else {
                    self.pass_over_what_is_unreachable().await?;
                }
                continue;
            }
            let confirms = self.handover.all_confirm();
            let most = if confirms {
                UNCONFIRMED_MAX
            } else {
                UNPROVEN_MAX
            };
            let is_full = self.books.is_full(most);
            let plan = self
                .prefetch
                .plan(self.books.position(), confirms || !is_full);
            if let Plan::Wait(until) = plan
                && !self.books.is_behind()
            {
                self.books.state(true).await;
                if self.clock.is_held() {
                    return Ok(());
                }
                if self.catch_up().await? {
                    continue;
                }
                self.wait_until(until).await?;
                continue;
            }
            if let Plan::Wait(_) = plan {
                // Nothing more is due: what is handed over is to be confirmed.
                self.confirm(Next::Nothing)?;
            } else if self.prefetch.is_paused() {
                // Nothing more is handed over for a while.
                self.confirm(Next::Nothing)?;
            } else if is_full {
                self.confirm(Next::More)?;
            } else if self.last.is_none() && self.prefetch.waits_for_a_neighbour() {
                // Whether an empty window is believed, the one behind it tells.
            } else if let Some(head) = self.prefetch.take_head() {
                self.take(head).await?;
                continue;
            }
            if let Some(first) = self.prefetch.first() {
                self.monitor.collects(first);
                self.collected = true;
            }
            self.something().await?;
        }
    }

    /// Has the outputs confirm what they were handed, once.
    fn confirm(&mut self, next: Next) -> Result<(), Stopped> {
        if std::mem::replace(&mut self.confirming, true) {
            return Ok(());
        }
        self.handover.confirm(next)
    }

    /// Waits until something has happened that the loop has to look at.
    async fn something(&mut self) -> Result<(), Stopped> {
        let holds_memory = self.prefetch.holds_memory();
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Stopped),
            changed = self.handover.changed() => changed,
            arrived = self.prefetch.arrived() => arrived,
            () = self.budget.is_wanted(), if holds_memory => {
                self.prefetch.drop_ahead();
                Ok(())
            }
            () = tokio::time::sleep(NAP) => Ok(()),
        }
    }

    /// Commits what every output has confirmed.
    async fn settle(&mut self) -> Result<Option<Event>, Stopped> {
        self.keep_what_is_under_way().await?;
        self.handover.look();
        let handover = &self.handover;
        let committed = self
            .books
            .commit(|up_to| handover.has_confirmed(up_to), self.clock.ours())
            .await?;
        if committed {
            self.confirming = false;
            self.clock.compare();
            self.books.state(false).await;
        }
        let is_too_late = self.tell_of_passing(committed).await;
        Ok((self.handover.has_lost() || is_too_late).then_some(Event::Lost))
    }

    /// Awaits `future`, and commits meanwhile what the outputs confirm; an error if an output has lost lines.
    async fn while_settling<T>(
        &mut self,
        future: impl Future<Output = T>,
    ) -> Result<Result<T, Event>, Stopped> {
        tokio::pin!(future);
        loop {
            let holds_memory = self.prefetch.holds_memory();
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(Stopped),
                done = &mut future => return Ok(Ok(done)),
                changed = self.handover.changed() => changed?,
                arrived = self.prefetch.arrived() => arrived?,
                () = self.budget.is_wanted(), if holds_memory => self.prefetch.drop_ahead(),
                () = tokio::time::sleep(NAP), if self.is_early() => {}
            }
            if let Some(event) = self.settle().await? {
                return Ok(Err(event));
            }
        }
    }

    /// Memory for a page that is to be handed over.
    async fn memory_for(&mut self, page: &Page) -> Result<Result<Memory, Event>, Stopped> {
        let (budget, bytes) = (self.budget.clone(), page.bytes());
        let memory = self.while_settling(budget.take(bytes)).await?;
        // The budget is never closed.
        Ok(memory.and_then(|memory| memory.ok_or(Event::Lost)))
    }

    /// Takes the first window, which is here.
    async fn take(&mut self, head: Head<First>) -> Result<(), Stopped> {
        self.begin_by_the_agreed_clock().await?;
        if head.window.start != self.books.position() || !self.is_settled(head.window) {
            // A clock was wrong when it was planned.
            self.clock.compare();
            self.prefetch.clear();
            return Ok(());
        }
        if !self.enter(head.window).await? {
            return Ok(());
        }
        let Head {
            window, fetched, ..
        } = &head;
        let window = *window;
        match fetched {
            First::Several => self.walk(window).await,
            First::Withheld => self.take_empty(window, Outcome::Withheld).await,
            First::Whole(page, _) if page.is_empty() => {
                let now = self.clock.now();
                if !self.prefetch.recheck(&head, self.last, now) {
                    let outcome = if self.schedule.may_be_deleted(window.start, now) {
                        Outcome::Unknown
                    } else if page.is_unconfirmed() {
                        Outcome::EmptyUnconfirmed
                    } else {
                        Outcome::Complete
                    };
                    return self.take_empty(window, outcome).await;
                }
                Ok(())
            }
            First::Whole(..) => self.take_whole(head).await,
        }
    }

    /// Takes a window of which no rows came.
    async fn take_empty(&mut self, window: Window, outcome: Outcome) -> Result<(), Stopped> {
        self.dedup.begin(window);
        if let Err(Event::Lost) = self.hand_over_what_was_held(window).await? {
            return Ok(());
        }
        let finished = self.dedup.finish();
        let mut handed = Handed::new(window, outcome, finished, self.handover.up_to());
        handed.requests = 1;
        self.hand_over(handed, 0);
        Ok(())
    }

    /// Hands over a window that is one page.
    async fn take_whole(&mut self, head: Head<First>) -> Result<(), Stopped> {
        let Head {
            window, fetched, ..
        } = head;
        let First::Whole(page, memory) = fetched else {
            return Ok(());
        };
        let memory = match memory {
            Some(memory) => memory,
            None => match self.memory_for(&page).await? {
                Ok(memory) => memory,
                Err(Event::Lost) => return Ok(()),
            },
        };
        let (rows, bytes) = (page.len() as u64, page.bytes());
        self.dedup.begin(window);
        let new = self.new_rows(window, &page);
        self.monitor.sorted(rows, new.records, false);
        let bytes = if new.records > 0 { bytes } else { 0 };
        let pull = self.pull(window);
        self.handover.hand_over(&pull, page, memory, new)?;
        if let Err(Event::Lost) = self.hand_over_what_was_held(window).await? {
            return Ok(());
        }
        let finished = self.dedup.finish();
        let up_to = self.handover.up_to();
        let mut handed = Handed::new(window, Outcome::Complete, finished, up_to);
        (handed.bytes, handed.requests, handed.received) = (bytes, 1, rows);
        self.hand_over(handed, rows);
        Ok(())
    }

    /// The rows of a page whose own time is in another hour than the window.
    fn elsewhere(&self, window: Window, page: &Page) -> Elsewhere {
        if self.schedule.may_show_another_hour(window) {
            self.handover.elsewhere(page, window.hour())
        } else {
            Elsewhere::default()
        }
    }

    /// Notes a window whose records are handed over.
    fn hand_over(&mut self, mut handed: Handed, rows: u64) {
        let window = handed.entry().window();
        if let Some(passing) = self.passing.as_ref().filter(|passing| !passing.is_early()) {
            handed.passed.found = passing.found(window);
        }
        self.last = Some((window, rows));
        self.prefetch.handed_over(window, rows);
        self.books.hand_over(handed);
        if let Some(passing) = &mut self.passing {
            passing.handed_over();
        }
        self.confirming = false;
    }

    /// The new rows of a page. An early pass leaves to longer ones what is still under way.
    fn new_rows(&mut self, window: Window, page: &Page) -> New {
        let elsewhere = self.elsewhere(window, page);
        let mut new = self.dedup.page(page.fingerprints(), &elsewhere);
        if let Some(passing) = &mut self.passing {
            let left_out = passing.hold_back(window, page, &mut new);
            self.dedup.leave_out(left_out);
            // What another pass has delivered has been counted there.
            new.records = in_any(&new.places).len() as u64;
        }
        new
    }

    fn pull(&self, window: Window) -> Pull {
        let pulled = self.clock.ours();
        Pull {
            window,
            mark: self.books.mark(),
            splice: Arc::new(Splice::new(self.environment.as_deref(), &self.mask, pulled)),
            pulled,
            deleted: self.schedule.deleted(self.cursor()),
        }
    }

    /// Whether the window has had its delay, and was within reach, by the clocks as they are known now.
    fn is_settled(&self, window: Window) -> bool {
        let settled = window.end <= self.schedule.settled(self.clock.now());
        settled && !self.is_out_of_reach(window.start)
    }

    /// Brings everything back to the cursor, since an output has given lines back: they are fetched again.
    async fn rewind(&mut self) -> Result<(), Stopped> {
        self.prefetch.clear();
        // An early pass does not wait for a relay that is away.
        self.handover.give_up(self.is_early());
        let all = self.handover.rewind(self.books.mark(), &self.stop).await?;
        self.handover.give_up(false);
        self.settle().await?;
        self.books.forget();
        if let Some(passing) = &mut self.passing {
            passing.forget();
            passing.tell(None);
        }
        self.confirming = false;
        self.last = None;
        let lost: usize = { all.iter() }
            .flat_map(|rewound| &rewound.lost)
            .map(|lost| lost.fingerprints.len())
            .sum();
        if lost > 0 && !self.is_early() {
            warn!(records = lost, cursor = %self.cursor(), "unconfirmed records were given back, since others waited for memory; they are fetched again");
        }
        let cursor = self.cursor();
        let beyond = |mut of: Vec<crate::ledger::Confirmed>| {
            of.retain(|of| of.window.end > cursor);
            of
        };
        let all = all.into_iter();
        let (confirmed, lost) = all
            .map(|rewound| (beyond(rewound.confirmed), beyond(rewound.lost)))
            .unzip();
        let boundary = self.books.cursor().known_at_boundary();
        self.dedup.rewind(boundary, confirmed, lost);
        Ok(())
    }

    /// Cuts a window that was walked in part: what was handed over of it is known when its halves come.
    async fn rewind_to_shorten(&mut self, window: Window) -> Result<(), Stopped> {
        self.confirm(Next::Nothing)?;
        self.rewind().await?;
        self.prefetch.narrow(window);
        Ok(())
    }

    /// Whether the service no longer keeps what is at `instant`, by two clocks.
    fn is_out_of_reach(&self, instant: DateTime<Utc>) -> bool {
        let now = self.clock.certain();
        now.is_some_and(|now| self.schedule.is_out_of_reach(instant, now))
    }

    /// Says what has passed out of reach, and goes on from what has not.
    async fn pass_over_what_is_unreachable(&mut self) -> Result<(), Stopped> {
        let cursor = self.cursor();
        let Some(now) = self.clock.certain() else {
            return Ok(());
        };
        let unreachable = Window {
            start: cursor,
            end: self.schedule.oldest(now),
        };
        error!(
            %unreachable,
            hours = unreachable.length().num_hours(),
            reach_days = self.source.terms().reach.as_secs() / 86_400,
            "records older than Microsoft keeps cannot be had from this report any more; collecting goes on after them"
        );
        self.prefetch.clear();
        let entry = Entry::new(unreachable, Outcome::Unreachable, 0);
        self.monitor.settled(&entry);
        self.books.pass_over(entry, self.clock.ours()).await?;
        self.rewind().await
    }

    /// Where the service began at its own clock's word, the first answer tells whether that clock was ahead.
    async fn begin_by_the_agreed_clock(&mut self) -> Result<(), Stopped> {
        let cursor = self.books.cursor();
        if !cursor.by_our_clock || self.books.is_behind() {
            return Ok(());
        }
        let begin = self.schedule.start(None, self.clock.now());
        if begin < cursor.at {
            let now = self.clock.ours();
            self.books.begin_earlier(begin, now).await?;
        }
        Ok(())
    }

    fn is_early(&self) -> bool {
        self.passing.as_ref().is_some_and(Passing::is_early)
    }

    fn cursor(&self) -> DateTime<Utc> {
        self.books.cursor().at
    }

    /// Waits until `due`, but not for long at once, since a clock may be set meanwhile.
    async fn wait_until(&mut self, due: DateTime<Utc>) -> Result<(), Stopped> {
        self.monitor.waits();
        if std::mem::take(&mut self.collected) {
            memory::give_back();
        }
        if !std::mem::replace(&mut self.asked_for_time, true)
            && !self.clock.is_held()
            && !self.books.cursor().by_our_clock
            && self.clock.is_unheard()
        {
            // By our clock alone nothing may be due for days, though it is.
            self.hear().await?;
            return self.begin_by_the_agreed_clock().await;
        }
        let time = (due - self.clock.now()).to_std().unwrap_or_default();
        self.fetcher.sleep(time.min(NAP)).await?;
        if self.clock.is_in_doubt(NAP) {
            self.hear().await?;
        }
        Ok(())
    }

    /// Fetches the second before the cursor and drops what comes: only an answer tells the service's clock, and no window is due by the one
    /// that it told before.
    async fn hear(&mut self) -> Result<(), Stopped> {
        let last = self.cursor() - TimeDelta::seconds(1);
        let mut walk = self.prefetch.walk(self.schedule.shortest(last));
        let heard = self.stop.run_until_cancelled(walk.next_page()).await;
        if let Err(error) = heard.ok_or(Stopped)? {
            warn!(
                error = crate::error::chain(&error),
                "the reporting service could not be asked for its time; nothing is lost, it is tried again"
            );
        }
        self.clock.compare();
        Ok(())
    }
}

/// Shows what the state of a service tells when it has been opened.
fn show(monitor: &ServiceMonitor, ledger: &Ledger, cursor: DateTime<Utc>, origin: Origin) {
    monitor.opened(cursor, ledger.recent());
    let entries = ledger.cursor().map_or(&[][..], |cursor| &cursor.entries);
    monitor.comes_from(origin, entries);
}

/// Starts the tasks of a service's outputs, each with the book of what it confirms.
fn outlets(
    (outputs, shared): (&[Output], &Shared),
    tag: &'static str,
    books: impl Iterator<Item = Book>,
    surround: &Surround,
    progress: &Progress,
) -> Vec<Outlet> {
    let monitors = surround.monitor.outlets().iter();
    let outlets = outputs.iter().zip(books).zip(monitors);
    let start = |((output, book), monitor): ((&Output, Book), &Arc<_>)| {
        let surroundings = Surroundings {
            budget: surround.budget.clone(),
            wall: surround.wall.clone(),
            chance: surround.chance.clone(),
            monitor: Arc::clone(monitor),
            stop: surround.stop.clone(),
            progress: progress.clone(),
        };
        Outlet::start(output, tag, shared, book, surroundings)
    };
    outlets.map(start).collect()
}

#[cfg(test)]
mod promise;
