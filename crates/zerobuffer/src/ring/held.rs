//! What was read from an extended ring and not given back: bytes go back in ring order only (spec failure 2), whatever
//! the order and the threads in which frames are released.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Located;
use super::extended::Memory;
use crate::bell;
use crate::layout::Spot;
use crate::stop::stop_point;
use crate::sync::{AtomicU64, Ordering};

/// Bytes that may be withheld: each time the tail is stored, its cache line is taken from the writer, so that the cost is
/// shared among many small frames. Also at most 1/64 of the ring, so that a buffer never seems notably smaller.
const WITHHELD_MAX: u64 = 16 << 10;

/// What a reader and its frames share of an extended ring.
///
/// A frame that is borrowed from its reader is the last one read, and is released by the reader's thread: while no owned
/// frame is alive that takes neither a lock nor an atomic read-modify-write. Owned frames queue up behind a lock.
pub(crate) struct Held {
    /// Owned frames that have not been released; changed under the lock, and lowered as the last step of a release. While
    /// it is 0 the reader's thread alone changes `tail` and `withheld`, else the lock's holder.
    outstanding: AtomicU64,
    /// Up to where bytes may go back, as a `Spot`.
    tail: AtomicU64,
    /// Bytes of these that have not gone back yet.
    withheld: AtomicU64,
    /// The most that may be withheld.
    most: AtomicU64,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    entries: VecDeque<Entry>,
    /// Ticket of the oldest entry.
    first: u64,
}

struct Entry {
    end: Spot,
    bytes: u64,
    drains: bool,
    released: bool,
}

impl Entry {
    fn new(frame: &Located, released: bool) -> Entry {
        Entry { end: Spot(frame.end), bytes: frame.bytes(), drains: frame.drains, released }
    }
}

impl Held {
    pub(crate) fn new() -> Held {
        Held {
            outstanding: AtomicU64::new(0),
            tail: AtomicU64::new(0),
            withheld: AtomicU64::new(0),
            most: AtomicU64::new(0),
            queue: Mutex::default(),
        }
    }

    /// To be called before the first frame is read, with the place where the reader stands, and the ring's size.
    pub(crate) fn start(&self, at: Spot, size: u64) {
        self.tail.store(at.0, Ordering::Relaxed);
        self.most.store(WITHHELD_MAX.min(size / 64), Ordering::Relaxed);
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing in the critical sections panics half-way through a change, so a poisoned queue is still whole.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last frame read becomes an owned one; gives its ticket.
    pub(crate) fn hold(&self, frame: &Located) -> u64 {
        let mut queue = self.queue();
        queue.entries.push_back(Entry::new(frame, false));
        // Relaxed: made known to other threads with the frame itself. No read-modify-write, as we hold the lock.
        self.outstanding.store(self.outstanding.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        queue.first + (queue.entries.len() as u64 - 1)
    }

    /// Releases an owned frame. Says whether the writer's bell is to be rung.
    pub(crate) fn release(&self, memory: &impl Memory, ticket: u64) -> bool {
        let mut queue = self.queue();
        let index = ticket.wrapping_sub(queue.first);
        match usize::try_from(index).ok().and_then(|index| queue.entries.get_mut(index)) {
            Some(entry) => entry.released = true,
            None => debug_assert!(false, "ticket {ticket} released twice"),
        }
        let (mut bytes, mut end, mut drains) = (0, None, false);
        while let Some(entry) = queue.entries.front().filter(|entry| entry.released) {
            (bytes, end) = (bytes + entry.bytes, Some(entry.end));
            drains |= entry.drains;
            queue.entries.pop_front();
            queue.first += 1;
        }
        let ring = end.is_some_and(|end| self.advance(memory, end, bytes, drains));
        // Release pairs with the Acquire loads below: when the reader's thread finds none outstanding, our stores of the
        // tail come before its.
        self.outstanding.store(self.outstanding.load(Ordering::Relaxed).saturating_sub(1), Ordering::Release);
        ring
    }

    /// Releases the last frame read, a borrowed one, on the reader's thread. Says whether the writer's bell is to be rung.
    #[inline]
    pub(crate) fn release_last(&self, memory: &impl Memory, frame: &Located) -> bool {
        if self.outstanding.load(Ordering::Acquire) == 0 {
            return self.advance(memory, Spot(frame.end), frame.bytes(), frame.drains);
        }
        self.release_behind(memory, frame)
    }

    #[cold]
    fn release_behind(&self, memory: &impl Memory, frame: &Located) -> bool {
        let mut queue = self.queue();
        if queue.entries.is_empty() {
            return self.advance(memory, Spot(frame.end), frame.bytes(), frame.drains);
        }
        queue.entries.push_back(Entry::new(frame, true));
        false
    }

    /// `bytes` up to `end` may go back: at once, or with others.
    #[inline]
    fn advance(&self, memory: &impl Memory, end: Spot, bytes: u64, drains: bool) -> bool {
        self.tail.store(end.0, Ordering::Relaxed);
        let withheld = self.withheld.load(Ordering::Relaxed) + bytes;
        self.withheld.store(withheld, Ordering::Relaxed);
        // Relaxed: a writer that has just begun to want space is told when the reader has drained the ring, or next time.
        let wanted = memory.control().writer_bell.bell.load(Ordering::Relaxed) & !bell::BARRIER != 0;
        if drains || wanted || withheld > self.most.load(Ordering::Relaxed) {
            return self.give_back(memory, end);
        }
        false
    }

    fn give_back(&self, memory: &impl Memory, end: Spot) -> bool {
        self.withheld.store(0, Ordering::Relaxed);
        let control = memory.control();
        stop_point!("extended:tail");
        // Release pairs with the writer's Acquire load in WriteSide::look_tail: our reads of the frames' bytes are done.
        control.read.tail.store(end.0, Ordering::Release);
        bell::wants(&control.writer_bell.bell) & bell::SLEEPING != 0
    }

    /// The reader has read all that there is: gives back what is withheld. Says whether the writer's bell is to be rung.
    #[inline]
    pub(crate) fn drained(&self, memory: &impl Memory) -> bool {
        if self.outstanding.load(Ordering::Acquire) == 0 {
            return self.settle(memory);
        }
        let _queue = self.queue();
        self.settle(memory)
    }

    #[inline]
    fn settle(&self, memory: &impl Memory) -> bool {
        self.withheld.load(Ordering::Relaxed) != 0
            && self.give_back(memory, Spot(self.tail.load(Ordering::Relaxed)))
    }
}
