//! Whether all will work, told before the first record: configuration, state folder, files, relays, sign-in, each report, clocks.
//!
//! Changes nothing and delivers nothing: the state folder is looked at (its lock is held for an instant), a relay gets an empty delivery, each report is asked
//! once for its shortest window, and what comes is dropped. A request to Microsoft Graph is noted in the state, as every command's is. What does not depend on one another is tried at the same time, each part
//! with a bound; what cannot be tried because something before it has failed says so.

mod graph;
mod inputs;
mod line;
mod outputs;
mod state;
mod way;

use std::sync::Arc;

use tokio::task::JoinSet;

pub use line::{Inspection, Line, Verdict};

use crate::blocking::DISK;
use crate::config::{Config, Loaded, Mistakes, Source};
use crate::error::chain;
use crate::privileges::Outcome;
use crate::relay::Relay;
use crate::source::Client;

/// Tries everything. `user` is who the process has become ([`crate::privileges::rehearse`]), `None` where there was no configuration to
/// go by.
pub async fn check(
    source: &Source,
    loaded: Result<Loaded, Mistakes>,
    user: Option<anyhow::Result<Outcome>>,
    scope: &Scope,
) -> Inspection {
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(mistakes) => return without_configuration(&mistakes),
    };
    let mut lines = configuration(source, &loaded);
    let mut loaded = loaded;
    if let Some(name) = &scope.input {
        lines.extend(narrow(&mut loaded.config, name));
    }
    lines.extend(user.map(|user| Line::new("user", as_user(user))));
    if scope.offline {
        lines.extend(offline(&loaded.config));
        return Inspection { lines };
    }
    let config = Arc::new(loaded.config);
    let mut parts = JoinSet::new();
    let whole = Arc::clone(&config);
    parts.spawn(DISK.run(move || ((0, 0), state::lines(&whole))));
    for (at, output) in config.all_outputs().into_iter().enumerate() {
        let output = output.clone();
        parts.spawn(async move { ((1, at), outputs::lines(&output).await) });
    }
    for at in 0..config.inputs.len() {
        let config = Arc::clone(&config);
        parts.spawn(async move { ((2, at), inputs::lines(config, at).await) });
    }
    let mut parts = parts.join_all().await;
    parts.sort_by_key(|(place, _)| *place);
    lines.extend(parts.into_iter().flat_map(|(_, lines)| lines));
    Inspection { lines }
}

/// What is looked at.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Files only.
    pub offline: bool,
    /// This input alone.
    pub input: Option<String>,
}

/// Leaves nothing but one input and its outputs; what to say if it is not there.
fn narrow(config: &mut Config, name: &str) -> Option<Line> {
    let names: Vec<_> = { config.inputs.iter() }
        .map(|input| input.name.clone())
        .collect();
    // Their state has an owner all the same.
    let others = config.inputs.extract_if(.., |input| input.name != name);
    let others = others.map(|input| (input.name.clone(), input.id.clone()));
    config.disabled.extend(others);
    config.outputs.clear();
    config.inputs.is_empty().then(|| {
        let verdict = Verdict::failed(
            "no enabled input has this name",
            format!("name one of {}", names.join(", ")),
        );
        Line::new(format!("input {name}"), verdict)
    })
}

/// Whether the files that the configuration names can be used.
fn offline(config: &Config) -> Vec<Line> {
    let usable = |usable: anyhow::Result<()>| match usable {
        Ok(()) => Verdict::Fine("the files that it names can be used".to_owned()),
        Err(error) => Verdict::Failed(format!("{error:#}")),
    };
    let outputs = config.all_outputs().into_iter().map(|output| {
        let checked = Relay::new(output).check().map_err(|error| {
            let action = error.action().unwrap_or_default();
            anyhow::anyhow!("{}: {action}", chain(&error))
        });
        Line::new(format!("output {}", output.name), usable(checked))
    });
    let inputs = config.inputs.iter().map(|input| {
        let checked = Client::new(input).map(drop);
        Line::new(format!("input {}", input.name), usable(checked))
    });
    outputs.chain(inputs).collect()
}

fn configuration(source: &Source, loaded: &Loaded) -> Vec<Line> {
    let config = &loaded.config;
    let services: usize = config.inputs.iter().map(|input| input.services.len()).sum();
    let text = format!(
        "{}: {}, {}, {}",
        source,
        counted(config.all_outputs().len(), "output"),
        counted(config.inputs.len(), "input"),
        counted(services, "service"),
    );
    let mistakes = config.left_out.iter().flat_map(|file| file.mistakes.iter());
    let left_out = mistakes.map(|mistake| Verdict::Failed(format!("left out: {mistake}")));
    let warnings = loaded
        .warnings
        .iter()
        .map(|warning| Verdict::Doubtful(warning.to_string()));
    [Verdict::Fine(text)]
        .into_iter()
        .chain(left_out)
        .chain(warnings)
        .map(|verdict| Line::new("configuration", verdict))
        .collect()
}

fn counted(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

fn without_configuration(mistakes: &Mistakes) -> Inspection {
    let mistakes = mistakes
        .to_string()
        .lines()
        .map(|mistake| Line::new("configuration", Verdict::Failed(mistake.to_owned())))
        .collect::<Vec<_>>();
    let rest = ["state folder", "outputs", "inputs"].map(|part| {
        Line::new(
            part,
            Verdict::NotTried("the configuration cannot be run".to_owned()),
        )
    });
    Inspection {
        lines: mistakes.into_iter().chain(rest).collect(),
    }
}

fn as_user(user: anyhow::Result<Outcome>) -> Verdict {
    match user {
        Ok(outcome) => Verdict::Fine(outcome.to_string()),
        Err(error) => Verdict::failed(
            format!("{error:#}"),
            "start the container without options that take its rights away, or with `--user`",
        ),
    }
}
