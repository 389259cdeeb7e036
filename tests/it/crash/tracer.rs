//! strace between the collector and the kernel: it kills, or refuses, at the n-th call of a kind. The program itself is not changed.
//!
//! strace counts the calls of each thread by itself, so a number stands for another step where blocking work happens to take another
//! thread: what was hit is read from the trace.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::collector::Collector;

use crate::setting::{Setting, program};

/// Calls on the files of the state folder.
pub(super) const FILE_CALLS: [&str; 10] = [
    "mkdir",
    "openat",
    "write",
    "fsync",
    "fdatasync",
    "rename",
    "fallocate",
    "ftruncate",
    "lseek",
    "close",
];

/// Calls on sockets: connections, TLS writes, the half-close, and the reads that bring the receipt.
pub(super) const SOCKET_CALLS: [&str; 4] = ["connect", "writev", "shutdown", "recvfrom"];

/// Whether strace can be used here. If not, says so; under `CI=true` that is a failure.
#[expect(clippy::print_stderr, reason = "what is left out is said aloud")]
pub(crate) fn is_there() -> bool {
    let tried = Command::new("strace")
        .args(["-qq", "-f", "-e", "trace=none", "true"])
        .output();
    let why = match tried {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    eprintln!("SKIPPED: strace cannot be used: {why}");
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "nothing may be skipped with CI=true"
    );
    false
}

/// The collector under strace. The process is the collector's own, so signals and the exit status are its.
pub(super) struct Traced {
    pub(super) collector: Collector,
    trace: PathBuf,
}

impl Traced {
    /// Traces these calls; those on files only where they are on the state folder's.
    pub(super) fn start(setting: &Setting, calls: &[&str], injection: Option<&str>) -> Self {
        let trace = setting.folder.path().join("trace");
        let mut arguments = vec!["-e".to_owned(), format!("trace={}", calls.join(","))];
        if !calls.iter().any(|call| SOCKET_CALLS.contains(call)) {
            arguments.extend(
                state_paths(setting)
                    .into_iter()
                    .flat_map(|path| ["-P".to_owned(), path]),
            );
        }
        arguments.extend(
            injection
                .into_iter()
                .flat_map(|what| ["-e".to_owned(), format!("inject={what}")]),
        );
        let collector = Collector::start_with(&strace(), &setting.folder, |command| {
            command
                .args(["-D", "-f", "-qq", "-yy", "-s", "0", "-o"])
                .arg(&trace)
                .args(arguments)
                .arg(program());
        });
        Traced {
            collector: collector.unwrap(),
            trace,
        }
    }

    /// Whether a call has been refused.
    pub(super) fn has_injected(&self) -> bool {
        let trace = std::fs::read_to_string(&self.trace).unwrap_or_default();
        trace.contains("(INJECTED)")
    }

    /// The steps so far, in the order in which they were begun, each with its number among its thread's calls of this kind.
    pub(super) fn steps(&self, setting: &Setting) -> Vec<(Step, usize)> {
        let (mut ordinals, mut numbers) = (HashMap::new(), HashMap::new());
        let trace = std::fs::read_to_string(&self.trace).unwrap_or_default();
        let relay = setting.relay.port().to_string();
        let mut steps = vec![];
        for (thread, call, place) in trace.lines().filter_map(begun) {
            let port = place.parse::<u16>().is_ok();
            let place = if place == relay {
                "relay"
            } else if port {
                "service"
            } else {
                place
            };
            let ordinal = ordinals.entry((call, place)).or_insert(0);
            let number = numbers.entry((thread, call)).or_insert(0);
            *ordinal += 1;
            *number += 1;
            let step = Step {
                call: call.to_owned(),
                place: place.to_owned(),
                ordinal: *ordinal,
            };
            steps.push((step, *number));
        }
        steps
    }
}

/// One call: which, on what, and the how many-th of its kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Step {
    pub(super) call: String,
    /// The file's name, or the peer.
    pub(super) place: String,
    pub(super) ordinal: usize,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} #{}", self.call, self.place, self.ordinal)
    }
}

/// Thread, call and place of a line at which a call begins; a place is a file's name or a peer's port.
fn begun(line: &str) -> Option<(&str, &str, &str)> {
    let (thread, line) = line.split_once(' ')?;
    let (call, rest) = line.trim_start().split_once('(')?;
    if call.starts_with('<') {
        return None;
    }
    if let Some((_, port)) = rest.split_once("htons(") {
        return Some((thread, call, port.split_once(')')?.0));
    }
    if let Some((_, peer)) = rest.split_once("->") {
        return Some((thread, call, peer.split_once(']')?.0.rsplit_once(':')?.1));
    }
    let mut words = rest.split(['<', '>', '"']);
    let path = words.find(|word| word.contains("/state") || word.starts_with("state"))?;
    let name = path.rsplit('/').next()?;
    Some((
        thread,
        call,
        if name.starts_with("office365") {
            "its folder"
        } else {
            name
        },
    ))
}

/// The names that the state folder's files are known by, as the program gives them and in full.
fn state_paths(setting: &Setting) -> Vec<String> {
    let mut names = vec![
        "state".to_owned(),
        "state/fingerprint.key".to_owned(),
        "state/fingerprint.key.new".to_owned(),
        "state/addresses".to_owned(),
        "state/addresses.new".to_owned(),
    ];
    for report in testkit::report::Report::ALL {
        let folder = format!(
            "state/{}",
            setting
                .state_of(report)
                .file_name()
                .unwrap()
                .to_string_lossy()
        );
        for file in [
            "cursor",
            "cursor.new",
            "journal.devo_1",
            "journal.devo_1.new",
        ] {
            names.push(format!("{folder}/{file}"));
        }
        names.push(folder);
    }
    let root = setting.folder.path();
    let whole: Vec<_> = names
        .iter()
        .map(|name| root.join(name).to_string_lossy().into_owned())
        .collect();
    names.extend(whole);
    names
}

pub(crate) fn strace() -> PathBuf {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths)
        .map(|folder: PathBuf| folder.join("strace"))
        .find(|path: &PathBuf| Path::exists(path))
        .unwrap()
}
