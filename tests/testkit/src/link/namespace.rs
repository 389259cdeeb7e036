//! A network namespace as a host: addresses, a loopback of its own, names of its own.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::sched::{CloneFlags, setns};
use tappers::{Interface, Tun};
use tokio::runtime::Handle;

/// What all of our namespaces' names begin with; a process id follows.
const PREFIX: &str = "testkit-";
/// The device's name in each of them.
const DEVICE: &str = "link0";

/// A host of its own on this machine; it goes with this value.
pub struct Namespace {
    name: String,
    addresses: Vec<IpAddr>,
}

impl Namespace {
    pub(super) fn new(role: &str, addresses: &[IpAddr]) -> Result<Namespace> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let namespace = Namespace {
            name: format!("{PREFIX}{}-{number}-{role}", process::id()),
            addresses: addresses.to_vec(),
        };
        run_ip(["netns", "add", &namespace.name])?;
        Ok(namespace)
    }

    /// The host's first address, of IPv4.
    pub fn address(&self) -> IpAddr {
        self.addresses[0]
    }

    /// The host's address of IPv6.
    pub fn address_of_ipv6(&self) -> IpAddr {
        self.addresses[1]
    }

    /// A program on this host: `ip netns exec` finds the namespace, with the host's own files of `/etc`.
    ///
    /// What comes is the program to run instead, and the arguments that come before those of `program`.
    pub fn wrapped(&self, program: &Path) -> Result<(PathBuf, Vec<PathBuf>)> {
        let arguments = [
            "netns".as_ref(),
            "exec".as_ref(),
            self.name.as_ref(),
            program,
        ];
        Ok((ip()?, arguments.into_iter().map(Path::to_owned).collect()))
    }

    /// Runs this on a thread of this host: its sockets and its child processes are the host's for good. Within a Tokio runtime it may
    /// spawn tasks.
    ///
    /// # Errors
    ///
    /// The namespace cannot be entered.
    pub fn enter<T: Send>(&self, act: impl FnOnce() -> T + Send) -> Result<T> {
        let runtime = Handle::try_current().ok();
        let entered = || {
            let file = File::open(Path::new("/run/netns").join(&self.name))?;
            setns(file, CloneFlags::CLONE_NEWNET)?;
            let _guard = runtime.as_ref().map(Handle::enter);
            Ok::<T, io::Error>(act())
        };
        thread::scope(|scope| match scope.spawn(entered).join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        })
        .with_context(|| format!("cannot enter {}", self.name))
    }

    /// Gives programs on this host a file of their own under `/etc`, such as `resolv.conf`.
    pub fn etc(&self, name: &str, text: &str) -> Result<()> {
        let folder = etc(&self.name);
        fs::create_dir_all(&folder)
            .and_then(|()| fs::write(folder.join(name), text))
            .with_context(|| format!("cannot write {name} for {}", self.name))
    }

    /// The host's end of the link.
    pub(super) fn device(&self) -> Result<Tun> {
        self.enter(|| Tun::new_named(Interface::new(DEVICE)?))?
            .context("cannot make a TUN device")
    }

    /// Brings the interfaces up; the device has to be there.
    pub(super) fn configure(&self) -> Result<()> {
        let within = |arguments: &[&str]| run_ip(["-n", &self.name].iter().chain(arguments));
        within(&["link", "set", "lo", "up"])?;
        for address in &self.addresses {
            let network = if address.is_ipv4() { 24 } else { 64 };
            let address = format!("{address}/{network}");
            // An address of IPv6 could else not be used before it has been asked for on the link.
            within(&["address", "add", &address, "dev", DEVICE, "nodad"])?;
        }
        within(&["link", "set", DEVICE, "up"])
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Without its device the forwarder ends; sockets that are open still may keep the namespace itself for a while.
        let _ = run_ip(["-n", &self.name, "link", "delete", DEVICE]);
        remove(&self.name);
    }
}

/// Removes what test runs left behind that were killed.
pub(super) fn remove_leftovers() {
    let entries = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        if let Some(name) = name.to_str()
            && owner(name).is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
        {
            remove(name);
        }
    }
}

/// The process that made a namespace of ours.
fn owner(name: &str) -> Option<u32> {
    let (pid, _) = name.strip_prefix(PREFIX)?.split_once('-')?;
    pid.parse().ok()
}

fn remove(name: &str) {
    // Another test may do the same at the same time.
    let _ = run_ip(["netns", "delete", name]);
    let _ = fs::remove_dir_all(etc(name));
}

fn etc(name: &str) -> PathBuf {
    Path::new("/etc/netns").join(name)
}

/// The program `ip`.
pub(super) fn ip() -> Result<PathBuf> {
    let places = ["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip", "/bin/ip"];
    let found = places
        .map(PathBuf::from)
        .into_iter()
        .find(|path| path.is_file());
    found.ok_or_else(|| anyhow!("no program `ip`: install iproute2"))
}

fn run_ip(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<()> {
    let mut command = Command::new(ip()?);
    let output = command.args(arguments).output().context("cannot run ip")?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {text}");
    Ok(())
}
