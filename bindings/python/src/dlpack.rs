//! UNSAFE: DLPack, by which tensor libraries share memory (the structures of its dlpack.h, version 1.0).
#![allow(unsafe_code)]

use std::ffi::{CStr, c_void};

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;

use crate::end::call_python;
use crate::memory::Lease;

/// kDLCPU, number 0.
pub(crate) const DEVICE: (i32, i32) = (1, 0);

const READ_ONLY: u64 = 1;
/// kDLUInt.
const UNSIGNED: u8 = 1;

#[repr(C)]
struct Tensor {
    data: *mut c_void,
    device_type: i32,
    device_id: i32,
    ndim: i32,
    code: u8,
    bits: u8,
    lanes: u16,
    shape: *mut i64,
    strides: *mut i64,
    byte_offset: u64,
}

#[repr(C)]
struct Managed {
    tensor: Tensor,
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut Managed)>,
}

#[repr(C)]
struct Versioned {
    major: u32,
    minor: u32,
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut Versioned)>,
    flags: u64,
    tensor: Tensor,
}

/// A structure that consumers know, and behind it what it points to.
#[repr(C)]
struct Block<T> {
    shared: T,
    shape: [i64; 1],
    strides: [i64; 1],
    lease: Py<Lease>,
}

trait Shared: Sized {
    const NAME: &'static CStr;
    const USED: &'static CStr;
    fn make(lease: &Lease) -> Self;
    fn tensor(&mut self) -> &mut Tensor;
}

/// Frees a block, on any thread.
unsafe extern "C" fn delete<T: Shared>(shared: *mut T) {
    // SAFETY: the consumer calls this once with what `capsule` made of a box; `shared` is the block's first field.
    let block = unsafe { Box::from_raw(shared.cast::<Block<T>>()) };
    // At the interpreter's end the memory may still be looked at.
    let mut block = Some(block);
    call_python(|_| drop(block.take()));
    std::mem::forget(block);
}

/// Frees what a capsule holds that no consumer took.
unsafe extern "C" fn forgotten<T: Shared>(capsule: *mut ffi::PyObject) {
    // SAFETY: called with a capsule made here; its name tells whether a consumer has taken the tensor over.
    unsafe {
        if ffi::PyCapsule_IsValid(capsule, T::NAME.as_ptr()) != 0 {
            delete(ffi::PyCapsule_GetPointer(capsule, T::NAME.as_ptr()).cast::<T>());
        } else {
            debug_assert_ne!(ffi::PyCapsule_IsValid(capsule, T::USED.as_ptr()), 0);
        }
    }
}

fn tensor(lease: &Lease) -> Tensor {
    Tensor {
        data: lease.start().cast(),
        device_type: DEVICE.0,
        device_id: DEVICE.1,
        ndim: 1,
        code: UNSIGNED,
        bits: 8,
        lanes: 1,
        shape: std::ptr::null_mut(),
        strides: std::ptr::null_mut(),
        byte_offset: 0,
    }
}

impl Shared for Managed {
    const NAME: &'static CStr = c"dltensor";
    const USED: &'static CStr = c"used_dltensor";

    fn make(lease: &Lease) -> Managed {
        Managed { tensor: tensor(lease), context: std::ptr::null_mut(), deleter: Some(delete::<Managed>) }
    }

    fn tensor(&mut self) -> &mut Tensor {
        &mut self.tensor
    }
}

impl Shared for Versioned {
    const NAME: &'static CStr = c"dltensor_versioned";
    const USED: &'static CStr = c"used_dltensor_versioned";

    fn make(lease: &Lease) -> Versioned {
        Versioned {
            major: 1,
            minor: 0,
            context: std::ptr::null_mut(),
            deleter: Some(delete::<Versioned>),
            flags: if lease.is_writable() { 0 } else { READ_ONLY },
            tensor: tensor(lease),
        }
    }

    fn tensor(&mut self) -> &mut Tensor {
        &mut self.tensor
    }
}

fn make<'py, T: Shared>(lease: &Bound<'py, Lease>) -> PyResult<Bound<'py, PyAny>> {
    let block = Box::new(Block {
        shared: T::make(lease.get()),
        shape: [lease.get().len() as i64],
        strides: [1],
        lease: lease.clone().unbind(),
    });
    let block = Box::into_raw(block);
    // SAFETY: the box belongs to this function until the capsule has it; its fields stay where they are. The capsule's destructor, or the
    // consumer that takes it over, frees it.
    unsafe {
        let (shape, strides) = (&raw mut (*block).shape, &raw mut (*block).strides);
        let tensor = (*block).shared.tensor();
        tensor.shape = shape.cast();
        tensor.strides = strides.cast();
        let capsule = ffi::PyCapsule_New(block.cast(), T::NAME.as_ptr(), Some(forgotten::<T>));
        if capsule.is_null() {
            drop(Box::from_raw(block));
            return Err(PyErr::fetch(lease.py()));
        }
        Ok(Bound::from_owned_ptr(lease.py(), capsule))
    }
}

/// The capsule that `__dlpack__` returns.
pub(crate) fn capsule<'py>(
    lease: &Bound<'py, Lease>,
    max_version: Option<(u32, u32)>,
    device: Option<(i32, i32)>,
    copy: Option<bool>,
) -> PyResult<Bound<'py, PyAny>> {
    if device.is_some_and(|device| device != DEVICE) {
        return Err(PyBufferError::new_err(
            "a frame lies in the processor's memory; copy it to the device yourself",
        ));
    }
    if copy == Some(true) {
        return Err(PyBufferError::new_err("frames are handed over in place; copy the tensor afterwards"));
    }
    if max_version.is_some_and(|(major, _)| major >= 1) {
        return make::<Versioned>(lease);
    }
    if !lease.get().is_writable() {
        let message = "a frame is read-only, which this consumer cannot be told (it asks for DLPack before 1.0); use \
                       frame.as_numpy(), or a newer version of its library";
        return Err(PyBufferError::new_err(message));
    }
    make::<Managed>(lease)
}
