//! Locks under which no Python code can run, and which a forked child finds free.
//!
//! Python code under a lock can take the same lock again: a finaliser that the garbage collector calls, a weak
//! reference's callback, a signal handler. So a value is only lent to closures that are `Send`. A closure that holds a
//! `Python` token or a `Bound` reference is not, and does not compile here. What holds Python objects is moved out
//! (`replace`) and dropped by the caller, who no longer holds the lock.
//!
//! There are two other locks in this package. A forked child never waits for that of [`Gate`](crate::gate::Gate). No thread waits for that
//! of a frame ([`memory`](crate::memory)): those who pass the frame on share it, and a change gives up where they have it.
//! (`parking_lot` would not do: its table of waiting threads has locks of its own.)

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use crate::fork::Section;

/// A value that any thread may use for a few instructions.
#[derive(Default)]
pub(crate) struct Guarded<T>(Mutex<T>);

/// A value for threads that are attached to the interpreter. They need no [`Section`]: no other thread can fork meanwhile.
#[derive(Default)]
pub(crate) struct Attached<T>(Mutex<T>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in the critical sections leaves a value half-changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Guarded<T> {
    pub(crate) const fn new(value: T) -> Guarded<T> {
        Guarded(Mutex::new(value))
    }

    /// Calls `work` with the value. `work` uses no other [`Guarded`] value.
    #[inline]
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut T) -> R + Send) -> R {
        let _section = Section::enter();
        work(&mut lock(&self.0))
    }

    /// Puts `value` in and returns what was there, to be dropped without the lock.
    #[inline]
    pub(crate) fn replace(&self, value: T) -> T {
        let _section = Section::enter();
        std::mem::replace(&mut *lock(&self.0), value)
    }

    /// Waits up to `limit`, or until `done` returns true. It is asked at once and whenever `changed` is told.
    pub(crate) fn wait_until(
        &self,
        changed: &Waiters,
        limit: Duration,
        mut done: impl FnMut(&mut T) -> bool + Send,
    ) where
        T: Send,
    {
        let place = changed.join();
        let deadline = Instant::now().checked_add(limit);
        while !self.with(&mut done) && place.park_until(deadline) {}
    }
}

impl<T> Attached<T> {
    pub(crate) const fn new(value: T) -> Attached<T> {
        Attached(Mutex::new(value))
    }

    /// Calls `work` with the value.
    #[inline]
    pub(crate) fn with<R>(&self, _: Python<'_>, work: impl FnOnce(&mut T) -> R + Send) -> R {
        work(&mut lock(&self.0))
    }

    /// Puts `value` in and returns what was there, to be dropped without the lock.
    #[inline]
    pub(crate) fn replace(&self, _: Python<'_>, value: T) -> T {
        std::mem::replace(&mut *lock(&self.0), value)
    }

    /// Calls `work` with the value unless another thread has it. For the garbage collector, in which a thread is attached without a
    /// token. It must not wait: it takes an object that it cannot visit for one that is in use.
    pub(crate) fn peek<R>(&self, work: impl FnOnce(&T) -> R) -> Option<R> {
        self.0.try_lock().ok().map(|value| work(&value))
    }
}

/// Threads that wait for something, in their order.
#[derive(Default)]
pub(crate) struct Waiters {
    threads: Guarded<VecDeque<Thread>>,
    count: AtomicUsize,
}

/// The place of this thread among those that wait.
pub(crate) struct Place<'a>(&'a Waiters);

impl Waiters {
    /// Puts this thread at the end. What it waits for is to be looked at afterwards, and before every [`Place::park_until`].
    pub(crate) fn join(&self) -> Place<'_> {
        let thread = thread::current();
        self.threads.with(|threads| threads.push_back(thread));
        // AcqRel pairs with that of wake_first() and wake_all(): either they see this thread, or it sees what they tell of.
        self.count.fetch_add(1, Ordering::AcqRel);
        Place(self)
    }

    /// Whether no thread waits. A hint.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// Wakes the thread that has waited for the longest time.
    #[inline]
    pub(crate) fn wake_first(&self) {
        // AcqRel pairs with that of join().
        if self.count.fetch_add(0, Ordering::AcqRel) > 0 {
            self.wake(1);
        }
    }

    /// Wakes all threads.
    #[inline]
    pub(crate) fn wake_all(&self) {
        // AcqRel pairs with that of join().
        if self.count.fetch_add(0, Ordering::AcqRel) > 0 {
            self.wake(usize::MAX);
        }
    }

    #[cold]
    fn wake(&self, most: usize) {
        let threads: Vec<Thread> = self.threads.with(|threads| threads.iter().take(most).cloned().collect());
        threads.iter().for_each(Thread::unpark);
    }
}

impl Place<'_> {
    /// Whether this thread has waited for the longest time.
    pub(crate) fn is_first(&self) -> bool {
        let id = thread::current().id();
        self.0.threads.with(|threads| threads.front().is_some_and(|first| first.id() == id))
    }

    /// Waits until the thread is woken, perhaps for no reason. False if the time is over; without a deadline it never is.
    pub(crate) fn park_until(&self, deadline: Option<Instant>) -> bool {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        match left {
            Some(Duration::ZERO) => return false,
            Some(left) => thread::park_timeout(left),
            None => thread::park(),
        }
        true
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let id = thread::current().id();
        let left = self.0.threads.with(|threads| {
            let index = threads.iter().position(|thread| thread.id() == id)?;
            threads.remove(index)
        });
        drop(left);
        // AcqRel pairs with that of wake_first() and wake_all().
        self.0.count.fetch_sub(1, Ordering::AcqRel);
        // Whatever this thread was woken for may be for the next one.
        self.0.wake_first();
    }
}
