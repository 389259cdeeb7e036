//! A work folder on the host, the two peers, and the container that runs between them.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use testkit::collector::{self, Collector, Config, Folder, Input};
use testkit::pki::Pki;
use testkit::records::compare;
use testkit::relay::Relay;
use testkit::report::Report;
use testkit::service::{Backlog, Options, Service};

/// The tag of the images under test.
pub(super) const VERSION: &str = "test";
const ROWS: u32 = 50;
/// How far behind the present the services stay, in seconds: less than the rows are old.
pub(super) const DELAY: &str = "1800";
/// What the whole of Docker's own share in starting a container may take on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);
const STOP_MAX: Duration = Duration::from_secs(8);

/// A work folder on the host, and both peers of the collector that runs on it.
pub(super) struct Site {
    pub(super) service: Service,
    pub(super) relay: Relay,
    pub(super) folder: Folder,
    /// Where the services begin, as `start_time` is written.
    pub(super) since: String,
    pub(super) container: String,
}

impl Site {
    /// With `state/` and the key (mode 0600) of these owners; all else belongs to root and is readable by all.
    pub(super) async fn new(state: u32, key: u32) -> Site {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let pki = Pki::new().unwrap();
        let (service, relay) = (
            Service::start(Options::default()).await.unwrap(),
            Relay::start(&pki).unwrap(),
        );
        let now = Utc::now();
        let start = now - TimeDelta::hours(2);
        service.generate(&Backlog::new(
            Report::MessageTrace,
            start,
            now - TimeDelta::hours(1),
            ROWS,
        ));
        let folder = Folder::new(&pki).unwrap();
        let since = start.format("%Y-%m-%dT%H:%M:%S").to_string();
        let options = [
            ("override_time_delay_in_seconds", DELAY),
            ("start_time", since.as_str()),
        ];
        let input = Input::for_service(&service).service(Report::MessageTrace, &options);
        folder
            .configure(&Config::new(input, collector::Output::relay(relay.port())))
            .unwrap();
        chown(folder.state(), Some(state), Some(state)).unwrap();
        chown(folder.certs().join("collector.key"), Some(key), Some(key)).unwrap();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let container = format!("collector-test-{}-{number}", std::process::id());
        Site {
            service,
            relay,
            folder,
            since,
            container,
        }
    }

    /// The documentation's command, on the host's network; at a terminal only if `options` say so.
    pub(super) fn command(&self, options: &[&str]) -> String {
        let documented = [
            "--volume $PWD/certs:/devo-collector/certs",
            "--volume $PWD/config:/devo-collector/config",
            "--volume $PWD/state:/devo-collector/state",
            "--env CONFIG_FILE=config.yaml",
        ];
        self.bare_command(&[&documented, options].concat())
    }

    /// `docker run` with nothing mounted but what `options` mount.
    pub(super) fn bare_command(&self, options: &[&str]) -> String {
        format!(
            "docker run --name {} --rm --network host {} {}",
            self.container,
            options.join(" "),
            image()
        )
    }

    pub(super) fn run(&self, options: &[&str]) -> Collector {
        self.start("sh", &["-c", &format!("exec {}", self.command(options))])
    }

    pub(super) fn start(&self, program: &str, arguments: &[&str]) -> Collector {
        Collector::start_with("/usr/bin/env".as_ref(), &self.folder, |command| {
            command.arg(program).args(arguments);
        })
        .unwrap()
    }

    /// All that the service has is at the relay, once; `log` is asked for only where it is not.
    pub(super) async fn wait_until_delivered(&self, log: impl FnOnce() -> String) {
        if let Err(error) = self.relay.wait_for(ROWS.into(), PATIENCE).await {
            panic!("{error}; the log:\n{}", log());
        }
        let verdict = compare(&self.service.served(), &self.relay.records());
        assert!(verdict.is_exact(), "{verdict:?}");
    }

    /// Through Docker, with the process's own exit status.
    pub(super) async fn stop(&self, collector: &mut Collector) {
        let stop = Command::new("docker")
            .args(["stop", "--time", "20", &self.container])
            .stdout(Stdio::null())
            .spawn();
        let ended = collector.wait(STOP_MAX).await.unwrap();
        assert_eq!(ended.code, Some(0), "{}", collector.log().join("\n"));
        assert!(stop.unwrap().wait().unwrap().success());
    }

    /// Everything under `state/` belongs to this user, and there is something.
    pub(super) fn assert_state_belongs_to(&self, owner: u32) {
        let files: Vec<_> = fs::read_dir(self.folder.state())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert!(!files.is_empty(), "no state was written");
        for file in files {
            assert_eq!(
                file.symlink_metadata().unwrap().uid(),
                owner,
                "{}",
                file.display()
            );
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        docker(&["rm", "--force", "--volumes", &self.container]);
    }
}

pub(super) fn image() -> String {
    format!("exchange-reports-collector:{VERSION}")
}

pub(super) fn docker(arguments: &[&str]) -> Output {
    Command::new("docker").args(arguments).output().unwrap()
}

pub(super) fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Who a container's first process is, as the kernel says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Without `gid`, which Docker lists here too.
    pub(super) other_groups: Vec<u32>,
    pub(super) capabilities: u64,
}

impl Identity {
    pub(super) fn of(container: &str) -> Identity {
        let pid = said(&docker(&[
            "inspect",
            "--format",
            "{{.State.Pid}}",
            container,
        ]));
        let status = fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap().trim().to_owned()
        };
        let numbers = |name: &str| -> Vec<u32> {
            let numbers = field(name);
            numbers
                .split_whitespace()
                .map(|number| number.parse().unwrap())
                .collect()
        };
        let the_one = |name: &str| {
            let mut ids = numbers(name);
            ids.dedup();
            assert_eq!(ids.len(), 1, "{name} {ids:?}");
            ids[0]
        };
        let (uid, gid) = (the_one("Uid:"), the_one("Gid:"));
        let mut other_groups = numbers("Groups:");
        other_groups.retain(|group| *group != gid);
        let set = |name: &str| u64::from_str_radix(&field(name), 16).unwrap();
        assert_eq!(set("CapEff:"), set("CapPrm:"));
        Identity {
            uid,
            gid,
            other_groups,
            capabilities: set("CapPrm:"),
        }
    }
}
