//! The command `check`, against set-ups that work and ones that are broken, each in one way: what fails says what to do, what depends on it is
//! not said to be well, and nothing is changed.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::time::Duration;

use chrono::TimeDelta;
use testkit::collector::{Collector, Config, Credentials, Input, Output};
use testkit::disk::Disk;
use testkit::pki::{Authority, Identity, KeyForm, Pki, Wish};
use testkit::relay::{Behaviour, Options, Relay, TlsVersions};
use testkit::report::Report;
use testkit::service::{self, Fault, Principal, Retirement, RetryAfter, Target, When};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::setting::{PATIENCE, Setting, log, may_mount, program, skip, stop};

const INPUT: &str = "office365_reporting_message";

/// Two reports, some rows, and all well.
async fn setting() -> Setting {
    setting_with(|_, _| {}).await
}

/// The same with a relay that is set up in another way.
async fn setting_with(change: impl FnOnce(&Pki, &mut Options)) -> Setting {
    let mut setting = Setting::new().await;
    let mut options = Options::new(&setting.pki);
    change(&setting.pki, &mut options);
    setting.relay = Relay::start_with(&options).unwrap();
    configure(&setting, input(&setting));
    setting
}

/// Writes the configuration, with the relay as one that is not Devo's own.
fn configure(setting: &Setting, input: Input) {
    setting.configure_with(input, output(setting.relay.port()));
}

fn output(port: u16) -> Output {
    Output {
        kind: "relay".to_owned(),
        ..Output::relay(port)
    }
}

fn input(setting: &Setting) -> Input {
    let input = setting.input().service(Report::MessageTrace, &[]);
    input.service(Report::MailDetailAtp, &[])
}

/// What the command says, with what differs from run to run taken out.
struct Told {
    code: i32,
    text: String,
    /// With all of it.
    raw: String,
}

/// Runs the command, and expects that no record was sent and that the state folder is as it was.
async fn check(setting: &Setting) -> Told {
    check_with(setting, &["check"], &[]).await
}

async fn check_with(setting: &Setting, arguments: &[&str], variables: &[(&str, &str)]) -> Told {
    let state = setting.folder.state();
    let before = files(&state);
    let mut command = Collector::start_with(program(), &setting.folder, |command| {
        command.args(arguments).envs(variables.iter().copied());
    })
    .unwrap();
    let code = command.wait(PATIENCE).await.unwrap().code;
    assert_eq!(files(&state), before, "{}", log(&command));
    assert_eq!(setting.relay.count(), 0);
    let text = command.output().join("\n") + &command.log().join("\n");
    Told {
        code: code.unwrap(),
        text: redacted(setting, &text),
        raw: text,
    }
}

/// The files in a folder with their contents; what is denied is left out, and so is the one that every command notes its requests to Graph in.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = vec![];
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path
            .file_name()
            .is_some_and(|name| name == "graph-requests")
        {
            continue;
        }
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((
                path.display().to_string(),
                fs::read(&path).unwrap_or_default(),
            ));
        }
    }
    found.sort();
    found
}

/// Replaces what stands between `before` and `after`, wherever that is.
fn replace_between(text: &str, before: &str, after: &str, with: &str) -> String {
    let mut parts = text.split(before);
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.split_once(after).map_or("", |(_, rest)| rest);
        result += [before, with, after, rest].concat().as_str();
    }
    result
}

fn redacted(setting: &Setting, text: &str) -> String {
    let relay = setting.relay.port().to_string();
    let service = setting.service.address().port().to_string();
    let text = text
        .replace(&setting.folder.path().display().to_string(), "FOLDER")
        .replace(&relay, "RELAY")
        .replace(&service, "SERVICE");
    let text = replace_between(&text, "(request-id ", ")", "ID");
    let text = replace_between(&text, "running as ", "\n", "SOMEBODY");
    let text = replace_between(&text, "first page of ", ": ", "WINDOW");
    let mut lines = vec![];
    for line in text.lines() {
        // The time taken ends the lines that have not failed.
        let line = match line.rsplit_once(" (") {
            Some((line, took)) if took.ends_with(" ms)") => format!("{line} (TIME)"),
            _ => line.to_owned(),
        };
        lines.push(line);
    }
    lines.join("\n")
}

/// The lines that are not well, of a set-up in which something fails.
async fn failures(setting: &Setting) -> String {
    failed(&check(setting).await)
}

fn failed(told: &Told) -> String {
    assert_eq!(told.code, 1, "{}", told.text);
    let (lines, sum) = told.text.rsplit_once('\n').unwrap();
    assert!(sum.starts_with("failed: "), "{sum}");
    unwell(lines)
}

fn unwell(lines: &str) -> String {
    let bad = lines.lines().filter(|line| !line.contains("  ok: "));
    // How wide the first column is depends on lines that are well.
    let bad = bad.map(|line| {
        let (part, verdict) = line.split_once("  ").unwrap();
        format!("{part} | {}", verdict.trim_start())
            .replace(INPUT, "INPUT")
            .replace("office365_reporting_", "")
    });
    bad.collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_setup_is_told_in_full() {
    let setting = setting().await;
    let told = check(&setting).await;
    assert_eq!(told.code, 0, "{}", told.text);
    insta::assert_snapshot!(told.text, @r"
    configuration                                                                 ok: config/config.yaml: 1 output, 1 input, 2 services
    user                                                                          ok: running as SOMEBODY
    state folder                                                                  ok: state can be written, and no collector holds it; services that go on from it: 0
    output devo_1: certificate                                                    ok: certificate, key and chain can be used; valid until 2049-01-01
    output devo_1: relay                                                          ok: localhost:RELAY accepts us and gives receipts: its close_notify, which nobody else can send (TIME)
    input office365_reporting_message: way to 127.0.0.1                           ok: 127.0.0.1:SERVICE accepts connections
    input office365_reporting_message: sign-in                                    ok: the tenant's directory gives a token (TIME)
    input office365_reporting_message: office365_reporting_MessageTrace_service   ok: MessageTrace answers, rows on the first page of WINDOW: 0 (TIME)
    input office365_reporting_message: office365_reporting_MailDetailATP_service  ok: MailDetailATP answers, rows on the first page of WINDOW: 0 (TIME)
    input office365_reporting_message: clock                                      ok: this machine's clock and the reporting service's agree
    all of it will work
    ");
    // Asked once each, and signed in once.
    assert_eq!(setting.service.requests_for(Report::MessageTrace).len(), 1);
    assert_eq!(setting.service.requests_for(Report::MailDetailAtp).len(), 1);
    assert_eq!(setting.service.tokens_issued(), 1);
    assert!(files(&setting.folder.state()).is_empty());

    fs::remove_dir(setting.folder.state()).unwrap();
    let told = check(&setting).await;
    assert_eq!(told.code, 0, "{}", told.text);
    assert!(
        told.text
            .contains("state is not there yet, and can be made"),
        "{}",
        told.text
    );
    assert!(!setting.folder.state().exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn validate_is_the_same_and_json_is_for_machines() {
    let setting = setting().await;
    let validated = check_with(&setting, &["--validate"], &[]).await;
    assert_eq!(validated.text, check(&setting).await.text);
    assert_eq!(validated.code, 0);
    setting
        .service
        .fault(Report::MessageTrace, When::Always, Fault::NotFound);
    let told = check_with(&setting, &["check", "--json"], &[]).await;
    assert_eq!(told.code, 1);
    let json: serde_json::Value = serde_json::from_str(&told.raw).unwrap();
    assert_eq!(json["ok"], false);
    let checks = json["checks"].as_array().unwrap();
    let of = |part: &str| {
        let mut named = checks.iter();
        named
            .find(|check| check["part"].as_str().unwrap().ends_with(part))
            .unwrap()
    };
    assert_eq!(of("MessageTrace_service")["verdict"], "failed");
    assert_eq!(of("MailDetailATP_service")["verdict"], "ok");
    assert!(of("output devo_1: relay")["milliseconds"].is_u64());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_configuration_nothing_else_is_tried() {
    let setting = setting().await;
    setting
        .folder
        .configure_raw("globals:\n  id: 1\n  name: x\noutputs:\n")
        .unwrap();
    insta::assert_snapshot!(failures(&setting).await, @r"
    configuration | FAILED: config/config.yaml: inputs: no input: give at least one, with `id`, `credentials` and `services`
    configuration | FAILED: config/config.yaml:4: outputs: no output: name a place where the records go, such as `devo_1` of type `devo_platform`
    state folder | not tried: the configuration cannot be run
    outputs | not tried: the configuration cannot be run
    inputs | not tried: the configuration cannot be run
    ");
    fs::remove_file(setting.folder.path().join("config/config.yaml")).unwrap();
    insta::assert_snapshot!(failures(&setting).await, @r"
    configuration | FAILED: config/config.yaml: there is no such file: create it after the example config/config.yaml, or name another with `--config` or CONFIG_FILE (a relative name is looked up under config/)
    state folder | not tried: the configuration cannot be run
    outputs | not tried: the configuration cannot be run
    inputs | not tried: the configuration cannot be run
    ");
    assert!(setting.service.requests().is_empty() && setting.relay.connections().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_file_is_told() {
    let setting = setting().await;
    fs::remove_file(setting.folder.certs().join("collector.crt")).unwrap();
    insta::assert_snapshot!(failures(&setting).await, @r"
    output devo_1: certificate | FAILED: `cert` file certs/collector.crt: there is no such file: put the file there, or correct `cert`
    output devo_1: relay | not tried: its files cannot be used
    ");
    assert!(setting.relay.connections().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_another_certificate_is_told() {
    let setting = setting().await;
    let other = setting.pki.authority.issue(&Wish::client()).unwrap();
    put(&setting, &setting.pki.client.with_key_of(&other));
    insta::assert_snapshot!(failures(&setting).await, @r"
    output devo_1: certificate | FAILED: `key` file certs/collector.key: the private key does not belong to the certificate in certs/collector.crt: set `cert` and `key` to the two files that were downloaded together
    output devo_1: relay | not tried: its files cannot be used
    ");
}

fn put(setting: &Setting, identity: &Identity) {
    identity
        .write(&setting.folder.certs(), "collector")
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_certificate_is_told() {
    let setting = setting().await;
    let expired = setting.pki.authority.issue(&Wish::client().expired());
    put(&setting, &expired.unwrap());
    insta::assert_snapshot!(failures(&setting).await, @r"
    output devo_1: certificate | FAILED: `cert` file certs/collector.crt: the certificate expired on 2021-01-01 00:00:00 UTC: download a new certificate and its key, and replace `cert` and `key`; no restart is needed. If the date is not past, this machine's clock is wrong
    output devo_1: relay | not tried: its files cannot be used
    ");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_that_does_not_lead_to_the_relay_is_told() {
    let setting = setting().await;
    let other = Authority::new("another authority").unwrap();
    other.write(&setting.folder.certs()).unwrap();
    insta::assert_snapshot!(failures(&setting).await, @"output devo_1: relay | FAILED: the relay's certificate is not acceptable: none of the authorities in the chain file has issued it: put the certificate of the authority that issued the relay's into certs/chain.crt, beside those in it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_refuses_our_certificate_is_told() {
    for versions in [TlsVersions::V12, TlsVersions::V13] {
        let setting = setting_with(|_, options| options.tls = versions).await;
        let other = Authority::new("another authority").unwrap();
        put(&setting, &other.issue(&Wish::client()).unwrap());
        let told = failures(&setting).await;
        insta::allow_duplicates! {
            insta::assert_snapshot!(told, @"output devo_1: relay | FAILED: the relay refused our certificate (alert unknown_ca): check that certs/collector.crt is current, was issued by an authority that this relay trusts, and also holds the intermediate certificates if there are any; download certificate, key and chain anew if in doubt");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_of_another_name_is_told() {
    let elsewhere = |pki: &Pki, options: &mut Options| {
        let wish = Wish::server_for(&["relay.example.com"]);
        options.identity = pki.authority.issue(&wish).unwrap();
    };
    let setting = setting_with(elsewhere).await;
    insta::assert_snapshot!(failures(&setting).await, @"output devo_1: relay | FAILED: the relay's certificate is not acceptable: it is not for localhost but for relay.example.com: set `address` to a name in the certificate; or, for a relay of your own, `verify_hostname: false`");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_never_answers_a_half_close_is_told_and_fails_only_where_receipts_are_required()
 {
    let setting = setting().await;
    setting.relay.always(Behaviour::NeverAnswer);
    let told = check(&setting).await;
    assert_eq!(told.code, 0, "{}", told.text);
    let (lines, sum) = told.text.rsplit_once('\n').unwrap();
    assert_eq!(sum, "all of it will work; to be looked at: 1");
    insta::assert_snapshot!(unwell(lines), @"output devo_1: relay | warning: localhost:RELAY accepts us and does not answer our end of a connection within 12 s: records wait while it is asked again, and after ten minutes of this TCP's acknowledgement confirms them, which does not tell whether the relay has read them; let its TLS endpoint close when its peer has (TIME)");
    let output = output(setting.relay.port()).option("receipt", "required");
    setting.configure_with(input(&setting), output);
    insta::assert_snapshot!(failures(&setting).await, @"output devo_1: relay | FAILED: localhost:RELAY accepts us and does not answer our end of a connection, and `receipt` forbids to go by TCP's word: let the relay's TLS endpoint close when its peer has, or take the line `receipt` out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_refuses_is_told_on_either_side() {
    let setting = setting().await;
    let port = refusing_port();
    let output = output(port);
    let input = input(&setting).option("base_url", &format!("http://127.0.0.1:{port}/"));
    setting.configure_with(input, output);
    let told = failures(&setting).await.replace(&port.to_string(), "PORT");
    insta::assert_snapshot!(told.replace("[::1]:PORT: Connection refused (os error 111); ", ""), @r"
    output devo_1: relay | FAILED: no connection to localhost:PORT (127.0.0.1:PORT: Connection refused (os error 111)): Connection refused (os error 111): check `address` and `port`, and that no firewall is between here and the relay
    input INPUT: way to 127.0.0.1 | FAILED: no connection to 127.0.0.1:PORT (Connection refused (os error 111)): check `base_url`, and that no firewall is between here and there; where a proxy leads out, name it in HTTPS_PROXY
    input INPUT: MessageTrace_service | not tried: there is no way to the reporting service
    input INPUT: MailDetailATP_service | not tried: there is no way to the reporting service
    input INPUT: clock | not tried: the reporting service has told no time
    ");
}

/// A port that nobody listens on.
fn refusing_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_host_is_told_on_either_side() {
    let setting = setting().await;
    let output = output(443).option("address", "relay.invalid");
    let input = input(&setting)
        .option("base_url", "https://reports.invalid/")
        .option("ca_bundle", "chain.crt");
    setting.configure_with(input, output);
    let told = failures(&setting).await;
    // The resolver's own words differ from system to system.
    let told = replace_between(&told, "could not be resolved: ", ": check", "REASON");
    insta::assert_snapshot!(replace_between(&told, "cannot be resolved (", ")", "REASON"), @r"
    output devo_1: relay | FAILED: the name of relay.invalid:443 could not be resolved: REASON: check `address`, and that this machine's name server answers
    input INPUT: way to reports.invalid | FAILED: the name of reports.invalid:443 cannot be resolved (REASON): check the host name in `base_url`, and this machine's name server
    input INPUT: MessageTrace_service | not tried: there is no way to the reporting service
    input INPUT: MailDetailATP_service | not tried: there is no way to the reporting service
    input INPUT: clock | not tried: the reporting service has told no time
    ");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_secret_is_told() {
    let setting = setting().await;
    let access = setting.service.options().access;
    let credentials = Credentials::Secret {
        tenant_id: access.tenant,
        client_id: access.app.client_id,
        client_secret: "open-sesame".to_owned(),
    };
    configure(&setting, input(&setting).credentials(credentials));
    let told = failures(&setting).await;
    assert!(!told.contains("open-sesame"), "{told}");
    insta::assert_snapshot!(replace_between(&told, " Trace ID: ", "Z ", "ID AND TIME"), @r"
    input INPUT: sign-in | FAILED: the directory gave no token and answered 401 with invalid_client: AADSTS7000215: Invalid client secret provided for app '66666666-7777-8888-9999-000000000000'. Trace ID: ID AND TIMEZ (request-id ID): `client_secret` is wrong: it must be the secret's value, not its id, and belong to this `client_id`
    input INPUT: MessageTrace_service | not tried: there is no token
    input INPUT: MailDetailATP_service | not tried: there is no token
    input INPUT: clock | not tried: the reporting service has told no time
    ");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_without_its_role_is_told() {
    let setting = setting().await;
    setting
        .service
        .adjust(|options| options.access.has_role = false);
    insta::assert_snapshot!(failures(&setting).await, @r#"
    input INPUT: MessageTrace_service | FAILED: the service answered 401 Unauthorized: 401 - Unauthorized: Access is denied due to invalid credentials. (www-authenticate: Basic Realm="") (request-id ID): give the application the permission ReportingWebService.Read.All (with admin consent) and a directory role, Global Reader or Security Reader: without the role a good token gets 401. A new role takes up to an hour
    input INPUT: MailDetailATP_service | FAILED: the service answered 401 Unauthorized: 401 - Unauthorized: Access is denied due to invalid credentials. (www-authenticate: Basic Realm="") (request-id ID): give the application the permission ReportingWebService.Read.All (with admin consent) and a directory role, Global Reader or Security Reader: without the role a good token gets 401. A new role takes up to an hour
    "#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn username_and_password_are_told_to_be_over() {
    let setting = setting().await;
    let credentials = Credentials::Basic {
        username: "reports@contoso.onmicrosoft.com".to_owned(),
        password: "open-sesame".to_owned(),
    };
    configure(&setting, input(&setting).credentials(credentials));
    let told = failures(&setting).await;
    assert!(!told.contains("open-sesame"), "{told}");
    insta::assert_snapshot!(told, @r#"
    input INPUT: sign-in | warning: username and password go with each request; Microsoft has turned them off in the winter of 2022/23: where the reports refuse them, sign in with `tenant_id`, `client_id` and `client_secret`
    input INPUT: MessageTrace_service | FAILED: the service answered 401 Unauthorized: 401 - Unauthorized: Access is denied due to invalid credentials. (www-authenticate: Basic Realm="") (request-id ID): Microsoft has turned Basic authentication off (Exchange Online, winter of 2022/23): register an application in Microsoft Entra, give it the permission ReportingWebService.Read.All and the directory role Global Reader or Security Reader, and replace `username` and `password` by `tenant_id`, `client_id` and `client_secret` (or `client_certificate` and `client_key`)
    input INPUT: MailDetailATP_service | FAILED: the service answered 401 Unauthorized: 401 - Unauthorized: Access is denied due to invalid credentials. (www-authenticate: Basic Realm="") (request-id ID): Microsoft has turned Basic authentication off (Exchange Online, winter of 2022/23): register an application in Microsoft Entra, give it the permission ReportingWebService.Read.All and the directory role Global Reader or Security Reader, and replace `username` and `password` by `tenant_id`, `client_id` and `client_secret` (or `client_certificate` and `client_key`)
    "#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_applications_certificate_that_is_no_pair_is_told() {
    let setting = setting().await;
    let [one, other] = [(), ()].map(|()| {
        let wish = Wish::client().form(KeyForm::Pkcs1);
        setting.pki.authority.issue(&wish).unwrap()
    });
    sign_in_with(&setting, &one.with_key_of(&other));
    insta::assert_snapshot!(failures(&setting).await, @r"
    input INPUT: files | FAILED: `client_certificate` and `client_key` do not belong together: the certificate in credentials/app.crt was made for another key than the one in credentials/app.key: put right the file that is named, or the parameter that names it
    input INPUT: sign-in | not tried: a file cannot be used
    input INPUT: MessageTrace_service | not tried: a file cannot be used
    input INPUT: MailDetailATP_service | not tried: a file cannot be used
    ");
}

/// Has the input sign in with a certificate.
fn sign_in_with(setting: &Setting, identity: &Identity) {
    let folder = setting.folder.path().join("credentials");
    identity.write(&folder, "app").unwrap();
    let access = setting.service.options().access;
    let credentials = Credentials::Certificate {
        tenant_id: access.tenant,
        client_id: access.app.client_id,
        client_certificate: "app.crt".to_owned(),
        client_key: "app.key".to_owned(),
    };
    configure(setting, input(setting).credentials(credentials));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_an_applications_certificate_is_told() {
    let setting = setting().await;
    let wish = Wish::client().form(KeyForm::Pkcs1);
    for (wish, expected) in [
        (
            wish.clone(),
            "ok: certificate and key can be used; valid until 2049-01-01",
        ),
        (
            wish.expired(),
            "FAILED: the application's certificate expired on 2021-01-01 00:00:00 UTC: upload a new certificate to the \
            application in Microsoft Entra, and replace `client_certificate` and `client_key`; no restart is needed",
        ),
    ] {
        let identity = setting.pki.authority.issue(&wish).unwrap();
        setting.service.adjust(|options| {
            options.access.app.certificate = Some(identity.certificate.clone());
        });
        sign_in_with(&setting, &identity);
        let told = check(&setting).await;
        assert_eq!(
            told.code,
            i32::from(expected.starts_with("FAILED")),
            "{}",
            told.text
        );
        let line = format!("input {INPUT}: certificate ");
        let line = told.text.lines().find(|one| one.starts_with(&line));
        let (_, verdict) = line.unwrap().split_once(": certificate ").unwrap();
        assert_eq!(verdict.trim(), expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_is_forbidden_is_told_and_the_other_is_well() {
    let setting = setting().await;
    setting
        .service
        .fault(Report::MailDetailAtp, When::Always, Fault::Forbidden);
    insta::assert_snapshot!(failures(&setting).await, @"input INPUT: MailDetailATP_service | FAILED: the service answered 403 Forbidden: No permission to access the report for the organization . (request-id ID): give the account or the application the right to this report (directory role Global Reader or Security Reader), or remove the service from the configuration");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_is_retired_is_told_whatever_the_status() {
    let setting = setting().await;
    setting
        .service
        .fault(Report::MailDetailAtp, When::Always, Fault::NotFound);
    insta::assert_snapshot!(failures(&setting).await, @"input INPUT: MailDetailATP_service | FAILED: the service answered 404 Not Found: 404 - File or directory not found. (request-id ID): check `base_url`; if other reports answer, Microsoft has retired this one: remove its service from the configuration");
    setting.service.heal();
    setting
        .service
        .fault(Report::MailDetailAtp, When::Always, Fault::BadRequest);
    insta::assert_snapshot!(failures(&setting).await, @"input INPUT: MailDetailATP_service | FAILED: the service answered 400 Bad Request: The query specified in the URI is not valid. (request-id ID): the service's message says what it does not accept; take the request id to Microsoft's support if it is not clear");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_throttles_is_told_and_not_waited_for() {
    let setting = setting().await;
    let pause = RetryAfter::Seconds(1_800);
    setting
        .service
        .fault(Target::Reports, When::Always, Fault::Throttled(Some(pause)));
    // One request at a time: the first one's answer is there before the second is asked.
    configure(&setting, input(&setting).option("requests_per_second", "2"));
    insta::assert_snapshot!(failures(&setting).await, @r"
    input INPUT: MessageTrace_service | FAILED: the service answered 429 Too Many Requests, asking for a pause of 1800 s: Too many requests. (request-id ID): check again after that; if it lasts, lower `requests_per_second`, or stop other clients of the tenant's reporting service
    input INPUT: MailDetailATP_service | not tried: the service has asked for a pause, of which 30 min are left
    ");
    assert!(
        setting
            .service
            .requests_for(Report::MailDetailAtp)
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_not_trusted_is_told_and_trusted_by_its_authority() {
    let mut setting = setting().await;
    setting.service = service::Service::start(service::Options {
        https: Some(setting.pki.server.clone()),
        ..service::Options::default()
    })
    .await
    .unwrap();
    configure(&setting, input(&setting));
    // As it is where nothing is trusted of the system's.
    let anchor = Authority::new("another authority").unwrap();
    let anchors = anchor.write(setting.folder.path()).unwrap();
    let variables = [("SSL_CERT_FILE", anchors.to_str().unwrap())];
    let told = check_with(&setting, &["check"], &variables).await;
    insta::assert_snapshot!(failed(&told), @r"
    input INPUT: sign-in | FAILED: cannot connect to https://127.0.0.1:SERVICE: error sending request: client error (Connect): invalid peer certificate: UnknownIssuer: the certificate's authority is not trusted here: if a proxy inspects TLS, or the service is your own, name the authority's certificate in `ca_bundle`
    input INPUT: MessageTrace_service | not tried: there is no token
    input INPUT: MailDetailATP_service | not tried: there is no token
    input INPUT: clock | not tried: the reporting service has told no time
    ");
    configure(&setting, input(&setting).option("ca_bundle", "chain.crt"));
    assert_eq!(check(&setting).await.code, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_that_differ_are_told() {
    let setting = setting().await;
    setting.service.clock_offset(TimeDelta::minutes(-30));
    let told = failures(&setting).await;
    insta::assert_snapshot!(told.replace("is 29 min", "is 30 min"), @"input INPUT: clock | FAILED: this machine's clock less the reporting service's is 30 min: set this machine's clock (NTP); until then the earlier one is gone by");
}

/// The service lies elsewhere, and a proxy leads there.
fn configure_elsewhere(setting: &Setting) {
    let input = input(setting)
        .option("base_url", "https://reports.example.com/")
        .option("authority_url", "https://login.example.com/")
        .option("ca_bundle", "chain.crt");
    configure(setting, input);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_is_not_there_is_told() {
    let setting = setting().await;
    configure_elsewhere(&setting);
    let port = refusing_port().to_string();
    let proxy = format!("http://user:open-sesame@127.0.0.1:{port}");
    let told = failed(&check_with(&setting, &["check"], &[("HTTPS_PROXY", &proxy)]).await);
    assert!(!told.contains("sesame"), "{told}");
    insta::assert_snapshot!(told.replace(&port, "PROXY"), @r"
    input INPUT: way to reports.example.com | FAILED: no connection to the proxy 127.0.0.1:PROXY (Connection refused (os error 111)): check the variable HTTPS_PROXY, and that the proxy runs; hosts in NO_PROXY are asked without it
    input INPUT: way to login.example.com | FAILED: no connection to the proxy 127.0.0.1:PROXY (Connection refused (os error 111)): check the variable HTTPS_PROXY, and that the proxy runs; hosts in NO_PROXY are asked without it
    input INPUT: sign-in | not tried: there is no way to the tenant's directory
    input INPUT: MessageTrace_service | not tried: there is no way to the reporting service
    input INPUT: MailDetailATP_service | not tried: there is no way to the reporting service
    input INPUT: clock | not tried: the reporting service has told no time
    ");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_refuses_us_is_told() {
    let setting = setting().await;
    configure_elsewhere(&setting);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut request = [0; 1_024];
            if client
                .read(&mut request)
                .await
                .is_ok_and(|length| length > 0)
            {
                let refusal =
                    b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n";
                client.write_all(refusal).await.unwrap();
            }
        }
    });
    let proxy = format!("http://127.0.0.1:{port}");
    let told = failed(&check_with(&setting, &["check"], &[("HTTPS_PROXY", &proxy)]).await);
    insta::assert_snapshot!(told.replace(&port, "PROXY"), @r"
    input INPUT: sign-in | FAILED: cannot connect to https://login.example.com: the proxy answered 407 Proxy Authentication Required to CONNECT login.example.com:443: give the proxy's user name and password in HTTPS_PROXY (`http://user:password@host:port`)
    input INPUT: MessageTrace_service | not tried: there is no token
    input INPUT: MailDetailATP_service | not tried: there is no token
    input INPUT: clock | not tried: the reporting service has told no time
    ");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_folder_that_a_collector_holds_is_told_and_left_to_it() {
    let setting = setting().await;
    let mut collector = setting.start();
    collector.wait_for("collecting", PATIENCE).await.unwrap();
    // Once both have begun, so that nothing changes meanwhile.
    collector.wait_for("started", PATIENCE).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    insta::assert_snapshot!(failures(&setting).await, @"state folder | FAILED: another collector is running on the state folder state: stop it first, or give this one a folder of its own (globals.persistence.config.directory_name)");
    stop(&mut collector).await;
    assert_eq!(check(&setting).await.code, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_folder_that_cannot_be_written_is_told() {
    if !nix::unistd::geteuid().is_root() {
        skip("only root can run the collector as somebody else");
        return;
    }
    let setting = setting().await;
    let root = setting.folder.path();
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
    chown(
        setting.folder.certs().join("collector.key"),
        Some(1000),
        Some(1000),
    )
    .unwrap();
    let copy = root.join("collector");
    fs::copy(program(), &copy).unwrap();
    let mut command = Collector::start_with(&copy, &setting.folder, |command| {
        command.arg("check").uid(1000).gid(1000);
    })
    .unwrap();
    let code = command.wait(PATIENCE).await.unwrap().code;
    let raw = command.output().join("\n");
    let told = Told {
        code: code.unwrap(),
        text: redacted(&setting, &raw),
        raw,
    };
    insta::assert_snapshot!(failed(&told), @"state folder | FAILED: cannot write in state: Permission denied (os error 13): this process, 1000:1000, may not write to the folder state, which belongs to 0:0 and has mode 0755: run `chown -R 1000:1000 state`, or start the container without `--user`");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_folder_on_a_full_or_read_only_disk_is_told() {
    if !may_mount() {
        return;
    }
    let setting = setting().await;
    let mut disk = Disk::mount(&setting.folder.state(), 1_024).unwrap();
    disk.fill().unwrap();
    insta::assert_snapshot!(failures(&setting).await, @"state folder | FAILED: cannot write in state: no storage space: make room on the disk of the state folder");
    disk.empty().unwrap();
    disk.make_read_only().unwrap();
    insta::assert_snapshot!(failures(&setting).await, @"state folder | FAILED: cannot write in state: Read-only file system (os error 30): mount the state folder writable");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_state_and_that_of_another_tenant_are_told() {
    let setting = setting().await;
    let mut collector = setting.start();
    collector.wait_for("collecting", PATIENCE).await.unwrap();
    stop(&mut collector).await;
    let file = setting.state_of(Report::MessageTrace).join("cursor");
    let good = fs::read(&file).unwrap();
    fs::write(&file, &good[..good.len() - 1]).unwrap();
    insta::assert_snapshot!(failures(&setting).await, @"state of INPUT: MessageTrace_service | FAILED: the state file state/INPUT.12345.MessageTrace_service/cursor cannot be trusted (its checksum does not match); either put it back from a backup, or remove the folder state/INPUT.12345.MessageTrace_service to start this service over (from start_time, else from where the original collector's files in the state folder say, else from now less the delay; records may then be skipped or come again)");
    fs::write(&file, good).unwrap();
    setting.service.adjust(|options| {
        options.access.tenant = "99999999-2222-3333-4444-555555555555".to_owned();
    });
    configure(&setting, input(&setting));
    insta::assert_snapshot!(failures(&setting).await, @r"
    state of INPUT: MessageTrace_service | FAILED: the state in state/INPUT.12345.MessageTrace_service is of another tenant (id 11111111-2222-3333-4444-555555555555, and this input signs in to id 99999999-2222-3333-4444-555555555555): give this input an id of its own; or, if it is the same directory under another name, name it as before; or clear the state by a new value of reset_persistence_auth
    state of INPUT: MailDetailATP_service | FAILED: the state in state/INPUT.12345.MailDetailATP_service is of another tenant (id 11111111-2222-3333-4444-555555555555, and this input signs in to id 99999999-2222-3333-4444-555555555555): give this input an id of its own; or, if it is the same directory under another name, name it as before; or clear the state by a new value of reset_persistence_auth
    ");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_output_and_input_has_lines_of_its_own() {
    let setting = setting().await;
    let mut other = input(&setting);
    (other.name, other.id) = ("other".to_owned(), "2".to_owned());
    other.services.truncate(1);
    let second = output(refusing_port()).named("devo_2");
    let config = Config::new(input(&setting), output(setting.relay.port()));
    let mut config = config.output(second).output(Output::console());
    config.inputs.push(other);
    setting.folder.configure(&config).unwrap();
    let told = check(&setting).await.text;
    let parts: Vec<_> = told
        .lines()
        .map(|line| line.split("  ").next().unwrap())
        .collect();
    insta::assert_snapshot!(parts.join("\n"), @r"
    configuration
    user
    state folder
    output devo_1: certificate
    output devo_1: relay
    output devo_2: certificate
    output devo_2: relay
    output console_1: standard output
    input office365_reporting_message: way to 127.0.0.1
    input office365_reporting_message: sign-in
    input office365_reporting_message: office365_reporting_MessageTrace_service
    input office365_reporting_message: office365_reporting_MailDetailATP_service
    input office365_reporting_message: clock
    input other: way to 127.0.0.1
    input other: sign-in
    input other: office365_reporting_MessageTrace_service
    input other: clock
    failed: 1, not tried: 0
    ");
}

/// Message traces alone, with Graph at hand.
fn configure_graph(setting: &Setting, source: &str, requests: &str) {
    let graph = setting.service.graph_url();
    let input = setting.input().option("graph_url", &graph);
    let input = input.option("graph_requests_per_5_minutes", requests);
    configure(
        setting,
        input.service(Report::MessageTrace, &[("source", source)]),
    );
}

/// Expects the status, and the text in the line of message traces, from Graph or from the reporting service.
async fn expect(setting: &Setting, code: i32, from: &str, verdict: &str, texts: &[&str]) {
    let told = check(setting).await;
    assert_eq!(told.code, code, "{}", told.text);
    let part = format!("MessageTrace_service{from} ");
    let line = told.text.lines().find(|line| line.contains(&part));
    let line = line.unwrap_or_else(|| panic!("no {part}: {}", told.text));
    let verdict = format!(" {verdict}: ");
    for text in [&verdict[..]].iter().chain(texts) {
        assert!(line.contains(text), "{text}: {line}");
    }
}

const GRAPH: &str = " from Microsoft Graph";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn graph_is_tried_where_it_may_be_used_and_its_requests_are_counted() {
    let setting = setting().await;
    configure_graph(&setting, "auto", "3");
    for used in ["1 of 3", "2 of 3", "3 of 3"] {
        expect(
            &setting,
            0,
            GRAPH,
            "ok",
            &["answers from Microsoft Graph", used],
        )
        .await;
    }
    let all = "all 3 requests to Microsoft Graph for five minutes are used";
    expect(&setting, 0, GRAPH, "not tried", &[all]).await;
    assert_eq!(setting.service.requests_to_graph().len(), 3);
    assert_eq!(setting.service.requests_for(Report::MessageTrace).len(), 4);

    // Where it alone is used, the reporting service is not asked.
    configure_graph(&setting, "graph", "90");
    expect(&setting, 0, GRAPH, "ok", &["4 of 90"]).await;
    configure_graph(&setting, "reporting_service", "90");
    expect(&setting, 0, "", "ok", &["MessageTrace answers"]).await;
    assert_eq!(setting.service.requests_to_graph().len(), 4);
    assert_eq!(setting.service.requests_for(Report::MessageTrace).len(), 5);

    fs::remove_file(setting.folder.state().join("graph-requests")).unwrap();
    fs::create_dir(setting.folder.state().join("graph-requests")).unwrap();
    configure_graph(&setting, "auto", "90");
    expect(&setting, 0, GRAPH, "ok", &["cannot be noted in the state"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_one_of_two_permissions_it_is_told_which_service_works() {
    let setting = setting().await;
    configure_graph(&setting, "auto", "90");
    let works = "until then it works with the reporting service alone";
    let adjust = |change: fn(&mut service::Options)| setting.service.adjust(change);
    let with_roles = |roles: &'static [&'static str]| {
        setting.service.adjust(|options| {
            options.access.graph_roles = roles.iter().map(ToString::to_string).collect();
        });
    };
    with_roles(&[]);
    let claim = "it has no claim `roles`): give the application the permission ExchangeMessageTrace.Read.All";
    expect(&setting, 0, GRAPH, "warning", &[claim, works]).await;
    with_roles(&["Mail.Read"]);
    let other = "does not name the permission ExchangeMessageTrace.Read.All";
    expect(&setting, 0, GRAPH, "warning", &[other, works]).await;
    configure_graph(&setting, "graph", "90");
    expect(&setting, 1, GRAPH, "FAILED", &[other]).await;
    // Nothing was asked: the token says it.
    assert_eq!(setting.service.requests_to_graph().len(), 0);

    configure_graph(&setting, "auto", "90");
    with_roles(&["ExchangeMessageTrace.Read.All"]);
    adjust(|options| options.graph.principal = Principal::Missing);
    let principal = [
        "`New-MgServicePrincipal -AppId 8bd644d1-64a1-4d4b-ae52-2e0cbf64e373`",
        "it takes effect hours later",
        works,
    ];
    expect(&setting, 0, GRAPH, "warning", &principal).await;

    adjust(|options| {
        options.graph.principal = Principal::Present;
        options.access.reporting_roles.clear();
    });
    let alone = "until then it works with Microsoft Graph alone";
    expect(&setting, 0, "", "warning", &[alone]).await;
    expect(&setting, 0, GRAPH, "ok", &[]).await;
    setting.service.retire(Retirement::NeverHad);
    expect(&setting, 0, "", "warning", &[alone]).await;
    with_roles(&[]);
    expect(&setting, 1, "", "FAILED", &[]).await;
    expect(&setting, 1, GRAPH, "FAILED", &[]).await;
}
