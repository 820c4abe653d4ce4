//! Tasks of event loops that wait for a reader's frames, in a line, and the thread that reads for them.
//!
//! The thread puts what it reads into the reader's queue and wakes the first task of the line, which then takes the
//! queue's head, as every other read does. So frames are handed out in their order whatever becomes of the tasks: a frame
//! whose task has been cancelled, closed or forgotten is still in its place. The thread reads one frame for each task
//! that waits, rests when none does, and ends soon after.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};
use zerobuffer::ErrorKind;

use crate::end;
use crate::lock::{Guarded, Waiters};
use crate::stream::Stream;

/// Longest read of the thread. A poll that comes just after the last task has left waits for so long.
const SLICE: Duration = Duration::from_millis(20);

/// How long the thread stays when no task waits.
const REST: Duration = Duration::from_millis(500);

#[derive(Default)]
pub(crate) struct Line {
    state: Guarded<State>,
    changed: Waiters,
}

#[derive(Default)]
struct State {
    /// Each task's place and what wakes it.
    waiting: VecDeque<(u64, Py<PyAny>)>,
    next_place: u64,
    /// Tasks that have been woken and have not fetched their results yet.
    woken: usize,
    /// The thread is there.
    has_thread: bool,
    /// The thread has the reader.
    is_reading: bool,
    ended: bool,
}

enum Step {
    Read,
    Wake(Py<PyAny>),
    Rest,
}

impl Line {
    /// Puts a task at the end of the line; returns its place. `wake` is called once, on another thread.
    pub(crate) fn join(self: &Arc<Line>, stream: &Arc<Stream>, wake: Py<PyAny>) -> io::Result<u64> {
        let (place, start) = self.state.with(|state| {
            let place = state.next_place;
            state.next_place += 1;
            state.waiting.push_back((place, wake));
            (place, !std::mem::replace(&mut state.has_thread, true))
        });
        self.changed.wake_all();
        if start {
            let (line, stream) = (Arc::clone(self), Arc::downgrade(stream));
            let thread = std::thread::Builder::new().name("zerobuffer-read".into());
            if let Err(error) = thread.spawn(move || line.read_for_tasks(&stream)) {
                self.state.with(|state| state.has_thread = false);
                drop(self.remove(place));
                return Err(error);
            }
        }
        Ok(place)
    }

    /// Takes a task off the books: it has been woken, or waits no longer.
    pub(crate) fn leave(&self, place: u64) {
        let removed = self.remove(place);
        if removed.is_none() {
            self.state.with(|state| state.woken = state.woken.saturating_sub(1));
            // What was to be taken may be still there, for the next task.
            self.changed.wake_all();
        }
        drop(removed);
    }

    fn remove(&self, place: u64) -> Option<Py<PyAny>> {
        self.state.with(|state| {
            let index = state.waiting.iter().position(|(other, _)| *other == place)?;
            Some(state.waiting.remove(index)?.1)
        })
    }

    /// Whether tasks wait, or are about to take their results.
    pub(crate) fn is_empty(&self) -> bool {
        self.state.with(|state| state.waiting.is_empty() && state.woken == 0)
    }

    /// Whether the thread has the reader although no task waits any more.
    pub(crate) fn is_leaving(&self) -> bool {
        self.state.with(|state| state.is_reading && state.waiting.is_empty())
    }

    /// Ends the thread.
    pub(crate) fn end(&self) {
        let waiting = self.state.with(|state| {
            state.ended = true;
            std::mem::take(&mut state.waiting)
        });
        self.changed.wake_all();
        drop(waiting);
    }

    /// For the garbage collector.
    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.state
            .peek(|state| state.waiting.iter().try_for_each(|(_, wake)| visit.call(wake)))
            .unwrap_or(Ok(()))
    }

    fn step(&self, unread: usize) -> Step {
        self.state.with(|state| {
            if state.waiting.is_empty() {
                return Step::Rest;
            }
            if unread <= state.woken {
                state.is_reading = true;
                return Step::Read;
            }
            state.woken += 1;
            state.waiting.pop_front().map_or(Step::Rest, |(_, wake)| Step::Wake(wake))
        })
    }

    /// Waits for a task; false if the thread is to end.
    fn rest(&self) -> bool {
        self.state.wait_until(&self.changed, REST, |state| state.ended || !state.waiting.is_empty());
        self.state.with(|state| {
            state.has_thread = !state.ended && !state.waiting.is_empty();
            state.has_thread
        })
    }

    fn wake(&self, wake: Py<PyAny>) {
        // Fails if the event loop has been closed. Then the task never comes.
        let woken = end::call_python(|py| {
            let woken = wake.call0(py).is_ok();
            drop(wake);
            woken
        });
        if woken != Some(true) {
            self.state.with(|state| state.woken = state.woken.saturating_sub(1));
        }
    }

    fn read_for_tasks(&self, stream: &Weak<Stream>) {
        loop {
            let Some(stream) = stream.upgrade() else { return };
            match self.step(stream.unread()) {
                Step::Wake(wake) => self.wake(wake),
                Step::Read => {
                    let outcome = stream.read_ahead(SLICE);
                    self.state.with(|state| state.is_reading = false);
                    if outcome.is_err_and(|failure| failure.kind() == ErrorKind::Closed) {
                        let waiting = self.state.with(|state| {
                            state.woken += state.waiting.len();
                            std::mem::take(&mut state.waiting)
                        });
                        waiting.into_iter().for_each(|(_, wake)| self.wake(wake));
                    }
                }
                Step::Rest => {
                    drop(stream);
                    if !self.rest() {
                        return;
                    }
                }
            }
        }
    }
}
