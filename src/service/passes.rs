//! The early passes of a service: each is a service of its own over the same report, with a shorter delay, a frontier in the place of the cursor,
//! and what was delivered early in the place of journals.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::task::JoinSet;
use tracing::{Instrument, info};

use super::books::Books;
use super::handover::Handover;
use super::holding::Holding;
use super::passing::{Passes, Passing};
use super::prefetch::{Parts, Prefetch};
use super::{Event, Service, Surround, outlets};
use crate::agenda::Begin;
use crate::config::{Output, ServiceConfig};
use crate::dedup::{self, Deduplicator, Elsewhere};
use crate::delivery::{Book, Outlet, Shared};
use crate::ledger::{Account, COUNTED, Cursor, Delivered, Ledger, LedgerError};
use crate::record::TimeOf;
use crate::report::Resolution;
use crate::source::Page;
use crate::source::concurrency::Share;
use crate::stop::{Progress, Stopped};
use crate::window::{Schedule, Window};

/// An output that has confirmed nothing for so long does not hold up an early pass: what it misses it gets later.
const PATIENCE: Duration = Duration::from_mins(2);

/// What early passes have delivered, where there are any, or were.
pub(super) fn delivered(
    ledger: &Ledger,
    config: &ServiceConfig,
) -> Result<Option<Delivered>, LedgerError> {
    if config.report.early_passes().is_err() {
        return Ok(None);
    }
    let delivered = ledger.delivered(config.report)?;
    if config.early_passes.is_empty() && delivered.is_empty() {
        // What is left is of before a reset.
        delivered.remove_before(DateTime::<Utc>::MAX_UTC);
        return Ok(None);
    }
    Ok(Some(delivered))
}

/// Runs the early passes beside the settling one.
pub(super) async fn beside(settling: impl Future<Output = ()>, early: Vec<Service>) {
    let mut passes = JoinSet::new();
    for pass in early {
        passes.spawn(pass.run_early().in_current_span());
    }
    let all = async {
        while let Some(ended) = passes.join_next().await {
            if let Err(error) = ended
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    };
    tokio::join!(settling, all);
}

/// What an early pass needs of its service's surroundings.
pub(super) struct Ground<'a> {
    pub(super) config: &'a ServiceConfig,
    pub(super) outputs: &'a [Output],
    pub(super) shared: &'a Shared,
    pub(super) share: Share,
    pub(super) surround: Surround,
}

impl Service {
    /// Has this one know what was delivered early, and makes the early passes that are configured.
    pub(super) fn with_passes(
        &mut self,
        delivered: &Delivered,
        ground: &Ground<'_>,
    ) -> Result<(), LedgerError> {
        let config = ground.config;
        let terms = self.source.terms();
        let inclusive = terms.resolution == Resolution::Instant;
        let count = config.early_passes.len();
        let passes = Passes::new(&config.early_passes, inclusive);
        let outputs = ground.outputs.iter().map(|output| output.name.clone());
        let outputs: Vec<_> = outputs.collect();
        let counted = [COUNTED.to_owned()];
        let delays = config.early_passes.iter().chain([&config.delay]);
        let offset = ground.surround.offset;
        let schedules =
            delays.map(|delay| Schedule::new(terms, config.period, *delay).put_off(offset));
        let schedules: Vec<_> = schedules.collect();
        let has_statuses = config.report.has_two_services();
        let fingerprinter = self.books.ledger().fingerprinter(config.report);
        let mask = self.mask.clone();
        let holds = |if_so: bool| {
            let time = config.report.times.first();
            let time = time
                .filter(|_| has_statuses && if_so)
                .map(|name| TimeOf::new(name))?;
            let (fingerprinter, mask) = (fingerprinter.clone(), mask.clone());
            Some(Holding::new(delivered.held(), fingerprinter, time, mask))
        };
        for (nth, schedules) in schedules.windows(2).enumerate() {
            let next = schedules.get(1).cloned();
            let knows = if config.early_passes_deliver {
                &outputs[..]
            } else {
                &counted[..]
            };
            let holding = holds(config.early_passes_deliver);
            let passing = Passing::new(&passes, nth, next, delivered, knows).holding(holding);
            let pass = self.pass(nth, &schedules[0], delivered, ground)?;
            passing.has_read(&pass.books.cursor().entries);
            self.early.push(Service {
                passing: Some(passing),
                ..pass
            });
        }
        let settling = Passing::new(&passes, count, None, delivered, &outputs);
        self.passing = Some(settling.holding(holds(true)));
        Ok(())
    }

    /// One early pass.
    fn pass(
        &self,
        nth: usize,
        schedule: &Schedule,
        delivered: &Delivered,
        ground: &Ground<'_>,
    ) -> Result<Service, LedgerError> {
        let delay = ground.config.early_passes[nth];
        let settling = self.books.cursor();
        let mut ledger = self.books.ledger().of_pass(delay)?;
        // A frontier of before a reset is void.
        let of = Some(format!("epoch {}", settling.epoch));
        let known = ledger.cursor();
        if known.is_none_or(|known| known.reset_persistence_auth != of) {
            let begin = Cursor::begin(settling.at, settling.tenant.clone(), of);
            ledger.begin(begin, self.clock.ours())?;
        }
        ledger.note(&[], &settling.tenant, settling.source)?;
        let monitor = self.monitor.pass(nth);
        let frontier = ledger.cursor().map_or(settling.at, |cursor| cursor.at);
        monitor.opened(frontier, Account::default());
        let source = self.source.unsettled();
        let source = source.unwrap_or_else(|| Arc::clone(&self.source));
        let (clock, budget) = (self.clock.clone(), self.budget.clone());
        let fetcher = self.fetcher.of_pass(schedule.clone(), Arc::clone(&monitor));
        let prefetch = Prefetch::new(Parts {
            source: Arc::clone(&source),
            fetcher: fetcher.clone(),
            clock: clock.clone(),
            share: ground.share.another(),
            budget: budget.clone(),
            monitor: Arc::clone(&monitor),
        });
        let surround = Surround {
            monitor: Arc::clone(&monitor),
            ..ground.surround.clone()
        };
        let outlets = if ground.config.early_passes_deliver {
            let filing = |output: &Output| Book::Early(delivered.filing(&output.name, delay));
            let filings = ground.outputs.iter().map(filing);
            let (to, tag) = ((ground.outputs, ground.shared), ground.config.report.tag);
            outlets(to, tag, filings, &surround, &Progress::default())
        } else {
            let book = Book::Early(delivered.filing(COUNTED, delay));
            vec![Outlet::counting(
                book,
                surround.chance.clone(),
                surround.stop.clone(),
            )]
        };
        let nothing = outlets.iter().map(|_| vec![]).collect();
        let handover = Handover::new(outlets, ground.config.report, Some(PATIENCE));
        let kind = dedup::Kind::of(source.terms());
        let (chance, stop) = (surround.chance, surround.stop.clone());
        let books = Books::new(ledger, chance, Arc::clone(&monitor), stop);
        Ok(Service {
            environment: self.environment.clone(),
            mask: self.mask.clone(),
            schedule: schedule.clone(),
            dedup: Deduplicator::new(kind, (&[], kind.origin), nothing),
            source,
            fetcher,
            prefetch,
            handover,
            books: books.of_pass(delay),
            budget,
            clock,
            last: None,
            confirming: false,
            // The settling pass asks.
            asked_for_time: true,
            collected: false,
            passing: None,
            early: vec![],
            monitor,
            stop: surround.stop,
        })
    }

    /// Reads windows early until the collector stops.
    async fn run_early(mut self) {
        let frontier = self.cursor();
        info!(%frontier, delay_seconds = self.books.delay(), "early pass started");
        // It returns at the stop only.
        self.collect_what_comes().await.ok();
        self.close().await;
    }

    /// Whether the pass may go on from its frontier; an early one that is too late for what is there goes on from further on.
    pub(super) async fn is_in_its_place(&mut self) -> Result<bool, Stopped> {
        let passing = self.passing.as_mut();
        let Some(passing) = passing.filter(|passing| passing.is_early()) else {
            return Ok(true);
        };
        let Some(earliest) = passing.earliest(self.clock.now()) else {
            let changed = passing.changed();
            self.stop
                .run_until_cancelled(changed)
                .await
                .ok_or(Stopped)?;
            return Ok(false);
        };
        if self.books.cursor().at >= earliest {
            return Ok(true);
        }
        let from = passing.resumes(earliest, &self.schedule);
        self.rewind().await?;
        self.books.go_on_from(from, self.clock.ours()).await?;
        Ok(false)
    }

    /// Goes back to what an output has missed that works again; whether there is any.
    pub(super) async fn catch_up(&mut self) -> Result<bool, Stopped> {
        let passing = self.passing.as_mut();
        let Some(passing) = passing.filter(|passing| passing.is_early()) else {
            return Ok(false);
        };
        passing.is_in_step();
        let earliest = passing.earliest(self.clock.now());
        let missed = self.handover.catch_up();
        let (Some(missed), Some(earliest)) = (missed, earliest) else {
            return Ok(false);
        };
        let from = missed.max(earliest);
        if from >= self.cursor() {
            return Ok(false);
        }
        info!(%from, delay_seconds = self.books.delay(), "an output works again: what it has missed of an early pass is read again");
        self.rewind().await?;
        self.books.go_on_from(from, self.clock.ours()).await?;
        Ok(true)
    }

    /// Begins a window: what other passes have delivered of it is known then. `false` if it is to be looked at again.
    pub(super) async fn enter(&mut self, window: Window) -> Result<bool, Stopped> {
        loop {
            let Some(passing) = &mut self.passing else {
                return Ok(true);
            };
            match passing.begin(window) {
                Begin::Now => {
                    let delivered = passing.delivered(window).await;
                    self.dedup.know_early(delivered, passing.slack());
                    if let (false, Some(holding)) = (passing.is_early(), &mut passing.holding) {
                        holding.begin(window).await;
                    }
                    return Ok(true);
                }
                Begin::TooLate => {
                    self.prefetch.clear();
                    return Ok(false);
                }
                Begin::Wait => {
                    let changed = passing.changed();
                    if self.while_settling(changed).await?.is_err() {
                        return Ok(false);
                    }
                }
            }
        }
    }

    /// Keeps the rows under way that were seen, before anything is committed. Tries until that has worked.
    pub(super) async fn keep_what_is_under_way(&mut self) -> Result<(), Stopped> {
        let Some(holding) = self.passing.as_mut().and_then(|one| one.holding.as_mut()) else {
            return Ok(());
        };
        let told = "rows of messages under way cannot be kept; the early pass does not go on until they are";
        let mut backoff = Books::backoff();
        while let Err(failure) = holding.keep().await {
            self.books.wait_after(&failure, told, &mut backoff).await?;
        }
        Ok(())
    }

    /// Hands over what early passes have held of the window that ends, and the service no longer shows.
    pub(super) async fn hand_over_what_was_held(
        &mut self,
        window: Window,
    ) -> Result<Result<(), Event>, Stopped> {
        let passing = self.passing.as_mut().filter(|passing| !passing.is_early());
        let holding = passing.and_then(|passing| passing.holding.as_mut());
        let held = holding.map(Holding::take_due).unwrap_or_default();
        if held.is_empty() {
            return Ok(Ok(()));
        }
        info!(
            %window,
            rows = held.len(),
            "messages that early passes have seen under way are not shown any more: they go out as they were last seen"
        );
        let page = Page::of(
            held.into_iter()
                .map(|row| (row.row, row.fingerprint))
                .collect(),
        );
        let memory = match self.memory_for(&page).await? {
            Ok(memory) => memory,
            Err(event) => return Ok(Err(event)),
        };
        // The service does not show them.
        let elsewhere = Elsewhere {
            before: (0..).take(page.len()).collect(),
            beyond: vec![],
        };
        let new = self.dedup.page(page.fingerprints(), &elsewhere);
        let pull = self.pull(window);
        self.handover.hand_over(&pull, page, memory, new).map(Ok)
    }

    /// Tells other passes what is under way; whether some of it is too late.
    pub(super) async fn tell_of_passing(&mut self, committed: bool) -> bool {
        let Some(passing) = &mut self.passing else {
            return false;
        };
        let cursor = self.books.cursor();
        if !passing.is_early() {
            if !cursor.by_our_clock {
                passing.starts(cursor.at, cursor.epoch);
            }
            if committed {
                passing.remove_before(cursor.at).await;
            }
        }
        if let (true, Some(holding)) = (committed, &mut passing.holding) {
            holding.committed(cursor.at).await;
        }
        if committed && passing.is_early() {
            passing.has_read(&cursor.entries);
        }
        let handed = [self.books.handed(), self.handover.pending()].into_iter();
        passing.tell(handed.flatten().reduce(|one, other| one.hull(other)));
        passing.is_too_late(self.clock.now())
    }
}
