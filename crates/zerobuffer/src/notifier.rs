//! One-shot notifications: a thread of the process that calls back when a descriptor is ready. It serves futures and
//! [`crate::Reader::notify`], and their likes in other languages.
//!
//! Callbacks are user code: they run without any lock, and a panic of one ends with it. The thread sleeps without a limit,
//! and ends when no handle has a descriptor that it was asked for. A forked child starts its own.
//!
//! UNSAFE: a list that a forked child leaves behind.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::io::Result;
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicPtr, Ordering};
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
    /// The thread waits with it.
    poller: Option<Arc<Poller>>,
    /// What each handle waits for; `None`: nothing now.
    handles: HashMap<u64, Option<Callback>>,
    /// The key of the next handle.
    next: u64,
}

static NOTIFIER: AtomicPtr<Notifier> = AtomicPtr::new(std::ptr::null_mut());

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
            None => {
                let poller = Arc::new(Poller::new()?);
                let own = Arc::clone(&poller);
                os::spawn_background("zb-notify", move || serve(notifier, &own))?;
                state.poller = Some(Arc::clone(&poller));
                poller
            }
        };
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
fn serve(notifier: &Notifier, poller: &Poller) {
    let mut keys = Vec::new();
    loop {
        keys.clear();
        if poller.wait(Duration::MAX, &mut keys).is_err() {
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
        if state.handles.is_empty() {
            state.poller = None;
            return;
        }
    }
}
