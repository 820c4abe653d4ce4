//! The core's reader behind a `Reader`, and its counters.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pyo3::prelude::*;
use zerobuffer::ErrorKind;

use crate::errors::{Failure, raise};
use crate::frame::Frame;
use crate::gate::{Gate, in_slices};
use crate::watched::{Watch, Watched};

/// The core's reader, its counters, and what event loops watch of it.
pub(crate) struct Stream {
    pub(crate) gate: Arc<Gate<zerobuffer::Reader>>,
    frames_read: AtomicU64,
    bytes_read: AtomicU64,
    frames_skipped: AtomicU64,
    watch: Watch,
}

impl Stream {
    pub(crate) fn new(py: Python<'_>, name: &str, reader: zerobuffer::Reader) -> Stream {
        let interrupt = reader.interrupt_handle();
        Stream {
            gate: Gate::new(py, name, "reader", reader, interrupt),
            frames_read: AtomicU64::new(0),
            bytes_read: AtomicU64::new(0),
            frames_skipped: AtomicU64::new(0),
            watch: Watch::default(),
        }
    }

    fn count(&self, reader: &zerobuffer::Reader) {
        // Relaxed: statistics.
        self.frames_read.store(reader.frames_read(), Ordering::Relaxed);
        self.bytes_read.store(reader.bytes_read(), Ordering::Relaxed);
        self.frames_skipped.store(reader.frames_skipped(), Ordering::Relaxed);
    }

    /// Frames and bytes read.
    pub(crate) fn counts(&self) -> (u64, u64) {
        // Relaxed: statistics; they need not fit together.
        (self.frames_read.load(Ordering::Relaxed), self.bytes_read.load(Ordering::Relaxed))
    }

    /// Frames passed over.
    pub(crate) fn skipped(&self) -> u64 {
        // Relaxed: a statistic.
        self.frames_skipped.load(Ordering::Relaxed)
    }

    #[inline]
    fn outcome(
        &self,
        reader: &zerobuffer::Reader,
        outcome: zerobuffer::Result<Option<zerobuffer::Frame>>,
    ) -> Result<Option<Frame>, Failure> {
        match outcome {
            Ok(Some(frame)) => {
                self.count(reader);
                Ok(Some(Frame::new(frame)))
            }
            Ok(None) => Ok(None),
            Err(error) if error.kind() == ErrorKind::WriterClosed => Ok(Some(Frame::invalid(true))),
            Err(error) => Err(error.into()),
        }
    }

    /// One read, which may take `timeout`.
    #[inline]
    fn read(&self, reader: &mut zerobuffer::Reader, timeout: Duration) -> Result<Option<Frame>, Failure> {
        let outcome = reader.read_frame(timeout);
        self.outcome(reader, outcome)
    }

    /// As [`Stream::read`], without waiting and without taking an interrupt.
    fn read_now(&self, reader: &mut zerobuffer::Reader) -> Result<Option<Frame>, Failure> {
        let outcome = reader.try_read_frame();
        self.outcome(reader, outcome)
    }

    /// Several frames, or the end of a stream as the only one. Asks the core once: it tells an end or a death only once,
    /// and a second call whose frames are handed out with those of the first would lose it.
    fn read_batch(
        &self,
        reader: &mut zerobuffer::Reader,
        max: usize,
        timeout: Duration,
    ) -> Result<Option<Vec<Frame>>, Failure> {
        let mut frames = Vec::new();
        match reader.read_frames(&mut frames, max, timeout) {
            Ok(0) => Ok(None),
            Ok(_) => {
                self.count(reader);
                Ok(Some(frames.into_iter().map(Frame::new).collect()))
            }
            Err(error) if error.kind() == ErrorKind::WriterClosed => Ok(Some(vec![Frame::invalid(true)])),
            Err(error) => Err(error.into()),
        }
    }

    /// One read of the newest frame, which may take `timeout`.
    fn read_latest(
        &self,
        reader: &mut zerobuffer::Reader,
        timeout: Duration,
    ) -> Result<Option<Frame>, Failure> {
        let outcome = reader.read_latest_frame(timeout);
        self.count(reader);
        self.outcome(reader, outcome)
    }

    /// What is there now; nothing if another thread has the reader.
    #[inline]
    fn poll<R: Send>(
        &self,
        py: Python<'_>,
        read: impl FnOnce(&mut zerobuffer::Reader) -> Result<Option<R>, Failure> + Send,
    ) -> PyResult<Option<R>> {
        match self.gate.try_with(read) {
            Ok(Some(found)) => Ok(found),
            Ok(None) => self.taken(py).map(|()| None),
            Err(failure) => Err(raise(py, failure)),
        }
    }

    /// What a call that does not wait raises if another thread has the reader, which has no way to tell it.
    #[cold]
    fn taken(&self, py: Python<'_>) -> PyResult<()> {
        self.gate.check_mine().map_err(|failure| raise(py, failure))?;
        if self.gate.is_closed() { Err(raise(py, self.gate.closed())) } else { Ok(()) }
    }

    fn wait<R: Send>(
        &self,
        py: Python<'_>,
        timeout: Duration,
        mut read: impl FnMut(&mut zerobuffer::Reader, Duration) -> Result<Option<R>, Failure> + Send,
    ) -> PyResult<Option<R>> {
        let found = self.poll(py, |reader| read(reader, Duration::ZERO))?;
        if found.is_some() || timeout.is_zero() {
            return Ok(found);
        }
        in_slices(py, timeout, |slice| self.gate.attempt(slice, |reader| read(reader, slice)))
    }

    /// Waits for the next frame.
    #[inline]
    pub(crate) fn next(&self, py: Python<'_>, timeout: Duration) -> PyResult<Option<Frame>> {
        self.wait(py, timeout, |reader, slice| self.read(reader, slice))
    }

    /// Waits for a frame, and returns the newest one.
    pub(crate) fn latest(&self, py: Python<'_>, timeout: Duration) -> PyResult<Option<Frame>> {
        self.wait(py, timeout, |reader, slice| self.read_latest(reader, slice))
    }

    /// Waits for the next frames.
    pub(crate) fn batch(
        &self,
        py: Python<'_>,
        max: usize,
        timeout: Duration,
    ) -> PyResult<Option<Vec<Frame>>> {
        self.wait(py, timeout, |reader, slice| self.read_batch(reader, max, slice))
    }

    /// The next frame if there is one now.
    pub(crate) fn now(&self, py: Python<'_>) -> PyResult<Option<Frame>> {
        self.poll(py, |reader| self.read_now(reader))
    }

    /// What event loops watch. `None` if another thread has the reader.
    pub(crate) fn watched(&self, py: Python<'_>) -> PyResult<Option<Watched>> {
        self.watch.open(py, &self.gate, |reader| reader.descriptor())
    }

    /// Takes the reader out for another owner.
    pub(crate) fn hand_over(&self, py: Python<'_>) -> PyResult<zerobuffer::Reader> {
        let reader = self.gate.hand_over(py)?;
        self.watch.close();
        Ok(reader)
    }

    pub(crate) fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.gate.close(py)?;
        self.watch.close();
        Ok(())
    }
}
