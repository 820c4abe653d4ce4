//! Calls as futures. Tasks cannot block to read, so a thread of the client reads for them while any of them
//! waits. It takes its turn as leader, like every caller that blocks. Or the program's event loop does it ([`super::in_loop`]).

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::inbox::{Entry, Wants};
use super::leader::Leading;
use super::response::Response;
use super::state::{ClientState, wake_all};
use crate::duplex::due::{self, Due};
use crate::duplex::sync::{lock, park};
use crate::error::{Error, ErrorKind, Result};

/// How often to check the deadlines of tasks.
const DEADLINES: Duration = Duration::from_millis(5);

/// How often tasks that wait for space try again.
pub(super) const RETRY: Duration = Duration::from_millis(1);

/// A request and its response, as a future; see [`DuplexClient::call_async`].
///
/// [`DuplexClient::call_async`]: super::DuplexClient::call_async
#[must_use = "futures do nothing unless they are polled"]
pub struct Call<D> {
    state: Arc<ClientState>,
    due: Due,
    /// `Some` until sent.
    data: Option<D>,
    stage: Stage,
    /// The client's thread reads for it, rather than an event loop.
    by_thread: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    New,
    /// Counted in [`super::inbox::Tasks::pending`], as are all stages from here to `Done`, if the client's thread reads for it.
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
    pub(crate) fn new(state: &Arc<ClientState>, data: D, timeout: Duration, by_thread: bool) -> Call<D> {
        let (state, due) = (Arc::clone(state), state.due(timeout));
        Call { state, due, data: Some(data), stage: Stage::New, by_thread }
    }

    /// Removes the call from the inbox, and withdraws its request.
    fn finish(&mut self) {
        let stage = std::mem::replace(&mut self.stage, Stage::Done);
        if matches!(stage, Stage::New | Stage::Done) || self.state.check_mine().is_err() {
            return;
        }
        let mut inbox = lock(&self.state.inbox);
        inbox.tasks.pending -= usize::from(self.by_thread);
        let entry = match stage {
            Stage::Sent(sequence) => inbox.entries.remove(&sequence),
            _ => None,
        };
        drop(inbox);
        if let Some(entry) = entry {
            self.state.withdraw(entry.place);
        }
    }
}

impl<D: AsRef<[u8]>> Call<D> {
    fn advance(&mut self, context: &Context<'_>) -> Result<Option<Response>> {
        let state = Arc::clone(&self.state);
        state.check_mine()?;
        if self.stage == Stage::New {
            match self.by_thread {
                true => state.start_reading_for_tasks()?,
                false => state.check_end()?,
            }
            self.stage = Stage::Sending;
        }
        // The waker is cloned, and later dropped, without a lock, because it is user code.
        let waker = context.waker().clone();
        if self.stage == Stage::Sending {
            state.check_end()?;
            let Some(data) = &self.data else { return Err(self.polled_again()) };
            let entry = Entry::new(self.due, true);
            match state.try_send(data.as_ref(), self.due, due::coarse_now(), Some(entry))? {
                Some(sent) => {
                    self.stage = Stage::Sent(sent.sequence);
                    self.data = None;
                    state.set_place(sent);
                }
                None if self.due.left().is_none() => {
                    let message =
                        "no space for the request within its time-out: the server is slower than its clients";
                    return Err(state.error(ErrorKind::BufferFull, message));
                }
                None => {
                    lock(&state.inbox).tasks.stalled.push(waker);
                    // If the channel ended before the waker was there, the end has not woken it.
                    state.check_end()?;
                    return Ok(None);
                }
            }
        }
        let Stage::Sent(sequence) = self.stage else { return Err(self.polled_again()) };
        // The look and the store of the waker are under one lock, so every later outcome finds the waker. The
        // first look comes after the request is sent, because the channel may have ended meanwhile.
        let mut inbox = lock(&state.inbox);
        if let Some((_, outcome)) = inbox.take(Wants::One(sequence)) {
            drop(inbox);
            return state.conclude(sequence, outcome).map(Some);
        }
        if let Some(end) = &inbox.ended {
            return Err(state.end_error(end));
        }
        if self.due.left().is_none() {
            return Err(state.too_late(sequence));
        }
        let Some(entry) = inbox.entries.get_mut(&sequence) else {
            // Another thread has fetched the outcome by its number.
            return Err(state.no_response_expected(sequence));
        };
        let before = entry.waker.replace(waker);
        drop(inbox);
        drop(before);
        Ok(None)
    }

    fn polled_again(&self) -> Error {
        self.state.error(ErrorKind::InvalidState, "the call is done: its future must not be polled again")
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

impl ClientState {
    /// Counts one more task, and makes sure that a thread reads for it.
    fn start_reading_for_tasks(self: &Arc<ClientState>) -> Result<()> {
        let mut inbox = lock(&self.inbox);
        if let Some(end) = &inbox.ended {
            return Err(self.end_error(end));
        }
        inbox.tasks.pending += 1;
        if let Some(reader) = &inbox.tasks.reader {
            reader.unpark();
            return Ok(());
        }
        let state = Arc::downgrade(self);
        let thread = std::thread::Builder::new().name("zb-duplex-tasks".into());
        match thread.spawn(move || read_for_tasks(&state)) {
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

/// Reads while there are tasks, sleeps otherwise, and ends with the channel.
fn read_for_tasks(state: &Weak<ClientState>) {
    loop {
        let Some(state) = state.upgrade() else { return };
        if state.is_over() {
            return;
        }
        if lock(&state.inbox).tasks.pending > 0 {
            state.lead_for_tasks();
            state.pass_on(Wants::Lead);
        } else {
            drop(state);
            // Woken by the next task, and by the end.
            std::thread::park();
        }
    }
}

impl ClientState {
    fn lead_for_tasks(&self) {
        let mut leading = None;
        let mut looked = Instant::now();
        while !self.is_over() {
            let mut inbox = lock(&self.inbox);
            if inbox.tasks.pending == 0 {
                return;
            }
            let stalled = std::mem::take(&mut inbox.tasks.stalled);
            let slice = if stalled.is_empty() { DEADLINES } else { RETRY };
            let mut id = None;
            if leading.is_none() {
                leading = self.try_lead();
            }
            if leading.is_none() {
                id = Some(self.follow(&mut inbox, Wants::Lead));
                leading = self.try_lead();
            }
            if leading.is_some() {
                self.unfollow(&mut inbox, id.take());
            }
            if !stalled.is_empty() {
                inbox.copy_responses(self.max_request_size);
            }
            drop(inbox);
            match &mut leading {
                Some(lead) => _ = lead.read(slice, |_| false),
                None => park(slice),
            }
            let mut to_wake = stalled;
            let mut inbox = lock(&self.inbox);
            self.unfollow(&mut inbox, id);
            if looked.elapsed() >= DEADLINES {
                looked = Instant::now();
                to_wake.extend(inbox.take_overdue_tasks());
            }
            drop(inbox);
            if !to_wake.is_empty() || leading.as_ref().is_some_and(Leading::owes_wakes) {
                // Wakers are user code, which must not run while this thread has the reader.
                leading = None;
                wake_all(to_wake);
            }
        }
    }
}
