//! The receiving half of a client: leader and followers.
//!
//! The client has no thread that reads. One of the threads that wait for a response, the leader, has the
//! reader and reads. It enters responses for others in the inbox, and wakes their threads. When it has its
//! own response, it gives up the reader and wakes a thread that still waits, to lead. So a single caller
//! reads its own response, without a switch between threads and without an entry in the inbox.
//!
//! Where many threads call, most of the cost is switching between them. So a leader that has its own response
//! first passes on all responses that have come for others; their threads then need no leader. Where answers
//! come soon, the threads yield to each other instead of sleeping ([`crate::duplex::turns`]).

use std::time::{Duration, Instant};

use super::inbox::{Inbox, Outcome, Waiter, Wants, is_answer};
use super::leader::Leading;
use super::response::{Received, Response};
use super::send::Sent;
use super::state::ClientState;
#[cfg(feature = "async")]
use super::state::wake_all;
use crate::duplex::MESSAGE_MAX;
use crate::duplex::due::{self, Due};
use crate::duplex::port::{Frame, flags};
use crate::duplex::sync::{lock, park, thread};
use crate::error::{ErrorKind, Result};
use crate::sync::Ordering;

impl ClientState {
    /// Sends a request and waits for its response on this thread, which reads it itself if no other thread does.
    pub(crate) fn call(&self, data: &[u8], timeout: Duration) -> Result<Response> {
        self.check_mine()?;
        let now = due::coarse_now();
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

    /// Reads until the response to `sent` is there. It has no entry, because no other thread reads.
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
                return self.conclude(sent.sequence, Outcome::Response(Received::Frame(frame)));
            }
            self.check_end()?;
            if leading.owes_wakes() {
                // Another thread may read the response from now on.
                self.enter(sent.sequence, due, true);
                self.set_place(sent);
                drop(leading);
                return self.finish_call(sent.sequence, due);
            }
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

    /// Waits for the response to a call that has an entry. Withdraws the request when the time is over.
    pub(crate) fn finish_call(&self, sequence: u64, due: Due) -> Result<Response> {
        if let Some(response) = self.wait(Wants::One(sequence), due)? {
            return Ok(response);
        }
        self.give_up(sequence);
        Err(self.too_late(sequence))
    }

    /// Removes a request from the inbox, and withdraws it.
    pub(crate) fn give_up(&self, sequence: u64) {
        let entry = lock(&self.inbox).forget(sequence);
        self.withdraw(entry.and_then(|entry| entry.place));
    }

    /// Waits for an outcome until `until`. Returns `None` when that time is over. If it is over already,
    /// polls once.
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
                if let (Some(began), (_, Outcome::Response(response))) = (began, &outcome) {
                    self.turns.learn(began.elapsed(), response.len());
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
                id = Some(self.follow(&mut inbox, wants));
                // Tries once more, for the reason given at the drop of Leading.
                leading = self.try_lead();
            }
            if let Some(lead) = &mut leading {
                self.unfollow(&mut inbox, id);
                inbox.leader = Some(wants);
                drop(inbox);
                // The leader's own request has an entry too, because another thread may cancel it or fetch
                // its outcome.
                lead.read(left, |_| false);
                if lead.owes_wakes() {
                    lock(&self.inbox).leader = None;
                    leading = None;
                }
            } else {
                drop(inbox);
                let began = *began.get_or_insert_with(Instant::now);
                if began.elapsed() < turns {
                    thread::yield_now();
                } else {
                    park(left);
                }
                self.unfollow(&mut lock(&self.inbox), id);
            }
        }
    }

    /// Adds this thread to those that wait while another one reads.
    pub(crate) fn follow(&self, inbox: &mut Inbox, wants: Wants) -> u64 {
        let id = inbox.follow(wants);
        // This comes before the next attempt to lead, for the reason given at the drop of Leading.
        self.following.fetch_add(1, Ordering::AcqRel);
        id
    }

    pub(crate) fn unfollow(&self, inbox: &mut Inbox, id: Option<u64>) {
        if let Some(id) = id
            && inbox.unfollow(id)
        {
            self.following.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Wakes another thread in place of this one: a thread that stops waiting may have been woken to lead.
    pub(crate) fn pass_on(&self, wants: Wants) {
        if wants == Wants::Any && !lock(&self.inbox).ready.is_empty() {
            self.wake_successor();
        }
        // Giving up the reader wakes a thread that will read, if none does.
        drop(self.try_lead());
    }

    /// Takes in the responses that no caller has read, as copies, so that they keep no space of either buffer: the server gives
    /// back a request that its response refers to when the client has given back the response. Returns whether there were any.
    ///
    /// As many bytes are copied as the request buffer has, so that a client that never reads takes no memory without limit.
    pub(crate) fn take_in(&self) -> bool {
        let came = self.try_lead().is_some_and(|mut leading| leading.take_in());
        lock(&self.inbox).copy_responses(self.max_request_size) || came
    }

    /// Turns an outcome into the caller's result.
    pub(crate) fn conclude(&self, sequence: u64, outcome: Outcome) -> Result<Response> {
        let received = match outcome {
            Outcome::Cancelled => {
                let error = self.error(ErrorKind::Cancelled, format!("request {sequence} was cancelled"));
                return Err(error.of_request(sequence));
            }
            Outcome::Response(received) => received,
        };
        let bits = received.flags();
        if bits & flags::FAILED == 0 {
            return Ok(Response::new(received));
        }
        if bits & flags::CANCELLED != 0 {
            return Err(self.too_late(sequence));
        }
        // A server that breaks the limit must not cost memory.
        let message =
            if bits & flags::EMPTY != 0 { &[] } else { &received[..received.len().min(MESSAGE_MAX)] };
        let message = String::from_utf8_lossy(message).into_owned();
        Err(self.error(ErrorKind::RequestFailed, message).of_request(sequence))
    }

    /// Cancels a request, and tells the thread that waits for it at once. Returns whether it was still under way.
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
        self.withdraw(place);
        match waiter {
            Some(Waiter::Thread(thread)) => thread.unpark(),
            #[cfg(feature = "async")]
            Some(Waiter::Task(waker)) => wake_all(vec![waker]),
            // The leader may be the thread that waits for this outcome.
            None if leader == Some(Wants::One(sequence)) || leader == Some(Wants::Any) => self.wake_leader(),
            None => self.ring_descriptor(),
        }
        Ok(true)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::config::BufferConfig;
    use crate::duplex::DuplexChannelFactory;
    use crate::duplex::port::{Reader, Tag, Writer};

    #[test]
    fn the_message_of_a_failed_request_costs_no_more_memory_than_a_server_may_send() {
        let channel = format!("unit-message-{}", std::process::id());
        let mut requests = Reader::create(&format!("{channel}_request"), BufferConfig::default()).unwrap();
        let client = DuplexChannelFactory::new().create_client(&channel).unwrap();
        let sequence = client.send_request(b"x").unwrap();
        let deadline = requests.read_frame(Duration::ZERO).unwrap().expect("the request").deadline();
        let mut responses = Writer::connect(&format!("{channel}_response")).unwrap();
        let tag = Tag { sequence: Some(sequence), flags: flags::FAILED, deadline };
        responses.write_tagged(&vec![b'a'; 10 << 20], tag, due::coarse_now()).unwrap();
        let error = client.receive_response(Duration::from_secs(30)).unwrap_err();
        assert_eq!((error.kind(), error.message().len()), (ErrorKind::RequestFailed, MESSAGE_MAX));
    }
}
