//! What can go wrong with simulated Graph: its budget, its sign-in, and what a test orders.

use std::io::Read as _;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use testkit::report::Report;
use testkit::service::{
    Backlog, DeadLink, Fault, GraphBudget, GraphOptions, Principal, RetryAfter, RetryForm, Row,
    Target, When, most_within,
};
use url::Url;

use super::client::{Graph, message, range, texts};
use crate::client::{Answer, hour};

fn start() -> DateTime<Utc> {
    hour() - TimeDelta::hours(5)
}

/// A service that has three pages of ten rows.
async fn three_pages() -> Graph {
    let graph = Graph::new(GraphOptions {
        page_rows: 10,
        ..GraphOptions::default()
    })
    .await;
    let backlog = Backlog::new(Report::MessageTrace, start(), hour(), 25);
    graph.service.generate(&backlog);
    graph
}

/// The first page, under a fault.
async fn ask(graph: &Graph, fault: Fault) -> std::io::Result<Answer> {
    graph.service.fault(Target::Graph, When::Next(1), fault);
    first(graph).await
}

async fn first(graph: &Graph) -> std::io::Result<Answer> {
    let filter = range(start(), hour());
    let url = graph.url(&[("$filter", &filter), ("$top", "5000")]);
    graph.get(&url).await
}

fn link(answer: &Answer) -> Url {
    Url::parse(answer.json()["@odata.nextLink"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn a_hundred_requests_in_any_five_minutes_are_answered_for_the_whole_tenant() {
    let graph = three_pages().await;
    graph.service.spend_graph_budget(98);
    let walk = graph.walk(start() + TimeDelta::hours(4), hour(), 5).await;
    assert_eq!(walk.len(), 1);
    assert_eq!(first(&graph).await.unwrap().status, 200);
    let over = first(&graph).await.unwrap();
    assert_eq!(over.status, 429);
    assert_eq!(
        message(&over),
        "Your recent queries have surpassed the permitted limit, please try again later."
    );
    let seconds: u64 = over.header("retry-after").unwrap().parse().unwrap();
    assert!((290..=300).contains(&seconds), "{seconds}");
    let requests = graph.service.requests_to_graph();
    assert_eq!(most_within(&requests, Duration::from_mins(5)), 3);
}

#[tokio::test]
async fn the_budget_can_be_smaller_with_every_form_of_retry_after_and_off() {
    let graph = three_pages().await;
    let budget = |retry_after| {
        Some(GraphBudget {
            requests: 1,
            span: Duration::from_millis(300),
            retry_after,
        })
    };
    graph
        .service
        .adjust(|options| options.graph.budget = budget(RetryForm::Date));
    assert_eq!(first(&graph).await.unwrap().status, 200);
    let over = first(&graph).await.unwrap();
    let until = DateTime::parse_from_rfc2822(over.header("retry-after").unwrap()).unwrap();
    assert!(until.to_utc() > Utc::now(), "{until}");
    graph
        .service
        .adjust(|options| options.graph.budget = budget(RetryForm::Absent));
    let over = first(&graph).await.unwrap();
    assert_eq!((over.status, over.header("retry-after")), (429, None));
    let waiting = Instant::now();
    while first(&graph).await.unwrap().status == 429 {
        assert!(waiting.elapsed() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    graph.service.adjust(|options| options.graph.budget = None);
    for _ in 0..3 {
        assert_eq!(first(&graph).await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn a_tenant_without_the_service_principal_is_refused() {
    let graph = three_pages().await;
    let set = |principal| {
        graph
            .service
            .adjust(|options| options.graph.principal = principal);
    };
    set(Principal::Missing);
    let missing = first(&graph).await.unwrap();
    assert_eq!(missing.status, 401);
    assert_eq!(missing.json()["error"]["code"], "Unauthorized");
    let text = "Service principal-less Authentication failed: the service principal for App ID \
                8bd644d1-64a1-4d4b-ae52-2e0cbf64e373 was not found.";
    assert!(message(&missing).starts_with(text));
    set(Principal::Forbidden);
    assert_eq!(first(&graph).await.unwrap().status, 403);
    set(Principal::Present);
    assert_eq!(first(&graph).await.unwrap().status, 200);
    let once = ask(&graph, Fault::NoServicePrincipal).await.unwrap();
    assert!(message(&once).starts_with(text));
}

#[tokio::test]
async fn errors_come_in_graphs_words_with_what_was_ordered() {
    let graph = three_pages().await;
    for (fault, status, code) in [
        (Fault::BadRequest, 400, "BadRequest"),
        (Fault::Unauthorized, 401, "InvalidAuthenticationToken"),
        (Fault::Forbidden, 403, "Authorization_RequestDenied"),
        (Fault::ServerError, 500, "InternalServerError"),
        (Fault::Failed { status: 502 }, 502, "BadGateway"),
        (Fault::Busy(None), 503, "ServiceUnavailable"),
        (Fault::Failed { status: 504 }, 504, "GatewayTimeout"),
    ] {
        let answer = ask(&graph, fault).await.unwrap();
        assert_eq!(answer.status, status);
        assert_eq!(answer.json()["error"]["code"], code);
    }
    let absent = ask(&graph, Fault::NotFound).await.unwrap();
    assert_eq!((absent.status, absent.body.len()), (404, 0));
    let storm = Fault::Throttled(Some(RetryAfter::Seconds(7)));
    graph.service.fault(Target::Graph, When::Next(3), storm);
    for _ in 0..3 {
        let answer = first(&graph).await.unwrap();
        assert_eq!(
            (answer.status, answer.header("retry-after")),
            (429, Some("7"))
        );
    }
    assert_eq!(first(&graph).await.unwrap().status, 200);
    let page = ask(&graph, Fault::SignInPage).await.unwrap();
    assert!(page.status == 200 && page.text().contains("Sign in"));
}

#[tokio::test]
async fn errors_are_spelt_in_other_ways() {
    let graph = three_pages().await;
    graph.service.adjust(|options| {
        options.graph.small_inner_error = true;
        options.graph.exception_names = true;
        options.graph.too_old_status = 500;
    });
    let answer = graph.ask(&[("$top", "0")]).await;
    assert_eq!(
        message(&answer),
        "|System.ArgumentException|ResultSize is invalid"
    );
    let error = &answer.json()["error"];
    assert!(error.get("innerError").is_none() && error["innererror"].is_object());
    let old = Utc::now() - TimeDelta::days(95);
    let filter = range(old, old + TimeDelta::days(1));
    assert_eq!(graph.ask(&[("$filter", &filter)]).await.status, 500);
}

#[tokio::test]
async fn a_dead_link_is_dead_for_ever_and_a_new_walk_works() {
    for (defect, text) in [
        (
            DeadLink::Quoted,
            "Cannot process argument transformation on parameter 'StartDate'",
        ),
        (DeadLink::Recipient, "Invalid starting recipient address"),
    ] {
        let graph = three_pages().await;
        let page = ask(&graph, Fault::DeadLink(defect)).await.unwrap();
        assert_eq!(page.json()["value"].as_array().unwrap().len(), 10);
        for _ in 0..2 {
            let answer = graph.get(&link(&page)).await.unwrap();
            assert_eq!(answer.status, 400);
            assert!(message(&answer).starts_with(text), "{}", message(&answer));
        }
        let walk = graph.walk(start(), hour(), 5_000).await;
        assert_eq!(walk.concat().len(), 25);
    }
}

#[tokio::test]
async fn every_so_many_th_link_can_be_dead() {
    let graph = three_pages().await;
    let dead = Fault::DeadLink(DeadLink::Quoted);
    graph.service.fault(Target::Graph, When::Every(2), dead);
    let page = first(&graph).await.unwrap();
    let second = graph.get(&link(&page)).await.unwrap();
    assert_eq!(second.status, 200);
    assert_eq!(graph.get(&link(&second)).await.unwrap().status, 400);
}

#[tokio::test]
async fn a_page_can_come_oldest_first_and_with_rows_out_of_range() {
    let graph = three_pages().await;
    let right = first(&graph).await.unwrap().json();
    let odd = ask(&graph, Fault::OldestFirst).await.unwrap().json();
    assert_eq!(odd["@odata.nextLink"], right["@odata.nextLink"]);
    let rows = |page: &serde_json::Value| page["value"].as_array().unwrap().clone();
    let mut reversed = rows(&odd);
    reversed.reverse();
    assert_eq!(reversed, rows(&right));
    let more = ask(&graph, Fault::RowsOutOfRange(2)).await.unwrap();
    let more = rows(&more.json());
    assert_eq!((more.len(), &more[..10]), (12, &rows(&right)[..]));
    let times = texts(&more[10..], "receivedDateTime");
    assert!(
        times
            .iter()
            .all(|time| time.parse::<DateTime<Utc>>().unwrap() < start())
    );
    assert_eq!(graph.service.served_by_graph().total(), 10);
}

#[tokio::test]
async fn bodies_are_cut_slow_or_compressed() {
    let mut graph = three_pages().await;
    assert!(ask(&graph, Fault::CutBody).await.is_err());
    assert!(ask(&graph, Fault::ResetBeforeHeaders).await.is_err());
    let early = ask(&graph, Fault::EndsEarly).await.unwrap();
    assert!(serde_json::from_slice::<serde_json::Value>(&early.body).is_err());
    let begin = Instant::now();
    ask(&graph, Fault::Delay(Duration::from_millis(100)))
        .await
        .unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(100));
    graph
        .service
        .adjust(|options| options.graph.latency = Duration::from_millis(50));
    let begin = Instant::now();
    first(&graph).await.unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(50));
    graph.more = "Accept-Encoding: gzip\r\n".to_owned();
    let packed = first(&graph).await.unwrap();
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    let mut text = String::new();
    let mut decoder = flate2::read::GzDecoder::new(&packed.body[..]);
    decoder.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("{\"@odata.context\""));
    assert_eq!(graph.service.served_by_graph().total(), 10);
}

#[tokio::test]
async fn links_lead_astray_when_ordered() {
    let graph = three_pages().await;
    let right = first(&graph).await.unwrap().json();
    let foreign = Fault::ForeignLink("http://127.0.0.2:1".to_owned());
    let foreign = ask(&graph, foreign).await.unwrap();
    assert_eq!(link(&foreign).host_str(), Some("127.0.0.2"));
    let repeated = ask(&graph, Fault::RepeatedLink).await.unwrap();
    let again = graph.get(&link(&repeated)).await.unwrap().json();
    assert_eq!(again["value"], right["value"]);
    let empty = ask(&graph, Fault::EmptyPage).await.unwrap();
    assert_eq!(empty.json()["value"], serde_json::json!([]));
    let again = graph.get(&link(&empty)).await.unwrap().json();
    assert_eq!(again["value"], right["value"]);
    let none = ask(&graph, Fault::NoRows).await.unwrap().json();
    assert!(none["value"] == serde_json::json!([]) && none.get("@odata.nextLink").is_none());
}

#[tokio::test]
async fn rows_may_say_their_type() {
    let graph = three_pages().await;
    graph
        .service
        .adjust(|options| options.graph.odata_types = true);
    let page = first(&graph).await.unwrap().json();
    let row = &page["value"][0];
    assert_eq!(row["@odata.type"], "#microsoft.graph.exchangeMessageTrace");
    assert_eq!(row.as_object().unwrap().len(), 11);
}

#[tokio::test]
async fn faults_of_graph_leave_the_reports_alone_and_the_other_way_round() {
    let graph = three_pages().await;
    graph
        .service
        .fault(Target::Reports, When::Always, Fault::ServerError);
    graph
        .service
        .fault(Target::Token, When::Always, Fault::ServerError);
    assert_eq!(first(&graph).await.unwrap().status, 200);
    let late = Fault::InsertRow(Row::sample(Report::MessageTrace, start(), 5));
    assert_eq!(ask(&graph, late).await.unwrap().status, 200);
    let walk = graph.walk(start(), hour(), 5_000).await;
    assert_eq!(walk.concat().len(), 26);
    graph.service.heal();
    let page = When::Page { page: 2, times: 1 };
    graph.service.fault(Target::Graph, page, Fault::ServerError);
    let page = first(&graph).await.unwrap();
    assert_eq!(graph.get(&link(&page)).await.unwrap().status, 500);
    assert_eq!(graph.get(&link(&page)).await.unwrap().status, 200);
}
