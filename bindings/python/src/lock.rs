//! Locks under which no Python code can run.
//!
//! Python code under a lock can take the same lock again: a finaliser that the garbage collector calls, a weak
//! reference's callback, a signal handler. So a [`Guarded`] value is only lent to closures that are `Send`. A closure
//! that holds a `Python` token or a `Bound` reference is not, and does not compile here. What holds Python objects is
//! moved out ([`Guarded::replace`]) and dropped by the caller, who no longer holds the lock.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// A value behind a lock that is held for a few instructions only.
#[derive(Default)]
pub(crate) struct Guarded<T>(Mutex<T>);

impl<T> Guarded<T> {
    pub(crate) const fn new(value: T) -> Guarded<T> {
        Guarded(Mutex::new(value))
    }

    /// Calls `work` with the value.
    #[inline]
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut T) -> R + Send) -> R {
        work(&mut self.0.lock())
    }

    /// Puts `value` in and returns what was there, to be dropped without the lock.
    #[inline]
    pub(crate) fn replace(&self, value: T) -> T {
        std::mem::replace(&mut *self.0.lock(), value)
    }

    /// Calls `work` with the value unless another thread has it. For the garbage collector, which must not wait: it
    /// takes an object that it cannot visit for one that is in use.
    pub(crate) fn peek<R>(&self, work: impl FnOnce(&T) -> R) -> Option<R> {
        self.0.try_lock().map(|value| work(&value))
    }

    /// As [`Guarded::with`], if the lock is free within `limit`.
    pub(crate) fn with_within<R>(&self, limit: Duration, work: impl FnOnce(&mut T) -> R + Send) -> Option<R> {
        self.0.try_lock_for(limit).map(|mut value| work(&mut value))
    }

    /// Waits up to `limit`, or until `done` returns true. It is asked at once and after every notification of `changed`.
    pub(crate) fn wait_until(
        &self,
        changed: &Condvar,
        limit: Duration,
        mut done: impl FnMut(&mut T) -> bool + Send,
    ) {
        let mut value = self.0.lock();
        changed.wait_while_for(&mut value, |value| !done(value), limit);
    }
}
