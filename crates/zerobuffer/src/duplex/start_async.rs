//! Async handlers: requests become tasks of whatever executor the user has.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::task::Poll;

use super::request::Request;
use super::responses::{Address, Answer};
use super::run::{Run, panic_message};
use super::server::ImmutableDuplexServer;
use super::{HandlerError, Reply};
use crate::error::Result;

/// The work for one request, for an executor to run.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// To be sent by the thread that answers; `None` ends it.
type Message = Option<(Address, Answer<'static>)>;

impl ImmutableDuplexServer {
    /// Starts processing with an async handler. `spawn` hands each request's task to an executor of yours, for example
    /// `|task| { tokio::spawn(task); }`. As many run at once as the request buffer has room for.
    ///
    /// Requests are read on one thread of the server, and answered on another one. A task that is dropped before it is
    /// done is a failed request.
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
            let (sender, receiver) = channel::<Message>();
            run.spawn(move |run| {
                while let Ok(Some((to, answer))) = receiver.recv() {
                    run.answer(to, &answer);
                }
            })?;
            run.spawn(move |run| {
                run.read(|request, to| {
                    if run.admits(&request, to) {
                        let pending =
                            Pending { run: Arc::clone(run), to, sender: sender.clone(), done: false };
                        // A handler may also panic before its future exists.
                        match run.guard(|| handler(request)) {
                            Ok(future) => spawn(Box::pin(pending.fulfil(future))),
                            Err(words) => pending.fail(words),
                        }
                    }
                });
                // Tasks may live on; what they answer goes nowhere.
                let _ = sender.send(None);
            })
        })
    }
}

/// A request that is owed an answer.
struct Pending {
    run: Arc<Run>,
    to: Address,
    sender: Sender<Message>,
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
        // Fails only after a stop.
        let _ = self.sender.send(Some((self.to, answer)));
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.done {
            let words = "the task of its handler was dropped";
            let _ = self.sender.send(Some((self.to, Answer::Failed(words.into()))));
        }
    }
}
