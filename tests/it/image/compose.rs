//! The compose files: the documentation's alone, and what a clone adds to it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tokio::sync::Mutex;

use super::site::{Site, VERSION, docker, said};

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");
const SERVICE: &str = "collector-office365_exchange_reports";

/// Held by whoever has a container of the documentation's name, of which there is only one.
static DOCUMENTED_NAME: Mutex<()> = Mutex::const_new(());

/// A compose project that is taken down at the end, whatever happens.
struct Project {
    folder: PathBuf,
    name: String,
    /// `docker-compose`'s options before its command.
    options: Vec<&'static str>,
}

impl Project {
    fn new(folder: &Path, name: &str, options: &[&'static str]) -> Project {
        let name = format!("exchange-reports-{name}-{}", std::process::id());
        Project {
            folder: folder.to_owned(),
            name,
            options: options.to_vec(),
        }
    }

    fn compose(&self, arguments: &[&str]) -> Output {
        Command::new("docker-compose")
            .args(&self.options)
            .args(arguments)
            .current_dir(&self.folder)
            .env("COMPOSE_PROJECT_NAME", &self.name)
            .env("IMAGE_VERSION", VERSION)
            .env("DEMO_FOR", "15s")
            .output()
            .unwrap()
    }

    fn assert_compose(&self, arguments: &[&str]) -> String {
        let output = self.compose(arguments);
        assert!(output.status.success(), "{}", said(&output));
        said(&output)
    }

    /// The services of all its containers.
    fn services(&self) -> Vec<String> {
        let project = format!("label=com.docker.compose.project={}", self.name);
        let service = r#"{{.Label "com.docker.compose.service"}}"#;
        let output = docker(&["ps", "--all", "--filter", &project, "--format", service]);
        let mut services: Vec<_> = said(&output).lines().map(str::to_owned).collect();
        services.sort();
        services
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        self.compose(&["down", "--volumes"]);
    }
}

#[tokio::test]
#[ignore = "run by tests/docker/run"]
async fn the_documented_compose_file_runs_alone() {
    let _name = DOCUMENTED_NAME.lock().await;
    let site = Site::new(1000, 0).await;
    let path = site.folder.path();
    fs::copy(
        Path::new(REPOSITORY).join("docker-compose.yml"),
        path.join("docker-compose.yml"),
    )
    .unwrap();
    // Only for the peers, which are on the host's loopback.
    let network = format!("version: '3'\nservices:\n  {SERVICE}:\n    network_mode: host\n");
    fs::write(path.join("docker-compose.override.yml"), network).unwrap();

    let project = Project::new(path, "documented", &[]);
    project.assert_compose(&["up", "-d"]);
    assert_eq!(project.services(), [SERVICE]);
    site.wait_until_delivered(|| said(&docker(&["logs", SERVICE])))
        .await;
    project.assert_compose(&["stop", "--timeout", "20"]);
    let state = said(&docker(&[
        "inspect",
        "--format",
        "{{.State.ExitCode}}",
        SERVICE,
    ]));
    assert_eq!(state.trim(), "0");
    site.assert_state_belongs_to(1000);
}

#[test]
#[ignore = "run by tests/docker/run"]
fn a_clone_starts_the_collector_or_the_demo_and_never_both() {
    let name = DOCUMENTED_NAME.blocking_lock();
    let collector = Project::new(REPOSITORY.as_ref(), "clone", &[]);
    collector.assert_compose(&["up", "--no-start"]);
    assert_eq!(collector.services(), [SERVICE]);
    drop(collector);
    drop(name);

    let demo = Project::new(REPOSITORY.as_ref(), "demo", &["--profile", "demo"]);
    let output = demo.compose(&["up", "--exit-code-from", "demo"]);
    assert_eq!(demo.services(), ["demo"]);
    assert!(output.status.success(), "{}", said(&output));
}
