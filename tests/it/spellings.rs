//! Two builds of the service behind one address, which spell the same rows in two ways: every record is delivered once.

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use testkit::report::Report;
use testkit::service::{Fault, Options, Row, Shape, Spelling, When};

use crate::figures::compared;
use crate::setting::{Setting, log, stop};

/// Rows of the bucket that has several pages.
const ROWS: u32 = 847;

/// Which answers come from the other build.
const BY_CHANCE: When = When::Random {
    probability: 0.5,
    seed: 11,
};

/// A bucket of several pages, and message traces of 20 hours, one of them at each full hour: it comes in two windows.
async fn check_answers(when: When, fault: Fault) {
    let options = Options {
        page_rows: 200,
        ..Options::default()
    };
    let setting = Setting::with(options, |_| {}).await;
    let hour = |hours| {
        let instant = setting.ago(hours);
        instant.duration_trunc(TimeDelta::hours(1)).unwrap()
    };
    let (from, middle, to) = (hour(48), hour(47), hour(28));
    setting.rows(Report::DlpDetail, from, middle, ROWS);
    insert_traces(&setting, from, to);
    for report in [Report::MessageTrace, Report::DlpDetail] {
        setting.service.fault(report, when, fault.clone());
    }
    let input = setting
        .input()
        .service_from(Report::MessageTrace, from, &[])
        .service_from(Report::DlpDetail, from, &[]);
    setting.configure(input);
    let mut collector = setting.start();
    setting
        .until_committed(&collector, &[Report::MessageTrace], to)
        .await;
    setting
        .until_committed(&collector, &[Report::DlpDetail], middle)
        .await;
    stop(&mut collector).await;
    assert_eq!(setting.relay.violations(), Vec::<String>::new());
    let mut expected = setting.existing(Report::MessageTrace, from, to);
    expected.extend(&setting.existing(Report::DlpDetail, from, middle));
    let verdict = compared(&expected.by_value(), &setting.relay.records().by_value(), 0);
    assert!(
        verdict.is_exact(),
        "{fault:?}: {verdict}\n{}",
        log(&collector)
    );
}

/// Traces whose times have no more decimals than both shapes of an answer tell.
fn insert_traces(setting: &Setting, from: DateTime<Utc>, to: DateTime<Utc>) {
    let mut time = from;
    let mut number = 0;
    while time < to {
        let decimals = ["", ".5", ".250", ".125"][number % 4];
        let received = time.format("%Y-%m-%dT%H:%M:%S");
        let null = ["null", r#""2001:db8::1""#][number % 2];
        let text = format!(
            r#"{{"Organization":"müller.example","MessageId":"<{number}@a/b>","Received":"{received}{decimals}","SenderAddress":"a@b.example","RecipientAddress":"c@d.example","Subject":"caf\u00e9 – \ud83d\ude00 \/ 会議","Status":"Delivered","ToIP":{null},"FromIP":"192.0.2.1","Size":{},"MessageTraceId":"{number:08x}"}}"#,
            number * 10,
        );
        let shift = time + TimeDelta::milliseconds([0, 500, 250, 125][number % 4]);
        setting
            .service
            .insert(Report::MessageTrace, Row::new(shift, text));
        number += 1;
        time += TimeDelta::minutes(15);
    }
}

async fn check(spelling: Spelling) {
    check_answers(BY_CHANCE, Fault::Respelled(spelling)).await;
}

macro_rules! spellings {
    ($($name:ident: $spelling:ident;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            check(Spelling::$spelling).await;
        }
    )*};
}

spellings! {
    rows_with_characters_escaped_are_the_same: Escaped;
    rows_with_characters_escaped_in_capitals_are_the_same: EscapedInCapitals;
    rows_without_needless_escapes_are_the_same: Plain;
    rows_with_slashes_escaped_are_the_same: Slashes;
    rows_with_escapes_in_names_are_the_same: Names;
    rows_with_members_in_another_order_are_the_same: Reordered;
    rows_with_white_space_are_the_same: Spaced;
    rows_whose_numbers_have_decimals_are_the_same: Decimals;
    rows_whose_numbers_have_exponents_are_the_same: Exponents;
    rows_whose_times_have_seven_decimals_are_the_same: LongTimes;
    rows_whose_times_have_no_zeros_at_the_end_are_the_same: ShortTimes;
    rows_whose_times_have_z_are_the_same: ZuluTimes;
    rows_without_members_that_are_null_are_the_same: NullsAbsent;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_in_all_spellings_by_turns_are_the_same() {
    let faults = Spelling::ALL.map(Fault::Respelled).to_vec();
    check_answers(When::Always, Fault::Cycle(faults)).await;
}

/// The details have seven decimals, of which the verbose shape tells three: only the traces are compared.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_in_both_shapes_by_turns_are_the_same() {
    let setting = Setting::with(
        Options {
            page_rows: 20,
            ..Options::default()
        },
        |_| {},
    )
    .await;
    let (from, to) = (setting.ago(48), setting.ago(28));
    insert_traces(&setting, from, to);
    let verbose = Fault::Shaped(Shape::Verbose);
    setting
        .service
        .fault(Report::MessageTrace, When::Every(2), verbose);
    setting.configure_one(Report::MessageTrace, from, &[]);
    let mut collector = setting.start();
    setting.stop_at(&mut collector, to).await;
    let expected = setting.existing(Report::MessageTrace, from, to);
    let verdict = compared(&expected.by_value(), &setting.relay.records().by_value(), 0);
    assert!(verdict.is_exact(), "{verdict}\n{}", log(&collector));
}

/// Values that differ, however little, are different records.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_only_look_alike_are_all_delivered() {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(30), setting.ago(29));
    let time = from + TimeDelta::minutes(10);
    let second = time.format("%Y-%m-%dT%H:%M:%S");
    let row = |subject: &str, size: &str, decimals: &str| {
        format!(r#"{{"Received":"{second}{decimals}","Subject":{subject},"Size":{size}}}"#)
    };
    let rows = [
        row(r#""é""#, "1", ""),
        row(r#""e\u0301""#, "1", ""),
        row(r#""É""#, "1", ""),
        row(r#""\\u00e9""#, "1", ""),
        row(r#""é ""#, "1", ""),
        row(r#""""#, "1", ""),
        row("null", "1", ""),
        row(r#""null""#, "1", ""),
        row(r#""é""#, r#""1""#, ""),
        row(r#""é""#, "10", ""),
        row(r#""é""#, "1.0000000000000000000001", ""),
        row(r#""é""#, "-1", ""),
        row(r#""é""#, "123456789012345678901234567890", ""),
        row(r#""é""#, "123456789012345678901234567891", ""),
        row(r#""é""#, "true", ""),
        row(r#""é""#, "1", ".0000001"),
        row(r#""2024-01-02T03:04:05""#, "1", ""),
        row(r#""2024-01-02T03:04:05.0""#, "1", ""),
    ];
    for row in &rows {
        setting
            .service
            .insert(Report::MessageTrace, Row::new(time, row));
    }
    setting.configure_one(Report::MessageTrace, from, &[]);
    let mut collector = setting.start();
    setting.finish(&mut collector, from, to).await;
    assert_eq!(setting.relay.count(), rows.len() as u64);
}
