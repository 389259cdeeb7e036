//! How each program is made a relay: its configuration and its command line.

use std::env::join_paths;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::Program;
use crate::relay::Format;

/// Where `.ci/run` unpacks syslog-ng and the libraries that it needs.
macro_rules! syslog_ng {
    ($below:literal) => {
        concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../target/ci-tools/syslog-ng",
            $below
        )
    };
}

/// A relay of our own.
macro_rules! peer {
    ($file:literal) => {
        concat!(env!("CARGO_MANIFEST_DIR"), "/peers/", $file)
    };
}

/// The module of nginx that takes TCP.
const NGINX_STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// Whether a file is there; `*` stands for the folder of this machine's architecture.
pub(super) fn is_there(path: &str) -> bool {
    let Some((above, below)) = path.split_once("/*/") else {
        return Path::new(path).exists();
    };
    folders(above).any(|folder| folder.join(below).exists())
}

fn folders(above: &str) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(above).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

impl Program {
    /// Files that have to be there, each with Debian's package.
    pub(super) fn needs(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Program::RsyslogGnutls => &[
                ("/usr/sbin/rsyslogd", "rsyslog"),
                ("/usr/lib/*/rsyslog/lmnsd_gtls.so", "rsyslog-gnutls"),
            ],
            Program::RsyslogOpenssl => &[
                ("/usr/sbin/rsyslogd", "rsyslog"),
                ("/usr/lib/*/rsyslog/lmnsd_ossl.so", "rsyslog-openssl"),
            ],
            Program::RsyslogPlain => &[("/usr/sbin/rsyslogd", "rsyslog")],
            Program::SyslogNg | Program::SyslogNgPlain => &[(
                syslog_ng!("/usr/sbin/syslog-ng"),
                "syslog-ng-core (unpacked by .ci/run)",
            )],
            Program::Stunnel => &[("/usr/bin/stunnel4", "stunnel4")],
            Program::Haproxy | Program::HaproxyPassing => &[("/usr/sbin/haproxy", "haproxy")],
            Program::Nginx | Program::NginxPassing | Program::NginxHalfClosing => &[
                ("/usr/sbin/nginx", "nginx"),
                (NGINX_STREAM, "libnginx-mod-stream"),
            ],
            Program::SocatPassing => &[("/usr/bin/socat", "socat")],
            Program::Openssl => &[("/usr/bin/openssl", "openssl")],
            Program::Python => &[("/usr/bin/python3", "python3")],
            Program::Java => &[
                ("/usr/bin/java", "default-jdk-headless"),
                // It compiles the relay.
                ("/usr/bin/javac", "default-jdk-headless"),
            ],
            Program::Go => &[("/usr/bin/go", "golang-go")],
        }
    }

    /// Whether it keeps nothing itself: what it decrypts goes to a plain receiver behind it.
    pub(super) fn only_ends_tls(self) -> bool {
        matches!(self, Program::Stunnel | Program::Haproxy | Program::Nginx)
    }

    /// Which lines it is sent.
    pub(super) fn format(self) -> Format {
        match self {
            Program::RsyslogPlain | Program::SyslogNgPlain => Format::Syslog,
            _ => Format::Devo,
        }
    }

    /// Writes the configuration into `folder`, where certificates and key lie already; how to start the program in the foreground.
    pub(super) fn command(
        self,
        folder: &Path,
        port: u16,
        behind: Option<u16>,
        lines: &Path,
    ) -> Result<Command> {
        let behind = behind.unwrap_or_default();
        let config = folder.join("peer.conf");
        let text = match self {
            Program::RsyslogGnutls => rsyslog(Some("gtls"), "Direct", folder, port, lines),
            Program::RsyslogOpenssl => rsyslog(Some("ossl"), "LinkedList", folder, port, lines),
            Program::RsyslogPlain => rsyslog(None, "Direct", folder, port, lines),
            Program::SyslogNg => syslog_ng(true, folder, port, lines),
            Program::SyslogNgPlain => syslog_ng(false, folder, port, lines),
            Program::Stunnel => stunnel(port, behind),
            Program::Haproxy => {
                let pem = ["server.crt", "server.key"].map(|name| fs::read(folder.join(name)));
                let [certificate, key] = pem;
                fs::write(folder.join("server.pem"), [certificate?, key?].concat())?;
                let tls = format!(
                    "ssl crt {0}/server.pem ca-file {0}/chain.crt verify required",
                    folder.display()
                );
                haproxy(port, &tls, behind)
            }
            Program::HaproxyPassing => haproxy(port, "", behind),
            Program::Nginx => {
                let tls = format!(
                    "ssl_certificate {0}/server.crt; ssl_certificate_key {0}/server.key;
        ssl_client_certificate {0}/chain.crt; ssl_verify_client on;",
                    folder.display()
                );
                nginx(&format!("{port} ssl"), &tls, behind)
            }
            Program::NginxPassing => nginx(&port.to_string(), "", behind),
            Program::NginxHalfClosing => nginx(&port.to_string(), "proxy_half_close on;", behind),
            Program::SocatPassing
            | Program::Openssl
            | Program::Python
            | Program::Java
            | Program::Go => String::new(),
        };
        fs::write(&config, text).context("cannot write the peer's configuration")?;
        let mut command = Command::new(self.needs()[0].0);
        let port_and_lines = [OsString::from(port.to_string()), lines.into()];
        match self {
            Program::Python => command.arg(peer!("relay.py")).args(port_and_lines),
            Program::Java => command
                .args(["-XX:TieredStopAtLevel=1", "-Djava.net.preferIPv4Stack=true"])
                .arg(peer!("Relay.java"))
                .args(port_and_lines),
            Program::Go => {
                command = Command::new(built_by_go(folder)?);
                command.args(port_and_lines)
            }
            Program::RsyslogGnutls | Program::RsyslogOpenssl | Program::RsyslogPlain => {
                command.arg("-n").arg("-f").arg(&config);
                command.arg("-i").arg(folder.join("peer.pid"))
            }
            Program::SyslogNg | Program::SyslogNgPlain => {
                let libraries = folders(syslog_ng!("/usr/lib")).chain(folders(syslog_ng!("/lib")));
                command.env("LD_LIBRARY_PATH", join_paths(libraries)?);
                command
                    .args(["--foreground", "--no-caps", "--cfgfile"])
                    .arg(&config);
                let modules = folders(syslog_ng!("/usr/lib/syslog-ng"));
                command.arg("--module-path").arg(join_paths(modules)?);
                for (option, name) in [
                    ("--persist-file", "peer.persist"),
                    ("--control", "peer.ctl"),
                    ("--pidfile", "peer.pid"),
                ] {
                    command.arg(option).arg(folder.join(name));
                }
                &mut command
            }
            Program::Stunnel => command.arg(&config),
            Program::Haproxy | Program::HaproxyPassing => command.args(["-db", "-f"]).arg(&config),
            Program::Nginx | Program::NginxPassing | Program::NginxHalfClosing => command
                .args(["-e", "stderr", "-p"])
                .arg(folder)
                .arg("-c")
                .arg(&config),
            Program::SocatPassing => command.args([
                "-t0.5",
                &format!("TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr"),
                &format!("TCP:127.0.0.1:{behind}"),
            ]),
            Program::Openssl => command
                .args([
                    "s_server",
                    "-quiet",
                    "-accept",
                    &format!("127.0.0.1:{port}"),
                ])
                .args(["-cert", "server.crt", "-key", "server.key"])
                .args(["-cipher", "DEFAULT@SECLEVEL=0"])
                .args([
                    "-CAfile",
                    "chain.crt",
                    "-Verify",
                    "2",
                    "-verify_return_error",
                ]),
        };
        Ok(command)
    }
}

/// Builds the relay in Go, since a signal to `go run` would not reach it.
fn built_by_go(folder: &Path) -> Result<PathBuf> {
    let program = folder.join("relay");
    let built = Command::new("/usr/bin/go")
        .args(["build", "-o"])
        .args([&program, Path::new(peer!("relay.go"))])
        .env(
            "GOCACHE",
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/go-build"),
        )
        .output()
        .context("cannot start go")?;
    if !built.status.success() {
        bail!("go build: {}", String::from_utf8_lossy(&built.stderr));
    }
    Ok(program)
}

/// `queue` decides what a kill costs: `Direct` has written a record before the next one is read.
fn rsyslog(driver: Option<&str>, queue: &str, folder: &Path, port: u16, lines: &Path) -> String {
    let (folder, lines) = (folder.display(), lines.display());
    let (files, stream) = driver.map_or_else(Default::default, |driver| {
        (
            format!(
                r#"defaultNetstreamDriver="{driver}"
    defaultNetstreamDriverCAFile="{folder}/chain.crt"
    defaultNetstreamDriverCertFile="{folder}/server.crt"
    defaultNetstreamDriverKeyFile="{folder}/server.key""#
            ),
            format!(
                r#"streamDriver.name="{driver}" streamDriver.mode="1" streamDriver.authMode="x509/certvalid""#
            ),
        )
    });
    format!(
        r#"global(
    workDirectory="{folder}"
    maxMessageSize="64k"
    {files}
)
main_queue(queue.type="{queue}" queue.timeoutShutdown="10000")
module(load="imtcp" {stream})
template(name="raw" type="string" string="%rawmsg%\n")
input(type="imtcp" address="127.0.0.1" port="{port}")
action(type="omfile" file="{lines}" template="raw")
"#
    )
}

fn syslog_ng(tls: bool, folder: &Path, port: u16, lines: &Path) -> String {
    let (folder, lines) = (folder.display(), lines.display());
    let transport = if tls {
        format!(
            r#"transport("tls")
        tls(
            key-file("{folder}/server.key") cert-file("{folder}/server.crt")
            ca-file("{folder}/chain.crt") peer-verify(required-trusted)
        )"#
        )
    } else {
        r#"transport("tcp")"#.to_owned()
    };
    format!(
        r#"@version: 3.38
options {{ log-msg-size(65536); stats-freq(0); }};
source relay {{
    network(
        ip("127.0.0.1") port({port}) flags(no-parse) max-connections(200)
        {transport}
    );
}};
destination lines {{ file("{lines}" template("${{MESSAGE}}\n")); }};
log {{ source(relay); destination(lines); flags(flow-control); }};
"#
    )
}

fn stunnel(port: u16, behind: u16) -> String {
    format!(
        "foreground = yes
pid =
debug = notice
[relay]
accept = 127.0.0.1:{port}
connect = 127.0.0.1:{behind}
cert = server.crt
key = server.key
CAfile = chain.crt
verifyChain = yes
requireCert = yes
"
    )
}

/// `listen` has the port, and `more` what else there is of a server. One process, so that a signal meets all of it.
fn nginx(listen: &str, more: &str, behind: u16) -> String {
    format!(
        "daemon off;
master_process off;
pid nginx.pid;
load_module {NGINX_STREAM};
events {{}}
stream {{
    server {{
        listen 127.0.0.1:{listen};
        proxy_pass 127.0.0.1:{behind};
        {more}
    }}
}}
"
    )
}

/// It reads up to a megabyte ahead of what stands behind it, as one on a busy machine may.
fn haproxy(port: u16, tls: &str, behind: u16) -> String {
    format!(
        "global
    maxconn 200
    tune.bufsize 1048576
    tune.sndbuf.server 65536
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
listen relay
    bind 127.0.0.1:{port} {tls}
    server receiver 127.0.0.1:{behind}
"
    )
}
