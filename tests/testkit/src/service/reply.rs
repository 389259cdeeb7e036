//! Answers other than a page: errors as the service and the web server before it write them, and how any answer goes out.

use std::fmt::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
use hyper::Response;
use hyper::header::{HeaderName, HeaderValue};

use super::body::Body;
use super::faults::{Fault, RetryAfter};
use super::graph::RetryForm;
use super::ledger::Page;

/// The type of the light shape.
pub(crate) const LIGHT: &str =
    "application/json;odata=minimalmetadata;streaming=true;charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

/// What is going to be sent.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) body: Vec<u8>,
    pub(crate) retry_after: Option<String>,
    pub(crate) location: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) last: bool,
    pub(crate) page: Option<Page>,
}

impl Reply {
    pub(crate) fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Reply {
        Reply {
            status,
            content_type: content_type.to_owned(),
            body: body.into(),
            retry_after: None,
            location: None,
            headers: Vec::new(),
            last: false,
            page: None,
        }
    }

    /// An error as `OData` writes it.
    pub(crate) fn odata(status: u16, message: &str) -> Reply {
        let body = serde_json::json!({"error": {"code": "", "message": {"lang": "en-US", "value": message}}});
        Reply::new(status, LIGHT, body.to_string())
    }

    /// An error page as the web server before the service writes it.
    pub(crate) fn iis(status: u16, title: &str) -> Reply {
        let body = format!(
            "<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Strict//EN\">\r\n<html><head><title>{status} - {title}</title></head>\r\n\
             <body><div id=\"header\"><h1>Server Error</h1></div><h2>{status} - {title}</h2></body></html>\r\n"
        );
        Reply::new(status, HTML, body)
    }

    pub(crate) fn unauthorized() -> Reply {
        Reply::iis(
            401,
            "Unauthorized: Access is denied due to invalid credentials.",
        )
    }

    /// An error from before `OData`.
    pub(crate) fn service_fault(status: u16) -> Reply {
        let body = "<ServiceFault xmlns=\"http://schemas.microsoft.com/2012/reporting\" \
                    xmlns:i=\"http://www.w3.org/2001/XMLSchema-instance\"><Message>Invalid data has been detected in the \
                    request.</Message><StackTrace i:nil=\"true\"/></ServiceFault>";
        Reply::new(status, "application/xml; charset=utf-8", body)
    }
}

/// The answer that stands instead of the right one, where the fault is that.
pub(crate) fn replacement(fault: &Fault, now: DateTime<Utc>) -> Option<Reply> {
    let mut reply = match fault {
        Fault::BadRequest => Reply::odata(400, "The query specified in the URI is not valid."),
        Fault::Unauthorized | Fault::NoServicePrincipal => Reply::unauthorized(),
        Fault::Forbidden => Reply::new(
            403,
            LIGHT,
            r#"{"ErrorCode":"","Message":"No permission to access the report for the organization ."}"#,
        ),
        Fault::NotFound => Reply::iis(404, "File or directory not found."),
        Fault::ServerError => Reply::odata(500, "An unknown error occurred."),
        Fault::Throttled(_) => Reply::odata(429, "Too many requests."),
        Fault::Busy(_) => Reply::odata(503, "The data mart timed out. Please try again later."),
        Fault::Failed { status } => Reply::iis(*status, "The request failed."),
        Fault::SignInPage => Reply::new(
            200,
            HTML,
            "<!DOCTYPE html>\r\n<html dir=\"ltr\" lang=\"en\"><head><title>Sign in to your account</title></head>\
             <body><form method=\"post\">Sign in</form></body></html>",
        ),
        Fault::ServiceFault { status } => Reply::service_fault(*status),
        Fault::CannotProcess { status } => Reply::odata(
            *status,
            "We cannot currently process your request, please wait a few minutes and try again.",
        ),
        Fault::Answer {
            status,
            content_type,
            body,
        } => Reply::new(*status, content_type, body.as_str()),
        Fault::Redirect(location) => {
            let mut reply = Reply::new(302, HTML, "<html><body>Object moved</body></html>");
            reply.location = Some(location.clone());
            reply
        }
        _ => return None,
    };
    reply.retry_after = retry_after(fault, now);
    Some(reply)
}

/// The value of `Retry-After` that a fault's answer has.
pub(crate) fn retry_after(fault: &Fault, now: DateTime<Utc>) -> Option<String> {
    match fault {
        Fault::Throttled(after) | Fault::Busy(after) => after.map(|after| after.value(now)),
        _ => None,
    }
}

impl RetryAfter {
    /// The header's value.
    pub(crate) fn value(self, now: DateTime<Utc>) -> String {
        match self {
            RetryAfter::Seconds(seconds) => seconds.to_string(),
            RetryAfter::Date(time) => {
                http_date(now + TimeDelta::from_std(time).unwrap_or_default())
            }
        }
    }
}

impl RetryForm {
    /// The header's value for a time to wait, rounded up to seconds.
    pub(crate) fn value(self, wait: Duration, now: DateTime<Utc>) -> Option<String> {
        let seconds = wait.as_millis().div_ceil(1_000);
        let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
        let after = match self {
            RetryForm::Seconds => RetryAfter::Seconds(seconds),
            // The date's own fraction of a second is cut.
            RetryForm::Date => RetryAfter::Date(Duration::from_secs(seconds.saturating_add(1))),
            RetryForm::Absent => return None,
        };
        Some(after.value(now))
    }
}

/// The answer that repeats what it was asked with.
pub(crate) fn repeating(
    status: u16,
    headers: &[(String, String)],
    body: &str,
    asked: &str,
) -> Reply {
    let mut percent = String::new();
    for byte in asked.bytes() {
        // Writing to memory does not fail.
        let _ = write!(percent, "%{byte:02X}");
    }
    let base64 = STANDARD.encode(asked);
    let filled = |text: &str| {
        let text = text.replace("{asked}", asked);
        text.replace("{percent}", &percent)
            .replace("{base64}", &base64)
    };
    let mut reply = Reply::new(status, HTML, filled(body));
    let headers = headers
        .iter()
        .map(|(name, value)| (name.clone(), filled(value)));
    reply.headers = headers.collect();
    reply
}

fn http_date(time: DateTime<Utc>) -> String {
    time.format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// The response; `coding` is the body's `Content-Encoding`, `date` its `Date`.
pub(crate) fn respond(
    reply: Reply,
    body: Body,
    coding: Option<String>,
    request_id: &str,
    date: DateTime<Utc>,
) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = hyper::StatusCode::from_u16(reply.status).unwrap_or_default();
    let mut set = |name: &'static str, value: String| {
        if let Ok(value) = value.try_into() {
            response.headers_mut().insert(name, value);
        }
    };
    set("content-type", reply.content_type);
    set("request-id", request_id.to_owned());
    set("date", http_date(date));
    set("server", "Microsoft-IIS/10.0".to_owned());
    if let Some(coding) = coding {
        set("content-encoding", coding);
    }
    if let Some(value) = reply.retry_after {
        set("retry-after", value);
    }
    if let Some(value) = reply.location {
        set("location", value);
    }
    if reply.status == 401 {
        set("www-authenticate", "Basic Realm=\"\"".to_owned());
    }
    for (name, value) in reply.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
