//! The way back from Microsoft Graph: the reporting service is looked at once a day, and asked again after three days on which it had everything.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use testkit::collector::Collector;
use testkit::records::compare;
use testkit::report::Report;
use testkit::service::Retirement;

use crate::fake_clock::FakeClock;
use crate::setting::{PATIENCE, Setting, log, program, stop};

const TRACE: Report = Report::MessageTrace;
const SWITCHED: &str = "from here on they are collected from Microsoft Graph";
const RETURNED: &str = "the reporting service has all message traces again";
const SHOWS: &str = "shows all message traces of this hour";
const LACKS: &str = "still lacks message traces";
const REFUSED: &str = "still cannot be asked for message traces";

/// What is tried out while days pass in seconds, by all clocks.
struct Days {
    setting: Setting,
    clock: FakeClock,
    from: DateTime<Utc>,
    day: i64,
}

impl Days {
    /// Message traces of a week, and a collector that has gone on to Graph; none where the clock cannot be moved.
    async fn begin(retirement: Retirement) -> Option<(Self, Collector)> {
        let setting = Setting::new().await;
        let clock = FakeClock::new(&setting)?;
        let from = setting.ago(29);
        setting.rows(TRACE, from, setting.ago(-24 * 7), 4_000);
        let input = setting
            .input()
            .option("graph_url", &setting.service.graph_url());
        let input = input.option("graph_requests_per_5_minutes", "10000");
        setting.configure(input.service_from(TRACE, from, &[]));
        setting
            .service
            .adjust(|options| options.graph.budget = None);
        setting.service.retire(retirement);
        let collector = clock.start(&setting);
        collector.wait_for(SWITCHED, PATIENCE).await.unwrap();
        let days = Days {
            setting,
            clock,
            from,
            day: 0,
        };
        days.until_collected(&collector).await;
        Some((days, collector))
    }

    fn end(&self) -> DateTime<Utc> {
        self.setting.ago(25 - 24 * self.day)
    }

    async fn until_collected(&self, collector: &Collector) {
        self.setting
            .until_committed(collector, &[TRACE], self.end())
            .await;
    }

    /// A day later, until the look of that day has said `told` once more than before.
    async fn next(&mut self, collector: &Collector, told: &str) {
        let before = collector.log_with(told).len();
        self.day += 1;
        let offset = TimeDelta::days(self.day) + TimeDelta::minutes(self.day);
        self.setting.service.clock_offset(offset);
        self.clock.set(offset);
        self.until_collected(collector).await;
        let begun = std::time::Instant::now();
        while collector.log_with(told).len() == before {
            assert!(begun.elapsed() < PATIENCE, "{told}\n{}", log(collector));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Each message came once, and nothing else did.
    fn expect_each_once(&self, collector: &Collector) {
        let cursor = self.setting.cursor(TRACE).unwrap();
        let service = &self.setting.service;
        let expected = service.existing_messages(self.from, cursor);
        let verdict = compare(&expected, &self.setting.relay.records().by_message());
        assert!(
            verdict.missing == 0 && verdict.twice == 0,
            "{verdict}\n{}",
            log(collector)
        );
        assert!(expected.total() > 0);
    }

    async fn shown(&self) -> String {
        let mut command = Collector::start_with(program(), &self.setting.folder, |command| {
            command.args(["state", "show"]);
        })
        .unwrap();
        command.wait(PATIENCE).await.unwrap();
        command.output().join("\n")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_days_in_a_row_bring_the_reporting_service_back_and_repeat_nothing() {
    let Some((mut days, mut collector)) = Days::begin(Retirement::NeverHad).await else {
        return;
    };
    days.next(&collector, REFUSED).await;
    days.setting.service.retire(None);
    days.next(&collector, SHOWS).await;
    // The count outlives a restart, and an end without order.
    stop(&mut collector).await;
    let shown = days.shown().await;
    assert!(shown.contains("had everything on 1 days"), "{shown}");
    let mut collector = days.clock.start(&days.setting);
    days.next(&collector, SHOWS).await;
    collector.kill().await.unwrap();
    let shown = days.shown().await;
    assert!(shown.contains("had everything on 2 days"), "{shown}");
    let before = days.setting.service.requests_for(TRACE).len();
    let mut collector = days.clock.start(&days.setting);
    days.next(&collector, RETURNED).await;
    // A few requests for the look of a day, and no window among them.
    let looked = days.setting.service.requests_for(TRACE).len() - before;
    assert!((1..4).contains(&looked), "{looked}");
    days.day += 1;
    let offset = TimeDelta::days(days.day) + TimeDelta::minutes(days.day);
    let made = |service: &testkit::service::Service| {
        (
            service.requests_for(TRACE).len(),
            service.requests_to_graph().len(),
        )
    };
    let before = made(&days.setting.service);
    days.setting.service.clock_offset(offset);
    days.clock.set(offset);
    days.until_collected(&collector).await;
    stop(&mut collector).await;
    assert_eq!(collector.log_with(RETURNED).len(), 1, "{}", log(&collector));
    let after = made(&days.setting.service);
    let (reports, graph) = (after.0 - before.0, after.1 - before.1);
    // Graph has nothing to say but that a window is empty.
    assert!(reports >= 24 && graph <= reports / 2, "{reports}, {graph}");
    days.expect_each_once(&collector);
    let shown = days.shown().await;
    assert!(
        shown.contains("source: the reporting service, from ") && !shown.contains("had everything"),
        "{shown}"
    );
    // It is told in Devo too.
    let messages = days.setting.relay.messages();
    let is_told = messages.iter().any(|message| {
        message.level == "warning" && message.content["msg"].as_str().unwrap().contains(RETURNED)
    });
    assert!(is_told, "{}", log(&collector));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_message_that_is_missing_sets_the_count_back() {
    let Some((mut days, mut collector)) = Days::begin(Retirement::Text { status: 400 }).await
    else {
        return;
    };
    days.setting.service.retire(None);
    days.next(&collector, SHOWS).await;
    days.next(&collector, SHOWS).await;
    // One of each hour of the day that follows.
    let service = &days.setting.service;
    for hour in 0..24 {
        let start = days.end() + TimeDelta::hours(hour);
        service.clock_offset(TimeDelta::days(9));
        let rows = service.rows_between(TRACE, start, start + TimeDelta::hours(1));
        assert!(service.hide_from_reports(rows[rows.len() / 2]));
    }
    days.next(&collector, LACKS).await;
    let shown = days.shown().await;
    assert!(shown.contains("had everything on 0 days"), "{shown}");
    days.next(&collector, SHOWS).await;
    stop(&mut collector).await;
    assert_eq!(collector.log_with(RETURNED).len(), 0, "{}", log(&collector));
    days.expect_each_once(&collector);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_graph_is_asked_by_choice_nothing_is_looked_for() {
    let setting = Setting::new().await;
    let Some(clock) = FakeClock::new(&setting) else {
        return;
    };
    let from = setting.ago(29);
    setting.rows(TRACE, from, setting.ago(-24), 400);
    let input = setting
        .input()
        .option("graph_url", &setting.service.graph_url());
    setting.configure(input.service_from(TRACE, from, &[("source", "graph")]));
    setting
        .service
        .adjust(|options| options.graph.budget = None);
    let mut collector = clock.start(&setting);
    setting
        .until_committed(&collector, &[TRACE], setting.ago(25))
        .await;
    let offset = TimeDelta::days(1) + TimeDelta::minutes(2);
    setting.service.clock_offset(offset);
    clock.set(offset);
    setting
        .until_committed(&collector, &[TRACE], setting.ago(1))
        .await;
    // Longer than it would take until the next look.
    tokio::time::sleep(Duration::from_secs(12)).await;
    stop(&mut collector).await;
    assert_eq!(setting.service.requests_for(TRACE).len(), 0);
    assert!(!setting.state_of(TRACE).join("looks").exists());
}
