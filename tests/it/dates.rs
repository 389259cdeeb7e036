//! One hint about the time moves nothing for good: a wrong `Date` in one answer, and one of three clocks that is wrong.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use testkit::collector::Collector;
use testkit::report::Report;
use testkit::service::{Fault, RetryAfter, Target, TooOld, When};

use crate::fake_clock::FakeClock;
use crate::monitoring::Watched;
use crate::setting::{PATIENCE, Setting, log, stop};

/// How far behind the present a service stays unless told otherwise.
const DELAY: TimeDelta = TimeDelta::hours(25);

/// How far off the `Date` of one answer is.
const MONTH: TimeDelta = TimeDelta::days(30);

/// Waits until everything before `to` is committed; the cursor never moves back, and never past what has settled.
async fn follow(setting: &Setting, collector: &Collector, to: DateTime<Utc>) {
    let begun = Instant::now();
    let mut before = DateTime::<Utc>::MIN_UTC;
    while before < to {
        let cursor = setting.cursor(Report::MessageTrace).unwrap_or(before);
        assert!(before <= cursor, "back to {cursor}\n{}", log(collector));
        let settled = Utc::now() - DELAY;
        assert!(
            cursor <= settled,
            "{cursor} has not settled\n{}",
            log(collector)
        );
        assert!(
            begun.elapsed() < PATIENCE,
            "stands at {cursor}\n{}",
            log(collector)
        );
        before = cursor;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Collects a day of message traces, all answers right but one.
async fn one_wrong_date(target: Target, when: When, fault: Fault) {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(50), setting.ago(25));
    setting.rows(Report::MessageTrace, from, to, 2_400);
    setting.service.fault(target, when, fault);
    setting.configure_one(Report::MessageTrace, from, &[]);
    let mut collector = setting.start();
    follow(&setting, &collector, to).await;
    stop(&mut collector).await;
    let hit = |request: &testkit::service::Request| request.fault.is_some();
    assert!(setting.service.requests().iter().any(hit));
    let expected = setting.existing(Report::MessageTrace, from, to);
    setting.expect_exactly(&expected, &collector);
}

/// The first answer, and then one in the middle, has a `Date` of next month, and of last month.
async fn wrong_by_a_month(target: impl Into<Target>, fault: Option<Fault>) {
    let target = target.into();
    let middle = When::After {
        passed: 1,
        times: 1,
    };
    for when in [When::Next(1), middle] {
        // One token is all that is asked for.
        if matches!((target, when), (Target::Token, When::After { .. })) {
            continue;
        }
        for offset in [MONTH, -MONTH] {
            let fault = fault.clone().map(Box::new);
            one_wrong_date(target, when, Fault::Dated { offset, fault }).await;
        }
    }
}

macro_rules! one_answer {
    ($($name:ident: $target:expr, $fault:expr;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            wrong_by_a_month($target, $fault).await;
        }
    )*};
}

one_answer! {
    a_503_from_another_month_moves_no_cursor: Report::MessageTrace, Some(Fault::Busy(None));
    a_429_from_another_month_moves_no_cursor:
        Report::MessageTrace, Some(Fault::Throttled(Some(RetryAfter::Seconds(1))));
    a_404_from_another_month_moves_no_cursor: Report::MessageTrace, Some(Fault::NotFound);
    a_400_from_another_month_moves_no_cursor: Report::MessageTrace, Some(Fault::BadRequest);
    a_401_from_another_month_moves_no_cursor: Report::MessageTrace, Some(Fault::Unauthorized);
    a_500_from_another_month_moves_no_cursor: Report::MessageTrace, Some(Fault::ServerError);
    a_sign_in_page_from_another_month_moves_no_cursor: Report::MessageTrace, Some(Fault::SignInPage);
    a_redirect_from_another_month_moves_no_cursor:
        Report::MessageTrace, Some(Fault::Redirect("https://login.example.invalid/".to_owned()));
    a_body_cut_short_from_another_month_moves_no_cursor: Report::MessageTrace, Some(Fault::CutBody);
    json_that_ends_early_from_another_month_moves_no_cursor: Report::MessageTrace, Some(Fault::EndsEarly);
    a_service_fault_from_another_month_moves_no_cursor:
        Report::MessageTrace, Some(Fault::ServiceFault { status: 200 });
    a_gateways_502_from_another_month_moves_no_cursor: Report::MessageTrace, Some(Fault::Answer {
        status: 502, content_type: "text/html".to_owned(), body: "<html>Bad Gateway</html>".to_owned(),
    });
    an_empty_answer_with_an_error_from_another_month_moves_no_cursor: Report::MessageTrace, Some(Fault::Answer {
        status: 200, content_type: "text/plain".to_owned(), body: String::new(),
    });
    a_right_page_from_another_month_moves_no_cursor: Report::MessageTrace, None;
    a_token_answer_from_another_month_moves_no_cursor: Target::Token, None;
    a_refused_token_from_another_month_moves_no_cursor: Target::Token, Some(Fault::Busy(None));
}

/// A gateway that answers now and then, each time from another month.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_wrong_again_and_again_moves_no_cursor() {
    let faults = [MONTH, -MONTH, MONTH * 12].map(|offset| Fault::Busy(None).dated(offset));
    let cycle = Fault::Cycle(faults.to_vec());
    one_wrong_date(Report::MessageTrace.into(), When::Every(3), cycle).await;
}

/// What the three clocks are off by: ours, the service's, the directory's.
#[derive(Clone, Copy, Debug)]
struct Clocks {
    ours: TimeDelta,
    service: TimeDelta,
    directory: TimeDelta,
}

impl Clocks {
    const RIGHT: Clocks = Clocks {
        ours: TimeDelta::zero(),
        service: TimeDelta::zero(),
        directory: TimeDelta::zero(),
    };
}

/// Collects by three clocks of which the majority is right: what has settled is delivered, and nothing else is.
#[expect(clippy::print_stderr, reason = "a test shows it where it fails")]
async fn check(clocks: Clocks) {
    eprintln!("{clocks:?}");
    let setting = Setting::new().await;
    let Some(clock) = FakeClock::new(&setting) else {
        return;
    };
    clock.set(clocks.ours);
    setting.service.adjust(|options| {
        options.clock_offset = clocks.service;
        options.directory_clock_offset = clocks.directory - clocks.service;
    });
    let (from, to) = (setting.ago(50), setting.ago(25));
    setting.rows(Report::MessageTrace, from, to, 2_400);
    setting.configure_one(Report::MessageTrace, from, &[]);
    let mut collector = clock.start(&setting);
    follow(&setting, &collector, to).await;
    stop(&mut collector).await;
    let expected = setting.existing(Report::MessageTrace, from, to);
    setting.expect_exactly(&expected, &collector);
}

const OFF: [TimeDelta; 4] = [
    TimeDelta::hours(3),
    TimeDelta::hours(-3),
    TimeDelta::days(5),
    TimeDelta::days(-5),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_whose_clock_is_wrong_alone_is_outvoted() {
    for directory in OFF {
        check(Clocks {
            directory,
            ..Clocks::RIGHT
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_whose_clock_is_wrong_alone_is_outvoted() {
    for service in OFF {
        check(Clocks {
            service,
            ..Clocks::RIGHT
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_clock_that_is_wrong_alone_is_outvoted() {
    // By a clock that is days behind the configuration's `start_time` would lie in the future.
    for ours in OFF.into_iter().filter(|ours| *ours > TimeDelta::days(-1)) {
        check(Clocks {
            ours,
            ..Clocks::RIGHT
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_three_clocks_that_differ_the_one_in_the_middle_counts() {
    let (early, late) = (TimeDelta::days(-2), TimeDelta::days(2));
    for (ours, service, directory) in [(1, 0, -1), (0, -1, 1), (-1, 1, 0)] {
        let off = |which| match which {
            1 => late,
            0 => TimeDelta::zero(),
            _ => early,
        };
        check(Clocks {
            ours: off(ours),
            service: off(service),
            directory: off(directory),
        })
        .await;
    }
}

/// By the service's clock alone all of it is too old to be had.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_clock_gives_nothing_up_that_can_still_be_had() {
    let setting = Setting::new().await;
    let wrong = TimeDelta::days(20);
    setting.service.adjust(|options| {
        options.too_old = TooOld::ServerError;
        options.clock_offset = wrong;
        options.directory_clock_offset = -wrong;
    });
    let (from, to) = (setting.ago(50), setting.ago(25));
    setting.rows(Report::MessageTrace, from, to, 2_400);
    setting.configure_one(Report::MessageTrace, from, &[]);
    let mut collector = setting.start();
    let refused = || {
        let requests = setting.service.requests_for(Report::MessageTrace);
        requests
            .iter()
            .filter(|request| request.status == 500)
            .count()
    };
    let begun = Instant::now();
    while refused() < 3 {
        assert!(begun.elapsed() < PATIENCE, "{}", log(&collector));
        let cursor = setting.cursor(Report::MessageTrace);
        assert!(
            cursor.is_none_or(|cursor| cursor == from),
            "{cursor:?}\n{}",
            log(&collector)
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    setting.service.adjust(|options| {
        options.clock_offset = TimeDelta::zero();
        options.directory_clock_offset = TimeDelta::zero();
    });
    follow(&setting, &collector, to).await;
    stop(&mut collector).await;
    let expected = setting.existing(Report::MessageTrace, from, to);
    setting.expect_exactly(&expected, &collector);
}

/// The state of a collector whose clock was ahead together with both others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_ahead_of_now_is_unhealthy_and_says_what_to_do() {
    let setting = Setting::new().await;
    let Some(clock) = FakeClock::new(&setting) else {
        return;
    };
    clock.set(MONTH);
    setting.service.clock_offset(MONTH);
    let (from, to) = (setting.ago(50) + MONTH, setting.ago(25) + MONTH);
    setting.rows(Report::MessageTrace, from, to, 100);
    setting.configure_one(Report::MessageTrace, from, &[]);
    let mut collector = clock.start(&setting);
    setting.stop_at(&mut collector, to).await;

    setting.service.clock_offset(TimeDelta::zero());
    let input = setting.input().service(Report::MessageTrace, &[]);
    let watched = Watched::start(&setting, input, "{listen: 0}").await;
    let begun = Instant::now();
    let told = loop {
        let (status, text) = watched.get("/healthz").await;
        if status == 503 {
            break text;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "{status} {text}\n{}",
            log(&watched.collector)
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(told.contains(Report::MessageTrace.service()), "{told}");
    assert!(told.contains("state set"), "no remedy in {told}");
}
