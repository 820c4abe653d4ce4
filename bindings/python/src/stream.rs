//! What a `Reader` and the thread that reads for its tasks share.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use pyo3::prelude::*;
use zerobuffer::ErrorKind;

use crate::errors::{Failure, raise};
use crate::frame::Frame;
use crate::gate::{Gate, in_slices};
use crate::line::Line;
use crate::lock::Guarded;

/// The core's reader, its counters, and what has been read for tasks.
pub(crate) struct Stream {
    pub(crate) gate: Arc<Gate<zerobuffer::Reader>>,
    pub(crate) line: Arc<Line>,
    frames_read: AtomicU64,
    bytes_read: AtomicU64,
    frames_skipped: AtomicU64,
    /// Frames, and their bytes, that were read for tasks and then passed over.
    passed_over: [AtomicU64; 2],
    /// What has been read for tasks and not been taken, in order. Filled by the thread that has the reader.
    unread: Guarded<VecDeque<Result<Frame, Failure>>>,
    any_unread: AtomicBool,
}

impl Stream {
    pub(crate) fn new(py: Python<'_>, name: &str, reader: zerobuffer::Reader) -> Stream {
        let interrupt = reader.interrupt_handle();
        Stream {
            gate: Gate::new(py, name, "reader", reader, interrupt),
            line: Arc::default(),
            frames_read: AtomicU64::new(0),
            bytes_read: AtomicU64::new(0),
            frames_skipped: AtomicU64::new(0),
            passed_over: [AtomicU64::new(0), AtomicU64::new(0)],
            unread: Guarded::default(),
            any_unread: AtomicBool::new(false),
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
        let [frames, bytes] = self.passed_over.each_ref().map(|count| count.load(Ordering::Relaxed));
        let frames = self.frames_read.load(Ordering::Relaxed).saturating_sub(frames);
        (frames, self.bytes_read.load(Ordering::Relaxed).saturating_sub(bytes))
    }

    /// Frames passed over.
    pub(crate) fn skipped(&self) -> u64 {
        self.frames_skipped.load(Ordering::Relaxed) + self.passed_over[0].load(Ordering::Relaxed)
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
        if let Some(outcome) = self.take_unread() {
            return outcome.map(Some);
        }
        let outcome = reader.read_frame(timeout);
        self.outcome(reader, outcome)
    }

    /// As [`Stream::read`], without waiting and without taking an interrupt.
    fn read_now(&self, reader: &mut zerobuffer::Reader) -> Result<Option<Frame>, Failure> {
        if let Some(outcome) = self.take_unread() {
            return outcome.map(Some);
        }
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
        if let Some(first) = self.take_unread() {
            let mut frames = vec![first?];
            while !frames[0].is_end() && frames.len() < max {
                let Some(frame) = self.take_unread_frame() else { break };
                frames.push(frame);
            }
            return Ok(Some(frames));
        }
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
        // What was read for tasks comes first: its frames up to an end, of which the last one may be the newest.
        let mut ahead = Vec::new();
        while let Some(frame) = self.take_unread_frame() {
            ahead.push(frame);
        }
        let Some(newest) = ahead.pop() else {
            if let Some(end) = self.take_unread() {
                return end.map(Some);
            }
            let outcome = reader.read_latest_frame(timeout);
            self.count(reader);
            return self.outcome(reader, outcome);
        };
        let outcome = if self.has_unread() { Ok(None) } else { reader.read_latest_frame(Duration::ZERO) };
        self.count(reader);
        match self.outcome(reader, outcome) {
            Ok(Some(frame)) if !frame.is_end() => {
                ahead.push(newest);
                self.pass_over(&ahead);
                Ok(Some(frame))
            }
            later => {
                if let Some(end) = later.transpose() {
                    self.unread.with(|unread| unread.push_front(end));
                    self.any_unread.store(true, Ordering::Release);
                }
                self.pass_over(&ahead);
                Ok(Some(newest))
            }
        }
    }

    /// Counts frames that were read for tasks as passed over.
    fn pass_over(&self, frames: &[Frame]) {
        // Relaxed: statistics.
        self.passed_over[0].fetch_add(frames.len() as u64, Ordering::Relaxed);
        self.passed_over[1].fetch_add(frames.iter().map(Frame::bytes).sum(), Ordering::Relaxed);
    }

    #[inline]
    fn take_unread(&self) -> Option<Result<Frame, Failure>> {
        // Acquire pairs with the Release in read_ahead().
        if !self.any_unread.load(Ordering::Acquire) {
            return None;
        }
        self.unread.with(|unread| {
            let outcome = unread.pop_front();
            self.any_unread.store(!unread.is_empty(), Ordering::Release);
            outcome
        })
    }

    /// The next one if it is a frame.
    fn take_unread_frame(&self) -> Option<Frame> {
        self.unread.with(|unread| {
            if !unread.front().is_some_and(|outcome| outcome.as_ref().is_ok_and(|frame| !frame.is_end())) {
                return None;
            }
            let frame = unread.pop_front()?.ok();
            self.any_unread.store(!unread.is_empty(), Ordering::Release);
            frame
        })
    }

    /// Reads for a task; for the thread of the line.
    pub(crate) fn read_ahead(&self, slice: Duration) -> Result<(), Failure> {
        let read = self.gate.attempt(slice, |reader| {
            let outcome = reader.read_frame(slice);
            let outcome = match self.outcome(reader, outcome) {
                Ok(None) => return Ok(None),
                // By close(), which tells every task itself.
                Err(failure) if failure.kind() == ErrorKind::Interrupted && self.gate.is_closed() => {
                    return Err(failure);
                }
                Ok(Some(frame)) => Ok(frame),
                Err(failure) => Err(failure),
            };
            // With the reader in hand, so that what is read next comes behind it.
            self.unread.with(|unread| unread.push_back(outcome));
            self.any_unread.store(true, Ordering::Release);
            Ok(Some(()))
        });
        read.map(drop)
    }

    /// How much has been read for tasks and not been taken.
    pub(crate) fn unread(&self) -> usize {
        self.unread.with(|unread| unread.len())
    }

    /// Whether a read would find something that has been read before.
    pub(crate) fn has_unread(&self) -> bool {
        self.any_unread.load(Ordering::Acquire)
    }

    /// What is there now, or may be there within the little time that the thread of the line needs to let go.
    #[inline]
    fn poll<R: Send>(
        &self,
        py: Python<'_>,
        mut read: impl FnMut(&mut zerobuffer::Reader) -> Result<Option<R>, Failure> + Send,
    ) -> PyResult<Option<R>> {
        match self.gate.try_with(&mut read) {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => {}
            Err(failure) => return Err(raise(py, failure)),
        }
        self.poll_beside(py, read)
    }

    #[cold]
    fn poll_beside<R: Send>(
        &self,
        py: Python<'_>,
        mut read: impl FnMut(&mut zerobuffer::Reader) -> Result<Option<R>, Failure> + Send,
    ) -> PyResult<Option<R>> {
        let mut looked = false;
        let found = in_slices(py, Duration::MAX, |slice| {
            // Before the line's lock: in a forked child another thread of the parent may have it.
            self.gate.check_mine()?;
            if looked || !(self.line.is_leaving() || self.gate.is_closed()) {
                return Ok(Some(None));
            }
            self.gate.attempt(slice, |reader| {
                looked = true;
                read(reader).map(|found| found.map(Some))
            })
        })?;
        Ok(found.flatten())
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
        if let Some(outcome) = self.take_unread() {
            return outcome.map(Some).map_err(|failure| raise(py, failure));
        }
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
        if let Some(outcome) = self.take_unread() {
            return outcome.map(Some).map_err(|failure| raise(py, failure));
        }
        self.poll(py, |reader| self.read_now(reader))
    }

    /// The next frame if there is one now and no task is to have it. For tasks, which do not wait here.
    pub(crate) fn in_turn(&self, py: Python<'_>) -> PyResult<Option<Frame>> {
        self.gate.check_mine().map_err(|failure| raise(py, failure))?;
        if !self.line.is_empty() {
            return Ok(None);
        }
        self.at_hand(py)
    }

    /// The next frame, for a task that has been woken.
    pub(crate) fn at_hand(&self, py: Python<'_>) -> PyResult<Option<Frame>> {
        // Without the reader: what has been read comes before everything that anyone reads now.
        let found = match self.take_unread() {
            Some(outcome) => outcome.map(Some),
            None => self.gate.try_with(|reader| self.read(reader, Duration::ZERO)).map(Option::flatten),
        };
        found.map_err(|failure| raise(py, failure))
    }

    pub(crate) fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.gate.close(py)?;
        if self.gate.check_mine().is_ok() {
            self.any_unread.store(false, Ordering::Release);
            let unread = self.unread.replace(VecDeque::new());
            py.detach(|| drop(unread));
        }
        Ok(())
    }
}
