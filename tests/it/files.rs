//! The state's files and folders: whose they are, what reaches them, what their file system cannot do, and a folder that goes away.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use testkit::collector::Collector;
use testkit::report::Report;

use crate::setting::{PATIENCE, Setting, log, program, skip, stop};

const ROWS: u32 = 500;

/// Message traces of four hours, all of which are due.
async fn setting() -> Setting {
    let setting = Setting::new().await;
    setting.rows(Report::MessageTrace, setting.ago(30), setting.ago(26), ROWS);
    setting.configure_one(Report::MessageTrace, setting.ago(30), &[]);
    setting
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

/// The collector with calls of the system refused: `inject` as strace takes it, for calls on these paths or on all.
fn start_refused(setting: &Setting, inject: &str, paths: &[&Path]) -> Option<Collector> {
    start_refused_with(setting, inject, paths, &[])
}

fn start_refused_with(
    setting: &Setting,
    inject: &str,
    paths: &[&Path],
    arguments: &[&str],
) -> Option<Collector> {
    let tried = std::process::Command::new("strace")
        .args(["-qq", "-f", "-e", "trace=none", "true"])
        .output();
    if !tried.is_ok_and(|output| output.status.success()) {
        skip("strace cannot be used");
        return None;
    }
    let call = inject.split(':').next().unwrap();
    let collector =
        Collector::start_with(Path::new("/usr/bin/strace"), &setting.folder, |command| {
            command.args([
                "-D",
                "-f",
                "-qq",
                "-o",
                "/dev/null",
                "-e",
                &format!("trace={call}"),
            ]);
            for path in paths {
                command.arg("-P").arg(path);
            }
            command
                .args(["-e", &format!("inject={inject}")])
                .arg(program())
                .args(arguments);
        });
    Some(collector.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_is_its_owners_alone_whatever_the_mask() {
    let setting = setting().await;
    let state = setting.folder.state();
    fs::set_permissions(&state, Permissions::from_mode(0o777)).unwrap();
    let mut collector = Collector::start_with("/bin/sh".as_ref(), &setting.folder, |command| {
        command.args(["-c", "umask 0; exec \"$0\""]).arg(program());
    })
    .unwrap();
    setting
        .finish(&mut collector, setting.ago(30), setting.ago(26))
        .await;
    assert_eq!(
        collector
            .log_with("others could write in the state folder")
            .len(),
        1,
        "{}",
        log(&collector)
    );
    let service = setting.state_of(Report::MessageTrace);
    assert_eq!((mode(&state), mode(&service)), (0o700, 0o700));
    for file in [
        state.join("lock"),
        state.join("fingerprint.key"),
        service.join("cursor"),
        service.join("journal.devo_1"),
    ] {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_cannot_be_corrected_is_one_warning() {
    if !nix::unistd::geteuid().is_root() {
        skip("only root can run the collector as somebody else");
        return;
    }
    let setting = setting().await;
    let state = setting.folder.state();
    fs::set_permissions(setting.folder.path(), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&state, Permissions::from_mode(0o777)).unwrap();
    for entry in fs::read_dir(setting.folder.certs()).unwrap() {
        fs::set_permissions(entry.unwrap().path(), Permissions::from_mode(0o644)).unwrap();
    }
    let mut collector = Collector::start_with(program(), &setting.folder, |command| {
        command.uid(1000).gid(1000);
    })
    .unwrap();
    setting
        .finish(&mut collector, setting.ago(30), setting.ago(26))
        .await;
    let said = collector.log_with("others may write in the state folder");
    assert!(
        said.len() == 1 && said[0].contains("WARN"),
        "{}",
        log(&collector)
    );
    assert_eq!(mode(&state), 0o777);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn root_reaches_the_state_through_no_link() {
    if !nix::unistd::geteuid().is_root() {
        skip("only root is kept from following a link");
        return;
    }
    let setting = setting().await;
    let (state, elsewhere) = (setting.folder.state(), tempfile::tempdir().unwrap());
    fs::remove_dir(&state).unwrap();
    symlink(elsewhere.path(), &state).unwrap();
    let yaml = fs::read_to_string(setting.folder.path().join("config/config.yaml")).unwrap();
    for directory in ["state", "state/below"] {
        let yaml = yaml.replace(
            "directory_name: state",
            &format!("directory_name: {directory}"),
        );
        setting.folder.configure_raw(&yaml).unwrap();
        let mut collector = setting.start();
        let ended = collector.wait(PATIENCE).await.unwrap();
        assert_eq!(ended.code, Some(1), "{}", log(&collector));
        let said = collector.log_with("root follows no link");
        let real = elsewhere.path().display().to_string();
        assert!(
            said.len() == 1 && (directory != "state" || said[0].contains(&real)),
            "{}",
            log(&collector)
        );
    }
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    assert!(setting.service.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_system_without_locks_is_refused() {
    let setting = setting().await;
    for error in ["ENOLCK", "ENOSYS", "EOPNOTSUPP"] {
        let Some(mut collector) = start_refused(&setting, &format!("flock:error={error}"), &[])
        else {
            return;
        };
        let ended = collector.wait(PATIENCE).await.unwrap();
        assert_eq!(ended.code, Some(1), "{}", log(&collector));
        let said = collector.log_with("has no locks");
        assert!(
            said.len() == 1 && said[0].contains("directory_name"),
            "{}",
            log(&collector)
        );
    }
    assert!(setting.service.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_system_that_cannot_sync_folders_is_one_warning() {
    let setting = setting().await;
    let service = setting.state_of(Report::MessageTrace);
    let (state, root) = (setting.folder.state(), setting.folder.path());
    let Some(mut collector) =
        start_refused(&setting, "fsync:error=EINVAL", &[root, &state, &service])
    else {
        return;
    };
    setting
        .finish(&mut collector, setting.ago(30), setting.ago(26))
        .await;
    let said = collector.log_with("cannot sync a folder");
    assert!(
        said.len() == 1 && said[0].contains("WARN"),
        "{}",
        log(&collector)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_system_that_cannot_reserve_space_is_one_warning() {
    let setting = setting().await;
    let Some(mut collector) = start_refused(&setting, "fallocate:error=EOPNOTSUPP", &[]) else {
        return;
    };
    setting
        .finish(&mut collector, setting.ago(30), setting.ago(26))
        .await;
    let said = collector.log_with("cannot reserve space");
    assert!(
        said.len() == 1 && said[0].contains("WARN"),
        "{}",
        log(&collector)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_folder_that_is_removed_or_replaced_is_taken_up_again() {
    let setting = setting().await;
    let state = setting.folder.state();
    let mut collector = setting.start();
    setting
        .until_committed(&collector, &[Report::MessageTrace], setting.ago(26))
        .await;
    for aside in [false, true] {
        if aside {
            fs::rename(&state, setting.folder.path().join("aside")).unwrap();
            fs::create_dir(&state).unwrap();
        } else {
            fs::remove_dir_all(&state).unwrap();
        }
        // The next window is due within a second; its commit finds the folder gone.
        setting
            .until_committed(&collector, &[Report::MessageTrace], setting.ago(26))
            .await;
    }
    assert_eq!(
        collector.log_with("it is taken up again").len(),
        2,
        "{}",
        log(&collector)
    );
    let mut second = setting.start();
    let ended = second.wait(PATIENCE).await.unwrap();
    assert_eq!(ended.code, Some(1));
    assert_eq!(
        second.log_with("another collector is running").len(),
        1,
        "{}",
        log(&second)
    );
    stop(&mut collector).await;

    let mut collector = setting.start();
    collector.wait_for("collecting", PATIENCE).await.unwrap();
    setting
        .finish(&mut collector, setting.ago(30), setting.ago(26))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_names_a_network_file_system() {
    let setting = setting().await;
    // The first bytes of what `statfs` tells are the kind.
    for (magic, name) in [
        ("6969000000000000", "on NFS"),
        ("6555736500000000", "not on a network"),
        ("4655736500000000", "on FUSE"),
    ] {
        let inject = format!("statfs:poke_exit=@arg2={magic}");
        let state = [setting.folder.state(), "state".into()];
        let paths = state.each_ref().map(AsRef::as_ref);
        let Some(mut collector) = start_refused_with(&setting, &inject, &paths, &["check"]) else {
            return;
        };
        collector.wait(PATIENCE).await.unwrap();
        let said = collector.output().join("\n");
        assert_eq!(said.contains(name), name.starts_with("on "), "{said}");
    }
}
