//! Signing in: the token endpoint of the Microsoft identity platform, and what a request for a report has to carry.
//!
//! A token is made out for one resource, the reporting service or Graph, and is worth nothing at the other. Its payload can be read, as
//! Microsoft's can: `aud` is the resource, `roles` the application permissions with consent, `exp` its end. Nobody can check its signature.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use super::generator::mix;
use super::options::Access;

/// The longest that an assertion may be good for.
const ASSERTION_SECONDS_MAX: i64 = 600;

/// The permission to read reports (documented by Microsoft).
const READ_REPORTS: &str = "ReportingWebService.Read.All";

/// Hosts of the reporting service's resource, cloud by cloud; any other resource is Graph's.
const REPORTING_HOSTS: [&str; 3] = [
    "outlook.office365.com",
    "outlook.office365.us",
    "partner.outlook.cn",
];

/// What a token lets its bearer do.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    /// The resource that it was made out for, without a slash at its end.
    pub(crate) audience: String,
    /// The application permissions in it.
    pub(crate) roles: Vec<String>,
    end: Instant,
}

/// The tokens that were issued.
#[derive(Default)]
pub(crate) struct Tokens {
    good: HashMap<String, Grant>,
    assertions: HashSet<String>,
    issued: u64,
}

impl Tokens {
    pub(crate) fn issued(&self) -> u64 {
        self.issued
    }

    pub(crate) fn revoke(&mut self) {
        self.good.clear();
    }

    /// A new token for `audience`, by the directory's time.
    fn issue(&mut self, audience: &str, access: &Access, now: DateTime<Utc>) -> String {
        self.issued += 1;
        let grant = Grant {
            audience: audience.to_owned(),
            roles: access.roles_for(audience).to_vec(),
            end: Instant::now() + access.token_lifetime,
        };
        let mut payload = json!({
            "aud": audience,
            "iss": format!("https://sts.windows.net/{}/", access.tenant),
            "iat": now.timestamp(),
            "nbf": now.timestamp(),
            "exp": now.timestamp().saturating_add_unsigned(access.token_lifetime.as_secs()),
            "appid": access.app.client_id,
            "tid": access.tenant,
            "uti": self.issued.to_string(),
        });
        // Without any permission the claim is absent.
        if !grant.roles.is_empty() {
            payload["roles"] = json!(grant.roles);
        }
        let noise = mix(self.issued);
        let signature = [noise, mix(noise)].map(u64::to_be_bytes).concat();
        let token = [
            json!({"typ": "JWT", "alg": "RS256"}).to_string().as_bytes(),
            payload.to_string().as_bytes(),
            &signature,
        ]
        .map(|part| URL_SAFE_NO_PAD.encode(part))
        .join(".");
        self.good.insert(token.clone(), grant);
        token
    }

    /// What the token in an `Authorization` header grants, while it is good.
    pub(crate) fn grant(&self, authorization: &str) -> Option<&Grant> {
        let token = authorization.strip_prefix("Bearer ")?;
        self.good
            .get(token)
            .filter(|grant| Instant::now() < grant.end)
    }

    /// Whether an `Authorization` header lets a request for a report in.
    pub(crate) fn admit(&self, authorization: &str, access: &Access) -> bool {
        match authorization.split_once(' ') {
            Some(("Bearer", _)) => {
                access.has_role
                    && self.grant(authorization).is_some_and(|grant| {
                        is_reporting(&grant.audience)
                            && grant.roles.iter().any(|role| role == READ_REPORTS)
                    })
            }
            Some(("Basic", encoded)) => access.basic.as_ref().is_some_and(|(user, password)| {
                STANDARD
                    .decode(encoded)
                    .is_ok_and(|plain| plain == format!("{user}:{password}").as_bytes())
            }),
            _ => false,
        }
    }
}

impl Access {
    /// The permissions that a token for this resource has in it.
    fn roles_for(&self, audience: &str) -> &[String] {
        if is_reporting(audience) {
            &self.reporting_roles
        } else {
            &self.graph_roles
        }
    }
}

/// Whether a resource is the reporting service's.
fn is_reporting(audience: &str) -> bool {
    let host = audience.split_once("://").map_or("", |(_, host)| host);
    REPORTING_HOSTS.contains(&host)
}

/// A refusal: status and what stands in the body.
pub(crate) struct Refusal {
    pub(crate) status: u16,
    code: u32,
    error: &'static str,
    message: String,
}

impl Refusal {
    fn new(status: u16, code: u32, error: &'static str, message: impl Into<String>) -> Refusal {
        Refusal {
            status,
            code,
            error,
            message: message.into(),
        }
    }

    /// The body as the identity platform writes it.
    pub(crate) fn body(&self, request_id: &str) -> String {
        let time = Utc::now().format("%Y-%m-%d %H:%M:%SZ");
        json!({
            "error": self.error,
            "error_description": format!(
                "AADSTS{}: {} Trace ID: {request_id} Correlation ID: {request_id} Timestamp: {time}", self.code, self.message
            ),
            "error_codes": [self.code],
            "timestamp": time.to_string(),
            "trace_id": request_id,
            "correlation_id": request_id,
            "error_uri": format!("https://login.microsoftonline.com/error?code={}", self.code),
        })
        .to_string()
    }
}

/// Answers a request for a token.
///
/// `tenant` is from the path, `form` the request's body, `url` the endpoint as the client knows it, `now` the directory's time.
pub(crate) fn token(
    tenant: &str,
    form: &str,
    url: &str,
    access: &Access,
    now: DateTime<Utc>,
    tokens: &mut Tokens,
) -> Result<String, Refusal> {
    let form: HashMap<String, String> = url::form_urlencoded::parse(form.as_bytes())
        .into_owned()
        .collect();
    let field = |name: &str| {
        form.get(name).map(String::as_str).ok_or_else(|| {
            let message = format!("The required field '{name}' is missing from the credential.");
            Refusal::new(400, 900_144, "invalid_request", message)
        })
    };
    if tenant != access.tenant {
        return Err(Refusal::new(
            400,
            90_002,
            "invalid_request",
            format!("Tenant '{tenant}' not found."),
        ));
    }
    if field("grant_type")? != "client_credentials" {
        return Err(Refusal::new(
            400,
            70_003,
            "unsupported_grant_type",
            "The app requested an unsupported grant type.",
        ));
    }
    let Some(audience) = field("scope")?.strip_suffix("/.default") else {
        return Err(Refusal::new(
            400,
            1_002_012,
            "invalid_scope",
            "The provided value for scope is not valid.",
        ));
    };
    let audience = audience.trim_end_matches('/').to_owned();
    let client_id = field("client_id")?;
    if client_id != access.app.client_id {
        let message =
            format!("Application with identifier '{client_id}' was not found in the directory.");
        return Err(Refusal::new(400, 700_016, "unauthorized_client", message));
    }
    if form.contains_key("client_assertion") {
        if field("client_assertion_type")?
            != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        {
            return Err(Refusal::new(
                400,
                900_144,
                "invalid_request",
                "The client assertion's type is not supported.",
            ));
        }
        let id = check_assertion(field("client_assertion")?, url, access)?;
        if !tokens.assertions.insert(id) {
            return Err(Refusal::new(
                401,
                7_000_222,
                "invalid_client",
                "The client assertion was used before.",
            ));
        }
    } else if Some(field("client_secret")?) != access.app.secret.as_deref() {
        let message = format!("Invalid client secret provided for app '{client_id}'.");
        return Err(Refusal::new(401, 7_000_215, "invalid_client", message));
    }
    let seconds = access.token_lifetime.as_secs();
    let token = tokens.issue(&audience, access, now);
    Ok(json!({"token_type": "Bearer", "expires_in": seconds, "ext_expires_in": seconds, "access_token": token}).to_string())
}

/// Checks a signed assertion against the application's certificate; what comes back is its `jti`.
fn check_assertion(assertion: &str, url: &str, access: &Access) -> Result<String, Refusal> {
    let refuse = |code, message: &str| Refusal::new(401, code, "invalid_client", message);
    let Some(certificate) = &access.app.certificate else {
        return Err(refuse(700_027, "The application has no certificate."));
    };
    let header = assertion
        .split('.')
        .next()
        .and_then(|part| URL_SAFE_NO_PAD.decode(part).ok())
        .and_then(|json| serde_json::from_slice::<Value>(&json).ok())
        .ok_or_else(|| refuse(50_027, "JWT token is invalid or malformed."))?;
    let der = CertificateDer::from_pem_slice(certificate.as_bytes())
        .map_err(|_| refuse(700_027, "The application's certificate cannot be read."))?;
    let thumbprint = |algorithm| URL_SAFE_NO_PAD.encode(digest::digest(algorithm, &der));
    let known = [
        ("x5t", thumbprint(&digest::SHA1_FOR_LEGACY_USE_ONLY)),
        ("x5t#S256", thumbprint(&digest::SHA256)),
    ];
    let named = known
        .iter()
        .filter(|(name, _)| header[name].is_string())
        .collect::<Vec<_>>();
    if named.is_empty()
        || named
            .iter()
            .any(|(name, thumbprint)| header[name] != **thumbprint)
    {
        return Err(refuse(
            700_027,
            "The certificate with this thumbprint is not registered on the application.",
        ));
    }
    let key = DecodingKey::from_rsa_pem(certificate.as_bytes())
        .map_err(|_| refuse(700_027, "The application's certificate has no RSA key."))?;
    let algorithm = match header["alg"].as_str() {
        Some("RS256") => Algorithm::RS256,
        Some("PS256") => Algorithm::PS256,
        _ => {
            return Err(refuse(
                5_002_738,
                "The assertion's algorithm is not supported.",
            ));
        }
    };
    let mut rules = Validation::new(algorithm);
    rules.set_audience(&[url]);
    rules.set_issuer(&[&access.app.client_id]);
    rules.sub = Some(access.app.client_id.clone());
    rules.validate_nbf = true;
    rules.set_required_spec_claims(&["aud", "iss", "sub", "exp", "nbf"]);
    let claims = decode::<Value>(assertion, &key, &rules)
        .map_err(|error| {
            refuse(
                700_027,
                &format!("Client assertion failed signature validation: {error}."),
            )
        })?
        .claims;
    let seconds = |name: &str| claims[name].as_i64().unwrap_or_default();
    if seconds("exp") - seconds("nbf").max(Utc::now().timestamp() - 60) > ASSERTION_SECONDS_MAX + 60
    {
        return Err(refuse(
            700_024,
            "Client assertion is not within its valid time range.",
        ));
    }
    match claims["jti"].as_str() {
        Some(id) if !id.is_empty() => Ok(id.to_owned()),
        _ => Err(refuse(50_027, "The assertion has no jti.")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jsonwebtoken::{EncodingKey, Header, encode};

    use super::*;
    use crate::pki::{Authority, KeyForm, Wish};

    const REPORTS: &str = "https://outlook.office365.com";
    const URL: &str = "http://127.0.0.1:1/t/oauth2/v2.0/token";

    fn form(access: &Access, more: &[(&str, &str)]) -> String {
        url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "client_credentials")
            .append_pair("scope", "https://outlook.office365.com/.default")
            .append_pair("client_id", &access.app.client_id)
            .extend_pairs(more)
            .finish()
    }

    fn code(result: Result<String, Refusal>) -> u32 {
        result.map_or_else(|refusal| refusal.code, |_| 0)
    }

    #[test]
    fn only_the_right_secret_gets_a_token() {
        let (access, mut tokens) = (Access::default(), Tokens::default());
        let secret = access.app.secret.clone().unwrap();
        let mut ask = |tenant: &str, secret: &str| {
            code(token(
                tenant,
                &form(&access, &[("client_secret", secret)]),
                URL,
                &access,
                Utc::now(),
                &mut tokens,
            ))
        };
        assert_eq!(ask(&access.tenant, &secret), 0);
        assert_eq!(ask(&access.tenant, "wrong"), 7_000_215);
        assert_eq!(ask("elsewhere", &secret), 90_002);
        assert_eq!(
            code(token(
                &access.tenant,
                &form(&access, &[]),
                URL,
                &access,
                Utc::now(),
                &mut tokens
            )),
            900_144
        );
    }

    #[test]
    fn a_token_is_good_until_it_is_revoked_or_ends() {
        let (mut access, mut tokens) = (Access::default(), Tokens::default());
        access.token_lifetime = Duration::ZERO;
        let ended = tokens.issue(REPORTS, &access, Utc::now());
        access.token_lifetime = Duration::from_mins(1);
        let token = tokens.issue(REPORTS, &access, Utc::now());
        let admitted =
            |tokens: &Tokens, token: &str| tokens.admit(&format!("Bearer {token}"), &access);
        assert!(!admitted(&tokens, &ended));
        assert!(!admitted(&tokens, "other"));
        assert!(!tokens.admit("", &access));
        assert!(admitted(&tokens, &token));
        tokens.revoke();
        assert!(!admitted(&tokens, &token));
    }

    #[test]
    fn a_token_tells_its_resource_its_permissions_and_its_end() {
        let (mut access, mut tokens) = (Access::default(), Tokens::default());
        let now = Utc::now();
        let claims = |token: &str| -> Value {
            let payload = token.split('.').nth(1).unwrap();
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
        };
        let graph = claims(&tokens.issue("http://127.0.0.1:1", &access, now));
        assert_eq!(graph["aud"], "http://127.0.0.1:1");
        assert_eq!(graph["roles"], json!(["ExchangeMessageTrace.Read.All"]));
        assert_eq!(graph["exp"], now.timestamp() + 3_599);
        let reports = claims(&tokens.issue(REPORTS, &access, now));
        assert_eq!(reports["roles"], json!(["ReportingWebService.Read.All"]));
        access.graph_roles.clear();
        let graph = claims(&tokens.issue("http://127.0.0.1:1", &access, now));
        assert!(graph.get("roles").is_none());
    }

    #[test]
    fn reports_want_a_token_of_their_own_with_their_permission() {
        let (mut access, mut tokens) = (Access::default(), Tokens::default());
        let mut admits = |access: &Access, audience| {
            let token = tokens.issue(audience, access, Utc::now());
            tokens.admit(&format!("Bearer {token}"), access)
        };
        assert!(admits(&access, REPORTS));
        assert!(!admits(&access, "https://graph.microsoft.com"));
        access.reporting_roles.clear();
        assert!(!admits(&access, REPORTS));
    }

    #[test]
    fn basic_is_refused_unless_an_account_is_let_in() {
        let header = format!(
            "Basic {}",
            STANDARD.encode("user@contoso.example:pass:word")
        );
        let mut access = Access::default();
        assert!(!Tokens::default().admit(&header, &access));
        access.basic = Some(("user@contoso.example".to_owned(), "pass:word".to_owned()));
        assert!(Tokens::default().admit(&header, &access));
    }

    #[test]
    fn an_assertion_is_checked_in_every_part() {
        let authority = Authority::new("authority").unwrap();
        let identity = authority
            .issue(&Wish::client().form(KeyForm::RsaPkcs8))
            .unwrap();
        let other = authority
            .issue(&Wish::client().form(KeyForm::RsaPkcs8))
            .unwrap();
        let mut access = Access::default();
        access.app.certificate = Some(identity.certificate.clone());
        let der = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
        let thumbprint = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, &der));
        let now = Utc::now().timestamp();
        let id = access.app.client_id.clone();
        let good =
            json!({"aud": URL, "iss": id, "sub": id, "jti": "1", "nbf": now, "exp": now + 300});
        let sign = |claims: &Value, key: &str, thumbprint: &str| {
            let mut header = Header::new(Algorithm::PS256);
            header.x5t_s256 = Some(thumbprint.to_owned());
            encode(
                &header,
                claims,
                &EncodingKey::from_rsa_pem(key.as_bytes()).unwrap(),
            )
            .unwrap()
        };
        let mut tokens = Tokens::default();
        let mut ask = |assertion: &str| {
            let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
            let form = form(
                &access,
                &[
                    ("client_assertion_type", kind),
                    ("client_assertion", assertion),
                ],
            );
            code(token(
                &access.tenant,
                &form,
                URL,
                &access,
                Utc::now(),
                &mut tokens,
            ))
        };
        assert_eq!(ask(&sign(&good, &identity.key, &thumbprint)), 0);
        assert_eq!(
            ask(&sign(&good, &identity.key, &thumbprint)),
            7_000_222,
            "used before"
        );
        assert_eq!(
            ask(&sign(&good, &other.key, &thumbprint)),
            700_027,
            "wrong key"
        );
        assert_eq!(
            ask(&sign(&good, &identity.key, "AAAA")),
            700_027,
            "wrong thumbprint"
        );
        let mut but = |name: &str, value: Value| {
            let mut claims = good.clone();
            claims[name] = value;
            ask(&sign(&claims, &identity.key, &thumbprint))
        };
        assert_eq!(but("aud", json!("https://login.example")), 700_027);
        assert_eq!(but("iss", json!("other")), 700_027);
        assert_eq!(but("sub", json!("other")), 700_027);
        assert_eq!(but("exp", json!(now - 300)), 700_027);
        assert_eq!(but("exp", json!(now + 3_600)), 700_024);
        assert_eq!(but("jti", json!("")), 50_027);
    }
}
