//! Handles that are used by one thread at a time, and say so when they are not.
//!
//! # Why no lock
//!
//! A locked instruction in each call would cost more than all else that a call from C adds: it waits until the stores before it
//! have left the processor, those of a frame to lines that the other side has among them. So a handle belongs to the first
//! thread that uses it, which enters by plain loads and stores (`own`, written by that thread alone), until another thread
//! comes. That one takes the privilege away, for good: from then on all enter by a swap (`busy`).
//!
//! The owner stores `own`, then looks whether it still is the owner; the other thread stores that it is not, then looks at
//! `own`. Neither may look before its store is seen, which takes a fence on each side, or, as here, one that the rare
//! side makes both pass ([`barrier::fence_all`]). After that fence, the owner has either stored `own` before, and is seen; or it
//! has not looked at `owner` yet, and will find that the handle is not its own any more.

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, compiler_fence};
use std::time::Duration;

use crate::barrier;
use crate::error::{Failure, ZB_ERROR_CLOSED, ZB_ERROR_INVALID_STATE};

/// How long a close waits between two tries to end the call of another thread.
const CLOSE_POLL: Duration = Duration::from_micros(200);

/// An owner: nobody has used the handle yet. Other numbers are those of threads.
const NEW: u64 = 0;
/// An owner: there is none any more, but the fence that lets others rely on it may not be over.
const TAKING: u64 = u64::MAX - 1;
/// An owner: none, and all have passed the fence.
const SHARED: u64 = u64::MAX;

/// A `Reader` or `Writer` behind a handle.
///
/// C shares handles between threads whatever the documentation says, and two threads in one `&mut Reader` would be undefined
/// behaviour: the second one gets InvalidState instead.
pub(crate) struct Exclusive<T> {
    name: String,
    owner: AtomicU64,
    /// The owner is using the value. Only the thread writes it that is, or was, the owner.
    own: AtomicBool,
    /// Another thread is using the value, or the former owner.
    busy: AtomicBool,
    /// Closed, or about to be.
    closing: AtomicBool,
    /// `None` once closed.
    value: UnsafeCell<Option<T>>,
}

// SAFETY: the value is reached by one thread at a time, which enter_open() sees to.
unsafe impl<T: Send> Sync for Exclusive<T> {}

impl<T> Exclusive<T> {
    pub(crate) fn new(name: &str, value: T) -> Exclusive<T> {
        Exclusive {
            name: name.to_owned(),
            owner: AtomicU64::new(if barrier::available() { NEW } else { SHARED }),
            own: AtomicBool::new(false),
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
        let Some(entered) = self.enter_any() else { return Err(self.refuse()) };
        // SAFETY: we are the one that uses the value.
        let open = unsafe { (*self.value.get()).is_some() };
        // Relaxed: a close that is not seen here waits for us.
        if !open || self.closing.load(Ordering::Relaxed) {
            drop(entered);
            return Err(self.closed());
        }
        Ok(entered)
    }

    /// The right to use the value, unless somebody has it; the value may be gone.
    #[inline(always)]
    fn enter_any(&self) -> Option<Entered<'_, T>> {
        let me = barrier::thread_number();
        // Relaxed: that the owner is this thread was stored by this thread; or by one that had its number before, and had
        // ended, as the system had seen, before this one began.
        if self.owner.load(Ordering::Relaxed) != me {
            return self.enter_as_another(me);
        }
        // A call within a call, from a callback. Acquire pairs with the Release in the drop of Entered, for what such a former
        // thread left.
        if self.own.load(Ordering::Acquire) {
            return None;
        }
        self.own.store(true, Ordering::Relaxed);
        // For the compiler; the processor's part is fence_all() in enter_as_another().
        compiler_fence(Ordering::SeqCst);
        if self.owner.load(Ordering::Relaxed) == me {
            return Some(Entered { handle: self, mine: &self.own });
        }
        // Release pairs with the Acquire load of whoever took the handle, as in the drop of Entered.
        self.own.store(false, Ordering::Release);
        self.enter_as_another(me)
    }

    #[inline(never)]
    fn enter_as_another(&self, me: u64) -> Option<Entered<'_, T>> {
        // Acquire pairs with the Release below: whoever reads SHARED relies on another thread's fence.
        let owner = self.owner.load(Ordering::Acquire);
        if owner == NEW && self.owner.compare_exchange(NEW, me, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            return self.enter_any();
        }
        if owner != SHARED {
            // SeqCst, and the fence: pairs with the owner's store to `own` and its second look at `owner`.
            self.owner.store(TAKING, Ordering::SeqCst);
            barrier::fence_all();
            self.owner.store(SHARED, Ordering::Release);
        }
        // Acquire pairs with the Release of the drop of Entered.
        if self.busy.swap(true, Ordering::Acquire) {
            return None;
        }
        let entered = Entered { handle: self, mine: &self.busy };
        // Acquire pairs with the same of the former owner, which may still be in its call.
        (!self.own.load(Ordering::Acquire)).then_some(entered)
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
        let entered = loop {
            match self.enter_any() {
                Some(entered) => break entered,
                None => {
                    // Again and again: an interrupt ends one wait, and a call may wait more than once.
                    interrupt();
                    std::thread::sleep(CLOSE_POLL);
                }
            }
        };
        // SAFETY: we are the one that uses the value.
        let value = unsafe { (*self.value.get()).take() };
        drop(entered);
        value
    }
}

/// The right to use the value.
pub(crate) struct Entered<'a, T> {
    handle: &'a Exclusive<T>,
    /// What says that we use it.
    mine: &'a AtomicBool,
}

impl<T> Deref for Entered<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: we are the one that uses the value, and enter() has found it there; close() takes it only as the one.
        unsafe { (*self.handle.value.get()).as_ref().unwrap_unchecked() }
    }
}

impl<T> DerefMut for Entered<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in deref, and we are borrowed mutably.
        unsafe { (*self.handle.value.get()).as_mut().unwrap_unchecked() }
    }
}

impl<T> Drop for Entered<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        // Release pairs with the Acquire of the next one to enter.
        self.mine.store(false, Ordering::Release);
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
    #[test]
    fn a_call_within_a_call_is_refused() {
        let handle = Exclusive::new("some-name", ());
        let entered = handle.enter().ok().unwrap();
        assert!(handle.enter().is_err());
        drop(entered);
        // The same once the handle is everybody's.
        std::thread::scope(|scope| drop(scope.spawn(|| assert!(handle.enter().is_ok()))));
        assert_eq!(handle.owner.load(Ordering::Relaxed), SHARED);
        let entered = handle.enter().ok().unwrap();
        assert!(handle.enter().is_err());
        drop(entered);
        assert!(handle.enter().is_ok());
    }

    #[test]
    fn the_owner_is_never_in_together_with_the_thread_that_takes_the_handle_from_it() {
        const ROUNDS: usize = 1000;
        let handles: Vec<_> =
            (0..ROUNDS).map(|_| Exclusive::new("some-name", AtomicBool::new(false))).collect();
        // How far each thread is: a round begins when the owner has the handle, and ends when the other one has tried it.
        let (owned, tried) = (AtomicU64::new(0), AtomicU64::new(0));
        let (together, refused) = (AtomicBool::new(false), AtomicBool::new(false));
        let visit = |handle: &Exclusive<AtomicBool>| {
            let Ok(inside) = handle.enter() else { return false };
            if inside.swap(true, Ordering::Relaxed) {
                // Told at the end: a thread that panics here would leave the other one waiting.
                together.store(true, Ordering::Relaxed);
            }
            // Long enough for the other one to come.
            (0..4).for_each(|_| std::hint::spin_loop());
            inside.store(false, Ordering::Relaxed);
            true
        };
        let until = |count: &AtomicU64, round: usize, mut meanwhile: Box<dyn FnMut() + '_>| {
            let mut turns = 0_u64;
            while count.load(Ordering::Acquire) <= round as u64 {
                meanwhile();
                turns += 1;
                // The other one may be waiting for this processor.
                if turns.is_multiple_of(64) {
                    std::thread::yield_now();
                }
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for (round, handle) in handles.iter().enumerate() {
                    let alone = visit(handle);
                    owned.store(round as u64 + 1, Ordering::Release);
                    until(&tried, round, Box::new(|| _ = visit(handle)));
                    if !alone || !visit(handle) {
                        refused.store(true, Ordering::Relaxed);
                    }
                }
            });
            for (round, handle) in handles.iter().enumerate() {
                until(&owned, round, Box::new(std::hint::spin_loop));
                visit(handle);
                tried.store(round as u64 + 1, Ordering::Release);
            }
        });
        assert!(!together.into_inner(), "two threads were in at a time");
        assert!(!refused.into_inner(), "the owner was refused while nobody was in");
        assert!(handles.iter().all(|handle| handle.owner.load(Ordering::Relaxed) == SHARED));
    }
}
