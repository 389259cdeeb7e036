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
pub mod health;
pub(crate) mod history;
mod input;
mod outlet;
pub mod pace;
pub mod progress;
mod service;
pub mod state;
pub mod status;
mod trouble;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use chrono::{DateTime, Utc};
use prometheus::{Registry, TextEncoder};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::blocking::FILES;
use crate::config::{Config, Output};
use crate::relay::Relay;
use crate::source::Client;
use families::{Families, PREFIX};
use history::History;
pub use history::Point;
use input::{InputMonitor, timestamp};
pub use outlet::{Cause, Confirmed, OutletMonitor};
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
    inputs: Vec<Arc<InputMonitor>>,
    /// In the order of the configuration.
    services: Vec<Arc<ServiceMonitor>>,
    outputs: Vec<OutputFacts>,
    /// In the services' order.
    history: Mutex<Vec<History>>,
}

/// What is known of an output beside what its services know.
struct OutputFacts {
    name: String,
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
        let mut inputs = vec![];
        let mut services = vec![];
        for (input, client) in config.inputs.iter().zip(clients) {
            let monitor = Arc::new(InputMonitor::new(&families, &input.name, client.clone()));
            services.extend(input.services.iter().map(|service| {
                let outputs = input.outputs.iter().map(|output| output.name.as_str());
                let stalled_after = config.globals.monitoring.stalled_after;
                ServiceMonitor::new(&families, &monitor, service, outputs, stalled_after)
            }));
            inputs.push(monitor);
        }
        let started = Utc::now();
        let version = env!("CARGO_PKG_VERSION");
        families.build_info.with_label_values(&[version]).set(1);
        families
            .start_time
            .with_label_values::<&str>(&[])
            .set(timestamp(started));
        let history = services.iter().map(|_| History::begin(started)).collect();
        Ok(Monitor {
            name: config.globals.name.clone(),
            started,
            registry,
            families,
            inputs,
            services,
            outputs: config
                .all_outputs()
                .into_iter()
                .map(OutputFacts::new)
                .collect(),
            history: Mutex::new(history),
        })
    }

    /// What the tasks of an input's services tell, in the order of the configuration.
    pub fn services_of<'a>(
        &'a self,
        input: &'a str,
    ) -> impl Iterator<Item = &'a Arc<ServiceMonitor>> {
        let services = self.services.iter();
        services.filter(move |service| service.input.name == input)
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
        for input in &self.inputs {
            input.refresh(&self.families);
        }
        for service in &self.services {
            service.refresh();
        }
        for output in &self.outputs {
            if let Some(expiry) = output.certificate_expiry() {
                let gauge = self.families.certificate.with_label_values(&[&output.name]);
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
            let mut histories = lock(&self.history);
            for ((service, seen), history) in self.seen().into_iter().zip(histories.iter_mut()) {
                history.note(now, service.new_records(), seen.lag);
            }
        }
    }

    /// Reads when certificates end, anew. Blocks on the disk.
    fn read_certificates(&self) {
        for input in &self.inputs {
            input.read_certificate();
        }
        for output in &self.outputs {
            output.read_certificate();
        }
    }
}

impl OutputFacts {
    fn new(output: &Output) -> Self {
        OutputFacts {
            name: output.name.clone(),
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
