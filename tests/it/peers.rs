//! Real relays: rsyslog, syslog-ng, stunnel, `HAProxy` and OpenSSL give receipts, the counts agree, and a restart in the middle loses nothing.

use std::time::{Duration, Instant};

use testkit::collector::{Collector, Output};
use testkit::peer::{Peer, Program};
use testkit::records::Verdict;
use testkit::report::Report;

use crate::figures::compared;
use crate::setting::{PATIENCE, Setting, installed, log, stop};

/// Some 12 MB of lines, in a delivery and more for each hour.
const ROWS: u32 = 20_000;

/// How long a peer is stopped before it is killed: longer than it takes to fill what lies between us.
const PAUSE: Duration = Duration::from_millis(200);

/// A collector that brings message traces of four hours to a peer.
struct Run {
    setting: Setting,
    peer: Peer,
    collector: Collector,
}

impl Run {
    async fn start(program: Program) -> Run {
        let setting = Setting::new().await;
        let peer = Peer::start(program, &setting.pki).unwrap();
        let (from, to) = (setting.ago(30), setting.ago(26));
        setting.rows(Report::MessageTrace, from, to, ROWS);
        let input = setting
            .input()
            .service_from(Report::MessageTrace, from, &[]);
        setting.configure_with(
            input,
            Output::relay(peer.port()).option("receipt", "required"),
        );
        let collector = setting.start();
        Run {
            setting,
            peer,
            collector,
        }
    }

    /// Waits until so many tenths of all have come out of the peer.
    async fn until_tenths(&self, tenths: u64) {
        const LINE_LEAST: u64 = 500;
        let begun = Instant::now();
        while self.peer.bytes().unwrap() < u64::from(ROWS) * LINE_LEAST * tenths / 10 {
            assert!(begun.elapsed() < PATIENCE, "{}", self.told());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until all is confirmed, stops the collector, and compares.
    async fn end(&mut self) -> (Verdict, Vec<String>) {
        let to = self.setting.ago(26);
        self.setting
            .until_committed(&self.collector, &[Report::MessageTrace], to)
            .await;
        stop(&mut self.collector).await;
        let expected = self
            .setting
            .existing(Report::MessageTrace, self.setting.ago(30), to);
        assert!(expected.total() >= u64::from(ROWS), "{}", expected.total());
        let (read, violations) = self.peer.read().unwrap();
        (compared(&expected, &read, self.unconfirmed()), violations)
    }

    /// The records that were under way whenever a delivery failed: so many may come twice.
    fn unconfirmed(&self) -> u64 {
        let of = |line: String| {
            let (_, rest) = line.split_once("unconfirmed=")?;
            rest.split_whitespace().next()?.parse::<u64>().ok()
        };
        self.collector
            .log_with("delivery failed")
            .into_iter()
            .filter_map(of)
            .sum()
    }

    fn told(&self) -> String {
        format!("{}\n{}", log(&self.collector), self.peer.said())
    }
}

/// A quiet run: a receipt for each delivery, each record once.
async fn gives_receipts(program: Program) {
    if !installed(program) {
        return;
    }
    let mut run = Run::start(program).await;
    let (verdict, violations) = run.end().await;
    assert_eq!(violations, Vec::<String>::new(), "{}", run.told());
    assert!(verdict.is_exact(), "{verdict}\n{}", run.told());
    for unwanted in ["half-close", "delivery failed", "delivery waits"] {
        assert_eq!(run.collector.log_with(unwanted), Vec::<String>::new());
    }
    let receipts = run.collector.log_with("delivery confirmed");
    assert!(receipts.len() >= 3, "{}", receipts.join("\n"));
    assert!(receipts.iter().all(|line| line.contains("receipt=Read")));
}

/// A run with a restart in order and a kill, each in the middle of a delivery.
async fn survives_restarts(program: Program) {
    if !installed(program) {
        return;
    }
    let mut run = Run::start(program).await;
    run.until_tenths(2).await;
    run.peer.restart().unwrap();
    run.until_tenths(6).await;
    if keeps_what_it_has_read(program) {
        run.peer.kill_and_restart(PAUSE).await.unwrap();
    } else {
        run.peer.restart().unwrap();
    }
    let (verdict, violations) = run.end().await;
    assert!(verdict.missing == 0, "{verdict}\n{}", run.told());
    assert!(
        verdict.twice <= run.unconfirmed(),
        "{verdict}\n{}",
        run.told()
    );
    assert_eq!(
        (violations.len() as u64, verdict.unknown),
        (0, 0),
        "{violations:?}"
    );
}

/// Whether nothing that it has read is lost with it. A queue in memory is, and no sender can know.
fn keeps_what_it_has_read(program: Program) -> bool {
    !matches!(program, Program::RsyslogOpenssl | Program::SyslogNg)
}

macro_rules! peers {
    ($($program:ident: $receipts:ident, $restarts:ident;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $receipts() {
            gives_receipts(Program::$program).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $restarts() {
            survives_restarts(Program::$program).await;
        }
    )*};
}

peers! {
    RsyslogGnutls: rsyslog_with_gnutls_gives_receipts, rsyslog_with_gnutls_restarts_and_nothing_is_lost;
    RsyslogOpenssl: rsyslog_with_openssl_gives_receipts, rsyslog_with_openssl_restarts_and_nothing_is_lost;
    SyslogNg: syslog_ng_gives_receipts, syslog_ng_restarts_and_nothing_is_lost;
    Stunnel: stunnel_gives_receipts, stunnel_restarts_and_nothing_is_lost;
    Haproxy: haproxy_gives_receipts, haproxy_restarts_and_nothing_is_lost;
    Openssl: s_server_gives_receipts, s_server_restarts_and_nothing_is_lost;
}
