//! Quiet runs: every record arrives once, in format, and a restart goes on where the last run was.

use std::time::Duration;

use chrono::{DurationRound, TimeDelta};
use testkit::report::Report;

use crate::setting::{Setting, stop};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_days_of_all_eight_reports_arrive_once_and_a_restart_repeats_nothing() {
    let setting = Setting::new().await;
    let from = setting.ago(72).duration_trunc(TimeDelta::days(1)).unwrap();
    for report in Report::ALL {
        setting.rows(report, from, setting.now, 9_000);
    }
    setting.configure(
        setting
            .input()
            .all_services_from(from, &[("override_time_delay_in_seconds", "1")]),
    );

    let mut collector = setting.start();
    let today = setting.now.duration_trunc(TimeDelta::days(1)).unwrap();
    let hour = setting.now.duration_trunc(TimeDelta::hours(1)).unwrap();
    setting
        .until_committed(&collector, &Report::ALL, today)
        .await;
    setting
        .until_committed(
            &collector,
            &[
                Report::DlpDetail,
                Report::MailDetailAtp,
                Report::MailTraffic,
                Report::MailTrafficAtp,
            ],
            hour,
        )
        .await;
    setting
        .until_committed(&collector, &[Report::MessageTrace], setting.now)
        .await;
    stop(&mut collector).await;
    let served = setting.service.served();
    setting.expect_exactly(&served, &collector);
    for report in Report::ALL {
        let expected = setting.existing(report, from, today);
        let read = setting.relay.records().only(report);
        assert!(
            read.total() >= expected.total() && expected.total() > 5_000,
            "{report}"
        );
    }

    let cursors = Report::ALL.map(|report| setting.cursor(report).unwrap());
    let mut collector = setting.start();
    collector
        .wait_for("collecting", Duration::from_secs(10))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    stop(&mut collector).await;
    setting.expect_exactly(&served, &collector);
    for (report, before) in Report::ALL.into_iter().zip(cursors) {
        assert!(
            setting.cursor(report).unwrap() >= before,
            "{report}: the cursor has moved back"
        );
    }
}
