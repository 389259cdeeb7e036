//! The programs that are measured, and how each is started.

use std::fmt;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use testkit::report::Report;

use crate::pages::Pages;
use crate::relay::Tally;
use crate::rows::{Backlog, Templates};
use crate::scene::Scene;
use crate::watcher;

/// Blocks that a program without adaptive windows asks for at once, 18,000 rows: what the collector settles on here.
const SPAN: i64 = 900;

/// What stands before a row in a line, and behind it in place of its closing brace.
const LINE: (&str, &str) = (
    "<14>2026-11-22 14:40:52.290 bench cloud.office365.reporting.messagetrace: ",
    ",\"@devo_pulling_id\": \"1795358452290\"}\n",
);

/// A program that is measured.
#[derive(Clone, Debug)]
pub enum Program {
    /// The collector, as it is shipped.
    Collector(PathBuf),
    /// The same, asked for its metrics and its page each second.
    Watched(PathBuf),
    /// The same, listening nowhere.
    Unwatched(PathBuf),
    /// Another one, such as that of an earlier commit.
    Beside(PathBuf),
    /// The same crates with nothing of ours.
    Limit(PathBuf),
    /// The original's way, in Python; the interpreter that has its packages.
    Original(PathBuf),
    /// The best of Python.
    Best(PathBuf),
    /// rsyslog, which forwards lines from a file.
    Rsyslog,
    /// syslog-ng, likewise; the folder that it is unpacked in.
    SyslogNg(PathBuf),
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Program::Collector(_) => "collector",
            Program::Watched(_) => "collector, watched",
            Program::Unwatched(_) => "collector, listening nowhere",
            Program::Beside(_) => "the collector beside it",
            Program::Limit(_) => "the limit",
            Program::Original(_) => "the original's way (Python)",
            Program::Best(_) => "best Python",
            Program::Rsyslog => "rsyslog, forwarding only",
            Program::SyslogNg(_) => "syslog-ng, forwarding only",
        })
    }
}

/// What is to be delivered.
pub struct Job<'a> {
    /// Where it is asked for.
    pub pages: &'a Pages,
    /// Of which reports; programs other than the collector take message traces only.
    pub reports: &'a [Report],
    /// The same as lines in a file, for those that only forward.
    pub lines: Option<&'a Path>,
}

impl Job<'_> {
    /// What the relay has to read.
    pub(crate) fn expected(&self) -> Tally {
        let reports = self.reports.iter().map(|report| *report as u64);
        Tally::of(reports, self.pages.backlog().rows())
    }
}

impl Program {
    /// Whether it is a collector, with configuration and state.
    pub(crate) fn collects(&self) -> bool {
        matches!(
            self,
            Program::Collector(_)
                | Program::Watched(_)
                | Program::Unwatched(_)
                | Program::Beside(_)
        )
    }

    /// Where it listens for who watches it, unless that is left to it.
    pub(crate) fn listens(&self) -> Option<String> {
        match self {
            Program::Watched(_) => Some(watcher::ADDRESS.to_string()),
            Program::Unwatched(_) => Some("off".to_owned()),
            _ => None,
        }
    }

    /// Whether it takes lines from a file, rather than pages.
    pub fn only_forwards(&self) -> bool {
        matches!(self, Program::Rsyslog | Program::SyslogNg(_))
    }

    pub(crate) fn command(&self, scene: &Scene, job: &Job<'_>, folder: &Path) -> Result<Command> {
        let python = |interpreter: &Path, script: &str| {
            let script = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("python")
                .join(script);
            let mut command = Command::new(interpreter);
            command.arg(script);
            command
        };
        let mut command = match self {
            Program::Collector(program)
            | Program::Watched(program)
            | Program::Unwatched(program)
            | Program::Beside(program) => return Ok(Command::new(program)),
            Program::Rsyslog => return rsyslog(scene, job.lines()?, folder),
            Program::SyslogNg(root) => return syslog_ng(root, scene, job.lines()?, folder),
            Program::Limit(program) => Command::new(program),
            Program::Original(interpreter) => python(interpreter, "original.py"),
            Program::Best(interpreter) => python(interpreter, "best.py"),
        };
        let backlog = job.pages.backlog();
        command
            .arg(job.pages.base_url())
            .args([backlog.from, backlog.to(), SPAN * backlog.step].map(|time| time.to_string()))
            .arg(scene.relay_port().to_string())
            .arg(scene.certs());
        Ok(command)
    }
}

impl Job<'_> {
    fn lines(&self) -> Result<&Path> {
        self.lines.context("there is no file of lines")
    }
}

/// Writes the message traces as the collector's lines.
pub fn write_lines(backlog: &Backlog, path: &Path) -> Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let (templates, mut text) = (Templates::default(), Vec::new());
    for block in 0..backlog.blocks {
        text.clear();
        templates.append(backlog, Report::MessageTrace as u64, block, &mut text);
        for span in templates.spans(block) {
            file.write_all(LINE.0.as_bytes())?;
            file.write_all(&text[span.start..span.end - 1])?;
            file.write_all(LINE.1.as_bytes())?;
        }
    }
    file.flush().context("cannot write the lines")
}

/// Where Debian puts rsyslog.
const RSYSLOGD: &str = "/usr/sbin/rsyslogd";

/// Whether rsyslog is installed.
pub fn has_rsyslog() -> bool {
    Path::new(RSYSLOGD).exists()
}

fn rsyslog(scene: &Scene, lines: &Path, folder: &Path) -> Result<Command> {
    let (certs, port) = (scene.certs().display(), scene.relay_port());
    let config = folder.join("rsyslog.conf");
    let text = format!(
        r#"global(
    workDirectory="{}"
    maxMessageSize="64k"
    defaultNetstreamDriver="ossl"
    defaultNetstreamDriverCAFile="{certs}/chain.crt"
    defaultNetstreamDriverCertFile="{certs}/collector.crt"
    defaultNetstreamDriverKeyFile="{certs}/collector.key"
)
module(load="imfile" mode="inotify")
template(name="raw" type="string" string="%msg%\n")
input(type="imfile" file="{}" tag="lines" freshStartTail="off" addMetadata="off")
action(type="omfwd" target="localhost" port="{port}" protocol="tcp" template="raw"
    streamDriver="ossl" streamDriverMode="1" streamDriverAuthMode="x509/certvalid" action.resumeRetryCount="-1")
"#,
        folder.display(),
        lines.display(),
    );
    fs::write(&config, text)?;
    let mut command = Command::new(RSYSLOGD);
    command.arg("-n").arg("-f").arg(&config);
    command.arg("-i").arg(folder.join("rsyslog.pid"));
    Ok(command)
}

fn syslog_ng(root: &Path, scene: &Scene, lines: &Path, folder: &Path) -> Result<Command> {
    let (certs, port) = (scene.certs().display(), scene.relay_port());
    let config = folder.join("syslog-ng.conf");
    // With its usual window of 100 lines it waits for the relay's TCP most of the time.
    let text = format!(
        r#"@version: 3.38
options {{ log-msg-size(65536); log-fifo-size(20000); stats-freq(0); }};
source s {{ file("{}" flags(no-parse) read-old-records(yes) log-fetch-limit(1000) log-iw-size(10000)); }};
destination d {{
    network("localhost" port({port}) transport("tls") template("$MESSAGE\n")
        tls(ca-file("{certs}/chain.crt") cert-file("{certs}/collector.crt") key-file("{certs}/collector.key")
            peer-verify(required-trusted)));
}};
log {{ source(s); destination(d); flags(flow-control); }};
"#,
        lines.display(),
    );
    fs::write(&config, text)?;
    let at = |path: &str| root.join(path);
    // Unpacked rather than installed: Debian's package would put rsyslog's out.
    let machine = format!("{}-linux-gnu", std::env::consts::ARCH);
    let libraries = [
        at("usr/lib/syslog-ng"),
        at(&format!("usr/lib/{machine}")),
        at(&format!("lib/{machine}")),
    ];
    let mut command = Command::new(at("usr/sbin/syslog-ng"));
    command
        .env("LD_LIBRARY_PATH", std::env::join_paths(libraries)?)
        .args(["--foreground", "--stderr", "--no-caps", "--cfgfile"])
        .arg(&config)
        .arg(format!(
            "--module-path={}",
            at("usr/lib/syslog-ng/3.38").display()
        ))
        .arg(format!(
            "--persist-file={}",
            folder.join("persist").display()
        ))
        .arg(format!("--control={}", folder.join("control").display()))
        .arg(format!("--pidfile={}", folder.join("pid").display()));
    Ok(command)
}
