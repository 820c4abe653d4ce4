//! UNSAFE (the view of a request buffer): the client of a channel.
#![allow(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyMemoryView, PyTuple};
use zerobuffer::duplex::{self, ClientOptions, DuplexChannelFactory, PendingCall, RequestBuffer, Response};
use zerobuffer::{ErrorKind, Result};

use super::async_call::AsyncCall;
use super::link::Link;
use super::requests;
use crate::config::{BufferConfig, count};
use crate::end;
use crate::errors::{Failure, raise};
use crate::frame::Frame;
use crate::gate::{SLICE, beside, duration, in_slices};
use crate::lock::Guarded;
use crate::logging;
use crate::memory::{self, Lease, Lent};
use crate::owned::Owned;
use crate::owner::Owner;
use crate::watched::{Watch, Watched};

/// See `zerobuffer.duplex`.
#[pyclass(frozen, subclass, module = "zerobuffer._native")]
pub(crate) struct DuplexClient {
    channel: Box<str>,
    link: Arc<Link>,
    max_request_size: usize,
    request_timeout: Duration,
    /// The request that a thread is filling in place.
    acquired: Guarded<Option<Acquired>>,
    /// Views of request buffers that still exist.
    lent: Arc<AtomicUsize>,
    watch: Watch,
}

struct Acquired {
    owner: Owner,
    request: RequestBuffer,
    /// `None` for a moment, until it has been made.
    view: Option<Py<PyMemoryView>>,
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
    fn client(&self, py: Python<'_>) -> PyResult<Arc<duplex::DuplexClient>> {
        self.link.client().map_err(|failure| raise(py, failure))
    }

    fn full(&self, py: Python<'_>, timeout: Duration) -> PyErr {
        let message = format!(
            "no space for the request within {timeout:?}: the server is slower than its clients, or another thread has \
             acquired the request buffer"
        );
        raise(py, Failure::of_channel(ErrorKind::BufferFull, &self.channel, message))
    }

    /// The bytes of a request, outside of the ring: what was lent of it may be free space by now, and the very space that
    /// they are to be copied to.
    fn request(&self, data: &Bound<'_, PyAny>, caller: &str) -> PyResult<Request> {
        let owned = Owned::of(data, caller)?;
        // Relaxed: a view that this thread can use has been counted before.
        if self.lent.load(Ordering::Relaxed) == 0 {
            return Ok(Request::Object(owned));
        }
        crate::buffers::copy(owned.as_ref()).map(Request::Copy)
    }

    fn receive<'py>(
        &self,
        py: Python<'py>,
        timeout_ms: Option<f64>,
        receive: impl Fn(&duplex::DuplexClient, Duration) -> Result<Option<Response>> + Send + Sync,
    ) -> PyResult<Bound<'py, Frame>> {
        let (timeout, client) = (duration(timeout_ms)?, self.client(py)?);
        match in_slices(py, timeout, |slice| Ok(receive(&client, slice)?))? {
            Some(response) => requests::response(py, response),
            None => Bound::new(py, Frame::invalid(false)),
        }
    }

    /// Sends within the client's time-out, whatever another thread has acquired and left.
    fn send_within<T: Send>(
        &self,
        py: Python<'_>,
        mut send: impl FnMut(&duplex::DuplexClient) -> Result<T> + Send,
    ) -> PyResult<T> {
        let client = self.client(py)?;
        let sent = in_slices(py, self.request_timeout, |_| {
            self.discard_orphan();
            unless_full(send(&client))
        })?;
        sent.ok_or_else(|| self.full(py, self.request_timeout))
    }

    /// Discards what a thread that has ended was filling.
    fn discard_orphan(&self) {
        let orphan = self.acquired.with(|acquired| acquired.take_if(|acquired| acquired.owner.has_ended()));
        if let Some(orphan) = orphan {
            let request = Python::try_attach(|py| orphan.end_view(py));
            drop(request);
        }
    }

    /// Takes out the request that this thread is filling.
    fn take_acquired(&self, py: Python<'_>) -> PyResult<Acquired> {
        let acquired =
            self.acquired.with(|acquired| acquired.take_if(|acquired| acquired.owner.is_current()));
        let none = || {
            let message = "this thread has acquired no request buffer";
            raise(py, Failure::of_channel(ErrorKind::InvalidState, &self.channel, message))
        };
        acquired.ok_or_else(none)
    }
}

/// The bytes of a request.
enum Request {
    Object(Owned),
    Copy(Vec<u8>),
}

impl AsRef<[u8]> for Request {
    fn as_ref(&self) -> &[u8] {
        match self {
            Request::Object(owned) => owned.as_ref(),
            Request::Copy(bytes) => bytes,
        }
    }
}

impl Acquired {
    /// Ends the view that was handed out. Arrays and slices made of it may live on; their memory stays mapped.
    fn end_view(self, py: Python<'_>) -> RequestBuffer {
        if let Some(view) = self.view {
            // Fails while there are arrays.
            let _ = view.bind(py).call_method0("release");
        }
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
        let (request_timeout, connect_timeout) =
            (duration(request_timeout_ms)?, duration(connect_timeout_ms)?);
        let _unsettled = end::unsettled(py);
        let deadline = Instant::now().checked_add(connect_timeout);
        let client = loop {
            let left = deadline.map_or(SLICE, |deadline| deadline.saturating_duration_since(Instant::now()));
            let (options, name) = (options.clone().connect_timeout(left.min(SLICE)), channel_name.to_owned());
            // Beside this thread: the response buffer's name may be locked by another process.
            let made = beside(py, move || DuplexChannelFactory::new().create_client_with(&name, options))?;
            match made {
                Ok(client) => break client,
                Err(error) => {
                    let missing = matches!(error.kind(), ErrorKind::BufferNotFound | ErrorKind::ReaderDead);
                    if !missing
                        || left <= SLICE && deadline.is_some_and(|deadline| deadline <= Instant::now())
                    {
                        return Err(raise(py, error));
                    }
                }
            }
        };
        let max_request_size = client.max_request_size();
        let link = Link::new(py, client);
        Ok(DuplexClient {
            channel: channel_name.into(),
            link,
            max_request_size,
            request_timeout,
            acquired: Guarded::default(),
            lent: Arc::default(),
            watch: Watch::default(),
        })
    }

    /// The channel's name.
    #[getter]
    fn channel_name(&self) -> &str {
        &self.channel
    }

    /// The largest request, in bytes: the payload size of the request buffer less 16.
    #[getter]
    fn max_request_size(&self) -> usize {
        self.max_request_size
    }

    /// Copies `data` into the request buffer as one request. Its response is for `receive_response`.
    ///
    /// Args:
    ///     data: bytes, a NumPy array or another contiguous buffer; copied exactly once.
    ///     deadline_ms: If given, a server that has not started the request by then does not start it, and
    ///         the outcome is DeadlineExceededError.
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
        let (deadline, data) = (duration(deadline_ms)?, self.request(data, "send_request")?);
        self.send_within(py, |client| client.send_request_within(data.as_ref(), deadline))
    }

    /// Lends `size` bytes of the request buffer, to be filled in place. Call `commit_request()`,
    /// `call_acquired()` or `discard_request()` afterwards, on this thread. Other threads that send wait
    /// meanwhile. If a thread ends without a commit, its request is discarded.
    ///
    /// Returns:
    ///     The request's sequence number, and a writable `memoryview` (format "B", one dimension) that ends with the commit.
    ///
    /// Raises:
    ///     As `send_request`.
    fn acquire_request_buffer<'py>(
        &self,
        py: Python<'py>,
        size: &Bound<'py, PyAny>,
    ) -> PyResult<(u64, Bound<'py, PyMemoryView>)> {
        let failed = || {
            let message = format!("{size} bytes are no request's size");
            raise(py, Failure::of_channel(ErrorKind::InvalidFrameSize, &self.channel, message))
        };
        let size = count(size)?.ok_or_else(failed)?;
        let (sequence, lease) = self.send_within(py, |client| {
            let mut request = client.acquire_request_buffer(size)?;
            let keeper = Arc::new(Lent::new(request.memory_guard()?, &self.lent));
            let (start, len) = (request.as_mut_ptr(), request.len());
            // SAFETY: the guard keeps the memory mapped. The server does not look at it before the commit, and what is
            // written later can only spoil the content of requests.
            let lease = unsafe { Lease::writable(start, len, keeper) };
            let sequence = request.sequence();
            let acquired = Acquired { owner: Owner::current(), request, view: None };
            // There was none, or the core would have refused.
            drop(self.acquired.replace(Some(acquired)));
            Ok((sequence, lease))
        })?;
        let view = match Bound::new(py, lease).and_then(|lease| memory::view(&lease)) {
            Ok(view) => view,
            Err(error) => {
                let request = self.take_acquired(py)?.end_view(py);
                py.detach(|| drop(request));
                return Err(error);
            }
        };
        let kept = view.clone().unbind();
        self.acquired.with(|acquired| {
            if let Some(acquired) = acquired.as_mut().filter(|acquired| acquired.owner.is_current()) {
                acquired.view = Some(kept);
            }
        });
        Ok((sequence, view))
    }

    /// Sends the acquired request. Its response is for `receive_response`.
    ///
    /// Raises:
    ///     InvalidStateError: if this thread has acquired none. After the end of the channel, those of
    ///     `send_request`.
    fn commit_request(&self, py: Python<'_>) -> PyResult<()> {
        let request = self.take_acquired(py)?.end_view(py);
        py.detach(|| request.commit()).map(drop).map_err(|error| raise(py, error))
    }

    /// Sends the acquired request and waits for its response. Other threads may send and receive meanwhile.
    ///
    /// Args:
    ///     timeout_ms: For the response; also the request's deadline.
    ///
    /// Raises:
    ///     InvalidStateError: if this thread has acquired none. Otherwise those of `call`, except for missing
    ///     space.
    #[pyo3(signature = (timeout_ms=Some(5000.0)), text_signature = "($self, timeout_ms=5000)")]
    fn call_acquired<'py>(&self, py: Python<'py>, timeout_ms: Option<f64>) -> PyResult<Bound<'py, Frame>> {
        let timeout = duration(timeout_ms)?;
        let request = self.take_acquired(py)?.end_view(py);
        let mut call = py.detach(|| request.start_call(timeout)).map_err(|error| raise(py, error))?;
        let response = in_slices(py, Duration::MAX, |slice| Ok(call.wait(slice)?));
        // Gives the request up if it is still under way.
        py.detach(|| drop(call));
        let ended = || {
            let message = "waiting ended without an outcome";
            raise(py, Failure::of_channel(ErrorKind::System, &self.channel, message))
        };
        requests::response(py, response?.ok_or_else(ended)?)
    }

    /// Discards the acquired request.
    ///
    /// Raises:
    ///     InvalidStateError: if this thread has acquired none.
    fn discard_request(&self, py: Python<'_>) -> PyResult<()> {
        let request = self.take_acquired(py)?.end_view(py);
        py.detach(|| drop(request));
        Ok(())
    }

    /// Waits for the next response that no other call waits for, in the order of arrival.
    ///
    /// Args:
    ///     timeout_ms: Milliseconds; 0 polls once, None or a negative number waits without limit.
    ///
    /// Returns:
    ///     A frame with the request's sequence number (it may have 0 bytes); an invalid one when the time is over.
    ///
    /// Raises:
    ///     RequestFailedError, CancelledError, DeadlineExceededError: about one request, whose number is
    ///     `error.sequence`.
    ///     WriterDeadError, ReaderDeadError, ClosedError: about the channel, for every call from now on.
    #[pyo3(signature = (timeout_ms=Some(5000.0)), text_signature = "($self, timeout_ms=5000)")]
    fn receive_response<'py>(&self, py: Python<'py>, timeout_ms: Option<f64>) -> PyResult<Bound<'py, Frame>> {
        self.receive(py, timeout_ms, |client, slice| client.receive_response(slice))
    }

    /// Waits for the response to one request.
    ///
    /// Raises:
    ///     Those of `receive_response`; InvalidStateError if the outcome has been returned already, or there
    ///     was no such request.
    #[pyo3(signature = (sequence, timeout_ms=Some(5000.0)), text_signature = "($self, sequence, timeout_ms=5000)")]
    fn receive_response_to<'py>(
        &self,
        py: Python<'py>,
        sequence: &Bound<'py, PyAny>,
        timeout_ms: Option<f64>,
    ) -> PyResult<Bound<'py, Frame>> {
        let sequence = number(sequence)?;
        self.receive(py, timeout_ms, |client, slice| client.receive_response_to(sequence, slice))
    }

    /// Sends a request and waits for its response. Other threads may send and receive meanwhile.
    ///
    /// Args:
    ///     data: The request; see `send_request`.
    ///     timeout_ms: For sending and the response together; also the request's deadline.
    ///
    /// Raises:
    ///     RequestFailedError: if the handler failed; with its message.
    ///     DeadlineExceededError: if no response came in time. CancelledError. Those of `send_request`.
    #[pyo3(signature = (data, timeout_ms=Some(5000.0)), text_signature = "($self, data, timeout_ms=5000)")]
    fn call<'py>(
        &self,
        py: Python<'py>,
        data: &Bound<'py, PyAny>,
        timeout_ms: Option<f64>,
    ) -> PyResult<Bound<'py, Frame>> {
        let (timeout, data) = (duration(timeout_ms)?, self.request(data, "call")?);
        let client = self.client(py)?;
        let deadline = Instant::now().checked_add(timeout);
        let mut pending: Option<PendingCall> = None;
        let response = in_slices(py, Duration::MAX, |slice| {
            if let Some(call) = &mut pending {
                return Ok(call.wait(slice)?.map(Some));
            }
            let left =
                deadline.map_or(timeout, |deadline| deadline.saturating_duration_since(Instant::now()));
            self.discard_orphan();
            match unless_full(client.start_call(data.as_ref(), left))? {
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

    /// For `zerobuffer._aio`: the descriptor to watch while calls are under way.
    fn _watch(&self, py: Python<'_>) -> PyResult<Watched> {
        let client = self.client(py)?;
        py.detach(|| self.watch.share(|| client.descriptor())).map_err(|error| raise(py, error))
    }

    /// For `zerobuffer._aio`: takes responses, and delivers the outcomes of calls. Returns as `_next_look`.
    fn _look_for_calls(&self, py: Python<'_>) -> Option<f64> {
        // The end of the client is the outcome of its calls.
        let client = self.link.client().ok()?;
        py.detach(|| client.look_for_calls()).map(|soon| soon.as_secs_f64())
    }

    /// For `zerobuffer._aio`: in how many seconds to look at the latest; None: when the descriptor is ready.
    fn _next_look(&self) -> Option<f64> {
        let client = self.link.client().ok()?;
        client.next_look_for_calls().map(|soon| soon.as_secs_f64())
    }

    /// For `zerobuffer._aio`: starts a call whose outcome `deliver` is called with, on any thread: a frame, or an exception. The
    /// caller watches the descriptor, and checks the call when its time is over.
    fn _start_call(
        &self,
        data: &Bound<'_, PyAny>,
        timeout_ms: Option<f64>,
        deliver: Py<PyAny>,
    ) -> PyResult<AsyncCall> {
        let py = data.py();
        let (timeout, data) = (duration(timeout_ms)?, self.request(data, "call_async")?);
        let client = self.client(py)?;
        Ok(AsyncCall::start(py, client.call_in_loop(data, timeout), deliver))
    }

    /// Cancels a request: its outcome is CancelledError, at once. Returns whether it was still under way.
    ///
    /// Raises:
    ///     The error that ended the channel.
    fn cancel_request(&self, py: Python<'_>, sequence: &Bound<'_, PyAny>) -> PyResult<bool> {
        let (sequence, client) = (number(sequence)?, self.client(py)?);
        py.detach(|| client.cancel_request(sequence)).map_err(|error| raise(py, error))
    }

    /// Whether the server lives and reads requests.
    #[getter]
    fn is_server_connected(&self, py: Python<'_>) -> bool {
        py.detach(|| self.link.client().is_ok_and(|client| client.is_server_connected()))
    }

    /// Describes this client to the server, whose `on_init` gets the bytes before the next request. At most once.
    ///
    /// Raises:
    ///     MetadataAlreadyWrittenError, MetadataTooLargeError, or the error that ended the channel.
    fn set_metadata(&self, py: Python<'_>, metadata: &Bound<'_, PyAny>) -> PyResult<()> {
        let bytes = Owned::of(metadata, "set_metadata")?;
        self.send_within(py, |client| client.set_metadata(bytes.as_ref()))
    }

    /// Closes the client and unmaps its memory. Waiting calls of other threads raise ClosedError. Responses
    /// that are still held stay valid, and keep their memory mapped. A second call does nothing.
    fn close(&self, py: Python<'_>) {
        let request = self.acquired.replace(None).map(|acquired| acquired.end_view(py));
        py.detach(|| {
            drop(request);
            self.link.close();
            self.watch.close();
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
        format!("<zerobuffer.duplex.DuplexClient '{}'>", self.channel)
    }
}

impl Drop for DuplexClient {
    fn drop(&mut self) {
        // The client's end waits for threads of the core, which may want the GIL.
        end::while_dropping(|py| self.close(py));
    }
}

/// A request's sequence number.
fn number(sequence: &Bound<'_, PyAny>) -> PyResult<u64> {
    let failed = || PyValueError::new_err(format!("sequence is {sequence}, which is no request's number"));
    count(sequence)?.map(|sequence| sequence as u64).ok_or_else(failed)
}
