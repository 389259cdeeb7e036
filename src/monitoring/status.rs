//! Everything at one instant, for machines and for the pages that people see. Nothing secret, and no record's content.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::freshness::Ages;
use super::health::Health;
use super::history::{History, Point};
use super::input::InputMonitor;
use super::outlet::OutletMonitor;
use super::service::{Seen, ServiceMonitor};
use super::state::State;
use super::trouble::Trouble;
use super::{Monitor, OutputFacts};
use crate::config::LeftOut;
use crate::ledger::{Gap, HourOutcome, Stretch, Summary, Within};
use crate::report::Origin;
use crate::window::Window;

/// Everything at one instant.
#[derive(Debug, Serialize)]
pub struct Status {
    /// The collector's name in the configuration.
    pub name: String,
    /// The collector's version.
    pub version: &'static str,
    /// When it was started.
    pub started: DateTime<Utc>,
    /// The instant.
    pub now: DateTime<Utc>,
    /// Whether all is as it should be.
    pub health: Health,
    /// What is the matter with the files of inputs that cannot be used.
    pub left_out: Vec<LeftOutStatus>,
    /// The inputs.
    pub inputs: Vec<InputStatus>,
    /// The services of all inputs.
    pub services: Vec<ServiceStatus>,
    /// The outputs.
    pub outputs: Vec<OutputStatus>,
}

impl Status {
    /// Leaves of it only what belongs to the input of this name, its outputs included; `None` if there is none.
    pub fn of_input(mut self, name: &str) -> Option<Self> {
        self.inputs.retain(|input| input.name == name);
        self.services.retain(|service| service.input == name);
        let services = &self.services;
        self.outputs.retain(|output| {
            let mut outlets = services.iter().flat_map(|service| &service.outputs);
            outlets.any(|outlet| outlet.output == output.name)
        });
        (!self.inputs.is_empty()).then_some(self)
    }
}

/// A file of inputs that cannot be used.
#[derive(Debug, Serialize)]
pub struct LeftOutStatus {
    /// The file.
    pub file: String,
    /// Why, a line each, with what to do.
    pub mistakes: Vec<String>,
}

/// An input.
#[derive(Debug, Serialize)]
pub struct InputStatus {
    /// Its name.
    pub name: String,
    /// When its token ends.
    pub token_expiry: Option<DateTime<Utc>>,
    /// When the certificate ends that it signs in with.
    pub certificate_expiry: Option<DateTime<Utc>>,
    /// Our clock less the reporting service's.
    pub clock_difference_seconds: Option<i64>,
    /// What is left of the pause that the reporting service has asked for.
    pub pause_seconds: Option<u64>,
}

/// An output.
#[derive(Debug, Serialize)]
pub struct OutputStatus {
    /// Its name.
    pub name: String,
    /// Host and port, or `stdout`.
    pub address: String,
    /// When our certificate ends.
    pub certificate_expiry: Option<DateTime<Utc>>,
}

/// A service.
#[derive(Debug, Serialize)]
pub struct ServiceStatus {
    /// Its input's name.
    pub input: String,
    /// Its name.
    pub service: &'static str,
    /// The report that it collects.
    pub report: &'static str,
    /// What it is doing.
    pub state: State,
    /// The same for people.
    pub state_text: &'static str,
    /// Whether it has not advanced for long though a window was due, whatever its state.
    pub stalled: bool,
    /// Whether its state cannot be read or written.
    pub unwritable: bool,
    /// How long a window has been due while the cursor has not moved.
    pub due_seconds: Option<u64>,
    /// Everything before it is delivered and confirmed.
    pub cursor: Option<DateTime<Utc>>,
    /// How far the cursor is behind the present less the delay.
    pub lag_seconds: Option<i64>,
    /// When it will have caught up, where it has not and that is in sight.
    pub caught_up_at: Option<DateTime<Utc>>,
    /// The window that is being collected.
    pub window: Option<Window>,
    /// When a window was last committed.
    pub last_window: Option<DateTime<Utc>>,
    /// Which of Microsoft's services its records come from, where there are two.
    pub source: Option<Origin>,
    /// From which instant on its records come from there, where that has changed.
    pub source_since: Option<DateTime<Utc>>,
    /// Length of the time for which nothing came, and Microsoft Graph could not be asked whether there is something.
    pub empty_unconfirmed_seconds: u64,
    /// The last of it.
    pub last_empty_unconfirmed: Option<Window>,
    /// How long until Microsoft deletes the first of what is not confirmed.
    pub deletion_seconds: Option<i64>,
    /// The last thing that went wrong.
    pub trouble: Option<Trouble>,
    /// Records a second that were new, over the last minutes.
    pub records_per_second: f64,
    /// Rows that came.
    pub fetched_records: u64,
    /// Of these, those that had been delivered before.
    pub duplicate_records: u64,
    /// Records that only a later walk of their window brought.
    pub late_records: u64,
    /// Windows committed.
    pub windows: u64,
    /// Requests made.
    pub requests: u64,
    /// Length of the time whose records were deleted before they were collected.
    pub unreachable_seconds: u64,
    /// Windows that could not be shorter and were cut off at one of the reporting service's caps.
    pub capped_windows: u64,
    /// Windows that were passed though the service had returned bytes in them that cannot be read as rows.
    pub withheld_windows: u64,
    /// When records were last found to be out of reach: for their age, for such a cap, or since they cannot be read.
    pub last_loss: Option<DateTime<Utc>>,
    /// What the last fourteen days before the cursor came to, in whole hours; `None` before the first has settled.
    pub audit: Option<AuditStatus>,
    /// Its early passes, the shortest delay first.
    pub passes: Vec<PassStatus>,
    /// How old records were when they had their receipt; `None` where no early pass delivers.
    pub freshness: Option<FreshnessStatus>,
    /// Its outputs.
    pub outputs: Vec<OutletStatus>,
    /// Its last day, a point every five minutes; the last one's minutes are not over.
    pub history: Vec<Point>,
}

/// What the last days of a service came to.
#[derive(Debug, Serialize)]
pub struct AuditStatus {
    /// The first hour.
    pub from: DateTime<Utc>,
    /// The first instant after the last one.
    pub to: DateTime<Utc>,
    /// Whether nothing is missing.
    pub complete: bool,
    /// The records, by their own time.
    pub records: u64,
    /// Hours that are empty and could not be confirmed to be, and no gap.
    pub unconfirmed: u64,
    /// How late the records came, as far as early passes have read these hours; the shortest delay first.
    pub late: Vec<WithinStatus>,
    /// The same in words; empty where nothing is known.
    pub late_text: String,
    /// Where records may be missing.
    pub gaps: Vec<GapStatus>,
    /// Hours one after the other, of one day, to which the same became.
    pub stretches: Vec<StretchStatus>,
}

/// How many records were there by one delay.
#[derive(Debug, Serialize)]
pub struct WithinStatus {
    /// The delay.
    pub delay_seconds: u32,
    /// So many were there by then.
    pub records: u64,
    /// So many were there when their hours settled.
    pub of: u64,
}

/// How old records were when they had their receipt, since the start.
#[derive(Debug, Serialize)]
pub struct FreshnessStatus {
    /// So many had one.
    pub records: u64,
    /// Half of them were at most so old; `None` where they were older than 27 hours.
    pub half_within_seconds: Option<f64>,
    /// 95 of 100 were.
    pub most_within_seconds: Option<f64>,
}

/// Time of which records may be missing.
#[derive(Debug, Serialize)]
pub struct GapStatus {
    /// The first instant.
    pub from: DateTime<Utc>,
    /// The first instant after it.
    pub to: DateTime<Utc>,
    /// Why.
    pub reason: HourOutcome,
    /// Until when Microsoft has what is missing; `None` where it cannot be had.
    pub until: Option<DateTime<Utc>>,
}

/// Hours of one day to which the same became.
#[derive(Debug, Serialize)]
pub struct StretchStatus {
    /// The first instant.
    pub from: DateTime<Utc>,
    /// The first instant after it.
    pub to: DateTime<Utc>,
    /// How complete they are.
    pub outcome: HourOutcome,
    /// Their records.
    pub records: u64,
}

/// An early pass of a service.
#[derive(Debug, Serialize)]
pub struct PassStatus {
    /// Its delay.
    pub delay_seconds: u64,
    /// Everything before it that was there in time is delivered and confirmed.
    pub frontier: Option<DateTime<Utc>>,
    /// How far the frontier is behind the present less the delay.
    pub lag_seconds: Option<i64>,
    /// The last thing that went wrong.
    pub trouble: Option<Trouble>,
}

/// An output of a service.
#[derive(Debug, Serialize)]
pub struct OutletStatus {
    /// The output's name.
    pub output: String,
    /// Whether it cannot deliver.
    pub down: bool,
    /// Whether what it confirms cannot be written to the state folder.
    pub unwritable: bool,
    /// Records confirmed.
    pub confirmed_records: u64,
    /// Records sent again.
    pub resent_records: u64,
    /// Deliveries that the relay's `close_notify` confirmed, or the console.
    pub receipts: u64,
    /// Deliveries that an end of the connection confirmed, which whatever stands between can fake.
    pub ended: u64,
    /// Deliveries for which TCP's word stood in.
    pub stood_in: u64,
    /// Records that wait for their receipt, or for the relay.
    pub unconfirmed_records: u64,
    /// When the oldest of them was fetched.
    pub oldest_unconfirmed: Option<DateTime<Utc>>,
    /// When the last delivery was confirmed.
    pub last_receipt: Option<DateTime<Utc>>,
    /// The last thing that went wrong.
    pub trouble: Option<Trouble>,
}

impl Monitor {
    /// Everything as it is now.
    pub fn status(&self) -> Status {
        let now = Utc::now();
        let watched = self.watched();
        let seen = watched.seen();
        let health = Health::of(&seen, &watched.left_out);
        let services = seen.into_iter().zip(&watched.services);
        Status {
            name: self.name.clone(),
            version: env!("CARGO_PKG_VERSION"),
            started: self.started,
            now,
            health,
            left_out: watched.left_out.iter().map(of_left_out).collect(),
            inputs: watched
                .inputs
                .iter()
                .map(|(_, input)| of_input(input))
                .collect(),
            services: services
                .map(|((service, seen), watched)| {
                    of_service(service, seen, &super::lock(&watched.history), now)
                })
                .collect(),
            outputs: watched
                .outputs
                .iter()
                .map(|output| output.status())
                .collect(),
        }
    }
}

impl OutputFacts {
    fn status(&self) -> OutputStatus {
        OutputStatus {
            name: self.output.name.clone(),
            address: self.relay.address(),
            certificate_expiry: self.certificate_expiry(),
        }
    }
}

fn of_left_out(left_out: &LeftOut) -> LeftOutStatus {
    LeftOutStatus {
        file: left_out.file.display().to_string(),
        mistakes: left_out.mistakes.iter().map(ToString::to_string).collect(),
    }
}

fn of_input(input: &InputMonitor) -> InputStatus {
    InputStatus {
        name: input.name.clone(),
        token_expiry: input.token_expiry(),
        certificate_expiry: input.certificate_expiry(),
        clock_difference_seconds: input.clock_difference().map(|time| time.num_seconds()),
        pause_seconds: input.paused().map(|pause| pause.as_secs()),
    }
}

fn of_service(
    service: &ServiceMonitor,
    seen: Seen,
    history: &History,
    now: DateTime<Utc>,
) -> ServiceStatus {
    let new = service.new_records();
    let [
        fetched_records,
        duplicate_records,
        late_records,
        windows,
        requests,
        unreachable_seconds,
        capped_windows,
        withheld_windows,
    ] = service.figures();
    let left = seen.left.and_then(|left| TimeDelta::from_std(left).ok());
    ServiceStatus {
        input: service.input.name.clone(),
        service: service.name,
        report: service.report,
        state: seen.state,
        state_text: seen.state.text(),
        stalled: seen.stalled,
        unwritable: seen.unwritable,
        due_seconds: seen.due.as_ref().map(Duration::as_secs),
        cursor: seen.cursor,
        lag_seconds: seen.lag.map(|lag| lag.num_seconds()),
        caught_up_at: left.and_then(|left| now.checked_add_signed(left)),
        window: seen.window,
        last_window: seen.last_window,
        source: seen.source,
        source_since: seen.source_since,
        empty_unconfirmed_seconds: u64::try_from(seen.empty_unconfirmed.num_seconds())
            .unwrap_or_default(),
        last_empty_unconfirmed: seen.last_empty_unconfirmed,
        deletion_seconds: seen.deletion.map(|time| time.num_seconds()),
        trouble: seen.trouble,
        records_per_second: history.rate(now, new),
        fetched_records,
        duplicate_records,
        late_records,
        windows,
        requests,
        unreachable_seconds,
        capped_windows,
        withheld_windows,
        last_loss: seen.loss,
        audit: service
            .audited()
            .map(|(range, summary, stretches)| of_audit(range, &summary, &stretches)),
        passes: { service.passes.iter() }
            .map(|pass| of_pass(pass))
            .collect(),
        freshness: service.ages().map(of_freshness),
        outputs: service
            .outlets()
            .iter()
            .map(|outlet| of_outlet(outlet))
            .collect(),
        history: history.until(now, new, seen.lag),
    }
}

fn of_audit(range: Window, summary: &Summary, stretches: &[Stretch]) -> AuditStatus {
    let stretch = |stretch: &Stretch| StretchStatus {
        from: stretch.start.max(range.start),
        to: stretch.end.min(range.end),
        outcome: stretch.outcome,
        records: stretch.records,
    };
    let gap = |gap: &Gap| GapStatus {
        from: gap.window.start,
        to: gap.window.end,
        reason: gap.reason,
        until: gap.until,
    };
    AuditStatus {
        from: range.start,
        to: range.end,
        complete: summary.is_complete(),
        records: summary.records,
        unconfirmed: summary.unconfirmed,
        late: summary.lateness.within.iter().map(of_within).collect(),
        late_text: summary.lateness.to_string(),
        gaps: summary.gaps.iter().map(gap).collect(),
        stretches: stretches.iter().map(stretch).collect(),
    }
}

fn of_within(within: &Within) -> WithinStatus {
    WithinStatus {
        delay_seconds: within.delay,
        records: within.records,
        of: within.of,
    }
}

fn of_freshness(ages: Ages) -> FreshnessStatus {
    FreshnessStatus {
        records: ages.records,
        half_within_seconds: ages.half,
        most_within_seconds: ages.most,
    }
}

fn of_pass(pass: &ServiceMonitor) -> PassStatus {
    let seen = pass.seen();
    PassStatus {
        delay_seconds: pass.delay.as_secs(),
        frontier: seen.cursor,
        lag_seconds: seen.lag.map(|lag| lag.num_seconds()),
        trouble: seen.trouble,
    }
}

fn of_outlet(outlet: &OutletMonitor) -> OutletStatus {
    let seen = outlet.seen();
    let [
        confirmed_records,
        resent_records,
        receipts,
        ended,
        stood_in,
        unconfirmed_records,
    ] = outlet.figures();
    OutletStatus {
        output: outlet.output.clone(),
        down: seen.down,
        unwritable: seen.unwritable,
        confirmed_records,
        resent_records,
        receipts,
        ended,
        stood_in,
        unconfirmed_records,
        oldest_unconfirmed: seen.oldest,
        last_receipt: seen.last_receipt,
        trouble: seen.trouble,
    }
}
