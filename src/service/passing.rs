//! What one pass of a service needs of the others: where they are, and what was delivered early.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::Notify;

use crate::agenda::{Agenda, Begin};
use crate::ledger::{Confirmed, Delivered, OnDisk};
use crate::window::{Schedule, Window};

/// Where a pass is not told that another is further, it looks after so long.
const LOOKS_AFTER: Duration = Duration::from_secs(5);

/// The agenda of all passes of a service. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Passes(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    agenda: Mutex<Agenda>,
    changed: Notify,
}

impl Passes {
    pub(super) fn new(agenda: Agenda) -> Self {
        Passes(Arc::new(Inner {
            agenda: Mutex::new(agenda),
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

    /// Whether it has something under way where a longer pass comes to.
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
