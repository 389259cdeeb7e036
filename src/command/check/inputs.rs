//! Inputs: the way there, signing in, each report once, and the service's clock.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::{Line, Verdict, way};
use crate::config::{Credentials, Input, ServiceConfig};
use crate::error::chain;
use crate::record::Fingerprinter;
use crate::source::{Client, FetchError, Kind, Query, Route};
use crate::source::{DIFFERENCE_MAX, schedule};
use crate::window::{Schedule, Window};

/// The longest that a token may take to come.
const SIGN_IN_TIMEOUT: Duration = Duration::from_secs(90);
/// The longest that the first page of a report may take to come, its turn within the budget included: the service computes for minutes.
const REPORT_TIMEOUT: Duration = Duration::from_mins(3);
/// How often is looked whether the service has asked for a pause that would take longer.
const LOOK: Duration = Duration::from_millis(100);
/// Clocks that differ by no more agree: a `Date` is cut to the second.
const AGREE: TimeDelta = TimeDelta::seconds(2);

pub(super) async fn lines(input: &Input) -> Vec<Line> {
    let part = |what: &str| format!("input {}: {what}", input.name);
    let client = match Client::new(input) {
        Ok(client) => client,
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
            lines.extend(skipped(input, "a file cannot be used"));
            return lines;
        }
    };
    let mut lines: Vec<_> = certificate(&client)
        .map(|verdict| Line::new(part("certificate"), verdict))
        .into_iter()
        .collect();
    let routes = ways(client.routes(input)).await;
    lines.extend(routes.iter().map(|(route, verdict)| {
        Line::new(part(&format!("way to {}", route.host)), verdict.clone())
    }));
    let blocked = |leads: fn(&Route) -> bool| {
        let mut ways = routes.iter();
        ways.any(|(route, verdict)| leads(route) && matches!(verdict, Verdict::Failed(_)))
    };
    let sign_in = sign_in(&client, input, blocked(|route| route.tokens)).await;
    let signed_in = matches!(sign_in.verdict, Verdict::Fine(_) | Verdict::Doubtful(_));
    lines.push(sign_in);
    if blocked(|route| route.reports) {
        lines.extend(skipped(input, "there is no way to the reporting service"));
    } else if signed_in {
        lines.extend(reports(&client, input).await);
    } else {
        lines.extend(skipped(input, "there is no token"));
    }
    lines.push(Line::new(part("clock"), clock(&client)));
    lines
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

fn skipped(input: &Input, why: &str) -> Vec<Line> {
    let services = input.services.iter();
    services
        .map(|service| Line::new(part_of(input, service), not_tried(why)))
        .collect()
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

async fn reports(client: &Client, input: &Input) -> Vec<Line> {
    let mut asked = JoinSet::new();
    for (at, service) in input.services.iter().enumerate() {
        let (client, service) = (client.clone(), service.clone());
        let part = part_of(input, &service);
        asked.spawn(async move {
            let begun = Instant::now();
            let verdict = report(&client, &service).await;
            (at, Line::new(part, verdict).after(begun.elapsed()))
        });
    }
    let mut asked = asked.join_all().await;
    asked.sort_by_key(|(at, _)| *at);
    asked.into_iter().map(|(_, line)| line).collect()
}

/// Asks for the first page of the last window that has settled, the shortest that there is.
async fn report(client: &Client, service: &ServiceConfig) -> Verdict {
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
    let answer = tokio::select! {
        answer = walk.next() => answer,
        verdict = no_answer(client, given_up) => return verdict,
    };
    match answer {
        Ok(page) => {
            let rows = page.map_or(0, |page| page.len());
            Verdict::Fine(format!(
                "{} answers, rows on the first page of {window}: {rows}",
                report.path
            ))
        }
        Err(error) => refused(&error),
    }
}

fn last_settled(schedule: &Schedule) -> Window {
    let now = Utc::now();
    let last = schedule.settled(now) - TimeDelta::seconds(1);
    schedule.shortest(schedule.start(Some(last), now))
}

/// Resolves when there will be no answer before `given_up`.
async fn no_answer(client: &Client, given_up: Instant) -> Verdict {
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

fn refused(error: &FetchError) -> Verdict {
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

fn clock(client: &Client) -> Verdict {
    let Some(theirs) = client.service_time() else {
        return not_tried("the reporting service has told no time");
    };
    let difference = Utc::now() - theirs;
    let seconds = difference.num_seconds();
    if difference.abs() <= AGREE {
        Verdict::Fine("this machine's clock and the reporting service's agree".to_owned())
    } else if difference.abs() <= DIFFERENCE_MAX {
        Verdict::Fine(format!(
            "this machine's clock less the reporting service's: {seconds} s"
        ))
    } else {
        Verdict::failed(
            format!(
                "this machine's clock less the reporting service's is {} min",
                difference.num_minutes()
            ),
            "set this machine's clock (NTP); until then the earlier one is gone by",
        )
    }
}
