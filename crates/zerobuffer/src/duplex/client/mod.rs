//! The client of a channel.

#[cfg(not(loom))]
mod descriptor;
#[cfg(feature = "async")]
mod future;
#[cfg(all(feature = "async", not(loom)))]
mod in_loop;
mod in_place;
mod inbox;
mod leader;
#[cfg(all(test, loom))]
mod loom;
#[cfg(not(loom))]
mod of_thread;
mod options;
mod pending;
mod receive;
mod response;
mod send;
#[cfg(not(loom))]
mod server_watch;
mod state;
#[cfg(all(test, not(loom)))]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "async")]
pub use self::future::Call;
pub use self::in_place::RequestBuffer;
use self::inbox::Wants;
#[cfg(not(loom))]
pub use self::of_thread::ThreadRequest;
pub use self::options::ClientOptions;
pub use self::pending::PendingCall;
pub use self::response::Response;
use self::state::ClientState;
#[cfg(not(loom))]
use super::buffer_names;
use super::due::Due;
#[cfg(not(loom))]
use super::port::{Reader, Writer};
#[cfg(not(loom))]
use crate::config::WriterOptions;
use crate::error::Result;
#[cfg(not(loom))]
use crate::error::{Error, ErrorKind};
#[cfg(not(loom))]
use crate::wait::poll_until;

/// How often a new client looks whether its predecessor's response buffer is gone: the kernel ends a killed process's two
/// roles one after the other.
#[cfg(not(loom))]
const PREDECESSOR_LOOKS: u32 = 500;
#[cfg(not(loom))]
const PREDECESSOR_POLL: Duration = Duration::from_millis(1);

/// The client of a duplex channel, for any number of threads at once.
///
/// Each request has exactly one outcome: [`DuplexClient::call`] sends and waits for its own;
/// [`DuplexClient::receive_response`] returns, in the order of arrival, the outcomes of requests that were
/// sent by [`DuplexClient::send_request`] or [`RequestBuffer::commit`].
///
/// ```
/// use std::time::Duration;
/// use zerobuffer::BufferConfig;
/// use zerobuffer::duplex::{DuplexChannelFactory, ProcessingMode};
///
/// # let name = format!("doc-client-{}", std::process::id());
/// let factory = DuplexChannelFactory::new();
/// let server = factory.create_immutable_server(&name, BufferConfig::default())?;
/// server.start(|request| Ok(request.repeat(2).into()), ProcessingMode::ThreadPool)?;
/// let client = factory.create_client(&name)?;
/// std::thread::scope(|scope| {
///     for word in ["one", "two", "three"] {
///         let client = &client;
///         scope.spawn(move || {
///             let response = client.call(word.as_bytes(), Duration::from_secs(5)).expect("a response");
///             assert_eq!(*response, *word.repeat(2).as_bytes());
///         });
///     }
/// });
/// # client.close();
/// # server.stop()?;
/// # Ok::<(), zerobuffer::Error>(())
/// ```
pub struct DuplexClient {
    state: Arc<ClientState>,
    request_timeout: Duration,
}

impl DuplexClient {
    #[cfg(not(loom))]
    pub(crate) fn connect(channel: &str, options: ClientOptions) -> Result<DuplexClient> {
        let (requests, responses) = buffer_names(channel)?;
        let writer = WriterOptions::default().connect_timeout(options.connect_timeout);
        let mut writer =
            Writer::connect_with(&requests, writer).map_err(|error| no_connection(channel, error))?;
        writer.forget_metadata();
        // Responses of a mutable server refer to the bytes of their requests.
        let config = options.response_config.allow_payload_sharing(true);
        let create = || Reader::create(&responses, config.clone());
        let reader = poll_until(PREDECESSOR_LOOKS, PREDECESSOR_POLL, || match create() {
            Err(error) if error.kind() == ErrorKind::ReaderAlreadyConnected => Ok(None),
            result => result.map(Some),
        })?;
        let mut reader = reader.map_or_else(create, Ok)?;
        reader.accept_any_sequence();
        let state = ClientState::new(channel, writer, reader)?;
        Ok(DuplexClient { state, request_timeout: options.request_timeout })
    }

    /// The channel's name.
    pub fn channel(&self) -> &str {
        &self.state.channel
    }

    /// Describes this client to the server, whose `on_init` gets the bytes before the next request. At most
    /// once per client.
    ///
    /// # Errors
    ///
    /// `MetadataAlreadyWritten` (by this client, or, at a 1.x server, by an earlier one), `MetadataTooLarge`;
    /// `Closed`, or the error that ended the channel.
    pub fn set_metadata(&self, metadata: &[u8]) -> Result<()> {
        self.state.check_mine()?;
        let (mut writer, _) = self.state.take_writer(Due::after(self.request_timeout))?;
        let result = writer.set_metadata(metadata);
        self.state.put_writer_back(writer);
        result
    }

    /// The largest request, in bytes: the request buffer's payload size less a header of 16 bytes.
    pub fn max_request_size(&self) -> usize {
        self.state.max_request_size
    }

    /// Copies `data` into the request buffer as one request. Returns its sequence number. Its response is for
    /// [`DuplexClient::receive_response`].
    ///
    /// Waits for space up to [`ClientOptions::request_timeout`].
    ///
    /// # Errors
    ///
    /// `InvalidFrameSize` (0 bytes), `FrameTooLarge`, `BufferFull`, `OutOfMemory`; `InvalidState` if this
    /// thread has a [`RequestBuffer`]; `ReaderDead`, `WriterDead`, `Closed`, or another error that ended the
    /// channel.
    pub fn send_request(&self, data: &[u8]) -> Result<u64> {
        self.send(data, self.state.due(Duration::MAX))
    }

    /// Sends a request with a deadline `timeout` from now. If the server has not started the request by then,
    /// it does not start it, and the outcome is `DeadlineExceeded`. A 1.x server ignores the deadline.
    /// Otherwise like [`DuplexClient::send_request`].
    ///
    /// # Errors
    ///
    /// Those of [`DuplexClient::send_request`].
    pub fn send_request_within(&self, data: &[u8], timeout: Duration) -> Result<u64> {
        self.send(data, self.state.due(timeout))
    }

    fn send(&self, data: &[u8], due: Due) -> Result<u64> {
        self.state.check_mine()?;
        self.state.send(data, due, false, Due::after(self.request_timeout))
    }

    /// Lends `size` bytes of the request buffer, to be filled in place and committed. Its
    /// [`sequence`](RequestBuffer::sequence) is known at once.
    ///
    /// One thread at a time has a request buffer. Other threads that send wait for it, up to
    /// [`ClientOptions::request_timeout`].
    ///
    /// # Errors
    ///
    /// Those of [`DuplexClient::send_request`].
    pub fn acquire_request_buffer(&self, size: usize) -> Result<RequestBuffer> {
        RequestBuffer::acquire(&self.state, size, self.request_timeout)
    }

    /// Sends a request that was filled in place. Equivalent to [`RequestBuffer::commit`].
    ///
    /// # Errors
    ///
    /// Those of [`RequestBuffer::commit`].
    pub fn commit_request(&self, request: RequestBuffer) -> Result<u64> {
        request.commit()
    }

    /// Waits up to `timeout` for the next outcome that belongs to no other caller, in the order of arrival.
    /// Returns `None` when the time is over.
    ///
    /// # Errors
    ///
    /// About one request ([`Error::sequence`]): `RequestFailed`, `Cancelled`, `DeadlineExceeded`. About the
    /// channel, for every call from now on: `WriterDead` or `ReaderDead` (the server died or stopped),
    /// `Closed`, or another error that ended it. Responses that had arrived come first.
    pub fn receive_response(&self, timeout: Duration) -> Result<Option<Response>> {
        self.state.check_mine()?;
        #[cfg(not(loom))]
        if timeout.is_zero() && self.state.has_descriptor() {
            return self.state.look_for_any();
        }
        self.state.wait(Wants::Any, Due::after(timeout))
    }

    /// Waits up to `timeout` for the outcome of one request. Otherwise like
    /// [`DuplexClient::receive_response`].
    ///
    /// # Errors
    ///
    /// Those of [`DuplexClient::receive_response`]; `InvalidState` if the request's outcome has been returned
    /// already, or there was no such request.
    pub fn receive_response_to(&self, sequence: u64, timeout: Duration) -> Result<Option<Response>> {
        self.state.check_mine()?;
        self.state.wait(Wants::One(sequence), Due::after(timeout))
    }

    /// Sends a request and waits for its own response, while other threads may send and receive. `timeout` is the request's
    /// deadline too.
    ///
    /// If no other thread waits, this thread reads the response itself, without a switch between threads.
    ///
    /// # Errors
    ///
    /// `RequestFailed` with the handler's message, `DeadlineExceeded` (the request is withdrawn and a late
    /// response dropped), `Cancelled`; those of [`DuplexClient::send_request`], with `BufferFull` after
    /// `timeout`.
    pub fn call(&self, data: &[u8], timeout: Duration) -> Result<Response> {
        self.state.call(data, timeout)
    }

    /// The first half of [`DuplexClient::call`], for callers that do other work while they wait, such as
    /// language bindings that check for signals. `timeout` is the request's deadline.
    ///
    /// Waits for space up to [`ClientOptions::request_timeout`].
    ///
    /// # Errors
    ///
    /// Those of [`DuplexClient::send_request`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use zerobuffer::BufferConfig;
    /// use zerobuffer::duplex::{DuplexChannelFactory, ProcessingMode};
    ///
    /// # let name = format!("doc-start-call-{}", std::process::id());
    /// let factory = DuplexChannelFactory::new();
    /// let server = factory.create_immutable_server(&name, BufferConfig::default())?;
    /// server.start(|request| Ok((&**request).into()), ProcessingMode::SingleThread)?;
    /// let client = factory.create_client(&name)?;
    /// let mut call = client.start_call(b"ping", Duration::from_secs(5))?;
    /// let response = loop {
    ///     if let Some(response) = call.wait(Duration::from_millis(50))? {
    ///         break response;
    ///     }
    ///     // look after something else
    /// };
    /// assert_eq!(&*response, b"ping");
    /// # drop(response);
    /// # client.close();
    /// # server.stop()?;
    /// # Ok::<(), zerobuffer::Error>(())
    /// ```
    pub fn start_call(&self, data: &[u8], timeout: Duration) -> Result<PendingCall> {
        PendingCall::send(&self.state, data, timeout, self.request_timeout)
    }

    /// [`DuplexClient::call`] as a future that any executor can run. It sends nothing before it is first
    /// polled, and dropping it withdraws the request. The time-out runs from now and is noticed within about
    /// 10 ms.
    ///
    /// # Errors
    ///
    /// Those of [`DuplexClient::call`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use zerobuffer::BufferConfig;
    /// use zerobuffer::duplex::{DuplexChannelFactory, ProcessingMode};
    ///
    /// # let name = format!("doc-call-async-{}", std::process::id());
    /// let factory = DuplexChannelFactory::new();
    /// let server = factory.create_immutable_server(&name, BufferConfig::default())?;
    /// server.start(|request| Ok((&**request).into()), ProcessingMode::SingleThread)?;
    /// let client = factory.create_client(&name)?;
    /// let calls = ["one", "two"].map(|word| client.call_async(word, Duration::from_secs(5)));
    /// let responses = futures::executor::block_on(futures::future::try_join_all(calls))?;
    /// assert_eq!((&*responses[0], &*responses[1]), (&b"one"[..], &b"two"[..]));
    /// # drop(responses);
    /// # client.close();
    /// # server.stop()?;
    /// # Ok::<(), zerobuffer::Error>(())
    /// ```
    #[cfg(feature = "async")]
    pub fn call_async<D: AsRef<[u8]>>(&self, data: D, timeout: Duration) -> Call<D> {
        Call::new(&self.state, data, timeout, true)
    }

    /// Cancels a request: its outcome is `Cancelled`, at once. Returns whether it was still under way.
    ///
    /// A native server does not start it any more; a handler that has started can check for it
    /// ([`Request::is_cancelled`](super::Request::is_cancelled)). A 1.x server continues, and its response is
    /// dropped.
    ///
    /// # Errors
    ///
    /// The error that ended the channel.
    pub fn cancel_request(&self, sequence: u64) -> Result<bool> {
        self.state.cancel(sequence)
    }

    /// Whether the server lives and reads requests.
    pub fn is_server_connected(&self) -> bool {
        if self.state.check_mine().is_err() {
            return false;
        }
        !self.state.is_over() && !self.state.server_is_gone()
    }

    /// Closes the client, and frees the channel for the next one. Other threads that wait get `Closed`.
    /// Dropping the client closes it too. Responses that are still held stay valid.
    pub fn close(&self) {
        self.state.close();
    }
}

/// Turns an error of the request buffer into one about the channel.
#[cfg(not(loom))]
fn no_connection(channel: &str, error: Error) -> Error {
    let message = match error.kind() {
        ErrorKind::WriterAlreadyConnected => {
            "another client is connected: end it first, or use another channel (each has one client at a time)"
        }
        ErrorKind::BufferNotFound => {
            "no server runs: start it first, or give the client a connect time-out to wait for it"
        }
        ErrorKind::ReaderDead => {
            "its server has died: start a new one, or give the client a connect time-out to wait for it"
        }
        _ => return error,
    };
    Error::channel(error.kind(), channel, message)
}

impl Drop for DuplexClient {
    fn drop(&mut self) {
        self.state.close();
    }
}

impl fmt::Debug for DuplexClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DuplexClient").field("channel", &self.channel()).finish()
    }
}
