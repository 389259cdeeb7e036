//! The process among others: whatever its reader, its limits, its signals and those who watch it do, it collects, answers and ends in time.

mod answering;
mod log;
mod shortages;
mod signals;

use std::net::SocketAddr;

use testkit::collector::{Collector, Config, Input, Output};
use tokio::process::Command;

use crate::monitoring::free_port;
use crate::setting::{Setting, program};

/// Configures and starts a collector that serves its health where the caller knows it.
fn start(
    setting: &Setting,
    input: Input,
    output: Output,
    change: impl FnOnce(&mut Command),
) -> (Collector, SocketAddr) {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let config =
        Config::new(input, output).global("monitoring", &format!("{{listen: '{address}'}}"));
    setting.folder.configure(&config).unwrap();
    let collector = Collector::start_with(program(), &setting.folder, change).unwrap();
    (collector, address)
}
