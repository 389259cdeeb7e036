//! The promise as a property: for any schedule of pages, faults, late rows and crashes, every record before the cursor reached
//! every output, and the cursor never moved back.
//!
//! A service result and two relays are simulated; planning, counting, agreement, accounts, ledger and journals are the real
//! ones, on a real folder, driven in the order in which `service`, `walking` and `courier` drive them. Fingerprints are letters.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use proptest::sample::Index;

use super::YOUNG;
use crate::dedup::{Accounts, Agreement, Certainty, Tally, Verdict};
use crate::ledger::{Carried, Cursor, Journal, Ledger, Mark, Owner, StateDirectory};
use crate::record::Fingerprint;
use crate::report::Report;
use crate::window::{Next, Schedule, Span, Window};

const OUTPUTS: [&str; 2] = ["a", "b"];
const PAGE: usize = 3;
const CAP: usize = 12;
/// Rows are within so many units (seconds or hours) of the beginning.
const UNITS: i64 = 30;

/// What happens at one moment: before a page, a delivery, a receipt, a commit.
#[derive(Clone, Debug)]
enum Event {
    Nothing,
    /// A late row.
    Appear(i64, u8),
    Vanish(Index),
    /// The walk has to begin again.
    Again,
    /// The window has to be halved.
    TooMuch,
    /// A receipt does not come.
    Unconfirmed,
    /// The process is killed; what it was just writing is torn here.
    Crash(Index),
    /// Time passes, in units or in days.
    Units(i64),
    Days(i64),
    /// The clock is ahead by so many units until the next window.
    Ahead(i64),
}

#[derive(Clone, Debug)]
struct Case {
    hourly: bool,
    period: u64,
    delay: u64,
    delivery: usize,
    rows: Vec<(i64, u8)>,
    events: Vec<Event>,
}

/// Killed, with what was being written torn.
struct Killed;

struct Output {
    journal: Journal,
    waiting: Vec<Fingerprint>,
    mark: Option<Mark>,
}

/// What the relay of an output has read, over all runs.
#[derive(Default)]
struct Relay {
    read: HashMap<Fingerprint, u32>,
    /// Written, but unconfirmed when the connection or the process ended.
    unconfirmed: usize,
}

struct World {
    case: Case,
    schedule: Schedule,
    now: DateTime<Utc>,
    ahead: TimeDelta,
    rows: Vec<(DateTime<Utc>, u8)>,
    /// Whether the result has changed.
    changed: bool,
    /// The next event.
    at: usize,
    relays: [Relay; 2],
    /// How many records of each kind are before the cursor.
    due: HashMap<Fingerprint, u32>,
    furthest: DateTime<Utc>,
}

/// One process.
struct Run {
    ledger: Ledger,
    outputs: Vec<Output>,
    accounts: Accounts,
    span: Span,
}

fn begin() -> DateTime<Utc> {
    DateTime::from_timestamp(1_770_000_000 / 86_400 * 86_400, 0).unwrap()
}

impl World {
    fn new(case: &Case) -> Self {
        let service = if case.hourly {
            "DlpDetail"
        } else {
            "MessageTrace"
        };
        let report = Report::by_service(&format!("office365_reporting_{service}_service")).unwrap();
        let unit = if case.hourly { 3_600 } else { 1 };
        let (period, delay) = (
            Duration::from_secs(case.period * unit),
            Duration::from_secs(case.delay * unit),
        );
        let mut world = World {
            schedule: Schedule::new(report, None, period, delay),
            now: begin() + TimeDelta::from_std(delay).unwrap(),
            ahead: TimeDelta::zero(),
            rows: vec![],
            changed: false,
            at: 0,
            relays: Default::default(),
            due: HashMap::new(),
            furthest: begin(),
            case: case.clone(),
        };
        world.rows = case
            .rows
            .iter()
            .map(|(time, kind)| (begin() + world.units(*time), *kind))
            .collect();
        world
    }

    fn report(&self) -> &'static Report {
        let service = if self.case.hourly {
            "DlpDetail"
        } else {
            "MessageTrace"
        };
        Report::by_service(&format!("office365_reporting_{service}_service")).unwrap()
    }

    fn units(&self, count: i64) -> TimeDelta {
        if self.case.hourly {
            TimeDelta::hours(count)
        } else {
            TimeDelta::seconds(count)
        }
    }

    fn clock(&self) -> DateTime<Utc> {
        self.now + self.ahead
    }

    /// A row of a report of instants tells its time; rows of different hours may be the same.
    fn fingerprint(&self, (time, kind): (DateTime<Utc>, u8)) -> Fingerprint {
        let mut bytes = [kind; 16];
        if !self.case.hourly {
            bytes[..8].copy_from_slice(&time.timestamp().to_le_bytes());
        }
        Fingerprint(bytes)
    }

    /// Lets the next event happen.
    fn event(&mut self) -> Event {
        let event = self
            .case
            .events
            .get(self.at)
            .cloned()
            .unwrap_or(Event::Nothing);
        self.at += 1;
        match &event {
            Event::Appear(time, kind) => {
                let row = (begin() + self.units(*time), *kind);
                if row.0 > self.now - YOUNG {
                    self.changed = true;
                    let place = self
                        .rows
                        .iter()
                        .position(|known| *known >= row)
                        .unwrap_or(self.rows.len());
                    self.rows.insert(place, row);
                }
            }
            Event::Vanish(index) if !self.rows.is_empty() => {
                let place = index.index(self.rows.len());
                if self.rows[place].0 > self.now - YOUNG {
                    self.changed = true;
                    self.rows.remove(place);
                }
            }
            Event::Units(count) => self.now += self.units(*count),
            Event::Days(count) => {
                self.changed = true;
                self.now += TimeDelta::days(*count);
            }
            Event::Ahead(count) => self.ahead = self.units(*count),
            _ => {}
        }
        event
    }

    /// The result of a query: newest first, cut off at the cap, without what is too old.
    fn result(&self, window: Window) -> Vec<Fingerprint> {
        let (first, last) = self.schedule.asked(window);
        let hour = |time: DateTime<Utc>| time.timestamp() / 3_600;
        let kept = |row: &&(DateTime<Utc>, u8)| {
            let asked = if self.case.hourly {
                (hour(first)..=hour(last)).contains(&hour(row.0))
            } else {
                (first..=last).contains(&row.0)
            };
            asked && self.schedule.deleted(row.0) >= self.now
        };
        let mut rows: Vec<_> = self.rows.iter().filter(kept).copied().collect();
        rows.sort_unstable_by(|one, other| other.cmp(one));
        rows.truncate(CAP);
        rows.into_iter().map(|row| self.fingerprint(row)).collect()
    }
}

/// How a walk ended, as in `walking`.
enum Walked {
    Whole(Tally, HashMap<Fingerprint, u32>, bool),
    TooMuch,
    Again,
    Aged,
}

fn count(rows: &[Fingerprint]) -> HashMap<Fingerprint, u32> {
    let mut counts = HashMap::new();
    for row in rows {
        *counts.entry(*row).or_default() += 1;
    }
    counts
}

/// Of each kind as many as both have.
fn least(one: &mut HashMap<Fingerprint, u32>, other: &HashMap<Fingerprint, u32>) {
    for (row, count) in one {
        *count = (*count).min(other.get(row).copied().unwrap_or(0));
    }
}

impl Run {
    /// As `Service::open`.
    fn open(world: &World, folder: &Path) -> Self {
        let owner = Owner {
            input: "in",
            id: "1",
            service: "svc",
        };
        let mut ledger = StateDirectory::open(folder)
            .unwrap()
            .ledger(owner, &OUTPUTS)
            .unwrap();
        if ledger.cursor().is_none() {
            let first = Cursor::begin(begin(), "t".to_owned(), None);
            ledger.commit(first).unwrap();
        }
        let cursor = ledger.cursor().unwrap().at;
        let output = |journal| Output {
            journal,
            waiting: vec![],
            mark: None,
        };
        let outputs = ledger.take_journals().into_iter().map(output).collect();
        let accounts = Accounts::open(ledger.take_confirmed(), ledger.unfinished(), cursor);
        Run {
            ledger,
            outputs,
            accounts,
            span: world.schedule.first_span(world.report()),
        }
    }

    fn cursor(&self) -> DateTime<Utc> {
        self.ledger.cursor().unwrap().at
    }

    /// As `Service::collect_what_comes`, until everything is collected.
    fn collect_all(&mut self, world: &mut World) -> Result<(), Killed> {
        let end = begin() + world.units(UNITS);
        while self.cursor() <= end || world.at < world.case.events.len() {
            if matches!(world.event(), Event::Crash(_)) {
                return Err(Killed);
            }
            let oldest = world.schedule.oldest(world.clock());
            if self.cursor() < oldest {
                self.confirm_all(world)?;
                self.commit(world, oldest, None)?;
                continue;
            }
            match self.accounts.next(
                &world.schedule,
                self.cursor(),
                world.clock(),
                self.span.current(),
            ) {
                Next::Wait(until) => world.now = world.now.max(until - world.ahead),
                Next::Collect(window) => self.collect(world, window)?,
            }
        }
        Ok(())
    }

    /// As `Service::collect`.
    fn collect(&mut self, world: &mut World, mut window: Window) -> Result<(), Killed> {
        let mut agreement = Agreement::default();
        self.accounts.begin(window);
        let (tally, due) = loop {
            let young = window.end > world.clock() - YOUNG;
            let (tally, mut due, capped) = match self.walk(world, window, agreement.certainty())? {
                Walked::Aged => return Ok(()),
                Walked::Again => continue,
                Walked::TooMuch => {
                    self.span.narrow(window);
                    if let Some(half) = world.schedule.halve(window) {
                        (window, agreement) = (half, Agreement::default());
                    }
                    continue;
                }
                Walked::Whole(tally, due, capped) => (tally, due, capped),
            };
            let seen = self.accounts.totals(&tally);
            match agreement.take(tally, young) {
                Verdict::WalkAgain => {}
                Verdict::Settled(tally) if !capped => break (tally, due),
                Verdict::Settled(tally) | Verdict::Unsettled(tally) => {
                    // What never stood still, or is cut off, can be missed: and is said to be.
                    least(&mut due, &seen);
                    break (tally, due);
                }
            }
        };
        self.span.walked(window, tally.rows());
        self.confirm_all(world)?;
        world.ahead = TimeDelta::zero();
        if window.end > world.schedule.settled(world.clock()) {
            return Ok(());
        }
        self.commit(world, window.end, Some(&tally))?;
        for (row, count) in due {
            let known = world.due.entry(row).or_default();
            // A row at the boundary comes with both windows.
            *known = if world.case.hourly {
                *known + count
            } else {
                count.max(*known)
            };
        }
        Ok(())
    }

    /// As `Service::walk`, with the rows that were there all the time.
    fn walk(
        &mut self,
        world: &mut World,
        window: Window,
        certainty: Certainty<'_>,
    ) -> Result<Walked, Killed> {
        let mut tally = Tally::default();
        let may_halve = world.schedule.halve(window).is_some();
        let mut due = count(&world.result(window));
        let mut shown = 0;
        loop {
            let event = world.event();
            if world.schedule.deleted(window.start) < world.clock() {
                return Ok(Walked::Aged);
            }
            let result = world.result(window);
            least(&mut due, &count(&result));
            match event {
                Event::Crash(_) => return Err(Killed),
                Event::Again => return Ok(Walked::Again),
                Event::TooMuch if may_halve => return Ok(Walked::TooMuch),
                _ => {}
            }
            let page = &result[shown.min(result.len())..(shown + PAGE).min(result.len())];
            self.sort(world, page, &mut tally, certainty)?;
            shown += PAGE;
            if page.len() < PAGE {
                let capped = tally.rows() >= CAP as u64;
                return Ok(if capped && may_halve {
                    Walked::TooMuch
                } else {
                    Walked::Whole(tally, due, capped)
                });
            }
        }
    }

    /// As `Service::sort` and `Courier::take`.
    fn sort(
        &mut self,
        world: &mut World,
        page: &[Fingerprint],
        tally: &mut Tally,
        certainty: Certainty<'_>,
    ) -> Result<(), Killed> {
        let mark = self.ledger.mark(self.accounts.horizon());
        let mut batches = vec![vec![]; OUTPUTS.len()];
        tally.turn_page();
        for row in page {
            let kind = self.accounts.kind(*row);
            let certain = tally.count(kind, certainty);
            for (new, batch) in self.accounts.claim(kind, certain).zip(&mut batches) {
                if new {
                    batch.push(*row);
                }
            }
        }
        for (place, batch) in batches
            .into_iter()
            .enumerate()
            .filter(|(_, batch)| !batch.is_empty())
        {
            if self.outputs[place].mark.is_some_and(|known| known != mark) {
                self.confirm(world, place)?;
            }
            self.outputs[place].mark = Some(mark);
            for row in batch {
                self.outputs[place].waiting.push(row);
                if self.outputs[place].waiting.len() >= world.case.delivery {
                    self.confirm(world, place)?;
                }
            }
        }
        Ok(())
    }

    fn confirm_all(&mut self, world: &mut World) -> Result<(), Killed> {
        (0..OUTPUTS.len()).try_for_each(|place| self.confirm(world, place))
    }

    /// As `Courier::send`: delivers what waits, until it is confirmed and journalled.
    fn confirm(&mut self, world: &mut World, place: usize) -> Result<(), Killed> {
        let output = &mut self.outputs[place];
        let (Some(mark), false) = (output.mark, output.waiting.is_empty()) else {
            return Ok(());
        };
        let path = self
            .ledger
            .folder()
            .join(format!("journal.{}", OUTPUTS[place]));
        loop {
            output.journal.reserve(mark, output.waiting.len()).unwrap();
            let event = world.event();
            let written = match event {
                Event::Crash(index) => index.index(output.waiting.len() + 1),
                _ => output.waiting.len(),
            };
            let relay = &mut world.relays[place];
            for row in &output.waiting[..written] {
                *relay.read.entry(*row).or_default() += 1;
            }
            match event {
                Event::Crash(_) => {
                    relay.unconfirmed += written;
                    return Err(Killed);
                }
                Event::Unconfirmed => {
                    relay.unconfirmed += written;
                    continue;
                }
                _ => {}
            }
            let before = fs::metadata(&path).unwrap().len();
            output.journal.confirm(mark, &output.waiting).unwrap();
            if let Event::Crash(index) = world.event() {
                let whole = fs::read(&path).unwrap();
                let length = usize::try_from(before).unwrap();
                let length = length + index.index(whole.len() - length + 1);
                fs::write(&path, &whole[..length]).unwrap();
                world.relays[place].unconfirmed += written;
                return Err(Killed);
            }
            output.waiting.clear();
            return Ok(());
        }
    }

    /// As `Service::commit`.
    fn commit(
        &mut self,
        world: &mut World,
        end: DateTime<Utc>,
        tally: Option<&Tally>,
    ) -> Result<(), Killed> {
        let until = self
            .accounts
            .settle(end, tally, world.schedule.boundary_comes_twice());
        let mut next = self.ledger.cursor().unwrap().clone();
        (next.at, next.until) = (end, until);
        let carried = OUTPUTS.iter().zip(self.accounts.fingerprints());
        next.carried = carried
            .map(|(output, fingerprints)| Carried {
                output: (*output).to_owned(),
                fingerprints,
            })
            .collect();
        if let Event::Crash(index) = world.event() {
            let torn = vec![b'x'; index.index(100)];
            fs::write(self.ledger.folder().join("cursor.new"), torn).unwrap();
            return Err(Killed);
        }
        assert!(
            end > world.furthest,
            "the cursor went from {} to {end}",
            world.furthest
        );
        world.furthest = end;
        self.ledger.commit(next).unwrap();
        Ok(())
    }
}

fn check(case: &Case) {
    // Every receipt and commit is synced, which a real disk takes its time for.
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    };
    let folder = tempfile::tempdir_in(place).unwrap();
    let mut world = World::new(case);
    while Run::open(&world, folder.path())
        .collect_all(&mut world)
        .is_err()
    {
        assert_eq!(
            Run::open(&world, folder.path()).cursor(),
            world.furthest,
            "a restart finds the cursor"
        );
    }
    for relay in &world.relays {
        for (row, due) in &world.due {
            let read = relay.read.get(row).copied().unwrap_or(0);
            assert!(
                read >= *due,
                "{due} of row {:?} are due, {read} were read",
                row.0
            );
        }
        let sum = |counts: &HashMap<_, u32>| counts.values().sum::<u32>() as usize;
        let (read, due) = (sum(&relay.read), sum(&world.due));
        assert!(
            world.changed || read <= due + relay.unconfirmed,
            "{read} read, {due} due, {} unconfirmed",
            relay.unconfirmed
        );
    }
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        20 => Just(Event::Nothing),
        4 => (0..UNITS, 0_u8..5).prop_map(|(time, kind)| Event::Appear(time, kind)),
        2 => any::<Index>().prop_map(Event::Vanish),
        16 => others(),
        1 => (1_i64..12).prop_map(Event::Days),
    ]
}

/// Events that leave the result as it is.
fn others() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => Just(Event::Nothing),
        1 => Just(Event::Again),
        2 => Just(Event::TooMuch),
        2 => Just(Event::Unconfirmed),
        2 => any::<Index>().prop_map(Event::Crash),
        2 => (1_i64..10).prop_map(Event::Units),
        1 => (1_i64..10).prop_map(Event::Ahead),
    ]
}

fn case<E: Strategy<Value = Event>>(event: E) -> impl Strategy<Value = Case> {
    let rows = prop::collection::vec((0..UNITS, 0_u8..5), 0..40);
    let events = prop::collection::vec(event, 0..60);
    let plan = (any::<bool>(), 1_u64..8, 1_u64..30, 1_usize..8);
    (plan, rows, events).prop_map(|((hourly, period, delay, delivery), mut rows, events)| {
        rows.sort_unstable();
        Case {
            hourly,
            period,
            delay,
            delivery,
            rows,
            events,
        }
    })
}

proptest! {
    #[test]
    fn every_record_before_the_cursor_reached_every_output(case in case(event())) {
        check(&case);
    }

    #[test]
    fn what_comes_twice_of_a_result_that_stands_still_was_unconfirmed(case in case(others())) {
        check(&case);
    }
}
