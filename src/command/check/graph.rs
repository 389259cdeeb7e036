//! Microsoft Graph's message trace: signing in, the permission, the budget, one page.

use std::sync::Arc;

use tokio::time::{Instant, timeout};

use super::Verdict;
use super::inputs::{REPORT_TIMEOUT, SIGN_IN_TIMEOUT, last_settled, no_answer, refused};
use crate::blocking::DISK;
use crate::command::side::Unmetered;
use crate::config::{Input, ServiceConfig};
use crate::record::Fingerprinter;
use crate::source::graph::budget::UNNOTED_MAX;
use crate::source::graph::{PERMISSION, ROLE};
use crate::source::{Client, GraphSource, Roles, Source as _, schedule};
use crate::tenant::Tenant;

/// Asks for the first page of the last window that has settled, if the token names the permission and the budget is not used up.
pub(super) async fn verdict(
    tenant: &Arc<Tenant>,
    client: &Client,
    input: &Input,
    service: &ServiceConfig,
) -> Verdict {
    match timeout(SIGN_IN_TIMEOUT, client.sign_in()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return refused(&error),
        Err(_) => {
            return Verdict::failed(
                format!(
                    "no token for Microsoft Graph has come within {} s",
                    SIGN_IN_TIMEOUT.as_secs()
                ),
                "check the way from this machine to `authority_url`: firewall, HTTPS_PROXY",
            );
        }
    }
    if let Some(Roles::Named(roles)) = client.roles()
        && !roles.iter().any(|role| role == ROLE)
    {
        let what = if roles.is_empty() {
            "the token for Microsoft Graph names no permission (it has no claim `roles`)".to_owned()
        } else {
            format!("the token for Microsoft Graph does not name the permission {ROLE}")
        };
        return Verdict::failed(what, PERMISSION);
    }
    let most = input.graph_requests.get();
    let used = used(tenant).await;
    if used.is_ok_and(|used| used >= most as usize) {
        return Verdict::NotTried(format!(
            "all {most} requests to Microsoft Graph for five minutes are used: check again after these"
        ));
    }
    let schedule = schedule(service);
    let window = last_settled(&schedule);
    let (first, last) = schedule.asked(window);
    // The rows are only counted, so that any key will do.
    let fingerprinter = Fingerprinter::of(&[0; 16], service.report);
    let source = GraphSource::new(client.clone(), input, fingerprinter, Arc::new(Unmetered));
    let mut walk = source.walk(first, last);
    let given_up = Instant::now() + REPORT_TIMEOUT;
    let answer = tokio::select! {
        biased;
        answer = walk.next_page() => answer,
        () = tenant.charges().spent() => {
            return Verdict::NotTried(format!(
                "more than {UNNOTED_MAX} requests to Microsoft Graph would be needed, and no more are made that cannot be noted in the state"
            ));
        }
        verdict = no_answer(client, given_up) => return verdict,
    };
    let rows = match answer {
        Ok(page) => page.map_or(0, |page| page.len()),
        Err(error) => return refused(&error),
    };
    let path = service.report.path;
    let answers =
        format!("{path} answers from Microsoft Graph, rows on the first page of {window}: {rows}");
    let noted = match self::used(tenant).await {
        Ok(used) if tenant.charges().trouble().is_none() => {
            format!("requests of the last five minutes: {used} of {most}")
        }
        _ => {
            let why = tenant.charges().trouble().unwrap_or_default();
            format!(
                "the requests cannot be noted in the state ({why}), so {UNNOTED_MAX} are made at most"
            )
        }
    };
    Verdict::Fine(format!("{answers}; {noted}"))
}

async fn used(tenant: &Arc<Tenant>) -> std::io::Result<usize> {
    let tenant = Arc::clone(tenant);
    DISK.run(move || tenant.requests_to_graph()).await
}
