//! Carries packets from one device to the other: a thread that reads and one that writes, each way.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use tappers::Tun;

use crate::sync::lock;

/// Packets under way in one direction; what comes beyond is dropped, as at a router.
const PACKETS_MAX: usize = 20_000;

/// What the link is told to do, and what it has seen.
pub(super) struct Control {
    pub(super) delay_us: AtomicU64,
    pub(super) loss_thousandths: AtomicU32,
    /// Bytes that may still go to the far host; `u64::MAX` means any number.
    pub(super) bytes_left: AtomicU64,
    pub(super) to_far: Direction,
    pub(super) to_near: Direction,
    pub(super) near_ended: Mutex<Box<dyn FnMut() + Send>>,
    pub(super) attempts: Mutex<HashMap<SocketAddr, u64>>,
}

#[derive(Default)]
pub(super) struct Direction {
    pub(super) hole: AtomicBool,
    pub(super) dropped: AtomicU64,
}

impl Default for Control {
    fn default() -> Self {
        Control {
            delay_us: AtomicU64::new(0),
            loss_thousandths: AtomicU32::new(0),
            bytes_left: AtomicU64::new(u64::MAX),
            to_far: Direction::default(),
            to_near: Direction::default(),
            near_ended: Mutex::new(Box::new(|| {})),
            attempts: Mutex::default(),
        }
    }
}

/// Starts to forward; ends when the devices go.
pub(super) fn start(near: Tun, far: Tun, control: &Arc<Control>) -> Result<()> {
    let (near, far) = (Arc::new(near), Arc::new(far));
    let (there, delayed) = sync_channel(PACKETS_MAX);
    let (device, all) = (Arc::clone(&near), Arc::clone(control));
    spawn("link-from-near", move || {
        let mut watch = Watch::default();
        read(&device, &there, |packet| {
            watch.note(packet, &all);
            let hole = all.to_far.hole.load(Ordering::Relaxed);
            let dropped = hole || all.loses() || !all.has_bytes_for(packet);
            passed(dropped, &all, &all.to_far)
        });
    })?;
    let device = Arc::clone(&far);
    spawn("link-to-far", move || write(&device, &delayed))?;

    let (back, delayed) = sync_channel(PACKETS_MAX);
    let all = Arc::clone(control);
    spawn("link-from-far", move || {
        read(&far, &back, |_| {
            let hole = all.to_near.hole.load(Ordering::Relaxed);
            passed(hole || all.loses(), &all, &all.to_near)
        });
    })?;
    spawn("link-to-near", move || write(&near, &delayed))
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(run)?;
    Ok(())
}

/// The delay of a packet that is not dropped.
fn passed(dropped: bool, control: &Control, direction: &Direction) -> Option<Duration> {
    if dropped {
        direction.dropped.fetch_add(1, Ordering::Relaxed);
        return None;
    }
    Some(Duration::from_micros(
        control.delay_us.load(Ordering::Relaxed),
    ))
}

impl Control {
    fn loses(&self) -> bool {
        let thousandths = self.loss_thousandths.load(Ordering::Relaxed);
        thousandths > 0 && rand::random_range(0..1_000) < thousandths
    }

    /// Takes a packet's bytes from those left; opens the black hole when they are used up.
    fn has_bytes_for(&self, packet: &[u8]) -> bool {
        let left = self.bytes_left.load(Ordering::Relaxed);
        if left == u64::MAX {
            return true;
        }
        let bytes = Segment::of(packet).map_or(0, |segment| segment.payload as u64);
        if bytes < left {
            self.bytes_left.store(left - bytes, Ordering::Relaxed);
            return true;
        }
        self.bytes_left.store(u64::MAX, Ordering::Relaxed);
        self.to_far.hole.store(true, Ordering::Relaxed);
        self.to_near.hole.store(true, Ordering::Relaxed);
        false
    }
}

fn read(
    device: &Tun,
    packets: &SyncSender<(Instant, Vec<u8>)>,
    mut judge: impl FnMut(&[u8]) -> Option<Duration>,
) {
    let mut buffer = vec![0; 64 << 10];
    // An error is the device's end.
    while let Ok(length) = device.recv(&mut buffer) {
        let packet = &buffer[..length];
        if let Some(delay) = judge(packet) {
            // A full queue drops it.
            let _ = packets.try_send((Instant::now() + delay, packet.to_vec()));
        }
    }
}

fn write(device: &Tun, packets: &Receiver<(Instant, Vec<u8>)>) {
    while let Ok((time, packet)) = packets.recv() {
        thread::sleep(time.saturating_duration_since(Instant::now()));
        // A device that is down takes nothing, which is a packet dropped.
        let _ = device.send(&packet);
    }
}

/// What the near host's connections have done.
#[derive(Default)]
struct Watch {
    ended: HashSet<(u16, SocketAddr)>,
}

impl Watch {
    fn note(&mut self, packet: &[u8], control: &Control) {
        let Some(segment) = Segment::of(packet) else {
            return;
        };
        let connection = (segment.source_port, segment.destination);
        if segment.syn {
            self.ended.remove(&connection);
            *lock(&control.attempts)
                .entry(segment.destination)
                .or_default() += 1;
        }
        let ends = segment.fin || segment.close_notify;
        if ends && self.ended.insert(connection) {
            lock(&control.near_ended)();
        }
    }
}

/// What is looked at in a TCP segment (RFC 9293, 3.1) in a packet of IPv4 (RFC 791, 3.1) or of IPv6 (RFC 8200, 3).
struct Segment {
    source_port: u16,
    destination: SocketAddr,
    syn: bool,
    fin: bool,
    /// The payload ends with what can only be an alert of TLS: one that ends the connection, in a test in which all goes well.
    close_notify: bool,
    payload: usize,
}

/// How the record of an alert begins, and its length: TLS 1.3; TLS 1.2 with `AES-GCM`, and with `ChaCha20`.
const ALERTS: [([u8; 5], usize); 3] = [
    ([0x17, 3, 3, 0, 0x13], 24),
    ([0x15, 3, 3, 0, 0x1a], 31),
    ([0x15, 3, 3, 0, 0x12], 23),
];

impl Segment {
    fn of(packet: &[u8]) -> Option<Segment> {
        const TCP: u8 = 6;
        let first = *packet.first()?;
        let (protocol, destination, header): (u8, IpAddr, usize) = if first >> 4 == 4 {
            let address: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
            (packet[9], address.into(), usize::from(first & 0x0f) * 4)
        } else {
            let address: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
            (packet[6], address.into(), 40)
        };
        if protocol != TCP {
            return None;
        }
        let (_, segment) = packet.split_at_checked(header)?;
        let port = |at: usize| {
            Some(u16::from_be_bytes([
                *segment.get(at)?,
                *segment.get(at + 1)?,
            ]))
        };
        let header = usize::from(*segment.get(12)? >> 4) * 4;
        let flags = *segment.get(13)?;
        let payload = segment.get(header..).unwrap_or_default();
        let close_notify = ALERTS.iter().any(|(start, length)| {
            let from = payload.len().checked_sub(*length);
            from.is_some_and(|from| payload[from..].starts_with(start))
        });
        Some(Segment {
            source_port: port(0)?,
            destination: SocketAddr::new(destination, port(2)?),
            syn: flags & 0x02 != 0,
            fin: flags & 0x01 != 0,
            close_notify,
            payload: payload.len(),
        })
    }
}
