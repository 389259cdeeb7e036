//! Message trace taken out of the simulated reporting service.

use chrono::TimeDelta;
use testkit::report::Report;
use testkit::service::{Backlog, DEPRECATION, Options, Retirement};

use crate::client::{Client, hour};
use crate::graph::token;

const REPORT: Report = Report::MessageTrace;

async fn client() -> Client {
    let client = Client::new(Options::default()).await;
    for report in [REPORT, Report::SpoofMail] {
        let backlog = Backlog::new(report, hour() - TimeDelta::days(1), hour(), 20);
        client.service.generate(&backlog);
    }
    client
}

/// The status and the body for a report.
async fn ask(client: &Client, report: Report) -> (u16, String) {
    let answer = client
        .ask(report, hour() - TimeDelta::days(1), hour())
        .await;
    (answer.status, answer.text())
}

#[tokio::test]
async fn each_sign_of_retirement_is_for_message_trace_alone_and_can_be_taken_back() {
    let client = client().await;
    for status in [400, 403, 404, 500, 200] {
        client.service.retire(Retirement::Text { status });
        let (came, text) = ask(&client, REPORT).await;
        assert_eq!(came, status);
        assert!(
            text.contains(DEPRECATION) && !text.contains("value\":["),
            "{text}"
        );
        assert_eq!(ask(&client, Report::SpoofMail).await.0, 200);
    }
    for status in [400, 403, 404, 500] {
        client.service.retire(Retirement::Bare { status });
        assert_eq!(ask(&client, REPORT).await, (status, String::new()));
    }
    client.service.retire(Retirement::NeverHad);
    let (status, text) = ask(&client, REPORT).await;
    assert!(status == 404 && text.contains("<html>"), "{text}");
    client.service.retire(None);
    let (status, text) = ask(&client, REPORT).await;
    assert!(status == 200 && text.contains("MessageTraceId"));
}

#[tokio::test]
async fn a_retired_report_can_be_empty_for_ever_while_graph_has_its_rows() {
    let client = client().await;
    client.service.retire(Retirement::Empty);
    let (status, text) = ask(&client, REPORT).await;
    assert_eq!(status, 200);
    assert!(text.ends_with("\"value\":[]}"), "{text}");
    assert_eq!(client.service.served_count(REPORT), 0);
    let (_, text) = ask(&client, Report::SpoofMail).await;
    assert!(text.contains("SpoofedSender"));
    let token = token(&client.service, &client.service.graph_url()).await;
    let root = client.service.graph_url();
    let url = format!("{root}/v1.0/admin/exchange/tracing/messageTraces");
    let header = format!("Authorization: Bearer {token}\r\n");
    let page = crate::client::get(&url.parse().unwrap(), &header)
        .await
        .unwrap();
    assert_eq!(page.json()["value"].as_array().unwrap().len(), 20);
}

#[tokio::test]
async fn credentials_are_looked_at_before_the_report() {
    let client = client().await;
    client.service.retire(Retirement::Text { status: 404 });
    let url = client.url(REPORT, hour() - TimeDelta::hours(1), hour());
    assert_eq!(crate::client::get(&url, "").await.unwrap().status, 401);
}
