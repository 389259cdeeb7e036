//! The hosted form: the two JSON files of a Devo Collector Server, put together into the tree that `config.yaml` would give.
//!
//! This alone knows what is called otherwise there. Each key that it gives another name, or another place, remembers how it was
//! written, so that what is said of it later names the file and the key as they are; so does a key that is missing.

use std::rc::Rc;

use super::finding::Findings;
use super::tree::{Entry, Node, Place, Value};
use super::words::{joined, quoted};
use super::{json, loggers};

/// The positions of the two files.
const JOB: usize = 0;
const COLLECTOR: usize = 1;

/// A key as these files have it, and as `config.yaml` has it.
type Renamed = (&'static str, &'static str);

const OF_COLLECTOR: [Renamed; 4] = [
    ("job_id", "id"),
    ("job_name", "name"),
    ("state_store", "persistence"),
    (LOGGERS, OUTPUTS),
];
const OF_STORE: [Renamed; 1] = [("dir", "directory_name")];
const OF_LOGGER: [Renamed; 5] = [
    ("url", "address"),
    ("location", "address"),
    ("chain_loc", "chain"),
    ("cert_loc", "cert"),
    ("key_loc", "key"),
];
const GLOBALS: &str = "globals";
const OUTPUTS: &str = "outputs";
const LOGGERS: &str = "loggers";
const INPUTS: &str = "inputs";
const OVERRIDES: &str = "global_overrides";
const CONFIG: &str = "config";

/// The tree of both files; `None` after a mistake that leaves none.
pub(super) fn tree(job: &str, collector: &str, findings: &Findings) -> Option<Rc<Node>> {
    let job = members(job, JOB, findings);
    let collector = members(collector, COLLECTOR, findings);
    let (job, collector) = (job?, collector?);

    let mut globals = renamed(collector, "", COLLECTOR, &OF_COLLECTOR, findings);
    within(&mut globals, "persistence", |store, path| {
        configured(store, path, COLLECTOR, &OF_STORE, findings)
    });
    let at = globals.iter().position(|entry| entry.key == OUTPUTS)?;
    let mut outputs = globals.remove(at);
    outputs.node = loggers(&outputs.node, findings);

    let wrapped = job
        .iter()
        .any(|entry| matches!(entry.key.as_str(), INPUTS | OVERRIDES));
    let mut entries = if wrapped {
        unwrapped(job, &mut globals, findings)
    } else {
        // The inputs are the whole file, as the documentation prints it.
        vec![moved(INPUTS, "", JOB, Value::Map(job))]
    };
    entries.push(moved(GLOBALS, "", COLLECTOR, Value::Map(globals)));
    entries.push(outputs);
    Some(map(Place::whole(JOB), entries))
}

/// What a file holds, which has to be a map of keys.
fn members(text: &str, file: usize, findings: &Findings) -> Option<Vec<Entry>> {
    let node = json::tree(text, file, findings)?;
    if let Value::Map(entries) = &node.value {
        return Some(entries.clone());
    }
    let needed = if file == JOB {
        "the inputs, or `global_overrides` and `inputs`"
    } else {
        "`job_id`, `job_name` and `loggers`"
    };
    let text = format!("the file does not begin with a `{{`: it has to hold {needed}");
    findings.mistake(node.place, "", text);
    None
}

/// The job file's keys where it has more than inputs; what it overrides takes its place among `globals`.
fn unwrapped(mut job: Vec<Entry>, globals: &mut Vec<Entry>, findings: &Findings) -> Vec<Entry> {
    if let Some(at) = job.iter().position(|entry| entry.key == OVERRIDES) {
        let overrides = job.remove(at);
        match &overrides.node.value {
            Value::Blank => {}
            Value::Map(entries) => entries.iter().for_each(|entry| replace(globals, entry)),
            Value::Text(_) | Value::List(_) => findings.mistake(
                overrides.place,
                OVERRIDES,
                "has to be a map of keys, as `globals` of config.yaml holds them",
            ),
        }
    }
    job.retain(|entry| {
        let known = entry.key == INPUTS;
        if !known {
            misplaced(entry, findings);
        }
        known
    });
    if job.is_empty() {
        job.push(moved(INPUTS, INPUTS, JOB, Value::Blank));
    }
    job
}

/// Tells where a key belongs that stands beside the inputs, where it would go before the other file's or be lost.
fn misplaced(entry: &Entry, findings: &Findings) {
    let target = match entry.key.as_str() {
        OUTPUTS | LOGGERS => "put the outputs into collector_config.json, under `loggers`",
        GLOBALS => "put what it holds into collector_config.json, or under `global_overrides`",
        _ => {
            "put an input under `inputs`, and a setting of the collector into collector_config.json or under `global_overrides`"
        }
    };
    let text = format!("is not allowed here, beside `{INPUTS}` and `{OVERRIDES}`: {target}");
    findings.mistake(entry.place, &joined("", &entry.key), text);
}

/// Puts what overrides a key in the key's place, unless it is blank.
fn replace(globals: &mut Vec<Entry>, entry: &Entry) {
    if !matches!(entry.node.value, Value::Blank) {
        globals.retain(|known| known.key != entry.key);
        globals.push(Entry {
            written: Some(joined(OVERRIDES, &entry.key)),
            ..entry.clone()
        });
    }
}

/// The outputs by name: as they are, or from a list without names.
fn loggers(node: &Rc<Node>, findings: &Findings) -> Rc<Node> {
    let mut outputs: Vec<Entry> = match &node.value {
        Value::Map(entries) => entries.clone(),
        Value::List(items) => items
            .iter()
            .enumerate()
            .map(|(position, item)| Entry {
                key: String::new(),
                place: item.place,
                node: Rc::clone(item),
                written: Some(format!("{LOGGERS}[{position}]")),
            })
            .collect(),
        Value::Blank | Value::Text(_) => return Rc::clone(node),
    };
    for entry in &mut outputs {
        let path = entry
            .written
            .clone()
            .unwrap_or_else(|| joined(LOGGERS, &entry.key));
        if let Value::Map(output) = &entry.node.value {
            let output = configured(output.clone(), &path, COLLECTOR, &OF_LOGGER, findings);
            entry.node = map(entry.node.place, output);
        }
    }
    if matches!(node.value, Value::List(_)) {
        let names = loggers::names(outputs.iter().map(|output| &output.node.value));
        for (output, name) in outputs.iter_mut().zip(names) {
            output.key = name;
        }
    }
    map(node.place, outputs)
}

/// Entries whose `config` has renamed keys.
fn configured(
    mut entries: Vec<Entry>,
    path: &str,
    file: usize,
    names: &[Renamed],
    findings: &Findings,
) -> Vec<Entry> {
    within(&mut entries, CONFIG, |config, _| {
        renamed(config, &joined(path, CONFIG), file, names, findings)
    });
    entries
}

/// Changes what the map under `key` holds, if a map is there; `change` is told its path as well.
fn within(entries: &mut [Entry], key: &str, change: impl FnOnce(Vec<Entry>, &str) -> Vec<Entry>) {
    let Some(entry) = entries.iter_mut().find(|entry| entry.key == key) else {
        return;
    };
    if let Value::Map(inner) = &entry.node.value {
        let path = entry.written.as_deref().unwrap_or(key);
        let inner = change(inner.clone(), path);
        entry.node = map(entry.node.place, inner);
    }
}

/// The entries under `path` by the names of `config.yaml`, with a blank one for each that is missing.
fn renamed(
    entries: Vec<Entry>,
    path: &str,
    file: usize,
    names: &[Renamed],
    findings: &Findings,
) -> Vec<Entry> {
    let mut result: Vec<Entry> = Vec::with_capacity(entries.len() + names.len());
    for mut entry in entries {
        let written = joined(path, &entry.key);
        if let Some((_, key)) = names.iter().find(|(name, _)| *name == entry.key) {
            (*key).clone_into(&mut entry.key);
        }
        if let Some(other) = result.iter().find(|other| other.key == entry.key) {
            let other = other.written.as_deref().unwrap_or_default();
            let text = format!("means the same as {}: keep one of them", quoted(other));
            findings.mistake(entry.place, &written, text);
            continue;
        }
        entry.written = Some(written);
        result.push(entry);
    }
    for (name, key) in names {
        if !result.iter().any(|entry| entry.key == *key) {
            result.push(moved(key, &joined(path, name), file, Value::Blank));
        }
    }
    result
}

/// What stands nowhere in the files under this key.
fn moved(key: &str, written: &str, file: usize, value: Value) -> Entry {
    let place = Place::whole(file);
    Entry {
        key: key.to_owned(),
        place,
        node: node(place, value),
        written: Some(written.to_owned()),
    }
}

fn map(place: Place, entries: Vec<Entry>) -> Rc<Node> {
    node(place, Value::Map(entries))
}

fn node(place: Place, value: Value) -> Rc<Node> {
    let quoted = false;
    Rc::new(Node {
        place,
        value,
        quoted,
        comment: None,
    })
}
