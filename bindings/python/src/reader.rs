//! `Reader`.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyList, PyTuple};

use crate::config::{BufferConfig, count};
use crate::errors::raise;
use crate::frame::Frame;
use crate::gate::{beside, duration, in_slices};
use crate::stats::ReaderStats;
use crate::stream::Stream;
use crate::watched::Watched;
use crate::{end, logging};

/// The reading side of a buffer: creates it, owns it, removes it.
///
/// Args:
///     name: The buffer's name; a writer connects by it.
///     config: Sizes and rights (default: `BufferConfig()`).
///     allow_payload_sharing: Whether the reader's frames may be lent to other readers, and it takes frames that are lent to it,
///         even if `config` does not say so (`Writer.forward`).
///     allow_shared_payload: Another name for it.
///
/// Creating it first removes the files that a dead reader left under this name. Close it (`close()`, or a
/// `with` block) when done. Frames and arrays that are still held stay valid. Iterating yields the frames of
/// one writer and ends when it closes. Threads may share a reader: one reads at a time, the others wait. A
/// forked child cannot use it.
///
/// Raises:
///     ReaderAlreadyConnectedError: if a live reader has the name.
///     InvalidNameError, InvalidConfigError: if name or config cannot be used.
///     OutOfMemoryError: if `/dev/shm` or a resource limit has no room.
///     PermissionDeniedError, IncompatibleProtocolError: if another file is in the way.
#[pyclass(frozen, module = "zerobuffer")]
pub(crate) struct Reader(pub(crate) Arc<Stream>);

/// The module of the asynchronous methods.
static AIO: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

pub(crate) fn aio(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    Ok(AIO.get_or_try_init(py, || py.import("zerobuffer._aio").map(Bound::unbind))?.bind(py))
}

/// A time-out for `zerobuffer._aio`.
pub(crate) fn seconds(timeout: Duration) -> Option<f64> {
    (timeout != Duration::MAX).then_some(timeout.as_secs_f64())
}

#[inline]
fn frame_or_invalid(py: Python<'_>, frame: Option<Frame>) -> PyResult<Bound<'_, Frame>> {
    Bound::new(py, frame.unwrap_or_else(|| Frame::invalid(false)))
}

impl Drop for Reader {
    fn drop(&mut self) {
        end::while_dropping(|py| drop(self.0.close(py)));
    }
}

#[pymethods]
impl Reader {
    #[new]
    #[pyo3(signature = (name, config=None, allow_payload_sharing=false, *, allow_shared_payload=false))]
    fn new(
        py: Python<'_>,
        name: &str,
        config: Option<&Bound<'_, BufferConfig>>,
        allow_payload_sharing: bool,
        allow_shared_payload: bool,
    ) -> PyResult<Reader> {
        let mut config = config.map(|config| config.get().to_core()).unwrap_or_default();
        if allow_payload_sharing || allow_shared_payload {
            config = config.allow_payload_sharing(true);
        }
        let (unsettled, owned) = (end::unsettled(py), name.to_owned());
        let created = beside(py, move || {
            let created = zerobuffer::Reader::create(&owned, config);
            (created, unsettled)
        })?;
        let (reader, _unsettled) = created;
        Ok(Reader(Arc::new(Stream::new(py, name, reader.map_err(|error| raise(py, error))?))))
    }

    /// The buffer's name.
    #[getter]
    fn name(&self) -> &str {
        self.0.gate.name()
    }

    /// Waits for the next frame.
    ///
    /// Args:
    ///     timeout_ms: Milliseconds to wait; 0 polls once, None or a negative number waits without limit.
    ///
    /// Returns:
    ///     A frame; an invalid one when the time is over; and, once per writer, when the writer has closed and
    ///     everything that it wrote has been read, an invalid one with `end_of_stream`. Later reads wait for the next
    ///     writer.
    ///
    /// Raises:
    ///     WriterDeadError: once per writer, when it has died and everything that it had committed has been read.
    ///     SequenceError, CorruptBufferError: permanent; close the reader and create the buffer again.
    ///     InterruptedError: after `interrupt()`.
    ///     ClosedError: if the reader is closed, now or meanwhile.
    ///     BufferNotFoundError: if another process removed the buffer's files.
    #[pyo3(signature = (timeout_ms=Some(5000.0)), text_signature = "($self, timeout_ms=5000)")]
    fn read_frame<'py>(&self, py: Python<'py>, timeout_ms: Option<f64>) -> PyResult<Bound<'py, Frame>> {
        frame_or_invalid(py, self.0.next(py, duration(timeout_ms)?)?)
    }

    /// Waits for a frame, and returns the newest one. Those before it are passed over, and their space goes back at once.
    ///
    /// Only frames of one writer are passed over: the newest frame of a writer that ended comes before its end, and its end
    /// before the next writer's newest frame. `frames_skipped` counts the frames.
    ///
    /// Args:
    ///     timeout_ms: Milliseconds to wait; see `read_frame`.
    ///
    /// Returns:
    ///     A frame; an invalid one as from `read_frame`.
    ///
    /// Raises:
    ///     Those of `read_frame`.
    #[pyo3(signature = (timeout_ms=Some(5000.0)), text_signature = "($self, timeout_ms=5000)")]
    fn read_latest_frame<'py>(
        &self,
        py: Python<'py>,
        timeout_ms: Option<f64>,
    ) -> PyResult<Bound<'py, Frame>> {
        frame_or_invalid(py, self.0.latest(py, duration(timeout_ms)?)?)
    }

    /// The newest frame of one writer, again and again, for `for` and `async for`; ends when the writer closes.
    fn latest_frames(slf: Py<Self>) -> LatestFrames {
        LatestFrames(slf)
    }

    /// The next frame if there is one now. Like `read_frame(0)`, but not ended by `interrupt()`.
    fn try_read_frame<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, Frame>> {
        frame_or_invalid(py, self.0.now(py)?)
    }

    /// Waits for a first frame, then takes it and the frames that are there behind it.
    ///
    /// Args:
    ///     max_frames: The largest number of frames.
    ///     timeout_ms: Milliseconds to wait for the first frame; see `read_frame`.
    ///
    /// Returns:
    ///     A list of frames, empty when the time is over. The end of a stream is an invalid frame with `end_of_stream`, the
    ///     only one of its list.
    ///
    /// Raises:
    ///     Those of `read_frame`, if nothing has been read.
    #[pyo3(signature = (max_frames, timeout_ms=Some(5000.0)), text_signature = "($self, max_frames, timeout_ms=5000)")]
    fn read_frames<'py>(
        &self,
        py: Python<'py>,
        max_frames: &Bound<'py, PyAny>,
        timeout_ms: Option<f64>,
    ) -> PyResult<Bound<'py, PyList>> {
        let timeout = duration(timeout_ms)?;
        let Some(max) = count(max_frames)? else {
            return Err(PyValueError::new_err(format!("max_frames is {max_frames} but must be 0 or more")));
        };
        let frames = PyList::empty(py);
        if max > 0 {
            for frame in self.0.batch(py, max, timeout)?.into_iter().flatten() {
                frames.append(Bound::new(py, frame)?)?;
            }
        }
        Ok(frames)
    }

    /// Releases a frame, like `frame.release()`.
    fn release_frame(&self, frame: &Bound<'_, Frame>) {
        frame.get().give_back(frame.py());
    }

    /// Whether a writer is connected, or committed frames are still unread.
    ///
    /// Args:
    ///     timeout_ms: Milliseconds to wait for one. Default: not at all; a negative number waits without limit.
    ///
    /// Raises:
    ///     InterruptedError, ClosedError, BufferNotFoundError: see `read_frame`.
    #[pyo3(signature = (timeout_ms=None))]
    fn is_writer_connected(&self, py: Python<'_>, timeout_ms: Option<f64>) -> PyResult<bool> {
        let timeout = duration(timeout_ms)?;
        if timeout_ms.is_none() {
            return self.0.gate.enter(py, |reader| Ok(reader.is_writer_connected()));
        }
        let there = in_slices(py, timeout, |slice| {
            self.0.gate.attempt(slice, |reader| Ok(reader.wait_for_writer(slice)?.then_some(())))
        })?;
        Ok(there.is_some())
    }

    /// The metadata that the writer has set, copied; None if it has set none.
    ///
    /// Raises:
    ///     CorruptBufferError: if its lengths cannot be true.
    fn get_metadata<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let metadata = self.0.gate.enter(py, |reader| Ok(reader.metadata()?))?;
        Ok(metadata.map(|metadata| PyBytes::new(py, &metadata)))
    }

    /// Frames read by this reader.
    #[getter]
    fn frames_read(&self) -> u64 {
        self.0.counts().0
    }

    /// Frames that `read_latest_frame` passed over. They do not count as read.
    #[getter]
    fn frames_skipped(&self) -> u64 {
        self.0.skipped()
    }

    /// Bytes of data (without headers) read by this reader.
    #[getter]
    fn bytes_read(&self) -> u64 {
        self.0.counts().1
    }

    /// What the reader has done so far, and what it holds.
    ///
    /// Raises:
    ///     ClosedError: if the reader is closed.
    fn stats(&self, py: Python<'_>) -> PyResult<ReaderStats> {
        self.0.gate.enter(py, |reader| Ok(reader.stats().into()))
    }

    /// How many bytes of the buffer this process has mapped by huge pages now: what `BufferConfig.huge_pages` got. It reads a list of
    /// all mappings of the process.
    ///
    /// Raises:
    ///     SystemError: where the system does not tell.
    ///     ClosedError: if the reader is closed.
    #[getter]
    fn huge_page_bytes(&self, py: Python<'_>) -> PyResult<u64> {
        self.0.gate.enter(py, |reader| Ok(reader.huge_page_bytes()?))
    }

    /// Whether this reader allows payload sharing, and its buffer can.
    ///
    /// Raises:
    ///     ClosedError: if the reader is closed.
    #[getter]
    fn payload_sharing_enabled(&self, py: Python<'_>) -> PyResult<bool> {
        self.0.gate.enter(py, |handle| Ok(handle.payload_sharing_enabled()))
    }

    /// How many frames of this reader are lent to other readers now: a figure, which others may change at once.
    #[getter]
    fn payload_share_count(&self, py: Python<'_>) -> PyResult<u64> {
        self.0.gate.enter(py, |handle| Ok(handle.payload_share_count()))
    }

    /// The process that lends frames through this buffer; 0 = none. A figure: a killed process leaves it.
    #[getter]
    fn payload_owner_pid(&self, py: Python<'_>) -> PyResult<u64> {
        self.0.gate.enter(py, |handle| Ok(handle.payload_owner_pid()))
    }

    /// A file descriptor for event loops: `select`, `selectors`, `loop.add_reader`, and others.
    ///
    /// It is ready to read when there may be a frame or the end of a writer. Then call `try_read_frame()` or `read_frame(0)`.
    /// It stays ready until such a call finds nothing. It is ready at first. Never read from it or write to it. It is closed
    /// with the reader: take it out of event loops before. A forked child has none.
    ///
    /// Raises:
    ///     ClosedError: if the reader is closed.
    ///     SystemError: if there is no file descriptor left, or no thread.
    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        self.0.gate.enter(py, |reader| Ok(reader.descriptor()?.as_raw_fd()))
    }

    /// Ends the call that another thread is blocked in, or else the next one that would have to wait, with InterruptedError.
    fn interrupt(&self) {
        self.0.gate.interrupt();
    }

    /// Closes the reader, removes the buffer and unmaps its memory. Calls that other threads are blocked in
    /// fail with ClosedError. Frames and arrays that are still held stay valid, and keep the memory mapped. A
    /// second call does nothing.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.0.close(py)?;
        logging::flush(py);
        Ok(())
    }

    /// Whether the reader is closed.
    #[getter]
    fn closed(&self) -> bool {
        self.0.gate.is_closed()
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close(py)
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, Frame>>> {
        let frame = self.0.next(py, Duration::MAX)?.filter(|frame| !frame.is_end());
        frame.map(|frame| Bound::new(py, frame)).transpose()
    }

    /// As `read_frame`, for asyncio: other tasks run meanwhile. Cancelling the task ends the wait. Frames are handed out in
    /// the order in which they were written, and none is lost, whatever becomes of the tasks that waited for them.
    #[pyo3(signature = (timeout_ms=Some(5000.0)), text_signature = "($self, timeout_ms=5000)")]
    fn read_frame_async<'py>(slf: &Bound<'py, Self>, timeout_ms: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        aio(slf.py())?.call_method1("read_frame", (slf, seconds(duration(timeout_ms)?)))
    }

    /// As `read_latest_frame`, for asyncio; see `read_frame_async`.
    #[pyo3(signature = (timeout_ms=Some(5000.0)), text_signature = "($self, timeout_ms=5000)")]
    fn read_latest_frame_async<'py>(
        slf: &Bound<'py, Self>,
        timeout_ms: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        aio(slf.py())?.call_method1("read_latest_frame", (slf, seconds(duration(timeout_ms)?)))
    }

    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __anext__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        aio(slf.py())?.call_method1("next_frame", (slf,))
    }

    /// For `zerobuffer._aio`: a frame, or an end, that is there now; None if there is none, or another thread has the reader.
    fn _look<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, Frame>>> {
        let found = self.0.next(py, Duration::ZERO)?;
        found.map(|frame| Bound::new(py, frame)).transpose()
    }

    /// For `zerobuffer._aio`: as `_look`, for the newest frame.
    fn _look_for_latest<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, Frame>>> {
        let found = self.0.latest(py, Duration::ZERO)?;
        found.map(|frame| Bound::new(py, frame)).transpose()
    }

    /// For `zerobuffer._aio`: what a read returns when the time is over.
    #[staticmethod]
    fn _nothing(py: Python<'_>) -> PyResult<Bound<'_, Frame>> {
        frame_or_invalid(py, None)
    }

    /// For `zerobuffer._aio`: the descriptor to watch; None if another thread has the reader.
    fn _watch(&self, py: Python<'_>) -> PyResult<Option<Watched>> {
        self.0.watched(py)
    }

    /// For `zerobuffer._aio`: whether another thread has the reader now.
    fn _is_taken(&self) -> bool {
        self.0.gate.is_taken()
    }

    fn __repr__(&self) -> String {
        let closed = if self.closed() { " closed" } else { "" };
        format!("<zerobuffer.Reader '{}' frames_read={}{closed}>", self.name(), self.frames_read())
    }
}

/// The newest frames of one writer; see `Reader.latest_frames`.
#[pyclass(frozen, module = "zerobuffer")]
pub(crate) struct LatestFrames(Py<Reader>);

#[pymethods]
impl LatestFrames {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, Frame>>> {
        let frame = self.0.get().0.latest(py, Duration::MAX)?.filter(|frame| !frame.is_end());
        frame.map(|frame| Bound::new(py, frame)).transpose()
    }

    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __anext__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        aio(py)?.call_method1("next_latest_frame", (&self.0,))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0)
    }
}
