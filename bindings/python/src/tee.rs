//! `Tee`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use zerobuffer::{ErrorKind, KeptBuffer, TeeInterruptHandle};

use crate::errors;
use crate::frame::Frame;
use crate::gate::{Gate, SLICE, duration, in_slices};
use crate::lock::Guarded;
use crate::reader::Reader;
use crate::shared_writer::Output;
use crate::writer::Writer;
use crate::{end, logging};

/// The core's tee, and the buffers that were made for its outputs.
struct Inner {
    // The writers end first: then the buffers go, unless they have readers.
    tee: zerobuffer::Tee,
    kept: Vec<KeptBuffer>,
    /// The block outputs, each with its write time-out: the core's calls take a slice.
    timeouts: Vec<(String, Duration)>,
}

/// The output that a call waits for, and since when.
type Full = Option<(String, Instant)>;

/// Passes the frames of one reader on to any number of outputs.
///
/// Args:
///     reader: What to read. The tee takes it over: the reader itself is closed afterwards.
///
/// A *block* output gets every frame: while it is full, the tee waits, and so does the source in the end. It is lent the source's
/// bytes where its writer requests payload sharing and both readers allow it. A *drop* output has at most so many frames that its
/// reader has not given back; what comes then is dropped, and counted. The tee never waits for it. Two and more such outputs are
/// lent one copy, where they request and allow sharing. Block outputs are served first. An output whose reader dies or closes
/// ends: it gets nothing more, and the others go on.
///
/// Close it (`close()`, or a `with` block) when done. Threads may share a tee: one uses it at a time, the others wait. A forked child
/// cannot use it.
///
/// Raises:
///     ClosedError: if the reader is closed.
#[pyclass(frozen, module = "zerobuffer")]
pub(crate) struct Tee {
    gate: Arc<Gate<Inner>>,
    /// `None` when closed: it keeps memory mapped.
    interrupt: Guarded<Option<TeeInterruptHandle>>,
}

/// An output of a `Tee`, and what it got.
#[pyclass(frozen, get_all, module = "zerobuffer")]
pub(crate) struct TeeOutput {
    /// Name of the buffer that it writes.
    name: String,
    /// Of a drop output, how many frames it has at most that its reader has not given back; None: a block output.
    bound: Option<usize>,
    /// Frames that it got without a copy of its own.
    frames_shared: u64,
    /// Frames that it got as a copy of its own.
    frames_copied: u64,
    /// Frames that it did not get.
    frames_dropped: u64,
    /// Why it has ended, for example "ReaderDead"; None while it gets frames.
    ended: Option<&'static str>,
}

#[pymethods]
impl TeeOutput {
    fn __repr__(&self) -> String {
        let TeeOutput { name, frames_shared, frames_copied, frames_dropped, .. } = self;
        format!(
            "<zerobuffer.TeeOutput '{name}' frames_shared={frames_shared} frames_copied={frames_copied} \
             frames_dropped={frames_dropped}>"
        )
    }
}

impl Tee {
    fn add(
        &self,
        py: Python<'_>,
        writer: &Writer,
        add: impl FnOnce(&mut zerobuffer::Tee, zerobuffer::Writer) + Send,
        blocks: bool,
    ) -> PyResult<()> {
        // A tee that is closed takes nothing.
        self.gate.enter(py, |_| Ok(()))?;
        let timeout = writer.timeout.with(py, |timeout| *timeout);
        let Output { writer, kept } = writer.hand_over(py)?;
        self.gate.enter(py, |inner| {
            let name = writer.name().to_owned();
            inner.timeouts.retain(|(other, _)| *other != name);
            if blocks {
                inner.timeouts.push((name, timeout));
            }
            add(&mut inner.tee, writer);
            inner.kept.extend(kept);
            Ok(())
        })
    }

    /// Calls `work` until no output is full, or the time-out of one that is full is over.
    fn pass_on<T: Send>(
        &self,
        py: Python<'_>,
        timeout: Duration,
        mut work: impl FnMut(&mut zerobuffer::Tee, Duration) -> zerobuffer::Result<Option<T>> + Send,
    ) -> PyResult<Option<T>> {
        let mut full: Full = None;
        let deadline = Instant::now().checked_add(timeout);
        // Whether the time is over is for the one to say who is waited for: the source or an output.
        let passed = in_slices(py, Duration::MAX, |_| {
            let left = deadline.map_or(SLICE, |at| at.saturating_duration_since(Instant::now()).min(SLICE));
            self.gate.attempt(SLICE, |inner| {
                inner.tee.set_write_timeout(SLICE);
                match work(&mut inner.tee, left) {
                    Ok(Some(done)) => Ok(Some(Some(done))),
                    Ok(None) if deadline.is_some_and(|at| at <= Instant::now()) => Ok(Some(None)),
                    Ok(None) => {
                        full = None;
                        Ok(None)
                    }
                    Err(error) if error.kind() == ErrorKind::BufferFull => {
                        if inner.is_over(error.buffer(), &mut full) { Err(error.into()) } else { Ok(None) }
                    }
                    Err(error) => Err(error.into()),
                }
            })
        })?;
        Ok(passed.flatten())
    }

    fn end(&self, py: Python<'_>) {
        let interrupt = self.interrupt.replace(None);
        py.detach(|| drop(interrupt));
    }
}

impl Inner {
    /// Whether the time-out of the output `name`, which is full, is over.
    fn is_over(&self, name: &str, full: &mut Full) -> bool {
        let since = match full {
            Some((other, since)) if other == name => *since,
            _ => full.insert((name.to_owned(), Instant::now())).1,
        };
        let timeout = self.timeouts.iter().find(|(other, _)| other == name).map(|(_, timeout)| *timeout);
        timeout.is_some_and(|timeout| since.elapsed() + SLICE >= timeout)
    }
}

/// A step, or the end of the source.
enum Step {
    Passed,
    End,
}

fn step(tee: &mut zerobuffer::Tee, timeout: Duration) -> zerobuffer::Result<Option<Step>> {
    match tee.step(timeout) {
        Ok(passed) => Ok(passed.then_some(Step::Passed)),
        Err(error) if error.kind() == ErrorKind::WriterClosed => Ok(Some(Step::End)),
        Err(error) => Err(error),
    }
}

#[pymethods]
impl Tee {
    #[new]
    fn new(py: Python<'_>, reader: &Bound<'_, Reader>) -> PyResult<Tee> {
        let stream = &reader.get().0;
        let core = stream.hand_over(py)?;
        let (name, interrupt) = (core.name().to_owned(), core.interrupt_handle());
        let tee = zerobuffer::Tee::new(core);
        let ending = Guarded::new(Some(tee.interrupt_handle()));
        let inner = Inner { tee, kept: Vec::new(), timeouts: Vec::new() };
        Ok(Tee { gate: Gate::new(py, &name, "tee", inner, interrupt), interrupt: ending })
    }

    /// Name of the buffer that it reads.
    #[getter]
    fn name(&self) -> &str {
        self.gate.name()
    }

    /// Adds an output that gets every frame from the next one on. How long the tee waits for space in it is the writer's
    /// `write_timeout_ms`. The tee takes the writer over: the writer itself is closed afterwards. The output takes the place of one of
    /// that name that has ended.
    ///
    /// Raises:
    ///     ClosedError: if the tee or the writer is closed.
    fn add_block_output(&self, py: Python<'_>, writer: &Bound<'_, Writer>) -> PyResult<()> {
        self.add(py, writer.get(), zerobuffer::Tee::add_block_output, true)
    }

    /// Adds an output that has at most `frames` frames (at least one) that its reader has not given back. What comes then is dropped. In
    /// all else like `add_block_output`.
    #[pyo3(signature = (writer, frames=2))]
    fn add_drop_output(&self, py: Python<'_>, writer: &Bound<'_, Writer>, frames: usize) -> PyResult<()> {
        self.add(py, writer.get(), move |tee, writer| tee.add_drop_output(writer, frames), false)
    }

    /// Closes the output that writes the buffer `name`. What it got stays with its reader.
    ///
    /// Returns:
    ///     Whether there was one.
    fn remove_output(&self, py: Python<'_>, name: &str) -> PyResult<bool> {
        let _unsettled = end::unsettled(py);
        self.gate.enter(py, |inner| {
            let writer = inner.tee.remove_output(name);
            let removed = writer.is_some();
            // The writer ends first.
            drop(writer);
            inner.kept.retain(|kept| kept.name() != name);
            Ok(removed)
        })
    }

    /// Waits for a frame, and passes it on.
    ///
    /// Args:
    ///     timeout_ms: Milliseconds to wait for a frame; 0 polls once, None or a negative number waits without limit.
    ///
    /// Returns:
    ///     Whether there was one: False if the time is over, or the writer has closed.
    ///
    /// Raises:
    ///     Those of `Reader.read_frame` and of `forward`.
    #[pyo3(signature = (timeout_ms=Some(5000.0)), text_signature = "($self, timeout_ms=5000)")]
    fn step(&self, py: Python<'_>, timeout_ms: Option<f64>) -> PyResult<bool> {
        Ok(matches!(self.pass_on(py, duration(timeout_ms)?, step)?, Some(Step::Passed)))
    }

    /// Passes frames on until their writer closes. After the exception of an output a further call goes on.
    ///
    /// Raises:
    ///     Those of `step`.
    fn run(&self, py: Python<'_>) -> PyResult<()> {
        while let Some(Step::Passed) = self.pass_on(py, Duration::MAX, step)? {}
        Ok(())
    }

    /// Waits for a frame, for a program that looks at it or changes it (`Frame.make_mut`) before it passes it on (`forward`). Frames that a
    /// full output has kept back go first.
    ///
    /// Args:
    ///     timeout_ms: Milliseconds to wait; see `step`.
    ///
    /// Returns:
    ///     A frame; an invalid one as from `Reader.read_frame`.
    ///
    /// Raises:
    ///     Those of `step`.
    #[pyo3(signature = (timeout_ms=Some(5000.0)), text_signature = "($self, timeout_ms=5000)")]
    fn read_frame(&self, py: Python<'_>, timeout_ms: Option<f64>) -> PyResult<Frame> {
        let read = self.pass_on(py, duration(timeout_ms)?, |tee, slice| match tee.read_frame(slice) {
            Ok(frame) => Ok(frame.map(Frame::new)),
            Err(error) if error.kind() == ErrorKind::WriterClosed => Ok(Some(Frame::invalid(true))),
            Err(error) => Err(error),
        })?;
        Ok(read.unwrap_or_else(|| Frame::invalid(false)))
    }

    /// Passes a frame on to all outputs: to block outputs, waiting for space in each up to its write time-out; then to drop outputs.
    ///
    /// The frame is released, unless the call fails: then it stays valid. Views of it stay valid in any case.
    ///
    /// Raises:
    ///     BufferFullError, OutOfMemoryError, InterruptedError: call it again with the frame; it goes on with the output where it
    ///         stopped. Outputs that still wait for the frame when another one comes do without it.
    ///     FrameTooLargeError: that output does without the frame. The others have got it.
    ///     ReaderDeadError and others: that output has ended. The others have got the frame.
    ///     InvalidStateError: if the frame is invalid, released, or not one that a reader has read.
    fn forward(&self, frame: &Bound<'_, Frame>) -> PyResult<()> {
        let (py, frame) = (frame.py(), frame.get());
        let lease = frame.lease(py)?;
        let lease = lease.get();
        if lease.with_frame(|_| ()).is_none() {
            let message = "no reader has read this frame: a tee passes on what was read";
            return Err(errors::own(py, ErrorKind::InvalidState, self.gate.name(), message));
        }
        self.pass_on(py, Duration::MAX, |tee, _| {
            lease.with_frame(|frame| tee.forward_to(frame)).unwrap_or(Ok(())).map(Some)
        })?;
        frame.give_back(py);
        Ok(())
    }

    /// Goes on with a frame that `step` could not pass on to a full output; without one it does nothing.
    ///
    /// Raises:
    ///     Those of `forward`.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        self.pass_on(py, Duration::MAX, |tee, _| tee.flush().map(Some))?;
        Ok(())
    }

    /// The outputs, also those that have ended, in the order in which they were added.
    fn outputs(&self, py: Python<'_>) -> PyResult<Vec<TeeOutput>> {
        self.gate.enter(py, |inner| {
            let outputs = inner.tee.outputs().iter().map(|output| TeeOutput {
                name: output.name().to_owned(),
                bound: output.bound(),
                frames_shared: output.frames_shared(),
                frames_copied: output.frames_copied(),
                frames_dropped: output.frames_dropped(),
                ended: output.ended().map(ErrorKind::name),
            });
            Ok(outputs.collect())
        })
    }

    /// Ends the call that another thread is blocked in, or else the next one that would have to wait, with InterruptedError.
    fn interrupt(&self) {
        let interrupt = self.interrupt.with(|interrupt| interrupt.clone());
        if let Some(interrupt) = interrupt {
            interrupt.interrupt();
        }
    }

    /// Closes the reader and the outputs. Calls that other threads are blocked in fail with ClosedError. A second call does nothing.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.gate.close(py)?;
        self.end(py);
        logging::flush(py);
        Ok(())
    }

    /// Whether the tee is closed.
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
        format!("<zerobuffer.Tee '{}'{closed}>", self.gate.name())
    }
}
