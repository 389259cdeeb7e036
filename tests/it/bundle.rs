//! The command `support-bundle`: one archive for whoever helps, with nothing secret in it.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use flate2::read::GzDecoder;
use serde_json::Value;
use testkit::report::Report;

use crate::monitoring::{Watched, free_port};
use crate::setting::{Setting, program, skip, stop};

fn bundle(folder: &Path, output: Option<&str>) -> Output {
    let mut command = Command::new(program());
    command.arg("support-bundle");
    if let Some(output) = output {
        command.args(["--output", output]);
    }
    command
        .current_dir(folder)
        .env("CONFIG_FILE", "config.yaml")
        .env("https_proxy", "http://user:hunter2@127.0.0.1:1")
        .env("no_proxy", "127.0.0.1")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// The files of an archive, by name without the folder that they are all in.
fn unpacked(archive: impl Read) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(GzDecoder::new(archive));
    let mut folders = vec![];
    let files = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().into_owned();
        folders.push(path.parent().unwrap().to_owned());
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, text)
    });
    let files: BTreeMap<_, _> = files.collect();
    folders.dedup();
    assert_eq!(folders.len(), 1, "{folders:?}");
    let folder = folders[0].to_str().unwrap();
    assert!(folder.starts_with("support-bundle-20"), "{folder}");
    files
}

/// A collector that has delivered something and answers at a known port, and the setting it works in.
async fn collecting() -> (Setting, Watched) {
    let setting = Setting::new().await;
    let from = setting.ago(30);
    setting.rows(Report::MessageTrace, from, setting.ago(25), 500);
    let input = setting
        .input()
        .service_from(Report::MessageTrace, from, &[]);
    let monitoring = format!("{{listen: {}}}", free_port());
    let watched = Watched::start(&setting, input, &monitoring).await;
    watched.until("up_to_date").await;
    (setting, watched)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_has_all_that_helps_and_nothing_secret() {
    let (setting, watched) = collecting().await;
    let folder = setting.folder.path();
    let made = bundle(folder, None);
    let said = String::from_utf8_lossy(&made.stdout).into_owned();
    assert!(made.status.success(), "{made:?}");
    let name = said.split(':').next().unwrap();
    assert!(
        name.starts_with("support-bundle-") && name.ends_with("Z.tar.gz"),
        "{said}"
    );
    let path = folder.join(name);
    let permissions = fs::metadata(&path).unwrap().permissions();
    assert_eq!(permissions.mode() & 0o777, 0o600);
    let files = unpacked(File::open(&path).unwrap());

    let version = &files["version.txt"];
    assert!(
        version.starts_with("exchange-reports-collector 0."),
        "{version}"
    );
    assert!(version.contains("CONFIG_FILE=config.yaml\n"), "{version}");
    assert!(version.contains("https_proxy is set\n"), "{version}");
    let configuration: Value = serde_json::from_str(&files["configuration.json"]).unwrap();
    let input = &configuration["inputs"]["office365_reporting_message"];
    assert_eq!(input["credentials"]["client_secret"], "(hidden)");
    assert_eq!(input["base_url"], setting.service.base_url());
    let service = Report::MessageTrace.service();
    assert!(
        files["state.txt"].contains(service),
        "{}",
        files["state.txt"]
    );
    let state: Value = serde_json::from_str(&files["state.json"]).unwrap();
    assert_eq!(state[0]["records"], 500);
    let names = &files["state-files.txt"];
    assert!(
        names.starts_with("free: ") && names.contains("/cursor\n"),
        "{names}"
    );
    assert_eq!(files["health.txt"], "ok\n");
    let status: Value = serde_json::from_str(&files["status.json"]).unwrap();
    assert_eq!(status["services"][0]["state"], "up_to_date");
    assert!(files["metrics.txt"].contains("exchange_collector_build_info"));
    let log = &files["log.txt"];
    assert!(
        log.contains("collecting") && log.contains("window delivered"),
        "{log}"
    );
    let inspection: Value = serde_json::from_str(&files["check.json"]).unwrap();
    assert!(
        inspection.to_string().contains("gives receipts"),
        "{inspection:#}"
    );
    // The collector runs, so that its state folder is in use.
    let failed = files["check.txt"]
        .lines()
        .filter(|line| line.contains("FAILED"));
    let failed: Vec<_> = failed.collect();
    assert!(
        failed.len() == 1 && failed[0].contains("is running on the state folder"),
        "{failed:?}"
    );
    let contents = &files["README.txt"];
    for name in files.keys().filter(|name| *name != "README.txt") {
        assert!(contents.contains(name), "{name}: {contents}");
    }

    let access = setting.service.options().access;
    let record = setting.relay.lines()[0].clone();
    let recipient = record.split("\"RecipientAddress\":\"").nth(1).unwrap();
    let recipient = recipient.split('"').next().unwrap();
    let secret = access.app.secret.unwrap();
    for (name, text) in &files {
        for hidden in [
            &secret,
            &access.app.client_id,
            recipient,
            "hunter2",
            "Bearer",
        ] {
            assert!(!text.contains(hidden), "{hidden} in {name}");
        }
    }
    drop(watched);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_collector_or_a_configuration_there_is_a_bundle_that_says_so() {
    let (setting, mut watched) = collecting().await;
    let folder = setting.folder.path();
    stop(&mut watched.collector).await;
    let printed = bundle(folder, Some("-"));
    assert!(printed.status.success(), "{printed:?}");
    let files = unpacked(printed.stdout.as_slice());
    for name in ["health.txt", "status.json", "metrics.txt", "log.txt"] {
        let text = &files[name];
        assert!(text.contains("does not answer at 127.0.0.1:"), "{text}");
    }
    assert!(files["state.txt"].contains(Report::MessageTrace.service()));

    setting
        .folder
        .configure_raw("globals: {id: 1, name: x, passwort: hunter2}\n")
        .unwrap();
    let files = unpacked(bundle(folder, Some("-")).stdout.as_slice());
    assert!(
        files["check.txt"].contains("inputs"),
        "{}",
        files["check.txt"]
    );
    assert!(files["configuration.json"].contains("passwort"));
    assert!(!files.values().any(|text| text.contains("hunter2")));

    setting.folder.configure_raw("globals: [\n").unwrap();
    let files = unpacked(bundle(folder, Some("-")).stdout.as_slice());
    let configuration = &files["configuration.json"];
    assert!(configuration.contains("cannot be read"), "{configuration}");
    assert!(
        files["check.txt"].contains("FAILED"),
        "{}",
        files["check.txt"]
    );
}

#[tokio::test]
async fn a_bundle_takes_nobodys_place() {
    let setting = Setting::new().await;
    let folder = setting.folder.path();
    fs::write(folder.join("mine"), "precious").unwrap();
    let refused = bundle(folder, Some("mine"));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("mine") && said.contains("--output"),
        "{said}"
    );
    assert_eq!(fs::read_to_string(folder.join("mine")).unwrap(), "precious");
    let nowhere = bundle(folder, Some("no/such/folder.tar.gz"));
    assert!(!nowhere.status.success());
}

/// A configuration that holds a secret may belong to root alone, and what root is given up for is the state's owner.
#[tokio::test]
async fn a_configuration_that_only_root_may_read_is_in_it() {
    if !nix::unistd::geteuid().is_root() {
        skip("only root can give itself up");
        return;
    }
    let setting = Setting::new().await;
    let from = setting.ago(25);
    setting.configure_one(Report::MessageTrace, from, &[]);
    let folder = setting.folder.path();
    let readable =
        |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    readable(folder, 0o755);
    readable(&folder.join("config/config.yaml"), 0o600);
    chown(setting.folder.state(), Some(65_534), Some(65_534)).unwrap();
    let printed = bundle(folder, Some("-"));
    let files = unpacked(printed.stdout.as_slice());
    assert!(
        files["check.txt"].contains("running as 65534:65534"),
        "{}",
        files["check.txt"]
    );
    let configuration: Value = serde_json::from_str(&files["configuration.json"]).unwrap();
    assert_eq!(configuration["globals"]["monitoring"]["listen"], "off");
    assert!(
        files["health.txt"].contains("is `off`"),
        "{}",
        files["health.txt"]
    );
}
