//! Certificates, keys and names that are not as they should be: the message names the file and the fix, nothing is lost, and
//! what is put right is used without a restart.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};

use chrono::{TimeDelta, Utc};
use testkit::collector::{Collector, Output};
use testkit::outdated::{self, Form};
use testkit::peer::{Peer, Program};
use testkit::pki::{Authority, Identity, KeyForm, Pki, Shared, Wish};
use testkit::relay::{Options, Relay, TlsVersions};
use testkit::report::Report;

use crate::figures::compared;
use crate::setting::{PATIENCE, Setting, installed, log, program, stop};

const ROWS: u32 = 300;

/// How far behind the present a service stays unless told otherwise.
const DELAY: TimeDelta = TimeDelta::hours(25);

/// Message traces of an hour.
async fn setting() -> Setting {
    setting_with(|_, _| {}).await
}

/// The same with a relay that is set up in another way.
async fn setting_with(change: impl FnOnce(&Pki, &mut Options)) -> Setting {
    let mut setting = Setting::new().await;
    let mut options = Options::new(&setting.pki);
    change(&setting.pki, &mut options);
    setting.relay = Relay::start_with(&options).unwrap();
    setting.rows(Report::MessageTrace, setting.ago(30), setting.ago(29), ROWS);
    setting.configure_one(Report::MessageTrace, setting.ago(30), &[]);
    setting
}

/// Waits until all of the hour is committed, stops the collector, and expects each record once.
async fn expect_all(setting: &Setting, mut collector: Collector) {
    let (from, to) = (setting.ago(30), setting.ago(29));
    setting.finish(&mut collector, from, to).await;
}

/// The log's error without its time, and without the folder's place on this machine.
fn told(setting: &Setting, line: &str) -> String {
    let folder = setting.folder.path().display().to_string();
    let (_, message) = line
        .split_once("ERROR MainProcess::MainThread -> ")
        .unwrap_or(("", line));
    message.replace(&folder, "")
}

/// Does something to the folder `certs/`, and expects that nothing is started: status 78, no request, no connection, no state. Returns the message.
async fn refused_at_start(change: impl FnOnce(&Setting)) -> String {
    let setting = setting().await;
    change(&setting);
    let mut collector = setting.start();
    let ended = collector.wait(PATIENCE).await.unwrap();
    assert_eq!(ended.code, Some(78), "{}", log(&collector));
    assert!(setting.service.requests().is_empty() && setting.relay.connections().is_empty());
    assert_eq!(setting.cursor(Report::MessageTrace), None);
    let errors = collector.log_with("ERROR");
    assert_eq!(errors.len(), 1, "{}", log(&collector));
    told(&setting, &errors[0])
}

fn remove(name: &'static str) -> impl FnOnce(&Setting) {
    move |setting| fs::remove_file(setting.folder.certs().join(name)).unwrap()
}

/// Puts another certificate and key in the place of the collector's.
fn put(setting: &Setting, identity: &Identity) {
    identity
        .write(&setting.folder.certs(), "collector")
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_file_is_named() {
    insta::assert_snapshot!(refused_at_start(remove("collector.crt")).await, @"output `devo_1`: `cert` file certs/collector.crt: there is no such file: put the file there, or correct `cert`");
    insta::assert_snapshot!(refused_at_start(remove("collector.key")).await, @"output `devo_1`: `key` file certs/collector.key: there is no such file: put the file there, or correct `key`");
    insta::assert_snapshot!(refused_at_start(remove("chain.crt")).await, @"output `devo_1`: `chain` file certs/chain.crt: there is no such file: put the file there, or correct `chain`");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_another_certificate_is_named() {
    let message = refused_at_start(|setting| {
        let other = setting.pki.authority.issue(&Wish::client()).unwrap();
        put(setting, &setting.pki.client.with_key_of(&other));
    });
    insta::assert_snapshot!(message.await, @"output `devo_1`: `key` file certs/collector.key: the private key does not belong to the certificate in certs/collector.crt: set `cert` and `key` to the two files that were downloaded together");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_certificate_of_ours_is_named() {
    let message = refused_at_start(|setting| {
        let expired = setting.pki.authority.issue(&Wish::client().expired());
        put(setting, &expired.unwrap());
    });
    insta::assert_snapshot!(message.await, @"output `devo_1`: `cert` file certs/collector.crt: the certificate expired on 2021-01-01 00:00:00 UTC: download a new certificate and its key, and replace `cert` and `key`; no restart is needed. If the date is not past, this machine's clock is wrong");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_hold_something_else_are_named() {
    let swapped = refused_at_start(|setting| {
        let Identity { certificate, key } = setting.pki.client.clone();
        let swapped = Identity {
            certificate: key,
            key: certificate,
        };
        put(setting, &swapped);
    });
    insta::assert_snapshot!(swapped.await, @"output `devo_1`: `cert` file certs/collector.crt: holds a private key and no certificate: `cert` and `key` seem to be swapped: correct the two names");
    let damaged = refused_at_start(|setting| {
        let chain = setting.folder.certs().join("chain.crt");
        fs::write(chain, "<html>please sign in</html>").unwrap();
    });
    insta::assert_snapshot!(damaged.await, @"output `devo_1`: `chain` file certs/chain.crt: holds no certificate in PEM form: download the chain file again, or correct `chain`");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_output_and_input_with_a_bad_file_is_named_at_once() {
    let setting = setting().await;
    remove("collector.crt")(&setting);
    let input = setting.input().option("ca_bundle", "proxy.pem");
    setting.configure(input.service(Report::MessageTrace, &[]));
    let mut collector = setting.start();
    let ended = collector.wait(PATIENCE).await.unwrap();
    assert_eq!(ended.code, Some(78), "{}", log(&collector));
    insta::assert_snapshot!(told(&setting, &log(&collector)), @r"
    output `devo_1`: `cert` file certs/collector.crt: there is no such file: put the file there, or correct `cert`
    input `office365_reporting_message`: `ca_bundle`: cannot read certs/proxy.pem: there is no such file: put the file there, or correct `ca_bundle`
    ");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_may_not_be_read_is_named_with_the_command_that_mends_it() {
    if !nix::unistd::geteuid().is_root() {
        crate::setting::skip("only root can run the collector as somebody else");
        return;
    }
    let setting = setting().await;
    let root = setting.folder.path();
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
    chown(setting.folder.state(), Some(1000), Some(1000)).unwrap();
    // Where it was built may be out of another user's reach.
    let copy = root.join("collector");
    fs::copy(program(), &copy).unwrap();
    let as_somebody = || {
        Collector::start_with(&copy, &setting.folder, |command| {
            command.uid(1000).gid(1000);
        })
        .unwrap()
    };
    let mut collector = as_somebody();
    let ended = collector.wait(PATIENCE).await.unwrap();
    assert_eq!(ended.code, Some(78), "{}", log(&collector));
    let errors = collector.log_with("ERROR");
    insta::assert_snapshot!(told(&setting, &errors[0]), @"this process, 1000:1000, may not read the file certs/collector.key, which belongs to 0:0 and has mode 0600: run `chown 1000:1000 certs/collector.key`, or start the container without `--user`");
    // As told:
    chown(
        setting.folder.certs().join("collector.key"),
        Some(1000),
        Some(1000),
    )
    .unwrap();
    expect_all(&setting, as_somebody()).await;
}

/// A collector that runs and waits: what it says, with nothing delivered and the cursor where it was.
async fn waits(setting: &Setting, collector: &Collector) -> String {
    let line = collector
        .wait_for("delivery waits", PATIENCE)
        .await
        .unwrap();
    assert_eq!(setting.relay.count(), 0, "{}", log(collector));
    assert_eq!(setting.cursor(Report::MessageTrace), Some(setting.ago(30)));
    assert!(line.contains("ERROR") && line.contains("retry_in="));
    // What differs from run to run stands around these two.
    let (_, error) = line.split_once("error=").unwrap();
    let (error, rest) = error.split_once(" unconfirmed=").unwrap();
    let (_, action) = rest.split_once("action=").unwrap();
    let (action, _) = action.split_once(" hours_until").unwrap();
    told(setting, &format!("{error}\n{action}")).replace(&setting.relay.port().to_string(), "PORT")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_whose_certificate_has_expired_is_waited_for() {
    let expired = |pki: &Pki, options: &mut Options| {
        options.identity = pki.authority.issue(&Wish::server().expired()).unwrap();
    };
    let mut setting = setting_with(expired).await;
    let collector = setting.start();
    insta::assert_snapshot!(waits(&setting, &collector).await, @r#"
"the relay's certificate is not acceptable: it expired on 2021-01-01 00:00:00 UTC"
"the relay's certificate has to be renewed there; or this machine's clock is wrong"
"#);
    replace_relay(&mut setting).await;
    expect_all(&setting, collector).await;
}

/// Another relay on the same port, with the certificate that it should have.
async fn replace_relay(setting: &mut Setting) {
    let mut options = Options::new(&setting.pki);
    options.bind = setting.relay.address();
    setting.relay.shut().await;
    setting.relay = Relay::start_with(&options).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_that_does_not_lead_to_the_relay_is_named_and_used_once_it_does() {
    let setting = setting().await;
    let other = Authority::new("another authority").unwrap();
    other.write(&setting.folder.certs()).unwrap();
    let collector = setting.start();
    insta::assert_snapshot!(waits(&setting, &collector).await, @r#"
"the relay's certificate is not acceptable: none of the authorities in the chain file has issued it"
"put the certificate of the authority that issued the relay's into certs/chain.crt, beside those in it"
"#);
    setting.pki.write_client(&setting.folder.certs()).unwrap();
    expect_all(&setting, collector).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_the_relay_does_not_accept_is_named_and_used_once_it_does() {
    for versions in [TlsVersions::V12, TlsVersions::V13] {
        let setting = setting_with(|_, options| options.tls = versions).await;
        let other = Authority::new("another authority").unwrap();
        put(&setting, &other.issue(&Wish::client()).unwrap());
        let collector = setting.start();
        let told = waits(&setting, &collector).await;
        insta::allow_duplicates! {
            insta::assert_snapshot!(told, @r#"
"the relay refused our certificate (alert unknown_ca)"
"check that certs/collector.crt is current, was issued by an authority that this relay trusts, and also holds the intermediate certificates if there are any; download certificate, key and chain anew if in doubt"
"#);
        }
        put(&setting, &setting.pki.client);
        expect_all(&setting, collector).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_of_another_name_is_named_and_taken_where_names_do_not_count() {
    let elsewhere = |pki: &Pki, options: &mut Options| {
        let wish = Wish::server_for(&["relay.example.com"]);
        options.identity = pki.authority.issue(&wish).unwrap();
    };
    let setting = setting_with(elsewhere).await;
    let mut collector = setting.start();
    insta::assert_snapshot!(waits(&setting, &collector).await, @r#"
"the relay's certificate is not acceptable: it is not for localhost but for relay.example.com"
"set `address` to a name in the certificate; or, for a relay of your own, `verify_hostname: false`"
"#);
    stop(&mut collector).await;
    setting.configure_with(
        setting
            .input()
            .service_from(Report::MessageTrace, setting.ago(30), &[]),
        Output::relay(setting.relay.port()).option("verify_hostname", "false"),
    );
    expect_all(&setting, setting.start()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_read_anew_for_each_connection() {
    let setting = Setting::new().await;
    let (from, to) = (setting.ago(27), setting.ago(25));
    setting.rows(Report::MessageTrace, from, to, ROWS);
    setting.configure_one(Report::MessageTrace, from, &[]);
    let mut collector = setting.start();
    setting
        .until_committed(&collector, &[Report::MessageTrace], to)
        .await;
    let Pki {
        authority, client, ..
    } = &setting.pki;
    // First a pair that is none, then one that can be used, with another kind of key.
    let other = authority.issue(&Wish::client().form(KeyForm::Pkcs1));
    let other = other.unwrap();
    put(&setting, &client.with_key_of(&other));
    let start = Utc::now() - DELAY + TimeDelta::seconds(3);
    let end = start + TimeDelta::seconds(1);
    setting.rows(Report::MessageTrace, start, end, ROWS);
    let line = collector.wait_for("delivery waits", PATIENCE).await;
    let line = line.unwrap();
    assert!(
        line.contains("ERROR") && line.contains("does not belong to"),
        "{line}"
    );
    put(&setting, &other);
    setting.stop_at(&mut collector, end).await;
    let expected = setting.existing(Report::MessageTrace, from, end);
    setting.expect_exactly(&expected, &collector);
}

/// Each form of key, as it comes from Devo and from elsewhere, with one version of TLS.
async fn every_form_of_key(versions: TlsVersions) {
    for form in [
        KeyForm::Pkcs8,
        KeyForm::RsaPkcs8,
        KeyForm::Pkcs1,
        KeyForm::Sec1,
    ] {
        let setting = setting_with(|_, options| options.tls = versions).await;
        let identity = setting.pki.authority.issue(&Wish::client().form(form));
        put(&setting, &identity.unwrap());
        expect_all(&setting, setting.start()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_form_of_key_serves_with_tls_1_2() {
    every_form_of_key(TlsVersions::V12).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_form_of_key_serves_with_tls_1_3() {
    every_form_of_key(TlsVersions::V13).await;
}

/// A relay of OpenSSL that takes what older ones took, with this certificate; ours is of this form.
async fn old_relay(of_relay: Form, ours: Form) -> Option<(Setting, Peer)> {
    if !installed(Program::Openssl) {
        return None;
    }
    let setting = setting().await;
    let of_relay = outdated::issue(Form::GOOD, of_relay).unwrap();
    let ours = outdated::issue(Form::GOOD, ours).unwrap();
    let shared = Shared {
        authority: ours.authority,
        server: of_relay.identity,
    };
    let peer = Peer::start_as(Program::Openssl, &shared).unwrap();
    put(&setting, &ours.identity);
    fs::write(setting.folder.certs().join("chain.crt"), of_relay.authority).unwrap();
    let input = setting
        .input()
        .service_from(Report::MessageTrace, setting.ago(30), &[]);
    setting.configure_with(input, Output::relay(peer.port()));
    Some((setting, peer))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_with_a_key_of_1024_bits_is_refused_with_what_to_do() {
    let Some((setting, _peer)) = old_relay(Form::SHORT, Form::GOOD).await else {
        return;
    };
    let collector = setting.start();
    insta::assert_snapshot!(waits(&setting, &collector).await, @r#"
"the relay's certificate is not acceptable: CN=localhost has an RSA key of 1024 bits, which is not accepted any more"
"have that certificate issued anew, and what it has issued: version 3, signed with SHA-256, with an RSA key of 2048 bits or more or an ECDSA one; no setting lets it pass, but a relay on this machine that still accepts it can stand between (type `syslog`)"
"#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_certificate_signed_with_sha_1_or_of_version_1_serves_where_the_relay_takes_it() {
    for ours in [Form::SHA_1, Form::VERSION_1] {
        let Some((setting, peer)) = old_relay(Form::GOOD, ours).await else {
            return;
        };
        let mut collector = setting.start();
        setting.stop_at(&mut collector, setting.ago(29)).await;
        let (from, to) = (setting.ago(30), setting.ago(29));
        let expected = setting.existing(Report::MessageTrace, from, to);
        let (read, violations) = peer.read().unwrap();
        let verdict = compared(&expected, &read, 0);
        assert!(
            verdict.is_exact() && violations.is_empty(),
            "{verdict}\n{}\n{}",
            log(&collector),
            peer.said()
        );
    }
}
