//! The writer's side of an extended ring.

use std::time::{Duration, Instant};

use super::growth_backoff::GrowthBackoff;
use super::leaps::Leaps;
use super::lines;
use super::plan::{self, Placement, Question};
use super::poll_backoff::{Found, PollBackoff, pauses_in};
use crate::buffer::Buffer;
use crate::layout::{Cursor, HeaderWord, WriterWord};
use crate::memory::Memory;
use crate::memory::mapping::Mapping;
use crate::memory::reserve::Reserver;
use crate::ring::{NoPlace, Reservation, RingFault, Room, Tag, Way};
use crate::sync::Ordering;
use crate::testing::stop::stop_point;
use crate::wait::{Yields, doorbell};

/// The writer's books.
pub(crate) struct WriteSide {
    /// Bytes of the ring.
    size: u64,
    /// Behind the last committed frame, as in shared memory.
    head: Cursor,
    /// Where the lap before that of `head` ended.
    lap_end: u64,
    leaps: Leaps,
    /// The writer has leapt in this lap.
    leapt: bool,
    /// The last place found at position 0 was taken because there was no memory ahead.
    lacks_memory: bool,
    /// The lap before ended because there was no memory ahead: there is nothing to leap to behind its end.
    memory_ended: bool,
    /// The reader's tail at the last look, normalised.
    tail: Cursor,
    /// Up to where frames may be placed straight ahead without another thought.
    open: u64,
    sequence: u64,
    /// The next frame is this writer's first.
    first: bool,
    /// The writer's word, which its first frame carries; epoch 0: none.
    word: WriterWord,
    /// Frames committed since the buffer was made.
    count: u64,
    /// Position of the header that was committed last.
    last: Cursor,
    /// Bytes of the largest frame committed.
    largest: u64,
    /// The writer's doorbell says that space is short.
    short: bool,
    backoff: GrowthBackoff,
    yields: Yields,
    /// Pauses of [`WriteSide::stay_away`], once they have been measured.
    pauses: Option<u32>,
}

impl WriteSide {
    /// Goes on behind the last committed frame: what its writer had not committed is in free space.
    pub(crate) fn resume(memory: &impl Memory, size: u64) -> Result<WriteSide, RingFault> {
        let written = &memory.control().written;
        // Acquire pairs with the last writer's Release store, so that this writer's stores come after them.
        let head = Cursor(written.head.load(Ordering::Acquire));
        let lap_end = written.lap_end.load(Ordering::Relaxed);
        if head.position() > size {
            return Err(RingFault::corrupt(format!("frames end at {} of {size} bytes", head.position())));
        }
        let count = written.count.load(Ordering::Relaxed);
        let leaps = Leaps::resume(memory, head);
        let [leap, other] = leaps.ends();
        for (what, at) in [("a lap ends", lap_end), ("a leap ends", leap), ("a leap ends", other)] {
            if at > size || !at.is_multiple_of(Cursor::UNIT) {
                return Err(RingFault::corrupt(format!("{what} at {at} of {size} bytes")));
            }
        }
        let leapt = leaps.is_leapt(head);
        let mut side = WriteSide {
            size,
            head,
            lap_end,
            leaps,
            leapt,
            lacks_memory: false,
            memory_ended: false,
            tail: head,
            open: 0,
            sequence: 1,
            first: true,
            word: WriterWord(0),
            count,
            last: head,
            largest: 0,
            short: false,
            backoff: GrowthBackoff::new(),
            yields: Yields::new(),
            pauses: None,
        };
        side.look_tail(memory)?;
        Ok(side)
    }

    /// Lets the first frame carry the writer's word.
    pub(crate) fn signing(self, word: WriterWord) -> WriteSide {
        // No place straight ahead is given away: the first frame's header needs room for the word.
        WriteSide { word, open: 0, ..self }
    }

    /// Whether the next frame carries the writer's word.
    fn signs(&self) -> bool {
        self.first && self.word.epoch() != 0
    }

    /// Whether the reader has given back something since the last look, or seems to.
    pub(crate) fn changed(&self, memory: &impl Memory) -> bool {
        // Relaxed: only a hint to look again.
        self.normal(Cursor(memory.control().read.tail.load(Ordering::Relaxed))) != self.tail
    }

    /// A tail at the end of a lap that was left stands at the start of the next one, and one where the writer leapt stands
    /// where it leapt to: the reader will go there.
    fn normal(&self, tail: Cursor) -> Cursor {
        if tail.is_lap_before(self.head) && tail.position() == self.lap_end {
            return tail.next_lap();
        }
        self.leaps.follow(tail)
    }

    /// Whether everything had been given back at the last look.
    pub(crate) fn is_drained(&self) -> bool {
        self.tail == self.head
    }

    fn look_tail(&mut self, memory: &impl Memory) -> Result<(), RingFault> {
        // Acquire pairs with the reader's Release store: it is done with the bytes that we now reuse.
        let tail = self.normal(Cursor(memory.control().read.tail.load(Ordering::Acquire)));
        let (at, head) = (tail.position(), self.head.position());
        let sound = if tail.lap() == self.head.lap() {
            at <= head
        } else {
            tail.is_lap_before(self.head) && (self.leapt || head <= at) && at <= self.lap_end.min(self.size)
        };
        if !sound {
            return Err(RingFault::corrupt(format!(
                "the reader has given back lap {} up to {at}, the writer is in lap {} at {head}",
                tail.lap(),
                self.head.lap()
            )));
        }
        self.tail = tail;
        self.reopen();
        Ok(())
    }

    /// A place straight ahead, if the frame ends below `until` there.
    #[inline]
    pub(crate) fn place_below(&self, room: &Room, until: u64) -> Option<Reservation> {
        let start = self.head.position();
        let (header, bytes) = plan::sizes(start, room.len as u64, room.header);
        (start + bytes <= until).then(|| Self::ahead(start, header, room.len))
    }

    /// Writes a frame straight ahead, if it ends below `until` there; does not tell the reader. What the slow path does for any
    /// frame, in a quarter of the instructions. The caller got `until` from [`WriteSide::fast_until`].
    #[inline(always)]
    pub(crate) fn write_fast(&mut self, mapping: &Mapping, data: &[u8], tag: Tag, until: u64) -> Option<u64> {
        let (len, header) = (data.len(), tag.header());
        if len.wrapping_sub(1) >= plan::ALIGN_FROM as usize - 1 {
            return self.write_fast_aligned(mapping, data, tag, until);
        }
        // As `plan::sizes` has it for a frame that is not aligned.
        let start = self.head.position();
        if start + header + (len as u64).next_multiple_of(Cursor::UNIT) > until {
            return None;
        }
        self.write_at(mapping, Self::ahead(start, header, len), data, tag)
    }

    /// [`WriteSide::write_fast`] for the other frames; a function of its own, so that small ones do not pay for it.
    #[inline(never)]
    fn write_fast_aligned(&mut self, mapping: &Mapping, data: &[u8], tag: Tag, until: u64) -> Option<u64> {
        let place = self.place_below(&Room::of(data.len(), &tag), until)?;
        if data.is_empty() { None } else { self.write_at(mapping, place, data, tag) }
    }

    #[inline(always)]
    fn write_at(&mut self, mapping: &Mapping, place: Reservation, data: &[u8], tag: Tag) -> Option<u64> {
        stop_point!("write:data");
        // SAFETY: this is the writer, the place is free and reserved (`until` of write_fast), and no slice of it is lent out, so
        // `data` cannot lie in it.
        #[allow(unsafe_code)]
        unsafe {
            mapping.write_frame(place.data(), data)?;
        }
        self.commit(mapping, place, data.len(), tag).ok()
    }

    #[inline]
    fn ahead(start: u64, header: u64, len: usize) -> Reservation {
        Reservation { start, header, len, way: Way::Ahead }
    }

    /// Up to where frames may be placed straight ahead without another thought until one is placed elsewhere, so that none of
    /// them is longer than `most` bytes.
    #[inline]
    pub(crate) fn fast_until(&self, most: u64) -> u64 {
        self.open.min(self.head.position() + most)
    }

    /// Looks for a place for a frame; `None` if there is no room now. Tells too whether the part of the ring that is in use
    /// grows by it, beyond what the caches hold.
    pub(crate) fn place(
        &mut self,
        memory: &impl Memory,
        room: &Room,
        only_start: bool,
    ) -> Result<Option<(Reservation, bool)>, RingFault> {
        self.look_tail(memory)?;
        let mut least = room.header;
        if self.signs() {
            least = least.max(2 * Cursor::UNIT);
            self.open = 0;
        }
        let (len, start) = (room.len, self.head.position());
        let sizes = |position| plan::sizes(position, len as u64, least);
        let (header, ahead) = sizes(start);
        let (start_header, at_start) = sizes(0);
        let (leap_header, at_lap_end) = sizes(self.lap_end);
        self.lacks_memory = only_start;
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
        // seen where the one before ended, and where the writer leapt in it, and both may be stored again.
        Ok(plan::plan(question).map(|placement| {
            let reservation = match placement {
                Placement::Ahead => Self::ahead(start, header, len),
                Placement::Start => Reservation { start: 0, header: start_header, len, way: Way::NewLap },
                Placement::Leap => {
                    Reservation { start: self.lap_end, header: leap_header, len, way: Way::Leap }
                }
            };
            (reservation, plan::grows(&question, placement))
        }))
    }

    /// One look for a place with memory behind it. For up to `left` it waits for bytes that are in the caches, where that
    /// costs less than to leave them.
    #[inline(never)]
    pub(crate) fn find(
        &mut self,
        buffer: &Buffer,
        reserver: &mut Reserver,
        room: &Room,
        left: Duration,
    ) -> Result<Reservation, NoPlace> {
        let memory = &buffer.mapping;
        let len = room.len as u64;
        let mut only_start = false;
        loop {
            let mut found = self.place(memory, room, only_start)?;
            if let Some((place, true)) = found
                && !left.is_zero()
            {
                let fresh = !reserver.has_up_to(place.end());
                if let Some(wait) = self.backoff.before_growing(len, fresh, self.used()) {
                    found = self.wait_for_warm_bytes(buffer, room, only_start, wait.min(left))?;
                    match found {
                        Some((_, true)) => self.backoff.failed(len),
                        _ => self.backoff.restore(),
                    }
                }
            } else if self.is_drained() {
                self.backoff.restore();
            }
            let Some((place, _)) = found else { return Err(NoPlace::Full) };
            match reserver.reserve(place.start, place.header + len) {
                Ok(()) => {
                    memory.populate(reserver.take_reserved());
                    if let Some((Reservation { way: Way::Ahead, .. }, true)) = found {
                        // The bytes up to the end of the ring are free, or the writer would not grow into them.
                        let open = (place.end() + self.backoff.stride()).min(self.size);
                        self.open = self.open.max(open);
                    }
                    return Ok(place);
                }
                Err(error) if place.start == 0 || only_start => return Err(NoPlace::NoMemory(error)),
                // No memory straight ahead: go on with what there is, from the start of the ring.
                Err(_) => only_start = true,
            }
        }
    }

    /// Bytes that have not been given back, if the reader is in this lap; else many.
    fn used(&self) -> u64 {
        let same = self.tail.lap() == self.head.lap();
        if same { self.head.position() - self.tail.position() } else { u64::MAX }
    }

    /// Spins for up to `wait`, until there is a place in what is in the caches: the reader may be about to give it back.
    fn wait_for_warm_bytes(
        &mut self,
        buffer: &Buffer,
        room: &Room,
        only_start: bool,
        wait: Duration,
    ) -> Result<Option<(Reservation, bool)>, RingFault> {
        let memory = &buffer.mapping;
        let start = Instant::now();
        loop {
            for _ in 0..64 {
                if self.changed(memory) {
                    break;
                }
                core::hint::spin_loop();
            }
            let found = self.place(memory, room, only_start)?;
            let now = Instant::now();
            let spent = now.saturating_duration_since(start);
            if !matches!(found, Some((_, true))) || spent >= wait || buffer.is_interrupted() {
                return Ok(found);
            }
            self.yields.turn(now, spent);
        }
    }

    /// Whether the writer has told the reader that space is short.
    #[inline]
    pub(crate) fn is_short(&self) -> bool {
        self.short
    }

    /// Tells the reader whether to give back every byte at once.
    pub(crate) fn say_short(&mut self, memory: &impl Memory, short: bool) {
        if short || self.short {
            doorbell::set(&memory.control().writer_bell.bell, if short { doorbell::SHORT } else { 0 });
            self.short = short;
        }
    }

    /// Before a spin for space: stays away from the reader's word for a moment, so that frames of `len` bytes come back together.
    /// A writer that looked after each of them would take that word's line away from the reader each time, and find room for
    /// one. The ring is full, so the reader has something to do meanwhile.
    pub(crate) fn stay_away(&mut self, len: usize) {
        if len as u64 <= Found::LARGEST {
            let pauses = *self.pauses.get_or_insert_with(|| pauses_in(PollBackoff::AWAY));
            for _ in 0..pauses {
                core::hint::spin_loop();
            }
        }
    }

    /// Sleeps until space was given back, or `more` finds something else to do, for up to `limit`. Returns whether space was
    /// given back, as far as is known.
    pub(crate) fn sleep(&self, memory: &impl Memory, limit: Duration, more: impl Fn() -> bool) -> bool {
        let bell = &memory.control().writer_bell.bell;
        doorbell::sleep(bell, doorbell::SHORT, limit, || self.changed(memory) || more());
        self.changed(memory)
    }

    /// Commits `len` bytes at the place reserved; returns the frame's sequence number. (As a call it cost 3.5 ns.)
    #[inline(always)]
    pub(crate) fn commit(
        &mut self,
        memory: &impl Memory,
        reservation: Reservation,
        len: usize,
        tag: Tag,
    ) -> Result<u64, RingFault> {
        let Reservation { start, header, way, .. } = reservation;
        let out_of_bounds = || RingFault::corrupt("a reservation lies outside the ring".to_owned());
        let sequence = tag.sequence.unwrap_or(self.sequence);
        let mut flags = tag.flags;
        if self.first {
            flags |= self.sign(memory, start, header).ok_or_else(out_of_bounds)?;
        }
        let written = &memory.control().written;
        // Relaxed throughout: no reader looks at any of this before the Release store of `head`.
        debug_assert!(tag.header() <= header);
        if tag.deadline != 0 && header >= tag.header() {
            flags |= HeaderWord::DEADLINE;
            let [deadline, _] = memory.words(start + Cursor::UNIT).ok_or_else(out_of_bounds)?;
            deadline.store(tag.deadline, Ordering::Relaxed);
        }
        let [word, second] = memory.words(start).ok_or_else(out_of_bounds)?;
        stop_point!("extended:header");
        word.store(HeaderWord::new(len as u64, header / Cursor::UNIT, flags).0, Ordering::Relaxed);
        second.store(sequence, Ordering::Relaxed);
        let mut lap = self.head;
        if way != Way::Ahead {
            lap = self.jump(memory, start, way);
        }
        self.last = lap.at(start);
        let bytes = header + (len as u64).next_multiple_of(Cursor::UNIT);
        self.head = lap.at(start + bytes);
        self.largest = self.largest.max(bytes);
        self.count = self.count.wrapping_add(1);
        written.count.store(self.count, Ordering::Relaxed);
        stop_point!("extended:head");
        // The commit. Release publishes header, data and lap_end to the reader's Acquire load in refresh().
        written.head.store(self.head.0, Ordering::Release);
        self.sequence = sequence.wrapping_add(1);
        self.first = false;
        lines::ask_to_write(memory, self.head.position(), bytes, self.open);
        if way != Way::Ahead {
            self.tail = self.normal(self.tail);
            self.reopen();
        }
        Ok(sequence)
    }

    /// Finds out again up to where frames may go straight ahead.
    #[inline(never)]
    fn reopen(&mut self) {
        self.open = plan::open_until(self.size, self.head, self.tail, self.leapt, self.largest);
    }

    /// Stores the writer's word in the header of its first frame; returns the flags that say so.
    #[cold]
    fn sign(&mut self, memory: &impl Memory, start: u64, header: u64) -> Option<u16> {
        if !self.signs() || header < 2 * Cursor::UNIT {
            return Some(HeaderWord::FIRST);
        }
        self.reopen();
        let [_, word] = memory.words(start + Cursor::UNIT)?;
        stop_point!("extended:sign");
        // Relaxed: the Release store of `head` follows.
        word.store(self.word.0, Ordering::Relaxed);
        Some(HeaderWord::FIRST | HeaderWord::SIGNED)
    }

    /// Stores how the reader gets to a place that is not straight ahead; returns the lap that it is in.
    #[cold]
    fn jump(&mut self, memory: &impl Memory, start: u64, way: Way) -> Cursor {
        if way == Way::Leap {
            self.leaps.leap(memory, self.head, start);
            self.leapt = true;
            return self.head;
        }
        let next = self.head.next_lap();
        self.leaps.begin_lap(memory, next);
        stop_point!("extended:lap-end");
        // Relaxed: the Release store of `head` follows.
        memory.control().written.lap_end.store(self.head.position(), Ordering::Relaxed);
        self.lap_end = self.head.position();
        self.leapt = false;
        self.memory_ended = self.lacks_memory;
        next
    }

    /// Where the last committed frame stands.
    pub(crate) fn last(&self) -> Cursor {
        self.last
    }

    /// Sets `flags` in the header of a committed frame. Returns whether the frame had not been given back.
    pub(crate) fn mark(&mut self, memory: &impl Memory, frame: Cursor, flags: u16) -> bool {
        self.look_tail(memory).is_ok() && self.marker().mark(memory, frame, flags)
    }

    /// Marks the frames that are there now, while nothing else is done with the writer than to fill and commit, or discard,
    /// what it has reserved: that lies outside what was taken, as of the writer's last look.
    pub(crate) fn marker(&self) -> Marker {
        Marker { head: self.head, tail: self.tail }
    }
}

/// Wakes the reader, if it sleeps, after a commit.
#[inline(always)]
pub(crate) fn wake_reader(mapping: &Mapping) {
    if doorbell::wants(&mapping.control().reader_bell.bell) & doorbell::SLEEPING != 0 {
        stop_point!("extended:ring-reader");
        ring_reader(mapping);
    }
}

#[cold]
#[inline(never)]
fn ring_reader(mapping: &Mapping) {
    doorbell::ring(&mapping.control().reader_bell, |id| mapping.wire().ring(id));
}

/// See [`WriteSide::marker`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Marker {
    head: Cursor,
    tail: Cursor,
}

impl Marker {
    /// As [`WriteSide::mark`]; a frame that has been given back since is marked in vain.
    pub(crate) fn mark(self, memory: &impl Memory, frame: Cursor, flags: u16) -> bool {
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
        // The writer alone writes behind the tail. Release, for what the caller wants seen with the mark.
        memory.words(at).is_some_and(|[word, _]| {
            word.fetch_or(u64::from(flags) << HeaderWord::FLAGS, Ordering::Release);
            true
        })
    }
}
