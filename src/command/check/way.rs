//! The way to a host over HTTP: name and connection, the proxy's where there is one.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Verdict;
use crate::blocking;
use crate::source::Route;

/// The longest that a name server may take.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(20);
/// The longest that all addresses of a name may take together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// Resolves the name, and connects to one of its addresses.
pub(super) async fn verdict(route: &Route) -> Verdict {
    let Route {
        via, port, host, ..
    } = route;
    let (what, parameter) = if route.proxied {
        (
            format!("the proxy {via}:{port}"),
            "the variable HTTPS_PROXY".to_owned(),
        )
    } else {
        (format!("{via}:{port}"), format!("`{}`", route.parameter()))
    };
    let resolved = timeout(RESOLVE_TIMEOUT, blocking::resolve(via, *port)).await;
    let addresses: Vec<_> = match resolved {
        Ok(Ok(addresses)) => addresses,
        Ok(Err(error)) => {
            return Verdict::failed(
                format!("the name of {what} cannot be resolved ({error})"),
                format!("check the host name in {parameter}, and this machine's name server"),
            );
        }
        Err(_) => {
            return Verdict::failed(
                format!(
                    "no name server has answered for {what} within {} s",
                    RESOLVE_TIMEOUT.as_secs()
                ),
                "check this machine's name server",
            );
        }
    };
    let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect(addresses.as_slice())).await;
    let reason = match connected {
        Ok(Ok(_)) if route.proxied => {
            return Verdict::Fine(format!("{what} accepts connections, for {host}"));
        }
        Ok(Ok(_)) => return Verdict::Fine(format!("{what} accepts connections")),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()),
    };
    let action = if route.proxied {
        format!(
            "check {parameter}, and that the proxy runs; hosts in NO_PROXY are asked without it"
        )
    } else {
        format!(
            "check {parameter}, and that no firewall is between here and there; where a proxy leads out, name it in HTTPS_PROXY"
        )
    };
    Verdict::failed(format!("no connection to {what} ({reason})"), action)
}
