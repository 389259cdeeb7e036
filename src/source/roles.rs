//! The application permissions that a token names.
//!
//! A token for Microsoft's services is a JWT (seen), whose payload can be read by anybody; its claim `roles` has the application permissions that
//! an administrator has consented to (documented). Nobody is bound to that form: a token that cannot be read says nothing.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;

/// What a token says of the application's permissions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roles {
    /// It names these; none where it has no such claim.
    Named(Vec<String>),
    /// It cannot be read.
    Unreadable,
}

impl Roles {
    /// Those that a token names.
    pub(super) fn of(token: &str) -> Self {
        #[derive(Deserialize)]
        struct Payload {
            #[serde(default)]
            roles: Vec<String>,
        }
        let payload = token.split('.').nth(1).unwrap_or_default();
        let payload = BASE64_URL_SAFE_NO_PAD.decode(payload.trim_end_matches('='));
        let payload = payload.ok().and_then(|payload| {
            let payload: serde_json::Result<Payload> = serde_json::from_slice(&payload);
            payload.ok()
        });
        payload.map_or(Roles::Unreadable, |payload| Roles::Named(payload.roles))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_claim_is_read_where_there_is_one() {
        let token = |payload: &str| {
            let [head, payload] = ["{}", payload].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
            format!("{head}.{payload}.signature")
        };
        let named = |names: &[&str]| Roles::Named(names.iter().map(ToString::to_string).collect());
        for (token, expected) in [
            (
                token(r#"{"roles":["A.Read","B"],"aud":"x"}"#),
                named(&["A.Read", "B"]),
            ),
            (token(r#"{"aud":"x"}"#), named(&[])),
            (token(r#"{"roles":7}"#), Roles::Unreadable),
            (token("no JSON"), Roles::Unreadable),
            ("opaque".to_owned(), Roles::Unreadable),
            (String::new(), Roles::Unreadable),
        ] {
            assert_eq!(Roles::of(&token), expected, "{token}");
        }
    }
}
