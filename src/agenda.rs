//! Which windows the passes of one service may read: pure, the present is an argument.
//!
//! A *pass* is a reading of every window at one delay. The settling pass has the longest delay, and alone moves the cursor; an early pass has a
//! frontier of its own. They read side by side, each with requests of its own, by this rule:
//!
//! - An early pass begins where the next longer pass has not read yet, and never before what that one may read now: what it has missed is
//!   left to that one. So no early pass is ever behind a backlog but its own, which is no longer than the two delays are apart.
//! - A longer pass begins a window only when no shorter one has anything under way there. What is under way when it is too late is given up,
//!   and so never waited for for long.
//!
//! So no two passes hand over records of the same window at once, and what one has delivered the next one knows before it begins.
#![deny(clippy::disallowed_methods)]

use chrono::{DateTime, TimeDelta, Utc};

use crate::window::Window;

/// Where both ends of a range are inclusive, and services' times differ by a little, a row may belong to a window that is so far away.
const SLACK: TimeDelta = TimeDelta::seconds(1);

/// Where the passes of one service are, the shortest delay first and the settling pass last.
#[derive(Debug)]
pub(crate) struct Agenda {
    passes: Vec<Stand>,
    slack: TimeDelta,
    /// The settling pass knows where it begins.
    has_begun: bool,
}

/// Where one pass is.
#[derive(Clone, Debug, Default)]
struct Stand {
    /// The furthest end of a window that it has begun; it may go back to before that.
    position: Option<DateTime<Utc>>,
    /// What is handed over and may not be confirmed.
    busy: Option<Window>,
    /// What it has read.
    read: Vec<Window>,
}

/// Whether a pass may begin a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// It has begun it.
    Now,
    /// Not before a shorter pass has confirmed or given up what it has under way there.
    Wait,
    /// A longer pass has come there.
    TooLate,
}

impl Agenda {
    /// So many passes. `inclusive` where neighbouring windows both return the rows at their common boundary.
    pub(crate) fn new(passes: usize, inclusive: bool) -> Self {
        Agenda {
            passes: vec![Stand::default(); passes],
            slack: if inclusive { SLACK } else { TimeDelta::zero() },
            has_begun: false,
        }
    }

    /// How far a row may be from the window that it belongs to.
    pub(crate) fn slack(&self) -> TimeDelta {
        self.slack
    }

    /// The settling pass goes on from there; nothing goes before it.
    pub(crate) fn starts(&mut self, at: DateTime<Utc>) {
        self.has_begun = true;
        if let Some(settling) = self.passes.last_mut() {
            settling.position = settling.position.max(Some(at));
        }
    }

    /// Where a pass may begin at the earliest. `settled` is what the next longer pass may read up to; `None` while the settling pass has not
    /// begun.
    pub(crate) fn earliest(&self, nth: usize, settled: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if !self.has_begun {
            return None;
        }
        let longer = self.passes[nth + 1..].iter();
        let positions = longer.filter_map(|pass| pass.position);
        Some(positions.fold(settled, DateTime::max) + self.slack * 2)
    }

    /// Whether a pass has windows under way that a longer pass may read now; `earliest` is the earliest beginning of its windows.
    pub(crate) fn is_too_late(&self, nth: usize, earliest: DateTime<Utc>) -> bool {
        let busy = self.passes[nth].busy;
        busy.is_some_and(|busy| busy.start < earliest)
    }

    /// Begins a window, if that may be.
    pub(crate) fn begin(&mut self, nth: usize, window: Window) -> Begin {
        let longer = self.passes[nth + 1..].iter();
        let mut positions = longer.filter_map(|pass| pass.position);
        if positions.any(|position| window.start < position + self.slack * 2) {
            return Begin::TooLate;
        }
        let mut shorter = self.passes[..nth].iter().filter_map(|pass| pass.busy);
        if shorter.any(|busy| self.touch(busy, window)) {
            return Begin::Wait;
        }
        let pass = &mut self.passes[nth];
        let position = pass.position.unwrap_or(window.end);
        pass.position = Some(position.max(window.end));
        pass.busy = Some(pass.busy.map_or(window, |busy| busy.hull(window)));
        Begin::Now
    }

    /// This is all that a pass has under way.
    pub(crate) fn has_under_way(&mut self, nth: usize, busy: Option<Window>) {
        self.passes[nth].busy = busy;
    }

    /// These are all windows that a pass has read.
    pub(crate) fn has_read(&mut self, nth: usize, windows: Vec<Window>) {
        self.passes[nth].read = windows;
    }

    /// The early passes that have read all of a window.
    pub(crate) fn readers(&self, window: Window) -> Vec<usize> {
        let covers = |read: &Window| read.start <= window.start && window.end <= read.end;
        let passes = self.passes.iter().enumerate();
        let readers = passes.filter(|(_, pass)| pass.read.iter().any(covers));
        readers.map(|(nth, _)| nth).collect()
    }

    fn touch(&self, one: Window, other: Window) -> bool {
        if self.slack.is_zero() {
            return one.overlaps(other);
        }
        one.start <= other.end + self.slack && other.start <= one.end + self.slack
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_770_000_000 + second, 0).unwrap()
    }

    fn window(start: i64, end: i64) -> Window {
        Window {
            start: at(start),
            end: at(end),
        }
    }

    /// Two early passes and the settling one, which is at 1000.
    fn agenda() -> Agenda {
        let mut agenda = Agenda::new(3, true);
        assert_eq!(agenda.earliest(0, at(5_000)), None, "nothing has begun");
        agenda.starts(at(1_000));
        agenda
    }

    #[test]
    fn an_early_pass_begins_where_no_longer_one_has_come_to() {
        let mut agenda = agenda();
        assert_eq!(agenda.earliest(1, at(1_500)), Some(at(1_502)));
        assert_eq!(
            agenda.earliest(1, at(500)),
            Some(at(1_002)),
            "a clock was set back"
        );
        assert_eq!(agenda.begin(1, window(1_001, 1_100)), Begin::TooLate);
        assert_eq!(agenda.begin(1, window(2_000, 2_100)), Begin::Now);
        assert_eq!(agenda.begin(0, window(2_101, 2_200)), Begin::TooLate);
        assert_eq!(agenda.begin(0, window(2_102, 2_200)), Begin::Now);
        assert_eq!(agenda.earliest(0, at(0)), Some(at(2_102)));
    }

    #[test]
    fn a_longer_pass_waits_for_what_is_under_way_and_for_nothing_else() {
        let mut agenda = agenda();
        assert_eq!(agenda.begin(0, window(3_000, 3_100)), Begin::Now);
        assert_eq!(agenda.begin(0, window(3_100, 3_200)), Begin::Now);
        assert_eq!(agenda.begin(2, window(1_000, 2_998)), Begin::Now);
        // The second before it: a row of another service may be filed there.
        assert_eq!(agenda.begin(2, window(2_998, 2_999)), Begin::Wait);
        assert_eq!(agenda.begin(1, window(3_201, 3_300)), Begin::Wait);
        agenda.has_under_way(0, Some(window(3_100, 3_200)));
        assert_eq!(agenda.begin(2, window(2_998, 3_000)), Begin::Now);
        assert!(!agenda.is_too_late(0, at(3_100)) && agenda.is_too_late(0, at(3_101)));
        agenda.has_under_way(0, None);
        assert!(!agenda.is_too_late(0, at(9_000)));
        assert_eq!(agenda.begin(1, window(3_201, 3_300)), Begin::Now);
    }

    #[test]
    fn a_pass_has_read_a_window_only_where_it_has_read_all_of_it() {
        let mut agenda = agenda();
        let readers = |agenda: &Agenda, start, end| agenda.readers(window(start, end));
        agenda.has_read(0, vec![window(1_000, 1_100), window(1_200, 1_300)]);
        agenda.has_read(1, vec![window(1_050, 1_400)]);
        assert_eq!(readers(&agenda, 1_000, 1_050), [0]);
        assert_eq!(readers(&agenda, 1_050, 1_100), [0, 1]);
        assert_eq!(readers(&agenda, 1_050, 1_250), [1]);
        assert_eq!(readers(&agenda, 1_390, 1_401), [] as [usize; 0]);
    }

    #[test]
    fn whole_hours_have_nothing_in_common_with_their_neighbours() {
        let mut agenda = Agenda::new(2, false);
        agenda.starts(at(0));
        assert_eq!(agenda.earliest(0, at(3_600)), Some(at(3_600)));
        assert_eq!(agenda.begin(0, window(3_600, 7_200)), Begin::Now);
        assert_eq!(agenda.begin(1, window(0, 3_600)), Begin::Now);
        assert_eq!(agenda.begin(1, window(3_600, 7_200)), Begin::Wait);
    }
}
