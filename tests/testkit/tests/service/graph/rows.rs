//! The rows of simulated Graph, beside those of the reporting service: one store, two spellings.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use testkit::records::{Identity, Records, compare};
use testkit::report::{Aggregate, Report};
use testkit::service::{Access, Backlog, GraphOptions, Mail, Options, Row};
use url::Url;

use super::client::{Graph, texts, token};
use crate::client::{get, hour};

const REPORT: Report = Report::MessageTrace;

/// A whole small word as Graph spells it.
fn small(word: &str) -> String {
    word[..1].to_lowercase() + &word[1..]
}

/// The rows of the reporting service.
async fn reported(graph: &Graph, from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<Value> {
    let date = |date: DateTime<Utc>| date.format("datetime'%Y-%m-%dT%H:%M:%SZ'").to_string();
    let filter = format!("StartDate eq {} and EndDate eq {}", date(from), date(to));
    let url = Url::parse(&graph.service.base_url()).unwrap();
    let mut url = url.join("MessageTrace").unwrap();
    url.set_query(Some(&format!("$filter={}", filter.replace(' ', "%20"))));
    let token = token(&graph.service, "https://outlook.office365.com").await;
    let answer = get(&url, &format!("Authorization: Bearer {token}\r\n"))
        .await
        .unwrap();
    answer.json()["value"].as_array().unwrap().clone()
}

#[tokio::test]
async fn both_services_show_the_same_rows_each_in_its_words() {
    let graph = Graph::with(Options {
        access: Access::default(),
        ..Options::default()
    })
    .await;
    let (from, to) = (hour() - TimeDelta::hours(2), hour());
    graph.service.generate(&Backlog::new(REPORT, from, to, 500));
    let reports = reported(&graph, from, to).await;
    let rows = graph.rows(from, to, "").await;
    assert_eq!((reports.len(), rows.len()), (500, 500));
    for report in &reports {
        let row = rows
            .iter()
            .find(|row| {
                row["id"] == report["MessageTraceId"]
                    && row["recipientAddress"] == report["RecipientAddress"]
            })
            .unwrap();
        for (own, theirs) in [
            ("senderAddress", "SenderAddress"),
            ("messageId", "MessageId"),
            ("subject", "Subject"),
            ("size", "Size"),
        ] {
            assert_eq!(row[own], report[theirs]);
        }
        assert_eq!(row["status"], small(report["Status"].as_str().unwrap()));
        for (own, theirs) in [("toIP", "ToIP"), ("fromIP", "FromIP")] {
            assert_eq!(row[own], report[theirs].as_str().unwrap_or_default());
        }
        let received = format!("{}Z", report["Received"].as_str().unwrap());
        let received: DateTime<Utc> = received.parse().unwrap();
        let milliseconds = received.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
        assert_eq!(row["receivedDateTime"], milliseconds);
        let members: Vec<_> = row
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let mut documented = [
            "id",
            "senderAddress",
            "recipientAddress",
            "messageId",
            "receivedDateTime",
            "subject",
            "size",
            "fromIP",
            "toIP",
            "status",
        ];
        documented.sort_unstable();
        assert_eq!(members, documented);
    }
}

#[tokio::test]
async fn members_come_in_the_order_of_the_documentation_under_a_context() {
    let graph = Graph::new(GraphOptions::default()).await;
    let time = hour() - TimeDelta::hours(1);
    graph.service.insert(REPORT, Row::sample(REPORT, time, 1));
    let text = graph.ask(&[]).await.text();
    let context = format!(
        "{{\"@odata.context\":\"{}/v1.0/$metadata#admin/exchange/tracing/messageTraces\",\"value\":[{{\"id\":",
        graph.service.graph_url()
    );
    assert!(text.starts_with(&context), "{text}");
    let names = "id senderAddress recipientAddress messageId receivedDateTime subject size fromIP toIP status";
    let position = |name: &str| text.find(&format!("\"{name}\":")).unwrap();
    assert!(names.split(' ').map(position).is_sorted());
}

#[tokio::test]
async fn a_status_beyond_the_documented_ones_comes_only_if_it_is_preferred() {
    let mut graph = Graph::new(GraphOptions::default()).await;
    let time = hour() - TimeDelta::hours(1);
    for status in ["Recalled", "Delivered"] {
        let text = json!({"RecipientAddress": format!("{status}@x"), "Status": status});
        graph
            .service
            .insert(REPORT, Row::new(time, text.to_string()));
    }
    let rows = graph.rows(time, hour(), "").await;
    assert_eq!(texts(&rows, "status"), ["delivered", "unknownFutureValue"]);
    graph.more = "Prefer: include-unknown-enum-members\r\n".to_owned();
    let rows = graph.rows(time, hour(), "").await;
    assert_eq!(texts(&rows, "status"), ["delivered", "recalled"]);
    graph
        .service
        .adjust(|options| options.graph.capital_statuses = true);
    let rows = graph.rows(time, hour(), "").await;
    assert_eq!(texts(&rows, "status"), ["Delivered", "Recalled"]);
    assert_eq!(texts(&rows, "toIP"), ["", ""]);
    graph
        .service
        .adjust(|options| options.graph.null_addresses = true);
    let rows = graph.rows(time, hour(), "").await;
    assert!(rows[0]["toIP"].is_null() && rows[0]["fromIP"].is_null());
}

#[tokio::test]
async fn a_status_changes_at_an_instant_in_both_services() {
    let graph = Graph::new(GraphOptions::default()).await;
    let (from, to) = (hour() - TimeDelta::hours(2), hour());
    let time = hour() - TimeDelta::hours(1);
    let mail = Mail::new(time, 7).status("Pending");
    let row = graph.service.deliver(&mail)[0];
    let change = Utc::now() + TimeDelta::hours(1);
    let changed = graph.service.change_status(row, change, "Delivered");
    let late = Row::sample(REPORT, time - TimeDelta::minutes(1), 9);
    graph.service.insert_late(REPORT, late, change);
    let seen = async || {
        let (rows, reports) = (
            graph.rows(from, to, "").await,
            reported(&graph, from, to).await,
        );
        assert_eq!(rows.len(), reports.len());
        let there = graph.service.existing(REPORT, Aggregate::Hour, from, to);
        assert_eq!(there.total(), rows.len() as u64);
        (
            rows.len(),
            texts(&rows, "status")[0].to_owned(),
            reports[0]["Status"].clone(),
        )
    };
    assert_eq!(seen().await, (1, "pending".to_owned(), "Pending".into()));
    graph.service.clock_offset(TimeDelta::hours(1));
    assert_eq!(
        seen().await,
        (2, "delivered".to_owned(), "Delivered".into())
    );
    let again = change + TimeDelta::hours(1);
    graph
        .service
        .change_status(changed, again, "FilteredAsSpam");
    graph.service.clock_offset(TimeDelta::hours(2));
    assert_eq!(seen().await.1, "filteredAsSpam");
    // Each state that was shown is a record of its own.
    assert_eq!(graph.service.served().total(), 4);
    assert_eq!(graph.service.served_by_graph().total(), 4);
}

#[tokio::test]
async fn rows_made_by_rule_can_change_too() {
    let graph = Graph::new(GraphOptions::default()).await;
    let (from, to) = (hour() - TimeDelta::hours(2), hour());
    graph.service.generate(&Backlog::new(REPORT, from, to, 50));
    let rows = graph.service.rows_between(REPORT, from, to);
    assert_eq!(rows.len(), 50);
    for row in &rows[..10] {
        graph.service.change_status(*row, Utc::now(), "Failed");
    }
    let rows = graph.rows(from, to, "").await;
    assert_eq!(rows.len(), 50);
    assert!(rows[40..].iter().all(|row| row["status"] == "failed"));
}

#[tokio::test]
async fn a_message_has_a_row_for_each_recipient_and_is_listed_whole_only_by_its_id() {
    let graph = Graph::new(GraphOptions::default()).await;
    let time = hour() - TimeDelta::hours(1);
    let (many, few) = (
        Mail::new(time, 1).to_many(1_200),
        Mail::new(time, 2).to_many(900),
    );
    graph.service.deliver(&many);
    graph.service.deliver(&few);
    let count = async |condition: &str| graph.rows(time, hour(), condition).await.len();
    let by_id = format!(" and id eq '{}'", many.trace_id());
    assert_eq!(count("").await, 1_900);
    assert_eq!(count(&by_id).await, 1_200);
    let walk = graph.walk(time, hour(), 700).await;
    assert_eq!(
        walk.iter().map(Vec::len).collect::<Vec<_>>(),
        [700, 700, 500]
    );
    graph
        .service
        .adjust(|options| options.graph.recipients_listed_max = usize::MAX);
    assert_eq!(count("").await, 2_100);
    let rows = graph.rows(time, hour(), &by_id).await;
    let recipients: std::collections::HashSet<_> =
        texts(&rows, "recipientAddress").into_iter().collect();
    assert_eq!(recipients.len(), 1_200);
}

#[tokio::test]
async fn messages_are_compared_whichever_service_showed_them() {
    let graph = Graph::new(GraphOptions::default()).await;
    let (from, half, to) = (
        hour() - TimeDelta::hours(2),
        hour() - TimeDelta::hours(1),
        hour(),
    );
    graph.service.generate(&Backlog::new(REPORT, from, to, 100));
    let mut shown = Records::default();
    let (reports, rows) = (
        reported(&graph, from, half).await,
        graph.rows(half, to, "").await,
    );
    for row in reports.iter().chain(&rows) {
        let identity = Identity::by_message(&row.to_string()).unwrap();
        shown.add(REPORT, identity, None);
    }
    let verdict = compare(&graph.service.existing_messages(from, to), &shown);
    assert!(verdict.is_exact() && verdict.served == 100, "{verdict}");
    let verdict = compare(&graph.service.served_messages(), &shown);
    assert!(verdict.is_exact() && verdict.served == 100, "{verdict}");
    assert!(graph.service.served_by_graph().total() < 100);
}
