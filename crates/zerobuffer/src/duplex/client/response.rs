//! The responses that clients get.

use std::fmt;
use std::ops::Deref;

use crate::duplex::port::{Frame, flags};

/// A response, in place in the response buffer; its space is given back when it is dropped.
///
/// Responses may be dropped in any order and on any thread. A client that keeps too many of them stops its
/// server. A response that no caller had read when a request had to wait for space is a copy.
///
/// ```
/// use std::time::Duration;
/// use zerobuffer::BufferConfig;
/// use zerobuffer::duplex::{DuplexChannelFactory, ProcessingMode};
///
/// # let name = format!("doc-response-{}", std::process::id());
/// let factory = DuplexChannelFactory::new();
/// let server = factory.create_immutable_server(&name, BufferConfig::default())?;
/// server.start(|request| Ok((&**request).into()), ProcessingMode::SingleThread)?;
/// let client = factory.create_client(&name)?;
/// let sequence = client.send_request(b"ping")?;
/// let response = client.receive_response(Duration::from_secs(5))?.expect("in time");
/// assert_eq!((&*response, response.sequence()), (&b"ping"[..], sequence));
/// # drop(response);
/// # client.close();
/// # server.stop()?;
/// # Ok::<(), zerobuffer::Error>(())
/// ```
pub struct Response {
    received: Received,
}

/// A response as the client has it.
pub(crate) enum Received {
    Frame(Frame),
    /// A copy, made while no caller had read it.
    Copy {
        bytes: Box<[u8]>,
        sequence: u64,
        flags: u16,
    },
}

impl Received {
    /// Copies the response, if it is not a copy and there is memory for it. Returns whether it has been copied now.
    pub(crate) fn copy(&mut self) -> bool {
        let Received::Frame(frame) = self else { return false };
        let mut bytes = Vec::new();
        if bytes.try_reserve_exact(frame.len()).is_err() {
            return false;
        }
        bytes.extend_from_slice(frame);
        *self = Received::Copy { sequence: frame.sequence(), flags: frame.flags(), bytes: bytes.into() };
        true
    }

    pub(crate) fn is_copy(&self) -> bool {
        matches!(self, Received::Copy { .. })
    }

    pub(crate) fn flags(&self) -> u16 {
        match self {
            Received::Frame(frame) => frame.flags(),
            Received::Copy { flags, .. } => *flags,
        }
    }

    fn sequence(&self) -> u64 {
        match self {
            Received::Frame(frame) => frame.sequence(),
            Received::Copy { sequence, .. } => *sequence,
        }
    }
}

impl Deref for Received {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Received::Frame(frame) => frame,
            Received::Copy { bytes, .. } => bytes,
        }
    }
}

impl Response {
    pub(crate) fn new(received: Received) -> Response {
        Response { received }
    }

    /// The sequence number of the request that this answers.
    pub fn sequence(&self) -> u64 {
        self.received.sequence()
    }

    /// Bytes of data; may be 0.
    pub fn len(&self) -> usize {
        if self.is_empty() { 0 } else { self.received.len() }
    }

    /// Whether the server answered with no bytes.
    pub fn is_empty(&self) -> bool {
        self.received.flags() & flags::EMPTY != 0
    }
}

impl Deref for Response {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.received[..self.len()]
    }
}

impl AsRef<[u8]> for Response {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("sequence", &self.sequence()).field("len", &self.len()).finish()
    }
}
