//! The client of a channel.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::buffer_names;
use super::due::Due;
use super::factory::ClientOptions;
use super::inbox::Wants;
use super::link::Link;
use super::request_buffer::RequestBuffer;
use super::response::Response;
use crate::config::WriterOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::reader::Reader;
use crate::writer::Writer;

/// How long a new client waits for its predecessor's response buffer to go: the kernel ends a killed process's two roles
/// one after the other.
const PREDECESSOR_PATIENCE: Duration = Duration::from_millis(500);
const PREDECESSOR_POLL: Duration = Duration::from_millis(1);

/// The client of a duplex channel, for any number of threads at once.
///
/// Each request has exactly one outcome, for whoever waits for it: [`DuplexClient::call`] sends and waits for its own;
/// [`DuplexClient::receive_response`] hands out, in the order of arrival, those of requests that were sent by
/// [`DuplexClient::send_request`] or [`RequestBuffer::commit`].
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
    pub(crate) link: Arc<Link>,
    pub(crate) request_timeout: Duration,
}

impl DuplexClient {
    pub(crate) fn connect(channel: &str, options: ClientOptions) -> Result<DuplexClient> {
        let (requests, responses) = buffer_names(channel)?;
        let writer = WriterOptions::default().connect_timeout(options.connect_timeout);
        let mut writer = Writer::connect_with(&requests, writer).map_err(|error| match error.kind() {
            ErrorKind::WriterAlreadyConnected => Error::channel(
                ErrorKind::WriterAlreadyConnected,
                channel,
                "another client is connected: end it first, or use another channel (each has one client at a time)",
            ),
            _ => error,
        })?;
        writer.forget_metadata();
        let start = Instant::now();
        let mut reader = loop {
            match Reader::create(&responses, options.response_config.clone()) {
                Err(error)
                    if error.kind() == ErrorKind::ReaderAlreadyConnected
                        && start.elapsed() < PREDECESSOR_PATIENCE =>
                {
                    std::thread::sleep(PREDECESSOR_POLL);
                }
                result => break result?,
            }
        };
        reader.accept_any_sequence();
        let link = Arc::new(Link::new(channel, writer, reader)?);
        Ok(DuplexClient { link, request_timeout: options.request_timeout })
    }

    /// The channel's name.
    pub fn channel(&self) -> &str {
        &self.link.channel
    }

    /// Describes this client to the server, whose `on_init` gets the bytes before the next request. At most once per
    /// client.
    ///
    /// # Errors
    ///
    /// `MetadataAlreadyWritten` (by this client, or, at a 1.x server, by an earlier one), `MetadataTooLarge`, `Closed`
    /// or whatever ended the channel.
    pub fn set_metadata(&self, metadata: &[u8]) -> Result<()> {
        let link = &self.link;
        link.check_mine()?;
        let (mut writer, _) = link.take_writer(Due::after(self.request_timeout))?;
        let result = writer.set_metadata(metadata);
        link.put_writer_back(writer);
        result
    }

    /// Copies `data` into the request buffer as one request; gives its sequence number. Its response is for
    /// [`DuplexClient::receive_response`].
    ///
    /// Waits for space up to [`ClientOptions::request_timeout`].
    ///
    /// # Errors
    ///
    /// `InvalidFrameSize` (0 bytes), `FrameTooLarge`, `BufferFull`, `OutOfMemory`; `InvalidState` if this thread has a
    /// [`RequestBuffer`]; `ReaderDead`, `WriterDead`, `Closed` and whatever else ended the channel.
    pub fn send_request(&self, data: &[u8]) -> Result<u64> {
        self.send(data, self.link.due(Duration::MAX))
    }

    /// As [`DuplexClient::send_request`], with a deadline `timeout` from now: a server that has not started with the
    /// request by then does not, and the outcome is `DeadlineExceeded`. A 1.x server pays no heed.
    ///
    /// # Errors
    ///
    /// As [`DuplexClient::send_request`].
    pub fn send_request_within(&self, data: &[u8], timeout: Duration) -> Result<u64> {
        self.send(data, self.link.due(timeout))
    }

    fn send(&self, data: &[u8], due: Due) -> Result<u64> {
        self.link.check_mine()?;
        self.link.send(data, due, false, Due::after(self.request_timeout))
    }

    /// Lends `size` bytes of the request buffer, to be filled in place and committed. Its
    /// [`sequence`](RequestBuffer::sequence) is known at once.
    ///
    /// Belongs to one thread at a time: others that want to send wait, up to [`ClientOptions::request_timeout`].
    ///
    /// # Errors
    ///
    /// As [`DuplexClient::send_request`].
    pub fn acquire_request_buffer(&self, size: usize) -> Result<RequestBuffer> {
        RequestBuffer::acquire(&self.link, size, self.request_timeout)
    }

    /// Sends a request that was filled in place; the same as [`RequestBuffer::commit`].
    ///
    /// # Errors
    ///
    /// As [`RequestBuffer::commit`].
    pub fn commit_request(&self, request: RequestBuffer) -> Result<u64> {
        request.commit()
    }

    /// Waits up to `timeout` for the next outcome that nobody else waits for, in the order of arrival. `None` when the
    /// time is over.
    ///
    /// # Errors
    ///
    /// About one request ([`Error::sequence`]): `RequestFailed`, `Cancelled`, `DeadlineExceeded`. About the channel, for
    /// every call from now on: `WriterDead` or `ReaderDead` (the server died or stopped), `Closed`, and whatever else
    /// ended it. Responses that had arrived come first.
    pub fn receive_response(&self, timeout: Duration) -> Result<Option<Response>> {
        self.link.check_mine()?;
        self.link.wait(Wants::Any, Due::after(timeout))
    }

    /// As [`DuplexClient::receive_response`], for the outcome of one request alone.
    ///
    /// # Errors
    ///
    /// As [`DuplexClient::receive_response`]; `InvalidState` if the request's outcome has been handed out, or there was no
    /// such request.
    pub fn receive_response_to(&self, sequence: u64, timeout: Duration) -> Result<Option<Response>> {
        self.link.check_mine()?;
        self.link.wait(Wants::One(sequence), Due::after(timeout))
    }

    /// Sends a request and waits for its own response, whoever else is sending and receiving. `timeout` is the request's
    /// deadline too.
    ///
    /// The thread that waits alone reads the response itself; there is no hop between threads.
    ///
    /// # Errors
    ///
    /// `RequestFailed` with the handler's message, `DeadlineExceeded` (the request is withdrawn, a late response
    /// dropped), `Cancelled`; all those of [`DuplexClient::send_request`], `BufferFull` after `timeout`.
    pub fn call(&self, data: &[u8], timeout: Duration) -> Result<Response> {
        self.link.call(data, timeout)
    }

    /// Cancels a request: its outcome is `Cancelled`, at once. Says whether it was still under way.
    ///
    /// A server of ours does not start with it any more; a handler that has can see it
    /// ([`Request::is_cancelled`](super::Request::is_cancelled)). A 1.x server goes on; its response is dropped.
    ///
    /// # Errors
    ///
    /// Whatever ended the channel.
    pub fn cancel_request(&self, sequence: u64) -> Result<bool> {
        self.link.cancel(sequence)
    }

    /// Whether the server lives and reads requests.
    pub fn is_server_connected(&self) -> bool {
        if self.link.check_mine().is_err() {
            return false;
        }
        !self.link.is_over() && !self.link.server_is_gone()
    }

    /// Closes the client, whatever other threads wait for: they get `Closed`. The channel is free for the next client.
    /// The same as dropping it; responses still held stay valid.
    pub fn close(&self) {
        self.link.close();
    }
}

impl Drop for DuplexClient {
    fn drop(&mut self) {
        self.link.close();
    }
}

impl fmt::Debug for DuplexClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DuplexClient").field("channel", &self.channel()).finish()
    }
}
