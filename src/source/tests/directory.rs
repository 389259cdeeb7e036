//! The directory: how it is left alone, tokens that are renewed in time, and what the reporting service says of them.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use super::*;

/// A server whose directory gives `tokens` one after the other, the last one for ever, and whose reports are answered by `report`.
async fn server<F>(tokens: Vec<Vec<u8>>, report: F) -> Server
where
    F: Fn(&str) -> Vec<u8> + Send + Sync + 'static,
{
    let issued = AtomicUsize::new(0);
    Server::start(move |request, _| {
        if request.contains(TOKEN_PATH) {
            let nth = issued.fetch_add(1, Relaxed);
            tokens[nth.min(tokens.len() - 1)].clone()
        } else {
            report(request)
        }
    })
    .await
}

fn rows(_: &str) -> Vec<u8> {
    page("{}", None)
}

/// What eight services get that ask at the same time.
async fn eight(client: &Client) -> Vec<Result<usize, FetchError>> {
    let walks = (0..8).map(|_| {
        let mut walk = client.walk(query(), &fingerprinter());
        tokio::spawn(async move { Ok(walk.next().await?.unwrap().len()) })
    });
    let walks: Vec<_> = walks.collect();
    let mut got = Vec::new();
    for walk in walks {
        got.push(walk.await.unwrap());
    }
    got
}

#[tokio::test]
async fn a_directory_that_asks_for_a_pause_gets_it_from_all_services() {
    let after = |status, after: &str| answer(status, &format!("retry-after: {after}\r\n"), "");
    for refusal in [
        after(429, "120"),
        after(503, "120"),
        after(503, "Tue, 07 May 2024 15:37:24 GMT"),
        after(400, "120"),
    ] {
        let server = server(vec![refusal, token(2, "3599")], rows).await;
        let client = server.client(secret());
        for told in eight(&client).await {
            let error = told.unwrap_err();
            assert_eq!(error.remedy(), Remedy::Throttled);
            assert!(error.to_string().contains("a pause of 120 s"), "{error}");
        }
        assert_eq!(server.count(TOKEN_PATH), 1);
        let left = client.paused().unwrap();
        assert!((118..=120).contains(&left.as_secs().max(118)), "{left:?}");

        let again = tokio::spawn(async move { eight(&client).await });
        tokio::task::yield_now().await;
        pass(Duration::from_secs(117)).await;
        tokio::task::yield_now().await;
        assert_eq!(server.requests().len(), 1);
        pass(Duration::from_secs(3)).await;
        assert!(again.await.unwrap().iter().all(Result::is_ok));
        assert_eq!((server.count(TOKEN_PATH), server.requests().len()), (2, 10));
    }
}

#[tokio::test]
async fn a_failure_is_shared_by_all_who_waited_for_the_token() {
    let wrong = r#"{"error":"invalid_client","error_codes":[7000215]}"#;
    for (failure, kind) in [
        (answer(500, "", ""), Kind::SignInFailed),
        (answer(503, "", ""), Kind::SignInFailed),
        (answer(401, "", wrong), Kind::SignInRefused),
    ] {
        let server = server(vec![failure, token(2, "3599")], rows).await;
        let client = server.client(secret());
        for told in eight(&client).await {
            assert_eq!(told.unwrap_err().kind(), kind);
        }
        assert_eq!(server.count(TOKEN_PATH), 1);
        assert_eq!(client.paused(), None, "nobody has asked for a pause");
        assert!(eight(&client).await.iter().all(Result::is_ok));
        assert_eq!(server.count(TOKEN_PATH), 2);
    }
}

#[tokio::test]
async fn a_directory_that_keeps_failing_is_asked_less_and_less() {
    let server = server(vec![answer(500, "", "")], rows).await;
    let client = server.client(secret());
    let failed = Arc::new(AtomicUsize::new(0));
    let services: Vec<_> = (0..8)
        .map(|_| {
            let mut walk = client.walk(query(), &fingerprinter());
            let failed = Arc::clone(&failed);
            let asking = async move {
                loop {
                    walk.next().await.unwrap_err();
                    failed.fetch_add(1, Relaxed);
                }
            };
            tokio_util::task::AbortOnDropHandle::new(tokio::spawn(asking))
        })
        .collect();
    // All eight hear of each failure, and the next request comes after half a second, then after twice as long each time up to a minute; up to
    // half of each is left out by chance.
    for request in 1..=12 {
        while failed.load(Relaxed) < 8 * request {
            tokio::task::yield_now().await;
        }
        if request > 8 {
            pass(Duration::from_secs(29)).await;
            for _ in 0..1_000 {
                tokio::task::yield_now().await;
            }
            assert_eq!(server.count(TOKEN_PATH), request);
        }
        pass(Duration::from_mins(1)).await;
    }
    drop(services);
}

#[tokio::test]
async fn a_token_is_renewed_in_the_background_while_the_old_one_holds() {
    // The second request for a token is never answered, and given up after a minute.
    let server = server(
        vec![token(2, "\"3600\""), SILENCE.to_vec(), token(3, "3600")],
        rows,
    )
    .await;
    let client = server.client(secret());
    assert_eq!(row(&mut client.walk(query(), &fingerprinter())).await, "{}");
    pass(Duration::from_mins(56)).await;
    for _ in 0..3 {
        assert_eq!(row(&mut client.walk(query(), &fingerprinter())).await, "{}");
        server.until(TOKEN_PATH, 2).await;
    }
    assert_eq!(
        (server.count(TOKEN_PATH), server.count("Bearer token2")),
        (2, 4)
    );
    pass(Duration::from_secs(61)).await;
    // The failure is known once a request has begun the next renewal.
    while server.count(TOKEN_PATH) < 3 {
        assert_eq!(row(&mut client.walk(query(), &fingerprinter())).await, "{}");
    }
    while server.count("Bearer token3") == 0 {
        assert_eq!(row(&mut client.walk(query(), &fingerprinter())).await, "{}");
    }
    assert_eq!(server.count(TOKEN_PATH), 3);
}

#[tokio::test]
async fn a_token_is_used_to_its_end_if_it_cannot_be_renewed() {
    let busy = answer(503, "retry-after: 120\r\n", "");
    let server = server(vec![token(2, "3600"), busy], rows).await;
    let client = server.client(secret());
    for minutes in [0, 56, 3] {
        pass(Duration::from_mins(minutes)).await;
        assert_eq!(row(&mut client.walk(query(), &fingerprinter())).await, "{}");
        assert_eq!(client.paused(), None, "the token still holds");
    }
    server.until(TOKEN_PATH, 3).await;
    pass(Duration::from_mins(4)).await;
    let error = error(&mut client.walk(query(), &fingerprinter())).await;
    assert_eq!(error.remedy(), Remedy::Throttled);
    assert!(client.paused().is_some());
}

#[tokio::test]
async fn no_life_that_is_said_of_a_token_makes_two_requests_of_one() {
    for life in ["0", "-1", "1", "\"soon\"", "null", "1e999"] {
        let server = server(vec![token(2, life)], rows).await;
        let client = server.client(secret());
        for _ in 0..5 {
            assert_eq!(row(&mut client.walk(query(), &fingerprinter())).await, "{}");
        }
        assert_eq!(
            (server.count(TOKEN_PATH), server.requests().len()),
            (1, 6),
            "{life}"
        );
        assert!(client.token_expiry().unwrap() < Utc::now() + chrono::TimeDelta::days(1));
    }
    // One that is not said to end does.
    let server = server(vec![token(2, "99999999999")], rows).await;
    let client = server.client(secret());
    for (hours, tokens) in [(0, 1), (23, 1), (2, 2)] {
        pass(Duration::from_hours(hours)).await;
        assert_eq!(row(&mut client.walk(query(), &fingerprinter())).await, "{}");
        assert_eq!(server.count(TOKEN_PATH), tokens);
    }
}

#[tokio::test]
async fn a_401_that_asks_for_a_pause_renews_the_token_all_the_same() {
    let ended = |request: &str| {
        if request.contains("token2") {
            answer(401, "retry-after: 30\r\n", "")
        } else {
            page("{}", None)
        }
    };
    let server = server(vec![token(2, "3599"), token(3, "3599")], ended).await;
    let client = server.client(secret());
    let mut walk = client.walk(query(), &fingerprinter());
    let walking = tokio::spawn(async move { row(&mut walk).await });
    server.until(TOKEN_PATH, 2).await;
    assert!(client.paused().is_some());
    assert_eq!(server.count("Bearer token3"), 0);
    pass(Duration::from_secs(31)).await;
    assert_eq!(walking.await.unwrap(), "{}");
    assert_eq!((server.count(TOKEN_PATH), server.requests().len()), (2, 4));
}

#[tokio::test]
async fn a_token_that_ends_while_its_request_waits_is_renewed_first() {
    // The pause is longer than the second token lives.
    let ended = |request: &str| {
        if request.contains("token2") {
            answer(401, "retry-after: 3000\r\n", "")
        } else {
            page("{}", None)
        }
    };
    let server = server(
        vec![token(2, "3599"), token(3, "600"), token(4, "3599")],
        ended,
    )
    .await;
    let client = server.client(secret());
    let mut walk = client.walk(query(), &fingerprinter());
    let walking = tokio::spawn(async move { row(&mut walk).await });
    server.until(TOKEN_PATH, 2).await;
    while client.token_expiry().is_none() {
        tokio::task::yield_now().await;
    }
    pass(Duration::from_secs(3_001)).await;
    assert_eq!(walking.await.unwrap(), "{}");
    assert_eq!(
        (server.count("Bearer token3"), server.count("Bearer token4")),
        (0, 1)
    );
}

#[tokio::test]
async fn the_reason_of_a_401_is_shown() {
    let refusal = |_: &str| {
        let headers = "x-ms-diagnostics: 2000003;reason=\"The audience claim value is invalid\";error_category=\"invalid_resource\"\r\n\
            www-authenticate: Bearer error=\"invalid_token\", error_description=\"for another\"\r\n";
        answer(401, headers, "<title>401 - Unauthorized</title>")
    };
    let server = server(vec![token(2, "3599")], refusal).await;
    let error = error(&mut server.client(secret()).walk(query(), &fingerprinter())).await;
    assert_eq!(error.kind(), Kind::Unauthorized);
    let text = error.to_string();
    for part in [
        "401 - Unauthorized",
        "x-ms-diagnostics: 2000003",
        "audience claim",
        "www-authenticate: invalid_token: for another",
    ] {
        assert!(text.contains(part), "{text}");
    }
    let action = error.action().unwrap();
    assert!(action.contains("`authority_url`"), "{action}");
}

#[tokio::test]
async fn requests_ask_for_what_is_true_now() {
    let server = server(vec![token(2, "3599")], rows).await;
    row(&mut server.client(secret()).walk(query(), &fingerprinter())).await;
    assert_eq!(server.count("\r\ncache-control: no-cache\r\n"), 2);
}

#[tokio::test]
async fn only_a_token_tells_the_directorys_clock() {
    let refused = answer(400, "", r#"{"error":"temporarily_unavailable"}"#);
    let page = answer(200, "", "<html>");
    let odd = answer(203, "", r#"{"access_token":"token2"}"#);
    let server = server(vec![refused, page, odd, token(3, "3599")], |_| {
        answer(401, "", "")
    })
    .await;
    let client = server.client(secret());
    for _ in 0..2 {
        error(&mut client.walk(query(), &fingerprinter())).await;
        assert_eq!(client.directory_time(), None);
        pass(Duration::from_mins(1)).await;
    }
    // One token is rejected, the next one is asked for with status 200.
    error(&mut client.walk(query(), &fingerprinter())).await;
    let begun: DateTime<Utc> = "2024-05-07T15:35:24Z".parse().unwrap();
    let told = client.directory_time().unwrap() - begun;
    assert!((0..60).contains(&told.num_seconds()), "{told}");
    assert_eq!(server.count(TOKEN_PATH), 4);
    assert_eq!(server.client(basic()).directory_time(), None);
}
