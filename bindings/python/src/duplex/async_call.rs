//! A call of a task of asyncio.

use std::sync::Arc;
use std::task::Wake;

use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};
use zerobuffer::Result;
use zerobuffer::duplex::{Call, Response};

use super::executor::Running;
use super::requests;
use crate::end::call_python;
use crate::errors::exception;
use crate::lock::Attached;

/// A call under way; for `zerobuffer._aio`.
#[pyclass(frozen, module = "zerobuffer._native")]
pub(crate) struct AsyncCall {
    running: Arc<Running<Result<Response>>>,
    deliver: Arc<Attached<Option<Py<PyAny>>>>,
}

impl AsyncCall {
    /// Starts a call whose outcome `deliver` is called with, on any thread: a frame, or an exception.
    pub(super) fn start<D: AsRef<[u8]> + Send + 'static>(
        py: Python<'_>,
        call: Call<D>,
        deliver: Py<PyAny>,
    ) -> AsyncCall {
        let kept: Arc<Attached<Option<Py<PyAny>>>> = Arc::new(Attached::new(Some(deliver)));
        let deliver = Arc::clone(&kept);
        let done = move |outcome: Result<Response>| {
            call_python(|py| {
                let Some(deliver) = deliver.replace(py, None) else { return };
                let result = match outcome {
                    Ok(response) => requests::response(py, response).map(Bound::into_any),
                    Err(error) => exception(py, &error),
                };
                // Fails when the loop has been closed. Then no task waits.
                if let Err(error) = result.and_then(|result| deliver.call1(py, (result,))) {
                    log::debug!("the outcome of a call comes after the end of its event loop: {error}");
                }
            });
        };
        AsyncCall { running: py.detach(|| Running::start(Box::pin(call), done)), deliver: kept }
    }
}

#[pymethods]
impl AsyncCall {
    /// Ends it if its time is over.
    fn check(&self, py: Python<'_>) {
        let running = Arc::clone(&self.running);
        py.detach(|| running.wake());
    }

    /// Withdraws the request.
    fn cancel(&self, py: Python<'_>) {
        py.detach(|| self.running.cancel());
        drop(self.deliver.replace(py, None));
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> std::result::Result<(), PyTraverseError> {
        self.deliver.peek(|deliver| visit.call(deliver)).unwrap_or(Ok(()))
    }

    fn __clear__(&self, py: Python<'_>) {
        drop(self.deliver.replace(py, None));
    }
}
