//! Async handlers: requests become tasks of whatever executor the user has.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::mpsc::{self, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::task::Poll;
use std::time::Duration;

use super::request::Request;
use super::responses::{Address, Answer};
use super::run::{Run, panic_message};
use super::server::ImmutableDuplexServer;
use super::{HandlerError, Reply, lock, wait};
use crate::error::Result;

/// The work for one request, for an executor to run.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// To be sent by the thread that answers; `None` ends it.
type Message = Option<(Address, Answer<'static>)>;

impl ImmutableDuplexServer {
    /// Starts processing with an async handler. `spawn` hands each request's task to an executor of yours, for example
    /// `move |task| { handle.spawn(task); }` with a `tokio::runtime::Handle`, as it is called on a thread of the server.
    ///
    /// Requests are read on one thread of the server, and answered on another one. Up to 1,024 are under way at once, as far
    /// as the request buffer has room for them; and while answers of more than 16 MiB wait for a client that does not fetch
    /// them, no more requests are read. A task that is dropped before it is done is a failed request.
    ///
    /// # Errors
    ///
    /// As [`ImmutableDuplexServer::start`].
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
    pub fn start_async<F, T>(&self, handler: F, spawn: impl Fn(Task) + Send + Sync + 'static) -> Result<()>
    where
        F: Fn(Request) -> T + Send + Sync + 'static,
        T: Future<Output = std::result::Result<Reply<'static>, HandlerError>> + Send + 'static,
    {
        self.0.start_with(false, |run, _| {
            let (queue, receiver) = channel::<Message>();
            let sender = Sender { queue, backlog: Arc::default() };
            let backlog = Arc::clone(&sender.backlog);
            run.spawn(move |run| {
                while let Ok(Some((to, answer))) = receiver.recv() {
                    run.answer(to, &answer);
                    backlog.answered(&answer);
                }
            })?;
            run.spawn(move |run| {
                run.read(|request, to| {
                    if run.admits(&request, to) {
                        sender.backlog.started();
                        let pending =
                            Pending { run: Arc::clone(run), to, sender: sender.clone(), done: false };
                        // A handler may also panic before its future exists.
                        match run.guard(|| handler(request)) {
                            // A task that was not taken is dropped, and so answered.
                            Ok(future) => match run.guard(|| spawn(Box::pin(pending.fulfil(future)))) {
                                Ok(()) => {}
                                Err(words) => run.report_failure(to.sequence, &words),
                            },
                            Err(words) => pending.fail(words),
                        }
                    }
                    sender.backlog.wait(run);
                });
                // Tasks may live on; what they answer goes nowhere.
                let _ = sender.queue.send(None);
            })
        })
    }
}

/// Requests that are owed an answer, and the answers that wait for the thread that sends them.
#[derive(Default)]
struct Backlog {
    now: Mutex<Amount>,
    changed: Condvar,
}

#[derive(Default)]
struct Amount {
    requests: usize,
    bytes: usize,
}

impl Backlog {
    /// With so many under way no more requests are read: far more than an executor runs at once.
    const REQUESTS: usize = 1024;
    /// Nor with answers of more bytes: four large pictures, and nothing that a machine would miss.
    const BYTES: usize = 16 << 20;
    /// How often a stop is looked for.
    const LOOK: Duration = Duration::from_millis(10);

    fn bytes_of(answer: &Answer<'_>) -> usize {
        match answer {
            Answer::Bytes(bytes) => bytes.len(),
            Answer::Failed(words) => words.len(),
            _ => 0,
        }
    }

    fn started(&self) {
        lock(&self.now).requests += 1;
    }

    fn done(&self, answer: &Answer<'_>) {
        lock(&self.now).bytes += Self::bytes_of(answer);
    }

    fn answered(&self, answer: &Answer<'_>) {
        let mut now = lock(&self.now);
        now.requests -= 1;
        now.bytes -= Self::bytes_of(answer);
        drop(now);
        self.changed.notify_one();
    }

    fn wait(&self, run: &Run) {
        let mut now = lock(&self.now);
        while (now.requests >= Self::REQUESTS || now.bytes > Self::BYTES) && !run.is_stopping() {
            now = wait(&self.changed, now, Self::LOOK);
        }
    }
}

/// The way of answers to the thread that sends them.
#[derive(Clone)]
struct Sender {
    queue: mpsc::Sender<Message>,
    backlog: Arc<Backlog>,
}

impl Sender {
    fn send(&self, to: Address, answer: Answer<'static>) {
        self.backlog.done(&answer);
        // Fails only after a stop.
        let _ = self.queue.send(Some((to, answer)));
    }
}

/// A request that is owed an answer.
struct Pending {
    run: Arc<Run>,
    to: Address,
    sender: Sender,
    done: bool,
}

impl Pending {
    async fn fulfil<T>(self, future: T)
    where
        T: Future<Output = std::result::Result<Reply<'static>, HandlerError>>,
    {
        let mut future = Box::pin(future);
        let outcome = std::future::poll_fn(|context| {
            match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
                Ok(Poll::Pending) => Poll::Pending,
                Ok(Poll::Ready(result)) => Poll::Ready(result.map_err(|error| error.to_string())),
                Err(panic) => Poll::Ready(Err(panic_message(&*panic))),
            }
        })
        .await;
        // The request's space goes back before the answer is sent.
        drop(future);
        match outcome {
            Ok(bytes) => self.send(Answer::Bytes(bytes)),
            Err(words) => self.fail(words),
        }
    }

    fn fail(self, words: String) {
        self.run.report_failure(self.to.sequence, &words);
        self.send(Answer::Failed(words.into()));
    }

    fn send(mut self, answer: Answer<'static>) {
        self.done = true;
        self.sender.send(self.to, answer);
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.done {
            let words = "the task of its handler was dropped";
            self.sender.send(self.to, Answer::Failed(words.into()));
        }
    }
}
