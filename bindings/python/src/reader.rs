//! `Reader`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyList, PyTuple};
use zerobuffer::ErrorKind;

use crate::config::BufferConfig;
use crate::errors::{Failure, raise};
use crate::frame::Frame;
use crate::gate::{Gate, duration, in_slices};
use crate::logging;

/// The reading side of a buffer: creates it, owns it, removes it.
///
/// Args:
///     name: The buffer's name; a writer connects by it.
///     config: Sizes and rights (default: `BufferConfig()`).
///
/// Whatever a dead reader left under this name is removed first. Close it (`close()`, or a `with` block) when done; frames
/// and arrays still held stay valid. Iterating gives the frames of one writer and ends when it closes in good order.
/// Threads may share a reader: one reads at a time, the others wait. A forked child cannot use it.
///
/// Raises:
///     ReaderAlreadyConnectedError: if a live reader has the name.
///     InvalidNameError, InvalidConfigError: if name or config cannot be used.
///     OutOfMemoryError: if `/dev/shm` or a resource limit has no room.
///     PermissionDeniedError, IncompatibleProtocolError: if something stands in the way.
#[pyclass(frozen, module = "zerobuffer")]
pub(crate) struct Reader {
    gate: Arc<Gate<zerobuffer::Reader>>,
    frames_read: AtomicU64,
    bytes_read: AtomicU64,
    /// What came for asyncio tasks that had been cancelled, and goes to the next read.
    unread: Mutex<VecDeque<Result<Frame, Failure>>>,
    any_unread: AtomicBool,
}

/// The module of the asynchronous methods.
static AIO: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

impl Reader {
    /// One read, which may take `timeout`.
    #[inline]
    fn read(&self, reader: &mut zerobuffer::Reader, timeout: Duration) -> Result<Option<Frame>, Failure> {
        // Acquire pairs with the Release in put_back().
        if self.any_unread.load(Ordering::Acquire)
            && let Some(outcome) = self.take_unread()
        {
            return outcome.map(Some);
        }
        match reader.read_frame(timeout) {
            Ok(Some(frame)) => {
                // Relaxed: a statistic.
                self.frames_read.store(reader.frames_read(), Ordering::Relaxed);
                self.bytes_read.store(reader.bytes_read(), Ordering::Relaxed);
                Ok(Some(Frame::new(frame)))
            }
            Ok(None) => Ok(None),
            Err(error) if error.kind() == ErrorKind::WriterClosed => Ok(Some(Frame::invalid(true))),
            Err(error) => Err(error.into()),
        }
    }

    /// What is there now.
    #[inline]
    fn poll<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, Frame>>> {
        let failed = |failure| raise(py, failure);
        let Some(mut reader) = self.gate.try_enter().map_err(failed)? else { return Ok(None) };
        let frame = self.read(&mut reader, Duration::ZERO).map_err(failed)?;
        drop(reader);
        frame.map(|frame| Bound::new(py, frame)).transpose()
    }

    #[cold]
    fn take_unread(&self) -> Option<Result<Frame, Failure>> {
        let mut unread = self.unread.lock();
        let outcome = unread.pop_front();
        self.any_unread.store(!unread.is_empty(), Ordering::Release);
        outcome
    }

    fn put_back(&self, outcome: Result<Frame, Failure>) {
        self.unread.lock().push_back(outcome);
        self.any_unread.store(true, Ordering::Release);
    }

    fn wait<'py>(&self, py: Python<'py>, timeout: Duration) -> PyResult<Option<Bound<'py, Frame>>> {
        if let Some(frame) = self.poll(py)? {
            return Ok(Some(frame));
        }
        if timeout.is_zero() && !self.gate.is_closed() {
            return Ok(None);
        }
        let frame =
            in_slices(py, timeout, |slice| self.gate.attempt(slice, |reader| self.read(reader, slice)))?;
        frame.map(|frame| Bound::new(py, frame)).transpose()
    }

    fn frame_or_invalid<'py>(
        &self,
        py: Python<'py>,
        frame: Option<Bound<'py, Frame>>,
    ) -> PyResult<Bound<'py, Frame>> {
        frame.map_or_else(|| Bound::new(py, Frame::invalid(false)), Ok)
    }
}

#[pymethods]
impl Reader {
    #[new]
    #[pyo3(signature = (name, config=None))]
    fn new(py: Python<'_>, name: &str, config: Option<&Bound<'_, BufferConfig>>) -> PyResult<Reader> {
        let config = config.map(|config| config.get().to_core()).unwrap_or_default();
        let reader =
            py.detach(|| zerobuffer::Reader::create(name, config)).map_err(|error| raise(py, error))?;
        logging::flush(py);
        let interrupt = reader.interrupt_handle();
        Ok(Reader {
            gate: Gate::new(name, "reader", reader, interrupt),
            frames_read: AtomicU64::new(0),
            bytes_read: AtomicU64::new(0),
            unread: Mutex::default(),
            any_unread: AtomicBool::new(false),
        })
    }

    /// The buffer's name.
    #[getter]
    fn name(&self) -> &str {
        self.gate.name()
    }

    /// Waits for the next frame.
    ///
    /// Args:
    ///     timeout_ms: Milliseconds to wait; 0 polls once, None or a negative number waits for ever.
    ///
    /// Returns:
    ///     A frame; an invalid one when the time is over; and, once per writer, when the writer has closed in good order
    ///     and everything that it wrote has been read, an invalid one with `end_of_stream`. Later reads wait for the next
    ///     writer.
    ///
    /// Raises:
    ///     WriterDeadError: once per writer, when it has died and everything that it had committed has been read.
    ///     SequenceError, CorruptBufferError: for good; close the reader and create the buffer anew.
    ///     InterruptedError: after `interrupt()`.
    ///     ClosedError: if the reader is closed, now or meanwhile.
    ///     BufferNotFoundError: if another process removed the buffer's files.
    #[pyo3(signature = (timeout_ms=Some(5000.0)), text_signature = "($self, timeout_ms=5000)")]
    fn read_frame<'py>(&self, py: Python<'py>, timeout_ms: Option<f64>) -> PyResult<Bound<'py, Frame>> {
        let frame = self.wait(py, duration(timeout_ms)?)?;
        self.frame_or_invalid(py, frame)
    }

    /// The next frame if there is one now; the same as `read_frame(0)`.
    fn try_read_frame<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, Frame>> {
        let frame = self.wait(py, Duration::ZERO)?;
        self.frame_or_invalid(py, frame)
    }

    /// Waits for a first frame, then takes those behind it as far as they are there.
    ///
    /// Args:
    ///     max_frames: How many frames at the most.
    ///     timeout_ms: As for `read_frame`.
    ///
    /// Returns:
    ///     A list of frames, empty when the time is over. The end of a stream is an invalid frame with `end_of_stream`, the
    ///     only one of its list.
    ///
    /// Raises:
    ///     As `read_frame`, when nothing has been read.
    #[pyo3(signature = (max_frames, timeout_ms=Some(5000.0)), text_signature = "($self, max_frames, timeout_ms=5000)")]
    fn read_frames<'py>(
        &self,
        py: Python<'py>,
        max_frames: usize,
        timeout_ms: Option<f64>,
    ) -> PyResult<Bound<'py, PyList>> {
        let frames = PyList::empty(py);
        if max_frames == 0 {
            return Ok(frames);
        }
        let Some(first) = self.wait(py, duration(timeout_ms)?)? else { return Ok(frames) };
        let ended = first.get().is_end();
        frames.append(first)?;
        if ended || max_frames == 1 {
            return Ok(frames);
        }
        let Some(mut reader) = self.gate.try_enter().map_err(|failure| raise(py, failure))? else {
            return Ok(frames);
        };
        // A batch ends before what is no frame, so that the next call tells of it.
        let mut more = Vec::new();
        let _ = reader.read_frames(&mut more, max_frames - 1, Duration::ZERO);
        self.frames_read.store(reader.frames_read(), Ordering::Relaxed);
        self.bytes_read.store(reader.bytes_read(), Ordering::Relaxed);
        drop(reader);
        for frame in more {
            frames.append(Bound::new(py, Frame::new(frame))?)?;
        }
        Ok(frames)
    }

    /// Releases a frame; the same as `frame.release()`.
    fn release_frame(&self, frame: &Bound<'_, Frame>) {
        frame.get().give_back();
    }

    /// Whether a writer is connected, or frames that one committed are still unread.
    ///
    /// Args:
    ///     timeout_ms: Milliseconds to wait for one. Default: not at all; a negative number waits for ever.
    ///
    /// Raises:
    ///     InterruptedError, ClosedError, BufferNotFoundError: as `read_frame`.
    #[pyo3(signature = (timeout_ms=None))]
    fn is_writer_connected(&self, py: Python<'_>, timeout_ms: Option<f64>) -> PyResult<bool> {
        if self.any_unread.load(Ordering::Acquire) {
            return Ok(true);
        }
        let Some(timeout_ms) = timeout_ms else {
            return self.gate.enter(py, |reader| Ok(reader.is_writer_connected()));
        };
        let there = in_slices(py, duration(Some(timeout_ms))?, |slice| {
            self.gate.attempt(slice, |reader| Ok(reader.wait_for_writer(slice)?.then_some(())))
        })?;
        Ok(there.is_some())
    }

    /// The metadata that the writer has set, copied; None if it has set none.
    ///
    /// Raises:
    ///     CorruptBufferError: if its lengths cannot be true.
    fn get_metadata<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let metadata = self.gate.enter(py, |reader| Ok(reader.metadata()?))?;
        Ok(metadata.map(|metadata| PyBytes::new(py, &metadata)))
    }

    /// Frames read by this reader.
    #[getter]
    fn frames_read(&self) -> u64 {
        self.frames_read.load(Ordering::Relaxed)
    }

    /// Bytes of data (without headers) read by this reader.
    #[getter]
    fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    /// Makes the call that another thread is blocked in now, or else the next one that may block, fail once with
    /// InterruptedError.
    fn interrupt(&self) {
        self.gate.interrupt();
    }

    /// Closes the reader and removes the buffer. Calls that other threads are blocked in fail with ClosedError. Frames and
    /// arrays still held stay valid. More than once does no harm.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let reader = self.gate.close(py)?;
        self.unread.lock().clear();
        py.detach(|| drop(reader));
        logging::flush(py);
        Ok(())
    }

    /// Whether the reader is closed.
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

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, Frame>>> {
        let frame = self.wait(py, Duration::MAX)?;
        Ok(frame.filter(|frame| !frame.get().is_end()))
    }

    /// As `read_frame`, for asyncio: other tasks run meanwhile. Cancelling the task ends the wait, and no frame is lost.
    #[pyo3(signature = (timeout_ms=Some(5000.0)), text_signature = "($self, timeout_ms=5000)")]
    fn read_frame_async<'py>(slf: &Bound<'py, Self>, timeout_ms: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        aio(slf.py())?.call_method1("read_frame", (slf, timeout_ms))
    }

    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __anext__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        aio(slf.py())?.call_method1("next_frame", (slf,))
    }

    /// Reads for a ticket, on a thread of `zerobuffer._aio`, until it is withdrawn or the time is over.
    fn _read_for(&self, py: Python<'_>, ticket: &Bound<'_, Ticket>, timeout_ms: Option<f64>) -> PyResult<()> {
        let ticket = ticket.get();
        in_slices(py, duration(timeout_ms)?, |slice| {
            let outcome = self.gate.attempt(slice, |reader| {
                // With the reader in hand: a ticket withdrawn while it waited for its turn must not read past the frame of
                // the ticket that came after it.
                if ticket.is_withdrawn() {
                    return Ok(Some(()));
                }
                let Some(frame) = self.read(reader, slice)? else { return Ok(None) };
                // With the reader in hand, so that nobody reads on before the frame is where it belongs.
                if let Some(frame) = ticket.fill(Ok(frame)) {
                    self.put_back(frame);
                }
                Ok(Some(()))
            });
            outcome.or_else(|failure| {
                if let Some(failure) = ticket.fill(Err(failure)) {
                    self.put_back(failure);
                }
                Ok(Some(()))
            })
        })?;
        Ok(())
    }

    /// Withdraws a ticket whose task has been cancelled.
    fn _withdraw(&self, ticket: &Bound<'_, Ticket>) {
        if let Some(outcome) = ticket.get().withdraw() {
            self.put_back(outcome);
        }
    }

    fn __repr__(&self) -> String {
        let closed = if self.gate.is_closed() { " closed" } else { "" };
        format!("<zerobuffer.Reader '{}' frames_read={}{closed}>", self.gate.name(), self.frames_read())
    }
}

/// One wait of an asyncio task; for `zerobuffer._aio`.
#[pyclass(frozen, module = "zerobuffer._native")]
pub(crate) struct Ticket {
    /// `None`: withdrawn.
    state: Mutex<Option<Option<Result<Frame, Failure>>>>,
}

impl Ticket {
    fn is_withdrawn(&self) -> bool {
        self.state.lock().is_none()
    }

    /// Fills the ticket; gives the outcome back if it has been withdrawn.
    fn fill(&self, outcome: Result<Frame, Failure>) -> Option<Result<Frame, Failure>> {
        match &mut *self.state.lock() {
            Some(state) => {
                *state = Some(outcome);
                None
            }
            None => Some(outcome),
        }
    }

    fn withdraw(&self) -> Option<Result<Frame, Failure>> {
        self.state.lock().take().flatten()
    }
}

#[pymethods]
impl Ticket {
    #[new]
    fn new() -> Ticket {
        Ticket { state: Mutex::new(Some(None)) }
    }

    /// What came: a frame, an invalid one if nothing did in time, or an error.
    fn take(&self, py: Python<'_>) -> PyResult<Frame> {
        match self.withdraw() {
            None => Ok(Frame::invalid(false)),
            Some(outcome) => outcome.map_err(|failure| raise(py, failure)),
        }
    }
}

fn aio(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    Ok(AIO.get_or_try_init(py, || py.import("zerobuffer._aio").map(Bound::unbind))?.bind(py))
}
