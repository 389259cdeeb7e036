//! Rows as they come: odd ones go out byte for byte, equal ones are as many records, late and vanishing ones lose nothing.

use chrono::TimeDelta;
use testkit::report::Report;
use testkit::service::{Fault, Options, Row, Shape, When};

use crate::figures::Figures;
use crate::setting::{Setting, log, stop};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_rows_go_out_byte_for_byte() {
    odd_rows(Shape::Light).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_rows_of_the_verbose_shape_go_out_byte_for_byte() {
    odd_rows(Shape::Verbose).await;
}

async fn odd_rows(shape: Shape) {
    let options = Options {
        shape,
        ..Options::default()
    };
    let setting = Setting::with(options, |_| {}).await;
    let (from, to) = (setting.ago(28), setting.ago(27));
    let long = "x".repeat(1 << 20);
    let rows = [
        r#"{"MessageId":"1","Subject":"\ud800 alone, \u0000 nul, \u2028 escaped"}"#.to_owned(),
        "{\"MessageId\":\"2\",\"Subject\":\"a raw \u{2028} and \u{2029}, \u{7f} and 📅\"}".to_owned(),
        r#"{"MessageId":"3","Size":123456789012345678901234567890,"Ratio":1.50E+400,"Neg":-0}"#.to_owned(),
        r#"{"MessageId":"4","Subject":"one","Subject":"two"}"#.to_owned(),
        r#"{"MessageId":"5","Unknown":{"Deep":[[],{},[{"a":null}]]},"Empty":"","Slash":"\/"}"#.to_owned(),
        r#"{ "MessageId" : "6" , "Spaced" : [ 1 , 2 ] }"#.to_owned(),
        r#"{"MessageId":"7","Subject":"\"}],\"odata.nextLink\":\"http:\/\/127.0.0.1:1\/\"","@devo_x":"<14>"}"#.to_owned(),
        format!(r#"{{"MessageId":"8","Subject":"{long}"}}"#),
    ];
    for (minute, row) in (0..).zip(&rows) {
        let time = from + TimeDelta::minutes(minute);
        setting
            .service
            .insert(Report::MessageTrace, Row::new(time, row).verbatim());
    }
    setting.configure_one(Report::MessageTrace, from, &[]);
    let mut collector = setting.start();
    setting.stop_at(&mut collector, to).await;
    // The relay keeps what it cannot parse, a lone surrogate for one, apart from the others.
    let (lines, odd) = (setting.relay.lines(), setting.relay.violations());
    let came = |row: &&String| {
        let body = row[..row.len() - 1].trim_end();
        let spliced = format!(": {body},\"@devo_pulling_id\": \"");
        lines.iter().chain(&odd).any(|line| line.contains(&spliced))
    };
    let lost = rows.iter().filter(|row| !came(row));
    let lost: Vec<String> = lost.map(|row| row.chars().take(200).collect()).collect();
    let (records, lines) = (rows.len() as u64, setting.relay.count());
    let figures = Figures {
        runs: 1,
        records,
        lost: lost.len() as u64,
        repeated: lines.saturating_sub(records),
        ..Figures::default()
    };
    figures.note();
    assert!(lost.is_empty(), "not as they came: {lost:?}\n{odd:?}");
    assert_eq!(lines, records, "{}", log(&collector));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_json_and_utf_8_do_not_allow_hold_up_no_other() {
    for shape in [Shape::Light, Shape::Verbose] {
        let options = Options {
            shape,
            ..Options::default()
        };
        let setting = Setting::with(options, |_| {}).await;
        let (from, to) = (setting.ago(28), setting.ago(27));
        setting.rows(Report::MessageTrace, from, to, 3_000);
        let rows: [(&[u8], &str); 5] = [
            (
                b"{\"MessageId\":\"1\",\"Subject\":\"caf\xe9\"}",
                "{\"MessageId\":\"1\",\"Subject\":\"caf\u{fffd}\"",
            ),
            (
                b"{\"MessageId\":\"2\",\"Subject\":\"\xe2\x82\"}",
                "{\"MessageId\":\"2\",\"Subject\":\"\u{fffd}\"",
            ),
            (
                b"{\"MessageId\":\"3\",\"Subject\":\"a\tb\nc\"}",
                r#"{"MessageId":"3","Subject":"a\tb\nc""#,
            ),
            (
                br#"{"MessageId":"4","Score":NaN}"#,
                r#"{"MessageId":"4","Score":NaN"#,
            ),
            (
                br#"{"MessageId":"5","Subject":"C:\Users"}"#,
                r#"{"MessageId":"5","Subject":"C:\\Users""#,
            ),
        ];
        for (minute, (row, _)) in (1..).zip(rows) {
            let time = from + TimeDelta::minutes(10 * minute);
            setting
                .service
                .insert(Report::MessageTrace, Row::raw(time, row));
        }
        setting.configure_one(Report::MessageTrace, from, &[]);
        let mut collector = setting.start();
        setting.stop_at(&mut collector, to).await;
        // The relay keeps what it cannot parse apart from the others.
        let lines = [setting.relay.lines(), setting.relay.violations()].concat();
        for (_, sent) in rows {
            let spliced = format!(": {sent},\"@devo_pulling_id\": \"");
            let found = lines.iter().filter(|line| line.contains(&spliced)).count();
            assert_eq!(found, 1, "{sent}\n{}", log(&collector));
        }
        assert_eq!(setting.relay.count(), 3_005, "{}", log(&collector));
    }
}

/// Inserts equal rows at one instant among 4,000 others, so that a page may end between them where an hour is one window.
async fn equal_rows(report: Report, before: u32, times: usize) {
    let setting = Setting::new().await;
    let (from, to) = (setting.hour_ago(27), setting.hour_ago(26));
    let middle = from + TimeDelta::minutes(30);
    // Newest first: `before` rows stand before the equal ones.
    setting.rows(report, middle + TimeDelta::minutes(1), to, before);
    setting.rows(report, from, middle, 3_000);
    for _ in 0..times {
        let row = Row::sample(report, middle + TimeDelta::seconds(30), 1);
        setting.service.insert(report, row);
    }
    setting.configure_one(report, from, &[]);
    let mut collector = setting.start();
    setting.until_committed(&collector, &[report], to).await;
    stop(&mut collector).await;
    let expected = setting.existing(report, from, to);
    assert_eq!(expected.total(), 3_000 + u64::from(before) + times as u64);
    setting.expect_exactly(&expected, &collector);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_rows_that_are_real_are_all_delivered() {
    for report in [Report::MessageTrace, Report::MailDetailAtp] {
        equal_rows(report, 500, 3).await;
        equal_rows(report, 1_999, 2).await;
        equal_rows(report, 1_998, 4).await;
    }
}

/// A young hour, and one older than a day, whose result changes while its pages are walked.
async fn shifting(faults: &[Fault]) {
    shifting_at(1, "60", faults).await;
    shifting_at(26, "90000", faults).await;
}

/// The hour that began so long ago is the last one that is due after that delay, so that faults hit no window behind it.
async fn shifting_at(age: i64, delay: &str, faults: &[Fault]) {
    let setting = Setting::new().await;
    let report = Report::MailDetailAtp;
    let (from, to) = (setting.hour_ago(age), setting.hour_ago(age - 1));
    setting.rows(report, from, to, 7_000);
    for fault in faults {
        let page = When::Page { page: 2, times: 1 };
        setting.service.fault(report, page, fault.clone());
    }
    setting.configure_one(report, from, &[("override_time_delay_in_seconds", delay)]);
    let mut collector = setting.start();
    setting.until_committed(&collector, &[report], to).await;
    stop(&mut collector).await;
    let requests = setting.service.requests_for(report);
    let hit = requests.iter().filter(|request| request.fault.is_some());
    assert_eq!(hit.count(), faults.len());
    let expected = setting.existing(report, from, to);
    // A row that has vanished may have been delivered before, and is none of what there is.
    setting.expect_once(&expected, 1, &collector);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_rows_at_any_place_of_a_window_are_collected() {
    for position in [0, 1_999, 2_000, 3_999, 4_001, 6_999] {
        shifting(&[Fault::LateRow { position }]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_vanishes_between_two_pages_hides_no_other() {
    for position in [0, 1_999, 3_999] {
        shifting(&[Fault::VanishingRow { position }]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_row_that_comes_and_one_that_goes_hide_no_other() {
    let vanishing = Fault::VanishingRow { position: 10 };
    shifting(&[vanishing, Fault::LateRow { position: 5_000 }]).await;
}
