//! Handles that are used by one thread at a time, and say so when they are not.

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::error::{Failure, ZB_ERROR_CLOSED, ZB_ERROR_INVALID_STATE};

/// How long a close waits between two tries to end the call of another thread.
const CLOSE_POLL: Duration = Duration::from_micros(200);

/// A `Reader` or `Writer` behind a handle.
///
/// C shares handles between threads whatever the documentation says, and two threads in one `&mut Reader` would be undefined
/// behaviour: the second one gets InvalidState instead. Cheaper than a mutex: one locked instruction for each call.
pub(crate) struct Exclusive<T> {
    name: String,
    /// A thread is using the value.
    busy: AtomicBool,
    /// Closed, or about to be.
    closing: AtomicBool,
    /// `None` once closed.
    value: UnsafeCell<Option<T>>,
}

// SAFETY: the value is reached by one thread at a time, which `busy` sees to.
unsafe impl<T: Send> Sync for Exclusive<T> {}

impl<T> Exclusive<T> {
    pub(crate) fn new(name: &str, value: T) -> Exclusive<T> {
        Exclusive {
            name: name.to_owned(),
            busy: AtomicBool::new(false),
            closing: AtomicBool::new(false),
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
        // Acquire pairs with the Release of the drop of Entered, and of close().
        let busy = self.busy.swap(true, Ordering::Acquire);
        if busy {
            return Err(self.refuse());
        }
        let entered = Entered(self);
        // SAFETY: we hold `busy`. The value is only taken out by close(), under `busy` too.
        let open = unsafe { (*self.value.get()).is_some() };
        // Relaxed: a close that is not seen here waits for us.
        if !open || self.closing.load(Ordering::Relaxed) {
            drop(entered);
            return Err(self.closed());
        }
        Ok(entered)
    }

    #[cold]
    fn refuse(&self) -> Failure {
        if self.closing.load(Ordering::Acquire) {
            return self.closed();
        }
        let message =
            "another thread is using this handle: a reader or writer belongs to one thread at a time";
        Failure::new(ZB_ERROR_INVALID_STATE, &self.name, message)
    }

    #[cold]
    fn closed(&self) -> Failure {
        Failure::new(ZB_ERROR_CLOSED, &self.name, "this handle has been closed")
    }

    /// Takes the value out, for good. A call of another thread that is under way is ended by `interrupt`.
    pub(crate) fn close(&self, interrupt: impl Fn()) -> Option<T> {
        self.closing.store(true, Ordering::Release);
        while self.busy.swap(true, Ordering::Acquire) {
            // Again and again: an interrupt ends one wait, and a call may wait more than once.
            interrupt();
            std::thread::sleep(CLOSE_POLL);
        }
        let entered = Entered(self);
        // SAFETY: we hold `busy`.
        let value = unsafe { (*self.value.get()).take() };
        drop(entered);
        value
    }
}

/// The right to use the value.
pub(crate) struct Entered<'a, T>(&'a Exclusive<T>);

impl<T> Deref for Entered<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: we hold `busy`, and enter() has found the value there; only close() takes it, under `busy` too.
        unsafe { (*self.0.value.get()).as_ref().unwrap_unchecked() }
    }
}

impl<T> DerefMut for Entered<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in deref, and we are borrowed mutably.
        unsafe { (*self.0.value.get()).as_mut().unwrap_unchecked() }
    }
}

impl<T> Drop for Entered<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        // Release pairs with the Acquire of the next one to enter.
        self.0.busy.store(false, Ordering::Release);
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
        assert_eq!(handle.close(|| panic!("nobody is in")), Some(8));
        let Err(Failure::Own { status, buffer, .. }) = handle.enter() else { panic!("entered a closed one") };
        assert_eq!((status, buffer.as_str()), (ZB_ERROR_CLOSED, "some-name"));
        assert_eq!(handle.close(|| panic!("nobody is in")), None);
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
            assert_eq!(closer.join().unwrap(), Some(()));
        });
    }
}
