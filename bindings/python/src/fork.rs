//! UNSAFE (`pthread_atfork`): locks that a forked child finds free.
//!
//! A forked child has one thread, the one that forked. A lock that any other thread of its parent held would never be free
//! there. So a fork waits until no thread is in a [`Section`], and no thread enters one while it lasts.
#![allow(unsafe_code)]

use std::sync::Once;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The threads that are in a section, and [`FORKING`].
static SECTIONS: AtomicUsize = AtomicUsize::new(0);
/// A thread forks.
const FORKING: usize = 1 << (usize::BITS - 1);
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// A few instructions of a thread that holds a lock. Sections do not nest: the inner one would wait for a fork that waits
/// for the outer one.
pub(crate) struct Section;

impl Section {
    #[inline]
    pub(crate) fn enter() -> Section {
        // Acquire pairs with the Release in parent(): the section begins after the fork that came before.
        if SECTIONS.fetch_add(1, Ordering::Acquire) & FORKING != 0 {
            enter_after_fork();
        }
        Section
    }
}

impl Drop for Section {
    #[inline]
    fn drop(&mut self) {
        // Release pairs with the Acquire in prepare(): the child finds everything that the section did.
        SECTIONS.fetch_sub(1, Ordering::Release);
    }
}

#[cold]
fn enter_after_fork() {
    loop {
        // Release pairs with the Acquire in prepare(). This thread did nothing in the section that it leaves.
        SECTIONS.fetch_sub(1, Ordering::Release);
        // Relaxed: the addition below looks again.
        while SECTIONS.load(Ordering::Relaxed) & FORKING != 0 {
            std::thread::yield_now();
        }
        // Acquire pairs with the Release in parent().
        if SECTIONS.fetch_add(1, Ordering::Acquire) & FORKING == 0 {
            return;
        }
    }
}

extern "C" fn prepare() {
    // Another thread may be forking too. Acquire pairs with the Release in parent().
    while SECTIONS.fetch_or(FORKING, Ordering::Acquire) & FORKING != 0 {
        std::thread::yield_now();
    }
    // Acquire pairs with the Release at a section's end.
    while SECTIONS.load(Ordering::Acquire) != FORKING {
        std::thread::yield_now();
    }
}

extern "C" fn parent() {
    // Release pairs with the Acquire of a section's begin and of the next prepare().
    SECTIONS.fetch_and(!FORKING, Ordering::Release);
}

extern "C" fn child() {
    // Relaxed: one thread is left. Those that were about to enter a section are not there.
    SECTIONS.store(0, Ordering::Relaxed);
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

/// A number that differs between a process and its forked children.
#[inline]
pub(crate) fn generation() -> u64 {
    // Relaxed: changes in a child that has one thread only.
    GENERATION.load(Ordering::Relaxed)
}

/// To be called before the first section.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the handlers are functions of this library, which CPython never unloads. They touch atomics only.
        let result = unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
        assert_eq!(result, 0, "no memory for the handlers of forks");
    });
}
