//! What it costs to be watched.

use testkit::report::Report;

use super::Watched;
use crate::setting::Setting;

/// With eight services, all told; an unoptimised build's code included.
const MOST_KIB: u64 = 3 << 10;

/// The resident memory of a collector of eight services that has collected something and waits, in KiB.
async fn resident(watch: bool) -> u64 {
    let setting = Setting::new().await;
    let from = setting.ago(30);
    let input = Report::ALL
        .into_iter()
        .fold(setting.input(), |input, report| {
            setting.rows(report, from, setting.ago(26), 500);
            let start = from.format("%Y-%m-%dT%H:%M:%SZ").to_string();
            input.service(report, &[("start_time", &start)])
        });
    let monitoring = if watch {
        "{listen: 0}"
    } else {
        "{listen: off}"
    };
    setting.configure_watched(input, monitoring);
    let collector = setting.start();
    let hourly = [Report::MessageTrace, Report::DlpDetail, Report::MailTraffic];
    setting
        .until_committed(&collector, &hourly, setting.ago(26))
        .await;
    if !watch {
        return collector.resident_kib().unwrap();
    }
    let watched = Watched::of(collector).await;
    for _ in 0..50 {
        for path in ["/", "/metrics", "/status", "/log", "/readyz"] {
            watched.get(path).await;
        }
    }
    watched.collector.resident_kib().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_takes_less_than_three_mebibytes() {
    let (without, with) = tokio::join!(resident(false), resident(true));
    assert!(with < without + MOST_KIB, "{without} KiB become {with} KiB");
}
