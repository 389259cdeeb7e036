//! State files as a damaged disk may leave them: refused for good, or read as what was written; and never a panic.
//!
//! The first byte chooses a file and how the rest is put into it: as it is, under a checksum that matches, or as changes to
//! a sound file. Changes have to be seen; what lies under a matching checksum may mean anything, but has to stay the same.
#![no_main]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use chrono::{DateTime, Utc};
use exchange_reports_collector::ledger::{
    Commit, Confirmed, Cursor, Entry, Ledger, LedgerError, Outcome, Owner, Recovered, StateDirectory,
};
use exchange_reports_collector::record::Fingerprint;
use exchange_reports_collector::report::Origin;
use exchange_reports_collector::window::Window;
use libfuzzer_sys::{Corpus, fuzz_target};
use tempfile::TempDir;

const OWNER: Owner<'static> = Owner {
    input: "in",
    id: "1",
    service: "svc",
};
const FILES: [&str; 4] = ["../fingerprint.key", "cursor", "journal.a", "journal.b"];
/// Where they are among [`FILES`].
const KEY: usize = 0;
const CURSOR: usize = 1;
const JOURNAL: usize = 2;

/// What the sound state's key is called in cursors and journals: seeds and dictionary hold it.
const KEY_NAME: &str = "d761d406af2a4a5a";

static SOUND: OnceLock<Sound> = OnceLock::new();

/// A state in the middle of a window, as the collector has written it.
struct Sound {
    folder: TempDir,
    files: [Vec<u8>; 4],
}

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((choice, rest)) = data.split_first() else {
        return Corpus::Reject;
    };
    let sound = SOUND.get_or_init(Sound::write);
    let mut files = sound.files.clone();
    match choice % 9 {
        0 => files[KEY] = rest.to_vec(),
        1 => files[CURSOR] = rest.to_vec(),
        2 => files[JOURNAL] = rest.to_vec(),
        3 => files[KEY] = key(rest),
        4 => files[CURSOR] = cursor(rest),
        5 => files[JOURNAL] = journal(&files[JOURNAL][..32], rest),
        6 => change(&mut files[KEY], rest),
        7 => change(&mut files[CURSOR], rest),
        _ => change(&mut files[JOURNAL], rest),
    }
    sound.put(&files);
    match open(sound.folder.path()) {
        Err(error) => assert!(!error.may_pass(), "{error}"),
        Ok(opened) if files == sound.files => sound.compare(&opened, &[15]),
        Ok(opened) => match choice % 9 {
            6 | 7 => panic!("changes are not seen"),
            8 => sound.compare(&opened, &[0, 5, 10]),
            _ => check_consistent(opened, sound.folder.path(), &files),
        },
    }
    Corpus::Keep
});

impl Sound {
    fn write() -> Self {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() {
            TempDir::new_in(memory)
        } else {
            TempDir::new()
        };
        let folder = folder.expect("a temporary folder");
        // Not a random key: what the files are does not change from run to run.
        fs::write(folder.path().join("fingerprint.key"), key(&[7; 16])).expect("a key");
        let (mut ledger, mut recovered) = open(folder.path()).expect("a ledger");
        ledger
            .begin(Cursor::begin(at(0), "tenant".into(), None), at(0))
            .expect("a beginning");
        ledger.commit(commit(0, 10)).expect("a commit");
        let mark = ledger.cursor().expect("a cursor").mark();
        let mut journal = recovered.journals.remove(0);
        for receipt in 0..3 {
            let records = prints(10 + receipt * 5..15 + receipt * 5);
            journal.confirm(mark, &[confirmed(records)]).expect("a frame");
        }
        drop((journal, recovered, ledger));
        let service = folder.path().join("in.1.svc");
        let files = FILES.map(|name| fs::read(service.join(name)).expect("a file"));
        let text = String::from_utf8_lossy(&files[CURSOR]);
        assert!(text.contains(KEY_NAME), "stale seeds: {text}");
        Sound { folder, files }
    }

    fn service(&self) -> PathBuf {
        self.folder.path().join("in.1.svc")
    }

    fn put(&self, files: &[Vec<u8>; 4]) {
        for (name, bytes) in FILES.iter().zip(files) {
            fs::write(self.service().join(name), bytes).expect("a file");
        }
    }

    /// The ledger tells what was written, and of what is beyond the cursor as many records as whole receipts may hold.
    fn compare(&self, (ledger, recovered): &(Ledger, Recovered), receipts: &[usize]) {
        let cursor = ledger.cursor().expect("a cursor");
        assert_eq!(
            (cursor.at, cursor.generation, cursor.records),
            (at(10), 2, 3)
        );
        assert_eq!(cursor.boundary, prints(1..4));
        let known = beyond(&recovered.confirmed[0]);
        assert!(prints(10..25).starts_with(&known));
        assert!(receipts.contains(&known.len()), "{receipts:?}");
        assert!(recovered.confirmed[1].is_empty());
    }
}

/// Whatever it says: it says so again, holds no more than the files, and can be gone on with.
fn check_consistent((ledger, recovered): (Ledger, Recovered), folder: &Path, files: &[Vec<u8>; 4]) {
    let (cursor, known) = (ledger.cursor().cloned(), recovered.confirmed.clone());
    let bytes: usize = files.iter().map(Vec::len).sum();
    let records: usize = known.iter().map(|of_one| beyond(of_one).len()).sum();
    assert!(records * 16 <= bytes);
    drop((ledger, recovered));
    let (mut ledger, mut recovered) = open(folder).expect("what could be read can be read again");
    assert_eq!((&cursor, &known), (&ledger.cursor().cloned(), &recovered.confirmed));

    let Some(cursor) = cursor else {
        return;
    };
    let mark = cursor.mark();
    let mut journal = recovered.journals.remove(0);
    journal.reserve(mark, 2, 1).expect("room");
    journal.confirm(mark, &[confirmed(prints(0..2))]).expect("a frame");
    drop((journal, recovered, ledger));
    let (again, recovered) = open(folder).expect("what was added can be read");
    ledger = again;
    if cursor.at < at(20) {
        assert!(beyond(&recovered.confirmed[0]).ends_with(&prints(0..2)));
    }
    drop(recovered);
    if cursor.generation >= u64::MAX - 1 {
        // Its commit is the last one that there can be: what it writes is refused.
        return;
    }
    let end = cursor.at.max(at(1 << 30));
    let passed = Commit {
        at: end,
        ..commit(0, 1)
    };
    ledger.commit(passed).expect("a commit");
    let committed = ledger.cursor().cloned();
    drop(ledger);
    let (ledger, _recovered) = open(folder).expect("what was committed can be read");
    assert_eq!(committed, ledger.cursor().cloned());
}

fn commit(start: i64, end: i64) -> Commit {
    let window = Window {
        start: at(start),
        end: at(end),
    };
    Commit {
        at: at(end),
        passed: vec![Entry::new(window, Outcome::Complete, 3).into()],
        settled: at(end),
        boundary: prints(1..4),
        told: None,
    }
}

fn confirmed(fingerprints: Vec<Fingerprint>) -> Confirmed {
    Confirmed {
        window: Window {
            start: at(10),
            end: at(20),
        },
        origin: Origin::ReportingService,
        fingerprints,
    }
}

fn beyond(confirmed: &[Confirmed]) -> Vec<Fingerprint> {
    let all = confirmed.iter().flat_map(|of| of.fingerprints.iter());
    all.copied().collect()
}

fn open(folder: &Path) -> Result<(Ledger, Recovered), LedgerError> {
    StateDirectory::open(folder)?.ledger(OWNER, &["a", "b"])
}

/// A key's file.
fn key(secret: &[u8]) -> Vec<u8> {
    let check = crc32fast::hash(secret).to_le_bytes();
    [b"exchange-reports-collector key 1\n", secret, &check].concat()
}

/// A cursor's file with any body.
fn cursor(body: &[u8]) -> Vec<u8> {
    let body = [b"exchange-reports-collector cursor 2\n", body].concat();
    let check = crc32fast::hash(&body).to_le_bytes();
    [&body[..], &check].concat()
}

/// A journal of any frames: a kind and the payload's length before each payload.
fn journal(head: &[u8], mut frames: &[u8]) -> Vec<u8> {
    let mut journal = head.to_vec();
    while let Some(([kind, length], rest)) = frames.split_first_chunk() {
        let (payload, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        let mut frame = [b"frm1", &[*kind, 0, 0, 0][..], &[*length, 0, 0, 0]].concat();
        frame[8] = payload.len() as u8;
        let check = crc32fast::hash(&[&frame[..], payload].concat());
        frame.extend(check.to_le_bytes());
        frame.extend(payload);
        frame.resize(frame.len().next_multiple_of(16), 0);
        journal.extend(frame);
        frames = rest;
    }
    journal
}

/// Changes a file: three bytes each, a place and what is flipped there; behind the end it is cut instead.
fn change(file: &mut Vec<u8>, changes: &[u8]) {
    for &[high, low, flipped] in changes.as_chunks::<3>().0 {
        let place = usize::from(u16::from_be_bytes([high, low]));
        match file.get_mut(place) {
            Some(byte) => *byte ^= flipped,
            None => file.truncate(usize::from(flipped).min(file.len())),
        }
    }
}

fn prints(numbers: std::ops::Range<u8>) -> Vec<Fingerprint> {
    numbers.map(|number| Fingerprint([number; 16])).collect()
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_770_000_000 + seconds, 0).expect("an instant")
}
