//! The writer's side of a classic ring.

use std::time::Duration;

use super::plan::{self, HEADER, Plan};
use super::timed_sleep::TimedSleep;
use crate::buffer::Buffer;
use crate::layout::{FrameHeader, TailWord};
use crate::memory::mapping::Mapping;
use crate::memory::reserve::Reserver;
use crate::ring::{NoPlace, Reservation, RingFault, Room, Tag, Way};
use crate::sync::{Ordering, fence};
use crate::testing::stop::stop_point;
use crate::wait::taken_before_look;

/// Tokens burnt between two looks at the ring and the clock.
const TOKEN_BURST: u32 = 1 << 16;

/// The writer's books.
pub(crate) struct WriteSide {
    /// Ring position of the next header, below the capacity.
    position: u64,
    sequence: u64,
    written_count: u64,
    /// At least so many bytes are free, as of the last look or commit: only we take any.
    known_free: u64,
    /// Bytes that the last commit took.
    pub(crate) last_cost: u64,
    timed_sleep: TimedSleep,
    /// What the last look of a wait found free; `None`: no wait is under way.
    free_before: Option<u64>,
    /// The reader is a native peer: it follows rewinds, and tokens are posted only when none is there.
    pub(crate) reader_is_ours: bool,
}

impl WriteSide {
    /// The writer of a ring whose last writer closed, or whose reader is a 1.x peer.
    pub(crate) fn resume(mapping: &Mapping, reader_is_ours: bool) -> Result<WriteSide, RingFault> {
        let oieb = mapping.oieb();
        // Acquire pairs with the last writer's Release store of its position.
        let position = oieb.payload_write_pos.load(Ordering::Acquire);
        let written_count = oieb.payload_written_count.load(Ordering::Relaxed);
        let capacity = mapping.geometry().payload_size;
        if position > capacity {
            return Err(RingFault::corrupt(format!(
                "payload_write_pos is {position}, the ring has {capacity} bytes"
            )));
        }
        Ok(WriteSide {
            position: position % capacity,
            sequence: 1,
            written_count,
            known_free: 0,
            last_cost: 0,
            timed_sleep: TimedSleep::new(),
            free_before: None,
            reader_is_ours,
        })
    }

    /// The writer of a native reader's ring whose last writer, native or 1.x, died anywhere. `None`: the reader is just
    /// changing its words, ask again.
    ///
    /// The dead writer's position may be one frame ahead of its last commit. The commit itself is the subtraction from
    /// `payload_free_bytes`; with the reader's tail, that count tells where committed bytes end.
    pub(crate) fn recover(mapping: &Mapping) -> Result<Option<WriteSide>, RingFault> {
        let oieb = mapping.oieb();
        let capacity = mapping.geometry().payload_size;
        // Acquire loads pair with the stores in ReleaseQueue::give_back: equal, settled tails around the count mean
        // that no addition fell between them.
        let before = TailWord(oieb.tail_word.load(Ordering::Acquire));
        let free = oieb.payload_free_bytes.fetch_add(0, Ordering::AcqRel);
        let after = TailWord(oieb.tail_word.load(Ordering::Acquire));
        if before != after || before.is_changing() {
            return Ok(None);
        }
        let read_pos = oieb.payload_read_pos.load(Ordering::Relaxed);
        let Some(used) = capacity.checked_sub(free) else {
            return Err(RingFault::corrupt(format!(
                "payload_free_bytes is {free}, the ring has {capacity} bytes"
            )));
        };
        if read_pos > capacity || before.position() >= capacity {
            return Err(RingFault::corrupt(format!(
                "the reader's positions {read_pos}, {} are out of bounds",
                before.position()
            )));
        }
        let mut side = WriteSide::resume(mapping, true)?;
        if used == 0 {
            // Nothing is held, so the reader stands where the next frame goes; a rewind may have got half-way.
            side.position = read_pos % capacity;
            stop_point!("connect:tail");
            oieb.tail_word.store(TailWord::settled(side.position).0, Ordering::Release);
        } else {
            side.position = (before.position() + used) % capacity;
        }
        stop_point!("connect:write-pos");
        oieb.payload_write_pos.store(side.position, Ordering::Release);
        Ok(Some(side))
    }

    /// Bytes known to be free, if that is enough to know for a frame of `len` bytes: a look at the shared word takes its
    /// line from the reader. `None` if the ring might have to be taken back to 0, which asks whether it is empty.
    fn known_free_for(&self, mapping: &Mapping, len: usize) -> Option<u64> {
        let need = len as u64 + HEADER;
        let no_rewind = self.position + need <= plan::HOT_BYTES.min(mapping.geometry().payload_size);
        (self.reader_is_ours && no_rewind && need <= self.known_free).then_some(self.known_free)
    }

    /// Looks at `payload_free_bytes`, and remembers it.
    fn look_free(&mut self, mapping: &Mapping) -> Result<u64, RingFault> {
        self.known_free = self.free(mapping)?;
        Ok(self.known_free)
    }

    /// `payload_free_bytes`, checked.
    pub(crate) fn free(&self, mapping: &Mapping) -> Result<u64, RingFault> {
        // Acquire pairs with the reader's AcqRel addition: it is done with the bytes that we now reuse.
        let free = mapping.oieb().payload_free_bytes.load(Ordering::Acquire);
        let capacity = mapping.geometry().payload_size;
        if free > capacity {
            return Err(RingFault::corrupt(format!(
                "payload_free_bytes is {free}, the ring has {capacity} bytes"
            )));
        }
        Ok(free)
    }

    /// The question that [`plan::plan`] answers for a frame.
    fn question(&self, mapping: &Mapping, free: u64, room: &Room) -> plan::Question {
        plan::Question {
            capacity: mapping.geometry().payload_size,
            position: self.position,
            free,
            need: room.len as u64 + HEADER,
            native: self.reader_is_ours,
            only_start: false,
        }
    }

    /// Whether a frame of `len` bytes at `start` leaves a gap that a 1.x reader may die of.
    pub(crate) fn leaves_gap(&self, mapping: &Mapping, start: u64, len: usize) -> bool {
        let end = start + HEADER + len as u64;
        !self.reader_is_ours && plan::leaves_gap(mapping.geometry().payload_size, end)
    }

    /// One look for a place with memory behind it.
    pub(crate) fn find(
        &mut self,
        mapping: &Mapping,
        reserver: &mut Reserver,
        room: &Room,
    ) -> Result<Reservation, NoPlace> {
        let known = self.known_free_for(mapping, room.len);
        let mut fresh = known.is_none();
        let free = known.map_or_else(|| self.look_free(mapping), Ok)?;
        let mut question = self.question(mapping, free, room);
        loop {
            let placement = match plan::plan(question) {
                Plan::Place(placement) => placement,
                Plan::Wait { .. } if fresh => return Err(NoPlace::Full),
                Plan::Wait { .. } => {
                    fresh = true;
                    question.free = self.look_free(mapping)?;
                    continue;
                }
            };
            if placement.rewind && !self.rewind(mapping) {
                question.native = false;
                continue;
            }
            // A marker goes where the writer before ended; a 1.x writer has not reserved those bytes.
            let marked = match placement.skip {
                0 => Ok(()),
                _ => reserver.ensure(question.position, question.position + HEADER),
            };
            let reserved = marked.and_then(|()| reserver.reserve(placement.start, question.need));
            match reserved {
                Ok(()) => return Ok(Reservation::classic(placement.start, placement.skip, room.len)),
                Err(error) if placement.start == 0 || question.only_start => {
                    return Err(NoPlace::NoMemory(error));
                }
                // No memory straight ahead: go on with what there is, from the start of the ring.
                Err(_) => question.only_start = true,
            }
        }
    }

    /// Takes the empty ring back to 0, for free: only towards a native reader, and only if it stands where the writer does.
    fn rewind(&mut self, mapping: &Mapping) -> bool {
        let oieb = mapping.oieb();
        let capacity = mapping.geometry().payload_size;
        let read_pos = oieb.payload_read_pos.load(Ordering::Relaxed);
        let tail = TailWord(oieb.tail_word.load(Ordering::Acquire));
        if read_pos % capacity != self.position || tail != TailWord::settled(self.position) {
            return false;
        }
        // The ring is empty and only we can fill it, so the reader changes neither word before our next commit; whose
        // AcqRel subtraction makes both visible to it. A crash in between: see recover().
        stop_point!("write:rewind-tail");
        oieb.tail_word.store(TailWord::settled(0).0, Ordering::Relaxed);
        stop_point!("write:rewind-read-pos");
        oieb.payload_read_pos.store(0, Ordering::Relaxed);
        self.position = 0;
        stop_point!("write:rewind-write-pos");
        oieb.payload_write_pos.store(0, Ordering::Release);
        true
    }

    /// Commits `len` bytes at the place reserved; returns the frame's sequence number.
    #[inline(always)]
    pub(crate) fn commit(
        &mut self,
        mapping: &Mapping,
        reservation: Reservation,
        len: usize,
        tag: Tag,
    ) -> Result<u64, RingFault> {
        debug_assert!(len > 0 && len <= reservation.len);
        self.sequence = tag.sequence.unwrap_or(self.sequence);
        let oieb = mapping.oieb();
        let capacity = mapping.geometry().payload_size;
        let Reservation { start, way, .. } = reservation;
        let skip = if let Way::Skip(bytes) = way { bytes } else { 0 };
        let need = len as u64 + HEADER;
        let out_of_bounds = || RingFault::corrupt("a reservation lies outside the ring".to_owned());
        let marker = skip >= HEADER;
        if marker {
            stop_point!("write:wrap-marker");
            // SAFETY: the bytes from the writer's position to the end are free (the plan charged them), and no reader looks at
            // them before the subtraction below.
            #[allow(unsafe_code)]
            unsafe { mapping.write_header(self.position, FrameHeader::WRAP) }.ok_or_else(out_of_bounds)?;
        }
        stop_point!("write:header");
        let header = FrameHeader { size: len as u64, sequence: self.sequence };
        // SAFETY: the plan found these bytes free; no reader looks at them before the subtraction below.
        #[allow(unsafe_code)]
        unsafe { mapping.write_header(start, header) }.ok_or_else(out_of_bounds)?;

        self.position = (start + need) % capacity;
        stop_point!("write:write-pos");
        oieb.payload_write_pos.store(self.position, Ordering::Release);
        stop_point!("write:free-bytes");
        // The commit. Release publishes header and data to the reader's Acquire load; Acquire keeps the counts below
        // from moving up.
        let cost = skip + need;
        self.last_cost = cost;
        let before = oieb.payload_free_bytes.fetch_sub(cost, Ordering::AcqRel);
        self.written_count = self.written_count.wrapping_add(1 + u64::from(skip > 0));
        stop_point!("write:written-count");
        oieb.payload_written_count.store(self.written_count, Ordering::Relaxed);
        let sequence = self.sequence;
        self.sequence = self.sequence.wrapping_add(1);
        self.known_free = before.saturating_sub(cost);
        if before < cost || before > capacity {
            self.known_free = 0;
            return Err(RingFault::corrupt(format!(
                "payload_free_bytes was {before} at a commit of {cost} bytes"
            )));
        }
        Ok(sequence)
    }

    // ---- waiting and waking ----

    /// Tells the reader of `frames` more frames.
    pub(crate) fn wake(&self, buffer: &Buffer, frames: usize) {
        if !self.reader_is_ours {
            // A 1.x reader takes exactly one token per frame.
            for _ in 0..frames {
                stop_point!("write:post-sem-w");
                buffer.sem_w.post();
            }
            return;
        }
        if frames == 0 {
            return;
        }
        // SeqCst between the commit and the look at the count; a waiting reader takes a token before it looks at the
        // ring. So if a token is seen here, its taker will see the frame.
        fence(Ordering::SeqCst);
        if buffer.sem_w.value() <= 0 {
            stop_point!("write:post-sem-w");
            buffer.sem_w.post();
        }
    }

    /// Takes all tokens: the reader takes that for a writer that is short of space (ReleaseQueue).
    pub(crate) fn take_all_tokens(&self, buffer: &Buffer) {
        while buffer.sem_r.try_wait() {}
    }

    /// Takes tokens that no wait will take: a 1.x reader posts one per frame, and dies when they are too many (spec
    /// failure 3).
    pub(crate) fn burn_tokens(&self, buffer: &Buffer) {
        let mut burst = TOKEN_BURST;
        while burst > 0 && buffer.sem_r.try_wait() {
            burst -= 1;
        }
    }

    /// Sleeps until a token comes, for up to `limit`. Returns whether one came.
    pub(crate) fn sleep(&self, buffer: &Buffer, limit: Duration) -> bool {
        let woken = buffer.sem_r.wait(limit);
        if woken {
            // Tokens only wake: burn the stale ones at once, without a look at the ring for each.
            self.burn_tokens(buffer);
            taken_before_look(true);
        }
        woken
    }

    /// A wait for space begins. Returns whether it may spin: a 1.x reader with enough to do is left alone, as spinning takes
    /// the count's line away from it.
    pub(crate) fn begin_wait(&mut self) -> bool {
        self.free_before = (!self.reader_is_ours).then_some(self.known_free);
        self.timed_sleep.length().is_none()
    }

    /// After a look for space, the first of a wait or a later one: how long to sleep by the clock before the next one;
    /// `None`: until the reader posts.
    pub(crate) fn timed_sleep(&mut self, mapping: &Mapping, first: bool) -> Option<Duration> {
        let free = self.known_free;
        let changed = self.free_before? != free;
        self.free_before = Some(free);
        if changed {
            self.timed_sleep.learn(free, mapping.geometry().payload_size);
        }
        // A reader that gives nothing back may not for long: a sleep on the semaphore costs nothing.
        if changed || first { self.timed_sleep.length() } else { None }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::config::BufferConfig;
    use crate::lifecycle::registry;
    use crate::os;
    use crate::reader::Reader;
    use crate::writer::Writer;

    fn buffer(what: &str) -> (String, Reader, Mapping) {
        let name = format!("unit-classic-writer-{what}-{}", std::process::id());
        let config = BufferConfig::default().payload_size(1024).classic(true);
        let reader = Reader::create(&name, config.clone()).unwrap();
        let segment = os::Segment::open(&name, true).unwrap();
        let mapping = Mapping::new(&segment, config.geometry(&name).unwrap(), false).unwrap();
        (name, reader, mapping)
    }

    #[test]
    fn an_empty_ring_is_taken_back_only_if_its_reader_stands_where_the_writer_does() {
        let (_name, _reader, mapping) = buffer("rewind");
        let oieb = mapping.oieb();
        let rewinds = |read_pos, tail: TailWord| {
            oieb.payload_write_pos.store(512, Ordering::SeqCst);
            oieb.payload_read_pos.store(read_pos, Ordering::SeqCst);
            oieb.tail_word.store(tail.0, Ordering::SeqCst);
            let mut side = WriteSide::resume(&mapping, true).expect("sound words");
            (side.rewind(&mapping), side.position)
        };
        assert_eq!(rewinds(496, TailWord::settled(512)), (false, 512));
        assert_eq!(rewinds(512, TailWord::settled(496)), (false, 512));
        assert_eq!(rewinds(512, TailWord::changing(512)), (false, 512));
        assert_eq!(rewinds(512, TailWord::settled(512)), (true, 0));
    }

    #[test]
    fn a_recovery_waits_for_a_tail_that_changes_and_ends_a_rewind_half_way() {
        let (_name, _reader, mapping) = buffer("recover");
        let oieb = mapping.oieb();
        let recover = |tail: TailWord| {
            oieb.payload_write_pos.store(512, Ordering::SeqCst);
            oieb.payload_read_pos.store(512, Ordering::SeqCst);
            oieb.tail_word.store(tail.0, Ordering::SeqCst);
            WriteSide::recover(&mapping).expect("sound words").map(|side| side.position)
        };
        assert_eq!(recover(TailWord::changing(512)), None);
        // The writer died between its two stores.
        assert_eq!(recover(TailWord::settled(0)), Some(512));
        assert_eq!(TailWord(oieb.tail_word.load(Ordering::SeqCst)), TailWord::settled(512));
    }

    #[test]
    fn a_reader_without_a_token_gets_one_with_the_next_frame() {
        let (name, _reader, _mapping) = buffer("token");
        let mut writer = Writer::connect(&name).unwrap();
        let (semaphore, _) = os::Semaphore::open(&registry::write_semaphore(&name)).unwrap();
        while semaphore.try_wait() {}
        for _ in 0..2 {
            writer.write_frame(b"frame").unwrap();
            assert_eq!(semaphore.value(), 1, "one, however many frames it has not looked at");
        }
    }
}
