//! Who is answered while others hold connections, and which collector it is that answers.

use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testkit::collector::Output;
use testkit::report::Report;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::start;
use crate::monitoring::{get, healthcheck};
use crate::setting::{PATIENCE, Setting, program, stop};

/// A collector with nothing to collect for hours, and where it answers.
async fn idle() -> (Setting, testkit::collector::Collector, SocketAddr) {
    let setting = Setting::new().await;
    let input = setting.input().service(Report::SafelinksDetail, &[]);
    let output = Output::relay(setting.relay.port());
    let (collector, address) = start(&setting, input, output, |_| {});
    collector.wait_for("are served", PATIENCE).await.unwrap();
    (setting, collector, address)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_answered_while_slow_clients_hold_connections() {
    let (setting, _collector, address) = idle().await;
    let mut held = vec![];
    for round in 0..5 {
        // Silent ones, and ones that have begun.
        for number in 0..16 {
            let mut slow = TcpStream::connect(address).await.unwrap();
            if number % 2 == 0 {
                slow.write_all(b"GET /healthz HTTP/1.1\r\nhost: ")
                    .await
                    .unwrap();
            }
            held.push(slow);
        }
        let begun = Instant::now();
        assert_eq!(get(address, "/livez").await.unwrap().0, 200, "{round}");
        // Not by the silent ones' time having come.
        assert!(begun.elapsed() < Duration::from_secs(4));
    }
    assert_eq!(healthcheck(&setting), (true, "ok\n".to_owned()));
    // It is the oldest that has given way.
    let mut first = held.swap_remove(0);
    let mut rest = vec![];
    let ended = tokio::time::timeout(Duration::from_secs(3), first.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the oldest connection is still open");
}

/// What the command `support-bundle` prints in the collector's folder, unpacked into one text.
fn bundle(setting: &Setting) -> String {
    let bundle = "\"$0\" support-bundle --output - | tar --extract --gzip --to-stdout";
    let printed = Command::new("sh")
        .args(["-c", bundle])
        .arg(program())
        .current_dir(setting.folder.path())
        .env_remove("CONFIG_FILE")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8_lossy(&printed.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_of_another_collector_is_no_health_and_not_packed() {
    let (first, mut collector, address) = idle().await;
    let second = Setting::new().await;
    let input = second.input().service(Report::SafelinksDetail, &[]);
    // The same port, name and id: in another folder, as from a copy of the configuration.
    second.configure_watched(input.clone(), &format!("{{listen: '{address}'}}"));
    let folder = first.folder.state().display().to_string();
    assert_eq!(healthcheck(&first), (true, "ok\n".to_owned()));
    let (well, said) = healthcheck(&second);
    assert!(!well && said.contains(&folder), "{said}");
    let packed = bundle(&second);
    assert!(packed.contains("another collector answers"), "{packed}");
    assert!(
        !packed.contains("exchange_collector_build_info"),
        "{packed}"
    );
    assert!(!packed.contains("\"cursor\""), "{packed}");
    let packed = bundle(&first);
    assert!(packed.contains("exchange_collector_build_info"), "{packed}");

    // The same folder under another name or id, as where the configuration was changed and the collector not started again.
    let read = |setting: &Setting| {
        fs::read_to_string(setting.folder.path().join("config/config.yaml")).unwrap()
    };
    let yaml = read(&first).replace(
        "directory_name: state",
        &format!("directory_name: {folder}"),
    );
    for (was, is) in [
        ("name: testkit", "name: other"),
        ("\n  id: 12345", "\n  id: 54321"),
    ] {
        second
            .folder
            .configure_raw(&yaml.replacen(was, is, 1))
            .unwrap();
        let (well, said) = healthcheck(&second);
        let (_, changed) = is.split_once(": ").unwrap();
        assert!(!well && said.contains(changed), "{said}");
    }
    stop(&mut collector).await;
}

#[tokio::test]
async fn the_answer_of_another_program_is_no_health() {
    let setting = Setting::new().await;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 512];
            let _ = stream.read(&mut request).await;
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nok\n";
            let _ = stream.write_all(answer).await;
        }
    });
    let input = setting.input().service(Report::SafelinksDetail, &[]);
    setting.configure_watched(input, &format!("{{listen: '{address}'}}"));
    let (well, said) = tokio::task::spawn_blocking(move || healthcheck(&setting))
        .await
        .unwrap();
    assert!(!well && said.contains("is no collector"), "{said}");
}
