//! What is said though nothing keeps the collector from running.

use super::*;

fn check(changes: &[(&str, &str)]) -> String {
    said(&load(&changed(changes)).warnings)
}

fn said(findings: &[config::Finding]) -> String {
    let lines: Vec<_> = findings.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

#[test]
fn unknown_keys_at_every_level() {
    assert_snapshot!(check(&[
        ("debug: true", "debgu: true"),
        ("directory_name:", "directory:"),
        ("port: 443", "prot: 443"),
        ("inputs:", "input: x\ninputs:"),
        (
            "office365_reporting_Dlp_service:\n",
            "office365_reporting_Dlp_service:\n        start_tim: 2024-05-07\n",
        ),
    ]), @r"
    config.yaml:2: globals.debgu: unknown key, not used: did you mean `debug`?
    config.yaml:8: globals.persistence.config.directory: unknown key, not used: did you mean `directory_name`?
    config.yaml:16: outputs.devo_1.config.prot: unknown key, not used: did you mean `port`?
    config.yaml:21: input: unknown key, not used: did you mean `inputs`?
    config.yaml:52: inputs.office365_reporting_message.services.office365_reporting_Dlp_service.start_tim: unknown key, not used: did you mean `start_time`?
    ");
}

#[test]
fn a_key_that_may_be_a_piece_of_a_secret() {
    assert_snapshot!(check(&[(
        "credentials:\n      username: reader@example.com\n      password: hunter2",
        "credentials: {username: reader@example.com, password: hunter2, hunter3, password:hunter4, usernam: x}",
    )]), @r"
    config.yaml:26: inputs.office365_reporting_message.credentials: an unknown key, not used (known here: `username`, `username_file`, `password`, `password_file`, `tenant_id`, `tenant_id_file`, `client_id`, `client_id_file`, `client_secret`, `client_secret_file`, `client_certificate` and `client_key`); if it is a piece of a secret, put the secret in single quotes
    config.yaml:26: inputs.office365_reporting_message.credentials.usernam: unknown key, not used: did you mean `username`?
    ");
}

#[test]
fn certificates_where_there_is_no_tls() {
    let text = with_output(
        "sidecar",
        "{address: 10.0.0.7, port: 601, type: TCP, chain: chain.crt, cert: , key: a.key}",
    );
    assert_snapshot!(said(&load(&text).warnings), @r"
    config.yaml:14: outputs.devo_1.config.chain: not used: this type of output is plain TCP, which everybody on the way can read; for mutual TLS use the type `relay`
    config.yaml:14: outputs.devo_1.config.key: not used: this type of output is plain TCP, which everybody on the way can read; for mutual TLS use the type `relay`
    ");
}

#[test]
fn longer_than_documented() {
    assert_snapshot!(check(&[("id: 12345", "id: 123456"), ("name: exchange", "name: exchange-reports"), ("id: 007", "id: 1234567"), ("chain: chain.crt", "chain: the-chain-of-example.com.crt")]), @r"
    config.yaml:3: globals.id: `123456` is longer than the 5 characters that the documentation allows; it is used as it is
    config.yaml:4: globals.name: `exchange-reports` is longer than the 10 characters that the documentation allows; it is used as it is
    config.yaml:18: outputs.devo_1.config.chain: `the-chain-of-example.com.crt` is not of the 4 to 20 characters that the documentation allows; it is used as it is
    config.yaml:23: inputs.office365_reporting_message.id: `1234567` is longer than the 5 characters that the documentation allows; it is used as it is
    ");
}

#[test]
fn characters_that_are_replaced() {
    assert_snapshot!(check(&[("name: exchange", "name: 'ex.change #1'"), ("office365_reporting_message:", "my message:")]), @r"
    config.yaml:4: globals.name: `ex.change #1` holds `.`, `#` or a space: it is known as `ex_change__1` in the state folder and in the log
    config.yaml:4: globals.name: `ex_change__1` is longer than the 10 characters that the documentation allows; it is used as it is
    config.yaml:22: inputs.my message: `my message` holds `.`, `#` or a space: it is known as `my_message` in the state folder and in the log
    ");
}

#[test]
fn an_address_that_is_not_devos() {
    assert_snapshot!(check(&[("collector-eu.devo.io", "relay.example.com")]), @r"
    config.yaml:15: outputs.devo_1.config.address: `relay.example.com` is none of Devo's addresses: collector-us.devo.io, collector-eu.devo.io, collector-ca.devo.io, collector-ap.devo.io
    ");
}

#[test]
fn a_user_that_is_no_address() {
    assert_snapshot!(check(&[("reader@example.com", "reader")]), @r"
    config.yaml:27: inputs.office365_reporting_message.credentials.username: `reader` is not of the form `username@domain.com`
    ");
}

#[test]
fn a_delay_that_loses_late_rows() {
    assert_snapshot!(check(&[("override_time_delay_in_seconds: 86400", "override_time_delay_in_seconds: 3600")]).lines().next().unwrap_or_default(), @r"
    config.yaml:33: inputs.office365_reporting_message.services.office365_reporting_MailTraffic_service.override_time_delay_in_seconds: `3600` is less than a day: rows that the reporting service brings out later than that are never collected
    ");
}

#[test]
fn a_reset_of_another_form() {
    assert_snapshot!(check(&[("reset_persistence_auth: 2024-05-07", "reset_persistence_auth: please")]).lines().next().unwrap_or_default(), @r"
    config.yaml:32: inputs.office365_reporting_message.services.office365_reporting_MailTraffic_service.reset_persistence_auth: `please` is not of the form YYYY-MM-DD; any value that differs from the last one clears the service's state
    ");
}

#[test]
fn clouds_that_do_not_belong_together() {
    assert_snapshot!(check(&[("enabled: true", "authority_url: https://login.microsoftonline.us")]), @r"
    config.yaml:24: inputs.office365_reporting_message.authority_url: signing in at `https://login.microsoftonline.us/` gives no access to the reporting service of another cloud: the `base_url` that belongs to it is `https://outlook.office365.us/ecp/reportingwebservice/reporting.svc/`, the `authority_url` that belongs to the service `https://login.microsoftonline.com/`
    ");
}

#[test]
fn an_input_that_is_not_enabled() {
    assert_snapshot!(check(&[("inputs:\n", "inputs:\n  spare:\n    id: <input_id>\n    enabled: no\n")]), @r"
    config.yaml:22: inputs.spare.credentials: missing: give either `username` and `password`, or `tenant_id`, `client_id` and `client_secret`, or `tenant_id`, `client_id`, `client_certificate` and `client_key` (no harm while the input is not enabled)
    config.yaml:22: inputs.spare.services: no service: name those to collect, each on a line of its own, such as `office365_reporting_MailTraffic_service:` (no harm while the input is not enabled)
    config.yaml:23: inputs.spare.id: `<input_id>` is a placeholder left in: put your own value in its place (no harm while the input is not enabled)
    ");
}

#[test]
fn settings_of_the_original_without_a_meaning_are_only_noted() {
    let text = changed(&[
        (
            "debug: true",
            "debug: true\n  queue_max_size_in_mb: 1024\n  queue_generate_metrics: true",
        ),
        ("type: filesystem", "type: json"),
    ]);
    let loaded = load(&text);
    assert_eq!(loaded.warnings, []);
    assert_snapshot!(said(&loaded.notes), @r"
    config.yaml:3: globals.queue_max_size_in_mb: a setting of the original that has no meaning here
    config.yaml:4: globals.queue_generate_metrics: a setting of the original that has no meaning here
    config.yaml:8: globals.persistence.type: `json` is treated as `filesystem`
    ");
}
