//! Runs the real collector: writes its configuration, starts the program, reads its log, sends it signals.
//!
//! ```no_run
//! # async fn example(service: testkit::service::Service, relay: testkit::relay::Relay, pki: testkit::pki::Pki) -> anyhow::Result<()> {
//! use std::time::Duration;
//! use testkit::collector::{Collector, Config, Folder, Input, Output};
//! use testkit::report::Report;
//!
//! let folder = Folder::new(&pki)?;
//! folder.configure(&Config::new(
//!     Input::for_service(&service).service(Report::MessageTrace, &[("override_time_delay_in_seconds", "1")]),
//!     Output::relay(relay.port()),
//! ))?;
//! let mut collector = Collector::start("target/debug/exchange-reports-collector".as_ref(), &folder)?;
//! collector.wait_for("window delivered", Duration::from_secs(10)).await?;
//! let ended = collector.stop(Duration::from_secs(8)).await?;
//! assert_eq!(ended.code, Some(0));
//! # Ok(()) }
//! ```

mod config;

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{fs, io};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::timeout;

pub use config::{Config, Credentials, Input, Output};

use crate::pki::Pki;
use crate::sync::lock;

/// A collector's work folder: `config/`, `certs/`, `credentials/`, `state/` beside each other. It goes with this value.
pub struct Folder {
    root: TempDir,
}

impl Folder {
    /// A new one, with the client's certificate in `certs/`.
    pub fn new(pki: &Pki) -> Result<Folder> {
        let folder = Folder {
            root: tempfile::tempdir().context("no temporary folder")?,
        };
        for name in ["config", "certs", "credentials", "state"] {
            fs::create_dir(folder.path().join(name))
                .with_context(|| format!("cannot make {name}/"))?;
        }
        pki.write_client(&folder.certs())?;
        Ok(folder)
    }

    /// The work folder.
    pub fn path(&self) -> &Path {
        self.root.path()
    }

    /// Where certificates and keys lie.
    pub fn certs(&self) -> PathBuf {
        self.path().join("certs")
    }

    /// Where cursors and journals lie.
    pub fn state(&self) -> PathBuf {
        self.path().join("state")
    }

    /// Writes `config/config.yaml`.
    pub fn configure(&self, config: &Config) -> Result<()> {
        self.configure_raw(&config.yaml())
    }

    /// Writes `config/config.yaml` as it stands.
    pub fn configure_raw(&self, yaml: &str) -> Result<()> {
        fs::write(self.path().join("config/config.yaml"), yaml)
            .context("cannot write config/config.yaml")
    }
}

/// A running collector; killed when dropped.
pub struct Collector {
    child: Child,
    pid: Pid,
    started: Instant,
    log: Lines,
    output: Lines,
}

/// How a collector ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// The exit status; none after a signal.
    pub code: Option<i32>,
    /// The time from the signal (or the call) to the end.
    pub took: Duration,
}

impl Collector {
    /// Starts the program in the folder, with no arguments.
    pub fn start(program: &Path, folder: &Folder) -> Result<Collector> {
        Collector::start_with(program, folder, |_| {})
    }

    /// Starts the program in the folder, with arguments and variables of the caller's.
    pub fn start_with(
        program: &Path,
        folder: &Folder,
        change: impl FnOnce(&mut Command),
    ) -> Result<Collector> {
        let program = fs::canonicalize(program)
            .with_context(|| format!("no collector at {}", program.display()))?;
        let mut command = Command::new(&program);
        command
            .current_dir(folder.path())
            .env_remove("CONFIG_FILE")
            .env("NO_PROXY", "127.0.0.1,localhost,::1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            // Ctrl-C in a terminal is for the caller, who stops the collector in order.
            .process_group(0);
        change(&mut command);
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let pid = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .context("the collector has no process id")?;
        // A stream that the caller has sent elsewhere has no lines here.
        let log = child.stderr.take().map_or_else(Lines::none, Lines::of);
        let output = child.stdout.take().map_or_else(Lines::none, Lines::of);
        Ok(Collector {
            child,
            pid: Pid::from_raw(pid),
            started: Instant::now(),
            log,
            output,
        })
    }

    /// The process's id.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// How long it has been since the start.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// The lines on standard error so far.
    pub fn log(&self) -> Vec<String> {
        self.log.all()
    }

    /// The lines on standard output so far.
    pub fn output(&self) -> Vec<String> {
        self.output.all()
    }

    /// Reads standard error no more, or again.
    pub fn pause_log(&self, pause: bool) {
        self.log.paused.send_replace(pause);
    }

    /// Reads standard output no more, or again.
    pub fn pause_output(&self, pause: bool) {
        self.output.paused.send_replace(pause);
    }

    /// The lines on standard error so far that contain `pattern`.
    pub fn log_with(&self, pattern: &str) -> Vec<String> {
        self.log()
            .into_iter()
            .filter(|line| line.contains(pattern))
            .collect()
    }

    /// Waits for a line on standard error that contains `pattern`, past ones included.
    ///
    /// # Errors
    ///
    /// The time is over, or the log ended without it; the message has the log's last lines.
    pub async fn wait_for(&self, pattern: &str, patience: Duration) -> Result<String> {
        match timeout(patience, self.log.find(pattern)).await {
            Ok(Some(line)) => Ok(line),
            Ok(None) => bail!(
                "the collector ended without `{pattern}` in its log:\n{}",
                self.log.tail()
            ),
            Err(_) => bail!(
                "no `{pattern}` in the log after {patience:?}:\n{}",
                self.log.tail()
            ),
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.pid, signal).with_context(|| format!("cannot send {signal} to {}", self.pid))
    }

    /// SIGTERM, then the end; an error if it takes longer than `patience`.
    pub async fn stop(&mut self, patience: Duration) -> Result<Ended> {
        if self.child.try_wait()?.is_none() {
            self.signal(Signal::SIGTERM)?;
        }
        self.wait(patience).await
    }

    /// SIGKILL, then the end.
    pub async fn kill(&mut self) -> Result<Ended> {
        if self.child.try_wait()?.is_none() {
            self.signal(Signal::SIGKILL)?;
        }
        self.wait(Duration::from_secs(10)).await
    }

    /// Waits for the end, and for the last line of the log.
    pub async fn wait(&mut self, patience: Duration) -> Result<Ended> {
        let start = Instant::now();
        let Ok(status) = timeout(patience, self.child.wait()).await else {
            bail!(
                "the collector still runs after {patience:?}:\n{}",
                self.log.tail()
            );
        };
        let status: ExitStatus = status.context("cannot wait for the collector")?;
        let ended = Ended {
            code: status.code(),
            took: start.elapsed(),
        };
        let _ = timeout(Duration::from_secs(1), self.log.end()).await;
        let _ = timeout(Duration::from_secs(1), self.output.end()).await;
        Ok(ended)
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The memory that it holds now, in KiB.
    pub fn resident_kib(&self) -> Result<u64> {
        self.status_kib("VmRSS:")
    }

    /// The most memory that it held so far, in KiB.
    pub fn resident_peak_kib(&self) -> Result<u64> {
        self.status_kib("VmHWM:")
    }

    /// The memory that it holds for data, in KiB: without its program, whose size is another matter.
    pub fn data_kib(&self) -> Result<u64> {
        self.status_kib("RssAnon:")
    }

    /// The processor time that it has used so far, its own and the kernel's for it, in seconds.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid))
            .context("the collector is gone")?;
        // The second field is the program's name in parentheses; utime and stime are the 14th and 15th (proc(5)).
        let fields = stat.rsplit_once(')').context("no such figure")?.1;
        let ticks: Vec<u32> = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        let a_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.unwrap_or(100);
        Ok(f64::from(ticks.iter().sum::<u32>()) / f64::from(i32::try_from(a_second)?))
    }

    fn status_kib(&self, name: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))
            .context("the collector is gone")?;
        let value = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .context("no such figure")?;
        Ok(value.trim().trim_end_matches(" kB").parse()?)
    }

    /// How many files and sockets it has open.
    pub fn open_files(&self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.pid))
            .context("the collector is gone")?
            .count())
    }
}

/// The lines of a stream, gathered as they come.
#[derive(Clone)]
struct Lines {
    gathered: Arc<Mutex<Vec<String>>>,
    /// How many there are; its sender goes with the stream's end.
    count: watch::Receiver<usize>,
    /// Whether the stream is not read.
    paused: Arc<watch::Sender<bool>>,
}

impl Lines {
    fn of(stream: impl AsyncRead + Unpin + Send + 'static) -> Lines {
        let (lines, (count, seen)) = (Arc::<Mutex<Vec<String>>>::default(), watch::channel(0));
        let gathered = Arc::clone(&lines);
        let (paused, mut pausing) = watch::channel(false);
        tokio::spawn(async move {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            loop {
                // An error: there is nobody left who could pause it.
                let _ = pausing.wait_for(|paused| !paused).await;
                let Ok(1..) = read_line(&mut reader, &mut line).await else {
                    return;
                };
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                lock(&gathered).push(text);
                count.send_modify(|count| *count += 1);
            }
        });
        Lines {
            gathered: lines,
            count: seen,
            paused: Arc::new(paused),
        }
    }

    fn none() -> Lines {
        Lines::of(tokio::io::empty())
    }

    fn all(&self) -> Vec<String> {
        lock(&self.gathered).clone()
    }

    fn tail(&self) -> String {
        let lines = lock(&self.gathered);
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    async fn find(&self, pattern: &str) -> Option<String> {
        let mut count = self.count.clone();
        let mut searched = 0;
        loop {
            let gone = count.has_changed().is_err();
            {
                let lines = lock(&self.gathered);
                if let Some(line) = lines[searched..].iter().find(|line| line.contains(pattern)) {
                    return Some(line.clone());
                }
                searched = lines.len();
            }
            if gone {
                return None;
            }
            // An error is the stream's end: what came last is searched once more.
            let _ = count.changed().await;
        }
    }

    async fn end(&self) {
        let mut count = self.count.clone();
        while count.changed().await.is_ok() {}
    }
}

async fn read_line<R: AsyncRead + Unpin>(
    reader: &mut BufReader<R>,
    line: &mut Vec<u8>,
) -> io::Result<usize> {
    line.clear();
    reader.read_until(b'\n', line).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(folder: &Folder, script: &str) -> Collector {
        let start = |command: &mut Command| {
            command.args(["-c", script]);
        };
        Collector::start_with("/bin/sh".as_ref(), folder, start).unwrap()
    }

    fn folder() -> Folder {
        Folder::new(&Pki::new().unwrap()).unwrap()
    }

    #[tokio::test]
    async fn a_line_is_found_before_and_after_it_comes_and_the_exit_status_is_told() {
        let folder = folder();
        let script = "echo one >&2; echo shown; trap 'echo bye >&2; exit 3' TERM; while :; do sleep 0.02; done";
        let mut process = shell(&folder, script);
        let patience = Duration::from_secs(5);
        process.wait_for("one", patience).await.unwrap();
        process.wait_for("one", patience).await.unwrap();
        assert!(
            process
                .wait_for("two", Duration::from_millis(100))
                .await
                .is_err()
        );
        assert_eq!(process.stop(patience).await.unwrap().code, Some(3));
        assert_eq!(process.log(), ["one", "bye"]);
        assert_eq!(process.output(), ["shown"]);
        assert!(
            process
                .wait_for("two", patience)
                .await
                .unwrap_err()
                .to_string()
                .contains("ended without")
        );
    }

    #[tokio::test]
    async fn a_killed_process_has_no_exit_status() {
        let folder = folder();
        let mut process = shell(&folder, "exec sleep 60");
        assert!(process.is_running());
        assert_eq!(process.kill().await.unwrap().code, None);
        assert!(!process.is_running());
    }
}
