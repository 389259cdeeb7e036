//! A program that is measured: started, watched, ended, and what it cost.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeVal;
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// How often a running program is looked at.
const GLANCE: Duration = Duration::from_millis(5);

/// How long a program may take to end in order.
const ENDING: Duration = Duration::from_secs(20);

/// What a run has cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// From the start until all was delivered.
    pub wall: Duration,
    /// Processor time of the whole process, start and end included: its own and the kernel's for it.
    pub cpu: f64,
    /// The most memory that was resident.
    pub peak_kib: u64,
}

/// A running program; killed when dropped.
pub struct Running {
    child: Child,
    log: PathBuf,
    started: Instant,
    peak_kib: u64,
    /// What all children before it have used.
    before: f64,
    ended: Option<ExitStatus>,
}

impl Running {
    /// Starts it; what it says goes to `log`.
    pub fn start(command: &mut Command, log: &Path) -> Result<Running> {
        let out = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        command
            .env("NO_PROXY", "127.0.0.1,localhost")
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out);
        let before = children()?;
        let started = Instant::now();
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Running {
            child,
            log: log.to_owned(),
            started,
            peak_kib: 0,
            before,
            ended: None,
        })
    }

    /// When it was started: the instant before the call.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Waits until `done`, or until it ends of itself, which is an error if it does so with one.
    pub fn until(&mut self, patience: Duration, mut done: impl FnMut() -> bool) -> Result<()> {
        loop {
            // Memory's high-water mark goes with the process, so it is noted as it rises.
            if let Ok(peak) = self.status_kib("VmHWM:") {
                self.peak_kib = self.peak_kib.max(peak);
            }
            if let Some(status) = self.child.try_wait()? {
                self.ended = Some(status);
                ensure!(status.success(), "it ended with {status}:\n{}", self.said());
                return Ok(());
            }
            if done() {
                return Ok(());
            }
            if self.started.elapsed() > patience {
                bail!("not done after {patience:?}:\n{}", self.said());
            }
            thread::sleep(GLANCE);
        }
    }

    /// Ends it by SIGTERM if it still runs, and tells what it has cost; `wall` is the time so far.
    pub fn end(mut self) -> Result<Cost> {
        let wall = self.started.elapsed();
        if self.ended.is_none() {
            kill(Pid::from_raw(self.pid()?), Signal::SIGTERM)?;
            self.until(wall + ENDING, || false)?;
        }
        self.cost(wall)
    }

    /// As [`Running::end`], but by SIGKILL: for a program whose way of ending is no concern here.
    pub fn kill(mut self) -> Result<Cost> {
        let wall = self.started.elapsed();
        self.child.kill()?;
        self.ended = Some(self.child.wait()?);
        self.cost(wall)
    }

    fn cost(&self, wall: Duration) -> Result<Cost> {
        Ok(Cost {
            wall,
            cpu: children()? - self.before,
            peak_kib: self.peak_kib,
        })
    }

    /// The memory that it holds now.
    pub fn resident_kib(&self) -> Result<u64> {
        self.status_kib("VmRSS:")
    }

    /// The processor time that the process has used so far, threads that have ended included.
    pub fn cpu_so_far(&self) -> Result<f64> {
        let clock = clock_getcpuclockid(Pid::from_raw(self.pid()?))?;
        Ok(Duration::from(clock_gettime(clock)?).as_secs_f64())
    }

    fn status_kib(&self, name: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let value = line.context("no such figure")?.trim();
        Ok(value.trim_end_matches(" kB").parse()?)
    }

    fn pid(&self) -> Result<i32> {
        Ok(i32::try_from(self.child.id())?)
    }

    /// The end of what it said.
    pub fn said(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended.is_none() {
            // It may have ended already.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The processor time of all children that have ended and been waited for.
fn children() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let seconds = |time: TimeVal| {
        Duration::new(
            time.tv_sec().cast_unsigned(),
            u32::try_from(time.tv_usec()).unwrap_or_default() * 1_000,
        )
    };
    Ok((seconds(usage.user_time()) + seconds(usage.system_time())).as_secs_f64())
}
