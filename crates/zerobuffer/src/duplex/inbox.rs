//! The receiving half of a client: leader and followers.
//!
//! There is no thread that reads. Of those who wait for a response one has the reader and reads (the leader), on its own
//! thread and for itself; what comes for others it enters, and wakes them. When it has what it wants it lets go of the
//! reader and wakes one of those who still wait, to lead. So a single caller reads its own response, without a hop and
//! without an entry in any book.
//!
//! Where many call, what costs is to switch between threads. So who has got its own response hands out all that have come
//! for others before it lets go: those who are told need no leader any more. And where answers come soon nobody of them
//! sleeps: they yield to each other ([`super::turns`]).

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::{MutexGuard, TryLockError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use super::due::Due;
use super::link::{BySequence, End, GONE, Link};
use super::lock;
use super::outbox::Sent;
use super::response::Response;
use crate::error::{Error, ErrorKind, Result};
use crate::frame::Frame;
use crate::os;
use crate::reader::Reader;
use crate::ring::{Place, flags};
use crate::sync::Ordering;
use crate::testing::stop::stop_point;

/// How often a leader makes sure that the server lives: its death shows at the response buffer only if it had connected
/// there.
pub(crate) const LOOK: Duration = Duration::from_millis(40);

/// Responses that a leader hands out after its own: some 50 us of waking.
const HAND_OUT: usize = 32;

/// The same after the server has left the response buffer: a killed process's roles end one after the other.
const SOON: Duration = Duration::from_millis(4);

#[derive(Default)]
pub(crate) struct Inbox {
    /// Requests under way, and outcomes that nobody has fetched.
    pub(crate) entries: BySequence<Entry>,
    /// Requests whose outcome is for [`super::DuplexClient::receive_response`], in the order of arrival.
    pub(crate) ready: VecDeque<u64>,
    /// What the one who reads waits for, if it has an entry.
    pub(crate) leader: Option<Wants>,
    /// Threads that wait for an outcome while another one reads.
    pub(crate) followers: Vec<Follower>,
    pub(crate) next_follower: u64,
    /// Why there will be no more responses.
    pub(crate) ended: Option<End>,
    #[cfg(feature = "async")]
    pub(crate) tasks: super::tasks::Tasks,
}

/// A request under way.
pub(crate) struct Entry {
    due: Due,
    /// Its outcome is for the thread that called, and for nobody else.
    called: bool,
    /// Where it stands in the request buffer, to withdraw it.
    pub(crate) place: Option<Place>,
    outcome: Option<Outcome>,
    /// It stands in [`Inbox::ready`].
    ready: bool,
    /// The task that waits for it.
    #[cfg(feature = "async")]
    pub(crate) waker: Option<std::task::Waker>,
}

impl Entry {
    pub(crate) fn new(due: Due, called: bool) -> Entry {
        Entry {
            due,
            called,
            place: None,
            outcome: None,
            ready: false,
            #[cfg(feature = "async")]
            waker: None,
        }
    }

    /// Whether its time is over and somebody must be told.
    #[cfg(feature = "async")]
    pub(crate) fn is_overdue(&self) -> bool {
        self.due.is_over()
    }

    pub(crate) fn is_pending(&self) -> bool {
        self.outcome.is_none()
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        matches!(self.outcome, Some(Outcome::Cancelled))
    }
}

/// Whom to tell of an outcome.
pub(crate) enum Waiter {
    Thread(Thread),
    #[cfg(feature = "async")]
    Task(std::task::Waker),
}

impl Waiter {
    /// To be called without any lock held: a waker is the user's code.
    pub(crate) fn wake(self) {
        match self {
            Waiter::Thread(thread) => thread.unpark(),
            #[cfg(feature = "async")]
            Waiter::Task(waker) => waker.wake(),
        }
    }
}

pub(crate) enum Outcome {
    Response(Frame),
    Cancelled,
}

/// What somebody waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wants {
    One(u64),
    /// Whatever nobody else waits for.
    Any,
    /// To read for the tasks, which cannot.
    #[cfg(feature = "async")]
    Lead,
}

/// Somebody who waits while another one reads.
pub(crate) struct Follower {
    pub(crate) id: u64,
    pub(crate) wants: Wants,
    pub(crate) thread: Thread,
}

impl Inbox {
    /// The outcome of what is wanted, if it has come.
    pub(crate) fn take(&mut self, wants: Wants) -> Option<(u64, Outcome)> {
        match wants {
            #[cfg(feature = "async")]
            Wants::Lead => None,
            Wants::One(sequence) => {
                let outcome = self.entries.get_mut(&sequence)?.outcome.take()?;
                self.forget(sequence);
                Some((sequence, outcome))
            }
            Wants::Any => self.take(Wants::One(*self.ready.front()?)),
        }
    }

    /// Takes a request off the books.
    pub(crate) fn forget(&mut self, sequence: u64) {
        let listed = self.entries.remove(&sequence).is_some_and(|entry| entry.ready);
        // The first one, as a rule.
        if listed && let Some(index) = self.ready.iter().position(|ready| *ready == sequence) {
            self.ready.remove(index);
        }
    }

    /// Enters an outcome, and gives whom to wake. A second outcome, or one of a request that was given up, is dropped.
    fn enter_outcome(&mut self, sequence: u64, outcome: Outcome) -> Option<Waiter> {
        let entry = self.entries.get_mut(&sequence).filter(|entry| entry.is_pending())?;
        if let Outcome::Response(frame) = &outcome
            && !is_answer(frame, entry.due)
        {
            return None;
        }
        entry.outcome = Some(outcome);
        #[cfg(feature = "async")]
        if let Some(waker) = entry.waker.take() {
            return Some(Waiter::Task(waker));
        }
        let called = entry.called;
        let one = Wants::One(sequence);
        if self.leader == Some(one) {
            return None;
        }
        let waiting = |wants| {
            let follower = self.followers.iter().find(|follower| follower.wants == wants);
            follower.map(|follower| Waiter::Thread(follower.thread.clone()))
        };
        if let Some(waiter) = waiting(one) {
            return Some(waiter);
        }
        if called {
            // Its caller is between sending and waiting.
            return None;
        }
        let waiter = if self.leader == Some(Wants::Any) { None } else { waiting(Wants::Any) };
        entry.ready = true;
        self.ready.push_back(sequence);
        waiter
    }

    /// Whom to wake when somebody stops waiting: one for whom something is ready, or else a new leader. Those who have been
    /// told of their outcome are awake, and want nothing more.
    fn successor(&self) -> Option<Thread> {
        let any = self.followers.iter().find(|follower| follower.wants == Wants::Any);
        let ready = any.filter(|_| !self.ready.is_empty());
        let waits = |follower: &&Follower| match follower.wants {
            Wants::One(sequence) => self.entries.get(&sequence).is_none_or(Entry::is_pending),
            _ => true,
        };
        ready.or_else(|| self.followers.iter().find(waits)).map(|follower| follower.thread.clone())
    }
}

/// The writer at the response buffer has gone. That need not be the server's end: it may have come for a predecessor of
/// this client, whose last requests it had still to read, and will come again.
fn is_writers_end(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::WriterClosed | ErrorKind::WriterDead)
}

/// Whether `frame` answers a request with this deadline, rather than a predecessor's with the same number.
fn is_answer(frame: &Frame, due: Due) -> bool {
    frame.deadline() == 0 || frame.deadline() == due.0
}

/// The right to read. Ends by waking a successor, if there is one.
pub(crate) struct Leading<'a> {
    link: &'a Link,
    /// `Some` until dropped.
    reader: Option<MutexGuard<'a, Option<Box<Reader>>>>,
    look: Duration,
    /// Somebody has been woken since the last wait.
    woke: bool,
    /// The link for which this thread led before: a waker of one may use another.
    before: *const Link,
}

thread_local! {
    /// The link for which this thread leads.
    static LEADS: Cell<*const Link> = const { Cell::new(std::ptr::null()) };
}

impl<'a> Leading<'a> {
    pub(crate) fn try_new(link: &'a Link) -> Option<Leading<'a>> {
        let reader = match link.reader.try_lock() {
            Ok(reader) => reader,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        // Nobody is there to be woken for a reader that has been closed: end() did.
        reader.is_some().then(|| Leading {
            link,
            reader: Some(reader),
            look: LOOK,
            woke: false,
            before: LEADS.replace(link),
        })
    }

    /// Whether this thread leads.
    pub(crate) fn is_mine(link: &Link) -> bool {
        LEADS.get() == std::ptr::from_ref(link)
    }

    fn reader(&mut self) -> Option<&mut Reader> {
        self.reader.as_mut()?.as_deref_mut()
    }

    /// Reads one frame, waiting for it up to `timeout`; what is not `mine` is entered for others. Notices the end.
    pub(crate) fn read(&mut self, timeout: Duration, mine: impl Fn(&Frame) -> bool) -> Option<Frame> {
        let look = std::mem::replace(&mut self.look, LOOK);
        let woke = std::mem::take(&mut self.woke);
        // Relaxed: the others may be about to send more.
        let others = self.link.following.load(Ordering::Relaxed);
        let crowded = others > 0;
        let link = self.link;
        let turns = link.turns.of_this_wait(others).min(timeout);
        let reader = self.reader()?;
        reader.set_crowded(crowded);
        let mut spent = Duration::ZERO;
        if crowded {
            let began = Instant::now();
            while reader.is_quiet() && spent < turns && !link.is_over() {
                std::thread::yield_now();
                spent = began.elapsed();
            }
        } else if woke && reader.is_quiet() {
            std::thread::yield_now();
        }
        match reader.read_frame(timeout.saturating_sub(spent).min(look)) {
            Ok(Some(frame)) if mine(&frame) => return Some(frame),
            Ok(Some(frame)) => self.woke |= self.link.deliver(frame),
            Ok(None) => {
                stop_point!("duplex:look");
                if self.link.server_is_gone() {
                    return self.drain(mine);
                }
            }
            Err(error) => self.read_failed(&error),
        }
        None
    }

    fn read_failed(&mut self, error: &Error) {
        if is_writers_end(error) && !self.link.server_is_gone() {
            self.look = SOON;
        } else {
            self.link.read_failed(error);
        }
    }

    /// Hands out what has come for others.
    fn hand_out(&mut self) {
        // Relaxed: who comes in between reads for himself.
        if self.link.following.load(Ordering::Relaxed) == 0 {
            return;
        }
        for _ in 0..HAND_OUT {
            let Some(reader) = self.reader() else { return };
            if reader.is_quiet() {
                // try_read_frame() would look whether the server lives, at the cost of a system call.
                return;
            }
            match reader.try_read_frame() {
                Ok(Some(frame)) => _ = self.link.deliver(frame),
                Ok(None) => return,
                Err(error) => return self.read_failed(&error),
            }
        }
    }

    /// The server has gone, and may never have connected to the response buffer: what is there counts, up to what is
    /// `mine`; then it is over.
    fn drain(&mut self, mine: impl Fn(&Frame) -> bool) -> Option<Frame> {
        let link = self.link;
        loop {
            match self.reader()?.try_read_frame() {
                Ok(Some(frame)) if mine(&frame) => return Some(frame),
                Ok(Some(frame)) => _ = link.deliver(frame),
                Ok(None) => {
                    link.end(ErrorKind::ReaderDead, GONE);
                    return None;
                }
                Err(error) => {
                    link.read_failed(&error);
                    return None;
                }
            }
        }
    }
}

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        LEADS.set(self.before);
        let mut left = None;
        // Relaxed: set by this thread if it closed the client; whoever sees it later finds no reader.
        if self.link.reader_left.load(Ordering::Relaxed) {
            left = self.reader.as_mut().and_then(|reader| reader.take());
        }
        self.reader = None;
        drop(left);
        // A change of the same word on both sides, so that one comes after the other: a follower enters itself, then tries
        // to take the reader once more. Either we see it, or it acquires from us that the reader is free.
        if self.link.following.compare_exchange(0, 0, Ordering::AcqRel, Ordering::Acquire).is_err() {
            self.link.wake_successor();
        }
    }
}

impl Link {
    /// Sends a request and waits for its response on this thread, which reads it itself if nobody else does.
    pub(crate) fn call(&self, data: &[u8], timeout: Duration) -> Result<Response> {
        self.check_mine()?;
        let now = os::coarse_now();
        let due = self.due_from(now, timeout);
        if !self.is_over()
            && let Some(leading) = self.try_lead()
            && let Some(sent) = self.try_send(data, due, now, None)?
        {
            return self.lead_call(leading, sent, timeout, due);
        }
        let sequence = self.send(data, due, true, due)?;
        self.finish_call(sequence, due)
    }

    /// Reads until the response to `sent` is there. It has no entry, as nobody else reads.
    fn lead_call(
        &self,
        mut leading: Leading<'_>,
        sent: Sent,
        timeout: Duration,
        due: Due,
    ) -> Result<Response> {
        let mut left = timeout;
        loop {
            let mine = |frame: &Frame| frame.sequence() == sent.sequence && is_answer(frame, due);
            if let Some(frame) = leading.read(left, mine) {
                leading.hand_out();
                drop(leading);
                return self.conclude(sent.sequence, Outcome::Response(frame));
            }
            self.check_end()?;
            match due.left() {
                Some(time) => left = time,
                None => {
                    drop(leading);
                    self.withdraw(sent.place);
                    return Err(self.too_late(sent.sequence));
                }
            }
        }
    }

    /// Waits for the response to a call that has an entry; gives the request up when the time is over.
    pub(crate) fn finish_call(&self, sequence: u64, due: Due) -> Result<Response> {
        if let Some(response) = self.wait(Wants::One(sequence), due)? {
            return Ok(response);
        }
        let entry = lock(&self.inbox).entries.remove(&sequence);
        self.withdraw(entry.and_then(|entry| entry.place));
        Err(self.too_late(sequence))
    }

    /// Waits for an outcome until `until`. `None` when it is over; a time that is over polls once.
    pub(crate) fn wait(&self, wants: Wants, until: Due) -> Result<Option<Response>> {
        let result = self.wait_for_outcome(wants, until);
        if self.following.load(Ordering::Relaxed) > 0 {
            self.pass_on(wants);
        }
        let (sequence, outcome) = match result? {
            Some(outcome) => outcome,
            None => return Ok(None),
        };
        self.conclude(sequence, outcome).map(Some)
    }

    fn wait_for_outcome(&self, wants: Wants, until: Due) -> Result<Option<(u64, Outcome)>> {
        // Outlives the lock on the inbox, which its drop takes.
        let mut leading: Option<Leading<'_>> = None;
        let mut polled = false;
        let turns = self.turns.of_this_wait(self.following.load(Ordering::Relaxed));
        let mut began: Option<Instant> = None;
        loop {
            let mut inbox = lock(&self.inbox);
            inbox.leader = if leading.is_some() { None } else { inbox.leader };
            if let Some(outcome) = inbox.take(wants) {
                drop(inbox);
                if let (Some(began), (_, Outcome::Response(frame))) = (began, &outcome) {
                    self.turns.learn(began.elapsed(), frame.len());
                }
                if let Some(leading) = &mut leading {
                    leading.hand_out();
                }
                return Ok(Some(outcome));
            }
            if let Some(end) = &inbox.ended {
                let error = self.end_error(end);
                if let Wants::One(sequence) = wants {
                    inbox.entries.remove(&sequence);
                }
                return Err(error);
            }
            if let Wants::One(sequence) = wants
                && !inbox.entries.contains_key(&sequence)
            {
                return Err(self.no_response_expected(sequence));
            }
            let left = until.left();
            if left.is_none() && std::mem::replace(&mut polled, true) {
                return Ok(None);
            }
            let left = left.unwrap_or_default();
            if leading.is_none() {
                leading = self.try_lead();
            }
            if leading.is_none() && left.is_zero() {
                return Ok(None);
            }
            let mut id = None;
            if leading.is_none() {
                id = Some(inbox.follow(wants, self));
                // Once more, see Leading::drop.
                leading = self.try_lead();
            }
            if let Some(leading) = &mut leading {
                inbox.unfollow(id, self);
                inbox.leader = Some(wants);
                drop(inbox);
                // What the leader waits for is entered as well: it may be cancelled, or fetched by another thread.
                leading.read(left, |_| false);
            } else {
                drop(inbox);
                let began = *began.get_or_insert_with(Instant::now);
                if began.elapsed() < turns {
                    std::thread::yield_now();
                } else {
                    std::thread::park_timeout(left);
                }
                lock(&self.inbox).unfollow(id, self);
            }
        }
    }

    /// Whoever stops waiting may have been woken for what somebody else must do now.
    pub(crate) fn pass_on(&self, wants: Wants) {
        if wants == Wants::Any && !lock(&self.inbox).ready.is_empty() {
            self.wake_successor();
        }
        // If nobody reads: letting go of the reader wakes one who will.
        drop(self.try_lead());
    }

    fn wake_successor(&self) {
        let successor = lock(&self.inbox).successor();
        if let Some(thread) = successor {
            thread.unpark();
        }
    }

    /// Enters a response, and wakes whoever waits for it; says whether there was somebody.
    fn deliver(&self, frame: Frame) -> bool {
        let waiter = lock(&self.inbox).enter_outcome(frame.sequence(), Outcome::Response(frame));
        waiter.map(Waiter::wake).is_some()
    }

    /// What became of the channel by an error of the reader.
    fn read_failed(&self, error: &Error) {
        match error.kind() {
            // Whoever interrupted has changed the books.
            ErrorKind::Interrupted => {}
            ErrorKind::WriterClosed => {
                let message =
                    "the server has stopped: it reads no more requests; create a new client when it is back";
                self.end(ErrorKind::ReaderDead, message);
            }
            ErrorKind::WriterDead => {
                self.end(
                    ErrorKind::WriterDead,
                    "the server died; create a new client when there is a new one",
                );
            }
            kind => self.end(kind, error.message()),
        }
    }

    /// What the caller gets.
    pub(crate) fn conclude(&self, sequence: u64, outcome: Outcome) -> Result<Response> {
        let frame = match outcome {
            Outcome::Cancelled => {
                let error = self.error(ErrorKind::Cancelled, format!("request {sequence} was cancelled"));
                return Err(error.of_request(sequence));
            }
            Outcome::Response(frame) => frame,
        };
        let bits = frame.flags();
        if bits & flags::FAILED == 0 {
            return Ok(Response::new(frame));
        }
        if bits & flags::CANCELLED != 0 {
            return Err(self.too_late(sequence));
        }
        let message = if bits & flags::EMPTY != 0 { &[] } else { &*frame };
        let message = String::from_utf8_lossy(message).into_owned();
        Err(self.error(ErrorKind::RequestFailed, message).of_request(sequence))
    }

    pub(crate) fn no_response_expected(&self, sequence: u64) -> Error {
        let message = format!(
            "request {sequence} has no response to wait for: it was never sent, or its response was fetched"
        );
        self.error(ErrorKind::InvalidState, message).of_request(sequence)
    }

    pub(crate) fn too_late(&self, sequence: u64) -> Error {
        let message = format!(
            "request {sequence} was not answered by its deadline: allow more time, or let the server work with a thread pool"
        );
        self.error(ErrorKind::DeadlineExceeded, message).of_request(sequence)
    }

    /// Cancels a request: whoever waits for it is told at once. Says whether it was still under way.
    pub(crate) fn cancel(&self, sequence: u64) -> Result<bool> {
        self.check_mine()?;
        self.check_end()?;
        let mut inbox = lock(&self.inbox);
        let Some(entry) = inbox.entries.get_mut(&sequence).filter(|entry| entry.is_pending()) else {
            return Ok(false);
        };
        let place = entry.place.take();
        let leader = inbox.leader;
        let waiter = inbox.enter_outcome(sequence, Outcome::Cancelled);
        drop(inbox);
        match waiter {
            Some(waiter) => waiter.wake(),
            // The leader may be the one to tell.
            None if leader == Some(Wants::One(sequence)) || leader == Some(Wants::Any) => self.wake_leader(),
            None => {}
        }
        self.withdraw(place);
        Ok(true)
    }
}

impl Inbox {
    pub(crate) fn follow(&mut self, wants: Wants, link: &Link) -> u64 {
        self.next_follower += 1;
        let id = self.next_follower;
        self.followers.push(Follower { id, wants, thread: std::thread::current() });
        // Before trying to read once more, see Leading::drop.
        link.following.fetch_add(1, Ordering::AcqRel);
        id
    }

    pub(crate) fn unfollow(&mut self, id: Option<u64>, link: &Link) {
        if let Some(id) = id
            && let Some(index) = self.followers.iter().position(|follower| follower.id == id)
        {
            self.followers.remove(index);
            link.following.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_that_is_fetched_by_its_number_leaves_nothing_behind() {
        let mut inbox = Inbox::default();
        for sequence in 1..=3 {
            inbox.entries.insert(sequence, Entry::new(Due(0), false));
            inbox.enter_outcome(sequence, Outcome::Cancelled);
        }
        assert!(inbox.take(Wants::One(2)).is_some_and(|(sequence, _)| sequence == 2));
        assert_eq!(inbox.ready, [1, 3]);
        assert!(inbox.take(Wants::Any).is_some_and(|(sequence, _)| sequence == 1));
        inbox.forget(3);
        assert!(inbox.ready.is_empty() && inbox.entries.is_empty() && inbox.take(Wants::Any).is_none());
    }
}
