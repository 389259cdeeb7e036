//! Graph's errors: which status with which text, and the body that carries them.

use chrono::{DateTime, Utc};
use serde_json::json;

use super::GraphOptions;
use crate::service::faults::Fault;
use crate::service::reply::Reply;

/// The type of all that Graph answers.
pub(crate) const JSON: &str = "application/json;odata.metadata=minimal;odata.streaming=true;\
                               IEEE754Compatible=false;charset=utf-8";

/// A request that Graph refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    code: &'static str,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(status: u16, message: impl Into<String>) -> Refusal {
        let code = match status {
            400 => "BadRequest",
            401 => "Unauthorized",
            403 => "Authorization_RequestDenied",
            404 => "ResourceNotFound",
            429 => "TooManyRequests",
            500 => "InternalServerError",
            502 => "BadGateway",
            503 => "ServiceUnavailable",
            504 => "GatewayTimeout",
            _ => "UnknownError",
        };
        Refusal {
            status,
            code,
            message: message.into(),
        }
    }

    /// `$top` out of bounds (seen).
    pub(crate) fn size() -> Refusal {
        Refusal::new(400, "ResultSize is invalid")
    }

    /// No token, one that has ended, or one for another resource.
    pub(crate) fn token() -> Refusal {
        Refusal {
            code: "InvalidAuthenticationToken",
            ..Refusal::new(401, "Access token validation failure. Invalid audience.")
        }
    }

    /// The permission or the consent is missing.
    pub(crate) fn permission() -> Refusal {
        let message = "Insufficient privileges to complete the operation.";
        Refusal::new(403, message)
    }

    /// Too many requests (documented by Microsoft).
    pub(crate) fn budget() -> Refusal {
        let message =
            "Your recent queries have surpassed the permitted limit, please try again later.";
        Refusal::new(429, message)
    }

    /// The refusal that a fault is, if it is one of Graph's own.
    pub(crate) fn ordered(fault: &Fault) -> Option<Refusal> {
        Some(match fault {
            Fault::BadRequest => Refusal::new(400, "The request is invalid."),
            Fault::Unauthorized => Refusal::token(),
            Fault::Forbidden => Refusal::permission(),
            Fault::NotFound => Refusal::new(404, ""),
            Fault::ServerError => Refusal::new(500, ""),
            Fault::Throttled(_) => Refusal::budget(),
            Fault::Busy(_) => Refusal::new(503, ""),
            Fault::Failed { status } => Refusal::new(*status, ""),
            Fault::NoServicePrincipal => Refusal::principal(),
            _ => return None,
        })
    }

    /// The tenant lacks the service principal of Microsoft's app, or it is still spreading (documented by Microsoft).
    pub(crate) fn principal() -> Refusal {
        let message = "Service principal-less Authentication failed: the service principal for App ID \
                       8bd644d1-64a1-4d4b-ae52-2e0cbf64e373 was not found. Please create the service principal in your tenant.";
        Refusal::new(401, message)
    }

    /// The answer, with the error's body as seen.
    pub(crate) fn reply(
        &self,
        request_id: &str,
        now: DateTime<Utc>,
        options: &GraphOptions,
    ) -> Reply {
        if self.status == 404 {
            // What stands in the body is not known.
            return Reply::new(404, JSON, "");
        }
        let inner = json!({
            "date": now.format("%Y-%m-%dT%H:%M:%S").to_string(),
            "request-id": request_id,
            "client-request-id": request_id,
        });
        let message = if options.exception_names && self.status == 400 {
            format!("|System.ArgumentException|{}", self.message)
        } else {
            self.message.clone()
        };
        let inner_name = if options.small_inner_error {
            "innererror"
        } else {
            "innerError"
        };
        let error = json!({"code": self.code, "message": message, inner_name: inner});
        let body = json!({ "error": error });
        let mut reply = Reply::new(self.status, JSON, body.to_string());
        if self.status == 401 {
            let challenge = "Bearer realm=\"\", authorization_uri=\"https://login.microsoftonline.com/common/oauth2/authorize\"";
            let header = ("www-authenticate".to_owned(), challenge.to_owned());
            reply.headers.push(header);
        }
        reply
    }
}
