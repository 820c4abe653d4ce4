//! The inbox of a client: requests under way, outcomes that have come, and the threads and tasks that wait.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use super::response::Received;
use crate::duplex::due::Due;
use crate::duplex::port::{Frame, Place};
use crate::duplex::sync::{Thread, thread};
use crate::error::ErrorKind;

#[derive(Default)]
pub(crate) struct Inbox {
    /// Requests under way, and outcomes that have not been fetched.
    pub(crate) entries: HashMap<u64, Entry, BuildHasherDefault<SequenceHasher>>,
    /// Requests whose outcome is for [`super::DuplexClient::receive_response`], in the order of arrival.
    pub(crate) ready: VecDeque<u64>,
    /// The request that the leader waits for, if it has an entry.
    pub(crate) leader: Option<Wants>,
    /// Threads that wait for an outcome while another one reads.
    followers: Vec<Follower>,
    next_follower: u64,
    /// Why there will be no more responses.
    pub(crate) ended: Option<End>,
    #[cfg(feature = "async")]
    pub(crate) tasks: Tasks,
}

/// Why a channel ended.
#[derive(Clone)]
pub(crate) struct End {
    pub(crate) kind: ErrorKind,
    pub(crate) message: String,
}

/// A request under way.
pub(crate) struct Entry {
    due: Due,
    /// Its outcome is only for the thread that called.
    called: bool,
    /// Its frame address in the request buffer, to withdraw it.
    pub(crate) place: Option<Place>,
    outcome: Option<Outcome>,
    /// It is in [`Inbox::ready`].
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

    pub(crate) fn is_pending(&self) -> bool {
        self.outcome.is_none()
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        matches!(self.outcome, Some(Outcome::Cancelled))
    }
}

/// The thread or task to wake for an outcome.
pub(crate) enum Waiter {
    Thread(Thread),
    #[cfg(feature = "async")]
    Task(std::task::Waker),
}

pub(crate) enum Outcome {
    Response(Received),
    Cancelled,
}

/// The outcome that a thread waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wants {
    /// The outcome of this request.
    One(u64),
    /// The next outcome that belongs to no caller.
    Any,
    /// Nothing: the thread reads for the tasks, which cannot read.
    #[cfg(feature = "async")]
    Lead,
}

/// A thread that waits while another one reads.
struct Follower {
    id: u64,
    wants: Wants,
    thread: Thread,
}

/// What the inbox knows about tasks.
#[cfg(feature = "async")]
#[derive(Default)]
pub(crate) struct Tasks {
    /// Calls that are not done.
    pub(crate) pending: usize,
    /// Tasks that wait for space in the request buffer.
    pub(crate) stalled: Vec<std::task::Waker>,
    /// The thread that reads for them, once there was one.
    pub(crate) reader: Option<std::thread::Thread>,
}

impl Inbox {
    /// Takes the outcome that is `wanted`, if it has come.
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

    /// Removes a request.
    pub(crate) fn forget(&mut self, sequence: u64) -> Option<Entry> {
        let entry = self.entries.remove(&sequence);
        // It is usually the first one.
        if entry.as_ref().is_some_and(|entry| entry.ready)
            && let Some(index) = self.ready.iter().position(|ready| *ready == sequence)
        {
            self.ready.remove(index);
        }
        entry
    }

    /// Enters an outcome. Returns the thread or task to wake. Drops a second outcome, and an outcome of a
    /// withdrawn request.
    pub(crate) fn enter_outcome(&mut self, sequence: u64, outcome: Outcome) -> Option<Waiter> {
        let entry = self.entries.get_mut(&sequence).filter(|entry| entry.is_pending())?;
        if let Outcome::Response(Received::Frame(frame)) = &outcome
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

    /// Copies responses that no caller has fetched, the oldest request's first, up to `most` bytes of copies. Returns whether
    /// any was copied.
    pub(crate) fn copy_responses(&mut self, most: usize) -> bool {
        let mut copied = 0;
        let mut frames = Vec::new();
        for (sequence, entry) in &mut self.entries {
            match &mut entry.outcome {
                Some(Outcome::Response(response)) if response.is_copy() => copied += response.len(),
                Some(Outcome::Response(response)) => frames.push((*sequence, response)),
                _ => {}
            }
        }
        frames.sort_unstable_by_key(|(sequence, _)| *sequence);
        let mut any = false;
        for (_, response) in frames {
            copied += response.len();
            if copied > most {
                break;
            }
            any |= response.copy();
        }
        any
    }

    /// Adds this thread to those that wait. Returns its number among them.
    pub(crate) fn follow(&mut self, wants: Wants) -> u64 {
        self.next_follower += 1;
        let id = self.next_follower;
        self.followers.push(Follower { id, wants, thread: thread::current() });
        id
    }

    /// Removes a follower. Returns whether it was there.
    pub(crate) fn unfollow(&mut self, id: u64) -> bool {
        let index = self.followers.iter().position(|follower| follower.id == id);
        index.inspect(|index| _ = self.followers.remove(*index)).is_some()
    }

    /// Wakes all threads that wait.
    pub(crate) fn wake_followers(&self) {
        self.followers.iter().for_each(|follower| follower.thread.unpark());
    }

    /// The thread to wake when a thread stops waiting: one whose outcome is ready, or else a new leader. A
    /// thread that has been told of its outcome is awake already.
    pub(crate) fn successor(&self) -> Option<Thread> {
        let any = self.followers.iter().find(|follower| follower.wants == Wants::Any);
        let ready = any.filter(|_| !self.ready.is_empty());
        let waits = |follower: &&Follower| match follower.wants {
            Wants::One(sequence) => self.entries.get(&sequence).is_none_or(Entry::is_pending),
            _ => true,
        };
        ready.or_else(|| self.followers.iter().find(waits)).map(|follower| follower.thread.clone())
    }

    /// Takes the wakers of all tasks, and the thread that reads for them, at the end of the channel.
    #[cfg(feature = "async")]
    pub(crate) fn take_all_tasks(&mut self) -> (Vec<std::task::Waker>, Option<std::thread::Thread>) {
        let mut tasks = std::mem::take(&mut self.tasks.stalled);
        tasks.extend(self.entries.values_mut().filter_map(|entry| entry.waker.take()));
        (tasks, self.tasks.reader.take())
    }

    /// Takes the wakers of tasks whose time is over.
    #[cfg(feature = "async")]
    pub(crate) fn take_overdue_tasks(&mut self) -> Vec<std::task::Waker> {
        let overdue = self.entries.values_mut().filter(|entry| entry.waker.is_some() && entry.due.is_over());
        overdue.filter_map(|entry| entry.waker.take()).collect()
    }
}

/// Whether `frame` answers a request with this deadline, rather than a predecessor's request with the same number.
pub(crate) fn is_answer(frame: &Frame, due: Due) -> bool {
    frame.deadline() == 0 || frame.deadline() == due.0
}

/// Sequence numbers are consecutive, so one multiplication spreads them well enough (Knuth's golden ratio).
#[derive(Default)]
pub(crate) struct SequenceHasher(u64);

impl Hasher for SequenceHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte) ^ self.0);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

#[cfg(all(test, not(loom)))]
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
