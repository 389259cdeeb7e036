//! A name server: one name, the addresses that it is told, and silence on demand.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Namespace;
use crate::sync::lock;

/// How often the server looks whether it is to end.
const TURN: Duration = Duration::from_millis(100);

/// A name server on a host's loopback, which the host's programs ask; it ends when dropped.
pub struct Names {
    shared: Arc<Shared>,
}

struct Shared {
    addresses: Mutex<Vec<IpAddr>>,
    silent: AtomicBool,
    ended: AtomicBool,
    questions: AtomicU64,
}

impl Names {
    /// Answers any name with these addresses, in this order.
    pub fn start(host: &Namespace, addresses: &[IpAddr]) -> Result<Names> {
        host.etc("resolv.conf", "nameserver 127.0.0.1\n")?;
        host.etc("nsswitch.conf", "hosts: files dns\n")?;
        let socket = host
            .enter(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, 53)))?
            .context("the name server cannot listen")?;
        socket.set_read_timeout(Some(TURN))?;
        let shared = Arc::new(Shared {
            addresses: Mutex::new(addresses.to_vec()),
            silent: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            questions: AtomicU64::new(0),
        });
        let all = Arc::clone(&shared);
        thread::spawn(move || serve(&socket, &all));
        Ok(Names { shared })
    }

    /// Says nothing any more, or answers again.
    pub fn silent(&self, on: bool) {
        self.shared.silent.store(on, Ordering::Relaxed);
    }

    /// Answers with these from now on.
    pub fn addresses(&self, addresses: &[IpAddr]) {
        *lock(&self.shared.addresses) = addresses.to_vec();
    }

    /// The questions that came so far, answered or not.
    pub fn questions(&self) -> u64 {
        self.shared.questions.load(Ordering::Relaxed)
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
    }
}

fn serve(socket: &UdpSocket, shared: &Shared) {
    let mut buffer = [0; 1_500];
    while !shared.ended.load(Ordering::Relaxed) {
        let Ok((length, client)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        shared.questions.fetch_add(1, Ordering::Relaxed);
        if shared.silent.load(Ordering::Relaxed) {
            continue;
        }
        if let Some(answer) = answer(&buffer[..length], &lock(&shared.addresses)) {
            // A client that is gone needs none.
            let _ = socket.send_to(&answer, client);
        }
    }
}

/// The answer to a question (RFC 1035, 4.1): every address of its type, A or AAAA (RFC 3596, 2.1), and nothing for any other type.
fn answer(question: &[u8], addresses: &[IpAddr]) -> Option<Vec<u8>> {
    const HEADER: usize = 12;
    const TYPE_A: u8 = 1;
    const TYPE_AAAA: u8 = 28;
    const CLASS_IN: u8 = 1;
    let labels = question.get(HEADER..)?;
    let name = labels.iter().position(|byte| *byte == 0)? + 1;
    let kind = labels.get(name..name + 4)?;
    let is_asked_for = |address: &&IpAddr| match address {
        IpAddr::V4(_) => kind == [0, TYPE_A, 0, CLASS_IN],
        IpAddr::V6(_) => kind == [0, TYPE_AAAA, 0, CLASS_IN],
    };
    let addresses: Vec<_> = addresses.iter().filter(is_asked_for).collect();
    let count = u8::try_from(addresses.len()).ok()?;
    let mut answer = question[..2].to_vec();
    // A response, recursion desired and available, no error; one question, `count` answers.
    answer.extend([0x81, 0x80, 0, 1, 0, count, 0, 0, 0, 0]);
    answer.extend_from_slice(&labels[..name + 4]);
    for address in addresses {
        // The question's name, its type and class, to be kept for no time; then the address and its length.
        answer.extend([0xc0, 0x0c]);
        answer.extend(kind);
        answer.extend([0, 0, 0, 0, 0]);
        match address {
            IpAddr::V4(address) => {
                answer.push(4);
                answer.extend(address.octets());
            }
            IpAddr::V6(address) => {
                answer.push(16);
                answer.extend(address.octets());
            }
        }
    }
    Some(answer)
}
