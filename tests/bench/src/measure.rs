//! What is measured, and how often.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use chrono::Utc;
use testkit::collector::Folder;
use testkit::report::Report;

use crate::child::Running;
use crate::figures::{Series, Spread, float};
use crate::programs::{Job, Program, write_lines};
use crate::rows::Backlog;
use crate::scene::{DELAY, Scene, committed};
use crate::watcher;

const DAY: i64 = 86_400;

/// The collector's usual delay, after which all rows have settled; and some room for a run to begin.
const SETTLED: i64 = DELAY + 120;

/// Seconds between blocks where all services are measured: a day stays below the 10,000 rows at which one report is cut off.
const SPARSE: i64 = 180;

const TRACES: &[Report] = &[Report::MessageTrace];

/// How often all is asked for that a collector serves.
const ASKED: usize = 100;

/// How much is done.
#[derive(Clone, Debug)]
pub struct Effort {
    /// Rows of a drain.
    pub rows: u64,
    /// Runs of each program.
    pub runs: usize,
    /// Rows of the drains that show how cost grows.
    pub growth: Vec<u64>,
    /// Rows of each service, where there are several; days are about 9,600 rows, and no more than four of them are kept by all reports.
    pub of_each_service: u64,
    /// How long an idle collector is watched.
    pub idle: Duration,
}

impl Effort {
    /// What figures are made of.
    pub fn full() -> Effort {
        Effort {
            rows: 1_000_000,
            runs: 5,
            growth: vec![10_000, 100_000, 1_000_000, 10_000_000],
            of_each_service: 40_000,
            idle: Duration::from_mins(1),
        }
    }

    /// Enough to see that everything works.
    pub fn quick() -> Effort {
        Effort {
            rows: 40_000,
            runs: 2,
            growth: vec![10_000, 20_000, 40_000],
            of_each_service: 4_000,
            idle: Duration::from_secs(5),
        }
    }
}

/// A backlog of message traces, those of a busy tenant: 36,000 rows an hour.
pub fn backlog(rows: u64) -> Backlog {
    Backlog::before(Utc::now().timestamp() - SETTLED, rows, 2)
}

/// The same of a tenant twice as busy, whose ten days, which is what is kept, hold ten million rows: it is the same tenant for any
/// number of rows, since a window of an hour takes its memory whatever comes after it.
fn busy_backlog(rows: u64) -> Backlog {
    Backlog::before(Utc::now().timestamp() - SETTLED, rows, 1)
}

/// A backlog for all eight reports, up to the beginning of a day.
pub fn sparse_backlog(rows: u64) -> Backlog {
    let settled = Utc::now().timestamp() - SETTLED;
    Backlog::before(settled - settled.rem_euclid(DAY), rows, SPARSE)
}

/// Drains the same backlog with all programs, by turns.
pub fn drains(
    scene: &Scene,
    programs: &[Program],
    effort: &Effort,
    gzip: bool,
    folder: &Path,
    tell: &dyn Fn(&str),
) -> Result<Vec<Series>> {
    let pages = scene.pages(backlog(effort.rows), gzip)?;
    let lines = folder.join("lines");
    if programs.iter().any(Program::only_forwards) {
        write_lines(&pages.backlog(), &lines)?;
    }
    let job = Job {
        pages: &pages,
        reports: TRACES,
        lines: Some(&lines),
    };
    let mut all: Vec<Series> = programs
        .iter()
        .map(|program| empty(program.to_string(), pages.backlog().rows()))
        .collect();
    for run in 1..=effort.runs {
        for (program, series) in programs.iter().zip(&mut all) {
            let cost = scene.run(program, &job)?;
            tell(&format!("run {run}: {program}: {cost:?}"));
            series.costs.push(cost);
        }
    }
    if lines.exists() {
        fs::remove_file(&lines)?;
    }
    Ok(all)
}

/// The collector's drains of backlogs of growing size.
pub fn growth(
    scene: &Scene,
    collector: &Program,
    effort: &Effort,
    tell: &dyn Fn(&str),
) -> Result<Vec<Series>> {
    let pages: Vec<_> = effort
        .growth
        .iter()
        .map(|rows| scene.pages(busy_backlog(*rows), false))
        .collect::<Result<_>>()?;
    let mut all: Vec<Series> = pages
        .iter()
        .map(|pages| empty(grouped(pages.backlog().rows()), pages.backlog().rows()))
        .collect();
    for run in 1..=effort.runs {
        for (pages, series) in pages.iter().zip(&mut all) {
            let job = Job {
                pages,
                reports: TRACES,
                lines: None,
            };
            let cost = scene.run(collector, &job)?;
            tell(&format!("run {run}: {} rows: {cost:?}", series.name));
            series.costs.push(cost);
        }
    }
    Ok(all)
}

/// The collector's drains with 1 to 8 services at once.
pub fn services(
    scene: &Scene,
    collector: &Program,
    effort: &Effort,
    tell: &dyn Fn(&str),
) -> Result<Vec<Series>> {
    let pages = scene.pages(sparse_backlog(effort.of_each_service), false)?;
    let rows = pages.backlog().rows();
    let mut all: Vec<Series> = (1..=Report::ALL.len())
        .map(|services| empty(services.to_string(), rows * services as u64))
        .collect();
    for run in 1..=effort.runs {
        for (services, series) in (1..).zip(&mut all) {
            let job = Job {
                pages: &pages,
                reports: &Report::ALL[..services],
                lines: None,
            };
            let cost = scene.run(collector, &job)?;
            tell(&format!("run {run}: {services} services: {cost:?}"));
            series.costs.push(cost);
        }
    }
    Ok(all)
}

fn empty(name: String, rows: u64) -> Series {
    Series {
        name,
        rows,
        costs: Vec::new(),
    }
}

/// What a collector is that has nothing to do.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// MiB resident, with all services up to date after a backlog.
    pub idle_mib: f64,
    /// Share of a core, in percent.
    pub idle_percent: f64,
    /// MiB resident of one that listens nowhere.
    pub unwatched_mib: f64,
    /// MiB resident of one that has been asked for all that it serves, often.
    pub watched_mib: f64,
    /// Milliseconds from the start until it is connected, with all services' state.
    pub connected: Spread,
    /// Milliseconds from the start until its first request was read.
    pub requested: Spread,
}

/// Lets the collector drain all eight services, watches it idle, and starts it again from that state.
pub fn size(scene: &Scene, program: &Path, effort: &Effort) -> Result<Size> {
    let collector = Program::Collector(program.to_owned());
    let pages = scene.pages(sparse_backlog(effort.of_each_service), false)?;
    let job = Job {
        pages: &pages,
        reports: &Report::ALL,
        lines: None,
    };
    let unwatched = scene.folder()?;
    let running = settled(
        scene,
        &Program::Unwatched(program.to_owned()),
        &job,
        &unwatched,
    )?;
    thread::sleep(effort.idle);
    let unwatched_mib = resident(&running)?;
    running.end()?;

    let folder = scene.folder()?;
    let watched = Program::Watched(program.to_owned());
    let running = settled(scene, &watched, &job, &folder)?;
    let (begun, before) = (Instant::now(), running.cpu_so_far()?);
    thread::sleep(effort.idle);
    let used = (running.cpu_so_far()? - before) / begun.elapsed().as_secs_f64();
    let idle_mib = resident(&running)?;
    for path in ["/metrics", "/status", "/", "/log"].repeat(ASKED) {
        watcher::ask(path)?;
    }
    let watched_mib = resident(&running)?;
    running.end()?;

    let old = folder.path().join("old");
    copy(&folder.state(), &old)?;
    let (mut connected, mut requested) = (Vec::new(), Vec::new());
    for _ in 0..effort.runs * 2 {
        fs::remove_dir_all(folder.state())?;
        copy(&old, &folder.state())?;
        pages.forget();
        // Without the delay there is something to ask for at once.
        let mut running = scene.start(&collector, &job, &folder, 1)?;
        running.until(Duration::from_secs(30), || pages.first().request.is_some())?;
        let since = |instant: Option<Instant>| {
            let instant = instant.context("it ended before it asked")?;
            anyhow::Ok((instant - running.started()).as_secs_f64() * 1e3)
        };
        connected.push(since(pages.first().connection)?);
        requested.push(since(pages.first().request)?);
    }
    Ok(Size {
        idle_mib,
        idle_percent: used * 100.0,
        unwatched_mib,
        watched_mib,
        connected: Spread::of(connected),
        requested: Spread::of(requested),
    })
}

/// A collector that has nothing to do any more.
fn settled(scene: &Scene, collector: &Program, job: &Job<'_>, folder: &Folder) -> Result<Running> {
    let mut running = scene.start(collector, job, folder, DELAY)?;
    running.until(Duration::from_mins(5), || committed(folder, job))?;
    // Whatever follows the last commit is over by then.
    thread::sleep(Duration::from_secs(2));
    Ok(running)
}

fn resident(running: &Running) -> Result<f64> {
    Ok(float(running.resident_kib()?) / 1024.0)
}

/// Copies a folder with its folders.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (path, to) = {
            let entry = entry?;
            (entry.path(), to.join(entry.file_name()))
        };
        if path.is_dir() {
            copy(&path, &to)?;
        } else {
            fs::copy(&path, &to)?;
        }
    }
    Ok(())
}

/// A number with its thousands apart.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
