//! Messages under way: early passes hold their rows back, and the settling pass has them go out where the service no longer shows them.
//!
//! A row is kept on disk before the pass that has seen it goes on. It is done with when a pass has delivered the message in a final state, or
//! when the settling pass has gone over it: what that one shows of the message goes out, and the row as it was last seen only where it shows
//! nothing.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use tracing::warn;

use crate::dedup::{New, in_any};
use crate::error::chain;
use crate::ledger::{Held, HeldRow, LedgerError, OnDisk};
use crate::record::{Fingerprinter, Mask, TimeOf, is_under_way};
use crate::source::Page;
use crate::window::Window;

/// What one pass does with the rows under way of its service.
pub(super) struct Holding {
    held: OnDisk<Held>,
    fingerprinter: Fingerprinter,
    time: TimeOf,
    mask: Mask,
    /// Rows that are to be kept before the pass goes on.
    fresh: Vec<HeldRow>,
    /// Messages that are done with, as soon as the pass has committed up to there.
    done: Vec<(DateTime<Utc>, u64)>,
    /// Rows that the window under way has not shown.
    due: Vec<HeldRow>,
}

impl Holding {
    pub(super) fn new(held: &Held, fingerprinter: Fingerprinter, time: TimeOf, mask: Mask) -> Self {
        Holding {
            held: OnDisk::new(held.clone()),
            fingerprinter,
            time,
            mask,
            fresh: vec![],
            done: vec![],
            due: vec![],
        }
    }

    /// Leaves the rows under way out of what is new of a page, and notes them to be kept; returns how many. What there is no room for goes out
    /// as it stands.
    pub(super) fn hold_back(&mut self, window: Window, page: &Page, new: &mut New) -> u64 {
        let mut left_out = HashSet::new();
        for place in in_any(&new.places) {
            let row = page.row(place as usize);
            if is_under_way(row) {
                if self.hold(row, page, place as usize) {
                    left_out.insert(place);
                }
            } else {
                self.note_final(window, row);
            }
        }
        leave_out(new, &left_out)
    }

    /// Notes a row to be kept; `false` if it can be no longer held.
    fn hold(&mut self, row: &[u8], page: &Page, place: usize) -> bool {
        let known = self.fingerprinter.subject(row).zip(self.time.instant(row));
        let Some((subject, time)) = known else {
            // It tells no time of its own: no window would bring it out.
            return false;
        };
        let fingerprint = page.fingerprint(place);
        if self.held.get().has_row(subject, fingerprint) {
            return true;
        }
        let waiting = self.fresh.iter().map(|fresh| fresh.row.len()).sum();
        if !self.held.get().has_room(row.len(), waiting) {
            return false;
        }
        let mut masked = vec![];
        self.mask.append(row, &mut masked);
        self.fresh.push(HeldRow {
            subject,
            time,
            fingerprint,
            row: masked,
        });
        true
    }

    /// A final row goes out: what is held of its message is done with when it is confirmed.
    fn note_final(&mut self, window: Window, row: &[u8]) {
        if self.held.get().is_empty() && self.fresh.is_empty() {
            return;
        }
        let Some(subject) = self.fingerprinter.subject(row) else {
            return;
        };
        let is_fresh = self.fresh.iter().any(|fresh| fresh.subject == subject);
        if is_fresh || self.held.get().has(subject) {
            self.done.push((window.end, subject));
        }
    }

    /// Keeps what is to be kept.
    pub(super) async fn keep(&mut self) -> Result<(), LedgerError> {
        if self.fresh.is_empty() {
            return Ok(());
        }
        let fresh = std::mem::take(&mut self.fresh);
        let keep = move |held: &mut Held| {
            let kept = held.keep(&fresh);
            (fresh, kept)
        };
        let (fresh, kept) = self.held.run(keep).await;
        if kept.is_err() {
            self.fresh = fresh;
        }
        kept
    }

    /// The settling pass begins a window: what is held of it is due.
    pub(super) async fn begin(&mut self, window: Window) {
        self.due.clear();
        if !self.held.get().is_empty() {
            let mut due = self.held.run(move |held| held.due(window)).await;
            // What windows before it have gone over stays on disk until they are committed.
            due.retain(|row| self.done.iter().all(|(_, done)| *done != row.subject));
            self.due = due;
            let done = self.due.iter().map(|row| (window.end, row.subject));
            self.done.extend(done);
        }
    }

    /// The settling pass shows these rows.
    pub(super) fn shows(&mut self, page: &Page) {
        if self.due.is_empty() {
            return;
        }
        let subjects = page
            .rows()
            .filter_map(|row| self.fingerprinter.subject(row));
        let shown: HashSet<u64> = subjects.collect();
        self.due.retain(|row| !shown.contains(&row.subject));
    }

    /// What the window has not shown, as it was last seen.
    pub(super) fn take_due(&mut self) -> Vec<HeldRow> {
        std::mem::take(&mut self.due)
    }

    /// Everything up to `at` is confirmed and committed.
    pub(super) async fn committed(&mut self, at: DateTime<Utc>) {
        let (over, rest) = { self.done.drain(..) }.partition::<Vec<_>, _>(|(end, _)| *end <= at);
        self.done = rest;
        if over.is_empty() {
            return;
        }
        let subjects: Vec<u64> = over.iter().map(|(_, subject)| *subject).collect();
        let forgotten = self.held.run(move |held| held.forget(&subjects)).await;
        if let Err(failure) = forgotten {
            warn!(
                error = chain(&failure),
                action = failure.action(),
                "rows of messages under way that are done with cannot be removed from the state; it is tried again"
            );
            self.done.extend(over);
        }
    }

    /// Windows begin anew.
    pub(super) fn forget(&mut self) {
        self.done.clear();
        self.due.clear();
    }
}

/// Leaves the rows under way out of what is new of a page; returns how many. For passes that only count.
pub(super) fn leave_out_under_way(page: &Page, new: &mut New) -> u64 {
    let places = in_any(&new.places).into_iter();
    let under_way = places.filter(|place| is_under_way(page.row(*place as usize)));
    leave_out(new, &under_way.collect())
}

fn leave_out(new: &mut New, left_out: &HashSet<u32>) -> u64 {
    for places in &mut new.places {
        places.retain(|place| !left_out.contains(place));
    }
    left_out.len() as u64
}
