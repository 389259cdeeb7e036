//! gzip on the way to a relay: as the original's three settings say, and nothing is lost or repeated for it.

use testkit::collector::{Config, Output};
use testkit::relay::{Behaviour, Connection, End};
use testkit::report::Report;

use crate::setting::{Setting, log};

const THRESHOLD: &str = "devo_sender_threshold_for_using_gzip_in_transport_layer";
const LEVEL: &str = "devo_sender_compression_level";
const MEMBER: &str = "devo_sender_compression_buffer_in_bytes";

/// Some 5.5 MB of lines, in three windows.
const ROWS: u32 = 9_000;

/// Collects message traces of four hours, and a few rows of another report, under these `globals`, into a relay that misbehaves as `prepare`
/// says; the connections that brought lines.
async fn collect(globals: &[(&str, &str)], prepare: impl FnOnce(&Setting)) -> Vec<Connection> {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(30), setting.ago(25));
    setting.rows(Report::MessageTrace, from, to, ROWS);
    setting.rows(Report::DlpDetail, from, to, 20);
    prepare(&setting);
    let input = setting
        .input()
        .service_from(Report::MessageTrace, from, &[])
        .service_from(Report::DlpDetail, from, &[]);
    let mut config = Config::new(input, Output::relay(setting.relay.port()));
    for (key, value) in globals {
        config
            .globals
            .push(((*key).to_owned(), (*value).to_owned()));
    }
    setting.folder.configure(&config).unwrap();
    let mut collector = setting.start();
    setting
        .until_committed(&collector, &[Report::DlpDetail], setting.ago(27))
        .await;
    setting.stop_at(&mut collector, to).await;
    let expected = setting.existing(Report::MessageTrace, from, to);
    let read = setting.relay.records();
    assert!(read.total_of(Report::DlpDetail) > 0);
    let read = read.only(Report::MessageTrace);
    let connections = setting.relay.connections();
    let unconfirmed = connections
        .iter()
        .filter(|one| one.end != End::ClientClosed);
    let bound = unconfirmed.map(|one| one.lines).sum();
    assert_eq!(setting.relay.violations(), Vec::<String>::new());
    let verdict = crate::figures::compared(&expected, &read, bound);
    assert!(
        verdict.missing == 0 && verdict.unknown == 0 && verdict.twice <= bound,
        "{verdict}\n{}",
        log(&collector)
    );
    connections
        .into_iter()
        .filter(|one| one.lines > 0)
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_negative_threshold_is_always_and_members_hold_whole_lines_of_any_size() {
    for (level, member) in [("6", "51200"), ("0", "1"), ("9", "3000000")] {
        let globals = [(THRESHOLD, "-1.0"), (LEVEL, level), (MEMBER, member)];
        let connections = collect(&globals, |_| {}).await;
        assert!(connections.iter().all(|one| one.gzip), "{connections:?}");
        let in_order = |one: &Connection| one.end == End::ClientClosed && one.partial == 0;
        assert!(connections.iter().all(in_order), "{connections:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_gzipped_unless_told() {
    for globals in [&[][..], &[(THRESHOLD, "1.1"), (LEVEL, "9")]] {
        let connections = collect(globals, |_| {}).await;
        assert!(connections.iter().all(|one| !one.gzip), "{connections:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_between_a_connection_is_gzipped_where_much_waits_for_it() {
    // A window of message traces is about 150 KiB, more than this share of a full delivery, and the few rows of the other report are not.
    let connections = collect(&[(THRESHOLD, "0.01")], |_| {}).await;
    let (many, few): (Vec<_>, Vec<_>) = connections.iter().partition(|one| one.lines > 1_000);
    assert!(
        !many.is_empty() && many.iter().all(|one| one.gzip),
        "{connections:?}"
    );
    let few: Vec<_> = few.iter().filter(|one| one.lines <= 20).collect();
    assert!(
        !few.is_empty() && few.iter().all(|one| !one.gzip),
        "{connections:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resets_in_the_middle_of_members_lose_nothing() {
    let connections = collect(&[(THRESHOLD, "-1")], |setting| {
        setting.relay.next(Behaviour::Normal);
        setting.relay.next_times(4, Behaviour::ResetAfter(20_011));
    })
    .await;
    let reset = connections.iter().filter(|one| one.end == End::RelayClosed);
    assert!(reset.count() >= 2, "{connections:?}");
    assert!(connections.iter().all(|one| one.gzip), "{connections:?}");
}
