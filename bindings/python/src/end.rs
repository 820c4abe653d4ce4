//! The end of the interpreter.
//!
//! A thread that runs Python code when CPython tears the interpreter down is ended in the middle of it (up to 3.13), which
//! Rust answers by aborting the process. So the end waits for all of the core's threads that are calling Python, lets no
//! other one begin, and closes every handle while that can still be done. Daemon threads stand still from then on, as
//! those do that touch the interpreter: an exception that says "closed" would only print a traceback.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use crate::lock::Attached;
use crate::{logging, thread_state};

/// How long the end waits for handles that are being opened or closed. The core takes 2 s at most where another process holds a
/// name's lock.
const UNSETTLED_PATIENCE: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(1);

static ENDING: AtomicBool = AtomicBool::new(false);
/// Threads that are calling Python code from Rust.
static CALLING: AtomicUsize = AtomicUsize::new(0);
/// Handles that are being opened, or closed beside their gate.
static UNSETTLED: AtomicUsize = AtomicUsize::new(0);
/// Everything that is open.
static OPEN: Attached<Vec<Weak<dyn Shut>>> = Attached::new(Vec::new());

thread_local! {
    /// This thread goes on after the end has begun: it runs the end, or is one of the core's that calls Python.
    static GOES_ON: Cell<bool> = const { Cell::new(false) };
}

/// What is closed at the end.
pub(crate) trait Shut: Send + Sync {
    /// Ends what calls Python by itself. Called before [`Shut::shut`], for all.
    fn quiet(&self) {}

    fn shut(&self) {}
}

/// One of a counter, for as long as this lives.
pub(crate) struct Counted(&'static AtomicUsize);

impl Counted {
    fn new(counter: &'static AtomicUsize) -> Counted {
        // SeqCst, as the loads of ENDING behind it: the end sees this one, or this one sees the end.
        counter.fetch_add(1, Ordering::SeqCst);
        Counted(counter)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Calls Python from a thread of the core. `None` if the interpreter is ending.
pub(crate) fn call_python<R>(work: impl FnOnce(Python<'_>) -> R) -> Option<R> {
    let went_on = GOES_ON.get();
    let _calling = Counted::new(&CALLING);
    if !went_on && ENDING.load(Ordering::SeqCst) {
        return None;
    }
    GOES_ON.set(true);
    thread_state::ensure();
    let result = Python::try_attach(|py| {
        let result = work(py);
        logging::flush(py);
        result
    });
    GOES_ON.set(went_on);
    result
}

/// Does `work`, which the end waits for. Leaves it undone if the interpreter is ending.
pub(crate) fn unless_ending(work: impl FnOnce()) {
    let _calling = Counted::new(&CALLING);
    if !ENDING.load(Ordering::SeqCst) {
        work();
    }
}

/// Calls Python from a `Drop`, where the interpreter may be handling an exception of its own, which stays.
pub(crate) fn while_dropping(work: impl FnOnce(Python<'_>)) {
    unless_ending(thread_state::ensure);
    let _ = Python::try_attach(|py| {
        let pending = PyErr::take(py);
        work(py);
        if let Some(pending) = pending {
            pending.restore(py);
        }
    });
}

/// Announces a call of Python code that ends by itself, until what this returns is dropped. Stands still when the
/// interpreter is ending.
pub(crate) fn calling(py: Python<'_>) -> Counted {
    announce(py, &CALLING)
}

/// Announces that a handle is being opened, or closed beside its gate, until what this returns is dropped. Stands still
/// when the interpreter is ending.
pub(crate) fn unsettled(py: Python<'_>) -> Counted {
    announce(py, &UNSETTLED)
}

fn announce(py: Python<'_>, counter: &'static AtomicUsize) -> Counted {
    let counted = Counted::new(counter);
    if stands_still() {
        drop(counted);
        stand_still(py);
    }
    counted
}

/// Whether the interpreter is ending and this is another thread of it.
#[inline]
pub(crate) fn stands_still() -> bool {
    ENDING.load(Ordering::SeqCst) && !GOES_ON.get()
}

/// Waits for the end of the process.
#[cold]
pub(crate) fn stand_still(py: Python<'_>) -> ! {
    py.detach(|| {
        loop {
            std::thread::park();
        }
    })
}

/// Has `handle` closed at the end, if it is still there.
pub(crate) fn enlist<T: Shut + 'static>(py: Python<'_>, handle: &Arc<T>) {
    let handle = Arc::downgrade(handle) as Weak<dyn Shut>;
    OPEN.with(py, |open| {
        open.retain(|handle| handle.strong_count() > 0);
        open.push(handle);
    });
}

/// Ends everything; for `atexit`.
#[pyfunction]
pub(crate) fn close_all(py: Python<'_>) -> PyResult<()> {
    GOES_ON.set(true);
    ENDING.store(true, Ordering::SeqCst);
    let until = Instant::now() + UNSETTLED_PATIENCE;
    while UNSETTLED.load(Ordering::SeqCst) > 0 && Instant::now() < until {
        py.detach(|| std::thread::sleep(LOOK));
    }
    let open: Vec<Arc<dyn Shut>> = OPEN.replace(py, Vec::new()).iter().filter_map(Weak::upgrade).collect();
    py.detach(|| open.iter().for_each(|handle| handle.quiet()));
    while CALLING.load(Ordering::SeqCst) > 0 {
        py.detach(|| std::thread::sleep(LOOK));
        py.check_signals()?;
    }
    py.detach(|| {
        open.iter().for_each(|handle| handle.shut());
        drop(open);
    });
    logging::flush(py);
    Ok(())
}

/// Leaves everything to the parent, in a forked child: its threads are not there. For `os.register_at_fork`.
#[pyfunction]
pub(crate) fn leave_to_parent(py: Python<'_>) {
    ENDING.store(false, Ordering::SeqCst);
    CALLING.store(0, Ordering::SeqCst);
    UNSETTLED.store(0, Ordering::SeqCst);
    GOES_ON.set(false);
    drop(OPEN.replace(py, Vec::new()));
}
