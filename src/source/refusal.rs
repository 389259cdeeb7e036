//! What it means when no token comes.
//!
//! The directory answers with an OAuth error (RFC 6749, 5.2), to which Microsoft's adds its own [`codes`]: as numbers in `error_codes`, and at the
//! beginning of the description. An answer that is no such error does not come from the directory, but from something on the way to it.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde_json::Value;
use url::Url;

use super::answer;
use super::challenge;
use super::codes::{self, PASSING, TOO_OFTEN};
use super::error::{FetchError, Kind, shown};
use super::fault;

/// No token, and why.
pub(super) struct Refusal {
    pub(super) error: FetchError,
    /// How long the directory wants to be left alone, if it says so.
    pub(super) pause: Option<Duration>,
    /// Whether it is the directory that has answered, and nothing on the way to it.
    pub(super) by_the_directory: bool,
}

/// How long the directory is left alone that says it is asked too often, and not for how long.
const PAUSE: Duration = Duration::from_mins(1);

/// What the answer without a token to a request to `url` means.
pub(super) fn refused(status: StatusCode, headers: &HeaderMap, body: &[u8], url: &Url) -> Refusal {
    let pause = answer::pause(status, headers);
    match Fault::read(body) {
        Some(fault) => said_by_the_directory(&fault, status, pause),
        None => said_on_the_way(status, headers, body, url, pause),
    }
}

fn said_by_the_directory(fault: &Fault, status: StatusCode, pause: Option<Duration>) -> Refusal {
    let has = |known: &[u32]| fault.codes.iter().any(|code| known.contains(code));
    let pause = pause.or_else(|| has(&TOO_OFTEN).then_some(PAUSE));
    let advice = fault.codes.iter().find_map(|code| codes::advice(*code));
    let passing = status.is_server_error()
        || matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
        )
        || matches!(
            fault.error.as_str(),
            "temporarily_unavailable" | "server_error" | "slow_down"
        )
        || (advice.is_none() && has(&PASSING))
        || has(&TOO_OFTEN);
    let kind = match (passing, pause) {
        (false, _) if advice.is_some() => Kind::SignInRefused,
        (_, Some(_)) => Kind::Throttled,
        (true, None) => Kind::SignInFailed,
        (false, None) => Kind::SignInRefused,
    };
    let reason = match &fault.description {
        Some(description) => format!("{}: {description}", shown(&fault.error)),
        None => shown(&fault.error),
    };
    let text = format!(
        "the directory gave no token and answered {}{} with {reason}",
        status.as_u16(),
        asked(pause)
    );
    let error = FetchError::new(kind, text);
    let error = match (kind, advice, fault.codes.first()) {
        (Kind::Throttled, ..) => error.with_action(TOO_MANY),
        (Kind::SignInRefused, Some(advice), _) => error.with_action(advice),
        (Kind::SignInRefused, None, Some(code)) => {
            let general = error.action().unwrap_or_default();
            let look = format!(
                "https://login.microsoftonline.com/error?code={code} says what AADSTS{code} means; {general}"
            );
            error.with_action(look)
        }
        _ => error,
    };
    Refusal {
        error,
        pause,
        by_the_directory: true,
    }
}

const TOO_MANY: &str = "if this lasts, look for another client that asks for tokens in the name of this `client_id`, or raise it with Microsoft's \
     support";

fn said_on_the_way(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    url: &Url,
    pause: Option<Duration>,
) -> Refusal {
    let said = match answer::location(headers).filter(|_| status.is_redirection()) {
        Some(place) => format!(": it points to {place}, which is not followed"),
        None => fault::message(body).map_or(String::new(), |message| format!(": {message}")),
    };
    let reasons = challenge::reason(status, headers);
    let reasons = reasons.map_or(String::new(), |reasons| format!(" ({reasons})"));
    let busy = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
    let kind = if pause.is_some() {
        Kind::Throttled
    } else {
        Kind::SignInFailed
    };
    let text = format!(
        "the request for a token was answered {}{}, and not by a directory{said}{}",
        answer::status_text(status),
        asked(pause),
        reasons,
    );
    let error = FetchError::new(kind, text);
    let host = url.host_str().unwrap_or_default();
    let advice = format!(
        "something between this machine and the directory has answered in its place, such as a proxy, a captive portal or an inspection of TLS: let \
         {host} pass there, or check HTTPS_PROXY, NO_PROXY and `authority_url`"
    );
    Refusal {
        error: match kind {
            Kind::Throttled => error.with_action(TOO_MANY),
            _ if busy => error,
            _ => error.with_action(advice),
        },
        pause,
        by_the_directory: false,
    }
}

fn asked(pause: Option<Duration>) -> String {
    pause.map_or(String::new(), |pause| {
        format!(", asking for a pause of {} s", pause.as_secs())
    })
}

/// An OAuth error, as far as it is looked at.
struct Fault {
    error: String,
    /// Its first line, as it may be shown: an id and a time stamp follow.
    description: Option<String>,
    codes: Vec<u32>,
}

impl Fault {
    /// `None` where `body` is no OAuth error.
    fn read(body: &[u8]) -> Option<Self> {
        let body: Value = serde_json::from_slice(super::grant::without_mark(body)).ok()?;
        let error = body.get("error")?.as_str()?.to_owned();
        let description = body.get("error_description").and_then(Value::as_str);
        let description = description.unwrap_or_default();
        let listed = body.get("error_codes").and_then(Value::as_array);
        let listed = listed.into_iter().flatten().filter_map(number);
        let codes = listed
            .chain(code(description))
            .chain(code(&error))
            .collect();
        let first = description
            .split(['\r', '\n'])
            .find(|line| !line.trim().is_empty());
        Some(Self {
            error,
            description: first.map(shown).filter(|line| !line.is_empty()),
            codes,
        })
    }
}

/// A code in a list: a number, which something on the way may have made a text of.
fn number(code: &Value) -> Option<u32> {
    match code {
        Value::String(text) => text.trim().trim_start_matches("AADSTS").parse().ok(),
        other => other.as_u64()?.try_into().ok(),
    }
}

/// The first code in a text, such as 7000215 in `AADSTS7000215: …`.
fn code(text: &str) -> Option<u32> {
    let (_, digits) = text.split_once("AADSTS")?;
    let end = digits
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(digits.len());
    digits[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::error::Remedy;

    fn refusal(status: u16, headers: &[(&'static str, &str)], body: &str) -> Refusal {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let url = Url::parse("https://login.example/tenant/oauth2/v2.0/token").unwrap();
        refused(
            StatusCode::from_u16(status).unwrap(),
            &headers.collect(),
            body.as_bytes(),
            &url,
        )
    }

    fn check(status: u16, body: &str, remedy: Remedy, message: &str, action: &str) {
        let error = refusal(status, &[], body).error;
        assert_eq!(
            (error.remedy(), error.to_string().as_str()),
            (remedy, message),
            "{body}"
        );
        let told = error.action().unwrap_or_default();
        assert!(told.contains(action), "{body}: {told}");
    }

    #[test]
    fn refusals_name_the_parameter() {
        let _hidden = crate::foreign::hide("hush-hush-8812");
        check(
            401,
            r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret hush-hush-8812 provided.\r\nTrace ID: 1","error_codes":[7000215]}"#,
            Remedy::AskOperator,
            "the directory gave no token and answered 401 with invalid_client: AADSTS7000215: Invalid client secret (removed) provided.",
            "the secret's value, not its id",
        );
        check(
            400,
            r#"{"error":"unauthorized_client","error_description":"AADSTS700016: Application not found."}"#,
            Remedy::AskOperator,
            "the directory gave no token and answered 400 with unauthorized_client: AADSTS700016: Application not found.",
            "`client_id`",
        );
        check(
            400,
            r#"{"error":"invalid_grant","error_description":"AADSTS99: New."}"#,
            Remedy::AskOperator,
            "the directory gave no token and answered 400 with invalid_grant: AADSTS99: New.",
            "error?code=99 says what AADSTS99 means; check `tenant_id`",
        );
        check(
            400,
            r#"{"error":"invalid_client"}"#,
            Remedy::AskOperator,
            "the directory gave no token and answered 400 with invalid_client",
            "`client_id`",
        );
    }

    #[test]
    fn each_common_code_has_advice_of_its_own() {
        for (code, part) in [
            (7_000_215, "`client_secret` is wrong"),
            (7_000_222, "`client_secret` has expired"),
            (700_016, "`client_id` and `tenant_id`"),
            (7_000_229, "service principal"),
            (7_000_112, "disabled"),
            (700_027, "upload `client_certificate`"),
            (90_002, "no such tenant"),
            (900_023, "neither a directory's id nor a domain"),
            (50_194, "`common`"),
            (50_034, "a user's account"),
            (70_011, "scope"),
            (1_002_012, "scope"),
            (500_011, "licensed"),
            (65_001, "consent"),
            (650_057, "consent"),
            (53_003, "Conditional Access"),
            (530_032, "Conditional Access"),
            (500_021, "`Restrict-Access-To-Tenants`"),
            (90_038, "national cloud"),
            (50_105, "assign"),
        ] {
            // The code comes in any of the three places.
            for body in [
                format!(r#"{{"error":"invalid_client","error_codes":[{code}]}}"#),
                format!(
                    r#"{{"error":"invalid_client","error_description":"New words.","error_codes":["{code}"]}}"#
                ),
                format!(
                    r#"{{"error":"x","error_description":"Error: AADSTS{code}: words","error_codes":[]}}"#
                ),
                format!("\u{feff}\r\n{{\"error\":\"AADSTS{code}\",\"error_codes\":null}}"),
            ] {
                let error = refusal(400, &[], &body).error;
                assert_eq!(error.kind(), Kind::SignInRefused, "{body}");
                assert!(
                    error.action().unwrap().contains(part),
                    "{body}: {:?}",
                    error.action()
                );
            }
        }
    }

    #[test]
    fn what_passes_by_itself_is_tried_again() {
        for (status, body) in [
            (400, r#"{"error":"temporarily_unavailable"}"#.to_owned()),
            (
                500,
                r#"{"error":"invalid_client","error_codes":[7000299]}"#.to_owned(),
            ),
            (408, r#"{"error":"invalid_request"}"#.to_owned()),
        ]
        .into_iter()
        .chain(PASSING.map(|code| {
            (
                400,
                format!(r#"{{"error":"invalid_grant","error_codes":[{code}]}}"#),
            )
        })) {
            let refusal = refusal(status, &[], &body);
            assert_eq!(refusal.error.kind(), Kind::SignInFailed, "{body}");
            assert_eq!(refusal.pause, None, "{body}");
        }
    }

    #[test]
    fn a_directory_that_is_asked_too_often_is_left_alone() {
        const SECRET_IS_WRONG: &str = r#"{"error":"invalid_client","error_codes":[7000215]}"#;
        for (status, headers, body, kind, pause) in [
            (429, &[][..], "", Kind::Throttled, Some(60)),
            (
                429,
                &[("retry-after", "120")],
                r#"{"error":"temporarily_unavailable"}"#,
                Kind::Throttled,
                Some(120),
            ),
            (
                503,
                &[("retry-after", "7")],
                "<html>",
                Kind::Throttled,
                Some(7),
            ),
            (
                503,
                &[
                    ("retry-after", "Tue, 07 May 2024 15:40:24 GMT"),
                    ("date", "Tue, 07 May 2024 15:35:24 GMT"),
                ],
                "",
                Kind::Throttled,
                Some(300),
            ),
            (
                400,
                &[("retry-after", "9")],
                r#"{"error":"invalid_request"}"#,
                Kind::Throttled,
                Some(9),
            ),
            (
                400,
                &[],
                r#"{"error":"invalid_grant","error_codes":[50196]}"#,
                Kind::Throttled,
                Some(60),
            ),
            (
                400,
                &[],
                r#"{"error":"invalid_grant","error_codes":[90055]}"#,
                Kind::Throttled,
                Some(60),
            ),
            (503, &[], "", Kind::SignInFailed, None),
            // A person has to act, whatever the pause.
            (
                401,
                &[("retry-after", "9")],
                SECRET_IS_WRONG,
                Kind::SignInRefused,
                Some(9),
            ),
        ] {
            let refusal = refusal(status, headers, body);
            assert_eq!(refusal.error.kind(), kind, "{status} {body}");
            assert_eq!(
                refusal.pause,
                pause.map(Duration::from_secs),
                "{status} {body}"
            );
            assert!(refusal.error.action().is_some(), "{status} {body}");
        }
    }

    #[test]
    fn an_answer_that_is_no_oauth_json_is_not_the_directorys() {
        for (status, headers, body, said) in [
            (
                200,
                &[][..],
                "<html><title>Accept the terms</title></html>",
                "200 OK, and not by a directory: Accept the terms",
            ),
            (
                403,
                &[],
                "<html><title>Blocked by policy</title></html>",
                "403 Forbidden, and not by a directory: Blocked by policy",
            ),
            (
                404,
                &[],
                "not here",
                "404 Not Found, and not by a directory",
            ),
            (
                400,
                &[],
                r#"{"error":{"code":"BadRequest","message":"No."}}"#,
                "400 Bad Request, and not by a directory: No.",
            ),
            (
                401,
                &[],
                r#"{"message":"no"}"#,
                "401 Unauthorized, and not by a directory",
            ),
            (
                200,
                &[],
                r#"{"access_token":7}"#,
                "200 OK, and not by a directory",
            ),
            (200, &[], "", "200 OK, and not by a directory"),
            (
                302,
                &[("location", "https://me:word@portal.example/login?next=x")],
                "",
                "302 Found, and not by a directory: it points to https://portal.example/login, which is not followed",
            ),
        ] {
            let refusal = refusal(status, headers, body);
            assert_eq!(
                (refusal.error.kind(), refusal.error.remedy()),
                (Kind::SignInFailed, Remedy::BackOff),
                "{body}"
            );
            let text = refusal.error.to_string();
            assert!(text.ends_with(said), "{text}");
            let action = refusal.error.action().unwrap();
            assert!(
                action.contains("login.example") && action.contains("HTTPS_PROXY"),
                "{action}"
            );
        }
        let gone = refusal(
            502,
            &[],
            "<html><title>Our services are not available right now</title>",
        )
        .error;
        assert!(gone.action().unwrap().contains("outage of Entra"));
    }
}
