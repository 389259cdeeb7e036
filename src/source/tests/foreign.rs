//! What the other side repeats of our secrets, and the characters that it puts into its texts: none of it is shown, wherever it stands.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::*;

const SECRET: &str = "Nq8~Zp.3xK/w+Rt=vB71";
const TOKEN: &str = "eyJ0eXAiOiJKV1Qi.Zm9vYmFyYmF6cXV4LTEyMzQ1Njc4OTA.c2lnbmF0dXJl_LQ";
/// Turns the direction of a text, clears the screen, and hides a character.
const STEERING: &str = "\u{202e}\u{1b}[2J\u{9b}1m\u{200b}";

fn percent(secret: &str) -> String {
    let bytes = secret.bytes().map(|byte| format!("%{byte:02x}"));
    bytes.collect::<Vec<_>>().concat()
}

/// A secret as it may be repeated.
fn spellings(secret: &str) -> Vec<String> {
    let percent = percent(secret);
    let (half, other) = secret.split_at(secret.len() / 2);
    vec![
        secret.to_owned(),
        percent.to_uppercase(),
        percent,
        secret.to_ascii_uppercase(),
        BASE64_STANDARD.encode(format!("client:{secret}")),
        secret.replace('/', "\\/"),
        secret.replace('+', "\\u002b").replace('=', "\\u003D"),
        format!("{half} / {other}"),
        half.to_owned(),
        other.to_owned(),
        // Where the text is shortened, a piece is left.
        format!("{}{secret}", "x".repeat(290)),
    ]
}

/// Answers that repeat `text`, each in another place.
fn answers(text: &str) -> Vec<Vec<u8>> {
    let json = serde_json::to_string(text).unwrap();
    let path: String = text
        .chars()
        .filter(char::is_ascii_graphic)
        .filter(|c| !"#?/\\".contains(*c))
        .collect();
    let host: String = text.chars().filter(char::is_ascii_alphanumeric).collect();
    let header = |name: &str| format!("{name}: {path}\r\n");
    vec![
        answer(403, "", format!("<title>no {text}</title>")),
        answer(
            400,
            "",
            format!(r#"{{"error":{{"code":"","message":{{"value":{json}}}}}}}"#),
        ),
        answer(
            500,
            "",
            format!(r#"{{"ErrorCode":{json},"Message":{json}}}"#),
        ),
        answer(
            500,
            "",
            format!("<ServiceFault><Message>{text}</Message></ServiceFault>"),
        ),
        answer(
            200,
            "",
            format!(r#"{{"odata.error":{{"message":{json}}}}}"#),
        ),
        answer(200, "", format!("<title>{text}</title>")),
        answer(
            302,
            &format!("location: https://elsewhere.example/{path}/x\r\n"),
            "",
        ),
        answer(
            302,
            &format!("location: https://{path}@elsewhere.example/\r\n"),
            "",
        ),
        answer(500, &header("x-ms-request-id"), ""),
        answer(401, &header("x-ms-diagnostics"), ""),
        answer(
            401,
            &format!("www-authenticate: Bearer error_description=\"{path}\"\r\n"),
            "",
        ),
        page("{}", Some(&format!("https://[{path}"))),
        page("{}", Some(&format!("https://{host}.example/"))),
        page("{}", Some(&format!("https://elsewhere.example/{path}"))),
    ]
}

/// All that is shown of an error, and what must not be in it: no half of the secret, in no case, however written.
fn check(error: &FetchError, secret: &str) {
    let chain = crate::error::chain(error);
    let shown = format!(
        "{error:?} {chain} {:?} {:?}",
        error.request_id(),
        error.action()
    );
    let lower = shown.to_lowercase();
    let percent = percent(secret);
    let base64 = BASE64_STANDARD
        .encode(format!("client:{secret}"))
        .to_lowercase();
    for part in [secret.to_lowercase(), percent, base64[12..].to_owned()] {
        for at in 0..part.len() - 9 {
            let piece = &part[at..at + 10];
            assert!(!lower.contains(piece), "{piece} in {shown}");
        }
    }
    assert!(!chain.chars().any(crate::foreign::steers), "{chain:?}");
}

/// A server that answers requests for a token by `token`, and others by what `next` holds.
async fn echo(token: Option<&'static str>) -> (Server, Arc<Mutex<Vec<u8>>>) {
    let next = Arc::<Mutex<Vec<u8>>>::default();
    let answers = Arc::clone(&next);
    let server = Server::start(move |request, _| match token {
        Some(token) if request.contains(TOKEN_PATH) => answer(
            200,
            "",
            format!(r#"{{"access_token":"{token}","expires_in":3599}}"#),
        ),
        _ => answers.lock().unwrap().clone(),
    });
    (server.await, next)
}

fn credentials() -> Credentials {
    Credentials::Secret {
        tenant_id: "tenant".to_owned(),
        client_id: "client".to_owned(),
        client_secret: SECRET.into(),
    }
}

#[tokio::test]
async fn no_place_of_an_answer_shows_the_token_or_the_secret_that_it_repeats() {
    let (server, next) = echo(Some(TOKEN)).await;
    let client = server.client(credentials());
    for secret in [TOKEN, SECRET] {
        for spelling in spellings(secret) {
            for answer in answers(&format!("{spelling}{STEERING}")) {
                *next.lock().unwrap() = answer;
                let mut walk = client.walk(query(), &fingerprinter());
                let error = match walk.next().await {
                    Err(error) => error,
                    Ok(_) => walk.next().await.unwrap_err(),
                };
                check(&error, secret);
            }
        }
    }
}

#[tokio::test]
async fn no_answer_of_the_directory_shows_the_secret_that_it_repeats() {
    let (server, next) = echo(None).await;
    let client = server.client(credentials());
    for spelling in spellings(SECRET) {
        let text = format!("{spelling}{STEERING}");
        let json = serde_json::to_string(&text).unwrap();
        let (half, other) = SECRET.split_at(10);
        for answer in answers(&text).into_iter().chain([
            answer(401, "", format!(r#"{{"error":"invalid_client","error_description":{json},"error_codes":[7000215]}}"#)),
            answer(401, "", format!(r#"{{"error":{json}}}"#)),
            answer(401, "", format!(r#"{{"error":"{half}","error_description":"{other}"}}"#)),
            answer(200, "", format!(r#"{{"access_token":{json},"expires_in":3599}}"#)),
        ]) {
            *next.lock().unwrap() = answer;
            let error = client.sign_in().await.unwrap_err();
            check(&error, SECRET);
            pass(Duration::from_mins(1)).await;
        }
    }
}

#[tokio::test]
async fn a_token_that_was_renewed_is_not_shown_either() {
    let issued = std::sync::atomic::AtomicUsize::new(0);
    let name = |nth: usize| {
        format!(
            "{}{TOKEN}",
            ["first-one.", "second-one.", "third-one."][nth]
        )
    };
    let server = Server::start(move |request, _| {
        if request.contains(TOKEN_PATH) {
            let nth = issued.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let body = format!(
                r#"{{"access_token":"{}","expires_in":3599}}"#,
                name(nth.min(2))
            );
            return answer(200, "", body);
        }
        if request.contains("third-one") {
            return answer(
                403,
                "",
                format!("<title>{} {} {}</title>", name(0), name(1), name(2)),
            );
        }
        answer(401, "", "")
    })
    .await;
    let mut walk = server.client(secret()).walk(query(), &fingerprinter());
    assert_eq!(walk.next().await.unwrap_err().kind(), Kind::Unauthorized);
    let error = walk.next().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Forbidden, "{error}");
    assert!(
        error
            .to_string()
            .ends_with(": (removed) (removed) (removed)"),
        "{error}"
    );
}

#[tokio::test]
async fn a_password_and_its_header_are_not_shown() {
    let password = "pw";
    let pair = BASE64_STANDARD.encode(format!("user@example.com:{password}"));
    let shown = pair.clone();
    let server = Server::start(move |_, _| {
        answer(
            403,
            "",
            format!("<title>a pwned user, password={password}, Basic {pair}</title>"),
        )
    })
    .await;
    let credentials = Credentials::Basic {
        username: "user@example.com".to_owned(),
        password: password.into(),
    };
    let error = server
        .client(credentials)
        .walk(query(), &fingerprinter())
        .next()
        .await
        .unwrap_err();
    assert!(!error.to_string().contains(&shown[..8]), "{error}");
    assert!(
        error
            .to_string()
            .ends_with("a pwned user, password=(removed), Basic (removed)"),
        "{error}"
    );
}
