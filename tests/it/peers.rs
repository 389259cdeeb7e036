//! Real relays: rsyslog, syslog-ng, stunnel, `HAProxy`, nginx, OpenSSL, and relays in Python, Java and Go give receipts, the counts agree, and a restart in the middle loses nothing.
//! rsyslog and syslog-ng receive from each type of output that goes over a network, all at once.

use std::time::{Duration, Instant};

use testkit::collector::{Collector, Config, Output};
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
        let (from, to) = (setting.ago(30), setting.ago(25));
        setting.rows(Report::MessageTrace, from, to, ROWS);
        let input = setting
            .input()
            .service_from(Report::MessageTrace, from, &[]);
        let output = match program {
            Program::RsyslogPlain | Program::SyslogNgPlain => Output::plain("syslog", peer.port()),
            _ => Output::relay(peer.port()),
        };
        setting.configure_with(input, output.option("receipt", "required"));
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
        let to = self.setting.ago(25);
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
    assert!(!receipts.is_empty(), "{}", receipts.join("\n"));
    let kind = format!("receipt={}", kind(program));
    assert!(
        receipts.iter().all(|line| line.contains(&kind)),
        "{}",
        receipts.join("\n")
    );
}

/// The kind of receipt that it gives: some end a connection without `close_notify`, and without TLS there is none.
fn kind(program: Program) -> &'static str {
    match program {
        Program::RsyslogGnutls
        | Program::RsyslogPlain
        | Program::SyslogNgPlain
        | Program::Nginx
        | Program::Python => "Ended",
        _ => "Read",
    }
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
    !matches!(
        program,
        Program::RsyslogOpenssl | Program::SyslogNg | Program::SyslogNgPlain | Program::Nginx
    )
}

/// One collector with an output of each type that goes over a network, each with a peer of its own: a receipt for each delivery, and each
/// record once everywhere.
async fn receives_from_each_type(tls: Program, plain: Program) {
    if !installed(tls) {
        return;
    }
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(30), setting.ago(28));
    setting.rows(Report::MessageTrace, from, to, 3_000);
    let input = setting
        .input()
        .service_from(Report::MessageTrace, from, &[]);
    let (mut outputs, mut peers) = (Vec::new(), Vec::new());
    for kind in [
        "devo_platform",
        "relay",
        "syslog",
        "in_house_relay",
        "sidecar",
    ] {
        let with_tls = matches!(kind, "devo_platform" | "relay");
        let peer = Peer::start(if with_tls { tls } else { plain }, &setting.pki).unwrap();
        let mut output = if with_tls {
            Output::relay(peer.port())
        } else {
            Output::plain(kind, peer.port())
        };
        kind.clone_into(&mut output.kind);
        outputs.push(output.named(kind).option("receipt", "required"));
        peers.push((kind, peer));
    }
    let config = Config {
        outputs,
        ..Config::new(input, Output::console())
    };
    setting.folder.configure(&config).unwrap();
    let mut collector = setting.start();
    setting.stop_at(&mut collector, to).await;
    let expected = setting.existing(Report::MessageTrace, from, to);
    for (kind, peer) in &peers {
        let (read, violations) = peer.read().unwrap();
        let told = format!("{kind}\n{}\n{}", log(&collector), peer.said());
        assert_eq!(violations, Vec::<String>::new(), "{told}");
        let verdict = compared(&expected, &read, 0);
        assert!(verdict.is_exact(), "{verdict}\n{told}");
        let receipts = collector
            .log_with("delivery confirmed")
            .into_iter()
            .filter(|line| line.contains(kind) && line.contains("receipt="));
        assert!(receipts.count() >= 1, "{told}");
    }
    for unwanted in ["half-close", "delivery failed", "delivery waits"] {
        assert_eq!(collector.log_with(unwanted), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rsyslog_receives_from_each_type_of_output() {
    receives_from_each_type(Program::RsyslogGnutls, Program::RsyslogPlain).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn syslog_ng_receives_from_each_type_of_output() {
    receives_from_each_type(Program::SyslogNg, Program::SyslogNgPlain).await;
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
    RsyslogPlain: rsyslog_without_tls_gives_receipts, rsyslog_without_tls_restarts_and_nothing_is_lost;
    SyslogNgPlain: syslog_ng_without_tls_gives_receipts, syslog_ng_without_tls_restarts_and_nothing_is_lost;
    SyslogNg: syslog_ng_gives_receipts, syslog_ng_restarts_and_nothing_is_lost;
    Stunnel: stunnel_gives_receipts, stunnel_restarts_and_nothing_is_lost;
    Haproxy: haproxy_gives_receipts, haproxy_restarts_and_nothing_is_lost;
    Nginx: nginx_gives_receipts, nginx_restarts_and_nothing_is_lost;
    Python: python_gives_receipts, python_restarts_and_nothing_is_lost;
    Java: java_gives_receipts, java_restarts_and_nothing_is_lost;
    Go: go_gives_receipts, go_restarts_and_nothing_is_lost;
    Openssl: s_server_gives_receipts, s_server_restarts_and_nothing_is_lost;
}
