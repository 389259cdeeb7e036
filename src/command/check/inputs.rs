//! Inputs: the way there, signing in, each report once, and the service's clock.

use std::sync::Arc;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::{Line, Verdict, graph, way};
use crate::config::{Config, Credentials, Input, ServiceConfig, SourceChoice};
use crate::error::chain;
use crate::record::Fingerprinter;
use crate::report::Origin;
use crate::source::{Client, FetchError, Kind, Query, Route};
use crate::source::{DIFFERENCE_MAX, schedule};
use crate::tenant::Tenant;
use crate::window::{Schedule, Window};

/// The longest that a token may take to come.
pub(super) const SIGN_IN_TIMEOUT: Duration = Duration::from_secs(90);
/// The longest that the first page of a report may take to come, its turn within the budget included: the service computes for minutes.
pub(super) const REPORT_TIMEOUT: Duration = Duration::from_mins(3);
/// How often is looked whether the service has asked for a pause that would take longer.
const LOOK: Duration = Duration::from_millis(100);
/// Clocks that differ by no more agree: a `Date` is cut to the second.
const AGREE: TimeDelta = TimeDelta::seconds(2);

pub(super) async fn lines(config: Arc<Config>, at: usize) -> Vec<Line> {
    let input = &config.inputs[at];
    let part = |what: &str| format!("input {}: {what}", input.name);
    let tenant = match Tenant::of_command(input, &config.globals.state) {
        Ok(tenant) => Arc::new(tenant),
        Err(error) => {
            // The first of them is the input's name.
            let reasons: Vec<_> = error.chain().skip(1).map(ToString::to_string).collect();
            let action = "put right the file that is named, or the parameter that names it";
            let mut lines = vec![Line::new(
                part("files"),
                Verdict::failed(reasons.join(": "), action),
            )];
            lines.push(Line::new(
                part("sign-in"),
                not_tried("a file cannot be used"),
            ));
            lines.extend(input.services.iter().map(|service| {
                Line::new(part_of(input, service), not_tried("a file cannot be used"))
            }));
            return lines;
        }
    };
    let needs_graph = input.services.iter().any(may_use_graph);
    let graph = tenant.graph().filter(|_| needs_graph);
    // Where Graph tells of everything, the reporting service is not asked for anything.
    let needs_reports = graph.is_none() || input.services.iter().any(uses_reports);
    let client = match graph {
        Some(graph) if !needs_reports => graph,
        _ => tenant.reports(),
    };
    let mut lines: Vec<_> = certificate(client)
        .map(|verdict| Line::new(part("certificate"), verdict))
        .into_iter()
        .collect();
    let mut routes = client.routes(input);
    routes.retain(|route| needs_reports || !route.reports || route.tokens);
    let to_graph = graph.and_then(|graph| graph.route_to_graph(input));
    if let Some(route) = to_graph {
        let mut known = routes.iter_mut();
        match known.find(|known| known.host == route.host && known.port == route.port) {
            Some(known) => known.graph = true,
            None => routes.push(route),
        }
    }
    let routes = ways(routes).await;
    lines.extend(routes.iter().map(|(route, verdict)| {
        Line::new(part(&format!("way to {}", route.host)), verdict.clone())
    }));
    let blocked = |leads: fn(&Route) -> bool| {
        let mut ways = routes.iter();
        ways.any(|(route, verdict)| leads(route) && matches!(verdict, Verdict::Failed(_)))
    };
    let has_tokens = !blocked(|route| route.tokens);
    let sign_in = sign_in(client, input, !has_tokens).await;
    let signed_in = matches!(sign_in.verdict, Verdict::Fine(_) | Verdict::Doubtful(_));
    lines.push(sign_in);
    let no_reports = if blocked(|route| route.reports) {
        Some("there is no way to the reporting service")
    } else {
        (!signed_in).then_some("there is no token")
    };
    let no_graph = if blocked(|route| route.graph) {
        Some("there is no way to Microsoft Graph")
    } else {
        (!has_tokens).then_some("there is no way to the tenant's directory")
    };
    let without = (no_reports, no_graph);
    lines.extend(services(&tenant, &config, at, without).await);
    let who = if needs_reports {
        Origin::ReportingService
    } else {
        Origin::Graph
    };
    lines.push(Line::new(part("clock"), clock(client, who.title())));
    lines
}

/// Whether message traces of this service may be asked for at Graph, where the input has a way there.
fn may_use_graph(service: &ServiceConfig) -> bool {
    service.report.has_two_services()
        && service.source != SourceChoice::Only(Origin::ReportingService)
}

fn uses_reports(service: &ServiceConfig) -> bool {
    service.source != SourceChoice::Only(Origin::Graph)
}

/// On the application's certificate, where it signs in with one.
fn certificate(client: &Client) -> Option<Verdict> {
    let (end, now) = (client.certificate_expiry()?, Utc::now());
    let renew = "upload a new certificate to the application in Microsoft Entra, and replace `client_certificate` and `client_key`; \
                 no restart is needed";
    if end <= now {
        let what = format!("the application's certificate expired on {end}");
        return Some(Verdict::failed(what, renew));
    }
    let usable = "certificate and key can be used";
    Some(Verdict::until(end, now, usable, renew))
}

fn not_tried(why: &str) -> Verdict {
    Verdict::NotTried(why.to_owned())
}

fn part_of(input: &Input, service: &ServiceConfig) -> String {
    format!("input {}: {}", input.name, service.report.service)
}

/// Tries the ways at the same time.
async fn ways(routes: Vec<Route>) -> Vec<(Route, Verdict)> {
    let mut tried = JoinSet::new();
    for (at, route) in routes.into_iter().enumerate() {
        tried.spawn(async move {
            let verdict = way::verdict(&route).await;
            (at, route, verdict)
        });
    }
    let mut tried = tried.join_all().await;
    tried.sort_by_key(|(at, _, _)| *at);
    tried
        .into_iter()
        .map(|(_, route, verdict)| (route, verdict))
        .collect()
}

async fn sign_in(client: &Client, input: &Input, blocked: bool) -> Line {
    let part = format!("input {}: sign-in", input.name);
    if matches!(input.credentials, Credentials::Basic { .. }) {
        let text = "username and password go with each request; Microsoft has turned them off in the winter of 2022/23: where the \
                    reports refuse them, sign in with `tenant_id`, `client_id` and `client_secret`";
        return Line::new(part, Verdict::Doubtful(text.to_owned()));
    }
    if blocked {
        return Line::new(part, not_tried("there is no way to the tenant's directory"));
    }
    let begun = Instant::now();
    let verdict = match timeout(SIGN_IN_TIMEOUT, client.sign_in()).await {
        Ok(Ok(())) => Verdict::Fine("the tenant's directory gives a token".to_owned()),
        Ok(Err(error)) => refused(&error),
        Err(_) => Verdict::failed(
            format!("no token has come within {} s", SIGN_IN_TIMEOUT.as_secs()),
            "check the way from this machine to `authority_url`: firewall, HTTPS_PROXY",
        ),
    };
    Line::new(part, verdict).after(begun.elapsed())
}

/// Why the reporting service cannot be asked, and why Graph cannot.
type Without = (Option<&'static str>, Option<&'static str>);

/// Asks for each service of the input, at the same time.
async fn services(
    tenant: &Arc<Tenant>,
    config: &Arc<Config>,
    at: usize,
    without: Without,
) -> Vec<Line> {
    let mut asked = JoinSet::new();
    for nth in 0..config.inputs[at].services.len() {
        let (tenant, config) = (Arc::clone(tenant), Arc::clone(config));
        asked.spawn(async move {
            let input = &config.inputs[at];
            (
                nth,
                of_service(&tenant, input, &input.services[nth], without).await,
            )
        });
    }
    let mut asked = asked.join_all().await;
    asked.sort_by_key(|(nth, _)| *nth);
    asked.into_iter().flat_map(|(_, lines)| lines).collect()
}

async fn of_service(
    tenant: &Arc<Tenant>,
    input: &Input,
    service: &ServiceConfig,
    without: Without,
) -> Vec<Line> {
    let graph = async {
        let client = tenant.graph().filter(|_| may_use_graph(service))?;
        let begun = Instant::now();
        let verdict = match without.1 {
            Some(why) => not_tried(why),
            None => graph::verdict(tenant, client, input, service).await,
        };
        Some((verdict, begun.elapsed()))
    };
    let reports = async {
        if tenant.graph().is_some() && !uses_reports(service) {
            return None;
        }
        let begun = Instant::now();
        let asked = match without.0 {
            Some(why) => Asked {
                verdict: not_tried(why),
                is_a_sign: false,
            },
            None => report(tenant.reports(), service).await,
        };
        Some((asked, begun.elapsed()))
    };
    let (reports, graph) = tokio::join!(reports, graph);
    let part = part_of(input, service);
    let of_graph = |verdict| Line::new(format!("{part} from Microsoft Graph"), verdict);
    match (reports, graph) {
        (Some((reports, took)), Some((graph, took_there))) => {
            let (reports, graph) = together(reports, graph);
            let graph = of_graph(graph).after(took_there);
            vec![Line::new(part, reports).after(took), graph]
        }
        (Some((reports, took)), None) => vec![Line::new(part, reports.verdict).after(took)],
        (None, graph) => { graph.into_iter() }
            .map(|(graph, took)| of_graph(graph).after(took))
            .collect(),
    }
}

/// What came of asking the reporting service.
struct Asked {
    verdict: Verdict,
    /// It failed as it would where message trace is no longer there, or for a lack of rights.
    is_a_sign: bool,
}

/// What both services' verdicts are where one of them is enough.
fn together(reports: Asked, graph: Verdict) -> (Verdict, Verdict) {
    let Asked { verdict, is_a_sign } = reports;
    match (verdict, graph) {
        (reports @ (Verdict::Fine(_) | Verdict::Doubtful(_)), Verdict::Failed(text)) => {
            let text = format!("{text}; until then it works with the reporting service alone");
            (reports, Verdict::Doubtful(text))
        }
        (Verdict::Failed(text), graph @ (Verdict::Fine(_) | Verdict::Doubtful(_))) if is_a_sign => {
            let text = format!("{text}; until then it works with Microsoft Graph alone");
            (Verdict::Doubtful(text), graph)
        }
        both => both,
    }
}

/// Asks for the first page of the last window that has settled, the shortest that there is.
async fn report(client: &Client, service: &ServiceConfig) -> Asked {
    let ServiceConfig {
        report,
        aggregate_by,
        ..
    } = *service;
    let schedule = schedule(service);
    let window = last_settled(&schedule);
    let (first, last) = schedule.asked(window);
    let query = Query {
        report,
        first,
        last,
        aggregate_by,
    };
    // The rows are only counted, so that any key will do.
    let mut walk = client.walk(query, &Fingerprinter::new(&[0; 16], report.times));
    let given_up = Instant::now() + REPORT_TIMEOUT;
    let mut is_a_sign = false;
    let verdict = tokio::select! {
        answer = walk.next() => match answer {
            Ok(page) => {
                let rows = page.map_or(0, |page| page.len());
                Verdict::Fine(format!(
                    "{} answers, rows on the first page of {window}: {rows}",
                    report.path
                ))
            }
            Err(error) => {
                is_a_sign = error.tells_of_retirement()
                    || error.is_bare()
                    || matches!(
                        error.kind(),
                        Kind::NotFound | Kind::Forbidden | Kind::Unauthorized
                    );
                refused(&error)
            }
        },
        verdict = no_answer(client, given_up) => verdict,
    };
    Asked { verdict, is_a_sign }
}

pub(super) fn last_settled(schedule: &Schedule) -> Window {
    let now = Utc::now();
    let last = schedule.settled(now) - TimeDelta::seconds(1);
    schedule.shortest(schedule.start(Some(last), now))
}

/// Resolves when there will be no answer before `given_up`.
pub(super) async fn no_answer(client: &Client, given_up: Instant) -> Verdict {
    loop {
        let left = given_up - Instant::now();
        if left.is_zero() {
            return Verdict::failed(
                format!("no answer has come within {} s", REPORT_TIMEOUT.as_secs()),
                "check again later; if `requests_per_second` or `requests_limits` leave no turn within that time, raise them",
            );
        }
        if let Some(pause) = client.paused().filter(|pause| *pause > left) {
            // To the minute: services that wait for the same pause say the same.
            let minutes = pause.as_secs().div_ceil(60);
            return Verdict::NotTried(format!(
                "the service has asked for a pause, of which {minutes} min are left"
            ));
        }
        sleep(LOOK).await;
    }
}

pub(super) fn refused(error: &FetchError) -> Verdict {
    let action = match error.action() {
        Some(action) => action,
        None if error.kind() == Kind::Throttled => {
            "check again after that; if it lasts, lower `requests_per_second`, or stop other clients of the tenant's reporting service"
                .to_owned()
        }
        None => "check again; if it lasts, raise it with Microsoft's support".to_owned(),
    };
    let request_id = error
        .request_id()
        .map(|id| format!(" (request-id {id})"))
        .unwrap_or_default();
    Verdict::failed(format!("{}{request_id}", chain(error)), action)
}

fn clock(client: &Client, who: &str) -> Verdict {
    let Some(theirs) = client.service_time() else {
        return not_tried(&format!("{who} has told no time"));
    };
    let difference = Utc::now() - theirs;
    let seconds = difference.num_seconds();
    if difference.abs() <= AGREE {
        Verdict::Fine(format!("this machine's clock and {who}'s agree"))
    } else if difference.abs() <= DIFFERENCE_MAX {
        Verdict::Fine(format!("this machine's clock less {who}'s: {seconds} s"))
    } else {
        Verdict::failed(
            format!(
                "this machine's clock less {who}'s is {} min",
                difference.num_minutes()
            ),
            "set this machine's clock (NTP); until then the earlier one is gone by",
        )
    }
}
