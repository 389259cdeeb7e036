//! Walks: position, links, bounds and throttling.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::*;
use crate::config::{RequestsLimit, ServiceConfig};
use crate::record::Mask;

#[tokio::test]
async fn walks_to_the_last_page_and_asks_properly() {
    let server = Server::start(|request, n| match n {
        0 => page(r#"{"Index":0}"#, Some("../../reportingwebservice/reporting.svc/MessageTrace?$filter=a%20b&$skiptoken=1999")),
        1 => page("", Some("MessageTrace?$skiptoken=3999")),
        _ => {
            assert!(request.starts_with("GET /ecp/reportingwebservice/reporting.svc/MessageTrace?$skiptoken=3999 "));
            page(r#"{"Index":2}"#, None)
        }
    })
    .await;
    let client = server.client(basic());
    assert_eq!(client.service_time(), None);
    let mut walk = client.walk(query(), &fingerprinter());
    assert_eq!(row(&mut walk).await, r#"{"Index":0}"#);
    assert_eq!(row(&mut walk).await, "");
    assert_eq!(row(&mut walk).await, r#"{"Index":2}"#);
    assert!(walk.next().await.unwrap().is_none());
    assert!(walk.next().await.unwrap().is_none());
    assert_eq!(walk.pages(), 3);
    let ahead =
        client.service_time().unwrap() - "2024-05-07T15:35:24Z".parse::<DateTime<Utc>>().unwrap();
    assert!((0..5).contains(&ahead.num_seconds()), "{ahead}");

    let requests = server.requests();
    assert_eq!(requests.len(), 3);
    let first = requests[0].to_ascii_lowercase();
    for part in [
        "get /ecp/reportingwebservice/reporting.svc/messagetrace?$filter=startdate%20eq%20datetime%272024-05-07t15:00:00z%27%20and%20enddate%20eq%20datetime%272024-05-07t15:59:59z%27 http/1.1\r\n",
        "\r\naccept: application/json\r\n",
        "\r\nx-rws-version: 2013-v1\r\n",
        "\r\naccept-encoding: gzip\r\n",
        "\r\nuser-agent: exchange-reports-collector/",
        "\r\nauthorization: basic dxnlckblegftcgxllmnvbtpodxno\r\n",
    ] {
        assert!(first.contains(part), "{part} in {first}");
    }
    assert!(!first.contains("$format"));
    assert!(requests[1].contains("MessageTrace?$filter=a%20b&$skiptoken=1999 "));
}

/// The first answer fails with `kind`, and the next call gets the same page.
async fn check_asked_again(name: &str, broken: Vec<u8>, kind: Kind) {
    let server = Server::start(move |_, n| match n {
        0 => broken.clone(),
        _ => page(r#"{"Index":0}"#, None),
    })
    .await;
    let mut walk = server.client(basic()).walk(query(), &fingerprinter());
    let error = error(&mut walk).await;
    assert_eq!(error.kind(), kind, "{name}: {error:?}");
    assert_eq!(walk.pages(), 0);
    assert_eq!(row(&mut walk).await, r#"{"Index":0}"#, "{name}");
    let requests = server.requests();
    assert_eq!(requests[0], requests[1], "{name}");
}

#[tokio::test]
async fn a_page_that_failed_is_asked_for_again() {
    let whole = page(r#"{"Index":0}"#, None);
    let zipped = gzip(&vec![b' '; 100_000]);
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"val\r\n".to_vec();
    let head = "content-encoding: gzip\r\n";
    for (name, broken, kind) in [
        ("closed at once", Vec::new(), Kind::CutShort),
        ("closed in the head", whole[..20].to_vec(), Kind::CutShort),
        (
            "closed in the body",
            whole[..whole.len() - 3].to_vec(),
            Kind::CutShort,
        ),
        ("closed between chunks", chunked, Kind::CutShort),
        (
            "gzip that ends early",
            answer(200, head, &zipped[..zipped.len() / 2]),
            Kind::CutShort,
        ),
        (
            "gzip that is none",
            answer(200, head, "{\"value\":[]}"),
            Kind::CutShort,
        ),
        (
            "JSON that ends early",
            answer(200, "", "{\"value\":[{}"),
            Kind::CutShort,
        ),
        (
            "a sign-in page",
            answer(200, "", "<html><title>Sign in</title>"),
            Kind::NotAPage,
        ),
        ("busy", answer(503, "", ""), Kind::Busy),
        ("an unknown error", answer(500, "", ""), Kind::ServerError),
        (
            "a link elsewhere",
            page("{}", Some("https://elsewhere.example/")),
            Kind::LinkRefused,
        ),
    ] {
        check_asked_again(name, broken, kind).await;
    }
}

#[tokio::test]
async fn errors_carry_the_request_id() {
    let server = Server::start(|_, n| match n {
        0 => answer(503, "", ""),
        1 => answer(200, "", "[]"),
        _ => page("", Some("https://elsewhere.example/")),
    })
    .await;
    let mut walk = server.client(basic()).walk(query(), &fingerprinter());
    for id in ["id-503", "id-200", "id-200"] {
        assert_eq!(error(&mut walk).await.request_id(), Some(id));
    }
}

#[tokio::test]
async fn a_dropped_call_loses_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server {
        address: listener.local_addr().unwrap(),
        requests: Arc::default(),
    };
    let mut walk = server.client(basic()).walk(query(), &fingerprinter());
    // Half of a page, and then nothing.
    let half = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_u8().await.unwrap();
        let whole = page(r#"{"Index":0}"#, None);
        stream.write_all(&whole[..whole.len() - 5]).await.unwrap();
        stream
    };
    let (dropped, _stalled) = tokio::join!(timeout(Duration::from_millis(100), walk.next()), half);
    assert!(dropped.is_err());
    assert_eq!(walk.pages(), 0);
    let whole = async {
        let (stream, _) = listener.accept().await.unwrap();
        exchange(stream, &server.requests, &|_, _| {
            page(r#"{"Index":0}"#, None)
        })
        .await;
    };
    let (row, ()) = tokio::join!(row(&mut walk), whole);
    assert_eq!((row.as_str(), walk.pages()), (r#"{"Index":0}"#, 1));
}

#[tokio::test]
async fn an_answer_that_does_not_come_or_end_is_out_of_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server {
        address: listener.local_addr().unwrap(),
        requests: Arc::default(),
    };
    tokio::spawn(async move {
        let (_silent, _) = listener.accept().await.unwrap();
        let (mut slow, _) = listener.accept().await.unwrap();
        slow.read_u8().await.unwrap();
        slow.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{")
            .await
            .unwrap();
        std::future::pending::<()>().await;
    });
    let mut client = server.client(basic());
    Arc::get_mut(&mut client.0).unwrap().http = reqwest::Client::builder()
        .tls_backend_preconfigured(tls::config(None, false).unwrap())
        .no_proxy()
        .timeout(Duration::from_millis(100))
        .build()
        .unwrap();
    let mut walk = client.walk(query(), &fingerprinter());
    for _ in 0..2 {
        let error = error(&mut walk).await;
        assert_eq!(
            (error.kind(), error.remedy()),
            (Kind::TimedOut, Remedy::BackOff)
        );
        assert!(error.shorter_window_may_help());
    }
}

#[tokio::test]
async fn a_link_back_ends_the_walk_after_its_page() {
    let server = Server::start(|_, n| {
        page(
            &n.to_string().replace(['0', '1'], "{}"),
            Some("?$skiptoken=1"),
        )
    })
    .await;
    let mut walk = server.client(basic()).walk(query(), &fingerprinter());
    assert_eq!(row(&mut walk).await, "{}");
    assert_eq!(row(&mut walk).await, "{}");
    for _ in 0..2 {
        let error = error(&mut walk).await;
        assert_eq!(
            (error.kind(), error.remedy()),
            (Kind::LinkRepeated, Remedy::WalkAgain)
        );
    }
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_refused_link_restarts_the_walk_and_a_refused_query_does_not() {
    let server = Server::start(|request, _| {
        if request.contains("skiptoken") || request.contains("MailTraffic") {
            answer(
                400,
                "",
                r#"{"error":{"code":"","message":{"lang":"en-US","value":"No."}}}"#,
            )
        } else {
            page("{}", Some("?$skiptoken=1"))
        }
    })
    .await;
    let client = server.client(basic());
    let mut walk = client.walk(query(), &fingerprinter());
    row(&mut walk).await;
    assert_eq!(error(&mut walk).await.remedy(), Remedy::WalkAgain);
    let report = Report::by_service("office365_reporting_MailTraffic_service").unwrap();
    let mut walk = client.walk(Query { report, ..query() }, &fingerprinter());
    assert_eq!(error(&mut walk).await.remedy(), Remedy::AskOperator);
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let server = Server::start(|_, _| answer(302, "location: /elsewhere\r\n", "")).await;
    let mut walk = server.client(basic()).walk(query(), &fingerprinter());
    assert_eq!(error(&mut walk).await.kind(), Kind::Moved);
    assert_eq!(server.count("elsewhere"), 0);
}

#[tokio::test]
async fn reads_compressed_pages_and_bounds_them() {
    let rows = format!(
        "{{\"value\":[{{\"Subject\":\"{}\"}}]}}",
        "x".repeat(1_000_000)
    );
    let bomb = vec![b' '; BODY_MAX_BYTES + 1];
    let server = Server::start(move |_, n| match n {
        0 => answer(200, "content-encoding: gzip\r\n", gzip(&bomb)),
        1 => {
            let mut head = answer(200, "", "");
            head.truncate(head.len() - "0\r\n\r\n".len());
            head.extend_from_slice(format!("{}\r\n\r\n", BODY_MAX_BYTES + 1).as_bytes());
            head
        }
        2 => {
            let mut endless = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec();
            endless.resize(BODY_MAX_BYTES + 1_000, b' ');
            endless
        }
        _ => answer(200, "content-encoding: gzip\r\n", gzip(rows.as_bytes())),
    })
    .await;
    let mut walk = server.client(basic()).walk(query(), &fingerprinter());
    for _ in 0..3 {
        let error = error(&mut walk).await;
        assert_eq!(
            (error.kind(), error.remedy()),
            (Kind::TooLarge, Remedy::Narrow)
        );
    }
    assert_eq!(row(&mut walk).await.len(), 1_000_014);
}

#[tokio::test]
async fn retry_after_holds_back_all_walks() {
    let server = Server::start(|_, n| match n {
        0 => answer(503, "retry-after: 1\r\n", ""),
        _ => page("{}", None),
    })
    .await;
    let client = server.client(basic());
    let (mut one, mut other) = (
        client.walk(query(), &fingerprinter()),
        client.walk(query(), &fingerprinter()),
    );
    let start = Instant::now();
    assert_eq!(error(&mut one).await.remedy(), Remedy::Throttled);
    assert!(client.paused().is_some());
    row(&mut other).await;
    assert!(start.elapsed() >= Duration::from_secs(1));
    row(&mut one).await;
    assert_eq!(client.paused(), None);
}

#[tokio::test]
async fn a_services_own_budget_holds_it_back_and_no_other() {
    let server = Server::start(|_, _| page("{}", None)).await;
    let limit = RequestsLimit {
        period: Duration::from_secs(2),
        number_of_requests: NonZeroU32::MIN,
    };
    let mut input = server.input(basic());
    input.services = vec![ServiceConfig {
        report: query().report,
        period: Duration::from_mins(1),
        delay: Duration::from_hours(25),
        early_passes: vec![],
        early_passes_deliver: true,
        start_time: None,
        reset_persistence_auth: None,
        source: crate::config::SourceChoice::Auto,
        aggregate_by: None,
        mask: Mask::default(),
        requests_limits: vec![limit],
    }];
    let client = Client::new(&input).unwrap();
    let other = Report::by_service("office365_reporting_MailDetailATP_service").unwrap();
    let other = Query {
        report: other,
        ..query()
    };
    let walk = |query| client.walk(query, &fingerprinter());
    let (mut first, mut second, mut third) = (walk(query()), walk(query()), walk(other));
    let start = Instant::now();
    row(&mut first).await;
    tokio::join!(row(&mut second), row(&mut third));
    assert!(start.elapsed() >= Duration::from_secs(2));
    let asked: Vec<_> = server
        .requests()
        .iter()
        .map(|request| request.contains("/MessageTrace?"))
        .collect();
    assert_eq!(asked, [true, false, true]);
}

#[tokio::test]
async fn links_are_followed_a_thousand_times_at_most() {
    let server = Server::start(|_, n| page("{}", Some(&format!("?$skiptoken={n}")))).await;
    let mut walk = server.client(basic()).walk(query(), &fingerprinter());
    while walk.next().await.unwrap().is_some() {}
    assert_eq!(walk.pages(), 1_000);
}

#[tokio::test]
async fn nobody_there_is_no_reason_to_give_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server {
        address: listener.local_addr().unwrap(),
        requests: Arc::default(),
    };
    drop(listener);
    let error = error(&mut server.client(basic()).walk(query(), &fingerprinter())).await;
    assert_eq!(
        (error.kind(), error.remedy()),
        (Kind::Unreachable, Remedy::BackOff)
    );
    assert_eq!(
        error.to_string(),
        format!("cannot connect to http://{}", server.address)
    );
    assert!(format!("{:#}", anyhow::Error::from(error)).contains("refused"));
}
