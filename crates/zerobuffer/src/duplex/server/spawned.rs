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

/// An answer for the thread that sends; `None` ends that thread.
type Message = Option<(Address, Answer<'static>)>;

/// Starts the thread that sends answers, and the thread that reads requests.
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
        // Tasks may outlive the server; their answers are dropped.
        let _ = sender.queue.send(None);
    })
}

/// The requests without an answer, and the answers that wait for the thread that sends them.
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
    /// With so many requests under way, no more are read. This is far more than an executor runs at once.
    const REQUESTS: usize = 1024;
    /// With more bytes of unsent answers than this, no more requests are read. It is the size of a few large
    /// pictures.
    const BYTES: usize = 16 << 20;
    /// How often to check for a stop.
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

/// Passes answers to the thread that sends them.
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

/// A request without an answer so far.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsent_answers_count_by_their_bytes() {
        let backlog = Backlog::default();
        let bytes = || lock(&backlog.now).bytes;
        let answers = [Answer::Bytes(vec![0; 100].into()), Answer::Failed("why".into()), Answer::TooLate];
        for (answer, expected) in answers.iter().zip([100, 103, 103]) {
            backlog.started();
            backlog.done(answer);
            assert_eq!(bytes(), expected);
        }
        answers.iter().for_each(|answer| backlog.answered(answer));
        assert_eq!((bytes(), lock(&backlog.now).requests), (0, 0));
    }
}
