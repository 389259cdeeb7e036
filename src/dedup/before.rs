//! What one output knew of the windows beyond the cursor when they were begun again: after a restart, or because an output had to give its
//! lines back.

use std::collections::HashMap;

use chrono::TimeDelta;

use crate::ledger::Confirmed;
use crate::record::Fingerprint;
use crate::report::Origin;
use crate::window::Window;

/// Rows that came before, by the windows that they came with.
#[derive(Debug, Default)]
pub(super) struct Before {
    /// Buckets apart from one another, since rows of two buckets may be equal. Rows of instants tell their time: one list for all.
    windows: Vec<(Window, HashMap<Fingerprint, u32>)>,
    /// A row may belong to a window that is so far away.
    slack: TimeDelta,
}

impl Before {
    /// Takes what came before. `apart` where rows of different windows may be equal and are records of their own. What another service than
    /// `origin` told of is known by its identity.
    pub(super) fn new(before: Vec<Confirmed>, apart: bool, origin: Origin) -> Self {
        let mut windows: Vec<(Window, HashMap<Fingerprint, u32>)> = vec![];
        for Confirmed {
            window,
            origin: told_by,
            fingerprints,
        } in before
        {
            let known = windows.iter().position(|(of, _)| !apart || *of == window);
            let place = known.unwrap_or_else(|| {
                windows.push((window, HashMap::new()));
                windows.len() - 1
            });
            let (of, counts) = &mut windows[place];
            *of = of.hull(window);
            for fingerprint in fingerprints {
                let fingerprint = known_by(fingerprint, told_by == origin);
                *counts.entry(fingerprint).or_default() += 1;
            }
        }
        Before {
            windows,
            slack: TimeDelta::zero(),
        }
    }

    /// Takes in what early passes have delivered with windows that have not been taken in. It is known by what it was filed by.
    pub(super) fn add_early(&mut self, delivered: Vec<Confirmed>, apart: bool, slack: TimeDelta) {
        self.slack = slack;
        let more = Before::new(delivered, apart, Origin::default());
        self.windows.extend(more.windows);
    }

    /// Whether nothing came before.
    pub(super) fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    /// Whether this row of `window` came before; each that came is found once.
    pub(super) fn take(&mut self, window: Window, fingerprint: Fingerprint) -> bool {
        let windows = self.windows.iter_mut();
        let slack = self.slack;
        let touches = |of: &Window| {
            let apart = slack.is_zero();
            of.overlaps(window)
                || !apart && of.start <= window.end + slack && window.start <= of.end + slack
        };
        windows.filter(|(of, _)| touches(of)).any(|(_, counts)| {
            [fingerprint, fingerprint.identity()]
                .into_iter()
                .any(|fingerprint| take(counts, fingerprint))
        })
    }

    /// Forgets what is before the end of `window`; tells how many rows of it did not come again.
    pub(super) fn pass(&mut self, window: Window) -> u64 {
        let mut left = 0;
        self.windows.retain(|(of, counts)| {
            let stays = of.end + self.slack * 2 > window.end;
            if !stays {
                left += counts.values().map(|count| u64::from(*count)).sum::<u64>();
            }
            stays
        });
        left
    }
}

/// What a row is known by: all of it to who told of it, and its identity to another service.
pub(super) fn known_by(fingerprint: Fingerprint, same: bool) -> Fingerprint {
    if same {
        fingerprint
    } else {
        fingerprint.identity()
    }
}

/// Takes one row from the counts, if there is one.
fn take(counts: &mut HashMap<Fingerprint, u32>, fingerprint: Fingerprint) -> bool {
    let Some(count) = counts.get_mut(&fingerprint) else {
        return false;
    };
    *count -= 1;
    if *count == 0 {
        counts.remove(&fingerprint);
    }
    true
}
