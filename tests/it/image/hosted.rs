//! The hosted form in the image: what a Devo Collector Server mounts under `/etc/devo` is all that there is.

use std::fs;

use testkit::report::Report;

use super::site::{DELAY, Identity, Site};

/// Writes the two files of a hosted instance, and its certificates beside them, into `etc-devo/`.
fn write(site: &Site) {
    let root = site.folder.path().join("etc-devo");
    for folder in ["job", "collector", "certs"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    for file in fs::read_dir(site.folder.certs()).unwrap().flatten() {
        fs::copy(file.path(), root.join("certs").join(file.file_name())).unwrap();
    }
    let access = site.service.options().access;
    let service = serde_json::json!({
        "start_time": site.since,
        "override_time_delay_in_seconds": DELAY.parse::<u32>().unwrap(),
    });
    // The bare map of inputs, as the documentation prints it; ids as strings.
    let job = serde_json::json!({"office365_reporting_message": {
        "id": "12345",
        "enabled": true,
        "base_url": site.service.base_url(),
        "authority_url": site.service.authority_url(),
        "credentials": {
            "tenant_id": access.tenant,
            "client_id": access.app.client_id,
            "client_secret": access.app.secret,
        },
        "services": {Report::MessageTrace.service(): service},
    }});
    let collector = serde_json::json!({
        "job_id": "12345",
        "job_name": "hosted",
        "state_store": {"type": "filesystem", "config": {"dir": "/etc/devo/state"}},
        "loggers": [{"type": "devo_platform", "config": {
            "url": "localhost",
            "port": site.relay.port(),
            "chain_loc": "/etc/devo/certs/chain.crt",
            "cert_loc": "/etc/devo/certs/collector.crt",
            "key_loc": "/etc/devo/certs/collector.key",
        }}],
    });
    let files = [
        ("job/job_config.json", job),
        ("collector/collector_config.json", collector),
    ];
    for (name, content) in files {
        fs::write(root.join(name), content.to_string()).unwrap();
    }
}

#[tokio::test]
#[ignore = "run by tests/docker/run"]
async fn the_two_files_under_etc_devo_are_found_and_win() {
    let site = Site::new(1000, 0).await;
    write(&site);
    let mounts = [
        "--volume $PWD/etc-devo:/etc/devo",
        "--volume $PWD/state:/etc/devo/state",
    ];
    let command = site.bare_command(&mounts);
    let mut collector = site.start("sh", &["-c", &format!("exec {command}")]);
    site.wait_until_delivered(|| collector.log().join("\n"))
        .await;
    assert_eq!(Identity::of(&site.container).uid, 1000);
    site.stop(&mut collector).await;
    site.assert_state_belongs_to(1000);
    let found = collector
        .log_with("/etc/devo/job/job_config.json and /etc/devo/collector/collector_config.json");
    assert_eq!(found.len(), 1, "{}", collector.log().join("\n"));
}
