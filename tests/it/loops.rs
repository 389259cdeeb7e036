//! Links that lead back, for a while: nothing is lost, nothing is sent twice, and collecting goes on when they are right again.

use std::time::{Duration, Instant};

use chrono::{DurationRound, TimeDelta};
use testkit::report::Report;
use testkit::service::{Fault, Loop, Options, Target, When};

use crate::setting::{PATIENCE, Setting, log, stop};

/// Three pages, as small as they may be for this.
const SMALL: (u32, usize) = (30, 10);

/// Three pages of Microsoft's own size: only from it can be seen that a page is full.
const FULL: (u32, usize) = (4_200, 2_000);

/// Long enough for some walks that fail.
const A_WHILE: Duration = Duration::from_secs(12);

/// What it was when records were lost.
const LONG: Duration = Duration::from_secs(45);

/// Collects an hour of two reports, of so many rows in pages of so many, whose links are wrong for so long.
async fn check((rows, page_rows): (u32, usize), fault: Fault, time: Duration) {
    let options = Options {
        page_rows,
        ..Options::default()
    };
    let setting = Setting::with(options, |_| {}).await;
    // Of the details nothing later has settled: their first window cannot be shorter.
    let to = setting.ago(25).duration_trunc(TimeDelta::hours(1)).unwrap();
    let from = to - TimeDelta::hours(1);
    let reports = [Report::MessageTrace, Report::DlpDetail];
    for report in reports {
        setting.rows(report, from, to, rows);
    }
    let input = setting
        .input()
        .service_from(Report::MessageTrace, from, &[])
        .service_from(Report::DlpDetail, from, &[]);
    setting
        .service
        .fault(Target::Reports, When::Always, fault.clone());
    setting.configure(input);
    let mut collector = setting.start();
    let begun = Instant::now();
    // A collector that follows a loop is given the time to come to the service's cap.
    let follows = || {
        let pages = setting.service.requests_for(Report::DlpDetail).len();
        (300..1_200).contains(&pages) && begun.elapsed() < PATIENCE
    };
    while begun.elapsed() < time || follows() {
        let count = setting.relay.count();
        assert!(
            count <= u64::from(rows) * 2,
            "{fault:?}: {count} lines\n{}",
            log(&collector)
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Nobody has seen the last of the three pages.
    let cursor = setting.cursor(Report::DlpDetail);
    assert!(
        cursor.is_none_or(|cursor| cursor <= from),
        "{fault:?}: {cursor:?}\n{}",
        log(&collector)
    );
    let given_up = collector.log_with("cannot be had");
    assert_eq!(given_up, Vec::<String>::new(), "{fault:?}");
    setting.service.heal();
    setting.until_committed(&collector, &reports, to).await;
    stop(&mut collector).await;
    for report in reports {
        let expected = setting.existing(report, from, to);
        let verdict = setting.verdict(&expected);
        assert_eq!(
            (verdict.missing, verdict.twice),
            (0, 0),
            "{fault:?}: {verdict}\n{}",
            log(&collector)
        );
    }
}

fn looped(to: Loop) -> Fault {
    let last_too = false;
    Fault::Loop { to, last_too }
}

/// Pages that need no link have one as well.
fn everywhere(to: Loop) -> Fault {
    let last_too = true;
    Fault::Loop { to, last_too }
}

/// The link of each page, as JSON.
fn text(link: &str) -> Fault {
    Fault::LinkText(link.to_owned())
}

macro_rules! survived {
    ($($name:ident: $rows:expr, $fault:expr, $time:expr;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            check($rows, $fault, $time).await;
        }
    )*};
}

survived! {
    links_to_the_same_page_under_new_tokens_lose_nothing_and_repeat_nothing:
        SMALL, looped(Loop::SamePage), LONG;
    links_to_the_same_page_on_last_pages_too_lose_nothing_and_repeat_nothing:
        SMALL, everywhere(Loop::SamePage), A_WHILE;
    links_to_the_page_before_lose_nothing_and_repeat_nothing: SMALL, looped(Loop::PageBefore), A_WHILE;
    links_to_the_first_page_lose_nothing_and_repeat_nothing: SMALL, looped(Loop::FirstPage), A_WHILE;
    a_last_page_that_leads_to_the_first_loses_nothing_and_repeats_nothing:
        SMALL, everywhere(Loop::FirstPage), A_WHILE;
    two_pages_that_lead_to_each_other_lose_nothing_and_repeat_nothing: SMALL, looped(Loop::Pairs), A_WHILE;
    the_same_link_again_loses_nothing_and_repeats_nothing: SMALL, Fault::RepeatedLink, A_WHILE;
    empty_pages_that_lead_on_for_ever_lose_nothing_and_repeat_nothing: SMALL, Fault::EmptyPage, A_WHILE;
    a_link_that_is_a_number_loses_nothing_and_repeats_nothing: SMALL, text("5"), A_WHILE;
    a_link_that_is_an_object_loses_nothing_and_repeats_nothing: SMALL, text("{}"), A_WHILE;
    a_full_page_with_an_empty_link_is_not_taken_for_all: FULL, text(r#""""#), A_WHILE;
    a_full_page_with_a_blank_link_is_not_taken_for_all: FULL, text(r#"" ""#), A_WHILE;
    a_full_page_with_a_link_that_is_null_is_not_taken_for_all: FULL, text("null"), A_WHILE;
    loops_of_all_kinds_by_turns_lose_nothing_and_repeat_nothing: SMALL, Fault::Cycle(vec![
        looped(Loop::SamePage), everywhere(Loop::FirstPage), looped(Loop::Pairs),
        Fault::EmptyPage, everywhere(Loop::PageBefore), Fault::RepeatedLink,
    ]), A_WHILE;
}

/// Results of one page each, that is of less than a page's rows: an empty or blank link on them is no link.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blank_link_on_a_last_page_is_no_link() {
    for link in [r#""""#, r#""  ""#, r#""\t""#, r#""\r\n""#, "null"] {
        let setting = Setting::new().await;
        let (from, to) = (setting.ago(30), setting.ago(27));
        setting.rows(Report::MessageTrace, from, to, 300);
        setting
            .service
            .fault(Report::MessageTrace, When::Always, text(link));
        setting.configure_one(Report::MessageTrace, from, &[]);
        let mut collector = setting.start();
        setting.finish(&mut collector, from, to).await;
        assert!(
            collector.log_with("WARNING InputProcess").is_empty(),
            "{link}: {}",
            log(&collector)
        );
    }
}

/// A page may be empty and still link on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_page_that_leads_to_the_right_one_is_followed() {
    let options = Options {
        page_rows: SMALL.1,
        ..Options::default()
    };
    let setting = Setting::with(options, |_| {}).await;
    let (from, to) = (setting.ago(30), setting.ago(29));
    setting.rows(Report::MessageTrace, from, to, SMALL.0);
    for page in 1..=3 {
        let when = When::Page { page, times: 1 };
        setting
            .service
            .fault(Report::MessageTrace, when, Fault::EmptyPage);
    }
    setting.configure_one(Report::MessageTrace, from, &[]);
    let mut collector = setting.start();
    setting.finish(&mut collector, from, to).await;
}
