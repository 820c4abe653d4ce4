//! A request that is being filled in place.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use super::due::Due;
use super::link::Link;
use super::lock;
use super::pending::PendingCall;
use super::response::Response;
use crate::error::{ErrorKind, Result};
use crate::writer::{MemoryGuard, Writer};

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
    link: Arc<Link>,
    /// `Some` until committed or discarded; has the bytes acquired.
    writer: Option<Box<Writer>>,
    sequence: u64,
}

impl RequestBuffer {
    pub(crate) fn acquire(link: &Arc<Link>, len: usize, timeout: Duration) -> Result<RequestBuffer> {
        link.check_mine()?;
        let until = Due::after(timeout);
        let (writer, sequence) = link.take_writer(until)?;
        let (mut writer, result) = link.persist(writer, until, |writer| writer.acquire_frame_buffer(len));
        if let Err(error) = result {
            link.put_writer_back(writer);
            return Err(link.send_failed(error));
        }
        let mut sender = lock(&link.sender);
        sender.is_waiting_for_space = false;
        sender.withdraw_with(&mut writer);
        sender.acquired = Some((std::thread::current().id(), writer.marker()));
        if sender.closed {
            // The close waits for whoever waits for space.
            link.writer_free.notify_all();
        }
        drop(sender);
        Ok(RequestBuffer { link: Arc::clone(link), writer: Some(writer), sequence })
    }

    /// The sequence number that the request will have.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// A guard that keeps the request buffer's memory mapped, for language bindings: a view of the bytes may outlive this
    /// there. See [`Writer::memory_guard`].
    ///
    /// # Errors
    ///
    /// `InvalidState` if the request buffer is gone, which it is not before it has been committed.
    pub fn memory_guard(&self) -> Result<MemoryGuard> {
        match &self.writer {
            Some(writer) => Ok(writer.memory_guard()),
            None => {
                Err(self.link.error(ErrorKind::InvalidState, "the request buffer is gone: acquire a new one"))
            }
        }
    }

    /// Sends the request; gives its sequence number.
    ///
    /// # Errors
    ///
    /// `Closed` or whatever ended the channel meanwhile; `CorruptBuffer`.
    pub fn commit(self) -> Result<u64> {
        let due = self.link.due(Duration::MAX);
        self.send(due, false)
    }

    /// Sends the request and waits up to `timeout` for its response; see [`DuplexClient::call`].
    ///
    /// # Errors
    ///
    /// As [`DuplexClient::call`].
    ///
    /// [`DuplexClient::call`]: super::DuplexClient::call
    pub fn call(self, timeout: Duration) -> Result<Response> {
        let link = Arc::clone(&self.link);
        let due = link.due(timeout);
        let sequence = self.send(due, true)?;
        link.finish_call(sequence, due)
    }

    /// As [`RequestBuffer::call`], for callers that must look after something else while they wait; see
    /// [`DuplexClient::start_call`].
    ///
    /// # Errors
    ///
    /// As [`RequestBuffer::commit`].
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
        let link = Arc::clone(&self.link);
        let due = link.due(timeout);
        let sequence = self.send(due, true)?;
        Ok(PendingCall::new(link, sequence, due))
    }

    fn send(mut self, due: Due, called: bool) -> Result<u64> {
        self.link.check_mine()?;
        self.link.check_end()?;
        let Some(mut writer) = self.writer.take() else {
            return Err(self
                .link
                .error(ErrorKind::InvalidState, "the request buffer is gone: acquire a new one"));
        };
        self.link.enter(self.sequence, due, called);
        let result = writer.commit_tagged(None, self.link.tag(self.sequence, due));
        self.link.sent(writer, self.sequence, result)
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
        if self.link.check_mine().is_err() {
            // In a forked child the buffer is the parent's, and the lock may be held by a thread that is not here.
            return;
        }
        writer.discard_frame();
        self.link.put_writer_back(writer);
    }
}

impl fmt::Debug for RequestBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBuffer").field("sequence", &self.sequence).field("len", &self.len()).finish()
    }
}
