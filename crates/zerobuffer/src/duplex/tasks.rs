//! Calls as futures. Tasks cannot read, so a thread of the client reads for them: it takes its turn as leader like every
//! caller that blocks, whenever there are tasks that wait.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use super::client::DuplexClient;
use super::due::Due;
use super::inbox::{Entry, Inbox, Wants};
use super::link::Link;
use super::lock;
use super::response::Response;
use crate::error::{Error, ErrorKind, Result};
use crate::os;

/// How often deadlines of tasks are looked at.
const DEADLINES: Duration = Duration::from_millis(5);

/// How often tasks that wait for space try again.
const RETRY: Duration = Duration::from_millis(1);

/// What the inbox knows of tasks.
#[derive(Default)]
pub(crate) struct Tasks {
    /// Calls that are not done.
    pending: usize,
    /// Those that wait for space in the request buffer.
    stalled: Vec<Waker>,
    /// The thread that reads for them, once there was one.
    reader: Option<Thread>,
}

impl Inbox {
    /// All tasks that wait for anything, and the thread that reads for them, at the end of the channel.
    pub(crate) fn all_tasks(&mut self) -> (Vec<Waker>, Option<Thread>) {
        let mut tasks = std::mem::take(&mut self.tasks.stalled);
        tasks.extend(self.entries.values_mut().filter_map(|entry| entry.waker.take()));
        (tasks, self.tasks.reader.take())
    }

    /// Those whose time is over.
    fn overdue_tasks(&mut self) -> Vec<Waker> {
        let overdue = self.entries.values_mut().filter(|entry| entry.waker.is_some() && entry.is_overdue());
        overdue.filter_map(|entry| entry.waker.take()).collect()
    }
}

impl DuplexClient {
    /// As [`DuplexClient::call`], as a future that any executor can run. Nothing is sent before it is first polled;
    /// dropping it withdraws the request. The time-out runs from now and is noticed within some 10 ms.
    ///
    /// # Errors
    ///
    /// As [`DuplexClient::call`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use zerobuffer::BufferConfig;
    /// use zerobuffer::duplex::{DuplexChannelFactory, ProcessingMode};
    ///
    /// # let name = format!("doc-call-async-{}", std::process::id());
    /// let factory = DuplexChannelFactory::new();
    /// let server = factory.create_immutable_server(&name, BufferConfig::default())?;
    /// server.start(|request| Ok((&**request).into()), ProcessingMode::SingleThread)?;
    /// let client = factory.create_client(&name)?;
    /// let calls = ["one", "two"].map(|word| client.call_async(word, Duration::from_secs(5)));
    /// let responses = futures::executor::block_on(futures::future::try_join_all(calls))?;
    /// assert_eq!((&*responses[0], &*responses[1]), (&b"one"[..], &b"two"[..]));
    /// # drop(responses);
    /// # client.close();
    /// # server.stop()?;
    /// # Ok::<(), zerobuffer::Error>(())
    /// ```
    pub fn call_async<D: AsRef<[u8]>>(&self, data: D, timeout: Duration) -> Call<D> {
        let due = self.link.due(timeout);
        Call { link: Arc::clone(&self.link), due, data: Some(data), stage: Stage::New }
    }
}

/// A request and its response, as a future; see [`DuplexClient::call_async`].
#[must_use = "futures do nothing unless they are polled"]
pub struct Call<D> {
    link: Arc<Link>,
    due: Due,
    /// `Some` until sent.
    data: Option<D>,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    New,
    /// Counted as pending.
    Sending,
    Sent(u64),
    Done,
}

impl<D> Unpin for Call<D> {}

impl<D: AsRef<[u8]>> Future for Call<D> {
    type Output = Result<Response>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Response>> {
        let result = match self.advance(context) {
            Ok(None) => return Poll::Pending,
            Ok(Some(response)) => Ok(response),
            Err(error) => Err(error),
        };
        self.finish();
        Poll::Ready(result)
    }
}

impl<D> Call<D> {
    /// Takes the call off the books, and its request back.
    fn finish(&mut self) {
        let stage = std::mem::replace(&mut self.stage, Stage::Done);
        if matches!(stage, Stage::New | Stage::Done) || self.link.check_mine().is_err() {
            return;
        }
        let mut inbox = lock(&self.link.inbox);
        inbox.tasks.pending -= 1;
        let entry = match stage {
            Stage::Sent(sequence) => inbox.entries.remove(&sequence),
            _ => None,
        };
        drop(inbox);
        if let Some(entry) = entry {
            self.link.withdraw(entry.place);
        }
    }
}

impl<D: AsRef<[u8]>> Call<D> {
    fn advance(&mut self, context: &Context<'_>) -> Result<Option<Response>> {
        let link = Arc::clone(&self.link);
        link.check_mine()?;
        if self.stage == Stage::New {
            link.start_reading_for_tasks()?;
            self.stage = Stage::Sending;
        }
        // Cloned, and later dropped, without a lock: a waker is the user's code.
        let waker = context.waker().clone();
        if self.stage == Stage::Sending {
            link.check_end()?;
            let Some(data) = &self.data else { return Err(self.polled_again()) };
            let entry = Entry::new(self.due, true);
            match link.try_send(data.as_ref(), self.due, os::coarse_now(), Some(entry))? {
                Some(sent) => {
                    self.stage = Stage::Sent(sent.sequence);
                    self.data = None;
                    link.set_place(sent);
                }
                None if self.due.left().is_none() => {
                    let message =
                        "no space for the request within its time-out: the server is slower than its clients";
                    return Err(link.error(ErrorKind::BufferFull, message));
                }
                None => {
                    lock(&link.inbox).tasks.stalled.push(waker);
                    // An end that came before the waker was there has not woken it.
                    link.check_end()?;
                    return Ok(None);
                }
            }
        }
        let Stage::Sent(sequence) = self.stage else { return Err(self.polled_again()) };
        // One look and the waker under one lock: whatever comes later finds the waker. So the first look follows the sending,
        // during which the channel may have ended.
        let mut inbox = lock(&link.inbox);
        if let Some((_, outcome)) = inbox.take(Wants::One(sequence)) {
            drop(inbox);
            return link.conclude(sequence, outcome).map(Some);
        }
        if let Some(end) = &inbox.ended {
            return Err(link.end_error(end));
        }
        if self.due.left().is_none() {
            return Err(link.too_late(sequence));
        }
        let Some(entry) = inbox.entries.get_mut(&sequence) else {
            // Another thread has asked for it by its number.
            return Err(link.no_response_expected(sequence));
        };
        let before = entry.waker.replace(waker);
        drop(inbox);
        drop(before);
        Ok(None)
    }

    fn polled_again(&self) -> Error {
        self.link.error(ErrorKind::InvalidState, "the call is done: its future must not be polled again")
    }
}

impl<D> Drop for Call<D> {
    fn drop(&mut self) {
        self.finish();
    }
}

impl<D> fmt::Debug for Call<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("stage", &self.stage).finish()
    }
}

impl Link {
    /// Counts one more task, and makes sure that somebody reads for it.
    fn start_reading_for_tasks(self: &Arc<Link>) -> Result<()> {
        let mut inbox = lock(&self.inbox);
        if let Some(end) = &inbox.ended {
            return Err(self.end_error(end));
        }
        inbox.tasks.pending += 1;
        if let Some(reader) = &inbox.tasks.reader {
            reader.unpark();
            return Ok(());
        }
        let link = Arc::downgrade(self);
        let thread = std::thread::Builder::new().name("zb-duplex-tasks".into());
        match thread.spawn(move || read_for_tasks(&link)) {
            Ok(thread) => {
                inbox.tasks.reader = Some(thread.thread().clone());
                Ok(())
            }
            Err(error) => {
                inbox.tasks.pending -= 1;
                Err(Error::os(&self.channel, "start a thread", error))
            }
        }
    }
}

/// Reads while there are tasks; rests otherwise, and ends with the channel.
fn read_for_tasks(link: &Weak<Link>) {
    loop {
        let Some(link) = link.upgrade() else { return };
        if link.is_over() {
            return;
        }
        if lock(&link.inbox).tasks.pending > 0 {
            link.lead_for_tasks();
            link.pass_on(Wants::Lead);
        } else {
            drop(link);
            // Woken by the next task, and by the end.
            std::thread::park();
        }
    }
}

impl Link {
    fn lead_for_tasks(&self) {
        let mut leading = None;
        let mut looked = Instant::now();
        while !self.is_over() {
            let mut inbox = lock(&self.inbox);
            if inbox.tasks.pending == 0 {
                return;
            }
            let mut due = vec![];
            if looked.elapsed() >= DEADLINES {
                looked = Instant::now();
                due = inbox.overdue_tasks();
            }
            let stalled = std::mem::take(&mut inbox.tasks.stalled);
            let slice = if stalled.is_empty() { DEADLINES } else { RETRY };
            let mut id = None;
            if leading.is_none() {
                leading = self.try_lead();
            }
            if leading.is_none() {
                id = Some(inbox.follow(Wants::Lead, self));
                leading = self.try_lead();
            }
            if leading.is_some() {
                inbox.unfollow(id, self);
                id = None;
            }
            drop(inbox);
            due.into_iter().for_each(Waker::wake);
            match &mut leading {
                Some(leading) => {
                    leading.read(slice, |_| false);
                }
                None => std::thread::park_timeout(slice),
            }
            if id.is_some() {
                lock(&self.inbox).unfollow(id, self);
            }
            stalled.into_iter().for_each(Waker::wake);
        }
    }
}
