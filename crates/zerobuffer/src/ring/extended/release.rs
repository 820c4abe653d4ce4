//! What was read from an extended ring and not given back: bytes go back in ring order only (spec failure 2), whatever
//! the order and the threads in which frames are released.

use std::ptr::NonNull;
use std::sync::PoisonError;

use super::latest::Stretch;
use crate::layout::Cursor;
use crate::memory::Memory;
use crate::os;
use crate::ring::FrameRecord;
use crate::ring::release::InOrder;
use crate::sharing::source::BorrowedFrame;
use crate::stats::HeldFrames;
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering, rest, spin_loop};
use crate::testing::stop::stop_point;
use crate::wait::doorbell;
use crate::wait::wire::Wire;

/// Bytes that may be withheld: each time the tail is stored, its cache line is taken from the writer, so that the cost is
/// shared among many small frames. Also at most 1/64 of the ring, so that a buffer never seems notably smaller.
const WITHHELD_MAX: u64 = 16 << 10;

/// What a reader and its frames share of an extended ring.
///
/// A frame that is borrowed from its reader is the last one read, and is released by the reader's thread: while no owned
/// frame is alive that takes neither a lock nor an atomic read-modify-write. An owned frame that is the only one, as where
/// one is read and released after the other, takes one read-modify-write, when it is released. Others queue up behind a lock.
pub(crate) struct ReleaseQueue {
    /// Owned frames in the queue that have not been released, or [`LONE`], or [`LEAVING`]. Who may change `tail` and
    /// `withheld`: while it is 0, the reader's thread alone; `LONE`, no thread; `LEAVING`, the one that releases the lone frame; else the
    /// lock's holder. A release changes it as its last step.
    outstanding: AtomicU64,
    /// The lone frame ([`FrameRecord::words`]). The reader's thread stores it.
    lone: [AtomicU64; 3],
    /// Up to where bytes may go back, as a `Cursor`.
    tail: AtomicU64,
    /// Bytes of these that have not gone back yet.
    withheld: AtomicU64,
    /// The most that may be withheld.
    most: AtomicU64,
    queue: Mutex<Queue>,
}

/// One owned frame has not been released, and it is not in the queue, which is empty.
const LONE: u64 = u64::MAX;

/// One owned frame, which is not in the queue, is just being released.
const LEAVING: u64 = u64::MAX - 1;

/// Looks at a frame that is being released, before the processor is left to the thread that needs it for that.
const LOOKS: usize = 100;

struct Queue {
    frames: InOrder<Entry>,
    /// Ticket of the last entry that was a lone frame: its owner does not know it.
    lone: u64,
    /// Bytes of entries that are lent.
    lent: u64,
    /// Frames that are lent.
    lent_frames: u64,
    /// `Some` from the first offer that the reader accepts until it is closed and its last borrowed frame is released.
    borrower: Option<BorrowerLock>,
    /// Makes the lender's descriptor ready.
    lender: Wire,
    /// The reader has accepted an offer: `outstanding` is one more than the frames, so that no frame is alone, and every
    /// release comes here.
    borrows: bool,
}

/// Proves to lenders that this process may look at their bytes.
struct BorrowerLock {
    _lock: os::LockFile,
    /// Borrowed frames that have not been released.
    frames: u64,
    /// The reader is closed.
    closed: bool,
}

struct Entry {
    end: Cursor,
    bytes: u64,
    drains: bool,
    sequence: u64,
    /// Who keeps the frame: its owner, and every loan.
    holds: u32,
    loans: u32,
    /// A frame whose bytes lie elsewhere.
    borrowed: Option<Box<BorrowedFrame>>,
    /// The bytes as their owner alone has them.
    copy: Option<Vec<u8>>,
}

impl Entry {
    fn new(frame: &FrameRecord) -> Entry {
        Entry::of(frame.end(), frame.bytes(), frame.drains(), frame.sequence)
    }

    fn of(end: Cursor, bytes: u64, drains: bool, sequence: u64) -> Entry {
        Entry { end, bytes, drains, sequence, holds: 1, loans: 0, borrowed: None, copy: None }
    }
}

impl ReleaseQueue {
    pub(crate) fn new() -> ReleaseQueue {
        ReleaseQueue {
            outstanding: AtomicU64::new(0),
            lone: [AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0)],
            tail: AtomicU64::new(0),
            withheld: AtomicU64::new(0),
            most: AtomicU64::new(0),
            queue: Mutex::new(Queue {
                frames: InOrder::new(),
                lone: 0,
                lent: 0,
                lent_frames: 0,
                borrower: None,
                lender: Wire::new(),
                borrows: false,
            }),
        }
    }

    /// To be called before the first frame is read, with the place where the reader stands, and the ring's size.
    pub(crate) fn start(&self, at: Cursor, size: u64) {
        self.tail.store(at.0, Ordering::Relaxed);
        self.most.store(WITHHELD_MAX.min(size / 64), Ordering::Relaxed);
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing in the critical sections panics half-way through a change, so a poisoned queue is still whole.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last frame read becomes an owned one; returns its ticket. On the reader's thread.
    #[inline]
    pub(crate) fn hold(&self, frame: &FrameRecord) -> u64 {
        // Acquire pairs with the Release in release().
        if self.outstanding.load(Ordering::Acquire) == 0 {
            for (word, value) in self.lone.iter().zip(frame.words()) {
                word.store(value, Ordering::Relaxed);
            }
            // Relaxed: made known to other threads with the frame itself.
            self.outstanding.store(LONE, Ordering::Relaxed);
            return LONE;
        }
        self.hold_behind(frame)
    }

    #[inline(never)]
    fn hold_behind(&self, frame: &FrameRecord) -> u64 {
        if frame.is_borrowed() {
            // Held since it was resolved.
            return frame.ticket;
        }
        self.push_held(Entry::new(frame))
    }

    /// On the reader's thread.
    fn push_held(&self, entry: Entry) -> u64 {
        let mut queue = self.queue_with_lone();
        if let Some(borrower) = queue.borrower.as_mut().filter(|_| entry.borrowed.is_some()) {
            borrower.frames += 1;
        }
        let ticket = queue.frames.push(entry, false);
        // No read-modify-write, as we hold the lock.
        self.outstanding.store(self.outstanding.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        ticket
    }

    /// The frames that are held, as they were at some moment during this call, but for frames that were just being read or
    /// released; on any thread.
    pub(crate) fn held(&self) -> HeldFrames {
        let queue = self.queue();
        // Relaxed: the figures order nothing.
        let outstanding = self.outstanding.load(Ordering::Relaxed);
        if matches!(outstanding, LONE | LEAVING) {
            let lone = self.lone();
            return HeldFrames { frames: 1, bytes: lone.bytes(), oldest: Some(lone.sequence) };
        }
        let bytes = queue.frames.iter().map(|(entry, _)| entry.bytes).sum();
        let oldest = queue.frames.iter().next().map(|(entry, _)| entry.sequence);
        HeldFrames { frames: outstanding - u64::from(queue.borrows), bytes, oldest }
    }

    fn lone(&self) -> FrameRecord {
        FrameRecord::of_words(self.lone.each_ref().map(|word| word.load(Ordering::Relaxed)))
    }

    /// The queue, with the lone frame in it unless that has been released. On the reader's thread.
    fn queue_with_lone(&self) -> MutexGuard<'_, Queue> {
        let mut queue = self.queue();
        for look in 0_usize.. {
            // Acquire pairs with the Release in release(), if it was released.
            match self.outstanding.compare_exchange(LONE, 1, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => {
                    queue.lone = queue.frames.push(Entry::new(&self.lone()), false);
                    break;
                }
                Err(LEAVING) if look < LOOKS => spin_loop(),
                // Asleep, as the thread that releases may have less of a claim to the processor.
                Err(LEAVING) => rest(),
                Err(_) => break,
            }
        }
        queue
    }

    /// Releases an owned frame, on any thread. Returns whether the writer's bell is to be rung.
    #[inline]
    pub(crate) fn release(&self, memory: &impl Memory, frame: &FrameRecord) -> bool {
        // Acquire keeps what follows behind the swap. What the reader's thread changed before came to us with the frame, as its
        // store of LONE did; so nothing else is to be paired with.
        let ticket = frame.ticket;
        if ticket == LONE
            && self.outstanding.compare_exchange(LONE, LEAVING, Ordering::Acquire, Ordering::Relaxed).is_ok()
        {
            let ring = self.advance(memory, frame.end(), frame.bytes(), frame.drains());
            // Release pairs with the Acquire loads of the reader's thread: our stores of the tail come before its.
            self.outstanding.store(0, Ordering::Release);
            return ring;
        }
        self.release_queued(memory, ticket)
    }

    fn release_queued(&self, memory: &impl Memory, ticket: u64) -> bool {
        self.let_go(memory, ticket, false)
    }

    /// The owner of a frame lets go of it, or one of its loans ends.
    fn let_go(&self, memory: &impl Memory, ticket: u64, loan: bool) -> bool {
        let mut queue = self.queue();
        let ticket = if ticket == LONE { queue.lone } else { ticket };
        let Some(entry) = queue.frames.get(ticket) else { return false };
        entry.holds -= 1;
        let (is_held, bytes) = (entry.holds > 0, entry.bytes);
        let borrowed = entry.borrowed.take_if(|_| !is_held);
        let copy = entry.copy.take_if(|_| !loan);
        if loan {
            entry.loans -= 1;
            if entry.loans == 0 {
                queue.lent -= bytes;
                queue.lent_frames -= 1;
            }
        }
        if is_held {
            drop(queue);
            drop(copy);
            return false;
        }
        queue.frames.release(ticket);
        let (mut bytes, mut end, mut drains) = (0, None, false);
        while let Some(entry) = queue.frames.pop_released() {
            (bytes, end) = (bytes + entry.bytes, Some(entry.end));
            drains |= entry.drains;
        }
        let ring = end.is_some_and(|end| self.advance(memory, end, bytes, drains));
        // Release pairs with the Acquire loads of the reader's thread: when it finds none outstanding, our stores of the tail
        // come before its.
        self.outstanding.store(self.outstanding.load(Ordering::Relaxed).saturating_sub(1), Ordering::Release);
        let is_last = borrowed.is_some() && queue.leave_borrowed();
        queue.tell_lender(memory, is_last);
        drop(queue);
        // The last frame of a source unmaps it, which takes a while.
        drop(borrowed);
        ring
    }

    /// Releases the last frame read, a borrowed one, on the reader's thread. Returns whether the writer's bell is to be rung.
    #[inline]
    pub(crate) fn release_last(&self, memory: &impl Memory, frame: &FrameRecord) -> bool {
        if self.outstanding.load(Ordering::Acquire) == 0 {
            return self.advance(memory, frame.end(), frame.bytes(), frame.drains());
        }
        self.release_behind(memory, frame)
    }

    #[cold]
    fn release_behind(&self, memory: &impl Memory, frame: &FrameRecord) -> bool {
        if frame.is_borrowed() {
            return self.release_queued(memory, frame.ticket);
        }
        let mut queue = self.queue_with_lone();
        if queue.frames.is_empty() {
            let ring = self.advance(memory, frame.end(), frame.bytes(), frame.drains());
            queue.tell_lender(memory, false);
            return ring;
        }
        queue.frames.push(Entry::new(frame), true);
        false
    }

    /// Frames that were passed over go back as one, on the reader's thread, which holds none of them. Returns whether the writer's
    /// bell is to be rung.
    pub(crate) fn pass_over(&self, memory: &impl Memory, passed: Stretch) -> bool {
        let Stretch { end, bytes, sequence, .. } = passed;
        if self.outstanding.load(Ordering::Acquire) != 0 {
            let mut queue = self.queue_with_lone();
            if !queue.frames.is_empty() {
                queue.frames.push(Entry::of(end, bytes, true, sequence), true);
                return false;
            }
            if queue.borrows {
                let ring = self.advance(memory, end, bytes, true);
                queue.tell_lender(memory, false);
                return ring;
            }
        }
        self.advance(memory, end, bytes, true)
    }

    /// `bytes` up to `end` may go back: at once, or with others.
    #[inline]
    fn advance(&self, memory: &impl Memory, end: Cursor, bytes: u64, drains: bool) -> bool {
        let withheld = self.withheld.load(Ordering::Relaxed) + bytes;
        self.withhold(end, withheld);
        self.is_too_much(memory, withheld, drains) && self.give_back(memory, end)
    }

    #[inline]
    fn withhold(&self, end: Cursor, withheld: u64) {
        self.tail.store(end.0, Ordering::Relaxed);
        self.withheld.store(withheld, Ordering::Relaxed);
    }

    /// Whether the writer may need what is withheld now.
    #[inline]
    fn is_too_much(&self, memory: &impl Memory, withheld: u64, drains: bool) -> bool {
        // Relaxed: a writer that has just begun to want space is told when the reader has drained the ring, or next time.
        let wanted = memory.control().writer_bell.bell.load(Ordering::Relaxed) & !doorbell::BARRIER != 0;
        drains || wanted || withheld > self.most.load(Ordering::Relaxed)
    }

    /// Whether the release of the last frame read, a borrowed one, would be more than a note that its bytes may go back. On the
    /// reader's thread.
    #[inline]
    pub(crate) fn is_due(&self, memory: &impl Memory, frame: &FrameRecord) -> bool {
        // Relaxed: this thread alone stores `withheld`, and the release looks at `outstanding` again.
        let withheld = self.withheld.load(Ordering::Relaxed) + frame.bytes();
        self.outstanding.load(Ordering::Relaxed) != 0 || self.is_too_much(memory, withheld, frame.drains())
    }

    /// Releases the last frame read, a borrowed one, if that is a note that its bytes may go back, and no more. On the reader's
    /// thread. Returns whether it did.
    #[inline]
    pub(crate) fn release_quietly(&self, memory: &impl Memory, frame: &FrameRecord) -> bool {
        // Acquire pairs with the Release in release().
        if self.outstanding.load(Ordering::Acquire) != 0 {
            return false;
        }
        let withheld = self.withheld.load(Ordering::Relaxed) + frame.bytes();
        if self.is_too_much(memory, withheld, frame.drains()) {
            return false;
        }
        self.withhold(frame.end(), withheld);
        true
    }

    fn give_back(&self, memory: &impl Memory, end: Cursor) -> bool {
        self.withheld.store(0, Ordering::Relaxed);
        let control = memory.control();
        stop_point!("extended:tail");
        // Release pairs with the writer's Acquire load in WriteSide::look_tail: our reads of the frames' bytes are done.
        control.read.tail.store(end.0, Ordering::Release);
        doorbell::wants(&control.writer_bell.bell) & doorbell::SLEEPING != 0
    }

    /// The reader has read all that there is: gives back what is withheld. Returns whether the writer's bell is to be rung.
    #[inline]
    pub(crate) fn drained(&self, memory: &impl Memory) -> bool {
        match self.outstanding.load(Ordering::Acquire) {
            0 | LONE if self.withheld.load(Ordering::Relaxed) == 0 => false,
            0 => self.settle(memory),
            _ => {
                let mut queue = self.queue_with_lone();
                let ring = self.settle(memory);
                queue.tell_lender(memory, false);
                ring
            }
        }
    }

    #[inline]
    fn settle(&self, memory: &impl Memory) -> bool {
        self.withheld.load(Ordering::Relaxed) != 0
            && self.give_back(memory, Cursor(self.tail.load(Ordering::Relaxed)))
    }

    // ---- frames that are lent to others ----

    /// Lends the frame of `record` once more, which its owner has not released. Returns its ticket for [`ReleaseQueue::end_loan`];
    /// `None` if more than `most` bytes would be lent.
    pub(crate) fn lend(&self, record: &FrameRecord, most: u64) -> Option<u64> {
        let mut queue = self.queue();
        let ticket = self.queued(&mut queue, record);
        let lent = queue.lent;
        let entry = queue.frames.get(ticket)?;
        let (first, bytes) = (entry.loans == 0, entry.bytes);
        if first && lent + bytes > most {
            return None;
        }
        entry.loans += 1;
        entry.holds += 1;
        if first {
            queue.lent += bytes;
            queue.lent_frames += 1;
        }
        Some(ticket)
    }

    /// The ticket of an owned frame, which its owner has not released, and which is in the queue from now on.
    fn queued(&self, queue: &mut Queue, record: &FrameRecord) -> u64 {
        if record.ticket != LONE {
            return record.ticket;
        }
        // Its owner has it still, so no other thread is just releasing it. Acquire, as in queue_with_lone().
        if self.outstanding.compare_exchange(LONE, 1, Ordering::Acquire, Ordering::Acquire).is_ok() {
            queue.lone = queue.frames.push(Entry::new(&self.lone()), false);
        }
        queue.lone
    }

    /// Keeps a copy of the bytes for the owner of the frame of `record` until that is released. Returns the frame as its owner has it
    /// from now on.
    pub(crate) fn keep_copy(&self, record: &FrameRecord, mut copy: Vec<u8>) -> Option<FrameRecord> {
        // The bytes stay where they are when the Vec moves, and it is not touched again before it is dropped.
        let address = NonNull::from(copy.as_mut_slice()).cast();
        let mut queue = self.queue();
        let ticket = self.queued(&mut queue, record);
        queue.frames.get(ticket)?.copy = Some(copy);
        Some(FrameRecord::copied(address, record, ticket))
    }

    /// A loan has ended, on any thread. Returns whether the writer's bell is to be rung.
    pub(crate) fn end_loan(&self, memory: &impl Memory, ticket: u64) -> bool {
        self.let_go(memory, ticket, true)
    }

    /// Frames that are lent now.
    pub(crate) fn count_lent(&self) -> u64 {
        self.queue().lent_frames
    }

    /// Whether the owner of the frame of `record` is the only one who has it.
    pub(crate) fn is_only_mine(&self, record: &FrameRecord) -> bool {
        let mut queue = self.queue();
        let ticket = match record.ticket {
            // Relaxed: it is the owner's own frame, so it is alone, or is in the queue as this thread or the reader's put it there.
            LONE if self.outstanding.load(Ordering::Relaxed) == LONE => return true,
            LONE => queue.lone,
            ticket => ticket,
        };
        queue.frames.get(ticket).is_some_and(|entry| entry.holds == 1)
    }

    // ---- frames that are borrowed from others ----

    /// The reader has `lock`, and may borrow frames from now on. On its thread.
    pub(crate) fn begin_to_borrow(&self, lock: os::LockFile) {
        let mut queue = self.queue_with_lone();
        queue.borrower = Some(BorrowerLock { _lock: lock, frames: 0, closed: false });
        queue.borrows = true;
        self.outstanding.store(self.outstanding.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    pub(crate) fn is_borrowing(&self) -> bool {
        self.queue().borrows
    }

    /// Holds a frame whose bytes lie elsewhere; returns its ticket. On the reader's thread.
    pub(crate) fn hold_borrowed(&self, record: &FrameRecord, borrowed: BorrowedFrame) -> u64 {
        self.push_held(Entry { borrowed: Some(Box::new(borrowed)), ..Entry::new(record) })
    }

    /// Lets go of the borrowed frame that was held last, as if it had not been resolved; returns its reference. On the reader's
    /// thread.
    pub(crate) fn unhold_borrowed(&self, ticket: u64) -> Option<FrameRecord> {
        let mut queue = self.queue();
        let borrowed = queue.frames.get(ticket)?.borrowed.take()?;
        queue.frames.pop_newest(ticket);
        if let Some(borrower) = &mut queue.borrower {
            borrower.frames -= 1;
        }
        // No read-modify-write, as we hold the lock.
        self.outstanding.store(self.outstanding.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
        Some(borrowed.reference)
    }

    /// The deadline of a borrowed frame; 0 = none.
    pub(crate) fn deadline_of_borrowed(&self, ticket: u64) -> u64 {
        let mut queue = self.queue();
        let borrowed = queue.frames.get(ticket).and_then(|entry| entry.borrowed.as_ref());
        borrowed.map_or(0, |frame| frame.deadline)
    }

    /// The reader closes: the borrower's lock goes with the last borrowed frame.
    pub(crate) fn stop_borrowing(&self, memory: &impl Memory) {
        let mut queue = self.queue();
        let Some(borrower) = &mut queue.borrower else { return };
        borrower.closed = true;
        let is_last = borrower.frames == 0;
        queue.tell_lender(memory, is_last);
    }
}

impl Queue {
    /// A borrowed frame was released. Returns whether it was the last one of a reader that is closed.
    fn leave_borrowed(&mut self) -> bool {
        let Some(borrower) = &mut self.borrower else { return false };
        borrower.frames -= 1;
        borrower.frames == 0 && borrower.closed
    }

    /// After something went back: wakes a lender that waits for it. `leaves`: nothing will be looked at any more.
    fn tell_lender(&mut self, memory: &impl Memory, leaves: bool) {
        if leaves {
            stop_point!("sharing:unlock");
            self.borrower = None;
        }
        if !self.borrows {
            return;
        }
        let Some(sharing) = memory.sharing() else { return };
        let line = &sharing.loans.loans_bell;
        if leaves {
            // The kernel orders the unlocking before the look at the bell; a lock is no store, so the fence is explicit.
            doorbell::call(line, |id| self.lender.ring(id));
        } else if doorbell::wants(&line.bell) & doorbell::SLEEPING != 0 {
            stop_point!("sharing:ring");
            doorbell::ring(line, |id| self.lender.ring(id));
        }
    }
}
