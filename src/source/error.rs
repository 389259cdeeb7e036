//! What can go wrong with a request, and what is to be done about it.
//!
//! A [`Kind`] is given where the cause is known; remedy and advice follow from it here, in one place. What is shown of a
//! foreign answer is its error message, as [`shown`] lets it through: never a record, never a secret. The causes that a library names may quote
//! the other side too, such as the names in its certificate: they are kept as texts that have gone through the same door.

use std::error::Error as StdError;
use std::fmt;

use reqwest::StatusCode;

use super::fault;
pub(super) use crate::foreign::shown;
use crate::foreign::{printable, shown_up_to};

/// What is to be done about a page that could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Ask for the same page again, after a growing wait.
    BackOff,
    /// The limiter is paused already: ask for the same page at once, and the request waits for its turn.
    Throttled,
    /// This walk cannot go on: walk the window again from its range.
    WalkAgain,
    /// The answer is larger than is accepted: walk a shorter window.
    Narrow,
    /// A person must act, as [`FetchError::action`] says; asked for again every so often.
    AskOperator,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No connection: name, TCP, proxy or TLS.
    Unreachable,
    /// No answer, or not all of it, in time.
    TimedOut,
    /// The connection, the compressed stream or the JSON ended before the answer did.
    CutShort,
    /// The answer is larger than is accepted, or has more rows.
    TooLarge,
    /// A page that is no JSON, in the midst of its rows: they cannot be told apart. [`FetchError::digest`] knows the same bytes again.
    Unsplittable,
    /// 429, or any refusal with `Retry-After`.
    Throttled,
    /// 503 and its relatives, or the message that asks to wait a few minutes.
    Busy,
    /// 500: an error that the service does not explain. Lasting ones may mean a retired report or too old a range.
    ServerError,
    /// An answer with status 200 that is no page: a sign-in page, an error message, some other JSON.
    NotAPage,
    /// Redirected to a sign-in page, which passes by itself.
    SignInPage,
    /// Redirected elsewhere.
    Moved,
    /// The service does not accept the query (400 and other refusals of the request as such).
    Rejected,
    /// The service does not accept a link that it gave itself.
    LinkRejected,
    /// The service linked back to a page of this walk.
    LinkRepeated,
    /// The service linked to another origin, or to what is no address; the request was not made.
    LinkRefused,
    /// 401 with a fresh token, or with username and password.
    Unauthorized,
    /// 403: no right to this report.
    Forbidden,
    /// 404: no such report, or no longer.
    NotFound,
    /// No token, because the tenant's directory refuses the application.
    SignInRefused,
    /// No token, for a reason that may pass by itself.
    SignInFailed,
}

impl Kind {
    fn remedy(self) -> Remedy {
        match self {
            Self::Unreachable
            | Self::TimedOut
            | Self::CutShort
            | Self::Busy
            | Self::ServerError
            | Self::NotAPage
            | Self::SignInPage
            | Self::SignInFailed => Remedy::BackOff,
            Self::Throttled => Remedy::Throttled,
            Self::LinkRejected | Self::LinkRepeated => Remedy::WalkAgain,
            Self::TooLarge | Self::Unsplittable => Remedy::Narrow,
            // A link to another origin comes from a gateway that does not rewrite it: walking again brings it again.
            Self::LinkRefused
            | Self::Moved
            | Self::Rejected
            | Self::Unauthorized
            | Self::Forbidden
            | Self::NotFound
            | Self::SignInRefused => Remedy::AskOperator,
        }
    }

    /// What a person can do, where the cause itself has no better advice.
    fn advice(self) -> Option<&'static str> {
        match self {
            Self::TooLarge | Self::Throttled | Self::LinkRepeated => None,
            Self::Unreachable | Self::TimedOut | Self::CutShort => Some(
                "if this lasts, check the way from this machine to the reporting service: name server, firewall, HTTPS_PROXY",
            ),
            Self::Unsplittable => Some(
                "if this lasts, the service holds a row that it cannot send as JSON: take the request id to Microsoft's support",
            ),
            Self::Busy => Some(
                "if this lasts for days while other reports answer, Microsoft may have retired the report: take the request \
                 id to Microsoft's support",
            ),
            Self::SignInPage => Some(
                "if this lasts, check that `base_url` is the reporting service's root, or take the request id to Microsoft's \
                 support",
            ),
            Self::SignInFailed => Some(
                "if this lasts, check the way from this machine to `authority_url`: name server, firewall, HTTPS_PROXY; or \
                 whether Microsoft reports an outage of Entra",
            ),
            Self::ServerError => Some(
                "if this lasts, Microsoft may have retired the report: remove its service from the configuration, or take \
                 the request id to Microsoft's support",
            ),
            Self::NotAPage => {
                Some("if this lasts, check that `base_url` is the reporting service's root")
            }
            Self::Moved => Some("set `base_url` to the address where the reporting service is now"),
            Self::Rejected => Some(
                "the service's message says what it does not accept; take the request id to Microsoft's support if it is \
                 not clear",
            ),
            Self::LinkRejected => Some(
                "if this lasts, check that the gateway behind `base_url` passes the service's paths and queries on unchanged",
            ),
            Self::LinkRefused => Some(
                "set `base_url` to the origin that the service's links name, or let the gateway rewrite the links; the \
                 credentials are sent to no other origin",
            ),
            Self::Unauthorized => Some(
                "give the application the permission ReportingWebService.Read.All (with admin consent) and a directory \
                 role, Global Reader or Security Reader: without the role a good token gets 401. A new role takes up to an \
                 hour",
            ),
            Self::Forbidden => Some(
                "give the account or the application the right to this report (directory role Global Reader or Security \
                 Reader), or remove the service from the configuration",
            ),
            Self::NotFound => Some(
                "check `base_url`; if other reports answer, Microsoft has retired this one: remove its service from the \
                 configuration",
            ),
            Self::SignInRefused => Some(
                "check `tenant_id`, `client_id` and the client's secret or certificate against the application's \
                 registration",
            ),
        }
    }
}

/// The most characters that are shown of one cause: a certificate may hold many names.
const CAUSE_MAX: usize = 600;

/// A page, or the token for it, could not be had. `Display` says what happened, [`FetchError::action`] what a person can do.
#[derive(Clone, Debug)]
pub struct FetchError(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    kind: Kind,
    message: String,
    request_id: Option<String>,
    action: Option<String>,
    digest: Option<u64>,
    sign: Option<Sign>,
    cause: Option<Box<Cause>>,
}

/// What a failure may say of a report's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    /// It says in Microsoft's words that message trace is being retired.
    Retirement,
    /// It says nothing at all.
    Bare,
}

/// What an error of a library said, and why.
#[derive(Clone, Debug)]
struct Cause {
    text: String,
    cause: Option<Box<Cause>>,
}

impl Cause {
    fn new(error: &(dyn StdError + 'static)) -> Self {
        Self {
            text: shown_up_to(CAUSE_MAX, &error.to_string()),
            cause: error.source().map(|cause| Box::new(Self::new(cause))),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for Cause {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

impl FetchError {
    pub(crate) fn new(kind: Kind, message: impl AsRef<str>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: printable(message.as_ref()).into_owned(),
            request_id: None,
            action: kind.advice().map(str::to_owned),
            digest: None,
            sign: None,
            cause: None,
        }))
    }

    /// The same, under another kind; the advice stays.
    pub(super) fn with_kind(mut self, kind: Kind) -> Self {
        self.0.kind = kind;
        self
    }

    pub(super) fn with_request_id(mut self, request_id: Option<String>) -> Self {
        self.0.request_id = request_id;
        self
    }

    pub(crate) fn with_action(mut self, action: impl Into<String>) -> Self {
        self.0.action = Some(action.into());
        self
    }

    pub(super) fn with_digest(mut self, digest: u64) -> Self {
        self.0.digest = Some(digest);
        self
    }

    pub(super) fn with_source(
        mut self,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        self.0.cause = Some(Box::new(Cause::new(&*source.into())));
        self
    }

    /// The same, from an answer of this status with this body.
    pub(super) fn with_signs(mut self, status: StatusCode, body: &[u8]) -> Self {
        let is_bare = matches!(status.as_u16(), 400 | 500) && fault::message(body).is_none();
        self.0.sign = if fault::tells_of_retirement(body) {
            Some(Sign::Retirement)
        } else {
            is_bare.then_some(Sign::Bare)
        };
        self
    }

    /// Whether the answer says in Microsoft's words that message trace is being retired.
    pub(crate) fn tells_of_retirement(&self) -> bool {
        self.0.sign == Some(Sign::Retirement)
    }

    /// Whether the answer was a 400 or 500 that says nothing.
    pub(crate) fn is_bare(&self) -> bool {
        self.0.sign == Some(Sign::Bare)
    }

    /// What is to be done.
    pub fn remedy(&self) -> Remedy {
        self.0.kind.remedy()
    }

    /// What went wrong.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Whether less may work where this did not: the service gave up or was cut off while it computed or sent the answer.
    pub fn shorter_window_may_help(&self) -> bool {
        matches!(
            self.0.kind,
            Kind::TimedOut
                | Kind::CutShort
                | Kind::TooLarge
                | Kind::Unsplittable
                | Kind::Busy
                | Kind::ServerError
        )
    }

    /// A number for the bytes that came, where a page's rows could not be told apart or its JSON ended in their midst: the same bytes
    /// have the same number.
    pub fn digest(&self) -> Option<u64> {
        self.0.digest
    }

    /// The id that the service gave the request; Microsoft's support asks for it.
    pub fn request_id(&self) -> Option<&str> {
        self.0.request_id.as_deref()
    }

    /// What a person can do: always there for [`Remedy::AskOperator`], and a hint for some of the others.
    pub fn action(&self) -> Option<String> {
        self.0.action.clone()
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl StdError for FetchError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.cause.as_deref().map(|cause| cause as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_the_operator_says_what_to_do() {
        for kind in [
            Kind::Moved,
            Kind::Rejected,
            Kind::LinkRefused,
            Kind::Unauthorized,
            Kind::Forbidden,
            Kind::NotFound,
            Kind::SignInRefused,
        ] {
            let error = FetchError::new(kind, "no");
            assert_eq!(error.remedy(), Remedy::AskOperator, "{kind:?}");
            assert!(error.action().is_some(), "{kind:?}");
        }
    }

    #[test]
    fn what_a_library_quotes_goes_through_the_door_as_well() {
        let _hidden = crate::foreign::hide("inside-the-Chain.9");
        let inner = std::io::Error::other("name \u{202e}inside-the-Chain.9\n");
        let outer = anyhow::Error::new(inner).context("not valid for \u{1b}[2J");
        let error = FetchError::new(Kind::Unreachable, "cannot connect").with_source(outer);
        let chain = crate::error::chain(&error);
        assert_eq!(chain, "cannot connect: not valid for [2J: name (removed)");
        let copy = error.clone();
        assert_eq!(crate::error::chain(&copy), chain);
    }
}
