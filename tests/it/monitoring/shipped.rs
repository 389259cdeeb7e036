//! The alerts and the dashboard that ship: `promtool` runs the alerts' own tests, and whatever they name is there.

use std::collections::HashSet;
use std::process::Command;

use exchange_reports_collector::monitoring::families::{FAMILIES, Kind};
use exchange_reports_collector::monitoring::state::State;
use serde_json::Value;

use crate::setting::skip;

const ALERTS: &str = include_str!("../../../config/monitoring/alerts.yaml");
const ALERTS_TEST: &str = include_str!("../../../config/monitoring/alerts_test.yaml");
const DASHBOARD: &str = include_str!("../../../config/monitoring/dashboard.json");

/// Whether `promtool` succeeds, and what it says; `None` where it is missing.
fn promtool(arguments: [&str; 3]) -> Option<(bool, String)> {
    let output = Command::new("promtool")
        .args(arguments)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/config/monitoring"))
        .output();
    let Ok(output) = output else {
        skip("the package prometheus is missing");
        return None;
    };
    let said = [output.stdout, output.stderr].concat();
    Some((
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    ))
}

/// The alerts' names, each with its rule.
pub(super) fn alerts() -> Vec<(&'static str, &'static str)> {
    let rules = ALERTS.split("- alert: ").skip(1);
    rules.filter_map(|rule| rule.split_once('\n')).collect()
}

/// The labels of a series that a Prometheus gets from a collector, by its name; `None` if there is none of that name.
fn labels(name: &str) -> Option<Vec<&'static str>> {
    let family = FAMILIES.iter().find(|family| match family.kind {
        Kind::Histogram => {
            let suffixes = ["_bucket", "_sum", "_count"];
            suffixes.iter().any(|suffix| family.name() + suffix == name)
        }
        Kind::Counter | Kind::Gauge => family.name() == name,
    })?;
    // Prometheus adds the first two; only buckets have the last.
    let added = ["job", "instance", "le"];
    Some(
        added
            .into_iter()
            .chain(family.labels.iter().copied())
            .collect(),
    )
}

/// Whether all that `text` names of the collector's metrics, their labels and its states is there.
fn check(text: &str) {
    for (at, _) in text.match_indices("exchange_collector_") {
        let text = &text[at..];
        let end = text.find(|symbol: char| !symbol.is_ascii_lowercase() && symbol != '_');
        let (name, rest) = text.split_at(end.unwrap_or(text.len()));
        let labels = labels(name).unwrap_or_else(|| panic!("no metric is named {name}"));
        let Some((selector, _)) = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'))
        else {
            continue;
        };
        for matcher in selector.split(", ") {
            let label = matcher.split(['=', '!']).next().unwrap();
            assert!(labels.contains(&label), "{name} has no label {label}");
            let values = matcher.split('"').nth(1).unwrap();
            for state in values.split('|').filter(|_| label == "state") {
                let known = State::ALL.iter().any(|one| one.name() == state);
                assert!(known, "no state is named {state}");
            }
        }
    }
}

#[test]
fn promtool_accepts_the_alerts_and_each_fires_by_its_cause_and_not_without() {
    for arguments in [
        ["check", "rules", "alerts.yaml"],
        ["test", "rules", "alerts_test.yaml"],
    ] {
        let Some((well, said)) = promtool(arguments) else {
            return;
        };
        assert!(well && said.contains("SUCCESS"), "{arguments:?}: {said}");
    }
}

/// What its tests list is all that fires, so one that fires without its cause fails them.
#[test]
fn each_alert_is_seen_to_fire_in_its_tests() {
    for (name, _) in alerts() {
        let fires = format!("ALERTS{{alertname=\"{name}\", alertstate=\"firing\"");
        assert!(ALERTS_TEST.contains(&fires), "{name}");
    }
}

#[test]
fn each_alert_says_how_bad_it_is_and_what_to_do() {
    let alerts = alerts();
    assert!(!alerts.is_empty());
    for (name, rule) in alerts {
        assert!(name.starts_with("ExchangeCollector"), "{name}");
        for line in [
            "\n        for: ",
            "\n          summary: ",
            "\n          action: ",
        ] {
            let said = rule.split_once(line).map(|(_, rest)| rest.lines().next());
            assert!(
                said.flatten().is_some_and(|said| !said.is_empty()),
                "{name}: {line}"
            );
        }
        let severe = |severity| rule.contains(&format!("\n          severity: {severity}\n"));
        assert!(severe("warning") || severe("critical"), "{name}");
    }
}

#[test]
fn the_alerts_name_only_metrics_and_states_that_exist() {
    check(ALERTS);
    check(ALERTS_TEST);
}

#[test]
fn each_panel_of_the_dashboard_has_a_title_and_asks_the_chosen_datasource_for_metrics_that_exist() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let names: Vec<&str> = variables
        .iter()
        .filter_map(|one| one["name"].as_str())
        .collect();
    assert_eq!(variables[0]["type"], "datasource");
    let chosen = format!("${{{}}}", names[0]);
    for variable in &variables[1..] {
        assert_eq!(variable["datasource"]["uid"], chosen);
        check(variable["query"]["query"].as_str().unwrap());
    }
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(!panels.is_empty());
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        assert!(!title.is_empty(), "{panel:#}");
        assert_eq!(panel["datasource"]["uid"], chosen, "{title}");
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{title}");
        for target in targets {
            let asked = target["expr"].as_str().unwrap();
            assert!(asked.contains("exchange_collector_"), "{title}: {asked}");
            assert_eq!(target["datasource"]["uid"], chosen, "{title}");
            check(asked);
            for (at, _) in asked.match_indices('$') {
                let known = names.iter().any(|name| asked[at + 1..].starts_with(name));
                assert!(
                    known || asked[at..].starts_with("$__rate_interval"),
                    "{title}: {asked}"
                );
            }
        }
    }
}

/// What two panels cover is seen in neither.
#[test]
fn no_two_panels_of_the_dashboard_overlap() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let mut covered = HashSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let side = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(side("x") + side("w") <= 24, "{panel:#}");
        for x in side("x")..side("x") + side("w") {
            for y in side("y")..side("y") + side("h") {
                assert!(covered.insert((x, y)), "{}", panel["title"]);
            }
        }
    }
}
