//! What the audit keeps, cuts, mends and never claims.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use chrono::TimeDelta;

use super::*;
use crate::ledger::{Commit, Cursor, Ledger, Owner, StateDirectory};

const OWNER: Owner<'static> = Owner {
    input: "in",
    id: "1",
    service: "svc",
};

/// So many minutes after an hour's beginning.
fn at(minutes: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_770_001_200 + 60 * minutes, 0).unwrap()
}

fn window(start: i64, end: i64) -> Window {
    Window {
        start: at(start),
        end: at(end),
    }
}

fn open(folder: &Path) -> Ledger {
    StateDirectory::open(folder)
        .unwrap()
        .ledger(OWNER, &[])
        .unwrap()
        .0
}

/// A ledger that begins at the beginning of an hour.
fn begun(folder: &Path) -> Ledger {
    let mut ledger = open(folder);
    ledger
        .begin(Cursor::begin(at(0), "t".into(), None), at(0))
        .unwrap();
    ledger
}

fn passed(start: i64, end: i64, outcome: Outcome, records: u64) -> Passed {
    let mut shown = Sums::default();
    for number in 0..records {
        shown.add(crate::record::Fingerprint(
            [u8::try_from(number).unwrap(); 16],
        ));
    }
    Passed {
        entry: Entry::new(window(start, end), outcome, records),
        beyond: 0,
        shown,
        found: Found::default(),
    }
}

fn try_commit(ledger: &mut Ledger, passed: Vec<Passed>) -> Option<Vec<Stretch>> {
    let end = passed.last().unwrap().entry.end;
    let commit = Commit {
        at: end,
        passed,
        settled: end + TimeDelta::hours(25),
        told: None,
        boundary: vec![],
    };
    ledger.commit(commit).ok()
}

fn commit(ledger: &mut Ledger, passed: Vec<Passed>) {
    try_commit(ledger, passed).unwrap();
}

/// Commits whole hours with three records each, from one hour to another.
fn hours(ledger: &mut Ledger, hours: std::ops::Range<i64>) {
    for hour in hours {
        commit(
            ledger,
            vec![passed(60 * hour, 60 * hour + 60, Outcome::Complete, 3)],
        );
    }
}

fn file(folder: &Path) -> PathBuf {
    OWNER.folder(folder).join("audit")
}

/// What hours from one to another came to: the records, and the gaps in minutes.
fn told(folder: &Path, from: i64, to: i64) -> (u64, Vec<String>) {
    let account = Account::of(folder, OWNER).unwrap();
    let summary = account.summary(window(60 * from, 60 * to), TimeDelta::days(10), at(0));
    let gap = |gap: &Gap| {
        let minutes = |time: DateTime<Utc>| (time - at(0)).num_minutes();
        let (start, end) = (minutes(gap.window.start), minutes(gap.window.end));
        format!("{start}..{end} {}", gap.reason.name())
    };
    (summary.records, summary.gaps.iter().map(gap).collect())
}

fn complete(records: u64) -> (u64, Vec<String>) {
    (records, vec![])
}

fn gap(records: u64, gaps: &[&str]) -> (u64, Vec<String>) {
    (records, gaps.iter().map(|gap| (*gap).to_owned()).collect())
}

#[test]
fn an_hour_settles_with_the_window_that_ends_it_over_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = begun(folder.path());
    commit(&mut ledger, vec![passed(0, 20, Outcome::Complete, 2)]);
    assert!(!file(folder.path()).exists());
    assert_eq!(
        told(folder.path(), 0, 1),
        gap(2, &["20..60 never_collected"])
    );
    drop(ledger);
    let mut ledger = open(folder.path());
    let mut last = passed(20, 60, Outcome::Complete, 5);
    last.beyond = 1;
    let settled = try_commit(
        &mut ledger,
        vec![last, passed(60, 70, Outcome::Complete, 0)],
    )
    .unwrap();
    assert_eq!(
        (settled.len(), settled[0].records, settled[0].shown.rows),
        (1, 6, 7)
    );
    assert_eq!(settled[0].settled, at(70) + TimeDelta::hours(25));
    drop(ledger);
    assert_eq!(told(folder.path(), 0, 1), complete(6));
    let mut ledger = open(folder.path());
    commit(&mut ledger, vec![passed(70, 120, Outcome::Complete, 0)]);
    assert_eq!(told(folder.path(), 0, 2), complete(7));
    assert_eq!(fs::metadata(file(folder.path())).unwrap().len(), 128 * 3);
}

#[test]
fn the_worst_that_became_of_a_window_is_told_of_its_hour() {
    let check = |outcomes: &[(Outcome, u64)], expected| {
        let mut kept = Kept::begin(at(0));
        let windows = (0..).zip(outcomes).map(|(place, (outcome, records))| {
            passed(10 * place, 10 * place + 10, outcome.clone(), *records)
        });
        let mut windows: Vec<_> = windows.collect();
        windows.last_mut().unwrap().entry.end = at(60);
        let settled = kept.pass(&windows, at(100), Origin::Graph);
        assert_eq!(settled[0].outcome, expected, "{outcomes:?}");
    };
    let empty = Outcome::EmptyUnconfirmed;
    check(&[(Outcome::Complete, 0)], HourOutcome::Empty);
    check(
        &[(Outcome::Complete, 1), (Outcome::Complete, 0)],
        HourOutcome::Complete,
    );
    check(
        &[(Outcome::Complete, 0), (empty.clone(), 0)],
        HourOutcome::Unconfirmed,
    );
    check(
        &[(empty.clone(), 0), (Outcome::Complete, 1)],
        HourOutcome::Complete,
    );
    check(
        &[(Outcome::Capped, 9), (Outcome::Unsettled { walks: 5 }, 1)],
        HourOutcome::Capped,
    );
    check(
        &[(Outcome::Withheld, 0), (Outcome::Complete, 1)],
        HourOutcome::Withheld,
    );
    check(&[(Outcome::Unknown, 0), (empty, 0)], HourOutcome::Unknown);
}

#[test]
fn time_that_was_passed_over_is_told_to_the_minute() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = begun(folder.path());
    commit(&mut ledger, vec![passed(0, 20, Outcome::Complete, 2)]);
    commit(&mut ledger, vec![passed(20, 200, Outcome::Unreachable, 0)]);
    commit(&mut ledger, vec![passed(200, 240, Outcome::Complete, 1)]);
    assert_eq!(told(folder.path(), 0, 4), gap(3, &["20..200 unreachable"]));
    assert_eq!(told(folder.path(), 1, 2), gap(0, &["60..120 unreachable"]));
    assert_eq!(
        told(folder.path(), 4, 5),
        gap(0, &["240..300 never_collected"])
    );
    assert_eq!(
        told(folder.path(), -1, 1),
        gap(2, &["-60..0 never_collected", "20..60 unreachable"])
    );
}

#[test]
fn a_cursor_that_is_set_skips_or_repeats_hours_and_the_audit_knows() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = begun(folder.path());
    hours(&mut ledger, 0..3);
    commit(&mut ledger, vec![passed(180, 190, Outcome::Complete, 4)]);
    drop(ledger);
    let set = |minutes| {
        let state = StateDirectory::open(folder.path()).unwrap();
        state.set_cursor(OWNER, at(minutes), at(500)).unwrap();
    };
    set(290);
    assert_eq!(
        told(folder.path(), 0, 5),
        gap(13, &["190..300 never_collected"])
    );
    let mut ledger = open(folder.path());
    commit(&mut ledger, vec![passed(290, 300, Outcome::Complete, 1)]);
    drop(ledger);
    assert_eq!(
        told(folder.path(), 0, 5),
        gap(14, &["190..290 never_collected"])
    );
    set(60);
    assert_eq!(
        told(folder.path(), 0, 2),
        gap(3, &["60..120 never_collected"])
    );
    let mut ledger = open(folder.path());
    hours(&mut ledger, 1..5);
    assert_eq!(told(folder.path(), 0, 5), complete(15));
}

#[test]
fn a_line_that_the_cursor_does_not_know_is_cut_and_one_that_the_file_lacks_is_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = begun(folder.path());
    hours(&mut ledger, 0..3);
    let cursor = OWNER.folder(folder.path()).join("cursor");
    let before = fs::read(&cursor).unwrap();
    hours(&mut ledger, 3..5);
    drop(ledger);
    // As after a crash between the two writes.
    fs::write(&cursor, &before).unwrap();
    assert_eq!(
        told(folder.path(), 0, 4),
        gap(9, &["180..240 never_collected"])
    );
    let mut ledger = open(folder.path());
    assert_eq!(fs::metadata(file(folder.path())).unwrap().len(), 128 * 4);
    hours(&mut ledger, 3..5);
    drop(ledger);
    assert_eq!(told(folder.path(), 0, 5), complete(15));
    let all = fs::read(file(folder.path())).unwrap();
    // Torn at any byte of the last two lines.
    for length in 128 * 4..128 * 6 {
        fs::write(file(folder.path()), &all[..length]).unwrap();
        drop(open(folder.path()));
        let lost = if length >= 128 * 5 {
            vec![]
        } else {
            vec!["180..240 unknown"]
        };
        let records = 15 - 3 * lost.len() as u64;
        assert_eq!(told(folder.path(), 0, 5), gap(records, &lost), "{length}");
    }
}

#[test]
fn what_is_damaged_removed_or_put_back_is_never_complete() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = begun(folder.path());
    hours(&mut ledger, 0..3);
    let path = file(folder.path());
    let early = fs::read(&path).unwrap();
    hours(&mut ledger, 3..6);
    drop(ledger);
    let all = fs::read(&path).unwrap();
    let unknown = |lost: &[&str]| {
        let gaps = lost.iter().map(|hours| format!("{hours} unknown"));
        gaps.collect::<Vec<_>>()
    };
    // Any bit of a line.
    for bit in 0..128 * 8 {
        let mut damaged = all.clone();
        damaged[128 * 2 + bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &damaged).unwrap();
        assert_eq!(
            told(folder.path(), 0, 6),
            (15, unknown(&["60..120"])),
            "{bit}"
        );
    }
    let check = |bytes: Option<&[u8]>, records, lost: &[&str]| {
        match bytes {
            Some(bytes) => fs::write(&path, bytes).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        drop(open(folder.path()));
        assert_eq!(
            told(folder.path(), 0, 6),
            (records, unknown(lost)),
            "{lost:?}"
        );
    };
    check(Some(&all), 18, &[]);
    check(Some(&early), 12, &["180..300"]);
    check(None, 3, &["0..300"]);
    check(Some(&[]), 3, &["0..300"]);
    check(Some(&all[..128]), 3, &["0..300"]);
    let holed = [&all[..256], &[0; 128], &all[384..]].concat();
    check(Some(&holed), 15, &["60..120"]);
    // Of another service, or another state folder.
    let other = AuditFile::of(&OWNER.folder(folder.path()), "other", "key");
    fs::remove_file(&path).unwrap();
    let line = Stretch::gap(
        window(0, 60),
        HourOutcome::Complete,
        (at(70), Origin::Graph),
    );
    other.append(&[line]).unwrap();
    let foreign = fs::read(&path).unwrap();
    check(Some(&foreign), 3, &["0..300"]);
}

#[test]
fn a_disk_that_refuses_leaves_the_hour_to_the_next_commit() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = begun(folder.path());
    hours(&mut ledger, 0..1);
    for refused in 1..3 {
        let hour = i64::from(refused);
        let next = || vec![passed(60 * hour, 60 * hour + 60, Outcome::Complete, 3)];
        crate::ledger::refuse_writes(refused);
        for _ in 0..refused {
            assert!(try_commit(&mut ledger, next()).is_none());
        }
        commit(&mut ledger, next());
    }
    assert_eq!(told(folder.path(), 0, 3), complete(9));
}

#[test]
fn more_than_four_hundred_days_are_kept_and_a_start_reads_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = begun(folder.path());
    hours(&mut ledger, 0..2);
    let cursor = ledger.cursor().unwrap();
    let (file, last) = (
        ledger.audit.clone().unwrap(),
        cursor.audit.as_ref().unwrap().last().cloned(),
    );
    let mut lines = vec![];
    for hour in 2..412 * 24 {
        let mut line = last.clone().unwrap();
        (line.start, line.end) = (at(60 * hour), at(60 * hour + 60));
        lines.push(line);
    }
    file.append(&lines).unwrap();
    let length = fs::metadata(super::tests::file(folder.path()))
        .unwrap()
        .len();
    assert_eq!(length, 128 * (400 * 24 + 1));
    // What is damaged long before the end is no matter to a start.
    let written = fs::File::options()
        .write(true)
        .open(super::tests::file(folder.path()))
        .unwrap();
    written.write_all_at(&[0; 1280], 128).unwrap();
    let end = lines.last().unwrap();
    file.mend(end.end, Some(end)).unwrap();
    assert_eq!(file.read().unwrap().stretches.len(), 400 * 24 - 10);
}

#[test]
fn a_day_without_confirmation_is_a_gap_and_less_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = begun(folder.path());
    let unconfirmed = |ledger: &mut Ledger, hours: std::ops::Range<i64>| {
        for hour in hours {
            commit(
                ledger,
                vec![passed(
                    60 * hour,
                    60 * hour + 60,
                    Outcome::EmptyUnconfirmed,
                    0,
                )],
            );
        }
    };
    unconfirmed(&mut ledger, 0..23);
    let account = Account::of(folder.path(), OWNER).unwrap();
    let summary = account.summary(window(0, 23 * 60), TimeDelta::days(10), at(0));
    assert_eq!((summary.is_complete(), summary.unconfirmed), (true, 23));
    unconfirmed(&mut ledger, 23..24);
    assert_eq!(told(folder.path(), 0, 24), gap(0, &["0..1440 unconfirmed"]));
    assert_eq!(told(folder.path(), 3, 4), gap(0, &["180..240 unconfirmed"]));
}

#[test]
fn a_gap_tells_until_when_it_can_be_had() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = begun(folder.path());
    commit(
        &mut ledger,
        vec![
            passed(0, 60, Outcome::Capped, 2),
            passed(60, 120, Outcome::Unknown, 0),
        ],
    );
    let account = Account::of(folder.path(), OWNER).unwrap();
    let until = |reach: i64| {
        let gaps = account
            .summary(window(0, 120), TimeDelta::minutes(reach), at(200))
            .gaps;
        gaps.into_iter().map(|gap| gap.until).collect::<Vec<_>>()
    };
    assert_eq!(until(300), [None, Some(at(360))]);
    assert_eq!(until(100), [None, Some(at(220))]);
    assert_eq!(until(10), [None, None]);
}

#[test]
fn a_running_collector_knows_the_last_days_from_the_end_of_the_file_and_what_settles() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = begun(folder.path());
    hours(&mut ledger, 0..400);
    commit(
        &mut ledger,
        vec![passed(60 * 400, 60 * 400 + 20, Outcome::Complete, 9)],
    );
    let mut account = ledger.recent();
    let summary = |account: &Account| {
        let range = account.settled_recently().unwrap();
        let whole = account.summary(range, TimeDelta::days(10), at(0));
        let hours = u64::try_from(range.length().num_hours()).unwrap();
        (hours, whole.records, whole.gaps.len())
    };
    let (hours, records, gaps) = summary(&account);
    assert!((13 * 24..=14 * 24).contains(&hours), "{hours}");
    assert_eq!((records, gaps), (3 * hours, 0));
    // A day is one stretch where it is complete.
    assert!(account.stretches.len() <= 15, "{}", account.stretches.len());

    let next = vec![
        passed(60 * 400 + 20, 60 * 401, Outcome::Complete, 1),
        passed(60 * 401, 60 * 402, Outcome::Capped, 7),
    ];
    account.take(&try_commit(&mut ledger, next).unwrap());
    account.moved(at(60 * 402));
    let range = account.settled_recently().unwrap();
    assert_eq!(range.end, at(60 * 402));
    let told = account.summary(range, TimeDelta::days(10), at(0));
    assert_eq!(told.gaps.len(), 1);
    assert_eq!(told.gaps[0].window, window(60 * 401, 60 * 402));
    let again = ledger.recent();
    assert_eq!(again.summary(range, TimeDelta::days(10), at(0)), told);
}
