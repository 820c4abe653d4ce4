//! A request that a thread fills in place.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use super::pending::PendingCall;
use super::response::Response;
use super::state::{ClientState, WriterSlot};
use crate::duplex::due::Due;
use crate::duplex::port::{Tag, Writer};
use crate::duplex::sync::{lock, thread};
use crate::error::{Error, ErrorKind, Result};
#[cfg(not(loom))]
use crate::writer::MemoryGuard;

/// Bytes of the request buffer, lent to be filled in; see [`DuplexClient::acquire_request_buffer`]. Dropping it discards
/// it.
///
/// ```
/// use std::time::Duration;
/// use zerobuffer::BufferConfig;
/// use zerobuffer::duplex::{DuplexChannelFactory, ProcessingMode};
///
/// # let name = format!("doc-request-buffer-{}", std::process::id());
/// let factory = DuplexChannelFactory::new();
/// let server = factory.create_immutable_server(&name, BufferConfig::default())?;
/// server.start(|request| Ok((&**request).into()), ProcessingMode::SingleThread)?;
/// let client = factory.create_client(&name)?;
/// let mut request = client.acquire_request_buffer(4)?;
/// request.copy_from_slice(b"ping");
/// let sequence = request.commit()?;
/// assert_eq!(client.receive_response(Duration::from_secs(5))?.expect("in time").sequence(), sequence);
/// # client.close();
/// # server.stop()?;
/// # Ok::<(), zerobuffer::Error>(())
/// ```
///
/// [`DuplexClient::acquire_request_buffer`]: super::DuplexClient::acquire_request_buffer
pub struct RequestBuffer {
    state: Arc<ClientState>,
    /// `Some` until committed or discarded; has the bytes acquired.
    writer: Option<Box<Writer>>,
    sequence: u64,
}

impl RequestBuffer {
    pub(crate) fn acquire(state: &Arc<ClientState>, len: usize, timeout: Duration) -> Result<RequestBuffer> {
        state.check_mine()?;
        let until = Due::after(timeout);
        let (writer, sequence) = state.take_writer(until)?;
        // Each request carries a deadline.
        let timed = Tag { deadline: 1, ..Tag::default() };
        let (mut writer, result) = state.persist(writer, until, |writer| writer.acquire_tagged(len, &timed));
        if let Err(error) = result {
            state.put_writer_back(writer);
            return Err(state.send_failed(error));
        }
        let mut sender = lock(&state.sender);
        sender.withdraw_with(&mut writer);
        sender.slot = WriterSlot::Lent { thread: thread::current().id(), marker: writer.marker() };
        if sender.closed {
            // The close waits for a thread that sends, not for one that fills a request.
            state.sender_changed.notify_all();
        }
        drop(sender);
        Ok(RequestBuffer { state: Arc::clone(state), writer: Some(writer), sequence })
    }

    /// The sequence number that the request will have.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// A guard that keeps the request buffer's memory mapped, for language bindings in which a view of the
    /// bytes may outlive this value. See [`Writer::memory_guard`].
    ///
    /// # Errors
    ///
    /// `InvalidState` if the request buffer has been committed.
    #[cfg(not(loom))]
    pub fn memory_guard(&self) -> Result<MemoryGuard> {
        match &self.writer {
            Some(writer) => Ok(writer.memory_guard()),
            None => Err(self.gone()),
        }
    }

    /// Sends the request. Returns its sequence number.
    ///
    /// # Errors
    ///
    /// `CorruptBuffer`; `Closed`, or the error that ended the channel meanwhile.
    pub fn commit(self) -> Result<u64> {
        let due = self.state.due(Duration::MAX);
        self.send(due, false)
    }

    /// Sends the request and waits up to `timeout` for its response; see [`DuplexClient::call`].
    ///
    /// # Errors
    ///
    /// Those of [`DuplexClient::call`].
    ///
    /// [`DuplexClient::call`]: super::DuplexClient::call
    pub fn call(self, timeout: Duration) -> Result<Response> {
        let state = Arc::clone(&self.state);
        let due = state.due(timeout);
        let sequence = self.send(due, true)?;
        state.finish_call(sequence, due)
    }

    /// Sends the request, for callers that do other work while they wait for the response; see
    /// [`DuplexClient::start_call`].
    ///
    /// # Errors
    ///
    /// Those of [`RequestBuffer::commit`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use zerobuffer::BufferConfig;
    /// use zerobuffer::duplex::{DuplexChannelFactory, ProcessingMode};
    ///
    /// # let name = format!("doc-start-call-in-place-{}", std::process::id());
    /// let factory = DuplexChannelFactory::new();
    /// let server = factory.create_immutable_server(&name, BufferConfig::default())?;
    /// server.start(|request| Ok((&**request).into()), ProcessingMode::SingleThread)?;
    /// let client = factory.create_client(&name)?;
    /// let mut request = client.acquire_request_buffer(4)?;
    /// request.copy_from_slice(b"ping");
    /// let mut call = request.start_call(Duration::from_secs(5))?;
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
    ///
    /// [`DuplexClient::start_call`]: super::DuplexClient::start_call
    pub fn start_call(self, timeout: Duration) -> Result<PendingCall> {
        let state = Arc::clone(&self.state);
        let due = state.due(timeout);
        let sequence = self.send(due, true)?;
        Ok(PendingCall::new(state, sequence, due))
    }

    fn gone(&self) -> Error {
        self.state.error(ErrorKind::InvalidState, "the request buffer is gone: acquire a new one")
    }

    fn send(mut self, due: Due, called: bool) -> Result<u64> {
        self.state.check_mine()?;
        self.state.check_end()?;
        let Some(mut writer) = self.writer.take() else {
            return Err(self.gone());
        };
        self.state.enter(self.sequence, due, called);
        let result = writer.commit_tagged(None, self.state.tag(self.sequence, due));
        self.state.sent(writer, self.sequence, result)
    }
}

impl Deref for RequestBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.writer.as_ref().and_then(|writer| writer.acquired_ref()).unwrap_or_default()
    }
}

impl DerefMut for RequestBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.writer.as_mut().and_then(|writer| writer.acquired()).unwrap_or_default()
    }
}

impl Drop for RequestBuffer {
    fn drop(&mut self) {
        let Some(mut writer) = self.writer.take() else { return };
        if self.state.check_mine().is_err() {
            // In a forked child the buffer belongs to the parent.
            return;
        }
        writer.discard_frame();
        self.state.put_writer_back(writer);
    }
}

impl fmt::Debug for RequestBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBuffer").field("sequence", &self.sequence).field("len", &self.len()).finish()
    }
}
