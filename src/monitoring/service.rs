//! What is known of one service, told by its task: counted once a page or a window, never once a record.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use prometheus::{
    CounterVec, Gauge, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
};
use reqwest::StatusCode;

use super::families::Families;
use super::freshness::Ages;
use super::input::{InputMonitor, timestamp};
use super::late::{Late, Target};
use super::lock;
use super::outlet::OutletMonitor;
use super::pace::Pace;
use super::state::{Facts, State};
use super::trouble::Trouble;
use crate::config::ServiceConfig;
use crate::ledger::{Account, Entry, Outcome, Stretch, Summary};
use crate::report::Origin;
use crate::source::limiter::Waited;
use crate::source::{DIFFERENCE_MAX, Kind, Meter, schedule};
use crate::window::{Schedule, Window};

/// A loop that has not turned for so long hangs: the longest single waits are an hour (a pause that the reporting service asks for) and,
/// for what a relay has to read, a quarter of one.
const HANGS_AFTER: Duration = Duration::from_hours(2);

/// One service.
pub struct ServiceMonitor {
    pub(super) input: Arc<InputMonitor>,
    /// The service's name in the configuration.
    pub(super) name: &'static str,
    pub(super) report: &'static str,
    pub(super) outlets: Vec<Arc<OutletMonitor>>,
    /// The early passes, the shortest delay first.
    pub(super) passes: Vec<Arc<ServiceMonitor>>,
    pub(super) delay: Duration,
    schedule: Schedule,
    stalled_after: Duration,
    counters: Counters,
    gauges: Gauges,
    live: Mutex<Live>,
}

struct Counters {
    unreachable: Late<IntCounterVec>,
    windows: IntCounter,
    walks: Late<IntCounterVec>,
    capped: Late<IntCounterVec>,
    withheld: Late<IntCounterVec>,
    fetched_records: IntCounter,
    fetched_bytes: IntCounter,
    duplicates: IntCounter,
    late: Late<IntCounterVec>,
    /// By [`Class`].
    requests: [Late<IntCounterVec>; 6],
    /// By [`Cause`].
    retries: [Late<IntCounterVec>; 6],
    fetch_duration: Late<HistogramVec>,
    turn_wait: Late<CounterVec>,
    throttled: Late<CounterVec>,
    state_failures: IntCounter,
    /// Of each early pass.
    found: Vec<Found>,
}

/// How late records came, as one early pass saw it.
struct Found {
    delay: u32,
    records: IntCounter,
    settled: IntCounter,
}

struct Gauges {
    /// None for an early pass.
    state: Option<IntGauge>,
    stalled: Late<IntGaugeVec>,
    /// None where there is only one.
    source: Option<IntGauge>,
    lag: Gauge,
    cursor: Gauge,
    deletion: Gauge,
    incomplete: Late<IntGaugeVec>,
}

/// How a request was answered, in metrics.
const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// Why a request had to be made again, in metrics.
#[derive(Clone, Copy)]
enum Cause {
    Connection,
    Throttled,
    Busy,
    Answer,
    Refused,
    SignIn,
}

impl Cause {
    const NAMES: [&str; 6] = [
        "connection",
        "throttled",
        "busy",
        "answer",
        "refused",
        "sign_in",
    ];

    fn of(kind: Kind) -> Self {
        match kind {
            Kind::Unreachable | Kind::TimedOut | Kind::CutShort => Cause::Connection,
            Kind::Throttled => Cause::Throttled,
            Kind::Busy | Kind::ServerError => Cause::Busy,
            Kind::TooLarge
            | Kind::Unsplittable
            | Kind::NotAPage
            | Kind::SignInPage
            | Kind::LinkRejected
            | Kind::LinkRepeated => Cause::Answer,
            Kind::LinkRefused
            | Kind::Moved
            | Kind::Rejected
            | Kind::Unauthorized
            | Kind::Forbidden
            | Kind::NotFound => Cause::Refused,
            Kind::SignInRefused | Kind::SignInFailed => Cause::SignIn,
        }
    }
}

impl Counters {
    fn new(families: &Families, input: &str, config: &ServiceConfig) -> Self {
        let name = config.report.service;
        let found = |delay: &Duration| {
            let seconds = delay.as_secs().to_string();
            let labels = [input, name, &seconds];
            Found {
                delay: u32::try_from(delay.as_secs()).unwrap_or(u32::MAX),
                records: families.pass_records.with_label_values(&labels),
                settled: families.pass_settled.with_label_values(&labels),
            }
        };
        let values = [input, name];
        let labels = Target::new(&families.shown, &values);
        let late = |family: &IntCounterVec| Late::of(family, &labels);
        Counters {
            unreachable: late(&families.unreachable),
            windows: families.windows.with_label_values(&values),
            walks: late(&families.walks),
            capped: late(&families.capped),
            withheld: late(&families.withheld),
            fetched_records: families.fetched_records.with_label_values(&values),
            fetched_bytes: families.fetched_bytes.with_label_values(&values),
            duplicates: families.duplicates.with_label_values(&values),
            late: late(&families.late),
            requests: CLASSES.map(|class| Late::of_word(&families.requests, &labels, class)),
            retries: Cause::NAMES.map(|cause| Late::of_word(&families.retries, &labels, cause)),
            fetch_duration: Late::of(
                &families.fetch_duration,
                &Target::new(&families.shown, &[input]),
            ),
            turn_wait: Late::of(&families.turn_wait, &labels),
            throttled: Late::of(&families.throttled, &labels),
            // There is an alert on its increase.
            state_failures: families.state_failures.with_label_values(&values),
            found: config.early_passes.iter().map(found).collect(),
        }
    }
}

impl Gauges {
    fn new(families: &Families, input: &str, config: &ServiceConfig) -> Self {
        let values = [input, config.report.service];
        let labels = Target::new(&families.shown, &values);
        let has_sources = config.report.has_two_services();
        Gauges {
            source: has_sources.then(|| families.source.with_label_values(&values)),
            state: Some(families.state.with_label_values(&values)),
            stalled: Late::of(&families.stalled, &labels),
            lag: families.lag.with_label_values(&values),
            cursor: families.cursor.with_label_values(&values),
            deletion: families.deletion.with_label_values(&values),
            incomplete: Late::of(&families.incomplete, &labels),
        }
    }

    /// Those of an early pass: its frontier and its lag.
    fn of_pass(families: &Families, input: &str, config: &ServiceConfig) -> Self {
        let delay = config.delay.as_secs().to_string();
        let values = [input, config.report.service, &delay];
        Gauges {
            source: None,
            state: None,
            stalled: Late::never(),
            lag: families.pass_lag.with_label_values(&values),
            cursor: families.pass_frontier.with_label_values(&values),
            deletion: detached(),
            incomplete: Late::never(),
        }
    }
}

/// A gauge that is not shown.
pub(super) fn detached<P: prometheus::core::Atomic>() -> prometheus::core::GenericGauge<P> {
    #[expect(clippy::expect_used, reason = "the name is a valid one")]
    prometheus::core::GenericGauge::new("detached", "Not shown.").expect("a gauge")
}

/// A counter that is not shown.
fn detached_counter() -> IntCounter {
    #[expect(clippy::expect_used, reason = "the name is a valid one")]
    IntCounter::new("detached", "Not shown.").expect("a counter")
}

#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Default)]
struct Live {
    given_up: bool,
    heard: bool,
    refused: bool,
    unwritable: bool,
    cursor: Option<DateTime<Utc>>,
    window: Option<Window>,
    pace: Option<Pace>,
    trouble: Option<Trouble>,
    last_window: Option<DateTime<Utc>>,
    source: Option<Origin>,
    /// The records from this instant on come from it, where others came from elsewhere.
    source_since: Option<DateTime<Utc>>,
    /// What was empty and could not be confirmed to be.
    empty_unconfirmed: TimeDelta,
    last_empty_unconfirmed: Option<Window>,
    /// When records were found to be out of reach.
    loss: Option<DateTime<Utc>>,
    /// What the last days came to.
    audit: Account,
    /// Since when there is something due and the cursor has not moved.
    due: Option<Instant>,
    turned: Option<Instant>,
}

/// What a service is doing, at one instant.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Seen {
    pub(super) state: State,
    pub(super) stalled: bool,
    /// Its loop, and those of its outputs, have not turned for hours.
    pub(super) hangs: bool,
    /// Its state folder cannot be read or written.
    pub(super) unwritable: bool,
    /// The outputs that cannot deliver.
    pub(super) down: Vec<String>,
    /// A window was due, and the reporting service has not answered since the start.
    pub(super) unheard: bool,
    pub(super) trouble: Option<Trouble>,
    pub(super) cursor: Option<DateTime<Utc>>,
    pub(super) lag: Option<TimeDelta>,
    /// How far the cursor is ahead of now, where it is.
    pub(super) ahead: Option<TimeDelta>,
    /// How long it takes to catch up; `None` where it has, or where that is not in sight.
    pub(super) left: Option<Duration>,
    pub(super) window: Option<Window>,
    pub(super) last_window: Option<DateTime<Utc>>,
    /// Where the records come from, where there are two sources.
    pub(super) source: Option<Origin>,
    /// From which instant on, where that has changed.
    pub(super) source_since: Option<DateTime<Utc>>,
    /// Length of what was empty and could not be confirmed to be.
    pub(super) empty_unconfirmed: TimeDelta,
    /// The last of it.
    pub(super) last_empty_unconfirmed: Option<Window>,
    /// When records were last found to be out of reach.
    pub(super) loss: Option<DateTime<Utc>>,
    /// How long a window has been due while the cursor has not moved.
    pub(super) due: Option<Duration>,
    /// How long until Microsoft deletes the first of what is not confirmed.
    pub(super) deletion: Option<TimeDelta>,
}

impl ServiceMonitor {
    pub(super) fn new(
        families: &Families,
        input: &Arc<InputMonitor>,
        config: &ServiceConfig,
        outputs: impl Iterator<Item = impl AsRef<str>>,
        stalled_after: Duration,
    ) -> Arc<Self> {
        let name = config.report.service;
        let outputs: Vec<String> = outputs.map(|output| output.as_ref().to_owned()).collect();
        let outlets = { outputs.iter() }
            .map(|output| OutletMonitor::new(families, &input.name, config, output));
        let passes = config.early_passes.iter();
        let passes = passes.map(|delay| Self::of_pass(families, input, config, &outputs, *delay));
        Arc::new(ServiceMonitor {
            input: Arc::clone(input),
            name,
            report: config.report.path,
            outlets: outlets.collect(),
            passes: passes.collect(),
            delay: config.delay,
            schedule: schedule(config),
            stalled_after,
            counters: Counters::new(families, &input.name, config),
            gauges: Gauges::new(families, &input.name, config),
            live: Live::begin(),
        })
    }

    /// What an early pass is doing. What it fetches and delivers is counted with the rest; its windows are not.
    fn of_pass(
        families: &Families,
        input: &Arc<InputMonitor>,
        config: &ServiceConfig,
        outputs: &[String],
        delay: Duration,
    ) -> Arc<Self> {
        let name = config.report.service;
        let outlets = { outputs.iter() }
            .map(|output| OutletMonitor::of_pass(families, &input.name, config, output));
        let outlets = outlets.collect();
        let config = ServiceConfig {
            delay,
            early_passes: vec![],
            ..config.clone()
        };
        let mut counters = Counters {
            windows: detached_counter(),
            capped: Late::never(),
            unreachable: Late::never(),
            ..Counters::new(families, &input.name, &config)
        };
        if !config.early_passes_deliver {
            // What it finds is fetched again and delivered later.
            counters.fetched_records = detached_counter();
            counters.duplicates = detached_counter();
        }
        Arc::new(ServiceMonitor {
            input: Arc::clone(input),
            name,
            report: config.report.path,
            outlets,
            passes: vec![],
            delay,
            schedule: schedule(&config),
            stalled_after: Duration::MAX,
            counters,
            gauges: Gauges::of_pass(families, &input.name, &config),
            live: Live::begin(),
        })
    }

    /// The monitor of an early pass, counted from the shortest delay.
    pub(crate) fn pass(&self, nth: usize) -> Arc<Self> {
        Arc::clone(&self.passes[nth])
    }

    /// The monitors of its outputs, in the order of the configuration.
    pub fn outlets(&self) -> &[Arc<OutletMonitor>] {
        &self.outlets
    }

    /// Its state could not be opened: for good, or until the next try.
    pub fn not_opened(&self, error: &str, for_good: bool) {
        self.counters.state_failures.inc();
        let mut live = self.turn();
        live.given_up = for_good;
        live.unwritable = true;
        live.trouble = Some(Trouble::new(error, None));
    }

    /// Its state is open, with the cursor there; the last days came to this.
    pub fn opened(&self, cursor: DateTime<Utc>, audit: Account) {
        let mut live = self.turn();
        live.cursor = Some(cursor);
        live.audit = audit;
        live.due = None;
        live.unwritable = false;
        live.ease();
    }

    /// Its records come from there, after `entries`.
    pub fn comes_from(&self, source: Origin, entries: &[Entry]) {
        if self.gauges.source.is_none() {
            return;
        }
        let mut live = self.turn();
        live.source = Some(source);
        let mut latest = entries.iter().rev();
        let switch = latest.find(|entry| matches!(entry.outcome, Outcome::Source { .. }));
        live.source_since = switch.map(|entry| entry.start);
        live.empty_unconfirmed = TimeDelta::zero();
        for entry in entries {
            live.note_empty(entry);
        }
    }

    /// Nothing is due.
    pub fn waits(&self) {
        let mut live = self.turn();
        live.due = None;
        live.pace = None;
        live.window = None;
    }

    /// Whether nothing is due, neither here nor of an early pass.
    pub(crate) fn is_idle(&self) -> bool {
        self.live().due.is_none() && self.passes.iter().all(|pass| pass.is_idle())
    }

    /// A window is due and begun.
    pub fn collects(&self, window: Window) {
        let mut live = self.turn();
        let now = Instant::now();
        live.due.get_or_insert(now);
        live.window = Some(window);
        if live.pace.is_none() {
            live.pace = live.cursor.map(|cursor| Pace::begin(now, cursor));
        }
    }

    /// A walk of the window has begun.
    pub fn walks(&self) {
        self.counters.walks.inc();
        drop(self.turn());
    }

    /// A page has come with so many rows, so many of them new; `again` if the window has been walked before.
    pub fn sorted(&self, rows: u64, new: u64, again: bool) {
        self.counters.fetched_records.inc_by(rows);
        self.counters.duplicates.inc_by(rows.saturating_sub(new));
        if again {
            self.counters.late.inc_by(new);
        }
    }

    /// The reporting service has answered as it should.
    pub fn answered(&self) {
        let mut live = self.turn();
        live.heard = true;
        live.refused = false;
        live.ease();
    }

    /// Asking has failed, and is tried again; `refused` if only a person can mend it.
    pub fn failed(&self, kind: Kind, refused: bool, error: &str, action: Option<&str>) {
        self.counters.retries[Cause::of(kind) as usize].inc();
        let mut live = self.turn();
        live.refused = refused;
        live.trouble = Some(Trouble::new(error, action));
    }

    /// This became of a window that the cursor has passed.
    pub fn settled(&self, entry: &Entry) {
        match &entry.outcome {
            Outcome::Unreachable => {
                let seconds = entry.window().length().num_seconds();
                let seconds = u64::try_from(seconds).unwrap_or_default();
                self.counters.unreachable.inc_by(seconds);
            }
            Outcome::Capped => self.counters.capped.inc(),
            Outcome::Withheld => self.counters.withheld.inc(),
            _ => {}
        }
        if entry.outcome != Outcome::Unreachable {
            self.counters.windows.inc();
        }
        let mut live = self.turn();
        live.note_empty(entry);
        if let Outcome::Unreachable | Outcome::Capped | Outcome::Withheld = entry.outcome {
            live.loss = Some(Utc::now());
        }
        if entry.outcome != Outcome::Unreachable {
            live.last_window = Some(Utc::now());
        }
    }

    /// The cursor has been written there.
    pub fn moved(&self, cursor: DateTime<Utc>) {
        let mut live = self.turn();
        let now = Instant::now();
        live.cursor = Some(cursor);
        live.audit.moved(cursor);
        if live.unwritable {
            live.unwritable = false;
            live.ease();
        }
        live.due = live.due.map(|_| now);
        if let Some(pace) = &mut live.pace {
            pace.note(now, cursor);
        }
    }

    /// This has settled with the cursor.
    pub fn hours_settled(&self, settled: &[Stretch]) {
        for stretch in settled {
            self.count_found(stretch);
        }
        self.turn().audit.take(settled);
    }

    /// Counts what was there by which delay, of what came in the end.
    fn count_found(&self, stretch: &Stretch) {
        for found in stretch.found.passes() {
            let mut passes = self.counters.found.iter();
            if let Some(of) = passes.find(|of| of.delay == found.delay) {
                of.records.inc_by(found.records.min(stretch.records));
                of.settled.inc_by(stretch.records);
            }
        }
    }

    /// What the last days came to: which hours, in all, and one by one.
    pub(super) fn audited(&self) -> Option<(Window, Summary, Vec<Stretch>)> {
        let live = self.live();
        let (range, summary) = self.summary(&live.audit)?;
        let within = { live.audit.stretches.iter() }.filter(|one| one.window().overlaps(range));
        Some((range, summary, within.cloned().collect()))
    }

    fn summary(&self, audit: &Account) -> Option<(Window, Summary)> {
        let now = self.input.now();
        let range = audit.settled_recently()?;
        let reach = self.schedule.deleted(now) - now;
        Some((range, audit.summary(range, reach, now)))
    }

    /// The cursor could not be written.
    pub fn not_written(&self, error: &str) {
        self.counters.state_failures.inc();
        let mut live = self.turn();
        live.unwritable = true;
        live.trouble = Some(Trouble::new(error, None));
    }

    /// What the service is doing now.
    pub(super) fn seen(&self) -> Seen {
        let outlets: Vec<_> = self.outlets.iter().map(|outlet| outlet.seen()).collect();
        let names = self.outlets.iter().map(|outlet| &outlet.output);
        let down = names.zip(&outlets).filter(|(_, outlet)| outlet.down);
        let down: Vec<_> = down.map(|(name, _)| name.clone()).collect();
        let (now, present) = (self.input.now(), Instant::now());
        let live = self.live();
        let due = live
            .due
            .map(|since| present.saturating_duration_since(since));
        let stalled = !live.given_up && due.is_some_and(|due| due >= self.stalled_after);
        let backlog = live
            .cursor
            .and_then(|cursor| self.schedule.backlog(cursor, now));
        let state = State::of(Facts {
            given_up: live.given_up,
            opened: live.cursor.is_some(),
            heard: live.heard,
            due: due.is_some(),
            refused: live.refused,
            relay_down: !down.is_empty(),
            throttled: self.input.paused().is_some(),
            stalled,
            behind: backlog.is_some(),
        });
        let left = match (live.pace, live.cursor, backlog) {
            (Some(pace), Some(cursor), Some(behind)) => pace.left(present, cursor, behind),
            _ => None,
        };
        // Whoever waits for a relay does not turn itself.
        let turns = outlets.iter().filter_map(|outlet| outlet.turned);
        let turned = turns.chain(live.turned).max();
        // What is not over comes before what is, the newest first.
        let troubles = outlets.iter().filter_map(|outlet| outlet.trouble.clone());
        let trouble = troubles
            .chain(live.trouble.clone())
            .max_by_key(|trouble| (!trouble.over, trouble.at));
        let deletion = live
            .cursor
            .map(|cursor| self.schedule.deleted(cursor) - self.input.theirs());
        Seen {
            state,
            stalled,
            hangs: turned.is_some_and(|turned| turned.elapsed() > HANGS_AFTER)
                && self.input.paused().is_none(),
            down,
            unwritable: live.unwritable || outlets.iter().any(|outlet| outlet.unwritable),
            unheard: due.is_some() && !live.heard,
            trouble,
            cursor: live.cursor,
            lag: live.cursor.map(|cursor| self.schedule.lag(cursor, now)),
            ahead: { live.cursor.map(|cursor| cursor - now) }
                .filter(|ahead| *ahead > DIFFERENCE_MAX),
            left,
            window: live.window,
            last_window: live.last_window,
            source: live.source,
            source_since: live.source_since,
            empty_unconfirmed: live.empty_unconfirmed,
            last_empty_unconfirmed: live.last_empty_unconfirmed,
            loss: live.loss,
            due,
            deletion,
        }
    }

    /// How old records were when they had their receipt, to the output that had most.
    pub(super) fn ages(&self) -> Option<Ages> {
        let ages = self.outlets.iter().filter_map(|outlet| outlet.ages());
        ages.max_by_key(|ages| ages.records)
    }

    /// Brings the metrics up to the present.
    pub(super) fn refresh(&self) {
        for outlet in &self.outlets {
            outlet.refresh();
        }
        self.passes.iter().for_each(|pass| pass.refresh());
        let seen = self.seen();
        let gauges = &self.gauges;
        if let Some(state) = &gauges.state {
            state.set(i64::from(seen.state.number()));
        }
        gauges.stalled.set(i64::from(seen.stalled));
        let seconds = |time: Option<TimeDelta>| time.map_or(f64::NAN, TimeDelta::as_seconds_f64);
        if let Some(source) = &gauges.source {
            source.set(i64::from(seen.source == Some(Origin::Graph)));
        }
        gauges.lag.set(seconds(seen.lag));
        gauges.cursor.set(seen.cursor.map_or(f64::NAN, timestamp));
        gauges.deletion.set(seconds(seen.deletion));
        let audited = self.summary(&self.live().audit);
        let incomplete = audited.map_or(0, |(_, summary)| incomplete_seconds(&summary));
        gauges.incomplete.set(incomplete);
    }

    /// Records that had not been delivered before.
    pub(super) fn new_records(&self) -> u64 {
        let (fetched, duplicates) = (&self.counters.fetched_records, &self.counters.duplicates);
        fetched.get().saturating_sub(duplicates.get())
    }

    /// Rows fetched, rows filtered, late rows, windows, requests, seconds unreachable, windows cut off, windows withheld.
    pub(super) fn figures(&self) -> [u64; 8] {
        let counters = &self.counters;
        [
            counters.fetched_records.get(),
            counters.duplicates.get(),
            counters.late.get(),
            counters.windows.get(),
            counters
                .requests
                .iter()
                .map(Late::<IntCounterVec>::get)
                .sum(),
            counters.unreachable.get(),
            counters.capped.get(),
            counters.withheld.get(),
        ]
    }

    /// The service's loop has turned.
    fn turn(&self) -> MutexGuard<'_, Live> {
        let mut live = self.live();
        live.turned = Some(Instant::now());
        live
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        lock(&self.live)
    }
}

/// The length of all gaps, in seconds.
fn incomplete_seconds(summary: &Summary) -> i64 {
    let gaps = summary.gaps.iter().map(|gap| gap.window.length());
    gaps.map(|length| length.num_seconds()).sum()
}

impl Live {
    fn begin() -> Mutex<Self> {
        Mutex::new(Live {
            // Until its state is open it is taken for due: nobody can tell.
            due: Some(Instant::now()),
            ..Live::default()
        })
    }

    /// Takes note of a window that was empty and could not be confirmed to be.
    fn note_empty(&mut self, entry: &Entry) {
        if entry.outcome == Outcome::EmptyUnconfirmed {
            self.empty_unconfirmed += entry.window().length();
            self.last_empty_unconfirmed = Some(entry.window());
        }
    }

    /// What was the matter is over.
    fn ease(&mut self) {
        if let Some(trouble) = &mut self.trouble {
            trouble.over = true;
        }
    }
}

impl Meter for ServiceMonitor {
    fn waited(&self, waited: Waited) {
        self.counters.turn_wait.inc_by(waited.budget.as_secs_f64());
        self.counters.throttled.inc_by(waited.pause.as_secs_f64());
        drop(self.turn());
    }

    fn answered(&self, status: Option<StatusCode>, took: Duration) {
        let class = status.map_or(0, |status| usize::from(status.as_u16() / 100));
        if let Some(requests) = self.counters.requests.get(class) {
            requests.inc();
        }
        self.counters.fetch_duration.observe(took.as_secs_f64());
        drop(self.turn());
    }

    fn received(&self, bytes: usize) {
        self.counters.fetched_bytes.inc_by(bytes as u64);
    }
}
