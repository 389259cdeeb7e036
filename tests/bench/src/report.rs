//! The figures as they stand in the README, between two marks.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::thread;

use anyhow::{Context as _, Result};
use bench::figures::{self, Series, table};
use bench::measure::{Effort, Size, grouped};
use chrono::Utc;

const BEGIN: &str = "<!-- figures: written by the bench, not by hand -->\n";
const END: &str = "<!-- end of figures -->";

/// All that was measured; what was not is empty.
pub(crate) struct Report<'a> {
    effort: &'a Effort,
    pub(crate) identity: Vec<Series>,
    pub(crate) gzip: Vec<Series>,
    pub(crate) growth: Vec<Series>,
    pub(crate) services: Vec<Series>,
    pub(crate) size: Option<Size>,
    pub(crate) image: Option<(f64, &'static str)>,
    pub(crate) parts: String,
}

/// Writing to memory does not fail.
impl<'a> Report<'a> {
    pub(crate) fn new(effort: &'a Effort) -> Report<'a> {
        Report {
            effort,
            identity: Vec::new(),
            gzip: Vec::new(),
            growth: Vec::new(),
            services: Vec::new(),
            size: None,
            image: None,
            parts: String::new(),
        }
    }

    pub(crate) fn text(&self) -> String {
        let mut text = format!(
            "{}; {} runs of each, by turns; median (least–most).\n\n",
            machine(),
            self.effort.runs
        );
        text += &self.verdicts();
        for (title, all) in [
            ("answers as they are (identity)", &self.identity),
            ("answers with gzip", &self.gzip),
        ] {
            if !all.is_empty() {
                let rows = grouped(all[0].rows);
                let _ = write!(
                    text,
                    "\n### Drain of {rows} rows, {title}\n\n{}",
                    table(all)
                );
            }
        }
        if !self.growth.is_empty() {
            let _ = write!(
                text,
                "\n### How cost grows\n\n![CPU seconds over rows and over services at once](growth.svg)\n\n{}\nServices at once, each with {} rows:\n\n{}",
                figures::growth("rows", &self.growth),
                grouped(self.effort.of_each_service),
                figures::growth("services", &self.services),
            );
        }
        if let (Some(size), Some((image, which))) = (&self.size, self.image) {
            let _ = write!(
                text,
                "\n### Size\n\n| what | figure |\n|---|---|\n| idle for {} s with eight services up to date: resident | {:.1} MiB |\n| the same: CPU | {:.4} % of a core |\n| the same, listening nowhere: resident | {:.1} MiB |\n| the same, asked 100 times for all that it serves: resident | {:.1} MiB |\n| start to connection, state of eight services loaded | {} ms |\n| start to first request, the same | {} ms |\n| {which} | {image:.1} MiB |\n",
                self.effort.idle.as_secs(),
                size.idle_mib,
                size.idle_percent,
                size.unwatched_mib,
                size.watched_mib,
                size.connected.show(1),
                size.requested.show(1),
            );
        }
        if !self.parts.is_empty() {
            let _ = write!(
                text,
                "\n### Parts\n\n```text\n{}```\n",
                unindented(&self.parts)
            );
        }
        text
    }

    /// What is to be reached, beside what was.
    fn verdicts(&self) -> String {
        let mut text = String::from("| what | to be reached | reached |\n|---|---|---|\n");
        let find =
            |all: &[Series], name: &str| all.iter().find(|one| one.name.starts_with(name)).cloned();
        let times = |all: &[Series], over: &str, under: &str, figure: fn(&Series) -> f64| {
            Some(figure(&find(all, over)?) / figure(&find(all, under)?))
        };
        let cpu = |series: &Series| series.cpu_per_million().median;
        let speed = |series: &Series| series.thousands_a_second().median;
        let peaks: Vec<f64> = self
            .growth
            .iter()
            .rev()
            .take(2)
            .map(|one| one.peak().median)
            .collect();
        let mut row = |what: &str, goal: &str, reached: Option<String>| {
            if let Some(reached) = reached {
                let _ = writeln!(text, "| {what} | {goal} | {reached} |");
            }
        };
        let show = |ratio: Option<f64>| ratio.map(|ratio| format!("{ratio:.2}"));
        let (collector, original, limit) = ("collector", "the original", "the limit");
        row(
            "CPU against the original's way, identity: times less",
            "≥ 15",
            show(times(&self.identity, original, collector, cpu)),
        );
        row(
            "the same with gzip",
            "≥ 10",
            show(times(&self.gzip, original, collector, cpu)),
        );
        row(
            "CPU against the limit, identity: times more",
            "≤ 2.0",
            show(times(&self.identity, collector, limit, cpu)),
        );
        row(
            "the same with gzip",
            "≤ 2.0",
            show(times(&self.gzip, collector, limit, cpu)),
        );
        row(
            "records/s against rsyslog's forwarding half: times more",
            "≥ 2",
            show(times(&self.identity, collector, "rsyslog", speed)),
        );
        row(
            "peak memory of the two longest drains",
            "< 32 MiB, within 2 MiB",
            (peaks.len() == 2).then(|| format!("{:.1} and {:.1} MiB", peaks[1], peaks[0])),
        );
        let size = self.size.as_ref();
        row(
            "idle memory, eight services",
            "< 14 MiB",
            size.map(|size| format!("{:.1} MiB", size.idle_mib)),
        );
        row(
            "idle CPU",
            "< 0.1 %",
            size.map(|size| format!("{:.4} %", size.idle_percent)),
        );
        row(
            "what being watched adds: memory",
            "< 3 MiB",
            size.map(|size| format!("{:.1} MiB", size.watched_mib - size.unwatched_mib)),
        );
        row(
            "the same: CPU of a drain, times more",
            "1.00",
            show(times(
                &self.identity,
                "collector, watched",
                "collector, listening",
                cpu,
            )),
        );
        row(
            "start to first request",
            "< 100 ms",
            size.map(|size| format!("{:.1} ms", size.requested.median)),
        );
        row(
            "image",
            "< 40 MiB",
            self.image
                .map(|(size, which)| format!("{size:.1} MiB, {which}")),
        );
        text
    }
}

/// Divan pads its lines.
fn unindented(text: &str) -> String {
    let lines = text.lines().map(|line| format!("{}\n", line.trim_end()));
    lines.filter(|line| line.len() > 1).collect()
}

/// The machine and the day, in a sentence.
fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown CPU", |(_, model)| model.trim());
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let system = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{}: {model}, {cores} cores, Linux {}",
        Utc::now().format("%Y-%m-%d"),
        system.trim()
    )
}

/// Puts `text` between the two marks of a file.
pub(crate) fn replace(path: &Path, text: &str) -> Result<()> {
    let old =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let parts = old
        .split_once(BEGIN)
        .and_then(|(head, rest)| Some((head, rest.split_once(END)?.1)));
    let (head, tail) = parts.context("the marks of the figures are gone")?;
    fs::write(path, format!("{head}{BEGIN}\n{text}\n{END}{tail}"))
        .with_context(|| format!("cannot write {}", path.display()))
}
