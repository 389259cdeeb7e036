//! The collector's own messages to Devo: through every output, with tag and JSON, and never in the way of a record.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use testkit::collector::{Collector, Config, Output};
use testkit::relay::{self, Behaviour, Message, Relay, TlsVersions};
use testkit::report::Report;

use crate::setting::{PATIENCE, Setting, log, program, stop};

/// A setting with one hour of message traces; without DEBUG, as the collector is run.
async fn setting(rows: u32) -> Setting {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(30), setting.ago(29));
    setting.rows(Report::MessageTrace, from, to, rows);
    configure(&setting, "false", Output::relay(setting.relay.port()), &[]);
    setting
}

fn configure(setting: &Setting, debug: &str, output: Output, others: &[Output]) {
    let input = setting
        .input()
        .service_from(Report::MessageTrace, setting.ago(30), &[]);
    let mut config = Config::new(input, output);
    config.outputs.extend_from_slice(others);
    config.globals = vec![("debug".to_owned(), debug.to_owned())];
    setting.folder.configure(&config).unwrap();
}

fn start(setting: &Setting, image: &str) -> Collector {
    Collector::start_with(program(), &setting.folder, |command| {
        command.env("COLLECTOR_IMAGE", image);
    })
    .unwrap()
}

/// Runs until all is committed, and stops.
async fn run(setting: &Setting, image: &str) -> Collector {
    let mut collector = start(setting, image);
    setting.stop_at(&mut collector, setting.ago(29)).await;
    let expected = setting.existing(Report::MessageTrace, setting.ago(30), setting.ago(29));
    setting.expect_exactly(&expected, &collector);
    collector
}

fn text(message: &Message) -> &str {
    message.content["msg"].as_str().unwrap()
}

/// The first message whose text begins so.
fn first<'a>(messages: &'a [Message], beginning: &str) -> &'a Message {
    let found = messages.iter().find(|one| text(one).starts_with(beginning));
    found.unwrap_or_else(|| panic!("`{beginning}` in {messages:?}"))
}

fn levels(messages: &[Message]) -> Vec<&str> {
    let mut levels: Vec<_> = messages.iter().map(|one| one.level.as_str()).collect();
    levels.sort_unstable();
    levels.dedup();
    levels
}

/// What has become of all that was logged.
#[derive(Debug)]
struct Account {
    arrived: usize,
    /// What the messages say that tell how many others are missing.
    dropped: usize,
    unconfirmed: usize,
}

impl Account {
    /// Expects that nothing is unaccounted for.
    fn of(relay: &Relay, collector: &Collector) -> Self {
        let (account, told) = Self::so_far(relay, collector);
        assert!(account.is_whole(told), "{told} told, {account:?}");
        account
    }

    /// Whether it is that of so many lines of the log.
    fn is_whole(&self, told: usize) -> bool {
        // What was let go without a receipt has arrived or not; nothing else is uncertain.
        let known = self.arrived + self.dropped;
        (known..=known + self.unconfirmed).contains(&told)
    }

    /// The same, and how many lines the log has, while more may come.
    fn so_far(relay: &Relay, collector: &Collector) -> (Self, usize) {
        let messages = relay.messages();
        // One whose receipt did not come in time has come twice.
        let different: HashSet<_> = messages.iter().map(|one| one.content.to_string()).collect();
        let (missing, arrived): (Vec<_>, Vec<_>) = different
            .iter()
            .partition(|one| one.contains("\"messages may be missing"));
        let number = |fact: &str| -> usize {
            let of = |one: &&String| {
                assert!(one.contains("\"level\":\"WARNING\""), "{one}");
                let (_, rest) = one.split_once(&format!(" {fact}=")).unwrap();
                let end = rest.find(|digit: char| !digit.is_ascii_digit());
                rest[..end.unwrap()].parse::<usize>().unwrap()
            };
            missing.iter().map(of).sum()
        };
        let account = Self {
            arrived: arrived.len(),
            dropped: number("dropped"),
            unconfirmed: number("unconfirmed"),
        };
        let logged = collector.log();
        let told = logged.iter().filter(|line| !line.contains("own messages"));
        let told = told.count();
        (account, told)
    }
}

/// Waits until the flood is over and all that was said is accounted for: a stop would leave the rest to the log.
async fn until_accounted(relay: &Relay, collector: &Collector) {
    let begun = Instant::now();
    loop {
        let (account, told) = Account::so_far(relay, collector);
        if account.is_whole(told) {
            return;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "{told} told, {account:?}\n{}",
            log(collector)
        );
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// Waits until the relay has read a message that begins so.
async fn until_told(relay: &Relay, beginning: &str, collector: &Collector) {
    let begun = Instant::now();
    let told = |one: &Message| text(one).starts_with(beginning);
    while !relay.messages().iter().any(told) {
        assert!(
            begun.elapsed() < PATIENCE,
            "`{beginning}` in {:?}\n{}",
            relay.messages(),
            log(collector)
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_logged_arrives_with_all_that_is_known_of_it() {
    let setting = setting(500).await;
    let collector = run(&setting, "registry/collector:1").await;
    let messages = setting.relay.messages();
    assert!(!levels(&messages).contains(&"debug"), "{messages:?}");
    let delivered = &first(&messages, "window delivered").content;
    for (key, value) in [
        ("level", "INFO"),
        ("collector_name", "testkit"),
        ("collector_version", env!("CARGO_PKG_VERSION")),
        ("collector_image", "registry/collector:1"),
        ("input_name", "office365_reporting_message"),
        ("service_name", Report::MessageTrace.service()),
        ("module_name", "service::books"),
    ] {
        assert_eq!(delivered[key], value, "{key}");
    }
    let time = delivered["time"].as_str().unwrap();
    let time: chrono::DateTime<chrono::Utc> = time.parse().unwrap();
    assert!((chrono::Utc::now() - time).num_seconds() < 60);
    let told = text(first(&messages, "window delivered"));
    let number = |fact: &str| {
        let (_, rest) = told.split_once(&format!(" {fact}=")).unwrap();
        rest.split(' ').next().unwrap().to_owned()
    };
    assert_eq!(number("delivered"), "500", "{told}");
    assert_eq!(number("requests"), number("windows"), "{told}");
    // From the first word to the last, each once, in order.
    let texts: Vec<_> = messages.iter().map(text).collect();
    let logged = collector.log();
    let logged: Vec<_> = logged
        .iter()
        .map(|line| line.split_once(" -> ").unwrap().1)
        .collect();
    assert_eq!(texts, logged);
    assert!(texts[0].starts_with("starting") && texts[texts.len() - 1] == "stopped");
    // A connection for all of it, and no more than one for what came late.
    assert!(setting.relay.message_connections().len() <= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_output_gets_them_and_where_it_is_wanted_at_debug() {
    let setting = setting(500).await;
    let mut options = relay::Options::new(&setting.pki);
    options.tls = TlsVersions::Plain;
    let plain = Relay::start_with(&options).unwrap();
    let output = Output::relay(setting.relay.port());
    let others = [Output::plain("syslog", plain.port()), Output::console()];
    configure(&setting, "true", output, &others);
    let collector = run(&setting, "").await;
    for relay in [&setting.relay, &plain] {
        assert_eq!(relay.violations(), Vec::<String>::new());
        let messages = relay.messages();
        assert!(levels(&messages).contains(&"debug"), "{messages:?}");
        first(&messages, "window delivered");
        assert_eq!(
            first(&messages, "starting").content.get("collector_image"),
            None
        );
    }
    let printed: Vec<serde_json::Value> = collector
        .output()
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let told = |one: &&serde_json::Value| one["message_tag"] == "devo.collectors.out.local.info";
    let texts = printed
        .iter()
        .filter(told)
        .map(|one| one["message_content"]["msg"].as_str());
    let mut delivered = texts.filter(|text| text.unwrap().starts_with("window delivered"));
    assert!(delivered.next().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_messages_of_an_outage_arrive_after_it() {
    let mut setting = setting(500).await;
    setting.relay.shut().await;
    let mut collector = start(&setting, "");
    for told in ["delivery failed", "own messages cannot be delivered"] {
        collector.wait_for(told, PATIENCE).await.unwrap();
    }
    assert_eq!(setting.relay.messages(), vec![]);
    setting.relay.open().unwrap();
    until_told(&setting.relay, "window delivered", &collector).await;
    stop(&mut collector).await;
    let messages = setting.relay.messages();
    assert!(text(&messages[0]).starts_with("starting"), "{messages:?}");
    let failed = first(&messages, "delivery failed");
    assert_eq!(failed.level, "warning");
    assert_eq!(failed.content["output_name"], "devo_1");
    assert_eq!(
        failed.content["service_name"],
        Report::MessageTrace.service()
    );
    // Nothing is said to Devo of the delivery of what is said to Devo.
    let own = |one: &Message| text(one).contains("own messages");
    assert!(!messages.iter().any(own), "{messages:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_flood_the_first_arrive_and_what_is_missing_is_counted() {
    // Many services that have nothing to deliver, each of which talks about three days of it, longer than the messages take to be
    // delivered.
    let setting = Setting::new().await;
    let input = |nth: usize| {
        let mut input = setting.input().all_services_from(setting.ago(72), &[]);
        input.name = format!("input_{nth}");
        input
    };
    let mut config = Config::new(input(0), Output::relay(setting.relay.port()));
    config.inputs.extend((1..12).map(input));
    setting.folder.configure(&config).unwrap();
    setting
        .relay
        .always_to_messages(Behaviour::Stall { after: 0 });
    let mut collector = start(&setting, "");
    let begun = Instant::now();
    while collector.log_with("window delivered").len() < 1_000 {
        assert!(begun.elapsed() < PATIENCE, "{}", log(&collector));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    setting.relay.always_to_messages(Behaviour::Normal);
    setting.relay.release();
    until_told(&setting.relay, "messages may be missing", &collector).await;
    until_accounted(&setting.relay, &collector).await;
    stop(&mut collector).await;
    first(&setting.relay.messages(), "starting");
    let account = Account::of(&setting.relay, &collector);
    assert!(account.dropped > 0 && account.arrived > 500, "{account:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_let_go_after_two_tries_is_counted() {
    let setting = setting(500).await;
    setting
        .relay
        .always_to_messages(Behaviour::ResetAfter(1_000));
    let mut collector = start(&setting, "");
    let begun = Instant::now();
    while setting.relay.message_connections().len() < 2 {
        assert!(begun.elapsed() < PATIENCE, "{}", log(&collector));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    setting.relay.always_to_messages(Behaviour::Normal);
    // It is told behind what is said next, which is the end.
    stop(&mut collector).await;
    let account = Account::of(&setting.relay, &collector);
    assert!(
        account.unconfirmed > 0 && account.dropped == 0,
        "{account:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_does_not_read_messages_holds_no_record_up_and_no_stop() {
    let setting = setting(2_000).await;
    setting
        .relay
        .always_to_messages(Behaviour::Stall { after: 0 });
    let begun = Instant::now();
    let mut collector = start(&setting, "");
    setting
        .until_committed(&collector, &[Report::MessageTrace], setting.ago(29))
        .await;
    while setting.relay.message_connections().is_empty() {
        assert!(begun.elapsed() < PATIENCE, "{}", log(&collector));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Rows that come later are delivered all the same.
    setting.rows(
        Report::MessageTrace,
        setting.ago(29),
        setting.ago(28),
        2_000,
    );
    setting
        .until_committed(&collector, &[Report::MessageTrace], setting.ago(28))
        .await;
    let ended = collector.stop(PATIENCE).await.unwrap();
    assert_eq!(ended.code, Some(0));
    assert!(ended.took < Duration::from_millis(2_500), "{ended:?}");
    assert_eq!(setting.relay.messages(), vec![]);
    let expected = setting.existing(Report::MessageTrace, setting.ago(30), setting.ago(29));
    setting.expect_once(&expected, 2_000, &collector);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_breaks_messages_off_gets_the_rest_and_each_at_most_twice() {
    let setting = setting(500).await;
    setting
        .relay
        .always_to_messages(Behaviour::ResetAfter(1_000));
    let mut collector = start(&setting, "");
    until_told(&setting.relay, "starting", &collector).await;
    collector
        .wait_for("own messages cannot be delivered", PATIENCE)
        .await
        .unwrap();
    setting.relay.always_to_messages(Behaviour::Normal);
    until_told(&setting.relay, "window delivered", &collector).await;
    stop(&mut collector).await;
    let messages = setting.relay.messages();
    let times = |beginning: &str| {
        let begins = |one: &&Message| text(one).starts_with(beginning);
        messages.iter().filter(begins).count()
    };
    assert!((1..=2).contains(&times("starting")), "{messages:?}");
    assert_eq!(times("stopped"), 1, "{messages:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_cannot_run_says_so_to_devo_too() {
    let setting = setting(10).await;
    let mut running = start(&setting, "");
    running.wait_for("collecting", PATIENCE).await.unwrap();
    let mut second = start(&setting, "");
    assert_eq!(second.wait(PATIENCE).await.unwrap().code, Some(1));
    assert_eq!(second.log_with("another collector").len(), 1);
    let messages = setting.relay.messages();
    let told = first(&messages, "another collector is running");
    assert_eq!(told.level, "error");
    stop(&mut running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_period_tells_what_an_output_has_been_sent() {
    let setting = setting(500).await;
    let input = setting
        .input()
        .service_from(Report::MessageTrace, setting.ago(30), &[]);
    let mut config = Config::new(input, Output::relay(setting.relay.port()));
    // The shortest period that there is.
    config.globals = vec![("sender_stats_period_in_sec".to_owned(), "60".to_owned())];
    setting.folder.configure(&config).unwrap();
    let mut collector = start(&setting, "");
    until_told(&setting.relay, "sender statistics", &collector).await;
    let messages = setting.relay.messages();
    let told = first(&messages, "sender statistics");
    assert!(text(told).contains("records=500 "), "{told:?}");
    assert_eq!(told.content["output_name"], "devo_1");
    assert_eq!(told.content["service_name"], Report::MessageTrace.service());
    stop(&mut collector).await;
}
