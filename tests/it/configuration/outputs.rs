//! `outputs` of an input: a tenant's records go where the input says, and nowhere else.

use super::*;

const TWO: &str = "
globals: {id: 1, name: a}
outputs:
  first: {type: console}
  second.one: {type: console}
inputs:
  tenant:
    id: 2
    OUTPUTS
    credentials: {tenant_id: t, client_id: c, client_secret: s}
    services: {office365_reporting_Dlp_service: }
";

fn named(outputs: &str) -> Result<Vec<String>, String> {
    let text = TWO.replace("OUTPUTS", outputs);
    let loaded = config::read(Path::new("config.yaml"), &text, now());
    let loaded = loaded.map_err(|mistakes| mistakes.to_string())?;
    let outputs = loaded.config.inputs[0].outputs.iter();
    Ok(outputs.map(|output| output.name.clone()).collect())
}

#[test]
fn an_input_has_the_outputs_that_it_names_and_all_by_default() {
    let check = |outputs, expected: &[&str]| assert_eq!(named(outputs).unwrap(), expected);
    check("", &["first", "second_one"]);
    check("outputs: [first]", &["first"]);
    check("outputs: [second.one, first]", &["second_one", "first"]);
    check("outputs: [second_one]", &["second_one"]);
}

#[test]
fn outputs_that_say_nothing_certain_are_mistakes() {
    // What is said beside the mistake is about the second output.
    let check = |outputs| {
        { named(outputs).unwrap_err() }
            .lines()
            .next()
            .unwrap()
            .to_owned()
    };
    assert_snapshot!(check("outputs: []"), @"config.yaml:9: inputs.tenant.outputs: no output is named: name those that this input's records go to, or remove the key for the default");
    assert_snapshot!(check("outputs:"), @"config.yaml:9: inputs.tenant.outputs: no output is named: name those that this input's records go to, or remove the key for the default");
    assert_snapshot!(check("outputs: first"), @"config.yaml:9: inputs.tenant.outputs: has to be a list: begin each of its items with `- ` on a line of its own");
    assert_snapshot!(check("outputs: [third]"), @"config.yaml:9: inputs.tenant.outputs[0]: there is no output `third`: name one of `first` and `second_one`");
    assert_snapshot!(check("outputs: [first, first]"), @"config.yaml:9: inputs.tenant.outputs[1]: `first` is named twice: remove one");
    assert_snapshot!(check("outputs: [first, '']"), @"config.yaml:9: inputs.tenant.outputs[1]: blank: the name of an output");
    assert_snapshot!(check("output: [first]"), @"config.yaml:9: inputs.tenant.output: unknown key, without which records would go to other outputs than they are meant for: did you mean `outputs`?");
}

#[test]
fn an_output_with_a_mistake_is_not_said_to_be_missing() {
    let text = TWO
        .replace("second.one: {type: console}", "second: {type: kafka}")
        .replace("OUTPUTS", "outputs: [second]");
    let mistakes = config::read(Path::new("config.yaml"), &text, now()).unwrap_err();
    assert_eq!(mistakes.iter().count(), 1, "{mistakes}");
}

#[test]
fn a_dry_run_prints_each_inputs_first_output() {
    let text = TWO.replace("OUTPUTS", "outputs: [second.one]");
    let config = load(&text).config.dry();
    let outputs = &config.inputs[0].outputs;
    assert_eq!(outputs.len(), 1);
    assert_eq!(outputs[0].name, "second_one");
    assert!(matches!(outputs[0].kind, OutputKind::Printed(_)));
}
