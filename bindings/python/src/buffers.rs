//! UNSAFE: bytes that Python objects lend to be copied.
#![allow(unsafe_code)]

use std::borrow::Cow;
use std::ffi::CStr;
use std::mem::MaybeUninit;

use pyo3::exceptions::{PyBufferError, PyMemoryError, PyTypeError};
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

/// Where the bytes of a [`Bytes`] are, for code that runs with the GIL released.
#[derive(Clone, Copy)]
pub(crate) struct Raw {
    start: *const u8,
    pub(crate) len: usize,
}

// SAFETY: only a `Bytes` makes one, and keeps what it points to; see Bytes::raw.
unsafe impl Send for Raw {}
// SAFETY: a `Bytes` keeps what it points to, and threads that share it only read through it.
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

    /// Bytes that nothing changes.
    pub(crate) fn fixed(bytes: &'py [u8]) -> Bytes<'py> {
        Bytes { lent: Lent::Immutable(bytes) }
    }

    /// The bytes if nothing can change them.
    pub(crate) fn immutable(&self) -> Option<&[u8]> {
        if let Lent::Immutable(bytes) = self.lent { Some(bytes) } else { None }
    }

    /// A copy of the bytes.
    pub(crate) fn copied(&self) -> PyResult<Cow<'static, [u8]>> {
        copy(self.as_slice()).map(Cow::Owned)
    }

    /// Asks an object for its contiguous bytes; to be released once.
    pub(crate) fn view(object: &Bound<'_, PyAny>, caller: &str) -> PyResult<Box<ffi::Py_buffer>> {
        let mut view = Box::new(MaybeUninit::<ffi::Py_buffer>::zeroed());
        let mut ask = |flags| {
            // SAFETY: the call fills the view, or fails and leaves it empty.
            unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), view.as_mut_ptr(), flags) == 0 }
        };
        let contiguous = ask(ffi::PyBUF_ND | ffi::PyBUF_FORMAT) || {
            // Some have no format for what they hold, as NumPy for its dates.
            drop(PyErr::take(object.py()));
            ask(ffi::PyBUF_SIMPLE)
        };
        if contiguous {
            // SAFETY: filled by the call above.
            let mut view = unsafe { Box::from_raw(Box::into_raw(view).cast::<ffi::Py_buffer>()) };
            if holds_pointers(&view, object) {
                // SAFETY: filled above, released once, with the GIL held.
                unsafe { ffi::PyBuffer_Release(&mut *view) };
                let message = format!(
                    "{caller}() takes plain bytes and numbers, not memory that holds Python objects or pointers: they mean \
                     nothing to another process"
                );
                return Err(PyTypeError::new_err(message));
            }
            return Ok(view);
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
            "{caller}() takes contiguous memory only ({error}); make a contiguous copy first, for example with \
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

/// A copy, or MemoryError: an allocation that fails elsewhere in Rust aborts the process.
pub(crate) fn copy(bytes: &[u8]) -> PyResult<Vec<u8>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len())
        .map_err(|_| PyMemoryError::new_err(format!("no memory for a copy of {} bytes", bytes.len())))?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}

/// Whether the memory of a view holds pointers, by its format.
fn holds_pointers(view: &ffi::Py_buffer, object: &Bound<'_, PyAny>) -> bool {
    if view.format.is_null() {
        // Plain bytes, or an array of a kind without a format, which tells.
        let dtype = object.getattr("dtype");
        return dtype.and_then(|dtype| dtype.getattr("hasobject")?.is_truthy()).unwrap_or(false);
    }
    // SAFETY: a format ends with a zero, and lives as long as the view.
    has_pointers(unsafe { CStr::from_ptr(view.format) }.to_bytes())
}

/// Whether a format of the `struct` module, with PEP 3118's additions, has objects or pointers.
fn has_pointers(format: &[u8]) -> bool {
    let mut rest = format;
    while let [letter, after @ ..] = rest {
        rest = after;
        match letter {
            // A field's name.
            b':' => {
                let end = rest.iter().position(|&letter| letter == b':').map_or(rest.len(), |end| end + 1);
                rest = &rest[end..];
            }
            b'O' | b'P' | b'&' | b'X' | b'z' => return true,
            // Complex numbers; by itself a pointer to characters.
            b'Z' if !matches!(rest.first(), Some(b'f' | b'd' | b'g')) => return true,
            _ => {}
        }
    }
    false
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
        // SAFETY: as many readable bytes by the caller's promise, as many writable ones by the assertion. They may overlap,
        // if the source is a view of the ring. Other threads that change the source meanwhile, as they can that of a socket
        // or a file, get a mixture of old and new bytes.
        unsafe { std::ptr::copy(self.start, target.as_mut_ptr(), self.len) };
    }
}
