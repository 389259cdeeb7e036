//! The windows that follow the last one handed over, in their order: planned, being fetched, or here. Pure.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use crate::window::{Schedule, Window};

/// So many windows are planned ahead at most.
const WINDOWS_MAX: usize = 24;

/// Windows in their order; `P` is what is fetched for one.
#[derive(Debug)]
pub(super) struct Pipeline<P> {
    slots: VecDeque<Slot<P>>,
    next_id: u64,
}

#[derive(Debug)]
struct Slot<P> {
    id: u64,
    window: Window,
    state: State<P>,
    /// It was empty where its neighbours are not, and has been fetched again.
    rechecked: bool,
}

#[derive(Debug)]
enum State<P> {
    Planned,
    /// Planned, but not before this instant.
    Paused(Instant),
    Fetching,
    Here(P),
}

/// A window that is to be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ToFetch {
    pub(super) id: u64,
    pub(super) window: Window,
    /// It is the next to be handed over.
    pub(super) is_first: bool,
}

/// The first window, which is here.
#[derive(Debug)]
pub(super) struct Head<P> {
    pub(super) window: Window,
    pub(super) fetched: P,
    pub(super) rechecked: bool,
}

impl<P> Pipeline<P> {
    pub(super) fn new() -> Self {
        Pipeline {
            slots: VecDeque::new(),
            next_id: 0,
        }
    }

    /// The end of the last window; `None` if there is none.
    pub(super) fn end(&self) -> Option<DateTime<Utc>> {
        self.slots.back().map(|slot| slot.window.end)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(super) fn has_room(&self) -> bool {
        self.slots.len() < WINDOWS_MAX
    }

    /// The first window.
    pub(super) fn first(&self) -> Option<Window> {
        self.slots.front().map(|slot| slot.window)
    }

    /// The window with this id, if it was not dropped.
    pub(super) fn window(&self, id: u64) -> Option<Window> {
        let slot = self.slots.iter().find(|slot| slot.id == id)?;
        Some(slot.window)
    }

    /// Plans a window behind all others.
    pub(super) fn push(&mut self, window: Window) {
        let slot = self.slot(window, false);
        self.slots.push_back(slot);
    }

    fn slot(&mut self, window: Window, rechecked: bool) -> Slot<P> {
        self.next_id += 1;
        Slot {
            id: self.next_id,
            window,
            state: State::Planned,
            rechecked,
        }
    }

    /// The first window that is planned.
    pub(super) fn to_fetch(&self) -> Option<ToFetch> {
        let planned = |slot: &&Slot<P>| matches!(slot.state, State::Planned);
        let slot = self.slots.iter().find(planned)?;
        let first = self.slots.front()?;
        Some(ToFetch {
            id: slot.id,
            window: slot.window,
            is_first: slot.id == first.id,
        })
    }

    /// The window is being fetched.
    pub(super) fn fetching(&mut self, id: u64) {
        self.set(id, State::Fetching);
    }

    /// The window is to be fetched again.
    pub(super) fn planned(&mut self, id: u64) {
        self.set(id, State::Planned);
    }

    /// The window is here.
    pub(super) fn arrived(&mut self, id: u64, fetched: P) {
        self.set(id, State::Here(fetched));
    }

    fn set(&mut self, id: u64, state: State<P>) {
        // It may have been dropped meanwhile.
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.id == id) {
            slot.state = state;
        }
    }

    /// Cuts the window into halves; `false` if it cannot be shorter.
    pub(super) fn split(&mut self, id: u64, schedule: &Schedule) -> bool {
        let Some(place) = self.slots.iter().position(|slot| slot.id == id) else {
            return true;
        };
        let window = self.slots[place].window;
        let Some(half) = schedule.halve(window) else {
            return false;
        };
        let rest = Window {
            start: half.end,
            end: window.end,
        };
        self.slots[place] = self.slot(half, false);
        let rest = self.slot(rest, false);
        self.slots.insert(place + 1, rest);
        true
    }

    /// Takes out the first window, if it is here.
    pub(super) fn take_head(&mut self) -> Option<Head<P>> {
        let here = |slot: &mut Slot<P>| matches!(slot.state, State::Here(_));
        let slot = self.slots.pop_front_if(here)?;
        match slot.state {
            State::Here(fetched) => Some(Head {
                window: slot.window,
                fetched,
                rechecked: slot.rechecked,
            }),
            State::Planned | State::Paused(_) | State::Fetching => None,
        }
    }

    /// Whether the first window is not to be fetched yet.
    pub(super) fn is_paused(&self) -> bool {
        let first = self.slots.front();
        first.is_some_and(|slot| matches!(slot.state, State::Paused(_)))
    }

    /// The first window from here on that is here and not `empty`, if all before it are here and `empty`. The head has been taken out.
    pub(super) fn behind(&self, empty: impl Fn(&P) -> bool) -> Option<(Window, &P)> {
        let mut here = self.slots.iter().map_while(Slot::here);
        here.find(|(_, fetched)| !empty(fetched))
    }

    /// Whether the first window is here and `empty`, all that follow are so too, and then comes one that is being fetched.
    pub(super) fn waits_behind(&self, empty: impl Fn(&P) -> bool) -> bool {
        let mut slots = self.slots.iter();
        let is_empty = |slot: &Slot<P>| slot.here().is_some_and(|(_, fetched)| empty(fetched));
        if !slots.next().is_some_and(is_empty) {
            return false;
        }
        let next = slots.find(|slot| !is_empty(slot));
        next.is_some_and(|slot| matches!(slot.state, State::Fetching))
    }

    /// Plans again for `at`, in front of all others, a window that was taken out, and those that follow it of which `also` is true.
    pub(super) fn recheck(&mut self, window: Window, at: Instant, also: impl Fn(&P) -> bool) {
        for slot in &mut self.slots {
            match &slot.state {
                State::Here(fetched) if also(fetched) => {
                    (slot.state, slot.rechecked) = (State::Paused(at), true);
                }
                _ => break,
            }
        }
        let mut slot = self.slot(window, true);
        slot.state = State::Paused(at);
        self.slots.push_front(slot);
    }

    /// Plans what was paused until `now`.
    pub(super) fn wake(&mut self, now: Instant) {
        for slot in &mut self.slots {
            if matches!(slot.state, State::Paused(at) if at <= now) {
                slot.state = State::Planned;
            }
        }
    }

    /// When the next paused window is due.
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        let at = |slot: &Slot<P>| match slot.state {
            State::Paused(at) => Some(at),
            _ => None,
        };
        self.slots.iter().filter_map(at).min()
    }

    /// Drops what was fetched ahead, and satisfies `held`: all but the first window's.
    pub(super) fn drop_ahead(&mut self, held: impl Fn(&P) -> bool) {
        for slot in self.slots.iter_mut().skip(1) {
            if matches!(&slot.state, State::Here(fetched) if held(fetched)) {
                slot.state = State::Planned;
            }
        }
    }

    /// Whether something was fetched ahead that satisfies `held`.
    pub(super) fn holds_ahead(&self, held: impl Fn(&P) -> bool) -> bool {
        let ahead = self.slots.iter().skip(1);
        ahead
            .filter_map(Slot::here)
            .any(|(_, fetched)| held(fetched))
    }

    /// Drops all windows.
    pub(super) fn clear(&mut self) {
        self.slots.clear();
    }
}

impl<P> Slot<P> {
    fn here(&self) -> Option<(Window, &P)> {
        match &self.state {
            State::Here(fetched) => Some((self.window, fetched)),
            State::Planned | State::Paused(_) | State::Fetching => None,
        }
    }
}
