//! What is known of a configuration before anything is started: its files are read, and each input has its ways to Microsoft.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use tracing::error;

use crate::config::{Config, Finding, Input, LeftOut};
use crate::error;
use crate::relay::Relay;
use crate::source::concurrency::Overall;
use crate::tenant::Tenant;

/// A configuration that can be run as far as that can be known before anything is started.
pub struct Prepared {
    pub(crate) config: Config,
    /// One for each input.
    pub(crate) tenants: Vec<Arc<Tenant>>,
    /// What all of them share, also those that come.
    pub(crate) overall: Overall,
}

/// Reads all files that the configuration names. Asks and sends nothing. An input file is left out where a file that it alone names cannot be
/// used; the log tells of all that are.
///
/// # Errors
///
/// If a file that the main file names cannot be used: a line for each output and input with one, and what to do.
pub fn prepare(config: Config) -> anyhow::Result<Prepared> {
    let overall = Overall::new(config.globals.concurrent_requests);
    let prepared = prepare_beside(config, &[], &overall)?;
    for LeftOut { file, mistakes } in &prepared.config.left_out {
        error!(
            file = %file.display(),
            "this file of inputs is left out, and its inputs do not run until it is put right\n{mistakes}"
        );
    }
    Ok(prepared)
}

/// The same beside inputs that run. Those that have not changed are used as they are, and those of a file that cannot be used go on.
pub(crate) fn prepare_beside(
    mut config: Config,
    running: &[(Arc<Input>, Arc<Tenant>)],
    overall: &Overall,
) -> anyhow::Result<Prepared> {
    let mut mistakes = vec![];
    let mut unusable: BTreeMap<PathBuf, Vec<Finding>> = BTreeMap::new();
    let main: HashSet<_> = { config.outputs.iter() }
        .map(|output| output.name.as_str())
        .collect();
    for output in config.all_outputs() {
        let Err(error) = Relay::new(output).check() else {
            continue;
        };
        let action = error.action().unwrap_or_default();
        let text = format!("{}: {action}", error::chain(&error));
        if main.contains(output.name.as_str()) {
            mistakes.push(format!("output `{}`: {text}", output.name));
            continue;
        }
        let mut inputs = config.inputs.iter();
        let owner = inputs.find(|input| input.outputs.iter().any(|of| of.name == output.name));
        if let Some(file) = owner.and_then(|input| input.file.clone()) {
            let key = format!("outputs.{}", output.name);
            let mistake = Finding::of_file(file.clone(), key, text);
            unusable.entry(file).or_default().push(mistake);
        }
    }
    let mut tenants = HashMap::new();
    for input in &config.inputs {
        let known = running.iter().find(|(known, _)| known.runs_as(input));
        let tenant = known.map_or_else(
            || Tenant::new(input, overall).map(Arc::new),
            |(_, tenant)| Ok(Arc::clone(tenant)),
        );
        match (tenant, &input.file) {
            (Ok(tenant), _) => drop(tenants.insert(input.name.clone(), tenant)),
            (Err(error), None) => mistakes.push(format!("{error:#}")),
            (Err(error), Some(file)) => {
                let key = format!("inputs.{}", input.name);
                let mistake = Finding::of_file(file.clone(), key, format!("{error:#}"));
                unusable.entry(file.clone()).or_default().push(mistake);
            }
        }
    }
    if !mistakes.is_empty() {
        bail!("{}", mistakes.join("\n"));
    }
    let inputs: Vec<_> = running.iter().map(|(input, _)| Arc::clone(input)).collect();
    for (file, mistakes) in unusable {
        config.leave_out(&file, mistakes, &inputs);
    }
    let tenants = config.inputs.iter().map(|input| {
        let kept = running.iter().find(|(known, _)| known.runs_as(input));
        let kept = kept.map(|(_, tenant)| tenant);
        kept.or_else(|| tenants.get(&input.name)).cloned()
    });
    let tenants = tenants.collect::<Option<Vec<_>>>();
    Ok(Prepared {
        tenants: tenants.context("an input is not prepared")?,
        overall: overall.clone(),
        config,
    })
}
