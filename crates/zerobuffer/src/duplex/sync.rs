//! How threads of a client or server meet: the standard library, or the model checker in its place.

use std::time::Duration;

#[cfg(not(loom))]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
#[cfg(not(loom))]
pub(crate) use std::thread::{self, Thread, ThreadId};

#[cfg(loom)]
pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};
#[cfg(loom)]
pub(crate) use loom::thread::{self, Thread, ThreadId};

use std::sync::{PoisonError, TryLockError};

/// Locks a mutex, even after a panic: every critical section leaves its state consistent.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks a mutex if it is free.
pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Waits on a condition variable for at most `limit`.
pub(crate) fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>, limit: Duration) -> MutexGuard<'a, T> {
    // A longer wait may overflow the clock.
    let limit = limit.min(Duration::from_secs(365 * 86400));
    condvar.wait_timeout(guard, limit).unwrap_or_else(PoisonError::into_inner).0
}

/// Sleeps until this thread is unparked, at most `limit`.
#[cfg(not(loom))]
pub(crate) fn park(limit: Duration) {
    std::thread::park_timeout(limit);
}

/// Sleeps until this thread is unparked. There is no time in the model: a lost wake-up is a deadlock, which the checker
/// reports.
#[cfg(loom)]
pub(crate) fn park(_: Duration) {
    loom::thread::park();
}
