//! The log on standard error: the original's line for each event, or JSON where the variable `LOG_FORMAT` is `json`.
//!
//! What is logged is decided where it happens. Here nothing is added to it but where it comes from, and nothing is left out, except lines that
//! standard error has no room for once [`queue_lines`] was called; these are counted. [`recent`] has them all the same.

mod console;
mod json;
mod line;
mod recent;
mod said;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::{Event, Level, Subscriber, warn};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::memory;
use console::CONSOLE;
pub(crate) use line::levelname;
pub use recent::recent;
pub(crate) use said::CRATE;
#[cfg(test)]
pub(crate) use said::tests::heard;
pub use said::{Place, Said};

/// A further listener to what is logged, with a filter of its own.
pub type Listener = Box<dyn Layer<Registry> + Send + Sync>;

/// What is logged unless the configuration has it at DEBUG.
pub const INFO: &str = "info";

/// What is logged where it has.
pub const DEBUG: &str = "info,exchange_reports_collector=debug";

type OnDebug = Box<dyn Fn(bool) + Send>;

/// Those that log at DEBUG or not.
static ON_DEBUG: Mutex<Vec<OnDebug>> = Mutex::new(Vec::new());

/// Has `change` called when the configuration wants DEBUG logged, or no more.
pub(crate) fn on_debug(change: impl Fn(bool) + Send + 'static) {
    lock().push(Box::new(change));
}

/// Logs at DEBUG from now on, or at INFO; `RUST_LOG` wins on standard error.
pub(crate) fn set_debug(debug: bool) {
    for change in lock().iter() {
        change(debug);
    }
}

fn lock() -> MutexGuard<'static, Vec<OnDebug>> {
    ON_DEBUG.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Logs from now on, and lets `listener` hear. `default` is what goes to standard error unless `RUST_LOG` says otherwise.
///
/// The first call counts; a process has one log.
pub fn start(default: &str, listener: Option<Listener>) {
    let wanted = Format::wanted();
    let format = Format::named(&wanted);
    let wish = std::env::var_os(EnvFilter::DEFAULT_ENV);
    let filter = EnvFilter::try_from_default_env();
    let chosen = wish.is_some() && filter.is_ok();
    let misspelt = wish.filter(|_| filter.is_err());
    let filter = filter.unwrap_or_else(|_| EnvFilter::new(default));
    let (filter, handle) = reload::Layer::new(filter);
    if !chosen {
        on_debug(move |debug| {
            // The log is there for as long as the process.
            let _ = handle.reload(EnvFilter::new(if debug { DEBUG } else { INFO }));
        });
    }
    let console = Printer(format.unwrap_or(Format::Line)).with_filter(filter);
    let log = tracing_subscriber::registry().with(listener);
    // Only a second call fails.
    let _ = log.with(console).try_init();
    if format.is_none() {
        warn!(
            LOG_FORMAT = wanted,
            "the variable LOG_FORMAT is neither `json` nor `line`: lines are logged"
        );
    }
    if let Some(wanted) = misspelt {
        warn!(
            RUST_LOG = %wanted.to_string_lossy(), used = default,
            "the variable RUST_LOG is not understood and not used: give a level (`error`, `warn`, `info`, `debug`, `trace`), also for single \
             modules, as in `info,exchange_reports_collector=debug`"
        );
    }
}

/// From now on no event waits for the reader of standard error. For programs that call [`flush`] before they end.
pub fn queue_lines() {
    CONSOLE.start_queue(match Format::named(&Format::wanted()) {
        Some(Format::Line) | None => |dropped| Format::Line.dropped(dropped),
        Some(Format::Json) => {
            memory::log_json();
            |dropped| Format::Json.dropped(dropped)
        }
    });
}

/// Starts the thread that writes what [`queue_lines`] queues. Until then lines are only written where that takes no time.
pub fn start_thread() {
    CONSOLE.start_thread();
}

/// Waits until all lines are written, for less than a second, and less where nobody reads them.
pub fn flush() {
    CONSOLE.flush();
}

/// From now on a panic is logged as any other event, and holds up nobody either.
pub fn log_panics() {
    let format = Format::named(&Format::wanted()).unwrap_or(Format::Line);
    std::panic::set_hook(Box::new(move |panic| {
        let mut message = panic.to_string();
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            message = format!("{message}\n{backtrace}");
        }
        // Not by way of `tracing`, which may be what has panicked.
        add(format.print(&Said::own(Level::ERROR, message, vec![])));
        flush();
    }));
}

/// Adds a line that has no end yet.
fn add(mut line: String) {
    line.push('\n');
    recent::keep(line.clone());
    CONSOLE.add(line);
}

/// What a line of the log looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// The original's.
    Line,
    /// A JSON object.
    Json,
}

impl Format {
    /// What the environment asks for.
    fn wanted() -> String {
        std::env::var("LOG_FORMAT").unwrap_or_default()
    }

    /// The format of this name; the original's where there is none.
    fn named(name: &str) -> Option<Self> {
        match name {
            "" | "line" => Some(Self::Line),
            "json" => Some(Self::Json),
            _ => None,
        }
    }

    fn print(self, said: &Said) -> String {
        match self {
            Self::Line => line::print(said),
            Self::Json => json::print(said),
        }
    }

    /// The line, with its end, that tells how many are missing.
    fn dropped(self, lines: u64) -> String {
        let message = "standard error took no lines for a while: some of the log are missing here";
        let facts = vec![("missing", lines.into())];
        self.print(&Said::own(Level::WARN, message.to_owned(), facts)) + "\n"
    }
}

/// Prints events for standard error.
struct Printer(Format);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Printer {
    fn on_new_span(
        &self,
        attributes: &tracing::span::Attributes<'_>,
        id: &tracing::span::Id,
        context: Context<'_, S>,
    ) {
        Place::remember(attributes, id, &context);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        add(self.0.print(&Said::of(event, &context)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_that_does_not_exist_is_noticed() {
        assert_eq!(Format::named(""), Some(Format::Line));
        assert_eq!(Format::named("line"), Some(Format::Line));
        assert_eq!(Format::named("json"), Some(Format::Json));
        assert_eq!(Format::named("JSON lines"), None);
    }
}
