//! `Writer`.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyMemoryView, PyTuple};
use zerobuffer::{ErrorKind, WriterOptions};

use crate::buffers::Bytes;
use crate::config::{self, count};
use crate::errors::{self, raise};
use crate::frame::Frame;
use crate::gate::{Gate, duration, in_slices, milliseconds};
use crate::in_place::{Acquired, WritableFrame};
use crate::lock::{Attached, Guarded, Waiters};
use crate::owned::Owned;
use crate::reader::{aio, seconds};
use crate::shared_writer::Output;
use crate::stats::WriterStats;
use crate::watched::{Watch, Watched};
use crate::{end, logging};

/// The writing side of a buffer, which a reader must have created.
///
/// Args:
///     name: The buffer's name.
///     write_timeout_ms: How long a write waits for space; 0 polls once, None or a negative number waits without limit.
///     connect_timeout_ms: How long to wait for a reader to create the buffer (default: fail at once).
///     wait_strategy: How the writer waits for space; a `WaitStrategy` or its value.
///     request_payload_sharing: Whether `forward` lends frames rather than copying them, where both readers allow it.
///     reuse_reader_payload: Another name for it.
///
/// Close it (`close()`, or a `with` block) when done: the reader then gets the end of the stream at once,
/// after the last frame. Threads may share a writer: one writes at a time, and the others wait, even while it
/// fills a frame in place. A forked child cannot use it.
///
/// Raises:
///     BufferNotFoundError: if no reader has created the buffer within the time.
///     WriterAlreadyConnectedError: if another live writer is connected.
///     ReaderDeadError: if its reader is dead.
///     InvalidNameError, PermissionDeniedError, IncompatibleProtocolError, CorruptBufferError: if it cannot be used.
#[pyclass(frozen, subclass, module = "zerobuffer")]
pub(crate) struct Writer {
    pub(crate) gate: Arc<Gate<Output>>,
    pub(crate) timeout: Attached<Duration>,
    max_frame_size: usize,
    /// How often a call found no space in time.
    full: AtomicU64,
    frames_written: AtomicU64,
    bytes_written: AtomicU64,
    /// The frame that is being filled in place. Changed by the thread that has the handle.
    pub(crate) acquired: Guarded<Option<Acquired>>,
    /// `acquired` is `None` again.
    pub(crate) returned: Waiters,
    /// Frames acquired so far.
    pub(crate) acquisitions: AtomicU64,
    /// The last frame that was taken back without its owner's doing.
    pub(crate) lost: AtomicU64,
    /// Views of written frames that still exist.
    pub(crate) lent: Arc<AtomicUsize>,
    watch: Watch,
}

impl Writer {
    pub(crate) fn of(py: Python<'_>, name: &str, output: Output, write_timeout: Duration) -> Writer {
        let interrupt = output.interrupt_handle();
        Writer {
            timeout: Attached::new(write_timeout),
            max_frame_size: output.max_frame_size(),
            gate: Gate::new(py, name, "writer", output, interrupt),
            full: AtomicU64::new(0),
            frames_written: AtomicU64::new(0),
            bytes_written: AtomicU64::new(0),
            acquired: Guarded::default(),
            returned: Waiters::default(),
            acquisitions: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            lent: Arc::default(),
            watch: Watch::default(),
        }
    }

    /// Takes the writer out for another owner. A frame that is acquired is discarded.
    pub(crate) fn hand_over(&self, py: Python<'_>) -> PyResult<Output> {
        let output = self.gate.hand_over(py)?;
        self.end(py, self.forget_acquired());
        Ok(output)
    }

    /// Takes out the frame that is acquired, which is lost.
    fn forget_acquired(&self) -> Option<Acquired> {
        let lost = self.acquired.replace(None);
        if let Some(lost) = &lost {
            self.lost.store(lost.number, Ordering::Release);
        }
        lost
    }

    pub(crate) fn count(&self, writer: &zerobuffer::Writer) {
        // Relaxed: statistics.
        self.frames_written.store(writer.frames_written(), Ordering::Relaxed);
        self.bytes_written.store(writer.bytes_written(), Ordering::Relaxed);
    }

    /// Counts a call that found no space in time.
    pub(crate) fn count_full(&self) {
        // Relaxed: statistics.
        self.full.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn full(&self, py: Python<'_>, len: usize) -> PyErr {
        self.count_full();
        let timeout = self.timeout.with(py, |timeout| *timeout);
        let message = match self.acquired.with(|acquired| acquired.is_some()) {
            true => format!(
                "another thread has a frame acquired, and did not commit it within {timeout:?}: fill frames faster, or raise \
                 write_timeout_ms"
            ),
            false => format!(
                "no space for a frame of {len} bytes within {timeout:?}: the reader is slower than the writer, or holds \
                 frames; read and release faster, make the buffer larger, or raise write_timeout_ms"
            ),
        };
        errors::own(py, ErrorKind::BufferFull, self.gate.name(), message)
    }

    fn size(&self, size: &Bound<'_, PyAny>, what: &str) -> PyResult<usize> {
        let failed = || {
            let message =
                format!("{size} bytes are no frame's size: {what} takes 1 to {}", self.max_frame_size);
            errors::own(size.py(), ErrorKind::InvalidFrameSize, self.gate.name(), message)
        };
        count(size)?.ok_or_else(failed)
    }
}

#[pymethods]
impl Writer {
    #[new]
    #[pyo3(
        signature = (name, request_payload_sharing=false, *, write_timeout_ms=Some(5000.0), connect_timeout_ms=Some(0.0), wait_strategy=None, reuse_reader_payload=false),
        text_signature = "(name, request_payload_sharing=False, *, write_timeout_ms=5000, connect_timeout_ms=0, wait_strategy=None, reuse_reader_payload=False)"
    )]
    fn new(
        py: Python<'_>,
        name: &str,
        request_payload_sharing: bool,
        write_timeout_ms: Option<f64>,
        connect_timeout_ms: Option<f64>,
        wait_strategy: Option<&Bound<'_, PyAny>>,
        reuse_reader_payload: bool,
    ) -> PyResult<Writer> {
        let options = WriterOptions::default()
            .wait_strategy(config::strategy(wait_strategy)?)
            .request_payload_sharing(request_payload_sharing || reuse_reader_payload);
        let (write_timeout, connect_timeout) = (duration(write_timeout_ms)?, duration(connect_timeout_ms)?);
        let _unsettled = end::unsettled(py);
        let mut missing = None;
        let connected = in_slices(py, connect_timeout, |slice| {
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
        Ok(Writer::of(py, name, Output { writer, kept: None }, write_timeout))
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
    ///         copied once; do not change it meanwhile.
    ///
    /// Returns:
    ///     The frame's sequence number: 1, 2, 3 ...
    ///
    /// Raises:
    ///     BufferFullError: if there was no space within the time.
    ///     FrameTooLargeError: at once, if data and a 16-byte header are more than the payload.
    ///     InvalidFrameSizeError: for 0 bytes.
    ///     ReaderDeadError: if the reader died, or closed the buffer.
    ///     BufferError: if the memory is not contiguous. TypeError: if there is none, or it holds Python objects.
    ///     InvalidStateError: if this thread has acquired a frame. BufferFullError: also if another thread had one
    ///         for the whole time-out.
    ///     OutOfMemoryError, InterruptedError, ClosedError, CorruptBufferError.
    fn write_frame(&self, data: &Bound<'_, PyAny>) -> PyResult<u64> {
        let py = data.py();
        let bytes = Bytes::of(data, "write_frame")?;
        let timeout = self.timeout.with(py, |timeout| *timeout);
        self.write(py, &bytes, timeout)?.ok_or_else(|| self.full(py, bytes.as_slice().len()))
    }

    /// Like `write_frame`, without waiting: returns None if there is no space now.
    fn try_write_frame(&self, data: &Bound<'_, PyAny>) -> PyResult<Option<u64>> {
        let py = data.py();
        let bytes = Bytes::of(data, "try_write_frame")?;
        let written = self.write(py, &bytes, Duration::ZERO)?;
        if written.is_none() {
            self.count_full();
        }
        Ok(written)
    }

    /// As `write_frame`, for asyncio: other tasks run meanwhile. Tasks write in the order of their calls. A task that is cancelled
    /// has written all of its frame, and got its number, or nothing. Do not change `data` before.
    ///
    /// Raises:
    ///     Those of `write_frame`.
    fn write_frame_async<'py>(
        slf: &Bound<'py, Self>,
        data: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        // What has no bytes is refused at once.
        drop(Bytes::of(data, "write_frame_async")?);
        let timeout = slf.get().timeout.with(py, |timeout| *timeout);
        aio(py)?.call_method1("write_frame", (slf, data, seconds(timeout)))
    }

    /// For `zerobuffer._aio`: writes if there is space now. None: there is none, or another thread has the writer.
    fn _write_now(&self, data: &Bound<'_, PyAny>) -> PyResult<Option<u64>> {
        let bytes = Bytes::of(data, "write_frame_async")?;
        self.write(data.py(), &bytes, Duration::ZERO)
    }

    /// For `zerobuffer._aio`: raises what a write raises when the time is over.
    fn _raise_full(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let len = Bytes::of(data, "write_frame_async")?.as_slice().len();
        Err(self.full(data.py(), len))
    }

    /// For `zerobuffer._aio`: the descriptor to watch; None if another thread has the writer.
    fn _watch(&self, py: Python<'_>) -> PyResult<Option<Watched>> {
        self.watch.open(py, &self.gate, |writer| writer.descriptor())
    }

    /// For `zerobuffer._aio`: whether another thread has the writer now, or fills a frame.
    fn _is_taken(&self) -> bool {
        self.gate.is_taken() || self.acquired.with(|acquired| acquired.is_some())
    }

    /// Lends `size` bytes of the buffer, to be filled in place. Call `commit_frame()` or `discard_frame()`
    /// afterwards.
    ///
    /// Waits for space up to the write time-out, and for another thread that has acquired a frame. If a
    /// thread ends without a commit, its frame is discarded. `numpy.asarray(view)` makes a writable array of
    /// the view.
    ///
    /// Returns:
    ///     A writable `memoryview` (format "B", one dimension) whose initial content is undefined. It ends
    ///     with the commit. Arrays and slices made from it stay safe to access, but writing to them is lost,
    ///     or damages a later frame.
    ///
    /// Raises:
    ///     Those of `write_frame`; InvalidStateError if this thread has acquired a frame already.
    fn acquire_frame_buffer<'py>(
        &self,
        py: Python<'py>,
        size: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyMemoryView>> {
        let size = self.size(size, "acquire_frame_buffer()")?;
        Ok(self.acquire(py, size)?.0)
    }

    /// Like `acquire_frame_buffer`, without waiting: returns None if there is no space now.
    fn try_acquire_frame_buffer<'py>(
        &self,
        py: Python<'py>,
        size: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyMemoryView>>> {
        let size = self.size(size, "try_acquire_frame_buffer()")?;
        let acquired = self.acquire_within(py, size, Duration::ZERO)?;
        if acquired.is_none() {
            self.count_full();
        }
        Ok(acquired.map(|(view, _)| view))
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
    fn commit_frame(&self, py: Python<'_>, size: Option<&Bound<'_, PyAny>>) -> PyResult<u64> {
        let size = size.map(|size| self.size(size, "commit_frame()")).transpose()?;
        let sequence = self.commit(py, None, size)?;
        sequence.ok_or_else(|| raise(py, self.gate.closed()))
    }

    /// Discards the acquired frame, if any. The reader never sees it.
    fn discard_frame(&self, py: Python<'_>) -> PyResult<()> {
        self.discard(py, None)
    }

    /// A frame to be filled in place in a `with` block: `with writer.frame(n) as view: ...`
    ///
    /// Entering the block acquires `size` bytes (see `acquire_frame_buffer`); leaving it commits them, or discards them if
    /// it is left by an exception. The block may also commit or discard them itself.
    ///
    /// Raises:
    ///     On entering, as `acquire_frame_buffer`. On leaving, as `commit_frame`; ClosedError if the writer was closed
    ///     meanwhile, so that nothing was written.
    fn frame(slf: &Bound<'_, Self>, size: &Bound<'_, PyAny>) -> PyResult<WritableFrame> {
        let size = slf.get().size(size, "frame()")?;
        Ok(WritableFrame::new(slf.clone().unbind(), size))
    }

    /// Passes a frame on that a reader of this process has read, waiting for space up to the write time-out: without a copy
    /// where both readers allow payload sharing and this writer requests it, else by a copy.
    ///
    /// The frame is released, unless the call fails: then it stays valid. Views of it stay valid in any case. A frame that is lent
    /// keeps its place in its ring until the next reader has released it, too.
    ///
    /// Returns:
    ///     Whether the next reader looks at the bytes where they are.
    ///
    /// Raises:
    ///     Those of `write_frame`; InvalidStateError if the frame is invalid, released, or not one that a reader has read.
    fn forward(&self, frame: &Bound<'_, Frame>) -> PyResult<bool> {
        let py = frame.py();
        let shared = self.pass_on(py, frame.get())?;
        frame.get().give_back(py);
        Ok(shared)
    }

    /// Like `forward`, for a frame that goes to several writers: it stays valid.
    fn forward_to(&self, frame: &Bound<'_, Frame>) -> PyResult<bool> {
        self.pass_on(frame.py(), frame.get())
    }

    /// Describes the stream to the reader: at most once per buffer, and at most its metadata size less 8 bytes.
    ///
    /// Raises:
    ///     MetadataAlreadyWrittenError, MetadataTooLargeError, InvalidStateError, ClosedError.
    fn set_metadata(&self, py: Python<'_>, metadata: &Bound<'_, PyAny>) -> PyResult<()> {
        let bytes = Owned::of(metadata, "set_metadata")?;
        self.gate.enter(py, |writer| Ok(writer.set_metadata(bytes.as_ref())?))
    }

    /// Whether the reader lives and has the buffer open.
    fn is_reader_connected(&self, py: Python<'_>) -> PyResult<bool> {
        self.gate.enter(py, |writer| Ok(writer.is_reader_connected()))
    }

    /// Milliseconds that a write waits for space; 0 polls once, None waits without limit. Can be set.
    #[getter]
    fn write_timeout_ms(&self, py: Python<'_>) -> Option<f64> {
        milliseconds(self.timeout.with(py, |timeout| *timeout))
    }

    #[setter]
    fn set_write_timeout_ms(&self, py: Python<'_>, timeout_ms: Option<f64>) -> PyResult<()> {
        self.timeout.replace(py, duration(timeout_ms)?);
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

    /// What the writer has done so far.
    ///
    /// Raises:
    ///     ClosedError: if the writer is closed.
    fn stats(&self, py: Python<'_>) -> PyResult<WriterStats> {
        let stats = self.gate.enter(py, |writer| Ok(writer.stats()))?;
        // Of the core's calls one of Python may make several: full counts those of Python. Relaxed: statistics.
        Ok(WriterStats::new(stats, self.full.load(Ordering::Relaxed)))
    }

    /// Whether this writer requests payload sharing, and its reader allows it.
    ///
    /// Raises:
    ///     ClosedError: if the writer is closed.
    #[getter]
    fn payload_sharing_enabled(&self, py: Python<'_>) -> PyResult<bool> {
        self.gate.enter(py, |handle| Ok(handle.payload_sharing_enabled()))
    }

    /// How many frames are lent through this writer now: a figure, which others may change at once.
    #[getter]
    fn payload_share_count(&self, py: Python<'_>) -> PyResult<u64> {
        self.gate.enter(py, |handle| Ok(handle.payload_share_count()))
    }

    /// The process that lends frames through this buffer; 0 = none. A figure: a killed process leaves it.
    #[getter]
    fn payload_owner_pid(&self, py: Python<'_>) -> PyResult<u64> {
        self.gate.enter(py, |handle| Ok(handle.payload_owner_pid()))
    }

    /// A file descriptor for event loops: `select`, `selectors`, `loop.add_reader`, and others. Poll it for *reading* only.
    ///
    /// It is ready to read unless the last `try_write_frame()` or `try_acquire_frame_buffer()` found no space and there has been
    /// neither space nor an end since. It is ready at first. Never read from it or write to it. It is closed with the writer:
    /// take it out of event loops before. A forked child has none.
    ///
    /// Raises:
    ///     ClosedError: if the writer is closed.
    ///     SystemError: if there is no file descriptor left, or no thread.
    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        self.gate.enter(py, |writer| Ok(writer.descriptor()?.as_raw_fd()))
    }

    /// Ends the call that another thread is blocked in, or else the next one that would have to wait, with InterruptedError.
    fn interrupt(&self) {
        self.gate.interrupt();
    }

    /// Closes the writer and unmaps its memory: the reader gets all frames, then the end of the stream at
    /// once. Calls that other threads are blocked in fail with ClosedError, and an acquired frame is
    /// discarded. A second call does nothing.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.gate.close(py)?;
        self.watch.close();
        self.end(py, self.forget_acquired());
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
