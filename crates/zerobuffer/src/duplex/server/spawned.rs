//! Async handlers: requests become tasks of the program's executor.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{self, channel};
use std::task::Poll;
use std::time::Duration;

use super::answer::{Address, Answer};
use super::request::Request;
use super::run::{Run, panic_message};
use crate::duplex::sync::{Condvar, Mutex, lock, wait};
use crate::duplex::{HandlerError, Reply};
use crate::error::Result;

/// The work for one request, for an executor to run.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// To be sent by the thread that answers; `None` ends it.
type Message = Option<(Address, Answer<'static>)>;

/// Starts the thread that answers, and the one that reads.
pub(crate) fn start<F, T>(
    run: &Arc<Run>,
    handler: Arc<F>,
    spawn: Arc<dyn Fn(Task) + Send + Sync>,
) -> Result<()>
where
    F: Fn(Request) -> T + Send + Sync + 'static,
    T: Future<Output = std::result::Result<Reply<'static>, HandlerError>> + Send + 'static,
{
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
                let pending = Pending { run: Arc::clone(run), to, sender: sender.clone(), done: false };
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
        // Tasks may live on; their answers go nowhere.
        let _ = sender.queue.send(None);
    })
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
