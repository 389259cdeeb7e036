//! Locks that outlive a panic in a test's task: a simulator's data stay usable for the assertion that comes after.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, also where a holder has panicked.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
