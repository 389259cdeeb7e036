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
use crate::config::{Loaded, Mistakes, Source};
use crate::privileges::Outcome;

/// Tries everything. `user` is who the process has become ([`crate::privileges::rehearse`]), `None` where there was no configuration to
/// go by.
pub async fn check(
    source: &Source,
    loaded: Result<Loaded, Mistakes>,
    user: Option<anyhow::Result<Outcome>>,
) -> Inspection {
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(mistakes) => return without_configuration(&mistakes),
    };
    let mut lines = configuration(source, &loaded);
    lines.extend(user.map(|user| Line::new("user", as_user(user))));
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
    let warnings = loaded
        .warnings
        .iter()
        .map(|warning| Verdict::Doubtful(warning.to_string()));
    [Verdict::Fine(text)]
        .into_iter()
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
