//! The collector's parts, one by one, on a full page of the drains' rows: bytes and records a second. Arguments are divan's.
//!
//! The page splitter is no public function. Its door is the one that the fuzz target has: `--cfg fuzzing`; without it that part is
//! left out, and says so.

use std::ops::ControlFlow;

use bench::rows::sample;
use chrono::{DateTime, TimeDelta, Utc};
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use exchange_reports_collector::ledger::{
    Commit, Confirmed, Cursor, Entry, Journal, Ledger, LedgerError, Outcome, Owner, StateDirectory,
};
use exchange_reports_collector::record::{Fingerprint, Fingerprinter, Mask, Splice, on_one_line};
use exchange_reports_collector::relay::Envelope;
use exchange_reports_collector::report::Origin;
use exchange_reports_collector::window::Window;
use tempfile::TempDir;

/// Rows of a page, and records of a receipt in its usual size (8 MiB).
const PAGE: usize = 2_000;
const RECEIPT: usize = 12_000;

/// Bytes of a chunk that is written to the relay.
const CHUNK: usize = 48 << 10;

fn main() {
    #[cfg(not(fuzzing))]
    #[expect(clippy::print_stderr, reason = "what is left out is said")]
    {
        eprintln!("the part `page_split` is left out: it needs RUSTFLAGS='--cfg fuzzing'");
    }
    divan::main();
}

/// A page's body becomes rows, with their fingerprints.
#[cfg(fuzzing)]
#[divan::bench]
fn page_split(bencher: Bencher<'_, '_>) {
    use exchange_reports_collector::source::Page;
    let mut body =
        br#"{"odata.metadata":"https://localhost/$metadata#MessageTrace","value":["#.to_vec();
    body.extend(sample(PAGE).join(&b','));
    body.extend_from_slice(br#"],"odata.nextLink":"MessageTrace?$skiptoken=1999"}"#);
    let fingerprinter = Fingerprinter::new(&[7; 16], &["Received"]);
    counted(bencher, PAGE, body.len())
        .with_inputs(|| body.clone())
        .bench_local_values(|body| match Page::parse_fuzzed(body, &fingerprinter) {
            Ok((page, _)) if page.len() == PAGE => page,
            _ => panic!("this is a page of {PAGE} rows"),
        });
}

/// Rows of a list become fingerprints, each read by the layout of the row before: what the page splitter does with them.
#[divan::bench]
fn fingerprints(bencher: Bencher<'_, '_>) {
    let fingerprinter = Fingerprinter::new(&[7; 16], &["Received"]);
    let mut list = sample(PAGE).join(&b',');
    list.push(b']');
    counted(bencher, PAGE, list.len()).bench_local(|| {
        let mut found = 0;
        fingerprinter.rows(black_box(&list), |row| {
            black_box(row.fingerprint);
            found += 1;
            ControlFlow::Continue(())
        });
        assert_eq!(found, PAGE);
    });
}

/// The same with rows by themselves, as where they are of another kind: no layout is known.
#[divan::bench]
fn fingerprint_alone(bencher: Bencher<'_, '_>) {
    let (rows, fingerprinter) = (sample(PAGE), Fingerprinter::new(&[7; 16], &["Received"]));
    counted(bencher, PAGE, bytes(&rows)).bench_local(|| {
        for row in &rows {
            black_box(fingerprinter.fingerprint(black_box(row)));
        }
    });
}

/// Rows get Devo's keys.
#[divan::bench]
fn splice(bencher: Bencher<'_, '_>) {
    let (rows, splice) = (
        sample(PAGE),
        Splice::new(None, &Mask::default(), Utc::now()),
    );
    let mut out = Vec::with_capacity(2 * CHUNK);
    counted(bencher, PAGE, bytes(&rows)).bench_local(|| {
        for row in &rows {
            splice.append(black_box(row), &mut out);
            cut(&mut out);
        }
    });
}

/// Rows become lines: looked at for line breaks, spliced, between prefix and newline.
#[divan::bench]
fn framing(bencher: Bencher<'_, '_>) {
    let (rows, splice) = (
        sample(PAGE),
        Splice::new(None, &Mask::default(), Utc::now()),
    );
    let envelope = Envelope {
        prefix: b"<14>2026-11-22 14:40:52.290 host cloud.office365.reporting.messagetrace: "
            .to_vec(),
        suffix: b"\n".to_vec(),
    };
    let mut out = Vec::with_capacity(2 * CHUNK);
    counted(bencher, PAGE, bytes(&rows)).bench_local(|| {
        for row in &rows {
            out.extend_from_slice(&envelope.prefix);
            splice.append(&on_one_line(black_box(row)), &mut out);
            out.extend_from_slice(&envelope.suffix);
            cut(&mut out);
        }
    });
}

/// The window that begins so many minutes after `begun`.
fn window(begun: DateTime<Utc>, nth: i64) -> Window {
    let start = begun + TimeDelta::minutes(nth);
    let end = start + TimeDelta::minutes(1);
    Window { start, end }
}

/// A receipt is journalled, with its sync to the disk of the temporary folder.
#[divan::bench]
fn ledger_journal(bencher: Bencher<'_, '_>) {
    let (folder, ledger, mut journal) = ledger();
    let Some(mut mark) = ledger.cursor().map(Cursor::mark) else {
        return;
    };
    let fingerprints = prints(RECEIPT);
    let begun = mark.cursor;
    let mut nth = 0;
    counted(bencher, RECEIPT, RECEIPT * 16).bench_local(|| {
        // Each receipt is of a new window, and the cursor follows: the journal is written anew now and then.
        let window = window(begun, nth);
        mark.cursor = window.start;
        nth += 1;
        let confirmed = [Confirmed {
            window,
            origin: Origin::ReportingService,
            fingerprints: fingerprints.clone(),
        }];
        let journalled = journal
            .reserve(mark, RECEIPT, 1)
            .and_then(|()| journal.confirm(mark, &confirmed));
        done(journalled);
    });
    drop(folder);
}

/// A window is committed, with what it saw for the next one's boundary.
#[divan::bench]
fn ledger_commit(bencher: Bencher<'_, '_>) {
    let (folder, mut ledger, _) = ledger();
    let begun = ledger.cursor().map_or_else(Utc::now, |cursor| cursor.at);
    let boundary = prints(PAGE);
    let mut nth = 0;
    counted(bencher, PAGE, PAGE * 16).bench_local(|| {
        let window = window(begun, nth);
        nth += 1;
        let entry = Entry::new(window, Outcome::Complete, RECEIPT as u64);
        done(ledger.commit(Commit {
            at: window.end,
            passed: vec![entry.into()],
            settled: window.end,
            boundary: boundary.clone(),
            told: None,
        }));
    });
    drop(folder);
}

fn counted<'a, 'b>(bencher: Bencher<'a, 'b>, records: usize, bytes: usize) -> Bencher<'a, 'b> {
    bencher
        .counter(ItemsCount::new(records))
        .counter(BytesCount::new(bytes))
}

fn bytes(rows: &[Vec<u8>]) -> usize {
    rows.iter().map(Vec::len).sum()
}

/// As a chunk is taken away once it is complete.
fn cut(out: &mut Vec<u8>) {
    if out.len() >= CHUNK {
        black_box(&out);
        out.clear();
    }
}

fn prints(count: usize) -> Vec<Fingerprint> {
    let fingerprinter = Fingerprinter::new(&[7; 16], &["Received"]);
    sample(count)
        .iter()
        .map(|row| fingerprinter.fingerprint(row))
        .collect()
}

/// A new ledger with its journal; they go with their folder.
fn ledger() -> (TempDir, Ledger, Journal) {
    let owner = Owner {
        input: "bench",
        id: "1",
        service: "parts",
    };
    let opened = tempfile::tempdir()
        .map_err(anyhow::Error::from)
        .and_then(|folder| {
            let state = StateDirectory::open(folder.path())?;
            let (mut ledger, mut recovered) = state.ledger(owner, &["devo_1"])?;
            ledger.begin(
                Cursor::begin(Utc::now(), "tenant".to_owned(), None),
                Utc::now(),
            )?;
            Ok((folder, ledger, recovered.journals.remove(0)))
        });
    opened.unwrap_or_else(|error| panic!("no ledger in the temporary folder: {error:#}"))
}

fn done<T>(result: Result<T, LedgerError>) {
    if let Err(error) = result {
        panic!("the temporary folder's disk refuses: {error}");
    }
}
