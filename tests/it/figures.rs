//! What the faults came to: the figures that the tables in `tests/README.md` are made of.
//!
//! Where the variable `FIGURES` names a file, each comparison of what there was with what was read appends a line to it, loss or not;
//! `tests/figures` sums the lines of many runs. Where it is not set, nothing is written.

use std::cell::Cell;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::ops::AddAssign;

use testkit::collector::Collector;
use testkit::records::{Records, Verdict, compare};

thread_local! {
    /// Kills of this test that no figures have counted yet.
    static KILLS: Cell<u32> = const { Cell::new(0) };
}

/// What some runs came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) runs: u32,
    pub(crate) kills: u32,
    /// Records that the service had, each output's counted.
    pub(crate) records: u64,
    pub(crate) lost: u64,
    pub(crate) repeated: u64,
    /// The most that may come twice.
    pub(crate) bound: u64,
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
    /// One run, of whose records `bound` may come twice.
    fn of(verdict: &Verdict, bound: u64) -> Self {
        Figures {
            runs: 1,
            kills: KILLS.take(),
            records: verdict.served,
            lost: verdict.missing,
            repeated: verdict.twice,
            bound,
        }
    }

    /// Writes them down under the name of the running test, which libtest gives to its thread unless it runs one test at a time.
    pub(crate) fn note(&self) {
        let Some(path) = std::env::var_os("FIGURES") else {
            return;
        };
        let thread = std::thread::current();
        let test = thread.name().filter(|name| name.contains("::"));
        let Figures {
            runs,
            kills,
            records,
            lost,
            repeated,
            bound,
        } = self;
        let line = format!(
            "{}\t{runs}\t{kills}\t{records}\t{lost}\t{repeated}\t{bound}\n",
            test.unwrap_or_else(|| panic!("FIGURES needs more than one --test-threads"))
        );
        let file = OpenOptions::new().create(true).append(true).open(path);
        // In one piece, since other tests write too.
        file.unwrap().write_all(line.as_bytes()).unwrap();
    }
}

/// Compares what there was with what was read, and writes down what that came to; `bound` is what may come twice.
pub(crate) fn compared(expected: &Records, read: &Records, bound: u64) -> Verdict {
    let verdict = compare(expected, read);
    Figures::of(&verdict, bound).note();
    verdict
}

/// Kills the collector in the middle of what it does.
pub(crate) async fn kill(collector: &mut Collector) {
    collector.kill().await.unwrap();
    KILLS.set(KILLS.get() + 1);
}

#[test]
fn lines_of_many_runs_are_summed_and_quiet_runs_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let files = [
        "rows::odd\t1\t0\t999\t0\t0\t0\ncrash::soak::day\t1\t16\t269785\t1\t91046\t103318\n",
        "collecting::all\t1\t0\t5\t0\t0\t0\nrows::odd\t2\t1\t1000\t0\t3\t4\n",
    ];
    let mut script = std::process::Command::new("tests/figures");
    for (number, lines) in files.into_iter().enumerate() {
        let path = folder.path().join(number.to_string());
        std::fs::write(&path, lines).unwrap();
        script.arg(path);
    }
    let printed = script.output().unwrap();
    assert_eq!(
        String::from_utf8(printed.stdout).unwrap(),
        "### The service\n\n\
         | test | runs | kills | records | lost | repeated (may be) |\n\
         |---|---|---|---|---|---|\n\
         | `rows::odd` | 3 | 1 | 1,999 | 0 | 3 (≤ 4) |\n\n\
         ### Kills\n\n\
         | test | runs | kills | records | lost | repeated (may be) |\n\
         |---|---|---|---|---|---|\n\
         | `crash::soak::day` | 1 | 16 | 269,785 | 1 | 91,046 (≤ 103,318) |\n\n"
    );
}
