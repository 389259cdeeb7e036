//! Whoever asks too much, too slowly or too often is refused, and collecting goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use testkit::report::Report;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Watched;
use crate::setting::Setting;

/// A collector with nothing to collect for hours.
async fn idle() -> (Setting, Watched) {
    let setting = Setting::new().await;
    let input = setting.input().service(Report::SafelinksDetail, &[]);
    let watched = Watched::start(&setting, input, "{listen: 0}").await;
    (setting, watched)
}

#[tokio::test]
async fn requests_that_are_too_large_or_bring_something_are_refused() {
    let (_setting, watched) = idle().await;
    let long = format!(
        "GET /{} HTTP/1.1\r\nhost: localhost:1\r\n\r\n",
        "a".repeat(20_000)
    );
    let wide = format!(
        "GET /livez HTTP/1.1\r\nhost: localhost:1\r\n{}\r\n",
        "x-a: aaaaaaaaaaaaaaaaaaaa\r\n".repeat(1_000)
    );
    for (request, statuses) in [
        (long.as_str(), ["414", "431"]),
        (wide.as_str(), ["431", "431"]),
        (
            "POST /livez HTTP/1.1\r\nhost: localhost:1\r\ncontent-length: 5\r\n\r\nhello",
            ["405", "405"],
        ),
        (
            "GET /livez HTTP/1.1\r\nhost: localhost:1\r\ncontent-length: 5\r\n\r\nhello",
            ["413", "413"],
        ),
        (
            "DELETE / HTTP/1.1\r\nhost: localhost:1\r\n\r\n",
            ["405", "405"],
        ),
        ("nonsense\r\n\r\n", ["400", "400"]),
        ("GET /nowhere HTTP/1.0\r\n\r\n", ["404", "404"]),
    ] {
        let answer = watched.ask(request.as_bytes()).await;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        let shown = &request[..request.len().min(60)];
        assert!(statuses.contains(&status), "{shown:?}: {answer}");
    }
    assert_eq!(watched.get("/livez").await.0, 200);
}

#[tokio::test]
async fn a_request_that_does_not_come_is_not_waited_for() {
    let (_setting, watched) = idle().await;
    let begun = Instant::now();
    let mut slow = TcpStream::connect(watched.address).await.unwrap();
    slow.write_all(b"GET /livez HT").await.unwrap();
    let mut answer = Vec::new();
    let _ = slow.read_to_end(&mut answer).await;
    let took = begun.elapsed();
    assert!(
        took > Duration::from_secs(4) && took < Duration::from_secs(12),
        "{took:?}"
    );
}

#[tokio::test]
async fn of_more_connections_than_sixteen_the_oldest_are_closed() {
    let (_setting, watched) = idle().await;
    let mut held = Vec::new();
    for _ in 0..17 {
        held.push(TcpStream::connect(watched.address).await.unwrap());
    }
    let mut answer = Vec::new();
    let ended = held[0].read_to_end(&mut answer);
    let ended = tokio::time::timeout(Duration::from_secs(3), ended).await;
    assert!(ended.is_ok() && answer.is_empty());
    let last = held.last_mut().unwrap();
    last.write_all(b"GET /livez HTTP/1.0\r\n\r\n")
        .await
        .unwrap();
    last.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.0 200"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_is_delivered_while_everything_is_asked_for_again_and_again() {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(36), setting.ago(25));
    setting.rows(Report::MessageTrace, from, to, 20_000);
    let input = setting
        .input()
        .service_from(Report::MessageTrace, from, &[]);
    let watched = Arc::new(Watched::start(&setting, input, "{listen: 0}").await);
    let over = Arc::new(AtomicBool::new(false));
    let asking = tokio::spawn({
        let (watched, over) = (Arc::clone(&watched), Arc::clone(&over));
        async move {
            let mut slowest = Duration::ZERO;
            let mut times = 0;
            while !over.load(Ordering::Relaxed) {
                for path in ["/metrics", "/status", "/healthz"] {
                    let begun = Instant::now();
                    assert_ne!(watched.get(path).await.0, 404);
                    slowest = slowest.max(begun.elapsed());
                    times += 1;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            (times, slowest)
        }
    });
    watched.until("up_to_date").await;
    over.store(true, Ordering::Relaxed);
    let (times, slowest) = asking.await.unwrap();
    assert!(
        times > 20 && slowest < Duration::from_secs(5),
        "{times} {slowest:?}"
    );
    let mut watched = Arc::into_inner(watched).unwrap();
    setting.finish(&mut watched.collector, from, to).await;
}
