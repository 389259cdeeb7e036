//! State that is carried over: what it is at the other folder, and what is refused.

use super::*;
use crate::ledger::{Commit, Confirmed, Cursor, Entry, Ledger, Outcome, Owner, Recovered};
use crate::record::Fingerprint;
use crate::report::{Origin, REPORTS, Report};
use crate::window::Window;

fn report() -> &'static Report {
    &REPORTS[0]
}

fn owner(input: &str) -> Owner<'_> {
    Owner {
        input,
        id: "1",
        service: report().service,
    }
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_770_000_000 + seconds, 0).unwrap()
}

fn open(folder: &Path, input: &str) -> Result<(Ledger, Recovered), LedgerError> {
    StateDirectory::open(folder)?.ledger(owner(input), &["out"])
}

/// State of an input with a cursor, its boundary, and a receipt beyond it.
fn written(folder: &Path, input: &str) {
    let (mut ledger, mut recovered) = open(folder, input).unwrap();
    let begin = Cursor::begin(at(0), "id t".into(), None);
    ledger.begin(begin, at(0)).unwrap();
    let passed = Window {
        start: at(0),
        end: at(10),
    };
    let commit = Commit {
        at: at(10),
        passed: vec![Entry::new(passed, Outcome::Complete, 3).into()],
        settled: at(10),
        boundary: vec![Fingerprint([7; 16])],
        told: None,
    };
    ledger.commit(commit).unwrap();
    let mark = ledger.cursor().unwrap().mark();
    let confirmed = [Confirmed {
        window: Window {
            start: at(10),
            end: at(20),
        },
        origin: Origin::ReportingService,
        fingerprints: vec![Fingerprint([8; 16]), Fingerprint([9; 16])],
    }];
    let journal = &mut recovered.journals[0];
    journal.reserve(mark, 2, 1).unwrap();
    journal.confirm(mark, &confirmed).unwrap();
}

fn export(folder: &Path, to: &Path) -> Manifest {
    let state = StateDirectory::open(folder).unwrap();
    state.export(("in", "1"), to, at(100)).unwrap()
}

fn import(folder: &Path, from: &Path) -> Result<(), LedgerError> {
    let mut export = ExportFile::open(from)?;
    StateDirectory::open(folder)?.import(&mut export, at(101))
}

/// The cursor, what is confirmed beyond it, and what a row's fingerprint is.
fn tells(folder: &Path, input: &str) -> (Cursor, Vec<Vec<Confirmed>>, Fingerprint) {
    let (ledger, recovered) = open(folder, input).unwrap();
    let row = ledger.fingerprinter(report()).fingerprint(br#"{"A":"1"}"#);
    let cursor = ledger.cursor().unwrap().clone();
    (cursor, recovered.confirmed, row)
}

#[test]
fn what_is_carried_over_is_the_same_beside_state_with_another_key() {
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = (folder.path().join("here"), folder.path().join("there"));
    written(&here, "in");
    written(&there, "other");
    let (before, of_other) = (tells(&here, "in"), tells(&there, "other"));
    assert_ne!(before.2, of_other.2, "the keys differ");
    let file = folder.path().join("file");
    export(&here, &file);
    let (_, exported) = (open(&there, "other").unwrap(), open(&here, "in"));
    assert!(matches!(exported, Err(LedgerError::Exported { .. })));
    import(&there, &file).unwrap();
    assert_eq!(tells(&there, "in"), before);
    assert_eq!(tells(&there, "other"), of_other);

    // On from there, and back.
    let back = folder.path().join("back");
    export(&there, &back);
    import(&here, &back).unwrap();
    assert_eq!(tells(&here, "in"), before);
}

#[test]
fn a_service_keeps_its_own_key_when_the_folder_is_removed_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = (folder.path().join("here"), folder.path().join("there"));
    written(&here, "in");
    let file = folder.path().join("file");
    export(&here, &file);
    import(&there, &file).unwrap();
    let row = tells(&there, "in").2;
    let (mut ledger, recovered) = open(&there, "in").unwrap();
    fs::remove_dir_all(&there).unwrap();
    let commit = Commit {
        at: at(20),
        passed: vec![],
        settled: at(20),
        boundary: vec![],
        told: None,
    };
    ledger.commit(commit).unwrap();
    drop((ledger, recovered));
    let after = tells(&there, "in");
    assert_eq!((after.0.at, after.2), (at(20), row));
}

#[test]
fn every_change_of_a_byte_and_every_cut_of_an_export_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = (folder.path().join("here"), folder.path().join("there"));
    written(&here, "in");
    let file = folder.path().join("file");
    export(&here, &file);
    let sound = fs::read(&file).unwrap();
    for place in (0..sound.len()).step_by(7) {
        let mut bytes = sound.clone();
        bytes[place] ^= 4;
        fs::write(&file, &bytes).unwrap();
        assert!(import(&there, &file).is_err(), "byte {place}");
        fs::write(&file, &sound[..place]).unwrap();
        assert!(import(&there, &file).is_err(), "cut at {place}");
    }
    assert!(!there.exists());
}

#[test]
fn an_import_that_the_disk_refuses_leaves_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = (folder.path().join("here"), folder.path().join("there"));
    written(&here, "in");
    written(&there, "in");
    let before = tells(&there, "in");
    let file = folder.path().join("file");
    export(&here, &file);
    // A folder in the place of what is unpacked cannot be removed as a folder is.
    fs::write(there.join(".import.in.1"), "").unwrap();
    assert!(import(&there, &file).is_err());
    assert_eq!(tells(&there, "in"), before);
    fs::remove_file(there.join(".import.in.1")).unwrap();
    import(&there, &file).unwrap();
    assert_ne!(tells(&there, "in").2, before.2);
}

#[test]
fn no_path_of_an_export_leads_out_of_a_services_folder() {
    let folder = tempfile::tempdir().unwrap();
    for path in ["../cursor", "/etc/passwd", "x/cursor", "cursor"] {
        let manifest = Manifest {
            export: String::new(),
            input: "in".into(),
            id: "1".into(),
            at: at(0),
            version: String::new(),
            requests: vec![],
            files: vec![Content {
                path: path.replace("x/", "../x/"),
                length: 0,
            }],
        };
        let file = folder.path().join("file");
        fs::remove_file(&file).ok();
        manifest.write(&[], &file).unwrap();
        let error = ExportFile::open(&file).unwrap_err();
        assert!(matches!(error, LedgerError::NoExport { .. }), "{error}");
        let inner = format!("{}/../../x", report().service);
        assert!(!super::super::export::is_of_a_service(&inner));
    }
}
