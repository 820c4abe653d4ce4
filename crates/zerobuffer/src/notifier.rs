//! One-shot notifications: a thread of the process that calls back when a descriptor is ready. It serves futures and
//! [`crate::Reader::notify`], and their likes in other languages.
//!
//! Callbacks are user code: they run without any lock, and a panic of one ends with it. The thread sleeps without a limit,
//! and ends when no handle has a descriptor that it was asked for. A forked child starts its own. A program whose callbacks take
//! their time has more than one such thread ([`set_callback_threads`]): they wait for all descriptors together, and the kernel
//! wakes one of them for each descriptor that is ready.
//!
//! UNSAFE: a list that a forked child leaves behind.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::io::Result;
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::os::{self, Poller};

/// What is called when a descriptor is ready. Dropped uncalled if that is called off.
pub(crate) type Callback = Box<dyn FnOnce() + Send>;

/// The notifier of one process.
struct Notifier {
    generation: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What the threads wait with.
    poller: Option<Arc<Poller>>,
    /// How many threads wait with it.
    threads: usize,
    /// What each handle waits for; `None`: nothing now.
    handles: HashMap<u64, Option<Callback>>,
    /// The key of the next handle.
    next: u64,
}

static NOTIFIER: AtomicPtr<Notifier> = AtomicPtr::new(std::ptr::null_mut());

/// How many threads call back.
static THREADS: AtomicUsize = AtomicUsize::new(1);

/// More are not started.
const MOST_THREADS: usize = 16;

/// Has at least `count` threads call back, at most 16, on which callbacks may do anything for any time: they have large stacks, and take
/// the signals that the thread takes which first sets a callback. As long as fewer than `count` callbacks run, others are called at once.
///
/// By default there is one thread, whose callbacks should only pass the news on. To be called before the first callback is set. Returns false if
/// it comes too late, as long as a callback may still come. A larger count of an earlier call stays.
pub fn set_callback_threads(count: usize) -> bool {
    let state = Notifier::of_process().state();
    let fits = state.poller.is_none() || THREADS.load(Ordering::Relaxed) > 1;
    // Relaxed: written under the lock, and read under it or by threads that were started under it. A forked child has a copy.
    if fits {
        THREADS.fetch_max(count.min(MOST_THREADS), Ordering::Relaxed);
    }
    drop(state);
    fits
}

impl Notifier {
    /// That of this process. In a forked child it is a new one: a thread that is not here may hold the parent's lock.
    fn of_process() -> &'static Notifier {
        let generation = os::fork_generation();
        loop {
            // Acquire pairs with the Release below.
            let now = NOTIFIER.load(Ordering::Acquire);
            // SAFETY: null, or a leaked box.
            if let Some(known) = unsafe { now.as_ref() }.filter(|known| known.generation == generation) {
                return known;
            }
            let new = Box::into_raw(Box::new(Notifier { generation, state: Mutex::default() }));
            if NOTIFIER.compare_exchange(now, new, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                // SAFETY: made above, and no other thread has seen it.
                drop(unsafe { Box::from_raw(new) });
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A handle that can be notified. Dropped before its descriptor is closed.
pub(crate) struct Notified {
    key: u64,
    generation: u64,
}

impl Notified {
    pub(crate) fn new() -> Notified {
        let notifier = Notifier::of_process();
        let mut state = notifier.state();
        let key = state.next;
        state.next += 1;
        Notified { key, generation: notifier.generation }
    }

    /// Calls `callback` once, as soon as `descriptor` is ready. Replaces a callback that still waits.
    pub(crate) fn notify(&self, descriptor: BorrowedFd<'_>, callback: Callback) -> Result<()> {
        let notifier = Notifier::of_process();
        let mut state = notifier.state();
        let poller = match &state.poller {
            Some(poller) => Arc::clone(poller),
            None => Arc::new(Poller::new()?),
        };
        // Relaxed: see set_callback_threads().
        let threads = THREADS.load(Ordering::Relaxed);
        while state.threads < threads {
            let own = Arc::clone(&poller);
            let serve = move || serve(notifier, &own);
            let started = match threads {
                1 => os::spawn_background("zb-notify", serve),
                _ => os::spawn_for_callbacks("zb-notify", serve),
            };
            started?;
            state.poller = Some(Arc::clone(&poller));
            state.threads += 1;
        }
        let before = state.handles.insert(self.key, Some(callback));
        let result = poller.once(descriptor, self.key);
        let called_off = if result.is_err() { state.handles.insert(self.key, None).flatten() } else { None };
        drop(state);
        // User code may run when a callback is dropped.
        drop((before, called_off));
        result
    }

    /// Calls a callback off that still waits. Returns whether there was one; if not, it has been called, or is being called.
    pub(crate) fn cancel(&self) -> bool {
        let mut state = Notifier::of_process().state();
        let callback = state.handles.get_mut(&self.key).and_then(Option::take);
        drop(state);
        callback.is_some()
    }

    /// Calls a callback off, and forgets `descriptor`, which is about to close.
    pub(crate) fn end(&self, descriptor: BorrowedFd<'_>) {
        if self.generation != os::fork_generation() {
            return;
        }
        let notifier = Notifier::of_process();
        let mut state = notifier.state();
        let Some(callback) = state.handles.remove(&self.key) else { return };
        if let Some(poller) = &state.poller {
            poller.remove(descriptor);
            if state.handles.is_empty() {
                poller.wake();
            }
        }
        drop(state);
        drop(callback);
    }
}

/// Calls back until no handle is left.
fn serve(notifier: &Notifier, poller: &Arc<Poller>) {
    let mut keys = Vec::new();
    // What one of several threads takes, no other one calls back for: it takes no more than it can call at once.
    // Relaxed: this thread was started under the lock, behind the store that made room for it.
    let most = if THREADS.load(Ordering::Relaxed) > 1 { 1 } else { usize::MAX };
    loop {
        keys.clear();
        if poller.wait(Duration::MAX, most, &mut keys).is_err() {
            // Out of memory, perhaps.
            std::thread::sleep(Duration::from_millis(10));
        }
        for key in &keys {
            let callback = notifier.state().handles.get_mut(key).and_then(Option::take);
            if let Some(callback) = callback
                && catch_unwind(AssertUnwindSafe(callback)).is_err()
            {
                log::error!("a callback of a notification panicked");
            }
        }
        let mut state = notifier.state();
        let is_current = state.poller.as_ref().is_some_and(|current| Arc::ptr_eq(current, poller));
        if is_current && state.handles.is_empty() {
            state.poller = None;
            state.threads = 0;
        } else if is_current {
            continue;
        }
        drop(state);
        // The next thread that waits with it ends, too.
        poller.wake();
        return;
    }
}
