use proptest::prelude::*;

use super::super::{Owner, StateDirectory, refuse_writes};
use super::*;

const PASS_DELAY: Duration = Duration::from_mins(5);

const TRACE: &str = "office365_reporting_MessageTrace_service";

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_770_000_000 / 3_600 * 3_600 + second, 0).unwrap()
}

fn window(start: i64, end: i64) -> Window {
    Window {
        start: at(start),
        end: at(end),
    }
}

/// The whole of a row, and what of it is filed for message traces.
fn print(number: u64) -> Fingerprint {
    let mut bytes = [7; 16];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    Fingerprint(bytes)
}

fn confirmed(window: Window, numbers: std::ops::Range<u64>) -> Confirmed {
    Confirmed {
        window,
        origin: Origin::Graph,
        fingerprints: numbers.map(print).collect(),
    }
}

fn open(state: &std::path::Path, epoch: u64) -> Delivered {
    let state = StateDirectory::open(state).unwrap();
    let owner = Owner {
        input: "in",
        id: "1",
        service: TRACE,
    };
    let (ledger, _) = state.ledger(owner, &["a"]).unwrap();
    let delivered = ledger.delivered(Report::by_service(TRACE).unwrap());
    let delivered = delivered.unwrap();
    delivered.void_before(epoch);
    delivered
}

/// What `output` has of `window`, by number.
fn known(delivered: &Delivered, output: &str, window: Window) -> Vec<u64> {
    let slack = TimeDelta::seconds(1);
    let mut all = delivered.touching(&[output.to_owned()], window, None, slack);
    let all = all.remove(0);
    let numbers = all.iter().flat_map(|of| &of.fingerprints);
    numbers.map(|print| print.halves().0).collect()
}

fn file(delivered: &mut Filing, confirmed: &[Confirmed]) {
    let records = confirmed.iter().map(|of| of.fingerprints.len()).sum();
    delivered.reserve(records, confirmed.len()).unwrap();
    assert!(delivered.has_room(records, confirmed.len()));
    delivered.confirm(confirmed).unwrap();
}

#[test]
fn what_is_filed_is_there_after_a_restart_by_output_and_by_window() {
    let state = tempfile::tempdir().unwrap();
    let delivered = open(state.path(), 1);
    assert!(delivered.is_empty());
    let (mut a, mut b) = (
        delivered.filing("a", PASS_DELAY),
        delivered.filing("b", PASS_DELAY),
    );
    let both = [
        confirmed(window(0, 60), 0..3),
        confirmed(window(60, 90), 3..5),
    ];
    file(&mut a, &both);
    file(&mut b, &[confirmed(window(0, 60), 0..2)]);
    drop((a, b));
    let mut delivered = Some(delivered);
    for _ in 0..2 {
        // The second time from the files.
        let delivered = delivered.take().unwrap_or_else(|| open(state.path(), 1));
        assert_eq!(known(&delivered, "a", window(0, 60)), [0, 1, 2, 3, 4]);
        assert_eq!(known(&delivered, "a", window(0, 58)), [0, 1, 2]);
        assert_eq!(known(&delivered, "a", window(62, 70)), [3, 4]);
        assert_eq!(known(&delivered, "b", window(0, 90)), [0, 1]);
        assert_eq!(known(&delivered, "c", window(0, 90)), [0; 0]);
        let from = Some(at(1));
        let slack = TimeDelta::zero();
        let rest = delivered.touching(&["a".to_owned()], window(0, 90), from, slack);
        assert_eq!(rest[0].len(), 1, "only what begins later");
        delivered.void_before(2);
        assert!(delivered.is_empty(), "another epoch begins with nothing");
        delivered.void_before(1);
    }
}

#[test]
fn files_go_when_the_cursor_has_passed_them_and_not_before() {
    let state = tempfile::tempdir().unwrap();
    let delivered = open(state.path(), 1);
    let mut filing = delivered.filing("a", PASS_DELAY);
    for hour in 0..3 {
        let hour = 3_600 * hour;
        file(&mut filing, &[confirmed(window(hour, hour + 60), 0..3)]);
        // The next of another hour begins another file.
        file(
            &mut filing,
            &[confirmed(window(hour + 3_500, hour + 3_600), 3..4)],
        );
        file(
            &mut filing,
            &[confirmed(window(hour + 3_600, hour + 3_601), 4..5)],
        );
    }
    let count = || {
        fs::read_dir(state.path().join(format!("in.1.{TRACE}/early")))
            .unwrap()
            .count()
    };
    assert_eq!(count(), 3);
    delivered.remove_before(at(3_600));
    assert_eq!(count(), 3);
    assert!(!delivered.has_passed(at(3_600)));
    assert!(delivered.has_passed(at(4_000)));
    delivered.remove_before(at(4_000));
    assert_eq!(count(), 2);
    delivered.remove_before(at(40_000));
    assert_eq!(count(), 1, "the one that is being written stays");
    file(&mut filing, &[confirmed(window(3, 4), 9..10)]);
    assert_eq!(known(&delivered, "a", window(3, 4)), [9]);
    drop(filing);
    delivered.remove_before(at(40_000));
    assert_eq!(count(), 0);
}

#[test]
fn a_record_takes_eight_bytes_and_only_what_is_asked_for_is_read() {
    let state = tempfile::tempdir().unwrap();
    let delivered = open(state.path(), 1);
    let mut filing = delivered.filing("a", PASS_DELAY);
    for minute in 0..60 {
        let of = window(60 * minute, 60 * minute + 60);
        file(&mut filing, &[confirmed(of, 0..2_000)]);
    }
    drop(filing);
    let entries = fs::read_dir(state.path().join(format!("in.1.{TRACE}/early"))).unwrap();
    let bytes = entries
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum::<u64>();
    assert!(bytes < 9 * 60 * 2_000, "{bytes}");
    let slack = TimeDelta::seconds(1);
    let touching = delivered.touching(&["a".to_owned()], window(70, 100), None, slack);
    assert_eq!(touching[0].len(), 1);
}

#[test]
fn a_disk_that_refuses_leaves_what_there_is_and_the_call_may_be_repeated() {
    let state = tempfile::tempdir().unwrap();
    let delivered = open(state.path(), 1);
    let mut filing = delivered.filing("a", PASS_DELAY);
    refuse_writes(1);
    assert!(filing.reserve(3, 1).is_err());
    file(&mut filing, &[confirmed(window(0, 60), 0..3)]);
    refuse_writes(1);
    let more = [confirmed(window(60, 90), 3..5)];
    assert!(filing.confirm(&more).is_err());
    assert_eq!(known(&delivered, "a", window(0, 90)), [0, 1, 2]);
    filing.confirm(&more).unwrap();
    // A folder that has gone is made again.
    fs::remove_dir_all(state.path().join(format!("in.1.{TRACE}/early"))).unwrap();
    assert_eq!(known(&delivered, "a", window(0, 90)), [0; 0]);
    file(&mut filing, &[confirmed(window(60, 90), 5..6)]);
    drop((filing, delivered));
    assert_eq!(known(&open(state.path(), 1), "a", window(0, 90)), [5]);
}

#[test]
fn a_frontier_that_is_damaged_is_found_anew() {
    let state = tempfile::tempdir().unwrap();
    let directory = StateDirectory::open(state.path()).unwrap();
    let owner = Owner {
        input: "in",
        id: "1",
        service: TRACE,
    };
    let (ledger, _) = directory.ledger(owner, &["a"]).unwrap();
    let pass = || ledger.of_pass(std::time::Duration::from_mins(5)).unwrap();
    assert_eq!(pass().cursor(), None);
    let mut first = pass();
    let begun = super::super::Cursor::begin(at(0), "t".into(), None);
    first.begin(begun, at(0)).unwrap();
    assert_eq!(pass().cursor().unwrap().at, at(0));
    fs::write(first.folder().join("cursor"), "not a cursor").unwrap();
    assert_eq!(pass().cursor(), None);
}

/// The bytes of a file with these deliveries, and how long it was after each.
fn written(deliveries: &[Vec<u8>]) -> (Vec<u8>, Vec<usize>) {
    let (mut bytes, mut lengths) = (HEAD.to_vec(), vec![HEAD.len()]);
    for (nth, counts) in (0_i64..).zip(deliveries) {
        for count in counts {
            let numbers = 0..u64::from(*count);
            let payload: Vec<u8> = numbers
                .flat_map(|number| print(number).0[..8].to_vec())
                .collect();
            let frame = Frame {
                window: window(60 * nth, 60 * nth + 60),
                epoch: 1,
                at: (bytes.len() + FRAME_HEAD) as u64,
                count: u32::from(*count),
                check: crc32fast::hash(&payload),
                delay: 300,
            };
            bytes.extend(head(&frame, 8));
            bytes.extend(payload);
        }
        lengths.push(bytes.len());
    }
    (bytes, lengths)
}

proptest! {
    #[test]
    fn what_a_kill_at_any_byte_leaves_is_a_beginning_in_order(
        deliveries in prop::collection::vec(prop::collection::vec(0_u8..40, 1..4), 1..6),
        cut in 0.0..1.0,
        zeros in 0_usize..200,
    ) {
        let (bytes, lengths) = written(&deliveries);
        let (all, _) = frames(&bytes, 8);
        prop_assert_eq!(all.len(), deliveries.iter().map(Vec::len).sum::<usize>());
        #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss, reason = "a share of a small file")]
        let cut = (bytes.len() as f64 * cut) as usize;
        let mut torn = bytes[..cut].to_vec();
        torn.resize(cut + zeros, 0);
        let (left, damaged) = frames(&torn, 8);
        prop_assert_eq!(&left[..], &all[..left.len()]);
        // What was synced before the write that was torn is all there.
        let whole = lengths.iter().filter(|length| **length <= cut).count();
        let synced: usize = deliveries[..whole.saturating_sub(1)].iter().map(Vec::len).sum();
        prop_assert!(left.len() >= synced);
        prop_assert!(damaged <= torn.len());
    }

    #[test]
    fn a_byte_that_has_changed_never_adds_a_record(
        deliveries in prop::collection::vec(prop::collection::vec(1_u8..40, 1..4), 1..6),
        place in 0.0..1.0,
        change in 1_u8..=255,
    ) {
        let (mut bytes, _) = written(&deliveries);
        let (all, _) = frames(&bytes, 8);
        #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss, reason = "a share of a small file")]
        let place = (bytes.len() as f64 * place) as usize;
        bytes[place] ^= change;
        let (left, damaged) = frames(&bytes, 8);
        prop_assert!(left.iter().all(|frame| all.contains(frame)));
        prop_assert!(damaged > 0);
        prop_assert!(place < HEAD.len() || left.len() + 1 == all.len());
    }
}
