//! Calls that wait, and handles that several Python threads use at once.
//!
//! A wait runs with the GIL released, in slices: between two of them Python's signal handlers run (on the main thread),
//! and nothing is locked meanwhile, so a handler may close the very handle that is waiting. 45 ms is two sleeps of the
//! core, and too short for anybody at the keyboard to notice.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use zerobuffer::{ErrorKind, InterruptHandle};

use crate::errors::{Failure, raise};

/// Longest wait before signals are looked at.
pub(crate) const SLICE: Duration = Duration::from_millis(45);

/// A time-out as Python states it: milliseconds; `None` and negative wait for ever.
pub(crate) fn duration(timeout_ms: Option<f64>) -> PyResult<Duration> {
    match timeout_ms {
        None => Ok(Duration::MAX),
        Some(ms) if ms.is_nan() => Err(PyValueError::new_err("timeout_ms is not a number")),
        Some(ms) if ms < 0.0 => Ok(Duration::MAX),
        Some(ms) => Ok(Duration::try_from_secs_f64(ms / 1e3).unwrap_or(Duration::MAX)),
    }
}

/// The opposite of [`duration`].
pub(crate) fn milliseconds(timeout: Duration) -> Option<f64> {
    (timeout != Duration::MAX).then_some(timeout.as_secs_f64() * 1e3)
}

/// Calls `attempt` with the GIL released and the time that it may take, until it gives something or `timeout` is over.
pub(crate) fn in_slices<T: Send>(
    py: Python<'_>,
    timeout: Duration,
    mut attempt: impl FnMut(Duration) -> Result<Option<T>, Failure> + Send,
) -> PyResult<Option<T>> {
    let deadline = Instant::now().checked_add(timeout);
    loop {
        let left = deadline.map_or(SLICE, |deadline| deadline.saturating_duration_since(Instant::now()));
        match py.detach(|| attempt(left.min(SLICE))) {
            Ok(Some(found)) => return Ok(Some(found)),
            Ok(None) => {}
            Err(failure) => return Err(raise(py, failure)),
        }
        py.check_signals()?;
        crate::logging::flush(py);
        if left <= SLICE && deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Ok(None);
        }
    }
}

/// A handle of the core, for one thread at a time; `None` when it is closed.
pub(crate) struct Gate<T> {
    name: Box<str>,
    /// "reader" or "writer".
    what: &'static str,
    handle: Mutex<Option<T>>,
    interrupt: InterruptHandle,
    closing: AtomicBool,
    /// The process that made it.
    pid: u32,
}

/// What can be closed at the end of the interpreter.
trait Shut: Send + Sync {
    fn shut(&self, py: Python<'_>);
}

impl<T: Send> Shut for Gate<T> {
    fn shut(&self, py: Python<'_>) {
        if let Ok(handle) = self.close(py) {
            py.detach(|| drop(handle));
        }
    }
}

/// All handles that there are. A thread that is blocked in one at the end of the interpreter would keep it from being
/// closed.
static OPEN: Mutex<Vec<Weak<dyn Shut>>> = Mutex::new(Vec::new());

/// Closes all readers and writers; for `atexit`.
#[pyfunction]
pub(crate) fn close_all(py: Python<'_>) {
    let open = std::mem::take(&mut *OPEN.lock());
    for gate in open.iter().filter_map(Weak::upgrade) {
        gate.shut(py);
    }
}

impl<T: Send> Gate<T> {
    pub(crate) fn new(name: &str, what: &'static str, handle: T, interrupt: InterruptHandle) -> Arc<Gate<T>>
    where
        T: 'static,
    {
        let (handle, closing) = (Mutex::new(Some(handle)), AtomicBool::new(false));
        let gate =
            Arc::new(Gate { name: name.into(), what, handle, interrupt, closing, pid: std::process::id() });
        let mut open = OPEN.lock();
        open.retain(|gate| gate.strong_count() > 0);
        open.push(Arc::downgrade(&gate) as Weak<dyn Shut>);
        gate
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The handle, if no other thread has it.
    #[inline]
    pub(crate) fn try_enter(&self) -> Result<Option<MappedMutexGuard<'_, T>>, Failure> {
        match self.handle.try_lock() {
            Some(guard) => MutexGuard::try_map(guard, Option::as_mut).map(Some).map_err(|_| self.closed()),
            None => Ok(None),
        }
    }

    /// One attempt of [`in_slices`]: calls `attempt` with the handle, if it is free within the slice.
    pub(crate) fn attempt<R>(
        &self,
        slice: Duration,
        attempt: impl FnOnce(&mut T) -> Result<Option<R>, Failure>,
    ) -> Result<Option<R>, Failure> {
        let Some(mut guard) = self.handle.try_lock_for(slice) else {
            self.check_mine()?;
            return Ok(None);
        };
        let result = match &mut *guard {
            Some(handle) if !self.is_closing() => attempt(handle),
            _ => Err(self.closed()),
        };
        // Whoever waits for the handle is next: the lock is free for a moment only between two slices.
        MutexGuard::unlock_fair(guard);
        match result {
            // By close().
            Err(failure) if failure.kind() == ErrorKind::Interrupted && self.is_closing() => {
                Err(self.closed())
            }
            result => result,
        }
    }

    /// Calls `work` with the handle, waiting for other threads as long as it takes.
    pub(crate) fn enter<R: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut T) -> Result<R, Failure> + Send,
    ) -> PyResult<R> {
        if let Some(mut handle) = self.try_enter().map_err(|failure| raise(py, failure))? {
            return work(&mut handle).map_err(|failure| raise(py, failure));
        }
        let mut work = Some(work);
        // Longer than a slice, so that it is there when the other thread lets go.
        let done = in_slices(py, Duration::MAX, |slice| {
            self.attempt(4 * slice, |handle| work.take().map(|work| work(handle)).transpose())
        })?;
        done.ok_or_else(|| raise(py, self.closed()))
    }

    pub(crate) fn interrupt(&self) {
        self.interrupt.interrupt();
    }

    /// Takes the handle out, ending the calls that other threads are blocked in. `None` if it is closed already.
    pub(crate) fn close(&self, py: Python<'_>) -> PyResult<Option<T>> {
        // In a forked child the lock may be held by a thread that is not there, and the handle is the parent's.
        if self.handle.is_locked() {
            self.check_mine().map_err(|failure| raise(py, failure))?;
        }
        self.closing.store(true, Ordering::Release);
        if self.handle.is_locked() {
            self.interrupt.interrupt();
        }
        let taken = in_slices(py, Duration::MAX, |slice| {
            Ok(self.handle.try_lock_for(slice).map(|mut handle| handle.take()))
        });
        Ok(taken?.flatten())
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    fn is_closing(&self) -> bool {
        self.is_closed()
    }

    fn closed(&self) -> Failure {
        Failure::own(ErrorKind::Closed, &self.name, format!("the {} is closed", self.what))
    }

    fn check_mine(&self) -> Result<(), Failure> {
        if self.pid == std::process::id() {
            return Ok(());
        }
        let message = format!(
            "this {} belongs to the process that forked this one, where another thread is using it; make one of your own",
            self.what
        );
        Err(Failure::own(ErrorKind::InvalidState, &self.name, message))
    }
}
