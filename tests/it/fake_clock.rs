//! The collector's own clock, put wrong by libfaketime; time that has passed is measured rightly all the same.

use std::path::PathBuf;

use chrono::TimeDelta;
use testkit::collector::Collector;
use tokio::process::Command;

use crate::setting::{Setting, program, skip};

/// A clock that is off by as much as its file says, at any moment.
pub(crate) struct FakeClock {
    library: String,
    file: PathBuf,
}

impl FakeClock {
    /// A clock that is right; none where libfaketime is missing.
    pub(crate) fn new(setting: &Setting) -> Option<Self> {
        let arch = std::env::consts::ARCH;
        let library = format!("/usr/lib/{arch}-linux-gnu/faketime/libfaketime.so.1");
        if !std::fs::exists(&library).unwrap() {
            skip("the package libfaketime is missing");
            return None;
        }
        let file = setting.folder.path().join("offset");
        let clock = FakeClock { library, file };
        clock.set(TimeDelta::zero());
        Some(clock)
    }

    /// Puts it wrong by so much.
    pub(crate) fn set(&self, offset: TimeDelta) {
        // Put in its place whole, since the collector may read it at any time.
        let aside = self.file.with_extension("new");
        std::fs::write(&aside, format!("{:+}s\n", offset.num_seconds())).unwrap();
        std::fs::rename(aside, &self.file).unwrap();
    }

    /// Has a command see this clock.
    fn show_to(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", &self.file)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    }

    /// Starts a collector that sees this clock.
    pub(crate) fn start(&self, setting: &Setting) -> Collector {
        let show = |command: &mut Command| self.show_to(command);
        Collector::start_with(program(), &setting.folder, show).unwrap()
    }
}
