//! The sending half of a client: one thread at a time has the request writer, the others wait for it.

use std::time::{Duration, Instant};

use super::inbox::Entry;
use super::state::{ClientState, GONE, WriterSlot, wake_all};
use crate::duplex::due::{self, Due};
use crate::duplex::port::{Place, Tag, Writer, flags};
use crate::duplex::sync::{lock, thread, wait};
use crate::error::{Error, ErrorKind, Result};

/// How often a thread that waits for the request buffer, or for space in it, checks that the server lives; and so one that waits for a
/// response, where the watcher does not tell of the server's end. That shows at the response buffer only if the server had
/// connected there.
pub(crate) const LOOK: Duration = Duration::from_millis(40);

/// The first wait for space, after which responses that have come meanwhile are taken in. Each further one is twice as long.
const SPACE: Duration = Duration::from_millis(5);

/// A request that has been sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) sequence: u64,
    /// Its frame address in the request buffer, to withdraw it.
    pub(crate) place: Option<Place>,
}

impl ClientState {
    pub(crate) fn tag(&self, sequence: u64, due: Due) -> Tag {
        Tag { sequence: Some(sequence), flags: 0, deadline: if self.tags { due.0 } else { 0 } }
    }

    fn place_of_last(&self, writer: &Writer) -> Option<Place> {
        if self.tags { writer.last_place() } else { None }
    }

    /// Sends a request if that takes no wait. Without an `entry` its response reaches only a thread that
    /// reads already. `now` is the coarse clock.
    pub(crate) fn try_send(
        &self,
        data: &[u8],
        due: Due,
        now: u64,
        entry: Option<Entry>,
    ) -> Result<Option<Sent>> {
        let mut sender = lock(&self.sender);
        if sender.waiting > 0 {
            return Ok(None);
        }
        let sequence = sender.next;
        let WriterSlot::Free(writer) = &mut sender.slot else { return Ok(None) };
        writer.set_write_timeout(Duration::ZERO);
        let entered = entry.is_some();
        if let Some(entry) = entry {
            lock(&self.inbox).entries.insert(sequence, entry);
        }
        let written = writer.write_tagged(data, self.tag(sequence, due), now);
        if entered && written.is_err() {
            lock(&self.inbox).forget(sequence);
        }
        match written {
            Ok(_) => {
                let place = self.place_of_last(writer);
                sender.next += 1;
                Ok(Some(Sent { sequence, place }))
            }
            Err(error) if matches!(error.kind(), ErrorKind::BufferFull | ErrorKind::Interrupted) => Ok(None),
            Err(error) => {
                drop(sender);
                Err(self.send_failed(error))
            }
        }
    }

    /// Sends a request, waiting for space until `until`. Returns its sequence number. `called` says that the
    /// response is only for the caller.
    pub(crate) fn send(&self, data: &[u8], due: Due, called: bool, until: Due) -> Result<u64> {
        let (writer, sequence) = self.take_writer(until)?;
        self.enter(sequence, due, called);
        let (writer, result) = self.persist(writer, until, |writer| {
            // A request that was cancelled while it waited for space is sent all the same, because its number
            // must not be missing.
            let flags = if self.is_pending(sequence) { 0 } else { flags::CANCELLED };
            writer.write_tagged(data, Tag { flags, ..self.tag(sequence, due) }, due::coarse_now())
        });
        self.sent(writer, sequence, result)
    }

    fn is_pending(&self, sequence: u64) -> bool {
        lock(&self.inbox).entries.get(&sequence).is_some_and(Entry::is_pending)
    }

    /// Takes the writer, waiting for it until `until`. Returns the sequence number of the next request.
    pub(crate) fn take_writer(&self, until: Due) -> Result<(Box<Writer>, u64)> {
        let mut sender = lock(&self.sender);
        loop {
            self.check_end()?;
            if let Some(writer) = sender.take() {
                return Ok((writer, sender.next));
            }
            if matches!(&sender.slot, WriterSlot::Lent { thread, .. } if *thread == thread::current().id()) {
                let message = "this thread has acquired a request buffer: commit or drop it first";
                return Err(self.error(ErrorKind::InvalidState, message));
            }
            let Some(left) = until.left() else {
                let message = "other threads kept the request buffer busy all the time: the server is slower than \
                               its clients";
                return Err(self.error(ErrorKind::BufferFull, message));
            };
            sender.waiting += 1;
            sender = wait(&self.sender_changed, sender, left.min(LOOK));
            sender.waiting -= 1;
            // The thread that has the writer may take long to fill a request, and perhaps no thread is
            // reading.
            if !matches!(sender.slot, WriterSlot::Free(_)) && self.server_is_gone() {
                return Err(self.error(ErrorKind::ReaderDead, GONE));
            }
        }
    }

    /// Puts the writer back for the next sender, or closes it after the close.
    pub(crate) fn put_writer_back(&self, mut writer: Box<Writer>) {
        let mut sender = lock(&self.sender);
        sender.withdraw_with(&mut writer);
        if !sender.closed {
            sender.slot = WriterSlot::Free(writer);
            if sender.waiting > 0 {
                self.sender_changed.notify_one();
            }
            return;
        }
        drop(sender);
        drop(writer);
        lock(&self.sender).slot = WriterSlot::Gone;
        self.sender_changed.notify_all();
    }

    /// Runs a step that may wait for space, and repeats it after every interrupt that was not meant to end
    /// it. Before each wait, takes in the responses that have come.
    pub(crate) fn persist<T>(
        &self,
        mut writer: Box<Writer>,
        until: Due,
        mut attempt: impl FnMut(&mut Writer) -> Result<T>,
    ) -> (Box<Writer>, Result<T>) {
        let mut slice = Duration::ZERO;
        let (mut began, mut is_over) = (None, false);
        loop {
            let left = until.left();
            writer.set_write_timeout(left.unwrap_or_default().min(slice));
            match attempt(&mut writer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {
                    lock(&self.sender).withdraw_with(&mut writer);
                    if let Err(error) = self.check_end() {
                        return (writer, Err(error));
                    }
                }
                Err(error) if error.kind() == ErrorKind::BufferFull => {
                    let began = *began.get_or_insert_with(Instant::now);
                    // After the time is over there is one more attempt, if it may succeed.
                    let last = std::mem::replace(&mut is_over, left.is_none());
                    if !self.take_in() && is_over || last {
                        return (writer, Err(self.full(began.elapsed())));
                    }
                    slice = (slice * 2).clamp(SPACE, LOOK);
                }
                result => return (writer, result),
            }
        }
    }

    fn full(&self, waited: Duration) -> Error {
        let message = format!(
            "no space for the request within {waited:.0?}: the server is slower than its clients, or responses are held; receive \
             and drop them faster, or allow more time"
        );
        self.error(ErrorKind::BufferFull, message)
    }

    /// Enters a request that is about to be committed.
    pub(crate) fn enter(&self, sequence: u64, due: Due, called: bool) {
        lock(&self.inbox).entries.insert(sequence, Entry::new(due, called));
    }

    /// Puts the writer back, and enters how sending the request `sequence` ended.
    pub(crate) fn sent(&self, writer: Box<Writer>, sequence: u64, result: Result<u64>) -> Result<u64> {
        let place = self.place_of_last(&writer);
        if result.is_ok() {
            lock(&self.sender).next += 1;
        } else {
            // It may have been cancelled before it failed.
            lock(&self.inbox).forget(sequence);
        }
        self.put_writer_back(writer);
        if result.is_ok() {
            self.set_place(Sent { sequence, place });
        }
        result.map_err(|error| self.send_failed(error)).map(|_| sequence)
    }

    /// Enters the frame address of a request that was sent with an entry. Withdraws the request if a thread
    /// that did not know the address has cancelled it meanwhile.
    pub(crate) fn set_place(&self, sent: Sent) {
        let mut inbox = lock(&self.inbox);
        match inbox.entries.get_mut(&sent.sequence) {
            Some(entry) if entry.is_pending() => entry.place = sent.place,
            Some(entry) if !entry.is_cancelled() => {}
            _ => {
                drop(inbox);
                self.withdraw(sent.place);
            }
        }
    }

    /// Withdraws a request from the request buffer, if it is known to be there.
    pub(crate) fn withdraw(&self, place: Option<Place>) {
        let mut sender = lock(&self.sender);
        let Some(place) = place else {
            if matches!(sender.slot, WriterSlot::Sending) {
                // The request may be the one that waits for space; its sender looks again.
                self.wake_sender();
            }
            return;
        };
        if let WriterSlot::Free(writer) = &mut sender.slot {
            writer.cancel(place);
            return;
        }
        if sender.closed {
            return;
        }
        if let WriterSlot::Lent { marker: Some(marker), .. } = sender.slot {
            // Until this lock is released, the writer commits no more than it has acquired.
            return self.server.cancel(marker, place);
        }
        sender.withdrawn.push(place);
        drop(sender);
        // The thread that has the writer may be waiting for space behind this very request.
        self.wake_sender();
    }

    /// Ends the channel if an error of the writer means that. Returns the error to report.
    pub(crate) fn send_failed(&self, error: Error) -> Error {
        match error.kind() {
            ErrorKind::BufferFull
            | ErrorKind::FrameTooLarge
            | ErrorKind::InvalidFrameSize
            | ErrorKind::OutOfMemory
            | ErrorKind::InvalidState
            | ErrorKind::Closed => error,
            // Responses that the server sent before may still be unread: the thread that reads finds the end.
            ErrorKind::ReaderDead => {
                self.error(ErrorKind::ReaderDead, format!("the server has gone: {}", error.message()))
            }
            kind => {
                wake_all(self.end(kind, error.message()));
                error
            }
        }
    }
}
