//! The systemd unit in the README: systemd understands it and finds it tight, and the collector needs nothing that it forbids.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;
use testkit::collector::{Collector, Config, Output as Relay};
use testkit::report::Report;

use crate::setting::{PATIENCE, Setting, log, program, skip};

const README: &str = include_str!("../../README.md");
const INSTALLED: &str = "/usr/local/bin/exchange-reports-collector";

/// Ten times the highest exposure, of which 10.0 is all that there is.
const EXPOSURE_MAX: &str = "--threshold=15";

/// Somebody who owns nothing.
const USER: u32 = 1000;

/// The unit as it is printed.
fn unit() -> &'static str {
    let (_, rest) = README.split_once("```ini\n").unwrap();
    rest.split_once("```").unwrap().0
}

/// The values of a key, in order; each may be of several words.
fn values(key: &str) -> impl Iterator<Item = &'static str> {
    unit().lines().filter_map(move |line| {
        let (known, value) = line.split_once('=')?;
        (known == key).then_some(value)
    })
}

fn is_there(tool: &str, package: &str) -> bool {
    let found = Command::new(tool).arg("--version").output().is_ok();
    found || skip(&format!("{tool}: the package {package} is missing"))
}

/// Runs systemd-analyze on the unit, with the program under test in the place of the installed one.
fn analyze(arguments: &[&str]) -> String {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("exchange-reports-collector.service");
    assert!(unit().contains(INSTALLED));
    let here = unit().replace(INSTALLED, &program().display().to_string());
    fs::write(&path, here).unwrap();
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new("systemd-analyze")
        .args(arguments)
        .arg(&path)
        .output()
        .unwrap();
    let told = [stdout, stderr].concat();
    let told = String::from_utf8_lossy(&told).into_owned();
    assert!(status.success(), "{told}");
    told
}

#[test]
fn systemd_understands_all_of_it() {
    if is_there("systemd-analyze", "systemd") {
        assert_eq!(analyze(&["verify"]), "");
    }
}

#[test]
fn systemd_finds_it_tight() {
    if is_there("systemd-analyze", "systemd") {
        let told = analyze(&["security", "--offline=true", "--no-pager", EXPOSURE_MAX]);
        let said = README.split_once("rates it ").unwrap().1;
        let said = said.split_once(',').unwrap().0;
        let rated = format!("exchange-reports-collector.service: {said} OK");
        assert!(told.contains(&rated), "not {said}: {told}");
    }
}

#[test]
fn a_configuration_that_cannot_be_run_is_not_tried_again() {
    assert_eq!(values("Restart").next(), Some("on-failure"));
    let folder = TempDir::new().unwrap();
    let ended = Command::new(program())
        .current_dir(folder.path())
        .output()
        .unwrap();
    let prevented = values("RestartPreventExitStatus").next().unwrap();
    assert_eq!(
        ended.status.code().unwrap().to_string(),
        prevented,
        "{ended:?}"
    );
}

/// The system calls of each of systemd's sets, which may name further sets.
fn sets() -> BTreeMap<String, BTreeSet<String>> {
    let listed = Command::new("systemd-analyze")
        .args(["--no-pager", "syscall-filter"])
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let mut sets: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    let mut set = String::new();
    for line in listed.lines() {
        let name = line.trim();
        if line.starts_with('@') {
            name.clone_into(&mut set);
        } else if line.starts_with(' ') && !name.starts_with('#') {
            sets.entry(set.clone()).or_default().insert(name.to_owned());
        }
    }
    sets
}

fn members(sets: &BTreeMap<String, BTreeSet<String>>, name: &str) -> BTreeSet<String> {
    let Some(set) = sets.get(name) else {
        assert!(!name.starts_with('@'), "there is no set {name}");
        return BTreeSet::from([name.to_owned()]);
    };
    set.iter().flat_map(|name| members(sets, name)).collect()
}

/// The system calls that the unit allows.
fn allowed() -> BTreeSet<String> {
    let sets = sets();
    let mut allowed = BTreeSet::new();
    for value in values("SystemCallFilter") {
        let (takes_away, names) = match value.strip_prefix('~') {
            Some(names) => (true, names),
            None => (false, value),
        };
        for name in names.split_whitespace() {
            for call in members(&sets, name) {
                if takes_away {
                    allowed.remove(&call);
                } else {
                    allowed.insert(call);
                }
            }
        }
    }
    allowed
}

/// Gives what the unit's user may read to its group, as the README has it, and returns a state folder elsewhere.
fn hand_over(folder: &Path, state: &TempDir) -> PathBuf {
    for name in ["", "config", "certs", "credentials"] {
        let path = folder.join(name);
        fs::set_permissions(&path, Permissions::from_mode(0o750)).unwrap();
        chown(&path, Some(0), Some(USER)).unwrap();
        for file in fs::read_dir(path).unwrap().flatten() {
            if file.path().is_file() {
                fs::set_permissions(file.path(), Permissions::from_mode(0o640)).unwrap();
                chown(file.path(), Some(0), Some(USER)).unwrap();
            }
        }
    }
    fs::remove_dir(folder.join("state")).unwrap();
    chown(state.path(), Some(USER), Some(USER)).unwrap();
    state.path().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_with_read_only_configuration_calls_nothing_that_it_forbids() {
    if !nix::unistd::geteuid().is_root() {
        skip("only root can run the collector as somebody else");
        return;
    }
    if !is_there("strace", "strace") || !is_there("systemd-analyze", "systemd") {
        return;
    }
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(30), setting.ago(25));
    setting.rows(Report::MessageTrace, from, to, 3_000);
    let input = setting
        .input()
        .service_from(Report::MessageTrace, from, &[]);
    let state = TempDir::new().unwrap();
    let yaml = Config::new(input, Relay::relay(setting.relay.port())).yaml();
    let elsewhere = format!("directory_name: {}", state.path().display());
    let yaml = yaml.replace("directory_name: state", &elsewhere);
    setting.folder.configure_raw(&yaml).unwrap();
    let trace = hand_over(setting.folder.path(), &state).join("trace");
    let mut collector = Collector::start_with("/usr/bin/strace".as_ref(), &setting.folder, |run| {
        run.args(["-f", "-qq", "-o"])
            .arg(&trace)
            .arg(program())
            .arg("--once");
        run.uid(USER).gid(USER);
    })
    .unwrap();
    let ended = collector.wait(PATIENCE).await.unwrap();
    assert_eq!(ended.code, Some(0), "{}", log(&collector));
    setting.expect_exactly(
        &setting.existing(Report::MessageTrace, from, to),
        &collector,
    );

    let trace = fs::read_to_string(trace).unwrap();
    let called = trace.lines().filter_map(|line| {
        let call = line.split_once(' ')?.1.trim_start();
        let (name, _) = call.split_once('(')?;
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        name.bytes().all(is_name).then(|| name.to_owned())
    });
    let called: BTreeSet<String> = called.collect();
    assert!(
        called.contains("connect") && called.contains("fsync"),
        "{called:?}"
    );
    let forbidden: Vec<_> = called.difference(&allowed()).cloned().collect();
    assert_eq!(forbidden, Vec::<String>::new());
    let families: BTreeSet<_> = trace
        .split("socket(")
        .skip(1)
        .filter_map(|call| call.split_once(','))
        .map(|(family, _)| family)
        // The resolver looks whether there is IPv6, and takes it that there is where it may not look.
        .filter(|family| *family != "AF_NETLINK")
        .collect();
    let open: BTreeSet<_> = values("RestrictAddressFamilies")
        .flat_map(str::split_whitespace)
        .collect();
    assert!(families.is_subset(&open), "{families:?}");
}
