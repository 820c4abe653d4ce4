//! The requests that handlers get.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Instant;

use crate::duplex::due::Due;
use crate::error::Result;
use crate::frame::Frame;

/// A request, in place in the request buffer.
pub struct Request {
    frame: Frame,
    /// Made by [`Request::copy_of`]: it belongs to no server and no client.
    is_copy: bool,
}

impl Request {
    pub(crate) fn new(frame: Frame) -> Request {
        Request { frame, is_copy: false }
    }

    /// Makes a request of a copy of `bytes`, with the sequence number 1, for tests of handlers. It has no deadline and is
    /// never cancelled.
    ///
    /// # Errors
    ///
    /// Those of [`Frame::copy_of`](crate::Frame::copy_of).
    ///
    /// ```
    /// use zerobuffer::duplex::{HandlerError, Reply, Request};
    ///
    /// fn shout(request: &Request) -> Result<Reply<'_>, HandlerError> {
    ///     Ok(request.to_ascii_uppercase().into())
    /// }
    /// assert_eq!(*shout(&Request::copy_of(b"hello")?).expect("an answer"), *b"HELLO");
    /// # Ok::<(), zerobuffer::Error>(())
    /// ```
    pub fn copy_of(bytes: &[u8]) -> Result<Request> {
        Ok(Request { frame: Frame::copy_of(bytes)?, is_copy: true })
    }

    /// The sequence number that the client gave the request. Its response carries that number too.
    pub fn sequence(&self) -> u64 {
        self.frame.sequence()
    }

    /// Bytes of data.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a request is never empty: protocol 1 has no frame of 0 bytes"
    )]
    pub fn len(&self) -> usize {
        self.frame.len()
    }

    /// Whether the response is no longer wanted: the client has cancelled the request or given it up, its
    /// deadline is over, or the server has been stopped. A handler that works for long should check this
    /// regularly; it may then return any answer.
    pub fn is_cancelled(&self) -> bool {
        let orphaned = self.frame.is_orphaned() && !self.is_copy;
        orphaned || self.frame.is_cancelled() || Due(self.frame.deadline()).is_over()
    }

    /// Whether the client has cancelled the request or given it up.
    pub(crate) fn is_withdrawn(&self) -> bool {
        self.frame.is_cancelled()
    }

    /// When the client wants the response at the latest; `None` if it set no limit, or is a 1.x client.
    pub fn deadline(&self) -> Option<Instant> {
        Due(self.frame.deadline()).instant()
    }
}

impl Deref for Request {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.frame
    }
}

impl AsRef<[u8]> for Request {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("sequence", &self.sequence()).field("len", &self.len()).finish()
    }
}

/// A request that its handler changes in place, in the request buffer itself; the changed bytes are the response.
///
/// ```
/// use std::time::Duration;
/// use zerobuffer::BufferConfig;
/// use zerobuffer::duplex::{DuplexChannelFactory, ProcessingMode};
///
/// # let name = format!("doc-mutable-{}", std::process::id());
/// let factory = DuplexChannelFactory::new();
/// let server = factory.create_mutable_server(&name, BufferConfig::default())?;
/// server.start(
///     |picture| {
///         picture.iter_mut().for_each(|byte| *byte = 255 - *byte);
///         Ok(())
///     },
///     ProcessingMode::SingleThread,
/// )?;
/// let client = factory.create_client(&name)?;
/// assert_eq!(*client.call(&[0, 1, 255], Duration::from_secs(5))?, [255, 254, 0]);
/// # client.close();
/// # server.stop()?;
/// # Ok::<(), zerobuffer::Error>(())
/// ```
pub struct MutableFrame(Request);

impl MutableFrame {
    pub(crate) fn new(request: Request) -> MutableFrame {
        MutableFrame(request)
    }

    /// The frame that the response may refer to.
    pub(crate) fn frame(&self) -> &Frame {
        &self.0.frame
    }

    /// Makes a frame of a copy of `bytes`, for tests of handlers; see [`Request::copy_of`].
    ///
    /// # Errors
    ///
    /// Those of [`Frame::copy_of`](crate::Frame::copy_of).
    ///
    /// ```
    /// use zerobuffer::duplex::MutableFrame;
    ///
    /// let invert = |frame: &mut MutableFrame| frame.iter_mut().for_each(|byte| *byte = !*byte);
    /// let mut frame = MutableFrame::copy_of(&[0, 255])?;
    /// invert(&mut frame);
    /// assert_eq!(*frame, [255, 0]);
    /// # Ok::<(), zerobuffer::Error>(())
    /// ```
    pub fn copy_of(bytes: &[u8]) -> Result<MutableFrame> {
        Request::copy_of(bytes).map(MutableFrame)
    }

    /// The sequence number of the request; see [`Request::sequence`].
    pub fn sequence(&self) -> u64 {
        self.0.sequence()
    }

    /// Bytes of data, which are also those of the response.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a request is never empty: protocol 1 has no frame of 0 bytes"
    )]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the response is no longer wanted; see [`Request::is_cancelled`].
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    /// When the client wants the response at the latest; see [`Request::deadline`].
    pub fn deadline(&self) -> Option<Instant> {
        self.0.deadline()
    }
}

impl Deref for MutableFrame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for MutableFrame {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.0.frame.bytes_mut()
    }
}

impl AsRef<[u8]> for MutableFrame {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for MutableFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MutableFrame").field("sequence", &self.sequence()).field("len", &self.len()).finish()
    }
}
