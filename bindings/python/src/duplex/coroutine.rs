//! The answers of coroutines: handlers that run as tasks of an event loop.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};

use pyo3::prelude::*;
use zerobuffer::duplex::{self, HandlerError};

use super::server::words;
use crate::buffers::copy;
use crate::end;
use crate::frame::Frame;
use crate::lock::Guarded;
use crate::owned::Owned;

const LOOP_ENDED: &str = "the event loop of the handler has ended";

pub(super) type Outcome = Result<duplex::Reply<'static>, HandlerError>;

/// Where a coroutine's result goes.
#[derive(Default)]
pub(super) struct Slot {
    state: Guarded<(Option<Outcome>, Option<Waker>)>,
    filled: AtomicBool,
}

impl Slot {
    /// Puts the result in, if it is the first one.
    pub(super) fn fill(&self, result: Outcome) {
        if self.filled.swap(true, Ordering::AcqRel) {
            return;
        }
        let waker = self.state.with(|state| {
            state.0 = Some(result);
            state.1.take()
        });
        waker.into_iter().for_each(Waker::wake);
    }

    pub(super) fn poll(&self, waker: &Waker) -> Poll<Outcome> {
        let waker = waker.clone();
        let (result, old) = self.state.with(|state| match state.0.take() {
            Some(result) => (Some(result), None),
            None => (None, state.1.replace(waker)),
        });
        drop(old);
        result.map_or(Poll::Pending, Poll::Ready)
    }
}

/// The answer that a coroutine owes; for `zerobuffer.duplex`. Only the first one counts. If it is dropped without one, the
/// request has failed.
#[pyclass(frozen, module = "zerobuffer._native")]
pub(crate) struct Answer(pub(super) Arc<Slot>);

#[pymethods]
impl Answer {
    /// Answers with the bytes of a buffer; raises what `write_frame` does of what is none.
    fn send(&self, py: Python<'_>, frame: &Bound<'_, Frame>, response: &Bound<'_, PyAny>) -> PyResult<()> {
        let bytes = copy(Owned::of(response, "return in a handler")?.as_ref())?;
        frame.get().give_back(py);
        py.detach(|| self.0.fill(Ok(Cow::Owned(bytes))));
        Ok(())
    }

    /// Tells the client that the handler failed.
    fn fail(&self, py: Python<'_>, frame: &Bound<'_, Frame>, error: &Bound<'_, PyAny>) {
        if self.0.filled.load(Ordering::Acquire) {
            return;
        }
        let error = words(py, &PyErr::from_value(error.clone()), frame.get().number());
        frame.get().give_back(py);
        py.detach(|| self.0.fill(Err(error)));
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if !self.0.filled.load(Ordering::Acquire) {
            end::while_dropping(|py| py.detach(|| self.0.fill(Err(LOOP_ENDED.into()))));
        }
    }
}
