//! The responses that clients get.

use std::fmt;
use std::ops::Deref;

use crate::duplex::port::{Frame, flags};

/// A response, in place in the response buffer; its space is given back when it is dropped.
///
/// Responses may be dropped in any order and on any thread. A client that keeps too many of them stops its
/// server.
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
    frame: Frame,
}

impl Response {
    pub(crate) fn new(frame: Frame) -> Response {
        Response { frame }
    }

    /// The sequence number of the request that this answers.
    pub fn sequence(&self) -> u64 {
        self.frame.sequence()
    }

    /// Bytes of data; may be 0.
    pub fn len(&self) -> usize {
        if self.is_empty() { 0 } else { self.frame.len() }
    }

    /// Whether the server answered with no bytes.
    pub fn is_empty(&self) -> bool {
        self.frame.flags() & flags::EMPTY != 0
    }
}

impl Deref for Response {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.frame[..self.len()]
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
