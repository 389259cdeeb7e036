//! What Linux says of a TCP connection: how much the peer has not acknowledged, and who ended it first.
//!
//! It needs `unsafe`: the standard library asks neither question.

#![expect(
    unsafe_code,
    reason = "SIOCOUTQ and TCP_INFO have no safe interface in the crates used"
)]

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

/// The states (`include/net/tcp_states.h`) of a connection whose peer has ended its stream before us: we have not ended ours,
/// or have, and the peer has not acknowledged that yet.
const ENDED_BY_PEER: [u8; 2] = [CLOSE_WAIT, LAST_ACK];
const CLOSE_WAIT: u8 = 8;
const LAST_ACK: u8 = 9;

/// A moment of a connection, as `TCP_INFO` (tcp(7)) tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    /// Segments are under way that the peer has not acknowledged.
    pub(super) in_flight: bool,
    /// Questions after a closed window that the peer has not answered.
    pub(super) unanswered_probes: u8,
    /// The time since the peer last acknowledged anything, a question after a closed window included.
    pub(super) silence: Duration,
    /// The time since the peer last sent data, to the kernel's tick; its FIN is none.
    pub(super) since_data: Duration,
    /// The shortest time that an acknowledgement has taken on this connection; zero if none has come.
    pub(super) round_trip: Duration,
    /// The peer ended its stream before we ended ours.
    pub(super) ended_by_peer: bool,
}

/// The bytes that the peer's TCP has not acknowledged, those not yet sent included; our FIN counts as one.
pub(super) fn unacknowledged(socket: &impl AsFd) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is borrowed, thus open; SIOCOUTQ (the same number as TIOCOUTQ) writes one int.
    let answer = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    usize::try_from(bytes).map_err(io::Error::other)
}

/// The connection's condition at this moment.
pub(super) fn condition(socket: &impl AsFd) -> io::Result<Condition> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length =
        libc::socklen_t::try_from(size_of::<libc::tcp_info>()).map_err(io::Error::other)?;
    // SAFETY: the descriptor is borrowed, thus open; the kernel writes at most `length` bytes into `info`.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `tcp_info` is made of integers only, for which the zeroes are valid that an older kernel leaves in place.
    let info = unsafe { info.assume_init() };
    Ok(Condition {
        in_flight: info.tcpi_unacked > 0,
        unanswered_probes: info.tcpi_probes,
        silence: Duration::from_millis(info.tcpi_last_ack_recv.into()),
        since_data: Duration::from_millis(info.tcpi_last_data_recv.into()),
        round_trip: match info.tcpi_min_rtt {
            u32::MAX => Duration::ZERO,
            microseconds => Duration::from_micros(microseconds.into()),
        },
        ended_by_peer: ENDED_BY_PEER.contains(&info.tcpi_state),
    })
}
