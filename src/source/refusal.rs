//! What it means when the tenant's directory gives no token.
//!
//! The directory answers with an OAuth error and a description that begins with a code, `AADSTS…`. The codes are documented
//! by Microsoft ("Microsoft Entra authentication and authorization error codes"); the common mistakes get advice of their own.

use reqwest::StatusCode;
use serde::Deserialize;

use super::error::{FetchError, Kind, shown};
use super::fault;

/// What a person can do about a code.
const ADVICE: [(&str, &str); 10] = [
    (
        "AADSTS7000215",
        "`client_secret` is wrong: it must be the secret's value, not its id",
    ),
    (
        "AADSTS7000222",
        "`client_secret` has expired: make a new one in the application's registration",
    ),
    (
        "AADSTS700016",
        "the tenant does not know the application: check `client_id` and `tenant_id`",
    ),
    (
        "AADSTS7000112",
        "the application is disabled in the tenant: enable it",
    ),
    (
        "AADSTS700027",
        "the directory does not accept the certificate: upload `client_certificate` to the application's registration, \
         and check that it has not expired",
    ),
    (
        "AADSTS700023",
        "the assertion's audience is not accepted: check `authority_url` and `tenant_id`",
    ),
    (
        "AADSTS90002",
        "there is no such tenant: check `tenant_id`, and `authority_url` for national clouds",
    ),
    (
        "AADSTS900023",
        "`tenant_id` is neither a directory's id nor a domain",
    ),
    (
        "AADSTS70011",
        "the scope is not accepted: check the `base_url` and `authority_url` of your national cloud",
    ),
    (
        "AADSTS500011",
        "the tenant has no such service: check the scope, and that Exchange Online is licensed",
    ),
];

/// Codes of failures that pass by themselves, though the error may read as a refusal. 700024: the proof's times are off; the
/// next one goes by the directory's clock.
const PASSING: [&str; 5] = [
    "AADSTS700024",
    "AADSTS90033",
    "AADSTS90006",
    "AADSTS50196",
    "AADSTS90025",
];

/// An OAuth error, as far as it is looked at.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Fault {
    error: String,
    error_description: String,
}

/// What a directory's answer without a token means. `redact` takes out of a text what must not be shown.
pub(super) fn refused(
    status: StatusCode,
    body: &[u8],
    redact: impl Fn(&str) -> String,
) -> FetchError {
    let fault: Fault = serde_json::from_slice(body).unwrap_or_default();
    let code = code(&fault.error_description);
    let passing = status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
        || !status.is_client_error()
        || matches!(
            fault.error.as_str(),
            "temporarily_unavailable" | "server_error"
        )
        || code.is_some_and(|code| PASSING.contains(&code));
    let kind = if passing {
        Kind::SignInFailed
    } else {
        Kind::SignInRefused
    };

    // What follows the first line is an id and a time stamp.
    let description = fault.error_description.split(['\r', '\n']).next();
    let description = description
        .filter(|text| !text.trim().is_empty())
        .map(&redact)
        .map(|text| shown(&text));
    let reason = match (fault.error.is_empty(), description) {
        (false, Some(description)) => {
            Some(format!("{}: {description}", shown(&redact(&fault.error))))
        }
        (false, None) => Some(shown(&redact(&fault.error))),
        // A token or a page that could not be read is not shown: only what is certainly a message.
        (true, _) => fault::message(body).map(|text| shown(&redact(&text))),
    };
    let message = format!(
        "the directory gave no token and answered {}{}",
        status.as_u16(),
        reason
            .map(|reason| format!(" with {reason}"))
            .unwrap_or_default(),
    );
    let error = FetchError::new(kind, message);
    let advice = ADVICE.iter().find(|(known, _)| code == Some(known));
    match (advice, status) {
        _ if passing => error,
        (Some((_, advice)), _) => error.with_action(*advice),
        (None, StatusCode::NOT_FOUND) => error.with_action("check `authority_url` and `tenant_id`"),
        (None, _) => error,
    }
}

/// The code at the beginning of a description, such as `AADSTS7000215`.
fn code(description: &str) -> Option<&str> {
    let description = description.trim_start();
    let digits = description.strip_prefix("AADSTS")?;
    let end = digits
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(digits.len());
    Some(&description[.."AADSTS".len() + end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::error::Remedy;

    fn check(status: u16, body: &str, remedy: Remedy, message: &str, action: Option<&str>) {
        let status = StatusCode::from_u16(status).unwrap();
        let error = refused(status, body.as_bytes(), |text| text.replace("hush", "…"));
        assert_eq!(error.remedy(), remedy, "{body}");
        assert_eq!(error.to_string(), message, "{body}");
        let got = error.action();
        assert!(
            action.is_none_or(|part| got.as_deref().is_some_and(|got| got.contains(part))),
            "{body}: {got:?}",
        );
    }

    #[test]
    fn refusals_name_the_parameter() {
        check(
            401,
            r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret hush provided.\r\nTrace ID: 1","error_codes":[7000215]}"#,
            Remedy::AskOperator,
            "the directory gave no token and answered 401 with invalid_client: AADSTS7000215: Invalid client secret … provided.",
            Some("the secret's value, not its id"),
        );
        check(
            400,
            r#"{"error":"unauthorized_client","error_description":"AADSTS700016: Application not found."}"#,
            Remedy::AskOperator,
            "the directory gave no token and answered 400 with unauthorized_client: AADSTS700016: Application not found.",
            Some("`client_id`"),
        );
        check(
            400,
            r#"{"error":"invalid_request","error_description":"AADSTS90002: Tenant 'x' not found."}"#,
            Remedy::AskOperator,
            "the directory gave no token and answered 400 with invalid_request: AADSTS90002: Tenant 'x' not found.",
            Some("`tenant_id`"),
        );
        check(
            400,
            r#"{"error":"invalid_grant","error_description":"AADSTS99: New."}"#,
            Remedy::AskOperator,
            "the directory gave no token and answered 400 with invalid_grant: AADSTS99: New.",
            Some("`client_id`"),
        );
        check(
            404,
            "<html><head><title>Not here</title></head></html>",
            Remedy::AskOperator,
            "the directory gave no token and answered 404 with Not here",
            Some("`authority_url`"),
        );
    }

    #[test]
    fn what_passes_by_itself_is_tried_again() {
        for (status, body, reason) in [
            (429, "", ""),
            (500, "{}", ""),
            (503, "<html>", ""),
            (302, "", ""),
            (200, r#"{"access_token":7,"hush":"hush"}"#, ""),
            (
                400,
                r#"{"error":"temporarily_unavailable"}"#,
                " with temporarily_unavailable",
            ),
            (
                401,
                r#"{"error":"invalid_client","error_description":"AADSTS700024: Client assertion is not within its valid time range."}"#,
                " with invalid_client: AADSTS700024: Client assertion is not within its valid time range.",
            ),
        ] {
            let message = format!("the directory gave no token and answered {status}{reason}");
            check(status, body, Remedy::BackOff, &message, None);
        }
    }
}
