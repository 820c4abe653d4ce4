//! UNSAFE (the view of an acquired frame): `Writer`.
#![allow(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::{PyMemoryView, PyTuple};
use zerobuffer::{ErrorKind, WriterOptions};

use crate::buffers::{Bytes, MUCH};
use crate::errors::{Failure, raise};
use crate::gate::{Gate, duration, in_slices, milliseconds};
use crate::memory::{self, Lease};
use crate::{config, errors, logging};

/// The writing side of a buffer, which a reader must have created.
///
/// Args:
///     name: The buffer's name.
///     write_timeout_ms: How long a write waits for space; 0 polls once, None or a negative number waits for ever.
///     connect_timeout_ms: How long to wait for a reader to create the buffer (default: fail at once).
///     wait_strategy: How the writer waits for space; a `WaitStrategy` or its value.
///
/// Close it (`close()`, or a `with` block) when done: the reader then learns at once, after the last frame, that the
/// stream has ended. Threads may share a writer: one writes at a time, the others wait. A forked child cannot use it.
///
/// Raises:
///     BufferNotFoundError: if no reader has created the buffer within the time.
///     WriterAlreadyConnectedError: if another live writer is connected.
///     ReaderDeadError: if its reader is dead.
///     InvalidNameError, PermissionDeniedError, IncompatibleProtocolError, CorruptBufferError: if it cannot be used.
#[pyclass(frozen, module = "zerobuffer")]
pub(crate) struct Writer {
    gate: Arc<Gate<zerobuffer::Writer>>,
    timeout: Mutex<Duration>,
    max_frame_size: usize,
    frames_written: AtomicU64,
    bytes_written: AtomicU64,
    /// The view of the frame that is being filled in place.
    view: Mutex<Option<Py<PyMemoryView>>>,
}

impl Writer {
    fn count(&self, writer: &zerobuffer::Writer) {
        // Relaxed: statistics.
        self.frames_written.store(writer.frames_written(), Ordering::Relaxed);
        self.bytes_written.store(writer.bytes_written(), Ordering::Relaxed);
    }

    /// Writes without waiting, and with the GIL held: few bytes, and nobody else in the way.
    #[inline]
    fn write_at_once(&self, bytes: &[u8]) -> Result<Option<u64>, Failure> {
        if bytes.len() >= MUCH {
            return Ok(None);
        }
        let Some(mut writer) = self.gate.try_enter()? else { return Ok(None) };
        let sequence = writer.try_write_frame(bytes)?;
        self.count(&writer);
        Ok(sequence)
    }

    /// Writes with the GIL released. `None` when the time is over.
    fn write_within(&self, py: Python<'_>, bytes: &Bytes<'_>, timeout: Duration) -> PyResult<Option<u64>> {
        let raw = bytes.raw();
        in_slices(py, timeout, |slice| {
            self.gate.attempt(slice, |writer| {
                if !acquire(writer, raw.len, slice)? {
                    return Ok(None);
                }
                if let Some(target) = writer.acquired() {
                    // SAFETY: `bytes` outlives this function.
                    unsafe { raw.copy_to(target) };
                }
                let sequence = writer.commit_frame(None)?;
                self.count(writer);
                Ok(Some(sequence))
            })
        })
    }

    fn full(&self, py: Python<'_>, len: usize) -> PyErr {
        let message = format!(
            "no space for a frame of {len} bytes within {:?}: the reader is slower than the writer, or holds frames; \
             read and release faster, make the buffer larger, or raise write_timeout_ms",
            *self.timeout.lock()
        );
        errors::own(py, ErrorKind::BufferFull, self.gate.name(), message)
    }

    /// Lends a frame's bytes to be filled in place. `None` when the time is over.
    fn acquire_within<'py>(
        &self,
        py: Python<'py>,
        size: usize,
        timeout: Duration,
    ) -> PyResult<Option<Bound<'py, PyMemoryView>>> {
        let lease = in_slices(py, timeout, |slice| {
            self.gate.attempt(slice, |writer| {
                if !acquire(writer, size, slice)? {
                    return Ok(None);
                }
                let Some(bytes) = writer.acquired() else { return Ok(None) };
                let (start, len) = (bytes.as_mut_ptr(), bytes.len());
                // SAFETY: the guard keeps the memory mapped. The reader does not look at it before the commit, and what is
                // written later can only spoil the content of frames.
                Ok(Some(unsafe { Lease::writable(start, len, Arc::new(writer.memory_guard())) }))
            })
        })?;
        let Some(lease) = lease else { return Ok(None) };
        let view = memory::view(&Bound::new(py, lease)?)?;
        *self.view.lock() = Some(view.clone().unbind());
        Ok(Some(view))
    }

    /// Takes the view back that was handed out. Arrays made of it may live on; their memory stays mapped.
    fn end_view(&self, py: Python<'_>) {
        let view = self.view.lock().take();
        if let Some(view) = view {
            // Fails while there are arrays.
            let _ = view.bind(py).call_method0("release");
        }
    }
}

/// Acquires a frame within `slice`; false if there was no space.
fn acquire(writer: &mut zerobuffer::Writer, len: usize, slice: Duration) -> Result<bool, Failure> {
    writer.set_write_timeout(slice);
    match writer.acquire_frame_buffer(len) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BufferFull => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[pymethods]
impl Writer {
    #[new]
    #[pyo3(
        signature = (name, *, write_timeout_ms=Some(5000.0), connect_timeout_ms=Some(0.0), wait_strategy=None),
        text_signature = "(name, *, write_timeout_ms=5000, connect_timeout_ms=0, wait_strategy=None)"
    )]
    fn new(
        py: Python<'_>,
        name: &str,
        write_timeout_ms: Option<f64>,
        connect_timeout_ms: Option<f64>,
        wait_strategy: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Writer> {
        let options = WriterOptions::default().wait_strategy(config::strategy(wait_strategy)?);
        let mut missing = None;
        let connected = in_slices(py, duration(connect_timeout_ms)?, |slice| {
            match zerobuffer::Writer::connect_with(name, options.clone().connect_timeout(slice)) {
                Ok(writer) => Ok(Some(writer)),
                Err(error) if matches!(error.kind(), ErrorKind::BufferNotFound | ErrorKind::ReaderDead) => {
                    missing = Some(error);
                    Ok(None)
                }
                Err(error) => Err(error.into()),
            }
        })?;
        logging::flush(py);
        let writer = match (connected, missing) {
            (Some(writer), _) => writer,
            (None, Some(error)) => return Err(raise(py, error)),
            (None, None) => {
                return Err(errors::own(py, ErrorKind::BufferNotFound, name, "there is no buffer"));
            }
        };
        let interrupt = writer.interrupt_handle();
        Ok(Writer {
            timeout: Mutex::new(duration(write_timeout_ms)?),
            max_frame_size: writer.max_frame_size(),
            gate: Gate::new(name, "writer", writer, interrupt),
            frames_written: AtomicU64::new(0),
            bytes_written: AtomicU64::new(0),
            view: Mutex::new(None),
        })
    }

    /// The buffer's name.
    #[getter]
    fn name(&self) -> &str {
        self.gate.name()
    }

    /// The largest frame that the buffer can hold, in bytes: its payload size less 16.
    #[getter]
    fn max_frame_size(&self) -> usize {
        self.max_frame_size
    }

    /// Copies `data` into the buffer as one frame, waiting for space up to the write time-out.
    ///
    /// Args:
    ///     data: bytes, bytearray, memoryview, a NumPy array, a frame, or anything else with a contiguous buffer. It is
    ///         copied exactly once; do not change it meanwhile.
    ///
    /// Returns:
    ///     The frame's sequence number: 1, 2, 3 ...
    ///
    /// Raises:
    ///     BufferFullError: if there was no space within the time.
    ///     FrameTooLargeError: at once, if data and a 16-byte header are more than the payload.
    ///     InvalidFrameSizeError: for 0 bytes.
    ///     ReaderDeadError: if the reader died, or closed the buffer.
    ///     BufferError: if the memory is not contiguous. TypeError: if there is none.
    ///     OutOfMemoryError, InterruptedError, InvalidStateError, ClosedError, CorruptBufferError.
    fn write_frame(&self, data: &Bound<'_, PyAny>) -> PyResult<u64> {
        let py = data.py();
        let bytes = Bytes::of(data, "write_frame")?;
        if let Some(sequence) = self.write_at_once(bytes.as_slice()).map_err(|failure| raise(py, failure))? {
            return Ok(sequence);
        }
        let timeout = *self.timeout.lock();
        let sequence = self.write_within(py, &bytes, timeout)?;
        sequence.ok_or_else(|| self.full(py, bytes.as_slice().len()))
    }

    /// As `write_frame`, without waiting: None if there is no space now.
    fn try_write_frame(&self, data: &Bound<'_, PyAny>) -> PyResult<Option<u64>> {
        let py = data.py();
        let bytes = Bytes::of(data, "try_write_frame")?;
        if let Some(sequence) = self.write_at_once(bytes.as_slice()).map_err(|failure| raise(py, failure))? {
            return Ok(Some(sequence));
        }
        self.write_within(py, &bytes, Duration::ZERO)
    }

    /// Writes each item of an iterable as a frame; gives their number.
    ///
    /// Raises:
    ///     As `write_frame`, at the first item that fails; those before it are written, and `frames_written` counts them.
    fn write_frames(&self, frames: &Bound<'_, PyAny>) -> PyResult<usize> {
        let mut count = 0;
        for frame in frames.try_iter()? {
            self.write_frame(&frame?)?;
            count += 1;
        }
        Ok(count)
    }

    /// Lends `size` bytes of the buffer, to be filled in place; then `commit_frame()` or `discard_frame()`.
    ///
    /// Waits for space up to the write time-out. `numpy.asarray(view)` makes a writable array of it.
    ///
    /// Returns:
    ///     A writable `memoryview` (format "B", one dimension) whose first content is undefined. It ends with the commit:
    ///     arrays made of it stay safe to touch, but what is written then is lost, or spoils a later frame.
    ///
    /// Raises:
    ///     As `write_frame`; InvalidStateError if a frame is acquired already.
    fn acquire_frame_buffer<'py>(&self, py: Python<'py>, size: usize) -> PyResult<Bound<'py, PyMemoryView>> {
        let timeout = *self.timeout.lock();
        let view = self.acquire_within(py, size, timeout)?;
        view.ok_or_else(|| self.full(py, size))
    }

    /// As `acquire_frame_buffer`, without waiting: None if there is no space now.
    fn try_acquire_frame_buffer<'py>(
        &self,
        py: Python<'py>,
        size: usize,
    ) -> PyResult<Option<Bound<'py, PyMemoryView>>> {
        self.acquire_within(py, size, Duration::ZERO)
    }

    /// Commits the frame that was filled in place.
    ///
    /// Args:
    ///     size: How many of its first bytes (default: all).
    ///
    /// Returns:
    ///     The frame's sequence number.
    ///
    /// Raises:
    ///     InvalidStateError: if nothing is acquired.
    ///     InvalidFrameSizeError: if size is 0 or more than was acquired; the frame stays acquired.
    #[pyo3(signature = (size=None))]
    fn commit_frame(&self, py: Python<'_>, size: Option<usize>) -> PyResult<u64> {
        let sequence = self.gate.enter(py, |writer| {
            let sequence = writer.commit_frame(size)?;
            self.count(writer);
            Ok(sequence)
        })?;
        self.end_view(py);
        Ok(sequence)
    }

    /// Gives up the frame that was to be filled in place, if any. The reader never learns of it.
    fn discard_frame(&self, py: Python<'_>) -> PyResult<()> {
        self.gate.enter(py, |writer| {
            writer.discard_frame();
            Ok(())
        })?;
        self.end_view(py);
        Ok(())
    }

    /// A frame to be filled in place in a `with` block: `with writer.frame(n) as view: ...`
    ///
    /// Entering the block acquires `size` bytes (see `acquire_frame_buffer`); leaving it commits them, or discards them if
    /// it is left by an exception.
    fn frame(slf: Py<Self>, size: usize) -> WritableFrame {
        WritableFrame { writer: slf, size }
    }

    /// Describes the stream to the reader: at most once per buffer, and at most its metadata size less 8 bytes.
    ///
    /// Raises:
    ///     MetadataAlreadyWrittenError, MetadataTooLargeError, InvalidStateError, ClosedError.
    fn set_metadata(&self, py: Python<'_>, metadata: &Bound<'_, PyAny>) -> PyResult<()> {
        let bytes = Bytes::of(metadata, "set_metadata")?.as_slice().to_vec();
        self.gate.enter(py, |writer| Ok(writer.set_metadata(&bytes)?))
    }

    /// Whether the reader lives and has the buffer open.
    fn is_reader_connected(&self, py: Python<'_>) -> PyResult<bool> {
        self.gate.enter(py, |writer| Ok(writer.is_reader_connected()))
    }

    /// Milliseconds that a write waits for space; 0 polls once, None waits for ever. Can be set.
    #[getter]
    fn write_timeout_ms(&self) -> Option<f64> {
        milliseconds(*self.timeout.lock())
    }

    #[setter]
    fn set_write_timeout_ms(&self, timeout_ms: Option<f64>) -> PyResult<()> {
        *self.timeout.lock() = duration(timeout_ms)?;
        Ok(())
    }

    /// Frames committed by this writer.
    #[getter]
    fn frames_written(&self) -> u64 {
        self.frames_written.load(Ordering::Relaxed)
    }

    /// Bytes of data (without headers) committed by this writer.
    #[getter]
    fn bytes_written(&self) -> u64 {
        self.bytes_written.load(Ordering::Relaxed)
    }

    /// Makes the call that another thread is blocked in now, or else the next one that may block, fail once with
    /// InterruptedError.
    fn interrupt(&self) {
        self.gate.interrupt();
    }

    /// Closes the writer in good order: the reader gets all frames, then learns of the end at once. Calls that other
    /// threads are blocked in fail with ClosedError. More than once does no harm.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let writer = self.gate.close(py)?;
        self.end_view(py);
        py.detach(|| drop(writer));
        logging::flush(py);
        Ok(())
    }

    /// Whether the writer is closed.
    #[getter]
    fn closed(&self) -> bool {
        self.gate.is_closed()
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close(py)
    }

    fn __repr__(&self) -> String {
        let closed = if self.gate.is_closed() { " closed" } else { "" };
        format!("<zerobuffer.Writer '{}' frames_written={}{closed}>", self.gate.name(), self.frames_written())
    }
}

/// What `Writer.frame` gives: a `with` block around a frame that is filled in place.
#[pyclass(frozen, module = "zerobuffer")]
pub(crate) struct WritableFrame {
    writer: Py<Writer>,
    size: usize,
}

#[pymethods]
impl WritableFrame {
    fn __enter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyMemoryView>> {
        self.writer.get().acquire_frame_buffer(py, self.size)
    }

    #[pyo3(signature = (kind=None, *_exception))]
    fn __exit__(
        &self,
        py: Python<'_>,
        kind: Option<&Bound<'_, PyAny>>,
        _exception: &Bound<'_, PyTuple>,
    ) -> PyResult<()> {
        let writer = self.writer.get();
        // The block may have committed or discarded it itself.
        if writer.view.lock().is_none() {
            return Ok(());
        }
        if kind.is_some() { writer.discard_frame(py) } else { writer.commit_frame(py, None).map(drop) }
    }
}
