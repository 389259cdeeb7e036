//! The collector's own messages to Devo, tag `devo.collectors.out.local.<level>`: what is logged, for those who look there first.
//!
//! Guarantees: each output has a queue of its own, bounded in messages and bytes, that never makes anybody wait; what does not fit is
//! counted, and the count is told. A full queue keeps what it has, since an outage is explained by its first messages, and its second half is
//! for warnings and errors. Messages go on connections of their own, which open when there is something to say and end soon after, so that no
//! record waits for them. They are delivered with best effort: kept while the output is away, sent once more where their receipt did not come, then let go
//! and counted.
//!
//! Statements of what hours came to are messages like all others, but [`Told`] knows which of them each output has, so that their sender can
//! repeat what one has not got.
//!
//! What is said about the delivery of messages goes to the log on standard error only: they must not feed themselves.

mod message;
mod messenger;
mod queue;
mod told;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber, error};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload;

use self::message::Collector;
pub(crate) use self::message::{DAY_SETTLED, HOUR_SETTLED, HOURS_SETTLED};
use self::messenger::Messenger;
use self::queue::{Inlet, queue};
pub use self::told::Told;
use crate::config::{Config, Output, OutputKind};
use crate::log::{self, CRATE, Listener, Place, Said};
use crate::relay::Host;

/// How long the last messages may take at the end.
const FAREWELL: Duration = Duration::from_millis(700);

/// What is delivered to the outputs, before it is.
pub struct Messages {
    waiting: Vec<(Output, queue::Outlet)>,
    collector: Arc<Collector>,
    told: Told,
}

impl Messages {
    /// A queue for each output, and the listener to the log that fills them: with what this crate says at INFO and above, and also at
    /// DEBUG if the configuration wants that logged.
    pub fn of(config: &Config) -> (Self, Listener) {
        let image = std::env::var("COLLECTOR_IMAGE").ok();
        let collector = Arc::new(Collector {
            name: config.globals.name.clone(),
            version: env!("CARGO_PKG_VERSION"),
            image: image.filter(|image| !image.is_empty()),
        });
        let (mut inlets, mut waiting) = (vec![], vec![]);
        // Where lines are only printed to be looked at, nothing is to stand between them.
        let printed = |output: &&Output| matches!(output.kind, OutputKind::Printed(_));
        let outputs: Vec<_> = config.outputs.iter().filter(|one| !printed(one)).collect();
        let told = Told::new(outputs.len());
        for (nth, output) in outputs.into_iter().enumerate() {
            let (inlet, outlet) = queue(told.to(nth));
            inlets.push(inlet);
            waiting.push((output.clone(), outlet));
        }
        let (own, level) = reload::Layer::new(own_at(config.globals.debug));
        log::on_debug(move |debug| {
            // The log is there for as long as the process.
            let _ = level.reload(own_at(debug));
        });
        let feed = Feed {
            inlets,
            collector: Arc::clone(&collector),
        };
        let messages = Self {
            waiting,
            collector,
            told,
        };
        (messages, feed.with_filter(own).boxed())
    }

    /// What the outputs have been told of the hours.
    pub fn told(&self) -> Told {
        self.told.clone()
    }

    /// Delivers from now on, within a Tokio runtime.
    pub fn deliver(self) -> Messengers {
        let ending = CancellationToken::new();
        let mut tasks = JoinSet::new();
        match Host::of_this_machine() {
            Ok(host) => {
                for (output, outlet) in self.waiting {
                    let collector = Arc::clone(&self.collector);
                    let messenger =
                        Messenger::new(&output, host.clone(), collector, outlet, ending.clone());
                    let span = tracing::info_span!("output", name = output.name);
                    tasks.spawn(tracing::Instrument::instrument(messenger.run(), span));
                }
            }
            Err(error) => {
                error!(%error, "without this machine's host name no message can be delivered to Devo");
            }
        }
        Messengers { tasks, ending }
    }
}

/// What is delivered of what is logged.
fn own_at(debug: bool) -> Targets {
    let level = if debug {
        LevelFilter::DEBUG
    } else {
        LevelFilter::INFO
    };
    Targets::new()
        .with_target(CRATE, level)
        .with_target(module_path!(), LevelFilter::OFF)
}

/// The tasks that deliver messages, one for each output.
pub struct Messengers {
    tasks: JoinSet<()>,
    ending: CancellationToken,
}

impl Messengers {
    /// Delivers what waits, each output tried once, and ends; takes less than a second.
    pub async fn close(mut self) {
        self.ending.cancel();
        let all_ended = async { while self.tasks.join_next().await.is_some() {} };
        // What is left is in the log on standard error.
        let _ = tokio::time::timeout(FAREWELL, all_ended).await;
    }
}

/// Listens to the log.
struct Feed {
    inlets: Vec<Inlet>,
    collector: Arc<Collector>,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Feed {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        Place::remember(attributes, id, &context);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let message = Arc::new(self.collector.message(&Said::of(event, &context)));
        for inlet in &self.inlets {
            inlet.add(&message);
        }
    }
}
