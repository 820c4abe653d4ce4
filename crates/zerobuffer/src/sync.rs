//! The atomics that protocol code uses, and what else threads meet by, in one place, so that a model checker can stand in for them.

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, compiler_fence, fence};

#[cfg(not(loom))]
pub(crate) use std::{
    hint::spin_loop,
    sync::{Mutex, MutexGuard},
};

/// Leaves the processor to others for a moment.
#[cfg(not(loom))]
pub(crate) fn rest() {
    std::thread::sleep(core::time::Duration::from_micros(50));
}

#[cfg(not(loom))]
pub(crate) use crate::os::{barrier, barrier_registered, barrier_works, futex_wait, futex_wake};

/// What the model checker knows; it has no barriers that reach other threads, so everybody fences.
#[cfg(loom)]
mod model {
    use std::time::Duration;

    pub(crate) use loom::hint::spin_loop;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
    pub(crate) use loom::sync::{Mutex, MutexGuard};
    pub(crate) use loom::thread::yield_now as rest;

    loom::lazy_static! {
        /// The kernel's queue of sleepers.
        static ref QUEUE: (loom::sync::Mutex<()>, loom::sync::Condvar) = Default::default();
    }

    pub(crate) fn compiler_fence(_: Ordering) {}
    pub(crate) fn barrier() -> bool {
        false
    }
    pub(crate) fn barrier_registered() -> bool {
        false
    }
    pub(crate) fn barrier_works() -> bool {
        false
    }
    /// Never times out: a wake-up that is lost is a deadlock, which the checker reports.
    pub(crate) fn futex_wait(word: &AtomicU32, expected: u32, _: Duration) {
        let guard = QUEUE.0.lock().expect("no thread panics with it");
        // Relaxed, as the kernel promises no more.
        if word.load(Ordering::Relaxed) == expected {
            drop(QUEUE.1.wait(guard).expect("no thread panics with it"));
        }
    }
    pub(crate) fn futex_wake(_: &AtomicU32) {
        let _guard = QUEUE.0.lock().expect("no thread panics with it");
        QUEUE.1.notify_all();
    }
}
#[cfg(loom)]
pub(crate) use model::*;
