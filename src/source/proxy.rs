//! The proxy that the environment names for HTTPS, and why it refuses a tunnel.

use std::env;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use percent_encoding::percent_decode_str;
use reqwest::{ClientBuilder, NoProxy, Proxy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use url::Url;

use super::error::shown;
use crate::blocking;
use crate::config::{is_loopback, unquoted};
use crate::foreign::{Hidden, hide};

/// In the order in which they count; the first that is set does.
const HTTPS: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
const EXCEPT: [&str; 2] = ["NO_PROXY", "no_proxy"];
/// The longest that the proxy is asked for its reason, and the longest answer.
const TIMEOUT: Duration = Duration::from_secs(10);
const HEAD_MAX_BYTES: u64 = 8 << 10;

/// The proxy that the environment names for HTTPS. All that is asked over plain HTTP is on loopback, and asked without one.
#[derive(Clone, Debug, Default)]
pub(super) struct Proxies {
    /// With a scheme, and with user and password if there are any.
    https: Option<String>,
    except: String,
}

/// Why a proxy opened no tunnel.
pub(super) struct Refusal {
    /// What it said.
    pub(super) message: String,
    /// What to do about it.
    pub(super) action: String,
}

impl Proxies {
    /// What the environment says, without the quotes and blanks around it that `docker run --env-file` passes on.
    ///
    /// # Errors
    ///
    /// If a variable names no proxy that can be used: to go without one would be something else than was asked for.
    pub(super) fn from_environment() -> Result<Self> {
        let https = first(&HTTPS)?;
        let https = https
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| address(name, &value))
            .transpose()?;
        let except = first(&EXCEPT)?.map(|(_, value)| value);
        Ok(Self {
            https,
            except: except.unwrap_or_default(),
        })
    }

    /// The proxy for `url`, if there is one.
    pub(super) fn of(&self, url: &Url) -> Option<Intercept> {
        if is_loopback(url) {
            return None; // a proxy's loopback is another one
        }
        let https = self.https.as_deref()?;
        let matcher = Matcher::builder().https(https).no(&*self.except).build();
        matcher.intercept(&url.as_str().parse().ok()?)
    }

    /// Has a client go through the proxy for `url`.
    pub(super) fn apply(&self, client: ClientBuilder, url: &Url) -> Result<ClientBuilder> {
        let client = client.no_proxy();
        match &self.https {
            Some(https) if !is_loopback(url) => {
                // The error would show the address, which may hold a password.
                let Ok(proxy) = Proxy::https(https) else {
                    bail!("the proxy cannot be used");
                };
                Ok(client.proxy(proxy.no_proxy(NoProxy::from_string(&self.except))))
            }
            _ => Ok(client),
        }
    }

    /// Why the proxy opens no tunnel to `url`, found by asking it once more; `None` if it does, or does not say.
    pub(super) async fn refusal(&self, url: &Url) -> Option<Refusal> {
        let proxy = self.of(url)?;
        if proxy.uri().scheme_str() != Some("http") {
            return None;
        }
        let target = format!("{}:{}", url.host_str()?, url.port_or_known_default()?);
        let answer = tokio::time::timeout(TIMEOUT, ask(&proxy, &target)).await;
        explain(&answer.ok()?.ok()?, proxy.basic_auth().is_some(), &target)
    }
}

/// Keeps the passwords of the environment's proxies out of what is shown: a proxy's error page may repeat them.
pub(super) fn passwords() -> Vec<Hidden> {
    let names = ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"];
    let names = names
        .iter()
        .flat_map(|name| [(*name).to_owned(), name.to_ascii_lowercase()]);
    let proxies = names.filter_map(|name| env::var(name).ok());
    proxies
        .filter_map(|proxy| {
            // As in a URL, which need not name its scheme: `user:password@host`.
            let (user, _) = proxy.rsplit_once('@')?;
            let pair = user.rsplit_once("//").map_or(user, |(_, pair)| pair);
            let (_, password) = pair.split_once(':')?;
            let decoded = percent_decode_str(pair).decode_utf8_lossy();
            Some([
                hide(password),
                hide(&BASE64_STANDARD.encode(decoded.as_bytes())),
            ])
        })
        .flatten()
        .collect()
}

/// The first of these variables that is set.
fn first(names: &[&'static str]) -> Result<Option<(&'static str, String)>> {
    for name in names {
        match env::var(name) {
            Ok(value) => return Ok(Some((name, unquoted(&value).to_owned()))),
            Err(env::VarError::NotPresent) => {}
            Err(env::VarError::NotUnicode(_)) => bail!("the variable {name} is not UTF-8"),
        }
    }
    Ok(None)
}

/// The address of a proxy, with its scheme. No message shows it: it may hold a password.
fn address(name: &str, value: &str) -> Result<String> {
    let address = if value.contains("://") {
        value.to_owned()
    } else {
        format!("http://{value}")
    };
    let scheme = address.split("://").next().unwrap_or_default();
    if scheme.to_ascii_lowercase().starts_with("socks") {
        bail!(
            "the variable {name} names a SOCKS proxy, which is not supported: name an HTTP proxy, such as `http://proxy.example.com:8080`"
        );
    }
    let example = "https://example.com/".parse().context("an address")?;
    let matcher = Matcher::builder().https(address.as_str()).build();
    let usable = matcher.intercept(&example).is_some_and(|proxy| {
        // An `@` that is left belongs to a password that is not percent-encoded: all behind its first one would be cut off.
        let authority = proxy.uri().authority();
        authority.is_some_and(|authority| !authority.as_str().contains(['@', '"', '\'']))
    });
    if !usable || Url::parse(&address).is_err() {
        bail!(
            "the variable {name} does not name a proxy: write it as `http://proxy.example.com:8080`, or as \
             `http://user:password@proxy.example.com:8080` with characters such as `@`, `:`, `/` and `%` of user and password \
             percent-encoded"
        );
    }
    Ok(address)
}

/// Asks for a tunnel, and returns the head of the answer.
async fn ask(proxy: &Intercept, target: &str) -> std::io::Result<Vec<u8>> {
    let uri = proxy.uri();
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let addresses = blocking::resolve(host, uri.port_u16().unwrap_or(80)).await?;
    let mut stream = TcpStream::connect(&addresses[..]).await?;
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes();
    if let Some(authorization) = proxy.basic_auth() {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(authorization.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    stream.write_all(&request).await?;
    let mut head = Vec::new();
    let mut stream = stream.take(HEAD_MAX_BYTES);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    Ok(head)
}

/// What the head of an answer means; `None` if it opens the tunnel or is no answer.
fn explain(head: &[u8], with_password: bool, target: &str) -> Option<Refusal> {
    let head = String::from_utf8_lossy(head);
    let mut lines = head.split("\r\n").take_while(|line| !line.is_empty());
    let status = lines.next()?.strip_prefix("HTTP/1.")?.get(2..)?;
    let code: u16 = status.get(..3)?.parse().ok()?;
    if (200..300).contains(&code) {
        return None;
    }
    let mut message = format!("the proxy answered {} to CONNECT {target}", shown(status));
    let offered = lines.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        let scheme = value.split_whitespace().next()?;
        name.trim()
            .eq_ignore_ascii_case("proxy-authenticate")
            .then(|| shown(scheme))
    });
    let offered: Vec<_> = offered.collect();
    let has_basic = offered.iter().any(|one| one.eq_ignore_ascii_case("basic"));
    let action = match code {
        407 if !has_basic && !offered.is_empty() => {
            let offered = offered.join(", ");
            let _ = write!(message, ", and takes only {offered}"); // writing to a string cannot fail
            format!(
                "this collector knows Basic and not {offered}: let the proxy pass {target} from this machine without signing in, or run a proxy that \
                 signs in for it (such as cntlm or px) and name that in HTTPS_PROXY"
            )
        }
        407 if with_password => "check the user name and password in HTTPS_PROXY; characters such as `@`, `:`, `/` and `%` have to be \
                                 percent-encoded there"
            .to_owned(),
        407 => "give the proxy's user name and password in HTTPS_PROXY (`http://user:password@host:port`)".to_owned(),
        400..=499 => format!("have the proxy allow tunnels (CONNECT) to {target} from this machine"),
        _ => format!("look into the proxy's log: it does not reach {target}, or is overloaded"),
    };
    Some(Refusal { message, action })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_that_can_be_used() {
        let check = |value: &str, expected: Option<&str>| {
            let address = address("HTTPS_PROXY", value);
            if let Err(error) = &address {
                assert!(
                    error.to_string().contains("HTTPS_PROXY")
                        && !error.to_string().contains("hunter"),
                    "{error}"
                );
            }
            assert_eq!(address.ok().as_deref(), expected, "{value}");
        };
        check("proxy:3128", Some("http://proxy:3128"));
        check("http://10.0.0.1:3128/", Some("http://10.0.0.1:3128/"));
        check(
            "http://me:hunter%402@proxy:3128",
            Some("http://me:hunter%402@proxy:3128"),
        );
        check("http://[::1]:3128", Some("http://[::1]:3128"));
        for value in [
            "socks5://proxy:1080",
            "ftp://proxy",
            "http://",
            "http://pro xy:1",
            "http://me:hunter@2@proxy:1",
            "http://proxy:port",
            "“http://proxy”",
        ] {
            check(value, None);
        }
    }

    #[test]
    fn a_refusal_says_what_the_proxy_said_and_what_to_do() {
        let check = |head: &str, expected: &[&str]| {
            let refusal = explain(head.as_bytes(), false, "a.example:443");
            let said = refusal.map(|refusal| format!("{}: {}", refusal.message, refusal.action));
            let said = said.unwrap_or_default();
            assert_eq!(said.is_empty(), expected.is_empty(), "{said}");
            for part in expected {
                assert!(said.contains(part), "{said}");
            }
        };
        check("HTTP/1.1 200 Connection established\r\n\r\n", &[]);
        check("220 smtp", &[]);
        check(
            "HTTP/1.0 403 Forbidden\r\n\r\n",
            &[
                "answered 403 Forbidden to CONNECT a.example:443",
                "have the proxy allow",
            ],
        );
        check(
            "HTTP/1.1 502\r\n\r\n",
            &["answered 502 to", "the proxy's log"],
        );
        check(
            "HTTP/1.1 407 Authentication\r\nProxy-Authenticate: NTLM\r\nproxy-authenticate: Negotiate abc\r\n\r\n",
            &[
                "answered 407 Authentication",
                "takes only NTLM, Negotiate",
                "cntlm",
            ],
        );
        check(
            "HTTP/1.1 407 A\r\nProxy-Authenticate: NTLM\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\r\n",
            &["user:password@host"],
        );
    }
}
