//! Message traces of Microsoft Graph where one instant has more rows than a page: nothing is lost at a page's end, nor by a link that fails, or an
//! entry says so.

use chrono::{DateTime, TimeDelta, Utc};
use testkit::records::compare;
use testkit::report::Report;
use testkit::service::{DeadLink, Fault, Mail, Target, Ties, When};

use crate::graph::{collect, configure};
use crate::setting::{Setting, log};

const TRACE: Report = Report::MessageTrace;

/// Five hours with a few rows, and an instant among them.
async fn setting() -> (Setting, DateTime<Utc>, DateTime<Utc>, DateTime<Utc>) {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(30), setting.ago(25));
    setting.rows(TRACE, from, to, 500);
    let at = setting.ago(28) + TimeDelta::milliseconds(1_234);
    (setting, from, to, at)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_messages_to_one_recipient_on_both_sides_of_a_pages_end_both_arrive() {
    for ties in [Ties::Lost, Ties::Twice] {
        let (setting, from, to, at) = setting().await;
        setting.service.adjust(|options| {
            options.graph.page_rows = 99;
            options.graph.ties = ties;
        });
        // Each pair is equal in time and recipient, and each second page ends within one. An address may have any of these letters.
        let recipients: Vec<_> = (0..150)
            .map(|nth| format!("o'neil{nth:03}+a&b#%@example.com"))
            .collect();
        for number in 1..=2 {
            setting
                .service
                .deliver(&Mail::new(at, number).to(&recipients));
        }
        configure(&setting, from, "graph");
        collect(&setting, from, to).await;
        assert_eq!(setting.entries(TRACE, "capped"), []);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_links_of_pages_of_one_size_fail_others_lose_nothing() {
    let (setting, from, to, at) = setting().await;
    // No message has so many recipients that it is asked for by its id.
    for number in 0..24 {
        let status = if number % 2 == 0 {
            "Delivered"
        } else {
            "Recalled"
        };
        let mail = Mail::new(at, number).to_many(500).status(status);
        setting.service.deliver(&mail);
    }
    setting
        .service
        .adjust(|options| options.graph.finds_unknown_statuses = false);
    let dead = Fault::DeadLinkOf { size: 5_000 };
    setting.service.fault(Target::Graph, When::Every(1), dead);
    configure(&setting, from, "graph");
    let mut collector = setting.start();
    setting.stop_at(&mut collector, to).await;
    assert_eq!(setting.relay.count(), 500 + 12_000, "{}", log(&collector));
    assert_eq!(setting.entries(TRACE, "capped"), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_of_an_unknown_status_behind_dead_links_leaves_an_entry_and_an_error() {
    let (setting, from, to, at) = setting().await;
    setting.service.adjust(|options| {
        options.graph.page_rows = 300;
        options.graph.finds_unknown_statuses = false;
    });
    for (number, status) in [(1, "Delivered"), (2, "Failed")] {
        let mail = Mail::new(at, number).to_many(200).status(status);
        setting.service.deliver(&mail);
    }
    let behind = Mail::new(at, 3).to(["zoe@example.com"]).status("Recalled");
    setting.service.deliver(&behind);
    let dead = Fault::DeadLink(DeadLink::Quoted);
    setting.service.fault(Target::Graph, When::Every(1), dead);
    configure(&setting, from, "graph");
    let mut collector = setting.start();
    setting.stop_at(&mut collector, to).await;
    let expected = setting.service.existing_messages(from, to);
    let verdict = compare(&expected, &setting.relay.records().by_message());
    assert!(
        verdict.missing == 1 && verdict.twice == 0 && verdict.unknown == 0,
        "{verdict}\n{}",
        log(&collector)
    );
    let capped = setting.entries(TRACE, "capped");
    assert!(
        matches!(capped[..], [(start, end)] if start <= at && at < end && end - start <= TimeDelta::seconds(1)),
        "{capped:?}"
    );
    let told = collector.log_with("its links failed again and again");
    assert_eq!(told.len(), 1, "{}", log(&collector));
    assert!(told[0].contains("ERROR"), "{told:?}");
}
