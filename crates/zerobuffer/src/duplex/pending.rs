//! A call in steps.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::client::DuplexClient;
use super::due::Due;
use super::inbox::{Entry, Wants};
use super::link::Link;
use super::lock;
use super::response::Response;
use crate::error::Result;
use crate::os;

/// A request under way, whose response is waited for in steps; see [`DuplexClient::start_call`]. Dropping it gives the
/// request up.
pub struct PendingCall {
    link: Arc<Link>,
    sequence: u64,
    due: Due,
    done: bool,
}

impl DuplexClient {
    /// The first half of [`DuplexClient::call`], for callers that must look after something else while they wait, as
    /// language bindings do after signals. `timeout` is the request's deadline.
    ///
    /// Waits for space up to [`ClientOptions::request_timeout`](super::ClientOptions::request_timeout).
    ///
    /// # Errors
    ///
    /// As [`DuplexClient::send_request`].
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
        let link = &self.link;
        link.check_mine()?;
        let due = link.due(timeout);
        let sequence = match link.try_send(data, due, os::coarse_now(), Some(Entry::new(due, true)))? {
            Some(sent) => {
                link.set_place(sent);
                sent.sequence
            }
            None => link.send(data, due, true, Due::after(self.request_timeout))?,
        };
        Ok(PendingCall::new(Arc::clone(link), sequence, due))
    }
}

impl PendingCall {
    /// Of a request that has been sent, and has an entry.
    pub(crate) fn new(link: Arc<Link>, sequence: u64, due: Due) -> PendingCall {
        PendingCall { link, sequence, due, done: false }
    }

    /// The request's sequence number.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Waits up to `limit` for the response; `None` if it has not come by then, and may still come.
    ///
    /// # Errors
    ///
    /// As [`DuplexClient::call`], once; from then on InvalidState.
    pub fn wait(&mut self, limit: Duration) -> Result<Option<Response>> {
        self.link.check_mine()?;
        let left = self.due.left();
        let until = Due::after(left.unwrap_or_default().min(limit));
        match self.link.wait(Wants::One(self.sequence), until) {
            Ok(None) if left.is_none() => {
                self.give_up();
                Err(self.link.too_late(self.sequence))
            }
            Ok(None) => Ok(None),
            outcome => {
                self.done = true;
                outcome
            }
        }
    }

    fn give_up(&mut self) {
        if std::mem::replace(&mut self.done, true) || self.link.check_mine().is_err() {
            return;
        }
        let entry = lock(&self.link.inbox).entries.remove(&self.sequence);
        self.link.withdraw(entry.and_then(|entry| entry.place));
    }
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl fmt::Debug for PendingCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingCall").field("sequence", &self.sequence).finish()
    }
}
