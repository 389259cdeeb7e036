//! Keys that protect something: misspelt or misplaced, they are a mistake and not a warning, since a collector without them would disclose
//! data, or ask or send more than it may.

use super::words::nearest;

/// A key that protects something.
#[derive(Clone, Copy)]
pub(super) struct Guard {
    pub(super) key: &'static str,
    /// What belongs above it.
    pub(super) place: &'static str,
    /// What is wrong without it.
    pub(super) without: &'static str,
}

const INPUT_OR_SERVICE: &str = "an input or one of its services";
const INPUT: &str = "an input";
const UNLIMITED: &str = "without which a limit is missing";
const ELSEWHERE: &str = "without which credentials would go to another address";

const GUARDS: [Guard; 13] = [
    Guard {
        key: "obfuscation_data",
        place: "each service whose records it is to mask",
        without: "without which records would go out unmasked",
    },
    Guard {
        key: "requests_per_second",
        place: INPUT_OR_SERVICE,
        without: UNLIMITED,
    },
    Guard {
        key: "requests_limits",
        place: INPUT_OR_SERVICE,
        without: UNLIMITED,
    },
    Guard {
        key: "number_of_requests",
        place: "an item of `requests_limits`",
        without: UNLIMITED,
    },
    Guard {
        key: "request_period_in_seconds",
        place: "a service",
        without: "without which it would ask more often",
    },
    Guard {
        key: "enabled",
        place: INPUT,
        without: "without which the input would run",
    },
    Guard {
        key: "base_url",
        place: INPUT,
        without: ELSEWHERE,
    },
    Guard {
        key: "authority_url",
        place: INPUT,
        without: ELSEWHERE,
    },
    Guard {
        key: "scope",
        place: INPUT,
        without: ELSEWHERE,
    },
    Guard {
        key: "outputs",
        place: INPUT,
        without: "without which records would go to other outputs than they are meant for",
    },
    Guard {
        key: "listen",
        place: "`globals.monitoring`",
        without: "without which the status page would be served at the default address",
    },
    Guard {
        key: "monitoring",
        place: "`globals`",
        without: "without which the status page would be served at the default address",
    },
    Guard {
        key: "receipt",
        place: "an output's `config`",
        without: "without which TCP's acknowledgement may count as a receipt",
    },
];

/// Words that say what a key is for, where its name is otherwise like none.
const STEMS: [(&str, &str); 9] = [
    ("obfuscat", "obfuscation_data"),
    ("mask", "obfuscation_data"),
    ("redact", "obfuscation_data"),
    ("sanitiz", "obfuscation_data"),
    ("sanitis", "obfuscation_data"),
    ("anonymi", "obfuscation_data"),
    ("pseudonym", "obfuscation_data"),
    ("limit", "requests_limits"),
    ("per_second", "requests_per_second"),
];

/// The guard that an unknown key is probably meant to be; `asked` are the keys that are known in its place.
pub(super) fn of(key: &str, asked: &[&'static str]) -> Option<Guard> {
    let guard = |name: &str| GUARDS.into_iter().find(|guard| guard.key == name);
    let lower = key.to_lowercase().replace('-', "_");
    if let Some(exact) = guard(&lower) {
        return Some(exact);
    }
    let names: Vec<_> = GUARDS
        .iter()
        .map(|guard| guard.key)
        .filter(|name| !asked.contains(name))
        .chain(asked.iter().copied())
        .collect();
    let stem = || STEMS.iter().find(|(stem, _)| lower.contains(stem));
    match nearest(&lower, &names) {
        Some(name) => guard(name),
        None => stem().and_then(|(_, name)| guard(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_may_be_meant_to_protect_is_known() {
        let check = |key: &str, asked: &[&'static str], expected: Option<&str>| {
            assert_eq!(of(key, asked).map(|guard| guard.key), expected, "{key}");
        };
        for key in [
            "obfuscation_data",
            "Obfuscation_Data",
            "obfuscation-data",
            "obfuscationdata",
            "obfuscation",
            "obfuscatedata",
            "masking",
            "fields_to_mask",
            "redacted_fields",
            "anonymise",
        ] {
            check(
                key,
                &["request_period_in_seconds", "start_time"],
                Some("obfuscation_data"),
            );
        }
        for key in ["request_limits", "requests_limit", "limits", "rate_limit"] {
            check(key, &["id", "requests_limits"], Some("requests_limits"));
        }
        check(
            "request_per_second",
            &["requests_per_second"],
            Some("requests_per_second"),
        );
        check("output", &["id", "outputs"], Some("outputs"));
        check("enable", &["enabled", "environment"], Some("enabled"));
        check("debgu", &["debug", "name"], None);
        check("start_tim", &["start_time"], None);
        check("adress", &["address", "port"], None);
        check("types", &["start_time", "aggregate_by"], None);
    }
}
