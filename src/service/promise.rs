//! The promise as a property, on the real service: for any schedule of faults and restarts, every record before the cursor reached every
//! output, none came twice but for what was not confirmed, and the cursor never moved back.
//!
//! The service, its deduplication, deliveries, ledger and journals are those that ship, on files in memory; source, relays, clocks, chance
//! and the moments of death are drawn from one printed seed, in simulated time. `PROMISE_DAYS` says how many days (20 if it is not set)
//! from which seed on (`PROMISE_FIRST`, else 1); `PROMISE_SEED` replays one, and `PROMISE_TRACE` names a file for what happened in it.

mod peers;
mod world;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rand::RngExt as _;
use tokio_util::sync::CancellationToken;

use self::peers::{ScriptedRelay, ScriptedSource, Shared};
use self::world::{Case, World, beginning};
use super::{Service, Surround};
use crate::budget::Budget;
use crate::clock::{Chance, WallClock};
use crate::config::Config;
use crate::delivery;
use crate::ledger::script::{self, Moment};
use crate::ledger::{Account, Entry, Outcome, Owner, Reading, StateDirectory, refuse_writes};
use crate::messages::Told;
use crate::monitoring::Monitor;
use crate::report::{Origin, Paging, Resolution};
use crate::source::Source;
use crate::source::concurrency::{Concurrency, Overall, Share};
use crate::window::Window;

const OUTPUTS: usize = 2;

/// How a life of the process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Killed,
    Stopped,
    Finished,
}

fn case(seed: u64) -> Case {
    let kinds = [
        (Resolution::Instant, Paging::ByPosition),
        (Resolution::Instant, Paging::ByKey),
        (Resolution::Hour, Paging::ByPosition),
        (Resolution::Day, Paging::ByPosition),
    ];
    let (resolution, paging) = kinds[usize::try_from(seed % 4).unwrap()];
    let troubles = [0.0, 0.3, 1.0];
    Case {
        seed,
        resolution,
        paging,
        delay: Duration::from_secs([600, 3_600, 90_000][usize::try_from(seed / 4 % 3).unwrap()]),
        days: 1,
        rows_a_day: 300,
        trouble: troubles[usize::try_from(seed / 12 % 3).unwrap()],
        changes: false,
        passes: &[],
    }
}

/// A service with early passes, over instants and over hours, with one or two services for message traces.
fn early(seed: u64) -> Case {
    let kinds = [
        (Resolution::Instant, Paging::ByPosition, false),
        (Resolution::Instant, Paging::ByKey, false),
        (Resolution::Hour, Paging::ByPosition, false),
        (Resolution::Instant, Paging::ByPosition, true),
    ];
    let passes: [&[u32]; 3] = [&[300], &[300, 1_800], &[60, 600, 3_000]];
    let (resolution, paging, changes) = kinds[usize::try_from(seed % 4).unwrap()];
    Case {
        resolution,
        paging,
        changes,
        delay: Duration::from_secs([3_600, 14_400][usize::try_from(seed % 2).unwrap()]),
        passes: passes[usize::try_from(seed % 3).unwrap()],
        trouble: [1.0, 0.3, 0.0][usize::try_from(seed / 4 % 3).unwrap()],
        ..case(seed)
    }
}

/// Message traces of a tenant that has two services for them.
fn changing(seed: u64) -> Case {
    Case {
        resolution: Resolution::Instant,
        paging: Paging::ByPosition,
        changes: true,
        rows_a_day: 2_500,
        ..case(12 + seed)
    }
}

fn configuration(case: &Case, passes: &[u32]) -> Config {
    let service = match case.resolution {
        Resolution::Instant => "office365_reporting_MessageTrace_service",
        Resolution::Hour => "office365_reporting_DlpDetail_service",
        Resolution::Day => "office365_reporting_SafelinksDetail_service",
    };
    let start = beginning().format("%Y-%m-%dT%H:%M:%SZ");
    let passes = if passes.is_empty() {
        String::new()
    } else {
        format!("{passes:?}")
    };
    let text = format!(
        "globals: {{id: 1, name: promise}}\n\
         outputs:\n  a: {{type: syslog, config: {{address: relay-0, port: 514}}}}\n  b: {{type: syslog, config: {{address: relay-1, port: 514}}}}\n\
         inputs:\n  in:\n    id: 1\n    credentials: {{tenant_id: t, client_id: c, client_secret: s}}\n    services:\n      {service}:\n        \
         start_time: {start}\n        override_time_delay_in_seconds: {}\n        request_period_in_seconds: 60\n        early_passes_in_seconds: {passes}\n",
        case.delay.as_secs()
    );
    let now = beginning() + TimeDelta::days(1);
    crate::config::read(Path::new("config.yaml"), &text, now)
        .unwrap()
        .config
}

struct Simulation {
    shared: Shared,
    config: Config,
    /// What the monitor asks for an input's state; nothing is asked of it.
    client: crate::source::Client,
    state: tempfile::TempDir,
    cursor: DateTime<Utc>,
}

impl Simulation {
    fn new(case: &Case) -> Self {
        let world = Arc::new(Mutex::new(World::new(case, OUTPUTS)));
        let memory = Path::new(crate::ledger::MEMORY);
        let config = configuration(case, case.passes);
        Simulation {
            client: crate::source::Client::new(&config.inputs[0]).unwrap(),
            config,
            shared: Shared {
                world,
                time: WallClock::default(),
            },
            state: tempfile::tempdir_in(memory).unwrap(),
            cursor: beginning(),
        }
    }

    /// Runs the service until everything is collected, over as many lives as it takes.
    fn run(&mut self) {
        let case = self.shared.world().case.clone();
        let end = beginning() + TimeDelta::days(case.days);
        let delay = TimeDelta::from_std(case.delay).unwrap();
        // All of it has settled by then, and there is a day to catch up.
        let until = end + delay + TimeDelta::hours(30);
        let mut now = beginning() + delay.min(TimeDelta::minutes(1));
        let mut lives = 0;
        loop {
            self.draw_passes();
            let (ended, at) = self.live(now, until);
            now = at;
            let reading = self.reading();
            let cursor = reading.cursor.unwrap();
            assert!(
                cursor.at >= self.cursor,
                "the cursor moved back to {}",
                cursor.at
            );
            self.cursor = cursor.at;
            if ended == End::Finished {
                break;
            }
            lives += 1;
            let told = format!("life {lives} ended: {ended:?}, cursor {}", cursor.at);
            self.shared.world().note(now, told);
            assert!(lives < 2_000, "it does not come to its end");
            now += TimeDelta::seconds(self.shared.world().chance.random_range(1..60));
        }
    }

    /// Each life may have other early passes.
    fn draw_passes(&mut self) {
        let mut world = self.shared.world();
        let mut passes = world.case.passes.to_vec();
        if world.case.trouble > 0.0 {
            passes.retain(|_| world.chance.random_bool(0.8));
        }
        self.config = configuration(&world.case, &passes);
    }

    /// One life of the process, from `now` on; tells how it ended, and when.
    fn live(&mut self, now: DateTime<Utc>, until: DateTime<Utc>) -> (End, DateTime<Utc>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        // Time is Tokio's, which is that of this runtime only inside of it.
        let ended = runtime.block_on(async {
            self.shared.time = WallClock::simulated(now);
            let ended = self.live_until(now, until).await;
            (ended, self.shared.time.now())
        });
        script::set(None);
        refuse_writes(0);
        drop(runtime);
        let mut world = self.shared.world();
        world.killed = false;
        for relay in &mut world.relays {
            let last = std::mem::take(&mut relay.last);
            if ended.0 == End::Killed {
                for last in &last {
                    relay.may_come_again(last);
                }
            }
        }
        ended
    }

    async fn live_until(&self, now: DateTime<Utc>, until: DateTime<Utc>) -> End {
        {
            let shared = self.shared.clone();
            self.script_disk();
            let (mut chance_of_death, wrong) = {
                let mut world = shared.world();
                let wrong = world.happens(0.2, now);
                let most = if world.case.changes { 2_000 } else { 40_000 };
                (world.chance.random_range(60..most), wrong)
            };
            if self.shared.world().case.trouble == 0.0 {
                chance_of_death = u64::MAX / 4_000;
            }
            let wall = WallClock::simulated(now);
            {
                let mut world = shared.world();
                if world.case.changes {
                    let graph = world.chance.random_bool(0.5);
                    world.origin = if graph {
                        Origin::Graph
                    } else {
                        Origin::ReportingService
                    };
                    let told = format!("asks {}", world.origin.name());
                    world.note(now, told);
                }
                world.heard = None;
                world.service_skew = TimeDelta::zero();
                world.directory_skew = TimeDelta::zero();
            }
            if wrong {
                self.set_a_clock_wrong(&wall);
            }
            let stop = CancellationToken::new();
            let service = self.open(&wall, &stop);
            let run = service.run();
            tokio::pin!(run);
            let troubles = self.trouble(&shared);
            tokio::pin!(troubles);
            let dies = tokio::time::sleep(Duration::from_secs(chance_of_death));
            tokio::pin!(dies);
            let mut stopping = false;
            loop {
                tokio::select! {
                    biased;
                    () = &mut run => return if stopping { End::Stopped } else { panic!("it ended by itself") },
                    () = &mut dies, if !stopping => {
                        if shared.world().chance.random_bool(0.5) {
                            return End::Killed;
                        }
                        stopping = true;
                        stop.cancel();
                    }
                    () = &mut troubles => unreachable!(),
                    () = tokio::time::sleep(Duration::from_secs(30)) => {
                        if shared.world().killed {
                            return End::Killed;
                        }
                        if shared.time.now() >= until {
                            return End::Finished;
                        }
                    }
                }
            }
        }
    }

    fn open(&self, wall: &WallClock, stop: &CancellationToken) -> Service {
        let state = StateDirectory::open(self.state.path()).unwrap();
        let input = &self.config.inputs[0];
        let service = &input.services[0];
        let dial = |output: usize| -> Arc<dyn crate::relay::scripted::Dial> {
            let shared = self.shared.clone();
            Arc::new(ScriptedRelay { shared, output })
        };
        let names = self.config.outputs.iter().map(|output| output.name.clone());
        let peers: HashMap<_, _> = names.zip((0..OUTPUTS).map(dial)).collect();
        let shared = delivery::Shared::scripted(&state, wall, peers).unwrap();
        let monitor = Monitor::new(&self.config, std::slice::from_ref(&self.client)).unwrap();
        let seed = self.shared.world().chance.random();
        let surround = Surround {
            budget: Budget::new(64 << 10),
            wall: wall.clone(),
            chance: Chance::seeded(seed),
            monitor: monitor.services_of(&input.name).remove(0),
            told: Told::default(),
            offset: Duration::ZERO,
            stop: stop.clone(),
        };
        let source = |ledger: &super::Ledger| {
            let fingerprinter = ledger.fingerprinter(service.report);
            let source = ScriptedSource::new(self.shared.clone(), fingerprinter);
            let share = Share::new(&Arc::new(Concurrency::new(4, &Overall::default())));
            (Arc::new(source) as Arc<dyn Source>, share)
        };
        let outputs = (self.config.outputs.as_slice(), &shared);
        Service::open(&state, input, service, outputs, source, surround).unwrap()
    }

    /// Kills the process before or after a write now and then, and tears what was being written.
    fn script_disk(&self) {
        let shared = self.shared.clone();
        let folder = self.state.path().to_owned();
        let mut lengths = BTreeMap::new();
        script::set(Some(Box::new(move |moment| {
            let now = shared.time.now();
            let mut world = shared.world();
            if world.killed {
                return true;
            }
            if moment == Moment::Before {
                lengths = journals(&folder);
                if world.happens(0.003, now) {
                    refuse_writes(world.chance.random_range(1..4));
                }
            }
            if !world.happens(0.001, now) {
                return false;
            }
            world.killed = true;
            if moment == Moment::After {
                for (path, length) in journals(&folder) {
                    let before = lengths.get(&path).copied().unwrap_or(length);
                    if length > before && world.chance.random_bool(0.5) {
                        let torn = world.chance.random_range(before..length);
                        let file = std::fs::File::options().write(true).open(&path).unwrap();
                        file.set_len(torn).unwrap();
                    }
                }
            }
            true
        })));
    }

    fn set_a_clock_wrong(&self, wall: &WallClock) {
        let mut world = self.shared.world();
        let by = TimeDelta::minutes(world.chance.random_range(-50_000..50_000));
        match world.chance.random_range(0..3) {
            0 => world.service_skew = by,
            1 => world.directory_skew = by,
            _ => wall.set(by),
        }
    }

    /// Outages and loops, for as long as it is polled.
    async fn trouble(&self, shared: &Shared) {
        loop {
            tokio::time::sleep(Duration::from_mins(10)).await;
            let now = shared.time.now();
            let mut world = shared.world();
            for output in 0..OUTPUTS {
                if world.happens(0.03, now) {
                    let minutes = world.chance.random_range(1..120);
                    world.away_until[output] = now + TimeDelta::minutes(minutes);
                }
            }
            if world.happens(0.02, now) {
                world.looping_until = now + TimeDelta::seconds(45);
            }
        }
    }

    fn owner(&self) -> Owner<'_> {
        let input = &self.config.inputs[0];
        Owner {
            input: &input.name,
            id: &input.id,
            service: input.services[0].report.service,
        }
    }

    fn reading(&self) -> Reading {
        Reading::of(self.state.path(), self.owner()).unwrap()
    }

    /// What the audit says of each hour against the rows that it had.
    fn check_audit(&self) {
        let world = self.shared.world();
        let account = Account::of(self.state.path(), self.owner()).unwrap();
        let unit = match world.case.resolution {
            Resolution::Instant | Resolution::Hour => TimeDelta::hours(1),
            Resolution::Day => TimeDelta::days(1),
        };
        let (mut start, end) = (beginning(), beginning() + TimeDelta::days(world.case.days));
        let mut complete = 0;
        while start < end {
            let hour = Window {
                start,
                end: start + unit,
            };
            start = hour.end;
            let summary = account.summary(hour, TimeDelta::days(7), hour.end);
            if world.case.trouble == 0.0 {
                assert!(summary.is_complete(), "{hour}: {summary:?}");
            }
            if !summary.is_complete() {
                continue;
            }
            complete += 1;
            let (least, most) = world.records_of(hour);
            assert!(
                (least..=most).contains(&summary.records),
                "{hour}: {least} to {most} records, not {}",
                summary.records
            );
            let settled = { account.stretches.iter() }.find(|one| one.window() == hour);
            let rows = settled.map(|one| one.shown.rows);
            if world.case.trouble == 0.0 && !world.case.changes {
                assert_eq!(rows, Some(summary.records), "{hour}");
            }
        }
        assert!(complete > 0, "the audit knows nothing");
    }

    /// What was delivered against what had to be.
    fn check(&self) {
        let world = self.shared.world();
        let cursor = self.reading().cursor.unwrap();
        let end = beginning() + TimeDelta::days(world.case.days);
        assert!(cursor.at >= end, "the cursor is at {}", cursor.at);
        let complete = cursor
            .entries
            .iter()
            .filter(|entry| entry.outcome == Outcome::Complete);
        let passed: Vec<Window> = complete.map(Entry::window).collect();
        let (due, ever) = (world.due(&passed), world.ever());
        for relay in &world.relays {
            for (number, count) in &due {
                let read = relay.read.get(number).copied().unwrap_or_default();
                assert!(
                    read >= *count,
                    "record {number}: {count} are due, {read} were read"
                );
            }
            for (number, read) in &relay.read {
                let known = ever.get(number).copied().unwrap_or_default();
                let again = relay.unconfirmed.get(number).copied().unwrap_or_default();
                assert!(
                    *read <= known + again,
                    "record {number}: {known} exist, {read} were read, {again} without a receipt"
                );
            }
        }
        let gaps = cursor.entries.iter().filter(|entry| entry.outcome.is_gap());
        let gaps: Vec<_> = gaps.collect();
        if world.case.trouble == 0.0 {
            assert!(gaps.is_empty(), "{gaps:?}");
            Self::check_freshness(&world);
        }
    }

    /// In a quiet run what the service shows in time is read after the shortest pass's delay, a period, and a little.
    fn check_freshness(world: &World) {
        let Some(pass) = world.case.passes.first() else {
            return;
        };
        let pass = TimeDelta::seconds(i64::from(*pass));
        let most = match world.case.resolution {
            Resolution::Instant => pass + TimeDelta::seconds(60 + 30),
            _ => pass + TimeDelta::seconds(3_600 + 60 + 30),
        };
        // The first are older than the service.
        let from = beginning() + TimeDelta::hours(2);
        let shown = world
            .rows
            .iter()
            .filter(|row| row.time > from && row.appears <= row.time + pass);
        for relay in &world.relays {
            let (mut all, mut fresh) = (0, 0);
            for row in shown.clone() {
                all += 1;
                let read = relay.first_read.get(&row.number);
                fresh += u32::from(read.is_some_and(|read| *read - row.time <= most));
            }
            assert!(
                all > 100 && fresh * 100 >= all * 95,
                "{fresh} of {all} were read in time"
            );
        }
    }
}

fn journals(folder: &Path) -> BTreeMap<std::path::PathBuf, u64> {
    let mut lengths = BTreeMap::new();
    for service in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        for file in std::fs::read_dir(service.path())
            .into_iter()
            .flatten()
            .flatten()
        {
            if file.file_name().to_string_lossy().starts_with("journal.") {
                let length = file.metadata().map_or(0, |metadata| metadata.len());
                lengths.insert(file.path(), length);
            }
        }
    }
    lengths
}

fn simulate(case: &Case) -> Vec<String> {
    let mut simulation = Simulation::new(case);
    let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        simulation.run();
        simulation.check();
        simulation.check_audit();
    }));
    let world = simulation.shared.world();
    if let Err(failed) = checked {
        if let Some(file) = std::env::var_os("PROMISE_TRACE") {
            std::fs::write(file, world.trace.join("\n")).unwrap();
        }
        drop(world);
        std::panic::resume_unwind(failed);
    }
    world.trace.clone()
}

fn simulate_all(days: u64, case: impl Fn(u64) -> Case) {
    let seeds = if let Ok(seed) = std::env::var("PROMISE_SEED") {
        vec![seed.parse().unwrap()]
    } else {
        let days = std::env::var("PROMISE_DAYS").map_or(days, |days| days.parse().unwrap());
        let first = std::env::var("PROMISE_FIRST").map_or(1, |first| first.parse().unwrap());
        (first..first + days).collect::<Vec<u64>>()
    };
    for seed in seeds {
        eprintln!("PROMISE_SEED={seed}");
        simulate(&case(seed));
    }
}

#[test]
fn every_record_before_the_cursor_reached_every_output_and_none_came_twice() {
    simulate_all(20, case);
}

#[test]
fn a_change_of_source_at_any_moment_skips_and_repeats_nothing() {
    simulate_all(6, changing);
}

#[test]
fn early_passes_skip_and_repeat_nothing_whatever_happens() {
    simulate_all(12, early);
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [26, 28] {
        assert_eq!(simulate(&case(seed)), simulate(&case(seed)));
    }
}
