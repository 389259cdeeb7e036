//! Hands the new rows of a page over to the outputs, and knows how far these are.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::budget::Memory;
use crate::dedup::{Elsewhere, New, in_any};
use crate::delivery::{Batch, Held, Next, Outlet, Rewound};
use crate::ledger::Mark;
use crate::record::{Splice, TimeOf};
use crate::report::Report;
use crate::source::Page;
use crate::stop::Stopped;
use crate::window::Window;

/// The outputs of a service.
pub(super) struct Handover {
    ways: Vec<Way>,
    /// Counts the batches.
    batches: u64,
    /// The member that tells a row's own time.
    time: Option<TimeOf>,
    /// An output that has confirmed nothing of what it was handed for so long holds up no other: it is handed no more until it does. `None` where
    /// all are waited for.
    patience: Option<Duration>,
}

struct Way {
    outlet: Outlet,
    /// The last batch that it was handed.
    handed: u64,
    /// The last one that was handed before it was rewound: nothing up to here is waited for.
    rewound: u64,
    /// What it was handed and has not confirmed, where that is not waited for.
    pending: VecDeque<(u64, Window)>,
    /// Since when it has confirmed nothing of it.
    since: Instant,
    /// The beginning of what it was not handed, or gave back, while others were not held up.
    missed: Option<DateTime<Utc>>,
    /// It has confirmed something since it missed that.
    is_back: bool,
}

/// What all batches of one window have in common.
pub(super) struct Pull {
    pub(super) window: Window,
    pub(super) mark: Mark,
    pub(super) splice: Arc<Splice>,
    pub(super) pulled: DateTime<Utc>,
    /// When Microsoft deletes the first of what waits.
    pub(super) deleted: DateTime<Utc>,
}

/// The last batch of each output that belongs to a window or to one before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UpTo(Vec<u64>);

impl Handover {
    pub(super) fn new(outlets: Vec<Outlet>, report: &Report, patience: Option<Duration>) -> Self {
        let ways = outlets.into_iter().map(|outlet| Way {
            outlet,
            handed: 0,
            rewound: 0,
            pending: VecDeque::new(),
            since: Instant::now(),
            missed: None,
            is_back: false,
        });
        Handover {
            ways: ways.collect(),
            batches: 0,
            time: report.times.first().map(|name| TimeOf::new(name)),
            patience,
        }
    }

    /// The rows of a page whose own time is not within the hour that begins at `hour`.
    pub(super) fn elsewhere(&self, page: &Page, hour: DateTime<Utc>) -> Elsewhere {
        let outside = { self.time.as_ref() }.map(|time| time.outside(page.rows(), hour));
        let (before, beyond) = outside.unwrap_or_default();
        Elsewhere { before, beyond }
    }

    /// Takes note of what outputs that are not waited for have confirmed.
    pub(super) fn look(&mut self) {
        if self.patience.is_some() {
            self.ways.iter_mut().for_each(Way::look);
        }
    }

    /// The windows of which an output that is not waited for has something unconfirmed.
    pub(super) fn pending(&self) -> Option<Window> {
        let pending = { self.ways.iter() }.flat_map(|way| &way.pending);
        let windows = pending.map(|(_, window)| *window);
        windows.reduce(|one, other| one.hull(other))
    }

    /// From where on outputs that work again have missed something, and makes that forgotten.
    pub(super) fn catch_up(&mut self) -> Option<DateTime<Utc>> {
        let back = self.ways.iter_mut().filter(|way| way.is_back);
        back.filter_map(|way| {
            way.is_back = false;
            way.missed.take()
        })
        .min()
    }

    /// Has outputs give up what is not confirmed, or no longer.
    pub(super) fn give_up(&self, now: bool) {
        self.ways.iter().for_each(|way| way.outlet.give_up(now));
    }

    /// Hands the new rows of a page over, which holds `memory` until all outputs have confirmed them.
    pub(super) fn hand_over(
        &mut self,
        pull: &Pull,
        page: Page,
        memory: Memory,
        new: New,
    ) -> Result<(), Stopped> {
        if new.places.iter().all(Vec::is_empty) {
            return Ok(());
        }
        let (page, places) = without_known_rows(page, new.places);
        let mut memory = memory;
        memory.shrink_to(page.bytes());
        let page = Arc::new(Held::new(page, memory));
        for (way, places) in self.ways.iter_mut().zip(places) {
            if places.is_empty() {
                continue;
            }
            if self.patience.is_some_and(|patience| way.lags(patience)) {
                way.miss(pull.window.start);
                continue;
            }
            self.batches += 1;
            if self.patience.is_some() {
                if way.pending.is_empty() {
                    way.since = Instant::now();
                }
                way.pending.push_back((self.batches, pull.window));
            }
            way.handed = self.batches;
            way.outlet.deliver(Batch {
                number: self.batches,
                window: pull.window,
                mark: pull.mark,
                page: Arc::clone(&page),
                places,
                splice: Arc::clone(&pull.splice),
                pulled: pull.pulled,
                deleted: pull.deleted,
            })?;
        }
        Ok(())
    }

    /// Everything that has been handed over until now.
    pub(super) fn up_to(&self) -> UpTo {
        UpTo(self.ways.iter().map(|way| way.handed).collect())
    }

    /// Whether every output has confirmed everything up to there.
    pub(super) fn has_confirmed(&self, up_to: &UpTo) -> bool {
        self.ways.iter().zip(&up_to.0).all(|(way, number)| {
            let reached = way.rewound.max(way.outlet.reached().number);
            reached >= *number || self.patience.is_some_and(|patience| way.lags(patience))
        })
    }

    /// Whether an output has given unconfirmed lines back.
    pub(super) fn has_lost(&self) -> bool {
        self.ways.iter().any(|way| way.outlet.reached().lost)
    }

    /// Whether each output has had a receipt since the start, and since anything of it failed.
    pub(super) fn all_confirm(&self) -> bool {
        self.ways.iter().all(|way| way.outlet.reached().confirms)
    }

    /// Has everything confirmed.
    pub(super) fn confirm(&self, next: Next) -> Result<(), Stopped> {
        self.ways
            .iter()
            .try_for_each(|way| way.outlet.confirm(next))
    }

    /// Resolves when an output is further. Cancel safe.
    pub(super) async fn changed(&mut self) -> Result<(), Stopped> {
        let changes = self
            .ways
            .iter_mut()
            .map(|way| Box::pin(way.outlet.changed()));
        first_of(changes.collect()).await
    }

    /// Brings all outputs to where nothing is unconfirmed. What they could not confirm is lost to them.
    pub(super) async fn rewind(
        &mut self,
        mark: Mark,
        stop: &CancellationToken,
    ) -> Result<Vec<Rewound>, Stopped> {
        let mut all = vec![];
        for way in &mut self.ways {
            let rewound = stop.run_until_cancelled(way.outlet.rewind(mark)).await;
            all.push(rewound.ok_or(Stopped)??);
            way.look();
            if let Some((_, window)) = way.pending.front() {
                way.miss(window.start);
            }
            way.pending.clear();
            way.rewound = way.handed;
        }
        Ok(all)
    }

    /// Confirms what is written, and ends.
    pub(super) async fn close(self) {
        for way in self.ways {
            way.outlet.close().await;
        }
    }
}

impl Way {
    /// Takes note of what it has confirmed.
    fn look(&mut self) {
        let reached = self.outlet.reached().number;
        while self
            .pending
            .pop_front_if(|(number, _)| *number <= reached)
            .is_some()
        {
            self.since = Instant::now();
            self.is_back = self.missed.is_some();
        }
    }

    /// Whether it has confirmed nothing of what it was handed for so long.
    fn lags(&self, patience: Duration) -> bool {
        !self.pending.is_empty() && self.since.elapsed() >= patience
    }

    /// It does not get what is from there on.
    fn miss(&mut self, from: DateTime<Utc>) {
        self.missed = Some(self.missed.map_or(from, |missed| missed.min(from)));
        self.is_back = false;
    }
}

/// Resolves as the first of them does.
async fn first_of<F: Future<Output = T> + Unpin, T>(mut futures: Vec<F>) -> T {
    std::future::poll_fn(|context| {
        for future in &mut futures {
            if let std::task::Poll::Ready(value) = std::pin::Pin::new(future).poll(context) {
                return std::task::Poll::Ready(value);
            }
        }
        std::task::Poll::Pending
    })
    .await
}

/// Drops the known rows of a page of which they take a quarter or more: they would stay in memory until the rest is confirmed.
fn without_known_rows(page: Page, places: Vec<Vec<u32>>) -> (Page, Vec<Vec<u32>>) {
    let wanted = in_any(&places);
    let bytes = wanted.iter().map(|place| page.row(*place as usize).len());
    if bytes.sum::<usize>() >= page.bytes() / 4 * 3 {
        return (page, places);
    }
    let kept = page.only(wanted.iter().map(|place| *place as usize));
    let moved = |place: &u32| wanted.binary_search(place).ok();
    let places = places.iter().map(|places| {
        let places = places.iter().filter_map(moved);
        places
            .filter_map(|place| u32::try_from(place).ok())
            .collect()
    });
    (kept, places.collect())
}
