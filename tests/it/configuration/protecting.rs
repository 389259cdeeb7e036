//! Keys that protect something: what is masked, and how much is asked.

use std::num::NonZeroU32;

use super::*;

/// The sample with these lines in its message traces.
fn with_service(lines: &str) -> String {
    changed(&[(
        "      office365_reporting_MessageTrace_service:\n",
        &format!("      office365_reporting_MessageTrace_service:\n{lines}\n"),
    )])
}

fn refuse(text: &str) -> String {
    config::read(Path::new("config.yaml"), text, now())
        .map(|loaded| loaded.config)
        .unwrap_err()
        .to_string()
}

/// What becomes of a row under the message traces' mask.
fn masked(lines: &str, row: &str) -> String {
    let input = input(&with_service(lines));
    let service = input
        .services
        .iter()
        .find(|service| service.report.path == "MessageTrace")
        .unwrap();
    let mut out = Vec::new();
    service.mask.append(row.as_bytes(), &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn what_is_masked_and_with_what() {
    let row = r#"{"Subject":"s","Size":5,"FromIP":"i","ToIP":null,"MessageId":"m"}"#;
    let lines = r"
        obfuscation_data:
          - name: [Subject]
          - {name: ['Size'], value: 7}
          - {name: [FromIP], value: '7'}
          - name:
              - ToIP
            value: no
          - {name: [MessageId], value: ''}";
    assert_eq!(
        masked(lines, row),
        r#"{"Subject":"****SANITIZED****","Size":7,"FromIP":"7","ToIP":false,"MessageId":""}"#
    );
    let lines = r#"        obfuscation_data: [{"name": ["Subject"], "value": null}, {"name": ["Received", "*", "1"], "value": "<hidden>"}]"#;
    assert_eq!(
        masked(lines, r#"{"Received":[{"1":2}],"Subject":"s"}"#),
        r#"{"Received":[{"1":"<hidden>"}],"Subject":"****SANITIZED****"}"#
    );
    assert_eq!(masked("", row), row);
}

#[test]
fn what_cannot_be_masked_for_certain_is_refused() {
    let check = |value: &str| {
        let said = refuse(&with_service(&format!("        obfuscation_data: {value}")));
        let prefix = "inputs.office365_reporting_message.services.office365_reporting_MessageTrace_service.obfuscation_data";
        let lines: Vec<_> = said
            .lines()
            .map(|line| line.split_once(prefix).map_or(line, |(_, rest)| rest))
            .collect();
        lines.join("\n")
    };
    assert_snapshot!(check("{name: [Subject]}"), @r"
    : has to be a list: begin each of its items with `- ` on a line of its own
    ");
    assert_snapshot!(check("[Subject]"), @r"
    [0]: has to be a map of keys: indent the lines that belong to it, one `key: value` each
    ");
    assert_snapshot!(check("[{name: Subject}]"), @r"
    [0].name: has to be a list: begin each of its items with `- ` on a line of its own
    ");
    assert_snapshot!(check("[{name: []}]"), @r"
    [0].name: empty: give the path of keys to what is masked, as a list, such as `[SenderAddress]`
    ");
    assert_snapshot!(check("[{name: }]"), @r"
    [0].name: blank: the path of keys to what is masked, as a list, such as `[SenderAddress]`
    ");
    assert_snapshot!(check("[{name: [Subject, '']}]"), @r#"
    [0].name[1]: blank: a key, or `"*"` for every element of a list
    "#);
    assert_snapshot!(check("[{name: [[Subject]]}]"), @r"
    [0].name[0]: has to be a single value, not a list
    ");
    assert_snapshot!(check("[{name: [Recipients, 0]}]"), @r#"
    [0].name[1]: `0` is a number, and an element of a list cannot be named by its place: put `"*"` for every element, or quotes around a key that is a number
    [0].name[0]: `Recipients` is not among the columns that are documented for this report, and nothing is masked in a record without it: did you mean `RecipientAddress`?
    "#);
    assert_snapshot!(check("[{value: x}, null]"), @r"
    [0].name: missing: the path of keys to what is masked, as a list, such as `[SenderAddress]`
    [1]: blank: give `name`, the path of keys to what is masked, as a list, such as `[SenderAddress]`
    ");
    assert_snapshot!(check("[{name: [Subject], vale: x}]"), @r"
    [0].vale: unknown key: did you mean `value`?
    ");
    assert_snapshot!(check("[{name: [Subject], value: [x]}]"), @r"
    [0].value: has to be a single value, not a list
    ");
    assert_snapshot!(check("[{name: ['<field>']}]"), @r"
    [0].name[0]: `<field>` is a placeholder left in: put your own value in its place
    ");
}

#[test]
fn what_may_not_be_in_the_rows_is_said() {
    let said = |lines: &str| {
        let warnings = load(&with_service(lines)).warnings;
        let said: Vec<_> = warnings
            .iter()
            .map(|warning| format!("{}: {}", warning.line.unwrap(), warning.text))
            .collect();
        said.join("\n")
    };
    assert_snapshot!(said("        obfuscation_data:"), @r"
    47: blank: nothing is masked
    ");
    assert_snapshot!(said("        obfuscation_data: [{name: [Subjct]}, {name: [Subject]}]"), @r"
    47: `Subjct` is not among the columns that are documented for this report, and nothing is masked in a record without it: did you mean `Subject`?
    ");
    assert_snapshot!(said("        obfuscation_data: [{name: [Subject]}, {name: [Subject], value: x}]"), @r"
    47: this path is given twice: the last one holds
    ");
    assert_snapshot!(said("        obfuscation_data: [{name: [Subject, B]}, {name: [Subject]}]"), @r"
    47: of this path and another one, the shorter masks all that the longer names: remove the longer one
    ");
    assert_snapshot!(said("        obfuscation_data: [{name: [Foo, Subject]}]"), @r"
    47: `Foo` is not among the columns that are documented for this report, and nothing is masked in a record without it: documented are `Organization`, `MessageId`, `Received`, `SenderAddress`, `RecipientAddress`, `Subject`, `Status`, `ToIP`, `FromIP`, `Size`, `MessageTraceId`, `StartDate`, `EndDate` and `Index`
    ");
}

#[test]
fn a_key_that_protects_is_not_lost_by_a_slip() {
    let service = |line: &str| refuse(&with_service(&format!("        {line}")));
    assert_snapshot!(service("obfuscation: [{name: [Subject]}]"), @r"
    config.yaml:47: inputs.office365_reporting_message.services.office365_reporting_MessageTrace_service.obfuscation: unknown key, without which records would go out unmasked: did you mean `obfuscation_data`?
    ");
    assert_snapshot!(service("Obfuscation_Data: [{name: [Subject]}]"), @r"
    config.yaml:47: inputs.office365_reporting_message.services.office365_reporting_MessageTrace_service.Obfuscation_Data: unknown key, without which records would go out unmasked: did you mean `obfuscation_data`?
    ");
    assert_snapshot!(service("mask_fields: [Subject]"), @r"
    config.yaml:47: inputs.office365_reporting_message.services.office365_reporting_MessageTrace_service.mask_fields: unknown key, without which records would go out unmasked: did you mean `obfuscation_data`?
    ");
    assert_snapshot!(service("request_limits: []"), @r"
    config.yaml:47: inputs.office365_reporting_message.services.office365_reporting_MessageTrace_service.request_limits: unknown key, without which a limit is missing: did you mean `requests_limits`?
    ");
    let input = |line: &str| refuse(&changed(&[("    enabled: true", &format!("    {line}"))]));
    assert_snapshot!(input("enable: false"), @r"
    config.yaml:24: inputs.office365_reporting_message.enable: unknown key, without which the input would run: did you mean `enabled`?
    ");
    assert_snapshot!(input("obfuscation_data: [{name: [Subject]}]"), @r"
    config.yaml:24: inputs.office365_reporting_message.obfuscation_data: unknown key, without which records would go out unmasked: `obfuscation_data` belongs under each service whose records it is to mask
    ");
    assert_snapshot!(input("base-url: https://example.com/"), @r"
    config.yaml:24: inputs.office365_reporting_message.base-url: unknown key, without which credentials would go to another address: did you mean `base_url`?
    ");
    let globals = |line: &str| refuse(&changed(&[("debug: true", line)]));
    assert_snapshot!(globals("requests_limits: [{period: 1m, number_of_requests: 5}]"), @r"
    config.yaml:2: globals.requests_limits: unknown key, without which a limit is missing: `requests_limits` belongs under an input or one of its services
    ");
    assert_snapshot!(globals("monitor: {listen: off}"), @r"
    config.yaml:2: globals.monitor: unknown key, without which the status page would be served at the default address: did you mean `monitoring`?
    ");
}

#[test]
fn limits_as_the_original_writes_them() {
    let text = changed(&[
        (
            "requests_per_second: 5",
            "requests_per_second: -1\n    requests_limits: [{period: 2w, number_of_requests: -1}, {period: 1M, number_of_requests: 9}]",
        ),
        (
            "      office365_reporting_MessageTrace_service:\n",
            "      office365_reporting_MessageTrace_service:\n        requests_per_second: 2\n        requests_limits:\n          - {period: 1y, \
             number_of_requests: 7}\n          - {period: 1d, number_of_requests: '-1'}\n",
        ),
    ]);
    let input = input(&text);
    let limit = |days: u64, number| RequestsLimit {
        period: Duration::from_hours(days * 24),
        number_of_requests: NonZeroU32::new(number).unwrap(),
    };
    assert_eq!(input.requests_per_second.get(), 100_000);
    assert_eq!(input.requests_limits, [limit(31, 9)]);
    let limits: Vec<_> = input
        .services
        .iter()
        .map(|service| service.requests_limits.as_slice())
        .collect();
    let second = RequestsLimit {
        period: Duration::from_secs(1),
        number_of_requests: NonZeroU32::new(2).unwrap(),
    };
    assert_eq!(
        limits.iter().filter(|limits| limits.is_empty()).count(),
        limits.len() - 1
    );
    assert!(limits.contains(&[second, limit(366, 7)].as_slice()));
}
