//! What the ledger keeps over restarts, crashes and damage.

use std::fs::OpenOptions;
use std::io::Write;

use super::*;

const OWNER: Owner<'static> = Owner {
    input: "in",
    id: "1",
    service: "svc",
};

fn prints(numbers: std::ops::Range<u8>) -> Vec<Fingerprint> {
    numbers.map(|number| Fingerprint([number; 16])).collect()
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_770_000_000 + seconds, 0).unwrap()
}

fn open(folder: &Path) -> Result<(Ledger, Recovered), LedgerError> {
    StateDirectory::open(folder)?.ledger(OWNER, &["a", "b"])
}

fn window(start: i64, end: i64) -> Window {
    Window {
        start: at(start),
        end: at(end),
    }
}

fn commit(ledger: &mut Ledger, end: i64, records: u64) {
    let cursor = ledger.cursor().unwrap().at;
    let passed = Window {
        start: cursor,
        end: at(end),
    };
    let commit = Commit {
        at: at(end),
        passed: vec![Entry::new(passed, Outcome::Complete, records).into()],
        settled: at(end),
        told: None,
        boundary: prints(1..4),
    };
    ledger.commit(commit).unwrap();
}

fn confirm(journal: &mut Journal, mark: Mark, window: Window, records: std::ops::Range<u8>) {
    let fingerprints = prints(records);
    let confirmed = [Confirmed {
        window,
        origin: Origin::ReportingService,
        fingerprints,
    }];
    journal.reserve(mark, 5, 1).unwrap();
    journal.confirm(mark, &confirmed).unwrap();
}

/// What `a` has confirmed beyond the cursor.
fn confirmed_by_a(folder: &Path) -> Vec<Fingerprint> {
    let (_, recovered) = open(folder).unwrap();
    let of_a = recovered.confirmed[0].iter();
    of_a.flat_map(|confirmed| confirmed.fingerprints.clone())
        .collect()
}

/// A state with a committed cursor, rows at its boundary, and three receipts of `a` beyond it, the third of another window.
fn written(folder: &Path) -> PathBuf {
    let (mut ledger, mut recovered) = open(folder).unwrap();
    let mut first = Cursor::begin(at(0), "t".into(), None);
    first.outputs = vec!["a".into(), "b".into()];
    ledger.begin(first, at(0)).unwrap();
    commit(&mut ledger, 10, 3);
    let mark = ledger.cursor().unwrap().mark();
    let journal = &mut recovered.journals[0];
    confirm(journal, mark, window(10, 20), 10..15);
    confirm(journal, mark, window(10, 20), 15..20);
    confirm(journal, mark, window(20, 30), 20..25);
    ledger.folder().to_owned()
}

#[test]
fn a_restart_finds_the_cursor_its_boundary_and_what_is_confirmed_beyond_it() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path());
    let (ledger, recovered) = open(folder.path()).unwrap();
    let cursor = ledger.cursor().unwrap();
    assert_eq!((cursor.at, &cursor.boundary), (at(10), &prints(1..4)));
    let whole = Entry::new(window(0, 10), Outcome::Complete, 3);
    assert_eq!((cursor.records, &cursor.entries), (3, &vec![whole]));
    let of_a = &recovered.confirmed[0];
    let windows: Vec<_> = of_a.iter().map(|confirmed| confirmed.window).collect();
    assert_eq!(windows, [window(10, 20), window(20, 30)]);
    assert_eq!(of_a[0].fingerprints, prints(10..20));
    assert!(recovered.confirmed[1].is_empty());
    let reading = Reading::of(folder.path(), OWNER).unwrap();
    assert_eq!(reading.unfinished, Some(window(10, 30)));
    assert_eq!(reading.confirmed, [("a".into(), 15), ("b".into(), 0)]);
}

#[test]
fn a_commit_voids_what_journals_hold_of_windows_before_it_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path());
    let (mut ledger, _) = open(folder.path()).unwrap();
    commit(&mut ledger, 20, 10);
    drop(ledger);
    assert_eq!(confirmed_by_a(folder.path()), prints(20..25));
    let (mut ledger, _) = open(folder.path()).unwrap();
    commit(&mut ledger, 30, 5);
    drop(ledger);
    assert!(confirmed_by_a(folder.path()).is_empty());
    let reading = Reading::of(folder.path(), OWNER).unwrap();
    assert_eq!(reading.unfinished, None);
}

#[test]
fn the_journal_tells_while_it_is_open_what_it_would_tell_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path());
    let (ledger, mut recovered) = open(folder.path()).unwrap();
    let mark = ledger.cursor().unwrap().mark();
    let again = recovered.journals[0].confirmed_beyond(mark).unwrap();
    assert_eq!(again, recovered.confirmed[0]);
}

#[test]
fn a_cursor_that_is_set_by_hand_voids_the_journals() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path());
    let state = StateDirectory::open(folder.path()).unwrap();
    assert_eq!(
        state.set_cursor(OWNER, at(5), at(10)).unwrap(),
        Some(at(10))
    );
    drop(state);
    assert!(confirmed_by_a(folder.path()).is_empty());
    let (ledger, _) = open(folder.path()).unwrap();
    let cursor = ledger.cursor().unwrap();
    assert_eq!((cursor.at, cursor.boundary.len()), (at(5), 0));
    assert!(
        cursor.entries.is_empty(),
        "what was said of it is said again"
    );
}

#[test]
fn other_outputs_and_another_name_for_the_tenant_are_noted() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path());
    let (mut ledger, _) = open(folder.path()).unwrap();
    ledger
        .note(&["a", "b"], "t", Origin::ReportingService)
        .unwrap();
    assert_eq!(ledger.cursor().unwrap().entries.len(), 1);
    ledger
        .note(&["a", "c"], "u", Origin::ReportingService)
        .unwrap();
    let cursor = ledger.cursor().unwrap();
    let outcome = Outcome::Outputs {
        added: vec!["c".into()],
        removed: vec!["b".into()],
    };
    let entry = Entry::new(window(10, 10), outcome, 0);
    assert_eq!((cursor.entries.last(), cursor.at), (Some(&entry), at(10)));
    assert_eq!(cursor.tenant, "u");
}

#[test]
fn a_cursor_never_moves_back_by_a_commit() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path());
    let (mut ledger, _) = open(folder.path()).unwrap();
    commit(&mut ledger, 5, 0);
    assert_eq!(ledger.cursor().unwrap().at, at(10));
}

#[test]
fn a_cursor_that_no_commit_can_follow_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path());
    let (mut ledger, _) = open(folder.path()).unwrap();
    ledger.cursor.as_mut().unwrap().generation = u64::MAX - 1;
    commit(&mut ledger, 20, 0);
    drop(ledger);
    let error = open(folder.path()).unwrap_err();
    assert!(matches!(error, LedgerError::Damaged { .. }), "{error}");
    assert!(!error.may_pass());
}

#[test]
fn a_second_collector_on_the_same_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _first = StateDirectory::open(folder.path()).unwrap();
    let second = StateDirectory::open(folder.path());
    assert!(
        matches!(second, Err(LedgerError::Locked { .. })),
        "{second:?}"
    );
}

#[test]
fn a_journal_cut_at_any_byte_loses_at_most_its_tail_or_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let journal = written(folder.path()).join("journal.a");
    let whole = fs::read(&journal).unwrap();
    let everything = prints(10..25);
    for length in 0..whole.len() {
        fs::write(&journal, &whole[..length]).unwrap();
        match open(folder.path()).map(drop) {
            Ok(()) => {
                let confirmed = confirmed_by_a(folder.path());
                assert!(
                    everything.starts_with(&confirmed) && confirmed.len().is_multiple_of(5),
                    "{length}"
                );
                assert!(
                    fs::metadata(&journal).unwrap().len() <= length as u64,
                    "the torn tail is cut"
                );
            }
            Err(error) => assert!(
                length < 32 && matches!(error, LedgerError::Damaged { .. }),
                "{length}: {error}"
            ),
        }
    }
}

#[test]
fn a_flipped_bit_is_never_read_as_something_else() {
    let folder = tempfile::tempdir().unwrap();
    let service = written(folder.path());
    let everything = prints(10..25);
    for name in ["journal.a", "cursor", "../fingerprint.key"] {
        let path = service.join(name);
        let whole = fs::read(&path).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &bytes).unwrap();
            match open(folder.path()).map(drop) {
                Ok(()) => {
                    assert_eq!(name, "journal.a", "bit {bit}");
                    assert_eq!(
                        confirmed_by_a(folder.path()),
                        everything[..10],
                        "only the last receipt may be taken for a torn one"
                    );
                }
                Err(error) => assert!(!error.may_pass(), "{name}, bit {bit}: {error}"),
            }
        }
        fs::write(&path, &whole).unwrap();
    }
    assert_eq!(confirmed_by_a(folder.path()), everything);
}

#[test]
fn zeros_behind_the_journal_are_reserved_space() {
    let folder = tempfile::tempdir().unwrap();
    let journal = written(folder.path()).join("journal.a");
    OpenOptions::new()
        .append(true)
        .open(&journal)
        .unwrap()
        .write_all(&[0; 1000])
        .unwrap();
    assert_eq!(confirmed_by_a(folder.path()).len(), 15);
}

#[test]
fn a_file_without_its_counterpart_stops_the_service() {
    for missing in ["cursor", "../fingerprint.key"] {
        let folder = tempfile::tempdir().unwrap();
        let service = written(folder.path());
        fs::remove_file(service.join(missing)).unwrap();
        let error = open(folder.path()).unwrap_err();
        assert!(!error.may_pass(), "{error}");
        let message = error.to_string();
        assert!(
            message.contains("from a backup") && message.contains("in.1.svc"),
            "{message}"
        );
    }
}

#[test]
fn a_journal_that_has_grown_long_is_written_anew_with_what_counts() {
    let folder = tempfile::tempdir().unwrap();
    let journal_file = written(folder.path()).join("journal.a");
    let (mut ledger, mut recovered) = open(folder.path()).unwrap();
    let mut journal = recovered.journals.remove(0);
    let many = [Confirmed {
        window: window(10, 20),
        origin: Origin::ReportingService,
        fingerprints: prints(0..200).repeat(400),
    }];
    let mark = ledger.cursor().unwrap().mark();
    journal.confirm(mark, &many).unwrap();
    commit(&mut ledger, 20, 80_010);
    let mark = ledger.cursor().unwrap().mark();
    assert!(!journal.has_room(2, 1));
    journal.reserve(mark, 2, 1).unwrap();
    // What is delivered from now on has its room in the file that it will be written to.
    assert!(journal.has_room(2, 1));
    confirm(&mut journal, mark, window(30, 40), 0..2);
    assert!(fs::metadata(&journal_file).unwrap().len() < 2000);
    drop((journal, ledger, recovered));
    let beyond = [prints(20..25), prints(0..2)].concat();
    assert_eq!(confirmed_by_a(folder.path()), beyond);
}

#[test]
fn a_folder_that_is_removed_meanwhile_is_taken_up_again_with_all_that_is_committed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let state = StateDirectory::open(&path).unwrap();
    let (mut ledger, recovered) = state.ledger(OWNER, &["a"]).unwrap();
    ledger
        .begin(Cursor::begin(at(0), "t".into(), None), at(0))
        .unwrap();
    fs::remove_dir_all(&path).unwrap();
    commit(&mut ledger, 60, 1);
    assert!(matches!(
        StateDirectory::open(&path),
        Err(LedgerError::Locked { .. })
    ));
    drop((ledger, recovered, state));
    let (ledger, _) = open(&path).unwrap();
    assert_eq!(ledger.cursor().unwrap().at, at(60));
}

#[test]
fn a_journal_follows_its_cursor_to_a_folder_that_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let state = StateDirectory::open(&path).unwrap();
    let (mut ledger, recovered) = state.ledger(OWNER, &["a"]).unwrap();
    let [mut journal] = <[Journal; 1]>::try_from(recovered.journals).unwrap();
    ledger
        .begin(Cursor::begin(at(0), "t".into(), None), at(0))
        .unwrap();
    let mark = ledger.cursor().unwrap().mark();
    confirm(&mut journal, mark, window(0, 60), 0..2);
    for (replaced, seen) in [(false, 10), (true, 20)] {
        if replaced {
            fs::rename(&path, folder.path().join("aside")).unwrap();
            fs::create_dir(&path).unwrap();
        } else {
            fs::remove_dir_all(&path).unwrap();
        }
        // Without a cursor beside it a journal would be damage.
        confirm(&mut journal, mark, window(60, 120), seen..seen + 1);
        assert!(!journal_of_a(&path).exists());
        ledger
            .note(&["a"], &format!("t{seen}"), Origin::ReportingService)
            .unwrap();
        confirm(&mut journal, mark, window(60, 120), seen + 1..seen + 2);
        assert!(journal_of_a(&path).exists());
    }
    drop((ledger, journal, state));
    let expected = [prints(0..2), prints(10..12), prints(20..22)].concat();
    assert_eq!(confirmed_by_a(&path), expected);
}

#[test]
fn a_journal_that_is_replaced_by_a_link_is_not_written_through_it() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    let state = folder.path().join("state");
    let (mut ledger, recovered) = open(&state).unwrap();
    ledger
        .begin(Cursor::begin(at(0), "t".into(), None), at(0))
        .unwrap();
    let journal = journal_of_a(&state);
    let mut open_journal = recovered.journals.into_iter().next().unwrap();
    fs::remove_file(&journal).unwrap();
    std::os::unix::fs::symlink(&secret, &journal).unwrap();
    let mark = ledger.cursor().unwrap().mark();
    confirm(&mut open_journal, mark, window(0, 60), 0..2);
    assert_eq!(fs::read(&secret).unwrap(), b"secret");
    drop((ledger, open_journal));
    assert_eq!(confirmed_by_a(&state), prints(0..2));

    fs::remove_file(&journal).unwrap();
    std::os::unix::fs::symlink(&secret, &journal).unwrap();
    let error = open(&state).unwrap_err();
    assert!(error.action().unwrap().contains("link"), "{error:?}");
}

fn journal_of_a(path: &Path) -> PathBuf {
    OWNER.folder(path).join("journal.a")
}

#[test]
fn what_the_system_refuses_always_has_an_action() {
    let check = |kind: std::io::ErrorKind, expected: &str| {
        let error = LedgerError::io("write", Path::new("state/file"), kind.into());
        assert_eq!(error.action(), Some(expected));
    };
    check(
        std::io::ErrorKind::StorageFull,
        "make room on the disk of the state folder",
    );
    check(
        std::io::ErrorKind::Other,
        "look into why the system refuses it, or name another folder in globals.persistence.config.directory_name",
    );
    let directory = PathBuf::from("state");
    assert_eq!(LedgerError::Locked { directory }.action(), None);
}
