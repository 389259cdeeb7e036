//! Where an input asks and signs in: Microsoft's clouds, and what a URL that will carry credentials must be.

use url::{Host, Url};

use super::reader::{Field, Section};
use super::words::quoted;

/// The addresses that an input uses.
pub(super) struct Endpoints {
    pub(super) base_url: Url,
    pub(super) authority_url: Url,
    pub(super) scope: String,
}

/// One of the separate clouds that Microsoft runs.
#[derive(Clone, Copy, PartialEq)]
enum Cloud {
    Global,
    UsGovernment,
    China,
}

impl Cloud {
    fn of_service(host: &str) -> Option<Self> {
        match host {
            "reports.office365.com" | "outlook.office365.com" => Some(Self::Global),
            "outlook.office365.us" => Some(Self::UsGovernment),
            "partner.outlook.cn" => Some(Self::China),
            _ => None,
        }
    }

    fn of_authority(host: &str) -> Option<Self> {
        match host {
            "login.microsoftonline.com" => Some(Self::Global),
            "login.microsoftonline.us" => Some(Self::UsGovernment),
            "login.chinacloudapi.cn" => Some(Self::China),
            _ => None,
        }
    }

    fn base_url(self) -> &'static str {
        match self {
            Self::Global => "https://reports.office365.com/ecp/reportingwebservice/reporting.svc/",
            Self::UsGovernment => {
                "https://outlook.office365.us/ecp/reportingwebservice/reporting.svc/"
            }
            Self::China => "https://partner.outlook.cn/ecp/reportingwebservice/reporting.svc/",
        }
    }

    fn authority_url(self) -> &'static str {
        match self {
            Self::Global => "https://login.microsoftonline.com/",
            Self::UsGovernment => "https://login.microsoftonline.us/",
            Self::China => "https://login.chinacloudapi.cn/",
        }
    }

    fn scope(self) -> &'static str {
        match self {
            Self::Global => "https://outlook.office365.com/.default",
            Self::UsGovernment => "https://outlook.office365.us/.default",
            Self::China => "https://partner.outlook.cn/.default",
        }
    }
}

/// Reads the addresses; those that are not given follow the reporting service's cloud.
pub(super) fn read(section: &Section<'_>) -> Option<Endpoints> {
    let base = section.field("base_url");
    let authority = section.field("authority_url");
    let base_url = url_or(&base, Cloud::Global.base_url());
    let cloud = base_url
        .as_ref()
        .and_then(Url::host_str)
        .and_then(Cloud::of_service);
    let authority_url = url_or(&authority, cloud.unwrap_or(Cloud::Global).authority_url());
    let scope = section.field("scope").text();

    let signing_in = authority_url
        .as_ref()
        .and_then(Url::host_str)
        .and_then(Cloud::of_authority);
    if let (Some(cloud), Some(signing_in)) = (cloud, signing_in)
        && cloud != signing_in
    {
        authority.warning(format!(
            "signing in at {} gives no access to the reporting service of another cloud: the `base_url` that belongs to \
             it is {}, the `authority_url` that belongs to the service {}",
            quoted(signing_in.authority_url()),
            quoted(signing_in.base_url()),
            quoted(cloud.authority_url())
        ));
    }
    Some(Endpoints {
        base_url: base_url?,
        authority_url: authority_url?,
        scope: scope.unwrap_or_else(|| cloud.unwrap_or(Cloud::Global).scope().to_owned()),
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
            quoted(Cloud::Global.base_url())
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
