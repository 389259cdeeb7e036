//! Credentials that are kept in files and in variables, and what can be wrong with those.

use testkit::collector::Collector;
use testkit::report::Report;

use super::*;
use crate::setting::{self, PATIENCE, Setting};

const BASIC: &str = "username: reader@example.com\n      password: hunter2";

/// The sample with these credentials.
fn with(credentials: &str) -> String {
    changed(&[(BASIC, credentials)])
}

/// What is said of credentials whose file holds `bytes`, less the folder it is in.
fn refused(credentials: &str, bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, bytes).unwrap();
    let text = with(&credentials.replace("FILE", &path.display().to_string()));
    let mistakes = config::read(Path::new("config.yaml"), &text, now())
        .map(|loaded| loaded.config)
        .unwrap_err()
        .to_string();
    assert!(
        !mistakes.contains("hunter"),
        "a secret is in the message: {mistakes}"
    );
    mistakes.replace(&format!("{}/", folder.path().display()), "")
}

#[test]
fn a_file_holds_a_credential_with_or_without_a_line_end() {
    for (bytes, expected) in [
        ("hunter2", "hunter2"),
        ("hunter2\n", "hunter2"),
        ("\u{feff}hunter2\r\n", "hunter2"),
        (" #1: ${HOME}\t", " #1: ${HOME}\t"),
    ] {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let path = file.path().display();
        let input = input(&with(&format!(
            "username: a@b.com\n      password_file: {path}"
        )));
        let Credentials::Basic { password, .. } = &input.credentials else {
            panic!("{input:?}")
        };
        assert_eq!(password.expose_secret(), expected);
    }
}

#[test]
fn every_credential_may_be_kept_elsewhere() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "example.com\n").unwrap();
    let path = file.path().display();
    let input = input(&with(&format!(
        "tenant_id_file: {path}\n      client_id: ${{CARGO_PKG_NAME}}\n      client_secret_file: {path}"
    )));
    let Credentials::Secret {
        tenant_id,
        client_id,
        client_secret,
    } = &input.credentials
    else {
        panic!("{input:?}")
    };
    assert_eq!(tenant_id, "example.com");
    assert_eq!(client_id, "exchange-reports-collector");
    assert_eq!(client_secret.expose_secret(), "example.com");
}

#[test]
fn a_file_that_is_missing_or_not_one_value() {
    let secret = "tenant_id: a.com\n      client_id: 1-2\n      client_secret_file: ";
    assert_snapshot!(refused(&format!("{secret}gone.txt"), b""), @r"
    config.yaml:29: inputs.office365_reporting_message.credentials.client_secret_file: there is no file `credentials/gone.txt`: a relative name is looked up under credentials/ (in a container, that folder has to be mounted)
    ");
    assert_snapshot!(refused(&format!("{secret}/dev"), b""), @r"
    config.yaml:29: inputs.office365_reporting_message.credentials.client_secret_file: `/dev` is a folder: put the file in its place (Docker makes a folder where a file that is mounted is missing on the host)
    ");
    assert_snapshot!(refused(&format!("{secret}FILE"), b"\r\n"), @r"
    config.yaml:29: inputs.office365_reporting_message.credentials.client_secret_file: it is empty: put the value into it
    ");
    assert_snapshot!(refused(&format!("{secret}FILE"), b"hunter2\nhunter3\n"), @r"
    config.yaml:29: inputs.office365_reporting_message.credentials.client_secret_file: it holds more than one line: put nothing but the value into it
    ");
    assert_snapshot!(refused(&format!("{secret}FILE"), b"hunter\xff"), @r"
    config.yaml:29: inputs.office365_reporting_message.credentials.client_secret_file: `secret` is not UTF-8: save it as UTF-8
    ");
    assert_snapshot!(refused(&format!("{secret}FILE"), &vec![b'h'; 100_000]), @r"
    config.yaml:29: inputs.office365_reporting_message.credentials.client_secret_file: `secret` is larger than 64 KiB: this is not a credential
    ");
    assert_snapshot!(refused(&format!("{secret}FILE"), b"<client_secret>"), @r"
    config.yaml:29: inputs.office365_reporting_message.credentials.client_secret_file: a placeholder is left in: put your own value in its place
    ");
    assert_snapshot!(refused(&format!("{secret}FILE\n      client_secret: hunter2"), b"hunter3"), @r"
    config.yaml:29: inputs.office365_reporting_message.credentials.client_secret_file: `client_secret` is given as well: keep one of them
    ");
}

#[test]
fn the_wrong_file_is_not_shown() {
    assert_snapshot!(refused("tenant_id_file: FILE\n      client_id: 1-2\n      client_secret: hunter3", b"hunter2 #"), @r"
    config.yaml:27: inputs.office365_reporting_message.credentials.tenant_id_file: its value is neither an id such as `11111111-2222-3333-4444-555555555555` nor a domain name
    ");
    assert_snapshot!(refused("username_file: FILE\n      password: hunter3", b"hunter2:"), @r"
    config.yaml:27: inputs.office365_reporting_message.credentials.username_file: its value holds a colon or a control character, which signing in cannot transmit
    ");
}

#[test]
fn a_variable_that_is_not_set() {
    assert_snapshot!(refused("username: a@b.com\n      password: ${THERE_IS_NO_SUCH_VARIABLE}", b""), @r"
    config.yaml:28: inputs.office365_reporting_message.credentials.password: the variable `THERE_IS_NO_SUCH_VARIABLE` is not set: set it where the collector is started (`docker run --env THERE_IS_NO_SUCH_VARIABLE`), or, if this is the value itself, put it in a file and name that in `password_file`
    ");
}

#[tokio::test]
async fn the_collector_signs_in_with_what_is_kept_elsewhere() {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(30), setting.ago(29));
    setting.rows(Report::MessageTrace, from, to, 100);
    setting.configure_one(Report::MessageTrace, from, &[]);
    let path = setting.folder.path().join("config/config.yaml");
    let written = std::fs::read_to_string(&path).unwrap();
    let access = setting.service.options().access;
    let secret = access.app.secret.unwrap();
    let in_place = format!("client_secret: \"{secret}\"");
    assert!(written.contains(&in_place), "{written}");
    std::fs::write(
        setting.folder.path().join("credentials/app.secret"),
        format!("{secret}\n"),
    )
    .unwrap();
    for kept in [
        "client_secret_file: app.secret",
        "client_secret: ${APP_SECRET}",
    ] {
        setting
            .folder
            .configure_raw(
                &written
                    .replace(&in_place, kept)
                    .replace(&access.tenant, "${TENANT}"),
            )
            .unwrap();
        let mut collector = Collector::start_with(setting::program(), &setting.folder, |command| {
            command
                .env("APP_SECRET", &secret)
                .env("TENANT", &access.tenant);
        })
        .unwrap();
        collector
            .wait_for("token received", PATIENCE)
            .await
            .unwrap();
        setting::stop(&mut collector).await;
    }
    assert_eq!(setting.service.tokens_issued(), 2);
}

/// What is said of a configuration with these credentials, without the secret.
fn said(credentials: &str) -> String {
    let read = config::read(Path::new("config.yaml"), &with(credentials), now());
    let said = match read {
        Ok(loaded) => {
            let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
            format!("taken\n{}", warnings.join("\n"))
        }
        Err(mistakes) => mistakes.to_string(),
    };
    assert!(
        !said.contains("hunter"),
        "a secret is in the message: {said}"
    );
    said
}

#[test]
fn a_secret_that_was_pasted_or_cut_is_named_with_its_character() {
    let of_user = |password: &str| said(&format!("username: a@b.com\n      password: {password}"));
    assert_snapshot!(of_user("hunter2 #3"), @r"
    config.yaml:28: inputs.office365_reporting_message.credentials.password: YAML cuts the value off before the `#`, character 25 of this line: if it belongs to the secret, put the secret in single quotes; else put the comment on a line of its own
    ");
    assert_snapshot!(of_user("hunter2 # as of May"), @r"
    taken
    config.yaml:28: inputs.office365_reporting_message.credentials.password: YAML cuts the value off before the `#`, character 25 of this line: if it belongs to the secret, put the secret in single quotes; else put the comment on a line of its own
    ");
    assert_snapshot!(of_user("'hunter2 #3' # as of May"), @r"
    taken
    ");
    assert_snapshot!(of_user("hunter2#3"), @r"
    taken
    ");
    assert_snapshot!(of_user("\u{201C}hunter2\u{201D}"), @r"
    config.yaml:28: inputs.office365_reporting_message.credentials.password: character 17 of this line is a typographic quote (U+201C): YAML does not take it for a quote; type `'` in its place, and at the end of the value
    ");
    assert_snapshot!(of_user("\u{2018}hunter2\u{2019}"), @r"
    config.yaml:28: inputs.office365_reporting_message.credentials.password: character 17 of this line is a typographic quote (U+2018): YAML does not take it for a quote; type `'` in its place, and at the end of the value
    ");
    assert_snapshot!(of_user("hunter\u{A0}2"), @r"
    config.yaml:28: inputs.office365_reporting_message.credentials.password: character 23 of this line is a non-breaking space (U+00A0): remove it, or type a plain one
    ");
    assert_snapshot!(of_user("'hunter2\u{200B}'"), @r"
    config.yaml:28: inputs.office365_reporting_message.credentials.password: character 8 of the value is an invisible character (U+200B), which was probably pasted along: type the value anew
    config.yaml:28: warning: inputs.office365_reporting_message.credentials.password: character 25 of this line is an invisible character (U+200B): remove it, or type a plain one
    ");
    assert_snapshot!(of_user("hunter\t2"), @r"
    config.yaml:28: inputs.office365_reporting_message.credentials.password: character 23 of this line is a tab (U+0009): remove it, or type a plain one
    ");
    assert_snapshot!(of_user("\thunter2"), @r"
    taken
    ");
    assert_snapshot!(of_user("O\u{2019}hunter \u{fc}"), @r"
    taken
    ");
    assert_snapshot!(said("username: a@b.com\n      \u{A0}password: hunter2"), @r"
    config.yaml:26: inputs.office365_reporting_message.credentials: missing: `password`: give either `username` and `password`, or `tenant_id`, `client_id` and `client_secret`, or `tenant_id`, `client_id`, `client_certificate` and `client_key`
    config.yaml:28: inputs.office365_reporting_message.credentials: character 7 of this line is a non-breaking space (U+00A0): remove it, or type a plain one
    config.yaml:28: warning: inputs.office365_reporting_message.credentials: an unknown key, not used (known here: `username`, `username_file`, `password`, `password_file`, `tenant_id`, `tenant_id_file`, `client_id`, `client_id_file`, `client_secret`, `client_secret_file`, `client_certificate` and `client_key`); if it is a piece of a secret, put the secret in single quotes
    ");
    assert_snapshot!(said("username: a@b.com\n      password:\u{A0}hunter2"), @r"
    config.yaml:28: not valid YAML here: character 16 of this line is a non-breaking space (U+00A0): remove it, or type a plain one
    ");
}

#[test]
fn quotes_and_blanks_around_a_variable_are_cleaned_or_refused() {
    let check = |value: &str, way: &str| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        let text = match way {
            "secret" => with(
                "tenant_id: ${OF_A_TENANT}\n      client_id: a\n      client_secret: ${OF_A_TEST}",
            ),
            _ => with("username: a@b.com\n      password: ${OF_A_TEST}"),
        };
        // With a mistake elsewhere, so that nothing is asked.
        let text = text.replace("debug: true", "debug: maybe");
        std::fs::write(&path, text).unwrap();
        // The environment belongs to the whole process, so that each value needs one of its own.
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_exchange-reports-collector"))
            .args(["check", "--json", "--config"])
            .arg(&path)
            .env("OF_A_TEST", value)
            .env("OF_A_TENANT", " \"contoso.com\" ")
            .current_dir(folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(
            said.contains("globals.debug") && !said.contains("hunter"),
            "{said}"
        );
        said
    };
    for value in [
        "\"hunter2\"",
        "'hunter2'",
        " hunter2",
        "hunter2\r",
        "\u{201C}hunter2\u{201D}",
    ] {
        let said = check(value, "secret");
        assert!(
            !said.contains("client_secret") && !said.contains("tenant_id"),
            "{value:?}: {said}"
        );
        let said = check(value, "password");
        let refused = said.contains("quotes or blanks around it");
        assert_eq!(refused, value != "hunter2\r", "{value:?}: {said}");
    }
    let said = check("hun\u{A0}ter2", "secret");
    assert!(
        said.contains("character 4 of the value is a non-breaking space (U+00A0)"),
        "{said}"
    );
}
