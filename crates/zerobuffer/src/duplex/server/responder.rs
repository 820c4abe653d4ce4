//! Answering a request while its handler runs.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::answer::{Address, Answer};
use super::request::Request;
use super::response_writer::ResponseWriter;
use super::run::Run;
use crate::error::Result;

/// Takes the answer to one request from its handler; see [`ImmutableDuplexServer::start_responding`].
///
/// [`ImmutableDuplexServer::start_responding`]: super::ImmutableDuplexServer::start_responding
pub struct Responder<'a> {
    response: ResponseWriter<'a>,
    deferred: Option<Arc<Slot>>,
}

impl<'a> Responder<'a> {
    pub(crate) fn new(run: &'a Run, to: Address) -> Responder<'a> {
        Responder { response: ResponseWriter::new(run, to), deferred: None }
    }

    /// Defers the answer: any thread gives it later, through [`Deferred`]. Until then the request stays in
    /// the request buffer.
    ///
    /// # Errors
    ///
    /// `InvalidState` if the request has been answered or deferred, or bytes are acquired for its answer.
    ///
    /// ```
    /// use std::sync::mpsc::channel;
    /// use std::time::Duration;
    /// use zerobuffer::BufferConfig;
    /// use zerobuffer::duplex::{DuplexChannelFactory, ProcessingMode};
    ///
    /// # let name = format!("doc-deferred-{}", std::process::id());
    /// let factory = DuplexChannelFactory::new();
    /// let server = factory.create_immutable_server(&name, BufferConfig::default())?;
    /// let (later, deferred) = channel();
    /// server.start_responding(
    ///     move |_, responder| Ok(later.send(responder.defer()?)?),
    ///     ProcessingMode::SingleThread,
    /// )?;
    /// let client = factory.create_client(&name)?;
    /// let sequence = client.send_request(b"take your time")?;
    /// deferred.recv().expect("a request").reply(b"done");
    /// assert_eq!(*client.receive_response_to(sequence, Duration::from_secs(5))?.expect("in time"), *b"done");
    /// # client.close();
    /// # server.stop()?;
    /// # Ok::<(), zerobuffer::Error>(())
    /// ```
    pub fn defer(&mut self) -> Result<Deferred> {
        let (run, to) = self.response.begin_deferred()?;
        let slot = Arc::<Slot>::default();
        self.deferred = Some(Arc::clone(&slot));
        Ok(Deferred { run, to, slot, done: false })
    }

    /// The handler has returned, or has failed. Answers, if it has not. Leaves the request to the deferred answer, if the
    /// handler has deferred it.
    pub(crate) fn finish(mut self, request: Request, failed: Option<Answer<'static>>) {
        self.response.finish(failed);
        if let Some(slot) = self.deferred {
            // Objects that are not needed any more are dropped without the lock.
            let rest = slot.hold(request);
            drop(rest);
        }
    }

    /// Answers with a copy of `bytes`, made at once in the response buffer. `on_error` gets an error of
    /// sending.
    ///
    /// # Errors
    ///
    /// `InvalidState` if the request has been answered, or bytes are acquired for its answer.
    pub fn reply(&mut self, bytes: &[u8]) -> Result<()> {
        self.response.write(bytes)
    }

    /// Writes the answer in place.
    pub fn response(&mut self) -> &mut ResponseWriter<'a> {
        &mut self.response
    }

    /// Whether the request has been answered.
    pub fn is_answered(&self) -> bool {
        self.response.is_answered()
    }
}

impl fmt::Debug for Responder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder").field("response", &self.response).finish()
    }
}

/// The request of a deferred answer.
#[derive(Default)]
struct Slot(Mutex<Held>);

#[derive(Default)]
enum Held {
    /// The handler has it.
    #[default]
    Handler,
    Here(Request),
    /// The answer has been given.
    Over,
}

impl Slot {
    fn change(&self, change: impl FnOnce(&mut Held) -> Held) -> Held {
        // Nothing in the critical sections leaves it half-changed.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn hold(&self, request: Request) -> Held {
        self.change(|held| match held {
            Held::Over => Held::Here(request),
            held => std::mem::replace(held, Held::Here(request)),
        })
    }

    fn end(&self) -> Held {
        self.change(|held| std::mem::replace(held, Held::Over))
    }
}

/// The answer to a request whose handler may have returned, given on any thread; made by
/// [`Responder::defer`]. Dropping it fails the request. After a stop of the server the answer is dropped.
pub struct Deferred {
    run: Arc<Run>,
    to: Address,
    slot: Arc<Slot>,
    done: bool,
}

impl Deferred {
    /// The number of the request.
    pub fn sequence(&self) -> u64 {
        self.to.sequence
    }

    /// Answers with a copy of `bytes`, which may be those of the request. Waits for space in the response
    /// buffer. `on_error` gets an error of sending.
    pub fn reply(self, bytes: &[u8]) {
        self.answer(&Answer::Bytes(bytes.into()));
    }

    /// Fails this request only: the client gets `RequestFailed` with this message, and `on_error` gets the
    /// error.
    pub fn fail(self, message: &str) {
        self.run.report_failure(self.to.sequence, message);
        self.answer(&Answer::Failed(message.into()));
    }

    /// Whether the response is not wanted any more; see [`Request::is_cancelled`].
    pub fn is_cancelled(&self) -> bool {
        let held = self.slot.0.lock().unwrap_or_else(PoisonError::into_inner);
        self.run.is_stopping() || matches!(&*held, Held::Here(request) if request.is_cancelled())
    }

    fn answer(mut self, answer: &Answer<'_>) {
        self.done = true;
        self.run.answer(self.to, answer);
        drop(self.slot.end());
    }
}

/// Counts a deferred answer as given, whatever happens meanwhile.
struct Given<'a>(&'a Run);

impl Drop for Given<'_> {
    fn drop(&mut self) {
        self.0.count_deferred(true);
    }
}

impl Drop for Deferred {
    fn drop(&mut self) {
        let _counted = Given(&self.run);
        if !self.done {
            let words = "its handler has deferred the answer and given it up";
            self.run.report_failure(self.to.sequence, words);
            self.run.answer(self.to, &Answer::Failed(words.into()));
            drop(self.slot.end());
        }
    }
}

impl fmt::Debug for Deferred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deferred").field("sequence", &self.to.sequence).finish()
    }
}
