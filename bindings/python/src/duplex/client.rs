//! UNSAFE (the view of a request buffer): the client of a channel.
#![allow(unsafe_code)]

use std::sync::Arc;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::{PyMemoryView, PyTuple};
use zerobuffer::duplex::{self, ClientOptions, DuplexChannelFactory, PendingCall, RequestBuffer, Response};
use zerobuffer::{ErrorKind, Result};

use super::executor::Running;
use super::requests;
use crate::buffers::Bytes;
use crate::config::BufferConfig;
use crate::errors::{self, Failure, exception, raise};
use crate::frame::Frame;
use crate::gate::{SLICE, duration, in_slices};
use crate::logging;
use crate::memory::{self, Lease};
use crate::owned::Owned;

/// See `zerobuffer.duplex`.
#[pyclass(frozen, subclass, module = "zerobuffer._native")]
pub(crate) struct DuplexClient {
    client: Arc<duplex::DuplexClient>,
    request_timeout: Duration,
    /// The request that a thread is filling in place.
    acquired: Mutex<Option<Acquired>>,
}

struct Acquired {
    thread: ThreadId,
    request: RequestBuffer,
    view: Py<PyMemoryView>,
}

/// What a lack of space is, within a slice.
fn unless_full<T>(result: Result<T>) -> std::result::Result<Option<T>, Failure> {
    match result {
        Ok(done) => Ok(Some(done)),
        Err(error) if error.kind() == ErrorKind::BufferFull => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl DuplexClient {
    fn full(&self, py: Python<'_>, timeout: Duration) -> PyErr {
        let message = format!(
            "no space for the request within {timeout:?}: the server is slower than its clients, or another thread has \
             acquired the request buffer"
        );
        errors::own(py, ErrorKind::BufferFull, self.client.channel(), message)
    }

    fn receive<'py>(
        &self,
        py: Python<'py>,
        timeout_ms: Option<f64>,
        receive: impl Fn(Duration) -> Result<Option<Response>> + Send + Sync,
    ) -> PyResult<Bound<'py, Frame>> {
        match in_slices(py, duration(timeout_ms)?, |slice| Ok(receive(slice)?))? {
            Some(response) => requests::response(py, response),
            None => Bound::new(py, Frame::invalid(false)),
        }
    }

    /// Takes out the request that this thread is filling.
    fn take_acquired(&self, py: Python<'_>) -> PyResult<Acquired> {
        let mut acquired = self.acquired.lock();
        if acquired.as_ref().is_some_and(|acquired| acquired.thread == std::thread::current().id())
            && let Some(acquired) = acquired.take()
        {
            return Ok(acquired);
        }
        drop(acquired);
        let message = "this thread has acquired no request buffer";
        Err(errors::own(py, ErrorKind::InvalidState, self.client.channel(), message))
    }
}

impl Acquired {
    /// Takes the view back that was handed out. Arrays made of it may live on; their memory stays mapped.
    fn end_view(self, py: Python<'_>) -> RequestBuffer {
        // Fails while there are arrays.
        let _ = self.view.bind(py).call_method0("release");
        self.request
    }
}

#[pymethods]
impl DuplexClient {
    #[new]
    #[pyo3(
        signature = (channel_name, *, request_timeout_ms=Some(5000.0), connect_timeout_ms=Some(0.0), response_config=None),
        text_signature = "(channel_name, *, request_timeout_ms=5000, connect_timeout_ms=0, response_config=None)"
    )]
    fn new(
        py: Python<'_>,
        channel_name: &str,
        request_timeout_ms: Option<f64>,
        connect_timeout_ms: Option<f64>,
        response_config: Option<&Bound<'_, BufferConfig>>,
    ) -> PyResult<DuplexClient> {
        let config = response_config.map(|config| config.get().to_core()).unwrap_or_default();
        let options = ClientOptions::default().request_timeout(SLICE).response_config(config);
        let mut missing = None;
        let connected = in_slices(py, duration(connect_timeout_ms)?, |slice| {
            let options = options.clone().connect_timeout(slice);
            match DuplexChannelFactory::new().create_client_with(channel_name, options) {
                Ok(client) => Ok(Some(client)),
                Err(error) if matches!(error.kind(), ErrorKind::BufferNotFound | ErrorKind::ReaderDead) => {
                    missing = Some(error);
                    Ok(None)
                }
                Err(error) => Err(error.into()),
            }
        })?;
        logging::flush(py);
        match (connected, missing) {
            (Some(client), _) => Ok(DuplexClient {
                client: Arc::new(client),
                request_timeout: duration(request_timeout_ms)?,
                acquired: Mutex::new(None),
            }),
            (None, Some(error)) => Err(raise(py, error)),
            (None, None) => {
                Err(errors::own(py, ErrorKind::BufferNotFound, channel_name, "there is no server"))
            }
        }
    }

    /// The channel's name.
    #[getter]
    fn channel_name(&self) -> &str {
        self.client.channel()
    }

    /// Copies `data` into the request buffer as one request. Its response is for `receive_response`.
    ///
    /// Args:
    ///     data: bytes, a NumPy array or another contiguous buffer; copied exactly once.
    ///     deadline_ms: If given, a server that has not started with the request by then does not, and the outcome is
    ///         DeadlineExceededError.
    ///
    /// Returns:
    ///     The request's sequence number, which its response carries too.
    ///
    /// Raises:
    ///     BufferFullError: if there was no space within the client's request time-out.
    ///     FrameTooLargeError, InvalidFrameSizeError (0 bytes), OutOfMemoryError.
    ///     InvalidStateError: if this thread has acquired a request buffer.
    ///     ReaderDeadError, WriterDeadError, ClosedError: when the channel has ended.
    #[pyo3(signature = (data, deadline_ms=None))]
    fn send_request(
        &self,
        py: Python<'_>,
        data: &Bound<'_, PyAny>,
        deadline_ms: Option<f64>,
    ) -> PyResult<u64> {
        let data = Owned::of(data, "send_request")?;
        let deadline = duration(deadline_ms)?;
        let sent = in_slices(py, self.request_timeout, |_| {
            unless_full(self.client.send_request_within(data.as_ref(), deadline))
        })?;
        sent.ok_or_else(|| self.full(py, self.request_timeout))
    }

    /// Lends `size` bytes of the request buffer, to be filled in place; then `commit_request()`, `call_acquired()` or
    /// `discard_request()`, on the same thread. Other threads that send wait meanwhile.
    ///
    /// Returns:
    ///     The request's sequence number, and a writable `memoryview` (format "B", one dimension) that ends with the commit.
    ///
    /// Raises:
    ///     As `send_request`.
    fn acquire_request_buffer<'py>(
        &self,
        py: Python<'py>,
        size: usize,
    ) -> PyResult<(u64, Bound<'py, PyMemoryView>)> {
        let acquired = in_slices(py, self.request_timeout, |_| {
            let Some(mut request) = unless_full(self.client.acquire_request_buffer(size))? else {
                return Ok(None);
            };
            let guard = request.memory_guard()?;
            let (start, len) = (request.as_mut_ptr(), request.len());
            // SAFETY: the guard keeps the memory mapped. The server does not look at it before the commit, and what is
            // written later can only spoil the content of requests.
            let lease = unsafe { Lease::writable(start, len, Arc::new(guard)) };
            Ok(Some((request, lease)))
        })?;
        let Some((request, lease)) = acquired else { return Err(self.full(py, self.request_timeout)) };
        let view = memory::view(&Bound::new(py, lease)?)?;
        let sequence = request.sequence();
        let thread = std::thread::current().id();
        *self.acquired.lock() = Some(Acquired { thread, request, view: view.clone().unbind() });
        Ok((sequence, view))
    }

    /// Sends the request that was filled in place. Its response is for `receive_response`.
    ///
    /// Raises:
    ///     InvalidStateError: if this thread has acquired none. When the channel has ended, as `send_request`.
    fn commit_request(&self, py: Python<'_>) -> PyResult<()> {
        let request = self.take_acquired(py)?.end_view(py);
        py.detach(|| request.commit()).map(drop).map_err(|error| raise(py, error))
    }

    /// Sends the request that was filled in place and waits for its own response, whoever else sends and receives.
    ///
    /// Args:
    ///     timeout_ms: For the response; also the request's deadline.
    ///
    /// Raises:
    ///     InvalidStateError: if this thread has acquired none. Else as `call`, but there is no lack of space any more.
    #[pyo3(signature = (timeout_ms=Some(5000.0)), text_signature = "($self, timeout_ms=5000)")]
    fn call_acquired<'py>(&self, py: Python<'py>, timeout_ms: Option<f64>) -> PyResult<Bound<'py, Frame>> {
        let timeout = duration(timeout_ms)?;
        let request = self.take_acquired(py)?.end_view(py);
        let mut call = py.detach(|| request.start_call(timeout)).map_err(|error| raise(py, error))?;
        let response = in_slices(py, Duration::MAX, |slice| Ok(call.wait(slice)?));
        // Gives the request up if it is still under way.
        py.detach(|| drop(call));
        let ended =
            || errors::own(py, ErrorKind::System, self.client.channel(), "waiting ended without an outcome");
        requests::response(py, response?.ok_or_else(ended)?)
    }

    /// Gives up the request that was to be filled in place.
    ///
    /// Raises:
    ///     InvalidStateError: if this thread has acquired none.
    fn discard_request(&self, py: Python<'_>) -> PyResult<()> {
        let request = self.take_acquired(py)?.end_view(py);
        py.detach(|| drop(request));
        Ok(())
    }

    /// Waits for the next response that nobody else waits for, in the order of arrival.
    ///
    /// Args:
    ///     timeout_ms: Milliseconds; 0 polls once, None or a negative number waits for ever.
    ///
    /// Returns:
    ///     A frame with the request's sequence number (it may have 0 bytes); an invalid one when the time is over.
    ///
    /// Raises:
    ///     RequestFailedError, CancelledError, DeadlineExceededError: about one request, which `error.sequence` tells.
    ///     WriterDeadError, ReaderDeadError, ClosedError: about the channel, for every call from now on.
    #[pyo3(signature = (timeout_ms=Some(5000.0)), text_signature = "($self, timeout_ms=5000)")]
    fn receive_response<'py>(&self, py: Python<'py>, timeout_ms: Option<f64>) -> PyResult<Bound<'py, Frame>> {
        self.receive(py, timeout_ms, |slice| self.client.receive_response(slice))
    }

    /// As `receive_response`, for the response to one request alone.
    ///
    /// Raises:
    ///     As `receive_response`; InvalidStateError if its outcome has been handed out, or there was no such request.
    #[pyo3(signature = (sequence, timeout_ms=Some(5000.0)), text_signature = "($self, sequence, timeout_ms=5000)")]
    fn receive_response_to<'py>(
        &self,
        py: Python<'py>,
        sequence: u64,
        timeout_ms: Option<f64>,
    ) -> PyResult<Bound<'py, Frame>> {
        self.receive(py, timeout_ms, |slice| self.client.receive_response_to(sequence, slice))
    }

    /// Sends a request and waits for its own response, whoever else sends and receives.
    ///
    /// Args:
    ///     data: As for `send_request`.
    ///     timeout_ms: For all of it; also the request's deadline.
    ///
    /// Raises:
    ///     RequestFailedError: if the handler failed; with its words.
    ///     DeadlineExceededError: if no response came in time. CancelledError. All those of `send_request`.
    #[pyo3(signature = (data, timeout_ms=Some(5000.0)), text_signature = "($self, data, timeout_ms=5000)")]
    fn call<'py>(
        &self,
        py: Python<'py>,
        data: &Bound<'py, PyAny>,
        timeout_ms: Option<f64>,
    ) -> PyResult<Bound<'py, Frame>> {
        let data = Owned::of(data, "call")?;
        let timeout = duration(timeout_ms)?;
        let deadline = Instant::now().checked_add(timeout);
        let mut pending: Option<PendingCall> = None;
        let response = in_slices(py, Duration::MAX, |slice| {
            if let Some(call) = &mut pending {
                return Ok(call.wait(slice)?.map(Some));
            }
            let left =
                deadline.map_or(timeout, |deadline| deadline.saturating_duration_since(Instant::now()));
            match unless_full(self.client.start_call(data.as_ref(), left))? {
                Some(call) => Ok(pending.insert(call).wait(slice)?.map(Some)),
                None if left.is_zero() => Ok(Some(None)),
                None => Ok(None),
            }
        });
        if let Some(call) = pending {
            // Gives the request up if it is still under way.
            py.detach(|| drop(call));
        }
        match response?.flatten() {
            Some(response) => requests::response(py, response),
            None => Err(self.full(py, timeout)),
        }
    }

    /// For `zerobuffer.duplex`: starts a call whose outcome `deliver` is called with, on any thread: a frame, or an exception.
    fn _start_call(
        &self,
        data: &Bound<'_, PyAny>,
        timeout_ms: Option<f64>,
        deliver: Py<PyAny>,
    ) -> PyResult<AsyncCall> {
        let py = data.py();
        let call = self.client.call_async(Owned::of(data, "call_async")?, duration(timeout_ms)?);
        let task = Box::pin(async move {
            let outcome = call.await;
            Python::try_attach(|py| {
                let result = match outcome {
                    Ok(response) => requests::response(py, response).map(Bound::into_any),
                    Err(error) => exception(py, &error),
                };
                // Fails when the loop has been closed: then nobody waits.
                if let Err(error) = result.and_then(|result| deliver.call1(py, (result,))) {
                    log::debug!("the outcome of a call has nobody to go to: {error}");
                }
            });
        });
        Ok(AsyncCall(py.detach(|| Running::start(task))))
    }

    /// Cancels a request: its outcome is CancelledError, at once. Says whether it was still under way.
    ///
    /// Raises:
    ///     Whatever ended the channel.
    fn cancel_request(&self, py: Python<'_>, sequence: u64) -> PyResult<bool> {
        py.detach(|| self.client.cancel_request(sequence)).map_err(|error| raise(py, error))
    }

    /// Whether the server lives and reads requests.
    #[getter]
    fn is_server_connected(&self, py: Python<'_>) -> bool {
        py.detach(|| self.client.is_server_connected())
    }

    /// Describes this client to the server, whose `on_init` gets the bytes before the next request. At most once.
    ///
    /// Raises:
    ///     MetadataAlreadyWrittenError, MetadataTooLargeError, or whatever ended the channel.
    fn set_metadata(&self, py: Python<'_>, metadata: &Bound<'_, PyAny>) -> PyResult<()> {
        let bytes = Bytes::of(metadata, "set_metadata")?.as_slice().to_vec();
        let set = in_slices(py, self.request_timeout, |_| unless_full(self.client.set_metadata(&bytes)))?;
        set.ok_or_else(|| self.full(py, self.request_timeout))
    }

    /// Closes the client, whatever other threads wait for: they get ClosedError. Responses still held stay valid. More than
    /// once does no harm.
    fn close(&self, py: Python<'_>) {
        let acquired = self.acquired.lock().take();
        let request = acquired.map(|acquired| acquired.end_view(py));
        py.detach(|| {
            drop(request);
            self.client.close();
        });
        logging::flush(py);
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) {
        self.close(py);
    }

    fn __repr__(&self) -> String {
        format!("<zerobuffer.duplex.DuplexClient '{}'>", self.client.channel())
    }
}

impl Drop for DuplexClient {
    fn drop(&mut self) {
        // Its end waits for whoever reads, who may want the GIL.
        let (client, acquired) = (Arc::clone(&self.client), self.acquired.lock().take());
        let _ = Python::try_attach(|py| {
            let request = acquired.map(|acquired| acquired.end_view(py));
            py.detach(|| {
                drop(request);
                client.close();
            });
        });
    }
}

/// A call under way; for `zerobuffer.duplex`.
#[pyclass(frozen, module = "zerobuffer._native")]
pub(crate) struct AsyncCall(Arc<Running>);

#[pymethods]
impl AsyncCall {
    /// Withdraws the request.
    fn cancel(&self, py: Python<'_>) {
        py.detach(|| self.0.cancel());
    }
}
