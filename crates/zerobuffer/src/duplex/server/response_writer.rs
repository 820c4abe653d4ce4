//! Answers that their handler fills in place.
//!
//! The response buffer has one writer. Where one thread runs all handlers and no answer is deferred, the handler gets that
//! writer until it has committed. Elsewhere it would keep other answers waiting for as long as it likes, so it gets memory of
//! this process, which is copied once at the commit.

use std::cell::Cell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::answer::{Address, Answer};
use super::run::Run;
use super::send::Lent;
use crate::error::{Error, ErrorKind, Result};
use crate::writer::MemoryGuard;

/// The most bytes of private memory that a thread keeps for its next answer: a picture of 4096 x 4096 pixels.
const KEPT: usize = 64 << 20;

thread_local! {
    /// Private memory of an earlier answer, and the client that it was for.
    static KEPT_MEMORY: Cell<(u64, Vec<u8>)> = const { Cell::new((0, Vec::new())) };
}

/// Writes the answer to one request, usually in place; see [`ImmutableDuplexServer::start_in_place`].
///
/// ```
/// use std::time::Duration;
/// use zerobuffer::BufferConfig;
/// use zerobuffer::duplex::{DuplexChannelFactory, ProcessingMode};
///
/// # let name = format!("doc-response-writer-{}", std::process::id());
/// let factory = DuplexChannelFactory::new();
/// let server = factory.create_immutable_server(&name, BufferConfig::default())?;
/// server.start_in_place(
///     |request, response| {
///         let mut negative = response.acquire(request.len())?;
///         negative.iter_mut().zip(request.iter()).for_each(|(new, old)| *new = 255 - old);
///         negative.commit()?;
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
///
/// [`ImmutableDuplexServer::start_in_place`]: super::ImmutableDuplexServer::start_in_place
pub struct ResponseWriter<'a> {
    run: &'a Run,
    to: Address,
    acquired: Option<Acquired>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// The handler has given no answer so far.
    Open,
    /// It has acquired bytes, and discarded them.
    Discarded,
    Answered,
}

/// The bytes that the handler fills.
enum Acquired {
    /// Bytes of the response buffer.
    InPlace { lent: Lent, len: usize },
    /// The first bytes of this memory.
    Private { memory: Vec<u8>, len: usize },
}

impl Acquired {
    fn len(&self) -> usize {
        let (Acquired::InPlace { len, .. } | Acquired::Private { len, .. }) = self;
        *len
    }
}

impl<'a> ResponseWriter<'a> {
    pub(crate) fn new(run: &'a Run, to: Address) -> ResponseWriter<'a> {
        ResponseWriter { run, to, acquired: None, state: State::Open }
    }

    /// Lends `len` bytes for the answer, to be filled and committed. Their first content is undefined.
    ///
    /// They are bytes of the response buffer where one thread runs all handlers and no answer is deferred. Waits for space there
    /// for as long as the client lives. In a thread pool they are memory of this process, which is copied once at the commit; so
    /// they are where the client has gone or the server is being stopped, and the answer is then dropped.
    ///
    /// # Errors
    ///
    /// `FrameTooLarge` if the response buffer is too small; `OutOfMemory`; `InvalidState` if the request has been answered or
    /// deferred.
    pub fn acquire(&mut self, len: usize) -> Result<ResponseMut<'_, 'a>> {
        self.acquire_buffer(len)?;
        Ok(ResponseMut { response: self })
    }

    /// Acquires `len` bytes without a guard, for language bindings; then [`ResponseWriter::acquired`], and
    /// [`ResponseWriter::commit`] or [`ResponseWriter::discard`].
    ///
    /// # Errors
    ///
    /// Those of [`ResponseWriter::acquire`]; `InvalidState` if bytes are acquired already.
    pub fn acquire_buffer(&mut self, len: usize) -> Result<()> {
        if !self.acquire_in_place(len)? {
            self.acquired = Some(Acquired::Private { memory: take_memory(self.to.client, len), len });
        }
        Ok(())
    }

    /// Acquires `len` bytes of the response buffer. Returns `false` if the answer cannot be filled in place. For language
    /// bindings that have memory of their own for that case, and [`write`](ResponseWriter::write) it; if they do not, the request
    /// fails.
    ///
    /// # Errors
    ///
    /// Those of [`ResponseWriter::acquire_buffer`].
    pub fn acquire_in_place(&mut self, len: usize) -> Result<bool> {
        self.check_open()?;
        // A frame has at least one byte.
        let lent = if len > 0 { self.run.acquire(self.to, len)? } else { None };
        if lent.is_none() {
            self.run.check_size(len)?;
        }
        self.state = State::Discarded;
        self.acquired = lent.map(|lent| Acquired::InPlace { lent, len });
        Ok(self.acquired.is_some())
    }

    /// The bytes acquired, if any.
    pub fn acquired(&mut self) -> Option<&mut [u8]> {
        match self.acquired.as_mut()? {
            Acquired::InPlace { lent, .. } => lent.writer.acquired(),
            Acquired::Private { memory, len } => memory.get_mut(..*len),
        }
    }

    fn acquired_ref(&self) -> Option<&[u8]> {
        match self.acquired.as_ref()? {
            Acquired::InPlace { lent, .. } => lent.writer.acquired_ref(),
            Acquired::Private { memory, len } => memory.get(..*len),
        }
    }

    /// A guard that keeps bytes of the response buffer mapped, for language bindings in which a view of them may outlive the
    /// handler. `None` if no bytes of it are acquired.
    pub fn memory_guard(&self) -> Option<MemoryGuard> {
        match self.acquired.as_ref()? {
            Acquired::InPlace { lent, .. } => Some(lent.writer.memory_guard()),
            Acquired::Private { .. } => None,
        }
    }

    /// Answers with the first `len` bytes acquired, all of them if `None`. `on_error` gets an error of sending.
    ///
    /// # Errors
    ///
    /// `InvalidState` if nothing is acquired; `InvalidFrameSize` if fewer bytes are (they stay acquired).
    pub fn commit(&mut self, len: Option<usize>) -> Result<()> {
        let Some(acquired) = self.acquired.take() else {
            return Err(self.error("commit without acquire: acquire bytes for the answer first"));
        };
        let most = acquired.len();
        let len = len.unwrap_or(most);
        if len > most {
            self.acquired = Some(acquired);
            let message = format!("cannot commit {len} of {most} bytes acquired");
            return Err(Error::channel(ErrorKind::InvalidFrameSize, self.run.channel(), message));
        }
        self.state = State::Answered;
        match acquired {
            Acquired::InPlace { lent, .. } => self.run.commit(self.to, lent, len),
            Acquired::Private { memory, .. } => {
                self.run.answer(self.to, &Answer::Bytes((&memory[..len]).into()));
                keep_memory(self.to.client, memory);
            }
        }
        Ok(())
    }

    /// Discards the bytes acquired, if any. The handler may acquire others, or answer by a copy; if it does neither, its
    /// request fails.
    pub fn discard(&mut self) {
        match self.acquired.take() {
            Some(Acquired::InPlace { lent, .. }) => self.run.put_back(self.to, lent),
            Some(Acquired::Private { memory, .. }) => keep_memory(self.to.client, memory),
            None => {}
        }
    }

    /// Answers with a copy of `bytes`, made at once in the response buffer. `on_error` gets an error of sending.
    ///
    /// # Errors
    ///
    /// `InvalidState` if the request has been answered or deferred, or bytes are acquired.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.check_open()?;
        self.state = State::Answered;
        self.run.answer(self.to, &Answer::Bytes(bytes.into()));
        Ok(())
    }

    /// Whether the request has been answered or deferred.
    pub fn is_answered(&self) -> bool {
        self.state == State::Answered
    }

    /// Leaves the answer to a deferred one.
    pub(crate) fn begin_deferred(&mut self) -> Result<(Arc<Run>, Address)> {
        self.check_open()?;
        let Some(run) = self.run.shared() else { return Err(self.error("the server has ended")) };
        self.state = State::Answered;
        run.count_deferred(false);
        Ok((run, self.to))
    }

    /// The handler has returned, or has failed. Answers, if it has not.
    pub(crate) fn finish(&mut self, failed: Option<Answer<'static>>) {
        self.discard();
        let answer = match (self.state, failed) {
            (State::Answered, _) => return,
            (_, Some(failed)) => failed,
            (State::Open, None) => Answer::Bytes([][..].into()),
            (State::Discarded, None) => {
                let words = "its handler has acquired a response and committed none";
                self.run.report_failure(self.to.sequence, words);
                Answer::Failed(words.into())
            }
        };
        self.state = State::Answered;
        self.run.answer(self.to, &answer);
    }

    fn check_open(&self) -> Result<()> {
        if self.acquired.is_some() {
            return Err(self.error("bytes are acquired for the answer: commit or discard them first"));
        }
        if self.is_answered() {
            let message = format!("request {} has been answered already", self.to.sequence);
            return Err(self.error(message));
        }
        Ok(())
    }

    fn error(&self, message: impl Into<String>) -> Error {
        Error::channel(ErrorKind::InvalidState, self.run.channel(), message)
    }
}

impl Drop for ResponseWriter<'_> {
    fn drop(&mut self) {
        self.discard();
    }
}

impl fmt::Debug for ResponseWriter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let acquired = self.acquired.as_ref().map(Acquired::len);
        f.debug_struct("ResponseWriter")
            .field("sequence", &self.to.sequence)
            .field("acquired", &acquired)
            .field("answered", &self.is_answered())
            .finish()
    }
}

/// Private memory of at least `len` bytes. What an answer to another client left in it is erased.
fn take_memory(client: u64, len: usize) -> Vec<u8> {
    let (of, mut memory) = KEPT_MEMORY.take();
    if memory.len() < len {
        // Zeroed by the kernel.
        return vec![0; len];
    }
    if of != client {
        memory.fill(0);
    }
    memory
}

fn keep_memory(client: u64, memory: Vec<u8>) {
    if memory.len() <= KEPT {
        KEPT_MEMORY.set((client, memory));
    }
}

/// Bytes of an answer, lent to be filled in; see [`ResponseWriter::acquire`].
///
/// Dropping it discards them. A request whose handler then gives no other answer fails.
///
/// ```
/// use std::time::Duration;
/// use zerobuffer::BufferConfig;
/// use zerobuffer::duplex::{DuplexChannelFactory, ProcessingMode};
///
/// # let name = format!("doc-response-mut-{}", std::process::id());
/// let factory = DuplexChannelFactory::new();
/// let server = factory.create_immutable_server(&name, BufferConfig::default())?;
/// server.start_in_place(
///     |request, response| {
///         let mut words = response.acquire(1024)?; // as many as there may be
///         words[..request.len()].copy_from_slice(request);
///         words.commit_len(request.len())?;
///         Ok(())
///     },
///     ProcessingMode::SingleThread,
/// )?;
/// let client = factory.create_client(&name)?;
/// assert_eq!(*client.call(b"echo", Duration::from_secs(5))?, *b"echo");
/// # client.close();
/// # server.stop()?;
/// # Ok::<(), zerobuffer::Error>(())
/// ```
pub struct ResponseMut<'w, 'a> {
    response: &'w mut ResponseWriter<'a>,
}

impl ResponseMut<'_, '_> {
    /// Answers with all bytes. `on_error` gets an error of sending.
    ///
    /// # Errors
    ///
    /// None today; kept for answers that are refused.
    pub fn commit(self) -> Result<()> {
        self.response.commit(None)
    }

    /// Answers with the first `len` bytes. `on_error` gets an error of sending.
    ///
    /// # Errors
    ///
    /// `InvalidFrameSize` if `len` is more than was acquired: the bytes are discarded.
    pub fn commit_len(self, len: usize) -> Result<()> {
        self.response.commit(Some(len))
    }
}

impl Deref for ResponseMut<'_, '_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.response.acquired_ref().unwrap_or_default()
    }
}

impl DerefMut for ResponseMut<'_, '_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.response.acquired().unwrap_or_default()
    }
}

impl Drop for ResponseMut<'_, '_> {
    fn drop(&mut self) {
        self.response.discard();
    }
}

impl fmt::Debug for ResponseMut<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseMut").field("len", &self.len()).finish()
    }
}
