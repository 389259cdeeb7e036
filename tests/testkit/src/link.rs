//! A link between two hosts, simulated: two network namespaces of this machine, and the packets between them in our hands.
//!
//! TCP is end to end, the kernel's own on either side: what is delayed, dropped or counted are IP packets. So closes really cross, a
//! black hole answers nothing, and an acknowledgement means that the other host's kernel has the bytes. A proxy can show none of that.
//!
//! It takes root and `/dev/net/tun`; [`Link::new`] says aloud if this machine has not both.
//!
//! ```no_run
//! # fn example(pki: &testkit::pki::Pki) -> anyhow::Result<()> {
//! use std::time::Duration;
//! use testkit::link::Link;
//! use testkit::relay::{Options, Relay};
//!
//! let Some(link) = Link::new()? else { return Ok(()) };
//! let mut options = Options::new(pki);
//! options.bind.set_ip(link.far().address());
//! let relay = link.far().enter(|| Relay::start_with(&options))??;
//! link.delay(Duration::from_millis(100));
//! // … something runs in `link.near()` and speaks to `relay.address()` …
//! # Ok(()) }
//! ```

mod forwarder;
mod names;
mod namespace;

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::unistd::geteuid;

use crate::sync::lock;
use forwarder::{Control, Direction};
pub use names::Names;
pub use namespace::Namespace;

/// The near host's addresses, of IPv4 and of IPv6. All of the far hosts' have as many bits in common with them, so that a resolver
/// keeps their order.
const NEAR: [IpAddr; 2] = [ipv4(129), ipv6(129)];
/// The far host's addresses; the last is there to be connected to in vain.
const FAR: [IpAddr; 3] = [ipv4(65), ipv6(65), ipv4(66)];
/// Addresses on the far side that no host has.
const NOWHERE: [IpAddr; 2] = [ipv4(67), ipv6(67)];

const fn ipv4(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 77, 0, last))
}

const fn ipv6(last: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, last))
}

/// Two hosts and the link between them; all of it goes with this value.
pub struct Link {
    control: Arc<Control>,
    near: Namespace,
    far: Namespace,
}

impl Link {
    /// A new one without delay; none if this machine cannot have it, which is said on standard error.
    ///
    /// # Errors
    ///
    /// Something goes wrong on a machine that could; or, with `CI=true`, it cannot.
    pub fn new() -> Result<Option<Link>> {
        if let Some(reason) = impossible() {
            ensure!(
                std::env::var("CI").as_deref() != Ok("true"),
                "no link between namespaces, and nothing may be skipped with CI=true: {reason}"
            );
            skipped(reason);
            return Ok(None);
        }
        namespace::remove_leftovers();
        let control = Arc::<Control>::default();
        let near = Namespace::new("near", &NEAR)?;
        let far = Namespace::new("far", &FAR)?;
        forwarder::start(near.device()?, far.device()?, &control)?;
        near.configure()?;
        far.configure()?;
        Ok(Some(Link { control, near, far }))
    }

    /// The host that the collector is to run on.
    pub fn near(&self) -> &Namespace {
        &self.near
    }

    /// The host that the relay is to run on.
    pub fn far(&self) -> &Namespace {
        &self.far
    }

    /// An address of the far host where nobody listens: connections are refused.
    pub fn refusing(&self) -> IpAddr {
        FAR[2]
    }

    /// An address that nothing answers for: connections time out.
    pub fn nowhere(&self) -> IpAddr {
        NOWHERE[0]
    }

    /// The same, of IPv6.
    pub fn nowhere_of_ipv6(&self) -> IpAddr {
        NOWHERE[1]
    }

    /// Every packet takes so long, each way, from now on.
    pub fn delay(&self, delay: Duration) {
        let microseconds = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        self.control.delay_us.store(microseconds, Ordering::Relaxed);
    }

    /// Drops every packet, both ways, or goes on.
    pub fn black_hole(&self, on: bool) {
        self.valve().black_hole(on);
    }

    /// What opens and closes the black hole, as a value for [`on_near_end`](Self::on_near_end).
    pub fn valve(&self) -> Valve {
        Valve(Arc::clone(&self.control))
    }

    /// Drops this part of all packets at random, in thousandths, each way.
    pub fn loss(&self, thousandths: u32) {
        self.control
            .loss_thousandths
            .store(thousandths, Ordering::Relaxed);
    }

    /// A black hole, both ways, once so many more bytes of TCP's have gone to the far host.
    pub fn black_hole_after(&self, bytes: u64) {
        self.control.bytes_left.store(bytes, Ordering::Relaxed);
    }

    /// Calls this the moment a connection's first FIN leaves the near host, before it is delayed or dropped.
    pub fn on_near_end(&self, call: impl FnMut() + Send + 'static) {
        *lock(&self.control.near_ended) = Box::new(call);
    }

    /// How often the near host has asked for a connection to there; one that asks again for want of an answer counts again.
    pub fn attempts(&self, address: SocketAddr) -> u64 {
        lock(&self.control.attempts)
            .get(&address)
            .copied()
            .unwrap_or(0)
    }

    /// Packets dropped so far, to the far host and to the near one.
    pub fn dropped(&self) -> (u64, u64) {
        let of = |direction: &Direction| direction.dropped.load(Ordering::Relaxed);
        (of(&self.control.to_far), of(&self.control.to_near))
    }
}

/// Opens and closes a link's black hole.
#[derive(Clone)]
pub struct Valve(Arc<Control>);

impl Valve {
    /// Drops every packet, both ways, or goes on.
    pub fn black_hole(&self, on: bool) {
        self.0.to_far.hole.store(on, Ordering::Relaxed);
        self.0.to_near.hole.store(on, Ordering::Relaxed);
    }
}

fn impossible() -> Option<&'static str> {
    if !geteuid().is_root() {
        return Some("only root can make network namespaces");
    }
    if !Path::new("/dev/net/tun").exists() {
        return Some("there is no /dev/net/tun");
    }
    if !Path::new("/proc/net/if_inet6").exists() {
        return Some("this kernel has no IPv6");
    }
    namespace::ip().err().map(|_| "there is no program `ip`")
}

/// Not by `eprintln!`, which the test harness would keep to itself.
fn skipped(reason: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: {reason}");
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::{TcpListener, TcpStream};
    use std::time::Instant;

    use super::*;

    fn pair(link: &Link) -> (TcpStream, TcpStream) {
        let listener = link
            .far()
            .enter(|| TcpListener::bind((FAR[0], 0)))
            .unwrap()
            .unwrap();
        let address = listener.local_addr().unwrap();
        let client = link
            .near()
            .enter(|| TcpStream::connect(address))
            .unwrap()
            .unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[test]
    fn packets_take_the_time_that_they_are_told_to() {
        let Some(link) = Link::new().unwrap() else {
            return;
        };
        let (mut client, mut server) = pair(&link);
        link.delay(Duration::from_millis(80));
        let start = Instant::now();
        client.write_all(b"there").unwrap();
        let mut bytes = [0; 5];
        server.read_exact(&mut bytes).unwrap();
        server.write_all(&bytes).unwrap();
        client.read_exact(&mut bytes).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(160));
        assert_eq!(&bytes, b"there");
    }

    #[test]
    fn a_black_hole_swallows_packets_and_tcp_sends_them_again_when_it_is_gone() {
        let Some(link) = Link::new().unwrap() else {
            return;
        };
        let (mut client, mut server) = pair(&link);
        link.black_hole_after(1_000);
        client.write_all(&[7; 10_000]).unwrap();
        server
            .set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        let mut bytes = vec![0; 10_000];
        assert!(server.read_exact(&mut bytes).is_err());
        assert!(link.dropped().0 > 0);
        link.black_hole(false);
        server.set_read_timeout(None).unwrap();
        let mut rest = Vec::new();
        drop(client);
        server.read_to_end(&mut rest).unwrap();
        assert!(!rest.is_empty());
    }

    #[test]
    fn the_first_fin_is_told_before_it_arrives() {
        let Some(link) = Link::new().unwrap() else {
            return;
        };
        let (client, mut server) = pair(&link);
        link.delay(Duration::from_millis(50));
        let (sender, receiver) = std::sync::mpsc::channel();
        link.on_near_end(move || {
            let _ = sender.send(Instant::now());
        });
        drop(client);
        assert_eq!(server.read(&mut [0]).unwrap(), 0);
        let told = receiver.recv().unwrap();
        assert!(told.elapsed() >= Duration::from_millis(50));
        assert!(receiver.try_recv().is_err());
    }
}
