//! What a reader shares with the frames that it has lent.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::record::{FrameRecord, Tag};
use super::{classic, extended};
use crate::buffer::{Buffer, HasBuffer};
use crate::layout::{Cursor, HeaderWord, WriterWord};
use crate::memory::Memory;
use crate::os::{self, FileId};
use crate::sharing::loans::{Loans, OldestLoan};
use crate::sharing::source::{Borrowed, BorrowedFrame};
use crate::stats::HeldFrames;
use crate::sync::{AtomicBool, Ordering};
use crate::testing::stop::stop_point;

/// What a reader and its frames share. Frames may outlive the reader.
pub(crate) struct Lender {
    pub(crate) buffer: Buffer,
    classic: Mutex<classic::ReleaseQueue>,
    pub(crate) extended: extended::ReleaseQueue,
    /// What the reader has lent to other readers.
    pub(crate) loans: Loans,
    /// What the reader has read by reference.
    pub(crate) borrowed: BorrowedCount,
    /// The ring is an extended one: set before its first frame is read.
    is_extended: AtomicBool,
}

/// Counts frames that were read by reference: on the reader's thread alone, so no count is lost without a read-modify-write; for any
/// thread. All accesses are Relaxed, as the counters order nothing.
#[derive(Default)]
pub(crate) struct BorrowedCount {
    frames: AtomicU64,
    bytes: AtomicU64,
}

impl BorrowedCount {
    pub(crate) fn add(&self, bytes: u64) {
        self.set(self.frames() + 1, self.bytes() + bytes);
    }

    /// One of them is not returned after all.
    pub(crate) fn take_back(&self, bytes: u64) {
        self.set(self.frames() - 1, self.bytes() - bytes);
    }

    fn set(&self, frames: u64, bytes: u64) {
        self.frames.store(frames, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl HasBuffer for Lender {
    fn buffer(&self) -> &Buffer {
        &self.buffer
    }

    fn add_outputs(&self, outputs: &mut Vec<Arc<Buffer>>) -> bool {
        self.loans.for_each_output(|output| outputs.push(Arc::clone(output)))
    }

    fn has_returned(&self) -> bool {
        self.loans.has_returned()
    }
}

impl Lender {
    /// `lends` is the buffer's file, if its frames may be lent.
    pub(crate) fn new(buffer: Buffer, lends: Option<FileId>) -> Lender {
        Lender {
            buffer,
            classic: Mutex::new(classic::ReleaseQueue::new()),
            extended: extended::ReleaseQueue::new(),
            loans: Loans::new(lends),
            borrowed: BorrowedCount::default(),
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

    /// Whether the release of a borrowed frame would be more than a note that its bytes may go back. On the reader's thread.
    #[inline]
    pub(crate) fn is_due(&self, record: &FrameRecord) -> bool {
        !self.is_extended() || self.extended.is_due(&self.buffer.mapping, record)
    }

    /// Releases a borrowed frame if that is a note that its bytes may go back, and no more. On the reader's thread. Returns whether it
    /// did.
    #[inline]
    pub(crate) fn release_quietly(&self, record: &FrameRecord) -> bool {
        self.buffer.is_mine()
            && self.is_extended()
            && self.extended.release_quietly(&self.buffer.mapping, record)
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
            // A borrowed one has its header elsewhere.
            return if has_one { self.deadline_of_borrowed(record) } else { 0 };
        }
        // Relaxed: the Acquire load of `head` came before.
        let word = self.buffer.mapping.words(record.header() + Cursor::UNIT);
        word.map_or(0, |[deadline, _]| deadline.load(Ordering::Relaxed))
    }

    // ---- frames lent to other readers ----

    /// Whether frames of this reader can be lent: not those of a classic ring, nor after the reader has closed.
    pub(crate) fn may_lend(&self) -> bool {
        self.loans.file().is_some() && self.buffer.is_mine()
    }

    /// Lends the frame of `record` once more. `None` if it cannot be: half of the buffer is lent already, at most.
    pub(crate) fn lend(&self, record: &FrameRecord) -> Option<u64> {
        if !self.may_lend() || !self.is_extended() {
            return None;
        }
        self.extended.lend(record, self.buffer.mapping.geometry().payload_size / 2)
    }

    /// Whether the owner of the frame of `record` is the only one who has it.
    pub(crate) fn is_only_mine(&self, record: &FrameRecord) -> bool {
        self.buffer.is_mine() && (!self.is_extended() || self.extended.is_only_mine(record))
    }

    /// Makes the frame of `record` one whose owner has a copy of its own; `None` in a classic ring, where nothing is lent.
    pub(crate) fn keep_copy(&self, record: &FrameRecord, copy: Vec<u8>) -> Option<FrameRecord> {
        if self.is_extended() { self.extended.keep_copy(record, copy) } else { None }
    }

    /// A loan has ended, on any thread.
    pub(crate) fn end_loan(&self, ticket: u64) {
        if self.extended.end_loan(&self.buffer.mapping, ticket) {
            self.ring_writer();
        }
    }

    /// Takes back what borrowers are done with. Tests whether they live if `surely`, else now and then.
    #[inline]
    pub(crate) fn settle_loans(&self, surely: bool) {
        if self.loans.any() {
            self.settle(|_| surely);
        }
    }

    /// Takes back what borrowers are done with. Tests whether that of `loan` lives.
    pub(super) fn settle_oldest(&self, loan: &OldestLoan) {
        self.settle(|output| Arc::ptr_eq(output, loan.output()));
    }

    /// Has borrowers that give something back make the descriptor ready, which has just been armed. Takes back what they are
    /// done with. `again`: their doorbells do not say so.
    pub(crate) fn arm_loans(&self, again: bool) {
        // Behind the fence of the arming: another thread that lends for the first time, and does not see it, is seen here.
        if !self.loans.any() {
            return;
        }
        let Some(descriptor) = self.buffer.descriptor() else { return };
        if again {
            self.loans.arm(descriptor.fifo_id());
            descriptor.note_outputs();
        }
        // The watch stands before the borrowers' locks are tested.
        self.loans.for_each_output(|_| {});
        self.settle_loans(true);
    }

    #[cold]
    fn settle(&self, surely: impl Fn(&Arc<Buffer>) -> bool) {
        if self.buffer.is_mine() {
            let mut ring = false;
            let end = |ticket| ring |= self.extended.end_loan(&self.buffer.mapping, ticket);
            self.loans.settle(surely, end);
            if ring {
                self.ring_writer();
            }
        }
    }

    // ---- frames borrowed from other readers ----

    /// The word of its writer that the frame of `record` carries, in an extended ring.
    pub(crate) fn author(&self, record: &FrameRecord) -> Option<WriterWord> {
        let header = self.header_word(record)?;
        extended::signature(&self.buffer.mapping, record.header(), header)
    }

    #[cold]
    fn deadline_of_borrowed(&self, record: &FrameRecord) -> u64 {
        if record.elsewhere_at().is_none() { 0 } else { self.extended.deadline_of_borrowed(record.ticket) }
    }

    pub(crate) fn is_borrowing(&self) -> bool {
        self.extended.is_borrowing()
    }

    /// The reader has the borrower's `lock`. On its thread.
    pub(crate) fn begin_to_borrow(&self, lock: os::LockFile) {
        self.extended.begin_to_borrow(lock);
    }

    /// Holds the frame that the reference in `record` stands for: `len` bytes, kept by `bytes`. On the reader's thread.
    pub(crate) fn hold_borrowed(&self, record: &FrameRecord, len: u64, bytes: Borrowed) -> FrameRecord {
        let (address, deadline) = (bytes.address(), self.deadline(record));
        let ticket = self
            .extended
            .hold_borrowed(record, BorrowedFrame { _bytes: bytes, reference: *record, deadline });
        FrameRecord::borrowed(address, len, record, ticket)
    }

    /// Lets go of the borrowed frame that was taken last, as if it had not been resolved; returns its reference.
    pub(crate) fn unhold_borrowed(&self, record: &FrameRecord) -> Option<FrameRecord> {
        if record.is_borrowed() { self.extended.unhold_borrowed(record.ticket) } else { None }
    }

    /// The reader closes: what it has lent stays lent, and it borrows no more.
    pub(crate) fn stop_sharing(&self) {
        self.loans.close();
        self.extended.stop_borrowing(&self.buffer.mapping);
    }
}
