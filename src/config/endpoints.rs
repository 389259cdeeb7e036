//! Where an input asks and signs in: Microsoft's clouds, and what a URL that will carry credentials must be.

use url::{Host, Url};

use super::Graph;
use super::reader::{Field, Section};
use super::words::{listed, quoted};

/// The addresses that an input uses.
pub(super) struct Endpoints {
    pub(super) base_url: Url,
    pub(super) authority_url: Url,
    pub(super) scope: String,
    pub(super) graph: Option<Graph>,
    /// Why there is no Graph to ask, where there is none.
    pub(super) no_graph: Option<&'static str>,
}

/// One of the separate clouds that Microsoft runs.
#[derive(Clone, Copy, PartialEq)]
enum Cloud {
    Commercial,
    Gcc,
    GccHigh,
    Dod,
    China,
}

/// The clouds' names in the configuration.
pub(super) const CLOUDS: &[&str] = &["commercial", "gcc", "gcc_high", "dod", "china"];

impl Cloud {
    fn named(name: &str) -> Option<Self> {
        use Cloud::{China, Commercial, Dod, Gcc, GccHigh};
        let place = CLOUDS
            .iter()
            .position(|cloud| name.eq_ignore_ascii_case(cloud))?;
        Some([Commercial, Gcc, GccHigh, Dod, China][place])
    }

    fn of_service(host: &str) -> Option<Self> {
        match host {
            "reports.office365.com" | "outlook.office365.com" => Some(Self::Commercial),
            "outlook.office365.us" => Some(Self::GccHigh),
            "partner.outlook.cn" => Some(Self::China),
            _ => None,
        }
    }

    fn of_authority(host: &str) -> Option<Self> {
        match host {
            "login.microsoftonline.com" => Some(Self::Commercial),
            "login.microsoftonline.us" => Some(Self::GccHigh),
            "login.chinacloudapi.cn" => Some(Self::China),
            _ => None,
        }
    }

    /// That of the department of defense is not known.
    fn base_url(self) -> Option<&'static str> {
        match self {
            Self::Commercial | Self::Gcc => {
                Some("https://reports.office365.com/ecp/reportingwebservice/reporting.svc/")
            }
            Self::GccHigh => {
                Some("https://outlook.office365.us/ecp/reportingwebservice/reporting.svc/")
            }
            Self::Dod => None,
            Self::China => {
                Some("https://partner.outlook.cn/ecp/reportingwebservice/reporting.svc/")
            }
        }
    }

    fn authority_url(self) -> &'static str {
        match self {
            Self::Commercial | Self::Gcc => "https://login.microsoftonline.com/",
            Self::GccHigh | Self::Dod => "https://login.microsoftonline.us/",
            Self::China => "https://login.chinacloudapi.cn/",
        }
    }

    fn scope(self) -> &'static str {
        match self {
            Self::Commercial | Self::Gcc => "https://outlook.office365.com/.default",
            Self::GccHigh | Self::Dod => "https://outlook.office365.us/.default",
            Self::China => "https://partner.outlook.cn/.default",
        }
    }

    /// Graph's root, where it has message trace (documented by Microsoft; that GCC is as commercial is inferred).
    fn graph_url(self) -> Option<&'static str> {
        match self {
            Self::Commercial | Self::Gcc => Some("https://graph.microsoft.com/"),
            Self::GccHigh | Self::Dod | Self::China => None,
        }
    }

    /// Whether a token of one is good in the other.
    fn shares_tokens(self, other: Self) -> bool {
        self.authority_url() == other.authority_url()
    }
}

/// Reads the addresses; those that are not given follow the cloud, which is the reporting service's where it is not given itself.
pub(super) fn read(section: &Section<'_>) -> Option<Endpoints> {
    let base = section.field("base_url");
    let authority = section.field("authority_url");
    let named = section.field("cloud").parse(|text| {
        Cloud::named(text).ok_or_else(|| format!("is no cloud: give {}", listed(CLOUDS, "or")))
    });
    let preset = named.unwrap_or(Cloud::Commercial);
    let base_url = match preset.base_url() {
        Some(known) => url_or(&base, known),
        None if base.is_given() => url_or(&base, ""),
        None => {
            base.mistake(
                "missing: the address of this cloud's reporting service is not known here",
            );
            None
        }
    };
    let host = base_url.as_ref().and_then(Url::host_str);
    let serving = host.and_then(Cloud::of_service);
    let cloud = named.or(serving);
    let authority_url = url_or(
        &authority,
        cloud.unwrap_or(Cloud::Commercial).authority_url(),
    );
    let scope = section.field("scope").text();

    let signing_in = authority_url
        .as_ref()
        .and_then(Url::host_str)
        .and_then(Cloud::of_authority);
    if let (Some(cloud), Some(signing_in)) = (serving, signing_in)
        && !cloud.shares_tokens(signing_in)
    {
        authority.warning(format!(
            "signing in at {} gives no access to the reporting service of another cloud: the `base_url` that belongs to \
             it is {}, the `authority_url` that belongs to the service {}",
            quoted(signing_in.authority_url()),
            quoted(signing_in.base_url().unwrap_or_default()),
            quoted(cloud.authority_url())
        ));
    }
    let graph = section.field("graph_url");
    let graph_url = if graph.is_given() {
        url_or(&graph, "")
    } else {
        let known = serving.and_then(|serving| named.unwrap_or(serving).graph_url());
        known.and_then(|known| Url::parse(known).ok())
    };
    let lacks = cloud.is_some_and(|cloud| cloud.graph_url().is_none());
    let no_graph = if lacks {
        Some("this cloud's Microsoft Graph has no message trace")
    } else if graph_url.is_none() {
        Some("where Microsoft Graph is does not follow from this `base_url`: give `graph_url`")
    } else {
        None
    };
    Some(Endpoints {
        base_url: base_url?,
        authority_url: authority_url?,
        scope: scope.unwrap_or_else(|| cloud.unwrap_or(Cloud::Commercial).scope().to_owned()),
        graph: graph_url.filter(|_| no_graph.is_none()).map(|url| Graph {
            scope: format!("{}/.default", url.origin().ascii_serialization()),
            url,
        }),
        no_graph,
    })
}

/// The URL given, or else the default; `None` after a mistake.
fn url_or(field: &Field<'_>, default: &str) -> Option<Url> {
    if !field.is_given() {
        return Url::parse(default).ok();
    }
    let text = field.text()?;
    match root_url(text.trim()) {
        Ok(url) => Some(url),
        Err(reason) => {
            // What stands before an `@` may be a password.
            let shown = if text.contains('@') {
                "the URL".to_owned()
            } else {
                quoted(&text)
            };
            field.mistake(format!("{shown} {reason}"));
            None
        }
    }
}

/// A URL that others are joined to, and that may be trusted with credentials.
fn root_url(text: &str) -> Result<Url, String> {
    let mut url = Url::parse(text).map_err(|error| {
        format!(
            "is not a URL ({error}): give one such as {}",
            quoted("https://reports.office365.com/ecp/reportingwebservice/reporting.svc/")
        )
    })?;
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(&url) => {}
        _ => {
            return Err("is not allowed: it will carry credentials, so it has to begin with `https://` (`http://` is \
                        accepted for loopback addresses only)"
                .to_owned());
        }
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user name or a password: put those under `credentials`".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("has a `?` or `#` part: give the root of the service alone".to_owned());
    }
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

/// Whether the URL's host is this machine, for certain.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
