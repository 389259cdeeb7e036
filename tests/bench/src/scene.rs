//! What a run needs around it: certificates, the relay, the collector's folder; and the run itself, which counts only if exact.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use chrono::DateTime;
use tempfile::TempDir;
use testkit::collector::{Config, Credentials, Folder, Input, Output};
use testkit::pki::Pki;
use testkit::report::Report;

use crate::child::{Cost, Running};
use crate::pages::Pages;
use crate::programs::{Job, Program};
use crate::relay::{Relay, Tally};
use crate::rows::Backlog;
use crate::tls;
use crate::watcher::Watcher;

/// The collector's input, by which its state is named.
const INPUT: (&str, &str) = ("bench", "1");

/// Seconds that the collector usually stays behind the present.
pub const DELAY: i64 = 90_000;

/// The two peers' certificates, the relay, and a folder for files of a run.
pub struct Scene {
    pki: Pki,
    /// `chain.crt`, `server.*`, `collector.*`.
    certs: TempDir,
    relay: Relay,
}

impl Scene {
    /// A new one, with its relay running.
    pub fn new() -> Result<Scene> {
        let (pki, certs) = (Pki::new()?, tempfile::tempdir()?);
        pki.write_server(certs.path())?;
        pki.write_client(certs.path())?;
        let relay = Relay::start(tls::server(certs.path(), true)?)?;
        Ok(Scene { pki, certs, relay })
    }

    /// Starts a page server.
    pub fn pages(&self, backlog: Backlog, gzip: bool) -> Result<Pages> {
        Pages::start(tls::server(self.certs.path(), false)?, backlog, gzip)
    }

    /// Where certificates and keys lie.
    pub fn certs(&self) -> &Path {
        self.certs.path()
    }

    /// The relay's port.
    pub fn relay_port(&self) -> u16 {
        self.relay.port()
    }

    /// Runs a program until it has delivered all of the job, and ends it.
    ///
    /// # Errors
    ///
    /// If it fails, or the relay has not read every row exactly once.
    pub fn run(&self, program: &Program, job: &Job<'_>) -> Result<Cost> {
        self.drain(program, job)
            .with_context(|| format!("{program}: this run counts for nothing"))
    }

    fn drain(&self, program: &Program, job: &Job<'_>) -> Result<Cost> {
        let folder = self.folder()?;
        let expected = job.expected();
        self.relay.forget();
        let mut running = self.start(program, job, &folder, DELAY)?;
        let watcher = matches!(program, Program::Watched(_)).then(Watcher::start);
        let patience = Duration::from_secs(60 + expected.lines / 3_000);
        match program {
            Program::Collector(_)
            | Program::Watched(_)
            | Program::Unwatched(_)
            | Program::Beside(_) => running.until(patience, || committed(&folder, job))?,
            Program::Limit(_) | Program::Original(_) | Program::Best(_) => {
                running.until(patience, || false)?;
            }
            Program::Rsyslog | Program::SyslogNg(_) => {
                running.until(patience, || self.relay.tally().lines >= expected.lines)?;
            }
        }
        watcher.map_or(Ok(()), Watcher::end)?;
        // syslog-ng 3.38 breaks down at SIGTERM now and then, with everything delivered.
        let cost = if program.only_forwards() {
            running.kill()?
        } else {
            running.end()?
        };
        let read = self.relay.settled(Duration::from_secs(10));
        exact(read, expected)?;
        Ok(cost)
    }

    /// A folder for a program, with the client's certificate for the collector.
    pub fn folder(&self) -> Result<Folder> {
        Folder::new(&self.pki)
    }

    /// Starts a program in a folder; the collector stays `delay` seconds behind the present.
    pub fn start(
        &self,
        program: &Program,
        job: &Job<'_>,
        folder: &Folder,
        delay: i64,
    ) -> Result<Running> {
        if program.collects() {
            self.configure(program, job, folder, delay)?;
        }
        let mut command = program.command(self, job, folder.path())?;
        let log = folder.path().join("said");
        Running::start(command.current_dir(folder.path()), &log)
    }

    fn configure(
        &self,
        program: &Program,
        job: &Job<'_>,
        folder: &Folder,
        delay: i64,
    ) -> Result<()> {
        let start = DateTime::from_timestamp(job.pages.backlog().from, 0).context("no time")?;
        let input = Input {
            name: INPUT.0.to_owned(),
            id: INPUT.1.to_owned(),
            credentials: Credentials::Basic {
                username: "bench@contoso.onmicrosoft.com".to_owned(),
                password: "of no account".to_owned(),
            },
            options: Vec::new(),
            services: Vec::new(),
        };
        let input = input
            .option("base_url", &job.pages.base_url())
            .option("ca_bundle", "chain.crt")
            .option(
                "start_time",
                &start.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
            );
        let input = job.reports.iter().fold(input, |input, report| {
            input.service(
                *report,
                &[("override_time_delay_in_seconds", &delay.to_string())],
            )
        });
        let mut config = Config::new(input, Output::relay(self.relay.port()));
        // As it runs at a customer's: not at DEBUG.
        config.globals.clear();
        if let Some(listen) = program.listens() {
            config = config.global("monitoring", &format!("{{listen: '{listen}'}}"));
        }
        folder.configure(&config)
    }
}

/// Whether every service's cursor has passed the backlog.
pub(crate) fn committed(folder: &Folder, job: &Job<'_>) -> bool {
    let to = job.pages.backlog().to();
    job.reports
        .iter()
        .all(|report| cursor(folder, *report).is_some_and(|cursor| cursor >= to))
}

/// The cursor, read as a person would: from the line of JSON in its file.
fn cursor(folder: &Folder, report: Report) -> Option<i64> {
    let name = format!("{}.{}.{}", INPUT.0, INPUT.1, report.service());
    let bytes = fs::read(folder.state().join(name).join("cursor")).ok()?;
    let line = bytes.split(|byte| *byte == b'\n').nth(1)?;
    let value: serde_json::Value = serde_json::from_slice(line).ok()?;
    let cursor: DateTime<chrono::Utc> = value["state"]["cursor"].as_str()?.parse().ok()?;
    Some(cursor.timestamp())
}

fn exact(read: Tally, expected: Tally) -> Result<()> {
    ensure!(
        read == expected,
        "the relay has not read every row exactly once: {} lines of {}, {} odd ones",
        read.lines,
        expected.lines,
        read.odd
    );
    Ok(())
}

/// A program that was built beside this one, or one folder above, as the tests are.
pub fn beside(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let found = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name));
    found
        .into_iter()
        .find(|path| path.is_file())
        .with_context(|| format!("`{name}` is not built: cargo build --workspace"))
}
