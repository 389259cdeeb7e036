//! Where the connections of an input lead: to the host itself, or to the proxy that the environment names for it.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper_util::client::proxy::matcher::Matcher;
use percent_encoding::percent_decode_str;
use url::{Host, Url};

use super::Client;
use crate::config::Input;
use crate::config::is_loopback;
use crate::foreign::{Hidden, hide};

/// Where a connection for some host leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Requests for reports lead there.
    pub reports: bool,
    /// Requests for tokens lead there.
    pub tokens: bool,
    /// The host that is asked.
    pub host: String,
    /// The name or address that a connection is made to: the host's, or its proxy's.
    pub via: String,
    /// The port there.
    pub port: u16,
    /// Whether that is a proxy.
    pub proxied: bool,
}

impl Route {
    /// The parameter that names the host.
    pub fn parameter(&self) -> &'static str {
        if self.reports {
            "base_url"
        } else {
            "authority_url"
        }
    }
}

impl Client {
    /// Where requests of `input` lead: those for reports, and those for tokens where they lead elsewhere.
    pub fn routes(&self, input: &Input) -> Vec<Route> {
        let mut reports = route(&input.base_url);
        if self.0.sign_in.is_basic() {
            return vec![Route {
                reports: true,
                ..reports
            }];
        }
        let tokens = route(&input.authority_url);
        let shared = reports == tokens;
        (reports.reports, reports.tokens) = (true, shared);
        let tokens = Route {
            tokens: true,
            ..tokens
        };
        [Some(reports), (!shared).then_some(tokens)]
            .into_iter()
            .flatten()
            .collect()
    }
}

/// Keeps the passwords of the environment's proxies out of what is shown: a proxy's error page may repeat them.
pub(super) fn proxy_passwords() -> Vec<Hidden> {
    let names = ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"];
    let names = names
        .iter()
        .flat_map(|name| [(*name).to_owned(), name.to_ascii_lowercase()]);
    let proxies = names.filter_map(|name| std::env::var(name).ok());
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

fn route(url: &Url) -> Route {
    // As reqwest's own `system-proxy` finds it out.
    let proxies = (!is_loopback(url)).then(Matcher::from_system);
    let host = match url.host() {
        Some(Host::Ipv6(address)) => address.to_string(),
        host => host.map(|host| host.to_string()).unwrap_or_default(),
    };
    let uri = url.as_str().parse().ok();
    let proxy = uri.and_then(|uri| proxies.as_ref()?.intercept(&uri));
    let (via, port) = match &proxy {
        Some(proxy) => {
            let uri = proxy.uri();
            let via = uri.host().unwrap_or_default().trim_matches(['[', ']']);
            let secure = uri.scheme_str() == Some("https");
            let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
            (via.to_owned(), port)
        }
        None => (host.clone(), url.port_or_known_default().unwrap_or(443)),
    };
    Route {
        reports: false,
        tokens: false,
        host,
        via,
        port,
        proxied: proxy.is_some(),
    }
}
