//! How a walk over simulated Graph goes on from page to page.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use testkit::proxy::Proxy;
use testkit::report::Report;
use testkit::service::{Backlog, GraphOptions, Row, Ties};
use url::Url;

use super::client::{Graph, message, range, texts, token};
use crate::client::{get, hour};

const REPORT: Report = Report::MessageTrace;

fn start() -> DateTime<Utc> {
    hour() - TimeDelta::hours(5)
}

/// A service whose message trace has so many rows made by rule.
async fn generated(rows: u32, options: GraphOptions) -> Graph {
    let graph = Graph::new(options).await;
    let backlog = Backlog::new(REPORT, start(), hour(), rows);
    graph.service.generate(&backlog);
    graph
}

/// A row with this time and this recipient.
fn row(time: DateTime<Utc>, id: &str, recipient: &str) -> Row {
    let text = json!({"MessageTraceId": id, "RecipientAddress": recipient, "Status": "Delivered"});
    Row::new(time, text.to_string())
}

/// The next link of a range's first page, and the token in it.
async fn first_link(graph: &Graph, top: &str) -> (String, String) {
    let filter = range(start(), hour());
    let page = graph
        .ask(&[("$filter", &filter), ("$top", top)])
        .await
        .json();
    let link = page["@odata.nextLink"].as_str().unwrap().to_owned();
    let url = Url::parse(&link).unwrap();
    let (name, token) = url.query_pairs().next().unwrap();
    assert_eq!(name, "$skiptoken");
    (link, token.into_owned())
}

fn values(token: &str) -> Value {
    serde_json::from_slice(&STANDARD.decode(token).unwrap()).unwrap()
}

#[tokio::test]
async fn a_walk_brings_every_row_once_newest_first() {
    for (rows, pages) in [
        (0, vec![0]),
        (9, vec![9]),
        (10, vec![10]),
        (25, vec![10, 10, 5]),
    ] {
        let graph = generated(rows, GraphOptions::default()).await;
        let walk = graph.walk(start(), hour(), 10).await;
        assert_eq!(walk.iter().map(Vec::len).collect::<Vec<_>>(), pages);
        let rows_seen: Vec<Value> = walk.concat();
        let times = texts(&rows_seen, "receivedDateTime");
        assert!(times.is_sorted_by(|newer, older| newer >= older));
        let keys: HashSet<_> = rows_seen
            .iter()
            .map(|row| (row["id"].to_string(), row["recipientAddress"].to_string()))
            .collect();
        assert_eq!(keys.len(), rows as usize);
        assert_eq!(graph.service.served_by_graph().total(), u64::from(rows));
        assert_eq!(graph.service.served().total(), 0);
        let noted: Vec<u64> = graph
            .service
            .requests_to_graph()
            .iter()
            .map(|request| request.page)
            .collect();
        assert_eq!(noted, (1..=pages.len() as u64).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn equal_times_come_by_recipient() {
    let graph = Graph::new(GraphOptions::default()).await;
    let time = hour() - TimeDelta::hours(1);
    for (tenths, recipient) in [(1, "c@x"), (2, "a@x"), (0, "d@x"), (3, "b@x")] {
        // One millisecond to Graph.
        let time = time + TimeDelta::microseconds(tenths * 100);
        graph.service.insert(REPORT, row(time, "i", recipient));
    }
    graph
        .service
        .insert(REPORT, row(time - TimeDelta::milliseconds(1), "i", "a@x"));
    let walk = graph.walk(start(), hour(), 2).await.concat();
    assert_eq!(
        texts(&walk, "recipientAddress"),
        ["a@x", "b@x", "c@x", "d@x", "a@x"]
    );
}

#[tokio::test]
async fn a_link_is_absolute_and_its_token_is_the_last_rows_key() {
    let graph = generated(30, GraphOptions::default()).await;
    let (link, token) = first_link(&graph, "10").await;
    let root = format!(
        "{}/v1.0/admin/exchange/tracing/messageTraces?%24skiptoken=",
        graph.service.graph_url()
    );
    assert!(
        link.starts_with(&root) && !link[root.len()..].contains('&'),
        "{link}"
    );
    let page = graph.rows(start(), hour(), "").await;
    let values = values(&token);
    let time = start().format("%Y-%m-%dT%H:%M:%S.0000000Z").to_string();
    assert_eq!(values["StartDate"], time);
    let received = page[9]["receivedDateTime"].as_str().unwrap();
    assert_eq!(values["EndDate"], received.replace('Z', "0000Z"));
    assert_eq!(
        values["StartingRecipientAddress"],
        page[9]["recipientAddress"]
    );
    assert_eq!(values["ResultSize"], "10");
    graph
        .service
        .adjust(|options| options.graph.token_padding = false);
    let (link, token) = first_link(&graph, "10").await;
    assert!(STANDARD_NO_PAD.decode(&token).is_ok(), "{token}");
    assert_eq!(
        graph.get(&Url::parse(&link).unwrap()).await.unwrap().status,
        200
    );
}

#[tokio::test]
async fn a_link_can_carry_the_parameters_too_and_does_with_conditions() {
    let graph = generated(200, GraphOptions::default()).await;
    let filter = format!("{} and status eq 'delivered'", range(start(), hour()));
    let page = graph
        .ask(&[("$filter", &filter), ("$top", "5")])
        .await
        .json();
    let link = Url::parse(page["@odata.nextLink"].as_str().unwrap()).unwrap();
    let names: Vec<_> = link
        .query_pairs()
        .map(|(name, _)| name.into_owned())
        .collect();
    assert_eq!(names, ["$skiptoken", "$filter", "$top"]);
    let next = graph.get(&link).await.unwrap().json();
    let rows = next["value"].as_array().unwrap();
    assert_eq!(texts(rows, "status"), ["delivered"; 5]);
    graph
        .service
        .adjust(|options| options.graph.link_parameters = true);
    let walk = graph.walk(start(), hour(), 50).await;
    assert_eq!(walk.concat().len(), 200);
}

#[tokio::test]
async fn pages_can_be_smaller_than_asked_for_and_end_in_an_empty_one() {
    let graph = generated(
        20,
        GraphOptions {
            page_rows: 10,
            link_after_last: true,
            ..GraphOptions::default()
        },
    )
    .await;
    let walk = graph.walk(start(), hour(), 5_000).await;
    assert_eq!(walk.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 0]);
}

#[tokio::test]
async fn a_late_row_does_not_shift_the_others() {
    let graph = generated(30, GraphOptions::default()).await;
    let (link, _) = first_link(&graph, "10").await;
    let time = hour() - TimeDelta::seconds(1);
    graph.service.insert(REPORT, row(time, "late", "a@x"));
    let next = graph.get(&Url::parse(&link).unwrap()).await.unwrap().json();
    let second = next["value"].as_array().unwrap().clone();
    let again = graph.rows(start(), hour(), "").await;
    assert_eq!(again.len(), 31);
    assert!(texts(&again[..11], "id").contains(&"late"));
    assert_eq!(second, again[11..21]);
}

#[tokio::test]
async fn rows_of_equal_time_and_recipient_across_a_pages_end_are_lost_or_come_twice() {
    for (ties, ids) in [(Ties::Lost, "abe"), (Ties::Twice, "abbcde")] {
        let graph = Graph::new(GraphOptions {
            ties,
            ..GraphOptions::default()
        })
        .await;
        let time = hour() - TimeDelta::hours(1);
        let recipients = [
            ("a", "1@x"),
            ("b", "2@x"),
            ("c", "2@x"),
            ("d", "2@x"),
            ("e", "3@x"),
        ];
        for (id, recipient) in recipients {
            graph.service.insert(REPORT, row(time, id, recipient));
        }
        let top = if ties == Ties::Lost { 2 } else { 4 };
        let walk = graph.walk(start(), hour(), top).await;
        let mut ids_seen = texts(&walk.concat(), "id").concat();
        if ties == Ties::Twice {
            assert_eq!(ids_seen, "abcdbcde");
            ids_seen = "abbcde".to_owned();
        }
        assert_eq!(ids_seen, ids);
    }
}

#[tokio::test]
async fn a_token_that_is_cut_loses_the_rows_of_its_millisecond() {
    let graph = Graph::new(GraphOptions {
        known_decimals: 7,
        shown_decimals: 7,
        ..GraphOptions::default()
    })
    .await;
    let time = hour() - TimeDelta::hours(1);
    for micros in [100, 200, 300, 400, -100] {
        let time = time + TimeDelta::microseconds(micros);
        graph.service.insert(REPORT, row(time, "i", "a@x"));
    }
    assert_eq!(graph.walk(start(), hour(), 2).await.concat().len(), 5);
    graph
        .service
        .adjust(|options| options.graph.token_decimals = 3);
    let rows = graph.walk(start(), hour(), 2).await.concat();
    assert_eq!(rows.len(), 3);
}

#[tokio::test]
async fn a_walk_can_go_on_without_its_link_from_the_oldest_time_received() {
    let graph = generated(30, GraphOptions::default()).await;
    let all = graph.rows(start(), hour(), "").await;
    let oldest: DateTime<Utc> = all[9]["receivedDateTime"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let rest = graph.rows(start(), oldest, "").await;
    let position = rest.iter().position(|row| *row == all[9]).unwrap();
    assert_eq!(rest[position..], all[9..]);
}

#[tokio::test]
async fn what_is_no_token_is_refused() {
    let graph = Graph::new(GraphOptions::default()).await;
    let ask = async |token: &str| {
        let answer = graph.ask(&[("$skiptoken", token)]).await;
        assert_eq!(answer.status, 400);
        message(&answer)
    };
    assert!(ask("%%%").await.contains("token"));
    let quoted =
        json!({"StartDate": "\"2026-01-20T00:00:00.0000000Z\"", "EndDate": "", "ResultSize": "1"});
    assert!(
        ask(&STANDARD.encode(quoted.to_string()))
            .await
            .starts_with("Cannot process argument transformation on parameter 'StartDate'")
    );
}

#[tokio::test]
async fn a_walk_through_another_port_stays_on_it() {
    let graph = generated(15, GraphOptions::default()).await;
    let proxy = Proxy::start(graph.service.address()).await.unwrap();
    let root = graph.service.graph_url_through(proxy.port());
    let token = token(&graph.service, &root).await;
    let header = format!("Authorization: Bearer {token}\r\n");
    let filter = range(start(), hour());
    let mut url = graph.url(&[("$filter", &filter), ("$top", "10")]);
    url.set_port(Some(proxy.port())).unwrap();
    let page = get(&url, &header).await.unwrap().json();
    let link = page["@odata.nextLink"].as_str().unwrap();
    assert!(link.starts_with(&root), "{link}");
    let page = get(&Url::parse(link).unwrap(), &header)
        .await
        .unwrap()
        .json();
    assert_eq!(page["value"].as_array().unwrap().len(), 5);
}
