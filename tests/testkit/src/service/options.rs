//! How the simulated service behaves when nothing is ordered.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use chrono::TimeDelta;
use rustls::ServerConfig;

use super::graph::GraphOptions;
use super::retirement::Retirement;
use crate::pki::Identity;

/// How the service behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens; port 0 takes a free one.
    pub bind: SocketAddr,
    /// Its certificate; none means plain HTTP.
    pub https: Option<Identity>,
    /// Tokens are had on another port than reports.
    pub authority_elsewhere: bool,
    /// Which JSON shape answers have.
    pub shape: Shape,
    /// The form of a link to the next page.
    pub link: LinkForm,
    /// Compress where the request allows it.
    pub gzip: bool,
    /// What answers a range that starts too long ago.
    pub too_old: TooOld,
    /// Rows a page; Microsoft's is 2000.
    pub page_rows: usize,
    /// Pages a query; Microsoft's is 1,000.
    pub pages_max: u64,
    /// Rows a query of `MailDetailATP`; Microsoft's is 10,000.
    pub detail_rows_max: usize,
    /// The service's clock less the machine's.
    pub clock_offset: TimeDelta,
    /// The directory's clock less the service's.
    pub directory_clock_offset: TimeDelta,
    /// Time before each answer for a report.
    pub latency: Duration,
    /// Who may ask.
    pub access: Access,
    /// Message trace is no longer in the reporting service, or never was; none means that it is.
    pub retirement: Option<Retirement>,
    /// How Graph behaves.
    pub graph: GraphOptions,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            https: None,
            authority_elsewhere: false,
            shape: Shape::AsAsked,
            link: LinkForm::Relative,
            gzip: true,
            too_old: TooOld::ServerError,
            page_rows: 2_000,
            pages_max: 1_000,
            detail_rows_max: 10_000,
            clock_offset: TimeDelta::zero(),
            directory_clock_offset: TimeDelta::zero(),
            latency: Duration::ZERO,
            access: Access::default(),
            retirement: None,
            graph: GraphOptions::default(),
        }
    }
}

impl Options {
    pub(crate) fn tls(&self) -> Result<Option<Arc<ServerConfig>>> {
        let Some(identity) = &self.https else {
            return Ok(None);
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(identity.chain()?, identity.private_key()?)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Some(Arc::new(config)))
    }
}

/// Which JSON shape answers have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Verbose with `$format=json` or `Accept: application/json;odata=verbose`, else light.
    AsAsked,
    /// Light, whatever was asked for.
    Light,
    /// Verbose, whatever was asked for.
    Verbose,
}

/// The form of a link to the next page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkForm {
    /// `../../reportingwebservice/reporting.svc/MessageTrace?…`, as seen.
    Relative,
    /// With scheme and host.
    Absolute,
    /// `MessageTrace?…`.
    Bare,
}

/// What answers a range that starts too long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooOld {
    /// Status 500.
    ServerError,
    /// Status 200 and no rows.
    Empty,
}

/// Who may ask.
#[derive(Clone, Debug)]
pub struct Access {
    /// The directory that tokens are issued for.
    pub tenant: String,
    /// The application that may have tokens.
    pub app: App,
    /// The account that Basic authentication lets in; none means that it gets 401, as at Microsoft's today.
    pub basic: Option<(String, String)>,
    /// How long a token is good for; what the answer says in whole seconds.
    pub token_lifetime: Duration,
    /// The application has its directory role; without it a good token gets 401 at the reporting service. Graph wants none.
    pub has_role: bool,
    /// The application permissions in a token for the reporting service.
    pub reporting_roles: Vec<String>,
    /// The application permissions in a token for Graph.
    pub graph_roles: Vec<String>,
}

/// An application registered in the directory.
#[derive(Clone, Debug)]
pub struct App {
    /// Its id.
    pub client_id: String,
    /// Its secret, if it has one.
    pub secret: Option<String>,
    /// Its certificate in PEM, if it has one.
    pub certificate: Option<String>,
}

impl Default for Access {
    fn default() -> Self {
        Access {
            tenant: "11111111-2222-3333-4444-555555555555".to_owned(),
            app: App {
                client_id: "66666666-7777-8888-9999-000000000000".to_owned(),
                secret: Some("a~secret.of-the_application".to_owned()),
                certificate: None,
            },
            basic: None,
            token_lifetime: Duration::from_secs(3_599),
            has_role: true,
            reporting_roles: vec!["ReportingWebService.Read.All".to_owned()],
            graph_roles: vec!["ExchangeMessageTrace.Read.All".to_owned()],
        }
    }
}
