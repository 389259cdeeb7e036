//! What an operator can see: one place that knows what each service and output is doing, and what is made of it.
//!
//! A service's task tells its [`ServiceMonitor`] what happens to it, and the task of each of its outputs an [`OutletMonitor`]: a few
//! atomics once a page, a chunk or a window, never once a record. They keep nothing but figures, instants and the last error as the log
//! says it. From them come, when somebody asks, the metrics, the health and the [`Status`]; an input's client is asked for the rest.
//! Nothing here changes what is collected: who does not look costs nothing.
//!
//! - [`state`]: facts to one word, pure · [`pace`]: when a service will have caught up, pure
//! - [`families`]: every metric, as data · [`status`]: everything at one instant · [`health`]: whether that is as it should be
//! - [`progress`]: the same in the log, while there is a backlog · `web` serves all of it over HTTP

pub mod families;
mod freshness;
pub mod health;
pub(crate) mod history;
mod input;
mod late;
mod outlet;
pub mod pace;
pub mod progress;
mod service;
pub mod state;
pub mod status;
mod trouble;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, Utc};
use prometheus::{Registry, TextEncoder};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::blocking::FILES;
use crate::config::{Config, Input, LeftOut, Output};
use crate::relay::Relay;
use crate::source::Client;
use families::{Families, Labels, PREFIX};
use history::History;
pub use history::Point;
use input::{InputMonitor, timestamp};
pub use outlet::{Cause, Confirmed, OutletMonitor};
use service::Seen;
pub use service::ServiceMonitor;
pub use status::Status;
pub use trouble::Trouble;

/// Everything that is known of the collector.
pub struct Monitor {
    /// The collector's name in the configuration.
    name: String,
    started: DateTime<Utc>,
    registry: Registry,
    families: Families,
    stalled_after: Duration,
    watched: Mutex<Arc<Watched>>,
}

/// What is watched, until the configuration changes.
#[derive(Default)]
struct Watched {
    /// As they are configured.
    inputs: Vec<(Arc<Input>, Arc<InputMonitor>)>,
    services: Vec<WatchedService>,
    outputs: Vec<Arc<OutputFacts>>,
    left_out: Vec<LeftOut>,
}

/// A service that is watched.
struct WatchedService {
    monitor: Arc<ServiceMonitor>,
    history: Arc<Mutex<History>>,
}

/// What is known of an output beside what its services know.
struct OutputFacts {
    output: Output,
    relay: Relay,
    certificate: Mutex<Option<DateTime<Utc>>>,
}

impl Monitor {
    /// Knows the services of `config`, whose inputs are asked through `clients`, in the same order.
    ///
    /// # Errors
    ///
    /// None that can be seen from here: the metrics' names are fixed, and each is there once.
    pub fn new(config: &Config, clients: &[Client]) -> anyhow::Result<Self> {
        let registry = Registry::new_custom(Some(PREFIX.to_owned()), None)
            .context("cannot set the metrics up")?;
        let families = Families::register(&registry).context("cannot set the metrics up")?;
        let started = Utc::now();
        let version = env!("CARGO_PKG_VERSION");
        families.build_info.with_label_values(&[version]).set(1);
        families
            .start_time
            .with_label_values::<&str>(&[])
            .set(timestamp(started));
        let monitor = Monitor {
            name: config.globals.name.clone(),
            started,
            registry,
            families,
            stalled_after: config.globals.monitoring.stalled_after,
            watched: Mutex::default(),
        };
        let inputs = config.inputs.iter().cloned().zip(clients.iter().cloned());
        monitor.watch_inputs(&inputs.collect::<Vec<_>>(), &config.all_outputs());
        monitor.leave_out(&config.left_out);
        Ok(monitor)
    }

    /// Watches these inputs, in this order, and outputs; of others nothing is told any more. An input that is known stays as it is.
    pub(crate) fn watch_inputs(&self, inputs: &[(Arc<Input>, Client)], outputs: &[&Output]) {
        let before = self.watched();
        let mut next = Watched {
            left_out: before.left_out.clone(),
            ..Watched::default()
        };
        for (input, client) in inputs {
            let mut known = before.inputs.iter();
            if let Some((_, monitor)) = known.find(|(known, _)| Arc::ptr_eq(known, input)) {
                let services = before.services.iter();
                let own = services.filter(|service| Arc::ptr_eq(&service.monitor.input, monitor));
                next.services.extend(own.map(|service| WatchedService {
                    monitor: Arc::clone(&service.monitor),
                    history: Arc::clone(&service.history),
                }));
                next.inputs.push((Arc::clone(input), Arc::clone(monitor)));
                continue;
            }
            let monitor = InputMonitor::new(&self.families, &input.name, client.clone());
            let monitor = Arc::new(monitor);
            next.services.extend(input.services.iter().map(|service| {
                let outputs = input.outputs.iter().map(|output| output.name.as_str());
                let (families, stalled_after) = (&self.families, self.stalled_after);
                let monitor =
                    ServiceMonitor::new(families, &monitor, service, outputs, stalled_after);
                let mut known = before.services.iter();
                let known = known.find(|known| {
                    known.monitor.input.name == input.name && known.monitor.name == monitor.name
                });
                let begin = || Arc::new(Mutex::new(History::begin(Utc::now())));
                let history = known.map_or_else(begin, |known| Arc::clone(&known.history));
                WatchedService { monitor, history }
            }));
            next.inputs.push((Arc::clone(input), monitor));
        }
        for output in outputs {
            let mut known = before.outputs.iter();
            let known = known.find(|known| known.output == **output);
            let facts = known.map_or_else(|| Arc::new(OutputFacts::new(output)), Arc::clone);
            next.outputs.push(facts);
        }
        let series = next.series();
        *lock(&self.watched) = Arc::new(next);
        self.families.retain(|labels| series.contains(labels));
    }

    /// These files of inputs cannot be used.
    pub(crate) fn leave_out(&self, left_out: &[LeftOut]) {
        let files = i64::try_from(left_out.len()).unwrap_or(i64::MAX);
        let gauge = &self.families.left_out;
        gauge.with_label_values::<&str>(&[]).set(files);
        let mut watched = lock(&self.watched);
        let before = Arc::clone(&watched);
        *watched = Arc::new(Watched {
            inputs: before.inputs.clone(),
            services: { before.services.iter() }
                .map(|service| WatchedService {
                    monitor: Arc::clone(&service.monitor),
                    history: Arc::clone(&service.history),
                })
                .collect(),
            outputs: before.outputs.clone(),
            left_out: left_out.to_vec(),
        });
    }

    /// The configuration was read, with this checksum; `used` if all of it is what runs.
    pub(crate) fn read(&self, hash: u32, used: bool) {
        let none: [&str; 0] = [];
        let families = &self.families;
        let success = families.config_success.with_label_values(&none);
        success.set(i64::from(used));
        let time = families.config_time.with_label_values(&none);
        time.set(timestamp(Utc::now()));
        let gauge = families.config_hash.with_label_values(&none);
        gauge.set(i64::from(hash));
    }

    fn watched(&self) -> Arc<Watched> {
        Arc::clone(&lock(&self.watched))
    }

    /// What the tasks of an input's services tell, in the order of the configuration.
    pub fn services_of(&self, input: &str) -> Vec<Arc<ServiceMonitor>> {
        let watched = self.watched();
        let services = watched.services.iter().map(|service| &service.monitor);
        // While one takes another's place the new one comes later.
        let inputs = watched.inputs.iter().rev();
        let mut inputs = inputs.filter(|(known, _)| known.name == input);
        let Some((_, monitor)) = inputs.next() else {
            return vec![];
        };
        let own = services.filter(|service| Arc::ptr_eq(&service.input, monitor));
        own.cloned().collect()
    }

    /// Logs progress until what is returned is dropped; where it is served (`listens`), keeps the history too.
    pub fn start(self: Arc<Self>, listens: bool) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        tasks.spawn(progress::tell(Arc::clone(&self)));
        if listens {
            tasks.spawn(self.watch());
        }
        tasks
    }

    /// All metrics in Prometheus's text format.
    ///
    /// # Errors
    ///
    /// None that can be seen from here.
    pub fn metrics(&self) -> anyhow::Result<String> {
        let watched = self.watched();
        for (_, input) in &watched.inputs {
            input.refresh(&self.families);
        }
        for service in &watched.services {
            service.monitor.refresh();
        }
        for output in &watched.outputs {
            if let Some(expiry) = output.certificate_expiry() {
                let name = &output.output.name;
                let gauge = self.families.certificate.with_label_values(&[name]);
                gauge.set(timestamp(expiry));
            }
        }
        let text = TextEncoder::new().encode_to_string(&self.registry.gather());
        text.context("cannot write the metrics")
    }

    /// Keeps the history, and looks when certificates end, for as long as it is polled.
    async fn watch(self: Arc<Self>) {
        loop {
            let monitor = Arc::clone(&self);
            FILES.run(move || monitor.read_certificates()).await;
            sleep(history::EVERY).await;
            let now = Utc::now();
            for service in &self.watched().services {
                let WatchedService { monitor, history } = service;
                lock(history).note(now, monitor.new_records(), monitor.seen().lag);
            }
        }
    }

    /// Reads when certificates end, anew. Blocks on the disk.
    fn read_certificates(&self) {
        let watched = self.watched();
        for (_, input) in &watched.inputs {
            input.read_certificate();
        }
        for output in &watched.outputs {
            output.read_certificate();
        }
    }
}

impl Watched {
    /// What each service is doing now.
    fn seen(&self) -> Vec<(&ServiceMonitor, Seen)> {
        let services = self.services.iter().map(|service| &*service.monitor);
        services.map(|service| (service, service.seen())).collect()
    }

    fn series(&self) -> Series {
        let mut series = Series::default();
        for service in &self.services {
            let monitor = &service.monitor;
            let names = (monitor.input.name.clone(), monitor.name.to_owned());
            let outlets = monitor.outlets.iter().map(|outlet| outlet.output.clone());
            series.services.entry(names).or_default().extend(outlets);
        }
        let inputs = self.inputs.iter().map(|(input, _)| input.name.clone());
        series.inputs = inputs.collect();
        let outputs = self.outputs.iter().map(|output| output.output.name.clone());
        series.outputs = outputs.collect();
        series
    }
}

/// The names by which there are series.
#[derive(Default)]
struct Series {
    inputs: HashSet<String>,
    outputs: HashSet<String>,
    /// By input and service: the outputs.
    services: HashMap<(String, String), HashSet<String>>,
}

impl Series {
    fn contains(&self, labels: &Labels<'_>) -> bool {
        let output = labels.of("output");
        match (labels.of("input"), labels.of("service")) {
            (Some(input), Some(service)) => {
                let outputs = self.services.get(&(input.to_owned(), service.to_owned()));
                outputs.is_some_and(|outputs| output.is_none_or(|output| outputs.contains(output)))
            }
            (Some(input), None) => self.inputs.contains(input),
            _ => output.is_none_or(|output| self.outputs.contains(output)),
        }
    }
}

impl OutputFacts {
    fn new(output: &Output) -> Self {
        OutputFacts {
            output: output.clone(),
            relay: Relay::new(output),
            certificate: Mutex::default(),
        }
    }

    /// A file that cannot be read leaves what was known.
    fn read_certificate(&self) {
        if let Ok(Some(expiry)) = self.relay.certificate_expiry() {
            *lock(&self.certificate) = Some(expiry);
        }
    }

    fn certificate_expiry(&self) -> Option<DateTime<Utc>> {
        *lock(&self.certificate)
    }
}

/// Locks what holds figures only: whoever has panicked with it in hand has left it whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
