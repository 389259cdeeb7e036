//! Where the connections of an input lead: to the host itself, or to the proxy that the environment names for it.

use url::{Host, Url};

use super::Client;
use super::proxy::Proxies;
use crate::config::Input;

/// Where a connection for some host leads.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Requests for reports lead there.
    pub reports: bool,
    /// Requests to Microsoft Graph lead there.
    pub graph: bool,
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
        } else if self.graph {
            "graph_url"
        } else {
            "authority_url"
        }
    }
}

impl Client {
    /// Where requests of `input` to Microsoft Graph lead, where it has a way there.
    pub fn route_to_graph(&self, input: &Input) -> Option<Route> {
        let graph = input.graph.as_ref()?;
        Some(Route {
            graph: true,
            ..route(&graph.url, &self.0.proxies)
        })
    }

    /// Where requests of `input` lead: those for reports, and those for tokens where they lead elsewhere.
    pub fn routes(&self, input: &Input) -> Vec<Route> {
        let mut reports = route(&input.base_url, &self.0.proxies);
        if self.0.sign_in.is_basic() {
            return vec![Route {
                reports: true,
                ..reports
            }];
        }
        let tokens = route(&input.authority_url, &self.0.proxies);
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

fn route(url: &Url, proxies: &Proxies) -> Route {
    let host = match url.host() {
        Some(Host::Ipv6(address)) => address.to_string(),
        host => host.map(|host| host.to_string()).unwrap_or_default(),
    };
    let proxy = proxies.of(url);
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
        graph: false,
        tokens: false,
        host,
        via,
        port,
        proxied: proxy.is_some(),
    }
}
