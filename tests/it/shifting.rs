//! Rows that come and go between two pages of a bucket that cannot be shorter, long after it has settled: what they shift is delivered.

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use testkit::report::{Report, Resolution};
use testkit::service::{Fault, Options, When};

use crate::setting::{Setting, stop};

/// Rows of the bucket, and of each of its pages.
const ROWS: u32 = 900;
const PAGE_ROWS: usize = 200;

/// The shortest bucket of a report, more than a day old.
fn bucket(setting: &Setting, report: Report) -> (DateTime<Utc>, DateTime<Utc>) {
    let (unit, age) = match report.resolution(None) {
        Resolution::Instant => (TimeDelta::seconds(1), 40),
        Resolution::Hour => (TimeDelta::hours(1), 40),
        Resolution::Day => (TimeDelta::days(1), 80),
    };
    let from = setting.ago(age).duration_trunc(unit).unwrap();
    (from, from + unit)
}

/// Collects one bucket of a report while rows come and go behind pages of its walks.
async fn check(report: Report, faults: &[(u64, Fault)]) {
    let options = Options {
        page_rows: PAGE_ROWS,
        ..Options::default()
    };
    let setting = Setting::with(options, |_| {}).await;
    let (from, to) = bucket(&setting, report);
    setting.rows(report, from, to, ROWS);
    for (page, fault) in faults {
        let when = When::Page {
            page: *page,
            times: 1,
        };
        setting.service.fault(report, when, fault.clone());
    }
    setting.configure_one(report, from, &[]);
    let mut collector = setting.start();
    setting.until_committed(&collector, &[report], to).await;
    stop(&mut collector).await;
    let hit = |request: &testkit::service::Request| request.fault.is_some();
    let requests = setting.service.requests_for(report);
    assert!(
        requests.iter().any(hit),
        "{report} was not hit: {requests:?}"
    );
    // A row that has gone may have been delivered before, and is none of what there is.
    let gone = faults
        .iter()
        .filter(|(_, fault)| matches!(fault, Fault::VanishingRow { .. }));
    let gone = gone.count() as u64;
    let expected = setting.existing(report, from, to);
    setting.expect_once(&expected, gone, &collector);
}

const fn gone(position: u64) -> Fault {
    Fault::VanishingRow { position }
}

const fn late(position: u64) -> Fault {
    Fault::LateRow { position }
}

/// The reports by the instant, the hour and the day.
const REPORTS: [Report; 6] = [
    Report::MessageTrace,
    Report::DlpDetail,
    Report::MailDetailAtp,
    Report::MailTraffic,
    Report::SafelinksDetail,
    Report::SpoofMail,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_of_an_old_bucket_that_vanishes_hides_no_other() {
    for report in REPORTS {
        check(report, &[(2, gone(10))]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_of_an_old_bucket_that_appears_is_collected_and_brings_none_twice() {
    for report in REPORTS {
        check(report, &[(2, late(10))]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_vanishes_behind_any_page_hides_no_other() {
    for (page, position) in [(1, 0), (1, 199), (3, 599), (4, 0), (4, 799)] {
        check(Report::DlpDetail, &[(page, gone(position))]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_row_that_comes_for_one_that_goes_hides_no_other() {
    check(Report::DlpDetail, &[(2, gone(10)), (3, late(700))]).await;
    check(Report::MailDetailAtp, &[(2, late(10)), (3, gone(20))]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_rows_that_vanish_in_two_walks_hide_no_other() {
    // The rule for the third page waits for the second walk where the first one has used up the other.
    let faults = [(3, gone(5)), (3, gone(405)), (1, gone(1))];
    check(Report::SafelinksDetail, &faults).await;
    check(Report::DlpDetail, &faults).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_rows_as_a_page_has_may_vanish_at_once() {
    // Each answer of the first walk loses some: all of its pages are moved.
    let faults: Vec<_> = (0..20).map(|_| (2, gone(0))).collect();
    check(Report::DlpDetail, &faults[..1]).await;
    check(Report::DlpDetail, &faults[..3]).await;
}
