//! Which part of the crate may use which: each only those that stand before it in the list, so that there is no circle.
//!
//! Tests may use anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Each folder and file of `src` with what it uses of the others, from the lowest to the highest.
const LAYERS: &[(&str, &str)] = &[
    ("arguments", ""),
    ("backoff", ""),
    ("blocking", ""),
    ("budget", ""),
    ("clock", ""),
    ("error", ""),
    ("foreign", ""),
    ("length", ""),
    ("pem", ""),
    ("privileges", ""),
    ("process", ""),
    ("report", ""),
    ("signal", ""),
    ("spread", ""),
    ("stop", ""),
    ("stream", ""),
    ("version", ""),
    ("memory", "stream"),
    ("record", "report"),
    ("window", "report"),
    ("agenda", "window"),
    ("config", "privileges record report"),
    ("log", "foreign memory stream"),
    (
        "ledger",
        "blocking config privileges record report version window",
    ),
    ("needs", "config"),
    ("relay", "blocking clock config foreign pem stream"),
    (
        "source",
        "backoff blocking config error foreign pem record report window",
    ),
    ("dedup", "ledger record report window"),
    ("messages", "backoff config error log relay"),
    (
        "monitoring",
        "blocking config foreign ledger length record relay report source window",
    ),
    (
        "delivery",
        "backoff blocking budget clock config error ledger length monitoring record relay report source stop window",
    ),
    ("web", "config ledger length log monitoring source"),
    (
        "service",
        "agenda backoff budget clock config dedup delivery error ledger memory messages monitoring record relay report source stop window",
    ),
    (
        "tenant",
        "backoff blocking budget clock config delivery error ledger messages monitoring report service source spread window",
    ),
    (
        "command",
        "backoff blocking config error foreign ledger length privileges record relay report service source tenant version web window",
    ),
    ("prepared", "config error relay source tenant"),
    ("fleet", "config prepared spread tenant"),
    ("reload", "blocking config prepared source tenant"),
    (
        "run",
        "blocking budget command config delivery error fleet ledger log messages monitoring prepared relay reload stop tenant web",
    ),
];

/// What stands at the crate's root, and belongs to no part.
const ROOT: [&str; 2] = ["lib", "main"];

/// The names behind `crate::` in a text; those of its tests, at its end, are left out.
fn used(text: &str) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]\nmod tests {").next();
    let mut names = BTreeSet::new();
    for place in code.unwrap_or_default().split("crate::").skip(1) {
        match place.strip_prefix('{') {
            Some(list) => names.extend(listed(list)),
            None => names.extend(first_word(place)),
        }
    }
    names
}

/// The first words of a list in braces, which may hold lists itself.
fn listed(list: &str) -> Vec<String> {
    let (mut depth, mut begins, mut names) = (0, true, vec![]);
    for (at, sign) in list.char_indices() {
        match sign {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => begins = true,
            _ if begins && sign.is_alphanumeric() => {
                names.extend(first_word(&list[at..]));
                begins = false;
            }
            _ => {}
        }
    }
    names
}

/// A module's name; types and functions of the crate's root are none.
fn first_word(text: &str) -> Option<String> {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    let word = &text[..end.unwrap_or(text.len())];
    word.starts_with(char::is_lowercase)
        .then(|| word.to_owned())
}

/// All that each part uses of the others.
fn found(folder: &Path, part: Option<&str>, all: &mut BTreeMap<String, BTreeSet<String>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let part = part.unwrap_or(name);
        if name == "tests" || ROOT.contains(&part) || part == "layers" {
            continue;
        }
        if path.is_dir() {
            found(&path, Some(part), all);
            continue;
        }
        let mut names = used(&fs::read_to_string(&path).unwrap());
        names.remove(part);
        all.entry(part.to_owned()).or_default().extend(names);
    }
}

#[test]
fn each_part_uses_only_those_below_it() {
    let mut all = BTreeMap::new();
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    found(&src, None, &mut all);
    let names: Vec<&str> = LAYERS.iter().map(|(name, _)| *name).collect();
    for (place, (name, uses)) in LAYERS.iter().enumerate() {
        let uses: Vec<&str> = uses.split_whitespace().collect();
        for used in &uses {
            assert!(
                names[..place].contains(used),
                "{name} uses {used}, which is no lower"
            );
        }
        let found: Vec<String> = all.remove(*name).unwrap_or_default().into_iter().collect();
        assert_eq!(
            found, uses,
            "what {name} uses: change the list, if that is right"
        );
    }
    assert!(all.is_empty(), "not in the list: {all:?}");
}

#[test]
fn names_are_found_in_every_form_of_use() {
    let text = "use crate::one::Two;\nuse crate::{three, four::{five, six}, Seven};\nfn f() { crate::eight::f() }\n#[cfg(test)]\nmod tests {\nuse crate::nine;";
    let expected = ["eight", "four", "one", "three"];
    assert_eq!(used(text).into_iter().collect::<Vec<_>>(), expected);
}
