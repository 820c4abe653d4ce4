//! UNSAFE (a handler's answer, used for as long as it runs, and the view of it): answers that handlers fill in place.
//!
//! The core lends its [`ResponseWriter`](duplex::ResponseWriter) to a handler for as long as that runs. Python may keep the object
//! for longer, and use it on any thread. So every use takes it out of the object, and the end of the handler waits until it
//! is back.
#![allow(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyMemoryView, PyTuple};
use zerobuffer::ErrorKind;
use zerobuffer::duplex;

use crate::config::count;
use crate::errors::{Failure, raise};
use crate::lock::{Attached, Guarded, Waiters};
use crate::memory::{self, Lease};
use crate::owned::Owned;

/// The core's object, lent for as long as its handler runs.
struct Native(*mut duplex::ResponseWriter<'static>);

// SAFETY: the core's object is Send, and the thread that has this has it alone.
unsafe impl Send for Native {}

enum Slot {
    Here(Native),
    /// A call uses it.
    Taken,
    /// The handler has returned.
    Ended,
}

/// The core's object, and the threads that wait until it is back.
struct Loan {
    slot: Guarded<Slot>,
    back: Waiters,
}

/// Ends a loan: waits until no call uses the core's object any more.
pub(crate) struct Lending(Arc<Loan>);

impl Drop for Lending {
    fn drop(&mut self) {
        self.0.slot.wait_until(&self.0.back, Duration::MAX, |slot| {
            let is_taken = matches!(slot, Slot::Taken);
            if !is_taken {
                *slot = Slot::Ended;
            }
            !is_taken
        });
    }
}

/// The view that was handed out of acquired bytes.
struct Acquired {
    view: Py<PyMemoryView>,
    /// Memory of the process, which the core does not know of: the answer cannot be filled in place.
    private: Option<Py<Lease>>,
}

/// Writes the answer to one request, usually in place; see `ImmutableDuplexServer.start_in_place`. Valid until the
/// handler returns.
#[pyclass(frozen, module = "zerobuffer._native")]
pub(crate) struct ResponseWriter {
    channel: Box<str>,
    loan: Arc<Loan>,
    acquired: Attached<Option<Acquired>>,
}

impl ResponseWriter {
    /// An object for Python that uses `native` until the lending is dropped. To be dropped without the GIL, before `native`
    /// is used again.
    pub(crate) fn lend(channel: &str, native: &mut duplex::ResponseWriter<'_>) -> (ResponseWriter, Lending) {
        let native = Native(std::ptr::from_mut(native).cast());
        let loan = Arc::new(Loan { slot: Guarded::new(Slot::Here(native)), back: Waiters::default() });
        let lending = Lending(Arc::clone(&loan));
        (ResponseWriter { channel: channel.into(), loan, acquired: Attached::new(None) }, lending)
    }

    /// Ends the view that was handed out. Arrays and slices made of it may live on; their memory stays.
    pub(crate) fn end_view(&self, py: Python<'_>) -> Option<Py<Lease>> {
        let Acquired { view, private } = self.acquired.replace(py, None)?;
        // Fails while there are arrays.
        let _ = view.bind(py).call_method0("release");
        private
    }

    fn invalid_state(&self, py: Python<'_>, message: &str) -> PyErr {
        raise(py, Failure::of_channel(ErrorKind::InvalidState, &self.channel, message))
    }

    /// Calls `work` with the core's object, without the GIL.
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut duplex::ResponseWriter<'_>) -> zerobuffer::Result<T> + Send,
    ) -> PyResult<T> {
        let taken = self.loan.slot.with(|slot| match std::mem::replace(slot, Slot::Taken) {
            Slot::Here(native) => Some(native),
            other => {
                *slot = other;
                None
            }
        });
        let Some(native) = taken else {
            let message = "the handler has returned, or another thread is using the response";
            return Err(self.invalid_state(py, message));
        };
        let loan = &self.loan;
        let result = py.detach(move || {
            let native = native;
            // SAFETY: lend() was given an exclusive reference that lives until the lending is dropped, which waits until the
            // slot is filled again. Until then no other thread has it.
            let result = work(unsafe { &mut *native.0 });
            loan.slot.with(|slot| *slot = Slot::Here(native));
            loan.back.wake_all();
            result
        });
        result.map_err(|error| raise(py, error))
    }

    fn lend_bytes<'py>(&self, py: Python<'py>, size: usize) -> PyResult<Bound<'py, PyMemoryView>> {
        if self.acquired.with(py, |acquired| acquired.is_some()) {
            let message = "bytes are acquired for the answer: commit or discard them first";
            return Err(self.invalid_state(py, message));
        }
        let lease = self.with(py, |response| {
            if !response.acquire_in_place(size)? {
                return Ok(None);
            }
            let guard = response.memory_guard().map(|guard| Arc::new(guard) as Arc<dyn Send + Sync>);
            let bytes = response.acquired();
            // SAFETY: the guard keeps the memory mapped. The client does not look at it before the commit, and what is written
            // later can only spoil the content of frames.
            let lease = |(guard, bytes): (_, &mut [u8])| unsafe {
                Lease::writable(bytes.as_mut_ptr(), bytes.len(), guard)
            };
            Ok(guard.zip(bytes).map(lease))
        })?;
        let is_private = lease.is_none();
        let lease = lease.unwrap_or_else(|| Lease::of_bytes(vec![0; size].into(), true));
        let lease = Bound::new(py, lease)?;
        let view = memory::view(&lease)?;
        let acquired = Acquired { view: view.clone().unbind(), private: is_private.then(|| lease.unbind()) };
        drop(self.acquired.replace(py, Some(acquired)));
        Ok(view)
    }

    fn send_bytes(&self, py: Python<'_>, size: Option<usize>) -> PyResult<()> {
        let private = self.acquired.with(py, |acquired| {
            acquired.as_ref().and_then(|acquired| acquired.private.as_ref().map(|lease| lease.get().len()))
        });
        let Some(len) = private else {
            self.with(py, |response| response.commit(size))?;
            self.end_view(py);
            return Ok(());
        };
        let size = size.unwrap_or(len);
        if size > len {
            let message = format!("cannot commit {size} of {len} bytes acquired");
            let failure = Failure::of_channel(ErrorKind::InvalidFrameSize, &self.channel, message);
            return Err(raise(py, failure));
        }
        let Some(lease) = self.end_view(py) else { return Ok(()) };
        let lease = lease.bind(py).get();
        self.with(py, |response| response.write(&lease.bytes()[..size]))
    }

    fn drop_bytes(&self, py: Python<'_>) -> PyResult<()> {
        match self.end_view(py) {
            Some(_) => Ok(()),
            None => self.with(py, |response| {
                response.discard();
                Ok(())
            }),
        }
    }
}

#[pymethods]
impl ResponseWriter {
    /// Lends `size` bytes for the answer, to be filled and committed. Their first content is undefined.
    ///
    /// They are bytes of the response buffer where one thread runs all handlers; this then waits for space for as long as
    /// the client lives. In a thread pool they are memory of the process, which the commit copies.
    ///
    /// Returns:
    ///     A writable view. It ends with the commit. Arrays made of it stay safe to use, but their content is undefined then.
    ///
    /// Raises:
    ///     FrameTooLargeError: if the response buffer is too small.
    ///     InvalidStateError: if the request has been answered, bytes are acquired already, or the handler has returned.
    ///     OutOfMemoryError.
    fn acquire<'py>(&self, py: Python<'py>, size: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyMemoryView>> {
        self.lend_bytes(py, self.size(size)?)
    }

    /// Answers with the acquired bytes, or the first `size` of them; 0 answers with no bytes.
    ///
    /// Raises:
    ///     InvalidStateError: if nothing is acquired, or the handler has returned.
    ///     InvalidFrameSizeError: if fewer bytes are acquired; they stay acquired.
    #[pyo3(signature = (size=None))]
    fn commit(&self, py: Python<'_>, size: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        self.send_bytes(py, size.map(|size| self.size(size)).transpose()?)
    }

    /// Discards the acquired bytes, if any. The handler may acquire others, or `write`; if it does neither, its request fails.
    ///
    /// Raises:
    ///     InvalidStateError: if the handler has returned.
    fn discard(&self, py: Python<'_>) -> PyResult<()> {
        self.drop_bytes(py)
    }

    /// Bytes for the answer, to be filled in a `with` block: `with response.frame(n) as view: ...`
    ///
    /// Entering the block acquires `size` bytes (see `acquire`); leaving it commits them, or discards them if it is left by
    /// an exception. The block may also commit or discard them itself.
    fn frame(slf: Py<Self>, size: &Bound<'_, PyAny>) -> PyResult<WritableResponse> {
        let size = slf.get().size(size)?;
        Ok(WritableResponse { response: slf, size })
    }

    /// Answers with a copy of `data`.
    ///
    /// Args:
    ///     data: bytes, a NumPy array or another contiguous buffer.
    ///
    /// Raises:
    ///     InvalidStateError: if the request has been answered, bytes are acquired, or the handler has returned.
    fn write(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let bytes = Owned::of(data, "write")?;
        if self.acquired.with(py, |acquired| acquired.is_some()) {
            let message = "bytes are acquired for the answer: commit or discard them first";
            return Err(self.invalid_state(py, message));
        }
        self.with(py, |response| response.write(bytes.as_ref()))
    }
}

impl ResponseWriter {
    /// A size that an answer can have.
    fn size(&self, size: &Bound<'_, PyAny>) -> PyResult<usize> {
        let failed = || {
            let message = format!("{size} is no size of an answer");
            raise(size.py(), Failure::of_channel(ErrorKind::InvalidFrameSize, &self.channel, message))
        };
        count(size)?.ok_or_else(failed)
    }
}

/// A `with` block around an answer that is filled in place; see `ResponseWriter.frame`.
#[pyclass(frozen, module = "zerobuffer._native")]
pub(crate) struct WritableResponse {
    response: Py<ResponseWriter>,
    size: usize,
}

#[pymethods]
impl WritableResponse {
    fn __enter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyMemoryView>> {
        self.response.get().lend_bytes(py, self.size)
    }

    #[pyo3(signature = (kind=None, *_exception))]
    fn __exit__(
        &self,
        py: Python<'_>,
        kind: Option<&Bound<'_, PyAny>>,
        _exception: &Bound<'_, PyTuple>,
    ) -> PyResult<()> {
        let response = self.response.get();
        if response.acquired.with(py, |acquired| acquired.is_none()) {
            // The block has committed or discarded it itself.
            return Ok(());
        }
        if kind.is_some() { response.drop_bytes(py) } else { response.send_bytes(py, None) }
    }
}
