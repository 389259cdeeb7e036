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
    config.yaml:29: inputs.office365_reporting_message.credentials.client_secret_file: `/dev` is no file
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
