//! The two kinds of servers: one answers with bytes of its own, one changes the request in place.

use std::fmt;
use std::sync::{Arc, Mutex};

use super::pool;
use super::request::{MutableFrame, Request};
use super::responder::Responder;
use super::responses::{Address, Answer};
use super::run::{Callbacks, Job, Names, Run};
use super::{HandlerError, ProcessingMode, Reply, buffer_names, lock};
use crate::config::BufferConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::os;
use crate::reader::Reader;

/// What both kinds are made of.
pub(crate) struct Server {
    names: Arc<Names>,
    generation: u64,
    config: BufferConfig,
    callbacks: Arc<Callbacks>,
    current: Mutex<Current>,
}

struct Current {
    /// The request buffer before the first start.
    created: Option<Reader>,
    run: Option<Arc<Run>>,
    pool_size: usize,
}

impl Server {
    fn create(channel: &str, config: BufferConfig) -> Result<Server> {
        let (requests, responses) = buffer_names(channel)?;
        let created = Reader::create(&requests, config.clone())?;
        let names = Names { channel: channel.into(), requests: requests.into(), responses: responses.into() };
        Ok(Server {
            names: Arc::new(names),
            generation: os::fork_generation(),
            config,
            callbacks: Arc::default(),
            current: Mutex::new(Current {
                created: Some(created),
                run: None,
                pool_size: pool::default_size(),
            }),
        })
    }

    /// Refuses to work in a forked child, whose copy of a lock may be held by a thread that is not there.
    fn check_mine(&self) -> Result<()> {
        if self.generation == os::fork_generation() {
            return Ok(());
        }
        let message = "this server belongs to the process that forked this one; create one of your own";
        Err(Error::channel(ErrorKind::InvalidState, &self.names.channel, message))
    }

    fn start(&self, mode: ProcessingMode, job: Job) -> Result<()> {
        let single = mode == ProcessingMode::SingleThread;
        self.start_with(single, |run, pool_size| match mode {
            ProcessingMode::SingleThread => {
                run.spawn(move |run| run.read(|request, to| job(run, request, to)))
            }
            ProcessingMode::ThreadPool => pool::start(run, &job, pool_size),
        })
    }

    /// Makes a new run, whose threads `start` starts.
    pub(crate) fn start_with(
        &self,
        single: bool,
        start: impl FnOnce(&Arc<Run>, usize) -> Result<()>,
    ) -> Result<()> {
        self.check_mine()?;
        let mut current = lock(&self.current);
        if current.run.as_ref().is_some_and(|run| run.is_running()) {
            let message = "the server runs already: stop it first";
            return Err(Error::channel(ErrorKind::InvalidState, &self.names.channel, message));
        }
        let reader = match current.created.take() {
            Some(reader) => reader,
            None => Reader::create(&self.names.requests, self.config.clone())?,
        };
        let (names, callbacks) = (Arc::clone(&self.names), Arc::clone(&self.callbacks));
        let run = Arc::new(Run::new(names, self.config.clone(), callbacks, reader, single));
        let started = start(&run, current.pool_size);
        if let Err(error) = started {
            let _ = run.stop();
            return Err(error);
        }
        current.run = Some(run);
        Ok(())
    }

    fn stop(&self) -> Result<()> {
        self.check_mine()?;
        let mut current = lock(&self.current);
        // One that has never been started has a request buffer all the same.
        let (run, created) = (current.run.take(), current.created.take());
        drop(current);
        drop(created);
        run.map_or(Ok(()), |run| run.stop())
    }

    fn is_running(&self) -> bool {
        self.check_mine().is_ok() && lock(&self.current).run.as_ref().is_some_and(|run| run.is_running())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A busy handler has been told, and ends by itself. In a forked child the server stays the parent's.
        let _ = self.stop();
    }
}

/// Runs a handler; its failure, or panic, is an answer too.
fn guarded<T>(
    run: &Run,
    to: Address,
    handler: impl FnOnce() -> std::result::Result<T, HandlerError>,
) -> std::result::Result<T, Answer<'static>> {
    // To put an error into words, and to drop it, is the user's code too.
    let message = match run.guard(|| handler().map_err(|error| error.to_string())) {
        Ok(Ok(reply)) => return Ok(reply),
        Ok(Err(words)) | Err(words) => words,
    };
    run.report_failure(to.sequence, &message);
    Err(Answer::Failed(message.into()))
}

/// Runs a handler that owns its request, and sends what it answers.
fn answer_owned<R: AsRef<[u8]>>(
    run: &Run,
    to: Address,
    handler: impl FnOnce() -> std::result::Result<R, HandlerError>,
) {
    let reply = match guarded(run, to, handler) {
        Ok(reply) => reply,
        Err(failed) => return run.answer(to, &failed),
    };
    // To look at the owner, and to drop it, is the user's code too.
    let mut answered = false;
    let sent = run.guard(|| {
        let bytes = reply.as_ref();
        answered = true;
        run.answer(to, &Answer::Bytes(bytes.into()));
        drop(reply);
    });
    if let Err(words) = sent {
        run.report_failure(to.sequence, &words);
        if !answered {
            run.answer(to, &Answer::Failed(words.into()));
        }
    }
}

macro_rules! common_methods {
    () => {
        /// The channel's name.
        pub fn channel(&self) -> &str {
            &self.0.names.channel
        }

        /// Stops the server: clients learn of it at once, and both buffers' names are free. It can be started again.
        ///
        /// # Errors
        ///
        /// `HandlerBusy` if a handler is still running after 80 ms: it has been told by
        /// [`is_cancelled`](Request::is_cancelled), its answer goes nowhere, and its thread ends when it returns.
        pub fn stop(&self) -> Result<()> {
            self.0.stop()
        }

        /// Whether requests are being processed.
        pub fn is_running(&self) -> bool {
            self.0.is_running()
        }

        /// Sets what is called, on a thread of the server, when a handler fails, an answer cannot be sent, or the request
        /// buffer had to be made anew. The server goes on, except when another process has taken its name.
        pub fn on_error(&self, callback: impl Fn(&Error) + Send + Sync + 'static) {
            self.0.callbacks.set_error(Arc::new(callback));
        }

        /// Sets what is called with the metadata of each client that sets some, before its next request is handled.
        pub fn on_init(&self, callback: impl Fn(&[u8]) + Send + Sync + 'static) {
            self.0.callbacks.set_init(Arc::new(callback));
        }

        /// Sets the number of threads of [`ProcessingMode::ThreadPool`], for the next start. At least 1.
        pub fn set_pool_size(&self, threads: usize) {
            lock(&self.0.current).pool_size = threads.max(1);
        }
    };
}

/// A server whose handler reads each request and answers with bytes of its own.
///
/// It outlives its clients: when one leaves or dies it takes the next. Dropping it stops it.
///
/// ```
/// use std::time::Duration;
/// use zerobuffer::{BufferConfig, ErrorKind};
/// use zerobuffer::duplex::{DuplexChannelFactory, ProcessingMode};
///
/// # let name = format!("doc-immutable-{}", std::process::id());
/// let factory = DuplexChannelFactory::new();
/// let server = factory.create_immutable_server(&name, BufferConfig::default())?;
/// server.on_error(|error| eprintln!("{error}"));
/// server.start(
///     |request| {
///         let text = std::str::from_utf8(request)?; // an error fails this request alone
///         Ok(text.trim().as_bytes().into()) // borrowed from the request, or a Vec
///     },
///     ProcessingMode::SingleThread,
/// )?;
/// let client = factory.create_client(&name)?;
/// assert_eq!(*client.call(b" padded  ", Duration::from_secs(5))?, *b"padded");
/// # client.close();
/// server.stop()?;
/// # Ok::<(), zerobuffer::Error>(())
/// ```
pub struct ImmutableDuplexServer(pub(crate) Server);

impl ImmutableDuplexServer {
    pub(crate) fn create(channel: &str, config: BufferConfig) -> Result<ImmutableDuplexServer> {
        Server::create(channel, config).map(ImmutableDuplexServer)
    }

    /// Starts processing, on threads of its own, and returns at once. The response carries the request's sequence number.
    ///
    /// An error or panic of the handler reaches the client as `RequestFailed`, for that request alone, and `on_error`.
    /// A 1.x client gets a single zero byte instead, as for an empty answer: it would take a response left out for a
    /// broken stream.
    ///
    /// # Errors
    ///
    /// `InvalidState` if it runs; after a stop as [`crate::Reader::create`]; `System`.
    pub fn start<F>(&self, handler: F, mode: ProcessingMode) -> Result<()>
    where
        F: for<'a> Fn(&'a Request) -> std::result::Result<Reply<'a>, HandlerError> + Send + Sync + 'static,
    {
        let job = move |run: &Run, request: Request, to: Address| {
            if run.admits(&request, to) {
                let answer = guarded(run, to, || handler(&request));
                run.answer(to, &answer.map_or_else(|failed| failed, Answer::Bytes));
            }
        };
        self.0.start(mode, Arc::new(job))
    }

    /// As [`ImmutableDuplexServer::start`], with a handler that owns the request and may keep it for longer than it runs,
    /// as language bindings must, and that answers with any owner of bytes.
    ///
    /// # Errors
    ///
    /// As [`ImmutableDuplexServer::start`].
    pub fn start_owned<F, R>(&self, handler: F, mode: ProcessingMode) -> Result<()>
    where
        F: Fn(Request) -> std::result::Result<R, HandlerError> + Send + Sync + 'static,
        R: AsRef<[u8]>,
    {
        let job = move |run: &Run, request: Request, to: Address| {
            if run.admits(&request, to) {
                answer_owned(run, to, || handler(request));
            }
        };
        self.0.start(mode, Arc::new(job))
    }

    /// As [`ImmutableDuplexServer::start`], for handlers that answer while they run, with bytes that need not outlive the
    /// call: what language bindings rest on, whose handlers own the bytes. A handler that answers nothing answers with no
    /// bytes. A failure after the answer is told to `on_error` alone.
    ///
    /// # Errors
    ///
    /// As [`ImmutableDuplexServer::start`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use zerobuffer::BufferConfig;
    /// use zerobuffer::duplex::{DuplexChannelFactory, ProcessingMode};
    ///
    /// # let name = format!("doc-responding-{}", std::process::id());
    /// let factory = DuplexChannelFactory::new();
    /// let server = factory.create_immutable_server(&name, BufferConfig::default())?;
    /// server.start_responding(
    ///     |request, responder| {
    ///         let sum: u8 = request.iter().sum();
    ///         responder.reply(&[sum])?; // borrowed from the handler
    ///         Ok(())
    ///     },
    ///     ProcessingMode::SingleThread,
    /// )?;
    /// let client = factory.create_client(&name)?;
    /// assert_eq!(*client.call(&[1, 2, 3], Duration::from_secs(5))?, [6]);
    /// # client.close();
    /// # server.stop()?;
    /// # Ok::<(), zerobuffer::Error>(())
    /// ```
    pub fn start_responding<F>(&self, handler: F, mode: ProcessingMode) -> Result<()>
    where
        F: Fn(&Request, &mut Responder<'_>) -> std::result::Result<(), HandlerError> + Send + Sync + 'static,
    {
        let job = move |run: &Run, request: Request, to: Address| {
            if run.admits(&request, to) {
                let mut responder = Responder::new(run, to);
                let failed = guarded(run, to, || handler(&request, &mut responder)).err();
                if !responder.is_answered() {
                    run.answer(to, &failed.unwrap_or(Answer::Bytes(Reply::Borrowed(&[]))));
                }
            }
        };
        self.0.start(mode, Arc::new(job))
    }

    common_methods!();
}

/// A server whose handler changes each request in place, in shared memory; the response carries the changed bytes, at the
/// cost of one copy.
///
/// It outlives its clients: when one leaves or dies it takes the next. Dropping it stops it. See [`MutableFrame`] for an
/// example.
pub struct MutableDuplexServer(Server);

impl MutableDuplexServer {
    pub(crate) fn create(channel: &str, config: BufferConfig) -> Result<MutableDuplexServer> {
        Server::create(channel, config).map(MutableDuplexServer)
    }

    /// Starts processing, on threads of its own, and returns at once; see [`ImmutableDuplexServer::start`].
    ///
    /// # Errors
    ///
    /// As [`ImmutableDuplexServer::start`].
    pub fn start<F>(&self, handler: F, mode: ProcessingMode) -> Result<()>
    where
        F: Fn(&mut MutableFrame) -> std::result::Result<(), HandlerError> + Send + Sync + 'static,
    {
        let job = move |run: &Run, request: Request, to: Address| {
            if run.admits(&request, to) {
                let mut frame = MutableFrame::new(request);
                match guarded(run, to, || handler(&mut frame)) {
                    Ok(()) => run.answer(to, &Answer::Bytes((&*frame).into())),
                    Err(failed) => run.answer(to, &failed),
                }
            }
        };
        self.0.start(mode, Arc::new(job))
    }

    /// As [`MutableDuplexServer::start`], with a handler that owns the request and may keep it for longer than it runs, as
    /// language bindings must. It gives an owner of the response's bytes, which usually is the frame.
    ///
    /// # Errors
    ///
    /// As [`ImmutableDuplexServer::start`].
    pub fn start_owned<F, R>(&self, handler: F, mode: ProcessingMode) -> Result<()>
    where
        F: Fn(MutableFrame) -> std::result::Result<R, HandlerError> + Send + Sync + 'static,
        R: AsRef<[u8]>,
    {
        let job = move |run: &Run, request: Request, to: Address| {
            if run.admits(&request, to) {
                answer_owned(run, to, || handler(MutableFrame::new(request)));
            }
        };
        self.0.start(mode, Arc::new(job))
    }

    common_methods!();
}

impl fmt::Debug for ImmutableDuplexServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImmutableDuplexServer").field("channel", &self.channel()).finish()
    }
}

impl fmt::Debug for MutableDuplexServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MutableDuplexServer").field("channel", &self.channel()).finish()
    }
}
