//! What a reader shares with the frames that it has lent.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::record::{FrameRecord, Tag};
use super::{classic, extended};
use crate::buffer::{Buffer, HasBuffer};
use crate::layout::{Cursor, HeaderWord};
use crate::memory::Memory;
use crate::stats::HeldFrames;
use crate::sync::{AtomicBool, Ordering};
use crate::testing::stop::stop_point;

/// What a reader and its frames share. Frames may outlive the reader.
pub(crate) struct Lender {
    pub(crate) buffer: Buffer,
    classic: Mutex<classic::ReleaseQueue>,
    pub(super) extended: extended::ReleaseQueue,
    /// The ring is an extended one: set before its first frame is read.
    is_extended: AtomicBool,
}

impl HasBuffer for Lender {
    fn buffer(&self) -> &Buffer {
        &self.buffer
    }
}

impl Lender {
    pub(crate) fn new(buffer: Buffer) -> Lender {
        Lender {
            buffer,
            classic: Mutex::new(classic::ReleaseQueue::new()),
            extended: extended::ReleaseQueue::new(),
            is_extended: AtomicBool::new(false),
        }
    }

    /// The release queue of a classic ring.
    pub(super) fn classic(&self) -> MutexGuard<'_, classic::ReleaseQueue> {
        // Nothing in the critical sections panics half-way through a change, so a poisoned queue is still whole.
        self.classic.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Before the first frame of an extended ring is read, with the place where the reader stands and the ring's size.
    pub(super) fn start_extended(&self, at: Cursor, size: u64) {
        self.extended.start(at, size);
        self.is_extended.store(true, Ordering::Relaxed);
    }

    #[inline]
    fn is_extended(&self) -> bool {
        // Relaxed: set by the reader's thread before it makes a frame, which comes to other threads in order.
        self.is_extended.load(Ordering::Relaxed)
    }

    /// The last frame read becomes an owned one, on the reader's thread.
    #[inline(always)]
    pub(crate) fn own(&self, record: &FrameRecord) -> FrameRecord {
        if self.is_extended() { record.with_ticket(self.extended.hold(record)) } else { *record }
    }

    /// Whether something is committed behind [`crate::Reader::cursor`]; on any thread.
    pub(crate) fn has_unread_behind(&self, cursor: u64) -> bool {
        let mapping = &self.buffer.mapping;
        if mapping.is_extended() {
            // Acquire: a thread that is told of a frame finds it.
            return mapping.control().written.head.load(Ordering::Acquire) != cursor;
        }
        let held = self.classic().held();
        let free = mapping.oieb().payload_free_bytes.load(Ordering::Acquire);
        mapping.geometry().payload_size.saturating_sub(free) > held
    }

    /// The frames that are held; on any thread.
    pub(crate) fn held(&self) -> HeldFrames {
        if !self.buffer.is_mine() {
            // A thread that is not here may hold the lock.
            return HeldFrames::default();
        }
        if self.is_extended() { self.extended.held() } else { self.classic().held_frames() }
    }

    /// Releases an owned frame, on any thread.
    pub(crate) fn release(&self, record: &FrameRecord) {
        // In a forked child the frame is the parent's to release, and a thread that is not here may hold the lock.
        if !self.buffer.is_mine() {
            return;
        }
        if !self.is_extended() {
            self.release_classic(record.ticket);
        } else if self.extended.release(&self.buffer.mapping, record) {
            self.ring_writer();
        }
    }

    /// Releases a borrowed frame: the last one read, on the reader's thread.
    #[inline]
    pub(crate) fn release_last(&self, record: &FrameRecord) {
        if !self.buffer.is_mine() {
            return;
        }
        if !self.is_extended() {
            self.release_classic(record.ticket);
        } else if self.extended.release_last(&self.buffer.mapping, record) {
            self.ring_writer();
        }
    }

    /// Gives back frames of an extended ring that were passed over, on the reader's thread.
    pub(super) fn pass_over(&self, passed: extended::Stretch) {
        if self.extended.pass_over(&self.buffer.mapping, passed) {
            self.ring_writer();
        }
    }

    fn release_classic(&self, ticket: u64) {
        let mut queue = self.classic();
        // A writer takes the tokens away before it waits for space, or does without.
        let given_back = queue.release(&self.buffer.mapping, ticket, || self.buffer.sem_r.value() <= 0);
        queue.take_wake();
        drop(queue);
        if given_back {
            self.wake_writer();
        }
    }

    /// Wakes the writer of a classic ring, to which bytes went back. The queue's lock is not held.
    pub(super) fn wake_writer(&self) {
        classic::wake_writer(&self.buffer, || self.classic().writer_was_short());
    }

    #[cold]
    pub(super) fn ring_writer(&self) {
        stop_point!("extended:ring-writer");
        self.buffer.ring_peer();
    }

    /// The first word of a frame's header as it is now; `None` in a classic ring.
    pub(crate) fn header_word(&self, record: &FrameRecord) -> Option<HeaderWord> {
        if !self.is_extended() {
            return None;
        }
        // Acquire pairs with the Release in Marker::mark.
        let words = self.buffer.mapping.words(record.header());
        words.map(|[word, _]| HeaderWord(word.load(Ordering::Acquire)))
    }

    /// The deadline in a frame's header; 0 = none.
    pub(crate) fn deadline(&self, record: &FrameRecord) -> u64 {
        let has_one = record.flags() & HeaderWord::DEADLINE != 0;
        // A header that is too short for a deadline has none, even if its flags claim one.
        if !has_one || record.header_len() < (Tag { deadline: 1, ..Tag::default() }).header() {
            return 0;
        }
        // Relaxed: the Acquire load of `head` came before.
        let word = self.buffer.mapping.words(record.header() + Cursor::UNIT);
        word.map_or(0, |[deadline, _]| deadline.load(Ordering::Relaxed))
    }
}
