//! Why a request was not let in, as the headers of the answer tell it.
//!
//! Exchange Online explains a token that it does not accept in `x-ms-diagnostics` (`2000003;reason="The audience claim …";error_category="…"`), others
//! in the parameters of `WWW-Authenticate` (RFC 6750, 3).

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};

use super::error::shown;

const DIAGNOSTICS: &str = "x-ms-diagnostics";

/// The reason that the headers give for a 401 or a 403, as it may be shown.
pub(super) fn reason(status: StatusCode, headers: &HeaderMap) -> Option<String> {
    if !matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        return None;
    }
    let diagnostics = headers
        .get_all(DIAGNOSTICS)
        .into_iter()
        .filter_map(diagnostics);
    let challenges = headers
        .get_all(WWW_AUTHENTICATE)
        .into_iter()
        .filter_map(challenge);
    let reasons: Vec<String> = diagnostics.chain(challenges).collect();
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

/// Whether the service says that the token was made for another one.
pub(super) fn is_for_another_service(headers: &HeaderMap) -> bool {
    let values = headers.get_all(DIAGNOSTICS).into_iter();
    let mut texts =
        values.map(|value| String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase());
    texts.any(|text| text.contains("audience") || text.contains("invalid_resource"))
}

fn diagnostics(value: &HeaderValue) -> Option<String> {
    let told = shown(&String::from_utf8_lossy(value.as_bytes()));
    (!told.is_empty()).then(|| format!("{DIAGNOSTICS}: {told}"))
}

/// What a challenge says of the error; the whole of it where it says nothing of one.
fn challenge(value: &HeaderValue) -> Option<String> {
    let text = String::from_utf8_lossy(value.as_bytes());
    let named: Vec<String> = ["error", "error_description"]
        .into_iter()
        .filter_map(|name| parameter(&text, name))
        .map(|text| shown(&text))
        .collect();
    let told = if named.is_empty() {
        shown(&text)
    } else {
        named.join(": ")
    };
    (!told.is_empty()).then(|| format!("{WWW_AUTHENTICATE}: {told}"))
}

/// The value of a parameter, `name="value"` or `name=value`.
fn parameter(text: &str, name: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let begins = |at: &usize| {
        let before = lower[..*at].chars().next_back();
        let after = lower[at + name.len()..].trim_start();
        before.is_none_or(|c| c == ',' || c.is_whitespace()) && after.starts_with('=')
    };
    let (at, _) = lower.match_indices(name).find(|(at, _)| begins(at))?;
    let value = text[at + name.len()..]
        .trim_start()
        .strip_prefix('=')?
        .trim_start();
    let Some(quoted) = value.strip_prefix('"') else {
        return value.split([',', ' ']).next().map(str::to_owned);
    };
    let mut told = String::new();
    let mut characters = quoted.chars();
    while let Some(character) = characters.next().filter(|character| *character != '"') {
        match character {
            '\\' => told.extend(characters.next()),
            other => told.push(other),
        }
    }
    Some(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: u16, headers: &[(&'static str, &str)], expected: Option<&str>) {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        let got = reason(StatusCode::from_u16(status).unwrap(), &headers);
        assert_eq!(got.as_deref(), expected);
    }

    #[test]
    fn tells_the_reason_of_a_401() {
        let diagnostics = r#"2000003;reason="The audience claim value is invalid for current resource.";error_category="invalid_resource""#;
        let bearer = r#"Bearer client_id="00000002-0000-0ff1-ce00-000000000000", token_types="a b", error="invalid_token", error_description="The token has \"expired\".""#;
        check(
            401,
            &[("x-ms-diagnostics", diagnostics)],
            Some(&format!("x-ms-diagnostics: {diagnostics}")),
        );
        check(
            401,
            &[("www-authenticate", bearer)],
            Some(r#"www-authenticate: invalid_token: The token has "expired"."#),
        );
        check(
            401,
            &[("www-authenticate", "Bearer error=invalid_token,x=y")],
            Some("www-authenticate: invalid_token"),
        );
        check(
            401,
            &[("www-authenticate", "Basic Realm=\"\"")],
            Some("www-authenticate: Basic Realm=\"\""),
        );
        check(
            403,
            &[("x-ms-diagnostics", "4;reason=\"no\"")],
            Some("x-ms-diagnostics: 4;reason=\"no\""),
        );
        check(401, &[], None);
        check(500, &[("x-ms-diagnostics", "4")], None);
    }

    #[test]
    fn tells_each_of_several_reasons() {
        let mut headers = HeaderMap::new();
        headers.append("www-authenticate", "Negotiate".parse().unwrap());
        headers.append(
            "www-authenticate",
            "Bearer error=\"invalid_token\"".parse().unwrap(),
        );
        headers.append(
            "x-ms-diagnostics",
            HeaderValue::from_bytes(b"1;\xff\t\"").unwrap(),
        );
        let told = reason(StatusCode::UNAUTHORIZED, &headers).unwrap();
        assert_eq!(
            told,
            "x-ms-diagnostics: 1;\u{fffd} \"; www-authenticate: Negotiate; www-authenticate: invalid_token"
        );
        assert!(!is_for_another_service(&headers));
    }

    #[test]
    fn a_parameter_is_found_whatever_stands_around_it() {
        for (text, expected) in [
            ("Bearer my_error=\"x\", ERROR = \"y\"", Some("y")),
            ("Bearer error_description=\"error=z\"", None),
            ("Bearer error=\"open", Some("open")),
            ("Bearer error", None),
            ("", None),
        ] {
            assert_eq!(parameter(text, "error").as_deref(), expected, "{text}");
        }
    }
}
