//! The figures of a fault class, as a row of the table in `tests/README.md`.

use std::ops::AddAssign;

/// What some runs came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Figures {
    pub(super) runs: u32,
    pub(super) kills: u32,
    /// Records that the service had, each output's counted.
    pub(super) records: u64,
    pub(super) lost: u64,
    pub(super) repeated: u64,
    /// The most that may come twice.
    pub(super) bound: u64,
}

impl AddAssign for Figures {
    fn add_assign(&mut self, other: Self) {
        self.runs += other.runs;
        self.kills += other.kills;
        self.records += other.records;
        self.lost += other.lost;
        self.repeated += other.repeated;
        self.bound += other.bound;
    }
}

impl Figures {
    /// Prints the row.
    #[expect(
        clippy::print_stdout,
        reason = "the figures are what a long run is for"
    )]
    pub(super) fn print(&self, class: &str) {
        let Figures {
            runs,
            kills,
            records,
            lost,
            repeated,
            bound,
        } = self;
        println!("| {class} | {runs} | {kills} | {records} | {lost} | {repeated} (≤ {bound}) |");
    }
}
