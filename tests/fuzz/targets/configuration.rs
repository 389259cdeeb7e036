//! Any text as a configuration: it can be run, or each mistake says where it is, on one line.
#![no_main]

use std::path::Path;

use chrono::{DateTime, Utc};
use exchange_reports_collector::config::{self, Config, Credentials, Finding, Loaded};
use libfuzzer_sys::{Corpus, fuzz_target};
use secrecy::ExposeSecret;

fuzz_target!(|text: &[u8]| -> Corpus {
    let Ok(text) = std::str::from_utf8(text) else {
        return Corpus::Reject;
    };
    let now: DateTime<Utc> = "2026-11-22T12:00:00Z".parse().expect("an instant");
    match config::read(Path::new("config.yaml"), text, now) {
        Ok(loaded) => {
            let told = loaded.warnings.iter().chain(&loaded.notes);
            told.for_each(|finding| check_finding(finding, text));
            check_names(&loaded.config);
            check_secrets(&loaded, text);
        }
        Err(mistakes) => {
            assert!(mistakes.iter().next().is_some(), "refused without a reason");
            for mistake in mistakes.iter() {
                check_finding(mistake, text);
                let empty = mistake.text.starts_with("the file is empty");
                assert!(
                    empty || mistake.line.is_some() || !mistake.key.is_empty(),
                    "{mistake}"
                );
            }
            assert!(mistakes.to_string().lines().count() >= mistakes.iter().count());
        }
    }
    Corpus::Keep
});

fn check_finding(finding: &Finding, text: &str) {
    let shown = finding.to_string();
    assert!(!shown.contains(char::is_control), "not one line: {shown:?}");
    assert!(!finding.text.is_empty());
    let lines = 1 + text.matches(['\n', '\r']).count();
    assert!(
        finding
            .line
            .is_none_or(|line| (1..=lines + 1).contains(&line)),
        "{shown}"
    );
}

/// What becomes a file's name can be one, and what is appended to ends in a slash.
fn check_names(config: &Config) {
    assert!(!config.outputs.is_empty() && !config.inputs.is_empty());
    let outputs = config.outputs.iter().map(|output| &output.name);
    let inputs = config
        .inputs
        .iter()
        .flat_map(|input| [&input.name, &input.id]);
    for name in outputs.chain(inputs) {
        let sound = !name.is_empty() && name.len() < 200 && !name.contains(['/', '\0', '\n']);
        assert!(sound && name != "." && name != "..", "{name:?}");
    }
    for input in &config.inputs {
        for url in [&input.base_url, &input.authority_url] {
            assert!(
                url.path().ends_with('/') && matches!(url.scheme(), "https" | "http"),
                "{url}"
            );
        }
        assert!(!input.services.is_empty());
    }
}

/// A secret that stands nowhere else in the file is not shown.
fn check_secrets(loaded: &Loaded, text: &str) {
    let shown = format!("{loaded:?}");
    for input in &loaded.config.inputs {
        let secret = match &input.credentials {
            Credentials::Basic { password, .. } => password.expose_secret(),
            Credentials::Secret { client_secret, .. } => client_secret.expose_secret(),
            Credentials::Certificate { .. } => continue,
        };
        if secret.len() >= 12 && text.matches(secret).count() == 1 {
            assert!(!shown.contains(secret), "a secret is shown");
        }
    }
}
