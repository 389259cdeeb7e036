//! The configuration: what the documentation prints is understood, and what is wrong is said all at once.

#![expect(
    clippy::unwrap_used,
    reason = "a test whose own set-up fails has to panic"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use exchange_reports_collector::config::{
    self, Compression, Config, Credentials, Input, Loaded, OutputKind, Persistence, ReceiptPolicy,
    RequestsLimit, Source,
};
use exchange_reports_collector::report::AggregateBy;
use exchange_reports_collector::report::REPORTS;
use insta::assert_snapshot;
use proptest::prelude::*;
use secrecy::ExposeSecret;

mod credentials;
mod hosted;
mod mistakes;
mod outputs;
mod protecting;
mod warnings;

/// The sample of the original's documentation, to the letter.
const DOCUMENTATION: &str = include_str!("configuration/documentation.yaml");

/// What a user puts in place of the sample's placeholders.
const ANSWERS: [(&str, &str); 16] = [
    ("<collector_id>", "12345"),
    ("<collector_name>", "exchange"),
    ("<multiprocessing_mode>", "false"),
    ("<devo_address>", "collector-eu.devo.io"),
    ("<chain_filename>", "chain.crt"),
    ("<cert_filename>", "example.crt"),
    ("<key_filename>", "example.key"),
    ("<input_id>", "007"),
    ("<input_status>", "true"),
    ("<request_per_seconds>", "5"),
    ("<creds_username>", "reader@example.com"),
    ("<creds_password>", "hunter2"),
    ("<period_in_seconds>", "300"),
    ("<reset_persistence_auth>", "2024-05-07"),
    ("<delay_in_seconds>", "86400"),
    ("<your_domain>", "example"),
];

fn now() -> DateTime<Utc> {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

/// The sample, filled in.
fn sample() -> String {
    ANSWERS
        .iter()
        .fold(DOCUMENTATION.to_owned(), |text, (placeholder, answer)| {
            text.replace(placeholder, answer)
        })
}

/// The sample, filled in, with its services under the input.
fn nested() -> String {
    let sample = sample();
    let (before, services) = sample.split_once("  services:\n").unwrap();
    let services = services.trim_end().replace('\n', "\n  ");
    format!("{before}    services:\n  {services}\n")
}

/// [`nested`] with some of its text replaced.
fn changed(changes: &[(&str, &str)]) -> String {
    changes.iter().fold(nested(), |text, (from, to)| {
        assert!(text.contains(from), "the sample holds no {from:?}");
        text.replace(from, to)
    })
}

/// The sample with another output in the place of its own; `config` as YAML.
fn with_output(kind: &str, config: &str) -> String {
    let text = nested();
    let (before, rest) = text.split_once("    type: devo_platform").unwrap();
    let (_, after) = rest.split_once("inputs:").unwrap();
    format!("{before}    type: {kind}\n    config: {config}\ninputs:{after}")
}

fn load(text: &str) -> Loaded {
    config::read(Path::new("config.yaml"), text, now())
        .unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

fn input(text: &str) -> Input {
    let mut inputs = load(text).config.inputs;
    assert_eq!(inputs.len(), 1);
    std::sync::Arc::into_inner(inputs.remove(0)).unwrap()
}

#[test]
fn the_documentations_sample_is_understood_as_printed() {
    let Loaded {
        config,
        warnings,
        notes,
    } = load(&sample());
    assert_eq!(warnings, []);
    assert_eq!(notes, []);
    assert_is_the_sample(&config);
}

#[test]
fn services_under_the_input_mean_the_same_as_beside_it() {
    let Loaded {
        config, warnings, ..
    } = load(&nested());
    assert_eq!(warnings, []);
    assert_is_the_sample(&config);
}

fn assert_is_the_sample(config: &Config) {
    assert_eq!(config.globals.id, "12345");
    assert_eq!(config.globals.name, "exchange");
    assert!(config.globals.debug);
    assert!(!config.globals.multiprocessing);
    assert_eq!(config.globals.state, Persistence::Directory("state".into()));

    let [output] = config.outputs.as_slice() else {
        panic!("{:?}", config.outputs)
    };
    assert_eq!(output.name, "devo_1");
    let OutputKind::Relay(relay) = &output.kind else {
        panic!("{output:?}")
    };
    assert_eq!(
        (relay.address.as_str(), relay.port),
        ("collector-eu.devo.io", 443)
    );
    assert_eq!(relay.chain, Path::new("certs/chain.crt"));
    assert_eq!(relay.cert, Path::new("certs/example.crt"));
    assert_eq!(relay.key, Path::new("certs/example.key"));
    assert!(relay.verify_hostname);
    assert_eq!(relay.receipt, ReceiptPolicy::StandIn);

    let [input] = config.inputs.as_slice() else {
        panic!("{:?}", config.inputs)
    };
    assert_eq!(input.name, "office365_reporting_message");
    assert_eq!(input.id, "007");
    assert_eq!(input.requests_per_second.get(), 5);
    let Credentials::Basic { username, password } = &input.credentials else {
        panic!("{input:?}")
    };
    assert_eq!(
        (username.as_str(), password.expose_secret()),
        ("reader@example.com", "hunter2")
    );
    assert_eq!(
        input.base_url.as_str(),
        "https://reports.office365.com/ecp/reportingwebservice/reporting.svc/"
    );
    assert_eq!(
        input.authority_url.as_str(),
        "https://login.microsoftonline.com/"
    );
    assert_eq!(input.scope, "https://outlook.office365.com/.default");

    let services: Vec<_> = input
        .services
        .iter()
        .map(|service| service.report.service)
        .collect();
    assert_eq!(
        services,
        REPORTS[..6]
            .iter()
            .map(|report| report.service)
            .collect::<Vec<_>>()
    );
    for service in &input.services {
        assert_eq!(service.period, Duration::from_mins(5));
        assert_eq!(service.delay, Duration::from_hours(24));
        assert_eq!(
            service.reset_persistence_auth.as_deref(),
            Some("2024-05-07")
        );
        assert_eq!(service.start_time, None);
    }
}

#[test]
fn blank_removed_and_commented_parameters_mean_their_defaults() {
    let check = |text: &str| {
        let input = input(text);
        assert_eq!(input.requests_per_second.get(), 100_000);
        for service in &input.services {
            assert_eq!(service.period, Duration::from_mins(1));
            assert_eq!(service.delay, Duration::from_hours(25));
            assert_eq!(service.reset_persistence_auth, None);
        }
    };
    let optional = [
        "requests_per_second:",
        "request_period",
        "reset_pers",
        "override_time",
    ];
    let is_optional = |line: &str| {
        optional
            .iter()
            .any(|start| line.trim_start().starts_with(start))
    };
    let rewrite = |with: fn(&str) -> String| -> String {
        sample()
            .lines()
            .map(|line| {
                if is_optional(line) {
                    with(line)
                } else {
                    format!("{line}\n")
                }
            })
            .collect()
    };
    check(&rewrite(|line| {
        format!("{}:\n", line.split_once(':').unwrap().0)
    }));
    check(&rewrite(|line| {
        format!("{}: ''\n", line.split_once(':').unwrap().0)
    }));
    check(&rewrite(|line| {
        format!("{}: null\n", line.split_once(':').unwrap().0)
    }));
    check(&rewrite(|_| String::new()));
    check(&rewrite(|line| format!("#{line}\n")));
}

#[test]
fn the_shipped_example_is_complete_but_for_its_placeholders() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/config.yaml");
    let example = std::fs::read_to_string(&path).unwrap();
    let mistakes = config::load(&Source::File(path), now()).unwrap_err();
    let text = mistakes.to_string();
    assert_eq!(
        text.matches("is a placeholder left in").count() + 1,
        mistakes.iter().count(),
        "{text}"
    );

    let filled = ANSWERS
        .into_iter()
        .chain([
            ("<tenant_id>", "example.onmicrosoft.com"),
            ("<client_id>", "11111111-2222-3333-4444-555555555555"),
            ("<client_secret>", "Ab8~'' #"),
        ])
        .fold(example, |text, (placeholder, answer)| {
            text.replace(placeholder, answer)
        });
    let Loaded {
        config, warnings, ..
    } = load(&filled);
    assert_eq!(warnings, []);
    let [input] = config.inputs.as_slice() else {
        panic!("{:?}", config.inputs)
    };
    let Credentials::Secret { client_secret, .. } = &input.credentials else {
        panic!("{input:?}")
    };
    assert_eq!(client_secret.expose_secret(), "Ab8~' #");
    let services: Vec<_> = input
        .services
        .iter()
        .map(|service| service.report)
        .collect();
    assert_eq!(services, REPORTS.iter().collect::<Vec<_>>());
    for service in &input.services {
        let traffic = service.report.service.contains("Traffic");
        assert_eq!(service.aggregate_by, traffic.then_some(AggregateBy::Hour));
    }
}

#[test]
fn a_service_that_is_null_runs_on_defaults_and_one_that_is_absent_does_not() {
    let text = sample().split_once("  services:").unwrap().0.to_owned()
        + "  services:\n    office365_reporting_Dlp_service:\n    office365_reporting_MailTraffic_service: {aggregate_by: Day}\n";
    let services = input(&text).services;
    let [dlp, traffic] = services.as_slice() else {
        panic!("{services:?}")
    };
    assert_eq!(dlp.report.path, "DlpDetectionsReport");
    assert_eq!(dlp.period, Duration::from_mins(1));
    assert_eq!(dlp.aggregate_by, None);
    assert_eq!(traffic.aggregate_by, Some(AggregateBy::Day));
}

#[test]
fn values_are_read_as_yaml_1_1_users_write_them() {
    for (written, expected) in [
        ("YES", true),
        ("on", true),
        ("'True'", true),
        ("Off", false),
        ("no", false),
    ] {
        let text = changed(&[("debug: true", &format!("debug: {written}"))]);
        assert_eq!(load(&text).config.globals.debug, expected, "{written}");
    }
    let input = input(&changed(&[
        ("id: 007", "id: '42'"),
        ("requests_per_second: 5", "requests_per_second: \"1_000\""),
        (
            "reset_persistence_auth: 2024-05-07",
            "reset_persistence_auth: 20240507",
        ),
    ]));
    assert_eq!(input.id, "42");
    assert_eq!(input.requests_per_second.get(), 1000);
    assert_eq!(
        input.services[0].reset_persistence_auth.as_deref(),
        Some("20240507")
    );
}

#[test]
fn a_secret_keeps_the_text_that_was_written() {
    for (written, expected) in [
        ("1e5", "1e5"),
        ("0123", "0123"),
        ("yes", "yes"),
        ("1999-12-31", "1999-12-31"),
        ("a<b>c", "a<b>c"),
        ("'#&*!'", "#&*!"),
        ("\"\\u00e4 \"", "ä "),
        ("|\n        from a block", "from a block"),
    ] {
        let input = input(&changed(&[(
            "password: hunter2",
            &format!("password: {written}"),
        )]));
        let Credentials::Basic { password, .. } = &input.credentials else {
            panic!("{input:?}")
        };
        assert_eq!(password.expose_secret(), expected);
        assert!(
            !format!("{input:?}").contains(expected),
            "{expected} is in Debug's output"
        );
    }
}

#[test]
fn state_may_be_kept_in_memory() {
    let memory = changed(&[("type: filesystem", "type: Memory")]);
    let beside = "state".into();
    assert_eq!(
        load(&memory).config.globals.state,
        Persistence::Memory { beside }
    );
}

#[test]
fn anchors_and_merge_keys_share_settings() {
    let text = sample().split_once("  services:").unwrap().0.to_owned()
        + "  services:
    office365_reporting_Dlp_service: &slow
      request_period_in_seconds: 600
      override_time_delay_in_seconds: 90000
    office365_reporting_DlpDetail_service: *slow
    office365_reporting_SpoofMail_service:
      request_period_in_seconds: 900
      <<: [*slow]
";
    let periods: Vec<_> = input(&text)
        .services
        .iter()
        .map(|service| service.period.as_secs())
        .collect();
    assert_eq!(periods, [600, 600, 900]);
}

#[test]
fn start_time_of_a_service_wins_over_that_of_its_input_and_may_be_old() {
    let text = changed(&[
        (
            "    enabled: true",
            "    enabled: true\n    start_time: 2001-01-01",
        ),
        (
            "office365_reporting_MessageTrace_service:",
            "office365_reporting_MessageTrace_service:\n        start_time: 2024-05-07T15:35:24.133642",
        ),
    ]);
    let starts: Vec<_> = input(&text)
        .services
        .iter()
        .map(|service| service.start_time.unwrap().to_rfc3339())
        .collect();
    assert_eq!(starts[3], "2001-01-01T00:00:00+00:00");
    assert_eq!(starts[4], "2024-05-07T15:35:24.133642+00:00");
}

#[test]
fn what_is_ours_can_be_set() {
    let input = input(&changed(&[(
        "    enabled: true",
        "    enabled: true
    environment: Prod \"1\"
    base_url: http://127.0.0.1:8080/reporting.svc
    authority_url: http://[::1]:8081
    ca_bundle: certs/proxy.pem
    requests_limits:
      - period: 5m
        number_of_requests: 100
      - {period: 1d, number_of_requests: '5000'}",
    )]));
    assert_eq!(input.environment.as_deref(), Some("Prod \"1\""));
    assert_eq!(
        input.base_url.as_str(),
        "http://127.0.0.1:8080/reporting.svc/"
    );
    assert_eq!(input.authority_url.as_str(), "http://[::1]:8081/");
    assert_eq!(input.ca_bundle, Some(PathBuf::from("certs/proxy.pem")));
    let limit = |seconds, number: u32| RequestsLimit {
        period: Duration::from_secs(seconds),
        number_of_requests: number.try_into().unwrap(),
    };
    assert_eq!(
        input.requests_limits,
        [limit(300, 100), limit(86_400, 5_000)]
    );

    let config = load(&changed(&[
        ("port: 443", "receipt: required\n      verify_hostname: no"),
        ("type: SSL", "type: tls"),
        ("chain: chain.crt", "chain: /etc/ssl/chain.crt"),
        (
            "directory_name: state",
            "directory_name: /var/lib/collector",
        ),
    ]))
    .config;
    assert_eq!(
        config.globals.state,
        Persistence::Directory("/var/lib/collector".into())
    );
    let OutputKind::Relay(relay) = &config.outputs[0].kind else {
        panic!("{:?}", config.outputs)
    };
    assert_eq!(relay.port, 443);
    assert_eq!(relay.receipt, ReceiptPolicy::Required);
    assert!(!relay.verify_hostname);
    assert_eq!(relay.chain, Path::new("/etc/ssl/chain.crt"));
}

#[test]
fn all_three_ways_of_signing_in_are_understood() {
    let basic = "username: reader@example.com\n      password: hunter2";
    let certificate = input(&changed(&[(
        basic,
        "tenant_id: example.com\n      client_id: 1-2\n      client_certificate: app.crt\n      client_key: app.key",
    )]));
    let Credentials::Certificate {
        client_certificate,
        client_key,
        ..
    } = &certificate.credentials
    else {
        panic!("{certificate:?}")
    };
    assert_eq!(client_certificate, Path::new("credentials/app.crt"));
    assert_eq!(client_key, Path::new("credentials/app.key"));

    let secret = input(&changed(&[(
        basic,
        "tenant_id: example.com\n      client_id: 1-2\n      client_secret: s",
    )]));
    let Credentials::Secret {
        tenant_id,
        client_id,
        ..
    } = &secret.credentials
    else {
        panic!("{secret:?}")
    };
    assert_eq!(
        (tenant_id.as_str(), client_id.as_str()),
        ("example.com", "1-2")
    );
}

#[test]
fn signing_in_follows_the_reporting_services_cloud() {
    for (base, authority, scope) in [
        (
            "outlook.office365.us",
            "https://login.microsoftonline.us/",
            "https://outlook.office365.us/.default",
        ),
        (
            "partner.outlook.cn",
            "https://login.chinacloudapi.cn/",
            "https://partner.outlook.cn/.default",
        ),
    ] {
        let base = format!(
            "    enabled: true\n    base_url: https://{base}/ecp/reportingwebservice/reporting.svc"
        );
        let input = input(&changed(&[("    enabled: true", &base)]));
        assert_eq!(input.authority_url.as_str(), authority);
        assert_eq!(input.scope, scope);
    }
}

#[test]
fn an_input_that_is_not_enabled_is_left_out_whatever_it_holds() {
    let second = "inputs:\n  spare:\n    id: 2\n    enabled: no\n    credentials:\n";
    let Loaded {
        config, warnings, ..
    } = load(&changed(&[("inputs:\n", second)]));
    assert_eq!(config.inputs.len(), 1);
    assert_eq!(config.inputs[0].name, "office365_reporting_message");
    assert!(
        warnings
            .iter()
            .all(|warning| warning.key.starts_with("inputs.spare")),
        "{warnings:?}"
    );
}

#[test]
fn a_console_needs_no_settings_and_a_byte_order_mark_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yaml");
    let (before, rest) = nested()
        .split_once("  devo_1:")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    let inputs = rest.split_once("inputs:").unwrap().1;
    std::fs::write(
        &path,
        format!("\u{FEFF}{before}  out: {{type: stdout}}\ninputs:{inputs}").replace('\n', "\r\n"),
    )
    .unwrap();
    let config = config::load(&Source::File(path), now()).unwrap().config;
    assert!(matches!(config.outputs[0].kind, OutputKind::Console));
}

#[test]
fn gzip_is_asked_for_in_globals_and_goes_to_relays_with_tls() {
    let never = load(&sample()).config;
    assert_eq!(never.globals.compression, Compression::NEVER);
    assert!(!Compression::NEVER.applies(7.0));
    let text = changed(&[(
        "debug: true",
        "debug: true\n  devo_sender_threshold_for_using_gzip_in_transport_layer: 0.5\n  devo_sender_compression_level: 9\n  devo_sender_compression_buffer_in_bytes: 102400",
    )]);
    let Loaded { config, notes, .. } = load(&text);
    assert_eq!(notes, []);
    let compression = Compression {
        threshold: 0.5,
        level: 9,
        member_bytes: 102_400,
    };
    let OutputKind::Relay(relay) = &config.outputs[0].kind else {
        panic!("{:?}", config.outputs)
    };
    assert_eq!(relay.compression, compression);
    assert!(!compression.applies(0.49) && compression.applies(0.5) && compression.applies(2.0));
    let full_only = Compression {
        threshold: 1.0,
        ..compression
    };
    assert!(!full_only.applies(0.99) && full_only.applies(1.5));
}

#[test]
fn every_type_of_plain_tcp_takes_an_address_and_a_port() {
    for kind in ["syslog", "in_house_relay", "sidecar", "Sidecar"] {
        let text = with_output(kind, "{address: relay.example.com, port: 514, type: tcp}");
        let Loaded {
            config, warnings, ..
        } = load(&text);
        assert_eq!(warnings, []);
        let OutputKind::Syslog(relay) = &config.outputs[0].kind else {
            panic!("{:?}", config.outputs)
        };
        assert_eq!(
            (relay.address.as_str(), relay.port),
            ("relay.example.com", 514)
        );
        assert_eq!(relay.receipt, ReceiptPolicy::StandIn);
        assert!(config.files().is_empty());
    }
    let text = with_output("syslog", "{address: '[::1]', port: 514, receipt: required}");
    let config = load(&text).config;
    assert_eq!(config.outputs[0].kind.receipt(), ReceiptPolicy::Required);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    /// A sample with lines lost, doubled, shifted or replaced by anything is loaded or refused in words.
    #[test]
    fn no_file_makes_loading_panic(
        edits in prop::collection::vec((0usize..64, 0u8..4, any::<String>(), "[-:&*!<>{}\\[\\]#'\" a\t|?,%@~0-9]{0,12}"), 1..6)
    ) {
        let mut lines: Vec<String> = nested().lines().map(str::to_owned).collect();
        for (line, edit, any, yaml) in edits {
            let line = line % lines.len();
            match edit {
                0 => drop(lines.remove(line)),
                1 => lines.insert(line, lines[line].clone()),
                2 => lines[line].insert_str(0, &yaml),
                _ => {
                    let key = lines[line].split(':').next().unwrap_or_default().to_owned();
                    lines[line] = format!("{key}: {yaml}{any}");
                }
            }
        }
        if let Err(mistakes) = config::read(Path::new("config.yaml"), &lines.join("\n"), now()) {
            let text = mistakes.to_string();
            prop_assert!(mistakes.iter().count() > 0);
            prop_assert!(text.lines().all(|line| line.starts_with("config.yaml:")), "{}", text);
        }
    }

    /// Nor does a file of any other text.
    #[test]
    fn no_text_makes_loading_panic(text in "([ \\n-]|[a-c]: |- |[&*]a |<<: |[{}\\[\\],'\"|>#?%!~]|\\PC){0,60}") {
        prop_assert!(config::read(Path::new("config.yaml"), &text, now()).is_err());
    }
}
