//! Content codings as RFC 9110 has them, and heads with lines that are none: an answer that is whole is read.

use testkit::report::Report;
use testkit::service::{Fault, When};

use crate::setting::{Setting, stop};

/// Collects some hours of message traces while a fault hits; returns the log.
async fn collect(when: When, fault: Fault) -> Vec<String> {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(30), setting.ago(27));
    setting.rows(Report::MessageTrace, from, to, 1_500);
    setting
        .service
        .fault(Report::MessageTrace, when, fault.clone());
    setting.configure_one(Report::MessageTrace, from, &[]);
    let mut collector = setting.start();
    setting
        .until_committed(&collector, &[Report::MessageTrace], to)
        .await;
    stop(&mut collector).await;
    let requests = setting.service.requests_for(Report::MessageTrace);
    let hit = |request: &testkit::service::Request| request.fault.is_some();
    assert!(requests.iter().any(hit), "{fault:?} has hit nothing");
    let expected = setting.existing(Report::MessageTrace, from, to);
    setting.expect_exactly(&expected, &collector);
    collector.log()
}

fn coded(name: &str, layers: u8) -> Fault {
    let name = name.to_owned();
    Fault::Coded { name, layers }
}

/// Every answer is so, and none of them is a failure.
async fn is_read(fault: Fault) {
    let log = collect(When::Always, fault.clone()).await;
    let failed = log.iter().any(|line| line.contains(" WARN "));
    assert!(!failed, "{fault:?}\n{}", log.join("\n"));
}

macro_rules! read {
    ($($name:ident: $fault:expr;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            is_read($fault).await;
        }
    )*};
}

read! {
    gzip_in_capitals_is_read: coded("GZIP", 1);
    x_gzip_is_read: coded("x-gzip", 1);
    x_gzip_in_mixed_case_is_read: coded("X-GZip", 1);
    gzip_twice_is_read: coded("gzip, gzip", 2);
    identity_is_read: coded("identity", 0);
    identity_in_capitals_is_read: coded("IDENTITY", 0);
    gzip_and_identity_are_read: coded("identity, gzip", 1);
    gzip_among_empty_elements_is_read: coded(" , gzip ,", 1);
    an_empty_coding_is_read: coded("", 0);
}

/// The answer cannot be read, the error names its coding, and it is asked for again.
async fn is_named(coding: &str) {
    let log = collect(When::Next(1), coded(coding, 0)).await;
    // Of several the one that is not understood.
    let unknown = coding.rsplit(", ").next().unwrap();
    let named = |line: &&String| {
        let line = line.to_lowercase();
        let what = line.contains("coding") || line.contains("encoding");
        what && line.contains(&unknown.to_lowercase())
    };
    assert!(
        log.iter().any(|line| named(&line)),
        "{coding}\n{}",
        log.join("\n")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coding_that_is_not_understood_is_named() {
    for coding in ["br", "zstd", "compress", "gzip, br", "x-unheard-of"] {
        is_named(coding).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_not_coded_as_it_says_is_asked_for_again() {
    collect(When::Next(2), coded("gzip", 0)).await;
    collect(When::Next(2), coded("gzip, gzip", 1)).await;
    collect(When::Next(2), coded("identity", 1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_lines_that_are_none_do_not_end_an_answer_that_is_whole() {
    for lines in [
        "no header at all\r\n",
        "X-Spaced Name: 1\r\n",
        "X-Space-Before : 1\r\n",
        ": no name\r\n",
        "X-Control: a\u{1}b\r\n",
        "X-Folded: a\r\n b\r\n",
        "X-Ünicode: 1\r\n",
        "X-(Comment): 1\r\n",
    ] {
        is_read(Fault::HeadLines(lines.to_owned())).await;
    }
}

/// Unusual, and right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_lines_that_are_unusual_do_no_harm() {
    let many = "X-Again: and again\r\n".repeat(80);
    for lines in [
        "X-Empty:\r\n",
        "X-Latin: caf\u{e9}\r\n",
        "Date: the day after tomorrow\r\n",
        "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n",
        &many,
    ] {
        let log = collect(When::Always, Fault::HeadLines(lines.to_owned())).await;
        // Of a clock that is so far off an operator is told.
        let failed = log.iter().any(|line| line.contains("ERROR"));
        assert!(
            !failed || lines.starts_with("Date"),
            "{lines}\n{}",
            log.join("\n")
        );
    }
}
