//! Handles that one thread at a time may use, and that refuse a second thread.
//!
//! One word says which thread is inside. A call takes the word by one atomic exchange and gives it back by a
//! store. (An owner that enters by plain stores, with a fence that a second thread makes all others pass, was
//! measured. It was no faster, neither in one thread nor in a stream between two processes.)

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::error::{Failure, ZB_ERROR_CLOSED, ZB_ERROR_INTERRUPTED, ZB_ERROR_INVALID_STATE};

/// How long a close waits between two tries to end the call of another thread.
const CLOSE_POLL: Duration = Duration::from_micros(200);

/// A value of `user`: no thread is inside.
const FREE: u64 = 0;
/// A value of `user`: a thread that leaves in a moment, without waiting; see [`Exclusive::enter_briefly`].
const BRIEF: u64 = u64::MAX;

/// A `Reader` or `Writer` behind a handle.
///
/// C shares handles between threads whatever the documentation says, and two threads in one `&mut Reader` would be undefined
/// behaviour: the second one gets InvalidState instead.
pub(crate) struct Exclusive<T> {
    name: String,
    /// The fork generation of the process that made the handle. A forked child's copy may be in use by a thread that the child does
    /// not have.
    generation: u64,
    /// The number of the thread that uses the value, or [`FREE`], or [`BRIEF`].
    user: AtomicU64,
    /// Closed, or about to be.
    closing: AtomicBool,
    /// The call under way is to close the handle when it ends, as its own thread has asked from a callback.
    deferred: AtomicBool,
    /// `None` once closed.
    value: UnsafeCell<Option<T>>,
}

// SAFETY: The value is reached through an `Entered` alone, of which there is one at a time: enter_as() makes one only after it
// has changed `user` from FREE, and its drop changes it back.
unsafe impl<T: Send> Sync for Exclusive<T> {}

/// Outcome of a close.
pub(crate) enum Closed<T> {
    /// The value, taken out for good.
    Now(T),
    /// The call under way on this thread closes the handle when it ends.
    Later,
    /// Another call has closed it, or is closing it.
    Before,
}

/// The number of this thread: neither [`FREE`] nor [`BRIEF`], and different from that of every other live
/// thread.
#[inline(always)]
fn thread_number() -> u64 {
    // SAFETY: pthread_self takes nothing and always succeeds (pthread_self(3)).
    unsafe { libc::pthread_self() as u64 }
}

impl<T> Exclusive<T> {
    pub(crate) fn new(name: &str, value: T) -> Exclusive<T> {
        Exclusive {
            name: name.to_owned(),
            generation: zerobuffer::fork_generation(),
            user: AtomicU64::new(FREE),
            closing: AtomicBool::new(false),
            deferred: AtomicBool::new(false),
            value: UnsafeCell::new(Some(value)),
        }
    }

    /// The value, for the time of one call.
    ///
    /// # Errors
    ///
    /// InvalidState if another thread uses it, Closed.
    #[inline(always)]
    pub(crate) fn enter(&self) -> Result<Entered<'_, T>, Failure> {
        let Some(entered) = self.enter_as(thread_number()).ok().or_else(|| self.enter_after_all()) else {
            return Err(self.refusal());
        };
        // Relaxed: a close that is not seen here waits for this call.
        if entered.value_is_gone() || self.closing.load(Ordering::Relaxed) {
            drop(entered);
            return Err(self.closed());
        }
        Ok(entered)
    }

    /// As `enter`, if there is nothing to wait for and nothing to tell.
    #[inline(always)]
    pub(crate) fn try_enter(&self) -> Option<Entered<'_, T>> {
        let entered = self.enter_as(thread_number()).ok()?;
        // Relaxed: a close that is not seen here waits for this call.
        (!entered.value_is_gone() && !self.closing.load(Ordering::Relaxed)).then_some(entered)
    }

    /// The value, for a moment without any wait, on any thread. Calls of other threads wait for its end
    /// instead of being refused. `None` if another thread uses the value, or it is gone.
    pub(crate) fn enter_briefly(&self) -> Option<Entered<'_, T>> {
        self.enter_when_no_visit(BRIEF).filter(|entered| !entered.value_is_gone())
    }

    /// The right to use the value, which may be gone, or the number of the thread that has it.
    #[inline(always)]
    fn enter_as(&self, user: u64) -> Result<Entered<'_, T>, u64> {
        // Acquire pairs with the Release in the drop of Entered: what the last user did comes before what this one does.
        let entered = self.user.compare_exchange(FREE, user, Ordering::Acquire, Ordering::Relaxed);
        entered.map(|_| Entered { handle: self })
    }

    /// The right to use the value, which may be gone, once no brief visit is under way; `None` if a thread has it for a call.
    fn enter_when_no_visit(&self, user: u64) -> Option<Entered<'_, T>> {
        loop {
            match self.enter_as(user) {
                Ok(entered) => return Some(entered),
                // What the exchange has met decides, as the visit may be over by now.
                Err(BRIEF) if !self.is_forked() => std::thread::yield_now(),
                Err(_) => return None,
            }
        }
    }

    /// The right to use the value, after a short wait if another thread is inside briefly.
    #[cold]
    fn enter_after_all(&self) -> Option<Entered<'_, T>> {
        self.enter_when_no_visit(thread_number())
    }

    /// Whether this process is a forked child of the one that made the handle.
    pub(crate) fn is_forked(&self) -> bool {
        self.generation != zerobuffer::fork_generation()
    }

    /// The error for a thread that is refused.
    #[cold]
    pub(crate) fn refusal(&self) -> Failure {
        if self.closing.load(Ordering::Acquire) {
            return self.closed();
        }
        let message = if self.is_forked() {
            "this handle belongs to the process that forked this one: make one of your own"
        } else {
            "another thread is using this handle: a reader or writer belongs to one thread at a time"
        };
        Failure::new(ZB_ERROR_INVALID_STATE, &self.name, message)
    }

    #[cold]
    fn closed(&self) -> Failure {
        Failure::new(ZB_ERROR_CLOSED, &self.name, "this handle has been closed")
    }

    /// The error of a call that failed: CLOSED instead of INTERRUPTED, if a close ended it.
    #[cold]
    pub(crate) fn why(&self, error: zerobuffer::Error) -> Failure {
        let failure = Failure::from(error);
        // Acquire pairs with the Release in close(), which comes before its interrupt.
        match failure.status() == ZB_ERROR_INTERRUPTED && self.closing.load(Ordering::Acquire) {
            true => self.closed(),
            false => failure,
        }
    }

    /// Takes the value out for good. `interrupt` ends a call of another thread that is under way. If a
    /// callback of this thread's own call makes the close, that call is interrupted too, and closes the
    /// handle when it ends. In a forked child a value in use stays where it is, because its user does not
    /// exist there.
    pub(crate) fn close(&self, interrupt: impl Fn()) -> Closed<T> {
        // Release pairs with the Acquire in why().
        self.closing.store(true, Ordering::Release);
        let entered = loop {
            if let Ok(entered) = self.enter_as(thread_number()) {
                break entered;
            }
            if self.is_forked() {
                return Closed::Before;
            }
            if self.user.load(Ordering::Relaxed) == thread_number() {
                // Relaxed: the drop of Entered reads it on this very thread.
                self.deferred.store(true, Ordering::Relaxed);
                interrupt();
                return Closed::Later;
            }
            // Repeats: an interrupt ends one wait, and a call may wait more than once.
            interrupt();
            std::thread::sleep(CLOSE_POLL);
        };
        entered.take().map_or(Closed::Before, Closed::Now)
    }
}

impl<T> Drop for Exclusive<T> {
    fn drop(&mut self) {
        // The thread that was using it when this process was forked may have left it half-changed.
        if *self.user.get_mut() != FREE && self.is_forked() {
            std::mem::forget(self.value.get_mut().take());
        }
    }
}

/// The right to use the value.
pub(crate) struct Entered<'a, T> {
    handle: &'a Exclusive<T>,
}

impl<T> Entered<'_, T> {
    #[inline(always)]
    fn value_is_gone(&self) -> bool {
        // SAFETY: While `self` lives nothing else reaches the value (see `Sync` above).
        unsafe { (*self.handle.value.get()).is_none() }
    }

    /// Takes the value out, for good.
    fn take(self) -> Option<T> {
        // SAFETY: While `self` lives nothing else reaches the value (see `Sync` above), and `self` has lent no reference to it,
        // as it is passed by value.
        unsafe { (*self.handle.value.get()).take() }
    }

    #[cold]
    fn close_now(&self) {
        // SAFETY: `self` is being dropped, so that no reference that it lent is left, and nothing else reaches the value.
        let value = unsafe { (*self.handle.value.get()).take() };
        // Relaxed: read and written by the thread whose call is under way.
        self.handle.deferred.store(false, Ordering::Relaxed);
        drop(value);
    }
}

impl<T> Deref for Entered<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: While `self` lives nothing else reaches the value (see `Sync` above). enter() and enter_briefly() hand an
        // `Entered` out only after they have found the value there, and take() consumes it.
        unsafe { (*self.handle.value.get()).as_ref().unwrap_unchecked() }
    }
}

impl<T> DerefMut for Entered<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: While `self` lives nothing else reaches the value (see `Sync` above), and it is borrowed mutably. enter() and
        // enter_briefly() hand an `Entered` out only after they have found the value there, and take() consumes it.
        unsafe { (*self.handle.value.get()).as_mut().unwrap_unchecked() }
    }
}

impl<T> Drop for Entered<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        // Relaxed: set by this thread, from a callback within its call.
        if self.handle.deferred.load(Ordering::Relaxed) {
            self.close_now();
        }
        // Release pairs with the Acquire of the next thread to enter.
        self.handle.user.store(FREE, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_user_is_refused_and_a_closed_handle_says_so() {
        let handle = Exclusive::new("some-name", 7);
        let mut entered = handle.enter().ok().unwrap();
        *entered += 1;
        let Err(Failure::Own { status, message, .. }) = handle.enter() else { panic!("entered twice") };
        assert_eq!(status, ZB_ERROR_INVALID_STATE, "{message}");
        drop(entered);
        assert_eq!(*handle.enter().ok().unwrap(), 8);
        assert!(matches!(handle.close(|| panic!("no call is in")), Closed::Now(8)));
        let Err(Failure::Own { status, buffer, .. }) = handle.enter() else { panic!("entered a closed one") };
        assert_eq!((status, buffer.as_str()), (ZB_ERROR_CLOSED, "some-name"));
        assert!(matches!(handle.close(|| panic!("no call is in")), Closed::Before));
    }

    #[test]
    fn a_close_waits_for_the_call_under_way() {
        let handle = Exclusive::new("some-name", ());
        let interrupted = AtomicBool::new(false);
        let entered = handle.enter().ok().unwrap();
        std::thread::scope(|scope| {
            let closer = scope.spawn(|| handle.close(|| interrupted.store(true, Ordering::SeqCst)));
            while !interrupted.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            assert!(!closer.is_finished());
            assert!(matches!(handle.enter(), Err(Failure::Own { status: ZB_ERROR_CLOSED, .. })));
            drop(entered);
            assert!(matches!(closer.join().unwrap(), Closed::Now(())));
        });
    }
    #[test]
    fn a_call_within_a_call_is_refused() {
        let handle = Exclusive::new("some-name", ());
        let entered = handle.enter().ok().unwrap();
        assert!(handle.enter().is_err());
        drop(entered);
        assert!(handle.enter().is_ok());
    }

    #[test]
    fn two_threads_are_never_in_at_a_time() {
        let handle = Exclusive::new("some-name", 0_u64);
        let entries = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for round in 0..4 {
                let (handle, entries) = (&handle, &entries);
                scope.spawn(move || {
                    for _ in 0..20_000 {
                        let entered = if round == 0 { handle.enter_briefly() } else { handle.enter().ok() };
                        if let Some(mut entered) = entered {
                            // Lost updates would show here.
                            *entered += 1;
                            entries.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(*handle.enter().ok().unwrap(), entries.into_inner());
    }

    #[test]
    fn a_brief_visit_is_waited_for_and_not_refused() {
        let handle = Exclusive::new("some-name", 1);
        let visit = handle.enter_briefly().unwrap();
        std::thread::scope(|scope| {
            let caller = scope.spawn(|| handle.enter().is_ok());
            std::thread::sleep(Duration::from_millis(5));
            assert!(!caller.is_finished());
            drop(visit);
            assert!(caller.join().unwrap());
        });
        let entered = handle.enter().ok().unwrap();
        assert!(handle.enter_briefly().is_none());
        drop(entered);
    }

    #[test]
    fn a_caller_between_brief_visits_is_never_refused() {
        let handle = Exclusive::new("some-name", 1);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        drop(handle.enter_briefly());
                    }
                });
            }
            let refused = (0..200_000).filter(|_| handle.enter().is_err()).count();
            done.store(true, Ordering::Relaxed);
            assert_eq!(refused, 0);
        });
    }

    #[test]
    fn a_close_within_a_call_waits_for_the_end_of_that_call() {
        let handle = Exclusive::new("some-name", std::sync::Arc::new(()));
        let entered = handle.enter().ok().unwrap();
        let value = std::sync::Arc::downgrade(&entered);
        assert!(matches!(handle.close(|| ()), Closed::Later));
        assert!(value.upgrade().is_some());
        assert!(matches!(handle.enter(), Err(Failure::Own { status: ZB_ERROR_CLOSED, .. })));
        drop(entered);
        assert!(value.upgrade().is_none());
        assert!(matches!(handle.close(|| panic!("a thread is in")), Closed::Before));
    }
}
