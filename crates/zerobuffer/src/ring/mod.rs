//! The ring of frames: how it is laid out, read, written and given back.
//!
//! There are two kinds: the classic ring that 1.x peers speak, and the extended one between two native peers. The first
//! writer decides for the life of a buffer; until then a reader looks at it as at a classic one. This file, `arming.rs`,
//! `close.rs` and `unreturned.rs` alone ask which kind a ring is.

mod arming;
pub(crate) mod classic;
mod close;
pub(crate) mod entry;
pub(crate) mod extended;
mod lender;
mod lending;
mod record;
mod release;
mod unreturned;

use std::time::{Duration, Instant};

pub(crate) use lender::Lender;
pub(crate) use record::{
    FaultKind, FrameAddress, FrameRecord, Look, NoPlace, Passed, Reservation, RingFault, Room, Tag, Way,
    flags,
};
pub(crate) use unreturned::Unreturned;

use crate::buffer::Buffer;
use crate::layout::WriterWord;
use crate::memory::Memory;
use crate::memory::mapping::Mapping;
use crate::memory::reserve::Reserver;
use crate::os;
use crate::sync::Ordering;
use crate::testing::stop::stop_point;
use crate::wait::{Spin, doorbell};

/// The ring as a reader sees it.
pub(crate) enum ReadRing {
    /// Protocol 1 as 1.x peers speak it.
    Classic(classic::ReadSide),
    /// Between two native peers.
    Extended(extended::ReadSide),
}

impl ReadRing {
    /// The ring of a buffer that has just been created or taken over.
    pub(crate) fn new(buffer: &Buffer) -> ReadRing {
        let undecided = buffer.mapping.can_be_extended();
        if undecided {
            buffer.forget_predecessor();
            doorbell::set(buffer.doorbell(), 0);
        }
        ReadRing::Classic(classic::ReadSide::new(buffer.mapping.geometry().payload_size, undecided))
    }

    /// Accepts frames in any order of sequence numbers, as a duplex server's responses come.
    pub(crate) fn accept_any_sequence(&mut self) {
        match self {
            ReadRing::Classic(side) => side.any_sequence = true,
            ReadRing::Extended(side) => side.any_sequence = true,
        }
    }

    /// Whether frames come in the order of their sequence numbers.
    pub(crate) fn checks_sequence(&self) -> bool {
        match self {
            ReadRing::Classic(side) => !side.any_sequence,
            ReadRing::Extended(side) => !side.any_sequence,
        }
    }

    /// Goes over to the extended ring, if the first writer has made it one.
    pub(crate) fn decide(&mut self, lender: &Lender) {
        let ReadRing::Classic(classic::ReadSide { undecided: true, any_sequence, .. }) = *self else {
            return;
        };
        let mapping = &lender.buffer.mapping;
        if !mapping.is_extended() {
            return;
        }
        let size = mapping.geometry().extended_size();
        let mut side = extended::ReadSide::new(mapping, size);
        side.any_sequence = any_sequence;
        lender.start_extended(side.cursor(), size);
        *self = ReadRing::Extended(side);
    }

    /// Takes the next frame, if it is known to be there and nothing is special about it.
    #[inline(always)]
    pub(crate) fn take(&mut self, lender: &Lender, record: &mut FrameRecord) -> bool {
        match self {
            ReadRing::Classic(_) => false,
            ReadRing::Extended(side) => side.take(&lender.buffer.mapping, record),
        }
    }

    /// As `take`, with a look at the writer's word.
    #[inline]
    pub(crate) fn take_new(
        &mut self,
        lender: &Lender,
        memory: &mut Reserver,
        record: &mut FrameRecord,
    ) -> bool {
        let ReadRing::Extended(side) = self else { return false };
        let mapping = &lender.buffer.mapping;
        let mut back = |from, to| memory.back(from, to);
        side.take(mapping, record) || side.refresh(mapping, &mut back).is_ok() && side.take(mapping, record)
    }

    /// One look at the ring, for a frame or for what is there instead. `begins` is asked before the first frame of another
    /// writer is taken, whose word it gets, if that is known.
    pub(crate) fn look(
        &mut self,
        lender: &Lender,
        memory: &mut Reserver,
        begins: impl FnMut(Option<WriterWord>) -> bool,
    ) -> Look {
        self.decide(lender);
        let mapping = &lender.buffer.mapping;
        match self {
            ReadRing::Extended(side) => {
                lender.settle_loans(false);
                let look = side.look(mapping, begins, |from, to| memory.back(from, to));
                mapping.populate(memory.take_reserved());
                // Whatever was found instead of a frame, the writer must not wait for what is withheld.
                if !matches!(look, Look::Frame(_)) && lender.extended.drained(mapping) {
                    lender.ring_writer();
                }
                look
            }
            ReadRing::Classic(side) => {
                let mut queue = lender.classic();
                let look = side.look(mapping, &mut queue, memory, begins);
                let wake = queue.take_wake();
                drop(queue);
                if wake {
                    lender.wake_writer();
                }
                if let Look::Frame(_) = look {
                    side.owe_token(&lender.buffer);
                }
                look
            }
        }
    }

    /// Goes on from `last`, the frame that was taken last and is not held, to the newest one of its writer, and gives back those
    /// before it. `last` becomes that frame, if not all of them are cancelled.
    pub(crate) fn pass_to_newest(
        &mut self,
        lender: &Lender,
        memory: &mut Reserver,
        last: &mut FrameRecord,
    ) -> Passed {
        let mapping = &lender.buffer.mapping;
        match self {
            ReadRing::Extended(side) => {
                let (found, passed) = side.pass_to_newest(mapping, last, |from, to| memory.back(from, to));
                if let Some(passed) = passed {
                    lender.pass_over(passed);
                }
                Passed { frames: passed.map_or(0, |passed| passed.frames), found }
            }
            ReadRing::Classic(side) => {
                let is_short = || lender.buffer.sem_r.value() <= 0;
                let passed = side.pass_to_newest(mapping, &mut lender.classic(), memory, last, is_short);
                let (frames, given_back) = passed;
                if given_back {
                    lender.wake_writer();
                }
                if frames > 0 {
                    side.owe_tokens(&lender.buffer, frames);
                }
                Passed { frames, found: true }
            }
        }
    }

    /// Stands before the frame that was taken last, again: it cannot be delivered.
    #[cold]
    pub(crate) fn put_back(&mut self, record: &FrameRecord) {
        if let ReadRing::Extended(side) = self {
            side.put_back(record);
        }
    }

    /// Where the reader stands behind the last frame that it read, for [`Lender::has_unread_behind`].
    #[inline]
    pub(crate) fn cursor(&self, lender: &Lender) -> u64 {
        let mapping = &lender.buffer.mapping;
        match self {
            ReadRing::Extended(side) => side.cursor().0,
            // Relaxed: before the first frame of an extended ring only this reader stores it.
            ReadRing::Classic(_) if mapping.can_be_extended() => {
                mapping.control().read.tail.load(Ordering::Relaxed)
            }
            ReadRing::Classic(_) => 0,
        }
    }

    /// Repairs a count that has lost an update of a 1.x writer. Returns the bytes that it was short of.
    pub(crate) fn repair(&mut self, lender: &Lender, memory: &mut Reserver) -> Option<u64> {
        let ReadRing::Classic(side) = self else { return None };
        // A statement of its own: the lock is free when the writer is woken, which may lack these bytes.
        let repaired = side.repair(&lender.buffer.mapping, &mut lender.classic(), memory);
        if repaired.is_some() {
            lender.wake_writer();
        }
        repaired
    }

    /// Whether there are frames that have not been read.
    pub(crate) fn has_unread(&mut self, lender: &Lender) -> bool {
        self.decide(lender);
        match self {
            ReadRing::Extended(side) => side.has_unread(&lender.buffer.mapping),
            ReadRing::Classic(side) => {
                let mut queue = lender.classic();
                side.unread(&lender.buffer.mapping, &mut queue).is_ok_and(|unread| unread > 0)
            }
        }
    }

    /// Whether there is nothing to be read, as far as one can tell without a closer look: of a classic ring one cannot.
    #[inline]
    pub(crate) fn is_quiet(&self, lender: &Lender) -> bool {
        match self {
            ReadRing::Classic(_) => false,
            ReadRing::Extended(side) => !side.changed(&lender.buffer.mapping),
        }
    }

    // ---- waiting ----

    /// Before a look that may wait: stays away for a moment, where that lets frames come together.
    #[inline]
    pub(crate) fn stay_away(&self) {
        if let ReadRing::Extended(side) = self {
            side.stay_away();
        }
    }

    /// After that look: the frame that it found, if it found one.
    #[inline]
    pub(crate) fn learn(&mut self, frame: Option<&FrameRecord>) {
        if let ReadRing::Extended(side) = self {
            side.learn(frame);
        }
    }

    /// Spins until something has changed since the last look, as long as that is worth while.
    pub(crate) fn spin(&self, lender: &Lender, spin: &mut Spin, since: Option<Instant>) -> bool {
        let mapping = &lender.buffer.mapping;
        match self {
            ReadRing::Classic(side) => spin.until(since, || side.changed(mapping)),
            ReadRing::Extended(side) if lender.loans.any() => {
                lending::spin(lender, spin, since, || side.changed(mapping))
            }
            ReadRing::Extended(side) => spin.until(since, || side.changed(mapping)),
        }
    }

    /// Before the first sleep of a wait: takes the tokens of frames already read. Returns whether the ring must be looked at
    /// again: a native writer that saw a token did not post another.
    pub(crate) fn settle_tokens(&mut self, lender: &Lender) -> bool {
        match self {
            ReadRing::Classic(side) => side.settle_tokens(&lender.buffer),
            ReadRing::Extended(_) => false,
        }
    }

    /// Sleeps for up to `limit`, until something was committed, the call is interrupted, or `more` finds something else to do.
    /// Returns whether a token ended the sleep, which [`ReadRing::slept`] wants to know.
    pub(crate) fn sleep(&self, lender: &Lender, limit: Duration, more: impl Fn() -> bool) -> bool {
        let buffer = &lender.buffer;
        match self {
            ReadRing::Classic(side) => side.sleep(buffer, limit),
            ReadRing::Extended(side) => {
                if lender.loans.any() {
                    let ready = || side.changed(&buffer.mapping) || buffer.is_interrupted() || more();
                    lending::sleep(lender, limit, &ready);
                    return false;
                }
                // Another thread may lend meanwhile: then this one sleeps as a lender does.
                let ready = || {
                    side.changed(&buffer.mapping) || buffer.is_interrupted() || lender.loans.any() || more()
                };
                doorbell::sleep(buffer.doorbell(), 0, limit, ready);
                false
            }
        }
    }

    /// After a sleep and a look at the ring. Returns whether to look again.
    pub(crate) fn slept(&mut self, lender: &Lender, by_token: bool, found: bool) -> bool {
        let ReadRing::Classic(side) = self else { return false };
        match (by_token, found) {
            (true, true) => side.token_taken(),
            (true, false) => side.burn_tokens(&lender.buffer),
            (false, _) => {}
        }
        by_token && !found
    }

    /// A wait that slept is over.
    pub(crate) fn end_wait(&self, lender: &Lender) {
        if let ReadRing::Extended(_) = self {
            doorbell::set(lender.buffer.doorbell(), 0);
        }
    }
}

/// The ring as a writer sees it.
pub(crate) enum WriteRing {
    /// Protocol 1 as 1.x peers speak it.
    Classic(classic::WriteSide),
    /// Between two native peers.
    Extended(extended::WriteSide),
}

impl WriteRing {
    /// A place in an extended ring, behind the last committed frame, for the writer of `word`.
    pub(crate) fn join_extended(mapping: &Mapping, word: WriterWord) -> Result<WriteRing, RingFault> {
        let size = mapping.geometry().extended_size();
        let side = extended::WriteSide::resume(mapping, size)?;
        Ok(WriteRing::Extended(side.signing(word)))
    }

    /// A place in a classic ring whose last writer closed, or whose reader is a 1.x peer.
    pub(crate) fn join_classic(mapping: &Mapping, reader_is_ours: bool) -> Result<WriteRing, RingFault> {
        classic::WriteSide::resume(mapping, reader_is_ours).map(WriteRing::Classic)
    }

    /// A place in a classic ring of a native reader whose last writer died. `None`: the reader is just changing its words,
    /// ask again.
    pub(crate) fn recover(mapping: &Mapping) -> Result<Option<WriteRing>, RingFault> {
        Ok(classic::WriteSide::recover(mapping)?.map(WriteRing::Classic))
    }

    /// Tells a reader that waits for its writer that one has connected.
    pub(crate) fn announce(&self, buffer: &Buffer, reader_is_ours: bool) {
        if let WriteRing::Extended(_) = self {
            buffer.forget_predecessor();
            doorbell::set(buffer.doorbell(), 0);
            stop_point!("connect:ring");
            // The reader may sleep without saying so: the writer before died just as it woke it.
            buffer.rouse_peer();
        }
        if reader_is_ours {
            // A native reader waits with the semaphore until it knows that the ring is an extended one.
            stop_point!("connect:post");
            // One that waits although there is a token was not woken for it: the writer before died just as it posted.
            if buffer.sem_w.value() <= 0 || buffer.sem_w.waiters() > 0 {
                buffer.sem_w.post();
            }
        }
    }

    /// Whether flags and deadlines reach the reader.
    pub(crate) fn carries_tags(&self) -> bool {
        matches!(self, WriteRing::Extended(_))
    }

    // ---- places and frames ----

    /// Writes a frame straight ahead, if it ends below `until` there. The reader is told by
    /// [`extended::wake_reader`].
    #[inline(always)]
    pub(crate) fn write_fast(&mut self, buffer: &Buffer, data: &[u8], tag: Tag, until: u64) -> Option<u64> {
        match self {
            WriteRing::Classic(_) => None,
            WriteRing::Extended(side) => side.write_fast(&buffer.mapping, data, tag, until),
        }
    }

    /// A place straight ahead, if the frame ends below `until` there.
    #[inline]
    pub(crate) fn place_below(&self, room: &Room, until: u64) -> Option<Reservation> {
        let WriteRing::Extended(side) = self else { return None };
        side.place_below(room, until)
    }

    /// Up to where frames of `most` bytes or less may go straight ahead without another thought; `None` if none may.
    #[inline]
    pub(crate) fn fast_until(&self, reserver: &Reserver, most: usize) -> Option<u64> {
        let WriteRing::Extended(side) = self else { return None };
        (!side.is_short()).then(|| side.fast_until(most as u64).min(reserver.up_to()))
    }

    /// Whether a frame of `len` bytes at `start` leaves less room behind it than a 1.x reader needs to get past.
    pub(crate) fn leaves_gap(&self, buffer: &Buffer, start: u64, len: usize) -> bool {
        match self {
            WriteRing::Classic(side) => side.leaves_gap(&buffer.mapping, start, len),
            WriteRing::Extended(_) => false,
        }
    }

    /// One look for a place with memory behind it. An extended ring takes up to `left` for it where that keeps it in the
    /// caches.
    pub(crate) fn find(
        &mut self,
        buffer: &Buffer,
        reserver: &mut Reserver,
        room: &Room,
        left: Duration,
    ) -> Result<Reservation, NoPlace> {
        match self {
            WriteRing::Classic(side) => side.find(&buffer.mapping, reserver, room),
            WriteRing::Extended(side) => side.find(buffer, reserver, room, left),
        }
    }

    /// Commits `len` bytes at the place reserved; returns the frame's sequence number.
    #[inline]
    pub(crate) fn commit(
        &mut self,
        buffer: &Buffer,
        reservation: Reservation,
        len: usize,
        tag: Tag,
    ) -> Result<u64, RingFault> {
        match self {
            WriteRing::Extended(side) => side.commit(&buffer.mapping, reservation, len, tag),
            WriteRing::Classic(side) => side.commit(&buffer.mapping, reservation, len, tag),
        }
    }

    /// Where the frame stands that was committed last.
    pub(crate) fn last(&self) -> Option<FrameAddress> {
        match self {
            WriteRing::Classic(_) => None,
            WriteRing::Extended(side) => Some(FrameAddress(side.last())),
        }
    }

    /// Sets flags in the header of a committed frame. Returns whether the frame was still there.
    pub(crate) fn mark(&mut self, buffer: &Buffer, frame: FrameAddress, flags: u16) -> bool {
        match self {
            WriteRing::Classic(_) => false,
            WriteRing::Extended(side) => side.mark(&buffer.mapping, frame.0, flags),
        }
    }

    /// What marks frames while the one reserved is filled.
    pub(crate) fn marker(&self) -> Option<extended::Marker> {
        match self {
            WriteRing::Classic(_) => None,
            WriteRing::Extended(side) => Some(side.marker()),
        }
    }

    // ---- waiting and waking ----

    /// Tells the reader of `frames` more frames.
    #[inline]
    pub(crate) fn wake(&self, buffer: &Buffer, frames: usize) {
        match self {
            WriteRing::Classic(side) => side.wake(buffer, frames),
            WriteRing::Extended(_) => extended::wake_reader(&buffer.mapping),
        }
    }

    /// Tells the reader whether space is short, so that it gives back at once.
    pub(crate) fn say_short(&mut self, buffer: &Buffer, short: bool) {
        if let WriteRing::Extended(side) = self {
            side.say_short(&buffer.mapping, short);
        }
    }

    /// A frame found no room, and is given up without a wait: tells the reader of a classic ring that space is short.
    pub(crate) fn give_up(&self, buffer: &Buffer) {
        if let WriteRing::Classic(side) = self {
            side.take_all_tokens(buffer);
        }
    }

    /// The duty, every few milliseconds, of a writer that never waits. `many`: a fence for each frame is worth saving.
    pub(crate) fn tend(&self, buffer: &Buffer, many: bool) {
        match self {
            WriteRing::Classic(side) => side.burn_tokens(buffer),
            // Only for many: registering takes the kernel some 12 ms, for which a process that is killed meanwhile lives on.
            WriteRing::Extended(_) if many => os::register_for_barriers(),
            WriteRing::Extended(_) => {}
        }
    }

    /// A wait for space begins. Returns whether it may spin.
    pub(crate) fn begin_wait(&mut self) -> bool {
        if let WriteRing::Classic(side) = self { side.begin_wait() } else { true }
    }

    /// Before the first spin of a wait for `len` bytes: leaves the reader alone for a moment, where that pays.
    pub(crate) fn stay_away(&mut self, len: usize) {
        let WriteRing::Extended(side) = self else { return };
        side.stay_away(len);
    }

    /// Spins until something has changed since the last look, as long as that is worth while.
    pub(crate) fn spin(&self, buffer: &Buffer, spin: &mut Spin, since: Option<Instant>) {
        let mapping = &buffer.mapping;
        match self {
            WriteRing::Classic(side) => {
                let before = side.free(mapping).ok();
                spin.until(since, || side.free(mapping).ok() != before);
            }
            WriteRing::Extended(side) => {
                spin.until(since, || side.changed(mapping));
            }
        }
    }

    /// After a look for space: how long to sleep by the clock before the next one; `None`: until the reader wakes the writer.
    pub(crate) fn timed_sleep(&mut self, buffer: &Buffer, first: bool) -> Option<Duration> {
        match self {
            WriteRing::Classic(side) => side.timed_sleep(&buffer.mapping, first),
            WriteRing::Extended(_) => None,
        }
    }

    /// Sleeps for up to `limit`, until space was given back, the call is interrupted, or `more` finds something else to do.
    /// Returns whether something happened, as far as is known.
    pub(crate) fn sleep(&self, buffer: &Buffer, limit: Duration, more: impl Fn() -> bool) -> bool {
        match self {
            WriteRing::Classic(side) => side.sleep(buffer, limit),
            WriteRing::Extended(side) => {
                side.sleep(&buffer.mapping, limit, || buffer.is_interrupted() || more())
            }
        }
    }
}
