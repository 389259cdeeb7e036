//! The units that ship: systemd understands its own and finds it tight, the collector needs nothing that it forbids, and podman makes a
//! unit of its own.

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
const UNIT: &str = include_str!("../../config/systemd/exchange-reports-collector@.service");
const PODMAN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/podman");

/// Podman's generator of units: installed, or where `.ci/run` unpacks it, since Debian's is newer than the system that runs there.
const QUADLETS: [&str; 2] = [
    "/usr/libexec/podman/quadlet",
    concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/target/ci-tools/podman/usr/libexec/podman/quadlet"
    ),
];

/// Ten times the highest exposure, of which 10.0 is all that there is.
const EXPOSURE_MAX: &str = "--threshold=15";

/// Somebody who owns nothing.
const USER: u32 = 1000;

/// The values of a key, in order; each may be of several words.
fn values(key: &str) -> impl Iterator<Item = &'static str> {
    UNIT.lines().filter_map(move |line| {
        let (known, value) = line.split_once('=')?;
        (known == key).then_some(value)
    })
}

fn is_there(tool: &str, package: &str) -> bool {
    let found = Command::new(tool).arg("--version").output().is_ok();
    found || skip(&format!("{tool}: the package {package} is missing"))
}

/// Runs a tool, which has to succeed, and returns what it prints.
fn run(command: &mut Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let told = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
    assert!(status.success(), "{told}");
    told
}

/// Runs systemd-analyze on a unit.
fn analyze(unit: &str, arguments: &[&str]) -> String {
    let folder = TempDir::new().unwrap();
    let path = folder
        .path()
        .join("exchange-reports-collector@acme.service");
    fs::write(&path, unit).unwrap();
    run(Command::new("systemd-analyze").args(arguments).arg(&path))
}

/// The unit with the program under test in the place of the installed one.
fn unit() -> String {
    let installed = "=exchange-reports-collector";
    let here = format!("={}", program().display());
    let is_command = |line: &&str| line.starts_with("Exec");
    let named = UNIT.lines().filter(is_command);
    assert_eq!(named.filter(|line| line.contains(installed)).count(), 2);
    let lines = UNIT.lines().map(|line| {
        if is_command(&line) {
            line.replace(installed, &here)
        } else {
            line.to_owned()
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn systemd_understands_all_of_it() {
    if is_there("systemd-analyze", "systemd") {
        assert_eq!(analyze(&unit(), &["verify"]), "");
    }
}

/// It ignores a file with a mistake, and says so only here.
#[test]
fn podman_makes_a_unit_of_its_file_that_systemd_understands() {
    let is_there = is_there("systemd-analyze", "systemd");
    let Some(quadlet) = QUADLETS.iter().find(|path| Path::new(path).exists()) else {
        skip("quadlet: podman 4.4 or newer is missing");
        return;
    };
    let mut quadlet = Command::new(quadlet);
    quadlet.arg("-dryrun").env("QUADLET_UNIT_DIRS", PODMAN);
    let told = run(&mut quadlet);
    // What it says of mistakes goes to standard error, behind the unit.
    let (made, log) = told.split_once("\nquadlet-generator[").unwrap();
    assert!(log.contains("Loading source unit file"), "{log}");
    assert_eq!(log.lines().count(), 1, "{log}");
    let (_, made) = made.split_once("---\n").unwrap();
    for option in [
        "--read-only ",
        "--cap-drop all",
        "--user 65532",
        "--security-opt=no-new-privileges",
    ] {
        assert!(made.contains(option), "no {option} in {made}");
    }
    if is_there {
        // Podman need not be installed here; another program stands in its place.
        let made = made.replace("/usr/bin/podman ", "/bin/true ");
        let made = made.replace("=podman ", "=/bin/true ");
        assert_eq!(analyze(&made, &["verify"]), "");
    }
}

#[test]
fn systemd_finds_it_tight() {
    if is_there("systemd-analyze", "systemd") {
        let arguments = ["security", "--offline=true", "--no-pager", EXPOSURE_MAX];
        let told = analyze(&unit(), &arguments);
        let said = README.split_once("rates it ").unwrap().1;
        let said = said.split_once(',').unwrap().0;
        let rated = format!("exchange-reports-collector@acme.service: {said} OK");
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

/// Gives the configuration to everybody to read and keeps certificates and secrets for root, as the README has it. Returns a folder of what
/// systemd loads for the unit's user (`LoadCredential`), by the names that it gives.
fn hand_over(folder: &Path) -> TempDir {
    let open = |path: PathBuf, mode| {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    };
    let files = |name: &str| {
        let entries = fs::read_dir(folder.join(name)).unwrap().flatten();
        entries.filter(|entry| entry.path().is_file())
    };
    open(folder.to_owned(), 0o755);
    open(folder.join("config"), 0o755);
    files("config").for_each(|file| open(file.path(), 0o644));
    let loaded = TempDir::new().unwrap();
    chown(loaded.path(), Some(USER), Some(USER)).unwrap();
    for value in values("LoadCredential") {
        let (id, path) = value.split_once(':').unwrap();
        assert_eq!(Path::new(path).file_name().unwrap(), id);
        open(folder.join(id), 0o700);
        for file in files(id) {
            let name = format!("{id}_{}", file.file_name().display());
            let copy = loaded.path().join(name);
            fs::copy(file.path(), &copy).unwrap();
            chown(&copy, Some(USER), Some(USER)).unwrap();
            open(copy, 0o400);
        }
    }
    fs::remove_dir(folder.join("state")).unwrap();
    loaded
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
    chown(state.path(), Some(USER), Some(USER)).unwrap();
    let trace = state.path().join("trace");
    let loaded = hand_over(setting.folder.path());
    let mut collector = Collector::start_with("/usr/bin/strace".as_ref(), &setting.folder, |run| {
        run.args(["-f", "-qq", "-o"])
            .arg(&trace)
            .arg(program())
            .arg("--once");
        run.env("CREDENTIALS_DIRECTORY", loaded.path());
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
