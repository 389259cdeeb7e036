//! The way to the reporting service: web proxies, hosts that are asked without them, whom HTTPS trusts, and redirects.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;

use testkit::collector::{Collector, Input};
use testkit::pki::{Authority, Wish};
use testkit::report::Report;
use testkit::service::{self, Fault, Target, When};
use testkit::tunnels::Tunnels;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::setting::{PATIENCE, Setting, program, skip};

/// Names of nobody: the proxy knows where they lead.
const NAMES: [&str; 2] = ["reports.invalid", "login.invalid"];

/// What has to be escaped in a URL is in it.
const PASSWORD: &str = "open:s@same/%";
const ESCAPED: &str = "open%3As%40same%2F%25";

/// A service behind HTTPS, and the file of the authority that its certificate is from.
async fn setting(address: IpAddr) -> (Setting, PathBuf) {
    let authority = Authority::new("proxies").unwrap();
    let own = address.to_string();
    let wish = Wish::server_for(&[NAMES[0], NAMES[1], &own]);
    let options = service::Options {
        bind: SocketAddr::new(address, 0),
        https: Some(authority.issue(&wish).unwrap()),
        ..service::Options::default()
    };
    let setting = Setting::with(options, |_| {}).await;
    let file = setting.folder.certs().join("proxies.crt");
    std::fs::write(&file, authority.certificate()).unwrap();
    setting.rows(
        Report::MessageTrace,
        setting.ago(30),
        setting.ago(25),
        5_000,
    );
    (setting, file)
}

/// An input that asks the names of nobody, and trusts our authority.
fn through_names(setting: &Setting) -> Input {
    let base = format!(
        "https://{}/ecp/reportingwebservice/reporting.svc/",
        NAMES[0]
    );
    let input = trusting(setting).option("base_url", &base);
    input.option("authority_url", &format!("https://{}/", NAMES[1]))
}

fn trusting(setting: &Setting) -> Input {
    setting.input().option("ca_bundle", "proxies.crt")
}

/// Collects everything that is due with these variables, and expects each record once.
async fn collect(setting: &Setting, input: Input, variables: &[(&str, &str)]) {
    setting.configure(input.service_from(Report::MessageTrace, setting.ago(30), &[]));
    let mut collector = Collector::start_with(program(), &setting.folder, |command| {
        command.arg("--once").envs(variables.iter().copied());
    })
    .unwrap();
    let ended = collector.wait(PATIENCE).await.unwrap();
    assert_eq!(ended.code, Some(0), "{}", collector.log().join("\n"));
    let expected = setting.existing(Report::MessageTrace, setting.ago(30), setting.ago(25));
    setting.expect_exactly(&expected, &collector);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_and_reports_come_through_a_proxy_that_asks_for_a_password() {
    let (setting, _) = setting(Ipv4Addr::LOCALHOST.into()).await;
    let tunnels = Tunnels::start(setting.service.address(), Some(("me", PASSWORD))).await;
    let tunnels = tunnels.unwrap();
    let proxy = format!("http://me:{ESCAPED}@{}", tunnels.address());
    collect(
        &setting,
        through_names(&setting),
        &[("HTTPS_PROXY", &proxy)],
    )
    .await;
    for name in NAMES {
        let host = format!("{name}:443");
        assert!(tunnels.opened().contains(&host), "{:?}", tunnels.opened());
    }
    assert_eq!(tunnels.refused(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quotes_and_blanks_around_a_proxy_are_left_out() {
    let (setting, _) = setting(Ipv4Addr::LOCALHOST.into()).await;
    let tunnels = Tunnels::start(setting.service.address(), Some(("me", PASSWORD))).await;
    let tunnels = tunnels.unwrap();
    let proxy = format!(" \"http://me:{ESCAPED}@{}\" ", tunnels.address());
    collect(
        &setting,
        through_names(&setting),
        &[("HTTPS_PROXY", &proxy)],
    )
    .await;
    assert!(!tunnels.opened().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_cannot_be_used_is_a_mistake_and_never_left_out() {
    let (setting, _) = setting(Ipv4Addr::LOCALHOST.into()).await;
    let input = through_names(&setting);
    setting.configure(input.service_from(Report::MessageTrace, setting.ago(30), &[]));
    for (variable, value) in [
        ("HTTPS_PROXY", "http://me:hunter@2@proxy:8080"),
        ("https_proxy", "socks5://me:hunter2@proxy:8080"),
        ("ALL_PROXY", "proxy.example.com:hunter"),
    ] {
        let mut collector = Collector::start_with(program(), &setting.folder, |command| {
            command.env(variable, value);
        })
        .unwrap();
        let ended = collector.wait(PATIENCE).await.unwrap();
        let said = collector.log().join("\n");
        assert_eq!(ended.code, Some(78), "{said}");
        assert!(
            said.contains(&format!("the variable {variable}")) && !said.contains("hunter"),
            "{said}"
        );
    }
    assert!(setting.service.requests().is_empty());
}

/// A proxy that gives each request this answer.
async fn refusing(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_proxy_answers_instead_of_a_tunnel_is_shown() {
    let (setting, _) = setting(Ipv4Addr::LOCALHOST.into()).await;
    let input = through_names(&setting);
    setting.configure(input.service_from(Report::MessageTrace, setting.ago(30), &[]));
    for (answer, said) in [
        (
            "HTTP/1.1 403 Blocked by policy\r\nContent-Length: 0\r\n\r\n",
            ["403 Blocked by policy", "have the proxy allow tunnels"],
        ),
        (
            "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
            ["503 Busy", "the proxy's log"],
        ),
        (
            "HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n",
            ["takes only NTLM", "cntlm"],
        ),
        (
            "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=\"a\"\r\nContent-Length: 0\r\n\r\n",
            ["407 No", "user name and password"],
        ),
    ] {
        let proxy = format!("http://{}", refusing(answer).await);
        let mut collector = Collector::start_with(program(), &setting.folder, |command| {
            command.env("HTTPS_PROXY", &proxy);
        })
        .unwrap();
        let line = collector.wait_for(said[0], PATIENCE).await.unwrap();
        assert!(
            line.contains(&format!("CONNECT {}:443", NAMES[1])) && line.contains(said[1]),
            "{line}"
        );
        collector.stop(PATIENCE).await.unwrap();
    }
}

/// This machine's own address that is none of loopback, which proxies are asked for; what is sent to it does not leave the machine.
fn own_address() -> Option<IpAddr> {
    // Nothing is sent: it is only looked which address would be.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(("192.0.2.1", 9)).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback()).then_some(address)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_in_no_proxy_are_asked_without_it() {
    let Some(address) = own_address() else {
        skip("this machine has no address but loopback");
        return;
    };
    let network = format!("{address}/24");
    for (no_proxy, direct) in [
        ("", false),
        ("elsewhere.example", false),
        (&*address.to_string(), true),
        (&*network, true),
    ] {
        let (setting, _) = setting(address).await;
        let tunnels = Tunnels::start(setting.service.address(), None)
            .await
            .unwrap();
        let proxy = format!("http://{}", tunnels.address());
        let variables = [("HTTPS_PROXY", &*proxy), ("NO_PROXY", no_proxy)];
        collect(&setting, trusting(&setting), &variables).await;
        assert_eq!(tunnels.opened().is_empty(), direct, "NO_PROXY={no_proxy}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_on_loopback_is_never_asked_through_a_proxy() {
    let (setting, _) = setting(Ipv4Addr::LOCALHOST.into()).await;
    let tunnels = Tunnels::start(setting.service.address(), None)
        .await
        .unwrap();
    let proxy = format!("http://{}", tunnels.address());
    let variables = [("HTTPS_PROXY", &*proxy), ("NO_PROXY", "")];
    collect(&setting, trusting(&setting), &variables).await;
    assert_eq!(tunnels.opened(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_come_through_the_proxy_though_the_service_is_on_loopback() {
    let (setting, _) = setting(Ipv4Addr::LOCALHOST.into()).await;
    let tunnels = Tunnels::start(setting.service.address(), None)
        .await
        .unwrap();
    let proxy = format!("http://{}", tunnels.address());
    let variables = [("HTTPS_PROXY", &*proxy), ("NO_PROXY", "")];
    let input = trusting(&setting).option("authority_url", &format!("https://{}/", NAMES[1]));
    collect(&setting, input, &variables).await;
    let mut opened = tunnels.opened();
    opened.dedup();
    assert_eq!(opened, [format!("{}:443", NAMES[1])]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_systems_trust_store_is_trusted() {
    let (setting, authority) = setting(Ipv4Addr::LOCALHOST.into()).await;
    let file = authority.display().to_string();
    collect(&setting, setting.input(), &[("SSL_CERT_FILE", &file)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_the_directory_nor_the_service_can_send_us_to_another_origin() {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(30), setting.ago(25));
    setting.rows(Report::MessageTrace, from, to, 500);
    let elsewhere = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}/", elsewhere.local_addr().unwrap());
    for target in [Target::Token, Target::Reports] {
        let redirect = Fault::Redirect(url.clone());
        setting.service.fault(target, When::Next(1), redirect);
    }
    setting.configure_one(Report::MessageTrace, from, &[]);
    let mut collector = setting.start();
    setting.finish(&mut collector, from, to).await;
    let told = collector.log_with("answered 302");
    // The requests that go side by side may share the refusal of their token.
    assert!(told.len() >= 2, "{}", collector.log().join("\n"));
    let asked = tokio::time::timeout(std::time::Duration::from_millis(100), elsewhere.accept());
    assert!(asked.await.is_err(), "somebody was sent elsewhere");
}
