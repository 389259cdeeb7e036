//! The whole way on one machine: the simulated service, the real collector, the simulated relay, and the account at the end.
#![expect(
    clippy::print_stdout,
    reason = "showing is what a demonstration is for"
)]

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use chrono::{DateTime, Utc};
use clap::Parser;
use testkit::collector::{Collector, Config, Folder, Input, Output};
use testkit::pki::Pki;
use testkit::records::{Verdict, compare};
use testkit::relay::{Event, Options as RelayOptions, Relay};
use testkit::report::Report;
use testkit::service::{Options, Request, Service};
use testkit::traffic::Traffic;
use tokio::process::Command;

/// The collector stays this far behind the present.
const DELAY: Duration = Duration::from_secs(5);
/// How long the collector may take to deliver the rest, once no new rows come.
const DRAIN_MAX: Duration = Duration::from_secs(40);
/// How long a record may be under way when the demonstration ends before the rest is delivered.
const UNDER_WAY: Duration = Duration::from_secs(10);
/// How long the collector may take until it listens.
const STARTING_MAX: Duration = Duration::from_secs(20);
const SUMMARY_PERIOD: Duration = Duration::from_secs(3);
/// Lines shown a second; the others are only counted.
const LINES_MAX: usize = 3;
/// Characters shown of a line.
const LINE_LENGTH: usize = 160;

/// Shows the collector at work against a simulated service and a simulated relay.
#[derive(Parser)]
struct Arguments {
    /// End after this long (such as 20s or 5m), rather than by Ctrl-C.
    #[arg(long = "for", value_parser = duration)]
    time: Option<Duration>,
    /// The collector's program; without it, it is built.
    #[arg(long)]
    collector: Option<PathBuf>,
    /// Days of backlog.
    #[arg(long, default_value_t = 3)]
    days: u32,
    /// Rows of message trace in the backlog.
    #[arg(long, default_value_t = 20_000)]
    rows: u32,
    /// Live rows of message trace a second.
    #[arg(long, default_value_t = 5)]
    live: u32,
}

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits
        .parse()
        .map_err(|_| format!("`{text}` is no time such as 20s or 5m"))?;
    match &text[digits.len()..] {
        "s" | "" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number * 60)),
        other => Err(format!("the unit `{other}` is not known: s or m")),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let program = match &arguments.collector {
        Some(program) => program.clone(),
        None => build().await?,
    };
    let demo = Demo::start(&arguments, &program).await?;
    demo.run(arguments.time).await
}

/// Builds the collector and tells where it lies.
async fn build() -> Result<PathBuf> {
    const NAME: &str = "exchange-reports-collector";
    println!("building the collector …");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args([
        "build",
        "--release",
        "--bin",
        NAME,
        "--message-format",
        "json-render-diagnostics",
    ]);
    if let Some(package) = std::env::var_os("CARGO_MANIFEST_DIR") {
        command.current_dir(Path::new(&package).join("../.."));
    }
    command.stderr(std::process::Stdio::inherit());
    let output = command
        .output()
        .await
        .context("cannot start cargo; give the program with --collector")?;
    if !output.status.success() {
        bail!("the collector cannot be built");
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == NAME)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .context("cargo did not say where the collector lies")
}

struct Demo {
    service: Service,
    relay: Relay,
    collector: Collector,
    traffic: Traffic,
    started: DateTime<Utc>,
    shown: Arc<Mutex<Shown>>,
    // Goes last: the collector works in it.
    folder: Folder,
}

impl Demo {
    async fn start(arguments: &Arguments, program: &Path) -> Result<Demo> {
        let traffic = Traffic {
            days: arguments.days,
            backlog_rows: arguments.rows,
            live_rows_per_second: arguments.live,
        };
        let (pki, service, started) = (
            Pki::new()?,
            Service::start(Options::default()).await?,
            Utc::now(),
        );
        traffic.add_backlog(&service, started);
        let relay = Relay::start_with(&RelayOptions {
            keep_lines: false,
            ..RelayOptions::new(&pki)
        })?;
        let shown = Arc::<Mutex<Shown>>::default();
        let show = Arc::clone(&shown);
        relay.on_event(move |event| {
            show.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .show(event);
        });
        let folder = Folder::new(&pki)?;
        let (delay, start) = (DELAY.as_secs().to_string(), traffic.start(started));
        let keys = [("override_time_delay_in_seconds", delay.as_str())];
        let input = Input::for_service(&service).all_services_from(start, &keys);
        let mut config = Config::new(input, Output::relay(relay.port()));
        config.globals.clear();
        folder.configure(&config.global("monitoring", "{listen: 0}"))?;
        let collector = Collector::start(program, &folder)?;
        println!(
            "service {}  relay port {}  folder {}",
            service.base_url(),
            relay.port(),
            folder.path().display()
        );
        let served = collector.wait_for("are served", STARTING_MAX).await?;
        if let Some((_, address)) = served.split_once("address=") {
            println!("the collector's page: http://{address}/");
        }
        Ok(Demo {
            service,
            relay,
            collector,
            traffic,
            started,
            shown,
            folder,
        })
    }

    async fn run(mut self, time: Option<Duration>) -> Result<ExitCode> {
        let end = async {
            match time {
                Some(time) => tokio::time::sleep(time).await,
                None => std::future::pending().await,
            }
        };
        let alive = tokio::select! {
            () = end => true,
            _ = tokio::signal::ctrl_c() => true,
            () = self.traffic.run(&self.service, self.started) => true,
            alive = watch(&self.service, &self.relay, &mut self.collector) => alive,
        };
        if !alive {
            println!(
                "the collector has ended by itself:\n{}",
                self.collector.log().join("\n")
            );
            return Ok(ExitCode::FAILURE);
        }
        println!("\nno new rows from here on; the collector delivers the rest …");
        let drained = self.drain().await;
        let asked = Utc::now();
        let ended = self.collector.stop(Duration::from_secs(10)).await?;
        println!(
            "the collector stopped {:.1} s after SIGTERM, exit status {:?}",
            ended.took.as_secs_f64(),
            ended.code
        );
        self.summary();
        let verdict = self.account(drained, asked);
        println!("{verdict}");
        let violations = self.relay.violations();
        for violation in violations.iter().take(5) {
            println!("out of format: {violation}");
        }
        drop(self.folder);
        let good = verdict.is_exact()
            && violations.is_empty()
            && ended.code == Some(0)
            && verdict.delivered > 0;
        Ok(if good {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    /// Waits until all that was served and all that there is of message trace has been read; whether it has.
    async fn drain(&self) -> bool {
        let (start, stopped) = (Instant::now(), Utc::now());
        while start.elapsed() < DRAIN_MAX {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let whole = |request: &Request| {
                request.last && request.range.is_some_and(|(_, end)| end >= stopped)
            };
            let asked = self
                .service
                .requests_for(Report::MessageTrace)
                .iter()
                .any(whole);
            if asked && compare(&self.service.served(), &self.relay.records()).missing == 0 {
                return true;
            }
        }
        false
    }

    /// What is missing or twice. Where the rest was not delivered in time, rows asked for at the very end were under way
    /// and not yet committed by the collector: they are left out of what counts as missing.
    fn account(&self, drained: bool, asked: DateTime<Utc>) -> Verdict {
        let read = self.relay.records();
        let mut verdict = compare(&self.service.served(), &read);
        if !drained {
            let settled = compare(&self.service.served_before(asked - UNDER_WAY), &read);
            println!(
                "ended before all was delivered: of {} rows asked for in the last {UNDER_WAY:?}, those not delivered are \
                 not counted as missing",
                verdict.served - settled.served
            );
            verdict.missing = settled.missing;
        }
        verdict
    }

    fn summary(&self) {
        summary(&self.service, &self.relay);
        self.shown
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .skipped();
    }
}

/// Prints a summary each few seconds, until the collector ends by itself.
async fn watch(service: &Service, relay: &Relay, collector: &mut Collector) -> bool {
    let mut next = Instant::now() + SUMMARY_PERIOD;
    while collector.is_running() {
        tokio::time::sleep(Duration::from_millis(200)).await;
        if Instant::now() >= next {
            summary(service, relay);
            next += SUMMARY_PERIOD;
        }
    }
    false
}

fn summary(service: &Service, relay: &Relay) {
    let requests = service.requests();
    println!(
        "{:<20} {:>8} {:>9} {:>10} {:>10} {:>9}",
        "report", "windows", "requests", "served", "delivered", "lag"
    );
    for report in Report::ALL {
        let own: Vec<&Request> = requests
            .iter()
            .filter(|request| request.report == Some(report))
            .collect();
        let windows: HashSet<_> = own.iter().filter_map(|request| request.range).collect();
        let until = own
            .iter()
            .filter(|request| request.last && request.sent)
            .filter_map(|r| Some(r.range?.1))
            .max();
        let lag = until.map_or_else(
            || "-".to_owned(),
            |until| format!("{} s", (Utc::now() - until).num_seconds()),
        );
        println!(
            "{report:<20} {:>8} {:>9} {:>10} {:>10} {lag:>9}",
            windows.len(),
            own.len(),
            service.served_count(report),
            relay.count_of(report)
        );
    }
}

/// Lines as they come, but not all of many.
#[derive(Default)]
struct Shown {
    second: i64,
    lines: usize,
    skipped: usize,
}

impl Shown {
    fn show(&mut self, event: &Event<'_>) {
        let text = match event {
            Event::Line { text, .. } | Event::Violation(text) => *text,
            Event::Ended(_) => return,
        };
        let second = Utc::now().timestamp();
        if second != self.second {
            self.skipped();
            (self.second, self.lines) = (second, 0);
        }
        if self.lines < LINES_MAX {
            self.lines += 1;
            let start: String = text.chars().take(LINE_LENGTH).collect();
            println!("{start}{}", if start.len() < text.len() { "…" } else { "" });
        } else {
            self.skipped += 1;
        }
    }

    fn skipped(&mut self) {
        if self.skipped > 0 {
            println!("  … and {} more lines, not shown", self.skipped);
            self.skipped = 0;
        }
    }
}
