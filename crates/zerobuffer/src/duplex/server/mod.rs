//! The two kinds of servers: one answers with bytes of its own, one changes the request in place.

mod answer;
mod guarded;
mod pool;
mod request;
mod responder;
mod response_writer;
mod run;
mod send;
#[cfg(feature = "async")]
mod spawned;

use std::fmt;
#[cfg(feature = "async")]
use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;

use self::answer::{Address, Answer};
use self::guarded::{answer_owned, guarded};
pub use self::pool::MAX_POOL_SIZE;
pub use self::request::{MutableFrame, Request};
pub use self::responder::{Deferred, Responder};
pub use self::response_writer::{ResponseMut, ResponseWriter};
use self::run::{Callbacks, Job, Run};
use self::send::Names;
#[cfg(feature = "async")]
pub use self::spawned::Task;
use super::owner::Owner;
use super::sync::{Mutex, lock};
use super::{HandlerError, ProcessingMode, Reply, buffer_names};
use crate::config::BufferConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::reader::Reader;

/// The parts that both kinds share.
pub(crate) struct Server {
    names: Arc<Names>,
    owner: Owner,
    config: BufferConfig,
    callbacks: Arc<Callbacks>,
    current: Mutex<Current>,
}

struct Current {
    /// The request buffer before the first start.
    created: Option<Reader>,
    run: Option<Arc<Run>>,
    /// The last run that was stopped. Its threads keep it, as long as a handler is still running.
    stopped: Weak<Run>,
    pool_size: usize,
}

impl Server {
    fn create(channel: &str, config: BufferConfig) -> Result<Server> {
        let (requests, responses) = buffer_names(channel)?;
        let created = Reader::create(&requests, config.clone())?;
        let names = Names { channel: channel.into(), requests: requests.into(), responses: responses.into() };
        Ok(Server {
            names: Arc::new(names),
            owner: Owner::this_process(),
            config,
            callbacks: Arc::default(),
            current: Mutex::new(Current {
                created: Some(created),
                run: None,
                stopped: Weak::new(),
                pool_size: pool::default_size(),
            }),
        })
    }

    /// Fails in a forked child.
    fn check_mine(&self) -> Result<()> {
        self.owner.check(&self.names.channel, "server")
    }

    /// Starts a run with a handler. The handler is dropped here or by the last thread, and never under a
    /// lock, because dropping it runs user code.
    fn start(&self, mode: ProcessingMode, job: Job) -> Result<()> {
        let _kept_beyond_the_locks = Arc::clone(&job);
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
        let run = Arc::new_cyclic(|run| {
            Run::new(run.clone(), names, self.config.clone(), callbacks, reader, single)
        });
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
        // A server that was never started has a request buffer too.
        let (run, created) = (current.run.take(), current.created.take());
        if let Some(run) = &run {
            current.stopped = Arc::downgrade(run);
        }
        drop(current);
        drop(created);
        run.map_or(Ok(()), |run| run.stop())
    }

    fn wait(&self, timeout: Duration) -> bool {
        if self.check_mine().is_err() {
            return true;
        }
        let current = lock(&self.current);
        let run = current.run.clone().or_else(|| current.stopped.upgrade());
        drop(current);
        run.is_none_or(|run| run.wait(timeout))
    }

    fn is_running(&self) -> bool {
        self.check_mine().is_ok() && lock(&self.current).run.as_ref().is_some_and(|run| run.is_running())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A busy handler has been told, and ends by itself. In a forked child the server belongs to the
        // parent.
        let _ = self.stop();
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
        /// `HandlerBusy` if a handler is still running after 80 ms. [`is_cancelled`](Request::is_cancelled)
        /// tells the handler; its answer is dropped, and its thread ends when it returns.
        pub fn stop(&self) -> Result<()> {
            self.0.stop()
        }

        /// Waits up to `timeout` until the server has ended, with all its handlers, because another thread
        /// has stopped it or because of an error (`on_error` gets it). Returns whether it has ended: `true`
        /// at once if it was not started, and `false` at once on a thread of the server, which cannot wait
        /// for itself.
        ///
        /// ```
        /// use std::time::Duration;
        /// use zerobuffer::BufferConfig;
        /// use zerobuffer::duplex::{DuplexChannelFactory, ProcessingMode};
        ///
        /// # let name = format!("doc-wait-{}", std::process::id());
        /// let server = DuplexChannelFactory::new().create_mutable_server(&name, BufferConfig::default())?;
        /// server.start(|request| Ok(request.reverse()), ProcessingMode::SingleThread)?;
        /// std::thread::scope(|scope| {
        ///     scope.spawn(|| server.stop()); // a signal handler's thread, for example
        ///     assert!(server.wait(Duration::MAX));
        /// });
        /// # Ok::<(), zerobuffer::Error>(())
        /// ```
        pub fn wait(&self, timeout: Duration) -> bool {
            self.0.wait(timeout)
        }

        /// Whether requests are being processed.
        pub fn is_running(&self) -> bool {
            self.0.is_running()
        }

        /// Sets a function that the server calls on one of its threads when a handler fails, an answer cannot
        /// be sent, a client dies (`WriterDead`), or the request buffer had to be created again. The server
        /// continues, except when another process has taken its name.
        pub fn on_error(&self, callback: impl Fn(&Error) + Send + Sync + 'static) {
            self.0.callbacks.set_error(Arc::new(callback));
        }

        /// Sets a function that the server calls with the metadata of each client that sets some, before it
        /// handles the client's next request.
        pub fn on_init(&self, callback: impl Fn(&[u8]) + Send + Sync + 'static) {
            self.0.callbacks.set_init(Arc::new(callback));
        }

        /// Sets the number of threads of [`ProcessingMode::ThreadPool`], for the next start: 1 to
        /// [`MAX_POOL_SIZE`](crate::duplex::MAX_POOL_SIZE). 0 counts as 1; starting with more is `InvalidConfig`.
        pub fn set_pool_size(&self, threads: usize) {
            lock(&self.0.current).pool_size = threads.max(1);
        }
    };
}

/// A server whose handler reads each request and answers with bytes of its own.
///
/// It outlives its clients: when a client closes or dies, the next one can connect. Dropping the server stops it.
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
pub struct ImmutableDuplexServer(Server);

impl ImmutableDuplexServer {
    pub(crate) fn create(channel: &str, config: BufferConfig) -> Result<ImmutableDuplexServer> {
        Server::create(channel, config).map(ImmutableDuplexServer)
    }

    /// Starts processing, on threads of its own, and returns at once. The response carries the request's sequence number.
    ///
    /// An error or panic of the handler reaches the client as `RequestFailed` for that request only, and also
    /// `on_error`. A 1.x client gets a single zero byte instead, as for an empty answer, because a missing
    /// response would break its stream.
    ///
    /// # Errors
    ///
    /// `InvalidState` if it runs; `System`; after a stop, those of [`crate::Reader::create`].
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

    /// Starts processing with a handler that owns the request, may keep it after it returns, and answers with
    /// any owner of bytes. For language bindings; otherwise like [`ImmutableDuplexServer::start`].
    ///
    /// # Errors
    ///
    /// Those of [`ImmutableDuplexServer::start`].
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

    /// Starts processing with a handler that answers while it runs, with bytes that need not outlive the
    /// call. For language bindings, whose handlers own the bytes; otherwise like
    /// [`ImmutableDuplexServer::start`]. A handler that gives no answer answers with no bytes. A failure
    /// after the answer reaches only `on_error`.
    ///
    /// # Errors
    ///
    /// Those of [`ImmutableDuplexServer::start`].
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
                responder.finish(request, failed);
            }
        };
        self.0.start(mode, Arc::new(job))
    }

    /// Starts processing with a handler that writes its answer in place, in the response buffer; see [`ResponseWriter`] for an
    /// example. Otherwise like [`ImmutableDuplexServer::start`]. A handler that gives no answer answers with no bytes; but if it
    /// has acquired bytes and not committed them, its request fails. A failure after the commit reaches only `on_error`.
    ///
    /// In a thread pool the bytes are memory of this process instead, which is copied once.
    ///
    /// # Errors
    ///
    /// Those of [`ImmutableDuplexServer::start`].
    pub fn start_in_place<F>(&self, handler: F, mode: ProcessingMode) -> Result<()>
    where
        F: Fn(&Request, &mut ResponseWriter<'_>) -> std::result::Result<(), HandlerError>
            + Send
            + Sync
            + 'static,
    {
        self.start_responding(move |request, responder| handler(request, responder.response()), mode)
    }

    /// Starts processing with a handler that owns the request, may keep it after it returns, and writes its answer in place. For
    /// language bindings; otherwise like [`ImmutableDuplexServer::start_in_place`].
    ///
    /// # Errors
    ///
    /// Those of [`ImmutableDuplexServer::start`].
    pub fn start_owned_in_place<F>(&self, handler: F, mode: ProcessingMode) -> Result<()>
    where
        F: Fn(Request, &mut ResponseWriter<'_>) -> std::result::Result<(), HandlerError>
            + Send
            + Sync
            + 'static,
    {
        let job = move |run: &Run, request: Request, to: Address| {
            if run.admits(&request, to) {
                let mut response = ResponseWriter::new(run, to);
                let failed = guarded(run, to, || handler(request, &mut response)).err();
                response.finish(failed);
            }
        };
        self.0.start(mode, Arc::new(job))
    }

    /// Starts processing with an async handler. `spawn` passes each request's task to an executor. It is
    /// called on a thread of the server, so use a handle of the executor, for example `move |task| {
    /// handle.spawn(task); }` with a `tokio::runtime::Handle`.
    ///
    /// One thread of the server reads requests, and another one sends answers. Up to 1,024 requests are under
    /// way at once, if the request buffer has room for them. While more than 16 MiB of answers wait for a
    /// client that does not fetch them, no more requests are read. A task that is dropped before it is done
    /// fails its request.
    ///
    /// # Errors
    ///
    /// Those of [`ImmutableDuplexServer::start`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use zerobuffer::BufferConfig;
    /// use zerobuffer::duplex::{DuplexChannelFactory, Request};
    ///
    /// # let name = format!("doc-start-async-{}", std::process::id());
    /// let executor = futures::executor::ThreadPool::new().expect("threads");
    /// let factory = DuplexChannelFactory::new();
    /// let server = factory.create_immutable_server(&name, BufferConfig::default())?;
    /// server.start_async(
    ///     |request: Request| async move { Ok(request.to_ascii_uppercase().into()) },
    ///     move |task| executor.spawn_ok(task),
    /// )?;
    /// let client = factory.create_client(&name)?;
    /// assert_eq!(*client.call(b"hello", Duration::from_secs(5))?, *b"HELLO");
    /// # client.close();
    /// # server.stop()?;
    /// # Ok::<(), zerobuffer::Error>(())
    /// ```
    #[cfg(feature = "async")]
    pub fn start_async<F, T>(&self, handler: F, spawn: impl Fn(Task) + Send + Sync + 'static) -> Result<()>
    where
        F: Fn(Request) -> T + Send + Sync + 'static,
        T: Future<Output = std::result::Result<Reply<'static>, HandlerError>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        let spawn: Arc<dyn Fn(Task) + Send + Sync> = Arc::new(spawn);
        // Both are dropped here or by the last thread, and never under a lock, because dropping them runs
        // user code.
        let _kept_beyond_the_locks = (Arc::clone(&handler), Arc::clone(&spawn));
        self.0.start_with(false, |run, _| spawned::start(run, handler, spawn))
    }

    common_methods!();
}

/// A server whose handler changes each request in place, in shared memory. The response refers to the changed bytes, where they
/// are: without a copy, from 32 KiB on and between native peers. Elsewhere it has one copy of them.
///
/// The space of a request comes back when its client has dropped the response. So a client that keeps responses, or does not
/// fetch them, has less space for requests.
///
/// It outlives its clients: when a client closes or dies, the next one can connect. Dropping the server stops
/// it. See [`MutableFrame`] for an example.
pub struct MutableDuplexServer(Server);

impl MutableDuplexServer {
    pub(crate) fn create(channel: &str, config: BufferConfig) -> Result<MutableDuplexServer> {
        // Responses refer to the bytes of their requests.
        Server::create(channel, config.allow_payload_sharing(true)).map(MutableDuplexServer)
    }

    /// Starts processing, on threads of its own, and returns at once; see [`ImmutableDuplexServer::start`].
    ///
    /// # Errors
    ///
    /// Those of [`ImmutableDuplexServer::start`].
    pub fn start<F>(&self, handler: F, mode: ProcessingMode) -> Result<()>
    where
        F: Fn(&mut MutableFrame) -> std::result::Result<(), HandlerError> + Send + Sync + 'static,
    {
        let job = move |run: &Run, request: Request, to: Address| {
            if run.admits(&request, to) {
                let mut frame = MutableFrame::new(request);
                match guarded(run, to, || handler(&mut frame)) {
                    Ok(()) => run.answer(to, &Answer::Frame(frame.frame())),
                    Err(failed) => run.answer(to, &failed),
                }
            }
        };
        self.0.start(mode, Arc::new(job))
    }

    /// Starts processing with a handler that owns the request and may keep it after it returns. The handler
    /// returns an owner of the response's bytes, usually the frame. For language bindings; otherwise like
    /// [`MutableDuplexServer::start`].
    ///
    /// # Errors
    ///
    /// Those of [`ImmutableDuplexServer::start`].
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

    /// Starts processing with a handler that owns the request and returns it as the response, perhaps shared with views of it.
    /// While there are any, the response is a copy, because they may still change the bytes. For language bindings; otherwise
    /// like [`MutableDuplexServer::start`].
    ///
    /// # Errors
    ///
    /// Those of [`ImmutableDuplexServer::start`].
    pub fn start_shared<F>(&self, handler: F, mode: ProcessingMode) -> Result<()>
    where
        F: Fn(MutableFrame) -> std::result::Result<Arc<MutableFrame>, HandlerError> + Send + Sync + 'static,
    {
        let job = move |run: &Run, request: Request, to: Address| {
            if run.admits(&request, to) {
                match guarded(run, to, || handler(MutableFrame::new(request))) {
                    Ok(mut frame) => match Arc::get_mut(&mut frame) {
                        Some(frame) => run.answer(to, &Answer::Frame(frame.frame())),
                        None => run.answer(to, &Answer::Bytes((&**frame).into())),
                    },
                    Err(failed) => run.answer(to, &failed),
                }
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
