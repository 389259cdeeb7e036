//! Memory that a backlog has taken, given back to the system once there is nothing left to do.
//!
//! glibc keeps what was freed for the next time. A collector that has caught up needs a fraction of it, and may not need more for months.

/// Gives freed memory back. Takes up to some milliseconds, the more there is; does nothing with other C libraries than glibc.
#[cfg_attr(
    all(target_os = "linux", target_env = "gnu"),
    expect(unsafe_code, reason = "a call into the C library that takes a number")
)]
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it may be called at any time, by any thread, and touches nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}
