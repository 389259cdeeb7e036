//! The message of an answer that is an error, in any of the forms in which the service and what stands before it put it.
//!
//! Only what is meant as a message is taken, and it is shortened: the rest of such a body may be anything.

use serde_json::Value;

use super::error::shown;

/// No error message is looked for in a body that is longer than this.
pub(super) const BODY_MAX_BYTES: usize = 64 * 1024;

/// The message in the body of an error: an `OData` error, `{"ErrorCode": …, "Message": …}`, a `ServiceFault` document,
/// or a web page's title.
pub(super) fn message(body: &[u8]) -> Option<String> {
    let body = &body[..body.len().min(BODY_MAX_BYTES)];
    let text = String::from_utf8_lossy(body);
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.starts_with('<') {
        return element(text, "message").or_else(|| element(text, "title"));
    }
    let json: Value = serde_json::from_str(text).ok()?;
    let error = json.get("error").or_else(|| json.get("odata.error"));
    match error {
        Some(error) => error_message(error),
        None => words(json.get("Message")?),
    }
}

/// The message of an `OData` error, as the value of `error` or `odata.error`.
pub(super) fn error_object(error: &str) -> Option<String> {
    error_message(&serde_json::from_str(error).ok()?)
}

/// Whether a message is the one that long walks have been answered with; it passes by itself.
pub(super) fn asks_to_wait(message: &str) -> bool {
    message
        .to_ascii_lowercase()
        .contains("cannot currently process your request")
}

/// Whether an answer says that message trace is being retired, in the words of the command behind it (seen).
pub(super) fn tells_of_retirement(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(&body[..body.len().min(BODY_MAX_BYTES)]);
    let text = text.to_ascii_lowercase();
    text.contains("get-messagetracev2")
        || (text.contains("get-messagetrace") && text.contains("deprecat"))
}

/// `OData` 2 and 3 wrap the text in `{"lang": …, "value": …}`, `OData` 4 does not.
fn error_message(error: &Value) -> Option<String> {
    let message = error.get("message")?;
    words(message.get("value").unwrap_or(message)).or_else(|| words(error.get("code")?))
}

fn words(text: &Value) -> Option<String> {
    let text = shown(text.as_str()?);
    (!text.is_empty()).then_some(text)
}

/// The text of the first element whose name is `name`, whatever its case and prefix.
fn element(document: &str, name: &str) -> Option<String> {
    document.split('<').skip(1).find_map(|tag| {
        let (opening, text) = tag.split_once('>')?;
        let qualified = opening.split_ascii_whitespace().next()?;
        let local = qualified.rsplit(':').next()?;
        let text = shown(&unescape(text));
        (local.eq_ignore_ascii_case(name) && !text.is_empty()).then_some(text)
    })
}

fn unescape(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&#39;", "'")
        .replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, expected: Option<&str>) {
        assert_eq!(message(body.as_bytes()).as_deref(), expected, "{body}");
    }

    #[test]
    fn finds_the_message_in_every_form() {
        let odata =
            r#"{"error":{"code":"","message":{"lang":"en-US","value":"The range is wrong."}}}"#;
        check(odata, Some("The range is wrong."));
        check(&format!("\u{feff}\r\n{odata}"), Some("The range is wrong."));
        check(
            r#"{"odata.error":{"code":"x","message":{"lang":"en-US","value":"Wrong."}}}"#,
            Some("Wrong."),
        );
        check(
            r#"{"error":{"code":"BadRequest","message":"Malformed.","innerError":{}}}"#,
            Some("Malformed."),
        );
        check(
            r#"{"error":{"code":"BadRequest","message":""}}"#,
            Some("BadRequest"),
        );
        check(
            r#"{"ErrorCode":"","Message":"No permission to access the report for the organization ."}"#,
            Some("No permission to access the report for the organization ."),
        );
        check(
            "<?xml version=\"1.0\"?><ServiceFault xmlns=\"x\"><ErrorCode/>\n<Message>Say &lt;when&gt; &amp;\n where</Message></ServiceFault>",
            Some("Say <when> & where"),
        );
        check(
            "<m:error xmlns:m=\"x\"><m:code /><m:message xml:lang=\"en-US\">No.</m:message></m:error>",
            Some("No."),
        );
        check(
            "<html><head><TITLE> 401 - Unauthorized </TITLE></head><body>Access is denied</body></html>",
            Some("401 - Unauthorized"),
        );
    }

    #[test]
    fn takes_nothing_that_is_not_meant_as_a_message() {
        for body in [
            "",
            "Bad Request",
            "<html><body>Subject</body></html>",
            "<",
            r#"{"value":[{"Message":"Subject"}]}"#,
            r#"{"error":7}"#,
            r#"{"Message":{"a":1}}"#,
            r#"{"error":{"message":"#,
        ] {
            check(body, None);
        }
        assert_eq!(message(b"\xff\xfe<"), None);
    }

    #[test]
    fn knows_the_request_for_patience() {
        assert!(asks_to_wait(
            "We cannot currently process your request, please wait a few minutes"
        ));
        assert!(!asks_to_wait("The request is wrong."));
    }
}
