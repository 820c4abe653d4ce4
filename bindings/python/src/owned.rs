//! UNSAFE: bytes of Python objects that outlive the call which brought them, on any thread.
#![allow(unsafe_code)]

use pyo3::ffi;
use pyo3::prelude::*;

use crate::buffers::Bytes;
use crate::end::call_python;

/// Bytes kept by the Python object that they belong to. Must not be changed meanwhile, like those of a message that a
/// socket is sending.
pub(crate) struct Owned {
    start: *const u8,
    len: usize,
    /// `Some` until dropped.
    view: Option<Box<ffi::Py_buffer>>,
}

// SAFETY: the view keeps the bytes wherever this goes, and is released with the GIL held.
unsafe impl Send for Owned {}
// SAFETY: only read.
unsafe impl Sync for Owned {}

impl Owned {
    /// The bytes of any bytes-like object. `caller` is named in the error.
    pub(crate) fn of(object: &Bound<'_, PyAny>, caller: &str) -> PyResult<Owned> {
        let view = Bytes::view(object, caller)?;
        Ok(Owned { start: view.buf.cast(), len: view.len as usize, view: Some(view) })
    }
}

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: the view has `len` contiguous bytes and keeps them.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let Some(mut view) = self.view.take() else { return };
        // At the interpreter's end it is left to the end of the process.
        let released = call_python(|_| {
            // SAFETY: filled by PyObject_GetBuffer, released once, with the GIL held.
            unsafe { ffi::PyBuffer_Release(&mut *view) };
        });
        if released.is_none() {
            std::mem::forget(view);
        }
    }
}
