//! The setting of a test: a reporting service, a relay, a folder for the collector, and the collector itself.

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use testkit::collector::{Collector, Config, Folder, Input, Output};
use testkit::disk::Disk;
use testkit::peer::Program;
use testkit::pki::Pki;
use testkit::records::{Records, Verdict, compare};
use testkit::relay::{self, Behaviour, End, Relay};
use testkit::report::{Aggregate, Report};
use testkit::service::{self, Backlog, Service};

use crate::figures::compared;

/// Long enough for a busy machine; a test that is right never waits so long.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// The two peers, and the folder that the collector works in.
pub(crate) struct Setting {
    pub(crate) service: Service,
    pub(crate) relay: Relay,
    pub(crate) folder: Folder,
    pub(crate) pki: Pki,
    /// The present when the setting was made, at the beginning of its minute.
    pub(crate) now: DateTime<Utc>,
}

impl Setting {
    pub(crate) async fn new() -> Self {
        Setting::with(service::Options::default(), |_| {}).await
    }

    pub(crate) async fn with(
        options: service::Options,
        relay: impl FnOnce(&mut relay::Options),
    ) -> Self {
        let pki = Pki::new().unwrap();
        let mut relay_options = relay::Options::new(&pki);
        relay(&mut relay_options);
        Setting {
            service: Service::start(options).await.unwrap(),
            relay: Relay::start_with(&relay_options).unwrap(),
            folder: Folder::new(&pki).unwrap(),
            pki,
            now: Utc::now().duration_trunc(TimeDelta::minutes(1)).unwrap(),
        }
    }

    /// An instant so many hours before the setting was made.
    pub(crate) fn ago(&self, hours: i64) -> DateTime<Utc> {
        self.now - TimeDelta::hours(hours)
    }

    /// The full hour in which that instant lies.
    pub(crate) fn hour_ago(&self, hours: i64) -> DateTime<Utc> {
        let instant = self.ago(hours);
        instant.duration_trunc(TimeDelta::hours(1)).unwrap()
    }

    /// Rows of one report, spread evenly.
    pub(crate) fn rows(&self, report: Report, from: DateTime<Utc>, to: DateTime<Utc>, rows: u32) {
        self.service.generate(&Backlog::new(report, from, to, rows));
    }

    /// An input without services yet.
    pub(crate) fn input(&self) -> Input {
        Input::for_service(&self.service)
    }

    /// Writes the configuration, with the relay as the only output.
    pub(crate) fn configure(&self, input: Input) {
        self.configure_with(input, Output::relay(self.relay.port()));
    }

    pub(crate) fn configure_with(&self, input: Input, output: Output) {
        self.folder.configure(&Config::new(input, output)).unwrap();
    }

    /// The same with `monitoring` as YAML, which is off otherwise.
    pub(crate) fn configure_watched(&self, input: Input, monitoring: &str) {
        let config = Config::new(input, Output::relay(self.relay.port()));
        let config = config.global("monitoring", monitoring);
        self.folder.configure(&config).unwrap();
    }

    /// A configuration of one service that begins at `start`, with the other keys as given.
    pub(crate) fn configure_one(
        &self,
        report: Report,
        start: DateTime<Utc>,
        options: &[(&str, &str)],
    ) {
        self.configure(self.input().service_from(report, start, options));
    }

    pub(crate) fn start(&self) -> Collector {
        Collector::start(program(), &self.folder).unwrap()
    }

    /// What there is of a report between two instants.
    pub(crate) fn existing(
        &self,
        report: Report,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Records {
        self.service.existing(report, Aggregate::Hour, from, to)
    }

    /// Waits until the relay has read all of `expected`; the collector's log if it never does.
    pub(crate) async fn until_read(&self, expected: &Records, collector: &Collector) {
        let begun = Instant::now();
        loop {
            let verdict = compare(expected, &self.relay.records());
            if verdict.missing == 0 {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{verdict}\n{}", log(collector));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the collector has committed everything before `instant` in `services`.
    pub(crate) async fn until_committed(
        &self,
        collector: &Collector,
        services: &[Report],
        instant: DateTime<Utc>,
    ) {
        let begun = Instant::now();
        loop {
            let behind = services
                .iter()
                .find(|report| self.cursor(**report).is_none_or(|cursor| cursor < instant));
            let Some(behind) = behind else { return };
            assert!(
                begun.elapsed() < PATIENCE,
                "{behind} is at {:?}\n{}",
                self.cursor(*behind),
                log(collector)
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The folder of a service's state.
    pub(crate) fn state_of(&self, report: Report) -> std::path::PathBuf {
        self.folder.state().join(format!(
            "office365_reporting_message.12345.{}",
            report.service()
        ))
    }

    /// The cursor of a service, read as a person would: from the line of JSON in its file.
    pub(crate) fn cursor(&self, report: Report) -> Option<DateTime<Utc>> {
        let state = self.state_line(report)?;
        Some(state["cursor"].as_str().unwrap().parse().unwrap())
    }

    /// The times of which the state of a service says that this became of them.
    pub(crate) fn entries(
        &self,
        report: Report,
        outcome: &str,
    ) -> Vec<(DateTime<Utc>, DateTime<Utc>)> {
        let state = self.state_line(report).unwrap();
        let entries = state["entries"].as_array().unwrap().iter();
        let time = |time: &serde_json::Value| time.as_str().unwrap().parse().unwrap();
        entries
            .filter(|entry| entry["outcome"] == outcome)
            .map(|entry| (time(&entry["start"]), time(&entry["end"])))
            .collect()
    }

    /// Up to where the state of a service knows that Devo was told what hours came to.
    pub(crate) fn told(&self, report: Report) -> Option<DateTime<Utc>> {
        let state = self.state_line(report)?;
        Some(state["audit"]["told"].as_str()?.parse().unwrap())
    }

    fn state_line(&self, report: Report) -> Option<serde_json::Value> {
        let bytes = std::fs::read(self.state_of(report).join("cursor")).ok()?;
        let line = bytes.split(|byte| *byte == b'\n').nth(1)?;
        let mut value: serde_json::Value = serde_json::from_slice(line).unwrap();
        Some(value["state"].take())
    }

    /// What was served against what was read. What may come twice is what the relay has read and not confirmed.
    pub(crate) fn verdict(&self, expected: &Records) -> Verdict {
        self.verdict_within(expected, self.unconfirmed())
    }

    /// The same, where `bound` records may come twice.
    pub(crate) fn verdict_within(&self, expected: &Records, bound: u64) -> Verdict {
        assert_eq!(self.relay.violations(), Vec::<String>::new());
        compared(expected, &self.relay.records(), bound)
    }

    /// The lines on connections that the relay did not end with a receipt. Where it never gives one, TCP's word stands in.
    pub(crate) fn unconfirmed(&self) -> u64 {
        let connections = self.relay.connections();
        let broken = |one: &&relay::Connection| match one.behaviour {
            Behaviour::NeverAnswer => false,
            Behaviour::ResetOnEnd => true,
            _ => one.end != End::ClientClosed,
        };
        connections.iter().filter(broken).map(|one| one.lines).sum()
    }

    /// Kills a collector of one service. The lines of the last delivery that the relay ended in order: the kill may have come before
    /// the collector wrote down that it is confirmed, and then they come again.
    pub(crate) async fn kill(&self, collector: &mut Collector) -> u64 {
        collector.kill().await.unwrap();
        let connections = self.relay.connections();
        let ended = |one: &&relay::Connection| one.end == End::ClientClosed && one.lines > 0;
        connections.iter().rfind(ended).map_or(0, |one| one.lines)
    }

    /// Waits until all message traces before `to` are committed, and stops the collector.
    pub(crate) async fn stop_at(&self, collector: &mut Collector, to: DateTime<Utc>) {
        self.until_committed(collector, &[Report::MessageTrace], to)
            .await;
        stop(collector).await;
    }

    /// Waits for all message traces between two instants, stops the collector, and asserts that each came once.
    pub(crate) async fn finish(
        &self,
        collector: &mut Collector,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) {
        self.stop_at(collector, to).await;
        self.expect_exactly(&self.existing(Report::MessageTrace, from, to), collector);
    }

    /// Asserts that each expected record came once, and at most so many others did.
    pub(crate) fn expect_once(&self, expected: &Records, others: u64, collector: &Collector) {
        let verdict = self.verdict_within(expected, 0);
        assert!(
            verdict.missing == 0 && verdict.twice == 0 && verdict.unknown <= others,
            "{verdict}\n{}",
            log(collector)
        );
    }

    /// Asserts that each expected record came once and nothing else did.
    pub(crate) fn expect_exactly(&self, expected: &Records, collector: &Collector) {
        let verdict = self.verdict_within(expected, 0);
        assert!(verdict.is_exact(), "{verdict}\n{}", log(collector));
    }
}

/// Stops the collector as an operator does, and expects it to end well in time.
pub(crate) async fn stop(collector: &mut Collector) {
    let ended = collector.stop(Duration::from_secs(30)).await.unwrap();
    assert_eq!(ended.code, Some(0), "{}", log(collector));
    assert!(
        ended.took < Duration::from_secs(8),
        "{ended:?}\n{}",
        log(collector)
    );
}

/// Whether a real peer is installed; says aloud that its test is skipped if not, which is a failure where nothing may be.
pub(crate) fn installed(program: Program) -> bool {
    program
        .missing()
        .is_none_or(|package| skip(&format!("{program:?}: the package {package} is missing")))
}

/// Whether this process may mount a disk, or the test that needs one is skipped.
pub(crate) fn may_mount() -> bool {
    Disk::is_possible() || skip("only root can mount a small disk")
}

/// Says it past the capture of a test's output. With `CI=true` nothing may be skipped.
pub(crate) fn skip(what: &str) -> bool {
    assert_ne!(
        std::env::var("CI").as_deref(),
        Ok("true"),
        "nothing may be skipped: {what}"
    );
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what}");
    false
}

/// The end of the collector's log.
pub(crate) fn log(collector: &Collector) -> String {
    let lines = collector.log();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

/// What the collector has printed, without messages of its own.
pub(crate) fn printed_records(collector: &Collector) -> Vec<String> {
    let mut printed = collector.output();
    printed.retain(|line| !line.contains(r#""message_tag": "devo.collectors.out.local."#));
    printed
}

/// The program under test.
pub(crate) fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_exchange-reports-collector"))
}
