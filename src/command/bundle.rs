//! One archive with what somebody needs who helps from afar: what this is, how it is set up, what it has done and what it is doing.
//!
//! Nothing secret goes in, and no record: the configuration without its secrets, of the state what `state show` shows and the names of its files,
//! and of a running collector what it serves to everybody. Whatever cannot be had says in its place why.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::Result;
use chrono::{DateTime, SecondsFormat, Utc};
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::StatusCode;
use nix::sys::statvfs::statvfs;
use serde_json::Value;
use tar::{Builder, Header};

use super::state;
use crate::command::check::{Scope, check};
use crate::command::visit::Visit;
use crate::config::{self, Config, Listen, Loaded, Mistakes, Monitoring, Persistence, Source};
use crate::foreign::printable;
use crate::privileges::Outcome;
use crate::version::VERSION;
use crate::web::Identity;

/// Variables that change what the collector does and hold no secret.
const VARIABLES: [&str; 6] = [
    "CONFIG_FILE",
    "COLLECTOR_IMAGE",
    "LOG_FORMAT",
    "RUST_LOG",
    "NO_PROXY",
    "no_proxy",
];

/// The same, but for a password that may be in them.
const PROXIES: [&str; 6] = [
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// The most files of the state that are named.
const FILES_MAX: usize = 1_000;

/// What a running collector serves: the path, the file, and what it is.
const SERVED: [(&str, &str, &str); 4] = [
    (
        "/healthz",
        "health.txt",
        "whether the running collector makes progress",
    ),
    (
        "/status",
        "status.json",
        "what the running collector is doing",
    ),
    ("/metrics", "metrics.txt", "the running collector's metrics"),
    (
        "/log",
        "log.txt",
        "the last lines of the running collector's log",
    ),
];

/// A file of the archive.
struct Part {
    name: &'static str,
    about: &'static str,
    text: String,
}

/// The archive's files, in its order.
pub struct Bundle {
    made: DateTime<Utc>,
    /// The configuration did not tell where the running collector listens.
    assumed: bool,
    parts: Vec<Part>,
}

/// What has to be read before root is given up, as a configuration that holds a secret may belong to root.
pub struct Setup<'a> {
    source: &'a Source,
    loaded: Result<Loaded, Mistakes>,
    redacted: Option<Value>,
    kept: Option<Persistence>,
    listen: Option<Listen>,
    identity: Option<Identity>,
}

impl<'a> Setup<'a> {
    /// What is `loaded` from `source`, and what can be read of it where it cannot be run.
    pub fn read(source: &'a Source, loaded: Result<Loaded, Mistakes>) -> Self {
        let legible = config::globals(source);
        let globals = loaded.as_ref().ok().map(|loaded| &loaded.config.globals);
        let globals = globals.or(legible.as_ref());
        Setup {
            source,
            redacted: config::redacted(source),
            kept: globals.map(|globals| globals.state.clone()),
            listen: globals.map(|globals| globals.monitoring.listen),
            identity: globals.map(Identity::of),
            loaded,
        }
    }

    /// The configuration, where it can be run.
    pub fn config(&self) -> Option<&Config> {
        self.loaded.as_ref().ok().map(|loaded| &loaded.config)
    }
}

/// Gathers everything. `user` is who the process has become ([`crate::privileges::rehearse`]), `None` where there was no configuration to go
/// by.
///
/// The check that is part of it asks each relay and each report once, as the command `check` does.
pub async fn bundle(setup: Setup<'_>, user: Option<Result<Outcome>>) -> Bundle {
    let made = Utc::now();
    let mut parts = vec![
        part(
            "version.txt",
            "the program and where it runs",
            program(made),
        ),
        part(
            "configuration.json",
            "the configuration, without what is or may be secret",
            configuration(&setup),
        ),
    ];
    parts.extend(state(&setup, made));
    let assumed = setup.listen.is_none();
    let listen = setup.listen.unwrap_or(Monitoring::default().listen);
    for (path, name, about) in SERVED {
        let wanted = setup.identity.clone();
        parts.push(part(name, about, served(listen, wanted, path).await));
    }
    let inspection = check(setup.source, setup.loaded, user, &Scope::default()).await;
    parts.push(part(
        "check.txt",
        "what `check` says; of a state folder that is in use by the running collector, that it is",
        inspection.to_string(),
    ));
    parts.push(part(
        "check.json",
        "the same for machines",
        format!("{:#}\n", inspection.json()),
    ));
    Bundle {
        made,
        assumed,
        parts,
    }
}

fn state(setup: &Setup<'_>, now: DateTime<Utc>) -> Vec<Part> {
    let table = |text| part("state.txt", "cursor, lag and counts of each service", text);
    let folder = match &setup.kept {
        Some(Persistence::Directory(folder)) => folder,
        Some(Persistence::Memory { .. }) => {
            return vec![table("the state is kept in memory\n".to_owned())];
        }
        None => {
            let text = "the configuration cannot be read, so it is not known where the state is\n";
            return vec![table(text.to_owned())];
        }
    };
    let names = part(
        "state-files.txt",
        "the files of the state: their names, not what is in them",
        files(folder),
    );
    match state::show(folder, setup.config(), now) {
        Ok(shown) => {
            let json: Value = shown.iter().map(state::Shown::json).collect();
            let json = format!("{json:#}\n");
            vec![
                table(state::table(&shown)),
                part("state.json", "the same for machines", json),
                names,
            ]
        }
        Err(error) => vec![table(format!("{error:#}\n")), names],
    }
}

impl Bundle {
    /// Writes it as a compressed tar, all files in one folder.
    ///
    /// # Errors
    ///
    /// What `to` refuses.
    pub fn write(&self, to: impl io::Write) -> io::Result<()> {
        let folder = name(self.made);
        let mut archive = Builder::new(GzEncoder::new(to, Compression::default()));
        let mut add = |name: &str, text: &str| {
            let mut header = Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(self.made.timestamp().unsigned_abs());
            let path = format!("{folder}/{name}");
            archive.append_data(&mut header, path, text.as_bytes())
        };
        add("README.txt", &self.contents())?;
        for part in &self.parts {
            add(part.name, &part.text)?;
        }
        archive.into_inner()?.finish()?.flush()
    }

    /// What is in which file.
    fn contents(&self) -> String {
        let mut text = "For whoever helps. No password, key, token or record is in here as far as the collector knows; names of hosts, tenants and\n\
             services are. Look through it before you give it away.\n\n"
            .to_owned();
        for part in &self.parts {
            // Writing to a text does not fail.
            let _ = writeln!(text, "{:20} {}", part.name, part.about);
        }
        if self.assumed {
            text.push_str(
                "\nThe configuration cannot be read. The running collector was asked at the default address: it may be another one.\n",
            );
        }
        text
    }
}

/// The name of a bundle that is made now.
pub fn name(now: DateTime<Utc>) -> String {
    format!("support-bundle-{}", now.format("%Y%m%dT%H%M%SZ"))
}

/// A file, whose text may be of another program's making: what answers at the collector's address, or a file's name.
fn part(name: &'static str, about: &'static str, text: String) -> Part {
    let text = match printable(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(text) => text,
    };
    Part { name, about, text }
}

fn program(now: DateTime<Utc>) -> String {
    let mut text = format!(
        "exchange-reports-collector {}\nnow {}\n",
        VERSION.as_str(),
        now.to_rfc3339_opts(SecondsFormat::Millis, true)
    );
    let kernel = fs::read_to_string("/proc/version").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let folder = std::env::current_dir().unwrap_or_default();
    let _ = writeln!(
        text,
        "{}\n{cores} cores, {}",
        kernel.trim_end(),
        std::env::consts::ARCH
    );
    let _ = writeln!(text, "folder {}", folder.display());
    for name in VARIABLES {
        if let Ok(value) = std::env::var(name) {
            let _ = writeln!(text, "{name}={value}");
        }
    }
    for name in PROXIES {
        if std::env::var_os(name).is_some() {
            let _ = writeln!(text, "{name} is set");
        }
    }
    text
}

fn configuration(setup: &Setup<'_>) -> String {
    setup.redacted.as_ref().map_or_else(
        || format!("{} cannot be read; check.txt says why\n", setup.source),
        |redacted| format!("{redacted:#}\n"),
    )
}

/// What the `wanted` collector serves at `path`; of another one nothing.
async fn served(listen: Listen, wanted: Option<Identity>, path: &str) -> String {
    let answer = async { Visit::to(listen, wanted)?.read(path).await };
    match answer.await {
        Ok((StatusCode::OK, text)) => text,
        Ok((status, text)) => format!("{status}\n{text}"),
        Err(error) => format!("{error:#}\n"),
    }
}

/// The files below `folder`, and the room that is left for more.
fn files(folder: &Path) -> String {
    let mut text = String::new();
    match statvfs(folder) {
        Ok(system) => {
            let free = u128::from(system.blocks_available()) * u128::from(system.fragment_size());
            let _ = writeln!(
                text,
                "free: {} MiB, {} files",
                free >> 20,
                system.files_available()
            );
        }
        Err(error) => {
            let _ = writeln!(text, "{}: {error}", folder.display());
        }
    }
    let mut folders = vec![folder.to_owned()];
    let mut named = 0;
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) => {
                let _ = writeln!(text, "{}: {error}", folder.display());
                continue;
            }
        };
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            named += 1;
            if named > FILES_MAX {
                text.push_str("and more\n");
                return text;
            }
            let Ok(file) = fs::symlink_metadata(&path) else {
                continue;
            };
            let modified = file.modified().map(DateTime::<Utc>::from);
            let modified = modified.map(|time| time.to_rfc3339_opts(SecondsFormat::Secs, true));
            let _ = writeln!(
                text,
                "{:o} {}:{} {:>10} {} {}",
                file.mode(),
                file.uid(),
                file.gid(),
                file.len(),
                modified.unwrap_or_default(),
                path.display()
            );
            if file.is_dir() {
                folders.push(path);
            }
        }
    }
    text
}
