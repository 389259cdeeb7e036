//! Nothing that the collector prints, or tells Devo of itself, holds a secret, whatever goes wrong, at the highest level of its log.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flate2::read::GzDecoder;
use serde_json::Value;
use testkit::collector::{Collector, Config, Credentials, Input, Output};
use testkit::pki::{KeyForm, Wish};
use testkit::relay::Behaviour;
use testkit::report::Report;
use testkit::service::{Fault, Target, When};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::monitoring::{Watched, free_port};
use crate::setting::{PATIENCE, Setting, log, program};

const SECRET: &str = "5e-sam3.open_the~door";
const USER: &str = "reports@contoso.onmicrosoft.com";

/// What the tokens of the test's directory and every assertion begin with: the beginning of a JSON object in base64.
const TOKEN: &str = "eyJ";

/// A setting whose application or account has [`SECRET`].
async fn setting() -> Setting {
    let setting = Setting::new().await;
    setting.service.adjust(|options| {
        options.access.app.secret = Some(SECRET.to_owned());
        options.access.basic = Some((USER.to_owned(), SECRET.to_owned()));
    });
    setting.rows(Report::MessageTrace, setting.ago(30), setting.ago(29), 500);
    setting
}

fn start(setting: &Setting) -> Collector {
    Collector::start_with(program(), &setting.folder, |command| {
        command.env("RUST_LOG", "trace").env("OF_THE_APP", SECRET);
    })
    .unwrap()
}

/// Asserts that all of the collector's output, and the messages that the relay has read, are free of secrets, also of the collector's own key and of those given.
fn check(setting: &Setting, collector: &Collector, keys: &[&str]) {
    let messages = setting.relay.messages();
    let messages = messages.iter().map(|one| one.content.to_string());
    let output = [collector.log(), collector.output(), messages.collect()];
    let output = output.concat().join("\n");
    check_text(setting, &output, keys);
}

/// Asserts the same of a text, and that nothing in it steers a terminal or turns the direction of a text.
fn check_text(setting: &Setting, output: &str, keys: &[&str]) {
    let steers = |c: char| {
        (c.is_control() && !matches!(c, '\n' | '\t'))
            || ('\u{200b}'..='\u{200f}').contains(&c)
            || ('\u{2028}'..='\u{202e}').contains(&c)
    };
    let line = output.lines().find(|line| line.contains(steers));
    assert_eq!(line, None, "it steers");
    let pair = BASE64_STANDARD.encode(format!("{USER}:{SECRET}"));
    let mut secrets = vec![SECRET, TOKEN, &pair];
    for key in keys.iter().chain(&[setting.pki.client.key.as_str()]) {
        secrets.extend(
            key.lines()
                .filter(|line| line.len() > 20 && !line.starts_with('-')),
        );
    }
    assert!(secrets.len() > 3);
    let encoded = |text: &str| {
        let bytes = text.bytes().map(|byte| format!("%{byte:02X}"));
        bytes.collect::<Vec<_>>().concat()
    };
    let encoded = [encoded(TOKEN), encoded(&SECRET[..8])];
    secrets.extend(encoded.iter().map(String::as_str));
    for secret in secrets {
        let shown = output.lines().find(|line| line.contains(secret));
        assert_eq!(shown, None, "it holds {secret}");
    }
}

/// Runs the collector until its log holds one of `told`, stops it, and checks what it has said.
async fn run(setting: &Setting, told: &[&str], keys: &[&str]) {
    let mut collector = start(setting);
    let said = async {
        while told.iter().all(|part| collector.log_with(part).is_empty()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let said = tokio::time::timeout(PATIENCE, said).await;
    said.unwrap_or_else(|_| panic!("none of {told:?}:\n{}", log(&collector)));
    collector.stop(PATIENCE).await.unwrap();
    assert!(
        !collector.log_with("TRACE").is_empty(),
        "{}",
        log(&collector)
    );
    assert!(
        setting.relay.messages().len() > 1 || told != ["window delivered"],
        "{}",
        log(&collector)
    );
    check(setting, &collector, keys);
}

/// What the log says of a request that has failed.
const FAILED: [&str; 2] = ["fetching failed", "refused;"];

fn configure(setting: &Setting, credentials: Option<Credentials>) {
    let input = setting.input();
    let input = match credentials {
        Some(credentials) => input.credentials(credentials),
        None => input,
    };
    let input = input.service_from(Report::MessageTrace, setting.ago(30), &[]);
    setting.configure(input);
}

fn answer(status: u16, content_type: &str, body: String) -> Fault {
    Fault::Answer {
        status,
        content_type: content_type.to_owned(),
        body,
    }
}

/// Answers for a token that are of no use, some of which repeat what was asked.
fn bad_grants() -> Vec<Fault> {
    let json = "application/json";
    vec![
        answer(
            401,
            json,
            format!(
                r#"{{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret '{SECRET}' provided."}}"#
            ),
        ),
        answer(
            400,
            "text/html",
            format!("<html><title>client_secret={SECRET}</title></html>"),
        ),
        answer(
            200,
            json,
            format!(r#"{{"access_token":["{TOKEN}abc"],"secret":"{SECRET}"}}"#),
        ),
        answer(
            200,
            json,
            format!(r#"{{"access_token":"{TOKEN}abc\n","expires_in":"soon"}}"#),
        ),
        answer(200, json, format!(r#"{{"access_token":"{TOKEN}abc""#)),
        Fault::SignInPage,
        Fault::ServerError,
        Fault::CutBody,
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn not_the_applications_secret_nor_its_tokens() {
    // One run for each answer: after some of them there is a long wait.
    for fault in bad_grants() {
        let setting = setting().await;
        setting.service.fault(Target::Token, When::Next(1), fault);
        configure(&setting, None);
        run(&setting, &FAILED, &[]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn not_under_faults_of_the_service_and_the_relay() {
    for fault in [
        Fault::BadRequest,
        Fault::Unauthorized,
        Fault::Forbidden,
        Fault::NotFound,
        Fault::ServerError,
        Fault::Throttled(None),
        Fault::Busy(None),
        Fault::SignInPage,
        Fault::CutBody,
        Fault::CutChunked,
        Fault::EndsEarly,
        Fault::CutGzip,
        Fault::ResetBeforeHeaders,
        Fault::ResetAfterHeaders,
        Fault::RepeatedLink,
        Fault::ForeignLink(format!("https://elsewhere.invalid/?secret={SECRET}")),
        Fault::RefusedLink,
        Fault::RevokeTokens,
        Fault::Redirect(format!("https://login.invalid/?secret={SECRET}")),
        Fault::ContentType("text/html".to_owned()),
    ] {
        let setting = setting().await;
        // A token that is rejected is asked for once more.
        setting
            .service
            .fault(Report::MessageTrace, When::Next(2), fault);
        configure(&setting, None);
        // Some of these do no harm where the result has one page.
        let told = [
            &FAILED[..],
            &["throttled:", "walked again", "window delivered"],
        ]
        .concat();
        run(&setting, &told, &[]).await;
    }
    for behaviour in [
        Behaviour::Refuse,
        Behaviour::FailHandshake,
        Behaviour::ResetAfter(10_000),
        Behaviour::CloseAfter(10_000),
        Behaviour::ResetOnEnd,
    ] {
        let setting = setting().await;
        setting.relay.next_times(3, behaviour);
        configure(&setting, None);
        run(&setting, &["delivery failed", "delivery waits"], &[]).await;
        run(&setting, &["window delivered"], &[]).await;
    }
}

/// Answers that repeat what they were asked with, each in other places.
fn repeating(target: Target) -> Vec<Fault> {
    let repeats = |status, headers: &[(&str, &str)], body: &str| Fault::Repeats {
        status,
        headers: headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        body: body
            .replace("{odd}", "\u{202e}\u{1b}[2J\u{9b}31m\u{200b}")
            .replace("{json}", "\u{202e}\\u001b[2J\\u009b31m\\u200B"),
    };
    let mut faults = vec![
        repeats(
            403,
            &[],
            "<title>{odd}refused: {asked} / {percent} / {base64}</title>",
        ),
        repeats(
            401,
            &[
                ("x-ms-diagnostics", "4;reason=\"{asked}\""),
                ("www-authenticate", "Bearer error=\"{percent}\""),
            ],
            "",
        ),
        repeats(
            400,
            &[],
            r#"{"error":{"code":"{json}","message":{"lang":"en","value":"{json}{asked}"}}}"#,
        ),
        repeats(
            500,
            &[("request-id", "{asked}")],
            "<ServiceFault><Message>{base64}{odd}</Message></ServiceFault>",
        ),
        repeats(
            302,
            &[("location", "https://elsewhere.invalid/{percent}/{base64}")],
            "",
        ),
        repeats(
            200,
            &[],
            r#"{"value":[],"odata.nextLink":"https://elsewhere.invalid:{asked}{json}"}"#,
        ),
    ];
    if target == Target::Token {
        faults.push(repeats(
            401,
            &[],
            r#"{"error":"{asked}{json}","error_description":"AADSTS99: {percent}","error_codes":[99]}"#,
        ));
    }
    faults
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn not_what_the_other_side_repeats_in_the_log_nor_on_the_page_nor_to_an_operator() {
    for target in [Target::Reports, Target::Token] {
        let mut removed = 0;
        for fault in repeating(target) {
            let setting = setting().await;
            let what = format!("in trouble by {fault:?}");
            setting.service.fault(target, When::Always, fault);
            let input = setting.input();
            let input = input.service_from(Report::MessageTrace, setting.ago(30), &[]);
            let monitoring = format!("{{listen: {}}}", free_port());
            setting.configure_watched(input, &monitoring);
            let mut watched = Watched::of(start(&setting)).await;
            let trouble = |service: &Value| service["trouble"]["error"].is_string();
            watched.until_it(trouble, &what).await;
            for path in ["/", "/status", "/metrics", "/healthz", "/log"] {
                let (_, text) = watched.get(path).await;
                check_text(&setting, &text, &[]);
            }
            for command in [
                &["check"][..],
                &["check", "--json"],
                &["support-bundle", "--output", "-"],
            ] {
                let made = Command::new(program())
                    .args(command)
                    .current_dir(setting.folder.path())
                    .stdin(Stdio::null())
                    .output();
                let made = made.unwrap();
                let mut text = String::from_utf8_lossy(&made.stderr).into_owned();
                if command[0] == "check" {
                    text.push_str(&String::from_utf8_lossy(&made.stdout));
                    removed += usize::from(text.contains("(removed)"));
                } else {
                    let mut archive = tar::Archive::new(GzDecoder::new(made.stdout.as_slice()));
                    for file in archive.entries().unwrap() {
                        file.unwrap().read_to_string(&mut text).unwrap();
                    }
                    assert!(text.contains("status.json"), "{text}");
                }
                check_text(&setting, &text, &[]);
            }
            watched.collector.stop(PATIENCE).await.unwrap();
            check(&setting, &watched.collector, &[]);
        }
        // Not in all of them: nothing is shown of a page where a token belongs, and the secret may stand behind what is cut off.
        assert!(removed >= 2 * 5, "{target:?}: shown in {removed} places");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn not_a_password() {
    let setting = setting().await;
    let credentials = Credentials::Basic {
        username: USER.to_owned(),
        password: SECRET.to_owned(),
    };
    configure(&setting, Some(credentials));
    run(&setting, &["window delivered"], &[]).await;
    setting
        .service
        .adjust(|options| options.access.basic = None);
    run(&setting, &["refused;"], &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn not_a_proxys_password() {
    let setting = setting().await;
    // Only names that are not of this machine go through a proxy; that they do not exist is for the proxy to find out.
    let input = setting
        .input()
        .option("base_url", "https://reports.invalid/")
        .option("authority_url", "https://login.invalid/")
        .service_from(Report::MessageTrace, setting.ago(30), &[]);
    setting.configure(input);
    for status in ["407 Proxy Authentication Required", "502 Bad Gateway"] {
        let proxy = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://me:{SECRET}@{}", proxy.local_addr().unwrap());
        let asked = Arc::new(AtomicBool::new(false));
        let seen = asked.clone();
        let serving = tokio::spawn(async move {
            while let Ok((mut stream, _)) = proxy.accept().await {
                let mut request = [0; 4_096];
                let read = stream.read(&mut request).await.unwrap_or_default();
                let request = String::from_utf8_lossy(&request[..read]).into_owned();
                seen.store(request.contains("Basic "), Relaxed);
                let answer = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{request}",
                    request.len()
                );
                stream.write_all(answer.as_bytes()).await.ok();
            }
        });
        let mut collector = Collector::start_with(program(), &setting.folder, |command| {
            command.env("RUST_LOG", "trace").env("HTTPS_PROXY", &url);
        })
        .unwrap();
        let line = collector
            .wait_for("fetching failed", PATIENCE)
            .await
            .unwrap();
        assert!(line.contains("login.invalid"), "{line}");
        collector.stop(PATIENCE).await.unwrap();
        serving.abort();
        assert!(asked.load(Relaxed), "the proxy was not shown a password");
        let pair = BASE64_STANDARD.encode(format!("me:{SECRET}"));
        assert!(!collector.log().join("\n").contains(&pair));
        check(&setting, &collector, &[]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn not_a_key_nor_what_it_has_signed() {
    let setting = setting().await;
    let identity = setting
        .pki
        .authority
        .issue(&Wish::client().form(KeyForm::RsaPkcs8));
    let identity = identity.unwrap();
    let folder = setting.folder.path().join("credentials");
    let access = setting.service.options().access;
    let credentials = Credentials::Certificate {
        tenant_id: access.tenant,
        client_id: access.app.client_id,
        client_certificate: "app.crt".to_owned(),
        client_key: "app.key".to_owned(),
    };
    configure(&setting, Some(credentials));
    let keys = [identity.key.as_str()];
    identity.write(&folder, "app").unwrap();
    // The directory does not know the certificate yet; then it does.
    run(&setting, &["refused;"], &keys).await;
    setting
        .service
        .adjust(|options| options.access.app.certificate = Some(identity.certificate.clone()));
    run(&setting, &["window delivered"], &keys).await;

    // Damaged files: a line lost, a line doubled, the end cut off.
    let own = setting.pki.client.key.as_str();
    for (path, key) in [
        (folder.join("app.key"), identity.key.as_str()),
        (setting.folder.certs().join("collector.key"), own),
    ] {
        let lines: Vec<_> = key.lines().collect();
        let damaged = [
            [&lines[..1], &lines[2..]].concat(),
            [&lines[..2], &lines[1..]].concat(),
            lines[..lines.len() - 1].to_vec(),
            lines[1..].to_vec(),
        ];
        for damaged in damaged {
            std::fs::write(&path, damaged.join("\n").replace("==", "=*")).unwrap();
            let mut collector = start(&setting);
            let ended = collector.wait(PATIENCE).await.unwrap();
            assert_eq!(ended.code, Some(78), "{}", log(&collector));
            check(&setting, &collector, &keys);
        }
        std::fs::write(&path, key).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn not_in_what_is_said_of_a_wrong_configuration() {
    let setting = setting().await;
    let input: Input = setting
        .input()
        .service_from(Report::MessageTrace, setting.ago(30), &[]);
    let good = Config::new(input, Output::relay(setting.relay.port())).yaml();
    let in_place = format!("client_secret: \"{SECRET}\"");
    assert!(good.contains(&in_place));
    std::fs::write(
        setting.folder.path().join("credentials/two"),
        format!("{SECRET}\n{SECRET}"),
    )
    .unwrap();
    std::fs::write(setting.folder.path().join("credentials/one"), SECRET).unwrap();
    let wrong = [
        format!("client_secret: [{SECRET}]"),
        format!("client_secret: {{{SECRET}: {SECRET}}}"),
        format!("client_secret: @{SECRET}"),
        format!("client_secret: !{SECRET}"),
        format!("client_secret: *{SECRET}"),
        format!("client_secret: \"{SECRET}"),
        format!("client_secert: {SECRET}"),
        format!("\tclient_secret: {SECRET}"),
        format!("client_secret: {SECRET}\n      client_secret: {SECRET}"),
        format!("client_secret: {SECRET}\n      client_secret_file: one"),
        format!("client_secret: {SECRET}\n      username: {SECRET}"),
        "client_secret_file: two".to_owned(),
        "client_secret_file: three".to_owned(),
        "username: ${OF_THE_APP}\n      password: ${OF_THE_APP}".to_owned(),
    ];
    for wrong in wrong {
        setting
            .folder
            .configure_raw(&good.replace(&in_place, &wrong))
            .unwrap();
        let mut collector = start(&setting);
        let ended = collector.wait(PATIENCE).await.unwrap();
        assert_eq!(ended.code, Some(78), "{wrong}: {}", log(&collector));
        check(&setting, &collector, &[]);
    }
}
