//! The atomics and other means of synchronisation that protocol code uses, in one place, so that a model
//! checker can replace them.

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, compiler_fence, fence};

#[cfg(not(loom))]
pub(crate) use std::{
    hint::spin_loop,
    sync::{Mutex, MutexGuard},
};

/// Yields the processor.
#[cfg(not(loom))]
pub(crate) fn rest() {
    std::thread::sleep(core::time::Duration::from_micros(50));
}

#[cfg(not(loom))]
pub(crate) use crate::os::{
    barrier, barrier_registered, barrier_works, futex_wait, futex_wait_any, futex_wake,
};

/// The model checker's types. It has no barriers that reach other threads, so both sides fence.
#[cfg(loom)]
mod model {
    use std::time::Duration;

    use crate::os::WaitAny;

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
    /// Never times out, so that a lost wake-up is a deadlock, which the checker reports.
    pub(crate) fn futex_wait(word: &AtomicU32, expected: u32, _: Duration) {
        let guard = QUEUE.0.lock().expect("no thread panics with it");
        // Relaxed: the kernel promises no more.
        if word.load(Ordering::Relaxed) == expected {
            drop(QUEUE.1.wait(guard).expect("no thread panics with it"));
        }
    }
    /// Never times out either.
    pub(crate) fn futex_wait_any(words: &[(&AtomicU32, u32)], _: Duration) -> WaitAny {
        let guard = QUEUE.0.lock().expect("no thread panics with it");
        // Relaxed: the kernel promises no more.
        if words.iter().all(|(word, expected)| word.load(Ordering::Relaxed) == *expected) {
            drop(QUEUE.1.wait(guard).expect("no thread panics with it"));
        }
        WaitAny::Over
    }
    pub(crate) fn futex_wake(_: &AtomicU32) {
        let _guard = QUEUE.0.lock().expect("no thread panics with it");
        QUEUE.1.notify_all();
    }
}
#[cfg(loom)]
pub(crate) use model::*;
