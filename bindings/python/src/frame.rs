//! UNSAFE (one function of the buffer protocol): `Frame`.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView, PyTuple};
use zerobuffer::ErrorKind;

use crate::buffers::{Bytes, copy};
use crate::duplex::requests::Held as Request;
use crate::gate::milliseconds;
use crate::lock::Attached;
use crate::memory::{self, Lease};
use crate::{dlpack, errors, numpy};

/// Bytes in shared memory, valid until they are released. Read-only.
///
/// A frame is a buffer: `memoryview(frame)`, `numpy.asarray(frame)`, `torch.from_dlpack(frame)` show its
/// bytes in place; `bytes(frame)` copies them. Leaving a `with` block, `release()`,
/// `reader.release_frame(frame)` and garbage collection release it. Its bytes go back to the writer when it
/// is released and its last view (array, `memoryview`) is gone, so no view ever dangles. Frames outlive their
/// reader.
///
/// A read that timed out returns an invalid frame (`is_valid` is False, it has no bytes). So does one at the end of a
/// stream (`end_of_stream` is True). `Frame.from_bytes` makes a frame for a test.
#[pyclass(frozen, module = "zerobuffer")]
pub(crate) struct Frame {
    sequence: u64,
    size: usize,
    end_of_stream: bool,
    is_shared: AtomicBool,
    inner: Attached<Inner>,
}

struct Inner {
    bytes: Held,
    released: bool,
    /// NumPy may have kept a pointer to the bytes, and this object, but not the lease.
    pinned: bool,
    /// The request that this is, until the release.
    request: Option<Request>,
}

enum Held {
    Nothing,
    Frame(zerobuffer::Frame),
    Lease(Py<Lease>),
    /// In the hands of `Frame::lease`.
    Taken,
}

impl Frame {
    #[inline]
    pub(crate) fn new(frame: zerobuffer::Frame) -> Frame {
        Frame {
            sequence: frame.sequence(),
            size: frame.len(),
            end_of_stream: false,
            is_shared: AtomicBool::new(frame.is_shared()),
            inner: Attached::new(Inner {
                bytes: Held::Frame(frame),
                released: false,
                pinned: false,
                request: None,
            }),
        }
    }

    /// A frame of a duplex channel.
    pub(crate) fn of_lease<'py>(
        py: Python<'py>,
        lease: Lease,
        sequence: u64,
        request: Option<Request>,
    ) -> PyResult<Bound<'py, Frame>> {
        let size = lease.len();
        let bytes = Held::Lease(Py::new(py, lease)?);
        let inner = Inner { bytes, released: false, pinned: false, request };
        let inner = Attached::new(inner);
        Bound::new(
            py,
            Frame { sequence, size, end_of_stream: false, is_shared: AtomicBool::new(false), inner },
        )
    }

    pub(crate) fn number(&self) -> u64 {
        self.sequence
    }

    /// A frame without bytes.
    pub(crate) fn invalid(end_of_stream: bool) -> Frame {
        let inner = Inner { bytes: Held::Nothing, released: false, pinned: false, request: None };
        Frame {
            sequence: 0,
            size: 0,
            end_of_stream,
            is_shared: AtomicBool::new(false),
            inner: Attached::new(inner),
        }
    }

    /// What views rest on.
    pub(crate) fn lease<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, Lease>> {
        let lease = loop {
            // Out of the lock with it: making a lease, and counting references to it, is Python's work.
            let taken = self.inner.with(py, |inner| match std::mem::replace(&mut inner.bytes, Held::Taken) {
                held if inner.released => {
                    inner.bytes = held;
                    Err("the frame has been released")
                }
                Held::Nothing => {
                    inner.bytes = Held::Nothing;
                    Err("there is no frame: the read timed out, or the stream ended")
                }
                held => Ok(held),
            });
            match taken {
                Ok(Held::Lease(lease)) => break lease.into_bound(py),
                Ok(Held::Frame(frame)) => break Bound::new(py, Lease::of_frame(frame))?,
                // By another thread, for a moment.
                Ok(_) => py.detach(std::thread::yield_now),
                Err(message) => return Err(errors::own(py, ErrorKind::InvalidState, "", message)),
            }
        };
        let kept = lease.clone().unbind();
        let released = self.inner.with(py, |inner| {
            if inner.released && !inner.pinned {
                inner.bytes = Held::Nothing;
                return Some(kept);
            }
            inner.bytes = Held::Lease(kept);
            None
        });
        drop(released);
        Ok(lease)
    }

    pub(crate) fn is_end(&self) -> bool {
        self.end_of_stream
    }

    #[inline]
    pub(crate) fn give_back(&self, py: Python<'_>) {
        let given_back = self.inner.with(py, |inner| {
            inner.released = true;
            let kept = inner.pinned || matches!(inner.bytes, Held::Taken);
            let bytes = if kept { Held::Nothing } else { std::mem::replace(&mut inner.bytes, Held::Nothing) };
            (bytes, inner.request.take())
        });
        // Without the lock: the end of the last view of a lease runs Python code.
        drop(given_back);
    }
}

#[pymethods]
impl Frame {
    /// A frame with a copy of `data` in this process's memory, for tests of handlers.
    ///
    /// Args:
    ///     data: bytes, a NumPy array or another contiguous buffer. May be empty.
    ///     sequence: The frame's number.
    ///     writable: Whether the bytes can be changed, like those of a mutable server's request.
    ///
    /// Raises:
    ///     BufferError: if the memory is not contiguous. TypeError: if there is none, or it holds Python objects.
    #[staticmethod]
    #[pyo3(signature = (data, *, sequence=1, writable=false))]
    fn from_bytes<'py>(
        data: &Bound<'py, PyAny>,
        sequence: u64,
        writable: bool,
    ) -> PyResult<Bound<'py, Frame>> {
        let bytes = copy(Bytes::of(data, "from_bytes")?.as_slice())?.into_boxed_slice();
        Frame::of_lease(data.py(), Lease::of_bytes(bytes, writable), sequence, None)
    }

    /// The bytes as a `memoryview` (format "B", one dimension).
    ///
    /// Raises:
    ///     InvalidStateError: if the frame is invalid or released.
    #[getter]
    fn data<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyMemoryView>> {
        memory::view(&self.lease(py)?)
    }

    /// Bytes of data; 0 if the frame is invalid.
    #[getter]
    fn size(&self) -> usize {
        self.size
    }

    /// The frame's number, which its writer counts from 1; 0 if the frame is invalid.
    #[getter]
    fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Whether the frame has bytes: False after a time-out, at the end of a stream, and after the release.
    #[getter]
    fn is_valid(&self, py: Python<'_>) -> bool {
        self.inner.with(py, |inner| !inner.released && !matches!(inner.bytes, Held::Nothing))
    }

    /// Whether the writer closed and everything that it wrote has been read.
    #[getter]
    fn end_of_stream(&self) -> bool {
        self.end_of_stream
    }

    /// Whether the bytes lie in another reader's buffer, which has lent them (`Writer.forward`). They keep their place there, so
    /// release the frame soon.
    #[getter]
    fn is_shared(&self) -> bool {
        self.is_shared.load(Ordering::Relaxed)
    }

    /// The bytes as a writable `memoryview`, to be changed before the frame is passed on (`Writer.forward`): in place, which the writer
    /// that wrote them never learns of. `numpy.asarray(view)` makes a writable array of the view.
    ///
    /// If others may look at the bytes, because the frame has been passed on already or is itself a shared one (`is_shared`), the
    /// frame gets a private copy, which is passed on from then on. Views that were made before show the bytes as they were.
    ///
    /// Do not write to a view any more once the frame has been passed on: the next reader looks at these very bytes. Call this again.
    ///
    /// Raises:
    ///     InvalidStateError: if the frame is invalid, released, or not one that a reader has read; or another thread is passing
    ///         it on.
    fn make_mut<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyMemoryView>> {
        let Some(lease) = Lease::to_be_changed(&self.lease(py)?) else {
            let message = "no reader of this process has read the frame, or another thread is passing it on";
            return Err(errors::own(py, ErrorKind::InvalidState, "", message));
        };
        self.is_shared.store(false, Ordering::Relaxed);
        memory::view(&Bound::new(py, lease)?)
    }

    /// For a request of a duplex channel: whether its response is no longer wanted, because the client has
    /// cancelled the request or given it up, its deadline is over, or the server has been stopped. A handler
    /// that works for long should check this regularly; it may then return any answer.
    #[getter]
    fn is_cancelled(&self, py: Python<'_>) -> bool {
        let request = self.inner.with(py, |inner| inner.request.clone());
        request.is_some_and(|request| request.is_cancelled())
    }

    /// For a request of a duplex channel: milliseconds until the client gives it up, 0 when that time is
    /// over. None if the client set no limit (a 1.x client cannot), for every other frame, and after the
    /// release. A handler can skip work that would come too late:
    /// `if frame.time_left_ms is not None and frame.time_left_ms < 20: ...`
    #[getter]
    fn time_left_ms(&self, py: Python<'_>) -> Option<f64> {
        let request = self.inner.with(py, |inner| inner.request.clone());
        milliseconds(request?.time_left()?)
    }

    /// Returns the frame's bytes to the writer when its last view is gone. A second call does nothing.
    fn release(&self, py: Python<'_>) {
        self.give_back(py);
    }

    /// The bytes as a NumPy array in place, without a copy; read-only.
    ///
    /// Args:
    ///     dtype: What the bytes are (default: uint8).
    ///     shape: The array's shape, such as (height, width, 3); one dimension may be -1. Default: one dimension.
    ///
    /// The array stays valid after the frame is released and its reader closed. Its bytes go back to the
    /// writer when the frame is released and the array is gone. Copy it (`array.copy()`) to keep it for long.
    ///
    /// Raises:
    ///     InvalidStateError: if the frame is invalid or released.
    ///     ValueError: if shape and dtype do not take exactly the frame's bytes.
    ///     ImportError: if NumPy is not installed.
    #[pyo3(signature = (dtype=None, shape=None))]
    fn as_numpy<'py>(
        &self,
        py: Python<'py>,
        dtype: Option<&Bound<'py, PyAny>>,
        shape: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        numpy::array(&self.lease(py)?, dtype, shape)
    }

    /// Hands the bytes over in place as a DLPack tensor of uint8, one dimension.
    ///
    /// Raises:
    ///     BufferError: if a read-only tensor, another device or a copy cannot be had as asked: consumers that know
    ///         nothing of read-only tensors (DLPack before 1.0) may not have one.
    #[pyo3(signature = (*, stream=None, max_version=None, dl_device=None, copy=None))]
    fn __dlpack__<'py>(
        &self,
        py: Python<'py>,
        stream: Option<&Bound<'py, PyAny>>,
        max_version: Option<(u32, u32)>,
        dl_device: Option<(i32, i32)>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        // Streams are a matter of other devices.
        let _ = stream;
        dlpack::capsule(&self.lease(py)?, max_version, dl_device, copy)
    }

    /// The device of `__dlpack__`: the processor's memory.
    fn __dlpack_device__(&self) -> (i32, i32) {
        dlpack::DEVICE
    }

    fn __bytes__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, self.lease(py)?.get().bytes()))
    }

    fn __len__(&self) -> usize {
        self.size
    }

    fn __bool__(&self, py: Python<'_>) -> bool {
        self.is_valid(py)
    }

    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let frame = slf.get();
        let lease = frame.lease(slf.py())?;
        if flags & !ffi::PyBUF_WRITABLE == ffi::PyBUF_ANY_CONTIGUOUS {
            // numpy.ndarray(buffer=frame) asks like this. It releases the view, yet keeps the pointer and this object, so the
            // bytes must last as long as this object does, whatever is released. Other consumers keep the view.
            frame.inner.with(slf.py(), |inner| inner.pinned = true);
        }
        // SAFETY: the interpreter wants `view` filled.
        unsafe { memory::export(&lease, view, flags) }
    }

    /// Nothing to do, as the view refers to the lease; but without it numpy.frombuffer(frame) would do without a view.
    unsafe fn __releasebuffer__(&self, view: *mut ffi::Py_buffer) {
        let _ = view;
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) {
        self.give_back(py);
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let state = match (self.is_valid(py), self.end_of_stream, self.size) {
            (true, ..) => "",
            (false, true, _) => " (end of stream)",
            (false, false, 0) => " (invalid)",
            (false, false, _) => " (released)",
        };
        format!("<zerobuffer.Frame sequence={} size={}{state}>", self.sequence, self.size)
    }
}
