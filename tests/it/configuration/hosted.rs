//! The hosted form: the two files of a Devo Collector Server mean what config.yaml means, and mistakes name them as they are.

use testkit::collector::{Collector, Folder};
use testkit::pki::Pki;
use testkit::report::Report;

use super::*;
use crate::setting::{self, PATIENCE, Setting};

/// The job's parameters of the original's documentation, to the letter.
const DOCUMENTATION: &str = include_str!("documentation.json");

/// The answers to the placeholders that are called otherwise there.
const HOSTED_ANSWERS: [(&str, &str); 2] = [
    ("<requests_per_second>", "5"),
    ("<request_period_in_seconds>", "300"),
];

const COLLECTOR: &str = r#"{
  "job_id": "12345",
  "job_name": "exchange",
  "debug": true,
  "state_store": {"type": "filesystem", "config": {"dir": "state"}},
  "loggers": [
    {
      "type": "devo_platform",
      "config": {
        "url": "collector-eu.devo.io",
        "port": 443,
        "type": "SSL",
        "chain_loc": "chain.crt",
        "cert_loc": "example.crt",
        "key_loc": "/etc/devo/keys/example.key"
      }
    }
  ]
}"#;

fn job() -> String {
    HOSTED_ANSWERS
        .iter()
        .chain(&ANSWERS)
        .fold(DOCUMENTATION.to_owned(), |text, (placeholder, answer)| {
            text.replace(placeholder, answer)
        })
}

/// What becomes of the two files.
fn outcome(job: &str, collector: &str) -> Result<Loaded, String> {
    let outcome = outcome_of(job, collector);
    let said = outcome.as_ref().err();
    assert!(
        said.is_none_or(|said| !said.contains("hunter2")),
        "a secret is in the message: {said:?}"
    );
    outcome
}

fn outcome_of(job: &str, collector: &str) -> Result<Loaded, String> {
    let folder = tempfile::tempdir().unwrap();
    let source = Source::Hosted {
        job: folder.path().join("job_config.json"),
        collector: folder.path().join("collector_config.json"),
    };
    for (path, text) in source.files().iter().zip([job, collector]) {
        if !text.is_empty() {
            std::fs::write(path, text).unwrap();
        }
    }
    config::load(&source, now()).map_err(|mistakes| {
        let folder = format!("{}/", folder.path().display());
        mistakes.to_string().replace(&folder, "")
    })
}

fn loaded(job: &str, collector: &str) -> Loaded {
    outcome(job, collector).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

fn refused(job: &str, collector: &str) -> String {
    outcome(job, collector).unwrap_err()
}

fn replaced(text: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "the sample holds no {from:?}");
        text.replace(from, to)
    })
}

fn said(findings: &[config::Finding]) -> String {
    let lines: Vec<_> = findings
        .iter()
        .map(|finding| {
            let shown = finding.to_string();
            shown
                .rsplit_once('/')
                .map_or(shown.clone(), |(_, shown)| shown.to_owned())
        })
        .collect();
    lines.join("\n")
}

#[test]
fn the_documentations_parameters_are_understood_as_printed() {
    let Loaded {
        config,
        warnings,
        notes,
    } = loaded(&job(), COLLECTOR);
    assert_eq!((warnings, notes), (vec![], vec![]));
    assert_eq!(
        (config.globals.id.as_str(), config.globals.name.as_str()),
        ("12345", "exchange")
    );
    assert!(config.globals.debug);
    let [output] = config.outputs.as_slice() else {
        panic!("{:?}", config.outputs)
    };
    assert_eq!(output.name, "devo_platform_collector-eu_devo_io_443");
    let OutputKind::Relay(relay) = &output.kind else {
        panic!("{output:?}")
    };
    assert_eq!(
        (relay.address.as_str(), relay.port),
        ("collector-eu.devo.io", 443)
    );
    assert_eq!(relay.chain, Path::new("certs/chain.crt"));
    assert_eq!(relay.cert, Path::new("certs/example.crt"));
    assert_eq!(relay.key, Path::new("/etc/devo/keys/example.key"));
    let [input] = config.inputs.as_slice() else {
        panic!("{:?}", config.inputs)
    };
    assert_eq!(
        (input.name.as_str(), input.id.as_str()),
        ("office365_reporting_message", "007")
    );
    assert_eq!(input.requests_per_second.get(), 5);
    let Credentials::Basic { password, .. } = &input.credentials else {
        panic!("{input:?}")
    };
    assert_eq!(password.expose_secret(), "hunter2");
    let services: Vec<_> = input
        .services
        .iter()
        .map(|service| service.report)
        .collect();
    assert_eq!(services, REPORTS.iter().collect::<Vec<_>>());
    for service in &input.services {
        assert_eq!(service.period, Duration::from_mins(5));
        assert_eq!(
            service.reset_persistence_auth.as_deref(),
            Some("2024-05-07")
        );
    }
}

#[test]
fn placeholders_left_in_are_all_named_though_they_are_no_json() {
    let said = refused(DOCUMENTATION, COLLECTOR);
    assert_eq!(said.lines().count(), 10, "{said}");
    assert_snapshot!(said.lines().take(3).collect::<Vec<_>>().join("\n"), @r"
    job_config.json:4: `<input_status>` is a placeholder left in: put your own value in its place
    job_config.json:5: `<requests_per_second>` is a placeholder left in: put your own value in its place
    job_config.json:12: `<request_period_in_seconds>` is a placeholder left in: put your own value in its place
    ");
    let quoted = replaced(&job(), &[("\"007\"", "\"<input_id>\"")]);
    assert_snapshot!(refused(&quoted, COLLECTOR), @r"
    job_config.json:3: office365_reporting_message.id: `<input_id>` is a placeholder left in: put your own value in its place
    ");
}

#[test]
fn inputs_may_stand_beside_what_overrides_the_collectors_settings() {
    let wrapped = format!(
        r#"{{"global_overrides": {{"debug": false, "id": null, "queue_max_size_in_mb": 5}}, "inputs": {}}}"#,
        job()
    );
    let Loaded {
        config,
        warnings,
        notes,
    } = loaded(&wrapped, COLLECTOR);
    assert_eq!(warnings, []);
    assert!(!config.globals.debug);
    assert_eq!(config.globals.id, "12345");
    assert_eq!(config.inputs.len(), 1);
    assert_snapshot!(said(&notes), @r"
    job_config.json:1: global_overrides.queue_max_size_in_mb: a setting of the original that has no meaning here
    ");
}

#[test]
fn nothing_else_may_stand_beside_the_inputs() {
    let wrapped = format!(
        "{{\"outputs\": {{\"out\": {{\"type\": \"stdout\"}}}},\n\"globals\": {{\"id\": 1}},\n\"loggers\": [],\n\"debug\": true,\n\"inputs\": {}}}",
        job()
    );
    assert_snapshot!(refused(&wrapped, COLLECTOR), @r"
    job_config.json:1: outputs: is not allowed here, beside `inputs` and `global_overrides`: put the outputs into collector_config.json, under `loggers`
    job_config.json:2: globals: is not allowed here, beside `inputs` and `global_overrides`: put what it holds into collector_config.json, or under `global_overrides`
    job_config.json:3: loggers: is not allowed here, beside `inputs` and `global_overrides`: put the outputs into collector_config.json, under `loggers`
    job_config.json:4: debug: is not allowed here, beside `inputs` and `global_overrides`: put an input under `inputs`, and a setting of the collector into collector_config.json or under `global_overrides`
    ");
}

#[test]
fn loggers_may_be_a_map_and_keys_may_be_called_as_in_the_yaml() {
    let collector = replaced(
        COLLECTOR,
        &[
            (
                "[\n    {\n      \"type\": \"devo",
                "{\"devo_2\":\n    {\n      \"type\": \"devo",
            ),
            ("    }\n  ]", "    }\n, \"out\": {\"type\": \"stdout\"}}"),
            ("\"url\"", "\"location\""),
            ("chain_loc", "chain"),
            (
                "\"dir\": \"state\"",
                "\"directory_name\": \"/var/lib/collector\"",
            ),
        ],
    );
    let config = loaded(&job(), &collector).config;
    let names: Vec<_> = config
        .outputs
        .iter()
        .map(|output| output.name.as_str())
        .collect();
    assert_eq!(names, ["devo_2", "out"]);
    assert_eq!(
        config.globals.state,
        Persistence::Directory("/var/lib/collector".into())
    );
}

/// The names of outputs in a list, in its order.
fn names(loggers: &[&str]) -> Vec<String> {
    let head = COLLECTOR.split_once('[').unwrap().0;
    let collector = format!("{head}[{}]}}", loggers.join(", "));
    let outputs = loaded(&job(), &collector).config.outputs;
    outputs.into_iter().map(|output| output.name).collect()
}

#[test]
fn outputs_of_a_list_are_called_by_what_they_are_wherever_they_stand() {
    let relay = |url: &str, port: &str, cert: &str| {
        format!(
            r#"{{"type": "relay", "config": {{"url": "{url}", {port} "chain_loc": "a.crt", "cert_loc": "{cert}.crt", "key_loc": "a.key"}}}}"#
        )
    };
    let long = format!("{}.example.com", "relay".repeat(12));
    let loggers = [
        relay("Relay.example.com.", "", "a"),
        relay("relay_example.com", "", "a"),
        relay("relay.example.com", r#""port": "8443","#, "a"),
        relay("collector.example.com", "", "a"),
        relay("collector.example.com", r#""port": 443,"#, "b"),
        relay("[2001:db8::1]", "", "a"),
        relay(&long, "", "a"),
        relay(&long, "", "b"),
        r#"{"type": "sidecar", "config": {"address": "10.0.0.1", "port": 514}}"#.to_owned(),
        r#"{"type": "console"}"#.to_owned(),
    ];
    let loggers: Vec<_> = loggers.iter().map(String::as_str).collect();
    let called = names(&loggers);
    assert_snapshot!(called.join("\n"), @r"
    relay_relay_example_com_443
    relay_relay_example_com_443_3eb048c8
    relay_relay_example_com_8443
    relay_collector_example_com_443_a_crt
    relay_collector_example_com_443_b_crt
    relay_2001_db8__1_443_db0df1b2
    relay_relayrelayrelayrelayrelayrelayrelayrelayre_affbc0a1
    relay_relayrelayrelayrelayrelayrelayrelayrelayre_e85bba71
    sidecar_10_0_0_1_514
    console
    ");
    let reversed: Vec<_> = loggers.iter().rev().copied().collect();
    let again: Vec<_> = names(&reversed).into_iter().rev().collect();
    assert_eq!(again, called);
    assert_eq!(names(&loggers[8..9]), called[8..9]);
    // What is one and the same place twice is told apart by its order.
    let twice = [loggers[9], loggers[0], loggers[9], loggers[0]];
    assert_eq!(
        names(&twice)[..3],
        ["console", &names(&twice)[1], "console_2"]
    );
    assert_eq!(names(&twice)[3], format!("{}_2", names(&twice)[1]));
}

#[test]
fn mistakes_name_the_file_and_the_key_as_written() {
    let job = replaced(
        &job(),
        &[
            ("\"007\"", "\"a/b\""),
            ("\"enabled\": true", "\"enabled\": 7, \"enabeld\": true"),
        ],
    );
    let collector = replaced(
        COLLECTOR,
        &[
            ("  \"job_id\": \"12345\",\n", ""),
            ("\"exchange\"", "null"),
            ("\"filesystem\"", "\"redis\""),
            ("\"dir\"", "\"dri\""),
            (
                "\"url\": \"collector-eu.devo.io\"",
                "\"location\": \"https://x\"",
            ),
            ("chain_loc", "chan_loc"),
            ("\"key_loc\": ", "\"key\": \"other.key\", \"key_loc\": "),
            ("443", "70000"),
        ],
    );
    assert_snapshot!(refused(&job, &collector), @r"
    job_config.json:3: office365_reporting_message.id: `a/b` holds characters that are not allowed: use letters, digits, `-` and `_`
    job_config.json:4: office365_reporting_message.enabled: `7` is neither `true` nor `false`
    job_config.json:4: office365_reporting_message.enabeld: unknown key, without which the input would run: did you mean `enabled`?
    collector_config.json: job_id: missing: the collector's id, a number of up to 5 digits
    collector_config.json: loggers[0].config.chain_loc: missing: the file under certs/ with the authorities to trust, such as `chain.crt`
    collector_config.json:2: job_name: blank: the collector's name
    collector_config.json:4: state_store.type: `redis` is not supported: use `filesystem`, and mount a volume at the state folder
    collector_config.json:9: loggers[0].config.location: `https://x` is not a host name: give the name alone, without `https://` and path
    collector_config.json:10: loggers[0].config.port: `70000` is not allowed: give a whole number from 1 to 65535
    collector_config.json:14: loggers[0].config.key_loc: means the same as `loggers[0].config.key`: keep one of them
    collector_config.json:4: warning: state_store.config.dri: unknown key, not used: known here: `dir`
    collector_config.json:12: warning: loggers[0].config.chan_loc: unknown key, not used: did you mean `chain_loc`?
    ");
}

#[test]
fn what_is_missing_is_called_by_the_name_that_it_has_there() {
    assert_snapshot!(refused(r#"{"inputs": null}"#, "{}"), @r"
    job_config.json:1: inputs: no input: give at least one, with `id`, `credentials` and `services`
    collector_config.json: job_id: missing: the collector's id, a number of up to 5 digits
    collector_config.json: job_name: missing: the collector's name
    collector_config.json: loggers: no output: name a place where the records go, such as `devo_1` of type `devo_platform`
    ");
    assert_snapshot!(refused(r#"{"global_overrides": 5}"#, r#"{"loggers": {"a": {"type": "relay", "config": {"port": 1}}}}"#), @r"
    job_config.json: inputs: no input: give at least one, with `id`, `credentials` and `services`
    job_config.json:1: global_overrides: has to be a map of keys, as `globals` of config.yaml holds them
    collector_config.json: job_id: missing: the collector's id, a number of up to 5 digits
    collector_config.json: job_name: missing: the collector's name
    collector_config.json: loggers.a.config.url: missing: the relay's host name, such as `collector-eu.devo.io`
    collector_config.json: loggers.a.config.chain_loc: missing: the file under certs/ with the authorities to trust, such as `chain.crt`
    collector_config.json: loggers.a.config.cert_loc: missing: the file under certs/ with your certificate, such as `your_domain.crt`
    collector_config.json: loggers.a.config.key_loc: missing: the file under certs/ with your private key, such as `your_domain.key`
    ");
}

#[test]
fn files_that_are_not_json_or_not_there() {
    assert_snapshot!(refused("", COLLECTOR), @r"
    job_config.json: there is no such file: a hosted instance needs both job_config.json and collector_config.json; `--job_config_loc` and `--collector_config_loc` name other places for them
    ");
    assert_snapshot!(refused(" \n", "[1]"), @r"
    job_config.json: the file is empty
    collector_config.json:1: the file does not begin with a `{`: it has to hold `job_id`, `job_name` and `loggers`
    ");
    assert_snapshot!(refused(&replaced(&job(), &[("\"requests_per_second\": 5,", "\"requests_per_second\": 5")]), COLLECTOR), @r"
    job_config.json:6: not valid JSON here, or just above: check that each text stands in double quotes, that commas stand between the members of `{ }` and `[ ]` and none after the last, and that each bracket is closed
    ");
    assert_snapshot!(refused(&replaced(&job(), &[("\"id\": \"007\"", "\"id\": \"007\", \"id\": \"8\"")]), COLLECTOR), @r"
    job_config.json:3: office365_reporting_message.id: this key is given twice, first on line 3: keep one of them
    ");
    assert_snapshot!(refused(&replaced(&job(), &[("hunter2", "hunter2\\ud83d")]), COLLECTOR), @r"
    job_config.json:8: office365_reporting_message.credentials.password: a text here holds an escape that stands for no character: check what follows `\u`
    ");
    assert_snapshot!(refused(&"[".repeat(50_000), COLLECTOR), @r"
    job_config.json:1: not valid JSON here, or just above: check that each text stands in double quotes, that commas stand between the members of `{ }` and `[ ]` and none after the last, and that each bracket is closed
    ");
    assert_snapshot!(refused(&format!("{{\"a\":{}{}}}", "[".repeat(40), "]".repeat(40)), COLLECTOR), @r"
    job_config.json:1: a[0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0]: values are nested more than 32 deep: look for a bracket too many
    ");
}

#[test]
fn json_is_read_as_json() {
    for (written, expected) in [
        (r"\ud83d\ude00", "😀"),
        (r"a\/b\u00e4\t", "a/bä\t"),
        ("a: #b", "a: #b"),
        ("*a", "*a"),
        ("<b", "<b"),
    ] {
        let job = replaced(
            &job(),
            &[("hunter2", written), ("  ", "\t"), ("\n", "\r\n")],
        );
        let inputs = loaded(&job, &format!("\u{feff}{COLLECTOR}")).config.inputs;
        let Credentials::Basic { password, .. } = &inputs[0].credentials else {
            panic!("{inputs:?}")
        };
        assert_eq!(password.expose_secret(), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    /// Files with pieces lost, doubled or replaced by anything are loaded, or refused in words that name one of them.
    #[test]
    fn no_file_makes_loading_panic(
        edits in prop::collection::vec((0usize..2000, 0usize..40, any::<bool>(), "[-\\[\\]{}\",:0-9a-z\\\\u<>\\n\\t ]{0,8}|\\PC{0,4}"), 1..5)
    ) {
        let mut files = [job(), COLLECTOR.to_owned()];
        for (at, length, first, other) in edits {
            let file = &mut files[usize::from(first)];
            let begin = file.floor_char_boundary(at % (file.len() + 1));
            let end = file.floor_char_boundary((begin + length).min(file.len()));
            file.replace_range(begin..end, &other);
        }
        if let Err(mistakes) = outcome_of(&files[0], &files[1]) {
            prop_assert!(!mistakes.is_empty());
            prop_assert!(mistakes.lines().all(|line| line.starts_with("job_config.json:") || line.starts_with("collector_config.json:")), "{}", mistakes);
        }
    }
}

#[tokio::test]
async fn a_hosted_instance_collects_from_the_two_files() {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(40), setting.ago(39));
    setting.rows(Report::MessageTrace, from, to, 500);
    let access = setting.service.options().access;
    let job = serde_json::json!({
        "global_overrides": {"debug": true},
        "inputs": {"office365_reporting_message": {
            "id": "12345",
            "base_url": setting.service.base_url(),
            "authority_url": setting.service.authority_url(),
            "credentials": {
                "tenant_id": access.tenant,
                "client_id": access.app.client_id,
                "client_secret": access.app.secret,
            },
            "services": {Report::MessageTrace.service(): {"start_time": from, "request_period_in_seconds": 1}},
        }},
    });
    let collector = serde_json::json!({
        "job_id": "12345",
        "job_name": "hosted",
        "state_store": {"type": "filesystem", "config": {"dir": setting.folder.state()}},
        "loggers": [{"type": "devo_platform", "config": {
            "url": "localhost",
            "port": setting.relay.port(),
            "chain_loc": setting.folder.certs().join("chain.crt"),
            "cert_loc": "collector.crt",
            "key_loc": "collector.key",
        }}],
    });
    std::fs::write(setting.folder.path().join("job.json"), job.to_string()).unwrap();
    std::fs::write(
        setting.folder.path().join("collector.json"),
        collector.to_string(),
    )
    .unwrap();
    // What stands in config.yaml is not looked at.
    setting.folder.configure_raw("not: [valid").unwrap();
    let mut collector = started(
        &setting.folder,
        &[
            "--job_config_loc",
            "job.json",
            "--collector_config_loc",
            "collector.json",
        ],
    );
    setting
        .until_read(
            &setting.existing(Report::MessageTrace, from, to),
            &collector,
        )
        .await;
    setting.finish(&mut collector, from, to).await;
}

#[tokio::test]
async fn one_file_of_two_is_asked_for_by_name() {
    let folder = Folder::new(&Pki::new().unwrap()).unwrap();
    std::fs::write(folder.path().join("job.json"), job()).unwrap();
    let options = [
        "--job_config_loc",
        "job.json",
        "--collector_config_loc",
        "gone.json",
    ];
    let mut collector = started(&folder, &options);
    let ended = collector.wait(PATIENCE).await.unwrap();
    assert_eq!(ended.code, Some(78));
    let log = setting::log(&collector);
    assert!(
        log.contains("gone.json: there is no such file: a hosted instance needs both"),
        "{log}"
    );
}

fn started(folder: &Folder, options: &[&str]) -> Collector {
    Collector::start_with(setting::program(), folder, |command| {
        command.args(options);
    })
    .unwrap()
}
