//! UNSAFE (asks which interpreter this is): refuses all interpreters of a process but the main one.
//!
//! The classes of errors, and everything else that is looked up once, belong to the interpreter that looked it up.
#![allow(unsafe_code)]

use pyo3::exceptions::PyImportError;
use pyo3::ffi;
use pyo3::prelude::*;

#[cfg(Py_3_9)]
use pyo3::ffi::PyInterpreterState_Get as current;

#[cfg(not(Py_3_9))]
unsafe extern "C" {
    /// The private name of PyInterpreterState_Get in CPython 3.8.
    #[link_name = "_PyInterpreterState_Get"]
    fn current() -> *mut ffi::PyInterpreterState;
}

/// Raises ImportError in a subinterpreter.
pub(crate) fn refuse_others() -> PyResult<()> {
    // SAFETY: the caller holds the GIL, as it is importing a module.
    if unsafe { current() == ffi::PyInterpreterState_Main() } {
        return Ok(());
    }
    let message = "zerobuffer cannot be used in a subinterpreter: import it in the main interpreter, or in a process of its own";
    Err(PyImportError::new_err(message))
}
