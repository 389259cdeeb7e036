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
    Carried, Cursor, Ledger, LedgerError, Owner, StateDirectory,
};
use exchange_reports_collector::record::Fingerprint;
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
        Ok(ledger) if files == sound.files => sound.compare(ledger, &[15]),
        Ok(ledger) => match choice % 9 {
            6 | 7 => panic!("changes are not seen"),
            8 => sound.compare(ledger, &[0, 5, 10]),
            _ => check_consistent(ledger, sound.folder.path(), &files),
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
        let mut ledger = open(folder.path()).expect("a ledger");
        ledger
            .commit(Cursor::begin(at(0), "tenant".into(), None))
            .expect("a commit");
        let mut next = ledger.cursor().expect("a cursor").clone();
        next.at = at(10);
        next.carried = vec![carried("a", 1..4), carried("b", 1..3)];
        ledger.commit(next).expect("a commit");
        let mark = ledger.mark(at(20));
        let mut journal = ledger.take_journals().remove(0);
        for receipt in 0..3 {
            let records = prints(10 + receipt * 5..15 + receipt * 5);
            journal.confirm(mark, &records).expect("a frame");
        }
        drop((journal, ledger));
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

    /// The ledger tells what was written, and of the unfinished window as many records as whole receipts may hold.
    fn compare(&self, mut ledger: Ledger, receipts: &[usize]) {
        let cursor = ledger.cursor().expect("a cursor");
        assert_eq!(
            (cursor.at, cursor.generation, cursor.records),
            (at(10), 2, 0)
        );
        let confirmed = ledger.take_confirmed();
        let everything = [prints(1..4), prints(10..25)].concat();
        assert!(everything.starts_with(&confirmed[0]));
        assert!(receipts.contains(&(confirmed[0].len() - 3)), "{receipts:?}");
        assert_eq!(confirmed[1], prints(1..3));
    }
}

/// Whatever it says: it says so again, holds no more than the files, and can be gone on with.
fn check_consistent(mut ledger: Ledger, folder: &Path, files: &[Vec<u8>; 4]) {
    let (cursor, window) = (ledger.cursor().cloned(), ledger.unfinished());
    let confirmed = ledger.take_confirmed();
    let bytes: usize = files.iter().map(Vec::len).sum();
    assert!(
        confirmed
            .iter()
            .map(|of_one| of_one.len() * 16)
            .sum::<usize>()
            <= bytes
    );
    drop(ledger);
    let mut ledger = open(folder).expect("what could be read can be read again");
    assert_eq!(
        (cursor, window),
        (ledger.cursor().cloned(), ledger.unfinished())
    );
    assert_eq!(confirmed, ledger.take_confirmed());

    let mark = ledger.mark(at(90));
    let mut journal = ledger.take_journals().remove(0);
    journal.reserve(mark, 2).expect("room");
    journal.confirm(mark, &prints(0..2)).expect("a frame");
    drop((journal, ledger));
    let mut ledger = open(folder).expect("what was added can be read");
    assert!(ledger.take_confirmed()[0].ends_with(&prints(0..2)));

    let mut next = ledger
        .cursor()
        .cloned()
        .unwrap_or_else(|| Cursor::begin(at(0), "t".into(), None));
    next.at = next.at.max(at(30));
    next.until = None;
    if next.generation == u64::MAX - 1 {
        // Its commit is the last one that there can be: what it writes is refused.
        return;
    }
    ledger.commit(next).expect("a commit");
    let committed = ledger.cursor().cloned();
    drop(ledger);
    let mut ledger = open(folder).expect("what was committed can be read");
    assert_eq!(
        (committed, None),
        (ledger.cursor().cloned(), ledger.unfinished())
    );
    assert!(ledger.take_confirmed().iter().all(Vec::is_empty));
}

fn open(folder: &Path) -> Result<Ledger, LedgerError> {
    StateDirectory::open(folder)?.ledger(OWNER, &["a", "b"])
}

/// A key's file.
fn key(secret: &[u8]) -> Vec<u8> {
    let check = crc32fast::hash(secret).to_le_bytes();
    [b"exchange-reports-collector key 1\n", secret, &check].concat()
}

/// A cursor's file with any body.
fn cursor(body: &[u8]) -> Vec<u8> {
    let body = [b"exchange-reports-collector cursor 1\n", body].concat();
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

fn carried(output: &str, numbers: std::ops::Range<u8>) -> Carried {
    Carried {
        output: output.to_owned(),
        fingerprints: prints(numbers),
    }
}

fn prints(numbers: std::ops::Range<u8>) -> Vec<Fingerprint> {
    numbers.map(|number| Fingerprint([number; 16])).collect()
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_770_000_000 + seconds, 0).expect("an instant")
}
