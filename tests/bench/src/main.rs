//! Runs everything that is measured and writes the figures into `tests/bench/README.md`:
//!
//! `cargo run --locked --profile bench-tools --package bench -- --help`
#![expect(
    clippy::print_stderr,
    reason = "somebody waits and wants to see it go on"
)]

mod prepare;
mod report;

use std::path::PathBuf;

use anyhow::Result;
use bench::measure::{Effort, drains, growth, services, size};
use bench::plot;
use bench::scene::Scene;
use clap::Parser;

use prepare::Tools;
use report::Report;

/// Measures the collector beside what it replaces.
#[derive(Parser)]
struct Arguments {
    /// Try everything with few rows; the figures go to target/bench/ and mean nothing.
    #[arg(long)]
    quick: bool,
    /// Rows of a drain; with fewer than a million the README stays as it is.
    #[arg(long)]
    rows: Option<u64>,
    /// Runs of each program; with fewer than five the README stays as it is.
    #[arg(long)]
    runs: Option<usize>,
    /// Only these; the README stays as it is.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// Only the programs whose names begin so (`collector`, `the limit`, …); the README stays as it is.
    #[arg(long, value_delimiter = ',')]
    programs: Vec<String>,
    /// Another collector, such as that of an earlier commit, by turns with this one; the README stays as it is.
    #[arg(long, value_name = "PROGRAM")]
    beside: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// All programs, answers as they are.
    Identity,
    /// The programs that read pages, answers with gzip.
    Gzip,
    /// The collector alone: rows, services at once.
    Growth,
    /// Idle, start, image.
    Size,
    /// The parts one by one.
    Parts,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut effort = if arguments.quick {
        Effort::quick()
    } else {
        Effort::full()
    };
    effort.rows = arguments.rows.unwrap_or(effort.rows);
    effort.runs = arguments.runs.unwrap_or(effort.runs);
    let wanted = |part| arguments.only.is_empty() || arguments.only.contains(&part);

    let mut tools = Tools::prepare()?;
    tools.keep(&arguments.programs);
    if let Some(program) = &arguments.beside {
        tools.add(program)?;
    }
    let scene = Scene::new()?;
    let tell = |line: &str| eprintln!("{line}");
    let mut report = Report::new(&effort);
    if wanted(Part::Identity) {
        let programs = tools.all();
        report.identity = drains(&scene, &programs, &effort, false, &tools.folder, &tell)?;
    }
    if wanted(Part::Gzip) {
        let programs: Vec<_> = tools
            .all()
            .into_iter()
            .filter(|program| !program.only_forwards())
            .collect();
        report.gzip = drains(&scene, &programs, &effort, true, &tools.folder, &tell)?;
    }
    if wanted(Part::Growth) {
        report.growth = growth(&scene, &tools.collector(), &effort, &tell)?;
        report.services = services(&scene, &tools.collector(), &effort, &tell)?;
    }
    if wanted(Part::Size) {
        report.size = Some(size(&scene, &tools.program, &effort)?);
        report.image = Some(tools.image()?);
    }
    if wanted(Part::Parts) {
        report.parts = tools.parts(arguments.quick)?;
    }
    // Figures of less than this are not for the README.
    let full = Effort::full();
    let everything =
        arguments.only.is_empty() && arguments.programs.is_empty() && arguments.beside.is_none();
    let whole = everything && effort.rows >= full.rows && effort.runs >= full.runs;
    let folder = if whole {
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
    } else {
        tools.folder.clone()
    };
    if wanted(Part::Growth) {
        let svg = plot::svg(&report.growth, &report.services);
        std::fs::write(folder.join("growth.svg"), svg)?;
    }
    let text = report.text();
    if whole {
        report::replace(&folder.join("README.md"), &text)?;
    } else {
        std::fs::write(folder.join("figures.md"), &text)?;
    }
    eprintln!("{text}\nwritten to {}", folder.display());
    Ok(())
}
