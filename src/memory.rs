//! Memory that a backlog has taken: kept as long as there is a backlog, and given back to the system once there is nothing left to do.
//!
//! By itself glibc does neither: it gives a page's memory back with every page, and gets it again, cleared, for the next one, which costs as
//! much as finding the page's rows; and it keeps what is scattered for ever, in a heap for each thread that has been there. A collector that has caught up needs a fraction of it, and may
//! not need more for months. With other C libraries than glibc nothing is done.
//!
//! A shortage of memory passes too: [`Patient`] waits where the system gives none, instead of ending the process at once.
#![expect(
    unsafe_code,
    reason = "an allocator, and calls into the C library that take numbers"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt::Arguments;
use std::hint::black_box;
use std::io::{Write as _, stderr};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use chrono::{Datelike as _, Timelike as _, Utc};
use nix::poll::PollTimeout;

use crate::stream::write;

/// How long an allocation waits. A supervisor that starts the process again is the better remedy for what takes longer.
const SHORTAGE_MAX: Duration = Duration::from_mins(2);

/// The time between two tries.
const RETRY: Duration = Duration::from_millis(100);

/// A larger piece is refused at once, which its caller has to expect. The largest body of an answer is a quarter of it.
const PIECE_MAX: usize = 128 << 20;

/// The stack of the first thread, which the system lets grow only while there is memory.
const STACK: usize = 256 << 10;

/// The longest line that is logged here.
const LINE_MAX: usize = 400;

/// How many allocations wait.
static WAITING: AtomicU32 = AtomicU32::new(0);

/// Whether the log is JSON.
static JSON: AtomicBool = AtomicBool::new(false);

/// The system's allocator, which waits through a shortage. Other work of the process waits with it, health included; the time to end after a
/// signal does not.
pub struct Patient;

// SAFETY: all of it is the system's allocator's; a call that it refused is made again with the same arguments.
unsafe impl GlobalAlloc for Patient {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller guarantees.
        given(layout.size(), || unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller guarantees.
        given(layout.size(), || unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as the caller guarantees; where it is refused, the piece is as it was.
        given(size, || unsafe { System.realloc(piece, layout, size) })
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        // SAFETY: as the caller guarantees.
        unsafe { System.dealloc(piece, layout) }
    }
}

/// What `allocate` gives, now or as soon as it does.
#[inline]
fn given(size: usize, allocate: impl Fn() -> *mut u8) -> *mut u8 {
    let piece = allocate();
    if piece.is_null() && size <= PIECE_MAX {
        return wait(size, &allocate);
    }
    piece
}

#[cold]
fn wait(size: usize, allocate: &dyn Fn() -> *mut u8) -> *mut u8 {
    let begun = Instant::now();
    if WAITING.fetch_add(1, Ordering::Relaxed) == 0 {
        tell(format_args!(
            "the system gives no memory ({size} bytes): the collector waits until it does, and nothing is lost; free memory or raise its limit"
        ));
    }
    let mut piece = None;
    while piece.is_none() && begun.elapsed() < SHORTAGE_MAX {
        sleep(RETRY);
        piece = NonNull::new(allocate());
    }
    if WAITING.fetch_sub(1, Ordering::Relaxed) == 1 && piece.is_some() {
        tell(format_args!("the system gives memory again"));
    }
    piece.map_or(std::ptr::null_mut(), NonNull::as_ptr)
}

/// Logs it, where that takes no time. Not by way of the log, which needs memory.
fn tell(message: Arguments<'_>) {
    let mut line = [0; LINE_MAX];
    let mut rest = &mut line[..];
    let now = Utc::now();
    let (year, month, day) = (now.year(), now.month(), now.day());
    let (hour, minute, second) = (now.hour(), now.minute(), now.second());
    let millisecond = now.timestamp_subsec_millis();
    let time = format_args!(
        "{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}"
    );
    // What does not fit is left out.
    let _ = if JSON.load(Ordering::Relaxed) {
        writeln!(
            rest,
            r#"{{"time":"{time}Z","level":"WARNING","msg":"{message}","module_name":"memory"}}"#
        )
    } else {
        writeln!(rest, "{time} WARNING MainProcess::MainThread -> {message}")
    };
    let length = LINE_MAX - rest.len();
    let _ = write(&stderr(), &line[..length], PollTimeout::ZERO);
}

/// From now on the log is JSON.
pub(crate) fn log_json() {
    JSON.store(true, Ordering::Relaxed);
}

/// Takes the stack that the first thread may come to need.
#[inline(never)]
#[expect(clippy::large_stack_arrays, reason = "the stack is what it is to take")]
pub fn take_stack() {
    black_box(&[0_u8; STACK]);
}

/// From now on freed memory is kept for the next time, until it is given back by [`give_back`].
pub fn keep() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: both settings may be changed at any time, by any thread; what is in use stays where it is.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
        // The most that glibc takes; the largest bodies alone are of that size.
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        // One heap for all threads: one works, and the others wait for the disk.
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives freed memory back. Takes up to some milliseconds, the more there is.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it may be called at any time, by any thread, and touches nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}
