//! The log on standard error: the original's line for each event, or JSON where the variable `LOG_FORMAT` is `json`.
//!
//! What is logged is decided where it happens. Here nothing is added to it but where it comes from, and nothing is left out.

mod json;
mod line;
mod recent;
mod said;

use std::io::Write as _;

use tracing::{Event, Subscriber, warn};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry};

pub(crate) use line::levelname;
pub use recent::recent;
pub(crate) use said::CRATE;
#[cfg(test)]
pub(crate) use said::tests::heard;
pub use said::{Place, Said};

/// A further listener to what is logged, with a filter of its own.
pub type Listener = Box<dyn Layer<Registry> + Send + Sync>;

/// Logs from now on, and lets `listener` hear. `default` is what goes to standard error unless `RUST_LOG` says otherwise.
///
/// The first call counts; a process has one log.
pub fn start(default: &str, listener: Option<Listener>) {
    let wanted = std::env::var("LOG_FORMAT").unwrap_or_default();
    let format = Format::named(&wanted);
    let chosen = std::env::var_os(EnvFilter::DEFAULT_ENV);
    let filter = EnvFilter::try_from_default_env();
    let misspelt = chosen.filter(|_| filter.is_err());
    let filter = filter.unwrap_or_else(|_| EnvFilter::new(default));
    let console = Console(format.unwrap_or(Format::Line)).with_filter(filter);
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

/// What a line of the log looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// The original's.
    Line,
    /// A JSON object.
    Json,
}

impl Format {
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
}

/// Standard error.
struct Console(Format);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Console {
    fn on_new_span(
        &self,
        attributes: &tracing::span::Attributes<'_>,
        id: &tracing::span::Id,
        context: Context<'_, S>,
    ) {
        Place::remember(attributes, id, &context);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut line = self.0.print(&Said::of(event, &context));
        line.push('\n');
        // Where standard error is gone there is nobody left to tell.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
        recent::keep(line);
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
