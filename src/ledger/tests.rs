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

fn open(folder: &Path) -> Result<Ledger, LedgerError> {
    StateDirectory::open(folder)?.ledger(OWNER, &["a", "b"])
}

/// A state with a committed cursor, carried fingerprints, and three receipts of `a` in the unfinished window.
fn written(folder: &Path) -> PathBuf {
    let mut ledger = open(folder).unwrap();
    ledger
        .commit(Cursor::begin(at(0), "t".into(), None))
        .unwrap();
    let mut next = ledger.cursor().unwrap().clone();
    next.at = at(10);
    next.carried = vec![
        Carried {
            output: "a".into(),
            fingerprints: prints(1..4),
        },
        Carried {
            output: "b".into(),
            fingerprints: prints(1..3),
        },
    ];
    ledger.commit(next).unwrap();
    let mark = ledger.mark(at(20));
    let mut journal = ledger.take_journals().remove(0);
    journal.remember_receipts("relay:443").unwrap();
    for receipt in 0..3 {
        journal.reserve(mark, 5).unwrap();
        journal
            .confirm(mark, &prints(10 + receipt * 5..15 + receipt * 5))
            .unwrap();
    }
    ledger.folder().to_owned()
}

#[test]
fn a_restart_finds_the_cursor_the_unfinished_window_and_what_is_confirmed() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path());
    let mut ledger = open(folder.path()).unwrap();
    assert_eq!(ledger.cursor().unwrap().at, at(10));
    assert_eq!(
        ledger.unfinished(),
        Some(Window {
            start: at(10),
            end: at(20)
        })
    );
    let everything = [prints(1..4), prints(10..25)].concat();
    assert_eq!(ledger.take_confirmed(), [everything, prints(1..3)]);
    let journals = ledger.take_journals();
    assert_eq!(journals[0].receipts_from(), Some("relay:443"));
    assert_eq!(journals[1].receipts_from(), None);
}

#[test]
fn a_commit_voids_the_journals() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path());
    let mut ledger = open(folder.path()).unwrap();
    let mut next = ledger.cursor().unwrap().clone();
    next.at = at(20);
    ledger.commit(next).unwrap();
    drop(ledger);
    let mut ledger = open(folder.path()).unwrap();
    assert_eq!(
        (ledger.cursor().unwrap().at, ledger.unfinished()),
        (at(20), None)
    );
    assert!(ledger.take_confirmed().iter().all(Vec::is_empty));
}

#[test]
fn what_an_earlier_run_has_confirmed_is_counted_by_the_commit() {
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        StateDirectory::open(folder.path())
            .unwrap()
            .ledger(OWNER, &["a"])
            .unwrap()
    };
    let mut ledger = open();
    ledger
        .commit(Cursor::begin(at(0), "t".into(), None))
        .unwrap();
    let mark = ledger.mark(at(20));
    ledger.take_journals()[0]
        .confirm(mark, &prints(0..7))
        .unwrap();
    drop(ledger);
    for (more, expected) in [(3, 10), (2, 12)] {
        let mut ledger = open();
        let mut next = ledger.cursor().unwrap().clone();
        next.records += more;
        ledger.commit(next).unwrap();
        assert_eq!(ledger.cursor().unwrap().records, expected);
    }
}

#[test]
fn a_cursor_that_no_commit_can_follow_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path());
    let mut ledger = open(folder.path()).unwrap();
    ledger.cursor.as_mut().unwrap().generation = u64::MAX - 1;
    let next = ledger.cursor().unwrap().clone();
    ledger.commit(next).unwrap();
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
    let everything = [prints(1..4), prints(10..25)].concat();
    for length in 0..whole.len() {
        fs::write(&journal, &whole[..length]).unwrap();
        match open(folder.path()) {
            Ok(mut ledger) => {
                let confirmed = ledger.take_confirmed().remove(0);
                assert!(
                    everything.starts_with(&confirmed) && (confirmed.len() - 3).is_multiple_of(5),
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
    let everything = [prints(1..4), prints(10..25)].concat();
    for name in ["journal.a", "cursor", "../fingerprint.key"] {
        let path = service.join(name);
        let whole = fs::read(&path).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &bytes).unwrap();
            match open(folder.path()) {
                Ok(mut ledger) => {
                    assert_eq!(name, "journal.a", "bit {bit}");
                    let confirmed = ledger.take_confirmed().remove(0);
                    assert_eq!(
                        *confirmed,
                        everything[..13],
                        "only the last receipt may be taken for a torn one"
                    );
                }
                Err(error) => assert!(!error.may_pass(), "{name}, bit {bit}: {error}"),
            }
        }
        fs::write(&path, &whole).unwrap();
    }
    assert_eq!(open(folder.path()).unwrap().take_confirmed()[0], everything);
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
    assert_eq!(open(folder.path()).unwrap().take_confirmed()[0].len(), 18);
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
fn a_journal_that_has_grown_long_is_begun_anew_and_still_knows_the_relay() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path());
    let mut ledger = open(folder.path()).unwrap();
    let mut journal = ledger.take_journals().remove(0);
    let many = prints(0..200).repeat(400);
    journal.confirm(ledger.mark(at(20)), &many).unwrap();
    let mut next = ledger.cursor().unwrap().clone();
    next.at = at(20);
    ledger.commit(next).unwrap();
    let mark = ledger.mark(at(30));
    assert!(!journal.has_room(mark, 2));
    journal.reserve(mark, 2).unwrap();
    // What is delivered from now on has its room in the file that it will be written to.
    assert!(journal.has_room(mark, 2));
    journal.confirm(mark, &prints(0..2)).unwrap();
    assert!(
        fs::metadata(ledger.folder().join("journal.a"))
            .unwrap()
            .len()
            < 1000
    );
    drop((journal, ledger));
    let mut ledger = open(folder.path()).unwrap();
    assert_eq!(ledger.take_confirmed()[0], prints(0..2));
    assert_eq!(ledger.take_journals()[0].receipts_from(), Some("relay:443"));
}

#[test]
fn a_lock_that_is_held_for_an_instant_is_waited_for_and_one_that_is_kept_is_told() {
    let folder = tempfile::tempdir().unwrap();
    drop(StateDirectory::open(folder.path()).unwrap());
    let looking = File::open(folder.path().join(LOCK)).unwrap();
    looking.lock_shared().unwrap();
    let opened = thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(LOCK_WAIT * 5);
            looking.unlock().unwrap();
        });
        StateDirectory::open(folder.path())
    });
    let _held = opened.unwrap();
    let error = StateDirectory::open(folder.path()).unwrap_err();
    assert!(matches!(error, LedgerError::Locked { .. }), "{error}");
}

#[test]
fn a_lock_whose_file_was_removed_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(LOCK);
    let lock = File::create(&path).unwrap();
    assert!(is_at(&lock, &path));
    fs::remove_file(&path).unwrap();
    assert!(!is_at(&lock, &path));
    File::create(&path).unwrap();
    assert!(!is_at(&lock, &path));
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
