//! Calls that wait, and handles that several Python threads use at once.
//!
//! A wait runs with the GIL released, in slices. Between two of them Python's signal handlers run (on the main thread)
//! with nothing locked, so a handler may close the very handle that is waiting. 45 ms is two sleeps of the core, and too
//! short for a person at the keyboard to notice.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use zerobuffer::{ErrorKind, InterruptHandle};

use crate::end::{self, Shut};
use crate::errors::{Failure, raise};
use crate::lock::{Guarded, Waiters};
use crate::{fork, logging};

/// Longest wait before signals are looked at.
pub(crate) const SLICE: Duration = Duration::from_millis(45);

/// A time-out as Python states it: milliseconds; `None` and negative wait without limit.
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

/// Calls `attempt` with the GIL released and the time that it may take, until it returns something or `timeout` is over.
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
        logging::flush(py);
        if left <= SLICE && deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Ok(None);
        }
    }
}

/// Runs a call of the core that may take seconds and cannot be cut into slices, on a thread of its own, so that signal
/// handlers run meanwhile. If one of them raises, the call goes on and its result is dropped.
pub(crate) fn beside<T: Send + 'static>(
    py: Python<'_>,
    work: impl FnOnce() -> T + Send + 'static,
) -> PyResult<T> {
    let (sender, mut receiver) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name("zerobuffer-call".into());
    thread.spawn(move || drop(sender.send(work())))?;
    loop {
        let (result, back) = py.detach(move || (receiver.recv_timeout(SLICE), receiver));
        receiver = back;
        match result {
            Ok(result) => {
                logging::flush(py);
                return Ok(result);
            }
            Err(RecvTimeoutError::Timeout) => py.check_signals()?,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(PyRuntimeError::new_err("the call panicked; its message is on stderr"));
            }
        }
        logging::flush(py);
    }
}

/// A handle of the core, for one thread at a time; `None` when it is closed.
pub(crate) struct Gate<T> {
    name: Box<str>,
    /// "reader" or "writer".
    what: &'static str,
    /// Held for as long as a call of the core takes. No thread waits for the lock itself.
    handle: Mutex<Option<T>>,
    waiters: Waiters,
    /// `None` when closed: it keeps the buffer's memory mapped.
    interrupt: Guarded<Option<InterruptHandle>>,
    closing: AtomicBool,
    /// The fork generation of the process that made it.
    generation: u64,
}

/// The handle in this thread's hands. The fields are dropped in their order.
struct Taken<'a, T> {
    handle: MutexGuard<'a, Option<T>>,
    _next: WakesNext<'a>,
}

struct WakesNext<'a>(&'a Waiters);

impl Drop for WakesNext<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.wake_first();
    }
}

impl<T: Send> Shut for Gate<T> {
    fn shut(&self) {
        if self.check_mine().is_ok() {
            self.begin_to_close();
            // Every thread that has the handle gives it back within a slice.
            if let Ok(Some(mut taken)) = self.take_within(Duration::MAX) {
                drop(taken.handle.take());
            }
            drop(self.interrupt.replace(None));
        }
    }
}

impl<T: Send + 'static> Gate<T> {
    pub(crate) fn new(
        py: Python<'_>,
        name: &str,
        what: &'static str,
        handle: T,
        interrupt: InterruptHandle,
    ) -> Arc<Gate<T>> {
        let gate = Arc::new(Gate {
            name: name.into(),
            what,
            handle: Mutex::new(Some(handle)),
            waiters: Waiters::default(),
            interrupt: Guarded::new(Some(interrupt)),
            closing: AtomicBool::new(false),
            generation: fork::generation(),
        });
        end::enlist(py, &gate);
        gate
    }
}

impl<T> Gate<T> {
    /// The handle, unless another thread has it.
    #[inline]
    fn try_take(&self) -> Option<Taken<'_, T>> {
        let handle = match self.handle.try_lock() {
            Ok(handle) => handle,
            // A panic of the core leaves a handle that refuses to work.
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(Taken { handle, _next: WakesNext(&self.waiters) })
    }

    /// The handle, if it is free within `limit`. The thread that has waited for the longest time is next: the handle is free
    /// for a moment only between two slices of a call.
    fn take_within(&self, limit: Duration) -> Result<Option<Taken<'_, T>>, Failure> {
        if self.waiters.is_empty()
            && let Some(taken) = self.try_take()
        {
            return Ok(Some(taken));
        }
        // Before waiting: in a forked child the thread that has the handle is not there.
        self.check_mine()?;
        let place = self.waiters.join();
        let deadline = Instant::now().checked_add(limit);
        loop {
            if place.is_first()
                && let Some(taken) = self.try_take()
            {
                return Ok(Some(taken));
            }
            if !place.park_until(deadline) {
                return Ok(None);
            }
        }
    }
}

impl<T: Send> Gate<T> {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Calls `work` with the handle. `None` if another thread has it. Like every closure under this lock, `work` is
    /// `Send`, so that it cannot hold Python objects: no Python code runs here, nor is an exception made.
    #[inline]
    pub(crate) fn try_with<R>(
        &self,
        work: impl FnOnce(&mut T) -> Result<R, Failure> + Send,
    ) -> Result<Option<R>, Failure> {
        match self.try_take() {
            Some(mut taken) => match &mut *taken.handle {
                Some(handle) => work(handle).map(Some).map_err(|failure| self.explain(failure)),
                None => Err(self.closed()),
            },
            None => Ok(None),
        }
    }

    /// One attempt of [`in_slices`]: calls `attempt` with the handle, if it is free within the slice.
    pub(crate) fn attempt<R>(
        &self,
        slice: Duration,
        attempt: impl FnOnce(&mut T) -> Result<Option<R>, Failure> + Send,
    ) -> Result<Option<R>, Failure> {
        let Some(mut taken) = self.take_within(slice)? else { return Ok(None) };
        let result = match &mut *taken.handle {
            Some(handle) if !self.is_closed() => attempt(handle),
            _ => Err(self.closed()),
        };
        drop(taken);
        result.map_err(|failure| self.explain(failure))
    }

    /// Calls `work` with the handle, waiting for other threads as long as it takes.
    pub(crate) fn enter<R: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut T) -> Result<R, Failure> + Send,
    ) -> PyResult<R> {
        let mut work = Some(work);
        let mut once = |handle: &mut T| work.take().map(|work| work(handle)).transpose();
        if let Some(done) = self.try_with(&mut once).map_err(|failure| raise(py, failure))?.flatten() {
            return Ok(done);
        }
        // Longer than a slice, so that it is there when the other thread lets go.
        let done = in_slices(py, Duration::MAX, |slice| self.attempt(4 * slice, &mut once))?;
        done.ok_or_else(|| raise(py, self.closed()))
    }

    pub(crate) fn interrupt(&self) {
        let interrupt = self.interrupt.with(|interrupt| interrupt.clone());
        if let Some(interrupt) = interrupt {
            interrupt.interrupt();
        }
    }

    fn begin_to_close(&self) {
        self.closing.store(true, Ordering::SeqCst);
        if self.try_take().is_none() {
            self.interrupt();
        }
    }

    /// Takes the handle out and drops it, ending the calls that other threads are blocked in. Does nothing in a forked
    /// child: the handle is the parent's.
    pub(crate) fn close(&self, py: Python<'_>) -> PyResult<()> {
        if self.check_mine().is_err() {
            self.closing.store(true, Ordering::SeqCst);
            return Ok(());
        }
        self.begin_to_close();
        // The gate is shut until the handle is closed: the end of the interpreter waits for that.
        in_slices(py, Duration::MAX, |slice| {
            Ok(self.take_within(slice)?.map(|mut taken| drop(taken.handle.take())))
        })?;
        let interrupt = self.interrupt.replace(None);
        py.detach(|| drop(interrupt));
        Ok(())
    }

    /// Whether another thread has the handle now. It may let go at once.
    pub(crate) fn is_taken(&self) -> bool {
        matches!(self.handle.try_lock(), Err(TryLockError::WouldBlock))
    }

    /// Takes the handle out for another owner, waiting for other threads. The gate is closed from then on.
    pub(crate) fn hand_over(&self, py: Python<'_>) -> PyResult<T> {
        self.check_mine().map_err(|failure| raise(py, failure))?;
        let taken = in_slices(py, Duration::MAX, |slice| {
            Ok(self.take_within(slice)?.map(|mut taken| {
                // Pairs with the Acquire load in is_closed().
                self.closing.store(true, Ordering::SeqCst);
                taken.handle.take()
            }))
        })?;
        let interrupt = self.interrupt.replace(None);
        py.detach(|| drop(interrupt));
        taken.flatten().ok_or_else(|| raise(py, self.closed()))
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    pub(crate) fn closed(&self) -> Failure {
        Failure::own(ErrorKind::Closed, &self.name, format!("the {} is closed", self.what))
    }

    /// An interrupt by close() is an end, not an interrupt.
    fn explain(&self, failure: Failure) -> Failure {
        if failure.kind() == ErrorKind::Interrupted && self.is_closed() { self.closed() } else { failure }
    }
}

impl<T> Gate<T> {
    /// Refuses in a forked child.
    pub(crate) fn check_mine(&self) -> Result<(), Failure> {
        if self.generation == fork::generation() {
            return Ok(());
        }
        let message = format!(
            "this {} belongs to the process that forked this one; create one in this process",
            self.what
        );
        Err(Failure::own(ErrorKind::InvalidState, &self.name, message))
    }
}

impl<T> Drop for Gate<T> {
    fn drop(&mut self) {
        if self.check_mine().is_err() && matches!(self.handle.try_lock(), Err(TryLockError::WouldBlock)) {
            // The thread that had the handle when this process was forked may have left it half-changed.
            let handle = self.handle.get_mut().unwrap_or_else(PoisonError::into_inner);
            std::mem::forget(handle.take());
        }
    }
}
