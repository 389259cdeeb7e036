//! The forms in which the service answers and the ways in which the collector is set up, each end to end.

use chrono::{DurationRound, TimeDelta};
use testkit::collector::{Config, Output};
use testkit::report::{Aggregate, Report};
use testkit::service::{Backlog, LinkForm, Options, Shape};

use crate::setting::{Setting, printed_records, stop};

const ROWS: u32 = 4_500;

/// Collects two hours of message traces, three pages, from a service that answers as told.
async fn collect(options: Options) -> Setting {
    let setting = Setting::with(options, |_| {}).await;
    let (from, to) = (setting.ago(28), setting.ago(25));
    setting.rows(Report::MessageTrace, from, to, ROWS);
    let mut input = setting.input();
    if let Some(identity) = setting.service.options().https {
        std::fs::write(setting.folder.certs().join("ca.crt"), identity.certificate).unwrap();
        input = input.option("ca_bundle", "ca.crt");
    }
    setting.configure(
        input
            .service_from(Report::MessageTrace, from, &[])
            .option("environment", "staging"),
    );
    let mut collector = setting.start();
    setting.stop_at(&mut collector, to).await;
    // In the verbose shape the service cuts its dates to milliseconds: what it served is what counts.
    let served = setting.service.served();
    assert_eq!(served.total(), u64::from(ROWS));
    setting.expect_exactly(&served, &collector);
    for line in setting.relay.lines() {
        assert!(
            line.contains(r#","@devo_environment": "staging","@devo_pulling_id": ""#),
            "{line}"
        );
    }
    setting
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_shapes_and_all_forms_of_link_bring_the_same_records() {
    for shape in [Shape::Light, Shape::Verbose] {
        for link in [LinkForm::Relative, LinkForm::Absolute, LinkForm::Bare] {
            collect(Options {
                shape,
                link,
                ..Options::default()
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn https_with_an_authority_of_ones_own_and_no_compression() {
    let authority = testkit::pki::Authority::new("Authority of the service").unwrap();
    let mut identity = authority
        .issue(&testkit::pki::Wish::server_for(&["127.0.0.1"]))
        .unwrap();
    identity.certificate += authority.certificate();
    collect(Options {
        https: Some(identity),
        gzip: false,
        ..Options::default()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traffic_is_collected_by_the_day_where_that_is_asked_for() {
    let setting = Setting::new().await;
    let today = setting.now.duration_trunc(TimeDelta::days(1)).unwrap();
    let (from, to) = (today - TimeDelta::days(6), today - TimeDelta::days(2));
    let mut backlog = Backlog::new(Report::MailTraffic, from, to, 3_000);
    backlog.aggregate = Aggregate::Day;
    setting.service.generate(&backlog);
    setting.configure_one(Report::MailTraffic, from, &[("aggregate_by", "day")]);
    let mut collector = setting.start();
    setting
        .until_committed(&collector, &[Report::MailTraffic], to)
        .await;
    stop(&mut collector).await;
    let expected = setting
        .service
        .existing(Report::MailTraffic, Aggregate::Day, from, to);
    assert_eq!(expected.total(), 3_000);
    setting.expect_exactly(&expected, &collector);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_threads_and_the_console_deliver_the_same() {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(28), setting.ago(25));
    setting.rows(Report::MessageTrace, from, to, ROWS);
    let relay = Output::relay(setting.relay.port());
    let config = Config::new(
        setting
            .input()
            .service_from(Report::MessageTrace, from, &[]),
        relay,
    );
    let yaml = config.output(Output::console()).yaml();
    let yaml = yaml.replacen("globals:\n", "globals:\n  multiprocessing: true\n", 1);
    setting.folder.configure_raw(&yaml).unwrap();
    let mut collector = setting.start();
    setting.stop_at(&mut collector, to).await;
    let expected = setting.existing(Report::MessageTrace, from, to);
    setting.expect_exactly(&expected, &collector);
    let mut printed = testkit::records::Records::default();
    for line in printed_records(&collector) {
        let object: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(object["message_tag"], Report::MessageTrace.tag());
        assert!(object["message_timestamp"].is_string(), "{line}");
        assert!(object["message_content"].is_object(), "{line}");
        let (_, content) = line.split_once("\"message_content\": ").unwrap();
        let identity = testkit::records::Identity::of(&content[..content.len() - 1]).unwrap();
        printed.add(Report::MessageTrace, identity, None);
    }
    let verdict = testkit::records::compare(&expected, &printed);
    assert!(verdict.is_exact(), "{verdict}");
}
