//! The descriptor of a client, which event loops poll: that of the response buffer's reader.
//!
//! A thread that leads has the reader, so an event loop cannot arm the descriptor meanwhile. It then takes the bytes out, and the
//! leader makes the descriptor ready when it has entered an outcome, and when it gives up the reader and has not read all, or bytes
//! were taken out meanwhile. It makes the descriptor, too, if a thread asks for that.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use super::DuplexClient;
use super::inbox::Wants;
use super::response::Response;
use super::state::ClientState;
use crate::duplex::due::Due;
use crate::duplex::sync::lock;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::Ordering;

/// How long to wait for the reader while other threads lead.
const PATIENCE: Duration = Duration::from_secs(5);

impl DuplexClient {
    /// A file descriptor for event loops: *ready to read* means that there may be a response for
    /// [`DuplexClient::receive_response`], or the channel's end. Poll it for reading only. It is the caller's own, and may outlive the
    /// client.
    ///
    /// Whenever it is ready, call [`DuplexClient::receive_response`] with `Duration::ZERO`. It stays ready until that returns `None`,
    /// so an edge-triggered loop calls it until then. Other threads may call at the same time.
    ///
    /// # Errors
    ///
    /// `System` if there is no file descriptor left, or no thread; `InvalidState` in a forked child; the error that ended the
    /// channel.
    ///
    /// ```
    /// use std::os::fd::AsRawFd;
    /// use std::time::Duration;
    /// use zerobuffer::BufferConfig;
    /// use zerobuffer::duplex::{DuplexChannelFactory, ProcessingMode};
    ///
    /// # let name = format!("doc-client-descriptor-{}", std::process::id());
    /// let factory = DuplexChannelFactory::new();
    /// let server = factory.create_immutable_server(&name, BufferConfig::default())?;
    /// server.start(|request| Ok(request.repeat(2).into()), ProcessingMode::SingleThread)?;
    /// let client = factory.create_client(&name)?;
    /// let descriptor = client.descriptor()?;
    /// client.send_request(b"one")?;
    /// let response = loop {
    ///     if let Some(response) = client.receive_response(Duration::ZERO)? {
    ///         break response;
    ///     }
    ///     let mut event = libc::pollfd { fd: descriptor.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    ///     // SAFETY: one valid `pollfd`.
    ///     assert_eq!(unsafe { libc::poll(&mut event, 1, 5000) }, 1);
    /// };
    /// assert_eq!(&*response, b"oneone");
    /// # drop(response);
    /// # client.close();
    /// # server.stop()?;
    /// # Ok::<(), zerobuffer::Error>(())
    /// ```
    pub fn descriptor(&self) -> Result<OwnedFd> {
        let copy = self.with_descriptor(|descriptor| descriptor.try_clone_to_owned())?;
        copy.map_err(|error| Error::os(self.channel(), "copy its descriptor", error))
    }

    /// Calls `callback` once, as soon as there may be a response for [`DuplexClient::receive_response`], or the channel's end; otherwise
    /// like [`Reader::notify`](crate::Reader::notify).
    ///
    /// # Errors
    ///
    /// Those of [`DuplexClient::descriptor`]; then the callback is dropped.
    pub fn notify(&self, callback: impl FnOnce() + Send + 'static) -> Result<()> {
        self.with_descriptor(|_| ())?;
        self.state.reader_interrupt.notify(Box::new(callback))
    }

    /// Calls a callback of [`DuplexClient::notify`] off, and drops it. Returns whether it still waited: if not, it has been called, or
    /// is being called.
    pub fn cancel_notify(&self) -> bool {
        self.state.reader_interrupt.cancel_notify()
    }

    pub(crate) fn with_descriptor<R>(&self, with: impl FnOnce(BorrowedFd<'_>) -> R) -> Result<R> {
        self.state.make_descriptor()?;
        let result = self.state.reader_interrupt.with_descriptor(with);
        result.ok_or_else(|| self.state.error(ErrorKind::Closed, "the client has been closed"))
    }
}

impl ClientState {
    /// Makes the descriptor, if there is none.
    fn make_descriptor(&self) -> Result<()> {
        self.check_mine()?;
        let start = Instant::now();
        while !self.has_descriptor() {
            self.check_end()?;
            if let Some(mut leading) = self.try_lead() {
                leading.make_descriptor()?;
                // An event loop looks at the server when it is told.
                self.watch_server();
                return Ok(());
            }
            // Release pairs with the swap in make_wanted_descriptor().
            self.wants_descriptor.store(true, Ordering::Release);
            if start.elapsed() > PATIENCE {
                let message = "other threads keep the reader: ask for the descriptor before they call";
                return Err(self.error(ErrorKind::InvalidState, message));
            }
            self.wake_leader();
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    /// For an event loop, which finds that another thread has the reader: takes the bytes out of the descriptor. If that thread still
    /// has the reader then, it will make the descriptor ready.
    pub(super) fn leave_to_leader(&self) {
        // It changes one word, as the leader does: see the drop of Leading.
        self.drained.swap(true, Ordering::AcqRel);
        self.reader_interrupt.drain_descriptor();
    }

    /// The next outcome for any caller, if there is one. Leaves the descriptor ready unless there is none.
    pub(crate) fn look_for_any(&self) -> Result<Option<Response>> {
        loop {
            if let Some(response) = self.wait(Wants::Any, Due::after(Duration::ZERO))? {
                return Ok(Some(response));
            }
            if let Some(mut leading) = self.try_lead() {
                if leading.is_armed() {
                    return Ok(None);
                }
                // Something was read, for another thread.
                continue;
            }
            self.leave_to_leader();
            if self.try_lead().is_none() {
                let outcome = lock(&self.inbox).take(Wants::Any);
                if outcome.is_none() {
                    self.check_end()?;
                }
                return outcome.map(|(sequence, outcome)| self.conclude(sequence, outcome)).transpose();
            }
        }
    }
}
