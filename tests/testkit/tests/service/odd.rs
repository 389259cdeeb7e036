//! Answers that are odd by order: clocks, links, spellings, codings, heads, and how many requests were answered at once.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use testkit::report::Report;
use testkit::service::{
    Backlog, Fault, Loop, Options, Row, Shape, Spelling, Target, When, most_in_flight,
};

use crate::client::{Answer, Client, hour};

const REPORT: Report = Report::MessageTrace;

/// A client of a service that has three pages of ten rows.
async fn three_pages() -> Client {
    let client = Client::new(Options {
        page_rows: 10,
        ..Options::default()
    })
    .await;
    let backlog = Backlog::new(REPORT, hour() - TimeDelta::hours(2), hour(), 25);
    client.service.generate(&backlog);
    client
}

async fn ask(client: &Client, fault: Fault) -> Answer {
    client.service.fault(REPORT, When::Next(1), fault);
    client
        .ask(REPORT, hour() - TimeDelta::hours(2), hour())
        .await
}

fn date(answer: &Answer) -> DateTime<Utc> {
    let date = answer.header("date").unwrap();
    DateTime::parse_from_rfc2822(date).unwrap().to_utc()
}

fn is_about(instant: DateTime<Utc>, expected: DateTime<Utc>) -> bool {
    (instant - expected).abs() < TimeDelta::minutes(1)
}

#[tokio::test]
async fn a_date_is_off_by_as_much_as_was_ordered_and_the_next_one_is_right() {
    let client = three_pages().await;
    let month = TimeDelta::days(30);
    for (fault, status) in [(Fault::Busy(None), 503), (Fault::SignInPage, 200)] {
        let answer = ask(&client, fault.dated(month)).await;
        assert_eq!(answer.status, status);
        assert!(
            is_about(date(&answer), Utc::now() + month),
            "{}",
            answer.headers
        );
    }
    let page = Fault::Dated {
        offset: -month,
        fault: None,
    };
    let answer = ask(&client, page).await;
    assert!(
        is_about(date(&answer), Utc::now() - month),
        "{}",
        answer.headers
    );
    assert_eq!(answer.json()["value"].as_array().unwrap().len(), 10);
    let answer = ask(&client, Fault::ByteOrderMark).await;
    assert!(is_about(date(&answer), Utc::now()), "{}", answer.headers);
}

#[tokio::test]
async fn the_directory_may_have_a_clock_of_its_own() {
    let client = three_pages().await;
    let day = TimeDelta::days(1);
    client
        .service
        .adjust(|options| options.directory_clock_offset = day);
    let answer = ask(&client, Fault::ByteOrderMark).await;
    assert!(is_about(date(&answer), Utc::now()), "{}", answer.headers);
    client
        .service
        .fault(Target::Token, When::Next(1), Fault::Busy(None));
    let tenant = client.service.options().access.tenant;
    let url = format!(
        "{}/{tenant}/oauth2/v2.0/token",
        client.service.authority_url()
    );
    let url: url::Url = url.parse().unwrap();
    let answer = client.post(&url).await;
    assert_eq!(answer.status, 503);
    assert!(
        is_about(date(&answer), Utc::now() + day),
        "{}",
        answer.headers
    );
}

#[tokio::test]
async fn links_lead_where_they_were_told_to_under_new_tokens() {
    let client = three_pages().await;
    for (to, first, second) in [
        (Loop::SamePage, 0, 10),
        (Loop::PageBefore, 0, 0),
        (Loop::FirstPage, 0, 0),
        (Loop::Pairs, 10, 0),
    ] {
        let order = || Fault::Loop {
            to,
            last_too: false,
        };
        let follow = async |url: &url::Url| {
            client.service.fault(REPORT, When::Next(1), order());
            let page = client.page(url).await.unwrap().json();
            let link = page["odata.nextLink"].as_str().unwrap().to_owned();
            let next = client.page(&url.join(&link).unwrap()).await.unwrap().json();
            (link, next["value"][0]["Index"].as_u64().unwrap())
        };
        let start = client.url(REPORT, hour() - TimeDelta::hours(2), hour());
        let (link, index) = follow(&start).await;
        assert_eq!(index, first, "{to:?}");
        let (again, _) = follow(&start).await;
        assert_ne!(link, again, "{to:?}");
        let right = client.page(&start).await.unwrap().json();
        let right = right["odata.nextLink"].as_str().unwrap().to_owned();
        let (_, index) = follow(&start.join(&right).unwrap()).await;
        assert_eq!(index, second, "{to:?}");
    }
}

#[tokio::test]
async fn pages_may_be_empty_with_and_without_a_link() {
    let client = three_pages().await;
    let start = client.url(REPORT, hour() - TimeDelta::hours(2), hour());
    let empty = ask(&client, Fault::EmptyPage).await.json();
    assert_eq!(empty["value"].as_array().unwrap().len(), 0);
    let link = start
        .join(empty["odata.nextLink"].as_str().unwrap())
        .unwrap();
    let page = client.page(&link).await.unwrap().json();
    assert_eq!(page["value"][0]["Index"], 0);
    let none = ask(&client, Fault::NoRows).await.json();
    assert_eq!(none["value"].as_array().unwrap().len(), 0);
    assert!(none.get("odata.nextLink").is_none());
    let objects = ask(&client, Fault::EmptyObjects(3)).await.text();
    assert!(objects.ends_with(r#""value":[{},{},{}]}"#), "{objects}");
    let blank = ask(&client, Fault::LinkText(r#""""#.to_owned()))
        .await
        .text();
    assert!(blank.ends_with(r#","odata.nextLink":""}"#), "{blank}");
    let served = client.service.served().total();
    assert_eq!(served, 10, "empty pages have served nothing");
}

#[tokio::test]
async fn rows_come_in_another_spelling_or_shape_when_ordered() {
    let client = three_pages().await;
    let plain = ask(&client, Fault::ByteOrderMark).await.text();
    let plain = plain.trim_start_matches('\u{feff}');
    let mut alike = 0;
    for spelling in Spelling::ALL {
        let spelt = ask(&client, Fault::Respelled(spelling)).await.text();
        alike += u32::from(spelt == plain);
        let page: serde_json::Value = serde_json::from_str(&spelt).unwrap();
        assert_eq!(page["value"].as_array().unwrap().len(), 10, "{spelling:?}");
    }
    // The generator writes times with no more zeros than they need, now and then.
    assert!(alike <= 1, "{alike} spellings change nothing");
    let verbose = ask(&client, Fault::Shaped(Shape::Verbose)).await.json();
    assert_eq!(verbose["d"]["results"].as_array().unwrap().len(), 10);
}

#[tokio::test]
async fn raw_rows_go_out_byte_for_byte_and_count_as_they_can_be_read() {
    let client = Client::new(Options::default()).await;
    let at = hour() - TimeDelta::hours(1);
    let row = Row::raw(at, *b"{\"Subject\":\"caf\xe9\"}");
    client.service.insert(REPORT, row);
    let answer = client.ask(REPORT, at, hour()).await;
    let body = answer.body;
    assert!(body.windows(4).any(|bytes| bytes == b"caf\xe9"));
    let served = client.service.served();
    let identity = testkit::records::Identity::of("{\"Subject\":\"caf\u{fffd}\"}").unwrap();
    assert_eq!(served.times(REPORT, identity), 1);
}

#[tokio::test]
async fn codings_and_heads_are_as_they_were_ordered() {
    let client = three_pages().await;
    let coded = |name: &str, layers| Fault::Coded {
        name: name.to_owned(),
        layers,
    };
    let answer = ask(&client, coded("br", 0)).await;
    assert_eq!(answer.header("content-encoding"), Some("br"));
    assert!(answer.text().starts_with('{'));
    let twice = ask(&client, coded("GZIP, gzip", 2)).await;
    let mut once = Vec::new();
    let mut decoder = flate2::read::GzDecoder::new(&twice.body[..]);
    std::io::Read::read_to_end(&mut decoder, &mut once).unwrap();
    assert!(once.starts_with(&[0x1f, 0x8b]));
    let answer = ask(&client, Fault::HeadLines("no header at all\r\n".to_owned())).await;
    assert_eq!(answer.headers.lines().nth(1), Some("no header at all"));
    assert_eq!(answer.json()["value"].as_array().unwrap().len(), 10);
    let answer = ask(&client, Fault::ByteOrderMark).await;
    assert!(!answer.headers.contains("no header"), "{}", answer.headers);
}

#[tokio::test]
async fn requests_that_are_answered_at_once_are_counted() {
    let client = three_pages().await;
    client
        .service
        .adjust(|options| options.latency = Duration::from_millis(200));
    let url = client.url(REPORT, hour() - TimeDelta::hours(2), hour());
    let page = || client.page(&url);
    let (first, second, third) = tokio::join!(page(), page(), page());
    for answer in [first, second, third] {
        assert_eq!(answer.unwrap().status, 200);
    }
    assert_eq!(most_in_flight(&client.service.requests()), 3);
    client.page(&url).await.unwrap();
    let requests = client.service.requests();
    assert_eq!(requests.last().unwrap().in_flight, 1);
}
