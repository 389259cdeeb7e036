//! The simulated reporting service, asked as a plain HTTP client would ask it.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where its own preparation fails"
)]

mod client;
mod graph;
mod odd;
mod retirement;

use std::io::Read as _;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use testkit::records::{Identity, compare};
use testkit::report::{Aggregate, Report};
use testkit::service::{
    Backlog, Fault, LinkForm, Options, RetryAfter, Row, Shape, TooOld, When, busiest_second,
};
use url::Url;

use client::{Answer, Client, get, hour};

#[tokio::test]
async fn a_walk_brings_every_row_once_in_every_form_of_link_and_shape() {
    for (rows, expected) in [
        (0, vec![0]),
        (9, vec![9]),
        (10, vec![10, 0]),
        (25, vec![10, 10, 5]),
        (30, vec![10, 10, 10, 0]),
    ] {
        for link in [LinkForm::Relative, LinkForm::Absolute, LinkForm::Bare] {
            let client = Client::new(Options {
                page_rows: 10,
                link,
                ..Options::default()
            })
            .await;
            let (start, end) = (hour() - TimeDelta::hours(5), hour());
            client
                .service
                .generate(&Backlog::new(Report::MessageTrace, start, end, rows));
            let (pages, records) = client.walk(Report::MessageTrace, start, end).await;
            assert_eq!(pages, expected, "{link:?}");
            assert_eq!(records.total(), u64::from(rows));
            let verdict = compare(
                &client.service.served(),
                &client
                    .service
                    .existing(Report::MessageTrace, Aggregate::Hour, start, end),
            );
            assert!(
                verdict.is_exact() && verdict.served == u64::from(rows),
                "{verdict}"
            );
        }
    }
}

#[tokio::test]
async fn all_eight_reports_have_rows_with_the_documented_fields() {
    let client = Client::new(Options::default()).await;
    let (start, end) = (hour() - TimeDelta::days(3), hour());
    for report in Report::ALL {
        client
            .service
            .generate(&Backlog::new(report, start, end, 300));
        let answer = client
            .ask(report, start, end - TimeDelta::seconds(1))
            .await
            .json();
        let rows = answer["value"].as_array().unwrap();
        assert!(rows.len() > 150, "{report}: {}", rows.len());
        let keys: Vec<_> = rows[0].as_object().unwrap().keys().collect();
        assert!(
            keys.len() >= 9
                && ["StartDate", "EndDate", "Index"]
                    .iter()
                    .all(|key| rows[0].get(key).is_some()),
            "{keys:?}"
        );
    }
    let answer = client.ask(Report::MessageTrace, start, end).await.text();
    let first = &answer[answer.find("{\"Organization\"").unwrap()..];
    let position = |key: &str| {
        first
            .find(&format!("\"{key}\":"))
            .unwrap_or_else(|| panic!("{key}"))
    };
    let keys = "Organization MessageId Received SenderAddress RecipientAddress Subject Status ToIP FromIP Size MessageTraceId \
                StartDate EndDate Index";
    assert!(keys.split_whitespace().map(position).is_sorted());
}

#[tokio::test]
async fn both_ends_of_an_instants_range_are_inclusive_and_an_hour_comes_whole() {
    let client = Client::new(Options::default()).await;
    let start = hour() - TimeDelta::hours(3);
    for minutes in [0, 10, 20, 70] {
        let time = start + TimeDelta::minutes(minutes);
        client.service.insert(
            Report::MessageTrace,
            Row::sample(Report::MessageTrace, time, 1),
        );
        client
            .service
            .insert(Report::DlpDetail, Row::sample(Report::DlpDetail, time, 1));
    }
    let count = async |report, from: i64, to: i64| {
        let (from, to) = (
            start + TimeDelta::minutes(from),
            start + TimeDelta::minutes(to),
        );
        client.ask(report, from, to).await.json()["value"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(count(Report::MessageTrace, 0, 10).await, 2);
    assert_eq!(count(Report::MessageTrace, 10, 20).await, 2);
    assert_eq!(count(Report::DlpDetail, 10, 11).await, 3);
    assert_eq!(count(Report::DlpDetail, 10, 60).await, 4);
}

#[tokio::test]
async fn the_path_does_not_mind_case_and_unknown_ones_are_404() {
    let client = Client::new(Options::default()).await;
    let url = client.url(Report::MessageTrace, hour() - TimeDelta::hours(1), hour());
    let with = |path: &str| {
        Url::parse(&format!(
            "{}{path}?{}",
            client.service.authority_url(),
            url.query().unwrap()
        ))
        .unwrap()
    };
    let status = async |path| client.page(&with(path)).await.unwrap().status;
    assert_eq!(
        status("/ecp/ReportingWebService/Reporting.svc/messagetrace").await,
        200
    );
    assert_eq!(
        status("/ecp/reportingwebservice/reporting.svc/Other").await,
        404
    );
    assert_eq!(status("/elsewhere").await, 404);
}

#[tokio::test]
async fn verbose_answers_are_the_same_records_to_the_millisecond() {
    let client = Client::new(Options {
        shape: Shape::Verbose,
        page_rows: 10,
        ..Options::default()
    })
    .await;
    let (start, end) = (hour() - TimeDelta::hours(2), hour());
    client
        .service
        .generate(&Backlog::new(Report::MessageTrace, start, end, 25));
    let (pages, _) = client.walk(Report::MessageTrace, start, end).await;
    assert_eq!(pages, [10, 10, 5]);
    let row = &client.ask(Report::MessageTrace, start, end).await.json()["d"]["results"][0];
    assert!(row["__metadata"].is_object());
    let received = row["Received"].as_str().unwrap();
    let milliseconds: i64 = received
        .strip_prefix("/Date(")
        .and_then(|rest| rest.strip_suffix(")/"))
        .unwrap()
        .parse()
        .unwrap();
    let time = DateTime::from_timestamp_millis(milliseconds).unwrap();
    assert!(start <= time && time < end);

    let light = Client::new(Options::default()).await;
    light.service.insert(
        Report::MessageTrace,
        Row::new(
            time,
            r#"{"Received":"2026-01-02T03:04:05.1234567","A":"\ud800"}"#,
        ),
    );
    let mut url = light.url(Report::MessageTrace, start, end);
    url.set_query(Some(&format!("{}&$format=json", url.query().unwrap())));
    let text = light.page(&url).await.unwrap().text();
    assert!(
        text.contains(r#""Received":"/Date(1767323045123)/","A":"\ud800","#),
        "{text}"
    );
    let served = light.service.served();
    let identity = Identity::of(r#"{"Received":"2026-01-02T03:04:05.123","A":"\ud800"}"#).unwrap();
    assert_eq!(served.times(Report::MessageTrace, identity), 1);
}

#[tokio::test]
async fn ranges_out_of_reach_are_refused_or_empty() {
    let client = Client::new(Options::default()).await;
    let start = |days| Utc::now() - TimeDelta::days(days) - TimeDelta::hours(1);
    client.service.insert(
        Report::MessageTrace,
        Row::sample(Report::MessageTrace, start(10), 1),
    );
    client.service.insert(
        Report::MessageTrace,
        Row::sample(Report::MessageTrace, start(11), 1),
    );
    let ask = async |days| {
        client
            .ask(Report::MessageTrace, start(days), Utc::now())
            .await
    };
    let count = |answer: &Answer| answer.json()["value"].as_array().unwrap().len();
    assert_eq!(count(&ask(10).await), 1);
    assert_eq!(ask(11).await.status, 500);
    client
        .service
        .adjust(|options| options.too_old = TooOld::Empty);
    assert_eq!(count(&ask(11).await), 0);
    client.service.clock_offset(TimeDelta::days(-2));
    assert_eq!(count(&ask(11).await), 2);
}

#[tokio::test]
async fn safelinks_never_come_today_and_detail_is_cut_off() {
    let client = Client::new(Options {
        page_rows: 10,
        detail_rows_max: 25,
        pages_max: 4,
        ..Options::default()
    })
    .await;
    let now = Utc::now();
    let report = Report::SafelinksDetail;
    client.service.insert(report, Row::sample(report, now, 1));
    client
        .service
        .insert(report, Row::sample(report, now - TimeDelta::days(1), 1));
    assert_eq!(
        client.walk(report, now - TimeDelta::days(2), now).await.0,
        [1]
    );
    let start = hour() - TimeDelta::hours(3);
    client
        .service
        .generate(&Backlog::new(Report::MailDetailAtp, start, hour(), 100));
    assert_eq!(
        client.walk(Report::MailDetailAtp, start, now).await.0,
        [10, 10, 5]
    );
    client
        .service
        .generate(&Backlog::new(Report::MessageTrace, start, hour(), 100));
    assert_eq!(
        client.walk(Report::MessageTrace, start, now).await.0,
        [10, 10, 10, 10]
    );
}

#[tokio::test]
async fn a_late_row_shifts_what_follows_and_a_vanishing_one_hides_a_row() {
    let (start, end) = (hour() - TimeDelta::hours(2), hour());
    let walk = async |fault| {
        let client = Client::new(Options {
            page_rows: 10,
            ..Options::default()
        })
        .await;
        client
            .service
            .generate(&Backlog::new(Report::MessageTrace, start, end, 30));
        client.service.fault(
            Report::MessageTrace,
            When::Page { page: 1, times: 1 },
            fault,
        );
        let (pages, records) = client.walk(Report::MessageTrace, start, end).await;
        let twice = records
            .iter()
            .filter(|(_, _, count)| count.times == 2)
            .count();
        let there = client
            .service
            .existing(Report::MessageTrace, Aggregate::Hour, start, end);
        (pages, twice, compare(&there, &client.service.served()))
    };
    let (pages, twice, verdict) = walk(Fault::LateRow { position: 3 }).await;
    assert_eq!((pages, twice), (vec![10, 10, 10, 1], 1));
    assert_eq!((verdict.missing, verdict.unknown), (1, 0));
    let (pages, twice, verdict) = walk(Fault::VanishingRow { position: 3 }).await;
    assert_eq!((pages, twice), (vec![10, 10, 9], 0));
    assert_eq!((verdict.missing, verdict.unknown), (1, 1));
    let (pages, twice, verdict) = walk(Fault::LateRow { position: 12 }).await;
    assert_eq!((pages, twice, verdict.missing), (vec![10, 10, 10, 1], 0, 0));
}

#[tokio::test]
async fn every_error_is_answered_as_described_and_noted() {
    let client = Client::new(Options::default()).await;
    let (report, end) = (Report::SpoofMail, Utc::now());
    let ask = async |fault| {
        client.service.fault(report, When::Next(1), fault);
        client.ask(report, end - TimeDelta::days(1), end).await
    };
    assert!(ask(Fault::BadRequest).await.json()["error"]["message"]["value"].is_string());
    assert!(ask(Fault::Unauthorized).await.text().contains("<h2>401"));
    assert_eq!(ask(Fault::Forbidden).await.json()["ErrorCode"], "");
    let throttled = ask(Fault::Throttled(Some(RetryAfter::Seconds(7)))).await;
    assert_eq!(
        (throttled.status, throttled.header("retry-after")),
        (429, Some("7"))
    );
    let busy = ask(Fault::Busy(Some(RetryAfter::Date(Duration::from_secs(9))))).await;
    let until = DateTime::parse_from_rfc2822(busy.header("retry-after").unwrap()).unwrap();
    assert!((until.to_utc() - Utc::now()).num_seconds() >= 7);
    let page = ask(Fault::SignInPage).await;
    assert!(page.status == 200 && page.text().contains("Sign in"));
    let fault = ask(Fault::ServiceFault { status: 200 }).await;
    assert!(fault.status == 200 && fault.text().starts_with("<ServiceFault"));
    let redirect = ask(Fault::Redirect("http://127.0.0.1:1/".to_owned())).await;
    assert_eq!(
        (redirect.status, redirect.header("location")),
        (302, Some("http://127.0.0.1:1/"))
    );
    let early = ask(Fault::EndsEarly).await;
    assert!(early.status == 200 && serde_json::from_slice::<Value>(&early.body).is_err());
    assert!(
        ask(Fault::ByteOrderMark)
            .await
            .body
            .starts_with(b"\xef\xbb\xbf{")
    );
    assert!(ask(Fault::PrettyPrinted).await.text().contains("\r\n"));
    let ids: std::collections::HashSet<_> = client
        .service
        .requests()
        .into_iter()
        .map(|request| request.request_id)
        .collect();
    assert_eq!(ids.len(), 11);
    assert_eq!(
        client.service.requests()[3].fault.as_deref(),
        Some("Throttled")
    );
    assert!(busiest_second(&client.service.requests()) >= 1);
}

#[tokio::test]
async fn broken_connections_are_broken_where_they_should_be() {
    let client = Client::new(Options::default()).await;
    let (report, start, end) = (Report::MessageTrace, hour() - TimeDelta::hours(2), hour());
    client
        .service
        .generate(&Backlog::new(report, start, end, 500));
    let url = client.url(report, start, end);
    for fault in [
        Fault::CutBody,
        Fault::ResetBeforeHeaders,
        Fault::ResetAfterHeaders,
    ] {
        client.service.fault(report, When::Next(1), fault.clone());
        assert!(client.page(&url).await.is_err(), "{fault:?}");
    }
    client
        .service
        .fault(report, When::Next(1), Fault::CutChunked);
    let cut = client.page(&url).await.unwrap();
    assert!(cut.header("content-length").is_none() && !cut.body.ends_with(b"0\r\n\r\n"));
    assert_eq!(client.service.served().total(), 0);

    client.service.fault(report, When::Next(1), Fault::Stall);
    assert!(
        tokio::time::timeout(Duration::from_millis(200), client.page(&url))
            .await
            .is_err()
    );
    client.service.fault(
        report,
        When::Next(1),
        Fault::SlowBody {
            bytes_per_second: 1_000_000,
        },
    );
    let begin = Instant::now();
    assert_eq!(client.page(&url).await.unwrap().status, 200);
    assert!(begin.elapsed() >= Duration::from_millis(200));
    assert_eq!(client.service.served().total(), 500);
}

#[tokio::test]
async fn bodies_are_compressed_on_request_and_blown_up_on_demand() {
    let mut client = Client::new(Options::default()).await;
    client.more = "Accept-Encoding: gzip\r\n".to_owned();
    let (report, start, end) = (Report::MessageTrace, hour() - TimeDelta::hours(2), hour());
    client
        .service
        .generate(&Backlog::new(report, start, end, 500));
    let url = client.url(report, start, end);
    let unpack = |answer: &Answer| {
        assert_eq!(answer.header("content-encoding"), Some("gzip"));
        let mut body = Vec::new();
        flate2::read::GzDecoder::new(&answer.body[..])
            .read_to_end(&mut body)
            .map(|_| body)
    };
    let plain = unpack(&client.page(&url).await.unwrap()).unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(&plain).unwrap()["value"]
            .as_array()
            .unwrap()
            .len(),
        500
    );
    client.service.fault(report, When::Next(1), Fault::CutGzip);
    assert!(unpack(&client.page(&url).await.unwrap()).is_err());
    client
        .service
        .fault(report, When::Next(1), Fault::GzipBomb { bytes: 12 << 20 });
    let bomb = client.page(&url).await.unwrap();
    assert!(bomb.body.len() < 1 << 20 && unpack(&bomb).unwrap().len() > 12 << 20);
    client.more.clear();
    client.service.fault(
        report,
        When::WiderThan(TimeDelta::hours(1)),
        Fault::BigBody {
            bytes: 12 << 20,
            announced: true,
        },
    );
    let big = client.page(&url).await.unwrap();
    assert!(big.body.len() > 12 << 20 && big.json()["value"].is_array());
    assert!(big.header("content-length").is_some());
    assert!(
        client
            .ask(report, start, start + TimeDelta::hours(1))
            .await
            .body
            .len()
            < 1 << 20
    );
    client.service.heal();
    client.more = "Accept-Encoding: gzip\r\n".to_owned();
    let unannounced = Fault::BigBody {
        bytes: 12 << 20,
        announced: false,
    };
    client.service.fault(report, When::Next(1), unannounced);
    let big = client.page(&url).await.unwrap();
    assert!(big.body.len() > 12 << 20 && big.header("content-encoding").is_none());
    assert!(big.header("content-length").is_none());
}

#[tokio::test]
async fn links_can_repeat_leave_the_origin_or_be_refused() {
    let client = Client::new(Options {
        page_rows: 10,
        ..Options::default()
    })
    .await;
    let (report, start, end) = (Report::MessageTrace, hour() - TimeDelta::hours(2), hour());
    client
        .service
        .generate(&Backlog::new(report, start, end, 50));
    let link = async |fault| {
        client
            .service
            .fault(report, When::Page { page: 2, times: 1 }, fault);
        let url = client.url(report, start, end);
        let second = url
            .join(
                client.page(&url).await.unwrap().json()["odata.nextLink"]
                    .as_str()
                    .unwrap(),
            )
            .unwrap();
        let third = client.page(&second).await.unwrap().json()["odata.nextLink"]
            .as_str()
            .unwrap()
            .to_owned();
        (second.clone(), second.join(&third).unwrap())
    };
    let (second, third) = link(Fault::RepeatedLink).await;
    assert_eq!(second, third);
    let (_, third) = link(Fault::ForeignLink("http://127.0.0.2:1".to_owned())).await;
    assert_eq!(third.host_str(), Some("127.0.0.2"));
    let (_, third) = link(Fault::RefusedLink).await;
    assert_eq!(client.page(&third).await.unwrap().status, 400);
}

#[tokio::test]
async fn without_a_good_token_there_is_an_html_page() {
    let client = Client::new(Options::default()).await;
    let url = client.url(Report::MessageTrace, hour() - TimeDelta::hours(2), hour());
    for header in [
        "",
        "Authorization: Bearer nonsense\r\n",
        "Authorization: Basic AAAA\r\n",
    ] {
        let answer = get(&url, header).await.unwrap();
        assert!(
            answer.status == 401 && answer.text().contains("<html>"),
            "{header}"
        );
    }
}
