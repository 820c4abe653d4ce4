//! The extended ring, between two of ours (docs/PROTOCOL.md, "The extended ring").
//!
//! Two words carry the truth: `head`, stored by the writer, says behind which byte the last committed frame ends; `tail`,
//! stored by the reader, which bytes have been given back. Each side keeps a copy of the other's word, and looks again
//! only when the ring seems full or empty.

use super::laps::{self, CACHE_LINE, Place, Question};
use super::{Located, Look, Reservation, Tag, Trouble, space};
use crate::error::ErrorKind;
use crate::layout::{Control, HeaderWord, Spot};
use crate::stop::stop_point;
use crate::sync::{AtomicU64, Ordering};

/// The shared memory of one extended ring.
pub(crate) trait Memory {
    fn control(&self) -> &Control;
    /// The 16 bytes at `position` of the ring as two words: the header of a frame. `None` if they do not lie within it, or
    /// `position` is no multiple of 16.
    fn words(&self, position: u64) -> Option<&[AtomicU64; 2]>;
    /// Asks for the cache line at `position`, which need not lie within the ring.
    fn prefetch(&self, position: u64);
    /// The same, to be written.
    fn prefetch_to_write(&self, position: u64);
}

fn corrupt(message: String) -> Trouble {
    Trouble { kind: ErrorKind::CorruptBuffer, message }
}

/// An honest writer has reserved what it commits.
fn without_memory(from: u64, to: u64) -> Trouble {
    corrupt(format!(
        "bytes {from} to {to} count as committed, but were never written, and there is no memory for them"
    ))
}

/// How far ahead the reader asks for cache lines: where a header stands depends on the one before it, so that the processor
/// itself would wait for each of them in turn, some 100 ns from the other core.
const AHEAD: u64 = 1024;

/// Frames of at most so many bytes get a writer's help with the lines ahead.
const SMALL: u64 = 256;

/// The writer has not leapt: no lap is left from position 0.
const NO_LEAP: Spot = Spot(0);

/// Whether `from` tells of a leap in the lap of `spot`.
fn is_leap(from: Spot, spot: Spot) -> bool {
    from.lap() == spot.lap() && from.position() != 0
}

/// How much memory a reader makes sure of at a time, where it does not know yet how large the frame is.
const STEP: u64 = 256 << 10;

/// How much it would rather make sure of: for each call it may wait for a writer that reserves more, and that one must not get
/// further ahead with every frame. Some milliseconds of work.
const STRIDE: u64 = 16 << 20;

/// Asks `back` for memory from `from` on: as much as is committed, within reason, else as much as is needed, as what was never
/// written may lie behind a frame that was.
fn back_ahead(
    back: &mut impl FnMut(u64, u64) -> Option<u64>,
    from: u64,
    needed: u64,
    limit: u64,
) -> Option<u64> {
    let wanted = limit.min(needed.max(from + STRIDE));
    back(from, wanted).or_else(|| if wanted == needed { None } else { back(from, needed) })
}

/// Size of a header that carries nothing but length, flags and sequence number.
const PLAIN_HEADER: u64 = Spot::UNIT;

/// The reader's books.
pub(crate) struct ReadSide {
    /// Bytes of the ring.
    size: u64,
    /// The next header.
    spot: Spot,
    /// `head` at the last look.
    head: Spot,
    /// Up to where the lap of `spot` is known to be committed.
    limit: u64,
    /// Up to where it is known to have memory too; at most `limit`.
    backed: u64,
    /// Sequence number of the next frame.
    expected: u64,
    /// Frames come in any order of sequence numbers (responses of a duplex server).
    pub(crate) any_sequence: bool,
    /// Frames read since the buffer was made.
    count: u64,
}

impl ReadSide {
    /// The reader of a ring from which nothing is held: it goes on where space was given back last.
    pub(crate) fn new(memory: &impl Memory, size: u64) -> ReadSide {
        let control = memory.control();
        // Relaxed: only readers store these, and who took the buffer over did so by acquiring `reader_word`.
        let spot = Spot(control.read.tail.load(Ordering::Relaxed));
        let count = control.read.count.load(Ordering::Relaxed);
        let limit = spot.position();
        ReadSide { size, spot, head: spot, limit, backed: limit, expected: 1, any_sequence: false, count }
    }

    /// Where the reader stands.
    pub(crate) fn spot(&self) -> Spot {
        self.spot
    }

    /// Whether something was committed since the last look; may be wrong for a moment.
    #[inline]
    pub(crate) fn changed(&self, memory: &impl Memory) -> bool {
        // Relaxed: only a hint to look again.
        memory.control().written.head.load(Ordering::Relaxed) != self.spot.0
    }

    /// Bytes of the ring that are known to be committed in this lap and have not been read.
    #[inline]
    pub(crate) fn known_bytes(&self) -> u64 {
        self.limit - self.spot.position()
    }

    /// Whether there are frames that have not been read.
    pub(crate) fn has_unread(&self, memory: &impl Memory) -> bool {
        self.spot != self.head || self.changed(memory)
    }

    /// Takes the next frame, if it is known to be there and nothing is special about it; `false` says "look closer".
    #[inline]
    pub(crate) fn take(&mut self, memory: &impl Memory, located: &mut Located) -> bool {
        let position = self.spot.position();
        if position >= self.backed {
            return false;
        }
        let Some([word, sequence]) = memory.words(position) else { return false };
        // Relaxed: the Acquire load of `head` came before. Each word is read once, so what is checked is what is used.
        let word = HeaderWord(word.load(Ordering::Relaxed));
        let sequence = sequence.load(Ordering::Relaxed);
        let data = position + word.header();
        let end = data + word.len().next_multiple_of(Spot::UNIT);
        let sound = word.len() > 0 && word.header() >= PLAIN_HEADER && end <= self.backed;
        let in_order = sequence == self.expected || self.any_sequence;
        if !sound || !in_order || word.flags() & HeaderWord::FIRST != 0 {
            return false;
        }
        if end + AHEAD <= self.limit {
            // Of what lies further ahead a small frame has one line or two.
            memory.prefetch(end + AHEAD - CACHE_LINE);
            memory.prefetch(end + AHEAD - 2 * CACHE_LINE);
        }
        *located = self.advance(memory, word, sequence, end);
        true
    }

    #[inline]
    fn advance(&mut self, memory: &impl Memory, word: HeaderWord, sequence: u64, end: u64) -> Located {
        self.spot = self.spot.at(end);
        self.expected = sequence.wrapping_add(1);
        self.count = self.count.wrapping_add(1);
        let drains = end == self.limit;
        if drains {
            // On the line that is stored to in a moment, when the frame is given back.
            memory.control().read.count.store(self.count, Ordering::Relaxed);
        }
        Located::extended(word, sequence, self.spot, drains)
    }

    /// Looks for the next frame and takes it. `restart` allows the first frame of another writer; `back` makes sure
    /// that the ring has memory from one position to another, before anything there is touched, and says up to where it has.
    pub(crate) fn look(
        &mut self,
        memory: &impl Memory,
        restart: bool,
        mut back: impl FnMut(u64, u64) -> Option<u64>,
    ) -> Look {
        if let Err(trouble) = self.refresh(memory, &mut back) {
            return Look::Unsure(trouble);
        }
        if self.spot == self.head {
            return Look::Empty;
        }
        self.judge(memory, restart, &mut back)
    }

    /// Reads `head`, and finds out up to where the reader may go. Goes nowhere if anything is wrong: `limit` belongs to the
    /// lap of `spot`, and in another lap it would make frames of what nobody has committed.
    pub(crate) fn refresh(
        &mut self,
        memory: &impl Memory,
        back: &mut impl FnMut(u64, u64) -> Option<u64>,
    ) -> Result<(), Trouble> {
        let control = memory.control();
        if self.spot.position() == self.limit {
            // Acquire pairs with the Release store in WriteSide::commit: frames and lap_end are there.
            self.head = Spot(control.written.head.load(Ordering::Acquire));
        }
        let head = self.head;
        let bounded = |limit: u64, from: u64| {
            (from <= limit && limit <= self.size && limit.is_multiple_of(Spot::UNIT))
                .then_some(limit)
                .ok_or_else(|| {
                    corrupt(format!("frames end at {limit} of {} bytes, behind {from}", self.size))
                })
        };
        let mut next = (self.spot, self.limit);
        // Once for the rest of this lap, once for the next one.
        for _ in 0..2 {
            let spot = next.0;
            // Relaxed here and below: stored before the head that we acquired; and not again before we have given back a
            // byte of the next lap (WriteSide::place).
            let end = match head.lap() == spot.lap() {
                true => head.position(),
                false if spot.is_lap_before(head) => control.written.lap_end.load(Ordering::Relaxed),
                false => {
                    let laps = (head.lap(), spot.lap());
                    return Err(corrupt(format!(
                        "the writer is in lap {}, the reader in {}",
                        laps.0, laps.1
                    )));
                }
            };
            let end = bounded(end, spot.position())?;
            let from = Spot(control.written.leap_from[spot.parity()].load(Ordering::Relaxed));
            let to = control.written.leap_to[spot.parity()].load(Ordering::Relaxed);
            let leapt = is_leap(from, spot) && spot.position() <= from.position();
            // A leap counts once something behind it is committed.
            next = if !leapt || (head.lap() == spot.lap() && end <= to) {
                (spot, end)
            } else if spot.position() < from.position() {
                (spot, bounded(from.position(), spot.position())?.min(end))
            } else {
                (spot.at(bounded(to, spot.position())?), bounded(end, to)?)
            };
            if next.0.position() < next.1 || head.lap() == spot.lap() {
                break;
            }
            next.0 = spot.next_lap();
        }
        let (spot, limit) = next;
        let from = spot.position();
        let backed = match from < limit {
            true => back_ahead(back, from, limit.min(from + STEP), limit)
                .ok_or_else(|| without_memory(from, limit))?,
            false => limit,
        };
        (self.spot, self.limit, self.backed) = (spot, limit, backed.min(limit));
        // Only what is committed: the line of a header that is being written would be taken from the writer.
        let mut line = self.spot.position();
        while line < self.limit.min(self.spot.position() + AHEAD) {
            memory.prefetch(line);
            line += CACHE_LINE;
        }
        Ok(())
    }

    /// What is wrong with the next frame, or special about it.
    fn judge(
        &mut self,
        memory: &impl Memory,
        restart: bool,
        back: &mut impl FnMut(u64, u64) -> Option<u64>,
    ) -> Look {
        let position = self.spot.position();
        let Some([word, sequence]) = memory.words(position) else {
            return Look::Unsure(corrupt(format!("read position {position} is out of bounds")));
        };
        let word = HeaderWord(word.load(Ordering::Relaxed));
        let sequence = sequence.load(Ordering::Relaxed);
        let data = position + word.header();
        let end = data + word.len().next_multiple_of(Spot::UNIT);
        if word.len() == 0 || word.header() < PLAIN_HEADER || end > self.limit {
            let (len, header) = (word.len(), word.header());
            return Look::Unsure(corrupt(format!(
                "a frame of {len} bytes with a header of {header} at {position} does not fit what is committed, which \
                 ends at {}",
                self.limit
            )));
        }
        if word.flags() & HeaderWord::FIRST != 0 {
            if !restart {
                return Look::Restart;
            }
        } else if sequence != self.expected && !self.any_sequence {
            return Look::Unsure(Trouble {
                kind: ErrorKind::SequenceError,
                message: format!(
                    "frame {} was expected, {sequence} was found: frames were lost or overwritten; close the reader \
                     and create it anew",
                    self.expected
                ),
            });
        }
        if end > self.backed {
            let Some(backed) = back_ahead(back, position, end, self.limit) else {
                return Look::Unsure(without_memory(position, end));
            };
            self.backed = backed.min(self.limit);
        }
        Look::Frame(self.advance(memory, word, sequence, end))
    }
}

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
        self.open = laps::open_until(self.size, self.head, tail, self.leapt);
        Ok(())
    }

    /// A place straight ahead, if it is known to be free.
    #[inline]
    pub(crate) fn place_at_once(&self, len: usize, least: u64) -> Option<Reservation> {
        let start = self.head.position();
        let (header, bytes) = laps::sizes(start, len as u64, least);
        (start + bytes <= self.open).then(|| Self::reservation(start, header, len, false))
    }

    /// A place straight ahead for a frame that is too small for its data to be aligned, if all of it lies below `until`.
    #[inline]
    pub(crate) fn small_place(&self, len: usize, header: u64, until: u64) -> Option<Reservation> {
        if len.wrapping_sub(1) >= laps::ALIGN_FROM as usize - 1 {
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
        Reservation { placement: space::Placement { start, skip: 0, rewind }, header, len }
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
        let (header, ahead) = laps::sizes(start, len as u64, least);
        let (start_header, at_start) = laps::sizes(0, len as u64, least);
        let (leap_header, at_lap_end) = laps::sizes(self.lap_end, len as u64, least);
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
        Ok(laps::plan(question).map(|place| {
            let reservation = match place {
                Place::Ahead => Self::reservation(start, header, len, false),
                Place::Start => Self::reservation(0, start_header, len, true),
                Place::Leap => Self::reservation(self.lap_end, leap_header, len, false),
            };
            (reservation, laps::grows(&question, place))
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
            self.open = laps::open_until(self.size, self.head, self.tail, self.leapt);
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
