//! A process gives up root once and for good, so each case runs in a process of its own: this test binary, once more.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

use super::*;

const STATE: &str = "PRIVILEGES_TEST_STATE";
const KEY: &str = "PRIVILEGES_TEST_KEY";

/// An owner of the state folder, an owner of a key with mode 0600, and whom the process is started as.
struct Case {
    state: u32,
    key: u32,
    started_as: u32,
}

fn check(case: &Case, expected: &str) {
    if !unistd::geteuid().is_root() {
        assert!(
            std::env::var_os("CI").is_none(),
            "CI has to run this test as root"
        );
        eprintln!("SKIPPED: only root can give root up");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (state, key) = (folder.path().join("state"), folder.path().join("a.key"));
    fs::create_dir(&state).unwrap();
    fs::write(&key, "key").unwrap();
    set(folder.path(), 0, 0o755);
    set(&state, case.state, 0o755);
    set(&key, case.key, 0o600);

    let output = again(&state, &key, case.started_as);
    let said = String::from_utf8(output.stdout).unwrap();
    let said = said.lines().find_map(|line| line.split_once("outcome: "));
    let said = said.map(|(_, said)| said.replace(&format!("{}/", folder.path().display()), ""));
    assert_eq!(
        said.as_deref(),
        Some(expected),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn set(path: &Path, owner: u32, mode: u32) {
    chown(path, Some(owner), Some(owner)).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn again(state: &Path, key: &Path, user: u32) -> Output {
    // Below a home folder the test binary may be out of the user's reach: the open file is not.
    let binary = File::open(std::env::current_exe().unwrap()).unwrap();
    Command::new("sh")
        .args(["-c", "exec /proc/self/fd/0 --exact privileges::tests::in_a_process_of_its_own --ignored --nocapture"])
        .uid(user)
        .gid(user)
        .stdin(binary)
        .env(STATE, state)
        .env(KEY, key)
        .current_dir(state.parent().unwrap())
        .output()
        .unwrap()
}

/// What the other tests start: says what became of the process, and what it can still do.
#[test]
#[ignore = "ends the process's privileges; the other tests start it"]
fn in_a_process_of_its_own() {
    let (state, key) = (
        std::env::var_os(STATE).unwrap(),
        PathBuf::from(std::env::var_os(KEY).unwrap()),
    );
    let state = Path::new(&state);
    match drop_root(state, &[key.clone(), PathBuf::from("/missing")], &[]) {
        Ok(outcome) => {
            let kept: Vec<_> = outcome.kept.iter().map(|kept| kept.capability).collect();
            for set in [CapSet::Permitted, CapSet::Effective] {
                assert_eq!(
                    caps::read(None, set).unwrap(),
                    kept.iter().copied().collect()
                );
            }
            if outcome.dropped {
                for set in [CapSet::Inheritable, CapSet::Ambient, CapSet::Bounding] {
                    assert_eq!(caps::read(None, set).unwrap().len(), 0, "{set:?}");
                }
                assert!(prctl::get_no_new_privs().unwrap());
            }
            if outcome.uid != 0 {
                assert_eq!(unistd::setuid(Uid::from_raw(0)), Err(Errno::EPERM));
            }
            assert_eq!(unistd::getgroups().unwrap(), []);
            assert_eq!(fs::read(&key).unwrap(), b"key");
            fs::write(state.join("cursor"), "x").unwrap();
            assert_eq!(
                fs::metadata(state.join("cursor")).unwrap().uid(),
                outcome.uid
            );
            println!("outcome: {outcome}");
        }
        Err(error) => println!("outcome: {}", error.to_string().replace('\n', " + ")),
    }
}

#[test]
fn root_becomes_the_owner_of_the_state_folder() {
    check(
        &Case {
            state: 1000,
            key: 1000,
            started_as: 0,
        },
        "running as 1000:1000, root's rights given up",
    );
}

#[test]
fn a_state_folder_of_root_leaves_a_root_without_capabilities() {
    check(
        &Case {
            state: 0,
            key: 0,
            started_as: 0,
        },
        "running as 0:0, root's rights given up",
    );
}

#[test]
fn a_key_of_another_owner_is_read_by_one_capability() {
    check(
        &Case {
            state: 1000,
            key: 0,
            started_as: 0,
        },
        "running as 1000:1000, root's rights given up, CAP_DAC_READ_SEARCH kept to read a.key",
    );
    check(
        &Case {
            state: 0,
            key: 1000,
            started_as: 0,
        },
        "running as 0:0, root's rights given up, CAP_DAC_READ_SEARCH kept to read a.key",
    );
}

#[test]
fn any_other_user_runs_as_told() {
    check(
        &Case {
            state: 1000,
            key: 1000,
            started_as: 1000,
        },
        "running as 1000:1000",
    );
}

#[test]
fn any_other_user_is_told_all_that_is_denied() {
    check(
        &Case {
            state: 0,
            key: 0,
            started_as: 1000,
        },
        "this process, 1000:1000, may not write to the folder state, which belongs to 0:0 and has mode 0755: \
         run `chown -R 1000:1000 state`, or start the container without `--user` + \
         this process, 1000:1000, may not read the file a.key, which belongs to 0:0 and has mode 0600: \
         run `chown 1000:1000 a.key`, or start the container without `--user`",
    );
}

#[test]
fn a_missing_state_folder_is_made() {
    let folder = tempfile::tempdir().unwrap();
    existing(&folder.path().join("a/state")).unwrap();
    assert!(folder.path().join("a/state").is_dir());
}
