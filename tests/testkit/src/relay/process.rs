//! A relay in a process of its own, which can be stopped (SIGSTOP), continued and killed at any moment.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::line::Format;
use super::reading::read_ledger;
use crate::pki::Pki;
use crate::records::Records;

/// How long a relay may take to start.
const PATIENCE: Duration = Duration::from_secs(10);

/// A relay in a process of its own; killed when dropped.
pub struct Process {
    program: PathBuf,
    folder: TempDir,
    port: u16,
    arguments: Vec<String>,
    starts: u32,
    child: Child,
}

impl Process {
    /// Starts the program `relay` that lies where the running test's program lies, on a free port.
    ///
    /// # Errors
    ///
    /// The program is not there (`cargo build -p testkit --bins` builds it) or does not start.
    pub fn start(pki: &Pki) -> Result<Process> {
        Process::start_with(pki, &[])
    }

    /// The same, with further arguments of `relay`.
    pub fn start_with(pki: &Pki, arguments: &[&str]) -> Result<Process> {
        let test = std::env::current_exe()?;
        let beside = |folder: &Path| Some(folder.join("relay")).filter(|program| program.is_file());
        let program = test.ancestors().skip(1).take(2).find_map(beside);
        let program = program.context("no program `relay` here: cargo build -p testkit --bins")?;
        Process::start_as(&program, pki, arguments)
    }

    /// Starts this program, on a free port.
    pub fn start_program(program: &Path, pki: &Pki) -> Result<Process> {
        Process::start_as(program, pki, &[])
    }

    fn start_as(program: &Path, pki: &Pki, arguments: &[&str]) -> Result<Process> {
        let arguments: Vec<String> = arguments.iter().map(|&one| one.to_owned()).collect();
        let folder = tempfile::tempdir()?;
        pki.write_server(folder.path())?;
        let (child, port) = spawn(program, folder.path(), 0, 0, &arguments)?;
        Ok(Process {
            program: program.to_owned(),
            folder,
            port,
            arguments,
            starts: 1,
            child,
        })
    }

    /// The relay's port, which stays the same.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Stops the process: its system still takes what is sent, and nobody reads it.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets it go on.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// SIGKILL, then its end.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// The same, without the further arguments from now on.
    pub fn restart_as_normal(&mut self) -> Result<()> {
        self.arguments.clear();
        self.restart()
    }

    /// Kills it if it still runs, and starts it again on the same port.
    pub fn restart(&mut self) -> Result<()> {
        self.kill()?;
        (self.child, _) = spawn(
            &self.program,
            self.folder.path(),
            self.port,
            self.starts,
            &self.arguments,
        )?;
        self.starts += 1;
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?);
        kill(pid, signal).with_context(|| format!("cannot send {signal} to the relay"))
    }

    /// What it has read so far, all starts together, and what violates the format.
    pub fn read(&self) -> Result<(Records, Vec<String>)> {
        let (mut all, mut all_violations) = (Records::default(), Vec::new());
        for start in 0..self.starts {
            let (records, violations) =
                read_ledger(Format::Devo, &ledger(self.folder.path(), start))?;
            all.extend(&records);
            all_violations.extend(violations);
        }
        Ok((all, all_violations))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.kill();
    }
}

/// Each start has a ledger of its own, since a killed one may end within a line.
fn ledger(folder: &Path, start: u32) -> PathBuf {
    folder.join(format!("ledger-{start}"))
}

fn spawn(
    program: &Path,
    folder: &Path,
    port: u16,
    start: u32,
    arguments: &[String],
) -> Result<(Child, u16)> {
    let output = folder.join(format!("output-{start}"));
    let mut child = Command::new(program)
        .arg("--pki")
        .arg(folder)
        .arg("--listen")
        .arg(format!("127.0.0.1:{port}"))
        .arg("--ledger")
        .arg(ledger(folder, start))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(File::create(&output)?)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let begin = Instant::now();
    loop {
        let text = fs::read_to_string(&output)?;
        let first = text
            .split_once('\n')
            .map(|(line, _)| serde_json::from_str::<serde_json::Value>(line));
        if let Some(port) = first.transpose()?.and_then(|event| event["port"].as_u64()) {
            return Ok((child, u16::try_from(port)?));
        }
        if let Some(status) = child.try_wait()? {
            bail!("the relay ended at once: {status}");
        }
        if begin.elapsed() > PATIENCE {
            child.kill()?;
            bail!("the relay does not listen after {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
