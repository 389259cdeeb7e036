//! What may be asked of simulated Graph, and by whom.

use chrono::{DateTime, TimeDelta, Utc};
use testkit::report::Report;
use testkit::service::{GraphOptions, Options, Row};
use url::Url;

use super::client::{Graph, message, range, texts, token};
use crate::client::{get, hour};

async fn plain() -> Graph {
    Graph::new(GraphOptions::default()).await
}

/// The status and the message of a range's refusal; nothing where it is served.
async fn refusal(graph: &Graph, from: DateTime<Utc>, to: DateTime<Utc>) -> Option<String> {
    let answer = graph.ask(&[("$filter", &range(from, to))]).await;
    (answer.status != 200).then(|| format!("{} {}", answer.status, message(&answer)))
}

#[tokio::test]
async fn a_token_is_for_one_of_the_two_services() {
    let graph = plain().await;
    assert_eq!(graph.ask(&[]).await.status, 200);
    let reports = Url::parse(&graph.service.base_url()).unwrap();
    let reports = reports.join("MessageTrace").unwrap();
    assert_eq!(graph.get(&reports).await.unwrap().status, 401);
    let bearer = async |resource, url: &Url| {
        let token = token(&graph.service, resource).await;
        let answer = get(url, &format!("Authorization: Bearer {token}\r\n")).await;
        answer.unwrap().status
    };
    let own = graph.url(&[]);
    assert_eq!(bearer("https://outlook.office365.com", &own).await, 401);
    assert_eq!(bearer("https://outlook.office365.com", &reports).await, 200);
    assert_eq!(bearer("https://graph.microsoft.com", &own).await, 200);
    assert_eq!(bearer("https://graph.microsoft.us", &own).await, 401);
    for header in [
        "",
        "Authorization: Bearer x\r\n",
        "Authorization: Basic dTpw\r\n",
    ] {
        let answer = get(&own, header).await.unwrap();
        assert_eq!(answer.status, 401, "{header}");
        let challenge = answer.header("www-authenticate").unwrap();
        assert!(challenge.starts_with("Bearer"), "{challenge}");
    }
}

#[tokio::test]
async fn without_the_permission_in_its_token_an_application_gets_403() {
    let mut graph = plain().await;
    graph
        .service
        .adjust(|options| options.access.graph_roles.clear());
    assert_eq!(graph.ask(&[]).await.status, 200, "the token is older");
    graph.token = token(&graph.service, &graph.service.graph_url()).await;
    let answer = graph.ask(&[]).await;
    assert_eq!(answer.status, 403);
    assert_eq!(
        answer.json()["error"]["code"],
        "Authorization_RequestDenied"
    );
    graph.service.revoke_tokens();
    assert_eq!(graph.ask(&[]).await.status, 401);
}

#[tokio::test]
async fn errors_have_graphs_body() {
    let graph = plain().await;
    let answer = graph.ask(&[("$top", "0")]).await;
    let error = &answer.json()["error"];
    assert_eq!((answer.status, &error["code"]), (400, &"BadRequest".into()));
    assert_eq!(error["message"], "ResultSize is invalid");
    let id = answer.header("request-id").unwrap();
    assert_eq!(error["innerError"]["request-id"], id);
    assert!(error["innerError"]["date"].is_string());
}

#[tokio::test]
async fn both_bounds_are_inclusive_and_may_have_fractions() {
    let graph = plain().await;
    let start = hour() - TimeDelta::hours(3);
    for milliseconds in [0, 1_500, 3_000] {
        let time = start + TimeDelta::milliseconds(milliseconds);
        let row = Row::sample(Report::MessageTrace, time, 1);
        graph.service.insert(Report::MessageTrace, row);
    }
    let count = async |from, to| {
        let at = |milliseconds| start + TimeDelta::milliseconds(milliseconds);
        graph.rows(at(from), at(to), "").await.len()
    };
    assert_eq!(count(0, 3_000).await, 3);
    assert_eq!(count(0, 2_000).await, 2);
    assert_eq!(count(1, 2_999).await, 1);
    assert_eq!(count(1_500, 1_500).await, 1);
    assert_eq!(count(1_501, 2_000).await, 0);
}

#[tokio::test]
async fn graph_knows_of_a_time_as_many_decimals_as_it_is_told() {
    let graph = plain().await;
    let second = hour() - TimeDelta::hours(1);
    let time = second + TimeDelta::nanoseconds(58_123_400);
    let row = Row::sample(Report::MessageTrace, time, 1);
    graph.service.insert(Report::MessageTrace, row);
    let cut = second + TimeDelta::milliseconds(58);
    let received = async |at| {
        let rows = graph.rows(at, at, "").await;
        texts(&rows, "receivedDateTime").concat()
    };
    let shown = |decimals: &str| {
        second
            .format(&format!("%Y-%m-%dT%H:%M:%S{decimals}Z"))
            .to_string()
    };
    assert_eq!(received(cut).await, shown(".058"));
    graph
        .service
        .adjust(|options| options.graph.known_decimals = 7);
    assert_eq!(received(cut).await, "");
    graph
        .service
        .adjust(|options| options.graph.shown_decimals = 7);
    assert_eq!(received(time).await, shown(".0581234"));
    graph
        .service
        .adjust(|options| options.graph.shown_decimals = 0);
    assert_eq!(received(time).await, shown(""));
}

#[tokio::test]
async fn a_range_needs_both_bounds() {
    let graph = plain().await;
    let (from, to) = (hour() - TimeDelta::hours(1), hour());
    let range = range(from, to);
    let (start, end) = range.split_once(" and ").unwrap();
    let answer = graph.ask(&[("$filter", start)]).await;
    let text = "EndDate is required when a StartDate is entered.";
    assert_eq!((answer.status, message(&answer)), (400, text.to_owned()));
    assert_eq!(graph.ask(&[("$filter", end)]).await.status, 400);
}

#[tokio::test]
async fn a_range_has_at_most_ten_days_and_ends_by_now() {
    let graph = plain().await;
    let (days, second) = (TimeDelta::days, TimeDelta::seconds(1));
    assert_eq!(refusal(&graph, hour() - days(10), hour()).await, None);
    let longer = refusal(&graph, hour() - days(10) - second, hour()).await;
    assert!(
        longer
            .unwrap()
            .contains("The interval between StartDate and EndDate can't be longer than 10 days.")
    );
    let later = Utc::now() + TimeDelta::minutes(1);
    let later = refusal(&graph, hour(), later).await;
    assert!(later.unwrap().starts_with("400 Invalid EndDate value."));
    assert!(refusal(&graph, hour(), hour() - second).await.is_some());
}

#[tokio::test]
async fn the_oldest_start_is_a_utc_date_ninety_days_ago() {
    let graph = plain().await;
    let midnight = Utc::now()
        .date_naive()
        .and_time(chrono::NaiveTime::MIN)
        .and_utc();
    let oldest = midnight - TimeDelta::days(90);
    let end = oldest + TimeDelta::days(1);
    assert_eq!(refusal(&graph, oldest, end).await, None);
    let older = refusal(&graph, oldest - TimeDelta::seconds(1), end).await;
    let text = "400 Invalid StartDate value. The StartDate can't be older than 90 days from today.";
    assert_eq!(older.as_deref(), Some(text));
    graph.service.clock_offset(TimeDelta::days(-1));
    assert_eq!(
        refusal(&graph, oldest - TimeDelta::seconds(1), end).await,
        None
    );
}

#[tokio::test]
async fn without_a_range_the_last_48_hours_are_meant() {
    let graph = plain().await;
    for hours in [1, 47, 49] {
        let time = Utc::now() - TimeDelta::hours(hours);
        let row = Row::sample(Report::MessageTrace, time, 1);
        graph.service.insert(Report::MessageTrace, row);
    }
    assert_eq!(
        graph.ask(&[]).await.json()["value"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

#[tokio::test]
async fn a_page_has_a_thousand_rows_or_as_many_as_were_asked_for() {
    let graph = plain().await;
    for (top, status) in [
        ("1", 200),
        ("5000", 200),
        ("0", 400),
        ("5001", 400),
        ("x", 400),
    ] {
        assert_eq!(graph.ask(&[("$top", top)]).await.status, status, "{top}");
    }
    graph.ask(&[]).await;
    let asked: Vec<_> = graph
        .service
        .requests_to_graph()
        .iter()
        .map(|request| request.top)
        .collect();
    assert_eq!(asked, [Some(1), Some(5_000), None, None, None, Some(1_000)]);
}

#[tokio::test]
async fn other_options_are_ignored() {
    let graph = plain().await;
    let time = Utc::now() - TimeDelta::hours(1);
    let row = Row::sample(Report::MessageTrace, time, 1);
    graph.service.insert(Report::MessageTrace, row);
    let options = [
        ("$select", "id"),
        ("$orderby", "receivedDateTime"),
        ("$count", "true"),
    ];
    let page = graph.ask(&options).await.json();
    assert_eq!(page["value"][0].as_object().unwrap().len(), 10);
    assert!(page.get("@odata.count").is_none());
}

#[tokio::test]
async fn conditions_choose_rows_and_only_the_last_value_of_a_property_counts() {
    let graph = plain().await;
    let time = hour() - TimeDelta::hours(1);
    for (id, status) in [("a", "Delivered"), ("b", "Failed"), ("c", "Delivered")] {
        let text = format!(
            r#"{{"MessageTraceId":"{id}","MessageId":"<{id}@x>","Received":"x","SenderAddress":"S{id}@x","RecipientAddress":"{id}@y",
            "Subject":"About {id}","Status":"{status}","ToIP":null,"FromIP":"192.0.2.{}","Size":1}}"#,
            id.len()
        );
        graph
            .service
            .insert(Report::MessageTrace, Row::new(time, text));
    }
    let ids = async |condition: &str| {
        let rows = graph.rows(time, hour(), &format!(" and {condition}")).await;
        texts(&rows, "id").concat()
    };
    assert_eq!(ids("id eq 'b'").await, "b");
    assert_eq!(ids("messageId eq '<c@x>'").await, "c");
    assert_eq!(ids("senderAddress eq 'sA@x'").await, "a");
    assert_eq!(ids("recipientAddress eq 'A@y'").await, "a");
    assert_eq!(ids("status eq 'delivered'").await, "ac");
    assert_eq!(ids("fromIP eq '192.0.2.1'").await, "abc");
    assert_eq!(ids("toIP eq '192.0.2.1'").await, "");
    assert_eq!(ids("status eq 'delivered' and id eq 'c'").await, "c");
    assert_eq!(ids("(id eq 'a' or id eq 'b')").await, "b");
    assert_eq!(
        ids("id in ('a') and status ne 'failed' and not id eq 'b'").await,
        "abc"
    );
    assert_eq!(ids("contains(subject,'ABOUT')").await, "abc");
    assert_eq!(ids("startsWith(subject,'b')").await, "");
    assert_eq!(ids("endsWith(subject,'c')").await, "c");
    let unknown = graph.ask(&[("$filter", "size eq '1'")]).await;
    assert_eq!(unknown.status, 400);
}

#[tokio::test]
async fn a_very_long_url_and_any_other_path_are_404() {
    let graph = plain().await;
    let long = "x".repeat(5_000);
    assert_eq!(graph.ask(&[("$select", &long)]).await.status, 404);
    let mut elsewhere = graph.url(&[]);
    elsewhere.set_path("/beta/admin/exchange/tracing/messageTraces");
    assert_eq!(graph.get(&elsewhere).await.unwrap().status, 404);
    let graph = Graph::with(Options {
        graph: GraphOptions {
            url_bytes_max: 50,
            ..GraphOptions::default()
        },
        ..Options::default()
    })
    .await;
    assert_eq!(graph.ask(&[]).await.status, 200);
    assert_eq!(graph.ask(&[("$top", "1000")]).await.status, 404);
}
