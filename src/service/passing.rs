//! What one pass of a service needs of the others: where they are, and what was delivered early.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::Notify;

use super::holding::{Holding, leave_out_under_way};
use crate::agenda::{Agenda, Begin};
use crate::dedup::New;
use crate::ledger::{Confirmed, Delivered, Entry, Found, OnDisk, Outcome};
use crate::source::Page;
use crate::window::{Schedule, Window};

/// Where a pass is not told that another is further, it looks after so long.
const LOOKS_AFTER: Duration = Duration::from_secs(5);

/// The agenda of all passes of a service. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Passes(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    agenda: Mutex<Agenda>,
    /// The early passes' delays in seconds.
    delays: Vec<u32>,
    changed: Notify,
}

impl Passes {
    /// Those of the early passes with these delays, and the settling one.
    pub(super) fn new(delays: &[Duration], inclusive: bool) -> Self {
        let seconds = |delay: &Duration| u32::try_from(delay.as_secs()).unwrap_or(u32::MAX);
        Passes(Arc::new(Inner {
            agenda: Mutex::new(Agenda::new(delays.len() + 1, inclusive)),
            delays: delays.iter().map(seconds).collect(),
            changed: Notify::new(),
        }))
    }

    fn agenda(&self) -> MutexGuard<'_, Agenda> {
        self.0.agenda.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A pass that is too late goes on so far ahead of the next longer one, which follows as time passes; twice as far each time, up to the second.
const LEAD: (TimeDelta, TimeDelta) = (TimeDelta::seconds(30), TimeDelta::minutes(10));

/// One pass, as it stands to the others.
pub(super) struct Passing {
    passes: Passes,
    /// Which of them it is, counted from the shortest delay.
    nth: usize,
    /// When the next longer pass reads what; `None` for the settling pass.
    next: Option<Schedule>,
    delivered: OnDisk<Delivered>,
    outputs: Vec<String>,
    /// The others know where the settling pass begins.
    has_begun: bool,
    /// What was delivered early with windows that begin before this is known.
    known_before: Option<DateTime<Utc>>,
    /// The window that is being handed over.
    current: Option<Window>,
    /// How far it goes ahead where it is too late.
    lead: TimeDelta,
    /// What it does with rows under way, where there are such; `None` where it only counts as well.
    pub(super) holding: Option<Holding>,
}

impl Passing {
    pub(super) fn new(
        passes: &Passes,
        nth: usize,
        next: Option<Schedule>,
        delivered: &Delivered,
        outputs: &[String],
    ) -> Self {
        Passing {
            passes: passes.clone(),
            nth,
            next,
            delivered: OnDisk::new(delivered.clone()),
            outputs: outputs.to_vec(),
            has_begun: false,
            known_before: None,
            current: None,
            lead: LEAD.0,
            holding: None,
        }
    }

    /// The same with what it does with rows under way.
    pub(super) fn holding(self, holding: Option<Holding>) -> Self {
        Passing { holding, ..self }
    }

    /// Leaves out of what is new of a page what does not go out early; returns how many rows.
    pub(super) fn hold_back(&mut self, window: Window, page: &Page, new: &mut New) -> u64 {
        match (self.is_early(), &mut self.holding) {
            (true, Some(holding)) => holding.hold_back(window, page, new),
            (true, None) => leave_out_under_way(page, new),
            (false, Some(holding)) => {
                holding.shows(page);
                0
            }
            (false, None) => 0,
        }
    }

    /// Whether it is an early pass.
    pub(super) fn is_early(&self) -> bool {
        self.next.is_some()
    }

    /// The settling pass goes on from there, and what was filed in another epoch is void.
    pub(super) fn starts(&mut self, at: DateTime<Utc>, epoch: u64) {
        if std::mem::replace(&mut self.has_begun, true) {
            return;
        }
        self.delivered.get().void_before(epoch);
        self.passes.agenda().starts(at);
        self.passes.0.changed.notify_waiters();
    }

    /// Where an early pass may begin at the earliest; `None` while the settling pass has not begun.
    pub(super) fn earliest(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let settled = self.next.as_ref()?.settled(now);
        self.passes.agenda().earliest(self.nth, settled)
    }

    /// Where an early pass that is too late goes on: some way behind the earliest, or time would overtake it again.
    pub(super) fn resumes(&mut self, earliest: DateTime<Utc>, own: &Schedule) -> DateTime<Utc> {
        let slack = self.slack();
        let next = self.next.as_ref().filter(|_| !slack.is_zero());
        let apart = next.map_or(TimeDelta::zero(), |next| own.ahead_of(next));
        let lead = self.lead.min(apart / 2).num_seconds();
        self.lead = LEAD.1.min(self.lead * 2);
        earliest + TimeDelta::seconds(lead)
    }

    /// It has read all that is due.
    pub(super) fn is_in_step(&mut self) {
        self.lead = LEAD.0;
    }

    /// Whether it has windows under way that a longer pass may read now.
    pub(super) fn is_too_late(&self, now: DateTime<Utc>) -> bool {
        let Some(next) = &self.next else {
            return false;
        };
        let agenda = self.passes.agenda();
        let earliest = agenda.earliest(self.nth, next.settled(now));
        earliest.is_some_and(|earliest| agenda.is_too_late(self.nth, earliest))
    }

    /// Begins a window, if that may be.
    pub(super) fn begin(&mut self, window: Window) -> Begin {
        let begin = self.passes.agenda().begin(self.nth, window);
        if begin == Begin::Now {
            self.current = Some(window);
        }
        begin
    }

    /// What each output has been delivered early of a window that has begun, and was not told of before.
    pub(super) async fn delivered(&mut self, window: Window) -> Vec<Vec<Confirmed>> {
        let slack = self.slack();
        let (outputs, from) = (self.outputs.clone(), self.known_before);
        // What begins in the second of its last row belongs to it.
        self.known_before = Some(window.end + slack * 2);
        let touching =
            move |delivered: &mut Delivered| delivered.touching(&outputs, window, from, slack);
        self.delivered.run(touching).await
    }

    pub(super) fn slack(&self) -> TimeDelta {
        self.passes.agenda().slack()
    }

    /// Nothing is known any more: windows begin anew.
    pub(super) fn forget(&mut self) {
        self.known_before = None;
        self.current = None;
        if let Some(holding) = &mut self.holding {
            holding.forget();
        }
    }

    /// The window that was begun is handed over.
    pub(super) fn handed_over(&mut self) {
        self.current = None;
    }

    /// Tells the others what is under way: `handed` over and not committed or not confirmed, and the window that is being handed over.
    pub(super) fn tell(&self, handed: Option<Window>) {
        let busy = match (handed, self.current) {
            (Some(handed), Some(current)) => Some(handed.hull(current)),
            (handed, current) => handed.or(current),
        };
        self.passes.agenda().has_under_way(self.nth, busy);
        self.passes.0.changed.notify_waiters();
    }

    /// This pass has read these windows, and no others.
    pub(super) fn has_read(&self, entries: &[Entry]) {
        let was_read = |entry: &&Entry| {
            !matches!(
                entry.outcome,
                Outcome::Unreachable | Outcome::Withheld | Outcome::Capped
            )
        };
        let windows = entries.iter().filter(was_read).map(Entry::window);
        self.passes.agenda().has_read(self.nth, windows.collect());
    }

    /// What early passes have found of a window that they have all left.
    pub(super) fn found(&self, window: Window) -> Found {
        let delays = &self.passes.0.delays;
        let readers = self.passes.agenda().readers(window).into_iter();
        let readers: Vec<u32> = readers.filter_map(|nth| delays.get(nth).copied()).collect();
        if readers.is_empty() {
            return Found::default();
        }
        self.delivered.get().found(window, &readers)
    }

    /// Resolves when another pass is further, or some time has passed. Cancel safe.
    pub(super) fn changed(&self) -> impl Future<Output = ()> + use<> {
        let passes = self.passes.clone();
        async move {
            tokio::select! {
                () = passes.0.changed.notified() => {}
                () = tokio::time::sleep(LOOKS_AFTER) => {}
            }
        }
    }

    /// Removes what the cursor has passed.
    pub(super) async fn remove_before(&mut self, cursor: DateTime<Utc>) {
        if self.delivered.get().has_passed(cursor) {
            let remove = move |delivered: &mut Delivered| delivered.remove_before(cursor);
            self.delivered.run(remove).await;
        }
    }
}
