//! The right to read responses, which one thread of a client has at a time.

use std::time::{Duration, Instant};

use super::inbox::{Outcome, Waiter};
use super::response::Received;
use super::state::{ClientState, GONE, Wakers, wake_all};
use crate::duplex::port::{Frame, Reader};
use crate::duplex::sync::{TryGuard, lock, thread, try_lock};
use crate::error::{Error, ErrorKind};
use crate::sync::Ordering;
use crate::testing::stop::stop_point;

/// The most responses that a leader passes on after its own, which is about 50 us of waking.
const HAND_OUT: usize = 32;

/// How soon a leader looks for the server again after an end at the response buffer: a killed process's roles
/// end one after the other.
const SOON: Duration = Duration::from_millis(4);

/// The right to read. Dropping it gives up the reader, wakes the tasks whose outcomes have come, and wakes a
/// thread to lead next, if one waits.
pub(crate) struct Leading<'a> {
    state: &'a ClientState,
    /// `Some` until dropped.
    reader: Option<TryGuard<'a, Option<Box<Reader>>>>,
    look: Duration,
    /// A thread has been woken since the last wait.
    woke: bool,
    /// Tasks to wake. They wait until the reader is given up, because a waker is user code.
    wakers: Wakers,
}

impl<'a> Leading<'a> {
    /// Becomes the leader, if there is none.
    pub(crate) fn try_new(state: &'a ClientState) -> Option<Leading<'a>> {
        let reader = try_lock(&state.reader)?;
        // The close has woken all threads that wait, so no thread needs to lead when the reader is gone.
        reader.is_some().then(|| Leading {
            state,
            reader: Some(reader),
            look: state.look(),
            woke: false,
            wakers: Wakers::new(),
        })
    }

    fn reader(&mut self) -> Option<&mut Reader> {
        self.reader.as_mut()?.as_deref_mut()
    }

    /// Whether the reader's descriptor is not ready: all has been read.
    pub(crate) fn is_armed(&mut self) -> bool {
        self.reader().is_some_and(|reader| reader.is_armed())
    }

    /// Makes the reader's descriptor.
    #[cfg(not(loom))]
    pub(crate) fn make_descriptor(&mut self) -> crate::error::Result<()> {
        match self.reader() {
            Some(reader) => reader.descriptor().map(|_| ()),
            None => Ok(()),
        }
    }

    /// Makes the reader's descriptor, if another thread wants that. If it fails, that thread tries again.
    #[cfg(not(loom))]
    #[cold]
    fn make_wanted_descriptor(&mut self) {
        // Acquire pairs with the store in ClientState::make_descriptor().
        if self.state.wants_descriptor.swap(false, Ordering::Acquire) && self.make_descriptor().is_ok() {
            self.state.watch_server();
        }
    }

    /// Whether tasks wait until this leader gives up the reader.
    pub(crate) fn owes_wakes(&self) -> bool {
        !self.wakers.is_empty()
    }

    /// Reads one frame, waiting for it up to `timeout`. Returns the frame if it is `mine`, and otherwise
    /// enters it for another thread. Notices the end of the channel.
    pub(crate) fn read(&mut self, timeout: Duration, mine: impl Fn(&Frame) -> bool) -> Option<Frame> {
        let look = std::mem::replace(&mut self.look, self.state.look());
        let woke = std::mem::take(&mut self.woke);
        // Relaxed: the others may be about to send more.
        let others = self.state.following.load(Ordering::Relaxed);
        let crowded = others > 0;
        let state = self.state;
        let turns = state.turns.of_this_wait(others).min(timeout);
        let reader = self.reader()?;
        reader.set_crowded(crowded);
        let mut spent = Duration::ZERO;
        if crowded {
            let began = Instant::now();
            while reader.is_quiet() && spent < turns && !state.is_over() {
                thread::yield_now();
                spent = began.elapsed();
            }
        } else if woke && reader.is_quiet() {
            thread::yield_now();
        }
        match reader.read_frame(timeout.saturating_sub(spent).min(look)) {
            Ok(Some(frame)) if mine(&frame) => return Some(frame),
            Ok(Some(frame)) => self.deliver(frame),
            Ok(None) => return self.look_at_server(!timeout.is_zero(), mine),
            Err(error) if error.kind() == ErrorKind::Interrupted && state.take_server_news() => {
                return self.look_at_server(true, mine);
            }
            Err(error) => {
                #[cfg(not(loom))]
                self.make_wanted_descriptor();
                self.read_failed(&error);
            }
        }
        None
    }

    /// Looks whether the server lives. If not, reads the responses that are there, up to the one that is `mine`. `waits`: the leader
    /// is about to wait again.
    #[cold]
    fn look_at_server(&mut self, waits: bool, mine: impl Fn(&Frame) -> bool) -> Option<Frame> {
        if waits {
            self.state.watch_server();
            self.look = self.state.look();
        }
        stop_point!("duplex:look");
        if self.state.server_is_gone() { self.drain(mine) } else { None }
    }

    /// Enters a response, and wakes the thread that waits for it.
    fn deliver(&mut self, frame: Frame) {
        let waiter = lock(&self.state.inbox)
            .enter_outcome(frame.sequence(), Outcome::Response(Received::Frame(frame)));
        match waiter {
            // It may be for an event loop.
            None => self.state.ring_descriptor(),
            Some(Waiter::Thread(thread)) => {
                thread.unpark();
                self.woke = true;
            }
            #[cfg(feature = "async")]
            Some(Waiter::Task(waker)) => self.wakers.push(waker),
        }
    }

    /// Passes on the responses that have come for others.
    pub(crate) fn hand_out(&mut self) {
        // Relaxed: a thread that begins to wait meanwhile reads for itself.
        if self.state.following.load(Ordering::Relaxed) == 0 {
            return;
        }
        for _ in 0..HAND_OUT {
            let Some(reader) = self.reader() else { return };
            if reader.is_quiet() {
                // try_read_frame() would check whether the server lives, at the cost of a system call.
                return;
            }
            match reader.try_read_frame() {
                Ok(Some(frame)) => self.deliver(frame),
                Ok(None) => return,
                Err(error) => return self.read_failed(&error),
            }
        }
    }

    /// Takes the responses that are there for others. Returns whether there were any.
    pub(crate) fn take_in(&mut self) -> bool {
        let mut any = false;
        while let Some(reader) = self.reader().filter(|reader| !reader.is_quiet()) {
            match reader.try_read_frame() {
                Ok(Some(frame)) => self.deliver(frame),
                Ok(None) => break,
                Err(error) => {
                    self.read_failed(&error);
                    break;
                }
            }
            any = true;
        }
        any
    }

    /// The server has gone, and may never have connected to the response buffer. Reads the responses that are
    /// there, up to the one that is `mine`, then ends the channel.
    fn drain(&mut self, mine: impl Fn(&Frame) -> bool) -> Option<Frame> {
        loop {
            match self.reader()?.try_read_frame() {
                Ok(Some(frame)) if mine(&frame) => return Some(frame),
                Ok(Some(frame)) => self.deliver(frame),
                Ok(None) => {
                    self.end(ErrorKind::ReaderDead, GONE);
                    return None;
                }
                Err(error) => {
                    self.end_by(&error);
                    return None;
                }
            }
        }
    }

    /// The writer of the response buffer may have connected for this client's predecessor, whose last
    /// requests the server still had to read. Its end is the server's end only if the server has given up the
    /// request buffer too.
    fn read_failed(&mut self, error: &Error) {
        let writers_end = matches!(error.kind(), ErrorKind::WriterClosed | ErrorKind::WriterDead);
        if writers_end && !self.state.server_is_gone() {
            self.look = SOON;
        } else {
            self.end_by(error);
        }
    }

    /// Ends the channel because of an error of the reader.
    fn end_by(&mut self, error: &Error) {
        match error.kind() {
            // The thread that interrupted has changed the inbox.
            ErrorKind::Interrupted => {}
            ErrorKind::WriterClosed => {
                let message =
                    "the server has stopped: it reads no more requests; create a new client when it is back";
                self.end(ErrorKind::ReaderDead, message);
            }
            ErrorKind::WriterDead => {
                let message = "the server died; create a new client when there is a new one";
                self.end(ErrorKind::WriterDead, message);
            }
            kind => self.end(kind, error.message()),
        }
    }

    fn end(&mut self, kind: ErrorKind, message: &str) {
        let wakers = self.state.end(kind, message);
        self.wakers.extend(wakers);
    }
}

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        let read_all = self.is_armed();
        self.reader = None;
        // An event loop may have found the reader taken, and has taken out the byte of a response that came meanwhile. Both sides change
        // one word, so one change comes after the other. Either this thread sees the event loop's, or the event loop, which then tries
        // once more, finds the reader free.
        let polled = self.state.has_descriptor();
        if polled && (self.state.drained.swap(false, Ordering::AcqRel) || !read_all) {
            self.state.ring_descriptor();
        }
        // Both sides change one word, so one change comes after the other. A follower, or a thread that
        // closes the client, enters itself and then tries once more to take the reader, both under the lock
        // on the inbox. Either this thread sees the entry, or the follower sees that the reader is free.
        if self.state.following.compare_exchange(0, 0, Ordering::AcqRel, Ordering::Acquire).is_err() {
            self.state.wake_successor();
            self.state.close_reader_if_closing();
        }
        if self.owes_wakes() {
            wake_all(std::mem::take(&mut self.wakers));
        }
    }
}

impl ClientState {
    /// Becomes the leader, if there is none.
    pub(crate) fn try_lead(&self) -> Option<Leading<'_>> {
        Leading::try_new(self)
    }

    /// Wakes a thread that waits, to lead or to fetch what is ready.
    pub(crate) fn wake_successor(&self) {
        let successor = lock(&self.inbox).successor();
        if let Some(thread) = successor {
            thread.unpark();
        }
    }
}
