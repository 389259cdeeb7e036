//! The image, run by Docker in every documented way, against a service and a relay on the host's loopback.
//!
//! `tests/docker/run` builds the image and runs these, which plain `cargo test` leaves out: they need Docker, root (to
//! give folders to other users), and minutes.

#![expect(
    clippy::unwrap_used,
    reason = "a test whose own set-up fails has to panic"
)]

mod compose;
mod hosted;
mod site;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use site::{Identity, PATIENCE, Site, docker, image, said};

const CAP_DAC_OVERRIDE: u64 = 1 << 1;

/// The collector runs with these owners of `state/` and of the key, as that owner of `state/` and with `capabilities`.
async fn check_runs(state: u32, key: u32, options: &[&str], capabilities: u64) {
    let site = Site::new(state, key).await;
    let mut collector = site.run(options);
    site.wait_until_delivered(|| collector.log().join("\n"))
        .await;
    let expected = Identity {
        uid: state,
        gid: state,
        other_groups: Vec::new(),
        capabilities,
    };
    assert_eq!(Identity::of(&site.container), expected);
    site.stop(&mut collector).await;
    site.assert_state_belongs_to(state);
}

/// The collector does not start, and its log says `message`.
async fn check_refuses(site: &Site, options: &[&str], message: &str) -> Option<i32> {
    let mut collector = site.run(options);
    let ended = collector.wait(PATIENCE).await.unwrap();
    let log = collector.log().join("\n");
    assert_ne!(ended.code, Some(0), "{log}");
    assert!(log.contains(message), "no `{message}` in:\n{log}");
    ended.code
}

#[test]
#[ignore = "run by tests/docker/run"]
fn arguments_go_to_the_collector_and_its_version_names_the_commit() {
    let output = docker(&["run", "--rm", &image(), "--version"]);
    let label = "{{index .Config.Labels \"org.opencontainers.image.revision\"}}";
    let revision = said(&docker(&["image", "inspect", "--format", label, &image()]));
    let version = env!("CARGO_PKG_VERSION");
    let told = format!("exchange-reports-collector {version} ({})", revision.trim());
    assert_eq!(said(&output).trim(), told);
}

#[test]
#[ignore = "run by tests/docker/run"]
fn the_image_holds_the_binary_and_the_ca_certificates_and_nothing_else() {
    let container = said(&docker(&["create", &image()])).trim().to_owned();
    let list = format!("docker export {container} | tar --list");
    let list = Command::new("sh").args(["-c", &list]).output().unwrap();
    docker(&["rm", "--volumes", &container]);
    // What Docker itself puts into every container.
    let docker_own = [
        ".dockerenv",
        "dev/console",
        "etc/hostname",
        "etc/hosts",
        "etc/mtab",
        "etc/resolv.conf",
    ];
    let list = said(&list);
    let files: Vec<_> = list
        .lines()
        .filter(|path| !path.ends_with('/') && !docker_own.contains(path))
        .collect();
    assert_eq!(
        files,
        [
            "etc/ssl/certs/ca-certificates.crt",
            "usr/local/bin/exchange-reports-collector"
        ]
    );

    let size = said(&docker(&[
        "image",
        "inspect",
        "--format",
        "{{.Size}}",
        &image(),
    ]));
    assert!(
        size.trim().parse::<u64>().unwrap() < 40 * 1024 * 1024,
        "{size}"
    );
}

#[tokio::test]
#[ignore = "run by tests/docker/run"]
async fn a_bad_configuration_ends_it_with_status_78() {
    let site = Site::new(0, 0).await;
    let path = site.folder.path().join("config/config.yaml");
    let yaml = fs::read_to_string(&path).unwrap();
    let id = yaml
        .lines()
        .find(|line| line.starts_with("  id:"))
        .expect("globals have an id");
    site.folder
        .configure_raw(&yaml.replacen(id, "  id: <collector_id>", 1))
        .unwrap();
    assert_eq!(check_refuses(&site, &[], "<collector_id>").await, Some(78));
}

#[tokio::test]
#[ignore = "run by tests/docker/run"]
async fn the_documented_command_runs_at_a_terminal() {
    let site = Site::new(0, 0).await;
    let command = site.command(&["--interactive", "--tty"]);
    let mut collector = site.start(
        "script",
        &["--quiet", "--return", "--command", &command, "/dev/null"],
    );
    site.wait_until_delivered(|| collector.output().join("\n"))
        .await;
    site.stop(&mut collector).await;
}

#[tokio::test]
#[ignore = "run by tests/docker/run"]
async fn it_becomes_the_owner_of_the_state_folder() {
    check_runs(0, 0, &[], 0).await;
    check_runs(1000, 1000, &[], 0).await;
}

#[tokio::test]
#[ignore = "run by tests/docker/run"]
async fn a_key_of_another_owner_keeps_one_capability() {
    check_runs(1000, 0, &[], CAP_DAC_OVERRIDE).await;
    check_runs(0, 1000, &[], CAP_DAC_OVERRIDE).await;
}

#[tokio::test]
#[ignore = "run by tests/docker/run"]
async fn another_user_runs_as_told() {
    check_runs(1000, 1000, &["--user 1000:1000"], 0).await;
}

#[tokio::test]
#[ignore = "run by tests/docker/run"]
async fn it_runs_with_no_capability_and_nothing_to_write_to_but_the_state() {
    let options = [
        "--cap-drop ALL",
        "--read-only",
        "--security-opt no-new-privileges",
    ];
    check_runs(0, 0, &options, 0).await;
    check_runs(
        1000,
        1000,
        &[&options[..], &["--user 1000:1000"]].concat(),
        0,
    )
    .await;
}

#[tokio::test]
#[ignore = "run by tests/docker/run"]
async fn what_another_user_may_not_do_is_said_with_the_command_to_run() {
    let user = ["--user 1000:1000"];
    let state = Site::new(0, 1000).await;
    check_refuses(&state, &user, "chown -R 1000:1000 state").await;
    let key = Site::new(1000, 0).await;
    check_refuses(&key, &user, "chown 1000:1000 certs/collector.key").await;
    let config = Site::new(1000, 1000).await;
    let file = config.folder.path().join("config/config.yaml");
    fs::set_permissions(file, Permissions::from_mode(0o600)).unwrap();
    check_refuses(&config, &user, "chown 1000:1000 config/config.yaml").await;
}

#[tokio::test]
#[ignore = "run by tests/docker/run"]
async fn a_state_folder_mounted_read_only_is_named() {
    let site = Site::new(0, 0).await;
    let command = site
        .command(&[])
        .replace("/devo-collector/state", "/devo-collector/state:ro");
    let mut collector = site.start("sh", &["-c", &format!("exec {command}")]);
    let ended = collector.wait(PATIENCE).await.unwrap();
    let log = collector.log().join("\n");
    assert_ne!(ended.code, Some(0), "{log}");
    assert!(log.contains("mounted read-only"), "{log}");
}
