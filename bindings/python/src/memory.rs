//! UNSAFE: memory of a buffer, lent to Python.
//!
//! A [`Lease`] is what every view rests on: `memoryview`, NumPy and others keep the object alive whose memory they show,
//! and with the lease goes the frame. So no count of views is needed, and none can dangle.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyMemoryView;

/// Memory with what keeps it.
#[pyclass(frozen, module = "zerobuffer._native")]
pub(crate) struct Lease {
    /// Changes when a frame gets a copy of its own; the bytes before that stay as long as the keeper.
    start: AtomicPtr<u8>,
    len: usize,
    writable: bool,
    /// Dropped with the last view.
    keeper: Keeper,
}

/// What keeps the memory, and a frame's bytes from being written over.
pub(crate) enum Keeper {
    /// Locked by those who pass the frame on, and for a moment, if no other thread has it, by the thread that makes it writable.
    Frame(RwLock<zerobuffer::Frame>),
    Shared(#[expect(dead_code, reason = "only kept")] Arc<dyn Send + Sync>),
}

// SAFETY: the pointer leads to shared memory that the keeper, which is Send and Sync itself, keeps mapped for every thread.
// Reads and writes through it are those of Python code, which the GIL orders.
unsafe impl Send for Lease {}
// SAFETY: threads that share it reach the same memory, under the same GIL.
unsafe impl Sync for Lease {}

/// Memory of a ring that is lent to be written, and the count of such loans.
pub(crate) struct Lent {
    _guard: zerobuffer::MemoryGuard,
    count: Arc<AtomicUsize>,
}

/// Memory of the process's own.
struct Heap(*mut [u8]);

// SAFETY: as for `Lease`, through which alone the memory is used.
unsafe impl Send for Heap {}
// SAFETY: nothing is reached through a `Heap` itself but its drop, which has it alone.
unsafe impl Sync for Heap {}

impl Drop for Heap {
    fn drop(&mut self) {
        // SAFETY: comes from Box::into_raw in Lease::of_bytes, and the last view of it is gone.
        drop(unsafe { Box::from_raw(self.0) });
    }
}

impl Lent {
    pub(crate) fn new(guard: zerobuffer::MemoryGuard, count: &Arc<AtomicUsize>) -> Lent {
        count.fetch_add(1, Ordering::Relaxed);
        Lent { _guard: guard, count: Arc::clone(count) }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Lease {
    /// Memory of the process's own.
    pub(crate) fn of_bytes(bytes: Box<[u8]>, writable: bool) -> Lease {
        let (len, all) = (bytes.len(), Box::into_raw(bytes));
        Lease {
            start: AtomicPtr::new(all.cast()),
            len,
            writable,
            keeper: Keeper::Shared(Arc::new(Heap(all))),
        }
    }

    pub(crate) fn of_frame(frame: zerobuffer::Frame) -> Lease {
        // Shared memory does not move with its handle.
        let (start, len) = (AtomicPtr::new(frame.as_ptr().cast_mut()), frame.len());
        Lease { start, len, writable: false, keeper: Keeper::Frame(RwLock::new(frame)) }
    }

    /// Memory to be written.
    ///
    /// # Safety
    ///
    /// `keeper` keeps the `len` bytes at `start` mapped, and nothing but Python code uses them while it writes.
    pub(crate) unsafe fn writable(start: *mut u8, len: usize, keeper: Arc<dyn Send + Sync>) -> Lease {
        Lease { start: AtomicPtr::new(start), len, writable: true, keeper: Keeper::Shared(keeper) }
    }

    /// Memory to be read only.
    ///
    /// # Safety
    ///
    /// `keeper` keeps the `len` bytes at `start` mapped.
    pub(crate) unsafe fn readable(start: *const u8, len: usize, keeper: Arc<dyn Send + Sync>) -> Lease {
        Lease {
            start: AtomicPtr::new(start.cast_mut()),
            len,
            writable: false,
            keeper: Keeper::Shared(keeper),
        }
    }

    /// Calls `work` with the frame that a reader has read; `None` if this is no such frame.
    pub(crate) fn with_frame<R>(&self, work: impl FnOnce(&zerobuffer::Frame) -> R) -> Option<R> {
        match &self.keeper {
            Keeper::Frame(frame) => Some(work(&frame.read().unwrap_or_else(PoisonError::into_inner))),
            Keeper::Shared(_) => None,
        }
    }

    /// A lease of the frame's bytes to be changed, which keeps this one: of a copy, which this lease shows from then on, if others may
    /// look at them. `None` if no reader of this process has read the frame, or another thread is passing it on.
    pub(crate) fn to_be_changed(this: &Bound<'_, Lease>) -> Option<Lease> {
        let Keeper::Frame(frame) = &this.get().keeper else { return None };
        let mut frame = frame.try_write().ok()?;
        let bytes = frame.to_mut()?;
        let (start, len) = (AtomicPtr::new(bytes.as_mut_ptr()), bytes.len());
        this.get().start.store(bytes.as_mut_ptr(), Ordering::Relaxed);
        let keeper = Keeper::Shared(Arc::new(this.clone().unbind()));
        Some(Lease { start, len, writable: true, keeper })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn start(&self) -> *mut u8 {
        // Relaxed: the GIL, or what passed the lease to this thread, orders this behind the store.
        self.start.load(Ordering::Relaxed)
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.writable
    }

    /// The bytes, to be copied at once.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the keeper keeps them mapped. Those of a frame do not change (trust model); writable ones are changed by
        // Python code alone, and the caller, who holds the GIL, copies before any runs.
        unsafe { std::slice::from_raw_parts(self.start(), self.len) }
    }
}

#[pymethods]
impl Lease {
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let lease = slf.get();
        // SAFETY: `view` comes from the interpreter; the memory stays as long as `slf`, which the view refers to.
        let filled = unsafe {
            ffi::PyBuffer_FillInfo(
                view,
                slf.as_ptr(),
                lease.start().cast(),
                lease.len as ffi::Py_ssize_t,
                c_int::from(!lease.writable),
                flags,
            )
        };
        if filled < 0 { Err(PyErr::fetch(slf.py())) } else { Ok(()) }
    }
}

/// Exports the lease's memory as the buffer of another object.
///
/// # Safety
///
/// `view` is one that the interpreter wants filled.
pub(crate) unsafe fn export(
    lease: &Bound<'_, Lease>,
    view: *mut ffi::Py_buffer,
    flags: c_int,
) -> PyResult<()> {
    // SAFETY: by the caller's promise. The view refers to the lease, not to the object that was asked.
    let filled = unsafe { ffi::PyObject_GetBuffer(lease.as_ptr(), view, flags) };
    if filled < 0 { Err(PyErr::fetch(lease.py())) } else { Ok(()) }
}

/// A `memoryview` of the lease's bytes.
pub(crate) fn view<'py>(lease: &Bound<'py, Lease>) -> PyResult<Bound<'py, PyMemoryView>> {
    PyMemoryView::from(lease.as_any())
}
