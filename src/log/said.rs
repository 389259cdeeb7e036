//! One event of the log, with what is known of where it comes from.

use std::borrow::Cow;
use std::fmt;

use chrono::{DateTime, Utc};
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::{LookupSpan, Scope};

use crate::foreign::printable;

/// This crate's name, as the paths of its modules begin.
pub(crate) const CRATE: &str = "exchange_reports_collector";

/// One event of the log.
#[derive(Clone, Debug)]
pub struct Said {
    /// When.
    pub time: DateTime<Utc>,
    /// How grave it is.
    pub level: Level,
    /// Which module of this crate says it, such as `service::walking`; a module of another crate with that crate's name.
    pub module: String,
    /// For whom.
    pub place: Place,
    /// The message, constant for each kind of event but where it is an error's text.
    pub message: String,
    /// The facts, in the order in which they were given.
    pub facts: Vec<(&'static str, Value)>,
}

/// For whom something is said: an output of a service, a service, or the collector as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The input's name.
    pub input: Option<String>,
    /// The service's name.
    pub service: Option<String>,
    /// The output's name.
    pub output: Option<String>,
}

impl Said {
    /// What this event says. The spans around it tell its place, if the listener has them remembered.
    pub fn of<S>(event: &Event<'_>, context: &Context<'_, S>) -> Self
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let mut place = Place::default();
        for span in context
            .event_scope(event)
            .into_iter()
            .flat_map(Scope::from_root)
        {
            if let Some(known) = span.extensions().get::<Place>() {
                place.enter(known);
            }
        }
        let target = event.metadata().target();
        let own = target.strip_prefix(CRATE);
        let own = own.map(|module| module.trim_start_matches("::"));
        let mut facts = Facts::default();
        event.record(&mut facts);
        // A failure that is told outside the service's span names it as a fact.
        place.input = place.input.or_else(|| facts.text("input"));
        place.service = place.service.or_else(|| facts.text("service"));
        Self {
            time: Utc::now(),
            level: *event.metadata().level(),
            module: match own {
                Some("") => "main".to_owned(),
                other => other.unwrap_or(target).to_owned(),
            },
            place,
            message: facts.message,
            facts: facts.named,
        }
    }

    /// What the log itself has to say.
    pub(super) fn own(level: Level, message: String, facts: Vec<(&'static str, Value)>) -> Self {
        Self {
            time: Utc::now(),
            level,
            module: "log".to_owned(),
            place: Place::default(),
            message,
            facts,
        }
    }

    /// The message and the facts behind it, as `key=value`: a text in quotation marks where it would not be one word otherwise.
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(self.message.len() + 32 * self.facts.len());
        text.push_str(&self.message);
        for (name, value) in &self.facts {
            let value = match value {
                Value::String(word) if is_word(word) => word.clone(),
                Value::String(phrase) => format!("{phrase:?}"),
                other => other.to_string(),
            };
            text.extend([" ", name, "=", &value]);
        }
        text
    }
}

fn is_word(text: &str) -> bool {
    let odd = |c: char| c.is_whitespace() || c.is_control() || c == '"' || c == '=';
    !text.is_empty() && !text.contains(odd)
}

impl Place {
    /// Keeps what a new span tells of the place; other spans tell nothing.
    pub(crate) fn remember<S>(attributes: &Attributes<'_>, id: &Id, context: &Context<'_, S>)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let mut facts = Facts::default();
        attributes.record(&mut facts);
        let name = facts.text("name");
        let place = match attributes.metadata().name() {
            "service" => Self {
                input: facts.text("input"),
                service: name,
                output: None,
            },
            "output" => Self {
                output: name,
                ..Self::default()
            },
            _ => return,
        };
        if let Some(span) = context.span(id) {
            span.extensions_mut().replace(place);
        }
    }

    /// Goes on to what an inner span tells.
    fn enter(&mut self, inner: &Self) {
        let Self {
            input,
            service,
            output,
        } = inner.clone();
        self.input = input.or(self.input.take());
        self.service = service.or(self.service.take());
        self.output = output.or(self.output.take());
    }
}

/// What an event or a span is given.
#[derive(Default)]
struct Facts {
    message: String,
    named: Vec<(&'static str, Value)>,
}

impl Facts {
    fn add(&mut self, field: &Field, mut value: Value) {
        // Whoever sends us a text does not steer the operator's terminal, and gets no secret of ours shown.
        if let Value::String(text) = &mut value
            && let Cow::Owned(printable) = printable(text)
        {
            *text = printable;
        }
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            ("message", other) => self.message = other.to_string(),
            (name, value) => self.named.push((name, value)),
        }
    }

    fn text(&self, name: &str) -> Option<String> {
        let mut all = self.named.iter();
        let (_, value) = all.find(|(known, _)| *known == name)?;
        value.as_str().map(str::to_owned)
    }
}

impl Visit for Facts {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::{error, info, info_span};
    use tracing_subscriber::layer::{Layer, SubscriberExt as _};

    use super::*;

    #[derive(Clone, Default)]
    struct Listening(Arc<Mutex<Vec<Said>>>);

    impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Listening {
        fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
            Place::remember(attributes, id, &context);
        }

        fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
            let mut said = Said::of(event, &context);
            said.time = "2026-11-22T14:40:52.2904Z".parse().unwrap();
            self.0.lock().unwrap().push(said);
        }
    }

    /// What is said meanwhile, all at the same instant.
    pub(crate) fn heard(say: impl FnOnce()) -> Vec<Said> {
        let listening = Listening::default();
        let log = tracing_subscriber::registry().with(listening.clone());
        tracing::subscriber::with_default(log, say);
        let heard = listening.0.lock().unwrap();
        heard.clone()
    }

    /// Says the same of the collector, of a service, and of one of its outputs.
    pub(in super::super) fn say() {
        info!(services = 2, "collecting");
        let service = info_span!("service", input = "tenant", name = "trace_service").entered();
        info!(window = %"10:00..11:00", per_second = 1.5, whole = true, "window delivered");
        let _other = info_span!("other", name = "of no meaning").entered();
        let _output = info_span!("output", name = "devo_1").entered();
        error!(error = "it \"broke\"\nat once", retry_in = ?std::time::Duration::from_secs(1), "delivery waits");
        drop(service);
    }

    #[test]
    fn an_event_knows_its_place_and_a_fact_is_quoted_where_it_is_no_word() {
        let heard = heard(say);
        let place = |said: &Said| {
            let Place {
                input,
                service,
                output,
            } = said.place.clone();
            [input, service, output].map(Option::unwrap_or_default)
        };
        assert_eq!(place(&heard[0]), ["", "", ""]);
        assert_eq!(place(&heard[1]), ["tenant", "trace_service", ""]);
        assert_eq!(place(&heard[2]), ["tenant", "trace_service", "devo_1"]);
        let texts: Vec<_> = heard.iter().map(Said::text).collect();
        assert_eq!(
            texts,
            [
                "collecting services=2",
                "window delivered window=10:00..11:00 per_second=1.5 whole=true",
                r#"delivery waits error="it \"broke\"\nat once" retry_in=1s"#
            ]
        );
        assert_eq!(heard[0].module, "log::said::tests");
    }

    #[test]
    fn no_text_steers_the_terminal_or_shows_a_secret() {
        let _hidden = crate::foreign::hide("never-In-the-Log.3");
        let heard = heard(|| {
            error!(address = "a\u{1b}[2J\u{202e}b", key = ?"never-In-the-Log.3", "one\u{9b}31m\ntwo never-In-the-Log.3");
        });
        assert_eq!(
            heard[0].text(),
            "one\u{fffd}31m\ntwo (removed) address=a\u{fffd}[2J\u{fffd}b key=\"\\\"(removed)\\\"\""
        );
    }
}
