//! A channel for the model checker. The client's two buffers are objects on the heap, and a thread of the
//! model plays the server. Nothing times out, so that a lost wake-up is a deadlock, which the checker
//! reports.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use super::port::{Marker, Place, Tag};
use super::sync::{Condvar, Mutex, MutexGuard, lock};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::Cursor;

/// Both buffers.
pub(crate) struct Wire {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Frames that the request buffer has room for.
    room: usize,
    requests: VecDeque<Frame>,
    responses: VecDeque<Frame>,
    cancelled: Vec<u64>,
    reader_interrupted: bool,
    writer_interrupted: bool,
    server_has_gone: bool,
    readers: usize,
    writers: usize,
}

/// A frame of either buffer.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    sequence: u64,
    deadline: u64,
    bytes: Vec<u8>,
}

pub(crate) struct Reader(Arc<Wire>);
pub(crate) struct Writer {
    wire: Arc<Wire>,
    timeout: Duration,
    last: u64,
    acquired: Option<Vec<u8>>,
}
pub(crate) struct ReaderWatch(Arc<Wire>);
pub(crate) struct InterruptHandle(Arc<Wire>, Side);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Reader,
    Writer,
}

fn error(kind: ErrorKind) -> Error {
    Error::new(kind, "model", "in the model")
}

/// No event loop polls the model.
impl InterruptHandle {
    pub(crate) fn has_descriptor(&self) -> bool {
        false
    }
    pub(crate) fn ring_descriptor(&self) {}
}

impl Wire {
    /// Makes a channel with room for so many requests, and both ends of a client.
    pub(crate) fn new(room: usize) -> (Arc<Wire>, Writer, Reader) {
        let state = State { room, readers: 1, writers: 1, ..State::default() };
        let wire = Arc::new(Wire { state: Mutex::new(state), changed: Condvar::new() });
        let writer = Writer { wire: Arc::clone(&wire), timeout: Duration::ZERO, last: 0, acquired: None };
        (Arc::clone(&wire), writer, Reader(Arc::clone(&wire)))
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).expect("no thread panics with it")
    }

    /// The server's step: waits for the next request that was not withdrawn.
    pub(crate) fn take_request(&self) -> Frame {
        let mut state = lock(&self.state);
        loop {
            if let Some(frame) = state.requests.pop_front() {
                self.changed.notify_all();
                if !state.cancelled.contains(&frame.sequence) {
                    return frame;
                }
                continue;
            }
            state = self.wait(state);
        }
    }

    /// The server's look: waits until `found` finds something in the list of requests, and in that of withdrawn ones.
    fn await_requests<T>(&self, found: impl Fn(&VecDeque<Frame>, &[u64]) -> Option<T>) -> T {
        let mut state = lock(&self.state);
        loop {
            if let Some(result) = found(&state.requests, &state.cancelled) {
                return result;
            }
            state = self.wait(state);
        }
    }

    /// Waits until a request is withdrawn.
    pub(crate) fn await_withdrawn(&self, sequence: u64) {
        self.await_requests(|_, withdrawn| withdrawn.contains(&sequence).then_some(()));
    }

    /// Waits for the next request, leaves it there, and returns whether it is withdrawn.
    pub(crate) fn next_is_withdrawn(&self) -> bool {
        self.await_requests(|requests, withdrawn| {
            requests.front().map(|frame| withdrawn.contains(&frame.sequence))
        })
    }

    /// The server's step: answers a request with the request's bytes.
    pub(crate) fn answer(&self, request: Frame) {
        lock(&self.state).responses.push_back(request);
        self.changed.notify_all();
    }

    /// The server's step: closes.
    pub(crate) fn end(&self) {
        lock(&self.state).server_has_gone = true;
        self.changed.notify_all();
    }

    /// Ends of the client that are open.
    pub(crate) fn open_ends(&self) -> usize {
        let state = lock(&self.state);
        state.readers + state.writers
    }
}

impl Frame {
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }
    pub(crate) fn deadline(&self) -> u64 {
        self.deadline
    }
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }
    pub(crate) fn flags(&self) -> u16 {
        0
    }
}

impl Deref for Frame {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Reader {
    pub(crate) fn never_spins(&self) -> bool {
        true
    }
    pub(crate) fn interrupt_handle(&self) -> InterruptHandle {
        InterruptHandle(Arc::clone(&self.0), Side::Reader)
    }
    pub(crate) fn set_crowded(&mut self, _: bool) {}
    pub(crate) fn is_armed(&self) -> bool {
        true
    }
    pub(crate) fn is_quiet(&self) -> bool {
        lock(&self.0.state).responses.is_empty()
    }
    pub(crate) fn read_frame(&mut self, timeout: Duration) -> Result<Option<Frame>> {
        let mut state = lock(&self.0.state);
        loop {
            if std::mem::take(&mut state.reader_interrupted) {
                return Err(error(ErrorKind::Interrupted));
            }
            if let Some(frame) = state.responses.pop_front() {
                return Ok(Some(frame));
            }
            if state.server_has_gone {
                return Err(error(ErrorKind::WriterClosed));
            }
            if timeout.is_zero() {
                return Ok(None);
            }
            state = self.0.wait(state);
        }
    }
    pub(crate) fn try_read_frame(&mut self) -> Result<Option<Frame>> {
        Ok(lock(&self.0.state).responses.pop_front())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        lock(&self.0.state).readers -= 1;
    }
}

impl Writer {
    pub(crate) fn set_write_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }
    pub(crate) fn write_tagged(&mut self, data: &[u8], tag: Tag, _: u64) -> Result<u64> {
        let sequence = tag.sequence.expect("every request has a number");
        let frame = Frame { sequence, deadline: tag.deadline, bytes: data.into() };
        let mut state = lock(&self.wire.state);
        loop {
            if std::mem::take(&mut state.writer_interrupted) {
                return Err(error(ErrorKind::Interrupted));
            }
            if state.server_has_gone {
                return Err(error(ErrorKind::ReaderDead));
            }
            if state.requests.len() < state.room {
                break;
            }
            if self.timeout.is_zero() {
                return Err(error(ErrorKind::BufferFull));
            }
            state = self.wire.wait(state);
        }
        if tag.flags != 0 {
            state.cancelled.push(sequence);
        }
        state.requests.push_back(frame);
        self.last = sequence;
        drop(state);
        self.wire.changed.notify_all();
        Ok(sequence)
    }
    pub(crate) fn last_place(&self) -> Option<Place> {
        Some(Place(Cursor(self.last)))
    }
    pub(crate) fn cancel(&mut self, place: Place) -> bool {
        lock(&self.wire.state).cancelled.push(place.0.0);
        self.wire.changed.notify_all();
        true
    }
    pub(crate) fn acquire_tagged(&mut self, len: usize, _: &Tag) -> Result<()> {
        self.acquired = Some(vec![0; len]);
        Ok(())
    }
    pub(crate) fn acquired(&mut self) -> Option<&mut [u8]> {
        self.acquired.as_deref_mut()
    }
    pub(crate) fn acquired_ref(&self) -> Option<&[u8]> {
        self.acquired.as_deref()
    }
    pub(crate) fn commit_tagged(&mut self, _: Option<usize>, tag: Tag) -> Result<u64> {
        let data = self.acquired.take().expect("acquired before the commit");
        self.write_tagged(&data, tag, 0)
    }
    pub(crate) fn discard_frame(&mut self) {
        self.acquired = None;
    }
    /// There is no marker in the model: a client withdraws requests when the writer is back.
    pub(crate) fn marker(&self) -> Option<Marker> {
        None
    }
    pub(crate) fn reader_watch(&self) -> Result<ReaderWatch> {
        Ok(ReaderWatch(Arc::clone(&self.wire)))
    }
    pub(crate) fn carries_tags(&self) -> bool {
        true
    }
    pub(crate) fn interrupt_handle(&self) -> InterruptHandle {
        InterruptHandle(Arc::clone(&self.wire), Side::Writer)
    }
    pub(crate) fn max_frame_size(&self) -> usize {
        usize::MAX
    }
    pub(crate) fn set_metadata(&mut self, _: &[u8]) -> Result<()> {
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        lock(&self.wire.state).writers -= 1;
    }
}

impl ReaderWatch {
    pub(crate) fn is_reader_connected(&self) -> bool {
        !lock(&self.0.state).server_has_gone
    }
    pub(crate) fn cancel(&self, _: Marker, place: Place) {
        lock(&self.0.state).cancelled.push(place.0.0);
    }
}

impl InterruptHandle {
    pub(crate) fn interrupt(&self) {
        let mut state = lock(&self.0.state);
        match self.1 {
            Side::Reader => state.reader_interrupted = true,
            Side::Writer => state.writer_interrupted = true,
        }
        drop(state);
        self.0.changed.notify_all();
    }
}
