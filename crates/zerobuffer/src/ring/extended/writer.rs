//! The writer's side of an extended ring.

use super::plan::{self, CACHE_LINE, Place, Question};
use super::{AHEAD, NO_LEAP, PLAIN_HEADER, corrupt, is_leap};
use crate::layout::{HeaderWord, Spot};
use crate::memory::Memory;
use crate::ring::classic::plan::Placement;
use crate::ring::{Reservation, Tag, Trouble};
use crate::sync::Ordering;
use crate::testing::stop::stop_point;

/// Frames of at most so many bytes get a writer's help with the lines ahead.
const SMALL: u64 = 256;

/// The writer's books.
pub(crate) struct WriteSide {
    /// Bytes of the ring.
    size: u64,
    /// Behind the last committed frame, as in shared memory.
    head: Spot,
    /// Where the lap before that of `head` ended.
    lap_end: u64,
    /// Where the writer leapt from, and to, in this lap and the one before, by parity.
    leaps: [(Spot, u64); 2],
    /// The writer has leapt in this lap.
    leapt: bool,
    /// The last place found at position 0 was taken for want of memory ahead.
    wants_memory: bool,
    /// The lap before ended for want of memory: there is nothing to leap to behind its end.
    memory_ended: bool,
    /// The reader's tail at the last look, normalised.
    tail: Spot,
    /// Up to where frames may be placed straight ahead without another thought.
    open: u64,
    sequence: u64,
    /// The next frame is our first.
    first: bool,
    /// Frames committed since the buffer was made.
    count: u64,
    /// Position of the header that was committed last.
    last: Spot,
    /// Bytes of the largest frame committed.
    largest: u64,
}

impl WriteSide {
    /// Goes on behind the last committed frame, whatever became of its writer: what it had not committed is in free space.
    pub(crate) fn resume(memory: &impl Memory, size: u64) -> Result<WriteSide, Trouble> {
        let written = &memory.control().written;
        // Acquire pairs with the last writer's Release store, so that ours come after its.
        let head = Spot(written.head.load(Ordering::Acquire));
        let lap_end = written.lap_end.load(Ordering::Relaxed);
        if head.position() > size {
            return Err(corrupt(format!("frames end at {} of {size} bytes", head.position())));
        }
        let count = written.count.load(Ordering::Relaxed);
        // A leap that was not followed by a commit has not been made.
        if Spot(written.leap_from[head.parity()].load(Ordering::Relaxed)) == head {
            stop_point!("connect:leap");
            written.leap_from[head.parity()].store(NO_LEAP.0, Ordering::Relaxed);
        }
        let leaps = [0, 1].map(|parity| {
            let from = Spot(written.leap_from[parity].load(Ordering::Relaxed));
            (from, written.leap_to[parity].load(Ordering::Relaxed))
        });
        for (what, at) in [("a lap ends", lap_end), ("a leap ends", leaps[0].1), ("a leap ends", leaps[1].1)]
        {
            if at > size || !at.is_multiple_of(Spot::UNIT) {
                return Err(corrupt(format!("{what} at {at} of {size} bytes")));
            }
        }
        let leapt = is_leap(leaps[head.parity()].0, head);
        let mut side = WriteSide {
            size,
            head,
            lap_end,
            leaps,
            leapt,
            wants_memory: false,
            memory_ended: false,
            tail: head,
            open: 0,
            sequence: 1,
            first: true,
            count,
            last: head,
            largest: 0,
        };
        side.look_tail(memory)?;
        Ok(side)
    }

    /// Whether the reader has given back something since the last look, or seems to.
    pub(crate) fn changed(&self, memory: &impl Memory) -> bool {
        // Relaxed: only a hint to look again.
        self.normal(Spot(memory.control().read.tail.load(Ordering::Relaxed))) != self.tail
    }

    /// A tail at the end of a lap that was left stands at the start of the next one, and one where the writer leapt stands
    /// where it leapt to: the reader will go there.
    fn normal(&self, tail: Spot) -> Spot {
        if tail.is_lap_before(self.head) && tail.position() == self.lap_end {
            return tail.next_lap();
        }
        let (from, to) = self.leaps[tail.parity()];
        if tail == from && tail != NO_LEAP { tail.at(to) } else { tail }
    }

    /// Whether everything had been given back at the last look.
    pub(crate) fn is_drained(&self) -> bool {
        self.tail == self.head
    }

    fn look_tail(&mut self, memory: &impl Memory) -> Result<(), Trouble> {
        // Acquire pairs with the reader's Release store: it is done with the bytes that we now reuse.
        let tail = self.normal(Spot(memory.control().read.tail.load(Ordering::Acquire)));
        let (at, head) = (tail.position(), self.head.position());
        let sound = if tail.lap() == self.head.lap() {
            at <= head
        } else {
            tail.is_lap_before(self.head) && (self.leapt || head <= at) && at <= self.lap_end.min(self.size)
        };
        if !sound {
            return Err(corrupt(format!(
                "the reader has given back lap {} up to {at}, the writer is in lap {} at {head}",
                tail.lap(),
                self.head.lap()
            )));
        }
        self.tail = tail;
        self.open = plan::open_until(self.size, self.head, tail, self.leapt);
        Ok(())
    }

    /// A place straight ahead, if it is known to be free.
    #[inline]
    pub(crate) fn place_at_once(&self, len: usize, least: u64) -> Option<Reservation> {
        let start = self.head.position();
        let (header, bytes) = plan::sizes(start, len as u64, least);
        (start + bytes <= self.open).then(|| Self::reservation(start, header, len, false))
    }

    /// A place straight ahead for a frame that is too small for its data to be aligned, if all of it lies below `until`.
    #[inline]
    pub(crate) fn small_place(&self, len: usize, header: u64, until: u64) -> Option<Reservation> {
        if len.wrapping_sub(1) >= plan::ALIGN_FROM as usize - 1 {
            return None;
        }
        let start = self.head.position();
        (start + header + (len as u64).next_multiple_of(Spot::UNIT) <= until)
            .then(|| Self::reservation(start, header, len, false))
    }

    /// Up to where frames may be placed straight ahead.
    pub(crate) fn open_until(&self) -> u64 {
        self.open
    }

    /// Asks for the lines that will be written soon, if nobody can be reading there: the other core has them since it read
    /// what was there in the lap before, and takes some 100 ns to hand one over. (Frames larger than [`SMALL`] are left to
    /// the processor, which sees that they are walked through.)
    #[inline]
    fn prefetch_ahead(&self, memory: &impl Memory, len: usize) {
        let at = self.head.position() + AHEAD;
        if len as u64 <= SMALL && at <= self.open {
            memory.prefetch_to_write(at - CACHE_LINE);
            memory.prefetch_to_write(at - 2 * CACHE_LINE);
        }
    }

    #[inline]
    fn reservation(start: u64, header: u64, len: usize, rewind: bool) -> Reservation {
        Reservation { placement: Placement { start, skip: 0, rewind }, header, len }
    }

    /// Looks for a place for a frame of `len` bytes; `None` if there is no room now. Says too whether the part of the ring that
    /// is in use grows by it, beyond what the caches hold.
    pub(crate) fn place(
        &mut self,
        memory: &impl Memory,
        len: usize,
        least: u64,
        only_start: bool,
    ) -> Result<Option<(Reservation, bool)>, Trouble> {
        self.look_tail(memory)?;
        let start = self.head.position();
        let (header, ahead) = plan::sizes(start, len as u64, least);
        let (start_header, at_start) = plan::sizes(0, len as u64, least);
        let (leap_header, at_lap_end) = plan::sizes(self.lap_end, len as u64, least);
        self.wants_memory = only_start;
        let question = Question {
            size: self.size,
            head: self.head,
            tail: self.tail,
            ahead,
            at_start,
            lap_end: if self.memory_ended { self.size } else { self.lap_end },
            at_lap_end,
            leapt: self.leapt,
            largest: self.largest,
            only_start,
        };
        // A lap is ended only when all of the lap before, and some of this one, has been given back. So the reader has
        // seen where the one before ended, and where the writer leapt in it, and both may be stored anew.
        Ok(plan::plan(question).map(|place| {
            let reservation = match place {
                Place::Ahead => Self::reservation(start, header, len, false),
                Place::Start => Self::reservation(0, start_header, len, true),
                Place::Leap => Self::reservation(self.lap_end, leap_header, len, false),
            };
            (reservation, plan::grows(&question, place))
        }))
    }

    /// Commits `len` bytes at the place reserved; gives the frame's sequence number.
    #[inline]
    pub(crate) fn commit(
        &mut self,
        memory: &impl Memory,
        reservation: Reservation,
        len: usize,
        tag: Tag,
    ) -> Result<u64, Trouble> {
        let start = reservation.placement.start;
        let out_of_bounds = || corrupt("a reservation lies outside the ring".to_owned());
        let sequence = tag.sequence.unwrap_or(self.sequence);
        let mut flags = tag.flags;
        if self.first {
            flags |= HeaderWord::FIRST;
        }
        let written = &memory.control().written;
        // Relaxed throughout: nobody looks at any of this before the Release store of `head`.
        if tag.deadline != 0 {
            flags |= HeaderWord::DEADLINE;
            let [deadline, _] = memory.words(start + PLAIN_HEADER).ok_or_else(out_of_bounds)?;
            deadline.store(tag.deadline, Ordering::Relaxed);
        }
        let [word, second] = memory.words(start).ok_or_else(out_of_bounds)?;
        stop_point!("extended:header");
        word.store(HeaderWord::new(len as u64, reservation.header / Spot::UNIT, flags).0, Ordering::Relaxed);
        second.store(sequence, Ordering::Relaxed);
        let mut lap = self.head;
        let jumps = reservation.placement.rewind || start != self.head.position();
        if jumps {
            lap = self.jump(memory, &reservation);
        }
        self.last = lap.at(start);
        let bytes = reservation.header + (len as u64).next_multiple_of(Spot::UNIT);
        self.head = lap.at(start + bytes);
        self.largest = self.largest.max(bytes);
        self.count = self.count.wrapping_add(1);
        written.count.store(self.count, Ordering::Relaxed);
        stop_point!("extended:head");
        // The commit. Release publishes header, data and lap_end to the reader's Acquire load in refresh().
        written.head.store(self.head.0, Ordering::Release);
        self.sequence = sequence.wrapping_add(1);
        self.first = false;
        self.prefetch_ahead(memory, len);
        if jumps {
            self.tail = self.normal(self.tail);
            self.open = plan::open_until(self.size, self.head, self.tail, self.leapt);
        }
        Ok(sequence)
    }

    /// Says how the reader gets to a place that is not straight ahead; gives the lap it is in.
    #[cold]
    fn jump(&mut self, memory: &impl Memory, reservation: &Reservation) -> Spot {
        let written = &memory.control().written;
        // Relaxed throughout: the Release store of `head` follows.
        if !reservation.placement.rewind {
            let parity = self.head.parity();
            stop_point!("extended:leap-to");
            written.leap_to[parity].store(reservation.placement.start, Ordering::Relaxed);
            stop_point!("extended:leap-from");
            written.leap_from[parity].store(self.head.0, Ordering::Relaxed);
            self.leaps[parity] = (self.head, reservation.placement.start);
            self.leapt = true;
            return self.head;
        }
        let next = self.head.next_lap();
        if self.leaps[next.parity()].0 != NO_LEAP {
            // The one of two laps ago. When the count of laps comes round it would be taken for one of that lap.
            stop_point!("extended:no-leap");
            written.leap_from[next.parity()].store(NO_LEAP.0, Ordering::Relaxed);
            self.leaps[next.parity()].0 = NO_LEAP;
        }
        stop_point!("extended:lap-end");
        written.lap_end.store(self.head.position(), Ordering::Relaxed);
        self.lap_end = self.head.position();
        self.leapt = false;
        self.memory_ended = self.wants_memory;
        next
    }

    /// Where the last committed frame stands.
    pub(crate) fn last(&self) -> Spot {
        self.last
    }

    /// Sets `flags` in the header of a committed frame. Says whether the frame had not been given back.
    pub(crate) fn mark(&mut self, memory: &impl Memory, frame: Spot, flags: u16) -> bool {
        self.look_tail(memory).is_ok() && self.marker().mark(memory, frame, flags)
    }

    /// Marks the frames that are there now, while nothing else is done with the writer than to fill and commit, or discard,
    /// what it has reserved: that lies outside what was taken, as of the writer's last look.
    pub(crate) fn marker(&self) -> Marker {
        Marker { head: self.head, tail: self.tail }
    }
}

/// See [`WriteSide::marker`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Marker {
    head: Spot,
    tail: Spot,
}

impl Marker {
    /// As [`WriteSide::mark`]; a frame that has been given back since is marked in vain.
    pub(crate) fn mark(self, memory: &impl Memory, frame: Spot, flags: u16) -> bool {
        let Marker { head, tail } = self;
        let at = frame.position();
        let live = if frame.lap() == head.lap() {
            at < head.position() && (tail.lap() != head.lap() || at >= tail.position())
        } else {
            // Of the lap before, from the tail to its end.
            frame.is_lap_before(head) && tail.lap() == frame.lap() && at >= tail.position()
        };
        if !live {
            return false;
        }
        stop_point!("extended:mark");
        // What is behind the tail is ours to write, and no frame is written by anybody else. Release, for whatever the
        // caller wants seen with the mark.
        memory.words(at).is_some_and(|[word, _]| {
            word.fetch_or(u64::from(flags) << HeaderWord::FLAGS, Ordering::Release);
            true
        })
    }
}
