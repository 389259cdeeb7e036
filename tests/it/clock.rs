//! Clocks that differ by 30 hours, or jump so far: no window of the future is committed, nothing is lost, and an error says so.

use std::time::Duration;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use testkit::collector::Collector;
use testkit::report::Report;
use testkit::service::TooOld;

use crate::fake_clock::FakeClock;
use crate::setting::{PATIENCE, Setting, log, stop};

const DIFFERENCE: TimeDelta = TimeDelta::hours(30);

/// How far behind the present a service stays unless told otherwise.
const DELAY: TimeDelta = TimeDelta::hours(25);

/// What the error says that tells of the clocks.
const TOLD: &str = "(NTP)";

/// Puts the service's clock elsewhere, and leaves the directory's with ours.
fn service_alone(setting: &Setting, offset: TimeDelta) {
    setting.service.adjust(|options| {
        (options.clock_offset, options.directory_clock_offset) = (offset, -offset);
    });
}

/// Waits for the error that tells of the clocks, which names what to do and by how much one of them differs.
async fn until_told(collector: &Collector, minutes: i64) {
    let line = collector.wait_for(TOLD, PATIENCE);
    let line = line.await.unwrap();
    assert!(line.contains("ERROR") && line.contains("set "), "{line}");
    let (_, told) = line.split_once(" minutes=").unwrap();
    let told: i64 = told.split_whitespace().next().unwrap().parse().unwrap();
    assert!((told - minutes).abs() <= 1, "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_ahead_commits_no_window_of_the_future() {
    let setting = Setting::new().await;
    setting.service.clock_offset(-DIFFERENCE);
    let from = setting.ago(60);
    // By the service's clock the present is 30 hours ago: only what is older than 55 hours has settled.
    let settled = setting.ago(55);
    let (live, to) = (settled + TimeDelta::minutes(30), setting.ago(25));
    setting.rows(Report::MessageTrace, from, settled, 1_000);
    setting.configure_one(Report::MessageTrace, from, &[]);
    let mut collector = setting.start();
    setting
        .until_committed(&collector, &[Report::MessageTrace], settled)
        .await;
    until_told(&collector, DIFFERENCE.num_minutes()).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let cursor = setting.cursor(Report::MessageTrace).unwrap();
    assert!(
        cursor <= Utc::now() - DIFFERENCE - DELAY,
        "{cursor}\n{}",
        log(&collector)
    );

    // What comes in then is collected, once the clock is right.
    setting.rows(Report::MessageTrace, live, to, 1_000);
    setting.service.clock_offset(TimeDelta::zero());
    setting.stop_at(&mut collector, to).await;
    let told = collector.log_with(TOLD);
    // The directory's, which is heard with the next token, is the wrong one by now.
    let of = |clock: &str| told.iter().filter(|line| line.contains(clock)).count();
    assert_eq!(of("clock=\"this machine's\""), 1, "{told:?}");
    assert_eq!(of("clock=\"the directory's\""), 1, "{told:?}");
    setting.expect_exactly(
        &setting.existing(Report::MessageTrace, from, to),
        &collector,
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_window_planned_by_a_clock_that_is_ahead_is_not_committed() {
    let setting = Setting::new().await;
    setting.service.clock_offset(-DIFFERENCE);
    // Settled by our clock, the future by the service's.
    let (from, live, to) = (setting.ago(29), setting.ago(28), setting.ago(25));
    setting.configure_one(Report::MessageTrace, from, &[]);
    let mut collector = setting.start();
    until_told(&collector, DIFFERENCE.num_minutes()).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        setting.cursor(Report::MessageTrace),
        Some(from),
        "{}",
        log(&collector)
    );
    setting.rows(Report::MessageTrace, from, live, 500);
    setting.rows(Report::MessageTrace, live, to, 500);
    stop(&mut collector).await;
    setting.service.clock_offset(TimeDelta::zero());
    let mut collector = setting.start();
    setting.finish(&mut collector, from, to).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_behind_loses_nothing() {
    let put = |setting: &Setting| setting.service.clock_offset(DIFFERENCE);
    // The two others agree.
    ahead_of_ours(put, -DIFFERENCE, DIFFERENCE - DELAY).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_services_clock_that_is_ahead_by_itself_moves_nothing() {
    ahead_of_ours(
        |setting| service_alone(setting, DIFFERENCE),
        DIFFERENCE,
        -DELAY,
    )
    .await;
}

/// Collects while other clocks are ahead of ours; `told` is the difference of the wrong one, and `most` how far the cursor may come.
async fn ahead_of_ours(put: impl Fn(&Setting), told: TimeDelta, most: TimeDelta) {
    let setting = Setting::new().await;
    put(&setting);
    let (from, to) = (setting.ago(30), setting.ago(25));
    setting.rows(Report::MessageTrace, from, to, 1_000);
    setting.configure_one(Report::MessageTrace, from, &[]);
    let mut collector = setting.start();
    setting
        .until_committed(&collector, &[Report::MessageTrace], to)
        .await;
    until_told(&collector, told.num_minutes()).await;
    stop(&mut collector).await;
    let cursor = setting.cursor(Report::MessageTrace).unwrap();
    assert!(cursor <= Utc::now() + most, "{cursor}");
    setting.expect_exactly(
        &setting.existing(Report::MessageTrace, from, to),
        &collector,
    );
}

/// Starts without `start_time` and without state, two seconds behind the present of the earlier clock, and collects some seconds live.
async fn begins_at(setting: &Setting, present: DateTime<Utc>) {
    let options = [
        ("request_period_in_seconds", "1"),
        ("override_time_delay_in_seconds", "2"),
    ];
    let input = setting.input().service(Report::MessageTrace, &options);
    setting.configure(input);
    let live = present + TimeDelta::seconds(2);
    let to = live + TimeDelta::seconds(4);
    setting.rows(Report::MessageTrace, live, to, 200);
    let mut collector = setting.start();
    // Until the first answer, the cursor is where our clock puts it.
    collector.wait_for(TOLD, PATIENCE).await.unwrap();
    setting.stop_at(&mut collector, to).await;
    setting.expect_exactly(
        &setting.existing(Report::MessageTrace, live, to),
        &collector,
    );
    assert_eq!(collector.log_with(TOLD).len(), 1, "{}", log(&collector));
}

fn now() -> DateTime<Utc> {
    Utc::now().duration_trunc(TimeDelta::seconds(1)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_with_a_clock_that_is_ahead_begins_by_the_services_clock() {
    let setting = Setting::new().await;
    setting.service.clock_offset(-DIFFERENCE);
    begins_at(&setting, now() - DIFFERENCE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_with_a_clock_that_is_behind_begins_by_our_clock() {
    let setting = Setting::new().await;
    service_alone(&setting, DIFFERENCE);
    begins_at(&setting, now()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_ahead_gives_up_nothing_that_can_still_be_had() {
    let setting = Setting::new().await;
    setting.service.clock_offset(-DIFFERENCE);
    // Eleven days old by our clock, which Microsoft would have deleted; nine and a half by the service's.
    let (from, to) = (setting.ago(260), setting.ago(250));
    setting.rows(Report::MessageTrace, from, to, 1_000);
    setting.configure_one(Report::MessageTrace, from, &[]);
    let mut collector = setting.start();
    setting.stop_at(&mut collector, to).await;
    assert_eq!(
        collector.log_with("cannot be had").len(),
        0,
        "{}",
        log(&collector)
    );
    setting.expect_exactly(
        &setting.existing(Report::MessageTrace, from, to),
        &collector,
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_result_that_may_be_too_old_is_not_taken_for_complete() {
    let setting = Setting::new().await;
    setting
        .service
        .adjust(|options| options.too_old = TooOld::Empty);
    // The service's clock alone says that the first hours, nine days old by ours, are too old.
    service_alone(&setting, DIFFERENCE);
    let (from, to) = (setting.ago(236), setting.ago(100));
    let reached = setting.ago(240) + DIFFERENCE + TimeDelta::hours(1);
    setting.rows(Report::MessageTrace, from, to, 2_000);
    setting.configure_one(Report::MessageTrace, from, &[]);
    let mut collector = setting.start();
    setting.stop_at(&mut collector, to).await;
    assert_eq!(
        collector.log_with("cannot be had").len(),
        0,
        "{}",
        log(&collector)
    );
    let unknown = setting.entries(Report::MessageTrace, "unknown");
    assert!(
        matches!(unknown[..], [(start, end)] if start == from && end > from && end <= reached),
        "{unknown:?}"
    );
    let expected = setting.existing(Report::MessageTrace, reached, to);
    setting.expect_once(&expected, u64::MAX, &collector);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_two_other_clocks_say_is_too_old_is_passed_and_told() {
    for too_old in [TooOld::Empty, TooOld::ServerError] {
        let setting = Setting::new().await;
        setting.service.adjust(|options| options.too_old = too_old);
        setting.service.clock_offset(DIFFERENCE);
        // Nine days old by our clock, more than ten by the others: the first hours cannot be had, and that is said.
        let (from, to) = (setting.ago(236), setting.ago(100));
        let reached = setting.ago(240) + DIFFERENCE + TimeDelta::hours(1);
        setting.rows(Report::MessageTrace, from, to, 2_000);
        setting.configure_one(Report::MessageTrace, from, &[]);
        let mut collector = setting.start();
        let line = collector.wait_for("cannot be had", PATIENCE).await.unwrap();
        assert!(line.contains("ERROR"), "{line}");
        setting.stop_at(&mut collector, to).await;
        let expected = setting.existing(Report::MessageTrace, reached, to);
        setting.expect_once(&expected, u64::MAX, &collector);
    }
}

/// The jumps of a clock, each followed by a jump back to the right time.
const JUMPS: [TimeDelta; 3] = [
    TimeDelta::hours(30),
    TimeDelta::hours(-30),
    TimeDelta::hours(3),
];

/// How long a clock is wrong.
const WRONG: Duration = Duration::from_secs(4);

/// Collects in step, two seconds behind the present, while `jump` puts a clock wrong and right again.
async fn jumping(
    setting: Setting,
    start: impl FnOnce(&Setting) -> Collector,
    jump: impl Fn(&Setting, TimeDelta),
) {
    let from = now();
    let end = from + TimeDelta::minutes(20);
    setting.rows(Report::MessageTrace, from, end, 24_000);
    let delay = [("override_time_delay_in_seconds", "2")];
    setting.configure_one(Report::MessageTrace, from, &delay);
    let mut collector = start(&setting);
    let mut cursor = from;
    for offset in JUMPS {
        let in_step = now() + TimeDelta::seconds(1);
        setting
            .until_committed(&collector, &[Report::MessageTrace], in_step)
            .await;
        jump(&setting, offset);
        tokio::time::sleep(WRONG).await;
        jump(&setting, TimeDelta::zero());
        let before = cursor;
        cursor = setting.cursor(Report::MessageTrace).unwrap();
        assert!(before <= cursor, "{cursor}\n{}", log(&collector));
    }
    let to = now();
    setting.stop_at(&mut collector, to).await;
    // A clock of ours that is behind asks for nothing, and so learns of no difference.
    assert!(collector.log_with(TOLD).len() >= 2, "{}", log(&collector));
    for request in setting.service.requests_for(Report::MessageTrace) {
        let (_, last) = request.range.unwrap();
        assert!(
            last <= request.time,
            "of the future: {request:?}\n{}",
            log(&collector)
        );
    }
    let expected = setting.existing(Report::MessageTrace, from, to);
    // Some of what comes after `to` has been read as well.
    setting.expect_once(&expected, u64::MAX, &collector);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_services_clock_may_jump_while_the_collector_runs() {
    jumping(Setting::new().await, Setting::start, |setting, offset| {
        service_alone(setting, offset);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_clock_may_jump_while_the_collector_runs() {
    let setting = Setting::new().await;
    let Some(clock) = FakeClock::new(&setting) else {
        return;
    };
    let start = |setting: &Setting| clock.start(setting);
    jumping(setting, start, |_, offset| clock.set(offset)).await;
}
