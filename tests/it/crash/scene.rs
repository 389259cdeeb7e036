//! A scene: services with a backlog, one relay or two, and the books on what was read and confirmed from kill to kill.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use testkit::collector::{Collector, Config, Output};
use testkit::records::{Records, compare};
use testkit::relay::{Behaviour, End, Relay};
use testkit::report::Report;
use testkit::service::Options;

use super::books;
use crate::figures::Figures;
use crate::setting::{PATIENCE, Setting, log, stop};

/// What a scene is made of.
pub(super) struct Shape {
    pub(super) reports: &'static [Report],
    /// Rows of each report.
    pub(super) rows: u32,
    /// Hours of backlog, at most five; where it goes on live, it reaches until then.
    pub(super) hours: i64,
    /// Seconds behind the backlog, of which each is a window that becomes due by itself.
    pub(super) live: u32,
    /// Rows a page of the service.
    pub(super) page_rows: usize,
    /// Time before each answer of the service.
    pub(super) latency: Duration,
    pub(super) two_relays: bool,
}

impl Shape {
    /// A backlog that is one delivery, and seconds of which each is one: soon over.
    pub(super) const SMALL: Shape = Shape {
        reports: &[Report::MessageTrace],
        rows: 600,
        hours: 5,
        live: 3,
        page_rows: 100,
        latency: Duration::ZERO,
        two_relays: false,
    };
}

/// Services with a backlog, and where it goes.
pub(super) struct Scene {
    pub(super) setting: Setting,
    second: Option<Relay>,
    reports: &'static [Report],
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    books: Vec<Book>,
    /// For a person, where something is not as it should be.
    pub(super) told: String,
    figures: Figures,
}

/// One service and output.
struct Book {
    report: Report,
    /// 0 is the first relay.
    output: usize,
    /// Lines read whose records no journal has: they will come again.
    unconfirmed: u64,
    /// The relay's connections that were accounted for.
    connections: usize,
    cursor: Option<DateTime<Utc>>,
}

const OUTPUTS: [&str; 2] = ["devo_1", "second"];

impl Scene {
    pub(super) async fn new(shape: &Shape) -> Self {
        let options = Options {
            page_rows: shape.page_rows,
            latency: shape.latency,
            ..Options::default()
        };
        let setting = Setting::with(options, |_| {}).await;
        let second = shape
            .two_relays
            .then(|| Relay::start(&setting.pki).unwrap());
        let from = setting.ago(30).duration_trunc(TimeDelta::hours(1)).unwrap();
        let mut to = from + TimeDelta::hours(shape.hours);
        let backlog = if shape.live > 0 {
            // What has settled when the collector starts.
            let settled = Utc::now() - TimeDelta::hours(25) + TimeDelta::seconds(1);
            let settled = settled.duration_trunc(TimeDelta::seconds(1)).unwrap();
            to = settled + TimeDelta::seconds(shape.live.into());
            settled
        } else {
            to
        };
        let mut input = setting.input();
        for report in shape.reports {
            setting.rows(*report, from, backlog, shape.rows);
            if shape.live > 0 {
                setting.rows(*report, backlog, to, 20 * shape.live);
            }
            input = input.service_from(*report, from, &[]);
        }
        let mut config = Config::new(input, Output::relay(setting.relay.port()));
        if let Some(second) = &second {
            config = config.output(Output::relay(second.port()).named(OUTPUTS[1]));
        }
        setting.folder.configure(&config).unwrap();
        let outputs = 1 + usize::from(shape.two_relays);
        let books = shape
            .reports
            .iter()
            .flat_map(|report| (0..outputs).map(|output| Book::new(*report, output)));
        Scene {
            second,
            reports: shape.reports,
            from,
            to,
            books: books.collect(),
            told: String::new(),
            figures: Figures::default(),
            setting,
        }
    }

    /// The relays, in the order of the outputs.
    pub(super) fn relays(&self) -> impl Iterator<Item = &Relay> {
        std::iter::once(&self.setting.relay).chain(&self.second)
    }

    fn relay(&self, output: usize) -> &Relay {
        self.second
            .as_ref()
            .filter(|_| output == 1)
            .unwrap_or(&self.setting.relay)
    }

    /// The journal of an output.
    pub(super) fn journal(&self, report: Report, output: usize) -> PathBuf {
        let name = format!("journal.{}", OUTPUTS[output]);
        self.setting.state_of(report).join(name)
    }

    /// Whether all that there is has been committed.
    pub(super) fn is_done(&self) -> bool {
        self.reports.iter().all(|report| self.is_done_with(*report))
    }

    /// Whether all that there is of a report has been committed.
    pub(super) fn is_done_with(&self, report: Report) -> bool {
        self.setting
            .cursor(report)
            .is_some_and(|cursor| cursor >= self.to)
    }

    /// A file was torn: so many records that the first output had confirmed are not known to be any more.
    pub(super) fn may_come_again(&mut self, report: Report, records: u64) {
        let book = self
            .books
            .iter_mut()
            .find(|book| book.report == report && book.output == 0);
        book.unwrap().unconfirmed += records;
    }

    /// Waits until all that there is has been committed, or the collector has ended; whether it was the first.
    pub(super) async fn until_done(&self, collector: &mut Collector) -> bool {
        let begun = Instant::now();
        while !self.is_done() {
            if !collector.is_running() {
                return self.is_done();
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "{}: it does not come to its end\n{}",
                self.told,
                log(collector)
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        true
    }

    /// Closes the books on a process that has been killed.
    pub(super) async fn killed(&mut self, collector: &Collector) {
        self.figures.kills += 1;
        self.account(collector, true).await;
    }

    /// Lets the collector finish, and compares.
    pub(super) async fn finish(self) -> Figures {
        let mut collector = self.setting.start();
        // Until it says so, the stop signal ends it as any other process.
        collector.wait_for("collecting", PATIENCE).await.unwrap();
        assert!(
            self.until_done(&mut collector).await,
            "{}: ended by itself\n{}",
            self.told,
            log(&collector)
        );
        self.stopped(collector).await
    }

    /// Stops a collector that has finished, and compares.
    pub(super) async fn stopped(mut self, mut collector: Collector) -> Figures {
        stop(&mut collector).await;
        self.account(&collector, false).await;
        let mut expected = Records::default();
        for report in self.reports {
            expected.extend(&self.setting.existing(*report, self.from, self.to));
        }
        let mut figures = Figures {
            runs: 1,
            ..self.figures
        };
        for (output, relay) in self.relays().enumerate() {
            let verdict = compare(&expected, &relay.records());
            let bound = self
                .books
                .iter()
                .filter(|book| book.output == output)
                .map(|book| book.unconfirmed)
                .sum();
            let because = || {
                format!(
                    "{}\noutput {output}: {verdict}, {bound} may come twice\n{}",
                    self.told,
                    log(&collector)
                )
            };
            assert!(verdict.is_complete(), "{}", because());
            assert!(verdict.twice <= bound, "{}", because());
            assert_eq!(relay.violations(), Vec::<String>::new(), "{}", because());
            figures.records += verdict.served;
            figures.lost += verdict.missing;
            figures.repeated += verdict.twice;
            figures.bound += bound;
        }
        for book in &self.books {
            let existing = expected.total_of(book.report);
            let confirmed = books::confirmed(&self.journal(book.report, book.output));
            assert_eq!(
                confirmed,
                existing,
                "{}\n{} {}: each record is confirmed once\n{}",
                self.told,
                book.report,
                OUTPUTS[book.output],
                log(&collector)
            );
        }
        figures
    }

    /// Holds what was read against what is confirmed, and the cursor against where it was.
    async fn account(&mut self, collector: &Collector, killed: bool) {
        self.until_all_connections_ended().await;
        for number in 0..self.books.len() {
            let Book {
                report,
                output,
                unconfirmed,
                connections,
                cursor,
            } = self.books[number];
            let context = || {
                format!(
                    "{}\n{report} {}\n{}",
                    self.told,
                    OUTPUTS[output],
                    log(collector)
                )
            };
            let relay = self.relay(output);
            let (read, all) = (relay.count_of(report), relay.connections());
            let confirmed = books::confirmed(&self.journal(report, output));
            assert!(
                confirmed <= read,
                "{confirmed} confirmed, only {read} read: {}",
                context()
            );
            let misbehaved = |one: &&testkit::relay::Connection| one.behaviour != Behaviour::Normal;
            let (bad, good): (Vec<_>, Vec<_>) = all[connections..].iter().partition(misbehaved);
            let largest = good
                .iter()
                .map(|one| one.lines)
                .max()
                .filter(|_| killed)
                .unwrap_or(0);
            let most = unconfirmed + largest + bad.iter().map(|one| one.lines).sum::<u64>();
            assert!(
                (unconfirmed..=most).contains(&(read - confirmed)),
                "{} of {read} lines are not confirmed, at most {most} may be: {}",
                read - confirmed,
                context()
            );
            let now = self.setting.cursor(report);
            assert!(
                now >= cursor,
                "the cursor went back from {cursor:?} to {now:?}: {}",
                context()
            );
            self.books[number] = Book {
                report,
                output,
                unconfirmed: read - confirmed,
                connections: all.len(),
                cursor: now,
            };
        }
    }

    async fn until_all_connections_ended(&self) {
        let begun = Instant::now();
        let open = || {
            self.relays()
                .any(|relay| relay.connections().iter().any(|one| one.end == End::Open))
        };
        while open() {
            assert!(
                begun.elapsed() < PATIENCE,
                "{}: a connection outlives the collector",
                self.told
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Book {
    fn new(report: Report, output: usize) -> Self {
        Book {
            report,
            output,
            unconfirmed: 0,
            connections: 0,
            cursor: None,
        }
    }
}
