//! One row that JSON or UTF-8 does not allow: it holds back no other, and where it can be read at all it goes out readably.

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use testkit::records::{Records, compare};
use testkit::report::Report;
use testkit::service::{Options, Row, Shape};

use crate::figures::compared;
use crate::setting::{PATIENCE, Setting, log};

/// The other rows of its page.
const ROWS: u32 = 832;

/// An hour of message traces with one row that is odd in its middle.
async fn setting_with(row: &[u8], shape: Shape) -> (Setting, Records) {
    let options = Options {
        shape,
        ..Options::default()
    };
    let setting = Setting::with(options, |_| {}).await;
    let (from, to) = (setting.ago(28), setting.ago(27));
    setting.rows(Report::MessageTrace, from, to, ROWS);
    let others = setting.existing(Report::MessageTrace, from, to);
    let middle = from + TimeDelta::minutes(30);
    setting
        .service
        .insert(Report::MessageTrace, Row::raw(middle, row));
    setting.configure_one(Report::MessageTrace, from, &[]);
    (setting, others)
}

/// What the relay has read of the odd row, in format or not.
fn lines_of_odd_row(setting: &Setting) -> Vec<String> {
    let mut lines = setting.relay.lines();
    lines.extend(setting.relay.violations());
    lines.retain(|line| line.contains(r#""MessageId":"odd""#));
    lines
}

/// The odd row goes out once, with `expected` in its line, and so do all others.
async fn check_in(shape: Shape, row: &[u8], expected: &str) {
    let (setting, others) = setting_with(row, shape).await;
    let mut collector = setting.start();
    setting.stop_at(&mut collector, setting.ago(27)).await;
    let others = match shape {
        // Its dates are cut to milliseconds.
        Shape::Verbose => setting.service.served(),
        Shape::AsAsked | Shape::Light => others,
    };
    let verdict = compared(&others, &setting.relay.records(), 0);
    assert!(
        verdict.missing == 0 && verdict.twice == 0 && verdict.unknown <= 1,
        "{expected}: {verdict}\n{}",
        log(&collector)
    );
    let lines = lines_of_odd_row(&setting);
    assert!(
        lines.len() == 1 && lines[0].contains(expected),
        "{expected}: {lines:?}\n{}",
        log(&collector)
    );
    assert_eq!(setting.relay.count(), u64::from(ROWS) + 1);
}

async fn check(row: &[u8], expected: &str) {
    check_in(Shape::AsAsked, row, expected).await;
}

/// Whichever way a character is written, it is the same one.
async fn check_subject(row: &[u8], subject: &str) {
    let (setting, others) = setting_with(row, Shape::AsAsked).await;
    let mut collector = setting.start();
    setting.stop_at(&mut collector, setting.ago(27)).await;
    let verdict = compared(&others, &setting.relay.records(), 0);
    assert!(
        verdict.missing == 0 && verdict.twice == 0 && verdict.unknown <= 1,
        "{verdict}\n{}",
        log(&collector)
    );
    assert_eq!(setting.relay.violations(), Vec::<String>::new());
    let lines = lines_of_odd_row(&setting);
    assert_eq!(lines.len(), 1, "{lines:?}\n{}", log(&collector));
    let (_, object) = lines[0].split_once(": {").unwrap();
    let object: serde_json::Value = serde_json::from_str(&format!("{{{object}")).unwrap();
    assert_eq!(object["Subject"], subject, "{}", lines[0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_no_utf8_go_out_as_replacement_characters() {
    check(
        b"{\"MessageId\":\"odd\",\"Subject\":\"caf\xe9!\"}",
        "\"Subject\":\"caf\u{fffd}!\"",
    )
    .await;
}

/// One for each part that cannot begin a character, as Python's decoder has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_part_that_is_no_utf8_is_one_replacement_character() {
    for (bytes, text) in [
        (&b"a\xe2\x82b"[..], "a\u{fffd}b"),
        (&b"\xed\xa0\x80"[..], "\u{fffd}\u{fffd}\u{fffd}"),
        (&b"\xc0\xaf"[..], "\u{fffd}\u{fffd}"),
        (&b"\xf0\x9f\x98"[..], "\u{fffd}"),
        (&b"\xff\xfe"[..], "\u{fffd}\u{fffd}"),
        (&b"\xf4\x90\x80\x80"[..], "\u{fffd}\u{fffd}\u{fffd}\u{fffd}"),
    ] {
        let row = [b"{\"MessageId\":\"odd\",\"Subject\":\"", bytes, b"\"}"].concat();
        check(&row, &format!("\"Subject\":\"{text}\"")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_no_utf8_in_a_name_hold_back_nothing() {
    check(
        b"{\"MessageId\":\"odd\",\"caf\xe9\":1}",
        "\"caf\u{fffd}\":1",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_no_utf8_in_the_verbose_shape_hold_back_nothing() {
    check_in(
        Shape::Verbose,
        b"{\"MessageId\":\"odd\",\"Subject\":\"caf\xe9!\"}",
        "\"Subject\":\"caf\u{fffd}!\"",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raw_control_characters_go_out_escaped() {
    for subject in [
        "a\u{1}b",
        "a\nb",
        "a\tb",
        "a\rb",
        "a\u{0}b",
        "a\u{1f}\u{8}b",
    ] {
        let row = format!("{{\"MessageId\":\"odd\",\"Subject\":\"{subject}\"}}");
        check_subject(row.as_bytes(), subject).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_surrogate_goes_out_as_it_came() {
    for surrogate in [r"\ud800", r"\udc00\ud800", r"\uD800\u0041"] {
        let row = format!(r#"{{"MessageId":"odd","Subject":"{surrogate}"}}"#);
        check(row.as_bytes(), surrogate).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_that_only_python_knows_go_out_as_they_came() {
    for number in ["NaN", "Infinity", "-Infinity"] {
        let row = format!(r#"{{"MessageId":"odd","Size":{number}}}"#);
        check(row.as_bytes(), number).await;
    }
}

/// What cannot be delivered as a record, and yet tells where it ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_is_no_object_holds_back_no_other() {
    for row in ["17", "null", "\"text\"", "[1,{\"a\":2}]", "true", "[]"] {
        let (setting, others) = setting_with(row.as_bytes(), Shape::AsAsked).await;
        let collector = setting.start();
        setting.until_read(&others, &collector).await;
        // The odd row goes out as the value of a record of its own.
        let verdict = compared(&others, &setting.relay.records(), 0);
        let whole = (verdict.missing, verdict.twice) == (0, 0) && verdict.unknown <= 1;
        assert!(whole, "{row}: {verdict}\n{}", log(&collector));
    }
}

/// Of a row that does not end nobody can tell where the next one begins: the window shrinks around its second, and what lies
/// before it is delivered. The cursor waits there for longer than a test does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_cut_in_the_middle_holds_back_nothing_before_it() {
    for row in [
        "{\"MessageId\":\"odd\",\"Subj",
        "{\"MessageId\":\"odd\",\"Subject\":\"no end}",
        "{\"MessageId\":\"odd\",\"Subject\":}",
        "{\"MessageId\":\"odd\" \"Size\":1}",
        "{\"MessageId\":odd}",
        "",
    ] {
        let (setting, others) = setting_with(row.as_bytes(), Shape::AsAsked).await;
        let (from, middle) = (setting.ago(28), setting.ago(28) + TimeDelta::minutes(30));
        let before = setting.existing(Report::MessageTrace, from, middle);
        let collector = setting.start();
        let begun = Instant::now();
        while compare(&before, &setting.relay.records()).missing > 0 {
            assert!(
                begun.elapsed() < PATIENCE,
                "{row}: {} of {}\n{}",
                setting.relay.count(),
                before.total(),
                log(&collector)
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // Some of these rows can be told from the others after all: then all of them are there before the cursor passes.
        let cursor = setting.cursor(Report::MessageTrace);
        let missing = compare(&others, &setting.relay.records()).missing;
        assert!(
            missing == 0 || cursor.is_none_or(|cursor| cursor <= middle),
            "{row}: {missing} missing, {cursor:?}"
        );
        let verdict = compared(&before, &setting.relay.records(), 0);
        assert_eq!(verdict.twice, 0, "{row}: {verdict}\n{}", log(&collector));
    }
}
