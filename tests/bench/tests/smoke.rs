//! Every program that is installed drains a few thousand rows, exactly: so the bench cannot rot unseen. Python's part needs packages from
//! outside and is tried by the bench itself.

use std::path::Path;

use bench::measure::{backlog, sparse_backlog};
use bench::programs::{Job, Program, has_rsyslog, write_lines};
use bench::scene::{Scene, beside};
use testkit::report::Report;

const ROWS: u64 = 6_000;

#[test]
fn the_collector_and_the_limit_deliver_every_row_once_with_gzip_and_without() {
    let scene = Scene::new().unwrap();
    for gzip in [false, true] {
        let pages = scene.pages(backlog(ROWS), gzip).unwrap();
        let job = Job {
            pages: &pages,
            reports: &[Report::MessageTrace],
            lines: None,
        };
        let Program::Collector(program) = collector() else {
            unreachable!()
        };
        let watched = Program::Watched(program.clone());
        for program in [collector(), watched, Program::Unwatched(program), limit()] {
            scene.run(&program, &job).unwrap();
        }
    }
}

#[test]
fn all_eight_services_deliver_every_row_once() {
    let scene = Scene::new().unwrap();
    let pages = scene.pages(sparse_backlog(2_000), false).unwrap();
    let job = Job {
        pages: &pages,
        reports: &Report::ALL,
        lines: None,
    };
    scene.run(&collector(), &job).unwrap();
}

#[test]
fn a_run_that_leaves_rows_out_does_not_count() {
    let scene = Scene::new().unwrap();
    let pages = scene.pages(backlog(ROWS), false).unwrap();
    let job = Job {
        pages: &pages,
        // The limit asks for one report only, whatever is wanted.
        reports: &[Report::MessageTrace, Report::DlpDetail],
        lines: None,
    };
    let error = scene.run(&limit(), &job).unwrap_err();
    assert!(
        format!("{error:#}").contains("6000 lines of 12000"),
        "{error:#}"
    );
}

#[test]
fn rsyslog_forwards_every_line_once() {
    if !has_rsyslog() {
        assert_ne!(
            std::env::var("CI").as_deref(),
            Ok("true"),
            "nothing may be skipped: rsyslog is missing"
        );
        eprintln!("SKIPPED: rsyslog is missing");
        return;
    }
    let scene = Scene::new().unwrap();
    let pages = scene.pages(backlog(ROWS), false).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let lines = folder.path().join("lines");
    write_lines(&pages.backlog(), &lines).unwrap();
    let job = Job {
        pages: &pages,
        reports: &[Report::MessageTrace],
        lines: Some(&lines),
    };
    scene.run(&Program::Rsyslog, &job).unwrap();
}

fn collector() -> Program {
    let program = beside("exchange-reports-collector");
    Program::Collector(program.unwrap_or_else(|error| panic!("{error:#}")))
}

fn limit() -> Program {
    Program::Limit(Path::new(env!("CARGO_BIN_EXE_limit")).to_owned())
}
