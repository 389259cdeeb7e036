//! Each kind of mistake, in the words that the operator reads.

use super::*;

/// What is said of the sample after some changes.
fn check(changes: &[(&str, &str)]) -> String {
    refuse(&changed(changes))
}

fn refuse(text: &str) -> String {
    let mistakes = config::read(Path::new("config.yaml"), text, now())
        .map(|loaded| loaded.config)
        .unwrap_err();
    let text = mistakes.to_string();
    assert!(
        !text.contains("hunter2"),
        "a secret is in the message: {text}"
    );
    text
}

/// What is said of a file with these bytes, less the folder it is in.
fn refuse_file(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yaml");
    std::fs::write(&path, bytes).unwrap();
    said_of(&path)
}

fn said_of(path: &Path) -> String {
    let folder = path.parent().unwrap().display().to_string();
    config::load(&Source::File(path.to_path_buf()), now())
        .unwrap_err()
        .to_string()
        .replace(&format!("{folder}/"), "")
}

#[test]
fn every_placeholder_left_in_is_named() {
    assert_snapshot!(refuse(DOCUMENTATION), @r"
    config.yaml:3: globals.id: `<collector_id>` is a placeholder left in: put your own value in its place
    config.yaml:4: globals.name: `<collector_name>` is a placeholder left in: put your own value in its place
    config.yaml:9: globals.multiprocessing: `<multiprocessing_mode>` is a placeholder left in: put your own value in its place, or leave it blank for the default
    config.yaml:15: outputs.devo_1.config.address: `<devo_address>` is a placeholder left in: put your own value in its place
    config.yaml:18: outputs.devo_1.config.chain: `<chain_filename>` is a placeholder left in: put your own value in its place
    config.yaml:19: outputs.devo_1.config.cert: `<cert_filename>` is a placeholder left in: put your own value in its place
    config.yaml:20: outputs.devo_1.config.key: `<key_filename>` is a placeholder left in: put your own value in its place
    config.yaml:23: inputs.office365_reporting_message.id: `<input_id>` is a placeholder left in: put your own value in its place
    config.yaml:24: inputs.office365_reporting_message.enabled: `<input_status>` is a placeholder left in: put your own value in its place, or leave it blank for the default
    config.yaml:25: inputs.office365_reporting_message.requests_per_second: `<request_per_seconds>` is a placeholder left in: put your own value in its place, or leave it blank for the default
    config.yaml:27: inputs.office365_reporting_message.credentials.username: `<creds_username>` is a placeholder left in: put your own value in its place
    config.yaml:28: inputs.office365_reporting_message.credentials.password: a placeholder is left in: put your own value in its place
    config.yaml:31: inputs.services.office365_reporting_MailTraffic_service.request_period_in_seconds: `<period_in_seconds>` is a placeholder left in: put your own value in its place, or leave it blank for the default
    config.yaml:32: inputs.services.office365_reporting_MailTraffic_service.reset_persistence_auth: `<reset_persistence_auth>` is a placeholder left in: put your own value in its place, or leave it blank for the default
    config.yaml:33: inputs.services.office365_reporting_MailTraffic_service.override_time_delay_in_seconds: `<delay_in_seconds>` is a placeholder left in: put your own value in its place, or leave it blank for the default
    config.yaml:35: inputs.services.office365_reporting_DlpDetail_service.request_period_in_seconds: `<period_in_seconds>` is a placeholder left in: put your own value in its place, or leave it blank for the default
    config.yaml:36: inputs.services.office365_reporting_DlpDetail_service.reset_persistence_auth: `<reset_persistence_auth>` is a placeholder left in: put your own value in its place, or leave it blank for the default
    config.yaml:37: inputs.services.office365_reporting_DlpDetail_service.override_time_delay_in_seconds: `<delay_in_seconds>` is a placeholder left in: put your own value in its place, or leave it blank for the default
    config.yaml:39: inputs.services.office365_reporting_SpoofMail_service.request_period_in_seconds: `<period_in_seconds>` is a placeholder left in: put your own value in its place, or leave it blank for the default
    config.yaml:40: inputs.services.office365_reporting_SpoofMail_service.reset_persistence_auth: `<reset_persistence_auth>` is a placeholder left in: put your own value in its place, or leave it blank for the default
    config.yaml:41: inputs.services.office365_reporting_SpoofMail_service.override_time_delay_in_seconds: `<delay_in_seconds>` is a placeholder left in: put your own value in its place, or leave it blank for the default
    config.yaml:43: inputs.services.office365_reporting_AdvancedThreatProtectionTraffic_service.request_period_in_seconds: `<period_in_seconds>` is a placeholder left in: put your own value in its place, or leave it blank for the default
    config.yaml:44: inputs.services.office365_reporting_AdvancedThreatProtectionTraffic_service.reset_persistence_auth: `<reset_persistence_auth>` is a placeholder left in: put your own value in its place, or leave it blank for the default
    config.yaml:45: inputs.services.office365_reporting_AdvancedThreatProtectionTraffic_service.override_time_delay_in_seconds: `<delay_in_seconds>` is a placeholder left in: put your own value in its place, or leave it blank for the default
    config.yaml:47: inputs.services.office365_reporting_MessageTrace_service.request_period_in_seconds: `<period_in_seconds>` is a placeholder left in: put your own value in its place, or leave it blank for the default
    config.yaml:48: inputs.services.office365_reporting_MessageTrace_service.reset_persistence_auth: `<reset_persistence_auth>` is a placeholder left in: put your own value in its place, or leave it blank for the default
    config.yaml:49: inputs.services.office365_reporting_MessageTrace_service.override_time_delay_in_seconds: `<delay_in_seconds>` is a placeholder left in: put your own value in its place, or leave it blank for the default
    config.yaml:51: inputs.services.office365_reporting_Dlp_service.request_period_in_seconds: `<period_in_seconds>` is a placeholder left in: put your own value in its place, or leave it blank for the default
    config.yaml:52: inputs.services.office365_reporting_Dlp_service.reset_persistence_auth: `<reset_persistence_auth>` is a placeholder left in: put your own value in its place, or leave it blank for the default
    config.yaml:53: inputs.services.office365_reporting_Dlp_service.override_time_delay_in_seconds: `<delay_in_seconds>` is a placeholder left in: put your own value in its place, or leave it blank for the default
    ");
}

#[test]
fn all_mistakes_are_found_in_one_run() {
    assert_snapshot!(check(&[
        ("id: 12345", "id: a/b"),
        ("port: 443", "port: 70000"),
        ("requests_per_second: 5", "requests_per_second: 0"),
        ("request_period_in_seconds: 300", "request_period_in_seconds: soon"),
    ]), @r"
    config.yaml:3: globals.id: `a/b` holds characters that are not allowed: use letters, digits, `-` and `_`
    config.yaml:16: outputs.devo_1.config.port: `70000` is not allowed: give a whole number from 1 to 65535
    config.yaml:25: inputs.office365_reporting_message.requests_per_second: `0` is not allowed: give a whole number of requests from 1 to 1000000000, or -1 for no limit
    config.yaml:31: inputs.office365_reporting_message.services.office365_reporting_MailTraffic_service.request_period_in_seconds: `soon` is not allowed: give a whole number of seconds from 1 to 4294967295
    config.yaml:35: inputs.office365_reporting_message.services.office365_reporting_DlpDetail_service.request_period_in_seconds: `soon` is not allowed: give a whole number of seconds from 1 to 4294967295
    config.yaml:39: inputs.office365_reporting_message.services.office365_reporting_SpoofMail_service.request_period_in_seconds: `soon` is not allowed: give a whole number of seconds from 1 to 4294967295
    config.yaml:43: inputs.office365_reporting_message.services.office365_reporting_AdvancedThreatProtectionTraffic_service.request_period_in_seconds: `soon` is not allowed: give a whole number of seconds from 1 to 4294967295
    config.yaml:47: inputs.office365_reporting_message.services.office365_reporting_MessageTrace_service.request_period_in_seconds: `soon` is not allowed: give a whole number of seconds from 1 to 4294967295
    config.yaml:51: inputs.office365_reporting_message.services.office365_reporting_Dlp_service.request_period_in_seconds: `soon` is not allowed: give a whole number of seconds from 1 to 4294967295
    ");
}

#[test]
fn a_number_outside_its_range() {
    assert_snapshot!(check(&[("port: 443", "port: 0")]), @r"
    config.yaml:16: outputs.devo_1.config.port: `0` is not allowed: give a whole number from 1 to 65535
    ");
}

#[test]
fn a_number_that_is_none() {
    assert_snapshot!(check(&[("requests_per_second: 5", "requests_per_second: 0.5")]), @r"
    config.yaml:25: inputs.office365_reporting_message.requests_per_second: `0.5` is not allowed: give a whole number of requests from 1 to 1000000000, or -1 for no limit
    ");
}

#[test]
fn a_number_with_a_leading_zero() {
    assert_snapshot!(check(&[("port: 443", "port: 0443")]), @r"
    config.yaml:16: outputs.devo_1.config.port: `0443` begins with a zero, which some take for octal: give a whole number from 1 to 65535
    ");
}

#[test]
fn a_delay_beyond_a_day_and_an_hour() {
    assert_snapshot!(check(&[(
        "office365_reporting_Dlp_service:\n        request_period_in_seconds: 300\n        reset_persistence_auth: 2024-05-07\n        override_time_delay_in_seconds: 86400",
        "office365_reporting_Dlp_service:\n        override_time_delay_in_seconds: 90001",
    )]), @r"
    config.yaml:51: inputs.office365_reporting_message.services.office365_reporting_Dlp_service.override_time_delay_in_seconds: `90001` is not allowed: give a whole number of seconds from 1 to 90000
    ");
}

#[test]
fn early_passes_that_cannot_be() {
    let said = |service: &str, passes: &str| {
        let dlp = "office365_reporting_Dlp_service:";
        let text = nested().replace(dlp, "office365_reporting_SafelinksDetail_service:");
        let service = format!("office365_reporting_{service}_service:");
        let with = format!("{service}\n        early_passes_in_seconds: {passes}");
        refuse(&text.replace(&service, &with))
    };
    for (service, passes, expected) in [
        (
            "MessageTrace",
            "[300, 300]",
            "[1]: `300` is not more than the one before it: give the shortest delay first, and each once",
        ),
        (
            "DlpDetail",
            "[300, 86400]",
            "[1]: `86400` is not below `override_time_delay_in_seconds`, which is 86400: give a shorter delay, or leave it out",
        ),
        (
            "MailTraffic",
            "[300]",
            ": this report cannot be had early, since its counts grow until the hour or the day is over, so what came early would be wrong: \
             remove it here",
        ),
        (
            "SafelinksDetail",
            "[300]",
            ": this report cannot be had early, since it is asked for by whole days, and a day that is not over would be read again and again: \
             remove it here",
        ),
        (
            "MessageTrace",
            "300",
            ": has to be a list: begin each of its items with `- ` on a line of its own",
        ),
        (
            "MessageTrace",
            "[soon]",
            "[0]: `soon` is not allowed: give a whole number of seconds from 1 to 89999",
        ),
    ] {
        let said = said(service, passes);
        let expected = format!("_{service}_service.early_passes_in_seconds{expected}");
        assert!(
            said.trim_end().ends_with(&expected) && said.lines().count() == 1,
            "{said}"
        );
    }
}

#[test]
fn a_truth_value_that_is_none() {
    assert_snapshot!(check(&[("enabled: true", "enabled: maybe")]), @r"
    config.yaml:24: inputs.office365_reporting_message.enabled: `maybe` is neither `true` nor `false`
    ");
}

#[test]
fn a_start_time_that_is_none() {
    assert_snapshot!(check(&[("enabled: true", "start_time: 7.5.2024")]), @r"
    config.yaml:24: inputs.office365_reporting_message.start_time: `7.5.2024` is not a time: write it as `2024-05-07T15:35:24.133642` (UTC; fraction and time of day may be left out)
    ");
}

#[test]
fn a_start_time_in_the_future() {
    assert_snapshot!(check(&[("enabled: true", "start_time: 2026-11-22T12:00:01")]), @r"
    config.yaml:24: inputs.office365_reporting_message.start_time: `2026-11-22T12:00:01` lies in the future: it is 2026-11-22T12:00:00Z now (UTC)
    ");
}

#[test]
fn a_name_that_no_file_can_have() {
    assert_snapshot!(check(&[("office365_reporting_message:", "../message:"), ("id: 007", "id: a\u{e4}")]), @r"
    config.yaml:22: inputs.../message: `../message` holds characters that are not allowed: use letters, digits, `-` and `_`
    config.yaml:23: inputs.../message.id: `aä` holds characters that are not allowed: use letters, digits, `-` and `_`
    ");
}

#[test]
fn a_name_without_end() {
    assert_snapshot!(check(&[("id: 007", &format!("id: {}", "7".repeat(90)))]), @r"
    config.yaml:23: inputs.office365_reporting_message.id: `77777777777777777777777777777777777777777777777777777777777777777777777777777777…` is too long: use at most 64 characters
    ");
}

#[test]
fn a_missing_key_with_a_misspelt_one_beside_it() {
    assert_snapshot!(check(&[("address:", "adress:")]), @r"
    config.yaml:14: outputs.devo_1.config.address: missing: the relay's host name, such as `collector-eu.devo.io`
    config.yaml:15: warning: outputs.devo_1.config.adress: unknown key, not used: did you mean `address`?
    ");
}

#[test]
fn a_missing_block() {
    assert_snapshot!(check(&[("globals:", "global:")]), @r"
    config.yaml: globals: missing: `id` and `name` of the collector go here
    config.yaml:1: warning: global: unknown key, not used: did you mean `globals`?
    ");
}

#[test]
fn a_value_where_a_block_is_needed() {
    assert_snapshot!(check(&[("persistence:\n    type: filesystem\n    config:\n      directory_name: state", "persistence: filesystem")]), @r"
    config.yaml:5: globals.persistence: has to be a map of keys: indent the lines that belong to it, one `key: value` each
    ");
}

#[test]
fn a_block_where_a_value_is_needed() {
    assert_snapshot!(check(&[("id: 12345", "id:\n    number: 12345"), ("port: 443", "port: [443]")]), @r"
    config.yaml:3: globals.id: has to be a single value, not a map of keys
    config.yaml:17: outputs.devo_1.config.port: has to be a single value, not a list
    ");
}

#[test]
fn an_unknown_service() {
    assert_snapshot!(check(&[("office365_reporting_MessageTrace_service", "office365_reporting_MesageTrace_service")]), @r"
    config.yaml:46: inputs.office365_reporting_message.services.office365_reporting_MesageTrace_service: there is no such service: did you mean `office365_reporting_MessageTrace_service`?
    ");
}

#[test]
fn a_service_nothing_like_ours() {
    assert_snapshot!(check(&[("office365_reporting_MessageTrace_service", "audit")]), @r"
    config.yaml:46: inputs.office365_reporting_message.services.audit: there is no such service: they are called office365_reporting_…_service, with one of MailTraffic, DlpDetail, SpoofMail, AdvancedThreatProtectionTraffic, MessageTrace, Dlp, MailDetailATP, SafelinksDetail for the dots
    ");
}

#[test]
fn no_service() {
    assert_snapshot!({ let text = nested(); refuse(text.split_once("      office365").unwrap().0) }, @r"
    config.yaml:29: inputs.office365_reporting_message.services: no service: name those to collect, each on a line of its own, such as `office365_reporting_MailTraffic_service:`
    ");
}

#[test]
fn no_output() {
    assert_snapshot!({
        let text = nested();
        let (before, rest) = text.split_once("  devo_1:").unwrap();
        refuse(&format!("{before}inputs:{}", rest.split_once("inputs:").unwrap().1))
    }, @r"
    config.yaml:11: outputs: no output: name a place where the records go, such as `devo_1` of type `devo_platform`
    ");
}

#[test]
fn no_input() {
    assert_snapshot!({ let text = nested(); refuse(text.split_once("inputs:").unwrap().0) }, @r"
    config.yaml: inputs: no input: give at least one, with `id`, `credentials` and `services`
    ");
}

#[test]
fn no_input_that_is_enabled() {
    assert_snapshot!(check(&[("enabled: true", "enabled: false")]), @r"
    config.yaml:21: inputs: no input is enabled: set `enabled: true` on one at least
    ");
}

#[test]
fn services_beside_several_inputs() {
    assert_snapshot!(refuse(&sample().replace("inputs:\n", "inputs:\n  other:\n    id: 2\n    credentials: {username: a@example.com, password: hunter2}\n")), @r"
    config.yaml:32: inputs.services: these services stand beside `other` and `office365_reporting_message`, and it is not clear whose they are: move them under the input that they belong to
    ");
}

#[test]
fn services_both_beside_and_under() {
    assert_snapshot!(refuse(&format!("{}  services:\n    office365_reporting_Dlp_service:\n", nested())), @r"
    config.yaml:54: inputs.services: these services stand beside the inputs, which all have services of their own: move them under one, or remove them
    ");
}

#[test]
fn two_inputs_of_one_name() {
    assert_snapshot!({
        let text = nested();
        let input = text.split_once("inputs:\n").unwrap().1.replace("office365_reporting_message:", "office365 reporting message:");
        refuse(&format!("{text}{input}"))
    }, @r"
    config.yaml:54: inputs.office365 reporting message: two enabled inputs are called `office365_reporting_message`: rename one of them
    config.yaml:54: warning: inputs.office365 reporting message: `office365 reporting message` holds `.`, `#` or a space: it is known as `office365_reporting_message` in the state folder and in the log
    ");
}

#[test]
fn gzip_settings_out_of_range() {
    let key = "devo_sender_threshold_for_using_gzip_in_transport_layer";
    for value in ["1.2", "-1.01", "often", "NaN"] {
        let said = check(&[("debug: true", &format!("debug: true\n  {key}: {value}"))]);
        assert_eq!(
            said,
            format!(
                "config.yaml:3: globals.{key}: `{value}` is not allowed: give a number from -1.0 (always) to 1.1 (never)"
            )
        );
    }
    assert_snapshot!(check(&[("debug: true", "debug: true\n  devo_sender_compression_level: 10\n  devo_sender_compression_buffer_in_bytes: 0")]), @r"
    config.yaml:3: globals.devo_sender_compression_level: `10` is not allowed: give a whole number from 0 to 9
    config.yaml:4: globals.devo_sender_compression_buffer_in_bytes: `0` is not allowed: give a whole number of bytes from 1 to 1073741824
    ");
}

#[test]
fn plain_tcp() {
    assert_snapshot!(check(&[("type: SSL", "type: TCP")]), @r"
    config.yaml:17: outputs.devo_1.config.type: `TCP` is not allowed: certificates are mandatory for this type of output, use `SSL`
    ");
}

#[test]
fn plain_syslog_without_its_port_or_with_tls() {
    assert_snapshot!(refuse(&with_output("syslog", "{address: 10.0.0.7}")), @r"
    config.yaml:14: outputs.devo_1.config.port: missing: the relay's TCP port, for which this type of output has no default
    ");
    assert_snapshot!(refuse(&with_output("syslog", "{address: 10.0.0.7, port: 514, type: SSL, receipt: never}")), @r"
    config.yaml:14: outputs.devo_1.config.type: `SSL` is not allowed: this type of output is plain TCP, use `TCP`; for mutual TLS use the type `relay`
    config.yaml:14: outputs.devo_1.config.receipt: `never` is not allowed: give `required`, `close_notify`, `ended` or `tcp`, or leave it blank
    ");
    assert_snapshot!(refuse(&with_output("syslog", "")), @r"
    config.yaml:14: outputs.devo_1.config: blank: `address` and `port` go here
    ");
}

#[test]
fn an_output_of_no_kind() {
    assert_snapshot!(check(&[("type: devo_platform", "type: kafka")]), @r"
    config.yaml:13: outputs.devo_1.type: `kafka` is not a type of output: use `devo_platform` or `relay` (mutual TLS), `syslog`, `in_house_relay` or `sidecar` (plain TCP), or `console`
    ");
}

#[test]
fn an_output_without_settings() {
    assert_snapshot!({ let text = nested(); let (before, rest) = text.split_once("    config:\n      address").unwrap(); refuse(&format!("{before}inputs:{}", rest.split_once("inputs:").unwrap().1)) }, @r"
    config.yaml:12: outputs.devo_1.config: missing: `address`, `chain`, `cert` and `key` go here
    ");
}

#[test]
fn an_address_with_scheme_or_port() {
    assert_snapshot!({ let url = check(&[("collector-eu.devo.io", "https://collector-eu.devo.io")]); let port = check(&[("collector-eu.devo.io", "collector-eu.devo.io:443")]); format!("{url}\n{port}") }, @r"
    config.yaml:15: outputs.devo_1.config.address: `https://collector-eu.devo.io` is not a host name: give the name alone, without `https://` and path
    config.yaml:15: outputs.devo_1.config.address: `collector-eu.devo.io:443` is not a host name: give the name alone, and the port in `port`
    ");
}

#[test]
fn a_receipt_of_no_kind() {
    assert_snapshot!(check(&[("port: 443", "receipt: never")]), @r"
    config.yaml:16: outputs.devo_1.config.receipt: `never` is not allowed: give `required`, `close_notify`, `ended` or `tcp`, or leave it blank
    ");
}

#[test]
fn a_persistence_of_no_kind() {
    assert_snapshot!({ let redis = check(&[("type: filesystem", "type: redis")]); let disk = check(&[("type: filesystem", "type: disk")]); format!("{redis}\n{disk}") }, @r"
    config.yaml:6: globals.persistence.type: `redis` is not supported: use `filesystem`, and mount a volume at the state folder
    config.yaml:6: globals.persistence.type: `disk` is not a type of persistence: use `filesystem` or `memory`
    ");
}

#[test]
fn credentials_that_are_missing() {
    assert_snapshot!(check(&[("    credentials:\n      username: reader@example.com\n      password: hunter2\n", "")]), @r"
    config.yaml:22: inputs.office365_reporting_message.credentials: missing: give either `username` and `password`, or `tenant_id`, `client_id` and `client_secret`, or `tenant_id`, `client_id`, `client_certificate` and `client_key`
    ");
}

#[test]
fn credentials_that_are_incomplete() {
    assert_snapshot!(check(&[("username: reader@example.com", "client_id: 1-2"), ("password:", "tenant_id:"), ("hunter2", "example.com")]), @r"
    config.yaml:26: inputs.office365_reporting_message.credentials: missing: `client_secret`, or `client_certificate` and `client_key`: give either `username` and `password`, or `tenant_id`, `client_id` and `client_secret`, or `tenant_id`, `client_id`, `client_certificate` and `client_key`
    ");
}

#[test]
fn credentials_that_are_mixed() {
    assert_snapshot!(check(&[("username: reader@example.com", "client_id: 1-2")]), @r"
    config.yaml:26: inputs.office365_reporting_message.credentials: `password` and `client_id` do not belong together: give either `username` and `password`, or `tenant_id`, `client_id` and `client_secret`, or `tenant_id`, `client_id`, `client_certificate` and `client_key`
    ");
}

#[test]
fn a_secret_that_yaml_takes_for_a_comment() {
    assert_snapshot!(check(&[("password: hunter2", "password: #hunter2")]), @r"
    config.yaml:26: inputs.office365_reporting_message.credentials: missing: `password` (`password` is blank: a value that begins with `#`, `&` or `!` has to stand in single quotes): give either `username` and `password`, or `tenant_id`, `client_id` and `client_secret`, or `tenant_id`, `client_id`, `client_certificate` and `client_key`
    ");
}

#[test]
fn a_secret_that_yaml_takes_for_a_tag() {
    assert_snapshot!(check(&[("password: hunter2", "password: !hunter2")]), @r"
    config.yaml:28: inputs.office365_reporting_message.credentials.password: a value begins with `!`, which YAML takes for a tag: put the value in single quotes
    ");
}

#[test]
fn a_secret_that_yaml_does_not_take() {
    assert_snapshot!(check(&[("password: hunter2", "password: @hunter2")]), @r"
    config.yaml:28: not valid YAML here, or just above (unexpected character): check the indentation, and put values that hold special characters such as `@ % & * ! # : { [` in single quotes
    ");
}

#[test]
fn a_secret_left_as_a_placeholder() {
    assert_snapshot!(check(&[("password: hunter2", "password: <creds_password>")]), @r"
    config.yaml:28: inputs.office365_reporting_message.credentials.password: a placeholder is left in: put your own value in its place
    ");
}

#[test]
fn a_tenant_that_would_change_the_url() {
    assert_snapshot!(check(&[("username: reader@example.com", "client_id: 1-2\n      tenant_id: ../other"), ("password:", "client_secret:")]), @r"
    config.yaml:28: inputs.office365_reporting_message.credentials.tenant_id: `../other` is neither an id such as `11111111-2222-3333-4444-555555555555` nor a domain name
    ");
}

#[test]
fn a_url_that_would_leak_credentials() {
    assert_snapshot!(check(&[("enabled: true", "base_url: http://reports.office365.com/\n    authority_url: https://me:hunter2@example.com/")]), @r"
    config.yaml:24: inputs.office365_reporting_message.base_url: `http://reports.office365.com/` is not allowed: it will carry credentials, so it has to begin with `https://` (`http://` is accepted for loopback addresses only)
    config.yaml:25: inputs.office365_reporting_message.authority_url: the URL holds a user name or a password: put those under `credentials`
    ");
}

#[test]
fn a_url_with_more_than_a_root() {
    assert_snapshot!(check(&[("enabled: true", "base_url: https://example.com/?a=b\n    authority_url: login")]), @r"
    config.yaml:24: inputs.office365_reporting_message.base_url: `https://example.com/?a=b` has a `?` or `#` part: give the root of the service alone
    config.yaml:25: inputs.office365_reporting_message.authority_url: `login` is not a URL (relative URL without a base): give one such as `https://reports.office365.com/ecp/reportingwebservice/reporting.svc/`
    ");
}

#[test]
fn a_budget_that_is_none() {
    assert_snapshot!(check(&[("enabled: true", "requests_limits:\n      - period: 5 weeks\n        number_of_requests: 0\n      - number_of_requests: 1\n      - 5m")]), @r"
    config.yaml:25: inputs.office365_reporting_message.requests_limits[0].period: `5 weeks` is not a period: give a number and one of s, m, h, d, w, M (31 days), y, such as `5m`, up to 10 years
    config.yaml:26: inputs.office365_reporting_message.requests_limits[0].number_of_requests: `0` is not allowed: give a whole number of requests from 1 to 1000000000, or -1 for no limit
    config.yaml:27: inputs.office365_reporting_message.requests_limits[1].period: missing: such as `5m`
    config.yaml:28: inputs.office365_reporting_message.requests_limits[2]: has to be a map of keys: indent the lines that belong to it, one `key: value` each
    ");
}

#[test]
fn buckets_where_there_are_none() {
    assert_snapshot!(check(&[("office365_reporting_Dlp_service:", "office365_reporting_Dlp_service:\n        aggregate_by: day"), ("office365_reporting_MailTraffic_service:", "office365_reporting_MailTraffic_service:\n        aggregate_by: week")]), @r"
    config.yaml:31: inputs.office365_reporting_message.services.office365_reporting_MailTraffic_service.aggregate_by: `week` is not allowed: give `hour` or `day`
    config.yaml:52: inputs.office365_reporting_message.services.office365_reporting_Dlp_service.aggregate_by: only the services MailTraffic and AdvancedThreatProtectionTraffic have it: remove it here
    ");
}

#[test]
fn a_key_given_twice() {
    assert_snapshot!(check(&[("port: 443", "port: 443\n      port: 514")]), @r"
    config.yaml:17: outputs.devo_1.config.port: this key is given twice, first on line 16: keep one of them
    ");
}

#[test]
fn a_tab() {
    assert_snapshot!(check(&[("      port: 443", "\t\tport: 443")]), @r"
    config.yaml:16: the line is indented with a tab, its character 1: YAML takes only spaces
    ");
}

#[test]
fn a_line_out_of_line() {
    assert_snapshot!(check(&[("      port: 443", "     port: 443")]), @r"
    config.yaml:16: not valid YAML here, or just above (while parsing a block mapping, did not find expected key): check the indentation, and put values that hold special characters such as `@ % & * ! # : { [` in single quotes
    ");
}

#[test]
fn a_colon_out_of_place() {
    assert_snapshot!(check(&[("id: 12345", "id: {number :[12345]}")]), @r"
    config.yaml:3: not valid YAML here, or just above: check the indentation, and put values that hold special characters such as `@ % & * ! # : { [` in single quotes
    ");
}

#[test]
fn a_second_document() {
    assert_snapshot!(refuse(&format!("{}---\n{}", nested(), nested())), @r"
    config.yaml:54: a second document begins here (`---`): put the whole configuration in one
    ");
}

#[test]
fn not_a_map() {
    assert_snapshot!(refuse("- globals\n- outputs\n"), @r"
    config.yaml:1: the file does not begin with a map of keys: it needs `globals`, `inputs` and `outputs`, as in the example config/config.yaml
    ");
}

#[test]
fn templates_left_in() {
    assert_snapshot!(check(&[("id: 12345", "id: {{ collector_id }}")]), @r"
    config.yaml:3: globals.id: a list or a map stands where a key is expected: a text with `{` or `[` in it needs single quotes
    ");
}

#[test]
fn an_alias_of_nothing() {
    assert_snapshot!(check(&[("id: 12345", "id: *number")]), @r"
    config.yaml:3: not valid YAML here, or just above (while parsing node, found unknown anchor): check the indentation, and put values that hold special characters such as `@ % & * ! # : { [` in single quotes
    ");
}

#[test]
fn a_merge_of_a_value() {
    assert_snapshot!(check(&[("id: 12345", "id: &number 12345\n  <<: *number")]), @r"
    config.yaml:4: globals.<<: only a map, or a list of maps, can be merged: name one by its anchor, as in `<<: *defaults`
    ");
}

#[test]
fn nesting_without_end() {
    assert_snapshot!(refuse(&format!("globals: {}", "[".repeat(100))), @r"
    config.yaml:1: globals[0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0]: values are nested more than 32 deep: look for a bracket too many
    ");
}

#[test]
fn an_empty_file() {
    assert_snapshot!(refuse_file(b"# nothing but a comment\n"), @r"
    config.yaml: the file is empty: it needs `globals`, `inputs` and `outputs`, as in the example config/config.yaml
    ");
}

#[test]
fn a_file_that_is_not_utf_8() {
    assert_snapshot!(refuse_file(b"globals:\n  name: caf\xe9\n"), @r"
    config.yaml:2: a character here is not UTF-8: save the file as UTF-8
    ");
}

#[test]
fn a_file_in_utf_16() {
    assert_snapshot!(refuse_file(b"\xff\xfeg\0l\0"), @r"
    config.yaml: the file is in UTF-16: save it as UTF-8
    ");
}

#[test]
fn a_file_too_large() {
    assert_snapshot!(refuse_file(&vec![b'#'; 2_000_000]), @r"
    config.yaml: the file is larger than 1 MiB: this is not a configuration
    ");
}

#[test]
fn no_file() {
    assert_snapshot!(said_of(Path::new("/nowhere/config.yaml")), @r"
    config.yaml: there is no such file: create it after the example config/config.yaml, or name another with `--config` or CONFIG_FILE (a relative name is looked up under config/)
    ");
}

#[test]
fn a_folder_in_its_place() {
    assert_snapshot!({ let folder = tempfile::tempdir().unwrap(); let path = folder.path().join("config.yaml"); std::fs::create_dir(&path).unwrap(); said_of(&path) }, @r"
    config.yaml: this is a folder, and a file is needed: docker creates one where a mounted file does not exist, so check the volume's left side
    ");
}

#[test]
fn merges_without_end() {
    let keys: Vec<_> = (0..1000).map(|key| format!("  k{key}: 1\n")).collect();
    let keys = keys.concat();
    let merges = "  - <<: *a\n".repeat(20);
    assert_snapshot!(refuse(&format!("a: &a\n{keys}b:\n{merges}")), @r"
    config.yaml:1013: b[10]: merge keys (`<<`) bring in too many values: write fewer of them
    ");
}
