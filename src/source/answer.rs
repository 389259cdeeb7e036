//! What came back for a request: a body within bounds, or what its refusal means.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use reqwest::header::{HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use tokio::sync::{Semaphore, SemaphorePermit};
use url::Url;

use super::coding::{self, Decoder};
use super::error::{FetchError, Kind, shown};
use super::proxy::Proxies;
use super::{challenge, clock, fault};

/// How long the service is left alone when it is overrun and does not say for how long.
const PAUSE: Duration = Duration::from_mins(1);
/// The shortest pause: a `Retry-After` of zero would have us ask again without end.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// Memory for bodies is taken in multiples of this many bytes.
const ROOM: usize = 64 << 10;
/// How long the body of an error is waited for; what it says is a courtesy.
const FAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// What is known of an answer that is no page, apart from its body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal<'a> {
    pub(super) status: StatusCode,
    pub(super) headers: &'a HeaderMap,
    /// Whether the request followed a link of the service.
    pub(super) followed: bool,
    /// Whether the request carried username and password.
    pub(super) basic: bool,
}

/// For how long an answer asks us to stay away, if it does: 429, or any status with `Retry-After`, in seconds or as a date
/// (which goes by the answer's own `Date`, so that our clock has no part in it).
pub(super) fn pause(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    let Some(retry_after) = headers.get(RETRY_AFTER) else {
        return (status == StatusCode::TOO_MANY_REQUESTS).then_some(PAUSE);
    };
    let retry_after = retry_after.to_str().unwrap_or_default().trim();
    let seconds = match retry_after.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => clock::parse(retry_after)
            .zip(clock::date(headers))
            .map(|(until, now)| (until - now).to_std().unwrap_or_default()),
    };
    Some(seconds.unwrap_or(PAUSE).max(PAUSE_MIN))
}

/// The id of the request, for Microsoft's support.
pub(super) fn request_id(headers: &HeaderMap) -> Option<String> {
    ["request-id", "x-ms-request-id"]
        .into_iter()
        .find_map(|name| headers.get(name)?.to_str().ok())
        .map(shown)
        .filter(|id| !id.is_empty())
}

/// A body that grows beyond this waits for those of the process that are as large: one after the other, they take the memory of one.
const LARGE: usize = 4 << 20;

/// Held while a large body is read.
static LARGE_BODY: Semaphore = Semaphore::const_new(1);

/// The turn of a large body, to be kept for as long as its bytes are.
pub(super) type LargeTurn = Option<SemaphorePermit<'static>>;

/// Reads a whole body, decompressed, of at most `bytes_max`. `size_hint` is how long it will probably be.
pub(super) async fn body(
    mut response: Response,
    bytes_max: usize,
    size_hint: usize,
) -> Result<(Vec<u8>, LargeTurn), FetchError> {
    let mut decoder = Decoder::new(response.headers(), bytes_max)?;
    let announced = response.content_length();
    if announced.is_some_and(|length| length > bytes_max as u64) {
        return Err(coding::too_large(bytes_max));
    }
    // Pages differ a little: over-allocate to avoid a reallocation, and so that the next one fits into the memory of one that is freed.
    let room = match announced {
        Some(length) if decoder.is_identity() => usize::try_from(length).unwrap_or(bytes_max),
        _ => size_hint + size_hint / 32,
    };
    let mut body = Vec::with_capacity(room.next_multiple_of(ROOM).min(bytes_max));
    let mut large = None;
    while let Some(chunk) = response.chunk().await.map_err(cut_short)? {
        if body.len() > LARGE && large.is_none() {
            // It is never closed.
            large = LARGE_BODY.acquire().await.ok();
            // Memory that is not written to costs nothing, a body that is moved costs twice.
            body.reserve_exact(bytes_max.saturating_sub(body.len()));
        }
        decoder.decode(&chunk, &mut body)?;
    }
    decoder.finish()?;
    Ok((body, large))
}

/// The beginning of an error's body, as far as it comes without much ado.
pub(super) async fn fault_body(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    let Ok(mut decoder) = Decoder::new(response.headers(), fault::BODY_MAX_BYTES) else {
        return body;
    };
    let read = async {
        while let Ok(Some(chunk)) = response.chunk().await {
            let room = fault::BODY_MAX_BYTES - body.len();
            let chunk = if decoder.is_identity() {
                &chunk[..chunk.len().min(room)]
            } else {
                &chunk[..]
            };
            if decoder.decode(chunk, &mut body).is_err() || body.len() == fault::BODY_MAX_BYTES {
                break;
            }
        }
    };
    tokio::time::timeout(FAULT_TIMEOUT, read).await.ok(); // what has come by then will do
    body.truncate(fault::BODY_MAX_BYTES);
    body
}

/// What a refusal by the reporting service means.
pub(super) fn refused(refusal: Refusal<'_>, body: &[u8]) -> FetchError {
    let Refusal {
        status,
        headers,
        followed,
        basic,
    } = refusal;
    let message = fault::message(body);
    let pause = pause(status, headers);
    let kind = match status.as_u16() {
        _ if pause.is_none() && message.as_deref().is_some_and(fault::asks_to_wait) => Kind::Busy,
        // Before the pause: a token that has ended is renewed, however long the service wants to be left alone.
        401 => Kind::Unauthorized,
        _ if pause.is_some() => Kind::Throttled,
        300..=399 => return redirected(status, headers),
        400 | 404 | 410 if followed => Kind::LinkRejected,
        403 => Kind::Forbidden,
        404 | 410 => Kind::NotFound,
        408 | 504 => Kind::TimedOut,
        400..=499 => Kind::Rejected,
        500 => Kind::ServerError,
        501..=599 => Kind::Busy,
        _ => Kind::NotAPage,
    };
    let link = match kind {
        Kind::LinkRejected => " to a link that it gave itself",
        _ => "",
    };
    let pause = pause.map(|pause| format!(", asking for a pause of {} s", pause.as_secs()));
    let message = message.map(|message| format!(": {message}"));
    let reason = challenge::reason(status, headers).map(|reason| format!(" ({reason})"));
    let text = format!(
        "the service answered {}{link}{}{}{}",
        status_text(status),
        pause.unwrap_or_default(),
        message.unwrap_or_default(),
        reason.unwrap_or_default(),
    );
    let error = FetchError::new(kind, text);
    match status {
        StatusCode::UNAUTHORIZED if !basic && challenge::is_for_another_service(headers) => {
            error.with_action(ANOTHER_SERVICE)
        }
        StatusCode::UNAUTHORIZED if basic && kind == Kind::Unauthorized => {
            error.with_action(BASIC_IS_OFF)
        }
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => error.with_action(PROXY_CREDENTIALS),
        _ => error,
    }
}

const ANOTHER_SERVICE: &str = "the token is not for this service: check that `base_url`, `authority_url` and `scope`, where they are set, belong to \
     the same cloud";

const BASIC_IS_OFF: &str = "Microsoft has turned Basic authentication off (Exchange Online, winter of 2022/23): register an \
     application in Microsoft Entra, give it the permission ReportingWebService.Read.All and the directory role Global \
     Reader or Security Reader, and replace `username` and `password` by `tenant_id`, `client_id` and `client_secret` (or \
     `client_certificate` and `client_key`)";

/// Where a redirect points to, without credentials and without the query, which may hold all kinds of things.
pub(super) fn location(headers: &HeaderMap) -> Option<String> {
    let location = headers.get(LOCATION)?.to_str().ok()?;
    let place = location.split(['?', '#']).next().unwrap_or_default();
    let place = match place.split_once("//") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = authority.rsplit('@').next().unwrap_or_default();
            format!("{scheme}//{host}{path}")
        }
        None => place.to_owned(),
    };
    Some(shown(&place)).filter(|place| !place.is_empty())
}

/// Redirects are never followed: the request carries credentials.
fn redirected(status: StatusCode, headers: &HeaderMap) -> FetchError {
    let place = location(headers);
    let lower = place.as_deref().unwrap_or_default().to_ascii_lowercase();
    let sign_in = [
        "login",
        "logon",
        "signin",
        "sign-in",
        "oauth",
        "/adfs/",
        "/owa/auth",
    ];
    let kind = if sign_in.iter().any(|part| lower.contains(part)) {
        Kind::SignInPage
    } else {
        Kind::Moved
    };
    let message = format!(
        "the service answered {} and points to {}, which is not followed",
        status_text(status),
        place.as_deref().unwrap_or("nowhere"),
    );
    FetchError::new(kind, message)
}

pub(super) fn status_text(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

/// Why no answer came to a request to `url`, of which only the origin is shown.
pub(super) async fn unanswered(error: reqwest::Error, url: &Url, proxies: &Proxies) -> FetchError {
    let error = error.without_url();
    let origin = url.origin().ascii_serialization();
    if error.is_connect() {
        if is_of_the_proxy(&error)
            && let Some(refusal) = proxies.refusal(url).await
        {
            let message = format!("cannot connect to {origin}: {}", refusal.message);
            return FetchError::new(Kind::Unreachable, message).with_action(refusal.action);
        }
        let hint = if error.is_dns() {
            Some("the name could not be resolved: check the host name, and this machine's DNS")
        } else {
            tls_hint(&error)
        };
        let error = FetchError::new(Kind::Unreachable, format!("cannot connect to {origin}"))
            .with_source(error);
        return match hint {
            Some(hint) => error.with_action(hint),
            None => error,
        };
    }
    if error.is_timeout() {
        let message = format!("{origin} did not answer in time");
        return FetchError::new(Kind::TimedOut, message).with_source(error);
    }
    let message = format!("the connection to {origin} broke before the answer");
    FetchError::new(Kind::CutShort, message).with_source(error)
}

fn cut_short(error: reqwest::Error) -> FetchError {
    let error = error.without_url();
    if error.is_timeout() {
        return FetchError::new(Kind::TimedOut, "the answer did not end in time")
            .with_source(error);
    }
    FetchError::new(Kind::CutShort, "the answer was cut short").with_source(error)
}

const PROXY_CREDENTIALS: &str =
    "give the proxy's user name and password in HTTPS_PROXY (`http://user:password@host:port`)";

/// Whether a proxy has opened no tunnel. The error's type is hyper-util's own, and does not tell what the proxy said: there are only its words to
/// go by.
fn is_of_the_proxy(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let said = error.to_string();
        if said.contains("tunnel error") || said.contains("proxy authorization required") {
            return true;
        }
        next = error.source();
    }
    false
}

/// What can be done about a handshake that failed for the certificate that was shown.
fn tls_hint(error: &(dyn StdError + 'static)) -> Option<&'static str> {
    use rustls::CertificateError as Reason;
    let rustls::Error::InvalidCertificate(reason) = tls_error(error)? else {
        return Some(
            "the other side does not speak TLS as expected: check the address and port, and any proxy between",
        );
    };
    Some(match reason {
        // A bad signature: an authority of the same name is trusted, and another made the certificate.
        Reason::UnknownIssuer | Reason::BadSignature => {
            "the certificate's authority is not trusted here: if a proxy inspects TLS, or the service is your own, name \
             the authority's certificate in `ca_bundle`"
        }
        Reason::Expired
        | Reason::ExpiredContext { .. }
        | Reason::NotValidYet
        | Reason::NotValidYetContext { .. } => {
            "the certificate is not valid at this time: check this machine's clock, and renew the certificate if it has \
             expired"
        }
        Reason::NotValidForName | Reason::NotValidForNameContext { .. } => {
            "the certificate names another host: check the host in `base_url` and `authority_url`"
        }
        _ => "the certificate is not accepted: have it replaced by one that is",
    })
}

/// Rustls' own error within the chain. An `io::Error` shows what it wraps only when asked for it.
fn tls_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref() {
            return Some(tls);
        }
        next = match error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::error::Remedy;

    const ODATA: &str =
        r#"{"error":{"code":"","message":{"lang":"en-US","value":"The range is wrong."}}}"#;
    const PERMISSION: &str =
        r#"{"ErrorCode":"","Message":"No permission to access the report for the organization ."}"#;
    const IIS: &str =
        "<html><head><title>401 - Unauthorized: Access is denied</title></head></html>";
    const WAIT: &str = "<ServiceFault><Message>We cannot currently process your request, please wait a few minutes</Message></ServiceFault>";

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let parsed = lines
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        parsed.collect()
    }

    fn refusal(
        status: u16,
        lines: &[(&'static str, &str)],
        body: &str,
        followed: bool,
    ) -> FetchError {
        let refusal = Refusal {
            status: StatusCode::from_u16(status).unwrap(),
            headers: &headers(lines),
            followed,
            basic: false,
        };
        refused(refusal, body.as_bytes())
    }

    #[test]
    fn every_row_of_the_error_table_has_its_remedy() {
        use Kind::*;
        const AFTER: &[(&str, &str)] = &[("retry-after", "30")];
        for (status, lines, body, kind, remedy) in [
            (400, &[][..], ODATA, Rejected, Remedy::AskOperator),
            (400, &[], WAIT, Busy, Remedy::BackOff),
            (401, &[], IIS, Unauthorized, Remedy::AskOperator),
            (403, &[], PERMISSION, Forbidden, Remedy::AskOperator),
            (404, &[], "", NotFound, Remedy::AskOperator),
            (410, &[], "", NotFound, Remedy::AskOperator),
            (407, &[], "", Rejected, Remedy::AskOperator),
            (408, &[], "", TimedOut, Remedy::BackOff),
            (429, &[], "", Throttled, Remedy::Throttled),
            (429, AFTER, "", Throttled, Remedy::Throttled),
            (503, AFTER, "", Throttled, Remedy::Throttled),
            (500, AFTER, ODATA, Throttled, Remedy::Throttled),
            (401, AFTER, IIS, Unauthorized, Remedy::AskOperator),
            (500, &[], ODATA, ServerError, Remedy::BackOff),
            (502, &[], "", Busy, Remedy::BackOff),
            (503, &[], "", Busy, Remedy::BackOff),
            (503, &[], WAIT, Busy, Remedy::BackOff),
            (504, &[], "", TimedOut, Remedy::BackOff),
            (204, &[], "", NotAPage, Remedy::BackOff),
        ] {
            let error = refusal(status, lines, body, false);
            assert_eq!(
                (error.kind(), error.remedy()),
                (kind, remedy),
                "{status} {lines:?}"
            );
            assert_eq!(error.action().is_some(), kind != Throttled);
        }
    }

    #[test]
    fn a_link_that_is_refused_restarts_the_walk() {
        for status in [400, 404, 410] {
            let error = refusal(status, &[], ODATA, true);
            assert_eq!(error.remedy(), Remedy::WalkAgain, "{status}");
        }
        assert_eq!(
            refusal(403, &[], PERMISSION, true).remedy(),
            Remedy::AskOperator
        );
        assert_eq!(refusal(400, &[], WAIT, true).remedy(), Remedy::BackOff);
    }

    #[test]
    fn says_what_the_service_said() {
        for (error, expected) in [
            (
                refusal(400, &[], ODATA, false),
                "the service answered 400 Bad Request: The range is wrong.",
            ),
            (
                refusal(400, &[], ODATA, true),
                "the service answered 400 Bad Request to a link that it gave itself: The range is wrong.",
            ),
            (
                refusal(429, &[("retry-after", "30")], "", false),
                "the service answered 429 Too Many Requests, asking for a pause of 30 s",
            ),
            (
                refusal(503, &[], "busy", false),
                "the service answered 503 Service Unavailable",
            ),
            (refusal(599, &[], "", false), "the service answered 599"),
        ] {
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn basic_is_told_that_it_is_over() {
        let refusal = Refusal {
            status: StatusCode::UNAUTHORIZED,
            headers: &HeaderMap::new(),
            followed: false,
            basic: true,
        };
        let action = refused(refusal, IIS.as_bytes()).action().unwrap();
        assert!(
            action.contains("turned Basic authentication off") && action.contains("`tenant_id`")
        );
    }

    #[test]
    fn redirects_are_told_apart() {
        for (location, kind) in [
            (
                "https://login.microsoftonline.com/common/oauth2/authorize?client_id=x",
                Kind::SignInPage,
            ),
            ("/owa/auth/logon.aspx?url=x", Kind::SignInPage),
            ("https://reports.example.us/ecp/?token=hush", Kind::Moved),
        ] {
            let error = refusal(302, &[("location", location)], "", false);
            assert_eq!(error.kind(), kind, "{location}");
            assert!(
                !error.to_string().contains('?') && !error.to_string().contains("hush"),
                "{error}"
            );
        }
        let nowhere = refusal(302, &[], "", false).to_string();
        assert_eq!(
            nowhere,
            "the service answered 302 Found and points to nowhere, which is not followed"
        );
    }

    #[test]
    fn pauses_as_long_as_it_is_told() {
        let date = ("date", "Tue, 07 May 2024 15:35:24 GMT");
        for (status, lines, seconds) in [
            (200, &[][..], None),
            (503, &[], None),
            (429, &[], Some(60)),
            (429, &[("retry-after", "0")], Some(1)),
            (429, &[("retry-after", " 120 ")], Some(120)),
            (200, &[("retry-after", "5")], Some(5)),
            (503, &[("retry-after", "5")], Some(5)),
            (
                429,
                &[("retry-after", "18446744073709551615")],
                Some(u64::MAX),
            ),
            (429, &[("retry-after", "99999999999999999999")], Some(60)),
            (429, &[("retry-after", "-5")], Some(60)),
            (429, &[("retry-after", "soon")], Some(60)),
            (
                503,
                &[("retry-after", "Tue, 07 May 2024 15:40:24 GMT"), date],
                Some(300),
            ),
            (
                503,
                &[("retry-after", "Tue, 07 May 2024 15:00:00 GMT"), date],
                Some(1),
            ),
            (
                503,
                &[("retry-after", "Tue, 07 May 2024 15:40:24 GMT")],
                Some(60),
            ),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let pause = pause(status, &headers(lines));
            assert_eq!(
                pause,
                seconds.map(Duration::from_secs),
                "{status} {lines:?}"
            );
        }
    }

    #[test]
    fn finds_the_reason_of_a_failed_handshake_within_an_io_error() {
        let tls = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let wrapped = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, tls));
        assert!(tls_hint(&wrapped).unwrap().contains("`ca_bundle`"));
        assert_eq!(tls_hint(&io::Error::other("reset")), None);
    }
}
