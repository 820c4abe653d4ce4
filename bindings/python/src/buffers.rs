//! UNSAFE: bytes that Python objects lend to be copied.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::frame::Frame;
use crate::memory::Lease;

/// From this size on a copy releases the GIL: some 6 us of copying.
pub(crate) const MUCH: usize = 64 << 10;

/// The contiguous bytes of a Python object, kept for as long as this lives.
pub(crate) struct Bytes<'py> {
    lent: Lent<'py>,
}

enum Lent<'py> {
    Immutable(&'py [u8]),
    Frame(Bound<'py, Lease>),
    View(Box<ffi::Py_buffer>, Python<'py>),
}

/// The same for another thread state: a pointer and a length.
#[derive(Clone, Copy)]
pub(crate) struct Raw {
    start: *const u8,
    pub(crate) len: usize,
}

// SAFETY: only a `Bytes` makes one, and keeps what it points to; see Bytes::raw.
unsafe impl Send for Raw {}
// SAFETY: as above; it is only read through.
unsafe impl Sync for Raw {}

impl<'py> Bytes<'py> {
    /// Takes the bytes of any bytes-like object. `caller` is named in the error.
    #[inline]
    pub(crate) fn of(object: &'py Bound<'py, PyAny>, caller: &str) -> PyResult<Bytes<'py>> {
        if let Ok(bytes) = object.cast_exact::<PyBytes>() {
            return Ok(Bytes { lent: Lent::Immutable(bytes.as_bytes()) });
        }
        if let Ok(frame) = object.cast_exact::<Frame>() {
            return Ok(Bytes { lent: Lent::Frame(frame.get().lease(object.py())?) });
        }
        Ok(Bytes { lent: Lent::View(Bytes::view(object, caller)?, object.py()) })
    }

    /// Asks an object for its contiguous bytes; to be released once.
    pub(crate) fn view(object: &Bound<'_, PyAny>, caller: &str) -> PyResult<Box<ffi::Py_buffer>> {
        let mut view = Box::new(MaybeUninit::<ffi::Py_buffer>::zeroed());
        // SAFETY: the call fills the view, or fails and leaves it empty.
        let got = unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), view.as_mut_ptr(), ffi::PyBUF_SIMPLE) };
        if got == 0 {
            // SAFETY: filled by the call above.
            return Ok(unsafe { Box::from_raw(Box::into_raw(view).cast::<ffi::Py_buffer>()) });
        }
        let error = PyErr::fetch(object.py());
        // SAFETY: any object may be asked.
        if unsafe { ffi::PyObject_CheckBuffer(object.as_ptr()) } == 0 {
            let message = format!(
                "{caller}() takes bytes, bytearray, memoryview, a NumPy array or another object with a buffer, not {}",
                object.get_type().name()?
            );
            return Err(PyTypeError::new_err(message));
        }
        let message = format!(
            "{caller}() takes contiguous memory alone ({error}); make a contiguous copy first, for example with \
             numpy.ascontiguousarray(array) or bytes(view)"
        );
        Err(PyBufferError::new_err(message))
    }

    /// The bytes, to be copied before Python code runs again.
    pub(crate) fn as_slice(&self) -> &[u8] {
        match &self.lent {
            Lent::Immutable(bytes) => bytes,
            Lent::Frame(lease) => lease.get().bytes(),
            Lent::View(view, _) if view.len == 0 => &[],
            // SAFETY: the view has `len` contiguous bytes and keeps them until it is released. Python code could change
            // them, but none runs: `self` is not Send, so the caller holds the GIL.
            Lent::View(view, _) => unsafe { std::slice::from_raw_parts(view.buf.cast(), view.len as usize) },
        }
    }

    /// Where the bytes are, for a copy with the GIL released. `self` must outlive every use.
    pub(crate) fn raw(&self) -> Raw {
        let bytes = self.as_slice();
        Raw { start: bytes.as_ptr(), len: bytes.len() }
    }
}

impl Drop for Bytes<'_> {
    fn drop(&mut self) {
        if let Lent::View(view, _) = &mut self.lent {
            // SAFETY: filled by PyObject_GetBuffer, released once; the GIL is held, as `self` is not Send.
            unsafe { ffi::PyBuffer_Release(&mut **view) };
        }
    }
}

impl Raw {
    /// Copies all bytes to the start of `target`.
    ///
    /// # Safety
    ///
    /// The [`Bytes`] that this came from lives.
    pub(crate) unsafe fn copy_to(self, target: &mut [u8]) {
        assert!(self.len <= target.len());
        // SAFETY: as many readable bytes by the caller's promise, as many writable ones by the assertion. They cannot
        // overlap: the target lies in a part of the ring that nobody else has. Other threads that change the source
        // meanwhile, as they can that of a socket or a file, get a mixture of old and new bytes.
        unsafe { std::ptr::copy_nonoverlapping(self.start, target.as_mut_ptr(), self.len) };
    }
}
