//! UNSAFE (the view of an acquired frame): frames of a `Writer` that are filled in place.
//!
//! A frame belongs to the thread that acquired it. Others that write wait until it has been committed or discarded, and
//! discard it themselves if its thread has ended.
#![allow(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyMemoryView, PyTuple};
use zerobuffer::ErrorKind;

use crate::errors::{Failure, raise};
use crate::gate::in_slices;
use crate::memory::{self, Lease, Lent};
use crate::owner::Owner;
use crate::writer::Writer;

/// A frame that a thread is filling in place.
pub(crate) struct Acquired {
    pub(crate) owner: Owner,
    pub(crate) number: u64,
    /// `None` for a moment, until it has been made.
    view: Option<Py<PyMemoryView>>,
}

impl Acquired {
    /// Ends the view that was handed out. Arrays and slices made of it may live on; their memory stays mapped.
    fn end_view(self, py: Python<'_>) {
        if let Some(view) = self.view {
            // Fails while there are arrays.
            let _ = view.bind(py).call_method0("release");
        }
    }
}

/// Acquires a frame within `slice`; false if there was no space.
pub(crate) fn acquire(writer: &mut zerobuffer::Writer, len: usize, slice: Duration) -> Result<bool, Failure> {
    writer.set_write_timeout(slice);
    match writer.acquire_frame_buffer(len) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BufferFull => Ok(false),
        Err(error) => Err(error.into()),
    }
}

impl Writer {
    /// Lends a frame's bytes to be filled in place; returns the acquisition's number too. `None` when the time is over.
    pub(crate) fn acquire_within<'py>(
        &self,
        py: Python<'py>,
        size: usize,
        timeout: Duration,
    ) -> PyResult<Option<(Bound<'py, PyMemoryView>, u64)>> {
        let found = in_slices(py, timeout, |slice| {
            let found = self.gate.attempt(slice, |writer| {
                if !acquire(writer, size, slice)? {
                    return Ok(None);
                }
                let keeper = Arc::new(Lent::new(writer.memory_guard(), &self.lent));
                let Some(bytes) = writer.acquired() else { return Ok(None) };
                let (start, len) = (bytes.as_mut_ptr(), bytes.len());
                // SAFETY: the guard keeps the memory mapped. The reader does not look at it before the commit, and what is
                // written later can only spoil the content of frames.
                let lease = unsafe { Lease::writable(start, len, keeper) };
                let number = self.acquisitions.fetch_add(1, Ordering::Relaxed) + 1;
                let acquired = Acquired { owner: Owner::current(), number, view: None };
                // There was none, or the core would have refused.
                drop(self.acquired.replace(Some(acquired)));
                Ok(Some((lease, number)))
            });
            self.unless_for_others(slice, found)
        })?;
        let Some((lease, number)) = found else { return Ok(None) };
        let view = match Bound::new(py, lease).and_then(|lease| memory::view(&lease)) {
            Ok(view) => view,
            Err(error) => {
                self.discard(py, Some(number))?;
                return Err(error);
            }
        };
        let kept = view.clone().unbind();
        self.acquired.with(|acquired| {
            if let Some(acquired) = acquired.as_mut().filter(|acquired| acquired.number == number) {
                acquired.view = Some(kept);
            }
        });
        Ok(Some((view, number)))
    }

    pub(crate) fn acquire<'py>(
        &self,
        py: Python<'py>,
        size: usize,
    ) -> PyResult<(Bound<'py, PyMemoryView>, u64)> {
        let timeout = self.timeout.with(py, |timeout| *timeout);
        self.acquire_within(py, size, timeout)?.ok_or_else(|| self.full(py, size))
    }

    /// Commits what is acquired, if it is the acquisition `number` or that is `None`. `None` if it is not there.
    pub(crate) fn commit(
        &self,
        py: Python<'_>,
        number: Option<u64>,
        size: Option<usize>,
    ) -> PyResult<Option<u64>> {
        let (sequence, ended) = self.gate.enter(py, |writer| {
            if number.is_some_and(|number| !self.is_acquired(number)) {
                return Ok((None, None));
            }
            let sequence = writer.commit_frame(size)?;
            self.count(writer);
            Ok((Some(sequence), self.acquired.replace(None)))
        })?;
        self.end(py, ended);
        Ok(sequence)
    }

    pub(crate) fn discard(&self, py: Python<'_>, number: Option<u64>) -> PyResult<()> {
        let ended = self.gate.enter(py, |writer| {
            if number.is_some_and(|number| !self.is_acquired(number)) {
                return Ok(None);
            }
            writer.discard_frame();
            Ok(self.acquired.replace(None))
        })?;
        self.end(py, ended);
        Ok(())
    }

    pub(crate) fn end(&self, py: Python<'_>, ended: Option<Acquired>) {
        self.returned.wake_all();
        if let Some(ended) = ended {
            ended.end_view(py);
        }
    }

    fn is_acquired(&self, number: u64) -> bool {
        self.acquired.with(|acquired| acquired.as_ref().is_some_and(|acquired| acquired.number == number))
    }

    /// Discards the frame of a thread that has ended.
    pub(crate) fn take_back(&self) -> Result<(), Failure> {
        let taken = self.gate.try_with(|writer| {
            let lost = self.acquired.with(|acquired| acquired.take_if(|acquired| acquired.owner.has_ended()));
            if let Some(lost) = &lost {
                writer.discard_frame();
                self.lost.store(lost.number, Ordering::Release);
            }
            Ok(lost)
        })?;
        if let Some(lost) = taken.flatten() {
            self.returned.wake_all();
            let _ = Python::try_attach(|py| lost.end_view(py));
        }
        Ok(())
    }
}

/// A `with` block around a frame that is filled in place; see `Writer.frame`.
#[pyclass(frozen, module = "zerobuffer")]
pub(crate) struct WritableFrame {
    writer: Py<Writer>,
    size: usize,
    /// The acquisition's; 0 before the block.
    number: AtomicU64,
}

impl WritableFrame {
    pub(crate) fn new(writer: Py<Writer>, size: usize) -> WritableFrame {
        WritableFrame { writer, size, number: AtomicU64::new(0) }
    }
}

#[pymethods]
impl WritableFrame {
    fn __enter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyMemoryView>> {
        let (view, number) = self.writer.get().acquire(py, self.size)?;
        self.number.store(number, Ordering::Relaxed);
        Ok(view)
    }

    #[pyo3(signature = (kind=None, *_exception))]
    fn __exit__(
        &self,
        py: Python<'_>,
        kind: Option<&Bound<'_, PyAny>>,
        _exception: &Bound<'_, PyTuple>,
    ) -> PyResult<()> {
        let (writer, number) = (self.writer.get(), self.number.load(Ordering::Relaxed));
        if writer.is_acquired(number) {
            return match kind {
                Some(_) => writer.discard(py, Some(number)),
                None => writer.commit(py, Some(number), None).map(drop),
            };
        }
        // The block has committed or discarded it itself, unless it was taken away.
        if kind.is_none() && writer.lost.load(Ordering::Acquire) == number {
            return Err(raise(py, writer.gate.closed()));
        }
        Ok(())
    }
}
