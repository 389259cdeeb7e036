//! Answers whose HTTP is not as usual: content codings and header lines.

use super::*;

/// The first row that comes by an answer.
async fn fetched(answer: Vec<u8>) -> Result<String, FetchError> {
    let server = Server::start(move |_, _| answer.clone()).await;
    let mut walk = server.client(basic()).walk(query(), &fingerprinter());
    let page = walk.next().await?.expect("a page");
    Ok(String::from_utf8(page.row(0).to_vec()).unwrap())
}

const BODY: &str = r#"{"value":[{"Index":0}]}"#;

#[tokio::test]
async fn content_codings_are_read_whatever_their_case_and_number() {
    let zipped = gzip(BODY.as_bytes());
    let members = [gzip(&BODY.as_bytes()[..9]), gzip(&BODY.as_bytes()[9..])].concat();
    for (headers, body) in [
        ("content-encoding: GZIP\r\n", zipped.clone()),
        ("Content-Encoding: x-gzip\r\n", zipped.clone()),
        ("content-encoding: X-GZip , identity\r\n", zipped.clone()),
        ("content-encoding: identity\r\n", BODY.into()),
        ("content-encoding:\r\n", BODY.into()),
        ("content-encoding: gzip\r\n", members),
        (
            "content-encoding: gzip\r\ncontent-encoding: Gzip\r\n",
            gzip(&zipped),
        ),
        (
            "content-encoding: gzip\r\n",
            [zipped, vec![0; 100]].concat(),
        ),
    ] {
        let row = fetched(answer(200, headers, body)).await;
        assert_eq!(row.expect(headers), r#"{"Index":0}"#, "{headers}");
    }
}

#[tokio::test]
async fn a_content_coding_that_is_not_understood_is_named() {
    for coding in ["br", "zstd", "gzip, compress"] {
        let headers = format!("content-encoding: {coding}\r\n");
        let error = fetched(answer(200, &headers, BODY)).await.unwrap_err();
        let named = coding.rsplit(' ').next().unwrap();
        assert_eq!(
            error.to_string(),
            format!("the answer's content coding `{named}` is not understood")
        );
        assert_eq!(
            (error.kind(), error.request_id()),
            (Kind::NotAPage, Some("id-200"))
        );
        assert!(
            error
                .action()
                .unwrap()
                .starts_with("only gzip is asked for")
        );
    }
}

#[tokio::test]
async fn the_message_of_a_compressed_refusal_is_shown() {
    let message = r#"{"error":{"code":"","message":{"lang":"en-US","value":"No."}}}"#;
    let whole = gzip(message.as_bytes());
    let bomb = gzip(&[&b"<title>Bomb</title>"[..], &vec![b' '; 10_000_000]].concat());
    for (headers, body, expected) in [
        ("content-encoding: Gzip\r\n", &whole[..], ": No."),
        ("content-encoding: br\r\n", &whole, ""),
        ("content-encoding: gzip\r\n", &whole[..10], ""),
        ("content-encoding: gzip\r\n", &bomb, ": Bomb"),
        ("", message.as_bytes(), ": No."),
    ] {
        let error = fetched(answer(403, headers, body)).await.unwrap_err();
        let shown = format!("the service answered 403 Forbidden{expected}");
        assert_eq!(error.to_string(), shown, "{headers}");
    }
}

#[tokio::test]
async fn malformed_header_lines_do_not_end_an_answer_that_is_whole() {
    let many = "x-one-of-many: y\r\n".repeat(300);
    for headers in [
        "no colon at all\r\n",
        "a name with spaces: x\r\n",
        "x-spaced : y\r\n",
        ": no name\r\n",
        "x-[brackets]: y\r\n",
        "x-\u{e9}: y\r\n",
        "x-value: \u{e9} \u{1f4c5}\r\n",
        "x-control: a\u{1}b\u{7f}\r\n",
        "x-folded: a\r\n  b\r\n",
        "x-folded:\r\n\tb\r\n",
        "x-tabs:\t\ta\t\r\n",
        "x-empty:\r\n",
        "x-lf: a\n",
        "date: yesterday\r\n",
        &many,
    ] {
        let row = fetched(answer(200, headers, BODY)).await;
        assert!(row.is_ok(), "{headers:?}: {row:?}");
    }
}
