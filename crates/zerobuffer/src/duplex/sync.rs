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

use std::sync::PoisonError;

/// Locks a mutex, even after a panic: every critical section leaves its state consistent.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A lock that threads only try to take.
#[cfg(not(loom))]
pub(crate) use std::sync::{Mutex as TryMutex, MutexGuard as TryGuard};

/// Takes the lock if it is free.
#[cfg(not(loom))]
pub(crate) fn try_lock<T>(mutex: &TryMutex<T>) -> Option<TryGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(std::sync::TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(std::sync::TryLockError::WouldBlock) => None,
    }
}

#[cfg(loom)]
pub(crate) use self::model::{TryGuard, TryMutex, try_lock};

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

/// loom's `try_lock` waits for a lock that is taken, so the model has one of its own.
#[cfg(loom)]
mod model {
    use std::ops::{Deref, DerefMut};

    use super::{Mutex, MutexGuard, lock};
    use crate::sync::{AtomicBool, Ordering};

    pub(crate) struct TryMutex<T> {
        taken: AtomicBool,
        /// Never contended.
        value: Mutex<T>,
    }

    pub(crate) struct TryGuard<'a, T> {
        taken: &'a AtomicBool,
        /// `Some` until dropped.
        value: Option<MutexGuard<'a, T>>,
    }

    impl<T> TryMutex<T> {
        pub(crate) fn new(value: T) -> TryMutex<T> {
            TryMutex { taken: AtomicBool::new(false), value: Mutex::new(value) }
        }
    }

    pub(crate) fn try_lock<T>(mutex: &TryMutex<T>) -> Option<TryGuard<'_, T>> {
        // Acquire pairs with the Release in TryGuard's drop.
        let free = mutex.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok();
        free.then(|| TryGuard { taken: &mutex.taken, value: Some(lock(&mutex.value)) })
    }

    impl<T> Deref for TryGuard<'_, T> {
        type Target = T;
        fn deref(&self) -> &T {
            self.value.as_ref().expect("there until the drop")
        }
    }

    impl<T> DerefMut for TryGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.value.as_mut().expect("there until the drop")
        }
    }

    impl<T> Drop for TryGuard<'_, T> {
        fn drop(&mut self) {
            self.value = None;
            // Release pairs with the Acquire in try_lock().
            self.taken.store(false, Ordering::Release);
        }
    }
}
