//! Memory that a backlog has taken: kept as long as there is a backlog, and given back to the system once there is nothing left to do.
//!
//! By itself glibc does neither: it gives a page's memory back with every page, and gets it again, cleared, for the next one, which costs as
//! much as finding the page's rows; and it keeps what is scattered for ever, in a heap for each thread that has been there. A collector that has caught up needs a fraction of it, and may
//! not need more for months. With other C libraries than glibc nothing is done.
#![cfg_attr(
    all(target_os = "linux", target_env = "gnu"),
    expect(unsafe_code, reason = "calls into the C library that take numbers")
)]

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
